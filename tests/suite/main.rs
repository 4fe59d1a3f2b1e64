//! The integration suite: the real binary on real repositories, as root and as an ordinary user. One module for each
//! kind of behaviour.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing where something must be has failed")]

mod agents;
mod bad_input;
mod basics;
mod blockers;
mod changes;
mod defects;
mod denials;
mod disallowed;
mod disk_layer;
mod every_change;
mod exit_codes;
mod fake;
mod gc;
mod hogs;
mod hostile_changes;
mod hostile_git;
mod hostile_output;
mod judges;
mod killed;
mod learn;
mod limits;
mod matrix;
mod matrix_command;
mod otlp;
mod page;
mod proofs;
mod refused;
mod schemas;
mod shell;
mod sign;
mod signals;
mod space;
mod support;
mod survivors;
mod taken_away;
mod toolchains;
mod trace;
mod untouched;
mod verify;
mod verify_each;
mod verify_hostile;
mod verify_reader;
mod why;
mod write_failures;

use std::path::Path;

use harness::{Binary, Proctor, World};

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    Binary::of(env!("CARGO_BIN_EXE_proctor-under-test"))
}

/// One call of it.
pub(crate) fn proctor(world: &World) -> Proctor {
    Proctor::new(binary(), world)
}
