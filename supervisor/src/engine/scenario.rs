//! Scenarios of the engine `fake`: a TOML list of steps that its player carries out inside the sandbox, as an
//! untrusted program like any other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The largest scenario file, in bytes.
pub const MAX_SIZE: u64 = 1 << 20;

/// A scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, for people.
    #[serde(default)]
    pub description: String,
    /// Steps, in order.
    #[serde(default)]
    pub step: Vec<Step>,
}

/// One step. Paths are relative to the work tree unless absolute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Prints a plain line.
    Print {
        /// The line.
        text: String,
        /// On standard error.
        #[serde(default)]
        stderr: bool,
    },
    /// Prints a native event line: `name` and fields as JSON.
    Emit {
        /// `turn.started`, `turn.completed`, `turn.failed`, `message`, `tool.started`, ...
        event: String,
        /// Fields.
        #[serde(default)]
        data: toml::Table,
    },
    /// Writes a file, making its directories.
    Write {
        /// Where.
        path: PathBuf,
        /// What.
        content: String,
        /// Permission bits, octal as text.
        #[serde(default)]
        mode: Option<String>,
    },
    /// Replaces text in a file.
    Replace {
        /// Where.
        path: PathBuf,
        /// What; must be there.
        from: String,
        /// By what.
        to: String,
    },
    /// Appends to a file.
    Append {
        /// Where.
        path: PathBuf,
        /// What.
        content: String,
    },
    /// Removes a file or an empty directory.
    Remove {
        /// Which.
        path: PathBuf,
    },
    /// Renames.
    Rename {
        /// From.
        from: PathBuf,
        /// To.
        to: PathBuf,
    },
    /// Makes a symbolic link.
    Symlink {
        /// The link.
        path: PathBuf,
        /// Its target.
        to: PathBuf,
    },
    /// Sleeps.
    Sleep {
        /// Milliseconds.
        ms: u64,
    },
    /// Ignores SIGTERM from here on.
    IgnoreTerm,
    /// Writes lines until `mib` MiB are out.
    Flood {
        /// MiB.
        mib: u64,
    },
    /// Asks for approval and waits for the answer; goes on where it is granted, else fails the turn and exits.
    Ask {
        /// Its id.
        id: String,
        /// What about.
        subject: String,
        /// Go on although it was denied.
        #[serde(default)]
        whatever: bool,
    },
    /// Runs a shell command and waits; its failure is not the scenario's.
    Shell {
        /// The command, for `sh -c`.
        command: String,
    },
    /// Exits.
    Exit {
        /// With this code.
        code: i32,
    },
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// The TOML error, with line and column.
    pub fn parse(text: &str) -> Result<Self, Box<toml::de::Error>> {
        toml::from_str(text).map_err(Box::new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step() -> impl Strategy<Value = Step> {
        let text = || "[ -~é\n\t\u{1b}]{0,20}";
        prop_oneof![
            (text(), any::<bool>()).prop_map(|(text, stderr)| Step::Print { text, stderr }),
            (text(), prop::collection::btree_map("[a-z_]{1,8}", text(), 0..4)).prop_map(|(event, data)| {
                let data = data.into_iter().map(|(key, value)| (key, toml::Value::String(value))).collect();
                Step::Emit { event, data }
            }),
            (text(), text(), prop::option::of("[0-7]{3,4}")).prop_map(|(path, content, mode)| Step::Write {
                path: path.into(),
                content,
                mode
            }),
            (text(), text()).prop_map(|(from, to)| Step::Rename { from: from.into(), to: to.into() }),
            (0..i64::MAX as u64).prop_map(|ms| Step::Sleep { ms }),
            Just(Step::IgnoreTerm),
            any::<i32>().prop_map(|code| Step::Exit { code }),
        ]
    }

    proptest! {
        #[test]
        fn scenarios_are_read_as_they_are_written(description in ".{0,30}", step in prop::collection::vec(step(), 0..6)) {
            let scenario = Scenario { description, step };
            let text = toml::to_string(&scenario).unwrap();
            prop_assert_eq!(Scenario::parse(&text).unwrap(), scenario);
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}", at in any::<prop::sample::Index>(), with in any::<char>()) {
            let _ = Scenario::parse(&text);
            let good = "[[step]]\ndo = \"emit\"\nevent = \"x\"\ndata = { id = \"a\", n = [1, 2.5, true] }\n";
            let at = at.index(good.len());
            let _ = Scenario::parse(&format!("{}{with}{}", &good[..at], &good[at + 1..]));
        }
    }
}
