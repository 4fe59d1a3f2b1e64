//! The failure matrix: fixtures that each make a run end in one known way, and what is expected of it, held against
//! what a real run gave.
//!
//! A row is run through the ordinary path: this program, executed again as `proctor run` on a small repository of its
//! own, then as `proctor verify` on the evidence. Nothing here knows how a run works, and nothing is judged here that
//! was not read from exit codes and evidence.

mod act;
mod compare;
pub mod fixture;
mod read;
mod repo;
mod row;
pub mod scratch;
pub mod set;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use serde::Serialize;

pub use compare::{Expected, Got};
use fixture::Engine;
use set::{Row, Set};

use crate::exit::StopSignal;

/// How rows are run.
#[derive(Debug)]
pub struct How {
    /// Through which engine's adapter.
    pub engine: Engine,
    /// An existing directory, in which each row gets one of its own.
    pub dir: PathBuf,
    /// `--min-level` of the runs, where it was said.
    pub min_level: Option<String>,
    /// Rows at the same time.
    pub jobs: usize,
}

/// What a row came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// What was expected.
    Agrees,
    /// Something else, or it could not be run.
    Differs,
    /// This host has no sandbox, so that nothing was shown.
    Unavailable,
    /// The engine cannot show it.
    NotApplicable,
    /// Interrupted before its end.
    NotRun,
}

/// One row, as it came out.
#[derive(Debug, Clone, Serialize)]
pub struct RowResult {
    /// Its name.
    pub row: String,
    /// What it shows.
    pub description: String,
    /// What it came to.
    pub state: State,
    /// Why, where it was not run or not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What its fixture wants of this engine; `None` where the engine cannot show it.
    pub expected: Option<Expected>,
    /// What was read; `None` where it was not run.
    pub got: Option<Got>,
    /// Each difference, in words.
    pub differences: Vec<String>,
    /// Its evidence, while that is kept.
    pub evidence: Option<PathBuf>,
}

/// Whether to stop: no signal yet, or which was the first and how many there were.
#[derive(Debug, Default)]
pub struct Stop {
    first: AtomicU8,
    count: AtomicUsize,
    over: AtomicBool,
}

impl Stop {
    /// A signal came.
    pub fn signal(&self, signal: StopSignal) {
        let code = match signal {
            StopSignal::Int => 1,
            StopSignal::Term => 2,
        };
        let _ = self.first.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// The first one.
    pub fn first(&self) -> Option<StopSignal> {
        match self.first.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(StopSignal::Int),
            _ => Some(StopSignal::Term),
        }
    }

    /// No row is under way any more: there is nothing left that a signal would have to end.
    pub fn over(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether the process itself is to end, because of a signal that no row is there for, or of the third.
    pub fn is_last(&self) -> bool {
        self.count() >= crate::run::interrupt::LAST || self.count() > 0 && self.over.load(Ordering::SeqCst)
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// Runs rows, some at a time, and hands on each that is done, in the order in which they were asked for. When it returns
/// no process of theirs is alive.
pub fn run(
    set: &Set,
    rows: &[&Row],
    how: &How,
    stop: &Stop,
    mut done: impl FnMut(&RowResult),
) -> Vec<RowResult> {
    let next = Mutex::new(rows.iter().enumerate());
    let (sender, results) = mpsc::channel();
    let mut out: Vec<Option<RowResult>> = rows.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..how.jobs.clamp(1, rows.len().max(1)) {
            let sender = sender.clone();
            let next = &next;
            let work = move || {
                loop {
                    let row = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((at, row)) = row else { break };
                    if sender.send((at, row::run(set, row, how, stop))).is_err() {
                        break;
                    }
                }
            };
            // Without a thread more, the others do its work; without any, the rows stay undone and say so.
            let _ = std::thread::Builder::new().name("row".into()).spawn_scoped(scope, work);
        }
        drop(sender);
        let mut shown = 0;
        for (at, result) in results {
            out[at] = Some(result);
            while let Some(Some(result)) = out.get(shown) {
                done(result);
                shown += 1;
            }
        }
    });
    let ended = |(row, result): (&&Row, Option<RowResult>)| {
        result.unwrap_or_else(|| row::without_run(row, State::Differs, "no thread could be started for it"))
    };
    rows.iter().zip(out).map(ended).collect()
}

/// Where a row's evidence lies below the directory that it was run in.
pub fn evidence(dir: &Path, row: &str) -> PathBuf {
    dir.join(row).join(row::EVIDENCE)
}
