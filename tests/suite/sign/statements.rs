//! Statements: who reads them, and what is refused of them.

use super::*;

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
