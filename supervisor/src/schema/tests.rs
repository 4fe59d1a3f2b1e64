//! The committed schemas are the generated ones, they are schemas, and they are tight: every change of a field's name,
//! type or word that the program would not make is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::*;
use crate::event::{EventType, FIRST_PREV, Source};
use crate::governance::tests::{admission, decision, gate};
use crate::report::{self, ChangeKind, DenialInfo, FileChange, PathText, sample};
use crate::verdict::{Blocker, BlockerCode, Status};

fn committed(one: &Named) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas").join(one.file_name())
}

const RENEW: &str = "PROCTOR_RENEW_SCHEMAS=1 cargo test -p proctor --lib schema::";

#[test]
fn committed_schemas_are_the_generated_ones() {
    let renew = std::env::var_os("PROCTOR_RENEW_SCHEMAS").is_some();
    for one in ALL {
        let path = committed(&one);
        if renew {
            std::fs::write(&path, one.text()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == one.text(), "{} is not what the types make; renew it with: {RENEW}", path.display());
    }
    let dir = std::fs::read_dir(committed(&ALL[0]).parent().unwrap()).unwrap();
    let mut there: Vec<String> = dir.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    let mut known: Vec<String> = ALL.iter().map(Named::file_name).collect();
    known.sort();
    assert_eq!(there, known, "schemas/ holds schemas and nothing else");
}

fn validator(name: &str) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(&find(name).unwrap().value()).unwrap()
}

#[track_caller]
fn holds(validator: &jsonschema::Validator, value: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{value:#}");
}

/// Every object of a schema with properties, with a name to find it by.
fn objects<'a>(schema: &'a Value, at: &str, found: &mut Vec<(String, &'a Map<String, Value>)>) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") && map.get("type") == Some(&json!("object")) {
                found.push((at.to_owned(), map));
            }
            for (key, value) in map {
                objects(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| objects(value, at, found)),
        _ => {}
    }
}

#[test]
fn they_are_schemas_of_the_dialect_closed_and_described() {
    for one in ALL {
        let schema = one.value();
        jsonschema::meta::validate(&schema).unwrap_or_else(|e| panic!("{}: {e}", one.name));
        assert_eq!(schema["$schema"], DIALECT);
        assert!(schema["$id"].as_str().unwrap().starts_with("urn:proctor:schema:"));
        assert!(schema["description"].as_str().is_some_and(|text| text.len() > 5), "{}", one.name);
        let mut found = Vec::new();
        objects(&schema, one.name, &mut found);
        assert!(!found.is_empty());
        for (at, object) in found {
            assert_eq!(object.get("additionalProperties"), Some(&json!(false)), "{at} takes unknown fields");
            for (name, property) in object["properties"].as_object().unwrap() {
                let said = property.get("description").is_some_and(|text| text.as_str().unwrap().len() > 3);
                assert!(said, "{at}/{name} is not described");
            }
        }
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            assert!(definition["title"].is_string(), "{}: {name} has no title", one.name);
            assert!(definition["description"].is_string(), "{}: {name} is not described", one.name);
        }
        let text = one.text();
        assert!(!text.contains("\"format\": \"uint"), "{}", one.name);
        let hosts = text.matches("://").count() - text.matches("https://json-schema.org/").count();
        assert!(hosts <= 2, "{} names hosts", one.name);
    }
}

/// What a mutation did, and the mutated whole.
type Mutated = (String, Value);

fn with(whole: &Value, pointer: &str, value: Value) -> Value {
    let mut whole = whole.clone();
    *whole.pointer_mut(pointer).unwrap() = value;
    whole
}

/// Below these anything may stand: `NAME` of the last part of a pointer.
const FREE: [&str; 2] = ["detail", "report"];

/// Every change of a name or a type, and every word that is another one; `open` are pointers below which anything stands.
fn mutations(whole: &Value, at: &str, free: &[&str], shapes: &mut Vec<Mutated>, words: &mut Vec<Mutated>) {
    let value = whole.pointer(at).unwrap();
    let last = at.rsplit('/').next().unwrap_or_default();
    let wrong = match value {
        Value::Array(_) => json!(true),
        _ => json!([[{ "no": "such" }]]),
    };
    if !at.is_empty() {
        shapes.push((at.to_owned(), with(whole, at, wrong)));
    }
    if free.contains(&last) {
        return;
    }
    match value {
        Value::Object(map) => {
            let mut more = map.clone();
            more.insert("No such field!".to_owned(), json!("r-20260601T120000-abcdef"));
            shapes.push((format!("{at}/No such field!"), with(whole, at, Value::Object(more))));
            for key in map.keys() {
                let key = key.replace('~', "~0").replace('/', "~1");
                mutations(whole, &format!("{at}/{key}"), free, shapes, words);
            }
        }
        Value::Array(list) => {
            for index in 0..list.len() {
                mutations(whole, &format!("{at}/{index}"), free, shapes, words);
            }
        }
        Value::String(_) => words.push((at.to_owned(), with(whole, at, json!("No such word!")))),
        Value::Number(_) => {
            shapes.push((at.to_owned(), with(whole, at, json!(-1))));
            shapes.push((at.to_owned(), with(whole, at, json!("7"))));
        }
        Value::Bool(_) => shapes.push((at.to_owned(), with(whole, at, json!(1)))),
        Value::Null => {}
    }
}

/// Names of all properties that a schema speaks of.
fn property_names(schema: &Value) -> BTreeSet<String> {
    let mut found = Vec::new();
    objects(schema, "", &mut found);
    found.iter().flat_map(|(_, map)| map["properties"].as_object().unwrap().keys().cloned()).collect()
}

fn keys_of(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            keys.extend(map.keys().cloned());
            map.values().for_each(|value| keys_of(value, keys));
        }
        Value::Array(list) => list.iter().for_each(|value| keys_of(value, keys)),
        _ => {}
    }
}

/// Holds instances of one schema, and all their mutations, against it. `texts` are the fields that hold any text.
fn tight(name: &str, instances: &[Value], free: &[&str], texts: &[&str], never: &[&str]) {
    let validator = validator(name);
    let (mut seen, mut open) = (BTreeSet::new(), BTreeSet::new());
    for instance in instances {
        holds(&validator, instance);
        keys_of(instance, &mut seen);
        let (mut shapes, mut words) = (Vec::new(), Vec::new());
        mutations(instance, "", free, &mut shapes, &mut words);
        for (at, mutated) in shapes {
            assert!(!validator.is_valid(&mutated), "{name}: a wrong {at} is accepted: {mutated:#}");
        }
        for (at, mutated) in words {
            if validator.is_valid(&mutated) {
                let name = at.split('/').rfind(|part| part.parse::<usize>().is_err());
                open.insert(name.unwrap_or_default().to_owned());
            }
        }
    }
    let unseen: Vec<String> = property_names(&find(name).unwrap().value())
        .into_iter()
        .filter(|one| !seen.contains(one) && !never.contains(&one.as_str()))
        .collect();
    assert!(unseen.is_empty(), "{name}: no instance has {unseen:?}");
    let texts: BTreeSet<String> = texts.iter().map(|one| (*one).to_owned()).collect();
    assert_eq!(open, texts, "{name}: the fields that take any text");
}

fn full_change() -> FileChange {
    FileChange {
        path_b64: Some("/2E=".into()),
        old_path: Some("b".into()),
        old_path_b64: Some("/2I=".into()),
        not_in_patch: Some("a device".into()),
        ..sample::change("a", ChangeKind::Modified)
    }
}

fn full_denial() -> DenialInfo {
    DenialInfo {
        what: "path".into(),
        address: Some("192.0.2.1:80".into()),
        blockers: vec!["fs.read_file".into()],
        path: Some("/x".into()),
        path_b64: Some("/2E=".into()),
        ..sample::report().sandbox.denials[0].clone()
    }
}

fn blocker() -> Blocker {
    Blocker::new(BlockerCode::TestsFailed, "The tests failed.", json!({ "exit_code": 1 }))
}

fn full_report() -> report::Report {
    let mut report = sample::report();
    let path = PathText { path: "a\u{fffd}".into(), path_b64: Some("Yf8=".into()) };
    report.status = Status::Fail;
    report.exit_code = 1;
    report.freshness.nonce = "00".repeat(16);
    report.blockers = vec![blocker()];
    report.engine.source_id = Some("8".repeat(64));
    report.stage = Some("candidate-default".into());
    report.task_sha256 = Some("9".repeat(64));
    report.backend_signal = Some(9);
    report.changed_files = vec![full_change()];
    report.ignored_changes = vec![path.clone()];
    report.git_changes = report::GitChanges { count: 1, paths: vec![path.clone()] };
    report.test_inputs_changed = vec![path];
    report.tests.signal = Some(15);
    report.review.command = Some("true".into());
    report.review.exit_code = Some(0);
    report.review.duration_ms = Some(1);
    report.review.patch_sha256 = Some("a".repeat(64));
    report.approvals = vec![report::ApprovalInfo {
        id: "changes".into(),
        asked_by: "supervisor".into(),
        subject: "changes to a".into(),
        subject_sha256: Some("b".repeat(64)),
        outcome: "granted".into(),
        answered_by: Some("ann".into()),
        answered_at: Some("2026-06-01T12:00:04.000001Z".into()),
    }];
    report.provider = report::ProviderInfo {
        name: Some("example".into()),
        requests: Some(3),
        witness: "observed".into(),
        allowed_hosts: vec!["192.0.2.1".into()],
    };
    report.sandbox.why_not_full = Some("no user namespaces".into());
    report.sandbox.mechanisms[0].detail = Some("files".into());
    report.sandbox.denials.push(full_denial());
    report.sandbox.observed.get_mut("backend").unwrap().get_mut("denials").unwrap().note = Some("x".into());
    report.limits.get_mut("memory").unwrap().mechanism = "cgroup_v2 memory".into();
    report.usage.insert(
        "test".into(),
        report::UsageInfo {
            user_us: Some(1),
            system_us: Some(1),
            max_memory: Some(1),
            max_tasks: Some(1),
            cpu_throttled: Some(1),
            disk: Some(1),
            output: Some(1),
        },
    );
    report.host.name = Some("ci".into());
    report
}

#[test]
fn reports_and_every_wrong_field_of_one() {
    let report = serde_json::to_value(full_report()).unwrap();
    let mut pass = sample::report();
    pass.freshness.nonce = "00".repeat(16);
    pass.limits.get_mut("memory").unwrap().mechanism = "none".into();
    let texts = [
        "address",
        "allowed_hosts",
        "answered_by",
        "arch",
        "argv",
        "argv0",
        "blockers",
        "call",
        "command",
        "errno",
        "id",
        "kernel",
        "message",
        "missing",
        "name",
        "not_in_patch",
        "note",
        "old_path",
        "path",
        "program",
        "reason",
        "remedy",
        "subject",
        "version",
        "why_not_full",
    ];
    tight("report", &[report.clone(), serde_json::to_value(&pass).unwrap()], &FREE, &texts, &[]);
    let validator = validator("report");
    // What nobody may leave out.
    for key in report.as_object().unwrap().keys() {
        let mut less = report.clone();
        less.as_object_mut().unwrap().remove(key);
        assert!(!validator.is_valid(&less), "a report without {key}");
    }
    pass.blockers = vec![blocker()];
    assert!(!validator.is_valid(&serde_json::to_value(&pass).unwrap()), "a pass with a blocker");
    pass.blockers.clear();
    pass.exit_code = 1;
    assert!(!validator.is_valid(&serde_json::to_value(&pass).unwrap()), "a pass that exits with 1");
}

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

#[test]
fn records_of_governance_and_every_wrong_field_of_one() {
    let value = |record: &dyn erased::Json| record.json();
    tight(
        "decision",
        &[value(&decision())],
        &FREE,
        &["decided_by", "escalation_path", "reasons", "text"],
        &[],
    );
    tight(
        "admission",
        &[value(&admission())],
        &FREE,
        &["admitted_by", "license_note", "note", "paths", "reference", "retrieval_command"],
        &[],
    );
    tight("gate", &[value(&gate())], &FREE, &["operator", "reason", "signed_by"], &[]);
}

mod erased {
    //! Records as JSON, whatever their type.
    pub(super) trait Json {
        fn json(&self) -> serde_json::Value;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> serde_json::Value {
            serde_json::to_value(self).unwrap()
        }
    }
}

fn fixtures(kind: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/profiles").join(kind);
    let files = std::fs::read_dir(dir).unwrap().map(|one| one.unwrap());
    files
        .map(|one| (one.file_name().into_string().unwrap(), std::fs::read_to_string(one.path()).unwrap()))
        .collect()
}

fn schema_of(fixture: &str) -> &'static str {
    match fixture.split_once('-') {
        Some(("view", _)) => "view",
        Some(("engine", _)) => "engine",
        Some(("config", _)) => "config",
        _ => "profile",
    }
}

fn from_toml(text: &str) -> Option<Value> {
    serde_json::to_value(toml::from_str::<toml::Table>(text).ok()?).ok()
}

#[test]
fn valid_profiles_hold_and_every_wrong_field_of_a_full_one_is_refused() {
    for (name, text) in fixtures("valid") {
        holds(&validator(schema_of(&name)), &from_toml(&text).unwrap());
    }
    let default = from_toml(crate::profile::layers::DEFAULT_TOML).unwrap();
    holds(&validator("profile"), &default);
    for (name, text) in crate::profile::view::EMBEDDED {
        holds(&validator("view"), &from_toml(text).unwrap_or_else(|| panic!("{name}")));
    }
    for (name, text) in crate::profile::engine::EMBEDDED {
        holds(&validator("engine"), &from_toml(text).unwrap_or_else(|| panic!("{name}")));
    }
    let text = |name: &str| fixtures("valid").into_iter().find(|(n, _)| n == name).unwrap().1;
    let mut full = from_toml(&text("full.toml")).unwrap();
    let file = json!({ "approvals": { "file": "/a" } });
    let texts = [
        "allow",
        "ask",
        "command",
        "deny",
        "description",
        "file",
        "hide",
        "lift_hide",
        "lift_protect",
        "overlay",
        "protect",
        "ro",
        "rw",
        "CI",
        "EMPTY",
        "LEVEL",
        "JSON",
        "sign",
    ];
    // Counts and sizes may be text, so that "7" is no mistake there: they are checked by themselves.
    let limits = full.as_object_mut().unwrap().remove("limits").unwrap();
    let validator = validator("profile");
    tight(
        "profile",
        &[full.clone(), file],
        &FREE,
        &texts,
        &["limits", "memory", "pids", "cpus", "disk", "max_log", "max_files", "max_patch"],
    );
    for (key, wrong) in
        [("memory", json!(true)), ("pids", json!(1.5)), ("cpus", json!("many")), ("disk", json!("1X"))]
    {
        for wrong in [wrong, json!(-1), json!([])] {
            let mut limits = limits.clone();
            limits[key] = wrong;
            full["limits"] = limits;
            assert!(!validator.is_valid(&full), "{full:#}");
        }
    }
    full["limits"] = limits;
    holds(&validator, &full);
}

#[test]
fn effective_profiles_and_every_wrong_field_of_one() {
    let mut profile = crate::profile::policy::sample();
    profile.review = Some(crate::profile::policy::EffectiveReview {
        command: "true".into(),
        by: crate::profile::policy::EffectiveReviewBy::Digest,
    });
    profile.engine.required_events = vec![crate::profile::RequiredEvent {
        phase: crate::profile::Phase::Backend,
        kind: "turn.completed".into(),
        source: crate::profile::EventSource::Backend,
    }];
    profile.backend_sandbox.mounts = vec![crate::profile::policy::EffectiveMount {
        path: "/usr".into(),
        mode: crate::profile::MountMode::Ro,
        optional: true,
    }];
    profile.backend_sandbox.env_sha256 = [("CI".to_owned(), "0".repeat(64))].into();
    profile.limits.cpus = Some("1.5".into());
    let texts = ["allow", "command", "cpus", "hide", "kind", "name", "path", "protect"];
    tight("effective-profile", &[serde_json::to_value(&profile).unwrap()], &FREE, &texts, &[]);
}

/// Faults of shape are refused by the schema alone; of the others (what a value means, what the host or another key says
/// to it) it need not know.
#[test]
fn invalid_profiles_whose_fault_is_one_of_shape_are_refused() {
    let shape = [
        "approvals-mode-unknown",
        "bad-count",
        "bad-cpus",
        "bad-size",
        "config-enable-unknown",
        "config-unknown-key",
        "dashes-for-underscores",
        "empty-glob",
        "engine-event-source",
        "engine-event-type",
        "engine-no-gated",
        "key-in-wrong-table",
        "key-of-another-table",
        "layer-unknown",
        "min-level-unknown",
        "mutation-apply",
        "mutation-unknown",
        "negative-size",
        "net-proxy",
        "net-unknown",
        "option-name-as-key",
        "profile-with-config-key",
        "profile-with-config-list",
        "review-by-unknown",
        "unknown-engine",
        "unknown-key-far",
        "unknown-key-in-table",
        "unknown-table",
        "unknown-top-key",
        "view-no-description",
        "view-unknown-key",
        "view-unknown-mode",
        "wrong-type",
        "wrong-type-of-item",
        "wrong-type-of-limit",
        "wrong-type-of-table",
    ];
    let all = fixtures("invalid");
    let mut wrong = Vec::new();
    for name in shape {
        let file = format!("{name}.toml");
        let (_, text) = all.iter().find(|(n, _)| *n == file).unwrap_or_else(|| panic!("{file}"));
        let value = from_toml(text).unwrap_or_else(|| panic!("{file} is no TOML"));
        if validator(schema_of(&file)).is_valid(&value) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "accepted: {wrong:?}");
}
