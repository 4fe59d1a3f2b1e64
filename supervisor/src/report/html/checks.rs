//! How backend, tests and review ended, and what was asked of the operator.

use maud::{Markup, html};

use super::{Draft, bounded, clipped, code, logs, optional, rest, table, text, text_of};
use crate::evidence::{STDERR, STDOUT, TEST_LOG};
use crate::report::words::{self, ended};
use crate::report::{ApprovalInfo, ReviewStatus, TestStatus};
use crate::run::REVIEW_LOG;

/// Share of the page, bytes of markup, and most approvals.
const ROOM: usize = 200_000;
const MOST: usize = 200;

/// The section.
pub(super) fn section(draft: &Draft<'_>) -> Markup {
    let report = draft.report;
    let quarantined = report.quarantined;
    let tests = &report.tests;
    let test_mark = match tests.status {
        TestStatus::Passed => "good",
        TestStatus::Off => "none",
        TestStatus::Failed | TestStatus::TimedOut | TestStatus::NotRun | TestStatus::Missing => "bad",
    };
    let review = &report.review;
    let review_mark = match review.status {
        ReviewStatus::Accepted => "good",
        ReviewStatus::Off => "none",
        ReviewStatus::Rejected | ReviewStatus::TimedOut | ReviewStatus::NotRun => "bad",
    };
    let backend_mark = if report.backend_exit_code == Some(0) { "good" } else { "bad" };
    let ran = matches!(tests.status, TestStatus::Passed | TestStatus::Failed);
    html! {
        section #checks aria-labelledby="h-checks" {
            h2 #h-checks { "Backend, tests, review" }
            div.cards {
                div.card {
                    h3 { "Backend" }
                    p class={ "result " (backend_mark) } { (ended(report.backend_exit_code, report.backend_signal)) }
                    @if !quarantined { p { (log_link(STDOUT)) " " (log_link(STDERR)) } }
                }
                div.card {
                    h3 { "Tests" }
                    p class={ "result " (test_mark) } {
                        (words::tests(tests.status))
                        @if ran { ", " (ended(tests.exit_code, tests.signal)) }
                        (took(tests.duration_ms))
                    }
                    @if let Some(command) = &tests.command { p { code.command { (text_of(command, 500)) } } }
                    @if !quarantined { p { (log_link(TEST_LOG)) } }
                }
                div.card {
                    h3 { "Review" }
                    p class={ "result " (review_mark) } { (words::review(review.status)) (took(review.duration_ms)) }
                    @if let Some(command) = &review.command { p { code.command { (text_of(command, 500)) } } }
                    @let there = report.digest_manifest.iter().any(|one| one.name == REVIEW_LOG);
                    @if there && !quarantined { p { (log_link(REVIEW_LOG)) } }
                }
            }
            (approvals(draft))
        }
    }
}

/// To a log on this page: name and anchor are Proctor's own.
fn log_link(name: &'static str) -> Markup {
    html! { @if let Some(anchor) = logs::anchor(name) { a href={ "#" (anchor) } { (name) } } }
}

fn took(duration_ms: Option<u64>) -> Markup {
    html! { @if let Some(ms) = duration_ms { ", " (super::seconds(ms.saturating_mul(1000))) } }
}

fn approvals(draft: &Draft<'_>) -> Markup {
    let all = &draft.report.approvals;
    let (shown, left) = bounded(all, (MOST, ROOM), one);
    html! {
        @if !all.is_empty() {
            h3 { "Approvals " span.count { (all.len()) } }
            (table("Approvals", "list", &["Outcome", "What about", "Asked by", "Answered by", "When"], &shown))
            (rest(left, "approvals"))
        }
    }
}

fn one(approval: &ApprovalInfo) -> Markup {
    let mark = if approval.outcome == "granted" { "good" } else { "bad" };
    html! {
        tr {
            td { span class={ "result " (mark) } { (text(&approval.outcome)) } }
            td {
                (text_of(&approval.subject, 1000))
                @if let Some(digest) = &approval.subject_sha256 {
                    " " span.aside { "SHA-256 " code { (text(&clipped(digest, 12))) } }
                }
            }
            td { (text(&approval.asked_by)) }
            td { (optional(approval.answered_by.as_deref())) }
            td { @match &approval.answered_at { Some(at) => (code(at)), None => "–" } }
        }
    }
}
