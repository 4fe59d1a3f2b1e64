//! Statements held against keys and against the evidence that they must be about: each thing that is wrong is named.

use std::collections::BTreeMap;

use serde_json::Value;

use super::envelope::{self, Opened, PAYLOAD_TYPE, pae};
use super::key::PublicKey;
use super::statement::{self, PROVENANCE, TEST_RESULT};
use crate::report::Report;

/// Most artifacts that are named as not covered, of one envelope.
const NAMED: usize = 5;
/// Longest value that is quoted, characters.
const QUOTED: usize = 100;

/// What statements over evidence show.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    /// They are well-formed and about this evidence, and were held against no key: that shows nothing.
    Unchecked {
        /// The key that they name.
        key_id: String,
    },
    /// This key signed them.
    SignedBy {
        /// Its id.
        key_id: String,
    },
    /// What is wrong, of each thing.
    Wrong(Vec<String>),
}

/// Checks the bytes of `report.intoto.jsonl` against the report, whose digest is this one as it was read, and the keys.
#[must_use]
pub fn check(lines: &[u8], report: &Report, report_sha256: &str, keys: &[PublicKey]) -> Shown {
    let mut wrong = Vec::new();
    let envelopes = match split(lines) {
        Ok(envelopes) => envelopes,
        Err(why) => return Shown::Wrong(vec![why]),
    };
    let expected = match statement::payloads(report, report_sha256) {
        Ok(expected) => expected,
        Err(error) => return Shown::Wrong(vec![format!("cannot be held against the report: {error}")]),
    };
    let mut key_id: Option<String> = None;
    for (index, line) in envelopes.into_iter().enumerate() {
        let mut add = |why: String| wrong.push(format!("envelope {}: {why}", index + 1));
        let opened = match envelope::open(line) {
            Ok(opened) => opened,
            Err(why) => {
                add(why);
                continue;
            }
        };
        match &key_id {
            Some(first) if *first != opened.key_id => {
                add(format!("names another key than the envelope before it: {}, not {first}", opened.key_id))
            }
            _ => {}
        }
        if let Err(why) = signature(&opened, keys) {
            add(why);
        }
        let other = &expected[1 - index];
        if opened.payload == *other {
            add("holds the statement that belongs into the other one: their lines were exchanged".to_owned());
        } else if opened.payload != expected[index] {
            differences(&opened.payload, &expected[index]).into_iter().for_each(add);
        }
        key_id = Some(opened.key_id);
    }
    match key_id {
        Some(key_id) if wrong.is_empty() => {
            if keys.is_empty() {
                Shown::Unchecked { key_id }
            } else {
                Shown::SignedBy { key_id }
            }
        }
        _ => Shown::Wrong(wrong),
    }
}

/// The two lines.
fn split(lines: &[u8]) -> Result<[&[u8]; 2], String> {
    let Some(whole) = lines.strip_suffix(b"\n") else {
        return Err("does not end with a line feed: it is cut, or is no JSON Lines".to_owned());
    };
    let mut parts = whole.split(|byte| *byte == b'\n');
    match (parts.next(), parts.next(), parts.count()) {
        (Some(first), Some(second), 0) => Ok([first, second]),
        (_, second, more) => {
            let count = 1 + usize::from(second.is_some()) + more;
            Err(format!("holds {count} envelopes; a signed run has two, {TEST_RESULT} and {PROVENANCE}"))
        }
    }
}

fn signature(opened: &Opened, keys: &[PublicKey]) -> Result<(), String> {
    if keys.is_empty() {
        return Ok(());
    }
    // The id only says which key to try: what decides is the signature.
    let Some(key) = keys.iter().find(|key| key.id() == opened.key_id) else {
        let given: Vec<&str> = keys.iter().map(PublicKey::id).collect();
        return Err(format!(
            "says that it was signed with key {}, which was not given with --key (given: {})",
            opened.key_id,
            given.join(", ")
        ));
    };
    if key.verifies(&pae(PAYLOAD_TYPE, &opened.payload), &opened.signature) {
        Ok(())
    } else {
        Err(format!(
            "its signature does not verify with key {}: the statement or the signature was changed, or another key signed it",
            key.id()
        ))
    }
}

/// In which ways a payload is not what it must be; never nothing.
fn differences(payload: &[u8], expected: &[u8]) -> Vec<String> {
    let Ok(wanted) = serde_json::from_slice::<Value>(expected) else {
        return vec!["cannot be held against the report".to_owned()];
    };
    let stated: Value = match serde_json::from_slice(payload) {
        Ok(stated @ Value::Object(_)) => stated,
        Ok(_) => return vec!["its payload is no JSON object".to_owned()],
        Err(error) => return vec![format!("its payload is no JSON: {error}")],
    };
    let run = "/predicate/runDetails/metadata/invocationId";
    if let (Some(of), Some(here)) = (stated.pointer(run), wanted.pointer(run))
        && of != here
    {
        return vec![format!(
            "is the statement of another run: {}, and this is {}",
            quoted(of),
            quoted(here)
        )];
    }
    let mut all = covered(&stated["subject"], &wanted["subject"]);
    for field in ["_type", "predicateType", "predicate"] {
        all.extend(differs(field, stated.get(field), wanted.get(field)));
    }
    if all.is_empty() {
        all.extend(differs("statement", Some(&stated), Some(&wanted)));
    }
    if all.is_empty() {
        all.push("its payload is not in the form in which Proctor writes it".to_owned());
    }
    all
}

/// Artifacts that are not covered as they are, or that are not here.
fn covered(stated: &Value, wanted: &Value) -> Vec<String> {
    let by_name = |list: &Value| -> BTreeMap<String, String> {
        let entry = |one: &Value| {
            Some((one["name"].as_str()?.to_owned(), one["digest"]["sha256"].as_str()?.to_owned()))
        };
        list.as_array().into_iter().flatten().filter_map(entry).collect()
    };
    let (signed, here) = (by_name(stated), by_name(wanted));
    let missing = here.iter().filter_map(|(name, sha256)| match signed.get(name) {
        None => Some(format!("does not cover {name}")),
        Some(other) if other != sha256 => {
            Some(format!("covers another {name}: what was signed has SHA-256 {other}, what is here {sha256}"))
        }
        Some(_) => None,
    });
    let foreign = signed
        .keys()
        .filter(|name| !here.contains_key(*name))
        .map(|name| format!("covers {name}, which is no artifact of this evidence"));
    let mut all: Vec<String> = missing.chain(foreign).collect();
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    if more > 0 {
        all.push(format!("and {more} more artifacts likewise"));
    }
    all
}

fn quoted(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(QUOTED).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// The first place in which two values differ, in words.
fn differs(at: &str, stated: Option<&Value>, wanted: Option<&Value>) -> Option<String> {
    match (stated, wanted) {
        (Some(Value::Object(stated)), Some(Value::Object(wanted))) => {
            let keys = stated.keys().chain(wanted.keys());
            keys.into_iter().find_map(|key| differs(&format!("{at}.{key}"), stated.get(key), wanted.get(key)))
        }
        (Some(Value::Array(stated)), Some(Value::Array(wanted))) => {
            let longest = stated.len().max(wanted.len());
            (0..longest)
                .find_map(|index| differs(&format!("{at}[{index}]"), stated.get(index), wanted.get(index)))
        }
        (stated, wanted) if stated == wanted => None,
        (Some(stated), Some(wanted)) => {
            Some(format!("{at} is {}, by the report it must be {}", quoted(stated), quoted(wanted)))
        }
        (Some(stated), None) => Some(format!("{at} is {}, and nothing must be there", quoted(stated))),
        (None, wanted) => Some(format!(
            "{at} is missing; by the report it must be {}",
            wanted.map_or_else(String::new, quoted)
        )),
    }
}
