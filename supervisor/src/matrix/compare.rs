//! What a fixture wants and what a run gave, and each difference between the two in words.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::fixture::{Fixture, Played, WantedEvent};
use super::read::Raised;
use crate::verdict::BlockerCode;

/// What is expected of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expected {
    /// Exit code.
    pub exit: i32,
    /// The report's status.
    pub status: String,
    /// The exact set of blockers.
    pub blockers: Vec<BlockerCode>,
    /// Events beside `blocker.raised`.
    pub events: Vec<WantedEvent>,
    /// Fields of blockers' details.
    pub detail: BTreeMap<BlockerCode, Value>,
    /// Exit code of `verify`.
    pub verify: i32,
}

impl Expected {
    /// What a fixture wants of a run by this engine.
    pub fn new(fixture: &Fixture, played: &Played) -> Self {
        let detail = |(code, table): (&BlockerCode, &toml::Table)| {
            // A TOML table is a JSON object but for its dates, which no detail has.
            (*code, serde_json::to_value(table).unwrap_or(Value::Null))
        };
        Self {
            exit: i32::from(fixture.exit),
            status: if fixture.exit == 0 { "pass" } else { "fail" }.to_owned(),
            blockers: played.blockers.as_ref().unwrap_or(&fixture.blockers).clone(),
            events: fixture.events.iter().chain(&played.events).copied().collect(),
            detail: fixture.detail.iter().map(detail).collect(),
            verify: i32::from(fixture.verify),
        }
    }
}

/// What was read.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Got {
    /// Exit code of the run; `None` where a signal killed it.
    pub exit: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The report's status; `None` where there is no report.
    pub status: Option<String>,
    /// The exit code in the report.
    pub report_exit: Option<i32>,
    /// The report's blockers.
    pub blockers: Vec<String>,
    /// Codes of the events `blocker.raised`.
    pub raised: Vec<String>,
    /// Of the events that are expected, those that were seen.
    pub events: Vec<WantedEvent>,
    /// Exit code of `verify`; `None` where there was nothing to verify.
    pub verify: Option<i32>,
    /// What `verify` found wrong.
    pub problems: Vec<String>,
    /// What in the work tree, `.git` included, is not as it should be.
    pub tree: Vec<String>,
    /// The last lines that the run said on standard error.
    pub said: Vec<String>,
    /// True where the backend never started, so that what happens meanwhile did not.
    pub missed: bool,
    #[serde(skip)]
    pub(super) details: Vec<Raised>,
}

fn names(list: &[impl std::fmt::Display]) -> String {
    if list.is_empty() {
        return "none".to_owned();
    }
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn sorted(list: &[impl ToString]) -> Vec<String> {
    let mut list: Vec<String> = list.iter().map(ToString::to_string).collect();
    list.sort_unstable();
    list
}

/// Every difference.
pub(super) fn differences(wanted: &Expected, got: &Got) -> Vec<String> {
    let mut all = Vec::new();
    if got.exit != Some(wanted.exit) {
        let how = match (got.exit, got.signal) {
            (Some(code), _) => code.to_string(),
            (None, Some(signal)) => format!("the end by signal {signal}"),
            (None, None) => "no end".to_owned(),
        };
        all.push(format!("exit code: expected {}, got {how}", wanted.exit));
    }
    match &got.status {
        None => all.push("report: there is none".to_owned()),
        Some(status) => {
            if *status != wanted.status {
                all.push(format!("status: expected {}, got {status}", wanted.status));
            }
            if got.exit.is_some() && got.report_exit != got.exit {
                let says = got.report_exit.map_or_else(|| "none".to_owned(), |code| code.to_string());
                all.push(format!("report: its exit code is {says}, and the run's was another"));
            }
            if sorted(&got.blockers) != sorted(&wanted.blockers) {
                all.push(format!(
                    "blockers: expected {}, got {}",
                    names(&wanted.blockers),
                    names(&got.blockers)
                ));
            }
            // Where the log could not be written, the report alone can tell.
            let unwritten = got.blockers.iter().any(|code| code == BlockerCode::ArtifactWriteFailed.as_str());
            if got.raised != got.blockers
                && !(unwritten && got.raised.iter().all(|r| got.blockers.contains(r)))
            {
                all.push(format!(
                    "events: blocker.raised says {}, the report {}",
                    names(&got.raised),
                    names(&got.blockers)
                ));
            }
        }
    }
    for event in wanted.events.iter().filter(|event| !got.events.contains(event)) {
        all.push(format!("events: no {} from {}", event.event_type.as_str(), event.source.as_str()));
    }
    for (code, fields) in &wanted.detail {
        let raised: Vec<&Raised> = got.details.iter().filter(|one| one.code == code.as_str()).collect();
        let has = |one: &&Raised| {
            fields
                .as_object()
                .is_some_and(|fields| fields.iter().all(|(key, value)| one.detail.get(key) == Some(value)))
        };
        if !raised.is_empty() && !raised.iter().any(has) {
            let details: Vec<&Value> = raised.iter().map(|one| &one.detail).collect();
            all.push(format!("detail of {code}: expected {fields}, got {}", names(&details)));
        }
    }
    for one in &got.details {
        // A blocker that does not say what to do is half a blocker.
        if one.message.is_empty() || one.remedy.is_empty() {
            all.push(format!("{}: its message or its remedy is empty", one.code));
        }
    }
    if let Some(verify) = got.verify
        && verify != wanted.verify
    {
        all.push(format!("verify: expected exit code {}, got {verify}", wanted.verify));
        all.extend(got.problems.iter().map(|problem| format!("verify: {problem}")));
    }
    if got.missed {
        all.push(
            "meanwhile: the backend never started, so that what happens while it runs did not".to_owned(),
        );
    }
    all.extend(got.tree.iter().map(|what| format!("work tree: {what}")));
    if got.status.is_none() {
        all.extend(got.said.iter().map(|line| format!("it said: {line}")));
    }
    all
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
