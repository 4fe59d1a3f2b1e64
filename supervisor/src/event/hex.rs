//! Lower-case hexadecimal, the one spelling of digests here.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The bytes as lower-case hex.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    encode_into(bytes, &mut text);
    text
}

/// As [`encode`], into a string that is emptied before.
pub fn encode_into(bytes: &[u8], text: &mut String) {
    text.clear();
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Whether the text is a SHA-256 in the spelling used here.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Whether the text is lower-case hex and not empty.
#[must_use]
pub fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    #[test]
    fn spelling() {
        assert_eq!(super::encode(&[0, 0x9f, 0xff]), "009fff");
        assert!(super::is_sha256(&"0a".repeat(32)));
        assert!(!super::is_sha256(&"0A".repeat(32)));
        assert!(!super::is_hex(""));
    }
}
