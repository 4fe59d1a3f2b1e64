//! The course of the run: its phases as bars, who said how much when, and the events themselves, in the order in which
//! the supervisor saw them. What the backend said of itself is marked as its claim.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use super::events::{self, Events, Row, STEPS};
use super::{Draft, bounded, text_of};
use crate::event::{Source, Trust, parse_micros};
use crate::evidence::EVENTS;
use crate::report::Timing;
use crate::report::escape::{Html, HtmlLines};

/// Share of the page, bytes of markup: the first events, the last ones.
const FIRST_ROOM: usize = 1_000_000;
const LAST_ROOM: usize = 250_000;
/// Most phases, and their share.
const PHASES: usize = 50;
const PHASES_ROOM: usize = 50_000;

/// The section.
pub(super) fn section(draft: &Draft<'_>) -> Markup {
    let report = draft.report;
    let start = parse_micros(&report.run_start);
    let whole = (report.freshness.monotonic_duration_ns / 1000).max(1);
    let length = i64::try_from(whole).unwrap_or(i64::MAX);
    // The log is no artifact of the manifest alone: it is named there as the others are.
    let there = report.digest_manifest.iter().any(|one| one.name == EVENTS);
    let events = start.filter(|_| there).and_then(|start| {
        let (file, _) = draft.artifacts.open(EVENTS)?;
        Some(events::read(file, start, length))
    });
    let (phases, _) = bounded(&report.timings, (PHASES, PHASES_ROOM), |timing| phase(timing, whole));
    html! {
        section #timeline aria-labelledby="h-timeline" {
            h2 #h-timeline { "Timeline" }
            div.course {
                div.row.axis { span {} span.ends { span { "0 s" } span { (super::seconds(whole)) } } span {} }
                (phases)
                @if let Some(events) = &events {
                    @for source in Source::ALL {
                        @if let Some(steps) = events.steps.get(&source) { (lane(source, steps, events)) }
                    }
                }
            }
            @match &events {
                None => p.cut { "The event log could not be read when this page was made." },
                Some(events) => (list(draft, events)),
            }
        }
    }
}

/// A phase as a bar.
fn phase(timing: &Timing, whole: u64) -> Markup {
    let place = |micros: u64| (u128::from(micros.min(whole)) * 1000 / u128::from(whole)) as u64;
    let from = place(timing.start_us);
    let to = place(timing.start_us.saturating_add(timing.duration_us));
    // However short: it is seen.
    let width = to.saturating_sub(from).max(4);
    html! {
        div.row {
            span.label { (text_of(&timing.phase, 40)) }
            svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
                rect.track width="1000" height="10" {}
                rect.phase x=(from.min(996)) width=(width) height="10" {}
            }
            span.took { (super::seconds(timing.duration_us)) }
        }
    }
}

/// When a source said something: one mark for each step in which it did.
fn lane(source: Source, steps: &[u32], events: &Events) -> Markup {
    let mut marks = String::new();
    for (place, _) in steps.iter().enumerate().filter(|(_, count)| **count > 0) {
        // Writing to a String does not fail.
        let _ = write!(marks, "M{place} 0h1.6v10h-1.6z");
    }
    let count = events.by_source.get(&source).copied().unwrap_or(0);
    html! {
        div.row {
            span.label { (source.as_str()) }
            svg viewBox={ "0 0 " (STEPS) " 10" } preserveAspectRatio="none" aria-hidden="true" focusable="false" {
                rect.track width=(STEPS) height="10" {}
                path class={ "s-" (source.as_str()) } d=(marks) {}
            }
            span.took { (count) @if count == 1 { " event" } @else { " events" } }
        }
    }
}

fn list(draft: &Draft<'_>, events: &Events) -> Markup {
    let withheld = draft.report.quarantined;
    let (first, first_left) = bounded(&events.first, (usize::MAX, FIRST_ROOM), |row| entry(row, withheld));
    // The last ones from the end, as far as there is room.
    let mut last = Vec::new();
    let mut room = LAST_ROOM;
    for row in events.last.iter().rev() {
        let piece = entry(row, withheld).into_string();
        if piece.len() > room {
            break;
        }
        room -= piece.len();
        last.push(piece);
    }
    let left_out = events.between() + first_left as u64 + (events.last.len() - last.len()) as u64;
    let shown = events.count - left_out;
    let last: String = last.into_iter().rev().collect();
    html! {
        p.said {
            (events.count) " events"
            @if draft.report.events.left_out > 0 { ", and " (draft.report.events.left_out) " of the backend that were left out of the log" }
            ". What the backend says of itself is its " span.claim { "claim" } "; everything else was observed."
        }
        @if withheld { p.warn { "What the events say is left out of this page: a secret was found in the evidence." } }
        @if let Some(line) = events.stopped { p.warn { "Line " (line) " of the event log is no event: what follows is not shown." } }
        div.tools data-tool="" hidden {
            label for="by-source" { "Source" }
            select #by-source {
                option value="" { "all" }
                @for (source, count) in &events.by_source { option value=(source.as_str()) { (source.as_str()) " (" (count) ")" } }
            }
            label for="by-type" { "Type" }
            select #by-type {
                option value="" { "all" }
                @for (kind, count) in &events.by_type { option value=(kind.as_str()) { (kind.as_str()) " (" (count) ")" } }
            }
            label.check { input #no-claims type="checkbox"; " hide claims" }
            output #events-said for="by-source by-type no-claims" aria-live="polite" { (shown) " shown" }
        }
        div.scroll-y tabindex="0" role="group" aria-label="Events" {
            ol.events {
                (first)
                @if left_out > 0 {
                    li.cut { (left_out) " events between are left out of this page; they stand in " code { (EVENTS) } "." }
                }
                (PreEscaped(last))
            }
        }
    }
}

fn entry(row: &Row, withheld: bool) -> Markup {
    let claimed = row.trust == Trust::Claimed;
    let sign = if row.micros < 0 { "−" } else { "" };
    html! {
        li.ev data-source=(row.source.as_str()) data-type=(row.kind.as_str()) data-claim[claimed] {
            span.seq { (row.seq) }
            span.at { (sign) (super::seconds(row.micros.unsigned_abs())) }
            span class={ "src s-" (row.source.as_str()) } { (row.source.as_str()) }
            span.type { (row.kind.as_str()) @if claimed { span.claim { "claim" } } }
            @if !withheld {
                span.data {
                    @if let Some(call) = &row.call { b { "call" } " " (Html(call)) " " }
                    @if let Some((stream, line)) = &row.native { b { "at" } " " (Html(stream)) ":" (line) " " }
                    @for (name, value) in &row.data { b { (Html(name)) } " " (HtmlLines(value)) " " }
                    @if row.cut { span.cut { "…" } }
                }
            }
        }
    }
}
