//! The end of a run: what is left to write, the verdict, the report put in place last of all.

use std::collections::BTreeMap;

use super::checks::{self, CheckRun};
use super::interrupt::Interrupt;
use super::lifecycle::{Finished, Run, sha256_hex};
use super::sandbox;
use super::settle;
use super::supervise::Stop;
use super::timeline::Parts;
use super::watch::tell::{self, Learned};
use crate::event::{Calls, EventIndex, EventLogEnd};
use crate::evidence::secrets::{Secret, SecretScanner};
use crate::evidence::sign::{Signer, signed_lines};
use crate::evidence::trace::Completeness;
use crate::evidence::{self, ArtifactError, PATCH, Published, STDERR, STDOUT, TRACE, payload, told};
use crate::exit::ExitCode;
use crate::profile::TestChoice;
use crate::report::{
    self, DecisionInfo, EngineInfo, EventsInfo, ProfileInfo, ProviderInfo, Report, ReviewInfo, ReviewStatus,
    TestInfo, TestStatus, UsageInfo,
};
use crate::verdict::{
    self, Ending, Moment, ReviewFact, SecretFact, SecretFinding, Status, TestFact, Verdict,
};

impl Run<'_> {
    /// Writes what is left to write, judges, and puts the report in place.
    pub(super) fn finish(mut self, interrupt: &mut Interrupt) -> Finished {
        self.timeline.end(None);
        self.ui.phase("evidence");
        self.leftover_artifacts();
        let attributes = vec![(
            "proctor.engine".to_owned(),
            evidence::trace::Attribute::from(self.plan.resolved.options.engine.as_str()),
        )];
        let calls = self.log.close();
        let usage = self.usage();
        let failed = self.blocked_but_for_unreached().then(|| "the run is no pass".to_owned());
        if let Ok(mut artifact) = self.evidence.create_artifact(TRACE) {
            if let Err(error) = self.timeline.write_trace(
                &mut artifact,
                &self.freshness.run_id,
                attributes,
                failed,
                &self.watched_parts(calls.as_ref(), &usage),
            ) {
                self.evidence.fail_write(TRACE, &error);
            }
            // Remembered by the directory where it fails.
            let _ = artifact.finish();
        }
        self.log.flush();
        // The report is searched as it stands now: what is added later is Proctor's own.
        self.facts.events = self.log.index();
        let draft = self.report(&self.judge(Moment::BeforeClose), usage.clone());
        self.search_for_secrets(&draft);
        for artifact in self.evidence.manifest() {
            self.log.emit(payload::artifact_written(&artifact));
        }
        // The last moment: what comes later comes after the verdict.
        self.interrupted(interrupt);
        self.facts.events = self.log.index();
        self.facts.artifacts = self.evidence.facts();
        let said = self.judge(Moment::BeforeClose);
        for blocker in &said.blockers {
            self.log.emit(payload::blocker_raised(blocker));
        }
        // Made once: what the last event says of the report is what the report says.
        let mut report = self.report(&said, usage);
        self.log.emit(payload::run_finished(&said, &report, self.log.defects().len()));
        let events = self.log.finish();
        self.evidence.sync();
        self.facts.artifacts = self.evidence.facts();
        // The report for people is an artifact itself: made from the report as it will stand, but for its own entry.
        self.facts.artifacts.insert(evidence::MARKDOWN.to_owned(), verdict::ArtifactFact::Written);
        let mut rendered = self.judge(Moment::Final);
        self.settle_report(&mut report, &rendered, events.as_ref());
        if self.plan.resolved.options.html {
            let page = report::html::render(&report, &self.evidence);
            // Remembered by the directory where it fails: what was asked for and is not there is a blocker.
            let _ = self.evidence.write_whole(evidence::HTML, page.as_bytes());
            self.evidence.sync();
            self.facts.artifacts = self.evidence.facts();
            self.facts.artifacts.insert(evidence::MARKDOWN.to_owned(), verdict::ArtifactFact::Written);
            rendered = self.judge(Moment::Final);
            self.settle_report(&mut report, &rendered, events.as_ref());
        }
        // Remembered by the directory where it fails.
        let _ = self.evidence.write_whole(evidence::MARKDOWN, report::markdown::render(&report).as_bytes());
        // The one that is new.
        self.evidence.sync();
        self.facts.artifacts = self.evidence.facts();
        let mut verdict = self.judge(Moment::Final);
        if verdict != rendered {
            self.withdraw_renderings("the verdict is no longer the one that it says");
            self.facts.artifacts = self.evidence.facts();
            verdict = self.judge(Moment::Final);
        }
        self.settle_report(&mut report, &verdict, events.as_ref());
        // What a run was to teach is still to be told: its exit code is not the verdict's.
        let settling = (!self.plan.learning).then(|| interrupt.settling());
        let published = report
            .to_json()
            .map_err(|e| e.to_string())
            .and_then(|bytes| self.publish(&report, &bytes).map_err(|e| e.to_string()))
            .map_err(|why| self.unreported(why));
        self.ui.done();
        let defects = self.log.defects();
        let mut exit = verdict.exit;
        if published.is_err() {
            self.withdraw_renderings("there is no report that it could go with");
            exit = exit.worst(ExitCode::Evidence);
        }
        if !defects.is_empty() {
            exit = exit.worst(ExitCode::Defect);
        }
        if let Some(settling) = settling {
            settling.at(exit);
        }
        let evidence = self.evidence.path().to_owned();
        let tree = self.plan.repo.root_path().to_owned();
        let backend = self.traced.iter().find(|(role, _)| *role == "backend");
        let learned = backend.map_or(Learned { unwatched: true, ..Learned::default() }, |(_, watched)| {
            tell::learned(self.plan.resolved.options.net, watched)
        });
        match published {
            Ok(published) => Finished {
                exit,
                report: Some((report, published)),
                evidence,
                report_error: None,
                defects,
                tree,
                learned,
            },
            Err(error) => {
                Finished { exit, report: None, evidence, report_error: Some(error), defects, tree, learned }
            }
        }
    }

    /// Puts the report in place, signed where that was asked for: what cannot be signed is not put in place either.
    fn publish(&self, report: &Report, bytes: &[u8]) -> Result<Published, ArtifactError> {
        let signer = self.plan.signer.as_ref();
        let lines = signer.map(|signer| signed_lines(report, &sha256_hex(bytes), signer)).transpose()?;
        self.evidence.publish_report(bytes, lines.as_deref())
    }

    /// Why there is no report, and what else could not be written: nothing else tells of it then.
    fn unreported(&self, mut why: String) -> String {
        for (name, fact) in self.evidence.facts() {
            if let verdict::ArtifactFact::Failed { why: also } = fact {
                why.push_str(&format!("; before that, artifact {name}: cannot {also}"));
            }
        }
        why
    }

    /// Takes away what people would read, where it would not be what the report says.
    fn withdraw_renderings(&self, why: &str) {
        self.evidence.withdraw(evidence::MARKDOWN, why);
        if self.plan.resolved.options.html {
            self.evidence.withdraw(evidence::HTML, why);
        }
    }

    fn watched_parts<'a>(
        &'a self,
        calls: Option<&'a Calls>,
        usage: &'a BTreeMap<String, UsageInfo>,
    ) -> Parts<'a> {
        let all: Vec<_> = self.observed.values().cloned().collect();
        let mut completeness = tell::completeness(&all);
        // The output of engine `command` means nothing: no call is looked for in it.
        if calls.is_some() && self.plan.resolved.options.engine != "command" {
            completeness.push(("tool_calls", Completeness::Advisory));
        }
        completeness.push(("usage", told::usage_completeness(usage)));
        Parts { completeness, traced: &self.traced, calls, usage }
    }

    /// What each sandbox used; asked once, so that trace and report say the same.
    fn usage(&self) -> BTreeMap<String, UsageInfo> {
        let mut usage = BTreeMap::new();
        if let Some(ran) = &self.backend {
            let output = ran.captured.iter().map(|(_, end)| end.size).sum();
            let finish = ran.finish.as_ref().ok();
            usage.insert("backend".to_owned(), settle::usage(&ran.started, finish, output));
        }
        for (name, check) in [("test", &self.test), ("review", &self.review)] {
            if let Some(CheckRun { started: Some(started), finish, output, .. }) = check {
                let used = settle::usage(started, finish.as_ref().ok(), *output);
                usage.insert(name.to_owned(), used);
            }
        }
        usage
    }

    fn judge(&self, moment: Moment) -> Verdict {
        let mut verdict = verdict::decide(&self.facts, moment);
        // A report of a run in which Proctor itself went wrong is never a pass.
        if !self.log.defects().is_empty() {
            verdict.status = Status::Fail;
            verdict.exit = verdict.exit.worst(ExitCode::Defect);
        }
        verdict
    }

    /// Every required artifact exists, if need be empty.
    fn leftover_artifacts(&self) {
        let begun = self.evidence.facts();
        let missing = |name: &str| !begun.contains_key(name);
        if missing(evidence::TEST_LOG) {
            let (command, note) = match &self.plan.resolved.options.test {
                TestChoice::Command(command) => (Some(command.as_str()), "not reached"),
                TestChoice::Off => (None, "--no-test: nothing was tested"),
                TestChoice::Missing => (None, "no test command was given"),
            };
            checks::test_log_without_run(&self.evidence, &self.freshness.run_id, command, note);
        }
        // Failures are remembered by the directory.
        if missing(PATCH) {
            let _ = self.evidence.write_whole(PATCH, &self.patch);
        }
        for name in [STDOUT, STDERR] {
            if missing(name) {
                let _ = self.evidence.write_whole(name, b"");
            }
        }
    }

    /// Searches for the values of every variable that was passed to a sandbox, and for the signing key.
    pub(super) fn secret_scanner(&self) -> std::io::Result<SecretScanner> {
        let options = &self.plan.resolved.options;
        let mut secrets = Vec::new();
        let sets = [
            (&options.env, &options.passed),
            (&options.test_sandbox.env, &options.test_sandbox.passed),
            (&options.review_sandbox.env, &options.review_sandbox.passed),
        ];
        for (env, passed) in sets {
            for name in passed {
                if let Some(value) = env.get(name) {
                    secrets.push(Secret { name: name.clone(), value: value.clone().into_bytes() });
                }
            }
        }
        secrets.extend(self.plan.signer.iter().flat_map(Signer::secrets));
        SecretScanner::new(&secrets)
    }

    /// In every artifact that is written, and in the report, which some names stand in alone. What is rendered from the
    /// report, or stated of it, says nothing besides.
    fn search_for_secrets(&mut self, draft: &Report) {
        let mut names: Vec<String> = self.evidence.manifest().into_iter().map(|a| a.name).collect();
        names.push(evidence::EVENTS.to_owned());
        let searched = self.secret_scanner().and_then(|scanner| {
            self.secrets_short = scanner.too_short().to_vec();
            let mut found = scanner.scan_artifacts(&self.evidence, names.iter().map(String::as_str))?;
            let draft = serde_json::to_value(draft)?;
            found.extend(
                scanner
                    .scan_json(&draft)
                    .into_iter()
                    .map(|secret| SecretFinding { artifact: evidence::REPORT.to_owned(), secret }),
            );
            Ok(found)
        });
        // What was found in the patch's content before it was written stays found.
        let earlier = match std::mem::replace(&mut self.facts.secrets, SecretFact::NotDone) {
            SecretFact::Found(found) => found,
            _ => Vec::new(),
        };
        self.facts.secrets = match searched {
            Ok(mut found) => {
                found.extend(earlier.into_iter().filter(|one| !found.contains(one)).collect::<Vec<_>>());
                if found.is_empty() { SecretFact::Clean } else { SecretFact::Found(found) }
            }
            Err(error) => SecretFact::Failed { why: error.to_string() },
        };
    }

    /// What changes in a report after the last event: verdict, event log, artifacts.
    fn settle_report(&self, report: &mut Report, verdict: &Verdict, events: Option<&EventLogEnd>) {
        report.status = verdict.status;
        report.exit_code = verdict.exit.code();
        report.blockers.clone_from(&verdict.blockers);
        report.events = EventsInfo {
            count: events.map_or(0, |e| e.count),
            last_hash: events.map(|e| e.last_hash.clone()).unwrap_or_default(),
            left_out: events.map_or(0, |e| e.dropped),
        };
        report.digest_manifest = self.evidence.manifest();
        report.artifact_paths =
            report.digest_manifest.iter().map(|a| (a.name.clone(), a.name.clone())).collect();
        for name in [evidence::REPORT, evidence::REPORT_DIGEST] {
            report.artifact_paths.insert(name.to_owned(), name.to_owned());
        }
        // A statement that is taken away later is missed.
        if self.plan.signer.is_some() {
            let name = evidence::STATEMENT;
            report.artifact_paths.insert(name.to_owned(), name.to_owned());
        }
    }

    fn report(&self, verdict: &Verdict, usage: BTreeMap<String, UsageInfo>) -> Report {
        let options = &self.plan.resolved.options;
        let repo = &self.plan.repo;
        let started = self.backend.as_ref().map(|b| &b.started);
        let ended = self.backend.as_ref().and_then(|b| b.finish.as_ref().ok()).map(|f| f.ended);
        // A tree that the patch does not carry is no result.
        let result_tree = match (&self.set, &self.patch_info) {
            (Some(set), Some(_)) => Some(set.result_tree.to_string()),
            _ => None,
        };
        let base_commit = repo.base_commit().to_string();
        let base_tree = repo.base_tree().to_string();
        let mut sandbox = settle::sandbox_info(started, options.net, self.level.why_not_full.as_deref());
        sandbox.observed.clone_from(&self.observed);
        sandbox.denials.clone_from(&self.denials);
        for name in &self.secrets_short {
            sandbox
                .missing
                .push(format!("search for the passed variable {name}: its value is too short to look for"));
        }
        let freshness =
            self.freshness.end(Some(base_commit.clone()), Some(base_tree.clone()), result_tree.clone());
        Report {
            schema_version: report::SCHEMA.into(),
            proctor_version: env!("CARGO_PKG_VERSION").into(),
            run_id: self.freshness.run_id.clone(),
            run_start: freshness.wall_start.clone(),
            run_end: freshness.wall_end.clone(),
            status: verdict.status,
            exit_code: verdict.exit.code(),
            blockers: verdict.blockers.clone(),
            engine: EngineInfo {
                name: options.engine.clone(),
                version: self.plan.start.version.clone(),
                source_id: None,
                argv: self.plan.start.argv.iter().map(|a| a.to_string_lossy().into_owned()).collect(),
            },
            stage: options.stage.clone(),
            mutation_mode: options.mutation.as_str().to_owned(),
            task_sha256: options.task.as_ref().map(|t| sha256_hex(t.as_bytes())),
            profile: ProfileInfo {
                name: options.profile.name.clone(),
                digest: options.profile.digest.clone(),
            },
            decision: DecisionInfo {
                kind: "ungoverned".into(),
                digest: self
                    .evidence
                    .manifest()
                    .into_iter()
                    .find(|a| a.name == evidence::DECISION)
                    .map(|a| a.digest.sha256),
            },
            base_commit: Some(base_commit),
            base_tree: Some(base_tree),
            result_tree,
            backend_exit_code: ended.and_then(|e| e.code),
            backend_signal: ended.and_then(|e| e.signal),
            changed_files: self.set.as_ref().map(settle::changed_files).unwrap_or_default(),
            ignored_changes: self
                .set
                .as_ref()
                .map(|s| s.ignored.iter().map(|i| settle::path_text(&i.path)).collect())
                .unwrap_or_default(),
            git_changes: self.git_changes.clone(),
            test_inputs_changed: self
                .set
                .as_ref()
                .map(|s| s.test_inputs.iter().map(|p| settle::path_text(p)).collect())
                .unwrap_or_default(),
            tests: self.test_info(),
            review: self.review_info(),
            approvals: settle::approvals(&self.settled),
            provider: ProviderInfo { witness: "none".into(), ..ProviderInfo::default() },
            sandbox,
            limits: settle::limits(
                &options.limits,
                &options.timeouts,
                started,
                started.map_or_else(
                    || sandbox::disk_bytes(&options.limits, self.host.memory),
                    |s| s.limits.disk,
                ),
            ),
            usage,
            timings: self.timeline.timings(),
            host: settle::host(self.host.memory),
            events: EventsInfo {
                count: 0,
                last_hash: String::new(),
                left_out: self.facts.events.as_ref().map_or(0, EventIndex::dropped),
            },
            freshness,
            quarantined: !matches!(self.facts.secrets, SecretFact::Clean | SecretFact::NotDone),
            artifact_paths: BTreeMap::new(),
            digest_manifest: Vec::new(),
        }
    }

    fn test_info(&self) -> TestInfo {
        let finish = self.test.as_ref().and_then(|t| t.finish.as_ref().ok());
        let timed_out = finish.is_some_and(|f| matches!(f.stop, Some(Stop::Wall | Stop::Idle)));
        let (status, command) = match &self.plan.resolved.options.test {
            TestChoice::Off => (TestStatus::Off, None),
            TestChoice::Missing => (TestStatus::Missing, None),
            TestChoice::Command(command) => {
                let status = match (finish, &self.facts.test) {
                    (None, _) => TestStatus::NotRun,
                    (Some(_), _) if timed_out => TestStatus::TimedOut,
                    (Some(_), TestFact::Command(Ending::Exited(0))) => TestStatus::Passed,
                    (Some(_), _) => TestStatus::Failed,
                };
                (status, Some(command.clone()))
            }
        };
        TestInfo {
            status,
            command,
            exit_code: finish.and_then(|f| f.ended.code),
            signal: finish.and_then(|f| f.ended.signal),
            duration_ms: finish.map(|f| f.took.as_millis() as u64),
        }
    }

    fn review_info(&self) -> ReviewInfo {
        let finish = self.review.as_ref().and_then(|t| t.finish.as_ref().ok());
        let timed_out = finish.is_some_and(|f| matches!(f.stop, Some(Stop::Wall | Stop::Idle)));
        let status = match &self.facts.review {
            ReviewFact::NotAsked => ReviewStatus::Off,
            ReviewFact::NotReached => ReviewStatus::NotRun,
            ReviewFact::Accepted => ReviewStatus::Accepted,
            ReviewFact::Stopped if timed_out => ReviewStatus::TimedOut,
            ReviewFact::Rejected { .. } | ReviewFact::Stopped => ReviewStatus::Rejected,
        };
        ReviewInfo {
            status,
            command: self.plan.resolved.options.review.as_ref().map(|r| r.command.clone()),
            exit_code: finish.and_then(|f| f.ended.code),
            duration_ms: finish.map(|f| f.took.as_millis() as u64),
            patch_sha256: self
                .review
                .as_ref()
                .and_then(|_| self.patch_info.as_ref().map(|i| i.sha256.clone())),
        }
    }
}
