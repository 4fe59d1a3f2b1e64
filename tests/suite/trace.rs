//! The trace of executed programs: what is seen of a script's children, failures, signals, orphans and floods, and that
//! a program's own account of itself stays a claim.

use std::time::{Duration, Instant};

use harness::{Outcome, World, users};
use serde_json::{Map, Value};

use crate::proofs::{Proof, probe};
use crate::support::{self, each};

/// A span of a program, its attributes by name without their values' types.
pub(crate) struct Span {
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) took_ns: u64,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) events: Vec<(String, Map<String, Value>)>,
}

impl Span {
    pub(crate) fn text(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn argv(&self) -> Vec<&str> {
        let list = self.attributes["process.command_args"].as_array().unwrap();
        list.iter().map(|one| one.as_str().unwrap()).collect()
    }

    fn end(&self) -> String {
        let number = |key: &str| self.attributes.get(key).and_then(Value::as_str).map(|n| format!(" {n}"));
        let number = number("process.exit.code").or_else(|| number("proctor.signal")).unwrap_or_default();
        format!("{}{number}", self.text("proctor.end"))
    }
}

fn plain(value: &Value) -> Value {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    if kind == "arrayValue" {
        value["values"].as_array().unwrap().iter().map(plain).collect()
    } else {
        value.clone()
    }
}

fn attributes(list: &Value) -> Map<String, Value> {
    let list = list.as_array().unwrap();
    list.iter().map(|one| (one["key"].as_str().unwrap().to_owned(), plain(&one["value"]))).collect()
}

/// Every span of a run's trace, and what the trace says of its completeness.
pub(crate) fn spans(outcome: &Outcome) -> (Vec<Span>, Map<String, Value>) {
    let mut spans = Vec::new();
    let mut resource = Map::new();
    for line in outcome.text("trace.jsonl").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let one = &line["resourceSpans"][0];
        resource = attributes(&one["resource"]["attributes"]);
        for span in one["scopeSpans"][0]["spans"].as_array().unwrap() {
            let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| text(key).parse::<u64>().unwrap();
            spans.push(Span {
                id: text("spanId"),
                parent: text("parentSpanId"),
                name: text("name"),
                took_ns: number("endTimeUnixNano") - number("startTimeUnixNano"),
                attributes: attributes(&span["attributes"]),
                events: span["events"].as_array().map_or_else(Vec::new, |events| {
                    events
                        .iter()
                        .map(|e| (e["name"].as_str().unwrap().to_owned(), attributes(&e["attributes"])))
                        .collect()
                }),
            });
        }
    }
    (spans, resource)
}

pub(crate) fn programs(outcome: &Outcome) -> Vec<Span> {
    spans(outcome).0.into_iter().filter(|span| span.name == "program").collect()
}

/// What the report says of one kind of thing in the backend's sandbox.
pub(crate) fn observed(outcome: &Outcome, kind: &str) -> Value {
    outcome.report()["sandbox"]["observed"]["backend"][kind].clone()
}

/// Linux 6.15 tells how every process ended; older ones tell parents alone.
fn ends_are_told(outcome: &Outcome) -> bool {
    observed(outcome, "exit_codes")["completeness"] == "complete"
}

#[test]
fn every_program_of_a_script_has_a_span_with_its_parent_and_its_end() {
    each(|repo| {
        let script = "/bin/true; ls not-here 2>/dev/null; sh -c 'kill -9 $$'; cd src && sh -c 'exec cat value.txt'; \
                      setsid sh -c 'sleep 0.1; exit 7' & env not-a-program 2>/dev/null; wait; exit 0";
        let outcome = support::sh(repo, &["--no-test", "--mutation", "discard"], script).run();
        support::passes(&outcome, repo);
        let (all, resource) = spans(&outcome);
        assert_eq!(resource["proctor.completeness.programs"], "complete");
        assert_eq!(resource["proctor.completeness.connections"], "advisory");
        // As root on a host with audit on it is advisory (tests/audit).
        assert_ne!(resource["proctor.completeness.denied_paths"], "complete");
        assert!(
            ends_are_told(&outcome),
            "this kernel does not tell exit codes: {}",
            outcome.report()["host"]
        );
        let programs: Vec<&Span> = all.iter().filter(|span| span.name == "program").collect();
        let find = |argv: &[&str]| {
            let found: Vec<&&Span> = programs.iter().filter(|span| span.argv() == argv).collect();
            assert_eq!(found.len(), 1, "{argv:?}: {outcome:#?}");
            *found[0]
        };
        let phase = all.iter().find(|span| span.name == "phase backend").unwrap();
        let main = find(&["sh", "-c", script]);
        assert_eq!((main.end().as_str(), &main.parent), ("exited 0", &phase.id));
        assert!(
            main.text("process.executable.path").ends_with("/dash")
                || main.text("process.executable.path").ends_with("sh")
        );
        assert_eq!(main.text("process.working_directory"), repo.path().to_str().unwrap());
        let expected: [(&[&str], &str); 9] = [
            (&["/bin/true"], "exited 0"),
            (&["ls", "not-here"], "exited 2"),
            (&["sh", "-c", "kill -9 $$"], "killed 9"),
            (&["sh", "-c", "exec cat value.txt"], "replaced"),
            (&["cat", "value.txt"], "exited 0"),
            (&["setsid", "sh", "-c", "sleep 0.1; exit 7"], "replaced"),
            (&["sh", "-c", "sleep 0.1; exit 7"], "exited 7"),
            (&["env", "not-a-program"], "exited 127"),
            (&["not-a-program"], "not_found"),
        ];
        for (argv, end) in expected {
            let span = find(argv);
            assert_eq!(span.end(), end, "{argv:?}");
            assert_eq!(span.parent, main.id, "{argv:?}");
        }
        let sleep = find(&["sleep", "0.1"]);
        assert_eq!(sleep.parent, find(&["sh", "-c", "sleep 0.1; exit 7"]).id);
        assert!(sleep.took_ns >= 100_000_000, "{}", sleep.took_ns);
        assert!(sleep.text("process.executable.path").ends_with("/sleep"));
        assert!(find(&["cat", "value.txt"]).text("process.working_directory").ends_with("/repo/src"));
        assert_eq!(observed(&outcome, "programs")["count"], programs.len());
        // `env` looked along its path.
        let note = observed(&outcome, "programs")["note"].as_str().unwrap_or_default().to_owned();
        assert!(note.contains("names along a search path were looked for and not found"), "{note}");
    });
}

#[test]
fn what_outlives_the_main_process_is_seen_to_be_killed() {
    each(|repo| {
        let script = "setsid sleep 60 & setsid sh -c 'trap \"\" TERM; sleep 60' & sleep 0.2; exit 0";
        let outcome = support::sh(repo, &["--no-test", "--mutation", "discard"], script).run();
        support::passes(&outcome, repo);
        let ends: Vec<String> =
            programs(&outcome).iter().filter(|s| s.argv() == ["sleep", "60"]).map(Span::end).collect();
        assert_eq!(ends, ["killed 9", "killed 9"], "{outcome:#?}");
    });
}

#[test]
fn test_and_reviewer_are_traced_below_their_own_phases() {
    each(|repo| {
        let outcome = support::sh(
            repo,
            &["--test", "sh check.sh", "--review", "/bin/true", "--review-by", "exit"],
            "echo mended > src/value.txt",
        )
        .run();
        support::passes(&outcome, repo);
        let (all, _) = spans(&outcome);
        for (phase, argv0) in [("test", "grep"), ("review", "/bin/true")] {
            let of: Vec<&Span> =
                all.iter().filter(|s| s.name == "program" && s.text("proctor.sandbox") == phase).collect();
            assert!(of.iter().any(|s| s.argv()[0] == argv0), "{phase}: {outcome:#?}");
            let id = &all.iter().find(|s| s.name == format!("phase {phase}")).unwrap().id;
            assert!(of.iter().any(|s| s.parent == *id), "{phase}");
            assert_eq!(outcome.report()["sandbox"]["observed"][phase]["programs"]["count"], of.len());
        }
    });
}

#[test]
fn a_flood_of_programs_is_bounded_and_counted() {
    each(|repo| {
        let script = "i=0; while [ $i -lt 3000 ]; do /bin/true; i=$((i+1)); done";
        let begun = Instant::now();
        let outcome = support::sh(repo, &["--no-test", "--mutation", "discard"], script).run();
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        support::passes(&outcome, repo);
        assert_eq!(programs(&outcome).len(), 3001);
        assert!(ends_are_told(&outcome));
    });
}

#[test]
fn arguments_that_change_during_the_call_stay_a_claim_and_the_program_is_what_it_is() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let outcome = proof.command([probe().to_str().unwrap(), "argv-races 40"]).run();
        support::passes(&outcome, &proof.repo);
        // Another thread writes over the path all the time: whatever was read of it, what ran is known by its code,
        // and what is said to have been seen must be that, or nothing.
        let all = programs(&outcome);
        let raced: Vec<&Span> = all.iter().filter(|s| s.argv() == ["raced", "0.020"]).collect();
        assert!(raced.len() >= 40, "{user:?}: {outcome:#?}");
        let mut seen = 0;
        for span in raced {
            let observed = span.text("process.executable.path");
            let right = match span.end().as_str() {
                "exited 0" => "/usr/bin/sleep",
                "exited 1" => "/usr/bin/false",
                // An attempt in between that failed, or of which it cannot be told.
                "replaced" | "not_found" => continue,
                other => panic!("{user:?}: {other}: {:?}", span.attributes),
            };
            // Where the call failed for a path in between it is the program before it, which called once more.
            let own = probe().to_str().unwrap();
            assert!(["", right, own].contains(&observed), "{user:?}: {observed}, not {right}");
            seen += usize::from(observed == right);
        }
        assert!(seen > 0, "{user:?}: nothing was observed");
    }
}

#[test]
fn no_run_of_a_program_is_hidden_by_a_path_that_comes_and_goes() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let outcome = proof.command([probe().to_str().unwrap(), "exec-flickers flicker 40"]).run();
        support::passes(&outcome, &proof.repo);
        assert!(outcome.text("backend.stdout.log").contains("\tok"), "{user:?}: {outcome:#?}");
        assert_eq!(observed(&outcome, "programs")["completeness"], "complete");
        let all = programs(&outcome);
        for left in 0..40 {
            let argv = format!("flickering flicker {left}");
            assert!(
                all.iter().any(|s| s.argv().last() == Some(&argv.as_str()) && s.end() != "not_found"),
                "{user:?}: {argv} is not told of"
            );
        }
    }
}

#[test]
fn programs_are_executed_by_paths_that_only_their_caller_can_follow() {
    each(|repo| {
        let script = "set -e; cd \"$TMPDIR\"; exec 9</bin/true; /dev/fd/9; ln -s /proc/self/fd/9 link; ./link; \
                      mkdir -p gone/there; cp /bin/true gone/program; cd gone/there; rmdir ../there; ../program; \
                      cd /; usr/bin/env true";
        let outcome = support::sh(repo, &["--no-test", "--mutation", "discard"], script).run();
        support::passes(&outcome, repo);
    });
}
