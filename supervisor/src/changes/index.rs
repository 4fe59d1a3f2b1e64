//! The index of a work tree, read once into memory (gitformat-index(5)). Nothing here writes.

use filetime::FileTime;

use super::gitfile::{Content, MAX_INDEX};
use super::repo::{Repo, RepoError};

/// An index and when its file was written.
pub struct Index {
    /// Its entries and extensions.
    pub state: gix_index::State,
    /// False where the work tree has no index file.
    pub exists: bool,
}

/// Reads the index of `repo`. A split or sparse index is refused: both are ways to leave entries out of this file.
pub fn read(repo: &Repo) -> Result<Index, RepoError> {
    let own = &repo.dirs().own;
    let path = own.path_of("index");
    let Some(Content { data, stat }) = own.read_stat("index", MAX_INDEX)? else {
        return Ok(Index { state: gix_index::State::new(repo.hash()), exists: false });
    };
    let time = FileTime::from_unix_time(stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
    let (state, checksum) = gix_index::State::from_bytes(&data, time, repo.hash(), Default::default())
        .map_err(|e| RepoError::malformed(&path, e.to_string()))?;
    if let Some(expected) = checksum.filter(|id| !id.is_null()) {
        let mut hasher = gix_hash::hasher(repo.hash());
        hasher.update(&data[..data.len() - repo.hash().len_in_bytes()]);
        if hasher.try_finalize().ok() != Some(expected) {
            return Err(RepoError::malformed(path, "the index's checksum does not match its content"));
        }
    }
    let refuse =
        |what: &str, mend| RepoError::Unsupported { path: path.clone(), what: what.to_owned(), mend };
    if state.link().is_some() {
        return Err(refuse("a split index", "run `git update-index --no-split-index` first"));
    }
    if state.is_sparse() {
        return Err(refuse("a sparse index", "run `git sparse-checkout reapply --no-sparse-index` first"));
    }
    Ok(Index { state, exists: true })
}
