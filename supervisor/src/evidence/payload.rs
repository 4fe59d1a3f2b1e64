//! The supervisor's events whose particulars the verifier holds against the report: made in one place, so that
//! writer and verifier cannot drift apart. All other events are made where they happen.

use serde_json::{Map, Value};

use super::descriptor::ResourceDescriptor;
use crate::event::{EventType, NewEvent, Source};
use crate::report::FileChange;
use crate::verdict::{Blocker, Verdict};

/// `run.started`: the first event. `nonce` and `base_commit` are what the report's freshness must say again.
#[must_use]
pub fn run_started(nonce: &str, engine: &str, stage: Option<&str>, mutation_mode: &str) -> NewEvent {
    NewEvent::new(EventType::RunStarted, Source::Supervisor)
        .with("nonce", nonce)
        .with("engine", engine)
        .with("stage", stage.map_or(Value::Null, Value::from))
        .with("mutation_mode", mutation_mode)
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
}

/// `run.finished`: the last event.
#[must_use]
pub fn run_finished(verdict: &Verdict) -> NewEvent {
    let codes: Vec<Value> = verdict.blockers.iter().map(|blocker| blocker.code.as_str().into()).collect();
    NewEvent::new(EventType::RunFinished, Source::Supervisor)
        .with("status", verdict.status.as_str())
        .with("blockers", codes)
        .with("exit", verdict.exit.code())
}
