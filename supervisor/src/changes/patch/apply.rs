//! Applies a parsed patch to the base tree in memory and gives the id of the result. Exact: every old object and
//! every context line must be there, and every new object must have the id that the patch says.

use std::collections::BTreeMap;

use gix_hash::ObjectId;
use sha2::{Digest as _, Sha256};

use super::super::repo::{Odb, Repo, RepoError, blob_id};
use super::super::show;
use super::super::tree::{DIR, Edit, Entry, TreeError, TreeView};
use crate::event::hex;

use super::parse::{Body, Hunk, ParseError, Part, parse};

/// Why a patch does not apply.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It is larger than the limit.
    #[error("the patch is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The repository could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The changes make no tree.
    #[error("the patch makes no tree: {0}")]
    Tree(#[from] TreeError),
    /// A part does not fit the base.
    #[error("the patch does not apply to the base: {}: {what}", show(.path))]
    Mismatch {
        /// The path.
        path: Vec<u8>,
        /// What does not fit.
        what: &'static str,
    },
}

/// The id of the tree that the patch `text` makes of the tree `base` of `repo`. Writes nothing, runs nothing.
pub fn apply(repo: &Repo, base: ObjectId, text: &[u8], limit: u64) -> Result<ObjectId, ApplyError> {
    apply_to(repo.odb(), base, text, limit).map(|(tree, _)| tree)
}

/// Size and SHA-256 (lower-case hex) of a content.
pub type Content = (u64, String);

/// What a part of a patch makes of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The path.
    pub path: Vec<u8>,
    /// Before; null where there was no file.
    pub old: Option<Content>,
    /// After.
    pub new: Option<Content>,
}

fn content(bytes: &[u8]) -> Content {
    (bytes.len() as u64, hex::encode(&Sha256::digest(bytes)))
}

/// The same, of the tree `base` among the objects `odb`; and what each part made of what.
pub fn apply_to(
    odb: Odb,
    base: ObjectId,
    text: &[u8],
    limit: u64,
) -> Result<(ObjectId, Vec<Applied>), ApplyError> {
    let hash = odb.hash();
    if text.len() as u64 > limit {
        return Err(ApplyError::TooLarge { limit });
    }
    // Old and new content of what was packed; a patch that unpacks to far more is refused.
    let parts = parse(text, hash, limit.saturating_mul(32))?;
    let view = TreeView::new(odb, base);
    let mut edits: BTreeMap<Vec<u8>, Edit> = BTreeMap::new();
    let mut applied = Vec::with_capacity(parts.len());
    for part in &parts {
        let mismatch = |what| ApplyError::Mismatch { path: part.path.clone(), what };
        // A second part for a path is the addition that follows a removal.
        let was = match edits.get(&part.path) {
            None => view.entry(&part.path)?,
            Some(None) if part.old_mode.is_none() => None,
            Some(_) => return Err(mismatch("it is changed twice")),
        };
        let (edit, old, new) = one(&view, part, was, hash).map_err(|e| match e {
            Fault::Mismatch(what) => mismatch(what),
            Fault::Repo(e) => e.into(),
        })?;
        edits.insert(part.path.clone(), edit);
        applied.push(Applied { path: part.path.clone(), old, new });
    }
    Ok((view.result_id(&edits)?, applied))
}

enum Fault {
    Mismatch(&'static str),
    Repo(RepoError),
}

impl From<RepoError> for Fault {
    fn from(e: RepoError) -> Self {
        Self::Repo(e)
    }
}

/// An edit, and the content before and after it.
type Done = (Edit, Option<Content>, Option<Content>);

fn one(view: &TreeView, part: &Part<'_>, was: Option<Entry>, hash: gix_hash::Kind) -> Result<Done, Fault> {
    let old = match (part.old_mode, was) {
        (None, None) => None,
        // A directory may go when all beneath it goes; the tree decides at the end.
        (None, Some(e)) if e.mode == DIR => None,
        (None, Some(_)) => return Err(Fault::Mismatch("it is added and is there")),
        (Some(mode), Some(e)) if e.mode == mode => Some(e),
        _ => return Err(Fault::Mismatch("it is not there, or has another mode")),
    };
    let Some((old_id, new_id)) = part.ids else {
        let Some(e) = old else {
            return Err(Fault::Mismatch("it is not there"));
        };
        // Another mode, the same content.
        let same = content(&view.odb().blob(&e.id)?);
        let new = part.new_mode.map(|_| same.clone());
        return Ok((part.new_mode.map(|mode| (mode, e.id)), Some(same), new));
    };
    let before = match &old {
        None => Vec::new(),
        Some(e) if e.id == old_id => view.odb().blob(&e.id)?,
        Some(_) => {
            return Err(Fault::Mismatch("its content is not the one that the patch was made from"));
        }
    };
    let old_content = old.is_some().then(|| content(&before));
    let after = match &part.body {
        Body::None => {
            if !before.is_empty() {
                return Err(Fault::Mismatch("the patch has no content for it"));
            }
            Vec::new()
        }
        Body::Text(hunks) => {
            merge(&before, hunks).ok_or(Fault::Mismatch("its lines are not those of the patch"))?
        }
        Body::Binary { new, old } => {
            if *old != before {
                return Err(Fault::Mismatch("its content is not the one that the patch was made from"));
            }
            new.clone()
        }
    };
    let Some(mode) = part.new_mode else {
        return if after.is_empty() {
            Ok((None, old_content, None))
        } else {
            Err(Fault::Mismatch("it is removed, but not all of it"))
        };
    };
    if blob_id(hash, &after)? != new_id {
        return Err(Fault::Mismatch("its new content does not have the id that the patch says"));
    }
    Ok((Some((mode, new_id)), old_content, Some(content(&after))))
}

/// The new content; `None` where a line is not what a hunk says, at the place where it says so.
fn merge(before: &[u8], hunks: &[Hunk<'_>]) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = before.split_inclusive(|b| *b == b'\n').collect();
    let mut out = Vec::with_capacity(before.len());
    let (mut at, mut written) = (0usize, 0usize);
    for hunk in hunks {
        let start = if hunk.old_len == 0 { hunk.old_start } else { hunk.old_start.checked_sub(1)? };
        for line in lines.get(at..start)? {
            out.extend_from_slice(line);
        }
        written = written.checked_add(start - at)?;
        at = start;
        let new_start = if hunk.new_len == 0 { hunk.new_start } else { hunk.new_start.checked_sub(1)? };
        if new_start != written {
            return None;
        }
        for line in &hunk.lines {
            if line.mark != b'+' {
                if *lines.get(at)? != line.text {
                    return None;
                }
                at += 1;
            }
            if line.mark != b'-' {
                if !out.is_empty() && !out.ends_with(b"\n") {
                    return None;
                }
                out.extend_from_slice(line.text);
                written += 1;
            }
        }
    }
    for line in lines.get(at..)? {
        if !out.is_empty() && !out.ends_with(b"\n") {
            return None;
        }
        out.extend_from_slice(line);
    }
    Some(out)
}
