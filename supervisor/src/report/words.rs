//! What the renderings of a report say in the same words. Proctor's own words alone stand here: texts of others are
//! escaped where they are rendered, each rendering in its own way.

use super::{Report, ReviewStatus, TestStatus};
use crate::evidence::NonceSource;

/// What digests alone show.
pub(super) const AUTHENTICITY: &str = "Check this evidence with `proctor verify`: digests without a signature show that the parts fit together, not where they come from.";
/// Of evidence that holds a secret.
pub(super) const QUARANTINED: &str =
    "Quarantined: a secret stands in this evidence. Do not upload or share it.";
/// What becomes of a private `.git`.
pub(super) const GIT_CHANGES: &str = "None of it is carried anywhere: what counts is the difference between the base commit and the final tree.";
/// Where no stage is named.
pub(super) const UNGOVERNED: &str = "none (ungoverned)";
/// Where there is no level, because there was no sandbox.
pub(super) const NO_SANDBOX: &str = "none was made";
/// Of `--net host`.
pub(super) const HOST_NETWORK: &str = "the host's own network: a weakness";

/// What a pass proves, no more than that, and what to be warned of.
pub(super) fn what_a_pass_proves(report: &Report) -> (&'static str, Option<String>) {
    if report.tests.status != TestStatus::Passed {
        let said = "A pass of a run without tests proves only that the backend ended well and that its changes are allowed.";
        return (said, None);
    }
    let said = "A pass proves that the operator's test command exited 0 over the result tree, and no more: \
                the patch's own code ran inside the tests and could have faked their result.";
    let warning = match report.test_inputs_changed.len() {
        0 => return (said, None),
        1 => {
            "This patch changes 1 file that steers the tests: read it before you trust the result.".to_owned()
        }
        steering => format!(
            "This patch changes {steering} files that steer the tests: read them before you trust the result."
        ),
    };
    (said, Some(warning))
}

/// How a process ended.
pub(super) fn ended(exit_code: Option<i32>, signal: Option<i32>) -> String {
    match (exit_code, signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    }
}

/// What became of the tests.
pub(super) const fn tests(status: TestStatus) -> &'static str {
    match status {
        TestStatus::Passed => "passed",
        TestStatus::Failed => "failed",
        TestStatus::TimedOut => "timed out",
        TestStatus::NotRun => "not run",
        TestStatus::Off => "off (the operator said that nothing is tested)",
        TestStatus::Missing => "no command given",
    }
}

/// What became of the review.
pub(super) const fn review(status: ReviewStatus) -> &'static str {
    match status {
        ReviewStatus::Accepted => "accepted",
        ReviewStatus::Rejected => "rejected",
        ReviewStatus::TimedOut => "timed out",
        ReviewStatus::NotRun => "not run",
        ReviewStatus::Off => "none asked for",
    }
}

/// Where a nonce comes from.
pub(super) const fn nonce(source: NonceSource) -> &'static str {
    match source {
        NonceSource::Caller => "given by the caller",
        NonceSource::Own => "drawn by Proctor itself",
    }
}
