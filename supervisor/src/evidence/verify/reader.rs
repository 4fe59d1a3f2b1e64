//! The process that reads evidence: takes its orders and its directories, gives up everything else, and only then looks
//! at a byte. What it finds it says on standard output ([`super::confined`] is the other side).

use std::io::Write;
use std::time::Duration;

use proctor_sandbox::confine::{Held, Reading, confine, handover};

use super::answer::{Orders, RepoOrders, Start};
use super::{Directory, PatchCheck, ProblemKind, ReaderInfo, VerifyOptions, VerifyResult};
use crate::changes::ObjectId;
use crate::changes::patch::apply::{Applied, apply_to};
use crate::changes::repo::{Objects, RepoError};
use crate::evidence::sign::PublicKey;
use crate::report::Mechanism;

/// The hidden command by which the binary becomes a reader.
pub const COMMAND: &str = "evidence-reader";
/// The largest patch that is applied in memory, in bytes.
const MAX_PATCH: u64 = 256 << 20;
/// Descriptors that may be open at once.
const OPEN_FILES: u64 = 128;

/// Reads as it is told on standard input, and answers on standard output. Gives the exit code: 0 where it answered.
#[must_use]
pub fn main() -> u8 {
    match read() {
        Ok(()) => 0,
        Err(why) => {
            // Nobody but the parent hears it; where that has gone nobody does.
            let _ = writeln!(std::io::stderr().lock(), "{why}");
            2
        }
    }
}

fn read() -> Result<(), String> {
    let (bytes, mut fds) = handover::receive().map_err(|error| {
        format!("`{COMMAND}` is started by `proctor verify`, and by nobody else: {error}")
    })?;
    let orders: Orders = serde_json::from_slice(&bytes).map_err(|error| format!("its orders: {error}"))?;
    if fds.is_empty() {
        return Err("its orders came without a directory".to_owned());
    }
    let held = confine(&Reading {
        beneath: &fds,
        memory: orders.memory,
        mapped: orders.mapped,
        cpu_seconds: orders.cpu_seconds,
        open_files: OPEN_FILES,
        parent: orders.parent,
        make_do: orders.make_do,
    });
    match held {
        Ok(held) => say(&Start::Held(info(held)))?,
        Err(error) => return say(&Start::Refused(error)),
    }
    let dir = Directory::of(fds.swap_remove(0));
    say(&look(&dir, &orders))
}

fn say(what: &impl serde::Serialize) -> Result<(), String> {
    let mut line = serde_json::to_vec(what).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

fn info(held: Held) -> ReaderInfo {
    let one =
        |(name, detail): (&str, Option<String>)| Mechanism { name: name.to_owned(), version: None, detail };
    ReaderInfo { mechanisms: held.mechanisms.into_iter().map(one).collect(), missing: held.missing }
}

/// From here on everything that is read is hostile.
fn look(dir: &Directory, orders: &Orders) -> VerifyResult {
    let repo = match orders.repo.as_ref().map(RepoCheck::open).transpose() {
        Ok(repo) => repo,
        Err(error) => {
            return VerifyResult::unread(ProblemKind::Patch, super::PATCH, format!("--repo: {error}"));
        }
    };
    // Without one of its keys evidence could be shown as signed by another, or as unsigned.
    let Some(keys) = orders.keys.iter().map(PublicKey::from_bytes).collect::<Option<Vec<_>>>() else {
        return VerifyResult::unread(ProblemKind::Signature, super::STATEMENT, "--key: a key did not arrive");
    };
    let options = VerifyOptions {
        nonce: orders.nonce.as_deref(),
        max_age: orders.max_age_us.map(Duration::from_micros),
        now: orders.now,
        patch_check: repo.as_ref().map(|repo| repo as &dyn PatchCheck),
        keys: &keys,
        require_signature: orders.require_signature,
        max_artifact: orders.max_artifact,
        max_bytes: orders.max_bytes,
    };
    super::verify_opened(dir, options)
}

/// A repository whose objects are read.
struct RepoCheck(Objects);

impl RepoCheck {
    fn open(orders: &RepoOrders) -> Result<Self, RepoError> {
        let RepoOrders { root, own_git_dir, git_dir, common_dir } = orders;
        Objects::open(root, *own_git_dir, git_dir, common_dir).map(Self)
    }
}

impl PatchCheck for RepoCheck {
    fn check(
        &self,
        commit: &str,
        tree: &str,
        result: &str,
        patch: &mut dyn std::io::Read,
    ) -> Result<Vec<Applied>, String> {
        let odb = self.0.odb();
        let hash = odb.hash();
        let id = |text: &str| {
            ObjectId::from_hex(text.as_bytes())
                .ok()
                .filter(|id| id.kind() == hash)
                .ok_or_else(|| format!("{} is no object id of this repository", text.escape_debug()))
        };
        let base_tree = odb.commit_tree(&id(commit)?).map_err(|error| match error {
            RepoError::MissingObject { id: missing, path, .. } => format!(
                "the base commit {missing} is not in {}: fetch it there (`git fetch REMOTE {missing}`), or name with --repo a repository that has it",
                path.display()
            ),
            error => format!("the base commit: {error}"),
        })?;
        if base_tree != id(tree)? {
            return Err(format!("the base commit's tree is {base_tree}, the report says another"));
        }
        let mut text = Vec::new();
        let mut patch = std::io::Read::take(patch, MAX_PATCH + 1);
        std::io::Read::read_to_end(&mut patch, &mut text)
            .map_err(|error| format!("reading the patch: {error}"))?;
        let (got, parts) = apply_to(odb, base_tree, &text, MAX_PATCH).map_err(|error| error.to_string())?;
        if got == id(result)? {
            Ok(parts)
        } else {
            Err(format!("the patch gives tree {got}, the report says another"))
        }
    }
}
