//! Reads which files a patch changes, and how, without holding its content: the form that `parse` reads, in a bound of
//! memory that does not grow with what the patch carries.
//!
//! As strict as `parse` in everything but content: what a binary part unpacks to is not looked at here. That the two
//! read the same is held by a test. Whether the patch applies is not asked (that needs the repository: `apply`).

use std::collections::BTreeMap;
use std::io::BufRead;

use super::parse::{Ids, header_is, number, object_ids, ranges, same_name};

/// Most bytes of a line that are looked at; headers are shorter.
const PREFIX: usize = 64 * 1024;
/// Most bytes of all names together: what is kept in memory.
const MAX_NAMES: usize = 64 << 20;
/// Most files of a patch.
const MAX_FILES: usize = 200_000;

/// A file's path as git writes it: bytes, relative to the tree.
pub(crate) type PathBytes = Vec<u8>;

/// What a patch does, by path. Modes are in git's digits, `100644`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PatchFiles {
    /// Path and mode of files that are made.
    pub(crate) added: BTreeMap<PathBytes, String>,
    /// Path and mode of files that are removed.
    pub(crate) deleted: BTreeMap<PathBytes, String>,
    /// Path and modes (before, after) of files that stay.
    pub(crate) modified: BTreeMap<PathBytes, (String, String)>,
}

/// Reads a whole patch.
///
/// # Errors
/// The first line that Proctor would not write there, by its number; a path that is changed twice; too many files.
pub(crate) fn skim(input: impl BufRead) -> Result<PatchFiles, String> {
    let mut lines = Lines { input, line: Vec::new(), number: 0, held: false };
    let mut files = PatchFiles::default();
    let (mut count, mut bytes) = (0_usize, 0_usize);
    while lines.peek()?.is_some() {
        let path = lines.part(&mut files)?;
        count += 1;
        bytes += path;
        if count > MAX_FILES || bytes > MAX_NAMES {
            return Err(format!("it changes more than {MAX_FILES} files, or their names are too long"));
        }
    }
    Ok(files)
}

struct Lines<R> {
    input: R,
    /// The line that was read last, without its line feed, at most `PREFIX` bytes of it.
    line: Vec<u8>,
    /// Its number, from 1.
    number: u64,
    /// Whether it was only looked at.
    held: bool,
}

impl<R: BufRead> Lines<R> {
    fn wrong<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("line {} is not what belongs there: {what}", self.number))
    }

    /// The next line, which stays; none at the end.
    fn peek(&mut self) -> Result<Option<&[u8]>, String> {
        if !self.held {
            self.line.clear();
            self.number += 1;
            if !self.fill()? {
                return Ok(None);
            }
            self.held = true;
        }
        Ok(Some(&self.line))
    }

    fn fill(&mut self) -> Result<bool, String> {
        let mut any = false;
        loop {
            let available = match self.input.fill_buf() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(|error| error.to_string())?,
            };
            if available.is_empty() {
                return if any {
                    Err("it does not end with a line feed: it was cut".to_owned())
                } else {
                    Ok(false)
                };
            }
            any = true;
            let newline = available.iter().position(|byte| *byte == b'\n');
            let taken = newline.unwrap_or(available.len());
            let kept = taken.min(PREFIX - self.line.len());
            self.line.extend_from_slice(&available[..kept]);
            self.input.consume(taken + usize::from(newline.is_some()));
            if newline.is_some() {
                return Ok(true);
            }
        }
    }

    /// What follows `prefix`, if the next line begins with it.
    fn take(&mut self, prefix: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let found = self.peek()?.and_then(|line| line.strip_prefix(prefix)).map(<[u8]>::to_vec);
        self.held &= found.is_none();
        Ok(found)
    }

    fn take_mode(&mut self, prefix: &[u8]) -> Result<Option<String>, String> {
        match self.take(prefix)? {
            None => Ok(None),
            Some(text) => match mode(&text) {
                Some(mode) => Ok(Some(mode)),
                None => self.wrong("a mode that a patch may not carry"),
            },
        }
    }

    /// Reads what is said of one file; the length of its path.
    fn part(&mut self, files: &mut PatchFiles) -> Result<usize, String> {
        let Some(names) = self.take(b"diff --git ")? else {
            return self.wrong("expected `diff --git`");
        };
        let Some(path) = same_name(&names) else {
            return self
                .wrong("the two names are not the same path, or it leads out of the tree or into .git");
        };
        let (mut old, mut new, mut one_mode) = (None, None, false);
        if let Some(mode) = self.take_mode(b"new file mode ")? {
            new = Some(mode);
        } else if let Some(mode) = self.take_mode(b"deleted file mode ")? {
            old = Some(mode);
        } else if let Some(mode) = self.take_mode(b"old mode ")? {
            old = Some(mode);
            new = self.take_mode(b"new mode ")?;
            if new.is_none() || new == old {
                return self.wrong("expected another `new mode`");
            }
        } else {
            one_mode = true;
        }
        match self.take(b"index ")? {
            None if one_mode || old.is_none() || new.is_none() => return self.wrong("expected `index`"),
            None => {}
            Some(index) => {
                let Some((from, to, mode_said)) = ids(&index) else {
                    return self.wrong("malformed `index`");
                };
                match (one_mode, mode_said.map(mode)) {
                    (true, Some(Some(mode))) => (old, new) = (Some(mode.clone()), Some(mode)),
                    (false, None) => {}
                    _ => return self.wrong("a mode is missing, said twice, or none that a patch may carry"),
                }
                let null = |id: &[u8]| id.iter().all(|digit| *digit == b'0');
                if null(from) != old.is_none() || null(to) != new.is_none() || from == to {
                    return self.wrong("object ids do not fit the kind of change");
                }
                if let (Some(old), Some(new)) = (&old, &new)
                    && (old == LINK) != (new == LINK)
                {
                    return self.wrong("a change of type must be a removal and an addition");
                }
                self.body(&path, old.is_some(), new.is_some())?;
            }
        }
        let length = path.len();
        let again = match (old, new) {
            (None, Some(mode)) => files.added.insert(path, mode).is_some(),
            (Some(mode), None) => files.deleted.insert(path, mode).is_some(),
            (Some(old), Some(new)) => files.modified.insert(path, (old, new)).is_some(),
            (None, None) => return self.wrong("a change that is none"),
        };
        if again { self.wrong("the file before it is changed twice") } else { Ok(length) }
    }

    fn body(&mut self, path: &[u8], has_old: bool, has_new: bool) -> Result<(), String> {
        if let Some(rest) = self.take(b"GIT binary patch")? {
            if !rest.is_empty() {
                return self.wrong("expected `GIT binary patch`");
            }
            return self.literal().and_then(|()| self.literal());
        }
        let Some(from) = self.take(b"--- ")? else {
            return Ok(());
        };
        let Some(to) = self.take(b"+++ ")? else {
            return self.wrong("expected `+++`");
        };
        if !header_is(&from, b"a/", path, has_old) || !header_is(&to, b"b/", path, has_new) {
            return self.wrong("a header names another file");
        }
        let mut any = false;
        while let Some(head) = self.take(b"@@ ")? {
            any = true;
            let Some((old, new)) = ranges(&[b"@@ ", &head[..]].concat()) else {
                return self.wrong("malformed `@@`");
            };
            self.hunk(old.1, new.1)?;
        }
        if any { Ok(()) } else { self.wrong("expected `@@`") }
    }

    fn hunk(&mut self, mut old: usize, mut new: usize) -> Result<(), String> {
        while old > 0 || new > 0 {
            let mark = match self.peek()? {
                None => return self.wrong("it ends in the middle of a hunk"),
                Some(line) => line.first().copied(),
            };
            let empty = self.line.len() == 1;
            self.held = false;
            let left = match mark {
                Some(b' ') => old.checked_sub(1).zip(new.checked_sub(1)),
                Some(b'-') => old.checked_sub(1).zip(Some(new)),
                Some(b'+') => Some(old).zip(new.checked_sub(1)),
                _ => None,
            };
            let Some(left) = left else {
                return self.wrong("a line of a hunk that is none, or more than it says");
            };
            (old, new) = left;
            if let Some(rest) = self.take(b"\\ No newline at end of file")? {
                let done = match mark {
                    Some(b'-') => old == 0,
                    Some(b'+') => new == 0,
                    _ => old == 0 && new == 0,
                };
                if !done || empty || !rest.is_empty() {
                    return self.wrong("a line without a line feed that is not the last");
                }
            }
        }
        Ok(())
    }

    fn literal(&mut self) -> Result<(), String> {
        if self.take(b"literal ")?.as_deref().and_then(number).is_none() {
            return self.wrong("expected `literal`");
        }
        loop {
            let line = match self.peek()? {
                None => return self.wrong("it ends in the middle of a binary part"),
                Some(line) => line,
            };
            let (empty, graphic) = (line.is_empty(), line.iter().all(u8::is_ascii_graphic));
            self.held = false;
            match (empty, graphic) {
                (true, _) => return Ok(()),
                (false, true) => {}
                (false, false) => return self.wrong("malformed binary line"),
            }
        }
    }
}

const LINK: &str = "120000";

fn mode(text: &[u8]) -> Option<String> {
    let known = [&b"100644"[..], b"100755", b"100664", LINK.as_bytes()];
    known.contains(&text).then(|| String::from_utf8_lossy(text).into_owned())
}

/// Both object ids, of SHA-1 or both of SHA-256, and a mode.
fn ids(text: &[u8]) -> Option<Ids<'_>> {
    [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256].into_iter().find_map(|kind| object_ids(kind, text))
}

#[cfg(test)]
#[path = "skim_tests.rs"]
pub(crate) mod tests;
