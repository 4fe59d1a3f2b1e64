//! Starts an untrusted program in a Linux sandbox and says what it enforced.

pub mod seed;
