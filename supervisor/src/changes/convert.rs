//! Content as git would store it: the base commit's `.gitattributes` and the repository's end-of-line settings
//! decide, and no program is ever run. A `filter` attribute is reported to the caller; LFS pointers are computed.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::PathBuf;

use bstr::{BStr, ByteSlice};
use gix_attributes::StateRef;
use gix_attributes::search::{MetadataCollection, Outcome};
use gix_filter::pipeline::convert::ToGitOutcome;
use sha2::{Digest, Sha256};

use super::repo::{Odb, Repo, RepoError, bytes_path};
use super::show;
use super::tree::{TreeView, is_file, join};

/// Why content cannot be compared as git stores it.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The repository could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The content is not what the path's attributes say it is.
    #[error("{}: cannot be stored as its attributes say: {what}", show(.path))]
    Content {
        /// The path.
        path: Vec<u8>,
        /// The cause.
        what: String,
    },
}

/// The `filter` attribute of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// None.
    None,
    /// `filter=lfs`.
    Lfs,
    /// Another one: what it would store is not known here.
    Other(String),
}

/// Converts content of the work tree to what git stores.
pub struct Converter {
    hash: gix_hash::Kind,
    search: gix_attributes::Search,
    collection: MetadataCollection,
    seen: HashSet<Vec<u8>>,
    outcome: Outcome,
    pipeline: gix_filter::Pipeline,
    plain: bool,
}

impl Converter {
    /// A converter for `repo`.
    pub fn new(repo: &Repo) -> Result<Self, RepoError> {
        let mut collection = MetadataCollection::default();
        let search = gix_attributes::Search::new_globals(
            std::iter::empty::<PathBuf>(),
            &mut Vec::new(),
            &mut collection,
        )
        .map_err(|e| RepoError::unreadable(".gitattributes", e))?;
        let mut outcome = Outcome::default();
        outcome.initialize_with_selection(&collection, ["filter", "working-tree-encoding"]);
        let settings = repo.settings();
        let options = gix_filter::pipeline::Options {
            drivers: Vec::new(), // No program is run for any attribute.
            eol_config: gix_filter::eol::Configuration { auto_crlf: settings.autocrlf, eol: settings.eol },
            crlf_roundtrip_check: gix_filter::pipeline::CrlfRoundTripCheck::Skip,
            encodings_with_roundtrip_check: Vec::new(),
        };
        Ok(Self {
            hash: repo.hash(),
            search,
            collection,
            seen: HashSet::new(),
            outcome,
            pipeline: gix_filter::Pipeline::new(Default::default(), repo.hash(), options),
            plain: matches!(settings.autocrlf, gix_filter::eol::AutoCrlf::Disabled),
        })
    }

    /// Reads the attribute files of the directories above `path`, each once; those above come first.
    fn load(&mut self, tree: &TreeView, path: &[u8]) -> Result<(), RepoError> {
        let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        for end in std::iter::once(0).chain(slashes) {
            let dir = &path[..end];
            if self.seen.contains(dir) {
                continue;
            }
            self.seen.insert(dir.to_vec());
            let file = join(dir, b".gitattributes");
            if let Some(entry) = tree.entry(&file)?
                && is_file(entry.mode)
            {
                let text = tree.odb().small_blob(&entry.id)?;
                let source = bytes_path(&file);
                self.search
                    .add_patterns_buffer(
                        &text,
                        source.clone(),
                        Some("".as_ref()),
                        &mut self.collection,
                        dir.is_empty(),
                    )
                    .map_err(|e| RepoError::unreadable(source, e))?;
                self.plain = false;
            }
        }
        Ok(())
    }

    /// The `filter` attribute of `path`.
    pub fn filter(&mut self, tree: &TreeView, path: &[u8]) -> Result<Filter, RepoError> {
        self.load(tree, path)?;
        if self.plain {
            return Ok(Filter::None);
        }
        self.outcome.initialize(&self.collection);
        self.search.pattern_matching_relative_path(
            path.as_bstr(),
            Default::default(),
            Some(false),
            &mut self.outcome,
        );
        let found = self.outcome.iter_selected().next().map(|m| match m.assignment.state {
            StateRef::Value(v) if v.as_bstr() == "lfs" => Filter::Lfs,
            StateRef::Value(v) => Filter::Other(show(v.as_bstr())),
            StateRef::Set => Filter::Other("(set)".to_owned()),
            StateRef::Unset | StateRef::Unspecified => Filter::None,
        });
        Ok(found.unwrap_or(Filter::None))
    }

    /// What git would store for `raw` at `path`, the `filter` attribute left out. `base` is the blob that is
    /// stored now: automatic end-of-line conversion leaves a file alone that already has CRLF in it.
    pub fn to_git<'a>(
        &mut self,
        tree: &TreeView,
        path: &[u8],
        raw: &'a [u8],
        base: Option<&gix_hash::ObjectId>,
    ) -> Result<Cow<'a, [u8]>, ConvertError> {
        self.load(tree, path)?;
        if self.plain {
            return Ok(Cow::Borrowed(raw));
        }
        let Self { search, collection, pipeline, .. } = self;
        let mut attributes = |path: &BStr, out: &mut Outcome| {
            out.initialize(collection);
            search.pattern_matching_relative_path(path, Default::default(), Some(false), out);
        };
        let odb: &Odb = tree.odb();
        let mut read_failed = None;
        let mut index_object = |buf: &mut Vec<u8>| match base.map(|id| odb.blob(id)) {
            None => Ok(None),
            Some(Ok(data)) => {
                *buf = data;
                Ok(Some(()))
            }
            Some(Err(e)) => {
                read_failed = Some(e);
                Ok(None)
            }
        };
        let outcome = pipeline.convert_to_git(raw, &bytes_path(path), &mut attributes, &mut index_object);
        let unchanged = match outcome {
            Ok(ToGitOutcome::Unchanged(_)) => None,
            Ok(ToGitOutcome::Buffer(stored)) => Some(stored.to_vec()),
            Ok(ToGitOutcome::Process(_)) => {
                return Err(ConvertError::Content {
                    path: path.to_vec(),
                    what: "it needs a program".to_owned(),
                });
            }
            Err(e) => {
                return Err(ConvertError::Content { path: path.to_vec(), what: e.to_string() });
            }
        };
        match read_failed {
            Some(e) => Err(e.into()),
            None => Ok(unchanged.map_or(Cow::Borrowed(raw), Cow::Owned)),
        }
    }

    /// The hash of the repository's object ids.
    pub fn hash(&self) -> gix_hash::Kind {
        self.hash
    }
}

/// True where `data` is a Git LFS pointer (git-lfs, `docs/spec.md`).
pub fn is_lfs_pointer(data: &[u8]) -> bool {
    data.len() < 1024
        && data.starts_with(b"version https://git-lfs.github.com/spec/v1\n")
        && data.contains_str("\noid sha256:")
        && data.contains_str("\nsize ")
}

/// The pointer that Git LFS would store for `raw`; a pointer and an empty file stand for themselves.
pub fn lfs_pointer(raw: &[u8]) -> Vec<u8> {
    if raw.is_empty() || is_lfs_pointer(raw) {
        return raw.to_vec();
    }
    let digest = hex(&Sha256::digest(raw));
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {}\n", raw.len())
        .into_bytes()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        out.push(char::from(b"0123456789abcdef"[usize::from(b >> 4)]));
        out.push(char::from(b"0123456789abcdef"[usize::from(b & 15)]));
        out
    })
}
