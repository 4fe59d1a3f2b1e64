//! What fixtures have somebody else do: to the work tree, to the evidence. By checked relative paths, in a directory of
//! the row's own.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::fixture::Act;

/// Carries out what is about a file; signals are sent by whoever has the process.
pub(super) fn carry_out(act: &Act, root: &Path) -> io::Result<()> {
    let place = |path: &Path| {
        let full = root.join(path);
        full.parent().map_or(Ok(()), fs::create_dir_all).map(|()| full)
    };
    match act {
        Act::Write { path, content } => fs::write(place(path)?, content),
        Act::Append { path, content } => {
            fs::OpenOptions::new().append(true).open(root.join(path))?.write_all(content.as_bytes())
        }
        Act::Remove { path } => fs::remove_file(root.join(path)),
        Act::Link { path, to } => std::os::unix::fs::symlink(to, place(path)?),
        Act::Signal { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_added_to_linked_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let text = |name: &str| fs::read_to_string(root.join(name));
        let path = |name: &str| name.into();
        carry_out(&Act::Write { path: path("a/b"), content: "1".into() }, root).unwrap();
        carry_out(&Act::Append { path: path("a/b"), content: "2".into() }, root).unwrap();
        carry_out(&Act::Link { path: path("c/d"), to: path("../a/b") }, root).unwrap();
        assert_eq!(text("c/d").unwrap(), "12");
        carry_out(&Act::Remove { path: path("c/d") }, root).unwrap();
        assert!(text("c/d").is_err());
        assert!(carry_out(&Act::Append { path: path("no"), content: "2".into() }, root).is_err());
    }
}
