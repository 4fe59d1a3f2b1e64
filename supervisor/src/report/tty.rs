//! What an untrusted program writes to a pseudo-terminal, made fit for the operator's own: text, colours and the
//! movements that editors and pagers make go through; what would set a title, write the clipboard, print, change
//! character sets or keys, or make the terminal *answer* (an answer is typed text to whoever reads next) does not.
//! A list of what is allowed: what is not known is dropped.

use super::escape::{is_deceptive, push_visible};

/// The longest control sequence that is looked at.
const MAX_SEQUENCE: usize = 64;
/// The highest number in one: more is no screen's.
const MAX_NUMBER: u32 = 65_535;
/// DEC private modes that a program may set and reset: cursor keys, origin, wrap, cursor, alternate screen, mouse,
/// focus, bracketed paste, synchronized output (xterm's ctlseqs).
const MODES: [u32; 16] = [1, 6, 7, 12, 25, 47, 1000, 1002, 1003, 1004, 1006, 1047, 1048, 1049, 2004, 2026];
/// Those of the alternate screen.
const ALTERNATE: [u32; 3] = [47, 1047, 1049];
/// Final bytes of control sequences (ECMA-48) that move, erase, insert, delete, scroll, colour, or save the cursor.
const FINALS: &[u8] = b"@ABCDEFGHIJKLMPSTXZ`abdefmrsu";

/// Where in the stream the filter is.
#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// Behind ESC and this intermediate byte; `None` where there were several.
    Designate(Option<u8>),
    Control(Vec<u8>),
    /// A string for the terminal (OSC, DCS, APC, PM, SOS, a title), up to its terminator.
    Words,
}

/// The filter of one stream.
#[derive(Debug, Default)]
pub struct TtyFilter {
    state: State,
    /// Bytes of a character that is not whole yet.
    partial: Vec<u8>,
    steered: bool,
    alternate: bool,
    region: bool,
}

impl TtyFilter {
    /// Takes bytes as they come, in pieces of any size, and appends what may be shown.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.byte(*byte, out);
        }
    }

    /// What puts the terminal back into an ordinary state when the program is gone.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.partial).is_empty() {
            push_char(char::REPLACEMENT_CHARACTER, out);
        }
        self.state = State::Text;
        if std::mem::take(&mut self.region) {
            out.extend_from_slice(b"\x1b7\x1b[r\x1b8");
        }
        if std::mem::take(&mut self.alternate) {
            out.extend_from_slice(b"\x1b[?1049l");
        }
        if std::mem::take(&mut self.steered) {
            out.extend_from_slice(b"\x1b[0m\x1b(B\x1b>\x1b[4l\x1b[?6l\x1b[?7h\x1b[?25h");
            for mode in [1, 1000, 1002, 1003, 1004, 1006, 2004, 2026] {
                out.extend_from_slice(format!("\x1b[?{mode}l").as_bytes());
            }
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        // Aborts whatever sequence it stands in (ECMA-48: CAN, SUB).
        if matches!(byte, 0x18 | 0x1a) {
            self.broken(out);
            self.state = State::Text;
            return;
        }
        match std::mem::take(&mut self.state) {
            State::Text => self.text(byte, out),
            State::Escape => self.escape(byte, out),
            State::Designate(intermediate) => self.designate(intermediate, byte, out),
            State::Control(sequence) => self.control(sequence, byte, out),
            // BEL ends it as ST does; ESC begins ST or another sequence: either way the string is over.
            State::Words => {
                self.state = match byte {
                    0x07 => State::Text,
                    0x1b => State::Escape,
                    _ => State::Words,
                }
            }
        }
    }

    /// A character that was begun and not ended.
    fn broken(&mut self, out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.partial.clear();
            push_char(char::REPLACEMENT_CHARACTER, out);
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte < 0x80 {
            self.broken(out);
            match byte {
                0x1b => self.state = State::Escape,
                b'\n' | b'\r' | b'\t' | 0x07 | 0x08 | 0x20..=0x7e => out.push(byte),
                // NUL, answerback, shifts to other character sets, flow control, ...
                _ => {}
            }
            return;
        }
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                text.chars().for_each(|c| push_char(c, out));
                self.partial.clear();
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                let alone = self.partial.len() == 1;
                self.broken(out);
                if !alone {
                    // What broke the character may begin the next one.
                    self.text(byte, out);
                }
            }
        }
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b'[' => self.state = State::Control(Vec::new()),
            b']' | b'P' | b'X' | b'^' | b'_' | b'k' => self.state = State::Words,
            // Save and restore the cursor, line feeds up and down, keypad. (No tabulators: they would stay.)
            b'7' | b'8' | b'D' | b'E' | b'M' | b'=' | b'>' => self.pass(&[byte], out),
            0x20..=0x2f => self.state = State::Designate(Some(byte)),
            0x1b => self.state = State::Escape,
            0x30..=0x7e => {}
            _ => self.text(byte, out),
        }
    }

    fn designate(&mut self, intermediate: Option<u8>, byte: u8, out: &mut Vec<u8>) {
        match (intermediate, byte) {
            // ASCII and line drawing, which curses uses for frames.
            (Some(set @ (b'(' | b')')), b'0' | b'B') => self.pass(&[set, byte], out),
            (_, 0x20..=0x2f) => self.state = State::Designate(None),
            (_, 0x1b) => self.state = State::Escape,
            (_, 0x30..=0x7e) => {}
            _ => self.text(byte, out),
        }
    }

    fn control(&mut self, mut sequence: Vec<u8>, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x20..=0x3f => {
                if sequence.len() < MAX_SEQUENCE {
                    sequence.push(byte);
                }
                self.state = State::Control(sequence);
            }
            0x40..=0x7e => {
                if sequence.len() < MAX_SEQUENCE && self.allows(&sequence, byte) {
                    let mut whole = vec![b'['];
                    whole.extend_from_slice(&sequence);
                    whole.push(byte);
                    self.pass(&whole, out);
                }
            }
            0x1b => self.state = State::Escape,
            0x80.. => self.text(byte, out),
            // A control character within a sequence is left out.
            _ => self.state = State::Control(sequence),
        }
    }

    fn allows(&mut self, sequence: &[u8], last: u8) -> bool {
        if let Some(modes) = sequence.strip_prefix(b"?") {
            let Some(modes) = numbers(modes) else { return false };
            if !matches!(last, b'h' | b'l') || !modes.iter().all(|mode| MODES.contains(mode)) {
                return false;
            }
            if modes.iter().any(|mode| ALTERNATE.contains(mode)) {
                self.alternate = last == b'h';
            }
            return true;
        }
        let Some(numbers) = numbers(sequence) else { return false };
        match last {
            // The only ANSI mode: insert or replace.
            b'h' | b'l' => numbers == [4],
            // Not 3: what scrolled out of sight is the operator's.
            b'J' => numbers.iter().all(|n| *n <= 2),
            b'r' => {
                self.region = true;
                true
            }
            _ => FINALS.contains(&last),
        }
    }

    fn pass(&mut self, sequence: &[u8], out: &mut Vec<u8>) {
        self.steered = true;
        out.push(0x1b);
        out.extend_from_slice(sequence);
    }
}

/// Parameters of a control sequence: numbers between `;` or `:`, an empty one is 0; `None` where there is anything else.
fn numbers(bytes: &[u8]) -> Option<Vec<u32>> {
    bytes
        .split(|b| matches!(b, b';' | b':'))
        .map(|part| match part {
            [] => Some(0),
            digits if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
                let value = digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
                (value <= MAX_NUMBER).then_some(value)
            }
            _ => None,
        })
        .collect()
}

fn push_char(c: char, out: &mut Vec<u8>) {
    if is_deceptive(c) {
        let mut text = String::new();
        push_visible(&mut text, c);
        out.extend_from_slice(text.as_bytes());
    } else {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filtered(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        TtyFilter::default().feed(bytes, &mut out);
        out
    }

    #[test]
    fn what_programs_draw_with_goes_through() {
        for text in [
            &b"plain text\r\n\ttab\x08\x07"[..],
            "grün 日本 \u{1f600}".as_bytes(),
            b"\x1b[1;31mred\x1b[0m\x1b[38;5;8mgrey\x1b[38:2::1:2:3mrgb",
            b"\x1b[2J\x1b[H\x1b[10;20Hx\x1b[K\x1b[?25l\x1b[?1049h\x1b[?2004h\x1b[?1;25h",
            b"\x1b[1;24r\x1b7\x1b8\x1bM\x1b[4h\x1b[4l\x1b=\x1b>\x1b(0qqq\x1b(B",
        ] {
            assert_eq!(String::from_utf8_lossy(&filtered(text)), String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_would_steer_the_operators_terminal_does_not() {
        for (text, shown) in [
            // Titles, the clipboard, links, palettes; strings of every kind, with either end.
            (&b"a\x1b]0;title\x07b\x1b]52;c;ZXZpbA==\x1b\\c"[..], "abc"),
            (b"a\x1b]8;;http://e.org\x1b\\link\x1b]8;;\x1b\\", "alink"),
            (b"a\x1bPq#0\x1b\\b\x1b_x\x1b\\c\x1b^x\x1b\\d\x1bXx\x1b\\e\x1bktitle\x1b\\f", "abcdef"),
            // What is answered: status, position, attributes, mode and size reports, answerback.
            (b"a\x1b[6n\x1b[5n\x1b[c\x1b[>c\x1b[=c\x1b[?25$p\x1b[18t\x1b[x\x1bZ\x05b", "ab"),
            // Resets, printing, window operations, keys, scrollback, character sets, other modes.
            (b"a\x1bc\x1b[!p\x1b[5i\x1b[8;1;1t\x1b[>4;2m\x1b[3J\x1b[3g\x1bH\x1b%G\x1b(A\x0e\x0f\x1b[2h\x1b[?2h\x1b[20h", "a"),
            // Eight-bit controls, as characters and as bytes, are shown.
            ("a\u{9b}6nb\u{9d}0;x\u{9c}".as_bytes(), "a\\x9b6nb\\x9d0;x\\x9c"),
            (b"a\x9b6nb", "a\u{fffd}6nb"),
            ("a\u{202e}b\u{200b}".as_bytes(), "a\\u{202e}b\\u{200b}"),
            // Sequences that are cut, nested, too long or too large.
            (b"a\x1b[1\x1b[2mb\x1b[99999999Ac\x1b[1\x18d", "a\x1b[2mbcd"),
            (b"\x1b]0;never ended \x1b[31mred", "\x1b[31mred"),
        ] {
            assert_eq!(String::from_utf8_lossy(&filtered(text)), shown);
        }
        let long = [b"\x1b[".as_slice(), &[b'1'; 100], b"mx"].concat();
        assert_eq!(filtered(&long), b"x");
    }

    #[test]
    fn the_end_puts_back_what_was_set() {
        let mut filter = TtyFilter::default();
        let mut out = Vec::new();
        filter.feed(b"nothing special", &mut out);
        filter.end(&mut out);
        assert_eq!(out, b"nothing special");
        out.clear();
        filter.feed(b"\x1b[?1049h\x1b[2;3r\x1b[?1003h\xe6\x97", &mut out);
        filter.end(&mut out);
        let text = String::from_utf8(out).unwrap();
        for part in ["\u{fffd}", "\x1b[?1049l", "\x1b[r", "\x1b[0m", "\x1b[?1003l", "\x1b[?25h"] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference_and_what_was_filtered_stays(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0x1b), Just(b'['), Just(b'?'), Just(b';')], 0..200),
            cut in 0usize..200,
        ) {
            let whole = filtered(&bytes);
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut out = Vec::new();
            let mut filter = TtyFilter::default();
            filter.feed(first, &mut out);
            filter.feed(second, &mut out);
            prop_assert_eq!(&out, &whole);
            prop_assert_eq!(filtered(&whole), whole.clone());
            let text = String::from_utf8(whole).unwrap();
            prop_assert!(text.chars().all(|c| !is_deceptive(c) || "\n\r\t\x07\x08\x1b".contains(c)));
        }
    }
}
