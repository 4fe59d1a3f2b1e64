//! Signed evidence: keys as files, what is refused, who signed, and what an implementation that is not Proctor's says.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Outcome, Proctor, TestRepo, World, in_toto, users};
use serde_json::Value;

use crate::proctor;
use crate::support::{each, listing, meanwhile, outside, passes, run, sh, snapshot};

const MEND: &str = "echo mended > src/value.txt";
const STATEMENTS: &str = "report.intoto.jsonl";

/// A key pair of the world's user.
struct Keys {
    private: PathBuf,
    public: PathBuf,
    id: String,
}

fn keygen(world: &World, name: &str) -> Keys {
    let private = world.path("keys").join(name);
    let made = proctor(world).arg("keygen").arg(&private).run();
    assert_eq!(made.code, Some(0), "{made:#?}");
    let public = PathBuf::from(format!("{}.pub", private.display()));
    Keys { private, public, id: made.stdout.trim_end().to_owned() }
}

fn signed(repo: &TestRepo<'_>, keys: &Keys, options: &[&str]) -> Outcome {
    sh(repo, &[&["--sign", &keys.private.display().to_string()], options].concat(), MEND).run()
}

fn verify(repo: &TestRepo<'_>, evidence: &Path, keys: &[&Path]) -> Outcome {
    let mut call = proctor(repo.world()).arg("verify").arg(evidence);
    for key in keys {
        call = call.arg("--key").arg(key);
    }
    call.run()
}

/// Asserts exit code 4 and that nothing is wrong but the signature; gives what was said.
fn signature_fails(outcome: &Outcome, words: &[&str]) {
    assert_eq!(outcome.code, Some(4), "{outcome:#?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} is not in {outcome:#?}");
    }
    assert!(!outcome.stderr.contains("signed by "), "{outcome:#?}");
    let problems = outcome.stderr.lines().filter(|line| line.starts_with("  ") && line.contains(": "));
    let own = ["  report.intoto.jsonl: ", "  the report says: ", "  authenticity: "];
    for line in problems {
        assert!(own.iter().any(|own| line.starts_with(own)), "{line:?} in {outcome:#?}");
    }
}

fn copy(from: &Path, repo: &TestRepo<'_>, name: &str) -> PathBuf {
    let to = repo.world().path(name);
    let _ = std::fs::remove_dir_all(&to);
    let status = Command::new("cp").arg("-a").arg(from).arg(&to).status();
    assert!(status.is_ok_and(|status| status.success()));
    to
}

/// A shell script as the world's user, in its directory of keys.
fn openssl(repo: &TestRepo<'_>, script: &str) -> String {
    let mut command = repo.world().command("sh");
    command.current_dir(repo.world().path("keys")).args(["-ec", script]);
    let output = command.output().expect("sh");
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_signed_run_is_verified_by_its_key_and_by_in_totos_own_packages() {
    each(|repo| {
        let world = repo.world();
        let keys = keygen(world, "signing.pem");
        let outcome = signed(repo, &keys, &["--test", "true"]);
        passes(&outcome, repo);
        let verified = verify(repo, &outcome.evidence(), &[&keys.public]);
        assert_eq!(verified.code, Some(0), "{verified:#?}");
        assert!(verified.stderr.contains(&format!("authenticity: signed by {}", keys.id)), "{verified:#?}");
        let said = proctor(world).args(["--json", "verify"]).arg(outcome.evidence()).run();
        let said: Value = serde_json::from_str(&said.stdout).unwrap();
        let words = said["authenticity"].as_str().unwrap();
        assert!(words.starts_with("not checked: ") && words.contains(&keys.id), "{words}");
        assert!(
            said["valid"] == true && words.contains("--key FILE") && !words.contains("signed by"),
            "{words}"
        );

        let theirs = in_toto(&outcome.evidence(), &keys.public);
        let text = String::from_utf8_lossy(&theirs.stdout).into_owned();
        let expected = format!(
            "{}\nhttps://in-toto.io/attestation/test-result/v0.1 PASSED\nhttps://slsa.dev/provenance/v1 \n",
            keys.id
        );
        assert!(theirs.status.success() && text == expected, "{theirs:?}");

        // A second run with the same key.
        let again = signed(repo, &keys, &["--no-test"]);
        passes(&again, repo);
        assert_eq!(verify(repo, &again.evidence(), &[&keys.public]).code, Some(0));
        let theirs = in_toto(&again.evidence(), &keys.public);
        assert!(String::from_utf8_lossy(&theirs.stdout).contains("test-result/v0.1 WARNED"), "{theirs:?}");

        // One character of a payload, and one artifact: they refuse it, and so does Proctor.
        let forged = copy(&outcome.evidence(), repo, "forged");
        let lines = outcome.text(STATEMENTS);
        let at = lines.find("eyJ").unwrap() + 40;
        let other = if &lines[at..=at] == "A" { "B" } else { "A" };
        std::fs::write(forged.join(STATEMENTS), format!("{}{other}{}", &lines[..at], &lines[at + 1..]))
            .unwrap();
        let theirs = in_toto(&forged, &keys.public);
        assert!(!theirs.status.success(), "{theirs:?}");
        assert!(String::from_utf8_lossy(&theirs.stderr).contains("VerificationError"), "{theirs:?}");
        signature_fails(
            &verify(repo, &forged, &[&keys.public]),
            &["envelope 1: its signature does not verify"],
        );
        let forged = copy(&outcome.evidence(), repo, "forged");
        std::fs::write(forged.join("patch.diff"), "").unwrap();
        let theirs = in_toto(&forged, &keys.public);
        assert!(
            !theirs.status.success() && theirs.stderr.ends_with(b"AssertionError: patch.diff\n"),
            "{theirs:?}"
        );
        let ours = verify(repo, &forged, &[&keys.public]);
        assert_eq!(ours.code, Some(4), "{ours:#?}");
        assert!(ours.stderr.contains("intoto.jsonl: does not cover patch.diff as it is here"), "{ours:#?}");
        // Another key, which says that it is this one.
        let other = keygen(world, "other.pem");
        let theirs = in_toto(&outcome.evidence(), &other.public);
        assert!(!theirs.status.success(), "{theirs:?}");
        signature_fails(
            &verify(repo, &outcome.evidence(), &[&other.public]),
            &[&format!("says that it was signed with key {}, which was not given", keys.id), &other.id],
        );
        let both = verify(repo, &outcome.evidence(), &[&other.public, &keys.public]);
        assert_eq!(both.code, Some(0), "{both:#?}");
    });
}

#[test]
fn openssl_reads_the_keys_and_verifies_the_signatures() {
    each(|repo| {
        let keys = keygen(repo.world(), "signing.pem");
        let outcome = signed(repo, &keys, &["--test", "true"]);
        passes(&outcome, repo);
        let id = openssl(repo, "openssl pkey -pubin -in signing.pem.pub -outform DER | sha256sum");
        assert_eq!(id.split_whitespace().next(), Some(keys.id.as_str()));
        openssl(repo, "openssl pkey -in signing.pem -pubout | cmp - signing.pem.pub");
        for line in outcome.text(STATEMENTS).lines() {
            let envelope: Value = serde_json::from_str(line).unwrap();
            let field = |at: &str| envelope.pointer(at).unwrap().as_str().unwrap().to_owned();
            repo.world().write("keys/payload.b64", field("/payload"));
            repo.world().write("keys/sig.b64", field("/signatures/0/sig"));
            let verified = openssl(
                repo,
                "base64 -d payload.b64 >payload; base64 -d sig.b64 >sig
                 { printf 'DSSEv1 28 application/vnd.in-toto+json %s ' $(wc -c <payload); cat payload; } >pae
                 openssl pkeyutl -verify -pubin -inkey signing.pem.pub -rawin -in pae -sigfile sig
                 printf x >>pae
                 ! openssl pkeyutl -verify -pubin -inkey signing.pem.pub -rawin -in pae -sigfile sig",
            );
            assert_eq!(verified.lines().next(), Some("Signature Verified Successfully"), "{verified}");
        }
        // A key that OpenSSL made signs too.
        openssl(
            repo,
            "umask 077; openssl genpkey -algorithm ed25519 -out own.pem; openssl pkey -in own.pem -pubout -out own.pem.pub",
        );
        let path = |name: &str| repo.world().path("keys").join(name);
        let own = Keys { private: path("own.pem"), public: path("own.pem.pub"), id: String::new() };
        let outcome = signed(repo, &own, &["--test", "true"]);
        assert_eq!(verify(repo, &outcome.evidence(), &[&own.public]).code, Some(0));
    });
}

#[test]
fn evidence_that_agrees_with_itself_and_is_not_this_keys_is_refused() {
    each(|repo| {
        let (keys, mallory) = (keygen(repo.world(), "signing.pem"), keygen(repo.world(), "mallory.pem"));
        let good = signed(repo, &keys, &["--test", "true"]);
        let unsigned = sh(repo, &["--test", "true"], MEND).run();
        passes(&unsigned, repo);
        let evidence = unsigned.evidence();
        signature_fails(
            &verify(repo, &evidence, &[&keys.public]),
            &["is missing: a key was given, and the evidence is not signed", "authenticity: unsigned"],
        );
        let required = proctor(repo.world()).args(["verify", "--require-signature"]).arg(&evidence).run();
        signature_fails(&required, &["is missing: a signature is required"]);
        let required =
            proctor(repo.world()).args(["verify", "--require-signature"]).arg(good.evidence()).run();
        signature_fails(&required, &["a signature is required, and no key was given (--key FILE)"]);
        // Statements of another run of the same work, put beside it: by the right key, and not about it.
        let forged = copy(&evidence, repo, "forged");
        std::fs::copy(good.evidence().join(STATEMENTS), forged.join(STATEMENTS)).unwrap();
        repo.world().user.own(&forged);
        let run_id = good.report()["run_id"].as_str().unwrap().to_owned();
        for keys in [&[keys.public.as_path()][..], &[]] {
            let words = format!("is the statement of another run: \"{run_id}\"");
            signature_fails(
                &verify(repo, &forged, keys),
                &["the report says nothing of it", "envelope 1: covers another", &words],
            );
        }
        // Another's evidence with another's signature, made to name this key.
        let theirs = signed(repo, &mallory, &["--test", "true"]);
        let forged = copy(&theirs.evidence(), repo, "forged");
        let lines = theirs.text(STATEMENTS).replace(&mallory.id, &keys.id);
        std::fs::write(forged.join(STATEMENTS), lines).unwrap();
        signature_fails(
            &verify(repo, &forged, &[&keys.public]),
            &["envelope 1: its signature does not verify", "envelope 2: its signature does not verify"],
        );
        // And its statements taken away.
        std::fs::remove_file(forged.join(STATEMENTS)).unwrap();
        signature_fails(
            &verify(repo, &forged, &[]),
            &["the report says that the run was signed: it was taken away"],
        );
    });
}

#[test]
fn an_artifact_that_was_altered_with_every_digest_fixed_up_fails_the_signature() {
    each(|repo| {
        let keys = keygen(repo.world(), "signing.pem");
        let outcome = signed(repo, &keys, &["--test", "true"]);
        let forged = copy(&outcome.evidence(), repo, "forged");
        let mut report = outcome.report();
        std::fs::write(forged.join("backend.stderr.log"), "x").unwrap();
        let manifest = report["digest_manifest"].as_array_mut().unwrap();
        let entry = manifest.iter_mut().find(|one| one["name"] == "backend.stderr.log").unwrap();
        entry["digest"]["sha256"] = sha256(b"x").into();
        entry["annotations"]["size"] = 1.into();
        let report: ::proctor::report::Report = serde_json::from_value(report).unwrap();
        let bytes = report.to_json().unwrap();
        std::fs::write(forged.join("report.json"), &bytes).unwrap();
        std::fs::write(forged.join("report.json.sha256"), format!("{}  report.json\n", sha256(&bytes)))
            .unwrap();
        let said = verify(repo, &forged, &[&keys.public]);
        assert_eq!(said.code, Some(4), "{said:#?}");
        for envelope in 1..=2 {
            for name in ["report.json", "report.json.sha256", "backend.stderr.log"] {
                let words =
                    format!("envelope {envelope}: covers another {name}: what was signed has SHA-256");
                assert!(said.stderr.contains(&words), "{words} in {said:#?}");
            }
        }
        assert!(!said.stderr.contains("signed by"), "{said:#?}");
    });
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    ::proctor::event::hex::encode(&sha2::Sha256::digest(bytes))
}

#[test]
fn statements_in_any_other_form_are_named() {
    each(|repo| {
        let keys = keygen(repo.world(), "signing.pem");
        let outcome = signed(repo, &keys, &["--test", "true"]);
        let text = outcome.text(STATEMENTS);
        let (first, second) = text.trim_end().split_once('\n').unwrap();
        let cases = [
            (format!("{second}\n{first}\n"), "their lines were exchanged"),
            (format!("{text}{first}\n"), "holds 3 envelopes; a signed run has two"),
            (format!("{first}\n"), "holds 1 envelopes"),
            (text.trim_end().to_owned(), "does not end with a line feed"),
            (
                text.replace("application/vnd.in-toto+json", "text/plain"),
                "has the payload type \"text/plain\"",
            ),
            (text.replace("}]}", "},{\"keyid\":\"\",\"sig\":\"\"}]}"), "has 2 signatures, not one"),
            (text.replace("==\"}]", "\"}]"), "is no canonical base64"),
            (text.replace("{\"payload\"", "{ \"payload\""), "is not in the form in which Proctor writes it"),
            (String::new(), "does not end with a line feed"),
            ("\u{1b}[2J\n\u{202e}\n".into(), "is no DSSE envelope"),
        ];
        for (lines, words) in cases {
            let forged = copy(&outcome.evidence(), repo, "forged");
            std::fs::write(forged.join(STATEMENTS), lines).unwrap();
            for given in [&[keys.public.as_path()][..], &[]] {
                let said = verify(repo, &forged, given);
                signature_fails(&said, &["report.intoto.jsonl: ", words, "authenticity: not shown: "]);
                assert!(!said.stderr.contains(['\u{1b}', '\u{202e}']));
            }
        }
        let forged = copy(&outcome.evidence(), repo, "forged");
        let file = std::fs::File::options().write(true).open(forged.join(STATEMENTS)).unwrap();
        file.set_len(1 << 40).unwrap();
        signature_fails(&verify(repo, &forged, &[]), &["more than the 67108864 that are read"]);
    });
}

/// Asserts that nothing started and nothing was written; `words` must all be in the message.
fn refused(repo: &TestRepo<'_>, call: Proctor, words: &[&str]) {
    let world = repo.world();
    let before = (listing(world, "."), snapshot(repo));
    let outcome = call.run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{outcome:#?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} is not in {outcome:#?}");
    }
    assert!(!outcome.stderr.contains("survey"), "{outcome:#?}");
    assert_eq!(before.0.differences(&listing(world, ".")), Vec::<String>::new(), "{outcome:#?}");
}

#[test]
fn a_key_that_cannot_be_used_is_named_before_anything_starts() {
    each(|repo| {
        let world = repo.world();
        let keys = keygen(world, "good.pem");
        openssl(
            repo,
            "umask 077
             openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out rsa.pem 2>/dev/null
             openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem
             openssl pkey -in good.pem -aes256 -passout pass:secret -out encrypted.pem
             openssl ecparam -name prime256v1 -genkey -noout -out traditional.pem
             sed s/PRIVATE/'OPENSSH PRIVATE'/ good.pem >openssh.pem
             ln -s good.pem link.pem; mkfifo fifo.pem; mkdir directory.pem; : >empty.pem
             cat good.pem good.pem >two.pem; head -c 100 /dev/urandom >binary.pem; printf 'hello\\n' >text.pem
             cp good.pem hard.pem; ln hard.pem hard2.pem; cp good.pem open.pem; chmod 644 open.pem
             cp good.pem group.pem; chmod 620 group.pem; cp good.pem public.pem; cp good.pem.pub public.pem
             sed 's/^MC4/MC5/' good.pem >unsound.pem; truncate -s 70000 huge.pem",
        );
        let private = "proctor keygen";
        let cases: &[(&str, &[&str])] = &[
            ("absent.pem", &["does not exist", private]),
            ("link.pem", &["is a symbolic link", "name the file itself"]),
            ("fifo.pem", &["is a fifo, not a regular file", private]),
            ("directory.pem", &["is a directory, not a regular file"]),
            ("empty.pem", &["is empty", private]),
            ("binary.pem", &["is no PEM file", private]),
            ("text.pem", &["is no PEM file: no line begins with -----BEGIN", private]),
            ("huge.pem", &["is larger than 65536 bytes"]),
            ("two.pem", &["holds more than one PEM block"]),
            ("unsound.pem", &["holds no sound private key", private]),
            ("hard.pem", &["has 2 names (hard links)", "copy it to a file of its own"]),
            ("open.pem", &["has mode 0644: others than its owner could read or change it", "chmod 600"]),
            ("group.pem", &["has mode 0620", "chmod 600"]),
            ("public.pem", &["holds a public key, and what signs is the private one", private]),
            ("rsa.pem", &["holds a key of RSA (object identifier 1.2.840.113549.1.1.1)", "Ed25519 alone"]),
            ("ec.pem", &["holds a key of an elliptic curve of ECDSA", private]),
            ("traditional.pem", &["is a PEM of the kind EC PRIVATE KEY, not PKCS#8"]),
            ("openssh.pem", &["OpenSSH's own format", private]),
            ("encrypted.pem", &["holds an encrypted key", "openssl pkey -in KEY -out NEW"]),
            ("../keys", &["is a directory"]),
            ("none/there.pem", &["its directory", "cannot be opened"]),
        ];
        for (name, words) in cases {
            let path = world.path("keys").join(name);
            let call = run(repo, &["--no-test", "--sign"]).arg(&path).args(["--", "sh", "-c", MEND]);
            refused(repo, call, &[&["--sign", name][..], words].concat());
        }
        // The good one is no longer one where another can have it.
        passes(&signed(repo, &keys, &["--no-test"]), repo);
    });
    for user in users().into_iter().filter(|_| users().len() > 1) {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let keys = keygen(&world, "good.pem");
        std::os::unix::fs::chown(&keys.private, Some(4321), Some(4321)).unwrap();
        let words: &[&str] = match user {
            harness::User::Root => &["belongs to uid 4321, not to uid 0", "use a key of your own"],
            harness::User::Ordinary => &["cannot be opened: Permission denied"],
        };
        let sign = keys.private.display().to_string();
        refused(&repo, sh(&repo, &["--no-test", "--sign", &sign], MEND), words);
    }
}

#[test]
fn a_key_in_the_tree_or_in_what_a_sandbox_shows_is_refused() {
    each(|repo| {
        let world = repo.world();
        let keys = keygen(world, "signing.pem");
        let key = keys.private.display().to_string();
        outside(
            repo,
            "mkdir -p ../data/deep; cp -p ../keys/signing.pem ../data/deep/key.pem; ln -s data ../alias",
        );
        outside(repo, "umask 077; cp ../keys/signing.pem .git/key.pem; git worktree add -q ../linked");
        let at = |name: &str| world.path(name).display().to_string();
        let shown = ["would show", "below ~/.config/proctor"];
        for (mount, key) in [
            ("data", "data/deep/key.pem"),
            ("data/deep", "data/deep/key.pem"),
            ("alias", "data/deep/key.pem"),
            ("data", "alias/deep/key.pem"),
            ("data/deep/key.pem", "data/deep/key.pem"),
        ] {
            for option in ["--ro", "--rw", "--overlay", "--test-ro", "--review-ro"] {
                if mount.ends_with(".pem") && option == "--overlay"
                    || option == "--review-ro" && mount != "data"
                {
                    continue;
                }
                let options = ["--test", "true", "--review", "true", option, &at(mount), "--sign", &at(key)];
                refused(repo, sh(repo, &options, MEND), &shown);
            }
        }
        let git = repo.path().join(".git/key.pem").display().to_string();
        refused(repo, sh(repo, &["--no-test", "--sign", &git], MEND), &["--sign", "inside the work tree"]);
        // A linked work tree's repository lies elsewhere, and is shown all the same.
        let linked = proctor(world).args(["run", "--no-test", "--repo"]).arg(world.path("linked"));
        let words = ["the key file", "which the backend sees", "below ~/.config/proctor"];
        refused(repo, linked.args(["--sign", &git, "--", "true"]), &words);
        // The others are told as well.
        for command in ["explain", "why", "learn"] {
            let more: &[&str] = if command == "why" { &["/etc"] } else { &[] };
            let call = proctor(world).args([command, "--repo"]).arg(repo.path()).args(more);
            let call = call.args(["--ro", &at("data"), "--sign", &at("data/deep/key.pem"), "--", "true"]);
            refused(repo, call, &["which a sandbox of this run would show"]);
        }
        // Where it may lie, nothing inside reaches it.
        let script = format!("cat {key} ../keys/* && echo reached; env | grep -c PRIVATE; {MEND}");
        let outcome = sh(repo, &["--no-test", "--sign", &key], &script).run();
        passes(&outcome, repo);
        assert_eq!(outcome.text("backend.stdout.log"), "0\n");
        assert!(outcome.text("backend.stderr.log").contains("No such file or directory"), "{outcome:#?}");
    });
}

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

#[test]
fn keygen_says_what_it_made_and_writes_over_nothing() {
    each(|repo| {
        let world = repo.world();
        let path = world.path("keys/k.pem");
        let made = proctor(world).args(["--json", "keygen"]).arg(&path).run();
        assert_eq!(made.code, Some(0), "{made:#?}");
        let said: Value = serde_json::from_str(&made.stdout).unwrap();
        assert_eq!(said["private_key"], path.display().to_string());
        assert_eq!(said["public_key"], format!("{}.pub", path.display()));
        assert!(said["algorithm"] == "ed25519" && said["key_id"].as_str().is_some_and(|id| id.len() == 64));
        assert!(made.stderr.contains("mode 0600"), "{made:#?}");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(&world.path("keys/k.pem.pub"))), (0o600, 0o644));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!format!("{made:?}").contains(text.lines().nth(1).unwrap()), "the key itself was printed");

        let call = |name: &str| proctor(world).arg("keygen").arg(world.path(name));
        refused(repo, call("keys/k.pem"), &["k.pem is there already", "never written over", "another name"]);
        outside(repo, "ln -s nowhere ../keys/dangling; : >../keys/half.pub; mkdir ../keys/dir");
        refused(repo, call("keys/dangling"), &["dangling is there already"]);
        refused(repo, call("keys/half"), &["half.pub is there already"]);
        refused(repo, call("keys/dir"), &["dir is there already"]);
        refused(repo, call("repo/src/k.pem"), &["would lie in the git work tree", "below ~/.config/proctor"]);
        refused(repo, call("repo/.git/new/k.pem"), &["would lie in the git work tree"]);
        refused(repo, call("repo/new/deep/k.pem"), &["would lie in the git work tree"]);
        refused(repo, call(".."), &["has no name"]);
        refused(repo, call("keys/k.pem/below"), &["cannot be made", "give another place"]);
        refused(repo, proctor(world).args(["keygen", "/proc/k.pem"]), &["k.pem cannot be made"]);
        let umask = openssl(repo, &format!("umask 777; {} keygen open.pem", crate::binary().display()));
        assert_eq!((umask.len(), mode(&world.path("keys/open.pem.pub"))), (65, 0o644));
    });
}

#[test]
fn a_key_to_verify_with_that_is_none_is_named() {
    each(|repo| {
        let keys = keygen(repo.world(), "signing.pem");
        let outcome = signed(repo, &keys, &["--no-test"]);
        openssl(
            repo,
            "umask 077
             openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 2>/dev/null | openssl pkey -pubout -out rsa.pub
             { echo '-----BEGIN PUBLIC KEY-----'; printf '302a300506032b65700321000100000000000000000000000000000000000000000000000000000000000000' | xxd -r -p | base64; echo '-----END PUBLIC KEY-----'; } >weak.pub
             sed s/PUBLIC/OTHER/ signing.pem.pub >other.pub; mkfifo fifo.pub",
        );
        let cases: &[(&str, &[&str])] = &[
            ("absent.pub", &["does not exist", "KEY.pub"]),
            ("fifo.pub", &["is a fifo"]),
            (
                "signing.pem",
                &["holds a private key (PRIVATE KEY)", "needs the public one alone", "to yourself"],
            ),
            ("rsa.pub", &["holds a key of RSA"]),
            ("weak.pub", &["no Ed25519 public key, or a weak one"]),
            ("other.pub", &["is a PEM of the kind OTHER KEY", "openssl pkey -in KEY -pubout"]),
        ];
        for (name, words) in cases {
            let path = repo.world().path("keys").join(name);
            let said = verify(repo, &outcome.evidence(), &[&path]);
            assert_eq!(said.code, Some(2), "{said:#?}");
            for word in [&["--key: the key file", name][..], words].concat() {
                assert!(said.stderr.contains(word), "{word:?} is not in {said:#?}");
            }
        }
    });
}
