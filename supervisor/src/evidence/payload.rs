//! The supervisor's events whose particulars the verifier holds against the report: made in one place, so that
//! writer and verifier cannot drift apart. All other events are made where they happen.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::descriptor::ResourceDescriptor;
use crate::event::{EventType, NewEvent, Source, hex};
use crate::report::{DenialInfo, FileChange, Report, SandboxInfo};
use crate::verdict::{Blocker, Verdict};

/// Fields of a report that are settled after the last event, or that hold the events' own digest. Each is held
/// against something else: blockers against `blocker.raised`, the manifest against the files.
const LATE: [&str; 7] =
    ["schema_version", "status", "exit_code", "blockers", "events", "artifact_paths", "digest_manifest"];
/// Fields that are lists of paths, which may be long and name what nobody chose to log again.
const BY_DIGEST: [&str; 4] = ["changed_files", "ignored_changes", "git_changes", "test_inputs_changed"];
/// The longest field, bytes of JSON, that stands in `run.finished` as it is: all of them fit into one event.
const MAX_FIELD: usize = 2048;

/// `run.started`: the first event. `nonce` and `base_commit` are what the report's freshness must say again.
#[must_use]
pub fn run_started(nonce: &str, engine: &str, stage: Option<&str>, mutation_mode: &str) -> NewEvent {
    NewEvent::new(EventType::RunStarted, Source::Supervisor)
        .with("nonce", nonce)
        .with("engine", engine)
        .with("stage", stage.map_or(Value::Null, Value::from))
        .with("mutation_mode", mutation_mode)
}

/// `sandbox.ready`: what is enforced, as the report says it again.
#[must_use]
pub fn sandbox_ready(sandbox: &SandboxInfo) -> NewEvent {
    let names: Vec<&str> = sandbox.mechanisms.iter().map(|one| one.name.as_str()).collect();
    NewEvent::new(EventType::SandboxReady, Source::Supervisor)
        .with("level", sandbox.level.as_deref().map_or(Value::Null, Value::from))
        .with("why_not_full", sandbox.why_not_full.clone())
        .with("mechanisms", names)
        .with("missing", sandbox.missing.clone())
        .with("network", sandbox.network.as_str())
}

/// `backend.exited`: `exit_code` is null where a signal ended it.
#[must_use]
pub fn backend_exited(exit_code: Option<i32>, signal: Option<i32>) -> NewEvent {
    ended(EventType::BackendExited, Source::Supervisor, exit_code, signal)
}

/// `test.completed` of the supervisor's own run; `status` is `completed` on exit 0, else `failed`.
#[must_use]
pub fn test_completed(exit_code: Option<i32>, signal: Option<i32>) -> NewEvent {
    let status = if exit_code == Some(0) { "completed" } else { "failed" };
    ended(EventType::TestCompleted, Source::Test, exit_code, signal).with("status", status)
}

/// `review.completed` of the supervisor's own run of the reviewer.
#[must_use]
pub fn review_completed(accepted: bool, exit_code: Option<i32>, signal: Option<i32>) -> NewEvent {
    ended(EventType::ReviewCompleted, Source::Reviewer, exit_code, signal)
        .with("accepted", accepted)
        .with("status", "completed")
}

fn ended(event_type: EventType, source: Source, exit_code: Option<i32>, signal: Option<i32>) -> NewEvent {
    NewEvent::new(event_type, source)
        .with("exit_code", exit_code.map_or(Value::Null, Value::from))
        .with("signal", signal.map_or(Value::Null, Value::from))
}

/// `file.changed`, observed from the upper layer: one for each of the report's `changed_files`, with its fields.
#[must_use]
pub fn file_changed(change: &FileChange) -> NewEvent {
    let mut event = NewEvent::new(EventType::FileChanged, Source::Supervisor);
    event.data = file_changed_data(change);
    event
}

/// The particulars of [`file_changed`] before they are bounded.
#[must_use]
pub fn file_changed_data(change: &FileChange) -> Map<String, Value> {
    match serde_json::to_value(change) {
        Ok(Value::Object(map)) => map,
        // A struct of strings and numbers always becomes an object.
        Ok(_) | Err(_) => Map::new(),
    }
}

/// `policy.denied` of something refused inside a sandbox: one for each of the report's `sandbox.denials`, with its
/// fields.
#[must_use]
pub fn policy_denied(denial: &DenialInfo) -> NewEvent {
    let mut event = NewEvent::new(EventType::PolicyDenied, Source::Supervisor);
    event.data = policy_denied_data(denial);
    event
}

/// The particulars of [`policy_denied`] before they are bounded.
#[must_use]
pub fn policy_denied_data(denial: &DenialInfo) -> Map<String, Value> {
    match serde_json::to_value(denial) {
        Ok(Value::Object(map)) => map,
        // As above.
        Ok(_) | Err(_) => Map::new(),
    }
}

/// `artifact.written`.
#[must_use]
pub fn artifact_written(artifact: &ResourceDescriptor) -> NewEvent {
    NewEvent::new(EventType::ArtifactWritten, Source::Supervisor)
        .with("name", artifact.name.as_str())
        .with("sha256", artifact.digest.sha256.as_str())
        .with("size", artifact.annotations.size)
}

/// `blocker.raised`: one for each blocker of the verdict, before `run.finished`.
#[must_use]
pub fn blocker_raised(blocker: &Blocker) -> NewEvent {
    NewEvent::new(EventType::BlockerRaised, Source::Supervisor)
        .with("code", blocker.code.as_str())
        .with("message", blocker.message.as_str())
        .with("detail", blocker.detail.clone())
        .with("remedy", blocker.remedy.as_str())
}

/// `run.finished`: the last event. `report` is the report as it stands then; `defects` is how many defects of Proctor
/// itself were met.
#[must_use]
pub fn run_finished(verdict: &Verdict, report: &Report, defects: usize) -> NewEvent {
    let codes: Vec<Value> = verdict.blockers.iter().map(|blocker| blocker.code.as_str().into()).collect();
    NewEvent::new(EventType::RunFinished, Source::Supervisor)
        .with("status", verdict.status.as_str())
        .with("blockers", codes)
        .with("exit", verdict.exit.code())
        .with("defects", defects)
        .with("left_out", report.events.left_out)
        .with("report", report_fields(report))
}

/// Every field of a report that no longer changes when `run.finished` is written: short ones as they are, long ones
/// and lists of paths as length and SHA-256 of their JSON. So the log holds the whole report, and an edited one shows.
#[must_use]
pub fn report_fields(report: &Report) -> Map<String, Value> {
    let Ok(Value::Object(fields)) = serde_json::to_value(report) else {
        // A report always becomes an object; an empty map agrees with no log.
        return Map::new();
    };
    let held = |(name, value): (String, Value)| {
        let text = value.to_string();
        let whole = text.len() <= MAX_FIELD && !BY_DIGEST.contains(&name.as_str());
        let value = if whole {
            value
        } else {
            json!({ "json_bytes": text.len(), "json_sha256": hex::encode(&Sha256::digest(text.as_bytes())) })
        };
        (name, value)
    };
    fields.into_iter().filter(|(name, _)| !LATE.contains(&name.as_str())).map(held).collect()
}
