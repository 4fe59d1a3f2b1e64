//! The independent implementations of in-toto, DSSE and OTLP that evidence is held against: installed once by
//! `tests/attestations/install.sh`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::agents::{locked_place, script, source};

static SITE: OnceLock<PathBuf> = OnceLock::new();

/// What it says of an evidence directory and a public key (`tests/attestations/verify.py`), run as the suite's own user: whoever verifies is somebody else.
pub fn in_toto(evidence: &Path, key: &Path) -> Output {
    let mut command = python("verify.py");
    command.arg(evidence).arg(key);
    command.output().expect("starting python3")
}

/// What OpenTelemetry's own types make of a trace (`tests/attestations/otlp.py`).
pub fn opentelemetry(trace: &Path) -> Output {
    python("otlp.py").arg(trace).output().expect("starting python3")
}

fn python(program: &str) -> Command {
    let site = SITE.get_or_init(|| {
        let (place, _lock) = locked_place();
        let dir = place.join("attestations");
        script("attestations/install.sh", &[&dir]);
        dir.join("site")
    });
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", site).env("PYTHONDONTWRITEBYTECODE", "1").arg("-s");
    command.arg(source().join("attestations").join(program));
    command
}
