//! Starting one of a run's sandboxes: specification, cgroup, identity, and what of all that is not in force.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proctor_sandbox::cgroup::{Cgroup, CgroupLimits};
use proctor_sandbox::enforced::Mechanism;
use proctor_sandbox::error::LaunchError;
use proctor_sandbox::host::{self, Facts as HostFacts};
use proctor_sandbox::launch::{Descriptors, Launcher};
use proctor_sandbox::running::Running;
use proctor_sandbox::seed::Seed;
use proctor_sandbox::spec::{self, InjectedFile, Level, Mount, Program, SandboxSpec, Store, Tree};
use rustix::fs::fstat;

use super::confined::{self, Copied};
use super::disk_watch::DiskWatch;
use super::identity::{HostId, IdentityError};
use super::interrupt::StopFlag;
use super::limits::InForce;
use super::plan::Plan;
use super::private_dirs::{PrivateDir, PrivateDirError};
use super::state_dirs;
use super::view;
use super::watch::Watch;
use super::watch::refused::Ear;
use crate::mend;
use crate::profile::{LayerPlace, Limits, Network};

/// Open files of one process.
pub(super) const OPEN_FILES: u64 = 65_536;
/// By how much RLIMIT_NPROC stands above a pids cgroup's limit: it would be asked first, and keeps no count of what it
/// refuses.
const BEHIND_CGROUP: u64 = 64;
/// Inodes of the private file systems: one for each 16 KiB, within reason.
const INODES: std::ops::RangeInclusive<u64> = 65_536..=1_048_576;

/// One sandbox of the run.
pub struct Wanted {
    /// `backend`, `test` or `review`: part of the cgroup's name.
    pub role: &'static str,
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Files put inside, beside the made-up ones.
    pub files: Vec<InjectedFile>,
    /// Network.
    pub net: Network,
    /// Whether the tree may be written (into its private layer).
    pub writable: bool,
    /// Paths that are masked.
    pub hidden: Vec<PathBuf>,
    /// Changes made to the tree before the start.
    pub tree_seed: Seed,
    /// Descriptors 0, 1, 2 and further ones.
    pub stdio: Vec<OwnedFd>,
    /// The level.
    pub level: Level,
    /// Whether descriptor 0 is a pseudo-terminal that becomes the controlling one.
    pub terminal: bool,
    /// Asked while something long is prepared.
    pub stop: StopFlag,
}

/// Ends a sandbox when it goes, whoever else still holds it: threads that wait for it do, and do not let go where the
/// run's own thread panics.
pub(super) struct Ends(Arc<Running>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A started sandbox.
pub struct Started {
    /// The first to go: nothing is alive when what is the sandbox's goes.
    pub(super) _ends: Ends,
    /// The sandbox.
    pub running: Arc<Running>,
    /// Guarantees that are not in force.
    pub missing: Vec<String>,
    /// Bytes of memory that only a watcher holds.
    pub watch_memory: Option<u64>,
    /// Its limits, and what holds each.
    pub limits: InForce,
    /// At level `landlock` the copy that it works on; else the overlay's upper layer is the sandbox's.
    pub copied: Option<Arc<Copied>>,
    /// The watch over what lies on a disk, where nothing limits it: layers, or that copy.
    pub disk_watch: Option<Arc<DiskWatch>>,
    /// The directory of layers on disk. Behind `running`, which is dead when it is dropped.
    pub layers: Option<PrivateDir>,
    /// Held while the sandbox lives.
    pub identity: HostId,
    /// Who answers its listener; taken when it is over.
    pub(super) watch: Option<Watch>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program could not be executed: the sandbox stands.
    #[error("{0}")]
    Program(LaunchError),
    /// The sandbox is not to be had.
    #[error("{0}")]
    Sandbox(LaunchError),
    /// No host uid.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A limit that the operator set cannot be enforced here.
    #[error("{0}")]
    Limit(String),
    /// No place on disk.
    #[error(transparent)]
    PrivateDir(#[from] PrivateDirError),
    /// A signal came before it was there.
    #[error("interrupted while the sandbox was prepared")]
    Interrupted,
    /// Neither place for layers can be had.
    #[error("neither memory nor disk can hold the sandbox's layers: in memory: {memory}; on disk: {disk}")]
    Layers {
        /// Why not in memory.
        memory: LaunchError,
        /// Why not on disk.
        disk: Box<StartError>,
    },
}

impl StartError {
    /// What to do about the host, where that is known and not in the text.
    pub fn mend(&self, state: &Path, facts: &HostFacts) -> Option<String> {
        match self {
            Self::Sandbox(error @ LaunchError::Step(_)) => Some(mend::of(error, facts)),
            Self::Sandbox(LaunchError::Spec(_)) => {
                Some("this is about the options and not about the host: change what the message names".into())
            }
            Self::Identity(error) => error.mend(facts),
            Self::Layers { memory, disk } => match &**disk {
                Self::Sandbox(error) => Some(mend::of_layers(memory, error, state, facts)),
                other => other.mend(state, facts),
            },
            _ => None,
        }
    }
}

/// Bytes of the private tmpfs: what was set, or the default within half of the memory that backs them.
pub fn disk_bytes(limits: &Limits, memory: u64) -> u64 {
    if limits.disk.explicit { limits.disk.value } else { limits.disk.value.min(memory / 2) }
}

/// Inodes of the private file systems of so many bytes.
pub fn inodes(disk: u64) -> u64 {
    (disk / (16 << 10)).clamp(*INODES.start(), *INODES.end())
}

/// Where the layers of one sandbox lie, and what is made of the limit.
struct Place {
    store: Store,
    /// Bytes of the tmpfs.
    tmpfs: u64,
    /// Bytes of everything.
    disk: u64,
}

impl Place {
    fn new(store: Store, limits: &Limits, memory: u64) -> Self {
        match store {
            Store::Memory => {
                let disk = disk_bytes(limits, memory);
                Self { store, tmpfs: disk, disk }
            }
            Store::Disk => Self { store, tmpfs: limits.disk.value.min(memory / 2), disk: limits.disk.value },
        }
    }

    /// At level `landlock`, which has no layers and no tmpfs: everything is on disk.
    fn landlock(limits: &Limits) -> Self {
        Self { store: Store::Memory, tmpfs: limits.disk.value, disk: limits.disk.value }
    }
}

/// The specification of one sandbox.
fn specification(
    plan: &Plan,
    wanted: &Wanted,
    identity: spec::Identity,
    place: &Place,
) -> Result<SandboxSpec, LaunchError> {
    let root = plan.repo.root_path();
    let stat = fstat(plan.repo.root_fd())
        .map_err(|e| LaunchError::Launcher(format!("fstat of the work tree: {e}")))?;
    let mut files = view::files(wanted.net);
    files.extend(wanted.files.iter().cloned());
    Ok(SandboxSpec {
        level: Level::Full,
        program: Some(Program { argv: wanted.argv.clone(), env: wanted.env.clone(), cwd: root.to_owned() }),
        identity,
        view: wanted.mounts.clone(),
        files,
        tree: Some(Tree {
            path: root.to_owned(),
            dev: stat.st_dev,
            ino: stat.st_ino,
            uid: stat.st_uid,
            gid: stat.st_gid,
            writable: wanted.writable,
            hidden: wanted.hidden.clone(),
        }),
        network: view::network(wanted.net),
        hostname: view::HOSTNAME.into(),
        watched: true,
        // What a test or a reviewer lacks is granted by other options.
        watch_paths: plan.learning && wanted.role == "backend",
        log_denials: false,
        limits: spec::Limits {
            disk: place.tmpfs,
            inodes: inodes(place.tmpfs),
            tasks: plan.resolved.options.limits.pids.value,
            open_files: OPEN_FILES,
            file_size: (wanted.level == Level::Landlock || place.store == Store::Disk)
                .then(|| place.disk.saturating_add((place.disk / 4).max(64 << 20))),
        },
        store: place.store,
    })
}

/// Starts a sandbox. Returns when its program was executed.
///
/// Where its layers lie is settled by trying: in memory first, and on disk where the kernel refuses that.
///
/// # Errors
/// Nothing of it is alive.
pub fn start(
    launcher: &Launcher,
    plan: &Plan,
    run_id: &str,
    memory: u64,
    wanted: Wanted,
) -> Result<Started, StartError> {
    let limits = &plan.resolved.options.limits;
    let chosen = plan.resolved.options.layer;
    let place = |store| Place::new(store, limits, memory);
    if wanted.level == Level::Landlock {
        if chosen == LayerPlace::Memory {
            return Err(StartError::Limit(
                "--layer memory was given and level landlock works on a copy on disk: leave the option out, or run where level full is to be had".into(),
            ));
        }
        if limits.disk.explicit && chosen != LayerPlace::Disk {
            return Err(StartError::Limit(
                "--disk was given and level landlock has no file system of its own to limit: leave the option out, say --layer disk too, with which it is watched, or run where level full is to be had".into(),
            ));
        }
        return start_in(launcher, plan, run_id, &Place::landlock(limits), &wanted);
    }
    if chosen == LayerPlace::Disk {
        return start_in(launcher, plan, run_id, &place(Store::Disk), &wanted);
    }
    match start_in(launcher, plan, run_id, &place(Store::Memory), &wanted) {
        Err(StartError::Sandbox(refused)) if chosen == LayerPlace::Auto && host::memory_refused(&refused) => {
            if limits.disk.explicit {
                return Err(StartError::Limit(format!(
                    "--disk was given and nothing can enforce it here: this kernel has no private layers in memory ({refused}); leave the option out, or say --layer disk too, with which it is watched"
                )));
            }
            start_in(launcher, plan, run_id, &place(Store::Disk), &wanted).map_err(|disk| match disk {
                disk @ (StartError::Sandbox(_) | StartError::PrivateDir(_)) => {
                    StartError::Layers { memory: refused, disk: Box::new(disk) }
                }
                other => other,
            })
        }
        other => other,
    }
}

fn start_in(
    launcher: &Launcher,
    plan: &Plan,
    run_id: &str,
    place: &Place,
    wanted: &Wanted,
) -> Result<Started, StartError> {
    let limits = &plan.resolved.options.limits;
    let identity = HostId::take(state_dirs::uid_locks())?;
    let name = format!("proctor-{run_id}-{}", wanted.role);
    let mut spec = specification(plan, wanted, identity.identity, place).map_err(StartError::Sandbox)?;
    let descriptor = |e: std::io::Error| {
        StartError::Sandbox(LaunchError::Launcher(format!("no descriptor is to be had: {e}")))
    };
    let mut missing = Vec::new();
    let mut copied = None;
    let mut watched = None;
    if wanted.level == Level::Landlock {
        let confined =
            confined::confine(plan, spec, run_id, (wanted.role, &wanted.tree_seed), wanted.stop.as_bool())
                .map_err(|e| {
                    if wanted.stop.is_set() { StartError::Interrupted } else { StartError::Sandbox(e) }
                })?;
        missing = confined.missing;
        spec = confined.spec;
        let dir = confined.copied.area.descriptor().map_err(descriptor)?;
        watched = Some(DiskWatch::area(dir, place.disk, inodes(place.disk)));
        copied = Some(confined.copied);
    }
    let layers = match place.store {
        Store::Memory => None,
        Store::Disk => {
            Some(PrivateDir::for_layers(&plan.dirs.state, run_id, wanted.role, identity.identity)?)
        }
    };
    if let Some(layers) = &layers {
        let dir = layers.descriptor().map_err(descriptor)?;
        watched = Some(DiskWatch::layers(dir, place.disk, inodes(place.disk)));
        missing.push("disk limit: the layers of the work tree and of overlays lie on disk, where their size is watched, which is not enforcement".to_owned());
    }
    let disk_watch = watched.transpose().map_err(|e| {
        StartError::Sandbox(LaunchError::Launcher(format!("what is written to disk cannot be watched: {e}")))
    })?;
    let wanted_limits = CgroupLimits {
        memory: Some(limits.memory.value),
        tasks: Some(limits.pids.value + 1),
        cpus: limits.cpus,
    };
    let cgroup = Cgroup::create(&name, &wanted_limits).map_err(|e| {
        StartError::Limit(format!("a cgroup was made and cannot be limited: {e}; see `proctor doctor`"))
    })?;
    let has = |f: fn(&Cgroup) -> bool| cgroup.as_ref().is_some_and(f);
    if has(Cgroup::limits_tasks) {
        spec.limits.tasks += BEHIND_CGROUP;
    }
    let in_force = InForce::new(limits, &spec, cgroup.as_ref(), place.disk);
    let mut watch_memory = None;
    let memory_enforced = has(Cgroup::limits_memory);
    if !memory_enforced && limits.memory.explicit {
        return Err(StartError::Limit(
            "--memory was given and no cgroup can enforce it here: run under a delegated cgroup (systemd-run --user --scope -p Delegate=yes), or leave the option out".into(),
        ));
    }
    if !memory_enforced {
        watch_memory = Some(limits.memory.value);
        missing.push("memory limit: no cgroup to be had; the process tree's resident size is watched, which is not enforcement".to_owned());
    }
    if !in_force.holds_tasks() && limits.pids.explicit {
        return Err(StartError::Limit(
            "--pids-limit was given and no cgroup can enforce it here: at level landlock an rlimit counts all tasks of this user; run under a delegated cgroup (systemd-run --user --scope -p Delegate=yes), or leave the option out".into(),
        ));
    } else if !in_force.holds_tasks() {
        missing.push("task limit: no cgroup to be had, and at level landlock an rlimit would count all tasks of this user".to_owned());
    }
    if limits.cpus.is_some() && !has(Cgroup::limits_cpu) {
        return Err(StartError::Limit(
            "--cpus was given and no cgroup can enforce it here: run under a delegated cgroup (systemd-run --user --scope -p Delegate=yes), or leave the option out".into(),
        ));
    }
    let (upper_seed, tree_seed) = match wanted.level {
        Level::Full => (plan.git.seed.clone(), wanted.tree_seed.clone()),
        // The copy has them already.
        Level::Landlock => (Seed::new(), Seed::new()),
    };
    let stdio: Result<Vec<OwnedFd>, _> = wanted.stdio.iter().map(OwnedFd::try_clone).collect();
    let descriptors = Descriptors {
        stdio: stdio.map_err(descriptor)?,
        upper_seed,
        tree_seed,
        cgroup,
        terminal: wanted.terminal,
        layers: layers.as_ref().map(PrivateDir::descriptor).transpose().map_err(descriptor)?,
    };
    let cwd = spec.program.as_ref().map_or_else(PathBuf::new, |program| program.cwd.clone());
    // Before anything is refused to it.
    let ear = Ear::open(spec.identity.host_uid, spec.level);
    spec.log_denials = ear.hears();
    let running = launcher.launch(&spec, descriptors).map_err(|e| match e {
        LaunchError::Exec { .. } => StartError::Program(e),
        e => StartError::Sandbox(e),
    })?;
    let running = Arc::new(running);
    let ends = Ends(Arc::clone(&running));
    // At once: whoever makes a call inside waits for it.
    let watch = match running.notifier() {
        Some(notifier) => {
            Some(Watch::start(notifier, Arc::clone(&running), &wanted.argv, &cwd, ear).map_err(|e| {
                StartError::Sandbox(LaunchError::Launcher(format!(
                    "no thread to watch the sandbox with: {e}"
                )))
            })?)
        }
        None => {
            missing.push("trace of programs and refused calls: a seccomp filter that was there before holds the only listener there can be".to_owned());
            None
        }
    };
    if wanted.level == Level::Landlock {
        missing.extend(confined::NEVER.iter().map(|text| (*text).to_owned()));
        missing.extend(confined::also_missing());
        if !running.enforced().has(Mechanism::MetadataServed) {
            missing.push(
                "changes of mode, owner and times: refused, because another seccomp listener is in force"
                    .to_owned(),
            );
        }
    }
    if wanted.level == Level::Full && !running.enforced().has(Mechanism::UtsNamespace) {
        missing.push(
            "own host name: a filter over this process refuses sethostname, and the host's name is seen"
                .to_owned(),
        );
    }
    if !running.enforced().has(Mechanism::LandlockScope) {
        missing
            .push("signal and abstract socket scoping: the kernel's Landlock is older than ABI 6".to_owned());
    }
    if !running.enforced().has(Mechanism::CoreDumps) && cores_lead_out() {
        missing.push(
            "core dumps: the caller's hard RLIMIT_CORE is 0, which does not keep them from the host's core_pattern program; start with `ulimit -Hc 1` or higher".to_owned(),
        );
    }
    if wanted.net == Network::Host {
        missing.push("network isolation: the host's network was asked for".to_owned());
    }
    if rustix::process::geteuid().as_raw() != 0 {
        let own = rustix::process::getegid();
        let others = rustix::process::getgroups().map_or(true, |groups| groups.iter().any(|g| *g != own));
        if others {
            missing.push("supplementary groups: an ordinary user cannot drop the caller's own".to_owned());
        }
    }
    Ok(Started {
        _ends: ends,
        running,
        missing,
        watch_memory,
        limits: in_force,
        copied,
        disk_watch: disk_watch.map(Arc::new),
        layers,
        identity,
        watch,
    })
}

/// Whether the host hands core dumps to a program (core(5)). Unreadable counts as yes.
fn cores_lead_out() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/core_pattern").map_or(true, |pattern| leads_out(&pattern))
}

fn leads_out(core_pattern: &str) -> bool {
    core_pattern.starts_with(['|', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pipes_and_sockets_take_cores_out() {
        assert!(leads_out("|/usr/lib/systemd/systemd-coredump %P"));
        assert!(leads_out("@/run/coredump.sock"));
        assert!(!leads_out("core"));
        assert!(!leads_out("/var/crash/core.%p"));
    }
}
