//! What Landlock refused, by the host's audit. A test program of its own: it switches audit on for the whole host, which
//! the suite's tests must not meet. Root alone may do that; an ordinary user has no CAP_AUDIT_READ, and reports that
//! say so.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing where something must be has failed")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use harness::{Binary, Outcome, Proctor, TestRepo, User, World, users};
use serde_json::Value;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

fn binary() -> &'static Path {
    Binary::of(env!("CARGO_BIN_EXE_proctor-under-test"))
}

#[expect(clippy::print_stderr, reason = "a skip is said by its name")]
fn skipped(why: &str) {
    eprintln!("skipped: the kernel's audit: {why}");
}

/// One test of this machine at a time has to do with audit.
struct Lock(#[expect(dead_code, reason = "held")] File);

impl Lock {
    fn take() -> Self {
        let file = File::create(std::env::temp_dir().join("proctor-test-audit.lock")).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        Self(file)
    }
}

/// Audit, switched on; as it was before when this is dropped, or its process is killed.
struct AuditOn {
    input: Option<ChildStdin>,
    child: Child,
    _lock: Lock,
}

impl AuditOn {
    /// `None` where it cannot be had, with the reason printed.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped("root alone may switch it on");
            return None;
        }
        let lock = Lock::take();
        let mut child =
            Command::new(PROBE).arg("audit-on").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let input = child.stdin.take();
        let on = Self { input, child, _lock: lock };
        if matches!(said.trim(), "on" | "already") {
            return Some(on);
        }
        skipped(&format!("it cannot be switched on here: {}", said.trim()));
        None
    }
}

impl Drop for AuditOn {
    fn drop(&mut self) {
        drop(self.input.take());
        let ended = self.child.wait();
        assert!(std::thread::panicking() || ended.is_ok_and(|e| e.success()), "audit was not put back");
    }
}

/// The root user's repository.
fn with_repo(test: impl FnOnce(&TestRepo<'_>)) {
    let world = World::new(User::Root);
    test(&TestRepo::small(&world));
}

fn sh(proctor: Proctor, repo: &TestRepo<'_>, options: &[&str], script: &str) -> Proctor {
    proctor
        .args(["run", "--no-test", "--mutation", "discard", "--repo"])
        .arg(repo.path())
        .args(options)
        .args(["--", "sh", "-c", script])
}

fn run(repo: &TestRepo<'_>, script: &str) -> Outcome {
    sh(Proctor::new(binary(), repo.world()), repo, &[], script).run()
}

/// With mounts refused: level `landlock`.
fn run_confined(repo: &TestRepo<'_>, script: &str) -> Outcome {
    let wrapper = [PROBE, "without", "pivot_root=EPERM", "--"];
    let proctor = Proctor::through(&wrapper, binary(), repo.world());
    sh(proctor, repo, &["--min-level", "landlock"], script).run()
}

fn verifies(outcome: &Outcome, repo: &TestRepo<'_>) {
    let verified = Proctor::new(binary(), repo.world())
        .arg("verify")
        .arg(outcome.evidence())
        .arg("--repo")
        .arg(repo.path())
        .run();
    assert_eq!(verified.code, Some(0), "{verified:#?}\nof {outcome:#?}");
}

fn denied_paths(outcome: &Outcome) -> Value {
    outcome.report()["sandbox"]["observed"]["backend"]["denied_paths"].clone()
}

/// What Landlock refused, by the report; the events say the same.
fn refused(outcome: &Outcome) -> Vec<Value> {
    let landlock = |one: &Value| one["what"] != "syscall" && one["what"] != "connect";
    let of = |list: Vec<Value>| list.into_iter().filter(landlock).collect::<Vec<_>>();
    let denials = of(outcome.report()["sandbox"]["denials"].as_array().unwrap().clone());
    let events = outcome.events().into_iter().filter(|e| e["type"] == "policy.denied");
    assert_eq!(of(events.map(|event| event["data"].clone()).collect()), denials);
    denials
}

fn advisory(outcome: &Outcome, count: u64) {
    let observed = denied_paths(outcome);
    assert_eq!(
        (&observed["completeness"], &observed["count"]),
        (&"advisory".into(), &count.into()),
        "{outcome:#?}"
    );
}

#[test]
fn what_landlock_refused_is_told_with_path_right_and_program_and_the_sandboxes_own_check_is_not() {
    let Some(_on) = AuditOn::new() else { return };
    with_repo(|repo| {
        let outcome = run(repo, "mkdir /dev/one /dev/two; true > /dev/three; exit 3");
        outcome.expect(1, &["backend_failed"]);
        advisory(&outcome, 3);
        assert_eq!(denied_paths(&outcome)["left_out"], 0, "{:#}", denied_paths(&outcome));
        let refused = refused(&outcome);
        assert_eq!(refused.len(), 2, "{refused:#?}");
        let (made, opened) = (&refused[0], &refused[1]);
        assert_eq!(
            (&made["what"], &made["path"], &made["count"]),
            (&"path".into(), &"/dev".into(), &2.into())
        );
        assert_eq!(made["blockers"], serde_json::json!(["fs.make_dir"]));
        assert_eq!(opened["blockers"], serde_json::json!(["fs.make_reg"]));
        assert!(made["program"].as_str().unwrap().ends_with("/mkdir"), "{made:#}");
        assert!(made["reason"].as_str().unwrap().starts_with("Landlock: no rule"), "{made:#}");
        assert!(made["pid"].as_u64() > Some(1) && made["argv0"] == "mkdir", "{made:#}");
        let trace = outcome.text("trace.jsonl");
        assert!(trace.contains("fs.make_dir") && trace.contains("\"proctor.path\""), "{trace}");
        let resource = r#"{"key":"proctor.completeness.denied_paths","value":{"stringValue":"advisory"}}"#;
        assert!(trace.contains(resource), "{trace}");
        verifies(&outcome, repo);
        // Nothing refused is nothing told.
        let outcome = run(repo, "true");
        advisory(&outcome, 0);
        assert_eq!(self::refused(&outcome), Vec::<Value>::new());
    });
}

#[test]
fn hostile_names_are_told_as_they_are_and_what_may_be_read_has_its_option() {
    let Some(_on) = AuditOn::new() else { return };
    with_repo(|repo| {
        let outside = tempfile::Builder::new().prefix("proctor-test-").tempdir_in("/opt").unwrap();
        std::fs::set_permissions(outside.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let names: [&[u8]; 4] =
            [b"a b\" path=\"x", b"two\nlines blockers=fs.execute", b"it's", b"not-utf8-\xff"];
        for name in names {
            let path = outside.path().join(std::ffi::OsStr::from_bytes(name));
            std::fs::write(&path, "x").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        }
        let dir = outside.path().to_str().unwrap();
        // By the shell's own patterns nothing is found there: it may not be listed.
        let script = format!(
            "for n in 'a b\" path=\"x' \"two\nlines blockers=fs.execute\" \"it's\" \"$(printf 'not-utf8-\\377')\"; do cat \"{dir}/$n\"; done; exit 3"
        );
        let outcome = run_confined(repo, &script);
        outcome.expect(1, &["backend_failed"]);
        assert_eq!(outcome.report()["sandbox"]["level"], "landlock", "{outcome:#?}");
        let refused = refused(&outcome);
        for name in names {
            let path = outside.path().join(std::ffi::OsStr::from_bytes(name));
            let one = refused.iter().find(|one| one["path"] == path.to_string_lossy().as_ref());
            let one = one.unwrap_or_else(|| panic!("{path:?} in {refused:#?}"));
            assert_eq!((&one["what"], &one["count"]), (&"path".into(), &1.into()), "{one:#}");
            assert_eq!(one["blockers"], serde_json::json!(["fs.read_file"]), "{one:#}");
            assert!(one["program"].as_str().unwrap().ends_with("/cat"), "{one:#}");
            assert_eq!(one["path_b64"].is_string(), path.to_str().is_none(), "{one:#}");
        }
        let report = outcome.report();
        let remedy = report["blockers"][0]["remedy"].as_str().unwrap();
        assert!(remedy.contains(&format!("It tried to read {dir}/")), "{remedy}");
        assert!(remedy.contains(&format!("--ro '{dir}/a b\" path=\"x'")), "{remedy}");
        assert!(remedy.contains(&format!("--ro '{dir}/it'\\''s'")), "{remedy}");
        assert!(remedy.contains("would grant it"), "{remedy}");
        let shown = outcome.stderr.contains('\u{1b}');
        assert!(!shown, "{outcome:#?}");
        verifies(&outcome, repo);
    });
}

#[test]
fn a_flood_is_counted_to_the_last_refusal() {
    let Some(_on) = AuditOn::new() else { return };
    with_repo(|repo| {
        let outcome =
            run(repo, "i=0; while [ $i -lt 5000 ]; do true > /dev/x; i=$((i+1)); done 2>/dev/null; true");
        advisory(&outcome, 5000);
        let told: u64 = refused(&outcome).iter().map(|one| one["count"].as_u64().unwrap()).sum();
        let observed = denied_paths(&outcome);
        assert_eq!(observed["left_out"], 5000 - told, "{observed:#}");
        assert!(told > 0, "{observed:#}");
        let note = observed["note"].as_str().unwrap();
        let said = format!("{} refusals were counted by the kernel and told of by no record", 5000 - told);
        assert_eq!(note.contains(&said), told < 5000, "{note}");
        verifies(&outcome, repo);
    });
}

#[test]
fn sandboxes_that_run_at_once_tell_each_its_own() {
    let Some(_on) = AuditOn::new() else { return };
    let worlds: Vec<World> = (0..2).map(|_| World::new(User::Root)).collect();
    let repos: Vec<TestRepo<'_>> = worlds.iter().map(TestRepo::small).collect();
    let scripts = [
        "for i in 1 2 3; do sleep 0.1; mkdir /dev/x; done; true",
        "for i in 1 2 3 4 5; do sleep 0.06; true > /dev/y; done; true",
    ];
    let children: Vec<Child> = repos
        .iter()
        .zip(scripts)
        .map(|(repo, script)| sh(Proctor::new(binary(), repo.world()), repo, &[], script).spawn())
        .collect();
    for ((child, right), count) in children.into_iter().zip(["fs.make_dir", "fs.make_reg"]).zip([3, 5]) {
        let outcome = Outcome::of(child.wait_with_output().unwrap());
        advisory(&outcome, count);
        let refused = refused(&outcome);
        assert_eq!(refused.len(), 1, "{refused:#?}");
        assert_eq!((&refused[0]["blockers"][0], &refused[0]["count"]), (&right.into(), &count.into()));
    }
}

#[test]
fn where_it_cannot_be_heard_the_report_says_why() {
    let absent = |outcome: &Outcome, why: &str| {
        let observed = denied_paths(outcome);
        assert_eq!(
            (&observed["completeness"], &observed["count"]),
            (&"absent".into(), &0.into()),
            "{outcome:#?}"
        );
        let note = observed["note"].as_str().unwrap();
        assert!(note.starts_with("what Landlock refused is not known: ") && note.contains(why), "{note}");
    };
    let script = "mkdir /dev/x; true";
    let on = AuditOn::new();
    let was_on = on.is_some();
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        if user != User::Root {
            absent(&run(&repo, script), "CAP_AUDIT_READ");
        } else if was_on {
            // Under a filter with a listener of its own, which the product then cannot have: nobody listens at all.
            let wrapper = [PROBE, "without", "landlock-abi=6", "--"];
            let outcome = sh(Proctor::through(&wrapper, binary(), &world), &repo, &[], script).run();
            let observed = denied_paths(&outcome);
            assert_eq!(observed["completeness"], "absent", "{outcome:#?}");
            assert!(observed["note"].as_str().unwrap().contains("not watched"), "{observed:#}");
        }
    }
    drop(on);
    if was_on {
        let _lock = Lock::take();
        let enabled = Command::new(PROBE).arg("audit-state").output().unwrap();
        if String::from_utf8_lossy(&enabled.stdout).trim() != "0" {
            skipped("in part: it is on at this host");
            return;
        }
        with_repo(|repo| absent(&run(repo, script), "audit is off on this host"));
    }
}
