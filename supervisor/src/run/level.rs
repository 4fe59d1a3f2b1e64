//! Which level a run's sandboxes have: the highest that this host reaches, found by building one, and never below what
//! the operator accepts.

use std::path::Path;

use proctor_sandbox::enforced::Enforced;
use proctor_sandbox::error::LaunchError;
use proctor_sandbox::host::{Facts, probe_level};
use proctor_sandbox::launch::Launcher;
use proctor_sandbox::spec::Level;

use super::area::Area;
use super::identity::HostId;
use super::state_dirs::{self, StateDirs};
use crate::mend;
use crate::profile;

/// A level, and why it is not the higher one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The level.
    pub level: Level,
    /// At level `landlock`: what level `full` failed with.
    pub why_not_full: Option<String>,
}

/// A level that is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// What failed.
    pub why: String,
    /// What to do about it, where that is known.
    pub mend: Option<String>,
}

impl Unreached {
    fn new(error: &LaunchError) -> Self {
        Self { why: error.to_string(), mend: Some(mend::of(error, &Facts::read())) }
    }

    fn plain(error: impl std::fmt::Display) -> Self {
        Self { why: error.to_string(), mend: None }
    }
}

/// The level for a run over the work tree at `tree`. Without the operator's word for a lower one there is nothing to
/// choose, and the run's own sandbox is the probe.
///
/// # Errors
/// This host reaches no level that is accepted; says why, for each.
pub fn choose(
    launcher: &Launcher,
    dirs: &StateDirs,
    tree: &Path,
    lowest: profile::Level,
    run_id: &str,
) -> Result<Chosen, Unreached> {
    if lowest == profile::Level::Full {
        return Ok(Chosen { level: Level::Full, why_not_full: None });
    }
    let full = match probe_full(launcher, tree) {
        Ok(_) => return Ok(Chosen { level: Level::Full, why_not_full: None }),
        Err(unreached) => unreached,
    };
    match probe_landlock(launcher, dirs, run_id) {
        Ok(_) => Ok(Chosen { level: Level::Landlock, why_not_full: Some(full.why) }),
        Err(landlock) => {
            let why = format!("level full: {}; level landlock: {}", full.why, landlock.why);
            // Either would do; the lower one is what the operator asked for.
            Err(Unreached { why, mend: landlock.mend.or(full.mend) })
        }
    }
}

/// Builds a sandbox of level `full` around `tree` in a throwaway child.
///
/// # Errors
/// Why it cannot be built here.
pub fn probe_full(launcher: &Launcher, tree: &Path) -> Result<Enforced, Unreached> {
    let identity = HostId::take(state_dirs::uid_locks()).map_err(Unreached::plain)?;
    probe_level(launcher, Level::Full, identity.identity, tree).map_err(|e| Unreached::new(&e))
}

/// The same for level `landlock`, around a directory of its own.
///
/// # Errors
/// Why it cannot be built here.
pub fn probe_landlock(launcher: &Launcher, dirs: &StateDirs, name: &str) -> Result<Enforced, Unreached> {
    let identity = HostId::take(state_dirs::uid_locks()).map_err(Unreached::plain)?;
    let owner = (identity.identity.host_uid, identity.identity.host_gid);
    let area = Area::new(dirs, &format!("{name}-probe"), owner)
        .map_err(|e| Unreached::plain(format!("{}: {e}", Area::all(dirs).display())))?;
    probe_level(launcher, Level::Landlock, identity.identity, area.path()).map_err(|e| Unreached::new(&e))
}
