//! The records of a stage's gate: that an engine entered a stage, and that it left it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{Digest, EngineId, Moment, Nonce, Prose, RunName, Text};
use super::{Record, RecordError, Stage, broken, short};

/// Whether a stage was entered or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateKind {
    /// Entered.
    Entry,
    /// Left.
    Exit,
}

/// How a stage was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateOutcome {
    /// For the next one.
    Promoted,
    /// For an earlier one.
    Demoted,
}

/// A run that a gate rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateEvidence {
    /// The run.
    pub run_id: RunName,
    /// Of its `report.json`.
    pub report_sha256: Digest,
    /// The key that signed it.
    pub signed_by: Text,
}

/// A record of a gate (`gate/v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateRecord {
    /// `gate/v1`.
    #[schemars(extend("const" = Self::SCHEMA))]
    pub schema_version: String,
    /// Entered or left.
    pub kind: GateKind,
    /// The stage.
    pub stage: Stage,
    /// The engine.
    pub engine: EngineId,
    /// The source that it is about; null where none is admitted yet, at the first gate only.
    pub source_id: Option<Digest>,
    /// How it was left; null in an entry.
    pub outcome: Option<GateOutcome>,
    /// What it rests on.
    #[schemars(length(max = 1000))]
    pub evidence: Vec<GateEvidence>,
    /// Who says so. Never the engine.
    pub operator: Text,
    /// When.
    pub at: Moment,
    /// The nonce that was issued for this gate; its evidence holds it, once.
    pub nonce: Nonce,
    /// Why.
    pub reason: Prose,
    /// SHA-256 of the record before this one of the same engine; null in the first.
    pub previous: Option<Digest>,
}

impl Record for GateRecord {
    const SCHEMA: &'static str = "gate/v1";
    const NAME: &'static str = "gate";

    fn schema_version(&self) -> &str {
        &self.schema_version
    }

    fn check(&self) -> Result<(), RecordError> {
        short("evidence", &self.evidence)?;
        if self.operator.as_str() == self.engine.as_str() {
            return Err(broken("operator", "is the engine: none opens its own gate"));
        }
        if self.source_id.is_none() && self.stage != Stage::GatedEngine {
            return Err(broken(
                "source_id",
                format!("is missing at {}: no stage but the first goes without", self.stage),
            ));
        }
        match (self.kind, self.outcome) {
            (GateKind::Entry, Some(_)) => {
                return Err(broken("outcome", "stands in an entry, which has none"));
            }
            (GateKind::Exit, None) => return Err(broken("outcome", "is missing in an exit")),
            (GateKind::Exit, Some(GateOutcome::Promoted)) if self.evidence.is_empty() => {
                return Err(broken("evidence", "is empty: nothing is promoted without"));
            }
            (GateKind::Exit, Some(GateOutcome::Promoted)) if self.stage == Stage::CandidateDefault => {
                return Err(broken("outcome", "is promoted, and no stage follows the last one"));
            }
            _ => {}
        }
        let mut runs = std::collections::BTreeSet::new();
        if !self.evidence.iter().all(|one| runs.insert(&one.run_id)) {
            return Err(broken("evidence", "names a run twice"));
        }
        Ok(())
    }
}
