//! Every record of every run of this suite is what its schema says, and `proctor schema` prints just those schemas.

use std::sync::OnceLock;

use harness::{Outcome, World, users};
use jsonschema::Validator;
use serde_json::Value;

use crate::proctor;
use crate::support::{each, fake, fixtures, passes};

struct Schemas {
    report: Validator,
    event: Validator,
    decision: Validator,
    profile: Validator,
}

fn validator(name: &str) -> Validator {
    let schema = ::proctor::schema::find(name).expect("a schema").value();
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a valid schema")
}

fn schemas() -> &'static Schemas {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    SCHEMAS.get_or_init(|| Schemas {
        report: validator("report"),
        event: validator("event"),
        decision: validator("decision"),
        profile: validator("effective-profile"),
    })
}

/// Events of a flood are alike: this many of the first and of the last are looked at.
const LOOKED_AT: usize = 2000;

fn holds(validator: &Validator, what: &str, text: &[u8]) {
    let value: Value = serde_json::from_slice(text).unwrap_or_else(|e| panic!("{what}: {e}"));
    let errors: Vec<String> =
        validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
}

/// Asserts that report, events and decision of a run are what their schemas say. What could not be written is not there.
pub(crate) fn hold(outcome: &Outcome) {
    let dir = outcome.evidence();
    let read = |name: &str| std::fs::read(dir.join(name)).ok();
    let Some(report) = read("report.json") else { return };
    holds(&schemas().report, "report.json", &report);
    let report = outcome.report();
    let written = |name: &str| {
        report["digest_manifest"].as_array().is_some_and(|list| list.iter().any(|one| one["name"] == name))
    };
    if written("decision.json") {
        holds(&schemas().decision, "decision.json", &read("decision.json").expect("a decision"));
    }
    if written("profile.json") {
        holds(&schemas().profile, "profile.json", &read("profile.json").expect("a profile"));
    }
    if written("events.normalized.jsonl") {
        let events = read("events.normalized.jsonl").expect("events");
        let lines: Vec<&[u8]> = events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let late = lines.len().saturating_sub(LOOKED_AT);
        for (number, line) in lines.iter().enumerate().filter(|(n, _)| *n < LOOKED_AT || *n >= late) {
            holds(&schemas().event, &format!("event {number}"), line);
        }
    }
}

/// A change of a real record at every place: nothing in it is looser than it must be.
#[test]
fn a_changed_record_of_a_real_run_is_refused() {
    each(|repo| {
        let outcome = fake(repo, &["--test", "sh check.sh"], "mend").run();
        passes(&outcome, repo);
        let report = outcome.report();
        for (field, wrong) in [
            ("status", Value::from("passed")),
            ("exit_code", 1.into()),
            ("run_id", "r-1".into()),
            ("run_start", "yesterday".into()),
            ("blockers", Value::from(vec![Value::from("none")])),
            ("stage", "default".into()),
            ("mutation_mode", "everything".into()),
            ("base_commit", "HEAD".into()),
        ] {
            let mut wrong_report = report.clone();
            wrong_report[field] = wrong;
            assert!(!schemas().report.is_valid(&wrong_report), "{field}");
        }
        for event in outcome.events() {
            let mut other = event.clone();
            other["trust"] = if event["trust"] == "claimed" { "observed".into() } else { "claimed".into() };
            assert!(!schemas().event.is_valid(&other), "{other}");
            let mut other = event.clone();
            other["unknown"] = 1.into();
            assert!(!schemas().event.is_valid(&other), "{other}");
            if event["source"] != "backend" {
                let mut other = event;
                other["data"]["unknown"] = 1.into();
                assert!(!schemas().event.is_valid(&other), "{other}");
            }
        }
    });
}

#[test]
fn schemas_are_listed_and_printed_as_they_are_committed() {
    let world = World::new(users()[0]);
    let listed = proctor(&world).args(["--json", "schema"]).run();
    assert_eq!(listed.code, Some(0), "{listed:#?}");
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let names: Vec<&str> =
        listed["schemas"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for name in ["report", "event", "decision", "admission", "gate", "profile"] {
        assert!(names.contains(&name), "{name}");
    }
    let plain = proctor(&world).arg("schema").run();
    assert_eq!(plain.code, Some(0));
    for name in names {
        assert!(plain.stdout.lines().any(|line| line.starts_with(name)), "{plain:#?}");
        let file = fixtures().join("../schemas").join(format!("{name}.schema.json"));
        let printed = proctor(&world).args(["schema", name]).run();
        assert_eq!(printed.code, Some(0), "{printed:#?}");
        assert_eq!(printed.stdout, std::fs::read_to_string(file).unwrap(), "{name}");
        let compact = proctor(&world).args(["schema", name, "--json"]).run();
        let compact: Value = serde_json::from_str(&compact.stdout).unwrap();
        assert_eq!(compact, serde_json::from_str::<Value>(&printed.stdout).unwrap());
    }
}

#[test]
fn an_unknown_schema_is_an_error_that_names_the_known_ones() {
    let world = World::new(users()[0]);
    let said = proctor(&world).args(["schema", "reprot\u{1b}[2J"]).run();
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said:#?}");
    assert!(said.stderr.contains("there is no schema `reprot\\x1b[2J`"), "{said:#?}");
    let said = proctor(&world).args(["schema", "reprot"]).run();
    let wanted = "(did you mean `report`?): schemas are report, event, decision, admission, gate, profile";
    assert!(said.stderr.contains(wanted), "{said:#?}");
}
