//! Symbolic links of the result tree: none that was added or changed may lead out of the tree, into `.git`, or to
//! hidden or ignored paths; nor may an old one do so through what was changed. And a protected path that is reached
//! through a link is protected where the link leads.

use std::collections::{BTreeSet, HashMap};

use super::{CollectError, Work};
use crate::changes::ignore::Ignores;
use crate::changes::layer;
use crate::changes::tree::{self, join, split};
use crate::changes::{dotgit, show};

/// As in Linux (path_resolution(7)).
const MAX_FOLLOWED: usize = 40;
/// Names that are looked at for protection in all; a tree that needs more is refused.
const MAX_NAMES: usize = 2_000_000;
/// Names of one changed path, through links.
const MAX_ALIASES: usize = 100_000;

enum Fault {
    Outside,
    Git,
    Loop,
    Hidden(Vec<u8>),
    Ignored(Vec<u8>),
}

pub(super) fn check(work: &mut Work<'_>, ignores: &mut Ignores) -> Result<(), CollectError> {
    if work.edits.is_empty() {
        return Ok(());
    }
    let changed: Vec<Vec<u8>> = work
        .edits
        .iter()
        .filter(|(_, edit)| edit.is_some_and(|(mode, _)| mode == tree::SYMLINK))
        .map(|(path, _)| path.clone())
        .collect();
    let mut leads = HashMap::<Vec<u8>, Vec<Vec<u8>>>::new();
    let mut names = 0;
    for path in &changed {
        let message = match resolve(work, ignores, path, true)? {
            Ok(to) => {
                beneath_link(work, path, &to, &mut names)?;
                leads.entry(to).or_default().push(path.clone());
                continue;
            }
            Err(Fault::Outside) => "a symbolic link that leads out of the work tree".to_owned(),
            Err(Fault::Git) => "a symbolic link that leads into a git directory".to_owned(),
            Err(Fault::Loop) => "a symbolic link that leads in circles".to_owned(),
            Err(Fault::Hidden(to)) => format!("a symbolic link to the hidden path {}", show(&to)),
            Err(Fault::Ignored(to)) => format!("a symbolic link to the ignored path {}", show(&to)),
        };
        work.refuse(path, "symlink", message);
    }
    for path in work.repo.base_links(work.base)?.to_vec() {
        if work.edits.contains_key(&path) {
            continue;
        }
        let after = resolve(work, ignores, &path, true)?;
        // A new link can bend where an old one leads.
        if after.is_err() && !changed.is_empty() && resolve(work, ignores, &path, false)?.is_ok() {
            work.refuse(
                &path,
                "symlink",
                "a link that was there leads somewhere else now, through a link that was changed",
            );
        }
        if let Ok(to) = after {
            leads.entry(to).or_default().push(path);
        }
    }
    if !leads.is_empty() {
        for path in work.edits.keys().cloned().collect::<Vec<_>>() {
            aliases(work, &path, &leads, &mut names);
        }
    }
    Ok(())
}

/// A new link to a directory gives everything in it another name; none of these may be protected.
fn beneath_link(work: &mut Work<'_>, link: &[u8], to: &[u8], names: &mut usize) -> Result<(), CollectError> {
    let dir = if to.is_empty() { Vec::new() } else { join(to, b"") };
    let mut inside: BTreeSet<Vec<u8>> = work.base.beneath(to)?.into_iter().map(|(path, _)| path).collect();
    for (path, edit) in work.edits.range(dir.clone()..).take_while(|(p, _)| p.starts_with(&dir)) {
        if edit.is_some() {
            inside.insert(path.clone())
        } else {
            inside.remove(path)
        };
    }
    *names += inside.len();
    if *names > MAX_NAMES {
        work.refuse(link, "symlink", "a link to more files than can be looked at");
        return Ok(());
    }
    for path in inside {
        let named = join(link, &path[dir.len()..]);
        // What is protected under its own name gains nothing by another.
        if let Some(glob) = work.rules.protect.matching(&named)
            && work.rules.protect.matching(&path).is_none()
        {
            let message = format!("a link that makes {}, which is protected by {glob}", show(&named));
            work.refuse(link, "protect", message);
            break;
        }
    }
    Ok(())
}

/// Every name that a changed path has through links; where one is protected, so is the path. A name goes through
/// each link at most once: a link to a directory above itself makes endless names that end alike.
fn aliases(work: &mut Work<'_>, path: &[u8], leads: &HashMap<Vec<u8>, Vec<Vec<u8>>>, names: &mut usize) {
    let mut seen = BTreeSet::from([path.to_vec()]);
    let mut todo: Vec<(Vec<u8>, Vec<&[u8]>)> = vec![(path.to_vec(), Vec::new())];
    while let Some((name, used)) = todo.pop() {
        let slashes = name.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        for end in slashes.chain([0, name.len()]) {
            let rest = if end == 0 { &name[..] } else { name.get(end + 1..).unwrap_or(&[]) };
            for link in
                leads.get(&name[..end]).into_iter().flatten().filter(|l| !used.contains(&l.as_slice()))
            {
                let alias = if rest.is_empty() { link.clone() } else { join(link, rest) };
                *names += 1;
                if seen.len() > MAX_ALIASES || *names > MAX_NAMES || alias.len() > 4096 {
                    work.refuse(path, "symlink", "it has more names through links than can be looked at");
                    return;
                }
                if let Some(glob) = work.rules.protect.matching(&alias) {
                    let message =
                        format!("it is what {} leads to, which is protected by {glob}", show(&alias));
                    work.refuse(path, "protect", message);
                    return;
                }
                if seen.insert(alias.clone()) {
                    let mut used = used.clone();
                    used.push(link);
                    todo.push((alias, used));
                }
            }
        }
    }
}

/// Where the link at `path` leads, in the result tree (`after`) or in the base, or what is wrong with that.
fn resolve(
    work: &Work<'_>,
    ignores: &mut Ignores,
    path: &[u8],
    after: bool,
) -> Result<Result<Vec<u8>, Fault>, CollectError> {
    let mut at = split(path).0.to_vec();
    let mut todo: Vec<Vec<u8>> = Vec::new();
    let mut target = target_of(work, path, after)?;
    let mut followed = 0;
    while let Some(text) = target.take() {
        followed += 1;
        if followed > MAX_FOLLOWED {
            return Ok(Err(Fault::Loop));
        }
        if text.starts_with(b"/") {
            return Ok(Err(Fault::Outside));
        }
        todo.extend(text.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
        while let Some(name) = todo.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." if at.is_empty() => return Ok(Err(Fault::Outside)),
                b".." => {
                    at = split(&at).0.to_vec();
                    continue;
                }
                _ => {}
            }
            if dotgit::is_alias(&name) {
                return Ok(Err(Fault::Git));
            }
            let full = join(&at, &name);
            if let Some(next) = target_of(work, &full, after)? {
                target = Some(next);
                break;
            }
            at = full;
            let tracked = work.base.entry(&at)?.is_some() || work.edits.contains_key(&at);
            if work.rules.hide.matching(&at).is_some() || work.rules.hide.matching_dir(&at).is_some() {
                return Ok(Err(Fault::Hidden(at)));
            }
            if !tracked
                && (ignores.is_ignored(work.base, &at, false)? || ignores.is_ignored(work.base, &at, true)?)
                && work
                    .edits
                    .range(join(&at, b"")..)
                    .next()
                    .is_none_or(|(p, _)| !p.starts_with(&join(&at, b"")))
            {
                return Ok(Err(Fault::Ignored(at)));
            }
        }
    }
    Ok(Ok(at))
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
        Some(entry) if entry.mode == tree::SYMLINK => Ok(Some(work.base.odb().small_blob(&entry.id)?)),
        _ => Ok(None),
    }
}
