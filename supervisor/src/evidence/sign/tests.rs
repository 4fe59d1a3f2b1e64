//! Known answers of the specifications, every way in which a key or a statement can be wrong, and a statement word for
//! word.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::envelope::{self, PAYLOAD_TYPE, pae};
use super::key::{self, PublicKey, Signer};
use super::{PROVENANCE, Shown, TEST_RESULT, check, public_path, signed_lines, write_pair};
use crate::event::hex;
use crate::evidence::secrets::SecretScanner;
use crate::report::{PathText, Report, TestStatus, sample};
use crate::verdict::Status;

const SHA: &str = "ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12ab12";

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let digits = text.as_bytes();
    assert_eq!(digits.len(), 2 * N);
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}

fn signer() -> Signer {
    Signer::from_seed([7; 32])
}

fn report() -> Report {
    let mut report = sample::report();
    report.proctor_version = "0.1.0".into();
    report
}

fn lines(report: &Report) -> Vec<u8> {
    signed_lines(report, SHA, &signer()).unwrap()
}

/// The two payloads of a report.
fn payloads(report: &Report) -> Vec<Value> {
    let text = String::from_utf8(lines(report)).unwrap();
    let payload = |line: &str| {
        let envelope: Value = serde_json::from_str(line).unwrap();
        serde_json::from_slice(&STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()).unwrap()
    };
    text.lines().map(payload).collect()
}

/// What is wrong with lines over the sample report, held against the key that signed it.
fn wrong(lines: &[u8]) -> Vec<String> {
    match check(lines, &report(), SHA, &[signer().public().clone()]) {
        Shown::Wrong(all) => all,
        other => panic!("{other:?}"),
    }
}

fn one(lines: &[u8], text: &str) {
    let all = wrong(lines);
    assert!(all.len() == 1 && all[0].contains(text), "expected {text:?} alone: {all:#?}");
}

/// The lines with one of their payloads changed and signed by `by`.
fn resigned(index: usize, by: &Signer, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut all = payloads(&report());
    edit(&mut all[index]);
    let mut out = Vec::new();
    for payload in all {
        out.extend(envelope::sign(payload.to_string().as_bytes(), by).unwrap());
        out.push(b'\n');
    }
    out
}

#[test]
fn the_encoding_is_that_of_the_protocol() {
    // DSSE v1.0.0, protocol.md, "Test Vectors".
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    // Lengths are of bytes, and nothing in a payload is text.
    assert_eq!(pae("é", b"\0\n\xff "), b"DSSEv1 2 \xc3\xa9 4 \0\n\xff ");
}

#[test]
fn signatures_are_those_of_rfc_8032() {
    // Section 7.1: tests 1, 2 and 3.
    let vectors = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            &b""[..],
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            &[0x72],
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            &[0xaf, 0x82],
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (seed, public, message, signature) in vectors {
        let signer = Signer::from_seed(bytes(seed));
        assert_eq!(hex::encode(&signer.public().to_bytes()), public);
        assert_eq!(hex::encode(&signer.sign(message)), signature);
        let key = PublicKey::from_bytes(&bytes(public)).unwrap();
        assert!(key.verifies(message, &bytes(signature)));
        assert!(!key.verifies(b"another", &bytes(signature)));
    }
}

#[test]
fn verification_takes_none_of_the_liberties() {
    let signer = signer();
    let signature = signer.sign(b"m");
    assert!(signer.public().verifies(b"m", &signature));
    // S + L: the same equation, another signature (RFC 8032, section 5.1.7 forbids it).
    let order: [u8; 32] = bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let (mut second, mut carry) = (signature, 0_u16);
    for (byte, more) in second[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert!(second != signature && !signer.public().verifies(b"m", &second));
    // Keys of small order, for which signatures can be made that fit anything: the identity, and one of order 8.
    for weak in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ] {
        assert_eq!(PublicKey::from_bytes(&bytes(weak)), None, "{weak}");
    }
}

fn write(dir: &std::path::Path, name: &str, text: impl AsRef<[u8]>) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// RFC 8410, section 10: a private key, and its public half.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

#[test]
fn keys_are_read_as_rfc_8410_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::read(&write(dir.path(), "k", PRIVATE)).unwrap();
    let public = PublicKey::read(&write(dir.path(), "k.pub", PUBLIC)).unwrap();
    assert_eq!(signer.public(), &public);
    assert_eq!(public.to_pem().as_deref(), Some(PUBLIC));
    assert_eq!(PublicKey::from_bytes(&public.to_bytes()).as_ref(), Some(&public));
    // sha256sum of the 44 bytes that the PEM encodes.
    assert_eq!(public.id(), "a1e9156054e04fac899ae9f275132cdc07a5dbc4ea2c2ad3a1ffc6e0d253681f");
    let shown = format!("{signer:?} {public:?}");
    assert!(!shown.contains("1Hu2") && !shown.contains("212, 238") && shown.contains(public.id()), "{shown}");
}

#[test]
fn what_keygen_makes_is_read_again_and_never_written_over() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/dir/key.pem");
    let pair = write_pair(&path).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&path), mode(&pair.public), mode(path.parent().unwrap())), (0o600, 0o644, 0o700));
    assert_eq!(pair.public, public_path(&path));
    let signer = Signer::read(&path).unwrap();
    assert_eq!((signer.public(), &PublicKey::read(&pair.public).unwrap()), (&pair.key, &pair.key));
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3, "PKCS#8 without the public half");
    let before = std::fs::read(&path).unwrap();
    let again = write_pair(&path).unwrap_err().to_string();
    assert!(again.contains("is there already, and a key is never written over"), "{again}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // Only the public file stands in the way: nothing is left of the private one either.
    std::fs::remove_file(&path).unwrap();
    let again = write_pair(&path).unwrap_err().to_string();
    assert!(again.contains("key.pem.pub is there already"), "{again}");
    assert!(!path.exists() && pair.public.exists());
    let other = write_pair(&dir.path().join("other")).unwrap();
    assert_ne!(other.key, pair.key);
}

#[test]
fn the_key_is_found_in_whatever_form_it_leaks() {
    let dir = tempfile::tempdir().unwrap();
    // One begins and ends with bytes that a search takes off of other secrets.
    let spaced = std::array::from_fn(|i| if i % 31 == 0 { b' ' } else { i as u8 * 5 + 1 });
    for seed in [[7; 32], spaced] {
        let signer = Signer::from_seed(seed);
        let scanner = SecretScanner::new(&signer.secrets()).unwrap();
        assert!(scanner.too_short().is_empty());
        let (pem, public) = key::to_pem(&ed25519_dalek::SigningKey::from_bytes(&seed)).unwrap();
        // The second version of PKCS#8, as other tools write it: with the public half.
        let bytes = ed25519_dalek::pkcs8::KeypairBytes {
            secret_key: seed,
            public_key: Some(ed25519_dalek::pkcs8::PublicKeyBytes(public.to_bytes())),
        };
        use ed25519_dalek::pkcs8::EncodePrivateKey;
        let long = bytes.to_pkcs8_pem(ed25519_dalek::pkcs8::spki::der::pem::LineEnding::LF).unwrap();
        assert_eq!(Signer::read(&write(dir.path(), "long", long.as_bytes())).unwrap().public(), &public);
        for leaked in [
            pem.to_string(),
            long.to_string(),
            json!(*pem).to_string(),
            STANDARD.encode(pem.as_bytes()),
            STANDARD.encode(long.as_bytes()),
            hex::encode(pem.as_bytes()),
            hex::encode(&seed),
            STANDARD.encode(seed),
        ] {
            let found = scanner.scan(format!("x {leaked} y").as_bytes()).unwrap();
            assert_eq!(found, ["the signing key"], "{leaked}");
        }
        assert!(scanner.scan(public.to_pem().unwrap().as_bytes()).unwrap().is_empty());
        assert!(scanner.scan(&lines(&report())[..]).unwrap().is_empty());
    }
}

#[test]
fn a_statement_is_this() {
    let all = payloads(&report());
    insta::assert_snapshot!("test_result", format!("{:#}\n", all[0]));
    insta::assert_snapshot!("provenance", format!("{:#}\n", all[1]));
    // Byte for byte, signatures included: what is signed today is verified by every later version.
    insta::assert_snapshot!("lines", String::from_utf8(lines(&report())).unwrap());
}

#[test]
fn the_result_says_what_the_run_and_its_tests_came_to() {
    let say = |edit: &dyn Fn(&mut Report)| {
        let mut report = report();
        edit(&mut report);
        let predicate = payloads(&report).remove(0)["predicate"].take();
        let names = |list: &str| predicate[list].as_array().unwrap().len();
        let counts = [names("passedTests"), names("warnedTests"), names("failedTests")];
        (predicate["result"].as_str().unwrap().to_owned(), counts)
    };
    assert_eq!(say(&|_| {}), ("PASSED".into(), [1, 0, 0]));
    let steered = |report: &mut Report| {
        report.test_inputs_changed = vec![PathText { path: "Makefile".into(), path_b64: None }];
    };
    assert_eq!(say(&steered), ("WARNED".into(), [0, 1, 0]));
    let tests = |status: TestStatus, verdict: Status| {
        say(&move |report| (report.tests.status, report.status) = (status, verdict))
    };
    assert_eq!(tests(TestStatus::Off, Status::Pass), ("WARNED".into(), [0; 3]));
    assert_eq!(tests(TestStatus::Passed, Status::Fail), ("FAILED".into(), [1, 0, 0]));
    for status in [TestStatus::Failed, TestStatus::TimedOut] {
        assert_eq!(tests(status, Status::Fail), ("FAILED".into(), [0, 0, 1]));
    }
    for status in [TestStatus::NotRun, TestStatus::Missing] {
        assert_eq!(tests(status, Status::Fail), ("FAILED".into(), [0; 3]));
    }
}

#[test]
fn a_run_that_never_got_far_states_no_base() {
    let mut report = report();
    (report.base_commit, report.base_tree, report.result_tree) = (None, None, None);
    let all = payloads(&report);
    assert_eq!(all[1]["predicate"]["buildDefinition"]["resolvedDependencies"], json!([]));
    assert_eq!(all[0]["predicate"]["configuration"].as_array().map(Vec::len), Some(1));
}

#[test]
fn the_right_key_shows_itself_and_none_shows_nothing() {
    let (lines, id) = (lines(&report()), signer().public().id().to_owned());
    let other = Signer::from_seed([8; 32]);
    let ask = |keys: &[PublicKey]| check(&lines, &report(), SHA, keys);
    assert_eq!(ask(&[]), Shown::Unchecked { key_id: id.clone() });
    assert_eq!(ask(&[signer().public().clone()]), Shown::SignedBy { key_id: id.clone() });
    let both = [other.public().clone(), signer().public().clone()];
    assert_eq!(ask(&both), Shown::SignedBy { key_id: id.clone() });
    let Shown::Wrong(all) = ask(&[other.public().clone()]) else { panic!() };
    assert_eq!(all.len(), 2);
    assert!(all[0].contains(&format!("signed with key {id}, which was not given")), "{all:?}");
    assert!(all[0].contains(other.public().id()), "{all:?}");
}

#[test]
fn lines_that_are_not_the_two_are_named() {
    let good = lines(&report());
    let text = String::from_utf8(good.clone()).unwrap();
    let (first, second) = text.trim_end().split_once('\n').unwrap();
    one(b"", "does not end with a line feed");
    one(&good[..good.len() - 1], "does not end with a line feed");
    one(b"\n", "holds 1 envelopes; a signed run has two");
    one(format!("{first}\n").as_bytes(), "holds 1 envelopes");
    one(format!("{text}{first}\n").as_bytes(), "holds 3 envelopes");
    one(format!("{text}\n").as_bytes(), "holds 3 envelopes");
    let all = wrong(format!("{second}\n{first}\n").as_bytes());
    assert!(all.len() == 2 && all.iter().all(|one| one.contains("their lines were exchanged")), "{all:?}");
    one(format!("{first}\n{first}\n").as_bytes(), "envelope 2: holds the statement that belongs");
    one(format!("{first}\n[]\n").as_bytes(), "envelope 2: is no DSSE envelope");
    one(format!("{first}\n{}\n", "[".repeat(100_000)).as_bytes(), "envelope 2: is no DSSE envelope");
    assert_eq!(wrong(b"\xff\n\xff\n").len(), 2);
}

#[test]
fn an_envelope_in_another_form_is_named() {
    let text = String::from_utf8(lines(&report())).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let envelope: Value = serde_json::from_str(first).unwrap();
    let (payload, sig) =
        (envelope["payload"].as_str().unwrap(), envelope["signatures"][0]["sig"].as_str().unwrap());
    let said = |line: String, text: &str| one(format!("{line}\n{rest}").as_bytes(), text);
    let replaced = |from: &str, to: &str| {
        assert!(first.contains(from), "{from}");
        first.replacen(from, to, 1)
    };
    said(replaced("{", "{ "), "is not in the form in which Proctor writes it");
    said(replaced("\"payloadType\"", "\"payload\":\"\",\"payloadType\""), "duplicate field");
    said(replaced("\"payloadType\"", "\"more\":1,\"payloadType\""), "unknown field");
    said(replaced(PAYLOAD_TYPE, "application/json"), "has the payload type \"application/json\"");
    said(replaced("[{", "[],\"x\":[{"), "unknown field");
    let signed = format!("{{\"keyid\":\"{}\",\"sig\":\"{sig}\"}}", signer().public().id());
    said(replaced(&signed, &format!("{signed},{signed}")), "has 2 signatures, not one");
    said(replaced(&signed, ""), "has 0 signatures, not one");
    said(replaced(signer().public().id(), ""), "which is no key id");
    said(replaced(signer().public().id(), &signer().public().id().to_uppercase()), "which is no key id");
    // Base64 in other spellings: no padding, another alphabet, bits that nobody reads.
    said(replaced(sig, sig.trim_end_matches('=')), "its signature is no canonical base64");
    said(replaced(sig, &sig.replace("==", "").replace('/', "_").replace('+', "-")), "no canonical base64");
    let last = sig.as_bytes()[sig.len() - 3];
    let next = char::from(last + 1);
    said(
        replaced(sig, &format!("{}{next}==", &sig[..sig.len() - 3])),
        "its signature is no canonical base64",
    );
    said(replaced(sig, &STANDARD.encode([1; 63])), "its signature has 63 bytes");
    said(replaced(payload, &format!("{payload}=")), "its payload is no canonical base64");
    said(replaced(payload, &payload.replacen('e', " e", 1)), "its payload is no canonical base64");
}

#[test]
fn a_signature_that_was_replaced_or_is_of_another_key_does_not_verify() {
    let text = String::from_utf8(lines(&report())).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let sig = |line: &str| {
        let envelope: Value = serde_json::from_str(line).unwrap();
        envelope["signatures"][0]["sig"].as_str().unwrap().to_owned()
    };
    // The other envelope's signature, by the same key.
    one(
        format!("{}\n{rest}", first.replace(&sig(first), &sig(rest))).as_bytes(),
        "envelope 1: its signature does not verify with key",
    );
    // Another key's statements, which say that they were signed with this one.
    let other = Signer::from_seed([8; 32]);
    let forged = String::from_utf8(signed_lines(&report(), SHA, &other).unwrap()).unwrap();
    let forged = forged.replace(other.public().id(), signer().public().id());
    let all = wrong(forged.as_bytes());
    assert!(all.len() == 2 && all.iter().all(|one| one.contains("another key signed it")), "{all:?}");
    // One envelope by each: both keys are given.
    let theirs = String::from_utf8(signed_lines(&report(), SHA, &other).unwrap()).unwrap();
    let mixed = format!("{first}\n{}", theirs.split_once('\n').unwrap().1);
    let keys = [signer().public().clone(), other.public().clone()];
    let Shown::Wrong(all) = check(mixed.as_bytes(), &report(), SHA, &keys) else { panic!() };
    assert!(all.len() == 1 && all[0].contains("names another key than the envelope before it"), "{all:?}");
}

#[test]
fn a_statement_that_is_not_about_this_evidence_is_named_though_the_key_signed_it() {
    let by = signer();
    let said = |index: usize, edit: &dyn Fn(&mut Value), text: &str| {
        one(&resigned(index, &by, edit), &format!("envelope {}: {text}", index + 1));
    };
    said(
        0,
        &|s| s["predicate"]["result"] = json!("WARNED"),
        "predicate.result is \"WARNED\", by the report it must be \"PASSED\"",
    );
    said(
        0,
        &|s| s["predicate"]["url"] = json!("https://e.org"),
        "predicate.url is \"https://e.org\", and nothing must be there",
    );
    said(0, &|s| s["predicate"]["passedTests"] = json!([]), "predicate.passedTests[0] is missing");
    said(0, &|s| s["_type"] = json!("https://in-toto.io/Statement/v0.1"), "_type is");
    said(0, &|s| s["predicateType"] = json!(PROVENANCE), "predicateType is");
    said(1, &|s| s["predicateType"] = json!(TEST_RESULT), "predicateType is");
    said(0, &|s| s["more"] = json!(1), "statement.more is 1, and nothing must be there");
    said(0, &|s| *s = json!([]), "its payload is no JSON object");
    let pointer =
        |at: &'static str, value: Value| move |s: &mut Value| *s.pointer_mut(at).unwrap() = value.clone();
    let run = "/predicate/runDetails/metadata/invocationId";
    said(1, &pointer(run, json!("r-other")), "is the statement of another run: \"r-other\"");
    for (at, words) in [
        ("/predicate/runDetails/metadata/startedOn", "predicate.runDetails.metadata.startedOn is"),
        ("/predicate/runDetails/metadata/finishedOn", "predicate.runDetails.metadata.finishedOn is"),
        ("/predicate/runDetails/builder/id", "predicate.runDetails.builder.id is"),
        ("/predicate/buildDefinition/buildType", "predicate.buildDefinition.buildType is"),
        (
            "/predicate/buildDefinition/externalParameters/argv",
            "predicate.buildDefinition.externalParameters.argv is",
        ),
        (
            "/predicate/buildDefinition/resolvedDependencies/0/digest/gitCommit",
            "predicate.buildDefinition.resolvedDependencies[0].digest.gitCommit is",
        ),
    ] {
        said(1, &pointer(at, json!("x")), words);
    }
    said(0, &|s| s["subject"][0]["digest"]["sha256"] = json!("00"), "covers another ");
    said(0, &|s| s["subject"][0]["digest"]["sha512"] = json!("00"), "statement.subject[0].digest.sha512 is");
    said(0, &|s| drop(s["subject"].as_array_mut().unwrap().remove(0)), "does not cover ");
    said(
        0,
        &|s| s["subject"].as_array_mut().unwrap().push(json!({"name": "x", "digest": {"sha256": "00"}})),
        "covers x, which is no artifact",
    );
    said(
        0,
        &|s| {
            let twice = s["subject"][0].clone();
            s["subject"].as_array_mut().unwrap().push(twice)
        },
        "statement.subject[",
    );
    said(0, &|s| s["subject"].as_array_mut().unwrap().reverse(), "statement.subject[0]");
    // Another report, with the same name and run.
    let other = SHA.replace("ab", "cd");
    let Shown::Wrong(all) = check(&lines(&report()), &report(), &other, &[by.public().clone()]) else {
        panic!()
    };
    assert!(all.iter().any(|one| one.contains("covers another report.json: what was signed has")), "{all:?}");
    // The same value in another spelling.
    let loose = serde_json::to_string_pretty(&payloads(&report())[0]).unwrap();
    let mut text = envelope::sign(loose.as_bytes(), &by).unwrap();
    text.push(b'\n');
    text.extend(String::from_utf8(lines(&report())).unwrap().split_once('\n').unwrap().1.bytes());
    one(&text, "envelope 1: its payload is not in the form in which Proctor writes it");
    let mut text = envelope::sign(b"{", &by).unwrap();
    text.push(b'\n');
    text.extend(String::from_utf8(lines(&report())).unwrap().split_once('\n').unwrap().1.bytes());
    one(&text, "envelope 1: its payload is no JSON");
}

proptest! {
    #[test]
    fn no_flipped_byte_and_no_cut_goes_unseen(at in 0..10_000_usize, bit in 0..8_u32, cut in any::<bool>()) {
        let mut bytes = lines(&report());
        let at = at % bytes.len();
        if cut { bytes.truncate(at); } else { bytes[at] ^= 1 << bit; }
        prop_assert!(!wrong(&bytes).is_empty());
    }

    #[test]
    fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!wrong(&bytes).is_empty());
    }
}
