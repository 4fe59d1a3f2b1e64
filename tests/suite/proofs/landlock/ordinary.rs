//! Ordinary work at level `landlock`: what a backend leaves is judged as at level `full`, and its tools work.

use harness::{Outcome, Proctor, TestRepo, Toolchains, User, World, users};

use crate::proofs::{Proof, without_namespaces};
use crate::support::{fixtures, verifies};

fn run(repo: &TestRepo<'_>, options: &[&str]) -> Proctor {
    without_namespaces(repo.world(), &[])
        .args(["run", "--min-level", "landlock", "--repo"])
        .arg(repo.path())
        .args(options)
}

fn sh(repo: &TestRepo<'_>, options: &[&str], script: &str) -> Outcome {
    run(repo, options).args(["--", "sh", "-c", script]).run()
}

fn confined(outcome: &Outcome) {
    let report = outcome.report();
    assert_eq!(report["sandbox"]["level"], "landlock", "{outcome:#?}");
    assert!(report["sandbox"]["why_not_full"].as_str().is_some_and(|why| !why.is_empty()), "{report:#}");
}

#[test]
fn a_mended_tree_passes_its_test_and_a_broken_one_fails() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let test = ["--test", "sh check.sh"];
        let outcome =
            sh(&repo, &test, "echo mended > src/value.txt; echo untracked > target; mkdir -p t; true");
        outcome.expect(0, &[]);
        confined(&outcome);
        verifies(&outcome, &repo);
        let outcome = sh(&repo, &test, "echo worse > src/value.txt");
        outcome.expect(1, &["tests_failed"]);
        confined(&outcome);
        verifies(&outcome, &repo);
        let outcome = sh(&repo, &test, "echo mended > src/value.txt; exit 7");
        outcome.expect(1, &["backend_failed"]);
        // The test runs over base and patch, not over what the backend left beside.
        let outcome = sh(
            &repo,
            &["--test", "test ! -e target && sh check.sh"],
            "mkdir target; echo x >target/x; echo mended > src/value.txt",
        );
        outcome.expect(0, &[]);
        assert_eq!(repo.git(&["status", "--porcelain"]), "", "{user:?}: the real tree stays");
    }
}

#[test]
fn a_result_is_what_git_says() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        repo.write("bin/tool", "#!/bin/sh\n");
        repo.write("old/name", "a file that is moved\nwith lines\nenough of them\n");
        repo.write("gone", "x\n");
        repo.write("empty", "");
        std::os::unix::fs::symlink("README", repo.path().join("link")).unwrap();
        repo.commit("more");
        let script = "set -e; echo mended >src/value.txt; rm gone; mkdir -p new/deep; mv old/name new/deep/name; \
             chmod 755 bin/tool; ln -sfn src link; ln -s nowhere dangling; printf 'a\\0b' >binary; : >new/empty; \
             printf 'no newline' >tail; rm empty; mkdir empty; echo x >empty/now-a-directory; mkdir -p target; echo x >target/ignored; \
             echo 'name with space' >'a b'; printf 'x' >\"$(printf 'caf\\303\\251')\"; true";
        let outcome = sh(&repo, &["--no-test"], script);
        assert_eq!(outcome.code, Some(0), "{user:?}: {outcome:#?}");
        confined(&outcome);
        verifies(&outcome, &repo);
        // The same by hand, in a clone; then the patch, in another.
        let mut trees = Vec::new();
        for name in ["by-hand", "patched"] {
            repo.git(&["clone", "-q", ".", &world.path(name).display().to_string()]);
            let clone = TestRepo::existing(&world, name);
            if name == "by-hand" {
                let mut command = world.command("sh");
                assert!(command.args(["-c", script]).current_dir(clone.path()).status().unwrap().success());
            } else {
                let patch = outcome.evidence().join("patch.diff");
                clone.git(&["apply", "--index", &patch.display().to_string()]);
            }
            clone.git(&["add", "-A"]);
            trees.push(clone.git(&["write-tree"]));
        }
        assert_eq!(trees[0], trees[1], "{user:?}");
        let tree = outcome.report()["result_tree"].as_str().unwrap_or_default().to_owned();
        assert_eq!(tree, trees[0], "{user:?}: {:#}", outcome.report());
    }
}

#[test]
fn git_works_inside_and_the_real_repository_stays() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        let script = "set -e; git status --porcelain; git log --format=%s; echo x >new; git add new; \
             git -c user.name=a -c user.email=a@example.invalid commit -qm inside; git log --format=%s; git fsck 2>&1 | grep -c error || true; \
             git checkout -q -b other; git stash list; git gc -q; git diff HEAD~1 --stat | tail -n 1";
        let head = proof.repo.git(&["rev-parse", "HEAD"]);
        let outcome = proof.command(["sh", "-c", script]).run();
        let text = outcome.text("backend.stdout.log");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            ["base", "inside", "base", "0", "1 file changed, 1 insertion(+)"],
            "{user:?}: {outcome:#?}"
        );
        assert_eq!(proof.repo.git(&["rev-parse", "HEAD"]), head, "{user:?}");
        assert_eq!(proof.repo.git(&["branch", "--list"]), "* main", "{user:?}");
    }
}

#[test]
fn the_reviewer_decides() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let accept = r#"grep -q mended src/value.txt && echo "accept $PROCTOR_PATCH_SHA256" >&3"#;
        for (review, code) in [(accept, 0), ("false", 1)] {
            let outcome = sh(&repo, &["--no-test", "--review", review], "echo mended > src/value.txt");
            assert_eq!(outcome.code, Some(code), "{user:?} {review}: {outcome:#?}");
            confined(&outcome);
        }
    }
}

#[test]
fn scenarios_of_the_fake_engine_end_as_at_level_full() {
    let mut names: Vec<String> = std::fs::read_dir(fixtures().join("engines/fake"))
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() > 5, "{names:?}");
    for user in users() {
        for name in &names {
            let world = World::new(user);
            let repo = TestRepo::small(&world);
            let text = std::fs::read(fixtures().join("engines/fake").join(format!("{name}.toml"))).unwrap();
            let scenario = world.write(format!("scenarios/{name}.toml"), text);
            let options = [
                "--no-test",
                "--mutation",
                "discard",
                "--timeout",
                "5s",
                "--grace",
                "1s",
                "--engine",
                "fake",
                "--",
            ];
            let full = crate::support::run(&repo, &options).arg(&scenario).run();
            let here = run(&repo, &options).arg(&scenario).run();
            assert_eq!(
                (full.code, full.blockers()),
                (here.code, here.blockers()),
                "{user:?} {name}: {here:#?}"
            );
            confined(&here);
        }
    }
}

#[test]
fn a_crate_is_built_and_tested() {
    for user in users() {
        let world = World::new(user);
        let manifest = "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
        let code = "pub fn two() -> u32 { 2 }\n#[test]\nfn it_is() { assert_eq!(two(), 2); }\n";
        let repo = TestRepo::new(
            &world,
            "crate",
            &[("Cargo.toml", manifest), ("src/lib.rs", code), (".gitignore", "target\n")],
        );
        let toolchains = Toolchains::installed().rustup.join("toolchains").canonicalize().unwrap();
        let toolchain = std::fs::read_dir(toolchains).unwrap().flatten().next().unwrap().path();
        let path = format!("PATH={}/bin:/usr/bin:/bin", toolchain.display());
        let options = ["--no-test", "--ro", &toolchain.display().to_string(), "--env", &path];
        let outcome = sh(
            &repo,
            &options,
            "cargo build --offline -q && cargo test --offline -q 2>&1 | grep 'test result'",
        );
        assert_eq!(outcome.code, Some(0), "{user:?}: {}\n{outcome:#?}", outcome.text("backend.stderr.log"));
        assert!(outcome.text("backend.stdout.log").contains("1 passed"), "{user:?}: {outcome:#?}");
        confined(&outcome);
    }
}

#[test]
fn a_toolchain_view_shows_the_toolchain_and_not_the_home() {
    let toolchains = Toolchains::installed();
    for user in users() {
        let world = World::new(user);
        let secrets = [".ssh/id_ed25519", ".cargo/credentials.toml", ".netrc", "notes"];
        let home =
            toolchains.home(user, &[".cargo/bin", ".cargo/registry"], &secrets, "token = SECRET-OF-NOBODY\n");
        let repo = toolchains.project(&world, "rust");
        let outside = format!("HOST={}", home.path().display());
        let script = "cat $HOST/.ssh/id_ed25519 $HOST/.cargo/credentials.toml $HOST/.netrc $HOST/notes; ls $HOST; \
             grep -rs SECRET-OF-NOBODY $HOST /home /root; cargo --version";
        let outcome =
            run(&repo, &["--no-test", "--mutation", "discard", "--view", "rust", "--env", &outside])
                .args(["--", "sh", "-c", script])
                .env("HOME", home.path())
                .env("RUSTUP_HOME", &toolchains.rustup)
                .run();
        let text = outcome.text("backend.stdout.log");
        if user == User::Root {
            // A home that is closed to others is so for the backend's uid as well, and the report says it.
            let closed =
                format!("mount {}/.cargo/bin: the sandbox's uid cannot read it", home.path().display());
            assert_eq!(text, "", "{outcome:#?}");
            assert!(outcome.report()["sandbox"]["missing"].to_string().contains(&closed), "{outcome:#?}");
        } else {
            assert!(
                text.starts_with("cargo 1.") && text.lines().count() == 1,
                "{text}: {}\n{:#}",
                outcome.text("backend.stderr.log"),
                outcome.report()["sandbox"]["missing"]
            );
        }
        confined(&outcome);
    }
}
