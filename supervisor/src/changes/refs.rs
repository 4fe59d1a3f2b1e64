//! References of a repository in the `files` storage (gitrepository-layout(5)): HEAD, loose and packed ones.
//! Read only, in this process.

use std::collections::BTreeMap;
use std::path::Path;

use bstr::ByteSlice;
use gix_hash::ObjectId;

use super::repo::{RepoError, bytes_path};

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

/// Reads HEAD of the work tree whose git directory is `git_dir`.
pub(crate) fn read_head(git_dir: &Path, common_dir: &Path, hash: gix_hash::Kind) -> Result<Head, RepoError> {
    let path = git_dir.join("HEAD");
    let raw = std::fs::read(&path).map_err(|e| RepoError::unreadable(&path, e))?;
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
            Some(Target::Symbolic(name)) => target = lookup(git_dir, common_dir, &name, hash)?,
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

fn lookup(
    git_dir: &Path,
    common_dir: &Path,
    name: &[u8],
    hash: gix_hash::Kind,
) -> Result<Option<Target>, RepoError> {
    let dir = if is_per_worktree(name) { git_dir } else { common_dir };
    let path = dir.join(bytes_path(name));
    match std::fs::read(&path) {
        Ok(text) => return parse(&path, text.trim_end_with(|c| c.is_ascii_whitespace()), hash).map(Some),
        Err(e) if matches!(e.raw_os_error(), Some(2 | 20 | 21)) => {}
        Err(e) => return Err(RepoError::unreadable(path, e)),
    }
    Ok(packed(common_dir, hash)?.get(name).copied().map(Target::Id))
}

/// All packed references.
pub(crate) fn packed(
    common_dir: &Path,
    hash: gix_hash::Kind,
) -> Result<BTreeMap<Vec<u8>, ObjectId>, RepoError> {
    let path = common_dir.join("packed-refs");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(RepoError::unreadable(path, e)),
    };
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
pub(crate) fn all(
    git_dir: &Path,
    common_dir: &Path,
    hash: gix_hash::Kind,
) -> Result<BTreeMap<Vec<u8>, Target>, RepoError> {
    let mut found: BTreeMap<_, _> =
        packed(common_dir, hash)?.into_iter().map(|(n, id)| (n, Target::Id(id))).collect();
    let mut dirs = vec![(common_dir, b"refs".to_vec(), 0)];
    if git_dir != common_dir {
        for own in [&b"refs/bisect"[..], b"refs/worktree", b"refs/rewritten"] {
            dirs.push((git_dir, own.to_vec(), 1));
        }
    }
    while let Some((base, name, depth)) = dirs.pop() {
        let path = base.join(bytes_path(&name));
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(RepoError::unreadable(path, e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| RepoError::unreadable(&path, e))?;
            let mut full = name.clone();
            full.push(b'/');
            full.extend_from_slice(std::os::unix::ffi::OsStrExt::as_bytes(entry.file_name().as_os_str()));
            if base == common_dir && git_dir != common_dir && is_per_worktree(&full) {
                continue;
            }
            let kind = entry.file_type().map_err(|e| RepoError::unreadable(entry.path(), e))?;
            if kind.is_dir() {
                if depth >= MAX_DEPTH {
                    return Err(RepoError::malformed(entry.path(), "references are nested too deeply"));
                }
                dirs.push((base, full, depth + 1));
            } else if !full.ends_with(b".lock") {
                let text = match std::fs::read(entry.path()) {
                    Ok(text) => text,
                    // Packed in this moment: the packed file was read before, so take it as gone.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(RepoError::unreadable(entry.path(), e)),
                };
                let target = parse(&entry.path(), text.trim_end_with(|c| c.is_ascii_whitespace()), hash)?;
                found.insert(full, target);
            }
            if found.len() > MAX_REFS {
                return Err(RepoError::malformed(&path, "has more than a million references"));
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
