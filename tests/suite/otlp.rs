//! The trace as others read it: every line is OTLP/JSON for the implementation of OpenTelemetry's own Rust crate, ids are
//! whole and lead to each other, times are in order; and what the trace tells of calls, limits and usage is what events
//! and report say.

use std::collections::{BTreeMap, BTreeSet};

use harness::Outcome;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use serde_json::Value;

use crate::support::{each, events, fails, fake, fake_text, passes, sh};

/// Every span, as OpenTelemetry's own types have it; whatever is no OTLP/JSON fails here.
fn spans(outcome: &Outcome) -> Vec<Span> {
    let mut spans = Vec::new();
    for line in outcome.text("trace.jsonl").lines() {
        let data: TracesData = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(data.resource_spans.len(), 1);
        for resource in data.resource_spans {
            assert!(resource.schema_url.starts_with("https://opentelemetry.io/schemas/"));
            let attributes = &resource.resource.as_ref().expect("a resource").attributes;
            assert_eq!(text(attributes, "service.name").as_deref(), Some("proctor"));
            for scope in resource.scope_spans {
                assert_eq!(scope.scope.as_ref().map(|scope| scope.name.as_str()), Some("proctor"));
                spans.extend(scope.spans);
            }
        }
    }
    spans
}

fn value<'a>(list: &'a [KeyValue], key: &str) -> Option<&'a any_value::Value> {
    let found: Vec<&KeyValue> = list.iter().filter(|one| one.key == key).collect();
    assert!(found.len() <= 1, "{key} stands twice");
    found.first()?.value.as_ref()?.value.as_ref()
}

fn text(list: &[KeyValue], key: &str) -> Option<String> {
    match value(list, key)? {
        Any::StringValue(text) => Some(text.clone()),
        other => panic!("{key} is no text: {other:?}"),
    }
}

fn number(list: &[KeyValue], key: &str) -> Option<i64> {
    match value(list, key)? {
        Any::IntValue(number) => Some(*number),
        other => panic!("{key} is no number: {other:?}"),
    }
}

/// What holds of every trace.
fn sound(outcome: &Outcome) -> Vec<Span> {
    let spans = spans(outcome);
    let ids: BTreeSet<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
    assert_eq!(ids.len(), spans.len(), "span ids differ");
    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| span.trace_id.as_slice()).collect();
    assert_eq!(traces.len(), 1, "one run is one trace");
    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    assert_eq!(roots.len(), 1);
    assert_eq!(roots[0].name, "run");
    for span in &spans {
        assert!(span.trace_id.len() == 16 && span.trace_id.iter().any(|byte| *byte != 0), "{span:?}");
        assert!(span.span_id.len() == 8 && span.span_id.iter().any(|byte| *byte != 0), "{span:?}");
        assert!(span.parent_span_id.is_empty() || ids.contains(span.parent_span_id.as_slice()), "{span:?}");
        assert_ne!(span.parent_span_id, span.span_id);
        assert!(span.start_time_unix_nano > 1 << 60, "{span:?}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
        assert_eq!(span.kind, 1, "{span:?}");
        assert!(span.status.as_ref().is_none_or(|status| StatusCode::try_from(status.code).is_ok()));
        assert!(span.events.iter().all(|event| event.time_unix_nano > 1 << 60 && !event.name.is_empty()));
    }
    // The root encloses its phases.
    for phase in spans.iter().filter(|span| span.name.starts_with("phase ")) {
        assert_eq!(phase.parent_span_id, roots[0].span_id);
        assert!(phase.start_time_unix_nano >= roots[0].start_time_unix_nano);
        assert!(phase.end_time_unix_nano <= roots[0].end_time_unix_nano);
    }
    let report = outcome.report();
    for (role, used) in report["usage"].as_object().unwrap() {
        let phase = spans.iter().find(|span| span.name == format!("phase {role}")).expect("its phase");
        for (name, known) in used.as_object().unwrap() {
            let said = number(&phase.attributes, &format!("proctor.usage.{name}"));
            assert_eq!(said, known.as_i64(), "{role}.{name}");
        }
    }
    spans
}

fn completeness(outcome: &Outcome) -> BTreeMap<String, String> {
    let text = outcome.text("trace.jsonl");
    let data: TracesData = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let list = &data.resource_spans[0].resource.as_ref().unwrap().attributes;
    list.iter()
        .filter_map(|one| {
            let kind = one.key.strip_prefix("proctor.completeness.")?;
            Some((kind.to_owned(), self::text(list, &format!("proctor.completeness.{kind}"))?))
        })
        .collect()
}

#[test]
fn traces_of_runs_that_pass_fail_and_never_start_are_otlp() {
    each(|repo| {
        let outcome =
            sh(repo, &["--test", "sh check.sh", "--review", "true"], "echo mended > src/value.txt").run();
        fails(&outcome, repo, 1, &["reviewer_rejected"], &[]);
        let said = sound(&outcome);
        for phase in ["survey", "backend", "changes", "test", "review", "end"] {
            assert!(said.iter().any(|span| span.name == format!("phase {phase}")), "{phase}");
        }
        let kinds = completeness(&outcome);
        for (kind, wanted) in [
            ("phases", "complete"),
            ("programs", "complete"),
            ("limits", "complete"),
            ("denials", "complete"),
            ("connections", "advisory"),
            ("tool_calls", "absent"),
            ("provider_requests", "absent"),
        ] {
            assert_eq!(kinds[kind], wanted, "{kind}");
        }
        let outcome = sh(repo, &[], "true").run();
        fails(&outcome, repo, 1, &["test_command_missing"], &[]);
        assert_eq!(sound(&outcome).len(), 1);
        assert_eq!(completeness(&outcome)["usage"], "complete");
        let outcome = fake(repo, &["--no-test"], "mend").run();
        passes(&outcome, repo);
        sound(&outcome);
        assert_eq!(completeness(&outcome)["tool_calls"], "advisory");
    });
}

const CALLS: &str = r#"
[[step]]
do = "emit"
event = "turn.started"
[[step]]
do = "emit"
event = "tool.started"
data = { id = "t1", name = "edit\u001b[2J", kind = "edit" }
[[step]]
do = "emit"
event = "command.started"
data = { id = "c1", command = "make" }
[[step]]
do = "emit"
event = "command.completed"
data = { id = "c1", status = "failed" }
[[step]]
do = "emit"
event = "tool.completed"
data = { id = "t1", status = "completed" }
[[step]]
do = "emit"
event = "tool.started"
data = { id = "t2", name = "left open", kind = "no such kind" }
[[step]]
do = "replace"
path = "src/value.txt"
from = "broken"
to = "mended"
[[step]]
do = "emit"
event = "turn.completed"
"#;

#[test]
fn calls_that_the_engine_claims_are_spans_that_say_so() {
    each(|repo| {
        let outcome = fake_text(repo, &["--test", "sh check.sh"], CALLS).run();
        passes(&outcome, repo);
        let spans = sound(&outcome);
        let all = outcome.events();
        let backend = &spans.iter().find(|span| span.name == "phase backend").unwrap().span_id;
        let calls: Vec<&Span> =
            spans.iter().filter(|span| ["tool_call", "command"].contains(&span.name.as_str())).collect();
        let told: Vec<(String, Option<String>, Option<String>)> = calls
            .iter()
            .map(|span| {
                assert_eq!(text(&span.attributes, "proctor.trust").as_deref(), Some("claimed"));
                assert_eq!(&span.parent_span_id, backend);
                let name = text(&span.attributes, "gen_ai.tool.name")
                    .or_else(|| text(&span.attributes, "proctor.command"));
                (span.name.clone(), name, text(&span.attributes, "proctor.status"))
            })
            .collect();
        let call = |name: &str, what: &str, status: &str| {
            (name.to_owned(), Some(what.to_owned()), Some(status.to_owned()))
        };
        assert_eq!(
            told,
            [
                call("tool_call", "edit\u{1b}[2J", "completed"),
                call("command", "make", "failed"),
                call("tool_call", "left open", "interrupted"),
            ]
        );
        for span in calls {
            // Each leads to the events that it tells of, and has their times.
            let at = |key: &str| {
                let seq = number(&span.attributes, key).expect("a number of an event");
                let event = &all[usize::try_from(seq).unwrap()];
                (event["type"].clone(), event["ts"].clone())
            };
            let (start, end) = (at("proctor.event.seq"), at("proctor.event.end_seq"));
            assert!(start.0.as_str().unwrap().ends_with(".started"), "{start:?}");
            assert!(end.0.as_str().unwrap().ends_with(".completed"), "{end:?}");
            for (ns, ts) in [(span.start_time_unix_nano, &start.1), (span.end_time_unix_nano, &end.1)] {
                let micros = ::proctor::event::parse_micros(ts.as_str().unwrap()).unwrap();
                assert_eq!(ns, u64::try_from(micros).unwrap() * 1000);
            }
        }
        // OpenTelemetry's own Python types read the same.
        let read = harness::opentelemetry(&outcome.evidence().join("trace.jsonl"));
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        let read: Value = serde_json::from_slice(&read.stdout).unwrap();
        assert_eq!((&read["names"]["tool_call"], &read["names"]["command"]), (&2.into(), &1.into()));
        let count: u64 = read["names"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(count, spans.len() as u64);
        assert_eq!(read["traces"].as_array().unwrap().len(), 1);
        // An unknown kind is `other`, and what the engine said stands beside it.
        let odd = &events(&outcome, "tool.started", "backend")[1]["data"];
        assert_eq!((&odd["kind"], &odd["native_kind"]), (&"other".into(), &"no such kind".into()));
    });
}

#[test]
fn limits_and_refused_changes_stand_at_their_phases() {
    each(|repo| {
        let options = ["--no-test", "--timeout", "700ms", "--grace", "100ms"];
        let script = "echo x > AGENTS.md; trap '' TERM; while :; do sleep 0.05; done";
        let outcome = sh(repo, &options, script).run();
        fails(&outcome, repo, 1, &["timeout", "disallowed_file"], &["timeout.expired", "policy.denied"]);
        let spans = sound(&outcome);
        let at = |phase: &str, name: &str| {
            let span = spans.iter().find(|span| span.name == format!("phase {phase}")).unwrap();
            let found = span.events.iter().find(|event| event.name == name);
            found.unwrap_or_else(|| panic!("no {name} at {phase}: {span:#?}")).clone()
        };
        let expired = at("backend", "timeout.expired");
        assert_eq!(text(&expired.attributes, "proctor.kind").as_deref(), Some("wall"));
        assert_eq!(number(&expired.attributes, "proctor.limit_ms"), Some(700));
        let denied = at("changes", "policy.denied");
        assert_eq!(text(&denied.attributes, "proctor.path").as_deref(), Some("AGENTS.md"));
        assert_eq!(text(&denied.attributes, "proctor.rule").as_deref(), Some("protect"));
    });
}

/// Every pointer of every event of a real run leads to exactly its line of the raw log.
#[test]
fn native_pointers_lead_to_their_lines() {
    each(|repo| {
        let scenario = format!(
            "{CALLS}\n[[step]]\ndo = \"shell\"\ncommand = '''printf 'a\\r\\n\\n\\377\\000x\\n'; printf 'err\\n' >&2; \
             head -c 3000000 /dev/zero | tr '\\0' y; echo; echo last; printf 'no end' >&2'''\n"
        );
        let outcome = fake_text(repo, &["--test", "sh check.sh"], &scenario).run();
        passes(&outcome, repo);
        let said: Vec<Value> = outcome.events().into_iter().filter(|e| e["source"] == "backend").collect();
        assert!(said.len() >= 10, "{said:#?}");
        let mut covered: BTreeMap<String, u64> = BTreeMap::new();
        for event in &said {
            let native = &event["native"];
            let stream = native["stream"].as_str().unwrap();
            let log = outcome.artifact(&format!("backend.{stream}.log"));
            let offset = usize::try_from(native["offset"].as_u64().unwrap()).unwrap();
            assert!(offset == 0 || log[offset - 1] == b'\n', "{event}");
            let number = log[..offset].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
            assert_eq!(native["line"], number, "{event}");
            // Lines follow each other: none is skipped and none is told of twice.
            let next = covered.entry(stream.to_owned()).or_insert(1);
            assert_eq!(number, *next, "{event}");
            let line = log[offset..].split(|byte| *byte == b'\n').next().unwrap();
            if event["type"] == "backend.output" {
                *next += event["data"]["lines"].as_u64().unwrap();
                let shown = event["data"]["text"].as_str().unwrap();
                let wanted = String::from_utf8_lossy(line).into_owned();
                assert!(shown.starts_with(&wanted) || event["data"]["truncated"] == true, "{event}");
                assert!(shown.len() <= 8 << 10);
            } else {
                *next += 1;
                let native: Value = serde_json::from_slice(line).unwrap();
                assert_eq!(native["fake"], event["native"]["type"]);
                assert_eq!(native.get("id").cloned(), event["native"].get("id").cloned());
            }
        }
        for (stream, next) in covered {
            let log = outcome.artifact(&format!("backend.{stream}.log"));
            let lines = log.split_inclusive(|byte| *byte == b'\n').count() as u64;
            assert_eq!(next, lines + 1, "all of {stream} is told of");
        }
    });
}
