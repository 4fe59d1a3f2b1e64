//! What runs between clone and exec. Nothing here allocates or takes a lock: it walks a prepared [`Plan`] with
//! system calls and ends the process itself.
//!
//! `setup` builds the private root (`confined` stands for it at level `landlock`, where there is none), `seed` writes prepared files, `program` becomes the untrusted program, `init`
//! stays behind as pid 1 of the sandbox.

mod confined;
mod init;
mod program;
pub(crate) mod seed;
mod setup;

use std::os::fd::RawFd;

pub(crate) use setup::open_source;

use nix::errno::Errno;

use crate::enforced::Mechanism;
use crate::error::Step;
use crate::message::Message;
use crate::plan::{Label, Plan};
use crate::spec::Level;
use crate::sys::process;

/// A failure inside the child: numbers only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) label: Label,
    pub(crate) errno: Errno,
}

/// No label: the step says it all.
pub(crate) const NO_LABEL: Label = Label::MAX;

type ChildResult<T> = Result<T, Failure>;

/// Attaches the step to a kernel error.
trait At<T> {
    fn at(self, step: Step, label: Label) -> ChildResult<T>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step, label: Label) -> ChildResult<T> {
        self.map_err(|errno| Failure { step, label, errno })
    }
}

/// The child's whole life.
pub(crate) fn run(plan: &Plan) -> ! {
    if let Err(failure) = prepare(plan) {
        Message::Failed { step: failure.step, label: failure.label, errno: failure.errno as i32 }
            .send(plan.status);
        process::exit_now(1);
    }
    process::exit_now(0);
}

fn prepare(plan: &Plan) -> ChildResult<()> {
    process::reset_signals();
    close_all_but(&plan.keep).at(Step::CloseDescriptors, NO_LABEL)?;
    wait_for_go(plan)?;
    if plan.policy.level == Level::Landlock {
        let bits = confined::prepare(plan)?;
        return init::run(plan, None, bits);
    }
    if plan.privileged {
        process::drop_groups().at(Step::Groups, NO_LABEL)?;
    }
    process::set_gid(plan.identity.inside_gid).at(Step::SetGid, NO_LABEL)?;
    process::set_uid(plan.identity.inside_uid).at(Step::SetUid, NO_LABEL)?;
    // After the ids, which would clear it; then a look at whether the death it waits for has already been.
    crate::sys::lockdown::die_with_parent().at(Step::DeathSignal, NO_LABEL)?;
    check_watched(plan)?;
    let mut bits = [
        Mechanism::UserNamespace,
        Mechanism::MountNamespace,
        Mechanism::PidNamespace,
        Mechanism::IpcNamespace,
        Mechanism::CgroupNamespace,
        Mechanism::DeathWatch,
    ]
    .iter()
    .fold(0, |bits, m| bits | m.bit());
    let store = setup::build(plan, &mut bits)?;
    init::run(plan, Some(store), bits)
}

fn check_watched(plan: &Plan) -> ChildResult<()> {
    for watched in [plan.supervisor, plan.launcher] {
        if process::has_exited(process::borrow(watched)) {
            return Err(Failure { step: Step::SupervisorGone, label: NO_LABEL, errno: Errno::ESRCH });
        }
    }
    Ok(())
}

/// Closes every descriptor that is not in the sorted list.
fn close_all_but(keep: &[RawFd]) -> Result<(), Errno> {
    let mut first = 0u32;
    for fd in keep {
        let fd = *fd as u32;
        if fd > first {
            process::close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    process::close_range(first, u32::MAX)
}

fn wait_for_go(plan: &Plan) -> ChildResult<()> {
    let mut byte = [0u8; 1];
    loop {
        match nix::unistd::read(process::borrow(plan.go), &mut byte) {
            Ok(1) => return Ok(()),
            Ok(_) => {
                return Err(Failure { step: Step::Handshake, label: NO_LABEL, errno: Errno::EPIPE });
            }
            Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(Failure { step: Step::Handshake, label: NO_LABEL, errno });
            }
        }
    }
}
