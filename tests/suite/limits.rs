//! Times and limits: each with the phase or the option it is about, and with the mechanism that held it.

use std::time::{Duration, Instant};

use harness::{Outcome, TestRepo, World, users};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    blocker, each, events, fails, fake, meanwhile_saying, passes, sh, signal, snapshot, untouched,
};

const MEND: &str = "echo mended > src/value.txt";
const DEAF: &str = "trap '' TERM; while :; do sleep 0.05; done";

/// What `timeout.expired` and the blocker say: phase and kind.
fn expired(outcome: &Outcome, phase: &str, kind: &str, option: &str) {
    let all = events(outcome, "timeout.expired", "supervisor");
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((&all[0]["data"]["phase"], &all[0]["data"]["kind"]), (&phase.into(), &kind.into()));
    let said = blocker(outcome, "timeout");
    assert_eq!((&said["detail"]["phase"], &said["detail"]["kind"]), (&phase.into(), &kind.into()));
    assert!(said["message"].as_str().unwrap().contains(option), "{said}");
}

fn quick<T>(limit: u64, f: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let value = f();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(limit), "took {took:?}");
    value
}

#[test]
fn the_wall_time_of_the_backend() {
    each(|repo| {
        let before = snapshot(repo);
        // Output all the time is no help, nor is being deaf to SIGTERM.
        let script = format!("{MEND}; trap '' TERM; while :; do echo tick; sleep 0.05; done");
        let options = ["--no-test", "--timeout", "500ms", "--grace", "200ms"];
        let outcome = quick(5, || sh(repo, &options, &script).run());
        fails(&outcome, repo, 1, &["timeout"], &["timeout.expired", "backend.exited"]);
        expired(&outcome, "backend", "wall", "--timeout");
        assert_eq!(outcome.report()["backend_signal"], 9);
        untouched(&before, repo);
    });
}

#[test]
fn a_backend_may_end_itself_in_the_grace_time_and_is_no_pass_all_the_same() {
    each(|repo| {
        let script = format!("trap 'echo bye; {MEND}; exit 0' TERM; while :; do sleep 0.05; done");
        let options = ["--no-test", "--timeout", "300ms", "--grace", "60s"];
        let outcome = quick(10, || sh(repo, &options, &script).run());
        fails(&outcome, repo, 1, &["timeout"], &["timeout.expired"]);
        assert_eq!(outcome.text("backend.stdout.log"), "bye\n");
        assert_eq!(outcome.report()["backend_exit_code"], 0);
    });
}

#[test]
fn the_idle_time_of_the_backend() {
    each(|repo| {
        let options = ["--no-test", "--idle-timeout", "300ms", "--grace", "200ms"];
        let outcome = quick(5, || sh(repo, &options, &format!("{MEND}; echo once; {DEAF}")).run());
        fails(&outcome, repo, 1, &["timeout"], &["timeout.expired"]);
        expired(&outcome, "backend", "idle", "--idle-timeout");
    });
}

#[test]
fn a_backend_that_speaks_is_not_idle() {
    each(|repo| {
        let options = ["--no-test", "--idle-timeout", "600ms"];
        let script = format!("{MEND}; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i >&2; sleep 0.1; done");
        passes(&sh(repo, &options, &script).run(), repo);
    });
}

#[test]
fn the_time_of_the_test_and_of_the_review() {
    each(|repo| {
        let options = ["--test", DEAF, "--test-timeout", "300ms", "--grace", "200ms"];
        let outcome = quick(5, || sh(repo, &options, MEND).run());
        fails(&outcome, repo, 1, &["timeout"], &["timeout.expired", "test:test.completed"]);
        expired(&outcome, "test", "wall", "--test-timeout");
        assert_eq!(outcome.report()["tests"]["status"], "timed_out");

        let options = ["--no-test", "--review", DEAF, "--review-timeout", "300ms", "--grace", "200ms"];
        let outcome = quick(5, || sh(repo, &options, MEND).run());
        fails(&outcome, repo, 1, &["timeout"], &["timeout.expired", "reviewer:review.completed"]);
        expired(&outcome, "review", "wall", "--review-timeout");
        assert_eq!(outcome.report()["review"]["status"], "timed_out");
    });
}

#[test]
fn time_for_an_answer_is_not_the_backends_idle_time() {
    each(|repo| {
        let log = repo.world().write("answers.jsonl", "").display().to_string();
        let options =
            ["--no-test", "--approvals", &log, "--approval-timeout", "900ms", "--idle-timeout", "500ms"];
        let outcome = fake(repo, &options, "asks-and-goes-on").run();
        fails(&outcome, repo, 1, &["timeout", "approval_denied"], &["timeout.expired"]);
        expired(&outcome, "approval", "wall", "--approval-timeout");
    });
}

#[test]
fn a_test_that_exits_0_when_it_is_stopped_has_not_passed() {
    each(|repo| {
        let polite = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
        let options = ["--test", polite, "--test-timeout", "300ms", "--grace", "60s"];
        let outcome = quick(5, || sh(repo, &options, MEND).run());
        fails(&outcome, repo, 1, &["timeout"], &["timeout.expired", "test:test.completed"]);
        let tests = outcome.report()["tests"].clone();
        assert_eq!((&tests["status"], &tests["exit_code"]), (&"timed_out".into(), &0.into()));

        let polite = "trap 'exit 0' TERM; echo at it; while :; do sleep 0.05; done";
        let proctor = sh(repo, &["--test", polite, "--grace", "60s"], MEND);
        let outcome = meanwhile_saying(proctor, "test.log", "at it\n", |pid| signal(pid, Signal::TERM));
        fails(&outcome, repo, 143, &["interrupted"], &["test:test.completed"]);
        assert_eq!(outcome.report()["tests"]["status"], "failed");
    });
}

fn exceeded(outcome: &Outcome, what: &str, option: &str) -> Value {
    let all = events(outcome, "limit.exceeded", "supervisor");
    assert!(all.iter().any(|e| e["data"]["what"] == what), "{what}: {all:?}");
    let report = outcome.report();
    let said = report["blockers"].as_array().unwrap().iter().find(|b| b["detail"]["what"] == what).cloned();
    let said = said.unwrap_or_else(|| panic!("{what}: {report}"));
    assert!(said["message"].as_str().unwrap().contains(option), "{said}");
    said
}

#[test]
fn a_log_that_is_full_ends_the_backend_and_is_cut_at_its_cap() {
    each(|repo| {
        for (script, log) in [("yes flood", "backend.stdout.log"), ("yes flood >&2", "backend.stderr.log")] {
            let options = ["--no-test", "--max-log", "64K", "--grace", "60s"];
            let outcome = quick(10, || {
                sh(repo, &options, &format!("{MEND}; trap '' TERM PIPE; {script}; sleep 60")).run()
            });
            fails(&outcome, repo, 1, &["output_limit"], &["limit.exceeded"]);
            exceeded(&outcome, log, "--max-log");
            assert_eq!(outcome.artifact(log).len(), 64 << 10);
        }
        let outcome = fake(repo, &["--no-test", "--max-log", "64K"], "flood").run();
        fails(&outcome, repo, 1, &["output_limit", "no_diff"], &["limit.exceeded"]);
    });
}

#[test]
fn a_test_or_a_reviewer_that_floods_is_cut_and_no_pass() {
    each(|repo| {
        let options = ["--test", "yes flood | head -c 200000", "--max-log", "64K"];
        let outcome = sh(repo, &options, MEND).run();
        fails(&outcome, repo, 1, &["output_limit"], &["limit.exceeded"]);
        exceeded(&outcome, "test.log", "--max-log");
        let options = ["--no-test", "--review", "yes flood", "--max-log", "64K"];
        let outcome = sh(repo, &options, MEND).run();
        fails(&outcome, repo, 1, &["output_limit"], &["limit.exceeded"]);
        exceeded(&outcome, "review.log", "--max-log");
    });
}

#[test]
fn too_many_files_are_no_result() {
    each(|repo| {
        let options = ["--no-test", "--max-files", "20"];
        let outcome = sh(repo, &options, "for i in $(seq 21); do echo $i > f$i; done").run();
        fails(&outcome, repo, 1, &["output_limit", "event_missing"], &["limit.exceeded"]);
        exceeded(&outcome, "files", "--max-files");
        assert_eq!(outcome.artifact("patch.diff"), b"");
        passes(&sh(repo, &options, "for i in $(seq 20); do echo $i > f$i; done").run(), repo);
        // An ignored directory counts once, however much a build puts there; many ignored places count each.
        let build = format!("{MEND}; mkdir target; for i in $(seq 300); do : > target/f$i; done");
        passes(&sh(repo, &options, &build).run(), repo);
        let many = format!("{MEND}; for i in $(seq 30); do mkdir -p x$i/target; : > x$i/target/a; done");
        fails(
            &sh(repo, &options, &many).run(),
            repo,
            1,
            &["output_limit", "event_missing"],
            &["limit.exceeded"],
        );
    });
}

#[test]
fn a_patch_that_is_too_large_is_no_result() {
    each(|repo| {
        let options = ["--no-test", "--max-patch", "64K"];
        let outcome = sh(repo, &options, "head -c 100000 /dev/urandom > blob; echo x > AGENTS.md").run();
        fails(&outcome, repo, 1, &["output_limit", "disallowed_file"], &["limit.exceeded", "policy.denied"]);
        exceeded(&outcome, "patch", "--max-patch");
        // The backend ended well: what it left is too much.
        let phases = [
            &events(&outcome, "limit.exceeded", "supervisor")[0]["data"]["phase"],
            &blocker(&outcome, "output_limit")["detail"]["phase"],
        ]
        .map(|phase| phase.as_str().map(str::to_owned));
        assert_eq!(phases, [Some("changes".to_owned()), Some("changes".to_owned())]);
        assert_eq!(outcome.artifact("patch.diff"), b"");
        assert_eq!(outcome.report()["result_tree"], Value::Null);
        // A file that takes no room, and more memory than a patch of that size may.
        let outcome = sh(repo, &options, "truncate -s 64M sparse").run();
        fails(&outcome, repo, 1, &["output_limit", "event_missing"], &["limit.exceeded"]);
        exceeded(&outcome, "bytes in the changed files together", "--max-patch");
        // Deeper than anybody makes directories.
        let outcome = sh(repo, &options, "perl -e 'for (1..1500) { mkdir \"d\"; chdir \"d\" or die }'").run();
        fails(&outcome, repo, 1, &["output_limit", "event_missing"], &["limit.exceeded"]);
        assert!(
            blocker(&outcome, "output_limit")["message"].as_str().unwrap().contains("directories within")
        );
    });
}

#[test]
fn more_events_than_the_log_takes_are_counted() {
    // One user will do: it is slow, and nothing in it depends on who runs.
    let world = World::new(users()[0]);
    let repo = TestRepo::small(&world);
    let outcome = fake(&repo, &["--no-test"], "event-flood").run();
    fails(&outcome, &repo, 1, &["output_limit", "event_missing"], &[]);
    let left = outcome.report()["events"]["left_out"].as_u64().unwrap();
    assert!((500..2000).contains(&left), "{left}");
}

#[test]
fn a_full_disk_is_the_backends_own_and_a_blocker() {
    each(|repo| {
        let options = ["--no-test", "--disk", "4M"];
        for place in ["big", "/tmp/big"] {
            let script =
                format!("{MEND}; head -c 20000000 /dev/zero > {place} 2>/tmp/e; rm -f nothing; true");
            let outcome = sh(repo, &options, &script).run();
            assert_eq!(outcome.code, Some(1), "{outcome:#?}");
            exceeded(&outcome, "disk", "--disk");
        }
        let outcome = sh(repo, &options, &format!("{MEND}; head -c 20000000 /dev/zero > /tmp/big")).run();
        fails(&outcome, repo, 1, &["resource_limit", "backend_failed"], &["limit.exceeded"]);
    });
}

#[test]
fn a_fork_bomb_is_held_and_does_not_outlive_its_run() {
    each(|repo| {
        let options = ["--no-test", "--pids-limit", "32", "--timeout", "2s", "--grace", "100ms"];
        let script = format!("{MEND}; for i in $(seq 100); do sleep 30 & done 2>/dev/null; true");
        let outcome = quick(8, || sh(repo, &options, &script).run());
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        let blockers = outcome.blockers();
        assert!(
            blockers.iter().all(|b| ["resource_limit", "backend_failed"].contains(&b.as_str())),
            "{outcome:#?}"
        );
        assert!(!blockers.is_empty());
    });
}

#[test]
fn the_first_of_several_limits_hides_none_of_the_others() {
    each(|repo| {
        // The time runs out while the disk is full and a file is where none may be.
        let options = ["--no-test", "--disk", "4M", "--timeout", "700ms", "--grace", "100ms"];
        let script = format!("{MEND}; echo x > AGENTS.md; head -c 20000000 /dev/zero > /tmp/big; {DEAF}");
        let outcome = sh(repo, &options, &script).run();
        fails(
            &outcome,
            repo,
            1,
            &["timeout", "resource_limit", "disallowed_file"],
            &["timeout.expired", "limit.exceeded", "policy.denied"],
        );
    });
}
