//! A run's evidence in parts that tests can change before and after it is written.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::event::{EventLimits, EventType, EventWriter, Native, NewEvent, Source, now_micros};
use crate::evidence::{EvidenceDir, FreshnessStart, STDERR, STDOUT, payload, testlog, told, trace};
use crate::exit::ExitCode;
use crate::governance::{Decision, MutationMode};
use crate::profile::policy;
use crate::report::{
    ChangeKind, FileChange, LimitInfo, PathText, ReviewStatus, TestStatus, markdown, sample,
};
use crate::verdict::{Blocker, Verdict};

mod agreement;
mod files;
mod forged;
mod inside;
mod mutated;
mod rules;
mod signed;

const PATCH_TEXT: &str = "\
diff --git a/src/a.rs b/src/a.rs
index 1111111111111111111111111111111111111111..2222222222222222222222222222222222222222 100644
--- a/src/a.rs
+++ b/src/a.rs
@@ -1 +1 @@
-x
+y
";
const OUT: &[u8] = b"{\"type\":\"hello\"}\n{\"type\":\"done\"}\n";

/// A run that passes, in parts that a test can change before they are written: everything that a forger who knows
/// the format could do.
struct Run {
    report: Report,
    events: Vec<NewEvent>,
    patch: Vec<u8>,
    test_log: Vec<u8>,
    extra: Vec<(&'static str, Vec<u8>)>,
    log_changes: Vec<FileChange>,
    decision: serde_json::Value,
    profile: EffectiveProfile,
    /// The bytes of `profile.json`, where they are not the profile's.
    profile_text: Option<String>,
    trace_run: String,
    /// How many programs the trace holds, and how often the refused call.
    traced: (usize, i64),
    /// How often Landlock refused `/opt/x`, by the trace.
    traced_paths: i64,
    traced_completeness: Vec<(&'static str, trace::Completeness)>,
    /// What the trace says of resource use beside what the report says.
    traced_usage: trace::Attributes,
    /// Spans of calls.
    traced_calls: Vec<trace::Span>,
    /// The clock of the log stands still, where one is given.
    clock: Option<i64>,
}

/// A clock that stands still.
#[derive(Clone, Copy)]
struct Fixed(i64);

impl crate::event::Clock for Fixed {
    fn micros(&mut self) -> i64 {
        self.0
    }
}

fn span_of(name: &str) -> trace::Span {
    trace::Span {
        id: trace::SpanId::new().unwrap(),
        parent: None,
        name: name.into(),
        start_ns: 1,
        end_ns: 2,
        attributes: vec![],
        events: vec![],
        status: trace::SpanStatus::Ok,
    }
}

impl Run {
    fn new() -> Self {
        let start = FreshnessStart::now(Some("00ff00ff00ff00ff")).unwrap();
        let mut report = sample::report();
        report.run_id = start.run_id.clone();
        let id = |digit: &str| Some(digit.repeat(40));
        report.freshness = start.end(id("1"), id("2"), id("3"));
        report.run_start = report.freshness.wall_start.clone();
        let output = b"1 passed\n";
        let end = testlog::TestEnd { output_bytes: 9, exit_code: Some(0), signal: None, note: None };
        let test_log = [
            testlog::header(&report.run_id, Some("make test")),
            output.to_vec(),
            testlog::trailer(&end, false),
        ];
        let supervisor = |event_type| NewEvent::new(event_type, Source::Supervisor);
        let native = Native { stream: "stdout".into(), line: 2, offset: 17, kind: None, id: None, ts: None };
        let profile = policy::sample();
        let events = vec![
            payload::run_started("00ff00ff00ff00ff", "fake", None, "patch")
                .with("base_commit", "1".repeat(40))
                .with("base_tree", "2".repeat(40)),
            supervisor(EventType::DecisionRecorded).with("kind", "ungoverned"),
            payload::sandbox_ready(&report.sandbox),
            supervisor(EventType::BackendStarted)
                .with("engine", "fake")
                .with("argv", ["fake", "scenario.toml"].as_slice()),
            NewEvent::new(EventType::Message, Source::Backend).with("text", "done").at(native),
            payload::backend_exited(Some(0), None),
            NewEvent::new(EventType::TestStarted, Source::Test).with("command", "make test"),
            payload::test_completed(Some(0), None),
            payload::policy_denied(&report.sandbox.denials[0]),
        ];
        limits(&profile, &mut report);
        report.usage.entry("backend".into()).or_default().output = Some(OUT.len() as u64);
        let decision =
            Decision::ungoverned(&report.run_id, &report.run_start, "fake", MutationMode::Patch).unwrap();
        let decision = serde_json::to_value(decision).unwrap();
        Self {
            decision,
            profile,
            profile_text: None,
            trace_run: report.run_id.clone(),
            traced: (2, 3),
            traced_paths: 0,
            traced_completeness: vec![
                ("programs", trace::Completeness::Complete),
                ("exit_codes", trace::Completeness::Complete),
                ("denials", trace::Completeness::Complete),
                ("connections", trace::Completeness::Advisory),
                ("usage", trace::Completeness::Advisory),
            ],
            traced_usage: vec![],
            traced_calls: vec![],
            clock: None,
            log_changes: report.changed_files.clone(),
            report,
            events,
            patch: PATCH_TEXT.into(),
            test_log: test_log.concat(),
            extra: vec![],
        }
    }

    fn blockers(&mut self, blockers: Vec<Blocker>, exit: ExitCode) {
        self.report.status = Status::Fail;
        self.report.exit_code = exit.code();
        self.report.blockers = blockers;
    }

    /// Writes everything; `edit` sees the report when all its digests are known.
    fn write(self, edit: impl FnOnce(&mut Report)) -> Written {
        self.write_late(|_| {}, edit)
    }

    /// The same; `late` sees the report after the last event, and `report.md` says what it made of it.
    fn write_late(self, late: impl FnOnce(&mut Report), edit: impl FnOnce(&mut Report)) -> Written {
        let Self { traced, traced_completeness, .. } = &self;
        let (traced, completeness) = (*traced, traced_completeness.clone());
        let (traced_paths, clock) = (self.traced_paths, self.clock);
        let (traced_usage, traced_calls) = (self.traced_usage.clone(), self.traced_calls.clone());
        let Self { mut report, mut events, patch, test_log, extra, log_changes, decision, trace_run, .. } =
            self;
        let profile = self.profile_text.unwrap_or_else(|| self.profile.canonical().unwrap());
        report.profile.digest = policy::digest(&profile);
        let own = json!({ "name": "default", "digest": report.profile.digest });
        events[0].data.insert("profile".into(), own);
        let top = tempfile::tempdir().unwrap();
        let dir = EvidenceDir::create(&top.path().join("e")).unwrap();
        let artifact = dir.create_artifact(EVENTS).unwrap();
        let clock: Box<dyn crate::event::Clock> = match clock {
            Some(micros) => Box::new(Fixed(micros)),
            None => Box::new(crate::event::SystemClock),
        };
        let mut writer = EventWriter::with_clock(artifact, &report.run_id, EventLimits::default(), clock);
        // Changes are read when the backend has ended.
        let ended = events.iter().position(|one| one.event_type == EventType::BackendExited);
        let changes = log_changes.iter().map(payload::file_changed);
        let place = ended.map_or(events.len(), |place| place + 1);
        events.splice(place..place, changes);
        for event in events {
            writer.emit(event).unwrap();
        }
        dir.write_whole(PATCH, &patch).unwrap();
        let described = dir.write_whole(DECISION, decision.to_string().as_bytes()).unwrap();
        report.decision.digest = Some(described.digest.sha256);
        dir.write_whole(PROFILE, profile.as_bytes()).unwrap();
        dir.write_whole(TEST_LOG, &test_log).unwrap();
        let spans = dir.create_artifact(TRACE).unwrap();
        let mut spans =
            trace::TraceWriter::new(spans, trace::TraceId::new().unwrap(), &trace_run, &completeness);
        let span = span_of("run");
        let text = |key: &str, value: &str| (key.to_owned(), trace::Attribute::from(value));
        let mut program = span.clone();
        program.name = "program".into();
        program.attributes = vec![text("proctor.sandbox", "backend"), text("proctor.end", "exited")];
        let mut all = vec![span];
        all.extend((0..traced.0).map(|_| program.clone()));
        all[0].events = vec![trace::SpanEvent {
            name: "policy.denied".into(),
            at_ns: 1,
            attributes: vec![
                text("proctor.sandbox", "backend"),
                text("proctor.call", "bpf"),
                ("proctor.count".into(), trace::Attribute::Int(traced.1)),
            ],
        }];
        if traced_paths > 0 {
            all[1].events = vec![trace::SpanEvent {
                name: "policy.denied".into(),
                at_ns: 1,
                attributes: vec![
                    text("proctor.sandbox", "backend"),
                    text("proctor.what", "path"),
                    text("proctor.blockers", "fs.read_file"),
                    text("proctor.path", "/opt/x"),
                    ("proctor.count".into(), trace::Attribute::Int(traced_paths)),
                ],
            }];
        }
        let mut phase = span_of("phase backend");
        phase.parent = Some(all[0].id);
        phase.attributes = vec![text("proctor.phase", "backend")];
        phase.attributes.extend(told::usage_attributes(&report.usage["backend"]));
        phase.attributes.extend(traced_usage);
        all.push(phase);
        all.extend(traced_calls);
        spans.write(&all).unwrap();
        spans.into_inner().finish().unwrap();
        dir.write_whole(STDOUT, OUT).unwrap();
        dir.write_whole(STDERR, b"").unwrap();
        for (name, bytes) in extra {
            dir.write_whole(name, &bytes).unwrap();
        }
        for written in dir.manifest() {
            writer.emit(payload::artifact_written(&written)).unwrap();
        }
        for blocker in &report.blockers {
            writer.emit(payload::blocker_raised(blocker)).unwrap();
        }
        report.freshness.wall_end = crate::event::format_micros(now_micros());
        report.run_end = report.freshness.wall_end.clone();
        let exit = ExitCode::from_code(report.exit_code).unwrap();
        let verdict = Verdict { status: report.status, blockers: report.blockers.clone(), exit };
        writer.emit(payload::run_finished(&verdict, &report, 0)).unwrap();
        let (artifact, end) = writer.finish().unwrap();
        artifact.finish().unwrap();
        report.events.count = end.count;
        report.events.last_hash = end.last_hash;
        late(&mut report);
        report.digest_manifest = dir.manifest();
        dir.write_whole(MARKDOWN, markdown::render(&report).as_bytes()).unwrap();
        report.digest_manifest = dir.manifest();
        report.artifact_paths =
            report.digest_manifest.iter().map(|one| (one.name.clone(), one.name.clone())).collect();
        for name in [REPORT, REPORT_DIGEST] {
            report.artifact_paths.insert(name.into(), name.into());
        }
        edit(&mut report);
        dir.sync();
        dir.publish_report(&report.to_json().unwrap(), None).unwrap();
        Written { path: dir.path().to_owned(), _top: top }
    }
}

/// The limits of a profile, as a report has them.
fn limits(profile: &EffectiveProfile, report: &mut Report) {
    let (own, times) = (&profile.limits, &profile.timeouts_ms);
    report.limits = [
        ("memory", json!(own.memory), true),
        ("pids", json!(own.pids), false),
        ("cpus", json!(null), false),
        ("disk", json!(own.disk), false),
        ("max_log", json!(own.max_log), false),
        ("max_files", json!(own.max_files), false),
        ("max_patch", json!(own.max_patch), false),
        ("wall", json!(times.wall), false),
        ("idle", json!(times.idle), false),
        ("grace", json!(times.grace), false),
        ("test", json!(times.test), false),
        ("review", json!(times.review), false),
        ("approval", json!(times.approval), false),
    ]
    .into_iter()
    .map(|(name, value, explicit)| {
        let value = (!value.is_null()).then_some(value);
        let mechanism = "supervisor".to_owned();
        (name.to_owned(), LimitInfo { value, unit: "bytes".into(), mechanism, explicit })
    })
    .collect();
}

struct Written {
    path: PathBuf,
    _top: tempfile::TempDir,
}

impl Written {
    fn verify(&self) -> VerifyResult {
        verify(&self.path, VerifyOptions::default())
    }

    fn problems(&self) -> Vec<String> {
        self.verify().problems.iter().map(ToString::to_string).collect()
    }

    /// Rewrites an artifact; `report.json` and its digest stay.
    fn rewrite(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path.join(name), bytes).unwrap();
    }
}

fn one(problems: &[String], text: &str) {
    assert!(
        problems.len() == 1 && problems[0].contains(text),
        "expected one problem with {text:?}: {problems:#?}"
    );
}

fn some(problems: &[String], text: &str) {
    assert!(problems.iter().any(|problem| problem.contains(text)), "none with {text:?}: {problems:#?}");
}
