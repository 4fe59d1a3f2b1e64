//! Evidence of a forger who makes the whole chain anew: what one part says is held against another, and no event hides
//! itself.

use serde_json::json;

use super::*;
use crate::verdict::BlockerCode;

fn problems(edit: impl FnOnce(&mut Run)) -> Vec<String> {
    let mut run = Run::new();
    edit(&mut run);
    run.write(|_| {}).problems()
}

fn supervisor(event_type: EventType) -> NewEvent {
    NewEvent::new(event_type, Source::Supervisor)
}

#[test]
fn an_event_that_calls_itself_an_interrupted_end_is_seen_all_the_same() {
    let change = payload::file_changed(&sample::change("src/backdoor.rs", ChangeKind::Added));
    let exit = payload::backend_exited(Some(1), None);
    let mut denial = Run::new().report.sandbox.denials[0].clone();
    denial.call = "ptrace".into();
    for (event, why) in [
        (change, "1 observed file.changed are not in the report as they are: src/backdoor.rs"),
        (exit, "the backend's exit code or signal is not that of backend.exited"),
        (
            payload::policy_denied(&denial),
            "has 1 events of something refused that the report does not have so",
        ),
    ] {
        let hidden = event.clone().with("status", "interrupted");
        some(&problems(|run| run.events.push(hidden)), why);
        some(&problems(|run| run.events.push(event)), why);
    }
}

#[test]
fn what_was_started_is_what_the_report_says() {
    let started = |engine: &str, argv: &[&str]| {
        supervisor(EventType::BackendStarted).with("engine", engine).with("argv", argv)
    };
    let with = |event: NewEvent| {
        problems(|run| {
            let place =
                run.events.iter().position(|one| one.event_type == EventType::BackendStarted).unwrap();
            run.events[place] = event;
        })
    };
    assert_eq!(with(started("fake", &["fake", "scenario.toml"])), Vec::<String>::new());
    some(
        &with(started("fake", &["curl", "evil"])),
        "engine.argv is [\"fake\",\"scenario.toml\"], backend.started says",
    );
    some(
        &with(started("codex", &["fake", "scenario.toml"])),
        "engine.name is \"fake\", backend.started says \"codex\"",
    );
    some(
        &problems(|run| run.events.push(supervisor(EventType::BackendStarted))),
        "more than one backend.started",
    );
}

#[test]
fn a_pass_has_its_steps_in_their_order() {
    let said = problems(|run| {
        let tests: Vec<NewEvent> = run.events.extract_if(6..8, |_| true).collect();
        run.events.splice(2..2, tests);
    });
    some(&said, "the status is pass, but test.started (event 2) comes before file.changed");
}

#[test]
fn a_refused_change_is_a_blocker() {
    let refused = || {
        supervisor(EventType::PolicyDenied)
            .with("what", "change")
            .with("path", ".github/workflows/x.yml")
            .with("rule", "protect")
            .with("message", "protected")
    };
    some(&problems(|run| run.events.push(refused())), "refuses 1 changes, and no blocker says so");
    let blocked = problems(|run| {
        run.events.push(refused());
        run.blockers(vec![Blocker::new(BlockerCode::DisallowedFile, "x", json!({}))], ExitCode::Fail);
    });
    assert!(!blocked.iter().any(|one| one.contains("no blocker says so")), "{blocked:#?}");
}

#[test]
fn a_sandbox_without_its_program_stands_beside_no_backend() {
    let idle = supervisor(EventType::SandboxReady).with("level", "landlock").with("program", "not executed");
    some(
        &problems(|run| run.events.insert(3, idle)),
        "a sandbox whose program was not executed beside a backend",
    );
}

#[test]
fn a_page_of_another_version_is_not_taken_on_trust() {
    let mut run = Run::new();
    run.report.proctor_version = "9.9.9".into();
    run.extra.push((HTML, b"<script>alert(1)</script>".to_vec()));
    some(&run.write(|_| {}).problems(), "report.html: was made by another version");
}

#[test]
fn a_trace_has_one_reading() {
    let written = Run::new().write(|_| {});
    let text = std::fs::read_to_string(written.path.join(TRACE)).unwrap();
    let run = Run::new().report.run_id;
    let read = |text: String| traced::read(&mut text.as_bytes(), &run).map(drop);
    let own = Run::new();
    drop(own);
    let id = text.split("proctor.run_id").nth(1).and_then(|rest| rest.split("r-").nth(1)).unwrap();
    let id = format!("r-{}", &id[..22]);
    let read_own = |text: String| traced::read(&mut text.as_bytes(), &id).map(drop);
    assert_eq!(read_own(text.clone()), Ok(()));
    assert!(read(text.clone()).unwrap_err().contains("the report of run"), "of another run");
    for (from, to, why) in [
        ("\"scopeSpans\":", "\"scope_spans\":[],\"scopeSpans\":", "unknown field `scope_spans`"),
        ("\"kind\":1", "\"kind\":1,\"traceState\":\"x\"", "unknown field `traceState`"),
        ("\"resourceSpans\":", " \"resourceSpans\":", "not in the form in which Proctor writes it"),
        (
            "{\"key\":\"service.name\"",
            "{\"key\":\"proctor.run_id\",\"value\":{\"stringValue\":\"x\"}},{\"key\":\"service.name\"",
            "an attribute stands twice",
        ),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let error = read_own(changed).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn freshness_that_no_run_gives_is_refused() {
    for (edit, why) in [
        (
            (|r: &mut Report| r.freshness.nonce = "a".into()) as fn(&mut Report),
            "the nonce is none that a run takes",
        ),
        (|r| r.freshness.boot_id = Some("x".into()), "boot id is no UUID"),
        (|r| r.timings[0].duration_us = 3_600_000_000, "its phases took longer than the whole run"),
    ] {
        some(&Run::new().write(edit).problems(), why);
    }
}
