use super::*;

#[test]
fn a_report_is_read_as_it_was_written_and_always_the_same() {
    let report = sample::report();
    let bytes = report.to_json().unwrap();
    assert_eq!(Report::from_json(&bytes).unwrap(), report);
    assert_eq!(report.to_json().unwrap(), bytes);
    assert!(bytes.starts_with(b"{\n  \"schema_version\": \"report/v1\",\n") && bytes.ends_with(b"}\n"));
}

#[test]
fn every_field_that_the_specification_names_is_there() {
    let json = serde_json::to_value(sample::report()).unwrap();
    for name in [
        "schema_version",
        "run_id",
        "run_start",
        "run_end",
        "backend_exit_code",
        "backend_signal",
        "changed_files",
        "ignored_changes",
        "git_changes",
        "test_inputs_changed",
        "blockers",
        "status",
        "artifact_paths",
        "digest_manifest",
        "freshness",
        "engine",
        "stage",
        "mutation_mode",
        "profile",
        "decision",
        "sandbox",
        "limits",
        "usage",
        "tests",
        "review",
        "approvals",
        "provider",
        "base_commit",
        "base_tree",
        "result_tree",
        "host",
    ] {
        assert!(json.get(name).is_some(), "{name}");
    }
}

#[test]
fn an_unknown_field_or_schema_is_an_error_that_says_so() {
    let mut json = serde_json::to_value(sample::report()).unwrap();
    json["extra"] = Value::from(1);
    let error = Report::from_json(json.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("unknown field `extra`") && error.contains("report/v1"), "{error}");
    let mut report = sample::report();
    report.schema_version = "report/v9".into();
    let error = Report::from_json(&report.to_json().unwrap()).unwrap_err().to_string();
    assert!(error.contains("\"report/v9\""), "{error}");
}
