//! Paths that are protected, and paths that are hidden, unless a profile lifts single ones: data, with reasons.
//! How globs match is not here (`changes`).

use std::sync::LazyLock;

use super::error::Bad;

/// Paths that are protected for one reason.
#[derive(Debug, Clone, Copy)]
pub struct ProtectGroup {
    /// Why a change there is not a backend's to make; follows "it".
    pub reason: &'static str,
    /// Git-style globs, matched case-folded. Each holds at any depth and for all beneath: tools look for these names
    /// in every directory.
    pub globs: &'static [&'static str],
}

/// Paths where a change makes something else run or obey: a change to one of them is disallowed whatever is allowed.
pub const PROTECT_GROUPS: &[ProtectGroup] = &[
    ProtectGroup {
        reason: "runs with the CI system's credentials",
        globs: &[
            ".github",
            ".gitlab-ci.yml",
            ".gitlab",
            ".circleci",
            "Jenkinsfile*",
            ".travis.yml",
            "azure-pipelines.yml",
            ".azure-pipelines",
            ".azure",
            "bitbucket-pipelines.yml",
            ".buildkite",
            ".drone.yml",
            ".drone.star",
            ".woodpecker.yml",
            ".woodpecker",
            ".teamcity",
            ".cirrus.yml",
            ".cirrus.star",
            "appveyor.yml",
            ".appveyor.yml",
            ".forgejo",
            ".gitea",
            ".semaphore",
            "cloudbuild.yaml",
            "cloudbuild.yml",
            "buildspec.yml",
            ".tekton",
        ],
    },
    ProtectGroup {
        reason: "changes what git compares, ignores, fetches or runs",
        globs: &[
            ".gitattributes",
            ".gitmodules",
            ".gitignore",
            ".gitconfig",
            ".lfsconfig",
            ".git-blame-ignore-revs",
        ],
    },
    ProtectGroup {
        reason: "runs on the developer's machine at the next git command",
        globs: &[
            ".husky",
            ".githooks",
            ".git-hooks",
            ".pre-commit-config.yaml",
            ".pre-commit-config.yml",
            ".pre-commit-hooks.yaml",
            "lefthook.*",
            ".lefthook.*",
            "lefthook-local.*",
            ".lefthook-local.*",
            ".lefthook",
            ".lefthook-local",
            ".overcommit.yml",
            ".lintstagedrc*",
            "lint-staged.config.*",
        ],
    },
    ProtectGroup {
        reason: "makes an editor, shell or package manager execute or obey it on opening the directory",
        globs: &[
            ".vscode",
            "*.code-workspace",
            ".idea",
            ".fleet",
            ".zed",
            ".vim",
            ".vimrc",
            ".nvimrc",
            ".exrc",
            ".nvim.lua",
            ".ideavimrc",
            ".dir-locals.el",
            ".dir-locals-2.el",
            ".devcontainer",
            ".devcontainer.json",
            ".gitpod.yml",
            ".envrc",
            "mise.toml",
            "mise.*.toml",
            ".mise.toml",
            ".mise.*.toml",
            ".mise",
            "**/.config/mise",
            ".tool-versions",
            ".npmrc",
            ".yarnrc*",
            ".yarn",
            ".pnpmfile.cjs",
            ".pnpmfile.mjs",
            "pnpmfile.js",
            "**/.cargo/config*",
            "rust-toolchain*",
            "pip.conf",
        ],
    },
    ProtectGroup {
        reason: "instructs or configures the next agent that works here",
        globs: &[
            ".claude",
            ".codex",
            ".pi",
            ".case",
            ".cursor",
            ".cursorrules",
            ".cursorignore",
            ".windsurf",
            ".windsurfrules",
            ".clinerules",
            ".roo*",
            ".gemini",
            ".aider*",
            ".continue",
            ".opencode",
            "opencode.json",
            "opencode.jsonc",
            ".kiro",
            ".agents",
            ".mcp.json",
            "AGENTS.md",
            "AGENTS.override.md",
            "CLAUDE.md",
            "CLAUDE.local.md",
            "GEMINI.md",
        ],
    },
    ProtectGroup { reason: "is policy for later runs", globs: &["proctor.toml", ".proctor"] },
];

/// The globs of all groups.
pub static BUILT_IN_PROTECT: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| PROTECT_GROUPS.iter().flat_map(|group| group.globs).copied().collect());

/// Git-style globs of paths that no sandbox shows.
pub const BUILT_IN_HIDE: &[&str] = &[".env*"];

/// Why a built-in protected glob is protected; `None` for a glob that is not built in.
pub fn protected_reason(glob: &str) -> Option<&'static str> {
    PROTECT_GROUPS.iter().find(|group| group.globs.contains(&glob)).map(|group| group.reason)
}

/// Finds the entry of a built-in list that `text` names: `.github`, `/.github`, `.github/**` and `**/.github/**` are
/// one.
pub fn lifted(list: &'static [&'static str], text: &str) -> Result<&'static str, Bad> {
    list.iter().copied().find(|entry| core(entry) == core(text)).ok_or_else(|| {
        Bad::new(format!(
            "`{}` is not in the built-in list, so there is nothing to lift",
            text.escape_debug()
        ))
        .near(text, list.iter().copied().map(core))
        .remedy("name one entry of the list exactly; `proctor explain` shows it")
    })
}

fn core(glob: &str) -> &str {
    let glob = glob.strip_prefix("**/").or_else(|| glob.strip_prefix('/')).unwrap_or(glob);
    glob.strip_suffix("/**").or_else(|| glob.strip_suffix('/')).unwrap_or(glob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_entries_can_be_named() {
        for text in [".vscode", ".vscode/**", "**/.vscode/**", ".vscode/"] {
            assert_eq!(lifted(&BUILT_IN_PROTECT, text), Ok(".vscode"));
        }
        assert_eq!(lifted(&BUILT_IN_PROTECT, "AGENTS.md"), Ok("AGENTS.md"));
        let error = lifted(&BUILT_IN_PROTECT, ".vscod").unwrap_err();
        assert_eq!(error.nearest.as_deref(), Some(".vscode"));
        for all in ["**", "**/**", "*", ""] {
            assert!(lifted(&BUILT_IN_PROTECT, all).is_err(), "nothing lifts the whole list");
        }
    }

    #[test]
    fn the_list_holds_no_glob_twice_and_a_reason_for_each() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in BUILT_IN_PROTECT.iter().chain(BUILT_IN_HIDE) {
            assert!(seen.insert(core(entry)), "{entry}");
        }
        for entry in BUILT_IN_PROTECT.iter() {
            assert!(protected_reason(entry).is_some_and(|reason| !reason.is_empty()), "{entry}");
        }
    }
}
