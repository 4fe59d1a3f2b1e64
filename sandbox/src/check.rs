//! What can be refused before any system call: contradictions in a specification.

use std::path::{Component, Path};

use crate::error::LaunchError;
use crate::spec::{Level, Mount, SandboxSpec};

/// Mounts of a view; the sandbox's own (devices, home of its own making) come on top.
const MAX_MOUNTS: usize = 240;

fn plain(what: &str, path: &Path) -> Result<(), LaunchError> {
    let ok = path.is_absolute()
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if ok {
        Ok(())
    } else {
        Err(LaunchError::Spec(format!("{what} {} is not a plain absolute path", path.display())))
    }
}

/// What level `landlock` cannot do: the caller must leave it out, and say so.
fn check_confined(spec: &SandboxSpec) -> Result<(), LaunchError> {
    let refuse = |text: String| Err(LaunchError::Spec(format!("level landlock mounts nothing: {text}")));
    for mount in &spec.view {
        match mount {
            Mount::Bind { source, target, .. } if source != target => {
                return refuse(format!("{} cannot be shown at {}", source.display(), target.display()));
            }
            Mount::Overlay { target, .. } => return refuse(format!("no overlay at {}", target.display())),
            Mount::Symlink { link, .. } => return refuse(format!("no link at {}", link.display())),
            Mount::Bind { .. } | Mount::Private { .. } | Mount::Mask { .. } => {}
        }
    }
    // Landlock adds rights up: what a directory allows cannot be taken back beneath it.
    let writable: Vec<&Path> = spec
        .view
        .iter()
        .filter_map(|mount| match mount {
            Mount::Bind { source: own, writable: true, .. } | Mount::Private { target: own, .. } => {
                Some(own.as_path())
            }
            _ => None,
        })
        .chain(spec.tree.iter().filter(|tree| tree.writable).map(|tree| tree.path.as_path()))
        .collect();
    for mount in &spec.view {
        if let Mount::Bind { source, writable: false, .. } = mount
            && let Some(above) = writable.iter().find(|above| source.starts_with(above))
        {
            return refuse(format!(
                "{} cannot be read-only beneath {}, which is writable; show one of them elsewhere",
                source.display(),
                above.display()
            ));
        }
    }
    if let Some(file) = spec.files.first() {
        return refuse(format!("no file at {}", file.path.display()));
    }
    if spec.tree.as_ref().is_some_and(|tree| !tree.hidden.is_empty()) {
        return refuse("hidden paths must be left out of the copy".into());
    }
    Ok(())
}

/// Checks a specification for itself.
///
/// # Errors
/// [`LaunchError::Spec`] names the first contradiction.
pub(crate) fn check(spec: &SandboxSpec) -> Result<(), LaunchError> {
    let refuse = |text: String| Err(LaunchError::Spec(text));
    if spec.identity.inside_uid == 0 || spec.identity.inside_gid == 0 {
        return refuse(
            "the inside uid and gid must not be 0: root inside keeps every namespace capability".into(),
        );
    }
    if spec.identity.host_uid == 0 || spec.identity.host_gid == 0 {
        return refuse("the host uid and gid must not be 0".into());
    }
    if spec.limits.disk == 0
        || spec.limits.inodes == 0
        || spec.limits.tasks == 0
        || spec.limits.open_files < 8
    {
        return refuse("disk, inodes and tasks must be at least 1, open files at least 8".into());
    }
    if spec.hostname.is_empty() || spec.hostname.len() > 63 {
        return refuse("the host name must have 1 to 63 bytes".into());
    }
    if spec.view.len() > MAX_MOUNTS {
        return refuse(format!(
            "{} mounts are more than the {MAX_MOUNTS} that a sandbox takes",
            spec.view.len()
        ));
    }
    for mount in &spec.view {
        match mount {
            Mount::Bind { source, target, .. } | Mount::Overlay { source, target } => {
                plain("mount source", source)?;
                plain("mount target", target)?;
            }
            Mount::Private { target, .. } | Mount::Mask { target } => plain("mount target", target)?,
            Mount::Symlink { link, .. } => plain("symbolic link", link)?,
        }
        let target = match mount {
            Mount::Bind { target, .. }
            | Mount::Overlay { target, .. }
            | Mount::Private { target, .. }
            | Mount::Mask { target } => target,
            Mount::Symlink { link, .. } => link,
        };
        if target == Path::new("/") || (target.starts_with("/dev") && target != Path::new("/dev/shm")) {
            return refuse(format!("{} is not to be mounted over", target.display()));
        }
        let inside_proc = target.starts_with("/proc") && !matches!(mount, Mount::Mask { .. });
        if inside_proc {
            return refuse(format!("{} is below /proc, which is the sandbox's own", target.display()));
        }
    }
    if spec.level == Level::Landlock {
        check_confined(spec)?;
    }
    for file in &spec.files {
        plain("injected file", &file.path)?;
        for mount in &spec.view {
            if let Mount::Bind { target, writable: true, .. } = mount
                && file.path.starts_with(target)
            {
                return refuse(format!(
                    "the file {} is below the writable mount {}: it would be written on the host",
                    file.path.display(),
                    target.display()
                ));
            }
        }
    }
    if let Some(tree) = &spec.tree {
        plain("work tree", &tree.path)?;
        if tree.path == Path::new("/") {
            return refuse("the work tree cannot be the root directory".into());
        }
        for hidden in &tree.hidden {
            if hidden.as_os_str().is_empty()
                || !hidden.components().all(|c| matches!(c, Component::Normal(_)))
            {
                return refuse(format!("hidden path {} is not plain and relative", hidden.display()));
            }
        }
    }
    if let Some(program) = &spec.program {
        plain("working directory", &program.cwd)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Identity, Limits, Network, Store};

    fn spec() -> SandboxSpec {
        SandboxSpec {
            level: Level::Full,
            program: None,
            identity: Identity { inside_uid: 1000, inside_gid: 1000, host_uid: 1000, host_gid: 1000 },
            view: vec![],
            files: vec![],
            tree: None,
            network: Network::None,
            hostname: "box".into(),
            watched: false,
            watch_paths: false,
            log_denials: false,
            limits: Limits { disk: 1 << 20, inodes: 1000, tasks: 10, open_files: 64, file_size: None },
            store: Store::Memory,
        }
    }

    #[test]
    fn refuses_root_and_mounts_over_its_own_places() {
        assert!(check(&spec()).is_ok());
        let mut s = spec();
        s.identity.host_uid = 0;
        assert!(check(&s).unwrap_err().to_string().contains("host uid and gid must not be 0"));
        for target in ["/", "/dev", "/dev/null", "/proc/sys"] {
            let mut s = spec();
            s.view.push(Mount::Private { target: target.into(), mode: 0o755 });
            assert!(check(&s).is_err(), "{target}");
        }
        let mut s = spec();
        s.level = Level::Landlock;
        let bind = |path: &str, writable| Mount::Bind { source: path.into(), target: path.into(), writable };
        s.view =
            vec![bind("/data", true), bind("/database", false), bind("/usr", false), bind("/usr/src", true)];
        assert!(check(&s).is_ok());
        for read_only in ["/data", "/data/kept"] {
            let mut s = s.clone();
            s.view.push(bind(read_only, false));
            let said = check(&s).unwrap_err().to_string();
            assert!(said.contains("cannot be read-only beneath /data, which is writable"), "{said}");
            s.level = Level::Full;
            assert!(check(&s).is_ok());
        }
        let mut s = spec();
        s.view.push(Mount::Bind { source: "/usr/../etc".into(), target: "/etc".into(), writable: false });
        assert!(check(&s).unwrap_err().to_string().contains("not a plain absolute path"));
    }
}
