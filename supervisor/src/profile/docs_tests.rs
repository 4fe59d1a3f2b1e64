//! `docs/profiles.md`, the table of keys, the structs of `raw` and the options of the command line say the same.

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::keys::{KEYS, Key, Merge};
use super::{host, layers, protect, raw, view};
use crate::cli::run_args::RunArgs;

#[derive(clap::Parser)]
#[command(
    name = "run",
    about = "Run a backend on a git work tree inside a sandbox, judge what it did, leave evidence"
)]
struct Cli {
    #[command(flatten)]
    args: RunArgs,
}

/// A deserializer that gives nothing and keeps the names of the fields it was asked for.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("only names were wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    assert!(T::deserialize(FieldNames(&mut names)).is_err());
    assert!(!names.is_empty());
    names
}

/// Full names of every key that the raw structs read.
fn raw_keys() -> BTreeSet<String> {
    let tables = [
        ("changes", fields::<raw::RawChanges>()),
        ("test", fields::<raw::RawTest>()),
        ("review", fields::<raw::RawReview>()),
        ("timeouts", fields::<raw::RawTimeouts>()),
        ("limits", fields::<raw::RawLimits>()),
        ("sandbox", fields::<raw::RawSandbox>()),
        ("approvals", fields::<raw::RawApprovals>()),
        ("report", fields::<raw::RawReport>()),
    ];
    let top =
        fields::<raw::RawProfile>().iter().filter(|name| !tables.iter().any(|(table, _)| table == *name));
    let mut names: BTreeSet<String> = top.map(|name| (*name).to_owned()).collect();
    for (table, fields) in tables {
        names.extend(fields.iter().map(|field| format!("{table}.{field}")));
    }
    names
}

#[test]
fn the_table_of_keys_is_what_the_structs_read() {
    let listed: BTreeSet<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    assert_eq!(listed.len(), KEYS.len(), "a key is listed twice");
    assert_eq!(listed, raw_keys());
}

#[test]
fn every_option_is_a_key_or_belongs_to_one_run() {
    let command = Cli::command();
    let options: BTreeSet<String> =
        command.get_opts().filter_map(|arg| arg.get_long()).map(|long| format!("--{long}")).collect();
    let of_keys: BTreeSet<String> = KEYS.iter().filter_map(|key| key.option).map(str::to_owned).collect();
    let one_run = ["--config", "--evidence", "--nonce", "--repo", "--stage", "--task"];
    let expected: BTreeSet<String> = of_keys.into_iter().chain(one_run.map(str::to_owned)).collect();
    assert_eq!(options, expected);
}

#[test]
fn help_is_this() {
    let help = Cli::command().term_width(110).render_long_help().to_string();
    insta::assert_snapshot!("run_help", help);
}

#[test]
fn options_of_later_versions_are_not_offered() {
    for option in ["--provider", "--allow-host", "--junit", "--sarif", "--summary", "--tty"] {
        let error = Cli::command().try_get_matches_from(["run", option, "x", "--", "y"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument, "{option}");
    }
}

#[test]
fn the_built_in_defaults_are_those_of_the_table() {
    let defaults: toml::Table = layers::DEFAULT_TOML.parse().unwrap();
    for (table, value) in &defaults {
        let Some(values) = value.as_table() else { continue };
        for (leaf, value) in values {
            let name = format!("{table}.{leaf}");
            let key = KEYS.iter().find(|key| key.name == name).unwrap();
            let text = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Array(items) => items[0].as_str().unwrap().to_owned(),
                other => other.to_string(),
            };
            assert_eq!(key.default, format!("`{text}`"), "{name}");
        }
    }
}

fn row(key: &Key) -> String {
    let option = key.option.map_or_else(|| "–".to_owned(), |option| format!("`{option}`"));
    let merge = match key.merge {
        Merge::Highest => "highest wins",
        Merge::Adds => "add up",
        Merge::ByName => "add up, highest wins for the same one",
    };
    format!("| `{}` | {option} | {} | {} | {merge} | {} |\n", key.name, key.value, key.default, key.about)
}

fn generated() -> Vec<(&'static str, String)> {
    let mut keys =
        "| key | option | value | default | layers | |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    keys.extend(KEYS.iter().map(row));
    let list =
        |globs: &[&str]| globs.iter().map(|glob| format!("`{glob}`")).collect::<Vec<_>>().join(", ") + "\n";
    let mut views = "| view | |\n| --- | --- |\n".to_owned();
    for (name, text) in view::EMBEDDED {
        let raw: view::RawView = toml::from_str(text).unwrap();
        views.push_str(&format!("| `{name}` | {} |\n", raw.description.get_ref()));
    }
    let mut places = "| placeholder | variable | else |\n| --- | --- | --- |\n".to_owned();
    for known in host::PLACEHOLDERS {
        let variables: Vec<String> = known.variables.iter().map(|name| format!("`{name}`")).collect();
        let usual = known.usual.map_or_else(|| "–".to_owned(), |usual| format!("`{usual}`"));
        places.push_str(&format!("| `{{{}}}` | {} | {usual} |\n", known.name, variables.join(", ")));
    }
    let full = include_str!("../../../fixtures/profiles/valid/full.toml");
    vec![
        ("placeholders", places),
        ("keys", keys),
        ("protect", list(&protect::BUILT_IN_PROTECT)),
        ("hide", list(protect::BUILT_IN_HIDE)),
        ("views", views),
        ("example", format!("```toml\n{full}```\n")),
    ]
}

#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/profiles.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    let before = text.clone();
    for (name, part) in generated() {
        let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let start = text.find(&open).unwrap_or_else(|| panic!("no {open}")) + open.len();
        let end = start + text[start..].find(&close).unwrap_or_else(|| panic!("no {close}"));
        text.replace_range(start..end, &part);
    }
    if std::env::var_os("PROCTOR_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(before, text, "run this test once with PROCTOR_UPDATE_DOCS=1 and commit docs/profiles.md");
}

#[test]
fn the_example_uses_every_key() {
    let full: toml::Table = include_str!("../../../fixtures/profiles/valid/full.toml").parse().unwrap();
    // Two that only the configuration has, and one that excludes another.
    let left_out = ["profile", "enable_engines", "approvals.file"];
    for key in KEYS.iter().filter(|key| !left_out.contains(&key.name)) {
        let found = match key.name.split_once('.') {
            Some((table, leaf)) => full.get(table).and_then(|table| table.get(leaf)),
            None => full.get(key.name),
        };
        assert!(found.is_some(), "{} is not in the example", key.name);
    }
}
