//! Messages from the sandbox's init to the supervisor: fixed 64 bytes, so that the sender allocates nothing.

use std::os::fd::RawFd;

use crate::error::Step;
use crate::plan::Label;
use crate::sys::{fdpass, process};

/// Length of every message.
pub(crate) const LEN: usize = 64;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// The private root stands; the private tmpfs comes as descriptor.
    Ready,
    /// The filter is installed; its listener comes as descriptor.
    Listener,
    /// The program was executed; mechanisms in force.
    Started { bits: u64 },
    /// A step failed; nothing was executed.
    Failed { step: Step, label: Label, errno: i32 },
    /// The program ended; the rest of the sandbox dies with the sender, or is dead where that was proved (`emptied`).
    Exited { status: i32, user_micros: u64, system_micros: u64, max_rss_kib: u64, emptied: bool },
}

impl Message {
    fn encode(self) -> [u8; LEN] {
        let mut bytes = [0u8; LEN];
        let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        match self {
            Message::Ready => put(0, 1),
            Message::Listener => put(0, 5),
            Message::Started { bits } => {
                put(0, 2);
                put(8, bits);
            }
            Message::Failed { step, label, errno } => {
                put(0, 3);
                put(8, step as u64);
                put(16, u64::from(label));
                put(24, errno as u64);
            }
            Message::Exited { status, user_micros, system_micros, max_rss_kib, emptied } => {
                put(0, 4);
                put(8, status as u64);
                put(16, user_micros);
                put(24, system_micros);
                put(32, max_rss_kib);
                put(40, u64::from(emptied));
            }
        }
        bytes
    }

    /// Reads a message; `None` where the bytes are none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LEN {
            return None;
        }
        let get = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]));
        match get(0) {
            1 => Some(Message::Ready),
            2 => Some(Message::Started { bits: get(8) }),
            3 => Some(Message::Failed {
                step: Step::from_raw(u16::try_from(get(8)).ok()?)?,
                label: Label::try_from(get(16)).ok()?,
                errno: get(24) as i32,
            }),
            4 => Some(Message::Exited {
                status: get(8) as i32,
                user_micros: get(16),
                system_micros: get(24),
                max_rss_kib: get(32),
                emptied: get(40) == 1,
            }),
            5 => Some(Message::Listener),
            _ => None,
        }
    }

    /// Sends without a descriptor. A failure is not reported: the receiver is gone, and so is the sender soon.
    pub(crate) fn send(self, socket: RawFd) {
        let _ = fdpass::send(process::borrow(socket), &self.encode(), &[]);
    }

    /// Sends with one descriptor.
    pub(crate) fn send_with(self, socket: RawFd, fd: RawFd) -> Result<(), nix::errno::Errno> {
        fdpass::send(process::borrow(socket), &self.encode(), &[fd])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for message in [
            Message::Ready,
            Message::Listener,
            Message::Started { bits: u64::MAX },
            Message::Failed { step: Step::OverlayMount, label: 7, errno: 22 },
            Message::Exited { status: 9, user_micros: 1, system_micros: 2, max_rss_kib: 3, emptied: true },
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        assert_eq!(Message::decode(&[0; LEN]), None);
        assert_eq!(Message::decode(&[1; 8]), None);
    }
}
