//! The listener's end of a watched sandbox (seccomp_unotify(2)): every refused call, every program executed, every
//! attempt to connect, answered by the tables of [`crate::seccomp`] and told to whoever asks.
//!
//! What is read of a caller's memory (arguments, paths, addresses) is what it *claimed* at the call: another of its
//! threads may change it afterwards. Nothing is let through by it: a call that is denied never is. An execve(2) of a path
//! that led nowhere is refused as the kernel would have refused it, so that none goes on that is not told of as a program.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstat, stat};

use crate::caller::Caller;
use crate::metadata::Custody;
use crate::seccomp::{self, Policy, Verdict, Watch};
use crate::spec::SandboxSpec;
use crate::sys::notify::Notification;
use crate::sys::{notify, process};

/// Arguments that are read of one execve(2).
const MAX_ARGUMENTS: usize = 64;
/// Bytes of one argument.
const MAX_ARGUMENT: usize = 512;
/// Bytes of all arguments together.
const MAX_ARGUMENTS_BYTES: usize = 4096;
/// PATH_MAX.
const MAX_PATH: usize = 4096;
/// Links that are followed in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// `struct sockaddr_storage`.
const MAX_ADDRESS: usize = 128;
/// How long what is known of a caller holds.
const RECENT: Duration = Duration::from_millis(20);
/// Reports that are served in one go while a sandbox is built.
const EARLY_AT_ONCE: usize = 8;
/// Reports that wait while a sandbox is built.
const MAX_WAITING: usize = 64;

/// Something that happened inside.
#[derive(Debug)]
pub struct Report {
    /// When it was received.
    pub at: Instant,
    /// The process, as the caller's pid namespace numbers it; 0 where it was gone by then.
    pub pid: u32,
    /// Its parent likewise.
    pub parent: u32,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// A program is about to be executed; it may still turn out to be missing.
    Exec(Exec),
    /// A connection was tried.
    Connect {
        /// Where to.
        to: Address,
        /// The caller's program.
        by: Option<PathBuf>,
    },
    /// A path was looked for, and nothing was there: its full form inside, as claimed. Only where paths are watched.
    Missing(PathBuf),
    /// A call was refused.
    Denied(Denied),
}

/// An execve(2) or execveat(2).
#[derive(Debug)]
pub struct Exec {
    /// The process, for its end: readable when it is over. `None` where it was gone by then.
    pub process: Option<OwnedFd>,
    /// The path that was given; empty where execveat(2) names a descriptor.
    pub path: Vec<u8>,
    /// Arguments, as claimed; at most 64 of 512 bytes, 4 KiB together.
    pub argv: Vec<Vec<u8>>,
    /// True where there were more or longer ones.
    pub cut: bool,
    /// Working directory at the call.
    pub cwd: Option<PathBuf>,
    /// The caller's program before the call.
    pub by: Option<PathBuf>,
    /// What the path led to while the caller waited.
    pub found: Found,
}

/// What a path led to when it was given to execve(2). Another thread or process may change that before the kernel looks
/// for itself, so what was found is a hint and no proof; where nothing was, the call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file that somebody may execute, by its full path inside.
    Program(PathBuf),
    /// Nothing, or nothing that anybody may execute: a search along `PATH` goes on.
    Nothing,
    /// It could not be told: a descriptor, or a path through /proc, which shows its reader.
    Unknown,
}

/// Where a connection was to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An internet address and port.
    Inet(std::net::SocketAddr),
    /// A Unix socket: its path, or its abstract name behind a NUL byte.
    Unix(Vec<u8>),
    /// Another family, by number (`AF_*`).
    Other(u16),
    /// The address could not be read.
    Unknown,
}

/// A refused call.
#[derive(Debug)]
pub struct Denied {
    /// The system call's name.
    pub call: &'static str,
    /// Its arguments, as numbers.
    pub args: [u64; 6],
    /// What it failed with.
    pub errno: i32,
    /// Whether the process was killed for it.
    pub killed: bool,
    /// Why the table refuses it.
    pub reason: &'static str,
    /// The caller's program.
    pub by: Option<PathBuf>,
}

impl Denied {
    /// The errno's name (`EPERM`).
    pub fn errno_name(&self) -> String {
        format!("{:?}", Errno::from_raw(self.errno))
    }
}

/// Why an internet socket is refused: another network would grant it.
pub const NO_NETWORK: &str = "the host's network, and there is none of the sandbox's own";

/// socket(2) of an internet family and an ordinary type: level `full` has a network of its own for it.
fn wants_network(nr: libc::c_long, args: &[u64; 6]) -> bool {
    nr == libc::SYS_socket
        && matches!(args[0] as i32, libc::AF_INET | libc::AF_INET6)
        && matches!(args[1] as i32 & 0xf, libc::SOCK_STREAM | libc::SOCK_DGRAM)
        && matches!(args[2] as i32, 0 | libc::IPPROTO_TCP | libc::IPPROTO_UDP)
}

/// How a process ended, as a status of wait(2): known once it was reaped, by Linux 6.15 and later.
pub fn exit_status(process: BorrowedFd<'_>) -> Option<i32> {
    notify::exit_status(process)
}

/// True where the process was reaped: its number may be somebody else's by now.
pub fn is_gone(process: BorrowedFd<'_>) -> bool {
    process::pidfd_signal(process, 0) == Err(Errno::ESRCH)
}

/// The listener. One thread serves it; while nobody does, whoever is stopped inside waits. When it is dropped, what
/// would be asked fails with `ENOSYS`.
#[derive(Debug)]
pub struct Notifier {
    listener: OwnedFd,
    waiting: VecDeque<Report>,
    /// Reports that were dropped because nobody took them while the sandbox was built.
    lost: u64,
    policy: Policy,
    custody: Custody,
    /// Whoever asked last, and since when that is known: a flood of calls is not looked up one by one.
    recent: Option<(Caller, Instant)>,
}

impl Notifier {
    pub(crate) fn new(listener: OwnedFd, spec: &SandboxSpec, landlock_abi: u32) -> Self {
        notify::sync_wake_up(listener.as_fd());
        let sockets = crate::landlock::mediates_sockets(landlock_abi);
        Self {
            listener,
            waiting: VecDeque::new(),
            lost: 0,
            policy: Policy { level: spec.level, network: spec.network, sockets },
            custody: Custody::new(spec),
            recent: None,
        }
    }

    /// Readable when somebody waits for an answer; hung up when nobody is left who could ask.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Reports lost while the sandbox was built.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// True while reports wait that came before anybody served: [`Notifier::serve`] gives them first.
    pub fn waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Answers what there is to answer, waiting at most `limit` for it, and says what it was. `None` after that time.
    /// [`Served::Over`] when nobody is left inside.
    ///
    /// # Errors
    /// poll(2) or the listener failed.
    pub fn serve(&mut self, limit: Duration) -> Result<Served, Errno> {
        if let Some(report) = self.waiting.pop_front() {
            return Ok(Served::Report(report));
        }
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Served::Nothing),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let events = fds[0].revents().unwrap_or(PollFlags::POLLERR);
        if !events.contains(PollFlags::POLLIN) {
            return Ok(Served::Over);
        }
        match notify::receive(self.listener.as_fd()) {
            Ok(notification) => Ok(self.answer(&notification).map_or(Served::Nothing, Served::Report)),
            // Gone again, or interrupted.
            Err(Errno::ENOENT | Errno::EINTR) => Ok(Served::Nothing),
            Err(errno) => Err(errno),
        }
    }

    /// Serves while a sandbox is built: its program cannot be executed otherwise. A few at a time: a program that floods as
    /// soon as it is executed must not keep the caller from seeing that the sandbox stands, or from its limit of time.
    pub(crate) fn serve_early(&mut self) -> Result<(), Errno> {
        for _ in 0..EARLY_AT_ONCE {
            let Served::Report(report) = self.serve_new(Duration::ZERO)? else { break };
            if self.waiting.len() < MAX_WAITING {
                self.waiting.push_back(report);
            } else {
                self.lost += 1;
            }
        }
        Ok(())
    }

    fn serve_new(&mut self, limit: Duration) -> Result<Served, Errno> {
        let kept = std::mem::take(&mut self.waiting);
        let served = self.serve(limit);
        self.waiting = kept;
        served
    }

    fn answer(&mut self, asked: &Notification) -> Option<Report> {
        let at = Instant::now();
        let data = &asked.data;
        let nr = libc::c_long::from(data.nr);
        // Another ABI is killed by the filter and never asked about.
        let (verdict, rule) = seccomp::judge(self.policy, nr, &data.args);
        let _as_the_sandbox = self.custody.take_its_ids();
        let (mut caller, since) = self.caller(asked.pid, at);
        let listener = self.listener.as_fd();
        let mut nowhere = None;
        let what = match verdict {
            Verdict::Serve => {
                let done = self.custody.serve(&caller, nr, &data.args);
                let errno = done.err().map_or(0, |errno| errno as i32);
                let _ = notify::answer(listener, asked.id, errno);
                // What lies outside is a refusal like any other.
                if !matches!(done, Err(Errno::EPERM)) {
                    return None;
                }
                let denied = Denied {
                    call: rule.map_or("unknown", seccomp::Rule::name),
                    args: data.args,
                    errno,
                    killed: false,
                    reason: "beneath nothing that is the sandbox's own, or a setuid or setgid mode",
                    by: caller.program(),
                };
                return Some(Report {
                    at,
                    pid: caller.pid,
                    parent: caller.parent,
                    what: What::Denied(denied),
                });
            }
            Verdict::Continue(Watch::Exec) => {
                let (exec, failed) = caller.exec(nr, &data.args);
                nowhere = failed;
                What::Exec(exec)
            }
            Verdict::Continue(Watch::Connect) => {
                What::Connect { to: caller.address(data.args[1], data.args[2]), by: caller.program() }
            }
            Verdict::Continue(Watch::Path { argument }) => {
                match caller.missing(data.args[argument], argument.checked_sub(1).map(|dir| data.args[dir])) {
                    Some(path) => What::Missing(path),
                    None => {
                        // A caller that is gone needs no answer: so below.
                        let _ = notify::let_through(listener, asked.id);
                        return None;
                    }
                }
            }
            Verdict::Refuse { errno, kill } => {
                // Every thread that glibc makes starts with a clone3(2): a refusal only where it asks for namespaces.
                let ordinary = nr == libc::SYS_clone3 && !caller.asks_for_namespaces(data.args[0]);
                if ordinary {
                    let _ = notify::answer(listener, asked.id, errno);
                    return None;
                }
                What::Denied(Denied {
                    call: rule.map_or("unknown", seccomp::Rule::name),
                    args: data.args,
                    errno,
                    killed: kill && caller.process.is_some(),
                    reason: match rule {
                        Some(_) if wants_network(nr, &data.args) => NO_NETWORK,
                        Some(rule) => rule.reason(),
                        None => "the filter stopped at it and no rule is about it",
                    },
                    by: caller.program(),
                })
            }
        };
        // Read of somebody else by now, where the caller died meanwhile and its number was given away.
        let known = notify::is_waiting(listener, asked.id);
        match verdict {
            Verdict::Continue(_) => drop(match nowhere {
                Some(errno) => notify::answer(listener, asked.id, errno as i32),
                None => notify::let_through(listener, asked.id),
            }),
            Verdict::Refuse { errno, kill } => {
                if kill && known {
                    caller.kill();
                }
                let _ = notify::answer(listener, asked.id, errno);
            }
            Verdict::Serve => {}
        }
        let (pid, parent) = if known { (caller.pid, caller.parent) } else { (0, 0) };
        // Its program is another one in a moment.
        let may_hold = verdict != Verdict::Continue(Watch::Exec) && known;
        if may_hold && (since != at || caller.is_alone()) {
            self.recent = Some((caller, since));
        }
        match (known, what) {
            (true, what) => Some(Report { at, pid, parent, what }),
            // That it was refused is so all the same.
            (false, What::Denied(denied)) => {
                Some(Report { at, pid, parent, what: What::Denied(Denied { by: None, ..denied }) })
            }
            (false, _) => None,
        }
    }
}

impl Notifier {
    /// Who asks. What is known of a process that is alive holds until it executes something, which is asked about; its
    /// parent may change, so it is not held for long.
    fn caller(&mut self, tid: u32, now: Instant) -> (Caller, Instant) {
        match self.recent.take() {
            Some((caller, since))
                if caller.tid == tid && now.duration_since(since) < RECENT && caller.is_alive() =>
            {
                (caller, since)
            }
            _ => (Caller::new(tid), now),
        }
    }
}

/// What [`Notifier::serve`] did.
#[derive(Debug)]
pub enum Served {
    /// Something happened inside, and was answered.
    Report(Report),
    /// Nothing to tell.
    Nothing,
    /// Nobody is left inside.
    Over,
}

impl Caller {
    /// The call, and what it fails with where its path leads nowhere.
    fn exec(&mut self, nr: libc::c_long, args: &[u64; 6]) -> (Exec, Option<Errno>) {
        let (path, argv) = if nr == libc::SYS_execveat { (args[1], args[2]) } else { (args[0], args[1]) };
        let mut exec = Exec {
            process: self.process.as_ref().and_then(|fd| fd.try_clone().ok()),
            path: Vec::new(),
            argv: Vec::new(),
            cut: false,
            cwd: self.link("cwd"),
            by: self.program(),
            found: Found::Unknown,
        };
        let Some(memory) = self.memory() else { return (exec, None) };
        let (path, whole) = memory.string(path, MAX_PATH);
        exec.path = path;
        let by_descriptor =
            nr == libc::SYS_execveat && args[0] as i32 != libc::AT_FDCWD && exec.path.first() != Some(&b'/');
        let mut nowhere = None;
        // An empty path has rules of its own.
        if whole && !by_descriptor && !exec.path.is_empty() {
            (exec.found, nowhere) = match self.look_up(&exec.path, exec.cwd.as_deref()) {
                Ok(found) => (found, None),
                Err(errno) => (Found::Nothing, Some(errno)),
            };
        }
        let mut left = MAX_ARGUMENTS_BYTES;
        for address in memory.pointers(argv, MAX_ARGUMENTS + 1) {
            if exec.argv.len() == MAX_ARGUMENTS || left == 0 {
                exec.cut = true;
                break;
            }
            let (argument, whole) = memory.string(address, MAX_ARGUMENT.min(left));
            exec.cut |= !whole;
            left -= argument.len();
            exec.argv.push(argument);
        }
        (exec, nowhere)
    }

    /// A path within the caller's root. Nothing is opened but a name (O_PATH).
    fn resolve(&self, inside: &Path) -> Result<OwnedFd, Errno> {
        self.open_within(inside, OFlag::empty())
    }

    fn open_within(&self, inside: &Path, also: OFlag) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root = format!("/proc/{}/root", self.tid);
        // Unreadable is not the same as not there.
        let root =
            open(root.as_str(), flags | OFlag::O_DIRECTORY, Mode::empty()).map_err(|_| Errno::EACCES)?;
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        openat2(root, inside, OpenHow::new().flags(flags | also).resolve(resolve))
    }

    /// Where a program's path leads; what execve(2) fails with where it leads nowhere.
    fn look_up(&self, path: &[u8], cwd: Option<&Path>) -> Result<Found, Errno> {
        let given = Path::new(OsStr::from_bytes(path));
        let inside = match cwd {
            _ if given.is_absolute() => given.to_owned(),
            Some(cwd) if self.is_there(cwd) => cwd.join(given),
            _ => return Ok(Found::Unknown),
        };
        match self.resolve(&inside) {
            Ok(file) => {
                let Ok(stat) = fstat(&file) else { return Ok(Found::Unknown) };
                let is_program =
                    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() && stat.st_mode & 0o111 != 0;
                if !is_program {
                    return Err(Errno::EACCES);
                }
                Ok(std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
                    .map_or(Found::Unknown, Found::Program))
            }
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) if !self.leads_to_proc(&inside) => Err(errno),
            Err(_) => Ok(Found::Unknown),
        }
    }

    /// Whether a path that leads nowhere does so by way of /proc, which shows its reader: another one may find something
    /// there. What cannot be told counts as yes.
    fn leads_to_proc(&self, path: &Path) -> bool {
        let mut rest: VecDeque<OsString> =
            path.components().map(|part| part.as_os_str().to_owned()).collect();
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            if next.starts_with("/proc") {
                return true;
            }
            let Ok(file) = self.open_within(&next, OFlag::O_NOFOLLOW) else { return false };
            match readlinkat(&file, "") {
                Ok(to) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return true;
                    }
                    let to = PathBuf::from(to);
                    if to.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    for part in to.components().rev() {
                        rest.push_front(part.as_os_str().to_owned());
                    }
                }
                // No link.
                Err(_) => at = next,
            }
        }
        false
    }

    /// Whether the path of its working directory leads there: one that was removed has none.
    fn is_there(&self, cwd: &Path) -> bool {
        let id = |stat: libc::stat| (stat.st_dev, stat.st_ino);
        let real = stat(format!("/proc/{}/cwd", self.tid).as_str());
        let named = self.resolve(cwd).and_then(fstat);
        matches!((real, named), (Ok(real), Ok(named)) if id(real) == id(named))
    }

    /// The full path where nothing is at one that was given, beneath `dir` or the working directory.
    fn missing(&self, path: u64, dir: Option<u64>) -> Option<PathBuf> {
        let (path, whole) = self.memory()?.string(path, MAX_PATH);
        let given = Path::new(OsStr::from_bytes(&path));
        if !whole || path.is_empty() {
            return None;
        }
        let inside = match dir.map(|dir| dir as i32).filter(|dir| *dir != libc::AT_FDCWD) {
            _ if given.is_absolute() => given.to_owned(),
            Some(dir) => self.link(&format!("fd/{dir}"))?.join(given),
            None => self.link("cwd")?.join(given),
        };
        let gone = matches!(self.resolve(&inside), Err(Errno::ENOENT | Errno::ENOTDIR));
        (gone && !inside.starts_with("/proc")).then_some(inside)
    }

    fn address(&self, at: u64, len: u64) -> Address {
        let Some(memory) = self.memory() else { return Address::Unknown };
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(MAX_ADDRESS).min(MAX_ADDRESS)];
        match memory.read(at, &mut bytes) {
            Some(read) if read == bytes.len() => address(&bytes),
            _ => Address::Unknown,
        }
    }

    /// Whether the flags of a clone3(2), the first field of its arguments, ask for a namespace. Unreadable counts as yes.
    fn asks_for_namespaces(&self, at: u64) -> bool {
        let mut flags = [0; 8];
        let read = self.memory().and_then(|memory| memory.read(at, &mut flags));
        read != Some(8) || seccomp::makes_namespaces(u64::from_le_bytes(flags))
    }
}

fn address(bytes: &[u8]) -> Address {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    let Some((family, rest)) = bytes.split_first_chunk::<2>() else { return Address::Unknown };
    let family = u16::from_le_bytes(*family);
    let port = |rest: &[u8]| rest.first_chunk::<2>().map(|p| u16::from_be_bytes(*p));
    match i32::from(family) {
        libc::AF_INET => {
            let ip = rest.get(2..6).and_then(|b| <[u8; 4]>::try_from(b).ok());
            match (port(rest), ip) {
                (Some(port), Some(ip)) => Address::Inet(SocketAddr::from((Ipv4Addr::from(ip), port))),
                _ => Address::Unknown,
            }
        }
        libc::AF_INET6 => {
            let ip = rest.get(6..22).and_then(|b| <[u8; 16]>::try_from(b).ok());
            match (port(rest), ip) {
                (Some(port), Some(ip)) => Address::Inet(SocketAddr::from((Ipv6Addr::from(ip), port))),
                _ => Address::Unknown,
            }
        }
        libc::AF_UNIX => {
            let path = rest;
            let end = match path.first() {
                None => 0,
                Some(0) => path.len(),
                Some(_) => path.iter().position(|b| *b == 0).unwrap_or(path.len()),
            };
            Address::Unix(path[..end].to_vec())
        }
        _ => Address::Other(family),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let inet = [2, 0, 0x01, 0xbb, 93, 184, 216, 34, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(address(&inet), Address::Inet("93.184.216.34:443".parse().unwrap()));
        let mut inet6 = vec![10, 0, 0, 53, 0, 0, 0, 0];
        inet6.extend([0; 15]);
        inet6.extend([1, 0, 0, 0, 0]);
        assert_eq!(address(&inet6), Address::Inet("[::1]:53".parse().unwrap()));
        assert_eq!(address(b"\x01\0/run/x.sock\0junk"), Address::Unix(b"/run/x.sock".to_vec()));
        assert_eq!(address(b"\x01\0\0name"), Address::Unix(b"\0name".to_vec()));
        assert_eq!(address(&[40, 0, 1, 2]), Address::Other(40));
        for short in [&[][..], &[2], &[2, 0, 1, 187, 1], &[10, 0, 0, 53, 0, 0, 0, 0, 1]] {
            assert_eq!(address(short), Address::Unknown);
        }
    }
}
