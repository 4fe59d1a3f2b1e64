//! The options that `run` and `explain` share, and how they become a [`Request`]. Values are kept as text here:
//! they are checked where those of profiles are, so that both give the same errors.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::profile::error::{Bad, Place};
use crate::profile::raw::{
    RawApprovals, RawChanges, RawEnv, RawLimits, RawProfile, RawReport, RawReview, RawSandbox, RawTest,
    RawTimeouts, Scalar, Texts, unplaced,
};
use crate::profile::{ProfileError, Request};

/// Shown after the help of `run`.
pub const RUN_EXAMPLES: &str = "\
Examples:
  proctor run --test 'cargo test --offline' --view rust -- ./agent.sh
  proctor run --task @task.md --allow-change 'src/**' --test 'make check' -- my-agent --prompt '{task}'
  proctor run --mutation none --no-test -- ls -la

Every option but --repo, --task, --stage, --evidence, --nonce and --config is also a key of profiles or of
the configuration; the command line wins. Sizes: 64M, 8G, 512KiB. Times: 90s, 30m, '1h 30m'. Globs are git style.";

/// Options of a run.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Kind of backend: command, fake [default: command]
    #[arg(long, value_name = "NAME", help_heading = "What runs")]
    pub engine: Option<String>,
    /// Let this gated engine run (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "What runs")]
    pub enable_engine: Vec<String>,
    /// Proof stage; without it the run is ungoverned. This version runs no stage and says so
    #[arg(long, value_name = "STAGE", help_heading = "What runs")]
    pub stage: Option<String>,
    /// Profile, by name or as a file [default: default]
    #[arg(long, value_name = "NAME|FILE", help_heading = "What runs")]
    pub profile: Option<String>,
    /// Read this configuration instead of the machine's and the operator's
    #[arg(long, value_name = "FILE", help_heading = "What runs")]
    pub config: Option<PathBuf>,
    /// Directory in the git work tree
    #[arg(long, value_name = "DIR", default_value = ".", help_heading = "What runs")]
    pub repo: PathBuf,
    /// The task: {task} in the command's arguments, PROCTOR_TASK in its environment
    #[arg(long, value_name = "TEXT|@FILE", help_heading = "What runs")]
    pub task: Option<String>,

    /// What may become of changes: none, discard, patch [default: patch]
    #[arg(long, value_name = "MODE", help_heading = "Changes")]
    pub mutation: Option<String>,
    /// Changes must match one of these [default: **]
    #[arg(long, value_name = "GLOB", help_heading = "Changes")]
    pub allow_change: Vec<String>,
    /// Changes must match none of these (repeatable)
    #[arg(long, value_name = "GLOB", help_heading = "Changes")]
    pub deny_change: Vec<String>,
    /// Changes that match need an approval (repeatable)
    #[arg(long, value_name = "GLOB", help_heading = "Changes")]
    pub ask_change: Vec<String>,
    /// Changes that match are disallowed, beside the built-in list (repeatable)
    #[arg(long, value_name = "GLOB", help_heading = "Changes")]
    pub protect: Vec<String>,
    /// Paths that no sandbox shows, beside .env* (repeatable)
    #[arg(long, value_name = "GLOB", help_heading = "Changes")]
    pub hide: Vec<String>,

    /// Test the result with this command, run by sh -c
    #[arg(long, value_name = "CMD", help_heading = "Test and review")]
    pub test: Option<String>,
    /// Test nothing, on purpose
    #[arg(long, help_heading = "Test and review")]
    pub no_test: bool,
    /// Network of the test: none, host [default: none]
    #[arg(long, value_name = "NET", help_heading = "Test and review")]
    pub test_net: Option<String>,
    /// Variable of the test's environment (repeatable)
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Test and review")]
    pub test_env: Vec<String>,
    /// Variable passed to the test from outside; a secret (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "Test and review")]
    pub test_pass_env: Vec<String>,
    /// Mount read-only for the test (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Test and review")]
    pub test_ro: Vec<String>,
    /// Mount for the test, written through (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Test and review")]
    pub test_rw: Vec<String>,
    /// Mount for the test, writes thrown away (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Test and review")]
    pub test_overlay: Vec<String>,
    /// Review the patch, on standard input, with this command, run by sh -c
    #[arg(long, value_name = "CMD", help_heading = "Test and review")]
    pub review: Option<String>,
    /// What accepts: digest (the line `accept SHA256` on descriptor 3), exit (exit 0 alone) [default: digest]
    #[arg(long, value_name = "WAY", help_heading = "Test and review")]
    pub review_by: Option<String>,
    /// Network of the reviewer: none, host [default: none]
    #[arg(long, value_name = "NET", help_heading = "Test and review")]
    pub review_net: Option<String>,
    /// Variable of the reviewer's environment (repeatable)
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Test and review")]
    pub review_env: Vec<String>,
    /// Variable passed to the reviewer from outside; a secret (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "Test and review")]
    pub review_pass_env: Vec<String>,
    /// Mount read-only for the reviewer (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Test and review")]
    pub review_ro: Vec<String>,
    /// Mount for the reviewer, written through (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Test and review")]
    pub review_rw: Vec<String>,
    /// Mount for the reviewer, writes thrown away (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Test and review")]
    pub review_overlay: Vec<String>,

    /// Time of the backend, from start to end [default: 30m]
    #[arg(long, value_name = "TIME", help_heading = "Times and limits")]
    pub timeout: Option<String>,
    /// Time of the backend without output [default: 10m]
    #[arg(long, value_name = "TIME", help_heading = "Times and limits")]
    pub idle_timeout: Option<String>,
    /// Time between SIGTERM and SIGKILL [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = "Times and limits")]
    pub grace: Option<String>,
    /// Time of the test command [default: 10m]
    #[arg(long, value_name = "TIME", help_heading = "Times and limits")]
    pub test_timeout: Option<String>,
    /// Time of the reviewer [default: 10m]
    #[arg(long, value_name = "TIME", help_heading = "Times and limits")]
    pub review_timeout: Option<String>,
    /// Time to answer one request for approval [default: 10m]
    #[arg(long, value_name = "TIME", help_heading = "Times and limits")]
    pub approval_timeout: Option<String>,
    /// Memory of one sandbox [default: half of the host's]
    #[arg(long, value_name = "SIZE", help_heading = "Times and limits")]
    pub memory: Option<String>,
    /// Processes and threads [default: 4096]
    #[arg(long, value_name = "N", help_heading = "Times and limits")]
    pub pids_limit: Option<String>,
    /// CPUs, for example 1.5 [default: all]
    #[arg(long, value_name = "N", help_heading = "Times and limits")]
    pub cpus: Option<String>,
    /// What a sandbox may write to its private file systems [default: 8G]
    #[arg(long, value_name = "SIZE", help_heading = "Times and limits")]
    pub disk: Option<String>,
    /// Size of each raw log [default: 64M]
    #[arg(long, value_name = "SIZE", help_heading = "Times and limits")]
    pub max_log: Option<String>,
    /// Number of changed files [default: 20000]
    #[arg(long, value_name = "N", help_heading = "Times and limits")]
    pub max_files: Option<String>,
    /// Size of the patch [default: 32M]
    #[arg(long, value_name = "SIZE", help_heading = "Times and limits")]
    pub max_patch: Option<String>,

    /// Toolchain view beside base, also for test and review: rust, node, python (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "Sandbox of the backend")]
    pub view: Vec<String>,
    /// Network: none, host [default: none]
    #[arg(long, value_name = "NET", help_heading = "Sandbox of the backend")]
    pub net: Option<String>,
    /// Mount read-only (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Sandbox of the backend")]
    pub ro: Vec<String>,
    /// Mount, written through to the host (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Sandbox of the backend")]
    pub rw: Vec<String>,
    /// Mount, writes thrown away (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Sandbox of the backend")]
    pub overlay: Vec<String>,
    /// Variable of the environment (repeatable)
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Sandbox of the backend")]
    pub env: Vec<String>,
    /// Variable passed from outside; a secret (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "Sandbox of the backend")]
    pub pass_env: Vec<String>,
    /// Lowest sandbox level accepted: full, landlock [default: full]
    #[arg(long, value_name = "LEVEL", help_heading = "Sandbox of the backend")]
    pub min_level: Option<String>,
    /// Where the private layers lie: auto, memory (a limited tmpfs), disk (size only watched) [default: auto]
    #[arg(long, value_name = "PLACE", help_heading = "Sandbox of the backend")]
    pub layer: Option<String>,

    /// How requests for approval are answered: ask, deny, or an answer log's path [default: deny]
    #[arg(long, value_name = "ask|deny|FILE", help_heading = "Answers and evidence")]
    pub approvals: Option<String>,
    /// Evidence directory; must not exist, or be empty [default: a new one below the state directory]
    #[arg(long, value_name = "DIR", help_heading = "Answers and evidence")]
    pub evidence: Option<PathBuf>,
    /// Write the report as one page for browsers too: report.html
    #[arg(long, help_heading = "Answers and evidence")]
    pub html: bool,
    /// Nonce for the freshness proof, 16 to 128 hexadecimal digits [default: random]
    #[arg(long, value_name = "HEX", help_heading = "Answers and evidence")]
    pub nonce: Option<String>,
    /// Sign the evidence with this private key (`proctor keygen`)
    #[arg(long, value_name = "KEY", help_heading = "Answers and evidence")]
    pub sign: Option<String>,

    /// The backend's command (engine command), or its scenario file (engine fake)
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl RunArgs {
    /// For commands that need none: without a command, a shell stands for it.
    pub(super) fn command_or_shell(&mut self) {
        if self.command.is_empty() {
            self.command.push("sh".into());
        }
    }

    /// The request that these options make. Only their form (`NAME=VALUE`) is checked here.
    pub fn into_request(self) -> Result<Request, ProfileError> {
        let approvals = match self.approvals {
            Some(text) if matches!(text.as_str(), "ask" | "deny") => {
                RawApprovals { mode: Some(unplaced(text)), file: None }
            }
            Some(text) => RawApprovals { mode: None, file: Some(unplaced(text)) },
            None => RawApprovals::default(),
        };
        let overrides = RawProfile {
            description: None,
            // Named by `Request::profile`, which also reaches files that no layer could name.
            profile: None,
            enable_engines: list(self.enable_engine),
            engine: self.engine.map(unplaced),
            mutation: self.mutation.map(unplaced),
            hide: list(self.hide),
            lift_hide: None,
            changes: RawChanges {
                allow: list(self.allow_change),
                deny: list(self.deny_change),
                ask: list(self.ask_change),
                protect: list(self.protect),
                lift_protect: None,
            },
            test: RawTest {
                command: self.test.map(unplaced),
                off: self.no_test.then(|| unplaced(true)),
                net: self.test_net.map(unplaced),
                env: variables("--test-env", self.test_env)?,
                pass_env: list(self.test_pass_env),
                ro: list(self.test_ro),
                rw: list(self.test_rw),
                overlay: list(self.test_overlay),
            },
            review: RawReview {
                command: self.review.map(unplaced),
                by: self.review_by.map(unplaced),
                net: self.review_net.map(unplaced),
                env: variables("--review-env", self.review_env)?,
                pass_env: list(self.review_pass_env),
                ro: list(self.review_ro),
                rw: list(self.review_rw),
                overlay: list(self.review_overlay),
            },
            timeouts: RawTimeouts {
                wall: self.timeout.map(unplaced),
                idle: self.idle_timeout.map(unplaced),
                grace: self.grace.map(unplaced),
                test: self.test_timeout.map(unplaced),
                review: self.review_timeout.map(unplaced),
                approval: self.approval_timeout.map(unplaced),
            },
            limits: RawLimits {
                memory: self.memory.map(scalar),
                pids: self.pids_limit.map(scalar),
                cpus: self.cpus.map(scalar),
                disk: self.disk.map(scalar),
                max_log: self.max_log.map(scalar),
                max_files: self.max_files.map(scalar),
                max_patch: self.max_patch.map(scalar),
            },
            sandbox: RawSandbox {
                views: list(self.view),
                net: self.net.map(unplaced),
                ro: list(self.ro),
                rw: list(self.rw),
                overlay: list(self.overlay),
                env: variables("--env", self.env)?,
                pass_env: list(self.pass_env),
                min_level: self.min_level.map(unplaced),
                layer: self.layer.map(unplaced),
            },
            approvals,
            sign: self.sign.map(unplaced),
            report: RawReport { html: self.html.then(|| unplaced(true)) },
        };
        Ok(Request {
            overrides,
            config: self.config,
            profile: self.profile,
            repo: self.repo,
            task: self.task,
            stage: self.stage,
            evidence: self.evidence,
            nonce: self.nonce,
            command: self.command,
        })
    }
}

/// An option that was not given says nothing; it is not an empty list.
fn list(values: Vec<String>) -> Texts {
    if values.is_empty() { None } else { Some(values.into_iter().map(unplaced).collect()) }
}

fn scalar(text: String) -> toml::Spanned<Scalar> {
    unplaced(Scalar(text))
}

fn variables(option: &str, values: Vec<String>) -> Result<RawEnv, ProfileError> {
    let mut out = RawEnv::new();
    for text in values {
        let fail =
            |what: String, remedy: &str| Err(Bad::new(what).remedy(remedy).at(Place::Option(option.into())));
        let Some((name, value)) = text.split_once('=') else {
            return fail(
                format!("`{}` has no `=`", text.escape_debug()),
                "write NAME=VALUE; to pass a variable from outside, use the option whose name has `pass-env`",
            );
        };
        if out.insert(name.to_owned(), unplaced(value.to_owned())).is_some() {
            return fail(format!("`{}` is set twice", name.escape_debug()), "set it once");
        }
    }
    Ok(out)
}
