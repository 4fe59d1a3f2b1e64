use super::*;
use crate::event::reader::{ReadLimits, read_events};
use crate::event::{TOOL_ENDS, TOOL_KINDS};
use serde_json::json;

const RUN: &str = "r-20260601T120000-abcdef";

struct Ticks(i64);

impl Clock for Ticks {
    fn micros(&mut self) -> i64 {
        self.0 += 1;
        self.0
    }
}

fn writer(limits: EventLimits) -> EventWriter<Vec<u8>> {
    EventWriter::with_clock(Vec::new(), RUN, limits, Box::new(Ticks(1_780_315_200_000_000)))
}

fn supervisor(event_type: EventType) -> NewEvent {
    NewEvent::new(event_type, Source::Supervisor)
}

fn backend(event_type: EventType) -> NewEvent {
    NewEvent::new(event_type, Source::Backend)
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

#[test]
fn a_line_is_what_the_specification_says() {
    let mut writer = writer(EventLimits::default());
    writer.emit(supervisor(EventType::RunStarted).with("nonce", "ab")).unwrap();
    let native = Native {
        stream: "stdout".into(),
        line: 3,
        offset: 120,
        kind: Some("tool_use".into()),
        id: None,
        ts: None,
    };
    writer.emit(backend(EventType::ToolStarted).call("c1").at(native).with("name", "bash")).unwrap();
    let (bytes, _) = writer.finish().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (first, second) = text.split_once('\n').unwrap();
    assert_eq!(
        first,
        format!(
            r#"{{"schema":"events/v1","run_id":"{RUN}","seq":0,"ts":"2026-06-01T12:00:00.000001Z","type":"run.started","source":"supervisor","trust":"observed","data":{{"nonce":"ab"}},"prev":"{FIRST_PREV}"}}"#
        )
    );
    let prev = hex::encode(&Sha256::digest(first.as_bytes()));
    assert_eq!(
        second,
        format!(
            r#"{{"schema":"events/v1","run_id":"{RUN}","seq":1,"ts":"2026-06-01T12:00:00.000002Z","type":"tool.started","source":"backend","trust":"claimed","call_id":"c1","native":{{"stream":"stdout","line":3,"offset":120,"type":"tool_use"}},"data":{{"name":"bash"}},"prev":"{prev}"}}
"#
        )
    );
}

#[test]
fn a_backend_cannot_say_what_only_the_supervisor_says() {
    let mut writer = writer(EventLimits::default());
    writer.emit(supervisor(EventType::RunStarted)).unwrap();
    let error = writer.emit(backend(EventType::BackendExited)).unwrap_err();
    assert!(error.to_string().contains("backend.exited cannot come from backend"), "{error}");
    assert!(
        writer.emit(supervisor(EventType::ToolCompleted)).is_err(),
        "nor the supervisor what a backend says"
    );
    assert_eq!(writer.finish().unwrap().1.count, 1);
}

#[test]
fn run_started_is_first_and_once_and_run_finished_last() {
    let mut writer = writer(EventLimits::default());
    let error = writer.emit(backend(EventType::Message)).unwrap_err();
    assert!(error.to_string().contains("out of place"), "{error}");
    writer.emit(supervisor(EventType::RunStarted)).unwrap();
    assert!(writer.emit(supervisor(EventType::RunStarted)).is_err());
    writer.emit(supervisor(EventType::RunFinished)).unwrap();
    assert!(writer.emit(supervisor(EventType::ArtifactWritten)).is_err());
    assert!(writer.emit(supervisor(EventType::RunFinished)).is_err());
}

#[test]
fn unmatched_starts_are_closed_innermost_first_and_satisfy_nothing() {
    let mut writer = writer(EventLimits::default());
    writer.emit(supervisor(EventType::RunStarted)).unwrap();
    writer.emit(backend(EventType::TurnStarted)).unwrap();
    writer.emit(backend(EventType::ToolStarted).call("a")).unwrap();
    writer.emit(backend(EventType::ToolStarted).call("b")).unwrap();
    writer.emit(backend(EventType::ToolCompleted).call("a")).unwrap();
    writer.emit(supervisor(EventType::RunFinished)).unwrap();
    assert_eq!(writer.index().count(EventType::TurnFailed, Source::Supervisor), 0);
    assert_eq!(writer.index().interrupted(), 2);
    let (bytes, end) = writer.finish().unwrap();
    assert_eq!((end.count, end.closed), (8, 2));
    let lines = lines(&bytes);
    assert_eq!(lines[5]["type"], "tool.completed");
    assert_eq!(lines[5]["call_id"], "b");
    assert_eq!(lines[5]["source"], "supervisor");
    assert_eq!(lines[5]["data"], json!({"status": "interrupted", "of": "backend", "started_seq": 3}));
    assert_eq!(lines[6]["type"], "turn.failed");
    assert_eq!(lines[7]["type"], "run.finished");
    let summary = read_events(&bytes[..], ReadLimits::default(), Some(RUN), |_| {});
    assert!(summary.problems.is_empty(), "{:?}", summary.problems);
}

#[test]
fn a_full_log_counts_the_backend_and_keeps_the_supervisor() {
    let mut writer = writer(EventLimits { max_events: 2, max_bytes: u64::MAX });
    writer.emit(supervisor(EventType::RunStarted)).unwrap();
    assert_eq!(writer.emit(backend(EventType::Message)).unwrap(), Emitted::Written(1));
    assert_eq!(writer.emit(backend(EventType::Message)).unwrap(), Emitted::Dropped);
    assert_eq!(writer.emit(supervisor(EventType::BackendStarted)).unwrap(), Emitted::Written(2));
    assert_eq!(writer.index().count(EventType::Message, Source::Backend), 1);
    assert_eq!(writer.index().dropped(), 1);

    let mut writer = super::tests::writer(EventLimits { max_events: 100, max_bytes: 10 });
    writer.emit(supervisor(EventType::RunStarted)).unwrap();
    assert_eq!(writer.emit(backend(EventType::Message)).unwrap(), Emitted::Dropped);
}

#[test]
fn long_identifiers_stay_distinct_and_short() {
    let mut writer = writer(EventLimits::default());
    writer.emit(supervisor(EventType::RunStarted)).unwrap();
    let (a, b) = ("a".repeat(300), format!("{}b", "a".repeat(299)));
    writer.emit(backend(EventType::ToolStarted).call(a.clone())).unwrap();
    writer.emit(backend(EventType::ToolCompleted).call(b)).unwrap();
    let (bytes, _) = writer.finish().unwrap();
    let lines = lines(&bytes);
    assert_ne!(lines[1]["call_id"], lines[2]["call_id"]);
    assert!(lines[1]["call_id"].as_str().unwrap().len() < 80);
}

#[test]
fn an_interrupted_end_of_the_backends_own_satisfies_nothing() {
    let mut writer = writer(EventLimits::default());
    writer.emit(supervisor(EventType::RunStarted)).unwrap();
    writer.emit(backend(EventType::TurnCompleted).with("status", "interrupted")).unwrap();
    assert_eq!(writer.index().count(EventType::TurnCompleted, Source::Backend), 0);
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_write_error_sticks() {
    let mut writer = EventWriter::new(Full, RUN, EventLimits::default());
    writer.emit(supervisor(EventType::RunStarted)).unwrap();
    let error = writer.flush().unwrap_err();
    assert!(error.to_string().contains("event log cannot be written"), "{error}");
    assert!(writer.emit(backend(EventType::Message)).is_err());
    assert!(writer.finish().is_err());
}

#[test]
fn what_an_engine_says_of_its_tools_is_worded_as_the_agent_client_protocol_does() {
    let mut writer = EventWriter::new(Vec::new(), RUN, EventLimits::default());
    writer.emit(supervisor(EventType::RunStarted)).unwrap();
    for kind in TOOL_KINDS {
        writer.emit(backend(EventType::ToolStarted).call(kind).with("kind", kind)).unwrap();
    }
    for status in TOOL_ENDS {
        writer.emit(backend(EventType::ToolCompleted).call("x").with("status", status)).unwrap();
    }
    let native = backend(EventType::ToolStarted).call("n").with("kind", "local_shell").with("status", 7);
    writer.emit(native).unwrap();
    writer.emit(backend(EventType::ToolCompleted).call("n").with("status", "success!")).unwrap();
    let bytes = writer.finish().unwrap().0;
    let data: Vec<Value> = String::from_utf8(bytes)
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"].clone())
        .collect();
    let kinds: Vec<&str> = data[..10].iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, TOOL_KINDS);
    let ends: Vec<&str> = data[10..14].iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(ends, TOOL_ENDS);
    let started = serde_json::json!({
        "kind": "other", "native_kind": "local_shell", "status": "in_progress", "native_status": 7,
    });
    assert_eq!(data[14], started);
    // What is not known to be a success is none.
    assert_eq!(data[15], serde_json::json!({ "status": "failed", "native_status": "success!" }));
}

#[test]
fn calls_are_gathered_alike_by_writer_and_reader_and_within_bounds() {
    let limits = EventLimits { max_events: 1_000_000, max_bytes: 1 << 30 };
    let mut writer = EventWriter::new(Vec::new(), RUN, limits);
    writer.emit(supervisor(EventType::RunStarted)).unwrap();
    let many = crate::event::calls::MAX_CALLS + 500;
    for number in 0..many {
        // The same id again and again, ended by the last one first.
        let id = format!("c{}", number % 7);
        writer.emit(backend(EventType::ToolStarted).call(id.clone()).with("name", "t".repeat(600))).unwrap();
        if number % 3 == 0 {
            writer.emit(backend(EventType::ToolCompleted).call(id).with("status", "completed")).unwrap();
        }
    }
    for _ in 0..crate::event::calls::MAX_MOMENTS + 5 {
        writer.emit(supervisor(EventType::LimitExceeded).with("what", "x").with("phase", "test")).unwrap();
    }
    writer.close_open().unwrap();
    writer.emit(supervisor(EventType::RunFinished)).unwrap();
    let calls = writer.calls().clone();
    assert_eq!((calls.calls.len(), calls.calls_left_out), (10_000, 500));
    assert_eq!((calls.moments.len(), calls.moments_left_out), (1000, 5));
    assert!(calls.calls.iter().all(|call| call.name.as_ref().unwrap().len() == 256));
    assert!(calls.calls.iter().all(|call| call.end.is_some() && call.status.is_some()));
    let interrupted = calls.calls.iter().filter(|call| call.status.as_deref() == Some("interrupted")).count();
    assert_eq!(interrupted, 6666);
    let bytes = writer.finish().unwrap().0;
    let read = read_events(&bytes[..], ReadLimits::default(), Some(RUN), |_| {});
    assert!(read.is_sound(), "{:?}", read.problems);
    assert!(read.calls == calls, "the reader gathers something else");
}
