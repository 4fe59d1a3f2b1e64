//! The Landlock domain of a sandbox (landlock(7)): which rights are handled at which ABI, and what is granted.
//!
//! The ruleset is made before the clone, with every right of the kernel's ABI handled as a hard requirement; the
//! child adds the rules, because only there the mounts exist that they are about. Inside a private root Landlock is
//! the second wall: the first is that nothing else is mounted.

use std::os::fd::OwnedFd;

use landlock::{ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use nix::errno::Errno;

use crate::error::{Step, StepError, StepResult};
use crate::sys;

/// The lowest ABI of level `full`: 2 brought LANDLOCK_ACCESS_FS_REFER, without which no rename across directories.
pub const FULL_MIN_ABI: u32 = 2;

/// A ruleset, and the access bits to grant with it.
pub(crate) struct Domain {
    pub(crate) ruleset: OwnedFd,
    /// The kernel's ABI, at most the newest that is known here.
    pub(crate) abi: u32,
    /// Reading and executing.
    pub(crate) read: u64,
    /// Everything but making devices.
    pub(crate) write: u64,
    /// Device nodes: reading, writing, ioctl.
    pub(crate) device: u64,
    /// Files below /proc: reading and writing, no making or removing.
    pub(crate) proc: u64,
    /// True where signals and abstract sockets are scoped.
    pub(crate) scoped: bool,
}

/// The ABI that the kernel offers; 0 where Landlock is absent or disabled.
pub fn kernel_abi() -> u32 {
    sys::lockdown::landlock_abi()
}

fn known(abi: u32) -> ABI {
    match abi {
        0 => ABI::Unsupported,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        7 => ABI::V7,
        8 => ABI::V8,
        9 => ABI::V9,
        _ => ABI::V10,
    }
}

impl Domain {
    /// Makes the ruleset. Errors: `ENOSYS`/`EOPNOTSUPP` below [`FULL_MIN_ABI`].
    pub(crate) fn new() -> StepResult<Self> {
        let kernel = kernel_abi();
        if kernel < FULL_MIN_ABI {
            return Err(StepError::new(Step::LandlockRuleset, format!("ABI {kernel}"), Errno::EOPNOTSUPP));
        }
        let abi = known(kernel);
        let all = AccessFs::from_all(abi);
        let scopes = Scope::from_all(abi);
        let failed =
            |e: &dyn std::fmt::Display| StepError::new(Step::LandlockRuleset, e.to_string(), Errno::EINVAL);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(all)
            .map_err(|e| failed(&e))?;
        if !scopes.is_empty() {
            ruleset = ruleset.scope(scopes).map_err(|e| failed(&e))?;
        }
        let created = ruleset.create().map_err(|e| failed(&e))?;
        let ruleset: Option<OwnedFd> = created.into();
        let Some(ruleset) = ruleset else {
            return Err(StepError::new(Step::LandlockRuleset, "no ruleset", Errno::EOPNOTSUPP));
        };
        let devices: BitFlags<AccessFs> = AccessFs::MakeChar | AccessFs::MakeBlock;
        let read = AccessFs::from_read(abi);
        let proc = read | (all & (AccessFs::WriteFile | AccessFs::Truncate));
        let device = all
            & (AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::IoctlDev);
        Ok(Self {
            ruleset,
            abi: kernel.min(ABI::V10 as u32),
            read: read.bits(),
            write: (all & !devices).bits(),
            device: device.bits(),
            proc: proc.bits(),
            scoped: !scopes.is_empty(),
        })
    }
}
