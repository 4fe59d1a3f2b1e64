//! An interactive program in the backend's sandbox, on a pseudo-terminal of its own: what `proctor shell` starts. Its
//! changes stay in the private layer and go with it; nothing is recorded and nothing is judged.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proctor_sandbox::launch::Launcher;
use proctor_sandbox::running::Ended;
use proctor_sandbox::seed::Seed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use tokio::signal::unix::{SignalKind, signal};

use super::hidden::masks;
use super::interrupt::{Interrupt, StopFlag};
use super::level;
use super::looks::{self, Over, Watcher};
use super::plan::{Plan, PlanError};
use super::sandbox::{self, StartError, Started, Wanted};
use super::view;
use crate::changes::survey::survey;
use crate::exit::StopSignal;
use crate::profile::{HostEnv, HostFacts, MutationMode, Resolved};
use crate::report::tty::TtyFilter;

/// How long output may come after everything that could write it is dead.
const LEFTOVER: Duration = Duration::from_millis(100);

/// Why there was no shell, or none to its end.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// Something that the caller must change.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Standard input is no terminal.
    #[error(
        "standard input is no terminal, and a shell is for somebody who types; use `proctor run` for commands"
    )]
    NoTerminal,
    /// The sandbox, or the program in it.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No level that is accepted is to be had.
    #[error("no sandbox is to be had here: {0}; see `proctor doctor`")]
    Unreached(String),
    /// Which paths are hidden cannot be told.
    #[error("what is to be hidden cannot be told: {0}")]
    Hidden(String),
    /// A pseudo-terminal, a thread, a signal handler.
    #[error("{0}")]
    Host(String),
}

/// How it ended.
#[derive(Debug)]
pub enum ShellEnd {
    /// By itself.
    Ended(Ended),
    /// A signal to Proctor ended it.
    Stopped(StopSignal),
    /// It was larger than it may be where nothing enforces that; says what.
    TooLarge(&'static str),
}

fn host<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> ShellError {
    move |e| ShellError::Host(format!("{what}: {e}"))
}

/// Runs `argv`, or the plan's own command where that is `None`, on a pseudo-terminal between this process's standard
/// input and `screen`. `started` is told, before the first byte, what of the sandbox is not in force.
///
/// # Errors
/// Nothing of the sandbox is alive, and the terminal is as it was.
pub fn shell(
    resolved: Resolved,
    env: &HostEnv,
    facts: &HostFacts,
    launcher: &Launcher,
    argv: Option<Vec<OsString>>,
    screen: Box<dyn Write + Send>,
    started: &mut dyn FnMut(&[String]),
) -> Result<ShellEnd, ShellError> {
    let stdin = std::io::stdin();
    let own = tcgetattr(&stdin).map_err(|_| ShellError::NoTerminal)?;
    let run_id = crate::evidence::new_run_id().map_err(host("randomness"))?;
    let plan = Plan::new(resolved, env, &run_id)?;
    let hidden = survey(&plan.repo, &plan.hide)
        .map_err(|e| e.to_string())
        .and_then(|found| masks(&plan.repo, &found))
        .map_err(ShellError::Hidden)?;
    let (master, slave) = pseudo_terminal(&own)?;
    let options = &plan.resolved.options;
    let chosen =
        level::choose(launcher, &plan.dirs, plan.repo.root_path(), options.min_level, options.layer, &run_id)
            .map_err(|unreached| ShellError::Unreached(unreached.why))?;
    let copy = || slave.try_clone().map_err(host("a descriptor"));
    let wanted = Wanted {
        role: "shell",
        argv: argv.unwrap_or_else(|| plan.start.argv.clone()),
        env: environment(&plan, env),
        mounts: plan.backend_mounts.clone(),
        files: plan.start.files.clone(),
        net: options.net,
        writable: options.mutation != MutationMode::None,
        hidden,
        tree_seed: Seed::new(),
        stdio: vec![copy()?, copy()?, copy()?],
        level: chosen.level,
        terminal: true,
        stop: StopFlag::default(),
    };
    // Before the sandbox exists: from here on a signal ends it and does not kill this process.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(host("the runtime"))?;
    let entered = runtime.enter();
    let theirs = own.clone();
    let mut interrupt =
        Interrupt::new(Box::new(move || drop(Raw(&theirs)))).map_err(host("signal handlers"))?;
    let resized = signal(SignalKind::window_change()).map_err(host("signal handlers"))?;
    let sandbox = sandbox::start(launcher, &plan, &run_id, facts.memory, wanted)?;
    drop(slave);
    drop(entered);
    started(&sandbox.missing);
    let raw = Raw::enter(&own)?;
    let end = runtime.block_on(attend(&sandbox, master, screen, &mut interrupt, resized));
    drop(raw);
    // A thread may still wait for a key; it ends with the process.
    runtime.shutdown_background();
    end
}

/// Master and slave of a new pseudo-terminal, set as the operator's own terminal is.
fn pseudo_terminal(own: &Termios) -> Result<(OwnedFd, OwnedFd), ShellError> {
    let failed = host::<Errno>("a pseudo-terminal");
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).map_err(&failed)?;
    grantpt(&master).map_err(&failed)?;
    unlockpt(&master).map_err(&failed)?;
    let slave = ioctl_tiocgptpeer(&master, flags).map_err(&failed)?;
    tcsetattr(&slave, OptionalActions::Now, own).map_err(&failed)?;
    resize(&master);
    // A full or silent pseudo-terminal must not hold the threads up.
    let flags = rustix::fs::fcntl_getfl(&master).map_err(&failed)?;
    rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(&failed)?;
    Ok((master, slave))
}

/// Hands the size of the operator's window on. A terminal that has none leaves it as it is.
fn resize(master: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(std::io::stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}

fn environment(plan: &Plan, env: &HostEnv) -> Vec<(OsString, OsString)> {
    let options = &plan.resolved.options;
    let mut also = plan.start.env.clone();
    also.push(("PS1".into(), "(proctor) $ ".into()));
    // The name of a terminal, not a path or a description of one (terminfo(5)).
    let plain =
        |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'+'));
    if let Some(term) = env.get("TERM").and_then(|term| term.to_str()).filter(plain) {
        also.push(("TERM".into(), term.to_owned()));
    }
    if let Some(task) = &options.task {
        also.push(("PROCTOR_TASK".into(), task.clone()));
    }
    let mut all = view::environment(&[&plan.resolved.engine.env, &options.env], &also);
    // Somebody looks at it, who may like colours.
    all.retain(|(name, _)| name != "NO_COLOR" || options.env.contains_key("NO_COLOR"));
    all
}

/// The operator's terminal in raw mode: every key, Ctrl-C too, is for the inside. As it was again on drop.
struct Raw<'a>(&'a Termios);

impl<'a> Raw<'a> {
    fn enter(own: &'a Termios) -> Result<Self, ShellError> {
        let mut raw = own.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &raw).map_err(host("the terminal"))?;
        Ok(Self(own))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // Flushed: what was typed or answered for the inside must not reach the operator's own shell.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, self.0);
    }
}

/// Carries keys in and output out until everything inside is dead.
async fn attend(
    sandbox: &Started,
    master: OwnedFd,
    screen: Box<dyn Write + Send>,
    interrupt: &mut Interrupt,
    mut resized: tokio::signal::unix::Signal,
) -> Result<ShellEnd, ShellError> {
    let running = Arc::clone(&sandbox.running);
    let dead = Arc::new(AtomicBool::new(false));
    let copy = || master.try_clone().map_err(host("a descriptor"));
    let (keys, output) = (copy()?, copy()?);
    let over = Arc::clone(&dead);
    let shown = std::thread::Builder::new()
        .name("screen".into())
        .spawn(move || show(&output, screen, &over))
        .map_err(host("a thread"))?;
    let gone = Arc::clone(&running);
    std::thread::Builder::new()
        .name("keys".into())
        .spawn(move || {
            if type_in(&keys).is_err() {
                // The operator's terminal is gone: nobody is there to end it.
                gone.kill();
            }
        })
        .map_err(host("a thread"))?;
    let waiter = Arc::clone(&running);
    let mut waiting = tokio::task::spawn_blocking(move || waiter.wait());
    let (tell, mut too_large) = tokio::sync::mpsc::unbounded_channel();
    let watched = looks::Wanted { memory: sandbox.watch_memory, disk: sandbox.disk_watch.clone() };
    let watcher = Watcher::start(Arc::clone(&running), watched, tell).map_err(host("a thread"))?;
    let mut stopped = None;
    let ended = loop {
        tokio::select! {
            ended = &mut waiting => break ended,
            signal = interrupt.next() => {
                stopped = Some(ShellEnd::Stopped(signal));
                running.kill();
            }
            Some(over) = too_large.recv() => {
                stopped = Some(ShellEnd::TooLarge(match over {
                    Over::Memory(_) => "its processes were larger than the memory limit",
                    Over::Disk => "it wrote more to disk than the limit",
                }));
                running.kill();
            }
            _ = resized.recv() => resize(&master),
        }
    };
    dead.store(true, Ordering::Release);
    let wrote = shown.join();
    drop(watcher);
    let ended = ended.map_err(host("the waiting thread"))?.map_err(host("waiting for the sandbox"))?;
    if wrote.is_err() {
        return Err(ShellError::Host("the thread that shows output panicked".into()));
    }
    Ok(stopped.unwrap_or(ShellEnd::Ended(ended)))
}

fn ready(fd: &OwnedFd, events: PollFlags, limit: Option<Duration>) -> bool {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    // Interrupted is not ready, and is asked again.
    poll(&mut [PollFd::new(fd, events)], limit.as_ref()).is_ok_and(|ready| ready > 0)
}

/// Output of the inside, filtered, until all that could write it is dead and all of it was read.
fn show(master: &OwnedFd, mut screen: Box<dyn Write + Send>, dead: &AtomicBool) {
    let mut filter = TtyFilter::default();
    let mut buffer = vec![0u8; 16 << 10];
    let mut out = Vec::new();
    loop {
        let over = dead.load(Ordering::Acquire);
        if !ready(master, PollFlags::IN, Some(LEFTOVER)) {
            if over {
                break;
            }
            continue;
        }
        match rustix::io::read(master.as_fd(), &mut buffer) {
            // EIO: no slave is open any more.
            Ok(0) | Err(Errno::IO) => break,
            Ok(n) => filter.feed(&buffer[..n], &mut out),
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(_) => break,
        }
        // Where the operator's screen is gone, output goes nowhere and the inside is not held up by it.
        let _ = screen.write_all(&out).and_then(|()| screen.flush());
        out.clear();
    }
    filter.end(&mut out);
    let _ = screen.write_all(&out).and_then(|()| screen.flush());
}

/// Keys for the inside, until the operator's terminal (the error) or the inside is gone.
fn type_in(master: &OwnedFd) -> std::io::Result<()> {
    let mut stdin = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut buffer = [0u8; 1024];
    loop {
        let n = match stdin.read(&mut buffer) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            match rustix::io::write(master.as_fd(), rest) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::AGAIN | Errno::INTR) => {
                    ready(master, PollFlags::OUT, None);
                }
                Err(_) => return Ok(()),
            }
        }
    }
}
