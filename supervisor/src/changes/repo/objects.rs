//! Which object directories a repository has, and whether they are what they are said to be.
//!
//! `objects/info/alternates` can name any directory of the machine, and what it names is shown to a sandbox: so it
//! must look like an object directory and like nothing else (gitrepository-layout(5)). Links and special files are
//! refused everywhere, because the reader of objects opens by path.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::RepoError;
use crate::changes::gitfile::GitFiles;
use crate::changes::show;

/// Most bytes of `objects/info/alternates`.
const MAX_ALTERNATES: u64 = 64 << 10;
/// Alternates within one another, as git has it.
const MAX_DEPTH: usize = 5;
/// Object directories of one repository.
const MAX_DIRS: usize = 32;
/// Names in object directories: far more than anybody has loose.
const MAX_NAMES: usize = 5_000_000;

/// The object directories below `common` and by its alternates, in the order in which they are searched.
pub(super) fn resolve(common: &GitFiles, root: &Path) -> Result<Vec<PathBuf>, RepoError> {
    let own = common.path_of("objects");
    if !common.is_dir("objects")? {
        return Err(RepoError::malformed(own, "is no directory"));
    }
    let mut names = 0;
    let mut found = Vec::new();
    let mut waiting = vec![(own.clone(), 0, None::<PathBuf>)];
    while let Some((dir, depth, named_by)) = waiting.pop() {
        if found.contains(&dir) {
            continue;
        }
        if depth > MAX_DEPTH || found.len() >= MAX_DIRS {
            let by = named_by.unwrap_or(dir);
            return Err(RepoError::malformed(by, "alternates are too many, or nested too deeply"));
        }
        let files = GitFiles::open(&dir)?;
        check(&files, named_by.as_deref(), &mut names)?;
        let list = files.path_of("info/alternates");
        let text = files.read("info/alternates", MAX_ALTERNATES)?.unwrap_or_default();
        let entries =
            gix_odb::alternate::parse(&text).map_err(|e| RepoError::malformed(&list, e.to_string()))?;
        for entry in entries.into_iter().rev() {
            if depth > 0 && entry.is_relative() {
                return Err(RepoError::Unsupported {
                    path: list,
                    what: "a relative path in an alternate's own alternates".to_owned(),
                    mend: "write the absolute path there",
                });
            }
            let path = dir.join(entry);
            let real = std::fs::canonicalize(&path)
                .map_err(|e| RepoError::malformed(&list, format!("names {}: {e}", path.display())))?;
            waiting.push((real, depth + 1, Some(list.clone())));
        }
        found.push(dir);
    }
    // The reader of objects follows the alternates by itself: it must have come to the same directories.
    let list = common.path_of("objects/info/alternates");
    let theirs = gix_odb::alternate::resolve(own, root)
        .map_err(|e| RepoError::malformed(&list, e.to_string()))?
        .into_iter()
        .map(|dir| std::fs::canonicalize(&dir).map_err(|e| RepoError::unreadable(dir, e)))
        .collect::<Result<Vec<_>, _>>()?;
    if theirs.iter().any(|dir| !found.contains(dir)) {
        return Err(RepoError::malformed(list, "changed while it was read"));
    }
    Ok(found)
}

/// Refuses links and special files in an object directory, and in one that another repository's list names also
/// everything that git would not have put there.
fn check(files: &GitFiles, named_by: Option<&Path>, names: &mut usize) -> Result<(), RepoError> {
    let mut dirs = vec![Vec::new()];
    while let Some(dir) = dirs.pop() {
        files.list(if dir.is_empty() { b"." } else { dir.as_slice() }, |name, kind| {
            let full = crate::changes::tree::join(&dir, name);
            *names += 1;
            if *names > MAX_NAMES {
                return Err(RepoError::malformed(
                    files.path_of(&full),
                    "there are too many files here; run `git gc`",
                ));
            }
            let is_dir = match kind {
                FileType::Directory => true,
                FileType::RegularFile => false,
                FileType::Symlink => return Err(files.link(&full)),
                _ => return Err(RepoError::malformed(files.path_of(&full), "is no regular file")),
            };
            if let Some(list) = named_by
                && !known(&dir, name, is_dir)
            {
                let what = format!(
                    "names {}, which is no object directory: git would have no {} there",
                    files.path().display(),
                    show(&full)
                );
                return Err(RepoError::malformed(list, what));
            }
            if is_dir {
                dirs.push(full);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// What git puts into an object directory (gitrepository-layout(5), git-pack-objects(1), `commit-graph`).
fn known(dir: &[u8], name: &[u8], is_dir: bool) -> bool {
    let hex = |s: &[u8]| !s.is_empty() && s.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let temporary = name.starts_with(b"tmp_");
    match (dir, is_dir) {
        (b"", true) => name.len() == 2 && hex(name) || matches!(name, b"pack" | b"info"),
        (b"", false) => temporary,
        (b"pack", true) => name == b"multi-pack-index.d",
        (b"pack", false) => {
            let ends = |ends: &[&[u8]]| ends.iter().any(|e| name.ends_with(e));
            temporary
                || name.starts_with(b".tmp-")
                || name.starts_with(b"multi-pack-index")
                || name.starts_with(b"pack-")
                    && ends(&[b".pack", b".idx", b".rev", b".bitmap", b".keep", b".promisor", b".mtimes"])
        }
        (b"pack/multi-pack-index.d", false) => name.starts_with(b"multi-pack-index-"),
        (b"info", true) => name == b"commit-graphs",
        (b"info", false) => {
            temporary || matches!(name, b"packs" | b"alternates" | b"http-alternates" | b"commit-graph")
        }
        (b"info/commit-graphs", false) => name == b"commit-graph-chain" || name.starts_with(b"graph-"),
        (_, false) => temporary || matches!(name.len(), 38 | 62) && hex(name),
        (_, true) => false,
    }
}
