//! Reports and the records of governance.

use schemars::JsonSchema as _;
use serde_json::json;

use super::{FREE, tight, validator};
use crate::governance::tests::{admission, decision, gate};
use crate::governance::{Prose, Text};
use crate::report::escape::is_deceptive;
use crate::report::{self, ChangeKind, DenialInfo, FileChange, PathText, sample};
use crate::schema::kinds;
use crate::verdict::{Blocker, BlockerCode, Status};

pub(super) fn full_change() -> FileChange {
    FileChange {
        path_b64: Some("/2E=".into()),
        old_path: Some("b".into()),
        old_path_b64: Some("/2I=".into()),
        not_in_patch: Some("a device".into()),
        ..sample::change("a", ChangeKind::Modified)
    }
}

pub(super) fn full_denial() -> DenialInfo {
    DenialInfo {
        what: "path".into(),
        address: Some("192.0.2.1:80".into()),
        blockers: vec!["fs.read_file".into()],
        path: Some("/x".into()),
        path_b64: Some("/2E=".into()),
        ..sample::report().sandbox.denials[0].clone()
    }
}

pub(super) fn blocker() -> Blocker {
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

#[test]
fn texts_of_records_are_the_same_to_the_schema_and_to_the_program() {
    let make = |schema: schemars::Schema| {
        let schema = schema.to_value();
        // As it stands in a file, whoever reads it.
        let text = crate::report::escape::json(&schema.to_string());
        assert!(!text.chars().any(is_deceptive), "{text}");
        jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
    };
    let mut generator = schemars::SchemaGenerator::default();
    let line = make(kinds::RecordText::json_schema(&mut generator));
    let prose = make(kinds::RecordProse::json_schema(&mut generator));
    let agree = |text: &str| {
        let value = json!(text);
        assert_eq!(line.is_valid(&value), Text::try_from(text).is_ok(), "line: {text:?}");
        assert_eq!(prose.is_valid(&value), Prose::try_from(text).is_ok(), "prose: {text:?}");
    };
    let beyond = (0x10000..=0x10_ffff_u32).filter(|c| {
        let near = |c: u32| char::from_u32(c).is_some_and(is_deceptive);
        c % 251 == 0 || near(c - 1) != near(*c) || near(*c) != near(c + 1)
    });
    for c in (0..0x10000).chain(beyond).filter_map(char::from_u32) {
        agree(&format!("a{c}b"));
        agree(&c.to_string());
        if c.is_whitespace() {
            agree(&format!("a{c}"));
            agree(&format!("{c}a"));
        }
    }
    for text in [
        "",
        "a",
        "a b\nc",
        "a\n",
        "\na",
        &"é".repeat(500),
        &"é".repeat(501),
        &"é".repeat(4000),
        &"é".repeat(4001),
    ] {
        agree(text);
    }
}
