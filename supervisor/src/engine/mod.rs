//! Engines: how a kind of backend is started, and what its native output means.
//!
//! An engine says what to execute and turns lines into events; it starts nothing (only `run` does), and what its
//! adapter makes of a backend's words is a claim. One file for each engine; the facts of an engine (required events,
//! arguments) stand in `profiles/engines/`.

mod command;
mod fake;
pub mod output;
pub mod player;
pub mod scenario;

use std::ffi::OsString;
use std::path::PathBuf;

use proctor_sandbox::spec::{InjectedFile, Mount};

use crate::capture::tail::Line;
use crate::event::NewEvent;
use crate::profile::RunOptions;
use crate::verdict::{EngineEnd, ProviderFailure};

/// Where things of the engine stand inside a sandbox.
pub const INSIDE: &str = "/run/proctor";

/// An engine that cannot be started as it was asked for. Nothing ran.
#[derive(Debug, thiserror::Error)]
#[error("engine {engine}: {what}; {remedy}")]
pub struct EngineError {
    /// The engine.
    pub engine: String,
    /// What is wrong, where.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Which stream of the backend a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The name in events' `native.stream`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How to start a backend.
#[derive(Debug)]
pub struct Start {
    /// Program and arguments inside.
    pub argv: Vec<OsString>,
    /// Variables beside the sandbox's own and the operator's.
    pub env: Vec<(String, String)>,
    /// Files to put inside.
    pub files: Vec<InjectedFile>,
    /// Mounts beside the view's.
    pub mounts: Vec<Mount>,
    /// True where the backend reads answers on its standard input; else it gets `/dev/null`.
    pub answers: bool,
    /// The engine's version, where it is observed and not claimed.
    pub version: Option<String>,
}

/// What an adapter makes of a backend's lines.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A normalized event, of source backend.
    Event(NewEvent),
    /// The backend asks for approval and waits.
    Ask {
        /// Its id for the request.
        id: String,
        /// What it is about, in its own words.
        subject: String,
    },
    /// Its terminal event.
    End(EngineEnd),
    /// It says that its provider cannot be used.
    Provider(ProviderFailure),
}

/// Turns the lines of one stream into what they say.
pub trait Adapter: Send {
    /// One line.
    fn line(&mut self, line: Line<'_>, said: &mut Vec<Said>);
    /// Nothing more is there for now (or at all): whatever was held back goes out.
    fn idle(&mut self, said: &mut Vec<Said>);
}

/// A kind of backend.
pub trait Engine: Send + Sync {
    /// How it is started for this run.
    ///
    /// # Errors
    /// What was asked for cannot be started: exit 2.
    fn start(&self, options: &RunOptions) -> Result<Start, EngineError>;
    /// The reader of one of its streams.
    fn adapter(&self, stream: Stream) -> Box<dyn Adapter>;
    /// The bytes for its standard input that answer a request.
    fn answer(&self, id: &str, granted: bool) -> Vec<u8>;
}

/// The engine with this name; `None` where this version has no adapter for it.
pub fn find(name: &str) -> Option<Box<dyn Engine>> {
    match name {
        "command" => Some(Box::new(command::Command)),
        "fake" => Some(Box::new(fake::Fake)),
        _ => None,
    }
}

/// A path below [`INSIDE`].
pub(crate) fn inside(name: &str) -> PathBuf {
    PathBuf::from(INSIDE).join(name)
}
