//! Running Proctor and reading what it left.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::user::World;

/// One call of Proctor.
pub struct Proctor {
    command: Command,
}

impl Proctor {
    /// The binary, as the user of `world`.
    pub fn new(binary: &Path, world: &World) -> Self {
        let mut command = world.command(binary);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(world.path("."));
        Self { command }
    }

    /// The binary as the user of `world`, started by `wrapper` (a program and its arguments, for which the binary and
    /// its arguments are the last ones).
    pub fn through<S: AsRef<OsStr>>(wrapper: &[S], binary: &Path, world: &World) -> Self {
        let (program, arguments) = wrapper.split_first().expect("a wrapper");
        let mut command = world.command(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(world.path(".")).args(arguments).arg(binary);
        Self { command }
    }

    /// The binary as the user of `world`, in a mount namespace that root prepared with this shell script. Only where
    /// the suite runs as root.
    pub fn within(script: &str, binary: &Path, world: &World) -> Self {
        let inner = world.command(binary);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &format!("set -e; {script}; exec \"$@\""), "sh"]);
        command.arg(inner.get_program()).args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(world.path("."));
        Self { command }
    }

    /// One argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// The working directory.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// The command, for what is not offered here.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts it without waiting.
    pub fn spawn(mut self) -> Child {
        self.command.spawn().expect("starting proctor")
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Outcome {
        Outcome::of(self.command.output().expect("running proctor"))
    }
}

/// What a call came to.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; `None` where a signal killed it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Of a call that was waited for.
    pub fn of(output: std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The evidence directory: the last line printed.
    pub fn evidence(&self) -> PathBuf {
        let last = self.stdout.lines().last().unwrap_or_default();
        assert!(last.starts_with('/'), "no evidence directory printed: {self:#?}");
        PathBuf::from(last)
    }

    /// The report.
    pub fn report(&self) -> Value {
        let path = self.evidence().join("report.json");
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}\n{self:#?}", path.display()));
        serde_json::from_slice(&bytes).expect("report.json is JSON")
    }

    /// The codes of the report's blockers, in order.
    pub fn blockers(&self) -> Vec<String> {
        let report = self.report();
        let list = report["blockers"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|b| b["code"].as_str().map(str::to_owned)).collect()
    }

    /// An artifact's bytes.
    pub fn artifact(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.evidence().join(name)).unwrap_or_else(|e| panic!("{name}: {e}\n{self:#?}"))
    }

    /// An artifact's text.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.artifact(name)).into_owned()
    }

    /// The events, in order.
    pub fn events(&self) -> Vec<Value> {
        self.text("events.normalized.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).expect("an event is JSON"))
            .collect()
    }

    /// Asserts the exit code and the exact set of blockers, showing everything where they differ.
    pub fn expect(&self, code: i32, blockers: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert_eq!(self.blockers(), blockers, "{self:#?}");
        self
    }
}
