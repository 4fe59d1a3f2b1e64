//! Proctor's own directories, and the check that nothing a sandbox shows overlaps them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

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

/// Most symbolic links on the way to one place, as the kernel has it.
const LINKS: usize = 40;

/// Fails where somebody else than root and this user could lead `path` somewhere else: where a directory on the way to it,
/// or itself, belongs to another or can be written by others. Sticky directories let nobody touch what is not theirs: there
/// it is whatever comes next that must be root's or this user's. Links are followed where nobody else could have made them.
/// What is not there leads nowhere.
///
/// # Errors
/// It names the directory and says what to do.
pub fn owned_alone(path: &Path) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    // A group of this user's own, as many systems give to each, is nobody else.
    let group = rustix::process::getegid().as_raw();
    let refused = |at: &Path, what: &str| {
        let at = at.display();
        io::Error::other(format!(
            "{at} {what}, who could lead Proctor to other places through it: nothing is removed there; change its owner or mode, or move Proctor's state with XDG_STATE_HOME"
        ))
    };
    let mut at = PathBuf::from("/");
    let mut rest: Vec<std::ffi::OsString> = reversed(path);
    let mut links = 0;
    loop {
        let meta = match fs::symlink_metadata(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if meta.uid() != 0 && meta.uid() != own {
            return Err(refused(&at, &format!("belongs to uid {}", meta.uid())));
        }
        if meta.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = fs::read_link(&at)?;
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(reversed(&target));
        } else {
            let others = if meta.gid() == group && meta.uid() == own { 0o002 } else { 0o022 };
            if meta.mode() & others != 0 && meta.mode() & 0o1000 == 0 {
                return Err(refused(&at, "can be written by others"));
            }
        }
        match rest.pop() {
            None => return Ok(()),
            Some(name) if name == ".." => drop(at.pop()),
            Some(name) => at.push(name),
        }
    }
}

/// The names in a path, the first one last.
fn reversed(path: &Path) -> Vec<std::ffi::OsString> {
    let name = |part: std::path::Component<'_>| match part {
        std::path::Component::RootDir | std::path::Component::Prefix(_) | std::path::Component::CurDir => {
            None
        }
        other => Some(other.as_os_str().to_owned()),
    };
    let mut names: Vec<_> = path.components().filter_map(name).collect();
    names.reverse();
    names
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
    fn a_place_that_others_could_lead_elsewhere_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        fs::create_dir_all(top.join("open/state")).unwrap();
        fs::create_dir_all(top.join("real/state")).unwrap();
        std::os::unix::fs::symlink("real", top.join("link")).unwrap();
        std::os::unix::fs::symlink("loop", top.join("loop")).unwrap();
        for good in ["real/state", "link/state", "link/../real/state", "real/not/yet"] {
            owned_alone(&top.join(good)).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        assert!(owned_alone(&top.join("loop")).is_err());
        let mode = |bits| fs::set_permissions(top.join("open"), fs::Permissions::from_mode(bits)).unwrap();
        for bits in [0o777, 0o757] {
            mode(bits);
            let error = owned_alone(&top.join("open/state")).unwrap_err().to_string();
            let named = format!("{} can be written by others", top.join("open").display());
            assert!(error.starts_with(&named) && error.contains("XDG_STATE_HOME"), "{error}");
            std::os::unix::fs::symlink("../open/state", top.join("real/out")).unwrap();
            assert!(owned_alone(&top.join("real/out")).is_err(), "through a link");
            fs::remove_file(top.join("real/out")).unwrap();
        }
        mode(0o1777);
        owned_alone(&top.join("open/state")).unwrap();
        if rustix::process::geteuid().is_root() {
            let theirs = Some(rustix::fs::Uid::from_raw(12_345));
            for (what, named) in [("open/state", "open/state"), ("link", "link")] {
                rustix::fs::chownat(
                    rustix::fs::CWD,
                    top.join(what),
                    theirs,
                    None,
                    rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
                )
                .unwrap();
                let error = owned_alone(&top.join(what).join("below")).unwrap_err().to_string();
                let named = format!("{} belongs to uid 12345", top.join(named).display());
                assert!(error.starts_with(&named), "{error}");
            }
        }
    }

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
