//! `proctor doctor`: what this host can enforce, proved by trying it, and how to mend what is missing.

use std::io;
use std::os::unix::fs::DirBuilderExt;

use proctor_sandbox::cgroup::{Cgroup, CgroupLimits};
use proctor_sandbox::enforced::Enforced;
use proctor_sandbox::error::{LaunchError, Step};
use proctor_sandbox::host::{Facts, probe};
use proctor_sandbox::launch::Launcher;
use serde::Serialize;
use serde_json::json;

use super::output;
use crate::exit::ExitCode;
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
            mend: Some(mend(error, facts)),
        },
    }
}

/// What to do about a failed step, with what the facts add to it.
fn mend(error: &LaunchError, facts: &Facts) -> String {
    let LaunchError::Step(step) = error else {
        return "this is no lack of the host: please report it with the line above".into();
    };
    if facts.apparmor_restricts_userns == Some(1)
        && matches!(
            step.step,
            Step::UidMap | Step::GidMap | Step::Clone | Step::StoreCreate | Step::Propagation
        )
    {
        return "AppArmor restricts user namespaces here (Ubuntu 24.04 and later): install an AppArmor profile that allows `userns` for proctor, or set kernel.apparmor_restrict_unprivileged_userns=0".into();
    }
    match step.step {
        Step::Clone if facts.max_user_namespaces == Some(0) => {
            "user namespaces are off: sysctl -w user.max_user_namespaces=15000".into()
        }
        Step::Clone if facts.unprivileged_userns_clone == Some(0) => {
            "unprivileged user namespaces are off: sysctl -w kernel.unprivileged_userns_clone=1".into()
        }
        Step::Clone | Step::UidMap | Step::GidMap if facts.container.is_some() => {
            "the container forbids user namespaces: start it with --security-opt seccomp=unconfined (or a profile that allows unshare and clone), and --security-opt apparmor=unconfined where AppArmor is in use".into()
        }
        Step::Clone | Step::UidMap | Step::GidMap => "allow unprivileged user namespaces for this user, or run as root".into(),
        Step::ProcMount => {
            "a fresh /proc is refused where parts of /proc are covered, as in containers: start it with --security-opt systempaths=unconfined (Docker) or procMount: Unmasked (Kubernetes)".into()
        }
        Step::LandlockRuleset => {
            "Landlock is absent or older than ABI 2: use Linux 5.19 or later with `landlock` in the boot parameter lsm=".into()
        }
        Step::SeedUpper => "tmpfs has no user extended attributes here: use Linux 6.6 or later".into(),
        Step::OverlayMount if !facts.overlay_registered => "overlayfs is not there: modprobe overlay".into(),
        Step::OverlayMount => {
            "overlayfs refuses this file system as lower layer, as in containers whose root is itself an overlay: put the work tree on a volume".into()
        }
        Step::IdmapSet => {
            "the file system below the work tree has no idmapped mounts: use ext4, xfs, btrfs or tmpfs, or run as an ordinary user".into()
        }
        Step::Seccomp | Step::CheckSeccomp => "seccomp filters are not available: use a kernel with CONFIG_SECCOMP_FILTER".into(),
        _ => "see docs/threat-model.md for what level full needs".into(),
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

#[cfg(test)]
mod tests {
    use proctor_sandbox::error::StepError;

    use super::*;

    fn facts() -> Facts {
        Facts {
            max_user_namespaces: Some(1000),
            unprivileged_userns_clone: None,
            apparmor_restricts_userns: None,
            landlock_abi: 7,
            overlay_registered: true,
            seccomp: true,
            container: None,
            core_pattern: "core".into(),
        }
    }

    fn step(step: Step) -> LaunchError {
        StepError { step, subject: String::new(), errno: 1 }.into()
    }

    #[test]
    fn each_cause_has_its_own_mend() {
        let ubuntu = Facts { apparmor_restricts_userns: Some(1), ..facts() };
        assert!(mend(&step(Step::UidMap), &ubuntu).contains("AppArmor profile"));
        let off = Facts { max_user_namespaces: Some(0), ..facts() };
        assert!(mend(&step(Step::Clone), &off).contains("user.max_user_namespaces=15000"));
        let docker = Facts { container: Some("docker".into()), ..facts() };
        assert!(mend(&step(Step::Clone), &docker).contains("--security-opt seccomp"));
        assert!(mend(&step(Step::ProcMount), &docker).contains("systempaths=unconfined"));
        assert!(mend(&step(Step::LandlockRuleset), &facts()).contains("lsm="));
        assert!(
            mend(&step(Step::OverlayMount), &Facts { overlay_registered: false, ..facts() })
                .contains("modprobe")
        );
        assert!(mend(&step(Step::SeedUpper), &facts()).contains("Linux 6.6"));
        assert!(mend(&step(Step::IdmapSet), &facts()).contains("ordinary user"));
    }
}
