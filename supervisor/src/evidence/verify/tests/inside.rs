//! What was seen inside of sandboxes, as report, events and trace tell of it.

use super::*;

/// A run in which Landlock refused something twice.
fn with_a_refused_path() -> Run {
    let mut run = Run::new();
    let mut refused = run.report.sandbox.denials[0].clone();
    refused.what = "path".into();
    refused.call = String::new();
    (refused.errno, refused.program, refused.count) = (None, None, 2);
    refused.blockers = vec!["fs.read_file".into()];
    refused.path = Some("/opt/x".into());
    run.events.push(payload::policy_denied(&refused));
    run.report.sandbox.denials.push(refused);
    let kind = run.report.sandbox.observed.get_mut("backend").unwrap().get_mut("denied_paths").unwrap();
    (kind.count, kind.left_out, kind.completeness) = (5, 3, "advisory".into());
    run.traced_completeness.push(("denied_paths", trace::Completeness::Advisory));
    run.traced_paths = 2;
    run
}

#[test]
fn what_landlock_refused_is_the_same_in_report_events_and_trace() {
    assert_eq!(with_a_refused_path().write(|_| {}).problems(), Vec::<String>::new());
    let mut run = with_a_refused_path();
    run.traced_paths = 1;
    let problems = run.write(|_| {}).problems();
    some(&problems, "trace.jsonl: holds 1 denied_paths of sandbox backend, the report tells of 2");
    some(&problems, "holds 1 refusals of path");
    let mut run = with_a_refused_path();
    run.traced_completeness.pop();
    some(&run.write(|_| {}).problems(), "says of denied_paths that they are Some(\"absent\")");
    let changed = |edit: fn(&mut crate::report::DenialInfo)| {
        let mut run = with_a_refused_path();
        edit(&mut run.report.sandbox.denials[1]);
        run.write(|_| {}).problems()
    };
    for edit in [
        (|one| one.path = Some("/opt/y".into())) as fn(&mut crate::report::DenialInfo),
        |one| one.blockers = vec!["fs.execute".into()],
        |one| one.program = Some("/bin/y".into()),
    ] {
        let problems = changed(edit);
        some(&problems, "holds 0 refusals of path");
        some(&problems, "stand in no event as they are");
    }
    some(
        &changed(|one| one.count = 1),
        "sandbox.observed.backend.denied_paths counts 5 refusals by Landlock and leaves 3 out, sandbox.denials has 1",
    );
}

#[test]
fn what_was_seen_inside_is_the_same_in_report_events_and_trace() {
    assert_eq!(Run::new().write(|_| {}).problems(), Vec::<String>::new());
    let mut run = Run::new();
    run.traced.0 = 1;
    some(
        &run.write(|_| {}).problems(),
        "trace.jsonl: holds 1 programs of sandbox backend, the report tells of 2",
    );
    let mut run = Run::new();
    run.traced.1 = 2;
    some(
        &run.write(|_| {}).problems(),
        "trace.jsonl: holds 2 denials of sandbox backend, the report tells of 3",
    );
    let mut run = Run::new();
    run.traced_completeness[0].1 = trace::Completeness::Advisory;
    one(&run.write(|_| {}).problems(), "says of programs that they are Some(\"advisory\")");
    // A denial that the report no longer has, and one that it has made up.
    let mut run = Run::new();
    run.report.sandbox.denials.clear();
    let problems = run.write(|_| {}).problems();
    some(&problems, "has 1 events of something refused that the report does not have so");
    some(&problems, "counts 3 refused calls and leaves 0 out, sandbox.denials has 0");
    let mut run = Run::new();
    run.report.sandbox.denials[0].killed = true;
    some(&run.write(|_| {}).problems(), "1 of sandbox.denials stand in no event as they are");
    let mut run = Run::new();
    run.report.sandbox.denials[0].what = "nothing".into();
    some(&run.write(|_| {}).problems(), "sandbox.denials says \"nothing\" of what was refused");
    let mut run = Run::new();
    run.report.sandbox.observed.get_mut("backend").unwrap().get_mut("programs").unwrap().completeness =
        "all".into();
    some(&run.write(|_| {}).problems(), "sandbox.observed.backend.programs is no statement of completeness");
    // Edited after the fact, with everything that hangs together by digests.
    let edited = |edit: fn(&mut Report)| Run::new().write(edit).problems();
    some(&edited(|r| r.sandbox.observed.clear()), "sandbox");
}

#[test]
fn what_a_trace_tells_of_calls_limits_and_usage_is_what_events_and_report_say() {
    use crate::evidence::told;
    let backend = |event_type| NewEvent::new(event_type, Source::Backend).call("c1");
    let with_calls = || {
        let mut run = Run::new();
        run.events.insert(5, backend(EventType::ToolStarted).with("name", "bash").with("kind", "execute"));
        run.events.insert(6, backend(EventType::ToolCompleted).with("status", "completed"));
        run.traced_completeness.push(("tool_calls", trace::Completeness::Advisory));
        run.clock = Some(now_micros());
        run
    };
    // As the writer of this very log gathers it, but for the time.
    let spans = |run: &Run, edit: &dyn Fn(&mut trace::Span)| {
        let mut writer = EventWriter::with_clock(
            Vec::new(),
            "r",
            EventLimits::default(),
            Box::new(Fixed(run.clock.unwrap())),
        );
        for event in run.events.clone() {
            writer.emit(event).unwrap();
        }
        let list = writer.calls().calls.iter().map(|call| {
            let told::CallSpan { name, start_ns, end_ns, attributes, status } = told::call(call);
            let mut span = span_of(name);
            (span.start_ns, span.end_ns, span.attributes, span.status) =
                (start_ns, end_ns, attributes, status);
            edit(&mut span);
            span
        });
        list.collect::<Vec<_>>()
    };
    let mut run = with_calls();
    run.traced_calls = spans(&run, &|_| {});
    let none: &[String] = &[];
    assert_eq!(run.write(|_| {}).problems(), none);
    type Edit<'a> = &'a dyn Fn(&mut trace::Span);
    let wrong: [(Edit<'_>, &str); 4] = [
        (&|span| span.name = "command".into(), "tells of event 5 \"command"),
        (&|span| span.start_ns += 1, "tells of event 5 \"tool_call"),
        (&|span| span.attributes[3].1 = "python".into(), "python"),
        (&|span| span.attributes[1].1 = trace::Attribute::Int(4), "tells of event 4, which is no call"),
    ];
    for (edit, why) in wrong {
        let mut run = with_calls();
        run.traced_calls = spans(&run, edit);
        some(&run.write(|_| {}).problems(), why);
    }
    let mut run = with_calls();
    run.clock = Some(now_micros());
    some(&run.write(|_| {}).problems(), "tells of event 5 \"nothing\"");
    let mut run = with_calls();
    run.traced_calls = spans(&run, &|_| {});
    run.traced_completeness.pop();
    some(&run.write(|_| {}).problems(), "says of tool_calls that they are Some(\"absent\")");
    let mut run = Run::new();
    run.traced_usage = vec![("proctor.usage.disk".into(), trace::Attribute::Int(7))];
    one(&run.write(|_| {}).problems(), "says of usage backend.disk Some(\"7\"), the report None");
    let mut run = Run::new();
    run.traced_completeness.pop();
    one(&run.write(|_| {}).problems(), "says of usage that it is Some(\"absent\")");
    let mut run = Run::new();
    run.events.insert(
        6,
        NewEvent::new(EventType::LimitExceeded, Source::Supervisor)
            .with("what", "memory")
            .with("phase", "backend"),
    );
    some(&run.write(|_| {}).problems(), "tells of event 7 \"nothing\", the event says \"limit.exceeded");
}
