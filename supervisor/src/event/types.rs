//! Event types, sources and trust, and the table of which source may emit which type (docs/contracts.md).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who says that something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Proctor itself.
    Supervisor,
    /// The untrusted backend, through its engine's adapter.
    Backend,
    /// The supervisor's own run of the test command.
    Test,
    /// The supervisor's own run of the reviewer.
    Reviewer,
    /// The operator, or somebody it named.
    Operator,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 5] = [Self::Supervisor, Self::Backend, Self::Test, Self::Reviewer, Self::Operator];

    /// The name in a line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Backend => "backend",
            Self::Test => "test",
            Self::Reviewer => "reviewer",
            Self::Operator => "operator",
        }
    }

    /// What a backend says is claimed; what every other source says was observed by the supervisor.
    #[must_use]
    pub const fn trust(self) -> Trust {
        match self {
            Self::Backend => Trust::Claimed,
            Self::Supervisor | Self::Test | Self::Reviewer | Self::Operator => Trust::Observed,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the supervisor saw it or was only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// The supervisor saw it.
    Observed,
    /// The backend said it.
    Claimed,
}

/// What a `*.started` and its end enclose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpanKind {
    /// The run.
    Run,
    /// The backend's process tree.
    Backend,
    /// One turn of the model.
    Turn,
    /// One of the engine's own phases.
    Phase,
    /// One tool call.
    Tool,
    /// One command.
    Command,
    /// The tests.
    Test,
    /// The review.
    Review,
}

impl SpanKind {
    /// The end that the supervisor writes where the start never got its own.
    #[must_use]
    pub const fn end(self) -> EventType {
        match self {
            Self::Run => EventType::RunFinished,
            Self::Backend => EventType::BackendExited,
            Self::Turn => EventType::TurnFailed,
            Self::Phase => EventType::PhaseCompleted,
            Self::Tool => EventType::ToolCompleted,
            Self::Command => EventType::CommandCompleted,
            Self::Test => EventType::TestCompleted,
            Self::Review => EventType::ReviewCompleted,
        }
    }
}

macro_rules! event_types {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal: $($source:ident)|+;)+) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum EventType { $($(#[$doc])+ #[serde(rename = $name)] $variant,)+ }

        impl EventType {
            /// Every type.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The dotted name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The sources of this type, as bits.
            const fn sources(self) -> u8 {
                match self { $(Self::$variant => $(Source::$source.bit())|+,)+ }
            }
        }
    };
}

event_types! {
    /// First event of every run.
    RunStarted = "run.started": Supervisor;
    /// The decision, or that the run is ungoverned.
    DecisionRecorded = "decision.recorded": Supervisor;
    /// A sandbox stands; its level and mechanisms.
    SandboxReady = "sandbox.ready": Supervisor;
    /// The backend was started.
    BackendStarted = "backend.started": Supervisor;
    /// The backend's main process ended and its tree is dead.
    BackendExited = "backend.exited": Supervisor;
    /// An artifact is complete.
    ArtifactWritten = "artifact.written": Supervisor;
    /// The patch was carried onto the real tree.
    TreeApplied = "tree.applied": Supervisor;
    /// One reason why the run is not a pass.
    BlockerRaised = "blocker.raised": Supervisor;
    /// Last event of every run.
    RunFinished = "run.finished": Supervisor;
    /// A turn of the model began.
    TurnStarted = "turn.started": Backend;
    /// A turn ended well.
    TurnCompleted = "turn.completed": Backend;
    /// A turn failed.
    TurnFailed = "turn.failed": Backend;
    /// A phase of the engine's own began.
    PhaseStarted = "phase.started": Backend;
    /// A phase of the engine's own ended.
    PhaseCompleted = "phase.completed": Backend;
    /// Text from the model.
    Message = "message": Backend;
    /// A tool call began.
    ToolStarted = "tool.started": Backend;
    /// A tool call ended: `completed`, `failed`, `denied`, `interrupted`.
    ToolCompleted = "tool.completed": Backend;
    /// A command began.
    CommandStarted = "command.started": Backend;
    /// A command ended.
    CommandCompleted = "command.completed": Backend;
    /// Tokens or cost.
    Usage = "usage": Backend;
    /// A warning.
    Warning = "warning": Backend;
    /// An error.
    Error = "error": Backend;
    /// A native event that no other type fits.
    BackendEvent = "backend.event": Backend;
    /// A line that is no event.
    BackendOutput = "backend.output": Backend;
    /// A file changed: observed from the upper layer, or claimed.
    FileChanged = "file.changed": Supervisor | Backend;
    /// Somebody asks for approval.
    ApprovalRequested = "approval.requested": Supervisor | Backend;
    /// The operator or the policy said yes.
    ApprovalGranted = "approval.granted": Operator | Supervisor;
    /// The operator or the policy said no, or nobody answered in time.
    ApprovalDenied = "approval.denied": Operator | Supervisor;
    /// A path, host, system call or change was refused.
    PolicyDenied = "policy.denied": Supervisor;
    /// A limit was hit.
    LimitExceeded = "limit.exceeded": Supervisor;
    /// A time ran out: `wall` or `idle`.
    TimeoutExpired = "timeout.expired": Supervisor;
    /// A request to a provider.
    ProviderRequest = "provider.request": Supervisor | Backend;
    /// A request is tried again.
    ProviderRetry = "provider.retry": Supervisor | Backend;
    /// The provider cannot be used: `unreachable`, `auth`, `rate_limited`, `other`.
    ProviderUnavailable = "provider.unavailable": Supervisor | Backend;
    /// Tests began.
    TestStarted = "test.started": Test | Backend;
    /// Tests ended.
    TestCompleted = "test.completed": Test | Backend;
    /// The review began.
    ReviewStarted = "review.started": Reviewer | Backend;
    /// The review ended.
    ReviewCompleted = "review.completed": Reviewer | Backend;
}

impl EventType {
    /// The type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event_type| event_type.as_str() == name)
    }

    /// Whether this source may emit this type on its own. (Ends with `status: interrupted` are the supervisor's
    /// besides; see [`EventType::ends`].)
    #[must_use]
    pub const fn allows(self, source: Source) -> bool {
        self.sources() & source.bit() != 0
    }

    /// What this type begins, where it is a `*.started`.
    #[must_use]
    pub const fn starts(self) -> Option<SpanKind> {
        Some(match self {
            Self::RunStarted => SpanKind::Run,
            Self::BackendStarted => SpanKind::Backend,
            Self::TurnStarted => SpanKind::Turn,
            Self::PhaseStarted => SpanKind::Phase,
            Self::ToolStarted => SpanKind::Tool,
            Self::CommandStarted => SpanKind::Command,
            Self::TestStarted => SpanKind::Test,
            Self::ReviewStarted => SpanKind::Review,
            _ => return None,
        })
    }

    /// What this type ends, where it is the end of a `*.started`.
    #[must_use]
    pub const fn ends(self) -> Option<SpanKind> {
        Some(match self {
            Self::RunFinished => SpanKind::Run,
            Self::BackendExited => SpanKind::Backend,
            Self::TurnCompleted | Self::TurnFailed => SpanKind::Turn,
            Self::PhaseCompleted => SpanKind::Phase,
            Self::ToolCompleted => SpanKind::Tool,
            Self::CommandCompleted => SpanKind::Command,
            Self::TestCompleted => SpanKind::Test,
            Self::ReviewCompleted => SpanKind::Review,
            _ => return None,
        })
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dotted_unique_and_what_serde_writes() {
        for event_type in EventType::ALL {
            assert_eq!(EventType::from_name(event_type.as_str()), Some(*event_type));
            let json = serde_json::to_string(event_type).unwrap();
            assert_eq!(json, format!("\"{event_type}\""));
        }
        let mut names: Vec<_> = EventType::ALL.iter().map(|t| t.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), EventType::ALL.len());
    }

    #[test]
    fn a_backend_may_say_none_of_the_supervisors_words() {
        for name in [
            "run.started",
            "decision.recorded",
            "sandbox.ready",
            "backend.started",
            "backend.exited",
            "artifact.written",
            "tree.applied",
            "blocker.raised",
            "run.finished",
            "policy.denied",
            "limit.exceeded",
            "timeout.expired",
            "approval.granted",
            "approval.denied",
        ] {
            let event_type = EventType::from_name(name).unwrap();
            assert!(!event_type.allows(Source::Backend), "{name}");
        }
        assert!(EventType::TestCompleted.allows(Source::Backend));
        assert!(!EventType::TestCompleted.allows(Source::Reviewer));
    }

    #[test]
    fn every_start_has_an_end_of_its_kind() {
        for event_type in EventType::ALL {
            assert_eq!(
                event_type.as_str().ends_with(".started"),
                event_type.starts().is_some(),
                "{event_type}"
            );
            if let Some(kind) = event_type.starts() {
                assert_eq!(kind.end().ends(), Some(kind));
            }
        }
    }
}
