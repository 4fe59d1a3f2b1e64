//! From tables to the instructions of a classic BPF program (seccomp(2)), at compile time.

use super::*;
use crate::sys::lockdown::Instruction;

#[cfg(target_arch = "x86_64")]
pub(crate) const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(crate) const AUDIT_ARCH: u32 = 0xc000_00b7;

pub(crate) const LD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(crate) const JEQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(super) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(crate) const JGE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(crate) const JSET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
pub(crate) const RET: u16 = 0x06; // BPF_RET | BPF_K
pub(crate) const ALLOW: u32 = 0x7fff_0000;
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
pub(crate) const ERRNO: u32 = 0x0005_0000;
pub(super) const USER_NOTIF: u32 = 0x7fc0_0000;
pub(crate) const OFFSET_NR: u32 = 0;
pub(crate) const OFFSET_ARCH: u32 = 4;

const CAPACITY: usize = 768;

struct Assembler {
    code: [Instruction; CAPACITY],
    len: usize,
    watched: Watching,
}

/// What a filter's listener is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watching {
    /// There is none: the kernel refuses by itself.
    Nothing,
    /// What is refused, executed and connected to.
    Calls,
    /// Paths that are looked for, besides.
    Paths,
}

impl Assembler {
    const fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.code[self.len] = Instruction { code, jt, jf, k };
        self.len += 1;
    }

    const fn argument(&mut self, index: u32) {
        // struct seccomp_data: nr, arch, instruction_pointer, args[6]; little endian, so the low half comes first.
        self.push(LD, 0, 0, 16 + 8 * index);
    }

    const fn deny(&mut self, then: Then) {
        let k = match then {
            _ if !matches!(self.watched, Watching::Nothing) => USER_NOTIF,
            Kill => KILL_PROCESS,
            Fail(errno) => ERRNO | errno as u32,
            Ask(_) => ALLOW,
            Serve => ERRNO | EPERM as u32,
        };
        self.push(RET, 0, 0, k);
    }

    const fn rule(&mut self, rule: Rule) {
        let Rule { nr, when, then, .. } = rule;
        let jump = self.len;
        self.push(JEQ, 0, 0, nr as u32);
        match when {
            Always => self.deny(then),
            Bits(argument, bits) => {
                self.argument(argument);
                self.push(JSET, 0, 1, bits);
                self.deny(then);
                self.push(RET, 0, 0, ALLOW);
            }
            Makes(flags, mode, bits) => {
                self.argument(flags);
                self.push(JSET, 0, 3, MAKING);
                self.argument(mode);
                self.push(JSET, 0, 1, bits);
                self.deny(then);
                self.push(RET, 0, 0, ALLOW);
            }
            In(argument, values) => {
                self.argument(argument);
                let mut i = 0;
                while i < values.len() {
                    self.push(JEQ, 0, 1, values[i]);
                    self.deny(then);
                    i += 1;
                }
                self.push(RET, 0, 0, ALLOW);
            }
            NotIn(argument, values) => {
                self.argument(argument);
                let mut i = 0;
                while i < values.len() {
                    self.push(JEQ, 0, 1, values[i]);
                    self.push(RET, 0, 0, ALLOW);
                    i += 1;
                }
                self.deny(then);
            }
            NonZero(arguments) => {
                let mut i = 0;
                while i < arguments.len() {
                    self.argument(arguments[i]);
                    self.push(JEQ, 1, 0, 0);
                    self.deny(then);
                    i += 1;
                }
                self.push(RET, 0, 0, ALLOW);
            }
            Requests(requests, types, but) => {
                self.argument(1);
                let mut i = 0;
                while i < but.len() {
                    self.push(JEQ, 0, 1, but[i]);
                    self.push(RET, 0, 0, ALLOW);
                    i += 1;
                }
                i = 0;
                while i < requests.len() {
                    self.push(JEQ, 0, 1, requests[i]);
                    self.deny(then);
                    i += 1;
                }
                self.push(AND, 0, 0, REQUEST_TYPE_MASK);
                i = 0;
                while i < types.len() {
                    self.push(JEQ, 0, 1, types[i] << 8);
                    self.deny(then);
                    i += 1;
                }
                self.push(RET, 0, 0, ALLOW);
            }
            PairFamilyOrDatagrams => {
                self.argument(0);
                self.push(JEQ, 1, 0, libc::AF_UNIX as u32);
                self.deny(then);
                self.argument(1);
                self.push(AND, 0, 0, SOCK_TYPE_MASK);
                let mut i = 0;
                while i < PAIR_TYPES.len() {
                    self.push(JEQ, 0, 1, PAIR_TYPES[i]);
                    self.push(RET, 0, 0, ALLOW);
                    i += 1;
                }
                self.deny(then);
            }
            SocketFamily | SocketFamilyAndUnix => {
                self.argument(0);
                self.push(JEQ, 0, 1, libc::AF_UNIX as u32);
                if matches!(when, SocketFamily) {
                    self.push(RET, 0, 0, ALLOW);
                } else {
                    self.deny(then);
                }
                // Not netlink: over the next four instructions.
                self.push(JEQ, 0, 4, libc::AF_NETLINK as u32);
                self.argument(2);
                self.push(JEQ, 0, 1, libc::NETLINK_ROUTE as u32);
                self.push(RET, 0, 0, ALLOW);
                self.deny(then);
                self.push(JEQ, 2, 0, libc::AF_INET as u32);
                self.push(JEQ, 1, 0, libc::AF_INET6 as u32);
                self.deny(then);
                self.argument(1);
                self.push(AND, 0, 0, SOCK_TYPE_MASK);
                self.push(JEQ, 2, 0, INET_TYPES[0]);
                self.push(JEQ, 1, 0, INET_TYPES[1]);
                self.deny(then);
                self.argument(2);
                let mut i = 0;
                while i < INET_PROTOCOLS.len() {
                    self.push(JEQ, 0, 1, INET_PROTOCOLS[i]);
                    self.push(RET, 0, 0, ALLOW);
                    i += 1;
                }
                self.deny(then);
            }
        }
        // Another number goes on behind this rule with the number still loaded.
        self.code[jump].jf = (self.len - jump - 1) as u8;
    }
}

const fn assemble(policy: Policy, watched: Watching) -> Assembler {
    let mut asm = Assembler {
        code: [Instruction { code: RET, jt: 0, jf: 0, k: KILL_PROCESS }; CAPACITY],
        len: 0,
        watched,
    };
    asm.push(LD, 0, 0, OFFSET_ARCH);
    asm.push(JEQ, 1, 0, AUDIT_ARCH);
    asm.push(RET, 0, 0, KILL_PROCESS);
    asm.push(LD, 0, 0, OFFSET_NR);
    // x32 marks its calls with bit 30; on aarch64 no number comes near.
    asm.push(JGE, 0, 1, 0x4000_0000);
    asm.push(RET, 0, 0, KILL_PROCESS);
    let mut i = 0;
    while i < WATCHED.len() && !matches!(watched, Watching::Nothing) {
        asm.rule(WATCHED[i]);
        i += 1;
    }
    i = 0;
    while i < PATHS.len() && matches!(watched, Watching::Paths) {
        asm.rule(PATHS[i]);
        i += 1;
    }
    i = 0;
    while i < OLD_PATHS.len() && matches!(watched, Watching::Paths) {
        asm.rule(OLD_PATHS[i]);
        i += 1;
    }
    let tables = policy.tables();
    let mut t = 0;
    while t < tables.len() {
        i = 0;
        while i < tables[t].len() {
            asm.rule(tables[t][i]);
            i += 1;
        }
        t += 1;
    }
    asm.push(RET, 0, 0, ALLOW);
    asm
}

const fn all(level: Level, network: Network, sockets: bool) -> [Assembler; 3] {
    let policy = Policy { level, network, sockets };
    [
        assemble(policy, Watching::Nothing),
        assemble(policy, Watching::Calls),
        assemble(policy, Watching::Paths),
    ]
}

static FULL: [Assembler; 3] = all(Level::Full, Network::None, false);
static LANDLOCK_NONE: [Assembler; 3] = all(Level::Landlock, Network::None, false);
static LANDLOCK_NONE_UNIX: [Assembler; 3] = all(Level::Landlock, Network::None, true);
static LANDLOCK_HOST: [Assembler; 3] = all(Level::Landlock, Network::Host, false);
static LANDLOCK_HOST_UNIX: [Assembler; 3] = all(Level::Landlock, Network::Host, true);

/// The filter's instructions, for a listener or without one.
pub(crate) fn program(policy: Policy, watched: Watching) -> &'static [Instruction] {
    let assembled = match (policy.level, policy.network, policy.sockets) {
        (Level::Full, _, _) => &FULL,
        (Level::Landlock, Network::None, false) => &LANDLOCK_NONE,
        (Level::Landlock, Network::None, true) => &LANDLOCK_NONE_UNIX,
        (Level::Landlock, Network::Host, false) => &LANDLOCK_HOST,
        (Level::Landlock, Network::Host, true) => &LANDLOCK_HOST_UNIX,
    };
    let assembled = match watched {
        Watching::Nothing => &assembled[0],
        Watching::Calls => &assembled[1],
        Watching::Paths => &assembled[2],
    };
    &assembled.code[..assembled.len]
}
