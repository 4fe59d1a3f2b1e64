//! SIGINT, SIGTERM and SIGHUP as the run sees them: the first asks to end, a second one ends at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::StopSignal;

/// The signals that end a run from outside.
pub(super) struct Interrupt {
    int: Signal,
    term: Signal,
    hup: Signal,
    first: Option<StopSignal>,
}

impl Interrupt {
    /// Takes the signals over from now on; and SIGXFSZ (setrlimit(2), RLIMIT_FSIZE), which would kill the supervisor
    /// where it can still say that evidence could not be written: with a handler, write(2) fails with EFBIG instead.
    ///
    /// # Errors
    /// No handler could be installed.
    pub(super) fn new() -> io::Result<Self> {
        // The handler stays when the stream of its signals goes.
        let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
            first: None,
        })
    }

    /// Waits for the next one. Cancel safe.
    pub(super) async fn next(&mut self) -> StopSignal {
        let got = tokio::select! {
            _ = self.int.recv() => StopSignal::Int,
            _ = self.term.recv() => StopSignal::Term,
            _ = self.hup.recv() => StopSignal::Term,
        };
        *self.first.get_or_insert(got)
    }

    /// Whether one has come by now: to be asked between the steps that do not wait.
    pub(super) async fn check(&mut self) -> Option<StopSignal> {
        if self.first.is_none() {
            // The yield lets the runtime look at its signal pipe.
            tokio::task::yield_now().await;
            tokio::select! {
                biased;
                _ = self.next() => {}
                () = std::future::ready(()) => {}
            }
        }
        self.first
    }
}
