//! Names in patches, quoted as git does with `core.quotePath=true` (git, `quote.c`).

/// True where git quotes the name.
pub fn needs_quotes(name: &[u8]) -> bool {
    name.iter().any(|b| *b < 0x20 || *b >= 0x7f || matches!(b, b'"' | b'\\'))
}

/// Appends `prefix` and `name`, in quotes where git would.
pub fn push(prefix: &[u8], name: &[u8], out: &mut Vec<u8>) {
    if !needs_quotes(name) {
        out.extend_from_slice(prefix);
        out.extend_from_slice(name);
        return;
    }
    out.push(b'"');
    out.extend_from_slice(prefix);
    for b in name {
        let short = match b {
            7 => b'a',
            8 => b'b',
            9 => b't',
            10 => b'n',
            11 => b'v',
            12 => b'f',
            13 => b'r',
            b'"' => b'"',
            b'\\' => b'\\',
            0x20..=0x7e => {
                out.push(*b);
                continue;
            }
            _ => {
                out.extend_from_slice(&[b'\\', b'0' + (b >> 6), b'0' + (b >> 3 & 7), b'0' + (b & 7)]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.push(b'"');
}

/// Reads a quoted name that starts at the front of `text`; gives it and what follows the closing quote.
pub fn read(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut name = Vec::new();
    loop {
        let (b, tail) = rest.split_first()?;
        rest = tail;
        match b {
            b'"' => return Some((name, rest)),
            b'\\' => {
                let (escape, tail) = rest.split_first()?;
                rest = tail;
                name.push(match escape {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => 9,
                    b'n' => 10,
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => 13,
                    b'"' | b'\\' => *escape,
                    b'0'..=b'3' => {
                        let (digits, tail) = rest.split_at_checked(2)?;
                        rest = tail;
                        if !digits.iter().all(|d| matches!(d, b'0'..=b'7')) {
                            return None;
                        }
                        (escape - b'0') << 6 | (digits[0] - b'0') << 3 | (digits[1] - b'0')
                    }
                    _ => return None,
                });
            }
            b'\n' => return None,
            other => name.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_git_does_and_reads_it_back() {
        let mut out = Vec::new();
        push(b"a/", b"t\tq\"b\\n\n\xc3\xa9\x01\x7f", &mut out);
        assert_eq!(out, br#""a/t\tq\"b\\n\n\303\251\001\177""#);
        assert_eq!(read(&out), Some((b"a/t\tq\"b\\n\n\xc3\xa9\x01\x7f".to_vec(), &b""[..])));
        let mut plain = Vec::new();
        push(b"b/", b"with space", &mut plain);
        assert_eq!(plain, b"b/with space");
    }
}
