//! What a backend must not be able to read: homes, other trees, Proctor's own, other processes, kernel files.

use std::os::unix::fs::PermissionsExt;

use harness::{World, users};

use super::{Proof, row};

/// Gone from the private root, or there and closed.
const NOT_THERE: &str = "ENOENT";

#[test]
fn homes_other_trees_and_the_operators_files_are_not_there() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let mut rows = Vec::new();
        for name in [
            "home/.ssh/id_ed25519",
            "home/.aws/credentials",
            "home/.config/gh/hosts.yml",
            "home/notes",
            "other/repo/secret",
            "state/proctor/runs/1/report.json",
            "config/proctor/config.toml",
        ] {
            // An operator's configuration must be one.
            let content = if name.ends_with(".toml") { "" } else { "secret" };
            world.write(name, content);
            rows.push(row(format!("read {}", proof.path(name)), "ok|empty", NOT_THERE));
        }
        world.user.own(&world.path("."));
        for dir in ["home", "state", "other/repo", "."] {
            let want = if dir == "." { "repo" } else { NOT_THERE };
            rows.push(row(format!("list {}", proof.path(dir)), "*", want));
        }
        // The host's own: what every user can list, and what holds sockets, keys and machine ids.
        for path in
            ["/run", "/root", "/var/lib", "/var/run", "/sys", "/boot", "/mnt", "/opt", "/srv", "/etc/ssh"]
        {
            let inside = if path == "/run" { "proctor" } else { NOT_THERE };
            rows.push(row(format!("list {path}"), "*", inside));
        }
        for path in ["/etc/shadow", "/etc/machine-id", "/etc/hosts.allow", "/etc/sudoers", "/etc/fstab"] {
            rows.push(row(format!("read {path}"), "*", NOT_THERE));
        }
        rows.push(row("list /home", "*", "agent"));
        rows.push(row("list /run/proctor", "*", "objects"));
        rows.push(row("cat /etc/hostname", "*", "proctor"));
        proof.prove(&rows);
    }
}

#[test]
fn the_environment_is_built_from_nothing_and_no_process_shows_another() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let script = "env | sort; echo --; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c 'PROOF-SECRE[T]'; true";
        let outcome = proof
            .command(["sh", "-c", script])
            .env("PROOF_TOKEN", "PROOF-SECRET")
            .env("LD_PRELOAD", "")
            .env("SSH_AUTH_SOCK", "/tmp/agent-PROOF-SECRET")
            .run();
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        let text = outcome.text("backend.stdout.log");
        let (env, found) = text.split_once("--\n").unwrap();
        assert_eq!(found.trim(), "0", "{user:?}: a secret of the caller's environment is readable");
        let names: Vec<&str> = env.lines().filter_map(|l| l.split('=').next()).collect();
        let expected = [
            "HOME", "LANG", "LOGNAME", "NO_COLOR", "PATH", "PROCTOR", "PWD", "SHELL", "TERM", "TMPDIR",
            "USER",
        ];
        assert_eq!(names, expected, "{user:?}");
    }
}

#[test]
fn the_init_process_is_closed_and_no_other_is_seen() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let closed = "EACCES|EPERM";
        // Outside: a process of the same user, as the init is one of the backend's.
        let mut sleeper = world.command("sleep").arg("60").spawn().unwrap();
        // Until it has executed it has nothing to show.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let pid = sleeper.id();
        let outside = proof.outside(&[
            format!("read /proc/{pid}/environ"),
            format!("readlink /proc/{pid}/cwd"),
            format!("ptrace {pid}"),
            format!("kill {pid} 0"),
        ]);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert_eq!(outside[0], "ok", "{user:?}");
        assert!(outside[1].starts_with('/'), "{user:?}: {outside:?}");
        assert_eq!(outside[2..], ["ok", "ok"], "{user:?}");

        let mut rows = Vec::new();
        for file in ["environ", "mem", "maps", "auxv", "syscall", "stack", "pagemap", "io"] {
            rows.push((format!("read /proc/1/{file}"), closed));
        }
        for link in ["exe", "cwd", "root", "fd/0", "ns/mnt", "ns/user"] {
            rows.push((format!("readlink /proc/1/{link}"), closed));
        }
        for dir in ["root", "cwd", "fd", "fdinfo", "map_files"] {
            rows.push((format!("list /proc/1/{dir}"), closed));
        }
        rows.push(("cat /proc/1/cmdline".to_owned(), "proctor-init"));
        rows.push((format!("list /proc/{pid}"), "ENOENT"));
        proof.refused(&rows);

        let listed = proof.inside(&["list /proc".to_owned()]);
        let pids: Vec<u32> = listed[0].split(' ').filter_map(|n| n.parse().ok()).collect();
        assert!(pids.len() <= 3 && pids.iter().all(|p| *p < 10), "{user:?}: {pids:?}");
    }
}

#[test]
fn kernel_files_are_masked_or_read_only() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let mut rows = Vec::new();
        // Kernels differ in what they have: what is not there is as good as masked. What is there is an empty
        // file of mode 000, or an empty directory of mode 000.
        for file in [
            "kcore",
            "keys",
            "key-users",
            "kmsg",
            "kallsyms",
            "modules",
            "timer_list",
            "sched_debug",
            "latency_stats",
        ] {
            rows.push((format!("read /proc/{file}"), "EACCES|ENOENT"));
            rows.push((format!("chmod /proc/{file} 644"), "EROFS|ENOENT"));
        }
        for dir in ["acpi", "scsi", "asound"] {
            rows.push((format!("list /proc/{dir}"), "EACCES|ENOENT"));
        }
        for file in [
            "sysrq-trigger",
            "sys/kernel/core_pattern",
            "sys/kernel/modprobe",
            "sys/kernel/hotplug",
            "sys/kernel/poweroff_cmd",
            "sys/kernel/hostname",
            "sys/kernel/sysrq",
            "sys/kernel/ns_last_pid",
            "sys/vm/overcommit_memory",
            "sys/vm/drop_caches",
            "sys/fs/protected_symlinks",
            "sys/fs/binfmt_misc/register",
            "sys/user/max_user_namespaces",
            "sys/net/ipv4/ip_forward",
            "sys/net/ipv4/ping_group_range",
            "irq/default_smp_affinity",
        ] {
            rows.push((format!("write /proc/{file}"), "EROFS|EACCES|ENOENT"));
        }
        // No sysfs, so no uevent_helper and no power states; no cgroup file system, so no release_agent.
        for path in [
            "/sys/kernel/uevent_helper",
            "/sys/power/state",
            "/sys/fs/cgroup/release_agent",
            "/proc/self/root/sys/kernel/uevent_helper",
        ] {
            rows.push((format!("write {path}"), "ENOENT"));
        }
        proof.refused(&rows);
        if user == harness::User::Root {
            let open = proof.outside(&[
                "write /proc/sys/kernel/core_pattern".into(),
                "write /proc/sysrq-trigger".into(),
                "read /proc/kcore".into(),
            ]);
            assert_eq!(open[0], "ok", "root can write it without the sandbox");
            assert!(open[1..].iter().all(|o| o == "ok" || o == "ENOENT"), "{open:?}");
        }
    }
}

#[test]
fn mount_table_names_nothing_of_proctor() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let text = proof.shell("cat /proc/self/mountinfo").text("backend.stdout.log");
        for name in ["state", "evidence", "home/.", "config"] {
            assert!(!text.contains(&proof.path(name)), "{user:?}: {text}");
        }
        // Nothing from the host is mounted but what the view shows, and nothing without nosuid.
        for line in text.lines() {
            let options = line.split(' ').nth(5).unwrap();
            assert!(options.contains("nosuid"), "{user:?}: {line}");
        }
    }
}

#[test]
fn a_file_of_mode_600_of_another_user_stays_closed_below_a_mount() {
    for user in users() {
        let world = World::new(user);
        let shown = world.write("shown/public", "x");
        let closed = world.write("shown/closed", "secret");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600)).unwrap();
        let proof =
            Proof::new(&world).with(["--ro".to_owned(), shown.parent().unwrap().display().to_string()]);
        // As root the backend is another host user: what root alone may read, it may not. An ordinary user shows
        // its own.
        let inside = if user == harness::User::Root { "EACCES" } else { "ok" };
        proof.prove(&[
            row(format!("read {}", closed.display()), "ok", inside),
            row(format!("read {}", shown.display()), "ok", "ok"),
        ]);
    }
}

#[test]
fn alternates_of_a_hostile_repository_show_no_other_directory() {
    for user in users() {
        let world = World::new(user);
        world.write("home/.ssh/id_ed25519", "ALTERNATE-SECRET");
        world.write("state/proctor/runs/x/report.json", "ALTERNATE-SECRET");
        world.user.own(&world.path("."));
        for place in ["home/.ssh", "home", "state/proctor"] {
            let repo = harness::TestRepo::new(
                &world,
                &format!("hostile-{}", place.replace('/', "-")),
                &[("f", "x\n")],
            );
            repo.write(".git/objects/info/alternates", format!("{}\n", world.path(place).display()));
            let outcome = crate::proctor(&world)
                .args(["run", "--no-test", "--mutation", "discard", "--repo"])
                .arg(repo.path())
                .args(["--", "sh", "-c", "grep -ra ALTERNATE-SECRET /run/proctor; true"])
                .run();
            assert_eq!(outcome.code, Some(2), "{user:?} {place}: {outcome:#?}");
            assert!(outcome.stderr.contains("alternates"), "{user:?}: {outcome:#?}");
        }
        // A real object directory may be somebody else's: it serves where the operator names it, and only there.
        let real = harness::TestRepo::new(&world, "real", &[("f", "x\n")]);
        let borrower = harness::TestRepo::new(&world, "borrower", &[("g", "y\n")]);
        let objects = real.path().join(".git/objects");
        borrower.write(".git/objects/info/alternates", format!("{}\n", objects.display()));
        let run = || {
            crate::proctor(&world)
                .args(["run", "--no-test", "--mutation", "discard", "--repo"])
                .arg(borrower.path())
        };
        let outcome = run().args(["--", "git", "fsck"]).run();
        assert_eq!(outcome.code, Some(2), "{user:?}: {outcome:#?}");
        assert!(outcome.stderr.contains("say so with --ro"), "{user:?}: {outcome:#?}");
        let outcome = run().arg("--ro").arg(&objects).args(["--", "git", "fsck"]).run();
        outcome.expect(0, &[]);
    }
}

#[test]
fn what_is_named_is_shown_below_closed_directories_and_its_neighbours_are_not() {
    for user in users() {
        let world = World::new(user);
        world.write("closed/shown/file", "shown");
        world.write("closed/secret", "secret");
        world.write("closed/own/file", "named");
        for (dir, mode) in [("closed", 0o700), ("closed/own", 0o700)] {
            std::fs::set_permissions(world.path(dir), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let (shown, own) = (world.path("closed/shown"), world.path("closed/own"));
        let proof = Proof::new(&world).with(
            ["--ro", &shown.display().to_string(), "--ro", &own.display().to_string()].map(str::to_owned),
        );
        // The repository too: a root's checkout below a directory of mode 700, with objects that root alone may read.
        std::fs::set_permissions(
            proof.repo.path().join(".git/objects"),
            std::fs::Permissions::from_mode(0o700),
        )
        .unwrap();
        std::fs::set_permissions(world.path("."), std::fs::Permissions::from_mode(0o700)).unwrap();
        proof.prove(&[
            row(format!("cat {}/file", shown.display()), "shown", "shown"),
            row(format!("cat {}/file", own.display()), "named", "named"),
            row(format!("read {}", world.path("closed/secret").display()), "ok", "ENOENT"),
            row(format!("write {}/file", own.display()), "ok", "EROFS|EACCES"),
            row(format!("write {}/file", shown.display()), "ok", "EROFS|EACCES"),
            row(format!("chmod {} 777", own.display()), "ok", "EROFS|EACCES|EPERM"),
        ]);
        assert_eq!(proof.shell("git log --format=%s").text("backend.stdout.log"), "base\n", "{user:?}");
    }
}
