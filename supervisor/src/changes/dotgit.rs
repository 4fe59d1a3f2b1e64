//! Names that a file system, or git on another one, may take for `.git`: case, NTFS short names, trailing dots,
//! spaces and streams, and HFS+'s ignorable code points (git's `is_ntfs_dotgit` and `is_hfs_dotgit`).

/// True where one component of a path may be taken for `.git`. A backslash separates components on NTFS.
pub fn is_alias(name: &[u8]) -> bool {
    name.split(|b| *b == b'\\').any(|part| {
        let plain = without_ignorable(part);
        is_ntfs(part) || plain.eq_ignore_ascii_case(b".git") || is_ntfs(&plain)
    })
}

/// True where any component of `path` may be taken for `.git`.
pub fn in_path(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').any(is_alias)
}

fn is_ntfs(name: &[u8]) -> bool {
    let Some(rest) = strip_fold(name, b".git").or_else(|| strip_fold(name, b"git~1")) else {
        return false;
    };
    // A stream (`::$INDEX_ALLOCATION`) names the same file; trailing dots and spaces are dropped.
    let rest = rest.split(|b| *b == b':').next().unwrap_or(rest);
    rest.iter().all(|b| matches!(b, b'.' | b' '))
}

fn strip_fold<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = name.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The name without the code points that HFS+ ignores when it compares (git's `next_hfs_char`).
fn without_ignorable(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let ignored = matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
            if !ignored {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        out.extend_from_slice(chunk.invalid());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_known_and_neighbours_are_not() {
        for yes in [
            &b".git"[..],
            b".GIT",
            b".git ",
            b".git. . ",
            b"GIT~1",
            b"git~1...",
            b".git::$INDEX_ALLOCATION",
            b".Git:x",
            "\u{200c}.g\u{200d}it".as_bytes(),
            ".gi\u{feff}t".as_bytes(),
            b"x\\.git\\hooks",
            b".git\\hooks",
        ] {
            assert!(is_alias(yes), "{yes:?}");
        }
        for no in
            [&b".gitignore"[..], b"git", b".github", b".git-x", b"a.git", b"git~2", b".gi\xfft", b"..git"]
        {
            assert!(!is_alias(no), "{no:?}");
        }
        assert!(in_path(b"a/.GIT/config"));
    }
}
