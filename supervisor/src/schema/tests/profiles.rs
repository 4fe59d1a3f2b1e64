//! What the operator writes, and the effective profile.

use serde_json::{Value, json};

use super::*;

fn fixtures(kind: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/profiles").join(kind);
    let files = std::fs::read_dir(dir).unwrap().map(|one| one.unwrap());
    files
        .map(|one| (one.file_name().into_string().unwrap(), std::fs::read_to_string(one.path()).unwrap()))
        .collect()
}

fn schema_of(fixture: &str) -> &'static str {
    match fixture.split_once('-') {
        Some(("view", _)) => "view",
        Some(("engine", _)) => "engine",
        Some(("config", _)) => "config",
        _ => "profile",
    }
}

fn from_toml(text: &str) -> Option<Value> {
    serde_json::to_value(toml::from_str::<toml::Table>(text).ok()?).ok()
}

#[test]
fn valid_profiles_hold_and_every_wrong_field_of_a_full_one_is_refused() {
    for (name, text) in fixtures("valid") {
        holds(&validator(schema_of(&name)), &from_toml(&text).unwrap());
    }
    let default = from_toml(crate::profile::layers::DEFAULT_TOML).unwrap();
    holds(&validator("profile"), &default);
    for (name, text) in crate::profile::view::EMBEDDED {
        holds(&validator("view"), &from_toml(text).unwrap_or_else(|| panic!("{name}")));
    }
    for (name, text) in crate::profile::engine::EMBEDDED {
        holds(&validator("engine"), &from_toml(text).unwrap_or_else(|| panic!("{name}")));
    }
    let text = |name: &str| fixtures("valid").into_iter().find(|(n, _)| n == name).unwrap().1;
    let mut full = from_toml(&text("full.toml")).unwrap();
    let file = json!({ "approvals": { "file": "/a" } });
    let texts = [
        "allow",
        "ask",
        "command",
        "deny",
        "description",
        "file",
        "hide",
        "lift_hide",
        "lift_protect",
        "overlay",
        "protect",
        "ro",
        "rw",
        "CI",
        "EMPTY",
        "LEVEL",
        "JSON",
        "sign",
    ];
    // Counts and sizes may be text, so that "7" is no mistake there: they are checked by themselves.
    let limits = full.as_object_mut().unwrap().remove("limits").unwrap();
    let validator = validator("profile");
    tight(
        "profile",
        &[full.clone(), file],
        &FREE,
        &texts,
        &["limits", "memory", "pids", "cpus", "disk", "max_log", "max_files", "max_patch"],
    );
    for (key, wrong) in
        [("memory", json!(true)), ("pids", json!(1.5)), ("cpus", json!("many")), ("disk", json!("1X"))]
    {
        for wrong in [wrong, json!(-1), json!([])] {
            let mut limits = limits.clone();
            limits[key] = wrong;
            full["limits"] = limits;
            assert!(!validator.is_valid(&full), "{full:#}");
        }
    }
    full["limits"] = limits;
    holds(&validator, &full);
}

#[test]
fn effective_profiles_and_every_wrong_field_of_one() {
    let mut profile = crate::profile::policy::sample();
    profile.review = Some(crate::profile::policy::EffectiveReview {
        command: "true".into(),
        by: crate::profile::policy::EffectiveReviewBy::Digest,
    });
    profile.engine.required_events = vec![crate::profile::RequiredEvent {
        phase: crate::profile::Phase::Backend,
        kind: "turn.completed".into(),
        source: crate::profile::EventSource::Backend,
    }];
    profile.backend_sandbox.mounts = vec![crate::profile::policy::EffectiveMount {
        path: "/usr".into(),
        mode: crate::profile::MountMode::Ro,
        optional: true,
    }];
    profile.backend_sandbox.env_sha256 = [("CI".to_owned(), "0".repeat(64))].into();
    profile.limits.cpus = Some("1.5".into());
    let texts = ["allow", "command", "cpus", "hide", "kind", "name", "path", "protect"];
    tight("effective-profile", &[serde_json::to_value(&profile).unwrap()], &FREE, &texts, &[]);
}

/// Faults of shape are refused by the schema alone; of the others (what a value means, what the host or another key says
/// to it) it need not know.
#[test]
fn invalid_profiles_whose_fault_is_one_of_shape_are_refused() {
    let shape = [
        "approvals-mode-unknown",
        "bad-count",
        "bad-cpus",
        "bad-size",
        "config-enable-unknown",
        "config-unknown-key",
        "dashes-for-underscores",
        "empty-glob",
        "engine-event-source",
        "engine-event-type",
        "engine-no-gated",
        "key-in-wrong-table",
        "key-of-another-table",
        "layer-unknown",
        "min-level-unknown",
        "mutation-apply",
        "mutation-unknown",
        "negative-size",
        "net-proxy",
        "net-unknown",
        "option-name-as-key",
        "profile-with-config-key",
        "profile-with-config-list",
        "review-by-unknown",
        "unknown-engine",
        "unknown-key-far",
        "unknown-key-in-table",
        "unknown-table",
        "unknown-top-key",
        "view-no-description",
        "view-unknown-key",
        "view-unknown-mode",
        "wrong-type",
        "wrong-type-of-item",
        "wrong-type-of-limit",
        "wrong-type-of-table",
    ];
    let all = fixtures("invalid");
    let mut wrong = Vec::new();
    for name in shape {
        let file = format!("{name}.toml");
        let (_, text) = all.iter().find(|(n, _)| *n == file).unwrap_or_else(|| panic!("{file}"));
        let value = from_toml(text).unwrap_or_else(|| panic!("{file} is no TOML"));
        if validator(schema_of(&file)).is_valid(&value) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "accepted: {wrong:?}");
}
