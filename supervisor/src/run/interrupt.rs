//! SIGINT, SIGTERM and SIGHUP as the run sees them. The first asks to end; a second one takes the grace away from
//! whatever is still running in a sandbox; a third one ends Proctor itself, wherever it is. What a signal means for the
//! run is decided elsewhere.
//!
//! They are heard by a thread of their own: what the run's thread is at (a copy, a survey, a disk that hangs) must not
//! keep the last one from ending it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::{ExitCode, StopSignal};

/// Signals after which nothing more is waited for.
const LAST: u32 = 3;

/// Whether a signal has come: for work that does not wait, and so cannot be told.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// True once one has.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// As the standard library has it.
    pub fn as_bool(&self) -> &AtomicBool {
        &self.0
    }
}

/// Whether the third signal ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// It does: with the first one's exit code, and without a report.
    Exits,
    /// It does not: somebody has a terminal to put right.
    Waits,
}

/// The signals that end a run from outside.
pub(super) struct Interrupt {
    signals: mpsc::UnboundedReceiver<StopSignal>,
    first: Option<StopSignal>,
    flag: StopFlag,
}

impl Interrupt {
    /// Takes the signals over from now on; and SIGXFSZ (setrlimit(2), RLIMIT_FSIZE), which would kill the supervisor
    /// where it can still say that evidence could not be written: with a handler, write(2) fails with EFBIG instead.
    ///
    /// # Errors
    /// No handler could be installed, or no thread is to be had.
    pub(super) fn new(last: Last) -> io::Result<Self> {
        let flag = StopFlag::default();
        let seen = flag.clone();
        let (send, signals) = mpsc::unbounded_channel();
        let (ready, installed) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(hear(&send, &seen, last, &ready));
        })?;
        installed.recv().map_err(|_| io::Error::other("the thread that hears signals is gone"))??;
        Ok(Self { signals, first: None, flag })
    }

    /// What work that does not wait asks.
    pub(super) fn flag(&self) -> StopFlag {
        self.flag.clone()
    }

    /// Waits for the next one; says which came first. Cancel safe.
    pub(super) async fn next(&mut self) -> StopSignal {
        match self.signals.recv().await {
            Some(got) => *self.first.get_or_insert(got),
            // The thread ends with this value; without it there is nothing to wait for.
            None => std::future::pending().await,
        }
    }

    /// Whether one has come by now: to be asked between the steps that do not wait.
    pub(super) fn check(&mut self) -> Option<StopSignal> {
        if self.first.is_none() {
            self.first = self.signals.try_recv().ok();
        }
        self.first
    }
}

/// Hears signals until nobody wants to know.
async fn hear(
    send: &mpsc::UnboundedSender<StopSignal>,
    seen: &StopFlag,
    last: Last,
    ready: &std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    let install = || {
        // The handler stays when the stream of its signals goes.
        let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
        // nohup(1) asks for this one to mean nothing.
        let hangup =
            if is_ignored(SignalKind::hangup())? { None } else { Some(signal(SignalKind::hangup())?) };
        Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, hangup))
    };
    let (mut int, mut term, mut hangup) = match install() {
        Ok(streams) => streams,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(()));
    let mut first = None;
    let mut count = 0;
    loop {
        let got = tokio::select! {
            _ = int.recv() => StopSignal::Int,
            _ = term.recv() => StopSignal::Term,
            _ = async { match hangup.as_mut() { Some(h) => h.recv().await, None => std::future::pending().await } } => StopSignal::Term,
            () = send.closed() => return,
        };
        count += 1;
        let first = *first.get_or_insert(got);
        // Told before it is shown: whoever sees the flag finds the signal.
        let _ = send.send(got);
        seen.0.store(true, Ordering::Release);
        if count >= LAST && last == Last::Exits {
            leave(first);
        }
    }
}

/// Ends the process. Its sandboxes end with it, as they do when it is killed.
#[expect(clippy::exit, reason = "the thread that would return an exit code may be what hangs")]
fn leave(first: StopSignal) -> ! {
    let code = match first {
        StopSignal::Int => ExitCode::Interrupted,
        StopSignal::Term => ExitCode::Terminated,
    };
    std::process::exit(code.code().into())
}

/// Whether this process was started with the signal ignored (proc(5), `SigIgn`).
fn is_ignored(kind: SignalKind) -> io::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(ignored_in(&status, kind.as_raw_value()))
}

fn ignored_in(status: &str, number: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    (1..=64).contains(&number) && mask & (1 << (number - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_status() {
        let status = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert!(ignored_in(status, 1) && ignored_in(status, 13));
        assert!(!ignored_in(status, 2) && !ignored_in("", 1) && !ignored_in("SigIgn:\tx\n", 1));
    }

    #[test]
    fn the_thread_ends_with_the_value() {
        let interrupt = Interrupt::new(Last::Waits).unwrap();
        let named = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            tasks
                .filter(|task| {
                    std::fs::read_to_string(task.path().join("comm")).is_ok_and(|n| n == "signals\n")
                })
                .count()
        };
        let before = named();
        assert!(before >= 1);
        drop(interrupt);
        while named() >= before {
            std::thread::yield_now();
        }
    }
}
