//! One row: its directory, its run as a process of its own, what is done meanwhile, what was left.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::compare::{Expected, Got, differences};
use super::fixture::{Act, Engine, Played};
use super::set::{Row, Set};
use super::tree::Snapshot;
use super::{How, RowResult, State, Stop, act, read, repo};
use crate::exit::StopSignal;
use crate::profile::view;
use crate::verdict::BlockerCode;

/// Where the evidence lies in a row's directory.
pub(super) const EVIDENCE: &str = "evidence";
/// This program, also where its file was replaced meanwhile.
const SELF: &str = "/proc/self/exe";
/// Programs of the base view, where every host has them; the caller's own `PATH` is not asked.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Between two looks at a run.
const LOOK: Duration = Duration::from_millis(5);
/// No row takes so long: whatever is still there then is ended, and differs.
const LONGEST: Duration = Duration::from_secs(300);
/// From a signal that asks to end to the next, which does not wait for the backend's grace time.
const PATIENCE: Duration = Duration::from_secs(1);
/// From a signal that asks to end to SIGKILL.
const LAST: Duration = Duration::from_secs(30);
/// Bytes of standard error, and lines, that a difference quotes.
const QUOTED: (u64, usize) = (4096, 5);

/// A row that was not run, or not shown.
pub(super) fn without_run(row: &Row, state: State, why: impl Into<String>) -> RowResult {
    let why = why.into();
    RowResult {
        row: row.name.clone(),
        description: row.fixture.description.clone(),
        state,
        differences: if state == State::Differs { vec![why.clone()] } else { Vec::new() },
        reason: Some(why),
        expected: None,
        got: None,
        evidence: None,
    }
}

/// Runs a row.
pub(super) fn run(set: &Set, row: &Row, how: &How, stop: &Stop) -> RowResult {
    let played = match row.fixture.played(how.engine) {
        Ok(played) => played,
        Err(why) => return without_run(row, State::NotApplicable, why),
    };
    let expected = Expected::new(&row.fixture, played);
    let result = |state, reason: Option<String>, got, differences, evidence| RowResult {
        row: row.name.clone(),
        description: row.fixture.description.clone(),
        state,
        reason,
        expected: Some(expected.clone()),
        got,
        differences,
        evidence,
    };
    let interrupted = || result(State::NotRun, Some("interrupted".into()), None, Vec::new(), None);
    if stop.first().is_some() {
        return interrupted();
    }
    let place = Place { dir: how.dir.join(&row.name) };
    let got = place.prepare(set, row, played).map_err(|e| format!("its directory could not be made: {e}"));
    let got = got.and_then(|before| place.observe(row, played, how, &expected, before, stop));
    if stop.first().is_some() {
        return interrupted();
    }
    let evidence = Some(place.dir.join(EVIDENCE)).filter(|dir| dir.is_dir());
    match got {
        Ok(got) => {
            let differing = differences(&expected, &got);
            let unavailable = BlockerCode::SandboxUnavailable;
            let lacks = !expected.blockers.contains(&unavailable)
                && got.exit == Some(3)
                && got.blockers == [unavailable.as_str()];
            if lacks {
                let why = got.details.first().and_then(|one| one.detail["why"].as_str()).unwrap_or_default();
                let why = format!("this host has no such sandbox: {why}");
                return result(State::Unavailable, Some(why), Some(got), Vec::new(), evidence);
            }
            let state = if differing.is_empty() { State::Agrees } else { State::Differs };
            result(state, None, Some(got), differing, evidence)
        }
        Err(why) => result(State::Differs, Some(why.clone()), None, vec![why], evidence),
    }
}

struct Place {
    dir: PathBuf,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes everything that the run needs; gives the work tree as it is before it.
    fn prepare(&self, set: &Set, row: &Row, played: &Played) -> io::Result<Snapshot> {
        fs::create_dir(&self.dir)?;
        // The operator's own and the machine's profiles, views and configuration are not read: these stand before them. (An
        // empty profile leaves the built-in defaults, which are no limits that an operator set.)
        for (dir, files) in [("profiles", &[("default", "")][..]), ("sandbox", view::EMBEDDED)] {
            let dir = self.path("config/proctor").join(dir);
            fs::create_dir_all(&dir)?;
            for (name, text) in files {
                fs::write(dir.join(format!("{name}.toml")), text)?;
            }
        }
        for dir in ["home", "state", "go"] {
            fs::create_dir(self.path(dir))?;
        }
        fs::write(self.path("config.toml"), "")?;
        fs::write(self.path("answers.jsonl"), "")?;
        if let Some(text) = played.scenario.as_deref().and_then(|name| set.scenario(name)) {
            fs::write(self.path("scenario.toml"), text)?;
        }
        let tree = self.path("repo");
        repo::make(&tree)?;
        for one in &row.fixture.before {
            act::carry_out(one, &tree)?;
        }
        Snapshot::of(&tree)
    }

    /// A call of this program, with an environment of its own.
    fn call(&self, row: &Row, output: &str) -> io::Result<Command> {
        let mut command = Command::new(SELF);
        command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").env("HOME", self.path("home"));
        command.env("XDG_STATE_HOME", self.path("state")).env("XDG_CONFIG_HOME", self.path("config"));
        command.envs(&row.fixture.env).current_dir(&self.dir).stdin(Stdio::null());
        command.stdout(File::create(self.path(&format!("{output}.stdout")))?);
        command.stderr(File::create(self.path(&format!("{output}.stderr")))?);
        // The terminal's Ctrl-C comes to us, and is handed on.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.args(["matrix-row", "--parent"]).arg(std::process::id().to_string());
        Ok(command)
    }

    fn observe(
        &self,
        row: &Row,
        played: &Played,
        how: &How,
        expected: &Expected,
        mut before: Snapshot,
        stop: &Stop,
    ) -> Result<Got, String> {
        let tree = self.path("repo");
        let evidence = self.path(EVIDENCE);
        let told = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
        let mut command = self.call(row, "run").map_err(told("its output's files"))?;
        if let Some(bytes) = row.fixture.file_size_limit {
            command.arg("--file-size").arg(bytes.to_string());
        }
        command.args(["--", "run", "--engine", how.engine.as_str(), "--repo"]).arg(&tree);
        command.arg("--config").arg(self.path("config.toml")).arg("--evidence").arg(&evidence);
        if let Some(level) = &how.min_level {
            command.args(["--min-level", level]);
        }
        command.args(row.fixture.options.iter().chain(&played.options).map(|option| self.filled(option)));
        match (how.engine, &played.script) {
            (Engine::Command, Some(script)) => command.args(["--", "sh", "-c", script]),
            _ => command.arg("--").arg(self.path("scenario.toml")),
        };
        let child = command.spawn().map_err(told("this program could not be started"))?;
        let during =
            During { acts: &row.fixture.during, tree: &tree, evidence: &evidence, go: self.path("go/on") };
        let (status, acted) = wait(child, Some(&during), stop)?;
        if stop.first().is_some() {
            return Err("interrupted".to_owned());
        }
        let mut got = Got {
            exit: status.code(),
            signal: status.signal(),
            said: self.said("run"),
            missed: !acted && !during.acts.is_empty(),
            ..Got::default()
        };
        if let Some(verdict) = read::verdict(&evidence).map_err(|e| format!("report.json: {e}"))? {
            got.status = Some(verdict.status);
            got.report_exit = Some(verdict.exit_code);
            got.blockers = verdict.blockers.iter().map(|one| one.code.clone()).collect();
            got.details = verdict.blockers;
            let log = read::log(&evidence).map_err(|e| format!("events.normalized.jsonl: {e}"))?;
            got.raised = log.raised;
            let seen = expected.events.iter().filter(|event| log.events.contains(&event.to_string()));
            got.events = seen.copied().collect();
            self.verify(row, &mut got, stop)?;
        }
        for one in row.fixture.during.iter().filter_map(Act::path) {
            before.accept(&tree, one).map_err(told("the work tree could not be looked at"))?;
        }
        let after = Snapshot::of(&tree).map_err(told("the work tree could not be looked at"))?;
        got.tree = before.differences(&after);
        Ok(got)
    }

    /// Fills the placeholder in.
    fn filled(&self, option: &str) -> OsString {
        let dir = self.dir.as_os_str();
        let mut parts = option.split("{dir}");
        let mut out = OsString::from(parts.next().unwrap_or_default());
        for part in parts {
            out.push(dir);
            out.push(part);
        }
        out
    }

    fn verify(&self, row: &Row, got: &mut Got, stop: &Stop) -> Result<(), String> {
        let evidence = self.path(EVIDENCE);
        for one in &row.fixture.after {
            act::carry_out(one, &evidence).map_err(|e| format!("what is done to the evidence: {e}"))?;
        }
        let mut command =
            self.call(row, "verify").map_err(|e| format!("the output's files of verify: {e}"))?;
        command.args(["--", "--json", "verify"]).arg(&evidence).arg("--repo").arg(self.path("repo"));
        let child = command.spawn().map_err(|e| format!("this program could not be started: {e}"))?;
        let (status, _) = wait(child, None, stop)?;
        got.verify = Some(status.code().ok_or_else(|| format!("verify: {}", shown(status)))?);
        got.problems = self.said("verify");
        Ok(())
    }

    /// The last lines on standard error.
    fn said(&self, output: &str) -> Vec<String> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.path(&format!("{output}.stderr")))?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(QUOTED.0)))?;
            let mut bytes = Vec::new();
            file.take(QUOTED.0).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let text =
            read().map_or_else(|e| format!("unreadable: {e}"), |b| String::from_utf8_lossy(&b).into_owned());
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(QUOTED.1)..].iter().map(|line| line.trim().to_owned()).collect()
    }
}

fn shown(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "no known end".to_owned(),
    }
}

/// What happens while a run is under way, and how it is told that it happened.
struct During<'a> {
    acts: &'a [Act],
    tree: &'a Path,
    evidence: &'a Path,
    go: PathBuf,
}

impl During<'_> {
    fn carry_out(&self, child: &Child) -> io::Result<()> {
        for one in self.acts {
            match one {
                Act::Signal { name } => send(child, (*name).into()),
                other => act::carry_out(other, self.tree)?,
            }
        }
        fs::write(&self.go, "")
    }
}

fn send(child: &Child, signal: StopSignal) {
    let signal = match signal {
        StopSignal::Int => Signal::INT,
        StopSignal::Term => Signal::TERM,
    };
    // Not waited for yet, so the number is still its own.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits for a process and does meanwhile what is to be done; ends it where we are to stop or it takes too long. Also says
/// whether that was done.
fn wait(mut child: Child, during: Option<&During<'_>>, stop: &Stop) -> Result<(ExitStatus, bool), String> {
    let began = Instant::now();
    let mut acted = false;
    let mut asked: Option<Instant> = None;
    let mut sent = 0;
    let mut late = false;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| format!("waiting for it: {e}"))? {
            if late {
                return Err(format!("it did not end within {LONGEST:?}, and was ended"));
            }
            return Ok((status, acted));
        }
        if let Some(during) = during.filter(|_| !acted)
            && read::started(during.evidence)
        {
            acted = true;
            if let Err(e) = during.carry_out(&child) {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("what is done meanwhile: {e}"));
            }
        }
        late |= began.elapsed() > LONGEST;
        if let Some(signal) = stop.first().or(late.then_some(StopSignal::Term)) {
            let first = *asked.get_or_insert_with(Instant::now);
            let due = 1 + usize::from(first.elapsed() > PATIENCE || stop.count() > 1);
            while sent < due {
                send(&child, signal);
                sent += 1;
            }
            if first.elapsed() > LAST {
                let _ = child.kill();
            }
        }
        std::thread::sleep(LOOK);
    }
}
