//! `proctor schema`: the JSON Schemas of records and profiles.

use clap::Args;
use serde_json::{Value, json};
use strsim::jaro_winkler;

use super::output;
use crate::exit::ExitCode;
use crate::schema::{self, ALL};

pub(super) const EXAMPLE: &str = "Example:
  proctor schema
  proctor schema report > report.schema.json";

/// Arguments.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Which; without it they are listed
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Prints one schema, or lists them all.
pub(super) fn run(args: &SchemaArgs, json: bool) -> ExitCode {
    let Some(name) = &args.name else {
        list(json);
        return ExitCode::Pass;
    };
    let Some(found) = schema::find(name) else {
        return output::error(unknown(name), ExitCode::Usage);
    };
    // The file's own bytes, so that it can be compared with a committed one.
    if json {
        output::json(&found.value())
    } else {
        output::line(found.text().trim_end())
    }
    ExitCode::Pass
}

fn list(json: bool) {
    if json {
        let all: Vec<Value> = ALL
            .iter()
            .map(
                |one| json!({ "name": one.name, "version": one.version, "id": one.id(), "title": one.title }),
            )
            .collect();
        output::json(&json!({ "schemas": all }));
        return;
    }
    for one in ALL {
        output::line(format_args!("{:<10} {:<13} {}", one.name, one.version, one.title));
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = ALL.iter().map(|one| one.name).collect();
    let near = names.iter().copied().map(|known| (jaro_winkler(known, name), known));
    let near = near.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    let shown: String = name.chars().take(60).collect();
    let hint = near.map_or_else(String::new, |(_, known)| format!(" (did you mean `{known}`?)"));
    format!("there is no schema `{shown}`{hint}: schemas are {}", names.join(", "))
}
