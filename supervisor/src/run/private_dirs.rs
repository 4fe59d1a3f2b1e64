//! Directories on disk that are one sandbox's own: for the layers of its overlays, or for its areas at level `landlock`.
//! Made where nobody else can write, used by descriptor, and removed with all that is in them once the sandbox is dead.
//! What runs that were killed left behind is removed by the next one. Measuring them is `disk_watch`'s work.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use proctor_sandbox::spec::Identity;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, ResolveFlags, flock, fstat, unlinkat};
use rustix::io::Errno;

use crate::evidence::is_run_id;

/// Levels of directories that are held open at once; what is deeper is moved up first.
const DEPTH: usize = 100;
/// Beneath, through no link, and not into what somebody mounted there.
const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
/// How often a directory that fills up again is emptied.
const PASSES: usize = 10_000;

/// Why there is no directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot make private directories in {}: {error}; check that directory's owner, mode and free space, or move Proctor's state with XDG_STATE_HOME", dir.display())]
pub struct PrivateDirError {
    /// Where.
    dir: PathBuf,
    /// Why.
    error: io::Error,
}

impl PrivateDirError {
    pub(super) fn new(dir: &Path, error: io::Error) -> Self {
        Self { dir: dir.to_owned(), error }
    }
}

/// A sandbox's directory; removed when this is dropped, which must be after the sandbox is dead.
#[derive(Debug)]
pub struct PrivateDir {
    all: OwnedFd,
    /// Holds a shared lock: as long as it is held the run is not over.
    run: OwnedFd,
    run_name: CString,
    dir: OwnedFd,
    name: CString,
}

impl PrivateDir {
    /// Makes `layers/RUN_ID/ROLE` below the state directory, for the host uid of `identity`.
    ///
    /// # Errors
    /// It cannot be made, or others could enter it.
    pub fn for_layers(
        state: &Path,
        run_id: &str,
        role: &str,
        identity: Identity,
    ) -> Result<Self, PrivateDirError> {
        Self::create(&state.join("layers"), 0o700, run_id, role, (identity.host_uid, identity.host_gid))
    }

    /// Makes `RUN_ID/ROLE` below `place`, which gets the permission bits `mode` where it is made, and must not have more. As
    /// root it belongs to `owner`: nothing that a sandbox leaves there is ever root's, whatever its mode.
    ///
    /// # Errors
    /// It cannot be made, or others could do more than `mode` says.
    pub fn create(
        place: &Path,
        mode: u32,
        run_id: &str,
        role: &str,
        owner: (u32, u32),
    ) -> Result<Self, PrivateDirError> {
        Self::make(place, mode, run_id, role, owner)
            .map_err(|error| PrivateDirError { dir: place.to_owned(), error })
    }

    fn make(path: &Path, mode: u32, run_id: &str, role: &str, owner: (u32, u32)) -> io::Result<Self> {
        let run_name = CString::new(run_id)?;
        let name = CString::new(role)?;
        fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        let all = open_all(path, mode)?;
        // Between making a run's directory and locking it nobody may take it for a dead run's.
        flock(&all, FlockOperation::LockExclusive)?;
        match rustix::fs::mkdirat(&all, &run_name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let run = open_dir(all.as_fd(), &run_name)?;
        flock(&run, FlockOperation::NonBlockingLockShared)?;
        let (dead, _) = dead_runs(&all, &run_name)?;
        flock(&all, FlockOperation::Unlock)?;
        for (name, dir) in dead {
            // What cannot be removed now is tried again by the next run; this one does not need it gone.
            if let Err(error) = remove_all(all.as_fd(), &name, dir.as_fd()) {
                tracing::warn!(%error, "private directories of a run that was killed cannot be removed");
            }
        }
        rustix::fs::mkdirat(&run, &name, Mode::from_raw_mode(0o700))?;
        let dir = open_dir(run.as_fd(), &name)?;
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
            rustix::fs::fchown(&dir, Some(uid), Some(gid))?;
        }
        Ok(Self { all, run, run_name, dir, name })
    }

    /// Another descriptor of the directory.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.dir.try_clone()
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        let removed = empty(self.dir.as_fd()).and_then(|()| remove_dir(self.run.as_fd(), &self.name));
        if let Err(error) = removed {
            tracing::warn!(%error, "the private directory of a sandbox cannot be removed; the next run tries again");
            return;
        }
        // Another sandbox of this run may have its own there.
        let _ = remove_dir(self.all.as_fd(), &self.run_name);
    }
}

/// The directories of all runs; nobody but its owner may have been able to put something there.
fn open_all(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let all = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = fstat(&all)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 & !mode != 0 {
        return Err(io::Error::other("it is not a directory that its owner alone can enter"));
    }
    Ok(all)
}

/// What runs that are over left in one place; nobody else clears it up as long as this value lives.
#[derive(Debug)]
pub struct Leftovers {
    all: OwnedFd,
    dead: Vec<(CString, OwnedFd)>,
    /// Directories whose runs live.
    pub living: usize,
}

impl Leftovers {
    /// Looks at a place as [`PrivateDir::create`] makes it; `None` where there is none.
    ///
    /// # Errors
    /// It is not Proctor's own, or cannot be looked at.
    pub fn of(place: &Path, mode: u32) -> io::Result<Option<Self>> {
        let all = match open_all(place, mode) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        // A directory that was just made is locked by its run before this is let go of.
        flock(&all, FlockOperation::LockExclusive)?;
        let (dead, living) = dead_runs(&all, c"")?;
        flock(&all, FlockOperation::Unlock)?;
        Ok(Some(Self { all, dead, living }))
    }

    /// The runs' names.
    pub fn names(&self) -> Vec<CString> {
        self.dead.iter().map(|(name, _)| name.clone()).collect()
    }

    /// What one of them takes.
    pub fn size(&self, name: &CStr) -> Size {
        let found = self.dead.iter().find(|(one, _)| **one == *name);
        found.map_or_else(Size::default, |(_, dir)| Size::of(dir.as_fd()))
    }

    /// Removes one of them with all that is in it.
    ///
    /// # Errors
    /// Something of it is left.
    pub fn remove(&self, name: &CStr) -> io::Result<()> {
        let found = self.dead.iter().find(|(one, _)| **one == *name);
        found.map_or(Ok(()), |(name, dir)| remove_all(self.all.as_fd(), name, dir.as_fd()))
    }
}

/// Empties an open directory and removes it.
///
/// # Errors
/// Something of it is left.
pub fn remove_all(parent: BorrowedFd<'_>, name: &CStr, dir: BorrowedFd<'_>) -> io::Result<()> {
    empty(dir)?;
    match remove_dir(parent, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What a directory takes, without itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes on disk.
    pub bytes: u64,
    /// Something could not be looked into: there may be more.
    pub more: bool,
}

impl Size {
    /// Walks without changing anything, and not without end.
    pub fn of(dir: BorrowedFd<'_>) -> Self {
        let mut size = Self::default();
        let mut levels: Vec<Dir> = Vec::new();
        match Dir::read_from(dir) {
            Ok(top) => levels.push(top),
            Err(_) => size.more = true,
        }
        while let Some(here) = levels.last_mut() {
            let Some(entry) = here.next() else {
                levels.pop();
                continue;
            };
            let looked = entry.and_then(|entry| {
                let name = entry.file_name().to_owned();
                let stat = rustix::fs::statat(here.fd()?, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok((name, stat))
            });
            let Ok((name, stat)) = looked else {
                size.more = true;
                continue;
            };
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            size.bytes = size.bytes.saturating_add(stat.st_blocks.unsigned_abs().saturating_mul(512));
            if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
                continue;
            }
            let depth = levels.len();
            let opened = levels.last().map(|here| here.fd().and_then(|here| look_into(here, &name)));
            match opened {
                Some(Ok(dir)) if depth < DEPTH => levels.push(dir),
                _ => size.more = true,
            }
        }
        size
    }
}

fn look_into(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Dir::new(rustix::fs::openat2(parent, name, flags, Mode::empty(), WITHIN)?)
}

/// Directories of runs of which nothing is alive, locked so that nobody else removes them too; and how many others
/// there are.
fn dead_runs(all: &OwnedFd, own: &CStr) -> io::Result<(Vec<(CString, OwnedFd)>, usize)> {
    let (mut dead, mut living) = (Vec::new(), 0);
    for entry in Dir::read_from(all)? {
        let entry = entry?;
        let name = entry.file_name();
        // Only what is named as a run is, or as `doctor` names its own.
        let of_a_run = name.to_str().is_ok_and(|name| is_run_id(name) || is_doctors(name));
        if !of_a_run || name == own {
            continue;
        }
        let Ok(dir) = open_dir(all.as_fd(), name) else { continue };
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            // Another may have cleared up, and a run made its own of this name.
            Ok(()) if leads_to(all.as_fd(), name, dir.as_fd())? => dead.push((name.to_owned(), dir)),
            Ok(()) => {}
            Err(_) => living += 1,
        }
    }
    Ok((dead, living))
}

/// Whether a name still leads to a directory that was opened by it.
pub(crate) fn leads_to(parent: BorrowedFd<'_>, name: &CStr, dir: BorrowedFd<'_>) -> io::Result<bool> {
    let own = fstat(dir)?;
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_doctors(name: &str) -> bool {
    let pid = name.strip_prefix("doctor-");
    pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
}

fn remove_dir(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Opens a directory for reading; its owner gets all rights on it where they are missing (overlayfs makes `work/work`
/// with mode 000, and a backend makes what it likes).
fn open_dir(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let open = |flags: OFlags| {
        let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(parent, name, flags, Mode::empty(), WITHIN)
    };
    let dir = match open(OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            let path = open(OFlags::PATH)?;
            rustix::fs::chmod(format!("/proc/self/fd/{}", path.as_raw_fd()), Mode::RWXU)?;
            open(OFlags::RDONLY)?
        }
        other => other?,
    };
    Ok(dir)
}

/// Removes everything below a directory in which nothing is alive, however deep it is.
fn empty(top: BorrowedFd<'_>) -> io::Result<()> {
    let mut moved = 0;
    for _ in 0..PASSES {
        if !pass(top, &mut moved)? {
            return Ok(());
        }
    }
    Err(io::Error::other("it fills up faster than it can be emptied"))
}

/// One walk; true where another one is needed.
fn pass(top: BorrowedFd<'_>, moved: &mut u64) -> io::Result<bool> {
    let mut again = false;
    let mut levels = vec![(Dir::read_from(top)?, CString::default())];
    loop {
        let depth = levels.len();
        let Some((here, _)) = levels.last_mut() else { return Ok(again) };
        let Some(entry) = here.next() else {
            let done = levels.pop();
            if let (Some((parent, _)), Some((_, name))) = (levels.last(), done) {
                match remove_dir(parent.fd()?, &name) {
                    Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => again = true,
                    other => other?,
                }
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(here.fd()?, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(e) => return Err(e.into()),
        }
        let dir = open_dir(here.fd()?, name)?;
        if fstat(&dir)?.st_mode & 0o700 != 0o700 {
            rustix::fs::fchmod(&dir, Mode::RWXU)?;
        }
        if depth < DEPTH {
            levels.push((Dir::new(dir)?, name.to_owned()));
            continue;
        }
        again = true;
        loop {
            *moved += 1;
            let free = format!("deep-{moved}");
            match rustix::fs::renameat(here.fd()?, name, top, free.as_str()) {
                Ok(()) => break,
                Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn identity() -> Identity {
        let own = rustix::process::geteuid().as_raw();
        let id = if own == 0 { 123_456 } else { own };
        Identity { inside_uid: 1000, inside_gid: 1000, host_uid: id, host_gid: id }
    }

    #[test]
    fn a_layer_is_private_and_goes_with_whatever_is_in_it() {
        let state = tempfile::tempdir().unwrap();
        let layers = state.path().join("layers");
        let backend = PrivateDir::for_layers(state.path(), "r-1", "backend", identity()).unwrap();
        let test = PrivateDir::for_layers(state.path(), "r-1", "test", identity()).unwrap();
        assert_eq!(fs::metadata(&layers).unwrap().permissions().mode() & 0o777, 0o700);
        let dir = layers.join("r-1/backend");
        fs::create_dir_all(dir.join("tree/work/work")).unwrap();
        fs::write(dir.join("tree/work/work/file"), "x").unwrap();
        fs::write(state.path().join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(state.path().join("kept"), dir.join("tree/link")).unwrap();
        fs::set_permissions(dir.join("tree/work/work"), fs::Permissions::from_mode(0o000)).unwrap();
        // Deeper than a path can be long, which a backend makes by going there step by step.
        let mut at = backend.descriptor().unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "deeper", Mode::from_raw_mode(0o755)).unwrap();
            at = open_dir(at.as_fd(), c"deeper").unwrap();
        }
        drop(backend);
        assert!(!dir.exists() && layers.join("r-1/test").exists());
        drop(test);
        assert_eq!(fs::read_dir(&layers).unwrap().count(), 0);
        assert!(state.path().join("kept").exists(), "a link was followed");
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_a_living_one_has_is_not() {
        let state = tempfile::tempdir().unwrap();
        let living = PrivateDir::for_layers(state.path(), "r-living", "backend", identity()).unwrap();
        let dead = state.path().join("layers/r-20260601T120000-abcdef/backend/tree");
        fs::create_dir_all(&dead).unwrap();
        for other in ["r-20260601T120000-abcde", "r-mine", "doctor-x"] {
            fs::create_dir(state.path().join("layers").join(other)).unwrap();
        }
        let next = PrivateDir::for_layers(state.path(), "r-next", "backend", identity()).unwrap();
        assert!(!state.path().join("layers/r-20260601T120000-abcdef").exists());
        for other in ["r-20260601T120000-abcde", "r-mine", "doctor-x"] {
            assert!(state.path().join("layers").join(other).exists(), "{other} is no run's");
        }
        assert!(state.path().join("layers/r-living/backend").exists());
        drop((living, next));
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let layers = state.path().join("layers");
        fs::create_dir(&layers).unwrap();
        fs::set_permissions(&layers, fs::Permissions::from_mode(0o755)).unwrap();
        let error =
            PrivateDir::for_layers(state.path(), "r-1", "backend", identity()).unwrap_err().to_string();
        assert!(error.contains("its owner alone can enter") && error.contains("XDG_STATE_HOME"), "{error}");
    }
}
