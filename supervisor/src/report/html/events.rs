//! Reads the event log for the page: counts of everything, the first and the last events in full, and when the others
//! were. Tolerant, as `diff` is; memory does not grow with the log.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use serde_json::{Map, Value};

use super::source::{Line, next_line, whole_characters};
use crate::event::{Event, EventType, MAX_LINE, Source, Trust, parse_micros};

/// Most events at the beginning and at the end that are kept.
const FIRST: usize = 2000;
const LAST: usize = 500;
/// Most bytes of the log that are read.
const MOST: u64 = 4 << 30;
/// Most bytes of one particular, of its name, and of an event's particulars together.
const VALUE: usize = 400;
const NAME: usize = 60;
const TOGETHER: usize = 900;
/// How finely the course of time is told apart.
pub(super) const STEPS: usize = 500;

/// One event, as far as it is shown.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) seq: u64,
    /// From the start of the run.
    pub(super) micros: i64,
    pub(super) kind: EventType,
    pub(super) source: Source,
    pub(super) trust: Trust,
    pub(super) call: Option<String>,
    pub(super) native: Option<(String, u64)>,
    pub(super) data: Vec<(String, String)>,
    pub(super) cut: bool,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) count: u64,
    pub(super) by_type: BTreeMap<EventType, u64>,
    pub(super) by_source: BTreeMap<Source, u64>,
    pub(super) first: Vec<Row>,
    pub(super) last: VecDeque<Row>,
    /// How many events of each source there are in each step of the run's time.
    pub(super) steps: BTreeMap<Source, Vec<u32>>,
    /// The first line that is no event: what follows was not read.
    pub(super) stopped: Option<u64>,
}

impl Events {
    /// Events between the first and the last.
    pub(super) fn between(&self) -> u64 {
        self.count - (self.first.len() + self.last.len()) as u64
    }
}

/// Reads a log. `start` and `length` are the run's, microseconds.
pub(super) fn read(file: File, start: i64, length: i64) -> Events {
    let mut input = BufReader::with_capacity(64 * 1024, file.take(MOST));
    let mut events = Events {
        count: 0,
        by_type: BTreeMap::new(),
        by_source: BTreeMap::new(),
        first: Vec::new(),
        last: VecDeque::new(),
        steps: BTreeMap::new(),
        stopped: None,
    };
    let mut line = Vec::new();
    loop {
        let event = match next_line(&mut input, &mut line, MAX_LINE) {
            Ok(Line::End) => break,
            Ok(Line::Some { rest: 0 }) => serde_json::from_slice::<Event>(&line).ok(),
            Ok(Line::Some { .. }) | Err(_) => None,
        };
        let Some((event, at)) = event.and_then(|event| parse_micros(&event.ts).map(|at| (event, at))) else {
            events.stopped = Some(events.count + 1);
            break;
        };
        let micros = at.saturating_sub(start);
        events.count += 1;
        *events.by_type.entry(event.event_type).or_default() += 1;
        *events.by_source.entry(event.source).or_default() += 1;
        let steps = events.steps.entry(event.source).or_insert_with(|| vec![0; STEPS]);
        if let Some(step) = steps.get_mut(step(micros, length)) {
            *step = step.saturating_add(1);
        }
        if events.first.len() < FIRST {
            events.first.push(row(event, micros));
        } else {
            if events.last.len() == LAST {
                events.last.pop_front();
            }
            events.last.push_back(row(event, micros));
        }
    }
    events
}

/// The step of a time; what lies outside of the run is at its ends.
pub(super) fn step(micros: i64, length: i64) -> usize {
    let share = micros.clamp(0, length.max(1)) as f64 / length.max(1) as f64;
    ((share * STEPS as f64) as usize).min(STEPS - 1)
}

fn row(event: Event, micros: i64) -> Row {
    let (data, cut) = particulars(&event.data);
    Row {
        seq: event.seq,
        micros,
        kind: event.event_type,
        source: event.source,
        trust: event.trust,
        call: event.call_id.map(|id| cut_text(id.as_bytes(), NAME)),
        native: event.native.map(|native| (cut_text(native.stream.as_bytes(), NAME), native.line)),
        data,
        cut,
    }
}

/// Names and values, strings without quotes, and whether anything was cut.
fn particulars(data: &Map<String, Value>) -> (Vec<(String, String)>, bool) {
    let (mut list, mut room, mut cut) = (Vec::new(), TOGETHER, false);
    for (name, value) in data.iter().filter(|(_, value)| !value.is_null()) {
        if room < NAME {
            return (list, true);
        }
        let name = cut_text(name.as_bytes(), NAME);
        let most = VALUE.min(room - name.len().min(room));
        let (text, whole) = match value {
            Value::String(text) => (cut_text(text.as_bytes(), most), text.len() <= most),
            other => {
                let mut some = Limited(Vec::new(), most);
                let whole = serde_json::to_writer(&mut some, other).is_ok();
                let end = if whole { some.0.len() } else { whole_characters(&some.0) };
                (cut_text(&some.0[..end], most), whole)
            }
        };
        cut |= !whole;
        room = room.saturating_sub(name.len() + text.len());
        list.push((name, text));
    }
    (list, cut)
}

fn cut_text(bytes: &[u8], most: usize) -> String {
    let cut = &bytes[..bytes.len().min(most)];
    let whole = if cut.len() < bytes.len() { &cut[..whole_characters(cut)] } else { cut };
    String::from_utf8_lossy(whole).into_owned()
}

/// Takes so many bytes and then no more.
struct Limited(Vec<u8>, usize);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.1 - self.0.len();
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let taken = bytes.len().min(room);
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: &Value) -> (Vec<(String, String)>, bool) {
        particulars(value.as_object().unwrap())
    }

    #[test]
    fn particulars_are_short() {
        let (list, cut) = of(&json!({"a": "x", "b": null, "c": {"d": [1, "y"]}, "e": 7}));
        let list: Vec<(&str, &str)> = list.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(list, [("a", "x"), ("c", "{\"d\":[1,\"y\"]}"), ("e", "7")]);
        assert!(!cut);
        let many: Map<String, Value> = (0..50).map(|n| (format!("k{n}"), json!(["é".repeat(900)]))).collect();
        let (list, cut) = particulars(&many);
        let size: usize = list.iter().map(|(a, b)| a.len() + b.len()).sum();
        assert!(cut && size <= TOGETHER, "{size}");
        assert!(list.iter().all(|(_, value)| !value.contains('\u{fffd}')));
    }

    #[test]
    fn times_outside_of_the_run_are_at_its_ends() {
        assert_eq!((step(-5, 100), step(0, 100), step(50, 100)), (0, 0, STEPS / 2));
        assert_eq!((step(100, 100), step(1000, 100), step(0, 0)), (STEPS - 1, STEPS - 1, 0));
    }
}
