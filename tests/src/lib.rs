//! What the integration suite is built of: the binary where every user can execute it, users to run it as,
//! repositories in temporary directories, and runs with their evidence.
//!
//! Nothing here asserts anything about Proctor; the suite does.

mod agents;
mod attestations;
mod browser;
mod repo;
mod run;
mod snapshot;
mod toolchains;
mod user;

pub use agents::Agents;
pub use attestations::{in_toto, opentelemetry};
pub use browser::Browser;
pub use repo::TestRepo;
pub use run::{Outcome, Proctor};
pub use snapshot::TreeSnapshot;
pub use toolchains::{Home, Toolchains};
pub use user::{Binary, User, World, users};
