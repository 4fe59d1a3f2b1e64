//! Every kind of change that a file system and git know, one case each: what a backend does inside is done once more
//! by a plain shell on a plain copy, and git says there which tree that is, which paths changed, and how. The code
//! under test has no part in that answer.

mod cases;
mod truth;

use std::collections::BTreeSet;

use harness::{Outcome, TestRepo, World, users};

use crate::support::{events, fails, full, outside, passes, sh, snapshot, untouched};
use truth::{Truth, bytes_of};

/// What a run with this case must come to.
enum Expected {
    /// A pass whose tree is git's.
    Tree,
    /// Nothing changed.
    NoDiff,
    /// `PATH RULE` of each disallowed change, sorted; nothing that a patch may carry.
    Refused(&'static [&'static str]),
}

/// One case.
struct Case {
    name: &'static str,
    /// Done by a plain shell in the real tree before the run, then committed.
    setup: &'static str,
    /// Done after that commit, and not committed.
    then: &'static str,
    /// What the backend does.
    script: &'static str,
    /// Whether a profile allows changes of ignore files and attributes.
    lifted: bool,
    /// Work tree, relative to the world, where it is not the repository itself.
    tree: &'static str,
    expected: Expected,
    /// Ignored paths that are listed and dropped.
    ignored: &'static [&'static str],
}

const fn case(name: &'static str, script: &'static str) -> Case {
    Case {
        name,
        setup: "",
        then: "",
        script,
        lifted: false,
        tree: "repo",
        expected: Expected::Tree,
        ignored: &[],
    }
}

impl Case {
    const fn after(self, setup: &'static str) -> Self {
        Self { setup, ..self }
    }

    const fn and(self, then: &'static str) -> Self {
        Self { then, ..self }
    }

    const fn lifted(self) -> Self {
        Self { lifted: true, ..self }
    }

    const fn within(self, tree: &'static str) -> Self {
        Self { tree, ..self }
    }

    const fn is(self, expected: Expected) -> Self {
        Self { expected, ..self }
    }

    const fn drops(self, ignored: &'static [&'static str]) -> Self {
        Self { ignored, ..self }
    }
}

/// What the report says changed: path bytes and a letter, as `git diff --name-status` has them.
fn reported(outcome: &Outcome) -> BTreeSet<(Vec<u8>, char)> {
    let report = outcome.report();
    report["changed_files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let letter = match change["kind"].as_str().unwrap() {
                "added" | "renamed" => 'A',
                "deleted" => 'D',
                "modified" | "mode" => 'M',
                "type" => 'T',
                other => panic!("kind {other}"),
            };
            (bytes_of(&change["path"], &change["path_b64"]), letter)
        })
        .collect()
}

fn holds(case: &Case, repo: &TestRepo<'_>) {
    outside(repo, case.setup);
    if !case.setup.is_empty() {
        repo.commit("setup");
    }
    outside(repo, case.then);
    let tree = TestRepo::existing(repo.world(), case.tree);
    let before = snapshot(&tree);
    let profile = repo.world().path("lift.toml");
    let mut options = vec!["--no-test"];
    if case.lifted {
        options.extend(["--profile", profile.to_str().unwrap()]);
    }
    let outcome = sh(&tree, &options, case.script).run();
    untouched(&before, &tree);
    let truth = match &case.expected {
        Expected::NoDiff => {
            fails(&outcome, &tree, 1, &["no_diff"], &[]);
            let truth = Truth::of(&tree, case.script);
            assert_eq!(truth.changes, BTreeSet::new(), "the case itself");
            Some(truth)
        }
        Expected::Refused(rules) => {
            let empty = outcome.artifact("patch.diff").is_empty();
            let blockers: &[&str] =
                if empty { &["disallowed_file", "no_diff"] } else { &["disallowed_file"] };
            fails(&outcome, &tree, 1, blockers, &["policy.denied"]);
            let mut said: Vec<String> = events(&outcome, "policy.denied", "supervisor")
                .iter()
                .filter(|e| e["data"]["what"] == "change")
                .map(|e| {
                    let text = |key: &str| e["data"][key].as_str().unwrap().to_owned();
                    format!("{} {}", text("path"), text("rule"))
                })
                .collect();
            said.sort();
            assert_eq!(said, *rules, "{outcome:#?}");
            None
        }
        Expected::Tree => {
            passes(&outcome, &tree);
            let truth = Truth::of(&tree, case.script);
            assert!(!truth.changes.is_empty(), "the case itself");
            Some(truth)
        }
    };
    if let Some(truth) = truth {
        assert_eq!(outcome.report()["result_tree"], truth.tree, "{}", outcome.text("patch.diff"));
        assert_eq!(reported(&outcome), truth.changes);
        truth.contents(&outcome);
        truth.applies(&tree, &outcome);
    }
    let ignored: Vec<String> = outcome.report()["ignored_changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["path"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ignored, case.ignored, "ignored and dropped");
}

fn all(cases: &[Case]) {
    let (mut wrong, mut tried) = (Vec::new(), 0);
    let users = users();
    for (turn, case) in cases.iter().enumerate() {
        // By turns as each user; with the larger samples as all.
        for user in users
            .iter()
            .copied()
            .enumerate()
            .filter(|(at, _)| full() || turn % users.len() == *at)
            .map(|(_, user)| user)
        {
            tried += 1;
            let one = || {
                let world = World::new(user);
                // For the cases that change what is protected by default.
                world.write("lift.toml", "[changes]\nlift_protect = [\".gitignore\", \".gitattributes\"]\n");
                holds(case, &TestRepo::small(&world));
            };
            // Each case is tried, and each that fails is named.
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(one)) {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                wrong.push(format!("{} ({user:?}): {text}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), tried, wrong.join("\n\n"));
}

macro_rules! groups {
    ($($test:ident = $cases:ident;)+) => {
        $(#[test] fn $test() { all(cases::$cases); })+

        #[test]
        fn there_are_as_many_cases_as_promised_and_no_two_are_the_same() {
            let all: Vec<&Case> = [$(cases::$cases),+].into_iter().flatten().collect();
            let names: BTreeSet<&str> = all.iter().map(|case| case.name).collect();
            let scripts: BTreeSet<_> = all.iter().map(|c| (c.setup, c.then, c.script, c.lifted)).collect();
            assert!(all.len() >= 80 && names.len() == all.len() && scripts.len() == all.len(), "{}", all.len());
        }
    };
}

groups! {
    contents = CONTENTS;
    modes = MODES;
    names = NAMES;
    types = TYPES;
    trees = TREES;
    equal = EQUAL;
    git_itself = GIT_ITSELF;
    ignored = IGNORED;
    repositories = REPOSITORIES;
    refused = REFUSED;
}
