//! Scratch directories of `proctor matrix` that was killed: in the directory for temporary files, which is everybody's, so
//! that only what is this user's own, private, marked as scratch and locked by nobody is touched.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags, flock};
use rustix::io::Errno;

use super::{Cleared, Item, Kind};
use crate::matrix::scratch::{MARK, PREFIX};
use crate::run::private_dirs::{Size, remove_all};
use crate::run::state_dirs::owned_alone;

const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

pub(super) fn clear(place: &Path, cleared: &mut Cleared) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let all = match rustix::fs::open(place, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::ACCESS) => return,
        Err(error) => return cleared.left(place, error),
        Ok(all) => File::from(all),
    };
    let entries = match Dir::read_from(&all) {
        Ok(entries) => entries,
        Err(error) => return cleared.left(place, error),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return cleared.left(place, error),
        };
        let name = entry.file_name();
        if !name.to_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let path = place.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        if let Err(error) = one(place, &all, name, &path, cleared) {
            cleared.left(&path, error);
        }
    }
}

fn one(
    place: &Path,
    all: &File,
    name: &std::ffi::CStr,
    path: &Path,
    cleared: &mut Cleared,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::openat2(all, name, flags, Mode::empty(), WITHIN) {
        // Removed meanwhile, no directory, or somebody else's.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::XDEV) => return Ok(()),
        other => File::from(other?),
    };
    let meta = dir.metadata()?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return Ok(());
    }
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            cleared.living += 1;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    if !is_scratch(&dir)? {
        return Ok(());
    }
    owned_alone(place)?;
    let item = Item::new(Kind::Matrix, path, Size::of(dir.as_fd()));
    cleared.take(item, path, || remove_all(all.as_fd(), name, dir.as_fd()));
    Ok(())
}

/// Whether it is marked, or was ended before it could be: then nothing is in it.
fn is_scratch(dir: &File) -> io::Result<bool> {
    match rustix::fs::statat(dir, MARK, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => return Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    for entry in Dir::read_from(dir)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
