//! What a signed run states: two in-toto Statements (v1) over the same subjects, made of the report and its digest alone.

use serde_json::{Value, json};

use crate::evidence::{EVENTS, REPORT, REPORT_DIGEST, TRACE};
use crate::report::{Report, TestStatus};
use crate::verdict::Status;
use sha2::{Digest as _, Sha256};

/// `_type` of every statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Type of the first predicate.
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
/// Type of the second.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// How a run is described as a build (docs/contracts.md). Another description gets another number.
pub const BUILD_TYPE: &str = "urn:proctor:run:v1";
/// Who made it: Proctor, wherever it ran. Which one, the key says.
pub const BUILDER: &str = "urn:proctor:builder:v1";

/// The two payloads, in the order of their lines.
pub(super) fn payloads(report: &Report, report_sha256: &str) -> serde_json::Result<[Vec<u8>; 2]> {
    let subject = subjects(report, report_sha256);
    let statement = |predicate_type: &str, predicate: Value| {
        serde_json::to_vec(&json!({
            "_type": STATEMENT_TYPE,
            "subject": subject,
            "predicateType": predicate_type,
            "predicate": predicate,
        }))
    };
    Ok([statement(TEST_RESULT, test_result(report))?, statement(PROVENANCE, provenance(report))?])
}

fn descriptor(name: &str, algorithm: &str, digest: &str) -> Value {
    json!({ "name": name, "digest": { algorithm: digest } })
}

/// Every artifact but the statements themselves, by name.
fn subjects(report: &Report, report_sha256: &str) -> Vec<Value> {
    let line = crate::event::hex::encode(&Sha256::digest(format!("{report_sha256}  {REPORT}\n")));
    let named = report.digest_manifest.iter().map(|one| (one.name.as_str(), one.digest.sha256.as_str()));
    let mut all: Vec<(&str, &str)> =
        named.chain([(REPORT, report_sha256), (REPORT_DIGEST, line.as_str())]).collect();
    all.sort_unstable();
    all.into_iter().map(|(name, sha256)| descriptor(name, "sha256", sha256)).collect()
}

fn test_result(report: &Report) -> Value {
    // A pass without tests, or by tests that the patch itself may steer, is one to look at.
    let tested = report.tests.status == TestStatus::Passed && report.test_inputs_changed.is_empty();
    let result = match report.status {
        Status::Pass if tested => "PASSED",
        Status::Pass => "WARNED",
        Status::Fail => "FAILED",
    };
    let mut lists = [Vec::new(), Vec::new(), Vec::new()];
    let list = match report.tests.status {
        TestStatus::Passed if report.test_inputs_changed.is_empty() => Some(0),
        TestStatus::Passed => Some(1),
        TestStatus::Failed | TestStatus::TimedOut => Some(2),
        // Neither passed nor failed: whoever asks for it among those that passed finds it missing.
        TestStatus::NotRun | TestStatus::Off | TestStatus::Missing => None,
    };
    if let (Some(list), Some(command)) = (list, &report.tests.command) {
        lists[list].push(command.as_str());
    }
    let [passed, warned, failed] = lists;
    let mut configuration = vec![descriptor("profile", "sha256", &report.profile.digest)];
    configuration.extend(base(report));
    configuration.extend(report.task_sha256.as_ref().map(|task| descriptor("task", "sha256", task)));
    json!({
        "result": result,
        "configuration": configuration,
        "passedTests": passed,
        "warnedTests": warned,
        "failedTests": failed,
    })
}

fn base(report: &Report) -> impl Iterator<Item = Value> {
    let commit = report.base_commit.as_ref().map(|id| descriptor("base commit", "gitCommit", id));
    let tree = report.base_tree.as_ref().map(|id| descriptor("base tree", "gitTree", id));
    commit.into_iter().chain(tree)
}

fn provenance(report: &Report) -> Value {
    let result = report.result_tree.as_ref().map(|id| descriptor("result tree", "gitTree", id));
    let logs = report
        .digest_manifest
        .iter()
        .filter(|one| one.name.ends_with(".log") || [EVENTS, TRACE].contains(&one.name.as_str()))
        .map(|one| descriptor(&one.name, "sha256", &one.digest.sha256));
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "engine": report.engine.name,
                "argv": report.engine.argv,
                "stage": report.stage,
                "mutation_mode": report.mutation_mode,
                "profile": { "name": report.profile.name, "sha256": report.profile.digest },
                "task_sha256": report.task_sha256,
                "test_command": report.tests.command,
                "review_command": report.review.command,
                "base_commit": report.base_commit,
                "nonce": report.freshness.nonce,
            },
            "internalParameters": {
                "status": report.status,
                "sandbox_level": report.sandbox.level,
                "network": report.sandbox.network,
                "decision": { "kind": report.decision.kind, "sha256": report.decision.digest },
            },
            "resolvedDependencies": base(report).collect::<Vec<_>>(),
        },
        "runDetails": {
            "builder": { "id": BUILDER, "version": { "proctor": report.proctor_version } },
            "metadata": {
                "invocationId": report.run_id,
                "startedOn": report.run_start,
                "finishedOn": report.run_end,
            },
            "byproducts": result.into_iter().chain(logs).collect::<Vec<_>>(),
        },
    })
}
