use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::event::{EventLimits, EventType, EventWriter, Native, NewEvent, Source, now_micros};
use crate::evidence::{
    DECISION, EvidenceDir, FreshnessStart, MARKDOWN, STDERR, STDOUT, TEST_LOG, TRACE, payload, testlog, trace,
};
use crate::exit::ExitCode;
use crate::report::{ChangeKind, FileChange, PathText, ReviewStatus, TestStatus, markdown, sample};
use crate::verdict::{Blocker, Verdict};

const PATCH_TEXT: &str = "\
diff --git a/src/a.rs b/src/a.rs
index 0123456..89abcde 100644
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
}

impl Run {
    fn new() -> Self {
        let start = FreshnessStart::now(Some("00ff")).unwrap();
        let mut report = sample::report();
        report.run_id = start.run_id.clone();
        let id = |digit: &str| Some(digit.repeat(40));
        report.freshness = start.end(id("1"), id("2"), id("3"));
        report.run_start = report.freshness.wall_start.clone();
        let output = b"1 passed\n";
        let end = testlog::TestEnd {
            output_bytes: 9,
            exit_code: Some(0),
            signal: None,
            note: None,
        };
        let test_log = [
            testlog::header(&report.run_id, Some("make test")),
            output.to_vec(),
            testlog::trailer(&end, false),
        ];
        let supervisor = |event_type| NewEvent::new(event_type, Source::Supervisor);
        let native = Native {
            stream: "stdout".into(),
            line: 2,
            offset: 17,
            kind: None,
            id: None,
            ts: None,
        };
        let events = vec![
            payload::run_started("00ff", "fake", None, "patch"),
            supervisor(EventType::DecisionRecorded),
            supervisor(EventType::SandboxReady),
            supervisor(EventType::BackendStarted),
            NewEvent::new(EventType::Message, Source::Backend)
                .with("text", "done")
                .at(native),
            payload::backend_exited(Some(0), None),
            NewEvent::new(EventType::TestStarted, Source::Test),
            payload::test_completed(Some(0), None),
        ];
        Self {
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
        let Self {
            mut report,
            events,
            patch,
            test_log,
            extra,
            log_changes,
        } = self;
        let top = tempfile::tempdir().unwrap();
        let dir = EvidenceDir::create(&top.path().join("e")).unwrap();
        let artifact = dir.create_artifact(EVENTS).unwrap();
        let mut writer = EventWriter::new(artifact, &report.run_id, EventLimits::default());
        for event in events {
            writer.emit(event).unwrap();
        }
        for change in &log_changes {
            writer.emit(payload::file_changed(change)).unwrap();
        }
        let described = dir.write_whole(PATCH, &patch).unwrap();
        writer.emit(payload::artifact_written(&described)).unwrap();
        for blocker in &report.blockers {
            writer.emit(payload::blocker_raised(blocker)).unwrap();
        }
        let exit = ExitCode::from_code(report.exit_code).unwrap();
        let verdict = Verdict {
            status: report.status,
            blockers: report.blockers.clone(),
            exit,
        };
        writer.emit(payload::run_finished(&verdict)).unwrap();
        let (artifact, end) = writer.finish().unwrap();
        artifact.finish().unwrap();
        report.events.count = end.count;
        report.events.last_hash = end.last_hash;
        dir.write_whole(TEST_LOG, &test_log).unwrap();
        let spans = dir.create_artifact(TRACE).unwrap();
        let mut spans = trace::TraceWriter::new(spans, trace::TraceId::new().unwrap(), &report.run_id, &[]);
        let span = trace::Span {
            id: trace::SpanId::new().unwrap(),
            parent: None,
            name: "run".into(),
            start_ns: 1,
            end_ns: 2,
            attributes: vec![],
            status: trace::SpanStatus::Ok,
        };
        spans.write(&[span]).unwrap();
        spans.into_inner().finish().unwrap();
        dir.write_whole(STDOUT, OUT).unwrap();
        dir.write_whole(STDERR, b"").unwrap();
        report.decision.digest = Some(dir.write_whole(DECISION, b"{}").unwrap().digest.sha256);
        for (name, bytes) in extra {
            dir.write_whole(name, &bytes).unwrap();
        }
        report.freshness.wall_end = crate::event::format_micros(now_micros());
        report.run_end = report.freshness.wall_end.clone();
        report.digest_manifest = dir.manifest();
        dir.write_whole(MARKDOWN, markdown::render(&report).as_bytes())
            .unwrap();
        report.digest_manifest = dir.manifest();
        report.artifact_paths = report
            .digest_manifest
            .iter()
            .map(|one| (one.name.clone(), one.name.clone()))
            .collect();
        edit(&mut report);
        dir.sync();
        dir.publish_report(&report.to_json().unwrap(), None).unwrap();
        Written {
            path: dir.path().to_owned(),
            _top: top,
        }
    }
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
    assert!(
        problems.iter().any(|problem| problem.contains(text)),
        "none with {text:?}: {problems:#?}"
    );
}

#[test]
fn sound_evidence_of_a_pass_and_of_a_fail_verifies() {
    let result = Run::new().write(|_| {}).verify();
    assert_eq!(result.problems, []);
    assert!(result.valid);
    assert_eq!(
        (result.status, result.authenticity.as_str(), result.artifacts),
        (Some(Status::Pass), "unsigned", 8)
    );

    let mut run = Run::new();
    run.blockers(
        vec![
            Blocker::new(BlockerCode::BackendFailed, "Exit 3.", json!({"exit_code": 3})),
            Blocker::new(BlockerCode::TestsFailed, "Exit 1.", json!({"exit_code": 1})),
        ],
        ExitCode::Fail,
    );
    run.report.backend_exit_code = Some(3);
    run.events[5] = payload::backend_exited(Some(3), None);
    run.report.tests.status = TestStatus::Failed;
    run.report.tests.exit_code = Some(1);
    run.events[7] = payload::test_completed(Some(1), None);
    let end = testlog::TestEnd {
        output_bytes: 0,
        exit_code: Some(1),
        signal: None,
        note: None,
    };
    run.test_log = [
        testlog::header(&run.report.run_id, Some("make test")),
        testlog::trailer(&end, false),
    ]
    .concat();
    let result = run.write(|_| {}).verify();
    assert_eq!(result.problems, []);
    assert_eq!(
        result.blockers,
        [BlockerCode::BackendFailed, BlockerCode::TestsFailed]
    );
}

#[test]
fn every_artifact_whose_byte_changes_is_named() {
    let written = Run::new().write(|_| {});
    let names: Vec<_> = std::fs::read_dir(&written.path)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 10);
    for name in names {
        let before = std::fs::read(written.path.join(&name)).unwrap();
        let mut after = before.clone();
        match after.last_mut() {
            Some(byte) => *byte ^= 1,
            None => after.push(b'x'),
        }
        written.rewrite(&name, &after);
        let problems = written.problems();
        let named = if name == REPORT {
            "report.json.sha256: does not hold"
        } else {
            name.as_str()
        };
        some(&problems, named);
        written.rewrite(&name, &before);
    }
    assert!(written.verify().valid, "all is as before");
}

#[test]
fn missing_added_linked_and_special_files_are_named() {
    let written = Run::new().write(|_| {});
    let path = |name: &str| written.path.join(name);
    std::fs::write(path("extra.txt"), b"").unwrap();
    one(
        &written.problems(),
        "extra.txt: the manifest does not name this file",
    );
    std::fs::remove_file(path("extra.txt")).unwrap();

    let away = written.path.parent().unwrap().join("away");
    std::fs::hard_link(path(STDOUT), &away).unwrap();
    some(
        &written.problems(),
        "backend.stdout.log: has 2 names (hard links)",
    );
    std::fs::remove_file(path(STDOUT)).unwrap();
    some(&written.problems(), "backend.stdout.log: is missing");
    std::os::unix::fs::symlink(&away, path(STDOUT)).unwrap();
    some(&written.problems(), "backend.stdout.log: is no regular file");
    std::fs::remove_file(path(STDOUT)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path(STDOUT),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    some(&written.problems(), "backend.stdout.log: is no regular file");
    std::fs::remove_file(path(STDOUT)).unwrap();
    std::fs::rename(away, path(STDOUT)).unwrap();
    assert!(written.verify().valid);

    std::fs::remove_file(path(REPORT_DIGEST)).unwrap();
    one(&written.problems(), "report.json.sha256: is missing");
    std::fs::remove_file(path(REPORT)).unwrap();
    one(&written.problems(), "report.json: is missing");
    one(
        &verify(&path("nowhere"), VerifyOptions::default())
            .problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ".: cannot be opened",
    );
}

#[test]
fn too_large_and_unreadable_reports_are_refused() {
    let written = Run::new().write(|_| {});
    for (bytes, why) in [
        (vec![b'['; 200_000], "is no report"),
        (b"{}".to_vec(), "missing field"),
        (vec![0xff; 10], "is no report"),
        (vec![b' '; MAX_REPORT + 1], "more than the"),
    ] {
        written.rewrite(REPORT, &bytes);
        some(&written.problems(), why);
    }
    let small = VerifyOptions {
        max_artifact: 10,
        ..VerifyOptions::default()
    };
    let result = verify(&Run::new().write(|_| {}).path, small);
    assert!(
        result
            .problems
            .iter()
            .any(|problem| problem.message.contains("more than the 10 that are read"))
    );
}

/// Serde would take a list for a structure, a field twice in a map, and any spacing.
#[test]
fn a_report_in_another_form_is_refused() {
    let written = Run::new().write(|_| {});
    let text = std::fs::read_to_string(written.path.join(REPORT)).unwrap();
    for other in [
        text.replace("\n", " "),
        text.replace("\"sha256\"", "\"sha256\" "),
        text.replace(
            "\"memory\": {",
            "\"memory\": {\"value\":1,\"unit\":\"x\",\"mechanism\":\"x\",\"explicit\":true},\"memory\": {",
        ),
    ] {
        assert_ne!(other, text);
        written.rewrite(REPORT, other.as_bytes());
        written.rewrite(
            REPORT_DIGEST,
            format!("{}  {REPORT}\n", hex::encode(&Sha256::digest(&other))).as_bytes(),
        );
        one(
            &written.problems(),
            "report.json: is not in the form in which Proctor writes it",
        );
    }
}

#[test]
fn the_manifest_must_be_whole_and_sound() {
    type Edit = Box<dyn FnOnce(&mut Report)>;
    let cases: Vec<(Edit, &str)> = vec![
        (
            Box::new(|r| r.digest_manifest.retain(|one| one.name != PATCH)),
            "does not name the required artifact patch.diff",
        ),
        (
            Box::new(|r| r.digest_manifest[0].name = "../../etc/passwd".into()),
            "which can be no artifact",
        ),
        (
            Box::new(|r| r.digest_manifest.push(r.digest_manifest[0].clone())),
            "twice",
        ),
        (
            Box::new(|r| r.digest_manifest[0].digest.sha256 = "XX".into()),
            "is no SHA-256",
        ),
        (
            Box::new(|r| r.digest_manifest[0].annotations.size += 1),
            "does not hold",
        ),
        (
            Box::new(|r| drop(r.artifact_paths.remove(PATCH))),
            "artifact_paths does not say where",
        ),
        (
            Box::new(|r| drop(r.artifact_paths.insert("x".into(), "/etc/passwd".into()))),
            "artifact_paths names \"x\"",
        ),
    ];
    for (edit, why) in cases {
        some(&Run::new().write(edit).problems(), why);
    }
}

/// Everything digested rightly, but the parts do not say the same.
#[test]
fn parts_that_disagree_are_named() {
    type Edit = Box<dyn FnOnce(&mut Report)>;
    let cases: Vec<(Edit, &str)> = vec![
        (
            Box::new(|r| r.status = Status::Fail),
            "the status is fail, and there is no blocker",
        ),
        (
            Box::new(|r| r.exit_code = 1),
            "the exit code is 1, its blockers lead to 0",
        ),
        (
            Box::new(|r| r.blockers.push(Blocker::new(BlockerCode::NoDiff, "x", json!({})))),
            "status is pass, and there are blockers",
        ),
        (Box::new(|r| r.quarantined = true), "quarantined does not fit"),
        (
            Box::new(|r| r.backend_exit_code = Some(7)),
            "is not that of backend.exited",
        ),
        (
            Box::new(|r| r.backend_signal = Some(9)),
            "both an exit code and a signal",
        ),
        (Box::new(|r| r.decision.digest = None), "the decision's digest"),
        (Box::new(|r| r.events.count += 1), "lines, the report says"),
        (
            Box::new(|r| r.events.last_hash = "0".repeat(64)),
            "its last line is not the one",
        ),
        (Box::new(|r| r.events.left_out = 1), "events were left out"),
        (
            Box::new(|r| r.engine.name = "codex".into()),
            "names another engine",
        ),
        (
            Box::new(|r| r.stage = Some("candidate-default".into())),
            "names another stage",
        ),
        (
            Box::new(|r| r.mutation_mode = "apply".into()),
            "names another mutation mode",
        ),
        (
            Box::new(|r| r.changed_files.clear()),
            "observed file.changed are not in the report",
        ),
        (
            Box::new(|r| r.changed_files.clear()),
            "changes 1 files that the report does not name: src/a.rs",
        ),
        (
            Box::new(|r| r.changed_files.clear()),
            "the status is pass, but nothing changed",
        ),
        (
            Box::new(|r| r.changed_files[0].new_size = Some(9)),
            "have no observed file.changed like them: src/a.rs",
        ),
        (
            Box::new(|r| r.tests.status = TestStatus::Off),
            "the report says that no test ran",
        ),
        (
            Box::new(|r| r.tests.exit_code = Some(1)),
            "status does not fit their exit code",
        ),
        (
            Box::new(|r| r.tests.command = Some("true".into())),
            "test.log: is of another command",
        ),
        (
            Box::new(|r| r.review.status = ReviewStatus::Accepted),
            "no review.completed that accepts",
        ),
        (
            Box::new(|r| r.review.patch_sha256 = Some("0".repeat(64))),
            "was shown another patch",
        ),
        (Box::new(|r| r.sandbox.level = None), "there was no sandbox"),
        (Box::new(|r| r.result_tree = None), "base or result are not named"),
        (
            Box::new(|r| r.run_id = "r-20260601T120000-abcdef".into()),
            "belongs to run",
        ),
        (
            Box::new(|r| r.run_id = "../../x".into()),
            "the run id \"../../x\" is none",
        ),
        (Box::new(|r| r.freshness.base_tree = None), "base_tree differs"),
        (
            Box::new(|r| r.freshness.nonce = "aa".into()),
            "holds another nonce",
        ),
        (
            Box::new(|r| r.freshness.nonce = "not hex".into()),
            "no lower-case hex",
        ),
        (
            Box::new(|r| r.run_end = r.run_start.clone()),
            "start and end differ",
        ),
        (
            Box::new(|r| r.freshness.wall_start = "yesterday".into()),
            "no time of the form",
        ),
        (
            Box::new(|r| {
                r.freshness.wall_start = "2020-01-01T00:00:00.000000Z".into();
                r.freshness.wall_end = "2019-01-01T00:00:00.000000Z".into();
            }),
            "ends before it starts",
        ),
        (
            Box::new(|r| r.freshness.wall_end = "2999-01-01T00:00:00.000000Z".into()),
            "still to come",
        ),
        (
            Box::new(|r| r.freshness.artifacts_created_exclusively = false),
            "not made exclusively",
        ),
        (
            Box::new(|r| {
                r.freshness.wall_end = "2019-01-01T00:00:00.000000Z".into();
                r.run_end = r.freshness.wall_end.clone();
            }),
            "its times lie outside",
        ),
    ];
    for (number, (edit, why)) in cases.into_iter().enumerate() {
        let problems = Run::new().write(edit).problems();
        assert!(
            problems.iter().any(|problem| problem.contains(why)),
            "case {number}, {why:?}: {problems:#?}"
        );
    }
}

/// The report says pass and the log is sound, but the log tells another story.
#[test]
fn a_pass_that_the_events_do_not_bear_is_named() {
    let supervisor = |event_type| NewEvent::new(event_type, Source::Supervisor);
    for (event, why) in [
        (supervisor(EventType::TimeoutExpired), "a time ran out"),
        (supervisor(EventType::LimitExceeded), "a limit was exceeded"),
        (supervisor(EventType::ApprovalDenied), "an approval was denied"),
        (
            NewEvent::new(EventType::ApprovalDenied, Source::Operator),
            "an approval was denied",
        ),
        (
            supervisor(EventType::BlockerRaised).with("code", "no_diff"),
            "a blocker was raised",
        ),
        (
            supervisor(EventType::BlockerRaised).with("code", "no_such"),
            "a blocker \"no_such\" that is none",
        ),
        (
            payload::test_completed(Some(1), None),
            "test.completed does not say of the tests",
        ),
        (
            payload::backend_exited(Some(0), None),
            "is not that of backend.exited",
        ),
        (
            payload::review_completed(true, Some(0), None),
            "review.completed that accepts, and the report does not",
        ),
    ] {
        let mut run = Run::new();
        run.events.push(event);
        some(&run.write(|_| {}).problems(), why);
    }
    for (place, why) in [
        (1, "decision.recorded was not seen"),
        (2, "sandbox.ready was not seen"),
        (5, "the backend did not exit 0"),
        (7, "test.completed does not say"),
    ] {
        let mut run = Run::new();
        run.events.remove(place);
        some(&run.write(|_| {}).problems(), why);
    }
    // A backend's claim does not help.
    let mut run = Run::new();
    run.events[7] = NewEvent::new(EventType::TestCompleted, Source::Backend).with("exit_code", 0);
    some(&run.write(|_| {}).problems(), "test.completed does not say");
}

#[test]
fn logs_that_do_not_bear_the_events_are_named() {
    let mut run = Run::new();
    run.test_log = Vec::new();
    one(
        &run.write(|_| {}).problems(),
        "test.log: is empty, and the report says that tests ran",
    );
    let mut run = Run::new();
    run.test_log = b"1 passed\n".to_vec();
    one(
        &run.write(|_| {}).problems(),
        "test.log: its first line is not that of a test log",
    );
    let mut run = Run::new();
    let end = testlog::TestEnd {
        output_bytes: 0,
        exit_code: Some(1),
        signal: None,
        note: None,
    };
    run.test_log = [
        testlog::header(&run.report.run_id, Some("make test")),
        testlog::trailer(&end, false),
    ]
    .concat();
    one(
        &run.write(|_| {}).problems(),
        "test.log: does not say of the tests what the report says",
    );
    for (stream, why) in [
        ("stderr", "points beyond the end of backend.stderr.log"),
        ("x", "a raw log \"x\" that is not there"),
    ] {
        let mut run = Run::new();
        let native = Native {
            stream: stream.into(),
            line: 1,
            offset: 0,
            kind: None,
            id: None,
            ts: None,
        };
        run.events
            .insert(5, NewEvent::new(EventType::Message, Source::Backend).at(native));
        one(&run.write(|_| {}).problems(), why);
    }
    let mut run = Run::new();
    run.patch = PATCH_TEXT.replace("src/a.rs", "src/b.rs").into_bytes();
    let problems = run.write(|_| {}).problems();
    some(
        &problems,
        "patch.diff: does not change a file as the report says: src/a.rs",
    );
    some(
        &problems,
        "changes 1 files that the report does not name: src/b.rs",
    );
    let mut run = Run::new();
    run.patch = b"hello\n".to_vec();
    one(
        &run.write(|_| {}).problems(),
        "patch.diff: is no patch as git writes it",
    );
}

#[test]
fn changes_of_every_kind_agree_with_their_patch() {
    let patch = "\
diff --git a/made b/made
new file mode 100755
index 0000000..e69de29
diff --git a/gone b/gone
deleted file mode 100644
index e69de29..0000000
diff --git a/run b/run
old mode 100644
new mode 100755
diff --git a/link b/link
deleted file mode 100644
index e69de29..0000000
diff --git a/link b/link
new file mode 120000
index 0000000..89abcde
--- /dev/null
+++ b/link
@@ -0,0 +1 @@
+t
\\ No newline at end of file
diff --git a/from b/to
similarity index 100%
rename from from
rename to to
diff --git \"a/\\377\" \"b/\\377\"
new file mode 100644
index 0000000..e69de29
";
    let mut changes = vec![
        sample::change("made", ChangeKind::Added),
        sample::change("gone", ChangeKind::Deleted),
        sample::change("run", ChangeKind::Mode),
        sample::change("link", ChangeKind::Type),
        sample::change("to", ChangeKind::Renamed),
        sample::change("\u{fffd}", ChangeKind::Added),
    ];
    changes[0].new_mode = Some("100755".into());
    changes[2].new_mode = Some("100755".into());
    changes[3].new_mode = Some("120000".into());
    changes[4].old_path = Some("from".into());
    changes[5].path_b64 = Some("/w==".into());
    let run = |changes: &[FileChange]| {
        let mut run = Run::new();
        run.patch = patch.into();
        run.report.changed_files = changes.to_vec();
        run.log_changes = changes.to_vec();
        run
    };
    assert_eq!(run(&changes).write(|_| {}).problems(), Vec::<String>::new());
    for place in 0..changes.len() {
        let mut wrong = changes.clone();
        let (old, new) = (
            &mut wrong[place].old_mode.clone(),
            &mut wrong[place].new_mode.clone(),
        );
        wrong[place].old_mode = old.take().map(|_| "160000".into());
        wrong[place].new_mode = new.take().map(|_| "160000".into());
        if wrong[place].kind == ChangeKind::Renamed {
            wrong[place].old_path = Some("elsewhere".into());
        }
        some(
            &run(&wrong).write(|_| {}).problems(),
            "does not change a file as the report says",
        );
    }
    let mut wrong = changes.clone();
    wrong[5].path_b64 = Some("YQ==".into());
    some(&run(&wrong).write(|_| {}).problems(), "path_b64 does not fit");
}

#[test]
fn a_blocker_found_after_the_last_event_is_no_contradiction_but_only_such_a_one() {
    for (code, exit, sound) in [
        (BlockerCode::ArtifactWriteFailed, 4, true),
        (BlockerCode::SecretInEvidence, 1, true),
        (BlockerCode::TestsFailed, 1, false),
    ] {
        let result = Run::new()
            .write(|report| {
                report.blockers.push(Blocker::new(code, "x", json!({})));
                report.status = Status::Fail;
                report.exit_code = exit;
                report.quarantined = code == BlockerCode::SecretInEvidence;
            })
            .verify();
        assert_eq!(result.valid, sound, "{code}: {:#?}", result.problems);
    }
    // And none may disappear.
    let mut run = Run::new();
    run.blockers(
        vec![Blocker::new(BlockerCode::NoDiff, "x", json!({}))],
        ExitCode::Fail,
    );
    let problems = run
        .write(|report| {
            report.blockers.clear();
            report.status = Status::Pass;
            report.exit_code = 0;
        })
        .problems();
    some(
        &problems,
        "blocker no_diff stands in the report 0 times, in the events 1 times",
    );
    some(&problems, "run.finished does not say pass");
}

#[test]
fn nonce_and_age_are_asked_for() {
    let written = Run::new().write(|_| {});
    let asked = |nonce, max_age, now| {
        let options = VerifyOptions {
            nonce,
            max_age,
            now,
            ..VerifyOptions::default()
        };
        verify(&written.path, options)
            .problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(asked(Some("00ff"), hour, now_micros()), Vec::<String>::new());
    one(
        &asked(Some("00aa"), None, now_micros()),
        "the nonce is 00ff, not the one asked for",
    );
    one(
        &asked(None, hour, now_micros() + 3_700_000_000),
        "longer ago than is allowed",
    );
}

struct Answer(Result<(), String>);

impl PatchCheck for Answer {
    fn check(&self, commit: &str, tree: &str, result: &str, patch: &mut dyn Read) -> Result<(), String> {
        let mut text = String::new();
        patch.read_to_string(&mut text).unwrap();
        assert_eq!(
            (commit, tree, result),
            (&*"1".repeat(40), &*"2".repeat(40), &*"3".repeat(40))
        );
        assert_eq!(text, PATCH_TEXT);
        self.0.clone()
    }
}

impl AuthenticityCheck for Answer {
    fn check(&self, statement: &[u8], artifacts: &[ResourceDescriptor]) -> Result<String, String> {
        assert_eq!((statement, artifacts.len()), (&b"{}"[..], 9));
        self.0.clone().map(|()| "key1".to_owned())
    }
}

#[test]
fn the_repository_and_the_key_are_asked() {
    let written = Run::new().write(|_| {});
    let (yes, no) = (Answer(Ok(())), Answer(Err("gives tree 44".to_owned())));
    let ask = |patch_check: Option<&dyn PatchCheck>,
               authenticity: Option<&dyn AuthenticityCheck>,
               require_signature| {
        let options = VerifyOptions {
            patch_check,
            authenticity,
            require_signature,
            ..VerifyOptions::default()
        };
        verify(&written.path, options)
    };
    assert!(ask(Some(&yes), None, false).valid);
    one(
        &ask(Some(&no), None, false)
            .problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        "patch.diff: gives tree 44",
    );
    assert!(!ask(None, None, true).valid);
    assert!(!ask(None, Some(&yes), true).valid, "there is no statement");
    written.rewrite(STATEMENT, b"{}");
    let result = ask(None, Some(&yes), true);
    assert!(result.valid && result.authenticity == "signed by key1");
    let result = ask(None, Some(&no), true);
    assert!(!result.valid && result.authenticity == "unsigned");
}

#[test]
fn what_is_shown_of_hostile_evidence_is_safe() {
    let written = Run::new().write(|report| {
        report.run_id = "\x1b[2J\u{202e}".into();
        report.digest_manifest[0].name = "\x1b]0;x\x07".into();
        report.test_inputs_changed.push(PathText {
            path: "x".into(),
            path_b64: None,
        });
    });
    std::fs::write(written.path.join("\u{202e}\x1b[31m"), b"").unwrap();
    let result = written.verify();
    let shown = format!("{:?} {}", result.run_id, serde_json::to_string(&result).unwrap());
    let lines: String = result.problems.iter().map(ToString::to_string).collect();
    assert!(
        !result.valid
            && !format!("{shown}{lines}")
                .chars()
                .any(crate::report::escape::is_deceptive)
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 48, ..Default::default() })]
    /// Any byte anywhere: it shows.
    #[test]
    fn any_changed_byte_shows(
        file in proptest::prelude::any::<proptest::sample::Index>(),
        at in proptest::prelude::any::<proptest::sample::Index>(),
        bits in 1..=255_u8,
    ) {
        let written = Run::new().write(|_| {});
        let names = Directory::open(&written.path).unwrap().names().unwrap();
        let name = &names[file.index(names.len())];
        let mut bytes = std::fs::read(written.path.join(name)).unwrap();
        if bytes.is_empty() {
            bytes.push(bits);
        } else {
            let place = at.index(bytes.len());
            bytes[place] ^= bits;
        }
        written.rewrite(name, &bytes);
        proptest::prop_assert!(!written.verify().valid, "{name}");
    }
}
