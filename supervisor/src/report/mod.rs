//! The report (`report/v1`): what `report.json` says, and its renderings for people.
//!
//! Nothing here judges: the verdict is made elsewhere and stands here. Times are RFC 3339 UTC with microseconds,
//! durations milliseconds, sizes bytes, digests lower-case hex SHA-256, unless a field says otherwise.

pub mod escape;
pub mod html;
pub mod markdown;
pub mod terminal;
pub mod tty;
pub mod units;
pub mod withheld;
mod words;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::evidence::{Freshness, ResourceDescriptor};
use crate::governance::{DecisionKind, MutationMode, Stage};
use crate::schema::kinds;
use crate::verdict::{Blocker, Status};

/// The schema of the report.
pub const SCHEMA: &str = "report/v1";

/// `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// `report/v1`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema_version: String,
    /// Version of Proctor that wrote it.
    #[schemars(with = "kinds::Version")]
    pub proctor_version: String,
    /// The run.
    #[schemars(with = "kinds::RunId")]
    pub run_id: String,
    /// Start of the run.
    #[schemars(with = "kinds::Timestamp")]
    pub run_start: String,
    /// End of the run.
    #[schemars(with = "kinds::Timestamp")]
    pub run_end: String,
    /// Pass or fail.
    pub status: Status,
    /// What `proctor run` exits with.
    #[schemars(with = "kinds::ExitCode")]
    pub exit_code: u8,
    /// Every blocker that holds.
    pub blockers: Vec<Blocker>,
    /// The engine.
    pub engine: EngineInfo,
    /// The proof stage; null in an ungoverned run.
    #[schemars(with = "Option<Stage>")]
    pub stage: Option<String>,
    /// `none`, `discard`, `patch` or `apply`.
    #[schemars(with = "MutationMode")]
    pub mutation_mode: String,
    /// SHA-256 of the task's text; null where there was none.
    #[schemars(with = "Option<kinds::Sha256>")]
    pub task_sha256: Option<String>,
    /// The effective profile.
    pub profile: ProfileInfo,
    /// The decision.
    pub decision: DecisionInfo,
    /// Commit the run is about; null where the run never got so far.
    #[schemars(with = "Option<kinds::ObjectId>")]
    pub base_commit: Option<String>,
    /// Its tree.
    #[schemars(with = "Option<kinds::ObjectId>")]
    pub base_tree: Option<String>,
    /// Tree of base and patch; null where there is none.
    #[schemars(with = "Option<kinds::ObjectId>")]
    pub result_tree: Option<String>,
    /// The backend's exit code; null where it was killed by a signal or never ran.
    #[schemars(with = "Option<kinds::ProcessExit>")]
    pub backend_exit_code: Option<i32>,
    /// The signal that killed the backend.
    #[schemars(with = "Option<kinds::Signal>")]
    pub backend_signal: Option<i32>,
    /// What changed, by path.
    pub changed_files: Vec<FileChange>,
    /// Writes to ignored paths, which were dropped.
    pub ignored_changes: Vec<PathText>,
    /// What the backend did to its private `.git`: reported, carried nowhere.
    pub git_changes: GitChanges,
    /// Changed files that steer tests: the patch's own code could fake their result.
    pub test_inputs_changed: Vec<PathText>,
    /// The tests.
    pub tests: TestInfo,
    /// The review.
    pub review: ReviewInfo,
    /// Requests for approval and what became of them.
    pub approvals: Vec<ApprovalInfo>,
    /// The model's provider.
    pub provider: ProviderInfo,
    /// The backend's sandbox.
    pub sandbox: SandboxInfo,
    /// Every limit in force, by name.
    #[schemars(with = "kinds::MapOf<kinds::Word, LimitInfo>")]
    pub limits: BTreeMap<String, LimitInfo>,
    /// What was used, by sandbox (`backend`, `test`, `review`).
    #[schemars(with = "kinds::MapOf<kinds::SandboxRole, UsageInfo>")]
    pub usage: BTreeMap<String, UsageInfo>,
    /// How long each phase took.
    pub timings: Vec<Timing>,
    /// The machine.
    pub host: HostInfo,
    /// The event log.
    pub events: EventsInfo,
    /// The freshness proof.
    pub freshness: Freshness,
    /// True where a secret was found in an artifact: the evidence is not to be uploaded or shared.
    pub quarantined: bool,
    /// Where each artifact is, relative to the evidence directory, by name.
    #[schemars(with = "kinds::MapOf<kinds::ArtifactName, kinds::ArtifactName>")]
    pub artifact_paths: BTreeMap<String, String>,
    /// Every artifact but `report.json`, `report.json.sha256` and `report.intoto.jsonl`.
    pub digest_manifest: Vec<ResourceDescriptor>,
}

/// The engine of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineInfo {
    /// Its name in the registry.
    #[schemars(with = "kinds::Name")]
    pub name: String,
    /// Its version, where it was observed.
    pub version: Option<String>,
    /// The admitted source's id.
    #[schemars(with = "Option<kinds::Sha256>")]
    pub source_id: Option<String>,
    /// Program and arguments as they were started inside; what is not UTF-8 stands as U+FFFD.
    pub argv: Vec<String>,
}

/// The effective profile of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileInfo {
    /// Its name, or the file as given.
    pub name: String,
    /// SHA-256 over its canonical JSON.
    #[schemars(with = "kinds::Sha256")]
    pub digest: String,
}

/// The decision of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionInfo {
    /// `ungoverned`, `computed` or `recorded`.
    #[schemars(with = "DecisionKind")]
    pub kind: String,
    /// SHA-256 of `decision.json`; null where it could not be written.
    #[schemars(with = "Option<kinds::Sha256>")]
    pub digest: Option<String>,
}

/// A path, which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathText {
    /// The path; where it is not UTF-8 each wrong byte stands as U+FFFD.
    pub path: String,
    /// The exact bytes, base64, where the path is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<kinds::Base64>")]
    pub path_b64: Option<String>,
}

/// How a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// Other content (and perhaps another mode).
    Modified,
    /// It is gone.
    Deleted,
    /// Another path.
    Renamed,
    /// Only its executable bit.
    Mode,
    /// It became something else: file, symlink.
    Type,
}

impl ChangeKind {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
            Self::Mode => "mode",
            Self::Type => "type",
        }
    }
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileChange {
    /// The path in the result (of a deleted file: in the base).
    pub path: String,
    /// The exact bytes, base64, where `path` is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<kinds::Base64>")]
    pub path_b64: Option<String>,
    /// Of a renamed file: the path in the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// As `path_b64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<kinds::Base64>")]
    pub old_path_b64: Option<String>,
    /// How.
    pub kind: ChangeKind,
    /// Git's mode before, octal (`100644`); null where there was no file.
    #[schemars(with = "Option<kinds::FileMode>")]
    pub old_mode: Option<String>,
    /// Git's mode after.
    #[schemars(with = "Option<kinds::FileMode>")]
    pub new_mode: Option<String>,
    /// Bytes before.
    pub old_size: Option<u64>,
    /// Bytes after.
    pub new_size: Option<u64>,
    /// SHA-256 of the content before (of a symlink: its target).
    #[schemars(with = "Option<kinds::Sha256>")]
    pub old_sha256: Option<String>,
    /// SHA-256 of the content after.
    #[schemars(with = "Option<kinds::Sha256>")]
    pub new_sha256: Option<String>,
    /// Why it stands in no patch (a device, a path git cannot hold, ...): such a change is never allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_in_patch: Option<String>,
}

/// What a backend did to its private `.git`: commits, moved references, changed configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitChanges {
    /// Paths below `.git` that are new, changed or gone.
    pub count: u64,
    /// The first of them.
    pub paths: Vec<PathText>,
}

/// How the tests went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestInfo {
    /// How far they got.
    pub status: TestStatus,
    /// The command, as given.
    pub command: Option<String>,
    /// Its exit code.
    #[schemars(with = "Option<kinds::ProcessExit>")]
    pub exit_code: Option<i32>,
    /// The signal that killed it.
    #[schemars(with = "Option<kinds::Signal>")]
    pub signal: Option<i32>,
    /// Milliseconds.
    pub duration_ms: Option<u64>,
}

/// How far the tests got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestStatus {
    /// Exit code 0.
    Passed,
    /// Another exit code, or a signal.
    Failed,
    /// The time ran out.
    TimedOut,
    /// A command was given and not reached, or could not be run.
    NotRun,
    /// `--no-test`.
    Off,
    /// No command was given.
    Missing,
}

/// How the review went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewInfo {
    /// `accepted`, `rejected`, `timed_out`, `not_run` or `off`.
    pub status: ReviewStatus,
    /// The command, as given.
    pub command: Option<String>,
    /// Its exit code.
    #[schemars(with = "Option<kinds::ProcessExit>")]
    pub exit_code: Option<i32>,
    /// Milliseconds.
    pub duration_ms: Option<u64>,
    /// SHA-256 of the patch it was shown.
    #[schemars(with = "Option<kinds::Sha256>")]
    pub patch_sha256: Option<String>,
}

/// How far the review got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewStatus {
    /// Accepted in the way that was asked for.
    Accepted,
    /// Anything else that it did.
    Rejected,
    /// The time ran out.
    TimedOut,
    /// Asked for and not reached.
    NotRun,
    /// None was asked for.
    Off,
}

/// One request for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalInfo {
    /// Its id.
    pub id: String,
    /// `backend` or `supervisor`.
    #[schemars(with = "kinds::Asker")]
    pub asked_by: String,
    /// What about.
    pub subject: String,
    /// SHA-256 of exactly what it is about.
    #[schemars(with = "Option<kinds::Sha256>")]
    pub subject_sha256: Option<String>,
    /// `granted`, `denied`, `expired` or `unsettled`.
    #[schemars(with = "kinds::ApprovalOutcomeName")]
    pub outcome: String,
    /// Who answered: an identity, or `policy`.
    pub answered_by: Option<String>,
    /// When it was answered.
    #[schemars(with = "Option<kinds::Timestamp>")]
    pub answered_at: Option<String>,
}

/// The model's provider.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderInfo {
    /// Its name; null where none was granted.
    #[schemars(with = "Option<kinds::Name>")]
    pub name: Option<String>,
    /// Requests that the proxy saw; null where no proxy was there to see any.
    pub requests: Option<u64>,
    /// Whether requests were `observed` by the proxy, only `claimed`, or `none`.
    #[schemars(with = "kinds::Witness")]
    pub witness: String,
    /// Hosts that could be reached: ways out for data.
    pub allowed_hosts: Vec<String>,
}

/// The backend's sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxInfo {
    /// `full` or `landlock`; null where none was made.
    #[schemars(with = "Option<kinds::SandboxLevel>")]
    pub level: Option<String>,
    /// At level `landlock`, which the operator accepted: what level `full` failed with on this host.
    pub why_not_full: Option<String>,
    /// What was really enforced.
    pub mechanisms: Vec<Mechanism>,
    /// Guarantees that were not to be had.
    pub missing: Vec<String>,
    /// `none`, `proxy` or `host`.
    #[schemars(with = "kinds::NetworkName")]
    pub network: String,
    /// What was watched, by sandbox (`backend`, `test`, `review`) and kind (docs/contracts.md).
    #[schemars(with = "kinds::MapOf<kinds::SandboxRole, kinds::MapOf<kinds::ObservedKind, Observed>>")]
    pub observed: BTreeMap<String, BTreeMap<String, Observed>>,
    /// What was refused, to which program: one `policy.denied` each.
    pub denials: Vec<DenialInfo>,
}

/// How much is known of one kind of thing that happened inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// `complete`, `advisory` or `absent`.
    #[schemars(with = "kinds::CompletenessName")]
    pub completeness: String,
    /// How many were seen.
    pub count: u64,
    /// How many of them are counted alone and told of nowhere.
    pub left_out: u64,
    /// What it does not hold, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One kind of thing that was refused to one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenialInfo {
    /// In which sandbox: `backend`, `test` or `review`.
    #[schemars(with = "kinds::SandboxRole")]
    pub sandbox: String,
    /// `syscall`; `connect`: an attempt that the sandbox's empty network alone stopped; or what Landlock refused: `path`,
    /// `port`, `signal`, `trace`, `socket`, `other`.
    #[schemars(with = "kinds::DeniedKind")]
    pub what: String,
    /// The system call; empty for what Landlock refused.
    pub call: String,
    /// Where a connection was to go, as claimed at the call; of what Landlock refused the port, socket or process.
    pub address: Option<String>,
    /// Why it is refused.
    pub reason: String,
    /// The program, as the kernel had it; null where it was gone.
    pub program: Option<String>,
    /// The program's name for itself, as claimed.
    pub argv0: Option<String>,
    /// The first process that tried, by the host's number.
    pub pid: u32,
    /// How often.
    pub count: u64,
    /// What the call failed with; null where that was not seen.
    pub errno: Option<String>,
    /// The process was killed for it.
    pub killed: bool,
    /// The rights that Landlock did not grant, by the kernel's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<String>,
    /// The path that Landlock refused, as the sandbox sees it; of something to be made or removed, the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its bytes where they are no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<kinds::Base64>")]
    pub path_b64: Option<String>,
}

/// Whether a `what` of [`DenialInfo`] is of Landlock, as the kernel's audit tells it.
#[must_use]
pub fn is_landlock(what: &str) -> bool {
    ["path", "port", "signal", "trace", "socket", "other"].contains(&what)
}

/// One mechanism that was enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mechanism {
    /// `user_namespace`, `overlay`, `landlock`, `seccomp`, ...
    pub name: String,
    /// Its version, where it has one (Landlock's ABI).
    pub version: Option<String>,
    /// Particulars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitInfo {
    /// Its value; null where there is no limit.
    #[schemars(with = "Option<kinds::LimitValue>")]
    pub value: Option<Value>,
    /// `bytes`, `ms`, `tasks`, `files`, `cpus`, `inodes`, `descriptors`.
    #[schemars(with = "kinds::LimitUnit")]
    pub unit: String,
    /// What holds it: `cgroup_v2 memory` and the like, `rlimit NPROC`, `tmpfs size`, `supervisor`, `watcher`, `none`
    /// (docs/contracts.md).
    #[schemars(with = "kinds::LimitMechanism")]
    pub mechanism: String,
    /// Whether the operator set it.
    pub explicit: bool,
}

/// What one sandbox used; null is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageInfo {
    /// CPU time in user mode, microseconds.
    pub user_us: Option<u64>,
    /// CPU time in the kernel, microseconds.
    pub system_us: Option<u64>,
    /// Highest memory, bytes.
    pub max_memory: Option<u64>,
    /// Most tasks at once: as the pids cgroup counted, or, without one, as many as were seen by looks from outside.
    pub max_tasks: Option<u64>,
    /// Periods of 100 ms in which its limit of CPU was used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_throttled: Option<u64>,
    /// Bytes written to its private layer.
    pub disk: Option<u64>,
    /// Bytes on standard output and standard error.
    pub output: Option<u64>,
}

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Which.
    #[schemars(with = "kinds::Word")]
    pub phase: String,
    /// Microseconds from the start of the run.
    pub start_us: u64,
    /// Microseconds.
    pub duration_us: u64,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostInfo {
    /// `linux`.
    #[schemars(extend("const" = "linux"))]
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine (`x86_64`).
    pub arch: String,
    /// CPUs that could be used.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Host name, where it is recorded.
    pub name: Option<String>,
}

/// The event log's own summary: with it a log cut at its end is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsInfo {
    /// Lines.
    pub count: u64,
    /// SHA-256 of the last line without its LF.
    #[schemars(with = "kinds::Sha256OrNone")]
    pub last_hash: String,
    /// Events of the backend that were left out (`output_limit`).
    pub left_out: u64,
}

/// A report that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not a report of this schema.
    #[error(
        "report.json is no report of schema {SCHEMA}: {0}; it was made by another version of Proctor, or changed"
    )]
    Malformed(#[from] serde_json::Error),
    /// Another schema.
    #[error(
        "report.json has schema {0:?}, this version of Proctor reads {SCHEMA:?}: use the version that wrote it"
    )]
    Schema(String),
}

impl Report {
    /// The bytes of `report.json`: fields in their order, maps by name, two spaces, one LF at the end.
    ///
    /// # Errors
    /// A value that JSON cannot hold, which no field here has.
    pub fn to_json(&self) -> Result<Vec<u8>, ReportError> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a report strictly: unknown or missing fields and other schemas are errors.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReportError> {
        let report: Self = serde_json::from_slice(bytes)?;
        if report.schema_version == SCHEMA {
            Ok(report)
        } else {
            Err(ReportError::Schema(report.schema_version))
        }
    }
}

#[cfg(test)]
pub(crate) mod sample;

#[cfg(test)]
mod tests;
