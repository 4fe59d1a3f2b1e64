//! What a layer changed against the base tree, and what of that may be: the change set of a run.
//!
//! The base commit decides what is tracked, ignored and how content is compared; nothing that the layer holds is
//! obeyed. Reading is `layer`'s, writing the patch is `patch`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gix_hash::ObjectId;
use sha2::{Digest, Sha256};

use super::convert::{ConvertError, Converter, Filter, hex, is_lfs_pointer};
use super::globs::{GlobError, GlobList};
use super::ignore::Ignores;
use super::layer::{self, Descend, Kind, LayerError};
use super::repo::{Repo, RepoError, blob_id};
use super::tree::{self, Edit, TreeError, TreeView, is_file};
use super::{dotgit, show};
use crate::profile::ChangePolicy;

mod links;
mod steer;
#[cfg(test)]
mod tests;

/// Why no change set could be made.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The layer could not be read, or holds too much (see [`Self::is_limit`]).
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
    /// True where a limit was passed: the blocker `output_limit`.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::TooMany { .. } | Self::Layer(LayerError::Limit { .. }))
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
            deny: GlobList::new(&policy.deny)?,
            ask: GlobList::new(&policy.ask)?,
            protect: GlobList::case_folded(&policy.protect)?,
            hide: GlobList::case_folded(hide)?,
        })
    }
}

/// Limits of a change set.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Changes, ignored ones included.
    pub max_files: u64,
    /// Bytes of one changed file.
    pub max_content: u64,
}

impl Caps {
    /// Caps for a run's `--max-files` and `--max-patch`: content may be larger than the patch, which is compressed.
    pub fn new(max_files: u64, max_patch: u64) -> Self {
        Self {
            max_files,
            max_content: max_patch.saturating_mul(8),
        }
    }
}

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
    pub fn stored_content(
        &self,
        repo: &Repo,
        tree: &TreeView,
        change: &Change,
    ) -> Result<Vec<u8>, CollectError> {
        let differs = || CollectError::Differs {
            path: change.path.clone(),
        };
        let Some(new) = &change.new else {
            return Ok(Vec::new());
        };
        let data = if is_file(new.mode) {
            let raw = layer::read_file(self.layer.as_fd(), &change.path, self.max_content)?;
            let base = change.old.as_ref().filter(|s| is_file(s.mode)).map(|s| s.oid);
            Converter::new(repo)?.to_git(tree, &change.path, raw, base.as_ref())?
        } else {
            self.raw_content(change)?
        };
        if blob_id(repo.hash(), &data)? != new.oid {
            Err(differs())
        } else {
            Ok(data)
        }
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
            return Err(CollectError::Differs {
                path: change.path.clone(),
            });
        }
        Ok(data)
    }
}

/// Compares the layer with the base tree of `repo` and holds every change against `rules`.
pub fn collect(
    repo: &Repo,
    layer_root: BorrowedFd<'_>,
    rules: &ChangeRules,
    caps: &Caps,
) -> Result<ChangeSet, CollectError> {
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
        absent: absent_paths(repo)?,
    };
    let mut ignores = Ignores::default();
    // Directories that hold nothing tracked and are ignored need no list of what is in them.
    let mut skipped = BTreeSet::new();
    let entries = layer::scan(
        layer_root,
        layer::Limits::for_max_files(caps.max_files),
        |path, _| {
            let base = view.entry(path)?;
            if base.as_ref().is_none_or(|e| e.mode != tree::DIR) && ignores.is_ignored(&view, path, true)? {
                skipped.insert(path.to_vec());
                return Ok::<_, CollectError>(Descend::Count);
            }
            if dotgit::is_alias(tree::split(path).1) || base.is_some_and(|e| e.mode == tree::GITLINK) {
                return Ok(Descend::Count);
            }
            Ok(Descend::Full)
        },
    )?;
    for entry in &entries {
        work.entry(entry, &skipped, &mut ignores)?;
        let listed = work.found.len() + work.ignored.len() + work.disallowed.len();
        if listed as u64 > caps.max_files {
            return Err(CollectError::TooMany {
                limit: caps.max_files,
            });
        }
    }
    work.expand_hidden_by_layer(&entries)?;
    work.git_directories(&entries)?;
    let result_tree = view.result_id(&work.edits)?;
    links::check(&mut work, &mut ignores)?;
    let mut changes: Vec<Change> = std::mem::take(&mut work.found).into_values().collect();
    if changes.len() as u64 > caps.max_files {
        return Err(CollectError::TooMany {
            limit: caps.max_files,
        });
    }
    pair_renames(&mut changes);
    let mut ask = Vec::new();
    for change in &changes {
        work.judge(change);
        if let Some(glob) = rules.ask.matching(&change.path) {
            ask.push((change.path.clone(), glob.to_owned()));
        }
    }
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

pub(crate) struct Work<'a> {
    pub(crate) repo: &'a Repo,
    pub(crate) base: &'a TreeView,
    pub(crate) layer: BorrowedFd<'a>,
    pub(crate) rules: &'a ChangeRules,
    caps: &'a Caps,
    converter: Converter,
    pub(crate) edits: BTreeMap<Vec<u8>, Edit>,
    pub(crate) found: BTreeMap<Vec<u8>, Change>,
    ignored: Vec<IgnoredChange>,
    disallowed: Vec<Disallowed>,
    absent: BTreeSet<Vec<u8>>,
}

impl Work<'_> {
    pub(crate) fn refuse(&mut self, path: &[u8], rule: &'static str, message: impl Into<String>) {
        self.disallowed.push(Disallowed {
            path: path.to_vec(),
            rule,
            message: message.into(),
        });
    }

    fn entry(
        &mut self,
        entry: &layer::Entry,
        skipped: &BTreeSet<Vec<u8>>,
        ignores: &mut Ignores,
    ) -> Result<(), CollectError> {
        let path = entry.path.as_slice();
        let base = self.base.entry(path)?;
        let is_dir = matches!(entry.kind, Kind::Dir { .. });
        if let Kind::Dir {
            counted: Some(count), ..
        } = entry.kind
            && skipped.contains(path)
        {
            self.ignored.push(IgnoredChange {
                path: path.to_vec(),
                kind: "directory",
                count,
            });
            return self.replaced(path, base.as_ref());
        }
        if base.is_none() && !is_dir && ignores.is_ignored(self.base, path, false)? {
            let (kind, count) = match &entry.kind {
                Kind::File { size, .. } => ("file", *size),
                Kind::Symlink(_) => ("symlink", 0),
                Kind::Whiteout => ("deleted", 0),
                _ => ("special", 0),
            };
            self.ignored.push(IgnoredChange {
                path: path.to_vec(),
                kind,
                count,
            });
            return Ok(());
        }
        if dotgit::is_alias(tree::split(path).1) {
            self.refuse(
                path,
                "dot_git",
                "a name that git or a file system takes for `.git`, below the top",
            );
            return Ok(());
        }
        if base.as_ref().is_some_and(|e| e.mode == tree::GITLINK) {
            // An empty directory is how a submodule that is not checked out looks.
            if !matches!(
                entry.kind,
                Kind::Dir {
                    counted: Some(0),
                    opaque: false
                }
            ) {
                self.refuse(
                    path,
                    "gitlink",
                    "a change to a submodule or inside it, which a patch cannot carry",
                );
            }
            return Ok(());
        }
        let special = match &entry.kind {
            Kind::Fifo => Some(("fifo", "a named pipe, which git cannot store")),
            Kind::Socket => Some(("socket", "a socket, which git cannot store")),
            Kind::Device => Some(("device", "a device, which git cannot store")),
            _ => None,
        };
        if let Some((rule, message)) = special {
            self.refuse(path, rule, message);
            return self.replaced(path, base.as_ref());
        }
        if let Kind::File { capability, .. } = entry.kind {
            if entry.mode & 0o6000 != 0 {
                self.refuse(
                    path,
                    "setuid",
                    format!("a file with the setuid or setgid bit (mode {:04o})", entry.mode),
                );
            }
            if capability {
                self.refuse(
                    path,
                    "capability",
                    "a file with capabilities (security.capability)",
                );
            }
        }
        match &entry.kind {
            Kind::Dir { .. } if base.as_ref().is_some_and(|e| e.mode != tree::DIR) => self.delete(path, base),
            Kind::Dir { .. } => Ok(()),
            Kind::Whiteout => self.replaced(path, base.as_ref()),
            Kind::Symlink(target) => {
                self.replaced_dir(path, base.as_ref())?;
                self.put(path, base, tree::SYMLINK, target.clone(), target)
            }
            Kind::File { size, .. } => {
                self.replaced_dir(path, base.as_ref())?;
                self.file(path, base, entry.mode, *size)
            }
            _ => Ok(()),
        }
    }

    /// The lower layer's entry is hidden: whatever the base has there is deleted.
    fn replaced(&mut self, path: &[u8], base: Option<&tree::Entry>) -> Result<(), CollectError> {
        match base {
            Some(e) if e.mode == tree::DIR => self.delete_beneath(path, &BTreeSet::new()),
            Some(e) => self.delete(path, Some(e.clone())),
            None => Ok(()),
        }
    }

    fn replaced_dir(&mut self, path: &[u8], base: Option<&tree::Entry>) -> Result<(), CollectError> {
        match base {
            Some(e) if e.mode == tree::DIR => self.delete_beneath(path, &BTreeSet::new()),
            _ => Ok(()),
        }
    }

    fn delete_beneath(&mut self, path: &[u8], kept: &BTreeSet<&[u8]>) -> Result<(), CollectError> {
        for (full, entry) in self.base.beneath(path)? {
            if kept.contains(full.as_slice()) || self.absent.contains(&full) {
                continue;
            }
            self.delete(&full, Some(entry))?;
            if self.found.len() as u64 > self.caps.max_files {
                return Err(CollectError::TooMany {
                    limit: self.caps.max_files,
                });
            }
        }
        Ok(())
    }

    /// Directories that hide the lower one: tracked files beneath that the layer does not have are gone.
    fn expand_hidden_by_layer(&mut self, entries: &[layer::Entry]) -> Result<(), CollectError> {
        let present: BTreeSet<&[u8]> = entries
            .iter()
            .filter(|e| !matches!(e.kind, Kind::Dir { .. }))
            .map(|e| e.path.as_slice())
            .collect();
        for entry in entries {
            let Kind::Dir { opaque: true, .. } = entry.kind else {
                continue;
            };
            let tracked = self.base.entry(&entry.path)?.is_some_and(|e| e.mode == tree::DIR);
            if tracked {
                self.delete_beneath(&entry.path, &present)?;
            }
        }
        Ok(())
    }

    fn delete(&mut self, path: &[u8], base: Option<tree::Entry>) -> Result<(), CollectError> {
        let Some(base) = base else { return Ok(()) };
        if self.absent.contains(path) {
            return Ok(());
        }
        if base.mode == tree::GITLINK {
            self.refuse(path, "gitlink", "the removal of a submodule");
        }
        let old = Some(self.old_side(&base)?);
        self.edits.insert(path.to_vec(), None);
        self.record(path, ChangeKind::Deleted, old, None, None);
        Ok(())
    }

    fn old_side(&self, base: &tree::Entry) -> Result<Side, CollectError> {
        if base.mode == tree::GITLINK {
            return Ok(Side {
                mode: base.mode,
                size: 0,
                oid: base.id,
                sha256: String::new(),
            });
        }
        let data = self.base.odb().blob(&base.id)?;
        Ok(Side {
            mode: base.mode,
            size: data.len() as u64,
            oid: base.id,
            sha256: hex(&Sha256::digest(&data)),
        })
    }

    fn record(
        &mut self,
        path: &[u8],
        kind: ChangeKind,
        old: Option<Side>,
        new: Option<Side>,
        raw: Option<String>,
    ) {
        let change = Change {
            path: path.to_vec(),
            kind,
            old,
            new,
            renamed_from: None,
            renamed_to: None,
            raw_sha256: raw,
        };
        self.found.insert(path.to_vec(), change);
    }

    fn file(
        &mut self,
        path: &[u8],
        base: Option<tree::Entry>,
        mode: u32,
        size: u64,
    ) -> Result<(), CollectError> {
        let limit = self.caps.max_content.max(match &base {
            Some(e) if is_file(e.mode) => self.base.odb().size(&e.id)?,
            _ => 0,
        });
        if size > limit {
            return Err(LayerError::Limit {
                what: "bytes in a changed file",
                limit,
                option: "--max-patch",
            }
            .into());
        }
        let raw = layer::read_file(self.layer, path, limit)?;
        let old = base.as_ref().filter(|e| is_file(e.mode));
        let new_mode = match old {
            Some(e) if !self.repo.settings().file_mode => e.mode,
            None if !self.repo.settings().file_mode => tree::FILE,
            _ if mode & 0o100 != 0 => tree::EXECUTABLE,
            _ => tree::FILE,
        };
        let filter = self.converter.filter(self.base, path)?;
        let stored = match self
            .converter
            .to_git(self.base, path, raw.clone(), old.map(|e| &e.id))
        {
            Ok(stored) => stored,
            Err(ConvertError::Content { what, .. }) => {
                self.refuse(
                    path,
                    "encoding",
                    format!("its content is not what its attributes say: {what}"),
                );
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        };
        if filter != Filter::None
            && let Some(e) = old
            && blob_id(self.repo.hash(), &stored)? != e.id
            && layer::same_content(self.repo.root_fd(), path, &raw)
        {
            // A copy-up of what is checked out through a filter: only the mode may differ.
            let side = self.old_side(e)?;
            if canonical(e.mode) != new_mode {
                let new = Side {
                    mode: new_mode,
                    ..side.clone()
                };
                self.edits.insert(path.to_vec(), Some((new_mode, e.id)));
                self.refuse(
                    path,
                    "filter",
                    "a change of mode where a filter program decides what git stores",
                );
                self.record(
                    path,
                    ChangeKind::ModeChanged,
                    Some(side),
                    Some(new),
                    Some(hex(&Sha256::digest(&raw))),
                );
            }
            return Ok(());
        }
        let before = self.found.contains_key(path);
        self.put(path, base, new_mode, stored.clone(), &raw)?;
        if before || !self.found.contains_key(path) {
            return Ok(());
        }
        match filter {
            Filter::Lfs if !is_lfs_pointer(&stored) && !stored.is_empty() => {
                self.refuse(
                    path,
                    "lfs",
                    "content that Git LFS stores outside the repository, where a patch cannot carry it",
                );
            }
            Filter::Other(name) => {
                self.refuse(
                    path,
                    "filter",
                    format!(
                        "what git stores here is decided by the filter program `{name}`, which is not run"
                    ),
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares new content with the base entry and records the difference, if any.
    fn put(
        &mut self,
        path: &[u8],
        base: Option<tree::Entry>,
        mode: u32,
        stored: Vec<u8>,
        raw: &[u8],
    ) -> Result<(), CollectError> {
        let oid = blob_id(self.repo.hash(), &stored)?;
        let base = base.filter(|e| e.mode != tree::DIR);
        if let Some(e) = &base
            && e.id == oid
            && canonical(e.mode) == mode
        {
            return Ok(());
        }
        let old = base.as_ref().map(|e| self.old_side(e)).transpose()?;
        let kind = match &base {
            None => ChangeKind::Added,
            Some(e) if e.mode & 0o170000 != mode & 0o170000 => ChangeKind::TypeChanged,
            Some(e) if e.id == oid => ChangeKind::ModeChanged,
            Some(_) => ChangeKind::Modified,
        };
        let new = Side {
            mode,
            size: stored.len() as u64,
            oid,
            sha256: hex(&Sha256::digest(&stored)),
        };
        self.edits.insert(path.to_vec(), Some((mode, oid)));
        self.record(path, kind, old, Some(new), Some(hex(&Sha256::digest(raw))));
        Ok(())
    }

    /// Directories that git would take for a repository of their own (git's `is_git_directory`).
    fn git_directories(&mut self, entries: &[layer::Entry]) -> Result<(), CollectError> {
        let marks: [&[u8]; 3] = [b"head", b"objects", b"refs"];
        let mut touched: BTreeMap<Vec<u8>, u8> = BTreeMap::new();
        for entry in entries.iter().filter(|e| e.kind != Kind::Whiteout) {
            let (dir, name) = tree::split(&entry.path);
            if let Some(i) = marks.iter().position(|m| name.eq_ignore_ascii_case(m)) {
                *touched.entry(dir.to_vec()).or_default() |= 1 << i;
            }
        }
        for (dir, mut bits) in touched {
            for entry in self.base.dir(&dir)?.iter().flat_map(|d| d.iter()) {
                if let Some(i) = marks.iter().position(|m| entry.name.eq_ignore_ascii_case(m)) {
                    bits |= 1 << i;
                }
            }
            if bits == 7 && !dir.is_empty() {
                self.refuse(
                    &dir,
                    "git_directory",
                    "a directory with HEAD, objects and refs, which git takes for a repository",
                );
            } else if bits == 7 {
                self.refuse(
                    b"HEAD",
                    "git_directory",
                    "HEAD, objects and refs at the top, which git takes for a repository",
                );
            }
        }
        Ok(())
    }

    fn judge(&mut self, change: &Change) {
        let path = change.path.as_slice();
        if dotgit::in_path(path) {
            self.refuse(
                path,
                "dot_git",
                "a name that git or a file system takes for `.git`",
            );
        }
        let rules = self.rules;
        if let Some(glob) = rules.hide.matching(path) {
            self.refuse(path, "hidden", format!("hidden by --hide {glob}: never a change"));
        }
        if let Some(glob) = rules.protect.matching(path) {
            let why = super::globs::protected_reason(glob)
                .map(|r| format!(": it {r}"))
                .unwrap_or_default();
            self.refuse(path, "protect", format!("protected by {glob}{why}"));
        }
        if let Some(glob) = rules.deny.matching(path) {
            self.refuse(path, "deny", format!("denied by --deny-change {glob}"));
        }
        if rules.allow.matching(path).is_none() {
            self.refuse(path, "allow", "matched by no --allow-change glob");
        }
    }
}

/// Old trees may say 100664; git compares it as 100644.
fn canonical(mode: u32) -> u32 {
    match mode {
        m if !is_file(m) => m,
        m if m & 0o100 != 0 => tree::EXECUTABLE,
        _ => tree::FILE,
    }
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
        let Some(new) = changes[i]
            .new
            .as_ref()
            .filter(|_| changes[i].kind == ChangeKind::Added)
        else {
            continue;
        };
        if let Some(from) = gone.get_mut(&key(new)).and_then(Vec::pop) {
            changes[i].renamed_from = Some(changes[from].path.clone());
            changes[from].renamed_to = Some(changes[i].path.clone());
        }
    }
}
