//! Why an evidence directory cannot be used, as people are told of it. What is done about it is decided elsewhere.

use std::path::PathBuf;

use rustix::io::Errno;

/// Why an evidence directory cannot be used: a configuration error, or one of its file system. Nothing has run.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceDirError {
    /// A step failed.
    #[error("evidence directory {}: cannot {step}: {errno}; give another place with --evidence DIR", path.display())]
    System {
        /// The directory.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// Something is in it.
    #[error("evidence directory {} is not empty: evidence is never written over; give a new or empty one with --evidence DIR", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else's.
    #[error("evidence directory {} belongs to uid {owner}, not to uid {own}: its owner could change the evidence; give one of your own with --evidence DIR", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose.
        owner: u32,
        /// Ours.
        own: u32,
    },
    /// Another run writes to it, or it is being removed.
    #[error("evidence directory {} is in use by another run or by `proctor gc`; give another place with --evidence DIR", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

impl EvidenceDirError {
    /// True where the place is as it should be and its file system fails: full, read-only, or broken.
    #[must_use]
    pub fn is_of_the_file_system(&self) -> bool {
        matches!(self, Self::System { errno: Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO, .. })
    }
}
