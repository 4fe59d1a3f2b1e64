//! What was seen of one sandbox: programs, refused calls, attempts to connect.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use proctor_sandbox::audit::Object;

/// How a program's span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::run) enum End {
    /// The process exited with this code.
    Exited(i32),
    /// A signal killed it.
    Killed(i32),
    /// The process executed another program.
    Replaced,
    /// It ended, or the sandbox did, and how is not known.
    Unknown,
    /// Nothing was found at the path when it was given, and the process ended after it.
    NotFound,
}

/// One execve(2).
#[derive(Debug, Clone)]
pub(in crate::run) struct ProgramRun {
    /// The process, as the host numbers it.
    pub pid: u32,
    /// Its parent.
    pub parent_pid: u32,
    /// The span of the program that it comes from.
    pub parent: Option<usize>,
    /// The path that was given, as claimed at the call.
    pub path: Vec<u8>,
    /// Arguments, as claimed at the call.
    pub argv: Vec<Vec<u8>>,
    /// There were more or longer ones.
    pub cut: bool,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// False where the path led to nothing that can be executed when it was given.
    pub found: bool,
    /// What the path led to at the call.
    pub resolved: Option<PathBuf>,
    /// The program as the kernel has it after the call; `None` where the process was gone first.
    pub observed: Option<PathBuf>,
    /// At the call.
    pub start: Instant,
    /// When the process ended or executed another program; `None` where that was not seen.
    pub end: Option<Instant>,
    /// How.
    pub end_as: End,
}

/// Refused calls of one kind by one program.
#[derive(Debug, Clone)]
pub(in crate::run) struct Denial {
    /// The call.
    pub call: &'static str,
    /// Why the table refuses it.
    pub reason: &'static str,
    /// What it failed with, by name.
    pub errno: String,
    /// The process was killed for it.
    pub killed: bool,
    /// The program, as observed.
    pub program: Option<PathBuf>,
    /// What the program called itself at its execve(2), as claimed.
    pub argv0: Option<Vec<u8>>,
    /// The first process.
    pub pid: u32,
    /// Its span.
    pub span: Option<usize>,
    /// Arguments of the first call.
    pub args: [u64; 6],
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Instant,
    /// The last.
    pub last: Instant,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::run) enum Target {
    /// Internet.
    Inet(std::net::SocketAddr),
    /// A Unix socket's path, or an abstract name behind a NUL byte; at most 108 bytes.
    Unix(Vec<u8>),
    /// Another family.
    Other(u16),
    /// It could not be read.
    Unknown,
}

/// Attempts to connect to one address by one program.
#[derive(Debug, Clone)]
pub(in crate::run) struct Tried {
    /// Where to, as claimed at the call.
    pub target: Target,
    /// As of a denial.
    pub program: Option<PathBuf>,
    /// Likewise.
    pub argv0: Option<Vec<u8>>,
    /// Likewise.
    pub pid: u32,
    /// Likewise.
    pub span: Option<usize>,
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Instant,
    /// The last.
    pub last: Instant,
}

/// Refusals of the same by Landlock, to one program.
#[derive(Debug, Clone)]
pub(in crate::run) struct Refusal {
    /// The rights that were missing, by the kernel's names.
    pub blockers: Vec<String>,
    /// What was reached for.
    pub object: Object,
    /// The program, by the kernel's word; `None` where it gave none.
    pub program: Option<PathBuf>,
    /// As of a denial.
    pub argv0: Option<Vec<u8>>,
    /// The first process; 0 where it is not known.
    pub pid: u32,
    /// Its span.
    pub span: Option<usize>,
    /// How many.
    pub count: u64,
    /// When the first was heard of.
    pub first: Instant,
    /// The last likewise.
    pub last: Instant,
}

/// How much was heard of Landlock's refusals.
#[derive(Debug, Clone, Copy)]
pub(in crate::run) struct Heard {
    /// Refusals that the kernel counted and told nothing of; `None` where it did not say how many there were.
    pub untold: Option<u64>,
    /// Records were lost on the way, or could not be read.
    pub lost: bool,
}

/// What was seen of one sandbox.
#[derive(Debug, Default)]
pub(in crate::run) struct Watched {
    /// Programs, in the order of their calls.
    pub programs: Vec<ProgramRun>,
    /// Programs that were counted alone.
    pub programs_left_out: u64,
    /// Names that were looked for along a search path and not found.
    pub look_ups: u64,
    /// Paths that were looked for so, the first of them.
    pub misses: BTreeSet<PathBuf>,
    /// Paths that were looked for and are not inside, and that this host has; only of a run that learns.
    pub wanted: BTreeSet<PathBuf>,
    /// More of them than are kept.
    pub wanted_left_out: u64,
    /// Refused calls.
    pub denials: Vec<Denial>,
    /// All of them.
    pub denied: u64,
    /// Those that no entry of `denials` counts.
    pub denials_left_out: u64,
    /// Attempts to connect.
    pub tried: Vec<Tried>,
    /// All of them.
    pub connects: u64,
    /// Those that no entry of `tried` counts.
    pub tried_left_out: u64,
    /// What Landlock refused.
    pub refusals: Vec<Refusal>,
    /// All of it.
    pub refused: u64,
    /// What no entry of `refusals` counts.
    pub refusals_left_out: u64,
    /// How much of that was heard; `None` where nothing was.
    pub heard: Option<Heard>,
    /// Why nothing was.
    pub unheard: String,
    /// Reports that were dropped before anybody could take them.
    pub lost: u64,
}
