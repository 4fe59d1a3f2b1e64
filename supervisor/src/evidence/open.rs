//! Opens artifacts of a directory that may be hostile, and reads each once: digest and content from the same bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use sha2::{Digest as _, Sha256};

use super::descriptor::is_plain_name;
use crate::event::hex;

/// Most entries of an evidence directory.
const MAX_ENTRIES: usize = 1000;
const BUFFER: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| format!("cannot be opened: {errno}"))?;
        Ok(Self { fd })
    }

    /// One that somebody has opened for reading.
    pub(crate) fn of(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Its descriptor.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// The names in it; those that are no plain names come lossily, for the message.
    pub(crate) fn names(&self) -> Result<Vec<String>, String> {
        let said = |errno: rustix::io::Errno| format!("cannot be listed: {errno}");
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(said)? {
            let entry = entry.map_err(said)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if names.len() >= MAX_ENTRIES {
                return Err(format!("holds more than {MAX_ENTRIES} entries"));
            }
            names.push(String::from_utf8_lossy(name).into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// A regular file of one name and at most this many bytes. No link is followed and nothing special is opened.
    pub(crate) fn file(&self, name: &str, max: u64) -> Result<(File, u64), String> {
        if !is_plain_name(name) {
            return Err("is no plain file name".to_owned());
        }
        let said = |errno: rustix::io::Errno| {
            if errno == rustix::io::Errno::NOENT {
                "is missing".to_owned()
            } else {
                format!("cannot be opened: {errno}")
            }
        };
        let before = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(said)?;
        // Opening a device or fifo can have effects of its own.
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Err("is no regular file".to_owned());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let fd = rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), resolve).map_err(said)?;
        let stat = rustix::fs::fstat(&fd).map_err(said)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err("is no regular file".to_owned());
        }
        if stat.st_nlink != 1 {
            return Err(format!(
                "has {} names (hard links): it could be changed under another",
                stat.st_nlink
            ));
        }
        let size = u64::try_from(stat.st_size).map_err(|_| "has no size".to_owned())?;
        if size > max {
            return Err(format!("has {size} bytes, more than the {max} that are read"));
        }
        Ok((File::from(fd), size))
    }
}

/// Hashes what is read through it; never more than it was told to expect.
pub(crate) struct Hashed<R> {
    inner: BufReader<R>,
    hash: Sha256,
    read: u64,
}

impl<R: Read> Hashed<io::Take<R>> {
    pub(crate) fn new(inner: R, size: u64) -> Self {
        // One byte more shows a file that grows while it is read.
        let inner = BufReader::with_capacity(BUFFER, inner.take(size.saturating_add(1)));
        Self { inner, hash: Sha256::new(), read: 0 }
    }

    /// Reads what is left and gives digest and length of everything.
    pub(crate) fn end(mut self) -> io::Result<(String, u64)> {
        loop {
            let available = match self.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?.len(),
            };
            if available == 0 {
                return Ok((hex::encode(&self.hash.finalize()), self.read));
            }
            self.consume(available);
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let taken = available.len().min(out.len());
        out[..taken].copy_from_slice(&available[..taken]);
        self.consume(taken);
        Ok(taken)
    }
}

impl<R: Read> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        let buffered = self.inner.buffer();
        let amount = amount.min(buffered.len());
        self.hash.update(&buffered[..amount]);
        self.read += amount as u64;
        self.inner.consume(amount);
    }
}
