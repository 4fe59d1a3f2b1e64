//! Files of the host: what is not shown cannot be read, what is not the sandbox's own cannot be written.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use harness::{TreeSnapshot, User, World, users};

use crate::proofs::{Proof, probe, row};

const CLOSED: &str = "EACCES";

#[test]
fn homes_other_trees_and_proctors_own_are_closed() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        let mut rows = Vec::new();
        for name in [
            "home/.ssh/id_ed25519",
            "home/notes",
            "other/repo/secret",
            "state/proctor/runs/1/report.json",
            "state/proctor/areas/r-1/backend/tree/repo/secret",
            "config/proctor/config.toml",
        ] {
            let content = if name.ends_with(".toml") { "" } else { "secret" };
            world.write(name, content);
            let path = proof.path(name);
            for attack in ["read", "reopen"] {
                rows.push(row(format!("{attack} {path}"), "ok|empty", CLOSED));
            }
            for through in
                ["/proc/self/root", "/proc/thread-self/root", "/proc/self/cwd/../../../../../../../../.."]
            {
                rows.push(row(format!("read {through}{path}"), "*", "EACCES|ENOENT"));
            }
        }
        // Another run's area, as one that is alive has it.
        let areas = world.path("state/proctor/areas");
        std::fs::set_permissions(&areas, std::fs::Permissions::from_mode(0o700)).unwrap();
        let alive = std::fs::File::open(areas.join("r-1")).unwrap();
        rustix::fs::flock(&alive, rustix::fs::FlockOperation::LockShared).unwrap();
        // The real tree and its repository, by the path that they have.
        for name in ["README", ".git/HEAD", ".git/config", ".git/index"] {
            rows.push(row(format!("read {}/{name}", proof.repo.path().display()), "ok", CLOSED));
        }
        world.user.own(&world.path("."));
        for dir in ["home", "state", "state/proctor/areas", "other", "."] {
            rows.push(row(format!("list {}", proof.path(dir)), "*", CLOSED));
        }
        for dir in [
            "/",
            "/root",
            "/home",
            "/tmp",
            "/var/tmp",
            "/run",
            "/var/lib/proctor",
            "/etc/ssh",
            "/sys",
            "/boot",
        ] {
            rows.push(row(format!("list {dir}"), "*", "EACCES|ENOENT"));
        }
        for file in [
            "/etc/shadow",
            "/etc/machine-id",
            "/etc/fstab",
            "/sys/kernel/uevent_seqnum",
            "/dev/kmsg",
            "/dev/mem",
        ] {
            rows.push(row(format!("read {file}"), "*", "EACCES|ENOENT"));
        }
        // A program that is not shown is not run either.
        let program = world.path("other/probe");
        std::fs::copy(probe(), &program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let own = format!("euid {}", user.uid());
        rows.push(row(format!("setuid-run {}", program.display()), String::leak(own), CLOSED));
        proof.prove(&rows);
    }
}

#[test]
fn another_process_of_the_user_shows_no_memory_environment_or_descriptors() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        let secret = world.write("home/held", "secret");
        let mut sleeper = world
            .command("sleep")
            .arg("60")
            .env("PROOF_TOKEN", "secret")
            .stdin(std::fs::File::open(&secret).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = sleeper.id();
        let closed = "EACCES|EPERM";
        let mut rows = Vec::new();
        for file in ["environ", "maps", "smaps", "auxv", "pagemap", "io"] {
            rows.push(row(format!("read /proc/{pid}/{file}"), "ok|empty", closed));
        }
        rows.push(row(format!("write /proc/{pid}/mem"), "ok", closed));
        rows.push(row(format!("read /proc/{pid}/fd/0"), "ok", closed));
        for link in ["cwd", "exe", "root", "fd/0", "ns/user", "map_files"] {
            rows.push(row(format!("readlink /proc/{pid}/{link}"), "*", "EACCES|EPERM|EINVAL"));
        }
        for dir in ["cwd", "root", "fdinfo"] {
            rows.push(row(format!("list /proc/{pid}/{dir}"), "*", "EACCES|EPERM|ENOENT"));
        }
        rows.push(row(format!("read /proc/{pid}/root{}", secret.display()), "ok", closed));
        // What can be set of a process by writing.
        for file in ["oom_score_adj", "comm", "coredump_filter", "timerslack_ns", "clear_refs", "autogroup"] {
            rows.push(row(format!("write /proc/{pid}/{file}"), "*", "EACCES|EPERM|ENOENT"));
        }
        proof.prove(&rows);
        // Nor does the run's own: supervisor, launcher, init.
        let script = "for p in /proc/[0-9]*; do cat $p/environ $p/mem 2>/dev/null; done | tr '\\0' '\\n' | grep -c PROOF-SECRE[T]; \
             cat /proc/$PPID/environ /proc/$PPID/maps; ls -l /proc/$PPID/fd /proc/$PPID/exe";
        let outcome = proof.command(["sh", "-c", script]).env("PROOF_TOKEN", "PROOF-SECRET").run();
        let text = outcome.text("backend.stdout.log");
        assert!(text.starts_with("0\n") && !text.contains("->") && !text.contains('='), "{user:?}: {text}");
        assert!(outcome.text("backend.stderr.log").matches("denied").count() >= 4, "{user:?}: {outcome:#?}");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}

#[test]
fn kernel_settings_and_the_files_of_processes_cannot_be_written() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        let out = if user == User::Root { "ok" } else { "EACCES|ENOENT|EPERM" };
        let mut rows = Vec::new();
        for file in
            ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory"]
        {
            rows.push(row(format!("write {file}"), out, CLOSED));
        }
        for file in [
            "/proc/sysrq-trigger",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/user/max_user_namespaces",
            "/proc/sys/fs/binfmt_misc/register",
            "/sys/kernel/uevent_helper",
            "/sys/power/state",
            "/sys/fs/cgroup/release_agent",
            "/sys/fs/cgroup/cgroup.procs",
            "/proc/irq/default_smp_affinity",
        ] {
            rows.push(row(format!("write {file}"), "*", "EACCES|ENOENT"));
        }
        rows.push(row("write /proc/self/oom_score_adj", "ok", CLOSED));
        rows.push(row("write /proc/self/uid_map", "ok|EPERM", CLOSED));
        rows.push(row("write /proc/self/mem", "ok", CLOSED));
        proof.prove(&rows);
    }
}

#[test]
fn no_path_link_or_descriptor_writes_outside() {
    for user in users() {
        let world = World::new(user);
        let file = world.write("victim/file", "untouched\n").display().to_string();
        let dir = world.path("victim").display().to_string();
        world.write("victim/second", "untouched\n");
        world.user.own(&world.path("victim"));
        let proof = Proof::confined(&world);
        symlink(&file, proof.repo.path().join("absolute")).unwrap();
        symlink(&dir, proof.repo.path().join("dir")).unwrap();
        proof.repo.write("own", "own\n");
        proof.repo.commit("links");
        let tree = proof.repo.path().display().to_string();
        let before = TreeSnapshot::of(&world.path("victim"));
        let real = TreeSnapshot::of(proof.repo.path());
        // Twice the same: the link is of another file system for whoever may not refer to it.
        let moved = "EXDEV|EACCES|EPERM";
        let mut rows = vec![
            row(format!("write {file}"), "ok", CLOSED),
            row("write absolute", "ok", CLOSED),
            row("write dir/file", "ok", CLOSED),
            row(format!("overwrite /proc/self/root{file}"), "ok", CLOSED),
            row(format!("truncate {file}"), "ok", CLOSED),
            row("truncate dir/file", "ok", CLOSED),
            row(format!("create {dir}/new"), "ok", CLOSED),
            row(format!("unlink {dir}/new"), "ok", "ENOENT|EACCES"),
            row(format!("mkdir {dir}/new"), "ok", CLOSED),
            row(format!("rmdir {dir}/new"), "ok", "ENOENT|EACCES"),
            row(format!("symlink x {dir}/new"), "ok", CLOSED),
            row(format!("unlink {dir}/new"), "ok", "ENOENT|EACCES"),
            row(format!("node fifo {dir}/new"), "ok", CLOSED),
            row(format!("unlink {dir}/new"), "ok", "ENOENT|EACCES"),
            row(format!("node socket {dir}/new"), "ok", CLOSED),
            row(format!("unlink {dir}/new"), "ok", "ENOENT|EACCES"),
            row(format!("tmpfile {dir}"), "ok", CLOSED),
            // In and out, by link, by rename, by exchange.
            row(format!("link {file} in"), "ok", moved),
            row(format!("link own {dir}/out"), "ok", moved),
            row(format!("rename own {dir}/out"), "ok", moved),
            row(format!("rename {dir}/out own"), "ok", "EXDEV|EACCES|ENOENT"),
            row(format!("swap own {dir}/second"), "ok", moved),
            row(format!("rename {dir}/second {dir}/third"), "ok", CLOSED),
            row(format!("unlink {file}"), "ok", CLOSED),
        ];
        for name in ["src/value.txt", ".git/HEAD", ".git/config"] {
            rows.push(row(format!("write {tree}/{name}"), "ok", CLOSED));
        }
        for dir in ["/tmp", "/var/tmp", "/dev/shm"] {
            let name = format!("{dir}/proctor-proof-{}", std::process::id());
            rows.push(row(format!("create {name}"), "ok", CLOSED));
            rows.push(row(format!("unlink {name}"), "ok", "ENOENT|EACCES"));
            rows.push(row(format!("tmpfile {dir}"), "ok", CLOSED));
        }
        // Nothing of the area but its three directories, and no device.
        rows.push(row("create ../beside", "ok", CLOSED));
        rows.push(row("rename . ../elsewhere", "*", "EBUSY|EACCES|EXDEV"));
        rows.push(row("mknod d 1 3", if user == User::Root { "ok" } else { "EPERM" }, "EPERM|EACCES"));
        rows.push(row("write /usr/bin/env", "*", CLOSED));
        rows.push(row("write /etc/ld.so.cache", "*", CLOSED));
        let attacks: Vec<String> = rows.iter().map(|r| r.0.clone()).collect();
        proof.inside(&attacks);
        assert_eq!(
            before.differences(&TreeSnapshot::of(&world.path("victim"))),
            Vec::<String>::new(),
            "{user:?}"
        );
        assert_eq!(real.differences(&TreeSnapshot::of(proof.repo.path())), Vec::<String>::new(), "{user:?}");
        proof.prove(&rows);
    }
}

#[test]
fn racing_links_write_nothing_outside() {
    for user in users() {
        let world = World::new(user);
        let file = world.write("victim/file", "untouched\n");
        let proof = Proof::confined(&world);
        let before = TreeSnapshot::of(&world.path("victim"));
        assert_eq!(proof.inside(&[format!("race . {}", file.display())]), ["ok"]);
        assert_eq!(
            before.differences(&TreeSnapshot::of(&world.path("victim"))),
            Vec::<String>::new(),
            "{user:?}"
        );
        assert_eq!(proof.outside(&[format!("race . {}", file.display())]), ["ok"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "raced", "{user:?}: the race proves nothing");
    }
}

#[test]
fn hidden_files_are_not_in_the_copy_and_credentials_below_a_mount_are_closed() {
    for user in users() {
        let world = World::new(user);
        world.write("home/.config/gh/hosts.yml", "CREDENTIAL");
        world.write("home/.config/tool/settings", "shown");
        world.user.own(&world.path("home"));
        // By a name with a link in it: what is masked is what it leads to.
        symlink(world.path("home"), world.path("link")).unwrap();
        let mount = world.path("link/.config").display().to_string();
        let proof = Proof::confined(&world).with(["--ro".to_owned(), mount.clone()]);
        proof.repo.write(".gitignore", ".env\n");
        proof.repo.commit("ignore");
        proof.repo.write(".env", "HIDDEN-SECRET");
        std::fs::hard_link(proof.repo.path().join(".env"), world.path("home/other-name")).unwrap();
        let real = proof.path("home/.config");
        let mut rows = vec![
            row("read .env", "ok", CLOSED),
            row(format!("read {}/.env", proof.repo.path().display()), "ok", CLOSED),
            row(format!("read {}", proof.path("home/other-name")), "ok", CLOSED),
        ];
        for way in [&mount, &real] {
            rows.push(row(format!("read {way}/gh/hosts.yml"), "ok", CLOSED));
            rows.push(row(format!("reopen {way}/gh/hosts.yml"), "ok", CLOSED));
            rows.push(row(format!("cat {way}/tool/settings"), "shown", "shown"));
        }
        proof.prove(&rows);
        let outcome = proof.shell("chmod 600 .env 2>/dev/null; grep -r HIDDEN-SECRET . ..; true");
        assert!(!outcome.text("backend.stdout.log").contains("HIDDEN-SECRET"), "{user:?}: {outcome:#?}");
        let missing = outcome.report()["sandbox"]["missing"].to_string();
        assert!(missing.contains("mount around") && missing.contains(".config/gh"), "{user:?}: {missing}");
    }
}

#[test]
fn read_only_beneath_writable_is_refused_and_not_lost() {
    for user in users() {
        let world = World::new(user);
        world.write("data/kept/file", "kept");
        world.user.own(&world.path("data"));
        let (data, kept) =
            (world.path("data").display().to_string(), world.path("data/kept").display().to_string());
        let options = ["--rw".to_owned(), data, "--ro".to_owned(), kept.clone()];
        let full = Proof::new(&world).with(options.clone());
        let closed = if user == User::Root { "EACCES" } else { "EROFS" };
        assert_eq!(full.inside(&[format!("write {kept}/file")]), [closed], "{user:?}: level full");
        let outcome = full.at_level_landlock().command(["true"]).run();
        assert_eq!(outcome.code, Some(3), "{user:?}: {outcome:#?}");
        assert!(outcome.stderr.contains("cannot be read-only beneath"), "{user:?}: {outcome:#?}");
    }
}
