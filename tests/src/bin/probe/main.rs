//! The attacker: carries out the attacks named by its arguments, one process each, and prints one line for each:
//! the attack, a tab, and `ok`, the kernel's errno, or the signal that killed it. It asserts nothing.
//! `probe without` runs a command on a host that lacks something, `probe audit-on` has audit on for a while,
//! `probe --reader DIR` carries out its attacks as a reader that may read beneath DIR and has nothing else.

mod attack;
mod audit;
mod confined;
mod launch;
mod raw;
mod shared;
mod without;

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((mode, rest)) = args.split_first()
        && mode == "without"
    {
        return without::run(rest);
    }
    let mut out = std::io::stdout().lock();
    match args.split_first() {
        Some((mode, _)) if mode == "audit-on" => {
            drop(out);
            return audit::on();
        }
        Some((mode, _)) if mode == "audit-state" => {
            let _ = writeln!(out, "{}", audit::state());
        }
        Some((mode, rest)) if mode == "--reader" => {
            for attack in &rest[1..] {
                let _ = writeln!(out, "{attack}\t{}", alone(&["--one-reader", &rest[0], attack]));
            }
        }
        Some((mode, rest)) if mode == "--one-reader" => {
            let _ = writeln!(out, "{}", confined::carry_out(&rest[0], &rest[1]));
        }
        // Before any thread exists, as the launcher wants it.
        Some((mode, rest)) if mode == "--launch" => {
            let _ = writeln!(out, "{}", launch::case(rest));
        }
        // Executes a command under a seccomp filter that holds the only listener there can be, and allows everything.
        Some((mode, rest)) if mode == "--under-listener" => {
            let failed = raw::hold_the_listener()
                .map_or_else(std::io::Error::from, |()| Command::new(&rest[0]).args(&rest[1..]).exec());
            let _ = writeln!(out, "not started: {failed}");
            return ExitCode::FAILURE;
        }
        Some((mode, rest)) if mode == "--one" => {
            let words: Vec<&str> = rest.iter().flat_map(|a| a.split(' ')).collect();
            let _ = writeln!(out, "{}", attack::carry_out(&words));
        }
        _ => {
            for attack in &args {
                let _ = writeln!(out, "{attack}\t{}", alone(&["--one", attack]));
            }
        }
    }
    ExitCode::SUCCESS
}

/// One attack in a process of its own: some are meant to kill it.
fn alone(attack: &[&str]) -> String {
    let child = Command::new("/proc/self/exe").args(attack).stderr(Stdio::null()).output();
    match child {
        Err(e) => format!("not started: {e}"),
        Ok(output) => match output.status.signal() {
            Some(signal) => nix::sys::signal::Signal::try_from(signal)
                .map_or_else(|_| format!("signal {signal}"), |s| s.to_string()),
            None => String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        },
    }
}
