//! Reads which files a git patch changes, and how, without holding its content.
//!
//! Strict: a line that git would not write is an error, so that nothing can hide behind content that looks like a
//! header. Whether the patch gives the result tree is not asked here (that needs the repository).

use crate::changes::patch::quote;
use std::collections::BTreeMap;
use std::io::BufRead;

/// Most bytes of a line that are looked at; headers are shorter.
const PREFIX: usize = 64 * 1024;
/// Most bytes of all headers together: what is kept in memory.
const MAX_HEADERS: usize = 64 << 20;
/// Most files of a patch.
const MAX_FILES: usize = 200_000;

/// A file's path as git writes it: bytes, relative to the tree.
pub(super) type PathBytes = Vec<u8>;

/// What a patch does, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PatchFiles {
    /// Path and mode of files that are made.
    pub(super) added: BTreeMap<PathBytes, String>,
    /// Path and mode of files that are removed.
    pub(super) deleted: BTreeMap<PathBytes, String>,
    /// Path and modes (before, after) of files that stay; a mode is absent where the patch does not say it.
    pub(super) modified: BTreeMap<PathBytes, (Option<String>, Option<String>)>,
    /// New path, old path and modes of renamed files.
    pub(super) renamed: BTreeMap<PathBytes, (PathBytes, Option<String>, Option<String>)>,
}

#[derive(Default)]
struct Entry {
    header: Vec<u8>,
    line: u64,
    old_mode: Option<String>,
    new_mode: Option<String>,
    added: Option<String>,
    deleted: Option<String>,
    from: Option<PathBytes>,
    to: Option<PathBytes>,
    minus: Option<Option<PathBytes>>,
    plus: Option<Option<PathBytes>>,
}

enum State {
    Outside,
    Headers,
    Hunk { old: u64, new: u64 },
    AfterHunk,
    BinaryStart { first: bool },
    BinaryLines { first: bool },
}

impl State {
    /// Whether the file's part of the patch may be over here (the second half of a binary change is optional).
    fn may_end(&self) -> bool {
        matches!(self, Self::Outside | Self::Headers | Self::AfterHunk | Self::BinaryStart { first: false })
    }
}

struct Line {
    prefix: Vec<u8>,
}

fn next_line(input: &mut impl BufRead, line: &mut Line) -> Result<bool, String> {
    line.prefix.clear();
    let mut any = false;
    loop {
        let available = match input.fill_buf() {
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
        let kept = taken.min(PREFIX - line.prefix.len());
        line.prefix.extend_from_slice(&available[..kept]);
        input.consume(taken + usize::from(newline.is_some()));
        if newline.is_some() {
            return Ok(true);
        }
    }
}

/// Reads a whole patch.
///
/// # Errors
/// The first line that git would not write there.
pub(super) fn read_patch(mut input: impl BufRead) -> Result<PatchFiles, String> {
    let mut files = PatchFiles::default();
    let mut entry: Option<Entry> = None;
    let mut state = State::Outside;
    let mut line = Line { prefix: Vec::new() };
    let (mut number, mut count, mut bytes) = (0_u64, 0_usize, 0_usize);
    while next_line(&mut input, &mut line)? {
        number += 1;
        let text = line.prefix.as_slice();
        let wrong = || format!("line {number} is not what git writes there");
        if let Some(header) = text.strip_prefix(b"diff --git ")
            && state.may_end()
        {
            if let Some(done) = entry.take() {
                done.close(&mut files)?;
            }
            count += 1;
            bytes += header.len();
            if count > MAX_FILES || bytes > MAX_HEADERS {
                return Err(format!("it changes more than {MAX_FILES} files, or their names are too long"));
            }
            entry = Some(Entry { header: header.to_vec(), line: number, ..Entry::default() });
            state = State::Headers;
            continue;
        }
        let Some(current) = entry.as_mut() else {
            return Err(wrong());
        };
        state = match state {
            State::Outside => return Err(wrong()),
            State::Headers => current.header_line(text).ok_or_else(wrong)?,
            State::AfterHunk if text.starts_with(b"\\ ") => State::AfterHunk,
            State::AfterHunk => hunk(text).ok_or_else(wrong)?,
            State::Hunk { old, new } => {
                let (old, new) = match text.first() {
                    Some(b' ') => (old.checked_sub(1), new.checked_sub(1)),
                    Some(b'-') => (old.checked_sub(1), Some(new)),
                    Some(b'+') => (Some(old), new.checked_sub(1)),
                    Some(b'\\') => (Some(old), Some(new)),
                    _ => (None, None),
                };
                let (Some(old), Some(new)) = (old, new) else {
                    return Err(wrong());
                };
                if old == 0 && new == 0 { State::AfterHunk } else { State::Hunk { old, new } }
            }
            State::BinaryStart { first } => {
                let counted = text.strip_prefix(b"literal ").or_else(|| text.strip_prefix(b"delta "));
                counted.and_then(decimal).ok_or_else(wrong)?;
                State::BinaryLines { first }
            }
            State::BinaryLines { first } if text.is_empty() => {
                if first {
                    State::BinaryStart { first: false }
                } else {
                    State::Outside
                }
            }
            State::BinaryLines { first } => {
                if !text.iter().all(u8::is_ascii_graphic) {
                    return Err(wrong());
                }
                State::BinaryLines { first }
            }
        };
    }
    if !state.may_end() {
        return Err("it ends in the middle of a file".to_owned());
    }
    if let Some(done) = entry.take() {
        done.close(&mut files)?;
    }
    Ok(files)
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// `@@ -1,2 +3,4 @@ ...`
fn hunk(text: &[u8]) -> Option<State> {
    let rest = text.strip_prefix(b"@@ -")?;
    let end = rest.windows(3).position(|window| window == b" @@")?;
    let ranges = std::str::from_utf8(&rest[..end]).ok()?;
    let (old, new) = ranges.split_once(" +")?;
    let lines = |range: &str| match range.split_once(',') {
        Some((start, count)) => decimal(start.as_bytes()).and_then(|_| decimal(count.as_bytes())),
        None => decimal(range.as_bytes()).map(|_| 1),
    };
    let (old, new) = (lines(old)?, lines(new)?);
    Some(if old == 0 && new == 0 { State::AfterHunk } else { State::Hunk { old, new } })
}

fn mode(text: &[u8]) -> Option<String> {
    let known = [&b"100644"[..], b"100755", b"120000", b"160000"];
    known.contains(&text).then(|| String::from_utf8_lossy(text).into_owned())
}

impl Entry {
    fn header_line(&mut self, text: &[u8]) -> Option<State> {
        let once = |slot: &mut Option<String>, value: &[u8]| {
            let value = mode(value)?;
            slot.replace(value).is_none().then_some(State::Headers)
        };
        if let Some(value) = text.strip_prefix(b"old mode ") {
            return once(&mut self.old_mode, value);
        }
        if let Some(value) = text.strip_prefix(b"new mode ") {
            return once(&mut self.new_mode, value);
        }
        if let Some(value) = text.strip_prefix(b"new file mode ") {
            return once(&mut self.added, value);
        }
        if let Some(value) = text.strip_prefix(b"deleted file mode ") {
            return once(&mut self.deleted, value);
        }
        if let Some(value) = text.strip_prefix(b"rename from ") {
            return self.from.replace(name(value)?).is_none().then_some(State::Headers);
        }
        if let Some(value) = text.strip_prefix(b"rename to ") {
            return self.to.replace(name(value)?).is_none().then_some(State::Headers);
        }
        if text.starts_with(b"similarity index ") || text.starts_with(b"dissimilarity index ") {
            return Some(State::Headers);
        }
        if let Some(value) = text.strip_prefix(b"index ") {
            let mut parts = value.split(|byte| *byte == b' ');
            let (ids, both) = (parts.next()?, parts.next());
            let hex = ids.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'.');
            if let Some(both) = both {
                self.old_mode = Some(mode(both)?);
                self.new_mode = self.old_mode.clone();
            }
            return (hex && parts.next().is_none()).then_some(State::Headers);
        }
        if let Some(value) = text.strip_prefix(b"--- ") {
            return self.minus.replace(side(value, b"a/")?).is_none().then_some(State::Headers);
        }
        if let Some(value) = text.strip_prefix(b"+++ ") {
            self.minus.as_ref()?;
            return self.plus.replace(side(value, b"b/")?).is_none().then_some(State::AfterHunk);
        }
        (text == b"GIT binary patch").then_some(State::BinaryStart { first: true })
    }

    /// What the headers say together; they must not contradict each other.
    fn close(self, files: &mut PatchFiles) -> Result<(), String> {
        let line = self.line;
        let wrong = move |what: &str| format!("the file at line {line}: {what}");
        let names = self.names().ok_or_else(|| wrong("its headers name no path, or different ones"))?;
        let (old, new) = names;
        if !safe(&old) || !safe(&new) {
            return Err(wrong("its path leads out of the tree or into .git"));
        }
        let twice = || wrong("it is changed twice");
        match (self.added, self.deleted, self.from) {
            (Some(mode), None, None) => once(files.added.insert(new, mode)).ok_or_else(twice),
            (None, Some(mode), None) => once(files.deleted.insert(old, mode)).ok_or_else(twice),
            (None, None, Some(_)) => {
                once(files.renamed.insert(new, (old, self.old_mode, self.new_mode))).ok_or_else(twice)
            }
            (None, None, None) => {
                once(files.modified.insert(new, (self.old_mode, self.new_mode))).ok_or_else(twice)
            }
            _ => Err(wrong("its headers contradict each other")),
        }
    }

    fn names(&self) -> Option<(PathBytes, PathBytes)> {
        let (old, new) = match (&self.from, &self.to) {
            (Some(from), Some(to)) => (from.clone(), to.clone()),
            (None, None) => {
                let plus = self.plus.clone().flatten();
                let minus = self.minus.clone().flatten();
                let path = plus.or(minus).or_else(|| symmetric(&self.header))?;
                (path.clone(), path)
            }
            _ => return None,
        };
        let minus = match &self.minus {
            None => true,
            Some(None) => self.added.is_some(),
            Some(Some(path)) => *path == old && self.added.is_none(),
        };
        let plus = match &self.plus {
            None => true,
            Some(None) => self.deleted.is_some(),
            Some(Some(path)) => *path == new && self.deleted.is_none(),
        };
        (minus && plus && header_is(&self.header, &old, &new)).then_some((old, new))
    }
}

fn once<T>(before: Option<T>) -> Option<()> {
    before.is_none().then_some(())
}

fn safe(path: &[u8]) -> bool {
    !path.is_empty()
        && path
            .split(|byte| *byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b"..") && !part.eq_ignore_ascii_case(b".git"))
}

/// A name that is quoted where git quotes it.
fn name(text: &[u8]) -> Option<PathBytes> {
    if text.first() == Some(&b'"') {
        let (name, rest) = quote::read(text)?;
        rest.is_empty().then_some(name)
    } else {
        Some(text.to_vec())
    }
}

/// A name after `---` or `+++`: `None` inside is `/dev/null`.
fn side(text: &[u8], prefix: &[u8]) -> Option<Option<PathBytes>> {
    if text == b"/dev/null" {
        return Some(None);
    }
    // Git ends a name that holds a space with a tab.
    let text = text.strip_suffix(b"\t").unwrap_or(text);
    Some(Some(name(text)?.strip_prefix(prefix)?.to_vec()))
}

/// `a/PATH b/PATH` with one and the same path.
fn symmetric(header: &[u8]) -> Option<PathBytes> {
    if header.first() == Some(&b'"') {
        let (name, _) = quote::read(header)?;
        return Some(name.strip_prefix(b"a/")?.to_vec());
    }
    let length = header.len().checked_sub(5)? / 2;
    Some(header.get(2..2 + length)?.to_vec())
}

fn header_is(header: &[u8], old: &[u8], new: &[u8]) -> bool {
    let part = |text: &[u8], prefix: &[u8], path: &[u8]| -> Option<usize> {
        if text.first() == Some(&b'"') {
            let (name, rest) = quote::read(text)?;
            (name.strip_prefix(prefix)? == path).then_some(text.len() - rest.len())
        } else {
            text.strip_prefix(prefix)?.starts_with(path).then_some(prefix.len() + path.len())
        }
    };
    let Some(first) = part(header, b"a/", old) else {
        return false;
    };
    let Some(rest) = header[first..].strip_prefix(b" ") else {
        return false;
    };
    part(rest, b"b/", new) == Some(rest.len())
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
