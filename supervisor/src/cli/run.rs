//! `proctor run`.

use std::sync::Arc;

use proctor_sandbox::launch::Launcher;
use serde_json::json;

use super::output;
use super::run_args::RunArgs;
use crate::changes::globs::GlobList;
use crate::exit::ExitCode;
use crate::profile::{self, HostEnv, HostFacts, Resolved};
use crate::report::{terminal, withheld};
use crate::run::{Finished, RunError, progress, run as run_once};

/// Everything that must be known before a run or its explanation.
pub(super) struct Prepared {
    pub(super) env: HostEnv,
    pub(super) host: HostFacts,
    pub(super) resolved: Resolved,
}

/// Resolves the options.
pub(super) fn prepare(args: RunArgs) -> Result<Prepared, ExitCode> {
    let usage = |e: &dyn std::fmt::Display| output::error(e, ExitCode::Usage);
    let env = HostEnv::of_this_process();
    let host = HostFacts::read().map_err(|e| usage(&format!("cannot read the host's memory size: {e}")))?;
    let request = args.into_request().map_err(|e| usage(&e))?;
    let check = |glob: &str| GlobList::new(&[glob.to_owned()]).map(drop).map_err(|e| e.why);
    let context = profile::Context { env: &env, host: &host, check_glob: &check };
    let resolved = profile::resolve(&request, &context).map_err(|e| usage(&e))?;
    Ok(Prepared { env, host, resolved })
}

/// Runs once.
pub(super) fn run(args: RunArgs, json: bool) -> ExitCode {
    // Before any thread exists.
    let launcher = match Launcher::start() {
        Ok(launcher) => launcher,
        Err(e) => return output::error(e, ExitCode::Defect),
    };
    let prepared = match prepare(args) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let ui: Arc<dyn progress::Ui> = progress::standard_error();
    let finished =
        match run_once(prepared.resolved, &prepared.env, &prepared.host, &launcher, Arc::clone(&ui), false) {
            Ok(finished) => finished,
            Err(error) => {
                ui.done();
                return failed(&error);
            }
        };
    show(&finished, json);
    finished.exit
}

/// Says why a run did not begin.
pub(super) fn failed(error: &RunError) -> ExitCode {
    let code = match error {
        RunError::Evidence(error) if error.is_of_the_file_system() => ExitCode::Evidence,
        RunError::Plan(_) | RunError::Evidence(_) => ExitCode::Usage,
        RunError::Defect(_) => ExitCode::Defect,
    };
    output::error(error, code)
}

fn show(finished: &Finished, json: bool) {
    let evidence = finished.evidence.display().to_string();
    for defect in &finished.defects {
        output::note(format_args!("proctor: defect: {defect}"));
    }
    if let Some(error) = &finished.report_error {
        output::note(format_args!("proctor: error: the report could not be written: {error}"));
    }
    if let Some((report, published)) = &finished.report {
        output::note(terminal::summary(report, Some(&evidence)).trim_end());
        if json {
            let report = withheld::shown(report);
            output::json(&json!({
                "run_id": report.run_id,
                "status": report.status,
                "exit_code": finished.exit.code(),
                "blockers": report.blockers,
                "changed_files": report.changed_files.len(),
                "base_commit": report.base_commit,
                "result_tree": report.result_tree,
                "tests": report.tests,
                "review": report.review,
                "sandbox": { "level": report.sandbox.level, "missing": report.sandbox.missing },
                "evidence": evidence,
                "report_sha256": published.sha256,
            }));
        }
    }
    // The last line, so that a script can take it.
    if !json {
        output::line(evidence);
    }
}
