//! The threat model names proofs: each name must be a test of this suite, and each proof must be named.

use std::collections::BTreeSet;

#[test]
fn every_proof_is_named_in_the_threat_model_and_every_name_is_a_proof() {
    let document = include_str!("../../../docs/threat-model.md");
    let named: BTreeSet<String> =
        document.split('`').filter_map(|t| t.strip_prefix("proofs::")).map(str::to_owned).collect();
    let sources = [
        ("kernel", include_str!("kernel.rs")),
        ("landlock::files", include_str!("landlock/files.rs")),
        ("landlock::lost", include_str!("landlock/lost.rs")),
        ("landlock::metadata", include_str!("landlock/metadata.rs")),
        ("landlock::ordinary", include_str!("landlock/ordinary.rs")),
        ("landlock::outside", include_str!("landlock/outside.rs")),
        ("landlock::survivors", include_str!("landlock/survivors.rs")),
        ("layers", include_str!("layers.rs")),
        ("limits", include_str!("limits.rs")),
        ("masks", include_str!("masks.rs")),
        ("network", include_str!("network.rs")),
        ("processes", include_str!("processes.rs")),
        ("secrets", include_str!("secrets.rs")),
        ("start", include_str!("start.rs")),
        ("writes", include_str!("writes.rs")),
    ];
    let mut tests = BTreeSet::new();
    for (module, source) in sources {
        for part in source.split("#[test]\nfn ").skip(1) {
            tests.insert(format!("{module}::{}", part.split('(').next().unwrap_or_default()));
        }
    }
    assert!(tests.len() > 30);
    let unnamed: Vec<_> = tests.difference(&named).collect();
    let unknown: Vec<_> = named.difference(&tests).collect();
    assert!(unnamed.is_empty() && unknown.is_empty(), "not named: {unnamed:?}; no such test: {unknown:?}");
}
