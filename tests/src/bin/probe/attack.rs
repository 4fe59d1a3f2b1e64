//! The attacks, each a few system calls, by name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;

use crate::raw;

type Done = Result<String, Errno>;

/// Carries out one attack; the words are its name and its arguments.
pub(crate) fn carry_out(words: &[&str]) -> String {
    match dispatch(words) {
        Ok(text) if text.is_empty() => "ok".into(),
        Ok(text) => text,
        Err(errno) => format!("{errno:?}"),
    }
}

fn io(e: io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(0))
}

fn number(word: &str) -> usize {
    let (negative, digits) = word.strip_prefix('-').map_or((false, word), |d| (true, d));
    let value = digits.strip_prefix("0x").map_or_else(|| digits.parse(), |h| usize::from_str_radix(h, 16));
    let value = value.unwrap_or_else(|e| panic!("{word}: {e}"));
    if negative { value.wrapping_neg() } else { value }
}

fn done<T>(result: io::Result<T>) -> Done {
    result.map(|_| String::new()).map_err(io)
}

fn c(path: &str) -> std::ffi::CString {
    std::ffi::CString::new(path).unwrap_or_default()
}

fn dispatch(words: &[&str]) -> Done {
    if let Some(done) = crate::shared::carry_out(words) {
        return done;
    }
    match words {
        ["read", path] => {
            let mut file = File::open(path).map_err(io)?;
            let mut byte = [0u8; 64];
            let n = file.read(&mut byte).map_err(io)?;
            Ok(if n == 0 { "empty".into() } else { String::new() })
        }
        ["cat", path] => fs::read(path)
            .map(|b| String::from_utf8_lossy(&b).trim_end_matches(['\n', '\0']).to_owned())
            .map_err(io),
        ["list", path] => {
            let mut names: Vec<String> = fs::read_dir(path)
                .map_err(io)?
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            Ok(names.join(" "))
        }
        ["readlink", path] => fs::read_link(path).map(|p| p.display().to_string()).map_err(io),
        // Opening for writing is the attack; nothing is written, so that it can be shown outside too.
        ["write", path] => done(OpenOptions::new().write(true).open(path)),
        ["append", path, text] => {
            let mut file = OpenOptions::new().append(true).open(path).map_err(io)?;
            done(file.write_all(text.as_bytes()))
        }
        ["create", path] => done(OpenOptions::new().write(true).create_new(true).open(path)),
        ["mkdir", path] => done(fs::create_dir(path)),
        ["unlink", path] => done(fs::remove_file(path)),
        ["rmdir", path] => done(fs::remove_dir(path)),
        ["rename", from, to] => done(fs::rename(from, to)),
        ["link", from, to] => done(fs::hard_link(from, to)),
        ["symlink", to, link] => done(symlink(to, link)),
        ["chmod", path, mode] => {
            let mode = u32::from_str_radix(mode, 8).unwrap_or(0);
            done(fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        }
        ["create-mode", path, mode] => {
            let mode = u32::from_str_radix(mode, 8).unwrap_or(0);
            done(OpenOptions::new().write(true).create(true).mode(mode).open(path))
        }
        ["openat2-mode", path, mode] => {
            let mode = u64::from_str_radix(mode, 8).unwrap_or(0);
            let how = [(libc::O_CREAT | libc::O_WRONLY) as u64, mode, 0];
            let (path, how) = (c(path), how.as_ptr() as usize);
            let at = libc::AT_FDCWD as usize;
            raw::syscall(libc::SYS_openat2, [at, path.as_ptr() as usize, how, 24, 0, 0])
                .map(|_| String::new())
        }
        ["mknod-mode", path, mode] => {
            let mode = usize::from_str_radix(mode, 8).unwrap_or(0);
            let (at, path) = (libc::AT_FDCWD as usize, c(path));
            raw::syscall(libc::SYS_mknodat, [at, path.as_ptr() as usize, mode, 0, 0, 0])
                .map(|_| String::new())
        }
        ["touch", path] => {
            let path = c(path);
            raw::syscall(libc::SYS_utimensat, [libc::AT_FDCWD as usize, path.as_ptr() as usize, 0, 0, 0, 0])
                .map(|_| String::new())
        }
        ["setxattr", path, name, value] => {
            let (path, name) = (c(path), c(name));
            let args =
                [path.as_ptr() as usize, name.as_ptr() as usize, value.as_ptr() as usize, value.len(), 0, 0];
            raw::syscall(libc::SYS_setxattr, args).map(|_| String::new())
        }
        ["mknod", path, major, minor] => {
            let path = c(path);
            let dev = libc::makedev(number(major) as u32, number(minor) as u32) as usize;
            let args = [
                libc::AT_FDCWD as usize,
                path.as_ptr() as usize,
                (libc::S_IFCHR | 0o600) as usize,
                dev,
                0,
                0,
            ];
            raw::syscall(libc::SYS_mknodat, args).map(|_| String::new())
        }
        ["rename-whiteout", from, to] => {
            let (from, to) = (c(from), c(to));
            let at = libc::AT_FDCWD as usize;
            let args =
                [at, from.as_ptr() as usize, at, to.as_ptr() as usize, libc::RENAME_WHITEOUT as usize, 0];
            raw::syscall(libc::SYS_renameat2, args).map(|_| String::new())
        }
        ["unix", path] => done(UnixStream::connect(path)),
        ["abstract", name] => {
            let address = SocketAddr::from_abstract_name(name.as_bytes()).map_err(io)?;
            done(UnixStream::connect_addr(&address))
        }
        ["tcp", address] => {
            let address = address.parse().map_err(|_| Errno::EINVAL)?;
            done(TcpStream::connect_timeout(&address, Duration::from_secs(2)))
        }
        ["udp", address] => {
            let socket = UdpSocket::bind("0.0.0.0:0").map_err(io)?;
            done(socket.send_to(b"out", address))
        }
        ["socket", family, kind, protocol] => {
            raw::syscall(libc::SYS_socket, [number(family), number(kind), number(protocol), 0, 0, 0])
                .map(|_| String::new())
        }
        ["sys", nr, args @ ..] => {
            let mut all = [0usize; 6];
            for (slot, word) in all.iter_mut().zip(args) {
                *slot = number(word);
            }
            let (nr, before) = (number(nr) as i64, std::process::id());
            let result = raw::syscall(nr, all).map(|_| String::new());
            // Two come back from a clone: the new one has another pid.
            if std::process::id() != before {
                let _ = raw::syscall(libc::SYS_exit_group, [0; 6]);
            }
            result
        }
        ["path-call", nr, path, args @ ..] => path_call(number(nr) as i64, path, args),
        ["ptrace", pid] => {
            raw::syscall(libc::SYS_ptrace, [libc::PTRACE_SEIZE as usize, number(pid), 0, 0, 0, 0])
                .map(|_| String::new())
        }
        ["vmread", pid] => {
            let mut byte = [0u8; 8];
            let local = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 8 };
            let remote = libc::iovec { iov_base: 0x1000 as *mut libc::c_void, iov_len: 8 };
            let (l, r) = (&raw const local as usize, &raw const remote as usize);
            raw::syscall(libc::SYS_process_vm_readv, [number(pid), l, 1, r, 1, 0]).map(|_| String::new())
        }
        ["kill", pid, signal] => {
            raw::syscall(libc::SYS_kill, [number(pid), number(signal), 0, 0, 0, 0]).map(|_| String::new())
        }
        ["rlimit", resource, value] => {
            let limit = libc::rlimit64 { rlim_cur: number(value) as u64, rlim_max: number(value) as u64 };
            let args = [0, number(resource), &raw const limit as usize, 0, 0, 0];
            raw::syscall(libc::SYS_prlimit64, args).map(|_| String::new())
        }
        #[cfg(target_arch = "x86_64")]
        ["i386"] => Ok(if raw::i386_getpid() > 0 { String::new() } else { "refused".into() }),
        ["fds"] => {
            // Numbers, not /proc: what is open is open, whether it is shown or not.
            let open: Vec<String> = (0..4096)
                .filter(|fd| raw::syscall(libc::SYS_fcntl, [*fd, libc::F_GETFD as usize, 0, 0, 0, 0]).is_ok())
                .map(|fd| fd.to_string())
                .collect();
            Ok(open.join(" "))
        }
        ["tiocsti"] => tiocsti(),
        ["terminal"] => done(File::open("/dev/tty")),
        ["setuid-run", program] => {
            let output = Command::new(program).args(["--one", "euid"]).output().map_err(io)?;
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        }
        ["euid"] => Ok(format!("euid {}", nix::unistd::geteuid())),
        ["forks", most] => {
            let mut children = Vec::new();
            let mut told = None;
            while children.len() < number(most) && told.is_none() {
                match raw::fork_and_wait() {
                    Ok(pid) => children.push(pid),
                    Err(errno) => told = Some(format!("{errno:?} after {}", children.len())),
                }
            }
            for pid in &children {
                let _ = raw::syscall(libc::SYS_kill, [*pid as usize, libc::SIGKILL as usize, 0, 0, 0, 0]);
            }
            Ok(told.unwrap_or_else(|| format!("{} and no end", children.len())))
        }
        ["files", most] => {
            let mut held = Vec::new();
            while held.len() < number(most) {
                match File::open("/dev/null") {
                    Ok(file) => held.push(file),
                    Err(e) => return Ok(format!("{:?} after {}", io(e), held.len())),
                }
            }
            Ok(format!("{} and no end", held.len()))
        }
        ["fill", path, bytes] => {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(io)?;
            let block = vec![7u8; 1 << 20];
            let mut left = number(bytes);
            while left > 0 {
                file.write_all(&block[..left.min(block.len())]).map_err(io)?;
                left = left.saturating_sub(block.len());
            }
            Ok(String::new())
        }
        ["inodes", dir, most] => {
            for i in 0..number(most) {
                if let Err(e) = File::create(format!("{dir}/i{i}")) {
                    return Ok(format!("{:?}", io(e)));
                }
            }
            Ok("no end".into())
        }
        ["eat", bytes] => raw::eat(number(bytes)).map(|()| String::new()),
        ["race", dir, victim] => race(dir, victim),
        ["overwrite", path] => {
            // Writes one byte over the first and nothing else: only where the file can be written at all.
            let file = OpenOptions::new().write(true).open(path).map_err(io)?;
            done(file.write_at(b"!", 0))
        }
        ["deny-flood", most] => {
            for _ in 0..number(most) {
                let _ = raw::syscall(libc::SYS_bpf, [0; 6]);
            }
            Ok(String::new())
        }
        ["argv-races", most] => {
            for _ in 0..number(most) {
                done(Command::new("/proc/self/exe").args(["--one", "argv-race"]).output())?;
            }
            Ok(String::new())
        }
        ["argv-race"] => raw::exec_while_changing(),
        ["exec-flickers", dir, times] => exec_flickers(dir, times),
        ["flicker", dir] => loop {
            let _ = fs::rename(format!("{dir}/away"), format!("{dir}/here"));
            let _ = fs::rename(format!("{dir}/here"), format!("{dir}/away"));
        },
        ["flickering", _, "0"] => Ok(String::new()),
        ["flickering", dir, left] => {
            let next = format!("flickering {dir} {}", number(left) - 1);
            loop {
                let failed = Command::new(format!("{dir}/here")).args(["--one", &next]).exec();
                if failed.kind() != io::ErrorKind::NotFound {
                    return Err(io(failed));
                }
            }
        }
        _ => panic!("no such attack: {words:?}"),
    }
}

/// Executes the same file again and again, by a link that another process takes away and brings back all the time.
fn exec_flickers(dir: &str, times: &str) -> Done {
    let own = fs::read_link("/proc/self/exe").map_err(io)?;
    fs::create_dir(dir).map_err(io)?;
    symlink(&own, format!("{dir}/away")).map_err(io)?;
    let mut flicker = Command::new(&own).args(["--one", &format!("flicker {dir}")]).spawn().map_err(io)?;
    let output = Command::new(&own).args(["--one", &format!("flickering {dir} {times}")]).output();
    flicker.kill().and_then(|()| flicker.wait()).map_err(io)?;
    fs::remove_dir_all(dir).map_err(io)?;
    Ok(String::from_utf8_lossy(&output.map_err(io)?.stdout).trim_end().to_owned())
}

/// A system call whose first argument is a path; `.` among the others is the path again, `@TEXT` a string.
fn path_call(nr: i64, path: &str, args: &[&str]) -> Done {
    let path = c(path);
    let texts: Vec<_> = args.iter().map(|a| c(a.trim_start_matches('@'))).collect();
    let mut all = [path.as_ptr() as usize, 0, 0, 0, 0, 0];
    for ((slot, word), text) in all[1..].iter_mut().zip(args).zip(&texts) {
        *slot = match *word {
            "." => path.as_ptr() as usize,
            word if word.starts_with('@') => text.as_ptr() as usize,
            word => number(word),
        };
    }
    raw::syscall(nr, all).map(|_| String::new())
}

/// Types a byte into a terminal of its own making, which is as good as any: the call is what is refused.
fn tiocsti() -> Done {
    let master = OpenOptions::new().read(true).write(true).open("/dev/ptmx").map_err(io)?;
    let unlock = 0i32;
    let mut n = 0i32;
    let ioctl = |fd: i32, request: u64, arg: usize| {
        raw::syscall(libc::SYS_ioctl, [fd as usize, request as usize, arg, 0, 0, 0])
    };
    ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock as usize)?;
    ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut n as usize)?;
    // Its controlling terminal, which an unprivileged TIOCSTI wants.
    let _ = nix::unistd::setsid();
    let slave = OpenOptions::new().read(true).write(true).open(format!("/dev/pts/{n}")).map_err(io)?;
    ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0)?;
    let byte = b'x';
    let result = ioctl(slave.as_raw_fd(), libc::TIOCSTI, &raw const byte as usize).map(|_| String::new());
    // Closing the last of it would hang up on this process before it has told.
    std::mem::forget((master, slave));
    result
}

/// Swaps a directory and a symbolic link to the victim's directory under a writer's feet.
fn race(dir: &str, victim: &str) -> Done {
    let (real, link) = (format!("{dir}/race"), format!("{dir}/race-link"));
    let parent = std::path::Path::new(victim).parent().map(|p| p.display().to_string()).unwrap_or_default();
    let name = std::path::Path::new(victim)
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    fs::create_dir(&real).map_err(io)?;
    symlink(&parent, &link).map_err(io)?;
    let (a, b) = (c(&real), c(&link));
    let at = libc::AT_FDCWD as usize;
    let swapper = std::thread::spawn(move || {
        for _ in 0..20_000 {
            let args = [at, a.as_ptr() as usize, at, b.as_ptr() as usize, libc::RENAME_EXCHANGE as usize, 0];
            let _ = raw::syscall(libc::SYS_renameat2, args);
        }
    });
    while !swapper.is_finished() {
        let _ = fs::write(format!("{real}/{name}"), "raced");
    }
    let _ = swapper.join();
    Ok(String::new())
}
