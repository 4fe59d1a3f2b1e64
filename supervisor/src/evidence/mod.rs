//! The evidence directory of a run: making it, naming what is in it, and checking one again.
//!
//! What a verdict or a report says is decided elsewhere; the event log's own rules live in `event`.

mod artifact;
mod descriptor;
mod dir;
mod dir_error;
mod freshness;
pub(crate) mod open;
pub mod payload;
mod secret_forms;
pub mod secrets;
pub mod sign;
pub mod testlog;
pub mod told;
pub mod trace;
pub mod verify;

pub use artifact::{Artifact, ArtifactError, Step};
pub use descriptor::{Annotations, Digest, ResourceDescriptor, is_plain_name};
pub use dir::{EvidenceDir, MAX_REPORT, Published};
pub use dir_error::EvidenceDirError;
pub use freshness::{Freshness, FreshnessStart, NonceSource, boot_id, is_run_id, new_run_id};

/// `report.json`.
pub const REPORT: &str = "report.json";
/// The digest of `report.json`, in `sha256sum -c` format.
pub const REPORT_DIGEST: &str = "report.json.sha256";
/// The signed statement, where there is one.
pub const STATEMENT: &str = "report.intoto.jsonl";
/// `report.md`.
pub const MARKDOWN: &str = "report.md";
/// `report.html`, where it was asked for.
pub const HTML: &str = "report.html";
/// The normalized events.
pub const EVENTS: &str = "events.normalized.jsonl";
/// Base to result.
pub const PATCH: &str = "patch.diff";
/// The test command and its output.
pub const TEST_LOG: &str = "test.log";
/// OpenTelemetry spans.
pub const TRACE: &str = "trace.jsonl";
/// The backend's standard output.
pub const STDOUT: &str = "backend.stdout.log";
/// The backend's standard error.
pub const STDERR: &str = "backend.stderr.log";
/// The decision, or that the run is ungoverned.
pub const DECISION: &str = "decision.json";
/// The effective profile in its canonical form; its SHA-256 is the profile's digest.
pub const PROFILE: &str = "profile.json";

/// The reviewer's own output, where there was a reviewer.
pub const REVIEW_LOG: &str = "review.log";

/// What the digest manifest must name in every report: all required artifacts but the report and its digest.
pub const REQUIRED: [&str; 9] = [EVENTS, PATCH, TEST_LOG, TRACE, STDOUT, STDERR, DECISION, PROFILE, MARKDOWN];
/// What the manifest cannot name: the report itself, and what is made from it.
pub const UNNAMED: [&str; 3] = [REPORT, REPORT_DIGEST, STATEMENT];
