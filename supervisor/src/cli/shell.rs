//! `proctor shell`: an interactive shell in the backend's sandbox, to see with one's own eyes what a backend would.

use std::ffi::OsString;
use std::process;

use proctor_sandbox::launch::Launcher;

use super::output;
use super::run::{Prepared, prepare};
use super::run_args::RunArgs;
use crate::exit::ExitCode;
use crate::run::sandbox::StartError;
use crate::run::shell::{ShellEnd, ShellError, shell};

/// The shell that is there; bash is what most people expect.
const SHELL: [&str; 3] = ["sh", "-c", "command -v bash >/dev/null && exec bash --norc; exec sh"];

/// Runs one, and hands its exit code on (128 and the signal's number where one killed it).
pub(super) fn run(mut args: RunArgs) -> process::ExitCode {
    // Before any thread exists.
    let launcher = match Launcher::start() {
        Ok(launcher) => launcher,
        Err(e) => return output::error(e, ExitCode::Defect).into(),
    };
    let argv = args.command.is_empty().then(|| SHELL.map(OsString::from).to_vec());
    args.command_or_shell();
    let Prepared { env, host, resolved } = match prepare(args) {
        Ok(prepared) => prepared,
        Err(code) => return code.into(),
    };
    let screen = Box::new(std::io::stdout());
    let mut started = |missing: &[String]| {
        for one in missing {
            output::note(format_args!("not enforced: {one}"));
        }
        output::note(
            "proctor: the backend's sandbox. Whatever is changed here is thrown away, and nothing is judged; `exit` ends it.",
        );
    };
    match shell(resolved, &env, &host, &launcher, argv, screen, &mut started) {
        Ok(ShellEnd::Ended(ended)) => {
            output::note("proctor: ended; its changes were thrown away.");
            let code = ended.code.or_else(|| ended.signal.map(|signal| 128 + signal)).unwrap_or(255);
            process::ExitCode::from(u8::try_from(code).unwrap_or(255))
        }
        Ok(ShellEnd::Stopped(signal)) => {
            output::note(format_args!("proctor: ended by {}; its changes were thrown away.", signal.name()));
            ExitCode::of_signal(signal).into()
        }
        Ok(ShellEnd::TooLarge(what)) => {
            output::note(format_args!("proctor: ended, because {what}; its changes were thrown away."));
            // As a shell says of a process that was killed.
            process::ExitCode::from(128 + 9)
        }
        Err(error) => {
            let code = match &error {
                ShellError::Plan(_) | ShellError::NoTerminal => ExitCode::Usage,
                ShellError::Start(StartError::Program(_)) => ExitCode::Usage,
                ShellError::Start(_) | ShellError::Hidden(_) | ShellError::Unreached(_) => ExitCode::Refused,
                ShellError::Host(_) => ExitCode::Defect,
            };
            output::error(error, code).into()
        }
    }
}
