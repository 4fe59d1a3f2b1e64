//! Whether a git-style glob can be used at all. How globs match is the business of `changes`; this check is the
//! default where none is passed in, and it never lets through what globset cannot compile.

use globset::GlobBuilder;

/// Says why a glob cannot be used.
pub fn check(glob: &str) -> Result<(), String> {
    let text = glob.strip_suffix('/').unwrap_or(glob);
    if text.trim_matches('/').is_empty() {
        return Err("it is empty".into());
    }
    if glob.contains(['\0', '\n', '\r']) {
        return Err("it holds a NUL byte or a line break".into());
    }
    if glob.starts_with('!') {
        return Err("`!` has no meaning here; use the list that says the opposite".into());
    }
    if text.split('/').any(|part| part == ".." || part == ".") {
        return Err("a `.` or `..` component matches nothing".into());
    }
    GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map(drop)
        .map_err(|error| error.kind().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad_globs() {
        for good in ["**", "src/**", "/src/*.rs", ".env*", "a/", "[ab].txt", "caf\u{e9}"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "/", "!x", "a/../b", "./a", "a[", "{a", "a\nb", "a\\"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
