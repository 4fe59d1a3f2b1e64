//! The one error of profiles, configuration and run options: what was wrong, where, the nearest valid word and
//! what to do. It always means that nothing has started (exit code 2).

use std::fmt;

/// Why a profile, a configuration file or a run's options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileError {
    /// Where.
    pub place: Place,
    /// What is wrong, as a sentence without its full stop.
    pub what: String,
    /// The nearest valid key or value, where one is near.
    pub nearest: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Where an error is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At a line and column (both from 1, columns in characters) of a file.
    File {
        /// The file as it was named.
        file: String,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// A file as a whole.
    WholeFile(String),
    /// An option of the command line, with its dashes.
    Option(String),
    /// The options together.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::WholeFile(file) => f.write_str(file),
            Self::Option(option) => f.write_str(option),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "\n  did you mean `{nearest}`?")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ProfileError {}

/// What is wrong with one value, before anybody said where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// As [`ProfileError::what`].
    pub what: String,
    /// As [`ProfileError::nearest`].
    pub nearest: Option<String>,
    /// As [`ProfileError::remedy`].
    pub remedy: Option<String>,
}

impl Bad {
    /// Only what is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), nearest: None, remedy: None }
    }

    /// With what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With the nearest of `candidates`, where one is near enough to `word`.
    #[must_use]
    pub fn near<'a>(mut self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        self.nearest = nearest(word, candidates);
        self
    }

    /// At a place.
    pub fn at(self, place: Place) -> ProfileError {
        ProfileError { place, what: self.what, nearest: self.nearest, remedy: self.remedy }
    }
}

/// The candidate that `word` most likely stands for; `None` where all are too far (a guess is worse than none).
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // A distance is quadratic in the lengths; nobody mistypes a key by hundreds of characters.
    if word.len() > 100 {
        return None;
    }
    let limit = (word.chars().count() / 3).max(2);
    let folded = |text: &str| text.replace('-', "_").to_lowercase();
    let word = folded(word);
    candidates
        .into_iter()
        .map(|candidate| match folded(candidate).strip_prefix(&word) {
            // A beginning is nearer than any misspelling.
            Some(_) if word.len() >= 3 => (0, candidate),
            _ => (strsim::damerau_levenshtein(&word, &folded(candidate)), candidate),
        })
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_and_a_far_one_is_not() {
        let keys = ["memory", "pids", "cpus", "max_log"];
        assert_eq!(nearest("memroy", keys).as_deref(), Some("memory"));
        assert_eq!(nearest("max-log", keys).as_deref(), Some("max_log"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest(&"m".repeat(5000), keys), None);
    }

    #[test]
    fn the_text_says_where_what_and_what_to_do() {
        let place = Place::File { file: "ci.toml".into(), line: 3, column: 7 };
        let error = Bad::new("unknown key `memroy`")
            .near("memroy", ["memory"])
            .remedy("see docs/profiles.md for every key")
            .at(place);
        assert_eq!(
            error.to_string(),
            "ci.toml:3:7: unknown key `memroy`\n  did you mean `memory`?\n  see docs/profiles.md for every key"
        );
        assert_eq!(Bad::new("x").at(Place::Option("--net".into())).to_string(), "--net: x");
        assert_eq!(Bad::new("x").at(Place::CommandLine).to_string(), "command line: x");
        assert_eq!(Bad::new("x").at(Place::WholeFile("a".into())).to_string(), "a: x");
    }
}
