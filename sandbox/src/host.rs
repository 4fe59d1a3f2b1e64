//! What this host offers. The one answer that counts is [`probe`]: a whole sandbox, built by the ordinary path around
//! an empty directory and ended at once. The [`Facts`] beside it only explain a failure; nothing is decided by them.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::enforced::Enforced;
use crate::error::LaunchError;
use crate::launch::{Descriptors, Launcher};
use crate::seed::Seed;
use crate::spec::{Identity, Level, Limits, Mount, Network, SandboxSpec, Tree};

/// Settings of the kernel that explain why a probe fails. `None`: the kernel has no such setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<u64>,
    /// Debian's `kernel.unprivileged_userns_clone`.
    pub unprivileged_userns_clone: Option<u64>,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`.
    pub apparmor_restricts_userns: Option<u64>,
    /// Landlock's ABI; 0 where it is absent.
    pub landlock_abi: u32,
    /// True where `overlay` stands in `/proc/filesystems` (a module that is not loaded does not).
    pub overlay_registered: bool,
    /// True where seccomp filters can kill a process.
    pub seccomp: bool,
    /// `docker`, `podman` or another word, where this looks like a container.
    pub container: Option<String>,
    /// `kernel.core_pattern`.
    pub core_pattern: String,
}

impl Facts {
    /// Reads them; what cannot be read is absent.
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).ok().map(|t| t.trim().to_owned());
        let number = |path: &str| text(path).and_then(|t| t.parse().ok());
        let container = if Path::new("/.dockerenv").exists() {
            Some("docker".to_owned())
        } else if Path::new("/run/.containerenv").exists() {
            Some("podman".to_owned())
        } else {
            None
        };
        Self {
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts_userns: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            landlock_abi: crate::landlock::kernel_abi(),
            overlay_registered: text("/proc/filesystems")
                .is_some_and(|t| t.lines().any(|l| l.split_whitespace().last() == Some("overlay"))),
            seccomp: text("/proc/sys/kernel/seccomp/actions_avail")
                .is_some_and(|t| t.contains("kill_process")),
            container,
            core_pattern: text("/proc/sys/kernel/core_pattern").unwrap_or_default(),
        }
    }
}

/// Builds a sandbox of level `full` around the directory `tree` and ends it at once.
///
/// # Errors
/// The step that failed: this host does not reach level `full`.
pub fn probe(launcher: &Launcher, identity: Identity, tree: &Path) -> Result<Enforced, LaunchError> {
    probe_level(launcher, Level::Full, identity, tree)
}

/// The same for either level; for level `landlock`, `tree` must be the sandbox's own directory.
///
/// # Errors
/// The step that failed: this host does not reach the level.
pub fn probe_level(
    launcher: &Launcher,
    level: Level,
    identity: Identity,
    tree: &Path,
) -> Result<Enforced, LaunchError> {
    let io = |what: &str, e: std::io::Error| LaunchError::Launcher(format!("{what}: {e}"));
    let tree = tree.canonicalize().map_err(|e| io("the probe's directory", e))?;
    let meta = fs::metadata(&tree).map_err(|e| io("the probe's directory", e))?;
    let spec = SandboxSpec {
        level,
        program: None,
        identity,
        view: match level {
            Level::Full => vec![Mount::Private { target: "/tmp".into(), mode: 0o1777 }],
            Level::Landlock => Vec::new(),
        },
        files: Vec::new(),
        tree: Some(Tree {
            path: tree,
            dev: meta.dev(),
            ino: meta.ino(),
            uid: meta.uid(),
            gid: meta.gid(),
            writable: true,
            hidden: Vec::new(),
        }),
        network: Network::None,
        hostname: "probe".into(),
        watched: false,
        limits: Limits { disk: 1 << 20, inodes: 256, tasks: 16, open_files: 64 },
    };
    let null = || -> Result<OwnedFd, LaunchError> {
        Ok(fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|e| io("/dev/null", e))?
            .into())
    };
    // What every run needs of the private file system: a directory that hides the lower one (user xattrs on tmpfs).
    let mut upper_seed = Seed::new();
    if level == Level::Full {
        upper_seed.opaque_dir(b"probe", 0o755).map_err(|e| LaunchError::Spec(e.to_string()))?;
    }
    let stdio = vec![null()?, null()?, null()?];
    let descriptors = Descriptors { stdio, upper_seed, ..Descriptors::default() };
    let running = launcher.launch(&spec, descriptors)?;
    let ended = running.wait()?;
    if ended.code == Some(0) {
        Ok(running.enforced().clone())
    } else {
        Err(LaunchError::Launcher(format!("the probe ended with {ended:?}")))
    }
}
