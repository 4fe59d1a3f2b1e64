//! Every exit code at least once with its documented meaning, and which of several is the one.

use rustix::process::Signal;

use crate::proctor;
use crate::support::{each, fails, meanwhile_with, passes, sh, signal, verify};

const MEND: &str = "echo mended > src/value.txt";

#[test]
fn zero_is_a_pass() {
    each(|repo| passes(&sh(repo, &["--test", "sh check.sh"], MEND).run(), repo));
}

#[test]
fn zero_is_also_help_and_version() {
    each(|repo| {
        for args in [&["--help"][..], &["--version"], &["run", "--help"], &["verify", "--help"]] {
            let outcome = proctor(repo.world()).args(args).run();
            assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:#?}");
            assert!(!outcome.stdout.is_empty() && outcome.stderr.is_empty(), "{outcome:#?}");
        }
        for command in ["run", "verify"] {
            let outcome = proctor(repo.world()).args([command, "--help"]).run();
            assert!(outcome.stdout.contains("Example"), "{outcome:#?}");
        }
    });
}

#[test]
fn one_is_judged_and_no_pass() {
    each(|repo| {
        fails(
            &sh(repo, &["--test", "false"], MEND).run(),
            repo,
            1,
            &["tests_failed"],
            &["test:test.completed"],
        )
    });
}

#[test]
fn two_is_an_error_of_usage() {
    each(|repo| {
        for args in [&["run", "--no-such-option"][..], &["nonsense"], &[], &["verify"]] {
            let outcome = proctor(repo.world()).args(args).run();
            assert_eq!(outcome.code, Some(2), "{args:?}: {outcome:#?}");
            assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{outcome:#?}");
        }
    });
}

#[test]
fn three_is_a_refusal_and_four_is_evidence_that_does_not_hold() {
    each(|repo| {
        let outcome = crate::refused::refused(repo);
        fails(&outcome, repo, 3, &["sandbox_unavailable"], &[]);

        let missing = proctor(repo.world()).arg("verify").arg(repo.world().path("nowhere")).run();
        assert_eq!(missing.code, Some(4), "{missing:#?}");
        std::fs::write(outcome.evidence().join("test.log"), "tests passed\n").unwrap();
        let verified = verify(&outcome, repo);
        assert_eq!(verified.code, Some(4), "{verified:#?}");
        assert!(verified.stderr.contains("test.log"), "{verified:#?}");
    });
}

#[test]
fn one_hundred_and_thirty_and_forty_three_are_interrupts() {
    each(|repo| {
        for (which, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            let proctor = sh(repo, &["--no-test"], &format!("{MEND}; echo ready; sleep 60"));
            let outcome = meanwhile_with(proctor, |pid| signal(pid, which));
            fails(&outcome, repo, code, &["interrupted"], &["backend.exited"]);
        }
    });
}

#[test]
fn an_interrupt_goes_before_every_other_blocker_but_broken_evidence() {
    each(|repo| {
        // Disallowed change and interrupt: 143, and both are listed.
        let proctor = sh(repo, &["--no-test"], "echo x > AGENTS.md; echo ready; sleep 60");
        let outcome = meanwhile_with(proctor, |pid| signal(pid, Signal::TERM));
        fails(&outcome, repo, 143, &["interrupted", "disallowed_file"], &["policy.denied"]);
    });
}

#[test]
fn json_says_the_same_code_on_standard_output() {
    each(|repo| {
        for (test, code) in [("true", 0), ("false", 1)] {
            let outcome = sh(repo, &["--json", "--test", test], MEND).run();
            assert_eq!(outcome.code, Some(code), "{outcome:#?}");
            let said: serde_json::Value =
                serde_json::from_str(&outcome.stdout).expect("JSON alone on standard output");
            assert_eq!(said["exit_code"], code);
            assert_eq!(said["status"], if code == 0 { "pass" } else { "fail" });
            let dir = said["evidence"].as_str().unwrap();
            let verified = proctor(repo.world()).args(["verify", "--json", dir]).run();
            let said: serde_json::Value = serde_json::from_str(&verified.stdout).expect("JSON");
            assert_eq!((verified.code, &said["valid"]), (Some(0), &true.into()));
        }
    });
}
