//! Which paths of the work tree are masked in every sandbox: what the hide globs match, and what a matching symbolic
//! link leads to, because nothing can be mounted on a link and its target would be read through it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::changes::repo::Repo;
use crate::changes::survey::Survey;

/// Masks that one sandbox takes: each is a mount.
const MAX_MASKS: usize = 10_000;

/// The paths to mask, relative to the work tree.
///
/// # Errors
/// They cannot be told, or are too many: nothing may start.
pub(super) fn masks(repo: &Repo, survey: &Survey) -> Result<Vec<PathBuf>, String> {
    let mut paths = BTreeSet::new();
    for hidden in &survey.hidden {
        let path = PathBuf::from(OsString::from_vec(hidden.path.clone()));
        if let Some(target) = target(repo, &hidden.path)? {
            paths.insert(target);
        }
        paths.insert(path);
    }
    if paths.len() > MAX_MASKS {
        return Err(format!(
            "{} paths match --hide, more than the {MAX_MASKS} that a sandbox can mask; hide the directories that they are in",
            paths.len()
        ));
    }
    Ok(paths.into_iter().collect())
}

/// What a symbolic link leads to inside the tree; `None` for anything else, and for a link that leads nowhere or out
/// of the tree, where nothing is shown.
fn target(repo: &Repo, link: &[u8]) -> Result<Option<PathBuf>, String> {
    let shown = || String::from_utf8_lossy(link).into_owned();
    let open = |flags: OFlags| {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        openat2(repo.root_fd(), OsStr::from_bytes(link), flags, Mode::empty(), ResolveFlags::BENEATH)
    };
    let own = open(OFlags::NOFOLLOW).map_err(|e| format!("the hidden path {}: {e}", shown()))?;
    let stat = rustix::fs::fstat(&own).map_err(|e| format!("the hidden path {}: {e}", shown()))?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() {
        return Ok(None);
    }
    let target = match open(OFlags::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP) => return Ok(None),
        Err(e) => return Err(format!("what the hidden link {} leads to: {e}", shown())),
    };
    let real = fs::read_link(format!("/proc/self/fd/{}", target.as_raw_fd()))
        .map_err(|e| format!("what the hidden link {} leads to: {e}", shown()))?;
    match real.strip_prefix(repo.root_path()) {
        Ok(relative) if relative != Path::new("") => Ok(Some(relative.to_owned())),
        _ => Err(format!(
            "the hidden link {} leads to the work tree itself; remove it or hide its target",
            shown()
        )),
    }
}
