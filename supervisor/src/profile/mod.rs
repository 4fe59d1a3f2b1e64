//! What a run may do, as the operator said it: the command line, the operator's configuration and profiles.
//!
//! `raw` is what a file may contain (unknown keys are errors); `resolve` turns it, layer by layer, into the
//! typed and checked [`RunOptions`] of this file. Nothing here starts, mounts or writes anything, and nothing
//! that a backend can write is ever read here.

pub mod engine;
pub mod error;
mod fields;
pub mod globs;
pub mod host;
pub mod keys;
pub mod layers;
pub mod mounts;
pub mod policy;
pub mod protect;
pub mod raw;
pub mod resolve;
mod resolver;
pub mod sandbox;
pub mod source;
pub mod values;
pub mod view;

#[cfg(test)]
mod docs_tests;
#[cfg(test)]
mod fixture_tests;
#[cfg(test)]
mod resolve_tests;

pub use engine::{EngineProfile, EventSource, Phase, RequiredEvent};
pub use error::{Place, ProfileError};
pub use host::{HostEnv, HostFacts};
pub use mounts::{CREDENTIAL_FILES, CREDENTIAL_PATHS};
pub use resolve::{Context, Request, Resolved, resolve};

pub use crate::mutation::MutationMode;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that one run was told, resolved and checked: the input of `run`.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Engine name: `command` or `fake` (the engine registry, `profiles/engines/`).
    pub engine: String,
    /// Arguments after `--`: for `command` the program and its arguments; for `fake` the scenario file.
    pub command: Vec<OsString>,
    /// The proof stage; `None` is an ungoverned run.
    pub stage: Option<String>,
    /// Name and SHA-256 of the composed effective profile (hex, over its canonical JSON).
    pub profile: ProfileId,
    /// The directory given with `--repo`, as given.
    pub repo: PathBuf,
    /// The task's text, already read from its file where it came from one.
    pub task: Option<String>,
    /// What may become of the backend's changes.
    pub mutation: MutationMode,
    /// Globs for changes.
    pub changes: ChangePolicy,
    /// Globs (git style) of paths that no sandbox of the run shows.
    pub hide: Vec<String>,
    /// How the result is tested.
    pub test: TestChoice,
    /// How the result is reviewed, where a reviewer was named.
    pub review: Option<ReviewChoice>,
    /// Wall, idle, grace, test, review and approval times.
    pub timeouts: Timeouts,
    /// Resource and output limits.
    pub limits: Limits,
    /// Network of the backend's sandbox.
    pub net: Network,
    /// Views (names from `profiles/sandbox/`) that were composed, in order.
    pub views: Vec<String>,
    /// Mounts of the backend's sandbox beyond the work tree, from views and options, in order.
    pub mounts: Vec<MountRule>,
    /// Mounts of the test and review sandboxes: the views' and `--test-*`/`--review-*` ones, never the backend's own.
    pub test_sandbox: CheckSandbox,
    /// As `test_sandbox`, for the reviewer.
    pub review_sandbox: CheckSandbox,
    /// The backend's environment beyond the built-in base, values already taken from outside for `--pass-env`.
    pub env: BTreeMap<String, String>,
    /// Names among `env` that came by `--pass-env`: their values are secrets that must not be in the evidence.
    pub passed: Vec<String>,
    /// How requests for approval are answered.
    pub approvals: Approvals,
    /// The lowest sandbox level that is accepted.
    pub min_level: Level,
    /// Where the private layers of overlays lie.
    pub layer: LayerPlace,
    /// Whether `report.html` is written.
    pub html: bool,
    /// The evidence directory, where one was named.
    pub evidence: Option<PathBuf>,
    /// The caller's nonce (lower-case hex), where one was given.
    pub nonce: Option<String>,
    /// The private key that signs the evidence, where one was named.
    pub sign: Option<PathBuf>,
    /// Where each effective value came from, for `explain`: key, value, layer.
    pub origins: Vec<Origin>,
}

/// Name and digest of the effective profile.
#[derive(Debug, Clone, Serialize)]
pub struct ProfileId {
    /// `default`, a profile's name or a file's path as given.
    pub name: String,
    /// SHA-256 of the effective profile's canonical JSON, hex.
    pub digest: String,
}

/// Which changes are allowed; all globs are git style, matched against paths relative to the work tree.
#[derive(Debug, Clone, Default)]
pub struct ChangePolicy {
    /// A change must match one of these.
    pub allow: Vec<String>,
    /// A change must match none of these; wins over `allow`.
    pub deny: Vec<String>,
    /// A change that matches one of these needs the operator's approval.
    pub ask: Vec<String>,
    /// Protected paths (built-in list less the lifted ones, and `--protect`), matched case-folded; win over all.
    pub protect: Vec<String>,
}

/// How the result is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestChoice {
    /// Run by `sh -c` in the result tree.
    Command(String),
    /// `--no-test`: the operator said that nothing is tested.
    Off,
    /// Neither was said: the blocker `test_command_missing`.
    Missing,
}

/// How the result is reviewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewChoice {
    /// Run by `sh -c` in the result tree, the patch on its standard input.
    pub command: String,
    /// `--review-by exit`: exit code 0 alone accepts; otherwise the line `accept SHA256` on descriptor 3 is needed too.
    pub by_exit: bool,
}

/// Times; all are wall-clock durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Backend, from start to end.
    pub wall: Duration,
    /// Backend, without a byte of output.
    pub idle: Duration,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Test command.
    pub test: Duration,
    /// Reviewer.
    pub review: Duration,
    /// One request for approval.
    pub approval: Duration,
}

/// Limits. A value that the operator set must be enforced or the run is refused; a default may be reported missing.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of memory of one sandbox's process tree.
    pub memory: Limit<u64>,
    /// Tasks (processes and threads).
    pub pids: Limit<u64>,
    /// CPUs, as a fraction allowed: `1.5`. `None` is no limit.
    pub cpus: Option<f64>,
    /// Bytes that a sandbox may write to its private file systems.
    pub disk: Limit<u64>,
    /// Bytes of each raw log.
    pub max_log: u64,
    /// Files that may be changed (listed, ignored ones included).
    pub max_files: u64,
    /// Bytes of `patch.diff`.
    pub max_patch: u64,
}

/// A limit's value, and whether the operator set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit<T> {
    /// The value.
    pub value: T,
    /// True where the operator set it; false for a default.
    pub explicit: bool,
}

/// Network of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// An empty network namespace with its own loopback.
    None,
    /// The host's network: recorded as a weakness.
    Host,
}

/// One mount beyond the work tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MountRule {
    /// Absolute path on the host, and inside.
    pub path: PathBuf,
    /// How it is mounted.
    pub mode: MountMode,
    /// True where the path may be absent on this host (views name more than every host has).
    pub optional: bool,
}

/// How a mount is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MountMode {
    /// Read-only.
    Ro,
    /// Written through to the host.
    Rw,
    /// Written privately and thrown away.
    Overlay,
    /// An empty directory that is written privately and thrown away, whatever the host has there.
    Private,
}

/// What the test's or the reviewer's sandbox has of its own.
#[derive(Debug, Clone)]
pub struct CheckSandbox {
    /// Network.
    pub net: Network,
    /// Mounts: views and its own.
    pub mounts: Vec<MountRule>,
    /// Environment beyond the built-in base.
    pub env: BTreeMap<String, String>,
    /// Names among `env` whose values were passed from outside.
    pub passed: Vec<String>,
}

/// How requests for approval are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approvals {
    /// Asked on the controlling terminal.
    Ask,
    /// Every request is denied.
    Deny,
    /// An answer log outside the tree, read as it grows.
    File(PathBuf),
}

/// Sandbox levels, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Landlock and seccomp alone.
    Landlock,
    /// Namespaces, overlay, Landlock and seccomp.
    Full,
}

/// Where the private layers of overlays (the work tree's, and those of `--overlay`) lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LayerPlace {
    /// In memory where the kernel can do that, else on disk.
    Auto,
    /// In memory: a tmpfs, whose size is limited.
    Memory,
    /// On disk, below Proctor's state directory: the size is watched.
    Disk,
}

/// Where one effective value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Key as in a profile, for example `limits.memory`.
    pub key: String,
    /// Value as text.
    pub value: String,
    /// `default`, `view rust`, `engine fake`, `profile FILE`, `config FILE`, `command line`.
    pub layer: String,
}
