//! Toolchains as developers have them, with filled caches: installed once by `tests/toolchains/install.sh`, copied into
//! the home of each test's world, and the small projects that are built with them.
//!
//! What must not live here: what a sandbox shows of all that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::agents::{locked_place, script, source};
use crate::repo::TestRepo;
use crate::user::World;

/// What is installed.
#[derive(Debug)]
pub struct Toolchains {
    /// A home directory with caches.
    home: PathBuf,
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
                home: dir.join("home"),
                rustup: dir.join("rustup"),
                wheels: dir.join("wheels"),
                go_sum: dir.join("go.sum"),
            }
        })
    }

    /// Copies `name` (a path below a home directory) into the world's home, for its user; gives where it is.
    pub fn give(&self, world: &World, name: &str) -> PathBuf {
        let to = world.path("home").join(name);
        let parent = to.parent().expect("a name below the home");
        fs::create_dir_all(parent).expect("mkdir");
        copy(&self.home.join(name), &to);
        world.user.own(&world.path("home"));
        to
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

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-R").arg(from).arg(to).status();
    assert!(status.is_ok_and(|s| s.success()), "cp -R {} {}", from.display(), to.display());
}
