//! What Proctor costs, against what it is measured by: `cargo bench -p proctor-tests`. Prints a table and writes JSON;
//! asserts nothing about time (docs/performance.md says what the figures mean).
//!
//! The benchmark starts itself again as an ordinary user, so that no measured call carries the change of user with it.

mod bulk;
mod library;
mod memory;
mod noop;
mod stats;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use harness::{Binary, User, World};
use serde_json::json;

/// What can go wrong here ends the benchmark with its text.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// First argument of the copy that measures.
const MEASURE: &str = "--measure";
/// First argument of the copy that starts sandboxes with the library alone.
const WORKER: &str = "--library-worker";
/// Groups of measurements, in the order in which they run.
const GROUPS: [&str; 6] = ["noop", "library", "memory", "capture", "survey", "verify"];

struct Options {
    rounds: usize,
    json: PathBuf,
    groups: Vec<String>,
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let done = match args.first().and_then(|a| a.to_str()) {
        Some(MEASURE) => measure(&args[1..]),
        Some(WORKER) => library::worker(&args[1..]),
        _ => options(&args).and_then(|o| as_ordinary_user(&o)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "benchmark: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(args: &[OsString]) -> Result<Options> {
    let mut found = Options { rounds: 100, json: default_json(), groups: Vec::new() };
    let mut args = args.iter().filter_map(|a| a.to_str());
    while let Some(arg) = args.next() {
        match arg {
            // Cargo's own.
            "--bench" => {}
            "--rounds" => found.rounds = args.next().ok_or("--rounds needs a number")?.parse()?,
            "--json" => found.json = args.next().ok_or("--json needs a file")?.into(),
            name if GROUPS.contains(&name) => found.groups.push(name.to_owned()),
            other => {
                let text = format!(
                    "unknown argument {other}; known: --rounds N, --json FILE, {}",
                    GROUPS.join(", ")
                );
                return Err(text.into());
            }
        }
    }
    if found.groups.is_empty() {
        found.groups = GROUPS.map(str::to_owned).to_vec();
    }
    Ok(found)
}

fn default_json() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).join("target/performance.json")
}

/// Copies what is measured to where an ordinary user can execute it, and measures as that user.
fn as_ordinary_user(options: &Options) -> Result<()> {
    let proctor = Binary::of(env!("CARGO_BIN_EXE_proctor-under-test"));
    let world = World::new(User::Ordinary);
    let own = world.path("benchmark");
    std::fs::copy("/proc/self/exe", &own)?;
    std::fs::set_permissions(&own, PermissionsExt::from_mode(0o755))?;
    let mut command = world.command(&own);
    command.arg(MEASURE).arg(proctor).arg(options.rounds.to_string()).args(&options.groups);
    let output = command.current_dir(world.path(".")).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the measuring copy ended with {}", output.status).into());
    }
    if let Some(dir) = options.json.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&options.json, &output.stdout)?;
    writeln!(std::io::stderr(), "\nwritten: {}", options.json.display())?;
    Ok(())
}

/// What every group needs.
pub(crate) struct Bench<'a> {
    /// The binary under test.
    pub(crate) proctor: &'a Path,
    /// Rounds of the short measurements.
    pub(crate) rounds: usize,
    /// The user's place.
    pub(crate) world: &'a World,
}

impl Bench<'_> {
    /// A silent command in the world, its standard streams closed.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = self.world.command(program);
        command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

fn measure(args: &[OsString]) -> Result<()> {
    let [proctor, rounds, groups @ ..] = args else {
        return Err("the measuring copy is started by the benchmark alone".into());
    };
    let world = World::new(User::Ordinary);
    let rounds = rounds.to_str().ok_or("rounds")?.parse()?;
    let bench = Bench { proctor: Path::new(proctor), rounds, world: &world };
    let mut results = Vec::new();
    for group in groups {
        let result = match group.to_str() {
            Some("noop") => noop::run(&bench),
            Some("library") => library::run(&bench),
            Some("memory") => memory::run(&bench),
            Some("capture") => bulk::capture(&bench),
            Some("survey") => bulk::survey(&bench),
            _ => bulk::verify(&bench),
        };
        results.push(result.map_err(|e| format!("{}: {e}", group.to_string_lossy()))?);
    }
    let uname = rustix::system::uname();
    let machine = json!({
        "kernel": uname.release().to_string_lossy(),
        "arch": uname.machine().to_string_lossy(),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
    });
    let whole = json!({ "schema": "performance/v1", "machine": machine, "groups": results });
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &whole)?;
    writeln!(out)?;
    Ok(())
}
