//! Watching one sandbox from its start to the death of its last process: wall and idle time, caps, signals, requests
//! for approval. It decides when to stop; what that means for the run is decided elsewhere.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proctor_sandbox::error::LaunchError;
use proctor_sandbox::running::{Ended, Running};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant as TokioInstant, sleep_until};

use super::disk_watch::DiskWatch;
use super::interrupt::Interrupt;
use super::looks::{self, Over, Peaks, Watcher};
use super::progress::Ui;
use crate::capture::Progress;
use crate::exit::StopSignal;

/// Between two looks at the idle time.
const TICK: Duration = Duration::from_millis(250);

/// Requests for approval by one backend; one that makes more is stopped.
pub(super) const MAX_REQUESTS: usize = 100;

/// Times for one sandbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From start to end.
    pub wall: Duration,
    /// Without a byte of output; `None` is no limit.
    pub idle: Option<Duration>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// Why a sandbox was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The wall time ran out.
    Wall,
    /// The idle time ran out.
    Idle,
    /// It wrote more than a log may hold.
    OverCap(String),
    /// It asked for approval more often than anybody would answer.
    Requests,
    /// Its processes together were larger than the limit: so many bytes, as the watcher saw it.
    Memory(u64),
    /// What it wrote to disk was larger than the limit, as the watcher saw it.
    Disk,
    /// The run was interrupted.
    Interrupted(StopSignal),
}

/// How it went.
#[derive(Debug)]
pub(super) struct Finish {
    /// How the main process ended.
    pub ended: Ended,
    /// Why it was stopped, where it was.
    pub stop: Option<Stop>,
    /// From start to the death of the last process.
    pub took: Duration,
    /// Requests that were seen and not settled when it ended.
    pub unanswered: Vec<Ask>,
    /// The most of what the kernel keeps no counter of, as it was seen.
    pub peaks: Peaks,
}

/// A request by the backend.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// Its id.
    pub id: String,
    /// What about.
    pub subject: String,
}

/// A request on its way to an answer.
pub(super) type Settling<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Settles requests while the backend waits.
pub(super) trait Settle {
    /// Answers one request; what comes back is written to the backend.
    fn settle<'a>(&'a self, ask: Ask) -> Settling<'a>;
}

/// What is watched.
pub(super) struct Watched<'a> {
    /// The sandbox.
    pub running: Arc<Running>,
    /// Its captures.
    pub progress: Vec<Arc<Progress>>,
    /// Names of logs that are over their cap.
    pub over: mpsc::UnboundedReceiver<String>,
    /// Requests for approval, and who settles them.
    pub asks: Option<(&'a mut mpsc::UnboundedReceiver<Ask>, &'a dyn Settle)>,
    /// Bytes of memory to watch where nothing enforces them.
    pub memory: Option<u64>,
    /// What it writes to disk, where nothing limits it.
    pub disk: Option<Arc<DiskWatch>>,
}

/// Waits for the end, stopping it where a limit says so.
///
/// # Errors
/// The end cannot be waited for; every process is dead all the same.
pub(super) async fn supervise(
    mut watched: Watched<'_>,
    times: Times,
    interrupt: &mut Interrupt,
    ui: &dyn Ui,
) -> Result<Finish, LaunchError> {
    let started = Instant::now();
    let (send, mut ended) = oneshot::channel();
    let waiter = Arc::clone(&watched.running);
    std::thread::Builder::new()
        .name("wait".into())
        .spawn(move || {
            let _ = send.send(waiter.wait());
        })
        .map_err(|e| LaunchError::Launcher(format!("no thread to wait with: {e}")))?;

    let (tell, mut too_large) = mpsc::unbounded_channel();
    let wanted = looks::Wanted { memory: watched.memory, disk: watched.disk.clone() };
    let watcher = Watcher::start(Arc::clone(&watched.running), wanted, tell)
        .map_err(|e| LaunchError::Launcher(format!("no thread to watch with: {e}")))?;
    let wall = TokioInstant::from_std(started + times.wall);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop: Option<Stop> = None;
    let mut kill_at: Option<TokioInstant> = None;
    let mut waiting: VecDeque<Ask> = VecDeque::new();
    let mut settling: Option<(Ask, Settling<'_>)> = None;
    let mut asked = 0usize;
    let mut signals = 0u32;
    // Time that the backend spent waiting for an answer is no idle time.
    let mut last_answer = started;
    let (mut asks, settler) = match watched.asks.take() {
        Some((asks, settler)) => (Some(asks), Some(settler)),
        None => (None, None),
    };
    loop {
        if settling.is_none()
            && let (Some(ask), Some(settler)) = (waiting.pop_front(), settler)
        {
            settling = Some((ask.clone(), settler.settle(ask)));
        }
        let mut request = None;
        tokio::select! {
            biased;
            end = &mut ended => {
                let ended = end.map_err(|_| LaunchError::Launcher("the waiting thread is gone".into()))??;
                let unanswered = settling.take().map(|(ask, _)| ask).into_iter().chain(waiting).collect();
                let took = started.elapsed();
                let peaks = watcher
                    .end()
                    .ok_or_else(|| LaunchError::Launcher("the watching thread panicked".into()))?;
                return Ok(Finish { ended, stop, took, unanswered, peaks });
            }
            signal = interrupt.next() => {
                signals += 1;
                if signals > 1 {
                    watched.running.kill();
                } else {
                    ui.say(&format!(
                        "{}: what runs in the sandbox is asked to end, and is killed after {:?}; a second signal kills it at once, a third ends Proctor without a report",
                        signal.name(),
                        times.grace,
                    ));
                    request = Some(Stop::Interrupted(signal));
                }
            }
            Some(over) = too_large.recv() => request = Some(match over {
                Over::Memory(seen) => Stop::Memory(seen),
                Over::Disk => Stop::Disk,
            }),
            Some(name) = watched.over.recv() => request = Some(Stop::OverCap(name)),
            () = sleep_until(wall), if stop.is_none() => request = Some(Stop::Wall),
            () = sleep_until(kill_at.unwrap_or(wall)), if kill_at.is_some() => {
                watched.running.kill();
                kill_at = None;
            }
            () = async { if let Some((_, s)) = settling.as_mut() { s.await } }, if settling.is_some() => {
                settling = None;
                last_answer = Instant::now();
            }
            Some(ask) = async { match asks.as_mut() { Some(a) => a.recv().await, None => None } }, if asks.is_some() => {
                asked += 1;
                if asked > MAX_REQUESTS {
                    request = Some(Stop::Requests);
                }
                waiting.push_back(ask);
            }
            _ = tick.tick() => {
                ui.bytes(watched.progress.iter().map(|p| p.written()).sum());
                let quiet_since = watched.progress.iter().map(|p| p.last_byte()).max().unwrap_or(started).max(last_answer);
                let is_idle = times.idle.is_some_and(|idle| quiet_since.elapsed() >= idle);
                if stop.is_none() && settling.is_none() && is_idle {
                    request = Some(Stop::Idle);
                }
            }
        }
        let Some(why) = request else { continue };
        // What floods, or eats memory or disk, gets no grace: it would go on meanwhile.
        let greedy = matches!(why, Stop::OverCap(_) | Stop::Memory(_) | Stop::Disk | Stop::Requests);
        if stop.is_some() {
            if greedy {
                watched.running.kill();
            }
            continue;
        }
        if greedy || times.grace.is_zero() {
            watched.running.kill();
        } else {
            watched.running.signal_all(TERM);
            kill_at = Some(TokioInstant::now() + times.grace);
        }
        stop = Some(why);
    }
}

/// SIGTERM.
const TERM: i32 = 15;
