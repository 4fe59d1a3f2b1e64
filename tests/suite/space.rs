//! Evidence on a file system that is too small: a tmpfs in a mount namespace of its own, which both users can have.

use harness::{Outcome, Proctor, TestRepo, User};
use serde_json::Value;

use crate::binary;

/// Mounts a tmpfs of the given size, runs what follows, and carries out what was left there.
const SCRIPT: &str = r#"
dir=$1 size=$2 kept=$3 uid=$4; shift 4
mount -t tmpfs -o "size=$size,uid=$uid,gid=$uid,mode=0700" none "$dir" || exit 99
"$@"
code=$?
mkdir "$kept" && cp "$dir"/* "$kept"/
exit "$code"
"#;

/// Runs with its evidence on a tmpfs of `size`. Gives the outcome and the report, where there is one.
pub(crate) fn run_on_small_disk(repo: &TestRepo<'_>, size: &str, script: &str) -> (Outcome, Option<Value>) {
    let world = repo.world();
    let (dir, kept) = (world.path("small"), world.path(format!("kept-{size}")));
    std::fs::create_dir_all(&dir).expect("mkdir");
    world.user.own(&dir);
    let (dir_text, kept_text) = (dir.to_string_lossy(), kept.to_string_lossy());
    let start: &[&str] = match world.user {
        User::Root => &["unshare", "-m", "sh", "-c", SCRIPT, "sh", &dir_text, size, &kept_text, "0"],
        // Root of a user namespace to mount; itself again, in another one, to run.
        User::Ordinary => &["unshare", "-Urm", "sh", "-c", SCRIPT, "sh", &dir_text, size, &kept_text, "0"],
    };
    let own = [format!("--map-user={}", world.user.uid()), format!("--map-group={}", world.user.uid())];
    let mut wrapper = start.to_vec();
    if world.user == User::Ordinary {
        wrapper.extend(["unshare", "-U", &own[0], &own[1]]);
    }
    let outcome = Proctor::through(&wrapper, binary(), world)
        .args(["run", "--repo"])
        .arg(repo.path())
        .args(["--no-test", "--evidence"])
        .arg(&dir)
        .args(["--", "sh", "-c", script])
        .run();
    assert_ne!(outcome.code, Some(99), "no tmpfs: {outcome:#?}");
    let report = std::fs::read(kept.join("report.json")).ok();
    (outcome, report.map(|bytes| serde_json::from_slice(&bytes).expect("JSON")))
}
