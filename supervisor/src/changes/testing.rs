//! Repositories and layers for the tests of this module, made and checked with the real git.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::classify::{Caps, ChangeRules, ChangeSet, CollectError, collect};
use super::globs::GlobList;
use super::layer::Changed;
use super::repo::{Repo, bytes_path};

/// A repository in a temporary directory, and a directory that stands for an overlay's upper.
pub(crate) struct Fixture {
    dir: tempfile::TempDir,
}

pub(crate) fn globs(list: &[&str]) -> GlobList {
    GlobList::new(&list.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>()).unwrap()
}

pub(crate) fn allow_all() -> ChangeRules {
    ChangeRules {
        allow: globs(&["**"]),
        deny: globs(&[]),
        ask: globs(&[]),
        protect: globs(&[]),
        hide: globs(&[".env*"]),
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_format("sha1")
    }

    pub(crate) fn with_format(format: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("upper")).unwrap();
        std::fs::create_dir(dir.path().join("repo")).unwrap();
        let fixture = Self { dir };
        fixture.git(&["init", "-q", "-b", "main", &format!("--object-format={format}")]);
        fixture
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git_in(&self.root(), args)
    }

    /// Writes a file of the work tree, its directories too.
    pub(crate) fn write(&self, path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) {
        put(&self.root(), path.as_ref(), data.as_ref());
    }

    pub(crate) fn commit(&self) {
        self.git(&["add", "-A", "-f"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "base"]);
    }

    /// Writes a file of the layer, its directories too.
    pub(crate) fn up(&self, path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) {
        put(&self.upper(), path.as_ref(), data.as_ref());
    }

    /// A whiteout in the form of an attribute, which needs no privilege.
    pub(crate) fn whiteout(&self, path: impl AsRef<[u8]>) {
        self.up(path.as_ref(), b"");
        let file = self.upper().join(bytes_path(path.as_ref()));
        rustix::fs::setxattr(&file, "user.overlay.whiteout", b"", rustix::fs::XattrFlags::empty()).unwrap();
    }

    pub(crate) fn opaque(&self, path: &str) {
        let dir = self.upper().join(path);
        std::fs::create_dir_all(&dir).unwrap();
        rustix::fs::setxattr(&dir, "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    }

    pub(crate) fn chmod(&self, path: &str, mode: u32) {
        let file = self.upper().join(path);
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        let file = self.upper().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, file).unwrap();
    }

    pub(crate) fn repo(&self) -> Repo {
        Repo::open(&self.root()).unwrap()
    }

    pub(crate) fn layer(&self) -> OwnedFd {
        std::fs::File::open(self.upper()).unwrap().into()
    }

    pub(crate) fn collect(&self, rules: &ChangeRules) -> Result<ChangeSet, CollectError> {
        use std::os::fd::AsFd;
        let caps = Caps::new(1000, 32 << 20);
        collect(&self.repo(), Changed::Upper(self.layer().as_fd()), rules, &caps)
    }

    /// Checks the patch of `set` with the real git: applied to a clean clone, index and work tree are the result.
    pub(crate) fn check_patch(&self, set: &ChangeSet) -> Vec<u8> {
        let repo = self.repo();
        let mut patch = Vec::new();
        super::patch::write::write_patch(&repo, set, 32 << 20, &mut patch, &mut |_| ()).unwrap();
        let clone = self.dir.path().join("clone");
        let _ = std::fs::remove_dir_all(&clone);
        git_in(self.dir.path(), &["clone", "-q", "--no-hardlinks", "repo", "clone"]);
        for key in ["core.autocrlf", "core.eol"] {
            let value = Command::new("git")
                .arg("-C")
                .arg(self.root())
                .args(["config", "--local", key])
                .output()
                .unwrap();
            if value.status.success() {
                let value = String::from_utf8(value.stdout).unwrap();
                git_in(&clone, &["config", key, value.trim()]);
                git_in(&clone, &["rm", "-q", "--cached", "-r", "."]);
                git_in(&clone, &["reset", "-q", "--hard"]);
            }
        }
        let file = self.dir.path().join("patch.diff");
        std::fs::write(&file, &patch).unwrap();
        if !set.changes.is_empty() {
            git_in(&clone, &["apply", "--index", "--binary", file.to_str().unwrap()]);
        }
        assert_eq!(
            git_in(&clone, &["write-tree"]).trim(),
            set.result_tree.to_string(),
            "{}",
            patch.escape_ascii()
        );
        let status = git_in(&clone, &["status", "--porcelain", "-uall"]);
        assert!(status.lines().all(|l| l.as_bytes()[1] == b' '), "{status}");
        patch
    }
}

pub(crate) fn put(root: &Path, path: &[u8], data: &[u8]) {
    let file = root.join(bytes_path(path));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, data).unwrap();
}

pub(crate) fn git_in(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .current_dir(dir)
        .args(["-c", "protocol.file.allow=always"])
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "A U Thor")
        .env("GIT_AUTHOR_EMAIL", "author@example.com")
        .env("GIT_COMMITTER_NAME", "A U Thor")
        .env("GIT_COMMITTER_EMAIL", "author@example.com")
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "git {args:?}: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Carries a seed out on a directory, as the sandbox's child does, reading the format that `Seed` documents.
pub(crate) fn play(seed: &proctor_sandbox::seed::Seed, root: &Path) {
    let mut rest = seed.as_bytes();
    while !rest.is_empty() {
        let kind = rest[0];
        let mode = u32::from_le_bytes(rest[1..5].try_into().unwrap());
        let path_len = u32::from_le_bytes(rest[5..9].try_into().unwrap()) as usize;
        let data_len = u64::from_le_bytes(rest[9..17].try_into().unwrap()) as usize;
        let path = &rest[17..17 + path_len];
        let data = &rest[18 + path_len..18 + path_len + data_len];
        rest = &rest[19 + path_len + data_len..];
        let full = root.join(bytes_path(path));
        let perm = std::os::unix::fs::PermissionsExt::from_mode(mode);
        let parent = || std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        match kind {
            1 | 6 => {
                std::fs::create_dir_all(&full).unwrap();
                std::fs::set_permissions(&full, perm).unwrap();
            }
            2 => {
                parent();
                let _ = std::fs::remove_file(&full);
                std::fs::write(&full, data).unwrap();
                std::fs::set_permissions(&full, perm).unwrap();
            }
            3 => {
                parent();
                let _ = std::fs::remove_file(&full);
                std::os::unix::fs::symlink(bytes_path(data), &full).unwrap();
            }
            4 => std::fs::remove_file(&full).unwrap(),
            5 => {
                let _ = std::fs::remove_dir(&full);
            }
            other => panic!("kind {other}"),
        }
    }
}
