//! `probe without RULE… -- COMMAND…`: runs a command on a host that lacks something, by a seccomp filter over it.
//!
//! | rule | what becomes of it |
//! | --- | --- |
//! | `CALL=ERRNO` | the call fails |
//! | `CALL:N==VALUE=ERRNO` | it fails where argument N (its low 32 bits) is VALUE |
//! | `CALL:N&BITS=ERRNO` | it fails where argument N has one of BITS |
//! | `landlock-abi=N` | Landlock says that its ABI is N |
//! | `clone3-namespaces=ERRNO` | clone3(2) into any new namespace fails |
//! | `fs:NAME=ERRNO` | fsopen(2) of that file system fails |
//! | `open:END=ERRNO` | openat(2) of a path with that end fails, but below /proc/self |
//! | `text:PATH=TEXT` | openat(2) of that path gives a file with that text |
//!
//! The last five need what a pointer points to: they are answered by this process, which waits for the command.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::raw;

const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const NEW_LISTENER: usize = 1 << 3;
const NOTIF_RECV: usize = 0xc050_2100;
const NOTIF_SEND: usize = 0xc018_2101;
const NOTIF_ADDFD: usize = 0x4018_2103;
const ADDFD_SEND: u32 = 1 << 1;
const NOTIF_CONTINUE: u32 = 1;
/// CLONE_NEWUSER and the others of clone(2).
const NEW_NAMESPACES: u64 = 0x7e02_0000;

const CALLS: [(&str, i64); 21] = [
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("unshare", libc::SYS_unshare),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
    ("landlock_add_rule", libc::SYS_landlock_add_rule),
    ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
    ("fsopen", libc::SYS_fsopen),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("pivot_root", libc::SYS_pivot_root),
    ("umount2", libc::SYS_umount2),
    ("seccomp", libc::SYS_seccomp),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("socket", libc::SYS_socket),
    ("ioctl", libc::SYS_ioctl),
    ("close_range", libc::SYS_close_range),
    ("swapoff", libc::SYS_swapoff),
];

/// What is answered for a call whose pointers have been looked at.
enum Answered {
    Abi(u32),
    Namespaces(Errno),
    FileSystem(String, Errno),
    Open(String, Errno),
    Text(String, String),
}

enum Test {
    Always,
    Equal(u32, u32),
    AnyBit(u32, u32),
}

struct Filter {
    program: Vec<libc::sock_filter>,
    answered: Vec<Answered>,
}

/// Runs the command without what the rules take away, and ends as it does.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let Some(split) = args.iter().position(|a| a == "--") else {
        panic!("usage: probe without RULE... -- COMMAND...");
    };
    let filter = Filter::of(&args[..split]);
    let [program, rest @ ..] = &args[split + 1..] else { panic!("no command") };
    let mut command = Command::new(program);
    command.args(rest);
    if filter.answered.is_empty() {
        filter.install(0);
        // A binary that was copied a moment ago may be open for writing in a child of somebody else's, until its exec.
        let mut error = command.exec();
        for _ in 0..100 {
            if error.kind() == std::io::ErrorKind::ExecutableFileBusy {
                std::thread::sleep(std::time::Duration::from_millis(20));
                error = command.exec();
            }
        }
        panic!("{program}: {error}");
    }
    watch(&filter, command)
}

fn errno(name: &str) -> Errno {
    match name {
        "EPERM" => Errno::EPERM,
        "EACCES" => Errno::EACCES,
        "EINVAL" => Errno::EINVAL,
        "ENODEV" => Errno::ENODEV,
        "ENOSPC" => Errno::ENOSPC,
        "ENOSYS" => Errno::ENOSYS,
        "EOPNOTSUPP" => Errno::EOPNOTSUPP,
        "EAFNOSUPPORT" => Errno::EAFNOSUPPORT,
        _ => panic!("{name}: no such errno here"),
    }
}

fn number(text: &str) -> u32 {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16));
    parsed.unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn call(name: &str) -> i64 {
    CALLS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name}: no such call here")).1
}

impl Filter {
    fn of(rules: &[String]) -> Self {
        let mut filter = Self { program: Vec::new(), answered: Vec::new() };
        for rule in rules {
            let (what, then) = rule.rsplit_once('=').unwrap_or_else(|| panic!("{rule}: no ="));
            if what == "landlock-abi" {
                // Only the question for the version, which has flag 1.
                filter.rule(libc::SYS_landlock_create_ruleset, &Test::Equal(2, 1), RET_NOTIFY);
                filter.answered.push(Answered::Abi(number(then)));
            } else if what == "clone3-namespaces" {
                filter.rule(libc::SYS_clone3, &Test::Always, RET_NOTIFY);
                filter.answered.push(Answered::Namespaces(errno(then)));
            } else if let Some(name) = what.strip_prefix("fs:") {
                filter.rule(libc::SYS_fsopen, &Test::Always, RET_NOTIFY);
                filter.answered.push(Answered::FileSystem(name.into(), errno(then)));
            } else if let Some(end) = what.strip_prefix("open:") {
                filter.rule(libc::SYS_openat, &Test::Always, RET_NOTIFY);
                filter.answered.push(Answered::Open(end.into(), errno(then)));
            } else if let Some(path) = what.strip_prefix("text:") {
                filter.rule(libc::SYS_openat, &Test::Always, RET_NOTIFY);
                filter.answered.push(Answered::Text(path.into(), then.into()));
            } else {
                let (name, test) = what.split_once(':').map_or((what, Test::Always), |(name, test)| {
                    let parts = |by| test.split_once(by).map(|(n, value)| (number(n), number(value)));
                    let test = parts("==")
                        .map(|(n, value)| Test::Equal(n, value))
                        .or_else(|| parts("&").map(|(n, bits)| Test::AnyBit(n, bits)));
                    (name, test.unwrap_or_else(|| panic!("{rule}: no == or &")))
                });
                filter.rule(call(name), &test, RET_ERRNO | errno(then) as u32);
            }
        }
        filter.push(libc::BPF_RET | libc::BPF_K, 0, 0, RET_ALLOW);
        filter
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) {
        self.program.push(libc::sock_filter { code: code as u16, jt, jf, k });
    }

    /// `struct seccomp_data`: the number at 0, the arguments from 16 on, low half first on these machines.
    fn rule(&mut self, nr: i64, test: &Test, action: u32) {
        let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        let jump = |test| libc::BPF_JMP | libc::BPF_K | test;
        self.push(load, 0, 0, 0);
        match test {
            Test::Always => self.push(jump(libc::BPF_JEQ), 0, 1, nr as u32),
            Test::Equal(n, value) => {
                self.push(jump(libc::BPF_JEQ), 0, 3, nr as u32);
                self.push(load, 0, 0, 16 + n * 8);
                self.push(jump(libc::BPF_JEQ), 0, 1, *value);
            }
            Test::AnyBit(n, bits) => {
                self.push(jump(libc::BPF_JEQ), 0, 3, nr as u32);
                self.push(load, 0, 0, 16 + n * 8);
                self.push(jump(libc::BPF_JSET), 0, 1, *bits);
            }
        }
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, action);
    }

    fn install(&self, flags: usize) -> i64 {
        let one = libc::PR_SET_NO_NEW_PRIVS as usize;
        raw::syscall(libc::SYS_prctl, [one, 1, 0, 0, 0, 0]).expect("no_new_privs");
        let prog =
            libc::sock_fprog { len: self.program.len() as u16, filter: self.program.as_ptr().cast_mut() };
        let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
        raw::syscall(libc::SYS_seccomp, [mode, flags, &raw const prog as usize, 0, 0, 0]).expect("seccomp")
    }
}

/// Starts the command below a filter with a listener, and answers until it ends.
fn watch(filter: &Filter, mut command: Command) -> ExitCode {
    let (mut told, mut tell) = std::io::pipe().expect("pipe");
    let (mut wait, mut go) = std::io::pipe().expect("pipe");
    let pid = raw::fork().expect("fork");
    if pid == 0 {
        drop((told, go));
        let listener = filter.install(NEW_LISTENER);
        tell.write_all(&(listener as i32).to_le_bytes()).expect("telling");
        // The listener's number must stay open until the other side has a copy; it is close-on-exec.
        wait.read_exact(&mut [0]).expect("waiting");
        panic!("{:?}: {}", command.get_program().to_owned(), command.exec());
    }
    drop((tell, wait));
    let mut bytes = [0u8; 4];
    told.read_exact(&mut bytes).expect("the command's listener");
    let pidfd = raw::syscall(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0, 0, 0]).map(raw::owned);
    let pidfd = pidfd.expect("pidfd_open");
    let theirs = [pidfd.as_raw_fd() as usize, i32::from_le_bytes(bytes) as usize, 0, 0, 0, 0];
    let listener = raw::syscall(libc::SYS_pidfd_getfd, theirs).map(raw::owned).expect("pidfd_getfd");
    go.write_all(b"g").expect("letting it go");
    loop {
        let mut polls = [&listener, &pidfd].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        let _ = poll(&mut polls, PollTimeout::NONE);
        let ready = polls.map(|p| p.revents().is_some_and(|r| r.contains(PollFlags::POLLIN)));
        if ready[0] {
            answer(listener.as_raw_fd() as usize, &filter.answered);
        } else if ready[1] {
            let mut status = 0i32;
            raw::syscall(libc::SYS_wait4, [pid as usize, &raw mut status as usize, 0, 0, 0, 0])
                .expect("wait");
            let status = std::process::ExitStatus::from_raw(status);
            return ExitCode::from(status.code().unwrap_or(128 + status.signal().unwrap_or(0)) as u8);
        }
    }
}

#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    ip: u64,
    args: [u64; 6],
}

#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    source: u32,
    number: u32,
    number_flags: u32,
}

fn answer(listener: usize, answered: &[Answered]) {
    let mut call = Notification::default();
    let at = &raw mut call as usize;
    // A call that was interrupted meanwhile is gone.
    if raw::syscall(libc::SYS_ioctl, [listener, NOTIF_RECV, at, 0, 0, 0]).is_err() {
        return;
    }
    let text = |n: usize| string_of(call.pid, call.args[n]).unwrap_or_default();
    let nr = i64::from(call.nr);
    let mut response = Response { id: call.id, value: 0, error: 0, flags: NOTIF_CONTINUE };
    for one in answered {
        match one {
            Answered::Abi(abi) if nr == libc::SYS_landlock_create_ruleset => {
                (response.value, response.flags) = (i64::from(*abi), 0);
            }
            Answered::Namespaces(errno)
                if nr == libc::SYS_clone3 && wants_namespaces(call.pid, call.args[0]) =>
            {
                (response.error, response.flags) = (-(*errno as i32), 0);
            }
            Answered::FileSystem(name, errno) if nr == libc::SYS_fsopen && text(0) == *name => {
                (response.error, response.flags) = (-(*errno as i32), 0);
            }
            // What a process reads of itself is left alone.
            Answered::Open(end, errno)
                if nr == libc::SYS_openat
                    && text(1).ends_with(end.as_str())
                    && !text(1).starts_with("/proc/self/") =>
            {
                (response.error, response.flags) = (-(*errno as i32), 0);
            }
            Answered::Text(path, content) if nr == libc::SYS_openat && text(1) == *path => {
                let file = file_of(content);
                let add = AddFd {
                    id: call.id,
                    flags: ADDFD_SEND,
                    source: file.as_raw_fd() as u32,
                    number: 0,
                    number_flags: libc::O_CLOEXEC as u32,
                };
                let _ =
                    raw::syscall(libc::SYS_ioctl, [listener, NOTIF_ADDFD, &raw const add as usize, 0, 0, 0]);
                return;
            }
            _ => {}
        }
    }
    let _ = raw::syscall(libc::SYS_ioctl, [listener, NOTIF_SEND, &raw const response as usize, 0, 0, 0]);
}

/// The first field of `struct clone_args` is the flags.
fn wants_namespaces(pid: u32, address: u64) -> bool {
    let mut flags = [0u8; 8];
    let memory = std::fs::File::open(format!("/proc/{pid}/mem"));
    memory.is_ok_and(|m| m.read_exact_at(&mut flags, address).is_ok())
        && u64::from_le_bytes(flags) & NEW_NAMESPACES != 0
}

fn string_of(pid: u32, address: u64) -> Option<String> {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = [0u8; 4096];
    let read = memory.read_at(&mut bytes, address).ok()?;
    let text = bytes[..read].split(|b| *b == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// A file of its own with this content, its offset at the start.
fn file_of(content: &str) -> OwnedFd {
    let name = c"text".as_ptr() as usize;
    let fd = raw::syscall(libc::SYS_memfd_create, [name, 1, 0, 0, 0, 0]).expect("memfd_create");
    let file = raw::owned(fd);
    file.write_all_at(content.as_bytes(), 0).expect("writing a memfd");
    file.into()
}
