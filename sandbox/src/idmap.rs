//! User and group id maps: of a sandbox's user namespace, and of the idmapped mounts through which an unprivileged
//! host uid edits a tree that root owns (user_namespaces(7), mount_setattr(2)).

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::fstat;

use crate::error::{Step, StepError, StepResult};
use crate::spec::Identity;
use crate::sys::{lockdown, mount, process};

fn write_proc(pid: libc::pid_t, file: &str, text: &str, step: Step) -> StepResult<()> {
    std::fs::write(format!("/proc/{pid}/{file}"), text)
        .map_err(|e| StepError::new(step, text.trim_end(), Errno::from_raw(e.raw_os_error().unwrap_or(0))))
}

/// Maps the one inside id to the one host id. An ordinary user must give setgroups(2) up first.
pub(crate) fn write_maps(pid: libc::pid_t, identity: &Identity, privileged: bool) -> StepResult<()> {
    if !privileged {
        write_proc(pid, "setgroups", "deny", Step::GidMap)?;
    }
    write_proc(pid, "uid_map", &format!("{} {} 1\n", identity.inside_uid, identity.host_uid), Step::UidMap)?;
    write_proc(pid, "gid_map", &format!("{} {} 1\n", identity.inside_gid, identity.host_gid), Step::GidMap)
}

/// A user namespace in which `from` on disk is `to` in the system: what mount_setattr(2) wants for an idmapped mount.
/// A short-lived child carries it until its descriptor is open.
fn namespace(from: (u32, u32), to: (u32, u32)) -> StepResult<OwnedFd> {
    let failed = |errno| StepError::new(Step::IdmapNamespace, "", errno);
    let launcher = nix::unistd::getpid();
    let pid = match process::clone_child(libc::CLONE_NEWUSER as u64).map_err(failed)? {
        process::Cloned::Child => {
            // Asked for first, then looked at: a launcher that died in between would be missed otherwise.
            if lockdown::die_with_parent().is_err() || nix::unistd::getppid() != launcher {
                process::exit_now(1);
            }
            loop {
                nix::unistd::pause();
            }
        }
        process::Cloned::Parent(pid, pidfd) => Carrier(pid, pidfd),
    };
    write_proc(pid.0, "uid_map", &format!("{} {} 1\n", from.0, to.0), Step::UidMap)?;
    write_proc(pid.0, "gid_map", &format!("{} {} 1\n", from.1, to.1), Step::GidMap)?;
    let file = std::fs::File::open(format!("/proc/{}/ns/user", pid.0))
        .map_err(|e| failed(Errno::from_raw(e.raw_os_error().unwrap_or(0))))?;
    Ok(file.into())
}

struct Carrier(libc::pid_t, OwnedFd);

impl Drop for Carrier {
    fn drop(&mut self) {
        let _ = process::pidfd_signal(self.1.as_fd(), libc::SIGKILL);
    }
}

/// A detached, idmapped clone of the mount at `path`, in which its owner appears as the host ids given; nosuid, nodev,
/// and made read-only by whoever wants it so.
pub(crate) fn clone_for(path: &Path, host_uid: u32, host_gid: u32) -> StepResult<OwnedFd> {
    let subject = path.to_string_lossy().into_owned();
    let at = |step: Step| {
        let subject = subject.clone();
        move |errno: Errno| StepError::new(step, subject.clone(), errno)
    };
    let c_path = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| at(Step::IdmapOpen)(Errno::EINVAL))?;
    let dir = crate::child::open_source(&c_path).map_err(at(Step::IdmapOpen))?;
    let stat = fstat(&dir).map_err(at(Step::IdmapOpen))?;
    let tree = mount::open_tree_clone(dir.as_fd(), c"", false).map_err(at(Step::IdmapOpen))?;
    let userns = namespace((stat.st_uid, stat.st_gid), (host_uid, host_gid))?;
    let attributes = mount::ATTR_NOSUID | mount::ATTR_NODEV;
    mount::idmap(tree.as_fd(), userns.as_fd(), attributes).map_err(at(Step::IdmapSet))?;
    Ok(tree)
}

/// A detached clone of a source that the sandbox's host uid could not open by its path: below a directory that others
/// may not enter it is opened here, by whoever may; and what is itself closed to others is shown as its owner sees it,
/// since it was named. `None` where the sandbox can open it alone, which locks its flags in addition.
pub(crate) fn clone_closed(path: &Path, host_uid: u32, host_gid: u32) -> StepResult<Option<OwnedFd>> {
    use std::os::unix::fs::MetadataExt;
    let failed = |e: std::io::Error| {
        let errno = Errno::from_raw(e.raw_os_error().unwrap_or(0));
        StepError::new(Step::OpenSource, path.to_string_lossy(), errno)
    };
    let meta = std::fs::symlink_metadata(path).map_err(failed)?;
    let needed = if meta.is_dir() { 0o005 } else { 0o004 };
    if meta.mode() & needed != needed {
        return clone_for(path, host_uid, host_gid).map(Some);
    }
    for above in path.ancestors().skip(1) {
        if std::fs::symlink_metadata(above).map_err(failed)?.mode() & 0o001 == 0 {
            let at = |errno| StepError::new(Step::OpenSource, path.to_string_lossy(), errno);
            let c_path =
                std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| at(Errno::EINVAL))?;
            let source = crate::child::open_source(&c_path).map_err(at)?;
            return mount::open_tree_clone(source.as_fd(), c"", true).map(Some).map_err(at);
        }
    }
    Ok(None)
}
