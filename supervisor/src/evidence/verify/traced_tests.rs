//! Whatever stands in a trace, reading it ends, without a panic and within its limits.

use proptest::prelude::*;

use super::*;
use crate::evidence::trace::{
    Attribute, Completeness, Span, SpanEvent, SpanId, SpanStatus, TraceId, TraceWriter,
};

const RUN: &str = "r-20260601T120000-abcdef";

fn sample() -> Vec<u8> {
    let mut writer =
        TraceWriter::new(Vec::new(), TraceId::new().unwrap(), RUN, &[("programs", Completeness::Complete)]);
    let text = |key: &str, value: &str| (key.to_owned(), Attribute::from(value));
    let span = |name: &str, attributes| Span {
        id: SpanId::new().unwrap(),
        parent: None,
        name: name.into(),
        start_ns: 1,
        end_ns: 2,
        attributes,
        events: vec![SpanEvent {
            name: "policy.denied".into(),
            at_ns: 1,
            attributes: vec![
                text("proctor.sandbox", "backend"),
                text("proctor.call", "bpf"),
                ("proctor.count".into(), Attribute::Int(i64::MAX)),
            ],
        }],
        status: SpanStatus::Ok,
    };
    let call =
        vec![(told::SEQ.to_owned(), Attribute::Int(4)), ("l".into(), Attribute::Texts(vec!["a".into()]))];
    let phase = vec![text("proctor.phase", "test"), ("proctor.usage.disk".into(), Attribute::Int(1))];
    let program = vec![text("proctor.sandbox", "backend"), text("proctor.end", "exited")];
    writer.write(&[span("run", phase)]).unwrap();
    writer.write(&[span("program", program), span("tool_call", call)]).unwrap();
    writer.into_inner()
}

#[test]
fn the_sample_is_read() {
    let traced = read(&mut &sample()[..], RUN).unwrap();
    assert_eq!(traced.told.len(), 1);
    assert_eq!(traced.counts[&("backend".to_owned(), "programs")], 1);
    // Two spans' worth of as many refusals as a number holds: the sum stays what it can be.
    assert!(traced.counts[&("backend".to_owned(), "denials")] > i64::MAX as u64);
}

#[test]
fn nesting_and_floods_are_errors() {
    let deep = format!("{{\"resourceSpans\":{}", "[".repeat(100_000));
    assert!(read(&mut deep.as_bytes(), RUN).is_err());
    let long = vec![b'x'; usize::try_from(MAX_LINE).unwrap() + 1];
    assert!(read(&mut &long[..], RUN).unwrap_err().contains("is cut, or longer than"));
    // As many different sandboxes as somebody likes to write.
    let mut writer = TraceWriter::new(Vec::new(), TraceId::new().unwrap(), RUN, &[]);
    let spans: Vec<Span> = (0..MAX_KEYS + 10)
        .map(|number| Span {
            id: SpanId::new().unwrap(),
            parent: None,
            name: "program".into(),
            start_ns: 1,
            end_ns: 2,
            attributes: vec![("proctor.sandbox".into(), Attribute::Text(number.to_string()))],
            events: vec![],
            status: SpanStatus::Unset,
        })
        .collect();
    spans.chunks(100).for_each(|part| writer.write(part).unwrap());
    let error = read(&mut &writer.into_inner()[..], RUN).unwrap_err();
    assert!(error.contains("speaks of too many different things"), "{error}");
}

proptest! {
    #[test]
    fn a_changed_trace_is_read_without_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let mut bytes = sample();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => {
                    let piece = bytes[at..(at + usize::from(byte)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        if let Ok(traced) = read(&mut &bytes[..], RUN) {
            prop_assert!(traced.counts.len() + traced.denied.len() <= MAX_KEYS + 1);
            prop_assert!(traced.told.len() <= 3);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&mut &bytes[..], RUN);
    }
}
