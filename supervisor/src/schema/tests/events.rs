//! Events: what each may say, and who.

use serde_json::{Value, json};

use super::records::{blocker, full_change, full_denial};
use super::*;
use crate::event::{EventType, FIRST_PREV, Source};

const RUN: &str = "r-20260601T120000-abcdef";

fn event(event_type: EventType, source: Source, data: &Value) -> Value {
    let first = event_type == EventType::RunStarted;
    let mut event = json!({
        "schema": "events/v1", "run_id": RUN, "seq": u64::from(!first), "ts": "2026-06-01T12:00:00.000001Z",
        "type": event_type, "source": source, "trust": source.trust(), "data": data,
        "prev": if first { FIRST_PREV.to_owned() } else { "1".repeat(64) },
    });
    if source == Source::Backend {
        event["native"] = json!({
            "stream": "stdout", "line": 1, "offset": 0, "type": "message", "id": "1", "ts": "now",
        });
    }
    event
}

/// Data of every kind that the program fixes.
fn contracts() -> Vec<(EventType, Source, Value)> {
    use EventType as T;
    use Source::{Backend, Operator, Reviewer, Supervisor, Test};
    let digest = "1".repeat(64);
    let object = "2".repeat(40);
    let answer = json!({
        "id": "a", "subject": "x", "subject_sha256": digest, "decided_by": "ann", "reason": "fine",
    });
    let interrupted = json!({ "status": "interrupted", "of": "backend", "started_seq": 3 });
    vec![
        (
            T::RunStarted,
            Supervisor,
            json!({
                "nonce": "00".repeat(8), "engine": "fake", "stage": "gated-engine", "mutation_mode": "patch",
                "base_commit": object, "base_tree": object, "profile": { "name": "default", "digest": digest },
                "task_sha256": digest,
            }),
        ),
        (T::DecisionRecorded, Supervisor, json!({ "kind": "ungoverned" })),
        (
            T::SandboxReady,
            Supervisor,
            json!({
                "level": "full", "why_not_full": "x", "mechanisms": ["landlock"], "missing": ["x"],
                "network": "none", "landlock_abi": 7,
            }),
        ),
        (T::SandboxReady, Supervisor, json!({ "level": "full", "program": "not executed" })),
        (T::BackendStarted, Supervisor, json!({ "engine": "fake", "argv": ["x"] })),
        (T::BackendExited, Supervisor, json!({ "exit_code": 0, "signal": null, "duration_ms": 1 })),
        (T::BackendExited, Supervisor, json!({ "exit_code": null, "signal": 9, "duration_ms": 1 })),
        (T::ArtifactWritten, Supervisor, json!({ "name": "patch.diff", "sha256": digest, "size": 1 })),
        (T::BlockerRaised, Supervisor, serde_json::to_value(blocker()).unwrap()),
        (
            T::RunFinished,
            Supervisor,
            json!({
                "status": "fail", "blockers": ["no_diff"], "exit": 1, "defects": 0, "left_out": 0,
                "report": { "host": {} },
            }),
        ),
        (T::FileChanged, Supervisor, serde_json::to_value(full_change()).unwrap()),
        (T::ApprovalRequested, Supervisor, json!({ "id": "a", "subject": "x", "subject_sha256": digest })),
        (T::ApprovalGranted, Operator, answer.clone()),
        (T::ApprovalGranted, Supervisor, answer.clone()),
        (T::ApprovalDenied, Operator, answer.clone()),
        (T::ApprovalDenied, Supervisor, answer),
        (T::PolicyDenied, Supervisor, serde_json::to_value(full_denial()).unwrap()),
        (
            T::PolicyDenied,
            Supervisor,
            json!({
                "what": "change", "path": "x", "rule": "protect", "message": "no",
            }),
        ),
        (
            T::LimitExceeded,
            Supervisor,
            json!({
                "what": "memory", "limit": 1, "seen": 2, "phase": "backend", "mechanism": "watcher", "witness": "x",
            }),
        ),
        (
            T::TimeoutExpired,
            Supervisor,
            json!({
                "phase": "approval", "kind": "wall", "limit_ms": 1, "cpu_throttled": 2,
            }),
        ),
        (T::TestStarted, Test, json!({ "command": "make" })),
        (
            T::TestCompleted,
            Test,
            json!({ "status": "failed", "exit_code": 1, "signal": 9, "duration_ms": 1 }),
        ),
        (T::ReviewStarted, Reviewer, json!({ "command": "x", "patch_sha256": digest })),
        (
            T::ReviewCompleted,
            Reviewer,
            json!({
                "accepted": true, "status": "completed", "exit_code": 0, "signal": 9, "duration_ms": 2,
            }),
        ),
        (T::BackendOutput, Backend, json!({ "text": "x", "lines": 1, "truncated": true })),
        (T::ToolCompleted, Supervisor, interrupted.clone()),
        (T::TestCompleted, Supervisor, interrupted),
    ]
}

#[test]
fn events_and_every_wrong_field_of_one() {
    let mut events: Vec<Value> =
        contracts().iter().map(|(event_type, source, data)| event(*event_type, *source, data)).collect();
    events[10]["call_id"] = json!("c");
    let texts = [
        "address",
        "argv",
        "argv0",
        "blockers",
        "call",
        "call_id",
        "command",
        "decided_by",
        "errno",
        "id",
        "mechanisms",
        "message",
        "missing",
        "name",
        "not_in_patch",
        "old_path",
        "path",
        "program",
        "reason",
        "remedy",
        "rule",
        "stream",
        "subject",
        "text",
        "ts",
        "type",
        "what",
        "why_not_full",
        "witness",
    ];
    tight("event", &events, &FREE, &texts, &[]);
}

#[test]
fn who_may_say_what_stands_in_the_schema_of_events() {
    let validator = validator("event");
    let fixed = contracts();
    for event_type in EventType::ALL {
        for source in Source::ALL {
            let known = fixed.iter().find(|(t, s, _)| t == event_type && *s == source);
            let data = known.map_or_else(|| json!({ "x": 1 }), |(_, _, data)| data.clone());
            let one = event(*event_type, source, &data);
            let closes = known.is_some() && source == Source::Supervisor && event_type.ends().is_some();
            let right = event_type.allows(source) || closes;
            assert_eq!(validator.is_valid(&one), right, "{one:#}");
            let mut other = one.clone();
            other["trust"] = json!(if source == Source::Backend { "observed" } else { "claimed" });
            assert!(!validator.is_valid(&other), "a trust that its source cannot have: {other:#}");
            let mut other = one;
            match source {
                Source::Backend => drop(other.as_object_mut().unwrap().remove("native")),
                _ => other["native"] = json!({ "stream": "stdout", "line": 1, "offset": 0 }),
            }
            assert!(!validator.is_valid(&other), "only backends stand in raw logs: {other:#}");
        }
    }
    let mut late = event(EventType::RunStarted, Source::Supervisor, &fixed[0].2);
    late["seq"] = json!(1);
    assert!(!validator.is_valid(&late), "run.started is first");
    // What was too long for an event leaves its field out, and says so.
    let cut = event(EventType::ReviewStarted, Source::Reviewer, &json!({ "truncated": true }));
    holds(&validator, &cut);
    let less = event(EventType::ReviewStarted, Source::Reviewer, &json!({ "command": "x" }));
    assert!(!validator.is_valid(&less));
}
