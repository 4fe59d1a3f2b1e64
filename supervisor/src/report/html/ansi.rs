//! Colours of a terminal (SGR) as classes of the page's own style sheet. Only these sequences are taken for what they
//! say; every other escape stays visible text. No combination of colours hides text: with a background comes the
//! foreground that can be read on it, and concealed text is shown.

use crate::report::escape::push_html;

/// The longest sequence that is taken for one, bytes.
const LONGEST: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Style {
    foreground: Option<u8>,
    background: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    strike: bool,
    inverse: bool,
}

impl Style {
    /// The classes, in the words of `page.css`.
    fn classes(self) -> String {
        let mut classes = Vec::new();
        let (fore, back) = if self.inverse {
            (self.background, self.foreground.or(Some(7)))
        } else {
            (self.foreground, self.background)
        };
        match (fore, back) {
            (_, Some(back)) => classes.push(format!("g{back}")),
            (Some(fore), None) => classes.push(format!("f{fore}")),
            (None, None) => {}
        }
        let flags = [
            (self.bold, "bo"),
            (self.dim, "di"),
            (self.italic, "it"),
            (self.underline, "un"),
            (self.strike, "st"),
        ];
        classes.extend(flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned()));
        classes.join(" ")
    }

    fn apply(&mut self, parameters: &[u16]) {
        let mut rest = parameters;
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            match *first {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 | 21 => self.underline = true,
                7 => self.inverse = true,
                9 => self.strike = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                27 => self.inverse = false,
                29 => self.strike = false,
                code @ 30..=37 => self.foreground = Some((code - 30) as u8),
                code @ 90..=97 => self.foreground = Some((code - 82) as u8),
                code @ 40..=47 => self.background = Some((code - 40) as u8),
                code @ 100..=107 => self.background = Some((code - 92) as u8),
                39 => self.foreground = None,
                49 => self.background = None,
                code @ (38 | 48 | 58) => {
                    let (colour, used) = extended(rest);
                    rest = &rest[used..];
                    match code {
                        38 => self.foreground = colour,
                        48 => self.background = colour,
                        // The colour of underlines is not shown.
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }
}

/// `5;N` or `2;R;G;B` behind 38, 48 or 58: the nearest of the sixteen, and how many parameters were used.
fn extended(rest: &[u16]) -> (Option<u8>, usize) {
    match rest {
        [5, n, ..] => (u8::try_from(*n).ok().map(indexed), 2),
        [2, r, g, b, ..] => (Some(nearest([*r, *g, *b])), 4),
        _ => (None, rest.len()),
    }
}

fn indexed(n: u8) -> u8 {
    match n {
        0..=15 => n,
        16..=231 => {
            let n = u16::from(n) - 16;
            let level = |v: u16| if v == 0 { 0 } else { 55 + 40 * v };
            nearest([level(n / 36), level(n / 6 % 6), level(n % 6)])
        }
        232.. => {
            let grey = 8 + 10 * (u16::from(n) - 232);
            nearest([grey; 3])
        }
    }
}

/// By the sixteen colours of xterm.
fn nearest(colour: [u16; 3]) -> u8 {
    const SIXTEEN: [[u16; 3]; 16] = [
        [0, 0, 0],
        [205, 0, 0],
        [0, 205, 0],
        [205, 205, 0],
        [0, 0, 238],
        [205, 0, 205],
        [0, 205, 205],
        [229, 229, 229],
        [127, 127, 127],
        [255, 0, 0],
        [0, 255, 0],
        [255, 255, 0],
        [92, 92, 255],
        [255, 0, 255],
        [0, 255, 255],
        [255, 255, 255],
    ];
    let distance = |one: &[u16; 3]| -> u32 {
        one.iter().zip(colour).map(|(a, b)| u32::from(a.abs_diff(b.min(255))).pow(2)).sum()
    };
    let best = SIXTEEN.iter().enumerate().min_by_key(|(_, one)| distance(one));
    // The array is not empty, and has sixteen places.
    best.map_or(0, |(place, _)| place as u8)
}

/// The state between lines.
#[derive(Debug, Default)]
pub(super) struct Ansi {
    style: Style,
}

impl Ansi {
    /// Appends a line, without its line feed. A carriage return within it is shown and begins a new row: nothing is
    /// written over.
    pub(super) fn line(&mut self, out: &mut String, line: &[u8]) {
        let mut rest = line;
        loop {
            let found = rest.iter().enumerate().find_map(|(place, byte)| match byte {
                0x1b => sgr(&rest[place..]).map(|(end, parameters)| (place, place + end, Some(parameters))),
                b'\r' if place + 1 < rest.len() => Some((place + 1, place + 1, None)),
                _ => None,
            });
            let Some((before, after, parameters)) = found else {
                self.text(out, rest);
                return;
            };
            self.text(out, &rest[..before]);
            match parameters {
                Some(parameters) => self.style.apply(&parameters),
                None => out.push('\n'),
            }
            rest = &rest[after..];
        }
    }

    fn text(&self, out: &mut String, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let classes = self.style.classes();
        if classes.is_empty() {
            push_html(out, text, true);
        } else {
            out.push_str("<span class=\"");
            out.push_str(&classes);
            out.push_str("\">");
            push_html(out, text, true);
            out.push_str("</span>");
        }
    }
}

/// `ESC [ ... m` at the front: its length and parameters.
fn sgr(bytes: &[u8]) -> Option<(usize, Vec<u16>)> {
    let body = bytes.strip_prefix(b"\x1b[")?;
    let end = body.iter().take(LONGEST).position(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':'))?;
    if body[end] != b'm' {
        return None;
    }
    let text = std::str::from_utf8(&body[..end]).ok()?;
    // With colons an empty place for the colour space may stand before red: it is not a parameter here.
    let text = text.replace(":2::", ":2:");
    let parameters = text.split([';', ':']).map(|one| one.parse().unwrap_or(0)).collect();
    Some((end + 3, parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        let mut out = String::new();
        Ansi::default().line(&mut out, text.as_bytes());
        out
    }

    #[test]
    fn colours_become_classes() {
        assert_eq!(line("a\x1b[31mred\x1b[0m b"), "a<span class=\"f1\">red</span> b");
        assert_eq!(
            line("\x1b[1;92mok\x1b[22mx"),
            "<span class=\"f10 bo\">ok</span><span class=\"f10\">x</span>"
        );
        assert_eq!(line("\x1b[38;5;196mx\x1b[mc"), "<span class=\"f9\">x</span>c");
        assert_eq!(line("\x1b[38:2::0:0:255mx"), "<span class=\"f4\">x</span>");
        assert_eq!(line("\x1b[38;2;0;255;9;4mx"), "<span class=\"f10 un\">x</span>");
    }

    #[test]
    fn no_colour_hides_text() {
        assert_eq!(line("\x1b[31;41mx"), "<span class=\"g1\">x</span>");
        assert_eq!(line("\x1b[8mx"), "x");
        assert_eq!(line("\x1b[7mx"), "<span class=\"g7\">x</span>");
    }

    #[test]
    fn other_escapes_stand_as_text() {
        let x = |text: &str| format!("<span class=\"x\">{text}</span>");
        assert_eq!(line("\x1b[2J\x1b[1;1H"), format!("{0}[2J{0}[1;1H", x("\\x1b")));
        let link = line("\x1b]8;;http://e.org\x1b\\text\x1b]8;;\x07");
        assert_eq!(link, format!("{0}]8;;http://e.org{0}\\text{0}]8;;{1}", x("\\x1b"), x("\\x07")));
        assert_eq!(line("\x1b[31"), format!("{}[31", x("\\x1b")));
        assert_eq!(
            line(&format!("\x1b[{}m", "1;".repeat(40))),
            format!("{}[{}m", x("\\x1b"), "1;".repeat(40))
        );
        assert_eq!(line("\u{9b}31mx"), format!("{}31mx", x("\\x9b")));
    }

    #[test]
    fn a_carriage_return_hides_nothing() {
        assert_eq!(line("10%\r20%\r"), "10%<span class=\"x\">\\r</span>\n20%<span class=\"x\">\\r</span>");
    }

    #[test]
    fn the_style_goes_on_into_the_next_line() {
        let (mut ansi, mut out) = (Ansi::default(), String::new());
        ansi.line(&mut out, b"\x1b[32m");
        assert_eq!(out, "");
        ansi.line(&mut out, b"x");
        assert_eq!(out, "<span class=\"f2\">x</span>");
    }
}
