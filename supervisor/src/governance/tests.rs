//! Records are read back as they were written, and nothing that breaks a rule is a record.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const RUN: &str = "r-20260601T120000-abcdef";
const AT: &str = "2026-06-01T12:00:00.000001Z";

pub(crate) fn decision() -> Decision {
    Decision {
        schema_version: Decision::SCHEMA.into(),
        kind: DecisionKind::Recorded,
        run_id: Some(RUN.try_into().unwrap()),
        decided_at: AT.try_into().unwrap(),
        decided_by: "Ann Example".try_into().unwrap(),
        selected_backend: "codex".try_into().unwrap(),
        source_id: Some("1".repeat(64).try_into().unwrap()),
        denied_backends: vec![DeniedBackend {
            backend: "case".try_into().unwrap(),
            reasons: vec!["its source is not admitted".try_into().unwrap()],
        }],
        stage: Some(Stage::CopiedRepoFixture),
        risk_class: Some(RiskClass::Medium),
        required_gates: vec![Stage::GatedEngine, Stage::ArtificialFixture],
        allowed_mutation_mode: MutationMode::Patch,
        reasons: vec!["it passed the gates".try_into().unwrap()],
        escalation_path: vec!["the operator".try_into().unwrap()],
        recommendations: vec![Recommendation {
            backend: "case".try_into().unwrap(),
            text: "take me".try_into().unwrap(),
            run_id: Some(RUN.try_into().unwrap()),
        }],
        expires_at: Some("2026-07-01T12:00:00.000001Z".try_into().unwrap()),
    }
}

pub(crate) fn admission() -> Admission {
    Admission {
        schema_version: Admission::SCHEMA.into(),
        engine: "case".try_into().unwrap(),
        source_id: "1".repeat(64).try_into().unwrap(),
        previous_source_id: Some("2".repeat(64).try_into().unwrap()),
        source_url: "https://example.invalid/case.git".try_into().unwrap(),
        pinned: Pin {
            commit: Some("3".repeat(40).try_into().unwrap()),
            tag: Some("v1.2.3".try_into().unwrap()),
        },
        license_note: "MIT, with its NOTICE".try_into().unwrap(),
        retrieval_date: AT.try_into().unwrap(),
        retrieval_command: "git clone --depth 1 https://example.invalid/case.git".try_into().unwrap(),
        integrity: Integrity {
            sha256: Some("1".repeat(64).try_into().unwrap()),
            source_lock: Some(SourceLock {
                reference: "package-lock.json".try_into().unwrap(),
                sha256: "4".repeat(64).try_into().unwrap(),
            }),
        },
        allowed_execution_mode: ExecutionMode::ArtificialOnly,
        protected_source_boundary: Boundary {
            note: "the vendor's source is not changed".try_into().unwrap(),
            paths: vec!["src".try_into().unwrap()],
        },
        admitted_at: "2026-06-02T12:00:00.000001Z".try_into().unwrap(),
        admitted_by: "Ann Example".try_into().unwrap(),
    }
}

pub(crate) fn gate() -> GateRecord {
    GateRecord {
        schema_version: GateRecord::SCHEMA.into(),
        kind: GateKind::Exit,
        stage: Stage::ArtificialFixture,
        engine: "case".try_into().unwrap(),
        source_id: Some("1".repeat(64).try_into().unwrap()),
        outcome: Some(GateOutcome::Promoted),
        evidence: vec![GateEvidence {
            run_id: RUN.try_into().unwrap(),
            report_sha256: "5".repeat(64).try_into().unwrap(),
            signed_by: "key 1".try_into().unwrap(),
        }],
        operator: "Ann Example".try_into().unwrap(),
        at: AT.try_into().unwrap(),
        nonce: "00".repeat(16).try_into().unwrap(),
        reason: "all rows agree".try_into().unwrap(),
        previous: Some("6".repeat(64).try_into().unwrap()),
    }
}

fn round_trips<T: Record + PartialEq + std::fmt::Debug>(record: &T) {
    let bytes = record.to_bytes().unwrap();
    assert_eq!(&T::parse(&bytes).unwrap(), record);
    let mut value: Value = serde_json::from_slice(&bytes).unwrap();
    let keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    for key in keys {
        let was = value.as_object_mut().unwrap().remove(&key).unwrap();
        assert!(T::parse(value.to_string().as_bytes()).is_err(), "{} without {key}", T::NAME);
        value[&key] = was;
    }
    value["no_such_field"] = json!(1);
    let error = T::parse(value.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("is no {}: unknown field `no_such_field`", T::SCHEMA)), "{error}");
    assert!(error.ends_with(&format!("`proctor schema {}` shows what it must be", T::NAME)), "{error}");
    value.as_object_mut().unwrap().remove("no_such_field");
    value["schema_version"] = json!("x/v9");
    let error = T::parse(value.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("has schema_version \"x/v9\", this version of Proctor reads"), "{error}");
    let twice = String::from_utf8(bytes).unwrap().replacen('{', "{\"schema_version\":\"x\",", 1);
    assert!(T::parse(twice.as_bytes()).unwrap_err().to_string().contains("duplicate field"));
    let error = T::parse(&vec![b' '; MAX_RECORD + 1]).unwrap_err().to_string();
    assert!(error.contains("has 1048577 bytes, more than the 1048576 that a record may have"), "{error}");
}

#[test]
fn records_are_read_back_as_they_were_written_and_strictly() {
    round_trips(&decision());
    round_trips(&admission());
    round_trips(&gate());
    round_trips(&Decision::ungoverned(RUN, AT, "fake", MutationMode::Discard).unwrap());
}

/// Breaks one thing, and holds the words of the refusal.
fn breaks<T: Record>(record: T, edit: impl FnOnce(&mut T), why: &str) {
    let mut record = record;
    edit(&mut record);
    let error = record.check().unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    // Neither is it written, nor read.
    assert!(record.to_bytes().is_err());
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(T::parse(text.as_bytes()).err().map(|e| e.to_string()), Some(error));
}

#[test]
fn a_decision_keeps_its_rules() {
    breaks(
        decision(),
        |d| d.allowed_mutation_mode = MutationMode::Apply,
        "copied-repo-fixture allows patch at most",
    );
    breaks(
        decision(),
        |d| d.decided_by = "codex".try_into().unwrap(),
        "a backend: none decides about itself",
    );
    breaks(decision(), |d| d.decided_by = "case".try_into().unwrap(), "a backend: none decides about itself");
    breaks(
        decision(),
        |d| d.denied_backends[0].backend = "codex".try_into().unwrap(),
        "is selected or named twice",
    );
    breaks(decision(), |d| d.denied_backends[0].reasons.clear(), "gives no reason for case");
    breaks(decision(), |d| d.reasons.clear(), "reasons are empty");
    breaks(decision(), |d| d.escalation_path.clear(), "escalation_path is empty");
    breaks(decision(), |d| d.expires_at = None, "expires_at is missing");
    breaks(decision(), |d| d.expires_at = Some(d.decided_at.clone()), "expires_at is not after decided_at");
    breaks(decision(), |d| d.stage = None, "stage is missing in a decision that is recorded");
    breaks(decision(), |d| d.risk_class = None, "risk_class is missing");
    breaks(decision(), |d| d.required_gates.reverse(), "are not in the order of stages");
    breaks(decision(), |d| d.required_gates = vec![Stage::CandidateDefault], "does not come before");
    breaks(decision(), |d| d.kind = DecisionKind::Ungoverned, "kind is ungoverned, and it names a stage");
    breaks(
        decision(),
        |d| {
            d.kind = DecisionKind::Computed;
            d.run_id = None;
        },
        "run_id is missing in a decision that is computed",
    );
    let many = vec!["x".try_into().unwrap(); MAX_LIST + 1];
    breaks(decision(), |d| d.reasons = many, "reasons has 1001 entries, more than 1000");
}

#[test]
fn an_admission_keeps_its_rules() {
    breaks(admission(), |a| a.pinned = Pin { commit: None, tag: None }, "neither a commit nor a tag");
    breaks(
        admission(),
        |a| a.integrity = Integrity { sha256: None, source_lock: None },
        "neither a digest nor a source lock",
    );
    breaks(admission(), |a| a.previous_source_id = Some(a.source_id.clone()), "is the source_id itself");
    breaks(admission(), |a| a.admitted_by = "case".try_into().unwrap(), "none admits itself");
    breaks(
        admission(),
        |a| a.admitted_at = "2026-05-01T12:00:00.000001Z".try_into().unwrap(),
        "before retrieval_date",
    );
    for path in ["/etc", "../x", "a//b", "a/./b"] {
        let path: Text = path.try_into().unwrap();
        breaks(
            admission(),
            |a| a.protected_source_boundary.paths = vec![path],
            "no relative path within the source",
        );
    }
}

#[test]
fn a_gate_keeps_its_rules() {
    breaks(gate(), |g| g.evidence.clear(), "nothing is promoted without");
    breaks(gate(), |g| g.evidence.push(g.evidence[0].clone()), "names a run twice");
    breaks(gate(), |g| g.operator = "case".try_into().unwrap(), "none opens its own gate");
    breaks(gate(), |g| g.source_id = None, "source_id is missing at artificial-fixture");
    breaks(gate(), |g| g.outcome = None, "outcome is missing in an exit");
    breaks(gate(), |g| g.kind = GateKind::Entry, "stands in an entry");
    breaks(gate(), |g| g.stage = Stage::CandidateDefault, "no stage follows the last one");
}

#[test]
fn texts_that_hide_or_steer_or_carry_secrets_are_none() {
    for text in ["", " x", "x ", "a\nb", "a\u{1b}[2Jb", "a\u{202e}b", "a\u{200b}b", "a\0b"] {
        assert!(Text::try_from(text).is_err(), "{text:?}");
    }
    assert!(Text::try_from("x".repeat(501)).is_err() && Text::try_from("é".repeat(500)).is_ok());
    assert!(Prose::try_from("a\nb").is_ok() && Prose::try_from("a\rb").is_err());
    for url in [
        "https://user:token@example.invalid/x",
        "https://user@example.invalid/x",
        "http://example.invalid/x",
        "ext::sh -c x",
        "https://",
        "https:///x",
        "https://example.invalid/a b",
        "file://x@y/",
        "https://example.invalid/\u{202e}",
    ] {
        let error = SourceUrl::try_from(url).unwrap_err();
        assert!(error.contains("URL without user info"), "{url}: {error}");
    }
    for url in ["https://example.invalid/x.git", "ssh://example.invalid/x", "file:///srv/x", "git://h:9418/x"]
    {
        assert!(SourceUrl::try_from(url).is_ok(), "{url}");
    }
    for tag in ["", "-x", "a..b", "a/.b", "a.lock", "a b", "a\\b", "/a", "a/", "x@{1}"] {
        assert!(Tag::try_from(tag).is_err(), "{tag}");
    }
    for name in ["", "Case", "-case", "ca se", "../case"] {
        assert!(EngineId::try_from(name).is_err(), "{name}");
    }
    for nonce in ["", "00", "0g00000000000000", "000000000000000", "AA00000000000000"] {
        assert!(Nonce::try_from(nonce).is_err(), "{nonce}");
    }
}

#[test]
fn stages_and_modes_are_in_order_and_what_serde_writes() {
    assert!(Stage::ALL.is_sorted() && MutationMode::ALL.is_sorted());
    for stage in Stage::ALL {
        assert_eq!(serde_json::to_value(stage).unwrap(), stage.as_str());
    }
    for mode in MutationMode::ALL {
        assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
    }
    assert!(Stage::ALL.map(Stage::widest).is_sorted());
}

fn text() -> impl Strategy<Value = Text> {
    "[!-~é][ -~éß]{0,30}[!-~]".prop_filter_map("text", |text| Text::try_from(text).ok())
}

fn digest() -> impl Strategy<Value = Digest> {
    "[0-9a-f]{64}".prop_map(|text| text.try_into().unwrap())
}

prop_compose! {
    fn decisions()(
        kind in prop_oneof![Just(DecisionKind::Computed), Just(DecisionKind::Recorded)],
        stage in prop::sample::select(Stage::ALL.to_vec()),
        mode in prop::sample::select(MutationMode::ALL.to_vec()),
        reasons in prop::collection::vec(text(), 1..5),
        path in prop::collection::vec(text(), 1..3),
        source_id in prop::option::of(digest()),
        denied in prop::collection::vec(text(), 1..4),
    ) -> Decision {
        Decision {
            kind,
            stage: Some(stage),
            allowed_mutation_mode: mode.min(stage.widest()),
            required_gates: Stage::ALL.into_iter().filter(|one| *one < stage).collect(),
            reasons,
            escalation_path: path,
            source_id,
            denied_backends: vec![DeniedBackend { backend: "pi".try_into().unwrap(), reasons: denied }],
            ..decision()
        }
    }
}

proptest! {
    #[test]
    fn any_valid_decision_round_trips(decision in decisions()) {
        let bytes = decision.to_bytes().unwrap();
        prop_assert_eq!(Decision::parse(&bytes).unwrap(), decision);
    }

    #[test]
    fn any_bytes_and_any_changed_byte_are_read_without_panic(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        fn changed<T: Record>(record: &T, at: prop::sample::Index, with: u8) {
            let mut bytes = record.to_bytes().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = with;
            // Whatever is read keeps the rules, and is written again.
            if let Ok(read) = T::parse(&bytes) {
                assert!(read.to_bytes().is_ok());
            }
        }
        let _ = (Decision::parse(&noise), Admission::parse(&noise), GateRecord::parse(&noise));
        changed(&decision(), at, with);
        changed(&admission(), at, with);
        changed(&gate(), at, with);
    }
}
