//! Lines that are no events: gathered into `backend.output` events of a few KiB, each pointing at its first line in
//! the raw log, so that nothing is dropped and a flood of short lines is no flood of events.

use super::{Adapter, Said, Stream};
use crate::capture::tail::Line;
use crate::event::{EventType, Native, NewEvent, Source};

/// Text of one event, in bytes.
const GATHERED: usize = 8 << 10;

/// Gathers plain lines.
#[derive(Debug)]
pub struct PlainOutput {
    stream: Stream,
    text: Vec<u8>,
    lines: u64,
    first: Option<(u64, u64)>,
    cut: bool,
}

impl PlainOutput {
    /// For one stream.
    pub fn new(stream: Stream) -> Self {
        Self { stream, text: Vec::new(), lines: 0, first: None, cut: false }
    }

    fn flush(&mut self, said: &mut Vec<Said>) {
        let Some((number, offset)) = self.first.take() else {
            return;
        };
        let mut event = NewEvent::new(EventType::BackendOutput, Source::Backend)
            .with("text", String::from_utf8_lossy(&self.text).into_owned())
            .with("lines", self.lines)
            .at(native(self.stream, number, offset));
        if self.cut {
            event = event.with("truncated", true);
        }
        said.push(Said::Event(event));
        self.text.clear();
        self.lines = 0;
        self.cut = false;
    }
}

/// A pointer into a raw log.
pub fn native(stream: Stream, line: u64, offset: u64) -> Native {
    Native { stream: stream.as_str().to_owned(), line, offset, kind: None, id: None, ts: None }
}

impl Adapter for PlainOutput {
    fn line(&mut self, line: Line<'_>, said: &mut Vec<Said>) {
        if self.text.len() + line.bytes.len() > GATHERED {
            self.flush(said);
        }
        self.first.get_or_insert((line.number, line.offset));
        if !self.text.is_empty() {
            self.text.push(b'\n');
        }
        let room = GATHERED.saturating_sub(self.text.len());
        self.cut |= line.cut || line.bytes.len() > room;
        self.text.extend_from_slice(&line.bytes[..line.bytes.len().min(room)]);
        self.lines += 1;
    }

    fn idle(&mut self, said: &mut Vec<Said>) {
        self.flush(said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, offset: u64, bytes: &[u8]) -> Line<'_> {
        Line { number, offset, bytes, cut: false }
    }

    #[test]
    fn lines_are_gathered_until_the_event_is_full() {
        let mut output = PlainOutput::new(Stream::Stdout);
        let mut said = Vec::new();
        let long = vec![b'x'; 5000];
        output.line(line(1, 0, b"first"), &mut said);
        output.line(line(2, 6, &long), &mut said);
        assert!(said.is_empty());
        output.line(line(3, 5007, &long), &mut said);
        assert_eq!(said.len(), 1);
        output.idle(&mut said);
        output.idle(&mut said);
        assert_eq!(said.len(), 2);
        let Said::Event(second) = &said[1] else { panic!() };
        assert_eq!(second.native.as_ref().unwrap().line, 3);
        assert_eq!(second.native.as_ref().unwrap().offset, 5007);
    }

    #[test]
    fn what_is_longer_than_an_event_is_cut_and_says_so() {
        let mut output = PlainOutput::new(Stream::Stderr);
        let mut said = Vec::new();
        output.line(line(1, 0, &vec![b'y'; 20_000]), &mut said);
        output.idle(&mut said);
        let Said::Event(event) = &said[0] else { panic!() };
        assert_eq!(event.data["truncated"], true);
        assert_eq!(event.data["text"].as_str().unwrap().len(), GATHERED);
    }
}
