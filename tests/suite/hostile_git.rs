//! Repositories that were made to attack whoever runs Proctor on them: what they name outside of themselves is never
//! read, never shown, and never waited for; what they say of their own tree is not believed.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Outcome, TestRepo, World, users};

use crate::support::{each, fails, nothing_started, outside, passes, run, sh};

const QUIET: &[&str] = &["--no-test", "--mutation", "discard"];

/// Asserts that a run was refused before anything was written, and says what it was told.
fn refused(outcome: &Outcome, repo: &TestRepo<'_>, words: &str) {
    assert_eq!(outcome.code, Some(2), "{outcome:#?}");
    assert!(outcome.stderr.contains(words), "no {words:?}: {outcome:#?}");
    assert!(!repo.world().path("state/proctor/runs").exists(), "{outcome:#?}");
}

/// A file that a hostile repository would like to have read, by Proctor's own user.
fn secret(world: &World) -> std::path::PathBuf {
    let path = world.write("home/.ssh/id_rsa", "PRIVATE KEY\n");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path
}

#[test]
fn links_in_the_git_directory_copy_nothing_into_the_sandbox() {
    each(|repo| {
        let key = secret(repo.world());
        repo.git(&["config", "core.sparseCheckout", "true"]);
        for name in ["shallow", "info/sparse-checkout", "packed-refs", "refs/tags/v1"] {
            outside(
                repo,
                &format!("rm -f .git/{name}; mkdir -p .git/info; ln -s {} .git/{name}", key.display()),
            );
            let outcome = sh(repo, QUIET, "cat .git/shallow .git/info/sparse-checkout").run();
            refused(&outcome, repo, &format!(".git/{name}: a symbolic link inside a git directory"));
            outside(repo, &format!("rm .git/{name}"));
        }
        outside(repo, &format!("cp {} .git/shallow", key.display()));
        refused(&sh(repo, QUIET, "true").run(), repo, ".git/shallow: has a line that is no object id");
    });
}

#[test]
fn nothing_in_the_git_directory_is_waited_for() {
    each(|repo| {
        for name in ["packed-refs", "index", "refs/heads/x", "objects/info/alternates", "HEAD", "shallow"] {
            for make in ["mkfifo", "ln -s /dev/zero"] {
                outside(repo, &format!("[ ! -e .git/{name} ] || mv .git/{name} kept; {make} .git/{name}"));
                let start = Instant::now();
                let outcome = sh(repo, QUIET, "true").run();
                assert!(start.elapsed() < Duration::from_secs(20));
                refused(&outcome, repo, &format!(".git/{name}: "));
                outside(repo, &format!("rm .git/{name}; [ ! -e kept ] || mv kept .git/{name}"));
            }
        }
    });
}

#[test]
fn alternates_show_no_directory_of_the_machine() {
    each(|repo| {
        let key = secret(repo.world());
        let alternates = |dir: &Path| {
            outside(
                repo,
                &format!("mkdir -p .git/objects/info; echo {} > .git/objects/info/alternates", dir.display()),
            );
        };
        let cat = "cat /run/proctor/objects/1/*";
        alternates(key.parent().unwrap());
        let no_objects = "which is no object directory: git would have no id_rsa there";
        refused(&sh(repo, QUIET, cat).run(), repo, no_objects);
        // Naming it changes nothing: it is no object directory.
        let ssh = key.parent().unwrap().to_string_lossy().into_owned();
        refused(&sh(repo, &["--ro", &ssh, "--no-test"], cat).run(), repo, no_objects);
        // An empty directory looks like one, and Proctor's own are refused all the same.
        outside(repo, "mkdir -p \"$XDG_STATE_HOME/proctor\"");
        alternates(&repo.world().path("state/proctor"));
        refused(&sh(repo, QUIET, cat).run(), repo, "overlaps Proctor's own");
        outside(
            repo,
            &format!("rm .git/objects/info/alternates; mv .git/objects ../objects; ln -s {ssh} .git/objects"),
        );
        refused(&sh(repo, QUIET, cat).run(), repo, ".git/objects: a symbolic link inside a git directory");
    });
}

#[test]
fn a_shared_clone_works_once_its_other_objects_are_named() {
    for user in users() {
        let world = World::new(user);
        let first = TestRepo::small(&world);
        first.git(&["clone", "-q", "--shared", ".", "../shared"]);
        let repo = TestRepo::existing(&world, "shared");
        let objects = first.path().join(".git/objects").canonicalize().unwrap();
        let objects = objects.to_string_lossy();
        let outcome = sh(&repo, QUIET, "git log --oneline").run();
        refused(&outcome, &repo, &format!("if that is meant, say so with --ro {objects}"));
        assert!(outcome.stderr.contains("shared/.git/objects/info/alternates leads to the object directory"));
        for option in ["--ro", "--overlay"] {
            let outcome =
                sh(&repo, &[option, &objects, "--no-test"], "git log --format=%s; echo x > new").run();
            passes(&outcome, &repo);
            assert_eq!(outcome.text("backend.stdout.log"), "base\n");
        }
    }
}

#[test]
fn linked_work_trees_work_and_a_git_file_takes_no_other_repository() {
    for user in users() {
        let world = World::new(user);
        let first = TestRepo::small(&world);
        first.git(&["worktree", "add", "-q", "../linked"]);
        let linked = TestRepo::existing(&world, "linked");
        let evil = TestRepo::new(&world, "evil", &[]);
        outside(&evil, "rm -rf .git; echo gitdir: ../repo/.git > .git");
        let outcome = sh(&evil, QUIET, "git log").run();
        refused(&outcome, &evil, "git config core.worktree");
        outside(&evil, "echo gitdir: ../repo/.git/worktrees/linked > .git");
        refused(
            &sh(&evil, QUIET, "git log").run(),
            &evil,
            "and not this work tree; run `git worktree repair`",
        );
        outside(&evil, "rm .git; ln -s ../repo/.git .git");
        refused(
            &sh(&evil, QUIET, "git log").run(),
            &evil,
            "a `.git` that is a symbolic link is not supported",
        );
        let outcome = sh(&linked, &["--no-test"], "git log --format=%s; echo x > new").run();
        passes(&outcome, &linked);
        assert_eq!(outcome.text("backend.stdout.log"), "base\n");
    }
}

#[test]
fn a_test_that_was_exchanged_unseen_is_seen() {
    each(|repo| {
        outside(
            repo,
            "touch -d 2020-01-01 check.sh; sleep 0.1; git update-index --refresh; sleep 0.1; touch .git/index
             cp -p check.sh ../like; len=$(wc -c < check.sh); printf '%-*s\\n' $((len - 1)) true > check.sh
             touch -r ../like check.sh; rm ../like",
        );
        let outcome = sh(repo, &["--test", "sh check.sh"], "echo x > new").run();
        fails(&outcome, repo, 1, &["dirty_starting_tree"], &[]);
        nothing_started(&outcome);
        assert!(outcome.text("report.json").contains("check.sh: modified"), "{outcome:#?}");
    });
}

#[test]
fn an_index_that_lies_about_its_tree_is_not_believed() {
    each(|repo| {
        repo.git(&["write-tree"]);
        let was = repo.git(&["rev-parse", "HEAD:check.sh"]);
        outside(repo, "echo true > check.sh; git hash-object -w check.sh");
        let now = repo.git(&["hash-object", "check.sh"]);
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
        };
        let file = repo.path().join(".git/index");
        let mut index = std::fs::read(&file).unwrap();
        assert!(index.windows(4).any(|w| w == b"TREE"));
        let at = index.windows(20).position(|w| w == bytes(&was)).unwrap();
        index[at..at + 20].copy_from_slice(&bytes(&now));
        // No checksum is one that git accepts (`index.skipHash`).
        let end = index.len() - 20;
        index[end..].fill(0);
        std::fs::write(&file, index).unwrap();
        let outcome = sh(repo, &["--test", "sh check.sh"], "echo x > new").run();
        fails(&outcome, repo, 1, &["dirty_starting_tree"], &[]);
        nothing_started(&outcome);
        assert!(outcome.text("report.json").contains("check.sh: staged"), "{outcome:#?}");
    });
}

#[test]
fn a_directory_that_only_looks_like_a_submodule_hides_nothing_from_the_survey() {
    each(|repo| {
        let commit = repo.git(&["rev-parse", "HEAD"]);
        repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]);
        repo.git(&["commit", "-q", "-m", "submodule"]);
        outside(repo, "mkdir sub; ln -s nowhere sub/.git; echo SECRET > sub/.env");
        let outcome = sh(repo, QUIET, "cat sub/.env").run();
        fails(&outcome, repo, 1, &["dirty_starting_tree"], &[]);
        nothing_started(&outcome);
        // As it is without the link and what the link covered: a submodule that is not checked out.
        outside(repo, "rm sub/.git sub/.env");
        passes(&sh(repo, &["--no-test"], "ls sub; echo x > new").run(), repo);
    });
}

#[test]
fn objects_larger_than_any_tree_are_not_unfolded() {
    each(|repo| {
        let commit = repo.git(&["rev-parse", "HEAD"]);
        let data = format!("commit {}\0tree x", 1u64 << 46);
        // One stored block (RFC 1951, 3.2.4) with its Adler-32 (RFC 1950).
        let (mut low, mut high) = (1u32, 0u32);
        for byte in data.bytes() {
            low = (low + u32::from(byte)) % 65_521;
            high = (high + low) % 65_521;
        }
        let len = u16::try_from(data.len()).unwrap();
        let mut file = vec![0x78, 0x01, 0x01];
        file.extend(len.to_le_bytes());
        file.extend((!len).to_le_bytes());
        file.extend(data.bytes());
        file.extend((high << 16 | low).to_be_bytes());
        let path = Path::new(".git/objects").join(&commit[..2]).join(&commit[2..]);
        std::fs::remove_file(repo.path().join(&path)).unwrap();
        repo.write(path, file);
        let outcome = run(repo, QUIET).args(["--", "true"]).run();
        refused(
            &outcome,
            repo,
            "holds 70368744177664 bytes, more than the 67108864 that are read of a commit",
        );
    });
}
