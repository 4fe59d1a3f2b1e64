//! The mount API of Linux 5.2 and later: open_tree, move_mount, fsopen, fsconfig, fsmount, mount_setattr
//! (their man pages of man-pages 6.x), pivot_root(2), umount2(2).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;

pub(crate) const ATTR_RDONLY: u64 = 0x1;
pub(crate) const ATTR_NOSUID: u64 = 0x2;
pub(crate) const ATTR_NODEV: u64 = 0x4;
pub(crate) const ATTR_NOEXEC: u64 = 0x8;
const ATTR_IDMAP: u64 = 0x0010_0000;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn owned(ret: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = check(ret)? as RawFd;
    // SAFETY: the system call that returned it has just created this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A detached clone of the mount at `dir`/`path` (`path` empty: `dir` itself), with what is mounted below it where
/// `recursive`.
pub(crate) fn open_tree_clone(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: path is NUL-terminated and outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// Attaches the detached mount `mount` at `target`, or at `name` below it.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let mut flags = MOVE_MOUNT_F_EMPTY_PATH;
    if name.is_empty() {
        flags |= MOVE_MOUNT_T_EMPTY_PATH;
    }
    // SAFETY: both paths are NUL-terminated and outlive the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            name.as_ptr(),
            flags,
        )
    };
    check(ret).map(drop)
}

fn setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: attr has the layout of struct mount_attr, its size is passed, and it outlives the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    check(ret).map(drop)
}

/// Sets attributes (`ATTR_*`) on a mount, and on those below it where `recursive`.
pub(crate) fn restrict(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> Result<(), Errno> {
    setattr(mount, recursive, &MountAttr { attr_set: attributes, ..MountAttr::default() })
}

/// Maps the owners seen through a detached mount by the user namespace `userns` (mount_setattr(2), MOUNT_ATTR_IDMAP).
pub(crate) fn idmap(mount: BorrowedFd<'_>, userns: BorrowedFd<'_>, attributes: u64) -> Result<(), Errno> {
    let attr = MountAttr {
        attr_set: ATTR_IDMAP | attributes,
        userns_fd: userns.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    setattr(mount, false, &attr)
}

/// Stops every mount below `root` from sending or receiving mount events.
pub(crate) fn make_private(root: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    setattr(root, true, &attr)
}

/// A file system being configured.
pub(crate) struct FsContext(OwnedFd);

impl FsContext {
    /// fsopen(2).
    pub(crate) fn open(kind: &CStr) -> Result<Self, Errno> {
        // SAFETY: kind is NUL-terminated and outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1u32) }).map(Self)
    }

    fn config(&self, command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>) -> Result<(), Errno> {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: key and value are null or NUL-terminated, as the command wants them, and outlive the call.
        let ret = unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, 0i32) };
        check(ret).map(drop)
    }

    /// FSCONFIG_SET_STRING.
    pub(crate) fn set(&self, key: &CStr, value: &CStr) -> Result<(), Errno> {
        self.config(FSCONFIG_SET_STRING, Some(key), Some(value))
    }

    /// FSCONFIG_SET_FLAG.
    pub(crate) fn flag(&self, key: &CStr) -> Result<(), Errno> {
        self.config(FSCONFIG_SET_FLAG, Some(key), None)
    }

    /// FSCONFIG_CMD_CREATE and fsmount(2): the detached mount, with attributes `ATTR_*`.
    pub(crate) fn mount(&self, attributes: u64) -> Result<OwnedFd, Errno> {
        self.config(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: takes numbers only.
        owned(unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), 1u32, attributes as libc::c_uint)
        })
    }
}

/// umount2(2) with MNT_DETACH of `path`, relative to the working directory.
pub(crate) fn detach(path: &CStr) -> Result<(), Errno> {
    // SAFETY: path is NUL-terminated.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }.into()).map(drop)
}

/// pivot_root(2) with the working directory as new root and as place of the old one (`pivot_root(".", ".")`).
pub(crate) fn pivot_root_here() -> Result<(), Errno> {
    // SAFETY: both paths are literals.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

/// fsetxattr(2) of an extended attribute that must not exist yet.
pub(crate) fn set_xattr(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: name is NUL-terminated; value's pointer and length belong together.
    let ret = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            libc::XATTR_CREATE,
        )
    };
    check(ret.into()).map(drop)
}
