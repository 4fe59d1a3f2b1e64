//! A repository of which nothing but stored objects is read: its places found first, so that a process can be confined
//! to them, and then its objects. HEAD, index and work tree have no part.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Odb, Repo, RepoError, check_git_dir, config, git_dirs, objects, store_at, unnamed_worktree};
use crate::changes::gitfile::{GitDirs, GitFiles};

/// Where the parts of a repository are. Nothing but its names, its lists of alternates and the files that lead to its
/// git directory was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Top of the work tree, canonical.
    pub root: PathBuf,
    /// True where `.git` is a directory there.
    pub own_git_dir: bool,
    /// The git directory of this work tree, canonical.
    pub git_dir: PathBuf,
    /// The git directory that all linked work trees share, canonical.
    pub common_dir: PathBuf,
    /// Object directories, alternates resolved: each is one, and looks like nothing else.
    pub object_dirs: Vec<PathBuf>,
}

impl Places {
    /// Of the repository whose work tree `path` is in.
    ///
    /// # Errors
    /// It is none, or not one that is read here.
    pub fn find(path: &Path) -> Result<Self, RepoError> {
        let (root, dot_git, own_git_dir) = Repo::find(path)?;
        let dirs = git_dirs(&dot_git, own_git_dir)?;
        check_git_dir(&root, &dot_git, own_git_dir, &dirs)?;
        let object_dirs = objects::resolve(&dirs.common, &root)?;
        let (git_dir, common_dir) = (dirs.own.path().to_owned(), dirs.common.path().to_owned());
        Ok(Self { root, own_git_dir, git_dir, common_dir, object_dirs })
    }

    /// Every directory beneath which something is read, each once.
    #[must_use]
    pub fn all(&self) -> Vec<&Path> {
        let mut all: Vec<&Path> = vec![&self.git_dir, &self.common_dir];
        all.extend(self.object_dirs.iter().map(PathBuf::as_path));
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The objects of a repository.
pub struct Objects {
    store: Arc<gix_odb::Store>,
    hash: gix_hash::Kind,
    dir: PathBuf,
    partial: bool,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Objects {
    /// Opens them. `root` is the top of the work tree, the others as [`Places`] has them.
    ///
    /// # Errors
    /// Something of the repository cannot be read, or is not what git would write.
    pub fn open(
        root: &Path,
        own_git_dir: bool,
        git_dir: &Path,
        common_dir: &Path,
    ) -> Result<Self, RepoError> {
        let dirs = GitDirs { own: GitFiles::open(git_dir)?, common: GitFiles::open(common_dir)? };
        let (text, hash, settings) = config::read(root, &dirs)?;
        if !own_git_dir && !dirs.is_linked() && !config::names_worktree(&dirs, &text)? {
            return Err(unnamed_worktree(&root.join(".git"), git_dir));
        }
        let object_dirs = objects::resolve(&dirs.common, root)?;
        let dir = object_dirs.into_iter().next().unwrap_or_else(|| common_dir.join("objects"));
        let store = store_at(root, &dir, hash)?;
        Ok(Self { store: Arc::new(store), hash, dir, partial: settings.partial_clone })
    }

    /// A reader of them.
    #[must_use]
    pub fn odb(&self) -> Odb {
        let handle = gix_odb::Cache::from(self.store.to_handle_arc());
        Odb { handle, hash: self.hash, dir: self.dir.clone(), partial: self.partial }
    }
}
