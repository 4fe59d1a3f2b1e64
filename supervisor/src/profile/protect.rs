//! Paths that are protected, and paths that are hidden, unless a profile lifts single ones: data, with reasons.
//! How globs match is not here (`changes`).

use super::error::Bad;

/// Git-style globs, matched case-folded, of paths where a change makes something else run or obey:
/// a change to one of them is disallowed whatever is allowed.
pub const BUILT_IN_PROTECT: &[&str] = &[
    // Continuous integration: runs with the project's credentials.
    ".github/**",
    ".gitlab-ci.yml",
    ".gitlab/**",
    ".circleci/**",
    ".buildkite/**",
    ".forgejo/**",
    ".gitea/**",
    ".woodpecker/**",
    ".woodpecker.yml",
    ".drone.yml",
    ".travis.yml",
    ".cirrus.yml",
    "Jenkinsfile",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "appveyor.yml",
    // Git's own per-tree settings: filters, submodule URLs, what is seen at all.
    ".gitattributes",
    ".gitmodules",
    ".gitignore",
    // Tracked hook directories and hook managers.
    "**/.husky/**",
    "**/.githooks/**",
    ".pre-commit-config.yaml",
    "lefthook.yml",
    "lefthook.yaml",
    ".lefthook.yml",
    ".lefthook.yaml",
    "**/.lefthook/**",
    // Editors' and environments' settings that execute.
    "**/.vscode/**",
    "**/.idea/**",
    "**/.devcontainer/**",
    ".devcontainer.json",
    ".envrc",
    "mise.toml",
    ".mise.toml",
    "**/.mise/**",
    ".npmrc",
    ".yarnrc*",
    "**/.yarn/**",
    ".pnpmfile.cjs",
    "**/.cargo/config*",
    "rust-toolchain*",
    // Agents' settings and instructions.
    "**/.claude/**",
    "**/.codex/**",
    "**/.pi/**",
    "**/.case/**",
    "**/.cursor/**",
    ".cursorrules",
    "**/.gemini/**",
    ".mcp.json",
    "AGENTS.md",
    "CLAUDE.md",
    "GEMINI.md",
    // Proctor's own.
    "proctor.toml",
];

/// Git-style globs of paths that no sandbox shows.
pub const BUILT_IN_HIDE: &[&str] = &[".env*"];

/// Finds the entry of a built-in list that `text` names: exactly, or without its leading `**/`.
pub fn lifted(list: &'static [&'static str], text: &str) -> Result<&'static str, Bad> {
    let bare = |glob: &'static str| glob.strip_prefix("**/").unwrap_or(glob);
    list.iter().copied().find(|entry| *entry == text || bare(entry) == text).ok_or_else(|| {
        Bad::new(format!(
            "`{}` is not in the built-in list, so there is nothing to lift",
            text.escape_debug()
        ))
        .near(text, list.iter().copied().map(bare))
        .remedy("name one entry of the list exactly; `proctor explain` shows it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_entries_can_be_named() {
        assert_eq!(lifted(BUILT_IN_PROTECT, ".vscode/**"), Ok("**/.vscode/**"));
        assert_eq!(lifted(BUILT_IN_PROTECT, "**/.vscode/**"), Ok("**/.vscode/**"));
        assert_eq!(lifted(BUILT_IN_PROTECT, "AGENTS.md"), Ok("AGENTS.md"));
        let error = lifted(BUILT_IN_PROTECT, ".vscode").unwrap_err();
        assert_eq!(error.nearest.as_deref(), Some(".vscode/**"));
        assert!(lifted(BUILT_IN_PROTECT, "**").is_err(), "nothing lifts the whole list");
    }

    #[test]
    fn the_list_holds_no_glob_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in BUILT_IN_PROTECT.iter().chain(BUILT_IN_HIDE) {
            assert!(seen.insert(entry), "{entry}");
        }
    }
}
