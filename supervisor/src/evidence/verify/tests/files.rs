//! Files, digests, manifest, nonce and age, and what the caller is asked.

use super::*;

#[test]
fn sound_evidence_of_a_pass_and_of_a_fail_verifies() {
    let result = Run::new().write(|_| {}).verify();
    assert_eq!(result.problems, []);
    assert!(result.valid);
    assert_eq!(
        (result.status, result.authenticity.as_str(), result.artifacts),
        (Some(Status::Pass), "unsigned", 9)
    );

    let mut run = Run::new();
    run.blockers(
        vec![
            Blocker::new(BlockerCode::BackendFailed, "Exit 3.", json!({"exit_code": 3})),
            Blocker::new(BlockerCode::TestsFailed, "Exit 1.", json!({"exit_code": 1})),
        ],
        ExitCode::Fail,
    );
    run.report.backend_exit_code = Some(3);
    run.events[5] = payload::backend_exited(Some(3), None);
    run.report.tests.status = TestStatus::Failed;
    run.report.tests.exit_code = Some(1);
    run.events[7] = payload::test_completed(Some(1), None);
    let end = testlog::TestEnd { output_bytes: 0, exit_code: Some(1), signal: None, note: None };
    run.test_log =
        [testlog::header(&run.report.run_id, Some("make test")), testlog::trailer(&end, false)].concat();
    let result = run.write(|_| {}).verify();
    assert_eq!(result.problems, []);
    assert_eq!(result.blockers, [BlockerCode::BackendFailed, BlockerCode::TestsFailed]);
}

#[test]
fn every_artifact_whose_byte_changes_is_named() {
    let written = Run::new().write(|_| {});
    let names: Vec<_> = std::fs::read_dir(&written.path)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 11);
    for name in names {
        let before = std::fs::read(written.path.join(&name)).unwrap();
        let mut after = before.clone();
        match after.last_mut() {
            Some(byte) => *byte ^= 1,
            None => after.push(b'x'),
        }
        written.rewrite(&name, &after);
        let problems = written.problems();
        let named = if name == REPORT { "report.json.sha256: does not hold" } else { name.as_str() };
        some(&problems, named);
        written.rewrite(&name, &before);
    }
    assert!(written.verify().valid, "all is as before");
}

#[test]
fn missing_added_linked_and_special_files_are_named() {
    let written = Run::new().write(|_| {});
    let path = |name: &str| written.path.join(name);
    std::fs::write(path("extra.txt"), b"").unwrap();
    one(&written.problems(), "extra.txt: the manifest does not name this file");
    std::fs::remove_file(path("extra.txt")).unwrap();

    let away = written.path.parent().unwrap().join("away");
    std::fs::hard_link(path(STDOUT), &away).unwrap();
    some(&written.problems(), "backend.stdout.log: has 2 names (hard links)");
    std::fs::remove_file(path(STDOUT)).unwrap();
    some(&written.problems(), "backend.stdout.log: is missing");
    std::os::unix::fs::symlink(&away, path(STDOUT)).unwrap();
    some(&written.problems(), "backend.stdout.log: is no regular file");
    std::fs::remove_file(path(STDOUT)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path(STDOUT), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    some(&written.problems(), "backend.stdout.log: is no regular file");
    std::fs::remove_file(path(STDOUT)).unwrap();
    std::fs::rename(away, path(STDOUT)).unwrap();
    assert!(written.verify().valid);

    std::fs::remove_file(path(REPORT_DIGEST)).unwrap();
    one(&written.problems(), "report.json.sha256: is missing");
    std::fs::remove_file(path(REPORT)).unwrap();
    one(&written.problems(), "report.json: is missing");
    one(
        &verify(&path("nowhere"), VerifyOptions::default())
            .problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ".: cannot be opened",
    );
}

#[test]
fn too_large_and_unreadable_reports_are_refused() {
    let written = Run::new().write(|_| {});
    for (bytes, why) in [
        (vec![b'['; 200_000], "is no report"),
        (b"{}".to_vec(), "missing field"),
        (vec![0xff; 10], "is no report"),
        (vec![b' '; MAX_REPORT + 1], "more than the"),
    ] {
        written.rewrite(REPORT, &bytes);
        some(&written.problems(), why);
    }
    let small = VerifyOptions { max_artifact: 10, ..VerifyOptions::default() };
    let result = verify(&Run::new().write(|_| {}).path, small);
    assert!(result.problems.iter().any(|problem| problem.message.contains("more than the 10 that are read")));
}

#[test]
fn artifacts_have_sizes_of_their_own() {
    let written = Run::new().write(|_| {});
    let path = written.path.join(DECISION);
    std::fs::File::options().write(true).open(path).unwrap().set_len((16 << 20) + 1).unwrap();
    one(&written.problems(), "decision.json: has 16777217 bytes, more than the 16777216 that are read");
}

#[test]
fn what_is_read_together_has_a_limit_and_sizes_come_before_digests() {
    let written = Run::new().write(|_| {});
    let few = |max_bytes| {
        let result = verify(&written.path, VerifyOptions { max_bytes, ..VerifyOptions::default() });
        (result.bytes, result.problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let (bytes, problems) = few(u64::MAX);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(few(bytes).1, Vec::<String>::new());
    let (read, problems) = few(bytes - 1);
    some(&problems, &format!("of the {} that are read at most are left (--max-bytes)", bytes - 1));
    assert!(read < bytes);
    // More holes than could be hashed in the time of a test.
    let path = written.path.join(STDOUT);
    std::fs::File::options().write(true).open(path).unwrap().set_len(60 << 30).unwrap();
    one(
        &written.problems(),
        "backend.stdout.log: does not hold: has 64424509440 bytes, the manifest says 33",
    );
}

/// Serde would take a list for a structure, a field twice in a map, and any spacing.
#[test]
fn a_report_in_another_form_is_refused() {
    let written = Run::new().write(|_| {});
    let text = std::fs::read_to_string(written.path.join(REPORT)).unwrap();
    for other in [
        text.replace("\n", " "),
        text.replace("\"sha256\"", "\"sha256\" "),
        text.replace(
            "\"memory\": {",
            "\"memory\": {\"value\":1,\"unit\":\"x\",\"mechanism\":\"x\",\"explicit\":true},\"memory\": {",
        ),
    ] {
        assert_ne!(other, text);
        written.rewrite(REPORT, other.as_bytes());
        written.rewrite(
            REPORT_DIGEST,
            format!("{}  {REPORT}\n", hex::encode(&Sha256::digest(&other))).as_bytes(),
        );
        one(&written.problems(), "report.json: is not in the form in which Proctor writes it");
    }
}

#[test]
fn the_manifest_must_be_whole_and_sound() {
    type Edit = Box<dyn FnOnce(&mut Report)>;
    let cases: Vec<(Edit, &str)> = vec![
        (
            Box::new(|r| r.digest_manifest.retain(|one| one.name != PATCH)),
            "does not name the required artifact patch.diff",
        ),
        (Box::new(|r| r.digest_manifest[0].name = "../../etc/passwd".into()), "which can be no artifact"),
        (Box::new(|r| r.digest_manifest.push(r.digest_manifest[0].clone())), "twice"),
        (Box::new(|r| r.digest_manifest[0].digest.sha256 = "XX".into()), "is no SHA-256"),
        (Box::new(|r| r.digest_manifest[0].annotations.size += 1), "does not hold"),
        (Box::new(|r| drop(r.artifact_paths.remove(PATCH))), "artifact_paths does not say where"),
        (
            Box::new(|r| drop(r.artifact_paths.insert("x".into(), "/etc/passwd".into()))),
            "artifact_paths names \"x\"",
        ),
    ];
    for (edit, why) in cases {
        some(&Run::new().write(edit).problems(), why);
    }
}

#[test]
fn nonce_and_age_are_asked_for() {
    let written = Run::new().write(|_| {});
    let asked = |nonce, max_age, now| {
        let options = VerifyOptions { nonce, max_age, now, ..VerifyOptions::default() };
        verify(&written.path, options).problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(asked(Some("00ff00ff00ff00ff"), hour, now_micros()), Vec::<String>::new());
    one(&asked(Some("00aa"), None, now_micros()), "the nonce is 00ff00ff00ff00ff, not the one asked for");
    one(&asked(None, hour, now_micros() + 3_700_000_000), "longer ago than is allowed");
}

struct Answer(Result<Vec<Applied>, String>);

impl PatchCheck for Answer {
    fn check(
        &self,
        commit: &str,
        tree: &str,
        result: &str,
        patch: &mut dyn Read,
    ) -> Result<Vec<Applied>, String> {
        let mut text = String::new();
        patch.read_to_string(&mut text).unwrap();
        assert_eq!((commit, tree, result), (&*"1".repeat(40), &*"2".repeat(40), &*"3".repeat(40)));
        assert_eq!(text, PATCH_TEXT);
        self.0.clone()
    }
}

#[test]
fn the_repository_is_asked() {
    let written = Run::new().write(|_| {});
    let ask = |patch_check: &dyn PatchCheck| {
        verify(&written.path, VerifyOptions { patch_check: Some(patch_check), ..VerifyOptions::default() })
    };
    let content = |size: u64, digit: &str| Some((size, digit.repeat(64)));
    let part = |old, new| vec![Applied { path: b"src/a.rs".to_vec(), old, new }];
    assert!(ask(&Answer(Ok(part(content(3, "0"), content(4, "0"))))).valid);
    // What the report says of a file is what patch and base make of it.
    for (parts, why) in [
        (part(content(5, "0"), content(4, "0")), "the old content of \"src/a.rs\" is Some((3, "),
        (part(content(3, "0"), content(4, "1")), "the new content of \"src/a.rs\" is Some((4, "),
        (part(content(3, "0"), None), "by patch and base None"),
    ] {
        some(&ask(&Answer(Ok(parts))).problems.iter().map(ToString::to_string).collect::<Vec<_>>(), why);
    }
    let no = ask(&Answer(Err("gives tree 44".to_owned())));
    one(&no.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), "patch.diff: gives tree 44");
}

#[test]
fn what_is_shown_of_hostile_evidence_is_safe() {
    let written = Run::new().write(|report| {
        report.run_id = "\x1b[2J\u{202e}".into();
        report.digest_manifest[0].name = "\x1b]0;x\x07".into();
        report.test_inputs_changed.push(PathText { path: "x".into(), path_b64: None });
    });
    std::fs::write(written.path.join("\u{202e}\x1b[31m"), b"").unwrap();
    let result = written.verify();
    let shown = format!("{:?} {}", result.run_id, serde_json::to_string(&result).unwrap());
    let lines: String = result.problems.iter().map(ToString::to_string).collect();
    assert!(!result.valid && !format!("{shown}{lines}").chars().any(crate::report::escape::is_deceptive));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 48, ..Default::default() })]
    /// Any byte anywhere: it shows.
    #[test]
    fn any_changed_byte_shows(
        file in proptest::prelude::any::<proptest::sample::Index>(),
        at in proptest::prelude::any::<proptest::sample::Index>(),
        bits in 1..=255_u8,
    ) {
        let written = Run::new().write(|_| {});
        let names = Directory::open(&written.path).unwrap().names().unwrap();
        let name = &names[file.index(names.len())];
        let mut bytes = std::fs::read(written.path.join(name)).unwrap();
        if bytes.is_empty() {
            bytes.push(bits);
        } else {
            let place = at.index(bytes.len());
            bytes[place] ^= bits;
        }
        written.rewrite(name, &bytes);
        proptest::prop_assert!(!written.verify().valid, "{name}");
    }
}
