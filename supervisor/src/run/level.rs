//! Which level a run's sandboxes have: the highest that this host reaches, found by building one, and never below what
//! the operator accepts.

use std::path::Path;

use proctor_sandbox::enforced::Enforced;
use proctor_sandbox::error::LaunchError;
use proctor_sandbox::host::{self, Facts};
use proctor_sandbox::launch::Launcher;
use proctor_sandbox::spec::Level;

use super::area::Area;
use super::identity::{HostId, IdentityError};
use super::private_dirs::PrivateDir;
use super::state_dirs::{self, StateDirs};
use crate::mend;
use crate::profile::{self, LayerPlace};

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

    fn nobody(error: &IdentityError) -> Self {
        Self { why: error.to_string(), mend: error.mend(&Facts::read()) }
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
    place: LayerPlace,
    run_id: &str,
) -> Result<Chosen, Unreached> {
    if lowest == profile::Level::Full {
        return Ok(Chosen { level: Level::Full, why_not_full: None });
    }
    let full = match probe_full(launcher, &dirs.state, tree, place, run_id) {
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

/// A sandbox of level `full` that could be had, and how.
#[derive(Debug)]
pub struct Full {
    /// What was in force.
    pub enforced: Enforced,
    /// Why its layers do not lie in memory, where they had to lie on disk.
    pub memory: Option<LaunchError>,
}

/// Builds a sandbox of level `full` around `tree` in a throwaway child. As a run settles it: layers where `place` says,
/// and else in memory, or on disk, below `state`, where the kernel refuses that.
///
/// # Errors
/// Why it cannot be built here.
pub fn probe_full(
    launcher: &Launcher,
    state: &Path,
    tree: &Path,
    place: LayerPlace,
    name: &str,
) -> Result<Full, Unreached> {
    let identity = HostId::take(state_dirs::uid_locks()).map_err(|e| Unreached::nobody(&e))?.identity;
    let on_disk = || {
        let layers = PrivateDir::for_layers(state, name, "probe", identity).map_err(Unreached::plain)?;
        let descriptor = layers.descriptor().map_err(Unreached::plain)?;
        Ok(host::probe(launcher, identity, tree, Some(descriptor)))
    };
    if place == LayerPlace::Disk {
        let enforced = on_disk()?.map_err(|e| Unreached::new(&e))?;
        return Ok(Full { enforced, memory: None });
    }
    let refused = match host::probe(launcher, identity, tree, None) {
        Ok(enforced) => return Ok(Full { enforced, memory: None }),
        Err(e) if place == LayerPlace::Auto && host::memory_refused(&e) => e,
        Err(e) => return Err(Unreached::new(&e)),
    };
    match on_disk()? {
        Ok(enforced) => Ok(Full { enforced, memory: Some(refused) }),
        Err(disk) => Err(Unreached {
            why: format!("layers in memory: {refused}; on disk: {disk}"),
            mend: Some(mend::of_layers(&refused, &disk, state, &Facts::read())),
        }),
    }
}

/// The same for level `landlock`, around a directory of its own.
///
/// # Errors
/// Why it cannot be built here.
pub fn probe_landlock(launcher: &Launcher, dirs: &StateDirs, name: &str) -> Result<Enforced, Unreached> {
    let identity = HostId::take(state_dirs::uid_locks()).map_err(|e| Unreached::nobody(&e))?;
    let owner = (identity.identity.host_uid, identity.identity.host_gid);
    let area = Area::new(dirs, name, "probe", owner).map_err(Unreached::plain)?;
    host::probe_landlock(launcher, identity.identity, area.path()).map_err(|e| Unreached::new(&e))
}
