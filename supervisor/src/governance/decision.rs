//! The eligibility decision: which engine may run, how, and why. `decision.json` of every run is one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{Digest, EngineId, Moment, Prose, RunName, Text};
use super::{MutationMode, Record, RecordError, Stage, broken, short};

/// Where a decision comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecisionKind {
    /// None was needed: the run named no stage, and is never evidence for a gate.
    Ungoverned,
    /// Computed for this run, for an engine that is not gated.
    Computed,
    /// Made ahead of runs, and recorded.
    Recorded,
}

impl DecisionKind {
    /// The name in records and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ungoverned => "ungoverned",
            Self::Computed => "computed",
            Self::Recorded => "recorded",
        }
    }
}

/// How much could go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RiskClass {
    /// Nothing of worth is in reach.
    Low,
    /// What is in reach can be had again.
    Medium,
    /// What is in reach is somebody's work.
    High,
    /// More than that.
    Critical,
}

/// A backend that was considered and not selected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeniedBackend {
    /// Its engine.
    pub backend: EngineId,
    /// Why not.
    #[schemars(length(min = 1, max = 1000))]
    pub reasons: Vec<Text>,
}

/// What a backend recommends. It is recorded and weighs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recommendation {
    /// Which backend.
    pub backend: EngineId,
    /// What it said.
    pub text: Prose,
    /// The run in which it said so; null where it was none.
    pub run_id: Option<RunName>,
}

/// A decision (`decision/v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// `decision/v1`.
    #[schemars(extend("const" = Self::SCHEMA))]
    pub schema_version: String,
    /// Where it comes from.
    pub kind: DecisionKind,
    /// The run that it is for; null in one that was recorded ahead of runs.
    pub run_id: Option<RunName>,
    /// When it was made.
    pub decided_at: Moment,
    /// Who made it: `policy`, or an operator. Never a backend.
    pub decided_by: Text,
    /// The engine that may run.
    pub selected_backend: EngineId,
    /// The admitted source of that engine; null where it needs none.
    pub source_id: Option<Digest>,
    /// Engines that may not, with reasons.
    #[schemars(length(max = 1000))]
    pub denied_backends: Vec<DeniedBackend>,
    /// The stage it is for; null in an ungoverned run.
    pub stage: Option<Stage>,
    /// The risk; null where nobody classed it.
    pub risk_class: Option<RiskClass>,
    /// Stages whose gates must have been passed.
    #[schemars(length(max = 6))]
    pub required_gates: Vec<Stage>,
    /// The widest mutation mode that a run under it may have.
    pub allowed_mutation_mode: MutationMode,
    /// Why.
    #[schemars(length(min = 1, max = 1000))]
    pub reasons: Vec<Text>,
    /// Whom to ask, in order, where it does not fit.
    #[schemars(length(max = 1000))]
    pub escalation_path: Vec<Text>,
    /// What backends recommended, which weighs nothing.
    #[schemars(length(max = 1000))]
    pub recommendations: Vec<Recommendation>,
    /// Until when it may be used; null where it is for one run.
    pub expires_at: Option<Moment>,
}

impl Decision {
    /// The decision of a run that named no stage.
    ///
    /// # Errors
    /// A run id, time or engine that can be none.
    pub fn ungoverned(run_id: &str, at: &str, engine: &str, mode: MutationMode) -> Result<Self, String> {
        Ok(Self {
            schema_version: Self::SCHEMA.to_owned(),
            kind: DecisionKind::Ungoverned,
            run_id: Some(run_id.try_into()?),
            decided_at: at.try_into()?,
            decided_by: "policy".try_into()?,
            selected_backend: engine.try_into()?,
            source_id: None,
            denied_backends: Vec::new(),
            stage: None,
            risk_class: None,
            required_gates: Vec::new(),
            allowed_mutation_mode: mode,
            reasons: vec!["no stage was named: this run is never evidence for a gate".try_into()?],
            escalation_path: Vec::new(),
            recommendations: Vec::new(),
            expires_at: None,
        })
    }

    fn governed(&self) -> Result<(), RecordError> {
        let Some(stage) = self.stage else {
            return Err(broken("stage", format!("is missing in a decision that is {}", self.kind.as_str())));
        };
        if self.risk_class.is_none() {
            return Err(broken("risk_class", "is missing: a governed decision says what could go wrong"));
        }
        if self.allowed_mutation_mode > stage.widest() {
            let (mode, widest) = (self.allowed_mutation_mode, stage.widest());
            return Err(broken(
                "allowed_mutation_mode",
                format!("is {mode}, and {stage} allows {widest} at most"),
            ));
        }
        if self.escalation_path.is_empty() {
            return Err(broken("escalation_path", "is empty: somebody must be there to ask"));
        }
        if !self.required_gates.iter().all(|gate| *gate < stage) {
            return Err(broken("required_gates", format!("names a stage that does not come before {stage}")));
        }
        if !self.required_gates.is_sorted_by(|a, b| a < b) {
            return Err(broken("required_gates", "are not in the order of stages, each once"));
        }
        if self.kind == DecisionKind::Recorded && self.expires_at.is_none() {
            return Err(broken("expires_at", "is missing: a recorded decision ends at some time"));
        }
        Ok(())
    }
}

impl Record for Decision {
    const SCHEMA: &'static str = "decision/v1";
    const NAME: &'static str = "decision";

    fn schema_version(&self) -> &str {
        &self.schema_version
    }

    fn check(&self) -> Result<(), RecordError> {
        short("denied_backends", &self.denied_backends)?;
        short("reasons", &self.reasons)?;
        short("escalation_path", &self.escalation_path)?;
        short("recommendations", &self.recommendations)?;
        if self.reasons.is_empty() {
            return Err(broken("reasons", "are empty: a decision says why"));
        }
        let mut denied = std::collections::BTreeSet::new();
        for one in &self.denied_backends {
            short("denied_backends", &one.reasons)?;
            if one.reasons.is_empty() {
                return Err(broken("denied_backends", format!("gives no reason for {}", one.backend)));
            }
            if one.backend == self.selected_backend || !denied.insert(&one.backend) {
                return Err(broken(
                    "denied_backends",
                    format!("names {}, which is selected or named twice", one.backend),
                ));
            }
        }
        // A backend may recommend; it cannot approve itself, nor another one.
        let by = self.decided_by.as_str();
        if by == self.selected_backend.as_str() || denied.iter().any(|one| one.as_str() == by) {
            return Err(broken(
                "decided_by",
                format!("is {by}, a backend: none decides about itself or others"),
            ));
        }
        if self.expires_at.as_ref().is_some_and(|end| *end <= self.decided_at) {
            return Err(broken("expires_at", "is not after decided_at"));
        }
        match self.kind {
            DecisionKind::Ungoverned => {
                let governed = self.stage.is_some()
                    || self.risk_class.is_some()
                    || !self.required_gates.is_empty()
                    || self.expires_at.is_some();
                if governed {
                    return Err(broken(
                        "kind",
                        "is ungoverned, and it names a stage, a risk, gates or an expiry",
                    ));
                }
            }
            DecisionKind::Computed | DecisionKind::Recorded => self.governed()?,
        }
        if self.run_id.is_none() && self.kind != DecisionKind::Recorded {
            return Err(broken("run_id", format!("is missing in a decision that is {}", self.kind.as_str())));
        }
        Ok(())
    }
}
