//! The only unsafe code of the crate: system calls that no safe crate wraps, each as one small safe function.
//! No policy, no allocation (but where a function says so), no lock: most of this runs between clone and exec.
#![expect(unsafe_code, reason = "raw system calls; each block states why it is sound")]

pub(crate) mod audit;
pub(crate) mod exec;
pub(crate) mod fdpass;
pub(crate) mod lockdown;
pub(crate) mod mount;
pub(crate) mod net;
pub(crate) mod notify;
pub(crate) mod process;

use nix::errno::Errno;

/// Turns a raw return value into a result.
fn check(ret: libc::c_long) -> Result<libc::c_long, Errno> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}
