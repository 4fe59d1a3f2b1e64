//! The key that signs a run's evidence: read before anything starts, and never where a sandbox of the run, or whoever
//! wrote the work tree, could reach it. Signs nothing itself.

use std::path::{Path, PathBuf};

use proctor_sandbox::spec::Mount;

use super::plan::PlanError;
use super::state_dirs::Place;
use crate::evidence::sign::Signer;

/// Reads the key, and refuses it where it lies in one of the `trees`, or in what one of the mounts shows. `points` is
/// where anything is mounted on this host.
pub(super) fn signer(
    path: &Path,
    trees: &[&Path],
    mounts: &[&Vec<Mount>],
    points: &[PathBuf],
) -> Result<Signer, PlanError> {
    let said = |text: String| PlanError(format!("--sign: {text}"));
    let signer = Signer::read(path).map_err(|error| said(error.to_string()))?;
    let shown = path.display();
    let key = Place::of(signer.real_path()).map_err(|error| said(format!("{shown}: {error}")))?;
    // By the descriptor that was read: what stands at the name by now may be another file.
    if key.id() != Some(signer.dev_ino()) {
        return Err(said(format!("the key file {shown} was replaced while it was read; try again")));
    }
    const MEND: &str = "keep it where nothing else is, for example below ~/.config/proctor";
    for tree in trees {
        let place = Place::of(tree).map_err(|error| said(format!("{}: {error}", tree.display())))?;
        if key.overlaps(&place) {
            return Err(said(format!(
                "the key file {shown} lies in {}, which the backend sees and which others get copies of; {MEND}",
                tree.display()
            )));
        }
    }
    for mount in mounts.iter().flat_map(|list| list.iter()) {
        let (Mount::Bind { source, .. } | Mount::Overlay { source, .. }) = mount else { continue };
        let place = Place::of(source).map_err(|error| said(format!("{}: {error}", source.display())))?;
        // What is mounted below a source is shown with it, under whatever name it is known elsewhere. What this user
        // cannot look at, the backend cannot look into either.
        let real = place.real().unwrap_or(source);
        let below = points.iter().filter(|at| *at != real && at.starts_with(real));
        if key.overlaps(&place) || below.filter_map(|at| Place::of(at).ok()).any(|place| key.overlaps(&place))
        {
            return Err(said(format!(
                "the key file {shown} lies in {}, which a sandbox of this run would show; {MEND}, or mount something narrower",
                source.display()
            )));
        }
    }
    Ok(signer)
}
