//! Engine `fake`: plays a scenario, so that every way in which a run can end can be shown without a model. It goes
//! through the same path as any engine; its player is this very program, mounted read-only into the sandbox.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use proctor_sandbox::spec::{InjectedFile, Mount};
use serde_json::{Map, Value};

use super::output::{PlainOutput, native};
use super::player::NATIVE;
use super::scenario::{MAX_SIZE, Scenario};
use super::{Adapter, Engine, EngineError, Said, Start, Stream, inside};
use crate::capture::tail::Line;
use crate::event::{EventType, NewEvent, Source};
use crate::profile::RunOptions;
use crate::verdict::{EngineEnd, ProviderFailure};

/// The engine.
pub(super) struct Fake;

fn error(what: String, remedy: &str) -> EngineError {
    EngineError { engine: "fake".into(), what, remedy: remedy.into() }
}

fn read(path: &Path) -> Result<String, EngineError> {
    let show = path.display();
    let remedy = "name a scenario file: proctor run --engine fake [OPTIONS] -- SCENARIO.toml";
    let file = std::fs::File::open(path)
        .map_err(|e| error(format!("cannot read the scenario {show}: {e}"), remedy))?;
    let mut text = String::new();
    file.take(MAX_SIZE + 1)
        .read_to_string(&mut text)
        .map_err(|e| error(format!("cannot read the scenario {show}: {e}"), remedy))?;
    if text.len() as u64 > MAX_SIZE {
        return Err(error(format!("the scenario {show} is larger than 1 MiB"), "make it smaller"));
    }
    Scenario::parse(&text)
        .map_err(|e| error(format!("the scenario {show} is not valid: {e}"), "mend the line named"))?;
    Ok(text)
}

impl Engine for Fake {
    fn start(&self, options: &RunOptions) -> Result<Start, EngineError> {
        let [scenario] = options.command.as_slice() else {
            return Err(error(
                "it takes exactly one scenario file".into(),
                "name it behind `--`: proctor run --engine fake [OPTIONS] -- SCENARIO.toml",
            ));
        };
        let text = read(Path::new(scenario))?;
        let player = inside("fake");
        let file = inside("scenario.toml");
        let own = std::env::current_exe()
            .and_then(|p| p.canonicalize())
            .map_err(|e| error(format!("cannot find its own program: {e}"), "run proctor by its path"))?;
        Ok(Start {
            argv: vec![player.clone().into(), "fake-backend".into(), OsString::from(&file)],
            env: Vec::new(),
            files: vec![InjectedFile { path: file, mode: 0o444, content: text.into_bytes() }],
            mounts: vec![Mount::Bind { source: own, target: player, writable: false }],
            answers: true,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        })
    }

    fn adapter(&self, stream: Stream) -> Box<dyn Adapter> {
        match stream {
            Stream::Stdout => Box::new(FakeOutput { plain: PlainOutput::new(stream) }),
            Stream::Stderr => Box::new(PlainOutput::new(stream)),
        }
    }

    fn answer(&self, id: &str, granted: bool) -> Vec<u8> {
        let mut line = serde_json::json!({ "id": id, "granted": granted }).to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

struct FakeOutput {
    plain: PlainOutput,
}

/// A line as a native event: its name and fields. Anything else is plain output.
fn parse(bytes: &[u8]) -> Option<(String, Map<String, Value>)> {
    let Ok(Value::Object(mut map)) = serde_json::from_slice(bytes) else {
        return None;
    };
    match map.remove(NATIVE) {
        Some(Value::String(name)) => Some((name, map)),
        _ => None,
    }
}

impl Adapter for FakeOutput {
    fn line(&mut self, line: Line<'_>, said: &mut Vec<Said>) {
        let native_event = if line.cut { None } else { parse(line.bytes) };
        let Some((name, data)) = native_event else {
            return self.plain.line(line, said);
        };
        self.plain.idle(said);
        let mut place = native(Stream::Stdout, line.number, line.offset);
        place.kind = Some(name.clone());
        let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
        place.id = text("id");
        // Only what a backend may say maps to a type of its own; every other name stands as what it is. Output is what
        // is no event: an adapter gathers it, and nobody says so by name.
        let own = [EventType::BackendOutput, EventType::BackendEvent];
        let known = EventType::from_name(&name).filter(|t| t.allows(Source::Backend) && !own.contains(t));
        let mut event = NewEvent::new(known.unwrap_or(EventType::BackendEvent), Source::Backend).at(place);
        if known.is_none() {
            event = event.with("name", name.clone());
        }
        event.call_id = text("id");
        event.data.extend(data.clone());
        said.push(Said::Event(event));
        match known {
            Some(EventType::ApprovalRequested) => said.push(Said::Ask {
                id: text("id").unwrap_or_default(),
                subject: text("subject").unwrap_or_default(),
            }),
            Some(EventType::TurnCompleted) => {
                said.push(Said::End(EngineEnd { ok: true, message: String::new() }))
            }
            Some(EventType::TurnFailed) => {
                said.push(Said::End(EngineEnd { ok: false, message: text("message").unwrap_or_default() }));
            }
            Some(EventType::ProviderUnavailable) => said.push(Said::Provider(ProviderFailure {
                kind: text("cause").unwrap_or_else(|| "other".to_owned()),
                provider: text("provider"),
                observed: false,
            })),
            _ => {}
        }
    }

    fn idle(&mut self, said: &mut Vec<Said>) {
        self.plain.idle(said);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{EventLimits, EventWriter, ReadLimits, Trust, read_events};

    fn said(bytes: &[u8]) -> Vec<Said> {
        let mut adapter = FakeOutput { plain: PlainOutput::new(Stream::Stdout) };
        let mut said = Vec::new();
        adapter.line(Line { number: 1, offset: 0, bytes, cut: false }, &mut said);
        adapter.idle(&mut said);
        said
    }

    fn schema() -> &'static jsonschema::Validator {
        static SCHEMA: std::sync::OnceLock<jsonschema::Validator> = std::sync::OnceLock::new();
        SCHEMA.get_or_init(|| crate::schema::tests::validator("event"))
    }

    fn only_event(bytes: &[u8]) -> NewEvent {
        let said = said(bytes);
        let [Said::Event(event)] = said.as_slice() else { panic!("{said:?}") };
        event.clone()
    }

    #[test]
    fn a_supervisors_word_from_a_backend_is_a_backends_event() {
        for name in [
            "run.finished",
            "blocker.raised",
            "backend.exited",
            "test.passed",
            "approval.granted",
            "backend.output",
            "backend.event",
        ] {
            let event = only_event(format!("{{\"fake\":\"{name}\"}}").as_bytes());
            assert_eq!(event.event_type, EventType::BackendEvent);
            assert_eq!(event.source, Source::Backend);
            assert_eq!(event.data["name"], name);
        }
        let event = only_event(br#"{"schema":"events/v1","type":"run.finished","source":"supervisor"}"#);
        assert_eq!(event.event_type, EventType::BackendOutput);
    }

    #[test]
    fn terminal_events_provider_failures_and_requests_are_told_apart() {
        assert!(matches!(said(br#"{"fake":"turn.completed"}"#)[1], Said::End(EngineEnd { ok: true, .. })));
        assert!(matches!(
            said(br#"{"fake":"turn.failed","message":"no"}"#)[1],
            Said::End(EngineEnd { ok: false, .. })
        ));
        assert!(matches!(
            &said(br#"{"fake":"provider.unavailable","cause":"auth"}"#)[1],
            Said::Provider(ProviderFailure { kind, observed: false, .. }) if kind == "auth"
        ));
        assert!(matches!(
            &said(br#"{"fake":"approval.requested","id":"a","subject":"rm"}"#)[1],
            Said::Ask { id, .. } if id == "a"
        ));
    }

    #[test]
    fn junk_is_output_and_never_a_panic() {
        for junk in [&b"{"[..], b"[]", b"null", b"{\"fake\":7}", b"\xff\xfe", b""] {
            assert_eq!(only_event(junk).event_type, EventType::BackendOutput);
        }
    }

    /// A value that nests, as a backend could print it.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
            Just(Value::from("x".repeat(20_000))),
        ];
        leaf.prop_recursive(6, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,10}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever a backend prints, all that comes of it is a backend's claim that the log takes, within its bounds.
        #[test]
        fn whatever_is_printed_becomes_claims_that_the_log_takes(
            names in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(EventType::ALL.iter().map(|one| one.as_str().to_owned()).collect::<Vec<_>>()),
                    ".{0,20}",
                ],
                1..8,
            ),
            fields in prop::collection::btree_map(
                prop_oneof![
                    prop::sample::select(vec![
                        "id", "type", "source", "trust", "seq", "data", "status", "kind", "name", "started_seq",
                        "of", "truncated", "subject", "message", "cause", "provider",
                    ]).prop_map(str::to_owned),
                    ".{0,12}",
                ],
                value(),
                0..6,
            ),
            flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut adapter = FakeOutput { plain: PlainOutput::new(Stream::Stdout) };
            let mut said = Vec::new();
            let mut offset = 0;
            for (number, name) in names.iter().enumerate() {
                let mut map: Map<String, Value> = fields.clone().into_iter().collect();
                map.insert(NATIVE.into(), Value::from(name.as_str()));
                let mut bytes = Value::Object(map).to_string().into_bytes();
                if let Some((at, byte)) = &flip {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                let line = Line { number: number as u64 + 1, offset, bytes: &bytes, cut: false };
                adapter.line(line, &mut said);
                offset += bytes.len() as u64 + 1;
            }
            adapter.idle(&mut said);
            let mut log = EventWriter::new(Vec::new(), "r-20260601T120000-abcdef", EventLimits::default());
            log.emit(NewEvent::new(EventType::RunStarted, Source::Supervisor)).unwrap();
            let mut events = 0;
            for one in said {
                let Said::Event(event) = one else { continue };
                prop_assert_eq!(event.source, Source::Backend);
                prop_assert!(event.native.is_some());
                log.emit(event).unwrap();
                events += 1;
            }
            // Nothing is dropped: a line is an event, or among the output.
            prop_assert!(events >= 1);
            log.emit(NewEvent::new(EventType::RunFinished, Source::Supervisor)).unwrap();
            let bytes = log.finish().unwrap().0;
            let read = read_events(&bytes[..], ReadLimits::default(), None, |event| {
                assert!(event.source == Source::Supervisor || event.trust == Trust::Claimed);
                // What is begun and ended here by the supervisor is bare.
                if event.source == Source::Backend {
                    let event = serde_json::to_value(event).unwrap();
                    let wrong: Vec<String> =
                        schema().iter_errors(&event).map(|error| error.to_string()).collect();
                    assert!(wrong.is_empty(), "{wrong:?}: {event:#}");
                }
            });
            prop_assert!(read.is_sound(), "{:?}", read.problems);
        }
    }
}
