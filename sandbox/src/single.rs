//! The mechanisms of a sandbox tried one by one, each in a throwaway child: what a host lacks, all of it at once, where
//! [`crate::host::probe`] stops at the first failure. It explains; whether a sandbox can be had, the whole chain says.
//!
//! Must run while the process has one thread: the children go on as the parent could.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{LaunchError, Step, StepError, StepResult};
use crate::landlock::Domain;
use crate::spec::{Identity, Level, Network};
use crate::sys::{lockdown, mount, net, process};
use crate::{idmap, seccomp};

/// One mechanism, tried by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Single {
    /// Its name.
    pub name: &'static str,
    /// What was done to try it.
    pub tried: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It works; a version or another detail, or nothing.
    Works(String),
    /// This step failed.
    Fails(StepError),
    /// It needs another mechanism, which is missing.
    NotTried(String),
    /// The child died of it (a signal: a filter may kill).
    Died(String),
}

type Try = fn(&Path) -> StepResult<String>;

const USER: i32 = libc::CLONE_NEWUSER;
const MOUNT: i32 = USER | libc::CLONE_NEWNS;

/// Those that need no namespace.
const PLAIN: [(&str, &str, Try); 3] = [
    ("process descriptors", "pidfd_open and pidfd_send_signal on a process of its own", pidfd),
    (
        "Landlock",
        "a ruleset that handles everything and lets read, enforced, and seen to refuse a directory",
        landlock,
    ),
    ("seccomp", "the whole filter, installed, and the mode read back", filter),
];

/// Those inside new namespaces.
const INSIDE: [(&str, &str, i32, Try); 12] = [
    ("user namespace", "a child in one, with its id maps written and taken", USER, nothing),
    ("mount namespace", "a child in one", MOUNT, nothing),
    ("pid namespace", "a child in one", USER | libc::CLONE_NEWPID, nothing),
    ("ipc namespace", "a child in one", USER | libc::CLONE_NEWIPC, nothing),
    ("cgroup namespace", "a child in one", USER | libc::CLONE_NEWCGROUP, nothing),
    ("host name", "sethostname in a uts namespace", USER | libc::CLONE_NEWUTS, host_name),
    (
        "network",
        "the loopback interface of a network namespace brought up",
        USER | libc::CLONE_NEWNET,
        loopback,
    ),
    ("mounts", "a tmpfs made, attached, cloned and restricted by the mount API", MOUNT, mounts),
    ("tmpfs attributes", "a user attribute on a directory of a tmpfs", MOUNT, attributes),
    ("overlay", "an overlay of directories of a tmpfs", MOUNT, overlay),
    ("fresh /proc", "proc mounted for a pid namespace", MOUNT | libc::CLONE_NEWPID, fresh_proc),
    ("private root", "pivot_root into a tmpfs", MOUNT, pivot),
];

/// Tries every mechanism. `tree` is an empty directory of the caller's own; as root, idmapped mounts are tried on it.
///
/// # Errors
/// The process has more than one thread.
pub fn each(identity: Identity, tree: &Path) -> Result<Vec<Single>, LaunchError> {
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(|e| LaunchError::Launcher(format!("/proc/self/task: {e}")))?
        .count();
    if threads != 1 {
        return Err(LaunchError::Launcher(format!("{threads} threads: a child could inherit a held lock")));
    }
    let mut all: Vec<Single> =
        PLAIN.iter().map(|(name, tried, act)| Single { name, tried, outcome: plain(*act, tree) }).collect();
    let mut users = true;
    for (name, tried, flags, act) in INSIDE {
        let outcome = if users {
            inside(flags, identity, act, tree)
        } else {
            Outcome::NotTried("it needs a user namespace".into())
        };
        users &= flags != USER || matches!(outcome, Outcome::Works(_));
        all.push(Single { name, tried, outcome });
    }
    if nix::unistd::geteuid().is_root() {
        let outcome = match idmap::clone_for(tree, identity.host_uid, identity.host_gid) {
            Ok(_) => Outcome::Works(String::new()),
            Err(error) => Outcome::Fails(error),
        };
        all.push(Single { name: "idmapped mounts", tried: "on Proctor's state directory", outcome });
    }
    Ok(all)
}

fn broken(what: &str, errno: Errno) -> Outcome {
    Outcome::Fails(StepError::new(Step::Fork, what, errno))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC)
}

fn plain(act: Try, tree: &Path) -> Outcome {
    let (read, write) = match pipe() {
        Ok(ends) => ends,
        Err(errno) => return broken("pipe", errno),
    };
    match process::fork_single_threaded() {
        Err(errno) => broken("fork", errno),
        Ok(None) => tell(write, act(tree)),
        Ok(Some(pid)) => {
            drop(write);
            hear(read, pid)
        }
    }
}

fn inside(flags: i32, identity: Identity, act: Try, tree: &Path) -> Outcome {
    let ((read, write), (go_read, go_write)) = match pipe().and_then(|a| pipe().map(|b| (a, b))) {
        Ok(ends) => ends,
        Err(errno) => return broken("pipe", errno),
    };
    let privileged = nix::unistd::geteuid().is_root();
    match process::clone_child(flags as u32 as u64) {
        Err(errno) => Outcome::Fails(StepError::new(Step::Clone, "", errno)),
        Ok(process::Cloned::Child) => {
            drop((read, go_write));
            tell(write, become_inside(go_read, identity, privileged).and_then(|()| act(tree)))
        }
        Ok(process::Cloned::Parent(pid, _pidfd)) => {
            drop((write, go_read));
            let mapped = idmap::write_maps(pid, &identity, privileged);
            if mapped.is_ok() {
                // A child that is gone already tells of itself.
                let _ = nix::unistd::write(&go_write, b"g");
            }
            drop(go_write);
            let heard = hear(read, pid);
            match mapped {
                Ok(()) => heard,
                Err(error) => Outcome::Fails(error),
            }
        }
    }
}

fn become_inside(go: OwnedFd, identity: Identity, drop_groups: bool) -> StepResult<()> {
    let at = |step: Step| move |errno: Errno| StepError::new(step, "", errno);
    let mut byte = [0u8; 1];
    if nix::unistd::read(&go, &mut byte) != Ok(1) {
        return Err(StepError::new(Step::Handshake, "", Errno::EPIPE));
    }
    if drop_groups {
        process::drop_groups().map_err(at(Step::Groups))?;
    }
    process::set_gid(identity.inside_gid).map_err(at(Step::SetGid))?;
    process::set_uid(identity.inside_uid).map_err(at(Step::SetUid))
}

/// The child's end: what came of it, as JSON.
fn tell(pipe: OwnedFd, result: StepResult<String>) -> ! {
    let outcome = match result {
        Ok(text) => Outcome::Works(text),
        Err(error) => Outcome::Fails(error),
    };
    let bytes = serde_json::to_vec(&outcome).unwrap_or_default();
    let written = File::from(pipe).write_all(&bytes).is_ok();
    process::exit_now(i32::from(!written))
}

fn hear(pipe: OwnedFd, pid: libc::pid_t) -> Outcome {
    let mut bytes = Vec::new();
    let read = File::from(pipe).read_to_end(&mut bytes);
    let ended = waitpid(Pid::from_raw(pid), None);
    match (read.is_ok(), serde_json::from_slice(&bytes)) {
        (true, Ok(outcome)) => outcome,
        _ => Outcome::Died(match ended {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("the child was killed by {signal}"),
            other => format!("the child said nothing: {other:?}"),
        }),
    }
}

fn at(step: Step) -> impl Fn(Errno) -> StepError {
    move |errno| StepError::new(step, "", errno)
}

fn nothing(_: &Path) -> StepResult<String> {
    Ok(String::new())
}

fn pidfd(_: &Path) -> StepResult<String> {
    let pidfd = process::pidfd_open(nix::unistd::getpid().as_raw()).map_err(at(Step::Pidfd))?;
    process::pidfd_signal(pidfd.as_fd(), 0).map_err(at(Step::Pidfd))?;
    Ok(String::new())
}

fn landlock(tree: &Path) -> StepResult<String> {
    let domain = Domain::new(Level::Full, Network::None)?;
    let dir = root_dir(b"/").map_err(at(Step::LandlockRule))?;
    lockdown::landlock_allow(domain.ruleset.as_fd(), dir.as_fd(), domain.read)
        .map_err(at(Step::LandlockRule))?;
    lockdown::set_no_new_privs().map_err(at(Step::NoNewPrivs))?;
    lockdown::landlock_restrict(domain.ruleset.as_fd(), 0).map_err(at(Step::LandlockRestrict))?;
    // Only reading is granted: a directory that could be made a moment ago is refused.
    match nix::unistd::mkdir(&tree.join("landlock"), Mode::from_bits_truncate(0o700)) {
        Err(Errno::EACCES) => Ok(format!("ABI {}", domain.abi)),
        Err(errno) => Err(StepError::new(Step::CheckLandlock, "", errno)),
        Ok(()) => {
            let _ = std::fs::remove_dir(tree.join("landlock"));
            Err(StepError::new(Step::CheckLandlock, "", Errno::EPERM))
        }
    }
}

fn filter(_: &Path) -> StepResult<String> {
    lockdown::set_no_new_privs().map_err(at(Step::NoNewPrivs))?;
    let policy = seccomp::Policy { level: Level::Full, network: Network::None, sockets: false };
    lockdown::seccomp_filter(seccomp::program(policy, seccomp::Watching::Nothing))
        .map_err(at(Step::Seccomp))?;
    if lockdown::seccomp_mode() != 2 {
        return Err(StepError::new(Step::CheckSeccomp, "", Errno::EPERM));
    }
    let (rules, instructions) = seccomp::size(Level::Full);
    Ok(format!("{rules} rules in {instructions} instructions"))
}

fn host_name(_: &Path) -> StepResult<String> {
    nix::unistd::sethostname("probe").map(|()| String::new()).map_err(at(Step::Hostname))
}

fn loopback(_: &Path) -> StepResult<String> {
    net::loopback_up().map(|()| String::new()).map_err(at(Step::LoopbackUp))
}

fn root_dir(path: &[u8]) -> Result<OwnedFd, Errno> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// A tmpfs of this mount namespace's own, attached over a directory that every system has.
fn tmpfs() -> StepResult<OwnedFd> {
    let host = root_dir(b"/").map_err(at(Step::Propagation))?;
    mount::make_private(host.as_fd()).map_err(at(Step::Propagation))?;
    let tmpfs = mount::FsContext::open(c"tmpfs")
        .and_then(|context| context.set(c"mode", c"0755").map(|()| context))
        .and_then(|context| context.mount(mount::ATTR_NOSUID | mount::ATTR_NODEV))
        .map_err(at(Step::StoreCreate))?;
    let over = root_dir(b"/dev").map_err(at(Step::StoreAttach))?;
    mount::attach(tmpfs.as_fd(), over.as_fd(), c"").map_err(at(Step::StoreAttach))?;
    Ok(tmpfs)
}

fn make(tmpfs: &OwnedFd, name: &std::ffi::CStr) -> StepResult<OwnedFd> {
    mkdirat(tmpfs, name, Mode::from_bits_truncate(0o755)).map_err(at(Step::StoreDirs))?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(tmpfs, name, flags, Mode::empty()).map_err(at(Step::StoreDirs))
}

fn mounts(_: &Path) -> StepResult<String> {
    let tmpfs = tmpfs()?;
    let dir = make(&tmpfs, c"dir")?;
    let clone = mount::open_tree_clone(dir.as_fd(), c"", false).map_err(at(Step::BindClone))?;
    mount::restrict(clone.as_fd(), mount::ATTR_RDONLY, false).map_err(at(Step::BindFlags))?;
    mount::attach(clone.as_fd(), dir.as_fd(), c"").map_err(at(Step::BindAttach))?;
    Ok(String::new())
}

fn attributes(_: &Path) -> StepResult<String> {
    let dir = make(&tmpfs()?, c"dir")?;
    mount::set_xattr(dir.as_fd(), c"user.overlay.opaque", b"y")
        .map(|()| String::new())
        .map_err(at(Step::SeedUpper))
}

fn overlay(_: &Path) -> StepResult<String> {
    let tmpfs = tmpfs()?;
    for name in [c"lower", c"upper", c"work"] {
        make(&tmpfs, name)?;
    }
    // By its path: the working directory of a descriptor from before the attachment is not in this namespace.
    nix::unistd::chdir("/dev").map_err(at(Step::OverlayMount))?;
    let mounted = || {
        let context = mount::FsContext::open(c"overlay")?;
        for (key, value) in [(c"lowerdir", c"lower"), (c"upperdir", c"upper"), (c"workdir", c"work")] {
            context.set(key, value)?;
        }
        context.flag(c"userxattr")?;
        context.mount(mount::ATTR_NOSUID | mount::ATTR_NODEV)
    };
    mounted().map(|_| String::new()).map_err(at(Step::OverlayMount))
}

fn fresh_proc(_: &Path) -> StepResult<String> {
    mount::FsContext::open(c"proc")
        .and_then(|context| context.mount(mount::ATTR_NOSUID | mount::ATTR_NODEV | mount::ATTR_NOEXEC))
        .map(|_| String::new())
        .map_err(at(Step::ProcMount))
}

fn pivot(_: &Path) -> StepResult<String> {
    tmpfs()?;
    nix::unistd::chdir("/dev").map_err(at(Step::PivotRoot))?;
    mount::pivot_root_here().map_err(at(Step::PivotRoot))?;
    mount::detach(c".").map(|()| String::new()).map_err(at(Step::PivotRoot))
}
