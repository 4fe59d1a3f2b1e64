//! Toolchain views: files that name what a toolchain needs to be seen, so that nobody mounts a home directory
//! for a compiler's sake. Embedded ones stand under `profiles/sandbox/`; an operator's file of the same name,
//! in the configuration directory's `sandbox/`, takes its place.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::error::{Bad, Place, ProfileError};
use super::host::HostEnv;
use super::raw::{RawEnv, Text, Texts};
use super::source::{SourceText, WorkTree};
use super::{MountMode, MountRule, layers, mounts, values};
use crate::schema::kinds;

/// Names and texts of the embedded views.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("base", include_str!("../../../profiles/sandbox/base.toml")),
    ("go", include_str!("../../../profiles/sandbox/go.toml")),
    ("java", include_str!("../../../profiles/sandbox/java.toml")),
    ("node", include_str!("../../../profiles/sandbox/node.toml")),
    ("python", include_str!("../../../profiles/sandbox/python.toml")),
    ("rust", include_str!("../../../profiles/sandbox/rust.toml")),
];

/// Directories that no view may mount, at or below: other people's files, sockets, kernel state.
const NEVER: &[&str] = &["/run", "/var/run", "/sys", "/proc", "/dev", "/boot"];
/// Directories that no view may mount whole.
const NEVER_WHOLE: &[&str] = &["/home", "/root", "/var", "/etc", "/tmp", "/srv", "/mnt", "/media"];

/// A view's file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct RawView {
    /// For people.
    #[schemars(with = "String")]
    pub description: Text,
    /// What is seen.
    #[serde(default)]
    pub mounts: Vec<RawMount>,
    /// Variables.
    #[serde(default)]
    #[schemars(with = "kinds::MapOf<kinds::VariableName, String>")]
    pub env: RawEnv,
    /// Directories put before the base `PATH`.
    #[serde(default)]
    #[schemars(with = "Option<Vec<kinds::PathTemplate>>")]
    pub path: Texts,
}

/// `[[mounts]]` of a view or an engine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct RawMount {
    /// Path, the same outside and inside; placeholders are replaced.
    #[schemars(with = "kinds::PathTemplate")]
    pub path: Text,
    /// `ro`, `rw`, `overlay` or `private`.
    #[schemars(with = "kinds::MountModeName")]
    pub mode: Text,
    /// True where a host may lack it.
    #[serde(default)]
    pub optional: bool,
}

/// A view, checked, with its placeholders replaced.
#[derive(Debug, Clone)]
pub struct View {
    /// Name.
    pub name: String,
    /// As `explain` shows it: `view rust`, with the file's path where it is not a built-in one.
    pub label: String,
    /// What is seen.
    pub mounts: Vec<MountRule>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Directories put before the base `PATH`.
    pub path: Vec<String>,
}

/// Loads a view by name; `place` is where the name was said.
pub fn load(name: &str, place: Place, env: &HostEnv, tree: &WorkTree) -> Result<View, ProfileError> {
    let name = values::name(name).map_err(|bad| bad.at(place.clone()))?;
    if let Some(source) = layers::find_named("sandbox", &name, env, tree)? {
        let label = format!("view {name} ({})", source.name);
        return parse(&name, label, &source, env);
    }
    let Some((_, text)) = EMBEDDED.iter().find(|(embedded, _)| *embedded == name) else {
        let own = layers::names_in("sandbox", env);
        let known: Vec<&str> =
            EMBEDDED.iter().map(|(name, _)| *name).chain(own.iter().map(String::as_str)).collect();
        return Err(Bad::new(format!("there is no view `{name}`"))
            .near(&name, known.iter().copied())
            .remedy(format!(
                "views: {}; more are looked for in {}",
                known.join(", "),
                layers::searched("sandbox", env)
            ))
            .at(place));
    };
    let source = SourceText { name: format!("built-in view {name}"), text: (*text).to_owned() };
    parse(&name, format!("view {name}"), &source, env)
}

/// Checks a view's text.
pub fn parse(name: &str, label: String, source: &SourceText, env: &HostEnv) -> Result<View, ProfileError> {
    let raw: RawView = source.parse()?;
    let mounts = resolve_mounts(&raw.mounts, source, env)?;
    let mut path = Vec::new();
    for entry in raw.path.iter().flatten().filter(|entry| !env.lacks(entry.get_ref())) {
        let dir = env.expand(entry.get_ref()).and_then(|text| {
            if text.contains(':') {
                return Err(Bad::new(format!("`{text}` has a colon, which would split it in PATH"))
                    .remedy("rename it"));
            }
            mounts::mount_path(&text).map(|_| text)
        });
        path.push(dir.map_err(|bad| bad.at(at(source, entry)))?);
    }
    Ok(View { name: name.to_owned(), label, mounts, env: resolve_env(&raw.env, source, env)?, path })
}

/// Checks the mounts of a view or an engine.
pub fn resolve_mounts(
    raw: &[RawMount],
    source: &SourceText,
    env: &HostEnv,
) -> Result<Vec<MountRule>, ProfileError> {
    let mut rules: Vec<MountRule> = Vec::new();
    for mount in raw.iter().filter(|mount| !env.lacks(mount.path.get_ref())) {
        let fail = |bad: Bad| bad.at(at(source, &mount.path));
        let path =
            env.expand(mount.path.get_ref()).and_then(|text| mounts::mount_path(&text)).map_err(fail)?;
        let too_wide = NEVER.iter().any(|never| path.starts_with(never))
            || NEVER_WHOLE.iter().any(|never| path.as_os_str() == *never)
            || env.home().is_some_and(|home| home.starts_with(&path));
        if too_wide {
            return Err(fail(
                Bad::new(format!("a view or engine cannot mount `{}`", path.display()))
                    .remedy("name the files and directories that the toolchain needs, one by one"),
            ));
        }
        if rules.iter().any(|rule| rule.path == path) {
            return Err(fail(
                Bad::new(format!("`{}` is mounted twice", path.display())).remedy("name each path once"),
            ));
        }
        let mode = values::word("mount mode", mount.mode.get_ref(), MODES)
            .map_err(|bad| bad.at(at(source, &mount.mode)))?;
        rules.push(MountRule { path, mode, optional: mount.optional });
    }
    Ok(rules)
}

/// Checks the variables of a view or an engine.
pub fn resolve_env(
    raw: &RawEnv,
    source: &SourceText,
    env: &HostEnv,
) -> Result<BTreeMap<String, String>, ProfileError> {
    let mut out = BTreeMap::new();
    for (name, value) in raw.iter().filter(|(_, value)| !env.lacks(value.get_ref())) {
        let expanded = values::env_name(name)
            .and_then(|()| env.expand(value.get_ref()))
            .and_then(|text| values::env_value(&text).map(|()| text));
        out.insert(name.clone(), expanded.map_err(|bad| bad.at(at(source, value)))?);
    }
    Ok(out)
}

const MODES: &[(&str, MountMode)] = &[
    ("ro", MountMode::Ro),
    ("rw", MountMode::Rw),
    ("overlay", MountMode::Overlay),
    ("private", MountMode::Private),
];

fn at<T>(source: &SourceText, value: &Spanned<T>) -> Place {
    source.place(value.span().start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn env() -> HostEnv {
        HostEnv { vars: [("HOME".into(), "/home/u".into())].into(), system_dir: "/nonexistent".into() }
    }

    fn embedded(name: &str) -> View {
        let (_, text) = EMBEDDED.iter().find(|(n, _)| *n == name).unwrap();
        let source = SourceText { name: name.into(), text: (*text).to_owned() };
        parse(name, name.into(), &source, &env()).unwrap()
    }

    #[test]
    fn every_view_file_is_embedded() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/sandbox");
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".toml", ""))
            .collect();
        files.sort();
        assert_eq!(files, EMBEDDED.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

    #[test]
    fn the_base_view_shows_system_directories_read_only_and_nobodys_files() {
        let base = embedded("base");
        for mount in &base.mounts {
            assert_eq!(mount.mode, MountMode::Ro, "{}", mount.path.display());
            assert!(mount.optional, "{}", mount.path.display());
            for never in ["/home", "/root", "/run", "/var", "/sys", "/proc", "/dev", "/tmp", "/boot", "/srv"]
            {
                assert!(!mount.path.starts_with(never), "{}", mount.path.display());
            }
        }
        assert!(base.mounts.iter().any(|mount| mount.path == Path::new("/usr")));
        // What names users, hosts or secrets is made up inside or not there at all.
        let hidden = [
            "/etc/passwd",
            "/etc/group",
            "/etc/hosts",
            "/etc/resolv.conf",
            "/etc/nsswitch.conf",
            "/etc/shadow",
            "/etc/ssh",
            "/etc/sudoers",
            "/etc/sudoers.d",
            "/etc/machine-id",
            "/etc/ssl/private",
            "/etc/gitconfig",
            "/etc/npmrc",
            "/etc/pip.conf",
            "/etc/environment",
            "/etc/krb5.keytab",
            "/etc/docker",
            "/etc/pki/tls/private",
            "/etc/proctor",
        ];
        for hidden in hidden.map(Path::new) {
            let shown = base.mounts.iter().find(|mount| hidden.starts_with(&mount.path));
            assert!(shown.is_none(), "{} is shown by {:?}", hidden.display(), shown);
        }
    }

    #[test]
    fn no_view_shows_a_credential_file_or_writes_through() {
        let credentials = [
            "/home/u/.cargo/credentials",
            "/home/u/.cargo/credentials.toml",
            "/home/u/.cargo/config.toml",
            "/home/u/.npmrc",
            "/home/u/.netrc",
            "/home/u/.pypirc",
            "/home/u/.config/pip/pip.conf",
            "/home/u/.ssh/id_ed25519",
            "/home/u/.yarnrc.yml",
            "/home/u/.git-credentials",
            "/home/u/.m2/settings.xml",
            "/home/u/.m2/settings-security.xml",
            "/home/u/.gradle/gradle.properties",
            "/home/u/.gradle/init.d/x.gradle",
            "/home/u/.config/go/env",
            "/home/u/.npm/_logs/x",
            "/home/u/.local/share/uv/credentials/x",
            "/home/u/go/src/other/x",
            "/etc/maven/settings.xml",
        ];
        for (name, _) in EMBEDDED {
            let view = embedded(name);
            for mount in view.mounts.iter().filter(|mount| mount.mode != MountMode::Private) {
                assert_ne!(mount.mode, MountMode::Rw, "{name}: {}", mount.path.display());
                for credential in credentials.map(Path::new) {
                    assert!(!credential.starts_with(&mount.path), "{name} shows {}", credential.display());
                }
            }
        }
    }

    #[test]
    fn the_rust_view_follows_the_environment() {
        let rust = embedded("rust");
        assert_eq!(rust.env["CARGO_HOME"], "/home/u/.cargo");
        assert_eq!(rust.path, ["/home/u/.cargo/bin"]);
        let registry =
            rust.mounts.iter().find(|mount| mount.path == Path::new("/home/u/.cargo/registry")).unwrap();
        assert_eq!(registry.mode, MountMode::Overlay);
    }

    #[test]
    fn what_a_view_may_write_is_private_or_an_overlay_and_absent_parts_are_no_error() {
        for (name, _) in EMBEDDED {
            for mount in embedded(name).mounts {
                assert!(
                    mount.optional || mount.mode == MountMode::Private,
                    "{name}: {}",
                    mount.path.display()
                );
            }
        }
    }

    #[test]
    fn entries_whose_variable_is_not_set_are_left_out() {
        let (_, text) = EMBEDDED.iter().find(|(n, _)| *n == "java").unwrap();
        let source = SourceText { name: "java".into(), text: (*text).to_owned() };
        let mut env = env();
        let without = parse("java", "java".into(), &source, &env).unwrap();
        assert!(!without.env.contains_key("JAVA_HOME"), "mvn fails on a JAVA_HOME that leads nowhere");
        env.vars.insert("JAVA_HOME".into(), "/opt/jdk".into());
        let with = parse("java", "java".into(), &source, &env).unwrap();
        assert_eq!(with.env["JAVA_HOME"], "/opt/jdk");
        assert_eq!(with.path[0], "/opt/jdk/bin");
        assert_eq!(with.mounts.len(), without.mounts.len() + 1);
    }

    #[test]
    fn views_that_are_too_wide_are_refused() {
        for path in ["/home", "/home/u", "{home}", "/run/user", "/etc", "/var/run/docker.sock", "/root"] {
            let text = format!("description = \"x\"\n[[mounts]]\npath = \"{path}\"\nmode = \"ro\"\n");
            let source = SourceText { name: "v".into(), text };
            let error = parse("v", "v".into(), &source, &env()).unwrap_err();
            assert!(error.what.starts_with("a view or engine cannot mount"), "{path}: {error}");
        }
    }
}
