//! Users to run as, and places that belong to them.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// The uid and gid of the ordinary user where the suite runs as root.
const ORDINARY: u32 = 1000;

/// Who runs Proctor in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Root: the backend must still have no host root uid.
    Root,
    /// An ordinary user: uid 1000 through `setpriv` where the suite runs as root, the caller itself elsewhere.
    Ordinary,
}

/// Every user that this suite can be: both as root, the caller alone elsewhere.
pub fn users() -> Vec<User> {
    if is_root() { vec![User::Root, User::Ordinary] } else { vec![User::Ordinary] }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl User {
    /// A command that runs `program` as this user, with an empty environment but `PATH`.
    pub fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = if is_root() && self == Self::Ordinary {
            let mut command = Command::new("setpriv");
            let id = ORDINARY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        command
    }

    /// Gives a path (and what is below it) to this user.
    pub fn own(self, path: &Path) {
        if is_root() && self == Self::Ordinary {
            let id = format!("{ORDINARY}:{ORDINARY}");
            let status = Command::new("chown").args(["-R", "-h", &id]).arg(path).status();
            assert!(status.is_ok_and(|s| s.success()), "chown {}", path.display());
        }
    }

    /// The uid that this user has.
    pub fn uid(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Ordinary if is_root() => ORDINARY,
            Self::Ordinary => rustix::process::geteuid().as_raw(),
        }
    }
}

/// The binary under test, where every user may execute it: a target directory below somebody's home is not such a
/// place.
#[derive(Debug)]
pub struct Binary {
    path: PathBuf,
}

static BINARY: OnceLock<Binary> = OnceLock::new();

impl Binary {
    /// A copy of `built` (the suite's `CARGO_BIN_EXE_proctor-under-test`), made once for each build and found again by
    /// the next run of the suite.
    pub fn of(built: &str) -> &'static Path {
        &BINARY.get_or_init(|| Binary { path: published(Path::new(built)) }).path
    }
}

fn published(built: &Path) -> PathBuf {
    let own = rustix::process::geteuid().as_raw();
    let dir = std::env::temp_dir().join(format!("proctor-test-binaries-{own}"));
    if let Err(e) = std::fs::create_dir(&dir) {
        assert_eq!(e.kind(), std::io::ErrorKind::AlreadyExists, "{}: {e}", dir.display());
    }
    let meta = std::fs::symlink_metadata(&dir).expect("lstat");
    assert!(meta.is_dir() && meta.uid() == own, "{} is not a directory of one's own", dir.display());
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let built_meta = std::fs::metadata(built).expect("the binary under test");
    let name = format!("proctor-{}-{}-{}", built_meta.mtime(), built_meta.mtime_nsec(), built_meta.size());
    // Those of earlier builds go after a day: another run of the suite may still be using one.
    for entry in std::fs::read_dir(&dir).expect("readdir").flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age.as_secs() > 86_400) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let path = dir.join(&name);
    if !path.exists() {
        let partial = dir.join(format!("{name}.{}", std::process::id()));
        std::fs::copy(built, &partial).expect("copying the binary under test");
        std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        std::fs::rename(&partial, &path).expect("rename");
    }
    path
}

/// A temporary directory that every user may enter.
fn public_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("proctor-test-").tempdir().expect("a temporary directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

/// One test's own place, for one user: home, state directory, room for repositories. Gone when dropped.
#[derive(Debug)]
pub struct World {
    /// Who.
    pub user: User,
    dir: TempDir,
}

/// What runs under nohup(1), as CI's jobs may, hands an ignored SIGHUP down to every program, and Proctor leaves it so:
/// here it is heard again, or a test that sends one would wait for ever.
#[expect(unsafe_code, reason = "signal(2) is unsafe for handlers; this sets none")]
fn hear_hangups() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the default disposition runs no code of this process.
        unsafe { nix::sys::signal::signal(nix::sys::signal::SIGHUP, nix::sys::signal::SigHandler::SigDfl) }
            .expect("signal");
    });
}

impl World {
    /// A new one.
    pub fn new(user: User) -> Self {
        hear_hangups();
        let dir = public_dir();
        let world = Self { user, dir };
        for name in ["home", "state", "config"] {
            std::fs::create_dir(world.path(name)).expect("mkdir");
        }
        user.own(world.dir.path());
        world
    }

    /// A path below it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command as this user, in this world: `HOME` and the XDG directories are the world's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.user.command(program);
        command
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("LANG", "C.UTF-8");
        command
    }

    /// Writes a file, with its directories, that belongs to the user.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(&name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("mkdir");
        }
        std::fs::write(&path, content).expect("write");
        let top = name.as_ref().components().next().map(|c| self.path(c));
        self.user.own(top.as_deref().unwrap_or(&path));
        path
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A backend's leftovers with mode 000 would survive a plain removal by their owner.
        if CString::new(self.dir.path().as_os_str().as_bytes()).is_ok() {
            let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(self.dir.path()).status();
        }
    }
}
