//! Attacks on what is shared with the host where a sandbox has no namespaces and no mounts of its own: metadata of
//! files, other processes of the user, System V objects, socket pairs, locks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, symlink};

use nix::errno::Errno;

use crate::raw;

type Done = Result<String, Errno>;

const AT: usize = libc::AT_FDCWD as usize;
/// FS_IOC_GETFLAGS and FS_IOC_SETFLAGS (ioctl_iflags(2)), and a flag that asks nothing of anybody (FS_NODUMP_FL).
const GET_FLAGS: usize = 0x8008_6601;
const SET_FLAGS: usize = 0x4008_6602;
const NO_DUMP: u64 = 0x40;
/// BTRFS_IOC_SUBVOL_CREATE, and FS_IOC_REMOVE_ENCRYPTION_KEY.
const SUBVOLUME: usize = 0x5000_940e;
const REMOVE_KEY: usize = 0xc040_6618;

fn io(e: io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(0))
}

fn sys(nr: i64, args: &[usize]) -> Done {
    let mut all = [0usize; 6];
    all[..args.len()].copy_from_slice(args);
    raw::syscall(nr, all).map(|_| String::new())
}

fn c(path: &str) -> std::ffi::CString {
    std::ffi::CString::new(path).unwrap_or_default()
}

fn named(path: &str) -> Result<File, Errno> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).map_err(io)
}

fn number(word: &str) -> usize {
    word.parse().unwrap_or_else(|e| panic!("{word}: {e}"))
}

/// `None` where the attack is none of these.
pub(crate) fn carry_out(words: &[&str]) -> Option<Done> {
    Some(match words {
        ["meta", how, path] => metadata(how, path),
        ["reopen", path] => named(path).and_then(|fd| {
            File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())).map(|_| String::new()).map_err(io)
        }),
        ["stat", path] => std::fs::symlink_metadata(path).map(|_| String::new()).map_err(io),
        ["pwd"] => std::env::current_dir().map(|p| p.display().to_string()).map_err(io),
        ["truncate", path] => {
            let path = c(path);
            sys(libc::SYS_truncate, &[path.as_ptr() as usize, 3])
        }
        ["tmpfile", dir] => {
            let made = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(dir);
            made.map(|_| String::new()).map_err(io)
        }
        ["node", kind, path] => {
            let kind = if *kind == "fifo" { libc::S_IFIFO } else { libc::S_IFSOCK };
            let path = c(path);
            sys(libc::SYS_mknodat, &[AT, path.as_ptr() as usize, (kind | 0o600) as usize, 0])
        }
        ["swap", a, b] => {
            let (a, b) = (c(a), c(b));
            let exchange = libc::RENAME_EXCHANGE as usize;
            sys(libc::SYS_renameat2, &[AT, a.as_ptr() as usize, AT, b.as_ptr() as usize, exchange])
        }
        ["race-mode", dir, victim] => race_mode(dir, victim),
        ["getxattr", path, name] => {
            let (path, name, mut value) = (c(path), c(name), [0u8; 64]);
            let args = [path.as_ptr() as usize, name.as_ptr() as usize, value.as_mut_ptr() as usize, 64];
            sys(libc::SYS_getxattr, &args)
        }
        ["other", call, pid] => other(call, number(pid)),
        ["sysv", kind] => match *kind {
            "shm" => sys(libc::SYS_shmget, &[0x7001, 4096, 0o1600]),
            "sem" => sys(libc::SYS_semget, &[0x7001, 1, 0o1600]),
            _ => sys(libc::SYS_msgget, &[0x7001, 0o1600]),
        },
        ["queue", name] => {
            let name = c(name);
            let flags = (libc::O_CREAT | libc::O_RDWR) as usize;
            let made = sys(libc::SYS_mq_open, &[name.as_ptr() as usize, flags, 0o600, 0]);
            let _ = sys(libc::SYS_mq_unlink, &[name.as_ptr() as usize]);
            made
        }
        ["watch", path] => {
            let path = c(path);
            raw::syscall(libc::SYS_inotify_init1, [0; 6]).and_then(|fd| {
                sys(
                    libc::SYS_inotify_add_watch,
                    &[fd as usize, path.as_ptr() as usize, libc::IN_OPEN as usize],
                )
            })
        }
        ["pair", kind] => pair(kind).map(|_| String::new()),
        ["pair-send", path] => pair("datagram").and_then(|fd| send(fd, path)),
        ["pair-connect", kind, path] => pair(kind).and_then(|fd| {
            let (address, len) = address(path);
            sys(libc::SYS_connect, &[fd, address.as_ptr() as usize, len])
        }),
        ["listen"] => std::net::TcpListener::bind("127.0.0.1:0").map(|_| String::new()).map_err(io),
        _ => return None,
    })
}

/// What a call on a path asks for, in each way that a file can be named.
fn metadata(how: &str, path: &str) -> Done {
    let c_path = c(path);
    let at = c_path.as_ptr() as usize;
    let empty = c"".as_ptr() as usize;
    let (own, group) = (nix::unistd::getuid().as_raw() as usize, nix::unistd::getgid().as_raw() as usize);
    let at_empty = libc::AT_EMPTY_PATH as usize;
    let by_fd = |file: Result<File, Errno>, call: &dyn Fn(usize) -> Done| {
        file.and_then(|file| call(file.as_raw_fd() as usize))
    };
    let open = || File::open(path).map_err(io);
    let link = |fd: usize| c(&format!("/proc/self/fd/{fd}"));
    match how {
        "mode" => sys(libc::SYS_fchmodat, &[AT, at, 0o666]),
        "mode-fd" => by_fd(open(), &|fd| sys(libc::SYS_fchmod, &[fd, 0o666])),
        "mode-proc" => by_fd(named(path), &|fd| {
            let link = link(fd);
            sys(libc::SYS_fchmodat, &[AT, link.as_ptr() as usize, 0o666])
        }),
        "mode-empty" => by_fd(named(path), &|fd| sys(libc::SYS_fchmodat2, &[fd, empty, 0o666, at_empty])),
        "mode-below" => {
            let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
            let name = c(name);
            by_fd(named(dir), &|fd| sys(libc::SYS_fchmodat, &[fd, name.as_ptr() as usize, 0o666]))
        }
        "owner" => sys(libc::SYS_fchownat, &[AT, at, own, group, 0]),
        "owner-fd" => by_fd(open(), &|fd| sys(libc::SYS_fchown, &[fd, own, group])),
        "owner-empty" => {
            by_fd(named(path), &|fd| sys(libc::SYS_fchownat, &[fd, empty, own, group, at_empty]))
        }
        "times" => sys(libc::SYS_utimensat, &[AT, at, 0, 0]),
        "times-fd" => by_fd(open(), &|fd| sys(libc::SYS_utimensat, &[fd, 0, 0, 0])),
        "times-empty" => by_fd(named(path), &|fd| sys(libc::SYS_utimensat, &[fd, empty, 0, at_empty])),
        "attribute" => {
            let (name, value) = (c"user.proof".as_ptr() as usize, c"x".as_ptr() as usize);
            sys(libc::SYS_setxattr, &[at, name, value, 1, 0])
        }
        "attribute-fd" => by_fd(open(), &|fd| {
            let (name, value) = (c"user.proof".as_ptr() as usize, c"x".as_ptr() as usize);
            sys(libc::SYS_fsetxattr, &[fd, name, value, 1, 0])
        }),
        "flags" => by_fd(open(), &|fd| {
            let mut flags = 0u64;
            sys(libc::SYS_ioctl, &[fd, GET_FLAGS, &raw mut flags as usize])?;
            flags ^= NO_DUMP;
            sys(libc::SYS_ioctl, &[fd, SET_FLAGS, &raw const flags as usize])
        }),
        // What the file system here answers is its own; that it is asked is what counts.
        "subvolume" => by_fd(open(), &|fd| sys(libc::SYS_ioctl, &[fd, SUBVOLUME, 0])),
        "key" => by_fd(open(), &|fd| sys(libc::SYS_ioctl, &[fd, REMOVE_KEY, 0])),
        #[cfg(target_arch = "x86_64")]
        "old-mode" => sys(libc::SYS_chmod, &[at, 0o666]),
        #[cfg(target_arch = "x86_64")]
        "old-owner" => sys(libc::SYS_lchown, &[at, own, group]),
        #[cfg(target_arch = "x86_64")]
        "old-times" => sys(libc::SYS_utime, &[at, 0]),
        _ => panic!("no such way: {how}"),
    }
}

/// Gives a file of its own a mode by a path whose middle is swapped for a link to the victim's directory.
fn race_mode(dir: &str, victim: &str) -> Done {
    let victim = std::path::Path::new(victim);
    let (Some(parent), Some(name)) = (victim.parent(), victim.file_name()) else { return Err(Errno::EINVAL) };
    let (real, link) = (format!("{dir}/race"), format!("{dir}/race-link"));
    std::fs::create_dir(&real).map_err(io)?;
    symlink(parent, &link).map_err(io)?;
    let path = c(&format!("{real}/{}", name.to_string_lossy()));
    File::create(format!("{real}/{}", name.to_string_lossy())).map_err(io)?;
    let swapper = std::thread::spawn(move || {
        let (a, b) = (c(&real), c(&link));
        let exchange = libc::RENAME_EXCHANGE as usize;
        for _ in 0..30_000 {
            let _ = sys(libc::SYS_renameat2, &[AT, a.as_ptr() as usize, AT, b.as_ptr() as usize, exchange]);
        }
    });
    let mut done = 0;
    while !swapper.is_finished() {
        done += usize::from(sys(libc::SYS_fchmodat, &[AT, path.as_ptr() as usize, 0o666]).is_ok());
    }
    let _ = swapper.join();
    Ok(if done > 0 { String::new() } else { "never".into() })
}

/// Calls on another process.
fn other(call: &str, pid: usize) -> Done {
    let term = libc::SIGTERM as usize;
    let limit = libc::rlimit64 { rlim_cur: 512, rlim_max: 4096 };
    match call {
        "limit" => {
            let resource = libc::RLIMIT_NOFILE as usize;
            sys(libc::SYS_prlimit64, &[pid, resource, &raw const limit as usize, 0])
        }
        "priority" => sys(libc::SYS_setpriority, &[libc::PRIO_PROCESS as usize, pid, 5]),
        "priority-of-all" => sys(libc::SYS_setpriority, &[libc::PRIO_USER as usize, 0, 0]),
        "io-priority" => sys(libc::SYS_ioprio_set, &[1, pid, 2 << 13 | 7]),
        "scheduler" => {
            let parameter = 0i32;
            let batch = libc::SCHED_BATCH as usize;
            sys(libc::SYS_sched_setscheduler, &[pid, batch, &raw const parameter as usize])
        }
        "processors" => {
            let mask = u64::MAX;
            sys(libc::SYS_sched_setaffinity, &[pid, 8, &raw const mask as usize])
        }
        "kill" => sys(libc::SYS_kill, &[pid, 0]),
        "thread-kill" => sys(libc::SYS_tgkill, &[pid, pid, 0]),
        "queue-signal" => {
            let mut info = [0i32; 32];
            (info[0], info[2]) = (libc::SIGUSR1, libc::SI_QUEUE);
            sys(libc::SYS_rt_sigqueueinfo, &[pid, libc::SIGURG as usize, info.as_ptr() as usize])
        }
        "descriptor-signal" => {
            let fd = raw::syscall(libc::SYS_pidfd_open, [pid, 0, 0, 0, 0, 0])?;
            sys(libc::SYS_pidfd_send_signal, &[fd as usize, 0, 0, 0])
        }
        "descriptor" => {
            let fd = raw::syscall(libc::SYS_pidfd_open, [pid, 0, 0, 0, 0, 0])?;
            sys(libc::SYS_pidfd_getfd, &[fd as usize, 0, 0])
        }
        // A signal that the kernel sends for whoever owns a pipe's end (fcntl(2), F_SETOWN): it does not say whether
        // it arrived.
        "io-signal" => {
            let (read, write) = io::pipe().map_err(io)?;
            let fd = read.as_raw_fd() as usize;
            sys(libc::SYS_fcntl, &[fd, libc::F_SETOWN as usize, pid])?;
            sys(libc::SYS_fcntl, &[fd, 10, term])?;
            sys(libc::SYS_fcntl, &[fd, libc::F_SETFL as usize, (libc::O_ASYNC | libc::O_NONBLOCK) as usize])?;
            io::Write::write_all(&mut &write, b"x").map_err(io)?;
            Ok(String::new())
        }
        _ => panic!("no such call: {call}"),
    }
}

fn pair(kind: &str) -> Result<usize, Errno> {
    let kind = match kind {
        "stream" => libc::SOCK_STREAM,
        "packet" => libc::SOCK_SEQPACKET,
        "raw" => libc::SOCK_RAW,
        _ => libc::SOCK_DGRAM,
    };
    let mut fds = [0i32; 2];
    let args = [libc::AF_UNIX as usize, kind as usize, 0, &raw mut fds as usize];
    sys(libc::SYS_socketpair, &args)?;
    Ok(fds[0] as usize)
}

/// `struct sockaddr_un` of a path, and its length.
fn address(path: &str) -> ([u8; 110], usize) {
    let mut address = [0u8; 110];
    address[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    address[2..2 + path.len()].copy_from_slice(path.as_bytes());
    (address, 2 + path.len() + 1)
}

/// sendto(2) with a path as the address.
fn send(fd: usize, path: &str) -> Done {
    let (address, len) = address(path);
    sys(libc::SYS_sendto, &[fd, b"hello".as_ptr() as usize, 5, 0, address.as_ptr() as usize, len])
}
