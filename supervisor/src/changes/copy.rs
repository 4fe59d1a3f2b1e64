//! A private copy of the work tree, for level `landlock`, where nothing can be mounted: how it is made, what it was when
//! it was made, and what differs from that afterwards, told as an overlay's upper layer would tell it.
//!
//! Descent is by descriptors only. The repository's `.git` is not copied; the backend gets a view of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::{show, tree};

mod scan;
#[cfg(test)]
mod tests;

pub use scan::scan;

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// Bytes that are copied between two looks at whether to stop.
const CHUNK: u64 = 16 << 20;
/// Directories within one another.
const MAX_DEPTH: usize = 200;
/// Longer than any tick of the clock that the kernel stamps files with: what is changed after the copy was made has a
/// later time than the copy's own.
const TICK: std::time::Duration = std::time::Duration::from_millis(20);

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Something in the work tree cannot be read, or its copy not be written.
    #[error(
        "the work tree cannot be copied, as level landlock needs it: {}: {step}: {errno}; see that whoever runs proctor may read all of it and that there is space",
        show(.path)
    )]
    Io {
        /// Path in the work tree.
        path: Vec<u8>,
        /// The call.
        step: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// More than the copy may hold.
    #[error(
        "the work tree holds more than {limit} bytes, and level landlock works on a copy of it; raise --disk"
    )]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// Whoever wanted it wants it no more.
    #[error("the copy of the work tree was given up")]
    Stopped,
    /// Too deep.
    #[error("the work tree has more than {MAX_DEPTH} directories within one another at {}; level landlock cannot copy that", show(.path))]
    TooDeep {
        /// Path in the work tree.
        path: Vec<u8>,
    },
}

/// What one entry of the copy was when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    /// File type and permission bits.
    mode: u32,
    size: i64,
    ino: u64,
    /// Seconds and nanoseconds. The change time is the kernel's own: nobody inside can set it back.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        // The fields' types differ between architectures.
        #[expect(clippy::useless_conversion, reason = "other widths on some architectures")]
        Self {
            mode: stat.st_mode,
            size: stat.st_size,
            ino: stat.st_ino,
            modified: (stat.st_mtime.into(), stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime.into(), stat.st_ctime_nsec as i64),
        }
    }

    fn is_dir(&self) -> bool {
        self.mode & 0o170000 == 0o040000
    }
}

/// What the copy was when it was made: every path but `.git` at the top.
#[derive(Debug, Default)]
pub struct Manifest {
    entries: BTreeMap<Vec<u8>, Stamp>,
}

/// How a copy is made.
#[derive(Debug)]
pub struct CopyOptions<'a> {
    /// Paths that are hidden: an empty file or directory of mode 000 stands for each.
    pub hidden: &'a BTreeSet<Vec<u8>>,
    /// Whose the copy is to be, where that is somebody else.
    pub owner: Option<(u32, u32)>,
    /// Bytes of all files together.
    pub max_bytes: u64,
    /// Once this is set there is nothing to go on for.
    pub stop: &'a AtomicBool,
}

struct Copier<'a> {
    options: &'a CopyOptions<'a>,
    bytes: u64,
}

/// Copies the tree at `from` into the empty directory `to`, but for `.git` at the top. Modes and modification times are
/// kept; what is no file, directory or link is left out.
///
/// # Errors
/// See [`CopyError`]; a part of the copy may be there.
pub fn make(from: BorrowedFd<'_>, to: BorrowedFd<'_>, options: &CopyOptions<'_>) -> Result<(), CopyError> {
    let mut copier = Copier { options, bytes: 0 };
    copier.directory(from, to, &[], 0)
}

/// Notes what is in the copy, once everything that Proctor itself puts there is in it. Waits for the clock to move on, so
/// that every later change shows.
///
/// # Errors
/// See [`CopyError`].
pub fn take_manifest(copy: BorrowedFd<'_>) -> Result<Manifest, CopyError> {
    let mut manifest = Manifest::default();
    note(copy, &[], 0, &mut manifest)?;
    std::thread::sleep(TICK);
    Ok(manifest)
}

fn failed(path: &[u8], step: &'static str) -> impl Fn(Errno) -> CopyError {
    let path = path.to_vec();
    move |errno| CopyError::Io { path: path.clone(), step, errno }
}

fn open_dir(parent: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<OwnedFd, CopyError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(parent, name, flags, Mode::empty(), RESOLVE).map_err(failed(path, "openat2"))
}

/// Names in a directory, without `.`, `..` and, at the top, `.git`.
fn names(dir: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<std::ffi::CString>, CopyError> {
    let mut found = Vec::new();
    let entries = Dir::read_from(dir).map_err(failed(path, "getdents64"))?;
    for entry in entries {
        let entry = entry.map_err(failed(path, "getdents64"))?;
        let name = entry.file_name();
        let skipped =
            matches!(name.to_bytes(), b"." | b"..") || path.is_empty() && name.to_bytes() == b".git";
        if !skipped {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

fn note(dir: BorrowedFd<'_>, path: &[u8], depth: usize, manifest: &mut Manifest) -> Result<(), CopyError> {
    if depth > MAX_DEPTH {
        return Err(CopyError::TooDeep { path: path.to_vec() });
    }
    for name in names(dir, path)? {
        let full = tree::join(path, name.to_bytes());
        let stat =
            rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed(&full, "fstatat"))?;
        let stamp = Stamp::of(&stat);
        // A masked directory is empty, and may not be looked into.
        if stamp.is_dir() && stamp.mode & 0o700 == 0o700 {
            note(open_dir(dir, &name, &full)?.as_fd(), &full, depth + 1, manifest)?;
        }
        manifest.entries.insert(full, stamp);
    }
    Ok(())
}

impl Copier<'_> {
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &[u8],
        depth: usize,
    ) -> Result<(), CopyError> {
        if depth > MAX_DEPTH {
            return Err(CopyError::TooDeep { path: path.to_vec() });
        }
        for name in names(from, path)? {
            self.go_on()?;
            let full = tree::join(path, name.to_bytes());
            let stat = rustix::fs::statat(from, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed(&full, "fstatat"))?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if self.options.hidden.contains(&full) && kind != FileType::Symlink {
                self.placeholder(to, &name, &full, kind == FileType::Directory)?;
                continue;
            }
            match kind {
                FileType::Directory => {
                    rustix::fs::mkdirat(to, &name, Mode::RWXU).map_err(failed(&full, "mkdirat"))?;
                    let inner = open_dir(to, &name, &full)?;
                    self.directory(open_dir(from, &name, &full)?.as_fd(), inner.as_fd(), &full, depth + 1)?;
                    self.own(&inner, &full)?;
                    // The owner's rights stay: without them nothing could be done in a private copy.
                    let mode = Mode::from_raw_mode(stat.st_mode & 0o777 | 0o700);
                    rustix::fs::fchmod(&inner, mode).map_err(failed(&full, "fchmod"))?;
                }
                FileType::RegularFile => self.file(from, to, &name, &full)?,
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(from, &name, Vec::new())
                        .map_err(failed(&full, "readlinkat"))?;
                    rustix::fs::symlinkat(&target, to, &name).map_err(failed(&full, "symlinkat"))?;
                    if let Some((uid, gid)) = self.options.owner {
                        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                        rustix::fs::chownat(to, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                            .map_err(failed(&full, "fchownat"))?;
                    }
                }
                // Git stores none of these; a backend has no business with a socket of the host.
                _ => {}
            }
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), CopyError> {
        if self.options.stop.load(Ordering::Acquire) { Err(CopyError::Stopped) } else { Ok(()) }
    }

    fn own(&self, fd: &OwnedFd, path: &[u8]) -> Result<(), CopyError> {
        let Some((uid, gid)) = self.options.owner else { return Ok(()) };
        rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(failed(path, "fchown"))
    }

    fn placeholder(
        &self,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        directory: bool,
    ) -> Result<(), CopyError> {
        let fd = if directory {
            rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(failed(path, "mkdirat"))?;
            open_dir(to, name, path)?
        } else {
            create(to, name, path)?
        };
        self.own(&fd, path)?;
        rustix::fs::fchmod(&fd, Mode::empty()).map_err(failed(path, "fchmod"))
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
    ) -> Result<(), CopyError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let source = rustix::fs::openat2(from, name, flags, Mode::empty(), RESOLVE)
            .map_err(failed(path, "openat2"))?;
        let stat = rustix::fs::fstat(&source).map_err(failed(path, "fstat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(failed(path, "open")(Errno::AGAIN));
        }
        let left = self.options.max_bytes.saturating_sub(self.bytes);
        let too_large = CopyError::TooLarge { limit: self.options.max_bytes };
        if stat.st_size.unsigned_abs() > left {
            return Err(too_large);
        }
        let target = create(to, name, path)?;
        // Shares the blocks where the file system can.
        let copied = match rustix::fs::ioctl_ficlone(&target, &source) {
            Ok(()) => stat.st_size.unsigned_abs(),
            Err(_) => {
                let (mut source, mut target) =
                    (
                        File::from(source),
                        File::from(target.try_clone().map_err(|e| {
                            failed(path, "fcntl")(Errno::from_io_error(&e).unwrap_or(Errno::IO))
                        })?),
                    );
                let mut copied = 0;
                // One more byte than there may be: a file that grows meanwhile is seen.
                while copied <= left {
                    let chunk = CHUNK.min(left.saturating_add(1) - copied);
                    let mut limited = io::Read::take(&mut source, chunk);
                    let now = io::copy(&mut limited, &mut target)
                        .map_err(|e| failed(path, "copy")(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
                    if now == 0 {
                        break;
                    }
                    copied += now;
                    self.go_on()?;
                }
                copied
            }
        };
        if copied > left {
            return Err(too_large);
        }
        self.bytes += copied;
        self.own(&target, path)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
        rustix::fs::fchmod(&target, mode).map_err(failed(path, "fchmod"))?;
        // Git compares times: a copy that looks new is read again, which costs nothing but time.
        #[expect(clippy::useless_conversion, reason = "other widths on some architectures")]
        let modified = Timespec { tv_sec: stat.st_mtime.into(), tv_nsec: stat.st_mtime_nsec as _ };
        let times = Timestamps { last_access: modified, last_modification: modified };
        rustix::fs::futimens(&target, &times).map_err(failed(path, "futimens"))
    }
}

fn create(to: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<OwnedFd, CopyError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed(path, "openat"))
}

fn names_of_all(dir: BorrowedFd<'_>) -> Result<Vec<std::ffi::CString>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            found.push(name);
        }
    }
    Ok(found)
}
