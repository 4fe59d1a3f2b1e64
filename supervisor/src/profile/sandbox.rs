//! The three sandboxes of a run (backend, test, reviewer): network, mounts, environment. The views serve all three;
//! the engine's and the operator's own grants each serve the one they were given for.

use std::collections::BTreeSet;
use std::path::Path;

use super::engine::EngineProfile;
use super::error::{Bad, ProfileError};
use super::fields::{Vars, network};
use super::layers::{Layer, LayerKind};
use super::mounts::{self, MountTable};
use super::raw::{RawEnv, RawProfile, Text, Texts};
use super::resolver::Resolver;
use super::view::View;
use super::{CheckSandbox, MountMode, MountRule, values};

/// `PATH` where nothing is put before it.
pub const BASE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Which sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The backend's.
    Backend,
    /// The test command's.
    Test,
    /// The reviewer's.
    Review,
}

impl Which {
    fn table(self) -> &'static str {
        match self {
            Self::Backend => "sandbox",
            Self::Test => "test",
            Self::Review => "review",
        }
    }
}

/// One layer's words about one sandbox.
struct Grants<'a> {
    net: &'a Option<Text>,
    mounts: [(MountMode, &'a Texts); 3],
    env: &'a RawEnv,
    pass_env: &'a Texts,
}

fn grants(raw: &RawProfile, which: Which) -> Grants<'_> {
    macro_rules! of {
        ($table:expr) => {
            Grants {
                net: &$table.net,
                mounts: [
                    (MountMode::Ro, &$table.ro),
                    (MountMode::Rw, &$table.rw),
                    (MountMode::Overlay, &$table.overlay),
                ],
                env: &$table.env,
                pass_env: &$table.pass_env,
            }
        };
    }
    match which {
        Which::Backend => of!(raw.sandbox),
        Which::Test => of!(raw.test),
        Which::Review => of!(raw.review),
    }
}

/// Resolves one sandbox. Layers, lowest first: views, engine, then those of the resolver.
pub(super) fn resolve(
    r: &mut Resolver<'_>,
    which: Which,
    views: &[View],
    engine: Option<&EngineProfile>,
) -> Result<CheckSandbox, ProfileError> {
    let table = which.table();
    let key = |leaf: &str| format!("{table}.{leaf}");
    let (net, _) = r.required(&key("net"), |raw| grants(raw, which).net.as_ref(), network)?;
    let mut mounts = Mounts::default();
    let mut vars = Variables { path: BASE_PATH.to_owned(), ..Variables::default() };
    for view in views {
        mounts.add_all(&view.label, &view.mounts).map_err(|bad| bad.at(super::Place::CommandLine))?;
        vars.add(&view.env, &view.label);
    }
    let dirs: Vec<&str> = views.iter().rev().flat_map(|view| view.path.iter().map(String::as_str)).collect();
    if !dirs.is_empty() {
        vars.path = format!("{}:{BASE_PATH}", dirs.join(":"));
    }
    if let Some(engine) = engine {
        let label = format!("engine {}", engine.name);
        mounts.add_all(&label, &engine.mounts).map_err(|bad| bad.at(super::Place::CommandLine))?;
        vars.add(&engine.env, &label);
    }
    for layer in r.layers {
        mounts.next(&layer.label);
        let said = grants(&layer.raw, which);
        for (mode, list) in said.mounts {
            for value in list.iter().flatten() {
                let key = key(mode.word());
                let fail = |bad: Bad| bad.at(layer.place(&key, value));
                // The shell has replaced what the operator wrote on the command line; files have placeholders.
                let text = match layer.kind {
                    LayerKind::CommandLine => value.get_ref().clone(),
                    _ => r.cx.env.expand(value.get_ref()).map_err(fail)?,
                };
                let path = mounts::mount_path(&text).map_err(fail)?;
                mounts.add(MountRule { path, mode, optional: false }).map_err(fail)?;
            }
        }
        add_variables(r, layer, which, &mut vars)?;
    }
    for (rule, label) in mounts.labelled() {
        r.note(&key(rule.mode.word()), &rule.path.display().to_string(), label);
    }
    Ok(CheckSandbox { net, mounts: mounts.table.rules(), env: vars.finish(r, table), passed: vars.passed() })
}

fn add_variables(
    r: &Resolver<'_>,
    layer: &Layer,
    which: Which,
    vars: &mut Variables,
) -> Result<(), ProfileError> {
    let said = grants(&layer.raw, which);
    let (env_key, pass_key) = (format!("{}.env", which.table()), format!("{}.pass_env", which.table()));
    for (name, value) in said.env {
        values::env_name(name)
            .and_then(|()| values::env_value(value.get_ref()))
            .map_err(|bad| bad.at(layer.place(&env_key, value)))?;
        vars.set(name, value.get_ref(), &layer.label, false);
    }
    for value in said.pass_env.iter().flatten() {
        let name = value.get_ref();
        let found = values::env_name(name).and_then(|()| {
            if said.env.contains_key(name) {
                return Err(
                    Bad::new(format!("`{name}` is both set and passed from outside")).remedy("do only one")
                );
            }
            let outside = r.cx.env.vars.get(std::ffi::OsStr::new(name)).ok_or_else(|| {
                Bad::new(format!("`{name}` is to be passed from outside, and is not set there"))
                    .remedy("set it, or leave it out")
            })?;
            let text = outside.to_str().ok_or_else(|| {
                Bad::new(format!("`{name}` is to be passed from outside, and its value is not UTF-8"))
                    .remedy("leave it out")
            })?;
            values::env_value(text).map(|()| text)
        });
        let text = found.map_err(|bad| bad.at(layer.place(&pass_key, value)))?;
        vars.set(name, text, &layer.label, true);
    }
    Ok(())
}

/// Options on the command line for a sandbox that there will not be were meant for another run.
pub(super) fn refuse_idle(
    layers: &[Layer],
    which: Which,
    what: &str,
    remedy: &str,
) -> Result<(), ProfileError> {
    for layer in layers.iter().filter(|layer| layer.kind == LayerKind::CommandLine) {
        let said = grants(&layer.raw, which);
        let leaf = if said.net.is_some() {
            Some("net")
        } else if !said.env.is_empty() {
            Some("env")
        } else if said.pass_env.is_some() {
            Some("pass_env")
        } else {
            said.mounts.iter().find(|(_, list)| list.is_some()).map(|(mode, _)| mode.word())
        };
        if let Some(leaf) = leaf {
            return Err(Bad::new(what)
                .remedy(remedy)
                .at(layer.place_of_key(&format!("{}.{leaf}", which.table()))));
        }
    }
    Ok(())
}

/// Mounts with the layer that said each.
#[derive(Default)]
struct Mounts {
    table: MountTable,
    labels: Vec<String>,
}

impl Mounts {
    fn next(&mut self, label: &str) {
        self.labels.push(label.to_owned());
    }

    fn add(&mut self, rule: MountRule) -> Result<(), Bad> {
        self.table.add(self.labels.len(), rule)
    }

    fn add_all(&mut self, label: &str, rules: &[MountRule]) -> Result<(), Bad> {
        self.next(label);
        rules.iter().try_for_each(|rule| self.add(rule.clone()))
    }

    fn labelled(&self) -> Vec<(MountRule, &str)> {
        let rules = self.table.rules();
        rules
            .into_iter()
            .map(|rule| {
                let layer = self.table.layer_of(Path::new(&rule.path));
                let label = layer.and_then(|layer| self.labels.get(layer.saturating_sub(1)));
                (rule, label.map_or("default", String::as_str))
            })
            .collect()
    }
}

/// Variables with the layer that said each.
#[derive(Default)]
struct Variables {
    path: String,
    vars: Vars,
    labels: std::collections::BTreeMap<String, String>,
    passed: BTreeSet<String>,
}

impl Variables {
    fn add(&mut self, env: &Vars, label: &str) {
        for (name, value) in env {
            self.set(name, value, label, false);
        }
    }

    fn set(&mut self, name: &str, value: &str, label: &str, passed: bool) {
        self.vars.insert(name.to_owned(), value.to_owned());
        self.labels.insert(name.to_owned(), label.to_owned());
        if passed {
            self.passed.insert(name.to_owned());
        } else {
            self.passed.remove(name);
        }
    }

    /// The variables, recorded; a passed value is a secret and is not.
    fn finish(&mut self, r: &mut Resolver<'_>, table: &str) -> Vars {
        if !self.vars.contains_key("PATH") {
            let path = self.path.clone();
            self.set("PATH", &path, "views", false);
        }
        for (name, label) in &self.labels {
            if self.passed.contains(name) {
                r.note(&format!("{table}.pass_env"), name, label);
            } else {
                r.note(&format!("{table}.env.{name}"), &self.vars[name], label);
            }
        }
        self.vars.clone()
    }

    fn passed(&self) -> Vec<String> {
        self.passed.iter().cloned().collect()
    }
}
