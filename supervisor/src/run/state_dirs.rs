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
        let mut all = vec![self.state.clone(), self.system.clone(), PathBuf::from("/run/proctor")];
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

/// Device and inode of a path and of every directory above it; of the nearest that exists, where it does not.
fn chain(path: &Path) -> io::Result<(bool, Vec<Id>)> {
    let mut at = path.to_owned();
    let mut exists = true;
    let real = loop {
        match fs::canonicalize(&at) {
            Ok(real) => break real,
            Err(e) if e.kind() == io::ErrorKind::NotFound && at.pop() => exists = false,
            Err(e) => return Err(e),
        }
    };
    Ok((exists, real.ancestors().map(id).collect::<io::Result<_>>()?))
}

/// True where one of the two paths is the other or lies below it, by device and inode, whatever links lead there.
///
/// # Errors
/// One of them cannot be looked at: the caller treats that as an overlap.
pub fn overlap(shown: &Path, own: &Path) -> io::Result<bool> {
    let shown_id = id(shown)?;
    let (own_exists, own_chain) = chain(own)?;
    if own_chain.contains(&shown_id) {
        return Ok(true);
    }
    let (_, shown_chain) = chain(shown)?;
    Ok(own_exists && own_chain.first().is_some_and(|own| shown_chain.contains(own)))
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
        assert!(overlap(&dir.join("home"), &own).unwrap());
        assert!(overlap(&dir.join("link/state"), &own).unwrap());
        assert!(overlap(&own, &own).unwrap());
        fs::create_dir(own.join("runs")).unwrap();
        assert!(overlap(&own.join("runs"), &own).unwrap());
        assert!(!overlap(&dir.join("home/other"), &own).unwrap());
        assert!(overlap(&dir.join("home/other"), &dir.join("home/other/not/yet")).unwrap());
        assert!(!overlap(&dir.join("home/other"), &dir.join("home/not/yet")).unwrap());
        assert!(overlap(&dir.join("nothing"), &own).is_err());
    }
}
