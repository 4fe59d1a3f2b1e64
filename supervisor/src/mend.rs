//! What to do about a host on which a sandbox's step failed: one text for each cause, found by the step, the kernel's
//! answer and the facts around it. Used by `doctor` and by the remedy of `sandbox_unavailable`.
//!
//! Nothing is decided here: a wrong guess costs a reader time, never a run its sandbox.

use std::path::Path;

use proctor_sandbox::error::{LaunchError, Step, StepError};
use proctor_sandbox::host::Facts;

const ENOENT: i32 = 2;
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const ENOSYS: i32 = 38;

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// The profile that Ubuntu 23.10 and later want for a program that makes user namespaces.
pub const UBUNTU: &str = "AppArmor restricts user namespaces here (Ubuntu 23.10 and later). Allow them to Proctor alone: write `abi <abi/4.0>, include <tunables/global> profile proctor /PATH/TO/proctor flags=(unconfined) { userns, }` to /etc/apparmor.d/proctor and run `apparmor_parser -r /etc/apparmor.d/proctor`; or allow them to everybody: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";

/// What to do about a failed start.
pub fn of(error: &LaunchError, facts: &Facts) -> String {
    match error {
        LaunchError::Step(step) => of_step(step, facts),
        LaunchError::Shortfall(_) => {
            "a mechanism was applied and was not seen to work: look at the lines of `proctor doctor`".into()
        }
        LaunchError::Spec(_) | LaunchError::Exec { .. } | LaunchError::Launcher(_) => {
            "the message says what failed and what to change; if it names nothing to mend, it is a defect: please report it".into()
        }
    }
}

/// What to do about a failed step.
pub fn of_step(failed: &StepError, facts: &Facts) -> String {
    let denied = matches!(failed.errno, EPERM | EACCES);
    match failed.step {
        Step::Clone | Step::IdmapNamespace => namespaces(failed, facts),
        Step::UidMap | Step::GidMap => maps(facts),
        Step::IdmapOpen | Step::IdmapSet if denied && facts.own.root && lacks(facts, CAP_SYS_ADMIN) => {
            format!(
                "root lacks CAP_SYS_ADMIN, which mounts with mapped ids need: run Proctor as an ordinary user here (in a container --user 1000), or {}",
                match runtime(facts) {
                    Runtime::Kubernetes => "grant it (securityContext.capabilities.add: [SYS_ADMIN])",
                    Runtime::Other => "start it with --cap-add SYS_ADMIN",
                }
            )
        }
        Step::IdmapOpen | Step::IdmapSet if denied && facts.own.root && facts.own.ids_mapped => {
            "this root is root of a user namespace alone, which may not map the ids of a mount: run Proctor as an ordinary user here (in a container --user 1000)".into()
        }
        Step::ProcMount if denied && !facts.own.proc_covered.is_empty() => covered(facts),
        Step::LandlockRuleset => landlock(failed, facts),
        Step::LandlockRule | Step::LandlockRestrict if facts.own.filtered => filter(facts, "the landlock calls"),
        Step::Seccomp if facts.own.filtered => filter(facts, "the call seccomp"),
        Step::Seccomp | Step::CheckSeccomp => {
            "seccomp filters are not to be had: use a kernel with CONFIG_SECCOMP_FILTER".into()
        }
        Step::Pidfd if facts.own.filtered => filter(facts, "pidfd_open and pidfd_send_signal"),
        Step::Pidfd => "use Linux 5.3 or later, which names processes by descriptors".into(),
        Step::SeedUpper => "private layers cannot be kept there: in memory they need Linux 6.6 or later (user extended attributes on tmpfs; --layer disk does without), on disk Proctor's state on ext4, xfs or btrfs (XDG_STATE_HOME)".into(),
        Step::LayerDir => "Proctor's state directory cannot be entered by its sandbox: move it with XDG_STATE_HOME".into(),
        Step::OverlayMount => overlay(failed, facts),
        Step::IdmapSet if failed.errno == EINVAL && facts.own.root_fs.as_deref() == Some("overlay") => {
            "the work tree stands on an overlay, as a container's root does, and cannot be idmapped there: put it on a volume (ext4, xfs, btrfs or tmpfs), or run Proctor as an ordinary user".into()
        }
        Step::IdmapSet if failed.errno == EINVAL => {
            "the file system below the work tree has no idmapped mounts: use ext4, xfs, btrfs or tmpfs, or run Proctor as an ordinary user".into()
        }
        Step::LoopbackUp if facts.own.filtered => {
            filter(facts, "internet sockets and their ioctl in a network namespace")
                + " (below systemd look at RestrictAddressFamilies=)"
        }
        Step::CgroupJoin => delegation(),
        Step::Hostname if facts.own.filtered => filter(facts, "the call sethostname"),
        step if mounts(step) => mounting(failed, facts),
        _ if facts.own.filtered && (denied || failed.errno == ENOSYS) => filter(facts, "this call"),
        _ => "see docs/threat-model.md for what level full needs".into(),
    }
}

/// What to do where a child that tried something was killed.
pub fn of_death(facts: &Facts) -> String {
    if facts.own.filtered {
        filter(facts, "this, and kills for it,")
    } else {
        "something kills for it: look at the host's log, at memory limits and at the LSMs in use".into()
    }
}

/// What to do where layers can be kept neither in memory nor on disk, below the directory `state`.
pub fn of_layers(memory: &LaunchError, disk: &LaunchError, state: &Path, facts: &Facts) -> String {
    match memory {
        LaunchError::Step(step) if step.step == Step::SeedUpper => format!(
            "use Linux 6.6 or later, or put Proctor's state on ext4, xfs or btrfs (XDG_STATE_HOME; it is in {}): this kernel cannot keep private layers in memory, and that place cannot hold them either",
            state.display()
        ),
        // An overlay that is refused in both places is refused for what is below it.
        _ => of(disk, facts),
    }
}

/// How to get a cgroup of one's own.
pub fn delegation() -> String {
    "run in a delegated cgroup: `systemd-run --user --scope -p Delegate=yes proctor ...`, or Delegate=yes in the unit that starts it; in a container mount /sys/fs/cgroup writable (--cgroupns=private with --privileged, or podman's --systemd=always)".into()
}

fn lacks(facts: &Facts, capability: u64) -> bool {
    facts.own.capabilities & capability == 0
}

/// Whose words the options of a container are given in.
enum Runtime {
    Kubernetes,
    Other,
}

fn runtime(facts: &Facts) -> Runtime {
    match facts.container.as_deref() {
        Some("kubernetes") => Runtime::Kubernetes,
        _ => Runtime::Other,
    }
}

/// A filter over this process, not the kernel, gave the answer.
fn filter(facts: &Facts, what: &str) -> String {
    match (runtime(facts), &facts.container) {
        (Runtime::Kubernetes, _) => format!(
            "the pod's seccomp profile refuses {what}: set securityContext.seccompProfile.type: Unconfined (or Localhost with a profile that allows it) and, where AppArmor is in use, appArmorProfile.type: Unconfined"
        ),
        (Runtime::Other, Some(_)) => format!(
            "the container's seccomp profile refuses {what}: start it with --security-opt seccomp=unconfined (or =FILE with a profile that allows it) and, where AppArmor is in use, --security-opt apparmor=unconfined"
        ),
        (Runtime::Other, None) => format!(
            "a seccomp filter over this process refuses {what}: start Proctor outside of it (in a container with --security-opt seccomp=unconfined, in a systemd unit without SystemCallFilter= and RestrictNamespaces=)"
        ),
    }
}

fn namespaces(failed: &StepError, facts: &Facts) -> String {
    if facts.max_user_namespaces == Some(0) {
        return "user namespaces are off: sysctl -w user.max_user_namespaces=15000".into();
    }
    if failed.errno == ENOSPC {
        return "a limit on namespaces is reached, or they are nested 32 deep: look at `sysctl -a | grep max_.*_namespaces` and raise the one that is too low".into();
    }
    if facts.own.chroot {
        return "in a chroot the kernel makes no user namespace: enter that root with systemd-nspawn, bwrap or a container, which use pivot_root".into();
    }
    if facts.unprivileged_userns_clone == Some(0) && !facts.own.root {
        return "unprivileged user namespaces are off: sysctl -w kernel.unprivileged_userns_clone=1".into();
    }
    if facts.own.filtered {
        let text = filter(facts, "new namespaces (clone3, clone, unshare)");
        return match runtime(facts) {
            Runtime::Kubernetes => text + "; hostUsers: false alone does not lift it",
            Runtime::Other => text,
        };
    }
    if facts.apparmor_restricts_userns == Some(1) && !facts.own.root {
        return UBUNTU.into();
    }
    match failed.errno {
        ENOSYS => "clone3 is not there: use Linux 5.3 or later".into(),
        EINVAL => "a kind of namespace is not in this kernel: use one with CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_IPC_NS, CONFIG_UTS_NS and CONFIG_CGROUPS".into(),
        _ => match &facts.own.apparmor {
            Some(profile) => confined(profile, facts),
            None => "allow user namespaces for this user (an LSM or a sysctl of the distribution forbids them), or run as root".into(),
        },
    }
}

fn maps(facts: &Facts) -> String {
    if facts.own.root && (lacks(facts, CAP_SETUID) || lacks(facts, CAP_SETGID)) {
        return match runtime(facts) {
            Runtime::Kubernetes => "root lacks CAP_SETUID or CAP_SETGID: grant them (securityContext.capabilities.add: [SETUID, SETGID]), or run Proctor as an ordinary user (runAsUser: 1000)".into(),
            Runtime::Other => "root lacks CAP_SETUID or CAP_SETGID: start with --cap-add SETUID --cap-add SETGID, or run Proctor as an ordinary user".into(),
        };
    }
    if facts.apparmor_restricts_userns == Some(1) {
        return UBUNTU.into();
    }
    if facts.own.root && facts.own.ids_mapped {
        return "the host uids that root uses for sandboxes are not mapped into this container: run Proctor as an ordinary user here (--user 1000), or start the container without a user namespace of its own (--userns=host, hostUsers: true)".into();
    }
    match &facts.own.apparmor {
        Some(profile) => confined(profile, facts),
        None => "something denies capabilities in user namespaces: look at the LSMs in use (AppArmor's `userns` rule, SELinux's user_namespace class) and at the host's log".into(),
    }
}

fn confined(profile: &str, facts: &Facts) -> String {
    match runtime(facts) {
        Runtime::Kubernetes => format!(
            "AppArmor's profile {profile} is over this process: set securityContext.appArmorProfile.type: Unconfined"
        ),
        Runtime::Other => format!(
            "AppArmor's profile {profile} is over this process: in a container use --security-opt apparmor=unconfined, else let the profile allow userns and mount"
        ),
    }
}

fn covered(facts: &Facts) -> String {
    let shown: Vec<&str> = facts.own.proc_covered.iter().take(3).map(String::as_str).collect();
    let why = format!(
        "a fresh /proc is refused while parts of this one are covered ({}{})",
        shown.join(", "),
        if facts.own.proc_covered.len() > shown.len() { ", ..." } else { "" }
    );
    match (runtime(facts), facts.container.as_deref()) {
        (Runtime::Kubernetes, _) => {
            format!("{why}: set securityContext.procMount: Unmasked, which needs hostUsers: false in the pod")
        }
        (_, Some("podman")) => format!("{why}: start the container with --security-opt unmask=/proc/*"),
        (_, Some(_)) => format!("{why}: start the container with --security-opt systempaths=unconfined"),
        (_, None) => format!(
            "{why}: unmount them, or start where they are not (Docker: --security-opt systempaths=unconfined, podman: --security-opt unmask=/proc/*, Kubernetes: procMount: Unmasked)"
        ),
    }
}

fn landlock(failed: &StepError, facts: &Facts) -> String {
    if facts.landlock_abi == 1 {
        return format!(
            "Landlock's ABI is 1 (Linux {}): level full needs ABI 2, which came with Linux 5.19",
            facts.own.kernel
        );
    }
    match failed.errno {
        ENOSYS | EPERM | EACCES if facts.own.filtered => {
            filter(facts, "the landlock calls (or the kernel has none: Linux 5.19 or later)")
        }
        ENOSYS => "Landlock is not in this kernel: use Linux 5.19 or later with CONFIG_SECURITY_LANDLOCK=y".into(),
        _ => "Landlock is in this kernel and not enabled: boot with `landlock` in the parameter lsm= (or CONFIG_LSM), for example lsm=landlock,lockdown,yama,integrity,apparmor,bpf".into(),
    }
}

fn overlay(failed: &StepError, facts: &Facts) -> String {
    match failed.errno {
        ENODEV | ENOENT => "overlayfs is not in the running kernel: modprobe overlay (CONFIG_OVERLAY_FS); in a container that is the host's to do".into(),
        _ if !facts.overlay_registered => "overlayfs is not in the running kernel: modprobe overlay (CONFIG_OVERLAY_FS)".into(),
        EINVAL => "overlayfs does not take this file system as its lower layer (an overlay over an overlay, a network or FUSE file system): put the work tree on a volume (ext4, xfs, btrfs or tmpfs)".into(),
        EPERM | EACCES | ENOSYS if facts.own.filtered => filter(facts, "the mount calls (fsopen, fsconfig, fsmount)"),
        EPERM => "an overlay in a user namespace is refused: use Linux 5.11 or later".into(),
        _ => mounting(failed, facts),
    }
}

/// Steps that are calls of the mount API.
fn mounts(step: Step) -> bool {
    matches!(
        step,
        Step::IdmapOpen
            | Step::IdmapSet
            | Step::Propagation
            | Step::StoreCreate
            | Step::StoreAttach
            | Step::RootMount
            | Step::BindClone
            | Step::BindFlags
            | Step::BindAttach
            | Step::ProcMount
            | Step::ProcMask
            | Step::Devpts
            | Step::OverlayLower
            | Step::OverlayMount
            | Step::OverlayDetach
            | Step::HiddenMask
            | Step::RootReadOnly
            | Step::PivotRoot
            | Step::Hostname
    )
}

fn mounting(failed: &StepError, facts: &Facts) -> String {
    match failed.errno {
        EPERM | EACCES if facts.apparmor_restricts_userns == Some(1) && !facts.own.root => UBUNTU.into(),
        EPERM | EACCES | ENOSYS if facts.own.filtered => {
            filter(facts, "the mount calls (open_tree, move_mount, fsopen, fsconfig, fsmount, mount_setattr, pivot_root, umount2)")
        }
        EPERM | EACCES => match &facts.own.apparmor {
            Some(profile) => confined(profile, facts),
            None => "mounting in a user namespace is refused: look at the LSMs in use and at the host's log".into(),
        },
        ENOSYS => format!(
            "the mount API is older than needed in Linux {}: use Linux 5.12 or later (mount_setattr)",
            facts.own.kernel
        ),
        ENODEV => "a file system that every sandbox needs (tmpfs, proc, devpts) is not in this kernel".into(),
        _ => "the kernel took the mount for impossible: see the message for the path, and docs/threat-model.md for what level full needs".into(),
    }
}

#[cfg(test)]
#[path = "mend_tests.rs"]
mod tests;
