//! Takes from the calling process itself what a reader of hostile files does not need: rights, paths, system calls,
//! memory and time. No namespace, no mount and no privilege is needed, so it works in containers and unprivileged.
//!
//! Nothing is started and nothing is read here; who the reader is and what it reads is the caller's business. How a
//! parent hands such a process its orders and its directories is in [`handover`].

mod filter;
pub mod handover;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;

use crate::error::{Step, StepError, StepResult};
use crate::landlock::Domain;
use crate::sys::{lockdown, process};

/// Nobody, where a process of root's need not be root.
const NOBODY: u32 = 65534;
/// Reading and searching what belongs to others (capabilities(7)), and the wider right that some containers' root has
/// instead of it. Landlock and the filter leave nothing of either but reading beneath the directories.
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
/// What the program itself takes of its address space: its text, libraries and stack.
const PROGRAM: u64 = 256 << 20;
/// The ABI of Landlock that brought LANDLOCK_ACCESS_FS_TRUNCATE.
const TRUNCATE_ABI: u32 = 3;

/// What a reader keeps.
#[derive(Debug)]
pub struct Reading<'a> {
    /// The directories beneath which it may read. They, and the standard streams, are the descriptors that stay open.
    pub beneath: &'a [OwnedFd],
    /// Most bytes of memory that it may write to (RLIMIT_DATA).
    pub memory: u64,
    /// Most bytes of files that it may have mapped besides (RLIMIT_AS is both together).
    pub mapped: u64,
    /// Most seconds of CPU time.
    pub cpu_seconds: u64,
    /// Most open descriptors.
    pub open_files: u64,
    /// The process that it must not outlive: its parent.
    pub parent: u32,
    /// What cannot be had is named among [`Held::missing`] and is no failure. To be used where somebody said so.
    pub make_do: bool,
}

/// What holds the process from now on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Mechanisms, in the order in which they were applied: a name, and a detail where there is one.
    pub mechanisms: Vec<(&'static str, Option<String>)>,
    /// What was not to be had, in words.
    pub missing: Vec<String>,
}

impl Held {
    fn by(&mut self, name: &'static str, detail: impl Into<Option<String>>) {
        self.mechanisms.push((name, detail.into()));
    }

    /// A step that must not fail, but where the caller makes do.
    fn must(&mut self, done: StepResult<()>, make_do: bool) -> StepResult<bool> {
        match done {
            Ok(()) => Ok(true),
            Err(error) if make_do => {
                self.missing.push(error.to_string());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

fn at(step: Step) -> impl Fn(Errno) -> StepError {
    move |errno| StepError::new(step, "", errno)
}

/// Confines the calling process, which must have one thread, for good.
///
/// # Errors
/// The step that failed. What was applied before it stays; the process should end.
pub fn confine(reading: &Reading<'_>) -> StepResult<Held> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads > 1 {
        return Err(StepError::new(Step::Fork, format!("{threads} threads"), Errno::EBUSY));
    }
    let mut held = Held::default();
    let make_do = reading.make_do;
    lockdown::set_undumpable().map_err(at(Step::Dumpable))?;
    held.by("not_dumpable", None);
    close_others(reading.beneath).map_err(at(Step::CloseDescriptors))?;
    held.by("descriptors", None);
    rights(&mut held)?;
    lockdown::set_no_new_privs().map_err(at(Step::NoNewPrivs))?;
    if !lockdown::has_no_new_privs() {
        return Err(StepError::new(Step::CheckNoNewPrivs, "", Errno::EPERM));
    }
    held.by("no_new_privs", None);
    // After the ids: changing them clears it (prctl(2)).
    lockdown::die_with_parent().map_err(at(Step::DeathSignal))?;
    if u32::try_from(nix::unistd::getppid().as_raw()) != Ok(reading.parent) {
        return Err(StepError::new(Step::SupervisorGone, "", Errno::ESRCH));
    }
    held.by("death_with_parent", None);
    limits(reading).map_err(at(Step::Rlimit))?;
    held.by("rlimits", None);
    let mut abi = 0;
    let done = landlock(reading.beneath).map(|found| abi = found);
    if held.must(done, make_do)? {
        held.by("landlock", format!("ABI {abi}"));
        if abi < TRUNCATE_ABI {
            held.missing.push(format!("Landlock ABI {abi} does not mediate truncation (Linux 6.2 does)"));
        }
    }
    let done = lockdown::seccomp_filter(&filter::program()).map_err(at(Step::Seccomp)).and_then(|()| {
        if lockdown::seccomp_mode() == 2 {
            Ok(())
        } else {
            Err(StepError::new(Step::CheckSeccomp, "", Errno::EPERM))
        }
    });
    if held.must(done, make_do)? {
        held.by("seccomp", format!("{} system calls", filter::allowed()));
    }
    Ok(held)
}

/// Closes every descriptor but the standard streams and the directories.
fn close_others(beneath: &[OwnedFd]) -> Result<(), Errno> {
    let mut kept: Vec<u32> = beneath.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            process::close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    process::close_range(first, u32::MAX)
}

/// Capabilities and, of root, the ids: what is left is the right to read what belongs to others, where it was there.
fn rights(held: &mut Held) -> StepResult<()> {
    let before = lockdown::effective_capabilities().map_err(at(Step::Capabilities))?;
    let keep = [CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE].into_iter().find(|one| before & one != 0).unwrap_or(0);
    if before != 0 {
        // A container's root may have given some of this up already: then there is less to take.
        let settled = lockdown::lock_securebits().is_ok();
        if lockdown::empty_bounding_set().is_err() || !settled {
            held.missing.push("an empty capability bounding set (no_new_privs makes it moot)".into());
        }
        // With the securebits locked a change of ids takes no capability along. Without the right to read what
        // belongs to others root must stay root, or it could not read its own.
        if settled && keep != 0 {
            let changed = process::drop_groups()
                .and_then(|()| process::set_gid(NOBODY))
                .and_then(|()| process::set_uid(NOBODY));
            match changed {
                Ok(()) => held.by("ids", format!("uid {NOBODY}, gid {NOBODY}, no groups")),
                Err(errno) => held.missing.push(format!("ids of nobody: {errno}")),
            }
        }
    }
    lockdown::keep_capabilities(keep).map_err(at(Step::Capabilities))?;
    if lockdown::effective_capabilities().map_err(at(Step::Capabilities))? != keep {
        return Err(StepError::new(Step::CheckCapabilities, "", Errno::EPERM));
    }
    let detail = match keep {
        0 => "none",
        CAP_DAC_READ_SEARCH => "only CAP_DAC_READ_SEARCH, to read what belongs to others",
        _ => "only CAP_DAC_OVERRIDE, to read what belongs to others",
    };
    held.by("capabilities", detail.to_owned());
    Ok(())
}

fn limits(reading: &Reading<'_>) -> Result<(), Errno> {
    let space = reading.memory.saturating_add(reading.mapped).saturating_add(PROGRAM);
    for (resource, value) in [
        // A piped core_pattern runs a host program for every core, at 0 as well; 1 stops it.
        (Resource::RLIMIT_CORE, 1),
        (Resource::RLIMIT_DATA, reading.memory),
        (Resource::RLIMIT_AS, space),
        (Resource::RLIMIT_CPU, reading.cpu_seconds.max(1)),
        (Resource::RLIMIT_NOFILE, reading.open_files),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NPROC, 0),
    ] {
        // Never raised: a lower limit of the caller's stays.
        let (_, hard) = getrlimit(resource)?;
        let value = value.min(hard);
        // SIGXCPU at the limit says what it was; a second later nothing is left to be said.
        let hard = if resource == Resource::RLIMIT_CPU { hard.min(value.saturating_add(1)) } else { value };
        setrlimit(resource, value, hard)?;
    }
    Ok(())
}

/// Reading beneath the directories, and nothing else that Landlock knows. Gives the ABI.
fn landlock(beneath: &[OwnedFd]) -> StepResult<u32> {
    const LOG_SAME_EXEC_OFF: u32 = 1 << 0;
    let domain = Domain::of_reader()?;
    for dir in beneath {
        domain.allow(dir.as_fd(), domain.only_read).map_err(at(Step::LandlockRule))?;
    }
    // What a reader is refused is not the host's audit log's business; older kernels take no flags.
    let flags = if domain.abi >= crate::landlock::AUDIT_ABI { LOG_SAME_EXEC_OFF } else { 0 };
    lockdown::landlock_restrict(domain.ruleset.as_fd(), flags).map_err(at(Step::LandlockRestrict))?;
    // Seen to work: the root directory cannot be listed any more.
    match open("/", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::EACCES) => Ok(domain.abi),
        Err(errno) => Err(StepError::new(Step::CheckLandlock, "", errno)),
        Ok(_) => Err(StepError::new(Step::CheckLandlock, "", Errno::EPERM)),
    }
}
