//! What a sandbox is to be: plain data, with no policy and nothing that touches the system.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One sandbox and the program in it. Descriptors travel beside it, in [`crate::launch::Descriptors`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// How much of the kernel it stands on.
    pub level: Level,
    /// Program, arguments, environment and working directory inside. `None` starts nothing: the sandbox is built,
    /// checks itself and ends with exit code 0 (a probe of the whole chain).
    pub program: Option<Program>,
    /// Who the program is, inside and outside.
    pub identity: Identity,
    /// Mounts of the private root, in the order in which they are made.
    pub view: Vec<Mount>,
    /// Files written into the private root, read-only for the program.
    pub files: Vec<InjectedFile>,
    /// The work tree.
    pub tree: Option<Tree>,
    /// The network.
    pub network: Network,
    /// Host name inside.
    pub hostname: String,
    /// Whether refused calls, executed programs and attempts to connect are reported ([`crate::notify`]). Somebody must
    /// serve the notifier then. Where the host cannot do it, the sandbox starts without, and
    /// [`crate::enforced::Mechanism::Listener`] is not in force.
    pub watched: bool,
    /// Of a watched sandbox: also tell of paths that are looked for where nothing is. Every open(2) and stat(2) costs more
    /// for it.
    pub watch_paths: bool,
    /// Whether the kernel's audit is told what Landlock refuses the program ([`crate::audit`]): for a caller that reads
    /// it. Older kernels (Landlock ABI 6 and before) tell nothing in any case.
    pub log_denials: bool,
    /// Limits that the kernel enforces from inside; the cgroup's are in [`crate::cgroup`].
    pub limits: Limits,
    /// Where the private layers of overlays lie.
    pub store: Store,
}

/// Where the private layers of overlays (the work tree's and those of [`Mount::Overlay`]) lie. Everything else that is
/// private is a tmpfs in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// On the sandbox's own tmpfs, whose size is limited. Needs user extended attributes there (Linux 6.6).
    Memory,
    /// In the directory [`crate::launch::Descriptors::layers`], which the caller makes, watches and removes: nothing
    /// limits its size. Needs a file system with user extended attributes that can be an overlay's upper layer.
    Disk,
}

/// The two levels of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Namespaces, a private root, overlays, Landlock and seccomp.
    Full,
    /// Landlock (ABI 6 or later) and seccomp alone, for where no namespace is to be had. Nothing can be mounted: the
    /// work tree is a private copy that the caller made, [`Mount::Private`] a directory that the caller made, and a
    /// [`Mount::Bind`] shows a path where it is. There are no overlays, links, files of the caller's or hidden paths.
    Landlock,
}

/// Whether a mask stands for a directory, whose names are hidden as well. What cannot be looked at counts as one.
pub fn masks_a_directory(mask: &std::path::Path) -> bool {
    std::fs::symlink_metadata(mask).map_or(true, |meta| meta.is_dir())
}

/// A program to execute.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    /// Arguments; the first names the program, looked up in `PATH` of `env` where it has no slash.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory inside.
    pub cwd: PathBuf,
}

/// User and group ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id inside; never 0.
    pub inside_uid: u32,
    /// Group id inside; never 0.
    pub inside_gid: u32,
    /// Host user id that the inside id stands for: the caller's own as an ordinary user, an unused one as root.
    pub host_uid: u32,
    /// Host group id likewise.
    pub host_gid: u32,
}

/// One mount of the private root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mount {
    /// A host path shown at `target`, with everything mounted below it.
    Bind {
        /// Absolute host path, without symbolic links on the way: one that is there after all is an error.
        source: PathBuf,
        /// Absolute path inside.
        target: PathBuf,
        /// Whether writes reach the host.
        writable: bool,
    },
    /// A host directory whose changes are kept privately and thrown away.
    Overlay {
        /// Absolute host path, likewise.
        source: PathBuf,
        /// Absolute path inside.
        target: PathBuf,
    },
    /// An empty private directory, writable, thrown away.
    Private {
        /// Absolute path inside.
        target: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link in the private root.
    Symlink {
        /// Absolute path inside of the link.
        link: PathBuf,
        /// What it points to.
        to: PathBuf,
    },
    /// An existing path inside, hidden behind an empty file or directory of mode 000.
    Mask {
        /// Absolute path inside; one that does not exist there is no error, a symbolic link on the way is.
        target: PathBuf,
    },
}

impl Mount {
    /// Where it shows something mounted: not for links and masks.
    pub(crate) fn directory(&self) -> Option<&PathBuf> {
        match self {
            Self::Bind { target, .. } | Self::Overlay { target, .. } | Self::Private { target, .. } => {
                Some(target)
            }
            Self::Symlink { .. } | Self::Mask { .. } => None,
        }
    }
}

/// A file of the private root that the caller provides. Below a mount of the view it is bound over, read-only as well;
/// not below a writable [`Mount::Bind`], where its name would be made on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectedFile {
    /// Absolute path inside.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub content: Vec<u8>,
}

/// The work tree: lower layer of an overlay that is mounted at its own path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Absolute host path, and path inside.
    pub path: PathBuf,
    /// Device of the directory that was checked; another one at the path is an error.
    pub dev: u64,
    /// Inode likewise.
    pub ino: u64,
    /// Owner of the directory.
    pub uid: u32,
    /// Group of the directory.
    pub gid: u32,
    /// Whether the program may write (into the private upper layer).
    pub writable: bool,
    /// Paths relative to the tree, masked by an empty file or directory of mode 000.
    pub hidden: Vec<PathBuf>,
}

/// The network of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A new network namespace with nothing but its own loopback.
    None,
    /// The caller's network namespace.
    Host,
}

/// Limits enforced from inside the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of the private tmpfs: `/tmp`, home and all other private directories together, and with [`Store::Memory`]
    /// the layers of overlays.
    pub disk: u64,
    /// Inodes of the private tmpfs.
    pub inodes: u64,
    /// RLIMIT_NPROC, which counts within the sandbox's own user namespace (Linux 5.14 and later).
    pub tasks: u64,
    /// RLIMIT_NOFILE.
    pub open_files: u64,
    /// RLIMIT_FSIZE in bytes, where no file system of the sandbox's own limits a file: also one that was removed while it
    /// is open, which nobody who looks can see.
    pub file_size: Option<u64>,
}
