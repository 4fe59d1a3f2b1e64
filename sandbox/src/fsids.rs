//! The file system ids of one thread (setfsuid(2)): for a moment root acts with a sandbox's rights, and what it makes is
//! the sandbox's own.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

/// The calling thread has the ids given until this is dropped; other threads keep theirs.
pub(crate) struct FileSystemIds {
    uid: Uid,
    gid: Gid,
}

impl FileSystemIds {
    pub(crate) fn take(uid: u32, gid: u32) -> Self {
        // The group first: it needs a right that goes with the user.
        let gid = setfsgid(Gid::from_raw(gid));
        Self { uid: setfsuid(Uid::from_raw(uid)), gid }
    }
}

impl Drop for FileSystemIds {
    fn drop(&mut self) {
        setfsuid(self.uid);
        setfsgid(self.gid);
    }
}
