//! The raw logs on the page: beginning and end of each, with what lies between counted. Their colours are rendered by
//! `ansi`, all their other escapes are shown. Nothing of them stands in attributes.

use maud::{Markup, PreEscaped, html};

use super::ansi::Ansi;
use super::source::{cut_before, ends, whole_characters};
use super::{Draft, clip_bytes, text};
use crate::evidence::{STDERR, STDOUT, TEST_LOG};
use crate::report::units::size;
use crate::run::REVIEW_LOG;

/// Bytes read of the beginning and of the end of one log.
const FIRST: usize = 256 * 1024;
const LAST: usize = 64 * 1024;
/// Most bytes of markup of the two parts of one log.
const HEAD_MARKUP: usize = 512 * 1024;
const TAIL_MARKUP: usize = 160 * 1024;
/// Most bytes of markup of all logs.
const ALL_MARKUP: usize = 2_200_000;
/// Most bytes of a line that are shown.
const WIDE: usize = 4096;
/// Most logs that are shown.
const MOST: usize = 40;

/// Anchors of the logs that every run has.
pub(super) fn anchor(name: &str) -> Option<&'static str> {
    match name {
        STDOUT => Some("log-stdout"),
        STDERR => Some("log-stderr"),
        TEST_LOG => Some("log-test"),
        REVIEW_LOG => Some("log-review"),
        _ => None,
    }
}

/// One log, cut.
struct Shown {
    head: String,
    tail: String,
    left_out: u64,
    lines: usize,
}

/// All logs.
pub(super) fn section(draft: &Draft<'_>) -> Markup {
    let names = names(draft);
    html! {
        section #logs aria-labelledby="h-logs" {
            h2 #h-logs { "Logs" }
            @if draft.report.quarantined {
                p.warn { "The logs are left out of this page: a secret was found in the evidence. They stand in the evidence directory, which is not to be shared." }
            } @else {
                div.tools role="search" data-tool="" hidden {
                    label for="find" { "Search the logs" }
                    input #find type="search" autocomplete="off" spellcheck="false" placeholder="text, any case";
                    button #find-back type="button" { "Previous" }
                    button #find-on type="button" { "Next" }
                    label.check { input #find-only type="checkbox"; " only lines that match" }
                    output #find-said for="find" aria-live="polite" { }
                }
                (all(draft, &names))
            }
        }
    }
}

/// As the run went: backend, test, review.
fn names<'a>(draft: &Draft<'a>) -> Vec<&'a str> {
    let there = || draft.report.digest_manifest.iter().map(|one| one.name.as_str());
    let known = |wanted: [&'static str; 2]| {
        wanted.into_iter().filter_map(move |wanted| there().find(|name| *name == wanted))
    };
    let others = there().filter(|name| {
        name.starts_with("backend.") && name.ends_with(".log") && ![STDOUT, STDERR].contains(name)
    });
    known([STDOUT, STDERR]).chain(others).chain(known([TEST_LOG, REVIEW_LOG])).collect()
}

fn all(draft: &Draft<'_>, names: &[&str]) -> Markup {
    let mut left = ALL_MARKUP;
    let mut out = String::new();
    for (place, name) in names.iter().enumerate() {
        if place >= MOST || left < HEAD_MARKUP / 8 {
            let rest = names.len() - place;
            out.push_str(
                &html! { p.cut { (rest) " more logs stand in the evidence directory." } }.into_string(),
            );
            break;
        }
        let one = log(draft, name, left).into_string();
        left = left.saturating_sub(one.len());
        out.push_str(&one);
    }
    PreEscaped(out)
}

fn log(draft: &Draft<'_>, name: &str, left: usize) -> Markup {
    let opened = draft.artifacts.open(name);
    let bytes = opened.as_ref().map(|(_, size)| *size);
    let shown = opened.and_then(|(mut file, size)| {
        let ends = ends(&mut file, size, FIRST, LAST).ok()?;
        Some(cut(&ends.head, &ends.tail, size, (HEAD_MARKUP.min(left / 4 * 3), TAIL_MARKUP.min(left / 4))))
    });
    html! {
        details.log open[bytes != Some(0)] id=[anchor(name)] {
            summary {
                h3 { (text(name)) }
                span.aside {
                    @match bytes {
                        Some(0) => "empty",
                        Some(bytes) => (size(bytes)),
                        None => "not to be read",
                    }
                }
                span.hits aria-hidden="true" { }
            }
            @match &shown {
                None => p.cut { "It could not be read when this page was made." },
                Some(_) if bytes == Some(0) => {},
                Some(shown) => {
                    // Focusable, so that the keyboard can scroll it.
                    div.lines tabindex="0" role="group" aria-label="Lines of the log" {
                        div.counted { (PreEscaped(&shown.head)) }
                        @if shown.left_out > 0 {
                            p.cut { (shown.left_out) " bytes are left out here; they stand in " code { (text(name)) } "." }
                            div { (PreEscaped(&shown.tail)) }
                        }
                    }
                    @if shown.lines == 0 && shown.left_out == 0 { p.cut { "No line." } }
                }
            }
        }
    }
}

/// Renders as much as there is room for, from both ends.
fn cut(head: &[u8], tail: &[u8], size: u64, (room, tail_room): (usize, usize)) -> Shown {
    let mut ansi = Ansi::default();
    let (mut out, mut used, mut lines) = (String::new(), 0, 0);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let before = out.len();
        push_line(&mut ansi, &mut out, line);
        if out.len() > room {
            out.truncate(before);
            break;
        }
        used += line.len();
        lines += 1;
    }
    // Where the markup had no room for what was read, the end is taken from that.
    let unshown = &head[used..];
    let tail = if tail.is_empty() && !unshown.is_empty() {
        let last = &unshown[unshown.len().saturating_sub(LAST)..];
        if last.len() == unshown.len() { last } else { &last[cut_before(last)..] }
    } else {
        tail
    };
    let mut ansi = Ansi::default();
    let mut rendered: Vec<(usize, String)> = Vec::new();
    for line in tail.split_inclusive(|byte| *byte == b'\n') {
        let mut one = String::new();
        push_line(&mut ansi, &mut one, line);
        rendered.push((line.len(), one));
    }
    let (mut kept, mut markup, mut bytes) = (rendered.len(), 0, 0);
    while let Some((length, one)) = kept.checked_sub(1).and_then(|place| rendered.get(place)) {
        if markup + one.len() > tail_room {
            break;
        }
        (kept, markup, bytes) = (kept - 1, markup + one.len(), bytes + length);
    }
    lines += rendered.len() - kept;
    let tail = rendered.drain(kept..).map(|(_, one)| one).collect();
    Shown { head: out, tail, left_out: size.saturating_sub((used + bytes) as u64), lines }
}

fn push_line(ansi: &mut Ansi, out: &mut String, line: &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (shown, more) = clip_bytes(line, WIDE);
    let shown = if more > 0 { &shown[..whole_characters(shown)] } else { shown };
    out.push_str("<div class=\"l\">");
    ansi.line(out, shown);
    let more = line.len() - shown.len();
    if more > 0 {
        out.push_str(&html! { span.cut { "… " (more) " more bytes in this line" } }.into_string());
    }
    out.push_str("</div>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<u8> {
        (0..count).flat_map(|n| format!("line {n}\n").into_bytes()).collect()
    }

    #[test]
    fn a_short_log_is_whole() {
        let log = lines(3);
        let shown = cut(&log, b"", log.len() as u64, (1000, 1000));
        assert_eq!(shown.left_out, 0);
        assert_eq!(
            shown.head,
            "<div class=\"l\">line 0</div><div class=\"l\">line 1</div><div class=\"l\">line 2</div>"
        );
        assert_eq!((shown.tail.as_str(), shown.lines), ("", 3));
    }

    #[test]
    fn a_long_log_keeps_both_ends_and_counts_the_rest() {
        let log = lines(100);
        let shown = cut(&log, b"", log.len() as u64, (100, 100));
        assert!(shown.head.contains("line 2") && !shown.head.contains("line 9"), "{}", shown.head);
        assert!(shown.tail.ends_with("line 99</div>") && shown.tail.contains("line 97"), "{}", shown.tail);
        // Lines 0 to 2 and 97 to 99 were shown, or as many as had room.
        let count = |text: &str| text.matches("<div").count() as u64;
        let shown_bytes = 7 * count(&shown.head) + 8 * count(&shown.tail);
        assert_eq!(shown.left_out, log.len() as u64 - shown_bytes);
    }

    #[test]
    fn whatever_a_log_holds_the_markup_has_its_limit() {
        for log in
            [vec![0; 100_000], vec![b'\n'; 100_000], b"a\0".repeat(50_000), b"\x1b[31mx\x1b[m".repeat(9_000)]
        {
            let shown = cut(&log, b"", log.len() as u64, (20_000, 5_000));
            assert!(shown.head.len() <= 20_000 && shown.tail.len() <= 5_000);
            // One line is cut within itself.
            assert!(shown.left_out > 0 || !log.contains(&b'\n'));
        }
    }
}
