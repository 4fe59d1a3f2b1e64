//! Changes of mode, owner and times at level `landlock`, where Landlock does not mediate them and no mount is read-only:
//! the calls are stopped by seccomp, and what they ask for is done here, on what was opened here, and only beneath the
//! sandbox's own directories. A stopped call never goes on.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, fstat, utimensat};
use nix::sys::time::TimeSpec;

use crate::caller::Caller;
use crate::fsids::FileSystemIds;
use crate::spec::{Level, Mount, SandboxSpec};
use crate::sys::process;

/// What the sandbox may change, and as whom.
#[derive(Debug)]
pub(crate) struct Custody {
    /// The sandbox's own directories, without links, with their places in the view.
    roots: Vec<(usize, PathBuf)>,
    /// What is masked of those before it.
    masks: Vec<(usize, PathBuf)>,
    uid: u32,
    gid: u32,
    /// Started by root at level `landlock`: the sandbox's ids are taken for each look at it and each change.
    switch: bool,
}

/// What is asked for.
enum Wanted {
    Mode(u32),
    Owner(u32, u32),
    /// Access and modification; `None` is now.
    Times(Option<[TimeSpec; 2]>),
}

/// Of what.
enum Target {
    Descriptor(i32),
    Path { at: i32, path: u64, follow: bool, empty: bool },
}

impl Custody {
    pub(crate) fn new(spec: &SandboxSpec) -> Self {
        let (mut roots, mut masks) = (Vec::new(), Vec::new());
        if spec.level == Level::Landlock {
            for (place, mount) in spec.view.iter().enumerate() {
                match mount {
                    Mount::Bind { source: own, writable: true, .. } | Mount::Private { target: own, .. } => {
                        roots.push((place, own.clone()));
                    }
                    Mount::Mask { target } => masks.push((place, target.clone())),
                    _ => {}
                }
            }
            roots.extend(
                spec.tree.iter().filter(|tree| tree.writable).map(|tree| (usize::MAX, tree.path.clone())),
            );
        }
        let switch = spec.level == Level::Landlock && nix::unistd::geteuid().is_root();
        Self { roots, masks, uid: spec.identity.host_uid, gid: spec.identity.host_gid, switch }
    }

    /// A container's root often may not look into processes of others (CAP_SYS_PTRACE), and must not act on files with
    /// rights that the sandbox lacks.
    pub(crate) fn take_its_ids(&self) -> Option<FileSystemIds> {
        self.switch.then(|| FileSystemIds::take(self.uid, self.gid))
    }

    fn is_own(&self, path: &Path) -> bool {
        let masked =
            |shown: usize| self.masks.iter().any(|(place, dir)| *place > shown && path.starts_with(dir));
        self.roots.iter().any(|(place, dir)| path.starts_with(dir) && !masked(*place))
    }

    /// Does what a stopped call asks for. `EPERM` where it is not beneath what is the sandbox's own.
    pub(crate) fn serve(&self, caller: &Caller, nr: libc::c_long, args: &[u64; 6]) -> Result<(), Errno> {
        let (target, wanted) = decode(caller, nr, args)?;
        let fd = resolve(caller, &target)?;
        let path = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|_| Errno::EPERM)?;
        let stat = fstat(&fd)?;
        // Whatever names led here: this is where it is.
        if stat.st_uid != self.uid || !self.is_own(&path) {
            return Err(Errno::EPERM);
        }
        apply(&fd, &wanted, (self.uid, self.gid))
    }
}

fn apply(fd: &OwnedFd, wanted: &Wanted, own: (u32, u32)) -> Result<(), Errno> {
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match wanted {
        Wanted::Mode(mode) => {
            // As the tables of the other levels have it: its owner's rights would be everybody's.
            if mode & 0o6000 != 0 {
                return Err(Errno::EPERM);
            }
            let mode = Mode::from_bits_truncate(mode & 0o1777);
            fchmodat(AT_FDCWD, name.as_str(), mode, FchmodatFlags::FollowSymlink)
        }
        // To oneself it is nothing, and to another nobody may give without rights.
        Wanted::Owner(uid, gid) => {
            let kept = |wanted: u32, own: u32| wanted == u32::MAX || wanted == own;
            if kept(*uid, own.0) && kept(*gid, own.1) { Ok(()) } else { Err(Errno::EPERM) }
        }
        Wanted::Times(times) => {
            let now = TimeSpec::UTIME_NOW;
            let [accessed, modified] = times.unwrap_or([now, now]);
            utimensat(AT_FDCWD, name.as_str(), &accessed, &modified, UtimensatFlags::FollowSymlink)
        }
    }
}

fn resolve(caller: &Caller, target: &Target) -> Result<OwnedFd, Errno> {
    let tid = caller.tid;
    let descriptor = |fd: i32| {
        let name = match fd {
            libc::AT_FDCWD => format!("/proc/{tid}/cwd"),
            0.. => format!("/proc/{tid}/fd/{fd}"),
            _ => return Err(Errno::EBADF),
        };
        open(name.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOENT => Errno::EBADF,
            other => other,
        })
    };
    let Target::Path { at, path, follow, empty } = target else {
        let Target::Descriptor(fd) = target else { return Err(Errno::EINVAL) };
        return descriptor(*fd);
    };
    let memory = caller.memory().ok_or(Errno::EPERM)?;
    let (bytes, whole) = memory.string(*path, libc::PATH_MAX as usize);
    match (bytes.as_slice(), whole) {
        (_, false) => return Err(Errno::EFAULT),
        (b"", true) if *empty => return descriptor(*at),
        (b"", true) => return Err(Errno::ENOENT),
        _ => {}
    }
    // C libraries change what a descriptor is about by this name, which would lead to this process's own descriptors.
    for prefix in [&b"/proc/self/fd/"[..], b"/proc/thread-self/fd/", b"/dev/fd/"] {
        if let Some(number) = bytes.strip_prefix(prefix) {
            let number = std::str::from_utf8(number).ok().and_then(|n| n.parse::<u16>().ok());
            return descriptor(number.map(i32::from).ok_or(Errno::ENOENT)?);
        }
    }
    let base = if bytes.starts_with(b"/") { None } else { Some(descriptor(*at)?) };
    let base: BorrowedFd<'_> = base.as_ref().map_or(process::borrow(libc::AT_FDCWD), |fd| {
        use std::os::fd::AsFd;
        fd.as_fd()
    });
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    if !follow {
        flags |= OFlag::O_NOFOLLOW;
    }
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = CString::new(bytes).map_err(|_| Errno::EINVAL)?;
    openat2(base, std::ffi::OsStr::from_bytes(path.to_bytes()), how)
}

/// The call's arguments, as its man page has them.
fn decode(caller: &Caller, nr: libc::c_long, args: &[u64; 6]) -> Result<(Target, Wanted), Errno> {
    let number = |i: usize| args[i] as u32;
    let fd = |i: usize| args[i] as i32;
    let path = |at: i32, i: usize, follow: bool| Target::Path { at, path: args[i], follow, empty: false };
    let flagged = |i: usize, flags: usize| -> Result<Target, Errno> {
        let flags = fd(flags);
        if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Target::Path {
            at: fd(0),
            path: args[i],
            follow: flags & libc::AT_SYMLINK_NOFOLLOW == 0,
            empty: flags & libc::AT_EMPTY_PATH != 0,
        })
    };
    // A path that is no pointer stands for the descriptor itself.
    let or_descriptor = |target: Target| if args[1] == 0 { Target::Descriptor(fd(0)) } else { target };
    Ok(match nr {
        libc::SYS_fchmod => (Target::Descriptor(fd(0)), Wanted::Mode(number(1))),
        libc::SYS_fchmodat => (path(fd(0), 1, true), Wanted::Mode(number(2))),
        libc::SYS_fchmodat2 => (flagged(1, 3)?, Wanted::Mode(number(2))),
        libc::SYS_fchown => (Target::Descriptor(fd(0)), Wanted::Owner(number(1), number(2))),
        libc::SYS_fchownat => (flagged(1, 4)?, Wanted::Owner(number(2), number(3))),
        libc::SYS_utimensat => {
            (or_descriptor(flagged(1, 3)?), Wanted::Times(times(caller, args[2], Unit::Nanoseconds)?))
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod => (path(libc::AT_FDCWD, 0, true), Wanted::Mode(number(1))),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chown => (path(libc::AT_FDCWD, 0, true), Wanted::Owner(number(1), number(2))),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_lchown => (path(libc::AT_FDCWD, 0, false), Wanted::Owner(number(1), number(2))),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_utime => {
            (path(libc::AT_FDCWD, 0, true), Wanted::Times(times(caller, args[1], Unit::Seconds)?))
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_utimes => {
            (path(libc::AT_FDCWD, 0, true), Wanted::Times(times(caller, args[1], Unit::Microseconds)?))
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_futimesat => {
            let target = or_descriptor(path(fd(0), 1, true));
            (target, Wanted::Times(times(caller, args[2], Unit::Microseconds)?))
        }
        _ => return Err(Errno::EPERM),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// `struct utimbuf`: two numbers of seconds.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "utime(2) is x86_64's"))]
    Seconds,
    /// `struct timeval[2]`.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "utimes(2) is x86_64's"))]
    Microseconds,
    /// `struct timespec[2]`.
    Nanoseconds,
}

fn times(caller: &Caller, at: u64, unit: Unit) -> Result<Option<[TimeSpec; 2]>, Errno> {
    if at == 0 {
        return Ok(None);
    }
    let mut bytes = [0u8; 32];
    let len = if unit == Unit::Seconds { 16 } else { 32 };
    let read = caller.memory().and_then(|memory| memory.read(at, &mut bytes[..len]));
    if read != Some(len) {
        return Err(Errno::EFAULT);
    }
    let word = |i: usize| i64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|b| bytes[i * 8 + b]));
    let micros =
        |i: usize| if (0..1_000_000).contains(&word(i)) { Ok(word(i) * 1000) } else { Err(Errno::EINVAL) };
    Ok(Some(match unit {
        Unit::Seconds => [TimeSpec::new(word(0), 0), TimeSpec::new(word(1), 0)],
        Unit::Microseconds => [TimeSpec::new(word(0), micros(1)?), TimeSpec::new(word(2), micros(3)?)],
        Unit::Nanoseconds => [TimeSpec::new(word(0), word(1)), TimeSpec::new(word(2), word(3))],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_about_what_was_shown_before_it() {
        let custody = Custody {
            roots: vec![(0, "/rw".into()), (3, "/rw/cover/inner".into()), (usize::MAX, "/tree".into())],
            masks: vec![(1, "/rw/.ssh".into()), (2, "/rw/cover".into()), (4, "/tree".into())],
            uid: 1,
            gid: 1,
            switch: false,
        };
        for own in ["/rw", "/rw/a", "/rw/.sshd", "/rw/cover/inner/a", "/tree/a"] {
            assert!(custody.is_own(Path::new(own)), "{own}");
        }
        for other in
            ["/", "/rwx", "/rw/.ssh", "/rw/.ssh/id", "/rw/cover", "/rw/cover/other", "/tr", "/memfd:/rw"]
        {
            assert!(!custody.is_own(Path::new(other)), "{other}");
        }
    }
}
