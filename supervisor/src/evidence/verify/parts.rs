//! What the smaller artifacts say of themselves: the frame of `test.log`, the decision, and whether `report.md` is what its report renders to. Compares nothing else; reads each artifact once.

use std::io::{BufRead, Read};

use super::super::testlog::{self, TestBegin, TestEnd};
use super::super::{MARKDOWN, REPORT};
use crate::governance::{Decision, Record as _};
use crate::report::{Report, markdown};

/// Most characters of an expected line that are shown.
const SHOWN: usize = 160;

fn unreadable(error: std::io::Error) -> String {
    format!("cannot be read: {error}")
}

/// The whole of it; its size has been limited already.
pub(super) fn decision(input: &mut impl Read) -> Result<Decision, String> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(unreadable)?;
    Decision::parse(&bytes).map_err(|error| error.to_string())
}

/// The frame of `test.log`, from its two ends; nothing in an empty one.
pub(super) fn frame(input: &mut impl Read, size: u64) -> Result<Option<(TestBegin, TestEnd)>, String> {
    if size == 0 {
        return Ok(None);
    }
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; testlog::MAX_FRAME];
    loop {
        let count = input.read(&mut buffer).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        let room = testlog::MAX_FRAME - first.len();
        first.extend_from_slice(&buffer[..count.min(room)]);
        last.extend_from_slice(&buffer[..count]);
        let excess = last.len().saturating_sub(testlog::MAX_FRAME);
        last.drain(..excess);
    }
    testlog::parse(&first, &last, size).map(Some)
}

/// Whether this version made the report, and so can render it in the same words.
pub(super) fn renders_the_same(report: &Report) -> bool {
    report.proctor_version == env!("CARGO_PKG_VERSION")
}

/// Byte for byte what the report renders to. It was rendered before its own entry in the manifest was known.
pub(super) fn markdown(input: &mut impl BufRead, report: &Report) -> Result<(), String> {
    let mut draft = report.clone();
    draft.digest_manifest.retain(|one| one.name != MARKDOWN);
    draft.artifact_paths.remove(MARKDOWN);
    same(input, &markdown::render(&draft), REPORT)
}

/// Whether it is this text, rendered `of` something, and else where not.
pub(super) fn same(input: &mut impl BufRead, expected: &str, of: &str) -> Result<(), String> {
    let mut rest = expected.as_bytes();
    loop {
        let found = input.fill_buf().map_err(unreadable)?;
        let count = found.len();
        if count == 0 && rest.is_empty() {
            return Ok(());
        }
        if count == 0 || !rest.starts_with(found) {
            let same = rest.iter().zip(found).take_while(|(a, b)| a == b).count();
            let done = expected.len() - rest.len() + same;
            let line = 1 + expected.as_bytes()[..done].iter().filter(|byte| **byte == b'\n').count();
            // A line of a page can be all of it: what stands from a little before the difference on.
            let begin =
                expected.as_bytes()[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let mut from = begin.max(done.saturating_sub(40));
            while !expected.is_char_boundary(from) {
                from -= 1;
            }
            let said: String =
                expected[from..].lines().next().unwrap_or("its end").chars().take(SHOWN).collect();
            return Err(format!("is not what {of} renders to: line {line} should be {said:?}"));
        }
        rest = &rest[count..];
        input.consume(count);
    }
}
