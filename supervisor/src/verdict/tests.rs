use super::*;
use crate::event::{EventIndex, EventType, Source};
use crate::exit::StopSignal;
use crate::mutation::MutationMode;
use serde_json::json;

const ARTIFACTS: [&str; 3] = ["events.normalized.jsonl", "patch.diff", "report.md"];

fn index() -> EventIndex {
    let mut index = EventIndex::default();
    for (event_type, source) in [
        (EventType::RunStarted, Source::Supervisor),
        (EventType::DecisionRecorded, Source::Supervisor),
        (EventType::SandboxReady, Source::Supervisor),
        (EventType::BackendStarted, Source::Supervisor),
        (EventType::BackendExited, Source::Supervisor),
        (EventType::TestStarted, Source::Test),
        (EventType::TestCompleted, Source::Test),
        (EventType::ReviewStarted, Source::Reviewer),
        (EventType::ReviewCompleted, Source::Reviewer),
    ] {
        index.note(event_type, source);
    }
    index
}

/// A run with everything in order, tests and review included.
fn good() -> Facts {
    let test = TestFact::Command(Ending::Exited(0));
    let mut facts = Facts::new(MutationMode::Patch, test, ReviewFact::Accepted);
    facts.start_tree = StartTree::Clean;
    facts.sandbox = SandboxFact::Ready;
    facts.backend = Ending::Exited(0);
    facts.backend_tree = TreeEnd::Dead;
    facts.changes = ChangesFact::Read { changed: 1, disallowed: Vec::new(), needs_approval: false };
    facts.end_tree = EndTree::AsExpected;
    facts.secrets = SecretFact::Clean;
    facts.required_artifacts = ARTIFACTS.map(str::to_owned).to_vec();
    facts.artifacts = ARTIFACTS.map(|name| (name.to_owned(), ArtifactFact::Written)).into();
    facts.events = Some(index());
    facts
}

fn codes(facts: &Facts) -> Vec<BlockerCode> {
    decide(facts, Moment::Final).blockers.into_iter().map(|blocker| blocker.code).collect()
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = good();
    change(&mut facts);
    facts
}

fn limit(what: &str) -> LimitFact {
    LimitFact {
        what: what.into(),
        option: Some("--memory".into()),
        limit: 10,
        seen: Some(11),
        phase: Phase::Backend,
        mechanism: "cgroup_v2 memory",
        witness: Some("memory.events oom_kill 1".into()),
    }
}

fn approval(outcome: ApprovalOutcome) -> ApprovalFact {
    ApprovalFact { id: "a1".into(), subject: "changes".into(), of_changes: true, outcome }
}

#[test]
fn everything_in_order_is_a_pass() {
    let verdict = decide(&good(), Moment::Final);
    assert_eq!((verdict.status, verdict.exit, verdict.blockers), (Status::Pass, ExitCode::Pass, vec![]));
}

#[test]
fn knowing_nothing_is_no_pass() {
    let facts = Facts::new(MutationMode::None, TestFact::Off, ReviewFact::NotAsked);
    let verdict = decide(&facts, Moment::BeforeClose);
    assert_eq!(verdict.status, Status::Fail);
    assert!(verdict.has(BlockerCode::EventMissing));
}

/// One fact changed, one blocker: for every code that a fact leads to.
#[test]
fn each_fact_raises_its_blocker_and_no_other() {
    use BlockerCode as B;
    type Change = Box<dyn FnOnce(&mut Facts)>;
    let cases: Vec<(B, u8, Change)> = vec![
        (B::DirtyStartingTree, 1, Box::new(|f| f.start_tree = StartTree::Dirty { paths: vec!["a".into()] })),
        (B::DirtyStartingTree, 1, Box::new(|f| f.start_tree = StartTree::Unknown { why: "x".into() })),
        (
            B::SandboxUnavailable,
            3,
            Box::new(|f| {
                f.sandbox =
                    SandboxFact::Unavailable { why: "uid map: EPERM".into(), missing: vec![], mend: None };
            }),
        ),
        (B::TestCommandMissing, 1, Box::new(|f| f.test = TestFact::Missing)),
        (B::Interrupted, 130, Box::new(|f| f.interrupted = Some(StopSignal::Int))),
        (B::Interrupted, 143, Box::new(|f| f.interrupted = Some(StopSignal::Term))),
        (
            B::Timeout,
            1,
            Box::new(|f| {
                f.backend = Ending::Stopped;
                f.timeouts.push(TimeoutFact {
                    phase: Phase::Backend,
                    idle: true,
                    limit_ms: 1000,
                    cpu_throttled: None,
                });
            }),
        ),
        (
            B::Timeout,
            1,
            Box::new(|f| {
                f.test = TestFact::Command(Ending::Stopped);
                f.timeouts.push(TimeoutFact {
                    phase: Phase::Test,
                    idle: false,
                    limit_ms: 1000,
                    cpu_throttled: None,
                });
            }),
        ),
        (
            B::Timeout,
            1,
            Box::new(|f| {
                f.review = ReviewFact::Stopped;
                f.timeouts.push(TimeoutFact {
                    phase: Phase::Review,
                    idle: false,
                    limit_ms: 1000,
                    cpu_throttled: None,
                });
            }),
        ),
        (B::ResourceLimit, 1, Box::new(|f| f.resource_limits.push(limit("memory")))),
        (B::OutputLimit, 1, Box::new(|f| f.output_limits.push(limit("patch")))),
        (
            B::ProviderUnavailable,
            1,
            Box::new(|f| {
                f.provider.push(ProviderFailure { kind: "auth".into(), provider: None, observed: true });
            }),
        ),
        (B::BackendFailed, 1, Box::new(|f| f.backend = Ending::Exited(2))),
        (B::BackendFailed, 1, Box::new(|f| f.backend = Ending::Signalled(9))),
        (B::BackendFailed, 1, Box::new(|f| f.backend = Ending::StartFailed { why: "ENOENT".into() })),
        (B::BackendFailed, 1, Box::new(|f| f.backend = Ending::Stopped)),
        (
            B::BackendFailed,
            1,
            Box::new(|f| {
                f.engine_end = Some(EngineEnd { ok: false, message: "gave up".into() });
            }),
        ),
        (B::BackendFailed, 1, Box::new(|f| f.backend_tree = TreeEnd::NotProved { why: "x".into() })),
        (
            B::Contradiction,
            1,
            Box::new(|f| {
                f.contradictions
                    .push(ContradictionFact { claim: "tests pass".into(), observed: "exit 1".into() });
            }),
        ),
        (B::SourceChanged, 1, Box::new(|f| f.source = SourceFact::Changed { why: "x".into() })),
        (
            B::DisallowedFile,
            1,
            Box::new(|f| {
                let disallowed =
                    vec![DisallowedChange { path: ".envrc".into(), rule: "protect .envrc".into() }];
                f.changes = ChangesFact::Read { changed: 1, disallowed, needs_approval: false };
            }),
        ),
        (
            B::NoDiff,
            1,
            Box::new(|f| {
                f.changes = ChangesFact::Read { changed: 0, disallowed: vec![], needs_approval: false };
            }),
        ),
        (B::TestsFailed, 1, Box::new(|f| f.test = TestFact::Command(Ending::Exited(1)))),
        (B::TestsFailed, 1, Box::new(|f| f.test = TestFact::Command(Ending::Signalled(11)))),
        (
            B::TestsFailed,
            1,
            Box::new(|f| f.test = TestFact::Command(Ending::StartFailed { why: "x".into() })),
        ),
        (B::TestsFailed, 1, Box::new(|f| f.test = TestFact::Command(Ending::Stopped))),
        (B::ReviewerRejected, 1, Box::new(|f| f.review = ReviewFact::Rejected { why: "exit 1".into() })),
        (B::ReviewerRejected, 1, Box::new(|f| f.review = ReviewFact::Stopped)),
        (
            B::ApprovalDenied,
            1,
            Box::new(|f| f.approvals.push(approval(ApprovalOutcome::Denied { by: "ann".into() }))),
        ),
        (B::ApprovalDenied, 1, Box::new(|f| f.approvals.push(approval(ApprovalOutcome::Expired)))),
        (B::ApprovalDenied, 1, Box::new(|f| f.approvals.push(approval(ApprovalOutcome::Unsettled)))),
        (
            B::ApprovalDenied,
            1,
            Box::new(|f| {
                f.changes = ChangesFact::Read { changed: 1, disallowed: vec![], needs_approval: true };
            }),
        ),
        (B::EventMissing, 1, Box::new(|f| f.events = None)),
        (B::EventMissing, 1, Box::new(|f| f.changes = ChangesFact::Failed { why: "EIO".into() })),
        (B::DirtyEndingTree, 1, Box::new(|f| f.end_tree = EndTree::Dirty { what: vec!["HEAD".into()] })),
        (B::DirtyEndingTree, 1, Box::new(|f| f.end_tree = EndTree::Unknown { why: "x".into() })),
        (
            B::SecretInEvidence,
            1,
            Box::new(|f| {
                let finding =
                    SecretFinding { artifact: "backend.stdout.log".into(), secret: "API_KEY".into() };
                f.secrets = SecretFact::Found(vec![finding]);
            }),
        ),
        (B::SecretInEvidence, 1, Box::new(|f| f.secrets = SecretFact::Failed { why: "EIO".into() })),
        (
            B::ArtifactWriteFailed,
            4,
            Box::new(|f| {
                f.artifacts.insert("patch.diff".into(), ArtifactFact::Failed { why: "write: ENOSPC".into() });
            }),
        ),
        (
            B::ArtifactWriteFailed,
            4,
            Box::new(|f| {
                f.artifacts.insert("patch.diff".into(), ArtifactFact::Open);
            }),
        ),
        (
            B::ArtifactWriteFailed,
            4,
            Box::new(|f| {
                f.artifacts.remove("report.md");
            }),
        ),
        (B::EvidenceInvalid, 4, Box::new(|f| f.invalid.push("chain".into()))),
    ];
    let mut seen: Vec<B> = cases.iter().map(|(code, _, _)| *code).collect();
    for (number, (code, exit, change)) in cases.into_iter().enumerate() {
        let facts = with(change);
        let verdict = decide(&facts, Moment::Final);
        assert_eq!(codes(&facts), [code], "case {number}");
        assert_eq!((verdict.status, verdict.exit.code()), (Status::Fail, exit), "case {number}, {code}");
    }
    // What governance decides is handed over as it is.
    for code in [B::EngineNotEnabled, B::NotEligible, B::SourceNotAdmitted] {
        let facts = with(|f| f.raised.push(Blocker::new(code, "no", json!({}))));
        assert_eq!(codes(&facts), [code]);
        assert_eq!(decide(&facts, Moment::Final).exit, ExitCode::Refused);
        seen.push(code);
    }
    for code in B::ALL {
        assert!(seen.contains(&code), "no case for {code}");
    }
}

#[test]
fn every_step_without_evidence_is_no_pass() {
    let changes: [fn(&mut Facts); 10] = [
        |f| f.start_tree = StartTree::NotChecked,
        |f| f.sandbox = SandboxFact::NotReached,
        |f| f.backend = Ending::NotStarted,
        |f| f.backend_tree = TreeEnd::NotReached,
        |f| f.changes = ChangesFact::NotReached,
        |f| f.test = TestFact::Command(Ending::NotStarted),
        |f| f.review = ReviewFact::NotReached,
        |f| f.end_tree = EndTree::NotReached,
        |f| f.secrets = SecretFact::NotDone,
        |f| f.required_artifacts.clear(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert_eq!(codes(&with(change)), [BlockerCode::EventMissing], "case {number}");
    }
}

#[test]
fn every_base_event_is_required_once_its_phase_was_reached() {
    for missing in index_pairs() {
        let mut seen = EventIndex::default();
        for (event_type, source) in index_pairs().into_iter().filter(|pair| *pair != missing) {
            seen.note(event_type, source);
        }
        let facts = with(|f| f.events = Some(seen));
        let verdict = decide(&facts, Moment::Final);
        assert_eq!(codes(&facts), [BlockerCode::EventMissing]);
        assert!(verdict.blockers[0].message.contains(missing.0.as_str()));
    }
}

fn index_pairs() -> Vec<(EventType, Source)> {
    let all = index();
    EventType::ALL
        .iter()
        .flat_map(|event_type| Source::ALL.map(|source| (*event_type, source)))
        .filter(|(event_type, source)| all.count(*event_type, *source) > 0)
        .collect()
}

#[test]
fn a_claim_satisfies_no_observed_requirement() {
    let mut seen = EventIndex::default();
    for (event_type, source) in index_pairs() {
        if event_type != EventType::TestCompleted {
            seen.note(event_type, source);
        }
    }
    seen.note(EventType::TestCompleted, Source::Backend);
    assert_eq!(codes(&with(|f| f.events = Some(seen))), [BlockerCode::EventMissing]);
}

#[test]
fn an_engines_requirement_holds_only_where_its_phase_was_reached() {
    let turn = RequiredEvent {
        event_type: EventType::TurnCompleted,
        source: Source::Backend,
        phase: Phase::BackendEnd,
    };
    assert_eq!(codes(&with(|f| f.required_events.push(turn))), [BlockerCode::EventMissing]);
    let stopped = with(|f| {
        f.required_events.push(turn);
        f.backend = Ending::Stopped;
        f.timeouts.push(TimeoutFact { phase: Phase::Backend, idle: false, limit_ms: 5, cpu_throttled: None });
    });
    assert_eq!(codes(&stopped), [BlockerCode::Timeout]);
}

#[test]
fn all_that_hold_are_raised_in_order_and_the_gravest_exit_wins() {
    let facts = with(|f| {
        f.backend = Ending::Exited(1);
        f.test = TestFact::Command(Ending::Exited(1));
        f.changes = ChangesFact::Read {
            changed: 0,
            disallowed: vec![DisallowedChange { path: "x".into(), rule: "deny x".into() }],
            needs_approval: false,
        };
        f.interrupted = Some(StopSignal::Int);
        f.artifacts.insert("patch.diff".into(), ArtifactFact::Failed { why: "ENOSPC".into() });
        f.output_limits.push(limit("files"));
        f.output_limits.push(limit("patch"));
    });
    use BlockerCode as B;
    assert_eq!(
        codes(&facts),
        [
            B::Interrupted,
            B::OutputLimit,
            B::OutputLimit,
            B::BackendFailed,
            B::DisallowedFile,
            B::NoDiff,
            B::TestsFailed,
            B::ArtifactWriteFailed
        ]
    );
    assert_eq!(decide(&facts, Moment::Final).exit, ExitCode::Evidence);
}

#[test]
fn an_empty_patch_is_wanted_in_none_and_discard() {
    for mutation in [MutationMode::None, MutationMode::Discard] {
        let facts = with(|f| {
            f.mutation = mutation;
            f.changes = ChangesFact::Read { changed: 0, disallowed: vec![], needs_approval: false };
        });
        assert_eq!(codes(&facts), []);
    }
}

#[test]
fn before_the_close_open_artifacts_and_the_search_to_come_are_no_blockers() {
    let facts = with(|f| {
        f.artifacts = [("events.normalized.jsonl".to_owned(), ArtifactFact::Open)].into();
        f.secrets = SecretFact::NotDone;
    });
    assert_eq!(decide(&facts, Moment::BeforeClose).status, Status::Pass);
    assert_eq!(decide(&facts, Moment::Final).status, Status::Fail);
}

#[test]
fn long_lists_are_counted_not_carried() {
    let paths: Vec<String> = (0..5000).map(|n| format!("f{n}")).collect();
    let facts = with(|f| f.start_tree = StartTree::Dirty { paths });
    let blocker = &decide(&facts, Moment::Final).blockers[0];
    assert_eq!(blocker.detail["paths"]["total"], 5000);
    assert_eq!(blocker.detail["paths"]["listed"].as_array().unwrap().len(), 100);
    assert_eq!(blocker.message, "The work tree was not clean at the start: 5000 paths.");
}

#[test]
fn a_timeout_names_its_phase_and_the_option_that_lengthens_it() {
    let facts = with(|f| {
        f.timeouts.push(TimeoutFact {
            phase: Phase::Test,
            idle: false,
            limit_ms: 600_000,
            cpu_throttled: None,
        })
    });
    let blocker = &decide(&facts, Moment::Final).blockers[0];
    assert_eq!(blocker.message, "The wall time of phase test ran out after 10m (--test-timeout).");
}
