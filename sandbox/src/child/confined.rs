//! Level `landlock`: no namespace and no mount. What a pid namespace does at level `full` is done by init as the parent
//! of every orphan, with signals that Landlock keeps in; who the program is, is a host uid.

use super::{At, ChildResult, NO_LABEL, check_watched};
use crate::enforced::Mechanism;
use crate::error::Step;
use crate::plan::Plan;
use crate::sys::{lockdown, process};

/// Up to where init gives up what is left.
pub(super) fn prepare(plan: &Plan) -> ChildResult<u64> {
    // Not the death signal that level `full` asks for: init must live on, to kill the others.
    check_watched(plan)?;
    lockdown::adopt_orphans().at(Step::Subreaper, NO_LABEL)?;
    if plan.privileged {
        // While there is the right to: with these bits, leaving uid 0 clears no capability, which `drop` then does.
        lockdown::lock_securebits().at(Step::Securebits, NO_LABEL)?;
        lockdown::empty_bounding_set().at(Step::BoundingSet, NO_LABEL)?;
        process::drop_groups().at(Step::Groups, NO_LABEL)?;
        process::set_gid(plan.identity.host_gid).at(Step::SetGid, NO_LABEL)?;
        process::set_uid(plan.identity.host_uid).at(Step::SetUid, NO_LABEL)?;
    }
    Ok(if plan.copied_tree { Mechanism::PrivateCopy.bit() } else { 0 })
}
