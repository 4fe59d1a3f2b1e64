//! A started sandbox: waiting for it, signalling it, reading its layer. One that nobody waits for is killed on drop.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::cgroup::{Cgroup, CgroupUsage};
use crate::enforced::{Enforced, Mechanism};
use crate::error::{LaunchError, Step, StepError};
use crate::message::{LEN, Message};
use crate::notify::Notifier;
use crate::spec::{Level, SandboxSpec};
use crate::sys::{fdpass, process};

/// Asks init to end everything.
pub(crate) const END: u8 = 0xff;

/// How long a sandbox may take to stand.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(60);

/// Waits until there is something to read, or it is too late.
pub(crate) fn readable(socket: BorrowedFd<'_>, until: Instant) -> Result<bool, LaunchError> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], timeout) {
            Ok(n) => return Ok(n > 0),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(LaunchError::Launcher(format!("poll: {e}"))),
        }
    }
}

/// The same, answering meanwhile what the sandbox's filter asks: its program cannot be executed otherwise.
fn ready(
    status: BorrowedFd<'_>,
    notifier: Option<&mut Notifier>,
    until: Instant,
) -> Result<bool, LaunchError> {
    let Some(notifier) = notifier else { return readable(status, until) };
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds =
            [PollFd::new(status, PollFlags::POLLIN), PollFd::new(notifier.listener(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => return Ok(false),
            Ok(_) if fds[0].any() == Some(true) => return Ok(true),
            // With a flood to answer poll(2) never times out by itself.
            Ok(_) if left.is_zero() => return Ok(false),
            Ok(_) => notifier
                .serve_early()
                .map_err(|e| LaunchError::Launcher(format!("the sandbox's listener: {e}")))?,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(LaunchError::Launcher(format!("poll: {e}"))),
        }
    }
}

/// How a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Exit code, where the program exited.
    pub code: Option<i32>,
    /// Signal, where the program was killed by one; 9 also where the sandbox was killed whole.
    pub signal: Option<i32>,
    /// User CPU time of the reaped processes, in microseconds.
    pub user_micros: u64,
    /// System CPU time likewise.
    pub system_micros: u64,
    /// Largest resident size of one process, in KiB.
    pub max_rss_kib: u64,
    /// True where it was seen that no process of the sandbox is left: always so at level `full`.
    pub emptied: bool,
}

/// A running (or ended) sandbox.
#[derive(Debug)]
pub struct Running {
    pidfd: OwnedFd,
    status: OwnedFd,
    level: Level,
    /// Level `full` alone.
    store: Option<OwnedFd>,
    enforced: Enforced,
    cgroup: Option<Cgroup>,
    notifier: Mutex<Option<Notifier>>,
    layers: Option<OwnedFd>,
}

/// Use of the sandbox's tmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes still free below the limit.
    pub free: u64,
    /// Inodes still free below the limit.
    pub free_inodes: u64,
}

impl Running {
    pub(crate) fn await_start(
        spec: &SandboxSpec,
        pidfd: OwnedFd,
        status: OwnedFd,
        labels: &[String],
        landlock_abi: u32,
        also: &[Mechanism],
        cgroup: Option<Cgroup>,
    ) -> Result<Self, LaunchError> {
        // After the guard in order of their drops: a listener that nobody serves must not hold init up.
        let mut guard = KillOnDrop { pidfd: Some(pidfd), status: status.as_fd(), level: spec.level };
        let mut store = None;
        let mut notifier: Option<Notifier> = None;
        let until = Instant::now() + START_LIMIT;
        let bits = loop {
            if !ready(status.as_fd(), notifier.as_mut(), until)? {
                return Err(LaunchError::Launcher(format!(
                    "the sandbox was not ready after {} s: a file system that a mount leads to may hang",
                    START_LIMIT.as_secs()
                )));
            }
            let mut buffer = [0u8; LEN];
            let (len, fds) = fdpass::recv(status.as_fd(), &mut buffer)
                .map_err(|e| LaunchError::Launcher(format!("the sandbox's socket: {e}")))?;
            match Message::decode(&buffer[..len]) {
                Some(Message::Ready) => store = fds.into_iter().next(),
                Some(Message::Listener) => {
                    notifier = fds.into_iter().next().map(|fd| Notifier::new(fd, spec, landlock_abi));
                }
                Some(Message::Started { bits }) => break bits,
                Some(Message::Failed { step: Step::Exec, errno, .. }) => {
                    let program = spec.program.as_ref().and_then(|p| p.argv.first());
                    return Err(LaunchError::Exec {
                        program: program.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default(),
                        errno: Errno::from_raw(errno),
                    });
                }
                Some(Message::Failed { step, label, errno }) => {
                    let subject = labels.get(usize::from(label)).cloned().unwrap_or_default();
                    return Err(StepError { step, subject, errno }.into());
                }
                Some(Message::Exited { .. }) | None => {
                    return Err(LaunchError::Launcher("the sandbox died while it was built".into()));
                }
            }
        };
        let mut enforced = Enforced::new(bits, landlock_abi);
        for mechanism in also {
            enforced.add(*mechanism);
        }
        let missing = enforced.shortfall(spec);
        if !missing.is_empty() {
            return Err(LaunchError::Shortfall(missing));
        }
        if store.is_none() && spec.level == Level::Full {
            return Err(LaunchError::Launcher("the sandbox sent no layer".into()));
        }
        if enforced.has(Mechanism::Listener) && notifier.is_none() {
            return Err(LaunchError::Launcher("the sandbox sent no listener".into()));
        }
        let Some(pidfd) = guard.pidfd.take() else {
            return Err(LaunchError::Launcher("the sandbox has no pidfd".into()));
        };
        drop(guard);
        let notifier = Mutex::new(notifier);
        Ok(Self { pidfd, status, level: spec.level, store, enforced, cgroup, notifier, layers: None })
    }

    pub(crate) fn with_layers(mut self, layers: Option<OwnedFd>) -> Self {
        self.layers = layers;
        self
    }

    /// The listener of a watched sandbox, once: until it is served, whoever is stopped inside waits. `None` where the
    /// sandbox is not watched, and afterwards.
    pub fn notifier(&self) -> Option<Notifier> {
        self.notifier.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The pidfd of the sandbox's init: readable when every process of the sandbox is dead.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// What is in force.
    pub fn enforced(&self) -> &Enforced {
        &self.enforced
    }

    /// Sends a signal to every process of the sandbox but its init.
    pub fn signal_all(&self, signal: i32) {
        if let Ok(byte) = u8::try_from(signal) {
            // The sandbox may be gone already, which is what a signal is for.
            let _ = fdpass::send(self.status.as_fd(), &[byte], &[]);
        }
    }

    /// Kills every process of the sandbox.
    pub fn kill(&self) {
        kill(self.level, self.pidfd.as_fd(), self.status.as_fd());
    }

    /// Kills every process of the sandbox and waits for their death, though not without end: for whoever lets go of what
    /// is the sandbox's. Nothing happens where all are dead.
    pub fn end(&self) {
        end(self.level, self.pidfd.as_fd(), self.status.as_fd());
    }

    /// Waits until every process of the sandbox is dead, and says how its program ended. Blocks; `kill` from another
    /// thread ends it.
    ///
    /// # Errors
    /// poll(2) failed.
    pub fn wait(&self) -> Result<Ended, LaunchError> {
        let mut ended = Ended {
            code: None,
            signal: Some(libc::SIGKILL),
            user_micros: 0,
            system_micros: 0,
            max_rss_kib: 0,
            // Init is killed at level `full` only, and takes its namespace along.
            emptied: self.level == Level::Full,
        };
        loop {
            let mut buffer = [0u8; LEN];
            match fdpass::recv(self.status.as_fd(), &mut buffer) {
                Ok((0, _)) | Err(_) => break,
                Ok((len, _)) => {
                    if let Some(Message::Exited {
                        status,
                        user_micros,
                        system_micros,
                        max_rss_kib,
                        emptied,
                    }) = Message::decode(&buffer[..len])
                    {
                        let signalled = libc::WIFSIGNALED(status);
                        ended = Ended {
                            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
                            signal: signalled.then(|| libc::WTERMSIG(status)),
                            user_micros,
                            system_micros,
                            max_rss_kib,
                            emptied,
                        };
                        break;
                    }
                }
            }
        }
        self.await_death(None)?;
        Ok(ended)
    }

    /// Waits for the death of every process, at most `limit`; true where they are dead.
    fn await_death(&self, limit: Option<Duration>) -> Result<bool, LaunchError> {
        await_exit(self.pidfd.as_fd(), limit)
    }

    /// The upper layer of the work tree's overlay, to be read when the sandbox is dead.
    ///
    /// # Errors
    /// The sandbox has no overlay over a work tree.
    pub fn upper_layer(&self) -> Result<OwnedFd, LaunchError> {
        let store = self.store()?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.layers.as_ref().unwrap_or(store), c"tree/upper", flags, Mode::empty())
            .map_err(|e| LaunchError::Launcher(format!("opening the upper layer: {e}")))
    }

    fn store(&self) -> Result<&OwnedFd, LaunchError> {
        self.store.as_ref().ok_or_else(|| {
            LaunchError::Launcher(
                "level landlock has no private file system; its copy is the caller's".into(),
            )
        })
    }

    /// Its level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What is used of the private file systems.
    ///
    /// # Errors
    /// fstatvfs(3) failed, or there is no file system of the sandbox's own (level `landlock`).
    pub fn disk_usage(&self) -> Result<DiskUsage, LaunchError> {
        let stat = nix::sys::statvfs::fstatvfs(self.store()?)
            .map_err(|e| LaunchError::Launcher(format!("fstatvfs of the private file system: {e}")))?;
        let block = stat.fragment_size();
        Ok(DiskUsage {
            bytes: (stat.blocks() - stat.blocks_free()) * block,
            free: stat.blocks_free() * block,
            free_inodes: stat.files_free(),
        })
    }

    /// What the cgroup counted; `None` where the sandbox has none.
    ///
    /// # Errors
    /// A counter of a limit that was set cannot be read.
    pub fn cgroup_usage(&self) -> Result<Option<CgroupUsage>, LaunchError> {
        let usage = self.cgroup.as_ref().map(Cgroup::usage).transpose();
        usage.map_err(|e| LaunchError::Launcher(format!("the cgroup's counters: {e}")))
    }

    /// `v1` or `v2`; `None` where the sandbox has no cgroup.
    pub fn cgroup_version(&self) -> Option<&'static str> {
        self.cgroup.as_ref().map(Cgroup::version)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn kill(level: Level, pidfd: BorrowedFd<'_>, status: BorrowedFd<'_>) {
    match level {
        Level::Full => drop(process::pidfd_signal(pidfd, libc::SIGKILL)),
        // Init must outlive the others, whom nothing else would kill.
        Level::Landlock => drop(fdpass::send(status, &[END], &[])),
    }
}

/// Kills everything and waits for it. At level `landlock` init is asked, and killed only where it does not answer.
fn end(level: Level, pidfd: BorrowedFd<'_>, status: BorrowedFd<'_>) {
    kill(level, pidfd, status);
    if !await_exit(pidfd, Some(DEATH)).unwrap_or(false) {
        let _ = process::pidfd_signal(pidfd, libc::SIGKILL);
        let _ = await_exit(pidfd, Some(DEATH));
    }
}

/// How long the death of a killed sandbox is waited for where nobody could act on its failure.
const DEATH: Duration = Duration::from_secs(10);

/// Waits for the exit of the process behind `pidfd`, at most `limit`; true where it has exited.
fn await_exit(pidfd: BorrowedFd<'_>, limit: Option<Duration>) -> Result<bool, LaunchError> {
    let timeout = match limit {
        None => PollTimeout::NONE,
        Some(limit) => PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
    };
    loop {
        let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(n) => return Ok(n > 0),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(LaunchError::Launcher(format!("poll: {e}"))),
        }
    }
}

/// Kills what was cloned where the start is not completed, and waits for its death: nothing is alive behind an error.
struct KillOnDrop<'a> {
    pidfd: Option<OwnedFd>,
    status: BorrowedFd<'a>,
    level: Level,
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            end(self.level, pidfd.as_fd(), self.status);
        }
    }
}
