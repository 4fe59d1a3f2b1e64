//! The base tree as a lookup by path, and the id that it has after edits. Directories are read when they are
//! asked for and kept; no object is ever written.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use gix_hash::ObjectId;

use super::repo::{Odb, RepoError};
use super::show;

/// Mode of a directory in a tree.
pub const DIR: u32 = 0o040000;
/// Mode of a regular file.
pub const FILE: u32 = 0o100644;
/// Mode of an executable file.
pub const EXECUTABLE: u32 = 0o100755;
/// Mode of a symbolic link.
pub const SYMLINK: u32 = 0o120000;
/// Mode of a submodule's commit.
pub const GITLINK: u32 = 0o160000;

/// Paths of one tree: far more than any repository has.
const MAX_ENTRIES: usize = 3_000_000;

/// True for a mode of a regular file, executable or not.
pub fn is_file(mode: u32) -> bool {
    mode & 0o170000 == 0o100000
}

/// Why a result tree has no id.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Reading the base failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The edits do not fit the base, or each other.
    #[error("{}: {what}", show(.path))]
    Conflict {
        /// Where.
        path: Vec<u8>,
        /// What does not fit.
        what: &'static str,
    },
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name within its directory.
    pub name: Vec<u8>,
    /// Mode, as the tree has it.
    pub mode: u32,
    /// The object.
    pub id: ObjectId,
}

/// The new state of one path: mode and object, or `None` where it is removed.
pub type Edit = Option<(u32, ObjectId)>;

/// The entries of a directory, or that there is none.
type Dir = Option<Rc<Vec<Entry>>>;

/// Edits of one name in a directory: of itself, and of what is beneath.
type Group<'a> = (Option<Edit>, Vec<(&'a [u8], Edit)>);

/// A tree of the object database, read as it is asked for.
pub struct TreeView {
    odb: Odb,
    root: ObjectId,
    dirs: RefCell<HashMap<Vec<u8>, Dir>>,
}

impl TreeView {
    /// A view of the tree `root`.
    pub fn new(odb: Odb, root: ObjectId) -> Self {
        Self { odb, root, dirs: RefCell::default() }
    }

    /// The reader of objects.
    pub fn odb(&self) -> &Odb {
        &self.odb
    }

    /// The entries of the directory `path` (empty for the top), sorted by name bytes; `None` where it is none.
    pub fn dir(&self, path: &[u8]) -> Result<Dir, RepoError> {
        if let Some(known) = self.dirs.borrow().get(path) {
            return Ok(known.clone());
        }
        // Walk down to it without recursion: a path's depth is whatever somebody named it.
        let mut id = Some(self.root);
        let mut at = 0;
        loop {
            let here = if at == 0 { &path[..0] } else { &path[..at - 1] };
            let known = self.dirs.borrow().get(here).cloned();
            let entries = match (known, id) {
                (Some(known), _) => known,
                (None, Some(id)) => {
                    let entries = Some(Rc::new(self.load(&id)?));
                    self.dirs.borrow_mut().insert(here.to_vec(), entries.clone());
                    entries
                }
                (None, None) => None,
            };
            if here.len() == path.len() {
                return Ok(entries);
            }
            let Some(entries) = entries else {
                self.dirs.borrow_mut().insert(path.to_vec(), None);
                return Ok(None);
            };
            let end = path[at..].iter().position(|b| *b == b'/').map_or(path.len(), |p| at + p);
            id = find(&entries, &path[at..end]).filter(|e| e.mode == DIR).map(|e| e.id);
            at = end + 1;
        }
    }

    /// The entry at `path`.
    pub fn entry(&self, path: &[u8]) -> Result<Option<Entry>, RepoError> {
        let (dir, name) = split(path);
        Ok(self.dir(dir)?.and_then(|entries| find(&entries, name).cloned()))
    }

    /// Every entry beneath the directory `path` that is not a directory, by full path.
    pub fn beneath(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Entry)>, RepoError> {
        self.beneath_up_to(path, MAX_ENTRIES)
    }

    /// As [`Self::beneath`], for at most `limit` paths.
    pub(crate) fn beneath_up_to(
        &self,
        path: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Entry)>, RepoError> {
        let mut found = Vec::new();
        let mut dirs = vec![path.to_vec()];
        while let Some(dir) = dirs.pop() {
            let Some(entries) = self.dir(&dir)? else { continue };
            for entry in entries.iter() {
                let full = join(&dir, &entry.name);
                // A few trees that hold one another many times can make any number of paths.
                if found.len() + dirs.len() >= limit {
                    let what = format!("has more than the {limit} paths that are read");
                    return Err(RepoError::Object { id: self.root, what });
                }
                if entry.mode == DIR {
                    dirs.push(full);
                } else {
                    found.push((full, entry.clone()));
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn load(&self, id: &ObjectId) -> Result<Vec<Entry>, RepoError> {
        let data = self.odb.tree(id)?;
        let bad = |what: &str| RepoError::Object { id: *id, what: what.to_owned() };
        let mut entries = Vec::new();
        for entry in gix_object::TreeRefIter::from_bytes(&data, self.odb.hash()) {
            let entry = entry.map_err(|e| bad(&e.to_string()))?;
            let name = entry.filename.to_vec();
            if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
                return Err(bad("has an entry whose name is no file name"));
            }
            entries.push(Entry { name, mode: u32::from(entry.mode.value()), id: entry.oid.to_owned() });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if entries.windows(2).any(|w| w[0].name == w[1].name) {
            return Err(bad("has the same name twice"));
        }
        Ok(entries)
    }

    /// The id of the tree after `edits`, computed in memory. An edit must change something that is there or add
    /// what is not; a file where a directory still has entries is a conflict.
    pub fn result_id(&self, edits: &BTreeMap<Vec<u8>, Edit>) -> Result<ObjectId, TreeError> {
        if edits.is_empty() {
            return Ok(self.root);
        }
        let edits: Vec<_> = edits.iter().map(|(path, edit)| (path.as_slice(), *edit)).collect();
        match self.edited(&edits, 0)? {
            Some(id) => Ok(id),
            None => Ok(ObjectId::empty_tree(self.odb.hash())),
        }
    }

    /// Edits all lie beneath the directory that the first `at` bytes of their paths name (with its slash).
    fn edited(&self, edits: &[(&[u8], Edit)], at: usize) -> Result<Option<ObjectId>, TreeError> {
        let Some((first, _)) = edits.first() else {
            return Ok(None);
        };
        let dir = &first[..at.saturating_sub(1)];
        let base = self.dir(dir)?;
        let mut entries: BTreeMap<Vec<u8>, (u32, ObjectId)> =
            base.iter().flat_map(|b| b.iter()).map(|e| (e.name.clone(), (e.mode, e.id))).collect();
        if !entries.is_empty() {
            self.check_round_trip(dir, &entries)?;
        }
        // Paths sort by bytes, so `a`, `a.b` and `a/c` may stand apart: group by name.
        let mut groups: BTreeMap<&[u8], Group<'_>> = BTreeMap::new();
        for (path, edit) in edits {
            let rest = &path[at..];
            match rest.iter().position(|b| *b == b'/') {
                None => groups.entry(rest).or_default().0 = Some(*edit),
                Some(end) => groups.entry(&rest[..end]).or_default().1.push((path, *edit)),
            }
        }
        for (name, (leaf, below)) in groups {
            let conflict = |what| TreeError::Conflict { path: join(dir, name), what };
            let was = entries.get(name).copied();
            let was_dir = was.is_some_and(|(mode, _)| mode == DIR);
            let mut sub = was.filter(|_| was_dir).map(|(_, id)| id);
            if !below.is_empty() {
                sub = self.edited(&below, at + name.len() + 1)?;
            }
            match leaf {
                Some(Some(new)) if sub.is_none() => entries.insert(name.to_vec(), new),
                Some(Some(_)) => return Err(conflict("would be a file and a directory at once")),
                Some(None) if was.is_none() || was_dir => {
                    return Err(conflict("is removed but was not a file"));
                }
                Some(None) => match sub {
                    Some(id) => entries.insert(name.to_vec(), (DIR, id)),
                    None => entries.remove(name),
                },
                None if was.is_some() && !was_dir => {
                    return Err(conflict("is a file where a directory is needed"));
                }
                None => match sub {
                    Some(id) => entries.insert(name.to_vec(), (DIR, id)),
                    None => entries.remove(name),
                },
            };
        }
        if entries.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.hash_tree(&entries)?))
    }

    /// Git trees written by odd tools may not be what git would write; changing a part of one would change more.
    fn check_round_trip(
        &self,
        dir: &[u8],
        entries: &BTreeMap<Vec<u8>, (u32, ObjectId)>,
    ) -> Result<(), TreeError> {
        let id = if dir.is_empty() { self.root } else { self.entry(dir)?.map_or(self.root, |e| e.id) };
        if self.hash_tree(entries)? == id {
            return Ok(());
        }
        Err(RepoError::Object { id, what: "is a tree that git itself would write otherwise".to_owned() }
            .into())
    }

    fn hash_tree(&self, entries: &BTreeMap<Vec<u8>, (u32, ObjectId)>) -> Result<ObjectId, RepoError> {
        let mut sorted: Vec<_> = entries.iter().collect();
        // Git sorts a directory as if its name ended in a slash.
        sorted.sort_by(|a, b| gix_object::tree::name_order(a.0, a.1.0 == DIR, b.0, b.1.0 == DIR));
        let mut data = Vec::new();
        for (name, (mode, id)) in sorted {
            data.extend_from_slice(format!("{mode:o} ").as_bytes());
            data.extend_from_slice(name);
            data.push(0);
            data.extend_from_slice(id.as_slice());
        }
        gix_object::compute_hash(self.odb.hash(), gix_object::Kind::Tree, &data)
            .map_err(|e| RepoError::Object { id: self.root, what: e.to_string() })
    }
}

fn find<'a>(entries: &'a [Entry], name: &[u8]) -> Option<&'a Entry> {
    entries.binary_search_by(|e| e.name.as_slice().cmp(name)).ok().map(|i| &entries[i])
}

/// `a/b/c` is `a/b` and `c`; a name alone has the empty directory.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(p) => (&path[..p], &path[p + 1..]),
        None => (&[], path),
    }
}

pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        return name.to_vec();
    }
    let mut full = Vec::with_capacity(dir.len() + 1 + name.len());
    full.extend_from_slice(dir);
    full.push(b'/');
    full.extend_from_slice(name);
    full
}
