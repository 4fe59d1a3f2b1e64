//! The trace, held against the report: its run, how much of each kind it says it holds, and whether it holds as many
//! programs, refused calls, attempts to connect and refusals by Landlock as the report counts. And against the events:
//! calls as they are claimed, limits, times and refused changes, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::{TRACE, told, trace};
use super::agree::Out;
use crate::event::Calls;
use crate::event::calls::{MAX_CALLS, MAX_MOMENTS};
use crate::report::{Report, is_landlock};

/// Longest line of the trace, bytes.
const MAX_LINE: u64 = 16 << 20;
/// Most different sandboxes, calls and addresses that are counted apart.
const MAX_KEYS: usize = 10_000;
/// Prefix of what is counted alone.
const LEFT_OUT: &str = "proctor.left_out.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TracesData {
    #[serde(rename = "resourceSpans")]
    spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceSpans {
    resource: Resource,
    #[serde(rename = "scopeSpans")]
    scopes: Vec<ScopeSpans>,
    #[serde(rename = "schemaUrl")]
    _schema: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    attributes: Attributes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeSpans {
    spans: Vec<Span>,
    #[serde(rename = "scope")]
    _scope: IgnoredAny,
    #[serde(rename = "schemaUrl")]
    _schema: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    #[serde(rename = "traceId")]
    _trace: IgnoredAny,
    #[serde(rename = "spanId")]
    _id: IgnoredAny,
    name: String,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "startTimeUnixNano")]
    start: String,
    #[serde(rename = "endTimeUnixNano")]
    end: String,
    #[serde(rename = "parentSpanId")]
    parent: Option<String>,
    attributes: Attributes,
    #[serde(default)]
    events: Vec<SpanEvent>,
    #[serde(rename = "status")]
    _status: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpanEvent {
    name: String,
    #[serde(rename = "timeUnixNano")]
    at: String,
    attributes: Attributes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attribute {
    key: String,
    value: AttributeValue,
}

/// One of its fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributeValue {
    #[serde(rename = "stringValue")]
    text: Option<String>,
    #[serde(rename = "intValue")]
    number: Option<String>,
    #[serde(rename = "doubleValue")]
    _double: Option<IgnoredAny>,
    #[serde(rename = "boolValue")]
    _bool: Option<IgnoredAny>,
    #[serde(rename = "arrayValue")]
    _array: Option<IgnoredAny>,
}

/// Attributes, no key twice: of two values one reader takes the first and another the last.
#[derive(Deserialize)]
#[serde(try_from = "Vec<Attribute>")]
struct Attributes(Vec<Attribute>);

impl TryFrom<Vec<Attribute>> for Attributes {
    type Error = String;

    fn try_from(list: Vec<Attribute>) -> Result<Self, String> {
        let mut keys = BTreeSet::new();
        match list.iter().find(|one| !keys.insert(one.key.as_str())) {
            Some(twice) => Err(format!("an attribute stands twice: {:?}", twice.key)),
            None => Ok(Self(list)),
        }
    }
}

impl std::ops::Deref for Attributes {
    type Target = [Attribute];

    fn deref(&self) -> &[Attribute] {
        &self.0
    }
}

/// Whether a line is written as Proctor writes it: no field twice, none in another place.
fn is_canonical(line: &[u8]) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    let text = value.and_then(|value| serde_json::to_vec(&value).ok());
    text.is_some_and(|text| line.strip_suffix(b"\n") == Some(&text))
}

fn text<'a>(list: &'a [Attribute], key: &str) -> Option<&'a str> {
    list.iter().find(|one| one.key == key)?.value.text.as_deref()
}

/// Rights, what they were wanted on, and the program.
fn landlock_name(blockers: &str, to: Option<&str>, by: Option<&str>) -> String {
    format!("{blockers} {:?} {:?}", to.unwrap_or_default(), by.unwrap_or_default())
}

/// What a trace holds.
#[derive(Debug, Default)]
pub(super) struct Traced {
    /// What it says of its completeness, by kind.
    completeness: BTreeMap<String, String>,
    /// By sandbox and kind ([`KINDS`]).
    counts: BTreeMap<(String, &'static str), u64>,
    /// What it tells of the event log, by the number of the event.
    told: BTreeMap<u64, String>,
    /// Resource use, by sandbox and name.
    usage: BTreeMap<(String, String), String>,
    /// How much of the event log it counts alone, by attribute.
    left_out: BTreeMap<String, String>,
    /// By sandbox, what was refused (`syscall`, `connect`, `path`, ...), and its name: call, address, or both of what
    /// Landlock refused and to whom.
    denied: BTreeMap<(String, String, String), u64>,
}

impl Traced {
    fn add(&mut self, list: &[Attribute], kind: &'static str, count: u64) -> Result<(), String> {
        let sandbox =
            text(list, "proctor.sandbox").ok_or("a span or event says of no sandbox that it is its")?;
        if self.counts.len() + self.denied.len() > MAX_KEYS {
            return Err("speaks of too many different things".to_owned());
        }
        let sum = self.counts.entry((sandbox.to_owned(), kind)).or_insert(0);
        *sum = sum.saturating_add(count);
        let said = |key: &str| text(list, key).unwrap_or_default();
        let named = match kind {
            "denials" => Some(("syscall", said("proctor.call").to_owned())),
            "connections" => Some(("connect", said("proctor.address").to_owned())),
            "denied_paths" => {
                let to = text(list, "proctor.path").or_else(|| text(list, "proctor.address"));
                let by = text(list, "process.executable.path");
                Some((said("proctor.what"), landlock_name(said("proctor.blockers"), to, by)))
            }
            _ => None,
        };
        if let Some((what, name)) = named {
            let sum = self.denied.entry((sandbox.to_owned(), what.to_owned(), name)).or_insert(0);
            *sum = sum.saturating_add(count);
        }
        Ok(())
    }

    fn told(&mut self, name: &str, times: &[&str], list: &[Attribute]) -> Result<(), String> {
        let seq = list.iter().find(|one| one.key == told::SEQ);
        let seq = seq.and_then(|one| one.value.number.as_deref()?.parse::<u64>().ok());
        let seq = seq.ok_or_else(|| format!("a {name} does not say which event it tells of"))?;
        let said =
            list.iter().map(|one| (one.key.as_str(), one.value.text.as_ref().or(one.value.number.as_ref())));
        let said = line(name, times, said.map(|(key, value)| (key, value.cloned().unwrap_or_default())));
        if self.told.len() > MAX_CALLS + MAX_MOMENTS {
            return Err("tells of too many calls and limits".to_owned());
        }
        match self.told.insert(seq, said) {
            Some(_) => Err(format!("tells of event {seq} twice")),
            None => Ok(()),
        }
    }

    fn phase(&mut self, span: &Span) -> Result<(), String> {
        let phase = text(&span.attributes, "proctor.phase");
        for one in &*span.attributes {
            if let (Some(name), Some(number)) = (one.key.strip_prefix(told::USAGE), &one.value.number) {
                let phase = phase.ok_or("a span says of no phase what it used")?.to_owned();
                if self.usage.len() >= MAX_KEYS
                    || self.usage.insert((phase, name.to_owned()), number.clone()).is_some()
                {
                    return Err("says more than once what a sandbox used".to_owned());
                }
            }
            if let (true, Some(number)) = (one.key.starts_with(LEFT_OUT), &one.value.number)
                && span.parent.is_none()
                && self.left_out.len() < MAX_KEYS
            {
                self.left_out.insert(one.key.clone(), number.clone());
            }
        }
        Ok(())
    }

    fn span(&mut self, span: &Span) -> Result<(), String> {
        if told::CALL_NAMES.contains(&span.name.as_str()) {
            self.told(&span.name, &[&span.start, &span.end], &span.attributes)?;
        }
        self.phase(span)?;
        if span.name == "program" {
            self.add(&span.attributes, "programs", 1)?;
            if matches!(text(&span.attributes, "proctor.end"), Some("exited" | "killed")) {
                self.add(&span.attributes, "exit_codes", 1)?;
            }
        }
        for event in &span.events {
            let of_log = match event.name.as_str() {
                "limit.exceeded" | "timeout.expired" => true,
                "policy.denied" => text(&event.attributes, "proctor.what") == Some("change"),
                _ => false,
            };
            if of_log {
                self.told(&event.name, &[&event.at], &event.attributes)?;
                continue;
            }
            let kind = match event.name.as_str() {
                "policy.denied" => match text(&event.attributes, "proctor.what") {
                    None => "denials",
                    Some(what) if is_landlock(what) => "denied_paths",
                    Some(what) => return Err(format!("a refusal says {what:?} of what was refused")),
                },
                "connect" => "connections",
                _ => continue,
            };
            let count = event.attributes.iter().find(|one| one.key == "proctor.count");
            let count = count.and_then(|one| one.value.number.as_deref()?.parse::<u64>().ok());
            self.add(&event.attributes, kind, count.ok_or("an event has no proctor.count")?)?;
        }
        Ok(())
    }
}

/// What is told of an event, as one text to compare.
fn line<'a>(name: &str, times: &[&str], said: impl Iterator<Item = (&'a str, String)>) -> String {
    let said: Vec<String> = said.map(|(key, value)| format!("{key}={value:?}")).collect();
    format!("{name} {} {}", times.join(" "), said.join(" "))
}

/// What the trace must tell of these events.
fn expected(calls: &Calls) -> BTreeMap<u64, String> {
    let plain = |list: trace::Attributes| {
        list.into_iter().map(|(key, value)| (key, value.plain())).collect::<Vec<_>>()
    };
    let said = |list: &[(String, String)], name: &str, times: &[u64]| {
        let times: Vec<String> = times.iter().map(u64::to_string).collect();
        let times: Vec<&str> = times.iter().map(String::as_str).collect();
        line(name, &times, list.iter().map(|(key, value)| (key.as_str(), value.clone())))
    };
    let mut all = BTreeMap::new();
    for call in &calls.calls {
        let span = told::call(call);
        let times = [span.start_ns, span.end_ns.max(span.start_ns)];
        all.insert(call.seq, said(&plain(span.attributes), span.name, &times));
    }
    for seen in &calls.moments {
        let (name, at, list) = told::moment(seen);
        all.insert(seen.seq, said(&plain(list), name, &[at]));
    }
    all
}

/// Whether it tells of the events what they say.
fn events(traced: &Traced, calls: &Calls, out: &mut Out<'_>) {
    let expected = expected(calls);
    let wrong = expected.iter().find(|(seq, said)| traced.told.get(seq) != Some(said));
    if let Some((seq, said)) = wrong {
        let held = traced.told.get(seq).map_or("nothing", String::as_str);
        let short = |text: &str| text.chars().take(160).collect::<String>();
        out.add(TRACE, format!("tells of event {seq} {:?}, the event says {:?}", short(held), short(said)));
    }
    if let Some(seq) = traced.told.keys().find(|seq| !expected.contains_key(seq)) {
        out.add(TRACE, format!("tells of event {seq}, which is no call, limit, time or refused change"));
    }
    for (name, left_out) in
        [(told::CALLS_LEFT_OUT, calls.calls_left_out), (told::MOMENTS_LEFT_OUT, calls.moments_left_out)]
    {
        let held = traced.left_out.get(name).map_or("0", String::as_str);
        if held != left_out.to_string() {
            out.add(TRACE, format!("says {name} {held:?}, of the events {left_out} are left out"));
        }
    }
    // What a backend does not say is not known: it is never complete.
    let said = traced.completeness.get("tool_calls").map(String::as_str);
    let absent = calls.calls.is_empty() && matches!(said, None | Some("absent"));
    if !absent && said != Some("advisory") {
        out.add(TRACE, format!("says of tool_calls that they are {said:?}; claims are advisory"));
    }
}

/// Whether it says what the sandboxes used as the report does.
fn usage(traced: &Traced, report: &Report, out: &mut Out<'_>) {
    let mut expected: BTreeMap<(String, String), String> = BTreeMap::new();
    for (role, used) in &report.usage {
        for (name, value) in told::usage(used) {
            expected.insert((role.clone(), name.to_owned()), value.min(i64::MAX as u64).to_string());
        }
    }
    let odd = expected
        .iter()
        .find(|(key, value)| traced.usage.get(*key) != Some(value))
        .or_else(|| traced.usage.iter().find(|(key, _)| !expected.contains_key(*key)));
    if let Some(((role, name), _)) = odd {
        let (here, there) =
            (traced.usage.get(&(role.clone(), name.clone())), expected.get(&(role.clone(), name.clone())));
        let name: String = name.chars().take(40).collect();
        out.add(TRACE, format!("says of usage {role}.{name} {here:?}, the report {there:?}"));
    }
    let (said, wanted) = (traced.completeness.get("usage"), told::usage_completeness(&report.usage));
    if said.map(String::as_str) != Some(wanted.as_str()) {
        out.add(
            TRACE,
            format!("says of usage that it is {said:?}, by the report it is {:?}", wanted.as_str()),
        );
    }
}

/// Reads it: each line is one `TracesData`, and each resource is of this run.
pub(super) fn read(input: &mut impl BufRead, run_id: &str) -> Result<Traced, String> {
    let mut traced = Traced::default();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let mut part = Read::take(&mut *input, MAX_LINE);
        let count = part.read_until(b'\n', &mut line).map_err(|error| format!("cannot be read: {error}"))?;
        if count == 0 && number == 1 {
            return Err("holds no spans".to_owned());
        }
        if count == 0 {
            break;
        }
        if line.last() != Some(&b'\n') {
            return Err(format!("line {number} is cut, or longer than {MAX_LINE} bytes"));
        }
        let at = |error: String| format!("line {number}: {error}");
        let data: TracesData = serde_json::from_slice(&line).map_err(|error| at(error.to_string()))?;
        if !is_canonical(&line) {
            return Err(at("is not in the form in which Proctor writes it".to_owned()));
        }
        for spans in &data.spans {
            let list = &spans.resource.attributes;
            let mut ids = list.iter().filter(|one| one.key == "proctor.run_id");
            let id = ids.next().and_then(|one| one.value.text.as_deref());
            if id != Some(run_id) || ids.next().is_some() {
                return Err(at(format!(
                    "is of run {:?}, the report of run {run_id:?}",
                    id.unwrap_or("none")
                )));
            }
            for one in &**list {
                let kind = one.key.strip_prefix("proctor.completeness.");
                if let (Some(kind), Some(said)) = (kind, &one.value.text) {
                    let known = traced.completeness.entry(kind.to_owned()).or_insert_with(|| said.clone());
                    if known != said {
                        return Err(at(format!("says of {kind} both {known:?} and {said:?}")));
                    }
                }
            }
            for span in spans.scopes.iter().flat_map(|scope| &scope.spans) {
                traced.span(span).map_err(at)?;
            }
        }
    }
    Ok(traced)
}

/// The kinds that are watched in each sandbox.
const KINDS: [&str; 5] = ["programs", "exit_codes", "denials", "connections", "denied_paths"];

fn rank(completeness: &str) -> Option<usize> {
    ["absent", "advisory", "complete"].iter().position(|one| *one == completeness)
}

/// Whether the report's own parts fit each other and the trace.
pub(super) fn check(report: &Report, traced: Option<&Traced>, calls: Option<&Calls>, out: &mut Out<'_>) {
    let said = &report.sandbox;
    let report_name = super::super::REPORT;
    for (role, kinds) in &said.observed {
        for (kind, one) in kinds {
            if rank(&one.completeness).is_none()
                || !KINDS.contains(&kind.as_str())
                || one.left_out > one.count
            {
                out.add(
                    report_name,
                    format!("sandbox.observed.{role}.{kind} is no statement of completeness"),
                );
            }
        }
        for (kind, named) in [("denials", "refused calls"), ("denied_paths", "refusals by Landlock")] {
            let is = |what: &str| if kind == "denials" { what == "syscall" } else { is_landlock(what) };
            let sum: u64 = said
                .denials
                .iter()
                .filter(|one| one.sandbox == *role && is(&one.what))
                .fold(0, |sum, one| sum.saturating_add(one.count));
            if let Some(one) = kinds.get(kind)
                && one.count.checked_sub(one.left_out) != Some(sum)
            {
                out.add(
                    report_name,
                    format!(
                        "sandbox.observed.{role}.{kind} counts {} {named} and leaves {} out, sandbox.denials has {sum}",
                        one.count, one.left_out
                    ),
                );
            }
        }
    }
    if let Some(one) = said.denials.iter().find(|one| !said.observed.contains_key(&one.sandbox)) {
        out.add(
            report_name,
            format!("sandbox.denials speaks of a sandbox {:?} that was not observed", one.sandbox),
        );
    }
    let Some(traced) = traced else { return };
    if let Some(calls) = calls {
        events(traced, calls, out);
    }
    usage(traced, report, out);
    for kind in KINDS {
        let ranks =
            said.observed.values().map(|kinds| kinds.get(kind).and_then(|one| rank(&one.completeness)));
        let least = ranks.map(|rank| rank.unwrap_or(0)).min().unwrap_or(0);
        let there = traced.completeness.get(kind).and_then(|said| rank(said));
        if there != Some(least) {
            let of = traced.completeness.get(kind);
            out.add(
                TRACE,
                format!("says of {kind} that they are {of:?}, the report's sandbox.observed says otherwise"),
            );
        }
    }
    for (role, kinds) in &said.observed {
        for kind in KINDS {
            let held = traced.counts.get(&(role.clone(), kind)).copied().unwrap_or(0);
            let told = kinds.get(kind).map_or(0, |one| one.count.saturating_sub(one.left_out));
            if held != told {
                out.add(TRACE, format!("holds {held} {kind} of sandbox {role}, the report tells of {told}"));
            }
        }
    }
    if let Some((role, kind)) = traced.counts.keys().find(|(role, _)| !said.observed.contains_key(role)) {
        out.add(TRACE, format!("holds {kind} of a sandbox {role:?} that the report did not observe"));
    }
    let mut denied: BTreeMap<(String, &str, String), u64> = BTreeMap::new();
    for one in &said.denials {
        let (what, name) = match one.what.as_str() {
            "syscall" => ("syscall", one.call.clone()),
            "connect" => ("connect", one.address.clone().unwrap_or_default()),
            what if is_landlock(what) => {
                let to = one.path.as_deref().or(one.address.as_deref());
                (what, landlock_name(&one.blockers.join(","), to, one.program.as_deref()))
            }
            other => {
                out.add(report_name, format!("sandbox.denials says {other:?} of what was refused"));
                continue;
            }
        };
        let sum = denied.entry((one.sandbox.clone(), what, name)).or_insert(0_u64);
        *sum = sum.saturating_add(one.count);
    }
    for ((role, what, name), count) in &denied {
        let held = traced.denied.get(&(role.clone(), (*what).to_owned(), name.clone())).copied().unwrap_or(0);
        if held != *count {
            let shown: String = name.chars().take(80).collect();
            out.add(
                TRACE,
                format!("holds {held} refusals of {what} {shown:?} in sandbox {role}, the report {count}"),
            );
        }
    }
}

#[cfg(test)]
#[path = "traced_tests.rs"]
mod tests;
