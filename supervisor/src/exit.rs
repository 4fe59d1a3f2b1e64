//! The exit codes of every command: one public list, one order of precedence, one match from blocker to code.
//!
//! Nothing here exits: `main` alone turns an [`ExitCode`] into the process's status.

use serde::{Deserialize, Serialize};

use crate::verdict::BlockerCode;

/// What the process exits with, the same for every command (docs/contracts.md).
///
/// | code | meaning |
/// | --- | --- |
/// | 0 | pass |
/// | 1 | judged, and not a pass: at least one blocker |
/// | 2 | usage, profile or configuration error: nothing ran |
/// | 3 | refused: nothing ran |
/// | 4 | the evidence could not be written, or does not verify |
/// | 5 | a defect in Proctor itself |
/// | 130 | interrupted by SIGINT; the backend is dead |
/// | 143 | interrupted by SIGTERM; the backend is dead |
///
/// Where several hold the first of 5, 4, 130/143, 3, 2, 1 is the one: see [`ExitCode::worst`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// 0: the run passed, or the command did what it was asked.
    Pass,
    /// 1: judged, and not a pass.
    Fail,
    /// 2: usage, profile or configuration error; nothing ran.
    Usage,
    /// 3: refused; nothing ran.
    Refused,
    /// 4: the evidence could not be written, or does not verify.
    Evidence,
    /// 5: a defect in Proctor itself.
    Defect,
    /// 130: interrupted by SIGINT.
    Interrupted,
    /// 143: interrupted by SIGTERM (or another signal that asks to end).
    Terminated,
}

/// Which signal ended a run from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopSignal {
    /// SIGINT: exit code 130.
    #[serde(rename = "SIGINT")]
    Int,
    /// SIGTERM, and whatever else asks to end: exit code 143.
    #[serde(rename = "SIGTERM")]
    Term,
}

impl StopSignal {
    /// The signal's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
        }
    }
}

impl ExitCode {
    /// Every code, mildest first: the order of precedence.
    pub const ALL: [Self; 8] = [
        Self::Pass,
        Self::Fail,
        Self::Usage,
        Self::Refused,
        Self::Interrupted,
        Self::Terminated,
        Self::Evidence,
        Self::Defect,
    ];

    /// The number that the process exits with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Evidence => 4,
            Self::Defect => 5,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The code with this number, where there is one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Interrupted | Self::Terminated => 4,
            Self::Evidence => 5,
            Self::Defect => 6,
        }
    }

    /// Of two codes that both hold, the one to exit with; of SIGINT and SIGTERM the first that was given.
    #[must_use]
    pub const fn worst(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// The code of what a signal ended.
    #[must_use]
    pub const fn of_signal(signal: StopSignal) -> Self {
        match signal {
            StopSignal::Int => Self::Interrupted,
            StopSignal::Term => Self::Terminated,
        }
    }

    /// The code that a blocker leads to. `stop` is the signal behind `interrupted`; without one it counts as SIGTERM.
    #[must_use]
    pub const fn of(code: BlockerCode, stop: Option<StopSignal>) -> Self {
        use BlockerCode as B;
        match code {
            B::NoDiff
            | B::DisallowedFile
            | B::TestsFailed
            | B::TestCommandMissing
            | B::EventMissing
            | B::ReviewerRejected
            | B::ApprovalDenied
            | B::Timeout
            | B::DirtyStartingTree
            | B::DirtyEndingTree
            | B::ProviderUnavailable
            | B::BackendFailed
            | B::Contradiction
            | B::OutputLimit
            | B::ResourceLimit
            | B::SecretInEvidence
            | B::SourceChanged => Self::Fail,
            B::SandboxUnavailable | B::EngineNotEnabled | B::NotEligible | B::SourceNotAdmitted => {
                Self::Refused
            }
            B::ArtifactWriteFailed | B::EvidenceInvalid => Self::Evidence,
            B::Interrupted => match stop {
                Some(signal) => Self::of_signal(signal),
                None => Self::Terminated,
            },
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(exit: ExitCode) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_is_defect_evidence_interrupted_refused_usage_fail() {
        use ExitCode as E;
        let order = [E::Defect, E::Evidence, E::Interrupted, E::Refused, E::Usage, E::Fail, E::Pass];
        for (index, high) in order.iter().enumerate() {
            for low in &order[index + 1..] {
                assert_eq!(high.worst(*low), *high);
                assert_eq!(low.worst(*high), *high);
            }
        }
        assert_eq!(E::Terminated.worst(E::Interrupted), E::Terminated, "the first signal stays");
        assert_eq!(E::Refused.worst(E::Terminated), E::Terminated);
    }

    #[test]
    fn numbers_are_the_documented_ones() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 130, 143, 4, 5]);
        for exit in ExitCode::ALL {
            assert_eq!(ExitCode::from_code(exit.code()), Some(exit));
        }
        assert_eq!(ExitCode::from_code(6), None);
    }

    #[test]
    fn every_blocker_leads_to_a_code_that_is_no_pass() {
        for code in BlockerCode::ALL {
            assert_ne!(ExitCode::of(code, None), ExitCode::Pass, "{code}");
        }
        assert_eq!(ExitCode::of(BlockerCode::Interrupted, Some(StopSignal::Int)).code(), 130);
        assert_eq!(ExitCode::of(BlockerCode::Interrupted, Some(StopSignal::Term)).code(), 143);
        assert_eq!(ExitCode::of(BlockerCode::SandboxUnavailable, None).code(), 3);
        assert_eq!(ExitCode::of(BlockerCode::ArtifactWriteFailed, None).code(), 4);
        assert_eq!(ExitCode::of(BlockerCode::NoDiff, None).code(), 1);
    }
}
