//! A report for tests, with something in every field.

use serde_json::json;

use super::*;
use crate::evidence::{FreshnessStart, NonceSource};

pub(crate) const RUN: &str = "r-20260601T120000-abcdef";

pub(crate) fn change(path: &str, kind: ChangeKind) -> FileChange {
    let (old, new) = (kind != ChangeKind::Added, kind != ChangeKind::Deleted);
    let digest = |there: bool| there.then(|| "0".repeat(64));
    FileChange {
        path: path.into(),
        path_b64: None,
        old_path: None,
        old_path_b64: None,
        kind,
        old_mode: old.then(|| "100644".into()),
        new_mode: new.then(|| "100644".into()),
        old_size: old.then_some(3),
        new_size: new.then_some(4),
        old_sha256: digest(old),
        new_sha256: digest(new),
        not_in_patch: None,
    }
}

pub(crate) fn observed(count: u64) -> Observed {
    Observed { completeness: "complete".into(), count, left_out: 0, note: None }
}

fn kinds() -> BTreeMap<String, Observed> {
    let mut kinds: BTreeMap<String, Observed> =
        [("programs", 2), ("exit_codes", 2), ("denials", 3), ("connections", 0), ("denied_paths", 0)]
            .map(|(name, count)| (name.to_owned(), observed(count)))
            .into();
    for (name, completeness) in [("connections", "advisory"), ("denied_paths", "absent")] {
        if let Some(kind) = kinds.get_mut(name) {
            kind.completeness = completeness.into();
        }
    }
    kinds
}

pub(crate) fn report() -> Report {
    let start = FreshnessStart::now(Some("00ff")).unwrap();
    let mut freshness = start.end(Some("1".repeat(40)), Some("2".repeat(40)), Some("3".repeat(40)));
    freshness.run_id = RUN.into();
    freshness.nonce_source = NonceSource::Caller;
    freshness.wall_start = "2026-06-01T12:00:00.000001Z".into();
    freshness.wall_end = "2026-06-01T12:00:05.000001Z".into();
    freshness.monotonic_duration_ns = 5_000_000_000;
    freshness.boot_id = Some("01234567-0123-0123-0123-0123456789ab".into());
    Report {
        schema_version: SCHEMA.into(),
        proctor_version: "0.1.0".into(),
        run_id: RUN.into(),
        run_start: freshness.wall_start.clone(),
        run_end: freshness.wall_end.clone(),
        status: Status::Pass,
        exit_code: 0,
        blockers: vec![],
        engine: EngineInfo {
            name: "fake".into(),
            version: Some("1".into()),
            source_id: None,
            argv: vec!["fake".into(), "scenario.toml".into()],
        },
        stage: None,
        mutation_mode: "patch".into(),
        task_sha256: None,
        profile: ProfileInfo { name: "default".into(), digest: "4".repeat(64) },
        decision: DecisionInfo { kind: "ungoverned".into(), digest: Some("5".repeat(64)) },
        base_commit: freshness.base_commit.clone(),
        base_tree: freshness.base_tree.clone(),
        result_tree: freshness.result_tree.clone(),
        backend_exit_code: Some(0),
        backend_signal: None,
        changed_files: vec![change("src/a.rs", ChangeKind::Modified)],
        ignored_changes: vec![],
        git_changes: super::GitChanges::default(),
        test_inputs_changed: vec![],
        tests: TestInfo {
            status: TestStatus::Passed,
            command: Some("make test".into()),
            exit_code: Some(0),
            signal: None,
            duration_ms: Some(1200),
        },
        review: ReviewInfo {
            status: ReviewStatus::Off,
            command: None,
            exit_code: None,
            duration_ms: None,
            patch_sha256: None,
        },
        approvals: vec![],
        provider: ProviderInfo { witness: "none".into(), ..ProviderInfo::default() },
        sandbox: SandboxInfo {
            why_not_full: None,
            level: Some("full".into()),
            mechanisms: vec![Mechanism { name: "landlock".into(), version: Some("6".into()), detail: None }],
            missing: vec!["memory limit (no cgroup): watched only".into()],
            network: "none".into(),
            observed: [("backend".to_owned(), kinds())].into(),
            denials: vec![DenialInfo {
                sandbox: "backend".into(),
                what: "syscall".into(),
                call: "bpf".into(),
                address: None,
                reason: "a large kernel surface".into(),
                program: Some("/usr/bin/x".into()),
                argv0: Some("x".into()),
                pid: 7,
                count: 3,
                errno: Some("EPERM".into()),
                killed: false,
                blockers: vec![],
                path: None,
                path_b64: None,
            }],
        },
        limits: [(
            "memory".to_owned(),
            LimitInfo {
                value: Some(json!(1024)),
                unit: "bytes".into(),
                mechanism: "cgroup2".into(),
                explicit: true,
            },
        )]
        .into(),
        usage: [("backend".to_owned(), UsageInfo { user_us: Some(10), ..UsageInfo::default() })].into(),
        timings: vec![Timing { phase: "backend".into(), start_us: 100, duration_us: 2_000_000 }],
        host: HostInfo {
            os: "linux".into(),
            kernel: "6.18.0".into(),
            arch: "x86_64".into(),
            cpus: 2,
            memory: Some(1 << 30),
            name: None,
        },
        events: EventsInfo { count: 2, last_hash: "6".repeat(64), left_out: 0 },
        freshness,
        quarantined: false,
        artifact_paths: [("patch.diff".to_owned(), "patch.diff".to_owned())].into(),
        digest_manifest: vec![ResourceDescriptor::new("patch.diff", "7".repeat(64), 10)],
    }
}
