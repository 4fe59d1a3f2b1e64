use std::os::fd::AsFd;
use std::path::Path;

use super::*;
use crate::changes::testing::{Fixture, git_in, play, put};

/// Lays the view out over a copy of the work tree, as the sandbox does with an overlay.
fn lay_out(repo: &Repo, to: &Path) -> GitView {
    let view = git_view(repo).unwrap();
    let out = std::process::Command::new("cp").arg("-a").arg(repo.root_path()).arg(to).status().unwrap();
    assert!(out.success());
    let git = to.join(".git");
    if git.is_dir() {
        std::fs::remove_dir_all(&git).unwrap()
    } else {
        std::fs::remove_file(&git).unwrap()
    }
    play(&view.seed, to);
    // The mounts of the object directories, by the paths outside.
    let alternates = git.join("objects/info/alternates");
    let mut text = std::fs::read_to_string(&alternates).unwrap();
    for (i, dir) in view.object_dirs.iter().enumerate() {
        text = text.replace(&format!("{OBJECTS_INSIDE}/{i}\n"), &format!("{}\n", dir.display()));
    }
    std::fs::write(&alternates, text).unwrap();
    view
}

fn check(repo: &Repo, to: &Path) {
    lay_out(repo, to);
    assert_eq!(git_in(to, &["status", "--porcelain"]), "");
    assert_eq!(git_in(to, &["rev-parse", "HEAD"]).trim(), repo.base_commit().to_string());
    assert!(!git_in(to, &["log", "--oneline"]).is_empty());
    put(to, b"made-inside", b"x");
    git_in(to, &["add", "made-inside"]);
    git_in(to, &["commit", "-q", "-m", "inside"]);
    git_in(to, &["fsck", "--connectivity-only"]);
    assert_ne!(git_in(to, &["rev-parse", "HEAD"]).trim(), repo.base_commit().to_string());
    assert_eq!(Repo::open(repo.root_path()).unwrap().base_commit(), repo.base_commit());
}

fn base() -> Fixture {
    let f = Fixture::new();
    f.write("a", "1\n");
    f.write("d/b", "2\n");
    f.commit();
    f.git(&["tag", "-a", "v1", "-m", "one"]);
    f.git(&["branch", "other"]);
    f
}

#[test]
fn git_works_in_the_view_of_a_plain_checkout() {
    let f = base();
    f.git(&["pack-refs", "--all"]);
    f.git(&["gc", "-q"]);
    let to = f.path("view");
    check(&f.repo(), &to);
    assert_eq!(git_in(&to, &["describe"]).trim().split('-').next(), Some("v1"));
    assert!(git_in(&to, &["branch"]).contains("other"));
}

#[test]
fn git_works_in_the_view_of_a_linked_work_tree_and_of_sha256() {
    let f = base();
    let wt = f.path("wt");
    f.git(&["worktree", "add", "-q", wt.to_str().unwrap(), "other"]);
    let repo = Repo::open(&wt).unwrap();
    let to = f.path("view");
    check(&repo, &to);
    assert_eq!(git_in(&to, &["branch", "--show-current"]).trim(), "other");
    let f = Fixture::with_format("sha256");
    f.write("a", "1");
    f.commit();
    check(&f.repo(), &f.path("view"));
}

#[test]
fn git_works_in_the_view_of_a_submodules_checkout_and_beside_one() {
    let inner = base();
    let f = base();
    f.git(&["submodule", "add", "-q", inner.root().to_str().unwrap(), "sub"]);
    f.commit();
    check(&Repo::open(&f.root().join("sub")).unwrap(), &f.path("view-sub"));
    check(&f.repo(), &f.path("view-top"));
}

#[test]
fn git_works_in_the_view_of_a_shallow_clone_and_of_one_with_alternates() {
    let f = base();
    f.write("a", "2\n");
    f.commit();
    let url = format!("file://{}", f.root().display());
    git_in(&f.path(""), &["clone", "-q", "--depth", "1", &url, "shallow"]);
    let repo = Repo::open(&f.path("shallow")).unwrap();
    check(&repo, &f.path("view"));
    git_in(&f.path(""), &["clone", "-q", "--shared", "repo", "shared"]);
    let repo = Repo::open(&f.path("shared")).unwrap();
    assert_eq!(repo.object_dirs().len(), 2);
    check(&repo, &f.path("view-shared"));
}

#[test]
fn nothing_secret_and_nothing_that_runs_is_carried_over() {
    let f = base();
    for (key, value) in [
        ("remote.origin.url", "https://user:token@example.com/x.git?key=secret"),
        ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
        ("remote.origin.pushurl", "https://user:token@example.com/x.git"),
        ("remote.origin.uploadpack", "evil"),
        ("remote.ext.url", "ext::sh -c evil"),
        ("remote.scp.url", "git@example.com:a/b.git"),
        ("branch.main.remote", "origin"),
        ("branch.main.merge", "refs/heads/main"),
        ("core.fsmonitor", "evil"),
        ("core.hooksPath", "evil"),
        ("core.sshCommand", "evil"),
        ("include.path", "evil"),
        ("filter.x.clean", "evil"),
        ("alias.st", "!evil"),
        ("credential.helper", "evil"),
        ("http.extraHeader", "Authorization: token"),
        ("user.name", "O \"Q\" \\ Uote"),
    ] {
        f.git(&["config", key, value]);
    }
    std::fs::create_dir_all(f.root().join(".git/hooks")).unwrap();
    std::fs::write(f.root().join(".git/hooks/pre-commit"), "#!/bin/sh\nexit 1\n").unwrap();
    let to = f.path("view");
    check(&f.repo(), &to);
    let text = std::fs::read_to_string(to.join(".git/config")).unwrap();
    for word in ["evil", "token", "secret", "pushurl", "include", "helper"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    assert!(!to.join(".git/hooks").exists());
    assert_eq!(git_in(&to, &["remote", "get-url", "origin"]).trim(), "https://example.com/x.git");
    assert_eq!(git_in(&to, &["remote", "get-url", "scp"]).trim(), "git@example.com:a/b.git");
    assert_eq!(git_in(&to, &["config", "user.name"]).trim(), "O \"Q\" \\ Uote");
    assert_eq!(git_in(&to, &["config", "branch.main.merge"]).trim(), "refs/heads/main");
}

#[test]
fn urls_lose_what_is_secret_or_runs() {
    let s = |u: &str| safe_url(u.as_bytes()).map(|u| String::from_utf8(u).unwrap());
    assert_eq!(s("https://a:b@c@h/p").as_deref(), Some("https://h/p"));
    assert_eq!(s("ssh://git@h:22/p").as_deref(), Some("ssh://git@h:22/p"));
    assert_eq!(s("ssh://me:pw@h/p").as_deref(), Some("ssh://h/p"));
    assert_eq!(s("me@h:p").as_deref(), Some("h:p"));
    assert_eq!(s("/srv/x.git").as_deref(), Some("/srv/x.git"));
    assert_eq!(s("ext::sh -c x"), None);
    assert_eq!(s("fd::7"), None);
    assert_eq!(s("foo://h/p"), None);
    assert_eq!(s("https://h/p\n[core]"), None);
}

#[test]
fn what_the_backend_did_to_its_git_directory_is_listed() {
    let f = base();
    let view = git_view(&f.repo()).unwrap();
    play(&view.seed, &f.upper());
    let none = touched(&view, f.layer().as_fd()).unwrap();
    assert_eq!(none, GitTouched::default());
    f.up(".git/config", "[core]\n");
    f.up(".git/hooks/pre-commit", "x");
    f.up(".git/objects/ab/cdef", "x");
    std::fs::remove_file(f.upper().join(".git/packed-refs")).unwrap();
    let found = touched(&view, f.layer().as_fd()).unwrap();
    let paths: Vec<_> = found.paths.iter().map(|p| crate::changes::show(p)).collect();
    assert_eq!(paths, ["config", "hooks/pre-commit", "objects/ab", "packed-refs"]);
    assert_eq!(found.count, 4);
    let set = f.collect(&crate::changes::testing::allow_all()).unwrap();
    assert!(set.is_empty() && set.disallowed.is_empty(), "the private .git is no change");
}

/// A repository made to be read: each of these once copied a file of the host into the sandbox, or never ended.
#[test]
fn what_links_out_of_the_git_directory_is_refused_and_what_is_copied_is_parsed() {
    let f = base();
    let git = f.root().join(".git");
    std::fs::write(f.path("secret"), "secret").unwrap();
    let said = |name: &str| {
        let text = match Repo::open(&f.root()) {
            Ok(repo) => git_view(&repo).unwrap_err().to_string(),
            Err(e) => e.to_string(),
        };
        assert!(text.contains(&format!(".git/{name}: ")), "{text}");
        text
    };
    f.git(&["config", "core.sparseCheckout", "true"]);
    for name in [
        "shallow",
        "info/sparse-checkout",
        "index",
        "HEAD",
        "config",
        "packed-refs",
        "refs/heads/main",
        "refs/tags/x",
    ] {
        let file = git.join(name);
        let kept = std::fs::read(&file).ok();
        for target in [f.path("secret"), "/dev/zero".into()] {
            let _ = std::fs::remove_file(&file);
            std::os::unix::fs::symlink(target, &file).unwrap();
            assert!(said(name).contains("a symbolic link inside a git directory is not supported"));
        }
        std::fs::remove_file(&file).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(said(name).contains("is no regular file"));
        std::fs::remove_file(&file).unwrap();
        if let Some(kept) = kept {
            std::fs::write(&file, kept).unwrap();
        }
    }
    git_view(&f.repo()).unwrap();
    std::fs::write(git.join("shallow"), format!("{}\nroot:x:0\n", f.repo().base_commit())).unwrap();
    assert!(said("shallow").contains("has a line that is no object id"));
    std::fs::remove_file(git.join("shallow")).unwrap();
    std::fs::write(git.join("info/sparse-checkout"), b"/*\n\0").unwrap();
    assert!(said("info/sparse-checkout").contains("is no text"));
    std::fs::write(git.join("info/sparse-checkout"), vec![b'a'; 2 << 20]).unwrap();
    assert!(said("info/sparse-checkout").contains("holds more than the 1048576 bytes"));
    std::fs::remove_file(git.join("info/sparse-checkout")).unwrap();
    std::fs::rename(&git, f.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(f.path("elsewhere"), &git).unwrap();
    let text = Repo::open(&f.root()).unwrap_err().to_string();
    assert!(text.contains("a `.git` that is a symbolic link is not supported"), "{text}");
}
