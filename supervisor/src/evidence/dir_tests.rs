use super::*;
use std::os::unix::fs::PermissionsExt;

fn new() -> (tempfile::TempDir, EvidenceDir) {
    let top = tempfile::tempdir().unwrap();
    let dir = EvidenceDir::create(&top.path().join("runs/r-1")).unwrap();
    (top, dir)
}

#[test]
fn the_directory_is_private_and_so_is_what_is_in_it() {
    let (_top, dir) = new();
    dir.write_whole("patch.diff", b"x").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path()), 0o700);
    assert_eq!(mode(dir.path().parent().unwrap()), 0o700);
    assert_eq!(mode(&dir.path().join("patch.diff")), 0o600);
}

#[test]
fn a_full_or_foreign_place_is_refused_with_a_reason() {
    let top = tempfile::tempdir().unwrap();
    std::fs::write(top.path().join("x"), b"").unwrap();
    let error = EvidenceDir::create(top.path()).unwrap_err().to_string();
    assert!(error.contains("is not empty") && error.contains("--evidence DIR"), "{error}");
    let error = EvidenceDir::create(&top.path().join("x")).unwrap_err().to_string();
    assert!(error.contains("cannot open it as a directory"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let link = top.path().join("link");
    std::os::unix::fs::symlink(empty.path(), &link).unwrap();
    assert!(EvidenceDir::create(&link).is_err(), "a link is not followed");
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    EvidenceDir::create(open.path()).unwrap();
    assert_eq!(std::fs::metadata(open.path()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn digests_are_those_of_the_file() {
    let (_top, dir) = new();
    let mut artifact = dir.create_artifact("test.log").unwrap();
    let mut expected = Vec::new();
    for size in [0, 1, 100, 70_000, 3, 65_536, 65_535, 2] {
        let chunk = vec![u8::try_from(size % 251).unwrap(); size];
        artifact.write_all(&chunk).unwrap();
        expected.extend(chunk);
    }
    let described = artifact.finish().unwrap();
    assert_eq!(std::fs::read(dir.path().join("test.log")).unwrap(), expected);
    assert_eq!(described.digest.sha256, hex::encode(&Sha256::digest(&expected)));
    assert_eq!(described.annotations.size, expected.len() as u64);
    assert_eq!(dir.manifest(), [described]);
}

#[test]
fn names_are_plain_and_taken_once() {
    let (_top, dir) = new();
    for name in ["../x", "report.json", "report.json.sha256", "report.json.partial", ".x", "a/b"] {
        let error = dir.create_artifact(name).unwrap_err();
        assert!(error.to_string().contains("no artifact may have this name"), "{error}");
    }
    dir.write_whole("patch.diff", b"x").unwrap();
    let error = dir.create_artifact("patch.diff").unwrap_err();
    assert_eq!((error.step, error.errno), (Step::Create, Some(17)));
    assert!(error.to_string().starts_with("artifact patch.diff: cannot create: "), "{error}");
    assert!(matches!(dir.facts()["patch.diff"], ArtifactFact::Failed { .. }), "a doubt about it stays");
}

#[test]
fn something_planted_is_neither_followed_nor_written() {
    let (top, dir) = new();
    let target = top.path().join("target");
    std::os::unix::fs::symlink(&target, dir.path().join("patch.diff")).unwrap();
    assert!(dir.create_artifact("patch.diff").is_err());
    assert!(!target.exists());
    std::os::unix::fs::symlink(&target, dir.path().join("report.json")).unwrap();
    let error = dir.publish_report(b"{}", None).unwrap_err();
    assert_eq!(error.step, Step::Rename);
    assert!(!target.exists() && !dir.path().join(REPORT_DIGEST).exists());
}

#[test]
fn an_unfinished_artifact_is_open_and_a_raw_log_is_held_to_its_size() {
    let (_top, dir) = new();
    drop(dir.create_artifact("trace.jsonl").unwrap());
    assert_eq!(dir.facts()["trace.jsonl"], ArtifactFact::Open);
    dir.create_raw("backend.stdout.log").unwrap().write_all(b"hello").unwrap();
    let digest = hex::encode(&Sha256::digest(b"hello"));
    assert!(dir.adopt("backend.nothing.log", &digest, 5).is_err());
    dir.adopt("backend.stdout.log", &digest, 5).unwrap();
    dir.create_raw("backend.stderr.log").unwrap().write_all(b"hello").unwrap();
    let error = dir.adopt("backend.stderr.log", &digest, 4).unwrap_err();
    assert!(error.to_string().contains("its writer counted 4 bytes, the file has 5"), "{error}");
    assert_eq!(dir.manifest().len(), 1);
}

#[test]
fn a_write_error_names_the_artifact_and_the_number() {
    let (_top, dir) = new();
    let file = Arc::new(File::open("/dev/null").unwrap());
    dir.shared
        .entries()
        .insert("x.log".into(), Entry { file: Some(Arc::clone(&file)), state: State::Open, durable: false });
    let mut artifact = Artifact::new("x.log", file, Arc::clone(&dir.shared));
    artifact.write_all(b"x").unwrap();
    let error = artifact.finish().unwrap_err();
    assert_eq!((error.artifact.as_str(), error.step, error.errno), ("x.log", Step::Write, Some(9)));
    assert!(error.to_string().contains("--evidence DIR"), "{error}");
    assert!(matches!(dir.facts()["x.log"], ArtifactFact::Failed { .. }));
}

#[test]
fn the_report_comes_with_its_digest_and_without_leftovers() {
    let (_top, dir) = new();
    dir.write_whole("patch.diff", b"x").unwrap();
    assert!(dir.sync());
    let published = dir.publish_report(b"{}\n", Some(b"{}")).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["patch.diff", "report.intoto.jsonl", "report.json", "report.json.sha256"]);
    let line = std::fs::read_to_string(dir.path().join(REPORT_DIGEST)).unwrap();
    assert_eq!(line, format!("{}  report.json\n", published.sha256));
    assert!(dir.publish_report(b"{ }\n", None).is_err(), "once");
    assert_eq!(std::fs::read_to_string(dir.path().join(REPORT_DIGEST)).unwrap(), line);
    assert!(dir.path().join(REPORT).exists() && !dir.path().join(PARTIAL).exists());
}

#[test]
fn what_is_durable_is_not_synced_again_and_what_cannot_be_is_a_failure() {
    let (_top, dir) = new();
    dir.write_whole("patch.diff", b"x").unwrap();
    let open = dir.create_artifact("trace.jsonl").unwrap();
    // A pipe takes no fsync (EINVAL): put in a file's place, it shows whether the file is synced.
    let (_read, write) = rustix::pipe::pipe().unwrap();
    let pipe = Arc::new(File::from(write));
    let replace = |name: &str| {
        dir.shared.entries().get_mut(name).unwrap().file = Some(Arc::clone(&pipe));
    };
    assert!(dir.sync_content());
    replace("patch.diff");
    assert!(dir.sync_content(), "finished and durable: left alone");
    replace("trace.jsonl");
    assert!(!dir.sync_content(), "an open one is synced each time");
    drop(open);
    let ArtifactFact::Failed { why } = &dir.facts()["trace.jsonl"] else { panic!("{:?}", dir.facts()) };
    assert!(why.contains("make durable") || why.contains("sync"), "{why}");
    assert_eq!(dir.facts()["patch.diff"], ArtifactFact::Written);
}

#[test]
fn a_report_too_large_to_read_again_is_not_written() {
    let (_top, dir) = new();
    let error = dir.publish_report(&vec![b' '; MAX_REPORT + 1], None).unwrap_err();
    assert!(error.to_string().contains("more than the"), "{error}");
    assert!(!dir.path().join(REPORT).exists());
}

#[test]
fn a_directory_that_is_refused_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("theirs"), "").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(EvidenceDir::create(dir.path()).unwrap_err().to_string().contains("is not empty"));
    assert_eq!(std::fs::metadata(dir.path()).unwrap().permissions().mode() & 0o7777, 0o1777);
}

#[test]
fn what_no_longer_stands_at_its_name_is_not_written() {
    let (top, dir) = new();
    for name in ["gone", "other", "linked", "longer", "sound"] {
        dir.write_whole(name, b"x").unwrap();
    }
    assert!(dir.sync());
    let at = |name: &str| dir.path().join(name);
    std::fs::remove_file(at("gone")).unwrap();
    std::fs::rename(at("other"), top.path().join("other")).unwrap();
    std::fs::write(at("other"), b"x").unwrap();
    std::fs::hard_link(at("linked"), top.path().join("linked")).unwrap();
    std::fs::write(at("longer"), b"xx").unwrap();
    assert!(!dir.sync());
    let said = |name: &str| match &dir.facts()[name] {
        ArtifactFact::Failed { why } => why.clone(),
        other => panic!("{name}: {other:?}"),
    };
    for (name, words) in [
        ("gone", "No such file"),
        ("other", "another file stands at its name"),
        ("linked", "it has 2 names"),
        ("longer", "1 bytes were written, the file has 2"),
    ] {
        assert!(said(name).contains(words), "{}", said(name));
    }
    assert_eq!(dir.manifest().into_iter().map(|one| one.name).collect::<Vec<_>>(), ["sound"]);
}

#[test]
fn one_directory_is_one_runs() {
    let (_top, dir) = new();
    let error = EvidenceDir::create(dir.path()).unwrap_err().to_string();
    assert!(error.contains("is in use by another run") && error.contains("--evidence DIR"), "{error}");
    let path = dir.path().to_owned();
    drop(dir);
    EvidenceDir::create(&path).unwrap();
}

#[test]
fn a_directory_that_was_moved_takes_no_report() {
    let (top, dir) = new();
    std::fs::rename(dir.path(), top.path().join("moved")).unwrap();
    let error = dir.publish_report(b"{}", None).unwrap_err().to_string();
    assert!(error.contains("report.json: cannot find its directory again"), "{error}");
    std::fs::create_dir(dir.path()).unwrap();
    let error = dir.publish_report(b"{}", None).unwrap_err().to_string();
    assert!(error.contains("another directory stands at its path"), "{error}");
    assert_eq!(std::fs::read_dir(top.path().join("moved")).unwrap().count(), 0);
}
