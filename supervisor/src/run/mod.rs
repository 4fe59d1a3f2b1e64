//! One run, from its options to its report: the one path by which any engine starts.
//!
//! `plan` checks everything before anything starts; `lifecycle` is the order of steps, whose parts are `outcome` (the
//! backend), `result` (changes, test, review, approval) and `conclude` (verdict and report); `backend` and `checks` start
//! sandboxes and wait for them; `settle` fills the report's fields. The verdict itself is made in [`crate::verdict`].

pub mod access;
pub mod approve;
pub mod area;
mod backend;
mod checks;
mod conclude;
pub mod confined;
mod disk_watch;
pub mod guard;
mod hidden;
pub mod identity;
pub(crate) mod interrupt;
pub mod level;
mod lifecycle;
mod limits;
pub mod log;
mod looks;
mod outcome;
pub mod plan;
pub mod private_dirs;
pub mod progress;
pub mod propose;
mod reading;
mod result;
pub mod sandbox;
mod settle;
pub mod shell;
mod sight;
mod signing;
pub mod state_dirs;
mod supervise;
mod timeline;
pub mod view;
mod watch;

pub use crate::evidence::REVIEW_LOG;
pub use lifecycle::{Finished, RunError, run};
pub use limits::limit_mechanisms;
pub use watch::tell::Learned;
