use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::evidence::{EvidenceDir, new_run_id};

fn state() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    (dir, state)
}

fn all_of(state: &Path, kind: Kind, dry_run: bool) -> Cleared {
    let mut cleared = Cleared { dry_run, ..Cleared::default() };
    let place = state.join("layers");
    private_dirs(kind, &place, 0o700, &mut cleared);
    cleared
}

/// What a backend can leave: links out of the place, names that are no text, depth beyond any path, closed directories.
fn hostile(place: &Path, outside: &Path) {
    fs::create_dir_all(place.join("tree/work/work")).unwrap();
    std::os::unix::fs::symlink(outside, place.join("tree/link")).unwrap();
    std::os::unix::fs::symlink("../../../..", place.join("up")).unwrap();
    fs::write(place.join(OsStr::from_bytes(b"tree/no\xfftext\n\x1b[2J")), vec![1; 70_000]).unwrap();
    let mut at = rustix::fs::open(place.join("tree"), OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..4000 {
        rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "deep", OFlags::PATH, Mode::empty()).unwrap();
    }
    for closed in ["tree/work/work", "tree/work"] {
        fs::set_permissions(place.join(closed), fs::Permissions::from_mode(0o000)).unwrap();
    }
}

#[test]
fn hostile_leftovers_go_and_nothing_outside_of_them_does() {
    let (top, state) = state();
    let outside = top.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "x").unwrap();
    let layers = state.join("layers");
    fs::create_dir(&layers).unwrap();
    fs::set_permissions(&layers, fs::Permissions::from_mode(0o700)).unwrap();
    let dead = layers.join(new_run_id().unwrap());
    fs::create_dir_all(dead.join("backend")).unwrap();
    hostile(&dead.join("backend"), &outside);
    // Not named as a run, and a link that is.
    fs::create_dir(layers.join("theirs")).unwrap();
    std::os::unix::fs::symlink(&outside, layers.join("r-link")).unwrap();
    let living = layers.join("r-living");
    fs::create_dir(&living).unwrap();
    let held = fs::File::open(&living).unwrap();
    flock(&held, FlockOperation::LockShared).unwrap();

    let told = all_of(&state, Kind::Layers, true);
    assert!(dead.join("backend/tree/link").is_symlink(), "a dry run removes nothing");
    let cleared = all_of(&state, Kind::Layers, false);
    assert_eq!((&told.removed, told.living), (&cleared.removed, 1));
    assert_eq!((cleared.removed.len(), cleared.living, cleared.left.len()), (1, 1, 0), "{cleared:?}");
    assert!(cleared.removed[0].at_least && cleared.removed[0].bytes >= 70_000, "{cleared:?}");
    assert!(!dead.exists() && living.exists() && layers.join("theirs").exists());
    assert!(layers.join("r-link").is_symlink() && outside.join("kept").exists());
    drop(held);
    assert_eq!(all_of(&state, Kind::Layers, false).removed.len(), 1);
}

#[test]
fn a_place_that_others_can_write_is_left_with_a_reason() {
    let (_top, state) = state();
    let layers = state.join("layers");
    fs::create_dir_all(layers.join("r-1")).unwrap();
    fs::set_permissions(&layers, fs::Permissions::from_mode(0o777)).unwrap();
    let cleared = all_of(&state, Kind::Layers, false);
    assert!(cleared.left[0].why.contains("its owner alone can enter"), "{cleared:?}");
    assert!(layers.join("r-1").exists());
}

#[test]
fn evidence_goes_by_its_age_and_only_where_asked_for() {
    let (_top, state) = state();
    let runs = state.join("runs");
    let name = || runs.join(new_run_id().unwrap());
    let (finished, unfinished, living, other) = (name(), name(), name(), runs.join("by-hand"));
    for dir in [&finished, &unfinished, &other] {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("events.normalized.jsonl"), "x").unwrap();
    }
    fs::write(finished.join("report.json"), "{}").unwrap();
    let held = EvidenceDir::create(&living).unwrap();
    let clear = |options: Options, later: u64| {
        let mut cleared = Cleared { dry_run: options.dry_run, ..Cleared::default() };
        evidence::clear(&runs, &options, SystemTime::now() + Duration::from_secs(later), &mut cleared);
        cleared
    };
    let day = Some(Duration::from_secs(86_400));
    let nothing = clear(Options::default(), 1_000_000);
    assert_eq!((nothing.removed.len(), nothing.kept.len(), nothing.living), (0, 1, 1), "{nothing:?}");
    let both = Options { unfinished_older_than: day, evidence_older_than: day, dry_run: false };
    assert_eq!(clear(both, 80_000).removed, [], "not old enough");
    let dry = Options { dry_run: true, ..both };
    assert_eq!(clear(dry, 90_000).removed.len(), 2);
    assert!(finished.exists() && unfinished.exists());
    let asked = Options { evidence_older_than: None, ..both };
    assert_eq!(clear(asked, 90_000).removed.len(), 1);
    assert!(finished.exists() && !unfinished.exists());
    assert_eq!(clear(both, 90_000).removed[0].kind, Kind::Evidence);
    assert!(!finished.exists() && living.exists() && other.exists());
    drop(held);
    assert_eq!(clear(both, 90_000).removed.len(), 1, "nobody holds it any more");
}

#[test]
fn a_lock_that_is_held_stays_and_one_that_was_removed_is_none() {
    if !rustix::process::geteuid().is_root() {
        // Only root has them.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("uids");
    let held = identity::HostId::take(&place).unwrap();
    let own = place.join(held.identity.host_uid.to_string());
    fs::write(place.join("12345"), "").unwrap();
    fs::write(place.join("no-number"), "").unwrap();
    let mut cleared = Cleared::default();
    locks(&place, &mut cleared);
    assert_eq!((cleared.removed.len(), cleared.living), (1, 1), "{cleared:?}");
    assert!(own.exists() && place.join("no-number").exists() && !place.join("12345").exists());
    let file = fs::File::open(&own).unwrap();
    assert!(identity::stands(&file, &own));
    fs::remove_file(&own).unwrap();
    assert!(!identity::stands(&file, &own));
    fs::write(&own, "").unwrap();
    assert!(!identity::stands(&file, &own));
}
