//! What becomes of a run that is signed.

use super::*;

#[test]
fn the_signing_key_in_the_evidence_fails_the_run() {
    each(|repo| {
        let keys = keygen(repo.world(), "signing.pem");
        outside(repo, "cp ../keys/signing.pem notes.txt; cp ../keys/signing.pem.pub public.txt");
        repo.commit("a copy of the key");
        for leak in
            ["cat notes.txt", "base64 -w0 notes.txt", "cp notes.txt src/copy.txt", "grep -v - notes.txt >&2"]
        {
            let sign = keys.private.display().to_string();
            let outcome = sh(repo, &["--no-test", "--sign", &sign], &format!("{MEND}; {leak}")).run();
            outcome.expect(1, &["secret_in_evidence"]);
            let report = outcome.report();
            assert_eq!(report["quarantined"], true);
            let detail = report["blockers"][0]["detail"].to_string();
            assert!(detail.contains("the signing key"), "{detail}");
            let body = std::fs::read_to_string(&keys.private).unwrap();
            let body = body.lines().nth(1).unwrap();
            for name in ["report.json", "report.md", STATEMENTS] {
                assert!(!outcome.text(name).contains(body), "{name}");
            }
            // What became of it is signed like any other run.
            let verified = verify(repo, &outcome.evidence(), &[&keys.public]);
            assert_eq!(verified.code, Some(0), "{verified:#?}");
        }
        let outcome = sh(
            repo,
            &["--no-test", "--sign", &keys.private.display().to_string()],
            &format!("{MEND}; cat public.txt"),
        )
        .run();
        passes(&outcome, repo);
    });
}

#[test]
fn runs_that_are_no_pass_are_signed_too() {
    each(|repo| {
        let keys = keygen(repo.world(), "signing.pem");
        let cases: [(&[&str], i32, &str); 3] = [
            (&["--test", "false"], 1, "tests_failed"),
            (&[], 1, "test_command_missing"),
            (&["--no-test", "--deny-change", "**"], 1, "disallowed_file"),
        ];
        for (options, code, blocker) in cases {
            let outcome = signed(repo, &keys, options);
            outcome.expect(code, &[blocker]);
            assert_eq!(verify(repo, &outcome.evidence(), &[&keys.public]).code, Some(0));
            let theirs = in_toto(&outcome.evidence(), &keys.public);
            let text = String::from_utf8_lossy(&theirs.stdout).into_owned();
            assert!(theirs.status.success() && text.contains("test-result/v0.1 FAILED"), "{theirs:?}");
        }
    });
}

#[test]
fn a_run_that_cannot_be_signed_is_no_pass_and_has_no_report() {
    each(|repo| {
        let keys = keygen(repo.world(), "signing.pem");
        let evidence = repo.world().path("state/proctor/runs");
        let script = format!("{MEND}; echo here; sleep 1");
        let call = sh(repo, &["--no-test", "--sign", &keys.private.display().to_string()], &script);
        let outcome = meanwhile(call, || {
            let run = std::fs::read_dir(&evidence).unwrap().next().unwrap().unwrap().path();
            std::fs::write(run.join(STATEMENTS), "mine\n").unwrap();
        });
        assert_eq!(outcome.code, Some(4), "{outcome:#?}");
        assert!(
            outcome.stderr.contains("artifact report.intoto.jsonl: cannot create: File exists"),
            "{outcome:#?}"
        );
        for name in ["report.json", "report.json.partial", "report.json.sha256"] {
            assert!(!outcome.evidence().join(name).exists(), "{name}");
        }
        assert_eq!(outcome.text(STATEMENTS), "mine\n", "what is not the run's was touched");
    });
}

#[test]
fn the_key_can_be_named_by_configuration_and_profile() {
    each(|repo| {
        let world = repo.world();
        let (first, second) = (keygen(world, "first.pem"), keygen(world, "second.pem"));
        let say = |keys: &Keys| format!("sign = \"{}\"\n", keys.private.display());
        let config = world.write("c.toml", say(&first)).display().to_string();
        let profile = world.write("p.toml", say(&second)).display().to_string();
        let by = |options: &[&str]| {
            let outcome = sh(repo, &[&["--no-test"], options].concat(), MEND).run();
            passes(&outcome, repo);
            let signed = |keys: &Keys| verify(repo, &outcome.evidence(), &[&keys.public]).code == Some(0);
            (signed(&first), signed(&second))
        };
        assert_eq!(by(&["--config", &config]), (true, false));
        assert_eq!(by(&["--config", &config, "--profile", &profile]), (false, true));
        let named = first.private.display().to_string();
        assert_eq!(by(&["--config", &config, "--profile", &profile, "--sign", &named]), (true, false));
        assert_eq!(by(&[]), (false, false));
        let relative = world.write("r.toml", "sign = \"first.pem\"\n").display().to_string();
        refused(
            repo,
            sh(repo, &["--no-test", "--config", &relative], MEND),
            &["r.toml:1:8", "`first.pem` is not an absolute path", "start it with `/`"],
        );
    });
}
