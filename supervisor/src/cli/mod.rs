//! The command line: what users type, one file a command, and nothing of what is done about it.
//!
//! Results for machines go to standard output, everything for people to standard error.

mod defect;
mod doctor;
mod explain;
mod gc;
mod keygen;
mod learn;
mod matrix;
mod output;
mod read;
mod run;
pub mod run_args;
mod schema;
mod shell;
mod verify;
mod why;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::ExitCode;

/// Runs coding agents as untrusted programs on a git work tree, judges what they did, and leaves evidence.
#[derive(Debug, Parser)]
#[command(name = "proctor", version, propagate_version = true, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    /// Machine output on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 pass; 1 judged, and not a pass; 2 usage or configuration error; 3 refused, nothing ran;
4 evidence not written or not valid; 5 a defect in Proctor; 130, 143 interrupted by SIGINT, SIGTERM.

Example:
  proctor run --test 'cargo test --offline' --view rust -- ./agent.sh";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a backend once, judge it, leave evidence
    Run(Box<run_args::RunArgs>),
    /// Check an evidence directory again: digests, event chain, freshness, agreement, patch
    Verify(verify::VerifyArgs),
    /// Show a run's report again
    Report(read::ReportArgs),
    /// Show a run's patch; raw bytes where standard output is no terminal
    Diff(read::DiffArgs),
    /// Show a run's raw logs; raw bytes where standard output is no terminal
    Logs(read::LogsArgs),
    /// Show what the sandboxes of a run would be, and who said so; starts nothing
    Explain(Box<run_args::RunArgs>),
    /// Would a path or a host be allowed in the backend's sandbox, and by which rule; starts nothing
    Why(Box<why::WhyArgs>),
    /// An interactive shell in the backend's sandbox; its changes are thrown away, nothing is judged
    #[command(
        after_help = "Every key goes inside, Ctrl-C too; `exit` ends it, and its exit code is handed on. Times are not limited.\n\nExample:\n  proctor shell --view rust\n  proctor shell --net host -- python3"
    )]
    Shell(Box<run_args::RunArgs>),
    /// Run a command under watch and propose a profile from what it lacked; grants nothing
    #[command(after_help = learn::EXAMPLES)]
    Learn(Box<run_args::RunArgs>),
    /// Make a key pair that signs evidence: --sign KEY, and verify --key KEY.pub
    Keygen(keygen::KeygenArgs),
    /// Show what this host can enforce, and how to mend what is missing
    #[command(
        after_help = "Example:\n  proctor doctor --json\n\nExit code 0: level full; 3: a run would be refused."
    )]
    Doctor,
    /// Remove what crashed runs left: private directories, cgroups, locks; evidence only where asked for
    Gc(gc::GcArgs),
    /// Print the JSON Schema of a record or profile; without a name, list them
    #[command(after_help = schema::EXAMPLE)]
    Schema(schema::SchemaArgs),
    /// The process in which `verify` has evidence read
    #[command(hide = true)]
    EvidenceReader,
    /// Run the failure fixtures by the ordinary path and show expected against got
    Matrix(matrix::MatrixArgs),
    /// The run of one row of the matrix
    #[command(hide = true)]
    MatrixRow(matrix::MatrixRowArgs),
    /// The player of the engine `fake`, as it runs inside the sandbox
    #[command(hide = true)]
    FakeBackend {
        /// The scenario.
        scenario: PathBuf,
    },
}

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> std::process::ExitCode {
    defect::told(command)
}

fn command() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a closed stream is nobody's loss.
            let _ = error.print();
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Pass };
            return code.into();
        }
    };
    if let Command::FakeBackend { scenario } = &cli.command {
        return std::process::ExitCode::from(crate::engine::player::play(scenario));
    }
    if let Command::EvidenceReader = &cli.command {
        return std::process::ExitCode::from(crate::evidence::verify::reader::main());
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("PROCTOR_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error")),
        )
        .without_time()
        .init();
    let code = match cli.command {
        Command::Run(args) => run::run(*args, cli.json),
        Command::Verify(args) => verify::run(&args, cli.json),
        Command::Report(args) => read::report(&args, cli.json),
        Command::Diff(args) => read::diff(&args),
        Command::Logs(args) => read::logs(&args),
        Command::Explain(args) => explain::run(*args, cli.json),
        Command::Why(args) => why::run(*args, cli.json),
        Command::Shell(args) => return shell::run(*args),
        Command::Learn(args) => learn::run(*args, cli.json),
        Command::Keygen(args) => keygen::run(&args, cli.json),
        Command::Doctor => doctor::run(cli.json),
        Command::Gc(args) => gc::run(&args, cli.json),
        Command::Matrix(args) => matrix::run(&args, cli.json),
        Command::MatrixRow(args) => matrix::row(&args),
        Command::Schema(args) => schema::run(&args, cli.json),
        Command::EvidenceReader | Command::FakeBackend { .. } => ExitCode::Defect,
    };
    code.into()
}
