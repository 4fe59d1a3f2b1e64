//! The page as a whole: what it is made of, that nobody else's text becomes markup, and that it is never too large.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};

use maud::Render;
use serde_json::{Value, json};

use super::*;
use crate::evidence::{EVENTS, PATCH, ResourceDescriptor, STDERR, STDOUT, TEST_LOG};
use crate::report::{ChangeKind, sample};
use crate::run::REVIEW_LOG;
use crate::verdict::{Blocker, BlockerCode};

const HOSTILE: &str = "</script></style><script>pwned()</script><img src=x onerror=\"pwned()\"><svg/onload='pwned()'>\
    <a href=javascript:pwned()>x</a><meta http-equiv=refresh content='0;url=//e.org'><base href=//e.org>\
    \u{1b}]8;;http://e.org\u{7}\u{1b}[31m\u{202e}\u{2028}\0\r\n\t\u{fffe}z\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}-->&lt;]]>";

/// Artifacts in memory.
#[derive(Default)]
struct Held(BTreeMap<String, Vec<u8>>);

impl Artifacts for Held {
    fn open(&self, name: &str) -> Option<(File, u64)> {
        let bytes = self.0.get(name)?;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        Some((file, bytes.len() as u64))
    }
}

impl Held {
    fn put(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.0.insert(name.to_owned(), bytes.into());
    }

    /// The report that names them.
    fn named(&self, mut report: Report) -> Report {
        report.digest_manifest = self
            .0
            .iter()
            .map(|(name, bytes)| ResourceDescriptor::new(name, "7".repeat(64), bytes.len() as u64))
            .collect();
        report
    }
}

fn event(seq: u64, source: &str, kind: &str, data: &Value) -> String {
    let trust = if source == "backend" { "claimed" } else { "observed" };
    let event = json!({"schema": "events/v1", "run_id": "r", "seq": seq, "ts": "2026-06-01T12:00:01.000001Z",
        "type": kind, "source": source, "trust": trust, "data": data, "prev": "0"});
    format!("{event}\n")
}

/// The names of the elements and attributes of a page, and everything within attributes.
fn parts(page: &str) -> (BTreeMap<String, usize>, BTreeMap<String, Vec<String>>) {
    let (mut elements, mut attributes) = (BTreeMap::new(), BTreeMap::<String, Vec<String>>::new());
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        // Outside of quotes: maud writes each value in double ones, without one inside.
        let mut end = 0;
        let mut quoted = false;
        for (place, c) in rest.char_indices() {
            quoted ^= c == '"';
            if c == '>' && !quoted {
                end = place;
                break;
            }
        }
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        let name = tag.split([' ', '\n']).next().unwrap();
        *elements.entry(name.trim_start_matches('/').to_owned()).or_insert(0) += 1;
        let mut said = &tag[name.len()..];
        while let Some(equals) = said.find("=\"") {
            let attribute = said[..equals].rsplit(' ').next().unwrap().to_owned();
            said = &said[equals + 2..];
            let close = said.find('"').unwrap();
            attributes.entry(attribute).or_default().push(said[..close].to_owned());
            said = &said[close + 1..];
        }
        // Script and style end at their own end alone, which is asserted elsewhere.
        if name == "script" || name == "style" {
            rest = &rest[rest.find(&format!("</{name}>")).unwrap()..];
        }
    }
    (elements, attributes)
}

/// Nothing but what the templates make.
fn is_inert(page: &str) {
    let outside: String = page.replace(SCRIPT, "").replace(STYLE, "");
    let steering = outside.chars().find(|c| escape::is_deceptive(*c) && !matches!(c, '\n' | '\t'));
    assert_eq!(steering, None);
    let (elements, attributes) = parts(page);
    let known = [
        "!DOCTYPE", "html", "head", "meta", "title", "style", "body", "a", "header", "div", "p", "h1", "h2",
        "h3", "span", "dl", "dt", "dd", "nav", "ul", "ol", "li", "main", "section", "footer", "script",
        "code", "b", "strong", "details", "summary", "table", "thead", "tbody", "tr", "th", "td", "svg",
        "rect", "path", "label", "input", "button", "select", "option", "output",
    ];
    let strange: Vec<&String> = elements.keys().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
    for name in ["script", "style"] {
        assert_eq!(elements[name], 2, "one, and its end");
    }
    let known = [
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "href",
        "class",
        "id",
        "aria-label",
        "aria-labelledby",
        "aria-hidden",
        "aria-live",
        "tabindex",
        "role",
        "scope",
        "for",
        "type",
        "value",
        "placeholder",
        "autocomplete",
        "spellcheck",
        "viewBox",
        "preserveAspectRatio",
        "focusable",
        "x",
        "width",
        "height",
        "d",
        "data-tool",
        "data-source",
        "data-type",
    ];
    let strange: Vec<&String> = attributes.keys().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(attributes["href"].iter().all(|to| to.starts_with('#')), "{:?}", attributes["href"]);
    let values: String = attributes.values().flatten().cloned().collect();
    assert!(!values.contains("pwned") && !values.contains("e.org"), "{values}");
}

/// A report in which every text that somebody else can choose is this one.
fn hostile(report: &Report, text: &str) -> Report {
    fn replace(value: &Value, text: &str, path: &str, tried: &dyn Fn(&Value) -> bool, whole: &mut Value) {
        match value {
            Value::String(_) => {
                let old = whole.pointer(path).cloned();
                if let Some(place) = whole.pointer_mut(path) {
                    *place = text.into();
                }
                if !tried(whole)
                    && let (Some(place), Some(old)) = (whole.pointer_mut(path), old)
                {
                    *place = old;
                }
            }
            Value::Array(items) => {
                for (place, item) in items.iter().enumerate() {
                    replace(item, text, &format!("{path}/{place}"), tried, whole);
                }
            }
            Value::Object(map) => {
                for (name, item) in map {
                    replace(item, text, &format!("{path}/{name}"), tried, whole);
                }
            }
            _ => {}
        }
    }
    let value = serde_json::to_value(report).unwrap();
    let mut whole = value.clone();
    // Words of a closed list stay what they are: no report could hold another one.
    let tried = |value: &Value| serde_json::from_value::<Report>(value.clone()).is_ok();
    replace(&value, text, "", &tried, &mut whole);
    let mut report: Report = serde_json::from_value(whole).unwrap();
    // Names of maps are somebody's, too, and times are read.
    let limit = report.limits["memory"].clone();
    report.limits.insert(text.to_owned(), limit);
    let usage = report.usage["backend"].clone();
    report.usage.insert(text.to_owned(), usage);
    let seen = report.sandbox.observed["backend"].clone();
    report.sandbox.observed.insert(text.to_owned(), [(text.to_owned(), seen["programs"].clone())].into());
    report
}

fn full() -> (Report, Held) {
    let mut report = sample::report();
    report.changed_files = vec![
        sample::change("a", ChangeKind::Modified),
        sample::change("b", ChangeKind::Renamed),
        sample::change("c", ChangeKind::Added),
    ];
    report.changed_files[1].old_path = Some("c".into());
    report.changed_files[2].not_in_patch = Some("a device".into());
    report.stage = Some("s".into());
    report.task_sha256 = Some("t".into());
    report.ignored_changes = vec![crate::report::PathText { path: "i".into(), path_b64: None }];
    report.git_changes.count = 1;
    report.git_changes.paths = report.ignored_changes.clone();
    report.test_inputs_changed = report.ignored_changes.clone();
    report.review.command = Some("r".into());
    report.provider.name = Some("p".into());
    report.provider.allowed_hosts = vec!["h".into()];
    report.host.name = Some("n".into());
    report.approvals = vec![crate::report::ApprovalInfo {
        id: "1".into(),
        asked_by: "backend".into(),
        subject: "s".into(),
        subject_sha256: Some("d".into()),
        outcome: "denied".into(),
        answered_by: Some("policy".into()),
        answered_at: Some("t".into()),
    }];
    report.blockers = vec![
        Blocker::new(
            BlockerCode::DisallowedFile,
            "m",
            json!({"changes": {"listed": [{"path": "a", "why": "w"}], "total": 1}}),
        ),
        Blocker::new(BlockerCode::TestsFailed, "m", json!({"a": "b", "c": ["d"]})),
        Blocker::new(BlockerCode::NoDiff, "m", json!("text")),
    ];
    report.status = Status::Fail;
    let mut held = Held::default();
    held.put(PATCH, "diff --git a/a b/a\nindex 1..2\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n+y\n");
    held.put(STDOUT, "out\n");
    held.put(STDERR, "");
    held.put(TEST_LOG, "test\n");
    held.put(REVIEW_LOG, "review\n");
    held.put("backend.extra.log", "more\n");
    held.put(EVENTS, event(0, "supervisor", "run.started", &json!({})));
    (held.named(report), held)
}

#[test]
fn the_verdict_comes_first_and_every_blocker_with_its_remedy() {
    let (report, held) = full();
    let page = render(&report, &held);
    is_inert(&page);
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(place("<span class=\"word\">FAIL</span>") < place("id=\"blockers\""));
    assert!(place("id=\"blockers\"") < place("id=\"changes\""));
    for blocker in &report.blockers {
        let at = place(&format!("<code class=\"codeword\">{}</code>", blocker.code));
        let remedy = Html(&blocker.remedy).render().into_string();
        assert!(page[at..].contains(&remedy), "{remedy}");
    }
    assert!(place("3 blockers") < place("id=\"main\""));
    let pass = render(&sample::report(), &held);
    assert!(pass.contains("<span class=\"word\">PASS</span>") && !pass.contains("id=\"blockers\""));
    assert!(pass.contains("exited 0 over the result tree, and no more"));
}

#[test]
fn the_page_says_its_own_policy_and_ends_neither_script_nor_style_before_their_end() {
    let (report, held) = full();
    let page = render(&report, &held);
    assert!(!SCRIPT.contains("</") && !STYLE.contains("</") && !SCRIPT.contains("<!--"));
    for (name, text) in [("script", SCRIPT), ("style", STYLE)] {
        let begin = page.find(&format!("<{name}>")).unwrap() + name.len() + 2;
        let end = begin + page[begin..].find(&format!("</{name}>")).unwrap();
        assert_eq!(&page[begin..end], text);
        let hash = STANDARD.encode(Sha256::digest(&page[begin..end]));
        assert!(page.contains(&format!("{name}-src 'sha256-{hash}'")), "{name}");
    }
    assert!(page.contains("content=\"default-src 'none'; script-src "));
    assert!(page.contains("base-uri 'none'; form-action 'none'"));
    assert!(page.contains("<meta name=\"referrer\" content=\"no-referrer\">"));
    // What the script needs is there.
    let ids = SCRIPT.match_indices("$(\"").map(|(at, _)| SCRIPT[at + 3..].split('"').next().unwrap());
    let ids: Vec<&str> = ids.collect();
    assert!(ids.len() >= 9);
    for id in ids {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    for word in
        ["fetch", "XMLHttpRequest", "innerHTML", "eval", "http", "localStorage", "WebSocket", "sendBeacon"]
    {
        assert!(!SCRIPT.contains(word), "{word}");
    }
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
}

#[test]
fn whatever_stands_in_a_field_it_stays_text() {
    let (report, mut held) = full();
    let log = format!("{HOSTILE}\n").repeat(3);
    for name in [STDOUT, STDERR, TEST_LOG, REVIEW_LOG] {
        held.put(name, log.clone());
    }
    let line: String = HOSTILE.replace(['\n', '\0'], " ");
    held.put(PATCH, format!("diff --git a/a b/a\n@@ -0,0 +1 @@\n+{line}\ndiff --git a/q b/q\n@@ -1 +0,0 @@\n-{line}\n?{line}\n"));
    let data = json!({ HOSTILE: HOSTILE, "text": HOSTILE, "list": [HOSTILE, { HOSTILE: 1 }] });
    held.put(EVENTS, event(0, "supervisor", "run.started", &data) + &event(1, "backend", "message", &data));
    for report in [hostile(&report, HOSTILE), hostile(&report, &HOSTILE.repeat(2)), report] {
        // As it comes, and with a start that can be read, so that the events are shown.
        for start in [report.run_start.clone(), "2026-06-01T12:00:00.000000Z".to_owned()] {
            let mut report = held.named(report.clone());
            report.run_start = start;
            let page = render(&report, &held);
            is_inert(&page);
            assert!(page.contains("&lt;script&gt;pwned()"), "it is shown");
        }
    }
}

#[test]
fn nothing_makes_the_page_too_large() {
    let (report, mut held) = full();
    let long = HOSTILE.repeat(8);
    let mut report = hostile(&report, &long);
    report.run_start = "2026-06-01T12:00:00.000000Z".into();
    report.changed_files = (0..2500).map(|_| report.changed_files[0].clone()).collect();
    report.blockers = (0..600).map(|_| report.blockers[0].clone()).collect();
    report.ignored_changes = (0..600).map(|_| report.ignored_changes[0].clone()).collect();
    report.git_changes.paths = report.ignored_changes.clone();
    report.approvals = (0..600).map(|_| report.approvals[0].clone()).collect();
    report.sandbox.denials = (0..600).map(|_| report.sandbox.denials[0].clone()).collect();
    report.sandbox.missing = vec![long.clone(); 600];
    report.sandbox.mechanisms = (0..600).map(|_| report.sandbox.mechanisms[0].clone()).collect();
    report.timings = (0..600).map(|_| report.timings[0].clone()).collect();
    report.provider.allowed_hosts = vec![long.clone(); 600];
    for n in 0..150 {
        report.limits.insert(format!("{n}{long}"), report.limits["memory"].clone());
        report.usage.insert(format!("{n}{long}"), report.usage["backend"].clone());
        let seen = report.sandbox.observed["backend"].clone();
        report.sandbox.observed.insert(format!("{n}{long}"), seen);
    }
    let mut patch = Vec::new();
    for n in 0..60 {
        patch.extend(format!("diff --git a/f{n} b/f{n}\n@@ -0,0 +1,2000 @@\n").bytes());
        patch.extend(b"+\0\x01a\0\n".repeat(2000));
    }
    held.put(PATCH, patch);
    for n in 0..50 {
        held.put(&format!("backend.l{n}.log"), b"a\0".repeat(200_000));
    }
    for name in [STDOUT, STDERR, TEST_LOG, REVIEW_LOG] {
        held.put(name, vec![0; 400_000]);
    }
    let data = json!({ "text": "\0".repeat(3000) });
    held.put(EVENTS, (0..6000).map(|n| event(n, "backend", "message", &data)).collect::<String>());
    let mut report = held.named(report);
    for n in 0..600 {
        report.digest_manifest.push(ResourceDescriptor::new(&format!("{n}{long}"), long.clone(), 1));
    }
    let page = render(&report, &held);
    assert!(page.len() <= MAX_PAGE, "{}", page.len());
    for said in [
        "more changed files stand",
        "more blockers stand",
        "events between are left out",
        "bytes are left out here",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(page.contains("6000 events"));
    is_inert(&page);
}

#[test]
fn quarantined_evidence_is_not_copied() {
    let (mut report, mut held) = full();
    let secret = "topsecretvalue";
    for name in [STDOUT, STDERR, TEST_LOG, REVIEW_LOG, "backend.extra.log"] {
        held.put(name, format!("{secret}\n"));
    }
    held.put(PATCH, format!("diff --git a/a b/a\n@@ -0,0 +1 @@\n+{secret}\n"));
    held.put(EVENTS, event(0, "backend", "message", &json!({"text": secret})));
    report.quarantined = true;
    let page = render(&held.named(report.clone()), &held);
    assert!(!page.contains(secret));
    for said in [
        "Quarantined: a secret",
        "The logs are left out",
        "The diff is left out",
        "What the events say is left out",
    ] {
        assert!(page.contains(said), "{said}");
    }
    report.quarantined = false;
    assert!(render(&held.named(report), &held).contains(secret), "the test finds it where it is");
}

#[test]
fn the_same_evidence_gives_the_same_page_and_its_own_entries_change_nothing() {
    let (mut report, held) = full();
    let page = render(&report, &held);
    for name in [MARKDOWN, HTML] {
        report.digest_manifest.push(ResourceDescriptor::new(name, "9".repeat(64), 7));
        report.artifact_paths.insert(name.into(), name.into());
    }
    assert_eq!(render(&report, &held), page);
}

#[test]
fn what_cannot_be_read_is_said() {
    let (report, _) = full();
    let page = render(&report, &Held::default());
    is_inert(&page);
    for said in
        ["The event log could not be read", "could not be read when this page was made", "not to be read"]
    {
        assert!(page.contains(said), "{said}");
    }
}
