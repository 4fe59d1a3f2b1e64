//! `report.html`: one page for people, complete in itself. It loads nothing, links nowhere and runs one script, whose
//! digest its content security policy names; what it shows stands in the page also where no script runs.
//!
//! It is made from the report, the events, the patch and the logs alone, in the same bytes each time, so that
//! `proctor verify` can make it again and compare. Its parts are written with `maud`, which escapes whatever is put into
//! markup; text that is not Proctor's own goes through [`super::escape::Html`] besides, never stands in an attribute, in
//! a style or in the script, and has its share of the page: whatever a backend left, the page is no larger than
//! [`MAX_PAGE`].

mod ansi;
mod changes;
mod checks;
mod diff;
mod events;
mod head;
mod limits;
mod logs;
mod origin;
mod sandbox;
mod source;
mod timeline;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

pub use source::Artifacts;

use super::escape::{self, Html};
use super::units::seconds;
use super::{Report, withheld};
use crate::evidence::{HTML, MARKDOWN};
use crate::verdict::Status;

/// The largest page, bytes. Each section has a share of it, and says what there was no room for.
pub const MAX_PAGE: usize = 8 << 20;
/// Most characters of one value that is not Proctor's own.
const WIDTH: usize = 300;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page is made from.
pub(super) struct Draft<'a> {
    report: &'a Report,
    artifacts: &'a dyn Artifacts,
}

/// The whole page. The report's own entries for what is rendered from it (`report.md`, `report.html`) are left out of
/// account: the page is made before they are known.
#[must_use]
pub fn render(report: &Report, artifacts: &dyn Artifacts) -> String {
    let mut report = withheld::shown(report).into_owned();
    report.digest_manifest.retain(|one| one.name != MARKDOWN && one.name != HTML);
    let draft = Draft { report: &report, artifacts };
    let page = page(&draft).into_string();
    // The last fence: what could steer its reader stands in no page, however it came there.
    if page.chars().any(|c| escape::is_deceptive(c) && !matches!(c, '\n' | '\t')) {
        escape::shown(&page)
    } else {
        page
    }
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

fn policy() -> String {
    let (script, style) = (hash(SCRIPT), hash(STYLE));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

fn page(draft: &Draft<'_>) -> Markup {
    let report = draft.report;
    let word = match report.status {
        Status::Pass => "PASS",
        Status::Fail => "FAIL",
    };
    // A title is text without markup.
    let title = format!("{word} {}", escape::terminal(&clipped(&report.run_id, 64)));
    let sections = [
        (head::blockers(draft), "#blockers", "Blockers"),
        (changes::section(draft), "#changes", "Changes"),
        (checks::section(draft), "#checks", "Checks"),
        (timeline::section(draft), "#timeline", "Timeline"),
        (logs::section(draft), "#logs", "Logs"),
        (sandbox::denials(draft), "#denials", "Refused"),
        (limits::section(draft), "#limits", "Limits"),
        (sandbox::section(draft), "#sandbox", "Sandbox"),
        (origin::section(draft), "#origin", "Provenance"),
    ];
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="referrer" content="no-referrer";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Proctor" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to the report" }
                (head::header(draft, word))
                div.frame {
                    nav aria-label="Sections" {
                        ul {
                            @for (_, anchor, name) in sections.iter().filter(|(part, _, _)| !part.0.is_empty()) {
                                li { a href=(anchor) { (name) } }
                            }
                        }
                    }
                    main #main { @for (part, _, _) in &sections { (part) } }
                }
                footer {
                    p { "Made by Proctor " (text(&report.proctor_version)) " from the evidence of this run. The page loads nothing and links nowhere; what it shortens stands whole in the evidence directory." }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn clipped(value: &str, width: usize) -> String {
    match value.char_indices().nth(width) {
        None => value.to_owned(),
        Some((end, _)) => format!("{}…", &value[..end]),
    }
}

/// A value that is not Proctor's own.
fn text(value: &str) -> Markup {
    text_of(value, WIDTH)
}

/// The same, of another width.
fn text_of(value: &str, width: usize) -> Markup {
    html! { (Html(&clipped(value, width))) }
}

/// The same, as code.
fn code(value: &str) -> Markup {
    html! { code { (text(value)) } }
}

fn optional(value: Option<&str>) -> Markup {
    html! { @match value { Some(value) => (code(value)), None => "–" } }
}

/// The first bytes, and how many there are beside them.
fn clip_bytes(bytes: &[u8], width: usize) -> (&[u8], usize) {
    let shown = &bytes[..bytes.len().min(width)];
    (shown, bytes.len() - shown.len())
}

/// As many pieces as there is room for, and how many were left.
fn bounded<T>(
    items: impl IntoIterator<Item = T>,
    (most, room): (usize, usize),
    mut one: impl FnMut(T) -> Markup,
) -> (Markup, usize) {
    let mut out = String::new();
    let mut items = items.into_iter();
    for _ in 0..most {
        let Some(item) = items.next() else {
            return (PreEscaped(out), 0);
        };
        let piece = one(item).into_string();
        if out.len() + piece.len() > room {
            return (PreEscaped(out), 1 + items.count());
        }
        out.push_str(&piece);
    }
    (PreEscaped(out), items.count())
}

/// A table that scrolls by itself where it is wider than the page.
fn table(label: &str, class: &str, heads: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label=(label) {
            table class=(class) {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { (rows) }
            }
        }
    }
}

/// Says how many of a list stand in the report alone.
fn rest(count: usize, what: &str) -> Markup {
    html! { @if count > 0 { p.cut { (count) " more " (what) " stand in " code { "report.json" } "." } } }
}

/// A share of a whole as a bar; what it says stands beside it as text.
fn bar(share: f64) -> Markup {
    // However little: it is seen.
    let width = if share > 0.0 { (share.clamp(0.0, 1.0) * 1000.0).round().max(8.0) as u32 } else { 0 };
    let class = if share >= 1.0 {
        "over"
    } else if share >= 0.8 {
        "near"
    } else {
        "well"
    };
    html! {
        svg.bar viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.track width="1000" height="10" {}
            @if width > 0 { rect class=(class) width=(width) height="10" {} }
        }
    }
}

#[cfg(test)]
mod tests;
