//! Paths that may be mounted: checks on the words alone. Whether a path exists, overlaps the work tree or
//! Proctor's own directories (by device and inode) is found out when the sandbox is planned.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::error::Bad;
use super::{MountMode, MountRule};

/// Directories that the sandbox makes itself: nothing of the host's is mounted at or below them.
const MADE_INSIDE: &[&str] = &["/proc", "/sys", "/dev"];

/// Names of files that hold credentials, wherever they stand: never shown, whatever directory is mounted.
pub const CREDENTIAL_FILES: &[&str] = &[
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".yarnrc",
    ".yarnrc.yml",
    ".git-credentials",
    ".pgpass",
    ".my.cnf",
    ".vault-token",
    ".dockercfg",
    ".terraformrc",
];

/// Ends of paths that hold credentials, where the file's name alone says too little.
pub const CREDENTIAL_PATHS: &[&str] = &[
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".docker/config.json",
    ".config/gh/hosts.yml",
    ".config/git/credentials",
    ".config/pip/pip.conf",
    ".pip/pip.conf",
    ".config/pypoetry/auth.toml",
    ".config/go/env",
    ".config/pnpm/rc",
    ".config/composer/auth.json",
    ".config/containers/auth.json",
    ".bundle/config",
    ".gem/credentials",
    ".ivy2/.credentials",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".gradle/gradle.properties",
    ".nuget/NuGet/NuGet.Config",
    ".composer/auth.json",
    ".aws/credentials",
    ".kube/config",
];

/// True where the path is a known credential file.
pub fn is_credential(path: &Path) -> bool {
    let named = path.file_name().is_some_and(|name| CREDENTIAL_FILES.iter().any(|known| name == *known));
    named || CREDENTIAL_PATHS.iter().any(|known| path.ends_with(known))
}

/// An absolute, plain path that may be mounted.
pub fn mount_path(text: &str) -> Result<PathBuf, Bad> {
    let shown = text.escape_debug();
    let path = Path::new(text);
    if text.contains('\0') {
        return Err(Bad::new(format!("`{shown}` holds a NUL byte")).remedy("remove it"));
    }
    if !path.is_absolute() {
        return Err(Bad::new(format!("`{shown}` is not an absolute path"))
            .remedy("start it with `/`; a mount stands at the same path inside and outside"));
    }
    // `components` drops `.` and doubled slashes; `..` stays and would make the path name something else.
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Bad::new(format!("`{shown}` has a `..`")).remedy("write the path without it"));
    }
    let plain: PathBuf = path.components().collect();
    if plain == Path::new("/") {
        return Err(Bad::new("the whole file system cannot be mounted")
            .remedy("name the directories that are needed"));
    }
    if let Some(own) = MADE_INSIDE.iter().find(|own| plain.starts_with(own)) {
        return Err(Bad::new(format!("`{shown}`: the sandbox has a {own} of its own"))
            .remedy("leave it out; nothing of the host's is shown there"));
    }
    if is_credential(&plain) {
        return Err(Bad::new(format!("`{shown}` is a credential file, which no sandbox shows"))
            .remedy("give the one value that is needed with `pass_env` or `--pass-env`"));
    }
    Ok(plain)
}

/// Mounts by path: later layers replace the mode of earlier ones.
#[derive(Debug, Clone, Default)]
pub struct MountTable(BTreeMap<PathBuf, Entry>);

#[derive(Debug, Clone)]
struct Entry {
    rule: MountRule,
    layer: usize,
}

impl MountTable {
    /// Adds a mount of the layer with this number. The same path twice in one layer is an error.
    pub fn add(&mut self, layer: usize, rule: MountRule) -> Result<(), Bad> {
        if let Some(before) = self.0.get(&rule.path)
            && before.layer == layer
        {
            let what = if before.rule.mode == rule.mode {
                format!("`{}` is mounted twice", rule.path.display())
            } else {
                format!(
                    "`{}` is mounted both `{}` and `{}`",
                    rule.path.display(),
                    before.rule.mode.word(),
                    rule.mode.word()
                )
            };
            return Err(Bad::new(what).remedy("name each path once"));
        }
        self.0.insert(rule.path.clone(), Entry { rule, layer });
        Ok(())
    }

    /// The number of the layer that said a path's mode.
    pub fn layer_of(&self, path: &Path) -> Option<usize> {
        self.0.get(path).map(|entry| entry.layer)
    }

    /// The mounts, every directory before what is below it.
    pub fn rules(&self) -> Vec<MountRule> {
        self.0.values().map(|entry| entry.rule.clone()).collect()
    }
}

impl MountMode {
    /// The word used in files and options.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ro => "ro",
            Self::Rw => "rw",
            Self::Overlay => "overlay",
            Self::Private => "private",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_plain_and_not_the_sandboxs_own() {
        assert_eq!(mount_path("/opt//tool/./x/"), Ok(PathBuf::from("/opt/tool/x")));
        assert!(mount_path("/development").is_ok(), "only whole components count");
        for bad in [
            "",
            "opt",
            "./opt",
            "~/x",
            "/",
            "//",
            "/.",
            "/a/../etc",
            "/proc",
            "/proc/1",
            "/sys/fs",
            "/dev",
            "/a\0",
        ] {
            assert!(mount_path(bad).is_err(), "{bad}");
        }
        for bad in
            ["/home/u/.netrc", "/home/u/.cargo/credentials.toml", "/x/.npmrc", "/home/u/.docker/config.json"]
        {
            assert!(mount_path(bad).unwrap_err().what.contains("credential file"), "{bad}");
        }
        assert!(mount_path("/home/u/.cargo/registry").is_ok());
    }

    #[test]
    fn later_layers_win_and_parents_come_first() {
        let rule = |path: &str, mode| MountRule { path: path.into(), mode, optional: false };
        let mut table = MountTable::default();
        table.add(0, rule("/a/b", MountMode::Ro)).unwrap();
        table.add(0, rule("/a", MountMode::Ro)).unwrap();
        table.add(0, rule("/a-b", MountMode::Ro)).unwrap();
        table.add(1, rule("/a/b", MountMode::Overlay)).unwrap();
        let rules = table.rules();
        assert_eq!(
            rules.iter().map(|r| r.path.to_str().unwrap()).collect::<Vec<_>>(),
            ["/a", "/a/b", "/a-b"]
        );
        assert_eq!(rules[1].mode, MountMode::Overlay);
        let twice = table.add(1, rule("/a/b", MountMode::Overlay)).unwrap_err();
        assert_eq!(twice.what, "`/a/b` is mounted twice");
        let both = table.add(1, rule("/a/b", MountMode::Rw)).unwrap_err();
        assert_eq!(both.what, "`/a/b` is mounted both `overlay` and `rw`");
    }
}
