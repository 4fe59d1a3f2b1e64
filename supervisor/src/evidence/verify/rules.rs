//! Whether the report stands under the rules of `profile.json`: its digest, what was asked for, and the judgement of
//! changes, approvals and events made once more from them. Nothing here opens anything.

use std::io::Read;

use serde::Serialize;
use serde_json::Value;

use super::super::{PATCH, PROFILE, REPORT};
use super::agree::Out;
use crate::changes::classify::ChangeRules;
use crate::changes::patch::skim::PathBytes;
use crate::event::{EventIndex, EventType, Source};
use crate::profile::engine::Phase;
use crate::profile::policy::{EffectiveApprovalMode, EffectiveProfile, EffectiveTestChoice, SCHEMA};
use crate::profile::{ChangePolicy, Level};
use crate::report::{Report, ReviewStatus, TestStatus};
use crate::verdict::{BlockerCode, Status};

/// The whole of `profile.json`; its size has been limited already.
pub(super) fn read(input: &mut impl Read) -> Result<EffectiveProfile, String> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    let profile: EffectiveProfile =
        serde_json::from_slice(&bytes).map_err(|error| format!("is no effective profile: {error}"))?;
    if profile.schema != SCHEMA {
        return Err(format!("is of schema {:?}, this version knows {SCHEMA}", profile.schema));
    }
    match profile.canonical() {
        Ok(text) if text.as_bytes() == bytes => Ok(profile),
        Ok(_) => Err("is not in its canonical form".to_owned()),
        Err(error) => Err(format!("has no canonical form: {error}")),
    }
}

pub(super) fn check(
    report: &Report,
    profile: &EffectiveProfile,
    index: Option<&EventIndex>,
    out: &mut Out<'_>,
) {
    let own = report.digest_manifest.iter().find(|one| one.name == PROFILE);
    if own.map(|one| one.digest.sha256.as_str()) != Some(report.profile.digest.as_str()) {
        out.add(REPORT, format!("profile.digest is not that of {PROFILE}"));
    }
    asked(report, profile, out);
    limits(report, profile, out);
    changes(report, profile, out);
    if profile.approvals.mode == EffectiveApprovalMode::Deny
        && report.approvals.iter().any(|one| one.outcome == "granted")
    {
        out.add(REPORT, format!("an approval was granted, and {PROFILE} has each request denied"));
    }
    if let Some(index) = index.filter(|_| report.status == Status::Pass) {
        required(report, profile, index, out);
    }
}

/// A word as `profile.json` has it.
fn word(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn differs(field: &str, here: &Value, there: &Value, out: &mut Out<'_>) {
    if here != there {
        out.add(REPORT, format!("{field} is {here}, {PROFILE} says {there}"));
    }
}

/// What was asked for.
fn asked(report: &Report, profile: &EffectiveProfile, out: &mut Out<'_>) {
    let net = word(profile.backend_sandbox.net);
    for (field, here, there) in [
        ("engine.name", Value::from(report.engine.name.as_str()), Value::from(profile.engine.name.as_str())),
        ("mutation_mode", Value::from(report.mutation_mode.as_str()), word(profile.mutation)),
        ("sandbox.network", Value::from(report.sandbox.network.as_str()), net),
        (
            "tests.command",
            Value::from(report.tests.command.clone()),
            Value::from(profile.test.command.clone()),
        ),
        (
            "review.command",
            Value::from(report.review.command.clone()),
            Value::from(profile.review.as_ref().map(|one| one.command.clone())),
        ),
    ] {
        differs(field, &here, &there, out);
    }
    let fits = match profile.test.choice {
        EffectiveTestChoice::Command => !matches!(report.tests.status, TestStatus::Off | TestStatus::Missing),
        EffectiveTestChoice::Off => report.tests.status == TestStatus::Off,
        EffectiveTestChoice::Missing => report.tests.status == TestStatus::Missing,
    };
    if !fits {
        let (status, choice) = (report.tests.status, profile.test.choice);
        out.add(REPORT, format!("tests.status is {status:?}, {PROFILE} says {choice:?}"));
    }
    if (report.review.status == ReviewStatus::Off) != profile.review.is_none() {
        out.add(REPORT, format!("review.status does not fit the reviewer of {PROFILE}"));
    }
    if profile.min_level == Level::Full && report.sandbox.level.as_deref().is_some_and(|one| one != "full") {
        out.add(REPORT, format!("sandbox.level is lower than {PROFILE} accepts"));
    }
}

/// Limits and times.
fn limits(report: &Report, profile: &EffectiveProfile, out: &mut Out<'_>) {
    let (limits, times) = (&profile.limits, &profile.timeouts_ms);
    // By the operator's word, and whether it is to be enforced or the run refused.
    let memory = (limits.memory.map(Value::from), limits.explicit.memory);
    let cpus = limits.cpus.as_deref().and_then(|text| text.parse::<f64>().ok());
    let own = |value: u64| (Some(Value::from(value)), false);
    for (name, (value, explicit)) in [
        ("memory", memory),
        ("pids", (Some(Value::from(limits.pids)), limits.explicit.pids)),
        ("cpus", (Some(cpus.map_or(Value::Null, Value::from)), limits.cpus.is_some())),
        ("disk", (None, limits.explicit.disk)),
        ("max_log", own(limits.max_log)),
        ("max_files", own(limits.max_files)),
        ("max_patch", own(limits.max_patch)),
        ("wall", own(times.wall)),
        ("idle", own(times.idle)),
        ("grace", own(times.grace)),
        ("test", own(times.test)),
        ("review", own(times.review)),
        ("approval", own(times.approval)),
    ] {
        let Some(said) = report.limits.get(name) else {
            out.add(REPORT, format!("limits has no {name:?}"));
            continue;
        };
        if let Some(value) = value {
            let here = said.value.clone().unwrap_or(Value::Null);
            differs(&format!("limits.{name}.value"), &here, &value, out);
        }
        if said.explicit != explicit {
            out.add(
                REPORT,
                format!("limits.{name}.explicit is {}, {PROFILE} says {explicit}", said.explicit),
            );
        }
        let held = !matches!(said.mechanism.as_str(), "none" | "watcher");
        if explicit && !held && matches!(name, "memory" | "pids" | "cpus") && report.status == Status::Pass {
            out.add(
                REPORT,
                format!("the status is pass, and nothing enforced the limit {name:?} that was set"),
            );
        }
    }
    let disk = report.limits.get("disk").and_then(|one| one.value.as_ref()).and_then(Value::as_u64);
    // Without the operator's word it is no more than the host has room for.
    if disk.is_some_and(|disk| disk > limits.disk || (limits.explicit.disk && disk != limits.disk)) {
        out.add(REPORT, format!("limits.disk.value is not what {PROFILE} says"));
    }
}

/// The path of a change, and the one that it had.
fn paths(report: &Report) -> impl Iterator<Item = Option<PathBytes>> {
    report.changed_files.iter().flat_map(|change| {
        let old = change.old_path.as_ref().map(|old| super::agree::exact(old, change.old_path_b64.as_ref()));
        std::iter::once(super::agree::exact(&change.path, change.path_b64.as_ref())).chain(old)
    })
}

/// Changes held against the globs once more.
fn changes(report: &Report, profile: &EffectiveProfile, out: &mut Out<'_>) {
    let globs = &profile.changes;
    let policy = ChangePolicy {
        allow: globs.allow.clone(),
        deny: globs.deny.clone(),
        ask: globs.ask.clone(),
        protect: globs.protect.clone(),
    };
    let rules = match ChangeRules::new(&policy, &profile.hide) {
        Ok(rules) => rules,
        Err(error) => return out.add(PROFILE, error.to_string()),
    };
    let blocked = |code| report.blockers.iter().any(|blocker| blocker.code == code);
    if !blocked(BlockerCode::DisallowedFile) {
        let refused = paths(report).find_map(|path| match path {
            // A path whose bytes are not known is told of where it is held against the patch.
            None => None,
            Some(path) => {
                let why = rules.refusals(&path).into_iter().next()?.1;
                Some((String::from_utf8_lossy(&path).into_owned(), why))
            }
        });
        if let Some((path, why)) = refused {
            out.add(
                REPORT,
                format!("{path:?} changed, which is not allowed ({why}), and no blocker says so"),
            );
        }
    }
    if report.status == Status::Pass
        && paths(report).flatten().any(|path| rules.ask.matching(&path).is_some())
    {
        let patch = report.digest_manifest.iter().find(|one| one.name == PATCH);
        let patch = patch.map(|one| one.digest.sha256.as_str());
        let granted = report.approvals.iter().any(|one| {
            one.asked_by == "supervisor"
                && one.outcome == "granted"
                && patch.is_some()
                && one.subject_sha256.as_deref() == patch
        });
        if !granted {
            out.add(REPORT, "the status is pass, and changes that need an approval of this patch have none");
        }
    }
}

/// Events that the engine's profile wants of a pass.
fn required(report: &Report, profile: &EffectiveProfile, index: &EventIndex, out: &mut Out<'_>) {
    for event in &profile.engine.required_events {
        let reached = match event.phase {
            Phase::Backend => true,
            Phase::Test => report.tests.status != TestStatus::Off,
            Phase::Review => report.review.status != ReviewStatus::Off,
        };
        let seen = EventType::from_name(&event.kind)
            .is_some_and(|kind| index.count(kind, Source::from(event.source)) > 0);
        if reached && !seen {
            let kind = &event.kind;
            out.add(
                REPORT,
                format!("the status is pass, and {kind:?}, which {PROFILE} requires, was not seen"),
            );
        }
    }
}
