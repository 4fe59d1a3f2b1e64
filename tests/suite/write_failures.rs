//! An artifact that cannot be written is never a pass: every artifact, every call that makes, writes, settles or names
//! one, every cause. Faults are put where they would come from, by strace(1) at the supervisor's own system calls (not at
//! its sandboxes'), by full file systems, and by somebody who changes the directory while the run goes on.
//!
//! The sweep takes its calls from a good run, so that it knows of calls that are added later. By default it takes a
//! sample of them, each with one cause, another each time, and as the ordinary user some of that sample, others each
//! time; `PROCTOR_TEST_FULL=1` takes the whole sample as both, `PROCTOR_TEST_SWEEP=full` fails every call with every cause
//! (an hour).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use harness::{Outcome, Proctor, TestRepo, User, World, users};

use crate::support::{each, fails, full, meanwhile, outside, passes, sh, snapshot, untouched, verifies};
use crate::survivors::{all_dead, marker_of};
use crate::{binary, proctor};

/// Everything that a run with a test and a reviewer leaves, and the report's name while it is made.
const ARTIFACTS: [&str; 12] = [
    "backend.stderr.log",
    "backend.stdout.log",
    "decision.json",
    "events.normalized.jsonl",
    "patch.diff",
    "report.json",
    "report.json.partial",
    "report.json.sha256",
    "report.md.partial",
    "review.log",
    "test.log",
    "trace.jsonl",
];

/// The directory itself, in a sweep.
const DIRECTORY: &str = ".";

/// Calls that make, write, settle and name an artifact.
const CALLS: [&str; 4] = ["openat", "write", "fsync", "renameat2"];
/// Calls that only look at one.
const LOOKS: [&str; 3] = ["newfstatat", "fstat", "statx"];

/// What a call can fail with.
fn causes(call: &str) -> &'static [(&'static str, &'static str)] {
    const SPACE: (&str, &str) = ("ENOSPC", "No space left on device");
    const QUOTA: (&str, &str) = ("EDQUOT", "Disk quota exceeded");
    const DISK: (&str, &str) = ("EIO", "Input/output error");
    const READ_ONLY: (&str, &str) = ("EROFS", "Read-only file system");
    const PERMISSION: (&str, &str) = ("EACCES", "Permission denied");
    const GONE: (&str, &str) = ("ENOENT", "No such file or directory");
    const THERE: (&str, &str) = ("EEXIST", "File exists");
    const TOO_LARGE: (&str, &str) = ("EFBIG", "File too large");
    match call {
        "openat" => &[SPACE, READ_ONLY, PERMISSION, GONE, QUOTA, THERE, DISK],
        "renameat2" => &[READ_ONLY, THERE, DISK, PERMISSION, SPACE, GONE, QUOTA],
        "write" => &[SPACE, TOO_LARGE, DISK, QUOTA],
        "fsync" => &[DISK, SPACE, QUOTA, READ_ONLY],
        _ => &[DISK, GONE, PERMISSION],
    }
}

/// Four writes at least: a raw log is written in pieces of 64 KiB at most.
const BACKEND: &str = "echo mended > src/value.txt; head -c 200000 /dev/zero | tr '\\0' x; echo; echo ho >&2";
const REVIEW: &str = "echo looks good; echo accept $PROCTOR_PATCH_SHA256 >&3";

/// A good run with everything in it, started by `wrapper`.
fn whole(repo: &TestRepo<'_>, wrapper: &[&str], evidence: &Path, marker: &str) -> Proctor {
    let proctor = match wrapper {
        [] => proctor(repo.world()),
        wrapper => Proctor::through(wrapper, binary(), repo.world()),
    };
    with_everything(proctor, repo, evidence, marker)
}

fn with_everything(proctor: Proctor, repo: &TestRepo<'_>, evidence: &Path, marker: &str) -> Proctor {
    let variable = format!("MARKER={marker}");
    proctor
        .args(["run", "--repo"])
        .arg(repo.path())
        .args(["--env", &variable, "--test", "sh check.sh", "--review", REVIEW, "--evidence"])
        .arg(evidence)
        .args(["--", "sh", "-c", BACKEND])
}

/// strace(1) at the supervisor and its threads: it lets go of what they execute. Only calls about `paths` count.
pub(crate) fn strace(log: &Path, paths: &[String], more: &[&str]) -> Vec<String> {
    let mut all: Vec<String> =
        ["strace", "-f", "-b", "execve", "-qq", "-y", "-s", "80", "-o"].map(str::to_owned).into();
    all.push(log.display().to_string());
    for path in paths {
        all.extend(["-P".to_owned(), path.clone()]);
    }
    all.extend(more.iter().map(|one| (*one).to_owned()));
    all
}

/// As [`whole`], under strace.
fn traced(
    repo: &TestRepo<'_>,
    log: &Path,
    paths: &[String],
    more: &[&str],
    evidence: &Path,
    marker: &str,
) -> Outcome {
    let wrapper = strace(log, paths, more);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    whole(repo, &wrapper, evidence, marker).run()
}

/// What strace must look for to find an artifact: its name as it is opened, and as its descriptor is seen.
fn names(evidence: &Path, artifact: &str) -> Vec<String> {
    if artifact == DIRECTORY {
        return vec![evidence.display().to_string()];
    }
    vec![artifact.to_owned(), evidence.join(artifact).display().to_string()]
}

/// One call to fail: of which artifact, which, and which of one thread's calls of the kind.
type Call = (&'static str, &'static str, usize);

/// The calls that a good run makes about each artifact.
fn calls(repo: &TestRepo<'_>) -> BTreeSet<Call> {
    let world = repo.world();
    let (evidence, log) = (world.path("good"), world.path("calls"));
    let paths: Vec<String> =
        ARTIFACTS.iter().chain([&DIRECTORY]).flat_map(|artifact| names(&evidence, artifact)).collect();
    let trace = format!("trace={},{}", CALLS.join(","), LOOKS.join(","));
    passes(&traced(repo, &log, &paths, &["-e", &trace], &evidence, "MARK_GOOD"), repo);
    let text = std::fs::read_to_string(&log).unwrap();
    let mut counted: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let dir = evidence.display().to_string();
    for line in text.lines() {
        let (thread, rest) = line.split_once(char::is_whitespace).expect("a thread");
        let Some((name, arguments)) = rest.trim_start().split_once('(') else { continue };
        let Some(call) = CALLS.iter().chain(&LOOKS).find(|call| **call == name) else { continue };
        for artifact in ARTIFACTS {
            let (opened, seen) = (format!("\"{artifact}\""), format!("<{dir}/{artifact}>"));
            if arguments.contains(&opened) || arguments.contains(&seen) {
                *counted.entry((artifact, call, thread)).or_default() += 1;
            }
        }
        if *call == "fsync" && arguments.contains(&format!("<{dir}>")) {
            *counted.entry((DIRECTORY, call, thread)).or_default() += 1;
        }
    }
    std::fs::remove_dir_all(&evidence).unwrap();
    counted
        .into_iter()
        .flat_map(|((artifact, call, _), count)| (1..=count).map(move |n| (artifact, call, n)))
        .collect()
}

/// A run with faults, `inject` as strace takes them; and whether any was met.
fn faulty(repo: &TestRepo<'_>, paths: &[String], inject: &[&str], evidence: &Path) -> (Outcome, bool) {
    let marker = marker_of(repo, "FAULT");
    let kinds: Vec<&str> = inject.iter().filter_map(|one| one.split(':').next()).collect();
    let trace = format!("trace={}", kinds.join(","));
    let faults: Vec<String> = inject.iter().map(|one| format!("inject={one}")).collect();
    let more: Vec<&str> =
        ["-e", &trace].into_iter().chain(faults.iter().flat_map(|fault| ["-e", fault])).collect();
    let log = repo.world().path("faults");
    let outcome = traced(repo, &log, paths, &more, evidence, &marker);
    all_dead(&marker);
    (outcome, std::fs::read_to_string(log).unwrap().contains("(INJECTED)"))
}

/// What must hold of a run whose evidence could not be written, and of what is left of that.
fn no_pass(outcome: &Outcome, repo: &TestRepo<'_>, evidence: &Path, cause: &[&str], what: &str) {
    assert_eq!(outcome.code, Some(4), "{what}: {outcome:#?}");
    assert!(!outcome.stderr.contains("PASS"), "{what}: {outcome:#?}");
    for words in cause {
        assert!(outcome.stderr.contains(words), "{what}: no {words:?}: {outcome:#?}");
    }
    if let Ok(bytes) = std::fs::read(evidence.join("report.json")) {
        let report: serde_json::Value = serde_json::from_slice(&bytes).expect(what);
        assert_eq!((&report["status"], &report["exit_code"]), (&"fail".into(), &4.into()), "{what}");
        let raised =
            report["blockers"].as_array().unwrap().iter().any(|b| b["code"] == "artifact_write_failed");
        assert!(raised, "{what}: {report:#}");
    }
    if let Ok(text) = std::fs::read_to_string(evidence.join("report.md")) {
        assert!(text.contains("artifact_write_failed"), "{what}: {text}");
    }
    let verified = proctor(repo.world()).arg("verify").arg(evidence).run();
    assert_eq!(verified.code, Some(4), "{what}: {verified:#?}\nof {outcome:#?}");
}

/// Whether a call is in the sample: of each artifact the first of each kind, the last write of a raw log, what settles
/// the directory, and a look or two.
fn sampled((artifact, call, when): Call, last: usize) -> bool {
    match (artifact, call) {
        (DIRECTORY, _) => true,
        ("backend.stdout.log", "write") => when == 1 || when == last.min(4),
        (_, "openat" | "write" | "fsync" | "renameat2") => when == 1,
        ("patch.diff" | "report.json.sha256", "newfstatat") => when == 1,
        _ => false,
    }
}

/// Fails calls, in `workers` repositories at once; `every` so manieth of the sample, from a random one on.
fn sweep(user: User, every: usize, workers: usize) {
    let world = World::new(user);
    let all = calls(&TestRepo::small(&world));
    for artifact in ARTIFACTS.iter().chain([&DIRECTORY]).filter(|name| **name != "report.json") {
        for call in
            ["openat", "write", "fsync"].iter().filter(|call| *artifact != DIRECTORY || **call == "fsync")
        {
            // A patch is handed to the file in one piece, an empty log never.
            assert!(all.contains(&(*artifact, *call, 1)), "no {call} of {artifact}: {all:?}");
        }
    }
    assert!(all.contains(&("report.json", "renameat2", 1)) && all.contains(&(DIRECTORY, "fsync", 2)));
    let last = |one: &Call| all.iter().filter(|other| (other.0, other.1) == (one.0, one.1)).count();
    let every_cause = std::env::var_os("PROCTOR_TEST_SWEEP").is_some_and(|value| value == "full");
    let every = if every_cause { 1 } else { every };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let first = now.subsec_nanos() as usize % every;
    let sample = all.iter().filter(|one| every_cause || sampled(**one, last(one)));
    let picked: Vec<(usize, Call)> =
        sample.copied().enumerate().filter(|(turn, _)| turn % every == first).collect();
    assert!(picked.len() >= workers, "{all:?}");
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let own: Vec<(usize, Call)> = picked.iter().skip(worker).step_by(workers).copied().collect();
            scope.spawn(move || fail(user, &own, every_cause));
        }
    });
}

/// Fails these calls one after the other.
fn fail(user: User, calls: &[(usize, Call)], every_cause: bool) {
    let world = World::new(user);
    let repo = TestRepo::small(&world);
    let before = snapshot(&repo);
    let evidence = world.path("evidence");
    for (turn, (artifact, call, when)) in calls {
        let causes = causes(call);
        for (name, words) in if every_cause { causes } else { &causes[turn % causes.len()..][..1] } {
            let what = format!("{user:?}: {artifact}: {call} number {when} fails with {name}");
            let inject = format!("{call}:error={name}:when={when}");
            let (outcome, met) = faulty(&repo, &names(&evidence, artifact), &[&inject], &evidence);
            // How often a pipe is read differs; and some looks are hints, which change nothing where they fail.
            if !met || LOOKS.contains(call) && outcome.code == Some(0) {
                assert!(met || *call == "write" && *when > 4, "{what}: never came to it: {outcome:#?}");
                passes(&outcome, &repo);
            } else {
                // The report is known by the name that it has in the end, whichever call of its making fails.
                let known = if *artifact == DIRECTORY {
                    "report.json"
                } else {
                    artifact.trim_end_matches(".partial")
                };
                no_pass(&outcome, &repo, &evidence, &[known, words], &what);
            }
            std::fs::remove_dir_all(&evidence).unwrap();
        }
    }
    untouched(&before, &repo);
}

#[test]
fn whatever_call_about_an_artifact_fails_the_run_is_no_pass() {
    let users = users();
    std::thread::scope(|scope| {
        for user in &users {
            // The same code runs as both: the ordinary user's sample is smaller.
            let some = users.len() > 1 && *user == User::Ordinary && !full();
            let (every, workers) = if some { (8, 1) } else { (1, 2) };
            scope.spawn(move || sweep(*user, every, workers));
        }
    });
}

#[test]
fn writes_that_do_less_than_they_say_are_found() {
    each(|repo| {
        let evidence = repo.world().path("evidence");
        // strace answers in the kernel's place: nothing is written.
        for (artifact, answer, words) in [
            ("backend.stdout.log", 5, "a raw log is shorter than what was written"),
            ("trace.jsonl", 7, "the file has"),
            ("report.json.partial", 9, "the file has"),
            ("test.log", 0, "failed to write whole buffer"),
        ] {
            let inject = format!("write:retval={answer}:when=1");
            let (outcome, met) = faulty(repo, &names(&evidence, artifact), &[&inject], &evidence);
            assert!(met, "{outcome:#?}");
            no_pass(&outcome, repo, &evidence, &[artifact, words], artifact);
            std::fs::remove_dir_all(&evidence).unwrap();
        }
    });
}

#[test]
fn what_is_interrupted_is_tried_again_and_an_older_file_system_renames_too() {
    each(|repo| {
        let evidence = repo.world().path("evidence");
        for (artifact, inject) in [
            ("patch.diff", "openat:error=EINTR:when=1"),
            ("backend.stdout.log", "write:error=EINTR:when=2"),
            ("test.log", "fsync:error=EINTR:when=1"),
            (DIRECTORY, "fsync:error=EINTR:when=2"),
            ("report.json", "renameat2:error=EINVAL:when=1"),
        ] {
            let (outcome, met) = faulty(repo, &names(&evidence, artifact), &[inject], &evidence);
            assert!(met, "{inject}: {outcome:#?}");
            passes(&outcome, repo);
            std::fs::remove_dir_all(&evidence).unwrap();
        }
    });
}

#[test]
fn a_report_that_cannot_be_made_durable_is_taken_back_as_far_as_that_goes() {
    each(|repo| {
        let evidence = repo.world().path("evidence");
        let paths = vec![evidence.display().to_string(), evidence.join("report.json").display().to_string()];
        // In place, and then: no fsync and no removal, but its content can go.
        let faults = ["fsync:error=EIO:when=2+", "unlinkat:error=EROFS"];
        let (outcome, met) = faulty(repo, &paths, &faults, &evidence);
        assert!(met);
        assert_eq!(std::fs::read(evidence.join("report.json")).unwrap(), b"");
        let verified = proctor(repo.world()).arg("verify").arg(&evidence).run();
        assert_eq!((outcome.code, verified.code), (Some(4), Some(4)), "{outcome:#?}\n{verified:#?}");
        std::fs::remove_dir_all(&evidence).unwrap();
        // Nothing can be done about it any more but to say so.
        let faults = ["fsync:error=EIO:when=2+", "unlinkat:error=EROFS", "ftruncate:error=EROFS"];
        let (outcome, _) = faulty(repo, &paths, &faults, &evidence);
        assert_eq!(outcome.code, Some(4), "{outcome:#?}");
        for words in
            ["report.json: cannot sync", "counts for nothing but cannot be removed: Read-only file system"]
        {
            assert!(outcome.stderr.contains(words), "{outcome:#?}");
        }
        assert!(!outcome.stderr.contains("PASS"), "{outcome:#?}");
    });
}

#[test]
fn a_directory_that_is_unusable_before_anything_ran_is_an_error_of_usage_or_of_its_file_system() {
    each(|repo| {
        let evidence = repo.world().path("evidence");
        for (inject, code, words) in [
            ("mkdirat:error=ENOSPC", 4, "cannot make it: No space left on device"),
            ("mkdirat:error=EROFS", 4, "cannot make it: Read-only file system"),
            ("mkdirat:error=EDQUOT", 4, "cannot make it: Disk quota exceeded"),
            ("mkdirat:error=EIO", 4, "cannot make it: Input/output error"),
            ("mkdirat:error=EACCES", 2, "cannot make it: Permission denied"),
            ("openat:error=EACCES", 2, ": Permission denied"),
            ("fchmod:error=EROFS", 4, "cannot make it private: Read-only file system"),
            ("fchmod:error=EPERM", 2, "cannot make it private: Operation not permitted"),
            ("flock:error=EAGAIN", 2, "is in use by another run"),
        ] {
            let marker = marker_of(repo, "NOTHING");
            let (outcome, met) = faulty(repo, &[evidence.display().to_string()], &[inject], &evidence);
            assert!(met, "{inject}: {outcome:#?}");
            assert_eq!(outcome.code, Some(code), "{inject}: {outcome:#?}");
            assert!(
                outcome.stderr.contains(words) && outcome.stderr.contains("--evidence DIR"),
                "{outcome:#?}"
            );
            assert!(!outcome.stderr.contains("] backend"), "something ran: {outcome:#?}");
            let left = std::fs::read_dir(&evidence).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{inject}");
            let _ = std::fs::remove_dir(&evidence);
            all_dead(&marker);
        }
    });
}

#[test]
fn a_full_file_system_is_no_pass() {
    // Only root can mount one for others. Elsewhere the ordinary user has /dev/full's error by the sweep alone.
    let root_alone = users().len() > 1;
    for user in users().into_iter().filter(|_| root_alone) {
        // What is left for the report and the rest when the raw log has taken its share.
        for (size, found) in [("64k", "backend.stdout.log"), ("232k", "report.json")] {
            let world = World::new(user);
            let repo = TestRepo::small(&world);
            let place = world.path("small");
            std::fs::create_dir(&place).unwrap();
            let (place, owner) = (place.display().to_string(), user.uid());
            let script = format!("mount -t tmpfs -o size={size},mode=0777,uid={owner} none {place}");
            let marker = marker_of(&repo, "FULL");
            let evidence = PathBuf::from(&place).join("evidence");
            // What is left is looked at in the mount namespace that has it.
            let both = "\"$0\" \"$@\"; echo run: $?; \"$0\" verify \"$LEFT\"; echo verify: $?; \
                grep -c '\"status\": \"pass\"' \"$LEFT/report.json\"";
            let proctor = Proctor::within(&script, Path::new("sh"), &world)
                .env("LEFT", &evidence)
                .args(["-c", both])
                .arg(binary());
            let outcome = with_everything(proctor, &repo, &evidence, &marker).run();
            for words in ["run: 4\n", "verify: 4\n"] {
                assert!(outcome.stdout.contains(words), "{outcome:#?}");
            }
            // Neither counted nor found.
            assert!(!outcome.stdout.lines().any(|line| line == "1"), "{outcome:#?}");
            assert!(outcome.stderr.contains("No space left on device"), "{outcome:#?}");
            assert!(outcome.stderr.contains(found) && !outcome.stderr.contains("PASS"), "{outcome:#?}");
            all_dead(&marker);
        }
    }
}

/// What somebody does to the evidence directory `$1` while the backend runs, what is told of it, and where the directory
/// is then.
const DEEDS: [(&str, &[&str], &str); 14] = [
    ("rm -rf \"$1\"", &["No such file or directory"], ""),
    ("mv \"$1\" \"$1.moved\"", &["report.json: cannot find its directory again"], ".moved"),
    (
        "mv \"$1\" \"$1.moved\"; mkdir \"$1\"",
        &["report.json: cannot find its directory again: another directory stands at its path"],
        ".moved",
    ),
    (
        "mv \"$1\" \"$1.moved\"; ln -s \"$1.moved\" \"$1\"",
        &["report.json: cannot find its directory again"],
        ".moved",
    ),
    ("rm \"$1/backend.stderr.log\"", &["backend.stderr.log", "No such file or directory"], ""),
    (
        "cp \"$1/decision.json\" \"$1/../copy\"; mv \"$1/../copy\" \"$1/decision.json\"",
        &["decision.json", "another file stands at its name"],
        "",
    ),
    (
        "mv \"$1/decision.json\" \"$1/../moved\"; ln -s ../moved \"$1/decision.json\"",
        &["decision.json", "another file stands at its name"],
        "",
    ),
    ("ln \"$1/decision.json\" \"$1/../link\"", &["decision.json", "it has 2 names"], ""),
    ("echo more >> \"$1/decision.json\"", &["decision.json", "the file has"], ""),
    ("echo more >> \"$1/backend.stdout.log\"", &["backend.stdout.log", "the file has"], ""),
    (": > \"$1/events.normalized.jsonl\"; mkdir \"$1/trace.jsonl\"", &["trace.jsonl", "File exists"], ""),
    ("echo '{}' > \"$1/report.json.partial\"", &["report.json.partial", "File exists"], ""),
    ("echo '{\"status\":\"pass\"}' > \"$1/report.json\"", &["report.json", "File exists"], ""),
    ("ln -s /etc/passwd \"$1/report.md\"", &["report.md", "File exists"], ""),
];

fn only_run(repo: &TestRepo<'_>) -> PathBuf {
    let runs = std::fs::read_dir(repo.world().path("state/proctor/runs")).unwrap();
    let mut runs: Vec<PathBuf> = runs.map(|entry| entry.unwrap().path()).collect();
    runs.retain(|path| path.is_dir() && !path.is_symlink());
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

#[test]
fn whoever_changes_the_directory_meanwhile_makes_the_run_no_pass() {
    each(|repo| {
        let before = snapshot(repo);
        let runs = repo.world().path("state/proctor/runs");
        for (deed, told, moved) in DEEDS {
            let marker = marker_of(repo, "DEED");
            let variable = format!("MARKER={marker}");
            let options = ["--no-test", "--env", &variable];
            let script = "echo mended > src/value.txt; echo ready; sleep 0.3";
            let mut place = PathBuf::new();
            let outcome = meanwhile(sh(repo, &options, script), || {
                place = only_run(repo);
                outside(repo, &format!("set -- '{}'; {deed}", place.display()));
            });
            let mut now = place.clone().into_os_string();
            now.push(moved);
            no_pass(&outcome, repo, Path::new(&now), told, deed);
            all_dead(&marker);
            std::fs::remove_dir_all(&runs).unwrap();
        }
        untouched(&before, repo);
    });
}

#[test]
fn permissions_that_go_meanwhile_make_the_run_no_pass() {
    // Root has them whatever the mode says.
    for user in users().into_iter().filter(|user| *user == User::Ordinary) {
        for mode in ["000", "500", "600"] {
            let world = World::new(user);
            let repo = TestRepo::small(&world);
            let script = "echo mended > src/value.txt; echo ready; sleep 0.3";
            let mut place = PathBuf::new();
            let outcome = meanwhile(sh(&repo, &["--test", "sh check.sh"], script), || {
                place = only_run(&repo);
                outside(&repo, &format!("chmod {mode} '{}'", place.display()));
            });
            no_pass(&outcome, &repo, &place, &["Permission denied", "trace.jsonl"], mode);
            outside(&repo, &format!("chmod 700 '{}'", place.display()));
            no_pass(&outcome, &repo, &place, &[], mode);
        }
    }
}

#[test]
fn a_log_that_cannot_be_made_is_no_fault_of_the_sandbox() {
    each(|repo| {
        let evidence = repo.world().path("evidence");
        let paths = names(&evidence, "backend.stderr.log");
        let (outcome, met) = faulty(repo, &paths, &["openat:error=ENOSPC:when=1"], &evidence);
        assert!(met);
        outcome.expect(4, &["artifact_write_failed"]);
        assert!(
            outcome.stderr.contains("backend.stderr.log  create: No space left on device"),
            "{outcome:#?}"
        );
    });
}

/// Lines of a trace, and for each the call and what follows it.
fn lines(log: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(log).unwrap();
    let split = |line: &str| {
        let rest = line.split_once(char::is_whitespace)?.1.trim_start();
        let (call, arguments) = rest.split_once('(')?;
        Some((call.to_owned(), arguments.to_owned()))
    };
    text.lines().filter_map(split).collect()
}

#[test]
fn everything_is_durable_before_a_verdict_is_printed() {
    for (test, code, word) in [("sh check.sh", 0, "PASS  r-"), ("false", 1, "FAIL  r-")] {
        each(|repo| {
            let (evidence, log) = (repo.world().path("evidence"), repo.world().path("order"));
            let dir = evidence.display().to_string();
            let wrapper = strace(&log, &[], &["-e", "trace=write,writev,fsync,renameat2,openat"]);
            let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
            let outcome = Proctor::through(&wrapper, binary(), repo.world())
                .args(["run", "--repo"])
                .arg(repo.path())
                .args(["--test", test, "--evidence", &dir, "--", "sh", "-c", BACKEND])
                .run();
            assert_eq!(outcome.code, Some(code), "{outcome:#?}");
            verifies(&outcome, repo);
            let lines = lines(&log);
            let last = |wanted: &dyn Fn(&str, &str) -> bool| {
                lines
                    .iter()
                    .rposition(|(call, rest)| wanted(call, rest))
                    .unwrap_or_else(|| panic!("{lines:#?}"))
            };
            let renamed = last(&|call, rest| call == "renameat2" && rest.contains("\"report.json\""));
            let settled = last(&|call, rest| call == "fsync" && rest.contains(&format!("<{dir}>")));
            assert!(settled > renamed, "{lines:#?}");
            let before =
                |at: usize, limit: usize, what: &str| assert!(at < limit, "{what}: {at} {limit}: {lines:#?}");
            let names_durable = lines
                .iter()
                .position(|(call, rest)| call == "fsync" && rest.contains(&format!("<{dir}>")))
                .unwrap();
            before(names_durable, renamed, "the names of all before the report's");
            for artifact in ARTIFACTS.iter().filter(|name| !["report.json", "review.log"].contains(name)) {
                let of = |rest: &str| rest.contains(&format!("/{artifact}>"));
                let synced = last(&|call, rest| call == "fsync" && of(rest));
                before(synced, names_durable, artifact);
                let written = lines.iter().rposition(|(call, rest)| call == "write" && of(rest));
                before(written.expect("a write"), synced, artifact);
            }
            // The directory's own name, and whatever Proctor says on its standard streams of how it went.
            let above = repo.world().path("").display().to_string();
            let above = format!("<{}>", above.trim_end_matches('/'));
            assert!(lines.iter().any(|(call, rest)| call == "fsync" && rest.contains(&above)), "{lines:#?}");
            let said = |words: &str| {
                let streams = |rest: &str| rest.starts_with("1<") || rest.starts_with("2<");
                let at = |(call, rest): &(String, String)| {
                    call.starts_with("write") && streams(rest) && rest.contains(words)
                };
                lines.iter().position(at)
            };
            assert!(said(word).unwrap_or_else(|| panic!("{word}: {lines:#?}")) > settled);
            assert!(said(&dir).unwrap_or_else(|| panic!("{lines:#?}")) > settled);
            for words in ["blocker", "tests_failed", "PASS", "FAIL", "verdict"] {
                assert!(said(words).is_none_or(|at| at > settled), "{words}: {lines:#?}");
            }
        });
    }
}

#[test]
fn a_raw_log_that_may_not_grow_is_no_pass() {
    each(|repo| {
        let marker = marker_of(repo, "LIMIT");
        let evidence = repo.world().path("evidence");
        let outcome = whole(repo, &["prlimit", "--fsize=100000", "--"], &evidence, &marker).run();
        fails(&outcome, repo, 4, &["artifact_write_failed"], &[]);
        no_pass(&outcome, repo, &evidence, &["backend.stdout.log", "File too large"], "RLIMIT_FSIZE");
        all_dead(&marker);
    });
}
