//! Bounds on what one event may hold, so that a line always fits the reader's limits whatever a backend says.
//!
//! What is cut here stands whole in the raw log.

use serde_json::{Map, Value};

/// Longest string in an event's data, bytes of UTF-8.
pub const MAX_STRING: usize = 8 * 1024;
/// Largest data of one event, bytes before JSON escaping (which can make it six times as long).
pub const MAX_DATA: usize = 128 * 1024;
/// Deepest nesting of an event's data; serde_json reads no more than 128 levels.
pub const MAX_DEPTH: usize = 64;
/// Longest identifier or native text, bytes.
pub(super) const MAX_ID: usize = 256;

const KEPT_STRING: usize = 1024;
const KEPT_KEYS: usize = 32;

#[derive(Default)]
struct Measure {
    bytes: usize,
    long: bool,
    deep: bool,
}

impl Measure {
    fn text(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len().min(MAX_STRING) + 4);
        self.long |= text.len() > MAX_STRING;
    }

    fn map(&mut self, map: &Map<String, Value>, depth: usize) {
        for (key, value) in map {
            // A key is never cut (two could become one), so it counts whole.
            self.bytes = self.bytes.saturating_add(key.len() + 4);
            self.value(value, depth);
        }
    }

    fn value(&mut self, value: &Value, depth: usize) {
        if depth > MAX_DEPTH {
            self.deep = true;
            return;
        }
        match value {
            Value::Null | Value::Bool(_) => self.bytes = self.bytes.saturating_add(6),
            Value::Number(_) => self.bytes = self.bytes.saturating_add(24),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.bytes = self.bytes.saturating_add(4);
                for item in items {
                    self.value(item, depth + 1);
                }
            }
            Value::Object(map) => {
                self.bytes = self.bytes.saturating_add(4);
                self.map(map, depth + 1);
            }
        }
    }
}

/// The data as it stands in a line: strings over [`MAX_STRING`] cut, data over [`MAX_DATA`] or deeper than
/// [`MAX_DEPTH`] reduced to its short top-level values; `truncated: true` says so.
#[must_use]
pub fn bounded(mut data: Map<String, Value>) -> Map<String, Value> {
    let mut measure = Measure::default();
    measure.map(&data, 1);
    if measure.deep || measure.bytes > MAX_DATA {
        data = reduced(&data);
    } else if measure.long {
        for value in data.values_mut() {
            cut_strings(value);
        }
    } else {
        return data;
    }
    data.insert("truncated".to_owned(), Value::Bool(true));
    data
}

fn reduced(data: &Map<String, Value>) -> Map<String, Value> {
    let short = |(key, value): &(&String, &Value)| {
        key.len() <= MAX_ID
            && match value {
                Value::Null | Value::Bool(_) | Value::Number(_) => true,
                Value::String(text) => text.len() <= KEPT_STRING,
                Value::Array(_) | Value::Object(_) => false,
            }
    };
    data.iter().filter(short).take(KEPT_KEYS).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn cut_strings(value: &mut Value) {
    match value {
        Value::String(text) => cut(text, MAX_STRING),
        Value::Array(items) => items.iter_mut().for_each(cut_strings),
        Value::Object(map) => map.values_mut().for_each(cut_strings),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Cuts at the last whole character within `limit` bytes.
pub(super) fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let mut end = limit;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn short_data_is_left_alone() {
        let data = map(json!({"text": "x".repeat(MAX_STRING), "n": [1, {"a": null}]}));
        assert_eq!(bounded(data.clone()), data);
    }

    #[test]
    fn a_long_string_is_cut_at_a_character_wherever_it_is() {
        let data = bounded(map(json!({"a": {"b": ["é".repeat(MAX_STRING)]}})));
        assert_eq!(data["truncated"], json!(true));
        assert_eq!(data["a"]["b"][0].as_str().unwrap().len(), MAX_STRING);
        let data = bounded(map(json!({"a": format!("x{}", "é".repeat(MAX_STRING))})));
        assert_eq!(data["a"].as_str().unwrap().len(), MAX_STRING - 1);
    }

    #[test]
    fn large_or_deep_data_keeps_its_short_values() {
        let many: Vec<_> = (0..MAX_DATA).collect();
        let data = bounded(map(json!({"name": "bash", "input": many})));
        assert_eq!(data, map(json!({"name": "bash", "truncated": true})));
        let mut deep = json!(1);
        for _ in 0..=MAX_DEPTH {
            deep = json!([deep]);
        }
        assert_eq!(bounded(map(json!({"deep": deep}))), map(json!({"truncated": true})));
        let key = "k".repeat(MAX_DATA + 1);
        assert_eq!(bounded(map(json!({ key: 1 }))), map(json!({"truncated": true})));
    }

    #[test]
    fn the_worst_data_still_fits_a_line() {
        let filler = "\u{1}".repeat(MAX_STRING);
        let parts: Vec<_> = (0..15).map(|_| filler.clone()).collect();
        let data = bounded(map(json!({ "parts": parts })));
        assert!(!data.contains_key("truncated"));
        assert!(serde_json::to_vec(&data).unwrap().len() < super::super::MAX_LINE - 16 * 1024);
    }

    #[test]
    fn bounding_twice_changes_nothing() {
        let once = bounded(map(json!({"a": "x".repeat(MAX_STRING * 2)})));
        assert_eq!(bounded(once.clone()), once);
    }
}
