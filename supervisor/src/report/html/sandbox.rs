//! The backend's sandbox: its level, what was enforced and what was not to be had, what was seen from below, and what
//! was refused to whom.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{Draft, bounded, code, optional, rest, table, text, text_of};
use crate::report::{DenialInfo, Observed, is_landlock, words};

/// Share of the page of each list, bytes of markup, and most entries.
const ROOM: usize = 120_000;
const MOST: usize = 300;

/// What was refused.
pub(super) fn denials(draft: &Draft<'_>) -> Markup {
    let all = &draft.report.sandbox.denials;
    let (shown, left) = bounded(all, (MOST, ROOM), denial);
    html! {
        section #denials aria-labelledby="h-denials" {
            h2 #h-denials { "Refused inside " span.count { (all.len()) } }
            @if all.is_empty() { p.none { "Nothing was seen to be refused." } }
            @else {
                (table("What was refused", "list", &["What", "To", "In", "Times", "Why"], &shown))
                (rest(left, "refusals"))
            }
        }
    }
}

fn denial(one: &DenialInfo) -> Markup {
    let to = one.path.as_deref().or(one.address.as_deref());
    html! {
        tr {
            td {
                @match (to, one.what.as_str()) {
                    (to, what) if is_landlock(what) => {
                        (code(&one.blockers.join(", ")))
                        @if let Some(to) = to { " of " (code(to)) }
                    },
                    (Some(to), _) => { "connecting to " (code(to)) },
                    (None, _) => (code(&one.call)),
                }
            }
            td { (optional(one.program.as_deref())) }
            td { (text(&one.sandbox)) }
            td.number { (one.count) }
            td {
                (text(&one.reason))
                @if let Some(errno) = &one.errno { " (" (text(errno)) ")" }
                @if one.killed { "; it was " strong { "killed" } " for it" }
            }
        }
    }
}

/// The section.
pub(super) fn section(draft: &Draft<'_>) -> Markup {
    let sandbox = &draft.report.sandbox;
    let (mechanisms, mechanisms_left) = bounded(&sandbox.mechanisms, (MOST, ROOM), |one| {
        html! {
            tr {
                th scope="row" { (text(&one.name)) }
                td { (optional(one.version.as_deref())) }
                td { @if let Some(detail) = &one.detail { (text(detail)) } }
            }
        }
    });
    let (missing, missing_left) =
        bounded(&sandbox.missing, (MOST, ROOM), |one| html! { li { (text_of(one, 1000)) } });
    let hosts = &draft.report.provider.allowed_hosts;
    let (hosts_shown, hosts_left) = bounded(hosts, (MOST, ROOM / 4), |host| html! { li { (code(host)) } });
    html! {
        section #sandbox aria-labelledby="h-sandbox" {
            h2 #h-sandbox { "Sandbox" }
            dl.facts {
                div { dt { "Level" } dd { @match &sandbox.level { Some(level) => (code(level)), None => (words::NO_SANDBOX) } } }
                div { dt { "Network" } dd {
                    (code(&sandbox.network))
                    @if sandbox.network == "host" { " " strong { (words::HOST_NETWORK) } }
                } }
                @if let Some(why) = &sandbox.why_not_full {
                    div.long { dt { "Level full is not to be had here" } dd { (text_of(why, 1000)) } }
                }
            }
            h3 { "Missing " span.count { (sandbox.missing.len()) } }
            @if sandbox.missing.is_empty() { p.none { "Nothing." } } @else { ul.missing { (missing) } }
            (rest(missing_left, "missing guarantees"))
            h3 { "Enforced " span.count { (sandbox.mechanisms.len()) } }
            @if sandbox.mechanisms.is_empty() { p.none { "Nothing." } }
            @else {
                details.fold {
                    summary { "All mechanisms" }
                    (table("Mechanisms", "list", &["Mechanism", "Version", "What it does"], &mechanisms))
                }
            }
            (rest(mechanisms_left, "mechanisms"))
            @if !hosts.is_empty() {
                h3 { "Hosts that could be reached: ways out for data" }
                ul { (hosts_shown) }
                (rest(hosts_left, "hosts"))
            }
            (observed(&sandbox.observed))
        }
    }
}

/// What was watched, and how complete that is.
fn observed(all: &BTreeMap<String, BTreeMap<String, Observed>>) -> Markup {
    let kinds = all.iter().flat_map(|(role, kinds)| kinds.iter().map(move |(kind, one)| (role, kind, one)));
    let (shown, left) = bounded(kinds, (MOST, ROOM), |(role, kind, one)| {
        html! {
            tr {
                th scope="row" { (text(role)) }
                td { (text(&kind.replace('_', " "))) }
                td.number { @if one.completeness == "absent" { "–" } @else { (one.count) } }
                td { (text(&one.completeness)) @if one.left_out > 0 { ", " (one.left_out) " counted alone" } }
                td { @if let Some(note) = &one.note { (text_of(note, 500)) } }
            }
        }
    });
    html! {
        @if !all.is_empty() {
            h3 { "Watched" }
            (table("What was watched", "list", &["Sandbox", "Kind", "Seen", "Completeness", "Note"], &shown))
            (rest(left, "kinds"))
        }
    }
}
