//! Reading what a dead backend left: the layer as a change set, its patch, what was done to `.git`, secrets in content.
//! A plain function over the plan and a descriptor, so that it can run on a thread of its own.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::confined::Copied;
use super::plan::Plan;
use super::settle;
use crate::changes::classify::{Caps, ChangeSet, collect};
use crate::changes::gitview::touched;
use crate::changes::layer::Changed;
use crate::changes::patch::write::{PatchError, PatchInfo, write_patch};
use crate::evidence::PATCH;
use crate::evidence::secrets::SecretScanner;
use crate::report::GitChanges;
use crate::verdict::SecretFinding;

/// What a dead sandbox left.
pub(super) enum Layer {
    /// An overlay's upper layer.
    Upper(OwnedFd),
    /// A private copy.
    Copied(Arc<Copied>),
}

/// What was read.
pub(super) struct Reading {
    /// What the backend did to its private `.git`.
    pub(super) git_changes: GitChanges,
    /// The changes, or why they cannot be told.
    pub(super) set: Result<ChangeSet, String>,
    /// The patch; `None` where there is none or it is too large.
    pub(super) patch: Option<(Vec<u8>, PatchInfo)>,
    /// Limits that were passed: what, how much, and the option that raises it.
    pub(super) limits: Vec<(String, u64, Option<String>)>,
    /// Secrets that changed files hold: the patch may carry them compressed, where no search of it finds anything.
    pub(super) secrets: Vec<SecretFinding>,
}

/// Reads the layer. Bounded by the run's limits, and called when nothing writes it any more.
pub(super) fn read(plan: &Plan, layer: &Layer, scanner: &SecretScanner) -> Reading {
    let limits = &plan.resolved.options.limits;
    let mut reading = Reading {
        git_changes: GitChanges::default(),
        set: Err(String::new()),
        patch: None,
        limits: Vec::new(),
        secrets: Vec::new(),
    };
    let (changed, git) = match layer {
        Layer::Upper(layer) => (Changed::Upper(layer.as_fd()), &plan.git),
        Layer::Copied(copied) => (Changed::Copy(copied.tree.as_fd(), &copied.manifest), &copied.git),
    };
    match touched(git, changed.root()) {
        Ok(found) => {
            reading.git_changes = GitChanges {
                count: found.count,
                paths: found.paths.iter().map(|p| settle::path_text(p)).collect(),
            };
        }
        Err(error) => {
            reading.set = Err(error.to_string());
            return reading;
        }
    }
    let caps = Caps::new(limits.max_files, limits.max_patch);
    let set = match collect(&plan.repo, changed, &plan.rules, &caps) {
        Ok(set) => set,
        Err(error) => {
            if let Some((what, limit, option)) = error.limit() {
                reading.limits.push((what.to_owned(), limit, option.map(str::to_owned)));
            }
            reading.set = Err(error.to_string());
            return reading;
        }
    };
    let mut patch = Vec::new();
    let mut secrets = BTreeSet::new();
    let mut search = |content: &[u8]| {
        let mut stream = scanner.stream();
        stream.feed(content);
        secrets.extend(stream.found());
    };
    match write_patch(&plan.repo, &set, limits.max_patch, &mut patch, &mut search) {
        Ok(info) => reading.patch = Some((patch, info)),
        // What was changed is known and is judged all the same; it is no result.
        Err(PatchError::TooLarge { .. }) => {
            reading.limits.push(("patch".into(), limits.max_patch, Some("--max-patch".into())));
        }
        Err(error) => {
            reading.set = Err(error.to_string());
            return reading;
        }
    }
    reading.secrets =
        secrets.into_iter().map(|secret| SecretFinding { artifact: PATCH.to_owned(), secret }).collect();
    reading.set = Ok(set);
    reading
}
