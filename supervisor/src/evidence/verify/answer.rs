//! What the process that reads evidence is told and what it answers, and the limits within which an answer is taken.
//!
//! A reader that a fault in a parser has given to the evidence's maker can answer what it likes: its answer is one more
//! hostile text. What it says of its own confinement it says before it reads anything.

use std::path::PathBuf;

use proctor_sandbox::error::StepError;
use serde::{Deserialize, Serialize};

use super::{MAX_PROBLEMS, Problem, ProblemKind, ReaderInfo, VerifyOptions, VerifyResult};
use crate::event::hex;
use crate::report::Mechanism;
use crate::report::escape::terminal as safe;

/// Most bytes of an answer: every problem at its longest, each character escaped.
pub(super) const MAX_ANSWER: usize = 4 << 20;
/// Longest text of an answer, characters; what a reader of this version writes is shorter.
const MAX_TEXT: usize = 5000;
/// Most statements of what could not be compared.
const MAX_NOTES: usize = 20;

/// What a reader is to do. Comes from its parent; the evidence directory comes as descriptor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Orders {
    pub(super) parent: u32,
    pub(super) make_do: bool,
    pub(super) memory: u64,
    pub(super) mapped: u64,
    pub(super) cpu_seconds: u64,
    pub(super) nonce: Option<String>,
    pub(super) max_age_us: Option<u64>,
    pub(super) now: i64,
    pub(super) require_signature: bool,
    /// Public keys.
    pub(super) keys: Vec<[u8; 32]>,
    pub(super) max_artifact: u64,
    pub(super) max_bytes: u64,
    pub(super) repo: Option<RepoOrders>,
}

/// The repository that the patch is held against.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RepoOrders {
    pub(super) root: PathBuf,
    pub(super) own_git_dir: bool,
    pub(super) git_dir: PathBuf,
    pub(super) common_dir: PathBuf,
}

/// The first line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Start {
    /// Confined, by these means; nothing has been read.
    Held(ReaderInfo),
    /// It could not confine itself, and has read nothing.
    Refused(StepError),
}

/// A result as it may be shown, of what a reader answered.
///
/// # Errors
/// What is wrong with the answer.
pub(super) fn take(
    line: &[u8],
    reader: ReaderInfo,
    asked: &VerifyOptions<'_>,
) -> Result<VerifyResult, String> {
    let mut result: VerifyResult =
        serde_json::from_slice(line).map_err(|error| format!("its answer is none: {error}"))?;
    if result.problems.len() > MAX_PROBLEMS || result.not_compared.len() > MAX_NOTES {
        return Err("its answer is longer than an answer can be".to_owned());
    }
    if result.valid != (result.problems.is_empty() && result.more_problems == 0) {
        return Err("its answer contradicts itself".to_owned());
    }
    if result.report_sha256.as_ref().is_some_and(|digest| !hex::is_sha256(digest)) {
        return Err("its answer has no digest where one must be".to_owned());
    }
    let known = ["signed by ", "not checked: ", "not shown: "];
    let says =
        known.iter().any(|word| result.authenticity.strip_prefix(word).is_some_and(|rest| !rest.is_empty()));
    if !says && result.authenticity != "unsigned" {
        return Err("its answer does not say whether it is signed".to_owned());
    }
    // Whatever became of the reader, it shows no signature by a key that was not given.
    let by_a_key = asked.keys.iter().any(|key| result.authenticity == format!("signed by {}", key.id()));
    let wanted = asked.require_signature || !asked.keys.is_empty();
    let claimed = result.authenticity.starts_with("signed by ");
    if (claimed && !by_a_key) || (result.valid && wanted && !by_a_key) {
        return Err("its answer shows another signature than was asked for".to_owned());
    }
    result.authenticity = shown(&result.authenticity);
    result.run_id = result.run_id.as_deref().map(shown);
    for note in &mut result.not_compared {
        *note = shown(note);
    }
    for Problem { artifact, message, .. } in &mut result.problems {
        *artifact = shown(artifact);
        *message = shown(message);
    }
    result.reader = Some(reader);
    Ok(result)
}

/// What held it, within limits: said before anything was read, and bounded all the same.
pub(super) fn held(info: ReaderInfo) -> ReaderInfo {
    let one = |one: Mechanism| Mechanism {
        name: shown(&one.name),
        version: one.version.as_deref().map(shown),
        detail: one.detail.as_deref().map(shown),
    };
    ReaderInfo {
        mechanisms: info.mechanisms.into_iter().take(MAX_NOTES).map(one).collect(),
        missing: info.missing.iter().take(MAX_NOTES).map(|text| shown(text)).collect(),
    }
}

/// Text that should be escaped already: left as it is where it is, escaped (again) where not.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(MAX_TEXT).collect();
    let again = safe(&text);
    // Only backslashes are escaped a second time where everything was escaped the first time.
    if again.replace("\\\\", "\\") == text { text } else { again }
}

impl VerifyResult {
    /// Of evidence whose reader came to no answer.
    pub(super) fn unanswered(reader: ReaderInfo, why: impl AsRef<str>) -> Self {
        Self { reader: Some(reader), ..Self::unread(ProblemKind::Reader, ".", why) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> VerifyOptions<'static> {
        VerifyOptions::default()
    }

    fn answer(edit: impl FnOnce(&mut serde_json::Value)) -> Result<VerifyResult, String> {
        let mut result = VerifyResult::unread(ProblemKind::File, "a", "one");
        result.report_sha256 = Some("0".repeat(64));
        let mut value = serde_json::to_value(result).unwrap();
        edit(&mut value);
        take(value.to_string().as_bytes(), ReaderInfo::default(), &asked())
    }

    #[test]
    fn an_answer_is_taken_as_it_is_and_says_what_held_the_reader() {
        let result = answer(|_| {}).unwrap();
        assert_eq!((result.valid, result.problems.len()), (false, 1));
        assert_eq!(result.reader, Some(ReaderInfo::default()));
        assert_eq!(shown("a \\x1b and \\\\ and C:\\n"), "a \\x1b and \\\\ and C:\\n");
    }

    #[test]
    fn an_answer_of_somebody_else_is_refused_or_made_safe() {
        type Edit = fn(&mut serde_json::Value);
        let refused: &[(Edit, &str)] = &[
            (|v| v["valid"] = true.into(), "contradicts itself"),
            (|v| v["problems"] = serde_json::json!([]), "contradicts itself"),
            (
                |v| {
                    v["problems"] = serde_json::json!([]);
                    v["valid"] = true.into();
                    v["more_problems"] = 1.into();
                },
                "contradicts itself",
            ),
            (|v| v["report_sha256"] = "\x1b[2J".into(), "no digest where one must be"),
            (|v| v["authenticity"] = "signed by ".into(), "does not say whether it is signed"),
            (|v| v["authenticity"] = "signed".into(), "does not say whether it is signed"),
            (|v| v["authenticity"] = "signed by x".into(), "another signature than was asked for"),
            (|v| v["more"] = 1.into(), "its answer is none: unknown field"),
            (
                |v| v["problems"] = vec![v["problems"][0].clone(); MAX_PROBLEMS + 1].into(),
                "longer than an answer can be",
            ),
            (|v| v["not_compared"] = vec!["x"; MAX_NOTES + 1].into(), "longer than an answer can be"),
        ];
        for (edit, why) in refused {
            let error = answer(edit).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
        assert!(take(b"\xff", ReaderInfo::default(), &asked()).is_err());
        assert!(take(&vec![b'['; 100_000], ReaderInfo::default(), &asked()).is_err());

        let result = answer(|v| {
            v["run_id"] = "\x1b[31m\n::error::x".into();
            v["authenticity"] = "not shown: \u{202e}x".into();
            v["problems"][0]["artifact"] = "a\nVALID".into();
            v["problems"][0]["message"] = "m".repeat(100_000).into();
            v["not_compared"] = vec!["::error::x"].into();
        })
        .unwrap();
        assert_eq!(result.run_id.as_deref(), Some("\\x1b[31m\\n::error::x"));
        assert_eq!(result.authenticity, "not shown: \\u{202e}x");
        assert_eq!(result.problems[0].artifact, "a\\nVALID");
        assert_eq!(result.problems[0].message.len(), MAX_TEXT);
        assert_eq!(result.not_compared, ["\\x3a:error::x"]);
    }
}
