//! The backend's own `.git`: built from an allowlist, for a plain checkout, a linked work tree and a submodule's
//! checkout alike. It has HEAD, references, a copy of the index, the objects by alternates, and a generated
//! configuration; no hooks, no includes, no credentials, no helper programs.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;
use proctor_sandbox::seed::{Seed, SeedError};
use sha2::{Digest, Sha256};

use super::gitfile::{MAX_SHALLOW, MAX_SPARSE};
use super::layer::{self, Descend, Kind, LayerError};
use super::refs::{self, Target};
use super::repo::{Repo, RepoError};
use super::{index, tree};

mod config;
#[cfg(test)]
mod tests;

/// Where the object directories are mounted inside, read-only, numbered from 0.
pub const OBJECTS_INSIDE: &str = "/run/proctor/objects";

/// Paths in `.git` that are listed as touched; the rest is only counted.
const MAX_LISTED: usize = 200;

/// Why the view could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GitViewError {
    /// The repository could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A path that a seed cannot carry.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The layer could not be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// The private `.git` of a sandbox.
#[derive(Debug)]
pub struct GitView {
    /// Makes `.git` in the upper layer, before the overlay is mounted.
    pub seed: Seed,
    /// Object directories of the host, in order: number N is mounted read-only at [`OBJECTS_INSIDE`]`/N`.
    pub object_dirs: Vec<PathBuf>,
    /// What the seed writes: path below `.git`, SHA-256.
    files: BTreeMap<Vec<u8>, [u8; 32]>,
}

/// What a backend did to its private `.git`; carried nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitTouched {
    /// Paths below `.git` that are new, changed or gone, in order; at most 200.
    pub paths: Vec<Vec<u8>>,
    /// All of them, listed or not.
    pub count: u64,
}

struct Builder {
    seed: Seed,
    files: BTreeMap<Vec<u8>, [u8; 32]>,
}

impl Builder {
    fn dir(&mut self, path: &[u8]) -> Result<(), SeedError> {
        self.seed.dir(&tree::join(b".git", path), 0o755)
    }

    fn file(&mut self, path: &[u8], data: &[u8]) -> Result<(), SeedError> {
        self.files.insert(path.to_vec(), Sha256::digest(data).into());
        self.seed.file(&tree::join(b".git", path), 0o644, data)
    }
}

/// Builds the private `.git` for a sandbox over the work tree of `repo`, its objects mounted at [`OBJECTS_INSIDE`].
pub fn git_view(repo: &Repo) -> Result<GitView, GitViewError> {
    let inside: Vec<PathBuf> =
        (0..repo.object_dirs().len()).map(|i| PathBuf::from(format!("{OBJECTS_INSIDE}/{i}"))).collect();
    Ok(GitView { object_dirs: repo.object_dirs().to_vec(), ..git_view_with(repo, &inside)? })
}

/// The same with the objects where they are: `object_dirs` are the sandbox's paths of them.
pub fn git_view_with(repo: &Repo, object_dirs: &[PathBuf]) -> Result<GitView, GitViewError> {
    let mut out = Builder { seed: Seed::new(), files: BTreeMap::new() };
    out.seed.opaque_dir(b".git", 0o755)?;
    for dir in
        [&b"objects"[..], b"objects/info", b"objects/pack", b"refs", b"refs/heads", b"refs/tags", b"info"]
    {
        out.dir(dir)?;
    }
    let mut head = repo.head().raw.clone();
    head.push(b'\n');
    out.file(b"HEAD", &head)?;
    references(repo, &mut out)?;
    index_copy(repo, &mut out)?;
    out.file(b"config", &config::generate(repo)?)?;
    let mut alternates = Vec::new();
    for dir in object_dirs {
        alternates.extend_from_slice(&alternate(dir)?);
        alternates.push(b'\n');
    }
    out.file(b"objects/info/alternates", &alternates)?;
    shallow(repo, &mut out)?;
    sparse_checkout(repo, &mut out)?;
    Ok(GitView { seed: out.seed, object_dirs: object_dirs.to_vec(), files: out.files })
}

/// A path as a line of `objects/info/alternates`: one that looks quoted or like a comment is quoted (gitrepository-layout(5)).
fn alternate(dir: &Path) -> Result<Vec<u8>, RepoError> {
    let bytes = dir.as_os_str().as_bytes();
    if bytes.iter().any(|b| b.is_ascii_control()) {
        return Err(RepoError::malformed(
            dir,
            "has a control character in its path, which no alternate can name",
        ));
    }
    if !bytes.starts_with(b"\"") && !bytes.starts_with(b"#") {
        return Ok(bytes.to_vec());
    }
    let mut quoted = vec![b'"'];
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    Ok(quoted)
}

/// References as of now: ids packed, symbolic ones loose.
fn references(repo: &Repo, out: &mut Builder) -> Result<(), GitViewError> {
    let mut packed = b"# pack-refs with: sorted \n".to_vec();
    for (name, target) in refs::all(repo.dirs(), repo.hash())? {
        if refs::is_per_worktree(&name) {
            continue;
        }
        match target {
            Target::Id(id) => {
                packed.extend_from_slice(format!("{id} ").as_bytes());
                packed.extend_from_slice(&name);
                packed.push(b'\n');
            }
            Target::Symbolic(to) => out.file(&name, &[b"ref: ", to.as_slice(), b"\n"].concat())?,
        }
    }
    out.file(b"packed-refs", &packed)?;
    Ok(())
}

/// The index without the extensions that name other files or programs. Its stat data stays: the overlay shows the
/// same times and sizes, and the tree was found clean.
fn index_copy(repo: &Repo, out: &mut Builder) -> Result<(), GitViewError> {
    let found = index::read(repo)?;
    if !found.exists {
        return Ok(());
    }
    let path = repo.git_dir().join("index");
    let mut data = Vec::new();
    let extensions = gix_index::write::Extensions::Given { tree_cache: true, end_of_index_entry: false };
    let options = gix_index::write::Options { extensions, skip_hash: false };
    gix_index::File::from_state(found.state, &path)
        .write_to(&mut data, options)
        .map_err(|e| RepoError::malformed(&path, e.to_string()))?;
    out.file(b"index", &data)?;
    Ok(())
}

/// Where history ends: object ids, one a line (git's `shallow` document), and nothing else is passed on.
fn shallow(repo: &Repo, out: &mut Builder) -> Result<(), GitViewError> {
    let files = &repo.dirs().common;
    let Some(data) = files.read("shallow", MAX_SHALLOW)? else { return Ok(()) };
    let mut lines = Vec::with_capacity(data.len());
    for line in data.lines() {
        let id = gix_hash::ObjectId::from_hex(line).ok().filter(|id| id.kind() == repo.hash());
        let Some(id) = id else {
            let what = "has a line that is no object id";
            return Err(RepoError::malformed(files.path_of("shallow"), what).into());
        };
        lines.extend_from_slice(format!("{id}\n").as_bytes());
    }
    Ok(out.file(b"shallow", &lines)?)
}

/// The patterns of a sparse checkout, where it is one.
fn sparse_checkout(repo: &Repo, out: &mut Builder) -> Result<(), GitViewError> {
    const NAME: &[u8] = b"info/sparse-checkout";
    if !repo.settings().sparse_checkout {
        return Ok(());
    }
    let files = &repo.dirs().own;
    let Some(data) = files.read(NAME, MAX_SPARSE)? else { return Ok(()) };
    if data.contains(&0) {
        return Err(RepoError::malformed(files.path_of(NAME), "is no text").into());
    }
    Ok(out.file(NAME, &data)?)
}

/// What the backend left in its `.git` beside what the view put there.
pub fn touched(view: &GitView, layer_root: BorrowedFd<'_>) -> Result<GitTouched, GitViewError> {
    let limits = layer::Limits { entries: 200_000, counted: 5_000_000, depth: 100 };
    let Some(git) = layer::open_below(layer_root, c".git")? else {
        return Ok(GitTouched { paths: vec![Vec::new()], count: 1 });
    };
    let mut found = GitTouched::default();
    let mut note = |path: &[u8], more: u64| {
        found.count += more;
        if found.paths.len() < MAX_LISTED {
            found.paths.push(path.to_vec());
        }
    };
    // Objects are many and say nothing by name: a directory of them stands for its files.
    let entries = layer::scan(std::os::fd::AsFd::as_fd(&git), limits, |path, _| {
        let objects = path.strip_prefix(b"objects/").is_some_and(|rest| rest != b"info");
        Ok::<_, LayerError>(if objects { Descend::Count } else { Descend::Full })
    })?;
    let mut seen = 0;
    for entry in &entries {
        match &entry.kind {
            Kind::Dir { counted: Some(0) | None, .. } => {}
            Kind::Dir { counted: Some(count), .. } => note(&entry.path, *count),
            Kind::File { size, .. } => match view.files.get(&entry.path) {
                Some(known) => {
                    seen += 1;
                    let same = *size < (1 << 28)
                        && <[u8; 32]>::from(Sha256::digest(layer::read_file(
                            std::os::fd::AsFd::as_fd(&git),
                            &entry.path,
                            1 << 28,
                        )?)) == *known;
                    if !same {
                        note(&entry.path, 1);
                    }
                }
                None => note(&entry.path, 1),
            },
            _ => note(&entry.path, 1),
        }
    }
    if seen < view.files.len() {
        for path in view.files.keys() {
            if entries.binary_search_by(|e| e.path.as_slice().cmp(path)).is_err() {
                note(path, 1);
            }
        }
    }
    found.paths.sort();
    Ok(found)
}

/// A URL without credentials, or `None` where it names a helper program or cannot be told apart.
fn safe_url(url: &[u8]) -> Option<Vec<u8>> {
    if url.iter().any(|b| b.is_ascii_control()) {
        return None;
    }
    if let Some((scheme, rest)) = url.split_once_str("://") {
        let known =
            [&b"https"[..], b"http", b"ssh", b"git", b"file", b"git+ssh", b"ssh+git", b"ftp", b"ftps"];
        if !known.iter().any(|k| k.eq_ignore_ascii_case(scheme)) {
            return None;
        }
        let rest = rest.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or(rest);
        let end = rest.iter().position(|b| matches!(b, b'/' | b'\\')).unwrap_or(rest.len());
        let host = rest[..end].rsplit(|b| *b == b'@').next().unwrap_or(rest);
        // `git` is the account of every forge, and no secret.
        let user: &[u8] =
            if scheme.contains_str("ssh") && rest[..end].starts_with(b"git@") { b"git@" } else { b"" };
        return Some([scheme, b"://", user, host, &rest[end..]].concat());
    }
    let colon = url.find_byte(b':');
    let slash = url.find_byte(b'/').unwrap_or(url.len());
    match colon {
        // `ext::sh -c ...` and any other `helper::address` (gitremote-helpers(7)).
        Some(at) if url.get(at + 1) == Some(&b':') => None,
        Some(at) if at < slash => {
            let host = url[..at].rsplit(|b| *b == b'@').next().unwrap_or(&url[..at]);
            let user: &[u8] = if url.starts_with(b"git@") { b"git@" } else { b"" };
            Some([user, host, &url[at..]].concat())
        }
        _ => Some(url.to_vec()),
    }
}
