//! SIGINT, SIGTERM and SIGHUP as the run sees them. The first asks to end; a second one takes the grace away from
//! whatever is still running in a sandbox; a third one ends Proctor itself, wherever it is. Once there is nothing left to
//! end, the next one ends Proctor. What a signal means for the run is decided elsewhere.
//!
//! They are heard by a thread of their own, to the end of the process: what the run's thread is at (a copy, a survey, a
//! disk that hangs, a reader that does not read) must not keep the last one from ending it, and handlers that nobody
//! listens behind would make Proctor immune.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::{ExitCode, StopSignal};

/// Signals after which nothing more is waited for.
pub(crate) const LAST: usize = 3;

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

/// What is put right before the process ends by a signal: somebody's terminal.
pub(super) type PutRight = Box<dyn Fn() + Send>;

/// What the listening thread must know of the run.
#[derive(Debug, Default)]
struct Shared {
    /// Nobody asks for signals any more.
    over: AtomicBool,
    /// What the run came to, once that stands. Whoever ends the process by a signal takes it and keeps it.
    settled: Mutex<Option<ExitCode>>,
}

impl Shared {
    fn settled(&self) -> MutexGuard<'_, Option<ExitCode>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as it is there no signal ends the process: what is put in place meanwhile and the exit code are one.
pub(super) struct Settling<'a>(MutexGuard<'a, Option<ExitCode>>);

impl Settling<'_> {
    /// The run has come to its end: this is the exit code, whatever signals come.
    pub(super) fn at(mut self, code: ExitCode) {
        *self.0 = Some(code);
    }
}

/// The signals that end a run from outside. When this value goes, the next one ends the process.
pub(super) struct Interrupt {
    signals: mpsc::UnboundedReceiver<StopSignal>,
    first: Option<StopSignal>,
    flag: StopFlag,
    shared: Arc<Shared>,
}

impl Interrupt {
    /// Takes the signals over from now on; and SIGXFSZ (setrlimit(2), RLIMIT_FSIZE), which would kill the supervisor
    /// where it can still say that evidence could not be written: with a handler, write(2) fails with EFBIG instead.
    /// `put_right` is done before the process ends by a signal.
    ///
    /// # Errors
    /// No handler could be installed, or no thread is to be had.
    pub(super) fn new(put_right: PutRight) -> io::Result<Self> {
        let flag = StopFlag::default();
        let seen = flag.clone();
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        let (send, signals) = mpsc::unbounded_channel();
        let (ready, installed) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(hear(&send, &seen, &told, &ready, &put_right));
        })?;
        installed.recv().map_err(|_| io::Error::other("the thread that hears signals is gone"))??;
        Ok(Self { signals, first: None, flag, shared })
    }

    /// The report is to be put in place now. Waits for ever where a signal ends the process just now.
    pub(super) fn settling(&self) -> Settling<'_> {
        Settling(self.shared.settled())
    }

    /// What work that does not wait asks.
    pub(super) fn flag(&self) -> StopFlag {
        self.flag.clone()
    }

    /// Waits for the next one; says which came first. Cancel safe.
    pub(super) async fn next(&mut self) -> StopSignal {
        match self.signals.recv().await {
            Some(got) => *self.first.get_or_insert(got),
            // The thread is gone; without it there is nothing to wait for.
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

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
    }
}

/// Hears signals for ever.
async fn hear(
    send: &mpsc::UnboundedSender<StopSignal>,
    seen: &StopFlag,
    shared: &Shared,
    ready: &std::sync::mpsc::SyncSender<io::Result<()>>,
    put_right: &PutRight,
) {
    let install = || {
        // The handler stays when the stream of its signals goes.
        let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
        Signals::new()
    };
    let mut signals = match install() {
        Ok(signals) => signals,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(()));
    let mut first = None;
    let mut count = 0;
    loop {
        let got = signals.next().await;
        count += 1;
        let first = *first.get_or_insert(got);
        // Told before it is shown: whoever sees the flag finds the signal.
        let _ = send.send(got);
        seen.0.store(true, Ordering::Release);
        if count >= LAST || shared.over.load(Ordering::Acquire) {
            // Kept to the end: no report is put in place any more.
            let settled = shared.settled();
            put_right();
            leave(settled.unwrap_or_else(|| ExitCode::of_signal(first)));
        }
    }
}

/// The signals that ask to end, with handlers in place.
pub(crate) struct Signals {
    int: Signal,
    term: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Installs the handlers. Within a runtime that does I/O.
    ///
    /// # Errors
    /// One cannot be installed.
    pub(crate) fn new() -> io::Result<Self> {
        // nohup(1) asks for this one to mean nothing.
        let hangup =
            if is_ignored(SignalKind::hangup())? { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { int: signal(SignalKind::interrupt())?, term: signal(SignalKind::terminate())?, hangup })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> StopSignal {
        let hangup = &mut self.hangup;
        tokio::select! {
            _ = self.int.recv() => StopSignal::Int,
            _ = self.term.recv() => StopSignal::Term,
            _ = async { match hangup.as_mut() { Some(h) => h.recv().await, None => std::future::pending().await } } => StopSignal::Term,
        }
    }
}

/// Ends the process. Its sandboxes end with it, as they do when it is killed.
#[expect(clippy::exit, reason = "the thread that would return an exit code may be what hangs")]
pub(crate) fn leave(code: ExitCode) -> ! {
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
}
