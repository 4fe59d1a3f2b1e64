//! What a person sees while a run goes on: on a terminal one live line, elsewhere a plain line for each phase. It
//! writes to standard error only, and what a backend controls is escaped before it is shown.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::event::{EventType, NewEvent};
use crate::report::escape;
use crate::report::units::size;

/// Between two lines that say that a run is still alive, where there is no live line.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Most lines about events of one type in one phase: a backend can ask without end. The rest is counted.
const SHOWN: u64 = 20;

/// Between two pictures of the live line.
const TICK: Duration = Duration::from_millis(120);

/// Somebody to show progress to.
pub trait Ui: Send + Sync {
    /// A phase began.
    fn phase(&self, name: &str);
    /// An event was logged; `words` are what [`describe`] makes of it.
    fn event(&self, event_type: EventType, words: &str);
    /// Bytes of output so far, about once a second.
    fn bytes(&self, bytes: u64);
    /// A line to keep: it is shown above the live line.
    fn say(&self, line: &str);
    /// The live line makes room for a question on the terminal, or comes back.
    fn hold(&self, on: bool);
    /// The live line goes.
    fn done(&self);
}

/// Shows nothing.
pub struct Silent;

impl Ui for Silent {
    fn phase(&self, _: &str) {}
    fn event(&self, _: EventType, _: &str) {}
    fn bytes(&self, _: u64) {}
    fn say(&self, _: &str) {}
    fn hold(&self, _: bool) {}
    fn done(&self) {}
}

/// Standard error: live on a terminal, plain elsewhere.
pub fn standard_error() -> std::sync::Arc<dyn Ui> {
    if std::io::stderr().is_terminal() {
        std::sync::Arc::new(Live::new())
    } else {
        std::sync::Arc::new(Plain { started: Instant::now(), state: Mutex::new(PlainState::default()) })
    }
}

struct Live {
    bar: ProgressBar,
    state: Mutex<(String, u64, String)>,
}

impl Live {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4}  {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { bar, state: Mutex::new((String::new(), 0, String::new())) }
    }

    fn update(&self, change: impl FnOnce(&mut (String, u64, String))) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let (phase, bytes, last) = &*state;
        self.bar.set_message(format!("{phase}  {}  {last}", size(*bytes)));
    }
}

impl Ui for Live {
    fn phase(&self, name: &str) {
        self.update(|s| s.0 = name.to_owned());
    }

    fn event(&self, event_type: EventType, words: &str) {
        // The verdict is shown when its evidence is durable, and not while that is written.
        if !matches!(event_type, EventType::BlockerRaised | EventType::RunFinished) {
            self.update(|s| words.clone_into(&mut s.2));
        }
    }

    fn bytes(&self, bytes: u64) {
        self.update(|s| s.1 = bytes);
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| to_stderr(line));
    }

    fn hold(&self, on: bool) {
        if on {
            self.bar.disable_steady_tick();
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
        } else {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(TICK);
        }
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}

#[derive(Default)]
struct PlainState {
    phase: String,
    last: Option<Instant>,
    /// How many of each type there were in this phase.
    events: BTreeMap<EventType, u64>,
}

struct Plain {
    started: Instant,
    state: Mutex<PlainState>,
}

impl Plain {
    fn line(&self, text: &str) {
        to_stderr(&format!("[{:7.2}s] {text}", self.started.elapsed().as_secs_f64()));
    }

    /// How many events were not shown.
    fn rest(&self) {
        let events = std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).events);
        for (event_type, count) in events.into_iter().filter(|(_, count)| *count > SHOWN) {
            self.line(&format!("  {event_type}: {} more", count - SHOWN));
        }
    }
}

impl Ui for Plain {
    fn phase(&self, name: &str) {
        self.rest();
        self.line(name);
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) =
            PlainState { phase: name.to_owned(), last: Some(Instant::now()), events: BTreeMap::new() };
    }

    fn event(&self, event_type: EventType, words: &str) {
        let shown = matches!(
            event_type,
            EventType::PolicyDenied
                | EventType::LimitExceeded
                | EventType::TimeoutExpired
                | EventType::ApprovalRequested
                | EventType::ApprovalGranted
                | EventType::ApprovalDenied
                | EventType::ProviderUnavailable
        );
        if !shown {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.events.entry(event_type).or_insert(0);
        *count += 1;
        let shown = *count <= SHOWN;
        drop(state);
        if shown {
            self.line(&format!("  {words}"));
        }
    }

    fn bytes(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|at| at.elapsed() >= HEARTBEAT) {
            state.last = Some(Instant::now());
            self.line(&format!("  {}: still running, {} of output", state.phase, size(bytes)));
        }
    }

    fn say(&self, line: &str) {
        to_stderr(line);
    }

    fn hold(&self, _: bool) {}

    fn done(&self) {
        self.rest();
    }
}

/// Nobody can be told that standard error is closed.
fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// One event in a few words.
pub(super) fn describe(event: &NewEvent) -> String {
    let field = |key: &str| event.data.get(key).and_then(|v| v.as_str());
    let detail = ["code", "subject", "path", "command", "text", "what", "phase", "name", "cause"]
        .iter()
        .find_map(|key| field(key))
        .unwrap_or_default();
    let short: String = detail.lines().next().unwrap_or_default().chars().take(60).collect();
    format!("{} {}", event.event_type, escape::terminal(&short)).trim_end().to_owned()
}
