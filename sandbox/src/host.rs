//! What this host offers. The one answer that counts is [`probe`]: a whole sandbox, built by the ordinary path around
//! an empty directory and ended at once. The [`Facts`] beside it only explain a failure; nothing is decided by them.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::enforced::Enforced;
use crate::error::{LaunchError, Step};
use crate::launch::{Descriptors, Launcher};
use crate::seed::Seed;
use crate::spec::{Identity, Level, Limits, Mount, Network, SandboxSpec, Store, Tree};

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
    /// What this process itself is held by.
    pub own: OwnFacts,
}

/// What holds the process that asks: it, not the kernel, may be the reason of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnFacts {
    /// The kernel's release.
    pub kernel: String,
    /// True for host root or a container's root: effective uid 0.
    pub root: bool,
    /// Effective capabilities, as bits (capabilities(7)).
    pub capabilities: u64,
    /// True where a seccomp filter is over this process already.
    pub filtered: bool,
    /// The AppArmor profile that confines this process; `None` where it is `unconfined` or there is no AppArmor.
    pub apparmor: Option<String>,
    /// True in a user namespace that maps not all ids: a container that has one of its own.
    pub ids_mapped: bool,
    /// True where the root directory is no mount: a chroot, in which nobody may make a user namespace.
    pub chroot: bool,
    /// What is mounted below `/proc`.
    pub proc_covered: Vec<String>,
    /// The type of the root file system.
    pub root_fs: Option<String>,
}

impl OwnFacts {
    fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // proc(5): the fifth field is the mount point, the file system's type follows a lone hyphen.
        let mounts: Vec<(&str, &str)> = mounts
            .lines()
            .filter_map(|line| {
                let (left, right) = line.split_once(" - ")?;
                Some((left.split(' ').nth(4)?, right.split(' ').next()?))
            })
            .collect();
        Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            root: nix::unistd::geteuid().is_root(),
            capabilities: field("CapEff:").and_then(|t| u64::from_str_radix(t, 16).ok()).unwrap_or(0),
            filtered: field("Seccomp:") == Some("2"),
            apparmor: confinement(),
            ids_mapped: fs::read_to_string("/proc/self/uid_map")
                .is_ok_and(|t| !t.split_whitespace().eq(["0", "0", "4294967295"])),
            chroot: !mounts.is_empty() && !mounts.iter().any(|(at, _)| *at == "/"),
            proc_covered: mounts
                .iter()
                .filter(|(at, _)| at.starts_with("/proc/"))
                .map(|(at, _)| (*at).to_owned())
                .collect(),
            root_fs: mounts.iter().rfind(|(at, _)| *at == "/").map(|(_, kind)| (*kind).to_owned()),
        }
    }
}

fn confinement() -> Option<String> {
    let current = ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"];
    let text = current.iter().find_map(|path| fs::read_to_string(path).ok())?;
    // SELinux answers in the second file too, with colons.
    let profile = text.trim_end_matches(['\n', '\0']);
    let confined = profile.ends_with(')') && !profile.starts_with("unconfined");
    confined.then(|| profile.to_owned())
}

/// `docker`, `podman`, `kubernetes` or another word where marks of a container are found.
fn container() -> Option<String> {
    let marks = [
        ("/var/run/secrets/kubernetes.io", "kubernetes"),
        ("/.dockerenv", "docker"),
        ("/run/.containerenv", "podman"),
    ];
    if let Some((_, word)) = marks.iter().find(|(path, _)| Path::new(path).exists()) {
        return Some((*word).to_owned());
    }
    let groups = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    let marks = [("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("lxc", "lxc")];
    if let Some((_, word)) = marks.iter().find(|(part, _)| groups.contains(part)) {
        return Some((*word).to_owned());
    }
    // systemd's container interface: written by nspawn and others.
    fs::read_to_string("/run/systemd/container").ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

impl Facts {
    /// Reads them; what cannot be read is absent.
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).ok().map(|t| t.trim().to_owned());
        let number = |path: &str| text(path).and_then(|t| t.parse().ok());
        Self {
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts_userns: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            landlock_abi: crate::landlock::kernel_abi(),
            overlay_registered: text("/proc/filesystems")
                .is_some_and(|t| t.lines().any(|l| l.split_whitespace().last() == Some("overlay"))),
            seccomp: text("/proc/sys/kernel/seccomp/actions_avail")
                .is_some_and(|t| t.contains("kill_process")),
            container: container(),
            core_pattern: text("/proc/sys/kernel/core_pattern").unwrap_or_default(),
            own: OwnFacts::read(),
        }
    }
}

/// Whether a sandbox could not be had for what its tmpfs cannot do as an overlay's upper layer, so that
/// [`Store::Disk`] may serve.
pub fn memory_refused(error: &LaunchError) -> bool {
    matches!(error, LaunchError::Step(e) if matches!(e.step, Step::SeedUpper | Step::OverlayMount))
}

/// Builds a sandbox of level `full` around the directory `tree` and ends it at once; with `layers`, a directory as in
/// [`Descriptors::layers`], its overlay's layers lie there, and else in memory.
///
/// # Errors
/// The step that failed: this host does not reach level `full` in that way.
pub fn probe(
    launcher: &Launcher,
    identity: Identity,
    tree: &Path,
    layers: Option<OwnedFd>,
) -> Result<Enforced, LaunchError> {
    build(launcher, Level::Full, identity, tree, layers)
}

/// The same for level `landlock`, where `tree` must be the sandbox's own directory.
///
/// # Errors
/// The step that failed: this host does not reach the level.
pub fn probe_landlock(launcher: &Launcher, identity: Identity, tree: &Path) -> Result<Enforced, LaunchError> {
    build(launcher, Level::Landlock, identity, tree, None)
}

fn build(
    launcher: &Launcher,
    level: Level,
    identity: Identity,
    tree: &Path,
    layers: Option<OwnedFd>,
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
        watch_paths: false,
        log_denials: false,
        limits: Limits { disk: 1 << 20, inodes: 256, tasks: 16, open_files: 64, file_size: None },
        store: if layers.is_some() { Store::Disk } else { Store::Memory },
    };
    let null = || -> Result<OwnedFd, LaunchError> {
        Ok(fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|e| io("/dev/null", e))?
            .into())
    };
    // What every run needs of the private file system: a directory that hides the lower one (user xattrs).
    let mut upper_seed = Seed::new();
    if level == Level::Full {
        upper_seed.opaque_dir(b"probe", 0o755).map_err(|e| LaunchError::Spec(e.to_string()))?;
    }
    let stdio = vec![null()?, null()?, null()?];
    let descriptors = Descriptors { stdio, upper_seed, layers, ..Descriptors::default() };
    let running = launcher.launch(&spec, descriptors)?;
    let ended = running.wait()?;
    if ended.code == Some(0) {
        Ok(running.enforced().clone())
    } else {
        Err(LaunchError::Launcher(format!("the probe ended with {ended:?}")))
    }
}
