//! The main job: a run that passes, and the tree it leaves alone.

use harness::{TestRepo, TreeSnapshot, World, users};

use crate::proctor;

#[test]
fn a_run_passes_verifies_and_leaves_the_tree_as_it_was() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let before = TreeSnapshot::of(repo.path());
        let outcome = proctor(&world)
            .args(["run", "--repo"])
            .arg(repo.path())
            .args([
                "--test",
                "sh check.sh",
                "--",
                "sh",
                "-c",
                "echo at work; sed -i s/broken/mended/ src/value.txt",
            ])
            .run();
        outcome.expect(0, &[]);
        assert_eq!(before.differences(&TreeSnapshot::of(repo.path())), Vec::<String>::new(), "{user:?}");
        assert_eq!(outcome.text("backend.stdout.log"), "at work\n");
        let verified =
            proctor(&world).arg("verify").arg(outcome.evidence()).arg("--repo").arg(repo.path()).run();
        assert_eq!(verified.code, Some(0), "{verified:#?}");

        // What the real git makes of the patch is the tree that the report names.
        repo.git(&["apply", "--index", "--binary", &outcome.evidence().join("patch.diff").to_string_lossy()]);
        assert_eq!(repo.git(&["write-tree"]), outcome.report()["result_tree"].as_str().unwrap());
    }
}

#[test]
fn a_checkout_that_only_its_owner_can_enter_is_no_obstacle() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        // As below a home directory of mode 0700, and as an umask of 077 makes them.
        for (place, modes) in [(world.path(""), "u=rwx,go="), (repo.path().to_owned(), "go=")] {
            let mut chmod = world.command("chmod");
            if place == repo.path() {
                chmod.arg("-R");
            }
            assert!(chmod.arg(modes).arg(&place).status().is_ok_and(|s| s.success()));
            let script =
                "git log --oneline && git status -s && echo mended > src/value.txt && git diff --stat";
            let outcome = proctor(&world)
                .args(["run", "--repo"])
                .arg(repo.path())
                .args(["--test", "sh check.sh", "--", "sh", "-c", script])
                .run();
            outcome.expect(0, &[]);
            assert!(outcome.text("backend.stdout.log").contains("src/value.txt"), "{outcome:#?}");
        }
    }
}
