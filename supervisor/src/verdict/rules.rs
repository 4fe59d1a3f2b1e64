//! One rule for each kind of fact; all are asked, and every blocker that holds is raised.

use serde_json::{Value, json};

use super::{
    ApprovalOutcome, ArtifactFact, Blocker, BlockerCode as Code, ChangesFact, EndTree, Ending, Facts,
    LimitFact, Moment, Phase, RequiredEvent, ReviewFact, SandboxFact, SecretFact, SourceFact, StartTree,
    TestFact, TimeoutFact, TreeEnd,
};
use crate::event::{EventType, Source};

/// What holds the event log's size, as reports name it.
pub const EVENT_CAP: &str = "event cap";
/// Longest list in a blocker's detail; the rest is counted.
const LISTED: usize = 100;

/// What every run must show once it got so far.
const BASE_EVENTS: [RequiredEvent; 9] = [
    required(EventType::RunStarted, Source::Supervisor, Phase::Start),
    required(EventType::DecisionRecorded, Source::Supervisor, Phase::Sandbox),
    required(EventType::SandboxReady, Source::Supervisor, Phase::Sandbox),
    required(EventType::BackendStarted, Source::Supervisor, Phase::Backend),
    required(EventType::BackendExited, Source::Supervisor, Phase::Backend),
    required(EventType::TestStarted, Source::Test, Phase::Test),
    required(EventType::TestCompleted, Source::Test, Phase::Test),
    required(EventType::ReviewStarted, Source::Reviewer, Phase::Review),
    required(EventType::ReviewCompleted, Source::Reviewer, Phase::Review),
];

const fn required(event_type: EventType, source: Source, phase: Phase) -> RequiredEvent {
    RequiredEvent { event_type, source, phase }
}

pub(super) fn blockers(facts: &Facts, moment: Moment) -> Vec<Blocker> {
    let mut found = facts.raised.clone();
    start(facts, &mut found);
    backend(facts, &mut found);
    changes(facts, &mut found);
    checks(facts, &mut found);
    approvals(facts, &mut found);
    limits(facts, &mut found);
    events(facts, &mut found);
    after(facts, &mut found);
    evidence(facts, moment, &mut found);
    stopped_without_reason(facts, &mut found);
    if found.is_empty() {
        unreached(facts, moment, &mut found);
    }
    wanted(facts, &mut found);
    found
}

/// A step that did not end well for want of something refused says so, with what would grant it. What was tried was
/// observed; that it is the reason is not.
fn wanted(facts: &Facts, found: &mut [Blocker]) {
    for blocker in found {
        let phase = match blocker.code {
            Code::BackendFailed | Code::ProviderUnavailable | Code::NoDiff => Phase::Backend,
            Code::TestsFailed => Phase::Test,
            Code::ReviewerRejected => Phase::Review,
            Code::Timeout => match blocker.detail.get("phase").and_then(Value::as_str) {
                Some("backend") => Phase::Backend,
                Some("test") => Phase::Test,
                Some("review") => Phase::Review,
                _ => continue,
            },
            _ => continue,
        };
        let (granted, other): (Vec<_>, Vec<_>) = facts
            .wants
            .iter()
            .filter(|(of, _)| *of == phase)
            .map(|(_, want)| want)
            .partition(|w| w.grant.is_some());
        for want in granted {
            let grant = want.grant.as_deref().unwrap_or_default();
            blocker.remedy.push_str(&format!(" It tried {}: {grant}.", want.what));
        }
        if !other.is_empty() {
            let calls: Vec<&str> = other.iter().map(|want| want.what.as_str()).collect();
            blocker.remedy.push_str(&format!(
                " It was refused {}: no option grants {}.",
                calls.join("; "),
                if calls.len() == 1 { "that" } else { "those" }
            ));
        }
    }
}

fn list<T: serde::Serialize>(items: &[T]) -> Value {
    let shown: Vec<Value> = items.iter().take(LISTED).map(|item| json!(item)).collect();
    json!({ "listed": shown, "total": items.len() })
}

fn plural(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

fn start(facts: &Facts, found: &mut Vec<Blocker>) {
    match &facts.start_tree {
        StartTree::NotChecked | StartTree::Clean => {}
        StartTree::Dirty { paths } => found.push(Blocker::new(
            Code::DirtyStartingTree,
            format!("The work tree was not clean at the start: {}.", plural(paths.len(), "path", "paths")),
            json!({ "paths": list(paths) }),
        )),
        StartTree::Unknown { why } => found.push(Blocker::new(
            Code::DirtyStartingTree,
            "Whether the work tree was clean at the start could not be told.",
            json!({ "why": why }),
        )),
    }
    if let SandboxFact::Unavailable { why, missing, mend } = &facts.sandbox {
        let blocker = Blocker::new(
            Code::SandboxUnavailable,
            "The sandbox cannot be had as asked for; nothing was started.",
            json!({ "why": why, "missing": missing }),
        );
        found.push(match mend {
            Some(mend) => {
                blocker.with_remedy(format!("{mend}. `proctor doctor` tries every mechanism by itself, and says whether level landlock is to be had (`--min-level landlock`)."))
            }
            None => blocker,
        });
    }
    if facts.test == TestFact::Missing {
        found.push(Blocker::new(
            Code::TestCommandMissing,
            "No test command was given, nor was it said that nothing is to be tested.",
            json!({}),
        ));
    }
    if let Some(signal) = facts.interrupted {
        found.push(Blocker::new(
            Code::Interrupted,
            format!("The run was interrupted by {}.", signal.name()),
            json!({ "signal": signal.name() }),
        ));
    }
}

fn backend(facts: &Facts, found: &mut Vec<Blocker>) {
    let says = facts.engine_end.as_ref().filter(|end| !end.ok).map(|end| clipped(&end.message));
    // One failure, whoever tells of it.
    let failed = |what: String, detail: Value| {
        let also =
            if says.is_some() { ", and the engine's own last event says that it failed." } else { "." };
        Blocker::new(Code::BackendFailed, format!("{what}{also}"), detail)
    };
    match &facts.backend {
        Ending::NotStarted | Ending::Exited(0) | Ending::Stopped => {
            if let Some(says) = &says {
                found.push(Blocker::new(
                    Code::BackendFailed,
                    "The engine's own last event says that it failed.",
                    json!({ "engine_says": says }),
                ));
            }
        }
        Ending::StartFailed { why } => found.push(Blocker::new(
            Code::BackendFailed,
            "The backend could not be started.",
            json!({ "why": why }),
        )
        .with_remedy("Check that the program exists inside the sandbox and may be executed there (`proctor explain` shows the mounts).")),
        Ending::Exited(code) => found.push(failed(
            format!("The backend exited with code {code}"),
            json!({ "exit_code": code, "engine_says": says }),
        )),
        Ending::Signalled(signal) => found.push(failed(
            format!("The backend was killed by signal {signal}"),
            json!({ "signal": signal, "engine_says": says }),
        )),
    }
    if let TreeEnd::NotProved { why } = &facts.backend_tree {
        found.push(Blocker::new(
            Code::BackendFailed,
            "The backend's process tree was not proved empty at its end.",
            json!({ "why": why }),
        )
        .with_remedy("Run at level full, where the pid namespace ends with its first process; `proctor doctor` says what this host lacks."));
    }
    if !facts.provider.is_empty() {
        let failures: Vec<Value> = facts
            .provider
            .iter()
            .map(|failure| json!({ "kind": clipped(&failure.kind), "provider": failure.provider, "observed": failure.observed }))
            .collect();
        found.push(Blocker::new(
            Code::ProviderUnavailable,
            "The model's provider could not be used.",
            json!({ "failures": list(&failures) }),
        ));
    }
    if !facts.contradictions.is_empty() {
        let all: Vec<Value> = facts
            .contradictions
            .iter()
            .map(|one| json!({ "claim": clipped(&one.claim), "observed": clipped(&one.observed) }))
            .collect();
        found.push(Blocker::new(
            Code::Contradiction,
            format!(
                "What the engine claims and what was observed disagree in {}.",
                plural(all.len(), "point", "points")
            ),
            json!({ "contradictions": list(&all) }),
        ));
    }
    if let SourceFact::Changed { why } = &facts.source {
        found.push(Blocker::new(
            Code::SourceChanged,
            "The engine's source is not what was admitted at the start.",
            json!({ "why": why }),
        ));
    }
}

fn changes(facts: &Facts, found: &mut Vec<Blocker>) {
    match &facts.changes {
        ChangesFact::NotReached => {}
        ChangesFact::Failed { why } => found.push(Blocker::new(
            Code::EventMissing,
            "What the backend changed could not be established.",
            json!({ "step": "changes", "why": why }),
        )),
        ChangesFact::Read { changed, disallowed, needs_approval } => {
            if *changed == 0 && facts.mutation.wants_changes() {
                // What was refused is a change, and no part of the patch.
                let what = if disallowed.is_empty() {
                    "The backend changed nothing."
                } else {
                    "The backend changed nothing that a patch may carry."
                };
                found.push(Blocker::new(Code::NoDiff, what, json!({})));
            }
            if !disallowed.is_empty() {
                found.push(Blocker::new(
                    Code::DisallowedFile,
                    format!("{} not allowed.", plural(disallowed.len(), "change is", "changes are")),
                    json!({ "changes": list(disallowed) }),
                ));
            }
            let granted = facts
                .approvals
                .iter()
                .any(|approval| approval.of_changes && approval.outcome == ApprovalOutcome::Granted);
            let refused = facts.approvals.iter().any(|approval| approval.of_changes);
            // A request that was denied is raised with the approvals.
            if *needs_approval && !granted && !refused {
                found.push(Blocker::new(
                    Code::ApprovalDenied,
                    "Changes that need the operator's approval have none.",
                    json!({ "subject": "changes", "outcome": "not asked" }),
                ));
            }
        }
    }
}

fn checks(facts: &Facts, found: &mut Vec<Blocker>) {
    let failed = match &facts.test {
        TestFact::Missing | TestFact::Off => None,
        TestFact::Command(ending) => match ending {
            Ending::NotStarted | Ending::Exited(0) | Ending::Stopped => None,
            Ending::StartFailed { why } => {
                Some(("The test command could not be run.".to_owned(), json!({ "why": why })))
            }
            Ending::Exited(code) => {
                Some((format!("The test command exited with code {code}."), json!({ "exit_code": code })))
            }
            Ending::Signalled(signal) => Some((
                format!("The test command was killed by signal {signal}."),
                json!({ "signal": signal }),
            )),
        },
    };
    if let Some((message, detail)) = failed {
        found.push(Blocker::new(Code::TestsFailed, message, detail));
    }
    if let ReviewFact::Rejected { why } = &facts.review {
        found.push(Blocker::new(
            Code::ReviewerRejected,
            "The reviewer did not accept the patch.",
            json!({ "why": clipped(why) }),
        ));
    }
}

fn approvals(facts: &Facts, found: &mut Vec<Blocker>) {
    for approval in &facts.approvals {
        let (outcome, by) = match &approval.outcome {
            ApprovalOutcome::Granted => continue,
            ApprovalOutcome::Denied { by } => ("denied", by.as_str()),
            // As the event log has it: what nobody answered is denied by policy.
            ApprovalOutcome::Expired => ("not answered in time", "policy"),
            ApprovalOutcome::Unsettled => ("never settled", "policy"),
        };
        found.push(Blocker::new(
            Code::ApprovalDenied,
            format!("A request for approval was {outcome}."),
            json!({ "id": clipped(&approval.id), "subject": clipped(&approval.subject), "outcome": outcome, "by": by }),
        ));
    }
}

fn timeout_option(timeout: &TimeoutFact) -> &'static str {
    match timeout.phase {
        Phase::Test => "--test-timeout",
        Phase::Review => "--review-timeout",
        Phase::Approval => "--approval-timeout",
        _ if timeout.idle => "--idle-timeout",
        _ => "--timeout",
    }
}

fn limits(facts: &Facts, found: &mut Vec<Blocker>) {
    for timeout in &facts.timeouts {
        let kind = if timeout.idle { "idle" } else { "wall" };
        let phase = timeout.phase.as_str();
        let option = timeout_option(timeout);
        let limit = humantime::format_duration(std::time::Duration::from_millis(timeout.limit_ms));
        let held = match timeout.cpu_throttled {
            Some(periods) if periods > 0 => {
                format!(" Its CPU was held to --cpus in {}.", plural64(periods, "period", "periods"))
            }
            _ => String::new(),
        };
        found.push(Blocker::new(
            Code::Timeout,
            format!("The {kind} time of phase {phase} ran out after {limit} ({option}).{held}"),
            json!({
                "phase": phase, "kind": kind, "limit_ms": timeout.limit_ms, "option": option,
                "mechanism": kind, "cpu_throttled": timeout.cpu_throttled,
            }),
        ));
    }
    for limit in &facts.resource_limits {
        found.push(limit_blocker(Code::ResourceLimit, limit));
    }
    for limit in &facts.output_limits {
        found.push(limit_blocker(Code::OutputLimit, limit));
    }
    let dropped = facts.events.as_ref().map_or(0, crate::event::EventIndex::dropped);
    if dropped > 0 {
        found.push(
            Blocker::new(
                Code::OutputLimit,
                format!("The backend said more than the event log takes: {dropped} events were left out."),
                json!({ "what": "events", "left_out": dropped, "mechanism": EVENT_CAP }),
            )
            .with_remedy("The raw logs hold everything up to --max-log; have the backend say less."),
        );
    }
}

fn plural64(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

fn limit_blocker(code: Code, limit: &LimitFact) -> Blocker {
    let option = limit.option.as_deref().map(|option| format!(" ({option})")).unwrap_or_default();
    let (phase, mechanism) = (limit.phase.as_str(), limit.mechanism);
    Blocker::new(
        code,
        format!(
            "The limit {} of {} was hit in phase {phase}{option}, by {mechanism}.",
            limit.what, limit.limit
        ),
        json!({
            "what": limit.what, "limit": limit.limit, "seen": limit.seen, "option": limit.option,
            "phase": phase, "mechanism": mechanism, "witness": limit.witness,
        }),
    )
}

fn events(facts: &Facts, found: &mut Vec<Blocker>) {
    let Some(index) = &facts.events else {
        found.push(Blocker::new(Code::EventMissing, "No event log was kept.", json!({ "missing": "all" })));
        return;
    };
    let mut missing: Vec<RequiredEvent> = BASE_EVENTS
        .iter()
        .chain(&facts.required_events)
        .filter(|event| facts.reached(event.phase) && index.count(event.event_type, event.source) == 0)
        .copied()
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        let names: Vec<String> =
            missing.iter().map(|event| format!("{} from {}", event.event_type, event.source)).collect();
        found.push(Blocker::new(
            Code::EventMissing,
            format!("Required events were not seen: {}.", names.join(", ")),
            json!({ "missing": missing }),
        ));
    }
}

fn after(facts: &Facts, found: &mut Vec<Blocker>) {
    match &facts.end_tree {
        EndTree::NotReached | EndTree::AsExpected => {}
        EndTree::Dirty { what } => found.push(Blocker::new(
            Code::DirtyEndingTree,
            format!(
                "The real tree is not as it should be after the run: {}.",
                plural(what.len(), "difference", "differences")
            ),
            json!({ "differences": list(what) }),
        )),
        EndTree::Unknown { why } => found.push(Blocker::new(
            Code::DirtyEndingTree,
            "Whether the real tree is as it should be could not be told.",
            json!({ "why": why }),
        )),
    }
}

fn evidence(facts: &Facts, moment: Moment, found: &mut Vec<Blocker>) {
    match &facts.secrets {
        SecretFact::NotDone | SecretFact::Clean => {}
        SecretFact::Found(findings) => found.push(Blocker::new(
            Code::SecretInEvidence,
            format!("{} in the evidence.", plural(findings.len(), "secret stands", "secrets stand")),
            json!({ "findings": list(findings) }),
        )),
        SecretFact::Failed { why } => found.push(Blocker::new(
            Code::SecretInEvidence,
            "The evidence could not be searched for secrets: it counts as holding one.",
            json!({ "why": why }),
        )),
    }
    let mut unwritten: Vec<Value> = Vec::new();
    for (name, state) in &facts.artifacts {
        match state {
            ArtifactFact::Written => {}
            ArtifactFact::Open if moment == Moment::BeforeClose => {}
            ArtifactFact::Open => unwritten.push(json!({ "name": name, "why": "never finished" })),
            ArtifactFact::Failed { why } => unwritten.push(json!({ "name": name, "why": why })),
        }
    }
    for name in facts.required_artifacts.iter().filter(|name| !facts.artifacts.contains_key(*name)) {
        if moment == Moment::Final {
            unwritten.push(json!({ "name": name, "why": "never begun" }));
        }
    }
    if !unwritten.is_empty() {
        let names: Vec<&str> = unwritten.iter().filter_map(|one| one["name"].as_str()).collect();
        found.push(Blocker::new(
            Code::ArtifactWriteFailed,
            format!("Artifacts could not be written: {}.", names.join(", ")),
            json!({ "artifacts": list(&unwritten) }),
        ));
    }
    if !facts.invalid.is_empty() {
        found.push(Blocker::new(
            Code::EvidenceInvalid,
            format!("The evidence does not verify: {}.", plural(facts.invalid.len(), "problem", "problems")),
            json!({ "problems": list(&facts.invalid) }),
        ));
    }
}

/// Proctor stops a process only for a reason that is a blocker; a stop without one is a failure all the same.
fn stopped_without_reason(facts: &Facts, found: &mut Vec<Blocker>) {
    let reason = |phase: Phase| {
        facts.timeouts.iter().any(|timeout| timeout.phase == phase)
            || facts.interrupted.is_some()
            || !facts.resource_limits.is_empty()
            || !facts.output_limits.is_empty()
            || !facts.raised.is_empty()
    };
    // A backend is stopped, too, where its request was denied or its provider is gone.
    let refused = found.iter().any(|blocker| {
        matches!(blocker.code, Code::ApprovalDenied | Code::ProviderUnavailable | Code::ArtifactWriteFailed)
    });
    if facts.backend == Ending::Stopped && !reason(Phase::Backend) && !refused {
        found.push(stopped(Code::BackendFailed, "backend"));
    }
    if facts.test == TestFact::Command(Ending::Stopped) && !reason(Phase::Test) {
        found.push(stopped(Code::TestsFailed, "test command"));
    }
    if facts.review == ReviewFact::Stopped && !reason(Phase::Review) {
        found.push(stopped(Code::ReviewerRejected, "reviewer"));
    }
}

fn stopped(code: Code, what: &str) -> Blocker {
    Blocker::new(code, format!("The {what} was stopped before its end."), json!({ "stopped": true }))
}

/// With no blocker at all every step of a run must have been reached: no evidence of a step is no pass.
fn unreached(facts: &Facts, moment: Moment, found: &mut Vec<Blocker>) {
    let steps = [
        ("start_tree", facts.start_tree == StartTree::Clean),
        ("sandbox", facts.sandbox == SandboxFact::Ready),
        ("backend", facts.reached(Phase::BackendEnd)),
        ("backend_tree", facts.backend_tree == TreeEnd::Dead),
        ("changes", facts.reached(Phase::Changes)),
        ("test", facts.test == TestFact::Off || facts.reached(Phase::Test)),
        ("review", matches!(facts.review, ReviewFact::NotAsked | ReviewFact::Accepted)),
        ("end_tree", facts.end_tree == EndTree::AsExpected),
        ("secrets", moment == Moment::BeforeClose || facts.secrets == SecretFact::Clean),
        ("required_artifacts", moment == Moment::BeforeClose || !facts.required_artifacts.is_empty()),
    ];
    let missing: Vec<&str> = steps.iter().filter(|(_, reached)| !reached).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        found.push(Blocker::new(
            Code::EventMissing,
            format!("There is no evidence of needed steps: {}.", missing.join(", ")),
            json!({ "steps": missing }),
        ));
    }
}

/// A backend's own words in a detail: enough to recognise them, the rest is in the raw log.
fn clipped(text: &str) -> String {
    const MOST: usize = 500;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain(['…']).collect()
    }
}
