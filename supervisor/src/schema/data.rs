//! What `data` of an event holds, for every type and source of which the program fixes it: a contract for readers. The
//! events themselves are made where they happen, and `evidence::payload` makes those that are verified; the suite holds
//! every event of its runs against the schemas made from here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kinds;
use crate::event::Source;
use crate::governance::{DecisionKind, MutationMode, Stage};
use crate::verdict::{BlockerCode, Status};

macro_rules! data {
    ($($(#[$doc:meta])+ $name:ident { $($(#[$field_doc:meta])+ $field:ident: $kind:ty,)+ })+) => {$(
        $(#[$doc])+
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])+ pub $field: $kind,)+ }
    )+};
}

data! {
    /// `run.started`.
    RunStarted {
        /// The nonce of the run's freshness.
        #[schemars(with = "kinds::Nonce")]
        nonce: String,
        /// The engine.
        #[schemars(with = "kinds::Name")]
        engine: String,
        /// The stage; null in an ungoverned run.
        stage: Option<Stage>,
        /// What may become of the changes.
        mutation_mode: MutationMode,
        /// The commit that the run is about.
        #[schemars(with = "kinds::ObjectId")]
        base_commit: String,
        /// Its tree.
        #[schemars(with = "kinds::ObjectId")]
        base_tree: String,
        /// The effective profile.
        profile: ProfileId,
        /// SHA-256 of the task's text, where there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<kinds::Sha256>")]
        task_sha256: Option<String>,
    }
    /// A profile by name and digest.
    ProfileId {
        /// Its name, or the file as given.
        name: String,
        /// SHA-256 over its canonical JSON.
        #[schemars(with = "kinds::Sha256")]
        digest: String,
    }
    /// `decision.recorded`.
    DecisionRecorded {
        /// Where it comes from.
        kind: DecisionKind,
    }
    /// `sandbox.ready`, where the program was executed.
    SandboxReady {
        /// The level.
        #[schemars(with = "kinds::SandboxLevel")]
        level: String,
        /// What level `full` failed with, where a lower one was accepted.
        why_not_full: Option<String>,
        /// Names of what is enforced.
        mechanisms: Vec<String>,
        /// Guarantees that were not to be had.
        missing: Vec<String>,
        /// The network.
        #[schemars(with = "kinds::NetworkName")]
        network: String,
        /// Landlock's ABI.
        landlock_abi: u32,
    }
    /// `sandbox.ready`, where the program could not be executed in it.
    SandboxUnused {
        /// The level.
        #[schemars(with = "kinds::SandboxLevel")]
        level: String,
        /// Always so.
        #[schemars(extend("const" = "not executed"))]
        program: String,
    }
    /// `backend.started`.
    BackendStarted {
        /// The engine.
        #[schemars(with = "kinds::Name")]
        engine: String,
        /// Program and arguments.
        #[schemars(length(min = 1))]
        argv: Vec<String>,
    }
    /// `backend.exited`.
    BackendExited {
        /// Null where a signal ended it.
        #[schemars(with = "Option<kinds::ProcessExit>")]
        exit_code: Option<i32>,
        /// Null where it exited.
        #[schemars(with = "Option<kinds::Signal>")]
        signal: Option<i32>,
        /// Milliseconds.
        duration_ms: u64,
    }
    /// `artifact.written`.
    ArtifactWritten {
        /// Which.
        #[schemars(with = "kinds::ArtifactName")]
        name: String,
        /// Its digest.
        #[schemars(with = "kinds::Sha256")]
        sha256: String,
        /// Bytes.
        size: u64,
    }
    /// `run.finished`.
    RunFinished {
        /// The verdict as it stood then.
        status: Status,
        /// Codes of its blockers.
        blockers: Vec<BlockerCode>,
        /// What `proctor run` was to exit with.
        #[schemars(with = "kinds::ExitCode")]
        exit: u8,
        /// How many defects of Proctor itself were met.
        defects: u64,
        /// Events of the backend that were left out.
        left_out: u64,
        /// Every field of the report that no longer changes: as it is, or its JSON's `json_bytes` and `json_sha256`.
        #[schemars(with = "kinds::MapOf<kinds::Word, Value>")]
        report: BTreeMap<String, Value>,
    }
    /// `approval.requested` of the supervisor.
    ApprovalRequested {
        /// The request's id.
        id: String,
        /// What about.
        subject: String,
        /// SHA-256 of exactly what it is about.
        #[schemars(with = "kinds::Sha256")]
        subject_sha256: String,
    }
    /// `approval.granted` and `approval.denied`.
    ApprovalAnswered {
        /// The request's id.
        id: String,
        /// What about.
        subject: String,
        /// SHA-256 of exactly what it is about.
        #[schemars(with = "kinds::Sha256")]
        subject_sha256: String,
        /// An identity, or `policy`.
        decided_by: String,
        /// Why, where somebody said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }
    /// `policy.denied` of a change that is not allowed.
    ChangeDenied {
        /// `change`.
        #[schemars(extend("const" = "change"))]
        what: String,
        /// The path.
        path: String,
        /// The rule.
        rule: String,
        /// In words.
        message: String,
    }
    /// `limit.exceeded`.
    LimitExceeded {
        /// What: a resource, a log, an artifact.
        what: String,
        /// The limit.
        limit: u64,
        /// How much was seen, where that is known.
        seen: Option<u64>,
        /// In which phase.
        #[schemars(with = "kinds::PhaseName")]
        phase: String,
        /// What held it.
        #[schemars(with = "kinds::LimitMechanism")]
        mechanism: String,
        /// By what it is known; null where the mechanism is its own witness.
        witness: Option<String>,
    }
    /// `timeout.expired`.
    TimeoutExpired {
        /// In which phase.
        #[schemars(with = "kinds::PhaseName")]
        phase: String,
        /// Which time.
        #[schemars(with = "kinds::TimeoutKind")]
        kind: String,
        /// Milliseconds.
        limit_ms: u64,
        /// Periods in which its limit of CPU was used up, where there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cpu_throttled: Option<u64>,
    }
    /// `test.started` of the supervisor's own run.
    TestStarted {
        /// The command.
        command: String,
    }
    /// `test.completed` of the supervisor's own run.
    TestCompleted {
        /// `completed` on exit 0, else `failed`.
        #[schemars(with = "kinds::CheckStatus")]
        status: String,
        /// Null where a signal ended it or it did not run.
        #[schemars(with = "Option<kinds::ProcessExit>")]
        exit_code: Option<i32>,
        /// Null where it exited.
        #[schemars(with = "Option<kinds::Signal>")]
        signal: Option<i32>,
        /// Milliseconds; null where it did not run.
        duration_ms: Option<u64>,
    }
    /// `review.started` of the supervisor's own run.
    ReviewStarted {
        /// The command.
        command: String,
        /// The patch that it is shown.
        #[schemars(with = "kinds::Sha256OrNone")]
        patch_sha256: String,
    }
    /// `review.completed` of the supervisor's own run.
    ReviewCompleted {
        /// Whether the reviewer accepted.
        accepted: bool,
        /// `completed`.
        #[schemars(with = "kinds::CheckStatus")]
        status: String,
        /// Null where a signal ended it or it did not run.
        #[schemars(with = "Option<kinds::ProcessExit>")]
        exit_code: Option<i32>,
        /// Null where it exited.
        #[schemars(with = "Option<kinds::Signal>")]
        signal: Option<i32>,
        /// Milliseconds; null where it did not run.
        duration_ms: Option<u64>,
    }
    /// The end that the supervisor writes for a `*.started` that nobody ended.
    Interrupted {
        /// `interrupted`.
        #[schemars(extend("const" = "interrupted"))]
        status: String,
        /// Whose start it was.
        of: Source,
        /// Its `seq`.
        started_seq: u64,
    }
    /// `backend.output`: lines that are no events.
    BackendOutput {
        /// The lines; what is no UTF-8 stands as U+FFFD.
        text: String,
        /// How many.
        lines: u64,
    }
}
