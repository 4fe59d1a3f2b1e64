//! Checks an evidence directory again: digests, chain, freshness, and that its parts agree with each other.
//!
//! The directory is hostile input: everything is opened without following links, read once, within limits, and each
//! wrong thing is named. What needs the repository is asked of the caller's [`PatchCheck`].
//!
//! [`verify`] reads in the caller's own process. Whoever has evidence from somebody else uses [`confined::verify`],
//! which has a process of its own for that ([`reader`]), without rights and limited in time and memory.

mod agree;
mod answer;
pub mod confined;
mod fresh;
mod held;
mod html;
mod parts;
pub mod reader;
mod rules;
mod seen;
mod signature;
mod traced;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::descriptor::{ResourceDescriptor, is_plain_name};
use super::open::{Directory, Hashed};
use super::sign::PublicKey;
use super::testlog::{TestBegin, TestEnd};
use super::{
    DECISION, EVENTS, HTML, MARKDOWN, MAX_REPORT, PATCH, PROFILE, REPORT, REPORT_DIGEST, REQUIRED, STATEMENT,
    TEST_LOG, TRACE, UNNAMED,
};
use crate::changes::patch::apply::Applied;
use crate::changes::patch::skim::{PatchFiles, skim};
use crate::event::{LogSummary, ReadLimits, hex, read_events};
use crate::profile::policy::EffectiveProfile;
use crate::report::escape::terminal as safe;
use crate::report::{Mechanism, Report};
use crate::verdict::{BlockerCode, Status};
use seen::Seen;

/// Most artifacts of a manifest.
const MAX_ARTIFACTS: usize = 500;
/// Most problems that are listed.
const MAX_PROBLEMS: usize = 200;
/// Most bytes of all artifacts together that are read where the caller says nothing else.
pub const MAX_BYTES: u64 = 64 << 30;
/// Who made evidence that was not read so far.
const NOT_READ: &str = "not shown: the evidence was not read";
/// Longest message of a problem, characters.
const MAX_MESSAGE: usize = 500;

/// Does the patch, applied to the base commit, give the result tree? (Asked of whoever has the repository.)
pub trait PatchCheck {
    /// Says what is wrong, if anything, else what each part of the patch made of what. `patch` is at its beginning.
    ///
    /// # Errors
    /// The reason why the answer is no, or is not to be had.
    fn check(
        &self,
        base_commit: &str,
        base_tree: &str,
        result_tree: &str,
        patch: &mut dyn Read,
    ) -> Result<Vec<Applied>, String>;
}

/// What is asked beyond consistency.
#[derive(Clone, Copy)]
pub struct VerifyOptions<'a> {
    /// The nonce that the evidence must hold.
    pub nonce: Option<&'a str>,
    /// How long ago the run may have ended.
    pub max_age: Option<Duration>,
    /// Now, microseconds since 1970.
    pub now: i64,
    /// Asked about the patch.
    pub patch_check: Option<&'a dyn PatchCheck>,
    /// Keys of which one must have signed; with any, unsigned evidence is a problem.
    pub keys: &'a [PublicKey],
    /// Unsigned evidence is a problem.
    pub require_signature: bool,
    /// Largest artifact that is read, bytes.
    pub max_artifact: u64,
    /// Most bytes that are read of all artifacts together.
    pub max_bytes: u64,
}

impl Default for VerifyOptions<'_> {
    fn default() -> Self {
        Self {
            nonce: None,
            max_age: None,
            now: crate::event::now_micros(),
            patch_check: None,
            keys: &[],
            require_signature: false,
            max_artifact: 64 << 30,
            max_bytes: MAX_BYTES,
        }
    }
}

impl std::fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyOptions")
            .field("nonce", &self.nonce)
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A file is missing, special, linked, too large or unreadable.
    File,
    /// A file that the manifest does not name.
    Unnamed,
    /// The report cannot be read or contradicts itself.
    Report,
    /// The manifest is not complete or not sound.
    Manifest,
    /// A digest or size does not hold.
    Digest,
    /// The event log is not sound.
    Events,
    /// Two parts disagree.
    Disagreement,
    /// It is not the run, or not of the time, that was asked for.
    Freshness,
    /// The patch does not give the result tree.
    Patch,
    /// A signature is missing or does not hold.
    Signature,
    /// The process that read it came to no answer: its time or memory ran out, or it died.
    Reader,
}

/// One wrong thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// In which artifact (`.` is the directory); safe to print.
    pub artifact: String,
    /// What is wrong; safe to print.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.artifact, self.message)
    }
}

/// What held the process that read the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderInfo {
    /// What was in force before the first byte was read.
    pub mechanisms: Vec<Mechanism>,
    /// What was not to be had.
    pub missing: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyResult {
    /// True where nothing is wrong.
    pub valid: bool,
    /// The run, as the report says; safe to print.
    pub run_id: Option<String>,
    /// The verdict that the report says: to be believed only where nothing is wrong.
    pub status: Option<Status>,
    /// The codes of the report's blockers, each once.
    pub blockers: Vec<BlockerCode>,
    /// SHA-256 of `report.json` as it was read.
    pub report_sha256: Option<String>,
    /// `unsigned`, `signed by KEYID`, or in words why neither is said. What is not signed shows consistency, not origin.
    pub authenticity: String,
    /// Artifacts whose digest was computed.
    pub artifacts: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// What could not be compared, and is no problem; safe to print.
    pub not_compared: Vec<String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Problems beyond those listed.
    pub more_problems: u64,
    /// What held the process that read it; null where that was the caller's own.
    pub reader: Option<ReaderInfo>,
}

impl VerifyResult {
    /// Of evidence of which nothing is known yet.
    fn unknown() -> Self {
        Self {
            valid: false,
            run_id: None,
            status: None,
            blockers: Vec::new(),
            report_sha256: None,
            authenticity: NOT_READ.to_owned(),
            artifacts: 0,
            bytes: 0,
            not_compared: Vec::new(),
            problems: Vec::new(),
            more_problems: 0,
            reader: None,
        }
    }

    /// Of evidence that could not be looked at.
    fn unread(kind: ProblemKind, artifact: &str, message: impl AsRef<str>) -> Self {
        let mut problems = Problems::default();
        problems.add(kind, artifact, message);
        Self { problems: problems.list, ..Self::unknown() }
    }
}

#[derive(Debug, Default)]
struct Problems {
    list: Vec<Problem>,
    more: u64,
}

impl Problems {
    fn add(&mut self, kind: ProblemKind, artifact: &str, message: impl AsRef<str>) {
        if self.list.len() >= MAX_PROBLEMS {
            self.more += 1;
            return;
        }
        let clip = |text: &str, most: usize| safe(&text.chars().take(most).collect::<String>());
        let message = clip(message.as_ref(), MAX_MESSAGE);
        self.list.push(Problem { kind, artifact: clip(artifact, 120), message });
    }
}

/// What was read of the artifacts, for the comparison of the parts.
#[derive(Debug, Default)]
struct Contents {
    events: Option<(LogSummary, Seen)>,
    patch: Option<PatchFiles>,
    test: Option<(TestBegin, TestEnd)>,
    test_empty: bool,
    decision: Option<crate::governance::Decision>,
    profile: Option<EffectiveProfile>,
    trace: Option<traced::Traced>,
}

/// Checks a directory. Never fails: what cannot be checked is a problem.
#[must_use]
pub fn verify(path: &Path, options: VerifyOptions<'_>) -> VerifyResult {
    match Directory::open(path) {
        Ok(dir) => verify_opened(&dir, options),
        Err(why) => VerifyResult::unread(ProblemKind::File, ".", why),
    }
}

fn verify_opened(dir: &Directory, options: VerifyOptions<'_>) -> VerifyResult {
    let mut result = VerifyResult::unknown();
    let mut problems = Problems::default();
    check(dir, options, &mut result, &mut problems);
    result.valid = problems.list.is_empty();
    result.problems = problems.list;
    result.more_problems = problems.more;
    result
}

fn check(dir: &Directory, options: VerifyOptions<'_>, result: &mut VerifyResult, problems: &mut Problems) {
    let names = dir.names().unwrap_or_else(|why| {
        problems.add(ProblemKind::File, ".", why);
        Vec::new()
    });
    let Some((report, sha256)) = read_report(dir, problems) else {
        return;
    };
    result.bytes += sha256.1;
    result.run_id = Some(safe(&report.run_id.chars().take(64).collect::<String>()));
    result.status = Some(report.status);
    let codes: BTreeSet<BlockerCode> = report.blockers.iter().map(|blocker| blocker.code).collect();
    result.blockers = codes.into_iter().collect();
    result.report_sha256 = Some(sha256.0.clone());

    manifest(&report, problems);
    let named: BTreeSet<&str> = report.digest_manifest.iter().map(|one| one.name.as_str()).collect();
    for name in
        names.iter().filter(|name| !UNNAMED.contains(&name.as_str()) && !named.contains(name.as_str()))
    {
        problems.add(ProblemKind::Unnamed, name, "the manifest does not name this file");
    }

    let mut contents = Contents::default();
    let mut sound = BTreeMap::new();
    if !parts::renders_the_same(&report) {
        let version: String = report.proctor_version.chars().take(64).collect();
        result.not_compared.push(safe(&format!(
            "{MARKDOWN} was rendered by version {version}, this is {}: it was not held against {REPORT}",
            env!("CARGO_PKG_VERSION")
        )));
    }
    if !parts::renders_the_same(&report) && named.contains(HTML) {
        // It may hold a script, and nothing shows that it is Proctor's.
        problems.add(
            ProblemKind::Disagreement,
            HTML,
            "was made by another version, and this one cannot say whether it is that version's: do not open it; `proctor report EVIDENCE --html FILE` renders the evidence anew",
        );
    }
    for artifact in report.digest_manifest.iter().take(MAX_ARTIFACTS) {
        let room = options.max_bytes.saturating_sub(result.bytes);
        match read_artifact(dir, artifact, &report, (options, room), &mut contents, problems) {
            Ok((digest, size)) => {
                result.artifacts += 1;
                result.bytes += size;
                let right = digest == artifact.digest.sha256 && size == artifact.annotations.size;
                if !right {
                    let expected = &artifact.digest.sha256;
                    let said = artifact.annotations.size;
                    let message = format!(
                        "does not hold: {size} bytes with SHA-256 {digest}, the manifest says {said} and {expected}"
                    );
                    problems.add(ProblemKind::Digest, &artifact.name, message);
                }
                sound.insert(artifact.name.clone(), right);
            }
            Err(why) => problems.add(ProblemKind::File, &artifact.name, why),
        }
    }

    fresh::check(&report, options, problems);
    agree::check(&report, &contents, problems);
    if let Some(asked) = options.patch_check {
        patch_check(dir, &report, sound.get(PATCH) == Some(&true), asked, options, problems);
    }
    let there = names.iter().any(|name| name == STATEMENT);
    signature::check((dir, there), (&report, &sha256.0), &sound, options, result, problems);
}

fn read_report(dir: &Directory, problems: &mut Problems) -> Option<(Report, (String, u64))> {
    let bytes = match whole(dir, REPORT, MAX_REPORT as u64) {
        Ok(bytes) => bytes,
        Err(why) => {
            problems.add(ProblemKind::File, REPORT, why);
            return None;
        }
    };
    let sha256 = hex::encode(&Sha256::digest(&bytes));
    match whole(dir, REPORT_DIGEST, 1024) {
        Ok(line) if line == format!("{sha256}  {REPORT}\n").as_bytes() => {}
        Ok(_) => problems.add(
            ProblemKind::Digest,
            REPORT_DIGEST,
            format!("does not hold: {REPORT} has SHA-256 {sha256}"),
        ),
        Err(why) => problems.add(ProblemKind::File, REPORT_DIGEST, why),
    }
    match Report::from_json(&bytes) {
        Ok(report) => {
            // Two readers must not see two reports: no field twice, nothing in another place.
            if report.to_json().ok().as_deref() != Some(&bytes[..]) {
                problems.add(ProblemKind::Report, REPORT, "is not in the form in which Proctor writes it");
            }
            Some((report, (sha256, bytes.len() as u64)))
        }
        Err(error) => {
            problems.add(ProblemKind::Report, REPORT, error.to_string());
            None
        }
    }
}

fn whole(dir: &Directory, name: &str, max: u64) -> Result<Vec<u8>, String> {
    let (file, _) = dir.file(name, max)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > max {
        Err(format!("has more than the {max} bytes that are read"))
    } else {
        Ok(bytes)
    }
}

fn manifest(report: &Report, problems: &mut Problems) {
    let mut add = |message: String| problems.add(ProblemKind::Manifest, REPORT, message);
    if report.digest_manifest.len() > MAX_ARTIFACTS {
        add(format!("the manifest names more than {MAX_ARTIFACTS} artifacts"));
    }
    // One order, so that one set of artifacts has one report.
    if !report.digest_manifest.is_sorted_by(|one, next| one.name <= next.name) {
        add("the manifest does not name its artifacts in order".to_owned());
    }
    let mut names = BTreeSet::new();
    for artifact in &report.digest_manifest {
        let name = artifact.name.as_str();
        if !is_plain_name(name) || UNNAMED.contains(&name) {
            add(format!("the manifest names {name:?}, which can be no artifact of it"));
        }
        if !names.insert(name) {
            add(format!("the manifest names {name:?} twice"));
        }
        if !hex::is_sha256(&artifact.digest.sha256) {
            add(format!("the manifest's digest of {name:?} is no SHA-256"));
        }
        if report.artifact_paths.get(name).map(String::as_str) != Some(name) {
            add(format!("artifact_paths does not say where {name:?} is"));
        }
    }
    for name in REQUIRED.iter().filter(|name| !names.contains(*name)) {
        add(format!("the manifest does not name the required artifact {name}"));
    }
    for name in report.artifact_paths.keys() {
        if !names.contains(name.as_str()) && !UNNAMED.contains(&name.as_str()) {
            add(format!("artifact_paths names {name:?}, which the manifest does not"));
        }
    }
}

fn read_artifact(
    dir: &Directory,
    artifact: &ResourceDescriptor,
    report: &Report,
    (options, room): (VerifyOptions<'_>, u64),
    contents: &mut Contents,
    problems: &mut Problems,
) -> Result<(String, u64), String> {
    let (file, size) = dir.file(&artifact.name, options.max_artifact.min(most(&artifact.name)))?;
    // Before anything is read: a file of holes costs nobody anything but its reader.
    let said = artifact.annotations.size;
    if size != said {
        return Err(format!("does not hold: has {size} bytes, the manifest says {said}"));
    }
    if size > room {
        return Err(format!(
            "has {size} bytes, and only {room} of the {} that are read at most are left (--max-bytes)",
            options.max_bytes
        ));
    }
    let mut input = Hashed::new(file, size);
    match artifact.name.as_str() {
        EVENTS => {
            let mut seen = Seen::new(report);
            let summary =
                read_events(&mut input, ReadLimits::default(), Some(&report.run_id), |event| seen.add(event));
            contents.events = Some((summary, seen));
        }
        PATCH => match skim(&mut input) {
            Ok(files) => contents.patch = Some(files),
            Err(why) => {
                problems.add(ProblemKind::Patch, PATCH, format!("is no patch as Proctor writes it: {why}"))
            }
        },
        TEST_LOG => match parts::frame(&mut input, size) {
            Ok(frame) => {
                contents.test_empty = size == 0;
                contents.test = frame;
            }
            Err(why) => problems.add(ProblemKind::Disagreement, TEST_LOG, why),
        },
        TRACE => match traced::read(&mut input, &report.run_id) {
            Ok(trace) => contents.trace = Some(trace),
            Err(why) => problems.add(ProblemKind::Disagreement, TRACE, why),
        },
        DECISION => match parts::decision(&mut input) {
            Ok(decision) => contents.decision = Some(decision),
            Err(why) => problems.add(ProblemKind::Disagreement, DECISION, why),
        },
        PROFILE => match rules::read(&mut input) {
            Ok(profile) => contents.profile = Some(profile),
            Err(why) => problems.add(ProblemKind::Disagreement, PROFILE, why),
        },
        MARKDOWN if parts::renders_the_same(report) => {
            if let Err(why) = parts::markdown(&mut input, report) {
                problems.add(ProblemKind::Disagreement, MARKDOWN, why);
            }
        }
        HTML if parts::renders_the_same(report) => {
            if let Err(why) = html::page(&mut input, report, dir) {
                problems.add(ProblemKind::Disagreement, HTML, why);
            }
        }
        _ => {}
    }
    input.end().map_err(|error| format!("cannot be read: {error}"))
}

/// Largest size of an artifact whose writer has a limit of its own; raw logs and traces have the caller's.
fn most(name: &str) -> u64 {
    match name {
        EVENTS | PATCH => 1 << 30,
        MARKDOWN => 64 << 20,
        HTML => 2 * crate::report::html::MAX_PAGE as u64,
        DECISION | PROFILE => 16 << 20,
        _ => u64::MAX,
    }
}

fn patch_check(
    dir: &Directory,
    report: &Report,
    sound: bool,
    asked: &dyn PatchCheck,
    options: VerifyOptions<'_>,
    problems: &mut Problems,
) {
    let (Some(commit), Some(tree)) = (&report.base_commit, &report.base_tree) else {
        problems.add(ProblemKind::Patch, PATCH, "the report names no base that it could be held against");
        return;
    };
    // A run that came to no result has an empty patch, which gives the base tree again.
    let result = report.result_tree.as_ref().unwrap_or(tree);
    if !sound {
        problems.add(
            ProblemKind::Patch,
            PATCH,
            "was not held against the repository: its digest does not hold",
        );
        return;
    }
    // Read again, and hashed again: what is applied is what the manifest names, whoever exchanges files meanwhile.
    let said = report.digest_manifest.iter().find(|one| one.name == PATCH);
    let checked = dir.file(PATCH, options.max_artifact).and_then(|(file, size): (File, u64)| {
        let mut input = Hashed::new(file, size);
        let parts = asked.check(commit, tree, result, &mut input)?;
        let (sha256, _) = input.end().map_err(|error| format!("cannot be read: {error}"))?;
        if said.map(|one| one.digest.sha256.as_str()) != Some(sha256.as_str()) {
            return Err("was exchanged while it was verified".to_owned());
        }
        Ok(parts)
    });
    match checked {
        Ok(parts) => agree::contents(report, &parts, problems),
        Err(why) => problems.add(ProblemKind::Patch, PATCH, why),
    }
}

#[cfg(test)]
mod tests;
