//! Evidence in the state directory: removed where it is asked for by age, told of where it is a dead run's without a
//! report. A run holds a lock on its own as long as it lives.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, ResolveFlags, flock};

use super::{Cleared, Item, Kind, Options};
use crate::evidence::{HTML, MARKDOWN, REPORT, is_run_id};
use crate::run::private_dirs::{Size, leads_to, remove_all};
use crate::run::state_dirs::owned_alone;

const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

pub(super) fn clear(place: &Path, options: &Options, now: SystemTime, cleared: &mut Cleared) {
    if let Err(error) = owned_alone(place) {
        return cleared.left(place, error);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let all = match rustix::fs::open(place, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return,
        Err(error) => return cleared.left(place, error),
        Ok(all) => File::from(all),
    };
    match all.metadata() {
        Ok(meta) if meta.uid() == rustix::process::geteuid().as_raw() => {}
        Ok(_) => return cleared.left(place, "it belongs to somebody else"),
        Err(error) => return cleared.left(place, error),
    }
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
        if name.to_str().is_ok_and(is_run_id)
            && let Err(error) = one(place, &all, name, options, now, cleared)
        {
            cleared.left(&place.join(name.to_string_lossy().as_ref()), error);
        }
    }
}

fn one(
    place: &Path,
    all: &File,
    name: &CStr,
    options: &Options,
    now: SystemTime,
    cleared: &mut Cleared,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::openat2(all, name, flags, Mode::empty(), WITHIN) {
        // Removed meanwhile, or no directory: nothing that a run made.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(()),
        other => other?,
    };
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            cleared.living += 1;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    let finished = is_finished(&dir)?;
    let (kind, wanted) = if finished {
        (Kind::Evidence, options.evidence_older_than)
    } else {
        (Kind::UnfinishedEvidence, options.unfinished_older_than)
    };
    let old = wanted.is_some_and(|older_than| age(&dir, now).is_ok_and(|age| age >= older_than));
    // Looking takes its time, and a run that begins in it must not wait so long.
    flock(&dir, FlockOperation::Unlock)?;
    let path = place.join(name.to_string_lossy().as_ref());
    let item = Item::new(kind, &path, Size::of(dir.as_fd()));
    let Some(older_than) = wanted.filter(|_| old) else {
        if wanted.is_some() {
            // An age that cannot be told is told of.
            age(&dir, now)?;
        }
        if !finished {
            cleared.kept.push(item);
        }
        return Ok(());
    };
    if !cleared.dry_run {
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                cleared.living += 1;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    // Somebody else may have removed it, and a run have made another of its name.
    if !leads_to(all.as_fd(), name, dir.as_fd())? {
        return Ok(());
    }
    // Or somebody has begun in it, or ended.
    if is_finished(&dir)? != finished || age(&dir, now)? < older_than {
        cleared.living += 1;
        return Ok(());
    }
    cleared.take(item, &path, || {
        // What is left of a removal that is killed is no report: the renderings first, which count for nothing without it.
        for name in [MARKDOWN, HTML, REPORT] {
            match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        remove_all(all.as_fd(), name, dir.as_fd())
    });
    Ok(())
}

fn is_finished(dir: &impl AsFd) -> io::Result<bool> {
    match rustix::fs::statat(dir, REPORT, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How long ago something last changed in it. A time in the future is no age.
fn age(dir: &impl AsFd, now: SystemTime) -> io::Result<Duration> {
    let mut last = File::from(dir.as_fd().try_clone_to_owned()?).metadata()?.modified()?;
    for entry in Dir::read_from(dir)? {
        let stat = rustix::fs::statat(dir, entry?.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        let at = Duration::from_secs(stat.st_mtime.unsigned_abs());
        last = last.max(SystemTime::UNIX_EPOCH + at);
    }
    Ok(now.duration_since(last).unwrap_or_default())
}
