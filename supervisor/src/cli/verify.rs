//! `proctor verify`.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::output;
use crate::changes::ObjectId;
use crate::changes::patch::apply::apply;
use crate::changes::repo::Repo;
use crate::event::now_micros;
use crate::evidence::verify::{PatchCheck, VerifyOptions, VerifyResult, verify};
use crate::exit::ExitCode;
use crate::report::units::size;

/// The largest patch that is applied in memory, in bytes.
const MAX_PATCH: u64 = 256 << 20;

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  proctor verify evidence/ --repo . --max-age 1d

Unsigned evidence shows that its parts agree, not who made it. The evidence is read in this process, without a
sandbox and without a limit of time: verify what a stranger gave you where nothing else is at stake. Exit code 0: nothing is wrong; 4: something is.")]
pub(super) struct VerifyArgs {
    /// The evidence directory
    evidence: PathBuf,
    /// The nonce that the evidence must hold (lower-case hex)
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    /// The run must have ended no longer ago than this
    #[arg(long, value_name = "DUR")]
    max_age: Option<String>,
    /// A repository with the base commit: the patch is applied to it in memory and must give the result tree
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// Artifacts of more bytes than this together are not read (a size such as 500M or 64G)
    #[arg(long, value_name = "SIZE", default_value = "64G")]
    max_bytes: String,
    /// Unsigned evidence is not accepted
    #[arg(long)]
    require_signature: bool,
}

struct RepoCheck(Repo);

impl PatchCheck for RepoCheck {
    fn check(&self, commit: &str, tree: &str, result: &str, patch: &mut dyn Read) -> Result<(), String> {
        let id = |text: &str| {
            ObjectId::from_hex(text.as_bytes())
                .map_err(|_| format!("{} is no object id", text.escape_debug()))
        };
        let base_tree = self.0.odb().commit_tree(&id(commit)?).map_err(|e| e.to_string())?;
        if base_tree != id(tree)? {
            return Err(format!("the base commit's tree is {base_tree}, the report says another"));
        }
        let mut text = Vec::new();
        patch.take(MAX_PATCH + 1).read_to_end(&mut text).map_err(|e| format!("reading the patch: {e}"))?;
        let got = apply(&self.0, base_tree, &text, MAX_PATCH).map_err(|e| e.to_string())?;
        if got == id(result)? {
            Ok(())
        } else {
            Err(format!("the patch gives tree {got}, the report says another"))
        }
    }
}

/// Verifies.
pub(super) fn run(args: &VerifyArgs, json: bool) -> ExitCode {
    let max_age = match args.max_age.as_deref().map(humantime::parse_duration).transpose() {
        Ok(age) => age,
        Err(e) => {
            let text = format!("--max-age: {e}; write a duration such as 90m, 12h or '7d 12h'");
            return output::error(text, ExitCode::Usage);
        }
    };
    if let Some(nonce) = &args.nonce
        && !nonce.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        return output::error("--nonce: write lower-case hex digits", ExitCode::Usage);
    }
    let max_bytes = match crate::profile::values::size(&args.max_bytes) {
        Ok(bytes) => bytes,
        Err(e) => {
            let remedy = e.remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
            return output::error(format_args!("--max-bytes: {}{remedy}", e.what), ExitCode::Usage);
        }
    };
    let repo = match args.repo.as_deref().map(Repo::open).transpose() {
        Ok(repo) => repo.map(RepoCheck),
        Err(e) => return output::error(format_args!("--repo: {e}"), ExitCode::Usage),
    };
    let options = VerifyOptions {
        nonce: args.nonce.as_deref(),
        max_age,
        now: now_micros(),
        patch_check: repo.as_ref().map(|r| r as &dyn PatchCheck),
        require_signature: args.require_signature,
        max_bytes,
        ..VerifyOptions::default()
    };
    let result = verify(&args.evidence, options);
    if json {
        match serde_json::to_value(&result) {
            Ok(value) => output::json(&value),
            Err(e) => return output::error(e, ExitCode::Defect),
        }
    }
    show(&result, repo.is_some());
    if result.valid { ExitCode::Pass } else { ExitCode::Evidence }
}

fn show(result: &VerifyResult, with_repo: bool) {
    let run = result.run_id.as_deref().unwrap_or("unknown run");
    if result.valid {
        let patch = if with_repo {
            "the patch gives the result tree"
        } else {
            "patch not held against a repository (--repo DIR)"
        };
        output::note(format_args!(
            "VALID  {run}  {} artifacts, {}; {patch}",
            result.artifacts,
            size(result.bytes)
        ));
    } else {
        output::note(format_args!(
            "INVALID  {run}  {} problems",
            result.problems.len() as u64 + result.more_problems
        ));
        for problem in &result.problems {
            output::note(format_args!("  {problem}"));
        }
        if result.more_problems > 0 {
            output::note(format_args!("  and {} more", result.more_problems));
        }
    }
    for one in &result.not_compared {
        output::note(format_args!("  not compared: {one}"));
    }
    if let Some(status) = result.status {
        output::note(format_args!("  the report says: {}", status.as_str()));
    }
    let shows =
        if result.authenticity == "unsigned" { " (its parts agree; who made it is not shown)" } else { "" };
    output::note(format_args!("  authenticity: {}{shows}", result.authenticity));
}
