//! Evidence whose digests all hold, and whose parts do not say the same.

use super::*;

/// Everything digested rightly, but the parts do not say the same.
#[test]
fn parts_that_disagree_are_named() {
    type Edit = Box<dyn FnOnce(&mut Report)>;
    let cases: Vec<(Edit, &str)> = vec![
        (Box::new(|r| r.status = Status::Fail), "the status is fail, and there is no blocker"),
        (Box::new(|r| r.exit_code = 1), "the exit code is 1, its blockers lead to 0"),
        (
            Box::new(|r| r.blockers.push(Blocker::new(BlockerCode::NoDiff, "x", json!({})))),
            "status is pass, and there are blockers",
        ),
        (Box::new(|r| r.quarantined = true), "quarantined does not fit"),
        (Box::new(|r| r.backend_exit_code = Some(7)), "is not that of backend.exited"),
        (Box::new(|r| r.backend_signal = Some(9)), "both an exit code and a signal"),
        (Box::new(|r| r.decision.digest = None), "the decision's digest"),
        (Box::new(|r| r.events.count += 1), "lines, the report says"),
        (Box::new(|r| r.events.last_hash = "0".repeat(64)), "its last line is not the one"),
        (Box::new(|r| r.events.left_out = 1), "events were left out"),
        (Box::new(|r| r.engine.name = "codex".into()), "names another engine"),
        (Box::new(|r| r.stage = Some("candidate-default".into())), "names another stage"),
        (Box::new(|r| r.mutation_mode = "apply".into()), "names another mutation mode"),
        (Box::new(|r| r.changed_files.clear()), "observed file.changed are not in the report"),
        (Box::new(|r| r.changed_files.clear()), "changes 1 files that the report does not name: src/a.rs"),
        (Box::new(|r| r.changed_files.clear()), "the status is pass, but nothing changed"),
        (
            Box::new(|r| r.changed_files[0].new_size = Some(9)),
            "have no observed file.changed like them: src/a.rs",
        ),
        (Box::new(|r| r.tests.status = TestStatus::Off), "the report says that no test ran"),
        (Box::new(|r| r.tests.exit_code = Some(1)), "status does not fit their exit code"),
        (Box::new(|r| r.tests.command = Some("true".into())), "test.log: is of another command"),
        (Box::new(|r| r.review.status = ReviewStatus::Accepted), "no review.completed that accepts"),
        (Box::new(|r| r.review.patch_sha256 = Some("0".repeat(64))), "was shown another patch"),
        (Box::new(|r| r.sandbox.level = None), "there was no sandbox"),
        (Box::new(|r| r.result_tree = None), "base or result are not named"),
        (Box::new(|r| r.run_id = "r-20260601T120000-abcdef".into()), "belongs to run"),
        (Box::new(|r| r.run_id = "../../x".into()), "the run id \"../../x\" is none"),
        (Box::new(|r| r.freshness.base_tree = None), "base_tree differs"),
        (Box::new(|r| r.freshness.nonce = "aa".into()), "holds another nonce"),
        (Box::new(|r| r.freshness.nonce = "not hex".into()), "none that a run takes"),
        (Box::new(|r| r.run_end = r.run_start.clone()), "start and end differ"),
        (Box::new(|r| r.freshness.wall_start = "yesterday".into()), "no time of the form"),
        (
            Box::new(|r| {
                r.freshness.wall_start = "2020-01-01T00:00:00.000000Z".into();
                r.freshness.wall_end = "2019-01-01T00:00:00.000000Z".into();
            }),
            "ends before it starts",
        ),
        (Box::new(|r| r.freshness.wall_end = "2999-01-01T00:00:00.000000Z".into()), "still to come"),
        (Box::new(|r| r.freshness.artifacts_created_exclusively = false), "not made exclusively"),
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
        (NewEvent::new(EventType::ApprovalDenied, Source::Operator), "an approval was denied"),
        (supervisor(EventType::BlockerRaised).with("code", "no_diff"), "a blocker was raised"),
        (supervisor(EventType::BlockerRaised).with("code", "no_such"), "a blocker whose code is none"),
        (payload::test_completed(Some(1), None), "test.completed does not say of the tests"),
        (payload::backend_exited(Some(0), None), "is not that of backend.exited"),
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
    one(&run.write(|_| {}).problems(), "test.log: is empty, and the report says that tests ran");
    let mut run = Run::new();
    run.test_log = b"1 passed\n".to_vec();
    one(&run.write(|_| {}).problems(), "test.log: its first line is not that of a test log");
    let mut run = Run::new();
    let end = testlog::TestEnd { output_bytes: 0, exit_code: Some(1), signal: None, note: None };
    run.test_log =
        [testlog::header(&run.report.run_id, Some("make test")), testlog::trailer(&end, false)].concat();
    one(&run.write(|_| {}).problems(), "test.log: does not say of the tests what the report says");
    for (stream, why) in [
        ("stderr", "points beyond the end of backend.stderr.log"),
        ("x", "a raw log \"x\" that is not there"),
    ] {
        let mut run = Run::new();
        let native = Native { stream: stream.into(), line: 1, offset: 0, kind: None, id: None, ts: None };
        run.events.insert(5, NewEvent::new(EventType::Message, Source::Backend).at(native));
        one(&run.write(|_| {}).problems(), why);
    }
    let mut run = Run::new();
    run.patch = PATCH_TEXT.replace("src/a.rs", "src/b.rs").into_bytes();
    let problems = run.write(|_| {}).problems();
    some(&problems, "patch.diff: does not change a file as the report says: src/a.rs");
    some(&problems, "changes 1 files that the report does not name: src/b.rs");
    let mut run = Run::new();
    run.patch = b"hello\n".to_vec();
    one(&run.write(|_| {}).problems(), "patch.diff: is no patch as Proctor writes it");
}

#[test]
fn changes_of_every_kind_agree_with_their_patch() {
    let patch = "\
diff --git a/made b/made
new file mode 100755
index 0000000000000000000000000000000000000000..e69de29bb2d1d6434b8b29ae775ad8c2e48c5391
diff --git a/gone b/gone
deleted file mode 100644
index e69de29bb2d1d6434b8b29ae775ad8c2e48c5391..0000000000000000000000000000000000000000
diff --git a/run b/run
old mode 100644
new mode 100755
diff --git a/link b/link
deleted file mode 100644
index e69de29bb2d1d6434b8b29ae775ad8c2e48c5391..0000000000000000000000000000000000000000
diff --git a/link b/link
new file mode 120000
index 0000000000000000000000000000000000000000..2222222222222222222222222222222222222222
--- /dev/null
+++ b/link
@@ -0,0 +1 @@
+t
\\ No newline at end of file
diff --git a/from b/from
deleted file mode 100644
index e69de29bb2d1d6434b8b29ae775ad8c2e48c5391..0000000000000000000000000000000000000000
diff --git a/to b/to
new file mode 100644
index 0000000000000000000000000000000000000000..e69de29bb2d1d6434b8b29ae775ad8c2e48c5391
diff --git \"a/\\377\" \"b/\\377\"
new file mode 100644
index 0000000000000000000000000000000000000000..e69de29bb2d1d6434b8b29ae775ad8c2e48c5391
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
        let (old, new) = (&mut wrong[place].old_mode.clone(), &mut wrong[place].new_mode.clone());
        wrong[place].old_mode = old.take().map(|_| "160000".into());
        wrong[place].new_mode = new.take().map(|_| "160000".into());
        if wrong[place].kind == ChangeKind::Renamed {
            wrong[place].old_path = Some("elsewhere".into());
        }
        some(&run(&wrong).write(|_| {}).problems(), "does not change a file as the report says");
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
        let mut run = Run::new();
        run.report.quarantined = code == BlockerCode::SecretInEvidence;
        let late = |report: &mut Report| {
            report.blockers.push(Blocker::new(code, "x", json!({})));
            report.status = Status::Fail;
            report.exit_code = exit;
        };
        let result = run.write_late(late, |_| {}).verify();
        assert_eq!(result.valid, sound, "{code}: {:#?}", result.problems);
    }
    // And none may disappear.
    let mut run = Run::new();
    run.blockers(vec![Blocker::new(BlockerCode::NoDiff, "x", json!({}))], ExitCode::Fail);
    let problems = run
        .write(|report| {
            report.blockers.clear();
            report.status = Status::Pass;
            report.exit_code = 0;
        })
        .problems();
    some(&problems, "blocker no_diff stands in the report 0 times, in the events 1 times");
    some(&problems, "run.finished does not say pass");
}

#[test]
fn an_interrupted_run_verifies_with_the_code_of_its_signal() {
    for (signal, exit, sound) in [("SIGINT", 130, true), ("SIGTERM", 143, true), ("SIGINT", 143, false)] {
        let mut run = Run::new();
        let detail = json!({ "signal": signal });
        run.blockers(
            vec![Blocker::new(BlockerCode::Interrupted, "x", detail)],
            ExitCode::from_code(exit).unwrap(),
        );
        // The backend's end is the one that the supervisor had to write, and no test was reached.
        run.events.truncate(5);
        let refused = payload::policy_denied(&run.report.sandbox.denials[0]);
        run.events.push(refused);
        run.report.backend_exit_code = None;
        run.report.tests.status = TestStatus::NotRun;
        run.report.tests.exit_code = None;
        run.test_log = Vec::new();
        let result = run.write(|_| {}).verify();
        assert_eq!(result.valid, sound, "{signal} {exit}: {:#?}", result.problems);
    }
}

/// Everything below a value, by the way to it.
fn leaves(value: &serde_json::Value, path: &str, found: &mut Vec<String>) {
    use serde_json::Value as V;
    match value {
        V::Object(map) => map.iter().for_each(|(name, one)| leaves(one, &format!("{path}/{name}"), found)),
        V::Array(list) => {
            list.iter().enumerate().for_each(|(at, one)| leaves(one, &format!("{path}/{at}"), found));
            found.push(path.to_owned());
        }
        _ => found.push(path.to_owned()),
    }
}

/// A forger who renders `report.md` again as well: whatever one field says, something else says it too.
#[test]
fn no_field_of_a_report_can_be_changed_alone() {
    use serde_json::Value as V;
    let value = serde_json::to_value(&Run::new().report).unwrap();
    let mut paths = Vec::new();
    leaves(&value, "", &mut paths);
    let mut tried = 0;
    for path in paths {
        // Settled when everything is written; held by the tests of the manifest.
        if ["/digest_manifest", "/artifact_paths"].iter().any(|late| path.starts_with(late)) {
            continue;
        }
        let late = |report: &mut Report| {
            let mut value = serde_json::to_value(&*report).unwrap();
            let place = value.pointer_mut(&path).unwrap();
            *place = match place.take() {
                V::Bool(is) => V::Bool(!is),
                V::Number(number) => (number.as_u64().unwrap() + 1).into(),
                V::Array(_) => V::Array(vec![]),
                V::String(text) => match (path.as_str(), text.as_bytes()) {
                    ("/status", _) => "fail".into(),
                    ("/tests/status", _) => "off".into(),
                    ("/review/status", _) => "not_run".into(),
                    ("/freshness/nonce_source", _) => "self".into(),
                    (_, [b'0', ..]) => text.replacen('0', "1", 1).into(),
                    _ => format!("0{}", &text[1..]).into(),
                },
                other => other,
            };
            if let Ok(changed) = serde_json::from_value::<Report>(value)
                && changed != *report
            {
                *report = changed;
                tried += 1;
            } else {
                report.proctor_version = "0".into();
            }
        };
        let problems = Run::new().write_late(late, |_| {}).problems();
        assert!(!problems.is_empty(), "{path} can be changed");
    }
    assert!(tried > 60, "{tried} fields");
}

#[test]
fn both_sides_of_a_difference_are_named() {
    type Edit = Box<dyn FnOnce(&mut Report)>;
    let cases: Vec<(Edit, &str)> = vec![
        (
            Box::new(|r| r.sandbox.mechanisms.clear()),
            "sandbox.mechanisms is [], sandbox.ready says [\"landlock\"]",
        ),
        (Box::new(|r| r.sandbox.missing.clear()), "sandbox.missing is [], sandbox.ready says [\"memory"),
        (
            Box::new(|r| r.sandbox.network = "host".into()),
            "sandbox.network is \"host\", sandbox.ready says \"none\"",
        ),
        (
            Box::new(|r| r.sandbox.level = Some("x".into())),
            "sandbox.level is \"x\", sandbox.ready says \"full\"",
        ),
        (
            Box::new(|r| r.profile.name = "mine".into()),
            "profile.name is \"mine\", run.started says \"default\"",
        ),
        (Box::new(|r| r.task_sha256 = Some("x".into())), "task_sha256 is \"x\", run.started says null"),
        (Box::new(|r| r.host.cpus = 64), "host.cpus is 64, run.finished says 2"),
        (Box::new(|r| r.timings[0].start_us = 1), "timings[0].start_us is 1, run.finished says 100"),
        (Box::new(|r| r.freshness.boot_id = None), "freshness.boot_id is null, run.finished says"),
        (
            Box::new(|r| r.limits.get_mut("memory").unwrap().mechanism = "x".into()),
            "limits.memory.mechanism is \"x\", run.finished says \"supervisor\"",
        ),
        (Box::new(|r| r.git_changes.count = 3), "git_changes.json_sha256 is"),
        (
            Box::new(|r| r.usage.get_mut("backend").unwrap().output = Some(1)),
            "usage.backend.output is 1, the raw logs' size says 33",
        ),
        (
            Box::new(|r| r.test_inputs_changed = vec![PathText { path: "src/a.rs".into(), path_b64: None }]),
            "test_inputs_changed is [\"src/a.rs\"], changed_files says []",
        ),
        (
            Box::new(|r| r.decision.kind = "recorded".into()),
            "decision.kind is \"recorded\", decision.json says \"ungoverned\"",
        ),
        (Box::new(|r| r.decision.kind = "recorded".into()), "decision.recorded says [\"ungoverned\"]"),
        (
            Box::new(|r| r.review.command = Some("true".into())),
            "review.command is \"true\", run.finished says null",
        ),
        (Box::new(|r| r.review.exit_code = Some(0)), "review.exit_code is 0, review.completed says null"),
        (Box::new(|r| drop(r.artifact_paths.remove(REPORT))), "does not say where \"report.json\" is"),
        (Box::new(|r| r.exit_code = 5), "the exit code is 5, run.finished counts Some(0) defects"),
    ];
    for (edit, why) in cases {
        some(&Run::new().write(edit).problems(), why);
    }
}

#[test]
fn decision_trace_and_rendering_are_of_this_report() {
    for (field, value, why) in [
        ("run_id", "r-20260601T120000-abcdef", "decision.json says \"r-20260601T120000-abcdef\""),
        ("run_id", "x", "decision.json: is no decision/v1: \"x\" is no run id"),
        ("selected_backend", "codex", "engine.name is \"fake\", decision.json says \"codex\""),
        ("allowed_mutation_mode", "none", "mutation_mode is \"patch\", decision.json says \"none\""),
        ("stage", "candidate-default", "decision.json: kind is ungoverned, and it names a stage"),
        ("schema_version", "decision/v9", "decision.json: has schema_version \"decision/v9\""),
    ] {
        let mut run = Run::new();
        run.decision[field] = value.into();
        one(&run.write(|_| {}).problems(), why);
    }
    let mut run = Run::new();
    run.decision = json!([]);
    one(&run.write(|_| {}).problems(), "decision.json: is no decision/v1");
    let mut run = Run::new();
    run.trace_run = "r-20260601T120000-abcdef".into();
    one(&run.write(|_| {}).problems(), "trace.jsonl: line 1: is of run \"r-20260601T120000-abcdef\"");

    let written = Run::new().write_late(|report| report.host.cpus = 3, |_| {});
    one(&written.problems(), "host.cpus is 3");
    let said = Run::new().write(|report| report.timings.clear()).problems();
    some(&said, "report.md: is not what report.json renders to: line");
    // Another version may render it otherwise: that is said, and is no problem.
    let mut run = Run::new();
    run.report.proctor_version = "0.0.1".into();
    let result = run.write(|_| {}).verify();
    assert!(result.valid, "{:#?}", result.problems);
    assert!(result.not_compared[0].contains("was rendered by version 0.0.1"), "{:?}", result.not_compared);
}

#[test]
fn a_pass_needs_an_answer_to_every_request() {
    let request = |source, call: &str| NewEvent::new(EventType::ApprovalRequested, source).call(call);
    let grant = |call: &str| {
        NewEvent::new(EventType::ApprovalGranted, Source::Operator)
            .call(call)
            .with("id", call)
            .with("subject", "x")
            .with("subject_sha256", "y")
            .with("decided_by", "ann")
    };
    let granted = |call: &str| crate::report::ApprovalInfo {
        id: call.into(),
        asked_by: "backend".into(),
        subject: "x".into(),
        subject_sha256: Some("y".into()),
        outcome: "granted".into(),
        answered_by: Some("ann".into()),
        answered_at: None,
    };
    let run = |events: Vec<NewEvent>, calls: &[&str]| {
        let mut run = Run::new();
        run.events.splice(5..5, events);
        run.profile.approvals.mode = policy::EffectiveApprovalMode::Ask;
        run.report.approvals = calls.iter().map(|call| granted(call)).collect();
        run.write(|_| {}).problems()
    };
    let (backend, supervisor) = (Source::Backend, Source::Supervisor);
    assert_eq!(run(vec![request(backend, "a"), grant("a")], &["a"]), Vec::<String>::new());
    for source in [backend, supervisor] {
        some(&run(vec![request(source, "a")], &[]), "1 requests for approval have no answer");
    }
    let hidden = request(backend, "a").with("status", "interrupted");
    some(&run(vec![hidden], &[]), "1 requests for approval have no answer");
    some(&run(vec![grant("a"), request(backend, "a")], &["a"]), "follow no such request");
    some(&run(vec![request(backend, "a"), grant("b")], &["b"]), "1 requests for approval have no answer");
    some(&run(vec![request(backend, "a"), grant("a")], &[]), "has 1 events of an approval that the report");
    some(&run(vec![request(backend, "a"), grant("a")], &["a", "b"]), "1 of approvals stand in no event");
}

#[test]
fn a_blocker_says_what_its_event_said() {
    for (edit, why) in [
        ("message", "1 of blockers have no blocker.raised like them"),
        ("remedy", "raises 1 blockers that the report does not have as they are"),
    ] {
        let mut run = Run::new();
        run.blockers(vec![Blocker::new(BlockerCode::NoDiff, "x", json!({}))], ExitCode::Fail);
        let late = |report: &mut Report| match edit {
            "message" => report.blockers[0].message = "All is well.".into(),
            _ => report.blockers[0].remedy = "Merge it.".into(),
        };
        some(&run.write_late(late, |_| {}).problems(), why);
    }
}
