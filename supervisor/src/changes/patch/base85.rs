//! Git's base 85 and the line format of `GIT binary patch` (git, `base85.c` and `diff.c`).

const ALPHABET: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// Appends `data` in lines of at most 52 bytes each, a length letter first.
pub fn encode_lines(data: &[u8], out: &mut Vec<u8>) {
    for line in data.chunks(52) {
        // The length of a line is at most 52, so the letter is in range.
        let letter =
            if line.len() <= 26 { b'A' + line.len() as u8 - 1 } else { b'a' + line.len() as u8 - 27 };
        out.push(letter);
        for group in line.chunks(4) {
            let mut word = [0u8; 4];
            word[..group.len()].copy_from_slice(group);
            let mut value = u32::from_be_bytes(word);
            let mut digits = [0u8; 5];
            for digit in digits.iter_mut().rev() {
                *digit = ALPHABET[(value % 85) as usize];
                value /= 85;
            }
            out.extend_from_slice(&digits);
        }
        out.push(b'\n');
    }
}

/// Decodes one line (without its line feed) to `out`; `None` where git would not have written it.
pub fn decode_line(line: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (letter, digits) = line.split_first()?;
    let len = usize::from(match letter {
        b'A'..=b'Z' => letter - b'A' + 1,
        b'a'..=b'z' => letter - b'a' + 27,
        _ => return None,
    });
    if digits.len() != len.div_ceil(4) * 5 {
        return None;
    }
    let start = out.len();
    for group in digits.chunks(5) {
        let mut value = 0u32;
        for digit in group {
            let digit = ALPHABET.iter().position(|a| a == digit)?;
            value = value.checked_mul(85)?.checked_add(u32::try_from(digit).ok()?)?;
        }
        out.extend_from_slice(&value.to_be_bytes());
    }
    out.truncate(start + len);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_at_every_length() {
        for len in 1..=52usize {
            let data: Vec<u8> = (0..len).map(|i| (i * 37 + 200) as u8).collect();
            let mut text = Vec::new();
            encode_lines(&data, &mut text);
            let mut back = Vec::new();
            decode_line(text.strip_suffix(b"\n").unwrap(), &mut back).unwrap();
            assert_eq!(back, data);
        }
        assert!(decode_line(b"D~~~~~", &mut Vec::new()).is_none(), "more than 32 bits");
        assert!(decode_line(b"E00000", &mut Vec::new()).is_none(), "too short");
    }
}
