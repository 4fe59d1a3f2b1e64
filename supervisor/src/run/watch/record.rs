//! The bounded record of one sandbox: programs executed, calls refused, connections tried. Everything in it comes from
//! hostile hands but the numbers of processes and what /proc said of them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proctor_sandbox::notify::{Address, Denied, Exec, Found, Report, What};
use rustix::event::{PollFd, PollFlags, poll};

use super::refused::Known;
use super::seen::{Denial, End, ProgramRun, Target, Tried, Watched};

/// Programs that are kept; more are counted.
const MAX_PROGRAMS: usize = 50_000;
/// Bytes of text kept of all programs together.
const MAX_BYTES: usize = 32 << 20;
/// Longest path that is kept.
pub(super) const MAX_PATH: usize = 1024;
/// Refused calls that are told apart, by call, program and outcome; more are counted.
pub(super) const MAX_DENIALS: usize = 100;
/// Addresses that are told apart, by program; more are counted.
pub(super) const MAX_TARGETS: usize = 100;
/// Names along a search path that were looked for in vain and are remembered.
const MAX_MISSES: usize = 1000;
/// Generations that are climbed to find the program that a process comes from.
const MAX_CLIMB: usize = 8;
/// When the program of a process is looked at after its execve(2): early, for those that live a moment only.
const LOOKS: [Duration; 4] = [
    Duration::from_micros(300),
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(20),
];
/// Looks that are due at once.
const MAX_LOOKS: usize = 256;

/// A process that executed something and is not known to be over.
struct Live {
    pid: u32,
    process: OwnedFd,
    /// Its program.
    program: Option<usize>,
    /// An execve(2) whose path led nowhere when it was looked at, and the program before it. What came of it is seen
    /// later.
    doubt: Option<(ProgramRun, Option<PathBuf>)>,
    /// Number of its latest execve(2).
    call: u64,
    /// It ended, and was not reaped.
    exited: Option<Instant>,
}

struct Look {
    due: Instant,
    key: u64,
    call: u64,
    start: Instant,
    by: Option<PathBuf>,
    number: usize,
}

/// The program that the sandbox was started for: its process cannot be looked into before it is executed.
pub(super) struct Main {
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Working directory.
    pub cwd: PathBuf,
}

/// The record under construction.
pub(super) struct Record {
    pub(super) watched: Watched,
    live: HashMap<u64, Live>,
    keys: HashMap<u32, u64>,
    next: u64,
    main: Main,
    main_pid: Option<u32>,
    /// The sandbox is being built: only then does its process show nothing of its call.
    starting: bool,
    room: usize,
    bytes: usize,
    init: Option<u32>,
    denials: HashMap<(&'static str, bool, Option<PathBuf>), usize>,
    tried: HashMap<(Target, Option<PathBuf>), usize>,
    pub(super) known_refusals: Known,
    looks: VecDeque<Look>,
}

pub(super) fn clip(mut bytes: Vec<u8>, most: usize) -> Vec<u8> {
    bytes.truncate(most);
    bytes
}

pub(super) fn clip_path(path: Option<PathBuf>) -> Option<PathBuf> {
    let bytes = clip(path?.into_os_string().into_vec(), MAX_PATH);
    Some(OsString::from_vec(bytes).into())
}

/// Whether a process is over, reaped or not.
fn is_over(process: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
}

/// Whether two pidfds are of one process: each has an inode of its own (Linux 6.9; before that all count as one).
fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => one.st_ino == other.st_ino,
        _ => false,
    }
}

fn exe(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

fn parent_of(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses is the process's own choice.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

impl Record {
    pub(super) fn new(main: Main, room: usize) -> Self {
        Self {
            watched: Watched::default(),
            live: HashMap::new(),
            keys: HashMap::new(),
            next: 1,
            main,
            main_pid: None,
            starting: true,
            room,
            bytes: 0,
            init: None,
            denials: HashMap::new(),
            tried: HashMap::new(),
            known_refusals: Known::default(),
            looks: VecDeque::new(),
        }
    }

    pub(super) fn lost(&mut self, count: u64) {
        self.watched.lost = count;
    }

    /// Takes a report. Gives the process whose end is to be told under the number.
    pub(super) fn take(&mut self, report: Report) -> Option<(u64, OwnedFd)> {
        let Report { at, pid, parent, what } = report;
        match what {
            What::Exec(exec) => self.exec(at, pid, parent, exec),
            What::Connect { to, by } => {
                self.connect(at, pid, to, by);
                None
            }
            What::Missing(path) => {
                self.missing(path);
                None
            }
            What::Denied(denied) => {
                self.denied(at, pid, denied);
                None
            }
        }
    }

    fn exec(&mut self, at: Instant, pid: u32, parent_pid: u32, exec: Exec) -> Option<(u64, OwnedFd)> {
        let Exec { process, path, argv, cut, cwd, by, found } = exec;
        self.init.get_or_insert(parent_pid);
        self.settle(pid, process.as_ref().map(AsFd::as_fd), by.as_deref());
        // Before its first program a sandbox's process shows nothing of itself to its own user. Which of its attempts
        // was the last is known when the sandbox stands. Afterwards an empty call is its own, and not what was asked for.
        let first = *self.main_pid.get_or_insert(pid) == pid;
        let is_main = self.starting && first && path.is_empty() && argv.is_empty();
        let missing = found == Found::Nothing || is_main;
        let (path, argv, cwd) = if is_main {
            (
                self.main.argv.first().cloned().unwrap_or_default(),
                self.main.argv.clone(),
                Some(self.main.cwd.clone()),
            )
        } else {
            (path, argv, cwd)
        };
        let resolved = match found {
            Found::Program(path) => Some(path),
            Found::Nothing | Found::Unknown => None,
        };
        let program = ProgramRun {
            pid,
            parent_pid,
            parent: self.parent(parent_pid),
            path: clip(path, MAX_PATH),
            argv,
            cut,
            cwd: clip_path(cwd),
            found: !missing,
            resolved: clip_path(resolved),
            observed: None,
            start: at,
            end: None,
            end_as: End::Unknown,
        };
        let known = self.keys.get(&pid).copied();
        let (key, new) = match (known, process) {
            (Some(key), _) => (key, None),
            (None, Some(process)) if self.live.len() < self.room => {
                let Ok(again) = process.try_clone() else {
                    if !missing {
                        self.keep(program);
                    }
                    return None;
                };
                let key = self.number();
                self.keys.insert(pid, key);
                let live = Live { pid, process, program: None, doubt: None, call: 0, exited: None };
                self.live.insert(key, live);
                (key, Some((key, again)))
            }
            // Gone already, or too many at once: it is told of without its end.
            (None, _) => {
                if missing {
                    self.missed(&program);
                } else {
                    self.keep(program);
                }
                return None;
            }
        };
        let call = self.number();
        if let Some(live) = self.live.get_mut(&key) {
            live.call = call;
            if missing {
                live.doubt = Some((program, by.clone()));
            } else {
                self.executed(key, program, at);
            }
        }
        if self.looks.len() < MAX_LOOKS {
            self.looks.push_back(Look { due: at + LOOKS[0], key, call, start: at, by, number: 0 });
        }
        new
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// The sandbox's own process.
    pub(super) fn main(&self) -> Option<u32> {
        self.main_pid
    }

    /// The sandbox stands: the last attempt of its own process was the program.
    pub(super) fn started(&mut self) {
        self.starting = false;
        let key = self.main_pid.and_then(|pid| self.keys.get(&pid).copied());
        let Some(key) = key else { return };
        let doubt =
            self.live.get_mut(&key).filter(|live| live.program.is_none()).and_then(|live| live.doubt.take());
        if let Some((mut program, _)) = doubt {
            program.found = true;
            let at = program.start;
            self.executed(key, program, at);
        }
    }

    /// A process's next program: the one before it ends.
    fn executed(&mut self, key: u64, program: ProgramRun, at: Instant) {
        let index = self.keep(program);
        let Some(live) = self.live.get_mut(&key) else { return };
        if let Some(before) = live.program.take()
            && let Some(before) = self.watched.programs.get_mut(before)
        {
            before.end = Some(at);
            before.end_as = End::Replaced;
        }
        live.program = index;
    }

    /// What is known of a process's earlier calls once it makes another one, with `by` as its program.
    fn settle(&mut self, pid: u32, process: Option<BorrowedFd<'_>>, by: Option<&Path>) {
        let Some(key) = self.keys.get(&pid).copied() else { return };
        let Some(live) = self.live.get_mut(&key) else { return };
        if process.is_some_and(|process| !same(process, live.process.as_fd())) {
            // Its number was given to another process: its own end is told in a moment, under the old key.
            self.keys.remove(&pid);
            return;
        }
        match live.doubt.take() {
            Some((program, before)) if before.as_deref() == by => self.missed(&program),
            Some((mut program, _)) => {
                program.observed = clip_path(by.map(Path::to_owned));
                let at = program.start;
                self.executed(key, program, at);
            }
            None => {
                // Where it is another file than the call's, the call may have failed and this be the program before it.
                if let Some(program) = live.program.and_then(|p| self.watched.programs.get_mut(p))
                    && program.observed.is_none()
                    && program.resolved.as_deref() == by
                {
                    program.observed = clip_path(by.map(Path::to_owned));
                }
            }
        }
    }

    /// A path that is not inside is worth a word where the host has it. A program that looks for names at random learns
    /// nothing by that: it is not answered.
    fn missing(&mut self, path: PathBuf) {
        if self.watched.wanted.contains(&path) || path.as_os_str().len() > MAX_PATH {
            return;
        }
        if std::fs::symlink_metadata(&path).is_err() {
            return;
        }
        if self.watched.wanted.len() < MAX_MISSES {
            self.watched.wanted.insert(path);
        } else {
            self.watched.wanted_left_out += 1;
        }
    }

    fn missed(&mut self, program: &ProgramRun) {
        self.watched.look_ups += 1;
        self.remember(program);
    }

    fn remember(&mut self, program: &ProgramRun) {
        let path = Path::new(OsStr::from_bytes(&program.path));
        let own = Some(program.pid) == self.main_pid && program.argv == self.main.argv;
        if !own && self.watched.misses.len() < MAX_MISSES && !self.watched.misses.contains(path) {
            self.watched.misses.insert(path.to_owned());
        }
    }

    /// Where the program stands, if there is room for it.
    fn keep(&mut self, program: ProgramRun) -> Option<usize> {
        let text = |path: &Option<PathBuf>| path.as_ref().map_or(0, |p| p.as_os_str().len());
        let argv: usize = program.argv.iter().map(|a| a.len() + size_of::<Vec<u8>>()).sum();
        let bytes = program.path.len() + argv + text(&program.cwd) + text(&program.resolved) + MAX_PATH / 4;
        if self.watched.programs.len() >= MAX_PROGRAMS || self.bytes + bytes > MAX_BYTES {
            self.watched.programs_left_out += 1;
            return None;
        }
        self.bytes += bytes;
        self.watched.programs.push(program);
        Some(self.watched.programs.len() - 1)
    }

    /// The program that a process is, or comes from.
    pub(super) fn parent(&self, pid: u32) -> Option<usize> {
        let mut pid = pid;
        for _ in 0..MAX_CLIMB {
            if let Some(live) = self.keys.get(&pid).and_then(|key| self.live.get(key)) {
                return live.program;
            }
            if pid <= 1 || Some(pid) == self.init {
                return None;
            }
            pid = parent_of(pid)?;
        }
        None
    }

    pub(super) fn argv0(&self, span: Option<usize>) -> Option<Vec<u8>> {
        let program = self.watched.programs.get(span?)?;
        program.argv.first().map(|a| clip(a.clone(), 256))
    }

    fn denied(&mut self, at: Instant, pid: u32, denied: Denied) {
        self.watched.denied += 1;
        let Denied { call, args, killed, reason, ref by, .. } = denied;
        let program = clip_path(by.clone());
        match self.denials.entry((call, killed, program)) {
            Entry::Occupied(known) => {
                let denial = &mut self.watched.denials[*known.get()];
                denial.count += 1;
                denial.last = at;
            }
            Entry::Vacant(_) if self.watched.denials.len() >= MAX_DENIALS => {
                self.watched.denials_left_out += 1;
            }
            Entry::Vacant(new) => {
                let program = new.key().2.clone();
                new.insert(self.watched.denials.len());
                let span = self.parent(pid);
                self.watched.denials.push(Denial {
                    call,
                    reason,
                    errno: denied.errno_name(),
                    killed,
                    program,
                    argv0: self.argv0(span),
                    pid,
                    span,
                    args,
                    count: 1,
                    first: at,
                    last: at,
                });
            }
        }
    }

    fn connect(&mut self, at: Instant, pid: u32, address: Address, by: Option<PathBuf>) {
        self.watched.connects += 1;
        let target = match address {
            Address::Inet(address) => Target::Inet(address),
            Address::Unix(name) => Target::Unix(clip(name, 108)),
            Address::Other(family) => Target::Other(family),
            Address::Unknown => Target::Unknown,
        };
        match self.tried.entry((target, clip_path(by))) {
            Entry::Occupied(known) => {
                let tried = &mut self.watched.tried[*known.get()];
                tried.count += 1;
                tried.last = at;
            }
            Entry::Vacant(_) if self.watched.tried.len() >= MAX_TARGETS => self.watched.tried_left_out += 1,
            Entry::Vacant(new) => {
                let (target, program) = new.key().clone();
                new.insert(self.watched.tried.len());
                let span = self.parent(pid);
                let argv0 = self.argv0(span);
                let tried = Tried { target, program, argv0, pid, span, count: 1, first: at, last: at };
                self.watched.tried.push(tried);
            }
        }
    }

    /// The end of a process will not be told.
    pub(super) fn unobserved(&mut self, key: u64) {
        if let Some(live) = self.live.remove(&key) {
            self.forget(&live, key);
            if let Some((doubt, _)) = live.doubt {
                self.missed(&doubt);
            }
        }
    }

    fn forget(&mut self, live: &Live, key: u64) {
        if self.keys.get(&live.pid) == Some(&key) {
            self.keys.remove(&live.pid);
        }
    }

    /// A process ended, or was reaped, which is when its status can be read.
    pub(super) fn ended(
        &mut self,
        key: u64,
        now: Instant,
        reaped: bool,
        status: impl Fn(BorrowedFd<'_>) -> Option<i32>,
    ) {
        let Some(live) = self.live.get_mut(&key) else { return };
        let at = *live.exited.get_or_insert(now);
        let status = status(live.process.as_fd());
        if status.is_some() || reaped {
            self.over(key, at, status);
        }
    }

    fn over(&mut self, key: u64, at: Instant, status: Option<i32>) {
        let Some(live) = self.live.remove(&key) else { return };
        self.forget(&live, key);
        let end_as = status.map_or(End::Unknown, |status| match (status & 0x7f, status >> 8 & 0xff) {
            (0, code) => End::Exited(code),
            (signal, _) => End::Killed(signal),
        });
        if let Some(program) = live.program.and_then(|p| self.watched.programs.get_mut(p)) {
            program.end = Some(at);
            program.end_as = end_as;
        }
        if let Some((mut doubt, _)) = live.doubt {
            doubt.end = Some(at);
            // With no program of its own before it, the status says what became of the call.
            let own = live.program.is_none();
            doubt.end_as = if own && end_as != End::Unknown { end_as } else { End::NotFound };
            self.remember(&doubt);
            self.keep(doubt);
        }
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.looks.iter().map(|look| look.due).min()
    }

    /// Looks at programs shortly after their call.
    pub(super) fn look(&mut self, now: Instant) {
        for _ in 0..self.looks.len() {
            let Some(look) = self.looks.pop_front() else { return };
            if look.due > now {
                self.looks.push_back(look);
                continue;
            }
            self.look_at(look);
        }
    }

    fn look_at(&mut self, look: Look) {
        let Some(live) = self.live.get_mut(&look.key) else { return };
        if live.call != look.call || live.exited.is_some() {
            return;
        }
        let known =
            live.program.and_then(|p| self.watched.programs.get(p)).is_some_and(|p| p.observed.is_some());
        if live.doubt.is_none() && known {
            return;
        }
        let seen = exe(live.pid);
        // Whose link that was is sure only while the process is there.
        if seen.is_none() || is_over(live.process.as_fd()) {
            return;
        }
        let next = look.number + 1;
        if seen == look.by && next < LOOKS.len() {
            // Still before the change, or the same program once more.
            let due = look.start + LOOKS[next];
            self.looks.push_back(Look { due, number: next, ..look });
            return;
        }
        if seen != look.by
            && let Some((program, _)) = live.doubt.take()
        {
            let at = program.start;
            self.executed(look.key, program, at);
        }
        let program =
            self.live.get(&look.key).filter(|live| live.doubt.is_none()).and_then(|live| live.program);
        if let Some(program) = program.and_then(|p| self.watched.programs.get_mut(p)) {
            program.observed = clip_path(seen);
        }
    }

    /// Gives up on ends that cannot be had.
    pub(super) fn sweep(&mut self, now: Instant, limit: Duration, gone: impl Fn(BorrowedFd<'_>) -> bool) {
        let over: Vec<(u64, Instant)> = self
            .live
            .iter()
            .filter_map(|(key, live)| Some((*key, live.exited?, live)))
            .filter(|(_, at, live)| now.duration_since(*at) >= limit && gone(live.process.as_fd()))
            .map(|(key, at, _)| (key, at))
            .collect();
        for (key, at) in over {
            self.over(key, at, None);
        }
    }

    /// Every process that was told of is over.
    pub(super) fn is_settled(&self) -> bool {
        self.live.is_empty()
    }

    /// What was seen. The sandbox is dead.
    pub(super) fn finish(mut self, now: Instant) -> Watched {
        let left: Vec<(u64, Instant)> =
            self.live.iter().map(|(key, live)| (*key, live.exited.unwrap_or(now))).collect();
        for (key, at) in left {
            self.over(key, at, None);
        }
        self.watched
    }
}
