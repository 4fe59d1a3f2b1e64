//! What `profile.json` allows and asks for, held against the rest: each rule broken once by a forger who computes
//! every digest again.

use serde_json::json;

use super::*;
use crate::profile::engine::{EventSource, Phase, RequiredEvent};
use crate::profile::policy::{
    EffectiveApprovalMode, EffectiveReview, EffectiveReviewBy, EffectiveTestChoice,
};
use crate::profile::{Level, MutationMode, Network};
use crate::report::ApprovalInfo;
use crate::verdict::BlockerCode;

fn problems(edit: impl FnOnce(&mut Run)) -> Vec<String> {
    let mut run = Run::new();
    edit(&mut run);
    run.write(|_| {}).problems()
}

#[test]
fn what_was_asked_for_is_what_the_report_says() {
    type Edit = fn(&mut EffectiveProfile);
    let edits: &[(Edit, &str)] = &[
        (|p| p.engine.name = "command".into(), "engine.name is \"fake\", profile.json says \"command\""),
        (|p| p.mutation = MutationMode::Discard, "mutation_mode is \"patch\", profile.json says \"discard\""),
        (
            |p| p.backend_sandbox.net = Network::Host,
            "sandbox.network is \"none\", profile.json says \"host\"",
        ),
        (
            |p| p.test.command = Some("true".into()),
            "tests.command is \"make test\", profile.json says \"true\"",
        ),
        (|p| p.test.choice = EffectiveTestChoice::Off, "tests.status is Passed, profile.json says Off"),
        (|p| p.limits.memory = Some(2048), "limits.memory.value is 1024, profile.json says 2048"),
        (|p| p.limits.explicit.pids = true, "limits.pids.explicit is false, profile.json says true"),
        (|p| p.limits.cpus = Some("1.5".into()), "limits.cpus.value is null, profile.json says 1.5"),
        (|p| p.limits.disk = 100, "limits.disk.value is not what profile.json says"),
        (|p| p.timeouts_ms.idle = 1, "limits.idle.value is 900, profile.json says 1"),
        (
            |p| p.hide = vec!["src/**".into()],
            "\"src/a.rs\" changed, which is not allowed (hidden by --hide src/**",
        ),
        (|p| p.changes.protect = vec!["SRC/*".into()], "which is not allowed (protected by SRC/*)"),
        (|p| p.changes.deny = vec!["*.rs".into()], "which is not allowed (denied by --deny-change *.rs)"),
        (
            |p| p.changes.allow = vec!["docs/**".into()],
            "which is not allowed (matched by no --allow-change glob)",
        ),
        (|p| p.changes.ask = vec!["src/**".into()], "changes that need an approval of this patch have none"),
        (|p| p.changes.allow = vec!["[".into()], "profile.json: the glob \"[\" cannot be used"),
    ];
    for (edit, why) in edits {
        some(&problems(|run| edit(&mut run.profile)), why);
    }
    let review = EffectiveReview { command: "true".into(), by: EffectiveReviewBy::Exit };
    let said = problems(|run| run.profile.review = Some(review));
    some(&said, "review.command is null, profile.json says \"true\"");
    some(&said, "review.status does not fit the reviewer of profile.json");
    some(&problems(|run| drop(run.report.limits.remove("wall"))), "limits has no \"wall\"");
}

#[test]
fn a_lower_level_and_a_limit_that_nothing_held_are_no_pass() {
    let lower = |run: &mut Run| run.report.sandbox.level = Some("landlock".into());
    some(&problems(lower), "sandbox.level is lower than profile.json accepts");
    let accepted = problems(|run| {
        lower(run);
        run.profile.min_level = Level::Landlock;
    });
    assert!(!accepted.iter().any(|one| one.contains("lower than")), "{accepted:#?}");
    let unheld = |run: &mut Run| run.report.limits.get_mut("memory").unwrap().mechanism = "watcher".into();
    some(&problems(unheld), "the status is pass, and nothing enforced the limit \"memory\" that was set");
}

#[test]
fn an_approval_is_of_this_patch_and_was_possible() {
    let approval = |sha256: String| ApprovalInfo {
        id: "changes".into(),
        asked_by: "supervisor".into(),
        subject: "changes to src/a.rs".into(),
        subject_sha256: Some(sha256),
        outcome: "granted".into(),
        answered_by: Some("ann".into()),
        answered_at: None,
    };
    let with = |sha256: String, mode| {
        problems(|run| {
            run.profile.changes.ask = vec!["src/**".into()];
            run.profile.approvals.mode = mode;
            run.report.approvals = vec![approval(sha256)];
        })
    };
    let none = "changes that need an approval of this patch have none";
    let right = policy::digest(PATCH_TEXT);
    some(&with("0".repeat(64), EffectiveApprovalMode::Ask), none);
    let said = with(right.clone(), EffectiveApprovalMode::Ask);
    assert!(!said.iter().any(|one| one.contains(none)), "{said:#?}");
    some(
        &with(right, EffectiveApprovalMode::Deny),
        "an approval was granted, and profile.json has each request denied",
    );
}

#[test]
fn events_that_the_engine_must_show_were_seen() {
    let wanted = |kind: &str, source| RequiredEvent { phase: Phase::Backend, kind: kind.into(), source };
    let with = |event: RequiredEvent| problems(|run| run.profile.engine.required_events = vec![event]);
    assert_eq!(with(wanted("message", EventSource::Backend)), Vec::<String>::new());
    one(
        &with(wanted("turn.completed", EventSource::Backend)),
        "the status is pass, and \"turn.completed\", which profile.json requires, was not seen",
    );
    // A claim is no observation.
    one(&with(wanted("message", EventSource::Supervisor)), "\"message\", which profile.json requires");
    one(&with(wanted("no.such", EventSource::Backend)), "\"no.such\", which profile.json requires");
}

#[test]
fn a_disallowed_change_that_a_blocker_names_is_told_truly() {
    let said = problems(|run| {
        run.profile.changes.deny = vec!["*.rs".into()];
        run.blockers(vec![Blocker::new(BlockerCode::DisallowedFile, "x", json!({}))], ExitCode::Fail);
    });
    assert_eq!(said, Vec::<String>::new());
}

#[test]
fn another_form_of_the_profile_is_none() {
    let text = policy::sample().canonical().unwrap();
    let with = |text: String| problems(|run| run.profile_text = Some(text));
    one(&with(format!("{text}\n")), "profile.json: is not in its canonical form");
    one(
        &with(text.replacen('{', "{\"x\":1,", 1)),
        "profile.json: is no effective profile: unknown field `x`",
    );
    one(
        &with(text.replace("profile/v1", "profile/v2")),
        "is of schema \"effective-profile/v2\", this version knows effective-profile/v1",
    );
    one(
        &with(text.replacen("\"gated\":false", "\"gated\":false,\"gated\":true", 1)),
        "duplicate field `gated`",
    );
    let mut run = Run::new();
    run.profile.limits.pids = 64;
    let written = run.write(|report| report.profile.digest = "0".repeat(64));
    some(&written.problems(), "report.json: profile.digest is not that of profile.json");
}
