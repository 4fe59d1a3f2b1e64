//! `proctor verify` of real evidence in which one thing was changed: each artifact in every way, the events, and every
//! value of the report with all digests computed again. Each must be refused, with the artifact and the reason.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::proctor::event::hex;
use ::proctor::evidence::verify::{VerifyOptions, verify};
use ::proctor::report::Report;
use harness::{Outcome, TestRepo, World, users};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::judges::{answered, line};
use crate::proctor;
use crate::support::{each, passes, sh};
use crate::verify::{copy, forge, refused, report};

const ARTIFACTS: [&str; 12] = [
    "report.json",
    "report.json.sha256",
    "report.md",
    "events.normalized.jsonl",
    "patch.diff",
    "profile.json",
    "test.log",
    "trace.jsonl",
    "backend.stdout.log",
    "backend.stderr.log",
    "decision.json",
    "review.log",
];
const WORK: &str = "echo at work; bash -c 'echo > /dev/tcp/93.184.216.34/443'; unshare -U true; echo done >&2; \
                    mkdir -p tests; echo 1 > tests/t; rm README; sed -i s/broken/mended/ src/value.txt; \
                    chmod +x check.sh; mkdir -p target; echo x > target/x";

/// A run in which everything happens that leaves something: tests, review, an approval, denials.
fn full(repo: &TestRepo<'_>) -> Outcome {
    let log = repo.world().write("answers.jsonl", "").display().to_string();
    let options = [
        "--test",
        "echo testing; sh check.sh",
        "--review",
        "echo reviewing; echo accept $PROCTOR_PATCH_SHA256 >&3",
        "--ask-change",
        "src/**",
        "--approvals",
        &log,
        "--task",
        "mend it",
    ];
    let outcome = answered(sh(repo, &options, WORK), repo, |t| line(t, json!({ "by": "ann" })));
    passes(&outcome, repo);
    outcome
}

/// The artifacts of such a run, none of them empty.
fn artifacts(dir: &Path) -> Vec<&'static str> {
    let mut found: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut expected: Vec<&str> = ARTIFACTS.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for name in &found {
        assert!(std::fs::metadata(dir.join(name)).unwrap().len() > 0, "{name} is empty");
    }
    expected
}

/// A change of a file whose content is given.
type Change = fn(&Path, &[u8]);

/// Removes whatever is at a path.
fn clear(path: &Path) {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path).unwrap(),
        Ok(_) => std::fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// The same content under another name, outside of the evidence.
fn elsewhere(path: &Path, bytes: &[u8]) -> PathBuf {
    let away = path.parent().unwrap().with_extension("away");
    clear(&away);
    std::fs::write(&away, bytes).unwrap();
    clear(path);
    away
}

fn flip(path: &Path, bytes: &[u8], at: usize) {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

const CHANGES: &[(&str, Change, &str)] = &[
    ("the first byte flipped", |p, b| flip(p, b, 0), ""),
    ("a byte flipped at a quarter", |p, b| flip(p, b, b.len() / 4), ""),
    ("a byte flipped in the middle", |p, b| flip(p, b, b.len() / 2), ""),
    ("the last byte flipped", |p, b| flip(p, b, b.len() - 1), ""),
    ("cut by one byte", |p, b| std::fs::write(p, &b[..b.len() - 1]).unwrap(), ""),
    ("cut by half", |p, b| std::fs::write(p, &b[..b.len() / 2]).unwrap(), ""),
    ("deleted", |p, _| clear(p), "is missing"),
    ("a line feed appended", |p, b| std::fs::write(p, [b, b"\n"].concat()).unwrap(), ""),
    ("a NUL appended", |p, b| std::fs::write(p, [b, b"\0"].concat()).unwrap(), ""),
    ("itself appended", |p, b| std::fs::write(p, [b, b].concat()).unwrap(), ""),
    ("emptied", |p, _| std::fs::write(p, b"").unwrap(), ""),
    (
        "a symbolic link to itself elsewhere",
        |p, b| std::os::unix::fs::symlink(elsewhere(p, b), p).unwrap(),
        "is no regular file",
    ),
    (
        "a hard link to itself elsewhere",
        |p, b| std::fs::hard_link(elsewhere(p, b), p).unwrap(),
        "has 2 names (hard links)",
    ),
    (
        "a fifo",
        |p, _| {
            clear(p);
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, p, kind, rustix::fs::Mode::RWXU, 0).unwrap();
        },
        "is no regular file",
    ),
    (
        "a directory",
        |p, _| {
            clear(p);
            std::fs::create_dir(p).unwrap();
        },
        "is no regular file",
    ),
];

#[test]
fn every_artifact_changed_in_every_way_is_refused_by_its_name() {
    each(|repo| {
        let outcome = full(repo);
        let dir = copy(&outcome, repo, "changed");
        for name in artifacts(&dir) {
            let path = dir.join(name);
            let bytes = std::fs::read(&path).unwrap();
            for (what, change, why) in CHANGES {
                change(&path, &bytes);
                let said = refused(&dir, repo, &[]);
                let named = said.lines().any(|line| {
                    let names = if name == "report.json" {
                        &["  report.json: ", "  report.json.sha256: "][..]
                    } else {
                        &[name][..]
                    };
                    names.iter().any(|name| {
                        line.trim_start().starts_with(&format!("{}: ", name.trim().trim_end_matches(':')))
                    }) && line.contains(why)
                });
                assert!(named, "{name}, {what}, {why:?}: {said}");
                clear(&path);
                std::fs::write(&path, &bytes).unwrap();
            }
        }
        assert_eq!(proctor(repo.world()).arg("verify").arg(&dir).run().code, Some(0), "all is as before");
    });
}

#[test]
fn whatever_else_lies_in_the_directory_is_refused_by_its_name() {
    each(|repo| {
        let outcome = full(repo);
        let dir = copy(&outcome, repo, "added");
        let names: &[(&[u8], &str)] = &[
            (b"extra.txt", "extra.txt: the manifest does not name this file"),
            (b".hidden", ".hidden: the manifest does not name this file"),
            (b"...", "...: the manifest does not name this file"),
            (b"report.json ", "report.json : the manifest does not name this file"),
            (b"REPORT.JSON", "REPORT.JSON: the manifest does not name this file"),
            (b"report.html", "report.html: the manifest does not name this file"),
            (b"backend.extra.log", "backend.extra.log: the manifest does not name this file"),
            (b"a\nVALID  run\n", "a\\nVALID  run\\n: the manifest does not name this file"),
            (b"\x1b[2J\xff", "\\x1b[2J\u{fffd}: the manifest does not name this file"),
            ("\u{202e}txt.exe".as_bytes(), "\\u{202e}txt.exe: the manifest does not name this file"),
        ];
        for (name, why) in names {
            let path = dir.join(std::ffi::OsStr::from_bytes(name));
            let kinds: &[Change] = &[
                |p, _| std::fs::write(p, b"x").unwrap(),
                |p, _| std::fs::create_dir(p).unwrap(),
                |p, _| std::os::unix::fs::symlink("report.json", p).unwrap(),
            ];
            for make in kinds {
                make(&path, b"");
                let said = refused(&dir, repo, &[]);
                assert!(said.contains(why), "{why}: {said}");
                assert!(!said.contains("\nVALID") && !said.contains('\x1b'), "{said}");
                clear(&path);
            }
        }
        // What the manifest cannot name is no place for something else.
        std::fs::create_dir(dir.join("report.intoto.jsonl")).unwrap();
        let said = refused(&dir, repo, &[]);
        assert!(said.contains("report.intoto.jsonl: is no regular file"), "{said}");
    });
}

fn lines(dir: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(dir.join("events.normalized.jsonl")).unwrap();
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Puts events in place; what the report says of them, and all digests, are computed again.
fn with_events(dir: &Path, sound: &Report, lines: &[Vec<u8>]) {
    let name = "events.normalized.jsonl";
    let bytes = lines.concat();
    std::fs::write(dir.join(name), &bytes).unwrap();
    let mut edited = sound.clone();
    edited.events.count = lines.len() as u64;
    let last = lines.last().map_or(&[][..], |line| line.strip_suffix(b"\n").unwrap_or(line));
    edited.events.last_hash = hex::encode(&Sha256::digest(last));
    for one in edited.digest_manifest.iter_mut().filter(|one| one.name == name) {
        one.digest.sha256 = hex::encode(&Sha256::digest(&bytes));
        one.annotations.size = bytes.len() as u64;
    }
    forge(dir, &mut edited);
}

/// The lines with `seq` and `prev` as they must be.
fn chained(events: &[Value]) -> Vec<Vec<u8>> {
    let mut prev = "0".repeat(64);
    let mut lines = Vec::new();
    for (seq, event) in events.iter().enumerate() {
        let mut event: ::proctor::event::Event = serde_json::from_value(event.clone()).unwrap();
        event.seq = seq as u64;
        event.prev = prev;
        let mut line = serde_json::to_vec(&event).unwrap();
        prev = hex::encode(&Sha256::digest(&line));
        line.push(b'\n');
        lines.push(line);
    }
    lines
}

#[test]
fn events_reordered_dropped_doubled_or_edited_are_refused() {
    each(|repo| {
        let outcome = full(repo);
        let dir = copy(&outcome, repo, "events");
        let (sound, all) = (report(&dir), lines(&dir));
        let events: Vec<Value> = all.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
        // The forger's way of writing is Proctor's.
        with_events(&dir, &sound, &chained(&events));
        assert_eq!(proctor(repo.world()).arg("verify").arg(&dir).run().code, Some(0));
        let refused = |lines: &[Vec<u8>], why: &str, what: &str| {
            with_events(&dir, &sound, lines);
            let said = refused(&dir, repo, &[]);
            assert!(
                said.contains("events.normalized.jsonl: ") || said.contains("report.json: "),
                "{what}: {said}"
            );
            assert!(said.contains(why), "{what}: {why}: {said}");
        };
        for at in 0..all.len() {
            let kind = &events[at]["type"];
            let mut some = all.clone();
            some.remove(at);
            refused(&some, "", &format!("{kind} dropped"));
            some = all.clone();
            some.insert(at, all[at].clone());
            refused(&some, "has seq", &format!("{kind} doubled"));
            if at > 0 {
                some = all.clone();
                some.swap(at - 1, at);
                refused(&some, "has seq", &format!("{kind} before the one before it"));
            }
        }
        // The chain computed again after it: what the log no longer says, the report still does.
        let witnessed = |event: &Value| event["source"] != "backend" && event["type"] != "limit.exceeded";
        for at in (0..events.len()).filter(|at| witnessed(&events[*at])) {
            let mut some = events.clone();
            some.remove(at);
            refused(&chained(&some), "", &format!("{} dropped and the chain mended", events[at]["type"]));
            some = events.clone();
            some.insert(at, events[at].clone());
            refused(&chained(&some), "", &format!("{} doubled and the chain mended", events[at]["type"]));
        }
    });
}

#[test]
fn logs_edited_with_their_digests_in_the_manifest_are_refused_by_the_events() {
    each(|repo| {
        let outcome = full(repo);
        let dir = copy(&outcome, repo, "logs");
        let sound = report(&dir);
        for name in artifacts(&dir) {
            if name.starts_with("report.") || name == "events.normalized.jsonl" {
                continue;
            }
            let bytes = std::fs::read(dir.join(name)).unwrap();
            let mut other = bytes.clone();
            let at = other.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
            other[at] ^= 1;
            std::fs::write(dir.join(name), &other).unwrap();
            let mut edited = sound.clone();
            let sha256 = hex::encode(&Sha256::digest(&other));
            for one in edited.digest_manifest.iter_mut().filter(|one| one.name == name) {
                one.digest.sha256.clone_from(&sha256);
            }
            if name == "decision.json" {
                edited.decision.digest = Some(sha256.clone());
            }
            if name == "patch.diff" {
                edited.review.patch_sha256 = Some(sha256);
            }
            forge(&dir, &mut edited);
            let said = refused(&dir, repo, &[]);
            let why =
                format!("events.normalized.jsonl: says of artifact \"{name}\" what the manifest does not");
            assert!(said.contains(&why), "{name}: {said}");
            std::fs::write(dir.join(name), &bytes).unwrap();
        }
    });
}

#[test]
fn an_artifact_that_no_event_tells_of_is_refused() {
    each(|repo| {
        let outcome = full(repo);
        let dir = copy(&outcome, repo, "more");
        let mut edited = report(&dir);
        let name = "backend.extra.log";
        std::fs::write(dir.join(name), b"x").unwrap();
        let mut one = edited.digest_manifest[0].clone();
        name.clone_into(&mut one.name);
        one.digest.sha256 = hex::encode(&Sha256::digest(b"x"));
        one.annotations.size = 1;
        edited.digest_manifest.push(one);
        edited.artifact_paths.insert(name.into(), name.into());
        forge(&dir, &mut edited);
        let said = refused(&dir, repo, &[]);
        let why = "events.normalized.jsonl: tells of the writing of backend.extra.log 0 times, not 1";
        assert!(said.contains(why), "{said}");
    });
}

#[test]
fn a_failure_that_was_turned_into_a_pass_is_refused() {
    each(|repo| {
        let outcome = sh(repo, &["--test", "sh check.sh"], "echo half > src/value.txt").run();
        outcome.expect(1, &["tests_failed"]);
        let dir = copy(&outcome, repo, "pass");
        let mut edited = report(&dir);
        edited.status = serde_json::from_str("\"pass\"").unwrap();
        edited.blockers.clear();
        edited.exit_code = 0;
        edited.tests.status = serde_json::from_str("\"passed\"").unwrap();
        edited.tests.exit_code = Some(0);
        forge(&dir, &mut edited);
        let said = refused(&dir, repo, &[]);
        for why in [
            "raises 1 blockers that the report does not have",
            "run.finished does not say pass, as the report does",
            "the status is pass, but a blocker was raised",
            "test.completed does not say of the tests what the report says",
            "test.log: does not say of the tests what the report says",
            "run.finished does not say exit code 0",
        ] {
            assert!(said.contains(why), "{why}: {said}");
        }
    });
}

#[test]
fn old_evidence_is_refused_by_nonce_age_and_clock() {
    each(|repo| {
        let nonce = "00112233445566778899aabbccddeeff";
        let outcome =
            sh(repo, &["--test", "sh check.sh", "--nonce", nonce], "echo mended > src/value.txt").run();
        passes(&outcome, repo);
        let dir = outcome.evidence();
        let sound =
            proctor(repo.world()).arg("verify").arg(&dir).args(["--nonce", nonce, "--max-age", "1h"]).run();
        assert_eq!(sound.code, Some(0), "{sound:#?}");
        let said = refused(&dir, repo, &["--nonce", "ffeeddccbbaa99887766554433221100"]);
        assert!(
            said.contains(&format!("report.json: the nonce is {nonce}, not the one asked for")),
            "{said}"
        );
        let said = refused(&dir, repo, &["--max-age", "1us"]);
        assert!(
            said.contains("report.json: the run ended at ") && said.contains("longer ago than is allowed"),
            "{said}"
        );
        let said = refused(&dir, repo, &["--require-signature"]);
        assert!(said.contains("report.intoto.jsonl: is missing: a signature is required"), "{said}");
        // A clock before the end, and one a day after it.
        let hour = i64::try_from(Duration::from_secs(3600).as_micros()).unwrap();
        let at = |now| {
            let options =
                VerifyOptions { now, max_age: Some(Duration::from_secs(3600)), ..VerifyOptions::default() };
            verify(&dir, options).problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let now = ::proctor::event::now_micros();
        assert_eq!(at(now), Vec::<String>::new());
        assert!(at(now - hour)[0].ends_with("which is still to come"), "{:?}", at(now - hour));
        assert!(at(now + 2 * hour)[0].ends_with("longer ago than is allowed"));
    });
}

/// Every place of a JSON value that holds no other, and every list and object that can lose or gain something.
fn places(value: &Value, at: &mut Vec<String>, out: &mut Vec<String>) {
    out.push(at.concat());
    let mut below = |key: String, one: &Value| {
        at.push(format!("/{}", key.replace('~', "~0").replace('/', "~1")));
        places(one, at, out);
        at.pop();
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, one)| below(key.clone(), one)),
        Value::Array(list) => list.iter().enumerate().for_each(|(key, one)| below(key.to_string(), one)),
        _ => {}
    }
}

/// What a forger could put there, most of it of the type that must be there.
fn others(value: &Value) -> Vec<Value> {
    let words = [
        "pass",
        "fail",
        "added",
        "modified",
        "deleted",
        "mode",
        "type",
        "renamed",
        "passed",
        "failed",
        "timed_out",
        "not_run",
        "off",
        "missing",
        "accepted",
        "rejected",
        "caller",
        "self",
        "granted",
        "denied",
        "expired",
        "complete",
        "advisory",
        "absent",
        "full",
        "landlock",
        "none",
        "host",
        "100644",
        "100755",
    ];
    let mut all = match value {
        Value::Null => vec![json!("x"), json!(1), json!(true), json!("0".repeat(64)), json!("0".repeat(40))],
        Value::Bool(one) => vec![json!(!one)],
        Value::Number(one) => {
            let one = one.as_u64().unwrap_or(0);
            vec![json!(one + 1), json!(one.wrapping_sub(1)), json!(0), Value::Null]
        }
        Value::String(text) => {
            let mut all =
                if words.contains(&text.as_str()) { words.map(Value::from).to_vec() } else { Vec::new() };
            all.extend([json!(format!("{text}x")), json!(""), Value::Null]);
            // A digest, an id, a time: another of the same form.
            if let Some(at) = text.rfind(|c: char| c.is_ascii_digit()) {
                let digit = if &text[at..=at] == "9" { "0" } else { "9" };
                all.push(format!("{}{digit}{}", &text[..at], &text[at + 1..]).into());
            }
            all
        }
        Value::Array(list) => {
            let mut all = vec![json!([])];
            if let [first, .., last] = list.as_slice() {
                let mut other = list.clone();
                other.reverse();
                all.extend([other.into(), json!([first]), json!([last])]);
            }
            if let [first, ..] = list.as_slice() {
                let twice: Vec<_> = list.iter().chain([first]).cloned().collect();
                all.push(twice.into());
            } else {
                all.extend([json!(["x"]), json!([{ "path": "x" }])]);
            }
            all
        }
        Value::Object(map) => {
            let without = |key: &String| {
                let mut other = map.clone();
                other.remove(key);
                Value::Object(other)
            };
            let mut all: Vec<Value> = map.keys().map(without).collect();
            if let Some((key, one)) = map.iter().next() {
                let mut other = map.clone();
                other.insert(format!("{key}2"), one.clone());
                all.push(Value::Object(other));
            }
            all
        }
    };
    all.retain(|other| other != value);
    all
}

/// Other values that a forger could put at the places that begin so, and that verify takes. All digests and
/// `report.md` are made anew each time. Gives how many were tried, what was taken, and places without any.
fn forged(dir: &Path, below: &str) -> (usize, Vec<String>, Vec<String>) {
    let sound = report(dir);
    let value = serde_json::to_value(&sound).unwrap();
    let mut all = Vec::new();
    places(&value, &mut Vec::new(), &mut all);
    let (mut tried, mut untried, mut taken) = (0, Vec::new(), Vec::new());
    // Of each place two values, by turns of different kinds; with the larger sample all.
    let enough = if crate::support::full() { usize::MAX } else { 2 };
    for (turn, place) in all.iter().filter(|place| place.starts_with(below)).enumerate() {
        let here = value.pointer(place).unwrap();
        let before = tried;
        let mut others = others(here);
        let first = turn % others.len().max(1);
        others.rotate_left(first);
        for other in others {
            if tried - before == enough {
                break;
            }
            let mut edited = value.clone();
            *edited.pointer_mut(place).unwrap() = other.clone();
            // What is no report any more is refused as that; the forger is after what is one.
            let Ok(mut edited) = serde_json::from_value::<Report>(edited) else { continue };
            forge(dir, &mut edited);
            if edited == sound {
                continue;
            }
            tried += 1;
            if verify(dir, VerifyOptions::default()).valid {
                taken.push(format!("{place}: {here} -> {other}"));
            }
        }
        if tried == before {
            untried.push(place.clone());
        }
    }
    (tried, taken, untried)
}

/// One value changed at a time, with events and artifacts as they were: what a forger changes in all of them alike is
/// for a signature (and, unsigned, shown by nothing).
#[test]
fn every_value_of_a_report_is_held_against_something() {
    let world = World::new(users()[0]);
    let repo = TestRepo::small(&world);
    let outcome = full(&repo);
    let dir = copy(&outcome, &repo, "values");
    let (tried, taken, untried) = forged(&dir, "");
    assert!(tried > 600, "{tried}");
    assert_eq!(taken, Vec::<String>::new());
    // No value was left out but those that are made anew from the rest.
    let sound = serde_json::to_value(report(&dir)).unwrap();
    let markdown = report(&dir).digest_manifest.iter().position(|one| one.name == "report.md").unwrap();
    let entry = format!("/digest_manifest/{markdown}/");
    let value = |place: &String| !matches!(sound.pointer(place), Some(Value::Array(_) | Value::Object(_)));
    let untried: Vec<_> =
        untried.into_iter().filter(|place| value(place) && !place.starts_with(&entry)).collect();
    assert_eq!(untried, Vec::<String>::new());

    // A run that is no pass, for more than one reason.
    let outcome =
        sh(&repo, &["--test", "sh check.sh", "--deny-change", "src/**"], "echo x > src/value.txt; exit 3")
            .run();
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    let dir = copy(&outcome, &repo, "blockers");
    assert!(report(&dir).blockers.len() > 1);
    for below in ["/blockers", "/status", "/exit_code", "/quarantined", "/tests", "/changed_files"] {
        let (tried, taken, _) = forged(&dir, below);
        assert!(tried > 0, "{below}");
        assert_eq!(taken, Vec::<String>::new());
    }
}
