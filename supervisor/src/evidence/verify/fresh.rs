//! Whether the evidence is of the run and of the time that were asked for, as far as its own clock shows it.

use super::super::REPORT;
use super::super::freshness::is_run_id;
use super::{ProblemKind, Problems, VerifyOptions};
use crate::event::{hex, parse_micros};
use crate::report::Report;

/// How far the clocks of two machines may be apart, microseconds.
const SKEW: i64 = 5 * 60 * 1_000_000;

/// By how much times of phases, taken one after the other, may be beyond the whole, milliseconds.
const CLOCKS_APART_MS: u64 = 2000;

/// As the kernel writes a boot id (RFC 9562).
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

pub(super) fn check(report: &Report, options: VerifyOptions<'_>, problems: &mut Problems) {
    let mut add = |message: String| problems.add(ProblemKind::Freshness, REPORT, message);
    let proof = &report.freshness;
    if !is_run_id(&report.run_id) {
        add(format!("the run id {:?} is none", report.run_id));
    }
    if proof.run_id != report.run_id {
        add(format!("the freshness proof is of run {:?}", proof.run_id));
    }
    if !hex::is_hex(&proof.nonce) || crate::profile::values::nonce(&proof.nonce).is_err() {
        add("the nonce is none that a run takes: whole bytes in lower-case hex, 8 to 64 of them".to_owned());
    }
    if proof.boot_id.as_deref().is_some_and(|id| !is_uuid(id)) {
        add("the kernel's boot id is no UUID".to_owned());
    }
    let ends = report.timings.iter().map(|one| one.start_us.saturating_add(one.duration_us));
    if ends.max().is_some_and(|end| end / 1000 > proof.monotonic_duration_ns / 1_000_000 + CLOCKS_APART_MS) {
        add("its phases took longer than the whole run by the monotonic clock".to_owned());
    }
    if let Some(nonce) = options.nonce
        && nonce != proof.nonce
    {
        add(format!("the nonce is {}, not the one asked for", proof.nonce));
    }
    if !proof.artifacts_created_exclusively {
        add("its artifacts were not made exclusively by the run".to_owned());
    }
    for (name, here, there) in [
        ("base_commit", &report.base_commit, &proof.base_commit),
        ("base_tree", &report.base_tree, &proof.base_tree),
        ("result_tree", &report.result_tree, &proof.result_tree),
    ] {
        if here != there {
            add(format!("{name} differs between the report and its freshness proof"));
        }
        let object_id = |id: &String| matches!(id.len(), 40 | 64) && hex::is_hex(id);
        if here.as_ref().is_some_and(|id| !object_id(id)) {
            add(format!("{name} is no git object id"));
        }
    }
    if report.run_start != proof.wall_start || report.run_end != proof.wall_end {
        add("start and end differ between the report and its freshness proof".to_owned());
    }
    let (Some(start), Some(end)) = (parse_micros(&proof.wall_start), parse_micros(&proof.wall_end)) else {
        add("start or end is no time of the form written here".to_owned());
        return;
    };
    if start > end {
        add("the run ends before it starts".to_owned());
    }
    if end.saturating_sub(SKEW) > options.now {
        add(format!("the run ends at {}, which is still to come", proof.wall_end));
    }
    if let Some(max_age) = options.max_age {
        let max_age = i64::try_from(max_age.as_micros()).unwrap_or(i64::MAX);
        if options.now.saturating_sub(end) > max_age {
            add(format!("the run ended at {}, longer ago than is allowed", proof.wall_end));
        }
    }
}
