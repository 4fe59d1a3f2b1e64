//! `proctor keygen`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output;
use crate::evidence::sign::write_pair;
use crate::exit::ExitCode;

/// Options of `keygen`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  proctor keygen ~/.config/proctor/signing.pem
  proctor run --sign ~/.config/proctor/signing.pem --test 'make check' -- my-agent
  proctor verify EVIDENCE --key ~/.config/proctor/signing.pem.pub

KEY is an Ed25519 private key (PKCS#8 PEM, mode 0600), KEY.pub its public half (PEM): give that to whoever verifies.
The key's id, printed last, is the SHA-256 of the public key's SubjectPublicKeyInfo (DER). Nothing is written over.")]
pub(super) struct KeygenArgs {
    /// The file that is to hold the private key; it must not exist, nor lie in a git work tree
    #[arg(value_name = "KEY")]
    key: PathBuf,
}

/// Makes a key pair.
pub(super) fn run(args: &KeygenArgs, as_json: bool) -> ExitCode {
    let pair = match write_pair(&args.key) {
        Ok(pair) => pair,
        Err(e) => return output::error(e, ExitCode::Usage),
    };
    output::note(format_args!(
        "private key  {}  (mode 0600; whoever reads it signs in your name)",
        pair.private.display()
    ));
    output::note(format_args!("public key   {}  (for proctor verify --key)", pair.public.display()));
    if as_json {
        output::json(&json!({
            "key_id": pair.key.id(),
            "algorithm": "ed25519",
            "private_key": pair.private.display().to_string(),
            "public_key": pair.public.display().to_string(),
        }));
    } else {
        output::line(pair.key.id());
    }
    ExitCode::Pass
}
