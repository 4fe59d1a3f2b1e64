//! The seccomp filter (seccomp(2)): a deny list, assembled at compile time from the table of the architecture in
//! `policy/`, where each line gives its reason.
//!
//! A deny list, because backends are whole toolchains; what it denies is what no toolchain needs and what has been a
//! way out of sandboxes. System calls of another ABI (i386, x32) would reach the kernel under other numbers, so
//! entering one kills.
//!
//! Each table is assembled twice: with the refusals made by the kernel, and *watched*, where every refusal and every
//! execve(2) and connect(2) first goes to a listener (seccomp_unotify(2)), which answers by the same table. What the
//! listener is told of is evidence; what it refuses is refused also without it, with ENOSYS.

mod assemble;

pub(crate) use assemble::{Watching, program};

/// What filters are made of, for those that are not made of the tables here.
pub(crate) mod filter_parts {
    pub(crate) use super::assemble::{
        ALLOW, AUDIT_ARCH, ERRNO, JEQ, JGE, JSET, KILL_PROCESS, LD, OFFSET_ARCH, OFFSET_NR, RET,
    };
    #[cfg(test)]
    pub(crate) use super::tests::run;
}

use crate::spec::{Level, Network};

/// What happens to a call that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The process is killed with SIGSYS: nothing honest does this.
    Kill,
    /// The call fails with this errno: programs probe for it and cope.
    Fail(i32),
    /// The call is let through; the watched filter asks the listener first.
    Ask(Watch),
    /// The listener does what is asked, where it may be done; without one the call is refused.
    Serve,
}

/// When a rule matches. Arguments are compared by their low 32 bits, which is all the kernel reads of those used here.
#[derive(Clone, Copy)]
enum When {
    /// Every call.
    Always,
    /// Argument `.0` has any of the bits `.1`.
    Bits(u32, u32),
    /// Argument `.0` are flags of open(2) that make a file, and argument `.1` has any of the bits `.2`.
    Makes(u32, u32, u32),
    /// Argument `.0` is one of `.1`.
    In(u32, &'static [u32]),
    /// Argument `.0` is none of `.1`.
    NotIn(u32, &'static [u32]),
    /// Any of these arguments is not 0.
    NonZero(&'static [u32]),
    /// ioctl(2) with one of the requests `.0`, or of one of the types `.1` (bits 8 to 15) and none of the requests `.2`.
    Requests(&'static [u32], &'static [u32], &'static [u32]),
    /// socketpair(2) of anything but unix, and of datagrams: one of those is sent to, or connected to, any path.
    PairFamilyOrDatagrams,
    /// As the next one, and unix as well.
    SocketFamilyAndUnix,
    /// socket(2) of anything but unix, netlink's routing protocol, and streams and datagrams of inet and inet6 with a
    /// protocol that every kernel has: another (sctp, dccp) makes the kernel load a module for whoever asks.
    SocketFamily,
}

/// What the supervisor does for a call that only the watched filter stops at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// A program is executed: noted, and let through.
    Exec,
    /// A connection is tried: noted, and let through to whatever network there is.
    Connect,
    /// A path is looked for: noted where nothing is there, and let through.
    Path {
        /// Which argument is the path; the one before it is the directory, where it is not the first.
        argument: usize,
    },
}

/// One line of a table.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    nr: libc::c_long,
    /// The constant's name: `SYS_` and the call's.
    constant: &'static str,
    when: When,
    then: Then,
    reason: &'static str,
}

/// The numbers, by name.
mod numbers {
    pub(super) use libc::*;

    /// open_tree_attr(2), Linux 6.15: younger than the libc crate's tables; numbers above 423 are the same everywhere.
    #[expect(non_upper_case_globals, reason = "named as libc names the others")]
    pub(super) const SYS_open_tree_attr: c_long = 467;
    /// setxattrat(2), Linux 6.13.
    #[expect(non_upper_case_globals, reason = "named as libc names the others")]
    pub(super) const SYS_setxattrat: c_long = 463;
    /// getxattrat(2), Linux 6.13.
    #[expect(non_upper_case_globals, reason = "named as libc names the others")]
    pub(super) const SYS_getxattrat: c_long = 464;
    /// listxattrat(2), Linux 6.13.
    #[expect(non_upper_case_globals, reason = "named as libc names the others")]
    pub(super) const SYS_listxattrat: c_long = 465;
    /// removexattrat(2), Linux 6.13.
    #[expect(non_upper_case_globals, reason = "named as libc names the others")]
    pub(super) const SYS_removexattrat: c_long = 466;
    /// file_setattr(2), Linux 6.17.
    #[expect(non_upper_case_globals, reason = "named as libc names the others")]
    pub(super) const SYS_file_setattr: c_long = 469;
}

macro_rules! call {
    ($constant:ident, $when:expr, $then:expr, $reason:expr) => {
        Rule {
            nr: numbers::$constant,
            constant: stringify!($constant),
            when: $when,
            then: $then,
            reason: $reason,
        }
    };
}

use Then::{Ask, Fail, Kill, Serve};
use When::{
    Always, Bits, In, Makes, NonZero, NotIn, PairFamilyOrDatagrams, Requests, SocketFamily,
    SocketFamilyAndUnix,
};

const EACCES: i32 = libc::EACCES;
const EOPNOTSUPP: i32 = libc::EOPNOTSUPP;
const ESOCKTNOSUPPORT: i32 = libc::ESOCKTNOSUPPORT;
const EPERM: i32 = libc::EPERM;
const ENOSYS: i32 = libc::ENOSYS;
const EAFNOSUPPORT: i32 = libc::EAFNOSUPPORT;

/// CLONE_NEW* of clone(2) and unshare(2), CLONE_NEWTIME (which clone(2) cannot take) left to unshare.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;
const CLONE_NEWTIME: u32 = 0x80;

/// S_ISUID and S_ISGID.
const SET_IDS: u32 = libc::S_ISUID | libc::S_ISGID;
/// As systemd has it (systemd.exec(5), RestrictSUIDSGID=).
const SET_IDS_REASON: &str = "a setuid or setgid program, left where a mount is writable, has its owner's rights for everybody on the host";
/// Flags of open(2) with which its mode counts.
const MAKING: u32 = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;

/// The low bits of socket(2)'s type; above them are SOCK_CLOEXEC and SOCK_NONBLOCK.
const SOCK_TYPE_MASK: u32 = 0xf;
/// Bits 8 to 15 of ioctl(2)'s request.
const REQUEST_TYPE_MASK: u32 = 0xff00;
/// Types of unix sockets that have one peer for good. (SOCK_RAW is a datagram there.)
const PAIR_TYPES: [u32; 2] = [libc::SOCK_STREAM as u32, libc::SOCK_SEQPACKET as u32];
const INET_TYPES: [u32; 2] = [libc::SOCK_STREAM as u32, libc::SOCK_DGRAM as u32];
const INET_PROTOCOLS: [u32; 6] = [
    0,
    libc::IPPROTO_ICMP as u32,
    libc::IPPROTO_TCP as u32,
    libc::IPPROTO_UDP as u32,
    libc::IPPROTO_ICMPV6 as u32,
    libc::IPPROTO_MPTCP as u32,
];

/// Terminals: what types into one, or takes it over.
const TERMINAL_REQUESTS: &[u32] =
    &[libc::TIOCSTI as u32, libc::TIOCLINUX as u32, libc::TIOCSETD as u32, libc::TIOCCONS as u32];
/// Types of ioctl(2) requests that file systems have for plain files and directories, also for ones that are open for
/// reading alone: flags, versions, encryption keys, verity (`f`, `v`, `X`), subvolumes of btrfs and bcachefs (0x94,
/// 0xbc), attributes of fat, f2fs, zfs, cifs, ceph and reiserfs (`r`, 0xf5, 0x83, 0xcf, 0x97, 0xcd).
const FILE_SYSTEM_TYPES: &[u32] = &[0x66, 0x76, 0x58, 0x94, 0xbc, 0x72, 0xf5, 0x83, 0xcf, 0x97, 0xcd];
/// Of those, what only reads or needs a file that is open for writing: FS_IOC_GETFLAGS, FS_IOC_GETVERSION,
/// FS_IOC_FSGETXATTR, FS_IOC_FIEMAP, FICLONE, FICLONERANGE, FIDEDUPERANGE.
const HARMLESS_REQUESTS: &[u32] =
    &[0x8008_6601, 0x8008_7601, 0x801c_581f, 0xc020_660b, 0x4004_9409, 0x4020_940d, 0xc018_9436];

const COMMON: &[Rule] = include!("../policy/common.in");
/// What the watched filter asks about beside what is denied.
const WATCHED: &[Rule] = &[
    call!(SYS_execve, Always, Ask(Watch::Exec), "every program executed is evidence"),
    call!(SYS_execveat, Always, Ask(Watch::Exec), "every program executed is evidence"),
    call!(SYS_connect, Always, Ask(Watch::Connect), "attempts to connect are evidence"),
];
/// What is asked about besides where look-ups of paths are watched: at a cost, for whoever learns what a program needs.
const PATHS: &[Rule] = &[
    call!(SYS_openat, Always, Ask(Watch::Path { argument: 1 }), PATH_REASON),
    call!(SYS_newfstatat, Always, Ask(Watch::Path { argument: 1 }), PATH_REASON),
    call!(SYS_statx, Always, Ask(Watch::Path { argument: 1 }), PATH_REASON),
    call!(SYS_faccessat, Always, Ask(Watch::Path { argument: 1 }), PATH_REASON),
    call!(SYS_faccessat2, Always, Ask(Watch::Path { argument: 1 }), PATH_REASON),
];
#[cfg(target_arch = "x86_64")]
const OLD_PATHS: &[Rule] = &[
    call!(SYS_open, Always, Ask(Watch::Path { argument: 0 }), PATH_REASON),
    call!(SYS_stat, Always, Ask(Watch::Path { argument: 0 }), PATH_REASON),
    call!(SYS_access, Always, Ask(Watch::Path { argument: 0 }), PATH_REASON),
];
#[cfg(target_arch = "aarch64")]
const OLD_PATHS: &[Rule] = &[];
const PATH_REASON: &str = "what was looked for in vain shows what a profile lacks";
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: &[Rule] = include!("../policy/x86_64.in");
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &[Rule] = include!("../policy/aarch64.in");
const LANDLOCK: &[Rule] = include!("../policy/landlock.in");
#[cfg(target_arch = "x86_64")]
const LANDLOCK_ARCHITECTURE: &[Rule] = include!("../policy/landlock_x86_64.in");
#[cfg(target_arch = "aarch64")]
const LANDLOCK_ARCHITECTURE: &[Rule] = include!("../policy/landlock_aarch64.in");

/// Sockets at level `landlock`: without a network and where Landlock does not mediate pathname sockets, none.
const NO_SOCKETS: &[Rule] = &[
    call!(SYS_socket, Always, Fail(EAFNOSUPPORT), "the network and the sockets of the host are refused"),
    NO_DATAGRAM_PAIRS,
];
/// What is sent from one half of such a pair may have any path as its address.
const NO_DATAGRAM_PAIRS: Rule = call!(
    SYS_socketpair,
    PairFamilyOrDatagrams,
    Fail(ESOCKTNOSUPPORT),
    "a datagram socket of a pair sends to every pathname socket of the host"
);
/// Without a network, where Landlock mediates pathname sockets.
const UNIX_SOCKETS: &[Rule] = &[call!(
    SYS_socket,
    NotIn(0, &[libc::AF_UNIX as u32]),
    Fail(EAFNOSUPPORT),
    "the network of the host is refused"
)];
/// With the host's network, where Landlock does not mediate pathname sockets.
const INET_SOCKETS: &[Rule] = &[
    call!(
        SYS_socket,
        SocketFamilyAndUnix,
        Fail(EAFNOSUPPORT),
        "unix sockets lead to the host's services; packet, vsock, alg and rarer families; sctp, dccp and raw sockets"
    ),
    NO_DATAGRAM_PAIRS,
];

/// Which tables a sandbox is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The level.
    pub(crate) level: Level,
    /// Its network.
    pub(crate) network: Network,
    /// Level `landlock`: whether Landlock mediates pathname sockets.
    pub(crate) sockets: bool,
}

impl Policy {
    /// The tables in the order in which they are looked at: the first line about a call counts.
    const fn tables(self) -> [&'static [Rule]; 5] {
        let sockets: &[Rule] = match (self.level, self.network, self.sockets) {
            (Level::Full, _, _) | (Level::Landlock, Network::Host, true) => &[],
            (Level::Landlock, Network::None, false) => NO_SOCKETS,
            (Level::Landlock, Network::None, true) => UNIX_SOCKETS,
            (Level::Landlock, Network::Host, false) => INET_SOCKETS,
        };
        match self.level {
            Level::Full => [sockets, &[], &[], COMMON, ARCHITECTURE],
            Level::Landlock => [sockets, LANDLOCK, LANDLOCK_ARCHITECTURE, COMMON, ARCHITECTURE],
        }
    }
}

/// Number of rules and of instructions, for reports.
pub fn size(level: Level) -> (usize, usize) {
    let policy = Policy { level, network: Network::None, sockets: false };
    (policy.tables().iter().map(|table| table.len()).sum(), program(policy, Watching::Nothing).len())
}

/// A line of a level's tables, for whoever wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The system call.
    pub call: &'static str,
    /// `kill`, `served` (done by the supervisor where it may be) or the errno's name.
    pub then: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// The lines of a level's tables, without the network, in the order in which they count. Some are about certain arguments
/// alone, which the tables in `policy/` show.
pub fn rules(level: Level) -> impl Iterator<Item = Refused> {
    let policy = Policy { level, network: Network::None, sockets: false };
    policy.tables().into_iter().flatten().map(|rule| Refused {
        call: rule.name(),
        then: match rule.then {
            Kill => "kill",
            Serve => "served",
            Ask(_) => "asked",
            Fail(EPERM) => "EPERM",
            Fail(EACCES) => "EACCES",
            Fail(EOPNOTSUPP) => "EOPNOTSUPP",
            Fail(EAFNOSUPPORT) => "EAFNOSUPPORT",
            Fail(_) => "ENOSYS",
        },
        reason: rule.reason,
    })
}

/// What the tables say of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It fails with this errno.
    Refuse {
        /// For the caller.
        errno: i32,
        /// The process is to be killed.
        kill: bool,
    },
    /// It goes on.
    Continue(Watch),
    /// The listener does it, or refuses it.
    Serve,
}

/// The listener's side of the watched filter: the same rules over the same arguments. A call that no rule is about does
/// not come here; if one did, it is refused.
pub(crate) fn judge(policy: Policy, nr: libc::c_long, args: &[u64; 6]) -> (Verdict, Option<&'static Rule>) {
    let holds = |rule: &&'static Rule| rule.when.holds(args);
    let denied = policy.tables().into_iter().flatten().find(|rule| rule.nr == nr).filter(holds);
    let noted = [WATCHED, PATHS, OLD_PATHS].into_iter().flatten().find(|rule| rule.nr == nr).filter(holds);
    // What is denied is denied also where it is stopped to be noted.
    let rule = denied.or(noted);
    let verdict = match rule.map(|rule| rule.then) {
        Some(Ask(watch)) => Verdict::Continue(watch),
        Some(Serve) => Verdict::Serve,
        Some(Fail(errno)) => Verdict::Refuse { errno, kill: false },
        Some(Kill) => Verdict::Refuse { errno: EPERM, kill: true },
        None => Verdict::Refuse { errno: EPERM, kill: false },
    };
    (verdict, rule)
}

/// Whether flags of clone(2) or clone3(2) ask for a new namespace.
pub(crate) fn makes_namespaces(flags: u64) -> bool {
    flags & u64::from(NEW_NAMESPACES | CLONE_NEWTIME) != 0
}

impl Rule {
    /// The system call's name.
    pub(crate) fn name(&self) -> &'static str {
        self.constant.strip_prefix("SYS_").unwrap_or(self.constant)
    }

    /// Why the table has this line.
    pub(crate) fn reason(&self) -> &'static str {
        self.reason
    }
}

impl When {
    /// As the assembled rule compares: by the low 32 bits.
    fn holds(self, args: &[u64; 6]) -> bool {
        let arg = |i: u32| args[i as usize] as u32;
        match self {
            Always => true,
            Bits(i, bits) => arg(i) & bits != 0,
            Makes(flags, mode, bits) => arg(flags) & MAKING != 0 && arg(mode) & bits != 0,
            In(i, values) => values.contains(&arg(i)),
            NotIn(i, values) => !values.contains(&arg(i)),
            NonZero(arguments) => arguments.iter().any(|i| arg(*i) != 0),
            Requests(requests, types, but) => {
                let of_type = types.contains(&((arg(1) & REQUEST_TYPE_MASK) >> 8));
                !but.contains(&arg(1)) && (requests.contains(&arg(1)) || of_type)
            }
            PairFamilyOrDatagrams => {
                arg(0) != libc::AF_UNIX as u32 || !PAIR_TYPES.contains(&(arg(1) & SOCK_TYPE_MASK))
            }
            SocketFamily | SocketFamilyAndUnix => {
                let allowed = match arg(0) as i32 {
                    libc::AF_UNIX => matches!(self, SocketFamily),
                    libc::AF_NETLINK => arg(2) == libc::NETLINK_ROUTE as u32,
                    libc::AF_INET | libc::AF_INET6 => {
                        INET_TYPES.contains(&(arg(1) & SOCK_TYPE_MASK)) && INET_PROTOCOLS.contains(&arg(2))
                    }
                    _ => false,
                };
                !allowed
            }
        }
    }
}

#[cfg(test)]
mod tests;
