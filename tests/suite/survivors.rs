//! Nothing of a run is alive after it, whatever the backend did, and whatever became of Proctor. A process of a run
//! is known by a marker in its environment or arguments, which it cannot lose but by exec.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::{Proctor, TestRepo, User, World, users};
use rustix::process::Signal;

use crate::support::{each, fails, meanwhile, passes, run, sh, signal};

/// A marker of one test's own.
pub(crate) fn marker_of(repo: &TestRepo<'_>, kind: &str) -> String {
    let tag = repo.world().path("").file_name().expect("a name").to_string_lossy().replace('-', "_");
    format!("MARK_{kind}_{tag}")
}

/// Processes that have `marker` in their arguments or environment, Proctor and this suite left out.
pub(crate) fn alive(marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let name = entry.file_name();
        let Ok(pid) = name.to_string_lossy().parse::<u32>() else { continue };
        if pid == std::process::id() {
            continue;
        }
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let contains = |text: &[u8]| text.windows(marker.len()).any(|w| w == marker.as_bytes());
        let (arguments, environment) = (read("cmdline"), read("environ"));
        // A dead process that its parent has not waited for has neither.
        if contains(&arguments) || contains(&environment) {
            found.push(format!("{pid} {}", String::from_utf8_lossy(&arguments).replace('\0', " ")));
        }
    }
    found
}

/// Asserts that nothing with the marker is alive within a second.
pub(crate) fn all_dead(marker: &str) {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let left = alive(marker);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "alive: {left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A run whose processes carry a marker of their own: in the environment, which their children inherit.
fn marked(repo: &TestRepo<'_>, options: &[&str], script: &str) -> (Proctor, String) {
    let tag = repo.world().path("").file_name().expect("a name").to_string_lossy().replace('-', "_");
    let marker = format!("MARK_{tag}_{}", script.len());
    let variable = format!("MARKER={marker}");
    let all = [&["--env", &variable], options].concat();
    (sh(repo, &all, script), marker)
}

/// Leaves a daemon behind: forked twice, in a session of its own, deaf to everything that can be ignored, holding
/// the run's output open.
const DAEMON: &str = "perl -e 'use POSIX; fork and exit; setsid(); fork and exit; $SIG{$_} = \"IGNORE\" for qw(TERM INT HUP QUIT USR1 USR2 PIPE ALRM CHLD); chdir \"/\"; sleep 600' &";

#[test]
fn the_marker_is_found_while_it_lives() {
    each(|repo| {
        let (proctor, marker) =
            marked(repo, &["--no-test", "--mutation", "discard"], "echo ready; sleep 0.5");
        // Proctor's own command line carries the marker as an option: only what else does is meant.
        let outcome = meanwhile(proctor, || assert!(alive(&marker).len() >= 2, "{:?}", alive(&marker)));
        passes(&outcome, repo);
        all_dead(&marker);
    });
}

#[test]
fn daemons_die_with_the_run_and_do_not_hold_it_up() {
    each(|repo| {
        let script = format!("echo mended > src/value.txt; {DAEMON} {DAEMON} wait; echo done");
        let (proctor, marker) = marked(repo, &["--test", "sh check.sh"], &script);
        let began = Instant::now();
        let outcome = proctor.run();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        passes(&outcome, repo);
        assert_eq!(outcome.text("backend.stdout.log"), "done\n");
        all_dead(&marker);
    });
}

#[test]
fn a_daemon_that_goes_on_writing_neither_holds_the_run_up_nor_writes_after_it() {
    each(|repo| {
        let script = "(trap '' TERM HUP; while :; do echo noise; echo x >> written; done) & echo mended > src/value.txt; sleep 0.1";
        let (proctor, marker) = marked(repo, &["--no-test", "--max-log", "1G"], script);
        let began = Instant::now();
        let outcome = proctor.run();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        passes(&outcome, repo);
        all_dead(&marker);
    });
}

#[test]
fn daemons_of_test_and_reviewer_die_too() {
    each(|repo| {
        let marker = format!("MARK_CHECK_{}", repo.world().path("").file_name().unwrap().to_string_lossy());
        let variable = format!("MARKER={marker}");
        let check = format!("{DAEMON} true");
        let options = [
            "--test",
            &check,
            "--test-env",
            &variable,
            "--review",
            &check,
            "--review-env",
            &variable,
            "--review-by",
            "exit",
        ];
        let began = Instant::now();
        passes(&sh(repo, &options, "echo mended > src/value.txt").run(), repo);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        all_dead(&marker);
    });
}

#[test]
fn a_backend_that_stops_or_kills_everything_it_can_reach_ends_only_itself() {
    each(|repo| {
        for deed in
            ["kill -STOP -1", "kill -KILL -1", "kill -TERM 1; kill -KILL 1; kill -STOP 1", "kill -STOP $$"]
        {
            let options = ["--no-test", "--timeout", "600ms", "--grace", "100ms"];
            let (proctor, marker) =
                marked(repo, &options, &format!("echo mended > src/value.txt; {DAEMON} {deed}; exit 0"));
            let began = Instant::now();
            let outcome = proctor.run();
            assert!(began.elapsed() < Duration::from_secs(5), "{deed}: {:?}", began.elapsed());
            assert!(matches!(outcome.code, Some(0 | 1)), "{deed}: {outcome:#?}");
            all_dead(&marker);
        }
    });
}

#[test]
fn hundreds_of_children_die_at_once() {
    each(|repo| {
        let script = "echo mended > src/value.txt; perl -e 'for (1..300) { if (!fork) { sleep 600 } } print \"up\\n\"'";
        let (proctor, marker) = marked(repo, &["--no-test"], script);
        passes(&proctor.run(), repo);
        all_dead(&marker);
    });
}

#[test]
fn after_an_interrupt_and_after_a_timeout_nothing_is_left() {
    each(|repo| {
        let script = format!("{DAEMON} trap '' TERM; echo ready; while :; do sleep 0.05; done");
        let options = ["--no-test", "--mutation", "discard", "--timeout", "500ms", "--grace", "100ms"];
        let (proctor, marker) = marked(repo, &options, &script);
        fails(&proctor.run(), repo, 1, &["timeout"], &["timeout.expired"]);
        all_dead(&marker);
        let options = ["--no-test", "--mutation", "discard", "--grace", "100ms"];
        let (proctor, marker) = marked(repo, &options, &script);
        let outcome = crate::support::meanwhile_with(proctor, |pid| signal(pid, Signal::TERM));
        fails(&outcome, repo, 143, &["interrupted"], &[]);
        all_dead(&marker);
    });
}

/// cgroups that runs leave.
pub(crate) fn cgroups() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut stack = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with("proctor-") {
                    found.insert(entry.path().display().to_string());
                }
                stack.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn a_run_leaves_no_mount_and_no_cgroup() {
    each(|repo| {
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();
        let outcome = sh(repo, &["--test", "sh check.sh"], "echo mended > src/value.txt").run();
        passes(&outcome, repo);
        let run_id = outcome.report()["run_id"].as_str().unwrap().to_owned();
        assert!(cgroups().iter().all(|path| !path.contains(&run_id)), "{:?}", cgroups());
        assert_eq!(before, mounts());
        // Nor a temporary file beside the evidence.
        let left: Vec<_> = std::fs::read_dir(repo.world().path("state/proctor"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["runs"]);
    });
}

/// Kills Proctor by SIGKILL: `early` times at instants spread over its start, and `late` times at instants after a
/// process of the run was seen alive.
fn killed(user: User, (early, late): (u64, u64), options: &[&str], script: &str) {
    let world = World::new(user);
    let repo = TestRepo::small(&world);
    for number in 0..early + late {
        let marker = format!("MARK_KILL_{}_{number}", world.path("").file_name().unwrap().to_string_lossy());
        // In the environment of what is meant; Proctor itself carries it as an option.
        let variable = format!("MARKER={marker}");
        let which = if options.contains(&"--test") { "--test-env" } else { "--env" };
        let mut proctor =
            run(&repo, &[&[which, &variable], options].concat()).args(["--", "sh", "-c", script]);
        proctor.command().stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = proctor.spawn();
        if number >= early {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !alive(&marker)
                .iter()
                .any(|line| !line.contains("--no-test") && !line.contains("--test-env"))
            {
                assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "never seen alive");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // Instants that look random and are the same each time.
        std::thread::sleep(Duration::from_micros(number * 7_919 % 40_000));
        child.kill().expect("SIGKILL");
        child.wait().expect("waiting");
        all_dead(&marker);
    }
    remove_cgroups_of_killed_runs(&world);
}

/// A killed Proctor cannot remove its cgroups. They must be empty, or this fails.
fn remove_cgroups_of_killed_runs(world: &World) {
    let runs: Vec<String> = std::fs::read_dir(world.path("state/proctor/runs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    for path in cgroups().iter().filter(|path| runs.iter().any(|run| path.contains(run.as_str()))) {
        let deadline = Instant::now() + Duration::from_secs(2);
        while let Err(error) = std::fs::remove_dir(path) {
            // `proctor gc` of another test may have been there first.
            if error.kind() == std::io::ErrorKind::NotFound {
                break;
            }
            assert!(Instant::now() < deadline, "{path}: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

const STUBBORN: &str =
    "perl -e 'use POSIX; fork; setsid(); fork; $SIG{$_} = \"IGNORE\" for qw(TERM INT HUP); sleep 600'";

#[test]
fn after_a_kill_of_proctor_at_any_instant_nothing_is_left() {
    for user in users() {
        killed(user, (12, 12), &["--no-test"], STUBBORN);
    }
}

#[test]
fn after_a_kill_of_proctor_during_the_tests_nothing_is_left() {
    for user in users() {
        let test = format!("sh check.sh && {STUBBORN}");
        killed(user, (0, 6), &["--test", &test], "echo mended > src/value.txt");
    }
}

#[test]
fn a_killed_run_does_not_hinder_the_next_one_nor_pass_for_evidence() {
    each(|repo| {
        let mut proctor = sh(repo, &["--no-test"], "echo ready; sleep 600");
        proctor.command().stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = proctor.spawn();
        let runs = repo.world().path("state/proctor/runs");
        let deadline = Instant::now() + Duration::from_secs(10);
        let place = loop {
            assert!(Instant::now() < deadline);
            let place = std::fs::read_dir(&runs).into_iter().flatten().flatten().map(|e| e.path()).next();
            let said =
                |dir: &std::path::Path| std::fs::read(dir.join("backend.stdout.log")).unwrap_or_default();
            if let Some(place) = place.filter(|dir| !said(dir).is_empty()) {
                break place;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        child.kill().unwrap();
        child.wait().unwrap();
        let verified = crate::proctor(repo.world()).arg("verify").arg(&place).run();
        assert_eq!(verified.code, Some(4), "{verified:#?}");
        remove_cgroups_of_killed_runs(repo.world());
        passes(&sh(repo, &["--test", "sh check.sh"], "echo mended > src/value.txt").run(), repo);
    });
}
