//! Other processes: none outside can be seen, signalled or traced; the sandbox's init cannot be killed from inside;
//! nothing outlives the run; nobody becomes somebody else.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use harness::{User, World, users};

use super::{Proof, fits, probe, row};

#[test]
fn init_and_outside_cannot_be_signalled_or_traced() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let mut sleeper = world.command("sleep").arg("60").spawn().unwrap();
        let pid = sleeper.id();
        let gone = "ESRCH";
        let mut rows = Vec::new();
        for attack in ["kill PID 9", "ptrace PID", "vmread PID"] {
            // vmread finds nothing at the address it asks for, which it is told only where it may look.
            rows.push(row(attack.replace("PID", &pid.to_string()), "*", gone));
        }
        let inside: Vec<(String, &'static str)> = rows.iter().map(|r| (r.0.clone(), r.2)).collect();
        proof.refused(&inside);
        assert!(sleeper.try_wait().unwrap().is_none(), "{user:?}: killed from inside");
        let outside =
            proof.outside(&[format!("ptrace {pid}"), format!("vmread {pid}"), format!("kill {pid} 9")]);
        assert_eq!(outside, ["ok", "EFAULT", "ok"], "{user:?}");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&sleeper.wait().unwrap()), Some(9));

        proof.refused(&[
            ("ptrace 1".into(), "EPERM"),
            ("vmread 1".into(), "EPERM"),
            ("kill 1 19".into(), "EPERM|ok"),
            ("kill 1 9".into(), "EPERM|ok"),
            ("kill 1 11".into(), "EPERM|ok"),
            (format!("sys {} 1 0", libc::SYS_pidfd_getfd), "EPERM"),
            (format!("sys {} 1 1 0 0 0", libc::SYS_kcmp), "EPERM"),
            (format!("sys {} 0 0 0 0 0", libc::SYS_process_madvise), "EPERM"),
            // The init still serves: this line is the proof.
            ("euid".into(), "euid 1000"),
        ]);
    }
}

#[test]
fn kill_everything_ends_only_what_is_inside() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let mut sleeper = world.command("sleep").arg("60").spawn().unwrap();
        let outcome = proof.command(["sh", "-c", "sleep 50 & kill -9 -1; kill -9 0; echo unreached"]).run();
        let report = outcome.report();
        assert_eq!(report["backend_signal"], 9, "{user:?}: {outcome:#?}");
        assert_eq!(outcome.code, Some(1), "{user:?}");
        assert!(sleeper.try_wait().unwrap().is_none(), "{user:?}: a process outside was killed");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}

#[test]
fn nothing_outlives_the_run() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let token = format!("31{}", std::process::id());
        // Daemons every way a shell can make them, one of them holding standard output.
        let script = format!(
            "(setsid sleep {token} &) ; (setsid sh -c 'trap \"\" TERM HUP INT; sleep {token}' >/dev/null 2>&1 &) ; nohup sleep {token} & disown 2>/dev/null; exit 0"
        );
        let started = Instant::now();
        let outcome = proof.command(["sh", "-c", &script]).run();
        assert_eq!(outcome.code, Some(0), "{user:?}: {outcome:#?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{user:?}: it waited for a daemon");
        assert_eq!(with_argument(&token), Vec::<u32>::new(), "{user:?}");
    }
}

#[test]
fn a_killed_supervisor_leaves_nothing_alive() {
    for user in users() {
        for round in 0..3 {
            let world = World::new(user);
            let proof = Proof::new(&world);
            let token = format!("32{round}{}", std::process::id());
            let mut command = proof.command(["sh", "-c", &format!("setsid sleep {token} & sleep {token}")]);
            command.command().stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let mut child = command.spawn();
            wait_for(|| with_argument(&token).len() >= 2, "the backend starts");
            // As an ordinary user the child is setpriv, which has become proctor by exec: same pid.
            child.kill().unwrap();
            child.wait().unwrap();
            wait_for(|| with_argument(&token).is_empty(), "everything dies with the supervisor");
        }
    }
}

#[test]
fn a_killed_launcher_ends_the_run_with_a_report() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let token = format!("33{}", std::process::id());
        let script = format!("echo up; exec sleep {token}");
        let child = proof.command(["sh", "-c", &script]).spawn();
        // The run learns that its sandbox stands a moment before or after the first output: it is given that moment.
        let said = || {
            let runs = std::fs::read_dir(world.path("state/proctor/runs")).into_iter().flatten().flatten();
            runs.map(|run| run.path().join("backend.stdout.log"))
                .any(|log| std::fs::read(log).is_ok_and(|text| text == b"up\n"))
        };
        wait_for(said, "the backend starts");
        wait_for(|| with_argument(&token).iter().any(|p| comm(*p) == "sleep"), "the backend sleeps");
        std::thread::sleep(std::time::Duration::from_millis(500));
        let main = with_argument(&token).into_iter().find(|p| comm(*p) == "sleep").unwrap();
        let init = parent(main);
        let launcher = parent(init);
        assert_eq!(parent(launcher), child.id(), "{user:?}: the family is another than thought");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(launcher as i32).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{user:?}: {output:?}");
        assert_eq!(with_argument(&token), Vec::<u32>::new());
    }
}

#[test]
fn the_backend_is_an_unprivileged_user_on_the_host() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let token = format!("34{}", std::process::id());
        let mut child = proof.command(["sleep", &token]).spawn();
        wait_for(|| with_argument(&token).iter().any(|p| comm(*p) == "sleep"), "the backend starts");
        let main = with_argument(&token).into_iter().find(|p| comm(*p) == "sleep").unwrap();
        for pid in [main, parent(main)] {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let field = |name: &str| {
                status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim().to_owned()
            };
            let uids: Vec<u32> = field("Uid:").split_whitespace().map(|u| u.parse().unwrap()).collect();
            let gids: Vec<u32> = field("Gid:").split_whitespace().map(|u| u.parse().unwrap()).collect();
            if user == User::Root {
                assert!(uids.iter().chain(&gids).all(|u| *u >= 30_000 * 65_536), "{status}");
                assert_eq!(field("Groups:"), "", "{status}");
            } else {
                assert_eq!(uids, [user.uid(); 4], "{status}");
            }
            for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
                assert_eq!(field(set), "0000000000000000", "{user:?} {set}");
            }
            assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"), "{user:?}");
            for ns in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
                let of = |p: &str| std::fs::read_link(format!("/proc/{p}/ns/{ns}")).unwrap();
                assert_ne!(of(&pid.to_string()), of("self"), "{user:?} {ns}");
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn setuid_programs_and_file_capabilities_give_nothing() {
    for user in users() {
        let world = World::new(user);
        // A setuid-root copy of the probe, shown to the backend; and one that it makes itself in the tree.
        let copy = world.path("suid/probe");
        std::fs::create_dir(world.path("suid")).unwrap();
        std::fs::copy(probe(), &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
        let proof = Proof::new(&world).with(["--ro".to_owned(), world.path("suid").display().to_string()]);
        let attack = format!("setuid-run {}", copy.display());
        // The copy belongs to whoever runs the suite: root's gives root outside.
        let out = if harness::users().len() == 2 { "euid 0" } else { "*" };
        proof.prove(&[row(attack, out, "euid 1000")]);

        let text = proof
            .shell(&format!(
                "cp {0} mine; chmod 4755 mine || chmod 755 mine; ./mine --one euid; setpriv --reuid 0 true 2>&1 || echo refused; su -c id 2>&1 || echo refused; {0} 'setxattr mine security.capability x' 'sys {1} 0' 'sys {2} 0 0 0'",
                probe().display(),
                libc::SYS_setuid,
                libc::SYS_setresuid,
            ))
            .text("backend.stdout.log");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "euid 1000", "{user:?}: {text}");
        assert_eq!(lines.iter().filter(|l| **l == "refused").count(), 2, "{user:?}: {text}");
        let tail: Vec<&str> =
            lines[lines.len() - 3..].iter().map(|l| l.split('\t').nth(1).unwrap_or_default()).collect();
        assert!(
            fits("EPERM|EINVAL", tail[0]) && fits("EINVAL|EPERM", tail[1]) && fits("EINVAL|EPERM", tail[2]),
            "{user:?}: {text}"
        );
        // What it left is no ordinary change.
        assert!(!text.contains("uid=0"), "{user:?}: {text}");
    }
}

#[test]
fn no_setuid_program_is_left_where_a_mount_is_writable() {
    for user in users() {
        for confined in [false, true] {
            let world = World::new(user);
            // At level landlock root's sandbox is nobody in particular, and needs a right to write.
            let [outside, inside] = ["outside", "inside"].map(|name| {
                let dir = world.path(name);
                std::fs::create_dir(&dir).unwrap();
                std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
                dir
            });
            let proof = if confined { Proof::confined(&world) } else { Proof::new(&world) };
            let proof = proof.with(["--rw".to_owned(), inside.display().to_string()]);
            let attacks = |dir: &std::path::Path| {
                [
                    ("create-mode", "a", "755"),
                    ("chmod", "a", "4755"),
                    ("chmod", "a", "2755"),
                    ("create-mode", "b", "6755"),
                    ("mknod-mode", "c", "106755"),
                    ("openat2-mode", "d", "6755"),
                ]
                .map(|(attack, name, mode)| format!("{attack} {}/{name} {mode}", dir.display()))
                .to_vec()
            };
            assert_eq!(proof.outside(&attacks(&outside)), ["ok"; 6], "{user:?}");
            let refused = ["ok", "EPERM", "EPERM", "EPERM", "EPERM", "ENOSYS"];
            assert_eq!(proof.inside(&attacks(&inside)), refused, "{user:?}");
            let modes = |dir: &std::path::Path| -> u32 {
                let entries = std::fs::read_dir(dir).unwrap().flatten();
                entries.fold(0, |all, entry| all | entry.metadata().unwrap().permissions().mode())
            };
            assert_eq!((modes(&outside) & 0o4000, modes(&inside) & 0o6000), (0o4000, 0), "{user:?}");
        }
    }
}

/// Host pids of processes with this argument.
pub(super) fn with_argument(token: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|b| *b == 0).any(|a| a == token.as_bytes()) && comm(pid) == "sleep" {
            found.push(pid);
        }
    }
    found
}

pub(super) fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

pub(super) fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let parent = stat.rsplit_once(')').and_then(|s| s.1.split_whitespace().nth(1)?.parse().ok());
    parent.expect("field 4 of stat is a pid")
}

pub(super) fn wait_for(mut condition: impl FnMut() -> bool, what: &str) {
    let end = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < end, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
