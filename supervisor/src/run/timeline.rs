//! When each phase of a run began and ended: for the report's timings and the trace's spans.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::watch::{Watched, tell};
use crate::event::Calls;
use crate::event::calls::Seen;
use crate::evidence::told;
use crate::evidence::trace::{
    Attribute, Attributes, Completeness, Span, SpanEvent, SpanId, SpanStatus, TraceId, TraceWriter,
};
use crate::report::{Timing, UsageInfo};

/// One phase.
#[derive(Debug, Clone)]
struct Phase {
    name: &'static str,
    start: Instant,
    end: Option<Instant>,
    error: Option<String>,
}

/// What the trace holds beside phases.
pub(super) struct Parts<'a> {
    /// How much of each kind.
    pub completeness: Vec<(&'static str, Completeness)>,
    /// What was seen in each sandbox.
    pub traced: &'a [(&'static str, Watched)],
    /// What the event log says; `None` where there is no log.
    pub calls: Option<&'a Calls>,
    /// What each sandbox used.
    pub usage: &'a BTreeMap<String, UsageInfo>,
}

/// The phases of a run.
#[derive(Debug)]
pub(super) struct Timeline {
    start: Instant,
    start_ns: u64,
    phases: Vec<Phase>,
}

impl Timeline {
    /// Begins now.
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_ns: since.as_nanos() as u64, phases: Vec::new() }
    }

    /// A phase begins; the one before it ends.
    pub(super) fn begin(&mut self, name: &'static str) {
        self.end(None);
        self.phases.push(Phase { name, start: Instant::now(), end: None, error: None });
    }

    /// The phase ends, with an error where there was one.
    pub(super) fn end(&mut self, error: Option<String>) {
        if let Some(phase) = self.phases.last_mut().filter(|p| p.end.is_none()) {
            phase.end = Some(Instant::now());
            phase.error = error;
        }
    }

    /// For the report, in microseconds.
    pub(super) fn timings(&self) -> Vec<Timing> {
        let micros = |d: std::time::Duration| d.as_micros() as u64;
        self.phases
            .iter()
            .map(|p| Timing {
                phase: p.name.to_owned(),
                start_us: micros(p.start - self.start),
                duration_us: micros(p.end.unwrap_or_else(Instant::now) - p.start),
            })
            .collect()
    }

    /// Writes the trace: the run and its phases, programs, calls, what was refused, limits and resource use.
    ///
    /// # Errors
    /// No random ids to be had, or the write error.
    pub(super) fn write_trace(
        &self,
        out: impl std::io::Write,
        run_id: &str,
        mut attributes: Attributes,
        failed: Option<String>,
        parts: &Parts<'_>,
    ) -> std::io::Result<()> {
        let random = |e: getrandom::Error| std::io::Error::other(e.to_string());
        let mut completeness = vec![("phases", Completeness::Complete), ("limits", Completeness::Complete)];
        completeness.extend(&parts.completeness);
        let none = Calls::default();
        let calls = parts.calls.unwrap_or(&none);
        for (name, left_out) in
            [(told::CALLS_LEFT_OUT, calls.calls_left_out), (told::MOMENTS_LEFT_OUT, calls.moments_left_out)]
        {
            if left_out > 0 {
                attributes.push((name.into(), Attribute::Int(left_out.try_into().unwrap_or(i64::MAX))));
            }
        }
        let mut moments: Vec<(&Seen, SpanEvent)> = calls
            .moments
            .iter()
            .map(|seen| {
                let (name, at_ns, attributes) = told::moment(seen);
                (seen, SpanEvent { name: name.into(), at_ns, attributes })
            })
            .collect();
        let mut writer = TraceWriter::new(out, TraceId::new().map_err(random)?, run_id, &completeness);
        let at = |instant: Instant| self.start_ns + (instant - self.start).as_nanos() as u64;
        let root = SpanId::new().map_err(random)?;
        let now = Instant::now();
        let status = |error: &Option<String>| match error {
            Some(why) => SpanStatus::Error(why.clone()),
            None => SpanStatus::Ok,
        };
        let mut spans = vec![Span {
            id: root,
            parent: None,
            name: "run".into(),
            start_ns: self.start_ns,
            end_ns: at(now),
            attributes,
            events: Vec::new(),
            status: status(&failed),
        }];
        let mut inner = Vec::new();
        let mut caller = root;
        for phase in &self.phases {
            let id = SpanId::new().map_err(random)?;
            if phase.name == "backend" {
                caller = id;
            }
            // At the phase that it is of; what is of none that was reached stands at the run.
            let (mut events, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut moments).into_iter().partition(|(seen, _)| seen.phase == phase.name);
            moments = rest;
            let mut events: Vec<SpanEvent> = events.drain(..).map(|(_, event)| event).collect();
            let mut attributes = vec![("proctor.phase".into(), Attribute::from(phase.name))];
            if let Some(used) = parts.usage.get(phase.name) {
                attributes.extend(told::usage_attributes(used));
            }
            for (role, watched) in parts.traced.iter().filter(|(role, _)| *role == phase.name) {
                let (below, rest) = tell::spans(role, id, watched, at).map_err(random)?;
                inner.extend(below);
                events.extend(rest);
            }
            spans.push(Span {
                id,
                parent: Some(root),
                name: format!("phase {}", phase.name),
                start_ns: at(phase.start),
                end_ns: at(phase.end.unwrap_or(now)),
                attributes,
                events,
                status: status(&phase.error),
            });
        }
        spans[0].events = moments.into_iter().map(|(_, event)| event).collect();
        writer.write(&spans)?;
        for call in &calls.calls {
            let told::CallSpan { name, start_ns, end_ns, attributes, status } = told::call(call);
            inner.push(Span {
                id: SpanId::new().map_err(random)?,
                parent: Some(caller),
                name: name.into(),
                start_ns,
                end_ns,
                attributes,
                events: Vec::new(),
                status,
            });
        }
        writer.write(&inner)
    }
}
