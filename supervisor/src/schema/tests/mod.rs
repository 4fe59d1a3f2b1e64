//! The committed schemas are the generated ones, they are schemas, and they are tight: every change of a field's name,
//! type or word that the program would not make is refused.

mod events;
mod profiles;
mod records;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::*;

fn committed(one: &Named) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas").join(one.file_name())
}

const RENEW: &str = "PROCTOR_RENEW_SCHEMAS=1 cargo test -p proctor --lib schema::";

#[test]
fn committed_schemas_are_the_generated_ones() {
    let renew = std::env::var_os("PROCTOR_RENEW_SCHEMAS").is_some();
    for one in ALL {
        let path = committed(&one);
        if renew {
            std::fs::write(&path, one.text()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == one.text(), "{} is not what the types make; renew it with: {RENEW}", path.display());
    }
    let dir = std::fs::read_dir(committed(&ALL[0]).parent().unwrap()).unwrap();
    let mut there: Vec<String> = dir.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    let mut known: Vec<String> = ALL.iter().map(Named::file_name).collect();
    known.sort();
    assert_eq!(there, known, "schemas/ holds schemas and nothing else");
}

pub(crate) fn validator(name: &str) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(&find(name).unwrap().value()).unwrap()
}

#[track_caller]
fn holds(validator: &jsonschema::Validator, value: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{value:#}");
}

/// Every object of a schema with properties, with a name to find it by.
fn objects<'a>(schema: &'a Value, at: &str, found: &mut Vec<(String, &'a Map<String, Value>)>) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") && map.get("type") == Some(&json!("object")) {
                found.push((at.to_owned(), map));
            }
            for (key, value) in map {
                objects(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| objects(value, at, found)),
        _ => {}
    }
}

#[test]
fn they_are_schemas_of_the_dialect_closed_and_described() {
    for one in ALL {
        let schema = one.value();
        jsonschema::meta::validate(&schema).unwrap_or_else(|e| panic!("{}: {e}", one.name));
        assert_eq!(schema["$schema"], DIALECT);
        assert!(schema["$id"].as_str().unwrap().starts_with("urn:proctor:schema:"));
        assert!(schema["description"].as_str().is_some_and(|text| text.len() > 5), "{}", one.name);
        let mut found = Vec::new();
        objects(&schema, one.name, &mut found);
        assert!(!found.is_empty());
        for (at, object) in found {
            assert_eq!(object.get("additionalProperties"), Some(&json!(false)), "{at} takes unknown fields");
            for (name, property) in object["properties"].as_object().unwrap() {
                let said = property.get("description").is_some_and(|text| text.as_str().unwrap().len() > 3);
                assert!(said, "{at}/{name} is not described");
            }
        }
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            assert!(definition["title"].is_string(), "{}: {name} has no title", one.name);
            assert!(definition["description"].is_string(), "{}: {name} is not described", one.name);
        }
        let text = one.text();
        assert!(!text.contains("\"format\": \"uint"), "{}", one.name);
        let hosts = text.matches("://").count() - text.matches("https://json-schema.org/").count();
        assert!(hosts <= 2, "{} names hosts", one.name);
    }
}

/// What a mutation did, and the mutated whole.
type Mutated = (String, Value);

fn with(whole: &Value, pointer: &str, value: Value) -> Value {
    let mut whole = whole.clone();
    *whole.pointer_mut(pointer).unwrap() = value;
    whole
}

/// Below these anything may stand: `NAME` of the last part of a pointer.
const FREE: [&str; 2] = ["detail", "report"];

/// Every change of a name or a type, and every word that is another one; `open` are pointers below which anything stands.
fn mutations(whole: &Value, at: &str, free: &[&str], shapes: &mut Vec<Mutated>, words: &mut Vec<Mutated>) {
    let value = whole.pointer(at).unwrap();
    let last = at.rsplit('/').next().unwrap_or_default();
    let wrong = match value {
        Value::Array(_) => json!(true),
        _ => json!([[{ "no": "such" }]]),
    };
    if !at.is_empty() {
        shapes.push((at.to_owned(), with(whole, at, wrong)));
    }
    if free.contains(&last) {
        return;
    }
    match value {
        Value::Object(map) => {
            let mut more = map.clone();
            more.insert("No such field!".to_owned(), json!("r-20260601T120000-abcdef"));
            shapes.push((format!("{at}/No such field!"), with(whole, at, Value::Object(more))));
            for key in map.keys() {
                let key = key.replace('~', "~0").replace('/', "~1");
                mutations(whole, &format!("{at}/{key}"), free, shapes, words);
            }
        }
        Value::Array(list) => {
            for index in 0..list.len() {
                mutations(whole, &format!("{at}/{index}"), free, shapes, words);
            }
        }
        Value::String(_) => words.push((at.to_owned(), with(whole, at, json!("No such word!")))),
        Value::Number(_) => {
            shapes.push((at.to_owned(), with(whole, at, json!(-1))));
            shapes.push((at.to_owned(), with(whole, at, json!("7"))));
        }
        Value::Bool(_) => shapes.push((at.to_owned(), with(whole, at, json!(1)))),
        Value::Null => {}
    }
}

/// Names of all properties that a schema speaks of.
fn property_names(schema: &Value) -> BTreeSet<String> {
    let mut found = Vec::new();
    objects(schema, "", &mut found);
    found.iter().flat_map(|(_, map)| map["properties"].as_object().unwrap().keys().cloned()).collect()
}

fn keys_of(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            keys.extend(map.keys().cloned());
            map.values().for_each(|value| keys_of(value, keys));
        }
        Value::Array(list) => list.iter().for_each(|value| keys_of(value, keys)),
        _ => {}
    }
}

/// Holds instances of one schema, and all their mutations, against it. `texts` are the fields that hold any text.
fn tight(name: &str, instances: &[Value], free: &[&str], texts: &[&str], never: &[&str]) {
    let validator = validator(name);
    let (mut seen, mut open) = (BTreeSet::new(), BTreeSet::new());
    for instance in instances {
        holds(&validator, instance);
        keys_of(instance, &mut seen);
        let (mut shapes, mut words) = (Vec::new(), Vec::new());
        mutations(instance, "", free, &mut shapes, &mut words);
        for (at, mutated) in shapes {
            assert!(!validator.is_valid(&mutated), "{name}: a wrong {at} is accepted: {mutated:#}");
        }
        for (at, mutated) in words {
            if validator.is_valid(&mutated) {
                let name = at.split('/').rfind(|part| part.parse::<usize>().is_err());
                open.insert(name.unwrap_or_default().to_owned());
            }
        }
    }
    let unseen: Vec<String> = property_names(&find(name).unwrap().value())
        .into_iter()
        .filter(|one| !seen.contains(one) && !never.contains(&one.as_str()))
        .collect();
    assert!(unseen.is_empty(), "{name}: no instance has {unseen:?}");
    let texts: BTreeSet<String> = texts.iter().map(|one| (*one).to_owned()).collect();
    assert_eq!(open, texts, "{name}: the fields that take any text");
}
