//! `probe audit-on`: switches the host's audit on, says `on`, waits until its standard input ends, and puts the former
//! state back: so also where whoever started it was killed. `probe audit-on` says `already` where it was on.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

const GET: u16 = 1000;
const SET: u16 = 1001;
const REQUEST_AND_ACK: u16 = 5;
/// `AUDIT_STATUS_ENABLED`: of a status that is set, this field alone.
const ENABLED: u32 = 1;

/// One request; for [`GET`] what `enabled` says.
fn ask(kind: u16, words: &[u32]) -> Result<u32, Errno> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkAudit)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let mut request = Vec::new();
    request.extend((16 + 4 * words.len() as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(REQUEST_AND_ACK.to_ne_bytes());
    request.extend([0; 8]);
    words.iter().for_each(|word| request.extend(word.to_ne_bytes()));
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    loop {
        if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(2000_u16))? == 0 {
            return Err(Errno::ETIMEDOUT);
        }
        let mut answer = [0u8; 1024];
        let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let answer = &answer[..len];
        let word =
            |at: usize| answer.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
        match (word(4) as u16, word(16).cast_signed()) {
            (2, 0) if kind == SET => return Ok(0),
            (2, errno) if errno != 0 => return Err(Errno::from_raw(-errno)),
            (GET, _) if kind == GET => return Ok(word(20)),
            _ => {}
        }
    }
}

/// `enabled`, or why it is not to be had.
pub(crate) fn state() -> String {
    ask(GET, &[]).map_or_else(|errno| errno.to_string(), |enabled| enabled.to_string())
}

pub(crate) fn on() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let was = match ask(GET, &[]) {
        Ok(was) => was,
        Err(errno) => {
            let _ = writeln!(out, "{errno}");
            return ExitCode::FAILURE;
        }
    };
    let set = |enabled: u32| ask(SET, &[ENABLED, enabled, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let said = match was {
        0 => set(1).map(|_| "on".to_owned()),
        _ => Ok("already".to_owned()),
    };
    let ok = said.is_ok();
    let _ = writeln!(out, "{}", said.unwrap_or_else(|errno| errno.to_string()));
    let _ = out.flush();
    // Whoever wanted it is gone, or done.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let restored = was != 0 || !ok || set(0).is_ok();
    if ok && restored { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
