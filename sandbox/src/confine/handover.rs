//! How a parent hands a process that it started its orders and directories: one socket, bytes and descriptors.
//!
//! The receiver has not confined itself yet, and what it receives is its parent's: trusted, but for its length.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socketpair, sockopt};
use nix::sys::stat::Mode;

use crate::sys::{fdpass, process};

/// Bytes of one message.
const PART: usize = 32 << 10;
/// Most bytes of all orders.
const MAX_BYTES: usize = 16 << 20;
/// Most directories.
const MAX_FDS: usize = 256;

/// A socket, and the end for the process that is started (as its standard input).
///
/// # Errors
/// The kernel's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends bytes and descriptors to the other end.
///
/// # Errors
/// It is gone, or there is too much of them.
pub fn send(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.len() > MAX_BYTES || fds.len() > MAX_FDS {
        return Err(io::Error::other(format!("{} bytes and {} descriptors", bytes.len(), fds.len())));
    }
    let mut head = [0; 16];
    head[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    head[8..].copy_from_slice(&(fds.len() as u64).to_le_bytes());
    fdpass::send(socket.as_fd(), &head, &[])?;
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    for some in fds.chunks(fdpass::MAX_FDS) {
        fdpass::send(socket.as_fd(), b"d", some)?;
    }
    for part in bytes.chunks(PART) {
        fdpass::send(socket.as_fd(), part, &[])?;
    }
    Ok(())
}

/// Receives on standard input what [`send`] sent, and puts `/dev/null` in its place.
///
/// # Errors
/// Standard input is no such socket, or its other end is gone.
pub fn receive() -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let socket = process::borrow(0);
    if getsockopt(&socket, sockopt::SockType) != Ok(SockType::SeqPacket) {
        return Err(io::Error::other("standard input is no socket of Proctor's own"));
    }
    let odd = || io::Error::other("the orders are cut");
    let mut head = [0; 16];
    let (len, _) = fdpass::recv(socket, &mut head)?;
    if len != head.len() {
        return Err(odd());
    }
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[at..at + 8]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX)
    };
    let (length, count) = (number(0), number(8));
    if length > MAX_BYTES || count > MAX_FDS {
        return Err(odd());
    }
    let mut fds = Vec::new();
    while fds.len() < count {
        let (_, some) = fdpass::recv(socket, &mut [0])?;
        if some.is_empty() {
            return Err(odd());
        }
        fds.extend(some);
    }
    let mut bytes = Vec::new();
    let mut part = vec![0; PART];
    while bytes.len() < length {
        let (len, _) = fdpass::recv(socket, &mut part)?;
        if len == 0 {
            return Err(odd());
        }
        bytes.extend_from_slice(&part[..len]);
    }
    let null = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).or_else(|errno| {
        // Where there is none the other end of nothing serves.
        if errno == Errno::ENOENT {
            nix::unistd::pipe2(OFlag::O_CLOEXEC).map(|(read, _)| read)
        } else {
            Err(errno)
        }
    })?;
    process::dup_to(null.as_raw_fd(), 0)?;
    Ok((bytes, fds))
}
