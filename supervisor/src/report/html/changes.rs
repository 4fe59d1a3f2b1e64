//! What changed: each file with its kind, modes, sizes and the part of the patch that is about it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, PreEscaped, html};

use super::diff::{self, Diffs, FileDiff};
use super::{Draft, bounded, clip_bytes, rest, text, text_of};
use crate::evidence::PATCH;
use crate::report::escape::HtmlBytes;
use crate::report::units::size;
use crate::report::{FileChange, PathText, Report, words};
use crate::verdict::BlockerCode;

/// Share of the page without the diffs, bytes of markup, and most files and paths.
const ROOM: usize = 500_000;
const MOST: usize = 2000;
const PATHS: usize = 200;
const PATHS_ROOM: usize = 100_000;
/// Most bytes of a path that are shown.
const WIDE: usize = 1024;
/// Markup of diffs up to which they are open at the beginning: of one, and of all before it.
const OPEN: usize = 64 * 1024;
const ALL_OPEN: usize = 256 * 1024;

/// The exact bytes of a path.
fn exact(path: &str, b64: Option<&String>) -> Vec<u8> {
    b64.and_then(|b64| STANDARD.decode(b64).ok()).unwrap_or_else(|| path.as_bytes().to_vec())
}

/// A path; where it holds letters that are not ASCII, once more in escapes, because they can look like others.
fn path(bytes: &[u8]) -> Markup {
    let (shown, more) = clip_bytes(bytes, WIDE);
    html! { code.path { (HtmlBytes(shown)) @if more > 0 { "…" } } }
}

fn in_ascii(bytes: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(bytes).ok()?;
    let other = |c: char| !c.is_ascii() && c.is_alphanumeric();
    path.contains(other).then(|| {
        let letter = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\u{{{:x}}}", c as u32) };
        path.chars().take(WIDE).map(letter).collect()
    })
}

/// The section.
pub(super) fn section(draft: &Draft<'_>) -> Markup {
    let report = draft.report;
    let mut diffs = None;
    if !report.quarantined && report.digest_manifest.iter().any(|one| one.name == PATCH) {
        diffs = draft.artifacts.open(PATCH).map(|(file, _)| diff::read(file));
    }
    let known = diffs.is_some();
    let mut diffs = diffs.unwrap_or_default();
    let rules = rules(report);
    let steering: BTreeSet<Vec<u8>> =
        report.test_inputs_changed.iter().map(|one| exact(&one.path, one.path_b64.as_ref())).collect();
    let mut open = ALL_OPEN;
    let (files, left) = bounded(&report.changed_files, (MOST, ROOM + diff_room(&diffs)), |change| {
        let parts = parts(change, &mut diffs);
        let markup: usize = parts.iter().map(|(_, part)| part.rows.len()).sum();
        let is_open = markup <= OPEN && markup <= open;
        open = open.saturating_sub(markup);
        let bytes = exact(&change.path, change.path_b64.as_ref());
        let marks = Marks { rule: rules.get(&change.path), steers: steering.contains(&bytes), is_open };
        file(change, &bytes, &parts, known, &marks)
    });
    // What has no row above because there was no room is no stranger.
    let strangers: Vec<&Vec<u8>> = if left == 0 { diffs.files.keys().collect() } else { Vec::new() };
    html! {
        section #changes aria-labelledby="h-changes" {
            h2 #h-changes { "Changed files " span.count { (report.changed_files.len()) } }
            @if report.changed_files.is_empty() { p.none { "None." } }
            @if report.quarantined && !report.changed_files.is_empty() {
                p.warn { "The diff is left out of this page: a secret was found in the evidence." }
            } @else if !known && !report.changed_files.is_empty() {
                p.cut { code { (PATCH) } " could not be read when this page was made." }
            }
            div.files { (files) }
            (rest(left, "changed files"))
            @if let Some(line) = diffs.stopped {
                p.warn { "From its line " (line) " on " code { (PATCH) } " is not what git writes there, and is not shown." }
            }
            @if !strangers.is_empty() {
                (paths("In the patch, and not among the report's changes", &strangers, |one| path(one)))
            }
            @let both = |one: &PathText| path(&exact(&one.path, one.path_b64.as_ref()));
            @if !report.ignored_changes.is_empty() {
                (paths("Writes to ignored paths, which were dropped", &report.ignored_changes, |one| both(one)))
            }
            @if report.git_changes.count > 0 {
                p { "The backend changed its private " code { ".git" } " (" (report.git_changes.count) " paths). " (words::GIT_CHANGES) }
                (paths("Changed in the private .git", &report.git_changes.paths, |one| both(one)))
            }
        }
    }
}

/// Room for the diffs besides: they have their own limits.
fn diff_room(diffs: &Diffs) -> usize {
    diffs.files.values().map(|one| one.rows.len()).sum()
}

/// Why changes are not allowed, by path as the report writes it.
fn rules(report: &Report) -> BTreeMap<String, String> {
    let blockers = report.blockers.iter().filter(|one| one.code == BlockerCode::DisallowedFile);
    let listed = blockers.filter_map(|one| one.detail.get("changes")?.get("listed")?.as_array());
    listed
        .flatten()
        .filter_map(|one| {
            let of = |name: &str| one.get(name).and_then(serde_json::Value::as_str);
            Some((of("path")?.to_owned(), of("why").or(of("rule")).unwrap_or_default().to_owned()))
        })
        .collect()
}

/// The parts of the patch about a change: a rename is a removal and an addition there.
fn parts(change: &FileChange, diffs: &mut Diffs) -> Vec<(Vec<u8>, FileDiff)> {
    let mut names = Vec::new();
    if let Some(old) = &change.old_path {
        names.push(exact(old, change.old_path_b64.as_ref()));
    }
    names.push(exact(&change.path, change.path_b64.as_ref()));
    names.into_iter().filter_map(|name| diffs.files.remove(&name).map(|part| (name, part))).collect()
}

struct Marks<'a> {
    rule: Option<&'a String>,
    steers: bool,
    is_open: bool,
}

fn file(
    change: &FileChange,
    bytes: &[u8],
    parts: &[(Vec<u8>, FileDiff)],
    known: bool,
    marks: &Marks<'_>,
) -> Markup {
    let (added, removed) = parts.iter().fold((0, 0), |(a, r), (_, part)| (a + part.added, r + part.removed));
    let binary = parts.iter().any(|(_, part)| part.binary);
    let is_open = marks.is_open && parts.iter().any(|(_, part)| !part.rows.is_empty());
    html! {
        details.file open[is_open] {
            summary {
                span class={ "kind k-" (change.kind.as_str()) } { (change.kind.as_str()) }
                span.name {
                    @if let Some(old) = &change.old_path {
                        (path(&exact(old, change.old_path_b64.as_ref()))) " → "
                    }
                    (path(bytes))
                }
                span.stat {
                    @if binary { span.aside { "binary" } }
                    @else if known {
                        span.plus { "+" (added) } " " span.minus { "−" (removed) }
                    }
                }
                span.aside.meta { (modes(change)) " · " (sizes(change)) }
            }
            @if let Some(rule) = marks.rule {
                p.warn { "Not allowed" @if !rule.is_empty() { ": " (text(rule)) } "." }
            }
            @if marks.steers { p.warn { "Steers the tests: read it before you trust their result." } }
            @if let Some(why) = &change.not_in_patch { p.warn { "Not in the patch: " (text(why)) "." } }
            @if let Some(ascii) = in_ascii(bytes) {
                p.note { "The name holds letters that are not ASCII, which can look like others: " code { (ascii) } }
            }
            @for (name, part) in parts { (diff_of(name, part, parts.len() > 1)) }
            @if known && parts.is_empty() && change.not_in_patch.is_none() {
                p.cut { "The patch has no part about it." }
            }
        }
    }
}

fn diff_of(name: &[u8], part: &FileDiff, named: bool) -> Markup {
    html! {
        @if named { p.part { (path(name)) } }
        @if part.binary { p.note { "Binary content: it stands in " code { (PATCH) } " and is not shown." } }
        @if !part.rows.is_empty() {
            div.diff tabindex="0" role="group" aria-label="Lines of the diff" {
                table {
                    thead { tr { th scope="col" { "before" } th scope="col" { "after" } th scope="col" { "line" } } }
                    tbody { (PreEscaped(&part.rows)) }
                }
            }
        } @else if !part.binary && part.unshown == 0 {
            p.note { "No line changes: only the mode, or the file is empty." }
        }
        @if part.unshown > 0 {
            p.cut { (part.unshown) " more rows of this diff stand in " code { (PATCH) } "." }
        }
    }
}

fn modes(change: &FileChange) -> Markup {
    html! {
        @match (&change.old_mode, &change.new_mode) {
            (Some(old), Some(new)) if old == new => (text_of(old, 10)),
            (Some(old), Some(new)) => { "mode " (text_of(old, 10)) " → " (text_of(new, 10)) },
            (None, Some(one)) | (Some(one), None) => (text_of(one, 10)),
            (None, None) => "no mode",
        }
    }
}

fn sizes(change: &FileChange) -> Markup {
    html! {
        @match (change.old_size, change.new_size) {
            (Some(old), Some(new)) => { (size(old)) " → " (size(new)) },
            (None, Some(one)) | (Some(one), None) => (size(one)),
            (None, None) => "size not known",
        }
    }
}

/// A list of paths behind a fold.
fn paths<T>(title: &str, all: &[T], one: impl Fn(&T) -> Markup) -> Markup {
    let (shown, left) = bounded(all, (PATHS, PATHS_ROOM), |item| html! { li { (one(item)) } });
    html! {
        details.paths {
            summary { (title) " " span.count { (all.len()) } }
            ul { (shown) }
            (rest(left, "paths"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ChangeKind as Kind;

    #[test]
    fn every_kind_has_its_colour() {
        for kind in [Kind::Added, Kind::Modified, Kind::Deleted, Kind::Renamed, Kind::Mode, Kind::Type] {
            assert!(super::super::STYLE.contains(&format!(".k-{}", kind.as_str())), "{kind:?}");
        }
    }

    #[test]
    fn letters_that_look_like_others_are_spelled_out() {
        assert_eq!(in_ascii("src/m\u{430}in.rs".as_bytes()).as_deref(), Some("src/m\\u{430}in.rs"));
        assert_eq!(in_ascii(b"src/main.rs"), None);
        assert_eq!(in_ascii(b"\xff"), None);
    }
}
