//! One entry of the layer after another: what it means for the base tree, and whether it may be at all.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

use sha2::{Digest, Sha256};

use super::set::{Change, ChangeKind, Disallowed, IgnoredChange, Side};
use super::{Caps, ChangeRules, CollectError};
use crate::changes::convert::{ConvertError, Converter, Filter, hex, is_lfs_pointer};
use crate::changes::dotgit;
use crate::changes::ignore::Ignores;
use crate::changes::layer::{self, Kind, LayerError};
use crate::changes::repo::{Repo, blob_id};
use crate::changes::tree::{self, Edit, TreeView, is_file};

pub(crate) struct Work<'a> {
    pub(crate) repo: &'a Repo,
    pub(crate) base: &'a TreeView,
    pub(crate) layer: BorrowedFd<'a>,
    pub(crate) rules: &'a ChangeRules,
    pub(super) caps: &'a Caps,
    pub(super) converter: Converter,
    pub(crate) edits: BTreeMap<Vec<u8>, Edit>,
    pub(crate) found: BTreeMap<Vec<u8>, Change>,
    pub(super) ignored: Vec<IgnoredChange>,
    pub(super) disallowed: Vec<Disallowed>,
    pub(super) ask: Vec<(Vec<u8>, String)>,
    /// Bytes that changed files may still have.
    pub(super) content_left: u64,
    pub(super) absent: BTreeSet<Vec<u8>>,
}

impl Work<'_> {
    pub(crate) fn refuse(&mut self, path: &[u8], rule: &'static str, message: impl Into<String>) {
        self.disallowed.push(Disallowed { path: path.to_vec(), rule, message: message.into() });
    }

    pub(super) fn entry(
        &mut self,
        entry: &layer::Entry,
        skipped: &BTreeSet<Vec<u8>>,
        ignores: &mut Ignores,
    ) -> Result<(), CollectError> {
        let path = entry.path.as_slice();
        let base = self.base.entry(path)?;
        let is_dir = matches!(entry.kind, Kind::Dir { .. });
        if let Kind::Dir { counted: Some(count), .. } = entry.kind
            && skipped.contains(path)
        {
            self.ignored.push(IgnoredChange { path: path.to_vec(), kind: "directory", count });
            return self.replaced(path, base.as_ref());
        }
        if base.is_none() && !is_dir && ignores.is_ignored(self.base, path, false)? {
            let (kind, count) = match &entry.kind {
                Kind::File { size, .. } => ("file", *size),
                Kind::Symlink(_) => ("symlink", 0),
                Kind::Whiteout => ("deleted", 0),
                _ => ("special", 0),
            };
            self.ignored.push(IgnoredChange { path: path.to_vec(), kind, count });
            return Ok(());
        }
        if dotgit::is_alias(tree::split(path).1) {
            self.refuse(path, "dot_git", "a name that git or a file system takes for `.git`, below the top");
            return Ok(());
        }
        if base.as_ref().is_some_and(|e| e.mode == tree::GITLINK) {
            // An empty directory is how a submodule that is not checked out looks.
            if !matches!(entry.kind, Kind::Dir { counted: Some(0), opaque: false }) {
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
                self.refuse(path, "capability", "a file with capabilities (security.capability)");
            }
        }
        match &entry.kind {
            Kind::Dir { .. } if base.as_ref().is_some_and(|e| e.mode != tree::DIR) => self.delete(path, base),
            Kind::Dir { .. } => Ok(()),
            Kind::Whiteout => self.replaced(path, base.as_ref()),
            Kind::Symlink(target) => {
                self.replaced_dir(path, base.as_ref())?;
                self.put(path, base, tree::SYMLINK, target, target)
            }
            Kind::File { size, .. } => {
                self.replaced_dir(path, base.as_ref())?;
                self.file(path, base, entry.mode, *size)
            }
            _ => Ok(()),
        }
    }

    /// The lower layer's entry is hidden: whatever the base has there is deleted.
    pub(super) fn replaced(&mut self, path: &[u8], base: Option<&tree::Entry>) -> Result<(), CollectError> {
        match base {
            Some(e) if e.mode == tree::DIR => self.delete_beneath(path, &BTreeSet::new(), false),
            Some(e) => self.delete(path, Some(e.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn replaced_dir(
        &mut self,
        path: &[u8],
        base: Option<&tree::Entry>,
    ) -> Result<(), CollectError> {
        match base {
            Some(e) if e.mode == tree::DIR => self.delete_beneath(path, &BTreeSet::new(), true),
            _ => Ok(()),
        }
    }

    /// `absent_too`: also what a sparse checkout leaves out, where a file takes the directory's place.
    pub(super) fn delete_beneath(
        &mut self,
        path: &[u8],
        kept: &BTreeSet<&[u8]>,
        absent_too: bool,
    ) -> Result<(), CollectError> {
        for (full, entry) in self.base.beneath(path)? {
            if kept.contains(full.as_slice()) || !absent_too && self.absent.contains(&full) {
                continue;
            }
            self.delete(&full, Some(entry))?;
            if self.found.len() as u64 > self.caps.max_files {
                return Err(CollectError::TooMany { limit: self.caps.max_files });
            }
        }
        Ok(())
    }

    /// Directories that hide the lower one: tracked files beneath that the layer does not have are gone.
    pub(super) fn expand_hidden_by_layer(&mut self, entries: &[layer::Entry]) -> Result<(), CollectError> {
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
                self.delete_beneath(&entry.path, &present, false)?;
            }
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, path: &[u8], base: Option<tree::Entry>) -> Result<(), CollectError> {
        let Some(base) = base else { return Ok(()) };
        if base.mode == tree::GITLINK {
            self.refuse(path, "gitlink", "the removal of a submodule");
        }
        let old = Some(self.old_side(&base)?);
        self.edits.insert(path.to_vec(), None);
        self.record(path, ChangeKind::Deleted, old, None, None);
        Ok(())
    }

    pub(super) fn old_side(&self, base: &tree::Entry) -> Result<Side, CollectError> {
        if base.mode == tree::GITLINK {
            return Ok(Side { mode: base.mode, size: 0, oid: base.id, sha256: String::new() });
        }
        let data = self.base.odb().blob(&base.id)?;
        Ok(Side {
            mode: base.mode,
            size: data.len() as u64,
            oid: base.id,
            sha256: hex(&Sha256::digest(&data)),
        })
    }

    pub(super) fn record(
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

    pub(super) fn file(
        &mut self,
        path: &[u8],
        base: Option<tree::Entry>,
        mode: u32,
        size: u64,
    ) -> Result<(), CollectError> {
        // What is only touched may be as large as it was; what is changed counts, and before it is read.
        let limit = self.content_left.max(match &base {
            Some(e) if is_file(e.mode) => self.base.odb().size(&e.id)?,
            _ => 0,
        });
        if size > limit {
            return Err(self.too_much());
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
        let stored = match self.converter.to_git(self.base, path, &raw, old.map(|e| &e.id)) {
            Ok(stored) => stored,
            Err(ConvertError::Content { what, .. }) => {
                self.refuse(path, "encoding", format!("its content is not what its attributes say: {what}"));
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
                let new = Side { mode: new_mode, ..side.clone() };
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
        self.put(path, base, new_mode, &stored, &raw)?;
        if !self.found.contains_key(path) {
            return Ok(());
        }
        self.content_left = self.content_left.checked_sub(raw.len() as u64).ok_or_else(|| self.too_much())?;
        if before {
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

    fn too_much(&self) -> CollectError {
        let what = "bytes in the changed files together";
        LayerError::Limit { what, limit: self.caps.max_content, option: "--max-patch" }.into()
    }

    /// Compares new content with the base entry and records the difference, if any.
    pub(super) fn put(
        &mut self,
        path: &[u8],
        base: Option<tree::Entry>,
        mode: u32,
        stored: &[u8],
        raw: &[u8],
    ) -> Result<(), CollectError> {
        let oid = blob_id(self.repo.hash(), stored)?;
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
        let new = Side { mode, size: stored.len() as u64, oid, sha256: hex(&Sha256::digest(stored)) };
        self.edits.insert(path.to_vec(), Some((mode, oid)));
        self.record(path, kind, old, Some(new), Some(hex(&Sha256::digest(raw))));
        Ok(())
    }

    /// Directories that git would take for a repository of their own (git's `is_git_directory`).
    pub(super) fn git_directories(&mut self, entries: &[layer::Entry]) -> Result<(), CollectError> {
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

    pub(super) fn judge(&mut self, change: &Change) {
        let path = change.path.as_slice();
        for (rule, message) in self.rules.refusals(path) {
            self.refuse(path, rule, message);
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
