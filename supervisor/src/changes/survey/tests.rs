use super::*;
use crate::changes::testing::{Fixture, git_in, globs};

fn look(f: &Fixture) -> Survey {
    survey(&f.repo(), &globs(&[".env*", "secrets/"])).unwrap()
}

fn dirty(s: &Survey) -> Vec<String> {
    s.dirty.iter().map(|d| format!("{}: {}", show(&d.path), d.reason.as_str())).collect()
}

fn base() -> Fixture {
    let f = Fixture::new();
    for name in ["a", "a.b", "a0", "d/x", "d/e/y", "d.txt", "d0/z", "z"] {
        f.write(name, name);
    }
    f.write(".gitignore", "ignored/\n*.o\n");
    f.write("d/.gitignore", "!keep.o\nlocal\n");
    std::os::unix::fs::symlink("a", f.root().join("link")).unwrap();
    f.commit();
    f
}

#[test]
fn a_fresh_checkout_is_clean() {
    let f = base();
    f.write("ignored/deep/file", "x");
    f.write("d/local", "x");
    f.write("x.o", "x");
    let s = look(&f);
    assert!(s.is_clean(), "{:?}", dirty(&s));
    // And with stat data that spares reading.
    std::thread::sleep(std::time::Duration::from_millis(20));
    f.git(&["update-index", "--refresh"]);
    assert!(s.same_as(&look(&f)));
}

#[test]
fn every_kind_of_dirt_is_named() {
    let f = base();
    f.write("a", "b");
    std::fs::remove_file(f.root().join("a.b")).unwrap();
    std::fs::remove_dir_all(f.root().join("d0")).unwrap();
    f.write("d0", "a file now");
    std::fs::remove_file(f.root().join("z")).unwrap();
    f.write("z/inner", "a directory now");
    std::fs::set_permissions(f.root().join("d.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    std::fs::remove_file(f.root().join("link")).unwrap();
    f.write("link", "a");
    f.write("d/e/new", "untracked");
    f.write("d/keep.o", "not ignored here");
    f.write("staged", "x");
    f.git(&["add", "staged"]);
    f.write("intent", "x");
    f.git(&["add", "-N", "intent"]);
    f.git(&["update-index", "--assume-unchanged", "a0"]);
    f.git(&["update-index", "--skip-worktree", "d/x"]);
    assert_eq!(
        dirty(&look(&f)),
        [
            "a: modified",
            "a.b: deleted",
            "a0: marked assume-unchanged",
            "d.txt: mode changed",
            "d/e/new: untracked",
            "d/keep.o: untracked",
            "d/x: marked skip-worktree outside a sparse checkout",
            "d0: untracked",
            "d0/z: deleted",
            "intent: modified",
            "intent: intent to add",
            "link: type changed",
            "staged: staged",
            "z: deleted",
            "z/inner: untracked",
        ]
    );
}

#[test]
fn an_edit_within_the_same_instant_is_seen() {
    for _ in 0..20 {
        let f = Fixture::new();
        f.write("racy", "one");
        f.commit();
        f.write("racy", "two");
        assert_eq!(dirty(&look(&f)), ["racy: modified"]);
    }
}

#[test]
fn only_the_base_commits_ignore_files_count() {
    let f = base();
    f.write("d/e/.gitignore", "*\n");
    f.write("d/e/hidden-by-itself", "x");
    std::fs::write(f.root().join(".git/info/exclude"), "excluded\n").unwrap();
    f.write("excluded", "x");
    assert_eq!(
        dirty(&look(&f)),
        ["d/e/.gitignore: untracked", "d/e/hidden-by-itself: untracked", "excluded: untracked"]
    );
}

#[test]
fn conflicts_are_unmerged() {
    let f = base();
    f.git(&["checkout", "-q", "-b", "other"]);
    f.write("a", "other");
    f.commit();
    f.git(&["checkout", "-q", "main"]);
    f.write("a", "main");
    f.commit();
    let out = std::process::Command::new("git")
        .current_dir(f.root())
        .args(["-c", "user.name=x", "-c", "user.email=x@x", "merge", "-q", "other"])
        .output()
        .unwrap();
    assert!(!out.status.success());
    assert_eq!(dirty(&look(&f)), ["a: unmerged"]);
}

#[test]
fn hidden_paths_are_found_wherever_they_are() {
    let f = base();
    f.write(".env", "tracked");
    f.commit();
    f.write("ignored/pkg/.env.local", "x");
    f.write("ignored/secrets/.env", "within");
    let s = look(&f);
    let hidden: Vec<_> = s.hidden.iter().map(|h| (show(&h.path), h.is_dir, h.tracked)).collect();
    assert_eq!(
        hidden,
        [
            (".env".to_owned(), false, true),
            ("ignored/pkg/.env.local".to_owned(), false, false),
            ("ignored/secrets".to_owned(), true, false)
        ]
    );
    assert!(s.is_clean(), "{:?}", dirty(&s));
}

#[test]
fn line_ends_and_filters_are_compared_as_git_stores_them() {
    let f = Fixture::new();
    f.write(".gitattributes", "*.txt text eol=crlf\n*.enc filter=crypt\n*.big filter=lfs -text\n");
    f.write("a.txt", "x\r\ny\r\n");
    f.write("b.enc", "same");
    f.write("c.big", crate::changes::convert::lfs_pointer(b"content"));
    f.commit();
    f.write("c.big", "content");
    f.write("a.txt", "x\ny\n");
    assert!(look(&f).is_clean(), "{:?}", dirty(&look(&f)));
    f.write("c.big", "other content");
    assert_eq!(dirty(&look(&f)), ["c.big: modified"]);
    f.write("b.enc", "else");
    let error = survey(&f.repo(), &globs(&[])).unwrap_err();
    assert!(matches!(error, SurveyError::Refused { .. }));
    assert!(error.to_string().starts_with("b.enc: its `filter=crypt` attribute names a program"), "{error}");
}

#[test]
fn what_moved_since_is_listed() {
    let f = base();
    let before = look(&f);
    f.git(&["tag", "v1"]);
    f.write("a", "other");
    f.git(&["add", "a"]);
    f.write("new", "x");
    let after = look(&f);
    assert!(!after.same_as(&before));
    assert_eq!(
        after.differences(&before),
        ["the reference refs/tags/v1 is new", "the index's content changed", "a: staged", "new: untracked"]
    );
    f.git(&["commit", "-q", "-m", "x"]);
    f.git(&["checkout", "-q", "--detach"]);
    let later = look(&f).differences(&after);
    assert!(later[0].starts_with("HEAD was `ref: refs/heads/main` and is `"), "{later:?}");
    assert_eq!(later[1], "the reference refs/heads/main moved");
    f.git(&["pack-refs", "--all"]);
    let packed = look(&f);
    assert!(packed.differences(&look(&f)).is_empty());
}

#[test]
fn a_sparse_checkout_is_clean() {
    let f = base();
    f.git(&["sparse-checkout", "set", "--no-cone", "/a", "/.gitignore"]);
    assert!(!f.root().join("d/x").exists());
    assert!(look(&f).is_clean(), "{:?}", dirty(&look(&f)));
    f.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "d/e"]);
    let error = survey(&f.repo(), &globs(&[])).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "a sparse index is not supported; run `git sparse-checkout reapply --no-sparse-index` first"
        ),
        "{error}"
    );
}

#[test]
fn a_split_index_is_refused() {
    let f = base();
    f.git(&["update-index", "--split-index"]);
    let error = survey(&f.repo(), &globs(&[])).unwrap_err().to_string();
    assert!(
        error.ends_with("a split index is not supported; run `git update-index --no-split-index` first"),
        "{error}"
    );
}

#[test]
fn submodules_and_nested_repositories() {
    let f = base();
    let other = Fixture::new();
    other.write("s", "1");
    other.commit();
    f.git(&["submodule", "add", "-q", other.root().to_str().unwrap(), "sub"]);
    f.commit();
    let s = look(&f);
    assert!(s.is_clean(), "{:?}", dirty(&s));
    assert_eq!(s.submodules, [b"sub".to_vec()]);
    std::fs::write(f.root().join("sub/s"), "2").unwrap();
    std::fs::write(f.root().join("sub/.env"), "hidden").unwrap();
    let s = look(&f);
    assert_eq!(dirty(&s), ["sub/.env: untracked", "sub/s: modified"]);
    assert_eq!(s.hidden[0].path, b"sub/.env");
    git_in(&f.root().join("sub"), &["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qam", "x"]);
    assert_eq!(dirty(&look(&f)), ["sub: a submodule at another commit", "sub/.env: untracked"]);
    f.git(&["submodule", "deinit", "-f", "-q", "sub"]);
    assert!(look(&f).is_clean());
    f.git(&["init", "-q", "inner"]);
    assert_eq!(dirty(&look(&f)), ["inner: a repository of its own, not a submodule"]);
    let wt = f.path("wt");
    f.git(&["worktree", "add", "-q", wt.to_str().unwrap()]);
    let linked = Repo::open(&wt).unwrap();
    assert!(survey(&linked, &globs(&[])).unwrap().is_clean());
    assert_eq!(linked.common_dir(), std::fs::canonicalize(f.root().join(".git")).unwrap());
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 48, ..Default::default() })]

    /// The same paths are dirty as git's own status says, whatever the names.
    #[test]
    fn git_status_agrees((before, after) in crate::changes::patch::tests::edits()) {
        let f = Fixture::new();
        for (path, node) in &before {
            crate::changes::patch::tests::place(&f.root(), path, node);
        }
        f.write(".gitignore", "a.b\nd/\n!/d\nab\n*\\ \nb/*\n!b/a\n");
        f.commit();
        for path in before.keys().filter(|p| after.get(*p) != before.get(*p)) {
            let full = f.root().join(crate::changes::repo::bytes_path(path));
            std::fs::remove_file(&full).unwrap();
            for dir in full.ancestors().skip(1).take_while(|d| *d != f.root()) {
                let _ = std::fs::remove_dir(dir);
            }
        }
        for (path, node) in after.iter().filter(|(p, n)| before.get(*p) != Some(*n)) {
            crate::changes::patch::tests::place(&f.root(), path, node);
        }
        let out = std::process::Command::new("git")
            .current_dir(f.root())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(["status", "--porcelain", "-uall", "--no-renames", "-z"])
            .output()
            .unwrap();
        let mut want: Vec<Vec<u8>> = out.stdout.split(|b| *b == 0).filter(|l| l.len() > 3).map(|l| l[3..].to_vec()).collect();
        want.sort();
        let mut got: Vec<Vec<u8>> = survey(&f.repo(), &globs(&[])).unwrap().dirty.into_iter().map(|d| d.path).collect();
        got.sort();
        got.dedup();
        proptest::prop_assert_eq!(got, want);
    }
}

/// The index's cache tree says that the index is HEAD's tree, and the index is another one.
#[test]
fn a_cache_tree_is_not_believed() {
    let f = base();
    f.git(&["write-tree"]);
    let was = f.git(&["rev-parse", "HEAD:a"]);
    f.write("a", "x");
    let now = f.git(&["hash-object", "-w", "a"]);
    let bytes = |hex: &str| ObjectId::from_hex(hex.trim().as_bytes()).unwrap().as_slice().to_vec();
    let file = f.root().join(".git/index");
    let mut data = std::fs::read(&file).unwrap();
    assert!(data.windows(4).any(|w| w == b"TREE"));
    data.truncate(data.len() - 20);
    let at = data.windows(20).position(|w| w == bytes(&was)).unwrap();
    data[at..at + 20].copy_from_slice(&bytes(&now));
    let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
    hasher.update(&data);
    data.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    std::fs::write(&file, data).unwrap();
    assert_eq!(dirty(&look(&f)), ["a: staged"]);
}

#[test]
fn a_tree_that_unfolds_without_end_is_refused() {
    let f = base();
    let mut id = f.git(&["rev-parse", "HEAD^{tree}"]).trim().to_owned();
    for _ in 0..12 {
        let lines: String = (0..10).map(|i| format!("040000 tree {id}\t{i}\n")).collect();
        std::fs::write(f.path("list"), lines).unwrap();
        let script = format!("git mktree < {}", f.path("list").display());
        let out =
            std::process::Command::new("sh").current_dir(f.root()).args(["-c", &script]).output().unwrap();
        id = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    }
    let commit = f.git(&["commit-tree", "-m", "bomb", &id]);
    f.git(&["update-ref", "HEAD", commit.trim()]);
    let repo = f.repo();
    let view = TreeView::new(repo.odb(), repo.base_tree());
    let error = view.beneath_up_to(b"", 3000).unwrap_err().to_string();
    assert!(error.contains("has more than the 3000 paths that are read"), "{error}");
}

/// Same size, and the modification time set back: git sees it by the change time, and so must we.
#[test]
fn a_file_whose_times_were_set_back_is_read() {
    let f = base();
    let times = |of: &std::path::Path| {
        let meta = std::fs::metadata(of).unwrap();
        (
            filetime::FileTime::from_last_access_time(&meta),
            filetime::FileTime::from_last_modification_time(&meta),
        )
    };
    let old = filetime::FileTime::from_unix_time(1_577_836_800, 0);
    for name in ["a", "d/x"] {
        filetime::set_file_times(f.root().join(name), old, old).unwrap();
    }
    // Longer than the file system's clock ticks: nothing is racy.
    std::thread::sleep(std::time::Duration::from_millis(50));
    f.git(&["update-index", "--refresh"]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    f.git(&["update-index", "--force-write-index"]);
    assert!(look(&f).is_clean());
    let a = f.root().join("a");
    let (accessed, modified) = times(&a);
    std::fs::write(&a, "b").unwrap();
    filetime::set_file_times(&a, accessed, modified).unwrap();
    // Another file in its place, of the same size and times.
    let x = f.root().join("d/x");
    let (accessed, modified) = times(&x);
    std::fs::write(f.path("other"), "d/y").unwrap();
    filetime::set_file_times(f.path("other"), accessed, modified).unwrap();
    std::fs::rename(f.path("other"), &x).unwrap();
    assert_eq!(dirty(&look(&f)), ["a: modified", "d/x: modified"]);
}

/// Whatever stands for a submodule's `.git` without being one: its directory is looked at as any other.
#[test]
fn what_is_no_submodules_checkout_is_surveyed_as_any_directory() {
    let f = base();
    let commit = f.git(&["rev-parse", "HEAD"]);
    f.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},sub", commit.trim())]);
    f.git(&["commit", "-q", "-m", "submodule"]);
    f.write("sub/.env", "SECRET");
    std::os::unix::fs::symlink("nowhere", f.root().join("sub/.git")).unwrap();
    let check = |more: &[&str]| {
        let s = look(&f);
        assert_eq!(s.hidden.iter().map(|h| show(&h.path)).collect::<Vec<_>>(), ["sub/.env"]);
        let mut want = vec!["sub/.env: untracked".to_owned()];
        want.extend(more.iter().map(|m| (*m).to_owned()));
        assert_eq!(dirty(&s), want);
    };
    check(&["sub/.git: untracked"]);
    let git = f.root().join("sub/.git");
    std::fs::remove_file(&git).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &git, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    check(&[]);
    std::fs::remove_file(&git).unwrap();
    check(&[]);
    for (text, said) in [
        ("", "is a file but does not say `gitdir: PATH`"),
        ("gitdir: nowhere", "sub/nowhere: No such file or directory"),
        ("gitdir: ..", "which is no git directory: it has no HEAD"),
        ("gitdir: ../.git", "which does not name this work tree, is not supported"),
    ] {
        std::fs::write(&git, text).unwrap();
        let error = survey(&f.repo(), &globs(&[".env*"])).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    std::fs::remove_file(&git).unwrap();
    std::fs::create_dir(&git).unwrap();
    let error = survey(&f.repo(), &globs(&[".env*"])).unwrap_err().to_string();
    assert!(error.contains("which is no git directory: it has no HEAD"), "{error}");
}

#[test]
fn a_sparse_file_of_any_size_is_not_read() {
    let f = base();
    std::fs::File::options().write(true).open(f.root().join("a")).unwrap().set_len(1 << 40).unwrap();
    let error = survey(&f.repo(), &globs(&[])).unwrap_err().to_string();
    assert!(error.contains("a tracked file of more than 1 GiB that is not as the index has it"), "{error}");
}
