//! Writes past the overlay: by path, by link, by race, by descriptor, by mount. Nothing outside the private layer
//! may change, whatever the backend does inside.

use std::os::unix::fs::{MetadataExt, symlink};

use harness::{TreeSnapshot, World, users};

use super::{Proof, row};
use crate::proctor;

/// A world with a victim outside the tree that its user may write.
fn victim(world: &World) -> String {
    world.write("victim/file", "untouched\n").display().to_string()
}

#[test]
fn paths_and_links_out_of_the_tree_lead_nowhere() {
    for user in users() {
        let world = World::new(user);
        let file = victim(&world);
        let dir = proof_dir(&file);
        let proof = Proof::new(&world);
        // Links that the repository brought along, as a hostile one would.
        symlink(&file, proof.repo.path().join("absolute")).unwrap();
        symlink("../victim/file", proof.repo.path().join("relative")).unwrap();
        symlink(&dir, proof.repo.path().join("dir")).unwrap();
        proof.repo.commit("links");
        let before = TreeSnapshot::of(&world.path("victim"));
        let tree = TreeSnapshot::of(proof.repo.path());
        let mut rows = Vec::new();
        for path in [file.as_str(), "../victim/file", "absolute", "relative", "dir/file"] {
            rows.push(row(format!("write {path}"), "ok", "ENOENT"));
        }
        for through in [
            "/proc/self/root",
            "/proc/self/cwd/../../..",
            "/proc/self/task/1/root",
            "/proc/1/root",
            "/proc/1/cwd",
        ] {
            rows.push(row(format!("write {through}{file}"), "*", "ENOENT|EACCES"));
        }
        proof.prove(&rows);
        proof.refused(&[
            (format!("link {file} stolen"), "ENOENT"),
            ("link /usr/bin/env stolen".into(), "EXDEV|EACCES"),
            ("link /etc/passwd stolen".into(), "EXDEV|EACCES"),
            ("rename /etc/passwd stolen".into(), "EXDEV|EACCES|EROFS"),
            (format!("rename . {file}"), "EBUSY|ENOENT"),
        ]);
        assert_eq!(before.differences(&TreeSnapshot::of(&world.path("victim"))), Vec::<String>::new());
        assert_eq!(tree.differences(&TreeSnapshot::of(proof.repo.path())), Vec::<String>::new());
    }
}

fn proof_dir(file: &str) -> String {
    file.strip_suffix("/file").expect("harness").to_owned()
}

#[test]
fn racing_links_write_nothing_outside() {
    for user in users() {
        let world = World::new(user);
        let file = victim(&world);
        let proof = Proof::new(&world);
        let arena = world.path("arena");
        std::fs::create_dir(&arena).unwrap();
        user.own(&arena);
        // Outside the race is won at once.
        assert_eq!(proof.outside(&[format!("race {} {file}", arena.display())]), ["ok"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "raced", "{user:?}: the race proves nothing");
        world.write("victim/file", "untouched\n");
        let tree = TreeSnapshot::of(proof.repo.path());
        assert_eq!(proof.inside(&[format!("race {} {file}", proof.repo.path().display())]), ["ok"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "untouched\n", "{user:?}");
        assert_eq!(tree.differences(&TreeSnapshot::of(proof.repo.path())), Vec::<String>::new());
    }
}

#[test]
fn what_is_shown_read_only_cannot_be_changed_by_any_call() {
    for user in users() {
        let world = World::new(user);
        let file = victim(&world);
        let dir = proof_dir(&file);
        let proof = Proof::new(&world).with(["--ro".to_owned(), dir.clone()]);
        let before = TreeSnapshot::of(&world.path("victim"));
        let closed = "EROFS|EACCES";
        let mut rows = vec![
            row(format!("write {file}"), "ok", closed),
            row(format!("chmod {file} 644"), "ok", closed),
            row(format!("touch {file}"), "ok", closed),
            row(format!("setxattr {file} user.proof x"), "ok", closed),
            row(format!("create {dir}/new"), "ok", closed),
            row(format!("link {file} {dir}/linked"), "ok", closed),
            row(format!("rename {dir}/linked {dir}/renamed"), "ok", "EROFS|EACCES|ENOENT"),
            row(format!("unlink {dir}/renamed"), "ok", "EROFS|EACCES|ENOENT"),
            row(format!("unlink {dir}/new"), "ok", "EROFS|EACCES|ENOENT"),
            row(format!("mkdir {dir}/d"), "ok", closed),
            row(format!("rmdir {dir}/d"), "ok", "EROFS|EACCES|ENOENT"),
        ];
        // The system's own files: root alone could write them outside.
        let out = if user == harness::User::Root { "ok" } else { "EACCES" };
        rows.push(row("write /usr/bin/env", "ETXTBSY|ok|EACCES", "EROFS|EACCES"));
        rows.push(row("write /usr/bin", "EISDIR", "EISDIR|EROFS|EACCES"));
        rows.push(row("write /etc/ld.so.cache", out, "EROFS|EACCES"));
        proof.prove(&rows);
        world.user.own(&world.path("victim"));
        let after = TreeSnapshot::of(&world.path("victim"));
        // The attacks outside changed times and an attribute; names and content are what the inside ones were after.
        let names =
            |d: &[String]| d.iter().filter(|l| !l.contains("/file:") && !l.contains("/victim:")).count();
        assert_eq!(names(&before.differences(&after)), 0, "{:?}", before.differences(&after));
        let closed_again = TreeSnapshot::of(&world.path("victim"));
        proof.inside(&rows.iter().map(|r| r.0.clone()).collect::<Vec<_>>());
        assert_eq!(closed_again.differences(&TreeSnapshot::of(&world.path("victim"))), Vec::<String>::new());
    }
}

#[test]
fn injected_files_and_the_private_root_are_read_only() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let closed = "EROFS|EACCES|EPERM";
        let mut rows = Vec::new();
        for file in ["/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", "/etc/nsswitch.conf"] {
            for attack in ["write", "unlink", "touch"] {
                rows.push((format!("{attack} {file}"), closed));
            }
            rows.push((format!("chmod {file} 666"), closed));
            rows.push((format!("rename {file} {file}.old"), closed));
        }
        for dir in [
            "/",
            "/etc",
            "/run",
            "/run/proctor",
            "/run/proctor/objects",
            "/dev",
            "/home",
            "/proc",
            "/usr/bin",
        ] {
            rows.push((format!("create {dir}/new"), "EROFS|EACCES|ENOENT"));
        }
        rows.push(("rename /etc /etc2".into(), closed));
        rows.push(("rename /run/proctor /run/mine".into(), closed));
        rows.push(("rename /home/agent /home/mine".into(), "EROFS|EACCES|EBUSY"));
        proof.refused(&rows);
    }
}

#[test]
fn devices_are_the_five_harmless_ones_and_even_their_times_stay() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let before = std::fs::metadata("/dev/null").unwrap();
        proof.refused(&[
            ("list /dev".into(), "fd full null ptmx pts random shm stderr stdin stdout urandom zero"),
            ("touch /dev/null".into(), "EROFS|EACCES"),
            ("chmod /dev/null 600".into(), "EROFS|EPERM|EACCES"),
            ("write /dev/null".into(), "ok"),
            ("write /dev/full".into(), "ok"),
            ("read /dev/urandom".into(), "ok"),
            ("mknod d 1 1".into(), "EPERM|EACCES"),
            ("mknod /tmp/d 1 1".into(), "EPERM|EACCES"),
            ("mknod /dev/shm/d 8 0".into(), "EPERM|EACCES"),
            ("list /dev/pts".into(), "ptmx"),
        ]);
        proof.shell(": > /dev/null; echo x >> /dev/null; head -c 3 /dev/zero > /dev/null");
        let after = std::fs::metadata("/dev/null").unwrap();
        assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()), "{user:?}");
    }
}

#[test]
fn mount_calls_and_ways_out_of_the_root_are_refused() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let hidden = proof.repo.path().join(".env");
        std::fs::write(&hidden, "SECRET=1").unwrap();
        user.own(&hidden);
        std::fs::write(proof.repo.path().join(".gitignore"), ".env\n").unwrap();
        proof.repo.commit("ignore");
        let hidden = hidden.display().to_string();
        let tree = proof.repo.path().display().to_string();
        let nr = |n: i64| n.to_string();
        let mut rows = Vec::new();
        for path in [hidden.as_str(), tree.as_str(), "/proc/sys", "/proc/keys", "/etc", "/"] {
            rows.push((format!("path-call {} {path} 2", nr(libc::SYS_umount2)), "EPERM"));
            rows.push((format!("path-call {} {path} 0", nr(libc::SYS_umount2)), "EPERM"));
        }
        let remount = (libc::MS_REMOUNT | libc::MS_BIND).to_string();
        rows.push((format!("path-call {} / . 0 {remount} 0", nr(libc::SYS_mount)), "EPERM"));
        rows.push((format!("path-call {} {tree} . 0 {} 0", nr(libc::SYS_mount), libc::MS_BIND), "EPERM"));
        rows.push((format!("path-call {} proc @/tmp @proc 0 0", nr(libc::SYS_mount)), "EPERM"));
        rows.push((format!("path-call {} {tree}", nr(libc::SYS_chroot)), "EPERM"));
        rows.push((format!("path-call {} {tree} .", nr(libc::SYS_pivot_root)), "EPERM"));
        rows.push((format!("path-call {} @tmpfs 0", nr(libc::SYS_fsopen)), "EPERM"));
        for call in [
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            libc::SYS_setns,
            libc::SYS_open_by_handle_at,
            // open_tree_attr(2), Linux 6.15.
            467,
        ] {
            rows.push((format!("sys {call} 0 0 0 0 0"), "EPERM"));
        }
        rows.push((format!("sys {} 0 0 0 0 0", libc::SYS_name_to_handle_at), "ENOSYS"));
        rows.push((format!("cat {hidden}"), "EACCES"));
        proof.refused(&rows);
        assert_eq!(proof.outside(&[format!("cat {hidden}")]), ["SECRET=1"]);
    }
}

#[test]
fn the_supervisors_program_cannot_be_overwritten_or_run_from_inside() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        // CVE-2019-5736: the supervisor is made to execute itself inside, and is then written to by /proc/PID/exe.
        proof.repo.write("trick", "#!/proc/self/exe\n");
        proof.repo.git(&["add", "trick"]);
        std::fs::set_permissions(
            proof.repo.path().join("trick"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        proof.repo.commit("trick");
        let digest = std::fs::read(crate::binary()).unwrap();
        let outcome = proof.command(["./trick"]).run();
        assert_eq!(outcome.code, Some(1), "{user:?}: {outcome:#?}");
        assert_eq!(outcome.blockers(), ["backend_failed"], "{user:?}: {outcome:#?}");
        assert!(
            outcome.text("backend.stdout.log").is_empty(),
            "{user:?}: it ran the supervisor: {outcome:#?}"
        );
        proof.refused(&[
            ("overwrite /proc/1/exe".into(), "EACCES|EPERM"),
            ("overwrite /proc/self/exe".into(), "ETXTBSY|EROFS|EACCES"),
            (format!("write {}", crate::binary().display()), "ENOENT"),
        ]);
        assert!(std::fs::read(crate::binary()).unwrap() == digest);
    }
}

#[test]
fn a_mount_swapped_by_the_backend_shows_the_test_nothing_else() {
    for user in users() {
        let world = World::new(user);
        world.write("data/cache/file", "cached");
        let secret = world.write("victim/file", "SECRET-BY-SWAP");
        let data = world.path("data").display().to_string();
        let proof = Proof::new(&world);
        let outcome = proctor(&world)
            .args(["run", "--mutation", "discard", "--repo"])
            .arg(proof.repo.path())
            .args(["--rw", &data, "--test-ro", &format!("{data}/cache")])
            .args(["--test", &format!("cat {data}/cache/file; true")])
            .args(["--", "sh", "-c"])
            .arg(format!("cd {data} && mv cache old && ln -s {} cache", secret.parent().unwrap().display()))
            .run();
        assert!(!outcome.text("test.log").contains("SECRET-BY-SWAP\n"), "{user:?}: {outcome:#?}");
        assert_eq!(outcome.report()["backend_exit_code"], 0, "{user:?}: the swap itself: {outcome:#?}");
        assert_eq!(outcome.blockers(), ["tests_failed"], "{user:?}: {outcome:#?}");
    }
}
