//! Proctor killed by SIGKILL at random instants of every phase: what is left is as docs/contracts.md promises. The
//! instants are system calls of the supervisor, taken from a good run and hit exactly by strace(1), so that moments which
//! last microseconds (between two writes, before and after the rename) are hit as well as those that last seconds.
//!
//! `PROCTOR_TEST_SEED` gives the seed of a run that failed; it is printed then. Where the suite has two users they share
//! the kills, for the same code runs as both; `PROCTOR_TEST_FULL=1` has all for each.

use std::path::{Path, PathBuf};

use harness::{Outcome, Proctor, TestRepo, User, World, users};

use crate::support::{full, passes, sh, snapshot, untouched};
use crate::survivors::{all_dead, cgroups};
use crate::{binary, proctor};

/// Kills for a user who has all of them.
const KILLS: usize = 50;
/// Kills for root and for the ordinary user who share them: every phase is hit, of either.
const SHARED: [usize; 2] = [32, 18];

/// Phases as Proctor tells of them; setup is what comes before the first, the rename is a part of the writing.
const PHASES: [&str; 9] =
    ["setup", "survey", "backend", "changes", "test", "review", "approval", "evidence", "rename"];

/// A small generator (xorshift64*): the same instants for the same seed.
struct Random(u64);

impl Random {
    fn new() -> (Self, u64) {
        let given = std::env::var("PROCTOR_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            now.as_nanos() as u64 | 1
        });
        (Self(seed), seed)
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % most.max(1)
    }
}

/// An instant: before the `when`th call of this name.
#[derive(Debug, Clone)]
struct Instant {
    phase: &'static str,
    call: String,
    when: usize,
}

const OPTIONS: [&str; 10] = [
    "--test",
    "sh check.sh; sleep 0.02",
    "--review",
    "echo accept $PROCTOR_PATCH_SHA256 >&3",
    "--ask-change",
    "src/**",
    "--approval-timeout",
    "30s",
    "--layer",
    "auto",
];

/// Everything that a run can have: a test, a review, an approval that somebody gives, daemons.
fn run(repo: &TestRepo<'_>, strace: &[&str], marker: &str, layer: &str) -> Proctor {
    let variable = format!("MARKER={marker}");
    let mut options: Vec<&str> = OPTIONS.to_vec();
    options[9] = layer;
    let wrapper = [&["strace", "-qq", "-o"], strace].concat();
    Proctor::through(&wrapper, binary(), repo.world())
        .args(["run", "--repo"])
        .arg(repo.path())
        .args(options)
        .args(["--env", &variable, "--test-env", &variable, "--review-env", &variable, "--approvals"])
        .arg(repo.world().path("answers"))
        .args([
            "--",
            "sh",
            "-c",
            "(setsid sleep 600 &) ; echo mended > src/value.txt; echo ready; sleep 0.02",
        ])
}

/// Runs to the end, granting what is asked.
fn granted(repo: &TestRepo<'_>, proctor: Proctor) -> Outcome {
    let answers = repo.world().path("answers");
    std::fs::write(&answers, "").unwrap();
    repo.world().user.own(&answers);
    let runs = repo.world().path("state/proctor/runs");
    let known: Vec<_> = std::fs::read_dir(&runs).into_iter().flatten().flatten().map(|e| e.path()).collect();
    let mut child = proctor.spawn();
    // The patch stands only in memory until the end; its digest is known all the same.
    let mut answered = false;
    while child.try_wait().unwrap().is_none() {
        let now = std::fs::read_dir(&runs).into_iter().flatten().flatten().map(|e| e.path());
        for dir in now.filter(|dir| !known.contains(dir)).take(usize::from(!answered)) {
            let run_id = dir.file_name().unwrap().to_string_lossy().into_owned();
            let sha256 = sha256_of_the_patch();
            let line = serde_json::json!({ "run_id": run_id, "request_id": "changes", "subject_sha256": sha256,
                "decision": "grant", "by": "test" });
            std::fs::write(&answers, format!("{line}\n")).unwrap();
            answered = true;
        }
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    Outcome::of(child.wait_with_output().unwrap())
}

/// The change is the same each time, and so is the patch.
fn sha256_of_the_patch() -> String {
    use sha2::Digest as _;
    let blob = |text: &str| {
        let output = std::process::Command::new("git")
            .args(["hash-object", "--stdin"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                use std::io::Write as _;
                child.stdin.take().expect("a pipe").write_all(text.as_bytes())?;
                child.wait_with_output()
            });
        String::from_utf8(output.expect("git").stdout).unwrap().trim().to_owned()
    };
    let (old, new) = (blob("broken\n"), blob("mended\n"));
    let patch = format!(
        "diff --git a/src/value.txt b/src/value.txt\nindex {old}..{new} 100644\n--- a/src/value.txt\n+++ b/src/value.txt\n@@ -1 +1 @@\n-broken\n+mended\n"
    );
    sha2::Sha256::digest(patch.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every instant of a good run, by phase.
fn instants(repo: &TestRepo<'_>) -> Vec<Instant> {
    let log = repo.world().path("good");
    let outcome = granted(repo, run(repo, &[&log.display().to_string()], "MARK_GOOD", "auto"));
    passes(&outcome, repo);
    let mut counted = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    let mut phase = "setup";
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        let Some((call, rest)) = line.split_once('(') else { continue };
        if !call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let when = counted.entry(call.to_owned()).or_insert(0usize);
        *when += 1;
        if let Some(next) =
            PHASES.iter().find(|name| call == "write" && rest.contains(&format!("s] {name}\"")))
        {
            phase = next;
        }
        let name = match call {
            "renameat2" => "rename",
            // What strace needs to start it.
            "execve" | "brk" | "arch_prctl" | "rseq" | "set_robust_list" => continue,
            _ => phase,
        };
        found.push(Instant { phase: name, call: call.to_owned(), when: *when });
        if phase == "evidence" && call == "renameat2" {
            // What comes behind it belongs to it: the directory's last fsync, the printing, the clearing up.
            phase = "rename";
        }
    }
    found
}

/// What must hold after a kill; `between` is one between the renames of the report and of what is rendered from it: the
/// one instant that leaves a report which does not verify.
fn as_promised(repo: &TestRepo<'_>, outcome: &Outcome, known: &[PathBuf], between: bool, what: &str) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = repo.world().path("").display().to_string();
    assert!(!mounts.contains(own.trim_end_matches('/')), "{what}: mounted: {mounts}");
    let runs = repo.world().path("state/proctor/runs");
    for dir in std::fs::read_dir(&runs).into_iter().flatten().flatten().map(|e| e.path()) {
        if known.contains(&dir) {
            continue;
        }
        let run_id = dir.file_name().unwrap().to_string_lossy().into_owned();
        for cgroup in cgroups().iter().filter(|path| path.contains(&run_id)) {
            emptied(Path::new(cgroup), what);
        }
        let verified = proctor(repo.world()).arg("verify").arg(&dir).arg("--repo").arg(repo.path()).run();
        match std::fs::read(dir.join("report.json")) {
            // Killed when it stood: then it is whole.
            Ok(bytes) => {
                let report: serde_json::Value = serde_json::from_slice(&bytes).expect(what);
                assert_eq!(report["status"], "pass", "{what}: {report:#}");
                if between && outcome.code.is_none() {
                    assert!(
                        dir.join("report.md.partial").exists() && !dir.join("report.md").exists(),
                        "{what}"
                    );
                    assert_eq!(verified.code, Some(4), "{what}: {verified:#?}");
                    assert!(verified.stderr.contains("report.md"), "{what}: {verified:#?}");
                } else {
                    assert_eq!(verified.code, Some(0), "{what}: {verified:#?}");
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{what}");
                assert_eq!(verified.code, Some(4), "{what}: {verified:#?}");
                assert!(!outcome.stderr.contains("PASS"), "{what}: {outcome:#?}");
                // Nothing that people would take for a verdict.
                for rendering in ["report.md", "report.html"] {
                    assert!(!dir.join(rendering).exists(), "{what}: {rendering} without a report");
                }
            }
        }
    }
}

/// The kernel lets go of the dead a moment later.
fn emptied(cgroup: &Path, what: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while std::fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|procs| !procs.is_empty()) {
        assert!(std::time::Instant::now() < deadline, "{what}: processes in {}", cgroup.display());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn killed(user: User, kills: usize) {
    let world = World::new(user);
    let repo = TestRepo::small(&world);
    let before = snapshot(&repo);
    let all = instants(&repo);
    for phase in PHASES {
        assert!(all.iter().any(|instant| instant.phase == phase), "no instant in {phase}: {all:#?}");
    }
    let renames: Vec<&Instant> = all.iter().filter(|instant| instant.call == "renameat2").collect();
    assert_eq!(renames.len(), 2, "{renames:?}");
    let (mut random, seed) = Random::new();
    let runs = world.path("state/proctor/runs");
    let mut hit = 0;
    for number in 0..kills {
        // Before each of the renames first, then every phase in turn.
        let of: Vec<&Instant> = all.iter().filter(|i| i.phase == PHASES[number % PHASES.len()]).collect();
        let instant = renames.get(number).copied().unwrap_or_else(|| of[random.below(of.len())]);
        let Instant { phase, call, when } = instant;
        // The first call puts the report in place, the last one `report.md`.
        let between = call == "renameat2" && *when > renames[0].when;
        let layer = ["auto", "disk"][number % 2];
        let what =
            format!("PROCTOR_TEST_SEED={seed}: {user:?}, kill {number}: {phase}: {call} number {when}");
        let marker = format!("MARK_KILLED_{user:?}_{}_{number}", std::process::id());
        let known: Vec<_> =
            std::fs::read_dir(&runs).into_iter().flatten().flatten().map(|e| e.path()).collect();
        let log = world.path("killed").display().to_string();
        let inject = format!("inject={call}:signal=SIGKILL:when={when}");
        let strace = [&log, "-e", &format!("trace={call}"), "-e", &inject];
        let outcome = granted(&repo, run(&repo, &strace, &marker, layer));
        all_dead(&marker);
        // A call that does not come as often each time: then it went through.
        assert!(matches!(outcome.code, None | Some(0)), "{what}: {outcome:#?}");
        hit += usize::from(outcome.code.is_none());
        as_promised(&repo, &outcome, &known, between, &what);
        untouched(&before, &repo);
        if number % 6 == 5 {
            passes(&sh(&repo, &["--test", "sh check.sh"], "echo mended > src/value.txt").run(), &repo);
        }
    }
    assert!(hit * 4 >= kills * 3, "PROCTOR_TEST_SEED={seed}: only {hit} of {kills} were killed");
    passes(&sh(&repo, &["--test", "sh check.sh"], "echo mended > src/value.txt").run(), &repo);
    crate::gc::nothing_left_of(&repo);
}

#[test]
fn fifty_kills_spread_over_every_phase_leave_what_is_promised() {
    let users = users();
    std::thread::scope(|scope| {
        for user in &users {
            let kills = match user {
                _ if users.len() == 1 || full() => KILLS,
                User::Root => SHARED[0],
                User::Ordinary => SHARED[1],
            };
            scope.spawn(move || killed(*user, kills));
        }
    });
}
