//! Where the rows of a matrix are run when nobody asked for them to be kept: a temporary directory, locked as long as this
//! process lives, so that `gc` knows a dead one's and lets a living one's be.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::run::identity::stands;

/// How its name begins, in the directory for temporary files.
pub const PREFIX: &str = "proctor-matrix-";

/// What tells it from a directory that only has such a name: `--keep`, somebody's own, an older version's.
pub const MARK: &str = ".proctor-matrix-scratch";

/// How often one is made anew that `gc` took before it was locked.
const TRIES: u32 = 10;

/// A temporary directory; removed with this value.
#[derive(Debug)]
pub struct Scratch {
    real: PathBuf,
    _dir: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes one.
    ///
    /// # Errors
    /// It cannot be made or locked.
    pub fn new() -> io::Result<Self> {
        for _ in 0..TRIES {
            // Nobody else's business, whatever the umask is.
            let private = Permissions::from_mode(0o700);
            let dir = tempfile::Builder::new().prefix(PREFIX).permissions(private).tempdir()?;
            let lock = match File::open(dir.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            match lock.try_lock_shared() {
                Ok(()) => {}
                Err(std::fs::TryLockError::WouldBlock) => continue,
                Err(std::fs::TryLockError::Error(error)) => return Err(error),
            }
            if stands(&lock, dir.path()) {
                File::create_new(dir.path().join(MARK))?;
                return Ok(Self { real: dir.path().canonicalize()?, _dir: dir, _lock: lock });
            }
        }
        Err(io::Error::other("it is removed again and again"))
    }

    /// Its path, without links.
    pub fn path(&self) -> &Path {
        &self.real
    }
}
