//! The tables as the kernel and as the listener read them.

use super::assemble::*;
use super::*;
use crate::sys::lockdown::Instruction;

const POLICY: Policy = Policy { level: Level::Full, network: Network::None, sockets: false };

/// A BPF interpreter of the instructions used here, to test the assembled program without a kernel.
fn verdict(nr: libc::c_long, args: [u64; 6]) -> u32 {
    verdict_of(AUDIT_ARCH, nr as u32, args)
}

fn verdict_of(arch: u32, nr: u32, args: [u64; 6]) -> u32 {
    run(program(POLICY, Watching::Nothing), arch, nr, args)
}

pub(crate) fn run(program: &[Instruction], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        OFFSET_NR => nr,
        OFFSET_ARCH => arch,
        _ => args[((offset - 16) / 8) as usize] as u32,
    };
    let (mut pc, mut acc) = (0usize, 0u32);
    loop {
        let i = program[pc];
        pc += 1;
        let taken = match i.code {
            LD => {
                acc = load(i.k);
                continue;
            }
            AND => {
                acc &= i.k;
                continue;
            }
            RET => return i.k,
            JEQ => acc == i.k,
            JGE => acc >= i.k,
            JSET => acc & i.k != 0,
            other => panic!("unknown instruction {other:#x}"),
        };
        pc += usize::from(if taken { i.jt } else { i.jf });
    }
}

#[test]
fn every_rule_denies_and_has_a_reason() {
    for Rule { nr, when, then, reason, .. } in COMMON.iter().chain(ARCHITECTURE) {
        assert!(reason.len() > 10, "rule for {nr} has no reason");
        let mut args = [0u64; 6];
        match when {
            Always => {}
            Bits(a, bits) => args[*a as usize] = u64::from(1u32 << bits.trailing_zeros()),
            Makes(flags, mode, bits) => {
                args[*flags as usize] = libc::O_CREAT as u64;
                args[*mode as usize] = u64::from(*bits);
            }
            In(a, values) => args[*a as usize] = u64::from(values[0]),
            NotIn(a, _) => args[*a as usize] = 0x7777,
            NonZero(arguments) => args[arguments[0] as usize] = 7,
            Requests(requests, ..) => args[1] = u64::from(requests[0]),
            PairFamilyOrDatagrams => args[0] = libc::AF_VSOCK as u64,
            SocketFamily | SocketFamilyAndUnix => args[0] = libc::AF_VSOCK as u64,
        }
        let expected = match then {
            Kill => KILL_PROCESS,
            Fail(errno) => ERRNO | *errno as u32,
            Ask(_) => ALLOW,
            Serve => ERRNO | EPERM as u32,
        };
        assert_eq!(verdict(*nr, args), expected, "syscall {nr}: {reason}");
    }
}

#[test]
fn modes_are_denied_where_they_make_a_setuid_or_setgid_file() {
    let refused = ERRNO | EPERM as u32;
    let (making, tmpfile) = (libc::O_CREAT | libc::O_WRONLY, libc::O_TMPFILE | libc::O_WRONLY);
    for (flags, mode, expected) in [
        (making, 0o4755, refused),
        (making, 0o2755, refused),
        (tmpfile, 0o4755, refused),
        (making, 0o1777, ALLOW),
        (tmpfile, 0o666, ALLOW),
        // Nothing is made, and the argument is whatever stood there.
        (libc::O_RDONLY | libc::O_DIRECTORY, 0o7777, ALLOW),
    ] {
        let args = [0, 0, flags as u64, mode, 0, 0];
        assert_eq!(verdict(libc::SYS_openat, args), expected, "{flags:#o} {mode:#o}");
        for watching in [Watching::Calls, Watching::Paths] {
            let stopped = run(program(POLICY, watching), AUDIT_ARCH, libc::SYS_openat as u32, args);
            let judged = judge(POLICY, libc::SYS_openat, &args).0;
            let refuses = stopped == USER_NOTIF && judged == Verdict::Refuse { errno: EPERM, kill: false };
            assert_eq!(refuses, expected == refused, "{watching:?} {flags:#o} {mode:#o}");
        }
    }
    assert_eq!(verdict(libc::SYS_fchmodat, [0, 0, 0o755, 0, 0, 0]), ALLOW);
    assert_eq!(verdict(libc::SYS_fchmodat, [0, 0, 0o4755, 0, 0, 0]), refused);
    assert_eq!(verdict(libc::SYS_mknodat, [0, 0, 0o104755, 0, 0, 0]), refused);
}

#[test]
fn ordinary_calls_pass() {
    for nr in [libc::SYS_read, libc::SYS_openat, libc::SYS_execve, libc::SYS_futex, libc::SYS_exit_group] {
        assert_eq!(verdict(nr, [0; 6]), ALLOW);
    }
    assert_eq!(
        verdict(libc::SYS_clone, [libc::CLONE_VM as u64 | libc::SIGCHLD as u64, 0, 0, 0, 0, 0]),
        ALLOW
    );
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK] {
            for protocol in INET_PROTOCOLS {
                let args = [family as u64, kind as u64, u64::from(protocol), 0, 0, 0];
                assert_eq!(verdict(libc::SYS_socket, args), ALLOW, "{args:?}");
            }
        }
    }
    assert_eq!(verdict(libc::SYS_socket, [libc::AF_UNIX as u64, 5, 0, 0, 0, 0]), ALLOW);
    assert_eq!(verdict(libc::SYS_socket, [libc::AF_NETLINK as u64, 3, 0, 0, 0, 0]), ALLOW);
    assert_eq!(verdict(libc::SYS_ioctl, [1, libc::TIOCGWINSZ, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn other_families_protocols_and_abis_do_not_pass() {
    let netlink_audit = [libc::AF_NETLINK as u64, 3, libc::NETLINK_AUDIT as u64, 0, 0, 0];
    assert_eq!(verdict(libc::SYS_socket, netlink_audit), ERRNO | EAFNOSUPPORT as u32);
    assert_eq!(
        verdict(libc::SYS_socket, [libc::AF_PACKET as u64, 3, 0, 0, 0, 0]),
        ERRNO | EAFNOSUPPORT as u32
    );
    // Sequenced packets and DCCP (types 5, 6), SCTP (protocol 132), raw sockets: a module each, or a right.
    for (kind, protocol) in [(5, 0), (6, 0), (1, 132), (5, 132), (6, 33), (3, 1), (3, 255), (10, 0)] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let args = [family as u64, kind, protocol, 0, 0, 0];
            assert_eq!(verdict(libc::SYS_socket, args), ERRNO | EAFNOSUPPORT as u32, "{args:?}");
        }
    }
    // High bits of a 32-bit argument do not hide the value.
    let hidden = [(1 << 32) | libc::AF_ALG as u64, 5, 0, 0, 0, 0];
    assert_eq!(verdict(libc::SYS_socket, hidden), ERRNO | EAFNOSUPPORT as u32);
    assert_eq!(verdict_of(0x4000_0003, 1, [0; 6]), KILL_PROCESS, "i386");
    assert_eq!(verdict_of(AUDIT_ARCH, 0x4000_0000 | 1, [0; 6]), KILL_PROCESS, "x32");
}

/// The kernel's program and the listener's judgement are made of one table and must never differ.
#[test]
fn the_listener_judges_as_the_kernel_does() {
    let interesting: Vec<u64> = [0, 1, 2, 3, 5, 6, 10, 16, 17, 40, 132, 255, 0x7777, u64::MAX]
        .into_iter()
        .chain([libc::TIOCSTI, u64::from(NEW_NAMESPACES), u64::from(CLONE_NEWTIME), 1 << 28, 1 << 32])
        .chain(HARMLESS_REQUESTS.iter().map(|request| u64::from(*request)))
        .chain(FILE_SYSTEM_TYPES.iter().map(|kind| u64::from(*kind << 8 | 7)))
        .chain([0x4008_6602])
        .collect();
    let policies = [Level::Full, Level::Landlock].into_iter().flat_map(|level| {
        [Network::None, Network::Host].into_iter().flat_map(move |network| {
            [false, true].into_iter().map(move |sockets| Policy { level, network, sockets })
        })
    });
    for policy in policies {
        let unwatched = program(policy, Watching::Nothing);
        let known = [WATCHED, PATHS, OLD_PATHS]
            .into_iter()
            .flatten()
            .chain(policy.tables().into_iter().flatten())
            .map(|r| r.nr as u32);
        let known: std::collections::BTreeSet<u32> = known.chain([0, 1, 9, 11, 59, 257, 599]).collect();
        for nr in known {
            for a in &interesting {
                for b in &interesting {
                    for c in [0, 1, 6, 9, 58, 132] {
                        let args = [*a, *b, c, 0, 0, 0];
                        let alone = run(unwatched, AUDIT_ARCH, nr, args);
                        for watching in [Watching::Calls, Watching::Paths] {
                            let watched = program(policy, watching);
                            let expected = match run(watched, AUDIT_ARCH, nr, args) {
                                ALLOW => ALLOW,
                                USER_NOTIF => match judge(policy, libc::c_long::from(nr), &args).0 {
                                    Verdict::Continue(_) => ALLOW,
                                    Verdict::Serve => ERRNO | EPERM as u32,
                                    Verdict::Refuse { kill: true, .. } => KILL_PROCESS,
                                    Verdict::Refuse { errno, .. } => ERRNO | errno as u32,
                                },
                                other => panic!("syscall {nr}: {other:#x}"),
                            };
                            assert_eq!(alone, expected, "{policy:?} syscall {nr} {args:?}");
                        }
                    }
                }
            }
        }
        assert_eq!(run(program(policy, Watching::Calls), 0x4000_0003, 1, [0; 6]), KILL_PROCESS, "i386");
    }
}

#[test]
fn level_landlock_refuses_what_namespaces_would_keep_in() {
    let verdict = |network, sockets, nr: libc::c_long, args| {
        let policy = Policy { level: Level::Landlock, network, sockets };
        run(program(policy, Watching::Nothing), AUDIT_ARCH, nr as u32, args)
    };
    let refused = ERRNO | EAFNOSUPPORT as u32;
    for (network, sockets, family, expected) in [
        (Network::None, false, libc::AF_INET, refused),
        (Network::None, false, libc::AF_UNIX, refused),
        (Network::None, false, libc::AF_NETLINK, refused),
        (Network::None, true, libc::AF_INET6, refused),
        (Network::None, true, libc::AF_UNIX, ALLOW),
        (Network::Host, false, libc::AF_UNIX, refused),
        (Network::Host, false, libc::AF_INET, ALLOW),
        (Network::Host, false, libc::AF_VSOCK, refused),
        (Network::Host, true, libc::AF_UNIX, ALLOW),
        (Network::Host, true, libc::AF_PACKET, refused),
    ] {
        let args = [family as u64, 1, 0, 0, 0, 0];
        assert_eq!(verdict(network, sockets, libc::SYS_socket, args), expected, "{network:?} {family}");
    }
    let plain = |nr, args| verdict(Network::None, false, nr, args);
    assert_eq!(plain(libc::SYS_prlimit64, [0; 6]), ALLOW);
    assert_eq!(plain(libc::SYS_prlimit64, [77, 0, 0, 0, 0, 0]), ERRNO | EPERM as u32);
    assert_eq!(plain(libc::SYS_setpriority, [0, 0, 5, 0, 0, 0]), ALLOW);
    assert_eq!(plain(libc::SYS_setpriority, [2, 0, 5, 0, 0, 0]), ERRNO | EPERM as u32, "PRIO_USER");
    assert_eq!(plain(libc::SYS_setpriority, [0, 9, 5, 0, 0, 0]), ERRNO | EPERM as u32);
    // Of flags, fsxattr, version (twice), verity, encryption policy and keys, btrfs and bcachefs subvolumes, attributes
    // of fat; and terminals.
    for request in [
        0x4008_6602u64,
        0x401c_5820,
        0x4008_7602,
        0x4008_6604,
        0x4080_6685,
        0x800c_6613,
        0xc050_6617,
        0xc040_6618,
        0x5000_940e,
        0x5000_940f,
        0x4020_bc10,
        0x4004_7211,
        libc::TIOCSTI,
        libc::TIOCLINUX,
    ] {
        for high in [0, 1 << 32] {
            let args = [3, request | high, 0, 0, 0, 0];
            assert_eq!(plain(libc::SYS_ioctl, args), ERRNO | EPERM as u32, "{request:x}");
        }
    }
    let harmless = HARMLESS_REQUESTS.iter().map(|request| u64::from(*request));
    for request in harmless.chain([libc::TCGETS, libc::FIONREAD, libc::TIOCGWINSZ, libc::FIOCLEX]) {
        assert_eq!(plain(libc::SYS_ioctl, [3, request, 0, 0, 0, 0]), ALLOW, "{request:x}");
    }
    let pair = |family, kind| plain(libc::SYS_socketpair, [family as u64, kind, 0, 0, 0, 0]);
    let cloexec = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u64;
    for kind in [1, 5, 1 | cloexec, 5 | cloexec] {
        assert_eq!(pair(libc::AF_UNIX, kind), ALLOW, "a pair of {kind}");
    }
    for kind in [2, 3, 2 | cloexec, 3 | cloexec, 0, 4] {
        assert_eq!(pair(libc::AF_UNIX, kind), ERRNO | ESOCKTNOSUPPORT as u32, "a pair of {kind}");
    }
    assert_eq!(pair(libc::AF_TIPC, 1), ERRNO | ESOCKTNOSUPPORT as u32);
    // Where Landlock mediates what is sent to, a pair is as good as any socket.
    assert_eq!(verdict(Network::None, true, libc::SYS_socketpair, [1, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(plain(libc::SYS_fchmodat, [0; 6]), ERRNO | EPERM as u32);
    assert_eq!(plain(libc::SYS_mount, [0; 6]), ERRNO | EPERM as u32);
    assert_eq!(plain(libc::SYS_openat, [0; 6]), ALLOW);
}
