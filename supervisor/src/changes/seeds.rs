//! What makes the result out of the base inside another sandbox: the changes as a list of file operations, with
//! content from the layer, checked against what was recorded.

use std::collections::BTreeSet;

use proctor_sandbox::seed::{Seed, SeedError};

use super::classify::{ChangeSet, CollectError};
use super::tree;

/// Why no seed could be made.
#[derive(Debug, thiserror::Error)]
pub enum ResultSeedError {
    /// Content could not be read again, or is not what was recorded.
    #[error(transparent)]
    Content(#[from] CollectError),
    /// A path that a seed cannot carry.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// All content together is more than a seed may hold.
    #[error(
        "the changed files hold more than {limit} bytes together; raise --max-patch if that much is meant"
    )]
    TooLarge {
        /// The limit.
        limit: u64,
    },
}

/// Operations that turn the base, as the real work tree has it, into the result: removals, directories that they
/// emptied, then files (0644 or 0755) and links.
pub fn result_seed(set: &ChangeSet) -> Result<Seed, ResultSeedError> {
    let mut seed = Seed::new();
    let mut emptied = BTreeSet::new();
    for change in set.changes.iter().filter(|c| c.new.is_none()) {
        if change.old.as_ref().is_some_and(|s| s.mode == tree::GITLINK) {
            continue; // Refused by the rules; nothing here may take a submodule's directory away.
        }
        seed.remove(&change.path)?;
        let mut dir = tree::split(&change.path).0;
        while !dir.is_empty() {
            emptied.insert(dir.to_vec());
            dir = tree::split(dir).0;
        }
    }
    // What sorts later is deeper: a directory follows the one that it is in.
    for dir in emptied.iter().rev() {
        seed.remove_dir_if_empty(dir)?;
    }
    let mut total = 0u64;
    for change in &set.changes {
        let Some(new) = &change.new else { continue };
        let data = set.raw_content(change)?;
        total += data.len() as u64;
        if total > set.max_content {
            return Err(ResultSeedError::TooLarge { limit: set.max_content });
        }
        match new.mode {
            tree::SYMLINK => seed.symlink(&change.path, &data)?,
            tree::EXECUTABLE => seed.file(&change.path, 0o755, &data)?,
            _ => seed.file(&change.path, 0o644, &data)?,
        }
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::testing::{Fixture, allow_all, play};

    #[test]
    fn the_seed_makes_the_result() {
        let f = Fixture::new();
        f.write("a", "1\n");
        f.write("d/x", "x\n");
        f.write("d/e/y", "y\n");
        f.write("f", "a file\n");
        f.write("g/h", "a directory\n");
        std::os::unix::fs::symlink("a", f.root().join("l")).unwrap();
        f.commit();
        f.up("a", "2\n");
        f.chmod("a", 0o700);
        f.whiteout("d");
        f.up("f/inner", "now a directory\n");
        f.up("g", "now a file\n");
        f.up("l", "now a file\n");
        f.link("m", "f/inner");
        let set = f.collect(&allow_all()).unwrap();
        play(&result_seed(&set).unwrap(), &f.root());
        f.git(&["add", "-A"]);
        assert_eq!(f.git(&["write-tree"]).trim(), set.result_tree.to_string());
        assert!(!f.root().join("d").exists());
    }

    #[test]
    fn content_that_is_not_what_was_recorded_is_an_error() {
        let f = Fixture::new();
        f.write("a", "1\n");
        f.commit();
        f.up("a", "2\n");
        let set = f.collect(&allow_all()).unwrap();
        f.up("a", "3\n");
        let error = result_seed(&set).unwrap_err().to_string();
        assert_eq!(error, "a: the layer's content is not what was recorded");
    }
}
