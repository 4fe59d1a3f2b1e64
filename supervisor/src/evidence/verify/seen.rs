//! What the event log says of the things that the report says too; gathered while the log is read.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::payload;
use crate::event::{Event, EventType, Source, bounded, parse_micros};
use crate::report::{FileChange, Report};
use crate::verdict::BlockerCode;

/// Most streams that native pointers may name.
const MAX_STREAMS: usize = 64;
/// Most requests for approval that may stand open at once.
const MAX_OPEN: usize = 10_000;
/// Most of what should be there once that is remembered, to show that there is more than one.
const MAX_ONCE: usize = 8;
/// Most artifacts that events may speak of.
const MAX_WRITTEN: usize = 1000;

/// The steps of a run in the order in which a pass has them. Each follows the end of the one before it.
pub(super) const STEPS: [(EventType, Source); 10] = [
    (EventType::RunStarted, Source::Supervisor),
    (EventType::DecisionRecorded, Source::Supervisor),
    (EventType::SandboxReady, Source::Supervisor),
    (EventType::BackendStarted, Source::Supervisor),
    (EventType::BackendExited, Source::Supervisor),
    (EventType::FileChanged, Source::Supervisor),
    (EventType::TestStarted, Source::Test),
    (EventType::TestCompleted, Source::Test),
    (EventType::ReviewStarted, Source::Reviewer),
    (EventType::ReviewCompleted, Source::Reviewer),
];

/// How something ended, as its event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) exit_code: Option<i64>,
    pub(super) signal: Option<i64>,
}

/// What an artifact's event says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) sha256: String,
    pub(super) size: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) nonce: Option<String>,
    pub(super) engine: Option<String>,
    pub(super) stage: Option<String>,
    pub(super) mutation_mode: Option<String>,
    /// All of `run.started`.
    pub(super) started: Map<String, Value>,
    /// Kind of each decision.
    pub(super) decisions: Vec<Option<String>>,
    /// All of each `backend.started`.
    pub(super) backend_started: Vec<Map<String, Value>>,
    /// Changes that were refused: they are a blocker.
    pub(super) refused_changes: u64,
    /// Number of the first and of the last event of each step ([`STEPS`]).
    pub(super) places: BTreeMap<usize, (u64, u64)>,
    /// Each sandbox of a backend.
    pub(super) sandboxes: Vec<Map<String, Value>>,
    /// Command and patch of each review.
    pub(super) review_started: Vec<(Option<String>, Option<String>)>,
    /// How each review ended.
    pub(super) review_ended: Vec<Ended>,
    /// Command of each test run.
    pub(super) test_started: Vec<Option<String>>,
    /// All of `run.finished`.
    pub(super) finished: Map<String, Value>,
    /// The report's answers and blockers that no event has spoken of yet, and those of events that it does not have.
    pub(super) answers: Held,
    pub(super) raised: Held,
    pub(super) refusals: Held,
    pub(super) requests: Requests,
    pub(super) backend: Vec<Ended>,
    pub(super) test: Vec<Ended>,
    /// For each review, whether it accepted.
    pub(super) review: Vec<Option<bool>>,
    /// Code and how often.
    pub(super) blockers: BTreeMap<BlockerCode, u64>,
    /// How often a blocker was raised whose code is none.
    pub(super) unknown_blockers: u64,
    pub(super) finished_status: Option<String>,
    pub(super) finished_exit: Option<u64>,
    pub(super) written: Vec<Written>,
    pub(super) too_many_written: bool,
    /// Report's changes that no event has spoken of yet, by their data.
    expected: BTreeMap<String, u64>,
    /// Changes of events that the report does not have.
    pub(super) surplus: Vec<String>,
    pub(super) surplus_count: u64,
    /// Highest offset that a native pointer names, by stream.
    pub(super) native: BTreeMap<String, u64>,
    pub(super) too_many_streams: bool,
    pub(super) first_micros: Option<i64>,
    pub(super) last_micros: Option<i64>,
}

/// Things of the report, each of which must stand in the log once, and nothing else.
#[derive(Debug, Default)]
pub(super) struct Held {
    expected: BTreeMap<String, u64>,
    /// The first of those that the log has and the report has not.
    pub(super) surplus: Vec<String>,
    pub(super) surplus_count: u64,
}

impl Held {
    fn expect(&mut self, what: String) {
        *self.expected.entry(what).or_insert(0) += 1;
    }

    fn found(&mut self, what: String) {
        match self.expected.get_mut(&what) {
            Some(count) if *count > 0 => *count -= 1,
            _ => {
                self.surplus_count += 1;
                if self.surplus.len() < 5 {
                    self.surplus.push(what);
                }
            }
        }
    }

    /// Things of the report that the log has not.
    pub(super) fn unseen(&self) -> impl Iterator<Item = &str> {
        self.expected.iter().filter(|(_, count)| **count > 0).map(|(what, _)| what.as_str())
    }
}

/// Requests for approval that stand open, by call.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<Option<String>, u64>,
    /// More stood open at once than are remembered.
    pub(super) too_many: bool,
    /// Answers to nothing that was asked.
    pub(super) unasked: u64,
}

impl Requests {
    fn asked(&mut self, call: Option<&String>) {
        if let Some(count) = self.open.get_mut(&call.cloned()) {
            *count += 1;
        } else if self.open.len() < MAX_OPEN {
            self.open.insert(call.cloned(), 1);
        } else {
            self.too_many = true;
        }
    }

    fn answered(&mut self, call: Option<&String>) {
        let key = call.cloned();
        match self.open.get_mut(&key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => drop(self.open.remove(&key)),
            None => self.unasked += 1,
        }
    }

    /// How many were never answered.
    pub(super) fn unanswered(&self) -> u64 {
        self.open.values().sum()
    }
}

/// An answer as report and log both say it.
fn answer(id: &str, subject: &str, sha256: &str, granted: bool, by: &str) -> String {
    let data =
        json!({ "id": id, "subject": subject, "subject_sha256": sha256, "granted": granted, "by": by });
    match data {
        Value::Object(data) => {
            // What the event says was cut already, and no longer says so.
            let mut data = bounded(data);
            data.remove("truncated");
            Value::Object(data).to_string()
        }
        other => other.to_string(),
    }
}

fn key(data: Map<String, Value>) -> String {
    Value::Object(bounded(data)).to_string()
}

fn text(data: &Map<String, Value>, name: &str) -> Option<String> {
    data.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn ended(data: &Map<String, Value>) -> Ended {
    let number = |name: &str| data.get(name).and_then(Value::as_i64);
    Ended { exit_code: number("exit_code"), signal: number("signal") }
}

impl Seen {
    pub(super) fn new(report: &Report) -> Self {
        let mut expected = BTreeMap::new();
        for change in &report.changed_files {
            *expected.entry(key(payload::file_changed_data(change))).or_insert(0) += 1;
        }
        let mut seen = Self { expected, ..Self::default() };
        for one in &report.approvals {
            let (sha256, by) = (one.subject_sha256.as_deref(), one.answered_by.as_deref());
            let granted = one.outcome == "granted";
            seen.answers.expect(answer(
                &one.id,
                &one.subject,
                sha256.unwrap_or_default(),
                granted,
                by.unwrap_or_default(),
            ));
        }
        for denial in &report.sandbox.denials {
            seen.refusals.expect(key(payload::policy_denied_data(denial)));
        }
        for blocker in &report.blockers {
            seen.raised.expect(key(payload::blocker_raised(blocker).data));
        }
        seen
    }

    /// Changes of the report without an event.
    pub(super) fn unseen(&self) -> Vec<String> {
        let path = |data: &str| {
            let change = serde_json::from_str::<FileChange>(data);
            change.map_or_else(|_| "a path too long to show".to_owned(), |change| change.path)
        };
        self.expected.iter().filter(|(_, count)| **count > 0).map(|(data, _)| path(data)).collect()
    }

    pub(super) fn add(&mut self, event: &Event) {
        let micros = parse_micros(&event.ts);
        self.first_micros = self.first_micros.or(micros);
        self.last_micros = micros.or(self.last_micros);
        if let Some(native) = &event.native {
            self.pointer(&native.stream, native.offset);
        }
        let data = &event.data;
        // Whatever a request says of itself, it is one.
        if event.event_type == EventType::ApprovalRequested {
            self.requests.asked(event.call_id.as_ref());
        }
        // Written for something that never ended: it says nothing of how. The reader knows which; what an event says of
        // itself makes it none.
        if event.closes {
            return;
        }
        self.place(event);
        match (event.event_type, event.source) {
            (EventType::RunStarted, Source::Supervisor) => {
                self.nonce = text(data, "nonce");
                self.engine = text(data, "engine");
                self.stage = text(data, "stage");
                self.mutation_mode = text(data, "mutation_mode");
                self.started.clone_from(data);
            }
            (EventType::BackendStarted, Source::Supervisor) if self.backend_started.len() < MAX_ONCE => {
                self.backend_started.push(data.clone());
            }
            (EventType::PolicyDenied, Source::Supervisor)
                if text(data, "what").as_deref() == Some("change") =>
            {
                self.refused_changes += 1;
            }
            (EventType::BackendExited, Source::Supervisor) => self.backend.push(ended(data)),
            (EventType::DecisionRecorded, Source::Supervisor) if self.decisions.len() < MAX_ONCE => {
                self.decisions.push(text(data, "kind"));
            }
            (EventType::SandboxReady, Source::Supervisor) if self.sandboxes.len() < MAX_ONCE => {
                self.sandboxes.push(data.clone());
            }
            (EventType::TestStarted, Source::Test) if self.test_started.len() < MAX_ONCE => {
                self.test_started.push(text(data, "command"));
            }
            (EventType::ReviewStarted, Source::Reviewer) if self.review_started.len() < MAX_ONCE => {
                self.review_started.push((text(data, "command"), text(data, "patch_sha256")));
            }
            (
                EventType::ApprovalGranted | EventType::ApprovalDenied,
                Source::Supervisor | Source::Operator,
            ) => {
                let granted = event.event_type == EventType::ApprovalGranted;
                self.requests.answered(event.call_id.as_ref());
                let of = |name: &str| text(data, name).unwrap_or_default();
                self.answers.found(answer(
                    &of("id"),
                    &of("subject"),
                    &of("subject_sha256"),
                    granted,
                    &of("decided_by"),
                ));
            }
            (EventType::TestCompleted, Source::Test) => self.test.push(ended(data)),
            (EventType::ReviewCompleted, Source::Reviewer) => {
                self.review.push(data.get("accepted").and_then(Value::as_bool));
                self.review_ended.push(ended(data));
            }
            (EventType::PolicyDenied, Source::Supervisor) => {
                self.refusals.found(Value::Object(data.clone()).to_string());
            }
            (EventType::BlockerRaised, Source::Supervisor) => {
                self.raised.found(Value::Object(data.clone()).to_string());
                let code = data.get("code").and_then(Value::as_str).and_then(BlockerCode::from_name);
                match code {
                    Some(code) => *self.blockers.entry(code).or_insert(0) += 1,
                    None => self.unknown_blockers += 1,
                }
            }
            (EventType::RunFinished, Source::Supervisor) => {
                self.finished_status = text(data, "status");
                self.finished_exit = data.get("exit").and_then(Value::as_u64);
                self.finished.clone_from(data);
            }
            (EventType::ArtifactWritten, Source::Supervisor) if self.written.len() < MAX_WRITTEN => {
                self.written.push(Written {
                    name: text(data, "name").unwrap_or_default(),
                    sha256: text(data, "sha256").unwrap_or_default(),
                    size: data.get("size").and_then(Value::as_u64),
                });
            }
            (EventType::ArtifactWritten, Source::Supervisor) => self.too_many_written = true,
            (EventType::FileChanged, Source::Supervisor) => self.changed(data),
            _ => {}
        }
    }

    /// Remembers where in the log a step of the run stands.
    fn place(&mut self, event: &Event) {
        let step =
            STEPS.iter().position(|(kind, source)| (*kind, *source) == (event.event_type, event.source));
        if let Some(step) = step {
            let seq = event.seq;
            let place = self.places.entry(step).or_insert((seq, seq));
            place.1 = seq;
        }
    }

    fn changed(&mut self, data: &Map<String, Value>) {
        match self.expected.get_mut(&Value::Object(data.clone()).to_string()) {
            Some(count) if *count > 0 => *count -= 1,
            _ => {
                self.surplus_count += 1;
                if self.surplus.len() < 10 {
                    self.surplus.push(text(data, "path").unwrap_or_default());
                }
            }
        }
    }

    fn pointer(&mut self, stream: &str, offset: u64) {
        if let Some(highest) = self.native.get_mut(stream) {
            *highest = offset.max(*highest);
        } else if self.native.len() < MAX_STREAMS {
            self.native.insert(stream.to_owned(), offset);
        } else {
            self.too_many_streams = true;
        }
    }
}
