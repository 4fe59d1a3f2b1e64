//! The probe as a reader of evidence: confined as `proctor verify` confines its own, and then hostile.

use std::fs::File;
use std::os::fd::OwnedFd;

use proctor_sandbox::confine::{Reading, confine};

use crate::{attack, raw};

/// The most memory that it may write to, bytes.
const MEMORY: u64 = 64 << 20;

/// Confines this process to reading beneath `dir`, and carries out one attack. `held` is none:
/// it says what holds it.
pub(crate) fn carry_out(dir: &str, attack: &str) -> String {
    let dir = match File::open(dir) {
        Ok(file) => OwnedFd::from(file),
        Err(e) => return format!("{dir}: {e}"),
    };
    let reading = Reading {
        beneath: &[dir],
        memory: MEMORY,
        mapped: 0,
        cpu_seconds: 1,
        open_files: 16,
        parent: std::os::unix::process::parent_id(),
        make_do: false,
    };
    let held = match confine(&reading) {
        Ok(held) => held,
        Err(e) => return format!("not confined: {e}"),
    };
    let words: Vec<&str> = attack.split(' ').collect();
    match words.as_slice() {
        ["held"] => {
            let all = held.mechanisms.iter().map(|(name, detail)| format!("{name} {detail:?}"));
            format!("{}; missing: {}", all.collect::<Vec<_>>().join(", "), held.missing.join(", "))
        }
        ["ids"] => format!("{} {}", nix::unistd::geteuid(), nix::unistd::getegid()),
        ["eat", bytes] => match raw::eat(bytes.parse().unwrap_or(0)) {
            Ok(()) => "ok".into(),
            Err(errno) => format!("{errno:?}"),
        },
        ["allocate", bytes] => {
            let all = vec![1_u8; bytes.parse().unwrap_or(0)];
            format!("{} bytes", all.len())
        }
        ["spin"] => loop {
            std::hint::spin_loop();
        },
        ["open", count] => {
            let all: Vec<_> = (0..count.parse().unwrap_or(0)).map_while(|_| File::open(PLACE).ok()).collect();
            format!("{}", all.len())
        }
        words => attack::carry_out(words),
    }
}

/// A file beneath what may be read, from the working directory.
const PLACE: &str = "inside/file";
