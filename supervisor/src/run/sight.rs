//! What a path leads to inside the backend's sandbox: the mounts of a plan as the sandbox makes them, and symbolic
//! links followed as they would be followed there. Looks at the host's files, starts nothing.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use proctor_sandbox::inside::{DEVICE_LINKS, DEVICES, PROC_HIDDEN, PROC_READ_ONLY};
use proctor_sandbox::spec::Mount;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::hidden::masks;
use super::plan::Plan;
use super::view;
use crate::changes::survey::survey;

/// As in Linux (path_resolution(7)).
const MAX_FOLLOWED: usize = 40;

/// What stands at a path inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The work tree, below its overlay.
    Tree { relative: PathBuf, host: PathBuf },
    /// The private `.git`.
    Git,
    /// Masked in the work tree, at or above the path.
    Hidden { mask: PathBuf },
    /// Masked below a mount.
    Masked { mask: PathBuf },
    /// A host path, shown.
    Bind { target: PathBuf, source: PathBuf, host: PathBuf, writable: bool },
    /// A host path, written privately.
    Overlay { target: PathBuf, source: PathBuf, host: PathBuf },
    /// A private directory or something in it.
    Private { target: PathBuf },
    /// A symbolic link of the private root.
    Link { to: PathBuf },
    /// A file that Proctor puts there.
    MadeUp,
    /// A device.
    Device,
    /// The sandbox's own /dev/pts.
    Terminals,
    /// A file of /proc that is masked.
    ProcMasked,
    /// A directory of /proc that is read-only, or something in it.
    ProcReadOnly,
    /// /proc otherwise.
    Proc,
    /// A directory of the private root that leads to what is mounted.
    Root,
    /// Nothing.
    Nothing,
}

/// The end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Links that were followed, with what each says.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// The path without links.
    pub path: PathBuf,
    /// What is there.
    pub place: Place,
}

/// The view of the backend's sandbox.
pub(super) struct Sight<'a> {
    plan: &'a Plan,
    /// Relative to the work tree.
    hidden: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl<'a> Sight<'a> {
    /// Looks at the work tree once, as a run does, for what is hidden.
    pub(super) fn new(plan: &'a Plan) -> Result<Self, String> {
        let found = survey(&plan.repo, &plan.hide).map_err(|e| e.to_string())?;
        let hidden = masks(&plan.repo, &found)?;
        let mut files: Vec<PathBuf> =
            view::files(plan.resolved.options.net).into_iter().map(|file| file.path).collect();
        files.extend(plan.start.files.iter().map(|file| file.path.clone()));
        Ok(Self { plan, hidden, files })
    }

    /// Follows an absolute path to its end.
    pub(super) fn follow(&self, asked: &Path) -> Result<Found, String> {
        let mut rest: VecDeque<OsString> = VecDeque::new();
        let push_front = |path: &Path, rest: &mut VecDeque<OsString>| {
            for part in path.components().rev() {
                match part {
                    Component::Normal(name) => rest.push_front(name.to_owned()),
                    Component::ParentDir => rest.push_front("..".into()),
                    _ => {}
                }
            }
        };
        push_front(asked, &mut rest);
        let mut links = Vec::new();
        let mut at = PathBuf::from("/");
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let place = self.place(&next);
            match self.link(&place) {
                Some(to) => {
                    if links.len() == MAX_FOLLOWED {
                        return Err(format!("{} leads in circles", asked.display()));
                    }
                    if to.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    push_front(&to, &mut rest);
                    links.push((next, to));
                }
                None => at = next,
            }
        }
        let place = self.place(&at);
        Ok(Found { links, path: at, place })
    }

    /// What a link at this place says; `None` where it is none, or nothing can be seen.
    fn link(&self, place: &Place) -> Option<PathBuf> {
        match place {
            Place::Link { to } => Some(to.clone()),
            Place::Tree { host, .. } | Place::Bind { host, .. } | Place::Overlay { host, .. } => {
                let meta = fs::symlink_metadata(host).ok()?;
                if meta.is_symlink() { fs::read_link(host).ok() } else { None }
            }
            _ => None,
        }
    }

    /// What is mounted at a path without links: the last of what covers it, in the order in which the sandbox is built.
    pub(super) fn place(&self, path: &Path) -> Place {
        let root = self.plan.repo.root_path();
        if let Ok(relative) = path.strip_prefix(root) {
            if let Some(mask) = self.hidden.iter().find(|mask| relative.starts_with(mask)) {
                return Place::Hidden { mask: root.join(mask) };
            }
            if relative.starts_with(".git") {
                return Place::Git;
            }
            return Place::Tree { relative: relative.to_owned(), host: path.to_owned() };
        }
        if self.files.iter().any(|file| file == path) {
            return Place::MadeUp;
        }
        if let Ok(below) = path.strip_prefix("/proc") {
            let first = below.components().next().map(|c| c.as_os_str().as_encoded_bytes());
            let named = |list: &[&std::ffi::CStr]| {
                first.is_some_and(|first| list.iter().any(|name| name.to_bytes() == first))
            };
            return match () {
                () if named(&PROC_HIDDEN) => Place::ProcMasked,
                () if named(&PROC_READ_ONLY) => Place::ProcReadOnly,
                () => Place::Proc,
            };
        }
        if path.starts_with("/dev/pts") {
            return Place::Terminals;
        }
        let mut place = device(path);
        for mount in &self.plan.backend_mounts {
            let on = |base: &Path, source: &Path| {
                let below = path.strip_prefix(base).ok()?;
                // Joining an empty path would add a slash.
                Some(if below == Path::new("") { source.to_owned() } else { source.join(below) })
            };
            match mount {
                Mount::Bind { source, target, writable } => {
                    if let Some(host) = on(target, source) {
                        let (target, source) = (target.clone(), source.clone());
                        place = Place::Bind { target, source, host, writable: *writable };
                    }
                }
                Mount::Overlay { source, target } => {
                    if let Some(host) = on(target, source) {
                        place = Place::Overlay { target: target.clone(), source: source.clone(), host };
                    }
                }
                Mount::Private { target, .. } if path.starts_with(target) => {
                    place = Place::Private { target: target.clone() };
                }
                Mount::Symlink { link, to } if path == link => place = Place::Link { to: to.clone() },
                Mount::Mask { target } if path.starts_with(target) => {
                    place = Place::Masked { mask: target.clone() };
                }
                _ => {}
            }
        }
        if place == Place::Nothing && self.leads_somewhere(path) { Place::Root } else { place }
    }

    /// Whether a mount, a made-up file or the tree stands below a path that is nothing itself.
    fn leads_somewhere(&self, path: &Path) -> bool {
        let mounts = self.plan.backend_mounts.iter().filter_map(|mount| match mount {
            Mount::Bind { target, .. } | Mount::Overlay { target, .. } | Mount::Private { target, .. } => {
                Some(target.as_path())
            }
            Mount::Symlink { link, .. } => Some(link.as_path()),
            Mount::Mask { .. } => None,
        });
        mounts
            .chain(self.files.iter().map(PathBuf::as_path))
            .chain([self.plan.repo.root_path(), Path::new("/proc"), Path::new("/dev")])
            .any(|target| target.starts_with(path))
    }
}

fn device(path: &Path) -> Place {
    let Ok(name) = path.strip_prefix("/dev") else { return Place::Nothing };
    if name == Path::new("") || DEVICES.iter().any(|device| name == Path::new(device)) {
        return Place::Device;
    }
    match DEVICE_LINKS.iter().find(|(link, _)| name == Path::new(link)) {
        Some((_, to)) => Place::Link { to: PathBuf::from(to.to_string_lossy().into_owned()) },
        None => Place::Nothing,
    }
}

/// Whether something is at a host path; `None` where this user cannot tell.
pub(super) fn exists(host: &Path) -> Option<fs::Metadata> {
    fs::symlink_metadata(host).ok()
}

/// Whether a host path is missing for certain.
pub(super) fn is_missing(host: &Path) -> bool {
    fs::symlink_metadata(host)
        .is_err_and(|e| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
}

/// Whether permission bits let the backend do `bit` (4 read, 2 write) with what is there; `None` where it cannot be
/// told. An ordinary user's backend has the user's own rights. Root's has those of nobody in particular, but for what
/// belongs to the owner of a mount that is made its own.
pub(super) fn permitted(host: &Path, source: &Path, own: bool, bit: u32) -> Option<bool> {
    if !rustix::process::geteuid().is_root() {
        let wanted = if bit == 4 { Access::READ_OK } else { Access::WRITE_OK };
        return match accessat(CWD, host, wanted, AtFlags::EACCESS) {
            // A private layer can be written over a read-only file system as well.
            Ok(()) | Err(Errno::ROFS) => Some(true),
            Err(Errno::ACCESS | Errno::PERM) => Some(false),
            Err(_) => None,
        };
    }
    let owner = exists(source).map(|meta| (meta.uid(), meta.gid()))?;
    let has = |path: &Path, bit: u32| -> Option<bool> {
        let meta = exists(path)?;
        let shift = match () {
            () if own && meta.uid() == owner.0 => 6,
            () if own && meta.gid() == owner.1 => 3,
            () => 0,
        };
        // What belongs to others has no owner inside, and cannot be carried up into a layer.
        let foreign = bit == 2 && own && meta.uid() != owner.0;
        Some(meta.mode() >> shift & bit != 0 && !foreign)
    };
    let way: Vec<&Path> = host.ancestors().skip(1).take_while(|above| above.starts_with(source)).collect();
    for above in way {
        if !has(above, 1)? {
            return Some(false);
        }
    }
    has(host, bit)
}
