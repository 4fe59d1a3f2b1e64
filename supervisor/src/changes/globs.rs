//! Git-style globs over paths, as the operator writes them. `*` and `?` stay within one name, `**` crosses
//! directories, a pattern without a slash holds at any depth, and one that matches a directory holds for
//! everything beneath it. `{a,b}` is an alternative. Paths are bytes.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::repo::bytes_path;

/// A glob that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the glob {glob:?} cannot be used: {why}")]
pub struct GlobError {
    /// As given.
    pub glob: String,
    /// What is wrong with it, and what to write instead.
    pub why: String,
}

/// A list of globs.
#[derive(Debug, Clone, Default)]
pub struct GlobList {
    globs: Vec<String>,
    /// Matches a path itself. The number of the glob is the index.
    exact: GlobSet,
    /// Matches what is beneath.
    beneath: GlobSet,
    /// Globs that end in a slash and match directories only.
    dirs_only: Vec<bool>,
    fold: bool,
}

impl GlobList {
    /// Globs that heed case.
    pub fn new(globs: &[String]) -> Result<Self, GlobError> {
        Self::build(globs, false)
    }

    /// Globs that do not heed case, for protected paths: file systems that fold names must not be a way around.
    pub fn case_folded(globs: &[String]) -> Result<Self, GlobError> {
        Self::build(globs, true)
    }

    fn build(globs: &[String], fold: bool) -> Result<Self, GlobError> {
        let mut exact = GlobSetBuilder::new();
        let mut beneath = GlobSetBuilder::new();
        let mut dirs_only = Vec::with_capacity(globs.len());
        for glob in globs {
            let pattern =
                anchored(glob).map_err(|why| GlobError { glob: glob.clone(), why: why.to_owned() })?;
            dirs_only.push(glob.ends_with('/'));
            for (set, text) in [(&mut exact, pattern.clone()), (&mut beneath, format!("{pattern}/**"))] {
                let built = GlobBuilder::new(&text)
                    .literal_separator(true)
                    .backslash_escape(true)
                    .case_insensitive(fold)
                    .build()
                    .map_err(|e| GlobError { glob: glob.clone(), why: e.kind().to_string() })?;
                set.add(built);
            }
        }
        let all = |e: globset::Error| GlobError { glob: globs.join(" "), why: e.to_string() };
        Ok(Self {
            globs: globs.to_vec(),
            exact: exact.build().map_err(all)?,
            beneath: beneath.build().map_err(all)?,
            dirs_only,
            fold,
        })
    }

    /// The globs as given.
    pub fn globs(&self) -> &[String] {
        &self.globs
    }

    /// True without globs.
    pub fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    /// The first glob that matches `path`, which is not a directory.
    pub fn matching(&self, path: &[u8]) -> Option<&str> {
        self.find(path, false)
    }

    /// The first glob that matches `path`, which is a directory.
    pub fn matching_dir(&self, path: &[u8]) -> Option<&str> {
        self.find(path, true)
    }

    fn find(&self, path: &[u8], is_dir: bool) -> Option<&str> {
        if self.globs.is_empty() {
            return None;
        }
        let plain = self.find_in(&bytes_path(path), is_dir);
        if plain.is_some() || !self.fold {
            return plain;
        }
        let folded = fold_name(path);
        if folded == path { None } else { self.find_in(&bytes_path(&folded), is_dir) }
    }

    fn find_in(&self, path: &Path, is_dir: bool) -> Option<&str> {
        let candidate = globset::Candidate::new(path);
        if !self.exact.is_match_candidate(&candidate) && !self.beneath.is_match_candidate(&candidate) {
            return None;
        }
        let exact =
            self.exact.matches_candidate(&candidate).into_iter().find(|i| is_dir || !self.dirs_only[*i]);
        let beneath = self.beneath.matches_candidate(&candidate).into_iter().next();
        let first = match (exact, beneath) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        first.map(|i| self.globs[i].as_str())
    }
}

/// The glob as globset reads it, anchored at the top.
fn anchored(glob: &str) -> Result<String, &'static str> {
    if glob.is_empty() || glob == "/" {
        return Err("it is empty; `**` matches everything");
    }
    if glob.starts_with('!') {
        return Err(
            "negation with `!` is not supported; use the opposite option, or `\\!` for a name that begins so",
        );
    }
    if glob.contains('\0') {
        return Err("it has a NUL character, which no path has");
    }
    let trimmed = glob.strip_suffix('/').unwrap_or(glob);
    let (rooted, body) = match trimmed.strip_prefix('/') {
        Some(rest) => (true, rest),
        None => (false, trimmed),
    };
    if body.split('/').any(|c| c.is_empty() || c == "." || c == "..") {
        return Err("it has an empty, `.` or `..` component; paths are relative to the top of the work tree");
    }
    if rooted || body.contains('/') { Ok(body.to_owned()) } else { Ok(format!("**/{body}")) }
}

/// A path as a case-folding file system may take it: ignorable code points dropped (HFS+), the two letters whose
/// upper or lower case is ASCII folded, and the dots, spaces and stream names dropped that NTFS drops.
pub(crate) fn fold_name(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for (i, name) in path.split(|b| *b == b'/').enumerate() {
        if i > 0 {
            out.push(b'/');
        }
        let mut folded = Vec::with_capacity(name.len());
        for chunk in name.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\u{200c}'..='\u{200f}'
                    | '\u{202a}'..='\u{202e}'
                    | '\u{206a}'..='\u{206f}'
                    | '\u{feff}' => {}
                    '\u{17f}' => folded.push(b's'),
                    '\u{212a}' => folded.push(b'k'),
                    c => folded.extend_from_slice(c.to_lowercase().collect::<String>().as_bytes()),
                }
            }
            folded.extend_from_slice(chunk.invalid());
        }
        if let Some(colon) = folded.iter().position(|b| *b == b':') {
            folded.truncate(colon);
        }
        while folded.len() > 1 && matches!(folded.last(), Some(b'.' | b' ')) {
            folded.pop();
        }
        out.extend_from_slice(short_name(&folded).unwrap_or(&folded));
    }
    out
}

/// The long name of an NTFS short one that git minds (git's `is_ntfs_dotgitmodules` and its sisters).
fn short_name(name: &[u8]) -> Option<&'static [u8]> {
    let tilde = name.iter().position(|b| *b == b'~')?;
    let (stem, number) = name.split_at(tilde);
    if number.len() < 2 || !number[1..].iter().all(u8::is_ascii_digit) {
        return None;
    }
    match stem {
        b"gitmod" | b"gi7eba" | b"gi7eb" | b"gi7e" => Some(b".gitmodules"),
        b"gitign" | b"gi250a" | b"gi250" | b"gi25" => Some(b".gitignore"),
        b"gitatt" | b"gi7d29" | b"gi7d2" | b"gi7d" => Some(b".gitattributes"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::protect::BUILT_IN_PROTECT;

    fn built_in() -> Vec<String> {
        BUILT_IN_PROTECT.iter().map(|g| (*g).to_owned()).collect()
    }

    fn list(globs: &[&str]) -> GlobList {
        GlobList::new(&globs.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn star_stays_within_a_name_and_two_stars_do_not() {
        let globs = list(&["src/*.rs"]);
        assert!(globs.matching(b"src/a.rs").is_some());
        assert!(globs.matching(b"src/x/a.rs").is_none());
        assert!(globs.matching(b"x/src/a.rs").is_none());
        assert!(list(&["src/**/*.rs"]).matching(b"src/x/y/a.rs").is_some());
        assert!(list(&["src/?.rs"]).matching(b"src//.rs").is_none());
        assert!(list(&["a[!b]c"]).matching(b"a/c").is_none());
    }

    #[test]
    fn a_name_holds_at_any_depth_and_for_all_beneath() {
        let globs = list(&["docs", "/top", "only/"]);
        for yes in [&b"docs"[..], b"docs/a", b"x/docs/y/z", b"top", b"top/x", b"only/x", b"a/only/x"] {
            assert!(globs.matching(yes).is_some(), "{}", show(yes));
        }
        for no in [&b"docs2"[..], b"a/top", b"only"] {
            assert!(globs.matching(no).is_none(), "{}", show(no));
        }
        assert_eq!(globs.matching_dir(b"only"), Some("only/"));
    }

    #[test]
    fn paths_that_are_not_utf8_match() {
        assert!(list(&["*.bin"]).matching(b"a\xff\xfe.bin").is_some());
        assert!(list(&["**"]).matching(b"\x80/\n/\xff").is_some());
        assert!(list(&["?x"]).matching(b"\xffx").is_some());
    }

    #[test]
    fn protected_paths_are_folded() {
        let globs = GlobList::case_folded(&built_in()).unwrap();
        for yes in [
            &b".GITHUB/workflows/x.yml"[..],
            b"sub/agents.MD",
            "AGENT\u{17f}.md".as_bytes(),
            ".git\u{200c}ignore".as_bytes(),
            b".gitattributes. ",
            b".gitmodules::$DATA",
            b"GITMOD~1",
            b"x/gi7d29~1",
            b"crates/a/.cargo/Config.toml",
        ] {
            assert!(globs.matching(yes).is_some(), "{}", show(yes));
        }
        assert!(globs.matching(b"src/main.rs").is_none());
    }

    #[test]
    fn errors_name_the_glob_and_what_to_do() {
        let text = |glob: &str| GlobList::new(&[glob.to_owned()]).unwrap_err().to_string();
        assert_eq!(
            text("!src"),
            "the glob \"!src\" cannot be used: negation with `!` is not supported; use the opposite option, or `\\!` for a name that begins so"
        );
        assert!(text("").contains("`**` matches everything"));
        assert!(text("a/../b").contains("`..` component"));
        assert!(text("a[").contains("the glob \"a[\" cannot be used: unclosed character class"));
    }

    use super::super::show;
}
