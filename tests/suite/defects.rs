//! Proctor's own faults: whatever goes wrong inside, the exit code is one of the documented ones, and a fault is told as
//! such.

use ::proctor::exit::ExitCode;
use harness::{Outcome, Proctor, TestRepo};

use crate::binary;
use crate::support::{each, meanwhile_with, sh, snapshot, untouched, verifies};
use crate::survivors::{all_dead, marker_of};

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

#[test]
fn a_panic_in_a_thread_that_nobody_waits_for_is_no_pass() {
    each(|repo| {
        let before = snapshot(repo);
        let go = repo.world().path("go");
        std::fs::create_dir(&go).unwrap();
        let go = go.display().to_string();
        let script = format!(
            "echo mended > src/value.txt; echo ready; for i in $(seq 600); do [ -e {go}/on ] && exit 0; sleep 0.1; done"
        );
        let outcome = meanwhile_with(sh(repo, &["--test", "sh check.sh", "--ro", &go], &script), |pid| {
            // The runtime panics where the kernel no longer tells it of events: here that of the thread for signals alone.
            let thread = named(pid, "signals").expect("the thread that hears signals");
            std::process::Command::new("strace")
                .args([
                    "-qq",
                    "-o",
                    "/dev/null",
                    "-e",
                    "trace=epoll_wait",
                    "-e",
                    "inject=epoll_wait:error=EBADF",
                ])
                .args(["-p", &thread])
                .status()
                .unwrap();
            // Its end is the thread's.
            assert_eq!(named(pid, "signals"), None);
            std::fs::write(format!("{go}/on"), "").unwrap();
        });
        assert_eq!(outcome.code, Some(5), "{outcome:#?}");
        assert!(outcome.stderr.contains("this is a fault of Proctor itself"), "{outcome:#?}");
        assert!(!outcome.stderr.contains("PASS"), "{outcome:#?}");
        let report = outcome.report();
        assert_eq!((&report["status"], &report["exit_code"]), (&"fail".into(), &5.into()), "{report:#}");
        verifies(&outcome, repo);
        untouched(&before, repo);
    });
}

/// The thread of a process that has this name.
fn named(pid: u32, name: &str) -> Option<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let mut threads = tasks.filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    Some(threads.next()?.file_name().to_string_lossy().into_owned())
}

#[test]
fn a_panic_of_the_runs_own_thread_kills_the_backend_before_its_directories_go() {
    each(|repo| {
        let marker = marker_of(repo, "PANIC");
        let log = repo.world().path("calls");
        let to = log.display().to_string();
        let wrapper = [
            "strace",
            "-qq",
            "-o",
            &to,
            "-e",
            "trace=epoll_wait,pidfd_send_signal,poll,unlinkat",
            "-e",
            "inject=epoll_wait:error=EBADF:when=4+",
        ];
        let outcome = Proctor::through(&wrapper, binary(), repo.world())
            .args(["run", "--no-test", "--layer", "disk", "--env", &format!("MARKER={marker}"), "--repo"])
            .arg(repo.path())
            .args(["--", "sh", "-c", "echo mended > src/value.txt; while :; do sleep 0.05; done"])
            .run();
        assert_eq!(outcome.code, Some(5), "{outcome:#?}");
        assert!(outcome.stderr.contains("this is a fault of Proctor itself"), "{outcome:#?}");
        all_dead(&marker);
        let calls = std::fs::read_to_string(&log).unwrap();
        let failed = calls.find("(INJECTED)").expect("a fault");
        let behind = &calls[failed..];
        let place =
            |call: &str| behind.find(&format!("\n{call}(")).unwrap_or_else(|| panic!("{call}: {behind}"));
        let (killed, waited, removed) = (place("pidfd_send_signal"), place("poll"), place("unlinkat"));
        assert!(killed < waited && waited < removed, "{behind}");
        let layers = repo.world().path("state/proctor/layers");
        assert_eq!(std::fs::read_dir(layers).unwrap().count(), 0);
    });
}
