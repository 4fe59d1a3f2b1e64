//! What level `landlock` shows: every rule of its ruleset, added in the launcher, because there are no mounts to wait
//! for. Landlock cannot deny below what it allows, so what is masked is left out: its directory is not granted as a
//! whole, but everything else in it is.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::fstat;

use crate::error::{LaunchError, Step, StepError};
use crate::inside::DEVICES;
use crate::landlock::Domain;
use crate::spec::{Mount, SandboxSpec, masks_a_directory};

/// Rules of one sandbox.
const MAX_RULES: usize = 10_000;

struct Grants<'a> {
    domain: &'a Domain,
    /// With their places in the view: a mask is about what was shown before it.
    masks: Vec<(usize, &'a PathBuf)>,
    rules: usize,
}

/// Adds the rules that `spec` asks for.
///
/// # Errors
/// A path is not there, is reached through a link, or there are too many.
pub(crate) fn add(spec: &SandboxSpec, domain: &Domain) -> Result<(), LaunchError> {
    let masks = spec.view.iter().enumerate().filter_map(|(place, mount)| match mount {
        Mount::Mask { target } => Some((place, target)),
        _ => None,
    });
    let mut grants = Grants { domain, masks: masks.collect(), rules: 0 };
    grants.allow(Path::new("/proc"), domain.read)?;
    for name in DEVICES {
        grants.allow(&Path::new("/dev").join(name), domain.device)?;
    }
    for (place, mount) in spec.view.iter().enumerate() {
        match mount {
            Mount::Bind { source, writable, .. } => {
                grants.masks.retain(|mask| mask.0 > place);
                grants.around_masks(source, if *writable { domain.write } else { domain.read })?;
            }
            Mount::Private { target, .. } => grants.allow(target, domain.write)?,
            Mount::Mask { .. } => {}
            // Refused before: nothing of the kind can be made here.
            Mount::Overlay { .. } | Mount::Symlink { .. } => {}
        }
    }
    if let Some(tree) = &spec.tree {
        let at = |step: Step| move |errno: Errno| StepError::new(step, tree.path.to_string_lossy(), errno);
        // What was checked is what is allowed: one descriptor for both.
        let dir = open(&tree.path)?;
        let stat = fstat(&dir).map_err(at(Step::OpenSource))?;
        if (stat.st_dev, stat.st_ino) != (tree.dev, tree.ino) {
            return Err(at(Step::SourceChanged)(Errno::ESTALE).into());
        }
        let access = if tree.writable { domain.write } else { domain.read };
        domain.allow(dir.as_fd(), access).map_err(at(Step::LandlockRule))?;
    }
    Ok(())
}

/// A path without links on the way.
fn open(path: &Path) -> Result<OwnedFd, LaunchError> {
    let c_path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| LaunchError::Spec(format!("path {} has a NUL byte", path.display())))?;
    crate::child::open_source(&c_path)
        .map_err(|errno| StepError::new(Step::OpenSource, path.to_string_lossy(), errno).into())
}

impl Grants<'_> {
    fn allow(&mut self, path: &Path, access: u64) -> Result<(), LaunchError> {
        self.rules += 1;
        if self.rules > MAX_RULES {
            return Err(LaunchError::Spec(format!(
                "more than {MAX_RULES} rules are needed to show everything but what is masked; show less"
            )));
        }
        let fd = open(path)?;
        self.domain
            .allow(fd.as_fd(), access)
            .map_err(|errno| StepError::new(Step::LandlockRule, path.to_string_lossy(), errno))?;
        Ok(())
    }

    fn around_masks(&mut self, path: &Path, access: u64) -> Result<(), LaunchError> {
        if self.masks.iter().any(|mask| path.starts_with(mask.1)) {
            return Ok(());
        }
        let mut within = self.masks.iter().filter(|mask| mask.1.starts_with(path)).peekable();
        if within.peek().is_none() {
            return self.allow(path, access);
        }
        // A right to list is one for everything beneath: names of masked files may be seen, those in a directory not.
        if !within.any(|mask| masks_a_directory(mask.1)) {
            self.allow(path, self.domain.list)?;
        }
        let failed = |e: std::io::Error| {
            let errno = Errno::from_raw(e.raw_os_error().unwrap_or(0));
            LaunchError::from(StepError::new(Step::OpenSource, path.to_string_lossy(), errno))
        };
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // What a link leads to is granted where it is, or not at all.
            if !entry.file_type().map_err(failed)?.is_symlink() {
                self.around_masks(&entry.path(), access)?;
            }
        }
        Ok(())
    }
}
