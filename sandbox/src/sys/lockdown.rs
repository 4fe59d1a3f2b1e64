//! Giving rights up: capabilities(7), prctl(2), landlock(7), seccomp(2).

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::check;

/// One instruction of a seccomp program (`struct sock_filter`).
pub(crate) type Instruction = libc::sock_filter;

const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
const LANDLOCK_RULE_PATH_BENEATH: libc::c_int = 1;
const CAP_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: libc::c_int,
}

/// The kernel's Landlock ABI (landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_VERSION). `ENOSYS`: it is not in the
/// kernel, or a filter keeps it away; `EOPNOTSUPP`: it was not enabled at boot.
pub(crate) fn landlock_abi() -> Result<u32, Errno> {
    // SAFETY: with a null attribute, size 0 and the VERSION flag the call only answers a number.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    check(ret).map(|n| n as u32)
}

/// Allows `access` (LANDLOCK_ACCESS_FS_*) beneath the directory, or on the file, that `parent` refers to.
pub(crate) fn landlock_allow(
    ruleset: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    access: u64,
) -> Result<(), Errno> {
    let attr = PathBeneath { allowed_access: access, parent_fd: parent.as_raw_fd() };
    // SAFETY: attr has the kernel's packed layout of struct landlock_path_beneath_attr and outlives the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            LANDLOCK_RULE_PATH_BENEATH,
            &raw const attr,
            0u32,
        )
    };
    check(ret).map(drop)
}

/// Puts the calling thread under `ruleset` for good. `flags` (LANDLOCK_RESTRICT_SELF_*) must be 0 before ABI 7.
pub(crate) fn landlock_restrict(ruleset: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
    // SAFETY: takes a descriptor and flags only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), flags) }).map(drop)
}

/// Installs a seccomp filter on the calling (only) thread.
pub(crate) fn seccomp_filter(program: &[Instruction]) -> Result<(), Errno> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(Errno::E2BIG);
    };
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: prog describes a live slice that the kernel copies; it is not written to.
    let ret =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0u32, &raw const prog) };
    check(ret).map(drop)
}

fn prctl(option: libc::c_int, arg2: libc::c_ulong, arg3: libc::c_ulong) -> Result<libc::c_int, Errno> {
    // SAFETY: only options whose arguments are plain numbers are passed by this module.
    check(unsafe { libc::prctl(option, arg2, arg3, 0 as libc::c_ulong, 0 as libc::c_ulong) }.into())
        .map(|n| n as libc::c_int)
}

/// PR_SET_NO_NEW_PRIVS.
pub(crate) fn set_no_new_privs() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// PR_GET_NO_NEW_PRIVS.
pub(crate) fn has_no_new_privs() -> bool {
    prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0) == Ok(1)
}

/// PR_GET_SECCOMP: 2 in filter mode.
pub(crate) fn seccomp_mode() -> i32 {
    prctl(libc::PR_GET_SECCOMP, 0, 0).unwrap_or(-1)
}

/// PR_SET_PDEATHSIG with SIGKILL.
pub(crate) fn die_with_parent() -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0).map(drop)
}

/// PR_SET_DUMPABLE 0: no ptrace, no /proc/PID/{mem,fd,environ} for others of the same uid.
pub(crate) fn set_undumpable() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// Sets and locks NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off and NO_CAP_AMBIENT_RAISE (capabilities(7), securebits).
pub(crate) fn lock_securebits() -> Result<(), Errno> {
    let bits = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 3) | (1 << 5) | (1 << 6) | (1 << 7);
    prctl(libc::PR_SET_SECUREBITS, bits, 0).map(drop)
}

/// Empties the bounding set: drops every capability that the kernel knows.
pub(crate) fn empty_bounding_set() -> Result<(), Errno> {
    for cap in 0..64 {
        match prctl(libc::PR_CAPBSET_READ, cap, 0) {
            Ok(0) => {}
            Ok(_) => {
                prctl(libc::PR_CAPBSET_DROP, cap, 0)?;
            }
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Clears the ambient, effective, permitted and inheritable sets.
pub(crate) fn drop_capabilities() -> Result<(), Errno> {
    keep_capabilities(0)
}

/// The same, but for the capabilities `keep` (bits), which stay effective and permitted.
pub(crate) fn keep_capabilities(keep: u64) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0)?;
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let data = [keep as u32, (keep >> 32) as u32].map(|bits| CapData {
        effective: bits,
        permitted: bits,
        inheritable: 0,
    });
    // SAFETY: header and data have the layout of version 3 of capset(2) and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

fn capabilities() -> Result<[CapData; 2], Errno> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: as above; the kernel writes two CapData.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(data)
}

/// The effective set of the calling thread, as bits.
pub(crate) fn effective_capabilities() -> Result<u64, Errno> {
    let [low, high] = capabilities()?;
    Ok(u64::from(low.effective) | u64::from(high.effective) << 32)
}

/// True where the effective, permitted, inheritable and ambient sets of the calling thread are empty.
pub(crate) fn capabilities_dropped() -> Result<bool, Errno> {
    let data = capabilities()?;
    if data != [CapData::default(); 2] {
        return Ok(false);
    }
    for cap in 0..64 {
        match prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET as libc::c_ulong, cap) {
            Ok(0) => {}
            Ok(_) => return Ok(false),
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

/// True where the bounding set is empty as well.
pub(crate) fn bounding_set_empty() -> Result<bool, Errno> {
    for cap in 0..64 {
        match prctl(libc::PR_CAPBSET_READ, cap, 0) {
            Ok(0) => {}
            Ok(_) => return Ok(false),
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

/// PR_SET_CHILD_SUBREAPER: orphans below this process become its children.
pub(crate) fn adopt_orphans() -> Result<(), Errno> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}
