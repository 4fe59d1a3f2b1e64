//! What was really applied, mechanism by mechanism, as the child itself verified it; and what that lacks against
//! a specification. A mechanism that nobody saw working is not in the list.

use serde::{Deserialize, Serialize};

use crate::spec::{Level, Network, SandboxSpec, Store};

macro_rules! mechanisms {
    ($($name:ident = $bit:literal, $text:literal;)*) => {
        /// A mechanism that the child applied and, where that can be observed, verified.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Mechanism { $(#[doc = $text] $name,)* }

        impl Mechanism {
            /// All of them, in the order of their bits.
            pub const ALL: &[Mechanism] = &[$(Mechanism::$name,)*];

            /// What it gives, in a few words.
            pub fn what(self) -> &'static str {
                match self { $(Mechanism::$name => $text,)* }
            }

            /// Its name as it stands in reports.
            pub fn name(self) -> String {
                serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_else(|| format!("{self:?}"))
            }

            pub(crate) const fn bit(self) -> u64 {
                match self { $(Mechanism::$name => 1 << $bit,)* }
            }
        }
    };
}

mechanisms! {
    UserNamespace = 0, "own user namespace, no host root uid";
    MountNamespace = 1, "own mount namespace and private root";
    PidNamespace = 2, "own pid namespace, killed as a whole";
    IpcNamespace = 3, "own System V IPC and POSIX message queues";
    UtsNamespace = 4, "own host name";
    CgroupNamespace = 5, "own view of cgroups";
    NetworkNamespace = 6, "own network namespace with loopback alone";
    Overlay = 7, "work tree held in an overlay";
    ProcMasked = 8, "fresh /proc, kernel files masked, /proc/sys read-only";
    DiskLimit = 9, "size-limited private file systems";
    Rlimits = 10, "rlimits: tasks of this user namespace, open files";
    CapabilitiesEmpty = 11, "all five capability sets empty, securebits locked";
    NoNewPrivs = 12, "no_new_privs";
    Landlock = 13, "Landlock domain, seen to refuse";
    LandlockScope = 14, "Landlock scoping of signals and abstract sockets";
    Seccomp = 15, "seccomp filter";
    NewSession = 16, "new session, no controlling terminal";
    DescriptorsClosed = 17, "no foreign descriptors";
    DeathWatch = 18, "killed with the supervisor";
    Idmapped = 19, "work tree idmapped to an unprivileged host uid";
    CgroupMemory = 20, "memory limited by cgroup";
    CgroupTasks = 21, "tasks limited by cgroup";
    CgroupCpu = 22, "CPU limited by cgroup";
    PrivateCopy = 25, "work tree held in a private copy";
    ProcessSet = 26, "processes adopted by init, killed together and seen to be gone";
    SocketsRefused = 27, "network sockets refused by seccomp";
    MetadataServed = 28, "changes of mode, owner and times done by the supervisor beneath what is private";
    CapabilitiesDropped = 29, "effective, permitted, inheritable and ambient capability sets empty";
    OpenFilesLimit = 30, "rlimit: open files";
    Listener = 24, "refused calls and executed programs reported by seccomp";
    CoreDumps = 23, "core dumps stopped, also for a core_pattern that is a pipe or a socket";
    DiskLayer = 40, "layers of overlays in a private directory on disk, whose size is watched and not limited";
}

/// Mechanisms in force, and versions where they have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    bits: u64,
    /// Landlock ABI whose rights are handled.
    pub landlock_abi: u32,
}

impl Enforced {
    pub(crate) fn new(bits: u64, landlock_abi: u32) -> Self {
        Self { bits, landlock_abi }
    }

    pub(crate) fn add(&mut self, mechanism: Mechanism) {
        self.bits |= mechanism.bit();
    }

    /// True where `mechanism` is in force.
    pub fn has(&self, mechanism: Mechanism) -> bool {
        self.bits & mechanism.bit() != 0
    }

    /// The mechanisms in force.
    pub fn mechanisms(&self) -> Vec<Mechanism> {
        Mechanism::ALL.iter().copied().filter(|m| self.has(*m)).collect()
    }

    /// What `spec` asks for at its level and is not in force, in words; empty means that it holds.
    pub fn shortfall(&self, spec: &SandboxSpec) -> Vec<String> {
        let needed = match spec.level {
            Level::Full => Self::needed_for_full(spec),
            Level::Landlock => Self::needed_for_landlock(spec),
        };
        needed.into_iter().filter(|m| !self.has(*m)).map(|m| format!("missing: {}", m.what())).collect()
    }

    fn needed_for_landlock(spec: &SandboxSpec) -> Vec<Mechanism> {
        use Mechanism as M;
        let mut needed = vec![
            M::ProcessSet,
            M::OpenFilesLimit,
            M::CapabilitiesDropped,
            M::NoNewPrivs,
            M::Landlock,
            M::LandlockScope,
            M::Seccomp,
            M::NewSession,
            M::DescriptorsClosed,
            M::DeathWatch,
        ];
        if spec.network == Network::None {
            needed.push(M::SocketsRefused);
        }
        if spec.tree.is_some() {
            needed.push(M::PrivateCopy);
        }
        needed
    }

    fn needed_for_full(spec: &SandboxSpec) -> Vec<Mechanism> {
        use Mechanism as M;
        let mut needed = vec![
            M::UserNamespace,
            M::MountNamespace,
            M::PidNamespace,
            M::IpcNamespace,
            M::ProcMasked,
            M::Rlimits,
            M::CapabilitiesEmpty,
            M::NoNewPrivs,
            M::Landlock,
            M::Seccomp,
            M::NewSession,
            M::DescriptorsClosed,
            M::DeathWatch,
        ];
        needed.push(match spec.store {
            Store::Memory => M::DiskLimit,
            Store::Disk => M::DiskLayer,
        });
        if spec.network == Network::None {
            needed.push(M::NetworkNamespace);
        }
        if spec.tree.is_some() {
            needed.push(M::Overlay);
        }
        needed
    }
}
