//! Reads a patch as `write` writes it, and nothing looser: a hostile patch is refused, never guessed at.
//!
//! Every part has full object ids; no renames, copies, fuzz or offsets. Sizes are bounded by the caller's limit.

use gix_hash::ObjectId;

use super::super::tree::{self, is_file};
use super::{base85, quote};

/// Why a patch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the patch is not one that this program writes: line {line}: {what}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// One line of a hunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// ` `, `-` or `+`.
    pub mark: u8,
    /// The text with its line feed, unless it is the last of a file that has none.
    pub text: &'a [u8],
}

/// One hunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk<'a> {
    /// First line in the old file, from 1; 0 where the old side is empty.
    pub old_start: usize,
    /// Lines of the old side.
    pub old_len: usize,
    /// First line in the new file, likewise.
    pub new_start: usize,
    /// Lines of the new side.
    pub new_len: usize,
    /// The lines.
    pub lines: Vec<Line<'a>>,
}

/// How content changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body<'a> {
    /// It does not.
    None,
    /// As lines of text.
    Text(Vec<Hunk<'a>>),
    /// As the whole new and old content.
    Binary {
        /// New.
        new: Vec<u8>,
        /// Old.
        old: Vec<u8>,
    },
}

/// One part of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// The path.
    pub path: Vec<u8>,
    /// Mode before; `None` for a new file.
    pub old_mode: Option<u32>,
    /// Mode after; `None` for a removed one.
    pub new_mode: Option<u32>,
    /// Object before and after (null where there is none); `None` where only the mode changes.
    pub ids: Option<(ObjectId, ObjectId)>,
    /// The content.
    pub body: Body<'a>,
}

/// Reads a whole patch. `content_limit` bounds the bytes that all binary parts unpack to.
pub fn parse(text: &[u8], hash: gix_hash::Kind, content_limit: u64) -> Result<Vec<Part<'_>>, ParseError> {
    let mut reader = Reader { rest: text, line: 0, hash, left: content_limit };
    let mut parts = Vec::new();
    while !reader.rest.is_empty() {
        parts.push(reader.part()?);
    }
    Ok(parts)
}

struct Reader<'a> {
    rest: &'a [u8],
    line: usize,
    hash: gix_hash::Kind,
    left: u64,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, what: &'static str) -> Result<T, ParseError> {
        Err(ParseError { line: self.line, what })
    }

    fn peek(&self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|b| *b == b'\n')?;
        Some(&self.rest[..end])
    }

    fn next(&mut self) -> Result<&'a [u8], ParseError> {
        self.line += 1;
        let Some(line) = self.peek() else {
            return self.fail("it ends in the middle of a line");
        };
        self.rest = &self.rest[line.len() + 1..];
        Ok(line)
    }

    fn take(&mut self, prefix: &[u8]) -> Result<Option<&'a [u8]>, ParseError> {
        match self.peek().and_then(|l| l.strip_prefix(prefix)) {
            Some(rest) => {
                self.next()?;
                Ok(Some(rest))
            }
            None => Ok(None),
        }
    }

    fn part(&mut self) -> Result<Part<'a>, ParseError> {
        let line = self.next()?;
        let Some(names) = line.strip_prefix(b"diff --git ") else {
            return self.fail("expected `diff --git`");
        };
        let Some(path) = same_name(names) else {
            return self.fail("the two names are not the same path");
        };
        let (mut old_mode, mut new_mode, mut one_mode) = (None, None, false);
        if let Some(mode) = self.take(b"new file mode ")? {
            new_mode = Some(self.mode(mode)?);
        } else if let Some(mode) = self.take(b"deleted file mode ")? {
            old_mode = Some(self.mode(mode)?);
        } else if let Some(mode) = self.take(b"old mode ")? {
            old_mode = Some(self.mode(mode)?);
            let Some(mode) = self.take(b"new mode ")? else {
                return self.fail("expected `new mode`");
            };
            new_mode = Some(self.mode(mode)?);
            if old_mode == new_mode {
                return self.fail("a change of mode that changes none");
            }
        } else {
            one_mode = true;
        }
        let Some(index) = self.take(b"index ")? else {
            if one_mode || old_mode.is_none() || new_mode.is_none() {
                return self.fail("expected `index`");
            }
            return Ok(Part { path, old_mode, new_mode, ids: None, body: Body::None });
        };
        let Some((old, new, mode)) = self.index(index) else {
            return self.fail("malformed `index`");
        };
        match (one_mode, mode) {
            (true, Some(mode)) => {
                let mode = self.mode(mode)?;
                (old_mode, new_mode) = (Some(mode), Some(mode));
            }
            (false, None) => {}
            _ => return self.fail("a mode is missing or said twice"),
        }
        if old.is_null() != old_mode.is_none() || new.is_null() != new_mode.is_none() || old == new {
            return self.fail("object ids do not fit the kind of change");
        }
        if let (Some(a), Some(b)) = (old_mode, new_mode)
            && is_file(a) != is_file(b)
        {
            return self.fail("a change of type must be a removal and an addition");
        }
        let body = self.body(&path, old_mode.is_some(), new_mode.is_some())?;
        Ok(Part { path, old_mode, new_mode, ids: Some((old, new)), body })
    }

    fn mode(&self, text: &[u8]) -> Result<u32, ParseError> {
        match text {
            b"100644" => Ok(tree::FILE),
            b"100755" => Ok(tree::EXECUTABLE),
            b"100664" => Ok(0o100664),
            b"120000" => Ok(tree::SYMLINK),
            _ => self.fail("a mode that a patch may not carry"),
        }
    }

    fn index(&self, text: &'a [u8]) -> Option<(ObjectId, ObjectId, Option<&'a [u8]>)> {
        let (old, new, mode) = object_ids(self.hash, text)?;
        Some((ObjectId::from_hex(old).ok()?, ObjectId::from_hex(new).ok()?, mode))
    }

    fn body(&mut self, path: &[u8], has_old: bool, has_new: bool) -> Result<Body<'a>, ParseError> {
        if self.take(b"GIT binary patch")?.is_some_and(<[u8]>::is_empty) {
            let new = self.literal()?;
            let old = self.literal()?;
            return Ok(Body::Binary { new, old });
        }
        let Some(from) = self.take(b"--- ")? else {
            return Ok(Body::None);
        };
        let Some(to) = self.take(b"+++ ")? else {
            return self.fail("expected `+++`");
        };
        if !header_is(from, b"a/", path, has_old) || !header_is(to, b"b/", path, has_new) {
            return self.fail("a header names another file");
        }
        let mut hunks = Vec::new();
        while self.peek().is_some_and(|l| l.starts_with(b"@@ ")) {
            hunks.push(self.hunk()?);
        }
        if hunks.is_empty() {
            return self.fail("expected `@@`");
        }
        Ok(Body::Text(hunks))
    }

    fn hunk(&mut self) -> Result<Hunk<'a>, ParseError> {
        let head = self.next()?;
        let Some((old, new)) = ranges(head) else {
            return self.fail("malformed `@@`");
        };
        let (mut old_left, mut new_left) = (old.1, new.1);
        let mut lines: Vec<Line<'a>> = Vec::new();
        while old_left > 0 || new_left > 0 {
            let start = self.rest;
            let line = self.next()?;
            let Some(mark) = line.first().copied() else {
                return self.fail("an empty line in a hunk");
            };
            let left = match mark {
                b' ' => old_left.checked_sub(1).zip(new_left.checked_sub(1)),
                b'-' => old_left.checked_sub(1).zip(Some(new_left)),
                b'+' => Some(old_left).zip(new_left.checked_sub(1)),
                _ => return self.fail("a line of a hunk that is none"),
            };
            let Some(left) = left else {
                return self.fail("more lines than the hunk says");
            };
            (old_left, new_left) = left;
            let mut text = &start[1..line.len() + 1];
            if self.take(b"\\ No newline at end of file")?.is_some_and(<[u8]>::is_empty) {
                text = &text[..text.len() - 1];
                let done = match mark {
                    b'-' => old_left == 0,
                    b'+' => new_left == 0,
                    _ => old_left == 0 && new_left == 0,
                };
                if !done || text.is_empty() {
                    return self.fail("a line without a line feed that is not the last");
                }
            }
            lines.push(Line { mark, text });
        }
        Ok(Hunk { old_start: old.0, old_len: old.1, new_start: new.0, new_len: new.1, lines })
    }

    fn literal(&mut self) -> Result<Vec<u8>, ParseError> {
        let size = self.take(b"literal ")?.and_then(number);
        let Some(size) = size else {
            return self.fail("expected `literal`");
        };
        self.left = match self.left.checked_sub(size as u64) {
            Some(left) => left,
            None => return self.fail("content is larger than the limit"),
        };
        let mut packed = Vec::new();
        loop {
            let line = self.next()?;
            if line.is_empty() {
                break;
            }
            if base85::decode_line(line, &mut packed).is_none() {
                return self.fail("malformed binary line");
            }
        }
        let mut data = Vec::new();
        let mut unzip = flate2::read::ZlibDecoder::new(packed.as_slice());
        // One byte more than said is enough to know that it is too much.
        let read =
            std::io::Read::read_to_end(&mut std::io::Read::take(&mut unzip, size as u64 + 1), &mut data);
        if read.is_err() || data.len() != size || unzip.total_in() != packed.len() as u64 {
            return self.fail("binary content does not unpack to its size");
        }
        Ok(data)
    }
}

/// What follows `index `: two object ids and a mode.
pub(super) type Ids<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>);

/// `OLD..NEW`, or `OLD..NEW MODE`: the ids in full, in lower-case hex.
pub(super) fn object_ids(hash: gix_hash::Kind, text: &[u8]) -> Option<Ids<'_>> {
    let len = hash.len_in_hex();
    let (old, rest) = text.split_at_checked(len)?;
    let (new, rest) = rest.strip_prefix(b"..")?.split_at_checked(len)?;
    let mode = if rest.is_empty() { None } else { Some(rest.strip_prefix(b" ")?) };
    let id = |text: &[u8]| text.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    (id(old) && id(new)).then_some((old, new, mode))
}

/// `a/NAME b/NAME`, plain or quoted; both must be the same path.
pub(super) fn same_name(text: &[u8]) -> Option<Vec<u8>> {
    let (path, second) = if text.starts_with(b"\"") {
        let (first, rest) = quote::read(text)?;
        let (second, end) = quote::read(rest.strip_prefix(b" ")?)?;
        if !end.is_empty() {
            return None;
        }
        (first.strip_prefix(b"a/")?.to_vec(), second.strip_prefix(b"b/")?.to_vec())
    } else {
        // `a/` + name + ` b/` + name: the length tells where it divides, whatever spaces the name has.
        let len = text.len().checked_sub(5)? / 2;
        let (first, rest) = text.strip_prefix(b"a/")?.split_at_checked(len)?;
        (first.to_vec(), rest.strip_prefix(b" b/")?.to_vec())
    };
    let mut again = Vec::new();
    quote::push(b"a/", &path, &mut again);
    again.push(b' ');
    quote::push(b"b/", &path, &mut again);
    let plain = path.len() < 4096 && !path.contains(&0);
    let components = path
        .split(|b| *b == b'/')
        .all(|c| !matches!(c, b"" | b"." | b"..") && !super::super::dotgit::is_alias(c));
    (path == second && again == text && plain && components).then_some(path)
}

pub(super) fn header_is(text: &[u8], prefix: &[u8], path: &[u8], present: bool) -> bool {
    if !present {
        return text == b"/dev/null";
    }
    let mut want = Vec::new();
    quote::push(prefix, path, &mut want);
    if path.contains(&b' ') {
        want.push(b'\t');
    }
    text == want
}

pub(super) fn ranges(head: &[u8]) -> Option<((usize, usize), (usize, usize))> {
    let body = head.strip_prefix(b"@@ -")?.strip_suffix(b" @@")?;
    let space = body.iter().position(|b| *b == b' ')?;
    Some((range(&body[..space])?, range(body[space + 1..].strip_prefix(b"+")?)?))
}

fn range(text: &[u8]) -> Option<(usize, usize)> {
    match text.iter().position(|b| *b == b',') {
        Some(comma) => Some((number(&text[..comma])?, number(&text[comma + 1..])?)),
        None => Some((number(text)?, 1)),
    }
}

pub(super) fn number(text: &[u8]) -> Option<usize> {
    let plain = !text.is_empty() && text.len() <= 10 && text.iter().all(u8::is_ascii_digit);
    if plain { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}
