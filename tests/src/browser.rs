//! The browser that opens reports in tests: Debian's, driven by scripts that `tests/browser/install.sh` installs once.
//!
//! What must not live here: what a page must show.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::agents::{locked_place, script};

static BROWSER: OnceLock<Browser> = OnceLock::new();

/// The installed scripts.
#[derive(Debug)]
pub struct Browser {
    dir: PathBuf,
}

impl Browser {
    /// Installs what is not there yet, which may need a network.
    pub fn installed() -> &'static Self {
        BROWSER.get_or_init(|| {
            let (place, _lock) = locked_place();
            let dir = place.join("browser");
            script("browser/install.sh", &[&dir]);
            Self { dir }
        })
    }

    /// Runs one of the scripts, as the suite's own user, with a home directory of its own.
    pub fn run(&self, name: &str, args: &[&Path]) -> Output {
        let home = tempfile::tempdir().expect("a home directory");
        let mut command = Command::new("node");
        command.arg(self.dir.join(name)).args(args).env("HOME", home.path());
        for variable in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"] {
            command.env_remove(variable);
        }
        command.output().expect("starting node")
    }
}
