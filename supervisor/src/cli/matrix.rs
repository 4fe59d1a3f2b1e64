//! `proctor matrix`: runs the failure fixtures and shows expected against got.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use clap::Args;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::json;

use super::output;
use crate::exit::{ExitCode, StopSignal};
use crate::matrix::fixture::Engine;
use crate::matrix::scratch::Scratch;
use crate::matrix::set::{Row, Set};
use crate::matrix::{self, Expected, Got, How, RowResult, State, Stop};
use crate::profile::engine;
use crate::run::interrupt::{Signals, leave};

/// Options of `matrix`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each row makes a small repository in a private temporary directory, runs a scripted backend there with `proctor run`, verifies
the evidence, and holds exit code, status, the exact set of blockers, events and the work tree against its fixture. The
operator's configuration and profiles are not read. What a matrix that was killed leaves there, `proctor gc` removes.

Examples:
  proctor matrix
  proctor matrix timeout dirty-ending-tree --keep /tmp/matrix
  proctor matrix --all --engine command --json

Exit code 0: every row agrees (further rows that the engine cannot show do not count, unless they were named); 1: one
differs, or is one of the twelve and cannot be shown;
2: there is no such row; 3: this host has no sandbox to show them in; 130, 143: interrupted, and nothing is alive.")]
pub(super) struct MatrixArgs {
    /// Rows by name [default: the twelve of the contract]
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
    /// Engine to show them with: fake, command
    #[arg(long, value_name = "NAME", default_value = "fake")]
    engine: String,
    /// Also the rows for every further blocker
    #[arg(long)]
    all: bool,
    /// Show the rows there are; run nothing
    #[arg(long)]
    list: bool,
    /// Fixtures of your own: NAME.toml one a row, scenarios in `scenarios/` beside them
    #[arg(long, value_name = "DIR")]
    fixtures: Option<PathBuf>,
    /// Keep repositories and evidence here; must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Lowest sandbox level accepted: full, landlock [default: full]
    #[arg(long, value_name = "LEVEL")]
    min_level: Option<String>,
    /// Rows at the same time [default: as many as CPUs]
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
}

/// How a row's run is started: executes this program again, ended with its parent and with the row's limits.
#[derive(Debug, Args)]
pub(super) struct MatrixRowArgs {
    /// Whose child this is.
    #[arg(long)]
    parent: i32,
    /// Bytes that no file may grow beyond.
    #[arg(long)]
    file_size: Option<u64>,
    /// The command line.
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Becomes the run of a row.
pub(super) fn row(args: &MatrixRowArgs) -> ExitCode {
    let limit = |bytes| {
        rustix::process::setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum: Some(bytes) })
    };
    // The number is looked at after the request, so that a parent that was gone before it is seen.
    let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .and_then(|()| args.file_size.map_or(Ok(()), limit));
    if let Err(e) = bound {
        return output::error(format_args!("the row's limits: {e}"), ExitCode::Defect);
    }
    if rustix::process::getppid() != Pid::from_raw(args.parent) {
        return output::error("the matrix that started this row is gone", ExitCode::Defect);
    }
    let error = Command::new("/proc/self/exe").args(&args.command).exec();
    output::error(format_args!("this program could not be executed again: {error}"), ExitCode::Defect)
}

/// Runs the rows.
pub(super) fn run(args: &MatrixArgs, json: bool) -> ExitCode {
    let usage = |text: &dyn std::fmt::Display| output::error(text, ExitCode::Usage);
    let set = match &args.fixtures {
        Some(dir) => Set::from_dir(dir).map_err(|e| usage(&format_args!("--fixtures: {e}"))),
        None => Set::embedded().map_err(|e| output::error(e, ExitCode::Defect)),
    };
    let set = match set {
        Ok(set) => set,
        Err(code) => return code,
    };
    let rows = match set.select(&args.rows, args.all || (args.list && args.rows.is_empty())) {
        Ok(rows) => rows,
        Err(e) => return usage(&e),
    };
    if args.list {
        list(&rows, json);
        return ExitCode::Pass;
    }
    let engine = match chosen(&args.engine) {
        Ok(engine) => engine,
        Err(why) => return usage(&why),
    };
    if let Some(level) = args.min_level.as_deref().filter(|level| !matches!(*level, "full" | "landlock")) {
        return usage(&format_args!(
            "--min-level: there is no level `{}`; say full or landlock",
            level.escape_debug()
        ));
    }
    let place = match Place::new(args.keep.as_deref()) {
        Ok(place) => place,
        Err(why) => return usage(&why),
    };
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, Into::into);
    let how = How { engine, dir: place.path().to_owned(), min_level: args.min_level.clone(), jobs };
    let stop = Arc::new(Stop::default());
    if let Err(e) = listen(&stop) {
        return output::error(format_args!("signal handlers: {e}"), ExitCode::Defect);
    }
    let table = Table::new(&rows, engine);
    table.head();
    let mut results = matrix::run(&set, &rows, &how, &stop, |result| table.row(result));
    stop.over();
    if args.keep.is_none() {
        // It goes with the temporary directory.
        results.iter_mut().for_each(|result| result.evidence = None);
    }
    let code = verdict(&results, &rows, !args.rows.is_empty(), stop.first());
    summary(&results, stop.first(), args.keep.as_deref().map(|_| place.path()));
    if json {
        output::json(&json!({
            "engine": engine.as_str(),
            "exit_code": code.code(),
            "agree": count(&results, State::Agrees),
            "differ": count(&results, State::Differs),
            "unavailable": count(&results, State::Unavailable),
            "not_applicable": count(&results, State::NotApplicable),
            "not_run": count(&results, State::NotRun),
            "rows": results,
        }));
    }
    code
}

fn chosen(name: &str) -> Result<Engine, String> {
    if let Some(engine) = [Engine::Fake, Engine::Command].into_iter().find(|engine| engine.as_str() == name) {
        return Ok(engine);
    }
    // A name that the registry does not know gets the registry's answer.
    engine::check_name(name).map_err(|bad| {
        let near = bad.nearest.map(|near| format!("\n  did you mean `{near}`?")).unwrap_or_default();
        format!("--engine: {}{near}\n  rows can be shown with: fake, command", bad.what)
    })?;
    Err(format!(
        "--engine: nothing scripted can stand behind the engine `{name}`\n  rows can be shown with: fake, command"
    ))
}

/// Where rows are run: a temporary directory, or one that is kept.
enum Place {
    Temporary(Scratch),
    Kept(PathBuf),
}

impl Place {
    fn new(keep: Option<&Path>) -> Result<Self, String> {
        let Some(keep) = keep else {
            return Scratch::new().map(Self::Temporary).map_err(|e| {
                let place = std::env::temp_dir();
                let place = place.display();
                format!("no directory can be made in {place}: {e}; set TMPDIR to a place that can be written")
            });
        };
        let shown = keep.display();
        match std::fs::DirBuilder::new().mode(0o700).create(keep) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let mut entries = std::fs::read_dir(keep)
                    .map_err(|e| format!("--keep {shown}: cannot be listed: {e}; name a directory"))?;
                if entries.next().is_some() {
                    return Err(format!(
                        "--keep {shown}: is not empty; name a directory that does not exist yet"
                    ));
                }
            }
            Err(e) => return Err(format!("--keep {shown}: cannot be made: {e}; name another place")),
        }
        std::fs::canonicalize(keep).map(Self::Kept).map_err(|e| format!("--keep {shown}: {e}"))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(scratch) => scratch.path(),
            Self::Kept(dir) => dir,
        }
    }
}

/// Notes the signals that ask to end, from now on, in a thread of its own; the last one ends this process.
fn listen(stop: &Arc<Stop>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut signals = Signals::new()?;
    drop(entered);
    let stop = Arc::clone(stop);
    let notes = move || {
        runtime.block_on(async {
            loop {
                stop.signal(signals.next().await);
                if let (true, Some(first)) = (stop.is_last(), stop.first()) {
                    // The rows end with this process, as they do when it is killed.
                    leave(ExitCode::of_signal(first));
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(notes).map(drop)
}

fn count(results: &[RowResult], state: State) -> usize {
    results.iter().filter(|result| result.state == state).count()
}

/// The exit code. What an engine cannot show is no agreement: of the twelve, or asked for by name, it is not enough.
fn verdict(results: &[RowResult], rows: &[&Row], named: bool, stop: Option<StopSignal>) -> ExitCode {
    let of = |(result, row): (&RowResult, &&Row)| match result.state {
        State::Agrees => ExitCode::Pass,
        State::NotApplicable if named || !row.further => ExitCode::Fail,
        State::NotApplicable => ExitCode::Pass,
        State::Differs => ExitCode::Fail,
        State::Unavailable => ExitCode::Refused,
        State::NotRun => ExitCode::Fail,
    };
    let mut code = results.iter().zip(rows).map(of).fold(ExitCode::Pass, ExitCode::worst);
    if count(results, State::Agrees) == 0 {
        code = code.worst(ExitCode::Fail);
    }
    match stop {
        Some(signal) => code.worst(ExitCode::of_signal(signal)),
        None => code,
    }
}

fn list(rows: &[&Row], json: bool) {
    if json {
        let each = |row: &&Row| {
            let not_applicable: serde_json::Map<String, serde_json::Value> = [Engine::Fake, Engine::Command]
                .into_iter()
                .filter_map(|engine| {
                    Some((engine.as_str().to_owned(), row.fixture.played(engine).err()?.into()))
                })
                .collect();
            json!({
                "row": row.name, "description": row.fixture.description, "further": row.further,
                "exit": row.fixture.exit, "blockers": row.fixture.blockers, "events": row.fixture.events,
                "verify": row.fixture.verify, "not_applicable": not_applicable,
            })
        };
        return output::json(&rows.iter().map(each).collect());
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
    for (further, heading) in [(false, None), (true, Some("with --all, or by name:"))] {
        let mut some = rows.iter().filter(|row| row.further == further).peekable();
        if let Some(heading) = heading.filter(|_| some.peek().is_some()) {
            output::note(heading);
        }
        for row in some {
            output::note(format_args!("{:width$}  {}", row.name, row.fixture.description));
        }
    }
}

/// The table on standard error: a line for each row, each difference spelled out beneath it.
struct Table {
    name: usize,
    expected: usize,
}

fn outcome(exit: &str, what: &str, events: &str) -> String {
    [exit, what, events].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

fn joined(list: &[impl ToString]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn wanted(expected: &Expected) -> String {
    let verify = if expected.verify == 0 { String::new() } else { format!("verify {}", expected.verify) };
    let events =
        if expected.events.is_empty() { String::new() } else { format!("+ {}", joined(&expected.events)) };
    let what =
        if expected.blockers.is_empty() { expected.status.clone() } else { joined(&expected.blockers) };
    outcome(&expected.exit.to_string(), &outcome(&what, &verify, ""), &events)
}

fn found(got: &Got) -> String {
    let verify = match got.verify {
        None | Some(0) => String::new(),
        Some(code) => format!("verify {code}"),
    };
    let exit = match (got.exit, got.signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "?".to_owned(),
    };
    let events = if got.events.is_empty() { String::new() } else { format!("+ {}", joined(&got.events)) };
    let what = match &got.status {
        None => "no report".to_owned(),
        Some(status) if got.blockers.is_empty() => status.clone(),
        Some(_) => joined(&got.blockers),
    };
    outcome(&exit, &outcome(&what, &verify, ""), &events)
}

impl Table {
    fn new(rows: &[&Row], engine: Engine) -> Self {
        let expected = rows.iter().filter_map(|row| {
            let played = row.fixture.played(engine).ok()?;
            Some(wanted(&Expected::new(&row.fixture, played)).len())
        });
        Self {
            name: rows.iter().map(|row| row.name.len()).chain(["row".len()]).max().unwrap_or_default(),
            expected: expected.chain(["expected".len()]).max().unwrap_or_default(),
        }
    }

    fn line(&self, name: &str, expected: &str, state: &str, got: &str) {
        let line = format!("{name:n$}  {expected:e$}  {state:7}  {got}", n = self.name, e = self.expected);
        output::note(line.trim_end());
    }

    fn head(&self) {
        self.line("row", "expected", "", "got");
    }

    fn row(&self, result: &RowResult) {
        let expected = result.expected.as_ref().map(wanted).unwrap_or_default();
        let got = result.got.as_ref().map(found).unwrap_or_default();
        let reason = result.reason.as_deref().unwrap_or_default();
        match result.state {
            State::Agrees => self.line(&result.row, &expected, "ok", &got),
            State::Differs => {
                self.line(&result.row, &expected, "DIFFERS", &got);
                for difference in &result.differences {
                    output::note(format_args!("    {difference}"));
                }
            }
            State::Unavailable => self.line(&result.row, &expected, "-", reason),
            State::NotApplicable => self.line(&result.row, "not applicable", "-", reason),
            State::NotRun => self.line(&result.row, &expected, "-", reason),
        }
    }
}

fn summary(results: &[RowResult], stop: Option<StopSignal>, kept: Option<&Path>) {
    let agree = count(results, State::Agrees);
    let shown = agree + count(results, State::Differs);
    let mut text = format!("{agree} of {shown} rows agree");
    for (state, words) in [
        (
            State::Unavailable,
            "cannot be shown: this host has no such sandbox; `proctor doctor` says what it lacks",
        ),
        (State::NotApplicable, "not applicable to this engine, which is no agreement"),
        (State::NotRun, "not run"),
    ] {
        let number = count(results, state);
        if number > 0 {
            text.push_str(&format!("; {number} {words}"));
        }
    }
    if let Some(signal) = stop {
        text.push_str(&format!("; interrupted by {}, and nothing of them is alive", signal.name()));
    }
    output::note(text);
    if let Some(dir) = kept {
        output::note(format_args!("kept: {}/ROW/evidence", dir.display()));
    }
}
