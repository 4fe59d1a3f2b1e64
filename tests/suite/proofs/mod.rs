//! Proofs of the sandbox: for each protection an attack that succeeds without it and fails inside a real run, as
//! root and as an ordinary user. `docs/threat-model.md` names them.
//!
//! Each attack is carried out twice by the same program (`tests/src/bin/probe`): by a plain process of the same user,
//! where it must succeed, and as the backend of a run, where it must not.

mod document;
mod kernel;
mod landlock;
mod layers;
mod limits;
mod masks;
mod network;
mod processes;
mod secrets;
mod start;
mod writes;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use harness::{Outcome, Proctor, TestRepo, User, World};
use tempfile::TempDir;

use crate::{binary, proctor};

/// Rules of `probe without` that take namespaces away as Docker's filter does, so that level `landlock` is what is left;
/// without a listener, of which there can be one.
pub(crate) const NO_NAMESPACES: [&str; 2] = ["clone3=ENOSYS", "clone:0&0x7e020000=EPERM"];

/// A call of the binary where level `landlock` is the most there is.
pub(crate) fn without_namespaces(world: &World, also: &[&str]) -> Proctor {
    let probe = probe().to_string_lossy();
    let mut wrapper = vec![&*probe, "without"];
    wrapper.extend(NO_NAMESPACES);
    wrapper.extend(also);
    wrapper.push("--");
    Proctor::through(&wrapper, binary(), world)
}

/// The probe where every user, and every sandbox that is shown its directory, can execute it.
pub(crate) fn probe() -> &'static Path {
    static PLACE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &PLACE
        .get_or_init(|| {
            let dir = tempfile::Builder::new().prefix("proctor-probe-").tempdir().expect("harness");
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("harness");
            let path = dir.path().join("probe");
            std::fs::copy(env!("CARGO_BIN_EXE_probe"), &path).expect("harness");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("harness");
            (dir, path)
        })
        .1
}

/// A repository and the options of its runs.
pub(crate) struct Proof<'w> {
    pub(super) world: &'w World,
    pub(crate) repo: TestRepo<'w>,
    options: Vec<String>,
    /// Runs have level `landlock`, for want of namespaces.
    confined: bool,
}

/// One attack: its words, what it comes to outside, what it must come to inside.
pub(super) type Row = (String, &'static str, &'static str);

/// A row.
pub(super) fn row(attack: impl Into<String>, outside: &'static str, inside: &'static str) -> Row {
    (attack.into(), outside, inside)
}

impl<'w> Proof<'w> {
    pub(crate) fn new(world: &'w World) -> Self {
        Self { world, repo: TestRepo::small(world), options: Vec::new(), confined: false }
    }

    /// Another one in the same world, with a repository beside.
    pub(super) fn new_beside(world: &'w World) -> Self {
        let repo = TestRepo::new(world, "beside", &[("src/value.txt", "broken\n"), ("README", "beside\n")]);
        Self { world, repo, options: Vec::new(), confined: false }
    }

    /// The same for level `landlock`.
    pub(crate) fn confined(world: &'w World) -> Self {
        Self::new(world).at_level_landlock()
    }

    /// The same runs at level `landlock`.
    pub(super) fn at_level_landlock(self) -> Self {
        Self { confined: true, ..self }.with(["--min-level", "landlock"])
    }

    /// Options for every run.
    #[must_use]
    pub(super) fn with<S: Into<String>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    pub(super) fn user(&self) -> User {
        self.world.user
    }

    /// A path in the world, as text.
    pub(super) fn path(&self, name: &str) -> String {
        self.world.path(name).to_string_lossy().into_owned()
    }

    /// A run whose backend is this command.
    pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Proctor {
        let proctor = if self.confined { without_namespaces(self.world, &[]) } else { proctor(self.world) };
        proctor
            .args(["run", "--no-test", "--mutation", "discard", "--repo"])
            .arg(self.repo.path())
            .arg("--ro")
            .arg(probe().parent().expect("harness"))
            .args(&self.options)
            .arg("--")
            .args(argv)
    }

    /// A run whose backend is this shell script; the script must end well, whatever is said of its changes.
    pub(crate) fn shell(&self, script: &str) -> Outcome {
        let outcome = self.command(["sh", "-c", script]).run();
        assert_eq!(outcome.report()["backend_exit_code"], 0, "{:?}: {script}: {outcome:#?}", self.user());
        outcome
    }

    /// What attacks come to inside, in order.
    pub(super) fn inside(&self, attacks: &[String]) -> Vec<String> {
        let argv = std::iter::once(probe().to_string_lossy().into_owned()).chain(attacks.iter().cloned());
        let outcome = self.command(argv).run();
        assert_eq!(outcome.report()["backend_exit_code"], 0, "{:?}: {outcome:#?}", self.user());
        self.level(&outcome);
        results(attacks, &outcome.text("backend.stdout.log"))
    }

    /// That a run had the level which is meant here.
    fn level(&self, outcome: &Outcome) {
        let level = if self.confined { "landlock" } else { "full" };
        assert_eq!(outcome.report()["sandbox"]["level"], level, "{:?}: {outcome:#?}", self.user());
    }

    /// What attacks come to in a plain process of this user.
    pub(super) fn outside(&self, attacks: &[String]) -> Vec<String> {
        let mut command = self.world.command(probe());
        let output = command.args(attacks).current_dir(self.repo.path()).output().expect("harness");
        results(attacks, &String::from_utf8_lossy(&output.stdout))
    }

    /// Carries out every attack outside, then inside, and asserts what each comes to.
    pub(super) fn prove(&self, rows: &[Row]) {
        let attacks: Vec<String> = rows.iter().map(|r| r.0.clone()).collect();
        // At level `landlock` the same files are meant: first inside, where nothing may come of it.
        let early = self.confined.then(|| self.inside(&attacks));
        let outside = self.outside(&attacks);
        let inside = early.unwrap_or_else(|| self.inside(&attacks));
        let mut wrong = Vec::new();
        for ((attack, want_out, want_in), (out, is_in)) in rows.iter().zip(outside.iter().zip(&inside)) {
            if !fits(want_out, out) {
                wrong.push(format!("{attack}: outside {out}, not {want_out}: the attack proves nothing"));
            }
            if !fits(want_in, is_in) {
                wrong.push(format!("{attack}: INSIDE {is_in}, not {want_in}"));
            }
        }
        assert!(wrong.is_empty(), "as {:?}:\n{}", self.user(), wrong.join("\n"));
    }

    /// Attacks that cannot be shown outside (they would harm the host, or there is nothing to attack): inside only.
    pub(super) fn refused(&self, rows: &[(String, &'static str)]) {
        let attacks: Vec<String> = rows.iter().map(|r| r.0.clone()).collect();
        let wrong: Vec<String> = rows
            .iter()
            .zip(self.inside(&attacks))
            .filter(|((_, want), got)| !fits(want, got))
            .map(|((attack, want), got)| format!("{attack}: {got}, not {want}"))
            .collect();
        assert!(wrong.is_empty(), "as {:?}:\n{}", self.user(), wrong.join("\n"));
    }
}

/// `want`: alternatives between `|`; `*` fits all; a `~` before a text looks for it anywhere.
pub(super) fn fits(want: &str, got: &str) -> bool {
    want.split('|')
        .any(|w| w == "*" || w == got || w.strip_prefix('~').is_some_and(|part| got.contains(part)))
}

fn results(attacks: &[String], text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), attacks.len(), "one line for each attack: {text}");
    attacks
        .iter()
        .zip(lines)
        .map(|(attack, line)| {
            let result = line.strip_prefix(attack.as_str()).and_then(|l| l.strip_prefix('\t'));
            result.unwrap_or_else(|| panic!("{line:?} does not answer {attack:?}")).to_owned()
        })
        .collect()
}
