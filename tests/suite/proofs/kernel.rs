//! The kernel's rarer doors: what the seccomp filter closes, shown to be open to a plain process where its own rights
//! go that far. A call that a plain process is refused for want of a capability proves nothing here by its errno; the
//! filter itself is held against every rule of its table by the unit tests of `sandbox/src/seccomp/tests.rs`.

use harness::{User, World, users};

use super::{Proof, Row, row};

fn sys(nr: i64, args: &str, outside: &'static str, inside: &'static str) -> Row {
    row(format!("sys {nr} {args}").trim_end().to_owned(), outside, inside)
}

#[test]
fn dangerous_calls_reach_the_kernel_outside_and_the_filter_inside() {
    for user in users() {
        let world = World::new(user);
        Proof::new(&world).prove(&dangerous_calls(user));
    }
}

/// What each level's filter must refuse.
pub(super) fn dangerous_calls(user: User) -> Vec<Row> {
    let new_user = libc::CLONE_NEWUSER;
    let mut rows = vec![
        // Arguments are wrong on purpose: the errno outside is the kernel's own, from behind the door.
        sys(libc::SYS_io_uring_setup, "1 0", "EFAULT|EPERM", "ENOSYS"),
        sys(libc::SYS_io_uring_enter, "-1 0 0 0 0", "EBADF", "ENOSYS"),
        sys(libc::SYS_io_uring_register, "-1 0 0 0", "EBADF|EINVAL", "ENOSYS"),
        sys(libc::SYS_keyctl, "0 -3 1", "ok", "ENOSYS"),
        sys(libc::SYS_add_key, "0 0 0 0 0", "EFAULT", "ENOSYS"),
        sys(libc::SYS_request_key, "0 0 0 0", "EFAULT", "ENOSYS"),
        sys(libc::SYS_userfaultfd, "1", "ok|EPERM", "EPERM"),
        sys(libc::SYS_perf_event_open, "0 0 -1 -1 0", "EFAULT|ENOSYS|EACCES", "EPERM"),
        sys(libc::SYS_personality, "0x0008", "ok", "EPERM"),
        sys(libc::SYS_personality, "0x0400000", "ok", "EPERM"),
        sys(libc::SYS_personality, "0xffffffff", "ok", "ok"),
        sys(libc::SYS_modify_ldt, "0 0 0", "ok|EFAULT", "ENOSYS"),
        sys(libc::SYS_unshare, &new_user.to_string(), "ok", "EPERM"),
        sys(libc::SYS_unshare, &libc::CLONE_NEWNS.to_string(), "*", "EPERM"),
        sys(libc::SYS_unshare, "0x80", "*", "EPERM"),
        sys(libc::SYS_clone, &format!("{} 0 0 0 0", new_user | libc::SIGCHLD), "ok", "EPERM"),
        sys(libc::SYS_clone3, "0 0", "EINVAL|EFAULT", "ENOSYS"),
        sys(libc::SYS_setns, "-1 0", "EBADF", "EPERM"),
        sys(libc::SYS_name_to_handle_at, "-1 0 0 0 0", "EFAULT|EBADF", "ENOSYS"),
        sys(libc::SYS_kcmp, "0 0 0 0 0", "*", "EPERM"),
        sys(libc::SYS_pidfd_getfd, "-1 0 0", "EBADF", "EPERM"),
        sys(libc::SYS_process_madvise, "-1 0 0 0 0", "EBADF", "EPERM"),
        sys(libc::SYS_fspick, "-1 0 0", "*", "EPERM"),
        sys(libc::SYS_bpf, "0 0 0", "*", "EPERM"),
        sys(libc::SYS_fanotify_init, "0 0", "*", "EPERM"),
        sys(libc::SYS_syslog, "10 0 0", "*", "EPERM"),
    ];
    // What would harm the host if it worked is called with arguments that no kernel accepts.
    // By the listener; without one the kernel does it, with SIGSYS: see below.
    let killed = "SIGKILL";
    let out = |as_root: &'static str| if user == User::Root { as_root } else { "EPERM" };
    rows.extend([
        sys(libc::SYS_reboot, "0 0 0 0", out("EINVAL"), killed),
        sys(libc::SYS_kexec_load, "0 0 0 0xffffffff", "*", killed),
        sys(libc::SYS_kexec_file_load, "-1 -1 0 0 0xffffffff", "*", killed),
        sys(libc::SYS_init_module, "0 0 0", "*", killed),
        sys(libc::SYS_finit_module, "-1 0 0xffff", "*", killed),
        sys(libc::SYS_delete_module, "0 0", "*", killed),
        sys(libc::SYS_swapon, "0 0xffffffff", "*", killed),
        sys(libc::SYS_swapoff, "0", "*", killed),
        sys(libc::SYS_settimeofday, "1 0", "*", "EPERM"),
        sys(libc::SYS_acct, "1", "*", "EPERM"),
        sys(libc::SYS_quotactl_fd, "-1 0 0 0", "*", "EPERM"),
    ]);
    #[cfg(target_arch = "x86_64")]
    rows.extend([
        sys(libc::SYS_iopl, "9", "EINVAL|ENOSYS", killed),
        sys(libc::SYS_ioperm, "0 0 0", "EINVAL|ENOSYS", killed),
        // Another ABI is the kernel's own to kill, listener or not.
        // x32: getpid with bit 30. A kernel without x32 says ENOSYS.
        sys(0x4000_0000 + libc::SYS_getpid, "", "ok|ENOSYS", "SIGSYS"),
        row("i386", "ok|refused|SIGSEGV", "SIGSYS"),
    ]);
    rows
}

#[test]
fn the_same_calls_kill_with_and_without_a_listener() {
    for user in users() {
        let world = World::new(user);
        let dir = super::start::place(&world);
        for (watched, killed) in [("unwatched", 31), ("watched", 9)] {
            for (nr, args, end) in [
                (libc::SYS_reboot, "0 0 0 0", killed),
                (libc::SYS_init_module, "0 0 0", killed),
                (0x4000_0000 + libc::SYS_getpid, "", 31),
            ] {
                let attack = format!("sys {nr} {args}");
                let got = super::start::launch(&world, watched, &[&dir, attack.trim_end()]);
                assert_eq!(got, format!("signal {end}"), "{user:?} {watched} {attack}");
            }
            let attack = format!("sys {} 0 0 0", libc::SYS_bpf);
            let got = super::start::launch(&world, watched, &[&dir, &attack]);
            assert_eq!(got, "code 0", "{user:?} {watched}: what merely fails kills nothing");
        }
    }
}

#[test]
fn a_terminal_is_neither_there_nor_typed_into() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        // Outside the kernel itself may refuse it (dev.tty.legacy_tiocsti=0, EIO).
        proof.prove(&[row("tiocsti", "ok|EIO", "EPERM"), row("terminal", "*", "ENXIO|ENOENT|EACCES")]);
        let text = proof
            .shell("ps -o tty= -p $$ 2>/dev/null; cut -d' ' -f6,7 /proc/$$/stat")
            .text("backend.stdout.log");
        let numbers: Vec<&str> = text.lines().last().unwrap().split(' ').collect();
        assert_eq!(numbers[1], "0", "{user:?}: a controlling terminal: {text}");
        assert_ne!(numbers[0], "0", "{user:?}: the session of somebody outside: {text}");
    }
}

#[test]
fn a_core_dump_stays_off_whatever_the_hosts_pattern_is() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let core = libc::RLIMIT_CORE;
        proof.prove(&[
            // 1 is the one value at which a piped core_pattern runs nothing (core(5)); 0 does not stop it.
            row(format!("rlimit {core} 0"), "ok", "ok"),
            row(format!("rlimit {core} 1048576"), "ok", "EPERM"),
        ]);
        let outcome = proof
            .shell("grep '^Max core' /proc/self/limits; sh -c 'kill -SEGV $$'; ls core* 2>/dev/null; true");
        let text = outcome.text("backend.stdout.log");
        let fields: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(fields[4..6], ["1", "1"], "{user:?}: {text}");
        assert!(!text.contains("core."), "{user:?}: {text}");
    }
}

#[test]
fn a_caller_whose_hard_limit_forbids_cores_is_no_way_around_it() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let mut command = world.command("prlimit");
        let output = command
            .args(["--core=0:0", "--"])
            .arg(crate::binary())
            .args(["run", "--no-test", "--mutation", "discard", "--repo"])
            .arg(proof.repo.path())
            .args(["--", "grep", "^Max core", "/proc/self/limits"])
            .output()
            .unwrap();
        let evidence = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
        let evidence = std::path::Path::new(&evidence);
        let text = std::fs::read_to_string(evidence.join("backend.stdout.log"))
            .unwrap_or_else(|e| panic!("{user:?}: {e}: {output:?}"));
        let fields: Vec<&str> = text.split_whitespace().collect();
        // CAP_SYS_RESOURCE raises it to 1; others cannot, and are told where it matters: at a pipe or a socket.
        let gap = fields[4] != "1";
        assert!(user == User::Root || fields[4..6] == ["0", "0"], "{user:?}: {text}");
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        let report = std::fs::read_to_string(evidence.join("report.json")).unwrap();
        assert_eq!(report.contains("\"core_dumps\""), !gap, "{user:?}: claimed and not so: {report}");
        let gap = gap && pattern.starts_with(['|', '@']);
        assert_eq!(
            report.contains("core dumps: the caller's hard RLIMIT_CORE is 0"),
            gap,
            "{user:?}: {report}"
        );
    }
}
