//! Whether anything has panicked in this process, whichever thread it was in: what a run's verdict must know. What is told
//! of it to people is the command line's.

use std::sync::atomic::{AtomicBool, Ordering};

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Remembers that something panicked; for the panic hook.
pub(crate) fn remember() {
    PANICKED.store(true, Ordering::SeqCst);
}

/// Whether anything did.
pub(crate) fn any() -> bool {
    PANICKED.load(Ordering::SeqCst)
}
