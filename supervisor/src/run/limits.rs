//! Which limits a sandbox has, what holds each, and which of them were hit: from the kernel's own counters where it
//! keeps one, from looks at the sandbox where it does not, never from what a program prints or how it ends.

use proctor_sandbox::cgroup::{Cgroup, CgroupUsage};
use proctor_sandbox::spec::{Level, SandboxSpec, Store};
use rustix::process::{Resource, getrlimit};

use super::disk_watch::Excess;
use super::looks::Peaks;
use super::sandbox::inodes;
use crate::profile::Limits;

/// What a program can be held by. The names are fixed (docs/contracts.md).
pub(super) mod mechanism {
    pub(in super::super) const MEMORY: [&str; 2] = ["cgroup_v1 memory", "cgroup_v2 memory"];
    pub(in super::super) const PIDS: [&str; 2] = ["cgroup_v1 pids", "cgroup_v2 pids"];
    pub(in super::super) const CPU: [&str; 2] = ["cgroup_v1 cpu", "cgroup_v2 cpu"];
    pub(in super::super) const WATCHER: &str = "watcher";
    pub(in super::super) const OUTER_OOM: &str = "out of memory outside of the sandbox's limit";
    pub(in super::super) const NPROC: &str = "rlimit NPROC";
    pub(in super::super) const NOFILE: &str = "rlimit NOFILE";
    pub(in super::super) const SIZE: &str = "tmpfs size";
    pub(in super::super) const INODES: &str = "tmpfs inodes";
    pub(in super::super) const LOG: &str = "log cap";
    pub(in super::super) const CHANGES: &str = "change cap";
    pub(in super::super) const PATCH: &str = "patch cap";
    pub(in super::super) const REQUESTS: &str = "request cap";
}

/// Every mechanism that a blocker can name.
pub fn limit_mechanisms() -> [&'static str; 15] {
    use mechanism as m;
    [
        m::MEMORY[0],
        m::MEMORY[1],
        m::OUTER_OOM,
        m::WATCHER,
        m::PIDS[0],
        m::PIDS[1],
        m::NPROC,
        m::SIZE,
        m::INODES,
        m::NOFILE,
        m::LOG,
        m::CHANGES,
        m::PATCH,
        m::REQUESTS,
        crate::verdict::EVENT_CAP,
    ]
}

/// The limits of one sandbox as they are in force.
#[derive(Debug, Clone, Copy)]
pub struct InForce {
    /// Bytes of memory.
    pub memory: u64,
    /// Tasks, beside the sandbox's init.
    pub tasks: u64,
    /// RLIMIT_NPROC: tasks of the user namespace, init among them.
    pub nproc: u64,
    /// RLIMIT_NOFILE.
    pub open_files: u64,
    /// Bytes of everything that is written privately.
    pub disk: u64,
    /// Its inodes.
    pub inodes: u64,
    /// Bytes of the private tmpfs: the same, but where a part of what is written lies on a disk.
    pub tmpfs: u64,
    /// Its inodes.
    pub tmpfs_inodes: u64,
    /// A part lies on a disk, where it is watched.
    watched_disk: bool,
    version: usize,
    memory_cgroup: bool,
    tasks_cgroup: bool,
    cpu_cgroup: bool,
    /// The private file systems are the sandbox's own: not at level `landlock`.
    own_store: bool,
    /// RLIMIT_NPROC counts the sandbox alone.
    own_tasks: bool,
}

impl InForce {
    /// For a sandbox about to be started with this specification, in this cgroup, which may write `disk` bytes.
    pub fn new(limits: &Limits, spec: &SandboxSpec, cgroup: Option<&Cgroup>, disk: u64) -> Self {
        let full = spec.level == Level::Full;
        // The sandbox lowers and never raises: a caller's own hard limit stays where it is lower.
        let lowest = |resource: Resource, value: u64| {
            getrlimit(resource).maximum.map_or(value, |hard| hard.min(value))
        };
        Self {
            memory: limits.memory.value,
            tasks: limits.pids.value,
            nproc: lowest(Resource::Nproc, spec.limits.tasks.saturating_add(1)),
            open_files: lowest(Resource::Nofile, spec.limits.open_files),
            disk,
            inodes: inodes(disk),
            tmpfs: spec.limits.disk,
            tmpfs_inodes: spec.limits.inodes,
            watched_disk: !full || spec.store == Store::Disk,
            version: usize::from(cgroup.is_some_and(|c| c.version() == "v2")),
            memory_cgroup: cgroup.is_some_and(Cgroup::limits_memory),
            tasks_cgroup: cgroup.is_some_and(Cgroup::limits_tasks),
            cpu_cgroup: cgroup.is_some_and(Cgroup::limits_cpu),
            own_store: full,
            own_tasks: full || rustix::process::geteuid().is_root(),
        }
    }

    /// True where something holds the number of tasks.
    pub fn holds_tasks(&self) -> bool {
        self.tasks_cgroup || self.own_tasks
    }

    /// What holds the limit of this name (a key of the report's `limits`).
    pub fn mechanism(&self, what: &str) -> &'static str {
        match what {
            "memory" if self.memory_cgroup => mechanism::MEMORY[self.version],
            "memory" => mechanism::WATCHER,
            "pids" if self.tasks_cgroup => mechanism::PIDS[self.version],
            "pids" if self.own_tasks => mechanism::NPROC,
            "cpus" if self.cpu_cgroup => mechanism::CPU[self.version],
            "disk" | "inodes" if self.watched_disk => mechanism::WATCHER,
            "disk" if self.own_store => mechanism::SIZE,
            "inodes" if self.own_store => mechanism::INODES,
            "open_files" => mechanism::NOFILE,
            _ => "none",
        }
    }
}

/// A limit that was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) what: &'static str,
    pub(super) option: Option<&'static str>,
    pub(super) limit: u64,
    pub(super) seen: Option<u64>,
    pub(super) mechanism: &'static str,
    pub(super) witness: String,
}

/// The limits that were hit, each once.
pub(super) fn hits(limits: &InForce, usage: Option<&CgroupUsage>, peaks: &Peaks) -> Vec<Hit> {
    let mut found = Vec::new();
    let counted = usage.copied().unwrap_or_default();
    memory(limits, &counted, peaks, &mut found);
    if counted.task_refusals > 0 {
        found.push(Hit {
            what: "pids",
            option: Some("--pids-limit"),
            limit: limits.tasks,
            seen: None,
            mechanism: limits.mechanism("pids"),
            witness: format!("pids.events max {}", counted.task_refusals),
        });
    } else if limits.own_tasks && peaks.tasks >= limits.nproc {
        found.push(Hit {
            what: "pids",
            option: Some("--pids-limit"),
            limit: limits.tasks.min(limits.nproc.saturating_sub(1)),
            seen: Some(peaks.tasks - 1),
            mechanism: mechanism::NPROC,
            witness: "the tasks seen were as many as RLIMIT_NPROC lets be".into(),
        });
    }
    for (full, what, limit, mechanism, witness) in [
        (peaks.disk_full, "disk", limits.tmpfs, mechanism::SIZE, "fstatfs: no block was free"),
        (peaks.inodes_full, "inodes", limits.tmpfs_inodes, mechanism::INODES, "fstatfs: no inode was free"),
    ] {
        if full {
            found.push(Hit {
                what,
                option: Some("--disk"),
                limit,
                seen: None,
                mechanism,
                witness: witness.into(),
            });
        }
    }
    found.extend(peaks.excess.map(|excess| written(limits, excess)));
    if peaks.open_files >= limits.open_files {
        found.push(Hit {
            what: "open_files",
            option: None,
            limit: limits.open_files,
            seen: Some(peaks.open_files),
            mechanism: mechanism::NOFILE,
            witness: "a process was seen with as many descriptors as RLIMIT_NOFILE lets be".into(),
        });
    }
    found
}

/// What was written to a disk.
fn written(limits: &InForce, excess: Excess) -> Hit {
    let hit = |what, option, limit, seen, witness: &str| Hit {
        what,
        option,
        limit,
        seen: Some(seen),
        mechanism: mechanism::WATCHER,
        witness: witness.into(),
    };
    let option = Some("--disk");
    match excess {
        Excess::Bytes(seen) => {
            hit("disk", option, limits.disk, seen, "the size seen of all that was written")
        }
        Excess::Files(seen) => {
            hit("inodes", option, limits.inodes, seen, "the number seen of all files that were written")
        }
        // The option would not help.
        Excess::FreeSpace { free, kept } => {
            let witness = "fstatfs: less is free than is kept for others on the disk that it was written to";
            hit("free disk space", None, kept, free, witness)
        }
    }
}

fn memory(limits: &InForce, counted: &CgroupUsage, peaks: &Peaks, found: &mut Vec<Hit>) {
    let kills = if limits.version == 1 { "memory.events oom_kill" } else { "memory.oom_control oom_kill" };
    // Version 1 counts in `memory.failcnt` also what reclaim could serve in the end: alone it says nothing.
    let refused = limits.version == 1 && counted.memory_refusals > 0;
    let hit = |mechanism, seen, witness| Hit {
        what: "memory",
        option: Some("--memory"),
        limit: limits.memory,
        seen,
        mechanism,
        witness,
    };
    // Kernels since 6.14 do not count every refusal of version 1: a use that came near the limit tells as well.
    let own = counted.memory_refusals > 0
        || counted.memory_peak.is_some_and(|peak| peak >= limits.memory - limits.memory / 16);
    if counted.oom_kills > 0 && !own {
        // Killed for want of memory, and not of this limit's: the option would not help.
        let witness = format!("{kills} {}, and the sandbox's own limit was not reached", counted.oom_kills);
        found.push(Hit { option: None, ..hit(mechanism::OUTER_OOM, counted.memory_peak, witness) });
    } else if counted.oom_kills > 0 || refused {
        let witness = format!("{kills} {}, refused {} times", counted.oom_kills, counted.memory_refusals);
        found.push(hit(limits.mechanism("memory"), counted.memory_peak, witness));
    } else if !limits.memory_cgroup && peaks.resident > limits.memory {
        let witness = "the resident size seen of all processes together";
        found.push(hit(mechanism::WATCHER, Some(peaks.resident), witness.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(version: usize, cgroup: bool) -> InForce {
        InForce {
            memory: 1000,
            tasks: 30,
            nproc: 31,
            open_files: 64,
            disk: 5000,
            inodes: 50,
            tmpfs: 5000,
            tmpfs_inodes: 50,
            watched_disk: false,
            version,
            memory_cgroup: cgroup,
            tasks_cgroup: cgroup,
            cpu_cgroup: cgroup,
            own_store: true,
            own_tasks: true,
        }
    }

    /// What and by which mechanism.
    fn named(found: &[Hit]) -> Vec<(&'static str, &'static str)> {
        found.iter().map(|hit| (hit.what, hit.mechanism)).collect()
    }

    #[test]
    fn nothing_hit_is_nothing_found() {
        let near = Peaks { resident: 1000, tasks: 30, open_files: 63, ..Peaks::default() };
        for version in [0, 1] {
            assert_eq!(hits(&limits(version, true), Some(&CgroupUsage::default()), &near), []);
        }
        assert_eq!(hits(&limits(0, false), None, &near), []);
        // Version 1 counts there what was served after reclaim, too.
        let reclaimed = CgroupUsage { memory_refusals: 9, ..CgroupUsage::default() };
        assert_eq!(hits(&limits(0, true), Some(&reclaimed), &near), []);
    }

    #[test]
    fn each_counter_names_its_mechanism() {
        let usage =
            CgroupUsage { oom_kills: 1, memory_refusals: 4, task_refusals: 2, ..CgroupUsage::default() };
        for (version, memory, pids) in
            [(0, "cgroup_v1 memory", "cgroup_v1 pids"), (1, "cgroup_v2 memory", "cgroup_v2 pids")]
        {
            let found = hits(&limits(version, true), Some(&usage), &Peaks::default());
            assert_eq!(named(&found), [("memory", memory), ("pids", pids)]);
            assert_eq!(found[1].witness, "pids.events max 2");
        }
        let refused = CgroupUsage { memory_refusals: 4, ..CgroupUsage::default() };
        let found = hits(&limits(1, true), Some(&refused), &Peaks::default());
        assert_eq!(named(&found), [("memory", "cgroup_v2 memory")]);
    }

    #[test]
    fn what_has_no_counter_is_named_as_it_was_seen() {
        let peaks = Peaks {
            resident: 1001,
            tasks: 31,
            open_files: 64,
            disk_full: true,
            inodes_full: true,
            excess: None,
        };
        let found = hits(&limits(0, false), None, &peaks);
        let expected = [
            ("memory", "watcher"),
            ("pids", "rlimit NPROC"),
            ("disk", "tmpfs size"),
            ("inodes", "tmpfs inodes"),
            ("open_files", "rlimit NOFILE"),
        ];
        assert_eq!(named(&found), expected);
        assert_eq!((found[0].seen, found[1].seen, found[1].limit), (Some(1001), Some(30), 30));
    }

    #[test]
    fn what_is_written_to_a_disk_is_watched_and_its_tmpfs_is_still_a_limit() {
        let limits = InForce { watched_disk: true, tmpfs: 3000, tmpfs_inodes: 30, ..limits(1, true) };
        assert_eq!((limits.mechanism("disk"), limits.mechanism("inodes")), ("watcher", "watcher"));
        let cases = [
            (Excess::Bytes(6000), "disk", Some("--disk"), 5000, 6000),
            (Excess::Files(60), "inodes", Some("--disk"), 50, 60),
            (Excess::FreeSpace { free: 7, kept: 9 }, "free disk space", None, 9, 7),
        ];
        for (excess, what, option, limit, seen) in cases {
            let found = hits(&limits, None, &Peaks { excess: Some(excess), ..Peaks::default() });
            assert_eq!(named(&found), [(what, "watcher")]);
            assert_eq!((found[0].option, found[0].limit, found[0].seen), (option, limit, Some(seen)));
        }
        let found = hits(&limits, None, &Peaks { disk_full: true, ..Peaks::default() });
        assert_eq!((named(&found), found[0].limit), (vec![("disk", "tmpfs size")], 3000));
    }

    #[test]
    fn a_kill_for_want_of_the_hosts_memory_is_not_the_limits() {
        let usage = CgroupUsage { oom_kills: 1, memory_peak: Some(900), ..CgroupUsage::default() };
        let found = hits(&limits(1, true), Some(&usage), &Peaks::default());
        assert_eq!(named(&found), [("memory", "out of memory outside of the sandbox's limit")]);
        assert_eq!(found[0].option, None);
        // Near enough to the limit it is its own, whatever version 1 did not count.
        let usage = CgroupUsage { memory_peak: Some(990), ..usage };
        let found = hits(&limits(0, true), Some(&usage), &Peaks::default());
        assert_eq!(named(&found), [("memory", "cgroup_v1 memory")]);
    }
}
