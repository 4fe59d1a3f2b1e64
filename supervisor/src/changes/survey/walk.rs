//! The walk: directories in parallel, each merged with its part of the index, no path allocated for what is clean.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use gix_hash::ObjectId;
use gix_index::Entry;
use gix_index::entry::{Flags, Mode, Stage};
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, ResolveFlags};

use super::check::Checker;
use super::{Dirty, Found, Hidden, Reason, SurveyError};
use crate::changes::globs::GlobList;
use crate::changes::ignore::{self, Node};
use crate::changes::index::Index;
use crate::changes::repo::{Repo, RepoError, bytes_path};
use crate::changes::tree::{TreeView, join};

/// One directory to look at.
struct Task {
    /// Path relative to the repository's top; empty, or without a slash at its end.
    path: Vec<u8>,
    /// Entries of the index beneath it.
    range: std::ops::Range<usize>,
    /// Ignore patterns that hold in it; `None` where it is ignored itself.
    ignores: Option<Arc<Node>>,
    /// It is hidden, or beneath what is.
    hidden: bool,
}

/// Directories that wait, and how many workers are at one.
#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    busy: usize,
    failed: bool,
}

struct Shared<'a> {
    repo: &'a Repo,
    index: &'a Index,
    hide: &'a GlobList,
    prefix: &'a [u8],
    /// The index is HEAD's tree: it tells which directories have an ignore file without reading their trees.
    index_is_base: bool,
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Local {
    dirty: Vec<(Vec<u8>, Reason)>,
    hidden: Vec<Hidden>,
    gitlinks: Vec<(Vec<u8>, ObjectId)>,
}

/// Walks everything; gives the submodules that are checked out.
pub(super) fn walk(
    repo: &Repo,
    index: &Index,
    hide: &GlobList,
    prefix: &[u8],
    found: &mut Found<'_>,
) -> Result<Vec<(Vec<u8>, ObjectId)>, SurveyError> {
    let view = TreeView::new(repo.odb(), repo.base_tree());
    let top = Node::child(&Arc::default(), b"", ignore::file_of(&view, b"")?.as_deref())?;
    let first =
        Task { path: Vec::new(), range: 0..index.state.entries().len(), ignores: Some(top), hidden: false };
    let shared = Shared {
        repo,
        index,
        hide,
        prefix,
        index_is_base: found.index_is_base,
        queue: Mutex::new(Queue { tasks: vec![first], busy: 0, failed: false }),
        more: Condvar::new(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let results: Vec<Result<Local, SurveyError>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&shared))).collect();
        handles
            .into_iter()
            .map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut gitlinks = Vec::new();
    for result in results {
        let local = result?;
        found.dirty.extend(
            local.dirty.into_iter().map(|(path, reason)| Dirty { path: join(prefix, &path), reason }),
        );
        found.hidden.extend(local.hidden);
        gitlinks.extend(local.gitlinks);
    }
    gitlinks.sort();
    Ok(gitlinks)
}

fn work(shared: &Shared<'_>) -> Result<Local, SurveyError> {
    let mut worker = Worker {
        shared,
        view: TreeView::new(shared.repo.odb(), shared.repo.base_tree()),
        checker: Checker::new(shared.repo, shared.index)?,
        hide: shared.hide.clone(),
        local: Local::default(),
        buffer: Vec::with_capacity(32 << 10),
        full: Vec::new(),
        new: Vec::new(),
    };
    while let Some(task) = next(shared) {
        let result = worker.directory(&task);
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.busy -= 1;
        queue.tasks.append(&mut worker.new);
        queue.failed |= result.is_err();
        drop(queue);
        shared.more.notify_all();
        result?;
    }
    Ok(worker.local)
}

fn next(shared: &Shared<'_>) -> Option<Task> {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if queue.failed {
            return None;
        }
        if let Some(task) = queue.tasks.pop() {
            queue.busy += 1;
            return Some(task);
        }
        if queue.busy == 0 {
            return None;
        }
        queue = shared.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// A name of a directory: where it lies in the names read, and whether it is a directory.
struct Name {
    range: std::ops::Range<usize>,
    kind: FileType,
    /// Sorts as the index sorts what is beneath it: with a slash at its end.
    slash: bool,
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    view: TreeView,
    checker: Checker<'a>,
    /// A copy: the automata's scratch space is one for each copy, and workers would wait for one another's.
    hide: GlobList,
    local: Local,
    buffer: Vec<u8>,
    full: Vec<u8>,
    new: Vec<Task>,
}

impl Worker<'_> {
    fn directory(&mut self, task: &Task) -> Result<(), SurveyError> {
        let entries = self.shared.index.state.entries();
        let Some(dir) = open(self.shared.repo, task)? else {
            for entry in &entries[task.range.clone()] {
                self.missing(entry, entry.path(&self.shared.index.state));
            }
            return Ok(());
        };
        let mut names = Vec::new();
        let mut listed = self.list(&dir, task, &mut names)?;
        let skip = if task.path.is_empty() { 0 } else { task.path.len() + 1 };
        let mut at = task.range.start;
        let end = task.range.end;
        if entries[at..end].iter().any(|e| e.mode == Mode::COMMIT) {
            self.gitlinks_sort_as_files(task, &names, &mut listed, skip);
        }
        for name in &listed {
            let bytes = &names[name.range.clone()];
            // What the index has before this name is not there.
            while let Some(entry) = entries.get(at).filter(|_| at < end) {
                let path: &[u8] = entry.path(&self.shared.index.state);
                if !before(&path[skip..], bytes, name.slash) {
                    break;
                }
                self.missing(entry, path);
                at += 1;
            }
            let state = &self.shared.index.state;
            let matching = |e: &Entry| {
                let rest: &[u8] = &e.path(state)[skip..];
                if name.slash {
                    rest.starts_with(bytes) && rest.get(bytes.len()) == Some(&b'/')
                } else {
                    rest == bytes
                }
            };
            let count = match name.slash {
                true => entries[at..end].partition_point(matching),
                false => entries[at..end].iter().take_while(|e| matching(e)).count(),
            };
            let range = at..at + count;
            at = range.end;
            self.name(task, &dir, bytes, name, range)?;
        }
        for entry in &entries[at..end] {
            self.missing(entry, entry.path(&self.shared.index.state));
        }
        Ok(())
    }

    /// Reads the names of a directory, sorted as the index is.
    fn list(&mut self, dir: &OwnedFd, task: &Task, names: &mut Vec<u8>) -> Result<Vec<Name>, SurveyError> {
        let unreadable = |e: rustix::io::Errno| {
            RepoError::unreadable(self.shared.repo.root_path().join(bytes_path(&task.path)), e)
        };
        let mut listed = Vec::new();
        let mut raw = RawDir::new(dir, self.buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(unreadable)?;
            let bytes = entry.file_name().to_bytes();
            if matches!(bytes, b"." | b"..") || task.path.is_empty() && bytes == b".git" {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                let stat = rustix::fs::statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(unreadable)?;
                kind = FileType::from_raw_mode(stat.st_mode);
            }
            let start = names.len();
            names.extend_from_slice(bytes);
            listed.push(Name { range: start..names.len(), kind, slash: kind == FileType::Directory });
        }
        sort(names, &mut listed);
        Ok(listed)
    }

    fn gitlinks_sort_as_files(&self, task: &Task, names: &[u8], listed: &mut [Name], skip: usize) {
        let state = &self.shared.index.state;
        for name in listed.iter_mut().filter(|n| n.slash) {
            let bytes = &names[name.range.clone()];
            let part = &state.entries()[task.range.clone()];
            let found = part.binary_search_by(|e| AsRef::<[u8]>::as_ref(&e.path(state)[skip..]).cmp(bytes));
            if found.is_ok_and(|i| part[i].mode == Mode::COMMIT) {
                name.slash = false;
            }
        }
        sort(names, listed);
    }

    fn missing(&mut self, entry: &Entry, path: &[u8]) {
        let sparse =
            entry.flags.contains(Flags::SKIP_WORKTREE) && self.shared.repo.settings().sparse_checkout;
        // A submodule whose directory is gone is reported as git does; conflicts and intents stand on their own.
        if !sparse && entry.flags.stage() == Stage::Unconflicted {
            self.local.dirty.push((path.to_vec(), Reason::Deleted));
        }
    }

    fn name(
        &mut self,
        task: &Task,
        dir: &OwnedFd,
        bytes: &[u8],
        name: &Name,
        range: std::ops::Range<usize>,
    ) -> Result<(), SurveyError> {
        let is_dir = name.kind == FileType::Directory;
        let entries = &self.shared.index.state.entries()[range.clone()];
        let hidden = self.hidden(task, bytes, is_dir, !entries.is_empty());
        if !is_dir {
            return match entries.first() {
                Some(entry) => self.tracked(dir, entry),
                // Git looks at files and links alone.
                None if !matches!(name.kind, FileType::RegularFile | FileType::Symlink) => Ok(()),
                None => {
                    if let Some(node) = &task.ignores {
                        let path = join(&task.path, bytes);
                        if !node.matches(&path, false) {
                            self.local.dirty.push((path, Reason::Untracked));
                        }
                    }
                    Ok(())
                }
            };
        }
        if let Some(entry) = entries.first().filter(|_| !name.slash) {
            let path = join(&task.path, bytes);
            let git = join(bytes, b".git");
            if is_git(dir, &git) {
                self.local.gitlinks.push((path, entry.id));
                return Ok(());
            }
            // Not checked out: what may be there is untracked, as in any directory.
            return self.push(task, path, 0..0, hidden);
        }
        let path = join(&task.path, bytes);
        if entries.is_empty() {
            let ignored = task.ignores.as_ref().is_none_or(|n| n.matches(&path, true));
            if !ignored && exists(dir, &join(bytes, b".git")) {
                self.local.dirty.push((path, Reason::NestedRepository));
                return Ok(());
            }
        }
        self.push(task, path, range, hidden)
    }

    /// Notes a hidden path; true where it is one, and nothing beneath needs to be looked for.
    fn hidden(&mut self, task: &Task, bytes: &[u8], is_dir: bool, tracked: bool) -> bool {
        if task.hidden || self.shared.hide.is_empty() {
            return task.hidden;
        }
        self.full.clear();
        for part in [self.shared.prefix, &task.path].into_iter().filter(|p| !p.is_empty()) {
            self.full.extend_from_slice(part);
            self.full.push(b'/');
        }
        self.full.extend_from_slice(bytes);
        let hide = &self.hide;
        let found = if is_dir { hide.matching_dir(&self.full) } else { hide.matching(&self.full) };
        if found.is_some() {
            self.local.hidden.push(Hidden { path: self.full.clone(), is_dir, tracked });
        }
        found.is_some()
    }

    fn push(
        &mut self,
        task: &Task,
        path: Vec<u8>,
        range: std::ops::Range<usize>,
        hidden: bool,
    ) -> Result<(), SurveyError> {
        let ignores = match &task.ignores {
            // Beneath an ignored directory only what is tracked, and what is hidden, matters.
            None => None,
            Some(node) if node.matches(&path, true) => None,
            Some(node) => Some(Node::child(node, &path, self.ignore_file(&path, &range)?.as_deref())?),
        };
        let unseen = hidden || self.shared.hide.is_empty();
        if ignores.is_some() || !range.is_empty() || !unseen {
            self.new.push(Task { path, range, ignores, hidden });
        }
        Ok(())
    }

    /// The content of the base's ignore file in the directory `path`, whose part of the index is `range`.
    fn ignore_file(&self, path: &[u8], range: &std::ops::Range<usize>) -> Result<Option<Vec<u8>>, RepoError> {
        if !self.shared.index_is_base {
            return ignore::file_of(&self.view, path);
        }
        let state = &self.shared.index.state;
        let part = &state.entries()[range.clone()];
        let name = join(path, b".gitignore");
        let found = part.binary_search_by(|e| AsRef::<[u8]>::as_ref(e.path(state)).cmp(name.as_slice()));
        match found.ok().map(|i| &part[i]).filter(|e| matches!(e.mode, Mode::FILE | Mode::FILE_EXECUTABLE)) {
            Some(entry) => self.view.odb().small_blob(&entry.id).map(Some),
            None => Ok(None),
        }
    }

    fn tracked(&mut self, dir: &OwnedFd, entry: &Entry) -> Result<(), SurveyError> {
        if entry.flags.stage() != Stage::Unconflicted {
            return Ok(());
        }
        if let Some(reason) = self.checker.check(&self.view, dir.as_fd(), entry)? {
            let path: &[u8] = entry.path(&self.shared.index.state);
            self.local.dirty.push((path.to_vec(), reason));
        }
        Ok(())
    }
}

/// True where the index's path `rest` sorts before the name and is not the name.
fn before(rest: &[u8], name: &[u8], slash: bool) -> bool {
    if slash {
        let len = name.len().min(rest.len());
        match rest[..len].cmp(&name[..len]) {
            std::cmp::Ordering::Equal if rest.len() > name.len() => rest[name.len()] < b'/',
            std::cmp::Ordering::Equal => true,
            other => other.is_lt(),
        }
    } else {
        rest < name
    }
}

fn sort(names: &[u8], listed: &mut [Name]) {
    listed.sort_unstable_by(|a, b| {
        let (x, y) = (&names[a.range.clone()], &names[b.range.clone()]);
        let len = x.len().min(y.len());
        let next = |s: &[u8], slash: bool| s.get(len).copied().or(slash.then_some(b'/'));
        x[..len]
            .cmp(&y[..len])
            .then_with(|| next(x, a.slash).cmp(&next(y, b.slash)))
            .then_with(|| x.len().cmp(&y.len()))
    });
}

/// Opens the directory of a task; `None` where it has gone meanwhile, or is ignored and not ours to read: the
/// backend, with no more rights than we have, cannot read it either.
fn open(repo: &Repo, task: &Task) -> Result<Option<OwnedFd>, SurveyError> {
    use rustix::io::Errno;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let name = if task.path.is_empty() { &b"."[..] } else { &task.path };
    match rustix::fs::openat2(repo.root_fd(), name, flags, rustix::fs::Mode::empty(), resolve) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(Errno::ACCESS) if task.ignores.is_none() && task.range.is_empty() => Ok(None),
        Err(e) => Err(RepoError::unreadable(repo.root_path().join(bytes_path(&task.path)), e).into()),
    }
}

/// True where a submodule's `.git` may be one: a directory or a file. What a link or a special file stands for is
/// untracked, as anything else there.
fn is_git(dir: &OwnedFd, name: &[u8]) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|s| {
        matches!(FileType::from_raw_mode(s.st_mode), FileType::Directory | FileType::RegularFile)
    })
}

fn exists(dir: &OwnedFd, name: &[u8]) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}
