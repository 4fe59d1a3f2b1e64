//! Proctor's own faults: whatever goes wrong inside, the exit code is one of the documented ones, and a fault is told as
//! such.

use ::proctor::exit::ExitCode;
use harness::{Outcome, Proctor, TestRepo};

use crate::binary;
use crate::support::{each, snapshot, untouched};

/// A run of a process that may have only so many descriptors.
fn with_descriptors(repo: &TestRepo<'_>, most: usize, args: &[&str]) -> Outcome {
    let limit = format!("--nofile={most}");
    let mut call = Proctor::through(&["prlimit", &limit, "--"], binary(), repo.world());
    call.command().current_dir(repo.path());
    call.args(args).run()
}

#[test]
fn without_descriptors_every_end_is_a_documented_one() {
    // From where the program can be loaded to where a run goes well.
    let most: Vec<usize> = (4..40).chain([48, 64, 96]).collect();
    each(|repo| {
        let before = snapshot(repo);
        let mut codes = Vec::new();
        for most in &most {
            let run = ["run", "--test", "sh check.sh", "--", "sh", "-c", "echo mended > src/value.txt"];
            let outcome = with_descriptors(repo, *most, &run);
            let code = outcome.code.and_then(|code| u8::try_from(code).ok()).and_then(ExitCode::from_code);
            let Some(code) = code else { panic!("{most} descriptors: {outcome:#?}") };
            assert!(!outcome.stderr.contains("panicked at"), "{most} descriptors: {outcome:#?}");
            // Nothing that failed is silent, and nothing but a pass says that it is one.
            assert_eq!(
                outcome.stderr.contains("PASS "),
                code == ExitCode::Pass,
                "{most} descriptors: {outcome:#?}"
            );
            assert!(!outcome.stderr.is_empty(), "{most} descriptors: {outcome:#?}");
            if code == ExitCode::Defect {
                let told = outcome.stderr.contains("proctor: defect: ")
                    || outcome.stderr.contains("proctor: error: ");
                assert!(told, "{most} descriptors: {outcome:#?}");
            }
            codes.push(code);
        }
        assert_eq!(codes.last(), Some(&ExitCode::Pass), "{codes:?}");
        assert!(codes.contains(&ExitCode::Defect), "{codes:?}");
        untouched(&before, repo);
    });
}

#[test]
fn a_fault_inside_is_exit_code_five_and_says_that_it_is_proctors() {
    each(|repo| {
        // The runtime's pipe for signals is made by a library that panics where it cannot be had; how many descriptors
        // are in use by then differs from host to host.
        let told = (4..40).any(|most| {
            let outcome = with_descriptors(repo, most, &["matrix", "missing-test-command"]);
            let five = outcome.code == Some(5);
            assert_ne!(outcome.code, Some(101), "{most} descriptors: {outcome:#?}");
            five && outcome.stderr.contains("proctor: defect: ")
                && outcome.stderr.contains("this is a fault of Proctor itself")
                && outcome.stderr.contains("please report it")
        });
        assert!(told, "no number of descriptors shows it");
    });
}

#[test]
fn the_other_commands_end_as_documented_too() {
    each(|repo| {
        for args in [
            &["doctor"][..],
            &["explain", "--no-test", "--", "true"],
            &["verify", "nowhere"],
            &["matrix", "--list"],
        ] {
            for most in 4..24 {
                let outcome = with_descriptors(repo, most, args);
                let code =
                    outcome.code.and_then(|code| u8::try_from(code).ok()).and_then(ExitCode::from_code);
                assert!(code.is_some(), "{args:?} with {most} descriptors: {outcome:#?}");
            }
        }
    });
}
