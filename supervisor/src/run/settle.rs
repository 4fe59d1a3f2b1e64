//! From what a run gathered to its report. Puts things into their fields; judges nothing.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proctor_sandbox::spec::Level;
use serde_json::{Value, json};

use super::backend::Settled;
use super::sandbox::{OPEN_FILES, Started, inodes};
use super::supervise::Finish;
use crate::changes::classify::{Change, ChangeSet};
use crate::profile::{Limits, Network, Timeouts};
use crate::report::{
    ApprovalInfo, ChangeKind, FileChange, HostInfo, LimitInfo, Mechanism, PathText, SandboxInfo, UsageInfo,
};
use crate::verdict::ApprovalOutcome;

/// A path for a report: text, and its bytes where they are not UTF-8.
pub(super) fn path_text(path: &[u8]) -> PathText {
    match std::str::from_utf8(path) {
        Ok(text) => PathText { path: text.to_owned(), path_b64: None },
        Err(_) => PathText {
            path: String::from_utf8_lossy(path).into_owned(),
            path_b64: Some(STANDARD.encode(path)),
        },
    }
}

/// The changed files.
pub(super) fn changed_files(set: &ChangeSet) -> Vec<FileChange> {
    set.changes.iter().map(file_change).collect()
}

fn file_change(change: &Change) -> FileChange {
    use crate::changes::classify::ChangeKind as K;
    let PathText { path, path_b64 } = path_text(&change.path);
    let kind = match change.kind {
        K::Added => ChangeKind::Added,
        K::Modified => ChangeKind::Modified,
        K::Deleted => ChangeKind::Deleted,
        K::ModeChanged => ChangeKind::Mode,
        K::TypeChanged => ChangeKind::Type,
    };
    // A rename stands as what the patch has, a removal and an addition; the addition says where it came from.
    let from = change.renamed_from.as_deref().map(path_text);
    FileChange {
        path,
        path_b64,
        old_path: from.as_ref().map(|f| f.path.clone()),
        old_path_b64: from.and_then(|f| f.path_b64),
        kind,
        old_mode: change.old.as_ref().map(|s| format!("{:06o}", s.mode)),
        new_mode: change.new.as_ref().map(|s| format!("{:06o}", s.mode)),
        old_size: change.old.as_ref().map(|s| s.size),
        new_size: change.new.as_ref().map(|s| s.size),
        old_sha256: change.old.as_ref().map(|s| s.sha256.clone()).filter(|s| !s.is_empty()),
        new_sha256: change.new.as_ref().map(|s| s.sha256.clone()).filter(|s| !s.is_empty()),
        not_in_patch: None,
    }
}

/// Settled requests.
pub(super) fn approvals(settled: &[(Settled, String)]) -> Vec<ApprovalInfo> {
    settled
        .iter()
        .map(|(one, at)| ApprovalInfo {
            id: one.request.id.clone(),
            asked_by: one.asked_by.to_owned(),
            subject: one.request.subject.clone(),
            subject_sha256: Some(one.request.subject_sha256.clone()),
            outcome: match one.answer.outcome {
                ApprovalOutcome::Granted => "granted",
                ApprovalOutcome::Denied { .. } => "denied",
                ApprovalOutcome::Expired => "expired",
                ApprovalOutcome::Unsettled => "unsettled",
            }
            .to_owned(),
            answered_by: Some(one.answer.by.clone()),
            answered_at: Some(at.clone()),
        })
        .collect()
}

/// What the backend's sandbox was.
pub(super) fn sandbox_info(
    started: Option<&Started>,
    net: Network,
    why_not_full: Option<&str>,
) -> SandboxInfo {
    let network = match net {
        Network::None => "none",
        Network::Host => "host",
    }
    .to_owned();
    let Some(started) = started else {
        return SandboxInfo {
            level: None,
            why_not_full: None,
            mechanisms: Vec::new(),
            missing: Vec::new(),
            network,
            observed: BTreeMap::new(),
            denials: Vec::new(),
        };
    };
    let enforced = started.running.enforced();
    let mechanisms = enforced
        .mechanisms()
        .into_iter()
        .map(|m| {
            use proctor_sandbox::enforced::Mechanism as M;
            let version = match m {
                M::Landlock => Some(format!("ABI {}", enforced.landlock_abi)),
                M::CgroupMemory | M::CgroupTasks | M::CgroupCpu => {
                    started.running.cgroup_version().map(str::to_owned)
                }
                M::Seccomp => {
                    let (rules, instructions) = proctor_sandbox::seccomp::size(started.running.level());
                    Some(format!("{rules} rules, {instructions} instructions"))
                }
                _ => None,
            };
            Mechanism { name: m.name(), version, detail: Some(m.what().to_owned()) }
        })
        .collect();
    SandboxInfo {
        why_not_full: why_not_full.map(str::to_owned),
        level: Some(level_word(started.running.level()).into()),
        mechanisms,
        missing: started.missing.clone(),
        network,
        observed: BTreeMap::new(),
        denials: Vec::new(),
    }
}

/// The level's name in reports.
pub(super) fn level_word(level: Level) -> &'static str {
    match level {
        Level::Full => "full",
        Level::Landlock => "landlock",
    }
}

/// Every limit of the run.
pub(super) fn limits(
    limits: &Limits,
    timeouts: &Timeouts,
    started: Option<&Started>,
    disk: u64,
) -> BTreeMap<String, LimitInfo> {
    let held = |what: &str| started.map_or("none", |s| s.limits.mechanism(what)).to_owned();
    let one = |value: Value, unit: &str, mechanism: String, explicit: bool| LimitInfo {
        value: (!value.is_null()).then_some(value),
        unit: unit.to_owned(),
        mechanism,
        explicit,
    };
    let time = |d: std::time::Duration| one(json!(d.as_millis() as u64), "ms", "supervisor".into(), false);
    let own = |value: u64, unit: &str| one(json!(value), unit, "supervisor".into(), false);
    let open_files = started.map_or(OPEN_FILES, |s| s.limits.open_files);
    let entries = [
        ("memory", one(json!(limits.memory.value), "bytes", held("memory"), limits.memory.explicit)),
        ("pids", one(json!(limits.pids.value), "tasks", held("pids"), limits.pids.explicit)),
        ("cpus", one(json!(limits.cpus), "cpus", held("cpus"), limits.cpus.is_some())),
        ("disk", one(json!(disk), "bytes", held("disk"), limits.disk.explicit)),
        ("inodes", one(json!(inodes(disk)), "inodes", held("inodes"), false)),
        ("open_files", one(json!(open_files), "descriptors", held("open_files"), false)),
        ("max_log", own(limits.max_log, "bytes")),
        ("max_files", own(limits.max_files, "files")),
        ("max_patch", own(limits.max_patch, "bytes")),
        ("wall", time(timeouts.wall)),
        ("idle", time(timeouts.idle)),
        ("grace", time(timeouts.grace)),
        ("test", time(timeouts.test)),
        ("review", time(timeouts.review)),
        ("approval", time(timeouts.approval)),
    ];
    entries.into_iter().map(|(name, limit)| (name.to_owned(), limit)).collect()
}

/// What one sandbox used, where that is known.
pub(super) fn usage(started: &Started, finish: Option<&Finish>, output: u64) -> UsageInfo {
    // That a counter cannot be read was told where the limits were judged.
    let cgroup = started.running.cgroup_usage().ok().flatten();
    let ended = finish.map(|f| f.ended);
    // The sandbox's own init is no task of the program's. What was seen from outside is a lower bound.
    let seen = finish.map(|f| f.peaks.tasks).filter(|tasks| *tasks > 0);
    let tasks = cgroup.and_then(|u| u.task_peak).or(seen);
    let private = started.running.disk_usage().ok().map(|d| d.bytes);
    let on_disk = started.disk_watch.as_ref().map(|watch| watch.seen());
    UsageInfo {
        user_us: ended.map(|e| e.user_micros),
        system_us: ended.map(|e| e.system_micros),
        max_memory: cgroup.and_then(|u| u.memory_peak).or_else(|| ended.map(|e| e.max_rss_kib * 1024)),
        max_tasks: tasks.map(|tasks| tasks.saturating_sub(1)),
        cpu_throttled: cgroup.and_then(|u| u.cpu_throttled),
        disk: (private.is_some() || on_disk.is_some()).then(|| private.unwrap_or(0) + on_disk.unwrap_or(0)),
        output: Some(output),
    }
}

/// The machine, without its name.
pub(super) fn host(memory: u64) -> HostInfo {
    let uname = rustix::system::uname();
    HostInfo {
        os: "linux".into(),
        kernel: uname.release().to_string_lossy().into_owned(),
        arch: uname.machine().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        memory: Some(memory),
        name: None,
    }
}
