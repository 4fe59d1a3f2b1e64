//! What every sandbox has, whatever its specification says: its devices, and what is done to its own fresh /proc.

use std::ffi::CStr;

/// Devices below /dev, beside a /dev/pts of its own.
pub const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Symbolic links there, and what they lead to.
pub const DEVICE_LINKS: [(&str, &CStr); 5] = [
    ("fd", c"/proc/self/fd"),
    ("stdin", c"/proc/self/fd/0"),
    ("stdout", c"/proc/self/fd/1"),
    ("stderr", c"/proc/self/fd/2"),
    ("ptmx", c"pts/ptmx"),
];
/// Kernel files that are hidden: what tells of the host or its kernel, and no build needs.
pub const PROC_HIDDEN: [&CStr; 14] = [
    c"acpi",
    c"asound",
    c"scsi",
    c"kcore",
    c"keys",
    c"key-users",
    c"kmsg",
    c"kallsyms",
    c"latency_stats",
    c"modules",
    c"sched_debug",
    c"timer_list",
    c"timer_stats",
    c"sysrq-trigger",
];
/// Directories that stay readable, for `nproc`, `sysconf` and the like, and are mounted read-only.
pub const PROC_READ_ONLY: [&CStr; 4] = [c"sys", c"bus", c"fs", c"irq"];
