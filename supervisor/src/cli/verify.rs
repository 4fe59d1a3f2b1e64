//! `proctor verify`.

use std::path::PathBuf;

use clap::Args;
use proctor_sandbox::host::Facts;

use super::output;
use crate::changes::repo::Places;
use crate::event::now_micros;
use crate::evidence::sign::PublicKey;
use crate::evidence::verify::confined::{self, LEAST_MEMORY, ReaderError, Request};
use crate::evidence::verify::{VerifyOptions, VerifyResult};
use crate::exit::ExitCode;
use crate::report::units::size;

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  proctor verify evidence/ --repo . --max-age 1d

The evidence is read by a process of its own: Landlock lets it read beneath the evidence directory (and, with --repo,
the repository's git directories) and nothing else, seccomp leaves it the system calls of a reader, and its memory and
time are limited. Where the host has no Landlock or seccomp nothing is read (exit code 3), unless --unconfined is given.
Unsigned evidence shows that its parts agree, not who made it.

Exit code 0: nothing is wrong; 4: something is, and each thing is named, or the reader came to no answer.")]
pub(super) struct VerifyArgs {
    /// The evidence directory
    evidence: PathBuf,
    /// The nonce that the evidence must hold (lower-case hex)
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    /// The run must have ended no longer ago than this
    #[arg(long, value_name = "DUR")]
    max_age: Option<String>,
    /// A repository with the base commit: the patch is applied to it in memory and must give the result tree; no git runs
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// Artifacts of more bytes than this together are not read (a size such as 500M or 64G)
    #[arg(long, value_name = "SIZE", default_value = "64G")]
    max_bytes: String,
    /// Public key (KEY.pub) that must have signed the evidence (repeatable: one of them)
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Unsigned evidence is not accepted
    #[arg(long)]
    require_signature: bool,
    /// Evidence that is not verified within this time is not accepted
    #[arg(long, value_name = "DUR", default_value = "10m")]
    timeout: String,
    /// Most memory of the process that reads
    #[arg(long, value_name = "SIZE", default_value = "4G")]
    memory: String,
    /// Read also where the host cannot confine the process that reads; the result says what was missing
    #[arg(long)]
    unconfined: bool,
}

fn duration(option: &str, text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text)
        .map_err(|e| format!("--{option}: {e}; write a duration such as 90m, 12h or '7d 12h'"))
}

fn bytes(option: &str, text: &str) -> Result<u64, String> {
    crate::profile::values::size(text).map_err(|e| {
        let remedy = e.remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
        format!("--{option}: {}{remedy}", e.what)
    })
}

/// Verifies.
pub(super) fn run(args: &VerifyArgs, json: bool) -> ExitCode {
    let places = match args.repo.as_deref().map(Places::find).transpose() {
        Ok(places) => places,
        Err(e) => return output::error(format_args!("--repo: {e}"), ExitCode::Usage),
    };
    let keys = match args.key.iter().map(|file| PublicKey::read(file)).collect::<Result<Vec<_>, _>>() {
        Ok(keys) => keys,
        Err(e) => return output::error(format_args!("--key: {e}"), ExitCode::Usage),
    };
    let request = match request(args, places.as_ref(), &keys) {
        Ok(request) => request,
        Err(text) => return output::error(text, ExitCode::Usage),
    };
    let result = match confined::verify(&args.evidence, &request) {
        Ok(result) => result,
        Err(error @ ReaderError::Start(_)) => return output::error(error, ExitCode::Defect),
        Err(ReaderError::Unavailable(step)) => {
            let mend = crate::mend::of_step(&step, &Facts::read());
            let text = format!(
                "sandbox_unavailable: the process that would read the evidence cannot be confined on this host, so nothing was read: {step}; {mend}; or read it without that where nothing else is at stake (--unconfined)"
            );
            return output::error(text, ExitCode::Refused);
        }
    };
    if json {
        match serde_json::to_value(&result) {
            Ok(value) => output::json(&value),
            Err(e) => return output::error(e, ExitCode::Defect),
        }
    }
    show(&result, args.repo.is_some());
    if result.valid { ExitCode::Pass } else { ExitCode::Evidence }
}

fn request<'a>(
    args: &'a VerifyArgs,
    repo: Option<&'a Places>,
    keys: &'a [PublicKey],
) -> Result<Request<'a>, String> {
    let max_age = args.max_age.as_deref().map(|text| duration("max-age", text)).transpose()?;
    let timeout = duration("timeout", &args.timeout)?;
    if timeout.is_zero() {
        return Err("--timeout: nothing is verified in no time; write a duration such as 90s or 10m".into());
    }
    let memory = bytes("memory", &args.memory)?;
    if memory < LEAST_MEMORY {
        return Err(format!("--memory: the process that reads needs {} at least", size(LEAST_MEMORY)));
    }
    if let Some(nonce) = &args.nonce
        && !nonce.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        return Err("--nonce: write lower-case hex digits".into());
    }
    let options = VerifyOptions {
        keys,
        nonce: args.nonce.as_deref(),
        max_age,
        now: now_micros(),
        require_signature: args.require_signature,
        max_bytes: bytes("max-bytes", &args.max_bytes)?,
        ..VerifyOptions::default()
    };
    Ok(Request { options, repo, timeout, memory, unconfined: args.unconfined })
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
    let unsigned = result.valid && result.authenticity == "unsigned";
    let shows = if unsigned { " (its parts agree; who made it is not shown)" } else { "" };
    output::note(format_args!("  authenticity: {}{shows}", result.authenticity));
    for one in result.reader.iter().flat_map(|reader| &reader.missing) {
        output::note(format_args!("  the reader was not held by: {one}"));
    }
}
