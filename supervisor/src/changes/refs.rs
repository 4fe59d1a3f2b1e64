//! References of a repository in the `files` storage (gitrepository-layout(5)): HEAD, loose and packed ones.
//! Read only, in this process.

use std::collections::BTreeMap;
use std::path::Path;

use bstr::ByteSlice;
use gix_hash::ObjectId;
use rustix::fs::FileType;

use super::gitfile::{GitDirs, GitFiles, MAX_NAME, MAX_PACKED_REFS};
use super::repo::RepoError;

const MAX_REFS: usize = 1_000_000;
const MAX_DEPTH: usize = 64;

/// What HEAD says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The file's content without its line feed.
    pub raw: Vec<u8>,
    /// The reference it names, unless it is detached.
    pub name: Option<Vec<u8>>,
    /// The commit it leads to; `None` on a branch without commits.
    pub id: Option<ObjectId>,
}

/// Content of one reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An object id.
    Id(ObjectId),
    /// The name of another reference.
    Symbolic(Vec<u8>),
}

/// Reads HEAD of the work tree whose git directories are `dirs`.
pub(crate) fn read_head(dirs: &GitDirs, hash: gix_hash::Kind) -> Result<Head, RepoError> {
    let path = dirs.own.path_of("HEAD");
    let raw = dirs
        .own
        .read("HEAD", MAX_NAME)?
        .ok_or_else(|| RepoError::unreadable(&path, std::io::Error::from(std::io::ErrorKind::NotFound)))?;
    let raw = raw.trim_end_with(|c| c.is_ascii_whitespace()).to_vec();
    let target = parse(&path, &raw, hash)?;
    let name = match &target {
        Target::Symbolic(name) => Some(name.clone()),
        Target::Id(_) => None,
    };
    let mut target = Some(target);
    let mut id = None;
    for _ in 0..6 {
        match target {
            Some(Target::Id(found)) => {
                id = Some(found);
                break;
            }
            Some(Target::Symbolic(name)) => target = lookup(dirs, &name, hash)?,
            None => break,
        }
    }
    Ok(Head { raw, name, id })
}

/// Refs that each linked work tree has for itself (git-worktree(1)).
pub(crate) fn is_per_worktree(name: &[u8]) -> bool {
    !name.starts_with(b"refs/")
        || name.starts_with(b"refs/bisect/")
        || name.starts_with(b"refs/worktree/")
        || name.starts_with(b"refs/rewritten/")
}

fn lookup(dirs: &GitDirs, name: &[u8], hash: gix_hash::Kind) -> Result<Option<Target>, RepoError> {
    let files = if is_per_worktree(name) { &dirs.own } else { &dirs.common };
    match loose(files, name)? {
        Some(text) => parse(&files.path_of(name), &text, hash).map(Some),
        None => Ok(packed(&dirs.common, hash)?.get(name).copied().map(Target::Id)),
    }
}

/// The content of a loose reference; a directory of that name is none (git has the same rule).
fn loose(files: &GitFiles, name: &[u8]) -> Result<Option<Vec<u8>>, RepoError> {
    if files.is_dir(name)? {
        return Ok(None);
    }
    let text = files.read(name, MAX_NAME)?;
    Ok(text.map(|text| text.trim_end_with(|c| c.is_ascii_whitespace()).to_vec()))
}

/// All packed references.
pub(crate) fn packed(
    common: &GitFiles,
    hash: gix_hash::Kind,
) -> Result<BTreeMap<Vec<u8>, ObjectId>, RepoError> {
    let path = common.path_of("packed-refs");
    let Some(text) = common.read("packed-refs", MAX_PACKED_REFS)? else { return Ok(BTreeMap::new()) };
    let mut refs = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with(b"#") && !l.starts_with(b"^")) {
        let (id, name) = line
            .split_once_str(" ")
            .and_then(|(id, name)| Some((ObjectId::from_hex(id).ok().filter(|id| id.kind() == hash)?, name)))
            .ok_or_else(|| RepoError::malformed(&path, "has a line that is not an id and a name"))?;
        check_name(&path, name)?;
        refs.insert(name.to_vec(), id);
    }
    Ok(refs)
}

/// Every reference that this work tree sees, loose ones over packed ones.
pub(crate) fn all(dirs: &GitDirs, hash: gix_hash::Kind) -> Result<BTreeMap<Vec<u8>, Target>, RepoError> {
    let mut found: BTreeMap<_, _> =
        packed(&dirs.common, hash)?.into_iter().map(|(n, id)| (n, Target::Id(id))).collect();
    let mut waiting = vec![(false, b"refs".to_vec(), 0)];
    if dirs.is_linked() {
        for own in [&b"refs/bisect"[..], b"refs/worktree", b"refs/rewritten"] {
            waiting.push((true, own.to_vec(), 1));
        }
    }
    while let Some((own, name, depth)) = waiting.pop() {
        let files = if own { &dirs.own } else { &dirs.common };
        let mut names = Vec::new();
        let mut seen = 0;
        files.list(&name, |bytes, kind| {
            seen += 1;
            if seen + found.len() + waiting.len() > MAX_REFS {
                return Err(RepoError::malformed(files.path_of(&name), "has more than a million references"));
            }
            names.push(([name.as_slice(), b"/", bytes].concat(), kind));
            Ok(())
        })?;
        for (full, kind) in names {
            if !own && dirs.is_linked() && is_per_worktree(&full) {
                continue;
            }
            if kind == FileType::Directory {
                if depth >= MAX_DEPTH {
                    return Err(RepoError::malformed(
                        files.path_of(&full),
                        "references are nested too deeply",
                    ));
                }
                waiting.push((own, full, depth + 1));
            } else if !full.ends_with(b".lock") {
                // Packed in this moment: the packed file was read before, so take it as gone.
                let Some(text) = loose(files, &full)? else { continue };
                let target = parse(&files.path_of(&full), &text, hash)?;
                found.insert(full, target);
            }
        }
    }
    Ok(found)
}

fn parse(path: &Path, text: &[u8], hash: gix_hash::Kind) -> Result<Target, RepoError> {
    if let Some(name) = text.strip_prefix(b"ref:") {
        let name = name.trim_start_with(|c| c == ' ' || c == '\t');
        check_name(path, name)?;
        return Ok(Target::Symbolic(name.to_vec()));
    }
    ObjectId::from_hex(text)
        .ok()
        .filter(|id| id.kind() == hash)
        .map(Target::Id)
        .ok_or_else(|| RepoError::malformed(path, "is neither an object id nor `ref: NAME`"))
}

/// A name must stay beneath the git directory when it is used as a path (git-check-ref-format(1)).
fn check_name(path: &Path, name: &[u8]) -> Result<(), RepoError> {
    let plain = !name.is_empty()
        && name.len() < 4096
        && name.iter().all(|b| *b > 0x20 && *b != 0x7f)
        && name.split(|b| *b == b'/').all(|c| !c.is_empty() && !c.starts_with(b"."));
    if plain {
        Ok(())
    } else {
        Err(RepoError::malformed(path, "names a reference that git would not accept"))
    }
}
