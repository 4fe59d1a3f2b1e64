//! JSON Schemas (draft 2020-12) of what Proctor writes and of what its operator may write, made from the types that write
//! and read it. Committed under `schemas/`; a test holds those files against what is made here.
//!
//! A schema says what one document may be. That documents agree with each other is `proctor verify`'s work.

pub mod data;
mod event;
pub mod kinds;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::governance::{Admission, Decision, GateRecord};
use crate::profile::engine::RawEngine;
use crate::profile::keys::KEYS;
use crate::profile::policy::EffectiveProfile;
use crate::profile::raw::RawProfile;
use crate::profile::view::RawView;
use crate::report::{Report, escape};

/// The dialect of every schema.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// One schema.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// The name that `proctor schema` takes.
    pub name: &'static str,
    /// What it is of; `$id` is made from it.
    pub version: &'static str,
    /// In one line.
    pub title: &'static str,
    make: fn() -> Value,
}

impl Named {
    /// Its `$id`: a URN, which leads to no host.
    #[must_use]
    pub fn id(&self) -> String {
        format!("urn:proctor:schema:{}", self.version.replace('/', ":"))
    }

    /// The schema.
    #[must_use]
    pub fn value(&self) -> Value {
        let mut schema = (self.make)();
        schema["$schema"] = Value::from(DIALECT);
        schema["$id"] = Value::from(self.id());
        schema["title"] = Value::from(self.title);
        schema
    }

    /// The text of its file: two spaces, one LF at the end; what cannot be seen is escaped.
    #[must_use]
    pub fn text(&self) -> String {
        escape::json(&format!("{:#}\n", self.value()))
    }

    /// The name of its file under `schemas/`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.schema.json", self.name)
    }
}

const fn named(name: &'static str, version: &'static str, title: &'static str, make: fn() -> Value) -> Named {
    Named { name, version, title, make }
}

/// Every schema.
pub const ALL: [Named; 10] = [
    named("report", "report/v1", "report.json: the verdict of a run", report),
    named("event", "events/v1", "One line of events.normalized.jsonl", || event::make(writing())),
    named("decision", "decision/v1", "decision.json: which engine may run, how, and why", decision),
    named("admission", "admission/v1", "The admission of an engine's source", admission),
    named("gate", "gate/v1", "A record of a stage's gate", gate),
    named("profile", "profile/v1", "A profile (TOML), as JSON", profile),
    named(
        "effective-profile",
        "effective-profile/v1",
        "profile.json: every rule that a run stood under",
        || of::<EffectiveProfile>(writing()),
    ),
    named("config", "config/v1", "The operator's configuration (TOML), as JSON", || {
        of::<RawProfile>(reading())
    }),
    named("engine", "engine/v1", "An engine of the registry (TOML), as JSON", || of::<RawEngine>(reading())),
    named("view", "view/v1", "A toolchain view (TOML), as JSON", || of::<RawView>(reading())),
];

/// The schema with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Named> {
    ALL.iter().find(|one| one.name == name)
}

/// For what Proctor writes: every field stands there, but those that are left out where they would say nothing.
fn writing() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

/// For what Proctor reads.
fn reading() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_deserialize().into_generator()
}

fn of<T: JsonSchema>(generator: SchemaGenerator) -> Value {
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    tidy(&mut schema);
    schema
}

fn report() -> Value {
    let mut schema = of::<Report>(writing());
    schema["if"] = json!({ "properties": { "status": { "const": "pass" } } });
    schema["then"] = json!({ "properties": { "exit_code": { "const": 0 }, "blockers": { "maxItems": 0 } } });
    schema["else"] = json!({ "properties": { "exit_code": { "not": { "const": 0 } } } });
    schema
}

fn decision() -> Value {
    let mut schema = of::<Decision>(writing());
    let nothing = json!({ "type": "null" });
    schema["if"] = json!({ "properties": { "kind": { "const": "ungoverned" } } });
    schema["then"] = json!({ "properties": {
        "stage": nothing, "risk_class": nothing, "expires_at": nothing, "required_gates": { "maxItems": 0 },
    } });
    schema["else"] = json!({ "properties": {
        "stage": { "not": nothing }, "risk_class": { "not": nothing }, "escalation_path": { "minItems": 1 },
    } });
    schema["allOf"] = json!([
        {
            "if": { "properties": { "kind": { "const": "recorded" } } },
            "then": { "properties": { "expires_at": { "not": nothing } } },
            "else": { "properties": { "run_id": { "not": nothing } } },
        },
    ]);
    schema
}

fn admission() -> Value {
    let mut schema = of::<Admission>(writing());
    let there = |field: &str| json!({ "properties": { field: { "not": { "type": "null" } } } });
    schema["$defs"]["Pin"]["anyOf"] = json!([there("commit"), there("tag")]);
    schema["$defs"]["Integrity"]["anyOf"] = json!([there("sha256"), there("source_lock")]);
    schema
}

fn gate() -> Value {
    let mut schema = of::<GateRecord>(writing());
    schema["if"] = json!({ "properties": { "kind": { "const": "entry" } } });
    schema["then"] = json!({ "properties": { "outcome": { "type": "null" } } });
    schema["else"] = json!({ "properties": { "outcome": { "not": { "type": "null" } } } });
    schema["allOf"] = json!([
        {
            "if": { "properties": { "outcome": { "const": "promoted" } } },
            "then": { "properties": { "evidence": { "minItems": 1 }, "stage": { "not": { "const": "candidate-default" } } } },
        },
        {
            "if": { "properties": { "stage": { "not": { "const": "gated-engine" } } } },
            "then": { "properties": { "source_id": { "not": { "type": "null" } } } },
        },
    ]);
    schema
}

/// A profile is a configuration without what only that can say.
fn profile() -> Value {
    let mut schema = of::<RawProfile>(reading());
    if let Some(properties) = schema["properties"].as_object_mut() {
        for key in KEYS.iter().filter(|key| key.about.starts_with("Configuration only")) {
            properties.remove(key.name);
        }
    }
    schema
}

/// What holds of all schemas: definitions have titles, numbers no formats that JSON Schema does not know, and a field that
/// may be left out is never null.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(definitions)) = map.get_mut("$defs") {
                for (name, one) in definitions {
                    if let Value::Object(one) = one {
                        one.entry("title").or_insert_with(|| Value::from(name.as_str()));
                    }
                }
            }
            let odd = |text: &str| text.starts_with("uint") || text.starts_with("int") || text == "double";
            if map.get("format").and_then(Value::as_str).is_some_and(odd) {
                map.remove("format");
            }
            let required: Vec<String> = map
                .get("required")
                .and_then(Value::as_array)
                .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                .unwrap_or_default();
            if map.get("type").and_then(Value::as_str) == Some("object")
                && let Some(Value::Object(properties)) = map.get_mut("properties")
            {
                for (name, one) in properties {
                    if !required.contains(name)
                        && let Value::Object(one) = one
                    {
                        not_null(one);
                    }
                }
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn not_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|one| *one != json!({ "type": "null" }));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            schema.extend(only);
        }
    }
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
}

#[cfg(test)]
pub(crate) mod tests;
