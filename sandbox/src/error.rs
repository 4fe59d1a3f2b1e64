//! Errors of the sandbox: one variant for each kind of thing that can go wrong, one [`Step`] for each thing the
//! kernel is asked for, so that a failure says which step, on which path, with which errno.

use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Why a sandbox was not started. Nothing of it is alive when this is returned.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The specification contradicts itself or asks for what cannot be; found before any system call.
    #[error("the sandbox's specification is not usable: {0}")]
    Spec(String),
    /// A step failed in the launcher or in the child.
    #[error("{0}")]
    Step(#[from] StepError),
    /// The program could not be executed inside the sandbox.
    #[error("cannot execute {program:?} inside the sandbox: {errno}")]
    Exec {
        /// The program, as given.
        program: String,
        /// execve(2)'s error.
        errno: Errno,
    },
    /// Everything ran, but something that was asked for is not in force.
    #[error("the sandbox is weaker than asked for: {}", .0.join("; "))]
    Shortfall(Vec<String>),
    /// The launcher process is gone or answered nonsense.
    #[error("the sandbox launcher failed: {0}")]
    Launcher(String),
}

/// A failed step: what was asked of the kernel, on what, and its errno.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// The step.
    pub step: Step,
    /// The path, option or program concerned; may be empty.
    pub subject: String,
    /// The kernel's error number.
    pub errno: i32,
}

impl StepError {
    pub(crate) fn new(step: Step, subject: impl Into<String>, errno: Errno) -> Self {
        Self { step, subject: subject.into(), errno: errno as i32 }
    }

    /// The error number as a name and a sentence.
    pub fn errno(&self) -> Errno {
        Errno::from_raw(self.errno)
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.step.what())?;
        if !self.subject.is_empty() {
            write!(f, " ({})", self.subject)?;
        }
        write!(f, ": {}", self.errno())
    }
}

impl std::error::Error for StepError {}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $n:literal, $what:literal;)*) => {
        /// What the kernel is asked for, in about the order in which it is asked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[repr(u16)]
        #[serde(rename_all = "snake_case")]
        pub enum Step { $(#[doc = $what] $name = $n,)* }

        impl Step {
            /// The step as words that complete "cannot …" or stand before a colon.
            pub fn what(self) -> &'static str {
                match self { $(Step::$name => $what,)* }
            }

            pub(crate) fn from_raw(n: u16) -> Option<Self> {
                match n { $($n => Some(Step::$name),)* _ => None }
            }
        }
    };
}

steps! {
    Clone = 1, "creating the namespaces (clone3)";
    UidMap = 2, "writing the uid map of the user namespace";
    GidMap = 3, "writing the gid map of the user namespace";
    CgroupJoin = 4, "putting the child into its cgroup";
    IdmapNamespace = 5, "making the user namespace of an idmapped mount";
    IdmapOpen = 6, "opening a tree for an idmapped mount (open_tree)";
    IdmapSet = 7, "idmapping a mount (mount_setattr)";
    LandlockRuleset = 8, "creating the Landlock ruleset";
    Handshake = 9, "waiting for the launcher's go";
    Groups = 10, "dropping supplementary groups (setgroups)";
    SetGid = 11, "taking the inside group id (setresgid)";
    SetUid = 12, "taking the inside user id (setresuid)";
    DeathSignal = 13, "asking for a signal at the launcher's death (prctl PDEATHSIG)";
    SupervisorGone = 14, "the supervisor is gone";
    Propagation = 15, "making the mounts private (mount_setattr)";
    OpenSource = 16, "opening a mount's source";
    SourceChanged = 17, "the work tree at this path is not the one that was checked";
    StoreCreate = 18, "making the private tmpfs (fsopen, fsconfig, fsmount)";
    StoreAttach = 19, "attaching the private tmpfs (move_mount)";
    StoreDirs = 20, "making directories in the private tmpfs";
    RootMount = 21, "making the private root a mount (open_tree, move_mount)";
    Target = 22, "making a mount's target in the private root";
    BindClone = 23, "cloning a mount (open_tree)";
    BindFlags = 24, "restricting a mount (mount_setattr)";
    BindAttach = 25, "attaching a mount (move_mount)";
    ProcMount = 26, "mounting a fresh /proc";
    ProcMask = 27, "masking a kernel file below /proc";
    Devpts = 28, "mounting a private /dev/pts";
    SeedUpper = 29, "writing the prepared files into the upper layer";
    OverlayLower = 30, "attaching the overlay's lower layer";
    OverlayMount = 31, "mounting the overlay (fsopen, fsconfig, fsmount)";
    OverlayDetach = 32, "detaching the overlay's layers";
    SeedTree = 33, "writing the prepared files into the work tree's overlay";
    HiddenMask = 34, "masking a hidden path";
    InjectFile = 35, "writing a file into the private root";
    LoopbackUp = 36, "bringing the loopback interface up";
    RootReadOnly = 37, "making the private root read-only";
    PivotRoot = 38, "changing into the private root (pivot_root)";
    Hostname = 39, "setting the host name";
    Report = 40, "reporting to the supervisor";
    Fork = 41, "forking the program's process";
    Session = 42, "starting a new session (setsid)";
    Stdio = 43, "connecting standard input, output and error";
    Rlimit = 44, "setting a resource limit (setrlimit)";
    WorkingDirectory = 45, "changing to the working directory";
    Securebits = 46, "locking the securebits (prctl)";
    BoundingSet = 47, "emptying the capability bounding set (prctl)";
    Capabilities = 48, "dropping the capabilities (capset)";
    NoNewPrivs = 49, "setting no_new_privs (prctl)";
    LandlockRule = 50, "adding a Landlock rule";
    LandlockRestrict = 51, "enforcing Landlock (landlock_restrict_self)";
    Seccomp = 52, "installing the seccomp filter";
    CheckCapabilities = 53, "self-check: a capability is left";
    CheckNoNewPrivs = 54, "self-check: no_new_privs is not set";
    CheckSeccomp = 55, "self-check: seccomp is not in filter mode";
    CheckLandlock = 56, "self-check: Landlock does not refuse what it must";
    CheckDescriptors = 57, "self-check: a foreign descriptor is open";
    Exec = 58, "executing the program (execve)";
    CloseDescriptors = 59, "closing foreign descriptors (close_range)";
    Dumpable = 60, "making the init process non-dumpable (prctl)";
    Wait = 61, "waiting for the program (waitid)";
    Pidfd = 62, "naming a process by a descriptor (pidfd_open, pidfd_send_signal)";
    Subreaper = 63, "becoming the parent of orphans (prctl CHILD_SUBREAPER)";
    CheckScope = 64, "self-check: Landlock does not keep signals in";
    LayerDir = 70, "entering the layers' directory on disk";
}

/// Result of a step inside this crate.
pub(crate) type StepResult<T> = Result<T, StepError>;
