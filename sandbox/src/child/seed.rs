//! Carries out a [`crate::seed::Seed`] below a directory: component by component, never through a symbolic link.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat, write};

use crate::seed::SeedKind;
use crate::sys::mount;

const NAME_MAX: usize = 255;
const DIR: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// One component as a C string on the stack.
struct Name([u8; NAME_MAX + 1]);

impl Name {
    fn new(bytes: &[u8]) -> Result<Self, Errno> {
        if bytes.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut buffer = [0u8; NAME_MAX + 1];
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(Self(buffer))
    }

    fn as_c(&self) -> Result<&CStr, Errno> {
        CStr::from_bytes_until_nul(&self.0).map_err(|_| Errno::EINVAL)
    }
}

struct Operation<'a> {
    kind: u8,
    mode: u32,
    path: &'a [u8],
    data: &'a [u8],
    /// The data and its NUL.
    data_nul: &'a [u8],
}

fn next<'a>(bytes: &mut &'a [u8]) -> Result<Operation<'a>, Errno> {
    let mut take = |n: usize| -> Result<&'a [u8], Errno> {
        let (head, tail) = bytes.split_at_checked(n).ok_or(Errno::EBADMSG)?;
        *bytes = tail;
        Ok(head)
    };
    let head = take(17)?;
    let mode = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    let path_len = u32::from_le_bytes([head[5], head[6], head[7], head[8]]) as usize;
    let data_len = u64::from_le_bytes([9, 10, 11, 12, 13, 14, 15, 16].map(|i| head[i])) as usize;
    let path = take(path_len)?;
    take(1)?;
    let data_nul = take(data_len.checked_add(1).ok_or(Errno::EBADMSG)?)?;
    Ok(Operation { kind: head[0], mode, path, data: &data_nul[..data_len], data_nul })
}

/// What an opaque directory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    /// An overlay's upper layer before it is mounted: the directory gets its mark.
    UpperLayer,
    /// A mounted overlay: it cannot be made.
    Overlay,
    /// A plain directory: a new directory hides nothing.
    PlainDirectory,
}

/// Carries out every operation below `root`.
pub(crate) fn carry_out(root: BorrowedFd<'_>, seed: &[u8], kind_of_root: Below) -> Result<(), Errno> {
    let mut rest = seed;
    while !rest.is_empty() {
        one(root, &next(&mut rest)?, kind_of_root)?;
    }
    Ok(())
}

fn one(root: BorrowedFd<'_>, op: &Operation<'_>, kind_of_root: Below) -> Result<(), Errno> {
    let mut dir: Option<OwnedFd> = None;
    let mut components = op.path.split(|b| *b == b'/').peekable();
    while let Some(component) = components.next() {
        let name = Name::new(component)?;
        let name = name.as_c()?;
        let below = dir.as_ref().map_or(root, |d| d.as_fd());
        if components.peek().is_none() {
            return last(below, name, op, kind_of_root);
        }
        dir = Some(match openat(below, name, DIR, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => {
                make_dir(below, name, 0o755)?;
                openat(below, name, DIR, Mode::empty())?
            }
            Err(errno) => return Err(errno),
        });
    }
    Err(Errno::EBADMSG)
}

fn make_dir(below: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<(), Errno> {
    match mkdirat(below, name, Mode::from_bits_truncate(mode)) {
        Err(Errno::EEXIST) | Ok(()) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn last(below: BorrowedFd<'_>, name: &CStr, op: &Operation<'_>, kind_of_root: Below) -> Result<(), Errno> {
    const DIR_KIND: u8 = SeedKind::Dir as u8;
    const FILE: u8 = SeedKind::File as u8;
    const SYMLINK: u8 = SeedKind::Symlink as u8;
    const REMOVE: u8 = SeedKind::Remove as u8;
    const REMOVE_DIR: u8 = SeedKind::RemoveDirIfEmpty as u8;
    const OPAQUE: u8 = SeedKind::OpaqueDir as u8;
    match op.kind {
        DIR_KIND => make_dir(below, name, op.mode),
        OPAQUE if kind_of_root == Below::PlainDirectory => {
            mkdirat(below, name, Mode::from_bits_truncate(op.mode))
        }
        OPAQUE if kind_of_root == Below::UpperLayer => {
            mkdirat(below, name, Mode::from_bits_truncate(op.mode))?;
            let dir = openat(
                below,
                name,
                OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            mount::set_xattr(dir.as_fd(), c"user.overlay.opaque", b"y")
        }
        FILE => write_file(below, name, op.mode, op.data),
        SYMLINK => {
            remove_file(below, name)?;
            let target = CStr::from_bytes_with_nul(op.data_nul).map_err(|_| Errno::EINVAL)?;
            symlinkat(target, below, name)
        }
        REMOVE => unlinkat(below, name, UnlinkatFlags::NoRemoveDir),
        REMOVE_DIR => match unlinkat(below, name, UnlinkatFlags::RemoveDir) {
            Ok(())
            | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR | Errno::EBUSY) => Ok(()),
            Err(errno) => Err(errno),
        },
        _ => Err(Errno::EBADMSG),
    }
}

fn remove_file(below: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(below, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Writes a new file, replacing what is there.
pub(super) fn write_file(below: BorrowedFd<'_>, name: &CStr, mode: u32, content: &[u8]) -> Result<(), Errno> {
    remove_file(below, name)?;
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = openat(below, name, flags, Mode::from_bits_truncate(0o600))?;
    let mut rest = content;
    while !rest.is_empty() {
        match write(&file, rest) {
            Ok(0) => return Err(Errno::EIO),
            Ok(n) => rest = &rest[n..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    fchmod(&file, Mode::from_bits_truncate(mode & 0o777))
}
