//! Signed evidence: keys as files, what is refused, who signed, and what an implementation that is not Proctor's says.

mod keys;
mod runs;
mod statements;

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
