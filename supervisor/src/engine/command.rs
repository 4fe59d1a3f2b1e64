//! Engine `command`: any program. Its output means nothing in particular; its exit code is all it says.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::output::PlainOutput;
use super::{Adapter, Engine, EngineError, Start, Stream};
use crate::profile::RunOptions;

/// What stands for the task in an argument.
const TASK: &[u8] = b"{task}";

/// The engine.
pub(super) struct Command;

impl Engine for Command {
    fn start(&self, options: &RunOptions) -> Result<Start, EngineError> {
        let error = |what: &str, remedy: &str| EngineError {
            engine: "command".into(),
            what: what.into(),
            remedy: remedy.into(),
        };
        if options.command.is_empty() {
            return Err(error(
                "there is no command",
                "give one behind `--`: proctor run [OPTIONS] -- COMMAND [ARG...]",
            ));
        }
        let mut argv = Vec::with_capacity(options.command.len());
        for argument in &options.command {
            match (&options.task, contains(argument.as_bytes(), TASK)) {
                (_, false) => argv.push(argument.clone()),
                (Some(task), true) => argv.push(replaced(argument.as_bytes(), task.as_bytes())),
                (None, true) => {
                    return Err(error(
                        "the command has {task} and there is no task",
                        "give it with --task TEXT|@FILE",
                    ));
                }
            }
        }
        Ok(Start {
            argv,
            env: Vec::new(),
            files: Vec::new(),
            mounts: Vec::new(),
            answers: false,
            version: None,
        })
    }

    fn adapter(&self, stream: Stream) -> Box<dyn Adapter> {
        Box::new(PlainOutput::new(stream))
    }

    fn answer(&self, _id: &str, _granted: bool) -> Vec<u8> {
        // It never asks.
        Vec::new()
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn replaced(text: &[u8], task: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(text.len() + task.len());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(TASK) {
            out.extend_from_slice(task);
            at += TASK.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_is_put_in_wherever_it_is_named_and_is_not_read_again() {
        assert_eq!(replaced(b"do: {task}!", b"mend"), "do: mend!");
        assert_eq!(replaced(b"{task}{task}", b"a{task}"), "a{task}a{task}");
    }
}
