//! The launcher: a small single-threaded process, forked before the supervisor has threads, that clones sandboxes.
//! A multi-threaded process must not fork and go on in Rust: another thread may hold the allocator's lock. The
//! supervisor sends a specification and descriptors, and gets back a pidfd and the socket to the sandbox's init.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::check;
use crate::child;
use crate::enforced::Mechanism;
use crate::error::{LaunchError, Step, StepError};
use crate::grants;
use crate::idmap;
use crate::landlock::Domain;
use crate::message::{LEN, Message};
use crate::plan::{Cloning, Inputs, Plan};
use crate::running::{Running, START_LIMIT, readable};
use crate::seed::Seed;
use crate::spec::{Level, Network, SandboxSpec, Store};
use crate::sys::{fdpass, process};

/// The largest specification with its seeds, in bytes.
const MAX_REQUEST: u64 = 1 << 30;
/// The largest answer.
const MAX_ANSWER: usize = 192 << 10;

/// What comes beside a specification.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// The program's descriptors 0, 1, 2 and further ones, in order; at least three, at most eight.
    pub stdio: Vec<OwnedFd>,
    /// Prepared files of the work tree's upper layer.
    pub upper_seed: Seed,
    /// Prepared changes of the work tree, made through the overlay.
    pub tree_seed: Seed,
    /// The cgroup to start in.
    pub cgroup: Option<Cgroup>,
    /// Whether the program's descriptor 0 is a pseudo-terminal of its own that becomes its controlling terminal.
    pub terminal: bool,
    /// With [`Store::Disk`]: an empty directory that belongs to the sandbox's host uid and that nobody else can enter.
    pub layers: Option<OwnedFd>,
}

/// What level `full` is made of; the network namespace comes on top.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

#[derive(Serialize, Deserialize)]
struct Request {
    spec: SandboxSpec,
    upper_seed: u64,
    tree_seed: u64,
    cgroup_procs: Vec<PathBuf>,
    terminal: bool,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Cloned { labels: Vec<String>, landlock_abi: u32 },
    Failed(StepError),
    Refused(String),
}

/// Handle on the launcher process; it ends when this is dropped.
#[derive(Debug)]
pub struct Launcher {
    socket: Mutex<OwnedFd>,
    /// The launcher process, or why there can be none.
    process: Result<OwnedFd, StepError>,
}

impl Drop for Launcher {
    /// Ends the launcher and waits for its end, so that nothing of this process is left behind.
    fn drop(&mut self) {
        let Ok(process) = &self.process else { return };
        let _ = process::pidfd_signal(process.as_fd(), libc::SIGKILL);
        let _ = nix::sys::wait::waitid(
            nix::sys::wait::Id::PIDFd(process.as_fd()),
            nix::sys::wait::WaitPidFlag::WEXITED,
        );
    }
}

impl Launcher {
    /// Forks the launcher. On a host without process descriptors, by which everything here is killed and waited for, there
    /// is none: every [`Launcher::launch`] then says so.
    ///
    /// # Errors
    /// `EBUSY` in [`LaunchError::Launcher`] where the process has more than one thread already.
    pub fn start() -> Result<Self, LaunchError> {
        let failed = |what: &str, errno: Errno| LaunchError::Launcher(format!("{what}: {errno}"));
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|e| failed("socketpair", e))?;
        // Opened before the fork, so that it cannot name a later process with the same number; and tried, because a
        // sandbox that could not be killed must not be started.
        let supervisor = process::pidfd_open(nix::unistd::getpid().as_raw())
            .and_then(|pidfd| process::pidfd_signal(pidfd.as_fd(), 0).map(|()| pidfd));
        let supervisor = match supervisor {
            Ok(pidfd) => pidfd,
            Err(errno) => {
                let process = Err(StepError::new(Step::Pidfd, "", errno));
                return Ok(Self { socket: Mutex::new(ours), process });
            }
        };
        match process::fork_single_threaded().map_err(|e| failed("fork", e))? {
            Some(pid) => {
                let process = process::pidfd_open(pid).map_err(|e| failed("pidfd_open", e))?;
                Ok(Self { socket: Mutex::new(ours), process: Ok(process) })
            }
            None => {
                // The launcher's copy of this end would keep it from ever seeing end of file.
                drop(ours);
                serve(theirs, supervisor)
            }
        }
    }

    /// Starts a sandbox: returns when its program has been executed and everything asked for is in force.
    ///
    /// # Errors
    /// Nothing of the sandbox is alive then. See [`LaunchError`].
    pub fn launch(&self, spec: &SandboxSpec, descriptors: Descriptors) -> Result<Running, LaunchError> {
        check::check(spec)?;
        if !(3..=8).contains(&descriptors.stdio.len()) {
            return Err(LaunchError::Spec("a program needs three to eight descriptors".into()));
        }
        let seeded =
            !descriptors.upper_seed.as_bytes().is_empty() || !descriptors.tree_seed.as_bytes().is_empty();
        if (seeded || spec.store == Store::Disk) && spec.level == Level::Landlock {
            return Err(LaunchError::Spec(
                "level landlock has no layer: the copy must be prepared before".into(),
            ));
        }
        if descriptors.layers.is_some() != (spec.store == Store::Disk) {
            return Err(LaunchError::Spec("layers on disk and a directory for them come together".into()));
        }
        let request = Request {
            spec: spec.clone(),
            upper_seed: descriptors.upper_seed.as_bytes().len() as u64,
            tree_seed: descriptors.tree_seed.as_bytes().len() as u64,
            cgroup_procs: descriptors.cgroup.as_ref().map(Cgroup::procs_files).unwrap_or_default(),
            terminal: descriptors.terminal,
        };
        let file = request_file(&request, &descriptors).map_err(|e| LaunchError::Launcher(e.to_string()))?;
        let (answer, fds) = self.exchange(&file, descriptors.layers.as_ref(), &descriptors.stdio)?;
        let (labels, landlock_abi) = match answer {
            Answer::Cloned { labels, landlock_abi } => (labels, landlock_abi),
            Answer::Failed(error) => return Err(error.into()),
            Answer::Refused(text) => return Err(LaunchError::Spec(text)),
        };
        let Ok([pidfd, status]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(LaunchError::Launcher("it sent no pidfd and socket".into()));
        };
        let mut also = Vec::new();
        if let Some(cgroup) = &descriptors.cgroup {
            also.extend(cgroup.limits_memory().then_some(Mechanism::CgroupMemory));
            also.extend(cgroup.limits_tasks().then_some(Mechanism::CgroupTasks));
            also.extend(cgroup.limits_cpu().then_some(Mechanism::CgroupCpu));
        }
        Running::await_start(spec, pidfd, status, &labels, landlock_abi, &also, descriptors.cgroup)
            .map(|running| running.with_layers(descriptors.layers))
    }

    fn exchange(
        &self,
        file: &OwnedFd,
        layers: Option<&OwnedFd>,
        stdio: &[OwnedFd],
    ) -> Result<(Answer, Vec<OwnedFd>), LaunchError> {
        let process = self.process.as_ref().map_err(Clone::clone)?;
        let gone = |e: Errno| LaunchError::Launcher(format!("it does not answer: {e}"));
        let socket = self.socket.lock().map_err(|_| LaunchError::Launcher("a caller panicked".into()))?;
        let mut fds: Vec<RawFd> = vec![file.as_raw_fd()];
        fds.extend(layers.into_iter().chain(stdio).map(AsRawFd::as_raw_fd));
        fdpass::send(socket.as_fd(), b"launch", &fds).map_err(gone)?;
        if !readable(socket.as_fd(), Instant::now() + START_LIMIT)? {
            // It would answer this call to the next one.
            let _ = process::pidfd_signal(process.as_fd(), libc::SIGKILL);
            return Err(LaunchError::Launcher(format!(
                "it did not answer for {} s and was ended: a file system that a mount leads to may hang",
                START_LIMIT.as_secs()
            )));
        }
        let mut buffer = vec![0u8; MAX_ANSWER];
        let (len, fds) = fdpass::recv(socket.as_fd(), &mut buffer).map_err(gone)?;
        if len == 0 {
            return Err(LaunchError::Launcher("its process is gone".into()));
        }
        let answer = serde_json::from_slice(&buffer[..len])
            .map_err(|e| LaunchError::Launcher(format!("it answered nonsense: {e}")))?;
        Ok((answer, fds))
    }
}

fn request_file(request: &Request, descriptors: &Descriptors) -> std::io::Result<OwnedFd> {
    let fd = nix::sys::memfd::memfd_create(c"proctor-request", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    let json = serde_json::to_vec(request)?;
    file.write_all(&(json.len() as u64).to_le_bytes())?;
    file.write_all(&json)?;
    file.write_all(descriptors.upper_seed.as_bytes())?;
    file.write_all(descriptors.tree_seed.as_bytes())?;
    Ok(file.into())
}

fn read_request(fd: OwnedFd) -> std::io::Result<(Request, Vec<u8>, Vec<u8>)> {
    let mut file = std::fs::File::from(fd);
    file.seek(SeekFrom::Start(0))?;
    let mut len = [0u8; 8];
    file.read_exact(&mut len)?;
    let json_len = u64::from_le_bytes(len);
    let part = |file: &mut std::fs::File, len: u64| -> std::io::Result<Vec<u8>> {
        if len > MAX_REQUEST {
            return Err(std::io::Error::other("the request is too large"));
        }
        let mut bytes = vec![0u8; len as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let request: Request = serde_json::from_slice(&part(&mut file, json_len)?)?;
    let upper = part(&mut file, request.upper_seed)?;
    let tree = part(&mut file, request.tree_seed)?;
    Ok((request, upper, tree))
}

/// The launcher process. It owns no terminal, so that a Ctrl-C is the supervisor's alone to act on.
fn serve(socket: OwnedFd, supervisor: OwnedFd) -> ! {
    let _ = nix::unistd::setsid();
    allow_core_limit();
    process::blank_command_line(c"proctor-init");
    process::ignore_children();
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        for stream in 0..2 {
            let _ = process::dup_to(null.as_raw_fd(), stream);
        }
    }
    let mut buffer = [0u8; 64];
    loop {
        match fdpass::recv(socket.as_fd(), &mut buffer) {
            // End of file: the supervisor is gone.
            Ok((0, _)) | Err(_) => process::exit_now(0),
            Ok((_, fds)) => {
                let mut sent = Vec::new();
                let answer = match launch(fds, &supervisor, &mut sent) {
                    Ok(answer) => answer,
                    Err(LaunchError::Step(error)) => Answer::Failed(error),
                    Err(other) => Answer::Refused(other.to_string()),
                };
                let bytes = serde_json::to_vec(&answer).unwrap_or_default();
                let raw: Vec<RawFd> = sent.iter().map(AsRawFd::as_raw_fd).collect();
                if fdpass::send(socket.as_fd(), &bytes, &raw).is_err() {
                    process::exit_now(1);
                }
            }
        }
    }
}

/// Against a piped core_pattern only a limit of exactly 1 helps, 0 does not (core(5)): where the caller's hard limit is
/// 0, whoever has CAP_SYS_RESOURCE raises it. For others `Mechanism::CoreDumps` will not be in force.
fn allow_core_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if getrlimit(Resource::RLIMIT_CORE).is_ok_and(|(_, hard)| hard == 0) {
        let _ = setrlimit(Resource::RLIMIT_CORE, 1, 1);
    }
}

fn launch(fds: Vec<OwnedFd>, supervisor: &OwnedFd, sent: &mut Vec<OwnedFd>) -> Result<Answer, LaunchError> {
    let step = |step: Step, subject: &str| {
        let subject = subject.to_owned();
        move |errno: Errno| LaunchError::from(StepError::new(step, subject, errno))
    };
    let mut fds = fds.into_iter();
    let request = fds.next().ok_or_else(|| LaunchError::Launcher("no request".into()))?;
    let (request, upper_seed, tree_seed) =
        read_request(request).map_err(|e| LaunchError::Launcher(format!("reading the request: {e}")))?;
    let spec = request.spec;
    let layers = match spec.store {
        Store::Memory => None,
        Store::Disk => Some(fds.next().ok_or_else(|| LaunchError::Launcher("no layers".into()))?),
    };
    let stdio: Vec<OwnedFd> = fds.collect();

    let (status_ours, status_child) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(step(Step::Handshake, "socketpair"))?;
    let (go_child, go_ours) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(step(Step::Handshake, "pipe"))?;
    let launcher =
        process::pidfd_open(nix::unistd::getpid().as_raw()).map_err(step(Step::Handshake, "pidfd_open"))?;
    let domain = Domain::new(spec.level, spec.network)?;
    let landlock_abi = domain.abi;
    let own_uid = nix::unistd::geteuid().as_raw();
    let privileged = own_uid == 0;
    if !privileged && spec.identity.host_uid != own_uid {
        return Err(LaunchError::Spec("an ordinary user can only map its own uid".into()));
    }
    let inputs = Inputs {
        stdio: stdio.iter().map(AsRawFd::as_raw_fd).collect(),
        status: status_child.as_raw_fd(),
        go: go_child.as_raw_fd(),
        supervisor: supervisor.as_raw_fd(),
        launcher: launcher.as_raw_fd(),
        upper_seed,
        tree_seed,
        privileged,
        terminal: request.terminal,
    };
    if spec.level == Level::Landlock {
        grants::add(&spec, &domain)?;
    }
    let identity = spec.identity;
    let plan = Plan::new(&spec, inputs, domain, &mut |path: &Path, why: Cloning| {
        let (uid, gid) = (identity.host_uid, identity.host_gid);
        match why {
            Cloning::Owned => idmap::clone_for(path, uid, gid).map(Some),
            Cloning::Shown => idmap::clone_closed(path, uid, gid),
        }
        .map_err(LaunchError::from)
    })?;

    if let Some(layers) = &layers {
        nix::unistd::fchdir(layers).map_err(step(Step::LayerDir, ""))?;
    }
    let cloned = match (spec.level, spec.network) {
        // A filter of the container's may refuse clone3(2) altogether, because it cannot see its flags.
        (Level::Landlock, _) => process::fork_with_pidfd(),
        (Level::Full, Network::None) => process::clone_child((NAMESPACES | libc::CLONE_NEWNET) as u32 as u64),
        (Level::Full, Network::Host) => process::clone_child(NAMESPACES as u32 as u64),
    };
    if layers.is_some() && !matches!(cloned, Ok(process::Cloned::Child)) {
        // The directory must not stay in use; nothing of the launcher's own is relative to where it stands.
        nix::unistd::chdir("/").map_err(step(Step::LayerDir, "/"))?;
    }
    match cloned.map_err(step(Step::Clone, ""))? {
        process::Cloned::Child => child::run(&plan),
        process::Cloned::Parent(pid, pidfd) => {
            // Dropped on every early return: the child then reads end of file instead of its go, and ends.
            let started = place(pid, &spec, privileged, &request.cgroup_procs).and_then(|()| {
                nix::unistd::write(&go_ours, b"g").map(drop).map_err(step(Step::Handshake, "go"))
            });
            let labels = plan.labels().to_vec();
            if let Err(error) = started {
                drop((go_ours, status_child));
                // A child that failed by itself is the reason why nothing could be done with it.
                return Err(child_failure(&status_ours, &labels).map_or(error, LaunchError::from));
            }
            sent.push(pidfd);
            sent.push(status_ours);
            Ok(Answer::Cloned { labels, landlock_abi })
        }
    }
}

/// The child's ids and cgroups, as only its parent can give them.
fn place(
    pid: libc::pid_t,
    spec: &SandboxSpec,
    privileged: bool,
    cgroups: &[PathBuf],
) -> Result<(), LaunchError> {
    if spec.level == Level::Full {
        idmap::write_maps(pid, &spec.identity, privileged)?;
    }
    for procs in cgroups {
        std::fs::write(procs, pid.to_string()).map_err(|e| {
            let errno = Errno::from_raw(e.raw_os_error().unwrap_or(0));
            LaunchError::from(StepError::new(Step::CgroupJoin, procs.to_string_lossy(), errno))
        })?;
    }
    Ok(())
}

/// What the child said of its own end before it was let go, where it did.
fn child_failure(status: &OwnedFd, labels: &[String]) -> Option<StepError> {
    let mut buffer = [0u8; LEN];
    if !readable(status.as_fd(), Instant::now() + Duration::from_secs(1)).ok()? {
        return None;
    }
    let (len, _) = fdpass::recv(status.as_fd(), &mut buffer).ok()?;
    match Message::decode(&buffer[..len])? {
        // Without its go it gives up, which is the answer to what is asked here, not the reason.
        Message::Failed { step: Step::Handshake, .. } => None,
        Message::Failed { step, label, errno } => {
            let subject = labels.get(usize::from(label)).cloned().unwrap_or_default();
            Some(StepError { step, subject, errno })
        }
        _ => None,
    }
}

/// Borrowed for polling.
impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd()
    }
}
