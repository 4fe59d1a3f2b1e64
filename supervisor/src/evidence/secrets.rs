//! Looks for secrets in artifacts: as they are, and in the encodings in which they leak.
//!
//! A value goes nowhere but to `secret_forms`: findings and debug output name secrets only by their names. What is split over
//! lines, encrypted, compressed or cut differently is not found: that is a limit of searching.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::dir::EvidenceDir;
use super::secret_forms::forms;
use crate::verdict::SecretFinding;

/// Values shorter than this are not looked for: they would be found everywhere. Bytes.
pub const MIN_SECRET: usize = 8;

const BUFFER: usize = 64 * 1024;
/// Forms of at most this size, all together, are searched for by the fastest way. Bytes.
const SMALL: usize = 32 * 1024;

/// A named value that must not stand in the evidence.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name: the variable, or `provider NAME`.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Searches for a set of secrets.
pub struct SecretScanner {
    names: Vec<String>,
    owners: Vec<usize>,
    longest: usize,
    patterns: Option<AhoCorasick>,
    too_short: Vec<String>,
}

impl fmt::Debug for SecretScanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretScanner").field("names", &self.names).finish_non_exhaustive()
    }
}

impl SecretScanner {
    /// A scanner for these secrets, in all their forms.
    ///
    /// # Errors
    /// They are too many or too long to search for: the caller treats that as a failed search.
    pub fn new(secrets: &[Secret]) -> io::Result<Self> {
        let mut scanner =
            Self { names: Vec::new(), owners: Vec::new(), longest: 0, patterns: None, too_short: Vec::new() };
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            // A trailing line feed is part of many values read from files and of few that are printed.
            let value = secret.value.trim_ascii();
            if value.len() < MIN_SECRET {
                scanner.too_short.push(secret.name.clone());
                continue;
            }
            // One name may stand for several values, and is found once.
            let known = scanner.names.iter().position(|name| *name == secret.name);
            let owner = known.unwrap_or(scanner.names.len());
            if known.is_none() {
                scanner.names.push(secret.name.clone());
            }
            for form in forms(value) {
                scanner.longest = scanner.longest.max(form.len());
                scanner.owners.push(owner);
                patterns.push(form);
            }
        }
        if !patterns.is_empty() {
            // The fastest search takes a KiB for each byte of them.
            let small = patterns.iter().map(Vec::len).sum::<usize>() <= SMALL;
            let kind = if small { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
            let built =
                AhoCorasick::builder().match_kind(MatchKind::Standard).kind(Some(kind)).build(&patterns);
            // The builder's error could quote nothing of a pattern, but it need not be trusted with that.
            let built =
                built.map_err(|_| io::Error::other("the secrets are too many or too long to search for"))?;
            scanner.patterns = Some(built);
        }
        Ok(scanner)
    }

    /// Names of the secrets that are too short to be looked for.
    #[must_use]
    pub fn too_short(&self) -> &[String] {
        &self.too_short
    }

    /// True where there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_none()
    }

    /// A search through one stream.
    #[must_use]
    pub fn stream(&self) -> SecretStream<'_> {
        SecretStream { scanner: self, window: Vec::new(), found: BTreeSet::new() }
    }

    /// Reads to the end and names the secrets that were found.
    ///
    /// # Errors
    /// The read error.
    pub fn scan(&self, mut input: impl Read) -> io::Result<Vec<String>> {
        let mut stream = self.stream();
        let mut buffer = vec![0; BUFFER];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return Ok(stream.found()),
                Ok(count) => stream.feed(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Names the secrets that stand in a text of a JSON value: in a string, in the name of a field, or in the bytes that
    /// a field `*_b64` holds.
    #[must_use]
    pub fn scan_json(&self, value: &Value) -> Vec<String> {
        let mut stream = self.stream();
        stream.value(value);
        stream.found()
    }

    /// Searches artifacts of an evidence directory, after they are flushed.
    ///
    /// # Errors
    /// One cannot be read: the search failed, and the caller treats the evidence as holding a secret.
    pub fn scan_artifacts<'a>(
        &self,
        dir: &EvidenceDir,
        names: impl IntoIterator<Item = &'a str>,
    ) -> io::Result<Vec<SecretFinding>> {
        let mut findings = Vec::new();
        if self.is_empty() {
            return Ok(findings);
        }
        for name in names {
            let file = dir.open(name).map_err(|error| io::Error::other(error.to_string()))?;
            let found = self.scan(file)?;
            findings
                .extend(found.into_iter().map(|secret| SecretFinding { artifact: name.to_owned(), secret }));
        }
        Ok(findings)
    }
}

/// One stream on its way past the scanner, in pieces of any size.
pub struct SecretStream<'a> {
    scanner: &'a SecretScanner,
    window: Vec<u8>,
    found: BTreeSet<usize>,
}

impl fmt::Debug for SecretStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretStream").field("found", &self.found).finish_non_exhaustive()
    }
}

impl SecretStream<'_> {
    /// The next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Some(patterns) = &self.scanner.patterns else {
            return;
        };
        for piece in bytes.chunks(BUFFER) {
            self.window.extend_from_slice(piece);
            for found in patterns.find_overlapping_iter(&self.window) {
                self.found.insert(self.scanner.owners[found.pattern().as_usize()]);
            }
            // What could be the beginning of a secret stays.
            let kept = self.window.len().min(self.scanner.longest - 1);
            self.window.drain(..self.window.len() - kept);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.whole(text.as_bytes()),
            Value::Array(items) => items.iter().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.whole(name.as_bytes());
                    let encoded = value.as_str().filter(|_| name.ends_with("_b64"));
                    if let Some(bytes) = encoded.and_then(|text| STANDARD.decode(text).ok()) {
                        self.whole(&bytes);
                    }
                    self.value(value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// One text, apart from those before and after it.
    fn whole(&mut self, bytes: &[u8]) {
        self.window.clear();
        self.feed(bytes);
        self.window.clear();
    }

    /// Names of the secrets seen so far.
    #[must_use]
    pub fn found(&self) -> Vec<String> {
        self.found.iter().map(|owner| self.scanner.names[*owner].clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;
    use crate::event::hex;

    const VALUE: &str = "sk-live/Ab+9 \"q\"\\é<&";

    fn scanner(value: &[u8]) -> SecretScanner {
        SecretScanner::new(&[Secret { name: "API_KEY".into(), value: value.to_vec() }]).unwrap()
    }

    #[test]
    fn every_form_is_found() {
        let scanner = scanner(VALUE.as_bytes());
        let json = serde_json::to_string(VALUE).unwrap();
        for text in [
            VALUE.to_owned(),
            json.clone(),
            serde_json::to_string(&json).unwrap(),
            "sk-live/Ab+9 \\\"q\\\"\\\\\\u00e9<&".to_owned(),
            "sk-live%2FAb%2B9%20%22q%22%5C%C3%A9%3C%26".to_owned(),
            "sk-live%2fAb%2b9+%22q%22%5c%c3%a9%3c%26".to_owned(),
            hex::encode(VALUE.as_bytes()),
            STANDARD_NO_PAD.encode(VALUE),
            URL_SAFE_NO_PAD.encode(VALUE),
            STANDARD_NO_PAD.encode(format!("user:{VALUE}@host")),
            STANDARD_NO_PAD.encode(format!("x{VALUE}")),
            STANDARD_NO_PAD.encode(format!("xx{VALUE}yy")),
        ] {
            assert_eq!(
                scanner.scan(format!("before {text} after").as_bytes()).unwrap(),
                ["API_KEY"],
                "{text}"
            );
        }
        assert!(scanner.scan(&b"sk-live/Ab+9 nothing"[..]).unwrap().is_empty());
    }

    #[test]
    fn a_value_never_shows() {
        let secret = Secret { name: "K".into(), value: b"topsecretvalue".to_vec() };
        let scanner = SecretScanner::new(std::slice::from_ref(&secret)).unwrap();
        let mut stream = scanner.stream();
        stream.feed(b"topsecretvalu");
        let shown = format!("{secret:?} {scanner:?} {stream:?}");
        assert!(!shown.contains("topsecret") && !shown.contains("116, 111"), "{shown}");
    }

    #[test]
    fn short_values_are_named_and_nothing_to_look_for_finds_nothing() {
        let scanner = scanner(b"short\n");
        assert_eq!(scanner.too_short(), ["API_KEY"]);
        assert!(scanner.is_empty());
        assert!(scanner.scan(&b"short"[..]).unwrap().is_empty());
    }

    #[test]
    fn texts_of_a_value_are_searched_one_by_one_and_bytes_as_they_are() {
        let scanner = scanner(b"topsecretvalue");
        let bytes = STANDARD.encode(b"\xff/topsecretvalue\xfe");
        for value in [
            serde_json::json!({ "paths": [{ "path": "target/topsecretvalue" }] }),
            serde_json::json!({ "topsecretvalue": 1 }),
            serde_json::json!([{ "path": "?", "path_b64": bytes }]),
            serde_json::json!({ "argv": ["x", { "deep": "dG9wc2VjcmV0dmFsdWU=" }] }),
        ] {
            assert_eq!(scanner.scan_json(&value), ["API_KEY"], "{value}");
        }
        assert!(scanner.scan_json(&serde_json::json!(["topsecret", "value"])).is_empty());
    }

    #[test]
    fn artifacts_are_named() {
        let top = tempfile::tempdir().unwrap();
        let dir = EvidenceDir::create(&top.path().join("e")).unwrap();
        dir.write_whole("patch.diff", b"clean").unwrap();
        dir.write_whole("backend.stdout.log", b"key=topsecretvalue\n").unwrap();
        let scanner = scanner(b"topsecretvalue\n");
        let found = scanner.scan_artifacts(&dir, ["patch.diff", "backend.stdout.log"]).unwrap();
        assert_eq!(
            found,
            [SecretFinding { artifact: "backend.stdout.log".into(), secret: "API_KEY".into() }]
        );
        assert!(scanner.scan_artifacts(&dir, ["absent.log"]).is_err());
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_do_not_hide_it(
            before in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(1..40_usize, 1..40),
        ) {
            let scanner = scanner(b"topsecretvalue");
            let mut bytes = before;
            bytes.extend_from_slice(b"topsecretvalue and more of it");
            let mut stream = scanner.stream();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let taken = (*cut).min(rest.len());
                stream.feed(&rest[..taken]);
                rest = &rest[taken..];
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(stream.found(), ["API_KEY"]);
        }
    }
}
