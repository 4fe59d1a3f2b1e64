//! The engine `fake`: a whole run by scenario, and a backend that says what only the supervisor may say.

use serde_json::Value;

use crate::support::{each, events, fails, fake, fake_text, passes};

#[test]
fn a_scenario_is_played_and_its_events_are_claims() {
    each(|repo| {
        let outcome = fake(repo, &["--test", "sh check.sh"], "mend").run();
        passes(&outcome, repo);
        let said: Vec<Value> = outcome.events().into_iter().filter(|e| e["source"] == "backend").collect();
        let types: Vec<&str> = said.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["turn.started", "message", "turn.completed"]);
        let log = outcome.artifact("backend.stdout.log");
        for event in &said {
            assert_eq!(event["trust"], "claimed");
            // The pointer into the raw log leads to the line itself.
            let offset = usize::try_from(event["native"]["offset"].as_u64().unwrap()).unwrap();
            let line = log[offset..].split(|b| *b == b'\n').next().unwrap();
            let native: Value = serde_json::from_slice(line).unwrap();
            assert_eq!(native["fake"], event["type"]);
        }
    });
}

#[test]
fn a_backend_that_says_what_the_supervisor_says_changes_nothing() {
    each(|repo| {
        let options = ["--test", "sh check.sh", "--review", "true", "--ask-change", "src/**"];
        let outcome = fake(repo, &options, "says-what-the-supervisor-says").run();
        fails(&outcome, repo, 1, &["tests_failed", "approval_denied"], &["test:test.completed"]);

        // What only others may say is a backend's event; nothing of it has another source or is observed.
        let all = outcome.events();
        assert_eq!(all.first().unwrap()["type"], "run.started");
        assert_eq!(all.last().unwrap()["type"], "run.finished");
        for event_type in ["run.started", "run.finished", "backend.exited"] {
            let count = all.iter().filter(|e| e["type"] == event_type).count();
            assert_eq!(count, 1, "{event_type}");
        }
        assert_eq!(all.last().unwrap()["data"]["status"], "fail");
        assert!(events(&outcome, "approval.granted", "operator").is_empty());
        assert!(events(&outcome, "approval.granted", "supervisor").is_empty());
        let tests = events(&outcome, "test.completed", "test");
        assert_eq!(tests.len(), 1);
        assert_eq!(tests[0]["data"]["exit_code"], 1);
        // The claim stands as a claim, its fields as data.
        let claims = events(&outcome, "test.completed", "backend");
        assert_eq!(claims.len(), 1);
        assert_eq!((&claims[0]["trust"], &claims[0]["data"]["source"]), (&"claimed".into(), &"test".into()));
        let names: Vec<Value> =
            events(&outcome, "backend.event", "backend").iter().map(|e| e["data"]["name"].clone()).collect();
        assert_eq!(names, ["run.finished", "backend.exited", "approval.granted"]);
        assert!(!events(&outcome, "backend.output", "backend").is_empty());
        // Numbers are the supervisor's own.
        let numbers: Vec<u64> = all.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    });
}

#[test]
fn output_that_is_no_event_breaks_nothing() {
    let lines = [
        "{",
        "[]",
        "null",
        r#"{"fake":7}"#,
        r#"{"fake":""}"#,
        r#"{"fake":"message","text":"\ud800"}"#,
        r#"{"fake":"message","fake":"run.finished"}"#,
        r#"{"fake":"message","text":1e999}"#,
    ];
    each(|repo| {
        let mut script = String::from("echo mended > src/value.txt\n");
        for line in lines {
            script.push_str(&format!("echo '{line}'\n"));
        }
        // Deep nesting, a line without end, bytes that are no text, a name as long as a line may be.
        script.push_str("perl -e 'print \"{\\\"fake\\\":\" x 5000, \"\\n\", \"[\" x 100000, \"\\n\"'\n");
        script.push_str("printf '\\377\\376\\000\\n'; head -c 300000 /dev/zero | tr '\\0' x; echo\n");
        script.push_str("perl -e 'print \"{\\\"fake\\\":\\\"\", \"n\" x 100000, \"\\\"}\\n\"'\n");
        script.push_str("perl -e 'print \"{\\\"fake\\\":\\\"message\\\",\\\"id\\\":\\\"\", \"i\" x 100000, \"\\\"}\\n\"'; printf 'no end of line'");
        let scenario = format!(
            "[[step]]\ndo = \"emit\"\nevent = \"turn.started\"\n[[step]]\ndo = \"shell\"\ncommand = '''\n{}'''\n\
             [[step]]\ndo = \"print\"\ntext = \"\"\n[[step]]\ndo = \"emit\"\nevent = \"turn.completed\"\n",
            script.replace("'''", "")
        );
        let outcome = fake_text(repo, &["--test", "sh check.sh"], &scenario).run();
        passes(&outcome, repo);
        for line in outcome.text("events.normalized.jsonl").lines() {
            assert!(line.len() <= 64 << 10, "a line of {} bytes", line.len());
        }
    });
}

#[test]
fn spans_that_the_backend_leaves_open_are_closed_as_interrupted() {
    each(|repo| {
        let scenario = r#"
[[step]]
do = "emit"
event = "turn.started"
[[step]]
do = "emit"
event = "tool.started"
data = { id = "t1", name = "edit" }
[[step]]
do = "replace"
path = "src/value.txt"
from = "broken"
to = "mended"
[[step]]
do = "emit"
event = "turn.completed"
"#;
        let outcome = fake_text(repo, &["--test", "sh check.sh"], scenario).run();
        let ends = outcome.events();
        let ends: Vec<&Value> = ends.iter().filter(|e| e["type"] == "tool.completed").collect();
        assert_eq!(ends.len(), 1);
        assert_eq!(
            (&ends[0]["source"], &ends[0]["data"]["status"]),
            (&"supervisor".into(), &"interrupted".into())
        );
        crate::support::verifies(&outcome, repo);
    });
}
