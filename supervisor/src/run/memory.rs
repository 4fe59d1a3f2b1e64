//! The resident size of a sandbox's process tree, for hosts where no cgroup limits memory: a watcher, no enforcement.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use proctor_sandbox::running::Running;

/// Processes that are looked at, at the most: a fork bomb must not stop the watcher.
const MAX_PROCESSES: usize = 10_000;

/// Bytes resident in all processes of the sandbox, shared pages counted in each; 0 where nothing can be read any more.
pub(super) fn resident(running: &Running) -> u64 {
    let page = rustix::param::page_size() as u64;
    let Some(init) = pid_of(running) else { return 0 };
    let mut stack = vec![init];
    let (mut total, mut seen) = (0u64, 0usize);
    while let Some(pid) = stack.pop() {
        seen += 1;
        if seen > MAX_PROCESSES {
            break;
        }
        if let Some(pages) = fs::read_to_string(format!("/proc/{pid}/statm"))
            .ok()
            .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        {
            total += pages * page;
        }
        // Orphans are children of the sandbox's init, so the tree below it is all there is.
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            if let Ok(children) = fs::read_to_string(task.path().join("children")) {
                stack.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
            }
        }
    }
    total
}

/// The host pid behind the pidfd (proc(5), fdinfo).
fn pid_of(running: &Running) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", running.as_fd().as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}
