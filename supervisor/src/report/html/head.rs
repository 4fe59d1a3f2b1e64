//! The verdict, and every blocker with what to do about it: what a reader sees first.

use maud::{Markup, html};
use serde_json::Value;

use super::{Draft, bounded, code, optional, rest, seconds, text, text_of};
use crate::report::words;
use crate::verdict::{Blocker, Status};

/// Share of the page, bytes of markup, and most blockers.
const ROOM: usize = 400_000;
const MOST: usize = 100;
/// Most entries of a list in a blocker's detail, and most characters of what else stands there.
const LISTED: usize = 20;
const DETAIL: usize = 2000;

/// The verdict.
pub(super) fn header(draft: &Draft<'_>, word: &str) -> Markup {
    let report = draft.report;
    let pass = report.status == Status::Pass;
    let count = report.blockers.len();
    let took = report.freshness.monotonic_duration_ns / 1000;
    html! {
        header.verdict.pass[pass].fail[!pass] {
            div.wide {
                p.brand { "Proctor report" }
                h1 {
                    span.word { (word) }
                    @if count > 0 { span.why { (count) @if count == 1 { " blocker" } @else { " blockers" } } }
                    @else if !pass { span.why { "a defect in Proctor" } }
                }
                dl.facts {
                    div { dt { "Run" } dd { (code(&report.run_id)) } }
                    div { dt { "Engine" } dd {
                        (code(&report.engine.name))
                        @if let Some(version) = &report.engine.version { " " (code(version)) }
                    } }
                    div { dt { "Mutation" } dd { (code(&report.mutation_mode)) } }
                    div { dt { "Stage" } dd {
                        @match &report.stage { Some(stage) => (code(stage)), None => (words::UNGOVERNED) }
                    } }
                    div { dt { "Exit code" } dd { code { (report.exit_code) } } }
                    div { dt { "Sandbox" } dd {
                        @match &report.sandbox.level { Some(level) => (code(level)), None => (words::NO_SANDBOX) }
                    } }
                    div { dt { "Started" } dd { (code(&report.run_start)) } }
                    div { dt { "Took" } dd { (seconds(took)) } }
                    div.long { dt { "Base commit" } dd { (optional(report.base_commit.as_deref())) } }
                    div.long { dt { "Command" } dd { code { (text_of(&report.engine.argv.join(" "), 1000)) } } }
                }
                @if report.quarantined {
                    p.warn { strong { (words::QUARANTINED) }
                        " Logs, events, the diff and texts of others are withheld on this page." }
                }
                @if pass {
                    @let (said, warning) = words::what_a_pass_proves(report);
                    p.proves { (said) @if let Some(warning) = warning { " " strong { (warning) } } }
                }
            }
        }
    }
}

/// Why the run is no pass.
pub(super) fn blockers(draft: &Draft<'_>) -> Markup {
    let all = &draft.report.blockers;
    let (shown, left) = bounded(all, (MOST, ROOM), one);
    html! {
        @if !all.is_empty() {
            section #blockers aria-labelledby="h-blockers" {
                h2 #h-blockers { "Why, and what to do" }
                ol.blockers { (shown) }
                (rest(left, "blockers"))
            }
        }
    }
}

fn one(blocker: &Blocker) -> Markup {
    html! {
        li.blocker {
            h3 { code.codeword { (blocker.code.as_str()) } }
            p.message { (text_of(&blocker.message, 2000)) }
            p.remedy { b { "What to do: " } (text_of(&blocker.remedy, 2000)) }
            (detail(&blocker.detail))
        }
    }
}

/// Lists as lists, everything else as it stands in the report.
fn detail(detail: &Value) -> Markup {
    let Some(map) = detail.as_object().filter(|map| !map.is_empty()) else {
        return html! { @if !detail.is_null() && !detail.is_object() { p.detail { (code(&detail.to_string())) } } };
    };
    let list = |value: &Value| value.get("listed").and_then(Value::as_array).cloned();
    html! {
        dl.detail {
            @for (key, value) in map.iter().take(LISTED).filter(|(_, value)| !value.is_null()) {
                div {
                    dt { (text_of(&key.replace('_', " "), 60)) }
                    dd {
                        @if let Some(items) = list(value) {
                            ul {
                                @for item in items.iter().take(LISTED) { li { (entry(item)) } }
                                @let total = value.get("total").and_then(Value::as_u64).unwrap_or(0);
                                @let more = total.saturating_sub(items.len().min(LISTED) as u64);
                                @if more > 0 { li.cut { "and " (more) " more" } }
                            }
                        } @else if let Some(said) = value.as_str() {
                            code { (text_of(said, DETAIL)) }
                        } @else {
                            code { (text_of(&value.to_string(), DETAIL)) }
                        }
                    }
                }
            }
        }
    }
}

/// One of a list: its texts beside each other, or what it is.
fn entry(item: &Value) -> Markup {
    match item {
        Value::String(said) => html! { code { (text_of(said, 1000)) } },
        Value::Object(map) => {
            let mut known = map.iter().filter(|(_, value)| !value.is_null());
            html! {
                @if let Some((_, first)) = known.next() { (said(first)) }
                @for (key, value) in known.take(8) {
                    " " span.aside {
                        @if value.is_string() { (said(value)) } @else { (text_of(key, 60)) " " (said(value)) }
                    }
                }
            }
        }
        other => text(&other.to_string()),
    }
}

/// A value as text.
fn said(value: &Value) -> Markup {
    match value {
        Value::String(said) => html! { code { (text_of(said, 1000)) } },
        other => html! { code { (text_of(&other.to_string(), 200)) } },
    }
}
