//! The vocabulary of normalized events (`events/v1`): types, sources, trust, and which source may say what.
//!
//! `writer` makes the hash-chained log, `reader` checks one, `cut` bounds what a backend can put into a line,
//! `tool` words what it says of its tools, `calls` gathers what a trace tells of a log.
//! Nothing here parses a backend's own output (adapters do), and nothing here knows reports or verdicts.

pub mod calls;
mod cut;
pub mod hex;
pub mod reader;
mod time;
mod tool;
mod types;
pub mod writer;

pub use calls::Calls;
pub use cut::{MAX_DATA, MAX_DEPTH, MAX_STRING, bounded};
pub use reader::{Event, EventProblem, EventProblemKind, LogSummary, ReadLimits, read_events};
pub use time::{Clock, SystemClock, format_micros, now_micros, parse_micros};
pub use tool::{TOOL_ENDS, TOOL_KINDS, TOOL_RUNNING};
pub use types::{EventType, Source, SpanKind, Trust};
pub use writer::{Emitted, EventError, EventIndex, EventLimits, EventLogEnd, EventWriter};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The schema of every line.
pub const SCHEMA: &str = "events/v1";

/// What `prev` of the first line is.
pub const FIRST_PREV: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The longest line that the writer makes and the reader takes, bytes without the LF.
pub const MAX_LINE: usize = 1 << 20;

/// Where in a raw log a backend said it. Every text in here is the backend's own, cut at 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Native {
    /// Stream: `stdout`, `stderr`, or NAME of `backend.NAME.log`.
    #[schemars(length(min = 1, max = 256))]
    pub stream: String,
    /// Line in that stream, from 1.
    #[schemars(range(min = 1))]
    pub line: u64,
    /// Byte offset of that line's first byte in the raw log.
    pub offset: u64,
    /// The backend's own name for the kind of event.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub kind: Option<String>,
    /// The backend's own identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub id: Option<String>,
    /// The backend's own time, as it wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub ts: Option<String>,
}

/// An event before the writer gives it its place. Its trust follows from its source.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// What happened.
    pub event_type: EventType,
    /// Who says so.
    pub source: Source,
    /// Binds the events of one tool call, command or approval together.
    pub call_id: Option<String>,
    /// Where the backend said it.
    pub native: Option<Native>,
    /// The particulars.
    pub data: Map<String, Value>,
}

impl NewEvent {
    /// An event without particulars.
    #[must_use]
    pub fn new(event_type: EventType, source: Source) -> Self {
        Self { event_type, source, call_id: None, native: None, data: Map::new() }
    }

    /// Adds one particular; a later value replaces an earlier one.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        self
    }

    /// Binds the event to a call.
    #[must_use]
    pub fn call(mut self, id: impl Into<String>) -> Self {
        self.call_id = Some(id.into());
        self
    }

    /// Says where the backend said it.
    #[must_use]
    pub fn at(mut self, native: Native) -> Self {
        self.native = Some(native);
        self
    }
}
