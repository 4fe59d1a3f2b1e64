//! Reading artifacts for the page: from an open directory, by plain names, in parts of limited size. What cannot be
//! read is left out of the page, whose words say so; nothing here escapes or judges.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};

use crate::evidence::EvidenceDir;
use crate::evidence::open::Directory;

/// Where the artifacts of a run are.
pub trait Artifacts {
    /// An artifact, at its beginning, and its size; nothing where it cannot be opened.
    fn open(&self, name: &str) -> Option<(File, u64)>;
}

impl Artifacts for Directory {
    fn open(&self, name: &str) -> Option<(File, u64)> {
        self.file(name, u64::MAX).ok()
    }
}

impl Artifacts for EvidenceDir {
    fn open(&self, name: &str) -> Option<(File, u64)> {
        let file = Self::open(self, name).ok()?;
        let size = file.metadata().ok()?.len();
        Some((file, size))
    }
}

/// The two ends of a file. Where it is short, `head` is all of it and `tail` empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
}

/// How far a cut moves to fall between two lines.
const SEEK_LINE: usize = 16 * 1024;

/// Reads at most `first` bytes from the beginning and `last` from the end.
pub(super) fn ends(file: &mut File, size: u64, first: usize, last: usize) -> io::Result<Ends> {
    let mut ends = Ends::default();
    let whole = size <= (first + last) as u64;
    let wanted = if whole { size } else { first as u64 };
    file.by_ref().take(wanted).read_to_end(&mut ends.head)?;
    if !whole {
        file.seek(SeekFrom::Start(size - last as u64))?;
        file.by_ref().take(last as u64).read_to_end(&mut ends.tail)?;
        ends.head.truncate(cut_after(&ends.head));
        ends.tail.drain(..cut_before(&ends.tail));
    }
    Ok(ends)
}

/// Where to cut behind whole lines, or at least behind whole characters.
pub(super) fn cut_after(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(SEEK_LINE);
    match bytes[from..].iter().rposition(|byte| *byte == b'\n') {
        Some(place) => from + place + 1,
        None => whole_characters(bytes),
    }
}

/// The length without a character that is begun and not ended; what no byte could make a character stands.
pub(super) fn whole_characters(bytes: &[u8]) -> usize {
    // A character has at most four bytes.
    let begun = (1..=bytes.len().min(3)).find(|back| {
        let tail = &bytes[bytes.len() - back..];
        std::str::from_utf8(tail)
            .err()
            .is_some_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    });
    bytes.len() - begun.unwrap_or(0)
}

/// Where to cut before whole lines, or at least before whole characters.
pub(super) fn cut_before(bytes: &[u8]) -> usize {
    let looked = &bytes[..bytes.len().min(SEEK_LINE)];
    match looked.iter().position(|byte| *byte == b'\n') {
        Some(place) => place + 1,
        None => looked.iter().take(3).take_while(|byte| (0x80..0xc0).contains(*byte)).count(),
    }
}

/// What [`next_line`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line; `rest` of its bytes were passed over, its line feed not counted.
    Some { rest: u64 },
    /// Nothing more.
    End,
}

/// Reads a line without its line feed, at most `keep` bytes of it, whatever its length.
pub(super) fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>, keep: usize) -> io::Result<Line> {
    line.clear();
    let (mut rest, mut any) = (0, false);
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if available.is_empty() {
            return Ok(if any { Line::Some { rest } } else { Line::End });
        }
        any = true;
        let newline = available.iter().position(|byte| *byte == b'\n');
        let taken = newline.unwrap_or(available.len());
        let kept = taken.min(keep - line.len());
        line.extend_from_slice(&available[..kept]);
        rest += (taken - kept) as u64;
        input.consume(taken + usize::from(newline.is_some()));
        if newline.is_some() {
            return Ok(Line::Some { rest });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(content: &[u8], first: usize, last: usize) -> (Ends, u64) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        let size = content.len() as u64;
        let ends = ends(&mut file, size, first, last).unwrap();
        let left = size - (ends.head.len() + ends.tail.len()) as u64;
        (ends, left)
    }

    #[test]
    fn a_short_file_is_whole_and_a_long_one_is_cut_between_lines() {
        assert_eq!(read(b"ab\ncd\n", 3, 3), (Ends { head: b"ab\ncd\n".into(), tail: vec![] }, 0));
        let (ends, left) = read(b"one\ntwo\nthree\nfour\n", 6, 7);
        assert_eq!(ends, Ends { head: b"one\n".into(), tail: b"four\n".into() });
        assert_eq!(left, 10);
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let text = "é".repeat(100);
        let (ends, left) = read(text.as_bytes(), 7, 7);
        assert_eq!(std::str::from_utf8(&ends.head).unwrap(), "ééé");
        assert_eq!(std::str::from_utf8(&ends.tail).unwrap(), "ééé");
        assert_eq!(left, 188);
        // What is no text anyway stays.
        let (ends, _) = read(&[0xff; 100], 7, 7);
        assert_eq!(ends.head, [0xff; 7]);
    }

    #[test]
    fn a_long_line_is_read_to_its_end_and_kept_in_part() {
        let mut input = &b"abcdef\n\nx"[..];
        let mut line = Vec::new();
        assert_eq!(next_line(&mut input, &mut line, 4).unwrap(), Line::Some { rest: 2 });
        assert_eq!(line, b"abcd");
        assert_eq!(next_line(&mut input, &mut line, 4).unwrap(), Line::Some { rest: 0 });
        assert_eq!(line, b"");
        assert_eq!(next_line(&mut input, &mut line, 4).unwrap(), Line::Some { rest: 0 });
        assert_eq!(next_line(&mut input, &mut line, 4).unwrap(), Line::End);
    }
}
