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
        // Only what a backend may say maps to a type of its own; every other name stands as what it is.
        let known = EventType::from_name(&name).filter(|t| t.allows(Source::Backend));
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
    use super::*;

    fn said(bytes: &[u8]) -> Vec<Said> {
        let mut adapter = FakeOutput { plain: PlainOutput::new(Stream::Stdout) };
        let mut said = Vec::new();
        adapter.line(Line { number: 1, offset: 0, bytes, cut: false }, &mut said);
        adapter.idle(&mut said);
        said
    }

    fn only_event(bytes: &[u8]) -> NewEvent {
        let said = said(bytes);
        let [Said::Event(event)] = said.as_slice() else { panic!("{said:?}") };
        event.clone()
    }

    #[test]
    fn a_supervisors_word_from_a_backend_is_a_backends_event() {
        for name in ["run.finished", "blocker.raised", "backend.exited", "test.passed", "approval.granted"] {
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
}
