//! The change set: what a run changed, as plain data, and its content read again from the layer.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};

use gix_hash::ObjectId;
use sha2::{Digest, Sha256};

use super::CollectError;
use crate::changes::convert::{Converter, hex};
use crate::changes::layer;
use crate::changes::repo::blob_id;
use crate::changes::tree::{TreeView, is_file};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// New.
    Added,
    /// Other content, and perhaps another mode.
    Modified,
    /// Gone.
    Deleted,
    /// The executable bit alone.
    ModeChanged,
    /// File to link, link to file, or to or from a submodule.
    TypeChanged,
}

impl ChangeKind {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::ModeChanged => "mode_changed",
            Self::TypeChanged => "type_changed",
        }
    }
}

/// One side of a change, as git stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Mode as in a tree: 100644, 100755, 120000, 160000.
    pub mode: u32,
    /// Bytes of content.
    pub size: u64,
    /// Object id.
    pub oid: ObjectId,
    /// SHA-256 of the content, lower-case hex; empty for a submodule, which has none.
    pub sha256: String,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path relative to the top of the work tree.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: ChangeKind,
    /// Before.
    pub old: Option<Side>,
    /// After.
    pub new: Option<Side>,
    /// For an added path: the deleted one whose content it has.
    pub renamed_from: Option<Vec<u8>>,
    /// For a deleted path: the added one that has its content.
    pub renamed_to: Option<Vec<u8>>,
    /// SHA-256 of the new content as it lies in the layer, before conversion; what `result_seed` checks.
    pub raw_sha256: Option<String>,
}

/// A write to a path that the base commit ignores: listed and dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredChange {
    /// Path; a directory all of which is ignored stands for everything beneath it.
    pub path: Vec<u8>,
    /// `file`, `directory`, `symlink`, `deleted` or `special`.
    pub kind: &'static str,
    /// Size of a file in bytes; number of files beneath a directory.
    pub count: u64,
}

/// One reason why a change may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disallowed {
    /// The path.
    pub path: Vec<u8>,
    /// The rule, one word: `protect`, `deny`, `allow`, `hidden`, `dot_git`, `git_directory`, `gitlink`, `device`,
    /// `fifo`, `socket`, `setuid`, `capability`, `symlink`, `filter`, `lfs`, `encoding`.
    pub rule: &'static str,
    /// For people.
    pub message: String,
}

/// What a layer changed.
#[derive(Debug)]
pub struct ChangeSet {
    /// Every change, by path bytes.
    pub changes: Vec<Change>,
    /// Writes to ignored paths.
    pub ignored: Vec<IgnoredChange>,
    /// Everything that may not be.
    pub disallowed: Vec<Disallowed>,
    /// Changed paths that need an approval, with the glob that says so.
    pub ask: Vec<(Vec<u8>, String)>,
    /// Changed paths that steer tests.
    pub test_inputs: Vec<Vec<u8>>,
    /// The git tree id of base plus changes.
    pub result_tree: ObjectId,
    /// The layer, for reading content again.
    pub(crate) layer: OwnedFd,
    pub(crate) max_content: u64,
}

impl ChangeSet {
    /// True where nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The new content of a change as git stores it, read again and checked against what was recorded.
    pub(crate) fn stored_content(
        &self,
        tree: &TreeView,
        converter: &mut Converter,
        change: &Change,
    ) -> Result<Vec<u8>, CollectError> {
        let Some(new) = &change.new else {
            return Ok(Vec::new());
        };
        let raw = self.raw_content(change)?;
        let data = if is_file(new.mode) {
            let base = change.old.as_ref().filter(|s| is_file(s.mode)).map(|s| s.oid);
            let stored = converter.to_git(tree, &change.path, &raw, base.as_ref())?;
            match stored {
                Cow::Borrowed(_) => raw,
                Cow::Owned(stored) => stored,
            }
        } else {
            raw
        };
        if blob_id(converter.hash(), &data)? != new.oid {
            return Err(CollectError::Differs { path: change.path.clone() });
        }
        Ok(data)
    }

    /// The new content of a change as it lies in the layer (a link's target), checked against what was recorded.
    pub fn raw_content(&self, change: &Change) -> Result<Vec<u8>, CollectError> {
        let data = match &change.new {
            None => return Ok(Vec::new()),
            Some(new) if is_file(new.mode) => {
                layer::read_file(self.layer.as_fd(), &change.path, self.max_content)?
            }
            Some(_) => layer::read_link(self.layer.as_fd(), &change.path)?,
        };
        if change.raw_sha256.as_deref() != Some(hex(&Sha256::digest(&data)).as_str()) {
            return Err(CollectError::Differs { path: change.path.clone() });
        }
        Ok(data)
    }
}
