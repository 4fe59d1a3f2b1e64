//! One fixture: how its run is made, and what is expected of it (docs/contracts.md, "Failure matrix"). Data, read and
//! checked; nothing is run here.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::event::{EventType, Source};
use crate::exit::{ExitCode, StopSignal};
use crate::profile::error::{Bad, Place, ProfileError};
use crate::profile::source::SourceText;
use crate::verdict::BlockerCode;

/// Engines that rows can be shown with: those that something scripted can be put behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A scenario.
    Fake,
    /// A shell script.
    Command,
}

impl Engine {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fake => "fake",
            Self::Command => "command",
        }
    }
}

/// A row's fixture, as it stands in its file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Fixture {
    /// What it shows, for people.
    pub description: String,
    /// Options of `proctor run`; `{dir}` in them is the row's directory.
    #[serde(default)]
    pub options: Vec<String>,
    /// Variables of Proctor's own environment, beside the few that it always has.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Done in the work tree before the run.
    #[serde(default)]
    pub before: Vec<Act>,
    /// Done in the work tree, or to Proctor, once the backend has started.
    #[serde(default)]
    pub during: Vec<Act>,
    /// Done to the evidence before it is verified.
    #[serde(default)]
    pub after: Vec<Act>,
    /// Bytes that no file written by the run may grow beyond.
    pub file_size_limit: Option<u64>,
    /// Exit code of the run.
    pub exit: u8,
    /// The exact set of blockers.
    pub blockers: Vec<BlockerCode>,
    /// Events that stand beside `blocker.raised`.
    pub events: Vec<WantedEvent>,
    /// Fields that a blocker's detail must have, by the blocker's code.
    #[serde(default)]
    pub detail: BTreeMap<BlockerCode, toml::Table>,
    /// Exit code of `proctor verify` on the evidence.
    #[serde(default)]
    pub verify: u8,
    /// How engine `fake` shows it.
    pub fake: Option<Played>,
    /// How engine `command` shows it.
    pub command: Option<Played>,
}

/// How one engine shows a row.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Played {
    /// Engine `fake`: the name of a scenario.
    pub scenario: Option<String>,
    /// Engine `command`: a script for `sh -c`.
    pub script: Option<String>,
    /// Why this engine cannot show it, in place of the two.
    pub not_applicable: Option<String>,
    /// Options beside the row's.
    #[serde(default)]
    pub options: Vec<String>,
    /// Events beside the row's.
    #[serde(default)]
    pub events: Vec<WantedEvent>,
    /// Blockers instead of the row's.
    pub blockers: Option<Vec<BlockerCode>>,
}

/// An event by source and type, written `SOURCE:TYPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct WantedEvent {
    /// From whom.
    pub source: Source,
    /// What.
    pub event_type: EventType,
}

impl TryFrom<String> for WantedEvent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = text.split_once(':').and_then(|(source, event_type)| {
            let source = Source::ALL.into_iter().find(|known| known.as_str() == source)?;
            Some(Self { source, event_type: EventType::from_name(event_type)? })
        });
        match known {
            Some(event) if event.event_type.allows(event.source) => Ok(event),
            Some(event) => {
                Err(format!("`{}` never comes from {}", event.event_type.as_str(), event.source.as_str()))
            }
            None => Err(format!(
                "`{}` is no event; write SOURCE:TYPE, as in test:test.completed",
                text.escape_debug()
            )),
        }
    }
}

impl From<WantedEvent> for String {
    fn from(event: WantedEvent) -> Self {
        event.to_string()
    }
}

impl std::fmt::Display for WantedEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.source.as_str(), self.event_type.as_str())
    }
}

/// Something that somebody else than the run does. Paths are relative: to the work tree, or afterwards to the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// Writes a file, making its directories.
    Write {
        /// Where.
        path: PathBuf,
        /// What.
        content: String,
    },
    /// Adds to a file that is there.
    Append {
        /// Where.
        path: PathBuf,
        /// What.
        content: String,
    },
    /// Removes a file.
    Remove {
        /// Which.
        path: PathBuf,
    },
    /// Makes a symbolic link, and its directories.
    Link {
        /// Where.
        path: PathBuf,
        /// To what.
        to: PathBuf,
    },
    /// Sends Proctor a signal.
    Signal {
        /// Which.
        name: ActSignal,
    },
}

/// Signals that a fixture can send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ActSignal {
    /// SIGINT.
    Int,
    /// SIGTERM.
    Term,
}

impl From<ActSignal> for StopSignal {
    fn from(signal: ActSignal) -> Self {
        match signal {
            ActSignal::Int => Self::Int,
            ActSignal::Term => Self::Term,
        }
    }
}

impl Act {
    /// The path that it is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Write { path, .. }
            | Self::Append { path, .. }
            | Self::Remove { path }
            | Self::Link { path, .. } => Some(path),
            Self::Signal { .. } => None,
        }
    }
}

/// True for names of rows and scenarios: they become names of files and directories.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-')
}

impl Fixture {
    /// Reads a fixture and checks what its types do not say.
    ///
    /// # Errors
    /// The first thing wrong, with its place in the file.
    pub fn parse(source: &SourceText) -> Result<Self, ProfileError> {
        let fixture: Self = source.parse()?;
        fixture.check().map_err(|bad| bad.at(Place::WholeFile(source.name.clone())))?;
        Ok(fixture)
    }

    fn check(&self) -> Result<(), Bad> {
        let bad = |what: String, remedy: &str| Err(Bad::new(what).remedy(remedy));
        for code in [self.exit, self.verify] {
            if ExitCode::from_code(code).is_none() {
                return bad(format!("{code} is no exit code of Proctor's"), "docs/contracts.md lists them");
            }
        }
        if let Some(code) = self.detail.keys().find(|code| !self.blockers.contains(code)) {
            return bad(
                format!("`detail` is about `{code}`, which is not among `blockers`"),
                "add the blocker, or leave its detail out",
            );
        }
        for (place, acts, signals) in
            [("before", &self.before, false), ("during", &self.during, true), ("after", &self.after, false)]
        {
            for act in acts {
                match act.path() {
                    None if !signals => {
                        return bad(
                            format!("`{place}` has a signal, and no run is under way then"),
                            "signals go under `during`",
                        );
                    }
                    None => {}
                    Some(path) => {
                        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
                        if !plain || path.as_os_str().is_empty() {
                            return bad(
                                format!("`{}` in `{place}` is no plain relative path", path.display()),
                                "write it relative and without `..`",
                            );
                        }
                    }
                }
            }
        }
        for (engine, played) in [(Engine::Fake, &self.fake), (Engine::Command, &self.command)] {
            let Some(played) = played else { continue };
            let name = engine.as_str();
            let given = [&played.scenario, &played.script, &played.not_applicable];
            if given.into_iter().flatten().count() != 1 {
                return bad(
                    format!("`[{name}]` says not exactly one of how it is shown and why it is not"),
                    "give `scenario` (fake) or `script` (command), or `not_applicable` with the reason",
                );
            }
            let other = match engine {
                Engine::Fake => &played.script,
                Engine::Command => &played.scenario,
            };
            if other.is_some() {
                return bad(
                    format!("`[{name}]` has what belongs to the other engine"),
                    "fake plays a `scenario`, command runs a `script`",
                );
            }
            if let Some(scenario) = &played.scenario
                && !is_name(scenario)
            {
                return bad(
                    format!("`{}` is no name of a scenario", scenario.escape_debug()),
                    "write the file's name without `.toml`: lower-case letters, digits, `-` and `_`",
                );
            }
            let blockers = played.blockers.as_ref().unwrap_or(&self.blockers);
            if blockers.is_empty() != (self.exit == 0) {
                return bad(
                    format!("exit code {} and {} blockers do not go together", self.exit, blockers.len()),
                    "a run without a blocker passes with exit code 0, and no other does",
                );
            }
        }
        Ok(())
    }

    /// How an engine shows it; the reason where it cannot.
    ///
    /// # Errors
    /// The reason.
    pub fn played(&self, engine: Engine) -> Result<&Played, String> {
        let played = match engine {
            Engine::Fake => &self.fake,
            Engine::Command => &self.command,
        };
        match played {
            Some(Played { not_applicable: Some(why), .. }) => Err(why.clone()),
            Some(played) => Ok(played),
            None => Err(format!("the fixture has no `[{}]`", engine.as_str())),
        }
    }
}

#[cfg(test)]
#[path = "fixture_tests.rs"]
mod tests;
