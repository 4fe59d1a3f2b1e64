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
    /// Matches a directory where a glob of several names may match beneath it and not the directory itself.
    leading: GlobSet,
    /// By glob, what an NTFS short name of its first name begins with, and whether anything may follow.
    stems: Vec<(Vec<u8>, bool)>,
    fold: bool,
}

/// What a list is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Permits: no more than the words say.
    Permits,
    /// Forbids or asks: a glob for what is in a directory holds for whatever has the directory's name, for a link
    /// there gives all that it leads to such names.
    Forbids,
    /// Forbids on file systems that fold names too.
    Folds,
}

impl GlobList {
    /// Globs that heed case, for what is permitted.
    pub fn new(globs: &[String]) -> Result<Self, GlobError> {
        Self::build(globs, Kind::Permits)
    }

    /// Globs that heed case, for what is forbidden or asked about: `dir/**` and `dir/` match also a file or link of
    /// the name `dir`.
    pub fn forbidding(globs: &[String]) -> Result<Self, GlobError> {
        Self::build(globs, Kind::Forbids)
    }

    /// As [`Self::forbidding`], without heed of case, for protected paths: file systems that fold names must not be a
    /// way around.
    pub fn case_folded(globs: &[String]) -> Result<Self, GlobError> {
        Self::build(globs, Kind::Folds)
    }

    fn build(globs: &[String], kind: Kind) -> Result<Self, GlobError> {
        let fold = kind == Kind::Folds;
        let compile = |text: &str| {
            GlobBuilder::new(text)
                .literal_separator(true)
                .backslash_escape(true)
                .case_insensitive(fold)
                .build()
        };
        let mut leading = GlobSetBuilder::new();
        let mut stems = Vec::new();
        let mut exact = GlobSetBuilder::new();
        let mut beneath = GlobSetBuilder::new();
        let mut dirs_only = Vec::with_capacity(globs.len());
        for glob in globs {
            let mut pattern =
                anchored(glob).map_err(|why| GlobError { glob: glob.clone(), why: why.to_owned() })?;
            if kind != Kind::Permits {
                pattern = with_its_directory(&pattern).to_owned();
            }
            dirs_only.push(glob.ends_with('/') && kind == Kind::Permits);
            for (set, text) in [(&mut exact, pattern.clone()), (&mut beneath, format!("{pattern}/**"))] {
                let built = compile(&text)
                    .map_err(|e| GlobError { glob: glob.clone(), why: e.kind().to_string() })?;
                set.add(built);
            }
            for (end, _) in pattern.match_indices('/').filter(|(end, _)| &pattern[..*end] != "**") {
                // A slash within braces parts no names: then any directory may lead to a match.
                leading.add(match compile(&pattern[..end]) {
                    Ok(built) => built,
                    Err(_) => compile("**")
                        .map_err(|e| GlobError { glob: glob.clone(), why: e.kind().to_string() })?,
                });
            }
            stems.push(short_stem(&pattern));
        }
        let all = |e: globset::Error| GlobError { glob: globs.join(" "), why: e.to_string() };
        Ok(Self {
            globs: globs.to_vec(),
            exact: exact.build().map_err(all)?,
            beneath: beneath.build().map_err(all)?,
            dirs_only,
            leading: leading.build().map_err(all)?,
            stems,
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

    /// False where giving a directory the name `path` makes nothing in it match that does not match under its own
    /// name, and `path` does not match either.
    pub fn may_match_beneath(&self, path: &[u8]) -> bool {
        self.matching_dir(path).is_some()
            || self.leading.is_match(bytes_path(path))
            || self.fold && self.leading.is_match(bytes_path(&fold_name(path)))
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
        let found = if folded == path { None } else { self.find_in(&bytes_path(&folded), is_dir) };
        found.or_else(|| self.find_short(&folded))
    }

    /// The first glob whose first name could be what an NTFS short name in the folded `path` stands for (`GITHUB~1` for
    /// `.github`): which long name it is depends on what else is in the directory, so all that begin alike match.
    fn find_short(&self, path: &[u8]) -> Option<&str> {
        let names = path.split(|b| *b == b'/').filter_map(|name| {
            let tilde = name.iter().position(|b| *b == b'~')?;
            let number = name[tilde + 1..].split(|b| *b == b'.').next().unwrap_or(&[]);
            (tilde > 0 && !number.is_empty() && number.iter().all(u8::is_ascii_digit))
                .then_some(&name[..tilde])
        });
        for name in names {
            let found = self.stems.iter().position(|(stem, open)| {
                // After four that begin alike, NTFS keeps two characters and puts four digits of a hash behind them.
                let hashed = name.len() == 6 && name[2..].iter().all(u8::is_ascii_hexdigit);
                !stem.is_empty()
                    && (stem.starts_with(name)
                        || *open && name.starts_with(stem)
                        || hashed && stem.starts_with(&name[..2]))
            });
            if let Some(glob) = found.and_then(|i| self.globs.get(i)) {
                return Some(glob);
            }
        }
        None
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

/// `dir/**` as `dir`, which matches the directory, what is beneath, and a file or link in its place; not where that
/// would be every name there is.
fn with_its_directory(pattern: &str) -> &str {
    let mut all = pattern;
    while let Some(dir) = all.strip_suffix("/**").or_else(|| all.strip_suffix("/**/*")) {
        all = dir;
    }
    if all.rsplit('/').next().is_some_and(|name| name.bytes().all(|b| b == b'*')) { pattern } else { all }
}

/// What an NTFS short name of the pattern's first name has before its `~`, at most: lower case, without dots and spaces,
/// up to where the name is not fixed; and whether that is before its end.
fn short_stem(pattern: &str) -> (Vec<u8>, bool) {
    let first = pattern.split('/').find(|name| *name != "**").unwrap_or("");
    let fixed = first.split(['*', '?', '[', '{', '\\']).next().unwrap_or("");
    let stem = fixed.to_lowercase().bytes().filter(|b| !matches!(b, b'.' | b' ')).collect();
    (stem, fixed.len() < first.len())
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
    fn what_forbids_a_directory_forbids_a_link_of_its_name_and_what_permits_does_not() {
        let names = ["db/**".to_owned(), "**/keys/**/*".to_owned(), "*/**".to_owned(), "only/".to_owned()];
        let globs = GlobList::forbidding(&names).unwrap();
        for yes in [&b"db"[..], b"db/x", b"a/keys", b"keys", b"keys/a/b", b"only", b"a/b"] {
            assert!(globs.matching(yes).is_some(), "{}", show(yes));
        }
        assert_eq!(globs.matching(b"top"), None);
        assert_eq!(globs.matching(b"DB"), None);
        assert!(GlobList::case_folded(&names).unwrap().matching(b"DB").is_some());
        assert_eq!(list(&["db/**"]).matching(b"db"), None);
    }

    #[test]
    fn short_names_of_protected_names_match() {
        let globs = GlobList::case_folded(&built_in()).unwrap();
        for yes in [
            &b"GITHUB~1"[..],
            b"x/CLAUDE~1/settings.json",
            b"git~2",
            b"VSCODE~12/x",
            b"AGENTS~1.MD",
            b"AGENT~10.md",
            b"CARGO~1/config",
            b"GI1F2A~1",
            b"LEFTHO~1.YML",
            b"AIDERX~1",
            b"PROCTO~1.TOM",
        ] {
            assert!(globs.matching(yes).is_some(), "{}", show(yes));
        }
        for no in [
            &b"main.rs~1"[..],
            b"src/backup~1",
            b"github~",
            b"a/~1",
            b"github~x",
            b"README~1.MD",
            b"picture~1.png",
        ] {
            assert_eq!(globs.matching(no), None, "{}", show(no));
        }
        // What heeds case is no rule of a file system that has short names.
        assert_eq!(list(&[".github"]).matching(b"GITHUB~1"), None);
    }

    #[test]
    fn a_directory_that_leads_to_no_match_is_known() {
        let globs = |g: &str| GlobList::forbidding(&[g.to_owned()]).unwrap();
        let config = globs("**/.cargo/config*");
        assert!(config.may_match_beneath(b"a/.cargo"));
        assert!(!config.may_match_beneath(b"a/cargo"));
        assert!(!globs("*.sql").may_match_beneath(b"db"));
        assert!(globs("/db/*.sql").may_match_beneath(b"db"));
        assert!(!globs("/db/*.sql").may_match_beneath(b"a/db"));
        assert!(globs("a/**/x").may_match_beneath(b"a/b/c"));
        assert!(globs("{a/b,c}/d").may_match_beneath(b"c"));
        assert!(GlobList::case_folded(&["a/b/c".to_owned()]).unwrap().may_match_beneath(b"A/B"));
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
