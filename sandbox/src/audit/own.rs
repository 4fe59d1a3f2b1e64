//! Which audit records are one sandbox's own. A record of a refusal names a Landlock domain by number; the first refusal
//! of each domain is followed by a record of who made it: process and user.
//!
//! The program's own process is refused something before it executes anything: its check of itself, which it cannot
//! do without ([`crate::child`]). The domain that is refused *that*, made by the process and the host uid that are
//! this sandbox's alone, is the sandbox's. A domain that a program inside makes for itself comes later, and is nobody's
//! policy here; other sandboxes and other programs of the host have other users or processes. Where the record of the
//! check was lost, nothing is taken for the sandbox's.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::record::{Access, Record, Stamp};
use crate::spec::Level;

/// Refusals that are kept until it is known whose they are. The record of the maker follows at once.
const MAX_CANDIDATES: usize = 256;
/// Refusals that wait for the end of their system call, which says who called.
const MAX_PENDING: usize = 256;
/// How long they wait: where the kernel does not trace calls no such record comes.
const PATIENCE: Duration = Duration::from_millis(200);

/// Whose records are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maker {
    /// The process that executed the sandbox's program, as the initial pid namespace numbers it.
    pub pid: u32,
    /// The host uid that no other live sandbox or user has.
    pub uid: u32,
    /// The sandbox's level.
    pub level: Level,
}

/// Something that Landlock refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The rights that were missing, by the kernel's names (`fs.read_file`), in its order.
    pub blockers: Vec<String>,
    /// Of what.
    pub object: Object,
    /// The calling process; `None` where the kernel did not say.
    pub pid: Option<u32>,
    /// Its program likewise.
    pub program: Option<PathBuf>,
}

/// What was reached for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Object {
    /// A path as the sandbox sees it; of something to be made or removed, the directory.
    Path(Vec<u8>),
    /// A TCP port, with the address where there is one.
    Port(Option<IpAddr>, u16),
    /// A signal to this process of the host.
    Signal(Option<u32>),
    /// A trace of this process of the host.
    Trace(Option<u32>),
    /// An abstract Unix socket, its name behind a NUL byte; empty where it is not known.
    Socket(Vec<u8>),
    /// Something else, or without a name.
    Other,
}

/// The records of one sandbox, told apart from all others.
#[derive(Debug)]
pub struct Own {
    maker: Maker,
    domain: Option<u64>,
    /// Too late to be sure.
    blind: bool,
    candidates: VecDeque<(u64, Stamp, Access)>,
    /// The sandbox's refusals of itself that are still to come.
    checks: VecDeque<Check>,
    checked: u64,
    pending: VecDeque<(Stamp, Instant, Refused)>,
    told: u64,
    denials: Option<u64>,
    lost: bool,
}

/// A refusal by which a sandbox checks itself (`child::program::verify`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// A directory in /dev.
    MakeInDev,
    /// A listing of the root directory.
    ListRoot,
    /// A signal to init.
    Signal,
}

impl Check {
    fn fits(self, access: &Access) -> bool {
        let (blocker, path): (_, Option<&[u8]>) = match self {
            Self::MakeInDev => ("fs.make_dir", Some(b"/dev")),
            Self::ListRoot => ("fs.read_dir", Some(b"/")),
            Self::Signal => ("scope.signal", None),
        };
        access.blockers == [blocker] && access.path.as_deref() == path
    }
}

impl Own {
    /// Nothing is known yet.
    pub fn new(maker: Maker) -> Self {
        let checks = match maker.level {
            Level::Full => vec![Check::MakeInDev],
            Level::Landlock => vec![Check::ListRoot, Check::Signal],
        };
        Self {
            maker,
            domain: None,
            blind: false,
            candidates: VecDeque::new(),
            checks: checks.into(),
            checked: 0,
            pending: VecDeque::new(),
            told: 0,
            denials: None,
            lost: false,
        }
    }

    /// The sandbox's own domain was seen: what it refuses is told from now on.
    pub fn is_known(&self) -> bool {
        self.domain.is_some()
    }

    /// The domain is gone: no record of it comes any more.
    pub fn is_over(&self) -> bool {
        self.denials.is_some()
    }

    /// Refusals that were told; those by which the sandbox checked itself are not counted.
    pub fn told(&self) -> u64 {
        self.told + self.pending.len() as u64
    }

    /// Refusals that the kernel counted and of which no record came; `None` where it did not say how many there were.
    pub fn untold(&self) -> Option<u64> {
        Some(self.denials?.saturating_sub(self.told()).saturating_sub(self.checked))
    }

    /// Records were lost, or could not be read.
    pub fn has_lost(&self) -> bool {
        self.lost
    }

    /// Records were lost. One of the domain's maker may have been among them.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.blind |= self.domain.is_none();
    }

    /// A record could not be read.
    pub(super) fn unreadable(&mut self) {
        self.lost = true;
    }

    /// Takes a record. What it completes is appended to `refused`.
    pub(super) fn take(&mut self, record: Record, now: Instant, refused: &mut Vec<Refused>) {
        match record {
            Record::Access { stamp, domain, access } => match self.domain {
                Some(own) if own == domain => self.accept(stamp, access, now, refused),
                Some(_) => {}
                None => {
                    if self.candidates.len() == MAX_CANDIDATES {
                        self.candidates.pop_front();
                    }
                    self.candidates.push_back((domain, stamp, access));
                }
            },
            Record::Made { domain, pid, uid } => self.made(domain, pid, uid, now, refused),
            Record::Gone { domain, denials } if Some(domain) == self.domain => self.denials = Some(denials),
            Record::Gone { .. } => {}
            Record::Call { stamp, pid, exe } => {
                let program = exe.map(|exe| PathBuf::from(OsString::from_vec(exe)));
                let mut kept = VecDeque::with_capacity(self.pending.len());
                for (of, since, mut one) in self.pending.drain(..) {
                    if of == stamp {
                        one.pid = Some(pid);
                        one.program.clone_from(&program);
                        self.told += 1;
                        refused.push(one);
                    } else {
                        kept.push_back((of, since, one));
                    }
                }
                self.pending = kept;
            }
        }
    }

    fn made(&mut self, domain: u64, pid: u32, uid: u32, now: Instant, refused: &mut Vec<Refused>) {
        if self.domain.is_some() || self.blind || (pid, uid) != (self.maker.pid, self.maker.uid) {
            return;
        }
        // Its first refusal must be the check: any other domain of this process was made by its program.
        let first = self.candidates.iter().find(|(of, ..)| *of == domain);
        let check = self.checks.front();
        if !first.zip(check).is_some_and(|((.., access), check)| check.fits(access)) {
            return;
        }
        self.domain = Some(domain);
        for (of, stamp, access) in std::mem::take(&mut self.candidates) {
            if of == domain {
                self.accept(stamp, access, now, refused);
            }
        }
    }

    fn accept(&mut self, stamp: Stamp, access: Access, now: Instant, refused: &mut Vec<Refused>) {
        if let Some(check) = self.checks.pop_front()
            && check.fits(&access)
        {
            self.checked += 1;
            return;
        }
        self.checks.clear();
        if self.pending.len() == MAX_PENDING
            && let Some((.., oldest)) = self.pending.pop_front()
        {
            self.told += 1;
            refused.push(oldest);
        }
        self.pending.push_back((stamp, now, access.into()));
    }

    /// Gives what has waited long enough for the end of its call, or with `all` everything that waits.
    pub fn flush(&mut self, now: Instant, all: bool) -> Vec<Refused> {
        let mut refused = Vec::new();
        while let Some((_, since, _)) = self.pending.front()
            && (all || now.duration_since(*since) >= PATIENCE)
            && let Some((.., one)) = self.pending.pop_front()
        {
            self.told += 1;
            refused.push(one);
        }
        refused
    }
}

impl From<Access> for Refused {
    fn from(access: Access) -> Self {
        let Access { blockers, path, name, pid, address, port } = access;
        let of = |prefix: &str| blockers.iter().any(|one| one.starts_with(prefix));
        let object = if of("fs.") {
            path.or(name).map_or(Object::Other, Object::Path)
        } else if of("net.") {
            port.map_or(Object::Other, |port| Object::Port(address, port))
        } else if of("scope.signal") {
            Object::Signal(pid)
        } else if of("scope.abstract_unix_socket") {
            Object::Socket(path.unwrap_or_default())
        } else if of("ptrace") {
            Object::Trace(pid)
        } else {
            Object::Other
        };
        Self { blockers, object, pid: None, program: None }
    }
}

#[cfg(test)]
#[path = "own_tests.rs"]
mod tests;
