//! A list of file operations that the sandbox's own trusted code carries out inside, before the program starts:
//! how a private `.git`, a patch or a configuration file gets into a tree without anybody outside writing there.
//!
//! The format is a flat byte string that the child walks without allocating: for each operation one byte of
//! kind, `u32` mode, `u32` path length, `u64` data length (little endian), the path and a NUL, the data and a NUL.
//! Paths are relative, have no empty, `.` or `..` component, and are resolved beneath the tree without following
//! symbolic links (openat2(2), `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`).

use std::os::fd::BorrowedFd;

use crate::child::seed::{Below, carry_out};
use crate::fsids::FileSystemIds;

/// Operations, in the order in which they will be carried out.
#[derive(Debug, Default, Clone)]
pub struct Seed {
    bytes: Vec<u8>,
    count: usize,
}

/// Why an operation cannot be part of a seed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SeedError {
    /// The path is empty, absolute, has a NUL byte or a component that is empty, `.` or `..`.
    #[error("a seed's path must be relative and plain: {0:?}")]
    Path(String),
    /// A symbolic link's target is empty or has a NUL byte.
    #[error("a symbolic link's target must be non-empty and free of NUL bytes")]
    Target,
}

/// Kinds of operation; the numbers are the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SeedKind {
    /// Make a directory (and its missing parents, mode 0755); present already is no error.
    Dir = 1,
    /// Write a regular file, replacing what is there; missing parents are made.
    File = 2,
    /// Make a symbolic link, replacing what is there; missing parents are made.
    Symlink = 3,
    /// Remove a file or symbolic link; absent is an error.
    Remove = 4,
    /// Remove an empty directory; one that is absent or not empty is left as it is.
    RemoveDirIfEmpty = 5,
    /// Make a directory that hides the lower layer's of the same name (only before the overlay is mounted).
    OpaqueDir = 6,
}

impl Seed {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without operations.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The list in the format above.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Carries the operations out beneath a plain directory, here and now, as the file system ids given where there are
    /// any (root, for a sandbox): level `landlock` has no other way. An opaque directory is a new one there.
    ///
    /// # Errors
    /// The kernel's; a part may have been done.
    pub fn apply(&self, root: BorrowedFd<'_>, ids: Option<(u32, u32)>) -> std::io::Result<()> {
        let _ids = ids.map(|(uid, gid)| FileSystemIds::take(uid, gid));
        carry_out(root, &self.bytes, Below::PlainDirectory).map_err(std::io::Error::from)
    }

    /// Appends [`SeedKind::Dir`] with permission bits `mode`.
    pub fn dir(&mut self, path: &[u8], mode: u32) -> Result<(), SeedError> {
        self.push(SeedKind::Dir, mode, path, &[])
    }

    /// Appends [`SeedKind::OpaqueDir`] with permission bits `mode`.
    pub fn opaque_dir(&mut self, path: &[u8], mode: u32) -> Result<(), SeedError> {
        self.push(SeedKind::OpaqueDir, mode, path, &[])
    }

    /// Appends [`SeedKind::File`] with permission bits `mode`.
    pub fn file(&mut self, path: &[u8], mode: u32, content: &[u8]) -> Result<(), SeedError> {
        self.push(SeedKind::File, mode, path, content)
    }

    /// Appends [`SeedKind::Symlink`].
    pub fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), SeedError> {
        if target.is_empty() || target.contains(&0) {
            return Err(SeedError::Target);
        }
        self.push(SeedKind::Symlink, 0o777, path, target)
    }

    /// Appends [`SeedKind::Remove`].
    pub fn remove(&mut self, path: &[u8]) -> Result<(), SeedError> {
        self.push(SeedKind::Remove, 0, path, &[])
    }

    /// Appends [`SeedKind::RemoveDirIfEmpty`].
    pub fn remove_dir_if_empty(&mut self, path: &[u8]) -> Result<(), SeedError> {
        self.push(SeedKind::RemoveDirIfEmpty, 0, path, &[])
    }

    fn push(&mut self, kind: SeedKind, mode: u32, path: &[u8], data: &[u8]) -> Result<(), SeedError> {
        let plain = !path.is_empty()
            && !path.contains(&0)
            && path.split(|b| *b == b'/').all(|c| !c.is_empty() && c != b"." && c != b"..");
        let Ok(path_len) = u32::try_from(path.len()) else {
            return Err(SeedError::Path(String::from_utf8_lossy(path).into_owned()));
        };
        if !plain {
            return Err(SeedError::Path(String::from_utf8_lossy(path).into_owned()));
        }
        self.bytes.push(kind as u8);
        self.bytes.extend_from_slice(&mode.to_le_bytes());
        self.bytes.extend_from_slice(&path_len.to_le_bytes());
        self.bytes.extend_from_slice(&(data.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(path);
        self.bytes.push(0);
        self.bytes.extend_from_slice(data);
        self.bytes.push(0);
        self.count += 1;
        Ok(())
    }
}
