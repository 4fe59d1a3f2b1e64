//! What may become of a backend's changes: one word for options, records, reports and the verdict.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may become of a backend's changes, from the narrowest to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MutationMode {
    /// It may make none: the work tree is read-only.
    None,
    /// They are looked at and thrown away; the evidence is the purpose.
    Discard,
    /// They become a patch, which is the purpose.
    Patch,
    /// The patch is carried onto the real tree.
    Apply,
}

impl MutationMode {
    /// Every mode, in order.
    pub const ALL: [Self; 4] = [Self::None, Self::Discard, Self::Patch, Self::Apply];

    /// The name in options, records and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Discard => "discard",
            Self::Patch => "patch",
            Self::Apply => "apply",
        }
    }

    /// Whether a backend that changed nothing failed.
    #[must_use]
    pub const fn wants_changes(self) -> bool {
        matches!(self, Self::Patch | Self::Apply)
    }
}

impl fmt::Display for MutationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
