//! The failure matrix: every row gives its exact blockers, its exit code and its events, as every user. A row is run by
//! `proctor matrix`, and what it left is judged here once more, by other means; the command itself is tested in
//! `matrix_command`.

use std::path::Path;

use ::proctor::matrix::fixture::{Act, Engine};
use ::proctor::matrix::set::{FURTHER, Set, TWELVE};
use harness::{Outcome, TestRepo, World, users};
use serde_json::Value;

use crate::proctor;
use crate::support::{blocker, fails, verify};

/// Runs a row as this user and judges what it left.
fn holds(name: &str, user: harness::User) {
    let world = World::new(user);
    let keep = world.path("kept");
    let outcome = proctor(&world).args(["matrix", "--json", "--keep"]).arg(&keep).arg(name).run();
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let said: Value = serde_json::from_str(&outcome.stdout).expect("JSON alone on standard output");
    let row = &said["rows"][0];
    assert_eq!((&row["row"], &row["state"]), (&name.into(), &"agrees".into()), "{outcome:#?}");

    let set = Set::embedded().expect("fixtures");
    let fixture = &set.select(&[name.to_owned()], false).unwrap()[0].fixture;
    let played = fixture.played(Engine::Fake).unwrap();
    let run = Outcome {
        code: row["got"]["exit"].as_i64().and_then(|code| code.try_into().ok()),
        stdout: format!("{}\n", row["evidence"].as_str().unwrap()),
        stderr: std::fs::read_to_string(keep.join(name).join("run.stderr")).unwrap(),
    };
    let repo = TestRepo::existing(&world, Path::new("kept").join(name).join("repo").to_str().unwrap());
    let blockers: Vec<&str> = fixture.blockers.iter().map(|code| code.as_str()).collect();
    if fixture.after.is_empty() {
        let events: Vec<String> =
            fixture.events.iter().chain(&played.events).map(ToString::to_string).collect();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        fails(&run, &repo, fixture.exit.into(), &blockers, &events);
        for (code, fields) in &fixture.detail {
            let detail = blocker(&run, code.as_str())["detail"].clone();
            for (key, value) in fields {
                assert_eq!(detail[key], serde_json::to_value(value).unwrap(), "{detail}");
            }
        }
    } else {
        run.expect(0, &[]);
        assert_eq!(verify(&run, &repo).code, Some(4));
    }
    // Git sees in the real tree what somebody did there, and nothing of the backend's.
    let acts = fixture.before.iter().chain(&fixture.during);
    let ignored = |path: &&Path| !path.starts_with("target");
    let touched: Vec<String> =
        acts.filter_map(Act::path).filter(ignored).map(|path| format!(" M {}", path.display())).collect();
    let status = repo.try_git(&["status", "--porcelain"]);
    assert_eq!(String::from_utf8_lossy(&status.stdout).lines().collect::<Vec<_>>(), touched);
}

macro_rules! rows {
    ($($test:ident = $name:literal;)+) => {
        const ROWS: &[&str] = &[$($name),+];

        $(#[test] fn $test() { users().into_iter().for_each(|user| holds($name, user)); })+
    };
}

rows! {
    no_diff = "no-diff";
    disallowed_file = "disallowed-file";
    failed_tests = "failed-tests";
    missing_test_command = "missing-test-command";
    missing_event = "missing-event";
    reviewer_reject = "reviewer-reject";
    approval_denied = "approval-denied";
    timeout = "timeout";
    dirty_starting_tree = "dirty-starting-tree";
    dirty_ending_tree = "dirty-ending-tree";
    artifact_write_failure = "artifact-write-failure";
    provider_unavailable = "provider-unavailable";
    backend_failed_exit = "backend-failed-exit";
    backend_failed_killed = "backend-failed-killed";
    backend_failed_says_so = "backend-failed-says-so";
    contradiction = "contradiction";
    output_limit_log = "output-limit-log";
    output_limit_patch = "output-limit-patch";
    output_limit_files = "output-limit-files";
    resource_limit = "resource-limit";
    secret_in_evidence = "secret-in-evidence";
    sandbox_unavailable = "sandbox-unavailable";
    evidence_invalid = "evidence-invalid";
    interrupted_sigint = "interrupted-sigint";
    interrupted_sigterm = "interrupted-sigterm";
    timeout_idle = "timeout-idle";
    timeout_test = "timeout-test";
    timeout_review = "timeout-review";
    timeout_approval = "timeout-approval";
}

/// Slow, and nothing in it depends on who runs.
const SLOW: &str = "output-limit-events";

#[test]
fn output_limit_events() {
    holds(SLOW, users()[0]);
}

#[test]
fn every_row_is_run() {
    let mut embedded: Vec<&str> = TWELVE.iter().chain(FURTHER).map(|(name, _)| *name).collect();
    let mut run: Vec<&str> = ROWS.iter().copied().chain([SLOW]).collect();
    embedded.sort_unstable();
    run.sort_unstable();
    assert_eq!(run, embedded);
}
