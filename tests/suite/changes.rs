//! Odd changes, end to end: what the backend left is in the patch, real git makes of the patch on a clean clone
//! exactly the tree that the report names, and what is ignored or hidden has no part.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use harness::{Outcome, TestRepo};
use serde_json::Value;

use crate::support::{each, events, fails, outside, passes, sh, snapshot, untouched};

/// Asserts that the patch on a clean clone gives the result tree, by real git. Gives the clone.
fn applies<'w>(outcome: &Outcome, repo: &TestRepo<'w>) -> std::path::PathBuf {
    let world = repo.world();
    let clone = world.path(format!("clone-{}", outcome.report()["run_id"].as_str().unwrap()));
    let git = |args: &[&OsStr]| {
        let output = world
            .command("git")
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}\n{}", outcome.text("patch.diff"));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let o = OsStr::new;
    git(&[o("clone"), o("-q"), o("--no-hardlinks"), repo.path().as_os_str(), clone.as_os_str()]);
    let base = outcome.report()["base_commit"].as_str().unwrap().to_owned();
    git(&[o("-C"), clone.as_os_str(), o("checkout"), o("-q"), o(&base)]);
    let patch = outcome.evidence().join("patch.diff");
    if !outcome.artifact("patch.diff").is_empty() {
        // The patch belongs to the user, as the evidence directory does.
        git(&[o("-C"), clone.as_os_str(), o("apply"), o("--index"), o("--binary"), patch.as_os_str()]);
    }
    let tree = git(&[o("-C"), clone.as_os_str(), o("write-tree")]);
    assert_eq!(outcome.report()["result_tree"], tree, "{}", outcome.text("patch.diff"));
    clone
}

/// Path to kind, of the report's changed files.
fn kinds(outcome: &Outcome) -> BTreeMap<String, String> {
    let report = outcome.report();
    let list = report["changed_files"].as_array().unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    list.iter().map(|c| (text(&c["path"]), text(&c["kind"]))).collect()
}

fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(p, k)| ((*p).to_owned(), (*k).to_owned())).collect()
}

#[test]
fn names_that_no_tool_expects() {
    each(|repo| {
        let script = r#"
printf 1 > "$(printf 'new\nline')"; printf 2 > "$(printf 'tab\there')"; printf 3 > 'quo"te'; printf 4 > 'back\slash'
printf 5 > "$(printf 'not-utf8-\377\376')"; printf 6 > ./-rf; printf 7 > 'trailing '; printf 8 > ' leading'
printf 9 > 'a => b'; printf 10 > 'ünïcødé'; printf 11 > '*'; printf 12 > '$(touch owned)'; printf 13 > '%s%n'
printf 14 > "$(printf 'bell\007')"; printf 15 > "$(printf 'rlo\342\200\256txt')"; mkdir 'b/' 2>/dev/null; mkdir -p 'dir /sub'; printf 16 > 'dir /sub/x'
printf 17 > '::warning::x'; printf 18 > '<script>'; printf 19 > 'diff --git a b'
"#;
        let outcome = sh(repo, &["--no-test"], script).run();
        passes(&outcome, repo);
        let clone = applies(&outcome, repo);
        let changed = kinds(&outcome);
        assert_eq!(changed.len(), 19, "{changed:#?}");
        assert!(changed.values().all(|k| k == "added"));
        let report = outcome.report();
        let odd =
            report["changed_files"].as_array().unwrap().iter().find(|c| c["path_b64"].is_string()).unwrap();
        assert_eq!(odd["path_b64"], "bm90LXV0Zjgt//4=");
        assert_eq!(std::fs::read(clone.join(OsStr::from_bytes(b"not-utf8-\xff\xfe"))).unwrap(), b"5");
        assert_eq!(std::fs::read(clone.join("new\nline")).unwrap(), b"1");
        // What people read cannot be steered by them.
        for text in [outcome.stderr.clone(), outcome.text("report.md")] {
            assert!(!text.contains('\x07') && !text.contains('\u{202e}'), "{text}");
            assert!(!text.lines().any(|l| l.starts_with("::") || l == "line"), "{text}");
        }
        let markdown = outcome.text("report.md");
        let in_code = markdown.matches("`<script>`").count();
        assert!(
            in_code > 0 && markdown.matches("<script>").count() == in_code,
            "outside of code: {markdown}"
        );
    });
}

#[test]
fn deletes_renames_modes_and_types() {
    each(|repo| {
        outside(
            repo,
            "mkdir d && echo 1 > d/one && echo 2 > d/two && ln -s README link && echo to-be-dir > file && chmod +x d/two",
        );
        repo.commit("more");
        let before = snapshot(repo);
        let script = "rm README; mv d/one d/eins; chmod +x check.sh; chmod -x d/two; rm link && echo file > link; \
                      rm src/value.txt && ln -s ../check.sh src/value.txt; rm file && mkdir file && echo in > file/in";
        let outcome = sh(repo, &["--no-test"], script).run();
        passes(&outcome, repo);
        applies(&outcome, repo);
        untouched(&before, repo);
        assert_eq!(
            kinds(&outcome),
            of(&[
                ("README", "deleted"),
                ("check.sh", "mode"),
                ("d/eins", "added"),
                ("d/one", "deleted"),
                ("d/two", "mode"),
                ("file", "deleted"),
                ("file/in", "added"),
                ("link", "type"),
                ("src/value.txt", "type"),
            ])
        );
        let report = outcome.report();
        let renamed =
            report["changed_files"].as_array().unwrap().iter().find(|c| c["path"] == "d/eins").unwrap();
        assert_eq!(renamed["old_path"], "d/one");
        assert_eq!(events(&outcome, "file.changed", "supervisor").len(), 9);
    });
}

#[test]
fn a_directory_that_becomes_a_file_and_one_that_is_made_anew() {
    each(|repo| {
        outside(repo, "mkdir -p a/b c && echo 1 > a/b/x && echo 2 > a/y && echo 3 > c/z");
        repo.commit("more");
        // The second directory is opaque in the layer: what it held before is gone but for what was put back.
        let outcome =
            sh(repo, &["--no-test"], "rm -r a && echo file > a; rm -r c && mkdir c && echo 4 > c/new").run();
        passes(&outcome, repo);
        applies(&outcome, repo);
        assert_eq!(
            kinds(&outcome),
            of(&[
                ("a", "added"),
                ("a/b/x", "deleted"),
                ("a/y", "deleted"),
                ("c/new", "added"),
                ("c/z", "deleted")
            ])
        );
        // And a whole directory under another name.
        let outcome = sh(repo, &["--no-test"], "mv a e && mv e/b f").run();
        passes(&outcome, repo);
        applies(&outcome, repo);
        assert_eq!(
            kinds(&outcome),
            of(&[("a/b/x", "deleted"), ("a/y", "deleted"), ("e/y", "added"), ("f/x", "added")])
        );
    });
}

#[test]
fn contents_of_every_kind() {
    each(|repo| {
        outside(
            repo,
            "printf 'no newline' > open && head -c 4096 /dev/urandom > noise && printf 'a\\r\\nb\\r\\n' > crlf && : > empty",
        );
        repo.commit("more");
        let script = "printf 'still none' > open; head -c 5000 /dev/urandom > noise; head -c 300000 /dev/urandom > large; \
                      : > nothing; printf 'x' > empty; printf 'a\\r\\nc\\r\\n' > crlf; printf 'nul\\0inside\\n' > nul; \
                      printf '\\n' > README; seq 200000 > long; perl -e 'print \"x\" x 300000, \"\\n\"' > wide; \
                      printf 'diff --git a/x b/x\\n--- a/x\\n+++ b/x\\n@@ -1 +1 @@\\n' > looks-like-a-patch";
        let outcome = sh(repo, &["--no-test"], script).run();
        passes(&outcome, repo);
        let clone = applies(&outcome, repo);
        assert_eq!(kinds(&outcome).len(), 11);
        let report = outcome.report();
        for change in report["changed_files"].as_array().unwrap() {
            let content = std::fs::read(clone.join(change["path"].as_str().unwrap())).unwrap();
            assert_eq!(change["new_size"], content.len(), "{change}");
            use sha2::Digest as _;
            let digest: String = sha2::Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(change["new_sha256"], digest, "{change}");
        }
    });
}

#[test]
fn content_is_what_git_stores_by_the_base_commits_attributes() {
    each(|repo| {
        repo.write(".gitattributes", "*.txt text\n*.win text eol=crlf\n*.bin -text\n");
        repo.write("a.win", "one\r\n");
        repo.commit("attributes");
        let outcome = sh(
            repo,
            &["--no-test"],
            "printf 'x\\r\\ny\\r\\n' > new.txt; printf 'x\\r\\n' > new.bin; printf 'one\\r\\ntwo\\r\\n' > a.win",
        )
        .run();
        passes(&outcome, repo);
        applies(&outcome, repo);
        assert_eq!(kinds(&outcome).len(), 3);
    });
}

#[test]
fn ignored_writes_are_listed_and_dropped() {
    each(|repo| {
        let script = "echo mended > src/value.txt; mkdir -p target/deep; echo built > target/deep/out; echo x > target/a";
        // They are not there for the tests either: what is planted in an ignored place cannot make tests pass.
        let outcome = sh(repo, &["--test", "sh check.sh && ! test -e target"], script).run();
        passes(&outcome, repo);
        applies(&outcome, repo);
        assert_eq!(kinds(&outcome), of(&[("src/value.txt", "modified")]));
        let ignored = outcome.report()["ignored_changes"].to_string();
        assert!(ignored.contains("target"), "{ignored}");
        // An ignore file of the backend's own ignores nothing (and is protected).
        let outcome = sh(repo, &["--no-test"], "echo '*.log' > src/.gitignore; echo x > src/a.log").run();
        fails(&outcome, repo, 1, &["disallowed_file"], &["policy.denied"]);
        assert!(kinds(&outcome).contains_key("src/a.log"), "{outcome:#?}");
        let outcome =
            sh(repo, &["--no-test"], "mkdir -p .git/info; echo '*.log' > .git/info/exclude; echo x > a.log")
                .run();
        passes(&outcome, repo);
        assert_eq!(kinds(&outcome), of(&[("a.log", "added")]));
    });
}

#[test]
fn a_planted_ignored_file_cannot_make_tests_pass() {
    each(|repo| {
        let script = "mkdir target; printf 'exit 0\\n' > target/check.sh; echo worse > src/value.txt";
        let test = "if test -e target/check.sh; then sh target/check.sh; else sh check.sh; fi";
        let outcome = sh(repo, &["--test", test], script).run();
        fails(&outcome, repo, 1, &["tests_failed"], &["test:test.completed"]);
        // Nor can one that replaces what is really there.
        outside(repo, "mkdir target && printf 'exit 1\\n' > target/check.sh");
        let outcome = sh(repo, &["--test", test], "printf 'exit 0\\n' > target/check.sh; echo x > new").run();
        fails(&outcome, repo, 1, &["tests_failed"], &["test:test.completed"]);
    });
}

#[test]
fn tests_and_review_see_the_real_trees_own_ignored_files() {
    each(|repo| {
        outside(repo, "mkdir -p target/deps && echo installed > target/deps/one");
        let look = "test \"$(cat target/deps/one)\" = installed";
        // Even where the backend removed them in its own view.
        let script = "rm -rf target; echo mended > src/value.txt";
        let outcome = sh(repo, &["--test", look, "--review", look, "--review-by", "exit"], script).run();
        passes(&outcome, repo);
        assert!(repo.path().join("target/deps/one").exists());
    });
}

#[test]
fn a_test_cannot_change_what_the_reviewer_or_anybody_sees() {
    each(|repo| {
        let outcome = sh(
            repo,
            &[
                "--test",
                "echo vandal > src/value.txt; rm check.sh",
                "--review",
                "sh check.sh",
                "--review-by",
                "exit",
            ],
            "echo mended > src/value.txt",
        )
        .run();
        passes(&outcome, repo);
        applies(&outcome, repo);
    });
}

#[test]
fn hidden_files_cannot_be_read_anywhere() {
    each(|repo| {
        repo.write(".env", "TOKEN=hunter2hunter2\n");
        repo.write(".gitignore", "target/\n.env*\nkeys/\n");
        repo.commit("ignore");
        outside(repo, "mkdir -p sub keys && echo TOKEN=hunter2hunter2 > sub/.env.local && cp .env keys/key");
        let look = "! cat .env && ! cat sub/.env.local && ! cat keys/key && ! grep -rqs 'hunter[2]hunter[2]' . && test -e .env && ! rm -f .env && ! chmod 644 .env";
        let outcome = sh(
            repo,
            &["--hide", "keys/**", "--test", look, "--review", look, "--review-by", "exit"],
            &format!("echo mended > src/value.txt; {look}"),
        )
        .run();
        passes(&outcome, repo);
        for name in ["backend.stdout.log", "backend.stderr.log", "test.log", "review.log"] {
            assert!(!outcome.text(name).contains("hunter2"), "{name}");
        }
    });
}

#[test]
fn a_hidden_tracked_file_is_no_change() {
    each(|repo| {
        repo.write("secrets.toml", "key = 1\n");
        repo.commit("a secret that is tracked");
        let outcome = sh(
            repo,
            &["--no-test", "--hide", "secrets.toml"],
            "! cat secrets.toml; echo mended > src/value.txt; git status -s",
        )
        .run();
        passes(&outcome, repo);
        applies(&outcome, repo);
        assert_eq!(kinds(&outcome), of(&[("src/value.txt", "modified")]));
    });
}

#[test]
fn what_steers_tests_is_listed() {
    each(|repo| {
        let outcome =
            sh(repo, &["--no-test"], "echo x > Makefile; mkdir tests; echo y > tests/a.rs; echo z > plain")
                .run();
        passes(&outcome, repo);
        let listed = outcome.report()["test_inputs_changed"].to_string();
        assert!(
            listed.contains("Makefile") && listed.contains("tests/a.rs") && !listed.contains("plain"),
            "{listed}"
        );
    });
}

#[test]
fn many_files_at_once() {
    each(|repo| {
        let outcome =
            sh(repo, &["--no-test"], "mkdir many; cd many; for i in $(seq 500); do echo $i > f$i; done")
                .run();
        passes(&outcome, repo);
        let clone = applies(&outcome, repo);
        assert_eq!(std::fs::read_dir(clone.join(Path::new("many"))).unwrap().count(), 500);
    });
}

#[test]
fn the_backends_own_commits_are_its_changes_and_nothing_else() {
    each(|repo| {
        let before = snapshot(repo);
        let script = "git config user.name x; git config user.email x@example.invalid; echo mended > src/value.txt; \
                      git commit -qam mine && git log --oneline | wc -l; git status -s; git diff HEAD~1 --stat";
        let outcome = sh(repo, &["--test", "sh check.sh"], script).run();
        passes(&outcome, repo);
        applies(&outcome, repo);
        assert!(
            outcome.text("backend.stdout.log").starts_with("2\n"),
            "{}",
            outcome.text("backend.stdout.log")
        );
        untouched(&before, repo);
    });
}
