//! What differs between a copy and what it was, as the entries that an overlay's upper layer would hold: changed and new
//! entries as they are, a whiteout for what is gone, and nothing for what nobody touched.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::{MAX_DEPTH, Manifest, Stamp, names_of_all};
use crate::changes::layer::{self, Descend, Entry, Kind, LayerError, Limits};
use crate::changes::tree;

struct Scan<'a, V> {
    manifest: &'a Manifest,
    limits: Limits,
    visit: V,
    found: Vec<Entry>,
    /// Paths of the manifest that are still there, as what they were.
    seen: BTreeSet<Vec<u8>>,
    counted: u64,
}

/// Lists the differences of the copy whose top is `root`, sorted by path. `.git` at the top is not entered. `visit` is
/// asked about every directory, changed or not.
pub fn scan<E: From<LayerError>>(
    root: BorrowedFd<'_>,
    manifest: &Manifest,
    limits: Limits,
    visit: impl FnMut(&[u8], bool) -> Result<Descend, E>,
) -> Result<Vec<Entry>, E> {
    let mut scan = Scan { manifest, limits, visit, found: Vec::new(), seen: BTreeSet::new(), counted: 0 };
    scan.directory(root, &[], 0)?;
    // A directory that was removed reads as an empty one: a copy that somebody outside took away holds no deletions.
    let top = rustix::fs::fstat(root).map_err(|e| io(&[], "fstat", e))?;
    if top.st_nlink == 0 {
        return Err(
            io(&[], "looking for the copy's top, which was removed from outside", Errno::STALE).into()
        );
    }
    scan.gone()?;
    let mut found = scan.found;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn io(path: &[u8], step: &'static str, errno: Errno) -> LayerError {
    LayerError::Io { path: path.to_vec(), step, errno }
}

impl<E: From<LayerError>, V: FnMut(&[u8], bool) -> Result<Descend, E>> Scan<'_, V> {
    fn directory(&mut self, dir: BorrowedFd<'_>, path: &[u8], depth: usize) -> Result<(), E> {
        let limit = self.limits.depth.min(MAX_DEPTH);
        if depth > limit {
            return Err(LayerError::Limit {
                what: "directories within one another",
                limit: limit as u64,
                option: "the limit is fixed, so have the backend make less of them",
            }
            .into());
        }
        for name in names_of_all(dir).map_err(|e| io(path, "getdents64", e))? {
            let full = tree::join(path, name.to_bytes());
            if full == b".git" {
                continue;
            }
            self.one(dir, &name, full, depth)?;
        }
        Ok(())
    }

    fn one(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: Vec<u8>, depth: usize) -> Result<(), E> {
        if path.len() > 4000 {
            return Err(LayerError::Limit {
                what: "bytes in a path",
                limit: 4000,
                option: "the limit is fixed, so have the backend make less of them",
            }
            .into());
        }
        let stat =
            rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| io(&path, "fstatat", e))?;
        let stamp = Stamp::of(&stat);
        let was = self.manifest.entries.get(&path);
        if !stamp.is_dir() {
            if was == Some(&stamp) {
                self.seen.insert(path);
                return Ok(());
            }
            if was.is_some_and(|was| !was.is_dir()) {
                self.seen.insert(path.clone());
            }
            let entry = layer::examine_plain(dir, name, path)?;
            return self.push(entry);
        }
        let known = was.is_some_and(Stamp::is_dir);
        if known {
            self.seen.insert(path.clone());
        }
        // What is masked is an empty directory that nobody may enter, and was so before.
        if known && was.is_some_and(|was| was.mode & 0o777 == 0 && *was == stamp) {
            return Ok(());
        }
        let mut count = None;
        match (self.visit)(&path, false)? {
            Descend::Skip => self.see_beneath(&path),
            Descend::Count => {
                let inner = layer::open_dir(dir, name.into(), &path)?;
                let before = self.counted;
                self.count(inner.as_fd(), &path, depth + 1)?;
                count = Some(self.counted - before + self.count_gone(&path));
                self.see_beneath(&path);
            }
            Descend::Full => {
                let inner = layer::open_dir(dir, name.into(), &path)?;
                self.directory(inner.as_fd(), &path, depth + 1)?;
            }
        }
        // A directory that was there, with nothing of interest beneath, is no entry.
        if known && count.unwrap_or(0) == 0 {
            return Ok(());
        }
        let entry = Entry {
            path,
            kind: Kind::Dir { opaque: false, counted: count },
            mode: stamp.mode & 0o7777,
            nlink: 1,
        };
        self.push(entry)
    }

    fn push(&mut self, entry: Entry) -> Result<(), E> {
        if self.found.len() as u64 >= self.limits.entries {
            return Err(LayerError::Limit {
                what: "changed entries in the copy",
                limit: self.limits.entries,
                option: "--max-files",
            }
            .into());
        }
        self.found.push(entry);
        Ok(())
    }

    /// Counts files beneath that are new or changed.
    fn count(&mut self, dir: BorrowedFd<'_>, path: &[u8], depth: usize) -> Result<(), E> {
        if depth > MAX_DEPTH {
            return Err(io(path, "openat2", Errno::NAMETOOLONG).into());
        }
        for name in names_of_all(dir).map_err(|e| io(path, "getdents64", e))? {
            let full = tree::join(path, name.to_bytes());
            let stat = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| io(&full, "fstatat", e))?;
            let stamp = Stamp::of(&stat);
            let was = self.manifest.entries.get(&full);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                if was.is_some_and(Stamp::is_dir) {
                    self.seen.insert(full.clone());
                }
                let inner = layer::open_dir(dir, name.as_c_str().into(), &full)?;
                self.count(inner.as_fd(), &full, depth + 1)?;
                continue;
            }
            if was.is_some() {
                self.seen.insert(full);
            }
            if was != Some(&stamp) {
                self.counted += 1;
                if self.counted > self.limits.counted {
                    return Err(LayerError::Limit {
                        what: "files in ignored directories",
                        limit: self.limits.counted,
                        option: "the limit is fixed, so have the backend make less of them",
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    fn beneath<'m>(manifest: &'m Manifest, path: &[u8]) -> impl Iterator<Item = (&'m Vec<u8>, &'m Stamp)> {
        let prefix = [path, b"/"].concat();
        manifest.entries.range(prefix.clone()..).take_while(move |(at, _)| at.starts_with(&prefix))
    }

    fn count_gone(&self, path: &[u8]) -> u64 {
        Self::beneath(self.manifest, path)
            .filter(|(at, stamp)| !stamp.is_dir() && !self.seen.contains(*at))
            .count() as u64
    }

    fn see_beneath(&mut self, path: &[u8]) {
        let all: Vec<Vec<u8>> = Self::beneath(self.manifest, path).map(|(at, _)| at.clone()).collect();
        self.seen.extend(all);
    }

    /// A whiteout for every path that is gone, but not for what was beneath it; none where something else stands there.
    fn gone(&mut self) -> Result<(), E> {
        let standing: BTreeSet<Vec<u8>> = self.found.iter().map(|entry| entry.path.clone()).collect();
        let mut gone: BTreeSet<&[u8]> = BTreeSet::new();
        let mut whiteouts = Vec::new();
        // A directory sorts before what is in it.
        for path in self.manifest.entries.keys() {
            let above = tree::split(path).0;
            if self.seen.contains(path) {
                continue;
            }
            gone.insert(path);
            if gone.contains(above) {
                continue;
            }
            if !standing.contains(path) {
                whiteouts.push(path.clone());
            }
        }
        for path in whiteouts {
            self.push(Entry { path, kind: Kind::Whiteout, mode: 0, nlink: 1 })?;
        }
        Ok(())
    }
}
