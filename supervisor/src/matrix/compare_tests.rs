use serde_json::json;

use super::*;

fn expected() -> Expected {
    Expected {
        exit: 1,
        status: "fail".into(),
        blockers: vec![BlockerCode::Timeout, BlockerCode::NoDiff],
        events: vec!["test:test.completed".to_owned().try_into().unwrap()],
        detail: [(BlockerCode::Timeout, json!({ "phase": "test" }))].into(),
        verify: 0,
    }
}

fn raised(code: &str, detail: Value) -> Raised {
    Raised { code: code.into(), message: "m".into(), detail, remedy: "r".into() }
}

fn got() -> Got {
    Got {
        exit: Some(1),
        status: Some("fail".into()),
        report_exit: Some(1),
        // A set: the order is the report's own.
        blockers: vec!["no_diff".into(), "timeout".into()],
        raised: vec!["no_diff".into(), "timeout".into()],
        events: expected().events,
        verify: Some(0),
        details: vec![
            raised("timeout", json!({ "phase": "test", "kind": "wall" })),
            raised("no_diff", json!({})),
        ],
        ..Got::default()
    }
}

#[test]
fn what_is_as_expected_has_no_difference() {
    assert_eq!(differences(&expected(), &got()), Vec::<String>::new());
}

#[test]
fn each_difference_is_spelled_out() {
    type Change = fn(&mut Got);
    let changes: [(Change, &str); 14] = [
        (|g| g.exit = Some(0), "exit code: expected 1, got 0"),
        (|g| (g.exit, g.signal) = (None, Some(9)), "exit code: expected 1, got the end by signal 9"),
        (|g| g.status = Some("pass".into()), "status: expected fail, got pass"),
        (|g| g.report_exit = Some(0), "report: its exit code is 0, and the run's was another"),
        (|g| g.blockers.truncate(1), "blockers: expected timeout, no_diff, got no_diff"),
        (
            |g| g.blockers.push("no_diff".into()),
            "blockers: expected timeout, no_diff, got no_diff, timeout, no_diff",
        ),
        (|g| g.blockers.clear(), "blockers: expected timeout, no_diff, got none"),
        (|g| g.raised.clear(), "events: blocker.raised says none, the report no_diff, timeout"),
        (|g| g.events.clear(), "events: no test.completed from test"),
        (
            |g| g.details[0].detail = json!({ "phase": "backend" }),
            "detail of timeout: expected {\"phase\":\"test\"}, got {\"phase\":\"backend\"}",
        ),
        (|g| g.details[1].remedy.clear(), "no_diff: its message or its remedy is empty"),
        (|g| g.verify = Some(4), "verify: expected exit code 0, got 4"),
        (|g| g.tree.push("README has other content".into()), "work tree: README has other content"),
        (
            |g| g.missed = true,
            "meanwhile: the backend never started, so that what happens while it runs did not",
        ),
    ];
    for (change, words) in changes {
        let mut got = got();
        change(&mut got);
        let said = differences(&expected(), &got);
        assert!(said.iter().any(|one| one == words), "{words}: {said:?}");
    }
}

#[test]
fn a_run_without_a_report_differs_and_says_what_it_said() {
    let got = Got { exit: Some(2), said: vec!["proctor: error: no".into()], ..Got::default() };
    let said = differences(&expected(), &got);
    for words in ["exit code: expected 1, got 2", "report: there is none", "it said: proctor: error: no"] {
        assert!(said.iter().any(|one| one == words), "{words}: {said:?}");
    }
}

#[test]
fn an_event_log_that_could_not_be_written_may_lack_blockers_and_have_no_others() {
    let wanted = Expected {
        exit: 4,
        blockers: vec![BlockerCode::ArtifactWriteFailed],
        events: Vec::new(),
        detail: BTreeMap::new(),
        verify: 4,
        ..expected()
    };
    let got = Got {
        exit: Some(4),
        report_exit: Some(4),
        blockers: vec!["artifact_write_failed".into()],
        raised: Vec::new(),
        verify: Some(4),
        details: vec![raised("artifact_write_failed", json!({}))],
        ..got()
    };
    assert_eq!(differences(&wanted, &got), Vec::<String>::new());
    let more = Got { raised: vec!["no_diff".into()], ..got };
    assert_eq!(differences(&wanted, &more).len(), 1);
}
