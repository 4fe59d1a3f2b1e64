//! `proctor report`, `proctor diff`, `proctor logs`: reading a run again. Evidence is hostile input: nothing is
//! opened through a link, and on a terminal everything is escaped.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::output;
use crate::evidence::open::Directory;
use crate::evidence::{MAX_REPORT, PATCH, REPORT, STDERR, STDOUT, TEST_LOG, is_run_id};
use crate::exit::ExitCode;
use crate::profile::HostEnv;
use crate::report::escape::terminal_bytes;
use crate::report::{Report, terminal};
use crate::run::state_dirs::StateDirs;

/// The largest artifact that is shown, in bytes.
const MAX_SHOWN: u64 = 64 << 30;
/// The longest line that is escaped at once, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// Options of `report`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  proctor report r-20260601T120000-k3x7qa")]
pub(super) struct ReportArgs {
    /// An evidence directory, or the id of a run whose evidence is in the usual place
    evidence: PathBuf,
}

/// Options of `diff`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  proctor diff evidence/ | git apply --index --binary")]
pub(super) struct DiffArgs {
    /// An evidence directory, or the id of a run whose evidence is in the usual place
    evidence: PathBuf,
}

/// Options of `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  proctor logs evidence/ test")]
pub(super) struct LogsArgs {
    /// An evidence directory, or the id of a run whose evidence is in the usual place
    evidence: PathBuf,
    /// stdout, stderr, test or review; without it stdout and stderr of the backend
    #[arg(value_parser = ["stdout", "stderr", "test", "review"])]
    stream: Option<String>,
}

/// The directory that was meant.
fn directory(given: &Path) -> PathBuf {
    let id = given.to_str().filter(|text| is_run_id(text) && !given.exists());
    match (id, StateDirs::new(&HostEnv::of_this_process())) {
        (Some(id), Some(dirs)) => dirs.run(id),
        _ => given.to_owned(),
    }
}

fn open(given: &Path, name: &str, max: u64) -> Result<std::fs::File, ExitCode> {
    let dir = directory(given);
    Directory::open(&dir)
        .map_err(|why| format!("evidence directory {} {why}", dir.display()))
        .and_then(|d| d.file(name, max).map_err(|why| format!("{} {why}", dir.join(name).display())))
        .map(|(file, _)| file)
        .map_err(|why| {
            output::error(format_args!("{why}; name the evidence directory of a run"), ExitCode::Usage)
        })
}

/// Shows the report: a summary for people, the document itself with `--json`.
pub(super) fn report(args: &ReportArgs, json: bool) -> ExitCode {
    let mut bytes = Vec::new();
    let file = match open(&args.evidence, REPORT, MAX_REPORT as u64) {
        Ok(file) => file,
        Err(code) => return code,
    };
    if let Err(e) = file.take(MAX_REPORT as u64).read_to_end(&mut bytes) {
        return output::error(format_args!("reading {REPORT}: {e}"), ExitCode::Usage);
    }
    let report = match Report::from_json(&bytes) {
        Ok(report) => report,
        Err(e) => return output::error(e, ExitCode::Evidence),
    };
    if json {
        return copy(&bytes[..], false);
    }
    let dir = directory(&args.evidence);
    output::line(terminal::summary(&report, Some(&dir.display().to_string())).trim_end());
    ExitCode::Pass
}

/// Shows the patch.
pub(super) fn diff(args: &DiffArgs) -> ExitCode {
    show(&args.evidence, PATCH)
}

/// Shows raw logs.
pub(super) fn logs(args: &LogsArgs) -> ExitCode {
    match args.stream.as_deref() {
        Some("stdout") => show(&args.evidence, STDOUT),
        Some("stderr") => show(&args.evidence, STDERR),
        Some("test") => show(&args.evidence, TEST_LOG),
        Some(_) => show(&args.evidence, crate::run::REVIEW_LOG),
        None => match show(&args.evidence, STDOUT) {
            ExitCode::Pass => show(&args.evidence, STDERR),
            code => code,
        },
    }
}

fn show(evidence: &Path, name: &str) -> ExitCode {
    match open(evidence, name, MAX_SHOWN) {
        Ok(file) => copy(file, std::io::stdout().is_terminal()),
        Err(code) => code,
    }
}

/// To standard output: escaped line by line, or byte for byte.
fn copy(from: impl Read, escaped: bool) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let mut from = BufReader::new(from);
    let result = if escaped {
        let mut line = Vec::new();
        loop {
            line.clear();
            match from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) => break out.flush(),
                Ok(_) => {}
                Err(e) => break Err(e),
            }
            let whole = line.last() == Some(&b'\n');
            let text = terminal_bytes(line.strip_suffix(b"\n").unwrap_or(&line));
            if let Err(e) = write!(out, "{text}{}", if whole { "\n" } else { "" }) {
                break Err(e);
            }
        }
    } else {
        std::io::copy(&mut from, &mut out).and_then(|_| out.flush())
    };
    match result {
        Ok(()) => ExitCode::Pass,
        // Whoever read standard output has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::Pass,
        Err(e) => output::error(e, ExitCode::Usage),
    }
}
