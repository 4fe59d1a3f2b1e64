//! Processes: clone3(2), ids, pidfd_open(2), signals, waiting.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;

/// Which side of a clone this is.
pub(crate) enum Cloned {
    /// The new process.
    Child,
    /// The caller, with the child's pid and pidfd.
    Parent(libc::pid_t, OwnedFd),
}

/// clone3(2) like fork, into the namespaces of `flags` (CLONE_NEW*), with a pidfd. The caller must be
/// single-threaded (the launcher checks that of itself), so that the child finds no lock held.
pub(crate) fn clone_child(flags: u64) -> Result<Cloned, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: an all-zero clone_args is valid: no stack, no TLS, no CLONE_VM.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child has its own copy of memory and returns here on its own stack, as from fork;
    // args is valid for its size. The process is single-threaded, so no lock or allocator state is torn.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match check(ret)? {
        0 => Ok(Cloned::Child),
        // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor, which nobody else owns.
        pid => Ok(Cloned::Parent(pid as libc::pid_t, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// fork(2) with a pidfd, by clone(2): no namespace, and no clone3(2). The caller must be single-threaded.
pub(crate) fn fork_with_pidfd() -> Result<Cloned, Errno> {
    let mut pidfd: RawFd = -1;
    let flags = (libc::CLONE_PIDFD | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: without CLONE_VM the child has its own copy of memory and returns here on its own stack. With CLONE_PIDFD
    // the third argument, parent_tid on both architectures, is where the kernel stores the descriptor. The process is
    // single-threaded, so no lock or allocator state is torn.
    let ret = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut pidfd, 0usize, 0usize) };
    match check(ret)? {
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel stored a new descriptor, which nobody else owns.
        pid => Ok(Cloned::Parent(pid as libc::pid_t, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// fork(2) as clone(2) has it, which the seccomp filter lets through (clone3(2) it does not): the child gets `None`. The
/// caller must be single-threaded.
pub(crate) fn fork_below_filter() -> Result<Option<libc::pid_t>, Errno> {
    // SAFETY: without CLONE_VM the child has its own copy of memory and returns here on its own stack; no pointer is
    // passed. The process is single-threaded, so no lock or allocator state is torn.
    let ret = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0usize, 0usize, 0usize, 0usize) };
    match check(ret)? {
        0 => Ok(None),
        pid => Ok(Some(pid as libc::pid_t)),
    }
}

/// Makes `terminal` the controlling terminal of this session leader, which has none (ioctl_tty(2), TIOCSCTTY). It is
/// not taken from another session that has it.
pub(crate) fn take_terminal(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes an integer and reads or writes no memory.
    let ret = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    check(libc::c_long::from(ret)).map(drop)
}

/// pidfd_open(2).
pub(crate) fn pidfd_open(pid: libc::pid_t) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers only; the descriptor returned is new and ours.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_pidfd_open, pid, 0u32))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// pidfd_send_signal(2).
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> Result<(), Errno> {
    // SAFETY: a null siginfo is allowed.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0u32,
        )
    };
    check(ret).map(drop)
}

/// True where the process behind `pidfd` has exited.
pub(crate) fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, no waiting.
    let ret = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ret != 0
}

/// The raw system call, so that a group list can be dropped after a clone (glibc's wrapper signals threads).
pub(crate) fn drop_groups() -> Result<(), Errno> {
    // SAFETY: an empty list needs no pointer.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0usize, std::ptr::null::<libc::gid_t>()) }).map(drop)
}

/// setresgid(2), raw.
pub(crate) fn set_gid(gid: u32) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// setresuid(2), raw.
pub(crate) fn set_uid(uid: u32) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// close_range(2) of `first..=last`.
pub(crate) fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    if first > last {
        return Ok(());
    }
    // SAFETY: closing numbers; the callers keep no owner of what is closed (they exec or _exit).
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) }).map(drop)
}

/// dup3(2) onto `to`, which becomes not close-on-exec.
pub(crate) fn dup_to(from: RawFd, to: RawFd) -> Result<(), Errno> {
    if from == to {
        // SAFETY: F_SETFD takes a number.
        return check(unsafe { libc::fcntl(from, libc::F_SETFD, 0) }.into()).map(drop);
    }
    // SAFETY: takes numbers only; `to` is a standard stream's number, which no Rust object owns.
    check(unsafe { libc::dup3(from, to, 0) }.into()).map(drop)
}

/// fcntl(2) F_DUPFD_CLOEXEC: a copy numbered `at_least` or higher, owned by nobody.
pub(crate) fn dup_above(from: RawFd, at_least: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, at_least) }.into()).map(|fd| fd as RawFd)
}

/// Descriptors that [`open_among`] looks at in one call: no more than poll(2) takes under the lowest RLIMIT_NOFILE
/// that a specification may have.
pub(crate) const POLLED: usize = 8;

/// Which of the descriptors from `first` on are open, by one poll(2) that waits for nothing: a closed one is POLLNVAL.
pub(crate) fn open_among(first: RawFd) -> Result<[bool; POLLED], Errno> {
    let mut fds = [libc::pollfd { fd: 0, events: 0, revents: 0 }; POLLED];
    for (offset, slot) in fds.iter_mut().enumerate() {
        slot.fd = first + offset as RawFd;
    }
    // SAFETY: as many valid pollfds as are said, no waiting.
    check(unsafe { libc::poll(fds.as_mut_ptr(), POLLED as libc::nfds_t, 0) }.into())?;
    Ok(fds.map(|slot| slot.revents & libc::POLLNVAL == 0))
}

/// waitpid(2) of any child, with WNOHANG; `None` where none has ended (or none is left).
pub(crate) fn reap() -> Option<(libc::pid_t, libc::c_int)> {
    let mut status = 0;
    // SAFETY: status is valid for the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid > 0 { Some((pid, status)) } else { None }
}

/// waitpid(2) of any child, waiting for one to end; `ECHILD` where none is left.
pub(crate) fn reap_waiting() -> Result<(libc::pid_t, libc::c_int), Errno> {
    let mut status = 0;
    loop {
        // SAFETY: status is valid for the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        match check(pid.into()) {
            Ok(_) => return Ok((pid, status)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether the caller may signal `pid` (kill(2), signal 0): `Err(EPERM)` where it may not.
pub(crate) fn may_signal(pid: libc::pid_t) -> Result<(), Errno> {
    // SAFETY: takes numbers only; signal 0 is never delivered.
    check(unsafe { libc::kill(pid, 0) }.into()).map(drop)
}

/// User and system time in microseconds and the largest resident size in KiB of all children waited for.
pub(crate) fn children_usage() -> (u64, u64, u64) {
    // SAFETY: an all-zero rusage is valid, and the kernel fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let micros = |t: libc::timeval| (t.tv_sec as u64) * 1_000_000 + t.tv_usec as u64;
    (micros(usage.ru_utime), micros(usage.ru_stime), usage.ru_maxrss as u64)
}

/// Every process of the caller's pid namespace that it may signal, itself left out (kill(2), pid -1).
pub(crate) fn signal_all(signal: libc::c_int) {
    // SAFETY: takes numbers only. ESRCH, when nobody is left, is of no interest.
    unsafe { libc::kill(-1, signal) };
}

/// Default action for every signal, and none blocked: what a program may expect to inherit.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL is a valid disposition for every signal; those that cannot be changed answer EINVAL.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Blocks SIGCHLD and gives a signalfd(2) for it.
pub(crate) fn child_signalfd() -> Result<OwnedFd, Errno> {
    // SAFETY: the set is initialised before use; the descriptor returned is new and ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Ends the process without unwinding or running exit handlers.
pub(crate) fn exit_now(code: libc::c_int) -> ! {
    // SAFETY: _exit is always sound.
    unsafe { libc::_exit(code) }
}

/// fork(2) of a single-threaded process: the parent gets the child's pid, the child `None`. `Err(EBUSY)` where the
/// process has more than one thread.
pub(crate) fn fork_single_threaded() -> Result<Option<libc::pid_t>, Errno> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(|_| Errno::ENOSYS)?.count();
    if threads != 1 {
        return Err(Errno::EBUSY);
    }
    // SAFETY: no other thread exists, so the child inherits no held lock and may go on as the parent could.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(None),
        pid => Ok(Some(pid as libc::pid_t)),
    }
}

/// Borrows a descriptor number that this process keeps open for as long as the borrow is used.
pub(crate) fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: callers pass numbers of descriptors that they hold until they exec or _exit.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// SIGCHLD ignored: the kernel reaps children, whose ends are seen by pidfd.
pub(crate) fn ignore_children() {
    // SAFETY: SIG_IGN is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Overwrites this process's command line, which anybody who sees the process can read (proc(5), cmdline): the
/// sandbox's init is a copy of the supervisor, whose arguments are not the program's business. Only for a process
/// that never looks at its arguments again.
pub(crate) fn blank_command_line(name: &CStr) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return;
    };
    // Fields are counted behind the name in parentheses, which may itself have spaces; state is field 3.
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return;
    };
    let field = |n: usize| rest.split_whitespace().nth(n - 3).and_then(|f| f.parse::<usize>().ok());
    let (Some(start), Some(end)) = (field(48), field(49)) else {
        return;
    };
    if start == 0 || end <= start {
        return;
    }
    let name = name.to_bytes_with_nul();
    // SAFETY: arg_start..arg_end is the writable stack area of this process in which the kernel put the arguments;
    // it stays mapped, and nothing reads the arguments any more.
    unsafe {
        std::ptr::write_bytes(start as *mut u8, 0, end - start);
        std::ptr::copy_nonoverlapping(name.as_ptr(), start as *mut u8, name.len().min(end - start));
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn open_descriptors_are_told_from_closed_ones() {
        let null = std::fs::File::open("/dev/null").unwrap();
        // Far above what other tests of this process open.
        let fd = dup_above(null.as_raw_fd(), 960).unwrap();
        let first = fd - fd % POLLED as RawFd;
        let expected: Vec<bool> = (first..first + POLLED as RawFd).map(|n| n == fd).collect();
        assert_eq!(open_among(first).unwrap().to_vec(), expected);
        close_range(fd as u32, fd as u32).unwrap();
        assert_eq!(open_among(first).unwrap(), [false; POLLED]);
    }
}
