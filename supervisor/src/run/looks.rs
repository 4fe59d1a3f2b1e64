//! Looking at a running sandbox from outside, a few times a second, on a thread of its own: what the kernel keeps no
//! counter of (tasks against RLIMIT_NPROC, descriptors against RLIMIT_NOFILE, a private file system that was full for a
//! while), and the resident size where no cgroup limits memory. Looking enforces nothing, but that what is larger than
//! its memory limit is reported to be stopped. What a look misses is not known: such limits are advisory.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use proctor_sandbox::running::{DiskUsage, Running};
use tokio::sync::mpsc::UnboundedSender;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// Processes that are looked at, at the most: a fork bomb must not stop the watcher.
const MAX_PROCESSES: usize = 10_000;
/// Full to the last pages: a write was refused, or the next one would have been.
const FULL: u64 = 16 << 10;

/// What is looked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Bytes that all processes together may have resident, where nothing enforces them.
    pub memory: Option<u64>,
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
}

impl Peaks {
    fn take(&mut self, other: Self) {
        self.resident = self.resident.max(other.resident);
        self.tasks = self.tasks.max(other.tasks);
        self.open_files = self.open_files.max(other.open_files);
        self.disk_full |= other.disk_full;
        self.inodes_full |= other.inodes_full;
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
    /// Starts looking. What has more resident than it may is told to `over`, once, with the bytes seen.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(
        running: Arc<Running>,
        wanted: Wanted,
        over: UnboundedSender<u64>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
            let mut peaks = Peaks::default();
            let mut told = false;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(INTERVAL) {
                let look = look(&running);
                peaks.take(look);
                if !told && wanted.memory.is_some_and(|limit| look.resident > limit) {
                    // Nobody may be there any more to be told.
                    let _ = over.send(look.resident);
                    told = true;
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
        assert_eq!(peaks, Peaks { resident: 0, tasks: 5, open_files: 9, disk_full: true, inodes_full: true });
    }
}
