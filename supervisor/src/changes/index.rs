//! The index of a work tree, read once into memory (gitformat-index(5)). Nothing here writes.

use filetime::FileTime;

use super::gitfile::{Content, MAX_INDEX};
use super::repo::{Repo, RepoError};

/// Most bytes of all paths together.
const MAX_PATHS: u64 = 1 << 30;

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
    if unfolded(&data, repo.hash().len_in_bytes()) > MAX_PATHS {
        let what = format!("its paths unfold to more than the {MAX_PATHS} bytes that are read");
        return Err(RepoError::malformed(path, what));
    }
    // One thread: the table of offsets that several would follow is not checked against what it points to.
    let options = gix_index::decode::Options { thread_limit: Some(1), ..Default::default() };
    let (state, checksum) = gix_index::State::from_bytes(&data, time, repo.hash(), options)
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

/// Bytes that the paths of an index take in memory: in version 4 each is the one before but for its end, so that a
/// small file can hold any amount. Stops where the file is not well formed, as its reader does.
fn unfolded(data: &[u8], hash_len: usize) -> u64 {
    let word = |at: usize| data.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let (Some(4), Some(count)) = (word(4), word(8)) else { return 0 };
    let mut at = 12;
    let (mut len, mut total) = (0u64, 0u64);
    for _ in 0..count {
        let mut next = || {
            let flags = at + 40 + hash_len;
            let extended = data.get(flags)? & 0x40 != 0;
            at = flags + if extended { 4 } else { 2 };
            // The number of bytes to drop, as in a pack's offsets (gitformat-pack(5)).
            let mut byte = *data.get(at)?;
            let mut drop = u64::from(byte & 0x7f);
            while byte & 0x80 != 0 {
                at += 1;
                byte = *data.get(at)?;
                drop = drop.checked_add(1)?.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
            }
            at += 1;
            let rest = data.get(at..)?;
            let end = rest.iter().position(|b| *b == 0)?;
            at += end + 1;
            len.checked_sub(drop)?.checked_add(end as u64)
        };
        let Some(found) = next() else { break };
        len = found;
        total += len;
        if total > MAX_PATHS {
            break;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use crate::changes::testing::Fixture;

    #[test]
    fn an_index_whose_paths_unfold_without_end_is_refused() {
        let f = Fixture::new();
        for i in 0..300 {
            f.write(format!("some/where/file{i}"), "x");
        }
        f.commit();
        f.git(&["update-index", "--index-version", "4"]);
        let repo = f.repo();
        let index = super::read(&repo).unwrap();
        let lengths: usize = index.state.entries().iter().map(|e| e.path(&index.state).len()).sum();
        let file = f.root().join(".git/index");
        assert_eq!(super::unfolded(&std::fs::read(&file).unwrap(), 20), lengths as u64);
        // One long path, and thousands that are the same but for one byte.
        let mut data = b"DIRC\0\0\0\x04\0\x01\0\0".to_vec();
        for i in 0..65_536 {
            data.extend_from_slice(&[0; 62]);
            data.push(u8::from(i > 0));
            data.extend(std::iter::repeat_n(b'a', if i == 0 { 100_000 } else { 1 }));
            data.push(0);
        }
        data.extend_from_slice(&[0; 20]);
        std::fs::write(&file, data).unwrap();
        let Err(error) = super::read(&repo) else { panic!("it was read") };
        assert!(error.to_string().contains("its paths unfold to more than the"), "{error}");
    }
}
