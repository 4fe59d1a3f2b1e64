//! What the trace tells of the event log and of the report: calls as the backend claims them, limits and refused changes
//! as the supervisor saw them, resource use. Made here for the run that writes a trace and for the verifier that reads
//! one, so that both say the same.

use std::collections::BTreeMap;

use serde_json::Value;

use super::trace::{Attribute, Attributes, Completeness, SpanStatus};
use crate::event::SpanKind;
use crate::event::calls::{Call, Seen};
use crate::report::UsageInfo;

/// A span of a call, but for its place in a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct CallSpan {
    /// `tool_call` or `command`.
    pub name: &'static str,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// Nanoseconds since 1970.
    pub end_ns: u64,
    /// Particulars.
    pub attributes: Attributes,
    /// Unset, but for what had no end: that it went well is the backend's word alone.
    pub status: SpanStatus,
}

/// The number of the event that a span or a span's event tells of.
pub const SEQ: &str = "proctor.event.seq";
/// Prefix of resource use.
pub const USAGE: &str = "proctor.usage.";
/// How many calls are counted alone.
pub const CALLS_LEFT_OUT: &str = "proctor.left_out.tool_calls";
/// How many limits, times and refused changes are counted alone.
pub const MOMENTS_LEFT_OUT: &str = "proctor.left_out.limits";

/// Names of spans of calls.
pub const CALL_NAMES: [&str; 2] = ["tool_call", "command"];

fn nanos(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0).saturating_mul(1000)
}

fn number(value: u64) -> Attribute {
    Attribute::Int(value.try_into().unwrap_or(i64::MAX))
}

/// A call as a span.
#[must_use]
pub fn call(call: &Call) -> CallSpan {
    let tool = call.kind == SpanKind::Tool;
    let mut list: Attributes =
        vec![("proctor.trust".into(), Attribute::from("claimed")), (SEQ.into(), number(call.seq))];
    if tool {
        list.push(("gen_ai.operation.name".into(), Attribute::from("execute_tool")));
    }
    let (name, id) = if tool {
        ("gen_ai.tool.name", "gen_ai.tool.call.id")
    } else {
        ("proctor.command", "proctor.call.id")
    };
    for (key, value) in [
        (name, &call.name),
        (id, &call.call_id),
        ("proctor.tool.kind", &call.tool_kind),
        ("proctor.status", &call.status),
    ] {
        if let Some(value) = value {
            list.push((key.into(), Attribute::Text(value.clone())));
        }
    }
    if let Some((seq, _)) = call.end {
        list.push(("proctor.event.end_seq".into(), number(seq)));
    }
    let status = match call.status.as_deref() {
        Some("interrupted") => SpanStatus::Error("interrupted".into()),
        _ => SpanStatus::Unset,
    };
    CallSpan {
        name: if tool { CALL_NAMES[0] } else { CALL_NAMES[1] },
        start_ns: nanos(call.start),
        end_ns: nanos(call.end.map_or(call.start, |(_, at)| at)),
        attributes: list,
        status,
    }
}

/// A moment as the event of a span: name, time, particulars.
#[must_use]
pub fn moment(seen: &Seen) -> (&'static str, u64, Attributes) {
    let mut list: Attributes =
        vec![(SEQ.into(), number(seen.seq)), ("proctor.phase".into(), Attribute::Text(seen.phase.clone()))];
    for (name, value) in &seen.said {
        let value = match value {
            Value::Number(value) => value.as_u64().map_or_else(|| Attribute::Text(value.to_string()), number),
            Value::String(value) => Attribute::Text(value.clone()),
            _ => continue,
        };
        list.push((format!("proctor.{name}"), value));
    }
    (seen.event_type.as_str(), nanos(seen.at), list)
}

/// One sandbox's resource use, as far as it is known.
#[must_use]
pub fn usage(used: &UsageInfo) -> Vec<(&'static str, u64)> {
    [
        ("user_us", used.user_us),
        ("system_us", used.system_us),
        ("max_memory", used.max_memory),
        ("max_tasks", used.max_tasks),
        ("cpu_throttled", used.cpu_throttled),
        ("disk", used.disk),
        ("output", used.output),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// The same as attributes.
#[must_use]
pub fn usage_attributes(used: &UsageInfo) -> Attributes {
    usage(used).into_iter().map(|(name, value)| (format!("{USAGE}{name}"), number(value))).collect()
}

/// Whether all of it is known.
#[must_use]
pub fn usage_completeness(all: &BTreeMap<String, UsageInfo>) -> Completeness {
    let known = |used: &UsageInfo| {
        let UsageInfo { user_us, system_us, max_memory, max_tasks, disk, output, cpu_throttled: _ } = used;
        [user_us, system_us, max_memory, max_tasks, disk, output].into_iter().all(Option::is_some)
    };
    if all.values().all(known) { Completeness::Complete } else { Completeness::Advisory }
}
