//! The effective profile (`profile.json`) as canonical JSON, and its digest: what identifies a profile in reports and
//! comparisons, and by which a reader of evidence sees under which rules a run stood.
//!
//! In it: everything that decides what a backend may do and how it is judged. Not in it: what differs from run to
//! run (repository, task, command, evidence directory, nonce), how the report is shown, where values came from, and the values of variables:
//! of those that were set their SHA-256 (who may have put a secret there has not published it), of passed ones
//! the name alone. A default that depends on the host is left out, so that the same profile has the same digest on
//! every host.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::schema::kinds;

use super::engine::{EngineProfile, RequiredEvent};
use super::{
    Approvals, CheckSandbox, LayerPlace, Level, MountMode, MountRule, MutationMode, Network, RunOptions,
    TestChoice,
};

/// The schema of the effective profile.
pub const SCHEMA: &str = "effective-profile/v1";

/// The effective profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveProfile {
    /// `effective-profile/v1`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// What the registry says of the engine.
    pub engine: EffectiveEngine,
    /// What may become of the changes.
    pub mutation: MutationMode,
    /// Globs for changes.
    pub changes: EffectiveChanges,
    /// Globs of paths that no sandbox shows.
    pub hide: Vec<String>,
    /// How the result is tested.
    pub test: EffectiveTest,
    /// How it is reviewed; null without a reviewer.
    pub review: Option<EffectiveReview>,
    /// Times, milliseconds.
    pub timeouts_ms: EffectiveTimeouts,
    /// Limits.
    pub limits: EffectiveLimits,
    /// Toolchain views, in their order.
    pub views: Vec<String>,
    /// The lowest sandbox level that is accepted.
    pub min_level: Level,
    /// Where layers lie.
    pub layer: LayerPlace,
    /// The backend's sandbox.
    pub backend_sandbox: EffectiveSandbox,
    /// The test's.
    pub test_sandbox: EffectiveSandbox,
    /// The reviewer's.
    pub review_sandbox: EffectiveSandbox,
    /// How requests for approval are answered: `ask`, `deny` or `file`.
    pub approvals: EffectiveApprovals,
}

/// What the registry says of an engine, as far as it decides anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveEngine {
    /// Its name.
    pub name: String,
    /// Refused unless the operator enabled it.
    pub gated: bool,
    /// Events without which a run is no pass.
    pub required_events: Vec<RequiredEvent>,
    /// Its own paths in the work tree: private mounts, outside of the patch.
    pub scratch: Vec<String>,
    /// Paths in the work tree that would steer it: masked.
    pub masked: Vec<String>,
}

/// Globs that changes are held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveChanges {
    /// A change must match one of these.
    pub allow: Vec<String>,
    /// And none of these.
    pub deny: Vec<String>,
    /// A change here needs the operator's approval.
    pub ask: Vec<String>,
    /// No change here, case-folded.
    pub protect: Vec<String>,
}

/// How the result is tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveTest {
    /// `command`, `off` or `missing`.
    pub choice: EffectiveTestChoice,
    /// The command.
    pub command: Option<String>,
}

/// Whether there is a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EffectiveTestChoice {
    /// A command.
    Command,
    /// `--no-test`.
    Off,
    /// Neither was said.
    Missing,
}

/// How the result is reviewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveReview {
    /// The command.
    pub command: String,
    /// What accepts.
    pub by: EffectiveReviewBy,
}

/// What accepts in a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EffectiveReviewBy {
    /// Exit code 0 and the patch's digest.
    Digest,
    /// Exit code 0 alone.
    Exit,
}

/// Times, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveTimeouts {
    /// The backend, from start to end.
    pub wall: u64,
    /// The backend, without output.
    pub idle: u64,
    /// Between SIGTERM and SIGKILL.
    pub grace: u64,
    /// The test command.
    pub test: u64,
    /// The reviewer.
    pub review: u64,
    /// One request for approval.
    pub approval: u64,
}

/// Limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveLimits {
    /// Bytes; null is half of the host's memory.
    pub memory: Option<u64>,
    /// Tasks.
    pub pids: u64,
    /// CPUs, as a decimal number (a canonical form has no fractions); null is all.
    pub cpus: Option<String>,
    /// Bytes.
    pub disk: u64,
    /// Bytes of each raw log.
    pub max_log: u64,
    /// Changed files.
    pub max_files: u64,
    /// Bytes of the patch.
    pub max_patch: u64,
    /// Which of those that can fail to be enforced the operator set.
    pub explicit: EffectiveExplicit,
}

/// Whether the operator set a limit: then it is enforced, or the run refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveExplicit {
    /// Memory.
    pub memory: bool,
    /// Tasks.
    pub pids: bool,
    /// Disk.
    pub disk: bool,
}

/// What one sandbox has of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveSandbox {
    /// Network.
    pub net: Network,
    /// Mounts beyond the work tree, in their order.
    pub mounts: Vec<EffectiveMount>,
    /// SHA-256 of the value of each variable that was set, by name.
    #[schemars(with = "kinds::MapOf<kinds::VariableName, kinds::Sha256>")]
    pub env_sha256: BTreeMap<String, String>,
    /// Variables whose values were passed from outside.
    pub pass_env: Vec<String>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveMount {
    /// Where, outside as inside; what is not UTF-8 stands as U+FFFD.
    pub path: String,
    /// How.
    pub mode: MountMode,
    /// It may be absent.
    pub optional: bool,
}

/// How requests for approval are answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectiveApprovals {
    /// By whom.
    pub mode: EffectiveApprovalMode,
    /// The answer log; what is not UTF-8 stands as U+FFFD.
    pub file: Option<String>,
}

/// Who answers requests for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EffectiveApprovalMode {
    /// The controlling terminal.
    Ask,
    /// Nobody: each is denied.
    Deny,
    /// An answer log.
    File,
}

/// The effective profile of a run.
#[must_use]
pub fn effective(options: &RunOptions, engine: &EngineProfile) -> EffectiveProfile {
    let limits = &options.limits;
    let times = &options.timeouts;
    let (choice, command) = match &options.test {
        TestChoice::Command(command) => (EffectiveTestChoice::Command, Some(command.clone())),
        TestChoice::Off => (EffectiveTestChoice::Off, None),
        TestChoice::Missing => (EffectiveTestChoice::Missing, None),
    };
    let (mode, file) = match &options.approvals {
        Approvals::Ask => (EffectiveApprovalMode::Ask, None),
        Approvals::Deny => (EffectiveApprovalMode::Deny, None),
        Approvals::File(path) => (EffectiveApprovalMode::File, Some(path.to_string_lossy().into_owned())),
    };
    EffectiveProfile {
        schema: SCHEMA.to_owned(),
        engine: EffectiveEngine {
            name: engine.name.clone(),
            gated: engine.gated,
            required_events: engine.required_events.clone(),
            scratch: engine.scratch.clone(),
            masked: engine.masked.clone(),
        },
        mutation: options.mutation,
        changes: EffectiveChanges {
            allow: options.changes.allow.clone(),
            deny: options.changes.deny.clone(),
            ask: options.changes.ask.clone(),
            protect: options.changes.protect.clone(),
        },
        hide: options.hide.clone(),
        test: EffectiveTest { choice, command },
        review: options.review.as_ref().map(|review| EffectiveReview {
            command: review.command.clone(),
            by: if review.by_exit { EffectiveReviewBy::Exit } else { EffectiveReviewBy::Digest },
        }),
        timeouts_ms: EffectiveTimeouts {
            wall: millis(times.wall),
            idle: millis(times.idle),
            grace: millis(times.grace),
            test: millis(times.test),
            review: millis(times.review),
            approval: millis(times.approval),
        },
        limits: EffectiveLimits {
            memory: limits.memory.explicit.then_some(limits.memory.value),
            pids: limits.pids.value,
            cpus: limits.cpus.map(|cpus| cpus.to_string()),
            disk: limits.disk.value,
            max_log: limits.max_log,
            max_files: limits.max_files,
            max_patch: limits.max_patch,
            explicit: EffectiveExplicit {
                memory: limits.memory.explicit,
                pids: limits.pids.explicit,
                disk: limits.disk.explicit,
            },
        },
        views: options.views.clone(),
        min_level: options.min_level,
        layer: options.layer,
        backend_sandbox: sandbox(options.net, &options.mounts, &options.env, &options.passed),
        test_sandbox: check_sandbox(&options.test_sandbox),
        review_sandbox: check_sandbox(&options.review_sandbox),
        approvals: EffectiveApprovals { mode, file },
    }
}

impl EffectiveProfile {
    /// The bytes of `profile.json`: the canonical form and nothing else, so that the file's SHA-256 is the profile's
    /// digest.
    ///
    /// # Errors
    /// None that is known: every field is data.
    pub fn canonical(&self) -> serde_json::Result<String> {
        let mut text = String::new();
        canonical(&serde_json::to_value(self)?, &mut text);
        Ok(text)
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn check_sandbox(own: &CheckSandbox) -> EffectiveSandbox {
    sandbox(own.net, &own.mounts, &own.env, &own.passed)
}

fn sandbox(
    net: Network,
    mounts: &[MountRule],
    env: &BTreeMap<String, String>,
    passed: &[String],
) -> EffectiveSandbox {
    let mount = |rule: &MountRule| EffectiveMount {
        path: rule.path.to_string_lossy().into_owned(),
        mode: rule.mode,
        optional: rule.optional,
    };
    EffectiveSandbox {
        net,
        mounts: mounts.iter().map(mount).collect(),
        env_sha256: env
            .iter()
            .filter(|(name, _)| !passed.contains(name))
            .map(|(name, value)| (name.clone(), digest(value)))
            .collect(),
        pass_env: passed.to_vec(),
    }
}

/// SHA-256 of a text, lower-case hex.
#[must_use]
pub fn digest(text: &str) -> String {
    crate::event::hex::encode(&Sha256::digest(text))
}

/// Canonical JSON: keys sorted by their bytes, no white space, strings as serde_json escapes them.
pub fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_bytes());
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

/// A profile for tests: engine `fake`, mode `patch`, a test command, nothing else out of the ordinary.
#[cfg(test)]
pub(crate) fn sample() -> EffectiveProfile {
    let sandbox = EffectiveSandbox {
        net: Network::None,
        mounts: vec![],
        env_sha256: BTreeMap::new(),
        pass_env: vec![],
    };
    EffectiveProfile {
        schema: SCHEMA.to_owned(),
        engine: EffectiveEngine {
            name: "fake".into(),
            gated: false,
            required_events: vec![],
            scratch: vec![],
            masked: vec![],
        },
        mutation: MutationMode::Patch,
        changes: EffectiveChanges {
            allow: vec!["**".into()],
            deny: vec![],
            ask: vec![],
            protect: vec![".github/**".into()],
        },
        hide: vec![".env*".into()],
        test: EffectiveTest { choice: EffectiveTestChoice::Command, command: Some("make test".into()) },
        review: None,
        timeouts_ms: EffectiveTimeouts {
            wall: 1000,
            idle: 900,
            grace: 50,
            test: 800,
            review: 700,
            approval: 600,
        },
        limits: EffectiveLimits {
            memory: Some(1024),
            pids: 64,
            cpus: None,
            disk: 4096,
            max_log: 100_000,
            max_files: 100,
            max_patch: 5000,
            explicit: EffectiveExplicit { memory: true, pids: false, disk: false },
        },
        views: vec![],
        min_level: Level::Full,
        layer: LayerPlace::Auto,
        backend_sandbox: sandbox.clone(),
        test_sandbox: sandbox.clone(),
        review_sandbox: sandbox,
        approvals: EffectiveApprovals { mode: EffectiveApprovalMode::Deny, file: None },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_form_does_not_depend_on_the_order_of_keys() {
        let mut text = String::new();
        canonical(&json!({"b": [1, "x\n", null], "a": {"d": true, "c": "\u{e9}"}}), &mut text);
        assert_eq!(text, "{\"a\":{\"c\":\"\u{e9}\",\"d\":true},\"b\":[1,\"x\\n\",null]}");
        assert_eq!(
            digest("{}"),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "sha256 of {{}}"
        );
    }
}
