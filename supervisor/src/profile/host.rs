//! What the machine and the caller's environment say, as plain data: read once by the command line, passed in,
//! and made up by tests. Nothing else under `profile` looks at the environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::error::Bad;

/// The caller's environment, as far as policy looks at it.
#[derive(Debug, Clone)]
pub struct HostEnv {
    /// All variables of the process.
    pub vars: BTreeMap<OsString, OsString>,
    /// The directory of the machine's configuration, `/etc/proctor`.
    pub system_dir: PathBuf,
}

/// Facts about the machine that defaults depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFacts {
    /// Bytes of memory that this process could use: the machine's, or the cgroup's limit where that is less.
    pub memory: u64,
}

impl HostEnv {
    /// This process's own environment.
    pub fn of_this_process() -> Self {
        Self { vars: std::env::vars_os().collect(), system_dir: PathBuf::from("/etc/proctor") }
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// `$HOME`, where it is absolute.
    pub fn home(&self) -> Option<PathBuf> {
        self.absolute("HOME")
    }

    /// The operator's configuration directory: `$XDG_CONFIG_HOME/proctor`, else `$HOME/.config/proctor`
    /// (XDG base directory specification: a relative value is ignored).
    pub fn config_dir(&self) -> Option<PathBuf> {
        self.absolute("XDG_CONFIG_HOME")
            .or_else(|| self.home().map(|home| home.join(".config")))
            .map(|dir| dir.join("proctor"))
    }

    /// Replaces `{home}`, `{cargo_home}` and `{rustup_home}`; any other brace is an error.
    pub fn expand(&self, text: &str) -> Result<String, Bad> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            out.push_str(&rest[..open]);
            let inner = rest[open..].strip_prefix('{').and_then(|after| after.split_once('}'));
            let Some((name, after)) = inner else {
                return Err(Bad::new(format!("`{text}` has a brace that belongs to no placeholder"))
                    .remedy("placeholders are {home}, {cargo_home} and {rustup_home}"));
            };
            out.push_str(&self.placeholder(name)?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn placeholder(&self, name: &str) -> Result<String, Bad> {
        let below_home = |dir: &str| self.home().map(|home| home.join(dir));
        let (path, variable) = match name {
            "home" => (self.home(), "HOME"),
            "cargo_home" => (self.absolute("CARGO_HOME").or_else(|| below_home(".cargo")), "CARGO_HOME"),
            "rustup_home" => (self.absolute("RUSTUP_HOME").or_else(|| below_home(".rustup")), "RUSTUP_HOME"),
            _ => {
                return Err(Bad::new(format!("unknown placeholder `{{{name}}}`"))
                    .near(name, ["home", "cargo_home", "rustup_home"])
                    .remedy("placeholders are {home}, {cargo_home} and {rustup_home}"));
            }
        };
        let path = path.ok_or_else(|| {
            Bad::new(format!("`{{{name}}}` cannot be resolved: {variable} is not set to an absolute path"))
                .remedy("set HOME to your home directory")
        })?;
        path.into_os_string().into_string().map_err(|_| {
            Bad::new(format!("`{{{name}}}` cannot be used: {variable} is not UTF-8"))
                .remedy("use another path")
        })
    }

    fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(Path::new).filter(|path| path.is_absolute()).map(Path::to_path_buf)
    }
}

impl HostFacts {
    /// Reads `/proc/meminfo` (proc_meminfo(5)) and this process's own cgroup limit as mounted at the usual place.
    pub fn read() -> std::io::Result<Self> {
        let total = mem_total(&std::fs::read_to_string("/proc/meminfo")?)
            .ok_or_else(|| std::io::Error::other("/proc/meminfo has no MemTotal line"))?;
        // In a container these files are the container's; on a host's root cgroup the first does not exist and
        // the second holds a number beyond any memory. An unreadable one leaves the machine's own figure.
        let capped = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
            .fold(total, u64::min);
        Ok(Self { memory: capped })
    }
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> HostEnv {
        let vars = vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect();
        HostEnv { vars, system_dir: PathBuf::from("/nonexistent") }
    }

    #[test]
    fn placeholders_come_from_the_environment_given() {
        let plain = env(&[("HOME", "/home/u")]);
        assert_eq!(plain.expand("{cargo_home}/bin:{home}").as_deref(), Ok("/home/u/.cargo/bin:/home/u"));
        assert_eq!(plain.expand("/usr").as_deref(), Ok("/usr"));
        let moved = env(&[("HOME", "/home/u"), ("CARGO_HOME", "/opt/cargo"), ("RUSTUP_HOME", "relative")]);
        assert_eq!(moved.expand("{cargo_home}").as_deref(), Ok("/opt/cargo"));
        assert_eq!(moved.expand("{rustup_home}").as_deref(), Ok("/home/u/.rustup"));
    }

    #[test]
    fn what_is_no_placeholder_is_an_error() {
        let plain = env(&[("HOME", "/home/u")]);
        let error = plain.expand("{cargo-home}/bin").unwrap_err();
        assert_eq!(error.what, "unknown placeholder `{cargo-home}`");
        assert_eq!(error.nearest.as_deref(), Some("cargo_home"));
        for bad in ["{home", "home}", "{", "}{", "{}"] {
            assert!(plain.expand(bad).is_err(), "{bad}");
        }
        let error = env(&[("HOME", "relative")]).expand("{home}").unwrap_err();
        assert_eq!(error.what, "`{home}` cannot be resolved: HOME is not set to an absolute path");
    }

    #[test]
    fn the_configuration_directory_follows_xdg() {
        assert_eq!(env(&[("HOME", "/h")]).config_dir(), Some(PathBuf::from("/h/.config/proctor")));
        assert_eq!(
            env(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]).config_dir(),
            Some(PathBuf::from("/c/proctor"))
        );
        assert_eq!(env(&[("XDG_CONFIG_HOME", "c")]).config_dir(), None);
    }

    #[test]
    fn memory_of_the_machine() {
        assert_eq!(mem_total("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16384));
        assert_eq!(mem_total("MemFree: 1 kB\n"), None);
        assert!(HostFacts::read().unwrap().memory > 1 << 20);
    }
}
