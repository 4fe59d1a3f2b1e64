//! Watching one sandbox: a thread that answers its listener (sandbox's `notify`), sees executed programs end, and keeps
//! a bounded record of programs, refused calls, attempts to connect, and where the host's audit gives it what Landlock
//! refused. What the record says stands in `tell`.
//!
//! The thread answers whatever happens: what it cannot keep it counts. Where it ends before the sandbox does, the sandbox
//! is killed and the run is a defect: calls that nobody answers fail, and the evidence would not say so.

mod record;
pub(super) mod refused;
mod seen;
pub(super) mod tell;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use proctor_sandbox::notify::{Notifier, Served, exit_status, is_gone};
use proctor_sandbox::running::Running;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use record::{Main, Record};
use refused::{DOMAIN_GONE, Ear, Listening};
pub(super) use seen::{Denial, End, ProgramRun, Refusal, Target, Tried, Watched};

/// Between two looks at what nothing wakes the thread for.
const TICK: Duration = Duration::from_millis(250);
/// How long a dead sandbox may take to have told everything.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long the thread itself may then take to end.
const JOIN: Duration = Duration::from_secs(10);
/// How long a process that ended may stay unreaped before its status counts as not to be had.
const UNREAPED: Duration = Duration::from_secs(1);
/// The listener among what epoll(7) tells of; processes have other numbers.
const LISTENER: u64 = 0;
/// The host's audit likewise.
const AUDIT: u64 = u64::MAX;
/// Between two looks while a sandbox's last words are waited for.
const LAST_TICK: Duration = Duration::from_millis(20);

/// The thread that serves one sandbox's listener.
pub(super) struct Watch {
    ended: Arc<AtomicBool>,
    result: Receiver<Result<Watched, String>>,
}

/// Kills the sandbox where the thread ends before it may.
struct KillUnlessOver {
    running: Arc<Running>,
    over: bool,
}

impl Drop for KillUnlessOver {
    fn drop(&mut self) {
        if !self.over {
            self.running.kill();
        }
    }
}

impl Watch {
    /// Starts to serve.
    ///
    /// # Errors
    /// No thread to be had.
    pub(super) fn start(
        notifier: Notifier,
        running: Arc<Running>,
        argv: &[OsString],
        cwd: &Path,
        ear: Ear,
    ) -> std::io::Result<Self> {
        let argv = argv.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        let main = Main { argv, cwd: cwd.to_owned() };
        let ended = Arc::new(AtomicBool::new(false));
        let (send, result) = channel();
        let over = Arc::clone(&ended);
        std::thread::Builder::new().name("watch".into()).spawn(move || {
            let mut guard = KillUnlessOver { running, over: false };
            let watched = serve(notifier, main, ear, &over);
            guard.over = watched.is_ok();
            // Whoever started it may be gone.
            let _ = send.send(watched);
        })?;
        Ok(Self { ended, result })
    }

    /// What was seen, once every process of the sandbox is dead.
    ///
    /// # Errors
    /// The thread failed, or does not end: a defect, and no evidence of what happened inside.
    pub(super) fn finish(self) -> Result<Watched, String> {
        self.ended.store(true, Ordering::Release);
        self.result
            .recv_timeout(JOIN)
            .map_err(|_| "the thread that watches the sandbox is gone".to_owned())?
            .map_err(|e| format!("watching the sandbox failed: {e}"))
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

fn serve(mut notifier: Notifier, main: Main, ear: Ear, ended: &AtomicBool) -> Result<Watched, String> {
    let failed = |what: &'static str| move |e: Errno| format!("{what}: {e}");
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("epoll_create"))?;
    let data = epoll::EventData::new_u64(LISTENER);
    epoll::add(&epoll, notifier.listener(), data, epoll::EventFlags::IN).map_err(failed("epoll_ctl"))?;
    let mut record = Record::new(main, room());
    record.lost(notifier.lost());
    let mut audit = Listening::new(ear);
    let mut events = Vec::with_capacity(64);
    let mut swept = Instant::now();
    let mut last: Option<Instant> = None;
    let mut listening = true;
    let mut starting = true;
    loop {
        // What waited while the sandbox was built comes without the listener being readable.
        let early = notifier.waiting();
        if !early {
            if std::mem::take(&mut starting) {
                record.started();
                hear(&epoll, &mut audit, record.main());
            }
            let now = Instant::now();
            let tick = if last.is_some() { LAST_TICK } else { TICK };
            let wait = record.due().map_or(tick, |due| due.saturating_duration_since(now).min(tick));
            events.clear();
            match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timespec(wait))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(failed("epoll_wait")(e)),
            }
        }
        let asked = early || events.iter().any(|event| event.data.u64() == LISTENER);
        // One answer for each look at everything else: neither the askers nor the ended are ever left waiting.
        if asked && listening {
            match notifier.serve(Duration::ZERO).map_err(|e| format!("the listener: {e}"))? {
                Served::Report(report) => {
                    // Somebody else can only be there once the first program is.
                    let another = record.main().is_some_and(|main| main != report.pid);
                    if another && std::mem::take(&mut starting) {
                        record.started();
                        hear(&epoll, &mut audit, record.main());
                    }
                    if let Some((key, process)) = record.take(report)
                        && !observe(&epoll, key, &process)
                    {
                        record.unobserved(key);
                    }
                }
                Served::Nothing => {}
                Served::Over => {
                    listening = false;
                    epoll::delete(&epoll, notifier.listener()).map_err(failed("epoll_ctl"))?;
                }
            }
        }
        let now = Instant::now();
        for event in &events {
            let key = event.data.u64();
            if key == AUDIT {
                audit.listen(&mut record, now);
            } else if key != LISTENER {
                let flags = event.flags;
                let reaped = flags.contains(epoll::EventFlags::HUP);
                record.ended(key, now, reaped, exit_status);
            }
        }
        // While reports wait nobody knows which call a program is the outcome of.
        if !early {
            record.look(now);
        }
        if now.duration_since(swept) >= TICK {
            swept = now;
            record.sweep(now, UNREAPED, is_gone);
            audit.sweep(&mut record, now);
        }
        if !listening || ended.load(Ordering::Acquire) {
            let since = *last.get_or_insert(now);
            // Everybody is dead or about to be; the last ends arrive within a moment.
            let told = record.is_settled() || now.duration_since(since) >= LAST_WORDS;
            let heard = audit.is_over() || now.duration_since(since) >= DOMAIN_GONE;
            if told && heard && (ended.load(Ordering::Acquire) || !listening) {
                audit.finish(&mut record, now);
                return Ok(record.finish(now));
            }
        }
    }
}

/// Has the host's audit heard.
fn hear(epoll: &OwnedFd, audit: &mut Listening, main: Option<u32>) {
    let added = match audit.begin(main) {
        Some(socket) => epoll::add(epoll, socket, epoll::EventData::new_u64(AUDIT), epoll::EventFlags::IN),
        None => return,
    };
    if let Err(errno) = added {
        audit.give_up(format!("the kernel's audit cannot be waited for: {errno}"));
    }
}

/// Has the end of a process told: once when it ends, once when it is reaped.
fn observe(epoll: &OwnedFd, key: u64, process: &OwnedFd) -> bool {
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(epoll, process.as_fd(), epoll::EventData::new_u64(key), flags).is_ok()
}

/// How many processes can be kept open: descriptors are what the supervisor itself needs, too.
fn room() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 8192;
    let now = getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(WANTED);
    let soft = now.current.unwrap_or(WANTED);
    if soft < WANTED.min(hard) {
        // Where it stays as it is there is less room.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(WANTED.min(hard)), maximum: now.maximum });
    }
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(WANTED).min(WANTED);
    usize::try_from(soft / 2).unwrap_or(256)
}
