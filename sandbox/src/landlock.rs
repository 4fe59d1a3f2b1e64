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
/// The first ABI whose refusals the kernel's audit tells of, and that takes flags for it.
pub(crate) const AUDIT_ABI: u32 = 7;
/// Rights that a rule on a file (not a directory) may have: EXECUTE, WRITE_FILE, READ_FILE, TRUNCATE, IOCTL_DEV,
/// RESOLVE_UNIX.
const FILE_RIGHTS: u64 = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15) | (1 << 16);

/// Flags of landlock_restrict_self(2): what the kernel's audit is told of a domain (LANDLOCK_RESTRICT_SELF_LOG_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logging {
    /// Init's domain, in which the program's own is nested. What init itself is refused is not worth a record: it
    /// signals everybody, and reaches its own.
    pub(crate) init: u32,
    /// The program's domain. Its check of itself is told, where anything is: it shows whose domain it is.
    pub(crate) program: u32,
}

impl Logging {
    /// `wanted` only where somebody reads: a backend could fill the host's audit log with what it is refused.
    pub(crate) fn new(abi: u32, wanted: bool) -> Self {
        const SAME_EXEC_OFF: u32 = 1 << 0;
        const NEW_EXEC_ON: u32 = 1 << 1;
        match (abi >= AUDIT_ABI, wanted) {
            // Older kernels refuse every flag.
            (false, _) => Self { init: 0, program: 0 },
            (true, false) => Self { init: SAME_EXEC_OFF, program: SAME_EXEC_OFF },
            (true, true) => Self { init: SAME_EXEC_OFF | NEW_EXEC_ON, program: NEW_EXEC_ON },
        }
    }
}

/// A ruleset, and the access bits to grant with it.
pub(crate) struct Domain {
    pub(crate) ruleset: OwnedFd,
    /// The kernel's ABI, at most the newest that is known here.
    pub(crate) abi: u32,
    /// Reading and executing.
    pub(crate) read: u64,
    /// Reading alone.
    pub(crate) only_read: u64,
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
        let lowest = match level {
            Level::Full => FULL_MIN_ABI,
            Level::Landlock => LANDLOCK_MIN_ABI,
        };
        // In a network namespace of its own a sandbox may talk to itself; here it would be to the host.
        Self::from_abi(lowest, level == Level::Landlock && network == Network::None)
    }

    /// For a process that only reads files: everything that the kernel's ABI has is handled, whichever that is.
    pub(crate) fn of_reader() -> StepResult<Self> {
        Self::from_abi(1, true)
    }

    fn from_abi(lowest: u32, handle_net: bool) -> StepResult<Self> {
        let kernel = sys::lockdown::landlock_abi()
            .map_err(|errno| StepError::new(Step::LandlockRuleset, "none", errno))?;
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
        let net = AccessNet::from_all(abi);
        if handle_net && !net.is_empty() {
            ruleset = ruleset.handle_access(net).map_err(|e| failed(&e))?;
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
            only_read: (read & !BitFlags::from(AccessFs::Execute)).bits(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_given_to_kernels_that_know_them_and_records_asked_for_where_somebody_reads() {
        for abi in 1..AUDIT_ABI {
            for wanted in [false, true] {
                assert_eq!(Logging::new(abi, wanted), Logging { init: 0, program: 0 }, "ABI {abi}");
            }
        }
        for abi in AUDIT_ABI..12 {
            assert_eq!(Logging::new(abi, true), Logging { init: 3, program: 2 });
            assert_eq!(Logging::new(abi, false), Logging { init: 1, program: 1 });
        }
    }
}
