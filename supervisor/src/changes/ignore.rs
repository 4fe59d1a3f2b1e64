//! Which paths the base commit's `.gitignore` files ignore: those files alone, as gitignore(5) says, not
//! `info/exclude`, not the user's, and not what the work tree holds now.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bstr::ByteSlice;
use gix_ignore::search::Ignore;

use super::repo::{RepoError, bytes_path};
use super::tree::{TreeView, is_file, join, split};

type List = gix_glob::search::pattern::List<Ignore>;

/// The patterns that hold in one directory, and those above it.
#[derive(Debug, Default)]
pub struct Node {
    parent: Option<Arc<Node>>,
    list: Option<List>,
}

impl Node {
    /// The node of a directory below `parent` whose own ignore file, if any, has the content `text`.
    pub fn child(parent: &Arc<Node>, dir: &[u8], text: Option<&[u8]>) -> Result<Arc<Node>, RepoError> {
        match text {
            None => Ok(Arc::clone(parent)),
            Some(text) => {
                Ok(Arc::new(Node { parent: Some(Arc::clone(parent)), list: Some(parse(dir, text)?) }))
            }
        }
    }

    /// What the patterns say of `path`, whose directory this node is of: ignored or not.
    pub fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        let base = path.rfind_byte(b'/').map(|p| p + 1);
        let mut node = Some(self);
        while let Some(here) = node {
            if let Some(list) = &here.list {
                let found = gix_ignore::search::pattern_matching_relative_path(
                    list,
                    path.as_bstr(),
                    base,
                    Some(is_dir),
                    gix_glob::pattern::Case::Sensitive,
                );
                if let Some(found) = found {
                    return !found.pattern.is_negative();
                }
            }
            node = here.parent.as_deref();
        }
        false
    }
}

fn parse(dir: &[u8], text: &[u8]) -> Result<List, RepoError> {
    let source = bytes_path(&join(dir, b".gitignore"));
    List::from_bytes(text, source.clone(), Some(Path::new("")), Ignore { support_precious: false })
        .map_err(|e| RepoError::unreadable(source, e))
}

/// The ignore file that a directory of the base tree has.
pub(crate) fn file_of(tree: &TreeView, dir: &[u8]) -> Result<Option<Vec<u8>>, RepoError> {
    match tree.entry(&join(dir, b".gitignore"))? {
        Some(entry) if is_file(entry.mode) => tree.odb().small_blob(&entry.id).map(Some),
        _ => Ok(None),
    }
}

/// Answers for any path, reading ignore files of the base tree as they are needed.
#[derive(Default)]
pub struct Ignores {
    nodes: HashMap<Vec<u8>, Arc<Node>>,
    excluded: HashMap<Vec<u8>, bool>,
}

impl Ignores {
    /// The node of `dir`.
    pub fn node(&mut self, tree: &TreeView, dir: &[u8]) -> Result<Arc<Node>, RepoError> {
        if let Some(known) = self.nodes.get(dir) {
            return Ok(Arc::clone(known));
        }
        let mut node = match self.nodes.get(&b""[..]) {
            Some(top) => Arc::clone(top),
            None => {
                let top = Node::child(&Arc::default(), b"", file_of(tree, b"")?.as_deref())?;
                self.nodes.insert(Vec::new(), Arc::clone(&top));
                top
            }
        };
        for end in ends(dir) {
            let here = &dir[..end];
            node = match self.nodes.get(here) {
                Some(known) => Arc::clone(known),
                None => {
                    let next = Node::child(&node, here, file_of(tree, here)?.as_deref())?;
                    self.nodes.insert(here.to_vec(), Arc::clone(&next));
                    next
                }
            };
        }
        Ok(node)
    }

    /// True where `path` or a directory above it is ignored. What the base commit tracks is the caller's to know.
    pub fn is_ignored(&mut self, tree: &TreeView, path: &[u8], is_dir: bool) -> Result<bool, RepoError> {
        for end in ends(path) {
            let here = &path[..end];
            if end == path.len() {
                let node = self.node(tree, split(here).0)?;
                return Ok(node.matches(here, is_dir));
            }
            let excluded = match self.excluded.get(here) {
                Some(known) => *known,
                None => {
                    let found = self.node(tree, split(here).0)?.matches(here, true);
                    self.excluded.insert(here.to_vec(), found);
                    found
                }
            };
            if excluded {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Ends of the prefixes of `path` that name its directories, and then itself.
fn ends(path: &[u8]) -> impl Iterator<Item = usize> + '_ {
    path.iter()
        .enumerate()
        .filter(|(_, b)| **b == b'/')
        .map(|(i, _)| i)
        .chain((!path.is_empty()).then_some(path.len()))
}
