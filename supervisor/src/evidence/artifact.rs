//! One artifact while it is written: digest and size are taken from the bytes on their way to the file.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::descriptor::ResourceDescriptor;
use super::dir::Shared;
use crate::event::hex;

const BUFFER: usize = 64 * 1024;

/// What was being done when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making the file, exclusively.
    Create,
    /// Writing.
    Write,
    /// Reading what was written, behind the writer.
    Read,
    /// Looking at the finished file.
    Stat,
    /// Making it durable.
    Sync,
    /// Renaming the report into place.
    Rename,
    /// Finding the directory again at its path.
    Place,
}

impl Step {
    /// The step as a verb.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Read => "read again",
            Self::Stat => "stat",
            Self::Sync => "sync",
            Self::Rename => "rename",
            Self::Place => "find its directory again",
        }
    }
}

/// An artifact that could not be written: the blocker `artifact_write_failed`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("artifact {artifact}: cannot {}: {why}; free space on, or repair, the evidence directory's file system, or choose another with --evidence DIR", step.as_str())]
pub struct ArtifactError {
    /// Its name.
    pub artifact: String,
    /// What was being done.
    pub step: Step,
    /// The system's error number, where it was the system.
    pub errno: Option<i32>,
    /// The reason as text.
    pub why: String,
}

impl ArtifactError {
    pub(super) fn system(artifact: &str, step: Step, errno: Errno) -> Self {
        Self {
            artifact: artifact.to_owned(),
            step,
            errno: Some(errno.raw_os_error()),
            why: errno.to_string(),
        }
    }

    pub(super) fn io(artifact: &str, step: Step, error: &io::Error) -> Self {
        Self { artifact: artifact.to_owned(), step, errno: error.raw_os_error(), why: error.to_string() }
    }

    pub(super) fn plain(artifact: &str, step: Step, why: &str) -> Self {
        Self { artifact: artifact.to_owned(), step, errno: None, why: why.to_owned() }
    }
}

/// A file of the evidence directory being written. Dropped unfinished it counts as not written.
#[derive(Debug)]
pub struct Artifact {
    name: String,
    file: Arc<File>,
    shared: Arc<Shared>,
    hash: Sha256,
    size: u64,
    buffer: Vec<u8>,
}

impl Artifact {
    pub(super) fn new(name: &str, file: Arc<File>, shared: Arc<Shared>) -> Self {
        Self { name: name.to_owned(), file, shared, hash: Sha256::new(), size: 0, buffer: Vec::new() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes).inspect_err(|error| {
            self.shared.fail(ArtifactError::io(&self.name, Step::Write, error));
        })?;
        self.hash.update(bytes);
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.put(&buffer);
        buffer.clear();
        self.buffer = buffer;
        result
    }

    /// Ends the artifact and says what it came to. It is durable only after [`super::EvidenceDir::sync`].
    ///
    /// # Errors
    /// The write error, now or before.
    pub fn finish(mut self) -> Result<ResourceDescriptor, ArtifactError> {
        // A failure is recorded with the directory where it happens.
        let drained = self.drain();
        if let Some(error) = self.shared.failure(&self.name) {
            return Err(error);
        }
        drained.map_err(|error| ArtifactError::io(&self.name, Step::Write, &error))?;
        let sha256 = hex::encode(&self.hash.finalize());
        self.shared.finish(ResourceDescriptor::new(&self.name, sha256, self.size))
    }
}

impl Write for Artifact {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.drain()?;
        }
        if bytes.len() >= BUFFER {
            self.put(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()
    }
}
