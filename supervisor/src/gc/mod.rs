//! Removes what runs that were killed left: private directories, cgroups, locks of host uids, and, only where asked for,
//! evidence; and what a matrix that was killed left. Whether a run lives is told by locks that the kernel lets go of with it, never by a pid or a time.
//!
//! Everything is reached by descriptor from Proctor's own directories, no link is followed and no mount entered. Nothing
//! here ends a process or prints.

mod cgroups;
mod evidence;
mod scratch;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use serde::Serialize;

use crate::report::escape;
use crate::run::area::Area;
use crate::run::identity;
use crate::run::private_dirs::{Leftovers, Size};
use crate::run::state_dirs::{StateDirs, owned_alone, uid_locks};

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Say what would go, and remove nothing.
    pub dry_run: bool,
    /// Evidence without a report goes where nothing changed in it for so long.
    pub unfinished_older_than: Option<Duration>,
    /// Evidence with a report likewise.
    pub evidence_older_than: Option<Duration>,
}

/// What kind of thing was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Layers of overlays on disk.
    Layers,
    /// A copy of a work tree, with home and temporary files, of level `landlock`.
    Area,
    /// A cgroup.
    Cgroup,
    /// The lock of a host uid.
    UidLock,
    /// What the rows of a matrix were run in.
    Matrix,
    /// Evidence without a report.
    UnfinishedEvidence,
    /// Evidence with one.
    Evidence,
}

impl Kind {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Layers => "layers on disk",
            Self::Area => "private copy",
            Self::Cgroup => "cgroup",
            Self::UidLock => "lock of a host uid",
            Self::Matrix => "scratch of a matrix",
            Self::UnfinishedEvidence => "unfinished evidence",
            Self::Evidence => "evidence",
        }
    }
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Of which kind.
    pub kind: Kind,
    /// Where; safe to print.
    pub path: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Something of it could not be looked into: it may take more.
    pub at_least: bool,
}

impl Item {
    fn new(kind: Kind, path: &Path, size: Size) -> Self {
        let path = escape::terminal_bytes(path.as_os_str().as_encoded_bytes());
        Self { kind, path, bytes: size.bytes, at_least: size.more }
    }
}

/// Something that is to go and did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Where; safe to print.
    pub path: String,
    /// Why; safe to print.
    pub why: String,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cleared {
    /// Nothing was removed.
    pub dry_run: bool,
    /// What went, or would go.
    pub removed: Vec<Item>,
    /// Evidence of dead runs that stays because nobody asked for it to go.
    pub kept: Vec<Item>,
    /// What could not be removed.
    pub left: Vec<Left>,
    /// Things of living runs, which were not touched.
    pub living: usize,
}

impl Cleared {
    fn left(&mut self, path: &Path, why: impl std::fmt::Display) {
        let path = escape::terminal_bytes(path.as_os_str().as_encoded_bytes());
        self.left.push(Left { path, why: escape::terminal(&why.to_string()) });
    }

    /// Takes a thing away by `remove`, unless that is only to be told.
    fn take(&mut self, item: Item, path: &Path, remove: impl FnOnce() -> io::Result<()>) {
        match if self.dry_run { Ok(()) } else { remove() } {
            Ok(()) => self.removed.push(item),
            Err(error) => self.left(path, error),
        }
    }
}

/// Clears up.
pub fn clear(dirs: &StateDirs, options: &Options) -> Cleared {
    let mut cleared = Cleared { dry_run: options.dry_run, ..Cleared::default() };
    private_dirs(Kind::Layers, &dirs.state.join("layers"), 0o700, &mut cleared);
    let root = rustix::process::geteuid().is_root();
    private_dirs(Kind::Area, &Area::all(dirs), if root { 0o711 } else { 0o700 }, &mut cleared);
    cgroups::clear(Path::new("/sys/fs/cgroup"), &mut cleared);
    if root {
        locks(uid_locks(), &mut cleared);
    }
    // Where it is said, and where it mostly is: the one that was killed may have been told of another place.
    let mut places: Vec<PathBuf> = Vec::new();
    for place in [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")] {
        let real = place.canonicalize().unwrap_or(place);
        if !places.contains(&real) {
            places.push(real);
        }
    }
    places.iter().for_each(|place| scratch::clear(place, &mut cleared));
    evidence::clear(&dirs.state.join("runs"), options, SystemTime::now(), &mut cleared);
    cleared
}

fn private_dirs(kind: Kind, place: &Path, mode: u32, cleared: &mut Cleared) {
    if let Err(error) = owned_alone(place) {
        return cleared.left(place, error);
    }
    let leftovers = match Leftovers::of(place, mode) {
        Ok(Some(leftovers)) => leftovers,
        Ok(None) => return,
        Err(error) => return cleared.left(place, error),
    };
    cleared.living += leftovers.living;
    for name in leftovers.names() {
        use std::os::unix::ffi::OsStrExt;
        let path = place.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let item = Item::new(kind, &path, leftovers.size(&name));
        cleared.take(item, &path, || leftovers.remove(&name));
    }
}

/// Locks that nobody holds. Whoever locks one makes sure afterwards that it still stands at its name.
fn locks(place: &Path, cleared: &mut Cleared) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(place, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return,
        Err(error) => return cleared.left(place, error),
        Ok(dir) => File::from(dir),
    };
    match dir.metadata() {
        Ok(meta) if meta.uid() == 0 && meta.mode() & 0o022 == 0 => {}
        Ok(_) => return cleared.left(place, "it is not a directory that root alone can write"),
        Err(error) => return cleared.left(place, error),
    }
    let entries = match rustix::fs::Dir::read_from(&dir) {
        Ok(entries) => entries,
        Err(error) => return cleared.left(place, error),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return cleared.left(place, error),
        };
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.parse::<u32>().is_err() {
            continue;
        }
        let path: PathBuf = place.join(name);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let lock = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
            Ok(lock) => File::from(lock),
            // Removed meanwhile, or no file: none that a run made.
            Err(
                rustix::io::Errno::NOENT
                | rustix::io::Errno::LOOP
                | rustix::io::Errno::ISDIR
                | rustix::io::Errno::NXIO,
            ) => continue,
            Err(error) => {
                cleared.left(&path, error);
                continue;
            }
        };
        if !lock.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0 && meta.nlink() == 1) {
            continue;
        }
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                cleared.living += 1;
                continue;
            }
            Err(error) => {
                cleared.left(&path, error);
                continue;
            }
        }
        if !identity::stands(&lock, &path) {
            continue;
        }
        let item = Item::new(Kind::UidLock, &path, Size::default());
        cleared.take(item, &path, || Ok(rustix::fs::unlinkat(&dir, name, AtFlags::empty())?));
    }
}

#[cfg(test)]
mod tests;
