//! Real coding agents, the project with the defect and the toolchain that its tests need: installed once by the
//! scripts of `tests/agents`, at a place that every user of the suite can read.
//!
//! What must not live here: what the agents are asked and what is expected of them.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};

use crate::repo::TestRepo;
use crate::user::World;

/// Names the directory to install into, or where all is installed already.
const PLACE: &str = "PROCTOR_TEST_AGENTS";

/// What is installed.
#[derive(Debug)]
pub struct Agents {
    /// The agents, the archive of the project, the scripted provider and `drive.sh`.
    pub dir: PathBuf,
    /// A Rust toolchain, with `bin` and `lib`.
    pub rust: PathBuf,
}

static AGENTS: OnceLock<Agents> = OnceLock::new();

impl Agents {
    /// Installs what is not there yet: the one thing of this suite that may need a network.
    pub fn installed() -> &'static Self {
        AGENTS.get_or_init(|| {
            let (place, _lock) = locked_place();
            let agents = Self { dir: place.join("agents"), rust: place.join("rust") };
            script("agents/install.sh", &[&agents.dir]);
            script("agents/toolchain.sh", &[&agents.rust]);
            agents
        })
    }

    /// The repository of the project with the defect, at its base commit, in `world`.
    pub fn shlex<'w>(&self, world: &'w World) -> TestRepo<'w> {
        let path = world.path("shlex");
        // By the suite's own user: the others may not be able to read this checkout.
        script("agents/make-repo.sh", &[&self.dir, &path]);
        world.user.own(&path);
        TestRepo::existing(world, "shlex")
    }

    /// The driver of the agents, which runs in the sandbox.
    pub fn drive(&self) -> PathBuf {
        self.dir.join("drive.sh")
    }

    /// `PATH` with the toolchain before the system's directories.
    pub fn search_path(&self) -> String {
        format!("{}/bin:/usr/bin:/bin", self.rust.display())
    }

    /// What is known of the project beforehand: the variables of its `project.env`.
    pub fn project() -> BTreeMap<String, String> {
        let file = source().join("../fixtures/repos/shlex/project.env");
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

/// Where this package's files are.
pub(crate) fn source() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs one of this package's installers; it must succeed.
pub(crate) fn script(name: &str, args: &[&Path]) {
    let output = Command::new("sh").arg(source().join(name)).args(args).output().expect("starting sh");
    assert!(
        output.status.success(),
        "tests/{name} {args:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Where to install, and its lock: two runs of the suite must not install at the same time. Released when the file is
/// closed.
pub(crate) fn locked_place() -> (PathBuf, File) {
    let place = place();
    let lock = File::create(place.join("lock")).expect("creating the lock of the installation");
    flock(&lock, FlockOperation::LockExclusive).expect("locking the installation");
    (place, lock)
}

/// Where to install: what the environment names, else below the build's own directory, else, where others cannot
/// enter that and the suite runs as more than one user, below the temporary directory.
fn place() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let place = std::env::var_os(PLACE).map_or_else(
        || {
            let built = std::env::current_exe().expect("this test's own path");
            let target =
                built.ancestors().nth(2).expect("a test stands in target/PROFILE/deps").join("agents");
            if uid != 0 || is_public(&target) {
                target
            } else {
                std::env::temp_dir().join(format!("proctor-test-agents-{uid}"))
            }
        },
        PathBuf::from,
    );
    fs::create_dir_all(place.parent().expect("a place below a directory")).expect("mkdir");
    let _ = DirBuilder::new().mode(0o755).create(&place);
    // The names below a temporary directory are everybody's: programs are taken from our own directory only.
    let meta = fs::symlink_metadata(&place).unwrap_or_else(|e| panic!("{}: {e}", place.display()));
    assert!(
        meta.is_dir() && meta.uid() == uid && meta.mode() & 0o022 == 0,
        "{} must be a directory that belongs to uid {uid} and that nobody else can write to; remove it or set {PLACE}",
        place.display()
    );
    let place = place.canonicalize().expect("the place's real path");
    assert!(
        uid != 0 || is_public(&place),
        "{} cannot be entered by every user, as {PLACE} must be for the tests that run as an ordinary one",
        place.display()
    );
    place
}

/// Whether everybody may enter `path` and what is above it, as far as it exists.
fn is_public(path: &Path) -> bool {
    path.ancestors().all(|dir| fs::metadata(dir).map_or(true, |meta| meta.mode() & 0o005 == 0o005))
}
