//! What a log says of calls and limits, gathered while it is written and, by the same rules, while it is read: so that a
//! trace made from the one can be held against the other. Bounded: a backend can claim a million calls.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::cut::{MAX_ID, cut};
use super::types::{EventType, Source, SpanKind};

/// Calls that are kept; more are counted.
pub const MAX_CALLS: usize = 10_000;
/// Limits, times and refused changes that are kept; more are counted.
pub const MAX_MOMENTS: usize = 1000;

/// A tool call or a command, as a backend claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// [`SpanKind::Tool`] or [`SpanKind::Command`].
    pub kind: SpanKind,
    /// Its id.
    pub call_id: Option<String>,
    /// The tool's name, or the command.
    pub name: Option<String>,
    /// The kind of tool.
    pub tool_kind: Option<String>,
    /// Number of the event that began it.
    pub seq: u64,
    /// When, microseconds since 1970.
    pub start: i64,
    /// Number and time of the event that ended it.
    pub end: Option<(u64, i64)>,
    /// What its end says.
    pub status: Option<String>,
}

/// Something that the supervisor saw at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `limit.exceeded`, `timeout.expired`, or `policy.denied` of a change.
    pub event_type: EventType,
    /// Number of its event.
    pub seq: u64,
    /// When, microseconds since 1970.
    pub at: i64,
    /// Its phase.
    pub phase: String,
    /// What its event says: names and texts or numbers.
    pub said: Vec<(&'static str, Value)>,
}

/// Calls and moments of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls, in the order of their starts.
    pub calls: Vec<Call>,
    /// Calls that are counted alone.
    pub calls_left_out: u64,
    /// Moments, in order.
    pub moments: Vec<Seen>,
    /// Moments that are counted alone.
    pub moments_left_out: u64,
    /// Calls without an end, by the numbers of their starts; `None` is one that is counted alone. A backend can begin as
    /// many as the log takes under one id: each end is found without looking through them.
    open: BTreeMap<(SpanKind, Option<String>), BTreeMap<u64, Option<usize>>>,
}

/// One line of a log, as far as it is told here.
pub(super) struct Told<'a> {
    pub(super) event_type: EventType,
    pub(super) source: Source,
    pub(super) call_id: Option<&'a str>,
    pub(super) seq: u64,
    pub(super) micros: i64,
    pub(super) data: &'a Map<String, Value>,
}

fn text(data: &Map<String, Value>, name: &str) -> Option<String> {
    let mut text = data.get(name)?.as_str()?.to_owned();
    cut(&mut text, MAX_ID);
    Some(text)
}

impl Calls {
    pub(super) fn add(&mut self, told: &Told<'_>) {
        use EventType as T;
        match (told.event_type, told.source) {
            (T::ToolStarted, Source::Backend) => self.begin(SpanKind::Tool, told),
            (T::CommandStarted, Source::Backend) => self.begin(SpanKind::Command, told),
            (T::ToolCompleted, Source::Backend | Source::Supervisor) => self.end(SpanKind::Tool, told),
            (T::CommandCompleted, Source::Backend | Source::Supervisor) => self.end(SpanKind::Command, told),
            (T::LimitExceeded, Source::Supervisor) => {
                self.moment(told, &["what", "limit", "seen", "mechanism", "witness"]);
            }
            (T::TimeoutExpired, Source::Supervisor) => self.moment(told, &["kind", "limit_ms"]),
            (T::PolicyDenied, Source::Supervisor)
                if told.data.get("what").and_then(Value::as_str) == Some("change") =>
            {
                self.moment(told, &["what", "path", "rule"]);
            }
            _ => {}
        }
    }

    fn begin(&mut self, kind: SpanKind, told: &Told<'_>) {
        let call_id = told.call_id.map(str::to_owned);
        if self.calls.len() >= MAX_CALLS {
            self.calls_left_out += 1;
            // Its end must not be taken for another's of the same id.
            if let Some(open) = self.open.get_mut(&(kind, call_id)) {
                open.insert(told.seq, None);
            }
            return;
        }
        let name = text(told.data, if kind == SpanKind::Tool { "name" } else { "command" });
        self.open.entry((kind, call_id.clone())).or_default().insert(told.seq, Some(self.calls.len()));
        self.calls.push(Call {
            kind,
            call_id,
            name,
            tool_kind: text(told.data, "kind"),
            seq: told.seq,
            start: told.micros,
            end: None,
            status: None,
        });
    }

    fn end(&mut self, kind: SpanKind, told: &Told<'_>) {
        let key = (kind, told.call_id.map(str::to_owned));
        let Some(open) = self.open.get_mut(&key) else { return };
        let ended = if told.source == Source::Supervisor {
            // The supervisor names the start that nobody ended.
            let seq = told.data.get("started_seq").and_then(Value::as_u64);
            seq.and_then(|seq| open.remove(&seq))
        } else {
            open.pop_last().map(|(_, one)| one)
        };
        if let Some(Some(at)) = ended {
            self.calls[at].end = Some((told.seq, told.micros));
            self.calls[at].status = text(told.data, "status");
        }
        if open.is_empty() {
            self.open.remove(&key);
        }
    }

    fn moment(&mut self, told: &Told<'_>, names: &[&'static str]) {
        if self.moments.len() >= MAX_MOMENTS {
            self.moments_left_out += 1;
            return;
        }
        let said = names.iter().filter_map(|name| match told.data.get(*name)? {
            Value::String(_) => Some((*name, Value::from(text(told.data, name)?))),
            Value::Number(number) => Some((*name, Value::Number(number.clone()))),
            _ => None,
        });
        self.moments.push(Seen {
            event_type: told.event_type,
            seq: told.seq,
            at: told.micros,
            phase: text(told.data, "phase").unwrap_or_else(|| "changes".to_owned()),
            said: said.collect(),
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As many as the default log takes: looking through them for each end would take hours.
    #[test]
    fn any_number_of_calls_of_one_id_is_ended_one_by_one() {
        const STARTS: u64 = 200_000;
        let mut calls = Calls::default();
        let none = Map::new();
        fn told(event_type: EventType, source: Source, seq: u64, data: &Map<String, Value>) -> Told<'_> {
            Told { event_type, source, call_id: None, seq, micros: seq.try_into().unwrap(), data }
        }
        for seq in 0..STARTS {
            calls.add(&told(EventType::ToolStarted, Source::Backend, seq, &none));
        }
        assert_eq!((calls.calls.len(), calls.calls_left_out), (MAX_CALLS, STARTS - MAX_CALLS as u64));
        for seq in (0..STARTS).rev() {
            let data = json!({ "status": "interrupted", "started_seq": seq });
            let end = STARTS + seq;
            calls.add(&told(EventType::ToolCompleted, Source::Supervisor, end, data.as_object().unwrap()));
        }
        assert!(calls.open.is_empty());
        for call in &calls.calls {
            assert_eq!(call.end.map(|(seq, _)| seq), Some(STARTS + call.seq), "each by its own end");
        }
    }

    #[test]
    fn a_backends_end_is_of_the_last_start_and_none_of_one_that_is_counted_alone_is_taken_for_anothers() {
        let mut calls = Calls::default();
        let none = Map::new();
        let mut add = |event_type, seq| {
            let (source, call_id, micros) = (Source::Backend, Some("a"), 0);
            calls.add(&Told { event_type, source, call_id, seq, micros, data: &none });
        };
        for seq in 0..=MAX_CALLS as u64 {
            add(EventType::CommandStarted, seq);
        }
        add(EventType::CommandCompleted, 20_000);
        add(EventType::CommandCompleted, 20_001);
        let ends: Vec<u64> = calls.calls.iter().filter_map(|call| call.end.map(|(seq, _)| seq)).collect();
        assert_eq!(ends, [20_001], "the first of them was of the start that is counted alone");
        assert_eq!(calls.calls.last().and_then(|call| call.end).map(|(seq, _)| seq), Some(20_001));
    }
}
