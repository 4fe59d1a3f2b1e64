//! A specification turned into what the child walks without allocating: C strings, components, labels for errors.
//! Made in the launcher before the clone. Decides nothing that the specification does not say.

use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::LaunchError;
use crate::inside::{DEVICE_LINKS, DEVICES};
use crate::landlock::{Domain, Logging};
use crate::seccomp::{Policy, Watching};
use crate::spec::{Identity, Level, Mount, Network, SandboxSpec, Store, Tree};
use crate::sys::exec::ExecImage;

/// Index of a text that names what an operation is about.
pub(crate) type Label = u16;

/// A path below the private root, component by component.
pub(crate) struct Target {
    pub(crate) components: Vec<CString>,
    pub(crate) label: Label,
}

/// A host path to open inside the new mount namespace.
pub(crate) struct Source {
    pub(crate) path: CString,
    pub(crate) label: Label,
}

pub(crate) enum Op {
    Bind { source: Source, target: Target, writable: bool, device: bool, idmapped: Option<OwnedFd> },
    Overlay { source: Source, target: Target, name: CString, idmapped: Option<OwnedFd> },
    Private { target: Target, mode: u32, name: CString },
    Symlink { link: Target, to: CString },
    Mask { target: Target },
}

pub(crate) struct FileOp {
    pub(crate) target: Target,
    /// Below a mount of the view: the file is kept under this name in the store and bound over the target.
    pub(crate) covered: Option<CString>,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

pub(crate) struct TreePlan {
    pub(crate) source: Source,
    pub(crate) target: Target,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) idmapped: Option<OwnedFd>,
    pub(crate) writable: bool,
    pub(crate) hidden: Vec<Target>,
    pub(crate) upper_seed: Vec<u8>,
    pub(crate) tree_seed: Vec<u8>,
}

pub(crate) struct Rule {
    pub(crate) path: CString,
    pub(crate) access: u64,
    pub(crate) label: Label,
}

pub(crate) struct Plan {
    pub(crate) policy: Policy,
    pub(crate) identity: Identity,
    /// Started by root, who gives every right up.
    pub(crate) privileged: bool,
    /// Level `landlock`: the work tree is a copy of the caller's.
    pub(crate) copied_tree: bool,
    /// The largest file, in bytes, where nothing else limits one.
    pub(crate) file_size: Option<u64>,
    pub(crate) store_size: CString,
    pub(crate) store_inodes: CString,
    pub(crate) store_at: CString,
    /// The layers of overlays lie in the directory that the child starts in.
    pub(crate) layers_here: bool,
    pub(crate) ops: Vec<Op>,
    pub(crate) files: Vec<FileOp>,
    pub(crate) tree: Option<TreePlan>,
    pub(crate) loopback: bool,
    pub(crate) hostname: CString,
    pub(crate) watching: Watching,
    pub(crate) tasks: u64,
    pub(crate) open_files: u64,
    pub(crate) rules: Vec<Rule>,
    pub(crate) domain: Domain,
    /// What of its refusals audit is told.
    pub(crate) logging: Logging,
    pub(crate) cwd: CString,
    pub(crate) image: Option<ExecImage>,
    /// Descriptors for the program: numbers 0, 1, 2 and so on.
    pub(crate) stdio: Vec<RawFd>,
    /// Descriptor 0 becomes the controlling terminal.
    pub(crate) terminal: bool,
    pub(crate) status: RawFd,
    pub(crate) go: RawFd,
    pub(crate) supervisor: RawFd,
    pub(crate) launcher: RawFd,
    /// Every descriptor that the child keeps, sorted.
    pub(crate) keep: Vec<RawFd>,
    labels: Vec<String>,
}

/// What is to be mounted, written and allowed.
struct Layout {
    ops: Vec<Op>,
    files: Vec<FileOp>,
    tree: Option<TreePlan>,
    rules: Vec<(PathBuf, u64)>,
}

/// Texts under construction.
#[derive(Default)]
struct Labels(Vec<String>);

impl Labels {
    fn add(&mut self, text: &Path) -> Label {
        self.0.push(text.to_string_lossy().into_owned());
        Label::try_from(self.0.len() - 1).unwrap_or(Label::MAX)
    }

    fn target(&mut self, path: &Path) -> Result<Target, LaunchError> {
        let label = self.add(path);
        let mut components = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) => components.push(c_string(name.as_bytes(), path)?),
                _ => return Err(LaunchError::Spec(format!("path {} is not plain", path.display()))),
            }
        }
        if components.is_empty() {
            return Err(LaunchError::Spec(format!("{} cannot be a mount's target", path.display())));
        }
        Ok(Target { components, label })
    }

    fn source(&mut self, path: &Path) -> Result<Source, LaunchError> {
        Ok(Source { path: c_string(path.as_os_str().as_bytes(), path)?, label: self.add(path) })
    }
}

fn c_string(bytes: &[u8], path: &Path) -> Result<CString, LaunchError> {
    CString::new(bytes).map_err(|_| LaunchError::Spec(format!("path {} has a NUL byte", path.display())))
}

/// Descriptors and byte strings that come beside the specification.
pub(crate) struct Inputs {
    pub(crate) stdio: Vec<RawFd>,
    pub(crate) status: RawFd,
    pub(crate) go: RawFd,
    pub(crate) supervisor: RawFd,
    pub(crate) launcher: RawFd,
    pub(crate) upper_seed: Vec<u8>,
    pub(crate) tree_seed: Vec<u8>,
    pub(crate) privileged: bool,
    pub(crate) terminal: bool,
}

/// Why root clones a source before the sandbox exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloning {
    /// It is written as the sandbox's own: always, idmapped.
    Owned,
    /// It is only read: where the sandbox could not open it.
    Shown,
}

/// Makes a clone of a host path for the sandbox's identity; `None` where none is needed.
pub(crate) type Idmapper<'a> = &'a mut dyn FnMut(&Path, Cloning) -> Result<Option<OwnedFd>, LaunchError>;

impl Plan {
    pub(crate) fn new(
        spec: &SandboxSpec,
        inputs: Inputs,
        domain: Domain,
        idmap: Idmapper<'_>,
    ) -> Result<Self, LaunchError> {
        let mut labels = Labels::default();
        if spec.level == Level::Landlock {
            // Nothing is mounted, and the rules have been added.
            let nothing = Layout { ops: Vec::new(), files: Vec::new(), tree: None, rules: Vec::new() };
            return Self::finish(spec, inputs, domain, labels, nothing);
        }
        let mut ops = Vec::new();
        let mut rules =
            vec![(Path::new("/").to_owned(), domain.read), (Path::new("/proc").to_owned(), domain.proc)];

        let dev = Path::new("/dev");
        ops.push(private(&mut labels, dev, 0o755, 0)?);
        for name in DEVICES {
            let path = dev.join(name);
            ops.push(Op::Bind {
                source: labels.source(&path)?,
                target: labels.target(&path)?,
                writable: true,
                device: true,
                idmapped: None,
            });
        }
        for (name, to) in DEVICE_LINKS {
            ops.push(Op::Symlink { link: labels.target(&dev.join(name))?, to: to.to_owned() });
        }
        rules.push((dev.to_owned(), domain.device));

        for (index, mount) in spec.view.iter().enumerate() {
            match mount {
                Mount::Bind { source, target, writable } => {
                    let why = if *writable { Cloning::Owned } else { Cloning::Shown };
                    let idmapped = if inputs.privileged { idmap(source, why)? } else { None };
                    if *writable {
                        rules.push((target.clone(), domain.write));
                    }
                    ops.push(Op::Bind {
                        source: labels.source(source)?,
                        target: labels.target(target)?,
                        writable: *writable,
                        device: false,
                        idmapped,
                    });
                }
                Mount::Overlay { source, target } => {
                    let idmapped = if inputs.privileged { idmap(source, Cloning::Owned)? } else { None };
                    rules.push((target.clone(), domain.write));
                    ops.push(Op::Overlay {
                        source: labels.source(source)?,
                        target: labels.target(target)?,
                        name: c_string(format!("o{index}").as_bytes(), target)?,
                        idmapped,
                    });
                }
                Mount::Private { target, mode } => {
                    rules.push((target.clone(), domain.write));
                    ops.push(private(&mut labels, target, *mode, index + 1)?);
                }
                Mount::Symlink { link, to } => ops.push(Op::Symlink {
                    link: labels.target(link)?,
                    to: c_string(to.as_os_str().as_bytes(), to)?,
                }),
                Mount::Mask { target } => ops.push(Op::Mask { target: labels.target(target)? }),
            }
        }

        let mut files = Vec::new();
        for (index, file) in spec.files.iter().enumerate() {
            let covered = spec.view.iter().filter_map(Mount::directory).any(|dir| file.path.starts_with(dir));
            let name = c_string(format!("f{index}").as_bytes(), &file.path)?;
            files.push(FileOp {
                target: labels.target(&file.path)?,
                covered: covered.then_some(name),
                mode: file.mode,
                content: file.content.clone(),
            });
        }

        let tree = match &spec.tree {
            None => None,
            Some(tree) => {
                if tree.writable {
                    rules.push((tree.path.clone(), domain.write));
                }
                let idmapped = if inputs.privileged { idmap(&tree.path, Cloning::Owned)? } else { None };
                let seeds = (inputs.upper_seed.clone(), inputs.tree_seed.clone());
                Some(tree_plan(&mut labels, tree, idmapped, seeds)?)
            }
        };
        Self::finish(spec, inputs, domain, labels, Layout { ops, files, tree, rules })
    }

    /// What is the same at every level.
    fn finish(
        spec: &SandboxSpec,
        inputs: Inputs,
        domain: Domain,
        mut labels: Labels,
        layout: Layout,
    ) -> Result<Self, LaunchError> {
        let Layout { ops, files, tree, rules } = layout;
        let cwd = spec.program.as_ref().map_or(Path::new("/"), |p| p.cwd.as_path());
        let image = match &spec.program {
            None => None,
            Some(program) => Some(ExecImage::new(program).ok_or_else(|| {
                LaunchError::Spec(
                    "the program has no arguments, no PATH to be found in, or a NUL byte".into(),
                )
            })?),
        };
        let mut rule_list = Vec::new();
        for (path, access) in rules {
            rule_list.push(Rule {
                path: c_string(path.as_os_str().as_bytes(), &path)?,
                access,
                label: labels.add(&path),
            });
        }
        // Any existing directory serves to attach the private tmpfs while it is filled: every source is open by then.
        let store_at =
            ["/tmp", "/usr", "/proc"].into_iter().find(|d| Path::new(d).is_dir()).unwrap_or("/proc");
        let mut plan = Self {
            policy: Policy { level: spec.level, network: spec.network, sockets: domain.mediates_sockets },
            identity: spec.identity,
            privileged: inputs.privileged,
            copied_tree: spec.level == Level::Landlock && spec.tree.is_some(),
            file_size: spec.limits.file_size,
            store_size: c_string(spec.limits.disk.to_string().as_bytes(), Path::new("disk"))?,
            store_inodes: c_string(spec.limits.inodes.to_string().as_bytes(), Path::new("inodes"))?,
            store_at: c_string(store_at.as_bytes(), Path::new(store_at))?,
            layers_here: spec.store == Store::Disk,
            ops,
            files,
            tree,
            loopback: spec.network == Network::None,
            hostname: c_string(spec.hostname.as_bytes(), Path::new("hostname"))?,
            watching: match (spec.watched, spec.watch_paths) {
                (false, _) => Watching::Nothing,
                (true, false) => Watching::Calls,
                (true, true) => Watching::Paths,
            },
            tasks: spec.limits.tasks,
            open_files: spec.limits.open_files,
            rules: rule_list,
            logging: Logging::new(domain.abi, spec.log_denials),
            domain,
            cwd: c_string(cwd.as_os_str().as_bytes(), cwd)?,
            image,
            stdio: inputs.stdio,
            terminal: inputs.terminal,
            status: inputs.status,
            go: inputs.go,
            supervisor: inputs.supervisor,
            launcher: inputs.launcher,
            keep: Vec::new(),
            labels: Vec::new(),
        };
        plan.labels = labels.0;
        plan.keep = plan.kept_descriptors();
        Ok(plan)
    }

    fn kept_descriptors(&self) -> Vec<RawFd> {
        use std::os::fd::AsRawFd;
        let mut keep = self.stdio.clone();
        keep.extend([self.status, self.go, self.supervisor, self.launcher, self.domain.ruleset.as_raw_fd()]);
        for op in &self.ops {
            if let Op::Bind { idmapped: Some(fd), .. } | Op::Overlay { idmapped: Some(fd), .. } = op {
                keep.push(fd.as_raw_fd());
            }
        }
        if let Some(fd) = self.tree.as_ref().and_then(|t| t.idmapped.as_ref()) {
            keep.push(fd.as_raw_fd());
        }
        keep.sort_unstable();
        keep.dedup();
        keep
    }

    /// The texts of all labels, for whoever reads the child's failures.
    pub(crate) fn labels(&self) -> &[String] {
        &self.labels
    }
}

fn private(labels: &mut Labels, target: &Path, mode: u32, index: usize) -> Result<Op, LaunchError> {
    let name = c_string(format!("p{index}").as_bytes(), target)?;
    Ok(Op::Private { target: labels.target(target)?, mode, name })
}

fn tree_plan(
    labels: &mut Labels,
    tree: &Tree,
    idmapped: Option<OwnedFd>,
    (upper_seed, tree_seed): (Vec<u8>, Vec<u8>),
) -> Result<TreePlan, LaunchError> {
    let hidden = tree.hidden.iter().map(|p| labels.target(p)).collect::<Result<_, _>>()?;
    Ok(TreePlan {
        source: labels.source(&tree.path)?,
        target: labels.target(&tree.path)?,
        dev: tree.dev,
        ino: tree.ino,
        idmapped,
        writable: tree.writable,
        hidden,
        upper_seed,
        tree_seed,
    })
}
