//! The command `proctor matrix`: that it agrees on this host, that it says so where something does not, and that
//! nothing of it stays.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::{Outcome, Proctor, User, World, users};
use rustix::process::Signal;
use serde_json::Value;

use crate::proctor;
use crate::refused;
use crate::support::{listing, signal};

fn each_world(test: impl Fn(&World)) {
    users().into_iter().for_each(|user| test(&World::new(user)));
}

/// A call with a temporary directory of the world's own.
fn matrix(world: &World, args: &[&str]) -> Proctor {
    proctor(world).env("TMPDIR", tmp(world)).arg("matrix").args(args)
}

fn tmp(world: &World) -> PathBuf {
    let dir = world.path("tmp");
    if !dir.exists() {
        std::fs::create_dir(&dir).unwrap();
        world.user.own(&dir);
    }
    dir
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:#?}"))
}

fn states(outcome: &Outcome) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    json(outcome)["rows"].as_array().unwrap().iter().map(|r| (text(&r["row"]), text(&r["state"]))).collect()
}

#[test]
fn all_rows_agree_whatever_the_operators_configuration_and_wherever_one_stands() {
    each_world(|world| {
        // Every run that reads these is exit code 2.
        for file in ["config.toml", "profiles/default.toml", "sandbox/base.toml"] {
            world.write(Path::new("config/proctor").join(file), "no such = key = here\n");
        }
        let run = crate::support::run;
        let repo = harness::TestRepo::small(world);
        assert_eq!(run(&repo, &["--no-test"]).args(["--", "true"]).run().code, Some(2));
        let before = listing(world, "state");
        let mut call = matrix(world, &["--json"]).dir(Path::new("/sys"));
        for name in ["HOME", "XDG_STATE_HOME"] {
            call.command().env_remove(name);
        }
        let outcome = call.run();
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        let rows = states(&outcome);
        assert_eq!(rows.len(), 12);
        assert!(rows.iter().all(|(_, state)| state == "agrees"), "{outcome:#?}");
        for (name, _) in &rows {
            let line = outcome.stderr.lines().find(|line| line.starts_with(&format!("{name} ")));
            assert!(line.is_some_and(|line| line.contains("  ok  ")), "{name}: {outcome:#?}");
        }
        assert!(outcome.stderr.contains("12 of 12 rows agree"), "{outcome:#?}");
        assert!(!outcome.stderr.contains('\u{1b}'), "no colour is needed");
        let said = json(&outcome);
        assert_eq!((&said["exit_code"], &said["agree"]), (&0.into(), &12.into()));
        let first = &said["rows"][0];
        assert_eq!(first["expected"]["blockers"], serde_json::json!(["no_diff"]));
        assert_eq!(first["got"]["blockers"], first["expected"]["blockers"]);
        assert_eq!(first["evidence"], Value::Null, "it went with the temporary directory");
        assert_eq!(std::fs::read_dir(tmp(world)).unwrap().count(), 0, "nothing of it stays");
        assert_eq!(before.differences(&listing(world, "state")), Vec::<String>::new());
    });
}

#[test]
fn what_a_plain_command_can_show_agrees_and_the_rest_is_no_agreement() {
    each_world(|world| {
        let outcome = matrix(world, &["--all", "--engine", "command", "--json"]).run();
        // Two of the twelve are among them.
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        assert_eq!(json(&outcome)["differ"], 0, "{outcome:#?}");
        let rows = states(&outcome);
        let not: Vec<&str> =
            rows.iter().filter(|(_, state)| state == "not_applicable").map(|(row, _)| row.as_str()).collect();
        assert_eq!(
            not,
            [
                "missing-event",
                "provider-unavailable",
                "backend-failed-says-so",
                "contradiction",
                "output-limit-events"
            ]
        );
        let said = json(&outcome);
        assert_eq!((&said["agree"], &said["not_applicable"]), (&(rows.len() - 5).into(), &5.into()));
        assert!(
            outcome.stderr.contains("5 not applicable to this engine, which is no agreement"),
            "{outcome:#?}"
        );
    });
    let world = World::new(users()[0]);
    for args in [&["missing-event"][..], &["missing-event", "no-diff"]] {
        let outcome = matrix(&world, args).args(["--engine", "command"]).run();
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        assert!(outcome.stderr.contains("not applicable") && outcome.stderr.contains("speaks no protocol"));
    }
}

/// A fixture of the test's own, which plays `no-diff`.
fn own(world: &World, name: &str, text: &str) -> PathBuf {
    world.write(format!("own/{name}.toml"), format!("description = \"of the test's own\"\n{text}"));
    world.path("own")
}

const NO_DIFF: &str = "\n[fake]\nscenario = \"no-diff\"\n";

#[test]
fn a_fixture_that_is_wrong_differs_and_each_difference_is_spelled_out() {
    let wrong = [
        (
            "options = [\"--no-test\"]\nexit = 1\nblockers = [\"tests_failed\"]\nevents = []",
            &["blockers: expected tests_failed, got no_diff"][..],
        ),
        (
            "options = [\"--no-test\"]\nexit = 1\nblockers = [\"tests_failed\", \"no_diff\"]\nevents = []",
            &["blockers: expected tests_failed, no_diff, got no_diff"],
        ),
        (
            "options = [\"--no-test\"]\nexit = 0\nblockers = []\nevents = []",
            &[
                "exit code: expected 0, got 1",
                "status: expected pass, got fail",
                "blockers: expected none, got no_diff",
            ],
        ),
        (
            "options = [\"--no-test\"]\nexit = 1\nblockers = [\"no_diff\"]\nevents = [\"test:test.completed\"]",
            &["events: no test.completed from test"],
        ),
        (
            "options = [\"--no-test\"]\nexit = 1\nblockers = [\"no_diff\"]\nevents = []\nverify = 4",
            &["verify: expected exit code 4, got 0"],
        ),
        (
            "options = [\"--no-test\"]\nexit = 1\nblockers = [\"no_diff\"]\nevents = []\n\
             after = [{ do = \"append\", path = \"test.log\", content = \"x\" }]",
            &["verify: expected exit code 0, got 4", "verify: test.log: "],
        ),
        (
            "options = [\"--no-such-option\"]\nexit = 1\nblockers = [\"no_diff\"]\nevents = []",
            &["exit code: expected 1, got 2", "report: there is none", "it said: ", "--no-such-option"],
        ),
        (
            "options = []\nexit = 1\nblockers = [\"test_command_missing\"]\nevents = []\n\
             during = [{ do = \"write\", path = \"README\", content = \"x\" }]",
            &["meanwhile: the backend never started"],
        ),
    ];
    let world = World::new(*users().last().unwrap());
    for (text, words) in wrong {
        let dir = own(&world, "mine", &format!("{text}{NO_DIFF}"));
        let outcome = matrix(&world, &["--json", "--fixtures"]).arg(&dir).run();
        assert_eq!(outcome.code, Some(1), "{text}: {outcome:#?}");
        assert_eq!(states(&outcome), [("mine".to_owned(), "differs".to_owned())]);
        assert!(
            outcome.stderr.contains("DIFFERS") && outcome.stderr.contains("0 of 1 rows agree"),
            "{outcome:#?}"
        );
        let differences = json(&outcome)["rows"][0]["differences"].to_string();
        for words in words {
            assert!(outcome.stderr.contains(words), "{words}: {outcome:#?}");
            assert!(differences.contains(&words.replace('"', "\\\"")), "{words}: {differences}");
        }
    }
}

#[test]
fn fixtures_of_ones_own_are_run_with_scenarios_of_ones_own_and_kept_where_asked() {
    each_world(|world| {
        let text = "options = [\"--no-test\"]\nexit = 1\nblockers = [\"backend_failed\"]\nevents = []\n[fake]\nscenario = \"mine\"\n";
        let dir = own(world, "mine", text);
        let scenario =
            "[[step]]\ndo = \"write\"\npath = \"new\"\ncontent = \"x\"\n[[step]]\ndo = \"exit\"\ncode = 9\n";
        world.write("own/scenarios/mine.toml", scenario);
        let keep = world.path("kept");
        let outcome = matrix(world, &["--json", "--fixtures"]).arg(&dir).arg("--keep").arg(&keep).run();
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        let evidence = json(&outcome)["rows"][0]["evidence"].as_str().unwrap().to_owned();
        assert_eq!(Path::new(&evidence), keep.join("mine/evidence"));
        let patch = std::fs::read_to_string(Path::new(&evidence).join("patch.diff")).unwrap();
        assert!(patch.contains("+x"), "{patch}");
        assert_eq!(std::fs::metadata(&keep).unwrap().permissions().mode() & 0o777, 0o700);
        // A second time it is not empty.
        let outcome = matrix(world, &["no-diff", "--keep"]).arg(&keep).run();
        assert_eq!(outcome.code, Some(2), "{outcome:#?}");
        assert!(
            outcome.stderr.contains("is not empty; name a directory that does not exist yet"),
            "{outcome:#?}"
        );
    });
}

#[test]
fn what_cannot_be_run_is_an_error_of_usage_that_names_what_there_is() {
    each_world(|world| {
        own(world, "bad", "exit = 1\n");
        let bad = world.path("own").display().to_string();
        let calls: [(&[&str], &[&str]); 9] = [
            (
                &["no-dif"],
                &["there is no row `no-dif`", "did you mean `no-diff`?", "rows: no-diff, disallowed-file"],
            ),
            (
                &["--engine", "codex"],
                &["the engine `codex` is not in this version", "shown with: fake, command"],
            ),
            (
                &["--engine", "fak"],
                &["there is no engine `fak`", "did you mean `fake`?", "shown with: fake, command"],
            ),
            (&["--min-level", "ful"], &["there is no level `ful`", "full or landlock"]),
            (
                &["--fixtures", "/nonexistent"],
                &["--fixtures: /nonexistent: cannot be listed", "name a directory"],
            ),
            (&["--fixtures", &bad], &["bad.toml", "missing field `blockers`"]),
            (&["--keep", "/nonexistent/x"], &["--keep /nonexistent/x: cannot be made", "name another place"]),
            (&["--jobs", "0"], &["--jobs"]),
            (&["row\u{1b}[2J"], &["there is no row `row"]),
        ];
        for (args, words) in calls {
            let outcome = matrix(world, args).run();
            assert_eq!(outcome.code, Some(2), "{args:?}: {outcome:#?}");
            assert!(outcome.stdout.is_empty() && !outcome.stderr.contains('\u{1b}'), "{outcome:#?}");
            for words in words {
                assert!(outcome.stderr.contains(words), "{words}: {outcome:#?}");
            }
        }
        let outcome = matrix(world, &["no-diff"]).env("TMPDIR", "/nonexistent").run();
        assert_eq!(outcome.code, Some(2), "{outcome:#?}");
        assert!(outcome.stderr.contains("set TMPDIR to a place that can be written"), "{outcome:#?}");
    });
}

#[test]
fn the_list_names_every_row_and_runs_nothing() {
    let world = World::new(users()[0]);
    let outcome = matrix(&world, &["--list"]).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{outcome:#?}");
    let outcome_json = matrix(&world, &["--list", "--json"]).run();
    let rows = json(&outcome_json);
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["row"].as_str().unwrap()).collect();
    assert!(names.len() > 12);
    for name in names {
        assert!(
            outcome.stderr.lines().any(|line| line.starts_with(&format!("{name} "))),
            "{name}: {outcome:#?}"
        );
    }
    assert!(outcome.stderr.contains("with --all, or by name:"), "{outcome:#?}");
    assert_eq!(
        rows[4]["not_applicable"]["command"].as_str().map(|why| why.contains("no protocol")),
        Some(true)
    );
    assert_eq!(std::fs::read_dir(tmp(&world)).unwrap().count(), 0);
}

#[test]
fn without_a_sandbox_the_rows_cannot_be_shown_and_that_is_said() {
    each_world(|world| {
        let outcome =
            refused::host(world).args(["matrix", "--json", "no-diff", "missing-test-command"]).run();
        assert_eq!(outcome.code, Some(3), "{outcome:#?}");
        // Found before a sandbox is asked for: that one is shown.
        let [first, second] = &states(&outcome)[..] else { panic!("{outcome:#?}") };
        assert_eq!((first.1.as_str(), second.1.as_str()), ("unavailable", "agrees"));
        assert!(outcome.stderr.contains("1 cannot be shown: this host has no such sandbox"), "{outcome:#?}");
        assert!(outcome.stderr.contains("doctor"), "{outcome:#?}");
        // The level that this host reaches shows it; root has no other uid to give there.
        if world.user == User::Ordinary {
            let args = [
                "no-diff",
                "disallowed-file",
                "failed-tests",
                "dirty-ending-tree",
                "--min-level",
                "landlock",
            ];
            let outcome = refused::host(world).arg("matrix").args(args).run();
            assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        }
    });
}

/// Processes that have this text in their command line or their working directory.
fn processes(text: &str) -> Vec<String> {
    let each = |entry: std::io::Result<std::fs::DirEntry>| {
        let dir = entry.ok()?.path();
        let line = std::fs::read(dir.join("cmdline")).ok()?;
        let cwd = std::fs::read_link(dir.join("cwd")).unwrap_or_default();
        let line = format!("{} in {}", String::from_utf8_lossy(&line).replace('\0', " "), cwd.display());
        line.contains(text).then_some(line)
    };
    std::fs::read_dir("/proc").unwrap().filter_map(each).collect()
}

/// Starts two rows that would not end by themselves, waits until both backends run, and sends a signal.
fn interrupt(world: &World, which: Signal) -> Outcome {
    let text = "options = [\"--no-test\", \"--grace\", \"1h\"]\nexit = 1\nblockers = [\"no_diff\"]\nevents = []\n[fake]\nscenario = \"hangs\"\n";
    own(world, "one", text);
    let dir = own(world, "two", text);
    let child = matrix(world, &["--json", "--jobs", "2", "--fixtures"]).arg(&dir).spawn();
    let deadline = Instant::now() + Duration::from_secs(60);
    let started = || {
        let logs = std::fs::read_dir(tmp(world)).unwrap().flatten().flat_map(|top| {
            ["one", "two"].map(|row| top.path().join(row).join("evidence/events.normalized.jsonl"))
        });
        logs.filter(|log| std::fs::read_to_string(log).is_ok_and(|text| text.contains("\"backend.started\"")))
            .count()
    };
    while started() < 2 {
        assert!(Instant::now() < deadline, "the rows never ran");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!processes(&tmp(world).display().to_string()).is_empty());
    for entry in std::fs::read_dir(tmp(world)).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
    gc(world);
    assert_eq!(started(), 2, "what a living matrix has stays");
    signal(child.id(), which);
    Outcome::of(child.wait_with_output().unwrap())
}

fn gc(world: &World) -> Outcome {
    let outcome = proctor(world).arg("gc").env("TMPDIR", tmp(world)).run();
    // 1 where something of another test's is left.
    assert!(matches!(outcome.code, Some(0 | 1)), "{outcome:#?}");
    outcome
}

#[test]
fn interrupted_it_ends_its_rows_and_leaves_nothing() {
    for (which, code, name) in
        [(Signal::INT, 130, "SIGINT"), (Signal::TERM, 143, "SIGTERM"), (Signal::HUP, 143, "SIGTERM")]
    {
        each_world(|world| {
            let outcome = interrupt(world, which);
            assert_eq!(outcome.code, Some(code), "{outcome:#?}");
            assert_eq!(processes(&tmp(world).display().to_string()), Vec::<String>::new());
            assert_eq!(std::fs::read_dir(tmp(world)).unwrap().count(), 0, "nothing of it stays");
            assert!(outcome.stderr.contains(&format!("2 not run; interrupted by {name}")), "{outcome:#?}");
            assert_eq!(json(&outcome)["not_run"], 2);
        });
    }
}

#[test]
fn killed_it_takes_its_rows_with_it() {
    each_world(|world| {
        let outcome = interrupt(world, Signal::KILL);
        assert_eq!(outcome.code, None, "{outcome:#?}");
        let deadline = Instant::now() + Duration::from_secs(60);
        let path = tmp(world).display().to_string();
        while !processes(&path).is_empty() {
            assert!(Instant::now() < deadline, "{:#?}", processes(&path));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(std::fs::read_dir(tmp(world)).unwrap().count(), 1);
        let outcome = gc(world);
        assert!(outcome.stderr.contains("(scratch of a matrix, "), "{outcome:#?}");
        assert_eq!(std::fs::read_dir(tmp(world)).unwrap().count(), 0, "nothing of it stays");
    });
}
