//! The fields of a run's options, one by one: from layers to checked values.

use std::path::{Path, PathBuf};

use super::error::{Bad, Place, ProfileError};
use super::layers::{Layer, LayerKind};
use super::raw::{RawProfile, Texts};
use super::resolver::{Resolver, no_default};
use super::sandbox::Which;
use super::source::WorkTree;
use super::view::{self, View};
use super::{
    Approvals, ChangePolicy, Limit, Limits, MutationMode, Network, ReviewChoice, TestChoice, Timeouts,
    engine, protect, sandbox, values,
};

pub(super) fn enabled_engines(r: &mut Resolver<'_>) -> Result<Vec<String>, ProfileError> {
    r.list("enable_engines", true, |raw| &raw.enable_engines, engine::check_name)
}

pub(super) fn load_views(r: &mut Resolver<'_>, tree: &WorkTree) -> Result<Vec<View>, ProfileError> {
    let mut views: Vec<View> = Vec::new();
    let layers = r.layers;
    for layer in layers {
        for value in layer.raw.sandbox.views.iter().flatten() {
            let name = value.get_ref();
            if views.iter().any(|view| view.name == *name) {
                continue;
            }
            let view = view::load(name, layer.place("sandbox.views", value), r.cx.env, tree)?;
            r.note("sandbox.views", name, &layer.label);
            views.push(view);
        }
    }
    Ok(views)
}

pub(super) fn mutation_mode(text: &str) -> Result<MutationMode, Bad> {
    if text == "apply" {
        return Err(Bad::new("the mutation mode `apply` is not in this version")
            .remedy("use `patch`, and apply patch.diff yourself once you have read it"));
    }
    let modes =
        [("none", MutationMode::None), ("discard", MutationMode::Discard), ("patch", MutationMode::Patch)];
    values::word("mutation mode", text, &modes)
}

pub(super) fn change_policy(r: &mut Resolver<'_>) -> Result<ChangePolicy, ProfileError> {
    let built_in = &protect::BUILT_IN_PROTECT;
    Ok(ChangePolicy {
        allow: r.globs("changes.allow", false, |raw| &raw.changes.allow)?,
        deny: r.globs("changes.deny", true, |raw| &raw.changes.deny)?,
        ask: r.globs("changes.ask", true, |raw| &raw.changes.ask)?,
        protect: with_built_in(r, "changes.protect", built_in, "changes.lift_protect", |raw| {
            (&raw.changes.protect, &raw.changes.lift_protect)
        })?,
    })
}

/// A list that adds to a built-in one, of which single entries can be lifted.
pub(super) fn with_built_in<'a>(
    r: &mut Resolver<'a>,
    key: &str,
    built_in: &'static [&'static str],
    lift_key: &str,
    get: impl Fn(&'a RawProfile) -> (&'a Texts, &'a Texts) + Copy,
) -> Result<Vec<String>, ProfileError> {
    let lifted =
        r.list(lift_key, true, |raw| get(raw).1, |text| protect::lifted(built_in, text).map(drop))?;
    let mut out = Vec::new();
    for entry in built_in {
        if lifted.iter().any(|text| protect::lifted(built_in, text).is_ok_and(|lifted| lifted == *entry)) {
            continue;
        }
        r.note(key, entry, "default");
        out.push((*entry).to_owned());
    }
    for glob in r.globs(key, true, |raw| get(raw).0)? {
        if !out.contains(&glob) {
            out.push(glob);
        }
    }
    Ok(out)
}

/// Globs for changes on the command line of a run that can change nothing were meant for another mode.
pub(super) fn refuse_idle_globs(layers: &[Layer], mutation: MutationMode) -> Result<(), ProfileError> {
    if mutation != MutationMode::None {
        return Ok(());
    }
    for layer in layers.iter().filter(|layer| layer.kind == LayerKind::CommandLine) {
        let changes = &layer.raw.changes;
        let lists = [
            ("changes.allow", &changes.allow),
            ("changes.deny", &changes.deny),
            ("changes.ask", &changes.ask),
            ("changes.protect", &changes.protect),
        ];
        if let Some((key, _)) = lists.iter().find(|(_, list)| list.is_some()) {
            return Err(Bad::new(
                "the mutation mode `none` mounts the work tree read-only: there are no changes to judge",
            )
            .remedy("leave the option out, or use `--mutation discard` or `patch`")
            .at(layer.place_of_key(key)));
        }
    }
    Ok(())
}

pub(super) fn test_choice(r: &mut Resolver<'_>) -> Result<TestChoice, ProfileError> {
    let (mut choice, mut said) = (TestChoice::Missing, None);
    for layer in r.layers {
        let raw = &layer.raw.test;
        match (&raw.command, &raw.off) {
            (Some(_), Some(off)) if *off.get_ref() => {
                return Err(Bad::new("a test command and \"no test\" are both given")
                    .remedy("give `--test CMD` or `--no-test` (`command` or `off = true`), not both")
                    .at(layer.place("test.off", off)));
            }
            (Some(command), _) => {
                let place = layer.place("test.command", command);
                choice = TestChoice::Command(
                    values::shell_command(command.get_ref()).map_err(|bad| bad.at(place))?,
                );
                said = Some(("test.command", command.get_ref().clone(), &layer.label));
            }
            (None, Some(off)) if *off.get_ref() => {
                choice = TestChoice::Off;
                said = Some(("test.off", "true".to_owned(), &layer.label));
            }
            (None, Some(_)) if choice == TestChoice::Off => (choice, said) = (TestChoice::Missing, None),
            (None, _) => {}
        }
    }
    if let Some((key, value, layer)) = said {
        r.note(key, &value, layer);
    }
    if choice == TestChoice::Off {
        sandbox::refuse_idle(
            r.layers,
            Which::Test,
            "nothing is tested in this run",
            "leave it out, or give `--test CMD`",
        )?;
    }
    Ok(choice)
}

pub(super) fn review_choice(r: &mut Resolver<'_>) -> Result<Option<ReviewChoice>, ProfileError> {
    let command = r.optional("review.command", |raw| raw.review.command.as_ref(), values::shell_command)?;
    let (by_exit, by_place) = r.required(
        "review.by",
        |raw| raw.review.by.as_ref(),
        |text| values::word("way to accept", text, &[("digest", false), ("exit", true)]),
    )?;
    let Some((command, _)) = command else {
        let remedy = "leave it out, or give `--review CMD`";
        sandbox::refuse_idle(r.layers, Which::Review, "there is no reviewer in this run", remedy)?;
        if matches!(by_place, Place::Option(_)) {
            return Err(Bad::new("there is no reviewer in this run").remedy(remedy).at(by_place));
        }
        return Ok(None);
    };
    Ok(Some(ReviewChoice { command, by_exit }))
}

pub(super) fn timeouts(r: &mut Resolver<'_>) -> Result<Timeouts, ProfileError> {
    let some = values::positive_duration;
    Ok(Timeouts {
        wall: r.required("timeouts.wall", |raw| raw.timeouts.wall.as_ref(), some)?.0,
        idle: r.required("timeouts.idle", |raw| raw.timeouts.idle.as_ref(), some)?.0,
        // No grace at all is a choice: the backend is killed at once.
        grace: r.required("timeouts.grace", |raw| raw.timeouts.grace.as_ref(), values::duration)?.0,
        test: r.required("timeouts.test", |raw| raw.timeouts.test.as_ref(), some)?.0,
        review: r.required("timeouts.review", |raw| raw.timeouts.review.as_ref(), some)?.0,
        approval: r.required("timeouts.approval", |raw| raw.timeouts.approval.as_ref(), some)?.0,
    })
}

pub(super) fn limits(r: &mut Resolver<'_>) -> Result<Limits, ProfileError> {
    let memory = match r.limit("limits.memory", |raw| raw.limits.memory.as_ref(), values::size)? {
        Some(limit) => limit,
        None => {
            let half = r.cx.host.memory / 2;
            if half == 0 {
                return Err(no_default("limits.memory"));
            }
            r.note("limits.memory", &half.to_string(), "default (half of the host's)");
            Limit { value: half, explicit: false }
        }
    };
    fn needed<T>(key: &str, limit: Option<Limit<T>>) -> Result<Limit<T>, ProfileError> {
        limit.ok_or_else(|| no_default(key))
    }
    let pids = r.limit("limits.pids", |raw| raw.limits.pids.as_ref(), values::count)?;
    let cpus = r.limit("limits.cpus", |raw| raw.limits.cpus.as_ref(), values::cpus)?;
    let disk = r.limit("limits.disk", |raw| raw.limits.disk.as_ref(), values::size)?;
    let max_log = r.limit("limits.max_log", |raw| raw.limits.max_log.as_ref(), values::size)?;
    let max_files = r.limit("limits.max_files", |raw| raw.limits.max_files.as_ref(), values::count)?;
    let max_patch = r.limit("limits.max_patch", |raw| raw.limits.max_patch.as_ref(), values::size)?;
    Ok(Limits {
        memory,
        pids: needed("limits.pids", pids)?,
        cpus: needed("limits.cpus", cpus)?.value,
        disk: needed("limits.disk", disk)?,
        max_log: needed("limits.max_log", max_log)?.value,
        max_files: needed("limits.max_files", max_files)?.value,
        max_patch: needed("limits.max_patch", max_patch)?.value,
    })
}

pub(super) fn approvals(r: &mut Resolver<'_>, tree: &WorkTree) -> Result<Approvals, ProfileError> {
    let said =
        r.layers.iter().rev().find(|l| l.raw.approvals.mode.is_some() || l.raw.approvals.file.is_some());
    let Some(layer) = said else {
        return Err(no_default("approvals.mode"));
    };
    let (choice, key, value) = match (&layer.raw.approvals.mode, &layer.raw.approvals.file) {
        (Some(_), Some(file)) => {
            return Err(Bad::new("`mode` and `file` are both given")
                .remedy("give `mode = \"ask\"`, `mode = \"deny\"` or `file = \"/path\"`")
                .at(layer.place("approvals.file", file)));
        }
        (Some(mode), None) => {
            let ask = values::word("way to answer", mode.get_ref(), &[("ask", true), ("deny", false)])
                .map_err(|bad| bad.at(layer.place("approvals.mode", mode)))?;
            (if ask { Approvals::Ask } else { Approvals::Deny }, "approvals.mode", mode.get_ref())
        }
        (None, Some(file)) => {
            let path = Path::new(file.get_ref());
            let place = || layer.place("approvals.file", file);
            check_own_file(path, layer, tree).map_err(|bad| bad.at(place()))?;
            (Approvals::File(path.to_path_buf()), "approvals.file", file.get_ref())
        }
        (None, None) => return Err(no_default("approvals.mode")),
    };
    r.note(key, value, &layer.label);
    Ok(choice)
}

/// Whether the report is also written as a page.
pub(super) fn html(r: &mut Resolver<'_>) -> bool {
    let Some((layer, said)) = r.highest(|raw| raw.report.html.as_ref()) else {
        return false;
    };
    r.note("report.html", &said.get_ref().to_string(), &layer.label);
    *said.get_ref()
}

/// The signing key's file. What it holds is looked at when the run is planned.
pub(super) fn sign(r: &mut Resolver<'_>, tree: &WorkTree) -> Result<Option<PathBuf>, ProfileError> {
    let Some((layer, value)) = r.highest(|raw| raw.sign.as_ref()) else {
        return Ok(None);
    };
    let path = Path::new(value.get_ref());
    check_own_file(path, layer, tree).map_err(|bad| bad.at(layer.place("sign", value)))?;
    r.note("sign", value.get_ref(), &layer.label);
    Ok(Some(path.to_path_buf()))
}

/// A file of the operator's own: outside of the work tree.
fn check_own_file(path: &Path, layer: &Layer, tree: &WorkTree) -> Result<(), Bad> {
    let shown = path.display();
    if path.file_name().is_none() {
        return Err(Bad::new(format!("`{shown}` names no file")).remedy("name a file"));
    }
    if !path.is_absolute() && layer.kind != LayerKind::CommandLine {
        return Err(Bad::new(format!("`{shown}` is not an absolute path")).remedy("start it with `/`"));
    }
    // It may not exist yet; where it does, links count too.
    let real = std::fs::canonicalize(path).ok();
    tree.refuse(path, real.as_deref()).map_err(|bad| Bad { what: format!("`{shown}` {}", bad.what), ..bad })
}

/// A network's name; `proxy` is known, and not in this version.
pub(super) fn network(text: &str) -> Result<Network, Bad> {
    if text == "proxy" {
        return Err(Bad::new("the network `proxy` is not in this version")
            .remedy("use `none`, or `host`, which is reported as a weakness"));
    }
    values::word("network", text, &[("none", Network::None), ("host", Network::Host)])
}

/// Variables by name.
pub(super) type Vars = std::collections::BTreeMap<String, String>;
