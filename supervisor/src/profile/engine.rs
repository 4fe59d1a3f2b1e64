//! Engine profiles: what the registry says of each kind of backend. Data; how an engine is driven is not here.
//! They are embedded and not overridable: an engine's required events are part of what a pass means.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MountRule;
use super::error::{Bad, Place, ProfileError};
use super::host::HostEnv;
use super::raw::{RawEnv, Text, Texts};
use super::source::SourceText;
use super::view::{self, RawMount};
use crate::event::Source;
use crate::schema::kinds;

/// Names and texts of the registry.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("command", include_str!("../../../profiles/engines/command.toml")),
    ("fake", include_str!("../../../profiles/engines/fake.toml")),
];

/// Engines that the contract names and this version does not have.
const NOT_YET: &[&str] = &["codex", "pi", "case", "claude", "acp"];

/// What the registry says of an engine.
#[derive(Debug, Clone)]
pub struct EngineProfile {
    /// Name.
    pub name: String,
    /// For people.
    pub description: String,
    /// True: refused unless the operator enabled it.
    pub gated: bool,
    /// What stands after `--`.
    pub arguments: Arguments,
    /// Events without which a run is not a pass.
    pub required_events: Vec<RequiredEvent>,
    /// Paths in the work tree (relative) that are the engine's own: private mounts, outside the patch.
    pub scratch: Vec<String>,
    /// Paths in the work tree (relative) whose content would steer the engine: masked.
    pub masked: Vec<String>,
    /// Mounts of the backend's sandbox, as far as the engine needs them.
    pub mounts: Vec<MountRule>,
    /// Variables of the backend's sandbox.
    pub env: BTreeMap<String, String>,
}

/// How many arguments an engine takes after `--`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Arguments {
    /// At least.
    pub min: usize,
    /// At most; absent is any number.
    pub max: Option<usize>,
    /// As usage shows them: `COMMAND [ARG...]`.
    pub usage: String,
}

/// One event that must have been seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequiredEvent {
    /// The phase of the run; one that was not reached requires nothing.
    pub phase: Phase,
    /// Event type, as in `events.normalized.jsonl`.
    pub kind: String,
    /// Who must have said it.
    pub source: EventSource,
}

/// Phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The backend runs.
    Backend,
    /// The test command runs.
    Test,
    /// The reviewer runs.
    Review,
}

/// Sources of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventSource {
    /// Observed by Proctor.
    Supervisor,
    /// Claimed by the backend.
    Backend,
    /// The test's sandbox.
    Test,
    /// The reviewer's sandbox.
    Reviewer,
    /// The operator.
    Operator,
}

impl From<EventSource> for Source {
    fn from(source: EventSource) -> Self {
        match source {
            EventSource::Supervisor => Self::Supervisor,
            EventSource::Backend => Self::Backend,
            EventSource::Test => Self::Test,
            EventSource::Reviewer => Self::Reviewer,
            EventSource::Operator => Self::Operator,
        }
    }
}

/// An engine's file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct RawEngine {
    /// Must equal the file's name.
    #[schemars(with = "kinds::Name")]
    pub name: Text,
    /// For people.
    #[schemars(with = "String")]
    pub description: Text,
    /// Needs the operator's word.
    pub gated: bool,
    /// What stands after `--`.
    pub arguments: Arguments,
    /// Required events.
    pub required: Vec<RawRequired>,
    /// Own paths in the work tree.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub scratch: Texts,
    /// Steering paths in the work tree.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub masked: Texts,
    /// Mounts.
    #[serde(default)]
    pub mounts: Vec<RawMount>,
    /// Variables.
    #[serde(default)]
    #[schemars(with = "kinds::MapOf<kinds::VariableName, String>")]
    pub env: RawEnv,
}

/// `[[required]]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct RawRequired {
    /// Phase.
    pub phase: Phase,
    /// Event type.
    #[schemars(with = "kinds::EventTypeName")]
    pub event: Text,
    /// Source.
    pub source: EventSource,
}

/// Finds an engine by name; `place` is where the name was said.
pub fn find(name: &str, place: Place, env: &HostEnv) -> Result<EngineProfile, ProfileError> {
    let Some((_, text)) = EMBEDDED.iter().find(|(known, _)| *known == name) else {
        return Err(unknown(name).at(place));
    };
    let source = SourceText { name: format!("built-in engine {name}"), text: (*text).to_owned() };
    parse(name, &source, env)
}

/// Says why a name is no engine; `None` where it is one.
pub fn check_name(name: &str) -> Result<(), Bad> {
    if EMBEDDED.iter().any(|(known, _)| *known == name) { Ok(()) } else { Err(unknown(name)) }
}

fn unknown(name: &str) -> Bad {
    let known = EMBEDDED.iter().map(|(name, _)| *name);
    let listed = format!("engines: {}", known.clone().collect::<Vec<_>>().join(", "));
    if NOT_YET.contains(&name) {
        return Bad::new(format!("the engine `{name}` is not in this version")).remedy(listed);
    }
    Bad::new(format!("there is no engine `{}`", name.escape_debug())).near(name, known).remedy(listed)
}

/// Checks an engine's text.
pub fn parse(name: &str, source: &SourceText, env: &HostEnv) -> Result<EngineProfile, ProfileError> {
    let raw: RawEngine = source.parse()?;
    if raw.name.get_ref() != name {
        return Err(Bad::new(format!("the name `{}` is not the file's name `{name}`", raw.name.get_ref()))
            .remedy("make them equal")
            .at(source.place(raw.name.span().start)));
    }
    if raw.arguments.max.is_some_and(|max| max < raw.arguments.min) {
        return Err(Bad::new("`arguments.max` is less than `arguments.min`")
            .remedy("let max be at least min, or leave it out")
            .at(Place::WholeFile(source.name.clone())));
    }
    let mut required_events: Vec<RequiredEvent> = Vec::new();
    for required in &raw.required {
        let event = required.event.get_ref();
        let fail = |bad: Bad| Err(bad.at(source.place(required.event.span().start)));
        let plain =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !event.split('.').all(plain) {
            return fail(
                Bad::new(format!("`{}` is no event type", event.escape_debug()))
                    .remedy("write it as in the events file, for example `backend.exited`"),
            );
        }
        let new = RequiredEvent { phase: required.phase, kind: event.clone(), source: required.source };
        if required_events.contains(&new) {
            return fail(Bad::new(format!("`{event}` is required twice")).remedy("name it once"));
        }
        required_events.push(new);
    }
    Ok(EngineProfile {
        name: name.to_owned(),
        description: raw.description.into_inner(),
        gated: raw.gated,
        arguments: raw.arguments,
        required_events,
        scratch: tree_paths(&raw.scratch, source)?,
        masked: tree_paths(&raw.masked, source)?,
        mounts: view::resolve_mounts(&raw.mounts, source, env)?,
        env: view::resolve_env(&raw.env, source, env)?,
    })
}

/// Relative, plain paths below the work tree's top.
fn tree_paths(list: &Texts, source: &SourceText) -> Result<Vec<String>, ProfileError> {
    let mut out = Vec::new();
    for entry in list.iter().flatten() {
        let text = entry.get_ref();
        let plain = !text.is_empty()
            && !text.contains('\0')
            && Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
        // `.git` is the work tree's own: an engine that could claim it would hide what it did there.
        let git = Path::new(text).components().any(|part| part.as_os_str().eq_ignore_ascii_case(".git"));
        if !plain || git {
            return Err(Bad::new(format!(
                "`{}` is not a plain path inside the work tree",
                text.escape_debug()
            ))
            .remedy("write it relative, without `.`, `..` and `.git`")
            .at(source.place(entry.span().start)));
        }
        out.push(text.trim_end_matches('/').to_owned());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> HostEnv {
        HostEnv { vars: BTreeMap::new(), system_dir: "/nonexistent".into() }
    }

    fn find_engine(name: &str) -> Result<EngineProfile, ProfileError> {
        find(name, Place::Option("--engine".into()), &env())
    }

    #[test]
    fn every_engine_file_is_embedded_and_valid() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/engines");
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".toml", ""))
            .collect();
        files.sort();
        assert_eq!(files, EMBEDDED.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for name in &files {
            assert_eq!(&find_engine(name).unwrap().name, name);
        }
    }

    #[test]
    fn required_events_by_engine() {
        let names = |name: &str| -> Vec<(String, EventSource)> {
            let engine = find_engine(name).unwrap();
            engine
                .required_events
                .into_iter()
                .filter(|e| e.phase == Phase::Backend)
                .map(|e| (e.kind, e.source))
                .collect()
        };
        let observed =
            [("backend.started", EventSource::Supervisor), ("backend.exited", EventSource::Supervisor)];
        let claimed = [("turn.started", EventSource::Backend), ("turn.completed", EventSource::Backend)];
        let owned = |list: &[(&str, EventSource)]| -> Vec<(String, EventSource)> {
            list.iter().map(|(kind, source)| ((*kind).to_owned(), *source)).collect()
        };
        assert_eq!(names("command"), owned(&observed));
        assert_eq!(names("fake"), owned(&[observed, claimed].concat()));
    }

    #[test]
    fn an_unknown_engine_is_an_error_with_the_nearest_name() {
        assert_eq!(
            find_engine("comand").unwrap_err().to_string(),
            "--engine: there is no engine `comand`\n  did you mean `command`?\n  engines: command, fake"
        );
        assert_eq!(
            find_engine("codex").unwrap_err().to_string(),
            "--engine: the engine `codex` is not in this version\n  engines: command, fake"
        );
    }
}
