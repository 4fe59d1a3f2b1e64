//! Changes that may not be: each by its rule, whatever the allowlist says, with its `policy.denied` event.

use std::os::unix::fs::PermissionsExt;

use crate::support::{blocker, each, events, fails, passes, sh, snapshot, untouched};

const TEST: &[&str] = &["--test", "sh check.sh"];
const MEND: &str = "echo mended > src/value.txt";

/// Runs the mend and `script`, expects exactly `rules` (as `path rule`, in order).
fn refused(options: &[&str], script: &str, rules: &[(&str, &str)]) {
    each(|repo| {
        let before = snapshot(repo);
        let options: Vec<&str> = TEST.iter().chain(options).copied().collect();
        let outcome = sh(repo, &options, &format!("{MEND}; {script}")).run();
        fails(&outcome, repo, 1, &["disallowed_file"], &["policy.denied"]);
        let denied: Vec<(String, String)> = events(&outcome, "policy.denied", "supervisor")
            .iter()
            .filter(|e| e["data"]["what"] == "change")
            .map(|e| (text(&e["data"]["path"]), text(&e["data"]["rule"])))
            .collect();
        let wanted: Vec<_> = rules.iter().map(|(p, r)| ((*p).to_owned(), (*r).to_owned())).collect();
        assert_eq!(denied, wanted, "{script}: {outcome:#?}");
        let listed = blocker(&outcome, "disallowed_file")["detail"].to_string();
        assert!(rules.iter().all(|(path, _)| listed.contains(path)), "{listed}");
        // Nothing is tested on top of what may not be.
        assert!(events(&outcome, "test.started", "test").is_empty());
        untouched(&before, repo);
    });
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| panic!("{value} is no text"), str::to_owned)
}

#[test]
fn protected_paths_are_refused_whatever_is_allowed() {
    refused(
        &["--allow-change", "**"],
        "mkdir -p .github/workflows .vscode sub/.claude .Husky; for f in .github/workflows/ci.yml .gitignore .gitattributes \
         .gitmodules .vscode/settings.json sub/.claude/x AGENTS.md sub/CLAUDE.md .envrc Jenkinsfile proctor.toml \
         rust-toolchain.toml .Husky/pre-commit; do echo x > $f; done",
        &[
            (".Husky/pre-commit", "protect"),
            (".envrc", "hidden"),
            (".envrc", "protect"),
            (".gitattributes", "protect"),
            (".github/workflows/ci.yml", "protect"),
            (".gitignore", "protect"),
            (".gitmodules", "protect"),
            (".vscode/settings.json", "protect"),
            ("AGENTS.md", "protect"),
            ("Jenkinsfile", "protect"),
            ("proctor.toml", "protect"),
            ("rust-toolchain.toml", "protect"),
            ("sub/.claude/x", "protect"),
            ("sub/CLAUDE.md", "protect"),
        ],
    );
}

#[test]
fn a_protected_path_may_not_be_deleted_or_renamed_either() {
    refused(&[], "mv .gitignore ignore", &[(".gitignore", "protect")]);
    refused(&[], "rm .gitignore", &[(".gitignore", "protect")]);
}

#[test]
fn protect_and_deny_win_over_allow() {
    refused(
        &["--allow-change", "**", "--deny-change", "docs/**", "--protect", "LOCKED"],
        "mkdir -p docs; echo x > docs/a; echo x > Locked",
        &[("Locked", "protect"), ("docs/a", "deny")],
    );
}

#[test]
fn what_is_not_allowed_is_refused_and_a_star_stops_at_a_slash() {
    refused(
        &["--allow-change", "src/*.txt"],
        "mkdir -p src/deep; echo x > src/deep/a.txt; echo x > other.txt; chmod +x check.sh",
        &[("check.sh", "allow"), ("other.txt", "allow"), ("src/deep/a.txt", "allow")],
    );
}

#[test]
fn what_git_cannot_carry_safely_is_refused() {
    refused(
        &[],
        // The bits themselves are refused inside, and what is without them is an ordinary file.
        "mkfifo pipe; echo x > set; chmod 4755 set; chmod 2755 set; test ! -u set && test ! -g set",
        &[("pipe", "fifo")],
    );
}

#[test]
fn a_socket_is_refused() {
    refused(
        &[],
        "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => \"sock\", Listen => 1) or die $!'",
        &[("sock", "socket")],
    );
}

#[test]
fn links_that_lead_out_into_git_or_to_hidden_paths_are_refused() {
    refused(
        &["--hide", "secret/**"],
        "ln -s /etc/passwd absolute; ln -s ../../up up; ln -s .git/config git; ln -s .env hidden; ln -s target/x ignored; \
         ln -s src/value.txt fine; ln -s loop loop; ln -s src/../../x through",
        &[
            ("absolute", "symlink"),
            ("git", "symlink"),
            ("hidden", "symlink"),
            ("ignored", "symlink"),
            ("loop", "symlink"),
            ("through", "symlink"),
            ("up", "symlink"),
        ],
    );
}

#[test]
fn a_nested_git_directory_is_refused_under_every_name() {
    refused(&[], "git init -q inner && echo x > inner/f", &[("inner/.git", "dot_git")]);
    refused(&[], "mkdir -p sub/.GIT; echo x > sub/.GIT/config", &[("sub/.GIT", "dot_git")]);
    refused(&[], "mkdir sub; echo 'gitdir: /tmp/x' > sub/.git", &[("sub/.git", "dot_git")]);
    refused(&[], "mkdir 'git~1'; echo x > 'git~1/config'", &[("git~1", "dot_git")]);
    refused(&[], "mkdir sub; echo x > 'sub/.git '", &[("sub/.git ", "dot_git")]);
    refused(
        &[],
        "mkdir -p bare/objects bare/refs; echo 'ref: refs/heads/x' > bare/HEAD",
        &[("bare", "git_directory")],
    );
}

#[test]
fn a_hidden_path_may_not_be_written() {
    refused(&[], "echo x > .env", &[(".env", "hidden")]);
    refused(&["--hide", "keys/**"], "mkdir keys; echo x > keys/a", &[("keys/a", "hidden")]);
}

#[test]
fn modes_without_a_patch_as_their_purpose_refuse_the_same() {
    refused(&["--mutation", "discard"], "echo x > AGENTS.md", &[("AGENTS.md", "protect")]);
}

#[test]
fn a_profile_can_lift_one_protected_path() {
    each(|repo| {
        let profile = repo
            .world()
            .write("lift.toml", "[changes]\nlift_protect = [\"AGENTS.md\"]\n")
            .display()
            .to_string();
        let outcome = sh(repo, &["--profile", &profile, "--no-test"], "echo x > AGENTS.md").run();
        passes(&outcome, repo);
        let outcome = sh(repo, &["--profile", &profile, "--no-test"], "echo x > CLAUDE.md").run();
        fails(&outcome, repo, 1, &["disallowed_file"], &["policy.denied"]);
    });
}

#[test]
fn a_file_of_mode_zero_and_a_closed_directory_are_read_all_the_same() {
    each(|repo| {
        let outcome = sh(
            repo,
            &["--no-test"],
            "mkdir closed; echo x > closed/f; chmod 000 closed/f; chmod 000 closed; echo y > shut; chmod 000 shut",
        )
        .run();
        passes(&outcome, repo);
        let mut paths: Vec<String> = outcome.report()["changed_files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| format!("{} {}", c["path"].as_str().unwrap(), c["new_mode"].as_str().unwrap()))
            .collect();
        paths.sort();
        assert_eq!(paths, ["closed/f 100644", "shut 100644"]);
        let mode = std::fs::metadata(outcome.evidence()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    });
}
