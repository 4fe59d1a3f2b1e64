//! What `proctor run` and `proctor report` print for people: verdict, why, what to do, where the evidence is.
//!
//! Plain text; readable without colour. What a backend controls is escaped.

use std::fmt::Write as _;

use super::escape::terminal as safe;
use super::units::seconds;
use super::{Report, withheld};
use crate::evidence::HTML;
use crate::verdict::Status;

/// Most blockers that are spelled out.
const SHOWN: usize = 20;
/// Most changed files that are named.
const FILES: usize = 5;
/// Most characters of one value.
const WIDE: usize = 160;

/// The summary of a run, several lines; `evidence` is where the evidence is, as text.
#[must_use]
pub fn summary(report: &Report, evidence: Option<&str>) -> String {
    let report = &*withheld::shown(report);
    let mut out = String::new();
    let verdict = match report.status {
        Status::Pass => "PASS",
        Status::Fail => "FAIL",
    };
    let stage = report.stage.as_deref().map(|stage| format!(", stage {}", safe(stage))).unwrap_or_default();
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "{verdict}  {}  engine {}{stage}, mutation {}, exit {}, took {}",
        safe(&report.run_id),
        safe(&report.engine.name),
        safe(&report.mutation_mode),
        report.exit_code,
        seconds(report.freshness.monotonic_duration_ns / 1000)
    );
    for blocker in report.blockers.iter().take(SHOWN) {
        let _ = writeln!(out, "  {}: {}", blocker.code, safe(&blocker.message));
        for line in details(&blocker.detail) {
            let _ = writeln!(out, "      {line}");
        }
        let _ = writeln!(out, "    what to do: {}", safe(&blocker.remedy));
    }
    if report.blockers.len() > SHOWN {
        let _ = writeln!(out, "  and {} more blockers", report.blockers.len() - SHOWN);
    }
    if report.quarantined {
        let _ = writeln!(out, "  quarantined: a secret stands in this evidence; do not upload or share it");
    }
    let changed = report.changed_files.len();
    let _ = writeln!(out, "  {changed} {} changed", if changed == 1 { "file" } else { "files" });
    for change in report.changed_files.iter().take(FILES) {
        let _ = writeln!(out, "      {}  {}", change.kind.as_str(), clipped(&change.path));
    }
    if changed > FILES {
        let _ = writeln!(out, "      and {} more", changed - FILES);
    }
    if !report.test_inputs_changed.is_empty() {
        let steering = report.test_inputs_changed.len();
        let steer = if steering == 1 { "steers the tests: read it" } else { "steer the tests: read them" };
        let _ = writeln!(out, "  {steering} of them {steer} before you trust the result");
    }
    if let Some(why) = &report.sandbox.why_not_full {
        let missing = report.sandbox.missing.len();
        let _ = writeln!(
            out,
            "  sandbox level landlock, with {missing} guarantees missing (see the report); level full: {}",
            safe(why)
        );
    } else {
        for missing in &report.sandbox.missing {
            let _ = writeln!(out, "  not enforced: {}", safe(missing));
        }
    }
    if let Some(evidence) = evidence {
        if report.digest_manifest.iter().any(|one| one.name == HTML) {
            let _ = writeln!(out, "  page: {}/{HTML}", safe(evidence.trim_end_matches('/')));
        }
        let _ = writeln!(out, "  evidence: {}", safe(evidence));
    }
    out
}

/// One value, of limited width.
fn clipped(text: &str) -> String {
    safe(&text.chars().take(WIDE).collect::<String>())
}

/// The first few paths or reasons of a blocker's detail.
fn details(detail: &serde_json::Value) -> Vec<String> {
    const FEW: usize = 5;
    let short = clipped;
    let mut lines = Vec::new();
    for value in detail.as_object().into_iter().flat_map(serde_json::Map::values) {
        let Some(items) = value.get("listed").and_then(serde_json::Value::as_array) else {
            continue;
        };
        let shown = items.iter().take(FEW);
        lines.extend(shown.map(|item| match item.as_object() {
            Some(map) => {
                let parts: Vec<&str> = map.values().filter_map(serde_json::Value::as_str).collect();
                short(&parts.join("  "))
            }
            None => short(item.as_str().unwrap_or_default()),
        }));
        let total = value.get("total").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let rest = total.saturating_sub(items.len().min(FEW) as u64);
        if rest > 0 {
            lines.push(format!("and {rest} more"));
        }
    }
    if let Some(why) = detail.get("why").and_then(serde_json::Value::as_str) {
        lines.push(short(why));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::report::ChangeKind;
    use crate::verdict::{Blocker, BlockerCode};
    use serde_json::json;

    #[test]
    fn a_pass_is_short() {
        let out = summary(&sample::report(), Some("/tmp/e"));
        assert_eq!(
            out,
            "PASS  r-20260601T120000-abcdef  engine fake, mutation patch, exit 0, took 5.000 s\n  1 file changed\n      modified  src/a.rs\n  \
             not enforced: memory limit (no cgroup): watched only\n  evidence: /tmp/e\n"
        );
    }

    #[test]
    fn files_are_named_a_few_of_them_and_the_page_where_there_is_one() {
        let mut report = sample::report();
        let names = (0..7).map(|n| sample::change(&format!("f{n}\x1b[2J\u{202e}\n"), ChangeKind::Added));
        report.changed_files = names.collect();
        report.test_inputs_changed = vec![crate::report::PathText { path: "f".into(), path_b64: None }];
        report.digest_manifest.push(crate::evidence::ResourceDescriptor::new(HTML, "8".repeat(64), 1));
        let out = summary(&report, Some("/tmp/e\x1b[2J/"));
        assert!(out.contains("  7 files changed\n      added  f0\\x1b[2J\\u{202e}\\n\n"), "{out}");
        assert!(out.contains("      added  f4\\x1b[2J\\u{202e}\\n\n      and 2 more\n  1 of them steers the tests: read it before"), "{out}");
        assert!(out.contains("  page: /tmp/e\\x1b[2J/report.html\n  evidence: /tmp/e\\x1b[2J/\n"), "{out}");
    }

    #[test]
    fn a_fail_says_why_and_what_to_do_and_hides_nothing_in_it() {
        let mut report = sample::report();
        report.status = Status::Fail;
        report.exit_code = 1;
        let paths: Vec<_> =
            (0..7).map(|n| json!({"path": format!("f{n}\x1b[2J"), "rule": "deny **"})).collect();
        report.blockers = vec![Blocker::new(
            BlockerCode::DisallowedFile,
            "7 changes are not allowed.",
            json!({"changes": {"listed": paths, "total": 7}}),
        )];
        let out = summary(&report, None);
        assert!(out.starts_with("FAIL  "), "{out}");
        assert!(
            out.contains("  disallowed_file: 7 changes are not allowed.\n      f0\\x1b[2J  deny **\n"),
            "{out}"
        );
        assert!(out.contains("      and 2 more\n    what to do: Have the backend leave"), "{out}");
        assert!(!out.contains('\x1b'));
    }
}
