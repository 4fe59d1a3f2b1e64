//! Pid 1 of the sandbox: trusted, non-dumpable, as locked down as the program. It reaps, carries signals in, and
//! ends with the program, with the supervisor or with the launcher, whichever is first; the kernel then kills every
//! other process of the pid namespace.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::program::{CHECKED, FAILED};
use super::{ChildResult, Failure, NO_LABEL, program};
use crate::enforced::Mechanism;
use crate::error::Step;
use crate::message::Message;
use crate::plan::{Label, Plan};
use crate::running::END;
use crate::spec::Level;
use crate::sys::{lockdown, process};

fn failed(step: Step) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { step, label: NO_LABEL, errno }
}

/// Starts the program and stays until it, or whoever it belongs to, is gone.
pub(super) fn run(plan: &Plan, store: Option<OwnedFd>, setup_bits: u64) -> ChildResult<()> {
    program::add_landlock_rules(plan)?;
    // The supervisor has the store by message; here it is not needed, and the program must not inherit it.
    drop(store);
    let (read_end, write_end) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(failed(Step::Fork))?;
    let child_signals = process::child_signalfd().map_err(failed(Step::Wait))?;
    program::give_up(plan)?;
    let mut bits = setup_bits;
    if plan.policy.level == Level::Landlock {
        // From here on kill(2) of everybody reaches the sandbox alone: looked at on processes of this user that it must
        // not reach. Of another uid they would be out of reach anyway.
        for other in [plan.supervisor, plan.launcher] {
            if process::pidfd_signal(process::borrow(other), 0) != Err(Errno::EPERM) {
                return Err(failed(Step::CheckScope)(Errno::EPERM));
            }
        }
        bits |= Mechanism::ProcessSet.bit() | Mechanism::DeathWatch.bit();
    }
    // Before the fork: from here on no process of the same uid may look into this one's memory or descriptors.
    lockdown::set_undumpable().map_err(failed(Step::Dumpable))?;
    // One filter for both: the program inherits it, and there is no moment in which either is without.
    if let Some(listener) = program::filter(plan)? {
        Message::Listener.send_with(plan.status, listener.as_raw_fd()).map_err(failed(Step::Report))?;
        // Dropped before the fork: whoever holds it answers for the program.
        drop(listener);
        bits |= Mechanism::Listener.bit();
        if plan.policy.level == Level::Landlock {
            bits |= Mechanism::MetadataServed.bit();
        }
    }
    let Some(main) = process::fork_below_filter().map_err(failed(Step::Fork))? else {
        process::reset_signals();
        program::become_program(plan, write_end.as_raw_fd())
    };
    drop(write_end);
    bits |= await_exec(&read_end)?;
    drop(read_end);
    keep_only(plan, child_signals.as_raw_fd()).map_err(failed(Step::CloseDescriptors))?;
    Message::Started { bits }.send(plan.status);
    serve(plan, child_signals.as_raw_fd(), main)
}

/// Reads the program's records until its end of the pipe closes: on exec, or with its death.
fn await_exec(pipe: &OwnedFd) -> ChildResult<u64> {
    let mut bytes = [0u8; 48];
    let mut have = 0;
    loop {
        match nix::unistd::read(pipe, &mut bytes[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(Failure { step: Step::Exec, label: NO_LABEL, errno });
            }
        }
        if have == bytes.len() {
            break;
        }
    }
    let word = |i: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|b| bytes[i * 8 + b]));
    let failure = |at: usize| {
        let step = Step::from_raw((word(at + 1) >> 32) as u16).unwrap_or(Step::Exec);
        let label = Label::try_from(word(at + 1) & 0xffff).unwrap_or(NO_LABEL);
        Failure { step, label, errno: Errno::from_raw(word(at + 2) as i32) }
    };
    match (have, word(0), word(3)) {
        (24, CHECKED, _) => Ok(word(1)),
        (24, FAILED, _) => Err(failure(0)),
        (48, CHECKED, FAILED) => Err(failure(3)),
        // It died between fork and exec without a word: out of memory, or killed.
        _ => Err(Failure { step: Step::Exec, label: NO_LABEL, errno: Errno::ECHILD }),
    }
}

/// Closes everything but what init itself waits on: it must not hold a pipe of the program's open.
fn keep_only(plan: &Plan, signals: RawFd) -> Result<(), Errno> {
    let mut keep = [plan.status, plan.supervisor, plan.launcher, signals];
    keep.sort_unstable();
    super::close_all_but(&keep)
}

/// Nobody is interested any more.
fn end(plan: &Plan) -> ! {
    kill_others(plan);
    process::exit_now(0)
}

/// Level `landlock`: kills every other process of the sandbox and waits until none is left. One kill(2) of everybody holds
/// the lock that a fork needs, so that nothing slips through; and since orphans come to init, no child left means no
/// process left. At level `full` the kernel does the same as init, pid 1 of its namespace, exits.
fn kill_others(plan: &Plan) -> bool {
    if plan.policy.level == Level::Full {
        return true;
    }
    process::signal_all(libc::SIGKILL);
    loop {
        match process::reap_waiting() {
            Ok(_) => process::signal_all(libc::SIGKILL),
            Err(errno) => return errno == Errno::ECHILD,
        }
    }
}

fn serve(plan: &Plan, signals: RawFd, main: nix::libc::pid_t) -> ChildResult<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    loop {
        let mut fds = [signals, plan.status, plan.supervisor, plan.launcher]
            .map(|fd| PollFd::new(process::borrow(fd), PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(Failure { step: Step::Wait, label: NO_LABEL, errno });
            }
        }
        let ready = fds.map(|f| f.revents().is_some_and(|r| !r.is_empty()));
        if ready[2] || ready[3] {
            end(plan);
        }
        if ready[0] {
            let mut sink = [0u8; 128];
            while matches!(nix::unistd::read(process::borrow(signals), &mut sink), Ok(n) if n > 0) {}
            while let Some((pid, status)) = process::reap() {
                if pid == main {
                    let emptied = kill_others(plan);
                    let (user_micros, system_micros, max_rss_kib) = process::children_usage();
                    Message::Exited { status, user_micros, system_micros, max_rss_kib, emptied }
                        .send(plan.status);
                    process::exit_now(0);
                }
            }
        }
        if ready[1] {
            let mut request = [0u8; 8];
            match nix::unistd::read(process::borrow(plan.status), &mut request) {
                Ok(1) if request[0] == END => process::signal_all(libc::SIGKILL),
                Ok(1) => process::signal_all(i32::from(request[0])),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // End of file: nobody waits for this sandbox any more.
                _ => end(plan),
            }
        }
    }
}
