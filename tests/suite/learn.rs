//! `proctor learn`: a run under watch and a profile proposed from what it lacked, which a run then accepts.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::{Outcome, TestRepo, World, users};
use serde_json::Value;
use tempfile::TempDir;

use crate::proctor;
use crate::support::{each, snapshot, untouched};

fn learn(repo: &TestRepo<'_>, options: &[&str], script: &str) -> Outcome {
    let command = ["--", "sh", "-c", script];
    proctor(repo.world()).args(["learn", "--repo"]).arg(repo.path()).args(options).args(command).run()
}

/// What is proposed: the profile as a table, and everything that was said.
fn proposed(outcome: &Outcome) -> (toml::Table, Value) {
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let said: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:#?}"));
    (said["profile"].as_str().unwrap().parse().unwrap_or_else(|e| panic!("{e}: {outcome:#?}")), said)
}

fn mounts(profile: &toml::Table) -> Vec<&str> {
    let list = profile.get("sandbox").and_then(|s| s.get("ro")).and_then(|ro| ro.as_array());
    list.map_or_else(Vec::new, |list| list.iter().map(|path| path.as_str().unwrap()).collect())
}

/// A place that no sandbox shows or makes for itself, with a tool in it. Only root can make one.
fn tools() -> Option<(TempDir, PathBuf)> {
    let dir = tempfile::Builder::new().prefix("proctor-learn-").tempdir_in("/opt").ok()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("tool", "#!/bin/sh\necho tool\n", 0o755);
    write("data", "data\n", 0o644);
    write("locked", "SECRET\n", 0o600);
    write(".netrc", "SECRET\n", 0o644);
    let path = dir.path().to_owned();
    Some((dir, path))
}

fn run_with(world: &World, repo: &TestRepo<'_>, profile: &Path, script: &str) -> Outcome {
    proctor(world)
        .args(["run", "--no-test", "--mutation", "discard", "--repo"])
        .arg(repo.path())
        .arg("--profile")
        .arg(profile)
        .args(["--", "sh", "-c", script])
        .run()
}

#[test]
fn what_a_run_lacks_is_proposed_and_the_proposal_makes_it_work() {
    let Some((_held, dir)) = tools() else { return };
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let script = format!("{0}/tool; cat {0}/data", dir.display());
        let before = snapshot(&repo);
        let outcome = learn(&repo, &["--json"], &format!("echo x > new; {script}"));
        let (profile, said) = proposed(&outcome);
        let paths = mounts(&profile);
        for name in ["tool", "data"] {
            assert!(paths.contains(&dir.join(name).to_str().unwrap()), "{user:?} {name}: {paths:?}");
        }
        assert_eq!(said["backend_exit_code"], 1);
        untouched(&before, &repo);
        let file = world.write("learned.toml", said["profile"].as_str().unwrap());
        let outcome = run_with(&world, &repo, &file, &script);
        assert_eq!(outcome.report()["backend_exit_code"], 0, "{user:?}: {outcome:#?}");
        assert_eq!(outcome.text("backend.stdout.log"), "tool\ndata\n", "{user:?}");
        // Then nothing is lacking any more.
        let outcome = learn(&repo, &["--profile", file.to_str().unwrap()], &script);
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        assert!(
            !outcome.stdout.contains(dir.to_str().unwrap()) || outcome.stdout.contains("one run of: sh -c")
        );
        assert!(
            !outcome.stdout.contains("ro = [\n  # looked for and not to be had inside: /opt"),
            "{outcome:#?}"
        );
    }
}

#[test]
fn credentials_locked_files_and_proctors_own_places_are_never_proposed() {
    let Some((_held, dir)) = tools() else { return };
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        world.write("home/.ssh/id_ed25519", "SECRET");
        world.write("state/proctor/x", "SECRET");
        let script = format!(
            "cat {0}/locked {0}/.netrc /etc/shadow {1}/.ssh/id_ed25519 {2}/x; ls {2} /opt /root /home; true",
            dir.display(),
            world.path("home").display(),
            world.path("state/proctor").display()
        );
        let (profile, said) = proposed(&learn(&repo, &["--json"], &script));
        for path in mounts(&profile) {
            // What the C library looks for by itself.
            assert!(path.starts_with("/etc/") && path != "/etc/shadow", "{user:?}: {path}");
        }
        let withheld = |name: &Path| {
            let list = said["withheld"].as_array().unwrap();
            let found = list.iter().find(|w| w["what"] == name.to_str().unwrap());
            found.unwrap_or_else(|| panic!("{user:?}: {name:?} is not withheld: {said:#}"))["why"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert!(withheld(&dir.join(".netrc")).contains("credentials"));
        assert!(withheld(&dir.join("locked")).contains("not everybody"));
        assert!(withheld(Path::new("/etc/shadow")).contains("not everybody"));
        assert!(withheld(Path::new("/opt")).contains("too wide"));
    }
}

#[test]
fn the_network_is_proposed_as_the_weakness_it_is_and_refused_calls_are_told() {
    each(|repo| {
        let script = "bash -c 'echo > /dev/tcp/93.184.216.34/443'; unshare -U true; exit 1";
        let outcome = learn(repo, &[], script);
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        let profile: toml::Table = outcome.stdout.parse().unwrap();
        assert_eq!(profile["sandbox"]["net"].as_str(), Some("host"), "{outcome:#?}");
        for words in [
            "# it tried the network: 93.184.216.34:443 by /usr/bin/bash",
            "# WEAKNESS: everything that this host reaches can be reached, and data can leave by it",
            "unshare by /usr/bin/unshare, 1 times (new namespaces give capabilities back): no option grants it",
            "# It grants nothing by itself",
            "# Not to be learned in this way:",
        ] {
            assert!(outcome.stdout.contains(words), "{words}: {outcome:#?}");
        }
    });
}

#[test]
fn a_limit_that_was_hit_is_proposed_higher() {
    each(|repo| {
        let outcome = learn(repo, &["--json", "--timeout", "1s", "--grace", "0s"], "sleep 30");
        let (profile, said) = proposed(&outcome);
        assert_eq!(profile["timeouts"]["wall"].as_str(), Some("2s"), "{said:#}");
    });
}

#[test]
fn options_that_make_no_sense_are_refused_and_a_command_that_is_nowhere_teaches_nothing() {
    each(|repo| {
        let outcome = learn(repo, &["--mutation", "patch"], "true");
        assert_eq!(outcome.code, Some(2), "{outcome:#?}");
        assert!(outcome.stderr.contains("--mutation: learn throws all changes away"), "{outcome:#?}");
        let outcome = proctor(repo.world())
            .args(["learn", "--repo"])
            .arg(repo.path())
            .args(["--", "no-such-program"])
            .run();
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        assert!(outcome.stderr.contains("nothing was learned") && outcome.stdout.is_empty(), "{outcome:#?}");
    });
}

#[test]
fn a_command_that_is_not_inside_is_itself_what_is_lacking() {
    let Some((_held, dir)) = tools() else { return };
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let tool = dir.join("tool");
        let outcome =
            proctor(&world).args(["learn", "--json", "--repo"]).arg(repo.path()).arg("--").arg(&tool).run();
        let (profile, _) = proposed(&outcome);
        assert_eq!(mounts(&profile), [tool.to_str().unwrap()], "{user:?}: {outcome:#?}");
        assert!(outcome.stderr.contains("is not inside and was not started"), "{outcome:#?}");
    }
}
