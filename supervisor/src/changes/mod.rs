//! Everything about the git work tree of a run: what it is at the start, what a layer changed, the patch that
//! says so, and the views of it that sandboxes get.
//!
//! No git program is ever run here. Objects, references and the index are read in this process, configuration is
//! read as data and without includes, and nothing is written to the work tree or to the git directory.

pub mod classify;
pub mod convert;
pub mod copy;
pub mod dotgit;
pub(crate) mod gitfile;
pub mod gitview;
pub mod globs;
pub mod ignore;
pub mod index;
pub mod layer;
pub mod patch;
pub mod refs;
pub mod repo;
pub mod seeds;
pub mod survey;

#[cfg(test)]
pub(crate) mod testing;
pub mod tree;

pub use gix_hash::ObjectId;

/// A path or name for people: not UTF-8 is replaced, control characters are escaped.
pub(crate) fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().fold(String::new(), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}
