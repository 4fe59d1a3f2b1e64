//! Reads an event log strictly and within limits, and names everything that is wrong with it, line by line.
//!
//! The input is hostile: nothing here panics, and no line or list grows beyond its limit.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufRead;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::calls::{Calls, Told};
use super::cut::MAX_ID;
use super::hex;
use super::time::parse_micros;
use super::types::{EventType, Source, SpanKind, Trust};
use super::writer::EventIndex;
use super::{FIRST_PREV, MAX_LINE, Native, SCHEMA};
use crate::schema::kinds;

/// What a reader takes.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Longest line, bytes without its LF.
    pub max_line: usize,
    /// Most lines.
    pub max_lines: u64,
    /// Most problems that are listed; beyond it they are counted.
    pub max_problems: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { max_line: MAX_LINE, max_lines: 1_000_000, max_problems: 50 }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// `events/v1`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The run.
    #[schemars(with = "kinds::RunId")]
    pub run_id: String,
    /// Place, from 0.
    pub seq: u64,
    /// The supervisor's time.
    #[schemars(with = "kinds::Timestamp")]
    pub ts: String,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Who says so.
    pub source: Source,
    /// Seen or told.
    pub trust: Trust,
    /// Binds the events of one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub call_id: Option<String>,
    /// Where the backend said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Native>,
    /// The particulars.
    pub data: Map<String, Value>,
    /// SHA-256 of the line before.
    #[schemars(with = "kinds::Sha256")]
    pub prev: String,
    /// Not in the line: the reader found that it is the end that the supervisor wrote for this log's own open start.
    #[serde(skip)]
    pub closes: bool,
}

/// What is wrong with a line, or with the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventProblemKind {
    /// Not an event of this schema.
    Malformed(String),
    /// Not as the writer writes it: a field twice, other spacing or order.
    Form,
    /// Another schema.
    Schema(String),
    /// Another run's event.
    RunId(String),
    /// A gap, a repetition or another order.
    Seq {
        /// What should stand there.
        expected: u64,
        /// What stands there.
        found: u64,
    },
    /// `prev` is not the digest of the line before.
    Chain,
    /// No time of the form written here, or one before the line above.
    Time(String),
    /// A source that may not say this.
    Source {
        /// The type.
        event_type: EventType,
        /// The source.
        source: Source,
    },
    /// A trust that does not follow from the source.
    Trust,
    /// `run.started` missing as the first line, or there again.
    First,
    /// `run.finished` missing as the last line, or something after it.
    Last,
    /// A start without its end.
    Unended(EventType),
    /// An end by the supervisor that names no open start.
    NoSuchStart,
    /// Longer than a line may be.
    LineTooLong,
    /// The last line does not end with LF.
    NoNewline,
    /// More lines than a log may have.
    TooManyLines,
    /// The log could not be read.
    Io(String),
}

impl fmt::Display for EventProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "is no event: {why}"),
            Self::Form => f.write_str("is not in the form in which Proctor writes it"),
            Self::Schema(found) => write!(f, "has schema {found:?}, not {SCHEMA:?}"),
            Self::RunId(found) => write!(f, "belongs to run {found:?}"),
            Self::Seq { expected, found } => {
                write!(f, "has seq {found}, expected {expected}: lines are missing, repeated or moved")
            }
            Self::Chain => f.write_str("does not follow the line before: prev is not its SHA-256"),
            Self::Time(found) => write!(
                f,
                "has time {found:?}: not RFC 3339 in UTC with microseconds, or before the line above"
            ),
            Self::Source { event_type, source } => {
                write!(f, "is {event_type} from {source}, which may not say that")
            }
            Self::Trust => f.write_str("has a trust that its source cannot have"),
            Self::First => f.write_str("run.started is not exactly the first event"),
            Self::Last => f.write_str("run.finished is not exactly the last event"),
            Self::Unended(event_type) => write!(f, "{event_type} has no end"),
            Self::NoSuchStart => f.write_str("ends something that is not open"),
            Self::LineTooLong => f.write_str("is longer than a line may be"),
            Self::NoNewline => f.write_str("does not end with a line feed: the log was cut"),
            Self::TooManyLines => f.write_str("more lines than a log may have; the rest was not read"),
            Self::Io(why) => write!(f, "cannot be read: {why}"),
        }
    }
}

/// One wrong thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventProblem {
    /// Line, from 1; 0 where it is about the log as a whole.
    pub line: u64,
    /// What is wrong.
    pub kind: EventProblemKind,
}

impl fmt::Display for EventProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { self.kind.fmt(f) } else { write!(f, "line {}: {}", self.line, self.kind) }
    }
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct LogSummary {
    /// Lines.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of the last line without its LF.
    pub last_hash: String,
    /// What was seen.
    pub index: EventIndex,
    /// What a trace tells of it.
    pub calls: Calls,
    /// What is wrong, in order.
    pub problems: Vec<EventProblem>,
    /// Problems beyond those listed.
    pub more_problems: u64,
}

impl LogSummary {
    /// True where nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.more_problems == 0
    }
}

/// Reads a whole log; `visit` sees each line that is an event of the schema, in order, also from an unsound log.
pub fn read_events<R: BufRead>(
    mut input: R,
    limits: ReadLimits,
    run_id: Option<&str>,
    mut visit: impl FnMut(&Event),
) -> LogSummary {
    let mut check = Check {
        summary: LogSummary { last_hash: FIRST_PREV.to_owned(), ..LogSummary::default() },
        limits,
        run_id: run_id.map(str::to_owned),
        last_micros: i64::MIN,
        open: BTreeMap::new(),
        finished: false,
        form: Vec::new(),
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        match next_line(&mut input, &mut line, limits.max_line) {
            Ok(Next::End) => break,
            Ok(Next::Line { whole }) => {
                check.summary.count += 1;
                if check.summary.count > limits.max_lines {
                    check.problem(EventProblemKind::TooManyLines);
                    break;
                }
                check.summary.bytes += line.len() as u64 + u64::from(whole);
                if !whole {
                    check.problem(EventProblemKind::NoNewline);
                }
                if let Some(event) = check.line(&line) {
                    visit(&event);
                }
                check.summary.last_hash = hex::encode(&Sha256::digest(&line));
            }
            Ok(Next::TooLong) => {
                check.summary.count += 1;
                check.problem(EventProblemKind::LineTooLong);
                // What follows cannot be told apart from the rest of this line.
                return check.end();
            }
            Err(error) => {
                check.problem(EventProblemKind::Io(error.to_string()));
                return check.end();
            }
        }
    }
    check.end()
}

enum Next {
    Line { whole: bool },
    TooLong,
    End,
}

fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>, limit: usize) -> std::io::Result<Next> {
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if available.is_empty() {
            return Ok(if line.is_empty() { Next::End } else { Next::Line { whole: false } });
        }
        let newline = available.iter().position(|byte| *byte == b'\n');
        let taken = newline.unwrap_or(available.len());
        if line.len() + taken > limit {
            return Ok(Next::TooLong);
        }
        line.extend_from_slice(&available[..taken]);
        input.consume(taken + usize::from(newline.is_some()));
        if newline.is_some() {
            return Ok(Next::Line { whole: true });
        }
    }
}

type OpenKey = (SpanKind, Source, Option<String>);

struct Check {
    summary: LogSummary,
    limits: ReadLimits,
    run_id: Option<String>,
    last_micros: i64,
    /// Line and type of each start without its end, by number: an end is found without looking through them.
    open: BTreeMap<OpenKey, BTreeMap<u64, (u64, EventType)>>,
    finished: bool,
    /// The line as it would be written, reused.
    form: Vec<u8>,
}

impl Check {
    fn problem(&mut self, kind: EventProblemKind) {
        let line = self.summary.count;
        self.problem_at(line, kind);
    }

    fn problem_at(&mut self, line: u64, kind: EventProblemKind) {
        if self.summary.problems.len() < self.limits.max_problems {
            self.summary.problems.push(EventProblem { line, kind });
        } else {
            self.summary.more_problems += 1;
        }
    }

    fn line(&mut self, line: &[u8]) -> Option<Event> {
        let mut event: Event = match serde_json::from_slice(line) {
            Ok(event) => event,
            Err(error) => {
                self.problem(EventProblemKind::Malformed(error.to_string()));
                return None;
            }
        };
        self.form.clear();
        if serde_json::to_writer(&mut self.form, &event).is_err() || self.form != line {
            self.problem(EventProblemKind::Form);
        }
        if event.call_id.as_ref().is_some_and(|id| id.len() > MAX_ID) {
            // The writer makes none so long, and open calls are kept by their ids.
            self.problem(EventProblemKind::Malformed("its call_id is too long".to_owned()));
            return None;
        }
        let expected = self.summary.count - 1;
        if event.schema != SCHEMA {
            self.problem(EventProblemKind::Schema(shortened(&event.schema)));
        }
        // Without one given from outside, the first line's run is the log's.
        let run_id = self.run_id.get_or_insert_with(|| event.run_id.clone());
        if *run_id != event.run_id {
            self.problem(EventProblemKind::RunId(shortened(&event.run_id)));
        }
        if event.seq != expected {
            self.problem(EventProblemKind::Seq { expected, found: event.seq });
        }
        if event.prev != self.summary.last_hash {
            self.problem(EventProblemKind::Chain);
        }
        match parse_micros(&event.ts) {
            Some(micros) if micros >= self.last_micros => self.last_micros = micros,
            _ => self.problem(EventProblemKind::Time(shortened(&event.ts))),
        }
        if event.trust != event.source.trust() {
            self.problem(EventProblemKind::Trust);
        }
        if (event.event_type == EventType::RunStarted) != (expected == 0) {
            self.problem(EventProblemKind::First);
        }
        if self.finished {
            self.problem(EventProblemKind::Last);
        }
        self.finished |= event.event_type == EventType::RunFinished;
        event.closes = self.match_ends(&event);
        self.summary.index.add(event.event_type, event.source, &event.data);
        self.summary.calls.add(&Told {
            event_type: event.event_type,
            source: event.source,
            call_id: event.call_id.as_deref(),
            seq: event.seq,
            micros: self.last_micros,
            data: &event.data,
        });
        Some(event)
    }

    /// Whether it is an end that the supervisor wrote for a start that nobody ended.
    fn match_ends(&mut self, event: &Event) -> bool {
        let by_supervisor = event.source == Source::Supervisor && event.data.contains_key("started_seq");
        if !event.event_type.allows(event.source) || by_supervisor {
            let closes = event.event_type.ends().is_some()
                && by_supervisor
                && event.data.get("status").and_then(Value::as_str) == Some("interrupted");
            if !closes {
                self.problem(EventProblemKind::Source { event_type: event.event_type, source: event.source });
                return false;
            }
            let named = self.close_named(event);
            if !named {
                self.problem(EventProblemKind::NoSuchStart);
            }
            return named;
        }
        if let Some(kind) = event.event_type.starts() {
            let line = self.summary.count;
            let open = self.open.entry((kind, event.source, event.call_id.clone())).or_default();
            open.insert(event.seq, (line, event.event_type));
        } else if let Some(kind) = event.event_type.ends() {
            // A backend may end what it never began: that is its claim, and its adapter's business.
            let key = (kind, event.source, event.call_id.clone());
            if let Some(starts) = self.open.get_mut(&key) {
                starts.pop_last();
                if starts.is_empty() {
                    self.open.remove(&key);
                }
            }
        }
        false
    }

    fn close_named(&mut self, event: &Event) -> bool {
        let source = event.data.get("of").and_then(Value::as_str);
        let source = Source::ALL.into_iter().find(|candidate| Some(candidate.as_str()) == source);
        let seq = event.data.get("started_seq").and_then(Value::as_u64);
        let (Some(source), Some(seq), Some(kind)) = (source, seq, event.event_type.ends()) else {
            return false;
        };
        let key = (kind, source, event.call_id.clone());
        let Some(starts) = self.open.get_mut(&key) else {
            return false;
        };
        if starts.remove(&seq).is_none() {
            return false;
        }
        if starts.is_empty() {
            self.open.remove(&key);
        }
        true
    }

    fn end(mut self) -> LogSummary {
        if !self.finished {
            self.problem_at(0, EventProblemKind::Last);
        }
        if self.summary.count == 0 {
            self.problem_at(0, EventProblemKind::First);
        }
        for starts in std::mem::take(&mut self.open).into_values() {
            for (line, event_type) in starts.into_values() {
                self.problem_at(line, EventProblemKind::Unended(event_type));
            }
        }
        self.summary
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
