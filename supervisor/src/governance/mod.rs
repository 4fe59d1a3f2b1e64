//! The records of governance: decisions, admissions, gates. What lives here are their types, what a valid one is, and how
//! one is read and written; a record that is read here keeps all its rules, whoever wrote it.
//!
//! What reads them today: the run writes `decision.json` through [`Decision`] and `proctor verify` reads it back through
//! the same type; `proctor schema` prints their schemas. No command makes, weighs or enforces an admission, a gate or a
//! recorded decision yet, and nothing here does: no clock, no files, no evidence.

mod admission;
mod decision;
mod gate;
mod text;

use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use admission::{Admission, Boundary, ExecutionMode, Integrity, Pin, SourceLock};
pub use decision::{Decision, DecisionKind, DeniedBackend, Recommendation, RiskClass};
pub use gate::{GateEvidence, GateKind, GateOutcome, GateRecord};
pub use text::{Commit, Digest, EngineId, Moment, Nonce, Prose, RunName, SourceUrl, Tag, Text};

pub use crate::mutation::MutationMode;

/// Largest record that is read, bytes.
pub const MAX_RECORD: usize = 1 << 20;
/// Most entries of one list in a record.
pub const MAX_LIST: usize = 1000;

/// A proof stage, in the order in which they are reached (docs/contracts.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// No tree: the engine must be registered and be refused.
    GatedEngine,
    /// Trees made by Proctor.
    ArtificialFixture,
    /// A copy made by Proctor.
    CopiedRepoFixture,
    /// Listed as disposable in the operator's registry.
    DisposableSandboxRepo,
    /// Listed as owned and noncritical there.
    OwnedNoncriticalRepo,
    /// Listed there; its status is earned, not assumed.
    CandidateDefault,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] = [
        Self::GatedEngine,
        Self::ArtificialFixture,
        Self::CopiedRepoFixture,
        Self::DisposableSandboxRepo,
        Self::OwnedNoncriticalRepo,
        Self::CandidateDefault,
    ];

    /// The name in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatedEngine => "gated-engine",
            Self::ArtificialFixture => "artificial-fixture",
            Self::CopiedRepoFixture => "copied-repo-fixture",
            Self::DisposableSandboxRepo => "disposable-sandbox-repo",
            Self::OwnedNoncriticalRepo => "owned-noncritical-repo",
            Self::CandidateDefault => "candidate-default",
        }
    }

    /// The widest mutation mode that a run of this stage may have.
    #[must_use]
    pub const fn widest(self) -> MutationMode {
        match self {
            Self::GatedEngine => MutationMode::None,
            Self::ArtificialFixture => MutationMode::Discard,
            Self::CopiedRepoFixture => MutationMode::Patch,
            Self::DisposableSandboxRepo | Self::OwnedNoncriticalRepo | Self::CandidateDefault => {
                MutationMode::Apply
            }
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something is no record of its kind.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// More than is read.
    #[error("has {0} bytes, more than the {MAX_RECORD} that a record may have; keep reasons short")]
    TooLarge(usize),
    /// Not of this shape.
    #[error("is no {schema}: {why}; `proctor schema {name}` shows what it must be")]
    Malformed {
        /// Schema version.
        schema: &'static str,
        /// Name of the schema.
        name: &'static str,
        /// What is wrong, with line and column.
        why: serde_json::Error,
    },
    /// Another version.
    #[error(
        "has schema_version {found:?}, this version of Proctor reads {expected:?}: use the version that wrote it"
    )]
    Version {
        /// What it says.
        found: String,
        /// What is read here.
        expected: &'static str,
    },
    /// Of the right shape, and contradicts itself.
    #[error("{field} {why}")]
    Rule {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// A rule of a record that does not hold.
fn broken(field: &'static str, why: impl Into<String>) -> RecordError {
    RecordError::Rule { field, why: why.into() }
}

/// What all records have.
pub trait Record: Serialize + DeserializeOwned {
    /// Schema version, `decision/v1`.
    const SCHEMA: &'static str;
    /// Name of its schema.
    const NAME: &'static str;

    /// What it says of its schema.
    fn schema_version(&self) -> &str;

    /// The rules that go beyond a single field.
    ///
    /// # Errors
    /// The first that does not hold.
    fn check(&self) -> Result<(), RecordError>;

    /// Reads one, strictly: unknown, missing and doubled fields, other versions and broken rules are errors.
    ///
    /// # Errors
    /// What is wrong.
    fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(|why| RecordError::Malformed {
            schema: Self::SCHEMA,
            name: Self::NAME,
            why,
        })?;
        if record.schema_version() != Self::SCHEMA {
            let found = record.schema_version().chars().take(64).collect();
            return Err(RecordError::Version { found, expected: Self::SCHEMA });
        }
        // Serde takes a missing field for a null one; two readers must not see two records.
        let whole = serde_json::to_value(&record).ok();
        if whole.is_none() || serde_json::from_slice::<serde_json::Value>(bytes).ok() != whole {
            return Err(broken(
                "the record",
                "is not whole: a field that may be null must stand there all the same",
            ));
        }
        record.check()?;
        Ok(record)
    }

    /// The bytes of its file: fields in their order, two spaces, one LF at the end. What is written can be read.
    ///
    /// # Errors
    /// A rule that does not hold, or more than a record may have.
    fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        self.check()?;
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|why| RecordError::Malformed {
            schema: Self::SCHEMA,
            name: Self::NAME,
            why,
        })?;
        bytes.push(b'\n');
        if bytes.len() > MAX_RECORD { Err(RecordError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }
}

fn short<T>(field: &'static str, list: &[T]) -> Result<(), RecordError> {
    if list.len() > MAX_LIST {
        return Err(broken(field, format!("has {} entries, more than {MAX_LIST}", list.len())));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
