//! The forms in which a secret is looked for: as it is, and as programs write it for others to read. Whole values alone;
//! nothing here searches. What is not among them is named in docs/threat-model.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::secrets::MIN_SECRET;
use crate::event::hex;
use crate::report::escape;

/// Every form of a value.
pub(super) fn forms(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::from([value.to_vec()]);
    forms.extend(hexes(value));
    for skip in 0..3 {
        for alphabet in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let form = base64_within(alphabet, value, skip);
            if form.len() >= MIN_SECRET {
                forms.insert(form);
            }
        }
    }
    for plus in [false, true] {
        for upper in [false, true] {
            for plain in [&b"-_.~"[..], b"-_.~/", b"-_.!~*'()"] {
                let once = url_encoded(value, plus, upper, plain);
                // Within another URL's parameter.
                forms.insert(url_encoded(&once, false, upper, b"-_.~"));
                forms.insert(once);
            }
        }
    }
    forms.extend(shell_quoted(value));
    forms.insert(octal(value));
    forms.insert(quoted_printable(value));
    forms.insert(value.escape_ascii().to_string().into_bytes());
    if let Ok(text) = std::str::from_utf8(value) {
        forms.extend(json_escaped(text));
        forms.extend(html_escaped(text).into_iter().map(String::into_bytes));
        // Of programs in Rust, and Proctor's own.
        let quoted = format!("{text:?}");
        forms.insert(quoted.as_bytes()[1..quoted.len() - 1].to_vec());
        forms.insert(escape::terminal(text).into_bytes());
        let units: Vec<u16> = text.encode_utf16().collect();
        forms.insert(units.iter().flat_map(|unit| unit.to_le_bytes()).collect());
        forms.insert(units.iter().flat_map(|unit| unit.to_be_bytes()).collect());
    }
    forms
}

/// Hex, plain and parted as dumps, certificates and programs part it.
fn hexes(value: &[u8]) -> Vec<Vec<u8>> {
    let lower: Vec<String> = value.iter().map(|byte| hex::encode(&[*byte])).collect();
    let mut all = Vec::new();
    for bytes in [lower.iter().map(|byte| byte.to_ascii_uppercase()).collect(), lower] {
        for between in ["", ":", " ", "-", "\\x", ", 0x", ",0x"] {
            all.push(bytes.join(between));
        }
        // Two by two, as xxd(1) has it, wherever the first byte stands.
        let pairs = |bytes: &[String]| bytes.chunks(2).map(<[String]>::concat).collect::<Vec<_>>().join(" ");
        if let Some((first, rest)) = bytes.split_first() {
            all.push(format!("{first} {}", pairs(rest)));
        }
        all.push(pairs(&bytes));
    }
    all.into_iter().map(String::into_bytes).collect()
}

/// The characters of base64 that depend on the value alone when `skip` bytes of something else stand before it.
fn base64_within(alphabet: &base64::engine::GeneralPurpose, value: &[u8], skip: usize) -> Vec<u8> {
    let mut padded = vec![0; skip];
    padded.extend_from_slice(value);
    let encoded = alphabet.encode(&padded).into_bytes();
    // Each character holds 6 bits: drop those that also hold bits of what stands before or after.
    let first = (skip * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    encoded[first..last].to_vec()
}

fn url_encoded(value: &[u8], plus: bool, upper: bool, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() * 3);
    for byte in value {
        if byte.is_ascii_alphanumeric() || plain.contains(byte) {
            out.push(*byte);
        } else if plus && *byte == b' ' {
            out.push(b'+');
        } else {
            let text = if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// As a shell reads it back: within single or double quotes, or with a backslash before whatever is not plain. Which
/// characters are plain is not the same everywhere.
fn shell_quoted(value: &[u8]) -> Vec<Vec<u8>> {
    let replaced = |special: &dyn Fn(u8) -> bool, with: &dyn Fn(u8) -> Vec<u8>| -> Vec<u8> {
        value.iter().flat_map(|byte| if special(*byte) { with(*byte) } else { vec![*byte] }).collect()
    };
    let backslash = |byte: u8| vec![b'\\', byte];
    let mut all = vec![
        replaced(&|byte| byte == b'\'', &|_| b"'\\''".to_vec()),
        replaced(&|byte| byte == b'\'', &|_| b"'\"'\"'".to_vec()),
        // $'...' and what else escapes its own quotes.
        replaced(&|byte| b"'\\".contains(&byte), &backslash),
        replaced(&|byte| b"\"\\".contains(&byte), &backslash),
        replaced(&|byte| b"\"\\$`".contains(&byte), &backslash),
        replaced(&|byte| b"\"\\$`!".contains(&byte), &backslash),
    ];
    for plain in ["_", "_-./", "_-./:", "_-./:@%+,", "_-./:@%+,=", "_-./:@%+,=~"] {
        for beyond_ascii in [false, true] {
            let is_plain = |byte: u8| {
                byte.is_ascii_alphanumeric()
                    || plain.as_bytes().contains(&byte)
                    || (!beyond_ascii && !byte.is_ascii())
            };
            all.push(replaced(&|byte| !is_plain(byte), &backslash));
        }
    }
    all
}

/// As C, and git in the names of a patch, write a string.
fn octal(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            7 => out.extend(b"\\a"),
            8 => out.extend(b"\\b"),
            b'\t' => out.extend(b"\\t"),
            b'\n' => out.extend(b"\\n"),
            11 => out.extend(b"\\v"),
            12 => out.extend(b"\\f"),
            b'\r' => out.extend(b"\\r"),
            b' '..=b'~' => out.push(*byte),
            _ => out.extend(format!("\\{byte:03o}").into_bytes()),
        }
    }
    out
}

/// As mail writes it, within one line.
fn quoted_printable(value: &[u8]) -> Vec<u8> {
    let one = |byte: &u8| match byte {
        b'=' | 127.. | 0..b' ' => format!("={byte:02X}").into_bytes(),
        _ => vec![*byte],
    };
    value.iter().flat_map(one).collect()
}

/// As HTML and XML write it: the characters that every writer escapes, and those that only some do, by name and number.
fn html_escaped(text: &str) -> BTreeSet<String> {
    let base = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let each = |all: BTreeSet<String>, ways: &[&[(char, &str)]]| -> BTreeSet<String> {
        let way = |form: &String, pairs: &[(char, &str)]| {
            pairs.iter().fold(form.clone(), |form, (c, name)| form.replace(*c, name))
        };
        all.iter().flat_map(|form| ways.iter().map(|pairs| way(form, pairs))).collect()
    };
    let mut all = BTreeSet::from([base]);
    all = each(all, &[&[], &[('"', "&quot;")], &[('"', "&#34;")], &[('"', "&#x22;")]]);
    let apostrophes = ["&apos;", "&#39;", "&#039;", "&#x27;"].map(|name| [('\'', name)]);
    all = each(all, &[&[], &apostrophes[0], &apostrophes[1], &apostrophes[2], &apostrophes[3]]);
    all = each(all, &[&[], &[('/', "&#x2F;")], &[('/', "&#47;")]]);
    all = each(all, &[&[], &[('+', "&#43;")], &[('`', "&#x60;"), ('=', "&#x3D;")]]);
    // Characters beyond ASCII as numbers.
    let number = |form: &String, hex: bool| {
        form.chars().fold(String::new(), |mut out, c| {
            // Writing to a String does not fail.
            let _ = match (c.is_ascii(), hex) {
                (true, _) => write!(out, "{c}"),
                (false, true) => write!(out, "&#x{:x};", u32::from(c)),
                (false, false) => write!(out, "&#{};", u32::from(c)),
            };
            out
        })
    };
    let numbers: Vec<String> =
        all.iter().flat_map(|form| [number(form, false), number(form, true)]).collect();
    all.extend(numbers);
    all
}

/// How one writer of JSON escapes beyond what all must.
struct Writer {
    /// As `\u`: these, besides control characters.
    also: &'static str,
    ascii: bool,
    slash: bool,
    upper: bool,
}

impl Writer {
    fn quoted(&self, text: &str) -> String {
        let mut out = String::new();
        let mut units = [0; 2];
        for c in text.chars() {
            let escaped = match c {
                c if self.also.contains(c) => None,
                '"' => Some("\\\""),
                '\\' => Some("\\\\"),
                '\u{8}' => Some("\\b"),
                '\u{c}' => Some("\\f"),
                '\n' => Some("\\n"),
                '\r' => Some("\\r"),
                '\t' => Some("\\t"),
                '/' if self.slash => Some("\\/"),
                c if c >= ' ' && (c.is_ascii() || !self.ascii) => {
                    out.push(c);
                    continue;
                }
                _ => None,
            };
            match escaped {
                Some(escaped) => out.push_str(escaped),
                None => {
                    for unit in c.encode_utf16(&mut units) {
                        // Writing to a String does not fail.
                        let _ = if self.upper {
                            write!(out, "\\u{unit:04X}")
                        } else {
                            write!(out, "\\u{unit:04x}")
                        };
                    }
                }
            }
        }
        out
    }
}

/// JSON's own escapes, as writers of JSON differ in them; and each escaped once more, for JSON inside JSON.
fn json_escaped(text: &str) -> Vec<Vec<u8>> {
    let mut all = BTreeSet::new();
    for also in ["", "<>&", "<>&'", "<>&'\"", "<>&'\"+`\u{7f}"] {
        for (ascii, slash, upper) in (0..8).map(|bits| (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0)) {
            all.insert(Writer { also, ascii, slash, upper }.quoted(text));
        }
    }
    let outer = Writer { also: "", ascii: false, slash: false, upper: false };
    let again: Vec<String> = all.iter().map(|form| outer.quoted(form)).collect();
    all.into_iter().chain(again).map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, forms_of: &[&str]) {
        let all = forms(value.as_bytes());
        for form in forms_of {
            assert!(all.contains(form.as_bytes()), "{form} is not among the forms of {value:?}");
        }
    }

    #[test]
    fn writers_of_json_differ() {
        has(
            "a/b<'\"é\u{1f600}\u{7f}+",
            &[
                "a/b<'\\\"é\u{1f600}\u{7f}+",
                // Python.
                "a/b<'\\\"\\u00e9\\ud83d\\ude00\u{7f}+",
                // PHP, and with JSON_HEX_*.
                "a\\/b<'\\\"\\u00e9\\ud83d\\ude00\u{7f}+",
                "a\\/b\\u003C\\u0027\\u0022\\u00E9\\uD83D\\uDE00\u{7f}+",
                // Go.
                "a/b\\u003c'\\\"é\u{1f600}\u{7f}+",
                // .NET.
                "a/b\\u003C\\u0027\\u0022\\u00E9\\uD83D\\uDE00\\u007F\\u002B",
                // Once more.
                "a/b<'\\\\\\\"é\u{1f600}\u{7f}+",
            ],
        );
    }

    #[test]
    fn shells_and_c() {
        has(
            "it's $a/\"b\" é\\",
            &[
                "it'\\''s $a/\"b\" é\\",
                "it'\"'\"'s $a/\"b\" é\\",
                "it's \\$a/\\\"b\\\" é\\\\",
                // printf %q of bash, Shellwords of Ruby, quotemeta of Perl.
                "it\\'s\\ \\$a/\\\"b\\\"\\ é\\\\",
                "it\\'s\\ \\$a\\/\\\"b\\\"\\ é\\\\",
                "it\\'s $a/\"b\" é\\\\",
                // git and C; Rust and Python of bytes.
                "it's $a/\\\"b\\\" \\303\\251\\\\",
                "it\\'s $a/\\\"b\\\" \\xc3\\xa9\\\\",
            ],
        );
    }

    #[test]
    fn html_by_name_and_number() {
        has(
            "<a&b>'\"/é",
            &[
                "&lt;a&amp;b&gt;'\"/é",
                "&lt;a&amp;b&gt;'&quot;/é",
                "&lt;a&amp;b&gt;&#39;&quot;/é",
                "&lt;a&amp;b&gt;&#x27;&quot;&#x2F;é",
                "&lt;a&amp;b&gt;&apos;&#34;/&#233;",
                "&lt;a&amp;b&gt;&apos;&#34;/&#xe9;",
            ],
        );
    }

    #[test]
    fn hex_parted_and_other_encodings() {
        has(
            "ab=/c",
            &[
                "61623d2f63",
                "61:62:3D:2F:63",
                "61 62 3d 2f 63",
                "61-62-3d-2f-63",
                "61\\x62\\x3d\\x2f\\x63",
                "61, 0x62, 0x3d, 0x2f, 0x63",
                "6162 3d2f 63",
                "61 623d 2f63",
                "ab%3D/c",
                "ab%253D%252Fc",
                "ab=3D/c",
                "a\0b\0=\0/\0c\0",
            ],
        );
    }

    #[test]
    fn forms_stay_few_and_most_of_a_plain_value_are_one() {
        assert!(forms(b"correct-horse-battery-staple").len() < 50);
        let worst: String = (0..64).map(|n| char::from(b'!' + n % 15)).chain("é`=\u{7f}\\".chars()).collect();
        let all = forms(worst.as_bytes());
        assert!(all.len() < 1500, "{}", all.len());
    }
}
