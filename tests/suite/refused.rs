//! A host that lacks what a sandbox needs: here one that allows no further user or mount namespace.

use harness::{Outcome, Proctor, TestRepo, World};

use crate::binary;

/// A call where nobody may make another mount namespace, by a limit in a user namespace of its own.
pub(crate) fn host(world: &World) -> Proctor {
    let uid = world.user.uid().to_string();
    let map = [format!("--map-user={uid}"), format!("--map-group={uid}")];
    let script = "echo 0 > /proc/sys/user/max_mnt_namespaces && exec \"$@\"";
    let wrapper = ["unshare", "-Ur", "sh", "-c", script, "sh", "unshare", "-U", &map[0], &map[1]];
    Proctor::through(&wrapper, binary(), world)
}

/// A run there.
pub(crate) fn refused(repo: &TestRepo<'_>) -> Outcome {
    host(repo.world())
        .args(["run", "--no-test", "--repo"])
        .arg(repo.path())
        .args(["--", "sh", "-c", "echo mended > src/value.txt"])
        .run()
}
