//! The Landlock domain of a sandbox (landlock(7)): which rights are handled at which ABI, and what is granted.
//!
//! The ruleset is made before the clone, with every right of the kernel's ABI handled as a hard requirement; the
//! child adds the rules, because only there the mounts exist that they are about. Inside a private root Landlock is
//! the second wall: the first is that nothing else is mounted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope,
};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};

use crate::error::{Step, StepError, StepResult};
use crate::spec::{Level, Network};
use crate::sys;

/// The lowest ABI of level `full`: 2 brought LANDLOCK_ACCESS_FS_REFER, without which no rename across directories.
pub const FULL_MIN_ABI: u32 = 2;
/// The lowest ABI of level `landlock`: 6 brought the scoping of signals and abstract sockets.
pub const LANDLOCK_MIN_ABI: u32 = 6;
/// Rights that a rule on a file (not a directory) may have: EXECUTE, WRITE_FILE, READ_FILE, TRUNCATE, IOCTL_DEV,
/// RESOLVE_UNIX.
const FILE_RIGHTS: u64 = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15) | (1 << 16);

/// A ruleset, and the access bits to grant with it.
pub(crate) struct Domain {
    pub(crate) ruleset: OwnedFd,
    /// The kernel's ABI, at most the newest that is known here.
    pub(crate) abi: u32,
    /// Reading and executing.
    pub(crate) read: u64,
    /// Listing directories.
    pub(crate) list: u64,
    /// Everything but making devices.
    pub(crate) write: u64,
    /// Device nodes: reading, writing, ioctl.
    pub(crate) device: u64,
    /// Files below /proc: reading and writing, no making or removing.
    pub(crate) proc: u64,
    /// True where signals and abstract sockets are scoped.
    pub(crate) scoped: bool,
    /// True where pathname sockets need a right (ABI 9).
    pub(crate) mediates_sockets: bool,
}

/// The ABI that the kernel offers; 0 where Landlock is absent or disabled.
pub fn kernel_abi() -> u32 {
    sys::lockdown::landlock_abi().unwrap_or(0)
}

/// Whether the ABI mediates pathname sockets (LANDLOCK_ACCESS_FS_RESOLVE_UNIX, ABI 9).
pub(crate) fn mediates_sockets(abi: u32) -> bool {
    AccessFs::from_all(known(abi)).contains(AccessFs::ResolveUnix)
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
    /// Makes the ruleset. Errors: the kernel's own, `EOPNOTSUPP` below the level's lowest ABI.
    pub(crate) fn new(level: Level, network: Network) -> StepResult<Self> {
        let kernel = sys::lockdown::landlock_abi()
            .map_err(|errno| StepError::new(Step::LandlockRuleset, "none", errno))?;
        let lowest = match level {
            Level::Full => FULL_MIN_ABI,
            Level::Landlock => LANDLOCK_MIN_ABI,
        };
        if kernel < lowest {
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
        // In a network namespace of its own a sandbox may talk to itself; here it would be to the host.
        if level == Level::Landlock && network == Network::None {
            ruleset = ruleset.handle_access(AccessNet::from_all(abi)).map_err(|e| failed(&e))?;
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
            list: BitFlags::from(AccessFs::ReadDir).bits(),
            write: (all & !devices).bits(),
            device: device.bits(),
            proc: proc.bits(),
            scoped: !scopes.is_empty(),
            mediates_sockets: all.contains(AccessFs::ResolveUnix),
        })
    }

    /// Allows `access` beneath a directory, or as far as it is about files on a file.
    pub(crate) fn allow(&self, at: BorrowedFd<'_>, access: u64) -> Result<(), Errno> {
        let kind = SFlag::from_bits_truncate(fstat(at)?.st_mode) & SFlag::S_IFMT;
        let access = if kind == SFlag::S_IFDIR { access } else { access & FILE_RIGHTS };
        sys::lockdown::landlock_allow(self.ruleset.as_fd(), at, access)
    }
}
