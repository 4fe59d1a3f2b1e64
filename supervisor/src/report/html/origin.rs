//! Where the evidence comes from, as far as it can say: ids, digests, freshness, host, and every artifact's digest.

use maud::{Markup, html};

use super::{Draft, bounded, code, optional, rest, table, text};
use crate::report::units::size;
use crate::report::words;

/// Share of the page, bytes of markup, and most artifacts.
const ROOM: usize = 250_000;
const MOST: usize = 500;

/// The section.
pub(super) fn section(draft: &Draft<'_>) -> Markup {
    let report = draft.report;
    let fresh = &report.freshness;
    let host = &report.host;
    let (artifacts, left) = bounded(&report.digest_manifest, (MOST, ROOM), |one| {
        html! {
            tr {
                th scope="row" { (code(&one.name)) }
                td.number { (size(one.annotations.size)) }
                td.digest { (code(&one.digest.sha256)) }
            }
        }
    });
    html! {
        section #origin aria-labelledby="h-origin" {
            h2 #h-origin { "Provenance" }
            p.authenticity { (words::AUTHENTICITY) }
            dl.facts.ids {
                div { dt { "Run" } dd { (code(&report.run_id)) } }
                div { dt { "Nonce, " (words::nonce(fresh.nonce_source)) } dd { (code(&fresh.nonce)) } }
                div { dt { "Base commit" } dd { (optional(report.base_commit.as_deref())) } }
                div { dt { "Base tree" } dd { (optional(report.base_tree.as_deref())) } }
                div { dt { "Result tree" } dd { (optional(report.result_tree.as_deref())) } }
                div { dt { "Profile" } dd { (code(&report.profile.name)) " " span.digest { (code(&report.profile.digest)) } } }
                div { dt { "Decision" } dd { (text(&report.decision.kind)) " " span.digest { (optional(report.decision.digest.as_deref())) } } }
                div { dt { "Task, SHA-256" } dd { (optional(report.task_sha256.as_deref())) } }
                div { dt { "Engine's source" } dd { (optional(report.engine.source_id.as_deref())) } }
                div { dt { "Provider" } dd {
                    (optional(report.provider.name.as_deref()))
                    " " span.aside { "requests: " (text(&report.provider.witness)) }
                } }
                div { dt { "From, to" } dd { (code(&report.run_start)) " " (code(&report.run_end)) } }
                div { dt { "Monotonic duration" } dd { code { (fresh.monotonic_duration_ns) " ns" } } }
                div { dt { "Boot id" } dd { (optional(fresh.boot_id.as_deref())) } }
                div { dt { "Host" } dd {
                    (text(&host.os)) " " (code(&host.kernel)) " " (text(&host.arch)) ", " (host.cpus) " CPUs"
                    @if let Some(memory) = host.memory { ", " (size(memory)) }
                    @if let Some(name) = &host.name { ", " (code(name)) }
                } }
                div { dt { "Events" } dd { (report.events.count) ", the last " span.digest { (code(&report.events.last_hash)) } } }
            }
            h3 { "Artifacts " span.count { (report.digest_manifest.len()) } }
            (table("Artifacts", "list", &["Name", "Size", "SHA-256"], &artifacts))
            (rest(left, "artifacts"))
        }
    }
}
