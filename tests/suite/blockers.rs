//! Blockers of start and end, of the backend and of the evidence: each with its exact set, its exit code, and
//! evidence that verifies. The twelve rows of the matrix are in `matrix`; changes, checks, times and limits have
//! modules of their own.

use std::time::{Duration, Instant};

use harness::{TestRepo, World, users};

use crate::proctor;
use crate::support::{
    blocker, each, events, fails, fake, meanwhile, nothing_started, outside, passes, run, sh, snapshot,
    untouched, verify,
};

const MEND: &str = "echo mended > src/value.txt";
const TEST: &[&str] = &["--test", "sh check.sh"];

#[test]
fn a_dirty_tree_stops_the_run_before_anything_starts() {
    let ways = [
        ("echo other > src/value.txt", "src/value.txt", "modified"),
        ("echo new > new.txt", "new.txt", "untracked"),
        ("echo other > README && git add README && git show HEAD:README > README", "README", "staged"),
        ("git update-index --assume-unchanged README && echo other > README", "README", "assume-unchanged"),
        ("git update-index --skip-worktree README", "README", "skip-worktree"),
        ("rm README", "README", "deleted"),
        ("chmod +x check.sh", "check.sh", "mode changed"),
        ("rm README && ln -s check.sh README", "README", "type changed"),
        ("git init -q inner && echo x > inner/x", "inner", "repository"),
        // Ignored by the user's own file, not by the base commit.
        ("echo '*.tmp' > .git/info/exclude && echo x > a.tmp", "a.tmp", "untracked"),
    ];
    for (script, path, reason) in ways {
        each(|repo| {
            outside(repo, script);
            let before = snapshot(repo);
            let outcome = sh(repo, TEST, MEND).run();
            fails(&outcome, repo, 1, &["dirty_starting_tree"], &[]);
            nothing_started(&outcome);
            untouched(&before, repo);
            let detail = blocker(&outcome, "dirty_starting_tree")["detail"].to_string();
            assert!(detail.contains(path) && detail.contains(reason), "{script}: {detail}");
        });
    }
}

#[test]
fn what_the_base_commit_ignores_is_not_dirty() {
    each(|repo| {
        outside(repo, "mkdir target && echo x > target/x");
        passes(&sh(repo, TEST, MEND).run(), repo);
    });
}

#[test]
fn without_a_test_command_nothing_starts() {
    each(|repo| {
        let outcome = sh(repo, &[], MEND).run();
        fails(&outcome, repo, 1, &["test_command_missing"], &[]);
        nothing_started(&outcome);
        assert_eq!(outcome.report()["tests"]["status"], "missing");
    });
}

#[test]
fn a_backend_that_fails_is_told_by_how_it_failed() {
    let endings = [
        ("exit 7", "exited with code 7"),
        ("kill -KILL $$", "killed by signal 9"),
        ("kill -SEGV $$", "killed by signal 11"),
        ("exec /nonexistent/program", "exited with code 127"),
    ];
    for (end, words) in endings {
        each(|repo| {
            let outcome = sh(repo, TEST, &format!("{MEND}; {end}")).run();
            fails(&outcome, repo, 1, &["backend_failed"], &["backend.started", "backend.exited"]);
            let said = blocker(&outcome, "backend_failed");
            assert!(said["message"].as_str().unwrap().contains(words), "{said}");
            // Nothing is tested on top of a failure, and the log says so.
            assert!(outcome.text("test.log").contains("not reached"), "{}", outcome.text("test.log"));
            // What it changed is evidence all the same.
            assert_eq!(outcome.report()["changed_files"][0]["path"], "src/value.txt");
        });
    }
}

#[test]
fn a_program_that_is_not_there_is_a_failed_backend_in_a_sandbox_that_stood() {
    each(|repo| {
        for program in ["/nonexistent/program", "no-such-program", "./src/value.txt", "./src"] {
            let outcome = run(repo, TEST).args(["--", program]).run();
            fails(&outcome, repo, 1, &["backend_failed"], &["sandbox.ready"]);
            let said = blocker(&outcome, "backend_failed");
            assert!(said["detail"]["why"].as_str().unwrap().contains(program), "{said}");
            assert!(events(&outcome, "backend.started", "supervisor").is_empty());
        }
    });
}

#[test]
fn an_engine_that_says_it_failed_has_failed_whatever_its_exit_code() {
    each(|repo| {
        let outcome = fake(repo, TEST, "failed-turn").run();
        fails(&outcome, repo, 1, &["backend_failed"], &["backend:turn.failed", "backend.exited"]);
        assert_eq!(blocker(&outcome, "backend_failed")["detail"]["engine_says"], "gave up");
        assert_eq!(outcome.report()["backend_exit_code"], 0);
    });
}

#[test]
fn an_engine_that_claims_success_and_fails_contradicts_itself() {
    each(|repo| {
        let outcome = fake(repo, TEST, "contradiction").run();
        fails(
            &outcome,
            repo,
            1,
            &["backend_failed", "contradiction"],
            &["backend:turn.completed", "backend.exited"],
        );
    });
}

#[test]
fn a_provider_that_is_gone_is_named_with_its_cause() {
    each(|repo| {
        let outcome = fake(repo, &["--no-test"], "provider-gone").run();
        fails(
            &outcome,
            repo,
            1,
            &["provider_unavailable", "backend_failed", "no_diff"],
            &["backend:provider.unavailable"],
        );
        let failure = blocker(&outcome, "provider_unavailable")["detail"]["failures"]["listed"][0].clone();
        assert_eq!((failure["kind"].as_str(), failure["provider"].as_str()), (Some("auth"), Some("example")));
        assert_eq!(failure["observed"], false, "an engine's word is a claim");
    });
}

#[test]
fn no_diff_is_a_blocker_in_mode_patch_alone() {
    each(|repo| {
        // Written, and written back; touched; its mode changed and changed back.
        let script =
            "cp README r; cat r > README; rm r; touch check.sh; chmod +x check.sh; chmod -x check.sh";
        let outcome = sh(repo, &["--no-test"], script).run();
        fails(&outcome, repo, 1, &["no_diff"], &[]);
        assert_eq!(outcome.artifact("patch.diff"), b"");
        let report = outcome.report();
        assert_eq!(report["result_tree"], report["base_tree"]);
        for mode in ["discard", "none"] {
            passes(&sh(repo, &["--no-test", "--mutation", mode], "true").run(), repo);
        }
    });
}

#[test]
fn mode_none_shows_a_tree_that_cannot_be_written() {
    each(|repo| {
        let outcome = sh(repo, &["--no-test", "--mutation", "none"], "! { echo x > new; } 2>&1").run();
        passes(&outcome, repo);
        assert!(outcome.text("backend.stdout.log").contains("Read-only"), "{outcome:#?}");
    });
}

#[test]
fn somebody_else_in_the_tree_during_the_run_is_seen_at_its_end() {
    let acts = [
        ("echo other > README", "README"),
        ("echo new > new.txt", "new.txt"),
        ("git commit -q --allow-empty -m meanwhile", "refs/heads/main"),
        ("git branch other", "refs/heads/other"),
        ("git checkout -q --detach", "HEAD"),
        ("git tag -a -m x v1", "refs/tags/v1"),
        ("git update-index --chmod=+x README", "index"),
        ("git update-index --assume-unchanged README", "README"),
    ];
    for (act, what) in acts {
        each(|repo| {
            let proctor = sh(repo, TEST, &format!("{MEND}; echo ready; sleep 1"));
            let outcome = meanwhile(proctor, || outside(repo, act));
            fails(&outcome, repo, 1, &["dirty_ending_tree"], &[]);
            let detail = blocker(&outcome, "dirty_ending_tree")["detail"].to_string();
            assert!(detail.contains(what), "{act}: {detail}");
        });
    }
}

#[test]
fn a_tree_that_is_swapped_during_the_run_is_seen() {
    each(|repo| {
        let proctor = sh(repo, TEST, &format!("{MEND}; echo ready; sleep 1"));
        let aside = repo.world().path("aside");
        let swap = format!("cp -a . {0}.copy && mv ../repo {0} && mv {0}.copy ../repo", aside.display());
        let outcome = meanwhile(proctor, || outside(repo, &swap));
        fails(&outcome, repo, 1, &["tests_failed", "dirty_ending_tree"], &[]);
        assert!(blocker(&outcome, "dirty_ending_tree").to_string().contains("another directory"));
    });
}

#[test]
fn a_refreshed_index_is_no_change() {
    each(|repo| {
        let proctor = sh(repo, TEST, &format!("{MEND}; echo ready; sleep 1"));
        passes(&meanwhile(proctor, || outside(repo, "touch README && git status -s")), repo);
    });
}

#[test]
fn a_passed_secret_in_the_evidence_quarantines_it() {
    let secret = "correct-horse-battery-staple";
    let leaks = [
        (r#"echo "$TOKEN""#, "backend.stdout.log"),
        (r#"echo "x $TOKEN y" >&2"#, "backend.stderr.log"),
        (r#"echo "$TOKEN" | base64"#, "backend.stdout.log"),
        (r#"echo "$TOKEN" > src/token.txt"#, "patch.diff"),
    ];
    for (leak, artifact) in leaks {
        each(|repo| {
            let outcome = sh(repo, &["--pass-env", "TOKEN", "--no-test"], &format!("{MEND}; {leak}"))
                .env("TOKEN", secret)
                .run();
            fails(&outcome, repo, 1, &["secret_in_evidence"], &[]);
            let report = outcome.report();
            assert_eq!(report["quarantined"], true);
            let said = blocker(&outcome, "secret_in_evidence").to_string();
            assert!(said.contains(artifact) && said.contains("TOKEN"), "{leak}: {said}");
            // Nothing that Proctor itself writes repeats it.
            assert!(!report.to_string().contains(secret) && !outcome.text("report.md").contains(secret));
            assert!(!outcome.stderr.contains(secret), "{outcome:#?}");
        });
    }
}

#[test]
fn a_passed_secret_in_what_the_report_alone_says_quarantines_it_and_no_rendering_shows_it() {
    let secret = "correct-horse-battery-staple";
    let raw = "not \\377 ";
    let leaks = [
        (r#"echo x > "$TOKEN.o""#.to_owned(), None),
        (format!(r#"echo x > "$(printf '{raw}')$TOKEN.o""#), None),
        (r#"echo x > .git/"$TOKEN""#.to_owned(), None),
        (r#"git update-ref "refs/heads/$TOKEN" HEAD"#.to_owned(), None),
        (r#"echo x > src/"$TOKEN""#.to_owned(), None),
        (String::new(), Some(secret)),
    ];
    each(|repo| {
        repo.write(".gitignore", "*.o\n");
        repo.commit("ignore");
        for (leak, argument) in &leaks {
            let options = ["--pass-env", "TOKEN", "--no-test", "--html"];
            let outcome =
                sh(repo, &options, &format!("{MEND}; {leak}")).args(*argument).env("TOKEN", secret).run();
            fails(&outcome, repo, 1, &["secret_in_evidence"], &[]);
            assert_eq!(outcome.report()["quarantined"], true);
            let said = blocker(&outcome, "secret_in_evidence").to_string();
            assert!(said.contains("report.json") && said.contains("TOKEN"), "{leak}: {said}");
            let again = proctor(repo.world()).arg("report").arg(outcome.evidence()).run();
            for (name, shown) in [
                ("report.md", outcome.text("report.md")),
                ("report.html", outcome.text("report.html")),
                ("stderr", outcome.stderr.clone()),
                ("proctor report", again.stdout),
            ] {
                assert!(!shown.contains(secret), "{leak}: {name}: {shown}");
                assert!(shown.to_lowercase().contains("quarantined"), "{leak}: {name}: {shown}");
            }
        }
    });
}

#[test]
fn a_passed_secret_that_stays_secret_is_no_blocker() {
    each(|repo| {
        let outcome = sh(repo, &["--pass-env", "TOKEN", "--no-test"], &format!("{MEND}; test -n \"$TOKEN\""))
            .env("TOKEN", "correct-horse-battery-staple")
            .run();
        passes(&outcome, repo);
        assert_eq!(outcome.report()["quarantined"], false);
    });
}

#[test]
fn a_limit_that_cannot_be_enforced_refuses_the_run_with_a_report() {
    // As root there is a cgroup; an ordinary user has none delegated in a plain session.
    for user in users().into_iter().filter(|user| *user == harness::User::Ordinary) {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        for (option, value) in [("--memory", "64M"), ("--cpus", "1")] {
            let outcome = sh(&repo, &["--no-test", option, value], MEND).run();
            fails(&outcome, &repo, 3, &["sandbox_unavailable"], &[]);
            nothing_started(&outcome);
            let said = blocker(&outcome, "sandbox_unavailable").to_string();
            assert!(said.contains(option) && said.contains("cgroup"), "{said}");
        }
    }
}

#[test]
fn evidence_on_a_full_disk_is_exit_four_and_never_a_pass() {
    each(|repo| {
        let before = snapshot(repo);
        // No room at all, room for the first artifacts, room for all but the log.
        for size in ["4k", "64k", "256k"] {
            let (outcome, left) =
                crate::space::run_on_small_disk(repo, size, &format!("{MEND}; yes | head -c 1000000"));
            assert_eq!(outcome.code, Some(4), "{size}: {outcome:#?}");
            match left {
                Some(report) => {
                    assert_eq!(
                        (&report["status"], &report["exit_code"]),
                        (&"fail".into(), &4.into()),
                        "{size}"
                    );
                    assert!(
                        report["blockers"].to_string().contains("artifact_write_failed"),
                        "{size}: {report}"
                    );
                }
                None => {
                    assert!(outcome.stderr.contains("report could not be written"), "{size}: {outcome:#?}")
                }
            }
        }
        untouched(&before, repo);
    });
}

#[test]
fn tampered_evidence_does_not_verify() {
    each(|repo| {
        let outcome = sh(repo, TEST, &format!("echo at work; {MEND}")).run();
        passes(&outcome, repo);
        let dir = outcome.evidence();
        let names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.len() >= 9, "{names:?}");
        for name in names {
            let path = dir.join(&name);
            let whole = std::fs::read(&path).unwrap();
            let mut tampered = whole.clone();
            match tampered.first_mut() {
                Some(byte) => *byte ^= 1,
                None => tampered.push(b'x'),
            }
            let appended = [&whole[..], b"\n"].concat();
            for content in [Some(tampered), Some(appended), None] {
                let removed = content.is_none();
                match content {
                    Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                    None => std::fs::remove_file(&path).unwrap(),
                }
                let verified = verify(&outcome, repo);
                assert_eq!(verified.code, Some(4), "{name:?} removed {removed}: {verified:#?}");
                assert!(verified.stderr.contains("INVALID"), "{verified:#?}");
                std::fs::write(&path, &whole).unwrap();
            }
        }
        std::fs::write(dir.join("more.txt"), "x").unwrap();
        assert_eq!(verify(&outcome, repo).code, Some(4), "a file that the manifest does not name");
        std::fs::remove_file(dir.join("more.txt")).unwrap();
        let stale =
            proctor(repo.world()).arg("verify").arg(&dir).args(["--nonce", "00112233445566778899"]).run();
        assert_eq!(stale.code, Some(4), "{stale:#?}");
        let unsigned = proctor(repo.world()).arg("verify").arg(&dir).arg("--require-signature").run();
        assert_eq!(unsigned.code, Some(4), "{unsigned:#?}");
        passes(&outcome, repo);
    });
}

#[test]
fn evidence_of_another_repository_does_not_verify_against_this_one() {
    each(|repo| {
        let outcome = sh(repo, TEST, MEND).run();
        let other = TestRepo::new(repo.world(), "other", &[("a", "b\n")]);
        let verified = verify(&outcome, &other);
        assert_eq!(verified.code, Some(4), "{verified:#?}");
        assert!(verified.stderr.contains("patch.diff"), "{verified:#?}");
    });
}

#[test]
fn an_interrupted_run_leaves_a_report_and_a_dead_backend() {
    let cases = [
        (rustix::process::Signal::INT, 130, "SIGINT"),
        (rustix::process::Signal::TERM, 143, "SIGTERM"),
        (rustix::process::Signal::HUP, 143, "SIGTERM"),
    ];
    for (signal, code, name) in cases {
        each(|repo| {
            let before = snapshot(repo);
            let script = format!("{MEND}; trap '' TERM INT; echo ready; while :; do sleep 0.05; done");
            let proctor = sh(repo, &["--no-test", "--grace", "200ms"], &script);
            let began = Instant::now();
            let outcome = crate::support::meanwhile_with(proctor, |pid| crate::support::signal(pid, signal));
            assert!(began.elapsed() < Duration::from_secs(5));
            fails(&outcome, repo, code, &["interrupted"], &["backend.exited"]);
            assert_eq!(blocker(&outcome, "interrupted")["detail"]["signal"], name);
            untouched(&before, repo);
        });
    }
}

#[test]
fn a_second_signal_does_not_wait_for_the_grace_time() {
    each(|repo| {
        let script = "trap '' TERM INT; echo ready; while :; do sleep 0.05; done";
        let proctor = sh(repo, &["--no-test", "--mutation", "discard", "--grace", "60s"], script);
        let began = Instant::now();
        let outcome = crate::support::meanwhile_with(proctor, |pid| {
            crate::support::signal(pid, rustix::process::Signal::INT);
            std::thread::sleep(Duration::from_millis(200));
            crate::support::signal(pid, rustix::process::Signal::TERM);
        });
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        fails(&outcome, repo, 130, &["interrupted"], &[]);
    });
}

#[test]
fn an_interrupt_during_tests_or_review_ends_them() {
    each(|repo| {
        let wait = "trap '' TERM; echo at it; while :; do sleep 0.05; done";
        for (options, log) in [
            (vec!["--test", wait], "test.log"),
            (vec!["--test", "sh check.sh", "--review", wait], "review.log"),
        ] {
            let mut options = options;
            options.extend(["--grace", "200ms"]);
            let proctor = sh(repo, &options, MEND);
            let outcome = crate::support::meanwhile_saying(proctor, log, "at it\n", |pid| {
                crate::support::signal(pid, rustix::process::Signal::TERM);
            });
            fails(&outcome, repo, 143, &["interrupted"], &[]);
        }
    });
}
