//! The private root: a tmpfs of the sandbox's own, mounts of the view, /proc, the work tree's overlay, masks; then
//! pivot_root. Every source is opened before anything is mounted over it; every target is walked component by
//! component without following links.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

use super::{At, ChildResult, Failure, NO_LABEL, seed};
use crate::enforced::Mechanism;
use crate::error::Step;
use crate::inside;
use crate::message::Message;
use crate::plan::{FileOp, Label, Op, Plan, Target, TreePlan};
use crate::sys::{mount, net};

const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);
const PATH_DIR: OFlag = PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW);
const QUIET: u64 = mount::ATTR_NOSUID | mount::ATTR_NODEV;
const MAX_SOURCES: usize = 256;

fn root_dir(path: &CStr) -> Result<OwnedFd, Errno> {
    openat(crate::sys::process::borrow(nix::libc::AT_FDCWD), path, PATH, Mode::empty())
}

/// A mount's source. Links are not followed: an earlier sandbox with a writable mount may have put one there since the
/// path was checked, and it would lead anywhere.
pub(crate) fn open_source(path: &CStr) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(PATH).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(crate::sys::process::borrow(nix::libc::AT_FDCWD), path, how)
}

fn is_link(fd: &OwnedFd) -> bool {
    // What cannot be looked at counts as one: the caller refuses it.
    fstat(fd).map_or(true, |s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK)
}

fn is_dir(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// One component below `dir`, made where it is missing.
fn enter(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    match mkdirat(dir, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        // A read-only mount says EROFS before it says EEXIST where the name is missing only.
        Err(errno) => {
            return openat(dir, name, PATH_DIR, Mode::empty()).map_err(|_| errno);
        }
    }
    openat(dir, name, PATH_DIR, Mode::empty())
}

/// The parent directory of `target` below `root`, its missing parts made, and the last name.
fn parent<'t>(root: BorrowedFd<'_>, target: &'t Target) -> ChildResult<(Option<OwnedFd>, &'t CString)> {
    let at = |r: Result<OwnedFd, Errno>| r.at(Step::Target, target.label);
    let Some((last, dirs)) = target.components.split_last() else {
        return Err(Failure { step: Step::Target, label: target.label, errno: Errno::EINVAL });
    };
    let mut dir: Option<OwnedFd> = None;
    for name in dirs {
        let below = dir.as_ref().map_or(root, |d| d.as_fd());
        dir = Some(at(enter(below, name))?);
    }
    Ok((dir, last))
}

/// `target` as a directory or an empty file, made where it is missing.
fn target_for(root: BorrowedFd<'_>, target: &Target, directory: bool) -> ChildResult<OwnedFd> {
    let (dir, name) = parent(root, target)?;
    let dir = dir.as_ref().map_or(root, |d| d.as_fd());
    if directory {
        return enter(dir, name).at(Step::Target, target.label);
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_WRONLY;
    match openat(dir, name.as_c_str(), flags, Mode::from_bits_truncate(0o444)) {
        Ok(_) | Err(Errno::EEXIST | Errno::EROFS) => {}
        Err(errno) => {
            return Err(Failure { step: Step::Target, label: target.label, errno });
        }
    }
    openat(dir, name.as_c_str(), PATH | OFlag::O_NOFOLLOW, Mode::empty()).at(Step::Target, target.label)
}

/// An existing path below `root`; `None` where it is missing. Where a symbolic link is on the way `None` too, or an
/// error if `links` are refused.
fn existing(root: BorrowedFd<'_>, target: &Target, links: bool) -> ChildResult<Option<OwnedFd>> {
    let mut at: Option<OwnedFd> = None;
    for name in &target.components {
        let below = at.as_ref().map_or(root, |d| d.as_fd());
        match openat(below, name.as_c_str(), PATH | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(fd) => at = Some(fd),
            Err(Errno::ENOTDIR) if !links && at.as_ref().is_some_and(is_link) => {
                return Err(Failure { step: Step::HiddenMask, label: target.label, errno: Errno::ELOOP });
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => {
                return Err(Failure { step: Step::Target, label: target.label, errno });
            }
        }
    }
    Ok(at)
}

/// The store: the sandbox's own tmpfs, with the directories that everything private is made of.
struct Store {
    mount: OwnedFd,
    /// Where overlays have their layers, if not there.
    layers: Option<OwnedFd>,
    empty_file: OwnedFd,
    empty_dir: OwnedFd,
}

impl Store {
    fn layers(&self) -> BorrowedFd<'_> {
        self.layers.as_ref().unwrap_or(&self.mount).as_fd()
    }

    fn dir(&self, name: &CStr, mode: u32) -> ChildResult<OwnedFd> {
        match mkdirat(&self.mount, name, Mode::from_bits_truncate(mode)) {
            Ok(()) => {}
            Err(errno) => {
                return Err(Failure { step: Step::StoreDirs, label: NO_LABEL, errno });
            }
        }
        let dir = openat(&self.mount, name, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .at(Step::StoreDirs, NO_LABEL)?;
        // Past the umask: /tmp is 1777.
        nix::sys::stat::fchmod(&dir, Mode::from_bits_truncate(mode)).at(Step::StoreDirs, NO_LABEL)?;
        Ok(dir)
    }

    /// Puts an empty file or directory of mode 000 over `victim`.
    fn mask(&self, victim: BorrowedFd<'_>, step: Step, label: Label) -> ChildResult<()> {
        let cover = if is_dir(victim).at(step, label)? { &self.empty_dir } else { &self.empty_file };
        let clone = mount::open_tree_clone(cover.as_fd(), c"", false).at(step, label)?;
        mount::restrict(clone.as_fd(), QUIET | mount::ATTR_RDONLY | mount::ATTR_NOEXEC, false)
            .at(step, label)?;
        mount::attach(clone.as_fd(), victim, c"").at(step, label)
    }
}

/// Builds everything and changes into it. Returns the store's root directory; its descriptor has gone to the
/// supervisor. Sets the bits of what it applied.
pub(super) fn build(plan: &Plan, bits: &mut u64) -> ChildResult<OwnedFd> {
    let old_root = root_dir(c"/").at(Step::Propagation, NO_LABEL)?;
    mount::make_private(old_root.as_fd()).at(Step::Propagation, NO_LABEL)?;

    // Sources first: the store is about to cover one of the host's directories.
    let mut sources: [Option<OwnedFd>; MAX_SOURCES] = [const { None }; MAX_SOURCES];
    if plan.ops.len() > MAX_SOURCES {
        return Err(Failure { step: Step::OpenSource, label: NO_LABEL, errno: Errno::E2BIG });
    }
    for (op, slot) in plan.ops.iter().zip(&mut sources) {
        if let Op::Bind { source, idmapped: None, .. } | Op::Overlay { source, idmapped: None, .. } = op {
            *slot = Some(open_source(&source.path).at(Step::OpenSource, source.label)?);
        }
    }
    let tree_source = match &plan.tree {
        Some(tree) if tree.idmapped.is_none() => Some(open_tree_source(tree)?),
        _ => None,
    };

    let store = make_store(plan, bits)?;
    let root = private_root(&store)?;
    for (op, source) in plan.ops.iter().zip(&sources) {
        apply(op, source.as_ref().map(|s| s.as_fd()), &store, root.as_fd())?;
    }
    proc_and_pts(&store, root.as_fd())?;
    *bits |= Mechanism::ProcMasked.bit();
    for file in &plan.files {
        inject(file, &store, root.as_fd())?;
    }
    if let Some(tree) = &plan.tree {
        mount_tree(tree, tree_source.as_ref(), &store, root.as_fd())?;
        *bits |= Mechanism::Overlay.bit();
        if tree.idmapped.is_some() {
            *bits |= Mechanism::Idmapped.bit();
        }
    }
    if plan.loopback {
        net::loopback_up().at(Step::LoopbackUp, NO_LABEL)?;
        *bits |= Mechanism::NetworkNamespace.bit();
    }
    mount::restrict(root.as_fd(), QUIET | mount::ATTR_RDONLY, false).at(Step::RootReadOnly, NO_LABEL)?;
    nix::unistd::fchdir(&root).at(Step::PivotRoot, NO_LABEL)?;
    mount::pivot_root_here().at(Step::PivotRoot, NO_LABEL)?;
    mount::detach(c".").at(Step::PivotRoot, NO_LABEL)?;
    nix::unistd::chdir(c"/").at(Step::PivotRoot, NO_LABEL)?;
    let hostname = plan.hostname.to_str().map_err(|_| Errno::EINVAL).at(Step::Hostname, NO_LABEL)?;
    match nix::unistd::sethostname(hostname) {
        Ok(()) => *bits |= Mechanism::UtsNamespace.bit(),
        // Containers' filters refuse this call alone: the host's name, as the namespace was made with it, is then seen,
        // and said to be.
        Err(Errno::EPERM | Errno::ENOSYS) => {}
        Err(errno) => return Err(Failure { step: Step::Hostname, label: NO_LABEL, errno }),
    }
    let store_root = openat(&store.mount, c".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .at(Step::StoreDirs, NO_LABEL)?;
    Message::Ready.send_with(plan.status, store_root.as_raw_fd()).at(Step::Report, NO_LABEL)?;
    Ok(store_root)
}

/// A file of the caller's: in the private root, which becomes read-only, or bound read-only over a mount of the view.
fn inject(file: &FileOp, store: &Store, root: BorrowedFd<'_>) -> ChildResult<()> {
    let label = file.target.label;
    let Some(name) = &file.covered else {
        let (dir, name) = parent(root, &file.target)?;
        let dir = dir.as_ref().map_or(root, |d| d.as_fd());
        return seed::write_file(dir, name, file.mode, &file.content).at(Step::InjectFile, label);
    };
    seed::write_file(store.mount.as_fd(), name, file.mode, &file.content).at(Step::InjectFile, label)?;
    let clone = mount::open_tree_clone(store.mount.as_fd(), name, false).at(Step::InjectFile, label)?;
    mount::restrict(clone.as_fd(), QUIET | mount::ATTR_RDONLY, false).at(Step::InjectFile, label)?;
    let at = target_for(root, &file.target, false)?;
    mount::attach(clone.as_fd(), at.as_fd(), c"").at(Step::InjectFile, label)
}

fn make_store(plan: &Plan, bits: &mut u64) -> ChildResult<Store> {
    let context = mount::FsContext::open(c"tmpfs").at(Step::StoreCreate, NO_LABEL)?;
    context.set(c"size", &plan.store_size).at(Step::StoreCreate, NO_LABEL)?;
    context.set(c"nr_inodes", &plan.store_inodes).at(Step::StoreCreate, NO_LABEL)?;
    context.set(c"mode", c"0755").at(Step::StoreCreate, NO_LABEL)?;
    let tmpfs = context.mount(QUIET).at(Step::StoreCreate, NO_LABEL)?;
    let at = root_dir(&plan.store_at).at(Step::StoreAttach, NO_LABEL)?;
    mount::attach(tmpfs.as_fd(), at.as_fd(), c"").at(Step::StoreAttach, NO_LABEL)?;
    // The attached mount's own root: paths below it are in this namespace, so its directories can be cloned.
    for (name, mode) in [(c"root", 0o755), (c"empty-dir", 0o000)] {
        mkdirat(&tmpfs, name, Mode::from_bits_truncate(mode)).at(Step::StoreDirs, NO_LABEL)?;
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_WRONLY;
    openat(&tmpfs, c"empty-file", flags, Mode::empty()).at(Step::StoreDirs, NO_LABEL)?;
    let layers = if plan.layers_here {
        // The launcher cloned this process while it stood in that directory: clone(2) carries the working directory
        // over into the new mount namespace, so what is opened here belongs to it, and no name was looked up.
        let here = openat(crate::sys::process::borrow(nix::libc::AT_FDCWD), c".", PATH_DIR, Mode::empty())
            .at(Step::LayerDir, NO_LABEL)?;
        *bits |= Mechanism::DiskLayer.bit();
        Some(here)
    } else {
        *bits |= Mechanism::DiskLimit.bit();
        None
    };
    let open = |name: &CStr| openat(&tmpfs, name, PATH, Mode::empty()).at(Step::StoreDirs, NO_LABEL);
    Ok(Store { empty_file: open(c"empty-file")?, empty_dir: open(c"empty-dir")?, layers, mount: tmpfs })
}

fn private_root(store: &Store) -> ChildResult<OwnedFd> {
    let clone = mount::open_tree_clone(store.mount.as_fd(), c"root", false).at(Step::RootMount, NO_LABEL)?;
    mount::attach(clone.as_fd(), store.mount.as_fd(), c"root").at(Step::RootMount, NO_LABEL)?;
    Ok(clone)
}

fn apply(op: &Op, source: Option<BorrowedFd<'_>>, store: &Store, root: BorrowedFd<'_>) -> ChildResult<()> {
    match op {
        Op::Bind { source: named, target, writable, device, idmapped } => {
            let clone;
            let mounted = match (idmapped, source) {
                (Some(fd), _) => fd,
                (None, Some(source)) => {
                    clone = mount::open_tree_clone(source, c"", true).at(Step::BindClone, named.label)?;
                    &clone
                }
                (None, None) => {
                    return Err(Failure { step: Step::BindClone, label: named.label, errno: Errno::EBADF });
                }
            };
            let mut flags = mount::ATTR_NOSUID;
            if *device {
                // Read-only is about the host's inode (its times, its attributes): data goes to the driver all the same.
                flags |= mount::ATTR_NOEXEC | mount::ATTR_RDONLY;
            } else {
                flags |= mount::ATTR_NODEV;
            }
            if !writable {
                flags |= mount::ATTR_RDONLY;
            }
            mount::restrict(mounted.as_fd(), flags, true).at(Step::BindFlags, named.label)?;
            let directory = is_dir(mounted.as_fd()).at(Step::BindClone, named.label)?;
            let at = target_for(root, target, directory)?;
            mount::attach(mounted.as_fd(), at.as_fd(), c"").at(Step::BindAttach, target.label)
        }
        Op::Overlay { source: named, target, name, idmapped } => {
            let mounted = overlay(source, idmapped.as_ref(), store, name, named.label, &[])?;
            let at = target_for(root, target, true)?;
            mount::attach(mounted.as_fd(), at.as_fd(), c"").at(Step::BindAttach, target.label)
        }
        Op::Private { target, mode, name } => {
            store.dir(name, *mode)?;
            let clone =
                mount::open_tree_clone(store.mount.as_fd(), name, false).at(Step::BindClone, target.label)?;
            mount::restrict(clone.as_fd(), QUIET, false).at(Step::BindFlags, target.label)?;
            let at = target_for(root, target, true)?;
            mount::attach(clone.as_fd(), at.as_fd(), c"").at(Step::BindAttach, target.label)
        }
        Op::Symlink { link, to } => {
            let (dir, name) = parent(root, link)?;
            let dir = dir.as_ref().map_or(root, |d| d.as_fd());
            nix::unistd::symlinkat(to.as_c_str(), dir, name.as_c_str()).at(Step::Target, link.label)
        }
        // A mask that a link leads away from hides nothing: that is an error, not a path that is missing.
        Op::Mask { target } => match existing(root, target, false)? {
            Some(victim) => store.mask(victim.as_fd(), Step::HiddenMask, target.label),
            None => Ok(()),
        },
    }
}

fn proc_and_pts(store: &Store, root: BorrowedFd<'_>) -> ChildResult<()> {
    let context = mount::FsContext::open(c"proc").at(Step::ProcMount, NO_LABEL)?;
    let proc = context.mount(QUIET | mount::ATTR_NOEXEC).at(Step::ProcMount, NO_LABEL)?;
    let at = enter(root, c"proc").at(Step::ProcMount, NO_LABEL)?;
    mount::attach(proc.as_fd(), at.as_fd(), c"").at(Step::ProcMount, NO_LABEL)?;
    for name in inside::PROC_HIDDEN {
        match openat(&proc, name, PATH | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(victim) => store.mask(victim.as_fd(), Step::ProcMask, NO_LABEL)?,
            Err(Errno::ENOENT) => {}
            Err(errno) => {
                return Err(Failure { step: Step::ProcMask, label: NO_LABEL, errno });
            }
        }
    }
    for name in inside::PROC_READ_ONLY {
        let dir = match openat(&proc, name, PATH | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::ENOENT) => continue,
            Err(errno) => {
                return Err(Failure { step: Step::ProcMask, label: NO_LABEL, errno });
            }
        };
        let clone = mount::open_tree_clone(dir.as_fd(), c"", false).at(Step::ProcMask, NO_LABEL)?;
        let flags = QUIET | mount::ATTR_NOEXEC | mount::ATTR_RDONLY;
        mount::restrict(clone.as_fd(), flags, false).at(Step::ProcMask, NO_LABEL)?;
        mount::attach(clone.as_fd(), dir.as_fd(), c"").at(Step::ProcMask, NO_LABEL)?;
    }

    let context = mount::FsContext::open(c"devpts").at(Step::Devpts, NO_LABEL)?;
    for (key, value) in [(c"ptmxmode", c"0666"), (c"mode", c"0600")] {
        context.set(key, value).at(Step::Devpts, NO_LABEL)?;
    }
    context.flag(c"newinstance").at(Step::Devpts, NO_LABEL)?;
    let pts = context.mount(mount::ATTR_NOSUID | mount::ATTR_NOEXEC).at(Step::Devpts, NO_LABEL)?;
    let dev = openat(root, c"dev", PATH_DIR, Mode::empty()).at(Step::Devpts, NO_LABEL)?;
    let at = enter(dev.as_fd(), c"pts").at(Step::Devpts, NO_LABEL)?;
    mount::attach(pts.as_fd(), at.as_fd(), c"").at(Step::Devpts, NO_LABEL)
}

fn open_tree_source(tree: &TreePlan) -> ChildResult<OwnedFd> {
    let fd = root_dir(&tree.source.path).at(Step::OpenSource, tree.source.label)?;
    check_tree(fd.as_fd(), tree)?;
    Ok(fd)
}

/// The directory found at the path must be the one that was checked: names can be swapped meanwhile.
fn check_tree(fd: BorrowedFd<'_>, tree: &TreePlan) -> ChildResult<()> {
    let stat = fstat(fd).at(Step::OpenSource, tree.source.label)?;
    if stat.st_dev != tree.dev || stat.st_ino != tree.ino {
        return Err(Failure { step: Step::SourceChanged, label: tree.source.label, errno: Errno::ESTALE });
    }
    Ok(())
}

/// An overlay over `source` (or its idmapped clone) with fresh layers in the store, detached. The layers' own mounts
/// are gone when this returns: the overlay keeps private clones, and nothing inside can reach the lower one.
fn overlay(
    source: Option<BorrowedFd<'_>>,
    idmapped: Option<&OwnedFd>,
    store: &Store,
    name: &CStr,
    label: Label,
    upper_seed: &[u8],
) -> ChildResult<OwnedFd> {
    let clone;
    let lower = match (idmapped, source) {
        (Some(fd), _) => {
            mount::restrict(fd.as_fd(), QUIET | mount::ATTR_RDONLY, false).at(Step::OverlayLower, label)?;
            fd
        }
        (None, Some(source)) => {
            clone = mount::open_tree_clone(source, c"", false).at(Step::OverlayLower, label)?;
            mount::restrict(clone.as_fd(), QUIET | mount::ATTR_RDONLY, false)
                .at(Step::OverlayLower, label)?;
            &clone
        }
        (None, None) => {
            return Err(Failure { step: Step::OverlayLower, label, errno: Errno::EBADF });
        }
    };
    mkdirat(store.layers(), name, Mode::from_bits_truncate(0o700)).at(Step::StoreDirs, label)?;
    let layer = openat(store.layers(), name, PATH_DIR, Mode::empty()).at(Step::StoreDirs, label)?;
    for sub in [c"lower", c"upper", c"work"] {
        mkdirat(&layer, sub, Mode::from_bits_truncate(0o755)).at(Step::StoreDirs, label)?;
    }
    if !upper_seed.is_empty() {
        let upper = openat(&layer, c"upper", PATH_DIR, Mode::empty()).at(Step::SeedUpper, label)?;
        seed::carry_out(upper.as_fd(), upper_seed, seed::Below::UpperLayer).at(Step::SeedUpper, label)?;
    }
    mount::attach(lower.as_fd(), layer.as_fd(), c"lower").at(Step::OverlayLower, label)?;
    // Relative names keep the options free of characters that overlayfs would read as its own.
    nix::unistd::fchdir(&layer).at(Step::OverlayMount, label)?;
    let context = mount::FsContext::open(c"overlay").at(Step::OverlayMount, label)?;
    for (key, value) in [(c"lowerdir", c"lower"), (c"upperdir", c"upper"), (c"workdir", c"work")] {
        context.set(key, value).at(Step::OverlayMount, label)?;
    }
    // volatile: without it the unmount waits for the dirty pages of the whole upper file system.
    for flag in [c"userxattr", c"volatile"] {
        context.flag(flag).at(Step::OverlayMount, label)?;
    }
    let mounted = context.mount(QUIET).at(Step::OverlayMount, label)?;
    mount::detach(c"lower").at(Step::OverlayDetach, label)?;
    Ok(mounted)
}

fn mount_tree(
    tree: &TreePlan,
    source: Option<&OwnedFd>,
    store: &Store,
    root: BorrowedFd<'_>,
) -> ChildResult<()> {
    let label = tree.target.label;
    if let Some(idmapped) = &tree.idmapped {
        check_tree(idmapped.as_fd(), tree)?;
    }
    let mounted =
        overlay(source.map(|s| s.as_fd()), tree.idmapped.as_ref(), store, c"tree", label, &tree.upper_seed)?;
    let at = target_for(root, &tree.target, true)?;
    mount::attach(mounted.as_fd(), at.as_fd(), c"").at(Step::BindAttach, label)?;
    if !tree.tree_seed.is_empty() {
        seed::carry_out(mounted.as_fd(), &tree.tree_seed, seed::Below::Overlay).at(Step::SeedTree, label)?;
    }
    for hidden in &tree.hidden {
        if let Some(victim) = existing(mounted.as_fd(), hidden, true)? {
            let kind = SFlag::from_bits_truncate(fstat(&victim).at(Step::HiddenMask, hidden.label)?.st_mode);
            // Nothing can be mounted on a symbolic link; the caller hides what it points to.
            if kind & SFlag::S_IFMT != SFlag::S_IFLNK {
                store.mask(victim.as_fd(), Step::HiddenMask, hidden.label)?;
            }
        }
    }
    if !tree.writable {
        mount::restrict(mounted.as_fd(), QUIET | mount::ATTR_RDONLY, false).at(Step::BindFlags, label)?;
    }
    Ok(())
}
