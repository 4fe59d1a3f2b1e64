//! Whether the report says field by field what the events, the decision and the artifacts' sizes say. Verdict, changes
//! and patch are compared in `agree`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::super::{DECISION, EVENTS, REPORT, REPORT_DIGEST, REVIEW_LOG, STDERR, STDOUT, UNNAMED, payload};
use super::agree::Out;
use super::seen::{Ended, Held, Seen};
use super::{Contents, ProblemKind};
use crate::changes::classify::steers_tests;
use crate::governance::Stage;
use crate::report::{PathText, Report, ReviewStatus, TestStatus};
use crate::verdict::{BlockerCode, Status};

/// Longest value that a problem shows, characters.
const SHOWN: usize = 100;
/// What the search for secrets adds to the guarantees that were not to be had, once the sandbox is gone.
const ADDED_LATER: &str = "search for the passed variable ";

pub(super) fn check(report: &Report, contents: &Contents, out: &mut Out<'_>) {
    itself(report, out);
    decision(report, contents, out);
    let calls = contents.events.as_ref().map(|(summary, _)| &summary.calls);
    super::traced::check(report, contents.trace.as_ref(), calls, out);
    if let Some((_, seen)) = &contents.events {
        started(report, seen, out);
        backend(report, seen, out);
        sandbox(report, seen, out);
        commands(report, seen, out);
        approvals(report, seen, out);
        raised(seen, out);
        finished(report, seen, out);
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

fn differ(out: &mut Out<'_>, field: &str, artifact: &str, report: &Value, other: &Value) {
    if report != other {
        let (here, there) = (shown(report), shown(other));
        out.add(REPORT, format!("{field} is {here}, {artifact} says {there}"));
    }
}

/// What follows from other fields, and from the artifacts' sizes.
fn itself(report: &Report, out: &mut Out<'_>) {
    let exact = |path: &str, b64: Option<&String>| match b64 {
        None => Some(path.as_bytes().to_vec()),
        Some(b64) => STANDARD.decode(b64).ok(),
    };
    let steering: Vec<Vec<u8>> = report
        .changed_files
        .iter()
        .filter_map(|change| exact(&change.path, change.path_b64.as_ref()))
        .filter(|path| steers_tests(path))
        .collect();
    let said: Vec<Vec<u8>> =
        report.test_inputs_changed.iter().filter_map(|one| exact(&one.path, one.path_b64.as_ref())).collect();
    if steering != said || said.len() != report.test_inputs_changed.len() {
        let names = |paths: &[Vec<u8>]| {
            Value::from(paths.iter().map(|path| String::from_utf8_lossy(path)).collect::<Vec<_>>())
        };
        differ(out, "test_inputs_changed", "changed_files", &names(&said), &names(&steering));
        if names(&said) == names(&steering) {
            out.add(REPORT, "test_inputs_changed does not follow from changed_files");
        }
    }
    let odd = |one: &PathText| {
        one.path_b64.as_ref().is_some_and(|b64| {
            !STANDARD.decode(b64).is_ok_and(|bytes| {
                std::str::from_utf8(&bytes).is_err() && String::from_utf8_lossy(&bytes) == one.path
            })
        })
    };
    let lists = [&report.ignored_changes, &report.git_changes.paths, &report.test_inputs_changed];
    if lists.into_iter().flatten().any(odd) {
        out.add(REPORT, "a path_b64 does not fit its path");
    }
    for name in [REPORT, REPORT_DIGEST] {
        if !report.artifact_paths.contains_key(name) {
            out.add(REPORT, format!("artifact_paths does not say where {name:?} is"));
        }
    }
    for (name, path) in report.artifact_paths.iter().filter(|(name, _)| UNNAMED.contains(&name.as_str())) {
        if name != path {
            out.add(REPORT, format!("artifact_paths says that {name:?} is {path:?}"));
        }
    }
    let size = |name: &str| {
        report.digest_manifest.iter().find(|one| one.name == name).map(|one| one.annotations.size)
    };
    if let (Some(usage), Some(stdout), Some(stderr)) =
        (report.usage.get("backend"), size(STDOUT), size(STDERR))
    {
        let output = Value::from(stdout.saturating_add(stderr));
        differ(out, "usage.backend.output", "the raw logs' size", &Value::from(usage.output), &output);
    }
}

fn decision(report: &Report, contents: &Contents, out: &mut Out<'_>) {
    if let Some(decision) = &contents.decision {
        for (field, here, there) in [
            ("run_id", Some(report.run_id.as_str()), decision.run_id.as_ref().map(|id| id.as_str())),
            ("decision.kind", Some(report.decision.kind.as_str()), Some(decision.kind.as_str())),
            ("engine.name", Some(report.engine.name.as_str()), Some(decision.selected_backend.as_str())),
            ("stage", report.stage.as_deref(), decision.stage.map(Stage::as_str)),
            (
                "mutation_mode",
                Some(report.mutation_mode.as_str()),
                Some(decision.allowed_mutation_mode.as_str()),
            ),
        ] {
            differ(out, field, DECISION, &Value::from(here), &Value::from(there));
        }
    }
    if let Some((_, seen)) = &contents.events {
        let kinds =
            Value::from(seen.decisions.iter().map(|kind| Value::from(kind.clone())).collect::<Vec<_>>());
        let kind = Value::from(vec![report.decision.kind.as_str()]);
        differ(out, "decision.kind", "decision.recorded", &kind, &kinds);
    }
}

fn started(report: &Report, seen: &Seen, out: &mut Out<'_>) {
    let profile =
        |name: &str| seen.started.get("profile").and_then(|one| one.get(name)).unwrap_or(&Value::Null);
    let of = |name: &str| seen.started.get(name).unwrap_or(&Value::Null);
    for (field, here, there) in [
        ("profile.name", Some(&report.profile.name), profile("name")),
        ("profile.digest", Some(&report.profile.digest), profile("digest")),
        ("task_sha256", report.task_sha256.as_ref(), of("task_sha256")),
        ("base_commit", report.base_commit.as_ref(), of("base_commit")),
        ("base_tree", report.base_tree.as_ref(), of("base_tree")),
    ] {
        differ(out, field, "run.started", &Value::from(here.cloned()), there);
    }
}

/// What was started.
fn backend(report: &Report, seen: &Seen, out: &mut Out<'_>) {
    if seen.backend_started.len() > 1 {
        out.add(EVENTS, "has more than one backend.started");
    }
    let mut argv = Map::new();
    argv.insert("argv".to_owned(), Value::from(report.engine.argv.clone()));
    let argv = crate::event::bounded(argv).remove("argv").unwrap_or(Value::Null);
    for started in &seen.backend_started {
        let of = |name: &str| started.get(name).unwrap_or(&Value::Null);
        differ(out, "engine.argv", "backend.started", &argv, of("argv"));
        differ(
            out,
            "engine.name",
            "backend.started",
            &Value::from(report.engine.name.as_str()),
            of("engine"),
        );
    }
}

fn sandbox(report: &Report, seen: &Seen, out: &mut Out<'_>) {
    // A sandbox in which the program could not be executed was made and gave no backend.
    let idle = seen.sandboxes.iter().filter(|one| one.contains_key("program")).count();
    if idle > 1 || (idle > 0 && !seen.backend_started.is_empty()) {
        out.add(EVENTS, "has a sandbox whose program was not executed beside a backend that was started");
    }
    let ready: Vec<&Map<String, Value>> =
        seen.sandboxes.iter().filter(|one| !one.contains_key("program")).collect();
    let said = &report.sandbox;
    let (Some(ready), 1) = (ready.first(), ready.len()) else {
        if said.level.is_some() || !ready.is_empty() {
            out.add(
                REPORT,
                format!(
                    "sandbox.level is {}, and there are {} events sandbox.ready",
                    shown(&Value::from(said.level.clone())),
                    ready.len()
                ),
            );
        } else if !said.mechanisms.is_empty() {
            out.add(REPORT, "sandbox.mechanisms names some, and there is no event sandbox.ready");
        }
        return;
    };
    let missing: Vec<&str> =
        said.missing.iter().map(String::as_str).filter(|one| !one.starts_with(ADDED_LATER)).collect();
    let names: Vec<&str> = said.mechanisms.iter().map(|one| one.name.as_str()).collect();
    for (field, here) in [
        ("level", Value::from(said.level.clone())),
        ("why_not_full", Value::from(said.why_not_full.clone())),
        ("mechanisms", Value::from(names)),
        ("missing", Value::from(missing)),
        ("network", Value::from(said.network.as_str())),
    ] {
        let there = ready.get(field).unwrap_or(&Value::Null);
        differ(out, &format!("sandbox.{field}"), "sandbox.ready", &here, there);
    }
}

/// The commands of test and review, and how the reviewer ended.
fn commands(report: &Report, seen: &Seen, out: &mut Out<'_>) {
    let bounded = |command: &Option<String>| {
        let mut data = Map::new();
        data.insert("command".to_owned(), Value::from(command.clone()));
        crate::event::bounded(data).remove("command").unwrap_or(Value::Null)
    };
    for command in &seen.test_started {
        let there = Value::from(command.clone());
        differ(out, "tests.command", "test.started", &bounded(&report.tests.command), &there);
    }
    if seen.test_started.is_empty() && !seen.test.is_empty() {
        out.add(EVENTS, "has a test.completed and no test.started");
    }
    let review = &report.review;
    let asked = !matches!(review.status, ReviewStatus::Off | ReviewStatus::NotRun);
    if asked != (seen.review_started.len() == 1) || seen.review_started.len() > 1 {
        let (status, count) = (review.status, seen.review_started.len());
        out.add(REPORT, format!("review.status is {status:?}, and there are {count} events review.started"));
    }
    for (command, patch) in &seen.review_started {
        let there = Value::from(command.clone());
        differ(out, "review.command", "review.started", &bounded(&review.command), &there);
        // A review that was not reached after all has seen none.
        if review.patch_sha256.is_some() || asked {
            let here = Value::from(review.patch_sha256.clone());
            differ(out, "review.patch_sha256", "review.started", &here, &Value::from(patch.clone()));
        }
    }
    if !seen.review_started.is_empty() && !report.digest_manifest.iter().any(|one| one.name == REVIEW_LOG) {
        out.add(REVIEW_LOG, "there was a review, and the manifest does not name its log");
    }
    let ended: Vec<Option<i64>> = seen.review_ended.iter().map(|one: &Ended| one.exit_code).collect();
    let there = ended.first().copied().flatten();
    if ended.len() > 1 {
        out.add(EVENTS, "has more than one review.completed");
    }
    let here = review.exit_code.map(i64::from);
    differ(out, "review.exit_code", "review.completed", &Value::from(here), &Value::from(there));
    if review.status == ReviewStatus::Accepted && review.command.is_none() {
        out.add(REPORT, "an accepting review has no command");
    }
    if matches!(report.tests.status, TestStatus::Passed | TestStatus::Failed)
        && report.tests.command.is_none()
    {
        out.add(REPORT, "the tests ran and have no command");
    }
}

fn approvals(report: &Report, seen: &Seen, out: &mut Out<'_>) {
    held(&seen.refusals, "sandbox.denials", "something refused", out);
    held(&seen.answers, "approvals", "an approval", out);
    if report.status != Status::Pass {
        return;
    }
    let requests = &seen.requests;
    if requests.too_many {
        out.add(EVENTS, "has more requests for approval open at once than are looked at");
    }
    for (count, what) in [
        (requests.unanswered(), "requests for approval have no answer"),
        (requests.unasked, "answers to a request for approval follow no such request"),
    ] {
        if count > 0 {
            out.add(EVENTS, format!("the status is pass, but {count} {what}"));
        }
    }
}

/// Blockers, but for those that came to light after the last event.
fn raised(seen: &Seen, out: &mut Out<'_>) {
    if seen.raised.surplus_count > 0 {
        out.add(
            EVENTS,
            format!(
                "raises {} blockers that the report does not have as they are: {}",
                seen.raised.surplus_count,
                first(seen.raised.surplus.iter().map(String::as_str))
            ),
        );
    }
    let late = |data: &str| {
        let code = serde_json::from_str::<Value>(data).ok();
        let code = code.as_ref().and_then(|one| one.get("code")).and_then(Value::as_str);
        code.and_then(BlockerCode::from_name).is_some_and(|code| super::agree::LATE.contains(&code))
    };
    let unseen: Vec<&str> = seen.raised.unseen().filter(|one| !late(one)).collect();
    if !unseen.is_empty() {
        let (count, first) = (unseen.len(), first(unseen.into_iter()));
        out.add(REPORT, format!("{count} of blockers have no blocker.raised like them: {first}"));
    }
}

fn held(held: &Held, field: &str, what: &str, out: &mut Out<'_>) {
    if held.surplus_count > 0 {
        let first = first(held.surplus.iter().map(String::as_str));
        let count = held.surplus_count;
        out.add(EVENTS, format!("has {count} events of {what} that the report does not have so: {first}"));
    }
    let unseen = held.unseen().count();
    if unseen > 0 {
        out.add(
            REPORT,
            format!("{unseen} of {field} stand in no event as they are: {}", first(held.unseen())),
        );
    }
}

fn first<'a>(mut list: impl Iterator<Item = &'a str>) -> String {
    list.next().unwrap_or_default().chars().take(2 * SHOWN).collect()
}

/// The whole report as it stood at the last event.
fn finished(report: &Report, seen: &Seen, out: &mut Out<'_>) {
    let here = payload::report_fields(report);
    let Some(there) = seen.finished.get("report").and_then(Value::as_object) else {
        out.add(EVENTS, "run.finished does not say what the report said");
        return;
    };
    let names: std::collections::BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    for name in names {
        let (one, other) = (here.get(name), there.get(name));
        if one != other {
            let null = Value::Null;
            leaf(name.clone(), one.unwrap_or(&null), other.unwrap_or(&null), out);
        }
    }
    let left_out = Value::from(report.events.left_out);
    let said = seen.finished.get("left_out").unwrap_or(&Value::Null);
    differ(out, "events.left_out", "run.finished", &left_out, said);
    let defects = seen.finished.get("defects").and_then(Value::as_u64);
    let defect = report.exit_code == crate::exit::ExitCode::Defect.code();
    if defects.is_none_or(|count| (count > 0) != defect) {
        out.0.add(
            ProblemKind::Disagreement,
            REPORT,
            format!("the exit code is {}, run.finished counts {defects:?} defects", report.exit_code),
        );
    }
}

/// The first place where two values differ.
fn leaf(field: String, here: &Value, there: &Value, out: &mut Out<'_>) {
    match (here, there) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            if let Some((name, a, b)) =
                one.iter().zip(other.values()).map(|((name, a), b)| (name, a, b)).find(|(_, a, b)| a != b)
            {
                leaf(format!("{field}.{name}"), a, b, out);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            if let Some((at, (a, b))) = one.iter().zip(other).enumerate().find(|(_, (a, b))| a != b) {
                leaf(format!("{field}[{at}]"), a, b, out);
            }
        }
        _ => differ(out, &field, "run.finished", here, there),
    }
}
