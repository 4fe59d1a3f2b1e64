//! Writes `events.normalized.jsonl`: gives each event its place, time and chain value, and holds backends to what
//! they may say. Callers that share a writer between threads put it behind a mutex.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::calls::{Calls, Told};
use super::cut::{MAX_ID, bounded, cut};
use super::hex;
use super::time::{Clock, Stamper, SystemClock};
use super::tool::worded;
use super::types::{EventType, Source, SpanKind, Trust};
use super::{FIRST_PREV, MAX_LINE, Native, NewEvent, SCHEMA};

/// Written in one go when this much has gathered, bytes.
const BATCH: usize = 64 * 1024;

/// How much of a backend's talk the log takes. The supervisor's own events are never left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventLimits {
    /// Events in the log; further events of the backend are counted, not written.
    pub max_events: u64,
    /// Bytes of the log; likewise.
    pub max_bytes: u64,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { max_events: 200_000, max_bytes: 256 << 20 }
    }
}

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// A source may not say this.
    #[error(
        "an event {event_type} cannot come from {source_name}: only the sources of docs/contracts.md may emit a type (a defect of the adapter or of Proctor)"
    )]
    NotAllowed {
        /// The type.
        event_type: EventType,
        /// The source's name.
        source_name: Source,
    },
    /// The first event must be `run.started`, once, and nothing follows `run.finished`.
    #[error(
        "the event {event_type} is out of place: run.started comes first and once, nothing follows run.finished (a defect of Proctor)"
    )]
    OutOfPlace {
        /// The type.
        event_type: EventType,
    },
    /// The line would be longer than the reader takes.
    #[error(
        "an event {event_type} of {bytes} bytes is longer than a line may be ({MAX_LINE}): shorten its data"
    )]
    TooLong {
        /// The type.
        event_type: EventType,
        /// Its length.
        bytes: usize,
    },
    /// The log could not be written, now or before.
    #[error(
        "the event log cannot be written ({0}): free space on, or repair, the evidence directory's file system and run again"
    )]
    Io(#[source] io::Error),
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emitted {
    /// It stands in the log under this number.
    Written(u64),
    /// The log is full; the event was counted (`output_limit`).
    Dropped,
}

/// How often each type was seen from each source: what the verdict asks. Ends with `status: interrupted` are not
/// in it: they satisfy no requirement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventIndex {
    seen: BTreeMap<(EventType, Source), u64>,
    interrupted: u64,
    dropped: u64,
}

impl EventIndex {
    pub(super) fn add(&mut self, event_type: EventType, source: Source, data: &Map<String, Value>) {
        if event_type.ends().is_some() && is_interrupted(data) {
            self.interrupted += 1;
        } else {
            *self.seen.entry((event_type, source)).or_insert(0) += 1;
        }
    }

    /// Counts an event without writing one: for tests of what reads an index.
    #[cfg(test)]
    pub(crate) fn note(&mut self, event_type: EventType, source: Source) {
        self.add(event_type, source, &Map::new());
    }

    /// How many were seen.
    #[must_use]
    pub fn count(&self, event_type: EventType, source: Source) -> u64 {
        self.seen.get(&(event_type, source)).copied().unwrap_or(0)
    }

    /// How many ends said `status: interrupted`.
    #[must_use]
    pub fn interrupted(&self) -> u64 {
        self.interrupted
    }

    /// How many events of the backend were left out.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn is_interrupted(data: &Map<String, Value>) -> bool {
    data.get("status").and_then(Value::as_str) == Some("interrupted")
}

/// What the log came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLogEnd {
    /// Lines.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of the last line without its LF, hex: with it a log cut at the end is seen too.
    pub last_hash: String,
    /// Events of the backend that were left out.
    pub dropped: u64,
    /// Ends that the supervisor had to write.
    pub closed: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    schema: &'a str,
    run_id: &'a str,
    seq: u64,
    ts: &'a str,
    #[serde(rename = "type")]
    event_type: EventType,
    source: Source,
    trust: Trust,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    native: Option<&'a Native>,
    data: &'a Map<String, Value>,
    prev: &'a str,
}

type OpenKey = (SpanKind, Source, Option<String>);

/// The log under construction. `W` is the artifact; it must not be written by anything else.
pub struct EventWriter<W: Write> {
    out: W,
    clock: Box<dyn Clock>,
    run_id: String,
    limits: EventLimits,
    stamper: Stamper,
    batch: Vec<u8>,
    prev: String,
    seq: u64,
    bytes: u64,
    open: BTreeMap<OpenKey, Vec<u64>>,
    index: EventIndex,
    calls: Calls,
    closed: u64,
    finished: bool,
    broken: Option<io::ErrorKind>,
}

impl<W: Write> std::fmt::Debug for EventWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventWriter")
            .field("run_id", &self.run_id)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

impl<W: Write> EventWriter<W> {
    /// An empty log of this run.
    pub fn new(out: W, run_id: &str, limits: EventLimits) -> Self {
        Self::with_clock(out, run_id, limits, Box::new(SystemClock))
    }

    /// As [`EventWriter::new`], with another clock.
    pub fn with_clock(out: W, run_id: &str, limits: EventLimits, clock: Box<dyn Clock>) -> Self {
        Self {
            out,
            clock,
            run_id: run_id.to_owned(),
            limits,
            stamper: Stamper::default(),
            batch: Vec::with_capacity(BATCH + 4096),
            prev: FIRST_PREV.to_owned(),
            seq: 0,
            bytes: 0,
            open: BTreeMap::new(),
            index: EventIndex::default(),
            calls: Calls::default(),
            closed: 0,
            finished: false,
            broken: None,
        }
    }

    /// Appends an event. `run.finished` first closes whatever is open.
    ///
    /// # Errors
    /// An event that its source may not say, that is out of place or too long is refused and the log is as before.
    /// After a write error every further call fails: the caller raises `artifact_write_failed`.
    pub fn emit(&mut self, event: NewEvent) -> Result<Emitted, EventError> {
        let NewEvent { event_type, source, call_id, native, data } = event;
        if !event_type.allows(source) {
            return Err(EventError::NotAllowed { event_type, source_name: source });
        }
        if self.finished || (event_type == EventType::RunStarted) != (self.seq == 0) {
            return Err(EventError::OutOfPlace { event_type });
        }
        if source == Source::Backend && self.full() {
            self.index.dropped += 1;
            return Ok(Emitted::Dropped);
        }
        if event_type == EventType::RunFinished {
            self.close_open()?;
        }
        let call_id = call_id.map(short_id);
        let native = native.map(short_native);
        let mut data = data;
        if source == Source::Backend {
            worded(event_type, &mut data);
        }
        let data = bounded(data);
        let seq = self.append(event_type, source, call_id.as_deref(), native.as_ref(), &data)?;
        if let Some(kind) = event_type.starts() {
            self.open.entry((kind, source, call_id)).or_default().push(seq);
        } else if let Some(kind) = event_type.ends() {
            self.end(&(kind, source, call_id));
        }
        self.finished = event_type == EventType::RunFinished;
        Ok(Emitted::Written(seq))
    }

    /// Writes an end with `status: interrupted` for every start that has none, but the run's own. Returns how many.
    ///
    /// # Errors
    /// As [`EventWriter::emit`].
    pub fn close_open(&mut self) -> Result<u64, EventError> {
        let mut starts: Vec<(u64, OpenKey)> = Vec::new();
        for (key, seqs) in std::mem::take(&mut self.open) {
            if key.0 == SpanKind::Run {
                self.open.insert(key, seqs);
            } else {
                starts.extend(seqs.into_iter().map(|seq| (seq, key.clone())));
            }
        }
        // Innermost first.
        starts.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        let count = starts.len() as u64;
        for (started, (kind, source, call_id)) in starts {
            let mut data = Map::new();
            data.insert("status".to_owned(), Value::from("interrupted"));
            data.insert("of".to_owned(), Value::from(source.as_str()));
            data.insert("started_seq".to_owned(), Value::from(started));
            self.append(kind.end(), Source::Supervisor, call_id.as_deref(), None, &data)?;
            self.closed += 1;
        }
        Ok(count)
    }

    /// What was seen so far.
    #[must_use]
    pub fn index(&self) -> &EventIndex {
        &self.index
    }

    /// What a trace tells of the log so far.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// True once an event of the backend would be left out.
    #[must_use]
    pub fn full(&self) -> bool {
        self.seq >= self.limits.max_events || self.bytes >= self.limits.max_bytes
    }

    /// Hands what has gathered to the artifact, so that a reader of the file sees it.
    ///
    /// # Errors
    /// The write error, now or before.
    pub fn flush(&mut self) -> Result<(), EventError> {
        self.check()?;
        let result = self.out.write_all(&self.batch).and_then(|()| self.out.flush());
        self.batch.clear();
        result.map_err(|error| {
            self.broken = Some(error.kind());
            EventError::Io(error)
        })
    }

    /// Ends the log and gives the artifact back, to be finished and digested.
    ///
    /// # Errors
    /// The write error, now or before; the artifact is then dropped unfinished, and counts as not written.
    pub fn finish(mut self) -> Result<(W, EventLogEnd), EventError> {
        self.flush()?;
        let end = EventLogEnd {
            count: self.seq,
            bytes: self.bytes,
            last_hash: self.prev,
            dropped: self.index.dropped,
            closed: self.closed,
        };
        Ok((self.out, end))
    }

    fn check(&self) -> Result<(), EventError> {
        match self.broken {
            Some(kind) => Err(EventError::Io(kind.into())),
            None => Ok(()),
        }
    }

    fn end(&mut self, key: &OpenKey) {
        if let Some(seqs) = self.open.get_mut(key) {
            seqs.pop();
            if seqs.is_empty() {
                self.open.remove(key);
            }
        }
    }

    fn append(
        &mut self,
        event_type: EventType,
        source: Source,
        call_id: Option<&str>,
        native: Option<&Native>,
        data: &Map<String, Value>,
    ) -> Result<u64, EventError> {
        self.check()?;
        let micros = self.clock.micros();
        let line = Line {
            schema: SCHEMA,
            run_id: &self.run_id,
            seq: self.seq,
            ts: self.stamper.stamp(micros),
            event_type,
            source,
            trust: source.trust(),
            call_id,
            native,
            data,
            prev: &self.prev,
        };
        let start = self.batch.len();
        let written = serde_json::to_writer(&mut self.batch, &line);
        let length = self.batch.len() - start;
        if written.is_err() || length > MAX_LINE {
            self.batch.truncate(start);
            return match written {
                Err(error) => Err(EventError::Io(error.into())),
                Ok(()) => Err(EventError::TooLong { event_type, bytes: length }),
            };
        }
        hex::encode_into(&Sha256::digest(&self.batch[start..]), &mut self.prev);
        self.batch.push(b'\n');
        self.bytes += length as u64 + 1;
        let seq = self.seq;
        self.seq += 1;
        self.index.add(event_type, source, data);
        self.calls.add(&Told { event_type, source, call_id, seq, micros: self.stamper.last(), data });
        if self.batch.len() >= BATCH {
            self.flush()?;
        }
        Ok(seq)
    }
}

/// A long identifier becomes its digest, so that two stay two.
fn short_id(id: String) -> String {
    if id.len() <= MAX_ID { id } else { format!("sha256:{}", hex::encode(&Sha256::digest(id.as_bytes()))) }
}

fn short_native(mut native: Native) -> Native {
    cut(&mut native.stream, MAX_ID);
    for text in [&mut native.kind, &mut native.id, &mut native.ts].into_iter().flatten() {
        cut(text, MAX_ID);
    }
    native
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
