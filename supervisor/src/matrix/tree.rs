//! A work tree as it is, `.git` included, to say afterwards what is not as it was.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Most entries: a row's repository has a few dozen.
const MAX_ENTRIES: usize = 10_000;

/// Kind, mode and content of everything below a directory, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    content: Vec<u8>,
}

impl Snapshot {
    /// Takes one.
    pub(super) fn of(root: &Path) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![root.to_owned()];
        while let Some(path) = waiting.pop() {
            let entry = Entry::of(&path)?;
            let relative = path.strip_prefix(root).map_err(io::Error::other)?.to_owned();
            if fs::symlink_metadata(&path)?.is_dir() {
                for entry in fs::read_dir(&path)? {
                    waiting.push(entry?.path());
                }
            }
            found.insert(relative, entry);
            if found.len() > MAX_ENTRIES {
                return Err(io::Error::other("there are too many files in it"));
            }
        }
        Ok(Self(found))
    }

    /// Takes over what is at this path now, and above it: somebody meant to change it.
    pub(super) fn accept(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        for path in path.ancestors() {
            match Entry::of(&root.join(path)) {
                Ok(entry) => self.0.insert(path.to_owned(), entry),
                Err(e) if e.kind() == io::ErrorKind::NotFound => self.0.remove(path),
                Err(e) => return Err(e),
            };
        }
        Ok(())
    }

    /// What is otherwise in `later`, in words.
    pub(super) fn differences(&self, later: &Self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for (path, entry) in &self.0 {
            let shown = path.display();
            match later.0.get(path) {
                None => all.push(format!("{shown} is gone")),
                Some(now) if now.mode != entry.mode || now.owner != entry.owner => {
                    all.push(format!("{shown} has another kind, mode or owner"));
                }
                Some(now) if now != entry => all.push(format!("{shown} has other content")),
                Some(_) => {}
            }
        }
        all.extend(
            later
                .0
                .keys()
                .filter(|path| !self.0.contains_key(*path))
                .map(|p| format!("{} is new", p.display())),
        );
        all
    }
}

impl Entry {
    fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        let kind = meta.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(path)?.into_os_string().into_encoded_bytes()
        } else if kind.is_file() {
            Sha256::digest(fs::read(path)?).to_vec()
        } else {
            Vec::new()
        };
        Ok(Self { mode: meta.permissions().mode(), owner: (meta.uid(), meta.gid()), content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_named_and_what_was_meant_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("d")).unwrap();
        for name in ["a", "b", "c", "d/e"] {
            fs::write(root.join(name), "1").unwrap();
        }
        let mut before = Snapshot::of(root).unwrap();
        assert_eq!(before.differences(&Snapshot::of(root).unwrap()), Vec::<String>::new());
        fs::remove_file(root.join("a")).unwrap();
        fs::write(root.join("b"), "2").unwrap();
        fs::set_permissions(root.join("c"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("a", root.join("d/n")).unwrap();
        let after = Snapshot::of(root).unwrap();
        assert_eq!(
            before.differences(&after),
            ["a is gone", "b has other content", "c has another kind, mode or owner", "d/n is new"]
        );
        for path in ["a", "b", "d/n"] {
            before.accept(root, Path::new(path)).unwrap();
        }
        assert_eq!(before.differences(&after), ["c has another kind, mode or owner"]);
    }
}
