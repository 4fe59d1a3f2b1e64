//! Layers that lie on disk (`--layer disk`, and older kernels): what is judged is the same, their size is watched and
//! said to be only watched, and nothing of them is left.

use std::os::unix::fs::MetadataExt;

use harness::{TestRepo, User, users};
use serde_json::Value;

use crate::support::{each, fails, meanwhile_with, passes, run, sh, signal, snapshot, untouched};

/// Everything that a layer has to carry: copy-up, whiteout, opaque directory, new names, modes, links, closed places.
const CHANGES: &str = "echo mended > src/value.txt; rm -r docs; mkdir docs; echo new > docs/new; rm README; \
    mkdir -p a/b/c; echo x > a/b/c/x; ln -s ../src a/link; chmod 755 a/b/c/x; chmod 000 a/b; git add -A";

fn left(repo: &TestRepo<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(repo.world().path("state/proctor/layers")).into_iter().flatten().flatten()
    {
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names
}

fn mechanisms(report: &Value) -> Vec<&str> {
    report["sandbox"]["mechanisms"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect()
}

#[test]
fn the_result_is_the_same_as_in_memory_and_nothing_is_left() {
    each(|repo| {
        std::fs::create_dir(repo.path().join("docs")).unwrap();
        std::fs::write(repo.path().join("docs/old"), "old\n").unwrap();
        repo.world().user.own(repo.path());
        repo.commit("docs");
        let before = snapshot(repo);
        let mut patches = Vec::new();
        for place in ["memory", "disk"] {
            let cache = repo.world().path("cache");
            std::fs::create_dir_all(&cache).unwrap();
            repo.world().user.own(&cache);
            let cache = cache.to_string_lossy().into_owned();
            let test = "grep -qx mended src/value.txt && test ! -e README && test ! -e docs/old && test -x a/link/../a/b/c/x && ! test -e big && dd if=/dev/zero of=big bs=64k count=8 && test ! -e \"$CACHE/kept\"";
            let outcome = run(repo, &["--layer", place, "--test", test, "--overlay", &cache])
                .args(["--test-overlay", &cache, "--test-env", &format!("CACHE={cache}")])
                .args(["--", "sh", "-c", &format!("echo x > {cache}/kept && cat {cache}/kept; {CHANGES}")])
                .run();
            passes(&outcome, repo);
            assert_eq!(outcome.text("backend.stdout.log"), "x\n");
            assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0);
            let report = outcome.report();
            let (has, has_not, mechanism) = match place {
                "disk" => ("disk_layer", "disk_limit", "watcher"),
                _ => ("disk_limit", "disk_layer", "tmpfs size"),
            };
            let all = mechanisms(&report);
            assert!(all.contains(&has) && !all.contains(&has_not), "{place}: {all:?}");
            assert_eq!(report["limits"]["disk"]["mechanism"], mechanism, "{place}");
            let missing = report["sandbox"]["missing"].as_array().unwrap();
            let said = missing.iter().any(|m| m.as_str().unwrap().starts_with("disk limit: "));
            assert_eq!(said, place == "disk", "{missing:?}");
            patches.push((outcome.text("patch.diff"), report["result_tree"].clone()));
            assert_eq!(left(repo), Vec::<String>::new(), "{place}");
        }
        assert!(patches[0].0.contains("a/b/c/x"), "{}", patches[0].0);
        assert_eq!(patches[0], patches[1]);
        untouched(&before, repo);
    });
}

#[test]
fn what_is_larger_than_the_limit_is_stopped_or_at_least_no_pass() {
    each(|repo| {
        let options = ["--no-test", "--layer", "disk", "--disk", "16M"];
        // The second is over before anybody looks.
        let endless = "while :; do head -c 4000000 /dev/zero >> src/value.txt; sleep 0.02; done";
        let at_once = "head -c 20000000 /dev/zero > src/value.txt";
        let small_files = "mkdir many; cd many; perl -e 'for (1..70000) { open(my $f, \">\", $_) or die }'";
        let mut rows = vec![(endless, "disk", true), (at_once, "disk", false)];
        // Making that many files is slow, and nobody's user makes a difference to how they are counted.
        if repo.world().user == users()[0] || crate::support::full() {
            rows.push((small_files, "inodes", false));
        }
        for (script, what, also) in rows {
            let outcome = sh(repo, &options, script).run();
            let blockers = outcome.blockers();
            assert!(blockers.contains(&"resource_limit".to_owned()), "{script}: {outcome:#?}");
            let report = outcome.report();
            if also {
                assert!(report["backend_exit_code"].is_null(), "{script}: {outcome:#?}");
            }
            let limit = outcome.events().into_iter().find(|e| e["type"] == "limit.exceeded").unwrap();
            assert_eq!(limit["data"]["mechanism"], "watcher", "{limit}");
            assert_eq!(limit["data"]["what"], what, "{limit}");
            assert!(limit["data"]["seen"].as_u64() > limit["data"]["limit"].as_u64(), "{limit}");
            assert_eq!(left(repo), Vec::<String>::new());
        }
        // A file without a name is seen by nobody who looks: the size of one is limited all the same.
        let nameless = "exec 9> gone; rm gone; head -c 200000000 /dev/zero >&9";
        let outcome = sh(repo, &options, nameless).run();
        assert!(outcome.blockers().contains(&"backend_failed".to_owned()), "{outcome:#?}");
        let outcome = sh(repo, &["--no-test", "--disk", "600M", "--layer", "disk"], nameless).run();
        assert!(!outcome.blockers().contains(&"backend_failed".to_owned()), "{outcome:#?}");
        // /tmp is a tmpfs in either case, and counts under the same limit.
        let outcome = sh(
            repo,
            &options,
            "head -c 9000000 /dev/zero > /tmp/a; head -c 9000000 /dev/zero > src/b; exit 0",
        )
        .run();
        fails(&outcome, repo, 1, &["resource_limit"], &["limit.exceeded"]);
    });
}

#[test]
fn a_killed_run_leaves_a_closed_layer_that_the_next_run_removes() {
    each(|repo| {
        let layers = repo.world().path("state/proctor/layers");
        let backend =
            sh(repo, &["--no-test", "--layer", "disk"], "echo started; echo x > src/value.txt; sleep 60");
        let outcome = meanwhile_with(backend, |pid| {
            assert_eq!(std::fs::metadata(&layers).unwrap().mode() & 0o777, 0o700);
            let run = std::fs::read_dir(&layers).unwrap().next().unwrap().unwrap().path();
            assert_eq!(std::fs::metadata(&run).unwrap().mode() & 0o777, 0o700);
            let own = std::fs::metadata(run.join("backend")).unwrap();
            assert_eq!(own.mode() & 0o777, 0o700);
            match repo.world().user {
                User::Root => assert!(own.uid() >= 65_536, "the layer belongs to uid {}", own.uid()),
                User::Ordinary => assert_eq!(own.uid(), repo.world().user.uid()),
            }
            signal(pid, rustix::process::Signal::KILL);
        });
        assert_eq!(outcome.code, None, "{outcome:#?}");
        assert_eq!(left(repo).len(), 1);
        let outcome = sh(repo, &["--no-test", "--layer", "disk"], "echo y > src/value.txt").run();
        passes(&outcome, repo);
        assert_eq!(left(repo), Vec::<String>::new());
    });
}

#[test]
fn a_place_that_others_can_enter_is_refused() {
    each(|repo| {
        let layers = repo.world().path("state/proctor/layers");
        std::fs::create_dir_all(&layers).unwrap();
        repo.world().user.own(&repo.world().path("state"));
        let outcome = sh(repo, &["--no-test", "--layer", "disk"], "true").run();
        fails(&outcome, repo, 3, &["sandbox_unavailable"], &[]);
        let text = outcome.report()["blockers"][0].to_string();
        assert!(text.contains("its owner alone can enter") && text.contains("XDG_STATE_HOME"), "{text}");
    });
}

#[test]
fn the_copy_of_level_landlock_is_watched_as_well() {
    each(|repo| {
        let probe = crate::proofs::probe().to_string_lossy().into_owned();
        let without = [probe.as_str(), "without", "clone3=ENOSYS", "--"];
        let run = |options: &[&str], script: &str| {
            harness::Proctor::through(&without, crate::binary(), repo.world())
                .args(["run", "--no-test", "--min-level", "landlock", "--mutation", "discard", "--repo"])
                .arg(repo.path())
                .args(options)
                .args(["--", "sh", "-c", script])
                .run()
        };
        let more = "while :; do head -c 4000000 /dev/zero >> src/$i; i=$((i + 1)); sleep 0.02; done";
        for (options, expected) in [
            (&["--disk", "64M"][..], "say --layer disk too"),
            (&["--layer", "memory"], "level landlock works on a copy on disk"),
        ] {
            let outcome = run(options, "true");
            assert_eq!(outcome.code, Some(3), "{outcome:#?}");
            assert!(outcome.report()["blockers"].to_string().contains(expected), "{outcome:#?}");
        }
        let outcome = run(&["--layer", "disk", "--disk", "64M"], more);
        assert!(outcome.blockers().contains(&"resource_limit".to_owned()), "{outcome:#?}");
        let report = outcome.report();
        assert_eq!(report["sandbox"]["level"], "landlock");
        assert_eq!(report["limits"]["disk"]["mechanism"], "watcher");
        assert!(report["backend_exit_code"].is_null(), "{outcome:#?}");
        assert!(report["sandbox"]["missing"].to_string().contains("together are watched"), "{report:#}");
        let limit = outcome.events().into_iter().find(|e| e["type"] == "limit.exceeded").unwrap();
        assert_eq!(
            (&limit["data"]["what"], &limit["data"]["mechanism"]),
            (&"disk".into(), &"watcher".into())
        );
        assert!(limit["data"]["seen"].as_u64() > Some(64 << 20), "{limit}");
        let outcome = run(&["--layer", "disk", "--disk", "64M"], "head -c 4000000 /dev/zero > src/i");
        assert!(!outcome.blockers().contains(&"resource_limit".to_owned()), "{outcome:#?}");
    });
}

#[test]
fn level_full_with_layers_on_disk_is_chosen_before_level_landlock() {
    each(|repo| {
        let options = ["--no-test", "--min-level", "landlock", "--layer", "disk"];
        let outcome = sh(repo, &options, "echo y > src/value.txt").run();
        passes(&outcome, repo);
        let report = outcome.report();
        assert_eq!(report["sandbox"]["level"], "full", "{report:#}");
        assert!(mechanisms(&report).contains(&"disk_layer"), "{report:#}");
        assert_eq!(left(repo), Vec::<String>::new());
    });
}
