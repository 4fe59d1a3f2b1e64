//! cgroups(7) for one sandbox: version 2 where a delegated controller is to be had, version 1 where that is what
//! root has, nothing elsewhere. Plain file writes; the directory goes with the value.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// Limits for a cgroup; `None` leaves that controller alone.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CgroupLimits {
    /// Bytes of memory, swap included.
    pub memory: Option<u64>,
    /// Tasks.
    pub tasks: Option<u64>,
    /// CPUs: `1.5` is one and a half.
    pub cpus: Option<f64>,
}

/// A cgroup made for one sandbox; removed on drop, after the sandbox is dead.
#[derive(Debug)]
pub struct Cgroup {
    v2: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

/// What a finished sandbox used and ran into, as its cgroup counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupUsage {
    /// Largest use of memory in bytes.
    pub memory_peak: Option<u64>,
    /// Processes killed because memory ran out.
    pub oom_kills: u64,
    /// Refused forks.
    pub task_refusals: u64,
    /// CPU time in microseconds.
    pub cpu_micros: Option<u64>,
}

const V1_ROOT: &str = "/sys/fs/cgroup";

/// This process's cgroup in the hierarchy of `controller` (`""`: version 2), from `/proc/self/cgroup`.
fn own(controller: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let found =
            if controller.is_empty() { names.is_empty() } else { names.split(',').any(|n| n == controller) };
        found.then(|| path.to_owned())
    })
}

fn v1_dir(controller: &str) -> Option<PathBuf> {
    let dir = Path::new(V1_ROOT).join(controller).join(own(controller)?.trim_start_matches('/'));
    dir.join("cgroup.procs").exists().then_some(dir)
}

fn v2_dir() -> Option<PathBuf> {
    let dir = Path::new(V1_ROOT).join(own("")?.trim_start_matches('/'));
    let controllers = fs::read_to_string(dir.join("cgroup.controllers")).ok()?;
    ["memory", "pids"].iter().all(|c| controllers.split_whitespace().any(|have| have == *c)).then_some(dir)
}

fn write(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    fs::write(dir.join(file), value)
}

impl Cgroup {
    /// Makes a cgroup `name` below this process's own, with what can be limited of `limits`. `Ok(None)` where this
    /// process may not make one, or the host has none.
    ///
    /// # Errors
    /// A cgroup was made and a limit could not be written.
    pub fn create(name: &str, limits: &CgroupLimits) -> io::Result<Option<Self>> {
        if let Some(parent) = v2_dir() {
            return Self::create_v2(&parent, name, limits);
        }
        let mut made = Self { v2: None, memory: None, pids: None, cpu: None };
        // A directory is made only for a limit: one that nobody remembers would never be removed.
        if let Some(bytes) = limits.memory
            && let Some(dir) = made_below(v1_dir("memory"), name)
        {
            made.memory = Some(dir.clone());
            write(&dir, "memory.limit_in_bytes", &bytes.to_string())?;
            // With swap accounting off the file does not exist, and there is nothing to limit.
            if dir.join("memory.memsw.limit_in_bytes").exists() {
                write(&dir, "memory.memsw.limit_in_bytes", &bytes.to_string())?;
            }
        }
        if let Some(tasks) = limits.tasks
            && let Some(dir) = made_below(v1_dir("pids"), name)
        {
            made.pids = Some(dir.clone());
            write(&dir, "pids.max", &tasks.to_string())?;
        }
        if let Some(cpus) = limits.cpus
            && let Some(dir) = made_below(v1_dir("cpu"), name)
        {
            made.cpu = Some(dir.clone());
            write(&dir, "cpu.cfs_period_us", "100000")?;
            write(&dir, "cpu.cfs_quota_us", &quota(cpus).to_string())?;
        }
        Ok((made.memory.is_some() || made.pids.is_some() || made.cpu.is_some()).then_some(made))
    }

    fn create_v2(parent: &Path, name: &str, limits: &CgroupLimits) -> io::Result<Option<Self>> {
        if !hand_down(parent) {
            return Ok(None);
        }
        let Some(dir) = made_below(Some(parent.to_owned()), name) else {
            return Ok(None);
        };
        let mut made = Self { v2: Some(dir.clone()), memory: None, pids: None, cpu: None };
        if let Some(bytes) = limits.memory {
            write(&dir, "memory.max", &bytes.to_string())?;
            if dir.join("memory.swap.max").exists() {
                write(&dir, "memory.swap.max", "0")?;
            }
            write(&dir, "memory.oom.group", "1")?;
            made.memory = Some(dir.clone());
        }
        if let Some(tasks) = limits.tasks {
            write(&dir, "pids.max", &tasks.to_string())?;
            made.pids = Some(dir.clone());
        }
        if let (Some(cpus), true) = (limits.cpus, dir.join("cpu.max").exists()) {
            write(&dir, "cpu.max", &format!("{} 100000", quota(cpus)))?;
            made.cpu = Some(dir);
        }
        Ok(Some(made))
    }

    /// True where memory is limited.
    pub fn limits_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// True where tasks are limited.
    pub fn limits_tasks(&self) -> bool {
        self.pids.is_some()
    }

    /// True where CPU is limited.
    pub fn limits_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    /// `v1` or `v2`.
    pub fn version(&self) -> &'static str {
        if self.v2.is_some() { "v2" } else { "v1" }
    }

    fn dirs(&self) -> Vec<&PathBuf> {
        match &self.v2 {
            Some(dir) => vec![dir],
            None => [&self.memory, &self.pids, &self.cpu].into_iter().flatten().collect(),
        }
    }

    /// Files to write a pid into, one for each hierarchy (`cgroup.procs`).
    pub(crate) fn procs_files(&self) -> Vec<PathBuf> {
        self.dirs().into_iter().map(|d| d.join("cgroup.procs")).collect()
    }

    /// What the controllers counted.
    pub fn usage(&self) -> CgroupUsage {
        let number = |dir: &Option<PathBuf>, file: &str| -> Option<u64> {
            fs::read_to_string(dir.as_ref()?.join(file)).ok()?.trim().parse().ok()
        };
        let field = |dir: &Option<PathBuf>, file: &str, key: &str| -> Option<u64> {
            let text = fs::read_to_string(dir.as_ref()?.join(file)).ok()?;
            text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
        };
        if self.v2.is_some() {
            CgroupUsage {
                memory_peak: number(&self.v2, "memory.peak"),
                oom_kills: field(&self.v2, "memory.events", "oom_kill ").unwrap_or(0),
                task_refusals: field(&self.v2, "pids.events", "max ").unwrap_or(0),
                cpu_micros: field(&self.v2, "cpu.stat", "usage_usec "),
            }
        } else {
            CgroupUsage {
                memory_peak: number(&self.memory, "memory.max_usage_in_bytes"),
                oom_kills: field(&self.memory, "memory.oom_control", "oom_kill ").unwrap_or(0),
                task_refusals: field(&self.pids, "pids.events", "max ").unwrap_or(0),
                cpu_micros: None,
            }
        }
    }
}

/// Makes `parent` hand memory and pids (and cpu, where it has that) down to cgroups below it; true where it does.
///
/// A cgroup with processes of its own cannot do that (cgroups(7), "no internal processes"). Where all of them are this
/// process and its children, as in a scope of systemd with `Delegate=yes`, they move into a cgroup of their own first.
fn hand_down(parent: &Path) -> bool {
    let control = parent.join("cgroup.subtree_control");
    let enabled = || {
        let text = fs::read_to_string(&control).unwrap_or_default();
        ["memory", "pids"].iter().all(|c| text.split_whitespace().any(|e| e == *c))
    };
    let enable = || {
        let done = fs::write(&control, "+memory +pids").is_ok();
        if done {
            // Wanted and not always there: asked for by itself, so that its absence spoils nothing, and last, because
            // a threaded controller such as cpu can be enabled beside processes and then stands in the others' way.
            let _ = fs::write(&control, "+cpu");
        }
        done
    };
    if enabled() {
        // Perhaps by an operator who left cpu out.
        let _ = fs::write(&control, "+cpu");
        return true;
    }
    if enable() {
        return true;
    }
    let Ok(procs) = fs::read_to_string(parent.join("cgroup.procs")) else { return false };
    let own = std::process::id();
    let pids: Vec<u32> = procs.lines().filter_map(|l| l.trim().parse().ok()).collect();
    if pids.is_empty() || !pids.iter().all(|pid| *pid == own || parent_of(*pid) == Some(own)) {
        return false;
    }
    let aside = parent.join("proctor-supervisor");
    if fs::create_dir(&aside).is_err() && !aside.is_dir() {
        return false;
    }
    for pid in pids {
        if fs::write(aside.join("cgroup.procs"), pid.to_string()).is_err() {
            return false;
        }
    }
    enable()
}

/// The parent of a process (proc(5), stat, field 4).
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn quota(cpus: f64) -> u64 {
    ((cpus * 100_000.0) as u64).max(1_000)
}

fn made_below(parent: Option<PathBuf>, name: &str) -> Option<PathBuf> {
    let dir = parent?.join(name);
    fs::create_dir(&dir).ok().map(|()| dir)
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for dir in self.dirs() {
            // The kernel lets go of a dead task's cgroup a moment after its exit is seen.
            for _ in 0..50 {
                match fs::remove_dir(dir) {
                    Err(e) if e.raw_os_error() == Some(Errno::EBUSY as i32) => {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
    }
}
