use std::path::Path;

use super::*;
use crate::changes::testing::{Fixture, git_in};

fn error(path: &Path) -> String {
    Repo::open(path).unwrap_err().to_string()
}

fn base() -> Fixture {
    let f = Fixture::new();
    f.write("d/a", "1\n");
    f.commit();
    f
}

#[test]
fn it_opens_from_any_directory_inside() {
    let f = base();
    let repo = Repo::open(&f.root().join("d")).unwrap();
    assert_eq!(repo.root_path(), std::fs::canonicalize(f.root()).unwrap());
    assert_eq!(repo.base_commit().to_string(), f.git(&["rev-parse", "HEAD"]).trim());
    assert_eq!(repo.base_tree().to_string(), f.git(&["rev-parse", "HEAD^{tree}"]).trim());
    assert_eq!(repo.head().name.as_deref(), Some(&b"refs/heads/main"[..]));
    let dirs = repo.protected_dirs();
    assert!(
        dirs.contains(&repo.git_dir().to_owned()) && dirs.contains(&repo.git_dir().join("objects")),
        "{dirs:?}"
    );
    f.git(&["checkout", "-q", "--detach"]);
    f.git(&["pack-refs", "--all"]);
    assert!(f.repo().head().name.is_none());
}

#[test]
fn linked_work_trees_and_alternates_are_resolved() {
    let f = base();
    let wt = f.path("wt");
    f.git(&["worktree", "add", "-q", "-b", "side", wt.to_str().unwrap()]);
    let repo = Repo::open(&wt).unwrap();
    assert!(repo.git_dir().ends_with(".git/worktrees/wt"));
    assert_eq!(repo.common_dir(), f.repo().git_dir());
    git_in(&f.path(""), &["clone", "-q", "--shared", "repo", "shared"]);
    let shared = Repo::open(&f.path("shared")).unwrap();
    assert_eq!(shared.object_dirs()[1], f.repo().git_dir().join("objects"));
    // A main repository that is bare, with a work tree beside it.
    git_in(&f.path(""), &["clone", "-q", "--bare", "repo", "bare.git"]);
    git_in(&f.path("bare.git"), &["worktree", "add", "-q", "../of-bare", "main"]);
    assert!(Repo::open(&f.path("of-bare")).is_ok());
    assert!(error(&f.path("bare.git")).ends_with("is a bare repository and has no work tree; name a checkout of it with --repo (`git worktree add` makes one)"));
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let f = base();
    assert!(error(&f.upper()).ends_with(
        "is not inside a git work tree; name one with --repo, or make one with `git init` and a first commit"
    ));
    assert!(error(&f.path("nowhere")).contains("nowhere: No such file or directory"));
    git_in(&f.path(""), &["init", "-q", "-b", "trunk", "empty"]);
    assert!(
        error(&f.path("empty"))
            .ends_with("HEAD (ref: refs/heads/trunk) has no commit yet; commit something first")
    );
    std::fs::write(f.path("upper/.git"), "nonsense").unwrap();
    assert!(error(&f.upper()).contains(".git: is a file but does not say `gitdir: PATH`"));
}

#[test]
fn what_is_not_known_is_refused() {
    let with = |args: &[&str]| {
        let f = base();
        f.git(&["config", "core.repositoryformatversion", "1"]);
        f.git(&[&["config"], args].concat());
        error(&f.root())
    };
    assert!(with(&["extensions.mystery", "x"]).ends_with(
        "the repository extension `mystery` is not supported; use a plain clone of the repository"
    ));
    assert!(
        with(&["extensions.refStorage", "reftable"])
            .contains("the reference storage \"reftable\" is not supported")
    );
    assert!(with(&["core.worktree", "/"]).contains("core.worktree, which names / and not "));
    assert!(with(&["core.fileMode", "maybe"]).contains("core.fileMode is \"maybe\", not a boolean"));
    assert!(with(&["core.eol", "cr"]).contains("core.eol is \"cr\", not lf, crlf or native"));
    assert!(with(&["core.repositoryformatversion", "7"]).contains("only versions 0 and 1 are known"));
}

#[test]
fn includes_and_programs_of_the_configuration_have_no_part() {
    let f = base();
    let marker = f.path("ran");
    std::fs::write(
        f.path("evil"),
        format!("[core]\n\tautocrlf = true\n\tfsmonitor = touch {}\n", marker.display()),
    )
    .unwrap();
    f.git(&["config", "include.path", f.path("evil").to_str().unwrap()]);
    f.git(&["config", "filter.x.clean", &format!("touch {}", marker.display())]);
    f.write(".gitattributes", "* filter=x\n");
    let _ = std::fs::remove_file(&marker);
    let repo = f.repo();
    assert_eq!(repo.settings().autocrlf, gix_filter::eol::AutoCrlf::Disabled);
    f.write("d/a", "1\n");
    crate::changes::survey::survey(&repo, &crate::changes::testing::globs(&[])).unwrap();
    f.up("d/a", "2\n");
    f.collect(&crate::changes::testing::allow_all()).unwrap();
    assert!(!marker.exists());
}

#[test]
fn a_missing_object_is_named() {
    let f = base();
    let tree = f.git(&["rev-parse", "HEAD^{tree}"]);
    let tree = tree.trim();
    let file = f.root().join(".git/objects").join(&tree[..2]).join(&tree[2..]);
    std::fs::remove_file(file).unwrap();
    let repo = f.repo();
    let text = repo.odb().tree(&repo.base_tree()).unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("object {tree} is missing from "))
            && text.ends_with("; `git fsck` says what else is missing"),
        "{text}"
    );
    let text = repo.odb().blob(&repo.base_commit()).unwrap_err().to_string();
    assert!(text.contains("is a commit, not a blob; `git fsck` may say more"), "{text}");
    f.git(&["config", "extensions.partialClone", "origin"]);
    let repo = f.repo();
    assert!(repo.odb().tree(&repo.base_tree()).unwrap_err().to_string().contains("this is a partial clone"));
}

#[test]
fn alternates_name_object_directories_and_nothing_else() {
    let f = base();
    let list = f.root().join(".git/objects/info/alternates");
    let secrets = f.path("secrets");
    std::fs::create_dir_all(secrets.join("pack")).unwrap();
    std::fs::write(secrets.join("id_rsa"), "secret").unwrap();
    std::fs::create_dir_all(list.parent().unwrap()).unwrap();
    std::fs::write(&list, format!("{}\n", secrets.display())).unwrap();
    let text = error(&f.root());
    assert!(
        text.contains("alternates: names ")
            && text.contains("which is no object directory: git would have no id_rsa there"),
        "{text}"
    );
    for name in ["ab/secret", "pack/id_rsa", "info/passwd", "abc/x", "ab/cd/e"] {
        std::fs::remove_dir_all(&secrets).unwrap();
        std::fs::create_dir_all(secrets.join(name).parent().unwrap()).unwrap();
        std::fs::write(secrets.join(name), "secret").unwrap();
        assert!(error(&f.root()).contains("which is no object directory"), "{name}");
    }
    std::fs::remove_dir_all(&secrets).unwrap();
    assert!(error(&f.root()).contains("alternates: names "));
    std::fs::remove_file(&list).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &list, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .unwrap();
    assert!(error(&f.root()).contains("info/alternates: is no regular file"));
    std::fs::remove_file(&list).unwrap();
    assert!(f.repo().foreign_object_dirs().is_empty());
    git_in(&f.path(""), &["clone", "-q", "--shared", "repo", "shared"]);
    git_in(&f.path(""), &["clone", "-q", "--shared", "shared", "twice"]);
    let twice = Repo::open(&f.path("twice")).unwrap();
    assert_eq!(twice.foreign_object_dirs().len(), 2);
    let objects = f.root().join(".git/objects");
    std::os::unix::fs::symlink("/etc/passwd", objects.join("pack/pack-x.idx")).unwrap();
    assert!(error(&f.root()).contains("pack/pack-x.idx: a symbolic link inside a git directory"));
    std::fs::remove_file(objects.join("pack/pack-x.idx")).unwrap();
    std::fs::rename(&objects, f.path("moved")).unwrap();
    std::os::unix::fs::symlink(f.path("moved"), &objects).unwrap();
    assert!(error(&f.root()).contains(".git/objects: a symbolic link inside a git directory"));
}

/// A hostile tree says that it belongs to somebody else's repository, whose objects would be shown.
#[test]
fn a_git_file_cannot_take_another_repository() {
    let f = base();
    let evil = f.path("evil");
    let own = evil.join("own");
    std::fs::create_dir_all(&own).unwrap();
    let git = std::fs::canonicalize(f.root().join(".git")).unwrap();
    let say = |text: String| std::fs::write(evil.join(".git"), text).unwrap();
    say(format!("gitdir: {}\n", git.display()));
    let text = error(&evil);
    assert!(text.contains("which does not name this work tree, is not supported; say there that it is meant: `git config core.worktree"), "{text}");
    say("gitdir: own\n".to_owned());
    assert!(error(&evil).contains("which is no git directory: it has no HEAD"));
    std::fs::write(own.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    assert!(error(&evil).contains("which is no git directory: it has no objects"));
    std::fs::write(own.join("commondir"), git.as_os_str().as_bytes()).unwrap();
    std::fs::write(own.join("gitdir"), evil.join(".git").as_os_str().as_bytes()).unwrap();
    assert!(error(&evil).contains("but it is no linked work tree of that repository; `git worktree repair`"));
    let wt = f.path("wt");
    f.git(&["worktree", "add", "-q", wt.to_str().unwrap()]);
    Repo::open(&wt).unwrap();
    say(format!("gitdir: {}/worktrees/wt\n", git.display()));
    let text = error(&evil);
    assert!(text.contains("and not this work tree; run `git worktree repair` in it"), "{text}");
    // A `.git` directory of its own cannot lead on to another one either.
    std::fs::remove_file(evil.join(".git")).unwrap();
    std::fs::rename(&own, evil.join(".git")).unwrap();
    assert!(error(&evil).contains("but it is no linked work tree of that repository"));
    let apart = f.path("apart");
    git_in(&f.path(""), &["clone", "-q", "--separate-git-dir", "apart.git", "repo", "apart"]);
    assert!(error(&apart).contains("git config core.worktree"));
    git_in(&apart, &["config", "core.worktree", apart.to_str().unwrap()]);
    Repo::open(&apart).unwrap();
}

/// Loose objects whose header or content is as large as its maker liked; and rules that are no rules any more.
#[test]
fn objects_that_are_too_large_are_refused_by_their_headers() {
    use std::io::Write;
    let f = base();
    let put = |id: &str, data: &[u8], zeros: u64| {
        let file = f.root().join(".git/objects").join(&id[..2]).join(&id[2..]);
        std::fs::remove_file(&file).unwrap();
        let mut out = flate2::write::ZlibEncoder::new(
            std::fs::File::create(file).unwrap(),
            flate2::Compression::fast(),
        );
        out.write_all(data).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), zeros), &mut out).unwrap();
        out.finish().unwrap();
    };
    let tree = f.git(&["rev-parse", "HEAD^{tree}"]).trim().to_owned();
    put(&tree, format!("tree {}\0", 100u64 << 20).as_bytes(), 100 << 20);
    let repo = f.repo();
    let text = repo.odb().tree(&repo.base_tree()).unwrap_err().to_string();
    assert!(
        text.contains("holds 104857600 bytes, more than the 67108864 that are read of a tree here"),
        "{text}"
    );
    let commit = f.git(&["rev-parse", "HEAD"]).trim().to_owned();
    put(&commit, format!("commit {}\0tree x", 1u64 << 46).as_bytes(), 0);
    assert!(
        error(&f.root())
            .contains("holds 70368744177664 bytes, more than the 67108864 that are read of a commit here")
    );
    for name in [".gitignore", ".gitattributes"] {
        let f = base();
        f.write(name, vec![b'#'; 2 << 20]);
        f.commit();
        f.write("d/a", "2\n");
        let text = crate::changes::survey::survey(&f.repo(), &crate::changes::testing::globs(&[]))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("holds 2097152 bytes, more than the 1048576 that are read of a blob here"),
            "{text}"
        );
    }
}
