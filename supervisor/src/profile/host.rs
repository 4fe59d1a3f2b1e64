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

/// Variables that lead to credentials: to the file or directory itself (an empty name), or to a directory that holds
/// some under these names.
const CREDENTIALS: &[(&str, &[&str])] = &[
    ("CARGO_HOME", &["credentials", "credentials.toml"]),
    ("GRADLE_USER_HOME", &["gradle.properties"]),
    ("npm_config_userconfig", &[""]),
    ("NPM_CONFIG_USERCONFIG", &[""]),
    ("npm_config_globalconfig", &[""]),
    ("PIP_CONFIG_FILE", &[""]),
    ("UV_CREDENTIALS_DIR", &[""]),
    ("GOENV", &[""]),
    ("NETRC", &[""]),
    (
        "XDG_CONFIG_HOME",
        &["gh", "gcloud", "git/credentials", "pip/pip.conf", "pypoetry/auth.toml", "go/env", "pnpm/rc"],
    ),
    ("XDG_DATA_HOME", &["keyrings", "uv/credentials"]),
    ("GNUPGHOME", &[""]),
    ("DOCKER_CONFIG", &["config.json"]),
    ("AWS_SHARED_CREDENTIALS_FILE", &[""]),
    ("CLOUDSDK_CONFIG", &[""]),
    ("GOOGLE_APPLICATION_CREDENTIALS", &[""]),
    ("GH_CONFIG_DIR", &[""]),
    ("PGPASSFILE", &[""]),
];

/// A word in braces that stands for a directory of the caller's.
#[derive(Debug)]
pub struct Placeholder {
    /// The word.
    pub name: &'static str,
    /// Variables that say where, first one set wins; a relative value does not count.
    pub variables: &'static [&'static str],
    /// Where it is otherwise; `None` where only a variable can say.
    pub usual: Option<&'static str>,
}

const fn place(
    name: &'static str,
    variables: &'static [&'static str],
    usual: Option<&'static str>,
) -> Placeholder {
    Placeholder { name, variables, usual }
}

/// The placeholders of views and profiles: the variables by which each tool is told where its directories are, and
/// where it looks otherwise.
pub const PLACEHOLDERS: &[Placeholder] = &[
    place("home", &["HOME"], None),
    place("cache", &["XDG_CACHE_HOME"], Some("{home}/.cache")),
    place("data", &["XDG_DATA_HOME"], Some("{home}/.local/share")),
    place("cargo_home", &["CARGO_HOME"], Some("{home}/.cargo")),
    place("rustup_home", &["RUSTUP_HOME"], Some("{home}/.rustup")),
    place("npm_cache", &["npm_config_cache", "NPM_CONFIG_CACHE"], Some("{home}/.npm")),
    place("nvm_dir", &["NVM_DIR"], Some("{home}/.nvm")),
    // Set by `nvm use`; the link is there with NVM_SYMLINK_CURRENT.
    place("nvm_bin", &["NVM_BIN"], Some("{nvm_dir}/current/bin")),
    place("fnm_dir", &["FNM_DIR"], Some("{data}/fnm")),
    place("volta_home", &["VOLTA_HOME"], Some("{home}/.volta")),
    place("pnpm_home", &["PNPM_HOME"], Some("{data}/pnpm")),
    place("pip_cache", &["PIP_CACHE_DIR"], Some("{cache}/pip")),
    place("uv_cache", &["UV_CACHE_DIR"], Some("{cache}/uv")),
    place("uv_python", &["UV_PYTHON_INSTALL_DIR"], Some("{data}/uv/python")),
    place("pyenv_root", &["PYENV_ROOT"], Some("{home}/.pyenv")),
    place("goroot", &["GOROOT"], None),
    place("gopath", &["GOPATH"], Some("{home}/go")),
    place("gomodcache", &["GOMODCACHE"], Some("{gopath}/pkg/mod")),
    place("gocache", &["GOCACHE"], Some("{cache}/go-build")),
    place("java_home", &["JAVA_HOME"], None),
    place("sdkman_dir", &["SDKMAN_DIR"], Some("{home}/.sdkman")),
    place("gradle_home", &["GRADLE_USER_HOME"], Some("{home}/.gradle")),
];

fn placeholders() -> String {
    let names: Vec<String> = PLACEHOLDERS.iter().map(|known| format!("{{{}}}", known.name)).collect();
    format!("placeholders are {}", names.join(", "))
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

    /// An environment of a test's own.
    #[cfg(test)]
    pub(crate) fn for_tests(vars: &[(&str, &str)]) -> Self {
        let vars = vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect();
        Self { vars, system_dir: PathBuf::from("/nonexistent") }
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

    /// Replaces placeholders ([`PLACEHOLDERS`]); any other brace is an error.
    pub fn expand(&self, text: &str) -> Result<String, Bad> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            out.push_str(&rest[..open]);
            let inner = rest[open..].strip_prefix('{').and_then(|after| after.split_once('}'));
            let Some((name, after)) = inner else {
                return Err(Bad::new(format!("`{text}` has a brace that belongs to no placeholder"))
                    .remedy(placeholders()));
            };
            out.push_str(&self.placeholder(name)?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// True where the text names a placeholder that has no usual place (`{java_home}`) and whose variable is not set:
    /// a view leaves such an entry out.
    pub fn lacks(&self, text: &str) -> bool {
        PLACEHOLDERS.iter().any(|known| {
            known.usual.is_none()
                && known.name != "home"
                && text.contains(&format!("{{{}}}", known.name))
                && self.first_of(known.variables).is_none()
        })
    }

    fn placeholder(&self, name: &str) -> Result<String, Bad> {
        let Some(known) = PLACEHOLDERS.iter().find(|known| known.name == name) else {
            return Err(Bad::new(format!("unknown placeholder `{{{name}}}`"))
                .near(name, PLACEHOLDERS.iter().map(|known| known.name))
                .remedy(placeholders()));
        };
        let variable = known.variables[0];
        match (self.first_of(known.variables), known.usual) {
            (Some(path), _) => path.into_os_string().into_string().map_err(|_| {
                Bad::new(format!("`{{{name}}}` cannot be used: {variable} is not UTF-8"))
                    .remedy("use another path")
            }),
            // Only the table's own texts are expanded here, and each names one that stands before it.
            (None, Some(usual)) => self.expand(usual),
            (None, None) => Err(Bad::new(format!(
                "`{{{name}}}` cannot be resolved: {variable} is not set to an absolute path"
            ))
            .remedy(if name == "home" {
                "set HOME to your home directory".to_owned()
            } else {
                format!("set {variable}, or write the path")
            })),
        }
    }

    fn first_of(&self, variables: &[&str]) -> Option<PathBuf> {
        variables.iter().find_map(|name| match *name {
            // A list; go writes to its first entry alone.
            "GOPATH" => std::env::split_paths(self.get(name)?).next().filter(|path| path.is_absolute()),
            name => self.absolute(name),
        })
    }

    /// Files and directories with credentials that variables lead to: where a tool's home is not the usual one, what
    /// it keeps secret is not either.
    pub fn credentials(&self) -> Vec<PathBuf> {
        let below = CREDENTIALS
            .iter()
            .filter_map(|(variable, names)| Some((self.absolute(variable)?, names)))
            .flat_map(|(dir, names)| {
                names.iter().map(move |name| if name.is_empty() { dir.clone() } else { dir.join(name) })
            });
        below.collect()
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
        for name in ["home", "cargo_home", "uv_python"] {
            let error = env(&[("HOME", "relative")]).expand(&format!("{{{name}}}")).unwrap_err();
            assert_eq!(error.what, "`{home}` cannot be resolved: HOME is not set to an absolute path");
        }
        let error = plain.expand("{java_home}/bin").unwrap_err();
        assert_eq!(error.what, "`{java_home}` cannot be resolved: JAVA_HOME is not set to an absolute path");
        assert_eq!(error.remedy.as_deref(), Some("set JAVA_HOME, or write the path"));
    }

    #[test]
    fn each_placeholder_leads_to_the_usual_place_where_nothing_is_set() {
        let plain = env(&[("HOME", "/home/u")]);
        for (index, known) in PLACEHOLDERS.iter().enumerate() {
            let Some(usual) = known.usual else { continue };
            assert!(plain.expand(usual).unwrap().starts_with("/home/u/"), "{}", known.name);
            for later in &PLACEHOLDERS[index..] {
                assert!(!usual.contains(&format!("{{{}}}", later.name)), "{} would not end", known.name);
            }
        }
        let all =
            env(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c"), ("GOPATH", "/g:/other"), ("GOCACHE", "off")]);
        assert_eq!(
            all.expand("{pip_cache} {gomodcache} {gocache} {nvm_bin}").as_deref(),
            Ok("/c/pip /g/pkg/mod /c/go-build /h/.nvm/current/bin")
        );
    }

    #[test]
    fn credentials_are_where_variables_say() {
        let vars = env(&[
            ("HOME", "/h"),
            ("CARGO_HOME", "/opt/c"),
            ("PIP_CONFIG_FILE", "/p.conf"),
            ("GOENV", "off"),
        ]);
        let found = vars.credentials();
        let expected = ["/opt/c/credentials", "/opt/c/credentials.toml", "/p.conf/"].map(PathBuf::from);
        assert_eq!(found, expected);
    }

    #[test]
    fn what_only_a_variable_can_say_is_lacking_without_it() {
        let plain = env(&[("HOME", "/home/u"), ("JAVA_HOME", "relative")]);
        assert!(plain.lacks("{java_home}/bin") && plain.lacks("{goroot}"));
        assert!(!plain.lacks("{gopath}") && !plain.lacks("{home}") && !plain.lacks("/usr"));
        assert!(!env(&[("JAVA_HOME", "/opt/jdk")]).lacks("{java_home}"));
        assert!(!env(&[]).lacks("{home}"), "no home is an error, not something to leave out");
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
