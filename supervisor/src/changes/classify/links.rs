//! Symbolic links of the result tree: none that was added or changed may lead out of the tree, into `.git`, or to
//! hidden or ignored paths; nor may an old one do so through what was changed. And a path that is protected, denied or
//! asked about is so under each name that links give it.
//!
//! Links are cheap to make and multiply each other: every loop here has a bound, and what is over it is refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{CollectError, Work};
use crate::changes::ignore::{Ignores, Node};
use crate::changes::layer;
use crate::changes::tree::{self, join, split};
use crate::changes::{dotgit, show};

/// As in Linux (path_resolution(7)).
const MAX_FOLLOWED: usize = 40;
/// Bytes and components of a link's target.
const MAX_TARGET: usize = 1024;
const MAX_COMPONENTS: usize = 64;
/// Components of targets that are looked at in all; as many again as a link may have for each of the base.
const MAX_STEPS: usize = 200_000;
/// Names through links that are held against the rules in all.
const MAX_NAMES: usize = 50_000;

enum Fault {
    Outside,
    Git,
    Loop,
    Long,
    Many,
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
    let mut left = MAX_STEPS;
    for path in &changed {
        let message = match resolve(work, ignores, path, true, &mut left)? {
            Ok(to) => {
                beneath_link(work, path, &to, &mut names)?;
                leads.entry(to).or_default().push(path.clone());
                continue;
            }
            Err(Fault::Outside) => "a symbolic link that leads out of the work tree".to_owned(),
            Err(Fault::Git) => "a symbolic link that leads into a git directory".to_owned(),
            Err(Fault::Loop) => "a symbolic link that leads in circles".to_owned(),
            Err(Fault::Long) => format!(
                "a symbolic link whose target has more than {MAX_TARGET} bytes or {MAX_COMPONENTS} components"
            ),
            Err(Fault::Many) => "more symbolic links than can be followed".to_owned(),
            Err(Fault::Hidden(to)) => format!("a symbolic link to the hidden path {}", show(&to)),
            Err(Fault::Ignored(to)) => format!("a symbolic link to the ignored path {}", show(&to)),
        };
        work.refuse(path, "symlink", message);
    }
    let base_links = work.repo.base_links(work.base)?.to_vec();
    let mut left = MAX_STEPS.saturating_add(base_links.len().saturating_mul(MAX_COMPONENTS));
    for path in base_links {
        if work.edits.contains_key(&path) {
            continue;
        }
        let after = resolve(work, ignores, &path, true, &mut left)?;
        // A new link can bend where an old one leads.
        if after.is_err()
            && !changed.is_empty()
            && resolve(work, ignores, &path, false, &mut MAX_STEPS.clone())?.is_ok()
        {
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
    // Where no link is in the way of a rule, no name through links can match that does not match without.
    if leads
        .values()
        .flatten()
        .any(|link| work.rules.guarded().any(|(_, globs)| globs.may_match_beneath(link)))
    {
        for path in work.edits.keys().cloned().collect::<Vec<_>>() {
            aliases(work, &path, &leads, &mut names);
        }
    }
    Ok(())
}

/// A new link to a directory gives everything in it another name, which the rules may mind.
fn beneath_link(work: &mut Work<'_>, link: &[u8], to: &[u8], names: &mut usize) -> Result<(), CollectError> {
    let rules = work.rules;
    let minded: Vec<_> = rules
        .guarded()
        .filter(|(_, globs)| globs.matching(link).is_none() && globs.may_match_beneath(link))
        .collect();
    if minded.is_empty() {
        return Ok(());
    }
    let mut inside = BTreeSet::new();
    if *names <= MAX_NAMES {
        inside.extend(work.base.beneath(to)?.into_iter().map(|(path, _)| path));
    }
    let dir = if to.is_empty() { Vec::new() } else { join(to, b"") };
    for (path, edit) in work.edits.range(dir.clone()..).take_while(|(p, _)| p.starts_with(&dir)) {
        if edit.is_some() {
            inside.insert(path.clone())
        } else {
            inside.remove(path)
        };
    }
    *names += inside.len() + 1;
    if *names > MAX_NAMES {
        work.refuse(link, "symlink", "a link to more files than can be looked at");
        return Ok(());
    }
    for (rule, globs) in minded {
        let found = inside.iter().find_map(|path| {
            let named = join(link, &path[dir.len()..]);
            // What the rule minds under its own name gains nothing by another.
            let glob = globs.matching(&named).filter(|_| globs.matching(path).is_none())?;
            Some((named, glob))
        });
        if let Some((named, glob)) = found {
            minds(work, link, rule, glob, &format!("a link that makes {}", show(&named)));
        }
    }
    Ok(())
}

/// Refuses `path`, or has it asked about, as the rule says.
fn minds(work: &mut Work<'_>, path: &[u8], rule: &'static str, glob: &str, what: &str) {
    match rule {
        "ask" => work.ask.push((path.to_vec(), glob.to_owned())),
        "deny" => work.refuse(path, rule, format!("{what}, which is denied by --deny-change {glob}")),
        _ => work.refuse(path, rule, format!("{what}, which is protected by {glob}")),
    }
}

/// Every name that a changed path has through links; what the rules say of one holds for the path. A name goes through
/// each link at most once: a link to a directory above itself makes endless names that end alike.
fn aliases(work: &mut Work<'_>, path: &[u8], leads: &HashMap<Vec<u8>, Vec<Vec<u8>>>, names: &mut usize) {
    let rules = work.rules;
    let mut seen = BTreeSet::from([path.to_vec()]);
    let mut todo: Vec<(Vec<u8>, Vec<&[u8]>)> = vec![(path.to_vec(), Vec::new())];
    let mut open: Vec<_> = rules.guarded().filter(|(_, globs)| globs.matching(path).is_none()).collect();
    while let Some((name, used)) = todo.pop() {
        let slashes = name.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        for end in slashes.chain([0, name.len()]) {
            let rest = if end == 0 { &name[..] } else { name.get(end + 1..).unwrap_or(&[]) };
            for link in
                leads.get(&name[..end]).into_iter().flatten().filter(|l| !used.contains(&l.as_slice()))
            {
                let alias = if rest.is_empty() { link.clone() } else { join(link, rest) };
                *names += 1;
                if *names > MAX_NAMES || alias.len() > 4096 {
                    work.refuse(path, "symlink", "it has more names through links than can be looked at");
                    return;
                }
                open.retain(|(rule, globs)| {
                    let found = globs.matching(&alias);
                    if let Some(glob) = found {
                        minds(work, path, rule, glob, &format!("it is what {} leads to", show(&alias)));
                    }
                    found.is_none()
                });
                if open.is_empty() {
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

/// Where the link at `path` leads, in the result tree (`after`) or in the base, or what is wrong with that. `left` is
/// how many more components may be looked at.
fn resolve(
    work: &Work<'_>,
    ignores: &mut Ignores,
    path: &[u8],
    after: bool,
    left: &mut usize,
) -> Result<Result<Vec<u8>, Fault>, CollectError> {
    let mut at = split(path).0.to_vec();
    let mut todo: Vec<Vec<u8>> = Vec::new();
    let mut target = target_of(work, path, after)?;
    let mut followed = 0;
    // Below a directory (of this length) that has no such entry nothing needs to be looked up: only words are left.
    let mut missing: Option<(usize, Arc<Node>)> = None;
    while let Some(text) = target.take() {
        followed += 1;
        if followed > MAX_FOLLOWED {
            return Ok(Err(Fault::Loop));
        }
        if text.starts_with(b"/") {
            return Ok(Err(Fault::Outside));
        }
        if text.len() > MAX_TARGET || text.split(|b| *b == b'/').count() > MAX_COMPONENTS {
            return Ok(Err(Fault::Long));
        }
        todo.extend(text.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
        while let Some(name) = todo.pop() {
            let Some(rest) = left.checked_sub(1) else {
                return Ok(Err(Fault::Many));
            };
            *left = rest;
            match name.as_slice() {
                b"" | b"." => continue,
                b".." if at.is_empty() => return Ok(Err(Fault::Outside)),
                b".." => {
                    at = split(&at).0.to_vec();
                    missing = missing.filter(|(dir, _)| at.len() > *dir);
                    continue;
                }
                _ => {}
            }
            if dotgit::is_alias(&name) {
                return Ok(Err(Fault::Git));
            }
            let full = join(&at, &name);
            if missing.is_none()
                && let Some(next) = target_of(work, &full, after)?
            {
                target = Some(next);
                break;
            }
            if work.rules.hide.matching_dir(&full).is_some() {
                return Ok(Err(Fault::Hidden(full)));
            }
            let ignored = match &missing {
                Some((_, node)) => node.matches(&full, false) || node.matches(&full, true),
                None if is_known(work, &full)? => false,
                None => {
                    missing = Some((at.len(), ignores.node(work.base, &at)?));
                    ignores.is_ignored(work.base, &full, false)?
                        || ignores.is_ignored(work.base, &full, true)?
                }
            };
            if ignored {
                return Ok(Err(Fault::Ignored(full)));
            }
            at = full;
        }
    }
    Ok(Ok(at))
}

/// True where the base or the changes have `path`, or something beneath it.
fn is_known(work: &Work<'_>, path: &[u8]) -> Result<bool, CollectError> {
    let beneath = join(path, b"");
    Ok(work.edits.contains_key(path)
        || work.edits.range(beneath.clone()..).next().is_some_and(|(p, _)| p.starts_with(&beneath))
        || work.base.entry(path)?.is_some())
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
