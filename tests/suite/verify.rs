//! `proctor verify` of evidence that somebody edited, who computed every digest again: what one part says, another
//! holds against it.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ::proctor::event::hex;
use ::proctor::report::{Report, markdown};
use harness::{Outcome, TestRepo};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::proctor;
use crate::support::{each, fake, passes, sh, verifies};

/// A copy of evidence, to be edited.
pub(crate) fn copy(outcome: &Outcome, repo: &TestRepo<'_>, name: &str) -> PathBuf {
    let to = repo.world().path(name);
    if to.exists() {
        std::fs::remove_dir_all(&to).unwrap();
    }
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(outcome.evidence()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    own(&to, repo);
    to
}

pub(crate) fn own(dir: &Path, repo: &TestRepo<'_>) {
    repo.world().user.own(dir);
    for entry in std::fs::read_dir(dir).unwrap() {
        repo.world().user.own(&entry.unwrap().path());
    }
}

/// Puts an edited report in place: `report.md` rendered from it, its digest and that of the report computed again.
pub(crate) fn forge(dir: &Path, report: &mut Report) {
    let name = "report.md";
    let mut draft = report.clone();
    draft.digest_manifest.retain(|one| one.name != name);
    let text = markdown::render(&draft);
    std::fs::write(dir.join(name), &text).unwrap();
    for one in report.digest_manifest.iter_mut().filter(|one| one.name == name) {
        one.digest.sha256 = hex::encode(&Sha256::digest(&text));
        one.annotations.size = text.len() as u64;
    }
    put(dir, report);
}

/// The same without `report.md`.
pub(crate) fn put(dir: &Path, report: &Report) {
    let bytes = report.to_json().unwrap();
    std::fs::write(dir.join("report.json"), &bytes).unwrap();
    let line = format!("{}  report.json\n", hex::encode(&Sha256::digest(&bytes)));
    std::fs::write(dir.join("report.json.sha256"), line).unwrap();
}

pub(crate) fn report(dir: &Path) -> Report {
    Report::from_json(&std::fs::read(dir.join("report.json")).unwrap()).unwrap()
}

/// What `verify` says of a directory, which must be that it is invalid.
pub(crate) fn refused(dir: &Path, repo: &TestRepo<'_>, more: &[&str]) -> String {
    let said = proctor(repo.world()).arg("verify").arg(dir).arg("--repo").arg(repo.path()).args(more).run();
    assert_eq!(said.code, Some(4), "{said:#?}");
    said.stderr
}

const REVIEW: &[&str] = &["--test", "sh check.sh", "--review", "echo accept $PROCTOR_PATCH_SHA256 >&3"];
const WORK: &str = "echo at work; mkdir -p tests; echo 1 > tests/t; sed -i s/broken/mended/ src/value.txt";

#[test]
fn an_edited_report_is_refused_with_both_sides_named() {
    type Edit = fn(&mut Report);
    let edits: &[(Edit, &str)] = &[
        (
            |r| r.sandbox.mechanisms.clear(),
            "sandbox.mechanisms is [], sandbox.ready says [\"user_namespace\"",
        ),
        (
            |r| r.sandbox.level = Some("landlock".into()),
            "sandbox.level is \"landlock\", sandbox.ready says \"full\"",
        ),
        (|r| r.sandbox.missing.push("x".into()), "sandbox.missing is"),
        (|r| r.sandbox.network = "host".into(), "sandbox.network is \"host\", sandbox.ready says \"none\""),
        (|r| r.profile.name = "strict".into(), "profile.name is \"strict\", run.started says \"default\""),
        (|r| r.profile.digest = "0".repeat(64), "profile.digest is \"00"),
        (|r| r.task_sha256 = Some("0".repeat(64)), "run.started says null"),
        (
            |r| r.review.command = Some("true".into()),
            "review.command is \"true\", review.started says \"echo",
        ),
        (|r| r.review.exit_code = Some(1), "review.exit_code is 1, review.completed says 0"),
        (
            |r| r.decision.kind = "recorded".into(),
            "decision.kind is \"recorded\", decision.json says \"ungoverned\"",
        ),
        (
            |r| r.usage.get_mut("backend").unwrap().output = Some(1),
            "usage.backend.output is 1, the raw logs' size says 8",
        ),
        (|r| r.test_inputs_changed.clear(), "test_inputs_changed is [], changed_files says ["),
        (|r| r.git_changes.count += 1, "git_changes.json_sha256 is"),
        (|r| r.limits.get_mut("wall").unwrap().value = Some(json!(1)), "limits"),
        (|r| r.timings.clear(), "timings is [], run.finished says"),
        (|r| r.host.kernel = "9.9".into(), "host.kernel is \"9.9\", run.finished says"),
        (|r| r.freshness.boot_id = None, "freshness.boot_id is null, run.finished says"),
        (|r| drop(r.artifact_paths.insert("report.json".into(), "x".into())), "artifact_paths says that"),
    ];
    each(|repo| {
        let outcome = sh(repo, REVIEW, WORK).run();
        passes(&outcome, repo);
        let dir = copy(&outcome, repo, "forged");
        let sound = report(&dir);
        // The forger's way of writing is Proctor's: with nothing edited it verifies.
        forge(&dir, &mut sound.clone());
        let said = proctor(repo.world()).arg("verify").arg(&dir).run();
        assert_eq!(said.code, Some(0), "{said:#?}");
        for (edit, why) in edits {
            let mut edited = sound.clone();
            edit(&mut edited);
            assert_ne!(edited, sound, "{why}");
            forge(&dir, &mut edited);
            let said = refused(&dir, repo, &[]);
            assert!(said.contains(why), "{why}: {said}");
        }
    });
}

#[test]
fn a_replaced_report_for_people_is_refused() {
    each(|repo| {
        let outcome = sh(repo, REVIEW, WORK).run();
        let dir = copy(&outcome, repo, "forged");
        let mut edited = report(&dir);
        let text = "# PASS\n\nTests: 9999 passed.\n";
        std::fs::write(dir.join("report.md"), text).unwrap();
        for one in edited.digest_manifest.iter_mut().filter(|one| one.name == "report.md") {
            one.digest.sha256 = hex::encode(&Sha256::digest(text));
            one.annotations.size = text.len() as u64;
        }
        put(&dir, &edited);
        let said = refused(&dir, repo, &[]);
        assert!(said.contains("report.md: is not what report.json renders to: line 3"), "{said}");
        // The time at which the run ended stands in both in the same words.
        let (md, json) = (outcome.text("report.md"), outcome.report());
        assert!(md.contains(json["run_end"].as_str().unwrap()), "{md}");
    });
}

#[test]
fn rules_are_evidence_and_are_held_against_what_was_done() {
    each(|repo| {
        let options = ["--test", "sh check.sh", "--deny-change", "docs/**", "--env", "TOKEN=hunter2hunter2"];
        let outcome = sh(repo, &options, WORK).run();
        passes(&outcome, repo);
        let rules = outcome.text("profile.json");
        let own = hex::encode(&Sha256::digest(&rules));
        assert_eq!(outcome.report()["profile"]["digest"], json!(own), "the file's SHA-256 is the digest");
        assert!(rules.contains(r#""deny":["docs/**"]"#) && !rules.contains("hunter2"), "{rules}");
        // Somebody swaps the rules for ones under which this run could not pass, every digest computed again.
        let dir = copy(&outcome, repo, "forged");
        let mut edited = report(&dir);
        let text = rules.replace("docs/**", "src/**");
        std::fs::write(dir.join("profile.json"), &text).unwrap();
        edited.profile.digest = hex::encode(&Sha256::digest(&text));
        for one in edited.digest_manifest.iter_mut().filter(|one| one.name == "profile.json") {
            one.digest.sha256.clone_from(&edited.profile.digest);
            one.annotations.size = text.len() as u64;
        }
        forge(&dir, &mut edited);
        let said = refused(&dir, repo, &[]);
        let why = "\"src/value.txt\" changed, which is not allowed (denied by --deny-change src/**), and no blocker says so";
        assert!(said.contains(why), "{said}");
        assert!(said.contains("profile.digest is"), "run.started says another: {said}");
    });
}

#[test]
fn approvals_that_the_events_hold_cannot_be_left_out() {
    each(|repo| {
        let outcome = fake(repo, &["--test", "sh check.sh", "--approvals", "deny"], "asks-and-goes-on").run();
        outcome.expect(1, &["approval_denied"]);
        let dir = copy(&outcome, repo, "forged");
        let mut edited = report(&dir);
        assert!(!edited.approvals.is_empty(), "{outcome:#?}");
        edited.approvals.clear();
        forge(&dir, &mut edited);
        let said = refused(&dir, repo, &[]);
        assert!(said.contains("events of an approval that the report does not have so"), "{said}");
        assert!(said.contains("approvals"), "{said}");
    });
}

#[test]
fn refused_runs_verify_and_sizes_are_held_before_anything_is_read() {
    each(|repo| {
        let outcome = sh(repo, &[], "true").run();
        outcome.expect(1, &["test_command_missing"]);
        verifies(&outcome, repo);
        let dir = copy(&outcome, repo, "large");
        let log = std::fs::File::options().write(true).open(dir.join("backend.stdout.log")).unwrap();
        log.write_all_at(b"x", 1 << 40).unwrap();
        let said = refused(&dir, repo, &[]);
        let why = "backend.stdout.log: has 1099511627777 bytes, more than the 68719476736 that are read";
        assert!(said.contains(why), "{said}");
        log.set_len(20 << 30).unwrap();
        let said = refused(&dir, repo, &[]);
        assert!(said.contains("has 21474836480 bytes, the manifest says 0"), "{said}");
        log.set_len(0).unwrap();
        let said = refused(&dir, repo, &["--max-bytes", "1"]);
        assert!(said.contains("that are read at most are left (--max-bytes)"), "{said}");
        let said = proctor(repo.world()).arg("verify").arg(&dir).args(["--max-bytes", "many"]).run();
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(said.stderr.contains("--max-bytes: `many` is not a size"), "{said:#?}");
        let said = proctor(repo.world()).args(["--json", "verify"]).arg(&dir).run();
        let said: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!((&said["valid"], &said["not_compared"]), (&json!(true), &json!([])), "{said:#}");
    });
}
