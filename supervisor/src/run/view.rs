//! From a run's options to the specification of one sandbox: mounts, made-up files, environment. Decides what a
//! backend, a test or a reviewer sees; mounts nothing itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use proctor_sandbox::spec::{self, InjectedFile, Mount};

use super::identity::INSIDE;
use crate::profile::{MountMode, MountRule, Network};

/// Home inside.
pub const HOME: &str = "/home/agent";
/// Where commands are looked for where nobody said otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Host name inside.
pub const HOSTNAME: &str = "proctor";

/// A mount that cannot be made as it was asked for: exit 2.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// A path that is not there.
    #[error("cannot mount {}: {error}; check the path, or leave the option out", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// An overlay over something that is no directory.
    #[error("cannot mount {} as an overlay: it is no directory; use --ro or --rw for files", path.display())]
    NotDirectory {
        /// Which.
        path: PathBuf,
    },
}

/// The mounts of the private root for these rules, and home, `/tmp` and `/dev/shm`.
///
/// # Errors
/// A path that is not optional cannot be mounted.
pub fn mounts(rules: &[MountRule]) -> Result<Vec<Mount>, ViewError> {
    let mut out = vec![
        Mount::Private { target: "/tmp".into(), mode: 0o1777 },
        Mount::Private { target: "/var/tmp".into(), mode: 0o1777 },
        Mount::Private { target: "/dev/shm".into(), mode: 0o1777 },
        Mount::Private { target: HOME.into(), mode: 0o700 },
    ];
    let plain = |rule: &&MountRule| {
        rule.mode != MountMode::Private && fs::symlink_metadata(&rule.path).is_ok_and(|m| !m.is_symlink())
    };
    // What a link leads to needs no mount of its own where another one shows it, as /usr shows what /bin leads to.
    let mut shown: Vec<PathBuf> = rules.iter().filter(plain).map(|r| r.path.clone()).collect();
    for rule in rules {
        let above = || rules.iter().filter(|r| r.path != rule.path && rule.path.starts_with(&r.path));
        if rule.mode == MountMode::Private {
            // Below what is shown of the host no directory can be made; one that is there already is covered.
            let made = || above().all(|r| r.mode == MountMode::Private);
            let there = || fs::canonicalize(&rule.path).is_ok_and(|real| real == rule.path && real.is_dir());
            if made() || there() {
                out.push(Mount::Private { target: rule.path.clone(), mode: 0o755 });
            }
            continue;
        }
        // A cache that the host lacks can be filled all the same, for as long as the sandbox lives.
        let absent = || {
            let fillable = rule.mode == MountMode::Overlay && above().next().is_none();
            fillable.then(|| Mount::Private { target: rule.path.clone(), mode: 0o755 })
        };
        let meta = match fs::symlink_metadata(&rule.path) {
            Ok(meta) => meta,
            Err(e)
                if rule.optional
                    && matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                out.extend(absent());
                continue;
            }
            Err(error) => {
                return Err(ViewError::Missing { path: rule.path.clone(), error });
            }
        };
        let mut path = rule.path.clone();
        let missing = |error| ViewError::Missing { path: rule.path.clone(), error };
        // The sandbox opens sources without following links, which a backend could have put there by then.
        let real = match fs::canonicalize(&rule.path) {
            Ok(real) => real,
            Err(_) if rule.optional => {
                out.extend(absent());
                continue;
            }
            Err(error) => return Err(missing(error)),
        };
        // Below a read-only mount everything is there already, links included, where it leads to what is shown too;
        // a link of that name could not be made there.
        let nearest = above().max_by_key(|r| r.path.as_os_str().len());
        let inside = nearest.is_some_and(|r| r.mode == MountMode::Ro && shown.contains(&r.path));
        if inside && rule.mode == MountMode::Ro && shown.iter().any(|s| real.starts_with(s)) {
            continue;
        }
        if meta.is_symlink() {
            let to = fs::read_link(&rule.path).map_err(missing)?;
            if !inside {
                out.push(Mount::Symlink { link: rule.path.clone(), to });
            }
            if shown.iter().any(|s| real.starts_with(s)) {
                continue;
            }
            path = real.clone();
        }
        out.push(match rule.mode {
            MountMode::Overlay if !path.is_dir() => return Err(ViewError::NotDirectory { path }),
            MountMode::Overlay => Mount::Overlay { source: real, target: path.clone() },
            mode => Mount::Bind { source: real, target: path.clone(), writable: mode == MountMode::Rw },
        });
        if meta.is_symlink() {
            shown.push(path);
        }
    }
    Ok(out)
}

/// Files that are made up: users, hosts, name service. Nothing of the host's own is in them; with the host's network
/// its resolver is.
pub fn files(network: Network) -> Vec<InjectedFile> {
    let file = |path: &str, content: String| InjectedFile {
        path: path.into(),
        mode: 0o444,
        content: content.into(),
    };
    let mut out = vec![
        file(
            "/etc/passwd",
            format!(
                "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nagent:x:{INSIDE}:{INSIDE}:agent:{HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        file("/etc/group", format!("root:x:0:\nagent:x:{INSIDE}:\nnogroup:x:65534:\n")),
        file("/etc/hosts", format!("127.0.0.1 localhost {HOSTNAME}\n::1 localhost {HOSTNAME}\n")),
        file("/etc/hostname", format!("{HOSTNAME}\n")),
        file(
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n".to_owned(),
        ),
    ];
    if network == Network::Host
        && let Ok(resolver) = fs::read("/etc/resolv.conf")
    {
        out.push(InjectedFile { path: "/etc/resolv.conf".into(), mode: 0o444, content: resolver });
    }
    out
}

/// The environment: built from nothing, then what the operator and the engine said, in this order.
pub fn environment(
    layers: &[&BTreeMap<String, String>],
    also: &[(String, String)],
) -> Vec<(OsString, OsString)> {
    let mut env: BTreeMap<String, String> = [
        ("PATH", PATH),
        ("HOME", HOME),
        ("USER", "agent"),
        ("LOGNAME", "agent"),
        ("SHELL", "/bin/sh"),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        ("TMPDIR", "/tmp"),
        ("NO_COLOR", "1"),
        ("PROCTOR", "1"),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect();
    for layer in layers {
        env.extend(layer.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    env.extend(also.iter().cloned());
    env.into_iter().map(|(k, v)| (k.into(), v.into())).collect()
}

/// The sandbox's word for a network.
pub fn network(network: Network) -> spec::Network {
    match network {
        Network::None => spec::Network::None,
        Network::Host => spec::Network::Host,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn ro(path: &Path, optional: bool) -> MountRule {
        MountRule { path: path.to_owned(), mode: MountMode::Ro, optional }
    }

    #[test]
    fn a_missing_path_is_an_error_unless_it_is_optional() {
        let path = Path::new("/nonexistent/dir");
        assert_eq!(mounts(&[ro(path, true)]).unwrap().len(), 4);
        let error = mounts(&[ro(path, false)]).unwrap_err().to_string();
        assert!(
            error.contains("cannot mount /nonexistent/dir") && error.contains("check the path"),
            "{error}"
        );
    }

    #[test]
    fn a_link_is_a_link_inside_and_its_target_is_shown_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
        let made = mounts(&[ro(&root.join("usr"), false), ro(&root.join("bin"), false)]).unwrap();
        assert_eq!(made.len(), 6);
        assert!(matches!(&made[5], Mount::Symlink { to, .. } if to == Path::new("usr/bin")));
        let alone = mounts(&[ro(&root.join("bin"), false)]).unwrap();
        assert!(matches!(&alone[5], Mount::Bind { source, .. } if *source == root.join("usr/bin")));
    }

    #[test]
    fn what_a_read_only_mount_shows_already_is_not_mounted_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("jvm/jdk-1/bin")).unwrap();
        fs::create_dir(root.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("jdk-1", root.join("jvm/default")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", root.join("jvm/other")).unwrap();
        let jvm = ro(&root.join("jvm"), false);
        let of = |path: &str| mounts(&[jvm.clone(), ro(&root.join(path), false)]).unwrap().split_off(5);
        assert_eq!(of("jvm/default"), [], "a link in a mounted directory");
        assert_eq!(of("jvm/default/bin"), [], "a path through such a link");
        let elsewhere = root.join("elsewhere");
        let expected = Mount::Bind { source: elsewhere.clone(), target: elsewhere, writable: false };
        assert_eq!(of("jvm/other"), [expected], "what such a link leads to");
        let rw = MountRule { mode: MountMode::Rw, ..jvm.clone() };
        let inner = ro(&root.join("jvm/jdk-1"), false);
        assert_eq!(mounts(&[rw, inner]).unwrap().len(), 6, "a read-only part of what is writable");
    }

    #[test]
    fn private_directories_need_nothing_on_the_host_and_take_the_place_of_absent_caches() {
        let path = PathBuf::from("/nonexistent/cache");
        let rule = |mode, optional| MountRule { path: path.clone(), mode, optional };
        let private = Mount::Private { target: path.clone(), mode: 0o755 };
        assert_eq!(mounts(&[rule(MountMode::Private, false)]).unwrap().last(), Some(&private));
        assert_eq!(mounts(&[rule(MountMode::Overlay, true)]).unwrap()[4..], [private]);
        assert!(mounts(&[rule(MountMode::Overlay, false)]).is_err());
        let home = MountRule { path: "/nonexistent".into(), mode: MountMode::Private, optional: false };
        assert_eq!(mounts(&[home, rule(MountMode::Overlay, true)]).unwrap().len(), 5, "writable already");
    }

    #[test]
    fn no_directory_is_made_below_what_is_shown_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        fs::create_dir(home.join("there")).unwrap();
        std::os::unix::fs::symlink("there", home.join("link")).unwrap();
        for mode in [MountMode::Ro, MountMode::Rw, MountMode::Overlay] {
            let shown = MountRule { path: home.clone(), mode, optional: false };
            let below = |name: &str, mode| MountRule { path: home.join(name), mode, optional: true };
            let of = |rule| mounts(&[shown.clone(), rule]).unwrap().split_off(5);
            assert_eq!(of(below("absent", MountMode::Overlay)), [], "{mode:?}");
            assert_eq!(of(below("absent", MountMode::Private)), [], "{mode:?}");
            assert_eq!(of(below("link", MountMode::Private)), [], "{mode:?}");
            let covered = Mount::Private { target: home.join("there"), mode: 0o755 };
            assert_eq!(of(below("there", MountMode::Private)), [covered], "{mode:?}");
        }
    }
}
