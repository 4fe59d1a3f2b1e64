//! The state of a work tree in one walk: what differs from HEAD, what hidden paths exist, and a fingerprint by
//! which a later survey tells whether anything moved.
//!
//! The index's stat data spares reading files (mtime and ctime with nanoseconds, inode, size, mode; git's racy rule);
//! what does not match is read and compared as git would store it. Only the base commit's ignore files count.

use std::collections::BTreeMap;

use gix_hash::ObjectId;
use gix_index::entry::{Flags, Mode, Stage};
use sha2::{Digest, Sha256};

use super::convert::ConvertError;
use super::globs::GlobList;
use super::index::{self, Index};
use super::refs::{self, Target};
use super::repo::{Repo, RepoError};
use super::show;
use super::tree::{self, TreeView};

mod check;
#[cfg(test)]
mod tests;
mod walk;

/// Dirty entries that are kept; the rest is only counted.
const MAX_LISTED: usize = 200;
/// Submodules within one another.
const MAX_NESTED: usize = 8;

/// Why a work tree could not be surveyed.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The repository or the work tree could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// What a filter program stores would have to be known: the run is refused (exit code 2).
    #[error("{}: its `filter={filter}` attribute names a program that decides what git stores; no such program is run, so whether it was changed cannot be told: bring it to the committed state (`git stash`, `git checkout`), run `git status` once, or drop the attribute", show(.path))]
    Refused {
        /// The path.
        path: Vec<u8>,
        /// The attribute's value.
        filter: String,
    },
    /// Submodules are nested more deeply than anybody would.
    #[error("{}: submodules are nested more than {MAX_NESTED} deep", show(.path))]
    Nested {
        /// The path.
        path: Vec<u8>,
    },
}

impl From<ConvertError> for SurveyError {
    fn from(e: ConvertError) -> Self {
        match e {
            ConvertError::Repo(e) => Self::Repo(e),
            ConvertError::Content { path, what } => Self::Repo(RepoError::malformed(
                super::repo::bytes_path(&path),
                format!("does not fit its attributes: {what}"),
            )),
        }
    }
}

/// Why an entry is dirty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Content differs from the index.
    Modified,
    /// The executable bit differs from the index.
    ModeChanged,
    /// It is a file, a link or a directory and the index says otherwise.
    TypeChanged,
    /// Tracked and not there.
    Deleted,
    /// Not tracked, and the base commit's ignore files do not ignore it.
    Untracked,
    /// The index differs from HEAD.
    Staged,
    /// A merge conflict.
    Unmerged,
    /// `git add --intent-to-add`.
    IntentToAdd,
    /// `git update-index --assume-unchanged` hides changes.
    AssumeUnchanged,
    /// `skip-worktree` outside a sparse checkout hides changes.
    SkipWorktree,
    /// A repository inside that is no submodule.
    NestedRepository,
    /// A submodule is at another commit.
    SubmoduleCommit,
}

impl Reason {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Modified => "modified",
            Self::ModeChanged => "mode changed",
            Self::TypeChanged => "type changed",
            Self::Deleted => "deleted",
            Self::Untracked => "untracked",
            Self::Staged => "staged",
            Self::Unmerged => "unmerged",
            Self::IntentToAdd => "intent to add",
            Self::AssumeUnchanged => "marked assume-unchanged",
            Self::SkipWorktree => "marked skip-worktree outside a sparse checkout",
            Self::NestedRepository => "a repository of its own, not a submodule",
            Self::SubmoduleCommit => "a submodule at another commit",
        }
    }
}

/// One entry that is not as HEAD has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dirty {
    /// Path relative to the top.
    pub path: Vec<u8>,
    /// Why.
    pub reason: Reason,
}

/// A path that a hide glob matches and that exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hidden {
    /// Path relative to the top.
    pub path: Vec<u8>,
    /// It is a directory: everything beneath is hidden with it.
    pub is_dir: bool,
    /// It is in the index (for a directory: something beneath is).
    pub tracked: bool,
}

/// Where a repository stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    head: Vec<u8>,
    refs: BTreeMap<Vec<u8>, Target>,
    /// SHA-256 over what the index says, its stat data left out: refreshing it is no change.
    index: [u8; 32],
}

/// The state of a work tree.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Dirty entries, by path; at most 200, see `dirty_count`.
    pub dirty: Vec<Dirty>,
    /// All dirty entries, listed or not.
    pub dirty_count: u64,
    /// Hidden paths that exist, outermost matches only.
    pub hidden: Vec<Hidden>,
    /// Submodules that are checked out.
    pub submodules: Vec<Vec<u8>>,
    /// HEAD, references and index.
    pub fingerprint: Fingerprint,
    /// Digest over all dirty entries.
    dirty_digest: [u8; 32],
}

impl Survey {
    /// True where the work tree is exactly the base commit.
    pub fn is_clean(&self) -> bool {
        self.dirty_count == 0
    }

    /// True where nothing moved since `earlier`.
    pub fn same_as(&self, earlier: &Self) -> bool {
        self.differences(earlier).is_empty()
    }

    /// What moved since `earlier`, for people; empty where nothing did.
    pub fn differences(&self, earlier: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let (now, was) = (&self.fingerprint, &earlier.fingerprint);
        if now.head != was.head {
            found.push(format!("HEAD was `{}` and is `{}`", show(&was.head), show(&now.head)));
        }
        for name in was.refs.keys().filter(|n| !now.refs.contains_key(*n)) {
            found.push(format!("the reference {} is gone", show(name)));
        }
        for (name, target) in &now.refs {
            match was.refs.get(name) {
                None => found.push(format!("the reference {} is new", show(name))),
                Some(old) if old != target => found.push(format!("the reference {} moved", show(name))),
                Some(_) => {}
            }
        }
        if now.index != was.index {
            found.push("the index's content changed".to_owned());
        }
        if self.dirty_digest != earlier.dirty_digest {
            let new: Vec<_> = self.dirty.iter().filter(|d| !earlier.dirty.contains(d)).collect();
            let gone: Vec<_> = earlier.dirty.iter().filter(|d| !self.dirty.contains(d)).collect();
            found.extend(new.iter().map(|d| format!("{}: {}", show(&d.path), d.reason.as_str())));
            found.extend(gone.iter().map(|d| format!("{}: no longer {}", show(&d.path), d.reason.as_str())));
            if new.is_empty() && gone.is_empty() {
                found
                    .push(format!("{} entries were dirty and {} are", earlier.dirty_count, self.dirty_count));
            }
        }
        found
    }
}

/// Walks the work tree of `repo` once.
pub fn survey(repo: &Repo, hide: &GlobList) -> Result<Survey, SurveyError> {
    nested(repo, hide, b"", 0)
}

fn nested(repo: &Repo, hide: &GlobList, prefix: &[u8], depth: usize) -> Result<Survey, SurveyError> {
    if depth > MAX_NESTED {
        return Err(SurveyError::Nested { path: prefix.to_vec() });
    }
    let index = index::read(repo)?;
    let mut found = Found { prefix, ..Found::default() };
    flags(repo, &index, &mut found);
    staged(repo, &index, &mut found)?;
    let gitlinks = walk::walk(repo, &index, hide, prefix, &mut found)?;
    let mut submodules = Vec::new();
    for (path, id) in gitlinks {
        submodule(repo, hide, prefix, &path, &id, depth, &mut found, &mut submodules)?;
    }
    found.dirty.sort();
    found.dirty.dedup();
    found.hidden.sort();
    let mut digest = Sha256::new();
    for dirty in &found.dirty {
        digest.update((dirty.path.len() as u64).to_le_bytes());
        digest.update(&dirty.path);
        digest.update(dirty.reason.as_str());
    }
    let dirty_count = found.dirty.len() as u64;
    let mut dirty = found.dirty;
    // The digest is over all of them; a list is for people.
    dirty.truncate(if depth == 0 { MAX_LISTED } else { usize::MAX });
    Ok(Survey {
        dirty,
        dirty_count,
        hidden: found.hidden,
        submodules,
        fingerprint: fingerprint(repo, &index)?,
        dirty_digest: digest.finalize().into(),
    })
}

#[derive(Debug, Default)]
struct Found<'a> {
    prefix: &'a [u8],
    /// The index is HEAD's tree, entry by entry.
    index_is_base: bool,
    dirty: Vec<Dirty>,
    hidden: Vec<Hidden>,
}

impl Found<'_> {
    fn add(&mut self, path: &[u8], reason: Reason) {
        self.dirty.push(Dirty { path: tree::join(self.prefix, path), reason });
    }
}

/// Bits of the index that hide changes, and entries that are no commit's.
fn flags(repo: &Repo, index: &Index, found: &mut Found<'_>) {
    let sparse = repo.settings().sparse_checkout;
    let any = Flags::ASSUME_VALID | Flags::SKIP_WORKTREE | Flags::INTENT_TO_ADD | Flags::STAGE_MASK;
    for entry in index.state.entries().iter().filter(|e| e.flags.intersects(any)) {
        let path = entry.path(&index.state);
        if entry.flags.stage() != Stage::Unconflicted {
            found.add(path, Reason::Unmerged);
        }
        if entry.flags.contains(Flags::ASSUME_VALID) {
            found.add(path, Reason::AssumeUnchanged);
        }
        if entry.flags.contains(Flags::SKIP_WORKTREE) && !sparse {
            found.add(path, Reason::SkipWorktree);
        }
        if entry.flags.contains(Flags::INTENT_TO_ADD) {
            found.add(path, Reason::IntentToAdd);
        }
    }
}

/// The index against HEAD's tree, entry by entry. The index's cache tree says the same in one id, but whoever wrote
/// the index also wrote that: the trees are read, once.
fn staged(repo: &Repo, index: &Index, found: &mut Found<'_>) -> Result<(), SurveyError> {
    let entries = index.state.entries();
    let view = TreeView::new(repo.odb(), repo.base_tree());
    let base = view.beneath(b"")?;
    let before = found.dirty.len();
    let mut special = false;
    let mut at = base.iter().peekable();
    for entry in entries {
        let path: &[u8] = entry.path(&index.state);
        while let Some((gone, _)) = at.next_if(|(p, _)| p.as_slice() < path) {
            found.add(gone, Reason::Staged);
        }
        let same = at.next_if(|(p, _)| p == path);
        let equal = same.is_some_and(|(_, e)| e.id == entry.id && mode_of(e.mode) == entry.mode);
        let own = entry.flags.stage() != Stage::Unconflicted || entry.flags.contains(Flags::INTENT_TO_ADD);
        special |= own;
        if !equal && !own {
            found.add(path, Reason::Staged);
        }
    }
    for (gone, _) in at {
        found.add(gone, Reason::Staged);
    }
    found.index_is_base = !special && found.dirty.len() == before;
    repo.note_base_links(|| {
        base.iter().filter(|(_, e)| e.mode == tree::SYMLINK).map(|(path, _)| path.clone()).collect()
    });
    Ok(())
}

/// The mode that the index has for a tree's: old trees may say 100664.
fn mode_of(mode: u32) -> Mode {
    match mode {
        m if tree::is_file(m) && m & 0o100 != 0 => Mode::FILE_EXECUTABLE,
        m if tree::is_file(m) => Mode::FILE,
        tree::SYMLINK => Mode::SYMLINK,
        _ => Mode::COMMIT,
    }
}

/// A submodule: not checked out is fine; else its HEAD is the entry's commit and it is clean itself.
#[expect(clippy::too_many_arguments, reason = "one recursion's state")]
fn submodule(
    repo: &Repo,
    hide: &GlobList,
    prefix: &[u8],
    path: &[u8],
    id: &ObjectId,
    depth: usize,
    found: &mut Found<'_>,
    list: &mut Vec<Vec<u8>>,
) -> Result<(), SurveyError> {
    let full = tree::join(prefix, path);
    let dir = repo.root_path().join(super::repo::bytes_path(path));
    // Not the nearest repository upwards: what is not read here would be neither surveyed nor hidden.
    let sub = match Repo::open_top(&dir) {
        Ok(sub) => sub,
        Err(RepoError::NoCommit { .. }) => {
            found.add(path, Reason::SubmoduleCommit);
            return Ok(());
        }
        Err(e) => return Err(e.into()),
    };
    if sub.base_commit() != *id {
        found.add(path, Reason::SubmoduleCommit);
    }
    let inner = nested(&sub, hide, &full, depth + 1)?;
    found.dirty.extend(inner.dirty);
    found.hidden.extend(inner.hidden);
    list.push(full);
    list.extend(inner.submodules);
    Ok(())
}

fn fingerprint(repo: &Repo, index: &Index) -> Result<Fingerprint, SurveyError> {
    let mut digest = Sha256::new();
    let kept = Flags::STAGE_MASK | Flags::ASSUME_VALID | Flags::SKIP_WORKTREE | Flags::INTENT_TO_ADD;
    for entry in index.state.entries() {
        let path = entry.path(&index.state);
        digest.update((path.len() as u64).to_le_bytes());
        digest.update(path);
        digest.update(entry.mode.bits().to_le_bytes());
        digest.update((entry.flags & kept).bits().to_le_bytes());
        digest.update(entry.id.as_slice());
    }
    Ok(Fingerprint {
        head: refs::read_head(repo.dirs(), repo.hash())?.raw,
        refs: refs::all(repo.dirs(), repo.hash())?,
        index: digest.finalize().into(),
    })
}
