//! Which level a run's sandboxes have: the highest that this host reaches, found by building one, and never below what
//! the operator accepts.

use std::fmt::Write as _;
use std::path::Path;

use proctor_sandbox::enforced::Enforced;
use proctor_sandbox::error::LaunchError;
use proctor_sandbox::host::probe_level;
use proctor_sandbox::launch::Launcher;
use proctor_sandbox::spec::Level;

use super::area::Area;
use super::identity::HostId;
use super::state_dirs::{self, StateDirs};
use crate::profile;

/// A level, and why it is not the higher one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The level.
    pub level: Level,
    /// At level `landlock`: what level `full` failed with.
    pub why_not_full: Option<String>,
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
) -> Result<Chosen, String> {
    if lowest == profile::Level::Full {
        return Ok(Chosen { level: Level::Full, why_not_full: None });
    }
    let full = match probe_full(launcher, tree) {
        Ok(_) => return Ok(Chosen { level: Level::Full, why_not_full: None }),
        Err(why) => why,
    };
    match probe_landlock(launcher, dirs, run_id) {
        Ok(_) => Ok(Chosen { level: Level::Landlock, why_not_full: Some(full) }),
        Err(why) => {
            let mut text = String::new();
            let _ = write!(text, "level full: {full}; level landlock: {why}");
            Err(text)
        }
    }
}

/// Builds a sandbox of level `full` around `tree` in a throwaway child.
///
/// # Errors
/// Why it cannot be built here.
pub fn probe_full(launcher: &Launcher, tree: &Path) -> Result<Enforced, String> {
    let identity = HostId::take(state_dirs::uid_locks()).map_err(|e| e.to_string())?;
    let probed = probe_level(launcher, Level::Full, identity.identity, tree);
    probed.map_err(|e: LaunchError| e.to_string())
}

/// The same for level `landlock`, around a directory of its own.
///
/// # Errors
/// Why it cannot be built here.
pub fn probe_landlock(launcher: &Launcher, dirs: &StateDirs, name: &str) -> Result<Enforced, String> {
    let identity = HostId::take(state_dirs::uid_locks()).map_err(|e| e.to_string())?;
    let owner = (identity.identity.host_uid, identity.identity.host_gid);
    let area = Area::new(dirs, &format!("{name}-probe"), owner)
        .map_err(|e| format!("{}: {e}", Area::all(dirs).display()))?;
    probe_level(launcher, Level::Landlock, identity.identity, area.path()).map_err(|e| e.to_string())
}
