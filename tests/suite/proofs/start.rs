//! The start: what is handed down and what is not, and the errors of a start that fails, each with its step, its path
//! and its errno; nothing is alive behind one.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};

use harness::{User, World, users};

use super::{Proof, fits, probe};

#[test]
fn descriptors_of_the_caller_do_not_leak() {
    for user in users() {
        let world = World::new(user);
        let secret = world.write("victim/file", "SECRET");
        let proof = Proof::new(&world);
        // 3 to 20 are open in whoever starts Proctor: directories, files for writing, a socket.
        let script = format!(
            "for n in 3 5 7 9 11 13; do eval \"exec $n<{0}\"; done; for n in 4 6 8 10 12 14 15 16 17 18 19 20; do eval \"exec $n<>{1}\"; done; exec \"$@\"",
            secret.parent().unwrap().display(),
            secret.display()
        );
        let argv = ["run", "--no-test", "--mutation", "discard", "--repo"];
        let mut command = world.command("bash");
        let attacks = ["fds", "list /proc/self/fd/3", "cat /proc/self/fd/4", "cat /proc/1/fd/4"];
        let output = command
            .args(["-c", &script, "bash"])
            .arg(crate::binary())
            .args(argv)
            .arg(proof.repo.path())
            .arg("--ro")
            .arg(probe().parent().unwrap())
            .arg("--")
            .arg(probe())
            .args(attacks)
            .output()
            .unwrap();
        let evidence = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
        let text = std::fs::read_to_string(std::path::Path::new(&evidence).join("backend.stdout.log"))
            .unwrap_or_else(|e| panic!("{user:?}: {e}: {output:?}"));
        let got: Vec<&str> = text.lines().filter_map(|l| l.split('\t').nth(1)).collect();
        assert_eq!(got[0], "0 1 2", "{user:?}: {text}");
        assert!(got[1..].iter().all(|g| fits("ENOENT|EACCES|ENOTDIR", g)), "{user:?}: {text}");

        // The same descriptors do reach a program that is started plainly: the proof is one.
        let mut command = world.command("bash");
        let output = command.args(["-c", &script, "bash"]).arg(probe()).arg("fds").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"), "{user:?}: {text}");
    }
}

#[test]
fn standard_streams_lead_to_nothing_of_the_hosts() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let text =
            proof.shell("for n in 0 1 2; do readlink /proc/self/fd/$n; done").text("backend.stdout.log");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "/dev/null", "{user:?}: {text}");
        assert!(lines[1..].iter().all(|l| l.starts_with("pipe:")), "{user:?}: {text}");
    }
}

/// A place for the sandbox crate's own starts: a tree, a host directory, a link.
pub(super) fn place(world: &World) -> String {
    world.write("tree/file", "x");
    world.write("host/victim", "untouched\n");
    let file = world.write("file", "no program\n");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).expect("harness");
    symlink(world.path("host"), world.path("link")).expect("harness");
    world.user.own(&world.path("."));
    world.path(".").components().as_path().display().to_string()
}

pub(super) fn launch(world: &World, case: &str, words: &[&str]) -> String {
    let output = world.command(probe()).args(["--launch", case]).args(words).output().expect("harness");
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    assert!(!text.is_empty(), "{case}: {output:?}");
    text
}

#[test]
fn a_start_that_fails_names_step_path_and_errno() {
    for user in users() {
        let world = World::new(user);
        let dir = place(&world);
        let cases: &[(&str, &str, &str)] = &[
            ("works", "ok", ""),
            ("missing-source", "step OpenSource errno ENOENT: opening a mount's source", "/not-there"),
            ("linked-source", "step OpenSource errno ELOOP: opening a mount's source", "/link"),
            ("missing-program", "exec: cannot execute \"not-a-program\" inside the sandbox: ENOENT", ""),
            ("not-executable", "exec: cannot execute", "EACCES"),
            (
                "swapped-tree",
                "step SourceChanged errno ESTALE: the work tree at this path is not the one that was checked",
                "/tree",
            ),
            (
                "inside-root",
                "spec: the sandbox's specification is not usable: the inside uid and gid must not be 0",
                "",
            ),
            (
                "file-over-mount",
                "spec: the sandbox's specification is not usable: the file /data/victim is below the writable mount /data",
                "written on the host",
            ),
            (
                "masked-through-link",
                "step HiddenMask errno ELOOP: masking a hidden path",
                "/data/link/victim",
            ),
            ("bad-cwd", "step WorkingDirectory errno ENOENT: changing to the working directory", ""),
            ("dead-launcher", "launcher: the sandbox launcher failed: ", ""),
            ("threads", "launcher: the sandbox launcher failed: fork: EBUSY", ""),
            ("bad-seed", "step SeedTree errno EBADMSG", ""),
        ];
        for (case, start, part) in cases {
            let got = launch(&world, case, &[&dir]);
            assert!(got.starts_with(start) && got.contains(part), "{user:?} {case}: {got}");
        }
        if user == User::Ordinary {
            let got = launch(&world, "host-uid", &[&dir]);
            assert!(got.contains("an ordinary user can only map its own uid"), "{got}");
        }
        assert_eq!(std::fs::read_to_string(world.path("host/victim")).unwrap(), "untouched\n");
        assert_eq!(alive(), Vec::<String>::new(), "{user:?}: something is alive behind an error");
    }
}

/// Pids of launchers and inits that the probe made: they carry the init's name and the probe's program. (Those of runs
/// have Proctor's.)
fn alive() -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let program = std::fs::read_link(entry.path().join("exe"));
        if comm.trim_end() == "proctor-init" && program.is_ok_and(|p| p == probe()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn a_submount_of_the_tree_is_not_followed() {
    // Only root can make one.
    if users().len() < 2 {
        return;
    }
    let world = World::new(User::Root);
    let proof = Proof::new(&world);
    let over = proof.repo.path().join("target");
    std::fs::create_dir(&over).unwrap();
    let status =
        std::process::Command::new("mount").args(["-t", "tmpfs", "proof"]).arg(&over).status().unwrap();
    assert!(status.success());
    std::fs::write(over.join("secret"), "SECRET").unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        proof.command(["sh", "-c", "cat target/secret; echo looked"]).run()
    }));
    let status = std::process::Command::new("umount").arg(&over).status().unwrap();
    assert!(status.success());
    let outcome = outcome.unwrap();
    if outcome.code == Some(0) {
        assert_eq!(outcome.text("backend.stdout.log"), "looked\n", "{outcome:#?}");
    } else {
        assert!(outcome.stderr.contains("target"), "refused without a word of where: {outcome:#?}");
    }
}

#[test]
fn a_run_started_with_closed_or_odd_streams_is_as_closed() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        // A directory as standard input of Proctor itself; no standard error at all.
        let dir: OwnedFd = std::fs::File::open(world.path("home")).unwrap().into();
        assert!(dir.as_raw_fd() > 2);
        let mut command =
            proof.command([probe().as_os_str(), "fds".as_ref(), "list /proc/self/fd/0".as_ref()]);
        command.command().stdin(dir);
        let outcome = command.run();
        let text = outcome.text("backend.stdout.log");
        let got: Vec<&str> = text.lines().filter_map(|l| l.split('\t').nth(1)).collect();
        assert_eq!(got, ["0 1 2", "ENOTDIR"], "{user:?}: {text}");
    }
}
