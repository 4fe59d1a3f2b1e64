//! Starts an untrusted program in a Linux sandbox and says what it enforced.
//!
//! Namespaces (user, mount, pid, ipc, uts, cgroup, network), a private root, the work tree in an overlay, Landlock,
//! seccomp, empty capability sets, rlimits and a cgroup where there is one. The library knows no policy: what is
//! mounted, allowed and limited stands in a [`spec::SandboxSpec`]; what came of it stands in
//! [`enforced::Enforced`]. It reads no environment variable and starts no thread.
//!
//! [`launch::Launcher::start`] must run before the process has threads; [`launch::Launcher::launch`] may be called
//! from any thread afterwards.

pub mod audit;
mod caller;
pub mod cgroup;
mod check;
mod child;
pub mod confine;
pub mod enforced;
pub mod error;
mod fsids;
mod grants;
pub mod host;
mod idmap;
pub mod inside;
pub mod landlock;
pub mod launch;
mod message;
mod metadata;
pub mod notify;
mod plan;
pub mod running;
pub mod seccomp;
pub mod seed;
pub mod single;
pub mod spec;
mod sys;
