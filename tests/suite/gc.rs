//! `proctor gc`: nothing of runs that were killed stays, and everything of those that live does.

use std::path::{Path, PathBuf};

use harness::{Outcome, Proctor, TestRepo, User, World, users};
use rustix::process::Signal;
use serde_json::Value;

use crate::proctor;
use crate::proofs::without_namespaces;
use crate::support::{each, meanwhile_with, passes, run, sh, signal, snapshot, untouched};
use crate::survivors::cgroups;

fn gc(repo: &TestRepo<'_>, options: &[&str]) -> Outcome {
    proctor(repo.world()).arg("gc").args(options).run()
}

/// Clears up, and asserts that nothing of this world's could not be. (Root sees what other tests leave too.)
fn gc_json(repo: &TestRepo<'_>, options: &[&str]) -> Value {
    let runs = names(&state(repo, "runs"));
    let outcome = gc(repo, &[&["--json"], options].concat());
    let cleared: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let left = cleared["left"].as_array().unwrap();
    assert_eq!(outcome.code, Some(i32::from(!left.is_empty())), "{outcome:#?}");
    let world = repo.world().path("").display().to_string();
    let ours = |path: &str| path.starts_with(&world) || runs.iter().any(|run_id| path.contains(run_id));
    let ours: Vec<&Value> = left.iter().filter(|one| one["path"].as_str().is_some_and(ours)).collect();
    assert!(ours.is_empty(), "{cleared:#}");
    cleared
}

fn state(repo: &TestRepo<'_>, name: &str) -> PathBuf {
    repo.world().path("state/proctor").join(name)
}

fn areas(repo: &TestRepo<'_>) -> PathBuf {
    if repo.world().user == User::Root { "/var/lib/proctor/areas".into() } else { state(repo, "areas") }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Everything that is left of one run, outside of its evidence.
fn left_of(repo: &TestRepo<'_>, run_id: &str) -> Vec<String> {
    let mut left: Vec<String> = cgroups().into_iter().filter(|path| path.contains(run_id)).collect();
    for place in [state(repo, "layers"), areas(repo)] {
        left.extend(names(&place).into_iter().filter(|name| name == run_id));
    }
    left
}

/// Clears up until nothing of these runs is left. Whoever else clears up, or only looks, has what it is at for itself
/// meanwhile; as root runs of other tests do that too.
fn cleared_of(repo: &TestRepo<'_>, runs: &[String]) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let left: Vec<String> = runs.iter().flat_map(|run_id| left_of(repo, run_id)).collect();
        if left.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{left:?}");
        gc_json(repo, &[]);
    }
}

/// Asserts that `proctor gc` leaves nothing of this world's runs but evidence.
pub(crate) fn nothing_left_of(repo: &TestRepo<'_>) {
    let cleared = gc_json(repo, &[]);
    cleared_of(repo, &names(&state(repo, "runs")));
    let unfinished = names(&state(repo, "runs"))
        .into_iter()
        .filter(|run_id| !state(repo, "runs").join(run_id).join("report.json").exists());
    let kept: Vec<&str> =
        cleared["kept"].as_array().unwrap().iter().filter_map(|item| item["path"].as_str()).collect();
    for run_id in unfinished {
        assert!(kept.iter().any(|path| path.ends_with(&run_id)), "{run_id} is not told of: {cleared:#}");
    }
}

/// Ways for a run's private directories to lie somewhere.
const WAYS: [&str; 3] = ["memory", "disk", "landlock"];

fn backend(repo: &TestRepo<'_>, way: &str, options: &[&str], script: &str) -> Proctor {
    if way == "landlock" {
        without_namespaces(repo.world(), &[])
            .args(["run", "--min-level", "landlock", "--repo"])
            .arg(repo.path())
            .args(options)
            .args(["--no-test", "--", "sh", "-c", script])
    } else {
        sh(repo, &[&["--no-test", "--layer", way], options].concat(), script)
    }
}

/// What a backend leaves to make clearing up hard: links out, names that are no text, a tree deeper than a path can be
/// long (making it costs the square of its depth), closed directories.
const HOSTILE: &str = "echo x > src/value.txt; ln -s / src/root; ln -s ../../../../../../.. src/up; \
    perl -e 'open F, \">\", \"no\\xfftext\\n\\e[2J\"; print F \"x\" x 100000; close F; \
        mkdir \"deep\"; chdir \"deep\"; for (1..2100) { mkdir \"d\" or last; chdir \"d\" or last }'; \
    mkdir closed closed/inner; : > closed/inner/file; chmod 000 closed/inner closed; echo ready; sleep 60";

fn new_run(repo: &TestRepo<'_>, known: &[String]) -> String {
    let mut new: Vec<String> =
        names(&state(repo, "runs")).into_iter().filter(|name| !known.contains(name)).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    new.remove(0)
}

#[test]
fn nothing_of_killed_runs_stays_and_everything_of_a_living_one_does() {
    each(|repo| {
        let before = snapshot(repo);
        let outside = repo.world().write("outside/kept", "x");
        let mut dead = Vec::new();
        for way in WAYS {
            let known = names(&state(repo, "runs"));
            let outcome = meanwhile_with(backend(repo, way, &[], HOSTILE), |pid| signal(pid, Signal::KILL));
            assert_eq!(outcome.code, None, "{way}: {outcome:#?}");
            dead.push(new_run(repo, &known));
        }
        // A root's areas are cleared up by any run of root's, so by other tests' too; the layers only by gc.
        let layers = names(&state(repo, "layers"));
        assert_eq!(layers, [dead[1].clone()]);
        for way in WAYS {
            let known = names(&state(repo, "runs"));
            // It goes on until this test says so, and not for ever where the test fails.
            let told = repo.world().path(format!("told-{way}"));
            std::fs::create_dir(&told).unwrap();
            let told = told.display().to_string();
            let script = format!(
                "echo mended > src/value.txt; echo ready; for i in $(seq 600); do [ -e {told}/go ] && exit 0; sleep 0.1; done"
            );
            let live = backend(repo, way, &["--ro", &told], &script);
            let outcome = meanwhile_with(live, |_| {
                let living = new_run(repo, &known);
                let had = left_of(repo, &living);
                // Two at once, and a third that only looks.
                let mut others: Vec<_> = [&["gc"][..], &["gc", "--dry-run"]]
                    .map(|args| proctor(repo.world()).args(args).spawn())
                    .into();
                let asked = ["--unfinished-older-than", "0s", "--evidence-older-than", "10000d"];
                let cleared = gc_json(repo, &asked);
                for other in &mut others {
                    // 1 where something of another test's is left.
                    assert!(matches!(other.wait().unwrap().code(), Some(0 | 1)));
                }
                assert!(cleared["living"].as_u64().unwrap() >= 1, "{cleared:#}");
                assert_eq!(left_of(repo, &living), had, "{way}: something of a living run went: {cleared:#}");
                assert!(state(repo, "runs").join(&living).exists(), "{cleared:#}");
                cleared_of(repo, &dead);
                for run_id in &dead {
                    assert!(!state(repo, "runs").join(run_id).exists(), "{cleared:#}");
                }
                assert_eq!(left_of(repo, &living), had, "{way}: something of a living run went");
                std::fs::write(format!("{told}/go"), "").unwrap();
            });
            passes(&outcome, repo);
        }
        assert_eq!(std::fs::read(outside).unwrap(), b"x");
        untouched(&before, repo);
    });
}

#[test]
fn a_dry_run_tells_the_same_and_removes_nothing() {
    each(|repo| {
        let outcome = meanwhile_with(backend(repo, "disk", &[], HOSTILE), |pid| signal(pid, Signal::KILL));
        assert_eq!(outcome.code, None, "{outcome:#?}");
        let run_id = new_run(repo, &[]);
        let there = left_of(repo, &run_id);
        let layers = state(repo, "layers").join(&run_id).display().to_string();
        let of = |value: &Value| {
            let all = value["removed"].as_array().unwrap().clone();
            all.into_iter().find(|item| item["path"] == *layers).unwrap_or_else(|| panic!("{value:#}"))
        };
        let told = gc_json(repo, &["--dry-run"]);
        assert_eq!((&told["dry_run"], &of(&told)["kind"]), (&true.into(), &"layers".into()));
        assert!(told["bytes"].as_u64().unwrap() >= 100_000, "{told:#}");
        assert_eq!(left_of(repo, &run_id), there);
        let outcome = gc(repo, &[]);
        assert!(matches!(outcome.code, Some(0 | 1)), "{outcome:#?}");
        for words in [
            &format!("removed {layers} (layers on disk, at least "),
            "kept unfinished evidence of 1 run that were killed",
            "--unfinished-older-than DUR removes it",
        ] {
            assert!(outcome.stderr.contains(words), "{words}: {outcome:#?}");
        }
        assert!(outcome.stdout.is_empty() && !outcome.stderr.contains('\x1b'), "{outcome:#?}");
        assert_eq!(left_of(repo, &run_id), Vec::<String>::new());
        // What it leaves, the next one finds nothing of.
        assert_eq!(
            gc_json(repo, &[])["removed"].as_array().map(|all| {
                all.iter()
                    .filter(|item| item["path"].as_str().is_some_and(|path| path.contains(&run_id)))
                    .count()
            }),
            Some(0)
        );
    });
}

#[test]
fn finished_evidence_goes_only_where_its_age_is_said() {
    each(|repo| {
        let outcome = sh(repo, &["--test", "sh check.sh"], "echo mended > src/value.txt").run();
        passes(&outcome, repo);
        let elsewhere = repo.world().path("elsewhere");
        let other = run(repo, &["--no-test", "--evidence"])
            .arg(&elsewhere)
            .args(["--", "sh", "-c", "echo mended > src/value.txt"])
            .run();
        passes(&other, repo);
        let by_hand = state(repo, "runs").join("by-hand");
        std::fs::create_dir(&by_hand).unwrap();
        repo.world().user.own(&by_hand);
        for options in [&[][..], &["--unfinished-older-than", "0s"], &["--evidence-older-than", "1h"]] {
            gc_json(repo, options);
            passes(&outcome, repo);
        }
        let cleared = gc_json(repo, &["--evidence-older-than", "0s"]);
        assert!(cleared["removed"].to_string().contains("\"evidence\""), "{cleared:#}");
        assert!(!outcome.evidence().exists() && by_hand.exists());
        passes(&other, repo);
    });
}

#[test]
fn what_cannot_be_removed_is_named_and_what_is_asked_wrongly_is_said() {
    each(|repo| {
        for option in ["--evidence-older-than", "--unfinished-older-than"] {
            let outcome = gc(repo, &[option, "soon"]);
            assert_eq!(outcome.code, Some(2), "{outcome:#?}");
            assert!(outcome.stderr.contains(&format!("{option}: ")), "{outcome:#?}");
        }
        // Nobody's state directory yet: nothing to do.
        assert!(!state(repo, "layers").exists());
        gc_json(repo, &[]);
        let layers = state(repo, "layers");
        std::fs::create_dir_all(layers.join("r-20260601T120000-abcdef")).unwrap();
        repo.world().user.own(&repo.world().path("state"));
        // Open to others: whatever is in it may be theirs.
        let outcome = gc(repo, &[]);
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        let named = format!(
            "cannot remove {}: it is not a directory that its owner alone can enter",
            layers.display()
        );
        assert!(outcome.stderr.contains(&named), "{outcome:#?}");
        assert!(layers.join("r-20260601T120000-abcdef").exists());
    });
    // As root: what others could lead elsewhere is not gone through, and what is mounted in it is not entered.
    if users().len() > 1 {
        let theirs = World::new(User::Ordinary);
        let world = World::new(User::Root);
        let repo = TestRepo::small(&world);
        let dead = theirs.path("victim/layers/r-20260601T120000-abcdef");
        std::fs::create_dir_all(&dead).unwrap();
        std::fs::set_permissions(dead.parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        std::os::unix::fs::symlink(theirs.path("victim"), theirs.path("state/proctor")).unwrap();
        let outcome = proctor(&world).arg("gc").env("XDG_STATE_HOME", theirs.path("state")).run();
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        assert!(
            outcome.stderr.contains("belongs to uid 1000, who could lead Proctor to other places"),
            "{outcome:#?}"
        );
        assert!(dead.exists());
        let layers = state(&repo, "layers");
        let mounted = layers.join("r-20260601T120000-abcdef/backend");
        std::fs::create_dir_all(&mounted).unwrap();
        let script = format!(
            "chmod 700 {0}; mount --bind {1} {2}; touch {1}/kept",
            layers.display(),
            world.path("home").display(),
            mounted.display()
        );
        let outcome = Proctor::within(&script, crate::binary(), &world).arg("gc").run();
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        assert!(
            outcome
                .stderr
                .contains(&format!("cannot remove {}", layers.join("r-20260601T120000-abcdef").display())),
            "{outcome:#?}"
        );
        assert!(world.path("home/kept").exists());
    }
}
