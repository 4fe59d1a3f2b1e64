//! `proctor doctor`: what this host can enforce, proved by trying it, and how to mend what is missing.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use proctor_sandbox::cgroup::{Cgroup, CgroupLimits};
use proctor_sandbox::error::LaunchError;
use proctor_sandbox::host::Facts;
use proctor_sandbox::launch::Launcher;
use proctor_sandbox::single::{self, Outcome, Single};
use serde::Serialize;
use serde_json::json;

use super::output;
use crate::evidence::new_run_id;
use crate::exit::ExitCode;
use crate::mend;
use crate::profile::{HostEnv, LayerPlace};
use crate::run::identity::HostId;
use crate::run::level::{self, Full, Unreached, probe_landlock};
use crate::run::state_dirs::StateDirs;

/// The Landlock ABI that brought scoping (landlock(7)).
const SCOPING_ABI: u32 = 6;

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
    /// Not tried: what it needs is missing.
    Untried,
}

#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    state: State,
    /// What was done to find out.
    tried: &'static str,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// A level of the sandbox, and whether a run gets it here.
#[derive(Debug, Serialize)]
struct Level {
    name: &'static str,
    reached: bool,
    /// The step at which the whole chain failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    /// Mechanisms that it needs and that failed by themselves.
    lacks: Vec<&'static str>,
}

/// Probes and prints. Exit code 0: level `full`; 3: a run would be refused.
pub(super) fn run(json: bool) -> ExitCode {
    let launcher = match Launcher::start() {
        Ok(launcher) => launcher,
        Err(e) => return output::error(e, ExitCode::Defect),
    };
    let facts = Facts::read();
    let (full, singles) = try_all(&launcher);
    let mut lines = vec![level_line(&full)];
    lines.extend(full.as_ref().ok().map(layer_line));
    match singles {
        Ok(singles) => lines.extend(singles.into_iter().map(|one| single_line(one, full.is_ok(), &facts))),
        Err(error) => lines.push(Line {
            what: "single mechanisms",
            state: State::Weak,
            tried: "each in a child of its own",
            found: format!("not tried: {error}"),
            mend: None,
        }),
    }
    lines.extend(facts_lines(&facts));
    lines.push(cgroup_line());
    let levels = [full_level(&full, &lines), landlock_level(&launcher)];
    let level = levels.iter().find(|level| level.reached).map(|level| level.name);
    if json {
        let mechanisms: Vec<String> = full
            .iter()
            .flat_map(|full| full.enforced.mechanisms())
            .map(|mechanism| mechanism.name())
            .collect();
        output::json(&json!({ "level": level, "levels": levels, "mechanisms": mechanisms, "checks": lines }));
    } else {
        show(&lines, &levels, level);
    }
    // What a run gets that accepts no lower level.
    if full.is_ok() { ExitCode::Pass } else { ExitCode::Refused }
}

fn show(lines: &[Line], levels: &[Level], level: Option<&str>) {
    for line in lines {
        let mark = match line.state {
            State::Ok => "ok     ",
            State::Weak => "weak   ",
            State::Missing => "MISSING",
            State::Untried => "untried",
        };
        let found = if line.found.is_empty() { line.tried } else { line.found.as_str() };
        output::note(format_args!("{mark}  {:<22} {found}", line.what));
        let failed = matches!(line.state, State::Weak | State::Missing);
        if failed && !line.tried.is_empty() && found != line.tried {
            output::note(format_args!("           tried: {}", line.tried));
        }
        if let Some(mend) = &line.mend {
            output::note(format_args!("           to mend: {mend}"));
        }
    }
    for level in levels.iter().filter(|level| !level.reached) {
        let lacks = match (&level.failed, level.lacks.is_empty()) {
            (Some(failed), true) => failed.clone(),
            (None, true) => "no single mechanism; the whole chain failed".to_owned(),
            (_, false) => level.lacks.join(", "),
        };
        output::note(format_args!("level {} is not reached; it lacks: {lacks}", level.name));
    }
    output::note(match level {
        Some("landlock") => {
            "level: landlock, which a run gets with `--min-level landlock` alone: files, signals and sockets are held by Landlock and seccomp over a private copy of the work tree, and much is listed as missing (docs/threat-model.md)".to_owned()
        }
        Some(level) => {
            format!("level: {level} (every mechanism was applied and checked in a throwaway sandbox)")
        }
        None => "level: none; `proctor run` is refused here with exit code 3".to_owned(),
    });
}

/// The whole chain as a run settles it, and each mechanism by itself.
fn try_all(launcher: &Launcher) -> (Result<Full, Unreached>, Result<Vec<Single>, LaunchError>) {
    let (parent, name, dir) = match scratch() {
        Ok(scratch) => scratch,
        Err(e) => {
            let why = format!("a scratch directory for the probe: {e}");
            return (Err(Unreached { why: why.clone(), mend: None }), Err(LaunchError::Launcher(why)));
        }
    };
    let full = level::probe_full(launcher, &parent, &dir, LayerPlace::Auto, &name);
    let singles = HostId::take(crate::run::state_dirs::uid_locks())
        .map_err(|e| LaunchError::Launcher(e.to_string()))
        .and_then(|id| single::each(id.identity, &dir));
    // Empty, and ours: nothing was written but into the sandbox's private layer.
    let _ = std::fs::remove_dir(&dir);
    (full, singles)
}

/// An empty directory of our own below Proctor's state, where layers would lie: work trees are more likely to be on that
/// file system than on a tmpfs. The state directory, its name there, and its path.
fn scratch() -> io::Result<(PathBuf, String, PathBuf)> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    let parent = match StateDirs::new(&HostEnv::of_this_process()) {
        Some(dirs) => dirs.state,
        None => std::env::temp_dir(),
    };
    let name = format!("doctor-{}", crate::event::hex::encode(&random));
    let dir = parent.join(&name);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    Ok((parent, name, dir))
}

fn level_line(full: &Result<Full, Unreached>) -> Line {
    let (state, found, mend) = match full {
        Ok(full) => (
            State::Ok,
            format!("{} mechanisms in force in a throwaway sandbox", full.enforced.mechanisms().len()),
            None,
        ),
        Err(not) => (State::Missing, not.why.clone(), not.mend.clone()),
    };
    Line { what: "full sandbox", state, tried: "a whole sandbox around an empty directory", found, mend }
}

fn layer_line(full: &Full) -> Line {
    let tried = "the same sandbox, first with its layers in memory";
    let (state, found, mend) = match &full.memory {
        None => (State::Ok, "in memory, their size is limited".to_owned(), None),
        Some(refused) => (
            State::Weak,
            format!(
                "on disk, below Proctor's state: their size is watched, and --disk is refused without --layer disk (in memory: {refused})"
            ),
            Some("Linux 6.6 or later keeps them in memory".to_owned()),
        ),
    };
    Line { what: "private layers", state, tried, found, mend }
}

/// What level `full` is here. Whether it is reached, the whole chain says; the single mechanisms explain.
fn full_level(full: &Result<Full, Unreached>, lines: &[Line]) -> Level {
    let lacks =
        lines.iter().skip(1).filter(|line| line.state == State::Missing).map(|line| line.what).collect();
    let failed = full.as_ref().err().map(|not| not.why.clone());
    Level { name: "full", reached: full.is_ok(), failed, lacks }
}

/// What level `landlock` is here: the whole chain again, around a private directory.
fn landlock_level(launcher: &Launcher) -> Level {
    let dirs = StateDirs::new(&HostEnv::of_this_process());
    let probed = dirs.ok_or_else(|| "neither XDG_STATE_HOME nor HOME is set".to_owned()).and_then(|dirs| {
        let name = new_run_id().map_err(|e| e.to_string())?;
        probe_landlock(launcher, &dirs, &name).map_err(|unreached| unreached.why)
    });
    Level { name: "landlock", reached: probed.is_ok(), failed: probed.err(), lacks: Vec::new() }
}

fn single_line(one: Single, full: bool, facts: &Facts) -> Line {
    // Where the whole stands, a part that failed alone is something that it goes without; a name of its own always is.
    let lost = if full || one.name == "host name" { State::Weak } else { State::Missing };
    let (mut state, found, mut mend) = match one.outcome {
        Outcome::Works(detail) => (State::Ok, detail, None),
        Outcome::Fails(step) => (lost, step.to_string(), Some(mend::of_step(&step, facts))),
        Outcome::NotTried(why) => (State::Untried, why, None),
        Outcome::Died(how) => (lost, how, Some(mend::of_death(facts))),
    };
    if one.name == "Landlock" && state == State::Ok && facts.landlock_abi < SCOPING_ABI {
        state = State::Weak;
        mend = Some(format!(
            "Linux 6.12 or later (Landlock ABI {SCOPING_ABI}) also scopes signals and abstract sockets"
        ));
    }
    Line { what: one.name, state, tried: one.tried, found, mend }
}

fn facts_lines(facts: &Facts) -> Vec<Line> {
    let fact = |what, found| Line { what, state: State::Ok, tried: "", found, mend: None };
    let piped = facts.core_pattern.starts_with('|');
    let mut lines = vec![
        fact("kernel", facts.own.kernel.clone()),
        fact(
            "core dumps",
            if piped { "piped core_pattern; held by RLIMIT_CORE 1" } else { "not piped" }.to_owned(),
        ),
    ];
    lines.extend(facts.container.clone().map(|container| fact("container", container)));
    lines.extend(facts.own.apparmor.clone().map(|profile| fact("AppArmor profile", profile)));
    if facts.own.filtered {
        lines.push(fact("seccomp filter", "one is over this process already".to_owned()));
    }
    lines
}

fn cgroup_line() -> Line {
    let name = format!("proctor-doctor-{}", std::process::id());
    let limits = CgroupLimits { memory: Some(64 << 20), tasks: Some(16), cpus: Some(0.5) };
    let tried = "a cgroup made below this one, with limits";
    let mend = || Some(mend::delegation());
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
                tried,
                found: format!("{}: {}", cgroup.version(), has.join(", ")),
                mend: if state == State::Ok { None } else { mend() },
            }
        }
        Ok(None) => Line {
            what: "cgroup",
            state: State::Weak,
            tried,
            found: "none that this user may use: memory is watched, --memory and --cpus are refused; tasks are held by rlimit".into(),
            mend: mend(),
        },
        Err(error) => {
            Line { what: "cgroup", state: State::Weak, tried, found: format!("cannot be limited: {error}"), mend: mend() }
        }
    }
}

#[cfg(test)]
mod tests {
    use proctor_sandbox::error::{Step, StepError};
    use proctor_sandbox::host::OwnFacts;

    use super::*;

    fn facts(landlock_abi: u32) -> Facts {
        Facts {
            max_user_namespaces: None,
            unprivileged_userns_clone: None,
            apparmor_restricts_userns: None,
            landlock_abi,
            overlay_registered: true,
            seccomp: true,
            container: Some("docker".into()),
            core_pattern: "|/usr/lib/systemd/systemd-coredump".into(),
            own: OwnFacts {
                filtered: true,
                apparmor: Some("docker-default (enforce)".into()),
                ..OwnFacts::default()
            },
        }
    }

    fn single(name: &'static str, outcome: Outcome) -> Single {
        Single { name, tried: "so", outcome }
    }

    fn refused(step: Step) -> StepError {
        StepError { step, subject: String::new(), errno: 1 }
    }

    #[test]
    fn a_part_that_fails_is_missing_or_weak_as_the_whole_is() {
        let fails = || single("overlay", Outcome::Fails(refused(Step::OverlayMount)));
        let line = single_line(fails(), false, &facts(7));
        assert_eq!(line.state, State::Missing);
        assert!(
            line.found.contains("mounting the overlay") && line.found.contains("EPERM"),
            "{}",
            line.found
        );
        assert!(line.mend.is_some_and(|m| m.contains("--security-opt seccomp=")));
        assert_eq!(single_line(fails(), true, &facts(7)).state, State::Weak);
        let died = single_line(single("seccomp", Outcome::Died("killed by SIGSYS".into())), false, &facts(7));
        assert!(died.mend.is_some_and(|m| m.contains("kills")));
        let untried = single_line(single("overlay", Outcome::NotTried("why".into())), false, &facts(7));
        assert_eq!((untried.state, untried.found.as_str()), (State::Untried, "why"));
    }

    #[test]
    fn an_old_landlock_is_weak_and_says_what_a_newer_one_gives() {
        let works = || single("Landlock", Outcome::Works("ABI 5".into()));
        let line = single_line(works(), true, &facts(5));
        assert_eq!(line.state, State::Weak);
        assert!(line.mend.is_some_and(|m| m.contains("Linux 6.12")));
        assert_eq!(single_line(works(), true, &facts(6)).state, State::Ok);
    }

    #[test]
    fn a_level_lists_what_it_lacks() {
        let error = || {
            let why = LaunchError::from(refused(Step::ProcMount)).to_string();
            Err(Unreached { why, mend: None })
        };
        let lines = vec![
            level_line(&error()),
            single_line(single("fresh /proc", Outcome::Fails(refused(Step::ProcMount))), false, &facts(7)),
            single_line(single("overlay", Outcome::Works(String::new())), false, &facts(7)),
        ];
        let level = full_level(&error(), &lines);
        assert!(!level.reached && level.failed.is_some_and(|f| f.contains("fresh /proc")));
        assert_eq!(level.lacks, ["fresh /proc"]);
    }

    #[test]
    fn what_surrounds_the_process_is_told() {
        let lines = facts_lines(&facts(7));
        let found: Vec<&str> = lines.iter().map(|line| line.found.as_str()).collect();
        for wanted in ["RLIMIT_CORE 1", "docker", "docker-default (enforce)", "already"] {
            assert!(found.iter().any(|f| f.contains(wanted)), "{wanted}: {found:?}");
        }
    }
}
