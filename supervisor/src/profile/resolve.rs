//! From layers to [`RunOptions`]: which layer's value holds, whether it can be used, and who said it.
//! Pure but for the passed-in environment: no file is read here except the task and embedded or named views.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::engine::{self, EngineProfile};
use super::error::{Bad, Place, ProfileError};
use super::host::{HostEnv, HostFacts};
use super::layers::{self, Layer};
use super::policy::EffectiveProfile;
use super::raw::RawProfile;
use super::resolver::Resolver;
use super::sandbox::{self, Which};
use super::source::{ReadProblem, WorkTree, read};
use super::{LayerPlace, Level, ProfileId, RunOptions, fields, globs, policy, protect, values};

/// The most bytes of a task: it travels in one environment string, `PROCTOR_TASK=...`, and execve(2) takes at most
/// 128 KiB in one string, its NUL included.
pub const TASK_LIMIT: usize = 128 * 1024 - "PROCTOR_TASK=".len() - 1;

/// What the command line says beyond keys of a profile.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The options that are also keys.
    pub overrides: RawProfile,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `--repo`.
    pub repo: PathBuf,
    /// `--task`, not yet read.
    pub task: Option<String>,
    /// `--stage`.
    pub stage: Option<String>,
    /// `--evidence`.
    pub evidence: Option<PathBuf>,
    /// `--nonce`.
    pub nonce: Option<String>,
    /// After `--`.
    pub command: Vec<OsString>,
}

/// What resolution depends on beside the request.
pub struct Context<'a> {
    /// The caller's environment.
    pub env: &'a HostEnv,
    /// Facts for defaults.
    pub host: &'a HostFacts,
    /// Says why a glob cannot be used; [`Context::new`] takes the check of this module.
    pub check_glob: &'a dyn Fn(&str) -> Result<(), String>,
}

impl<'a> Context<'a> {
    /// With the default check of globs.
    pub fn new(env: &'a HostEnv, host: &'a HostFacts) -> Self {
        Self { env, host, check_glob: &globs::check }
    }
}

/// A run's options, with what else was found on the way.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The input of `run`.
    pub options: RunOptions,
    /// The engine's profile.
    pub engine: EngineProfile,
    /// False for a gated engine that nobody enabled: the run is refused with `engine_not_enabled`.
    pub engine_enabled: bool,
    /// The effective profile.
    pub policy: EffectiveProfile,
    /// Its canonical form (`profile.json`), whose digest is `options.profile.digest`.
    pub policy_text: String,
}

/// Reads what the request names and resolves it.
pub fn resolve(request: &Request, cx: &Context<'_>) -> Result<Resolved, ProfileError> {
    let tree = WorkTree::around(&request.repo)?;
    let config = request.config.as_deref();
    let profile = request.profile.as_deref();
    let read = layers::load(config, profile, request.overrides.clone(), cx.env, &tree)?;
    resolve_layers(request, &read.layers, &read.profile, cx, &tree)
}

/// Resolves layers that were read already, lowest first.
pub fn resolve_layers(
    request: &Request,
    layers: &[Layer],
    profile: &str,
    cx: &Context<'_>,
    tree: &WorkTree,
) -> Result<Resolved, ProfileError> {
    if let Some(stage) = &request.stage {
        return Err(refuse_stage(stage));
    }
    let mut r = Resolver { layers, cx, origins: Vec::new() };
    let (engine, place) = r.required(
        "engine",
        |raw| raw.engine.as_ref(),
        |text| engine::check_name(text).map(|()| text.to_owned()),
    )?;
    let engine = engine::find(&engine, place, cx.env)?;
    check_arguments(request, &engine)?;
    let enabled = fields::enabled_engines(&mut r)?;
    let views = fields::load_views(&mut r, tree)?;
    let (mutation, _) = r.required("mutation", |raw| raw.mutation.as_ref(), fields::mutation_mode)?;
    let changes = fields::change_policy(&mut r)?;
    fields::refuse_idle_globs(layers, mutation)?;
    let hide = fields::with_built_in(&mut r, "hide", protect::BUILT_IN_HIDE, "lift_hide", |raw| {
        (&raw.hide, &raw.lift_hide)
    })?;
    let test = fields::test_choice(&mut r)?;
    let review = fields::review_choice(&mut r)?;
    let timeouts = fields::timeouts(&mut r)?;
    let limits = fields::limits(&mut r)?;
    let backend = sandbox::resolve(&mut r, Which::Backend, &views, Some(&engine))?;
    let test_sandbox = sandbox::resolve(&mut r, Which::Test, &views, None)?;
    let review_sandbox = sandbox::resolve(&mut r, Which::Review, &views, None)?;
    let (min_level, _) = r.required(
        "sandbox.min_level",
        |raw| raw.sandbox.min_level.as_ref(),
        |text| values::word("sandbox level", text, &[("full", Level::Full), ("landlock", Level::Landlock)]),
    )?;
    let (layer, _) = r.required(
        "sandbox.layer",
        |raw| raw.sandbox.layer.as_ref(),
        |text| {
            let places =
                [("auto", LayerPlace::Auto), ("memory", LayerPlace::Memory), ("disk", LayerPlace::Disk)];
            values::word("place for layers", text, &places)
        },
    )?;
    let approvals = fields::approvals(&mut r, tree)?;
    let html = fields::html(&mut r);
    let sign = fields::sign(&mut r, tree)?;
    let nonce = match &request.nonce {
        Some(text) => Some(values::nonce(text).map_err(|bad| bad.at(Place::Option("--nonce".into())))?),
        None => None,
    };
    let task = match &request.task {
        Some(text) => Some(read_task(text).map_err(|bad| bad.at(Place::Option("--task".into())))?),
        None => None,
    };
    let engine_enabled = !engine.gated || enabled.contains(&engine.name);
    let origins = r.origins;
    let mut options = RunOptions {
        engine: engine.name.clone(),
        command: request.command.clone(),
        stage: None,
        profile: ProfileId { name: profile.to_owned(), digest: String::new() },
        repo: request.repo.clone(),
        task,
        mutation,
        changes,
        hide,
        test,
        review,
        timeouts,
        limits,
        net: backend.net,
        views: views.iter().map(|view| view.name.clone()).collect(),
        mounts: backend.mounts,
        test_sandbox,
        review_sandbox,
        env: backend.env,
        passed: backend.passed,
        approvals,
        min_level,
        layer,
        html,
        evidence: request.evidence.clone(),
        nonce,
        sign,
        origins,
    };
    let policy = policy::effective(&options, &engine);
    let policy_text = policy.canonical().map_err(|e| {
        Bad::new(format!("the effective profile cannot be written: {e}")).at(Place::CommandLine)
    })?;
    options.profile.digest = policy::digest(&policy_text);
    Ok(Resolved { options, engine, engine_enabled, policy, policy_text })
}

fn refuse_stage(stage: &str) -> ProfileError {
    let known = [
        "gated-engine",
        "artificial-fixture",
        "copied-repo-fixture",
        "disposable-sandbox-repo",
        "owned-noncritical-repo",
        "candidate-default",
    ];
    let bad = if known.contains(&stage) {
        Bad::new(format!(
            "the stage `{stage}` cannot be run by this version: it makes no eligibility decisions"
        ))
        .remedy("leave out --stage; the run is then ungoverned, and never evidence for a gate")
    } else {
        Bad::new(format!("there is no stage `{}`", stage.escape_debug()))
            .near(stage, known)
            .remedy(format!("stages: {}", known.join(", ")))
    };
    bad.at(Place::Option("--stage".into()))
}

pub(super) fn check_arguments(request: &Request, engine: &EngineProfile) -> Result<(), ProfileError> {
    let (given, takes) = (request.command.len(), &engine.arguments);
    let fail = |what: String, remedy: String| Err(Bad::new(what).remedy(remedy).at(Place::CommandLine));
    if takes.max == Some(0) && given > 0 {
        return fail(
            format!("the engine `{}` takes no command, but one was given", engine.name),
            "leave out `--` and what follows it, or use `--engine command`".into(),
        );
    }
    let usage = format!("proctor run --engine {} -- {}", engine.name, takes.usage);
    if given < takes.min {
        return fail(format!("the engine `{}` needs {} after `--`", engine.name, takes.usage), usage);
    }
    if takes.max.is_some_and(|max| given > max) {
        return fail(format!("the engine `{}` takes only {} after `--`", engine.name, takes.usage), usage);
    }
    if request.command.first().is_some_and(|program| program.is_empty()) {
        return fail(format!("the {} after `--` is empty", takes.usage), usage);
    }
    let wants_task =
        request.command.iter().any(|arg| arg.as_bytes().windows(6).any(|part| part == b"{task}"));
    if wants_task && request.task.is_none() {
        return fail("the command has `{task}` but there is no task".into(), "give one with --task".into());
    }
    Ok(())
}

/// The task's text: as given, or from `@FILE`.
fn read_task(text: &str) -> Result<String, Bad> {
    let task = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(file) => match read(Path::new(file), TASK_LIMIT as u64) {
            Ok((text, _)) => text,
            Err(ReadProblem::Absent) => {
                return Err(Bad::new(format!("the task file `{file}` does not exist"))
                    .remedy("name a file that exists, or give the text without `@`"));
            }
            Err(ReadProblem::Bad(bad)) => {
                return Err(Bad { what: format!("the task file `{file}` {}", bad.what), ..bad });
            }
        },
    };
    if task.len() > TASK_LIMIT {
        return Err(Bad::new(format!("the task is larger than {TASK_LIMIT} bytes"))
            .remedy("make it shorter, or let it name a file of the work tree"));
    }
    if task.contains('\0') {
        return Err(Bad::new("the task holds a NUL byte").remedy("remove it"));
    }
    if task.trim().is_empty() {
        return Err(Bad::new("the task is empty").remedy("say what is to be done, or leave --task out"));
    }
    Ok(task)
}
