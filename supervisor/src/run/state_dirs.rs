//! Proctor's own directories, and the check that nothing a sandbox shows overlaps them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::profile::HostEnv;

/// Where Proctor keeps what is its own.
#[derive(Debug, Clone)]
pub struct StateDirs {
    /// `$XDG_STATE_HOME/proctor`, else `$HOME/.local/state/proctor` (XDG base directory specification).
    pub state: PathBuf,
    /// The operator's configuration directory, where there can be one.
    pub config: Option<PathBuf>,
    /// The machine's configuration directory.
    pub system: PathBuf,
}

impl StateDirs {
    /// From the caller's environment; `None` without `$XDG_STATE_HOME` and `$HOME`.
    pub fn new(env: &HostEnv) -> Option<Self> {
        let xdg = env.get("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
        let state = xdg.or_else(|| env.home().map(|home| home.join(".local/state")))?.join("proctor");
        Some(Self { state, config: env.config_dir(), system: env.system_dir.clone() })
    }

    /// Evidence of a run that named no place.
    pub fn run(&self, run_id: &str) -> PathBuf {
        self.state.join("runs").join(run_id)
    }

    /// Everything that no sandbox may show.
    pub fn own(&self) -> Vec<PathBuf> {
        let mut all = vec![
            self.state.clone(),
            self.system.clone(),
            PathBuf::from("/run/proctor"),
            PathBuf::from("/var/lib/proctor"),
        ];
        all.extend(self.config.clone());
        all
    }
}

/// Locks of host uids in use (root only).
pub fn uid_locks() -> &'static Path {
    Path::new("/run/proctor/uids")
}

type Id = (u64, u64);

fn id(path: &Path) -> io::Result<Id> {
    fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

/// A path as the file system has it: where it really is, and which directories are above it. Looked at once and
/// compared as often as needed, because a plan compares every mount with every directory that must not be shown.
#[derive(Debug)]
pub struct Place {
    /// False where only a directory above it is there.
    exists: bool,
    /// The path without symbolic links; of the nearest directory that is there, where it is not.
    real: PathBuf,
    /// Device and inode of `real` and of every directory above it, in this order.
    chain: Vec<Id>,
}

impl Place {
    /// Looks at a path that may not be there yet.
    ///
    /// # Errors
    /// It cannot be looked at: the caller treats that as an overlap.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut at = path.to_owned();
        let mut exists = true;
        let real = loop {
            match fs::canonicalize(&at) {
                Ok(real) => break real,
                Err(e) if e.kind() == io::ErrorKind::NotFound && at.pop() => exists = false,
                Err(e) => return Err(e),
            }
        };
        let chain = real.ancestors().map(id).collect::<io::Result<_>>()?;
        Ok(Self { exists, real, chain })
    }

    /// The path without symbolic links, where it is there.
    pub fn real(&self) -> Option<&Path> {
        self.exists.then_some(self.real.as_path())
    }

    /// Device and inode of what is there.
    pub fn id(&self) -> Option<(u64, u64)> {
        self.chain.first().copied().filter(|_| self.exists)
    }

    /// True where one of the two is the other or lies below it, by device and inode, whatever links lead there. What
    /// is not there yet lies below the directory that is, and nothing lies below it.
    pub fn overlaps(&self, other: &Self) -> bool {
        let below = |low: &Self, high: &Self| {
            high.exists && high.chain.first().is_some_and(|h| low.chain.contains(h))
        };
        below(self, other) || below(other, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_seen_through_links_and_before_the_directory_exists() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir_all(dir.join("home/state/proctor")).unwrap();
        fs::create_dir_all(dir.join("home/other")).unwrap();
        std::os::unix::fs::symlink(dir.join("home"), dir.join("link")).unwrap();
        let own = dir.join("home/state/proctor");
        let overlap = |a: &Path, b: &Path| {
            let (a, b) = (Place::of(a).unwrap(), Place::of(b).unwrap());
            assert_eq!(a.overlaps(&b), b.overlaps(&a));
            a.overlaps(&b)
        };
        assert!(overlap(&dir.join("home"), &own));
        assert!(overlap(&dir.join("link/state"), &own));
        assert!(overlap(&own, &own));
        fs::create_dir(own.join("runs")).unwrap();
        assert!(overlap(&own.join("runs"), &own));
        assert!(!overlap(&dir.join("home/other"), &own));
        assert!(overlap(&dir.join("home/other"), &dir.join("home/other/not/yet")));
        assert!(!overlap(&dir.join("home/other"), &dir.join("home/not/yet")));
        assert_eq!(Place::of(&dir.join("nothing")).unwrap().real(), None);
        assert_eq!(
            Place::of(&dir.join("link/state")).unwrap().real(),
            Some(&*dir.canonicalize().unwrap().join("home/state"))
        );
        // A file is no directory: what is below it cannot be looked at, and that is no "not there yet".
        fs::write(dir.join("file"), "").unwrap();
        assert!(Place::of(&dir.join("file/below")).is_err());
    }
}
