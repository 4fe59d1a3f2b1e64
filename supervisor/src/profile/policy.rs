//! The effective policy as canonical JSON, and its digest: what identifies a profile in reports and comparisons.
//!
//! In it: everything that decides what a backend may do and how it is judged. Not in it: what differs from run to
//! run (repository, task, command, evidence directory, nonce), where values came from, and the values of passed
//! variables, which are secrets. A default that depends on the host stands as a word, so that the same profile has
//! the same digest on every host.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::engine::EngineProfile;
use super::{Approvals, CheckSandbox, RunOptions, TestChoice};

/// The effective policy. Object keys come out sorted.
pub fn effective(options: &RunOptions, engine: &EngineProfile) -> Value {
    let limits = &options.limits;
    let times = &options.timeouts;
    let memory =
        if limits.memory.explicit { json!(limits.memory.value) } else { json!("half of the host's") };
    json!({
        "schema": "profile/v1",
        "engine": {
            "name": engine.name,
            "gated": engine.gated,
            "required_events": engine.required_events,
            "scratch": engine.scratch,
            "masked": engine.masked,
        },
        "mutation": options.mutation,
        "changes": {
            "allow": options.changes.allow,
            "deny": options.changes.deny,
            "ask": options.changes.ask,
            "protect": options.changes.protect,
        },
        "hide": options.hide,
        "test": match &options.test {
            TestChoice::Command(command) => json!({"command": command}),
            TestChoice::Off => json!("off"),
            TestChoice::Missing => Value::Null,
        },
        "review": options.review.as_ref().map(|review| {
            json!({"command": review.command, "by": if review.by_exit { "exit" } else { "digest" }})
        }),
        // Milliseconds as whole numbers: a canonical form has no fractions.
        "timeouts_ms": {
            "wall": millis(times.wall), "idle": millis(times.idle), "grace": millis(times.grace),
            "test": millis(times.test), "review": millis(times.review), "approval": millis(times.approval),
        },
        "limits": {
            "memory": memory,
            "pids": limits.pids.value,
            "cpus": limits.cpus.map_or_else(|| "all".to_owned(), |cpus| cpus.to_string()),
            "disk": limits.disk.value,
            "max_log": limits.max_log,
            "max_files": limits.max_files,
            "max_patch": limits.max_patch,
            "explicit": {
                "memory": limits.memory.explicit,
                "pids": limits.pids.explicit,
                "disk": limits.disk.explicit,
            },
        },
        "views": options.views,
        "min_level": options.min_level,
        "layer": options.layer,
        "backend_sandbox": sandbox(&CheckSandbox {
            net: options.net,
            mounts: options.mounts.clone(),
            env: options.env.clone(),
            passed: options.passed.clone(),
        }),
        "test_sandbox": sandbox(&options.test_sandbox),
        "review_sandbox": sandbox(&options.review_sandbox),
        "approvals": match &options.approvals {
            Approvals::Ask => json!("ask"),
            Approvals::Deny => json!("deny"),
            Approvals::File(path) => json!({"file": path.to_string_lossy()}),
        },
    })
}

fn millis(time: std::time::Duration) -> Value {
    json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn sandbox(own: &CheckSandbox) -> Value {
    let env: serde_json::Map<String, Value> = own
        .env
        .iter()
        .filter(|(name, _)| !own.passed.contains(name))
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({"net": own.net, "mounts": own.mounts, "env": env, "pass_env": own.passed})
}

/// SHA-256 over the canonical form, lower-case hex.
pub fn digest(policy: &Value) -> String {
    let mut text = String::new();
    canonical(policy, &mut text);
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form_does_not_depend_on_the_order_of_keys() {
        let mut text = String::new();
        canonical(&json!({"b": [1, "x\n", null], "a": {"d": true, "c": "\u{e9}"}}), &mut text);
        assert_eq!(text, "{\"a\":{\"c\":\"\u{e9}\",\"d\":true},\"b\":[1,\"x\\n\",null]}");
        assert_eq!(
            digest(&json!({})),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "sha256 of {{}}"
        );
    }
}
