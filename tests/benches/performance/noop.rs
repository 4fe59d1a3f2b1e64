//! The no-op run: everything that Proctor does about a backend that does nothing.

use std::path::{Path, PathBuf};

use harness::TestRepo;
use serde_json::Value;

use crate::stats::{Subject, interleaved};
use crate::{Bench, Result};

/// Arguments of the run that is measured.
pub(crate) const RUN: [&str; 6] = ["run", "--mutation", "discard", "--no-test", "--", "true"];

/// bubblewrap with every namespace and a view of its own; the same with one bind mount alone.
pub(crate) fn bwrap(bench: &Bench<'_>, dir: &Path, mounts: bool) -> std::process::Command {
    let mut command = bench.command("bwrap", dir);
    command.args(["--unshare-all", "--ro-bind", "/", "/"]);
    if mounts {
        command.args(["--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]);
    }
    command.arg("true");
    command
}

/// A committed tree of `count` small files, a hundred in a directory, an hour old for git's index.
pub(crate) fn tree(bench: &Bench<'_>, name: &str, count: usize) -> Result<PathBuf> {
    let repo = TestRepo::new(bench.world, name, &[("README", "a tree to measure by\n")]);
    // Git would pack many loose objects behind the measurements' back.
    repo.git(&["config", "gc.auto", "0"]);
    repo.git(&["config", "maintenance.auto", "false"]);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for number in 1..count {
        let dir = repo.path().join(format!("d{:04}", number / 100));
        if number % 100 == 0 || number == 1 {
            std::fs::create_dir_all(&dir)?;
        }
        let file = std::fs::File::create(dir.join(format!("f{:02}.txt", number % 100)))?;
        std::io::Write::write_all(&mut &file, format!("file {number} of a tree to measure by\n").as_bytes())?;
        file.set_modified(old)?;
    }
    repo.commit("files");
    repo.git(&["status", "--porcelain"]);
    Ok(repo.path().to_owned())
}

/// The run, its parts that can be told apart from outside, and what it is measured by.
pub(crate) fn run(bench: &Bench<'_>) -> Result<Value> {
    let repo = tree(bench, "thousand", 1000)?;
    // Evidence is not removed between rounds: ext4 is slow to give inodes anew that were deleted in the last seconds.
    let mut on_disk = bench.command(bench.proctor, &repo);
    on_disk.args(RUN);
    let memory = tempfile::Builder::new().prefix("proctor-bench-").tempdir_in("/dev/shm")?;
    let mut in_memory = bench.command(bench.proctor, &repo);
    in_memory.args(RUN).env("XDG_STATE_HOME", memory.path());
    let mut version = bench.command(bench.proctor, &repo);
    version.arg("--version");
    interleaved(
        "no-op run on 1,000 files",
        1,
        bench.rounds,
        vec![
            Subject::command("true", bench.command("true", &repo)),
            Subject::command("bwrap, all namespaces, tmp proc dev", bwrap(bench, &repo, true)),
            Subject::command("bwrap, all namespaces, one bind", bwrap(bench, &repo, false)),
            Subject::command("proctor --version", version),
            Subject::command("proctor run, evidence on disk, fsynced", on_disk),
            Subject::command("proctor run, evidence in memory", in_memory),
        ],
    )
}
