//! The command line: what users type, and nothing of what is done about it.

pub mod run_args;
