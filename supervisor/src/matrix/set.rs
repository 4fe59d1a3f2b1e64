//! The fixtures there are: those of this program, or an operator's own from a directory.

use std::collections::BTreeMap;
use std::path::Path;

use super::fixture::{Fixture, is_name};
use crate::profile::error::{Bad, Place, ProfileError, nearest};
use crate::profile::source::{self, FILE_LIMIT, ReadProblem, SourceText};

/// Most rows of a directory.
const MAX_ROWS: usize = 1000;

/// The twelve rows, in the order of the contract.
pub const TWELVE: &[(&str, &str)] = &[
    ("no-diff", include_str!("../../../fixtures/matrix/no-diff.toml")),
    ("disallowed-file", include_str!("../../../fixtures/matrix/disallowed-file.toml")),
    ("failed-tests", include_str!("../../../fixtures/matrix/failed-tests.toml")),
    ("missing-test-command", include_str!("../../../fixtures/matrix/missing-test-command.toml")),
    ("missing-event", include_str!("../../../fixtures/matrix/missing-event.toml")),
    ("reviewer-reject", include_str!("../../../fixtures/matrix/reviewer-reject.toml")),
    ("approval-denied", include_str!("../../../fixtures/matrix/approval-denied.toml")),
    ("timeout", include_str!("../../../fixtures/matrix/timeout.toml")),
    ("dirty-starting-tree", include_str!("../../../fixtures/matrix/dirty-starting-tree.toml")),
    ("dirty-ending-tree", include_str!("../../../fixtures/matrix/dirty-ending-tree.toml")),
    ("artifact-write-failure", include_str!("../../../fixtures/matrix/artifact-write-failure.toml")),
    ("provider-unavailable", include_str!("../../../fixtures/matrix/provider-unavailable.toml")),
];

macro_rules! further {
    ($($name:literal)+) => {
        /// Rows for every further blocker, and for every further way in which one comes about.
        pub const FURTHER: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../fixtures/matrix/further/", $name, ".toml")))),+];
    };
}

further! {
    "backend-failed-exit"
    "backend-failed-killed"
    "backend-failed-says-so"
    "contradiction"
    "output-limit-log"
    "output-limit-events"
    "output-limit-patch"
    "output-limit-files"
    "resource-limit"
    "secret-in-evidence"
    "sandbox-unavailable"
    "evidence-invalid"
    "interrupted-sigint"
    "interrupted-sigterm"
    "timeout-idle"
    "timeout-test"
    "timeout-review"
    "timeout-approval"
}

macro_rules! scenarios {
    ($($name:literal)+) => {
        /// The scenarios of engine `fake` that fixtures name.
        pub const SCENARIOS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../fixtures/engines/fake/", $name, ".toml")))),+];
    };
}

scenarios! {
    "asks-and-goes-on"
    "breaks-tests"
    "contradiction"
    "disallowed-file"
    "event-flood"
    "exits"
    "failed-turn"
    "fills-disk"
    "flood"
    "hangs"
    "killed"
    "large-file"
    "many-files"
    "mend"
    "missing-event"
    "no-diff"
    "prints-token"
    "provider-unavailable"
    "waits"
}

/// One row.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name: the file's, without `.toml`.
    pub name: String,
    /// What it is.
    pub fixture: Fixture,
    /// True where it is run only by name or with all.
    pub further: bool,
}

/// Fixtures, and the scenarios that they play.
#[derive(Debug, Clone)]
pub struct Set {
    /// In order.
    pub rows: Vec<Row>,
    scenarios: BTreeMap<String, String>,
}

fn parsed(name: &str, source: &SourceText, further: bool) -> Result<Row, ProfileError> {
    Ok(Row { name: name.to_owned(), fixture: Fixture::parse(source)?, further })
}

impl Set {
    /// This program's own.
    ///
    /// # Errors
    /// One is not valid: a defect, and tested.
    pub fn embedded() -> Result<Self, ProfileError> {
        let rows = |list: &[(&str, &str)], further: bool| -> Result<Vec<Row>, ProfileError> {
            let each = |(name, text): &(&str, &str)| {
                let source =
                    SourceText { name: format!("built-in fixture {name}"), text: (*text).to_owned() };
                parsed(name, &source, further)
            };
            list.iter().map(each).collect()
        };
        let mut all = rows(TWELVE, false)?;
        all.extend(rows(FURTHER, true)?);
        let set = Self { rows: all, scenarios: own_scenarios() };
        set.check_scenarios()?;
        Ok(set)
    }

    /// An operator's: `DIR/*.toml`, and scenarios from `DIR/scenarios/*.toml` beside this program's own.
    ///
    /// # Errors
    /// The directory or the first file that cannot be used, and why.
    pub fn from_dir(dir: &Path) -> Result<Self, ProfileError> {
        let mut rows = Vec::new();
        for source in files(dir)? {
            let stem = Path::new(&source.name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            rows.push(parsed(&stem, &source, false)?);
        }
        if rows.is_empty() {
            return Err(Bad::new("there is no fixture here")
                .remedy("put files NAME.toml into it, one a row")
                .at(Place::WholeFile(dir.display().to_string())));
        }
        let mut scenarios = own_scenarios();
        let own = dir.join("scenarios");
        if own.symlink_metadata().is_ok() {
            for source in files(&own)? {
                let stem =
                    Path::new(&source.name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
                scenarios.insert(stem, source.text);
            }
        }
        let set = Self { rows, scenarios };
        set.check_scenarios()?;
        Ok(set)
    }

    fn check_scenarios(&self) -> Result<(), ProfileError> {
        for row in &self.rows {
            let name = row.fixture.fake.as_ref().and_then(|played| played.scenario.as_deref());
            if let Some(name) = name.filter(|name| !self.scenarios.contains_key(*name)) {
                return Err(Bad::new(format!("there is no scenario `{name}`"))
                    .near(name, self.scenarios.keys().map(String::as_str))
                    .remedy(
                        "scenarios stand in the directory `scenarios` beside the fixtures, or are built in",
                    )
                    .at(Place::WholeFile(format!("fixture {}", row.name))));
            }
        }
        Ok(())
    }

    /// The text of a scenario.
    pub fn scenario(&self, name: &str) -> Option<&str> {
        self.scenarios.get(name).map(String::as_str)
    }

    /// The rows with these names, in this order and each once; without a name all, or all that are not further ones.
    ///
    /// # Errors
    /// A name is no row's.
    pub fn select(&self, names: &[String], all: bool) -> Result<Vec<&Row>, UnknownRow> {
        if names.is_empty() {
            return Ok(self.rows.iter().filter(|row| all || !row.further).collect());
        }
        let mut chosen: Vec<&Row> = Vec::new();
        for name in names {
            let known = || self.rows.iter().map(|row| row.name.as_str());
            let Some(row) = self.rows.iter().find(|row| row.name == *name) else {
                return Err(UnknownRow {
                    name: name.clone(),
                    nearest: nearest(name, known()),
                    known: known().map(str::to_owned).collect(),
                });
            };
            if !chosen.iter().any(|other| other.name == row.name) {
                chosen.push(row);
            }
        }
        if all {
            let named: Vec<&str> = chosen.iter().map(|row| row.name.as_str()).collect();
            chosen.extend(self.rows.iter().filter(|row| !named.contains(&row.name.as_str())));
        }
        Ok(chosen)
    }
}

/// A name that no row has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no row `{name}`{}\n  rows: {}", near(.nearest), .known.join(", "), name = .name.escape_debug())]
pub struct UnknownRow {
    /// The name.
    pub name: String,
    /// One that is near.
    pub nearest: Option<String>,
    /// All that there are.
    pub known: Vec<String>,
}

fn near(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("\n  did you mean `{name}`?")).unwrap_or_default()
}

fn own_scenarios() -> BTreeMap<String, String> {
    SCENARIOS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// The TOML files of a directory, by name.
fn files(dir: &Path) -> Result<Vec<SourceText>, ProfileError> {
    let shown = dir.display().to_string();
    let unreadable = |e: std::io::Error| {
        Bad::new(format!("cannot be listed: {e}"))
            .remedy("name a directory of fixtures, one NAME.toml a row")
            .at(Place::WholeFile(shown.clone()))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".toml") else { continue };
        let file = || Place::WholeFile(dir.join(&name).display().to_string());
        if !is_name(stem) {
            return Err(Bad::new("this is no name of a row")
                .remedy("use lower-case letters, digits, `-` and `_`")
                .at(file()));
        }
        if names.len() >= MAX_ROWS {
            return Err(Bad::new(format!("there are more than {MAX_ROWS} files"))
                .remedy("use fewer")
                .at(file()));
        }
        names.push(name);
    }
    names.sort();
    let read = |name: String| {
        let path = dir.join(name);
        let shown = path.display().to_string();
        match source::read(&path, FILE_LIMIT) {
            Ok((text, _)) => Ok(SourceText { name: shown, text }),
            Err(ReadProblem::Absent) => Err(Bad::new("is not there any more").at(Place::WholeFile(shown))),
            Err(ReadProblem::Bad(bad)) => Err(bad.at(Place::WholeFile(shown))),
        }
    };
    names.into_iter().map(read).collect()
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
