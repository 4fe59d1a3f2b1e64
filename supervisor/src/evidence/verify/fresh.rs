//! Whether the evidence is of the run and of the time that were asked for, as far as its own clock shows it.

use super::super::REPORT;
use super::super::freshness::is_run_id;
use super::{ProblemKind, Problems, VerifyOptions};
use crate::event::{hex, parse_micros};
use crate::report::Report;

/// How far the clocks of two machines may be apart, microseconds.
const SKEW: i64 = 5 * 60 * 1_000_000;

pub(super) fn check(report: &Report, options: VerifyOptions<'_>, problems: &mut Problems) {
    let mut add = |message: String| problems.add(ProblemKind::Freshness, REPORT, message);
    let proof = &report.freshness;
    if !is_run_id(&report.run_id) {
        add(format!("the run id {:?} is none", report.run_id));
    }
    if proof.run_id != report.run_id {
        add(format!("the freshness proof is of run {:?}", proof.run_id));
    }
    if !hex::is_hex(&proof.nonce) {
        add("the nonce is no lower-case hex".to_owned());
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
