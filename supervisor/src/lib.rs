//! Proctor: policy and lifecycle of supervised runs. The mechanism is the crate `proctor_sandbox`.
#![forbid(unsafe_code)]

pub mod capture;
pub mod cli;
pub mod profile;
