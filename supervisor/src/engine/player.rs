//! The player of scenarios: the program that the engine `fake` starts, inside the sandbox. It is as untrusted as any
//! backend: nothing here is linked to the supervisor's state, and it speaks only by its standard streams.

use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::scenario::{Scenario, Step};

/// The field that makes a line of standard output a native event of this engine.
pub const NATIVE: &str = "fake";

/// Plays the scenario file; returns the exit code. Failures of steps are reported on standard error and end it with
/// code 70.
pub fn play(file: &Path) -> u8 {
    let outcome = fs::read_to_string(file)
        .map_err(|e| format!("{}: {e}", file.display()))
        .and_then(|text| Scenario::parse(&text).map_err(|e| e.to_string()));
    let scenario = match outcome {
        Ok(scenario) => scenario,
        Err(error) => return failed(&error),
    };
    for (number, step) in scenario.step.iter().enumerate() {
        match carry_out(step) {
            Ok(None) => {}
            Ok(Some(code)) => return code,
            Err(error) => return failed(&format!("step {}: {error}", number + 1)),
        }
    }
    0
}

fn failed(error: &str) -> u8 {
    let _ = writeln!(io::stderr(), "fake: {error}");
    70
}

fn emit(event: &str, data: Map<String, Value>) -> io::Result<()> {
    let mut line = Map::new();
    line.insert(NATIVE.to_owned(), Value::from(event));
    line.extend(data);
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &Value::Object(line))?;
    out.write_all(b"\n")?;
    out.flush()
}

fn carry_out(step: &Step) -> io::Result<Option<u8>> {
    match step {
        Step::Print { text, stderr: false } => {
            writeln!(io::stdout(), "{text}")?;
            io::stdout().flush()?;
        }
        Step::Print { text, stderr: true } => writeln!(io::stderr(), "{text}")?,
        Step::Emit { event, data } => match serde_json::to_value(data)? {
            Value::Object(map) => emit(event, map)?,
            _ => return Err(io::Error::other("data is no table")),
        },
        Step::Write { path, content, mode } => {
            make_parent(path)?;
            fs::write(path, content)?;
            if let Some(mode) = mode {
                let bits = u32::from_str_radix(mode, 8).map_err(io::Error::other)?;
                fs::set_permissions(path, fs::Permissions::from_mode(bits))?;
            }
        }
        Step::Replace { path, from, to } => {
            let text = fs::read_to_string(path)?;
            if !text.contains(from.as_str()) {
                return Err(io::Error::other(format!("{} does not contain {from:?}", path.display())));
            }
            fs::write(path, text.replace(from.as_str(), to))?;
        }
        Step::Append { path, content } => {
            fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(content.as_bytes())?;
        }
        Step::Remove { path } => {
            if path.is_dir() && !path.is_symlink() {
                fs::remove_dir(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        Step::Rename { from, to } => {
            make_parent(to)?;
            fs::rename(from, to)?;
        }
        Step::Symlink { path, to } => {
            make_parent(path)?;
            std::os::unix::fs::symlink(to, path)?;
        }
        Step::Sleep { ms } => std::thread::sleep(Duration::from_millis(*ms)),
        Step::IgnoreTerm => {
            // A signal handler would be unsafe code here; the shell can do it for the whole process by exec.
            return ignore_term_and_restart();
        }
        Step::Flood { mib } => flood(*mib)?,
        Step::Ask { id, subject, whatever } => return ask(id, subject, *whatever),
        Step::Shell { command } => {
            Command::new("sh").arg("-c").arg(command).status()?;
        }
        Step::Exit { code } => return Ok(Some(u8::try_from(*code & 0xff).unwrap_or(255))),
    }
    Ok(None)
}

fn make_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::create_dir_all(parent),
        _ => Ok(()),
    }
}

/// Replaces this process by a shell that ignores SIGTERM and sleeps: exec keeps ignored signals ignored, and the
/// steps behind this one are not played.
fn ignore_term_and_restart() -> io::Result<Option<u8>> {
    use std::os::unix::process::CommandExt;
    Err(Command::new("sh").arg("-c").arg("trap '' TERM; while :; do sleep 1; done").exec())
}

fn flood(mib: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let line = format!("{}\n", "flood ".repeat(170));
    let lines = (mib << 20) / line.len() as u64 + 1;
    for _ in 0..lines {
        out.write_all(line.as_bytes())?;
    }
    out.flush()
}

fn ask(id: &str, subject: &str, whatever: bool) -> io::Result<Option<u8>> {
    let mut data = Map::new();
    data.insert("id".to_owned(), Value::from(id));
    data.insert("subject".to_owned(), Value::from(subject));
    emit("approval.requested", data)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or(json!({}));
    let granted = answer["id"] == id && answer["granted"] == true;
    if granted || whatever {
        return Ok(None);
    }
    let mut data = Map::new();
    data.insert("message".to_owned(), Value::from("approval denied"));
    emit("turn.failed", data)?;
    Ok(Some(1))
}
