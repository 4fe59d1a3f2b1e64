//! What a panic is to whoever called: a defect of Proctor, said as such and with the exit code for it, whichever thread it
//! happened in. Nothing is caught in order to go on.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

use super::output;
use crate::exit::ExitCode;
use crate::panics;

/// Runs the command; where anything panicked meanwhile, the exit code is that of a defect, whatever the command says.
pub(super) fn told(command: impl FnOnce() -> std::process::ExitCode) -> std::process::ExitCode {
    std::panic::set_hook(Box::new(hook));
    match catch_unwind(AssertUnwindSafe(command)) {
        Ok(code) if !panics::any() => code,
        _ => ExitCode::Defect.into(),
    }
}

fn hook(info: &PanicHookInfo<'_>) {
    panics::remember();
    let payload = info.payload();
    let what = payload.downcast_ref::<&str>().copied();
    let what = what.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let at = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
    output::note(format_args!(
        "proctor: defect: {what}{at}; this is a fault of Proctor itself, and nothing that it says of this run counts: please report it, with the command line and `proctor --version`"
    ));
    // Where RUST_BACKTRACE asks for one.
    let trace = std::backtrace::Backtrace::capture();
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        output::note(trace);
    }
}
