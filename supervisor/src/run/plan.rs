//! Everything that can be checked before anything starts: the repository, the rules, the engine, the mounts, the
//! evidence directory's place. What is wrong here is exit code 2, and nothing was written.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use proctor_sandbox::spec::Mount;

use super::state_dirs::{Place, StateDirs};
use super::{guard, signing, view};
use crate::changes::classify::ChangeRules;
use crate::changes::gitview::{GitView, OBJECTS_INSIDE, git_view};
use crate::changes::globs::{GlobError, GlobList};
use crate::changes::repo::Repo;
use crate::engine::{self, Engine, Start};
use crate::evidence::sign::Signer;
use crate::profile::{HostEnv, MountMode, MountRule, Resolved, RunOptions};

/// A run that is ready to start.
pub struct Plan {
    /// Options and engine profile.
    pub resolved: Resolved,
    /// The work tree's repository, open.
    pub repo: Repo,
    /// Rules for changes.
    pub rules: ChangeRules,
    /// Hidden paths.
    pub hide: GlobList,
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// How its backend is started.
    pub start: Start,
    /// The private `.git`.
    pub git: GitView,
    /// Proctor's own directories.
    pub dirs: StateDirs,
    /// Where the evidence goes.
    pub evidence: PathBuf,
    /// What signs the evidence.
    pub signer: Option<Signer>,
    /// Paths that the backend looks for in vain are told of, at a cost.
    pub learning: bool,
    /// The operator's home directory.
    pub home: Option<PathBuf>,
    /// Mounts of the backend's sandbox.
    pub backend_mounts: Vec<Mount>,
    /// Mounts of the test's sandbox.
    pub test_mounts: Vec<Mount>,
    /// Mounts of the reviewer's sandbox.
    pub review_mounts: Vec<Mount>,
}

/// Something that the person who started the run must change.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(pub String);

fn fail<T>(text: impl std::fmt::Display) -> Result<T, PlanError> {
    Err(PlanError(text.to_string()))
}

fn error(e: impl std::fmt::Display) -> PlanError {
    PlanError(e.to_string())
}

impl Plan {
    /// Checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong, with what to do about it.
    pub fn new(resolved: Resolved, env: &HostEnv, run_id: &str) -> Result<Self, PlanError> {
        let options = &resolved.options;
        let Some(dirs) = StateDirs::new(env) else {
            return fail(
                "neither XDG_STATE_HOME nor HOME is set: there is no place for Proctor's state; set one of them",
            );
        };
        let repo = Repo::open(&options.repo).map_err(error)?;
        let globs = compile_globs(options)?;
        let Some(engine) = engine::find(&options.engine) else {
            return fail(format!("the engine {} has no adapter in this version", options.engine));
        };
        let start = engine.start(options).map_err(error)?;
        let evidence = match &options.evidence {
            Some(path) => std::path::absolute(path).map_err(error)?,
            None => dirs.run(run_id),
        };
        let places = Places::new(&repo, &dirs, &evidence)?;
        places.check_tree()?;
        let backend: Vec<MountRule> = options.mounts.iter().chain(&resolved.engine.mounts).cloned().collect();
        // The three lists have nearly everything in common: each rule is looked at once.
        let all = [&backend, &options.test_sandbox.mounts, &options.review_sandbox.mounts];
        let mut checked = Vec::new();
        for rule in all.into_iter().flatten() {
            if !checked.contains(&rule) {
                places.check_mount(rule)?;
                checked.push(rule);
            }
        }
        places.check_object_dirs(&repo, &backend)?;
        let git = git_view(&repo).map_err(error)?;
        places.check_objects(&git.object_dirs)?;
        let named = env.credentials();
        let mounts = |rules: &[MountRule]| -> Result<Vec<Mount>, PlanError> {
            let mut all = view::mounts(rules).map_err(error)?;
            all.extend(guard::masks(&all, env.home().as_deref(), &named).map_err(error)?);
            for (number, dir) in git.object_dirs.iter().enumerate() {
                all.push(Mount::Bind {
                    source: dir.clone(),
                    target: PathBuf::from(format!("{OBJECTS_INSIDE}/{number}")),
                    writable: false,
                });
            }
            Ok(all)
        };
        let mut backend_mounts = mounts(&backend)?;
        backend_mounts.extend(start.mounts.iter().cloned());
        let test_mounts = mounts(&options.test_sandbox.mounts)?;
        let review_mounts = mounts(&options.review_sandbox.mounts)?;
        let signer = match &options.sign {
            Some(path) => {
                let trees: Vec<&Path> = places.tree.iter().map(|(path, _)| path.as_path()).collect();
                let shown = [&backend_mounts, &test_mounts, &review_mounts];
                Some(signing::signer(path, &trees, &shown, &places.points)?)
            }
            None => None,
        };
        let (rules, hide) =
            globs.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(error)?;
        Ok(Self {
            repo,
            rules,
            hide,
            engine,
            start,
            git,
            dirs,
            evidence,
            signer,
            learning: false,
            home: env.home(),
            backend_mounts,
            test_mounts,
            review_mounts,
            resolved,
        })
    }
}

impl Plan {
    /// Host paths that a sandbox of this run can write.
    pub fn writable(&self) -> Vec<PathBuf> {
        let all = [&self.backend_mounts, &self.test_mounts, &self.review_mounts];
        all.into_iter()
            .flatten()
            .filter_map(|mount| match mount {
                Mount::Bind { source, writable: true, .. } => Some(source.clone()),
                _ => None,
            })
            .collect()
    }
}

/// Rules for changes, and hidden paths.
type Globs = Result<(ChangeRules, GlobList), GlobError>;

/// Compiles the globs beside the rest of the plan: their automata take a quarter of the time before a run starts.
fn compile_globs(options: &RunOptions) -> Result<JoinHandle<Globs>, PlanError> {
    let (changes, hide) = (options.changes.clone(), options.hide.clone());
    let compile = move || Ok((ChangeRules::new(&changes, &hide)?, GlobList::new(&hide)?));
    std::thread::Builder::new().name("globs".into()).spawn(compile).map_err(error)
}

/// What a mount is held against, each looked at once.
struct Places<'a> {
    root: &'a Path,
    root_place: Place,
    evidence: (PathBuf, Place),
    own: Vec<(PathBuf, Place)>,
    /// What a writable mount must not reach: the work tree and its repository.
    tree: Vec<(PathBuf, Place)>,
    /// Where something is mounted on this host.
    points: Vec<PathBuf>,
}

/// Names at the top of an object directory: fan-out, `pack`, `info`, and what git leaves while it works.
fn is_object_name(name: &[u8]) -> bool {
    (name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit))
        || name == b"pack"
        || name == b"info"
        || name.starts_with(b"tmp_")
        || name.ends_with(b".lock")
}

impl<'a> Places<'a> {
    /// Alternates name directories of the host, in a file that came with the repository: only what is an object
    /// directory is shown (gitrepository-layout(5)).
    fn check_objects(&self, object_dirs: &[PathBuf]) -> Result<(), PlanError> {
        // The first is the repository's own.
        for dir in object_dirs.iter().skip(1) {
            let shown = dir.display();
            let place = Place::of(dir).map_err(error)?;
            if let Some((own, _)) = self.own.iter().find(|(_, own)| own.overlaps(&place)) {
                return fail(format!(
                    "the repository's objects/info/alternates names {shown}, which would show Proctor's own {}; remove that line",
                    own.display()
                ));
            }
            for entry in std::fs::read_dir(dir).map_err(error)? {
                let name = entry.map_err(error)?.file_name();
                if !is_object_name(name.as_encoded_bytes()) {
                    return fail(format!(
                        "the repository's objects/info/alternates names {shown}, which is no git object directory: it holds {name:?}; remove that line"
                    ));
                }
            }
        }
        Ok(())
    }

    fn new(repo: &'a Repo, dirs: &StateDirs, evidence: &Path) -> Result<Self, PlanError> {
        let place = |path: PathBuf| -> Result<(PathBuf, Place), PlanError> {
            let place = Place::of(&path).map_err(|e| error(format_args!("{}: {e}", path.display())))?;
            Ok((path, place))
        };
        let root = repo.root_path();
        let (_, root_place) = place(root.to_owned())?;
        let mut tree = repo.protected_dirs();
        tree.push(root.to_owned());
        Ok(Self {
            root,
            root_place,
            evidence: place(evidence.to_owned())?,
            own: dirs.own().into_iter().map(place).collect::<Result<_, _>>()?,
            tree: tree.into_iter().map(place).collect::<Result<_, _>>()?,
            points: guard::mount_points().map_err(error)?,
        })
    }

    fn check_tree(&self) -> Result<(), PlanError> {
        // The state directory first: it is where evidence goes that was given no place.
        for (own, place) in &self.own {
            if self.root_place.overlaps(place) {
                return fail(format!(
                    "the work tree {} overlaps Proctor's own directory {}; set XDG_STATE_HOME and XDG_CONFIG_HOME to places outside of it",
                    self.root.display(),
                    own.display()
                ));
            }
        }
        let (evidence, place) = &self.evidence;
        if self.root_place.overlaps(place) {
            return fail(format!(
                "the evidence directory {} and the work tree {} overlap: a backend could read or imitate evidence; give another place with --evidence DIR",
                evidence.display(),
                self.root.display()
            ));
        }
        Ok(())
    }

    /// Object directories are shown in every sandbox. Those that alternates name outside of the repository were chosen
    /// by whoever made it; only what the operator mounts anyway is shown.
    fn check_object_dirs(&self, repo: &Repo, rules: &[MountRule]) -> Result<(), PlanError> {
        for dir in repo.object_dirs() {
            let shown = dir.display();
            let place = Place::of(dir).map_err(|e| error(format_args!("{shown}: {e}")))?;
            for (own, own_place) in self.own.iter().chain([&self.evidence]) {
                if place.overlaps(own_place) {
                    return fail(format!(
                        "the object directory {shown} overlaps Proctor's own {}: state, configuration and evidence are never shown; use a clone with objects of its own (`git repack -a -d`, then remove objects/info/alternates)",
                        own.display()
                    ));
                }
            }
        }
        for dir in repo.foreign_object_dirs() {
            let shows = |rule: &&MountRule| matches!(rule.mode, MountMode::Ro | MountMode::Overlay);
            let named = rules.iter().filter(shows).any(|rule| {
                Place::of(&rule.path)
                    .is_ok_and(|place| place.real().is_some_and(|real| dir.starts_with(real)))
            });
            if !named {
                let shown = dir.display();
                return fail(format!(
                    "{} leads to the object directory {shown}, outside of the repository, and a sandbox would see it; if that is meant, say so with --ro {shown}",
                    repo.common_dir().join("objects/info/alternates").display()
                ));
            }
        }
        Ok(())
    }

    fn check_mount(&self, rule: &MountRule) -> Result<(), PlanError> {
        // Nothing of the host's is shown there.
        if rule.mode == MountMode::Private {
            return Ok(());
        }
        let shown = rule.path.display();
        // What is not there is reported with its option's own words when the mounts are made, or left out there.
        let Ok(place) = Place::of(&rule.path) else {
            return Ok(());
        };
        let Some(real) = place.real().map(Path::to_owned) else {
            return Ok(());
        };
        let mut seen = vec![place];
        // A recursive bind shows what is mounted below it as well, under whatever name it is known elsewhere. A mount
        // point that this user cannot look at, the backend cannot look into either.
        if rule.mode != MountMode::Overlay {
            let below = self.points.iter().filter(|p| **p != real && p.starts_with(&real));
            seen.extend(below.filter_map(|p| Place::of(p).ok()));
        }
        for seen in &seen {
            for (own, own_place) in self.own.iter().chain([&self.evidence]) {
                if seen.overlaps(own_place) {
                    return fail(format!(
                        "the mount {shown} would show Proctor's own {}: state, configuration and evidence are never shown; mount something narrower, or move them with XDG_STATE_HOME, XDG_CONFIG_HOME or --evidence",
                        own.display()
                    ));
                }
            }
            for (tree, tree_place) in self.tree.iter().filter(|(_, place)| seen.overlaps(place)) {
                if rule.mode == MountMode::Rw {
                    return fail(format!(
                        "the writable mount {shown} overlaps {}: a backend could write past the overlay into the real repository; mount something narrower",
                        tree.display()
                    ));
                }
                let by_name = match (seen.real(), tree_place.real()) {
                    (Some(seen), Some(tree)) => tree.starts_with(seen) || seen.starts_with(tree),
                    _ => false,
                };
                if !by_name {
                    return fail(format!(
                        "the mount {shown} would show {} under a second name ({}), where nothing is hidden; mount something narrower",
                        tree.display(),
                        seen.real().unwrap_or(&rule.path).display()
                    ));
                }
            }
        }
        if real.starts_with(self.root) {
            return fail(format!(
                "the mount {shown} is inside the work tree, which is there already; leave the option out"
            ));
        }
        Ok(())
    }
}
