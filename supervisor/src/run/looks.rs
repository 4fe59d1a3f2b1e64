//! Looking at a running sandbox from outside, a few times a second, on a thread of its own: what the kernel keeps no
//! counter of (tasks against RLIMIT_NPROC, descriptors against RLIMIT_NOFILE, a private file system that was full for a
//! while), the resident size where no cgroup limits memory, and the size of what is written to a disk (`disk_watch`).
//! Looking enforces nothing, but that what is larger than its limit is reported to be stopped. What a look misses is not
//! known: such limits are advisory.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use proctor_sandbox::running::{DiskUsage, Running};
use tokio::sync::mpsc::UnboundedSender;

use super::disk_watch::{DiskWatch, Excess};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// Processes that are looked at, at the most: a fork bomb must not stop the watcher.
const MAX_PROCESSES: usize = 10_000;
/// Full to the last pages: a write was refused, or the next one would have been.
const FULL: u64 = 16 << 10;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Bytes that all processes together may have resident, where nothing enforces them.
    pub memory: Option<u64>,
    /// What is written to a disk, where nothing limits it.
    pub disk: Option<Arc<DiskWatch>>,
}

/// What is larger than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The processes: so many bytes are resident.
    Memory(u64),
    /// What was written to a disk.
    Disk,
}

/// The most that was seen in any look. Lower bounds: more may have been there between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Peaks {
    /// Bytes resident in all processes together, shared pages counted in each.
    pub resident: u64,
    /// Tasks, the sandbox's init among them.
    pub tasks: u64,
    /// Descriptors of the process that had most.
    pub open_files: u64,
    /// The private file systems were full.
    pub disk_full: bool,
    /// Their inodes were used up.
    pub inodes_full: bool,
    /// What was written to a disk was too much: as it was seen first.
    pub excess: Option<Excess>,
}

impl Peaks {
    fn take(&mut self, other: Self) {
        self.resident = self.resident.max(other.resident);
        self.tasks = self.tasks.max(other.tasks);
        self.open_files = self.open_files.max(other.open_files);
        self.disk_full |= other.disk_full;
        self.inodes_full |= other.inodes_full;
        self.excess = self.excess.or(other.excess);
    }

    /// Takes the state of the private file systems into account.
    pub(super) fn disk(&mut self, usage: &DiskUsage) {
        self.disk_full |= usage.free < FULL;
        self.inodes_full |= usage.free_inodes == 0;
    }
}

/// The thread; ended and waited for on [`Watcher::end`], ended on drop.
pub(super) struct Watcher {
    stop: SyncSender<()>,
    thread: JoinHandle<Peaks>,
}

impl Watcher {
    /// Starts looking. What is larger than it may be is told to `over`, each once.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(
        running: Arc<Running>,
        wanted: Wanted,
        over: UnboundedSender<Over>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
            let mut peaks = Peaks::default();
            let (mut told_memory, mut told_disk) = (false, false);
            let mut walk = None;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(INTERVAL) {
                let mut look = look(&running);
                if let Some(disk) = &wanted.disk {
                    look.excess = disk.step(&mut walk, private(&running));
                }
                peaks.take(look);
                // Nobody may be there any more to be told.
                if !told_memory && wanted.memory.is_some_and(|limit| look.resident > limit) {
                    let _ = over.send(Over::Memory(look.resident));
                    told_memory = true;
                }
                if !told_disk && look.excess.is_some() {
                    let _ = over.send(Over::Disk);
                    told_disk = true;
                }
            }
            peaks
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends the looking. `None` where the thread panicked: nothing is known of what it saw.
    pub(super) fn end(self) -> Option<Peaks> {
        drop(self.stop);
        self.thread.join().ok()
    }
}

/// Bytes in the private file systems, which count under the same limit as what is written to a disk. Level `landlock`
/// has none.
pub(super) fn private(running: &Running) -> u64 {
    running.disk_usage().map_or(0, |usage| usage.bytes)
}

/// One look. What is gone meanwhile, or cannot be looked at, counts nothing.
fn look(running: &Running) -> Peaks {
    let mut seen = Peaks::default();
    if let Ok(usage) = running.disk_usage() {
        seen.disk(&usage);
    }
    let page = rustix::param::page_size() as u64;
    let Some(init) = pid_of(running) else { return seen };
    let mut stack = vec![init];
    let mut processes = 0usize;
    while let Some(pid) = stack.pop() {
        processes += 1;
        if processes > MAX_PROCESSES {
            break;
        }
        if let Some(pages) = fs::read_to_string(format!("/proc/{pid}/statm"))
            .ok()
            .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        {
            seen.resident += pages * page;
        }
        seen.open_files = seen.open_files.max(descriptors(pid));
        // Orphans are children of the sandbox's init, so the tree below it is all there is.
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            seen.tasks += 1;
            if let Ok(children) = fs::read_to_string(task.path().join("children")) {
                stack.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
            }
        }
    }
    seen
}

/// Open descriptors of a process: since Linux 6.2 the size of its `fd` directory (proc_pid_fd(5)), before that 0.
fn descriptors(pid: u32) -> u64 {
    fs::metadata(format!("/proc/{pid}/fd")).map_or(0, |meta| meta.len())
}

/// The host pid behind the pidfd (proc(5), fdinfo).
fn pid_of(running: &Running) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", running.as_fd().as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_of_a_process_are_counted() {
        let pid = std::process::id();
        let before = descriptors(pid);
        let held: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests of this process open and close as well.
        assert!(descriptors(pid) > before + 300, "{before}, then {}", descriptors(pid));
        drop(held);
        assert_eq!(descriptors(u32::MAX), 0);
    }

    #[test]
    fn the_most_of_all_looks_is_kept() {
        let mut peaks = Peaks { tasks: 3, open_files: 9, ..Peaks::default() };
        peaks.take(Peaks { tasks: 5, open_files: 1, disk_full: true, ..Peaks::default() });
        peaks.take(Peaks::default());
        peaks.disk(&DiskUsage { bytes: 1, free: 1 << 20, free_inodes: 0 });
        let expected =
            Peaks { tasks: 5, open_files: 9, disk_full: true, inodes_full: true, ..Peaks::default() };
        assert_eq!(peaks, expected);
        peaks.take(Peaks { excess: Some(Excess::Files(8)), ..Peaks::default() });
        peaks.take(Peaks { excess: Some(Excess::Bytes(9)), ..Peaks::default() });
        peaks.take(Peaks::default());
        assert_eq!(peaks.excess, Some(Excess::Files(8)), "the first is what it was stopped for");
    }
}
