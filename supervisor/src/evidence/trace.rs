//! `trace.jsonl`: OpenTelemetry spans as OTLP/JSON, one `TracesData` a line.
//!
//! Encoding by the OTLP specification's JSON mapping (opentelemetry-proto, "JSON Protobuf Encoding"): trace and span
//! ids are hex, not base64; 64-bit numbers are strings; enums are integers; field names are lowerCamelCase.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::event::hex;

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// A trace's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// A span's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    // All zeros would mean "none" to a reader.
    bytes[N - 1] |= 1;
    Ok(bytes)
}

impl TraceId {
    /// A new one.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn new() -> Result<Self, getrandom::Error> {
        random().map(Self)
    }
}

impl SpanId {
    /// A new one.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn new() -> Result<Self, getrandom::Error> {
        random().map(Self)
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number; one that is not finite is written as text, as the mapping asks.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// Several texts.
    Texts(Vec<String>),
}

impl Attribute {
    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!({ "stringValue": text }),
            Self::Int(number) => json!({ "intValue": number.to_string() }),
            Self::Double(number) if number.is_finite() => json!({ "doubleValue": number }),
            Self::Double(number) => {
                let name = if number.is_nan() {
                    "NaN"
                } else if *number > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                };
                json!({ "doubleValue": name })
            }
            Self::Bool(yes) => json!({ "boolValue": yes }),
            Self::Texts(texts) => {
                let values: Vec<Value> = texts.iter().map(|text| json!({ "stringValue": text })).collect();
                json!({ "arrayValue": { "values": values } })
            }
        }
    }
}

impl Attribute {
    /// Its value without its type, as a reader of the trace has it.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            other => other.json().to_string(),
        }
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Attribute {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

/// Attributes in the order they are given.
pub type Attributes = Vec<(String, Attribute)>;

fn attributes(list: &[(String, Attribute)]) -> Value {
    list.iter().map(|(key, value)| json!({ "key": key, "value": value.json() })).collect()
}

/// How much of one kind of thing the trace holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// Each one that happened.
    Complete,
    /// Some; one may be missing.
    Advisory,
    /// None was looked for.
    Absent,
}

impl Completeness {
    /// The name in the trace.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Advisory => "advisory",
            Self::Absent => "absent",
        }
    }
}

/// The kinds that a trace speaks of (docs/contracts.md).
pub const KINDS: [&str; 10] = [
    "phases",
    "programs",
    "exit_codes",
    "tool_calls",
    "provider_requests",
    "denials",
    "denied_paths",
    "connections",
    "limits",
    "usage",
];

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanStatus {
    /// Not said.
    Unset,
    /// Well.
    Ok,
    /// Not well, with a reason.
    Error(String),
}

/// Something that happened within a span.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanEvent {
    /// A name of few words.
    pub name: String,
    /// When, nanoseconds since 1970.
    pub at_ns: u64,
    /// Particulars.
    pub attributes: Attributes,
}

impl SpanEvent {
    fn json(&self) -> Value {
        json!({
            "timeUnixNano": self.at_ns.to_string(),
            "name": self.name,
            "attributes": attributes(&self.attributes),
        })
    }
}

/// Something with a beginning and an end. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its id.
    pub id: SpanId,
    /// What encloses it.
    pub parent: Option<SpanId>,
    /// A name of few words, the same for every run.
    pub name: String,
    /// Start.
    pub start_ns: u64,
    /// End, not before the start.
    pub end_ns: u64,
    /// Particulars.
    pub attributes: Attributes,
    /// What happened within it.
    pub events: Vec<SpanEvent>,
    /// How it ended.
    pub status: SpanStatus,
}

/// A line ends with the span that makes it longer than this, bytes.
const LINE: usize = 256 << 10;
/// Bytes of events in one span; more stand in spans `events` below it.
const EVENTS: usize = 128 << 10;

/// A span with as many events as one may have, and the rest of them in spans below it.
fn spread(span: &Span) -> io::Result<Vec<Span>> {
    let mut parts = vec![Span { events: Vec::new(), ..span.clone() }];
    let mut room = EVENTS;
    for event in &span.events {
        let size = serde_json::to_vec(&event.json())?.len();
        if size > room {
            parts.push(Span {
                id: SpanId::new().map_err(|error| io::Error::other(error.to_string()))?,
                parent: Some(span.id),
                name: "events".to_owned(),
                start_ns: span.start_ns,
                end_ns: span.end_ns,
                attributes: Attributes::new(),
                events: Vec::new(),
                status: SpanStatus::Unset,
            });
            room = EVENTS;
        }
        room = room.saturating_sub(size);
        if let Some(part) = parts.last_mut() {
            part.events.push(event.clone());
        }
    }
    Ok(parts)
}

/// Writes the spans of one run.
#[derive(Debug)]
pub struct TraceWriter<W: Write> {
    out: W,
    trace: TraceId,
    resource: Value,
}

impl<W: Write> TraceWriter<W> {
    /// A trace of this run. `completeness` says for each kind how much of it the trace holds; a kind of [`KINDS`]
    /// that is not named is absent.
    pub fn new(out: W, trace: TraceId, run_id: &str, completeness: &[(&str, Completeness)]) -> Self {
        let mut list: Attributes = vec![
            ("service.name".to_owned(), Attribute::from("proctor")),
            ("service.version".to_owned(), Attribute::from(env!("CARGO_PKG_VERSION"))),
            ("proctor.run_id".to_owned(), Attribute::from(run_id)),
        ];
        for kind in KINDS {
            let known = completeness.iter().find(|(name, _)| *name == kind);
            let value = known.map_or(Completeness::Absent, |(_, completeness)| *completeness);
            list.push((format!("proctor.completeness.{kind}"), Attribute::from(value.as_str())));
        }
        Self { out, trace, resource: json!({ "attributes": attributes(&list) }) }
    }

    /// Appends spans, in as many lines as keep each well below what a reader takes, whatever a program called itself and
    /// however much happened within a span.
    ///
    /// # Errors
    /// No random ids to be had, or the write error.
    pub fn write(&mut self, spans: &[Span]) -> io::Result<()> {
        let (mut line, mut size) = (Vec::new(), 0);
        for span in spans {
            for part in spread(span)? {
                let value = self.span(&part);
                size += serde_json::to_vec(&value)?.len();
                line.push(value);
                if size >= LINE {
                    self.line(std::mem::take(&mut line))?;
                    size = 0;
                }
            }
        }
        if line.is_empty() { Ok(()) } else { self.line(line) }
    }

    fn line(&mut self, spans: Vec<Value>) -> io::Result<()> {
        let line = json!({
            "resourceSpans": [{
                "resource": self.resource,
                "scopeSpans": [{
                    "scope": { "name": "proctor", "version": env!("CARGO_PKG_VERSION") },
                    "spans": spans,
                    "schemaUrl": SCHEMA_URL,
                }],
                "schemaUrl": SCHEMA_URL,
            }],
        });
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        self.out.write_all(&bytes)
    }

    /// Gives the artifact back.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn span(&self, span: &Span) -> Value {
        let mut json = json!({
            "traceId": hex::encode(&self.trace.0),
            "spanId": hex::encode(&span.id.0),
            "name": span.name,
            "kind": 1,
            "startTimeUnixNano": span.start_ns.to_string(),
            "endTimeUnixNano": span.end_ns.max(span.start_ns).to_string(),
            "attributes": attributes(&span.attributes),
            "status": match &span.status {
                SpanStatus::Unset => json!({}),
                SpanStatus::Ok => json!({ "code": 1 }),
                SpanStatus::Error(why) => json!({ "code": 2, "message": why }),
            },
        });
        if !span.events.is_empty() {
            json["events"] = span.events.iter().map(SpanEvent::json).collect();
        }
        if let Some(parent) = span.parent {
            json["parentSpanId"] = Value::from(hex::encode(&parent.0));
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_traces_data_in_the_json_mapping() {
        let (trace, root, child) = (TraceId([0xab; 16]), SpanId([1; 8]), SpanId([2; 8]));
        let mut writer = TraceWriter::new(Vec::new(), trace, "r-1", &[("phases", Completeness::Complete)]);
        let span = |id, parent, status| Span {
            id,
            parent,
            name: "run".into(),
            start_ns: 1_780_315_200_000_000_000,
            end_ns: 5,
            attributes: vec![
                ("n".into(), Attribute::Int(i64::MAX)),
                ("d".into(), Attribute::Double(f64::NAN)),
                ("l".into(), Attribute::Texts(vec!["a".into()])),
                ("b".into(), Attribute::Bool(true)),
            ],
            events: Vec::new(),
            status,
        };
        writer.write(&[span(root, None, SpanStatus::Ok)]).unwrap();
        writer.write(&[]).unwrap();
        let mut inner = span(child, Some(root), SpanStatus::Error("x".into()));
        inner.events =
            vec![SpanEvent { name: "e".into(), at_ns: 7, attributes: vec![("k".into(), Attribute::Int(1))] }];
        writer.write(&[inner]).unwrap();
        let text = String::from_utf8(writer.into_inner()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        let first = &lines[0]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(
            *first,
            json!({
                "traceId": "ab".repeat(16), "spanId": "01".repeat(8), "name": "run", "kind": 1,
                "startTimeUnixNano": "1780315200000000000", "endTimeUnixNano": "1780315200000000000",
                "attributes": [
                    {"key": "n", "value": {"intValue": "9223372036854775807"}},
                    {"key": "d", "value": {"doubleValue": "NaN"}},
                    {"key": "l", "value": {"arrayValue": {"values": [{"stringValue": "a"}]}}},
                    {"key": "b", "value": {"boolValue": true}},
                ],
                "status": {"code": 1},
            })
        );
        let second = &lines[1]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(second["parentSpanId"], "01".repeat(8));
        assert_eq!(second["status"], json!({"code": 2, "message": "x"}));
        assert_eq!(
            second["events"],
            json!([{"timeUnixNano": "7", "name": "e", "attributes": [{"key": "k", "value": {"intValue": "1"}}]}])
        );
        let resource = lines[0]["resourceSpans"][0]["resource"]["attributes"].as_array().unwrap();
        let value = |key: &str| {
            resource.iter().find(|one| one["key"] == key).unwrap()["value"]["stringValue"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(value("proctor.completeness.phases"), "complete");
        assert_eq!(value("proctor.completeness.programs"), "absent");
        assert_eq!(value("service.name"), "proctor");
    }

    /// As much as the log's reader keeps of limits and refused changes, and as long as their texts can be.
    #[test]
    fn no_line_is_long_and_no_event_is_lost() {
        let hostile = "\u{1}".repeat(256);
        let list = |n: i64| -> Attributes {
            let texts = ["what", "path", "rule", "mechanism", "witness"].into_iter();
            let texts = texts.map(|key| (format!("proctor.{key}"), Attribute::Text(hostile.clone())));
            texts.chain([("n".to_owned(), Attribute::Int(n))]).collect()
        };
        let event = |n| SpanEvent { name: "policy.denied".into(), at_ns: 1, attributes: list(n) };
        let (run, phase) = (SpanId::new().unwrap(), SpanId::new().unwrap());
        let one = |id, parent, events| Span {
            id,
            parent,
            name: "phase changes".into(),
            start_ns: 1,
            end_ns: 2,
            attributes: list(-1),
            events,
            status: SpanStatus::Ok,
        };
        let mut writer = TraceWriter::new(Vec::new(), TraceId::new().unwrap(), "r-1", &[]);
        let events = (0..1000).map(event).collect();
        let mut spans = vec![one(run, None, Vec::new()), one(phase, Some(run), events)];
        spans.extend((0..200).map(|_| one(SpanId::new().unwrap(), Some(phase), Vec::new())));
        writer.write(&spans).unwrap();
        let text = String::from_utf8(writer.into_inner()).unwrap();
        let longest = text.lines().map(str::len).max().unwrap();
        assert!(longest < 512 << 10 && text.len() > 8 << 20, "{longest} of {}", text.len());
        let (mut count, mut found) = (0, Vec::new());
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            for span in line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap() {
                count += usize::from(span["name"] != "events");
                let own = span["spanId"] == hex::encode(&phase.0);
                assert!(span["events"].is_null() || own || span["parentSpanId"] == hex::encode(&phase.0));
                let events = span["events"].as_array().into_iter().flatten();
                found.extend(events.map(|one| one["attributes"][5]["value"]["intValue"].clone()));
            }
        }
        assert_eq!(count, spans.len());
        assert_eq!(found, (0..1000).map(|n| json!(n.to_string())).collect::<Vec<_>>());
    }

    #[test]
    fn ids_differ_and_are_never_zero() {
        assert_ne!(TraceId::new().unwrap(), TraceId::new().unwrap());
        assert_ne!(SpanId::new().unwrap().0, [0; 8]);
    }
}
