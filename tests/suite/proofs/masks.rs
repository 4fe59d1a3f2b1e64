//! Masks: what is hidden cannot be read, moved, replaced, uncovered or reached under another name, in any of a run's
//! sandboxes.

use std::os::unix::fs::symlink;

use harness::{TestRepo, World, users};

use super::{Proof, row};
use crate::proctor;

const SECRET: &str = "HIDDEN-SECRET";

fn hidden<'w>(world: &'w World) -> Proof<'w> {
    let repo = TestRepo::new(
        world,
        "masked",
        &[
            ("README", "x\n"),
            ("check.sh", "true\n"),
            (".gitignore", ".env*\ntarget/\n"),
            ("dir/keep", "kept\n"),
        ],
    );
    repo.write(".env", SECRET);
    repo.write("dir/.env", SECRET);
    repo.write("dir/.env.local", SECRET);
    repo.write("target/.env", SECRET);
    repo.write("dir/.envdir/inner", SECRET);
    let proof = Proof { world, repo, options: Vec::new(), confined: false };
    // Beside the default `.env*`.
    proof.with(["--hide", ".env*"])
}

#[test]
fn hidden_files_cannot_be_read_moved_replaced_or_uncovered() {
    for user in users() {
        let world = World::new(user);
        let proof = hidden(&world);
        let tree = proof.repo.path().display().to_string();
        let mut rows = Vec::new();
        for file in [".env", "dir/.env", "dir/.env.local", "target/.env", "dir/.envdir/inner"] {
            rows.push(row(format!("cat {file}"), SECRET, "EACCES"));
            rows.push(row(format!("cat /proc/self/cwd/{file}"), SECRET, "EACCES"));
            rows.push(row(format!("cat /proc/self/root{tree}/{file}"), SECRET, "EACCES"));
        }
        proof.prove(&rows);
        let closed = "EROFS|EXDEV|EBUSY|EACCES|EPERM";
        let mut rows = Vec::new();
        for file in [".env", "dir/.env"] {
            for attack in [
                "chmod FILE 644",
                "write FILE",
                "link FILE stolen",
                "rename FILE stolen",
                "unlink FILE",
                "rename README FILE",
                "touch FILE",
                "setxattr FILE user.x y",
                "rename dir/keep FILE",
            ] {
                rows.push((attack.replace("FILE", file), closed));
            }
            rows.push((format!("cat {file}"), "EACCES"));
        }
        rows.push(("rename dir moved".into(), "EXDEV|EBUSY"));
        rows.push(("rename dir/.envdir moved".into(), closed));
        rows.push(("rmdir dir".into(), "ENOTEMPTY|EBUSY|EACCES"));
        rows.push(("list dir/.envdir".into(), "EACCES"));
        proof.refused(&rows);
    }
}

#[test]
fn no_shell_trick_brings_a_hidden_file_to_light() {
    for user in users() {
        let world = World::new(user);
        let proof = hidden(&world);
        let outcome = proof
            .command([
                "sh",
                "-c",
                r#"
                mv dir dir2; cat dir2/.env dir/.env
                cp -a dir copy; cat copy/.env copy/.env.local
                rm -rf dir target; cat dir/.env; git checkout -- dir; cat dir/.env
                mkdir fresh && mv fresh dir; cat dir/.env
                tar cf - . | grep -a HIDDEN
                git stash -a; git add -f .env dir/.env; git diff --cached
                grep -ra HIDDEN . /proc/self/root/tmp /proc/self/cwd/
                ln -s . loop; cat loop/.env loop/dir/.env
                cd dir && cat .env ../.env
                echo done
            "#,
            ])
            .run();
        let text = outcome.text("backend.stdout.log") + &outcome.text("backend.stderr.log");
        assert!(text.contains("done"), "{user:?}: {text}");
        assert!(!text.contains(SECRET), "{user:?}: {text}");
        // Nothing of it became a change either.
        assert!(!outcome.text("patch.diff").contains(SECRET), "{user:?}");
        assert_eq!(std::fs::read_to_string(proof.repo.path().join("dir/.env")).unwrap(), SECRET);
    }
}

#[test]
fn a_directory_with_a_mask_in_it_takes_the_mask_along() {
    for user in users() {
        let world = World::new(user);
        // Below a writable mount a rename is a real one: no overlay says EXDEV.
        world.write("home/tool/deep/credentials", SECRET);
        std::fs::create_dir_all(world.path("home/.cargo")).unwrap();
        world.write("home/.cargo/credentials.toml", SECRET);
        world.write("home/.cargo/bin/tool", "x");
        let cargo = world.path("home/.cargo").display().to_string();
        let proof = Proof::new(&world).with(["--rw".to_owned(), cargo.clone()]);
        let outcome = proof
            .command(["sh", "-c", &format!("cd {cargo}; cat credentials.toml; mv credentials.toml x; rm credentials.toml; ln credentials.toml x; cat x; chmod 600 credentials.toml; cat credentials.toml; mv {cargo} {cargo}2; cat {cargo}2/credentials.toml; echo done")])
            .run();
        let text = outcome.text("backend.stdout.log");
        assert_eq!(text, "done\n", "{user:?}: {outcome:#?}");
        assert_eq!(
            std::fs::read_to_string(world.path("home/.cargo/credentials.toml")).unwrap(),
            SECRET,
            "{user:?}"
        );
    }
}

#[test]
fn credentials_below_a_mount_are_masked_also_behind_links() {
    for user in users() {
        let world = World::new(user);
        world.write("home/.ssh/id_ed25519", SECRET);
        world.write("home/.netrc", SECRET);
        world.write("home/dotfiles/npmrc", SECRET);
        world.write("home/dotfiles/config/gh/hosts.yml", SECRET);
        symlink("dotfiles/npmrc", world.path("home/.npmrc")).unwrap();
        symlink("dotfiles/config", world.path("home/.config")).unwrap();
        user.own(&world.path("home"));
        let home = world.path("home").display().to_string();
        for option in ["--ro", "--overlay"] {
            let proof =
                Proof { world: &world, repo: TestRepo::small(&world), options: Vec::new(), confined: false };
            let proof = proof.with([option.to_owned(), home.clone()]);
            let mut rows = Vec::new();
            for file in [
                ".ssh/id_ed25519",
                ".netrc",
                ".npmrc",
                "dotfiles/npmrc",
                ".config/gh/hosts.yml",
                "dotfiles/config/gh/hosts.yml",
            ] {
                rows.push(row(format!("cat {home}/{file}"), SECRET, "EACCES"));
            }
            proof.prove(&rows);
        }
    }
}

#[test]
fn test_and_reviewer_see_the_masks_too() {
    for user in users() {
        let world = World::new(user);
        let proof = hidden(&world);
        let look = "cat .env dir/.env dir/.env.local target/.env; true";
        let outcome = proctor(&world)
            .args(["run", "--repo"])
            .arg(proof.repo.path())
            .args([
                "--test",
                look,
                "--review",
                look,
                "--review-by",
                "exit",
                "--",
                "sh",
                "-c",
                "echo y >> README; rm -rf dir; true",
            ])
            .run();
        assert_eq!(outcome.report()["backend_exit_code"], 0, "{user:?}: {outcome:#?}");
        for log in ["test.log", "review.log"] {
            let text = outcome.text(log);
            assert!(text.contains("denied"), "{user:?} {log}: it did not look: {text}");
            assert!(!text.contains(SECRET), "{user:?} {log}: {text}");
        }
    }
}

#[test]
fn proctors_own_places_are_refused_as_mounts() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        std::fs::create_dir_all(world.path("state/proctor")).unwrap();
        user.own(&world.path("state"));
        symlink(world.path("state"), world.path("alias")).unwrap();
        for option in ["--ro", "--rw", "--overlay", "--test-ro", "--review-ro"] {
            for path in ["state", "state/proctor", "alias", "."] {
                let outcome = proctor(&world)
                    .args(["run", "--no-test", "--repo"])
                    .arg(repo.path())
                    .arg(option)
                    .arg(world.path(path).components().as_path())
                    .args(["--", "true"])
                    .run();
                assert_eq!(outcome.code, Some(2), "{user:?} {option} {path}: {outcome:#?}");
            }
        }
        // A socket as a mount, and the tree itself as a writable one.
        let socket = world.path("agent.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (option, path) in [("--ro", socket.as_path()), ("--rw", repo.path())] {
            let outcome = proctor(&world)
                .args(["run", "--no-test", "--repo"])
                .arg(repo.path())
                .arg(option)
                .arg(path)
                .args(["--", "true"])
                .run();
            assert_eq!(outcome.code, Some(2), "{user:?} {option}: {outcome:#?}");
        }
    }
}

#[test]
fn a_hidden_link_hides_what_it_leads_to() {
    for user in users() {
        let world = World::new(user);
        let repo =
            TestRepo::new(&world, "linked", &[(".gitignore", ".env*\nconfig/\n"), ("check.sh", "true\n")]);
        repo.write("config/real", SECRET);
        symlink("config/real", repo.path().join(".env")).unwrap();
        user.own(repo.path());
        let proof = Proof { world: &world, repo, options: Vec::new(), confined: false };
        proof.prove(&[row("cat .env", SECRET, "EACCES"), row("cat config/real", SECRET, "EACCES")]);
    }
}

#[test]
fn the_tree_under_a_second_name_is_refused() {
    // Only root can make one that is no link.
    if users().len() < 2 {
        return;
    }
    for user in users() {
        let world = World::new(user);
        let proof = hidden(&world);
        std::fs::create_dir_all(world.path("outer/alias")).unwrap();
        symlink(proof.repo.path(), world.path("outer/link")).unwrap();
        user.own(&world.path("outer"));
        let alias = world.path("outer/alias");
        let mount = |args: &[&std::ffi::OsStr]| {
            assert!(std::process::Command::new(args[0]).args(&args[1..]).status().unwrap().success());
        };
        mount(&["mount".as_ref(), "--bind".as_ref(), proof.repo.path().as_os_str(), alias.as_os_str()]);
        let outcomes: Vec<_> = ["outer/alias", "outer/alias/dir", "outer", "outer/link"]
            .iter()
            .flat_map(|path| ["--ro", "--test-ro", "--rw"].map(|option| (path, option)))
            .map(|(path, option)| {
                let run = proctor(&world).args(["run", "--no-test", "--repo"]).arg(proof.repo.path());
                (path, option, run.arg(option).arg(world.path(path)).args(["--", "true"]).run())
            })
            .collect();
        mount(&["umount".as_ref(), alias.as_os_str()]);
        for (path, option, outcome) in outcomes {
            assert_eq!(outcome.code, Some(2), "{user:?} {option} {path}: {outcome:#?}");
        }
    }
}
