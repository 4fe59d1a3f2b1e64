//! What was observed of a run, as far as the verdict asks. Every fact starts as "not reached": a step that nobody
//! reports is a step without evidence, and no pass.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Blocker;
use crate::event::{EventIndex, EventType, Source};
use crate::exit::StopSignal;
use crate::mutation::MutationMode;

/// The real tree before the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartTree {
    /// Not looked at.
    NotChecked,
    /// Clean.
    Clean,
    /// Not clean.
    Dirty {
        /// The paths, as text.
        paths: Vec<String>,
    },
    /// It could not be told.
    Unknown {
        /// Why.
        why: String,
    },
}

/// The backend's sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxFact {
    /// Not reached.
    NotReached,
    /// It stands at the level asked for, everything that was asked for enforced.
    Ready,
    /// It does not.
    Unavailable {
        /// What failed, where.
        why: String,
        /// Guarantees that were not to be had.
        missing: Vec<String>,
        /// What to do about it, where that is known better than the code says it.
        mend: Option<String>,
    },
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Never got so far.
    NotStarted,
    /// It could not be started.
    StartFailed {
        /// What failed, where.
        why: String,
    },
    /// It exited by itself.
    Exited(i32),
    /// A signal that Proctor did not send killed it.
    Signalled(i32),
    /// Proctor stopped it: for a timeout, a limit or an interruption, which is among the facts too.
    Stopped,
}

/// The process tree after the end of its main process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeEnd {
    /// Not known.
    NotReached,
    /// Proved empty.
    Dead,
    /// Not proved empty.
    NotProved {
        /// Why.
        why: String,
    },
}

/// What the engine's own terminal event said, through its adapter (a claim).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEnd {
    /// Whether the engine says that it succeeded.
    pub ok: bool,
    /// Its own words.
    pub message: String,
}

/// One change that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisallowedChange {
    /// The path, as text.
    pub path: String,
    /// The glob or built-in rule that forbids it.
    pub rule: String,
}

/// What the upper layer held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangesFact {
    /// Not read.
    NotReached,
    /// It could not be read, compared or written as a patch.
    Failed {
        /// What failed, where.
        why: String,
    },
    /// Read whole.
    Read {
        /// How many files changed.
        changed: u64,
        /// Those that may not.
        disallowed: Vec<DisallowedChange>,
        /// Some change needs the operator's approval: without a grant it is a denial.
        needs_approval: bool,
    },
}

/// The test command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestFact {
    /// Neither `--test` nor `--no-test` was given.
    Missing,
    /// `--no-test`.
    Off,
    /// A command was given; this is how it ended.
    Command(Ending),
}

/// The reviewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReviewFact {
    /// None was asked for.
    NotAsked,
    /// Asked for, not reached.
    NotReached,
    /// It accepted, in the way that was asked for.
    Accepted,
    /// It did not, or could not be run.
    Rejected {
        /// How it ended or what was missing.
        why: String,
    },
    /// Proctor stopped it; the reason is among the facts.
    Stopped,
}

/// What became of one request for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalOutcome {
    /// Granted by the operator or somebody it named, bound to run and subject.
    Granted,
    /// Denied.
    Denied {
        /// By whom: an identity, or `policy`.
        by: String,
    },
    /// No answer in time.
    Expired,
    /// Asked and never settled.
    Unsettled,
}

/// One request for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalFact {
    /// Its id.
    pub id: String,
    /// What it was about: `changes`, or what the backend asked for.
    pub subject: String,
    /// Whether it is the approval of changes that step 8 asks for.
    pub of_changes: bool,
    /// What became of it.
    pub outcome: ApprovalOutcome,
}

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// From the first event.
    Start,
    /// Once the sandbox stands.
    Sandbox,
    /// Once the backend was started.
    Backend,
    /// Once the backend ended well by its own account and exit code.
    BackendEnd,
    /// Once the changes were read.
    Changes,
    /// Once the tests ended.
    Test,
    /// Once the reviewer ended.
    Review,
    /// While approvals are settled.
    Approval,
}

impl Phase {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Sandbox => "sandbox",
            Self::Backend => "backend",
            Self::BackendEnd => "backend_end",
            Self::Changes => "changes",
            Self::Test => "test",
            Self::Review => "review",
            Self::Approval => "approval",
        }
    }
}

/// A time that ran out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeoutFact {
    /// `Backend`, `Test`, `Review` or `Approval`.
    pub phase: Phase,
    /// True for the idle timeout, false for the wall one.
    pub idle: bool,
    /// The time allowed, milliseconds.
    pub limit_ms: u64,
    /// Periods in which the kernel held it back for its limit of CPU; `None` where none is enforced.
    pub cpu_throttled: Option<u64>,
}

/// A limit that was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitFact {
    /// What: `memory`, `pids`, `disk`, `backend.stdout.log`, `patch`, `files`, `events`, ...
    pub what: String,
    /// The option that raises it, where there is one.
    pub option: Option<String>,
    /// The limit, in its own unit.
    pub limit: u64,
    /// What was seen, where known.
    pub seen: Option<u64>,
    /// Which sandbox hit it (`Backend`, `Test` or `Review`), or `Changes`: what it left was too much.
    pub phase: Phase,
    /// What held it: `cgroup_v1 memory`, `rlimit NPROC`, `tmpfs size`, `log cap`, ... (docs/contracts.md).
    pub mechanism: &'static str,
    /// Who says that it was hit, and what it said: a counter of the kernel's, a look at the sandbox.
    pub witness: Option<String>,
}

/// A provider that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderFailure {
    /// `unreachable`, `auth`, `rate_limited` or `other`.
    pub kind: String,
    /// Which provider, where known.
    pub provider: Option<String>,
    /// Whether the proxy saw it (else the backend says so).
    pub observed: bool,
}

/// What a program tried and was refused, as it was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// What it tried.
    pub what: String,
    /// What would grant it; `None` where nothing does.
    pub grant: Option<String>,
}

/// A claim that does not fit what was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContradictionFact {
    /// What the engine claims.
    pub claim: String,
    /// What was observed.
    pub observed: String,
}

/// The engine's source at the end, held against its admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceFact {
    /// The engine needs no admission.
    NotNeeded,
    /// The same bytes.
    Same,
    /// Other bytes, or it could not be told.
    Changed {
        /// What differs.
        why: String,
    },
}

/// The real tree after the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndTree {
    /// Not looked at.
    NotReached,
    /// As it was (or, after an apply, exactly as it should be).
    AsExpected,
    /// Not so.
    Dirty {
        /// What differs, as text.
        what: Vec<String>,
    },
    /// It could not be told.
    Unknown {
        /// Why.
        why: String,
    },
}

/// One secret found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFinding {
    /// In which artifact.
    pub artifact: String,
    /// The secret's name; never its value.
    pub secret: String,
}

/// The search for passed secrets in the artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFact {
    /// Not searched.
    NotDone,
    /// Searched (or nothing to search for), none found.
    Clean,
    /// Found.
    Found(Vec<SecretFinding>),
    /// The search failed.
    Failed {
        /// Why.
        why: String,
    },
}

/// An artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactFact {
    /// Still being written.
    Open,
    /// Written and digested.
    Written,
    /// Not written.
    Failed {
        /// Which step failed, with its error.
        why: String,
    },
}

/// An event that must have been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredEvent {
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// From whom; a backend's claim satisfies no other source's.
    pub source: Source,
    /// Required once this phase was reached.
    pub phase: Phase,
}

/// Everything that the verdict is made of. [`Facts::new`] knows nothing yet.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The run's mutation mode.
    pub mutation: MutationMode,
    /// Blockers that a step raised itself: refusals by governance, and what no field here says.
    pub raised: Vec<Blocker>,
    /// The real tree before the start.
    pub start_tree: StartTree,
    /// The backend's sandbox.
    pub sandbox: SandboxFact,
    /// The backend's main process.
    pub backend: Ending,
    /// The backend's process tree.
    pub backend_tree: TreeEnd,
    /// The engine's own terminal event, for engines that have one.
    pub engine_end: Option<EngineEnd>,
    /// The changes.
    pub changes: ChangesFact,
    /// The tests.
    pub test: TestFact,
    /// The review.
    pub review: ReviewFact,
    /// Requests for approval.
    pub approvals: Vec<ApprovalFact>,
    /// Times that ran out.
    pub timeouts: Vec<TimeoutFact>,
    /// Resource limits that were hit.
    pub resource_limits: Vec<LimitFact>,
    /// Output limits that were hit.
    pub output_limits: Vec<LimitFact>,
    /// Providers that could not be used.
    pub provider: Vec<ProviderFailure>,
    /// What was tried and refused, by phase (`Backend`, `Test`, `Review`).
    pub wants: Vec<(Phase, Want)>,
    /// Contradictions.
    pub contradictions: Vec<ContradictionFact>,
    /// The engine's source.
    pub source: SourceFact,
    /// The real tree after the run.
    pub end_tree: EndTree,
    /// Secrets in the artifacts.
    pub secrets: SecretFact,
    /// Names of the artifacts that must be written.
    pub required_artifacts: Vec<String>,
    /// What became of them.
    pub artifacts: BTreeMap<String, ArtifactFact>,
    /// Events that the engine's profile and the stage require, beyond those every run must have.
    pub required_events: Vec<RequiredEvent>,
    /// What was seen; `None` where the log could not be kept.
    pub events: Option<EventIndex>,
    /// The signal that ended the run from outside.
    pub interrupted: Option<StopSignal>,
    /// What is wrong with the evidence, where it was read again.
    pub invalid: Vec<String>,
}

impl Facts {
    /// Nothing reached, nothing seen.
    #[must_use]
    pub fn new(mutation: MutationMode, test: TestFact, review: ReviewFact) -> Self {
        Self {
            mutation,
            raised: Vec::new(),
            start_tree: StartTree::NotChecked,
            sandbox: SandboxFact::NotReached,
            backend: Ending::NotStarted,
            backend_tree: TreeEnd::NotReached,
            engine_end: None,
            changes: ChangesFact::NotReached,
            test,
            review,
            approvals: Vec::new(),
            timeouts: Vec::new(),
            resource_limits: Vec::new(),
            output_limits: Vec::new(),
            provider: Vec::new(),
            wants: Vec::new(),
            contradictions: Vec::new(),
            source: SourceFact::NotNeeded,
            end_tree: EndTree::NotReached,
            secrets: SecretFact::NotDone,
            required_artifacts: Vec::new(),
            artifacts: BTreeMap::new(),
            required_events: Vec::new(),
            events: None,
            interrupted: None,
            invalid: Vec::new(),
        }
    }

    /// Whether the run got so far that the phase's events are required. A backend that failed, was stopped or says
    /// itself that it failed did not reach its good end: that is a blocker of its own.
    #[must_use]
    pub fn reached(&self, phase: Phase) -> bool {
        match phase {
            Phase::Start => true,
            Phase::Sandbox => self.sandbox == SandboxFact::Ready,
            Phase::Backend => !matches!(self.backend, Ending::NotStarted | Ending::StartFailed { .. }),
            Phase::BackendEnd => {
                self.backend == Ending::Exited(0) && self.engine_end.as_ref().is_none_or(|end| end.ok)
            }
            Phase::Changes => matches!(self.changes, ChangesFact::Read { .. }),
            Phase::Test => {
                matches!(self.test, TestFact::Command(Ending::Exited(_) | Ending::Signalled(_)))
            }
            Phase::Review => matches!(self.review, ReviewFact::Accepted | ReviewFact::Rejected { .. }),
            Phase::Approval => !self.approvals.is_empty(),
        }
    }
}
