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
