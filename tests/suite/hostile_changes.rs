//! Changes that are made to keep the supervisor busy, to get past its rules under another name, or to carry a secret
//! out where no search looks.

use std::time::{Duration, Instant};

use crate::support::{blocker, each, events, fails, sh};

/// What a hostile change may cost after the backend's end, with room for a slow machine and no optimization.
const SOON: Duration = Duration::from_secs(60);

fn refused(options: &[&str], script: &str, rules: &[(&str, &str)]) {
    each(|repo| {
        let begun = Instant::now();
        let options: Vec<&str> = ["--no-test"].iter().chain(options).copied().collect();
        let outcome = sh(repo, &options, script).run();
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        fails(&outcome, repo, 1, &["disallowed_file"], &["policy.denied"]);
        let denied: Vec<(String, String)> = events(&outcome, "policy.denied", "supervisor")
            .iter()
            .map(|e| {
                let text = |key: &str| e["data"][key].as_str().unwrap().to_owned();
                (text("path"), text("rule"))
            })
            .collect();
        let wanted: Vec<_> = rules.iter().map(|(p, r)| ((*p).to_owned(), (*r).to_owned())).collect();
        assert_eq!(denied, wanted, "{outcome:#?}");
    });
}

#[test]
fn sparse_files_are_not_read_beyond_the_limit() {
    each(|repo| {
        let begun = Instant::now();
        let outcome =
            sh(repo, &["--no-test"], "for i in 1 2 3 4 5 6; do truncate -s 268435455 f$i; done").run();
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        fails(&outcome, repo, 1, &["output_limit", "event_missing"], &["limit.exceeded"]);
        let said = blocker(&outcome, "output_limit").to_string();
        assert!(said.contains("--max-patch"), "{said}");
    });
}

#[test]
fn a_link_with_thousands_of_components_is_refused_at_once() {
    refused(
        &[],
        "ln -s \"d/$(printf 'a/%.0s' $(seq 2040))\" deep 2>/dev/null || \
         perl -e 'symlink(\"d/\" . \"a/\" x 2040, \"deep\") or die $!'",
        &[("deep", "symlink")],
    );
}

#[test]
fn a_link_in_place_of_a_denied_directory_is_denied_and_so_is_what_it_leads_to() {
    refused(
        &["--deny-change", "migrations/**"],
        "mkdir db; echo x > db/1; ln -s db migrations",
        &[("db/1", "deny"), ("migrations", "deny")],
    );
    refused(&["--deny-change", "migrations/**"], "ln -s src migrations", &[("migrations", "deny")]);
}

#[test]
fn short_names_and_lesser_known_settings_are_protected() {
    refused(
        &[],
        "for f in 'GITHUB~1' AGENTS.override.md .lfsconfig lefthook.toml; do echo x > $f; done",
        &[
            (".lfsconfig", "protect"),
            ("AGENTS.override.md", "protect"),
            ("GITHUB~1", "protect"),
            ("lefthook.toml", "protect"),
        ],
    );
}

#[test]
fn a_secret_in_a_binary_file_is_found_though_the_patch_holds_it_compressed() {
    let secret = "correct-horse-battery-staple";
    each(|repo| {
        let outcome = sh(repo, &["--no-test", "--pass-env", "TOKEN"], "printf '\\0%s' \"$TOKEN\" > blob")
            .env("TOKEN", secret)
            .run();
        fails(&outcome, repo, 1, &["secret_in_evidence"], &[]);
        let said = blocker(&outcome, "secret_in_evidence").to_string();
        assert!(said.contains("patch.diff") && said.contains("TOKEN"), "{said}");
        assert!(!outcome.text("patch.diff").contains(secret), "else this test says nothing");
        assert_eq!(outcome.report()["quarantined"], true);
    });
}
