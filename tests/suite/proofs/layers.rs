//! The overlay's own machinery: a backend cannot see or forge it, and what it leaves is read as what it did.

use harness::{TreeSnapshot, User, World, users};

use super::Proof;

/// For each user, with the layers where a run puts them by itself (in memory, where the kernel can) and on disk.
fn each(prove: impl Fn(&Proof<'_>, User)) {
    for user in users() {
        for place in ["auto", "disk"] {
            let world = World::new(user);
            prove(&Proof::new(&world).with(["--layer", place]), user);
            let left = std::fs::read_dir(world.path("state/proctor/layers")).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{user:?}: layers are left on disk");
        }
    }
}

#[test]
fn whiteouts_and_overlay_attributes_cannot_be_forged() {
    each(|proof, user| {
        std::fs::write(proof.repo.path().join("src/other.txt"), "other\n").unwrap();
        user.own(proof.repo.path());
        proof.repo.commit("other");
        let before = TreeSnapshot::of(proof.repo.path());
        let forbidden = "EPERM|EACCES";
        proof.refused(&[
            ("mknod forged 0 0".into(), forbidden),
            ("mknod src/forged 0 0".into(), forbidden),
            ("mknod src/device 1 3".into(), forbidden),
            ("mknod /tmp/device 1 3".into(), forbidden),
            // Linux 7.3 lets one be made where no overlay is: there it hides nothing, and a move into the tree is EXDEV.
            ("mknod /tmp/forged 0 0".into(), "EPERM|EACCES|ok"),
            ("rename /tmp/forged src/forged".into(), "EXDEV|ENOENT|EACCES"),
            ("rename-whiteout README moved".into(), "EINVAL|EPERM|EACCES"),
            ("setxattr src trusted.overlay.opaque y".into(), forbidden),
            ("setxattr src trusted.overlay.redirect /".into(), forbidden),
            ("setxattr src security.capability y".into(), "EPERM|EINVAL|EACCES"),
            // These it may try: the overlay keeps its own names for itself, by refusing or by escaping them.
            ("setxattr src user.overlay.opaque y".into(), "ok|EPERM|EOPNOTSUPP"),
            ("setxattr src user.overlay.redirect /".into(), "ok|EPERM|EOPNOTSUPP"),
            ("setxattr src user.overlay.whiteout y".into(), "ok|EPERM|EOPNOTSUPP"),
            ("setxattr README user.overlay.whiteout y".into(), "ok|EPERM|EOPNOTSUPP"),
            ("setxattr README user.overlay.metacopy y".into(), "ok|EPERM|EOPNOTSUPP"),
            // Still there, for the backend itself.
            ("list src".into(), "other.txt value.txt"),
            ("cat README".into(), "a small project"),
        ]);
        // And for whoever reads the layer: nothing was changed or deleted, so the patch is empty.
        let attack = "for x in opaque whiteout redirect; do PROBE \"setxattr src user.overlay.$x y\" \"setxattr README user.overlay.$x y\"; done; PROBE 'mknod forged 0 0'";
        let outcome = proof.shell(&attack.replace("PROBE", &super::probe().display().to_string()));
        assert_eq!(outcome.text("patch.diff"), "", "{user:?}: {outcome:#?}");
        assert_eq!(outcome.report()["changed_files"], serde_json::json!([]), "{user:?}");
        assert_eq!(before.differences(&TreeSnapshot::of(proof.repo.path())), Vec::<String>::new());
    });
}

#[test]
fn the_layers_are_not_reachable_by_any_path() {
    each(|proof, user| {
        let script = r#"
            echo MARK > marked
            for d in / /tmp /var/tmp /dev/shm /home /run; do ls -a $d; done | sort -u | tr '\n' ' '; echo
            find / -xdev \( -name upper -o -name work -o -name empty-file -o -name lower \) 2>/dev/null | grep -v ^/usr
            find / -name marked -not -path '/proc/*' 2>/dev/null
            (cd /tmp; ls -di . .. ); (cd /tmp/..; pwd -P)
        "#;
        let text = proof.shell(script).text("backend.stdout.log");
        let marked: Vec<&str> = text.lines().filter(|l| l.ends_with("/marked")).collect();
        assert_eq!(
            marked,
            [proof.repo.path().join("marked").to_string_lossy()],
            "{user:?}: one name for a file: {text}"
        );
        for name in ["/upper", "/lower", "/work\n", "empty-file", "empty-dir"] {
            assert!(!text.contains(name), "{user:?}: {name}: {text}");
        }
        assert_eq!(text.lines().last(), Some("/"), "{user:?}: {text}");
    });
}

#[test]
fn deletion_and_return_are_what_they_are() {
    each(|proof, user| {
        let before = TreeSnapshot::of(proof.repo.path());
        let outcome = proof.shell(
            "rm -r src README; mkdir src; echo new > src/new; echo 'a small project' > README; touch check.sh; chmod 600 check.sh; chmod 644 check.sh",
        );
        let report = outcome.report();
        let changed: Vec<String> = report["changed_files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| format!("{} {}", c["kind"].as_str().unwrap(), c["path"].as_str().unwrap()))
            .collect();
        assert_eq!(changed, ["added src/new", "deleted src/value.txt"], "{user:?}");
        assert_eq!(before.differences(&TreeSnapshot::of(proof.repo.path())), Vec::<String>::new());
    });
}

#[test]
fn a_layer_that_is_made_hard_to_read_is_read_all_the_same() {
    each(|proof, user| {
        let before = TreeSnapshot::of(proof.repo.path());
        let outcome =
            proof.shell("mkdir closed; echo x > closed/file; chmod 000 closed/file closed; chmod 000 src");
        let paths: Vec<String> = outcome.report()["changed_files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["path"].as_str().unwrap().to_owned())
            .collect();
        assert!(paths.iter().any(|p| p == "closed/file"), "{user:?}: {outcome:#?}");
        assert_eq!(before.differences(&TreeSnapshot::of(proof.repo.path())), Vec::<String>::new());
    });
}
