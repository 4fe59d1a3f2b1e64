//! The repository around a work tree, opened once: where its parts are, what HEAD is, how to read objects.
//!
//! Configuration is read from the repository's own files as data; includes, the user's and the system's files
//! have no part. Nothing is written. What the reader does not understand is refused, never guessed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bstr::ByteSlice;
use gix_hash::ObjectId;
use gix_object::{Find, FindHeader};
use rustix::fs::{Mode, OFlags};

use super::gitfile::{GitDirs, GitFiles, MAX_NAME};
use super::refs;

pub use stored::{Objects, Places};

/// Most bytes of a file's content.
const MAX_BLOB: u64 = 1 << 30;
/// Most bytes of a tree or a commit.
const MAX_TREE: u64 = 64 << 20;
/// Most bytes of a file of rules or of a link's target.
const MAX_RULES: u64 = 1 << 20;

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// Neither the directory nor one above it is a git work tree.
    #[error("{} is not inside a git work tree; name one with --repo, or make one with `git init` and a first commit", .0.display())]
    NotARepository(PathBuf),
    /// A repository without a work tree.
    #[error("{} is a bare repository and has no work tree; name a checkout of it with --repo (`git worktree add` makes one)", .0.display())]
    Bare(PathBuf),
    /// HEAD does not name a commit yet.
    #[error("{}: HEAD ({head}) has no commit yet; commit something first", .path.display())]
    NoCommit {
        /// Top of the work tree.
        path: PathBuf,
        /// What HEAD says.
        head: String,
    },
    /// Something could not be read.
    #[error("cannot read {}: {source}; check its permissions and that it is what git expects there", .path.display())]
    Unreadable {
        /// What was read.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file of the repository is not what git would write.
    #[error("{}: {what}; `git fsck` may say more", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The repository uses something that this program does not read.
    #[error("{}: {what} is not supported; {mend}", .path.display())]
    Unsupported {
        /// The repository or file.
        path: PathBuf,
        /// The feature.
        what: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// An object is not in the object database.
    #[error("object {id} is missing from {}{}", .path.display(), if *.partial { ": this is a partial clone; fetch what is missing with `git fetch --refetch --no-filter`" } else { "; `git fsck` says what else is missing" })]
    MissingObject {
        /// Its id.
        id: ObjectId,
        /// The object directory.
        path: PathBuf,
        /// True in a partial clone.
        partial: bool,
    },
    /// An object cannot be read or is not of the kind that was expected.
    #[error("object {id}: {what}; `git fsck` may say more")]
    Object {
        /// Its id.
        id: ObjectId,
        /// What is wrong.
        what: String,
    },
}

impl RepoError {
    pub(crate) fn unreadable(path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self::Unreadable { path: path.into(), source: source.into() }
    }

    pub(crate) fn malformed(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Malformed { path: path.into(), what: what.into() }
    }
}

/// How the repository wants content and modes compared (git-config(1), `core.*`).
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// `core.autocrlf`.
    pub autocrlf: gix_filter::eol::AutoCrlf,
    /// `core.eol`; `None` is unset or `native`.
    pub eol: Option<gix_filter::eol::Mode>,
    /// `core.fileMode`: the executable bit of the work tree means something.
    pub file_mode: bool,
    /// `core.symlinks`.
    pub symlinks: bool,
    /// `core.sparseCheckout`.
    pub sparse_checkout: bool,
    /// The repository is a partial clone.
    pub partial_clone: bool,
}

/// A repository with a work tree and a commit.
pub struct Repo {
    root_path: PathBuf,
    root_fd: OwnedFd,
    dev_ino: (u64, u64),
    dirs: GitDirs,
    object_dirs: Vec<PathBuf>,
    store: Arc<gix_odb::Store>,
    hash: gix_hash::Kind,
    head: refs::Head,
    base_commit: ObjectId,
    base_tree: ObjectId,
    settings: Settings,
    config: Vec<u8>,
    links: std::sync::OnceLock<Vec<Vec<u8>>>,
}

impl std::fmt::Debug for Repo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repo").field("root", &self.root_path).field("base", &self.base_commit).finish()
    }
}

impl Repo {
    /// Opens the work tree that `path` is in: the nearest directory, from `path` upwards, that has a `.git`.
    pub fn open(path: &Path) -> Result<Self, RepoError> {
        let (root, dot_git, is_dir) = Self::find(path)?;
        Self::open_at(&root, &dot_git, is_dir)
    }

    /// The top of the work tree that `path` is in, its `.git`, and whether that is a directory.
    fn find(path: &Path) -> Result<(PathBuf, PathBuf, bool), RepoError> {
        let start = std::fs::canonicalize(path).map_err(|e| RepoError::unreadable(path, e))?;
        let mut dir = start.as_path();
        loop {
            let dot_git = dir.join(".git");
            match std::fs::symlink_metadata(&dot_git) {
                Ok(meta) if meta.is_symlink() => return Err(symlinked(dot_git)),
                Ok(meta) => return Ok((dir.to_owned(), dot_git, meta.is_dir())),
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) => {}
                Err(e) => return Err(RepoError::unreadable(dot_git, e)),
            }
            if dir.join("HEAD").is_file() && dir.join("objects").is_dir() && dir.join("refs").is_dir() {
                return Err(RepoError::Bare(dir.to_owned()));
            }
            match dir.parent() {
                Some(parent) => dir = parent,
                None => return Err(RepoError::NotARepository(path.to_owned())),
            }
        }
    }

    /// Opens the work tree whose top `path` is, and no other: there is a `.git` in it.
    pub(crate) fn open_top(path: &Path) -> Result<Self, RepoError> {
        let root = std::fs::canonicalize(path).map_err(|e| RepoError::unreadable(path, e))?;
        let dot_git = root.join(".git");
        match std::fs::symlink_metadata(&dot_git) {
            _ if root != path => Err(RepoError::NotARepository(path.to_owned())),
            Ok(meta) if meta.is_symlink() => Err(symlinked(dot_git)),
            Ok(meta) => Self::open_at(&root, &dot_git, meta.is_dir()),
            Err(e) => Err(RepoError::unreadable(dot_git, e)),
        }
    }

    fn open_at(root: &Path, dot_git: &Path, is_dir: bool) -> Result<Self, RepoError> {
        let dirs = git_dirs(dot_git, is_dir)?;
        check_git_dir(root, dot_git, is_dir, &dirs)?;
        let root_fd = rustix::fs::open(
            root,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| RepoError::unreadable(root, e))?;
        let stat = rustix::fs::fstat(&root_fd).map_err(|e| RepoError::unreadable(root, e))?;
        let (config, hash, settings) = super::repo::config::read(root, &dirs)?;
        if !is_dir && !dirs.is_linked() && !config::names_worktree(&dirs, &config)? {
            // `config::read` has compared it; without one, any git directory of the machine could be named.
            return Err(unnamed_worktree(dot_git, dirs.own.path()));
        }

        let object_dirs = objects::resolve(&dirs.common, root)?;
        let objects = object_dirs[0].clone();
        let store = store_at(root, &objects, hash)?;

        let head = refs::read_head(&dirs, hash)?;
        let Some(base_commit) = head.id else {
            return Err(RepoError::NoCommit { path: root.to_owned(), head: super::show(&head.raw) });
        };
        let mut repo = Self {
            root_path: root.to_owned(),
            root_fd,
            dev_ino: (stat.st_dev, stat.st_ino),
            dirs,
            object_dirs,
            store: Arc::new(store),
            hash,
            head,
            base_commit,
            base_tree: ObjectId::null(hash),
            settings,
            config,
            links: std::sync::OnceLock::new(),
        };
        repo.base_tree = repo.odb().commit_tree(&base_commit)?;
        Ok(repo)
    }

    /// Top of the work tree, canonical.
    pub fn root_path(&self) -> &Path {
        &self.root_path
    }

    /// Descriptor of the top of the work tree, opened once.
    pub fn root_fd(&self) -> BorrowedFd<'_> {
        self.root_fd.as_fd()
    }

    /// Device and inode of the top of the work tree.
    pub fn dev_ino(&self) -> (u64, u64) {
        self.dev_ino
    }

    /// The git directory of this work tree, canonical.
    pub fn git_dir(&self) -> &Path {
        self.dirs.own.path()
    }

    /// The git directory that all linked work trees share, canonical.
    pub fn common_dir(&self) -> &Path {
        self.dirs.common.path()
    }

    /// The git directories, for reading their files.
    pub(crate) fn dirs(&self) -> &GitDirs {
        &self.dirs
    }

    /// Object directories in the order in which they are searched, alternates resolved.
    pub fn object_dirs(&self) -> &[PathBuf] {
        &self.object_dirs
    }

    /// The object directories that alternates name outside of the repository's own: whoever made the repository has
    /// chosen them, so only the operator may have them shown.
    pub fn foreign_object_dirs(&self) -> Vec<&Path> {
        let common = self.common_dir();
        self.object_dirs.iter().map(PathBuf::as_path).filter(|dir| !dir.starts_with(common)).collect()
    }

    /// Every directory that belongs to the repository: no mount may let a backend write there.
    pub fn protected_dirs(&self) -> Vec<PathBuf> {
        let mut dirs = vec![self.git_dir().to_owned(), self.common_dir().to_owned()];
        dirs.extend(self.object_dirs.iter().cloned());
        dirs.sort();
        dirs.dedup();
        dirs
    }

    /// The hash of the repository's object ids.
    pub fn hash(&self) -> gix_hash::Kind {
        self.hash
    }

    /// What HEAD was when the repository was opened.
    pub fn head(&self) -> &refs::Head {
        &self.head
    }

    /// The commit that the run is based on.
    pub fn base_commit(&self) -> ObjectId {
        self.base_commit
    }

    /// The tree of [`Self::base_commit`].
    pub fn base_tree(&self) -> ObjectId {
        self.base_tree
    }

    /// The settings that decide how content and modes compare.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The repository's own configuration, read once as data.
    pub(crate) fn config(&self) -> Result<gix_config::File, RepoError> {
        config::parse(&self.dirs.common.path_of("config"), &self.config)
    }

    /// Symbolic links of the base tree. The survey knows them from the index; else the trees are read.
    pub(crate) fn base_links(&self, view: &super::tree::TreeView) -> Result<&[Vec<u8>], RepoError> {
        if let Some(known) = self.links.get() {
            return Ok(known);
        }
        let all = view.beneath(b"")?;
        let links =
            all.into_iter().filter(|(_, e)| e.mode == super::tree::SYMLINK).map(|(path, _)| path).collect();
        Ok(self.links.get_or_init(|| links))
    }

    /// Says what [`Self::base_links`] would find.
    pub(crate) fn note_base_links(&self, links: impl FnOnce() -> Vec<Vec<u8>>) {
        self.links.get_or_init(links);
    }

    /// A reader of objects; cheap, one for each thread.
    pub fn odb(&self) -> Odb {
        let handle = gix_odb::Cache::from(self.store.to_handle_arc());
        Odb {
            handle,
            hash: self.hash,
            dir: self.object_dirs[0].clone(),
            partial: self.settings.partial_clone,
        }
    }
}

/// Reads objects of one repository.
pub struct Odb {
    handle: gix_odb::HandleArc,
    hash: gix_hash::Kind,
    dir: PathBuf,
    partial: bool,
}

impl Odb {
    /// The hash of the object ids.
    pub fn hash(&self) -> gix_hash::Kind {
        self.hash
    }

    fn missing(&self, id: &ObjectId) -> RepoError {
        RepoError::MissingObject { id: *id, path: self.dir.clone(), partial: self.partial }
    }

    fn header(&self, id: &ObjectId) -> Result<gix_object::Header, RepoError> {
        match self.handle.try_header(id) {
            Ok(Some(header)) => Ok(header),
            Ok(None) => Err(self.missing(id)),
            Err(e) => Err(RepoError::Object { id: *id, what: e.to_string() }),
        }
    }

    /// Looks at the header first: an object unfolds to whatever size its maker wanted.
    fn read(&self, id: &ObjectId, kind: gix_object::Kind, limit: u64) -> Result<Vec<u8>, RepoError> {
        let size = self.header(id)?.size;
        if size > limit {
            let what = format!("holds {size} bytes, more than the {limit} that are read of a {kind} here");
            return Err(RepoError::Object { id: *id, what });
        }
        let mut buf = Vec::new();
        let (found, len) = match self.handle.try_find(id, &mut buf) {
            Ok(Some(data)) => (data.kind, data.data.len()),
            Ok(None) => return Err(self.missing(id)),
            Err(e) => {
                return Err(RepoError::Object { id: *id, what: e.to_string() });
            }
        };
        if found != kind {
            return Err(RepoError::Object { id: *id, what: format!("is a {found}, not a {kind}") });
        }
        buf.truncate(len);
        Ok(buf)
    }

    /// A blob's content, where it is at most 1 GiB.
    pub fn blob(&self, id: &ObjectId) -> Result<Vec<u8>, RepoError> {
        self.read(id, gix_object::Kind::Blob, MAX_BLOB)
    }

    /// The content of a blob that holds rules (`.gitignore`, `.gitattributes`) or a link's target: at most 1 MiB.
    pub fn small_blob(&self, id: &ObjectId) -> Result<Vec<u8>, RepoError> {
        self.read(id, gix_object::Kind::Blob, MAX_RULES)
    }

    /// A tree's bytes.
    pub fn tree(&self, id: &ObjectId) -> Result<Vec<u8>, RepoError> {
        if *id == ObjectId::empty_tree(self.hash) {
            return Ok(Vec::new());
        }
        self.read(id, gix_object::Kind::Tree, MAX_TREE)
    }

    /// A blob's size in bytes.
    pub fn size(&self, id: &ObjectId) -> Result<u64, RepoError> {
        Ok(self.header(id)?.size)
    }

    /// The tree of a commit.
    pub fn commit_tree(&self, id: &ObjectId) -> Result<ObjectId, RepoError> {
        let data = self.read(id, gix_object::Kind::Commit, MAX_TREE)?;
        gix_object::CommitRefIter::from_bytes(&data, self.hash)
            .tree_id()
            .map_err(|e| RepoError::Object { id: *id, what: e.to_string() })
    }
}

/// The id that `data` has as a blob.
pub fn blob_id(hash: gix_hash::Kind, data: &[u8]) -> Result<ObjectId, RepoError> {
    gix_object::compute_hash(hash, gix_object::Kind::Blob, data)
        .map_err(|e| RepoError::Object { id: ObjectId::null(hash), what: e.to_string() })
}

pub(crate) fn bytes_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// The git directories that a `.git` leads to.
fn git_dirs(dot_git: &Path, is_dir: bool) -> Result<GitDirs, RepoError> {
    let git_dir = if is_dir { dot_git.to_owned() } else { read_gitfile(dot_git)? };
    let git_dir = std::fs::canonicalize(&git_dir).map_err(|e| RepoError::unreadable(&git_dir, e))?;
    let own = GitFiles::open(&git_dir)?;
    let common_dir = match own.read("commondir", MAX_NAME)? {
        Some(text) => {
            let named = git_dir.join(bytes_path(text.trim_end_with(|c| c == '\n' || c == '\r')));
            std::fs::canonicalize(&named).map_err(|e| RepoError::unreadable(&named, e))?
        }
        None => git_dir.clone(),
    };
    Ok(GitDirs { own, common: GitFiles::open(&common_dir)? })
}

fn store_at(root: &Path, objects: &Path, hash: gix_hash::Kind) -> Result<gix_odb::Store, RepoError> {
    let options = gix_odb::store::init::Options {
        current_dir: Some(root.to_owned()),
        alloc_limit_bytes: usize::try_from(MAX_BLOB).ok(),
        ..Default::default()
    };
    gix_odb::Store::at_opts(objects.to_owned(), hash, &mut std::iter::empty(), options)
        .map_err(|e| RepoError::unreadable(objects, e))
}

fn unnamed_worktree(dot_git: &Path, git_dir: &Path) -> RepoError {
    RepoError::Unsupported {
        path: dot_git.to_owned(),
        what: format!("a `.git` file that names {}, which does not name this work tree,", git_dir.display()),
        mend: "say there that it is meant: `git config core.worktree \"$PWD\"` in the work tree",
    }
}

/// What a `.git` leads to must be a git directory, and where it lies elsewhere it must know this work tree: else
/// a file in a hostile tree could name any repository of the machine (git makes the same checks, setup.c).
fn check_git_dir(root: &Path, dot_git: &Path, is_dir: bool, dirs: &GitDirs) -> Result<(), RepoError> {
    let refuse = |what: String| RepoError::Malformed { path: dot_git.to_owned(), what };
    for (files, names) in [(&dirs.own, &["HEAD"][..]), (&dirs.common, &["HEAD", "objects", "refs"])] {
        for name in names {
            let there = match *name {
                "HEAD" => files.read(name, MAX_NAME)?.is_some(),
                dir => files.is_dir(dir)?,
            };
            if !there {
                let path = files.path().display();
                return Err(refuse(format!("leads to {path}, which is no git directory: it has no {name}")));
            }
        }
    }
    if !dirs.is_linked() {
        return Ok(());
    }
    let (own, common) = (dirs.own.path(), dirs.common.path());
    if is_dir || own.parent() != Some(&common.join("worktrees")) {
        return Err(refuse(format!(
            "leads to {} and that to {}, but it is no linked work tree of that repository; `git worktree repair` there may help",
            own.display(),
            common.display()
        )));
    }
    let text = dirs.own.read("gitdir", MAX_NAME)?.unwrap_or_default();
    let named = own.join(bytes_path(text.trim_end_with(|c| c == '\n' || c == '\r')));
    // The file itself is no link, so its directory's canonical path says where it is.
    let back = named.parent().and_then(|dir| std::fs::canonicalize(dir).ok());
    if named.file_name() != Some(".git".as_ref()) || back.as_deref() != Some(root) {
        return Err(refuse(format!(
            "leads to {}, whose `gitdir` names {} and not this work tree; run `git worktree repair` in it",
            own.display(),
            named.display()
        )));
    }
    Ok(())
}

fn symlinked(path: PathBuf) -> RepoError {
    RepoError::Unsupported {
        path,
        what: "a `.git` that is a symbolic link".to_owned(),
        mend: "it could name any repository of this machine; use `git worktree add` or a clone",
    }
}

/// Reads `gitdir: PATH` (gitrepository-layout(5)); a relative path is relative to the file's directory.
fn read_gitfile(path: &Path) -> Result<PathBuf, RepoError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let text = GitFiles::open(dir)?
        .read(".git", MAX_NAME)?
        .ok_or_else(|| RepoError::unreadable(path, std::io::Error::from(std::io::ErrorKind::NotFound)))?;
    let named = text
        .strip_prefix(b"gitdir: ")
        .map(|rest| rest.trim_end_with(|c| c == '\n' || c == '\r'))
        .filter(|rest| !rest.is_empty() && !rest.contains(&0))
        .ok_or_else(|| RepoError::malformed(path, "is a file but does not say `gitdir: PATH`"))?;
    Ok(dir.join(bytes_path(named)))
}

mod config;
mod objects;
mod stored;
#[cfg(test)]
mod tests;
