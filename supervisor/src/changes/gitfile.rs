//! The one way to read a file of a git directory: beneath a descriptor that was opened once, through no symbolic
//! link, regular files alone, and never more than a limit. Nothing else below a git directory is opened by path.
//!
//! Whoever made the repository also made these files, and they are read with Proctor's own rights: a link could
//! name any file of the host, a fifo would never end, and a device never stops (openat2(2)).

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use super::repo::{RepoError, bytes_path};

/// Most bytes of `config` and `config.worktree`.
pub(crate) const MAX_CONFIG: u64 = 4 << 20;
/// Most bytes of HEAD, of a loose reference and of `gitdir`, `commondir`: a name, and a path.
pub(crate) const MAX_NAME: u64 = 8 << 10;
/// Most bytes of `packed-refs`.
pub(crate) const MAX_PACKED_REFS: u64 = 256 << 20;
/// Most bytes of the index: some millions of entries.
pub(crate) const MAX_INDEX: u64 = 1 << 30;
/// Most bytes of `shallow`.
pub(crate) const MAX_SHALLOW: u64 = 4 << 20;
/// Most bytes of `info/sparse-checkout`.
pub(crate) const MAX_SPARSE: u64 = 1 << 20;

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A directory whose files are read; opened once.
#[derive(Debug)]
pub(crate) struct GitFiles {
    path: PathBuf,
    fd: OwnedFd,
}

/// A file's content and when it was written.
pub(crate) struct Content {
    pub(crate) data: Vec<u8>,
    pub(crate) stat: rustix::fs::Stat,
}

impl GitFiles {
    /// Opens a directory by its canonical path.
    pub(crate) fn open(path: &Path) -> Result<Self, RepoError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| RepoError::unreadable(path, e))?;
        Ok(Self { path: path.to_owned(), fd })
    }

    /// Where it is, for messages and comparisons.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file `name` is, for messages.
    pub(crate) fn path_of(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.path.join(bytes_path(name.as_ref()))
    }

    /// The content of the file `name`; `None` where there is none.
    pub(crate) fn read(&self, name: impl AsRef<[u8]>, limit: u64) -> Result<Option<Vec<u8>>, RepoError> {
        Ok(self.read_stat(name, limit)?.map(|c| c.data))
    }

    /// As [`Self::read`], with the file's status.
    pub(crate) fn read_stat(&self, name: impl AsRef<[u8]>, limit: u64) -> Result<Option<Content>, RepoError> {
        let name = name.as_ref();
        // What is no regular file is not even opened: a device may act on that alone.
        let Some(fd) = self.openat(name, OFlags::PATH | OFlags::NOFOLLOW)? else { return Ok(None) };
        self.check(name, &rustix::fs::fstat(&fd).map_err(|e| self.unreadable(name, e))?, limit)?;
        let Some(fd) = self.openat(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)? else {
            return Ok(None);
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| self.unreadable(name, e))?;
        let size = self.check(name, &stat, limit)?;
        let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        std::fs::File::from(fd)
            .take(limit + 1)
            .read_to_end(&mut data)
            .map_err(|e| RepoError::unreadable(self.path_of(name), e))?;
        if data.len() as u64 > limit {
            return Err(self.too_large(name, limit));
        }
        Ok(Some(Content { data, stat }))
    }

    /// The names in the directory `name` and what they are; `None` where there is no such directory. `each` stops
    /// the reading with its error.
    pub(crate) fn list(
        &self,
        name: impl AsRef<[u8]>,
        mut each: impl FnMut(&[u8], FileType) -> Result<(), RepoError>,
    ) -> Result<bool, RepoError> {
        let name = name.as_ref();
        let Some(fd) = self.openat(name, OFlags::RDONLY | OFlags::DIRECTORY)? else { return Ok(false) };
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut raw = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(|e| self.unreadable(name, e))?;
            let bytes = entry.file_name().to_bytes();
            if matches!(bytes, b"." | b"..") {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                kind = match rustix::fs::statat(&fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(self.unreadable(name, e)),
                };
            }
            each(bytes, kind)?;
        }
        Ok(true)
    }

    /// True where `name` is a directory, not a link to one.
    pub(crate) fn is_dir(&self, name: impl AsRef<[u8]>) -> Result<bool, RepoError> {
        Ok(self.openat(name.as_ref(), OFlags::PATH | OFlags::DIRECTORY)?.is_some())
    }

    fn openat(&self, name: &[u8], flags: OFlags) -> Result<Option<OwnedFd>, RepoError> {
        match rustix::fs::openat2(&self.fd, name, flags | OFlags::CLOEXEC, Mode::empty(), RESOLVE) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::LOOP | Errno::XDEV) => Err(self.link(name)),
            Err(e) => Err(self.unreadable(name, e)),
        }
    }

    fn check(&self, name: &[u8], stat: &rustix::fs::Stat, limit: u64) -> Result<u64, RepoError> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(self.link(name)),
            _ => return Err(RepoError::malformed(self.path_of(name), "is no regular file")),
        }
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > limit { Err(self.too_large(name, limit)) } else { Ok(size) }
    }

    pub(crate) fn link(&self, name: impl AsRef<[u8]>) -> RepoError {
        RepoError::Unsupported {
            path: self.path_of(name),
            what: "a symbolic link inside a git directory".to_owned(),
            mend: "it could name any file of this machine; put what it leads to in its place",
        }
    }

    fn too_large(&self, name: &[u8], limit: u64) -> RepoError {
        RepoError::malformed(self.path_of(name), format!("holds more than the {limit} bytes that are read"))
    }

    fn unreadable(&self, name: &[u8], e: Errno) -> RepoError {
        RepoError::unreadable(self.path_of(name), e)
    }
}

/// The two directories of a work tree's repository; one and the same but for a linked work tree.
#[derive(Debug)]
pub(crate) struct GitDirs {
    /// What is this work tree's own.
    pub(crate) own: GitFiles,
    /// What all linked work trees share.
    pub(crate) common: GitFiles,
}

impl GitDirs {
    /// True for a linked work tree.
    pub(crate) fn is_linked(&self) -> bool {
        self.own.path() != self.common.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_and_through_no_link_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("git/info")).unwrap();
        std::fs::write(root.join("secret"), "secret").unwrap();
        std::fs::write(root.join("git/plain"), "12345").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("git/out")).unwrap();
        std::os::unix::fs::symlink("plain", root.join("git/in")).unwrap();
        std::os::unix::fs::symlink("info", root.join("git/dir")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", root.join("git/zero")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("git/fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let git = GitFiles::open(&root.join("git")).unwrap();
        let said = |name: &str, limit| git.read(name, limit).unwrap_err().to_string();
        assert_eq!(git.read("plain", 5).unwrap().unwrap(), b"12345");
        assert!(said("plain", 4).contains("holds more than the 4 bytes that are read"));
        for link in ["out", "in", "zero", "dir/x"] {
            let text = said(link, 100);
            assert!(text.contains(&format!("git/{link}: a symbolic link inside a git directory is not supported; it could name any file")), "{text}");
        }
        assert!(said("fifo", 100).contains("git/fifo: is no regular file"));
        assert!(said("info", 100).contains("git/info: is no regular file"));
        assert!(
            said("../secret", 100).contains("a symbolic link")
                || said("../secret", 100).contains("cannot read")
        );
        assert!(git.read("none", 5).unwrap().is_none() && git.read("plain/below", 5).unwrap().is_none());
        assert!(git.is_dir("info").unwrap() && git.is_dir("dir").is_err() && !git.is_dir("plain").unwrap());
    }
}
