//! The one place that writes to the standard streams.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use crate::exit::ExitCode;
use crate::report::escape;

/// A line on standard output.
pub(super) fn line(text: impl Display) {
    // A reader that has gone needs nothing more.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Lines on standard error. Whatever names or quotes a message holds, nothing in it steers the terminal.
pub(super) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{}", escape::shown(&text.to_string()));
}

/// An error, and the exit code that goes with it.
pub(super) fn error(text: impl Display, code: ExitCode) -> ExitCode {
    note(format_args!("proctor: error: {text}"));
    code
}

/// A JSON value on standard output.
pub(super) fn json(value: &serde_json::Value) {
    json_text(&value.to_string());
}

/// JSON on standard output, as it is; on a terminal the same JSON without what would steer it.
pub(super) fn json_text(text: &str) {
    if std::io::stdout().is_terminal() {
        line(escape::json(text));
    } else {
        line(text);
    }
}
