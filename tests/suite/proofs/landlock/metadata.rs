//! Modes, owners, times, attributes and flags: Landlock mediates none of them, so each way to each file is tried.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use harness::{TreeSnapshot, World, users};

use crate::proofs::{Proof, row};

/// Ways that name a file by its path, and those that need it open.
const BY_PATH: &[&str] = &[
    "mode",
    "mode-proc",
    "mode-empty",
    "mode-below",
    "owner",
    "owner-empty",
    "times",
    "times-empty",
    #[cfg(target_arch = "x86_64")]
    "old-mode",
    #[cfg(target_arch = "x86_64")]
    "old-owner",
    #[cfg(target_arch = "x86_64")]
    "old-times",
];
const BY_DESCRIPTOR: &[&str] = &["mode-fd", "owner-fd", "times-fd"];
const ATTRIBUTES: &[&str] = &["attribute", "attribute-fd"];

#[test]
fn nothing_of_the_operators_files_changes_by_any_call() {
    for user in users() {
        let world = World::new(user);
        let closed = world.write("closed/file", "x");
        let shown = world.write("shown/file", "x");
        for dir in ["closed", "shown"] {
            world.user.own(&world.path(dir));
        }
        let dir = world.path("shown").display().to_string();
        let proof = Proof::confined(&world).with(["--ro".to_owned(), dir]);
        symlink(&closed, proof.repo.path().join("link")).unwrap();
        symlink(world.path("closed"), proof.repo.path().join("dir")).unwrap();
        proof.repo.commit("links");
        let mut rows = Vec::new();
        let (closed, shown) = (closed.display().to_string(), shown.display().to_string());
        for path in [&closed, &shown, "link", "dir/file"] {
            for how in BY_PATH {
                // A link itself is the sandbox's own.
                if path == "link" && ["old-owner", "mode-proc", "mode-empty"].contains(how) {
                    continue;
                }
                rows.push(row(format!("meta {how} {path}"), "ok", "EPERM"));
            }
            rows.push(row(format!("meta attribute {path}"), "ok", "EOPNOTSUPP"));
            rows.push(row(format!("getxattr {path} user.proof"), "ok", "EOPNOTSUPP"));
        }
        for how in BY_DESCRIPTOR {
            rows.push(row(format!("meta {how} {shown}"), "ok", "EPERM"));
            rows.push(row(format!("meta {how} {closed}"), "ok", "EACCES"));
        }
        // Not even by a name in a directory of its own.
        rows.push(row(format!("link {shown} linked"), "ok", "EXDEV|EACCES|EPERM"));
        rows.push(row("meta mode linked", "ok", "ENOENT"));
        rows.push(row(format!("meta attribute-fd {shown}"), "ok", "EOPNOTSUPP"));
        rows.push(row(format!("meta flags {shown}"), "ok", "EPERM"));
        // What the file system here makes of them is its own affair; outside it is asked.
        rows.push(row(format!("meta subvolume {shown}"), "ENOTTY", "EPERM"));
        rows.push(row(format!("meta key {shown}"), "~E", "EPERM"));
        let before = ["closed", "shown"].map(|dir| TreeSnapshot::of(&world.path(dir)));
        proof.inside(&rows.iter().map(|r| r.0.clone()).collect::<Vec<_>>());
        for (before, dir) in before.iter().zip(["closed", "shown"]) {
            let after = TreeSnapshot::of(&world.path(dir));
            assert_eq!(before.differences(&after), Vec::<String>::new(), "{user:?} {dir}");
        }
        proof.prove(&rows);
        for (before, dir) in before.iter().zip(["closed", "shown"]) {
            assert_ne!(before.differences(&TreeSnapshot::of(&world.path(dir))), Vec::<String>::new());
        }
    }
}

#[test]
fn a_raced_path_changes_nothing_outside() {
    for user in users() {
        let world = World::new(user);
        let file = world.write("victim/file", "x");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let proof = Proof::confined(&world);
        let before = TreeSnapshot::of(&world.path("victim"));
        let attack = [format!("race-mode . {}", file.display())];
        assert_eq!(proof.inside(&attack), ["ok"], "{user:?}");
        assert_eq!(
            before.differences(&TreeSnapshot::of(&world.path("victim"))),
            Vec::<String>::new(),
            "{user:?}"
        );
        assert_eq!(proof.outside(&attack), ["ok"]);
        assert_eq!(
            std::fs::metadata(&file).unwrap().mode() & 0o777,
            0o666,
            "{user:?}: the race proves nothing"
        );
    }
}

#[test]
fn what_is_the_sandboxes_own_can_be_changed_in_every_way() {
    for user in users() {
        let world = World::new(user);
        let proof = Proof::confined(&world);
        let mut rows = Vec::new();
        for how in BY_PATH.iter().chain(BY_DESCRIPTOR) {
            rows.push(row(format!("meta {how} src/value.txt"), "ok", "ok"));
        }
        for how in ATTRIBUTES {
            rows.push(row(format!("meta {how} src/value.txt"), "ok", "EOPNOTSUPP"));
        }
        proof.prove(&rows);
        let script = "umask 0; echo x >a; chmod 700 a; stat -c %a a; touch -d @1000 a; stat -c %Y a; chown $(id -u):$(id -g) a; \
             mkdir d; chmod 711 d; stat -c %a d; cp -a a b; stat -c %a:%Y b; ln -s a l; touch -h -d @7 l; stat -c %Y l; \
             install -m 640 a c; stat -c %a c; chmod 600 \"$HOME\" \"$TMPDIR\" && echo own; chown 12345 a 2>/dev/null || echo kept; \
             tar -cf - a | (mkdir t; cd t; tar -xf -; stat -c %a:%Y a)";
        let text = proof.shell(script).text("backend.stdout.log");
        assert_eq!(text, "700\n1000\n711\n700:1000\n7\n640\nown\nkept\n700:1000\n", "{user:?}");
    }
}

#[test]
fn a_writable_mount_is_the_operators_gift_but_not_what_is_masked_in_it() {
    // As root what is shown belongs to another uid.
    let user = harness::User::Ordinary;
    let world = World::new(user);
    let open = world.write("home/.config/tool/file", "x");
    let masked = world.write("home/.config/gh/hosts.yml", "x");
    world.user.own(&world.path("home"));
    let dir = world.path("home/.config").display().to_string();
    let proof = Proof::confined(&world).with(["--rw".to_owned(), dir]);
    proof.prove(&[
        row(format!("meta mode {}", open.display()), "ok", "ok"),
        row(format!("meta times-empty {}", open.display()), "ok", "ok"),
        row(format!("meta mode {}", masked.display()), "ok", "EPERM"),
        row(format!("meta owner-empty {}", masked.display()), "ok", "EPERM"),
    ]);
}
