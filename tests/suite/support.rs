//! What several modules of the suite need: runs in one line, and what must hold of every run that is no pass.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::{Outcome, Proctor, TestRepo, TreeSnapshot, World, users};
use serde_json::Value;

use crate::proctor;

/// Whether the samples that the slowest tests take of what they could try are to be as large as they can be.
pub(crate) fn full() -> bool {
    std::env::var_os("PROCTOR_TEST_FULL").is_some_and(|value| value == "1")
}

/// Where the repository keeps its fixtures.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// Once for each user, with a small repository in a world of its own.
pub(crate) fn each(test: impl Fn(&TestRepo<'_>)) {
    for user in users() {
        let world = World::new(user);
        test(&TestRepo::small(&world));
    }
}

/// A shell command outside of any sandbox, in the real tree, as its user.
pub(crate) fn outside(repo: &TestRepo<'_>, script: &str) {
    let mut command = repo.world().command("sh");
    command.current_dir(repo.path()).args(["-c", script]).env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "Test")
            .env(format!("GIT_{who}_EMAIL"), "test@example.invalid");
    }
    let output = command.output().expect("sh");
    assert!(output.status.success(), "{script}: {output:?}");
}

/// `proctor run` on a repository, with the given options.
pub(crate) fn run(repo: &TestRepo<'_>, options: &[&str]) -> Proctor {
    proctor(repo.world()).args(["run", "--repo"]).arg(repo.path()).args(options)
}

/// A run of `sh -c SCRIPT`.
pub(crate) fn sh(repo: &TestRepo<'_>, options: &[&str], script: &str) -> Proctor {
    run(repo, options).args(["--", "sh", "-c", script])
}

/// A run of the engine `fake` with the scenario `fixtures/engines/fake/NAME.toml`.
pub(crate) fn fake(repo: &TestRepo<'_>, options: &[&str], name: &str) -> Proctor {
    let world = repo.world();
    // The repository may lie where an ordinary user cannot read it.
    let file = fixtures().join("engines/fake").join(format!("{name}.toml"));
    let text = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let scenario = world.write(format!("scenarios/{name}.toml"), text);
    run(repo, &["--engine", "fake"]).args(options).arg("--").arg(scenario)
}

/// A run of the engine `fake` with a scenario of the test's own.
pub(crate) fn fake_text(repo: &TestRepo<'_>, options: &[&str], scenario: &str) -> Proctor {
    let path = repo.world().write("scenarios/own.toml", scenario);
    run(repo, &["--engine", "fake"]).args(options).arg("--").arg(path)
}

/// Starts a run, does something once its backend has said something (`backend.stdout.log` is not empty), and waits for
/// its end. The evidence must go to its default place.
pub(crate) fn meanwhile(proctor: Proctor, act: impl FnOnce()) -> Outcome {
    meanwhile_with(proctor, |_| act())
}

/// As [`meanwhile`]; the act gets the process id of Proctor.
pub(crate) fn meanwhile_with(proctor: Proctor, act: impl FnOnce(u32)) -> Outcome {
    meanwhile_saying(proctor, "backend.stdout.log", "", act)
}

/// As [`meanwhile_with`], once the run's log `name` is not empty and ends with `words`.
pub(crate) fn meanwhile_saying(
    mut proctor: Proctor,
    name: &str,
    words: &str,
    act: impl FnOnce(u32),
) -> Outcome {
    let state =
        proctor.command().get_envs().find(|(key, _)| *key == "XDG_STATE_HOME").and_then(|(_, value)| value);
    let runs = PathBuf::from(state.expect("a state directory")).join("proctor/runs");
    let known = saying(&runs, name, words);
    let mut child = proctor.spawn();
    let deadline = Instant::now() + Duration::from_secs(20);
    while saying(&runs, name, words) == known {
        let ended = child.try_wait().expect("waiting for proctor").is_some();
        assert!(!ended && Instant::now() < deadline, "{name} never said {words:?}: {:#?}", {
            let _ = child.kill();
            Outcome::of(child.wait_with_output().expect("waiting for proctor"))
        });
        std::thread::sleep(Duration::from_millis(5));
    }
    act(child.id());
    Outcome::of(child.wait_with_output().expect("waiting for proctor"))
}

fn saying(runs: &Path, name: &str, words: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(runs) else { return 0 };
    let log = |e: std::io::Result<std::fs::DirEntry>| std::fs::read(e.ok()?.path().join(name)).ok();
    entries.filter_map(log).filter(|text| !text.is_empty() && text.ends_with(words.as_bytes())).count()
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("kill");
}

/// `proctor verify` of a run's evidence, its patch against the repository included.
pub(crate) fn verify(outcome: &Outcome, repo: &TestRepo<'_>) -> Outcome {
    proctor(repo.world()).arg("verify").arg(outcome.evidence()).arg("--repo").arg(repo.path()).run()
}

/// Asserts that `proctor verify` finds nothing wrong with a run's evidence.
pub(crate) fn verifies(outcome: &Outcome, repo: &TestRepo<'_>) {
    crate::schemas::hold(outcome);
    let verified = verify(outcome, repo);
    assert_eq!(verified.code, Some(0), "{verified:#?}\nof {outcome:#?}");
}

/// Events of a type, from a source.
pub(crate) fn events(outcome: &Outcome, event_type: &str, source: &str) -> Vec<Value> {
    outcome.events().into_iter().filter(|e| e["type"] == event_type && e["source"] == source).collect()
}

/// What a blocker of the report says besides its code.
pub(crate) fn blocker(outcome: &Outcome, code: &str) -> Value {
    let report = outcome.report();
    let list = report["blockers"].as_array().cloned().unwrap_or_default();
    list.into_iter().find(|b| b["code"] == code).unwrap_or_else(|| panic!("no {code}: {outcome:#?}"))
}

/// Asserts what holds of every judged run that is no pass: exit code, exact blockers, the `blocker.raised` event of
/// each, the supervisor's (or `SOURCE:`'s) events beside them, a failing report, and evidence that verifies.
pub(crate) fn fails(outcome: &Outcome, repo: &TestRepo<'_>, code: i32, blockers: &[&str], beside: &[&str]) {
    outcome.expect(code, blockers);
    let report = outcome.report();
    assert_eq!(report["status"], "fail", "{outcome:#?}");
    assert_eq!(report["exit_code"], code, "{outcome:#?}");
    let raised: Vec<String> = events(outcome, "blocker.raised", "supervisor")
        .iter()
        .map(|e| e["data"]["code"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(raised, blockers, "{outcome:#?}");
    for wanted in beside {
        let (source, event_type) = wanted.split_once(':').unwrap_or(("supervisor", wanted));
        assert!(
            !events(outcome, event_type, source).is_empty(),
            "no {event_type} from {source}: {}",
            outcome.text("events.normalized.jsonl")
        );
    }
    for one in report["blockers"].as_array().unwrap() {
        for field in ["message", "remedy"] {
            assert!(one[field].as_str().is_some_and(|text| text.len() > 10), "{field} of {one}");
        }
    }
    // What could not be written cannot be verified; everything else can, whatever the verdict is.
    if blockers.contains(&"artifact_write_failed") {
        crate::schemas::hold(outcome);
        assert_eq!(verify(outcome, repo).code, Some(4));
    } else {
        verifies(outcome, repo);
    }
}

/// Asserts that a run passed and that its evidence verifies.
pub(crate) fn passes(outcome: &Outcome, repo: &TestRepo<'_>) {
    outcome.expect(0, &[]);
    assert_eq!(outcome.report()["status"], "pass");
    verifies(outcome, repo);
}

/// Asserts that nothing of the run's backend was ever started.
pub(crate) fn nothing_started(outcome: &Outcome) {
    for event_type in ["sandbox.ready", "backend.started"] {
        assert!(events(outcome, event_type, "supervisor").is_empty(), "{event_type}: {outcome:#?}");
    }
    assert_eq!(outcome.artifact("backend.stdout.log"), b"");
}

/// The tree as it is; see [`untouched`].
pub(crate) fn snapshot(repo: &TestRepo<'_>) -> TreeSnapshot {
    TreeSnapshot::of(repo.path())
}

/// Asserts that the real tree is what it was.
pub(crate) fn untouched(before: &TreeSnapshot, repo: &TestRepo<'_>) {
    assert_eq!(before.differences(&snapshot(repo)), Vec::<String>::new());
}

/// Everything below a directory, by path: for what must not have been written.
pub(crate) fn listing(world: &World, name: &str) -> TreeSnapshot {
    TreeSnapshot::of(&world.path(name))
}
