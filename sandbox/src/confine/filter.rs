//! The system calls of a reader with one thread: an allow list, assembled when it is needed. What is not in it fails
//! with EPERM; what no reader would ever try kills.

use crate::seccomp::filter_parts::{
    ALLOW, AUDIT_ARCH, ERRNO, JEQ, JGE, JSET, KILL_PROCESS, LD, OFFSET_ARCH, OFFSET_NR, RET,
};
use crate::sys::lockdown::Instruction;

/// When a call is allowed. Arguments are compared by their low 32 bits, but for pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Always.
    Always,
    /// Argument `.0` has none of the bits `.1`.
    Without(u32, u32),
    /// Argument `.0` is one of `.1`.
    OneOf(u32, &'static [u32]),
    /// The pointer in argument `.0` is null.
    Null(u32),
    /// Argument `.0` is the number of this process.
    Own(u32),
}
use When::{Always, Null, OneOf, Own, Without};

/// Flags of open(2) by which something is made, written or cut.
const WRITING: u32 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND | libc::O_TMPFILE)
    as u32
    & !(libc::O_DIRECTORY as u32);
const EXECUTABLE: u32 = libc::PROT_EXEC as u32;

/// What a reader needs.
const ALLOWED: &[(libc::c_long, When)] = &[
    // Files that are open, and opening more: what may be opened, Landlock says.
    (libc::SYS_read, Always),
    (libc::SYS_readv, Always),
    (libc::SYS_pread64, Always),
    (libc::SYS_lseek, Always),
    (libc::SYS_close, Always),
    (libc::SYS_openat, Without(2, WRITING)),
    // Its flags are behind a pointer: Landlock refuses writing, making and (from ABI 3 on) cutting.
    (libc::SYS_openat2, Always),
    (libc::SYS_fstat, Always),
    (libc::SYS_newfstatat, Always),
    (libc::SYS_statx, Always),
    (libc::SYS_fstatfs, Always),
    (libc::SYS_statfs, Always),
    (libc::SYS_getdents64, Always),
    (libc::SYS_readlinkat, Always),
    (libc::SYS_faccessat, Always),
    (libc::SYS_faccessat2, Always),
    (libc::SYS_getcwd, Always),
    (libc::SYS_fadvise64, Always),
    (libc::SYS_fcntl, OneOf(1, FCNTL)),
    // The answer, on standard output and standard error: no other descriptor can be written to.
    (libc::SYS_write, Always),
    (libc::SYS_writev, Always),
    // Memory, none of it executable.
    (libc::SYS_brk, Always),
    (libc::SYS_mmap, Without(2, EXECUTABLE)),
    (libc::SYS_mprotect, Without(2, EXECUTABLE)),
    (libc::SYS_mremap, Always),
    (libc::SYS_munmap, Always),
    (libc::SYS_madvise, Always),
    // What the runtime asks for.
    (libc::SYS_futex, Always),
    (libc::SYS_getrandom, Always),
    (libc::SYS_clock_gettime, Always),
    (libc::SYS_clock_getres, Always),
    (libc::SYS_clock_nanosleep, Always),
    (libc::SYS_nanosleep, Always),
    (libc::SYS_restart_syscall, Always),
    (libc::SYS_gettimeofday, Always),
    (libc::SYS_sched_yield, Always),
    (libc::SYS_sched_getaffinity, Always),
    (libc::SYS_getpid, Always),
    (libc::SYS_gettid, Always),
    (libc::SYS_getuid, Always),
    (libc::SYS_geteuid, Always),
    (libc::SYS_getgid, Always),
    (libc::SYS_getegid, Always),
    (libc::SYS_getrusage, Always),
    (libc::SYS_uname, Always),
    (libc::SYS_sysinfo, Always),
    (libc::SYS_prlimit64, Null(2)),
    (libc::SYS_prctl, OneOf(0, &[libc::PR_GET_SECCOMP as u32, libc::PR_GET_NO_NEW_PRIVS as u32])),
    // A panic, an abort, the end.
    (libc::SYS_rt_sigaction, Always),
    (libc::SYS_rt_sigprocmask, Always),
    (libc::SYS_rt_sigreturn, Always),
    (libc::SYS_sigaltstack, Always),
    (libc::SYS_tgkill, Own(0)),
    (libc::SYS_exit, Always),
    (libc::SYS_exit_group, Always),
];

const FCNTL: &[u32] = &[
    libc::F_GETFD as u32,
    libc::F_SETFD as u32,
    libc::F_GETFL as u32,
    libc::F_DUPFD as u32,
    libc::F_DUPFD_CLOEXEC as u32,
];

#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[(libc::c_long, When)] = &[
    (libc::SYS_open, Without(1, WRITING)),
    (libc::SYS_stat, Always),
    (libc::SYS_lstat, Always),
    (libc::SYS_readlink, Always),
    (libc::SYS_access, Always),
    (libc::SYS_time, Always),
    (libc::SYS_arch_prctl, OneOf(0, &[ARCH_CET_STATUS])),
];
#[cfg(target_arch = "x86_64")]
const ARCH_CET_STATUS: u32 = 0x3001;
#[cfg(target_arch = "aarch64")]
const ALLOWED_HERE: &[(libc::c_long, When)] = &[];

/// What kills: another program, process or thread, other processes, the network, other roots and the kernel's wider
/// surfaces. Nothing that reads files comes near.
const KILLED: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_memfd_create,
    libc::SYS_reboot,
];
#[cfg(target_arch = "x86_64")]
const KILLED_HERE: &[libc::c_long] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(target_arch = "aarch64")]
const KILLED_HERE: &[libc::c_long] = &[];

/// How many calls are allowed, under whatever condition.
pub(super) fn allowed() -> usize {
    ALLOWED.len() + ALLOWED_HERE.len()
}

/// The filter for the calling process.
pub(super) fn program() -> Vec<Instruction> {
    assemble(std::process::id())
}

fn assemble(own: u32) -> Vec<Instruction> {
    const REFUSE: u32 = ERRNO | libc::EPERM as u32;
    let mut code = Vec::new();
    let mut push = |code_, jt, jf, k| code.push(Instruction { code: code_, jt, jf, k });
    // struct seccomp_data: nr, arch, instruction_pointer, args[6]; little endian, the low half first.
    let low = |argument: u32| 16 + 8 * argument;
    push(LD, 0, 0, OFFSET_ARCH);
    push(JEQ, 1, 0, AUDIT_ARCH);
    push(RET, 0, 0, KILL_PROCESS);
    push(LD, 0, 0, OFFSET_NR);
    // x32 marks its calls with bit 30; on aarch64 no number comes near.
    push(JGE, 0, 1, 0x4000_0000);
    push(RET, 0, 0, KILL_PROCESS);
    for nr in KILLED.iter().chain(KILLED_HERE) {
        push(JEQ, 0, 1, *nr as u32);
        push(RET, 0, 0, KILL_PROCESS);
    }
    for (nr, when) in ALLOWED.iter().chain(ALLOWED_HERE) {
        match when {
            Always => {
                push(JEQ, 0, 1, *nr as u32);
                push(RET, 0, 0, ALLOW);
            }
            Without(argument, bits) => {
                push(JEQ, 0, 4, *nr as u32);
                push(LD, 0, 0, low(*argument));
                push(JSET, 0, 1, *bits);
                push(RET, 0, 0, REFUSE);
                push(RET, 0, 0, ALLOW);
            }
            OneOf(argument, values) => {
                push(JEQ, 0, 2 + 2 * values.len() as u8, *nr as u32);
                push(LD, 0, 0, low(*argument));
                for value in *values {
                    push(JEQ, 0, 1, *value);
                    push(RET, 0, 0, ALLOW);
                }
                push(RET, 0, 0, REFUSE);
            }
            Null(argument) => {
                push(JEQ, 0, 6, *nr as u32);
                push(LD, 0, 0, low(*argument));
                push(JEQ, 0, 3, 0);
                push(LD, 0, 0, low(*argument) + 4);
                push(JEQ, 0, 1, 0);
                push(RET, 0, 0, ALLOW);
                push(RET, 0, 0, REFUSE);
            }
            Own(argument) => {
                push(JEQ, 0, 4, *nr as u32);
                push(LD, 0, 0, low(*argument));
                push(JEQ, 0, 1, own);
                push(RET, 0, 0, ALLOW);
                push(RET, 0, 0, REFUSE);
            }
        }
    }
    push(RET, 0, 0, REFUSE);
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::filter_parts::run;

    const REFUSED: u32 = ERRNO | libc::EPERM as u32;
    const OWN: u32 = 4711;

    fn verdict(nr: libc::c_long, args: [u64; 6]) -> u32 {
        run(&assemble(OWN), AUDIT_ARCH, nr as u32, args)
    }

    fn with(argument: usize, value: u64) -> [u64; 6] {
        let mut args = [0; 6];
        args[argument] = value;
        args
    }

    #[test]
    fn every_number_is_allowed_refused_or_killed_as_the_tables_say() {
        for nr in 0..1000 {
            let found = verdict(nr, [0; 6]);
            let killed = KILLED.iter().chain(KILLED_HERE).any(|one| *one == nr);
            let allowed = ALLOWED.iter().chain(ALLOWED_HERE).find(|(one, _)| *one == nr);
            let expected = match (killed, allowed) {
                (true, None) => KILL_PROCESS,
                (false, Some((_, Always | Without(..) | Null(_)))) => ALLOW,
                (false, Some((_, OneOf(_, values)))) if values.contains(&0) => ALLOW,
                (false, _) => REFUSED,
                (true, Some(_)) => panic!("{nr} is both allowed and killed"),
            };
            assert_eq!(found, expected, "system call {nr}");
        }
    }

    #[test]
    fn arguments_decide_where_they_matter() {
        let (directory, path) = (libc::O_DIRECTORY as u64, libc::O_PATH as u64);
        for (flags, expected) in [
            (0, ALLOW),
            (directory | path | libc::O_CLOEXEC as u64 | libc::O_NOFOLLOW as u64, ALLOW),
            (libc::O_WRONLY as u64, REFUSED),
            (libc::O_RDWR as u64, REFUSED),
            (libc::O_CREAT as u64, REFUSED),
            (libc::O_TRUNC as u64, REFUSED),
            (libc::O_APPEND as u64, REFUSED),
            (libc::O_TMPFILE as u64, REFUSED),
        ] {
            assert_eq!(verdict(libc::SYS_openat, with(2, flags)), expected, "{flags:#o}");
            #[cfg(target_arch = "x86_64")]
            assert_eq!(verdict(libc::SYS_open, with(1, flags)), expected, "{flags:#o}");
        }
        let (read, execute) = (libc::PROT_READ as u64, libc::PROT_EXEC as u64);
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            assert_eq!(verdict(call, with(2, read)), ALLOW);
            assert_eq!(verdict(call, with(2, read | execute)), REFUSED);
        }
        assert_eq!(verdict(libc::SYS_fcntl, with(1, libc::F_GETFL as u64)), ALLOW);
        assert_eq!(verdict(libc::SYS_fcntl, with(1, libc::F_SETFL as u64)), REFUSED);
        assert_eq!(verdict(libc::SYS_fcntl, with(1, libc::F_SETLK as u64)), REFUSED);
        assert_eq!(verdict(libc::SYS_prlimit64, with(2, 0x1000)), REFUSED);
        assert_eq!(verdict(libc::SYS_tgkill, with(0, u64::from(OWN))), ALLOW);
        assert_eq!(verdict(libc::SYS_tgkill, with(0, 1)), REFUSED);
        assert_eq!(verdict(libc::SYS_prctl, with(0, libc::PR_GET_SECCOMP as u64)), ALLOW);
        assert_eq!(verdict(libc::SYS_prctl, with(0, libc::PR_SET_DUMPABLE as u64)), REFUSED);
    }

    #[test]
    fn other_tables_of_calls_kill() {
        let code = assemble(OWN);
        assert_eq!(run(&code, 0x4000_0003, libc::SYS_read as u32, [0; 6]), KILL_PROCESS);
        assert_eq!(verdict(0x4000_0000 | libc::SYS_read, [0; 6]), KILL_PROCESS);
    }

    #[test]
    fn nothing_but_the_reading_of_files_is_in_the_list() {
        for nr in [
            libc::SYS_kill,
            libc::SYS_ftruncate,
            libc::SYS_truncate,
            libc::SYS_unlinkat,
            libc::SYS_renameat2,
            libc::SYS_mkdirat,
            libc::SYS_mknodat,
            libc::SYS_linkat,
            libc::SYS_symlinkat,
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            libc::SYS_fchownat,
            libc::SYS_utimensat,
            libc::SYS_setxattr,
            libc::SYS_getxattr,
            libc::SYS_ioctl,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
            libc::SYS_setuid,
            libc::SYS_capset,
            libc::SYS_setpriority,
            libc::SYS_inotify_init1,
            libc::SYS_shmget,
            libc::SYS_mq_open,
            libc::SYS_sched_setaffinity,
            libc::SYS_seccomp,
            libc::SYS_landlock_create_ruleset,
        ] {
            assert_eq!(verdict(nr, [0; 6]), REFUSED, "system call {nr}");
        }
    }
}
