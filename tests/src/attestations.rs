//! The independent implementation of in-toto and DSSE that signed evidence is held against: installed once by
//! `tests/attestations/install.sh`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::agents::{locked_place, script, source};

static SITE: OnceLock<PathBuf> = OnceLock::new();

/// What it says of an evidence directory and a public key (`tests/attestations/verify.py`), run as the suite's own user: whoever verifies is somebody else.
pub fn in_toto(evidence: &Path, key: &Path) -> Output {
    let site = SITE.get_or_init(|| {
        let (place, _lock) = locked_place();
        let dir = place.join("attestations");
        script("attestations/install.sh", &[&dir]);
        dir.join("site")
    });
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", site).env("PYTHONDONTWRITEBYTECODE", "1").arg("-s");
    command.arg(source().join("attestations/verify.py")).arg(evidence).arg(key);
    command.output().expect("starting python3")
}
