//! Sockets of the kernel's audit subsystem (netlink(7), linux/audit.h): its status asked, its records heard. Nothing here
//! switches anything on.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto,
    setsockopt, socket, sockopt,
};

/// `1 << (AUDIT_NLGRP_READLOG - 1)`.
const READLOG: u32 = 1;
const AUDIT_GET: u16 = 1000;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
/// `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// How long the kernel may take to say its status: a thread of its own answers.
const PATIENCE: u16 = 1000;
/// What waits for a reader, in bytes: some thousand records.
const BUFFER: usize = 4 << 20;

/// What `struct audit_status` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// 0: off. 1: on. 2: on, and locked until the next boot.
    pub(crate) enabled: u32,
    /// What a lost record leads to: 0 nothing, 1 a line in the kernel's log, 2 a panic.
    pub(crate) failure: u32,
}

fn netlink() -> Result<OwnedFd, Errno> {
    socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkAudit,
    )
}

/// A socket that hears every audit record. `EPERM` without CAP_AUDIT_READ, `EPROTONOSUPPORT` on a kernel without audit.
pub(crate) fn hear() -> Result<OwnedFd, Errno> {
    let socket = netlink()?;
    // Beyond the system's limit as root; what cannot be had is what `ENOBUFS` later tells of.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
    }
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, READLOG))?;
    Ok(socket)
}

/// The next datagram of the kernel's, if one is there: `ENOBUFS` where some were lost before it.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
    loop {
        match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), buffer) {
            // Port 0 is the kernel; a process that may send to this group says what it likes.
            Ok((len, Some(from))) if from.pid() == 0 => return Ok(Some(len)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

/// Asks for the status. `EPERM` without CAP_AUDIT_CONTROL, `ECONNREFUSED` in a user or pid namespace.
pub(crate) fn status() -> Result<Status, Errno> {
    let socket = netlink()?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let mut request = [0u8; HEADER];
    request[..4].copy_from_slice(&(HEADER as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&AUDIT_GET.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut buffer = [0u8; 1024];
    loop {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(PATIENCE)) {
            Ok(0) => return Err(Errno::ETIMEDOUT),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        }
        let Some(len) = receive(socket.as_fd(), &mut buffer)? else { continue };
        if let Some(answer) = answer(&buffer[..len]) {
            return answer;
        }
    }
}

/// What a datagram says of the status, where it is about that.
fn answer(datagram: &[u8]) -> Option<Result<Status, Errno>> {
    let word = |at: usize| {
        Some(u32::from_ne_bytes(datagram.get(HEADER + at * 4..HEADER + at * 4 + 4)?.try_into().ok()?))
    };
    let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
    match kind {
        NLMSG_ERROR => match word(0)?.cast_signed() {
            0 => None,
            errno => Some(Err(Errno::from_raw(errno.saturating_neg()))),
        },
        AUDIT_GET => Some(Ok(Status { enabled: word(1)?, failure: word(2)? })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(kind: u16, words: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn a_status_an_error_and_a_mere_acknowledgement_are_told_apart() {
        let status = datagram(AUDIT_GET, &[0, 2, 1, 77, 0, 64, 0, 0]);
        assert_eq!(answer(&status), Some(Ok(Status { enabled: 2, failure: 1 })));
        assert_eq!(answer(&datagram(NLMSG_ERROR, &[-1_i32 as u32])), Some(Err(Errno::EPERM)));
        assert_eq!(answer(&datagram(NLMSG_ERROR, &[0])), None);
        assert_eq!(answer(&datagram(AUDIT_GET, &[0, 1])), None, "cut");
        assert_eq!(answer(&[1, 2, 3]), None);
    }
}
