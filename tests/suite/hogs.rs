//! Programs that want all there is: each is named with the limit that it hit and with what held it, in blocker, event
//! and report; each succeeds where the limit is higher (bounded, so that it does no harm then either). A program that
//! copes and exits 0 is no pass all the same where its limit was hit.

use std::time::{Duration, Instant};

use harness::{Outcome, Proctor, TestRepo, User, World, users};
use serde_json::Value;

use crate::support::{each, events, fails, nothing_started, passes, run, sh};
use crate::{binary, proctor};

const MEND: &str = "echo mended > src/value.txt";
/// Bounds what goes wrong in a test.
const TIMES: [&str; 4] = ["--timeout", "20s", "--grace", "100ms"];

/// Asserts that the one limit hit was `what`, held by `mechanism` in `phase`, as blocker, event and report.md say, and
/// gives the blocker.
fn hit(outcome: &Outcome, what: &str, mechanism: &str, phase: &str) -> Value {
    let exceeded = events(outcome, "limit.exceeded", "supervisor");
    let event = exceeded.iter().find(|e| e["data"]["what"] == what).map(|e| e["data"].clone());
    let event = event.unwrap_or_else(|| panic!("{what}: {exceeded:?}"));
    let report = outcome.report();
    let all = report["blockers"].as_array().unwrap();
    let said = all.iter().find(|b| b["detail"]["what"] == what).unwrap().clone();
    for of in [&event, &said["detail"]] {
        assert_eq!((&of["mechanism"], &of["phase"]), (&mechanism.into(), &phase.into()), "{of}");
    }
    let message = said["message"].as_str().unwrap();
    assert!(message.contains(&format!("The limit {what} of ")), "{message}");
    assert!(message.ends_with(&format!("by {mechanism}.")), "{message}");
    let words = mechanism.replace('_', "\\_");
    let markdown = outcome.text("report.md");
    assert!(markdown.contains(&words) || markdown.contains(mechanism), "{mechanism}: {markdown}");
    said
}

/// What holds a limit of the backend, as its report says.
fn held(outcome: &Outcome, what: &str) -> String {
    outcome.report()["limits"][what]["mechanism"].as_str().unwrap().to_owned()
}

/// A container's end of things: no cgroup to be made, and this much memory.
#[expect(clippy::print_stderr, reason = "a skip is said by its name")]
fn contained(repo: &TestRepo<'_>, megabytes: u64, options: &[&str], script: &str) -> Option<Proctor> {
    if !users().contains(&User::Root) {
        eprintln!("skipped: only root can prepare a mount namespace without cgroups");
        return None;
    }
    let bytes = megabytes << 20;
    let prepare = format!("mount -t tmpfs none /sys/fs/cgroup; echo {bytes} > /sys/fs/cgroup/memory.max");
    let run = Proctor::within(&prepare, binary(), repo.world()).args(["run", "--repo"]).arg(repo.path());
    Some(run.args(options).args(["--", "sh", "-c", script]))
}

/// Forks so often, each child waiting; copes with a refusal; says how many there are.
fn forks(count: u32) -> String {
    format!(
        "{MEND}; perl -e 'for (1..{count}) {{ my $p = fork; last unless defined $p; \
         if (!$p) {{ sleep 60; exit }} $n++ }} print \"$n\\n\"; sleep 1; exit 0'"
    )
}

#[test]
fn a_fork_bomb_is_named_with_what_refused_the_fork() {
    each(|repo| {
        let options = [&["--no-test", "--pids-limit", "40"][..], &TIMES].concat();
        let outcome = sh(repo, &options, &forks(200)).run();
        fails(&outcome, repo, 1, &["resource_limit"], &["limit.exceeded"]);
        assert_eq!(outcome.report()["backend_exit_code"], 0, "it coped");
        let mechanism = held(&outcome, "pids");
        match repo.world().user {
            User::Root => assert!(mechanism.starts_with("cgroup_v"), "{mechanism}"),
            User::Ordinary => assert!(mechanism == "rlimit NPROC" || mechanism.starts_with("cgroup_v2")),
        }
        let said = hit(&outcome, "pids", &mechanism, "backend");
        assert_eq!(
            (&said["detail"]["limit"], &said["detail"]["option"]),
            (&40.into(), &"--pids-limit".into())
        );
        if mechanism.starts_with("cgroup") {
            assert!(said["detail"]["witness"].as_str().unwrap().starts_with("pids.events max "), "{said}");
        }
        let most = outcome.report()["usage"]["backend"]["max_tasks"].as_u64().unwrap();
        assert_eq!(most, 40, "{}", outcome.report()["usage"]);

        let options = [&["--no-test", "--pids-limit", "400"][..], &TIMES].concat();
        let outcome = sh(repo, &options, &forks(200)).run();
        passes(&outcome, repo);
        assert_eq!(outcome.text("backend.stdout.log"), "200\n");
        let most = outcome.report()["usage"]["backend"]["max_tasks"].as_u64().unwrap();
        assert!((200..210).contains(&most), "{most}");
    });
}

/// Takes so many MiB in one process, slowly enough to be looked at, and holds them for a moment.
fn eats(megabytes: u32) -> String {
    format!(
        "perl -e 'my @a; for (1..{megabytes}) {{ push @a, \"x\" x 1048576; select undef, undef, undef, 0.004 }} \
         sleep 1; print \"full\\n\"'"
    )
}

/// Takes so many MiB in each of eight processes, whose fate the parent does not heed.
fn eat_together(megabytes: u32) -> String {
    format!("for i in 1 2 3 4 5 6 7 8; do {} & done; wait; true", eats(megabytes))
}

#[test]
fn a_memory_hog_is_named_with_the_cgroup_that_held_it() {
    each(|repo| {
        let refused = || {
            let outcome = sh(repo, &["--no-test", "--memory", "96M"], MEND).run();
            (outcome.code == Some(3)).then_some(outcome)
        };
        if let Some(outcome) = refused() {
            assert_eq!(repo.world().user, User::Ordinary, "{outcome:#?}");
            return;
        }
        let options = [&["--no-test", "--memory", "96M"][..], &TIMES].concat();
        let alone = sh(repo, &options, &format!("{MEND}; {}; true", eats(400))).run();
        let together = sh(repo, &options, &format!("{MEND}; {}", eat_together(40))).run();
        for outcome in [&alone, &together] {
            // Version 2 kills the whole sandbox; version 1 one process, and the shell exits 0.
            let mechanism = held(outcome, "memory");
            let blockers: &[&str] = match mechanism.as_str() {
                "cgroup_v1 memory" => &["resource_limit"],
                "cgroup_v2 memory" => &["resource_limit", "backend_failed"],
                other => panic!("{other}"),
            };
            fails(outcome, repo, 1, blockers, &["limit.exceeded"]);
            let said = hit(outcome, "memory", &mechanism, "backend");
            assert!(said["detail"]["witness"].as_str().unwrap().contains("oom_kill "), "{said}");
            assert_eq!(said["detail"]["limit"], 96 << 20);
            let peak = outcome.report()["usage"]["backend"]["max_memory"].as_u64().unwrap();
            assert!(peak <= 96 << 20, "{peak}");
        }
        let options = [&["--no-test", "--memory", "1G"][..], &TIMES].concat();
        let outcome = sh(repo, &options, &format!("{MEND}; {}", eats(400))).run();
        passes(&outcome, repo);
        assert_eq!(outcome.text("backend.stdout.log"), "full\n");
        let outcome = sh(repo, &options, &format!("{MEND}; {}", eat_together(40))).run();
        passes(&outcome, repo);
        assert_eq!(outcome.text("backend.stdout.log"), "full\n".repeat(8));
    });
}

#[test]
fn without_a_cgroup_a_watcher_stops_a_memory_hog_and_the_report_says_that_it_enforces_nothing() {
    each(|repo| {
        let options = [&["--no-test"][..], &TIMES].concat();
        // Half of the container's 256 MiB is the limit that nobody set.
        for hog in [eats(200), eat_together(25)] {
            let Some(run) = contained(repo, 256, &options, &format!("{MEND}; {hog}")) else { return };
            let outcome = run.run();
            fails(&outcome, repo, 1, &["resource_limit"], &["limit.exceeded"]);
            assert_eq!(held(&outcome, "memory"), "watcher");
            let said = hit(&outcome, "memory", "watcher", "backend");
            assert_eq!(said["detail"]["limit"], 128 << 20);
            assert!(said["detail"]["seen"].as_u64().unwrap() > 128 << 20, "{said}");
            let missing = outcome.report()["sandbox"]["missing"].to_string();
            assert!(missing.contains("memory limit") && missing.contains("not enforcement"), "{missing}");
            assert!(!outcome.text("backend.stdout.log").contains("full"), "{outcome:#?}");
        }
        for hog in [eats(200), eat_together(25)] {
            let Some(run) = contained(repo, 1024, &options, &format!("{MEND}; {hog}")) else { return };
            let outcome = run.run();
            passes(&outcome, repo);
            assert!(outcome.text("backend.stdout.log").starts_with("full\n"));
        }
    });
}

#[test]
fn a_disk_hog_is_named_also_where_it_copes_and_tidies_up() {
    each(|repo| {
        let copes = "head -c 20000000 /dev/zero > /tmp/big 2>/dev/null || echo full; sleep 0.5; rm /tmp/big";
        let options = [&["--no-test", "--disk", "4M"][..], &TIMES].concat();
        let outcome = sh(repo, &options, &format!("{MEND}; {copes}")).run();
        fails(&outcome, repo, 1, &["resource_limit"], &["limit.exceeded"]);
        assert_eq!(outcome.text("backend.stdout.log"), "full\n");
        let said = hit(&outcome, "disk", "tmpfs size", "backend");
        assert_eq!(
            (&said["detail"]["limit"], &said["detail"]["option"]),
            (&(4 << 20).into(), &"--disk".into())
        );
        let options = [&["--no-test", "--disk", "64M"][..], &TIMES].concat();
        let outcome = sh(repo, &options, &format!("{MEND}; {copes}")).run();
        passes(&outcome, repo);
        assert_eq!(outcome.text("backend.stdout.log"), "");
    });
}

#[test]
fn a_hog_of_inodes_is_named() {
    each(|repo| {
        let script = format!(
            "{MEND}; perl -e 'for (1..70000) {{ open(my $f, \">\", \"/tmp/$_\") or exit 0 }} print \"all\\n\"'"
        );
        let options = [&["--no-test", "--disk", "8M"][..], &TIMES].concat();
        let outcome = sh(repo, &options, &script).run();
        fails(&outcome, repo, 1, &["resource_limit"], &["limit.exceeded"]);
        let said = hit(&outcome, "inodes", "tmpfs inodes", "backend");
        assert_eq!(said["detail"]["limit"], 65_536);
        assert_eq!(outcome.text("backend.stdout.log"), "");
        // One inode for each 16 KiB, from 1 GiB on more than the least.
        let options = [&["--no-test", "--disk", "2G"][..], &TIMES].concat();
        let outcome = sh(repo, &options, &script).run();
        passes(&outcome, repo);
        assert_eq!(outcome.text("backend.stdout.log"), "all\n");
    });
}

#[test]
fn a_hog_of_descriptors_is_named() {
    each(|repo| {
        let script = format!(
            "{MEND}; perl -e 'my @f; for (1..600) {{ open(my $f, \"<\", \"/dev/null\") or last; push @f, $f }} \
             print scalar(@f) . \"\\n\"; sleep 1; exit 0'"
        );
        let limited = Proctor::through(&["prlimit", "--nofile=256:256", "--"], binary(), repo.world());
        let options = [&["--no-test"][..], &TIMES].concat();
        let outcome = limited
            .args(["run", "--repo"])
            .arg(repo.path())
            .args(&options)
            .args(["--", "sh", "-c", &script])
            .run();
        fails(&outcome, repo, 1, &["resource_limit"], &["limit.exceeded"]);
        let said = hit(&outcome, "open_files", "rlimit NOFILE", "backend");
        assert_eq!((&said["detail"]["limit"], &said["detail"]["option"]), (&256.into(), &Value::Null));
        assert_eq!(outcome.report()["limits"]["open_files"]["value"], 256);
        let outcome = sh(repo, &options, &script).run();
        passes(&outcome, repo);
        assert_eq!(outcome.text("backend.stdout.log"), "600\n");
    });
}

/// CPU time of the backend, seconds.
fn cpu(outcome: &Outcome) -> f64 {
    let usage = &outcome.report()["usage"]["backend"];
    (usage["user_us"].as_f64().unwrap() + usage["system_us"].as_f64().unwrap()) / 1e6
}

#[test]
fn a_spinning_program_is_held_to_its_cpus_and_ends_with_its_time() {
    each(|repo| {
        let spin = format!("{MEND}; while :; do :; done");
        let times = ["--no-test", "--timeout", "2s", "--grace", "2s"];
        let free = sh(repo, &times, &spin).run();
        fails(&free, repo, 1, &["timeout"], &["timeout.expired"]);
        assert_eq!(held(&free, "cpus"), "none");
        let options = [&times[..], &["--cpus", "0.1"]].concat();
        let outcome = sh(repo, &options, &spin).run();
        if outcome.code == Some(3) {
            assert_eq!(repo.world().user, User::Ordinary, "{outcome:#?}");
            return;
        }
        fails(&outcome, repo, 1, &["timeout"], &["timeout.expired"]);
        assert!(held(&outcome, "cpus").starts_with("cgroup_v"), "{}", held(&outcome, "cpus"));
        let report = outcome.report();
        let said = &report["blockers"][0];
        assert_eq!(said["detail"]["mechanism"], "wall");
        assert!(said["detail"]["cpu_throttled"].as_u64().unwrap() > 3, "{said}");
        assert!(said["message"].as_str().unwrap().contains("Its CPU was held to --cpus in "), "{said}");
        assert!(report["usage"]["backend"]["cpu_throttled"].as_u64().unwrap() > 3);
        let expired = events(&outcome, "timeout.expired", "supervisor");
        assert!(expired[0]["data"]["cpu_throttled"].as_u64().unwrap() > 3, "{expired:?}");
        // Of 2 s at a tenth, and what a stop takes; the free one had the machine's share.
        assert!(cpu(&outcome) < 0.5 && cpu(&free) > cpu(&outcome) * 1.5, "{}, {}", cpu(&outcome), cpu(&free));
        // To be slow is no failure.
        let options = [&["--no-test", "--cpus", "0.1"][..], &TIMES].concat();
        let busy = format!("{MEND}; perl -e '$x += $_ for 1..1000000'");
        let outcome = sh(repo, &options, &busy).run();
        passes(&outcome, repo);
        assert!(outcome.report()["usage"]["backend"]["cpu_throttled"].as_u64().is_some());
    });
}

#[test]
fn a_flood_of_output_is_named_with_its_log() {
    each(|repo| {
        let options = [&["--no-test", "--max-log", "64K"][..], &TIMES].concat();
        let script = format!("{MEND}; yes | head -c 1000000 || true");
        let outcome = sh(repo, &options, &script).run();
        fails(&outcome, repo, 1, &["output_limit"], &["limit.exceeded"]);
        let said = hit(&outcome, "backend.stdout.log", "log cap", "backend");
        assert_eq!(said["detail"]["limit"], 64 << 10);
        let options = [&["--no-test", "--max-log", "2M"][..], &TIMES].concat();
        passes(&sh(repo, &options, &script).run(), repo);
    });
}

#[test]
fn a_limit_that_the_test_command_hits_is_the_tests() {
    each(|repo| {
        let test = "head -c 20000000 /dev/zero > /tmp/big 2>/dev/null || true";
        let options = [&["--test", test, "--disk", "4M"][..], &TIMES].concat();
        let outcome = sh(repo, &options, MEND).run();
        fails(&outcome, repo, 1, &["resource_limit"], &["limit.exceeded", "test:test.completed"]);
        hit(&outcome, "disk", "tmpfs size", "test");
        let options = [&["--test", test, "--disk", "64M"][..], &TIMES].concat();
        passes(&sh(repo, &options, MEND).run(), repo);
    });
}

/// Asserts a refusal that names the option; nothing ran.
fn refused(outcome: &Outcome, option: &str) {
    outcome.expect(3, &["sandbox_unavailable"]);
    nothing_started(outcome);
    let why = outcome.report()["blockers"][0]["detail"]["why"].as_str().unwrap().to_owned();
    assert!(why.starts_with(&format!("{option} was given and no cgroup can enforce it here")), "{why}");
    assert!(why.contains("Delegate=yes") && outcome.stderr.contains("no cgroup can enforce it"), "{why}");
}

#[test]
fn what_the_operator_set_and_the_host_cannot_enforce_is_refused() {
    each(|repo| {
        for option in [["--memory", "1G"], ["--cpus", "1"]] {
            let options = [&["--no-test"][..], &option].concat();
            let Some(run) = contained(repo, 1024, &options, MEND) else { return };
            refused(&run.run(), option[0]);
        }
        // Set is set, wherever it was.
        let config = repo.world().write("set.toml", "[limits]\nmemory = \"1G\"\n").display().to_string();
        let Some(run) = contained(repo, 1024, &["--no-test", "--config", &config], MEND) else { return };
        refused(&run.run(), "--memory");
        // These two need no cgroup.
        let options = [&["--no-test", "--pids-limit", "40"][..], &TIMES].concat();
        let Some(run) = contained(repo, 1024, &options, &forks(100)) else { return };
        let outcome = run.run();
        fails(&outcome, repo, 1, &["resource_limit"], &["limit.exceeded"]);
        hit(&outcome, "pids", "rlimit NPROC", "backend");
        let options = [&["--no-test", "--disk", "4M"][..], &TIMES].concat();
        let fill = format!("{MEND}; head -c 20000000 /dev/zero > /tmp/big 2>/dev/null; true");
        let Some(run) = contained(repo, 1024, &options, &fill) else { return };
        hit(&run.run(), "disk", "tmpfs size", "backend");
        // A default is not refused, and its lack is listed.
        let Some(run) = contained(repo, 1024, &["--no-test"], MEND) else { return };
        let outcome = run.run();
        passes(&outcome, repo);
        let missing = outcome.report()["sandbox"]["missing"].to_string();
        assert!(missing.contains("memory limit: no cgroup to be had"), "{missing}");
    });
}

#[test]
fn an_ordinary_user_without_a_cgroup_is_refused_the_same() {
    let world = World::new(User::Ordinary);
    let repo = TestRepo::small(&world);
    let began = Instant::now();
    for option in [["--memory", "1G"], ["--cpus", "1"]] {
        let outcome = run(&repo, &["--no-test"]).args(option).args(["--", "sh", "-c", MEND]).run();
        match outcome.code {
            // Where this user's cgroup is delegated.
            Some(0) => assert!(held(&outcome, "memory").starts_with("cgroup_v2"), "{outcome:#?}"),
            _ => refused(&outcome, option[0]),
        }
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    // The help says which limits there are.
    let help = proctor(&world).args(["run", "--help"]).run();
    assert!(help.stdout.contains("--pids-limit") && help.stdout.contains("--cpus"));
}
