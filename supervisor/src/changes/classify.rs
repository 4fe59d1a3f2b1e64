//! What a layer changed against the base tree, and what of that may be: the change set of a run.
//!
//! The base commit decides what is tracked, ignored and how content is compared; nothing that the layer holds is
//! obeyed. Reading is `layer`'s, writing the patch is `patch`'s.

use std::collections::{BTreeMap, BTreeSet};

use gix_hash::ObjectId;

use super::convert::{ConvertError, Converter};
use super::globs::{GlobError, GlobList};
use super::ignore::Ignores;
use super::layer::{self, Changed, Descend, LayerError};
use super::repo::{Repo, RepoError};
use super::tree::{self, TreeError, TreeView, is_file};
use super::{dotgit, show};
use crate::profile::ChangePolicy;
use crate::profile::protect::protected_reason;

mod links;
#[cfg(test)]
mod overlay_tests;
mod set;
mod steer;
#[cfg(test)]
mod tests;
mod work;

pub use set::{Change, ChangeKind, ChangeSet, Disallowed, IgnoredChange, Side};
pub(crate) use steer::steers_tests;
use work::Work;

/// Why no change set could be made.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The layer could not be read, or holds too much (see [`Self::limit`]).
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The repository could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Content cannot be compared.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The changes make no tree.
    #[error("the changes make no tree: {0}")]
    Tree(#[from] TreeError),
    /// More changes than `max_files`.
    #[error(
        "more than {limit} files were changed, ignored ones included; raise --max-files if that many are meant"
    )]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// Content that was recorded is not there any more.
    #[error("{}: the layer's content is not what was recorded", show(.path))]
    Differs {
        /// The path.
        path: Vec<u8>,
    },
}

impl CollectError {
    /// Where a limit was passed (the blocker `output_limit`): of what, how much, and the option that raises it, if one
    /// does.
    pub fn limit(&self) -> Option<(&'static str, u64, Option<&'static str>)> {
        match self {
            Self::TooMany { limit } => Some(("files", *limit, Some("--max-files"))),
            Self::Layer(LayerError::Limit { what, limit, option }) => {
                Some((what, *limit, Some(*option).filter(|o| o.starts_with("--"))))
            }
            _ => None,
        }
    }
}

/// The globs that changes are held against.
#[derive(Debug, Clone)]
pub struct ChangeRules {
    /// A change must match one of these.
    pub allow: GlobList,
    /// And none of these.
    pub deny: GlobList,
    /// A change here needs the operator's approval.
    pub ask: GlobList,
    /// No change here, case-folded.
    pub protect: GlobList,
    /// Hidden paths: no change here.
    pub hide: GlobList,
}

impl ChangeRules {
    /// Compiles the globs of a resolved run.
    pub fn new(policy: &ChangePolicy, hide: &[String]) -> Result<Self, GlobError> {
        Ok(Self {
            allow: GlobList::new(&policy.allow)?,
            deny: GlobList::forbidding(&policy.deny)?,
            ask: GlobList::forbidding(&policy.ask)?,
            protect: GlobList::case_folded(&policy.protect)?,
            hide: GlobList::case_folded(hide)?,
        })
    }

    /// Why a change of the file `path` is not allowed, whatever it consists of: rule and message, in order of gravity.
    pub fn refusals(&self, path: &[u8]) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if dotgit::in_path(path) {
            found.push(("dot_git", "a name that git or a file system takes for `.git`".to_owned()));
        }
        if let Some(glob) = self.hide.matching(path) {
            found.push(("hidden", format!("hidden by --hide {glob}: never a change")));
        }
        if let Some(glob) = self.protect.matching(path) {
            let why = protected_reason(glob).map(|r| format!(": it {r}")).unwrap_or_default();
            found.push(("protect", format!("protected by {glob}{why}")));
        }
        if let Some(glob) = self.deny.matching(path) {
            found.push(("deny", format!("denied by --deny-change {glob}")));
        }
        if self.allow.matching(path).is_none() {
            found.push(("allow", "matched by no --allow-change glob".to_owned()));
        }
        found
    }

    /// The rules that hold for a path under every name that links give it.
    pub(crate) fn guarded(&self) -> impl Iterator<Item = (&'static str, &GlobList)> {
        [("protect", &self.protect), ("deny", &self.deny), ("ask", &self.ask)].into_iter()
    }
}

/// Limits of a change set.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Changes, ignored ones included.
    pub max_files: u64,
    /// Bytes of all changed files together, as they lie in the layer.
    pub max_content: u64,
}

impl Caps {
    /// Caps for a run's `--max-files` and `--max-patch`: content may be larger than the patch, which is compressed.
    pub fn new(max_files: u64, max_patch: u64) -> Self {
        Self { max_files, max_content: max_patch.saturating_mul(4) }
    }
}

/// Compares the layer with the base tree of `repo` and holds every change against `rules`.
pub fn collect(
    repo: &Repo,
    changed: Changed<'_>,
    rules: &ChangeRules,
    caps: &Caps,
) -> Result<ChangeSet, CollectError> {
    let layer_root = changed.root();
    let layer_fd = layer_root.try_clone_to_owned().map_err(|e| LayerError::Io {
        path: Vec::new(),
        step: "fcntl",
        errno: rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO),
    })?;
    let view = TreeView::new(repo.odb(), repo.base_tree());
    let mut work = Work {
        repo,
        base: &view,
        layer: layer_root,
        rules,
        caps,
        converter: Converter::new(repo)?,
        edits: BTreeMap::new(),
        found: BTreeMap::new(),
        ignored: Vec::new(),
        disallowed: Vec::new(),
        ask: Vec::new(),
        content_left: caps.max_content,
        absent: absent_paths(repo)?,
    };
    let mut ignores = Ignores::default();
    // Directories that hold nothing tracked and are ignored need no list of what is in them.
    let mut skipped = BTreeSet::new();
    let entries = changed.scan(layer::Limits::for_max_files(caps.max_files), |path, _| {
        let base = view.entry(path)?;
        if base.as_ref().is_none_or(|e| e.mode != tree::DIR) && ignores.is_ignored(&view, path, true)? {
            skipped.insert(path.to_vec());
            return Ok::<_, CollectError>(Descend::Count);
        }
        if dotgit::is_alias(tree::split(path).1) || base.is_some_and(|e| e.mode == tree::GITLINK) {
            return Ok(Descend::Count);
        }
        Ok(Descend::Full)
    })?;
    for entry in &entries {
        work.entry(entry, &skipped, &mut ignores)?;
        let listed = work.found.len() + work.ignored.len() + work.disallowed.len();
        if listed as u64 > caps.max_files {
            return Err(CollectError::TooMany { limit: caps.max_files });
        }
    }
    work.expand_hidden_by_layer(&entries)?;
    work.git_directories(&entries)?;
    let result_tree = view.result_id(&work.edits)?;
    links::check(&mut work, &mut ignores)?;
    let mut changes: Vec<Change> = std::mem::take(&mut work.found).into_values().collect();
    if changes.len() as u64 > caps.max_files {
        return Err(CollectError::TooMany { limit: caps.max_files });
    }
    pair_renames(&mut changes);
    for change in &changes {
        work.judge(change);
        if let Some(glob) = rules.ask.matching(&change.path) {
            work.ask.push((change.path.clone(), glob.to_owned()));
        }
    }
    let mut ask = work.ask;
    ask.sort();
    ask.dedup();
    let mut disallowed = work.disallowed;
    disallowed.sort_by(|a, b| a.path.cmp(&b.path).then(a.rule.cmp(b.rule)));
    disallowed.dedup();
    Ok(ChangeSet {
        test_inputs: changes
            .iter()
            .filter(|c| steer::steers_tests(&c.path))
            .map(|c| c.path.clone())
            .collect(),
        changes,
        ignored: work.ignored,
        disallowed,
        ask,
        result_tree,
        layer: layer_fd,
        max_content: caps.max_content,
    })
}

/// Paths that the base tree has and a sparse checkout leaves out: nothing can have removed them.
fn absent_paths(repo: &Repo) -> Result<BTreeSet<Vec<u8>>, RepoError> {
    if !repo.settings().sparse_checkout {
        return Ok(BTreeSet::new());
    }
    let index = super::index::read(repo)?;
    let skip = gix_index::entry::Flags::SKIP_WORKTREE;
    Ok(index
        .state
        .entries()
        .iter()
        .filter(|e| e.flags.contains(skip))
        .map(|e| e.path(&index.state).to_vec())
        .collect())
}

/// Pairs deletions with additions of exactly the same content, each once, in order of paths.
fn pair_renames(changes: &mut [Change]) {
    let mut gone: BTreeMap<(ObjectId, bool), Vec<usize>> = BTreeMap::new();
    let key = |side: &Side| (side.oid, is_file(side.mode));
    for (i, change) in changes.iter().enumerate().rev() {
        if let (ChangeKind::Deleted, Some(old)) = (change.kind, &change.old)
            && old.size > 0
        {
            gone.entry(key(old)).or_default().push(i);
        }
    }
    for i in 0..changes.len() {
        let Some(new) = changes[i].new.as_ref().filter(|_| changes[i].kind == ChangeKind::Added) else {
            continue;
        };
        if let Some(from) = gone.get_mut(&key(new)).and_then(Vec::pop) {
            changes[i].renamed_from = Some(changes[from].path.clone());
            changes[from].renamed_to = Some(changes[i].path.clone());
        }
    }
}
