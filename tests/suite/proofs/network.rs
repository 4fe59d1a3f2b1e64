//! The network of a run with `--net none`: nothing of the host's is reachable, by address, by name of an abstract
//! socket, by a path, or by another family.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use harness::{World, users};

use super::{Proof, row};

#[test]
fn listeners_on_the_hosts_loopback_are_not_reached() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp6 = TcpListener::bind("[::1]:0");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut rows = vec![row(format!("tcp {}", tcp.local_addr().unwrap()), "ok", "ECONNREFUSED")];
        if let Ok(tcp6) = &tcp6 {
            rows.push(row(format!("tcp {}", tcp6.local_addr().unwrap()), "ok", "ECONNREFUSED"));
        }
        // 192.0.2.1 is nobody's (RFC 5737): inside there is no way to it, or to any other address.
        rows.push(row("tcp 192.0.2.1:80", "*", "ENETUNREACH"));
        rows.push(row("udp 192.0.2.1:53", "*", "ENETUNREACH"));
        rows.push(row("tcp 169.254.169.254:80", "*", "ENETUNREACH"));
        proof.prove(&rows);

        let attack = format!("udp {}", udp.local_addr().unwrap());
        let mut buffer = [0u8; 16];
        assert_eq!(proof.outside(std::slice::from_ref(&attack)), ["ok"]);
        assert!(udp.recv(&mut buffer).is_ok(), "{user:?}: the packet from outside arrives");
        proof.inside(&[attack]);
        assert!(udp.recv(&mut buffer).is_err(), "{user:?}: a packet left the sandbox");

        let text = proof.shell("cat /proc/net/dev /proc/net/route").text("backend.stdout.log");
        let interfaces: Vec<&str> =
            text.lines().filter_map(|l| l.split_once(':')).map(|l| l.0.trim()).collect();
        assert_eq!(interfaces, ["lo"], "{user:?}: {text}");
    }
}

#[test]
fn sockets_of_other_families_and_protocols_are_refused() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let closed = "EAFNOSUPPORT";
        let mut rows = Vec::new();
        for family in [
            libc::AF_PACKET,
            libc::AF_VSOCK,
            libc::AF_ALG,
            libc::AF_XDP,
            libc::AF_KEY,
            libc::AF_BLUETOOTH,
            libc::AF_CAN,
            libc::AF_TIPC,
            libc::AF_RDS,
            libc::AF_NFC,
            libc::AF_X25,
            libc::AF_IB,
        ] {
            // Which of them the host's kernel has is its own affair.
            rows.push(row(format!("socket {family} {} 0", libc::SOCK_RAW), "*", closed));
            rows.push(row(format!("socket {family} {} 0", libc::SOCK_STREAM), "*", closed));
        }
        for protocol in 1..22 {
            rows.push(row(format!("socket {} {} {protocol}", libc::AF_NETLINK, libc::SOCK_RAW), "*", closed));
        }
        let raw_out = if user == harness::User::Root { "ok" } else { "EPERM" };
        for family in [libc::AF_INET, libc::AF_INET6] {
            rows.push(row(format!("socket {family} {} {}", libc::SOCK_RAW, libc::IPPROTO_ICMP), "*", closed));
            rows.push(row(format!("socket {family} {} 0", libc::SOCK_SEQPACKET), "*", closed));
            rows.push(row(
                format!("socket {family} {} {}", libc::SOCK_STREAM, libc::IPPROTO_SCTP),
                "*",
                closed,
            ));
            rows.push(row(
                format!("socket {family} {} 0", libc::SOCK_STREAM),
                "ok|EAFNOSUPPORT",
                "ok|EAFNOSUPPORT",
            ));
        }
        rows.push(row(format!("socket {} {} 1", libc::AF_INET, libc::SOCK_RAW), raw_out, closed));
        rows.push(row(
            format!("socket {} {} {}", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT),
            "ok",
            closed,
        ));
        rows.push(row(format!("socket {} {} 0", libc::AF_NETLINK, libc::SOCK_RAW), "ok", "ok"));
        rows.push(row(format!("socket {} {} 0", libc::AF_UNIX, libc::SOCK_STREAM), "ok", "ok"));
        rows.push(row(
            format!("sys {} {} {} 0 0", libc::SYS_socketpair, libc::AF_TIPC, libc::SOCK_STREAM),
            "*",
            closed,
        ));
        proof.prove(&rows);
    }
}

#[test]
fn unix_sockets_of_the_host_are_not_reached() {
    for user in users() {
        let world = World::new(user);
        // In a home, where agents listen; in the world, as a daemon would in /run; and an abstract one.
        std::fs::create_dir_all(world.path("home/.agent")).unwrap();
        let home = world.path("home/.agent/docker.sock");
        let _home = UnixListener::bind(&home).unwrap();
        user.own(&world.path("home"));
        let name = format!("proctor-proof-{}-{}", std::process::id(), user.uid());
        let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let proof = Proof::new(&world);
        proof.prove(&[
            row(format!("unix {}", home.display()), "ok", "ENOENT"),
            row(format!("abstract {name}"), "ok", "ECONNREFUSED|EPERM"),
            row("unix /run/docker.sock", "*", "ENOENT"),
            row("unix /var/run/docker.sock", "*", "ENOENT"),
            row("unix /run/dbus/system_bus_socket", "*", "ENOENT"),
            row("unix /dev/log", "*", "ENOENT"),
        ]);
        // With the host's network the abstract name is in the same namespace: Landlock's scope is what is left.
        let proof = Proof::new(&world).with(["--net", "host"]);
        if proctor_sandbox::landlock::kernel_abi() >= 6 {
            proof.prove(&[row(format!("abstract {name}"), "ok", "EPERM")]);
        } else {
            // Older kernels have no such scope: it is lost, and said to be.
            proof.prove(&[row(format!("abstract {name}"), "ok", "ok")]);
            let missing = proof.shell("true").report()["sandbox"]["missing"].to_string();
            assert!(missing.contains("signal and abstract socket scoping"), "{user:?}: {missing}");
        }
    }
}

#[test]
fn a_socket_in_the_work_tree_or_below_a_mount_does_not_answer() {
    for user in users() {
        let world = World::new(user);
        std::fs::create_dir_all(world.path("shown/deep")).unwrap();
        let shown = world.path("shown/deep/agent.sock");
        let _shown = UnixListener::bind(&shown).unwrap();
        let proof = Proof::new(&world);
        std::fs::create_dir(proof.repo.path().join("target")).unwrap();
        let tree = proof.repo.path().join("target/watch.sock");
        let _tree = UnixListener::bind(&tree).unwrap();
        user.own(&world.path("."));
        let dir = world.path("shown").display().to_string();
        // An overlay's socket is another inode than the one that is listened on.
        for (option, answer) in [("--ro", "EACCES"), ("--rw", "EACCES"), ("--overlay", "ECONNREFUSED")] {
            let proof = Proof {
                world: &world,
                repo: harness::TestRepo::small(&world),
                options: Vec::new(),
                confined: false,
            };
            let proof = proof.with([option.to_owned(), dir.clone()]);
            let out =
                proof.outside(&[format!("unix {}", shown.display()), format!("unix {}", tree.display())]);
            assert_eq!(out, ["ok", "ok"], "{user:?} {option}");
            let inside =
                proof.inside(&[format!("unix {}", shown.display()), format!("unix {}", tree.display())]);
            assert_eq!(inside, [answer, "ECONNREFUSED"], "{user:?} {option}");
        }
    }
}
