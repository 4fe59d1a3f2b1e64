//! The run's event log as everybody in the run uses it: one writer, a lock, and the memory of what went wrong with it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Calls, Emitted, EventError, EventIndex, EventLogEnd, EventWriter, NewEvent};
use crate::evidence::Artifact;

use super::progress::{Ui, describe};

/// Shared by the supervisor and the adapters' threads.
pub struct RunLog {
    writer: Mutex<Option<EventWriter<Artifact>>>,
    defects: Mutex<Vec<String>>,
    ui: Arc<dyn Ui>,
}

impl RunLog {
    /// Without a writer (the artifact could not be made) events are shown and lost: the verdict sees that.
    pub fn new(writer: Option<EventWriter<Artifact>>, ui: Arc<dyn Ui>) -> Self {
        Self { writer: Mutex::new(writer), defects: Mutex::new(Vec::new()), ui }
    }

    /// Appends an event.
    pub fn emit(&self, event: NewEvent) {
        let (event_type, words) = (event.event_type, describe(&event));
        let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = guard.as_mut().map(|writer| writer.emit(event));
        drop(guard);
        match taken {
            // What the log has no room for would flood whoever watches, too: it is counted.
            Some(Ok(Emitted::Dropped)) => return,
            // A log that cannot be written is remembered by its artifact.
            None | Some(Ok(Emitted::Written(_)) | Err(EventError::Io(_))) => {}
            Some(Err(error)) => self.defect(error.to_string()),
        }
        self.ui.event(event_type, &words);
    }

    /// Remembers a defect of Proctor: the run ends with exit code 5.
    pub fn defect(&self, what: String) {
        tracing::error!(defect = %what, "a defect in Proctor");
        self.defects.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Defects so far. A panic is one, in whichever thread of the process it was: what that thread was for is not known
    /// to have been done.
    pub fn defects(&self) -> Vec<String> {
        let mut defects = self.defects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if crate::panics::any() {
            defects.push("a thread of Proctor panicked".to_owned());
        }
        defects
    }

    /// What was seen so far; `None` where there is no log.
    pub fn index(&self) -> Option<EventIndex> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|w| w.index().clone())
    }

    /// Ends whatever nobody ended, and tells what a trace says of the log; `None` where there is no log. Called when all
    /// sandboxes are dead.
    pub fn close(&self) -> Option<Calls> {
        let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = guard.as_mut()?;
        match writer.close_open() {
            // A log that cannot be written is remembered by its artifact.
            Ok(_) | Err(EventError::Io(_)) => {}
            Err(error) => self.defect(error.to_string()),
        }
        Some(writer.calls().clone())
    }

    /// Hands what has gathered to the file.
    pub fn flush(&self) {
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // Remembered by the artifact, as above.
            let _ = writer.flush();
        }
    }

    /// Ends the log: its summary, and the artifact finished. `None` where that failed.
    pub fn finish(&self) -> Option<EventLogEnd> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (artifact, end) = writer.finish().ok()?;
        artifact.finish().ok()?;
        Some(end)
    }
}
