//! What the digest manifest says of one artifact: an in-toto resource descriptor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::kinds;

/// An artifact's name, digest and size (in-toto attestation framework, ResourceDescriptor v1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceDescriptor {
    /// Plain file name within the evidence directory.
    #[schemars(with = "kinds::ArtifactName")]
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub annotations: Annotations,
}

/// A digest set of one algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// SHA-256, lower-case hex.
    #[schemars(with = "kinds::Sha256")]
    pub sha256: String,
}

/// What in-toto has no field for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    /// Bytes.
    pub size: u64,
}

impl ResourceDescriptor {
    /// A descriptor from its parts.
    #[must_use]
    pub fn new(name: &str, sha256: String, size: u64) -> Self {
        Self { name: name.to_owned(), digest: Digest { sha256 }, annotations: Annotations { size } }
    }
}

/// Whether this may be an artifact's name: a plain file name of letters, digits, `.`, `_` and `-`, at most 100
/// bytes, not beginning with a dot or a hyphen.
#[must_use]
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::is_plain_name;

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "a\n", "é", "a\0", "x\\y"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        assert!(is_plain_name("backend.stdout.log"));
        assert!(!is_plain_name(&"x".repeat(101)));
    }
}
