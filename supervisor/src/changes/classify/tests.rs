use super::*;
use crate::changes::testing::{Fixture, allow_all, globs};

fn names(set: &ChangeSet) -> Vec<String> {
    set.changes.iter().map(|c| format!("{} {}", c.kind.as_str(), show(&c.path))).collect()
}

fn rules_of(set: &ChangeSet) -> Vec<String> {
    set.disallowed.iter().map(|d| format!("{} {}", d.rule, show(&d.path))).collect()
}

fn built_in_protect() -> GlobList {
    let globs: Vec<String> =
        crate::profile::protect::BUILT_IN_PROTECT.iter().map(|g| (*g).to_owned()).collect();
    GlobList::case_folded(&globs).unwrap()
}

fn base() -> Fixture {
    let f = Fixture::new();
    f.write("a.txt", "one\ntwo\nthree\n");
    f.write("bin", b"\0\x01\x02binary");
    f.write("dir/x", "x\n");
    f.write("dir/sub/y", "y\n");
    f.write("dir.txt", "between\n");
    f.write("empty", "");
    f.write(".gitignore", "target/\n*.log\n!keep.log\n");
    std::os::unix::fs::symlink("a.txt", f.root().join("link")).unwrap();
    f.commit();
    f
}

#[test]
fn plain_changes_are_found_and_the_patch_gives_the_result_tree() {
    let f = base();
    f.up("a.txt", "one\n2\nthree");
    f.up("new/deep/file", "hello\n");
    f.up("bin", b"\0\x01other");
    f.up("empty2", "");
    f.whiteout("dir/x");
    f.whiteout("empty");
    f.up("dir.txt", "between\n");
    f.chmod("dir.txt", 0o755);
    f.link("link", "dir.txt");
    f.link("link2", "dir/sub");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(
        names(&set),
        [
            "modified a.txt",
            "modified bin",
            "mode_changed dir.txt",
            "deleted dir/x",
            "deleted empty",
            "added empty2",
            "modified link",
            "added link2",
            "added new/deep/file"
        ]
    );
    assert!(rules_of(&set).is_empty(), "{:?}", set.disallowed);
    let patch = f.check_patch(&set);
    assert!(patch.starts_with(b"diff --git a/a.txt b/a.txt\nindex "));
}

#[test]
fn a_copy_up_without_a_difference_is_no_change() {
    let f = base();
    f.up("a.txt", "one\ntwo\nthree\n");
    f.chmod("a.txt", 0o600);
    f.up("dir/x", "x\n");
    f.link("link", "a.txt");
    let set = f.collect(&allow_all()).unwrap();
    assert!(set.is_empty(), "{:?}", set.changes);
    assert_eq!(set.result_tree, f.repo().base_tree());
    f.check_patch(&set);
}

#[test]
fn directories_and_types_change() {
    let f = base();
    f.opaque("dir");
    f.up("dir/only", "new\n");
    f.up("a.txt/inner", "now a directory\n");
    f.link("bin", "empty");
    f.up("link", "now a file\n");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(
        names(&set),
        [
            "deleted a.txt",
            "added a.txt/inner",
            "type_changed bin",
            "added dir/only",
            "deleted dir/sub/y",
            "deleted dir/x",
            "type_changed link"
        ]
    );
    f.check_patch(&set);
    let f = base();
    f.whiteout("dir");
    f.up("dir.txt", "between\n");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(names(&set), ["deleted dir/sub/y", "deleted dir/x"]);
    f.check_patch(&set);
    let f = base();
    f.up("dir", "a file where a directory was\n");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(names(&set), ["added dir", "deleted dir/sub/y", "deleted dir/x"]);
    f.check_patch(&set);
}

#[test]
fn a_rename_is_paired_by_content() {
    let f = base();
    f.whiteout("a.txt");
    f.up("b/renamed.txt", "one\ntwo\nthree\n");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(names(&set), ["deleted a.txt", "added b/renamed.txt"]);
    assert_eq!(set.changes[1].renamed_from.as_deref(), Some(&b"a.txt"[..]));
    assert_eq!(set.changes[0].renamed_to.as_deref(), Some(&b"b/renamed.txt"[..]));
    f.check_patch(&set);
}

#[test]
fn ignored_means_by_the_base_alone() {
    let f = base();
    f.up("target/debug/out", "x");
    f.up("target/.git/config", "dropped with the rest");
    f.up("x.log", "log");
    f.up("keep.log", "kept");
    f.up(".gitignore", "*.hidden\n");
    f.up("evil.hidden", "is still a change");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(names(&set), ["modified .gitignore", "added evil.hidden", "added keep.log"]);
    let ignored: Vec<_> = set.ignored.iter().map(|i| (show(&i.path), i.kind, i.count)).collect();
    assert_eq!(ignored, [("target".to_owned(), "directory", 2), ("x.log".to_owned(), "file", 3)]);
    assert!(rules_of(&set).is_empty());
    f.check_patch(&set);
}

#[test]
fn what_git_cannot_or_must_not_hold_is_refused() {
    let f = base();
    f.up("sub/.git/config", "[core]\n");
    f.up("GIT~1", "x");
    f.up("x/.Git/hooks/pre-commit", "x");
    f.up("suid", "x");
    f.chmod("suid", 0o4755);
    f.up("fake/HEAD", "ref: refs/heads/x");
    f.up("fake/objects/a", "x");
    f.up("fake/refs/b", "x");
    rustix::fs::mknodat(
        f.layer(),
        "pipe",
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    std::os::unix::net::UnixListener::bind(f.upper().join("sock")).unwrap();
    f.up(".env.local", "KEY=1");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(
        rules_of(&set),
        [
            "hidden .env.local",
            "dot_git GIT~1",
            "git_directory fake",
            "fifo pipe",
            "socket sock",
            "dot_git sub/.git",
            "setuid suid",
            "dot_git x/.Git",
        ]
    );
}

#[test]
fn links_may_not_lead_out() {
    let f = base();
    for (path, target) in [
        ("abs", "/etc/passwd"),
        ("up", "../x"),
        ("d/up", "../../x"),
        ("git", ".git/config"),
        ("ign", "target/x"),
        ("hid", ".env"),
        ("loop", "loop"),
        ("ok", "dir/sub"),
        ("dangling", "nowhere/at/all"),
        ("via", "ok/../../../out"),
    ] {
        f.link(path, target);
    }
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(
        rules_of(&set),
        [
            "symlink abs",
            "symlink d/up",
            "symlink git",
            "symlink hid",
            "symlink ign",
            "symlink loop",
            "symlink up",
            "symlink via"
        ]
    );
}

#[test]
fn an_old_link_that_is_bent_outwards_is_refused() {
    let f = Fixture::new();
    f.write("d1/d2/f", "x");
    std::os::unix::fs::symlink("d1/d2/../../g", f.root().join("old")).unwrap();
    f.write("g", "g");
    f.commit();
    f.whiteout("d1/d2/f");
    std::fs::remove_dir_all(f.upper().join("d1/d2")).unwrap();
    f.link("d1/d2", "..");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(rules_of(&set), ["symlink old"]);
}

#[test]
fn globs_decide() {
    let f = base();
    f.up("a.txt", "changed\n");
    f.up("dir/x", "changed\n");
    f.up("AGENTS.MD", "obey\n");
    f.up("dir/secret.key", "k\n");
    let rules = ChangeRules {
        allow: globs(&["dir/**", "agents.md"]),
        deny: globs(&["*.key"]),
        ask: globs(&["dir"]),
        protect: built_in_protect(),
        hide: globs(&[]),
    };
    let set = f.collect(&rules).unwrap();
    assert_eq!(
        rules_of(&set),
        ["allow AGENTS.MD", "protect AGENTS.MD", "allow a.txt", "deny dir/secret.key"]
    );
    let protect = set.disallowed.iter().find(|d| d.rule == "protect").unwrap();
    assert_eq!(
        protect.message,
        "protected by AGENTS.md: it instructs or configures the next agent that works here"
    );
    assert_eq!(set.ask.len(), 2);
}

#[test]
fn content_is_compared_as_git_stores_it() {
    let f = Fixture::new();
    f.git(&["config", "core.autocrlf", "true"]);
    f.write(
        ".gitattributes",
        "*.lf text eol=lf\n*.id ident\n*.raw -text\n*.u16 text working-tree-encoding=UTF-16LE\n",
    );
    f.write("a.txt", "one\r\ntwo\r\n");
    f.write("b.lf", "x\n");
    f.write("c.id", "$Id$\n");
    f.write("d.raw", "r\r\n");
    f.write("e.u16", "h\0i\0\n\0");
    f.commit();
    f.up("a.txt", "one\ntwo\n");
    f.up("b.lf", "x\r\n");
    f.up("c.id", "$Id: 0123456789 $\n");
    f.up("d.raw", "r\r\n");
    f.up("e.u16", "h\0i\0\n\0");
    let set = f.collect(&allow_all()).unwrap();
    assert!(set.is_empty(), "{:?}", names(&set));
    f.up("a.txt", "one\r\n2\r\n");
    f.up("d.raw", "r\n");
    f.up("e.u16", "h\0o\0\n\0");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(names(&set), ["modified a.txt", "modified d.raw", "modified e.u16"]);
    f.check_patch(&set);
}

#[test]
fn filters_and_lfs_are_not_guessed() {
    let f = Fixture::new();
    f.write(".gitattributes", "*.enc filter=crypt\n*.big filter=lfs -text\n");
    f.write("a.enc", "stored\n");
    f.write("b.big", crate::changes::convert::lfs_pointer(b"content"));
    f.commit();
    // Checked out through a filter: the work tree has something else than the blob.
    f.write("a.enc", "plain\n");
    f.write("b.big", "content");
    f.up("a.enc", "plain\n");
    f.up("b.big", "content");
    let set = f.collect(&allow_all()).unwrap();
    assert!(set.is_empty() && set.disallowed.is_empty(), "{:?}", set);
    f.up("a.enc", "changed\n");
    f.up("b.big", "changed");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(rules_of(&set), ["filter a.enc", "lfs b.big"]);
}

#[test]
fn limits_are_typed() {
    use std::os::fd::AsFd;
    let f = base();
    for i in 0..20 {
        f.up(format!("f{i}"), "x");
    }
    let caps = Caps { max_files: 10, max_content: 1 << 20 };
    let error = collect(&f.repo(), Changed::Upper(f.layer().as_fd()), &allow_all(), &caps).unwrap_err();
    assert!(error.limit().is_some());
    assert_eq!(
        error.to_string(),
        "more than 10 files were changed, ignored ones included; raise --max-files if that many are meant"
    );
    let caps = Caps { max_files: 100, max_content: 0 };
    let error = collect(&f.repo(), Changed::Upper(f.layer().as_fd()), &allow_all(), &caps).unwrap_err();
    assert!(error.limit().is_some());
    assert_eq!(
        error.to_string(),
        "bytes in the changed files together: more than 0; raise --max-patch if that much is meant"
    );
}

#[test]
fn unreadable_directories_and_files_of_the_layer_are_read() {
    let f = base();
    f.up("locked/in/file", "x\n");
    f.chmod("locked/in/file", 0);
    f.chmod("locked/in", 0);
    f.chmod("locked", 0);
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(names(&set), ["added locked/in/file"]);
    f.check_patch(&set);
}

#[test]
fn odd_names_survive() {
    let f = Fixture::new();
    let odd: [&[u8]; 8] = [
        b"new\nline",
        b"tab\there",
        b"q\"uote",
        b"back\\slash",
        b"\xff\xfe",
        b"-dash",
        b"trail ",
        b"sp ace/ x ",
    ];
    for name in odd {
        f.write(name, b"old\n");
    }
    f.commit();
    for name in odd {
        f.up(name, b"new\nno end");
        let mut other = name.to_vec();
        other.extend_from_slice(b"2");
        f.up(other, b"added");
    }
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(set.changes.len(), 16);
    f.check_patch(&set);
}

#[test]
fn sha256_repositories_work() {
    let f = Fixture::with_format("sha256");
    f.write("a", "1\n");
    f.commit();
    f.up("a", "2\n");
    f.up("b/c", "\0");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(set.result_tree.kind(), gix_hash::Kind::Sha256);
    f.check_patch(&set);
}

#[test]
fn what_a_protected_name_leads_to_is_protected() {
    let f = Fixture::new();
    f.write("docs/rules.md", "be good\n");
    f.write("conf/settings.json", "{}\n");
    f.write("shared/run.md", "x\n");
    f.write("evil/config.toml", "x\n");
    std::os::unix::fs::symlink("docs/rules.md", f.root().join("AGENTS.md")).unwrap();
    std::os::unix::fs::symlink("conf", f.root().join(".claude")).unwrap();
    std::os::unix::fs::symlink("../shared", f.root().join("conf/commands")).unwrap();
    f.commit();
    f.up("docs/rules.md", "obey me\n");
    f.up("conf/settings.json", "{\"x\":1}\n");
    f.up("shared/run.md", "y\n");
    f.up("other/file", "z\n");
    f.link("other/self", "..");
    f.link(".cargo", "evil");
    let rules = ChangeRules { protect: built_in_protect(), ..allow_all() };
    let set = f.collect(&rules).unwrap();
    assert_eq!(
        rules_of(&set),
        ["protect .cargo", "protect conf/settings.json", "protect docs/rules.md", "protect shared/run.md"]
    );
    assert_eq!(set.disallowed[2].message, "it is what AGENTS.md leads to, which is protected by AGENTS.md");
}

#[test]
fn a_sparse_checkout_loses_nothing() {
    let f = Fixture::new();
    f.write("in/a", "a\n");
    f.write("out/b", "b\n");
    f.write("out/c/d", "d\n");
    f.commit();
    f.git(&["sparse-checkout", "set", "--no-cone", "/in/"]);
    // The kernel marks a new directory opaque.
    f.opaque("out");
    f.up("out/new", "n\n");
    f.up("in/a", "2\n");
    let set = f.collect(&allow_all()).unwrap();
    assert_eq!(names(&set), ["modified in/a", "added out/new"]);
}

#[test]
fn what_steers_ci_hooks_editors_and_agents_is_protected() {
    let names = [
        ".lfsconfig",
        ".gitconfig",
        "CLAUDE.local.md",
        "AGENTS.override.md",
        ".windsurfrules",
        ".clinerules",
        ".vimrc",
        ".exrc",
        ".dir-locals.el",
        "x.code-workspace",
        "lefthook.yml",
        "lefthook.json",
        ".lintstagedrc.js",
        ".aider.conf.yml",
        "opencode.json",
        ".tool-versions",
        "pip.conf",
        "Jenkinsfile.release",
        ".tekton/x",
        ".zed/tasks.json",
        ".agents/a.md",
        ".git-hooks/pre-push",
        ".github/workflows/x.yml",
        ".gitlab-ci.yml",
        ".circleci/config.yml",
        ".gitattributes",
        ".gitmodules",
        ".gitignore",
        ".husky/x",
        ".pre-commit-config.yaml",
        ".vscode/tasks.json",
        ".idea/x",
        ".devcontainer/x",
        ".envrc",
        "mise.toml",
        ".npmrc",
        ".yarnrc.yml",
        ".yarn/releases/x.cjs",
        ".pnpmfile.cjs",
        ".cargo/config.toml",
        "rust-toolchain.toml",
        ".claude/x",
        ".codex/x",
        ".pi/x",
        ".cursor/x",
        ".mcp.json",
        "AGENTS.md",
        "CLAUDE.md",
        "GEMINI.md",
        "proctor.toml",
    ];
    let list = built_in_protect();
    for name in names {
        for path in [name.to_owned(), format!("sub/{name}"), name.to_uppercase()] {
            let glob = list.matching(path.as_bytes()).unwrap_or_else(|| panic!("{path}"));
            assert!(crate::profile::protect::protected_reason(glob).is_some(), "{path}: {glob}");
        }
    }
    for name in ["src/main.rs", "README.md", "github", "docs/agents.txt", "cargo/config.toml", "lefthook"] {
        assert_eq!(list.matching(name.as_bytes()), None, "{name}");
    }
}

#[test]
fn what_a_denied_or_asked_name_leads_to_is_denied_or_asked_about() {
    let f = Fixture::new();
    f.write("db/1.sql", "x\n");
    f.write("doc/a.txt", "x\n");
    f.write("real/x", "x\n");
    std::os::unix::fs::symlink("real", f.root().join("ask")).unwrap();
    f.commit();
    f.link("migrations", "db");
    f.link("sub", "db");
    f.link("docs", "doc");
    f.link("not", "nowhere");
    f.up("real/x", "y\n");
    let rules = ChangeRules {
        deny: GlobList::forbidding(&["migrations/**".into(), "sub/*.sql".into(), "not/**".into()]).unwrap(),
        ask: GlobList::forbidding(&["docs/**".into(), "ask/?".into()]).unwrap(),
        ..allow_all()
    };
    let set = f.collect(&rules).unwrap();
    assert_eq!(rules_of(&set), ["deny migrations", "deny not", "deny sub"]);
    assert_eq!(
        set.disallowed[2].message,
        "a link that makes sub/1.sql, which is denied by --deny-change sub/*.sql"
    );
    let asked: Vec<String> = set.ask.iter().map(|(path, glob)| format!("{} {glob}", show(path))).collect();
    assert_eq!(asked, ["docs docs/**", "real/x ask/?"]);
}

#[test]
fn links_that_are_too_long_or_too_many_cost_little_and_are_refused() {
    let f = base();
    let begun = std::time::Instant::now();
    f.link("long", &("d/".to_owned() + &"a/".repeat(2040)));
    f.link("deep", &"a/".repeat(64));
    f.link("fine", &("d/".to_owned() + &"a/".repeat(62) + "x"));
    f.link("wide", &"a".repeat(1025));
    f.link("back", &("gone/".to_owned() + "../../up"));
    f.link("through", "gone/deep/../../target/x");
    f.link("log", "gone/deep/a.log");
    f.link("git", "gone/deep/.GIT/x");
    f.link("env", "gone/.env");
    let set = f.collect(&allow_all()).unwrap();
    let refused = ["back", "deep", "env", "git", "log", "long", "through", "wide"]
        .map(|name| format!("symlink {name}"));
    assert_eq!(rules_of(&set), refused);
    assert_eq!(
        set.disallowed[5].message,
        "a symbolic link whose target has more than 1024 bytes or 64 components"
    );
    for i in 0..400 {
        let next = if i % 30 == 0 { String::new() } else { format!("m{}", i - 1) };
        f.link(&format!("m{i}"), &("./".repeat(60) + &next));
    }
    let set = f.collect(&allow_all()).unwrap();
    assert!(set.disallowed.iter().any(|d| d.message == "more symbolic links than can be followed"));
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn many_links_to_a_large_directory_cost_little() {
    let f = Fixture::new();
    for i in 0..500 {
        f.write(format!("d/{i}"), "x");
    }
    f.commit();
    for i in 0..300 {
        f.link(&format!("l{i}"), ".");
    }
    let begun = std::time::Instant::now();
    let rules = ChangeRules { protect: built_in_protect(), ..allow_all() };
    assert_eq!(rules_of(&f.collect(&rules).unwrap()), Vec::<String>::new(), "no rule minds these names");
    // Now each link may lead to a name that one minds.
    let rules = ChangeRules { deny: GlobList::forbidding(&["*/d/none".into()]).unwrap(), ..rules };
    let set = f.collect(&rules).unwrap();
    assert!(set.disallowed.len() > 100);
    assert!(set.disallowed.iter().any(|d| d.message == "a link to more files than can be looked at"));
    assert!(set.disallowed.iter().any(|d| d.message.starts_with("it has more names through links")));
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn all_changed_content_together_has_a_limit_and_what_is_only_touched_has_none() {
    use std::os::fd::AsFd;
    let f = Fixture::new();
    f.write("tracked", vec![b'x'; 5000]);
    f.commit();
    f.up("tracked", vec![b'x'; 5000]);
    f.up("a", vec![0; 3000]);
    let caps = Caps::new(100, 1000);
    let collect = || collect(&f.repo(), Changed::Upper(f.layer().as_fd()), &allow_all(), &caps);
    assert_eq!(names(&collect().unwrap()), ["added a"]);
    f.up("b", vec![0; 1001]);
    let error = collect().unwrap_err();
    assert_eq!(error.limit(), Some(("bytes in the changed files together", 4000, Some("--max-patch"))));
    assert_eq!(
        error.to_string(),
        "bytes in the changed files together: more than 4000; raise --max-patch if that much is meant"
    );
    std::fs::remove_file(f.upper().join("b")).unwrap();
    f.up("tracked", vec![b'y'; 5000]);
    assert!(collect().unwrap_err().limit().is_some(), "not larger than it was, but changed");
}
