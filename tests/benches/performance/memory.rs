//! How much memory a run holds: the supervisor and its launcher while a backend waits, and while one floods its log.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Bench, Result, noop};

/// The supervisor's and the launcher's resident size during a run, in KiB.
pub(crate) fn run(bench: &Bench<'_>) -> Result<Value> {
    let repo = noop::tree(bench, "memory", 1000)?;
    let mut rows = Vec::new();
    let mut err = std::io::stderr().lock();
    writeln!(err, "\nresident size in KiB (peak; of it private at the last look)")?;
    let flood = "yes 'a line of an ordinary length, as a build prints it, over and over' | head -c 60000000";
    for (name, script) in [("backend waits for a second", "sleep 1"), ("backend writes 60 MB", flood)] {
        let mut command = bench.command(bench.proctor, &repo);
        command.args(["run", "--mutation", "discard", "--no-test", "--", "sh", "-c", script]);
        let row = watch(name, command)?;
        writeln!(
            err,
            "{name:44} supervisor {} ({}), launcher {} ({})",
            row["supervisor_peak_kib"],
            row["supervisor_private_kib"],
            row["launcher_peak_kib"],
            row["launcher_private_kib"]
        )?;
        rows.push(row);
    }
    Ok(json!({ "group": "memory", "rows": rows }))
}

fn watch(name: &str, mut command: Command) -> Result<Value> {
    let mut child = command.spawn()?;
    let pid = child.id();
    let (mut supervisor, mut launcher) = ((0, 0), (0, 0));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        merge(&mut supervisor, pid);
        if let Some(first) = children(pid).first() {
            merge(&mut launcher, *first);
        }
        if start.elapsed() > Duration::from_secs(120) {
            child.kill()?;
            return Err("the run does not end".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !status.success() {
        return Err(format!("{command:?}: {status}").into());
    }
    Ok(json!({
        "name": name,
        "supervisor_peak_kib": supervisor.0, "supervisor_private_kib": supervisor.1,
        "launcher_peak_kib": launcher.0, "launcher_private_kib": launcher.1,
    }))
}

/// Peak (`VmHWM`) and anonymous part (`RssAnon`) of a process (proc(5), status).
fn merge(seen: &mut (u64, u64), pid: u32) {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return };
    let field = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    // A process that has ended has a status without sizes.
    if let (Some(peak), Some(private)) = (field("VmHWM:"), field("RssAnon:")) {
        *seen = (seen.0.max(peak), private);
    }
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
    text.split_whitespace().filter_map(|c| c.parse().ok()).collect()
}
