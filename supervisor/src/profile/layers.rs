//! The layers of policy in their order, lowest first: built-in defaults, the configuration files, the profile,
//! the command line. (Views and the engine stand between the defaults and the configuration, and only add.)
//! Finding and reading them is here; what the values mean is `resolve`'s business.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::error::{Bad, Place, ProfileError};
use super::host::HostEnv;
use super::raw::RawProfile;
use super::source::{self, SourceText, WorkTree};
use super::{keys, values};

/// The built-in defaults, as a profile.
pub const DEFAULT_TOML: &str = include_str!("../../../profiles/default.toml");

/// What kind of layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerKind {
    /// Built in.
    Default,
    /// The operator's configuration.
    Config,
    /// The profile.
    Profile,
    /// The command line.
    CommandLine,
}

/// One layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Kind.
    pub kind: LayerKind,
    /// As `explain` shows it: `default`, `config FILE`, `profile FILE`, `command line`.
    pub label: String,
    /// What it says.
    pub raw: RawProfile,
    source: Option<SourceText>,
}

impl Layer {
    /// The built-in defaults.
    pub fn defaults() -> Result<Self, ProfileError> {
        Self::file(
            LayerKind::Default,
            SourceText { name: "built-in defaults".into(), text: DEFAULT_TOML.into() },
        )
    }

    /// The command line.
    pub fn command_line(raw: RawProfile) -> Self {
        Self { kind: LayerKind::CommandLine, label: "command line".into(), raw, source: None }
    }

    /// A file's text, parsed.
    pub fn file(kind: LayerKind, source: SourceText) -> Result<Self, ProfileError> {
        let raw: RawProfile = source.parse()?;
        let label = match kind {
            LayerKind::Default => "default".to_owned(),
            LayerKind::Config => format!("config {}", source.name),
            LayerKind::Profile => format!("profile {}", source.name),
            LayerKind::CommandLine => "command line".to_owned(),
        };
        let layer = Self { kind, label, raw, source: Some(source) };
        if kind != LayerKind::Config {
            layer.refuse_config_only()?;
        }
        Ok(layer)
    }

    /// Where a value of this layer stands.
    pub fn place<T>(&self, key: &str, value: &Spanned<T>) -> Place {
        match &self.source {
            Some(source) => source.place(value.span().start),
            None => self.place_of_key(key),
        }
    }

    /// Where a key of this layer stands, where no value is at hand.
    pub fn place_of_key(&self, key: &str) -> Place {
        match (&self.source, keys::option_of(key)) {
            (Some(source), _) => Place::WholeFile(source.name.clone()),
            (None, Some(option)) => Place::Option(option.into()),
            (None, None) => Place::CommandLine,
        }
    }

    fn refuse_config_only(&self) -> Result<(), ProfileError> {
        let fail = |key: &str, place| {
            Err(Bad::new(format!("`{key}` belongs in the operator's configuration, not in a profile"))
                .remedy("move it to config.toml, or give it on the command line")
                .at(place))
        };
        if let Some(value) = &self.raw.profile {
            return fail("profile", self.place("profile", value));
        }
        match &self.raw.enable_engines {
            Some(list) => match list.first() {
                Some(first) => fail("enable_engines", self.place("enable_engines", first)),
                None => fail("enable_engines", self.place_of_key("enable_engines")),
            },
            None => Ok(()),
        }
    }
}

/// What was read, lowest layer first, and the profile's name.
#[derive(Debug, Clone)]
pub struct Layers {
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// `default`, a name, or a file as given.
    pub profile: String,
}

/// Reads configuration and profile and puts them in order.
///
/// With `config` named only that file is read; else the machine's (`/etc/proctor/config.toml`) and above it the
/// operator's (`$XDG_CONFIG_HOME/proctor/config.toml`), where they exist: what the machine's denies or protects
/// stays so, because those lists add up.
pub fn load(
    config: Option<&Path>,
    profile: Option<&str>,
    command_line: RawProfile,
    env: &HostEnv,
    tree: &WorkTree,
) -> Result<Layers, ProfileError> {
    let mut layers = vec![Layer::defaults()?];
    match config {
        Some(path) => {
            let source = source::read_policy(path, tree)?.ok_or_else(|| {
                Bad::new(format!("`{}` does not exist", path.display()))
                    .remedy("name a file that exists, or leave the option out")
                    .at(Place::Option("--config".into()))
            })?;
            layers.push(Layer::file(LayerKind::Config, source)?);
        }
        None => {
            let dirs = [Some(env.system_dir.clone()), env.config_dir()];
            for dir in dirs.into_iter().flatten() {
                if let Some(source) = source::read_policy(&dir.join("config.toml"), tree)? {
                    layers.push(Layer::file(LayerKind::Config, source)?);
                }
            }
        }
    }
    let (wanted, place) = wanted_profile(profile, &layers);
    if let Some(layer) = find_profile(&wanted, place, env, tree)? {
        layers.push(layer);
    }
    layers.push(Layer::command_line(command_line));
    Ok(Layers { layers, profile: wanted })
}

fn wanted_profile(named: Option<&str>, layers: &[Layer]) -> (String, Place) {
    if let Some(named) = named {
        return (named.to_owned(), Place::Option("--profile".into()));
    }
    let said = layers.iter().rev().find_map(|layer| {
        layer.raw.profile.as_ref().map(|value| (value.get_ref().clone(), layer.place("profile", value)))
    });
    said.unwrap_or_else(|| ("default".to_owned(), Place::CommandLine))
}

/// A profile by name or by path; `None` is the name `default` where no file of that name exists.
fn find_profile(
    wanted: &str,
    place: Place,
    env: &HostEnv,
    tree: &WorkTree,
) -> Result<Option<Layer>, ProfileError> {
    if wanted.contains('/') || wanted.ends_with(".toml") {
        let path = Path::new(wanted);
        if !path.is_absolute() && !matches!(place, Place::Option(_)) {
            return Err(Bad::new(format!("`{wanted}` is not an absolute path"))
                .remedy("in a configuration file name a profile by its name or its absolute path")
                .at(place));
        }
        return match source::read_policy(path, tree)? {
            Some(source) => Ok(Some(Layer::file(LayerKind::Profile, source)?)),
            None => Err(Bad::new(format!("the profile file `{wanted}` does not exist"))
                .remedy("name a file that exists, or a profile's name without `/` and `.toml`")
                .at(place)),
        };
    }
    let name = values::name(wanted).map_err(|bad| bad.at(place.clone()))?;
    match find_named("profiles", &name, env, tree)? {
        Some(source) => Ok(Some(Layer::file(LayerKind::Profile, source)?)),
        None if name == "default" => Ok(None),
        None => Err(Bad::new(format!("there is no profile `{name}`"))
            .near(&name, names_in("profiles", env).iter().map(String::as_str).chain(["default"]))
            .remedy(format!("looked in {}", searched("profiles", env)))
            .at(place)),
    }
}

/// The directories in which named files of a kind are looked for, first match wins: operator's, then machine's.
fn dirs(kind: &str, env: &HostEnv) -> Vec<PathBuf> {
    env.config_dir().into_iter().chain([env.system_dir.clone()]).map(|dir| dir.join(kind)).collect()
}

/// A named file (`profiles/NAME.toml`, `sandbox/NAME.toml`) of the operator or the machine.
pub fn find_named(
    kind: &str,
    name: &str,
    env: &HostEnv,
    tree: &WorkTree,
) -> Result<Option<SourceText>, ProfileError> {
    for dir in dirs(kind, env) {
        if let Some(source) = source::read_policy(&dir.join(format!("{name}.toml")), tree)? {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

/// Names of the files of a kind, for messages only: what cannot be listed is left out.
pub fn names_in(kind: &str, env: &HostEnv) -> Vec<String> {
    let entries = dirs(kind, env).into_iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten();
    let mut names: Vec<String> = entries
        .take(1000)
        .filter_map(|entry| {
            entry.ok()?.file_name().into_string().ok()?.strip_suffix(".toml").map(str::to_owned)
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The searched directories, for messages.
pub fn searched(kind: &str, env: &HostEnv) -> String {
    dirs(kind, env).iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" and ")
}
