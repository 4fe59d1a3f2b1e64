//! Whether report, events, patch and logs say the same.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::{DECISION, EVENTS, HTML, MARKDOWN, PATCH, REPORT, TEST_LOG};
use super::seen::{Ended, STEPS, Seen};
use super::{Contents, ProblemKind, Problems};
use crate::changes::patch::apply::{Applied, Content};
use crate::changes::patch::skim::{PatchFiles, PathBytes};
use crate::event::{EventType, LogSummary, Source, parse_micros};
use crate::exit::{ExitCode, StopSignal};
use crate::report::{ChangeKind, FileChange, Report, ReviewStatus, TestStatus};
use crate::verdict::{BlockerCode, Status};

/// Blockers that can come to light after the last event was written.
pub(super) const LATE: [BlockerCode; 3] =
    [BlockerCode::ArtifactWriteFailed, BlockerCode::SecretInEvidence, BlockerCode::EvidenceInvalid];

/// Artifacts that are whole only when no event can tell of it any more: the log itself, and what is rendered from the
/// report, which names the log's last line. What they must say is compared otherwise.
const AFTER_THE_LAST_EVENT: [&str; 3] = [EVENTS, HTML, MARKDOWN];

/// How far event times may lie outside the run's own: the wall clock may have been set, microseconds.
const SLACK: i64 = 2_000_000;

/// Problems of one kind, each with its artifact.
pub(super) struct Out<'a>(pub(super) &'a mut Problems);

impl Out<'_> {
    pub(super) fn add(&mut self, artifact: &str, message: impl AsRef<str>) {
        self.0.add(ProblemKind::Disagreement, artifact, message);
    }
}

pub(super) fn check(report: &Report, contents: &Contents, problems: &mut Problems) {
    itself(report, problems);
    let mut out = Out(problems);
    if let Some((summary, seen)) = &contents.events {
        for problem in &summary.problems {
            out.0.add(ProblemKind::Events, EVENTS, problem.to_string());
        }
        out.0.more += summary.more_problems;
        log(report, summary, seen, &mut out);
        verdict(report, seen, &mut out);
        changes(seen, &mut out);
        pass(report, summary, seen, &mut out);
        tests(report, contents, seen, &mut out);
        review(report, seen, &mut out);
    }
    super::held::check(report, contents, &mut out);
    if let Some(profile) = &contents.profile {
        let index = contents.events.as_ref().map(|(summary, _)| &summary.index);
        super::rules::check(report, profile, index, &mut out);
    }
    if let Some(files) = &contents.patch
        && !exceeded(report)
    {
        patch(report, files, &mut out);
    }
}

/// Whether output was cut, so that logs and patch need not hold everything.
fn exceeded(report: &Report) -> bool {
    report.blockers.iter().any(|blocker| blocker.code == BlockerCode::OutputLimit)
}

/// The report alone.
fn itself(report: &Report, problems: &mut Problems) {
    let mut add = |message: String| problems.add(ProblemKind::Report, REPORT, message);
    let passed = report.status == Status::Pass;
    if passed && !report.blockers.is_empty() {
        add("the status is pass, and there are blockers".to_owned());
    }
    if !report.blockers.is_sorted_by_key(|blocker| blocker.code) {
        add("the blockers are not in their order".to_owned());
    }
    if !passed && report.blockers.is_empty() && report.exit_code != ExitCode::Defect.code() {
        add("the status is fail, and there is no blocker".to_owned());
    }
    let stop =
        report.blockers.iter().find(|blocker| blocker.code == BlockerCode::Interrupted).map(|blocker| {
            let signal = blocker.detail.get("signal").and_then(serde_json::Value::as_str);
            if signal == Some(StopSignal::Int.name()) { StopSignal::Int } else { StopSignal::Term }
        });
    let exit = report
        .blockers
        .iter()
        .map(|blocker| ExitCode::of(blocker.code, stop))
        .fold(ExitCode::Pass, ExitCode::worst);
    if report.exit_code != exit.code() && report.exit_code != ExitCode::Defect.code() {
        add(format!("the exit code is {}, its blockers lead to {}", report.exit_code, exit.code()));
    }
    if passed && report.exit_code != 0 {
        add("the status is pass, and the exit code is not 0".to_owned());
    }
    let secret = report.blockers.iter().any(|blocker| blocker.code == BlockerCode::SecretInEvidence);
    if report.quarantined != secret {
        add("quarantined does not fit the blockers".to_owned());
    }
    if report.backend_exit_code.is_some() && report.backend_signal.is_some() {
        add("the backend has both an exit code and a signal".to_owned());
    }
    let digest = |name: &str| {
        report.digest_manifest.iter().find(|one| one.name == name).map(|one| one.digest.sha256.as_str())
    };
    if report.decision.digest.as_deref() != digest(DECISION) {
        add(format!("the decision's digest is not that of {DECISION}"));
    }
    if report.review.patch_sha256.is_some() && report.review.patch_sha256.as_deref() != digest(PATCH) {
        add(format!("the reviewer was shown another patch than {PATCH}"));
    }
}

fn log(report: &Report, summary: &LogSummary, seen: &Seen, out: &mut Out<'_>) {
    let said = &report.events;
    if said.count != summary.count {
        out.add(EVENTS, format!("has {} lines, the report says {}", summary.count, said.count));
    }
    if said.last_hash != summary.last_hash {
        out.add(EVENTS, "its last line is not the one whose digest the report holds");
    }
    if seen.nonce.as_deref() != Some(report.freshness.nonce.as_str()) {
        out.add(EVENTS, "run.started holds another nonce than the report");
    }
    if seen.engine.as_deref() != Some(report.engine.name.as_str()) {
        out.add(EVENTS, "run.started names another engine than the report");
    }
    if seen.stage != report.stage {
        out.add(EVENTS, "run.started names another stage than the report");
    }
    if seen.mutation_mode.as_deref() != Some(report.mutation_mode.as_str()) {
        out.add(EVENTS, "run.started names another mutation mode than the report");
    }
    let (start, end) = (parse_micros(&report.run_start), parse_micros(&report.run_end));
    let early =
        seen.first_micros.zip(start).is_some_and(|(first, start)| first < start.saturating_sub(SLACK));
    let late = seen.last_micros.zip(end).is_some_and(|(last, end)| last > end.saturating_add(SLACK));
    if early || late {
        out.add(EVENTS, "its times lie outside the run's");
    }
    let sizes: BTreeMap<String, u64> =
        report.digest_manifest.iter().map(|one| (one.name.clone(), one.annotations.size)).collect();
    for (stream, offset) in &seen.native {
        match sizes.get(&format!("backend.{stream}.log")) {
            None => out.add(EVENTS, format!("points into a raw log {stream:?} that is not there")),
            Some(size) if offset >= size && !exceeded(report) => {
                out.add(EVENTS, format!("points beyond the end of backend.{stream}.log"));
            }
            Some(_) => {}
        }
    }
    if seen.too_many_streams || seen.too_many_written {
        out.add(EVENTS, "speaks of too many raw logs or artifacts");
    }
    for written in &seen.written {
        let same = report.digest_manifest.iter().any(|one| {
            one.name == written.name
                && one.digest.sha256 == written.sha256
                && Some(one.annotations.size) == written.size
        });
        if !same {
            out.add(EVENTS, format!("says of artifact {:?} what the manifest does not", written.name));
        }
    }
    let told = |name: &str| seen.written.iter().filter(|one| one.name == name).count();
    for one in &report.digest_manifest {
        let expected = usize::from(!AFTER_THE_LAST_EVENT.contains(&one.name.as_str()));
        if told(&one.name) != expected && !seen.too_many_written {
            let count = told(&one.name);
            out.add(EVENTS, format!("tells of the writing of {} {count} times, not {expected}", one.name));
        }
    }
}

fn verdict(report: &Report, seen: &Seen, out: &mut Out<'_>) {
    let mut said: BTreeMap<&str, u64> = BTreeMap::new();
    for blocker in &report.blockers {
        *said.entry(blocker.code.as_str()).or_insert(0) += 1;
    }
    let mut late = false;
    for code in BlockerCode::ALL {
        let (name, mut surplus) = (code.as_str(), said.get(code.as_str()).copied().unwrap_or(0));
        let raised = seen.blockers.get(&code).copied().unwrap_or(0);
        if surplus > raised && LATE.contains(&code) {
            late = true;
            surplus = raised;
        }
        if surplus != raised {
            out.add(
                REPORT,
                format!("blocker {name} stands in the report {surplus} times, in the events {raised} times"),
            );
        }
    }
    if seen.refused_changes > 0 && !said.contains_key(BlockerCode::DisallowedFile.as_str()) {
        let count = seen.refused_changes;
        out.add(EVENTS, format!("refuses {count} changes, and no blocker says so"));
    }
    if seen.unknown_blockers > 0 {
        out.add(EVENTS, "raises a blocker whose code is none");
    }
    let status = seen.finished_status.as_deref();
    if status != Some(report.status.as_str()) && !(late && status == Some(Status::Pass.as_str())) {
        out.add(EVENTS, format!("run.finished does not say {}, as the report does", report.status.as_str()));
    }
    let defect = report.exit_code == ExitCode::Defect.code();
    if seen.finished_exit != Some(u64::from(report.exit_code)) && !late && !defect {
        out.add(
            EVENTS,
            format!("run.finished does not say exit code {}, as the report does", report.exit_code),
        );
    }
    let ended = Ended {
        exit_code: report.backend_exit_code.map(i64::from),
        signal: report.backend_signal.map(i64::from),
    };
    let none = Ended { exit_code: None, signal: None };
    if seen.backend.len() > 1 || seen.backend.last().copied().unwrap_or(none) != ended {
        out.add(REPORT, "the backend's exit code or signal is not that of backend.exited");
    }
}

fn changes(seen: &Seen, out: &mut Out<'_>) {
    let unseen = seen.unseen();
    if !unseen.is_empty() {
        let shown: Vec<&str> = unseen.iter().take(5).map(String::as_str).collect();
        out.add(
            REPORT,
            format!(
                "{} of changed_files have no observed file.changed like them: {}",
                unseen.len(),
                shown.join(", ")
            ),
        );
    }
    if seen.surplus_count > 0 {
        let shown = seen.surplus.join(", ");
        out.add(
            EVENTS,
            format!(
                "{} observed file.changed are not in the report as they are: {shown}",
                seen.surplus_count
            ),
        );
    }
}

/// Sizes and digests of the changed files, held against the content that the patch takes and gives.
pub(super) fn contents(report: &Report, parts: &[Applied], problems: &mut Problems) {
    type Sides<'a> = (Option<&'a Content>, Option<&'a Content>);
    let mut held: BTreeMap<&[u8], Sides<'_>> = BTreeMap::new();
    for part in parts {
        let (old, new) = held.entry(&part.path).or_default();
        // What becomes something else is taken away first and made then.
        *old = old.or(part.old.as_ref());
        *new = part.new.as_ref().or(*new);
    }
    let mut out = Out(problems);
    for change in &report.changed_files {
        let path = exact(&change.path, change.path_b64.as_ref());
        let Some((old, new)) = path.as_ref().and_then(|path| held.get(path.as_slice())) else {
            // That the patch has no such part is told where the two are compared.
            continue;
        };
        for (side, size, sha256, content) in [
            ("old", change.old_size, &change.old_sha256, old),
            ("new", change.new_size, &change.new_sha256, new),
        ] {
            let said = size.zip(sha256.as_deref());
            let found = content.map(|(size, sha256)| (*size, sha256.as_str()));
            if said != found {
                let path = &change.path;
                out.add(
                    REPORT,
                    format!("the {side} content of {path:?} is {said:?} here, by patch and base {found:?}"),
                );
            }
        }
    }
}

/// What a pass needs of the events.
fn pass(report: &Report, summary: &LogSummary, seen: &Seen, out: &mut Out<'_>) {
    if report.status != Status::Pass {
        return;
    }
    let mut no = |message: &str| out.add(REPORT, format!("the status is pass, but {message}"));
    let supervisor = |event_type| summary.index.count(event_type, Source::Supervisor);
    for (event_type, what) in [
        (EventType::BlockerRaised, "a blocker was raised"),
        (EventType::TimeoutExpired, "a time ran out"),
        (EventType::LimitExceeded, "a limit was exceeded"),
    ] {
        if supervisor(event_type) > 0 {
            no(what);
        }
    }
    if supervisor(EventType::ApprovalDenied)
        + summary.index.count(EventType::ApprovalDenied, Source::Operator)
        > 0
    {
        no("an approval was denied");
    }
    if report.approvals.iter().any(|approval| approval.outcome != "granted") {
        no("a request for approval was not granted");
    }
    if report.backend_exit_code != Some(0) || seen.backend.is_empty() {
        no("the backend did not exit 0");
    }
    for event_type in [EventType::DecisionRecorded, EventType::SandboxReady, EventType::BackendStarted] {
        if supervisor(event_type) == 0 {
            no(&format!("{event_type} was not seen"));
        }
    }
    let mut before: Option<(usize, u64)> = None;
    for (step, (first, last)) in &seen.places {
        if let Some((earlier, end)) = before.filter(|(_, end)| end > first) {
            let name = |step: usize| STEPS.get(step).map_or("", |(kind, _)| kind.as_str());
            no(&format!("{} (event {first}) comes before {} (event {end})", name(*step), name(earlier)));
        }
        before = Some((*step, *last));
    }
    if report.events.left_out > 0 {
        no("events were left out");
    }
    if !matches!(report.tests.status, TestStatus::Passed | TestStatus::Off) {
        no("the tests did not pass");
    }
    if !matches!(report.review.status, ReviewStatus::Accepted | ReviewStatus::Off) {
        no("the reviewer did not accept");
    }
    if report.sandbox.level.is_none() {
        no("there was no sandbox");
    }
    if report.base_commit.is_none() || report.base_tree.is_none() || report.result_tree.is_none() {
        no("base or result are not named");
    }
    if report.changed_files.iter().any(|change| change.not_in_patch.is_some()) {
        no("a change stands in no patch");
    }
    let wants_changes = matches!(report.mutation_mode.as_str(), "patch" | "apply");
    if wants_changes && report.changed_files.is_empty() {
        no("nothing changed");
    }
}

fn tests(report: &Report, contents: &Contents, seen: &Seen, out: &mut Out<'_>) {
    let tests = &report.tests;
    if let Some((begin, _)) = &contents.test {
        if begin.run_id != report.run_id {
            out.add(TEST_LOG, format!("belongs to run {:?}", begin.run_id));
        }
        if begin.command != tests.command {
            out.add(TEST_LOG, "is of another command than the report's");
        }
    }
    if !matches!(tests.status, TestStatus::Passed | TestStatus::Failed | TestStatus::TimedOut) {
        // A command that could not be started has an end as well: one with neither exit code nor signal.
        let none = Ended { exit_code: None, signal: None };
        let could_start = tests.status != TestStatus::NotRun || seen.test.iter().any(|end| *end != none);
        if could_start && !seen.test.is_empty() {
            out.add(EVENTS, "has a test.completed, and the report says that no test ran");
        }
        if contents.test.as_ref().is_some_and(|(_, end)| end.exit_code.is_some()) {
            out.add(TEST_LOG, "says that the tests exited, and the report does not");
        }
        return;
    }
    let said = Ended { exit_code: tests.exit_code.map(i64::from), signal: tests.signal.map(i64::from) };
    // What Proctor stopped may still exit with 0: it is failed, or timed out, all the same.
    let stopped = report.blockers.iter().any(|blocker| {
        matches!(
            blocker.code,
            BlockerCode::OutputLimit | BlockerCode::ResourceLimit | BlockerCode::Interrupted
        )
    });
    let fits = match tests.status {
        TestStatus::Passed => tests.exit_code == Some(0),
        TestStatus::Failed => tests.exit_code != Some(0) || stopped,
        _ => true,
    };
    if !fits {
        out.add(REPORT, "the tests' status does not fit their exit code");
    }
    if seen.test != [said] {
        out.add(EVENTS, "test.completed does not say of the tests what the report says");
    }
    match &contents.test {
        None if contents.test_empty => out.add(TEST_LOG, "is empty, and the report says that tests ran"),
        None => {}
        Some((_, end)) => {
            let found = Ended { exit_code: end.exit_code.map(i64::from), signal: end.signal.map(i64::from) };
            if found != said {
                out.add(TEST_LOG, "does not say of the tests what the report says");
            }
        }
    }
}

fn review(report: &Report, seen: &Seen, out: &mut Out<'_>) {
    let accepted = seen.review == [Some(true)];
    match report.review.status {
        ReviewStatus::Accepted => {
            if !accepted {
                out.add(EVENTS, "has no review.completed that accepts, as the report says");
            }
            if report.review.patch_sha256.is_none() {
                out.add(REPORT, "an accepting review names no patch");
            }
        }
        ReviewStatus::Rejected | ReviewStatus::TimedOut | ReviewStatus::NotRun | ReviewStatus::Off => {
            if seen.review.contains(&Some(true)) {
                out.add(EVENTS, "has a review.completed that accepts, and the report does not");
            }
        }
    }
}

pub(super) fn exact(path: &str, b64: Option<&String>) -> Option<PathBytes> {
    match b64 {
        None => Some(path.as_bytes().to_vec()),
        Some(b64) => {
            let bytes = STANDARD.decode(b64).ok()?;
            (String::from_utf8_lossy(&bytes) == path && std::str::from_utf8(&bytes).is_err()).then_some(bytes)
        }
    }
}

fn patch(report: &Report, files: &PatchFiles, out: &mut Out<'_>) {
    let mut rest = files.clone();
    for change in &report.changed_files {
        if change.not_in_patch.is_some() {
            continue;
        }
        if let Err(why) = take(change, &mut rest) {
            out.add(PATCH, format!("{why}: {}", change.path));
        }
    }
    let left = [
        rest.added.keys().collect::<Vec<_>>(),
        rest.deleted.keys().collect(),
        rest.modified.keys().collect(),
    ]
    .concat();
    if !left.is_empty() {
        let shown: Vec<_> = left.iter().take(5).map(|path| String::from_utf8_lossy(path)).collect();
        out.add(
            PATCH,
            format!("changes {} files that the report does not name: {}", left.len(), shown.join(", ")),
        );
    }
}

/// Takes what the patch must say of a change out of it.
fn take(change: &FileChange, rest: &mut PatchFiles) -> Result<(), &'static str> {
    let path =
        exact(&change.path, change.path_b64.as_ref()).ok_or("the report's path_b64 does not fit its path")?;
    let absent = "does not change a file as the report says";
    let (old, new) = (change.old_mode.as_ref(), change.new_mode.as_ref());
    let right = match change.kind {
        ChangeKind::Added => rest.added.remove(&path).is_some_and(|mode| Some(&mode) == new),
        ChangeKind::Deleted => rest.deleted.remove(&path).is_some_and(|mode| Some(&mode) == old),
        ChangeKind::Modified | ChangeKind::Mode => {
            let found = rest.modified.remove(&path).ok_or(absent)?;
            let moded = found.0 != found.1;
            Some(&found.0) == old && Some(&found.1) == new && (change.kind == ChangeKind::Modified || moded)
        }
        ChangeKind::Type => {
            let gone = rest.deleted.remove(&path).is_some_and(|mode| Some(&mode) == old);
            let made = rest.added.remove(&path).is_some_and(|mode| Some(&mode) == new);
            gone && made
        }
        ChangeKind::Renamed => {
            let from = change.old_path.as_ref().ok_or("the report names no old path of a renamed file")?;
            let from =
                exact(from, change.old_path_b64.as_ref()).ok_or("the report's old_path_b64 does not fit")?;
            // The patch says it in two parts.
            let gone = rest.deleted.remove(&from).is_some_and(|mode| Some(&mode) == old);
            let made = rest.added.remove(&path).is_some_and(|mode| Some(&mode) == new);
            gone && made
        }
    };
    if right { Ok(()) } else { Err(absent) }
}
