//! Reads `patch.diff` for the page: each file's hunks with line numbers, as far as there is room, and how many lines
//! go and come. Tolerant, because it judges nothing: what it does not understand ends the reading, and the page says
//! so. `proctor verify` is who holds the patch against the report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Read};

use super::source::{Line, next_line, whole_characters};
use crate::changes::patch::quote;
use crate::report::escape::push_html;

/// Most bytes of a line that are looked at, and that are shown.
const KEEP: usize = 16 * 1024;
const WIDE: usize = 4096;
/// Most bytes of markup of one file and of all.
const ONE: usize = 256 * 1024;
const ALL: usize = 2_000_000;
/// Most files that are told apart.
const FILES: usize = 20_000;
/// Most bytes of the patch that are read.
const MOST: u64 = 1 << 30;

/// What the patch does to one path.
#[derive(Debug, Default)]
pub(super) struct FileDiff {
    /// Rows of the table.
    pub(super) rows: String,
    /// Lines that come, lines that go.
    pub(super) added: u64,
    pub(super) removed: u64,
    /// Lines for which there was no room.
    pub(super) unshown: u64,
    /// Content that is no text.
    pub(super) binary: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Diffs {
    pub(super) files: BTreeMap<Vec<u8>, FileDiff>,
    /// The first line that was not understood.
    pub(super) stopped: Option<u64>,
}

#[derive(Clone, Copy)]
enum State {
    Headers,
    Hunk { old: u64, new: u64 },
    Binary,
}

struct Reader {
    diffs: Diffs,
    path: Vec<u8>,
    state: State,
    /// The numbers of the next line of each side.
    old: u64,
    new: u64,
    markup: usize,
}

/// Reads a patch.
pub(super) fn read(file: File) -> Diffs {
    let mut input = BufReader::with_capacity(64 * 1024, file.take(MOST));
    let mut reader = Reader {
        diffs: Diffs::default(),
        path: Vec::new(),
        state: State::Headers,
        old: 0,
        new: 0,
        markup: 0,
    };
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        let understood = match next_line(&mut input, &mut line, KEEP) {
            Ok(Line::End) => break,
            Ok(Line::Some { rest }) => reader.line(&line, rest).is_some(),
            Err(_) => false,
        };
        if !understood {
            reader.diffs.stopped = Some(number);
            break;
        }
    }
    reader.diffs
}

impl Reader {
    fn line(&mut self, line: &[u8], rest: u64) -> Option<()> {
        if let State::Hunk { old, new } = self.state
            && old + new > 0
        {
            return self.content(line, rest, (old, new));
        }
        if let Some(names) = line.strip_prefix(b"diff --git ") {
            self.path = path(names)?;
            if !self.diffs.files.contains_key(&self.path) && self.diffs.files.len() >= FILES {
                return None;
            }
            self.diffs.files.entry(self.path.clone()).or_default();
            self.state = State::Headers;
            return Some(());
        }
        let file = self.diffs.files.get_mut(&self.path)?;
        match self.state {
            // Its end is the next file's beginning.
            State::Binary => Some(()),
            State::Hunk { .. } if line.starts_with(b"\\ ") => {
                self.row("m", None, None, b"\\ No newline at end of file", 0);
                Some(())
            }
            _ if line.starts_with(b"@@ ") => self.hunk(line),
            State::Headers if line == b"GIT binary patch" => {
                file.binary = true;
                self.state = State::Binary;
                Some(())
            }
            State::Headers => Some(()),
            State::Hunk { .. } => None,
        }
    }

    fn hunk(&mut self, line: &[u8]) -> Option<()> {
        let text = std::str::from_utf8(line.strip_prefix(b"@@ -")?.split(|b| *b == b'@').next()?).ok()?;
        let (old, new) = text.trim_end().split_once(" +")?;
        let range = |text: &str| -> Option<(u64, u64)> {
            match text.split_once(',') {
                Some((start, count)) => Some((start.parse().ok()?, count.parse().ok()?)),
                None => Some((text.parse().ok()?, 1)),
            }
        };
        let (old, new) = (range(old)?, range(new)?);
        (self.old, self.new) = (old.0, new.0);
        self.state = State::Hunk { old: old.1.min(1 << 40), new: new.1.min(1 << 40) };
        self.row("h", None, None, line, 0);
        Some(())
    }

    fn content(&mut self, line: &[u8], rest: u64, (old, new): (u64, u64)) -> Option<()> {
        let (old_number, new_number) = (self.old, self.new);
        let (class, left, numbers) = match line.first()? {
            b'-' => ("d", (old.checked_sub(1)?, new), (Some(old_number), None)),
            b'+' => ("a", (old, new.checked_sub(1)?), (None, Some(new_number))),
            b' ' => ("", (old.checked_sub(1)?, new.checked_sub(1)?), (Some(old_number), Some(new_number))),
            b'\\' => {
                self.row("m", None, None, line, rest);
                return Some(());
            }
            _ => return None,
        };
        self.old += u64::from(numbers.0.is_some());
        self.new += u64::from(numbers.1.is_some());
        self.state = State::Hunk { old: left.0, new: left.1 };
        let file = self.diffs.files.get_mut(&self.path)?;
        file.added += u64::from(class == "a");
        file.removed += u64::from(class == "d");
        self.row(class, numbers.0, numbers.1, line, rest);
        Some(())
    }

    /// A row, where there is room for it.
    fn row(&mut self, class: &str, old: Option<u64>, new: Option<u64>, line: &[u8], rest: u64) {
        let Some(file) = self.diffs.files.get_mut(&self.path) else {
            return;
        };
        if file.unshown > 0 || file.rows.len() > ONE || self.markup > ALL {
            file.unshown += 1;
            return;
        }
        let before = file.rows.len();
        let out = &mut file.rows;
        out.push_str(if class.is_empty() { "<tr>" } else { "<tr class=\"" });
        if !class.is_empty() {
            out.push_str(class);
            out.push_str("\">");
        }
        for number in [old, new] {
            out.push_str("<td>");
            if let Some(number) = number {
                // Writing to a String does not fail.
                let _ = write!(out, "{number}");
            }
            out.push_str("</td>");
        }
        out.push_str("<td>");
        let mut shown = &line[..line.len().min(WIDE)];
        if shown.len() < line.len() || rest > 0 {
            shown = &shown[..whole_characters(shown)];
        }
        push_html(out, shown, true);
        let more = (line.len() - shown.len()) as u64 + rest;
        if more > 0 {
            let _ = write!(out, "<span class=\"cut\">… {more} more bytes in this line</span>");
        }
        out.push_str("</td></tr>");
        self.markup += file.rows.len() - before;
    }
}

/// The path behind `diff --git`: the same on both sides, or the second one.
fn path(names: &[u8]) -> Option<Vec<u8>> {
    if names.starts_with(b"\"") {
        let (_, rest) = quote::read(names)?;
        let (second, _) = quote::read(rest.strip_prefix(b" ")?)?;
        return Some(second.strip_prefix(b"b/")?.to_vec());
    }
    let length = names.len().checked_sub(5)? / 2;
    let (first, rest) = names.strip_prefix(b"a/")?.split_at_checked(length)?;
    let second = rest.strip_prefix(b" b/")?;
    (first == second).then(|| second.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write as _};

    fn diffs(patch: &[u8]) -> Diffs {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(patch).unwrap();
        file.rewind().unwrap();
        read(file)
    }

    const PATCH: &[u8] = b"diff --git a/a b/a\nindex 1..2 100644\n--- a/a\n+++ b/a\n@@ -3,2 +3,3 @@\n x\n-<b>\n+y\n+--- z\n\
        @@ -9 +10 @@\n-q\n+q\n\\ No newline at end of file\ndiff --git \"a/\\tn\" \"b/\\tn\"\nnew file mode 100644\n\
        index 0..1\nGIT binary patch\nliteral 1\nIcmZP\n\nliteral 0\nHc$@\n\n";

    #[test]
    fn hunks_have_their_numbers_and_counts() {
        let diffs = diffs(PATCH);
        assert_eq!(diffs.stopped, None);
        let file = &diffs.files[&b"a"[..]];
        assert_eq!((file.added, file.removed, file.unshown, file.binary), (3, 2, 0, false));
        assert!(file.rows.contains("<tr><td>3</td><td>3</td><td> x</td></tr>"), "{}", file.rows);
        assert!(
            file.rows.contains("<tr class=\"d\"><td>4</td><td></td><td>-&lt;b&gt;</td></tr>"),
            "{}",
            file.rows
        );
        assert!(
            file.rows.contains("<tr class=\"a\"><td></td><td>5</td><td>+--- z</td></tr>"),
            "{}",
            file.rows
        );
        assert!(file.rows.contains("<td></td><td>10</td><td>+q</td>"), "{}", file.rows);
        assert!(diffs.files[&b"\tn"[..]].binary);
    }

    #[test]
    fn what_is_no_patch_ends_the_reading() {
        assert_eq!(diffs(b"nothing\n").stopped, Some(1));
        assert_eq!(diffs(b"diff --git a/a b/a\n@@ -1 +1 @@\n?\n").stopped, Some(3));
        assert_eq!(diffs(b"diff --git a/a b/c\n").stopped, Some(1));
        assert_eq!(diffs(b"").stopped, None);
    }

    #[test]
    fn a_huge_patch_is_cut_and_counted() {
        let mut patch = b"diff --git a/a b/a\n@@ -0,0 +1,100000 @@\n".to_vec();
        for _ in 0..100_000 {
            patch.extend_from_slice(b"+\0\n");
        }
        let diffs = diffs(&patch);
        let file = &diffs.files[&b"a"[..]];
        assert!(file.rows.len() < ONE + 64 * 1024 && file.unshown > 0);
        assert_eq!(file.added, 100_000);
    }
}
