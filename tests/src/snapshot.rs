//! A work tree bit for bit: every path's type, mode, owner, times, content, and the directory's own, `.git` included.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// What a tree was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeSnapshot(BTreeMap<PathBuf, String>);

impl TreeSnapshot {
    /// Of the tree at `root` now.
    pub fn of(root: &Path) -> Self {
        let mut entries = BTreeMap::new();
        add(root, &mut entries);
        Self(entries)
    }

    /// What differs, in words; empty where nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut all: Vec<&PathBuf> = self.0.keys().chain(other.0.keys()).collect();
        all.sort();
        all.dedup();
        all.into_iter()
            .filter(|path| self.0.get(*path) != other.0.get(*path))
            .map(|path| format!("{}: {:?} -> {:?}", path.display(), self.0.get(path), other.0.get(path)))
            .collect()
    }
}

fn add(path: &Path, entries: &mut BTreeMap<PathBuf, String>) {
    let meta = fs::symlink_metadata(path).expect("lstat");
    let content = if meta.is_symlink() {
        format!("{:x?}", fs::read_link(path).expect("readlink").as_os_str().as_bytes())
    } else if meta.is_file() {
        format!("{:x?}", Sha256::digest(fs::read(path).expect("read")))
    } else {
        String::new()
    };
    // Not the access time: reading is no change.
    let line = format!(
        "ino {} mode {:o} uid {} gid {} nlink {} size {} mtime {}.{} ctime {}.{} {content}",
        meta.ino(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.nlink(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    );
    entries.insert(path.to_owned(), line);
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("readdir") {
            add(&entry.expect("readdir").path(), entries);
        }
    }
}
