//! Reads a raw log line by line while it is still being written, by position, from a handle of its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::Progress;

/// The longest line that is handed on whole, in bytes without the LF; the rest of a longer one is skipped here (it
/// stands in the raw log).
pub const MAX_LINE: usize = 1 << 20;

/// One line of a raw log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Number, from 1.
    pub number: u64,
    /// Offset of its first byte.
    pub offset: u64,
    /// Its bytes without the LF, at most [`MAX_LINE`].
    pub bytes: &'a [u8],
    /// True where the line is longer than that.
    pub cut: bool,
}

/// Follows a raw log.
#[derive(Debug)]
pub struct LineTail {
    log: File,
    progress: Arc<Progress>,
    position: u64,
    number: u64,
    offset: u64,
    pending: Vec<u8>,
    cut: bool,
}

impl LineTail {
    /// Follows `log` (a handle that can read) as far as `progress` says that it is written.
    pub fn new(log: File, progress: Arc<Progress>) -> Self {
        Self { log, progress, position: 0, number: 1, offset: 0, pending: Vec::new(), cut: false }
    }

    /// Calls `each` for every line until the capture is done and the log is read; `idle` is called whenever all that
    /// is there has been read, before waiting. A last line without LF is a line.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn run(mut self, mut each: impl FnMut(Line<'_>), mut idle: impl FnMut()) -> io::Result<()> {
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            let available = self.progress.written();
            if self.position == available {
                idle();
                if !self.progress.wait_beyond(self.position) {
                    break;
                }
                continue;
            }
            let want = usize::try_from(available - self.position).unwrap_or(usize::MAX).min(buffer.len());
            let n = self.log.read_at(&mut buffer[..want], self.position)?;
            if n == 0 {
                return Err(io::Error::other("a raw log is shorter than what was written to it"));
            }
            self.position += n as u64;
            self.split(&buffer[..n], &mut each);
        }
        if !self.pending.is_empty() || self.cut {
            self.emit(&mut each);
        }
        idle();
        Ok(())
    }

    fn split(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Line<'_>)) {
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            let (head, tail) = bytes.split_at(at);
            self.take(head);
            self.emit(each);
            bytes = &tail[1..];
            self.offset = self.position - bytes.len() as u64;
        }
        self.take(bytes);
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.pending.len();
        if bytes.len() > room {
            self.cut = true;
        }
        self.pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn emit(&mut self, each: &mut impl FnMut(Line<'_>)) {
        each(Line { number: self.number, offset: self.offset, bytes: &self.pending, cut: self.cut });
        self.number += 1;
        self.pending.clear();
        self.cut = false;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::capture::{Capture, output_pipe};

    fn lines_of(parts: &[&[u8]]) -> Vec<(u64, u64, usize, bool)> {
        let (read, write) = output_pipe().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let capture = Capture::start(read, file.reopen().unwrap(), b"", 1 << 30, || {}).unwrap();
        let tail = LineTail::new(file.reopen().unwrap(), capture.progress());
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            tail.run(|line| seen.push((line.number, line.offset, line.bytes.len(), line.cut)), || {})
                .unwrap();
            seen
        });
        let mut write = File::from(write);
        for part in parts {
            write.write_all(part).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        drop(write);
        capture.finish();
        reader.join().unwrap()
    }

    #[test]
    fn lines_have_their_number_offset_and_length_however_they_arrive() {
        let expected = vec![(1, 0, 3, false), (2, 4, 0, false), (3, 5, 6, false), (4, 12, 4, false)];
        assert_eq!(lines_of(&[b"one\n\nsecond\nlast"]), expected);
        assert_eq!(lines_of(&[b"on", b"e\n\nsec", b"ond\n", b"la", b"st"]), expected);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_is_found() {
        let mut text = vec![b'x'; MAX_LINE + 10];
        text.extend_from_slice(b"\nnext\n");
        let seen = lines_of(&[&text]);
        assert_eq!(seen, vec![(1, 0, MAX_LINE, true), (2, MAX_LINE as u64 + 11, 4, false)]);
    }
}
