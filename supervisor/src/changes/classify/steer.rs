//! Which files steer tests: a change to them is no fault, but a pass says less, and the report names them.

use crate::changes::tree::split;

/// Names of files that decide how a project is built and tested, lower case.
const NAMES: &[&str] = &[
    "makefile",
    "gnumakefile",
    "justfile",
    ".justfile",
    "taskfile.yml",
    "taskfile.yaml",
    "rakefile",
    "dockerfile",
    "cmakelists.txt",
    "meson.build",
    "build.ninja",
    "configure",
    "configure.ac",
    "build",
    "build.bazel",
    "workspace",
    "workspace.bazel",
    "module.bazel",
    ".bazelrc",
    "build.rs",
    "cargo.toml",
    "cargo.lock",
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "bun.lock",
    "bun.lockb",
    "deno.json",
    "deno.jsonc",
    "deno.lock",
    "tsconfig.json",
    "turbo.json",
    "nx.json",
    "lerna.json",
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "tox.ini",
    "noxfile.py",
    "pytest.ini",
    ".pytest.ini",
    "conftest.py",
    ".coveragerc",
    "pipfile",
    "pipfile.lock",
    "poetry.lock",
    "uv.lock",
    "pdm.lock",
    "environment.yml",
    "go.mod",
    "go.sum",
    "go.work",
    "go.work.sum",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "settings.gradle",
    "settings.gradle.kts",
    "gradle.properties",
    "gradle.lockfile",
    "gradlew",
    "mvnw",
    "build.sbt",
    "gemfile",
    "gemfile.lock",
    ".rspec",
    "composer.json",
    "composer.lock",
    "phpunit.xml",
    "phpunit.xml.dist",
    "mix.exs",
    "mix.lock",
    "rebar.config",
    "rebar.lock",
    "stack.yaml",
    "stack.yaml.lock",
    "cabal.project",
    "dune",
    "dune-project",
    "package.swift",
    "package.resolved",
    "pubspec.yaml",
    "pubspec.lock",
    "build.zig",
    "build.zig.zon",
    "flake.nix",
    "flake.lock",
    "default.nix",
    "shell.nix",
    "bunfig.toml",
    ".babelrc",
    ".swcrc",
    ".taprc",
    "hatch.toml",
    "pixi.toml",
    "pixi.lock",
    "sitecustomize.py",
    "usercustomize.py",
    "karma.conf.js",
    "nextest.toml",
    "sonar-project.properties",
    "directory.build.props",
    "directory.packages.props",
    "global.json",
];

/// Modules that a test runner of Python is, or loads first: one at the top of the tree stands in its place.
const SHADOWS: &[&str] =
    &["pytest", "_pytest", "unittest", "doctest", "nose", "nose2", "tox", "nox", "coverage", "pluggy"];

/// Names of directories of tests, or of what builds them, lower case.
const DIRS: &[&str] = &[
    "test",
    "tests",
    "testing",
    "spec",
    "specs",
    "__tests__",
    "__mocks__",
    "__snapshots__",
    "testdata",
    "test_data",
    "fixtures",
    "e2e",
    "integration_tests",
    "integration-tests",
    "snapshots",
    "golden",
    "cypress",
    "playwright",
    ".mvn",
    "buildsrc",
    "gradle",
];

/// True where a change to `path` may decide what the test command does or finds.
pub(crate) fn steers_tests(path: &[u8]) -> bool {
    let lower = path.to_ascii_lowercase();
    let (dir, name) = split(&lower);
    if dir.split(|b| *b == b'/').any(|d| DIRS.iter().any(|n| n.as_bytes() == d)) {
        return true;
    }
    let top = lower.split(|b| *b == b'/').next().unwrap_or(&[]);
    if SHADOWS.iter().any(|n| n.as_bytes() == top.strip_suffix(b".py").unwrap_or(top)) {
        return true;
    }
    let name = String::from_utf8_lossy(name);
    let stem = name.split('.').next().unwrap_or("");
    let words =
        |text: &str| text.split(['_', '-']).any(|w| matches!(w, "test" | "tests" | "spec" | "conftest"));
    NAMES.contains(&name.as_ref())
        || words(stem)
        || name.split('.').skip(1).any(words)
        || stem.ends_with("test") && stem.len() > 4 && has_upper_test(path)
        || stem.ends_with("tests") && has_upper_test(path)
        || [
            "jest.config.",
            "vitest.config.",
            "vite.config.",
            "playwright.config.",
            "cypress.config.",
            "babel.config.",
            "webpack.config.",
            "rollup.config.",
            "ava.config.",
            "vitest.workspace.",
            "jest.setup.",
            ".mocharc.",
            ".nycrc",
            ".babelrc.",
            ".c8rc",
            "requirements",
        ]
        .iter()
        .any(|p| name.starts_with(p))
        || [
            ".mk", ".cmake", ".gradle", ".csproj", ".fsproj", ".sln", ".vcxproj", ".bzl", ".gemspec",
            ".cabal", ".snap",
        ]
        .iter()
        .any(|s| name.ends_with(s))
}

/// `FooTest.java` is a test, `latest.txt` is none.
fn has_upper_test(path: &[u8]) -> bool {
    path.windows(4).any(|w| w == b"Test")
}

#[cfg(test)]
mod tests {
    use super::steers_tests;

    #[test]
    fn test_files_build_files_and_locks_are_known() {
        for yes in [
            "tests/a.rs",
            "src/foo_test.go",
            "a/test_x.py",
            "a/x.test.ts",
            "x.spec.js",
            "FooTest.java",
            "FooTests.cs",
            "conftest.py",
            "Makefile",
            "crates/a/Cargo.toml",
            "package-lock.json",
            "jest.config.mjs",
            "requirements-dev.txt",
            ".mocharc.cjs",
            "bunfig.toml",
            ".babelrc",
            ".babelrc.json",
            ".swcrc",
            "hatch.toml",
            "pixi.toml",
            "vitest.workspace.ts",
            ".taprc",
            "jest.setup.ts",
            ".nycrc.json",
            "a/sitecustomize.py",
            "usercustomize.py",
            "pytest.py",
            "pytest/__init__.py",
            "unittest.py",
            ".mvn/maven.config",
            "buildSrc/src/x.kt",
            "gradle/wrapper/gradle-wrapper.properties",
            "tox.ini",
            "noxfile.py",
            "setup.cfg",
            "pyproject.toml",
            "build.rs",
        ] {
            assert!(steers_tests(yes.as_bytes()), "{yes}");
        }
        for no in [
            "src/main.rs",
            "latest.txt",
            "docs/contest.md",
            "src/protest.rs",
            "README.md",
            "attestation.rs",
            "src/unittest.py",
            "pytest.md",
        ] {
            assert!(!steers_tests(no.as_bytes()), "{no}");
        }
    }
}
