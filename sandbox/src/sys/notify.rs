//! The listener of a seccomp filter (seccomp_unotify(2)) and what a process's end left behind (PIDFD_GET_INFO).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;
use super::lockdown::Instruction;

/// A system call that waits for an answer (`struct seccomp_notif`).
pub(crate) type Notification = libc::seccomp_notif;

const FILTER_FLAG_NEW_LISTENER: libc::c_ulong = 1 << 3;
/// Linux 5.19: once received, only a fatal signal takes the call back, so that it is not asked about again.
const FILTER_FLAG_WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
const NOTIF_SEND: libc::c_ulong = 0xc018_2101;
const NOTIF_ID_VALID: libc::c_ulong = 0x4008_2102;
const NOTIF_SET_FLAGS: libc::c_ulong = 0x4008_2104;
/// Linux 6.6: the listener is woken on the caller's CPU, and the other way round.
const FD_SYNC_WAKE_UP: libc::c_ulong = 1;
const RESPONSE_CONTINUE: u32 = 1;

/// `_IOWR(0xFF, 11, struct pidfd_info)` of the first version of the structure, Linux 6.13.
const PIDFD_GET_INFO: libc::c_ulong = 0xc040_ff0b;
const PIDFD_INFO_PID: u64 = 1 << 0;
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `struct pidfd_info`, its first 64 bytes.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// Installs a filter on the calling (only) thread and gives its listener. `EBUSY` where a filter that was there before
/// has one already.
pub(crate) fn filter_with_listener(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let install = |flags: libc::c_ulong| {
        // SAFETY: prog describes a live slice that the kernel copies and does not write to.
        let ret = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog)
        };
        check(ret)
    };
    let fd = match install(FILTER_FLAG_NEW_LISTENER | FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(Errno::EINVAL) => install(FILTER_FLAG_NEW_LISTENER)?,
        other => other?,
    };
    // SAFETY: with NEW_LISTENER the call returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Asks for the faster wake-up; a kernel that has none goes on as before.
pub(crate) fn sync_wake_up(listener: BorrowedFd<'_>) {
    // SAFETY: takes a descriptor and a number.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS, FD_SYNC_WAKE_UP) };
}

/// Takes one notification. Blocks where there is none: poll(2) first. `ENOENT` where the caller is gone again.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    // SAFETY: the kernel demands a zeroed structure and fills it whole; every bit pattern is valid for it.
    unsafe {
        let mut notification: Notification = std::mem::zeroed();
        check(libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut notification).into())?;
        Ok(notification)
    }
}

/// True while the caller still waits for the answer to `id`: what was read of it meanwhile was read of it.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: reads one u64.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ID_VALID, &raw const id) == 0 }
}

fn respond(listener: BorrowedFd<'_>, response: &libc::seccomp_notif_resp) -> Result<(), Errno> {
    // SAFETY: the kernel reads a structure that lives for the call, and writes nothing but it.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw const *response) };
    check(ret.into()).map(drop)
}

/// Lets the call go on, as it is by then: never for one that is denied.
pub(crate) fn let_through(listener: BorrowedFd<'_>, id: u64) -> Result<(), Errno> {
    respond(listener, &libc::seccomp_notif_resp { id, val: 0, error: 0, flags: RESPONSE_CONTINUE })
}

/// Ends the call with `errno` (positive), or with success where it is 0.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, errno: i32) -> Result<(), Errno> {
    respond(listener, &libc::seccomp_notif_resp { id, val: 0, error: -errno, flags: 0 })
}

/// Process, thread group and parent behind a pidfd, as numbers of the caller's pid namespace.
pub(crate) fn identity(pidfd: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let info = info(pidfd, PIDFD_INFO_PID)?;
    (info.mask & PIDFD_INFO_PID != 0).then_some((info.tgid, info.ppid))
}

/// The wait status of a process that was reaped by whoever was its parent (Linux 6.15).
pub(crate) fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let info = info(pidfd, PIDFD_INFO_EXIT)?;
    (info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

fn info(pidfd: BorrowedFd<'_>, mask: u64) -> Option<PidfdInfo> {
    let mut info = PidfdInfo { mask, ..PidfdInfo::default() };
    // SAFETY: the ioctl's number carries the structure's size, which is what the kernel reads and writes.
    let ret = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (ret == 0).then_some(info)
}
