use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::changes::classify::{Caps, ChangeSet, CollectError, collect};
use crate::changes::layer::{Changed, Kind, LayerError, Limits};
use crate::changes::testing::{Fixture, allow_all, git_in};

struct Copied {
    f: Fixture,
    top: OwnedFd,
    manifest: Manifest,
}

fn options(hidden: &BTreeSet<Vec<u8>>) -> CopyOptions<'_> {
    static STOP: AtomicBool = AtomicBool::new(false);
    CopyOptions { hidden, owner: None, max_bytes: 1 << 20, stop: &STOP }
}

fn copied(f: Fixture, hidden: &[&str]) -> Copied {
    let hidden: BTreeSet<Vec<u8>> = hidden.iter().map(|path| path.as_bytes().to_vec()).collect();
    fs::create_dir(f.path("copy")).unwrap();
    let from = fs::File::open(f.root()).unwrap();
    let top: OwnedFd = fs::File::open(f.path("copy")).unwrap().into();
    make(from.as_fd(), top.as_fd(), &options(&hidden)).unwrap();
    let manifest = take_manifest(top.as_fd()).unwrap();
    Copied { f, top, manifest }
}

impl Copied {
    fn path(&self, name: &str) -> PathBuf {
        self.f.path("copy").join(name)
    }

    fn collect(&self) -> Result<ChangeSet, CollectError> {
        let changed = Changed::Copy(self.top.as_fd(), &self.manifest);
        collect(&self.f.repo(), changed, &allow_all(), &Caps::new(1000, 1 << 20))
    }

    fn entries(&self) -> Vec<(String, Kind)> {
        let all = scan(self.top.as_fd(), &self.manifest, Limits::for_max_files(100), |_, _| {
            Ok::<_, LayerError>(crate::changes::layer::Descend::Full)
        });
        all.unwrap().into_iter().map(|e| (String::from_utf8(e.path).unwrap(), e.kind)).collect()
    }

    /// The tree that git itself makes of the copy.
    fn tree_by_git(&self) -> String {
        let git = |args: &[&str]| {
            let (git_dir, tree) = (self.f.root().join(".git"), self.f.path("copy"));
            let mut all = vec!["--git-dir", git_dir.to_str().unwrap(), "--work-tree", tree.to_str().unwrap()];
            all.extend(args);
            git_in(&tree, &all)
        };
        git(&["add", "-A", "."]);
        git(&["write-tree"]).trim().to_owned()
    }
}

fn base() -> Fixture {
    let f = Fixture::new();
    f.write(".gitignore", "ignored/\n*.o\n");
    f.write("a", "1\n");
    f.write("d/x", "x\n");
    f.write("d/e/y", "y\n");
    f.write("d-", "sorts between d and d/x\n");
    f.write("run", "#!/bin/sh\n");
    fs::set_permissions(f.root().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("d/x", f.root().join("l")).unwrap();
    f.commit();
    f.write("ignored/lib/one", "dependency\n");
    f.write("x.o", "object\n");
    f
}

#[test]
fn a_copy_is_the_tree_without_its_repository_and_no_change_is_no_entry() {
    let c = copied(base(), &[]);
    assert!(!c.path(".git").exists());
    assert_eq!(fs::read(c.path("d/e/y")).unwrap(), b"y\n");
    assert_eq!(fs::read(c.path("ignored/lib/one")).unwrap(), b"dependency\n");
    assert_eq!(fs::read_link(c.path("l")).unwrap(), Path::new("d/x"));
    let of = |path: PathBuf| {
        let meta = fs::symlink_metadata(path).unwrap();
        (meta.permissions().mode(), meta.modified().unwrap())
    };
    for file in ["a", "run", "d/x"] {
        assert_eq!(of(c.path(file)), of(c.f.root().join(file)), "{file}");
    }
    assert_eq!(c.entries(), []);
    let set = c.collect().unwrap();
    assert!(set.changes.is_empty() && set.ignored.is_empty() && set.disallowed.is_empty());
}

#[test]
fn changes_are_told_as_an_upper_layer_would() {
    let c = copied(base(), &[]);
    fs::write(c.path("a"), "2\n").unwrap();
    fs::remove_dir_all(c.path("d")).unwrap();
    fs::create_dir_all(c.path("new/deep")).unwrap();
    fs::write(c.path("new/deep/f"), "n\n").unwrap();
    fs::write(c.path("ignored/lib/one"), "changed\n").unwrap();
    fs::remove_file(c.path("x.o")).unwrap();
    let file = |size| Kind::File { size, capability: false };
    let dir = || Kind::Dir { opaque: false, counted: None };
    let expected = [
        ("a", file(2)),
        ("d", Kind::Whiteout),
        ("ignored/lib/one", file(8)),
        ("new", dir()),
        ("new/deep", dir()),
        ("new/deep/f", file(2)),
        ("x.o", Kind::Whiteout),
    ];
    assert_eq!(c.entries(), expected.map(|(path, kind)| (path.to_owned(), kind)));
    let set = c.collect().unwrap();
    let ignored: Vec<_> = set.ignored.iter().map(|i| (i.path.as_slice(), i.kind, i.count)).collect();
    assert_eq!(ignored, [(&b"ignored"[..], "directory", 1), (&b"x.o"[..], "deleted", 0)]);
    assert_eq!(c.tree_by_git(), set.result_tree.to_string());
    c.f.check_patch(&set);
}

#[test]
fn a_change_that_keeps_size_and_modification_time_shows() {
    let c = copied(base(), &[]);
    let was = fs::metadata(c.path("a")).unwrap().modified().unwrap();
    fs::write(c.path("a"), "7\n").unwrap();
    fs::File::options().write(true).open(c.path("a")).unwrap().set_modified(was).unwrap();
    assert_eq!(c.collect().unwrap().changes.len(), 1);
    // Written again as it was: touched, and no change.
    fs::write(c.path("a"), "1\n").unwrap();
    assert!(c.collect().unwrap().changes.is_empty());
}

#[test]
fn hidden_paths_are_empty_and_a_change_to_one_is_disallowed() {
    let f = base();
    f.write(".env", "SECRET=1\n");
    f.write(".env.d/key", "SECRET\n");
    f.commit();
    let c = copied(f, &[".env", ".env.d"]);
    assert_eq!(fs::metadata(c.path(".env")).unwrap().permissions().mode() & 0o777, 0);
    assert_eq!(fs::metadata(c.path(".env")).unwrap().len(), 0);
    let set = c.collect().unwrap();
    assert!(set.changes.is_empty() && set.disallowed.is_empty(), "a mask is no change: {:?}", set.changes);
    fs::set_permissions(c.path(".env"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(c.path(".env"), "PLANTED=1\n").unwrap();
    fs::set_permissions(c.path(".env.d"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(c.path(".env.d/planted"), "1\n").unwrap();
    let set = c.collect().unwrap();
    let mut hidden: Vec<&[u8]> =
        set.disallowed.iter().filter(|d| d.rule == "hidden").map(|d| d.path.as_slice()).collect();
    hidden.dedup();
    assert_eq!(hidden, [&b".env"[..], b".env.d/planted"]);
}

#[test]
fn what_no_patch_carries_is_refused() {
    let c = copied(base(), &[]);
    rustix::fs::mknodat(&c.top, "pipe", rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::create_dir_all(c.path("sub/.git")).unwrap();
    fs::write(c.path("sub/.git/config"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", c.path("out")).unwrap();
    fs::set_permissions(c.path("a"), fs::Permissions::from_mode(0o4755)).unwrap();
    let set = c.collect().unwrap();
    let rules: BTreeSet<&str> = set.disallowed.iter().map(|d| d.rule).collect();
    for rule in ["fifo", "dot_git", "setuid"] {
        assert!(rules.contains(rule), "{rule}: {rules:?}");
    }
    assert!(set.disallowed.iter().any(|d| d.path == b"out"), "{:?}", set.disallowed);
    // A mark of an overlay's means nothing in a copy: a device would be a device, and a name in an attribute is none.
    fs::write(c.path("marked"), "").unwrap();
    rustix::fs::setxattr(c.path("marked"), "user.overlay.whiteout", b"", rustix::fs::XattrFlags::empty())
        .unwrap();
    assert!(
        c.entries()
            .iter()
            .any(|(path, kind)| path == "marked" && *kind == Kind::File { size: 0, capability: false })
    );
}

#[test]
fn too_much_and_too_deep_are_said() {
    let f = base();
    f.write("big", vec![b'x'; 2 << 20]);
    f.commit();
    fs::create_dir(f.path("copy")).unwrap();
    let (from, to) = (fs::File::open(f.root()).unwrap(), fs::File::open(f.path("copy")).unwrap());
    let error = make(from.as_fd(), to.as_fd(), &options(&BTreeSet::new())).unwrap_err().to_string();
    assert_eq!(
        error,
        "the work tree holds more than 1048576 bytes, and level landlock works on a copy of it; raise --disk"
    );
    let c = copied(base(), &[]);
    let deep = vec!["d"; MAX_DEPTH + 5].join("/");
    fs::create_dir_all(c.path(&deep)).unwrap();
    let text = c.collect().unwrap_err().to_string();
    assert!(text.starts_with("directories within one another: more than 200"), "{text}");
}

#[test]
fn a_copy_that_was_removed_from_outside_is_an_error_and_no_deletion() {
    let c = copied(base(), &[]);
    fs::remove_dir_all(c.f.path("copy")).unwrap();
    let text = c.collect().unwrap_err().to_string();
    assert!(text.contains("was removed from outside"), "{text}");
}

#[derive(Debug, Clone)]
enum Deed {
    Write(String, u8),
    Chmod(String, bool),
    Remove(String),
    Link(String, String),
    Rename(String, String),
}

fn name() -> impl Strategy<Value = String> {
    let part =
        prop_oneof![Just("a"), Just("d"), Just("e"), Just("x"), Just("d-"), Just("x.o"), Just("ignored")];
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        (name(), any::<u8>()).prop_map(|(n, b)| Deed::Write(n, b)),
        (name(), any::<bool>()).prop_map(|(n, x)| Deed::Chmod(n, x)),
        name().prop_map(Deed::Remove),
        (name(), name()).prop_map(|(n, t)| Deed::Link(n, t)),
        (name(), name()).prop_map(|(a, b)| Deed::Rename(a, b)),
    ]
}

fn carry_out(c: &Copied, deed: &Deed) {
    // Whatever does not work is left out: every sequence is valid.
    let parent = |name: &str| {
        if let Some(dir) = c.path(name).parent() {
            let _ = fs::create_dir_all(dir);
        }
    };
    let inside = |name: &str| {
        // Not through links: a deed stays within the copy by name.
        let mut at = c.f.path("copy");
        name.split('/').all(|part| {
            at.push(part);
            !fs::symlink_metadata(&at).is_ok_and(|m| m.is_symlink()) || at == c.path(name)
        })
    };
    match deed {
        Deed::Write(name, byte) if inside(name) => {
            parent(name);
            let _ = fs::remove_file(c.path(name));
            let _ = fs::write(c.path(name), [*byte, b'\n']);
        }
        Deed::Chmod(name, executable) if inside(name) && c.path(name).is_file() => {
            let mode = if *executable { 0o755 } else { 0o644 };
            let _ = fs::set_permissions(c.path(name), fs::Permissions::from_mode(mode));
        }
        Deed::Remove(name) if inside(name) => {
            let _ = fs::remove_file(c.path(name));
            let _ = fs::remove_dir_all(c.path(name));
        }
        Deed::Link(name, target) if inside(name) => {
            parent(name);
            let _ = std::os::unix::fs::symlink(target, c.path(name));
        }
        Deed::Rename(from, to) if inside(from) && inside(to) => {
            parent(to);
            let _ = fs::rename(c.path(from), c.path(to));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever is done to a copy: the result is the tree that git makes of it.
    #[test]
    fn the_result_is_what_git_says(deeds in prop::collection::vec(deed(), 1..12)) {
        let c = copied(base(), &[]);
        for deed in &deeds {
            carry_out(&c, deed);
        }
        let set = c.collect().unwrap();
        prop_assert_eq!(c.tree_by_git(), set.result_tree.to_string());
    }
}

#[test]
fn a_copy_that_nobody_wants_any_more_ends() {
    let f = Fixture::new();
    fs::create_dir(f.path("copy")).unwrap();
    fs::write(f.root().join("file"), "x").unwrap();
    let from = fs::File::open(f.root()).unwrap();
    let top: OwnedFd = fs::File::open(f.path("copy")).unwrap().into();
    let (hidden, stop) = (BTreeSet::new(), AtomicBool::new(true));
    let given_up = CopyOptions { stop: &stop, ..options(&hidden) };
    assert!(matches!(make(from.as_fd(), top.as_fd(), &given_up), Err(CopyError::Stopped)));
    assert!(!f.path("copy").join("file").exists());
}
