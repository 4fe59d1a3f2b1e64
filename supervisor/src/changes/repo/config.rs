//! The part of a repository's configuration that decides how its files are read. Read as data: no includes, no
//! user or system files, and an extension that is not known is refused (git, `repository-version` document).

use std::path::Path;

use bstr::{BString, ByteSlice};
use gix_filter::eol::{AutoCrlf, Mode};

use super::{RepoError, Settings, bytes_path};
use crate::changes::gitfile::{GitDirs, MAX_CONFIG};

pub(super) fn read(root: &Path, dirs: &GitDirs) -> Result<(Vec<u8>, gix_hash::Kind, Settings), RepoError> {
    let path = dirs.common.path_of("config");
    let mut text = dirs
        .common
        .read("config", MAX_CONFIG)?
        .ok_or_else(|| RepoError::unreadable(&path, std::io::Error::from(std::io::ErrorKind::NotFound)))?;
    let mut config = parse(&path, &text)?;
    if boolean(&path, &config, "extensions", "worktreeConfig")? == Some(true)
        && let Some(more) = dirs.own.read("config.worktree", MAX_CONFIG)?
    {
        parse(&dirs.own.path_of("config.worktree"), &more)?;
        text.push(b'\n');
        text.extend_from_slice(&more);
        config = parse(&path, &text)?;
    }
    let (hash, partial) = extensions(&path, &config)?;
    let flag = |key: &str, default: bool| {
        Ok::<_, RepoError>(boolean(&path, &config, "core", key)?.unwrap_or(default))
    };
    if flag("bare", false)? && !dirs.is_linked() {
        return Err(RepoError::Bare(dirs.common.path().to_owned()));
    }
    check_worktree(root, dirs.own.path(), value(&config, "core", "worktree"))?;
    let autocrlf = match value(&config, "core", "autocrlf") {
        Some(v) if v.eq_ignore_ascii_case(b"input") => AutoCrlf::Input,
        _ if flag("autocrlf", false)? => AutoCrlf::Enabled,
        _ => AutoCrlf::Disabled,
    };
    let eol = match value(&config, "core", "eol") {
        Some(v) if v.eq_ignore_ascii_case(b"lf") => Some(Mode::Lf),
        Some(v) if v.eq_ignore_ascii_case(b"crlf") => Some(Mode::CrLf),
        Some(v) if v.eq_ignore_ascii_case(b"native") => None,
        Some(v) => {
            return Err(RepoError::malformed(&path, format!("core.eol is {v:?}, not lf, crlf or native")));
        }
        None => None,
    };
    let settings = Settings {
        autocrlf,
        eol,
        file_mode: flag("fileMode", true)?,
        symlinks: flag("symlinks", true)?,
        sparse_checkout: flag("sparseCheckout", false)?,
        partial_clone: partial,
    };
    Ok((text, hash, settings))
}

fn extensions(path: &Path, config: &gix_config::File) -> Result<(gix_hash::Kind, bool), RepoError> {
    let version = match value(config, "core", "repositoryformatversion") {
        None => 0,
        Some(v) => match v.as_slice() {
            b"0" => 0,
            b"1" => 1,
            _ => {
                return Err(RepoError::Unsupported {
                    path: path.to_owned(),
                    what: format!("core.repositoryformatversion {v:?}"),
                    mend: "only versions 0 and 1 are known",
                });
            }
        },
    };
    let mut hash = gix_hash::Kind::Sha1;
    let mut partial = false;
    for section in config.sections_by_name("extensions").into_iter().flatten() {
        for name in section.value_names() {
            let value = section.value(&name).unwrap_or_default();
            let refuse = |what: String, mend| RepoError::Unsupported { path: path.to_owned(), what, mend };
            match name.to_ascii_lowercase().as_str() {
                "noop" | "noop-v1" | "preciousobjects" | "worktreeconfig" | "relativeworktrees" => {}
                "partialclone" => partial = true,
                "objectformat" => {
                    hash = match value.as_slice() {
                        b"sha1" => gix_hash::Kind::Sha1,
                        b"sha256" if version == 1 => gix_hash::Kind::Sha256,
                        _ => {
                            return Err(refuse(
                                format!("the object format {value:?}"),
                                "sha1 and sha256 are known",
                            ));
                        }
                    }
                }
                "refstorage" if value == "files" => {}
                "refstorage" => {
                    return Err(refuse(
                        format!("the reference storage {value:?}"),
                        "use a clone with the `files` storage (`git clone --ref-format=files`)",
                    ));
                }
                _ if version == 0 => {}
                other => {
                    return Err(refuse(
                        format!("the repository extension `{other}`"),
                        "use a plain clone of the repository",
                    ));
                }
            }
        }
    }
    // A partial clone can also be known by its remote alone.
    for section in config.sections_by_name("remote").into_iter().flatten() {
        partial |=
            section.contains_value_name("promisor") || section.contains_value_name("partialclonefilter");
    }
    Ok((hash, partial))
}

/// True where the configuration has a `core.worktree`; [`read`] has compared it with the work tree.
pub(super) fn names_worktree(dirs: &GitDirs, text: &[u8]) -> Result<bool, RepoError> {
    let config = parse(&dirs.common.path_of("config"), text)?;
    Ok(value(&config, "core", "worktree").is_some())
}

/// `core.worktree` may only name the directory that the `.git` was found in (as in a submodule's checkout).
fn check_worktree(root: &Path, git_dir: &Path, named: Option<BString>) -> Result<(), RepoError> {
    let Some(named) = named else { return Ok(()) };
    let path = git_dir.join(bytes_path(&named));
    let real = std::fs::canonicalize(&path).map_err(|e| RepoError::unreadable(&path, e))?;
    if real == root {
        return Ok(());
    }
    Err(RepoError::Unsupported {
        path: git_dir.join("config"),
        what: format!("core.worktree, which names {} and not {},", real.display(), root.display()),
        mend: "unset it, or name that directory with --repo once it has a `.git` file",
    })
}

pub(super) fn parse(path: &Path, text: &[u8]) -> Result<gix_config::File, RepoError> {
    let meta = gix_config::file::Metadata::from(gix_config::Source::Local);
    gix_config::File::from_bytes_no_includes(text, meta, Default::default())
        .map_err(|e| RepoError::malformed(path, e.to_string()))
}

fn value(config: &gix_config::File, section: &str, key: &str) -> Option<BString> {
    config.raw_value_by(section, None, key).ok()
}

/// A boolean as git reads it: a key without `=` is true, an empty value is false.
fn boolean(
    path: &Path,
    config: &gix_config::File,
    section: &str,
    key: &str,
) -> Result<Option<bool>, RepoError> {
    let found = config
        .sections_by_name(section)
        .into_iter()
        .flatten()
        .filter(|s| s.header().subsection_name().is_none())
        .filter_map(|s| s.value_implicit(key))
        .last();
    let Some(found) = found else { return Ok(None) };
    let Some(text) = found else { return Ok(Some(true)) };
    match text.to_ascii_lowercase().as_slice() {
        b"true" | b"yes" | b"on" => Ok(Some(true)),
        b"false" | b"no" | b"off" | b"" => Ok(Some(false)),
        other => match other.to_str().ok().and_then(|t| t.parse::<i64>().ok()) {
            Some(n) => Ok(Some(n != 0)),
            // `core.autocrlf = input` was looked at before; `index.*` and the like are not read here.
            None => Err(RepoError::malformed(path, format!("{section}.{key} is {text:?}, not a boolean"))),
        },
    }
}
