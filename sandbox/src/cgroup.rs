//! cgroups(7) for one sandbox: version 2 where a delegated controller is to be had, version 1 where that is what
//! root has, nothing elsewhere. Plain file writes; the directory goes with the value.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    /// Shared locks on the directories: as long as they are held, nobody takes them for a dead run's.
    _locks: Vec<File>,
}

/// What a finished sandbox used and ran into, as its cgroup counted. A counter that is there and cannot be read is an
/// error, never 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupUsage {
    /// Largest use of memory in bytes.
    pub memory_peak: Option<u64>,
    /// Processes of this cgroup killed because memory ran out, here or further up: `oom_kill` of `memory.events`
    /// (version 2) or `memory.oom_control` (version 1).
    pub oom_kills: u64,
    /// How often this cgroup's own limit stood in the way: `oom` of `memory.events` (version 2), or `memory.failcnt` and
    /// `memory.memsw.failcnt` together (version 1, of which newer kernels do not count all).
    pub memory_refusals: u64,
    /// Refused forks: `max` of `pids.events`.
    pub task_refusals: u64,
    /// Most tasks at once (`pids.peak`, Linux 6.1), the sandbox's init among them.
    pub task_peak: Option<u64>,
    /// CPU time in microseconds.
    pub cpu_micros: Option<u64>,
    /// Periods of 100 ms in which the limit of CPU was used up (`nr_throttled` of `cpu.stat`).
    pub cpu_throttled: Option<u64>,
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
    /// There is one of this name already, it could not be locked, or a limit could not be written.
    pub fn create(name: &str, limits: &CgroupLimits) -> io::Result<Option<Self>> {
        if let Some(parent) = v2_dir() {
            return Self::create_v2(&parent, name, limits);
        }
        let mut made = Self { v2: None, memory: None, pids: None, cpu: None, _locks: Vec::new() };
        // A directory is made only for a limit: one that nobody remembers would never be removed.
        if let Some(bytes) = limits.memory
            && let Some((dir, lock)) = made_below(v1_dir("memory"), name)?
        {
            made._locks.push(lock);
            made.memory = Some(dir.clone());
            write(&dir, "memory.limit_in_bytes", &bytes.to_string())?;
            // With swap accounting off the file does not exist, and there is nothing to limit.
            if dir.join("memory.memsw.limit_in_bytes").exists() {
                write(&dir, "memory.memsw.limit_in_bytes", &bytes.to_string())?;
            }
        }
        if let Some(tasks) = limits.tasks
            && let Some((dir, lock)) = made_below(v1_dir("pids"), name)?
        {
            made._locks.push(lock);
            made.pids = Some(dir.clone());
            write(&dir, "pids.max", &tasks.to_string())?;
        }
        if let Some(cpus) = limits.cpus
            && let Some((dir, lock)) = made_below(v1_dir("cpu"), name)?
        {
            made._locks.push(lock);
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
        let Some((dir, lock)) = made_below(Some(parent.to_owned()), name)? else {
            return Ok(None);
        };
        let mut made =
            Self { v2: Some(dir.clone()), memory: None, pids: None, cpu: None, _locks: vec![lock] };
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
    ///
    /// # Errors
    /// A counter of a limit that was set cannot be read: whether it was hit is not known then.
    pub fn usage(&self) -> io::Result<CgroupUsage> {
        let mut usage = CgroupUsage::default();
        let v2 = self.v2.is_some();
        if let Some(dir) = &self.memory {
            if v2 {
                usage.oom_kills = field(dir, "memory.events", "oom_kill")?;
                usage.memory_refusals = field(dir, "memory.events", "oom")?;
            } else {
                usage.oom_kills = field(dir, "memory.oom_control", "oom_kill")?;
                usage.memory_refusals = number(dir, "memory.failcnt")?;
                // Not there with swap accounting off.
                if dir.join("memory.memsw.failcnt").exists() {
                    usage.memory_refusals += number(dir, "memory.memsw.failcnt")?;
                }
            }
            usage.memory_peak =
                number(dir, if v2 { "memory.peak" } else { "memory.max_usage_in_bytes" }).ok();
        }
        if let Some(dir) = &self.pids {
            usage.task_refusals = field(dir, "pids.events", "max")?;
            usage.task_peak = number(dir, "pids.peak").ok();
        }
        if let Some(dir) = &self.cpu {
            usage.cpu_throttled = Some(field(dir, "cpu.stat", "nr_throttled")?);
        }
        if let Some(dir) = &self.v2 {
            usage.cpu_micros = field(dir, "cpu.stat", "usage_usec").ok();
        }
        Ok(usage)
    }
}

fn unreadable(dir: &Path, file: &str, why: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {why}", dir.join(file).display()))
}

/// A file that holds one number.
fn number(dir: &Path, file: &str) -> io::Result<u64> {
    let text = fs::read_to_string(dir.join(file)).map_err(|e| unreadable(dir, file, e))?;
    text.trim().parse().map_err(|_| unreadable(dir, file, "no number"))
}

/// The number behind `key` in a file of lines `KEY NUMBER`.
fn field(dir: &Path, file: &str, key: &str) -> io::Result<u64> {
    let text = fs::read_to_string(dir.join(file)).map_err(|e| unreadable(dir, file, e))?;
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(name, value)| if name == key { value.trim().parse().ok() } else { None })
        .ok_or_else(|| unreadable(dir, file, format_args!("no number for {key}")))
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

/// How often, and after what time again, a lock is tried for: whoever clears up holds it for a moment.
const TRIES: u32 = 50;
const AGAIN: Duration = Duration::from_millis(20);

/// Makes a cgroup that nobody else can open, and locks its directory. Whoever clears up locks it too and removes it with
/// that: one that is gone by the time that the lock is there is made again. `Ok(None)` where none can be made.
fn made_below(parent: Option<PathBuf>, name: &str) -> io::Result<Option<(PathBuf, File)>> {
    let Some(dir) = parent.map(|parent| parent.join(name)) else { return Ok(None) };
    let failed = |what: &str, why: &dyn std::fmt::Display| {
        io::Error::other(format!("{}: cannot {what}: {why}", dir.display()))
    };
    for _ in 0..TRIES {
        // A lock can be had by whoever can open the directory: nobody but this user.
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(failed("make it", &error));
            }
            Err(_) => return Ok(None),
        }
        let lock = match File::open(&dir) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let _ = fs::remove_dir(&dir);
                return Err(failed("open it", &error));
            }
        };
        if !locked(&lock) {
            let _ = fs::remove_dir(&dir);
            return Err(failed("lock it", &"another process holds a lock on it"));
        }
        if leads_to(&dir, &lock)? {
            return Ok(Some((dir, lock)));
        }
    }
    Err(failed("keep it", &"it is removed again and again"))
}

/// Whether a path still leads to the directory that was opened by it.
fn leads_to(path: &Path, dir: &File) -> io::Result<bool> {
    let here = dir.metadata()?.ino();
    Ok(fs::symlink_metadata(path).is_ok_and(|there| there.ino() == here))
}

/// A shared lock, not waited for for ever. True also where it cannot be locked at all: then it cannot be by others, who
/// leave it alone.
fn locked(dir: &File) -> bool {
    for _ in 0..TRIES {
        match dir.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(AGAIN),
            Ok(()) | Err(fs::TryLockError::Error(_)) => return true,
        }
    }
    false
}

/// How long the processes of a dead sandbox are waited for, which are killed with it and die a moment later.
const DYING: Duration = Duration::from_secs(2);

/// Removes the cgroup of a sandbox that is no more; `Ok(false)` where it is somebody's still.
///
/// # Errors
/// It has processes, or cannot be removed.
pub fn remove_dead(dir: &Path) -> io::Result<bool> {
    let lock = File::open(dir)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(false),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    // Another may have cleared up, and a run made its own of this name.
    if !leads_to(dir, &lock)? {
        return Ok(false);
    }
    let deadline = Instant::now() + DYING;
    let mut procs = fs::read_to_string(dir.join("cgroup.procs"))?;
    while !procs.is_empty() && Instant::now() < deadline {
        std::thread::sleep(AGAIN);
        procs = fs::read_to_string(dir.join("cgroup.procs"))?;
    }
    if !procs.is_empty() {
        let pids = procs.split_whitespace().collect::<Vec<_>>().join(", ");
        return Err(io::Error::other(format!(
            "processes are in it: {pids}; look at them, end them, and try again"
        )));
    }
    fs::remove_dir(dir).map(|()| true)
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for dir in self.dirs() {
            // The kernel lets go of a dead task's cgroup a moment after its exit is seen.
            for _ in 0..50 {
                match fs::remove_dir(dir) {
                    Err(e) if e.raw_os_error() == Some(Errno::EBUSY as i32) => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        dir
    }

    /// Not dropped: its directories are none that could be removed by `Cgroup`.
    fn cgroup(dir: &Path, v2: bool) -> std::mem::ManuallyDrop<Cgroup> {
        let dir = Some(dir.to_owned());
        std::mem::ManuallyDrop::new(Cgroup {
            v2: v2.then(|| dir.clone()).flatten(),
            memory: dir.clone(),
            pids: dir.clone(),
            cpu: dir,
            _locks: Vec::new(),
        })
    }

    #[test]
    fn what_is_made_is_nobody_elses_and_a_lock_is_not_waited_for_without_end() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let make = || made_below(Some(parent.path().to_owned()), "one");
        let (dir, lock) = make().unwrap().unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        let error = make().unwrap_err().to_string();
        assert!(error.contains("one: cannot make it: File exists"), "{error}");
        let other = File::open(&dir).unwrap();
        assert!(locked(&other), "shared");
        drop((lock, other));
        let theirs = File::open(&dir).unwrap();
        theirs.lock().unwrap();
        assert!(!locked(&File::open(&dir).unwrap()), "another holds it");
        assert!(made_below(None, "one").unwrap().is_none());
        assert!(made_below(Some(parent.path().join("nowhere")), "one").unwrap().is_none());
    }

    #[test]
    fn the_dying_are_waited_for_and_the_living_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let one = dir.path().join("one");
        fs::create_dir(&one).unwrap();
        fs::write(one.join("cgroup.procs"), "17\n18\n").unwrap();
        let error = remove_dead(&one).unwrap_err().to_string();
        assert!(error.starts_with("processes are in it: 17, 18; "), "{error}");
        let procs = one.join("cgroup.procs");
        let dies = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            fs::write(procs, "").unwrap();
        });
        // No cgroup: its files do not go with it.
        let error = remove_dead(&one).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty, "{error}");
        dies.join().unwrap();
    }

    #[test]
    fn the_counters_of_both_versions_are_read() {
        let two = directory(&[
            ("memory.events", "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 1\n"),
            ("memory.peak", "4096\n"),
            ("pids.events", "max 7\n"),
            ("pids.peak", "33\n"),
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nnr_periods 9\nnr_throttled 8\nthrottled_usec 1\n"),
        ]);
        let expected = CgroupUsage {
            memory_peak: Some(4096),
            oom_kills: 2,
            memory_refusals: 3,
            task_refusals: 7,
            task_peak: Some(33),
            cpu_micros: Some(5),
            cpu_throttled: Some(8),
        };
        assert_eq!(cgroup(two.path(), true).usage().unwrap(), expected);

        let one = directory(&[
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("memory.failcnt", "1\n"),
            ("memory.memsw.failcnt", "2\n"),
            ("memory.max_usage_in_bytes", "4096\n"),
            ("pids.events", "max 7\n"),
            ("pids.peak", "33\n"),
            ("cpu.stat", "nr_periods 9\nnr_throttled 8\nthrottled_time 1\n"),
        ]);
        let expected = CgroupUsage { cpu_micros: None, ..expected };
        assert_eq!(cgroup(one.path(), false).usage().unwrap(), expected);
        fs::remove_file(one.path().join("memory.memsw.failcnt")).unwrap();
        assert_eq!(cgroup(one.path(), false).usage().unwrap().memory_refusals, 1);
    }

    #[test]
    fn a_counter_that_cannot_be_read_is_an_error_and_not_0() {
        let dir = directory(&[("memory.oom_control", "oom_kill_disable 0\n")]);
        let error = cgroup(dir.path(), false).usage().unwrap_err().to_string();
        assert!(error.ends_with("memory.oom_control: no number for oom_kill"), "{error}");
        let dir = directory(&[("memory.events", "oom 0\noom_kill 0\n")]);
        let error = cgroup(dir.path(), true).usage().unwrap_err().to_string();
        assert!(error.contains("pids.events: ") && error.contains("No such file"), "{error}");
    }
}
