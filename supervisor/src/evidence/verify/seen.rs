//! What the event log says of the things that the report says too; gathered while the log is read.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::payload;
use crate::event::{Event, EventType, Source, bounded, parse_micros};
use crate::report::{FileChange, Report};
use crate::verdict::BlockerCode;

/// Most streams that native pointers may name.
const MAX_STREAMS: usize = 64;
/// Most artifacts that events may speak of.
const MAX_WRITTEN: usize = 1000;

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
        Self { expected, ..Self::default() }
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
        // An end that says so was written for something that never ended: it says nothing of how.
        if text(data, "status").as_deref() == Some("interrupted") {
            return;
        }
        match (event.event_type, event.source) {
            (EventType::RunStarted, Source::Supervisor) => {
                self.nonce = text(data, "nonce");
                self.engine = text(data, "engine");
                self.stage = text(data, "stage");
                self.mutation_mode = text(data, "mutation_mode");
            }
            (EventType::BackendExited, Source::Supervisor) => self.backend.push(ended(data)),
            (EventType::TestCompleted, Source::Test) => self.test.push(ended(data)),
            (EventType::ReviewCompleted, Source::Reviewer) => {
                self.review.push(data.get("accepted").and_then(Value::as_bool));
            }
            (EventType::BlockerRaised, Source::Supervisor) => {
                let code = data.get("code").and_then(Value::as_str).and_then(BlockerCode::from_name);
                match code {
                    Some(code) => *self.blockers.entry(code).or_insert(0) += 1,
                    None => self.unknown_blockers += 1,
                }
            }
            (EventType::RunFinished, Source::Supervisor) => {
                self.finished_status = text(data, "status");
                self.finished_exit = data.get("exit").and_then(Value::as_u64);
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
