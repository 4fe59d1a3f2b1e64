//! One tracked file against its index entry: by stat data where that suffices, else by content.

use std::io::Read;
use std::os::fd::BorrowedFd;

use bstr::ByteSlice;
use filetime::FileTime;
use gix_index::Entry;
use gix_index::entry::Mode;
use rustix::fs::{AtFlags, OFlags};

use super::{Reason, SurveyError};
use crate::changes::convert::{Converter, Filter, is_lfs_pointer, lfs_pointer};
use crate::changes::index::Index;
use crate::changes::repo::{Repo, RepoError, blob_id, bytes_path};
use crate::changes::tree::{TreeView, split};

/// Most bytes of a file that is read.
const MAX_FILE: u64 = 1 << 30;

pub(super) struct Checker<'a> {
    repo: &'a Repo,
    index: &'a Index,
    written: FileTime,
    converter: Converter,
}

impl<'a> Checker<'a> {
    pub(super) fn new(repo: &'a Repo, index: &'a Index) -> Result<Self, RepoError> {
        Ok(Self { repo, index, written: index.state.timestamp(), converter: Converter::new(repo)? })
    }

    /// Why the file is not what its entry says; `None` where it is.
    pub(super) fn check(
        &mut self,
        view: &TreeView,
        dir: BorrowedFd<'_>,
        entry: &Entry,
    ) -> Result<Option<Reason>, SurveyError> {
        let path: &[u8] = entry.path(&self.index.state);
        let name = split(path).1;
        let unreadable =
            |e: std::io::Error| RepoError::unreadable(self.repo.root_path().join(bytes_path(path)), e);
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(Some(Reason::Deleted)),
            Err(e) => return Err(unreadable(e.into()).into()),
        };
        let settings = self.repo.settings();
        let is_link = match stat.st_mode & 0o170000 {
            0o100000 => false,
            0o120000 => true,
            _ => return Ok(Some(Reason::TypeChanged)),
        };
        match entry.mode {
            Mode::SYMLINK if is_link || !settings.symlinks => {}
            Mode::FILE | Mode::FILE_EXECUTABLE if !is_link => {
                let executable = stat.st_mode & 0o100 != 0;
                if settings.file_mode && executable != (entry.mode == Mode::FILE_EXECUTABLE) {
                    return Ok(Some(Reason::ModeChanged));
                }
            }
            _ => return Ok(Some(Reason::TypeChanged)),
        }
        if self.stat_matches(entry, &stat) {
            return Ok(None);
        }
        let raw = if is_link {
            rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|e| unreadable(e.into()))?.into_bytes()
        } else {
            let flags =
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(dir, name, flags, rustix::fs::Mode::empty())
                .map_err(|e| unreadable(e.into()))?;
            // A sparse file can be of any size, and may grow while it is read.
            let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            let mut data = Vec::new();
            if size <= MAX_FILE {
                data.reserve_exact(usize::try_from(size).unwrap_or(0));
                std::fs::File::from(fd).take(MAX_FILE + 1).read_to_end(&mut data).map_err(unreadable)?;
            }
            if size.max(data.len() as u64) > MAX_FILE {
                return Err(RepoError::Unsupported {
                    path: self.repo.root_path().join(bytes_path(path)),
                    what: "a tracked file of more than 1 GiB that is not as the index has it".to_owned(),
                    mend: "run `git status` once, or bring it to the committed state",
                }
                .into());
            }
            data
        };
        if entry.mode == Mode::SYMLINK {
            let same = blob_id(self.repo.hash(), &raw)? == entry.id;
            return Ok((!same).then_some(Reason::Modified));
        }
        self.content(view, path, raw, entry)
    }

    fn content(
        &mut self,
        view: &TreeView,
        path: &[u8],
        raw: Vec<u8>,
        entry: &Entry,
    ) -> Result<Option<Reason>, SurveyError> {
        let hash = self.repo.hash();
        match self.converter.filter(view, path)? {
            Filter::None => {}
            Filter::Lfs => {
                let pointer = lfs_pointer(&raw);
                let same = blob_id(hash, &pointer)? == entry.id
                    || !is_lfs_pointer(&raw) && blob_id(hash, &raw)? == entry.id;
                return Ok((!same).then_some(Reason::Modified));
            }
            Filter::Other(filter) => {
                let stored = self.converter.to_git(view, path, &raw, Some(&entry.id))?;
                return match blob_id(hash, &stored)? == entry.id {
                    true => Ok(None),
                    false => Err(SurveyError::Refused { path: path.to_vec(), filter }),
                };
            }
        }
        let same = match self.converter.to_git(view, path, &raw, Some(&entry.id)) {
            Ok(stored) => blob_id(hash, &stored)? == entry.id,
            Err(crate::changes::convert::ConvertError::Content { .. }) => false,
            Err(e) => return Err(e.into()),
        };
        Ok((!same).then_some(Reason::Modified))
    }

    /// Git's rule (`core.checkStat=default`, `core.trustctime`): a change time cannot be set back as the others can,
    /// and a file put in another one's place has another inode. Owner and group change nothing that git stores. An
    /// entry whose file may have been written after the index was is racy. What does not match is read.
    fn stat_matches(&self, entry: &Entry, stat: &rustix::fs::Stat) -> bool {
        let known = &entry.stat;
        // The index keeps the low 32 bits of all of them.
        let low = |value: i64| (value & 0xffff_ffff) as u32;
        let (mtime, ctime) = (low(stat.st_mtime), low(stat.st_ctime));
        let same = known.mtime.secs == mtime
            && known.mtime.nsecs == stat.st_mtime_nsec as u32
            && known.ctime.secs == ctime
            && known.ctime.nsecs == stat.st_ctime_nsec as u32
            && known.ino == (stat.st_ino & 0xffff_ffff) as u32
            && known.size == low(stat.st_size);
        if !same {
            return false;
        }
        if known.size == 0 && !entry.id.is_empty_blob() {
            return false;
        }
        let (at, at_nsec) = (self.written.unix_seconds(), self.written.nanoseconds());
        let racy = |secs: u32, nsecs: u32| {
            let secs = i64::from(secs);
            if nsecs == 0 || at_nsec == 0 { at <= secs } else { (at, at_nsec) <= (secs, nsecs) }
        };
        let racy = racy(known.mtime.secs, known.mtime.nsecs) || racy(known.ctime.secs, known.ctime.nsecs);
        !racy && path_is_plain(entry.path(&self.index.state))
    }
}

/// An index made by hand may hold anything; such a path is read and not believed.
fn path_is_plain(path: &[u8]) -> bool {
    !path.contains_str("//") && !path.starts_with(b"/")
}
