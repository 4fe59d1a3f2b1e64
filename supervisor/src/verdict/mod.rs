//! The verdict: a pure function from what was observed to pass or blockers. It fails closed.
//!
//! Nothing here reads, writes, starts or waits; `run` gathers the [`Facts`].

mod blocker;
mod facts;
mod rules;

pub use blocker::{Blocker, BlockerCode, remedy};
pub use facts::*;
pub use rules::EVENT_CAP;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exit::ExitCode;

/// Pass or fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every required artifact and event is there and no blocker holds.
    Pass,
    /// At least one blocker.
    Fail,
}

impl Status {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// When the verdict is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the last events: artifacts may still be open and the search for secrets may be to come.
    BeforeClose,
    /// For the report: everything must be written, digested and searched.
    Final,
}

/// What the run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Pass or fail.
    pub status: Status,
    /// Every blocker that holds, in the order of [`BlockerCode`].
    pub blockers: Vec<Blocker>,
    /// What `proctor run` exits with (short of a defect).
    pub exit: ExitCode,
}

impl Verdict {
    /// Whether a blocker of this code holds.
    #[must_use]
    pub fn has(&self, code: BlockerCode) -> bool {
        self.blockers.iter().any(|blocker| blocker.code == code)
    }
}

/// Judges a run.
#[must_use]
pub fn decide(facts: &Facts, moment: Moment) -> Verdict {
    let mut blockers = rules::blockers(facts, moment);
    blockers.sort_by_key(|blocker| blocker.code);
    let exit = blockers
        .iter()
        .map(|blocker| ExitCode::of(blocker.code, facts.interrupted))
        .fold(ExitCode::Pass, ExitCode::worst);
    let status = if blockers.is_empty() { Status::Pass } else { Status::Fail };
    Verdict { status, blockers, exit }
}

#[cfg(test)]
mod tests;
