//! What Landlock refused, as the kernel's audit tells it (Linux 6.15, Landlock ABI 7; Documentation/admin-guide/LSM/
//! landlock.rst): heard where the host has audit switched on and the caller may read it. Nothing is switched on here,
//! and what is not to be heard is said to be so.
//!
//! The kernel drops records under load, limits their rate where it was told to, and names only the directory of what
//! was to be made: what is heard is true, and may be less than all.

mod own;
mod record;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;

pub use own::{Maker, Object, Own, Refused};

use crate::landlock;
use crate::sys::audit::{self, HEADER, Status};

/// What is lost otherwise: a lost record panics the kernel (`AUDIT_FAIL_PANIC`).
const PANIC: u32 = 2;

/// Why nothing is to be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// The kernel's Landlock writes no records.
    #[error("this kernel's Landlock (ABI {0}; ABI 7 came with Linux 6.15) writes no audit records")]
    Abi(u32),
    /// No right to read them.
    #[error("reading the kernel's audit records needs CAP_AUDIT_READ, which this process does not have")]
    Forbidden,
    /// The kernel was built without audit.
    #[error("this kernel was built without audit")]
    NoAudit,
    /// Off.
    #[error("audit is off on this host (`auditctl -e 1`, or audit=1 at boot, switches it on)")]
    Off,
    /// A program that is refused much could stop the host.
    #[error(
        "audit is set to panic where a record is lost (`auditctl -f 2`), which a backend could bring about"
    )]
    Panics,
    /// Its state cannot be asked for.
    #[error(
        "the state of the kernel's audit cannot be asked for: {0} (it answers in the initial namespaces alone)"
    )]
    Unknown(Errno),
    /// No socket.
    #[error("no socket to the kernel's audit is to be had: {0}")]
    Socket(Errno),
}

/// Hears the host's audit records.
#[derive(Debug)]
pub struct Reader {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Reader {
    /// Starts to listen. Before the sandbox is started whose records are wanted: those of before are not to be had.
    ///
    /// # Errors
    /// Why nothing would be heard.
    pub fn open() -> Result<Self, Unheard> {
        let abi = landlock::kernel_abi();
        if abi < landlock::AUDIT_ABI {
            return Err(Unheard::Abi(abi));
        }
        let socket = audit::hear().map_err(|errno| match errno {
            Errno::EPERM => Unheard::Forbidden,
            Errno::EPROTONOSUPPORT => Unheard::NoAudit,
            errno => Unheard::Socket(errno),
        })?;
        usable(audit::status())?;
        Ok(Self { socket, buffer: vec![0; HEADER + record::MAX_RECORD + 1] })
    }

    /// Readable when a record waits.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what waits, at most `most` records of whomever, and appends what is the sandbox's own to `refused`. True where
    /// nothing was left.
    ///
    /// # Errors
    /// The socket failed.
    pub fn read(
        &mut self,
        own: &mut Own,
        most: usize,
        now: Instant,
        refused: &mut Vec<Refused>,
    ) -> Result<bool, Errno> {
        for _ in 0..most {
            match audit::receive(self.socket.as_fd(), &mut self.buffer) {
                Ok(None) => return Ok(true),
                Ok(Some(len)) => take(self.buffer.get(..len).unwrap_or_default(), own, now, refused),
                Err(Errno::ENOBUFS) => own.lose(),
                Err(errno) => return Err(errno),
            }
        }
        Ok(false)
    }
}

fn usable(status: Result<Status, Errno>) -> Result<(), Unheard> {
    match status {
        Ok(Status { enabled: 0, .. }) => Err(Unheard::Off),
        Ok(Status { failure: PANIC, .. }) => Err(Unheard::Panics),
        Ok(_) => Ok(()),
        Err(errno) => Err(Unheard::Unknown(errno)),
    }
}

/// A datagram: a header (`struct nlmsghdr`) whose length some kernels leave out of account, and one record.
fn take(datagram: &[u8], own: &mut Own, now: Instant, refused: &mut Vec<Refused>) {
    let Some((header, text)) = datagram.split_at_checked(HEADER) else { return own.lose() };
    match record::parse(u16::from_ne_bytes([header[4], header[5]]), text) {
        Ok(Some(record)) => own.take(record, now, refused),
        Ok(None) => {}
        Err(record::Malformed) => own.unreadable(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_heard_says_why_and_what_would_mend_it() {
        let off = usable(Ok(Status { enabled: 0, failure: 1 })).unwrap_err();
        assert_eq!(
            off.to_string(),
            "audit is off on this host (`auditctl -e 1`, or audit=1 at boot, switches it on)"
        );
        let panics = usable(Ok(Status { enabled: 1, failure: 2 })).unwrap_err();
        assert!(panics.to_string().contains("`auditctl -f 2`"), "{panics}");
        let unknown = usable(Err(Errno::EPERM)).unwrap_err();
        assert!(unknown.to_string().contains("EPERM") && unknown.to_string().contains("initial namespaces"));
        assert!(Unheard::Abi(6).to_string().contains("(ABI 6; ABI 7 came with Linux 6.15)"));
        assert!(Unheard::Forbidden.to_string().contains("CAP_AUDIT_READ"));
        assert!(usable(Ok(Status { enabled: 2, failure: 0 })).is_ok(), "on and locked is on");
    }

    /// Whoever runs this: a reason, or a socket.
    #[test]
    fn a_reader_is_had_or_it_is_said_why_not() {
        match Reader::open() {
            Ok(mut reader) => {
                let maker = Maker { pid: 1, uid: 0, level: crate::spec::Level::Full };
                let (mut own, mut refused) = (Own::new(maker), Vec::new());
                assert!(reader.read(&mut own, 10_000, Instant::now(), &mut refused).is_ok());
                assert_eq!(refused, []);
            }
            Err(why) => assert!(!why.to_string().is_empty()),
        }
    }
}
