//! The scan of an overlay's upper directory once nothing of the sandbox is alive: what it holds, entry by entry.
//!
//! Descent is by descriptors only. No content is read and nothing is judged here; the only writes are permission
//! bits of directories and files in this private layer that could not be read otherwise, after the mode was noted.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::copy::Manifest;
use super::show;

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Why a layer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// More than the limits allow: the blocker `output_limit`.
    #[error("{what}: more than {limit}; {}", if .option.starts_with("--") { format!("raise {option} if that much is meant") } else { (*option).to_owned() })]
    Limit {
        /// What there was too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The option that raises it.
        option: &'static str,
    },
    /// A system call failed.
    #[error("the sandbox's layer cannot be read at {}: {step}: {errno}", show(.path))]
    Io {
        /// Path in the layer.
        path: Vec<u8>,
        /// The call.
        step: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// Something that this program's own mounts never make.
    #[error("the sandbox's layer has {what} at {}, which cannot be judged", show(.path))]
    Strange {
        /// Path in the layer.
        path: Vec<u8>,
        /// What it has.
        what: &'static str,
    },
}

/// What one entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Size in bytes.
        size: u64,
        /// It has `security.capability`.
        capability: bool,
    },
    /// A directory.
    Dir {
        /// It hides the lower layer's directory.
        opaque: bool,
        /// Files beneath that were only counted, where the visitor did not want them one by one.
        counted: Option<u64>,
    },
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// The lower layer's entry is removed.
    Whiteout,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

/// One entry of the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path relative to the layer's top.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, setuid and setgid included, as found.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u64,
}

/// How a visitor wants a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descend {
    /// Every entry.
    Full,
    /// Only the number of entries that are not directories.
    Count,
    /// Nothing of it.
    Skip,
}

/// What the changes are read from.
#[derive(Debug, Clone, Copy)]
pub enum Changed<'a> {
    /// The top of an overlay's upper layer.
    Upper(BorrowedFd<'a>),
    /// The top of a private copy, and what it was.
    Copy(BorrowedFd<'a>, &'a Manifest),
}

impl<'a> Changed<'a> {
    /// The directory that content is read from.
    pub fn root(self) -> BorrowedFd<'a> {
        match self {
            Self::Upper(root) | Self::Copy(root, _) => root,
        }
    }

    /// Lists the differences (see [`scan`] and [`super::copy::scan`]).
    ///
    /// # Errors
    /// What the visitor says, or [`LayerError`].
    pub fn scan<E: From<LayerError>>(
        self,
        limits: Limits,
        visit: impl FnMut(&[u8], bool) -> Result<Descend, E>,
    ) -> Result<Vec<Entry>, E> {
        match self {
            Self::Upper(root) => scan(root, limits, visit),
            Self::Copy(root, manifest) => super::copy::scan(root, manifest, limits, visit),
        }
    }
}

/// Limits of a scan.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries that are listed.
    pub entries: u64,
    /// Entries that are counted.
    pub counted: u64,
    /// Directories within one another.
    pub depth: usize,
}

impl Limits {
    /// Limits for a run that may list `max_files` changes.
    pub fn for_max_files(max_files: u64) -> Self {
        Self { entries: max_files.saturating_mul(2).saturating_add(1000), counted: 5_000_000, depth: 200 }
    }
}

struct Level {
    fd: OwnedFd,
    dir: Dir,
    path: Vec<u8>,
}

/// Lists the layer whose top `root` is. `.git` at the top is not entered. Entries come sorted by path.
pub fn scan<E: From<LayerError>>(
    root: BorrowedFd<'_>,
    limits: Limits,
    mut visit: impl FnMut(&[u8], bool) -> Result<Descend, E>,
) -> Result<Vec<Entry>, E> {
    let mut found = Vec::new();
    let mut counted = 0;
    let top = open_dir(root, c".".into(), &[])?;
    let mut levels = vec![level(top, Vec::new())?];
    loop {
        let depth = levels.len();
        let Some(here) = levels.last_mut() else { break };
        let Some(next) = here.dir.next() else {
            levels.pop();
            continue;
        };
        let next = next.map_err(|e| io(&here.path, "getdents64", e))?;
        let name = next.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let path = super::tree::join(&here.path, name.to_bytes());
        if path == b".git" {
            continue;
        }
        if path.len() > 4000 {
            return Err(LayerError::Limit {
                what: "bytes in a path",
                limit: 4000,
                option: "the limit is fixed, so have the backend make less of them",
            }
            .into());
        }
        if found.len() as u64 >= limits.entries {
            return Err(LayerError::Limit {
                what: "entries in the layer",
                limit: limits.entries,
                option: "--max-files",
            }
            .into());
        }
        let mut entry = examine(here.fd.as_fd(), name, path)?;
        if let Kind::Dir { opaque, counted: count } = &mut entry.kind {
            match visit(&entry.path, *opaque)? {
                Descend::Skip => {}
                Descend::Count => {
                    let fd = open_dir(here.fd.as_fd(), name.into(), &entry.path)?;
                    let before = counted;
                    count_files(fd, &entry.path, limits, depth, &mut counted)?;
                    *count = Some(counted - before);
                }
                Descend::Full => {
                    if depth >= limits.depth {
                        return Err(too_deep(limits).into());
                    }
                    let fd = open_dir(here.fd.as_fd(), name.into(), &entry.path)?;
                    let next = level(fd, entry.path.clone())?;
                    levels.push(next);
                }
            }
        }
        found.push(entry);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn too_deep(limits: Limits) -> LayerError {
    LayerError::Limit {
        what: "directories within one another",
        limit: limits.depth as u64,
        option: "the limit is fixed, so have the backend make less of them",
    }
}

fn io(path: &[u8], step: &'static str, errno: Errno) -> LayerError {
    LayerError::Io { path: path.to_vec(), step, errno }
}

fn level(fd: OwnedFd, path: Vec<u8>) -> Result<Level, LayerError> {
    let dir = Dir::read_from(&fd).map_err(|e| io(&path, "open", e))?;
    Ok(Level { fd, dir, path })
}

/// Opens a directory beneath `parent`; one that its owner may not read is made readable first.
pub(super) fn open_dir(
    parent: BorrowedFd<'_>,
    name: std::borrow::Cow<'_, std::ffi::CStr>,
    path: &[u8],
) -> Result<OwnedFd, LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat2(parent, name.as_ref(), flags, Mode::empty(), RESOLVE);
    let fd = match open() {
        Err(Errno::ACCESS) => {
            widen(parent, name.as_ref(), path)?;
            open()
        }
        other => other,
    }
    .map_err(|e| io(path, "openat2", e))?;
    let mode = rustix::fs::fstat(&fd).map_err(|e| io(path, "fstat", e))?.st_mode;
    if mode & 0o700 != 0o700 && !path.is_empty() {
        // Readable is not enough: entries are looked up in it.
        widen(parent, name.as_ref(), path)?;
    }
    Ok(fd)
}

/// Gives the owner all rights on what `name` is now, through a descriptor that follows nothing.
fn widen(parent: BorrowedFd<'_>, name: &std::ffi::CStr, path: &[u8]) -> Result<(), LayerError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(parent, name, flags, Mode::empty(), RESOLVE)
        .map_err(|e| io(path, "openat2", e))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| io(path, "fstat", e))?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o777 | 0o700);
    rustix::fs::chmod(proc_path(&fd), mode).map_err(|e| io(path, "chmod", e))
}

fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn examine(parent: BorrowedFd<'_>, name: &std::ffi::CStr, path: Vec<u8>) -> Result<Entry, LayerError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let fd = rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
        .map_err(|e| io(&path, "openat2", e))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| io(&path, "fstat", e))?;
    let kind = match stat.st_mode & 0o170000 {
        0o100000 => {
            let names = xattrs(&fd, &path)?;
            if has(&names, "overlay.metacopy") {
                return Err(LayerError::Strange { path, what: "a file without its content (metacopy)" });
            }
            if stat.st_size == 0 && has(&names, "overlay.whiteout") {
                Kind::Whiteout
            } else {
                let capability = names.split(|b| *b == 0).any(|n| n == b"security.capability");
                Kind::File { size: stat.st_size.unsigned_abs(), capability }
            }
        }
        0o040000 => {
            let names = xattrs(&fd, &path)?;
            if has(&names, "overlay.redirect") {
                return Err(LayerError::Strange { path, what: "a renamed directory (redirect)" });
            }
            let opaque = has(&names, "overlay.opaque") && is_opaque(&fd, &names, &path)?;
            Kind::Dir { opaque, counted: None }
        }
        0o120000 => Kind::Symlink(
            rustix::fs::readlinkat(&fd, c"", Vec::new())
                .map_err(|e| io(&path, "readlinkat", e))?
                .into_bytes(),
        ),
        0o020000 if stat.st_rdev == 0 => Kind::Whiteout,
        0o020000 | 0o060000 => Kind::Device,
        0o010000 => Kind::Fifo,
        _ => Kind::Socket,
    };
    Ok(Entry { path, kind, mode: stat.st_mode & 0o7777, nlink: nlink(&stat) })
}

/// An entry of a plain directory, in which no mark has a meaning: a character device is one.
pub(super) fn examine_plain(
    parent: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    path: Vec<u8>,
) -> Result<Entry, LayerError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let fd = rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
        .map_err(|e| io(&path, "openat2", e))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| io(&path, "fstat", e))?;
    let kind = match stat.st_mode & 0o170000 {
        0o100000 => {
            let names = xattrs(&fd, &path)?;
            let capability = names.split(|b| *b == 0).any(|n| n == b"security.capability");
            Kind::File { size: stat.st_size.unsigned_abs(), capability }
        }
        0o040000 => Kind::Dir { opaque: false, counted: None },
        0o120000 => Kind::Symlink(
            rustix::fs::readlinkat(&fd, c"", Vec::new())
                .map_err(|e| io(&path, "readlinkat", e))?
                .into_bytes(),
        ),
        0o020000 | 0o060000 => Kind::Device,
        0o010000 => Kind::Fifo,
        _ => Kind::Socket,
    };
    Ok(Entry { path, kind, mode: stat.st_mode & 0o7777, nlink: nlink(&stat) })
}

fn nlink(stat: &Stat) -> u64 {
    // The field's width differs between architectures.
    #[expect(clippy::useless_conversion, reason = "u32 on some architectures")]
    u64::from(stat.st_nlink)
}

/// Names of extended attributes; a descriptor without rights has none of its own calls, so through /proc.
fn xattrs(fd: &OwnedFd, path: &[u8]) -> Result<Vec<u8>, LayerError> {
    let file = proc_path(fd);
    let mut names = vec![0; 64 << 10];
    match rustix::fs::listxattr(&file, &mut names[..]) {
        Ok(len) => {
            names.truncate(len);
            Ok(names)
        }
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(e) => Err(io(path, "listxattr", e)),
    }
}

fn has(names: &[u8], what: &str) -> bool {
    full(names, what).is_some()
}

fn full(names: &[u8], what: &str) -> Option<String> {
    ["user.", "trusted."]
        .iter()
        .map(|space| format!("{space}{what}"))
        .find(|n| names.split(|b| *b == 0).any(|f| f == n.as_bytes()))
}

fn is_opaque(fd: &OwnedFd, names: &[u8], path: &[u8]) -> Result<bool, LayerError> {
    let Some(name) = full(names, "overlay.opaque") else {
        return Ok(false);
    };
    let mut value = [0u8; 8];
    let len =
        rustix::fs::getxattr(proc_path(fd), name, &mut value[..]).map_err(|e| io(path, "getxattr", e))?;
    match &value[..len] {
        b"y" => Ok(true),
        // `x` marks a directory that holds whiteouts kept as attributes; it hides nothing itself.
        b"x" | b"n" => Ok(false),
        _ => Err(LayerError::Strange { path: path.to_vec(), what: "an unknown opaque mark" }),
    }
}

fn count_files(
    fd: OwnedFd,
    path: &[u8],
    limits: Limits,
    depth: usize,
    count: &mut u64,
) -> Result<(), LayerError> {
    let mut levels = vec![level(fd, path.to_vec())?];
    loop {
        let below = levels.len();
        let Some(here) = levels.last_mut() else {
            return Ok(());
        };
        let Some(next) = here.dir.next() else {
            levels.pop();
            continue;
        };
        let next = next.map_err(|e| io(&here.path, "getdents64", e))?;
        let name = next.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut kind = next.file_type();
        if kind == rustix::fs::FileType::Unknown {
            let stat = rustix::fs::statat(&here.fd, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| io(&here.path, "fstatat", e))?;
            kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        }
        if kind == rustix::fs::FileType::Directory {
            if depth + below >= limits.depth {
                return Err(too_deep(limits));
            }
            let full = super::tree::join(&here.path, name.to_bytes());
            let fd = open_dir(here.fd.as_fd(), name.into(), &full)?;
            let next = level(fd, full)?;
            levels.push(next);
        } else {
            *count += 1;
            if *count > limits.counted {
                return Err(LayerError::Limit {
                    what: "files in ignored directories",
                    limit: limits.counted,
                    option: "the limit is fixed, so have the backend make less of them",
                });
            }
        }
    }
}

/// Reads a regular file of the layer, at most `limit` bytes; a file that its owner may not read is made readable.
pub fn read_file(root: BorrowedFd<'_>, path: &[u8], limit: u64) -> Result<Vec<u8>, LayerError> {
    let name = std::ffi::CString::new(path).map_err(|_| io(path, "openat2", Errno::INVAL))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = || rustix::fs::openat2(root, &name, flags, Mode::empty(), RESOLVE);
    let fd = match open() {
        Err(Errno::ACCESS) => {
            widen(root, &name, path)?;
            open()
        }
        other => other,
    }
    .map_err(|e| io(path, "openat2", e))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| io(path, "fstat", e))?;
    if stat.st_mode & 0o170000 != 0o100000 {
        return Err(LayerError::Strange { path: path.to_vec(), what: "no regular file any more" });
    }
    if stat.st_size.unsigned_abs() > limit {
        return Err(LayerError::Limit { what: "bytes in a changed file", limit, option: "--max-patch" });
    }
    let mut data = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0));
    let mut file = std::io::Read::take(std::fs::File::from(fd), limit + 1);
    std::io::Read::read_to_end(&mut file, &mut data)
        .map_err(|e| io(path, "read", Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    if data.len() as u64 > limit {
        return Err(LayerError::Limit { what: "bytes in a changed file", limit, option: "--max-patch" });
    }
    Ok(data)
}

/// The target of a symbolic link of the layer.
pub fn read_link(root: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<u8>, LayerError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = std::ffi::CString::new(path).map_err(|_| io(path, "openat2", Errno::INVAL))?;
    let fd = rustix::fs::openat2(root, &name, flags, Mode::empty(), RESOLVE)
        .map_err(|e| io(path, "openat2", e))?;
    Ok(rustix::fs::readlinkat(&fd, c"", Vec::new()).map_err(|e| io(path, "readlinkat", e))?.into_bytes())
}

/// True where the regular file `path` beneath `root` has exactly the content `data`; any doubt is false.
pub fn same_content(root: BorrowedFd<'_>, path: &[u8], data: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::openat2(root, path, flags, Mode::empty(), RESOLVE) else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(&fd) else {
        return false;
    };
    if stat.st_mode & 0o170000 != 0o100000 || stat.st_size.unsigned_abs() != data.len() as u64 {
        return false;
    }
    let mut found = Vec::with_capacity(data.len());
    std::io::Read::read_to_end(
        &mut std::io::Read::take(std::fs::File::from(fd), data.len() as u64 + 1),
        &mut found,
    )
    .is_ok()
        && found == data
}

/// Opens the directory `name` beneath `root`; `None` where there is none.
pub fn open_below(root: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<Option<OwnedFd>, LayerError> {
    match rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(io(name.to_bytes(), "fstatat", e)),
        Ok(stat) if stat.st_mode & 0o170000 == 0o040000 => {
            open_dir(root, name.into(), name.to_bytes()).map(Some)
        }
        Ok(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{XattrFlags, setxattr};

    use super::*;
    use crate::changes::testing::Fixture;

    fn look(f: &Fixture, limits: Limits) -> Result<Vec<Entry>, LayerError> {
        scan(f.layer().as_fd(), limits, |_, _| Ok::<_, LayerError>(Descend::Full))
    }

    #[test]
    fn what_our_own_mounts_never_make_is_refused() {
        for (name, value, text) in [
            (
                "user.overlay.redirect",
                "/x",
                "the sandbox's layer has a renamed directory (redirect) at d, which cannot be judged",
            ),
            (
                "user.overlay.opaque",
                "?",
                "the sandbox's layer has an unknown opaque mark at d, which cannot be judged",
            ),
        ] {
            let f = Fixture::new();
            f.up("d/x", "x");
            setxattr(f.upper().join("d"), name, value.as_bytes(), XattrFlags::empty()).unwrap();
            assert_eq!(look(&f, Limits::for_max_files(10)).unwrap_err().to_string(), text);
        }
        let f = Fixture::new();
        f.up("m", "x");
        setxattr(f.upper().join("m"), "user.overlay.metacopy", b"", XattrFlags::empty()).unwrap();
        let text = look(&f, Limits::for_max_files(10)).unwrap_err().to_string();
        assert_eq!(
            text,
            "the sandbox's layer has a file without its content (metacopy) at m, which cannot be judged"
        );
    }

    #[test]
    fn depth_and_number_are_limited() {
        let f = Fixture::new();
        f.up("a/b/c/d/e", "x");
        let limits = Limits { entries: 100, counted: 100, depth: 3 };
        let text = look(&f, limits).unwrap_err().to_string();
        assert!(text.starts_with("directories within one another: more than 3; "), "{text}");
        let text = look(&f, Limits { entries: 2, depth: 50, counted: 9 }).unwrap_err().to_string();
        assert_eq!(text, "entries in the layer: more than 2; raise --max-files if that much is meant");
    }

    #[test]
    fn a_link_is_never_followed() {
        let f = Fixture::new();
        f.up("real/secret", "x");
        f.link("dir", "/etc");
        f.link("file", "/etc/passwd");
        let found = look(&f, Limits::for_max_files(10)).unwrap();
        assert!(found.iter().any(|e| e.path == b"dir" && e.kind == Kind::Symlink(b"/etc".to_vec())));
        assert_eq!(found.len(), 4);
        for path in [&b"file"[..], b"dir/passwd", b"../repo/.git/HEAD", b"/etc/passwd"] {
            assert!(read_file(f.layer().as_fd(), path, 1 << 20).is_err(), "{path:?}");
        }
    }
}
