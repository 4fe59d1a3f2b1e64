//! Real coding agents (Codex and Pi, from npm) on a real project with a real defect (shlex 1.2.0, RUSTSEC-2024-0006).
//! Only the model is scripted: a provider on the sandbox's own loopback says which tools to use, the agents use them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use harness::{Agents, Outcome, TestRepo, TreeSnapshot, World, users};
use serde_json::{Value, json};

use crate::proctor;

const TEST: &str = "cargo test --offline";
const BOTH: [&str; 2] = ["codex", "pi"];

/// One judged run of `agent`, which is driven by `scenario`.
fn run(repo: &TestRepo, agent: &str, scenario: &str, options: &[&str]) -> Outcome {
    judged(repo, options, |drive| vec!["sh", drive, agent, scenario].into_iter().map(str::to_owned).collect())
}

/// One judged run with the project's tests, in which the backend has agents and toolchain.
fn judged(repo: &TestRepo, options: &[&str], command: impl Fn(&str) -> Vec<String>) -> Outcome {
    let agents = Agents::installed();
    let path = format!("PATH={}", agents.search_path());
    proctor(repo.world())
        .args(["run", "--repo"])
        .arg(repo.path())
        .arg("--ro")
        .arg(&agents.dir)
        .arg("--ro")
        .arg(&agents.rust)
        .arg("--test-ro")
        .arg(&agents.rust)
        .args(["--env", &path, "--test-env", &path, "--test", TEST, "--task", &task(repo)])
        .args(options)
        .arg("--")
        .args(command(&agents.drive().to_string_lossy()))
        .run()
}

/// The task names the repository's place, which no other run has: its processes can be told by it.
fn task(repo: &TestRepo) -> String {
    format!("The tests of {} fail. Find the defect, mend it and run the tests.", repo.path().display())
}

/// The command lines of living processes that hold the run's task, as its agent's does.
fn alive(repo: &TestRepo) -> Vec<String> {
    let task = task(repo);
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&task))
        .collect()
}

fn events_of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// How often the scripted provider was asked, by its own account.
fn requests(outcome: &Outcome) -> usize {
    outcome.text("backend.stderr.log").lines().filter(|line| line.starts_with("provider: POST ")).count()
}

/// Every run of this module leaves the tree alone, nothing alive, and evidence that holds.
fn aftermath(repo: &TestRepo, before: &TreeSnapshot, outcome: &Outcome) {
    assert_eq!(before.differences(&TreeSnapshot::of(repo.path())), Vec::<String>::new(), "{outcome:#?}");
    assert_eq!(alive(repo), Vec::<String>::new());
    let verified =
        proctor(repo.world()).arg("verify").arg(outcome.evidence()).arg("--repo").arg(repo.path()).run();
    assert_eq!(verified.code, Some(0), "{verified:#?}");
}

/// What a run that is not a pass comes to.
struct Expected<'e> {
    blockers: &'e [&'e str],
    /// The agent's own exit code, as `tests/agents/README.md` states it.
    exit_code: i32,
}

/// A scenario as each user: not a pass, for exactly these reasons; `more` looks closer.
fn fails(agent: &str, scenario: &str, options: &[&str], expected: &Expected<'_>, more: impl Fn(&Outcome)) {
    for user in users() {
        let world = World::new(user);
        let repo = Agents::installed().shlex(&world);
        let before = TreeSnapshot::of(repo.path());
        let outcome = run(&repo, agent, scenario, options);
        outcome.expect(1, expected.blockers);
        aftermath(&repo, &before, &outcome);
        let report = outcome.report();
        assert_eq!(report["backend_exit_code"], expected.exit_code, "{agent} {scenario}: {outcome:#?}");
        assert_eq!(report["status"], "fail");
        assert!(
            requests(&outcome) > 0,
            "{agent} never asked its provider: {}",
            outcome.text("backend.stderr.log")
        );
        more(&outcome);
    }
}

fn mends(agent: &str) {
    let project = Agents::project();
    for user in users() {
        let world = World::new(user);
        let repo = Agents::installed().shlex(&world);
        assert_eq!(repo.git(&["rev-parse", "HEAD"]), project["base_commit"]);
        let before = TreeSnapshot::of(repo.path());
        let outcome = run(&repo, agent, "mend", &[]);
        outcome.expect(0, &[]);
        aftermath(&repo, &before, &outcome);

        let report = outcome.report();
        assert_eq!(report["status"], "pass");
        assert_eq!(report["base_commit"], project["base_commit"].as_str());
        assert_eq!(report["result_tree"], project["mended_tree"].as_str());
        assert_eq!(report["tests"]["status"], "passed");
        assert_eq!(report["tests"]["command"], TEST);
        assert_eq!(report["test_inputs_changed"], json!([]));
        assert_eq!(report["sandbox"]["level"], "full");
        assert_eq!(report["sandbox"]["network"], "none");
        // What the agent's own builds left is no part of the result.
        assert_eq!(report["ignored_changes"], json!([{"path": "Cargo.lock"}, {"path": "target"}]));
        // The scenario goes on only where the agent's tools did what was asked: six answers, six steps.
        assert_eq!(requests(&outcome), 6, "{}", outcome.text("backend.stderr.log"));
        let log = outcome.text("test.log");
        assert!(
            log.contains("test bytes_outside_ascii_are_quoted ... ok") && log.contains("4 passed"),
            "{log}"
        );

        who_said_what(&outcome);
        reads_well(&outcome, &project);
        clean_clone(&repo, &outcome.evidence().join("patch.diff"), &project["mended_tree"]);
    }
}

/// What changed is observed; what the agent said is kept as its claim.
fn who_said_what(outcome: &Outcome) {
    let events = outcome.events();
    let changed = events_of(&events, "file.changed");
    let paths: Vec<&Value> = changed.iter().map(|event| &event["data"]["path"]).collect();
    assert_eq!(paths, ["CHANGELOG.md", "src/bytes.rs"]);
    assert!(changed.iter().all(|e| e["source"] == "supervisor" && e["trust"] == "observed"), "{changed:#?}");
    let said = events_of(&events, "backend.output");
    assert!(said.iter().all(|e| e["source"] == "backend" && e["trust"] == "claimed"), "{said:#?}");
    let claim = "Braces and bytes outside ASCII are quoted now; all tests pass.";
    assert!(said.iter().any(|e| e["data"]["text"].as_str().is_some_and(|t| t.contains(claim))), "{said:#?}");
    let tested = events_of(&events, "test.completed");
    assert!(tested.len() == 1 && tested[0]["source"] == "test" && tested[0]["data"]["exit_code"] == 0);
}

fn reads_well(outcome: &Outcome, project: &BTreeMap<String, String>) {
    let text = outcome.text("report.md");
    assert!(text.starts_with("# PASS\n"), "{text}");
    for line in [
        &format!("| base commit | `{}` |", project["base_commit"]),
        &format!("| result tree | `{}` |", project["mended_tree"]),
        "## Changed files (2)",
        "| modified | `CHANGELOG.md` | `100644` | 504 → 599 |",
        "| modified | `src/bytes.rs` | `100644` | 9010 → 9058 |",
        "- Backend: exit code 0",
        "- Network: `none`",
    ] {
        assert!(text.lines().any(|one| one == line), "no line {line:?} in\n{text}");
    }
    assert!(
        text.contains("\n- Tests: passed, exit code 0, ") && text.contains(" s: `cargo test --offline`\n"),
        "{text}"
    );
}

/// The real git takes the patch on a clean clone, gets the same tree, and the project's own tests pass there without
/// any part of Proctor.
fn clean_clone(repo: &TestRepo, patch: &Path, tree: &str) {
    let world = repo.world();
    let clone = world.path("clone");
    repo.git(&["clone", "-q", "--no-local", ".", &clone.to_string_lossy()]);
    let clone = TestRepo::existing(world, "clone");
    clone.git(&["apply", "--index", "--binary", &patch.to_string_lossy()]);
    assert_eq!(clone.git(&["write-tree"]), tree);
    let agents = Agents::installed();
    let tested = world
        .command("sh")
        .args(["-c", TEST])
        .env("PATH", agents.search_path())
        .current_dir(clone.path())
        .output()
        .expect("starting the project's tests");
    assert!(tested.status.success(), "{tested:#?}");
}

#[test]
fn codex_mends_a_real_defect() {
    mends("codex");
}

#[test]
fn pi_mends_a_real_defect() {
    mends("pi");
}

#[test]
fn the_tests_fail_on_the_base_commit() {
    for user in users() {
        let world = World::new(user);
        let repo = Agents::installed().shlex(&world);
        let before = TreeSnapshot::of(repo.path());
        let outcome = judged(&repo, &["--mutation", "discard"], |_| vec!["true".into()]);
        outcome.expect(1, &["tests_failed"]);
        aftermath(&repo, &before, &outcome);
        let report = outcome.report();
        assert_eq!(report["result_tree"], report["base_tree"]);
        assert_eq!(report["tests"]["exit_code"], 101);
        let log = outcome.text("test.log");
        // They fail for the defect, not for a missing tool.
        assert!(log.contains("test bytes::test_quote ... FAILED"), "{log}");
    }
}

#[test]
fn a_false_claim_is_not_believed() {
    let expected = Expected { blockers: &["tests_failed"], exit_code: 0 };
    for agent in BOTH {
        fails(agent, "false-claim", &[], &expected, |outcome| {
            assert!(outcome.text("backend.stdout.log").contains("I mended the defect and all tests pass."));
            let report = outcome.report();
            assert_eq!(report["changed_files"].as_array().map(Vec::len), Some(1));
            assert_eq!(report["changed_files"][0]["path"], "CHANGELOG.md");
            assert_eq!(report["tests"]["exit_code"], 101);
        });
    }
}

#[test]
fn an_agent_that_changes_nothing_has_done_nothing() {
    let expected = Expected { blockers: &["no_diff"], exit_code: 0 };
    for agent in BOTH {
        fails(agent, "no-change", &[], &expected, |outcome| {
            assert_eq!(outcome.text("patch.diff"), "");
            assert_eq!(outcome.report()["tests"]["status"], "not_run");
        });
        fails(agent, "retry", &[], &expected, |outcome| {
            assert_eq!(requests(outcome), 2, "{}", outcome.text("backend.stderr.log"));
        });
    }
}

/// Pi exits with 0 though its provider never answered: an exit code alone proves nothing.
#[test]
fn a_provider_that_fails_is_no_pass_whatever_the_agent_exits_with() {
    for scenario in ["provider-error", "cut"] {
        fails("pi", scenario, &[], &Expected { blockers: &["no_diff"], exit_code: 0 }, |_| ());
        let codex = Expected { blockers: &["backend_failed", "no_diff"], exit_code: 1 };
        fails("codex", scenario, &[], &codex, |_| ());
    }
}

fn hangs(agent: &str) {
    // The driver ends the agent when it is told to end, and exits as a shell does.
    let expected = Expected { blockers: &["timeout", "no_diff"], exit_code: 143 };
    // Long enough for the agent to start and to ask, on a machine that is busy with other tests.
    fails(agent, "hang", &["--idle-timeout", "8s"], &expected, |outcome| {
        let events = outcome.events();
        let expired = events_of(&events, "timeout.expired");
        assert_eq!(expired.len(), 1, "{expired:#?}");
        assert_eq!(expired[0]["data"], json!({"phase": "backend", "kind": "idle", "limit_ms": 8000}));
        let text = outcome.text("report.md");
        assert!(text.starts_with("# FAIL: timeout, no_diff\n"), "{text}");
        assert!(text.contains("The idle time of phase backend ran out after 8s (--idle-timeout)."), "{text}");
    });
}

#[test]
fn a_codex_that_waits_for_ever_is_stopped() {
    hangs("codex");
}

#[test]
fn a_pi_that_waits_for_ever_is_stopped() {
    hangs("pi");
}
