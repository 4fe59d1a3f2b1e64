//! The result of a run: what the layer changed, and what test, reviewer and operator say of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::approve::Request;
use super::backend::{Settled, answer_event};
use super::checks::{self, Check, CheckRun};
use super::interrupt::Interrupt;
use super::lifecycle::{Run, approval_fact, supervisor};
use super::limits::mechanism;
use super::reading::{self, Layer, Reading};
use super::settle;
use crate::changes::seeds::result_seed;
use crate::event::{EventType, NewEvent, Source, format_micros, now_micros};
use crate::evidence::{REVIEW_LOG, payload};
use crate::profile::TestChoice;
use crate::verdict::{ChangesFact, DisallowedChange, Ending, Phase, ReviewFact, SecretFact, TestFact};

/// How long the layer may take to read: what may be in it is bounded, so this is far more than it needs.
const READ_LIMIT: Duration = Duration::from_secs(600);

impl Run<'_> {
    /// Reads the layer on a thread of its own: what a backend left there must not keep the run from being interrupted,
    /// nor from ever ending.
    pub(super) async fn read_changes(&mut self, interrupt: &mut Interrupt) {
        let Some(ran) = &self.backend else { return };
        let failed = |why: String| ChangesFact::Failed { why };
        let scanner = match self.secret_scanner() {
            Ok(scanner) => scanner,
            Err(error) => {
                self.facts.secrets = SecretFact::Failed { why: error.to_string() };
                self.facts.changes = failed(error.to_string());
                return;
            }
        };
        let layer = match &ran.started.copied {
            Some(copied) => Ok(Layer::Copied(Arc::clone(copied))),
            None => ran.started.running.upper_layer().map(Layer::Upper),
        };
        let layer = match layer {
            Ok(layer) => layer,
            Err(error) => {
                self.facts.changes = failed(error.to_string());
                return;
            }
        };
        let plan = Arc::clone(&self.plan);
        let reading = tokio::task::spawn_blocking(move || reading::read(&plan, &layer, &scanner));
        let read = tokio::select! {
            read = reading => read,
            signal = interrupt.next() => {
                self.facts.interrupted = Some(signal);
                self.facts.changes = failed("the run was interrupted while the layer was read".into());
                return;
            }
            () = tokio::time::sleep(READ_LIMIT) => {
                let why = format!("reading the layer took longer than {} s", READ_LIMIT.as_secs());
                self.facts.changes = failed(why);
                return;
            }
        };
        match read {
            Ok(read) => self.take_reading(read),
            Err(error) => {
                self.log.defect(format!("reading the layer: {error}"));
                self.facts.changes = failed("reading the layer failed in Proctor itself".into());
            }
        }
    }

    fn take_reading(&mut self, read: Reading) {
        self.git_changes = read.git_changes;
        for (what, limit, option) in read.limits {
            let cap = if what == "patch" { mechanism::PATCH } else { mechanism::CHANGES };
            self.output_limit(&what, option.as_deref(), limit, None, Phase::Changes, cap);
        }
        if !read.secrets.is_empty() {
            self.facts.secrets = SecretFact::Found(read.secrets);
        }
        if let Some((patch, info)) = read.patch {
            self.patch = patch;
            self.patch_info = Some(info);
        }
        let set = match read.set {
            Ok(set) => set,
            Err(why) => {
                self.facts.changes = ChangesFact::Failed { why };
                return;
            }
        };
        for change in settle::changed_files(&set) {
            self.log.emit(payload::file_changed(&change));
        }
        let disallowed: Vec<DisallowedChange> = set
            .disallowed
            .iter()
            .map(|d| DisallowedChange {
                path: String::from_utf8_lossy(&d.path).into_owned(),
                rule: d.message.clone(),
            })
            .collect();
        for (one, d) in set.disallowed.iter().zip(&disallowed) {
            self.log.emit(
                supervisor(EventType::PolicyDenied)
                    .with("what", "change")
                    .with("path", d.path.clone())
                    .with("rule", one.rule)
                    .with("message", one.message.clone()),
            );
        }
        self.facts.changes = ChangesFact::Read {
            changed: set.changes.len() as u64,
            disallowed,
            needs_approval: !set.ask.is_empty(),
        };
        self.set = Some(set);
    }

    /// Tests, review, approval: over base and patch.
    pub(super) async fn check_result(&mut self, hidden: Vec<PathBuf>, interrupt: &mut Interrupt) {
        let options = self.plan.resolved.options.clone();
        if let TestChoice::Command(command) = &options.test {
            self.phase("test");
            self.log
                .emit(NewEvent::new(EventType::TestStarted, Source::Test).with("command", command.clone()));
            let mut run = self.check("test", command, hidden.clone(), interrupt).await;
            self.watched("test", run.watched.take());
            let ending = self.check_ending(&run, Phase::Test);
            let (code, signal) = run.ended();
            self.log.emit(payload::test_completed(code, signal).with("duration_ms", run.duration_ms()));
            if run.over_cap {
                self.log_cap("test.log", options.limits.max_log, None, Phase::Test);
            }
            self.facts.test = TestFact::Command(ending);
            self.test = Some(run);
        }
        if self.interrupted(interrupt) || self.blocked_but_for_unreached() {
            return;
        }
        if let Some(review) = &options.review {
            self.phase("review");
            let sha256 = self.patch_info.as_ref().map(|i| i.sha256.clone()).unwrap_or_default();
            self.log.emit(
                NewEvent::new(EventType::ReviewStarted, Source::Reviewer)
                    .with("command", review.command.clone())
                    .with("patch_sha256", sha256.clone()),
            );
            let mut run = self.check("review", &review.command, hidden, interrupt).await;
            self.watched("review", run.watched.take());
            let ending = self.check_ending(&run, Phase::Review);
            self.facts.review = match ending {
                Ending::Exited(0) if review.by_exit || checks::accepts(&run.word, &sha256) => ReviewFact::Accepted,
                Ending::Exited(0) => ReviewFact::Rejected {
                    why: "it exited with code 0 and did not write `accept SHA256` (the patch's digest) to descriptor 3".into(),
                },
                Ending::Exited(code) => ReviewFact::Rejected { why: format!("it exited with code {code}") },
                Ending::Signalled(signal) => ReviewFact::Rejected { why: format!("signal {signal} killed it") },
                Ending::NotStarted => ReviewFact::NotReached,
                Ending::StartFailed { why } => ReviewFact::Rejected { why },
                Ending::Stopped => ReviewFact::Stopped,
            };
            let (code, signal) = run.ended();
            let accepted = self.facts.review == ReviewFact::Accepted;
            self.log.emit(
                payload::review_completed(accepted, code, signal).with("duration_ms", run.duration_ms()),
            );
            if run.over_cap {
                self.log_cap(REVIEW_LOG, options.limits.max_log, None, Phase::Review);
            }
            self.review = Some(run);
        }
        if self.interrupted(interrupt) || self.blocked_but_for_unreached() {
            return;
        }
        self.approve_changes(interrupt).await;
    }

    pub(super) async fn check(
        &mut self,
        role: &'static str,
        command: &str,
        hidden: Vec<PathBuf>,
        interrupt: &mut Interrupt,
    ) -> CheckRun {
        let failed = CheckRun::failed;
        let Some(set) = &self.set else {
            return failed("there is no result to check".into());
        };
        let seed = match result_seed(set) {
            Ok(seed) => seed,
            Err(error) => return failed(error.to_string()),
        };
        let options = &self.plan.resolved.options;
        let is_test = role == "test";
        let (own, mounts, timeout) = if is_test {
            (&options.test_sandbox, &self.plan.test_mounts, options.timeouts.test)
        } else {
            (&options.review_sandbox, &self.plan.review_mounts, options.timeouts.review)
        };
        // A reviewer accepts a digest: without a patch there is nothing to accept.
        let Some(digest) = self.patch_info.as_ref().map(|i| i.sha256.clone()) else {
            return failed("there is no patch to check".into());
        };
        let check = Check {
            role,
            command,
            own,
            mounts,
            seed,
            patch: (!is_test).then_some((self.patch.as_slice(), digest.as_str())),
            timeout,
        };
        let needs = self.needs(hidden);
        checks::run(&needs, check, interrupt).await
    }

    pub(super) fn check_ending(&mut self, run: &CheckRun, phase: Phase) -> Ending {
        if let Some(started) = &run.started {
            let peaks = run.finish.as_ref().map(|f| f.peaks).unwrap_or_default();
            self.resource_limits(started, peaks, phase);
        }
        match (&run.finish, &run.started) {
            // Cut, whether it was still running when that was seen or had just ended.
            (Ok(finish), _) if run.over_cap && finish.stop.is_none() => Ending::Stopped,
            (Ok(finish), Some(started)) => self.ending(finish, started, phase),
            (Err(_), _) if run.interrupted => Ending::Stopped,
            (Ok(_), None) => Ending::StartFailed { why: "it ended without having been started".into() },
            (Err(why), _) => Ending::StartFailed { why: why.clone() },
        }
    }

    /// Step 8: what matches `--ask-change` needs an answer, bound to the patch's digest.
    pub(super) async fn approve_changes(&mut self, interrupt: &mut Interrupt) {
        let Some(set) = self.set.as_ref().filter(|s| !s.ask.is_empty()) else {
            return;
        };
        let Some(info) = &self.patch_info else { return };
        self.timeline.begin("approval");
        self.ui.phase("approval");
        let mut paths: Vec<String> =
            set.ask.iter().take(20).map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
        if set.ask.len() > paths.len() {
            paths.push(format!("and {} more", set.ask.len() - paths.len()));
        }
        let request = Request {
            id: "changes".into(),
            subject: format!("changes to {}", paths.join(", ")),
            subject_sha256: info.sha256.clone(),
        };
        self.log.emit(
            supervisor(EventType::ApprovalRequested)
                .call(request.id.clone())
                .with("id", request.id.clone())
                .with("subject", request.subject.clone())
                .with("subject_sha256", request.subject_sha256.clone()),
        );
        let answer = tokio::select! {
            answer = self.approver.settle(&request) => answer,
            signal = interrupt.next() => {
                self.facts.interrupted = Some(signal);
                return;
            }
        };
        self.log.emit(answer_event(&request, &answer));
        let settled = Settled { request, asked_by: "supervisor", answer };
        self.facts.approvals.push(approval_fact(&settled, true));
        self.settled.push((settled, format_micros(now_micros())));
        self.approval_timeouts();
    }
}
