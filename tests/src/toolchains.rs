//! Toolchains as developers have them, with filled caches: installed once by `tests/toolchains/install.sh`, copied into
//! a home directory for each test, and the small projects that are built with them.
//!
//! What must not live here: what a sandbox shows of all that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::agents::{locked_place, script, source};
use crate::repo::TestRepo;
use crate::user::{User, World};

/// What is installed.
#[derive(Debug)]
pub struct Toolchains {
    /// Where homes are made: not below a directory that every sandbox has for itself, as `/tmp`.
    homes: PathBuf,
    /// A home directory with caches.
    template: PathBuf,
    /// A `RUSTUP_HOME`: too large to be copied.
    pub rustup: PathBuf,
    /// Python wheels.
    pub wheels: PathBuf,
    /// The checksums that belong to the module in go's cache.
    go_sum: PathBuf,
}

static TOOLCHAINS: OnceLock<Toolchains> = OnceLock::new();

impl Toolchains {
    /// Installs what is not there yet, which may need a network.
    pub fn installed() -> &'static Self {
        TOOLCHAINS.get_or_init(|| {
            let (place, _lock) = locked_place();
            let dir = place.join("toolchains");
            script("toolchains/install.sh", &[&dir]);
            Self {
                homes: place,
                template: dir.join("home"),
                rustup: dir.join("rustup"),
                wheels: dir.join("wheels"),
                go_sum: dir.join("go.sum"),
            }
        })
    }

    /// A home directory for this user, closed to all others, with the `caches` (paths below a home) and, in all of
    /// `files`, `text`.
    pub fn home(&self, user: User, caches: &[&str], files: &[&str], text: &str) -> Home {
        let dir = tempfile::Builder::new().prefix("home-").tempdir_in(&self.homes).expect("a home directory");
        let below = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a name below the home")).expect("mkdir");
            path
        };
        for name in caches {
            copy(&self.template.join(name), &below(name));
        }
        for name in files {
            fs::write(below(name), text).expect("write");
        }
        user.own(dir.path());
        let status = Command::new("chmod").args(["-R", "go-rwx"]).arg(dir.path()).status();
        assert!(status.is_ok_and(|s| s.success()), "chmod {}", dir.path().display());
        Home(dir)
    }

    /// The repository of the project `tests/toolchains/NAME`, which has a defect that its own tests find.
    pub fn project<'w>(&self, world: &'w World, name: &str) -> TestRepo<'w> {
        // By the suite's own user: the others may not be able to read this checkout.
        copy(&source().join("toolchains").join(name), &world.path(name));
        if name == "go" {
            fs::copy(&self.go_sum, world.path("go/go.sum")).expect("copying go.sum");
        }
        world.user.own(&world.path(name));
        let repo = TestRepo::existing(world, name);
        repo.git(&["init", "-q", "-b", "main"]);
        repo.commit("base");
        repo
    }
}

/// A home directory, gone when dropped.
#[derive(Debug)]
pub struct Home(TempDir);

impl Home {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Go makes the directories of its module cache read-only.
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(self.path()).status();
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-R").arg(from).arg(to).status();
    assert!(status.is_ok_and(|s| s.success()), "cp -R {} {}", from.display(), to.display());
}
