//! Repositories of tests: real ones, made by the real git, owned by the user of their world.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::user::World;

/// A git work tree.
#[derive(Debug)]
pub struct TestRepo<'w> {
    world: &'w World,
    path: PathBuf,
}

impl<'w> TestRepo<'w> {
    /// A repository `name` with the given files in its first commit.
    pub fn new(world: &'w World, name: &str, files: &[(&str, &str)]) -> Self {
        let repo = Self { world, path: world.path(name) };
        std::fs::create_dir_all(&repo.path).expect("mkdir");
        world.user.own(&repo.path);
        repo.git(&["init", "-q", "-b", "main"]);
        for (name, content) in files {
            repo.write(name, content);
        }
        repo.commit("base");
        repo
    }

    /// The repository `name` that stands in the world already, and belongs to its user.
    pub fn existing(world: &'w World, name: &str) -> Self {
        Self { world, path: world.path(name) }
    }

    /// A small project: a file that says `broken`, a check that wants `mended`, an ignore file.
    pub fn small(world: &'w World) -> Self {
        Self::new(
            world,
            "repo",
            &[
                ("src/value.txt", "broken\n"),
                ("check.sh", "grep -qx mended src/value.txt\n"),
                (".gitignore", "target/\n"),
                ("README", "a small project\n"),
            ],
        )
    }

    /// Its top level.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The world it is in.
    pub fn world(&self) -> &'w World {
        self.world
    }

    /// Writes a file.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("mkdir");
            let mut dir = parent;
            while dir != self.path && dir.starts_with(&self.path) {
                self.world.user.own(dir);
                match dir.parent() {
                    Some(up) => dir = up,
                    None => break,
                }
            }
        }
        std::fs::write(&path, content).expect("write");
        self.world.user.own(&path);
    }

    /// Commits everything, with a fixed author and date.
    pub fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
    }

    fn command(&self) -> Command {
        let mut command = self.world.command("git");
        command.current_dir(&self.path).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "Test")
                .env(format!("GIT_{who}_EMAIL"), "test@example.invalid")
                .env(format!("GIT_{who}_DATE"), "2026-01-02T03:04:05Z");
        }
        command
    }

    /// Runs git here as the user; it must succeed. Gives its standard output, trimmed.
    pub fn git(&self, args: &[&str]) -> String {
        let output = self.try_git(args);
        assert!(
            output.status.success(),
            "git {args:?} in {}: {}",
            self.path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs git here as the user.
    pub fn try_git(&self, args: &[&str]) -> Output {
        self.command().args(args).output().expect("git")
    }
}
