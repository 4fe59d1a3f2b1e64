//! Signed evidence: Ed25519 keys in files, DSSE envelopes, and what the in-toto statements in them say of a run.
//!
//! What is stated is made of the report alone, so that whoever reads the evidence again can say word for word what a
//! statement over it must be (docs/contracts.md). Reading an evidence directory is `verify`'s business, and where a
//! private key may lie is `run`'s.

mod check;
mod envelope;
mod file;
mod key;
mod statement;
#[cfg(test)]
mod tests;

pub use check::{Shown, check};
pub use envelope::{PAYLOAD_TYPE, pae};
pub use file::{KeyPair, public_path, write_pair};
pub use key::{KeyError, PublicKey, Signer};
pub use statement::{BUILD_TYPE, BUILDER, PROVENANCE, STATEMENT_TYPE, TEST_RESULT};

use super::STATEMENT;
use super::artifact::{ArtifactError, Step};
use crate::report::Report;

/// Largest file of statements that is written or read, bytes.
pub const MAX_STATEMENT: usize = 64 << 20;

/// The lines of `report.intoto.jsonl` for a report, of which these are the SHA-256 and the key.
///
/// # Errors
/// It would be larger than what is read again, or cannot be written as JSON: the run is then no pass.
pub fn signed_lines(report: &Report, report_sha256: &str, signer: &Signer) -> Result<Vec<u8>, ArtifactError> {
    let fail = |why: &str| ArtifactError::plain(STATEMENT, Step::Write, why);
    let mut lines = Vec::new();
    for payload in statement::payloads(report, report_sha256).map_err(|error| fail(&error.to_string()))? {
        let line = envelope::sign(&payload, signer).map_err(|error| fail(&error.to_string()))?;
        lines.extend_from_slice(&line);
        lines.push(b'\n');
    }
    if lines.len() > MAX_STATEMENT {
        let why = format!("it has {} bytes, more than the {MAX_STATEMENT} that are read again", lines.len());
        return Err(fail(&why));
    }
    Ok(lines)
}
