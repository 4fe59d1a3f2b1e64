//! Proctor: policy and lifecycle of supervised runs. The mechanism is the crate `proctor_sandbox`.
#![forbid(unsafe_code)]

pub mod capture;
pub mod changes;
pub mod cli;
pub mod engine;
pub mod event;
pub mod evidence;
pub mod exit;
pub mod gc;
pub mod governance;
pub mod matrix;
pub mod mend;
pub mod mutation;
mod panics;
pub mod profile;
pub mod report;
pub mod run;
pub mod schema;
pub mod verdict;

#[cfg(test)]
mod contracts_tests;
