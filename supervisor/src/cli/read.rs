//! `proctor report`, `proctor diff`, `proctor logs`: reading a run again. Evidence is hostile input: nothing is
//! opened through a link, and on a terminal everything is escaped.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::output;
use crate::evidence::open::Directory;
use crate::evidence::{MAX_REPORT, PATCH, REPORT, STDERR, STDOUT, TEST_LOG, is_run_id};
use crate::exit::ExitCode;
use crate::profile::HostEnv;
use crate::report::escape::terminal_bytes;
use crate::report::{Report, html, terminal};
use crate::run::state_dirs::StateDirs;

/// The largest artifact that is shown, in bytes.
const MAX_SHOWN: u64 = 64 << 30;
/// The longest line that is escaped at once, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// Options of `report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  proctor report r-20260601T120000-k3x7qa\n  proctor report evidence/ --html report.html"
)]
pub(super) struct ReportArgs {
    /// An evidence directory, or the id of a run whose evidence is in the usual place
    evidence: PathBuf,
    /// The report as one page for browsers, to this new file or else to standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    html: Option<Option<PathBuf>>,
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

/// Shows the report: a summary for people, the document itself with `--json`, a page with `--html`.
pub(super) fn report(args: &ReportArgs, json: bool) -> ExitCode {
    if json && args.html.is_some() {
        return output::error(
            "--json and --html are two forms of one report; give one of them",
            ExitCode::Usage,
        );
    }
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
        // It was read as JSON: it is UTF-8, and ends with one line feed.
        output::json_text(String::from_utf8_lossy(&bytes).trim_end_matches('\n'));
        return ExitCode::Pass;
    }
    let dir = directory(&args.evidence);
    if let Some(to) = &args.html {
        return page(&report, &dir, to.as_deref());
    }
    output::line(terminal::summary(&report, Some(&dir.display().to_string())).trim_end());
    ExitCode::Pass
}

/// The page, to a file that is not there yet or to standard output. It holds no character that steers a terminal.
fn page(report: &Report, evidence: &Path, to: Option<&Path>) -> ExitCode {
    let page = match Directory::open(evidence) {
        Ok(dir) => html::render(report, &dir),
        Err(why) => {
            let text = format_args!("evidence directory {} {why}", evidence.display());
            return output::error(text, ExitCode::Usage);
        }
    };
    let Some(file) = to else {
        return copy(page.as_bytes(), false);
    };
    let written = OpenOptions::new().write(true).create_new(true).open(file).and_then(|mut made| {
        made.write_all(page.as_bytes()).inspect_err(|_| {
            // Half a page is none, and would be in the way of the next one. The first error is what matters.
            let _ = std::fs::remove_file(file);
        })
    });
    match written {
        Ok(()) => {
            output::note(format_args!("wrote {}", file.display()));
            ExitCode::Pass
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => output::error(
            format_args!(
                "--html {}: it is there already, and nothing is written over; name a new file",
                file.display()
            ),
            ExitCode::Usage,
        ),
        Err(e) => output::error(
            format_args!(
                "--html {}: {e}; name a new file in a directory that you may write to",
                file.display()
            ),
            ExitCode::Usage,
        ),
    }
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
