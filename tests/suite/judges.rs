//! Reviewer and approvals: who may say yes, to what, and what counts as a no.

use std::io::{BufRead, BufReader};

use harness::{Outcome, Proctor, TestRepo};
use serde_json::{Value, json};

use crate::support::{blocker, each, events, fails, fake, fake_text, passes, sh};

const TEST: &[&str] = &["--test", "sh check.sh"];
const MEND: &str = "echo mended > src/value.txt";
const ACCEPT: &str = r#"echo "accept $PROCTOR_PATCH_SHA256" >&3"#;

fn reviewed(repo: &TestRepo<'_>, review: &str, more: &[&str]) -> Outcome {
    let options: Vec<&str> =
        TEST.iter().copied().chain(["--review", review]).chain(more.iter().copied()).collect();
    sh(repo, &options, MEND).run()
}

#[test]
fn the_word_with_the_patchs_digest_accepts() {
    each(|repo| {
        let outcome = reviewed(repo, ACCEPT, &[]);
        passes(&outcome, repo);
        let report = outcome.report();
        assert_eq!(report["review"]["status"], "accepted");
        let done = events(&outcome, "review.completed", "reviewer");
        assert_eq!(done[0]["data"]["accepted"], true);
    });
}

#[test]
fn everything_but_the_exact_word_rejects() {
    let ways = [
        ("exit 1", "exited with code 1"),
        ("true", "did not write"),
        ("echo accept >&3", "did not write"),
        (r#"echo "accept $PROCTOR_PATCH_SHA256""#, "did not write"),
        (r#"echo "accept 0$PROCTOR_PATCH_SHA256" >&3"#, "did not write"),
        ("echo accept $(echo x | sha256sum | cut -c1-64) >&3", "did not write"),
        (r#"echo "reject" >&3; echo "accept $PROCTOR_PATCH_SHA256" >&3"#, "did not write"),
        (r#"echo "accept $PROCTOR_PATCH_SHA256" >&3; exit 3"#, "exited with code 3"),
        (r#"echo "accept $PROCTOR_PATCH_SHA256" >&3; kill -9 $$"#, "signal 9"),
    ];
    for (review, why) in ways {
        each(|repo| {
            let outcome = reviewed(repo, review, &[]);
            fails(
                &outcome,
                repo,
                1,
                &["reviewer_rejected"],
                &["reviewer:review.started", "reviewer:review.completed"],
            );
            let said = blocker(&outcome, "reviewer_rejected").to_string();
            assert!(said.contains(why), "{review}: {said}");
            assert_eq!(outcome.report()["review"]["status"], "rejected");
        });
    }
}

#[test]
fn a_program_whose_exit_code_can_be_trusted_needs_no_word() {
    each(|repo| {
        passes(&reviewed(repo, "true", &["--review-by", "exit"]), repo);
        let outcome = reviewed(repo, "false", &["--review-by", "exit"]);
        fails(&outcome, repo, 1, &["reviewer_rejected"], &["reviewer:review.completed"]);
    });
}

#[test]
fn the_reviewer_reads_the_patch_over_a_tree_that_it_cannot_write() {
    each(|repo| {
        let review = format!(
            "cat > /tmp/patch && test \"$(sha256sum < /tmp/patch | cut -c1-64)\" = \"$PROCTOR_PATCH_SHA256\" && \
             grep -q '^+mended' /tmp/patch && grep -qx mended src/value.txt && ! touch src/value.txt 2>/dev/null && \
             test -z \"$SECRET$PROCTOR_TASK\" && {ACCEPT}"
        );
        let outcome = reviewed(repo, &review, &["--env", "SECRET=x", "--task", "mend it"]);
        passes(&outcome, repo);
    });
}

#[test]
fn a_backend_cannot_accept_its_own_patch() {
    each(|repo| {
        // Descriptor 3 of the backend is nothing, what it prints is no word, and the reviewer says none.
        let script =
            format!("{MEND}; for fd in 1 2 3 4 5; do eval \"echo accept x >&$fd\" 2>/dev/null; done; true");
        let outcome = sh(repo, &["--no-test", "--review", "cat"], &script).run();
        fails(&outcome, repo, 1, &["reviewer_rejected"], &["reviewer:review.completed"]);
    });
}

#[test]
fn a_denied_request_is_a_blocker_even_where_the_backend_goes_on() {
    each(|repo| {
        let outcome = fake(repo, TEST, "asks").run();
        fails(
            &outcome,
            repo,
            1,
            &["backend_failed", "no_diff", "approval_denied"],
            &["backend:approval.requested", "approval.denied", "backend:turn.failed"],
        );
        let outcome = fake(repo, TEST, "asks-and-goes-on").run();
        fails(&outcome, repo, 1, &["approval_denied"], &["backend:approval.requested", "approval.denied"]);
        let approvals = outcome.report()["approvals"].clone();
        assert_eq!(approvals[0]["outcome"], "denied");
        assert_eq!(approvals[0]["answered_by"], "policy");
    });
}

#[test]
fn changes_to_ask_about_are_denied_where_nobody_answers() {
    each(|repo| {
        let options = ["--test", "sh check.sh", "--ask-change", "src/**"];
        let outcome = sh(repo, &options, MEND).run();
        fails(&outcome, repo, 1, &["approval_denied"], &["approval.denied"]);
        let digest = outcome.report()["approvals"][0]["subject_sha256"].clone();
        assert_eq!(digest.as_str().unwrap().len(), 64);
        // A change elsewhere asks nobody.
        let options = ["--test", "sh check.sh", "--ask-change", "docs/**"];
        passes(&sh(repo, &options, MEND).run(), repo);
    });
}

/// Runs with an answer log; once Proctor says what an answer looks like, `answer` makes of it what is appended.
pub(crate) fn answered(proctor: Proctor, repo: &TestRepo<'_>, answer: impl Fn(Value) -> String) -> Outcome {
    let log = repo.world().path("answers.jsonl");
    let mut child = proctor.spawn();
    let mut lines = BufReader::new(child.stderr.take().expect("standard error")).lines();
    let mut seen = String::new();
    for line in lines.by_ref() {
        let line = line.expect("a line");
        seen.push_str(&line);
        seen.push('\n');
        if let Ok(template) = serde_json::from_str::<Value>(line.trim()) {
            std::fs::write(&log, answer(template)).expect("write");
            break;
        }
    }
    for line in lines {
        seen.push_str(&line.expect("a line"));
        seen.push('\n');
    }
    let mut outcome = Outcome::of(child.wait_with_output().expect("waiting"));
    outcome.stderr = seen;
    outcome
}

fn asking(repo: &TestRepo<'_>, more: &[&str], scenario: &str) -> Proctor {
    let log = repo.world().write("answers.jsonl", "").display().to_string();
    let options: Vec<&str> =
        TEST.iter().copied().chain(["--approvals", &log]).chain(more.iter().copied()).collect();
    fake(repo, &options, scenario)
}

/// An answer: the template that Proctor showed, with some fields changed.
pub(crate) fn line(mut template: Value, changes: Value) -> String {
    for (key, value) in changes.as_object().expect("an object") {
        template[key] = value.clone();
    }
    format!("{template}\n")
}

#[test]
fn a_grant_in_the_answer_log_lets_the_backend_go_on() {
    each(|repo| {
        let outcome = answered(asking(repo, &[], "asks"), repo, |t| line(t, json!({ "by": "ann" })));
        passes(&outcome, repo);
        assert_eq!(outcome.report()["approvals"][0]["answered_by"], "ann");
        assert_eq!(events(&outcome, "approval.granted", "operator").len(), 1);
    });
}

#[test]
fn a_denial_in_the_answer_log_names_who_denied() {
    each(|repo| {
        let outcome = answered(asking(repo, &[], "asks-and-goes-on"), repo, |t| {
            line(t, json!({ "by": "ann", "decision": "deny" }))
        });
        fails(&outcome, repo, 1, &["approval_denied"], &["operator:approval.denied"]);
        assert_eq!(blocker(&outcome, "approval_denied")["detail"]["by"], "ann");
    });
}

#[test]
fn an_answer_about_something_else_is_no_answer() {
    let wrong = [
        json!({ "run_id": "r-20260101T000000-aaaaaa" }),
        json!({ "request_id": "ask-2" }),
        json!({ "subject_sha256": "00" }),
        json!({ "decision": "maybe" }),
        json!({ "more": 1 }),
    ];
    each(|repo| {
        let outcome =
            answered(asking(repo, &["--approval-timeout", "400ms"], "asks-and-goes-on"), repo, |t| {
                let mut text: String = wrong.iter().map(|w| line(t.clone(), w.clone())).collect();
                // A line without its end is not yet an answer.
                text.push_str(line(t, json!({})).trim_end());
                text
            });
        fails(&outcome, repo, 1, &["timeout", "approval_denied"], &["approval.denied", "timeout.expired"]);
        assert_eq!(events(&outcome, "timeout.expired", "supervisor")[0]["data"]["phase"], "approval");
        assert_eq!(outcome.report()["approvals"][0]["outcome"], "expired");
    });
}

#[test]
fn an_approval_of_changes_is_bound_to_the_patch() {
    each(|repo| {
        let log = repo.world().write("answers.jsonl", "").display().to_string();
        let options = ["--test", "sh check.sh", "--ask-change", "src/**", "--approvals", &log];
        let outcome = answered(sh(repo, &options, MEND), repo, |t| {
            assert_eq!(t["request_id"], "changes");
            line(t, json!({ "by": "ann" }))
        });
        passes(&outcome, repo);
        let approval = outcome.report()["approvals"][0].clone();
        assert_eq!(approval["asked_by"], "supervisor");
        let manifest = outcome.report()["digest_manifest"].clone();
        let patch = manifest.as_array().unwrap().iter().find(|a| a["name"] == "patch.diff").unwrap();
        assert_eq!(approval["subject_sha256"], patch["digest"]["sha256"]);

        // The same answer again is an answer to another run.
        let again = std::fs::read_to_string(&log).unwrap();
        let options = [&options[..], &["--approval-timeout", "300ms"]].concat();
        let outcome = answered(sh(repo, &options, MEND), repo, |_| again.clone());
        fails(&outcome, repo, 1, &["timeout", "approval_denied"], &["approval.requested", "approval.denied"]);
    });
}

/// Asks, and answers itself in every way it can think of: the log's path, made inside; events; standard output.
const ANSWERS_ITSELF: &str = r#"
[[step]]
do = "emit"
event = "turn.started"

[[step]]
do = "shell"
command = '''
sum=$(printf %s 'rewrite it' | sha256sum | cut -c1-64)
mkdir -p "$(dirname LOG)" 2>/dev/null
echo "{\"run_id\":\"RUN\",\"request_id\":\"a\",\"subject_sha256\":\"$sum\",\"decision\":\"grant\",\"by\":\"ann\"}" | tee -a LOG
echo mended > src/value.txt
'''

[[step]]
do = "emit"
event = "approval.granted"
data = { id = "a" }

[[step]]
do = "ask"
id = "a"
subject = "rewrite it"
whatever = true

[[step]]
do = "emit"
event = "turn.completed"
"#;

#[test]
fn a_backend_cannot_answer_its_own_request() {
    each(|repo| {
        let log = repo.world().write("answers.jsonl", "").display().to_string();
        let options = ["--test", "sh check.sh", "--approvals", &log, "--approval-timeout", "300ms"];
        let outcome = fake_text(repo, &options, &ANSWERS_ITSELF.replace("LOG", &log)).run();
        fails(&outcome, repo, 1, &["timeout", "approval_denied"], &["approval.denied"]);
        assert!(events(&outcome, "approval.granted", "operator").is_empty());
        assert_eq!(std::fs::read(&log).unwrap(), b"", "the real log is untouched");
    });
}

#[test]
fn many_requests_are_all_denied_by_who_denies_them_and_do_not_flood_who_watches() {
    each(|repo| {
        let scenario = r#"
            [[step]]
            do = "shell"
            command = """echo mended > src/value.txt; echo '{"fake":"turn.started"}'
            seq 60 | sed 's/.*/{"fake":"approval.requested","id":"n&","subject":"rm -rf &"}/'; echo '{"fake":"turn.completed"}'"""
        "#;
        let outcome = fake_text(repo, &["--no-test"], scenario).run();
        let all = ["approval_denied"; 60];
        fails(&outcome, repo, 1, &all, &["backend:approval.requested", "approval.denied"]);
        let report = outcome.report();
        let became: Vec<&Value> =
            report["approvals"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
        assert_eq!(became, vec!["denied"; 60], "whether its backend waited or not");
        for what in ["approval.requested", "approval.denied"] {
            let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(what)).collect();
            assert_eq!(lines.len(), 21, "{what}: {lines:#?}");
            assert!(lines[20].ends_with(&format!("{what}: 40 more")), "{lines:#?}");
        }
    });
}

#[test]
fn a_request_that_nobody_answered_is_no_pass_though_the_backend_goes_on() {
    each(|repo| {
        let answers = repo.world().write("answers", "");
        let scenario = r#"
            [[step]]
            do = "shell"
            command = """echo '{"fake":"turn.started"}'; echo '{"fake":"approval.requested","id":"x","subject":"rm -rf prod"}'
            sleep 0.3; echo mended > src/value.txt; echo '{"fake":"turn.completed"}'"""
        "#;
        let options = ["--no-test", "--approvals", &answers.to_string_lossy()];
        let outcome = fake_text(repo, &options, scenario).run();
        fails(&outcome, repo, 1, &["approval_denied"], &["approval.denied"]);
    });
}
