//! SIGINT and SIGTERM in every phase: what runs ends, the evidence is finished as `interrupted`, verifies, and the exit
//! code is 130 or 143. The instants are hit exactly, by strace(1) at the supervisor's own calls, or by what a phase leaves.
//! (During backend, test and review: `blockers`, `exit_codes`.)

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::{Outcome, Proctor, TestRepo, users};
use rustix::process::Signal;

use crate::binary;
use crate::proofs::without_namespaces;
use crate::support::{each, fails, meanwhile_with, passes, sh, signal, snapshot, untouched, verifies};
use crate::survivors::{all_dead, marker_of};

const BACKEND: &str = "echo mended > src/value.txt; sleep 0.05; echo done";

/// A run to whose own thread a signal is sent before the `when`th `call` about `path`; what it says goes to a file.
fn signalled(
    repo: &TestRepo<'_>,
    name: &str,
    (call, path, when): (&str, &str, usize),
    marker: &str,
) -> Outcome {
    let world = repo.world();
    let log = world.path("signalled").display().to_string();
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal={name}:when={when}"));
    let wrapper = ["strace", "-qq", "-o", &log, "-e", &trace, "-e", &inject, "-P", path];
    let variable = format!("MARKER={marker}");
    let mut proctor = Proctor::through(&wrapper, binary(), world)
        .args(["run", "--repo"])
        .arg(repo.path())
        .args([
            "--test",
            "sh check.sh",
            "--review",
            "echo accept $PROCTOR_PATCH_SHA256 >&3",
            "--env",
            &variable,
        ])
        .args(["--evidence"])
        .arg(world.path("evidence"))
        .args(["--", "sh", "-c", BACKEND]);
    proctor.command().stderr(std::fs::File::create(world.path("said")).unwrap());
    let mut outcome = proctor.run();
    outcome.stderr = std::fs::read_to_string(world.path("said")).unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains(&format!("--- {name}")), "no signal was sent: {log}: {outcome:#?}");
    all_dead(marker);
    outcome
}

#[test]
fn in_every_phase_the_evidence_is_finished_as_interrupted() {
    each(|repo| {
        let before = snapshot(repo);
        let evidence = repo.world().path("evidence");
        // Where a phase begins, it is said: a line, and its end.
        let said = repo.world().path("said").display().to_string();
        for (number, (phase, call, path, when)) in [
            ("setup", "openat", "decision.json", 1),
            ("survey", "write", said.as_str(), 1),
            ("backend", "write", said.as_str(), 3),
            ("backend is made", "openat", "backend.stdout.log", 1),
            ("changes", "write", said.as_str(), 5),
            ("test", "write", said.as_str(), 7),
            ("test is made", "openat", "test.log", 1),
            ("review", "write", said.as_str(), 9),
            ("end", "write", said.as_str(), 11),
            ("evidence", "write", said.as_str(), 13),
            ("writing", "openat", "trace.jsonl", 1),
        ]
        .into_iter()
        .enumerate()
        {
            let (name, code) = [("SIGINT", 130), ("SIGTERM", 143)][number % 2];
            let outcome = signalled(repo, name, (call, path, when), &marker_of(repo, "SIGNAL"));
            assert_eq!(outcome.code, Some(code), "{phase} {name}: {outcome:#?}");
            assert_eq!(outcome.report()["status"], "fail");
            let blockers = outcome.blockers();
            // What could not be established for it is said beside it.
            assert_eq!(blockers[0], "interrupted", "{phase} {name}: {outcome:#?}");
            // A backend that was ended before it did anything has changed nothing, which is said too.
            let nothing_yet = phase.starts_with("backend") && blockers[1..] == ["no_diff"];
            let alone = blockers.len() == 1 || phase == "changes" || nothing_yet;
            assert!(alone, "{phase} {name}: {outcome:#?}");
            verifies(&outcome, repo);
            std::fs::remove_dir_all(&evidence).unwrap();
        }
        untouched(&before, repo);
    });
}

#[test]
fn before_there_is_anything_a_signal_ends_proctor_and_after_the_verdict_it_is_too_late() {
    each(|repo| {
        let evidence = repo.world().path("evidence");
        // Read while it is planned, and not later.
        let early = signalled(repo, "SIGTERM", ("openat", "/proc/net/unix", 1), "MARK_EARLY");
        assert_eq!(early.code, None, "killed by the signal: {early:#?}");
        assert!(!evidence.exists() && early.stdout.is_empty());
        let late = signalled(repo, "SIGTERM", ("openat", "report.md.partial", 1), "MARK_LATE");
        passes(&late, repo);
    });
}

#[test]
fn while_an_approval_is_waited_for() {
    each(|repo| {
        for (which, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            let answers = repo.world().write("answers", "");
            let mut proctor =
                crate::support::run(repo, &["--no-test", "--ask-change", "src/**", "--approvals"])
                    .arg(&answers)
                    .args(["--", "sh", "-c", BACKEND]);
            // Progress says when it waits.
            proctor.command().stderr(Stdio::piped());
            let mut child = proctor.spawn();
            let mut stderr = child.stderr.take().unwrap();
            let mut said = String::new();
            while !said.contains("approval.requested") {
                let mut byte = [0];
                assert_eq!(std::io::Read::read(&mut stderr, &mut byte).unwrap(), 1, "{said}");
                said.push(byte[0].into());
            }
            signal(child.id(), which);
            let reader = std::thread::spawn(move || std::io::read_to_string(stderr));
            let mut outcome = Outcome::of(child.wait_with_output().unwrap());
            outcome.stderr = said + &reader.join().unwrap().unwrap();
            assert_eq!(outcome.code, Some(code), "{outcome:#?}");
            assert_eq!(outcome.blockers(), ["interrupted", "approval_denied"], "{outcome:#?}");
            verifies(&outcome, repo);
        }
    });
}

/// Waits until something is so; it must be soon.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the process to end; it must soon.
fn soon(mut child: std::process::Child) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "still there");
        std::thread::sleep(Duration::from_millis(5));
    }
    Outcome::of(child.wait_with_output().unwrap())
}

fn only_run(repo: &TestRepo<'_>) -> Option<PathBuf> {
    let mut runs = std::fs::read_dir(repo.world().path("state/proctor/runs")).ok()?;
    Some(runs.next()?.ok()?.path())
}

#[test]
fn a_second_signal_kills_what_runs_and_a_third_ends_proctor() {
    each(|repo| {
        let stubborn = "trap 'echo asked' TERM INT; echo ready; while :; do sleep 0.05; done";
        let marker = marker_of(repo, "THIRD");
        let variable = format!("MARKER={marker}");
        let options = ["--no-test", "--mutation", "discard", "--grace", "60s", "--env", &variable];
        // The second one while another reason has begun the grace time; the first one has been heard when that is said.
        let timed = [&options[..], &["--timeout", "300ms"]].concat();
        let log = repo.world().path("said");
        let mut proctor = sh(repo, &timed, stubborn);
        proctor.command().stderr(std::fs::File::create(&log).unwrap());
        let outcome = meanwhile_with(proctor, |pid| {
            let asked = |run: PathBuf| {
                std::fs::read_to_string(run.join("backend.stdout.log"))
                    .is_ok_and(|text| text.contains("asked"))
            };
            until("the time is over", || only_run(repo).is_some_and(asked));
            signal(pid, Signal::TERM);
            until("the first signal", || std::fs::read_to_string(&log).unwrap().contains("SIGTERM: "));
            signal(pid, Signal::TERM);
        });
        fails(&outcome, repo, 143, &["interrupted", "timeout"], &["timeout.expired"]);
        all_dead(&marker);
        std::fs::remove_dir_all(repo.world().path("state/proctor/runs")).unwrap();

        // Stopped, it hears of all three at once when it goes on.
        let mut proctor = sh(repo, &options, stubborn);
        proctor.command().stderr(Stdio::null()).stdout(Stdio::null());
        let child = proctor.spawn();
        let deadline = Instant::now() + Duration::from_secs(20);
        let said =
            |dir: PathBuf| std::fs::read(dir.join("backend.stdout.log")).is_ok_and(|text| !text.is_empty());
        while !only_run(repo).is_some_and(said) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        }
        for which in [Signal::INT, Signal::TERM, Signal::HUP] {
            signal(child.id(), which);
        }
        let outcome = soon(child);
        assert!(matches!(outcome.code, Some(130 | 143)), "{outcome:#?}");
        all_dead(&marker);
        let run = only_run(repo).unwrap();
        assert!(!run.join("report.json").exists());
        let verified = crate::proctor(repo.world()).arg("verify").arg(run).run();
        assert_eq!(verified.code, Some(4), "{verified:#?}");
        crate::gc::nothing_left_of(repo);
    });
}

/// A pipe that takes nothing more: whoever writes to it waits as long as the reading end, the first, is there.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
    std::io::Write::write_all(&mut writer, &vec![b'x'; size]).unwrap();
    (reader, writer)
}

/// Sends a signal again and again until the process ends, which it must.
fn ended_by(mut child: std::process::Child, which: Signal) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{which:?} does not end it");
        }
        signal(child.id(), which);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn once_the_report_stands_the_first_signal_ends_it_with_the_verdicts_code_whatever_it_waits_for() {
    each(|repo| {
        let log = repo.world().path("said");
        for which in [Signal::INT, Signal::TERM, Signal::HUP] {
            for (script, code) in [("echo mended > src/value.txt", 0), ("true", 1)] {
                let (reader, writer) = full_pipe();
                let mut proctor = sh(repo, &["--json", "--test", "sh check.sh"], script);
                proctor.command().stdout(writer).stderr(std::fs::File::create(&log).unwrap());
                let mut child = proctor.spawn();
                let summary = ["PASS ", "FAIL "][usize::from(code == 1)];
                until(summary, || std::fs::read_to_string(&log).unwrap().contains(summary));
                assert_eq!(child.try_wait().unwrap(), None, "it waits for its reader");
                signal(child.id(), which);
                assert_eq!(soon(child).code, Some(code), "{which:?}");
                let run = only_run(repo).unwrap();
                let verified = crate::proctor(repo.world()).arg("verify").arg(&run).run();
                assert_eq!(verified.code, Some(0), "{verified:#?}");
                std::fs::remove_dir_all(run).unwrap();
                drop(reader);
            }
        }
    });
}

#[test]
fn three_signals_while_the_report_is_put_in_place_leave_report_and_exit_code_one() {
    each(|repo| {
        let log = repo.world().path("delayed").display().to_string();
        for (script, code) in [("echo mended > src/value.txt", 0), ("true", 1)] {
            // The report has its name, and Proctor does not know yet.
            let delay = "inject=renameat2:delay_exit=2000000:when=1";
            let wrapper = ["strace", "-D", "-qq", "-o", &log, "-e", "trace=renameat2", "-e", delay];
            let child = Proctor::through(&wrapper, binary(), repo.world())
                .args(["run", "--test", "sh check.sh", "--repo"])
                .arg(repo.path())
                .args(["--", "sh", "-c", script])
                .spawn();
            until("the report", || only_run(repo).is_some_and(|run| run.join("report.json").exists()));
            for _ in 0..3 {
                signal(child.id(), Signal::TERM);
                // Two that come at once are one.
                std::thread::sleep(Duration::from_millis(100));
            }
            let outcome = soon(child);
            assert_eq!(outcome.code, Some(code), "{outcome:#?}");
            let run = only_run(repo).unwrap();
            let verified = crate::proctor(repo.world()).arg("verify").arg(&run).run();
            assert_eq!(verified.code, Some(0), "{verified:#?}");
            std::fs::remove_dir_all(run).unwrap();
        }
    });
}

#[test]
fn signals_also_end_what_has_nothing_to_run_any_more_and_cannot_say_so() {
    each(|repo| {
        let taken = repo.world().write("taken/file", "x");
        let taken = taken.parent().unwrap().display().to_string();
        for which in [Signal::INT, Signal::TERM, Signal::HUP] {
            let code = if which == Signal::INT { 130 } else { 143 };
            for matrix in [false, true] {
                let (reader, writer) = full_pipe();
                let mut proctor = if matrix {
                    crate::proctor(repo.world()).args(["matrix", "no-diff"])
                } else {
                    sh(repo, &["--no-test", "--evidence", &taken], "true")
                };
                proctor.command().stderr(writer).stdout(Stdio::null());
                let child = proctor.spawn();
                // Handlers are there.
                let status = format!("/proc/{}/status", child.id());
                until("handlers", || {
                    let caught = std::fs::read_to_string(&status).unwrap();
                    let mask = caught.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
                    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
                    [1, 2, 15].iter().all(|number| mask & (1 << (number - 1)) != 0)
                });
                assert_eq!(ended_by(child, which), Some(code), "{which:?}, matrix: {matrix}");
                drop(reader);
            }
        }
    });
}

#[test]
fn a_hangup_that_was_ignored_stays_ignored() {
    each(|repo| {
        let proctor = Proctor::through(&["nohup"], binary(), repo.world());
        let proctor = proctor.args(["run", "--no-test", "--repo"]).arg(repo.path()).args([
            "--",
            "sh",
            "-c",
            "echo mended > src/value.txt; echo ready; sleep 0.3",
        ]);
        passes(&meanwhile_with(proctor, |pid| signal(pid, Signal::HUP)), repo);
    });
}

#[test]
fn the_copy_of_level_landlock_ends_with_a_signal() {
    for user in users() {
        let world = harness::World::new(user);
        let repo = TestRepo::small(&world);
        // Enough that the copy is seen under way.
        std::fs::File::create(repo.path().join("large")).unwrap().set_len(4 << 30).unwrap();
        world.user.own(&repo.path().join("large"));
        repo.write(".gitignore", "target/\nlarge\n");
        repo.commit("many");
        let mut proctor = without_namespaces(&world, &[])
            .args(["run", "--min-level", "landlock", "--no-test", "--repo"])
            .arg(repo.path())
            .args(["--", "sh", "-c", "echo mended > src/value.txt"]);
        proctor.command().stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = proctor.spawn();
        let runs = world.path("state/proctor/runs");
        let deadline = Instant::now() + Duration::from_secs(20);
        let place = loop {
            assert!(Instant::now() < deadline);
            let run = std::fs::read_dir(&runs).into_iter().flatten().flatten().map(|e| e.path()).next();
            if let Some(run) = run.filter(|run| run.join("backend.stdout.log").exists()) {
                break run;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        signal(child.id(), Signal::TERM);
        let outcome = soon(child);
        fails(&outcome, &repo, 143, &["interrupted"], &[]);
        let started = outcome.events().iter().any(|event| event["type"] == "backend.started");
        assert!(!started, "the copy was over before the signal came: {outcome:#?}");
        let run_id = place.file_name().unwrap().to_string_lossy().into_owned();
        let areas = if world.user == harness::User::Root {
            "/var/lib/proctor/areas".into()
        } else {
            world.path("state/proctor/areas")
        };
        assert!(!areas.join(run_id).exists(), "a part of the copy is left");
    }
}
