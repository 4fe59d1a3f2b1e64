//! The process that becomes the untrusted program: gives everything up, checks that it has, executes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, fstatat, mkdirat};

use super::{At, ChildResult, Failure, NO_LABEL};
use crate::enforced::Mechanism;
use crate::error::Step;
use crate::plan::Plan;
use crate::seccomp::{self, Watching};
use crate::spec::{Level, Network};
use crate::sys::{lockdown, notify, process};

/// High enough to be out of the way of standard streams.
const PARKED: RawFd = 64;

/// Record on the exec pipe: checked, about to execute.
pub(super) const CHECKED: u64 = 1;
/// Record on the exec pipe: a failure follows.
pub(super) const FAILED: u64 = 2;

/// Adds the rules, now that the mounts they are about exist.
pub(super) fn add_landlock_rules(plan: &Plan) -> ChildResult<()> {
    for rule in &plan.rules {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(process::borrow(nix::libc::AT_FDCWD), rule.path.as_c_str(), flags, Mode::empty())
            .at(Step::LandlockRule, rule.label)?;
        plan.domain.allow(fd.as_fd(), rule.access).at(Step::LandlockRule, rule.label)?;
    }
    Ok(())
}

fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    process::borrow(fd)
}

/// What init gives up before it forks the program: capabilities, new privileges, and a first Landlock domain. The
/// program's own domain is nested in it, so that init can signal the program and never the other way round.
pub(super) fn give_up(plan: &Plan) -> ChildResult<()> {
    if plan.policy.level == Level::Full {
        lockdown::lock_securebits().at(Step::Securebits, NO_LABEL)?;
        lockdown::empty_bounding_set().at(Step::BoundingSet, NO_LABEL)?;
    }
    lockdown::drop_capabilities().at(Step::Capabilities, NO_LABEL)?;
    lockdown::set_no_new_privs().at(Step::NoNewPrivs, NO_LABEL)?;
    restrict(plan, plan.logging.init)
}

fn restrict(plan: &Plan, flags: u32) -> ChildResult<()> {
    lockdown::landlock_restrict(borrow(plan.domain.ruleset.as_raw_fd()), flags)
        .at(Step::LandlockRestrict, NO_LABEL)
}

/// The filter, for init and, by inheritance, for the program; after the last system call that it refuses.
/// Gives its listener where one is wanted and to be had: a filter that was there before may have the only one.
pub(super) fn filter(plan: &Plan) -> ChildResult<Option<OwnedFd>> {
    if plan.watching != Watching::Nothing
        && let Ok(listener) = notify::filter_with_listener(seccomp::program(plan.policy, plan.watching))
    {
        return Ok(Some(listener));
    }
    lockdown::seccomp_filter(seccomp::program(plan.policy, Watching::Nothing)).at(Step::Seccomp, NO_LABEL)?;
    Ok(None)
}

/// Becomes the program. Reports on `pipe` what it verified, or what failed; never returns.
pub(super) fn become_program(plan: &Plan, pipe: RawFd) -> ! {
    let pipe = match process::dup_above(pipe, PARKED) {
        Ok(fd) => fd,
        Err(_) => process::exit_now(1),
    };
    let failure = match prepare(plan, pipe) {
        Ok(bits) => {
            record(pipe, [CHECKED, bits, 0]);
            match &plan.image {
                None => process::exit_now(0),
                Some(image) => match image.exec() {
                    Ok(never) => match never {},
                    Err(errno) => Failure { step: Step::Exec, label: NO_LABEL, errno },
                },
            }
        }
        Err(failure) => failure,
    };
    record(pipe, [FAILED, (failure.step as u64) << 32 | u64::from(failure.label), failure.errno as u64]);
    process::exit_now(127)
}

fn record(pipe: RawFd, words: [u64; 3]) {
    let mut bytes = [0u8; 24];
    for (i, word) in words.iter().enumerate() {
        bytes[i * 8..i * 8 + 8].copy_from_slice(&word.to_le_bytes());
    }
    // 24 bytes on an empty pipe are written whole; if init is gone, so is this process in a moment.
    let _ = nix::unistd::write(borrow(pipe), &bytes);
}

fn prepare(plan: &Plan, pipe: RawFd) -> ChildResult<u64> {
    nix::unistd::setsid().at(Step::Session, NO_LABEL)?;
    connect_stdio(plan).at(Step::Stdio, NO_LABEL)?;
    if plan.terminal {
        process::take_terminal(borrow(0)).at(Step::Session, NO_LABEL)?;
    }
    let streams = plan.stdio.len() as RawFd;
    // Landlock's ruleset is needed until it is enforced: parked beside the pipe.
    // A piped core_pattern runs a host program for every core; 1 stops it, and nothing can be raised again.
    lower_limit(Resource::RLIMIT_CORE, 1).at(Step::Rlimit, NO_LABEL)?;
    lower_limit(Resource::RLIMIT_NOFILE, plan.open_files).at(Step::Rlimit, NO_LABEL)?;
    if counts_tasks(plan) {
        // Init is one more.
        lower_limit(Resource::RLIMIT_NPROC, plan.tasks.saturating_add(1)).at(Step::Rlimit, NO_LABEL)?;
    }
    if let Some(size) = plan.file_size {
        lower_limit(Resource::RLIMIT_FSIZE, size).at(Step::Rlimit, NO_LABEL)?;
    }
    if plan.policy.level == Level::Landlock {
        // Should init be killed (by the kernel, out of memory), the program does not stay behind.
        lockdown::die_with_parent().at(Step::DeathSignal, NO_LABEL)?;
    }
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    nix::unistd::chdir(plan.cwd.as_c_str()).at(Step::WorkingDirectory, NO_LABEL)?;
    restrict(plan, plan.logging.program)?;
    process::close_range(streams as u32, (pipe - 1) as u32).at(Step::CloseDescriptors, NO_LABEL)?;
    process::close_range((pipe + 1) as u32, u32::MAX).at(Step::CloseDescriptors, NO_LABEL)?;
    verify(plan, streams, pipe)
}

/// RLIMIT_NPROC counts a user's tasks within a user namespace: at level `landlock` an ordinary user's others as well.
fn counts_tasks(plan: &Plan) -> bool {
    plan.policy.level == Level::Full || plan.privileged
}

/// Never raises: a host limit below the wanted one stays.
fn lower_limit(resource: Resource, value: u64) -> Result<(), Errno> {
    let (_, hard) = nix::sys::resource::getrlimit(resource)?;
    let value = value.min(hard);
    setrlimit(resource, value, value)
}

fn connect_stdio(plan: &Plan) -> Result<(), Errno> {
    let mut parked = [-1; 8];
    if plan.stdio.len() > parked.len() {
        return Err(Errno::E2BIG);
    }
    for (slot, fd) in parked.iter_mut().zip(&plan.stdio) {
        *slot = process::dup_above(*fd, PARKED)?;
    }
    for (to, from) in parked.iter().enumerate().take(plan.stdio.len()) {
        // Landlock's ruleset may sit on a low number: everything above the streams is closed after it is enforced.
        if to as RawFd == plan.domain.ruleset.as_raw_fd() {
            return Err(Errno::EBADF);
        }
        process::dup_to(*from, to as RawFd)?;
    }
    Ok(())
}

/// What is claimed of this process, looked at from within it, after seccomp and before exec.
fn verify(plan: &Plan, streams: RawFd, pipe: RawFd) -> ChildResult<u64> {
    let fail = |step| Err(Failure { step, label: NO_LABEL, errno: Errno::EPERM });
    let mut bits = Mechanism::NewSession.bit() | Mechanism::OpenFilesLimit.bit();
    if counts_tasks(plan) {
        bits |= Mechanism::Rlimits.bit();
    }
    // A hard limit of 0 that was there before cannot be raised, and does not stop a piped core_pattern.
    if nix::sys::resource::getrlimit(Resource::RLIMIT_CORE).at(Step::Rlimit, NO_LABEL)? == (1, 1) {
        bits |= Mechanism::CoreDumps.bit();
    }
    if !lockdown::capabilities_dropped().at(Step::CheckCapabilities, NO_LABEL)? {
        return fail(Step::CheckCapabilities);
    }
    bits |= Mechanism::CapabilitiesDropped.bit();
    if lockdown::bounding_set_empty().at(Step::CheckCapabilities, NO_LABEL)? {
        bits |= Mechanism::CapabilitiesEmpty.bit();
    } else if plan.policy.level == Level::Full {
        return fail(Step::CheckCapabilities);
    }
    if !lockdown::has_no_new_privs() {
        return fail(Step::CheckNoNewPrivs);
    }
    bits |= Mechanism::NoNewPrivs.bit();
    if lockdown::seccomp_mode() != 2 {
        return fail(Step::CheckSeccomp);
    }
    bits |= Mechanism::Seccomp.bit();
    let at = borrow(nix::libc::AT_FDCWD);
    // These refusals are what the sandbox's audit records are known by (`audit::Own`), the first of its domain.
    let refused = match plan.policy.level {
        // /dev is this user's own and writable as a mount: only Landlock refuses a directory there.
        Level::Full => mkdirat(at, c"/dev/.landlock", Mode::from_bits_truncate(0o700)),
        // Everybody may list the root directory, and no rule is about it.
        Level::Landlock => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            openat(at, c"/", flags, Mode::empty()).map(drop)
        }
    };
    if refused != Err(Errno::EACCES) {
        return fail(Step::CheckLandlock);
    }
    if plan.policy.level == Level::Landlock {
        // Init is of the same uid: only the scope keeps a signal from it, as from every other process of this user.
        if process::may_signal(nix::unistd::getppid().as_raw()) != Err(Errno::EPERM) {
            return fail(Step::CheckScope);
        }
        if plan.policy.network == Network::None {
            bits |= Mechanism::SocketsRefused.bit();
        }
    }
    if fstatat(at, c"/dev/null", AtFlags::AT_SYMLINK_NOFOLLOW).is_err() {
        return fail(Step::CheckLandlock);
    }
    bits |= Mechanism::Landlock.bit();
    if plan.domain.scoped {
        bits |= Mechanism::LandlockScope.bit();
    }
    for first in (0..1024).step_by(process::POLLED) {
        let open = process::open_among(first).at(Step::CheckDescriptors, NO_LABEL)?;
        for (fd, is_open) in (first..).zip(open) {
            let expected = fd < streams || fd == pipe;
            if is_open != expected {
                return fail(Step::CheckDescriptors);
            }
        }
    }
    bits |= Mechanism::DescriptorsClosed.bit();
    Ok(bits)
}
