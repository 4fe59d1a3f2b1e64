//! Symbolic links of the result tree: none that was added or changed may lead out of the tree, into `.git`, or to
//! hidden or ignored paths; nor may an old one do so through what was changed.

use super::{CollectError, Work};
use crate::changes::ignore::Ignores;
use crate::changes::layer;
use crate::changes::tree::{self, join, split};
use crate::changes::{dotgit, show};

/// As in Linux (path_resolution(7)).
const MAX_FOLLOWED: usize = 40;

enum Fault {
    Outside,
    Git,
    Loop,
    Hidden(Vec<u8>),
    Ignored(Vec<u8>),
}

pub(super) fn check(work: &mut Work<'_>, ignores: &mut Ignores) -> Result<(), CollectError> {
    let changed: Vec<Vec<u8>> = work
        .edits
        .iter()
        .filter(|(_, edit)| edit.is_some_and(|(mode, _)| mode == tree::SYMLINK))
        .map(|(path, _)| path.clone())
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    for path in &changed {
        let Some(fault) = resolve(work, ignores, path, true)? else {
            continue;
        };
        let message = match fault {
            Fault::Outside => "a symbolic link that leads out of the work tree".to_owned(),
            Fault::Git => "a symbolic link that leads into a git directory".to_owned(),
            Fault::Loop => "a symbolic link that leads in circles".to_owned(),
            Fault::Hidden(to) => format!("a symbolic link to the hidden path {}", show(&to)),
            Fault::Ignored(to) => format!("a symbolic link to the ignored path {}", show(&to)),
        };
        work.refuse(path, "symlink", message);
    }
    // A new link can bend where an old one leads.
    for (path, entry) in work.base.beneath(b"")? {
        if entry.mode != tree::SYMLINK
            || work.edits.contains_key(&path)
            || resolve(work, ignores, &path, false)?.is_some()
        {
            continue;
        }
        if resolve(work, ignores, &path, true)?.is_some() {
            work.refuse(
                &path,
                "symlink",
                "a link that was there leads somewhere else now, through a link that was changed",
            );
        }
    }
    Ok(())
}

/// Where the link at `path` leads, in the result tree (`after`) or in the base: what is wrong with it, if anything.
fn resolve(
    work: &Work<'_>,
    ignores: &mut Ignores,
    path: &[u8],
    after: bool,
) -> Result<Option<Fault>, CollectError> {
    let mut at = split(path).0.to_vec();
    let mut todo: Vec<Vec<u8>> = Vec::new();
    let mut target = target_of(work, path, after)?;
    let mut followed = 0;
    while let Some(text) = target.take() {
        followed += 1;
        if followed > MAX_FOLLOWED {
            return Ok(Some(Fault::Loop));
        }
        if text.starts_with(b"/") {
            return Ok(Some(Fault::Outside));
        }
        todo.extend(text.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
        while let Some(name) = todo.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." if at.is_empty() => return Ok(Some(Fault::Outside)),
                b".." => {
                    at = split(&at).0.to_vec();
                    continue;
                }
                _ => {}
            }
            if dotgit::is_alias(&name) {
                return Ok(Some(Fault::Git));
            }
            let full = join(&at, &name);
            if let Some(next) = target_of(work, &full, after)? {
                target = Some(next);
                break;
            }
            at = full;
            let tracked = work.base.entry(&at)?.is_some() || work.edits.contains_key(&at);
            if work.rules.hide.matching(&at).is_some() || work.rules.hide.matching_dir(&at).is_some() {
                return Ok(Some(Fault::Hidden(at)));
            }
            if !tracked
                && (ignores.is_ignored(work.base, &at, false)? || ignores.is_ignored(work.base, &at, true)?)
                && work
                    .edits
                    .range(join(&at, b"")..)
                    .next()
                    .is_none_or(|(p, _)| !p.starts_with(&join(&at, b"")))
            {
                return Ok(Some(Fault::Ignored(at)));
            }
        }
    }
    Ok(None)
}

/// The target of the symbolic link at `path`, where there is one.
fn target_of(work: &Work<'_>, path: &[u8], after: bool) -> Result<Option<Vec<u8>>, CollectError> {
    if after && let Some(edit) = work.edits.get(path) {
        return Ok(match edit {
            Some((tree::SYMLINK, _)) => Some(layer::read_link(work.layer, path)?),
            _ => None,
        });
    }
    match work.base.entry(path)? {
        Some(entry) if entry.mode == tree::SYMLINK => Ok(Some(work.base.odb().blob(&entry.id)?)),
        _ => Ok(None),
    }
}
