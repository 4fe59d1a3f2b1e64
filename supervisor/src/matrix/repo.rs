//! The small repository that every row runs on: four files in one commit, written object by object. No git is run.

use std::fs;
use std::io;
use std::path::Path;

use gix_hash::{Kind, ObjectId};
use gix_object::Write as _;

/// Files of the base commit, in git's order.
const TOP: [(&str, &str); 3] = [
    (".gitignore", "target/\n"),
    ("README", "a small project\n"),
    ("check.sh", "grep -qx mended src/value.txt\n"),
];
/// The file that says `broken`, which the check wants to say `mended`.
const VALUE: (&str, &str) = ("value.txt", "broken\n");
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n";
const COMMIT: &str = "author Proctor <proctor@example.invalid> 1767323045 +0000\n\
    committer Proctor <proctor@example.invalid> 1767323045 +0000\n\nbase\n";

fn other(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// Makes it in a directory that does not exist yet.
///
/// # Errors
/// It could not be written.
pub(super) fn make(root: &Path) -> io::Result<()> {
    fs::create_dir(root)?;
    fs::create_dir(root.join("src"))?;
    fs::write(root.join("src").join(VALUE.0), VALUE.1)?;
    for (name, text) in TOP {
        fs::write(root.join(name), text)?;
    }
    let git = root.join(".git");
    for dir in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        fs::create_dir_all(git.join(dir))?;
    }
    fs::write(git.join("config"), CONFIG)?;
    fs::write(git.join("HEAD"), "ref: refs/heads/main\n")?;
    let store = gix_odb::loose::Store::at(git.join("objects"), Kind::Sha1);
    let write = |kind, bytes: &[u8]| store.write_buf(kind, bytes).map_err(other);
    let entry = |tree: &mut Vec<u8>, mode: &str, name: &str, id: ObjectId| {
        tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        tree.extend_from_slice(id.as_slice());
    };
    let mut state = gix_index::State::new(Kind::Sha1);
    let mut blob = |path: &str, text: &str| -> io::Result<ObjectId> {
        let id = write(gix_object::Kind::Blob, text.as_bytes())?;
        // Without the stat data that spares reading: whoever looks compares the content.
        let (stat, flags) = (gix_index::entry::Stat::default(), gix_index::entry::Flags::empty());
        state.dangerously_push_entry(stat, id, flags, gix_index::entry::Mode::FILE, path.into());
        Ok(id)
    };
    let mut top = Vec::new();
    for (name, text) in TOP {
        entry(&mut top, "100644", name, blob(name, text)?);
    }
    let mut src = Vec::new();
    entry(&mut src, "100644", VALUE.0, blob(&format!("src/{}", VALUE.0), VALUE.1)?);
    entry(&mut top, "40000", "src", write(gix_object::Kind::Tree, &src)?);
    let tree = write(gix_object::Kind::Tree, &top)?;
    let commit = write(gix_object::Kind::Commit, format!("tree {tree}\n{COMMIT}").as_bytes())?;
    fs::write(git.join("refs/heads/main"), format!("{commit}\n"))?;
    let mut index = gix_index::File::from_state(state, git.join("index"));
    index.write(gix_index::write::Options::default()).map_err(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::testing::git_in;

    #[test]
    fn git_finds_it_sound_and_clean() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repo");
        make(&root).unwrap();
        assert_eq!(git_in(&root, &["status", "--porcelain", "--ignored"]), "");
        assert_eq!(git_in(&root, &["fsck", "--strict", "--full"]), "");
        assert_eq!(git_in(&root, &["ls-files"]), ".gitignore\nREADME\ncheck.sh\nsrc/value.txt\n");
        assert_eq!(git_in(&root, &["log", "--format=%an %s", "main"]), "Proctor base\n");
    }

    #[test]
    fn it_is_a_clean_start_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repo");
        make(&root).unwrap();
        let repo = crate::changes::repo::Repo::open(&root).unwrap();
        let hide = crate::changes::globs::GlobList::new(&[]).unwrap();
        assert!(crate::changes::survey::survey(&repo, &hide).unwrap().is_clean());
        assert_eq!(make(&root).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
