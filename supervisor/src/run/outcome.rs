//! The backend's run as facts: how it ended, why it was stopped, which limits it hit, what was asked.

use std::path::PathBuf;

use proctor_sandbox::host::Facts as HostFacts;
use proctor_sandbox::spec::Level;

use super::backend::{self, BackendError};
use super::interrupt::Interrupt;
use super::lifecycle::{Run, approval_fact, supervisor};
use super::limits::{Hit, hits, mechanism};
use super::looks::{Peaks, private};
use super::sandbox::{StartError, Started};
use super::supervise::{Finish, MAX_REQUESTS, Stop};
use super::watch::{Watched, tell};
use super::{propose, settle};
use crate::event::{EventType, NewEvent, format_micros, now_micros};
use crate::evidence::payload;
use crate::verdict::{self, ContradictionFact, Ending, LimitFact, Phase, SandboxFact, TimeoutFact, TreeEnd};

impl Run<'_> {
    pub(super) async fn run_backend(&mut self, hidden: Vec<PathBuf>, interrupt: &mut Interrupt) {
        let needs = self.needs(hidden);
        let mut ran = match backend::run(needs, interrupt).await {
            Ok(ran) => ran,
            Err(BackendError::Start(StartError::Program(error))) => {
                self.facts.sandbox = SandboxFact::Ready;
                self.facts.backend = Ending::StartFailed { why: error.to_string() };
                self.facts.backend_tree = TreeEnd::Dead;
                self.log.emit(
                    supervisor(EventType::SandboxReady)
                        .with("level", settle::level_word(self.level.level))
                        .with("program", "not executed"),
                );
                return;
            }
            // That is what the directory says, and nothing was tried of the sandbox.
            Err(BackendError::Artifact(_)) => return,
            Err(BackendError::Start(StartError::Interrupted)) => {
                self.facts.interrupted = interrupt.check();
                return;
            }
            Err(error) => {
                let mend = match &error {
                    BackendError::Start(error) => error.mend(&self.plan.dirs.state, &HostFacts::read()),
                    _ => None,
                };
                let why = error.to_string();
                self.facts.sandbox = SandboxFact::Unavailable { why, missing: Vec::new(), mend };
                return;
            }
        };
        self.facts.sandbox = SandboxFact::Ready;
        match &ran.finish {
            Ok(finish) => {
                let ending = self.ending(finish, &ran.started, Phase::Backend);
                // Cut, whether it was still running when that was seen or had just ended.
                let cut = ran.captured.iter().any(|(_, end)| end.beyond_cap > 0);
                self.facts.backend = if cut { Ending::Stopped } else { ending };
                self.facts.backend_tree = if finish.ended.emptied {
                    TreeEnd::Dead
                } else {
                    TreeEnd::NotProved {
                        why: "its init was killed before it had seen that no process is left".to_owned(),
                    }
                };
            }
            Err(why) => {
                self.facts.backend = Ending::Signalled(9);
                self.facts.backend_tree = TreeEnd::NotProved { why: why.clone() };
            }
        }
        self.watched("backend", ran.watched.take());
        let peaks = ran.finish.as_ref().map(|f| f.peaks).unwrap_or_default();
        self.resource_limits(&ran.started, peaks, Phase::Backend);
        let ended = ran.finish.as_ref().ok().map(|f| f.ended);
        self.log.emit(
            payload::backend_exited(ended.and_then(|e| e.code), ended.and_then(|e| e.signal))
                .with("duration_ms", ran.finish.as_ref().map_or(0, |f| f.took.as_millis() as u64)),
        );
        for (name, end) in &ran.captured {
            if end.beyond_cap > 0 {
                let limit = self.plan.resolved.options.limits.max_log;
                self.log_cap(name, limit, Some(end.size + end.beyond_cap), Phase::Backend);
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

    /// What was seen of a sandbox from below becomes events, facts and, later, spans.
    pub(super) fn watched(&mut self, role: &'static str, watched: Option<Result<Watched, String>>) {
        let options = &self.plan.resolved.options;
        let (phase, net) = match role {
            "test" => (Phase::Test, options.test_sandbox.net),
            "review" => (Phase::Review, options.review_sandbox.net),
            _ => (Phase::Backend, options.net),
        };
        let watched = match watched {
            Some(Ok(watched)) => Some(watched),
            Some(Err(why)) => {
                self.log.defect(format!("{role}: {why}"));
                None
            }
            None => None,
        };
        self.observed.insert(role.to_owned(), tell::observed(watched.as_ref()));
        let Some(watched) = watched else { return };
        for denial in tell::denials(role, net, &watched) {
            self.log.emit(payload::policy_denied(&denial));
            self.denials.push(denial);
        }
        let plan = &*self.plan;
        let wants = tell::wants(role, net, &watched, |path| propose::may_be_shown(plan, path));
        self.facts.wants.extend(wants.into_iter().map(|want| (phase, want)));
        self.traced.push((role, watched));
    }

    /// What a finish means, and the events and facts that come with a stop.
    pub(super) fn ending(&mut self, finish: &Finish, started: &Started, phase: Phase) -> Ending {
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
                        let usage = started.running.cgroup_usage();
                        let cpu_throttled = usage.ok().flatten().and_then(|usage| usage.cpu_throttled);
                        let fact = TimeoutFact { phase, idle: is_idle, limit_ms, cpu_throttled };
                        self.facts.timeouts.push(fact);
                        let mut event = supervisor(EventType::TimeoutExpired)
                            .with("phase", phase.as_str())
                            .with("kind", if is_idle { "idle" } else { "wall" })
                            .with("limit_ms", limit_ms);
                        if let Some(periods) = cpu_throttled {
                            event = event.with("cpu_throttled", periods);
                        }
                        self.log.emit(event);
                    }
                    Stop::Interrupted(signal) => self.facts.interrupted = Some(*signal),
                    Stop::Requests => {
                        let limit = MAX_REQUESTS as u64;
                        self.output_limit("approval requests", None, limit, None, phase, mechanism::REQUESTS);
                    }
                    // Counted by the capture and the watcher, which know how much there was.
                    Stop::OverCap(_) | Stop::Memory(_) | Stop::Disk => {}
                }
                Ending::Stopped
            }
        }
    }

    /// A raw log that is over its cap.
    pub(super) fn log_cap(&mut self, name: &str, limit: u64, seen: Option<u64>, phase: Phase) {
        self.output_limit(name, Some("--max-log"), limit, seen, phase, mechanism::LOG);
    }

    pub(super) fn output_limit(
        &mut self,
        what: &str,
        option: Option<&str>,
        limit: u64,
        seen: Option<u64>,
        phase: Phase,
        mechanism: &'static str,
    ) {
        let option = option.map(str::to_owned);
        let fact = LimitFact { what: what.to_owned(), option, limit, seen, phase, mechanism, witness: None };
        self.log.emit(limit_event(&fact));
        self.facts.output_limits.push(fact);
    }

    fn resource_limit(&mut self, hit: Hit, phase: Phase) {
        let fact = LimitFact {
            what: hit.what.to_owned(),
            option: hit.option.map(str::to_owned),
            limit: hit.limit,
            seen: hit.seen,
            phase,
            mechanism: hit.mechanism,
            witness: Some(hit.witness),
        };
        self.log.emit(limit_event(&fact));
        self.facts.resource_limits.push(fact);
    }

    /// Which limits of a sandbox that has ended were hit, as the kernel counted, or as they were seen where it does not.
    pub(super) fn resource_limits(&mut self, started: &Started, mut peaks: Peaks, phase: Phase) {
        // At level `landlock` there is no file system of the sandbox's own.
        match started.running.disk_usage() {
            Ok(usage) => peaks.disk(&usage),
            Err(_) if started.running.level() == Level::Landlock => {}
            Err(error) => self.log.defect(error.to_string()),
        }
        if let Some(watch) = &started.disk_watch {
            // Once more, also for what came between two looks; what it was stopped for is told as it was seen.
            let last = watch.look(private(&started.running));
            peaks.excess = peaks.excess.or(last);
        }
        let usage = started.running.cgroup_usage().unwrap_or_else(|error| {
            // Whether a limit was hit is not known: that is no pass.
            self.log.defect(error.to_string());
            None
        });
        for hit in hits(&started.limits, usage.as_ref(), &peaks) {
            self.resource_limit(hit, phase);
        }
    }

    pub(super) fn approval_timeouts(&mut self) {
        let limit_ms = self.plan.resolved.options.timeouts.approval.as_millis() as u64;
        let expired =
            self.facts.approvals.iter().filter(|a| a.outcome == verdict::ApprovalOutcome::Expired).count();
        let known = self.facts.timeouts.iter().filter(|t| t.phase == Phase::Approval).count();
        for _ in known..expired {
            self.facts.timeouts.push(TimeoutFact {
                phase: Phase::Approval,
                idle: false,
                limit_ms,
                cpu_throttled: None,
            });
            self.log.emit(
                supervisor(EventType::TimeoutExpired)
                    .with("phase", "approval")
                    .with("kind", "wall")
                    .with("limit_ms", limit_ms),
            );
        }
    }
}

fn limit_event(fact: &LimitFact) -> NewEvent {
    supervisor(EventType::LimitExceeded)
        .with("what", fact.what.clone())
        .with("limit", fact.limit)
        .with("seen", fact.seen)
        .with("phase", fact.phase.as_str())
        .with("mechanism", fact.mechanism)
        .with("witness", fact.witness.clone())
}
