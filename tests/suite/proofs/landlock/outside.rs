//! What is not a file: processes of the user, System V objects, sockets, devices, the kernel's rarer doors.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::time::Duration;

use harness::{World, users};

use crate::proofs::kernel::dangerous_calls;
use crate::proofs::{Proof, probe, row};

#[test]
fn other_processes_are_out_of_reach() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        let mut sleeper = world.command("sleep").arg("60").spawn().unwrap();
        let pid = sleeper.id();
        let mut rows = Vec::new();
        for call in [
            "limit",
            "priority",
            "io-priority",
            "scheduler",
            "processors",
            "kill",
            "thread-kill",
            "queue-signal",
            "descriptor-signal",
            "descriptor",
        ] {
            rows.push(row(format!("other {call} {pid}"), "ok", "EPERM"));
        }
        rows.push(row(format!("vmread {pid}"), "EFAULT", "EPERM"));
        rows.push(row(format!("ptrace {pid}"), "ok", "EPERM"));
        // For itself a program may.
        rows.push(row("other priority 0", "ok", "ok"));
        rows.push(row("other limit 0", "ok", "ok"));
        rows.push(row("other processors 0", "ok", "ok"));
        proof.prove(&rows);
        // Outside this one would be about everything that the user runs.
        proof.refused(&[("other priority-of-all 0".into(), "EPERM")]);
        // A signal that the kernel sends does not say whether it arrived; and one to everybody ends the sandbox alone.
        let deadly = [format!("other io-signal {pid}"), format!("kill {pid} 15")];
        proof.inside(&deadly);
        let outcome = proof.command(["sh", "-c", "sleep 50 & kill -9 -1; kill -9 0; echo unreached"]).run();
        assert_eq!(outcome.report()["backend_signal"], 9, "{user:?}: {outcome:#?}");
        std::thread::sleep(Duration::from_millis(100));
        assert!(sleeper.try_wait().unwrap().is_none(), "{user:?}: a process outside was killed");
        assert_eq!(proof.outside(&deadly[..1]), ["ok"]);
        let ended = std::os::unix::process::ExitStatusExt::signal(&sleeper.wait().unwrap());
        assert_eq!(ended, Some(15), "{user:?}: the descriptor's signal proves nothing");
    }
}

#[test]
fn init_cannot_be_signalled_or_traced_by_what_it_watches() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        // `$PPID` of the program is its init.
        let attacks = [
            "kill INIT 9",
            "kill INIT 19",
            "ptrace INIT",
            "vmread INIT",
            "other limit INIT",
            "other descriptor-signal INIT",
        ];
        let list = attacks.map(|a| format!("\"{}\"", a.replace("INIT", "$PPID"))).join(" ");
        let script = format!(
            "{} {list} \"read /proc/$PPID/environ\" \"read /proc/$PPID/maps\"; echo alive",
            probe().display()
        );
        let text = proof.shell(&script).text("backend.stdout.log");
        let got: Vec<&str> = text.lines().map(|l| l.split('\t').nth(1).unwrap_or(l)).collect();
        assert_eq!(got[..6], ["EPERM"; 6], "{user:?}: {text}");
        assert_eq!(got[6..], ["EACCES", "EACCES", "alive"], "{user:?}: {text}");
    }
}

#[test]
fn objects_of_the_hosts_ipc_namespace_are_refused() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        proof.prove(&[
            row("sysv shm", "ok|EEXIST|EACCES", "ENOSYS"),
            row("sysv sem", "ok|EEXIST|EACCES", "ENOSYS"),
            row("sysv msg", "ok|EEXIST|EACCES", "ENOSYS"),
            row(format!("queue proctor-proof-{}", user.uid()), "ok", "ENOSYS"),
            row("watch /etc/passwd", "ok", "EACCES"),
            row(format!("sys {} 0 0 0", libc::SYS_shmat), "ok|EINVAL", "ENOSYS"),
            row(format!("sys {} 0 0 0", libc::SYS_msgctl), "*", "ENOSYS"),
        ]);
        let _ = world.command("sh").args(["-c", "ipcrm -M 0x7001 -S 0x7001 -Q 0x7001 2>/dev/null"]).status();
    }
}

#[test]
fn no_socket_reaches_the_network_or_a_service() {
    for user in users() {
        let world = World::new(user);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = world.path("home/agent.sock");
        let _stream = UnixListener::bind(&path).unwrap();
        let log = world.path("home/log.sock");
        let datagrams = UnixDatagram::bind(&log).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        for socket in [&path, &log] {
            std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let name = format!("proctor-confined-{}-{}", std::process::id(), user.uid());
        let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let closed = "EAFNOSUPPORT";
        let send = format!("pair-send {}", log.display());
        let none = [
            row(format!("tcp {}", tcp.local_addr().unwrap()), "ok", closed),
            row("udp 127.0.0.1:9", "ok", closed),
            row(format!("unix {}", path.display()), "ok", closed),
            row(format!("abstract {name}"), "ok", closed),
            row("pair stream", "ok", "ok"),
            row("pair packet", "ok", "ok"),
            // What is sent from one of these may have any path as its address.
            row("pair datagram", "ok", "ESOCKTNOSUPPORT"),
            row("pair raw", "ok", "ESOCKTNOSUPPORT"),
            row(send.clone(), "ok", "ESOCKTNOSUPPORT"),
            row(format!("pair-connect datagram {}", log.display()), "ok", "ESOCKTNOSUPPORT"),
            // The others have their peer for good, which is the kernel's own doing.
            row(format!("pair-connect stream {}", path.display()), "EISCONN|EINVAL", "EISCONN|EINVAL"),
            row(
                format!("pair-connect packet {}", path.display()),
                "EISCONN|EINVAL|EPROTOTYPE",
                "EISCONN|EINVAL|EPROTOTYPE",
            ),
        ];
        let proof = Proof::confined(&world);
        proof.inside(std::slice::from_ref(&send));
        assert!(datagrams.recv(&mut [0; 8]).is_err(), "{user:?}: a datagram left the sandbox");
        proof.prove(&none);
        assert!(datagrams.recv(&mut [0; 8]).is_ok(), "{user:?}: the attack proves nothing");
        let mut rows = Vec::new();
        for (family, kind, protocol) in [
            (libc::AF_NETLINK, libc::SOCK_RAW, 0),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT),
            (libc::AF_INET, libc::SOCK_RAW, 1),
            (libc::AF_PACKET, libc::SOCK_RAW, 0),
            (libc::AF_VSOCK, libc::SOCK_STREAM, 0),
            (libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
            (libc::AF_UNIX, libc::SOCK_STREAM, 0),
        ] {
            rows.push(row(format!("socket {family} {kind} {protocol}"), "*", closed));
        }
        proof.prove(&rows);
        // With the host's network unix sockets stay closed.
        let proof = Proof::confined(&world).with(["--net", "host"]);
        proof.prove(&[
            row(format!("tcp {}", tcp.local_addr().unwrap()), "ok", "ok"),
            row(format!("unix {}", path.display()), "ok", "EAFNOSUPPORT|EACCES"),
            row(format!("abstract {name}"), "ok", "EAFNOSUPPORT|EPERM"),
            row(send, "ok", "ESOCKTNOSUPPORT|EACCES"),
        ]);
    }
}

#[test]
fn dangerous_calls_are_refused_as_at_level_full() {
    for user in users() {
        let world = World::new(user);
        Proof::confined(&world).prove(&dangerous_calls(user));
    }
}

#[test]
fn mounts_namespaces_and_ways_out_of_a_root_are_refused() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        let nr = |n: i64| n.to_string();
        proof.refused(&[
            (format!("path-call {} . . 0 {} 0", nr(libc::SYS_mount), libc::MS_BIND), "EPERM"),
            (format!("path-call {} / 2", nr(libc::SYS_umount2)), "EPERM"),
            (format!("path-call {} .", nr(libc::SYS_chroot)), "EPERM"),
            (format!("path-call {} . .", nr(libc::SYS_pivot_root)), "EPERM"),
            (format!("sys {} 0 0 0 0 0", nr(libc::SYS_open_by_handle_at)), "EPERM"),
            (format!("sys {} 0 0", nr(libc::SYS_setns)), "EPERM"),
            (format!("sys {} {}", nr(libc::SYS_unshare), libc::CLONE_NEWUSER | libc::CLONE_NEWNS), "EPERM"),
            ("tiocsti".into(), "EACCES|EPERM"),
            ("terminal".into(), "EACCES|ENXIO"),
            ("read /dev/ptmx".into(), "EACCES"),
        ]);
    }
}

#[test]
fn setuid_programs_and_capabilities_give_nothing() {
    for user in users() {
        let world = World::new(user);
        let copy = world.path("suid/probe");
        std::fs::create_dir(world.path("suid")).unwrap();
        std::fs::copy(probe(), &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
        let proof =
            Proof::confined(&world).with(["--ro".to_owned(), world.path("suid").display().to_string()]);
        let out = if users().len() == 2 { "euid 0" } else { "*" };
        let own = format!("euid {}", user.uid());
        let inside = if user == harness::User::Root { "~euid 1966" } else { String::leak(own) };
        proof.prove(&[row(format!("setuid-run {}", copy.display()), out, inside)]);
        let text = proof
            .shell("grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs|Seccomp):' /proc/self/status; id -G")
            .text("backend.stdout.log");
        let values: Vec<&str> = text.split_whitespace().collect();
        let none = "0000000000000000";
        assert_eq!(
            values[..12],
            [
                "CapInh:",
                none,
                "CapPrm:",
                none,
                "CapEff:",
                none,
                "CapAmb:",
                none,
                "NoNewPrivs:",
                "1",
                "Seccomp:",
                "2"
            ],
            "{user:?}"
        );
        assert_eq!(values.len(), 13, "{user:?}: one group: {text}");
    }
}

#[test]
fn descriptors_of_the_caller_do_not_leak() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        let secret = std::fs::File::open(world.write("home/held", "secret")).unwrap();
        let fd = nix::fcntl::fcntl(&secret, nix::fcntl::FcntlArg::F_DUPFD(50)).unwrap();
        assert!(fd >= 50 && secret.as_raw_fd() > 2);
        let inside = proof.inside(&["fds".into(), "readlink /proc/self/fd/1".into()]);
        nix::unistd::close(fd).unwrap();
        assert_eq!(inside[0], "0 1 2", "{user:?}");
        assert!(inside[1].starts_with("pipe:"), "{user:?}: {inside:?}");
    }
}
