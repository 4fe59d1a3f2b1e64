//! What the renderings show of a report whose evidence holds a secret: everything but texts that a backend, a repository
//! or a command line chose, in any of which the secret may stand. The report itself keeps them. The rule asks the report
//! alone, so that whoever renders it again, without knowing the secret, gets the same.

use std::borrow::Cow;

use serde_json::json;

use super::{PathText, Report};
use crate::verdict::{BlockerCode, remedy};

/// What stands in the place of a text.
pub const WITHHELD: &str = "(withheld)";

/// The report as it is rendered: itself, unless it is quarantined.
#[must_use]
pub fn shown(report: &Report) -> Cow<'_, Report> {
    if !report.quarantined {
        return Cow::Borrowed(report);
    }
    let mut shown = report.clone();
    withhold(&mut shown);
    Cow::Owned(shown)
}

fn withhold(report: &mut Report) {
    let hide = |text: &mut String| WITHHELD.clone_into(text);
    let hide_some = |text: &mut Option<String>| text.iter_mut().for_each(hide);
    for change in &mut report.changed_files {
        hide(&mut change.path);
        hide_some(&mut change.old_path);
        hide_some(&mut change.not_in_patch);
        (change.path_b64, change.old_path_b64) = (None, None);
    }
    let lists = [&mut report.ignored_changes, &mut report.git_changes.paths, &mut report.test_inputs_changed];
    for path in lists.into_iter().flatten() {
        *path = PathText { path: WITHHELD.to_owned(), path_b64: None };
    }
    report.engine.argv = vec![WITHHELD.to_owned()];
    hide(&mut report.profile.name);
    hide(&mut report.freshness.nonce);
    let texts = [&mut report.engine.version, &mut report.tests.command, &mut report.review.command];
    texts.into_iter().for_each(hide_some);
    for approval in &mut report.approvals {
        hide(&mut approval.id);
        hide(&mut approval.subject);
        hide_some(&mut approval.answered_by);
    }
    report.provider.allowed_hosts.iter_mut().for_each(hide);
    hide_some(&mut report.sandbox.why_not_full);
    report.sandbox.missing.iter_mut().for_each(hide);
    for denial in &mut report.sandbox.denials {
        let texts = [&mut denial.address, &mut denial.program, &mut denial.argv0, &mut denial.path];
        texts.into_iter().for_each(hide_some);
        denial.path_b64 = None;
    }
    // The finding itself names variables and artifacts alone.
    for blocker in report.blockers.iter_mut().filter(|one| one.code != BlockerCode::SecretInEvidence) {
        blocker.detail = json!({ "detail": WITHHELD });
        // What is added to a code's own remedy can quote what was tried.
        blocker.remedy = remedy(blocker.code).to_owned();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{ApprovalInfo, ChangeKind, html, markdown, sample, terminal};
    use super::*;
    use crate::verdict::Blocker;

    const SECRET: &str = "topsecretvalue";

    /// In every field of the report whose text is not Proctor's own.
    fn full() -> Report {
        let mut report = sample::report();
        let path = || PathText { path: format!("a/{SECRET}"), path_b64: None };
        report.changed_files = vec![sample::change(SECRET, ChangeKind::Renamed)];
        report.changed_files[0].old_path = Some(SECRET.into());
        report.changed_files[0].not_in_patch = Some(SECRET.into());
        report.ignored_changes = vec![path()];
        report.git_changes.count = 1;
        report.git_changes.paths = vec![path()];
        report.test_inputs_changed = vec![path()];
        report.engine.argv = vec!["sh".into(), SECRET.into()];
        report.engine.version = Some(SECRET.into());
        report.profile.name = SECRET.into();
        report.freshness.nonce = SECRET.into();
        report.tests.command = Some(SECRET.into());
        report.review.command = Some(SECRET.into());
        report.approvals = vec![ApprovalInfo {
            id: SECRET.into(),
            asked_by: "backend".into(),
            subject: SECRET.into(),
            subject_sha256: None,
            outcome: "denied".into(),
            answered_by: Some(SECRET.into()),
            answered_at: None,
        }];
        report.provider.allowed_hosts = vec![SECRET.into()];
        report.sandbox.why_not_full = Some(SECRET.into());
        report.sandbox.missing = vec![SECRET.into()];
        let denial = &mut report.sandbox.denials[0];
        for text in [&mut denial.address, &mut denial.program, &mut denial.argv0, &mut denial.path] {
            *text = Some(SECRET.into());
        }
        let finding = json!({ "findings": { "listed": [{ "artifact": "report.json", "secret": "TOKEN" }], "total": 1 } });
        report.blockers = vec![
            Blocker::new(BlockerCode::DisallowedFile, "No.", json!({ "path": SECRET }))
                .with_remedy(format!("It tried {SECRET}.")),
            Blocker::new(BlockerCode::SecretInEvidence, "One.", finding),
        ];
        report
    }

    fn renderings(report: &Report) -> [String; 3] {
        [markdown::render(report), terminal::summary(report, None), html::render(report, &Nothing)]
    }

    struct Nothing;

    impl html::Artifacts for Nothing {
        fn open(&self, _: &str) -> Option<(std::fs::File, u64)> {
            None
        }
    }

    #[test]
    fn a_quarantined_report_is_rendered_without_texts_of_others_and_names_the_finding() {
        let mut report = full();
        for shown in renderings(&report) {
            assert!(shown.contains(SECRET), "the test finds it where it is: {shown}");
        }
        report.quarantined = true;
        for shown in renderings(&report) {
            assert!(!shown.contains(SECRET), "{shown}");
            assert!(shown.contains("withheld") && shown.contains("TOKEN"), "{shown}");
        }
    }

    #[test]
    fn no_text_of_the_report_is_forgotten() {
        let mut report = full();
        report.quarantined = true;
        let value: Value = serde_json::to_value(shown(&report)).unwrap();
        assert!(!value.to_string().contains(SECRET), "{value:#}");
        report.quarantined = false;
        assert_eq!(*shown(&report), report);
    }
}
