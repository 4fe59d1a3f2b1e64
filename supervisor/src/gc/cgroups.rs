//! cgroups of dead runs: found by their names, in every hierarchy, and removed where they are empty.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use proctor_sandbox::cgroup::remove_dead;

use super::{Cleared, Item, Kind};
use crate::evidence::is_run_id;
use crate::run::private_dirs::Size;

/// Levels of cgroups, and how many are looked at: more is nobody's.
const DEPTH: usize = 32;
const MOST: usize = 100_000;

pub(super) fn clear(root: &Path, cleared: &mut Cleared) {
    let own = rustix::process::geteuid().as_raw();
    let mut looked = 0;
    let mut stack = vec![(root.to_owned(), 0)];
    while let Some((dir, depth)) = stack.pop() {
        // What cannot be listed is not this user's.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            // Links between hierarchies are none.
            let Ok(meta) = entry.metadata() else { continue };
            if !meta.is_dir() {
                continue;
            }
            looked += 1;
            if looked > MOST || depth > DEPTH {
                return cleared.left(root, "there are more cgroups than are looked at");
            }
            let path = entry.path();
            if !entry.file_name().to_str().is_some_and(is_ours) {
                stack.push((path, depth + 1));
                continue;
            }
            if meta.uid() == own {
                one(&path, cleared);
            }
        }
    }
}

fn one(path: &Path, cleared: &mut Cleared) {
    let item = Item::new(Kind::Cgroup, path, Size::default());
    if cleared.dry_run {
        match is_dead(path) {
            Ok(true) => cleared.removed.push(item),
            Ok(false) => cleared.living += 1,
            Err(error) => cleared.left(path, error),
        }
        return;
    }
    match remove_dead(path) {
        Ok(true) => cleared.removed.push(item),
        Ok(false) => cleared.living += 1,
        // Somebody else cleared it up, or its run did.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => cleared.left(path, error),
    }
}

fn is_dead(path: &Path) -> io::Result<bool> {
    match std::fs::File::open(path)?.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// `proctor-RUN_ID-ROLE`, or as `doctor` names its own.
fn is_ours(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("proctor-") else { return false };
    if let Some(pid) = rest.strip_prefix("doctor-") {
        return !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
    }
    let role = |role: &str| !role.is_empty() && role.bytes().all(|b| b.is_ascii_lowercase());
    rest.split_at_checked(24)
        .is_some_and(|(id, rest)| is_run_id(id) && rest.strip_prefix('-').is_some_and(role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_as_a_sandboxes_is_touched() {
        for name in ["proctor-r-20260601T120000-abcdef-backend", "proctor-doctor-17"] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "proctor-supervisor",
            "proctor-",
            "proctor-r-20260601T120000-abcdef",
            "proctor-r-20260601T120000-abcdef-",
            "proctor-r-20260601T120000-abcdef-Backend",
            "proctor-doctor-",
            "proctor-doctor-x",
            "r-20260601T120000-abcdef-backend",
            "proctor-é-20260601T120000-abcdef-backend",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
