//! Denials as evidence: refused calls and attempts to connect are told of, counted, bounded, and named in the remedy.

use std::time::{Duration, Instant};

use harness::{World, users};
use serde_json::{Value, json};

use crate::proofs::{Proof, probe};
use crate::support::{self, blocker, each, events};
use crate::trace::{observed, spans};

#[test]
fn attempts_to_connect_without_a_network_are_told_with_what_would_grant_them() {
    each(|repo| {
        let script = "bash -c 'echo > /dev/tcp/93.184.216.34/443'; getent hosts example.org; \
                      bash -c 'echo > /dev/tcp/127.0.0.1/9'; exit 3";
        let outcome = support::sh(repo, &["--no-test", "--mutation", "discard"], script).run();
        support::fails(&outcome, repo, 1, &["backend_failed"], &["policy.denied"]);
        let denied = events(&outcome, "policy.denied", "supervisor");
        let told: Vec<(&str, &str)> = denied
            .iter()
            .map(|e| (e["data"]["what"].as_str().unwrap(), e["data"]["address"].as_str().unwrap()))
            .collect();
        // The loopback is the sandbox's own; a name look-up goes there for want of a server.
        assert_eq!(told, [("connect", "93.184.216.34:443"), ("connect", "127.0.0.1:53")], "{denied:#?}");
        assert_eq!(denied[0]["trust"], "observed");
        assert!(denied[0]["data"]["program"].as_str().unwrap().ends_with("/bash"), "{denied:#?}");
        assert_eq!(denied[0]["data"]["argv0"], "bash");
        let remedy = blocker(&outcome, "backend_failed")["remedy"].as_str().unwrap().to_owned();
        let hint = "It tried the network (93.184.216.34:443, a name look-up): --net host would grant it (recorded as a weakness).";
        assert!(remedy.ends_with(hint), "{remedy}");
        let markdown = outcome.text("report.md");
        assert!(markdown.contains("connecting to `93.184.216.34:443`"), "{markdown}");
        // Every attempt stands in the trace, that to the loopback as well.
        let connects: Vec<String> = spans(&outcome)
            .0
            .iter()
            .flat_map(|s| &s.events)
            .filter(|(name, _)| name == "connect")
            .map(|(_, data)| data["proctor.address"].as_str().unwrap().to_owned())
            .collect();
        assert!(connects.contains(&"127.0.0.1:9".to_owned()), "{connects:?}");
        assert_eq!(observed(&outcome, "connections")["completeness"], "advisory");
    });
}

#[test]
fn with_the_hosts_network_an_attempt_is_no_denial() {
    each(|repo| {
        let script = "bash -c 'echo > /dev/tcp/127.0.0.1/9' 2>/dev/null; true";
        let options = ["--no-test", "--mutation", "discard", "--net", "host"];
        let outcome = support::sh(repo, &options, script).run();
        support::passes(&outcome, repo);
        assert_eq!(events(&outcome, "policy.denied", "supervisor"), Vec::<Value>::new());
        assert_eq!(observed(&outcome, "connections")["count"], 1);
    });
}

#[test]
fn the_tests_own_want_of_a_network_is_the_tests_remedy() {
    each(|repo| {
        let test = "bash -c 'echo > /dev/tcp/93.184.216.34/80'";
        let outcome = support::sh(repo, &["--test", test], "echo mended > src/value.txt").run();
        support::fails(&outcome, repo, 1, &["tests_failed"], &["policy.denied"]);
        let remedy = blocker(&outcome, "tests_failed")["remedy"].as_str().unwrap().to_owned();
        assert!(
            remedy.contains("93.184.216.34:80") && remedy.contains("--test-net host would grant it"),
            "{remedy}"
        );
        assert_eq!(events(&outcome, "policy.denied", "supervisor")[0]["data"]["sandbox"], "test");
    });
}

#[test]
fn what_is_refused_is_told_with_call_reason_program_and_end() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let sys = |nr: i64, args: &str| format!("sys {nr} {args}");
        let attacks = [
            sys(libc::SYS_bpf, "0 0 0"),
            sys(libc::SYS_bpf, "0 0 0"),
            sys(libc::SYS_reboot, "0 0 0 0"),
            sys(libc::SYS_clone3, "0 0"),
        ];
        let outcome = proof
            .command([probe().to_str().unwrap()].into_iter().chain(attacks.iter().map(String::as_str)))
            .run();
        support::passes(&outcome, &proof.repo);
        let report = outcome.report();
        let denials = report["sandbox"]["denials"].as_array().unwrap();
        let told: Vec<Value> = denials
            .iter()
            .map(|d| json!([d["call"], d["errno"], d["killed"], d["count"], d["what"]]))
            .collect();
        let expected = [
            json!(["bpf", "EPERM", false, 2, "syscall"]),
            json!(["reboot", "EPERM", true, 1, "syscall"]),
            // Its arguments cannot be read: it might ask for a namespace.
            json!(["clone3", "ENOSYS", false, 1, "syscall"]),
        ];
        assert_eq!(told, expected, "{user:?}");
        assert!(denials.iter().all(|d| d["program"] == probe().to_str().unwrap()), "{user:?}: {denials:#?}");
        assert_eq!(denials[1]["reason"], "rebooting the host");
        let data: Vec<Value> =
            events(&outcome, "policy.denied", "supervisor").iter().map(|e| e["data"].clone()).collect();
        assert_eq!(&data, denials, "{user:?}");
        assert_eq!(observed(&outcome, "denials")["completeness"], "complete");
        assert_eq!(observed(&outcome, "denials")["count"], 4);
        // In the trace it stands in the span of the program.
        let (all, _) = spans(&outcome);
        let killed: Vec<_> = all
            .iter()
            .filter(|s| {
                s.events.iter().any(|(name, e)| name == "policy.denied" && e["proctor.killed"] == true)
            })
            .collect();
        assert_eq!(killed.len(), 1);
        assert_eq!(killed[0].text("proctor.end"), "killed");
    }
}

#[test]
fn an_internet_socket_at_level_landlock_names_the_option_that_grants_it() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let without = [probe().to_str().unwrap(), "without", "clone3=ENOSYS", "--"];
        let outcome = harness::Proctor::through(&without, crate::binary(), &world)
            .args(["run", "--no-test", "--min-level", "landlock", "--mutation", "discard", "--repo"])
            .arg(proof.repo.path())
            .args(["--", "python3", "-c", "import socket; socket.socket()"])
            .run();
        support::fails(&outcome, &proof.repo, 1, &["backend_failed"], &["policy.denied"]);
        let remedy = blocker(&outcome, "backend_failed")["remedy"].as_str().unwrap().to_owned();
        assert!(remedy.contains("an internet socket") && remedy.contains("--net host"), "{user:?}: {remedy}");
    }
}

#[test]
fn a_backend_that_is_killed_for_a_call_says_so_in_its_remedy() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let attack = format!("sys {} 0 0 0 0", libc::SYS_reboot);
        let outcome = proof.command([probe().to_str().unwrap(), "--one", &attack]).run();
        support::fails(&outcome, &proof.repo, 1, &["backend_failed"], &["policy.denied"]);
        let remedy = blocker(&outcome, "backend_failed")["remedy"].as_str().unwrap().to_owned();
        let hint =
            "It was refused reboot (rebooting the host), and was killed for it: no option grants that.";
        assert!(remedy.contains(hint), "{user:?}: {remedy}");
    }
}

#[test]
fn a_flood_of_refused_calls_costs_neither_minutes_nor_memory_nor_events() {
    // Nothing in it depends on the user: the others' flood is a shorter one.
    let many = if support::full() { 1_000_000 } else { 300_000 };
    for (user, calls) in users().into_iter().zip([many, 30_000]) {
        let world = World::new(user);
        let proof = Proof::new(&world);
        // A flood that took minutes would meet the run's own limit of time.
        let outcome = proof.command([probe().to_str().unwrap(), &format!("deny-flood {calls}")]).run();
        support::passes(&outcome, &proof.repo);
        let denied = events(&outcome, "policy.denied", "supervisor");
        assert_eq!(denied.len(), 1, "{user:?}: {denied:#?}");
        assert_eq!(denied[0]["data"]["count"], calls);
        assert_eq!(observed(&outcome, "denials")["count"], calls);
        assert!(outcome.artifact("trace.jsonl").len() < 100_000);
    }
}

#[test]
fn denials_by_more_programs_than_are_told_apart_are_counted() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let script = format!(
            "i=0; while [ $i -lt 150 ]; do cp {0} p$i; ./p$i --one 'sys {1} 0 0 0' >/dev/null; rm p$i; i=$((i+1)); done",
            probe().display(),
            libc::SYS_bpf
        );
        let outcome = proof.shell(&script);
        support::verifies(&outcome, &proof.repo);
        assert_eq!(events(&outcome, "policy.denied", "supervisor").len(), 100, "{user:?}");
        let said = observed(&outcome, "denials");
        assert_eq!((&said["count"], &said["left_out"]), (&json!(150), &json!(50)), "{user:?}: {said}");
        assert!(said["note"].as_str().unwrap().contains("50 calls are counted alone"), "{said}");
    }
}

#[test]
fn a_run_that_is_stopped_in_the_middle_of_floods_ends_at_once() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world).with(["--timeout", "2s", "--grace", "0s"]);
        let flood = format!(
            "for n in 1 2 3; do (while :; do /bin/true; done) & {} 'deny-flood 1000000000' & done; wait",
            probe().display()
        );
        // The second floods from its first call on, while the run still learns that the sandbox stands.
        for command in [vec!["sh", "-c", &flood], vec![probe().to_str().unwrap(), "deny-flood 1000000000"]] {
            let begun = Instant::now();
            let outcome = proof.command(command).run();
            assert!(begun.elapsed() < Duration::from_secs(30), "{user:?}: {:?}", begun.elapsed());
            support::fails(&outcome, &proof.repo, 1, &["timeout"], &["policy.denied", "timeout.expired"]);
            assert!(observed(&outcome, "denials")["count"].as_u64().unwrap() > 1000);
        }
    }
}

/// Whatever cannot be opened for want of descriptors: a run that could not be watched whole is no pass that says it was.
#[test]
fn a_supervisor_short_of_descriptors_never_passes_a_run_it_could_not_watch() {
    let mut passed = 0;
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        for most in (16..80).step_by(4) {
            let limit = format!("--nofile={most}:{most}");
            let outcome = harness::Proctor::through(&["prlimit", &limit, "--"], crate::binary(), &world)
                .args(["run", "--no-test", "--mutation", "discard", "--repo"])
                .arg(proof.repo.path())
                .args(["--", "sh", "-c", "/bin/true; /bin/true; exit 0"])
                .run();
            if outcome.code == Some(0) {
                passed += 1;
                support::verifies(&outcome, &proof.repo);
                let programs = observed(&outcome, "programs");
                assert_eq!(programs["completeness"], "complete", "{user:?} {most}: {outcome:#?}");
                assert_eq!(programs["count"], 3, "{user:?} {most}: {outcome:#?}");
            }
        }
    }
    assert!(passed > 0);
}

/// In some containers somebody else's filter holds the listener: then refusals are the kernel's own, and the report says
/// that nobody was told of them.
#[test]
fn without_a_listener_to_be_had_the_sandbox_stands_and_says_that_it_was_not_watched() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::new(&world);
        let attack = format!("sys {} 0 0 0 0", libc::SYS_reboot);
        let wrapper = [probe().to_str().unwrap(), "--under-listener"];
        let outcome = harness::Proctor::through(&wrapper, crate::binary(), &world)
            .args(["run", "--no-test", "--mutation", "discard", "--repo"])
            .arg(proof.repo.path())
            .arg("--ro")
            .arg(probe().parent().unwrap())
            .arg("--")
            .args([probe().to_str().unwrap(), "--one", &attack])
            .run();
        support::fails(&outcome, &proof.repo, 1, &["backend_failed"], &[]);
        let report = outcome.report();
        // SIGSYS, by the kernel itself.
        assert_eq!(report["backend_signal"], 31, "{user:?}: {outcome:#?}");
        let missing = report["sandbox"]["missing"].to_string();
        assert!(missing.contains("trace of programs and refused calls"), "{user:?}: {missing}");
        for kind in ["programs", "exit_codes", "denials", "connections"] {
            assert_eq!(observed(&outcome, kind)["completeness"], "absent", "{user:?} {kind}");
        }
        let (spans, resource) = spans(&outcome);
        assert!(spans.iter().all(|span| span.name != "program"));
        assert_eq!(resource["proctor.completeness.programs"], "absent");
        assert!(!report["sandbox"]["mechanisms"].to_string().contains("\"listener\""));
        // Learning needs to be told.
        let outcome = harness::Proctor::through(&wrapper, crate::binary(), &world)
            .args(["learn", "--repo"])
            .arg(proof.repo.path())
            .args(["--", "true"])
            .run();
        assert_eq!(outcome.code, Some(3), "{user:?}: {outcome:#?}");
        assert!(outcome.stderr.contains("could not be watched"), "{user:?}: {outcome:#?}");
    }
}
