//! Kinds and statuses of tool calls: the Agent Client Protocol's, with `denied` and `interrupted` added. What an engine
//! says beside them stands as `native_kind` or `native_status`, and is taken for no success.

use serde_json::{Map, Value};

use super::types::EventType;

/// Kinds of tools.
pub const TOOL_KINDS: [&str; 10] =
    ["read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other"];
/// What a call that goes on may be.
pub const TOOL_RUNNING: [&str; 2] = ["pending", "in_progress"];
/// What a call that ended may be.
pub const TOOL_ENDS: [&str; 4] = ["completed", "failed", "denied", "interrupted"];

/// The particulars of a backend's `tool.*`, in the words of this log.
pub(super) fn worded(event_type: EventType, data: &mut Map<String, Value>) {
    let (statuses, else_status) = match event_type {
        EventType::ToolStarted => (&TOOL_RUNNING[..], "in_progress"),
        EventType::ToolCompleted => (&TOOL_ENDS[..], "failed"),
        _ => return,
    };
    for (name, native, known, otherwise) in [
        ("kind", "native_kind", &TOOL_KINDS[..], "other"),
        ("status", "native_status", statuses, else_status),
    ] {
        let Some(said) = data.get(name) else { continue };
        if !said.as_str().is_some_and(|said| known.contains(&said)) {
            let said = said.clone();
            data.insert(native.to_owned(), said);
            data.insert(name.to_owned(), Value::from(otherwise));
        }
    }
}
