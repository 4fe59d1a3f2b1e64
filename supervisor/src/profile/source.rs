//! Reading policy files: opened once, regular, capped, UTF-8, never from inside the work tree. Turns what the
//! TOML reader says into [`ProfileError`]s with line, column and the nearest key.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use serde::de::DeserializeOwned;

use super::error::{Bad, Place, ProfileError, nearest};
use super::keys;

/// The most bytes that a profile, view or configuration file may have.
pub const FILE_LIMIT: u64 = 1 << 20;

/// A policy file's text and the name it is known by in messages.
#[derive(Debug, Clone)]
pub struct SourceText {
    /// For messages.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// Why a file was not read.
#[derive(Debug)]
pub enum ReadProblem {
    /// There is no such file.
    Absent,
    /// It is there, or may be, and cannot be used.
    Bad(Bad),
}

impl SourceText {
    /// Where a byte range begins.
    pub fn place(&self, start: usize) -> Place {
        // A span past the end (an unfinished last line) stands at the end; one inside a character, before it.
        let mut start = start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &self.text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        Place::File { file: self.name.clone(), line, column }
    }

    /// Reads the text as TOML of this shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ProfileError> {
        toml::from_str(&self.text).map_err(|error| {
            let place = match error.span() {
                Some(span) => self.place(span.start),
                None => Place::WholeFile(self.name.clone()),
            };
            explain(error.message()).at(place)
        })
    }
}

/// Makes the TOML reader's message ours; an unknown key or word gets its nearest valid one.
fn explain(message: &str) -> Bad {
    if let Some((key, here)) = unknown("field", message) {
        let listed = format!("keys here: {}", here.join(", "));
        let bad = Bad::new(format!("unknown key `{}`", key.escape_debug())).remedy(listed);
        // A known key in the wrong table, or an option's name, is a commoner mistake than a misspelling.
        let elsewhere = keys::with_last_part(key).into_iter().chain(keys::of_option(key)).collect::<Vec<_>>();
        return match (elsewhere.as_slice(), nearest(key, here.iter().copied())) {
            ([only], _) => bad.near(only, [*only]),
            (_, Some(near)) => bad.near(&near, [near.as_str()]),
            ([first, ..], None) => bad.near(first, [*first]),
            ([], None) => bad,
        };
    }
    if let Some((word, here)) = unknown("variant", message) {
        let listed = here.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        return Bad::new(format!("`{}` is no word that is known here", word.escape_debug()))
            .near(word, here.iter().copied())
            .remedy(format!("one of {listed}"));
    }
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let text = lines
        .join("; ")
        .replace("expected a sequence", "expected a list")
        .replace("expected a map", "expected a table");
    Bad::new(text).remedy("docs/profiles.md shows every key with an example")
}

/// Takes serde's "unknown field/variant `x`, expected ..." apart: the word, and what would have been right.
fn unknown<'a>(what: &str, message: &'a str) -> Option<(&'a str, Vec<&'a str>)> {
    let rest = message.strip_prefix("unknown ")?.strip_prefix(what)?.strip_prefix(" `")?;
    let end = rest.find("`, expected").or_else(|| rest.find("`, there are no"))?;
    Some((&rest[..end], rest[end + 1..].split('`').skip(1).step_by(2).collect()))
}

/// Reads a regular file of at most `limit` bytes of UTF-8; also gives the path it really has.
pub fn read(path: &Path, limit: u64) -> Result<(String, PathBuf), ReadProblem> {
    let bad = |what: String, remedy: &str| ReadProblem::Bad(Bad::new(what).remedy(remedy));
    // Non-blocking, so that a fifo put in the file's place is refused rather than waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => std::fs::File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Err(ReadProblem::Absent),
        Err(errno) => {
            return Err(bad(format!("cannot be opened: {errno}"), "make it readable, or name another file"));
        }
    };
    let stat = rustix::fs::fstat(&file)
        .map_err(|errno| bad(format!("cannot be examined: {errno}"), "name another file"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(bad("is not a regular file".into(), "name a regular file"));
    }
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|error| bad(format!("has no known real path: {error}"), "mount /proc"))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells "too large" from "just fits", whatever the size said a moment ago.
    (&file)
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| bad(format!("cannot be read: {error}"), "name another file"))?;
    if bytes.len() as u64 > limit {
        return Err(bad(format!("is larger than {limit} bytes"), "make it smaller"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        bad(format!("is not UTF-8 (byte {at})"), "save it as UTF-8")
    })?;
    Ok((text, real))
}

/// The work tree that policy must not come from.
#[derive(Debug, Clone)]
pub struct WorkTree {
    top: PathBuf,
}

impl WorkTree {
    /// Finds the top of the work tree that holds `repo`: the nearest directory upwards with a `.git`, else `repo`.
    pub fn around(repo: &Path) -> Result<Self, ProfileError> {
        let at = || Place::Option("--repo".into());
        let real = std::fs::canonicalize(repo).map_err(|error| {
            Bad::new(format!("`{}` cannot be opened: {error}", repo.display()))
                .remedy("name a directory inside a git work tree")
                .at(at())
        })?;
        if !real.is_dir() {
            return Err(Bad::new(format!("`{}` is not a directory", repo.display()))
                .remedy("name a directory inside a git work tree")
                .at(at()));
        }
        let top = real
            .ancestors()
            .find(|dir| dir.join(".git").symlink_metadata().is_ok())
            .unwrap_or(&real)
            .to_path_buf();
        Ok(Self { top })
    }

    /// Refuses a path that lies inside, be it by its name or by where its links lead.
    pub fn refuse(&self, path: &Path, real: Option<&Path>) -> Result<(), Bad> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let named = std::fs::canonicalize(parent).map_err(|error| {
            Bad::new(format!("its directory `{}` cannot be opened: {error}", parent.display()))
                .remedy("name a file in a directory that exists")
        })?;
        if named.starts_with(&self.top) || real.is_some_and(|real| real.starts_with(&self.top)) {
            return Err(Bad::new("lies inside the work tree, where a backend could have written it")
                .remedy("keep it outside every work tree, for example below ~/.config/proctor"));
        }
        Ok(())
    }
}

/// Reads a policy file that must not lie in the work tree. `None` where there is no such file.
pub fn read_policy(path: &Path, tree: &WorkTree) -> Result<Option<SourceText>, ProfileError> {
    let name = path.display().to_string();
    let place = || Place::WholeFile(name.clone());
    match read(path, FILE_LIMIT) {
        Ok((text, real)) => {
            tree.refuse(path, Some(&real)).map_err(|bad| bad.at(place()))?;
            Ok(Some(SourceText { name, text }))
        }
        Err(ReadProblem::Absent) => Ok(None),
        Err(ReadProblem::Bad(bad)) => Err(bad.at(place())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn places_count_lines_and_characters() {
        let source = SourceText { name: "f".into(), text: "a\n\u{e9}\u{e9}x\n".into() };
        let at = |line, column| Place::File { file: "f".into(), line, column };
        assert_eq!(source.place(0), at(1, 1));
        assert_eq!(source.place(6), at(2, 3));
        assert_eq!(source.place(3), at(2, 1), "inside a character");
        assert_eq!(source.place(99), at(3, 1));
    }

    #[test]
    fn only_small_regular_utf8_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("good"), "x").unwrap();
        std::fs::write(path("large"), "x".repeat(11)).unwrap();
        std::fs::write(path("binary"), b"ab\xff").unwrap();
        let what = |name: &str| match read(&path(name), 10) {
            Ok((text, _)) => text,
            Err(ReadProblem::Absent) => "absent".into(),
            Err(ReadProblem::Bad(bad)) => bad.what,
        };
        assert_eq!(what("good"), "x");
        assert_eq!(what("large"), "is larger than 10 bytes");
        assert_eq!(what("binary"), "is not UTF-8 (byte 2)");
        assert_eq!(what("none"), "absent");
        assert_eq!(what("."), "is not a regular file");
        let fifo = path("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(what("fifo"), "is not a regular file");
    }

    #[test]
    fn nothing_is_read_from_the_work_tree_by_name_or_by_link() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join(".git")).unwrap();
        std::fs::create_dir_all(tree.join("sub")).unwrap();
        std::fs::write(tree.join("in.toml"), "").unwrap();
        std::fs::write(dir.path().join("out.toml"), "").unwrap();
        symlink(tree.join("in.toml"), dir.path().join("link-in.toml")).unwrap();
        symlink(dir.path().join("out.toml"), tree.join("link-out.toml")).unwrap();
        let guard = WorkTree::around(&tree.join("sub")).unwrap();
        let inside = "lies inside the work tree, where a backend could have written it";
        for bad in [tree.join("in.toml"), dir.path().join("link-in.toml"), tree.join("link-out.toml")] {
            assert_eq!(read_policy(&bad, &guard).unwrap_err().what, inside, "{}", bad.display());
        }
        assert!(read_policy(&dir.path().join("out.toml"), &guard).unwrap().is_some());
        assert!(read_policy(&dir.path().join("none.toml"), &guard).unwrap().is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]a-z=\"'`#{}, \\n\u{e9}]{0,60}", cut in 0usize..900) {
            let source = SourceText { name: "f".into(), text };
            let _ = source.parse::<crate::profile::raw::RawProfile>().map_err(|error| error.to_string());
            // A good file, cut off anywhere, is good or an error with a place inside it.
            let full = include_str!("../../../fixtures/profiles/valid/full.toml");
            let text = full[..cut.min(full.len())].to_owned();
            let lines = text.matches('\n').count() + 1;
            if let Err(error) = (SourceText { name: "f".into(), text }).parse::<crate::profile::raw::RawProfile>() {
                let Place::File { line, .. } = error.place else { panic!("{error}") };
                proptest::prop_assert!(line <= lines);
            }
        }
    }
}
