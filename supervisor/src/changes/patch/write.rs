//! `patch.diff`: a change set in the format of `git diff --binary --full-index`, such that
//! `git apply --index --binary` on the base gives exactly the result tree. Deterministic: order by path bytes.

use std::io::Write;

use gix_hash::ObjectId;
use imara_diff::{Algorithm, Diff, InternedInput};
use sha2::{Digest, Sha256};

use super::super::classify::{Change, ChangeSet, CollectError};
use super::super::convert::Converter;
use super::super::repo::Repo;
use super::super::tree::{TreeView, is_file};
use super::{base85, quote};

const CONTEXT: u32 = 3;
/// Bytes of a side up to which lines are compared; a larger file is replaced as a whole.
const MAX_COMPARED: usize = 4 << 20;

/// Why a patch was not written.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// Over the limit: the blocker `output_limit`.
    #[error("the patch is larger than {limit} bytes; raise --max-patch if that much is meant")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// Content could not be read again, or is not what was recorded.
    #[error(transparent)]
    Content(#[from] CollectError),
    /// The output could not be written.
    #[error("the patch cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchInfo {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of all bytes, lower-case hex.
    pub sha256: String,
}

/// Writes the patch of `set` to `out`, at most `limit` bytes. `inspect` sees the content of both sides of each change
/// and links' targets, which the patch may hold compressed.
pub fn write_patch(
    repo: &Repo,
    set: &ChangeSet,
    limit: u64,
    out: &mut dyn Write,
    inspect: &mut dyn FnMut(&[u8]),
) -> Result<PatchInfo, PatchError> {
    let tree = TreeView::new(repo.odb(), repo.base_tree());
    let mut converter = Converter::new(repo).map_err(CollectError::from)?;
    let mut hasher = Sha256::new();
    let mut size = 0u64;
    let mut text = Vec::new();
    for change in &set.changes {
        text.clear();
        let old = match &change.old {
            Some(side) if side.mode != super::super::tree::GITLINK => {
                tree.odb().blob(&side.oid).map_err(CollectError::from)?
            }
            _ => Vec::new(),
        };
        let new = match &change.new {
            Some(_) => set.stored_content(&tree, &mut converter, change)?,
            None => Vec::new(),
        };
        inspect(&old);
        inspect(&new);
        // So much of it that being over the limit shows.
        let room = usize::try_from(limit - size).unwrap_or(usize::MAX);
        write_change(change, &old, &new, (repo.hash(), room), &mut text)?;
        size += text.len() as u64;
        if size > limit {
            return Err(PatchError::TooLarge { limit });
        }
        hasher.update(&text);
        out.write_all(&text)?;
    }
    out.flush()?;
    Ok(PatchInfo { size, sha256: super::super::convert::hex(&hasher.finalize()) })
}

/// One change, in one part or, where the type changes, as a removal and an addition.
fn write_change(
    change: &Change,
    old: &[u8],
    new: &[u8],
    (hash, room): (gix_hash::Kind, usize),
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    let old_side = change.old.as_ref().map(|s| (s.mode, s.oid));
    let new_side = change.new.as_ref().map(|s| (s.mode, s.oid));
    match (old_side, new_side) {
        (Some(from), Some(to))
            if is_file(from.0) != is_file(to.0) || (from.0 & 0o170000) != (to.0 & 0o170000) =>
        {
            write_part(&change.path, Some(from), None, old, &[], (hash, room), out)?;
            write_part(&change.path, None, Some(to), &[], new, (hash, room), out)
        }
        (from, to) => write_part(&change.path, from, to, old, new, (hash, room), out),
    }
}

type Side = Option<(u32, ObjectId)>;

fn write_part(
    path: &[u8],
    from: Side,
    to: Side,
    old: &[u8],
    new: &[u8],
    (hash, room): (gix_hash::Kind, usize),
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    out.extend_from_slice(b"diff --git ");
    quote::push(b"a/", path, out);
    out.push(b' ');
    quote::push(b"b/", path, out);
    out.push(b'\n');
    let mut line = |text: String| out.extend_from_slice(text.as_bytes());
    match (from, to) {
        (None, Some((mode, _))) => line(format!("new file mode {mode:06o}\n")),
        (Some((mode, _)), None) => line(format!("deleted file mode {mode:06o}\n")),
        (Some((a, _)), Some((b, _))) if a != b => line(format!("old mode {a:06o}\nnew mode {b:06o}\n")),
        _ => {}
    }
    let null = ObjectId::null(hash);
    let (a, b) = (from.map_or(null, |s| s.1), to.map_or(null, |s| s.1));
    if a == b {
        return Ok(());
    }
    let mode = match (from, to) {
        (Some((a, _)), Some((b, _))) if a == b => format!(" {a:06o}"),
        _ => String::new(),
    };
    line(format!("index {a}..{b}{mode}\n"));
    // Git looks at the first 8000 bytes; a NUL further on has no place in lines of text either.
    if old.contains(&0) || new.contains(&0) {
        out.extend_from_slice(b"GIT binary patch\n");
        literal(new, out)?;
        return literal(old, out);
    }
    if old.is_empty() && new.is_empty() {
        return Ok(());
    }
    header(b"--- ", from.map(|_| (&b"a/"[..], path)), out);
    header(b"+++ ", to.map(|_| (&b"b/"[..], path)), out);
    if old.is_empty() || new.is_empty() || old.len().max(new.len()) > MAX_COMPARED {
        whole(old, new, room, out);
    } else {
        hunks(old, new, out);
    }
    Ok(())
}

/// A name that has a space ends in a tab, so that other tools do not take the rest for a time stamp.
fn header(mark: &[u8], name: Option<(&[u8], &[u8])>, out: &mut Vec<u8>) {
    out.extend_from_slice(mark);
    match name {
        None => out.extend_from_slice(b"/dev/null"),
        Some((prefix, name)) => {
            quote::push(prefix, name, out);
            if name.contains(&b' ') {
                out.push(b'\t');
            }
        }
    }
    out.push(b'\n');
}

fn literal(data: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.extend_from_slice(format!("literal {}\n", data.len()).as_bytes());
    let mut zip = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zip.write_all(data)?;
    base85::encode_lines(&zip.finish()?, out);
    out.push(b'\n');
    Ok(())
}

/// All lines of one side out, all lines of the other in, until there are more than `room` bytes.
fn whole(old: &[u8], new: &[u8], room: usize, out: &mut Vec<u8>) {
    let lines = |text: &[u8]| text.split_inclusive(|b| *b == b'\n').count();
    let range = |len: usize| match len {
        0 => "0,0".to_owned(),
        1 => "1".to_owned(),
        _ => format!("1,{len}"),
    };
    out.extend_from_slice(format!("@@ -{} +{} @@\n", range(lines(old)), range(lines(new))).as_bytes());
    for (mark, text) in [(b'-', old), (b'+', new)] {
        for line in text.split_inclusive(|b| *b == b'\n') {
            if out.len() > room {
                return;
            }
            put_line(mark, line, out);
        }
    }
}

fn put_line(mark: u8, line: &[u8], out: &mut Vec<u8>) {
    out.push(mark);
    out.extend_from_slice(line);
    if !line.ends_with(b"\n") {
        out.extend_from_slice(b"\n\\ No newline at end of file\n");
    }
}

fn hunks(old: &[u8], new: &[u8], out: &mut Vec<u8>) {
    let input = InternedInput::new(old, new);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let mut group: Vec<imara_diff::Hunk> = Vec::new();
    for hunk in diff.hunks() {
        if group.last().is_some_and(|last| hunk.before.start - last.before.end > 2 * CONTEXT) {
            write_group(&input, &group, out);
            group.clear();
        }
        group.push(hunk);
    }
    if !group.is_empty() {
        write_group(&input, &group, out);
    }
}

fn write_group(input: &InternedInput<&[u8]>, group: &[imara_diff::Hunk], out: &mut Vec<u8>) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else {
        return;
    };
    let total = u32::try_from(input.before.len()).unwrap_or(u32::MAX);
    let start = first.before.start.saturating_sub(CONTEXT);
    let lead = first.before.start - start;
    let end = last.before.end.saturating_add(CONTEXT).min(total);
    let trail = end - last.before.end;
    let after_start = first.after.start - lead;
    let after_len = last.after.end + trail - after_start;
    let range = |start: u32, len: u32| match len {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        _ => format!("{},{len}", start + 1),
    };
    out.extend_from_slice(
        format!("@@ -{} +{} @@\n", range(start, end - start), range(after_start, after_len)).as_bytes(),
    );
    let mut put = |mark: u8, token: imara_diff::Token| put_line(mark, input.interner[token], out);
    let mut at = start;
    for hunk in group {
        input.before[at as usize..hunk.before.start as usize].iter().for_each(|t| put(b' ', *t));
        input.before[hunk.before.start as usize..hunk.before.end as usize].iter().for_each(|t| put(b'-', *t));
        input.after[hunk.after.start as usize..hunk.after.end as usize].iter().for_each(|t| put(b'+', *t));
        at = hunk.before.end;
    }
    input.before[at as usize..end as usize].iter().for_each(|t| put(b' ', *t));
}
