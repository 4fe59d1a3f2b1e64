//! The trace, held against the report: its run, how much of each kind it says it holds, and whether it holds as many
//! programs, refused calls, attempts to connect and refusals by Landlock as the report counts.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::TRACE;
use super::agree::Out;
use crate::report::{Report, is_landlock};

/// Longest line of the trace, bytes.
const MAX_LINE: u64 = 16 << 20;
/// Most different sandboxes, calls and addresses that are counted apart.
const MAX_KEYS: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TracesData {
    #[serde(rename = "resourceSpans")]
    spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
struct ResourceSpans {
    resource: Resource,
    #[serde(rename = "scopeSpans")]
    scopes: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    name: String,
    attributes: Vec<Attribute>,
    #[serde(default)]
    events: Vec<SpanEvent>,
}

#[derive(Deserialize)]
struct SpanEvent {
    name: String,
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    key: String,
    value: AttributeValue,
}

#[derive(Deserialize)]
struct AttributeValue {
    #[serde(rename = "stringValue")]
    text: Option<String>,
    #[serde(rename = "intValue")]
    number: Option<String>,
    #[serde(flatten)]
    _other: BTreeMap<String, IgnoredAny>,
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

    fn span(&mut self, span: &Span) -> Result<(), String> {
        if span.name == "program" {
            self.add(&span.attributes, "programs", 1)?;
            if matches!(text(&span.attributes, "proctor.end"), Some("exited" | "killed")) {
                self.add(&span.attributes, "exit_codes", 1)?;
            }
        }
        for event in &span.events {
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
            for one in list {
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
pub(super) fn check(report: &Report, traced: Option<&Traced>, out: &mut Out<'_>) {
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
        *denied.entry((one.sandbox.clone(), what, name)).or_insert(0) += one.count.min(1 << 50);
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
