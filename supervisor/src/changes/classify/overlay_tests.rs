//! The layer as the kernel really leaves it: a program's work in a mounted overlay, then the change set, held
//! against what git says of the merged tree.

use std::process::Command;

use super::*;
use crate::changes::testing::{Fixture, allow_all};

/// Runs `script` in the overlay of the fixture's repository and upper directory, in a user namespace.
fn run(f: &Fixture, script: &str) {
    std::fs::create_dir_all(f.path("work")).unwrap();
    std::fs::create_dir_all(f.path("merged")).unwrap();
    let script = format!(
        "set -e; mount -t overlay -o userxattr,lowerdir=repo,upperdir=upper,workdir=work overlay merged; cd merged; {script}"
    );
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(f.path(""))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn base() -> Fixture {
    let f = Fixture::new();
    for name in ["a", "b", "d/x", "d/e/y", "d/e/z", "k/l/m", "same"] {
        f.write(name, format!("{name}\n"));
    }
    f.commit();
    f
}

fn changed(script: &str) -> Vec<String> {
    let f = base();
    // Git's own view of the merged tree: what the change set must come to.
    let tree = "cp -a . ../copy; cd ../copy; git add -A; git write-tree > ../tree";
    run(&f, &format!("{script}; cd ..; cd merged; {tree}"));
    let set = f.collect(&allow_all()).unwrap();
    let want = std::fs::read_to_string(f.path("tree")).unwrap();
    assert_eq!(set.result_tree.to_string(), want.trim(), "{script}: {:?}", set.changes);
    f.check_patch(&set);
    set.changes.iter().map(|c| format!("{} {}", c.kind.as_str(), show(&c.path))).collect()
}

#[test]
fn removals_and_replacements() {
    assert_eq!(changed("rm a; rm -r d"), ["deleted a", "deleted d/e/y", "deleted d/e/z", "deleted d/x"]);
    assert_eq!(
        changed("rm -r d; mkdir d; echo n > d/new; echo d/x > d/x"),
        ["deleted d/e/y", "deleted d/e/z", "added d/new"]
    );
    assert_eq!(changed("rm -r d/e; echo f > d/e"), ["added d/e", "deleted d/e/y", "deleted d/e/z"]);
    assert_eq!(changed("rm a; mkdir a; echo i > a/i"), ["deleted a", "added a/i"]);
    assert_eq!(changed("rm -r d; ln -s k d"), ["added d", "deleted d/e/y", "deleted d/e/z", "deleted d/x"]);
}

#[test]
fn copy_ups_without_a_difference() {
    let none: [&str; 0] = [];
    assert_eq!(changed("touch a; chmod 600 b; : >> same; mv k kk; mv kk k"), none);
    assert_eq!(changed("ln a hard; rm hard"), none);
    assert_eq!(changed("rm a; echo a > a; mkdir new; rmdir new"), none);
}

#[test]
fn renames_modes_and_links() {
    assert_eq!(changed("mv a d/a; chmod +x b"), ["deleted a", "mode_changed b", "added d/a"]);
    assert_eq!(
        changed("mv d dd"),
        ["deleted d/e/y", "deleted d/e/z", "deleted d/x", "added dd/e/y", "added dd/e/z", "added dd/x"]
    );
    assert_eq!(changed("ln a hard; ln -s a soft"), ["added hard", "added soft"]);
}

#[test]
fn marks_of_the_overlay_cannot_be_forged_from_inside() {
    use std::io::{Read, Write};
    let f = base();
    std::fs::create_dir_all(f.path("work")).unwrap();
    std::fs::create_dir_all(f.path("merged")).unwrap();
    let script = "set -e; mount -t overlay -o userxattr,lowerdir=repo,upperdir=upper,workdir=work overlay merged; \
        cd merged; mkdir forged; : > a; : > forged/w; ! mknod dev c 0 0 2>/dev/null; echo ready; read end";
    let mut child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .current_dir(f.path(""))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let merged = format!("/proc/{}/cwd", child.id());
    // The kernel refuses such an attribute, or stores it under an escaped name; it never becomes a mark.
    for (path, name, value) in [
        ("forged", "user.overlay.opaque", &b"y"[..]),
        ("d", "user.overlay.opaque", b"y"),
        ("d", "user.overlay.redirect", b"/k"),
        ("a", "user.overlay.whiteout", b""),
        ("a", "user.overlay.metacopy", b""),
    ] {
        let _ =
            rustix::fs::setxattr(format!("{merged}/{path}"), name, value, rustix::fs::XattrFlags::empty());
    }
    // That the way in works at all: an attribute of another name is taken.
    rustix::fs::setxattr(format!("{merged}/forged"), "user.other", b"y", rustix::fs::XattrFlags::empty())
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"end\n").unwrap();
    assert!(child.wait().unwrap().success());
    let set = f.collect(&allow_all()).unwrap();
    let names: Vec<_> =
        set.changes.iter().map(|c| format!("{} {}", c.kind.as_str(), show(&c.path))).collect();
    assert_eq!(names, ["modified a", "added forged/w"]);
}
