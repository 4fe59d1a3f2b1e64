//! The order of a run's steps (SPEC, section 3). Each step adds to what is known; nothing is decided here but whether
//! the next step makes sense.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use proctor_sandbox::launch::Launcher;
use proctor_sandbox::running::Running;
use serde_json::{Value, json};

use super::approve::{Approver, Request};
use super::backend::{self, BackendError, BackendRun, Needs, Settled, answer_event};
use super::checks::{self, Check, CheckRun};
use super::hidden::masks;
use super::interrupt::Interrupt;
use super::log::RunLog;
use super::plan::{Plan, PlanError};
use super::progress::Ui;
use super::sandbox::{self, StartError};
use super::settle;
use super::supervise::{Finish, Stop};
use super::timeline::Timeline;
use crate::changes::classify::{Caps, ChangeSet, collect};
use crate::changes::gitview::touched;
use crate::changes::patch::write::{PatchError, PatchInfo, write_patch};
use crate::changes::repo::Repo;
use crate::changes::seeds::result_seed;
use crate::changes::survey::{Survey, survey};
use crate::event::{EventLimits, EventType, EventWriter, NewEvent, Source, format_micros, hex, now_micros};
use crate::evidence::{self, EvidenceDir, EvidenceDirError, FreshnessStart, Published, REQUIRED, payload};
use crate::exit::ExitCode;
use crate::profile::{self, HostEnv, HostFacts, MutationMode, Resolved, TestChoice};
use crate::report::{GitChanges, Report};
use crate::verdict::{
    self, ApprovalFact, Blocker, BlockerCode, ChangesFact, ContradictionFact, DisallowedChange, EndTree,
    Ending, Facts, LimitFact, Moment, Mutation, Phase, RequiredEvent, ReviewFact, SandboxFact, StartTree,
    TestFact, TimeoutFact, TreeEnd,
};

/// A run that came to a verdict.
#[derive(Debug)]
pub struct Finished {
    /// What to exit with.
    pub exit: ExitCode,
    /// The report; `None` where it could not be put in place.
    pub report: Option<(Report, Published)>,
    /// Where the evidence is.
    pub evidence: PathBuf,
    /// Why the report could not be written.
    pub report_error: Option<String>,
    /// Defects of Proctor that were met on the way.
    pub defects: Vec<String>,
}

/// A run that did not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something that the caller must change.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The evidence directory.
    #[error(transparent)]
    Evidence(#[from] EvidenceDirError),
    /// Proctor or its machine cannot do what it always must.
    #[error("{0}")]
    Defect(String),
}

/// Runs. Blocks until the report stands or cannot stand.
///
/// # Errors
/// Nothing has run.
pub fn run(
    resolved: Resolved,
    env: &HostEnv,
    host: &HostFacts,
    launcher: &Launcher,
    ui: Arc<dyn Ui>,
) -> Result<Finished, RunError> {
    let defect = |what: &str, e: &dyn std::fmt::Display| RunError::Defect(format!("{what}: {e}"));
    let freshness =
        FreshnessStart::now(resolved.options.nonce.as_deref()).map_err(|e| defect("randomness", &e))?;
    let timeline = Timeline::new();
    let plan = Plan::new(resolved, env, &freshness.run_id)?;
    let approver = Approver::new(
        &plan.resolved.options.approvals,
        plan.repo.root_path(),
        &freshness.run_id,
        plan.resolved.options.timeouts.approval,
        Arc::clone(&ui),
    )
    .map_err(|e| PlanError(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| defect("the runtime", &e))?;
    let evidence = EvidenceDir::create(&plan.evidence)?;
    let writer = evidence
        .create_artifact(evidence::EVENTS)
        .ok()
        .map(|artifact| EventWriter::new(artifact, &freshness.run_id, EventLimits::default()));
    let log = Arc::new(RunLog::new(writer, Arc::clone(&ui)));
    let facts = facts(&plan);
    let mut run = Run {
        plan,
        host: *host,
        launcher,
        evidence,
        log,
        ui,
        approver,
        freshness,
        timeline,
        facts,
        backend: None,
        set: None,
        patch: Vec::new(),
        patch_info: None,
        settled: Vec::new(),
        test: None,
        review: None,
        secrets_short: Vec::new(),
        git_changes: GitChanges::default(),
    };
    runtime.block_on(run.steps())?;
    Ok(run.finish())
}

fn facts(plan: &Plan) -> Facts {
    let options = &plan.resolved.options;
    let mutation = match options.mutation {
        MutationMode::None => Mutation::None,
        MutationMode::Discard => Mutation::Discard,
        MutationMode::Patch => Mutation::Patch,
    };
    let test = match &options.test {
        TestChoice::Command(_) => TestFact::Command(Ending::NotStarted),
        TestChoice::Off => TestFact::Off,
        TestChoice::Missing => TestFact::Missing,
    };
    let review = if options.review.is_some() { ReviewFact::NotReached } else { ReviewFact::NotAsked };
    let mut facts = Facts::new(mutation, test, review);
    if !plan.resolved.engine_enabled {
        let name = &plan.resolved.options.engine;
        facts.raised.push(Blocker::new(
            BlockerCode::EngineNotEnabled,
            format!("The engine {name} is gated and was not enabled."),
            json!({ "engine": name }),
        ));
    }
    facts.required_artifacts = REQUIRED.iter().map(|name| (*name).to_owned()).collect();
    facts.required_events = plan.resolved.engine.required_events.iter().filter_map(required).collect();
    facts
}

fn required(event: &profile::RequiredEvent) -> Option<RequiredEvent> {
    Some(RequiredEvent {
        event_type: EventType::from_name(&event.kind)?,
        source: match event.source {
            profile::EventSource::Supervisor => Source::Supervisor,
            profile::EventSource::Backend => Source::Backend,
            profile::EventSource::Test => Source::Test,
            profile::EventSource::Reviewer => Source::Reviewer,
            profile::EventSource::Operator => Source::Operator,
        },
        phase: match event.phase {
            // An engine's own events are due where it ended well by its own account.
            profile::Phase::Backend if event.source == profile::EventSource::Backend => Phase::BackendEnd,
            profile::Phase::Backend => Phase::Backend,
            profile::Phase::Test => Phase::Test,
            profile::Phase::Review => Phase::Review,
        },
    })
}

/// A run under way.
pub(super) struct Run<'a> {
    pub(super) plan: Plan,
    pub(super) host: HostFacts,
    pub(super) launcher: &'a Launcher,
    pub(super) evidence: EvidenceDir,
    pub(super) log: Arc<RunLog>,
    pub(super) ui: Arc<dyn Ui>,
    pub(super) approver: Approver,
    pub(super) freshness: FreshnessStart,
    pub(super) timeline: Timeline,
    pub(super) facts: Facts,
    pub(super) backend: Option<BackendRun>,
    pub(super) set: Option<ChangeSet>,
    pub(super) patch: Vec<u8>,
    pub(super) patch_info: Option<PatchInfo>,
    pub(super) settled: Vec<(Settled, String)>,
    pub(super) test: Option<CheckRun>,
    pub(super) review: Option<CheckRun>,
    pub(super) secrets_short: Vec<String>,
    pub(super) git_changes: GitChanges,
}

fn supervisor(event_type: EventType) -> NewEvent {
    NewEvent::new(event_type, Source::Supervisor)
}

impl Run<'_> {
    fn phase(&mut self, name: &'static str) {
        self.timeline.begin(name);
        self.ui.phase(name);
    }

    /// The steps up to the verdict.
    async fn steps(&mut self) -> Result<(), RunError> {
        let mut interrupt =
            Interrupt::new().map_err(|e| RunError::Defect(format!("signal handlers: {e}")))?;
        self.start_events();
        if self.facts.test == TestFact::Missing || !self.facts.raised.is_empty() {
            return Ok(());
        }
        self.phase("survey");
        let Some(before) = self.survey_start() else {
            return Ok(());
        };
        if self.interrupted(&mut interrupt).await {
            return Ok(());
        }
        let hidden = match masks(&self.plan.repo, &before) {
            Ok(hidden) => hidden,
            Err(why) => {
                self.facts.sandbox = SandboxFact::Unavailable { why, missing: Vec::new() };
                return Ok(());
            }
        };
        self.phase("backend");
        self.run_backend(hidden.clone(), &mut interrupt).await;
        if self.backend.is_some() {
            self.phase("changes");
            self.read_changes();
        }
        let sound = self.facts.backend == Ending::Exited(0) && !self.interrupted(&mut interrupt).await;
        if sound && !self.blocked_but_for_unreached() {
            self.check_result(hidden, &mut interrupt).await;
        }
        self.phase("end");
        self.survey_end(&before);
        self.interrupted(&mut interrupt).await;
        Ok(())
    }

    async fn interrupted(&mut self, interrupt: &mut Interrupt) -> bool {
        self.facts.interrupted = interrupt.check().await;
        self.facts.interrupted.is_some()
    }

    /// True where something is wrong already; that later steps have not been reached is not.
    pub(super) fn blocked_but_for_unreached(&self) -> bool {
        let mut facts = self.facts.clone();
        if matches!(facts.test, TestFact::Command(Ending::NotStarted)) {
            facts.test = TestFact::Off;
        }
        if facts.review == ReviewFact::NotReached {
            facts.review = ReviewFact::NotAsked;
        }
        facts.end_tree = EndTree::AsExpected;
        facts.events = self.log.index();
        if let ChangesFact::Read { needs_approval, .. } = &mut facts.changes {
            *needs_approval = false;
        }
        !verdict::decide(&facts, Moment::BeforeClose).blockers.is_empty()
    }

    fn start_events(&self) {
        let options = &self.plan.resolved.options;
        let mode = mutation_word(options.mutation);
        let mut event =
            payload::run_started(&self.freshness.nonce, &options.engine, options.stage.as_deref(), mode)
                .with("base_commit", self.plan.repo.base_commit().to_string())
                .with("base_tree", self.plan.repo.base_tree().to_string())
                .with("profile", json!({ "name": options.profile.name, "digest": options.profile.digest }))
                .with("nonce", self.freshness.nonce.clone());
        if let Some(task) = &options.task {
            event = event.with("task_sha256", sha256_hex(task.as_bytes()));
        }
        self.log.emit(event);
        let decision = json!({
            "schema_version": "decision/v1",
            "run_id": self.freshness.run_id,
            "kind": "ungoverned",
            "engine": options.engine,
            "stage": Value::Null,
            "mutation_mode": mutation_word(options.mutation),
            "reasons": ["no stage was named: this run is never evidence for a gate"],
        });
        let mut bytes = serde_json::to_vec_pretty(&decision).unwrap_or_default();
        bytes.push(b'\n');
        // A failure is remembered by the directory.
        let _ = self.evidence.write_whole(evidence::DECISION, &bytes);
        self.log.emit(supervisor(EventType::DecisionRecorded).with("kind", "ungoverned"));
    }

    fn survey_start(&mut self) -> Option<Survey> {
        match survey(&self.plan.repo, &self.plan.hide) {
            Ok(found) if found.is_clean() => {
                self.facts.start_tree = StartTree::Clean;
                Some(found)
            }
            Ok(found) => {
                let mut paths: Vec<String> = found
                    .dirty
                    .iter()
                    .map(|d| format!("{}: {}", String::from_utf8_lossy(&d.path), d.reason.as_str()))
                    .collect();
                let more = found.dirty_count.saturating_sub(found.dirty.len() as u64);
                if more > 0 {
                    paths.push(format!("and {more} more"));
                }
                self.facts.start_tree = StartTree::Dirty { paths };
                None
            }
            Err(error) => {
                self.facts.start_tree = StartTree::Unknown { why: error.to_string() };
                None
            }
        }
    }

    async fn run_backend(&mut self, hidden: Vec<PathBuf>, interrupt: &mut Interrupt) {
        let needs = Needs {
            launcher: self.launcher,
            plan: &self.plan,
            run_id: &self.freshness.run_id,
            memory: self.host.memory,
            hidden,
            evidence: &self.evidence,
            log: &self.log,
            approver: &self.approver,
            ui: &self.ui,
        };
        let ran = match backend::run(needs, interrupt).await {
            Ok(ran) => ran,
            Err(BackendError::Start(StartError::Program(error))) => {
                self.facts.sandbox = SandboxFact::Ready;
                self.facts.backend = Ending::StartFailed { why: error.to_string() };
                self.facts.backend_tree = TreeEnd::Dead;
                self.log.emit(
                    supervisor(EventType::SandboxReady).with("level", "full").with("program", "not executed"),
                );
                return;
            }
            Err(error) => {
                self.facts.sandbox = SandboxFact::Unavailable { why: error.to_string(), missing: Vec::new() };
                return;
            }
        };
        self.facts.sandbox = SandboxFact::Ready;
        match &ran.finish {
            Ok(finish) => {
                self.facts.backend = self.ending(finish, Phase::Backend);
                self.facts.backend_tree = TreeEnd::Dead;
            }
            Err(why) => {
                self.facts.backend = Ending::Signalled(9);
                self.facts.backend_tree = TreeEnd::NotProved { why: why.clone() };
            }
        }
        self.resource_limits(&ran.started.running);
        let ended = ran.finish.as_ref().ok().map(|f| f.ended);
        self.log.emit(
            payload::backend_exited(ended.and_then(|e| e.code), ended.and_then(|e| e.signal))
                .with("duration_ms", ran.finish.as_ref().map_or(0, |f| f.took.as_millis() as u64)),
        );
        for (name, end) in &ran.captured {
            if end.beyond_cap > 0 {
                self.output_limit(
                    name,
                    "--max-log",
                    self.plan.resolved.options.limits.max_log,
                    end.size + end.beyond_cap,
                );
            }
        }
        self.facts.provider = ran.heard.provider.clone();
        self.facts.engine_end = ran.heard.end.clone();
        if let (Some(end), Ending::Exited(code)) = (&ran.heard.end, &self.facts.backend)
            && end.ok
            && *code != 0
        {
            self.facts.contradictions.push(ContradictionFact {
                claim: "the engine's last event says that it succeeded".into(),
                observed: format!("its process exited with code {code}"),
            });
        }
        let at = format_micros(now_micros());
        self.settled.extend(ran.settled.iter().map(|s| (s.clone(), at.clone())));
        self.facts.approvals.extend(ran.settled.iter().map(|s| approval_fact(s, false)));
        self.approval_timeouts();
        self.backend = Some(ran);
    }

    /// What a finish means, and the events and facts that come with a stop.
    fn ending(&mut self, finish: &Finish, phase: Phase) -> Ending {
        let timeouts = self.plan.resolved.options.timeouts;
        let (wall, idle) = match phase {
            Phase::Test => (timeouts.test, timeouts.idle),
            Phase::Review => (timeouts.review, timeouts.idle),
            _ => (timeouts.wall, timeouts.idle),
        };
        match &finish.stop {
            None => match (finish.ended.code, finish.ended.signal) {
                (Some(code), _) => Ending::Exited(code),
                (None, Some(signal)) => Ending::Signalled(signal),
                (None, None) => Ending::Signalled(9),
            },
            Some(stop) => {
                match stop {
                    Stop::Wall | Stop::Idle => {
                        let is_idle = *stop == Stop::Idle;
                        let limit_ms = if is_idle { idle } else { wall }.as_millis() as u64;
                        self.facts.timeouts.push(TimeoutFact { phase, idle: is_idle, limit_ms });
                        self.log.emit(
                            supervisor(EventType::TimeoutExpired)
                                .with("phase", phase.as_str())
                                .with("kind", if is_idle { "idle" } else { "wall" })
                                .with("limit_ms", limit_ms),
                        );
                    }
                    Stop::Memory(limit) => self.resource_limit("memory", "--memory", *limit, "watched"),
                    Stop::Interrupted(signal) => self.facts.interrupted = Some(*signal),
                    // Counted by the capture, which knows how much there was.
                    Stop::OverCap(_) => {}
                }
                Ending::Stopped
            }
        }
    }

    fn output_limit(&mut self, what: &str, option: &str, limit: u64, seen: u64) {
        self.facts.output_limits.push(LimitFact {
            what: what.to_owned(),
            option: Some(option.to_owned()),
            limit,
            seen: Some(seen),
        });
        self.log.emit(
            supervisor(EventType::LimitExceeded).with("what", what).with("limit", limit).with("seen", seen),
        );
    }

    fn resource_limit(&mut self, what: &str, option: &str, limit: u64, mechanism: &str) {
        self.facts.resource_limits.push(LimitFact {
            what: what.to_owned(),
            option: Some(option.to_owned()),
            limit,
            seen: None,
        });
        self.log.emit(
            supervisor(EventType::LimitExceeded)
                .with("what", what)
                .with("limit", limit)
                .with("mechanism", mechanism),
        );
    }

    /// What the kernel counted as hit.
    fn resource_limits(&mut self, running: &Running) {
        let limits = self.plan.resolved.options.limits.clone();
        if let Some(usage) = running.cgroup_usage() {
            let version = running.cgroup_version().unwrap_or("cgroup");
            if usage.oom_kills > 0 {
                self.resource_limit("memory", "--memory", limits.memory.value, version);
            }
            if usage.task_refusals > 0 {
                self.resource_limit("pids", "--pids-limit", limits.pids.value, version);
            }
        }
        match running.disk_usage() {
            // Full to the last pages: a write was refused, or the next one would have been.
            Ok(usage) if usage.free < 16 << 10 || usage.free_inodes == 0 => {
                let disk = sandbox::disk_bytes(&limits, self.host.memory);
                self.resource_limit("disk", "--disk", disk, "tmpfs");
            }
            Ok(_) => {}
            Err(error) => self.log.defect(error.to_string()),
        }
    }

    fn approval_timeouts(&mut self) {
        let limit_ms = self.plan.resolved.options.timeouts.approval.as_millis() as u64;
        let expired =
            self.facts.approvals.iter().filter(|a| a.outcome == verdict::ApprovalOutcome::Expired).count();
        let known = self.facts.timeouts.iter().filter(|t| t.phase == Phase::Approval).count();
        for _ in known..expired {
            self.facts.timeouts.push(TimeoutFact { phase: Phase::Approval, idle: false, limit_ms });
            self.log.emit(
                supervisor(EventType::TimeoutExpired)
                    .with("phase", "approval")
                    .with("kind", "wall")
                    .with("limit_ms", limit_ms),
            );
        }
    }

    fn read_changes(&mut self) {
        let Some(ran) = &self.backend else { return };
        let limits = &self.plan.resolved.options.limits;
        let (max_files, max_patch) = (limits.max_files, limits.max_patch);
        let layer = match ran.started.running.upper_layer() {
            Ok(layer) => layer,
            Err(error) => {
                self.facts.changes = ChangesFact::Failed { why: error.to_string() };
                return;
            }
        };
        match touched(&self.plan.git, layer.as_fd()) {
            Ok(found) => {
                self.git_changes = GitChanges {
                    count: found.count,
                    paths: found.paths.iter().map(|p| settle::path_text(p)).collect(),
                };
            }
            Err(error) => {
                self.facts.changes = ChangesFact::Failed { why: error.to_string() };
                return;
            }
        }
        let caps = Caps::new(max_files, max_patch);
        let set = match collect(&self.plan.repo, layer.as_fd(), &self.plan.rules, &caps) {
            Ok(set) => set,
            Err(error) => {
                if error.is_limit() {
                    self.output_limit("files", "--max-files", max_files, max_files);
                }
                self.facts.changes = ChangesFact::Failed { why: error.to_string() };
                return;
            }
        };
        let mut patch = Vec::new();
        match write_patch(&self.plan.repo, &set, max_patch, &mut patch) {
            Ok(info) => {
                self.patch = patch;
                self.patch_info = Some(info);
            }
            Err(error) => {
                if matches!(error, PatchError::TooLarge { .. }) {
                    self.output_limit("patch", "--max-patch", max_patch, max_patch + 1);
                }
                self.facts.changes = ChangesFact::Failed { why: error.to_string() };
                self.set = Some(set);
                return;
            }
        }
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
    async fn check_result(&mut self, hidden: Vec<PathBuf>, interrupt: &mut Interrupt) {
        let options = self.plan.resolved.options.clone();
        if let TestChoice::Command(command) = &options.test {
            self.phase("test");
            self.log
                .emit(NewEvent::new(EventType::TestStarted, Source::Test).with("command", command.clone()));
            let run = self.check("test", command, hidden.clone(), interrupt).await;
            let ending = self.check_ending(&run, Phase::Test);
            let (code, signal) = run.ended();
            self.log.emit(payload::test_completed(code, signal).with("duration_ms", run.duration_ms()));
            if run.over_cap {
                self.output_limit(
                    "test.log",
                    "--max-log",
                    options.limits.max_log,
                    options.limits.max_log + 1,
                );
            }
            self.facts.test = TestFact::Command(ending);
            self.test = Some(run);
        }
        if self.interrupted(interrupt).await || self.blocked_but_for_unreached() {
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
            let run = self.check("review", &review.command, hidden, interrupt).await;
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
                self.output_limit(
                    checks::REVIEW_LOG,
                    "--max-log",
                    options.limits.max_log,
                    options.limits.max_log + 1,
                );
            }
            self.review = Some(run);
        }
        if self.interrupted(interrupt).await || self.blocked_but_for_unreached() {
            return;
        }
        self.approve_changes(interrupt).await;
    }

    async fn check(
        &mut self,
        role: &'static str,
        command: &str,
        hidden: Vec<PathBuf>,
        interrupt: &mut Interrupt,
    ) -> CheckRun {
        let failed = |why: String| CheckRun {
            started: None,
            finish: Err(why),
            over_cap: false,
            output: 0,
            word: Vec::new(),
        };
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
        let digest = self.patch_info.as_ref().map(|i| i.sha256.clone()).unwrap_or_default();
        let check = Check {
            role,
            command,
            own,
            mounts,
            seed,
            patch: (!is_test).then_some((self.patch.as_slice(), digest.as_str())),
            timeout,
        };
        let needs = Needs {
            launcher: self.launcher,
            plan: &self.plan,
            run_id: &self.freshness.run_id,
            memory: self.host.memory,
            hidden,
            evidence: &self.evidence,
            log: &self.log,
            approver: &self.approver,
            ui: &self.ui,
        };
        checks::run(&needs, check, interrupt).await
    }

    fn check_ending(&mut self, run: &CheckRun, phase: Phase) -> Ending {
        if let Some(started) = &run.started {
            self.resource_limits(&Arc::clone(&started.running));
        }
        match &run.finish {
            Ok(finish) => self.ending(finish, phase),
            Err(why) => Ending::StartFailed { why: why.clone() },
        }
    }

    /// Step 8: what matches `--ask-change` needs an answer, bound to the patch's digest.
    async fn approve_changes(&mut self, interrupt: &mut Interrupt) {
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

    /// Step 11: the real tree is as it was.
    fn survey_end(&mut self, before: &Survey) {
        // Opened anew, by the same path: a HEAD or a directory that was swapped must be seen.
        let after = Repo::open(self.plan.repo.root_path()).map_err(|e| e.to_string()).and_then(|repo| {
            if repo.dev_ino() != self.plan.repo.dev_ino() {
                return Err("another directory stands at the work tree's path".to_owned());
            }
            survey(&repo, &self.plan.hide).map_err(|e| e.to_string())
        });
        self.facts.end_tree = match after {
            Ok(after) if after.same_as(before) => EndTree::AsExpected,
            Ok(after) => EndTree::Dirty { what: after.differences(before) },
            Err(why) => EndTree::Unknown { why },
        };
    }
}

fn approval_fact(settled: &Settled, of_changes: bool) -> ApprovalFact {
    ApprovalFact {
        id: settled.request.id.clone(),
        subject: settled.request.subject.clone(),
        of_changes,
        outcome: settled.answer.outcome.clone(),
    }
}

/// The mode's name in reports.
pub(super) fn mutation_word(mode: MutationMode) -> &'static str {
    match mode {
        MutationMode::None => "none",
        MutationMode::Discard => "discard",
        MutationMode::Patch => "patch",
    }
}

/// SHA-256, hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(&sha2::Sha256::digest(bytes))
}
