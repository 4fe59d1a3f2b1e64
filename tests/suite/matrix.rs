//! The failure matrix: every row of `fixtures/matrix/` gives its exact blockers, its exit code and its events, as
//! every user.

use harness::{Outcome, Proctor, TestRepo, World, users};
use serde::Deserialize;

use crate::binary;
use crate::support::{fails, fixtures, meanwhile, outside, snapshot, untouched};

/// A row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Name of the scenario below `fixtures/engines/fake`.
    scenario: String,
    /// Options of `proctor run`.
    options: Vec<String>,
    /// A shell command in the tree before the run.
    before: Option<String>,
    /// A shell command in the tree once the backend runs.
    during: Option<String>,
    /// Bytes that no file may grow beyond.
    file_size_limit: Option<u64>,
    exit: i32,
    blockers: Vec<String>,
    /// `SOURCE:TYPE` of events that stand beside `blocker.raised`.
    events: Vec<String>,
}

fn row(name: &str) -> Row {
    let path = fixtures().join("matrix").join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn call(row: &Row, repo: &TestRepo<'_>) -> Outcome {
    let world = repo.world();
    let text =
        std::fs::read(fixtures().join(format!("engines/fake/{}.toml", row.scenario))).expect("a scenario");
    let scenario = world.write("scenario.toml", text);
    let limit = row.file_size_limit.map(|bytes| format!("--fsize={bytes}"));
    let proctor = match &limit {
        Some(limit) => Proctor::through(&["prlimit", limit, "--"], binary(), world),
        None => Proctor::new(binary(), world),
    };
    let proctor = proctor
        .args(["run", "--engine", "fake", "--repo"])
        .arg(repo.path())
        .args(&row.options)
        .arg("--")
        .arg(scenario);
    let Some(during) = &row.during else { return proctor.run() };
    meanwhile(proctor, || outside(repo, during))
}

fn holds(name: &str) {
    let row = row(name);
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        if let Some(before) = &row.before {
            outside(&repo, before);
        }
        let before = snapshot(&repo);
        let outcome = call(&row, &repo);
        let (blockers, events): (Vec<&str>, Vec<&str>) = (
            row.blockers.iter().map(String::as_str).collect(),
            row.events.iter().map(String::as_str).collect(),
        );
        fails(&outcome, &repo, row.exit, &blockers, &events);
        if row.during.is_none() {
            untouched(&before, &repo);
        }
    }
}

macro_rules! rows {
    ($($test:ident = $name:literal;)+) => {
        const ROWS: &[&str] = &[$($name),+];

        $(#[test] fn $test() { holds($name); })+
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
}

#[test]
fn every_row_is_run_and_every_scenario_is_played() {
    let names = |dir: &str| {
        let mut names: Vec<String> = std::fs::read_dir(fixtures().join(dir))
            .unwrap()
            .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let mut rows: Vec<&str> = ROWS.to_vec();
    rows.sort_unstable();
    assert_eq!(names("matrix"), rows);
    for name in names("engines/fake") {
        let text = std::fs::read_to_string(fixtures().join(format!("engines/fake/{name}.toml"))).unwrap();
        let scenario =
            ::proctor::engine::scenario::Scenario::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!scenario.description.is_empty() && !scenario.step.is_empty(), "{name}");
    }
}
