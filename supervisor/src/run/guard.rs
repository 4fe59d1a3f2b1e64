//! What a mount must not show though it is below it: credentials that are known by name, and sockets, which lead out
//! of any sandbox. Both are masked. Looks at the host's files before anything starts; mounts nothing itself.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use proctor_sandbox::spec::Mount;

use crate::profile::{CREDENTIAL_FILES, CREDENTIAL_PATHS};

/// Directories and files below a home directory that hold credentials, beside those of
/// [`CREDENTIAL_FILES`] and [`CREDENTIAL_PATHS`]: masked wherever a mount would show them.
const CREDENTIALS: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".config/gcloud",
    ".config/gh",
    ".kube",
    ".local/share/keyrings",
    ".local/share/uv/credentials",
    ".password-store",
    ".terraform.d/credentials.tfrc.json",
    ".claude/.credentials.json",
    ".codex/auth.json",
    ".pi/agent/auth.json",
];
/// Files beside the system's programs that can hold tokens of registries.
const CREDENTIALS_OF_SYSTEM: &[&str] = &["/usr/etc/npmrc", "/usr/local/etc/npmrc", "/usr/local/etc/pip.conf"];
/// The same below a tool's own directory (`~/.cargo` mounted alone).
const CREDENTIALS_OF_TOOLS: &[&str] = &[
    "credentials",
    "credentials.toml",
    "auth.json",
    ".credentials.json",
    ".npmrc",
    ".netrc",
    "settings.xml",
    "settings-security.xml",
    "gradle.properties",
];
/// Directories of programs and libraries: large, and no place for sockets.
const SYSTEM: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/nix", "/gnu"];
/// How deep, and at how many entries of one mount, sockets are looked for; deeper ones are known from the kernel's
/// table, where they are of this network namespace.
const DEPTH: usize = 4;
const ENTRIES: usize = 20_000;
/// More sockets than this below the mounts of one run are no accident.
const MAX_SOCKETS: usize = 64;

/// A mount that cannot be shown safely: exit 2.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// A socket named as a mount.
    #[error("cannot mount {}: it is a socket, and who answers on it is outside of the sandbox; leave the option out", .0.display())]
    Socket(PathBuf),
    /// Too many to mask.
    #[error("cannot mount {}: there are more than {MAX_SOCKETS} sockets below it; mount something narrower", .0.display())]
    Sockets(PathBuf),
    /// The host cannot be looked at.
    #[error("cannot look for sockets below the mount {}: {error}; mount something narrower", path.display())]
    Look {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Masks for what these mounts would show and must not: below `home`, and the `named` files that variables lead to.
///
/// # Errors
/// See [`GuardError`].
pub fn masks(mounts: &[Mount], home: Option<&Path>, named: &[PathBuf]) -> Result<Vec<Mount>, GuardError> {
    let bound = bound_sockets();
    // Links count by what they lead to: a mask on the link's name would leave the file itself open.
    let home = home.and_then(|home| fs::canonicalize(home).ok());
    let known: Vec<PathBuf> = home
        .iter()
        .flat_map(|home| {
            let lists = [CREDENTIALS, CREDENTIAL_FILES, CREDENTIAL_PATHS];
            lists.into_iter().flatten().map(move |name| home.join(name))
        })
        .chain(CREDENTIALS_OF_SYSTEM.iter().map(PathBuf::from))
        .chain(named.iter().cloned())
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect();
    let mut targets = BTreeSet::new();
    for mount in mounts {
        let (source, target, overlay) = match mount {
            Mount::Bind { source, target, .. } => (source, target, false),
            Mount::Overlay { source, target } => (source, target, true),
            _ => continue,
        };
        let kind = fs::metadata(source).map_err(|error| GuardError::Look { path: target.clone(), error })?;
        if kind.file_type().is_socket() {
            return Err(GuardError::Socket(target.clone()));
        }
        if !kind.is_dir() {
            continue;
        }
        targets
            .extend(credentials(source, home.as_deref(), &known).into_iter().map(|below| target.join(below)));
        // An overlay's socket is another inode than the one that is listened on: it answers nobody.
        if !overlay && !SYSTEM.iter().any(|system| source.starts_with(system)) {
            let found = sockets(source, &bound, target)?;
            targets.extend(found.into_iter().map(|below| target.join(below)));
        }
    }
    Ok(targets.into_iter().map(|target| Mount::Mask { target }).collect())
}

/// Paths below `source` that hold credentials: those of `known` (what the home's lead to) and those of a tool's own
/// directory.
fn credentials(source: &Path, home: Option<&Path>, known: &[PathBuf]) -> Vec<PathBuf> {
    let mut real = known.to_vec();
    if home.is_some_and(|home| source.starts_with(home) && source != home) {
        real.extend(CREDENTIALS_OF_TOOLS.iter().filter_map(|name| fs::canonicalize(source.join(name)).ok()));
    }
    real.iter()
        .filter_map(|path| path.strip_prefix(source).ok())
        .filter(|below| !below.as_os_str().is_empty())
        .map(Path::to_owned)
        .collect()
}

/// Paths of sockets that are bound in this network namespace (proc(5), /proc/net/unix). A table that cannot be read
/// names none: the walk stands beside it.
fn bound_sockets() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7))
        .filter(|path| path.starts_with('/'))
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect()
}

/// All mount points (proc(5), mountinfo): a recursive bind shows those below it too.
///
/// # Errors
/// The table cannot be read.
pub fn mount_points() -> io::Result<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStringExt;
    let table = fs::read("/proc/self/mountinfo")?;
    let points = table
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|point| PathBuf::from(std::ffi::OsString::from_vec(unescape(point))));
    Ok(points.collect())
}

/// Blank, tab, newline and backslash are three octal digits behind a backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match (first, code) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn sockets(source: &Path, bound: &[PathBuf], target: &Path) -> Result<BTreeSet<PathBuf>, GuardError> {
    let mut found: BTreeSet<PathBuf> =
        bound.iter().filter_map(|path| path.strip_prefix(source).ok().map(Path::to_owned)).collect();
    let mut left = ENTRIES;
    let mut level = vec![PathBuf::new()];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for dir in level {
            let entries = match fs::read_dir(source.join(&dir)) {
                Ok(entries) => entries,
                // What this user cannot list: the backend, who is no more than this user, cannot either. It may still
                // know a name, and then the kernel's table does too.
                Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => {
                    continue;
                }
                Err(error) => return Err(GuardError::Look { path: target.to_owned(), error }),
            };
            for entry in entries.flatten() {
                left = left.saturating_sub(1);
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_socket() {
                    found.insert(dir.join(entry.file_name()));
                } else if kind.is_dir() {
                    next.push(dir.join(entry.file_name()));
                }
            }
            if left == 0 {
                next.clear();
                break;
            }
        }
        level = next;
    }
    if found.len() > MAX_SOCKETS {
        return Err(GuardError::Sockets(target.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn bind(path: &Path) -> Mount {
        Mount::Bind { source: path.to_owned(), target: path.to_owned(), writable: false }
    }

    fn masked(mounts: &[Mount], home: &Path) -> Vec<PathBuf> {
        masks(mounts, Some(home), &[])
            .unwrap()
            .into_iter()
            .map(|mask| match mask {
                Mount::Mask { target } => target,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn dir() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        (dir, path)
    }

    #[test]
    fn credentials_below_a_mount_are_masked() {
        let (_dir, home) = dir();
        fs::create_dir_all(home.join(".ssh")).unwrap();
        fs::create_dir_all(home.join(".cargo")).unwrap();
        fs::write(home.join(".cargo/credentials.toml"), "token").unwrap();
        assert_eq!(masked(&[bind(&home)], &home), [home.join(".cargo/credentials.toml"), home.join(".ssh")]);
        assert_eq!(masked(&[bind(&home.join(".cargo"))], &home), [home.join(".cargo/credentials.toml")]);
    }

    #[test]
    fn credentials_of_build_tools_are_masked_wherever_their_variables_lead() {
        let (_dir, root) = dir();
        let (home, cargo) = (root.join("home"), root.join("opt/cargo"));
        let files = [".gradle/gradle.properties", ".m2/settings.xml", ".config/pip/pip.conf", ".yarnrc"];
        for file in files {
            fs::create_dir_all(home.join(file).parent().unwrap()).unwrap();
            fs::write(home.join(file), "token").unwrap();
        }
        let mut expected: Vec<PathBuf> = files.iter().map(|file| home.join(file)).collect();
        expected.sort();
        assert_eq!(masked(&[bind(&home)], &home), expected);
        assert_eq!(masked(&[bind(&home.join(".m2"))], &home), [home.join(".m2/settings.xml")]);
        fs::create_dir_all(&cargo).unwrap();
        let token = cargo.join("credentials.toml");
        fs::write(&token, "token").unwrap();
        let named = masks(&[bind(&cargo)], Some(&home), std::slice::from_ref(&token)).unwrap();
        assert_eq!(named, [Mount::Mask { target: token }]);
    }

    #[test]
    fn links_to_credentials_hide_what_they_lead_to() {
        let (_dir, root) = dir();
        let home = root.join("real");
        fs::create_dir_all(home.join("dotfiles/config/gh")).unwrap();
        fs::write(home.join("dotfiles/npmrc"), "token").unwrap();
        symlink("dotfiles/npmrc", home.join(".npmrc")).unwrap();
        symlink("dotfiles/config", home.join(".config")).unwrap();
        symlink(&home, root.join("home")).unwrap();
        let expected = [home.join("dotfiles/config/gh"), home.join("dotfiles/npmrc")];
        assert_eq!(masked(&[bind(&home)], &home), expected);
        assert_eq!(masked(&[bind(&home)], &root.join("home")), expected, "a home that is a link");
        let elsewhere = Mount::Bind { source: home, target: root.join("home"), writable: false };
        let shown = root.join("home");
        assert_eq!(
            masked(&[elsewhere], &shown),
            [shown.join("dotfiles/config/gh"), shown.join("dotfiles/npmrc")],
            "shown under another name"
        );
    }

    #[test]
    fn mount_points_are_read_from_the_table() {
        assert_eq!(unescape(br"/a\040b\134c\x"), br"/a b\c\x");
        assert!(mount_points().unwrap().contains(&PathBuf::from("/proc")));
    }

    #[test]
    fn sockets_below_a_mount_are_masked_and_alone_refused() {
        let (_dir, root) = dir();
        fs::create_dir_all(root.join("a/b/c/d/e/f")).unwrap();
        let near = root.join("a/near.sock");
        let deep = root.join("a/b/c/d/e/f/deep.sock");
        drop(UnixListener::bind(&near).unwrap());
        let _deep = UnixListener::bind(&deep).unwrap();
        assert_eq!(masked(&[bind(&root)], Path::new("/nonexistent")), [deep, near.clone()]);
        let error = masks(&[bind(&near)], None, &[]).unwrap_err().to_string();
        assert!(error.contains("it is a socket") && error.contains("leave the option out"), "{error}");
        for i in 0..=MAX_SOCKETS {
            drop(UnixListener::bind(root.join(format!("s{i}"))).unwrap());
        }
        let error = masks(&[bind(&root)], None, &[]).unwrap_err().to_string();
        assert!(error.contains("more than 64 sockets") && error.contains("something narrower"), "{error}");
        let error = masks(&[bind(&root.join("gone"))], None, &[]).unwrap_err().to_string();
        assert!(error.contains("cannot look for sockets below the mount"), "{error}");
    }
}
