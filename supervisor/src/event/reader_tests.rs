use super::*;
use crate::event::{EventLimits, EventWriter, NewEvent};
use proptest::prelude::*;

const RUN: &str = "r-20260601T120000-abcdef";

fn log(messages: usize) -> (Vec<u8>, String) {
    let mut writer = EventWriter::new(Vec::new(), RUN, EventLimits::default());
    writer.emit(NewEvent::new(EventType::RunStarted, Source::Supervisor)).unwrap();
    writer.emit(NewEvent::new(EventType::TurnStarted, Source::Backend).call("t")).unwrap();
    for number in 0..messages {
        writer.emit(NewEvent::new(EventType::Message, Source::Backend).with("text", number)).unwrap();
    }
    writer.emit(NewEvent::new(EventType::TurnCompleted, Source::Backend).call("t")).unwrap();
    writer.emit(NewEvent::new(EventType::RunFinished, Source::Supervisor).with("status", "pass")).unwrap();
    let (bytes, end) = writer.finish().unwrap();
    (bytes, end.last_hash)
}

fn read(bytes: &[u8]) -> LogSummary {
    read_events(bytes, ReadLimits::default(), Some(RUN), |_| {})
}

fn kinds(bytes: &[u8]) -> Vec<EventProblemKind> {
    read(bytes).problems.into_iter().map(|problem| problem.kind).collect()
}

/// Lines by hand, chained: what a forger who knows the format would write.
fn forged(lines: &[(&str, &str, &str, &str)]) -> Vec<u8> {
    let (mut bytes, mut prev) = (Vec::new(), FIRST_PREV.to_owned());
    for (seq, (event_type, source, trust, data)) in lines.iter().enumerate() {
        let line = format!(
            r#"{{"schema":"events/v1","run_id":"{RUN}","seq":{seq},"ts":"2026-06-01T12:00:00.000001Z","type":"{event_type}","source":"{source}","trust":"{trust}","data":{data},"prev":"{prev}"}}"#
        );
        prev = hex::encode(&Sha256::digest(line.as_bytes()));
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

const START: (&str, &str, &str, &str) = ("run.started", "supervisor", "observed", "{}");
const FINISH: (&str, &str, &str, &str) = ("run.finished", "supervisor", "observed", "{}");

#[test]
fn a_sound_log_has_no_problem() {
    let (bytes, last) = log(3);
    let summary = read(&bytes);
    assert!(summary.is_sound(), "{:?}", summary.problems);
    assert_eq!((summary.count, summary.last_hash), (7, last));
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert_eq!(summary.index.count(EventType::Message, Source::Backend), 3);
}

#[test]
fn a_forged_source_or_trust_is_named() {
    let bytes = forged(&[START, ("backend.exited", "backend", "claimed", "{}"), FINISH]);
    assert_eq!(
        kinds(&bytes),
        [EventProblemKind::Source { event_type: EventType::BackendExited, source: Source::Backend }]
    );
    let bytes = forged(&[START, ("message", "backend", "observed", "{}"), FINISH]);
    assert_eq!(kinds(&bytes), [EventProblemKind::Trust]);
}

#[test]
fn starts_without_ends_and_ends_of_nothing_are_named() {
    let bytes = forged(&[START, ("test.started", "test", "observed", "{}"), FINISH]);
    let problems = read(&bytes).problems;
    assert_eq!(
        problems[0],
        EventProblem { line: 2, kind: EventProblemKind::Unended(EventType::TestStarted) }
    );
    let end = r#"{"of":"test","started_seq":7,"status":"interrupted"}"#;
    let bytes = forged(&[START, ("test.completed", "supervisor", "observed", end), FINISH]);
    assert_eq!(kinds(&bytes), [EventProblemKind::NoSuchStart]);
    let bytes = forged(&[START, ("test.completed", "supervisor", "observed", "{}"), FINISH]);
    assert_eq!(
        kinds(&bytes),
        [EventProblemKind::Source { event_type: EventType::TestCompleted, source: Source::Supervisor }]
    );
}

/// Ends in the order of their starts: looking for each from the last one on would take the square of them.
#[test]
fn any_number_of_open_starts_of_one_id_is_ended_in_any_order() {
    const STARTS: u64 = 100_000;
    let (mut lines, mut ends) = (vec![START], Vec::new());
    lines.extend(std::iter::repeat_n(("tool.started", "backend", "claimed", "{}"), STARTS as usize));
    ends.extend(
        (1..=STARTS).map(|seq| format!(r#"{{"of":"backend","started_seq":{seq},"status":"interrupted"}}"#)),
    );
    lines.extend(ends.iter().map(|data| ("tool.completed", "supervisor", "observed", data.as_str())));
    lines.push(FINISH);
    assert_eq!(kinds(&forged(&lines)), []);
}

#[test]
fn first_and_last_are_exactly_one_each() {
    assert_eq!(kinds(b""), [EventProblemKind::Last, EventProblemKind::First]);
    assert!(kinds(&forged(&[START])).contains(&EventProblemKind::Last));
    assert!(kinds(&forged(&[FINISH])).contains(&EventProblemKind::First));
    assert!(kinds(&forged(&[START, FINISH, FINISH])).contains(&EventProblemKind::Last));
    assert!(kinds(&forged(&[START, START, FINISH])).contains(&EventProblemKind::First));
}

#[test]
fn hostile_lines_are_problems_and_no_panics() {
    let deep = format!("{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(kinds(deep.as_bytes())[0], EventProblemKind::Malformed(_)));
    assert!(matches!(kinds(b"\xff\xfe\n")[0], EventProblemKind::Malformed(_)));
    let long = vec![b'x'; MAX_LINE + 1];
    assert_eq!(kinds(&long)[0], EventProblemKind::LineTooLong);
    let id = "x".repeat(1000);
    let call =
        String::from_utf8(log(0).0).unwrap().replace(r#""call_id":"t""#, &format!(r#""call_id":"{id}""#));
    assert!(kinds(call.as_bytes()).contains(&EventProblemKind::Malformed("its call_id is too long".into())));
    let many = b"\n".repeat(10_000);
    let summary = read(&many);
    assert_eq!(summary.problems.len(), ReadLimits::default().max_problems);
    assert!(summary.more_problems > 9_000);
    let limits = ReadLimits { max_lines: 2, ..ReadLimits::default() };
    let summary = read_events(&log(3).0[..], limits, Some(RUN), |_| {});
    assert!(summary.problems.iter().any(|problem| problem.kind == EventProblemKind::TooManyLines));
}

/// Serde would take a list for a structure and a field twice in a map.
#[test]
fn a_line_in_another_form_is_named() {
    let twice = ("message", "backend", "claimed", r#"{"text":"a","text":"b"}"#);
    assert_eq!(kinds(&forged(&[START, twice, FINISH])), [EventProblemKind::Form]);
    let spaced = ("message", "backend", "claimed", r#"{"text": 1.7976931348623157e308}"#);
    assert_eq!(kinds(&forged(&[START, spaced, FINISH])), [EventProblemKind::Form]);
    let exact = ("message", "backend", "claimed", r#"{"cost":0.12345678901234568,"t":-5e-324}"#);
    assert_eq!(kinds(&forged(&[START, exact, FINISH])), []);
}

#[test]
fn another_runs_log_is_named() {
    let (bytes, _) = log(0);
    let summary = read_events(&bytes[..], ReadLimits::default(), Some("r-other"), |_| {});
    assert_eq!(summary.problems[0].kind, EventProblemKind::RunId(RUN.to_owned()));
    assert!(summary.problems[0].to_string().contains("line 1: belongs to run"));
}

#[derive(Debug, Clone)]
enum Tamper {
    Flip(prop::sample::Index, u8),
    Delete(prop::sample::Index),
    Repeat(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Insert(prop::sample::Index, String),
    Truncate(prop::sample::Index),
}

fn tamper() -> impl Strategy<Value = Tamper> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), 1..=255_u8).prop_map(|(at, bits)| Tamper::Flip(at, bits)),
        any::<Index>().prop_map(Tamper::Delete),
        any::<Index>().prop_map(Tamper::Repeat),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Tamper::Swap(a, b)),
        (any::<Index>(), ".{0,80}").prop_map(|(at, text)| Tamper::Insert(at, text)),
        any::<Index>().prop_map(Tamper::Truncate),
    ]
}

fn apply(bytes: &[u8], tamper: &Tamper) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    match tamper {
        Tamper::Flip(at, bits) => {
            let mut changed = bytes.to_vec();
            let place = at.index(changed.len());
            changed[place] ^= bits;
            return changed;
        }
        Tamper::Truncate(at) => return bytes[..at.index(bytes.len())].to_vec(),
        Tamper::Delete(at) => drop(lines.remove(at.index(lines.len()))),
        Tamper::Repeat(at) => {
            let place = at.index(lines.len());
            lines.insert(place, lines[place].clone());
        }
        Tamper::Swap(a, b) => {
            let count = lines.len();
            lines.swap(a.index(count), b.index(count));
        }
        Tamper::Insert(at, text) => lines.insert(at.index(lines.len() + 1), format!("{text}\n").into_bytes()),
    }
    lines.concat()
}

proptest! {
    #[test]
    fn any_tampering_shows(messages in 0..6_usize, tamper in tamper()) {
        let (bytes, last) = log(messages);
        let changed = apply(&bytes, &tamper);
        prop_assume!(changed != bytes);
        let summary = read(&changed);
        // What the report records of the log: its last hash.
        prop_assert!(!summary.is_sound() || summary.last_hash != last, "{tamper:?} went unseen");
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
    }
}
