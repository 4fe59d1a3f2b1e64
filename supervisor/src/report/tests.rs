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

proptest::proptest! {
    /// Whatever is read as a report is written again as it was read: no change is taken for another report's field.
    #[test]
    fn a_changed_report_is_refused_or_read_as_what_it_says(
        changes in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 0..256_u16, 0..4_u8), 1..6),
    ) {
        let mut bytes = sample::report().to_json().unwrap();
        for (at, byte, how) in changes {
            let (at, byte) = (at.index(bytes.len()), byte as u8);
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => {
                    // A piece again, where it stands: fields twice, braces that do not match.
                    let piece = bytes[at..(at + usize::from(byte)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        if let Ok(report) = Report::from_json(&bytes) {
            let again = report.to_json().unwrap();
            proptest::prop_assert_eq!(Report::from_json(&again).unwrap(), report);
        }
    }

    #[test]
    fn any_bytes_are_read_as_a_report_without_panic(bytes in proptest::collection::vec(0..=255_u8, 0..300)) {
        proptest::prop_assert!(Report::from_json(&bytes).is_err());
    }
}

#[test]
fn nesting_and_numbers_beyond_all_bounds_are_errors() {
    for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "1e999".into(), "\"\\ud800\"".into()] {
        assert!(Report::from_json(text.as_bytes()).is_err());
    }
}
