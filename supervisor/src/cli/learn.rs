//! `proctor learn`: one run under watch, and a profile proposed from what it lacked. It grants nothing.

use std::path::PathBuf;
use std::sync::Arc;

use proctor_sandbox::launch::Launcher;
use serde_json::json;

use super::output;
use super::run::{Prepared, failed, prepare};
use super::run_args::RunArgs;
use crate::exit::ExitCode;
use crate::profile::HostEnv;
use crate::report::escape;
use crate::run::propose::propose;
use crate::run::{progress, run as run_once};

/// Shown after the help.
pub(super) const EXAMPLES: &str = "\
The command runs once in the profile's sandbox; its changes are thrown away, nothing is tested. The proposal is TOML on
standard output, with the reason for each line; it grants nothing until a run is given it.

Example:
  proctor learn --view rust -- cargo build --offline > learned.toml
  proctor explain --profile ./learned.toml -- cargo build --offline";

/// Where this host has a program.
fn on_host(name: &str, env: &HostEnv) -> Option<PathBuf> {
    let path = PathBuf::from(name);
    if path.is_absolute() {
        return path.is_file().then_some(path);
    }
    if name.contains('/') {
        return None;
    }
    let dirs = env.get("PATH").map(std::env::split_paths)?;
    dirs.map(|dir| dir.join(name)).find(|path| path.is_absolute() && path.is_file())
}

/// Learns.
pub(super) fn run(mut args: RunArgs, json: bool) -> ExitCode {
    // Before any thread exists.
    let launcher = match Launcher::start() {
        Ok(launcher) => launcher,
        Err(e) => return output::error(e, ExitCode::Defect),
    };
    let given = [
        ("--mutation", args.mutation.is_some()),
        ("--test", args.test.is_some()),
        ("--review", args.review.is_some()),
    ];
    if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
        return output::error(
            format_args!(
                "{option}: learn throws all changes away, and tests and reviews nothing; leave the option out"
            ),
            ExitCode::Usage,
        );
    }
    args.mutation = Some("discard".into());
    args.no_test = true;
    let prepared = match prepare(args) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let Prepared { env, host, resolved } = prepared;
    let ui: Arc<dyn progress::Ui> = progress::standard_error();
    let finished = match run_once(resolved, &env, &host, &launcher, Arc::clone(&ui), true) {
        Ok(finished) => finished,
        Err(error) => {
            ui.done();
            return failed(&error);
        }
    };
    for defect in &finished.defects {
        output::note(format_args!("proctor: defect: {defect}"));
    }
    let evidence = finished.evidence.display().to_string();
    let Some((report, _)) = &finished.report else {
        let why = finished.report_error.unwrap_or_default();
        return output::error(format_args!("the report could not be written: {why}"), finished.exit);
    };
    let judged = matches!(finished.exit, ExitCode::Pass | ExitCode::Fail);
    let mut learned = finished.learned;
    let ran = report.backend_exit_code.or(report.backend_signal).is_some();
    // A command that is not inside was not even started: that much is learned.
    let lacking = report.engine.argv.first().filter(|_| judged && !ran).and_then(|name| on_host(name, &env));
    if let Some(program) = &lacking {
        learned.paths.insert(program.clone());
    }
    if !judged || (!ran && lacking.is_none()) {
        for blocker in &report.blockers {
            output::note(format_args!("proctor: {}: {}", blocker.code, blocker.message));
        }
        let code = if judged { ExitCode::Fail } else { finished.exit };
        return output::error(
            format_args!("the command did not run to its end: nothing was learned; see {evidence}"),
            code,
        );
    }
    if ran && learned.unwatched {
        return output::error(
            "the sandbox could not be watched (another seccomp listener is in force): nothing was learned",
            ExitCode::Refused,
        );
    }
    let command = escape::terminal(&report.engine.argv.join(" "));
    let tree = &finished.tree;
    let proposal = match propose(&command, &learned, &report.blockers, tree, &finished.evidence, &env) {
        Ok(proposal) => proposal,
        Err(error) => {
            return output::error(format_args!("the proposal is no profile: {error}"), ExitCode::Defect);
        }
    };
    let ended = match (report.backend_exit_code, report.backend_signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "is not inside and was not started: run learn again with the proposal".to_owned(),
    };
    output::note(format_args!(
        "the command {ended}; {} grants proposed, {} things lacking and not proposed; evidence: {evidence}",
        proposal.grants.len(),
        proposal.withheld.len()
    ));
    if json {
        output::json(&json!({
            "profile": proposal.profile,
            "grants": proposal.grants,
            "withheld": proposal.withheld,
            "not_learned": proposal.not_learned,
            "backend_exit_code": report.backend_exit_code,
            "backend_signal": report.backend_signal,
            "evidence": evidence,
        }));
    } else {
        output::line(proposal.profile.trim_end());
    }
    ExitCode::Pass
}
