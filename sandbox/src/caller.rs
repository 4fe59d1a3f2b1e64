//! Who asks a listener: a thread of the sandbox that is stopped in a system call, looked at from outside. What is read of
//! it may be changed by its other threads at any time, and is limited in size.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::{notify, process};

/// The thread that waits for an answer.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The thread, as this process's pid namespace numbers it.
    pub(crate) tid: u32,
    /// Its process.
    pub(crate) pid: u32,
    /// Its parent.
    pub(crate) parent: u32,
    /// Its process's pidfd; `None` where it is gone.
    pub(crate) process: Option<OwnedFd>,
    /// Its program, once looked at.
    program: Option<Option<PathBuf>>,
}

impl Caller {
    pub(crate) fn new(tid: u32) -> Self {
        // Not of a thread that leads no group (before Linux 6.9): then by /proc.
        let process = i32::try_from(tid).ok().and_then(|tid| process::pidfd_open(tid).ok());
        if let Some((pid, parent)) = process.as_ref().and_then(|fd| notify::identity(fd.as_fd())) {
            return Self { tid, pid, parent, process, program: None };
        }
        let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().parse::<u32>().ok()
        };
        let pid = number("Tgid:").unwrap_or(tid);
        let process =
            process.or_else(|| i32::try_from(pid).ok().and_then(|pid| process::pidfd_open(pid).ok()));
        Self { tid, pid, parent: number("PPid:").unwrap_or(0), process, program: None }
    }

    pub(crate) fn kill(&self) {
        if let Some(process) = &self.process {
            let _ = process::pidfd_signal(process.as_fd(), libc::SIGKILL);
        }
    }

    pub(crate) fn link(&self, name: &str) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/{name}", self.tid)).ok()
    }

    pub(crate) fn program(&mut self) -> Option<PathBuf> {
        if self.program.is_none() {
            self.program = Some(self.link("exe"));
        }
        self.program.clone().flatten()
    }

    /// The only thread of its process: nobody else can have asked to execute another program a moment ago.
    pub(crate) fn is_alone(&self) -> bool {
        // proc(5): a directory for each thread, beside its own two links.
        self.tid == self.pid
            && std::fs::metadata(format!("/proc/{}/task", self.pid)).is_ok_and(|meta| meta.nlink() == 3)
    }

    pub(crate) fn is_alive(&self) -> bool {
        let Some(process) = &self.process else { return false };
        poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
    }

    pub(crate) fn memory(&self) -> Option<Memory> {
        File::open(format!("/proc/{}/mem", self.tid)).ok().map(Memory)
    }
}

/// A process's memory, by /proc/PID/mem.
pub(crate) struct Memory(File);

impl Memory {
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) -> Option<usize> {
        self.0.read_at(into, at).ok()
    }

    /// A NUL-terminated string without its NUL, and whether it was whole within `limit` bytes. Read up to the ends of pages:
    /// the next one may not be there.
    pub(crate) fn string(&self, at: u64, limit: usize) -> (Vec<u8>, bool) {
        const PAGE: u64 = 4096;
        let mut bytes = Vec::new();
        let mut at = at;
        while bytes.len() < limit {
            let to_page_end = (PAGE - at % PAGE) as usize;
            let mut part = vec![0; to_page_end.min(limit - bytes.len()).min(256)];
            let Some(read @ 1..) = self.read(at, &mut part) else { return (bytes, false) };
            part.truncate(read);
            if let Some(end) = part.iter().position(|b| *b == 0) {
                bytes.extend_from_slice(&part[..end]);
                return (bytes, true);
            }
            bytes.extend_from_slice(&part);
            let Some(next) = at.checked_add(read as u64) else { return (bytes, false) };
            at = next;
        }
        (bytes, false)
    }

    /// The pointers of a NULL-terminated array, at most `limit`.
    pub(crate) fn pointers(&self, at: u64, limit: usize) -> Vec<u64> {
        let mut found = Vec::new();
        let mut bytes = [0; 8];
        let mut at = at;
        while at != 0 && found.len() < limit && self.read(at, &mut bytes) == Some(8) {
            match u64::from_le_bytes(bytes) {
                0 => break,
                pointer => found.push(pointer),
            }
            let Some(next) = at.checked_add(8) else { break };
            at = next;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_nul_at_the_limit_or_where_memory_ends() {
        let memory = Memory(File::open("/proc/self/mem").unwrap());
        let text = b"hello\0rest".to_vec();
        assert_eq!(memory.string(text.as_ptr() as u64, 100), (b"hello".to_vec(), true));
        assert_eq!(memory.string(text.as_ptr() as u64, 3), (b"hel".to_vec(), false));
        let long = vec![b'x'; 3 * 4096];
        let (read, whole) = memory.string(long.as_ptr() as u64, 3 * 4096);
        assert_eq!((read.len(), whole), (3 * 4096, false));
        assert_eq!(memory.string(0, 10), (Vec::new(), false));
        assert_eq!(memory.string(u64::MAX - 3, 10), (Vec::new(), false));
        let pointers = [1u64, 2, 0, 3];
        assert_eq!(memory.pointers(pointers.as_ptr() as u64, 10), [1, 2]);
        assert_eq!(memory.pointers(pointers.as_ptr() as u64, 1), [1]);
        assert_eq!(memory.pointers(0, 1), [0u64; 0]);
    }
}
