//! Limits: each is run into from inside; the run ends, the host does not notice.

use std::time::{Duration, Instant};

use harness::{World, users};

use super::Proof;
use crate::proctor;

#[test]
fn a_fork_bomb_meets_the_task_limit() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world).with(["--pids-limit", "60"]);
        assert_eq!(proof.outside(&["forks 200".into()]), ["200 and no end"], "{user:?}");
        let inside = proof.inside(&["forks 200".into()]);
        let (errno, count) =
            inside[0].split_once(" after ").unwrap_or_else(|| panic!("{user:?}: {inside:?}"));
        assert_eq!(errno, "EAGAIN", "{user:?}");
        assert!((40..=60).contains(&count.parse::<u32>().unwrap()), "{user:?}: {inside:?}");
        // The real thing, against the clock; the main shell forks nothing more, so that the limit does not end it.
        let started = Instant::now();
        let bomb = Proof {
            world: &world,
            repo: harness::TestRepo::small(&world),
            options: Vec::new(),
            confined: false,
        };
        let bomb = bomb.with(["--pids-limit", "60", "--timeout", "3s", "--grace", "1s"]);
        let outcome = bomb.command(["sh", "-c", "b() { b | b & }; b; while :; do :; done"]).run();
        assert!(started.elapsed() < Duration::from_secs(20), "{user:?}");
        assert_eq!(outcome.code, Some(1), "{user:?}: {outcome:#?}");
        assert!(outcome.blockers().contains(&"timeout".to_owned()), "{user:?}: {outcome:#?}");
    }
}

#[test]
fn open_files_meet_their_limit_and_it_cannot_be_raised() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let inside = proof.inside(&[
            "files 70000".into(),
            format!("rlimit {} 1000000", libc::RLIMIT_NOFILE),
            format!("rlimit {} 1000000", libc::RLIMIT_NPROC),
        ]);
        let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        let count: u64 = inside[0].strip_prefix("EMFILE after ").unwrap_or_default().parse().unwrap_or(0);
        assert!(count > 100 && count < hard.min(65_536), "{user:?}: {inside:?}");
        assert_eq!(inside[1..], ["EPERM", "EPERM"], "{user:?}");
    }
}

#[test]
fn a_full_disk_is_the_sandboxes_own_and_shared_by_all_its_places() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world).with(["--disk", "16M"]);
        let doctor = proctor(&world).args(["doctor", "--json"]).run().stdout;
        if !doctor.contains("\"disk_limit\"") {
            // A kernel on which layers lie on disk: what cannot be enforced is refused, or watched where that is said.
            assert!(doctor.contains("\"disk_layer\""), "{user:?}: {doctor}");
            let refused = proof.command(["true"]).run();
            assert_eq!(refused.code, Some(3), "{user:?}: {refused:#?}");
            assert!(refused.stderr.contains("nothing can enforce it here"), "{user:?}: {refused:#?}");
            let watched = proof.with(["--layer", "disk"]);
            for place in ["big", "/tmp/big"] {
                let outcome =
                    watched.command(["sh", "-c", &format!("head -c 67108864 /dev/zero > {place}")]).run();
                assert!(outcome.blockers().contains(&"resource_limit".to_owned()), "{user:?}: {outcome:#?}");
            }
            continue;
        }
        for place in ["big", "/tmp/big", "/var/tmp/big", "/dev/shm/big", "/home/agent/big"] {
            assert_eq!(proof.inside(&[format!("fill {place} 67108864")]), ["ENOSPC"], "{user:?} {place}");
        }
        // Together, not each.
        let inside = proof.inside(&["fill /tmp/a 9000000".into(), "fill /dev/shm/b 9000000".into()]);
        assert_eq!(inside, ["ok", "ENOSPC"], "{user:?}");
        let inodes = proof.inside(&["inodes /tmp 100000".into()]);
        assert_eq!(inodes, ["ENOSPC"], "{user:?}");
    }
}

#[test]
fn memory_beyond_the_limit_ends_the_backend_alone() {
    for user in users() {
        let world = World::new(user);
        let attack = "eat 1500000000";
        // As root there is a cgroup; an ordinary user without a delegated one is refused the option, by name.
        let proof = Proof::new(&world).with(["--memory", "256M"]);
        let outcome = proof.command([super::probe().as_os_str(), attack.as_ref()]).run();
        if outcome.code == Some(3) {
            assert!(outcome.stderr.contains("no cgroup can enforce it"), "{user:?}: {outcome:#?}");
            continue;
        }
        let text = outcome.text("backend.stdout.log");
        assert!(!text.contains("\tok"), "{user:?}: it got the memory: {text}");
    }
}

#[test]
fn limits_of_the_caller_stay_where_they_are_lower() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let script = "ulimit -Hn; ulimit -Hc; ulimit -Hf";
        // prlimit(1) lowers what is handed down; nothing inside raises it.
        let mut command = world.command("prlimit");
        let output = command
            .args(["--nofile=512:512", "--fsize=1000000:1000000", "--"])
            .arg(crate::binary())
            .args(["run", "--no-test", "--mutation", "discard", "--repo"])
            .arg(proof.repo.path())
            .args(["--", "bash", "-c", script])
            .output()
            .unwrap();
        let evidence = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
        let text = std::fs::read_to_string(std::path::Path::new(&evidence).join("backend.stdout.log"))
            .unwrap_or_else(|e| panic!("{user:?}: {e}: {output:?}"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "512", "{user:?}: {text}");
    }
}
