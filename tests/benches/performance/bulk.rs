//! What grows with its input: output, files, evidence.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use proctor::capture::{Capture, output_pipe};
use proctor::changes::globs::GlobList;
use proctor::changes::repo::Repo;
use proctor::changes::survey::survey as look;
use serde_json::{Value, json};

use crate::stats::{Subject, interleaved};
use crate::{Bench, Result, noop};

/// Rounds of what takes seconds.
const FEW: usize = 5;

/// A file of text lines that compress badly enough not to be a special case, `size` bytes.
fn text(path: PathBuf, size: u64) -> Result<PathBuf> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
    let (mut written, mut number) = (0, 0u64);
    while written < size {
        number += 1;
        let line = format!(
            "{number:012} {:016x} {:016x}\n",
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            number << 7
        );
        let part = line.len().min((size - written) as usize);
        out.write_all(&line.as_bytes()[..part])?;
        written += part as u64;
    }
    out.into_inner()?.sync_all()?;
    Ok(path)
}

/// Output of 1 GiB: through a capture alone, and through a whole run, against a digest of the same bytes.
pub(crate) fn capture(bench: &Bench<'_>) -> Result<Value> {
    const SIZE: u64 = 1 << 30;
    let dir = bench.world.path("");
    let input = text(bench.world.path("gigabyte"), SIZE)?;
    let repo = noop::tree(bench, "capture", 10)?;
    let mut openssl = bench.command("openssl", &dir);
    openssl.args(["dgst", "-sha256"]).arg(&input);
    let mut sha256sum = bench.command("sha256sum", &dir);
    sha256sum.arg(&input);
    let mut cat = bench.command("cat", &dir);
    cat.arg(&input);
    let log = bench.world.path("log");
    let alone = || {
        let (read, write) = output_pipe()?;
        let start = Instant::now();
        let mut writer = cat.stdout(Stdio::from(write)).spawn()?;
        // The command keeps its copy of the pipe's end until it is given another.
        cat.stdout(Stdio::null());
        let capture = Capture::start(read, File::create(&log)?, b"", u64::MAX, || {})?;
        writer.wait()?;
        let end = capture.finish();
        let took = start.elapsed();
        if end.size == SIZE && end.error.is_none() { Ok(took) } else { Err(format!("{end:?}").into()) }
    };
    let evidence = bench.world.path("evidence");
    let whole = || {
        // Without line feeds: as text it would pass the event log's own limit, and the run would be no pass.
        let mut run = recorded(bench, &repo, &evidence, "2G");
        run.args(["--", "head", "-c", &SIZE.to_string(), "/dev/zero"]);
        let start = Instant::now();
        let status = run.status()?;
        let took = start.elapsed();
        let size = evidence.join("backend.stdout.log").metadata()?.len();
        std::fs::remove_dir_all(&evidence)?;
        if status.success() && size == SIZE {
            Ok(took)
        } else {
            Err(format!("{status}, {size} bytes").into())
        }
    };
    let subjects = vec![
        Subject::command("openssl dgst -sha256", openssl),
        Subject::command("sha256sum", sha256sum),
        Subject::new("capture alone: pipe, hash, write", alone),
        Subject::new("proctor run -- head, one line, fsynced", whole),
    ];
    let table = interleaved("1 GiB of output", 0, FEW, subjects)?;
    std::fs::remove_file(&input)?;
    std::fs::remove_file(&log)?;
    Ok(table)
}

/// The survey of clean trees against `git status` with a refreshed index.
pub(crate) fn survey(bench: &Bench<'_>) -> Result<Value> {
    let mut tables = Vec::new();
    for (name, count) in [("s1k", 1_000), ("s10k", 10_000), ("s100k", 100_000)] {
        let repo = noop::tree(bench, name, count)?;
        let hide = GlobList::new(&[".env*".to_owned()])?;
        let mut status = bench.command("git", &repo);
        status.args(["--no-optional-locks", "status", "--porcelain"]).env("GIT_CONFIG_NOSYSTEM", "1");
        let own = || {
            let start = Instant::now();
            let found = look(&Repo::open(&repo)?, &hide)?;
            let took = start.elapsed();
            if found.is_clean() { Ok(took) } else { Err(format!("{} dirty", found.dirty_count).into()) }
        };
        let subjects = vec![Subject::command("git status", status), Subject::new("survey (in process)", own)];
        let rounds = bench.rounds.min(if count > 10_000 { 10 } else { 30 });
        tables.push(interleaved(&format!("clean tree of {count} files"), 0, rounds, subjects)?);
        std::fs::remove_dir_all(&repo)?;
    }
    Ok(json!({ "group": "survey", "tables": tables }))
}

/// A run that leaves its evidence in `evidence`; its command is still to come.
fn recorded(bench: &Bench<'_>, repo: &Path, evidence: &Path, max_log: &str) -> Command {
    let mut run = bench.command(bench.proctor, repo);
    run.args(["run", "--mutation", "discard", "--no-test", "--max-log", max_log, "--evidence"]).arg(evidence);
    run
}

/// `proctor verify` of runs with much output against digests of the same files: one long line, whose log is all there
/// is, and text, which stands once more in the events.
pub(crate) fn verify(bench: &Bench<'_>) -> Result<Value> {
    let repo = noop::tree(bench, "verify", 10)?;
    let input = text(bench.world.path("lines"), 128 << 20)?;
    let mut tables = Vec::new();
    for (name, lines) in [("256 MiB in one line", false), ("128 MiB of text", true)] {
        let evidence = bench.world.path(name.replace(' ', "-"));
        let mut run = recorded(bench, &repo, &evidence, "300M");
        match lines {
            true => run.arg("--ro").arg(&input).args(["--", "cat"]).arg(&input),
            false => run.args(["--", "head", "-c", "256M", "/dev/zero"]),
        };
        let status = run.status()?;
        if !status.success() {
            return Err(format!("{run:?}: {status}").into());
        }
        let files = ["backend.stdout.log", "events.normalized.jsonl"].map(|name| evidence.join(name));
        let digest = |program: &str, args: &[&str]| {
            let mut command = bench.command(program, Path::new("/"));
            command.args(args).args(&files);
            Subject::command(format!("{program} of log and events"), command)
        };
        let mut check = bench.command(bench.proctor, &repo);
        check.arg("verify").arg(&evidence);
        let subjects = vec![
            digest("sha256sum", &[]),
            digest("openssl", &["dgst", "-sha256"]),
            Subject::command("proctor verify", check),
        ];
        tables.push(interleaved(&format!("evidence with {name}"), 0, FEW, subjects)?);
        std::fs::remove_dir_all(&evidence)?;
    }
    Ok(json!({ "group": "verify", "tables": tables }))
}
