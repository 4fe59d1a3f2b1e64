//! The private directory of one sandbox of level `landlock`: the copy of the work tree, a home, a place for temporary
//! files. It is the sandbox's own, nobody else may enter it, and it is removed with this value.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::private_dirs::{PrivateDir, PrivateDirError};
use super::state_dirs::StateDirs;

/// Root's areas: a sandbox's uid must be able to get there, which root's home does not let it.
pub const ROOT_AREAS: &str = "/var/lib/proctor/areas";

/// A private directory.
#[derive(Debug)]
pub struct Area {
    path: PathBuf,
    dir: OwnedFd,
    owner: Option<(u32, u32)>,
    /// Removes it.
    _private: PrivateDir,
}

impl Area {
    /// Where the areas of this user are.
    pub fn all(dirs: &StateDirs) -> PathBuf {
        if rustix::process::geteuid().is_root() { ROOT_AREAS.into() } else { dirs.state.join("areas") }
    }

    /// Makes a new one, owned by `owner` where that is another user.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    pub fn new(
        dirs: &StateDirs,
        run_id: &str,
        role: &str,
        owner: (u32, u32),
    ) -> Result<Self, PrivateDirError> {
        let all = Self::all(dirs);
        let root = rustix::process::geteuid().is_root();
        // The sandbox's uid goes through it, and lists nothing.
        let private = PrivateDir::create(&all, if root { 0o711 } else { 0o700 }, run_id, role, owner)?;
        let failed = |error| PrivateDirError::new(&all, error);
        let dir = private.descriptor().map_err(failed)?;
        // Landlock's rules and the watch on calls compare by real paths.
        let path = all.canonicalize().map_err(failed)?.join(run_id).join(role);
        Ok(Self { path, dir, owner: root.then_some(owner), _private: private })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another descriptor of it.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.dir.try_clone()
    }

    /// Whose it is, where that is another user.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    fn own(&self, fd: impl AsFd) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        Ok(())
    }

    /// Makes a directory of the sandbox's own in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> io::Result<(PathBuf, OwnedFd)> {
        rustix::fs::mkdirat(&self.dir, name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, name, flags, Mode::empty())?;
        self.own(&fd)?;
        Ok((self.path.join(name), fd))
    }

    /// Writes a file that the sandbox can read and not change: it stays its maker's, or has no write permission.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn file(&self, name: &str, mode: u32, content: &[u8]) -> io::Result<PathBuf> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        io::Write::write_all(&mut fs::File::from(fd.try_clone()?), content)?;
        self.own(&fd)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o555))?;
        Ok(self.path.join(name))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn an_area_is_private_and_is_gone_with_its_value() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = StateDirs { state: dir.path().join("state"), config: None, system: "/etc/proctor".into() };
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let name = format!("test-{}", std::process::id());
        let area = Area::new(&dirs, &name, "test", own).unwrap();
        let path = area.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let (tree, _) = area.directory("tree").unwrap();
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/c"), "x").unwrap();
        for closed in ["a/b", "a"] {
            fs::set_permissions(tree.join(closed), fs::Permissions::from_mode(0o0)).unwrap();
        }
        // Deeper than a path can be, and than descriptors would last.
        let mut at = rustix::fs::open(&tree, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "deep", rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
        }
        rustix::fs::mkdirat(&at, ".deep-0", Mode::empty()).unwrap();
        assert!(Area::new(&dirs, &name, "test", own).is_err(), "it is somebody's");
        drop(area);
        assert!(!path.exists());
    }
}
