//! Evidence with and without a statement, and with and without a key.

use super::*;
use crate::evidence::sign::{PublicKey, Signer, signed_lines};

fn signer() -> Signer {
    Signer::from_seed([7; 32])
}

fn signed() -> Written {
    let written = Run::new().write(|report| {
        report.artifact_paths.insert(STATEMENT.into(), STATEMENT.into());
    });
    let bytes = std::fs::read(written.path.join(REPORT)).unwrap();
    let report = Report::from_json(&bytes).unwrap();
    let sha256 = hex::encode(&Sha256::digest(&bytes));
    written.rewrite(STATEMENT, &signed_lines(&report, &sha256, &signer()).unwrap());
    written
}

fn ask(written: &Written, keys: &[PublicKey], require_signature: bool) -> (Vec<String>, String) {
    let result = verify(&written.path, VerifyOptions { keys, require_signature, ..VerifyOptions::default() });
    assert_eq!(result.valid, result.problems.is_empty());
    (result.problems.iter().map(ToString::to_string).collect(), result.authenticity)
}

#[test]
fn who_signed_is_said_only_where_a_key_shows_it() {
    let (written, key) = (signed(), [signer().public().clone()]);
    let id = signer().public().id().to_owned();
    assert_eq!(ask(&written, &key, false), (vec![], format!("signed by {id}")));
    assert_eq!(ask(&written, &key, true), (vec![], format!("signed by {id}")));
    let (problems, said) = ask(&written, &[], false);
    assert_eq!(problems, Vec::<String>::new());
    assert!(said.starts_with("not checked: ") && said.contains(&id) && said.contains("--key FILE"), "{said}");
    assert!(!said.contains("signed by"), "{said}");
    one(&ask(&written, &[], true).0, "a signature is required, and no key was given (--key FILE)");
}

#[test]
fn evidence_that_is_not_signed_fails_where_it_must_be() {
    let (written, key) = (Run::new().write(|_| {}), [signer().public().clone()]);
    assert_eq!(ask(&written, &[], false), (vec![], "unsigned".to_owned()));
    one(&ask(&written, &[], true).0, "report.intoto.jsonl: is missing: a signature is required");
    let (problems, said) = ask(&written, &key, false);
    one(&problems, "report.intoto.jsonl: is missing: a key was given, and the evidence is not signed");
    assert_eq!(said, "unsigned");
    // A statement that was taken away is missed without a key, too.
    let written = signed();
    std::fs::remove_file(written.path.join(STATEMENT)).unwrap();
    for keys in [&[][..], &key[..]] {
        one(&ask(&written, keys, false).0, "the report says that the run was signed: it was taken away");
    }
}

#[test]
fn a_statement_that_does_not_hold_is_a_problem_with_and_without_a_key() {
    let key = [signer().public().clone()];
    for keys in [&[][..], &key[..]] {
        let written = signed();
        written.rewrite(STATEMENT, b"{}");
        let (problems, said) = ask(&written, keys, false);
        one(&problems, "report.intoto.jsonl: does not end with a line feed");
        assert_eq!(said, "not shown: report.intoto.jsonl does not hold");
        // Evidence whose report knows nothing of a statement, and another run's statement.
        let plain = Run::new().write(|_| {});
        std::fs::copy(signed().path.join(STATEMENT), plain.path.join(STATEMENT)).unwrap();
        let (problems, _) = ask(&plain, keys, false);
        some(&problems, "the report says nothing of it");
        some(&problems, "is the statement of another run");
        // An artifact that was changed.
        let written = signed();
        written.rewrite(STDERR, b"x");
        let (problems, said) = ask(&written, keys, false);
        some(&problems, "report.intoto.jsonl: does not cover backend.stderr.log as it is here");
        assert_eq!(said, "not shown: report.intoto.jsonl does not hold");
        // Two names for it, a link, and a size that is only claimed.
        let written = signed();
        std::fs::hard_link(written.path.join(STATEMENT), written.path.join("../x")).unwrap();
        one(&ask(&written, keys, false).0, "report.intoto.jsonl: has 2 names");
        std::fs::remove_file(written.path.join(STATEMENT)).unwrap();
        std::os::unix::fs::symlink("../x", written.path.join(STATEMENT)).unwrap();
        one(&ask(&written, keys, false).0, "report.intoto.jsonl: is no regular file");
        let written = signed();
        std::fs::File::options()
            .write(true)
            .open(written.path.join(STATEMENT))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        one(&ask(&written, keys, false).0, "has 1099511627776 bytes, more than the 67108864 that are read");
    }
}
