//! What Landlock refused in one sandbox, by the kernel's audit (sandbox's `audit`): heard where the host gives it, kept
//! bounded, and told to report, events, trace and remedies. What is heard is true, and may be less than all.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proctor_sandbox::audit::{Maker, Object, Own, Reader, Refused};
use proctor_sandbox::spec::Level;

use super::record::{MAX_DENIALS, Record, clip, clip_path};
use super::seen::{Heard, Refusal, Watched};

/// Records that are taken at one look: whoever asks meanwhile does not wait for long.
const AT_ONCE: usize = 64;
/// Records of the last look: more than the socket's buffer holds.
const AT_LAST: usize = 100_000;
/// Programs among which the one that was refused something is looked for.
const RECENT: usize = 512;
/// How long the kernel may take to say that a dead sandbox's domain is gone.
pub(super) const DOMAIN_GONE: Duration = Duration::from_millis(300);

/// Who listens to the host's audit, for one sandbox.
pub(in crate::run) struct Ear {
    /// The reader, or why there is none.
    pub reader: Result<Reader, String>,
    /// The sandbox's host uid.
    pub uid: u32,
    /// Its level.
    pub level: Level,
}

impl Ear {
    /// Begins to listen: before the sandbox is started.
    pub(in crate::run) fn open(uid: u32, level: Level) -> Self {
        // By its uid a sandbox's records are told from those of everybody else.
        let reader = if rustix::process::geteuid().is_root() {
            Reader::open().map_err(|why| why.to_string())
        } else {
            Err("reading the kernel's audit records needs CAP_AUDIT_READ, and telling a sandbox's own from those of its user's other programs a host uid of its own: root has both".to_owned())
        };
        Self { reader, uid, level }
    }

    /// Whether anything may be heard.
    pub(in crate::run) fn hears(&self) -> bool {
        self.reader.is_ok()
    }
}

/// The listening, once the sandbox's program runs.
pub(super) struct Listening {
    reader: Result<Reader, String>,
    own: Option<Own>,
    maker: (u32, Level),
}

impl Listening {
    pub(super) fn new(ear: Ear) -> Self {
        Self { reader: ear.reader, own: None, maker: (ear.uid, ear.level) }
    }

    /// The process that executed the program. Gives what is readable when there is something to hear: records from
    /// before wait in it.
    pub(super) fn begin(&mut self, main: Option<u32>) -> Option<BorrowedFd<'_>> {
        let (uid, level) = self.maker;
        match (main, &self.reader) {
            (Some(pid), Ok(_)) => self.own = Some(Own::new(Maker { pid, uid, level })),
            (None, Ok(_)) => self.reader = Err("the sandbox's own process was not seen".to_owned()),
            (_, Err(_)) => {}
        }
        self.reader.as_ref().ok().map(Reader::socket)
    }

    /// Nothing more is to be heard.
    pub(super) fn give_up(&mut self, why: String) {
        self.reader = Err(why);
    }

    fn take(&mut self, record: &mut Record, most: usize, now: Instant) {
        let (Ok(reader), Some(own)) = (&mut self.reader, &mut self.own) else { return };
        let mut refused = Vec::new();
        let read = reader.read(own, most, now, &mut refused);
        refused.into_iter().for_each(|one| record.refused(now, one));
        if let Err(errno) = read {
            self.reader = Err(format!("reading the kernel's audit records failed: {errno}"));
        }
    }

    /// Takes some of what waits.
    pub(super) fn listen(&mut self, record: &mut Record, now: Instant) {
        self.take(record, AT_ONCE, now);
    }

    /// Gives up waiting for who called where that does not come.
    pub(super) fn sweep(&mut self, record: &mut Record, now: Instant) {
        if let Some(own) = &mut self.own {
            own.flush(now, false).into_iter().for_each(|one| record.refused(now, one));
        }
    }

    /// Nothing more of this sandbox comes.
    pub(super) fn is_over(&self) -> bool {
        self.reader.is_err() || self.own.as_ref().is_none_or(Own::is_over)
    }

    /// The sandbox is dead: what was heard, or why nothing was, goes into its record.
    pub(super) fn finish(mut self, record: &mut Record, now: Instant) {
        self.take(record, AT_LAST, now);
        if let Some(own) = &mut self.own {
            own.flush(now, true).into_iter().for_each(|one| record.refused(now, one));
        }
        match self.result() {
            Ok(heard) => record.watched.heard = Some(heard),
            Err(why) => record.watched.unheard = why,
        }
    }

    fn result(self) -> Result<Heard, String> {
        self.reader?;
        let own = self.own.ok_or("the sandbox ended before it was listened to")?;
        if !own.is_known() {
            let lost = if own.has_lost() { ": records were lost" } else { "" };
            return Err(format!("audit is on, and no record came of the sandbox's check of itself{lost}"));
        }
        Ok(Heard { untold: own.untold(), lost: own.has_lost() })
    }
}

/// Refusals that are told apart.
#[derive(Default)]
pub(super) struct Known(HashMap<(Vec<String>, Object, Option<PathBuf>), usize>);

impl Record {
    /// The latest span of this process in which it was this program: records come late, and it may be over by now.
    fn ran(&self, pid: u32, program: Option<&Path>) -> Option<usize> {
        let program = program?;
        let first = self.watched.programs.len().saturating_sub(RECENT);
        let is = |path: &Option<PathBuf>| path.as_deref() == Some(program);
        let latest = self.watched.programs[first..]
            .iter()
            .rposition(|run| run.pid == pid && (is(&run.observed) || is(&run.resolved)))?;
        Some(first + latest)
    }

    /// Something that Landlock refused.
    pub(super) fn refused(&mut self, at: Instant, refused: Refused) {
        let Refused { blockers, object, pid, program } = refused;
        self.watched.refused += 1;
        let object = match object {
            Object::Path(path) => Object::Path(clip(path, super::record::MAX_PATH)),
            Object::Socket(name) => Object::Socket(clip(name, 108)),
            other => other,
        };
        let key = (blockers, object, clip_path(program));
        if let Some(known) = self.known_refusals.0.get(&key) {
            let known = &mut self.watched.refusals[*known];
            known.count += 1;
            known.last = at;
            return;
        }
        if self.watched.refusals.len() >= MAX_DENIALS {
            self.watched.refusals_left_out += 1;
            return;
        }
        let (blockers, object, program) = key.clone();
        self.known_refusals.0.insert(key, self.watched.refusals.len());
        let span = pid.and_then(|pid| self.ran(pid, program.as_deref()).or_else(|| self.parent(pid)));
        let argv0 = self.argv0(span);
        let pid = pid.unwrap_or(0);
        self.watched.refusals.push(Refusal {
            blockers,
            object,
            program,
            argv0,
            pid,
            span,
            count: 1,
            first: at,
            last: at,
        });
    }
}

/// Rights that only show something.
const READING: [&str; 3] = ["fs.execute", "fs.read_file", "fs.read_dir"];

impl Refusal {
    /// `what` of a `policy.denied`.
    pub(in crate::run) fn what(&self) -> &'static str {
        match self.object {
            Object::Path(_) => "path",
            Object::Port(..) => "port",
            Object::Signal(_) => "signal",
            Object::Trace(_) => "trace",
            Object::Socket(_) => "socket",
            Object::Other => "other",
        }
    }

    /// The path, where it was about one.
    pub(in crate::run) fn path(&self) -> Option<&Path> {
        match &self.object {
            Object::Path(path) => Some(Path::new(OsStr::from_bytes(path))),
            _ => None,
        }
    }

    /// What was reached for, where that is no path.
    pub(in crate::run) fn address(&self) -> Option<String> {
        match &self.object {
            Object::Port(Some(address), port) => Some(std::net::SocketAddr::new(*address, *port).to_string()),
            Object::Port(None, port) => Some(format!("port {port}")),
            Object::Signal(Some(pid)) | Object::Trace(Some(pid)) => Some(format!("process {pid}")),
            Object::Socket(name) if !name.is_empty() => Some(super::Target::Unix(name.clone()).show()),
            Object::Path(_)
            | Object::Signal(None)
            | Object::Trace(None)
            | Object::Socket(_)
            | Object::Other => None,
        }
    }

    /// Why it is refused.
    pub(in crate::run) fn reason(&self) -> &'static str {
        match self.object {
            Object::Path(_) => "Landlock: no rule of the sandbox grants that on this path",
            Object::Port(..) => "Landlock: the sandbox has no network",
            Object::Signal(_) | Object::Trace(_) => "Landlock: the process is outside of the sandbox",
            Object::Socket(_) => "Landlock: the socket is outside of the sandbox",
            Object::Other => "Landlock: no rule of the sandbox grants that",
        }
    }

    /// Whether it would have shown something and changed nothing, so that a read-only mount would grant it.
    pub(in crate::run) fn only_reads(&self) -> bool {
        self.blockers.iter().all(|one| READING.contains(&one.as_str()))
    }
}

impl Watched {
    /// Paths of which nothing but reading was refused, and that this host has.
    pub(super) fn readable_refusals(&self) -> impl Iterator<Item = &Path> {
        let reads = self.refusals.iter().filter(|one| one.only_reads());
        reads.filter_map(Refusal::path).filter(|path| {
            // What has no name as text cannot be said in an option.
            path.is_absolute() && path.to_str().is_some() && std::fs::symlink_metadata(path).is_ok()
        })
    }
}
