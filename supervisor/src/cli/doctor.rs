//! `proctor doctor`: what this host can enforce, proved by trying it, and how to mend what is missing.

use std::io;
use std::os::unix::fs::DirBuilderExt;

use proctor_sandbox::cgroup::{Cgroup, CgroupLimits};
use proctor_sandbox::enforced::Enforced;
use proctor_sandbox::error::LaunchError;
use proctor_sandbox::host::{Facts, probe};
use proctor_sandbox::launch::Launcher;
use serde::Serialize;
use serde_json::json;

use super::output;
use crate::exit::ExitCode;
use crate::mend;
use crate::profile::HostEnv;
use crate::run::identity::HostId;
use crate::run::state_dirs::StateDirs;

/// State of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// There.
    Ok,
    /// Not there, and a run goes on with less.
    Weak,
    /// Not there, and a run is refused.
    Missing,
}

#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// Probes and prints. Exit code 0: level `full`; 3: a run would be refused.
pub(super) fn run(json: bool) -> ExitCode {
    let launcher = match Launcher::start() {
        Ok(launcher) => launcher,
        Err(e) => return output::error(e, ExitCode::Defect),
    };
    let facts = Facts::read();
    let full = try_full(&launcher);
    let mut lines = vec![level_line(&full, &facts)];
    lines.extend(facts_lines(&facts));
    lines.push(cgroup_line());
    let level = full.as_ref().ok().map(|_| "full");
    let mechanisms: Vec<String> =
        full.as_ref().map(|e| e.mechanisms().iter().map(|m| m.name()).collect()).unwrap_or_default();
    if json {
        output::json(&json!({ "level": level, "mechanisms": mechanisms, "checks": lines }));
    } else {
        for line in &lines {
            let mark = match line.state {
                State::Ok => "ok     ",
                State::Weak => "weak   ",
                State::Missing => "MISSING",
            };
            output::note(format_args!("{mark}  {:<22} {}", line.what, line.found));
            if let Some(mend) = &line.mend {
                output::note(format_args!("           to mend: {mend}"));
            }
        }
        output::note(match level {
            Some(level) => {
                format!("level: {level} (every mechanism was applied and checked in a throwaway sandbox)")
            }
            None => "level: none; `proctor run` is refused here with exit code 3".to_owned(),
        });
    }
    if full.is_ok() { ExitCode::Pass } else { ExitCode::Refused }
}

fn try_full(launcher: &Launcher) -> Result<Enforced, LaunchError> {
    let failed = |e: &dyn std::fmt::Display| LaunchError::Launcher(e.to_string());
    let dir = scratch().map_err(|e| failed(&format!("a scratch directory for the probe: {e}")))?;
    let result = HostId::take(crate::run::state_dirs::uid_locks())
        .map_err(|e| failed(&e))
        .and_then(|id| probe(launcher, id.identity, &dir));
    // Empty, and ours: nothing was written but into the sandbox's private layer.
    let _ = std::fs::remove_dir(&dir);
    result
}

/// An empty directory of our own, below Proctor's state: work trees are more likely to be on that file system than on
/// a tmpfs.
fn scratch() -> io::Result<std::path::PathBuf> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    let parent = match StateDirs::new(&HostEnv::of_this_process()) {
        Some(dirs) => dirs.state,
        None => std::env::temp_dir(),
    };
    let dir = parent.join(format!("doctor-{}", crate::event::hex::encode(&random)));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    Ok(dir)
}

fn level_line(full: &Result<Enforced, LaunchError>, facts: &Facts) -> Line {
    match full {
        Ok(enforced) => Line {
            what: "full sandbox",
            state: State::Ok,
            found: format!("{} mechanisms in force in a throwaway sandbox", enforced.mechanisms().len()),
            mend: None,
        },
        Err(error) => Line {
            what: "full sandbox",
            state: State::Missing,
            found: error.to_string(),
            mend: Some(mend::of(error, facts)),
        },
    }
}

fn facts_lines(facts: &Facts) -> Vec<Line> {
    let mut lines = Vec::new();
    let (state, mend) = match facts.landlock_abi {
        0 | 1 => (State::Missing, Some("use Linux 5.19 or later with Landlock enabled".to_owned())),
        2..=5 => {
            (State::Weak, Some("Linux 6.12 or later also scopes signals and abstract sockets".to_owned()))
        }
        _ => (State::Ok, None),
    };
    lines.push(Line { what: "Landlock", state, found: format!("ABI {}", facts.landlock_abi), mend });
    let seccomp = if facts.seccomp { State::Ok } else { State::Missing };
    let (rules, instructions) = proctor_sandbox::seccomp::size(proctor_sandbox::spec::Level::Full);
    lines.push(Line {
        what: "seccomp",
        state: seccomp,
        found: format!("{rules} rules in {instructions} instructions"),
        mend: (!facts.seccomp).then(|| "use a kernel with CONFIG_SECCOMP_FILTER".to_owned()),
    });
    let piped = facts.core_pattern.starts_with('|');
    lines.push(Line {
        what: "core dumps",
        state: State::Ok,
        found: if piped { "piped core_pattern; held by RLIMIT_CORE 1" } else { "not piped" }.to_owned(),
        mend: None,
    });
    if let Some(container) = &facts.container {
        lines.push(Line { what: "container", state: State::Ok, found: container.clone(), mend: None });
    }
    lines
}

fn cgroup_line() -> Line {
    let name = format!("proctor-doctor-{}", std::process::id());
    let limits = CgroupLimits { memory: Some(64 << 20), tasks: Some(16), cpus: Some(0.5) };
    let mend = || {
        Some("run under a delegated cgroup, for example `systemd-run --user --scope -p Delegate=yes proctor ...`".to_owned())
    };
    match Cgroup::create(&name, &limits) {
        Ok(Some(cgroup)) => {
            let all = [
                ("memory", cgroup.limits_memory()),
                ("tasks", cgroup.limits_tasks()),
                ("cpu", cgroup.limits_cpu()),
            ];
            let has: Vec<&str> = all.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
            let state = if has.len() == all.len() { State::Ok } else { State::Weak };
            Line {
                what: "cgroup",
                state,
                found: format!("{}: {}", cgroup.version(), has.join(", ")),
                mend: if state == State::Ok { None } else { mend() },
            }
        }
        Ok(None) => Line {
            what: "cgroup",
            state: State::Weak,
            found: "none that this user may use: memory is watched, --memory and --cpus are refused; tasks are held by rlimit".into(),
            mend: mend(),
        },
        Err(error) => {
            Line { what: "cgroup", state: State::Weak, found: format!("cannot be limited: {error}"), mend: mend() }
        }
    }
}
