//! Nothing outlives a run, whoever is killed and whenever; and nothing of its private directories stays.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::{User, World, users};

use crate::proofs::Proof;
use crate::proofs::processes::{comm, parent, wait_for, with_argument};

/// Where the private directories of this user's runs are.
pub(super) fn areas(world: &World) -> PathBuf {
    if world.user == User::Root { "/var/lib/proctor/areas".into() } else { world.path("state/proctor/areas") }
}

/// Those of one run.
fn left(world: &World, run: &str) -> Vec<String> {
    let entries =
        std::fs::read_dir(areas(world)).map(|e| e.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let names = entries.into_iter().map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(run)).collect()
}

#[test]
fn nothing_outlives_the_run_and_its_directories_are_removed() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        let token = format!("41{}", std::process::id());
        // Daemons every way a shell can make them, some that make new ones while they are killed, and a deep tree.
        let script = format!(
            "(setsid sleep {token} &) ; (setsid sh -c 'trap \"\" TERM HUP INT; sleep {token}; sleep {token}' >/dev/null 2>&1 &) ; \
             nohup sleep {token} & for i in 1 2 3 4; do (setsid sh -c 'while :; do (setsid sleep {token} &); sleep 0.02; done' &); done; \
             for i in $(seq 400); do mkdir d && cd d || break; done; chmod 0 .; sleep 0.3; exit 0"
        );
        let started = Instant::now();
        let outcome = proof.command(["sh", "-c", &script]).run();
        assert!(started.elapsed() < Duration::from_secs(30), "{user:?}: it waited for a daemon");
        assert_eq!(outcome.report()["backend_exit_code"], 0, "{user:?}: {outcome:#?}");
        assert_eq!(with_argument(&token), Vec::<u32>::new(), "{user:?}");
        let run = outcome.report()["run_id"].as_str().unwrap().to_owned();
        assert_eq!(left(&world, &run), Vec::<String>::new(), "{user:?}");
        assert!(areas(&world).exists(), "{user:?}: looked at another place");
    }
}

#[test]
fn a_timeout_ends_what_ignores_signals_and_keeps_forking() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world).with(["--timeout", "1s", "--grace", "1s"]);
        let token = format!("42{}", std::process::id());
        let script = format!(
            "trap '' TERM HUP INT; for i in 1 2 3 4 5 6; do (setsid sh -c 'trap \"\" TERM; while :; do (setsid sleep {token} &); sleep 0.01; done' &); done; while :; do sleep 1; done"
        );
        let outcome = proof.command(["sh", "-c", &script]).run();
        assert!(outcome.blockers().contains(&"timeout".to_owned()), "{user:?}: {outcome:#?}");
        assert_eq!(with_argument(&token), Vec::<u32>::new(), "{user:?}");
    }
}

/// Processes of a group, dead ones not counted.
fn of_group(group: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        if fields.first().is_some_and(|state| *state != "Z")
            && fields.get(2) == Some(&group.to_string().as_str())
        {
            found.push(pid);
        }
    }
    found
}

fn started(proof: &Proof<'_>, token: &str) -> Child {
    let script = format!("setsid sleep {token} & (setsid sleep {token} &); sleep {token}");
    let mut command = proof.command(["sh", "-c", &script]);
    command.command().stdout(Stdio::null()).stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(command.command(), 0);
    command.spawn()
}

#[test]
fn a_supervisor_killed_at_any_moment_leaves_nothing_alive() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        let token = format!("43{}", std::process::id());
        for delay in (0..24).map(|n| Duration::from_millis(n * 25)) {
            let mut child = started(&proof, &token);
            std::thread::sleep(delay);
            child.kill().unwrap();
            child.wait().unwrap();
            wait_for(|| with_argument(&token).is_empty() && of_group(child.id()).is_empty(), "all is dead");
        }
        let mut child = started(&proof, &token);
        wait_for(|| with_argument(&token).len() == 3, "the backend starts");
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for(|| with_argument(&token).is_empty() && of_group(child.id()).is_empty(), "all is dead");
        // Nobody was left to remove the last copy: it is closed to others, and the next run removes it.
        let kept = || -> Vec<PathBuf> {
            let runs = std::fs::read_dir(world.path("state/proctor/runs")).unwrap().flatten();
            let names = runs.flat_map(|run| left(&world, &run.file_name().to_string_lossy()));
            names.map(|name| areas(&world).join(name)).collect()
        };
        assert!(
            !kept().is_empty(),
            "{user:?}: a killed supervisor removed its copy: say so in the documents"
        );
        for area in kept().iter().flat_map(|run| std::fs::read_dir(run).unwrap().flatten()) {
            let mode = std::os::unix::fs::PermissionsExt::mode(&area.metadata().unwrap().permissions());
            assert_eq!(mode & 0o077, 0, "{user:?}: {:?}", area.path());
        }
        proof.shell("true");
        assert_eq!(kept(), Vec::<PathBuf>::new(), "{user:?}");
    }
}

#[test]
fn a_launcher_killed_at_any_moment_ends_the_run() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        for round in 0..4 {
            let token = format!("44{round}{}", std::process::id());
            let mut child = started(&proof, &token);
            wait_for(|| with_argument(&token).len() == 3, "the backend starts");
            let launcher = launcher_above(&token, child.id());
            std::thread::sleep(Duration::from_millis(round * 7));
            kill(launcher);
            let status = child.wait().unwrap();
            assert_eq!(status.code(), Some(1), "{user:?}: {status:?}");
            wait_for(|| with_argument(&token).is_empty() && of_group(child.id()).is_empty(), "all is dead");
        }
    }
}

/// The supervisor's child that the backend descends from.
fn launcher_above(token: &str, supervisor: u32) -> u32 {
    let mut at =
        with_argument(token).into_iter().find(|pid| comm(parent(*pid)) == "sh").expect("the foreground one");
    while parent(at) != supervisor {
        at = parent(at);
    }
    at
}

pub(super) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
}
