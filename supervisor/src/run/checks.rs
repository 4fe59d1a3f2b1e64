//! Test command and reviewer: each in a fresh sandbox over base and patch, with nothing of the backend's.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use proctor_sandbox::seed::Seed;
use rustix::fs::{MemfdFlags, SealFlags};
use tokio::sync::mpsc;

use super::backend::Needs;
use super::interrupt::Interrupt;
use super::sandbox::{self, StartError, Started, Wanted};
use super::supervise::{self, Finish, Stop, Times, supervise};
use super::view;
use super::watch::Watched;
use crate::capture::{Capture, output_pipe};
use crate::evidence::testlog::{self, TestEnd};
use crate::evidence::{EvidenceDir, REVIEW_LOG};
use crate::profile::CheckSandbox;

/// Longest line that a reviewer may write to descriptor 3.
const MAX_WORD: u64 = 4096;

/// How a check went.
pub(super) struct CheckRun {
    /// Its sandbox, dead; `None` where it could not be started.
    pub started: Option<Started>,
    /// How it ended, or why it did not run.
    pub finish: Result<Finish, String>,
    /// True where its output was more than the log takes.
    pub over_cap: bool,
    /// Bytes of output in the log.
    pub output: u64,
    /// What a reviewer wrote to descriptor 3.
    pub word: Vec<u8>,
    /// What was seen of it from below; `None` where nobody watched.
    pub watched: Option<Result<Watched, String>>,
    /// A signal came before it was started.
    pub interrupted: bool,
}

impl CheckRun {
    /// A check that did not run.
    pub(super) fn failed(why: String) -> Self {
        Self {
            started: None,
            finish: Err(why),
            over_cap: false,
            output: 0,
            word: Vec::new(),
            watched: None,
            interrupted: false,
        }
    }

    /// Exit code and signal of its main process.
    pub(super) fn ended(&self) -> (Option<i32>, Option<i32>) {
        self.finish.as_ref().map_or((None, None), |f| (f.ended.code, f.ended.signal))
    }

    /// From start to end, in milliseconds.
    pub(super) fn duration_ms(&self) -> u64 {
        self.finish.as_ref().map_or(0, |f| f.took.as_millis() as u64)
    }
}

/// What is run.
pub(super) struct Check<'a> {
    /// `test` or `review`.
    pub role: &'static str,
    /// For `sh -c`.
    pub command: &'a str,
    /// Its own sandbox.
    pub own: &'a CheckSandbox,
    /// Mounts, ready.
    pub mounts: &'a [proctor_sandbox::spec::Mount],
    /// Base to result.
    pub seed: Seed,
    /// The patch, for a reviewer.
    pub patch: Option<(&'a [u8], &'a str)>,
    /// Wall time.
    pub timeout: Duration,
}

/// Runs a check to its end. Its log is an artifact whatever happens.
pub(super) async fn run(needs: &Needs<'_>, check: Check<'_>, interrupt: &mut Interrupt) -> CheckRun {
    match try_run(needs, check, interrupt).await {
        Ok(run) => run,
        Err(why) => CheckRun::failed(why),
    }
}

/// Writes the test log of a run whose tests did not run.
pub(super) fn test_log_without_run(evidence: &EvidenceDir, run_id: &str, command: Option<&str>, note: &str) {
    let mut bytes = testlog::header(run_id, command);
    let end = TestEnd { output_bytes: 0, exit_code: None, signal: None, note: Some(note.to_owned()) };
    bytes.extend(testlog::trailer(&end, false));
    // Remembered by the directory where it fails.
    let _ = evidence.write_whole(crate::evidence::TEST_LOG, &bytes);
}

async fn try_run(needs: &Needs<'_>, check: Check<'_>, interrupt: &mut Interrupt) -> Result<CheckRun, String> {
    let options = &needs.plan.resolved.options;
    let is_test = check.role == "test";
    let log_name = if is_test { crate::evidence::TEST_LOG } else { REVIEW_LOG };
    let text = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    let (read, write) = output_pipe().map_err(text("a pipe"))?;
    let raw = needs.evidence.create_raw(log_name).map_err(|e| e.to_string())?;
    let head = if is_test { testlog::header(needs.run_id, Some(check.command)) } else { Vec::new() };
    let (over_send, over) = mpsc::unbounded_channel();
    let capture = Capture::start(read, raw, &head, options.limits.max_log, move || {
        let _ = over_send.send(log_name.to_owned());
    })
    .map_err(text("a capture thread"))?;

    let mut stdio: Vec<OwnedFd> = Vec::new();
    stdio.push(match check.patch {
        Some((patch, _)) => sealed(patch).map_err(text("the patch for the reviewer"))?,
        None => File::open("/dev/null").map_err(text("/dev/null"))?.into(),
    });
    stdio.push(write.try_clone().map_err(text("a descriptor"))?);
    stdio.push(write);
    let mut also = Vec::new();
    let mut word_pipe = None;
    if let Some((_, digest)) = check.patch {
        also.push(("PROCTOR_PATCH_SHA256".to_owned(), digest.to_owned()));
        let (word_read, word_write) = output_pipe().map_err(text("a pipe"))?;
        stdio.push(word_write);
        word_pipe = Some(word_read);
    }
    let wanted = Wanted {
        role: check.role,
        argv: ["sh", "-c", check.command].map(OsString::from).into(),
        env: view::environment(&[&check.own.env], &also),
        mounts: check.mounts.to_vec(),
        files: Vec::new(),
        net: check.own.net,
        writable: is_test,
        hidden: needs.hidden.clone(),
        tree_seed: check.seed,
        stdio,
        level: needs.level.level,
        terminal: false,
        stop: interrupt.flag(),
    };
    let mut started = match sandbox::start(needs.launcher, needs.plan, needs.run_id, needs.memory, wanted) {
        Ok(started) => started,
        Err(error) => {
            let interrupted = matches!(error, StartError::Interrupted);
            let why = match error {
                StartError::Program(e) => format!("the shell could not be started: {e}"),
                e => format!("its sandbox could not be started: {e}"),
            };
            finish_log(needs.evidence, log_name, capture, is_test, None, Some(why.clone()));
            return Ok(CheckRun { interrupted, ..CheckRun::failed(why) });
        }
    };
    let watched = supervise::Watched {
        running: Arc::clone(&started.running),
        progress: vec![capture.progress()],
        over,
        asks: None,
        memory: started.watch_memory,
        disk: started.disk_watch.clone(),
    };
    let times = Times { wall: check.timeout, idle: None, grace: options.timeouts.grace };
    let finish = supervise(watched, times, interrupt, needs.ui.as_ref()).await.map_err(|e| e.to_string());
    if finish.is_err() {
        started.running.kill();
    }
    let seen = started.watch.take().map(|watch| watch.finish());
    let note = match &finish {
        Ok(Finish { stop: Some(stop), .. }) => Some(format!("stopped by Proctor: {}", stop_word(stop))),
        Ok(_) => None,
        Err(why) => Some(why.clone()),
    };
    let (over_cap, output) =
        finish_log(needs.evidence, log_name, capture, is_test, finish.as_ref().ok(), note);
    let word = word_pipe.map(read_word).unwrap_or_default();
    Ok(CheckRun { started: Some(started), finish, over_cap, output, word, watched: seen, interrupted: false })
}

fn stop_word(stop: &Stop) -> &'static str {
    match stop {
        Stop::Wall => "its time ran out",
        Stop::Idle => "it was idle for too long",
        Stop::OverCap(_) => "its output was more than the log takes",
        Stop::Requests => "it asked for approval",
        Stop::Memory(_) => "it used more memory than allowed",
        Stop::Disk => "it wrote more to disk than allowed",
        Stop::Interrupted(_) => "the run was interrupted",
    }
}

fn finish_log(
    evidence: &EvidenceDir,
    name: &str,
    capture: Capture,
    framed: bool,
    finish: Option<&Finish>,
    note: Option<String>,
) -> (bool, u64) {
    let mut output = 0;
    let end = capture.finish_framed(|bytes, newline| {
        output = bytes;
        if !framed {
            return Vec::new();
        }
        let end = TestEnd {
            output_bytes: bytes,
            exit_code: finish.and_then(|f| f.ended.code),
            signal: finish.and_then(|f| f.ended.signal),
            note,
        };
        testlog::trailer(&end, !newline)
    });
    match &end.error {
        Some(error) => evidence.fail_write(name, error),
        // Remembered by the directory where it fails.
        None => drop(evidence.adopt(name, &end.sha256, end.size)),
    }
    (end.beyond_cap > 0, output)
}

/// What is left in the pipe, at most a line's worth; every writer is dead.
fn read_word(pipe: OwnedFd) -> Vec<u8> {
    let mut word = Vec::new();
    // The pipe is non-blocking: where somebody outside still held it open, this ends all the same.
    let _ = File::from(pipe).take(MAX_WORD).read_to_end(&mut word);
    word
}

/// Bytes as a descriptor that nobody can change any more (memfd_create(2), F_SEAL_WRITE).
fn sealed(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("patch", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// Whether a reviewer's word accepts the patch with this digest: the one line `accept SHA256`.
pub(super) fn accepts(word: &[u8], sha256: &str) -> bool {
    word.strip_suffix(b"\n").unwrap_or(word) == format!("accept {sha256}").as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_word_accepts() {
        assert!(accepts(b"accept abc\n", "abc"));
        assert!(accepts(b"accept abc", "abc"));
        for word in [
            &b""[..],
            b"accept",
            b"accept abd\n",
            b"accept abc\nreject\n",
            b" accept abc",
            b"reject\naccept abc",
        ] {
            assert!(!accepts(word, "abc"), "{word:?}");
        }
    }

    #[test]
    fn a_sealed_patch_cannot_be_written() {
        let fd = sealed(b"diff").unwrap();
        let mut file = File::from(fd);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "diff");
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
    }
}
