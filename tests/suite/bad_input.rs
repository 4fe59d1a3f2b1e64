//! Bad input: exit code 2, a message that names the file (with its line) or the option and says what to do; nothing
//! started and nothing written.

use std::path::Path;

use harness::{Outcome, Proctor, TestRepo, World, users};

use crate::proctor;
use crate::support::{each, listing, outside, run, sh, snapshot};

/// Asserts the whole contract; `words` must all be in the message.
fn refused(repo: &TestRepo<'_>, call: Proctor, words: &[&str]) {
    let world = repo.world();
    let before = (listing(world, "."), snapshot(repo));
    let outcome = call.run();
    assert_eq!(outcome.code, Some(2), "{outcome:#?}");
    assert_eq!(outcome.stdout, "", "{outcome:#?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} is not in {outcome:#?}");
    }
    assert!(outcome.stderr.lines().count() <= 6, "an error is a few lines, not a page: {outcome:#?}");
    assert!(!outcome.stderr.contains("survey"), "{outcome:#?}");
    assert_eq!(
        before.0.differences(&listing(world, ".")),
        Vec::<String>::new(),
        "something was written: {outcome:#?}"
    );
}

const TRUE: &str = "echo mended > src/value.txt";

#[test]
fn an_unknown_key_of_a_profile_is_named_with_its_line_and_the_nearest_one() {
    each(|repo| {
        let profile =
            repo.world().write("p.toml", "[limits]\npids = 10\nmemroy = \"1G\"\n").display().to_string();
        refused(
            repo,
            sh(repo, &["--no-test", "--profile", &profile], TRUE),
            &["p.toml:3:1", "memroy", "did you mean `memory`"],
        );
        let config = repo.world().write("c.toml", "mutatoin = \"none\"\n").display().to_string();
        refused(
            repo,
            sh(repo, &["--no-test", "--config", &config], TRUE),
            &["c.toml:1:1", "did you mean `mutation`"],
        );
    });
}

#[test]
fn a_bad_glob_is_named_with_its_place() {
    each(|repo| {
        for option in ["--allow-change", "--deny-change", "--ask-change", "--protect", "--hide"] {
            refused(
                repo,
                sh(repo, &["--no-test", option, "src/[a"], TRUE),
                &[option, "src/[a", ".gitignore"],
            );
        }
        let profile = repo
            .world()
            .write("p.toml", "[changes]\nallow = [\"src/**\",\n  \"[a\"]\n")
            .display()
            .to_string();
        refused(repo, sh(repo, &["--no-test", "--profile", &profile], TRUE), &["p.toml:3:3", "[a"]);
    });
}

#[test]
fn a_repository_that_cannot_be_one_is_named_with_what_to_do() {
    each(|repo| {
        let world = repo.world();
        let at =
            |path: &Path| proctor(world).args(["run", "--no-test", "--repo"]).arg(path).args(["--", "true"]);
        refused(repo, at(&world.path("nowhere")), &["--repo", "nowhere"]);
        refused(repo, at(&world.path("home")), &["not inside a git work tree", "--repo", "git init"]);
        refused(repo, at(&repo.path().join("README")), &["--repo", "README"]);
        outside(repo, "git init -q ../empty && git clone -q --bare . ../bare.git");
        refused(repo, at(&world.path("empty")), &["has no commit yet", "commit something first"]);
        refused(repo, at(&world.path("bare.git")), &["bare repository", "git worktree add"]);
        outside(repo, "git init -q ../broken && echo nonsense > ../broken/.git/HEAD");
        refused(repo, at(&world.path("broken")), &["broken"]);
        outside(repo, "cp -a . ../holed && rm -rf ../holed/.git/objects/*");
        refused(repo, at(&world.path("holed")), &["holed"]);
    });
}

#[test]
fn a_task_file_that_cannot_be_read_is_named() {
    each(|repo| {
        let world = repo.world();
        let nowhere = format!("@{}", world.path("task.md").display());
        refused(
            repo,
            sh(repo, &["--no-test", "--task", &nowhere], TRUE),
            &["--task", "task.md", "does not exist"],
        );
        world.write("bin.md", [0xff, 0xfe, 0]);
        let binary = format!("@{}", world.path("bin.md").display());
        refused(repo, sh(repo, &["--no-test", "--task", &binary], TRUE), &["--task", "bin.md", "UTF-8"]);
        refused(repo, run(repo, &["--no-test"]).args(["--", "echo", "{task}"]), &["{task}", "--task"]);
    });
}

#[test]
fn an_evidence_directory_that_cannot_be_one_is_named() {
    each(|repo| {
        let world = repo.world();
        world.write("used/old.txt", "x");
        world.user.own(&world.path("used"));
        let at = |path: &Path| run(repo, &["--no-test", "--evidence"]).arg(path).args(["--", "true"]);
        refused(repo, at(&world.path("used")), &["used", "not empty", "--evidence"]);
        refused(repo, at(&world.path("used/old.txt")), &["old.txt", "--evidence"]);
        refused(repo, at(&repo.path().join("evidence")), &["evidence", "work tree", "--evidence"]);
        refused(repo, at(&repo.path().join(".git/evidence")), &["work tree", "--evidence"]);
        std::os::unix::fs::symlink(repo.path(), world.path("link")).unwrap();
        refused(repo, at(&world.path("link/evidence")), &["work tree", "--evidence"]);
        refused(repo, at(Path::new("/proc/evidence")), &["/proc/evidence", "--evidence"]);
    });
}

#[test]
fn a_foreign_evidence_directory_is_refused() {
    for user in users().into_iter().filter(|_| users().len() > 1) {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let dir = world.path("foreign");
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        std::os::unix::fs::chown(&dir, Some(4321), Some(4321)).unwrap();
        refused(
            &repo,
            run(&repo, &["--no-test", "--evidence"]).arg(&dir).args(["--", "true"]),
            &["foreign", "4321"],
        );
    }
}

#[test]
fn words_that_this_version_does_not_know_are_named_with_those_it_knows() {
    each(|repo| {
        let cases: &[(&[&str], &[&str])] = &[
            (&["--engine", "comand"], &["--engine", "comand", "did you mean `command`"]),
            (&["--engine", "codex"], &["--engine", "codex", "command, fake"]),
            (&["--net", "proxy"], &["--net", "proxy", "none"]),
            (&["--net", "everything"], &["--net", "everything"]),
            (&["--mutation", "apply"], &["--mutation", "apply"]),
            (&["--stage", "artificial-fixture"], &["--stage", "artificial-fixture"]),
            (&["--min-level", "half"], &["--min-level", "half"]),
            (&["--layer", "tape"], &["--layer", "tape", "auto"]),
            (&["--review", "true", "--review-by", "nod"], &["--review-by", "nod"]),
            (&["--view", "cobol"], &["--view", "cobol"]),
            (&["--timeout", "soon"], &["--timeout", "soon"]),
            (&["--timeout", "0s"], &["--timeout"]),
            (&["--memory", "lots"], &["--memory", "lots"]),
            (&["--max-files=-1"], &["--max-files"]),
            (&["--nonce", "xyz"], &["--nonce", "hexadecimal"]),
            (&["--profile", "nowhere"], &["--profile", "nowhere"]),
            (&["--env", "A"], &["--env", "A", "NAME=VALUE"]),
            (&["--env", "PATH=/x", "--env", "PATH=/y"], &["--env", "PATH"]),
            (&["--pass-env", "NOT_SET_ANYWHERE"], &["--pass-env", "NOT_SET_ANYWHERE"]),
            (&["--approvals", "/nowhere-log"], &["--approvals", "/nowhere-log", "regular file"]),
            (&["--ro", "relative"], &["--ro", "relative"]),
            (&["--ro", "/nowhere"], &["/nowhere"]),
            (&["--rw", "/proc"], &["--rw", "/proc"]),
        ];
        for (options, words) in cases {
            let options = [&["--no-test"], *options].concat();
            refused(repo, sh(repo, &options, TRUE), words);
        }
    });
}

#[test]
fn tests_cannot_be_both_given_and_left_out() {
    each(|repo| {
        refused(repo, sh(repo, &["--no-test", "--test", "true"], TRUE), &["--test", "--no-test"]);
        refused(repo, sh(repo, &["--test", ""], TRUE), &["--test"]);
    });
}

#[test]
fn no_command_and_no_scenario_are_said() {
    each(|repo| {
        refused(repo, run(repo, &["--no-test"]), &["command", "--"]);
        let engine = |more: &[&str]| run(repo, &["--no-test", "--engine", "fake", "--"]).args(more);
        refused(repo, engine(&[]), &["fake", "SCENARIO"]);
        refused(repo, engine(&["a", "b"]), &["fake", "SCENARIO"]);
        refused(repo, engine(&["/nowhere.toml"]), &["/nowhere.toml"]);
        let bad = repo.world().write("s.toml", "[[step]]\ndo = \"prnt\"\n").display().to_string();
        refused(repo, engine(&[&bad]), &["s.toml", "prnt", "line 2"]);
    });
}

#[test]
fn a_mount_that_shows_proctors_own_or_writes_the_tree_is_refused() {
    each(|repo| {
        let world = repo.world();
        outside(repo, "mkdir -p ../state/proctor/runs ../config/proctor");
        let path = |name: &str| world.path(name).display().to_string();
        let tree = repo.path().display().to_string();
        let checked = ["--test", "true", "--review", "true"];
        for option in ["--ro", "--rw", "--overlay", "--test-ro", "--review-rw"] {
            for shown in ["state", "state/proctor", "state/proctor/runs", "config/proctor", "."] {
                let shown = path(shown);
                let options = [&checked[..], &[option, &shown]].concat();
                refused(repo, sh(repo, &options, TRUE), &["would show Proctor's own"]);
            }
        }
        for option in ["--rw", "--test-rw", "--review-rw"] {
            let at = |place: &str| sh(repo, &[&checked[..], &[option, place]].concat(), TRUE);
            refused(repo, at(&tree), &["writable mount", "overlay"]);
            refused(repo, at(&format!("{tree}/.git")), &["writable mount"]);
        }
        refused(
            repo,
            sh(repo, &["--no-test", "--ro", &format!("{tree}/src")], TRUE),
            &["inside the work tree"],
        );
        let evidence = path("place");
        outside(repo, "mkdir ../place");
        refused(
            repo,
            sh(repo, &["--no-test", "--evidence", &format!("{evidence}/e"), "--ro", &evidence], TRUE),
            &["would show Proctor's own", "--evidence"],
        );
    });
}

#[test]
fn a_git_directory_elsewhere_is_protected_too() {
    each(|repo| {
        outside(repo, "git worktree add -q ../linked");
        let world = repo.world();
        let git = repo.path().join(".git").display().to_string();
        let call = proctor(world).args(["run", "--no-test", "--repo"]).arg(world.path("linked"));
        refused(repo, call.args(["--rw", &git, "--", "true"]), &["writable mount", ".git"]);
    });
}

#[test]
fn a_tree_that_holds_proctors_own_state_is_refused() {
    each(|repo| {
        let world = repo.world();
        for variable in ["XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            let call = sh(repo, &["--no-test"], TRUE).env(variable, repo.path().join("own"));
            refused(repo, call, &["work tree", "Proctor's own", variable]);
        }
        let call = sh(repo, &["--no-test"], TRUE).env("XDG_STATE_HOME", world.path("repo"));
        refused(repo, call, &["work tree", "XDG_STATE_HOME"]);
    });
}

#[test]
fn policy_from_inside_the_tree_is_no_policy() {
    each(|repo| {
        repo.write("p.toml", "[changes]\nallow = [\"**\"]\n");
        repo.commit("a profile");
        let profile = repo.path().join("p.toml").display().to_string();
        refused(
            repo,
            sh(repo, &["--no-test", "--profile", &profile], TRUE),
            &["p.toml", "inside the work tree"],
        );
        refused(
            repo,
            sh(repo, &["--no-test", "--config", &profile], TRUE),
            &["p.toml", "inside the work tree"],
        );
        let log = repo.path().join("README").display().to_string();
        refused(
            repo,
            sh(repo, &["--no-test", "--approvals", &log], TRUE),
            &["--approvals", "inside the work tree"],
        );
    });
}

#[test]
fn a_message_shows_no_control_characters() {
    each(|repo| {
        let evil = "\x1b[2Jx\u{202e}";
        for option in ["--engine", "--profile", "--allow-change", "--timeout", "--repo", "--view", "--env"] {
            let outcome: Outcome = sh(repo, &["--no-test", option, evil], TRUE).run();
            assert_ne!(outcome.code, Some(0), "{option}");
            let shown = |c: char| c == '\x1b' || c == '\u{202e}';
            assert!(!outcome.stderr.contains(shown), "{option}: {outcome:?}");
        }
    });
}
