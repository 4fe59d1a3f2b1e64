//! Limits and what of them was used, as far as both are known.

use maud::{Markup, html};
use serde_json::Value;

use super::{Draft, bar, bounded, code, rest, seconds, table, text};
use crate::evidence::{PATCH, STDERR, STDOUT};
use crate::report::units::size;
use crate::report::{LimitInfo, Report, UsageInfo};

/// Share of the page, bytes of markup, and most limits and sandboxes.
const ROOM: usize = 200_000;
const MOST: usize = 100;

/// The section.
pub(super) fn section(draft: &Draft<'_>) -> Markup {
    let report = draft.report;
    let (rows, left) = bounded(&report.limits, (MOST, ROOM), |(name, limit)| one(report, name, limit));
    let (used, used_left) = bounded(&report.usage, (MOST, ROOM), |(name, usage)| usage_row(name, usage));
    html! {
        section #limits aria-labelledby="h-limits" {
            h2 #h-limits { "Limits and usage" }
            (table("Limits", "list limits", &["Limit", "Value", "Used", "Held by"], &rows))
            (rest(left, "limits"))
            @if !report.usage.is_empty() {
                h3 { "Usage by sandbox" }
                (table("Usage by sandbox", "list", &["Sandbox", "CPU", "Memory", "Tasks", "Disk", "Output"], &used))
                (rest(used_left, "sandboxes"))
            }
        }
    }
}

fn one(report: &Report, name: &str, limit: &LimitInfo) -> Markup {
    let value = limit.value.as_ref().and_then(Value::as_f64);
    html! {
        tr {
            th scope="row" { (text(&name.replace('_', " "))) @if limit.explicit { " " span.aside { "set" } } }
            td.number {
                @match (&limit.value, value) {
                    (None, _) => "none",
                    (Some(_), Some(number)) => (amount(number, &limit.unit)),
                    (Some(other), None) => (code(&other.to_string())),
                }
            }
            td.used {
                @for (who, used) in used(report, name) {
                    div.use {
                        @if let Some(value) = value.filter(|value| *value > 0.0) { (bar(used / value)) }
                        span { (amount(used, &limit.unit)) " " span.aside { (who) } }
                    }
                }
            }
            td { (text(&limit.mechanism)) }
        }
    }
}

/// What was used of a limit, by whom. Words and names are Proctor's own.
fn used(report: &Report, name: &str) -> Vec<(&'static str, f64)> {
    let of_each = |what: fn(&UsageInfo) -> Option<u64>| {
        let roles = ["backend", "test", "review"].into_iter();
        roles.filter_map(|role| Some((role, what(report.usage.get(role)?)? as f64))).collect::<Vec<_>>()
    };
    let artifact = |name: &str| {
        report.digest_manifest.iter().find(|one| one.name == name).map(|one| one.annotations.size as f64)
    };
    let phase = |name: &str| {
        report.timings.iter().find(|one| one.phase == name).map(|one| one.duration_us as f64 / 1000.0)
    };
    let single = |who, value: Option<f64>| value.map(|value| (who, value)).into_iter().collect();
    match name {
        "memory" => of_each(|usage| usage.max_memory),
        "pids" => of_each(|usage| usage.max_tasks),
        "disk" => of_each(|usage| usage.disk),
        "cpus" => {
            let cpu = report.usage.get("backend").and_then(|usage| Some(usage.user_us? + usage.system_us?));
            let took = phase("backend").filter(|ms| *ms > 0.0);
            single("backend, on average", cpu.zip(took).map(|(us, ms)| us as f64 / 1000.0 / ms))
        }
        "max_log" => {
            let logs = [("stdout", STDOUT), ("stderr", STDERR)].into_iter();
            logs.filter_map(|(who, name)| Some((who, artifact(name)?))).collect()
        }
        "max_files" => {
            single("changed", Some((report.changed_files.len() + report.ignored_changes.len()) as f64))
        }
        "max_patch" => single("the patch", artifact(PATCH)),
        "wall" => single("backend", phase("backend")),
        "test" => single("test", report.tests.duration_ms.map(|ms| ms as f64)),
        "review" => single("review", report.review.duration_ms.map(|ms| ms as f64)),
        _ => Vec::new(),
    }
}

/// A quantity for people.
fn amount(value: f64, unit: &str) -> Markup {
    let whole = value.clamp(0.0, u64::MAX as f64) as u64;
    html! {
        @match unit {
            "bytes" => (size(whole)),
            "ms" => (time(whole)),
            "cpus" => (format!("{value:.2}")),
            _ => (whole),
        }
    }
}

/// Milliseconds: minutes where they are whole ones.
fn time(ms: u64) -> String {
    match ms {
        ms if ms >= 60_000 && ms.is_multiple_of(60_000) => format!("{} min", ms / 60_000),
        ms if ms >= 60_000 => format!("{} min {}", ms / 60_000, seconds(ms % 60_000 * 1000)),
        ms => seconds(ms * 1000),
    }
}

fn usage_row(name: &str, usage: &UsageInfo) -> Markup {
    let unknown = || "not known".to_owned();
    let bytes = |value: Option<u64>| value.map_or_else(unknown, size);
    let cpu = match (usage.user_us, usage.system_us) {
        (None, None) => unknown(),
        (user, system) => seconds(user.unwrap_or(0).saturating_add(system.unwrap_or(0))),
    };
    html! {
        tr {
            th scope="row" { (text(name)) }
            td.number {
                (cpu)
                @if let Some(periods) = usage.cpu_throttled.filter(|periods| *periods > 0) { ", held back in " (periods) " periods" }
            }
            td.number { (bytes(usage.max_memory)) }
            td.number { (usage.max_tasks.map_or_else(unknown, |tasks| tasks.to_string())) }
            td.number { (bytes(usage.disk)) }
            td.number { (bytes(usage.output)) }
        }
    }
}
