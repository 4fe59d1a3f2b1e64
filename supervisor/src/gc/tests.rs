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
    std::os::unix::fs::symlink(&outside, layers.join("r-20260601T120000-linked")).unwrap();
    let living = layers.join("r-20260601T120000-living");
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
    assert!(layers.join("r-20260601T120000-linked").is_symlink() && outside.join("kept").exists());
    drop(held);
    assert_eq!(all_of(&state, Kind::Layers, false).removed.len(), 1);
}

#[test]
fn a_place_that_others_can_write_is_left_with_a_reason() {
    let (_top, state) = state();
    let layers = state.join("layers");
    fs::create_dir_all(layers.join("r-20260601T120000-abcdef")).unwrap();
    for (mode, why) in [(0o777, "can be written by others"), (0o755, "its owner alone can enter")] {
        fs::set_permissions(&layers, fs::Permissions::from_mode(mode)).unwrap();
        let cleared = all_of(&state, Kind::Layers, false);
        assert_eq!((cleared.removed.len(), cleared.left.len()), (0, 1), "{cleared:?}");
        assert!(cleared.left[0].why.contains(why), "{cleared:?}");
    }
    assert!(layers.join("r-20260601T120000-abcdef").exists());
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
fn a_run_that_begins_while_evidence_is_cleared_up_has_its_directory() {
    let (_top, state) = state();
    let runs = state.join("runs");
    fs::create_dir(&runs).unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    let all = Options { unfinished_older_than: Some(Duration::ZERO), ..Options::default() };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut cleared = Cleared::default();
                    evidence::clear(&runs, &all, SystemTime::now() + Duration::from_secs(10), &mut cleared);
                }
            });
        }
        for _ in 0..300 {
            let path = runs.join(new_run_id().unwrap());
            let dir = EvidenceDir::create(&path).map(|dir| (dir.write_whole("test.log", b"x").is_ok(), dir));
            let there = path.join("test.log").exists();
            let sound = there && dir.as_ref().is_ok_and(|(wrote, _)| *wrote);
            if !sound {
                over.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            assert!(sound, "{dir:?}, there: {there}");
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn scratch_of_a_dead_matrix_goes_and_a_living_ones_and_others_do_not() {
    let top = tempfile::tempdir().unwrap();
    let outside = top.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let make = |name: &str, mode: u32| {
        let dir = top.path().join(name);
        fs::create_dir_all(dir.join("row/state")).unwrap();
        fs::write(dir.join(crate::matrix::scratch::MARK), "").unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        dir
    };
    let (dead, living) = (make("proctor-matrix-dead", 0o700), make("proctor-matrix-living", 0o700));
    let (open, other) = (make("proctor-matrix-open", 0o755), make("proctor-other", 0o700));
    let kept = make("proctor-matrix-kept", 0o700);
    fs::remove_file(kept.join(crate::matrix::scratch::MARK)).unwrap();
    std::os::unix::fs::symlink(&outside, top.path().join("proctor-matrix-link")).unwrap();
    let held = fs::File::open(&living).unwrap();
    flock(&held, FlockOperation::LockShared).unwrap();
    for dry_run in [true, false] {
        let mut cleared = Cleared { dry_run, ..Cleared::default() };
        scratch::clear(top.path(), &mut cleared);
        assert_eq!((cleared.removed.len(), cleared.living, cleared.left.len()), (1, 1, 0), "{cleared:?}");
        assert_eq!((cleared.removed[0].kind, dead.exists()), (Kind::Matrix, dry_run));
    }
    assert!(living.exists() && open.exists() && other.exists() && outside.exists());
    assert!(kept.join("row").exists(), "named so by somebody, and no scratch");
}

#[test]
fn a_place_below_somebody_elses_directory_is_left_with_a_reason() {
    let (top, state) = state();
    let victim = top.path().join("victim");
    let (layers, runs) = (victim.join("layers"), victim.join("runs"));
    let evidence = runs.join(new_run_id().unwrap());
    let layer = layers.join(new_run_id().unwrap());
    for dir in [&evidence, &layer] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::set_permissions(&layers, fs::Permissions::from_mode(0o700)).unwrap();
    // Whoever can write above the places makes them lead to others of the same user's.
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::symlink(&victim, state.join("proctor")).unwrap();
    let mut cleared = Cleared::default();
    let all = Options { unfinished_older_than: Some(Duration::ZERO), ..Options::default() };
    private_dirs(Kind::Layers, &state.join("proctor/layers"), 0o700, &mut cleared);
    let later = SystemTime::now() + Duration::from_secs(10);
    super::evidence::clear(&state.join("proctor/runs"), &all, later, &mut cleared);
    assert_eq!((cleared.removed.len(), cleared.left.len()), (0, 2), "{cleared:?}");
    for left in &cleared.left {
        assert!(
            left.why.contains("can be written by others") && left.why.contains("XDG_STATE_HOME"),
            "{left:?}"
        );
    }
    assert!(evidence.exists() && layer.exists());
}

#[test]
fn a_lock_that_is_held_stays_and_one_that_was_removed_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("uids");
    fs::create_dir(&place).unwrap();
    let own = place.join("54321");
    fs::write(&own, "").unwrap();
    let held = fs::File::open(&own).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    fs::write(place.join("12345"), "").unwrap();
    fs::write(place.join("no-number"), "").unwrap();
    let mut cleared = Cleared::default();
    locks(&place, &mut cleared);
    if !rustix::process::geteuid().is_root() {
        // Only root has them: what an ordinary user finds there is not looked at, and told of.
        assert_eq!((cleared.removed.len(), cleared.left.len()), (0, 1), "{cleared:?}");
        return;
    }
    assert_eq!((cleared.removed.len(), cleared.living), (1, 1), "{cleared:?}");
    assert!(own.exists() && place.join("no-number").exists() && !place.join("12345").exists());
    let file = fs::File::open(&own).unwrap();
    assert!(identity::stands(&file, &own));
    fs::remove_file(&own).unwrap();
    assert!(!identity::stands(&file, &own));
    fs::write(&own, "").unwrap();
    assert!(!identity::stands(&file, &own));
}
