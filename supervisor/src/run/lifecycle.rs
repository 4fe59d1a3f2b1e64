//! The order of a run's steps (docs/contracts.md). Each step adds to what is known; nothing is decided here but whether
//! the next step makes sense.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use proctor_sandbox::launch::Launcher;
use proctor_sandbox::spec::Level;
use serde_json::json;

use super::approve::Approver;
use super::backend::{BackendRun, Needs, Settled};
use super::checks::CheckRun;
use super::hidden::masks;
use super::interrupt::Interrupt;
use super::level::{self, Chosen, Unreached};
use super::log::RunLog;
use super::plan::{Plan, PlanError};
use super::progress::Ui;
use super::timeline::Timeline;
use super::watch::Watched;
use super::watch::tell::Learned;
use crate::changes::classify::ChangeSet;
use crate::changes::patch::write::PatchInfo;
use crate::changes::repo::Repo;
use crate::changes::survey::{Survey, survey};
use crate::event::{EventLimits, EventType, EventWriter, NewEvent, Source, hex};
use crate::evidence::{self, EvidenceDir, EvidenceDirError, FreshnessStart, Published, REQUIRED, payload};
use crate::exit::ExitCode;
use crate::governance::{Decision, Record as _};
use crate::profile::{self, HostEnv, HostFacts, Resolved, TestChoice};
use crate::report::{DenialInfo, GitChanges, Observed, Report};
use crate::verdict::{
    self, ApprovalFact, Blocker, BlockerCode, ChangesFact, EndTree, Ending, Facts, Moment, Phase,
    RequiredEvent, ReviewFact, SandboxFact, StartTree, TestFact,
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
    /// The work tree.
    pub tree: PathBuf,
    /// What the backend was found to lack.
    pub learned: Learned,
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

/// Runs. Blocks until the report stands or cannot stand. A run that is `learning` also tells which paths its backend looks
/// for in vain.
///
/// # Errors
/// Nothing has run.
pub fn run(
    resolved: Resolved,
    env: &HostEnv,
    host: &HostFacts,
    launcher: &Launcher,
    ui: Arc<dyn Ui>,
    learning: bool,
) -> Result<Finished, RunError> {
    let defect = |what: &str, e: &dyn std::fmt::Display| RunError::Defect(format!("{what}: {e}"));
    let freshness =
        FreshnessStart::now(resolved.options.nonce.as_deref()).map_err(|e| defect("randomness", &e))?;
    let timeline = Timeline::new();
    let mut plan = Plan::new(resolved, env, &freshness.run_id)?;
    plan.learning = learning;
    let approver = Approver::new(
        &plan.resolved.options.approvals,
        plan.repo.root_path(),
        &plan.writable(),
        &freshness.run_id,
        plan.resolved.options.timeouts.approval,
        Arc::clone(&ui),
    )
    .map_err(|e| PlanError(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| defect("the runtime", &e))?;
    // Until here a signal ends Proctor as it ends any program: nothing has run and nothing is written.
    let mut interrupt = Interrupt::new(Box::new(|| ())).map_err(|e| defect("signal handlers", &e))?;
    let evidence = EvidenceDir::create(&plan.evidence)?;
    let writer = evidence
        .create_artifact(evidence::EVENTS)
        .ok()
        .map(|artifact| EventWriter::new(artifact, &freshness.run_id, EventLimits::default()));
    let log = Arc::new(RunLog::new(writer, Arc::clone(&ui)));
    let facts = facts(&plan);
    let mut run = Run {
        plan: Arc::new(plan),
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
        level: Chosen { level: Level::Full, why_not_full: None },
        observed: BTreeMap::new(),
        denials: Vec::new(),
        traced: Vec::new(),
    };
    runtime.block_on(run.steps(&mut interrupt));
    // A reading that was given up on is not waited for.
    runtime.shutdown_background();
    Ok(run.finish(&mut interrupt))
}

fn facts(plan: &Plan) -> Facts {
    let options = &plan.resolved.options;
    let test = match &options.test {
        TestChoice::Command(_) => TestFact::Command(Ending::NotStarted),
        TestChoice::Off => TestFact::Off,
        TestChoice::Missing => TestFact::Missing,
    };
    let review = if options.review.is_some() { ReviewFact::NotReached } else { ReviewFact::NotAsked };
    let mut facts = Facts::new(options.mutation, test, review);
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
        source: event.source.into(),
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
    pub(super) plan: Arc<Plan>,
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
    pub(super) level: Chosen,
    /// What is known of each sandbox that was started, by kind.
    pub(super) observed: BTreeMap<String, BTreeMap<String, Observed>>,
    /// What was refused in them.
    pub(super) denials: Vec<DenialInfo>,
    /// What was seen in those that were watched.
    pub(super) traced: Vec<(&'static str, Watched)>,
}

/// An event of the supervisor.
pub(super) fn supervisor(event_type: EventType) -> NewEvent {
    NewEvent::new(event_type, Source::Supervisor)
}

impl Run<'_> {
    pub(super) fn phase(&mut self, name: &'static str) {
        self.timeline.begin(name);
        self.ui.phase(name);
    }

    /// The steps up to the verdict.
    async fn steps(&mut self, interrupt: &mut Interrupt) {
        self.start_events();
        if self.facts.test == TestFact::Missing || !self.facts.raised.is_empty() {
            return;
        }
        self.phase("survey");
        let Some(before) = self.survey_start() else {
            return;
        };
        if self.interrupted(interrupt) {
            return;
        }
        let hidden = match masks(&self.plan.repo, &before) {
            Ok(hidden) => hidden,
            Err(why) => {
                self.facts.sandbox = SandboxFact::Unavailable { why, missing: Vec::new(), mend: None };
                return;
            }
        };
        let options = &self.plan.resolved.options;
        let (lowest, place) = (options.min_level, options.layer);
        let tree = self.plan.repo.root_path();
        self.level = match level::choose(
            self.launcher,
            &self.plan.dirs,
            tree,
            lowest,
            place,
            &self.freshness.run_id,
        ) {
            Ok(chosen) => chosen,
            Err(Unreached { why, mend }) => {
                self.facts.sandbox = SandboxFact::Unavailable { why, missing: Vec::new(), mend };
                return;
            }
        };
        if self.interrupted(interrupt) {
            return;
        }
        self.phase("backend");
        self.run_backend(hidden.clone(), interrupt).await;
        if self.backend.is_some() {
            self.phase("changes");
            self.read_changes(interrupt).await;
        }
        let sound = self.facts.backend == Ending::Exited(0) && !self.interrupted(interrupt);
        if sound && !self.blocked_but_for_unreached() {
            self.check_result(hidden, interrupt).await;
        }
        self.phase("end");
        self.survey_end(&before);
    }

    /// What the sandboxes of this run are started with.
    pub(super) fn needs(&self, hidden: Vec<PathBuf>) -> Needs<'_> {
        Needs {
            launcher: self.launcher,
            plan: &self.plan,
            run_id: &self.freshness.run_id,
            memory: self.host.memory,
            level: &self.level,
            hidden,
            evidence: &self.evidence,
            log: &self.log,
            approver: &self.approver,
            ui: &self.ui,
        }
    }

    pub(super) fn interrupted(&mut self, interrupt: &mut Interrupt) -> bool {
        self.facts.interrupted = interrupt.check();
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
        let mode = options.mutation.as_str();
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
        let bytes = Decision::ungoverned(
            &self.freshness.run_id,
            &self.freshness.wall_start,
            &options.engine,
            options.mutation,
        )
        .and_then(|decision| decision.to_bytes().map_err(|error| error.to_string()))
        .unwrap_or_else(|error| {
            self.log.defect(format!("the decision: {error}"));
            Vec::new()
        });
        // A failure is remembered by the directory.
        let _ = self.evidence.write_whole(evidence::DECISION, &bytes);
        let _ = self.evidence.write_whole(evidence::PROFILE, self.plan.resolved.policy_text.as_bytes());
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

/// A settled request as a fact.
pub(super) fn approval_fact(settled: &Settled, of_changes: bool) -> ApprovalFact {
    ApprovalFact {
        id: settled.request.id.clone(),
        subject: settled.request.subject.clone(),
        of_changes,
        outcome: settled.answer.outcome.clone(),
    }
}

/// SHA-256, hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(&sha2::Sha256::digest(bytes))
}
