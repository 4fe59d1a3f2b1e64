//! How large what a living sandbox writes to a disk is, where nothing limits it there: its overlays' layers that do not
//! lie in memory, and the copy that level `landlock` works on. Looked at from outside, in steps, by `watch`'s thread. It
//! only measures; stopping the sandbox is `supervise`'s work.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fstatvfs, statat};
use rustix::io::Errno;

/// The longest that one step takes of the watching thread, which looks at other things as well: how long a whole look
/// takes is up to the backend.
const STEP: Duration = Duration::from_millis(25);
/// Levels of directories that are walked.
const DEPTH: usize = 250;
/// The most that is kept free on the disk for others.
const RESERVE: u64 = 512 << 20;

/// What is more than it may be, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// So many bytes.
    Bytes(u64),
    /// So many files.
    Files(u64),
    /// What is left on that disk, and what is kept there for others.
    FreeSpace {
        /// Bytes left.
        free: u64,
        /// Bytes kept.
        kept: u64,
    },
}

/// What of the directory counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// The upper directories of overlays: the work directories beside them hold what is on its way there.
    Layers,
    /// Everything.
    All,
}

/// A watch over what one sandbox writes to a disk.
#[derive(Debug)]
pub struct DiskWatch {
    dir: OwnedFd,
    counted: Counted,
    bytes: u64,
    files: u64,
    /// Bytes and files that were there before the sandbox.
    before: (u64, u64),
    free_at_start: u64,
    reserve: u64,
    seen: AtomicU64,
}

impl DiskWatch {
    /// Over the layers in `dir`, which may take so many bytes in so many files.
    ///
    /// # Errors
    /// The file system does not say how much is free.
    pub fn layers(dir: OwnedFd, bytes: u64, files: u64) -> io::Result<Self> {
        Self::new(dir, Counted::Layers, bytes, files)
    }

    /// Over everything below `dir`, to which so many bytes in so many files may be added.
    ///
    /// # Errors
    /// The file system does not say how much is free.
    pub fn area(dir: OwnedFd, bytes: u64, files: u64) -> io::Result<Self> {
        let mut watch = Self::new(dir, Counted::All, u64::MAX, u64::MAX)?;
        let mut walk = Walk::new(&watch);
        walk.go_on(&watch, None);
        watch.before = (walk.bytes, walk.files);
        (watch.bytes, watch.files) = (bytes, files);
        Ok(watch)
    }

    fn new(dir: OwnedFd, counted: Counted, bytes: u64, files: u64) -> io::Result<Self> {
        let free_at_start = free(&dir)?;
        // A quarter, so that a disk that was nearly full before does not stop everything.
        let reserve = RESERVE.min(free_at_start / 4);
        let seen = AtomicU64::new(0);
        Ok(Self { dir, counted, bytes, files, before: (0, 0), free_at_start, reserve, seen })
    }

    /// Bytes as last seen.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Looks at everything once; `also` bytes are in use elsewhere under the same limit.
    pub fn look(&self, also: u64) -> Option<Excess> {
        let mut walk = Walk::new(self);
        walk.go_on(self, None);
        self.judge(&walk, also)
    }

    /// Goes on with a walk, or begins one, for a short while. What is too much already is told before its end.
    pub(super) fn step(&self, walk: &mut Option<Walk>, also: u64) -> Option<Excess> {
        let mut now = walk.take().unwrap_or_else(|| Walk::new(self));
        let done = now.go_on(self, Some(Instant::now() + STEP));
        let excess = self.judge(&now, also);
        if !done {
            *walk = Some(now);
        }
        excess
    }

    fn judge(&self, walk: &Walk, also: u64) -> Option<Excess> {
        let free = free(&self.dir).unwrap_or(0);
        let mut bytes = walk.bytes.saturating_sub(self.before.0);
        if walk.unseen {
            // Something is closed to this user, so that it could hide anything: what the whole disk lost counts.
            bytes = bytes.max(self.free_at_start.saturating_sub(free));
        }
        // A walk that is not at its end has seen less than there is.
        if walk.ended() {
            self.seen.store(bytes, Ordering::Relaxed);
        } else {
            self.seen.fetch_max(bytes, Ordering::Relaxed);
        }
        let bytes = bytes.saturating_add(also);
        let files = walk.files.saturating_sub(self.before.1);
        if bytes > self.bytes {
            Some(Excess::Bytes(bytes))
        } else if files > self.files {
            Some(Excess::Files(files))
        } else {
            (free < self.reserve).then_some(Excess::FreeSpace { free, kept: self.reserve })
        }
    }

    /// Where a walk begins.
    fn tops(&self, unseen: &mut bool) -> Vec<CString> {
        if self.counted == Counted::All {
            return vec![c".".to_owned()];
        }
        let Ok(overlays) = open(self.dir.as_fd(), c".") else {
            *unseen = true;
            return Vec::new();
        };
        let mut tops = Vec::new();
        for entry in overlays {
            let Ok(entry) = entry else {
                *unseen = true;
                break;
            };
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let mut path = entry.file_name().to_bytes().to_vec();
            path.extend_from_slice(b"/upper");
            match CString::new(path) {
                Ok(path) => tops.push(path),
                Err(_) => *unseen = true,
            }
        }
        tops
    }
}

/// One walk over everything, which can be stopped and gone on with.
pub(super) struct Walk {
    tops: Vec<CString>,
    levels: Vec<Dir>,
    files: u64,
    bytes: u64,
    linked: HashSet<u64>,
    unseen: bool,
}

impl Walk {
    fn new(watch: &DiskWatch) -> Self {
        let mut unseen = false;
        let tops = watch.tops(&mut unseen);
        Self { tops, levels: Vec::new(), files: 0, bytes: 0, linked: HashSet::new(), unseen }
    }

    fn ended(&self) -> bool {
        self.tops.is_empty() && self.levels.is_empty()
    }

    /// True when it is at its end, or nothing more is to be known.
    fn go_on(&mut self, watch: &DiskWatch, until: Option<Instant>) -> bool {
        let bytes = watch.bytes.saturating_add(watch.before.0);
        let files = watch.files.saturating_add(watch.before.1);
        loop {
            if self.bytes > bytes || self.files > files {
                return true;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return self.ended();
            }
            if self.levels.is_empty() {
                let Some(top) = self.tops.pop() else { return true };
                match open(watch.dir.as_fd(), &top) {
                    Ok(top) => self.levels.push(top),
                    // Not made yet.
                    Err(Errno::NOENT) => {}
                    Err(_) => self.unseen = true,
                }
                continue;
            }
            self.next();
        }
    }

    fn next(&mut self) {
        let depth = self.levels.len();
        let Some(here) = self.levels.last_mut() else { return };
        let entry = match here.next() {
            Some(Ok(entry)) => entry,
            Some(Err(_)) => {
                self.unseen = true;
                self.levels.pop();
                return;
            }
            None => {
                self.levels.pop();
                return;
            }
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            return;
        }
        let Ok(fd) = here.fd() else {
            self.unseen = true;
            return;
        };
        let stat = match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed since.
            Err(Errno::NOENT) => return,
            Err(_) => {
                self.unseen = true;
                return;
            }
        };
        self.files += 1;
        let dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        if dir || stat.st_nlink == 1 || self.linked.insert(stat.st_ino) {
            self.bytes = self.bytes.saturating_add(stat.st_blocks.unsigned_abs().saturating_mul(512));
        }
        if dir {
            match open(fd, name) {
                Ok(_) if depth >= DEPTH => self.unseen = true,
                Ok(next) => self.levels.push(next),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(_) => self.unseen = true,
            }
        }
    }
}

fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<Dir, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Dir::new(rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)?)
}

fn free(dir: &OwnedFd) -> io::Result<u64> {
    let stat = fstatvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn layers() -> (tempfile::TempDir, std::path::PathBuf, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let upper = dir.path().join("tree/upper");
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(dir.path().join("o1/upper")).unwrap();
        let fd = fs::File::open(dir.path()).unwrap().into();
        (dir, upper, fd)
    }

    #[test]
    fn what_all_layers_hold_is_counted_once() {
        let (dir, upper, fd) = layers();
        let watch = DiskWatch::layers(fd, 3 << 20, 10).unwrap();
        assert_eq!(watch.look(0), None);
        fs::write(upper.join("a"), vec![1; 1 << 20]).unwrap();
        for link in 0..5 {
            fs::hard_link(upper.join("a"), upper.join(format!("l{link}"))).unwrap();
        }
        assert_eq!(watch.look(0), None);
        let seen = watch.seen();
        assert!((1 << 20..2 << 20).contains(&seen), "{seen}");
        assert_eq!(watch.look(5 << 19), Some(Excess::Bytes(seen + (5 << 19))), "with what the tmpfs holds");
        fs::write(dir.path().join("o1/upper/b"), vec![1; (2 << 20) + 1]).unwrap();
        assert!(matches!(watch.look(0), Some(Excess::Bytes(seen)) if seen > 3 << 20));
    }

    #[test]
    fn what_cannot_be_looked_into_counts_by_what_the_disk_lost() {
        // A file system that few write to.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::create_dir_all(dir.path().join("tree/upper")).unwrap();
        let fd = fs::File::open(dir.path()).unwrap().into();
        let watch = DiskWatch::layers(fd, 2 << 20, 1000).unwrap();
        let mut at = std::path::PathBuf::from("tree/upper");
        for _ in 0..=DEPTH {
            at.push("d");
        }
        fs::create_dir_all(dir.path().join(&at)).unwrap();
        assert_eq!(watch.look(0), None);
        fs::write(dir.path().join(&at).join("file"), vec![1; 8 << 20]).unwrap();
        assert!(matches!(watch.look(0), Some(Excess::Bytes(_))));
    }

    #[test]
    fn many_small_files_are_too_much_as_well() {
        let (_dir, upper, fd) = layers();
        let watch = DiskWatch::layers(fd, 1 << 30, 10).unwrap();
        for n in 0..11 {
            fs::write(upper.join(n.to_string()), "").unwrap();
        }
        assert_eq!(watch.look(0), Some(Excess::Files(11)));
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("tree/repo")).unwrap();
        for n in 0..20 {
            fs::write(dir.path().join(format!("tree/repo/{n}")), vec![1; 1 << 18]).unwrap();
        }
        let open = || fs::File::open(dir.path()).unwrap().into();
        let watch = DiskWatch::area(open(), 1 << 20, 5).unwrap();
        assert_eq!((watch.look(0), watch.seen()), (None, 0));
        fs::create_dir(dir.path().join("tmp")).unwrap();
        fs::write(dir.path().join("tmp/more"), vec![1; 1 << 19]).unwrap();
        assert_eq!(watch.look(0), None);
        assert!((1 << 19..1 << 20).contains(&watch.seen()), "{}", watch.seen());
        fs::write(dir.path().join("tmp/most"), vec![1; 1 << 20]).unwrap();
        assert!(matches!(watch.look(0), Some(Excess::Bytes(seen)) if (3 << 19..2 << 20).contains(&seen)));
        fs::remove_file(dir.path().join("tmp/most")).unwrap();
        for n in 0..5 {
            fs::write(dir.path().join(format!("tmp/{n}")), "").unwrap();
        }
        assert!(matches!(watch.look(0), Some(Excess::Files(_))));
    }

    #[test]
    fn a_walk_that_was_stopped_goes_on_where_it_was() {
        let (_dir, upper, fd) = layers();
        let watch = DiskWatch::layers(fd, 1 << 30, 1000).unwrap();
        for n in 0..100 {
            fs::write(upper.join(n.to_string()), "").unwrap();
        }
        let mut walk = Walk::new(&watch);
        let mut steps = 0;
        // Time is up at once: nothing is seen, and nothing is lost.
        assert!(!walk.go_on(&watch, Some(Instant::now())));
        assert_eq!((walk.files, walk.ended()), (0, false));
        while !walk.go_on(&watch, Some(Instant::now() + Duration::from_micros(50))) {
            steps += 1;
            assert!(steps < 100_000);
        }
        assert_eq!((walk.files, walk.ended()), (100, true));
        let mut walk = None;
        assert_eq!(watch.step(&mut walk, 0), None);
        assert!(watch.step(&mut walk, 2 << 30).is_some(), "told before the end of a walk");
    }
}
