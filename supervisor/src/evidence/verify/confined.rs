//! Has evidence read by a process of its own, without rights and limited in time and memory ([`super::reader`]), and
//! takes its answer within limits. This side opens directories and reads not one byte of what is in them.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use proctor_sandbox::confine::handover;
use proctor_sandbox::error::StepError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags};

use super::answer::{self, MAX_ANSWER, Orders, RepoOrders, Start};
use super::{Directory, ProblemKind, ReaderInfo, VerifyOptions, VerifyResult, reader};
use crate::changes::repo::Places;
use crate::evidence::sign::PublicKey;
use crate::report::escape::terminal_bytes as safe;

/// How long a reader may take where the caller says nothing else.
pub const TIMEOUT: Duration = Duration::from_secs(600);
/// Most memory of a reader where the caller says nothing else, bytes.
pub const MEMORY: u64 = 4 << 30;
/// The least memory with which a reader starts at all.
pub const LEAST_MEMORY: u64 = 16 << 20;
/// Most bytes of a reader's standard error that are kept.
const MAX_LAST_WORDS: usize = 2048;
/// Most of it that is shown, characters.
const SHOWN_WORDS: usize = 300;

/// How a reader is held, and what it is asked. Checks of the caller's own cannot be asked for: they would run in
/// another process.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is asked; its checks are not used.
    pub options: VerifyOptions<'a>,
    /// The repository that the patch is held against.
    pub repo: Option<&'a Places>,
    /// How long it may take.
    pub timeout: Duration,
    /// Most memory, bytes.
    pub memory: u64,
    /// What cannot be had of the confinement is left out and named in the result.
    pub unconfined: bool,
}

/// Why there is no result. Nothing of the evidence was read.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// This host does not confine it.
    #[error("the reader of evidence cannot be confined: {0}")]
    Unavailable(StepError),
    /// It could not be started.
    #[error("the reader of evidence cannot be started: {0}")]
    Start(String),
}

/// Checks a directory as [`super::verify`] does, in a process of its own.
///
/// # Errors
/// Nothing was read; why.
pub fn verify(path: &Path, request: &Request<'_>) -> Result<VerifyResult, ReaderError> {
    let dir = match Directory::open(path) {
        Ok(dir) => dir.into_fd(),
        Err(why) => return Ok(VerifyResult::unread(ProblemKind::File, ".", why)),
    };
    let deadline = Instant::now().checked_add(request.timeout);
    let (dirs, mapped) = places(request.repo)?;
    let orders = serde_json::to_vec(&orders(request, mapped)).map_err(start)?;
    let (socket, its) = handover::pair().map_err(start)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("proctor")
        .arg(reader::COMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(its)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| ReaderError::Start(format!("executing /proc/self/exe: {error}")))?;
    let fds: Vec<_> = std::iter::once(&dir).chain(&dirs).map(AsFd::as_fd).collect();
    let told = handover::send(&socket, &orders, &fds);
    let heard = told.map_err(|error| error.to_string()).and_then(|()| hear(&mut child, deadline));
    // Whatever it is about: it is over. A status that there is already stays what it is.
    let _ = child.kill();
    let status = child.wait().map_err(start)?;
    conclude(heard.map_err(ReaderError::Start)?, status, request)
}

fn start(error: impl std::fmt::Display) -> ReaderError {
    ReaderError::Start(error.to_string())
}

/// The repository's directories, opened, and how many bytes of packs there are to be mapped.
fn places(repo: Option<&Places>) -> Result<(Vec<OwnedFd>, u64), ReaderError> {
    let Some(repo) = repo else { return Ok((Vec::new(), 0)) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dirs = Vec::new();
    for path in repo.all() {
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| ReaderError::Start(format!("opening {}: {errno}", path.display())))?;
        dirs.push(fd);
    }
    let mut packs = 0_u64;
    for dir in &repo.object_dirs {
        let Ok(entries) = std::fs::read_dir(dir.join("pack")) else { continue };
        for entry in entries.flatten() {
            let stat = rustix::fs::statat(rustix::fs::CWD, entry.path(), AtFlags::SYMLINK_NOFOLLOW);
            let size = stat.ok().and_then(|stat| u64::try_from(stat.st_size).ok()).unwrap_or(0);
            packs = packs.saturating_add(size);
        }
    }
    Ok((dirs, packs))
}

fn orders(request: &Request<'_>, mapped: u64) -> Orders {
    let options = &request.options;
    Orders {
        parent: std::process::id(),
        make_do: request.unconfined,
        memory: request.memory,
        mapped,
        cpu_seconds: request.timeout.as_secs().saturating_add(1),
        nonce: options.nonce.map(str::to_owned),
        max_age_us: options.max_age.map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX)),
        now: options.now,
        require_signature: options.require_signature,
        keys: options.keys.iter().map(PublicKey::to_bytes).collect(),
        max_artifact: options.max_artifact,
        max_bytes: options.max_bytes,
        repo: request.repo.map(|repo| RepoOrders {
            root: repo.root.clone(),
            own_git_dir: repo.own_git_dir,
            git_dir: repo.git_dir.clone(),
            common_dir: repo.common_dir.clone(),
        }),
    }
}

/// What came from a reader before it ended, or before its time was up.
#[derive(Debug, Default)]
struct Heard {
    answer: Vec<u8>,
    last_words: Vec<u8>,
    late: bool,
    too_much: bool,
}

/// Reads both streams to their ends, no longer than until the deadline.
fn hear(child: &mut Child, deadline: Option<Instant>) -> Result<Heard, String> {
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("it has no streams".to_owned());
    };
    let mut streams = [Some(File::from(OwnedFd::from(out))), Some(File::from(OwnedFd::from(err)))];
    let mut heard = Heard::default();
    let mut buffer = vec![0; 64 << 10];
    while streams.iter().any(Option::is_some) {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            heard.late = true;
            break;
        }
        // Never so long that it could not be said; the deadline is looked at again.
        let wait = left.unwrap_or(TIMEOUT).min(TIMEOUT);
        let wait = Timespec::try_from(wait).map_err(|error| error.to_string())?;
        let mut ready = [false; 2];
        {
            let open: Vec<usize> = (0..2).filter(|at| streams[*at].is_some()).collect();
            let mut fds: Vec<PollFd<'_>> =
                streams.iter().flatten().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
            match poll(&mut fds, Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(format!("waiting for it: {errno}")),
            }
            for (at, fd) in open.into_iter().zip(&fds) {
                ready[at] = !fd.revents().is_empty();
            }
        }
        for (at, slot) in streams.iter_mut().enumerate().filter(|(at, _)| ready[*at]) {
            let count = match slot.as_mut().map_or(Ok(0), |stream| stream.read(&mut buffer)) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("hearing it: {error}")),
            };
            if count == 0 {
                *slot = None;
                continue;
            }
            let (into, most) = match at {
                0 => (&mut heard.answer, MAX_ANSWER),
                _ => (&mut heard.last_words, MAX_LAST_WORDS),
            };
            let room = most - into.len();
            into.extend_from_slice(&buffer[..count.min(room)]);
            if at == 0 && count > room {
                heard.too_much = true;
                return Ok(heard);
            }
        }
    }
    Ok(heard)
}

fn conclude(heard: Heard, status: ExitStatus, request: &Request<'_>) -> Result<VerifyResult, ReaderError> {
    let mut lines = heard.answer.split_inclusive(|byte| *byte == b'\n');
    // Without the first line it has read nothing; one that was killed all the same has verified nothing.
    let reader = match lines.next().map(serde_json::from_slice::<Start>) {
        Some(Ok(Start::Held(info))) => answer::held(info),
        Some(Ok(Start::Refused(error))) => return Err(ReaderError::Unavailable(error)),
        _ if heard.late || status.signal().is_some() => ReaderInfo::default(),
        _ => return Err(ReaderError::Start(cause(&heard, status, request))),
    };
    if heard.late {
        let limit = humantime::format_duration(request.timeout);
        let why = format!("not verified within {limit} (--timeout): it may be made to take long");
        return Ok(VerifyResult::unanswered(reader, why));
    }
    let failed = |why: String| VerifyResult::unanswered(reader.clone(), format!("not verified: {why}"));
    if heard.too_much || status.code() != Some(0) {
        return Ok(failed(cause(&heard, status, request)));
    }
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Ok(failed("the process that read it gave not one answer".to_owned()));
    };
    match line.strip_suffix(b"\n").ok_or_else(|| "its answer is cut".to_owned()) {
        Ok(line) => Ok(answer::take(line, reader.clone(), &request.options).unwrap_or_else(|why| {
            failed(format!("the process that read it did not answer as it should: {why}"))
        })),
        Err(why) => Ok(failed(format!("the process that read it did not answer as it should: {why}"))),
    }
}

/// How a reader ended that did not answer.
fn cause(heard: &Heard, status: ExitStatus, request: &Request<'_>) -> String {
    const XCPU: i32 = rustix::process::Signal::XCPU.as_raw();
    const SYS: i32 = rustix::process::Signal::SYS.as_raw();
    const KILL: i32 = rustix::process::Signal::KILL.as_raw();
    if heard.too_much {
        return format!("the process that read it answered with more than {MAX_ANSWER} bytes");
    }
    let words = safe(&heard.last_words);
    let words: String = words.chars().take(SHOWN_WORDS).collect();
    if words.starts_with("memory allocation of ") {
        return format!(
            "the process that read it needed more than the {} bytes of memory that it has (--memory): {words}",
            request.memory
        );
    }
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the process that read it ended with exit code {code}{said}"),
        (None, Some(XCPU)) => format!(
            "the process that read it used up its CPU time of {} s (--timeout)",
            request.timeout.as_secs().saturating_add(1)
        ),
        (None, Some(SYS)) => format!(
            "the process that read it was killed (SIGSYS) for a system call that no reader makes: the evidence may have taken it over, treat it as an attack{said}"
        ),
        (None, Some(KILL)) => format!(
            "the process that read it was killed (SIGKILL), as the kernel does where memory runs out{said}"
        ),
        (None, signal) => {
            format!("the process that read it was killed by signal {}{said}", signal.unwrap_or(0))
        }
    }
}
