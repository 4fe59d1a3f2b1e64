//! Level `landlock`: what would be mounted at level `full` is prepared as directories, and the specification is rewritten
//! to where things are. Says what the level cannot promise; decides nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proctor_sandbox::error::LaunchError;
use proctor_sandbox::seed::Seed;
use proctor_sandbox::spec::{Level, Mount, SandboxSpec, Tree};

use super::area::Area;
use super::plan::Plan;
use crate::changes::copy::{self, CopyOptions, Manifest};
use crate::changes::gitview::{GitView, git_view_with};

/// The copy of the work tree that one sandbox has, and what it was at the start.
#[derive(Debug)]
pub struct Copied {
    /// Its top.
    pub tree: OwnedFd,
    /// What was in it.
    pub manifest: Manifest,
    /// The view of the repository that was put into it.
    pub git: GitView,
    /// Where it is, with home and temporary files; removed when this is dropped.
    pub area: Area,
}

/// A specification for level `landlock`.
pub struct Confined {
    /// It.
    pub spec: SandboxSpec,
    /// The copy it is about.
    pub copied: Arc<Copied>,
    /// What is lost, beside what is always lost.
    pub missing: Vec<String>,
}

/// What level `landlock` never has, in words for reports. `docs/threat-model.md` has the same list.
pub const NEVER: &[&str] = &[
    "own view of processes: those of the host are seen in /proc with their arguments, state, limits, mounts and numbers of open descriptors (not their memory, environment, or what descriptors and links lead to), and are out of reach of signals and tracing",
    "pid namespace: the processes are ended by their init and not by the kernel with it; a set of processes that was not seen to be empty fails the run, and what an init that is killed from outside leaves behind lives on",
    "other namespaces: the program is in the host's own; what they would keep in is refused call by call",
    "private root: what a path of the host is (stat, readlink, access, chdir, and by an error whether it is there) can be looked up everywhere; what is in it cannot be read or listed but where it is shown",
    "private /tmp, /var/tmp and /dev/shm: the host's cannot be read or written; TMPDIR names a private directory",
    "private /proc: its kernel files, and the host's tables of connections and sockets, are as readable as the host has them",
    "own host name and users: the host's are seen",
    "own work tree path: the backend works on a copy at another path, and what is shown stands where the host has it",
    "loopback network: there is none of the sandbox's own",
    "read-only mounts: reading what is shown can change its access time",
    "calls that level full has room for: System V IPC, inotify, extended attributes, inode flags, datagram socket pairs, limits and priorities of another process are refused",
    "disk limit: the size of one file is limited; the copy, the home and the temporary files together are watched, which is not enforcement",
];

fn launcher(what: &str, e: impl std::fmt::Display) -> LaunchError {
    LaunchError::Launcher(format!("level landlock: {what}: {e}"))
}

/// Prepares the directories of one sandbox and rewrites `full` to them; ends early once `stop` is set.
///
/// # Errors
/// Nothing is left behind.
pub fn confine(
    plan: &Plan,
    full: SandboxSpec,
    run_id: &str,
    (role, tree_seed): (&str, &Seed),
    stop: &AtomicBool,
) -> Result<Confined, LaunchError> {
    let identity = full.identity;
    let owner = (identity.host_uid, identity.host_gid);
    let area =
        Area::new(&plan.dirs, run_id, role, owner).map_err(|e| launcher("its private directory", e))?;
    let made = |e: std::io::Error| launcher("its private directories", e);
    let mut missing = Vec::new();
    let mut moved = Moved::default();
    let mut view = Vec::new();

    let (home, _) = area.directory("home").map_err(made)?;
    let (temporary, _) = area.directory("tmp").map_err(made)?;
    for mount in &full.view {
        match mount {
            Mount::Private { target, .. } => {
                let to = if target == Path::new(super::view::HOME) { &home } else { &temporary };
                // A tool's directory, parts of which are shown, stays where they are: its parts are what it is for.
                let stays = has_parts(target, &full.view);
                moved.add(target, if stays { target } else { to });
                // What it covers of a mount before it is not shown.
                view.push(Mount::Mask { target: target.clone() });
            }
            Mount::Bind { source, target, writable } => {
                // Also where it is the same: something above may have been moved.
                moved.add(target, source);
                let (source, target) = (source.clone(), source.clone());
                view.push(Mount::Bind { source, target, writable: *writable });
            }
            Mount::Overlay { source, target } => {
                missing.push(format!(
                    "overlay {}: it is shown read-only, because nothing can be written privately over it",
                    target.display()
                ));
                moved.add(target, source);
                view.push(Mount::Bind { source: source.clone(), target: source.clone(), writable: false });
            }
            // By the name that its content has on the host, which is the only one here.
            Mount::Mask { target } => view.push(Mount::Mask { target: moved.path(target) }),
            // What it leads to is shown where it is.
            Mount::Symlink { .. } => {}
        }
    }
    // Behind every mask: they may lie below what one of them covers.
    for own in [&home, &temporary] {
        view.push(Mount::Private { target: own.clone(), mode: 0o700 });
    }
    for file in ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf"] {
        if Path::new(file).is_file() {
            view.push(Mount::Bind { source: file.into(), target: file.into(), writable: false });
        }
    }
    files(&full, &area, &mut moved, &mut view)?;
    if area.owner().is_some() {
        missing.extend(closed(&view));
    }
    missing.extend(view.iter().filter_map(|mount| match mount {
        Mount::Mask { target } if is_shown(target, &view) => Some(around(target)),
        _ => None,
    }));

    let (tree, copied) = copy_tree(plan, &full, area, (tree_seed, stop), &mut moved)?;
    for dir in &copied.git.object_dirs {
        view.push(Mount::Bind { source: dir.clone(), target: dir.clone(), writable: false });
    }
    let view = once(view);
    let program = full.program.map(|mut program| {
        for argument in &mut program.argv {
            *argument = moved.text(argument);
        }
        for (_, value) in &mut program.env {
            *value = moved.text(value);
        }
        program.cwd = moved.path(&program.cwd);
        program
    });
    let spec =
        SandboxSpec { level: Level::Landlock, program, view, files: Vec::new(), tree: Some(tree), ..full };
    Ok(Confined { spec, copied: Arc::new(copied), missing })
}

/// Whether something of the host is shown beneath a private directory that is neither home nor for temporary files.
fn has_parts(private: &Path, view: &[Mount]) -> bool {
    let ours = [super::view::HOME, "/tmp", "/var/tmp", "/dev/shm"];
    !ours.iter().any(|own| private == Path::new(own))
        && view.iter().any(|mount| match mount {
            Mount::Bind { target, .. } | Mount::Overlay { target, .. } => target.starts_with(private),
            _ => false,
        })
}

/// What a mask costs: Landlock cannot deny below what it allows.
fn around(mask: &Path) -> String {
    let listed = if proctor_sandbox::spec::masks_a_directory(mask) {
        "cannot be listed, and"
    } else {
        "can be listed, but"
    };
    format!(
        "mount around {}: the directories that it is in {listed} what is made in them after the start is not shown",
        mask.display()
    )
}

fn is_shown(path: &Path, view: &[Mount]) -> bool {
    view.iter().any(|mount| matches!(mount, Mount::Bind { source, .. } if path.starts_with(source)))
}

/// A path that is shown twice is shown once, in the way that was said last, as a mount over another would be.
fn once(view: Vec<Mount>) -> Vec<Mount> {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Mount> = view
        .into_iter()
        .rev()
        .filter(|mount| match mount {
            Mount::Bind { source, .. } => seen.insert(source.clone()),
            _ => true,
        })
        .collect();
    kept.reverse();
    kept
}

/// Files that the caller provides; those that stand for the host's own (users, hosts) have no place here.
fn files(
    full: &SandboxSpec,
    area: &Area,
    moved: &mut Moved,
    view: &mut Vec<Mount>,
) -> Result<(), LaunchError> {
    for (number, file) in full.files.iter().filter(|file| !file.path.starts_with("/etc")).enumerate() {
        let at = area
            .file(&format!("file-{number}"), file.mode, &file.content)
            .map_err(|e| launcher("a file for the sandbox", e))?;
        moved.add(&file.path, &at);
        view.push(Mount::Bind { source: at.clone(), target: at, writable: false });
    }
    Ok(())
}

/// What is shown and only root could read: the sandbox's uid is nobody's, and nothing can be idmapped here.
fn closed(view: &[Mount]) -> Vec<String> {
    let open = |path: &Path| {
        let own = path.symlink_metadata().is_ok_and(|meta| {
            let needed = if meta.is_dir() { 0o005 } else { 0o004 };
            meta.mode() & needed == needed
        });
        own && path.ancestors().skip(1).all(|dir| dir.metadata().is_ok_and(|meta| meta.mode() & 0o001 != 0))
    };
    let binds = view.iter().filter_map(|mount| match mount {
        Mount::Bind { source, writable, .. } => Some((source, *writable)),
        _ => None,
    });
    binds
        .filter(|(source, _)| !open(source))
        .map(|(source, _)| {
            format!(
                "mount {}: the sandbox's uid cannot read it, and nothing can be idmapped",
                source.display()
            )
        })
        .collect()
}

fn copy_tree(
    plan: &Plan,
    full: &SandboxSpec,
    area: Area,
    (tree_seed, stop): (&Seed, &AtomicBool),
    moved: &mut Moved,
) -> Result<(Tree, Copied), LaunchError> {
    let Some(was) = &full.tree else {
        return Err(LaunchError::Launcher("level landlock: no work tree".into()));
    };
    let owner = area.owner();
    let (parent, _) = area.directory("tree").map_err(|e| launcher("its copy", e))?;
    let name = was.path.file_name().and_then(OsStr::to_str).filter(|name| !name.is_empty()).unwrap_or("work");
    let (path, top) = area.directory(&format!("tree/{name}")).map_err(|e| launcher("its copy", e))?;
    drop(parent);
    moved.add(&was.path, &path);
    let hidden: BTreeSet<Vec<u8>> =
        was.hidden.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
    let options = CopyOptions { hidden: &hidden, owner, max_bytes: full.limits.disk, stop };
    copy::make(plan.repo.root_fd(), top.as_fd(), &options).map_err(|e| launcher("its copy", e))?;
    let objects = objects(plan, &area, stop)?;
    let git = git_view_with(&plan.repo, &objects).map_err(|e| launcher("its view of the repository", e))?;
    for (what, seed) in [("its view of the repository", &git.seed), ("its copy", tree_seed)] {
        seed.apply(top.as_fd(), owner).map_err(|e| launcher(what, e))?;
    }
    let manifest = copy::take_manifest(top.as_fd()).map_err(|e| launcher("its copy", e))?;
    let meta = std::fs::File::from(top.try_clone().map_err(|e| launcher("its copy", e))?)
        .metadata()
        .map_err(|e| launcher("its copy", e))?;
    let tree = Tree {
        path,
        dev: meta.dev(),
        ino: meta.ino(),
        uid: meta.uid(),
        gid: meta.gid(),
        writable: was.writable,
        hidden: Vec::new(),
    };
    Ok((tree, Copied { tree: top, manifest, git, area }))
}

/// Where the objects are for the sandbox: where they lie, or, where its uid could not read them, a copy.
fn objects(plan: &Plan, area: &Area, stop: &AtomicBool) -> Result<Vec<PathBuf>, LaunchError> {
    let mut found = Vec::new();
    for (number, dir) in plan.repo.object_dirs().iter().enumerate() {
        let bind = Mount::Bind { source: dir.clone(), target: dir.clone(), writable: false };
        if area.owner().is_none() || closed(&[bind]).is_empty() {
            found.push(dir.clone());
            continue;
        }
        let (path, to) = area
            .directory(&format!("objects-{number}"))
            .map_err(|e| launcher("its copy of the objects", e))?;
        let from = std::fs::File::open(dir).map_err(|e| launcher("its copy of the objects", e))?;
        let options =
            CopyOptions { hidden: &BTreeSet::new(), owner: area.owner(), max_bytes: u64::MAX, stop };
        copy::make(from.as_fd(), to.as_fd(), &options).map_err(|e| launcher("its copy of the objects", e))?;
        found.push(path);
    }
    Ok(found)
}

/// Where things are that would be mounted elsewhere.
#[derive(Debug, Default)]
struct Moved(BTreeMap<PathBuf, PathBuf>);

impl Moved {
    fn add(&mut self, from: &Path, to: &Path) {
        self.0.insert(from.to_owned(), to.to_owned());
    }

    /// The path, or where what it names is now.
    fn path(&self, path: &Path) -> PathBuf {
        for above in path.ancestors() {
            if let Some(to) = self.0.get(above) {
                return path.strip_prefix(above).map_or_else(
                    |_| to.clone(),
                    |rest| {
                        if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) }
                    },
                );
            }
        }
        path.to_owned()
    }

    /// An argument, or the value of a variable: a path, or a list of paths with colons between them.
    fn text(&self, text: &OsStr) -> OsString {
        let parts: Vec<Vec<u8>> = text
            .as_bytes()
            .split(|b| *b == b':')
            .map(|part| {
                if part.starts_with(b"/") {
                    self.path(Path::new(OsStr::from_bytes(part))).into_os_string().into_vec()
                } else {
                    part.to_vec()
                }
            })
            .collect();
        OsString::from_vec(parts.join(&b':'))
    }
}

/// What an ordinary user's sandbox lacks beside [`NEVER`].
pub fn also_missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("second wall around the caller's files: the program has the caller's own user id, and Landlock alone keeps it from them".to_owned());
        missing.push("empty bounding set and locked securebits: an ordinary user cannot have them; no_new_privs makes them ineffective".to_owned());
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_what_was_moved() {
        let mut moved = Moved::default();
        moved.add(Path::new("/home/agent"), Path::new("/areas/1/home"));
        moved.add(Path::new("/repo"), Path::new("/areas/1/tree/repo"));
        for (from, to) in [
            ("/repo", "/areas/1/tree/repo"),
            ("/repo/src/a", "/areas/1/tree/repo/src/a"),
            ("/repository", "/repository"),
            ("/usr/bin:/home/agent/.cargo/bin:/repo", "/usr/bin:/areas/1/home/.cargo/bin:/areas/1/tree/repo"),
            ("no/repo", "no/repo"),
            ("", ""),
            ("make -C /repo", "make -C /repo"),
        ] {
            assert_eq!(moved.text(OsStr::new(from)), to, "{from}");
        }
    }

    #[test]
    fn what_is_shown_twice_is_shown_as_it_was_said_last() {
        let bind = |path: &str, writable| Mount::Bind { source: path.into(), target: path.into(), writable };
        let mask = Mount::Mask { target: "/a/secret".into() };
        let view = vec![bind("/a", false), mask.clone(), bind("/b", false), bind("/a", true)];
        assert_eq!(once(view), [mask, bind("/b", false), bind("/a", true)]);
    }

    #[test]
    fn what_is_shown_where_it_is_does_not_move_with_what_is_above() {
        let mut moved = Moved::default();
        moved.add(Path::new("/home/user"), Path::new("/areas/1/tmp"));
        moved.add(Path::new("/home/user/.cargo/bin"), Path::new("/home/user/.cargo/bin"));
        assert_eq!(
            moved.path(Path::new("/home/user/.cargo/bin/cargo")),
            Path::new("/home/user/.cargo/bin/cargo")
        );
        assert_eq!(moved.path(Path::new("/home/user/.cargo")), Path::new("/areas/1/tmp/.cargo"));
    }
}
