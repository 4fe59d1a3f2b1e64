//! Reviewer and approvals: who may say yes, to what, and what counts as a no.

use std::time::{Duration, Instant};

use harness::{Outcome, Proctor, TestRepo};
use serde_json::{Value, json};

use crate::support::{blocker, each, events, fails, fake, meanwhile_saying, passes, sh};

const TEST: &[&str] = &["--test", "sh check.sh"];
const MEND: &str = "echo mended > src/value.txt";
const ACCEPT: &str = r#"echo "accept $PROCTOR_PATCH_SHA256" >&3"#;

fn reviewed(repo: &TestRepo<'_>, review: &str, more: &[&str]) -> Outcome {
    let options: Vec<&str> = TEST.iter().copied().chain(["--review", review]).chain(more.iter().copied()).collect();
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
            fails(&outcome, repo, 1, &["reviewer_rejected"], &["reviewer:review.started", "reviewer:review.completed"]);
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
        // Descriptor 3 of the backend is nothing; what it prints or leaves is no word.
        let script = format!(
            "{MEND}; echo 'accept x' >&3; echo 'accept x'; printf '#!/bin/sh\\necho accept $PROCTOR_PATCH_SHA256 >&3\\n' > review.sh"
        );
        let options = ["--no-test", "--review", "sh /work-of-nobody/review.sh"];
        let outcome = sh(repo, &options, &script).run();
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
            &["approval_denied", "backend_failed", "backend_failed", "no_diff"],
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
        fails(&outcome, repo, 1, &["approval_denied"], &["approval.requested", "approval.denied"]);
        let digest = outcome.report()["approvals"][0]["subject_sha256"].clone();
        assert_eq!(digest.as_str().unwrap().len(), 64);
        // A change elsewhere asks nobody.
        let options = ["--test", "sh check.sh", "--ask-change", "docs/**"];
        passes(&sh(repo, &options, MEND).run(), repo);
    });
}

/// Waits for the request in the event log, and appends `answer` (made from the request) to the answer log.
fn answered(repo: &TestRepo<'_>, make: impl Fn(&[&str]) -> Proctor, answer: impl Fn(&str, &Value) -> Value) -> Outcome {
    let log = repo.world().write("answers.jsonl", "");
    let path = log.display().to_string();
    let mut evidence = repo.world().path("asked");
    let mut n = 0;
    while evidence.exists() {
        n += 1;
        evidence = repo.world().path(format!("asked-{n}"));
    }
    let place = evidence.display().to_string();
    let options = ["--approvals", &path, "--approval-timeout", "15s", "--evidence", &place];
    let child = make(&options).spawn();
    let deadline = Instant::now() + Duration::from_secs(15);
    let (run_id, data) = loop {
        assert!(Instant::now() < deadline, "nobody asked");
        if let Some(found) = request(&evidence) {
            break found;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let line = format!("{}\n", answer(&run_id, &data));
    std::fs::write(&log, line).expect("write");
    Outcome::of(child.wait_with_output().expect("waiting"))
}

/// The request as standard error shows it is for people; the event log has it too once its buffer is written.
fn request(evidence: &std::path::Path) -> Option<(String, Value)> {
    let text = std::fs::read_to_string(evidence.join("events.normalized.jsonl")).ok()?;
    text.lines().find_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["type"] == "approval.requested")
            .then(|| (event["run_id"].as_str().unwrap_or_default().to_owned(), event["data"].clone()))
    })
}
