//! The schema of one event: the line's own shape, and for each type which sources may say it, whether that is observed or
//! claimed, and what its `data` holds where the program fixes it.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::data;
use crate::event::{Event, EventType, FIRST_PREV, Source, TOOL_ENDS, TOOL_KINDS, TOOL_RUNNING};
use crate::report::{DenialInfo, FileChange};
use crate::verdict::Blocker;

/// A reference to the schema of some `data`.
type Make = fn(&mut SchemaGenerator) -> Value;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn either<A: JsonSchema, B: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    json!({ "oneOf": [of::<A>(generator), of::<B>(generator)] })
}

/// A backend's own words, but for two that are the Agent Client Protocol's.
fn tool(statuses: &[&str]) -> Value {
    json!({ "properties": { "kind": { "enum": TOOL_KINDS }, "status": { "enum": statuses } } })
}

/// What `data` holds, where the program fixes it.
fn contract(event_type: EventType, source: Source) -> Option<Make> {
    use EventType as T;
    use Source as S;
    Some(match (event_type, source) {
        (T::RunStarted, S::Supervisor) => of::<data::RunStarted>,
        (T::DecisionRecorded, S::Supervisor) => of::<data::DecisionRecorded>,
        (T::SandboxReady, S::Supervisor) => either::<data::SandboxReady, data::SandboxUnused>,
        (T::BackendStarted, S::Supervisor) => of::<data::BackendStarted>,
        (T::BackendExited, S::Supervisor) => of::<data::BackendExited>,
        (T::ArtifactWritten, S::Supervisor) => of::<data::ArtifactWritten>,
        (T::BlockerRaised, S::Supervisor) => of::<Blocker>,
        (T::RunFinished, S::Supervisor) => of::<data::RunFinished>,
        (T::FileChanged, S::Supervisor) => of::<FileChange>,
        (T::ApprovalRequested, S::Supervisor) => of::<data::ApprovalRequested>,
        (T::ApprovalGranted | T::ApprovalDenied, S::Supervisor | S::Operator) => of::<data::ApprovalAnswered>,
        (T::PolicyDenied, S::Supervisor) => either::<DenialInfo, data::ChangeDenied>,
        (T::LimitExceeded, S::Supervisor) => of::<data::LimitExceeded>,
        (T::TimeoutExpired, S::Supervisor) => of::<data::TimeoutExpired>,
        (T::TestStarted, S::Test) => of::<data::TestStarted>,
        (T::TestCompleted, S::Test) => of::<data::TestCompleted>,
        (T::ReviewStarted, S::Reviewer) => of::<data::ReviewStarted>,
        (T::ReviewCompleted, S::Reviewer) => of::<data::ReviewCompleted>,
        (T::BackendOutput, S::Backend) => of::<data::BackendOutput>,
        (T::ToolStarted, S::Backend) => |_| tool(&TOOL_RUNNING),
        (T::ToolCompleted, S::Backend) => |_| tool(&TOOL_ENDS),
        _ => return None,
    })
}

/// Ends of what others than the supervisor begin: it writes them where they did not.
fn closed_by_supervisor(event_type: EventType) -> bool {
    event_type.ends().is_some() && event_type != EventType::RunFinished
}

fn has(field: &str, value: impl Into<Value>) -> Value {
    json!({ "properties": { field: { "const": value.into() } }, "required": [field] })
}

fn rule(when: Value, then: Value) -> Value {
    json!({ "if": when, "then": then })
}

/// The rules between an event's fields.
fn rules(generator: &mut SchemaGenerator) -> Vec<Value> {
    let claimed = json!({ "properties": { "trust": { "const": "claimed" } }, "required": ["native"] });
    // Only what a backend said stands in a raw log.
    let observed = json!({ "properties": { "trust": { "const": "observed" }, "native": false } });
    let first =
        json!({ "properties": { "type": { "const": "run.started" }, "prev": { "const": FIRST_PREV } } });
    let mut later = rule(has("seq", 0), first);
    later["else"] = json!({ "properties": { "type": { "not": { "const": "run.started" } } } });
    let mut trust = rule(has("source", Source::Backend.as_str()), claimed);
    trust["else"] = observed;
    let mut all = vec![later, trust];
    let interrupted = of::<data::Interrupted>(generator);
    for event_type in EventType::ALL {
        let own: Vec<Source> = Source::ALL.into_iter().filter(|source| event_type.allows(*source)).collect();
        let closed = closed_by_supervisor(*event_type);
        let mut names: Vec<&str> = own.iter().map(|source| source.as_str()).collect();
        if closed && !own.contains(&Source::Supervisor) {
            names.push(Source::Supervisor.as_str());
        }
        let mut inner = Vec::new();
        for source in Source::ALL {
            let made = own.contains(&source).then(|| contract(*event_type, source)).flatten();
            let mut shapes: Vec<Value> = made.map(|make| make(generator)).into_iter().collect();
            let closing = closed && source == Source::Supervisor;
            if closing && own.contains(&source) && shapes.is_empty() {
                // Its own end has no fixed shape: nothing to say.
                continue;
            }
            if closing {
                shapes.push(interrupted.clone());
            }
            let shape = match shapes.len() {
                0 => continue,
                1 => shapes.remove(0),
                _ => json!({ "oneOf": shapes }),
            };
            inner.push(rule(has("source", source.as_str()), json!({ "properties": { "data": shape } })));
        }
        let mut then = Map::new();
        then.insert("properties".to_owned(), json!({ "source": { "enum": names } }));
        if !inner.is_empty() {
            then.insert("allOf".to_owned(), Value::Array(inner));
        }
        all.push(rule(has("type", event_type.as_str()), Value::Object(then)));
    }
    all
}

/// Definitions that are the whole of some `data`: what was too long there is cut, or left out, and says so.
const DATA: [&str; 21] = [
    "RunStarted",
    "DecisionRecorded",
    "SandboxReady",
    "SandboxUnused",
    "BackendStarted",
    "BackendExited",
    "ArtifactWritten",
    "Blocker",
    "RunFinished",
    "FileChange",
    "ApprovalRequested",
    "ApprovalAnswered",
    "DenialInfo",
    "ChangeDenied",
    "LimitExceeded",
    "TimeoutExpired",
    "TestStarted",
    "TestCompleted",
    "ReviewStarted",
    "ReviewCompleted",
    "BackendOutput",
];

/// The schema, but for what all schemas have.
pub(super) fn make(mut generator: SchemaGenerator) -> Value {
    let rules = rules(&mut generator);
    let mut schema = super::of::<Event>(generator);
    schema["allOf"] = Value::Array(rules);
    for name in DATA {
        if let Some(one) = schema["$defs"][name].as_object_mut() {
            may_be_cut(one);
        }
    }
    schema
}

fn may_be_cut(schema: &mut Map<String, Value>) {
    let cut = json!({
        "const": true,
        "description": "Something was too long for an event: cut, or left out.",
    });
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("truncated".to_owned(), cut);
    }
    if let Some(required) = schema.remove("required") {
        schema.insert("anyOf".to_owned(), json!([{ "required": required }, { "required": ["truncated"] }]));
    }
}
