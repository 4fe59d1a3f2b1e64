//! The admission of a source: what an engine is built from, pinned, with what may be done with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{Commit, Digest, EngineId, Moment, Prose, SourceUrl, Tag, Text};
use super::{Record, RecordError, broken, short};

/// Which version of the source: a commit, a tag, or a tag and the commit that it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The commit.
    pub commit: Option<Commit>,
    /// The tag.
    pub tag: Option<Tag>,
}

/// A lock file that pins every part of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceLock {
    /// Which file.
    pub reference: Text,
    /// Its digest.
    pub sha256: Digest,
}

/// By what the bytes are known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Integrity {
    /// Over the read-only bytes that are mounted, interpreter and dependencies included.
    pub sha256: Option<Digest>,
    /// Or a source lock.
    pub source_lock: Option<SourceLock>,
}

/// How an admitted source may be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionMode {
    /// Not at all: it is registered, to be refused.
    None,
    /// On trees that Proctor made.
    ArtificialOnly,
    /// In the sandbox, on whatever trees its stage allows.
    Sandboxed,
}

/// What of the source nobody may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boundary {
    /// What is protected, in words.
    pub note: Prose,
    /// Paths of the source, relative, that no admission and no run changes.
    #[schemars(length(max = 1000))]
    pub paths: Vec<Text>,
}

/// An admission (`admission/v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// `admission/v1`.
    #[schemars(extend("const" = Self::SCHEMA))]
    pub schema_version: String,
    /// The engine that is built from it.
    pub engine: EngineId,
    /// The id of this source.
    pub source_id: Digest,
    /// The id of the source that it replaces; null in the first admission.
    pub previous_source_id: Option<Digest>,
    /// Where it was had from.
    pub source_url: SourceUrl,
    /// Which version.
    pub pinned: Pin,
    /// Under which licence, and what follows.
    pub license_note: Prose,
    /// When it was had.
    pub retrieval_date: Moment,
    /// How it was had.
    pub retrieval_command: Prose,
    /// By what its bytes are known again.
    pub integrity: Integrity,
    /// How it may be executed.
    pub allowed_execution_mode: ExecutionMode,
    /// What of it nobody may change.
    pub protected_source_boundary: Boundary,
    /// When it was admitted.
    pub admitted_at: Moment,
    /// By whom. Never the engine.
    pub admitted_by: Text,
}

impl Record for Admission {
    const SCHEMA: &'static str = "admission/v1";
    const NAME: &'static str = "admission";

    fn schema_version(&self) -> &str {
        &self.schema_version
    }

    fn check(&self) -> Result<(), RecordError> {
        short("protected_source_boundary", &self.protected_source_boundary.paths)?;
        if self.pinned.commit.is_none() && self.pinned.tag.is_none() {
            return Err(broken("pinned", "names neither a commit nor a tag"));
        }
        if self.integrity.sha256.is_none() && self.integrity.source_lock.is_none() {
            return Err(broken("integrity", "has neither a digest nor a source lock"));
        }
        if self.previous_source_id.as_ref() == Some(&self.source_id) {
            return Err(broken("previous_source_id", "is the source_id itself: nothing was replaced"));
        }
        if self.admitted_by.as_str() == self.engine.as_str() {
            return Err(broken("admitted_by", "is the engine: none admits itself"));
        }
        if self.admitted_at < self.retrieval_date {
            return Err(broken("admitted_at", "is before retrieval_date"));
        }
        let leads_out = |path: &Text| {
            let path = path.as_str();
            path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | ".."))
        };
        if let Some(path) = self.protected_source_boundary.paths.iter().find(|path| leads_out(path)) {
            return Err(broken(
                "protected_source_boundary",
                format!("names {path}, which is no relative path within the source"),
            ));
        }
        Ok(())
    }
}
