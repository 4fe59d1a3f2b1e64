//! The evidence directory while a run writes it: opened once, every file made exclusively through its descriptor.
//!
//! The order at the end (docs/contracts.md): every artifact is finished and its content made durable; then the
//! report under another name and its digest file likewise; then the directory, and with it the names of them all; then
//! renames put the report in place and directly behind it what is rendered from it, and the directory is made durable
//! again. So nothing that people would take for a verdict is ever there without the report, and a directory with a
//! `report.json` has everything the report speaks of, whenever the machine stops; but between those renames, where what
//! is rendered still has its other name and `verify` refuses the directory. Each step waits for the one before, and
//! nothing is waited for twice: a finished artifact never changes again, and names matter first when one says that
//! the others are there.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};
use sha2::{Digest as _, Sha256};

use super::artifact::{Artifact, ArtifactError, Step};
use super::descriptor::{ResourceDescriptor, is_plain_name};
use super::dir_error::EvidenceDirError;
use super::{HTML, MARKDOWN, REPORT, REPORT_DIGEST, STATEMENT, UNNAMED};
use crate::event::hex;
use crate::verdict::ArtifactFact;

/// Largest report that is written or read, bytes.
pub const MAX_REPORT: usize = 64 << 20;

const PARTIAL: &str = "report.json.partial";

/// What people would take for the verdict, and the name that it has until the report stands.
const RENDERINGS: [(&str, &str); 2] = [(MARKDOWN, "report.md.partial"), (HTML, "report.html.partial")];

/// How often, and after what time again, a directory is tried for that somebody clears up just now.
const TRIES: u32 = 50;
const AGAIN: std::time::Duration = std::time::Duration::from_millis(10);

/// Fails where the open directory holds anything.
fn empty(dir: &File, path: &Path) -> Result<(), EvidenceDirError> {
    let system = |errno| EvidenceDirError::System { path: path.to_owned(), step: "list it", errno };
    for entry in rustix::fs::Dir::read_from(dir).map_err(system)? {
        let entry = entry.map_err(system)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Err(EvidenceDirError::NotEmpty { path: path.to_owned() });
        }
    }
    Ok(())
}

/// Makes what is missing above `path`, each directory durable in the one that it is in.
fn make_parents(path: &Path) -> std::io::Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    if parent.is_dir() {
        return Ok(());
    }
    make_parents(parent)?;
    match DirBuilder::new().mode(0o700).create(parent) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_parent(parent),
    }
}

/// Makes the entry of `path` in its directory durable.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[derive(Debug)]
enum State {
    Open,
    Finished(ResourceDescriptor),
    Failed(ArtifactError),
}

#[derive(Debug)]
struct Entry {
    file: Option<Arc<File>>,
    state: State,
    /// Finished, and its content durable since: what is finished is not written any more.
    durable: bool,
}

/// What artifacts and directory both keep.
#[derive(Debug, Default)]
pub(super) struct Shared {
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // The map is whole after every statement that changes it, so a panic elsewhere leaves nothing half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, error: ArtifactError) {
        let mut entries = self.entries();
        let entry = entries.entry(error.artifact.clone()).or_insert(Entry {
            file: None,
            state: State::Open,
            durable: false,
        });
        if !matches!(entry.state, State::Failed(_)) {
            entry.state = State::Failed(error);
        }
    }

    pub(super) fn failure(&self, name: &str) -> Option<ArtifactError> {
        match self.entries().get(name).map(|entry| &entry.state) {
            Some(State::Failed(error)) => Some(error.clone()),
            _ => None,
        }
    }

    pub(super) fn finish(&self, artifact: ResourceDescriptor) -> Result<ResourceDescriptor, ArtifactError> {
        let mut entries = self.entries();
        let name = artifact.name.clone();
        match entries.get_mut(&name) {
            Some(Entry { state: state @ State::Open, .. }) => {
                *state = State::Finished(artifact.clone());
                Ok(artifact)
            }
            Some(Entry { state: State::Failed(error), .. }) => Err(error.clone()),
            Some(_) | None => {
                Err(ArtifactError::plain(&name, Step::Write, "it was finished twice or never begun"))
            }
        }
    }
}

/// The digest of the report that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// SHA-256 of `report.json`, hex.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
}

/// An evidence directory that this process makes.
#[derive(Debug)]
pub struct EvidenceDir {
    /// Holds a lock (flock(2)) as long as the run lives: nobody else may take the directory for a dead run's.
    fd: OwnedFd,
    path: PathBuf,
    shared: Arc<Shared>,
    published: AtomicBool,
}

impl EvidenceDir {
    /// Makes the directory (and the ones above it), or takes an empty one of our own; either way its mode is 0700.
    ///
    /// # Errors
    /// What is wrong with the place: nothing has run, so the caller exits 2, or 4 where the file system fails.
    pub fn create(path: &Path) -> Result<Self, EvidenceDirError> {
        let system = |step: &'static str| {
            let path = path.to_owned();
            move |errno| EvidenceDirError::System { path, step, errno }
        };
        let io = |step: &'static str| {
            let system = system(step);
            move |error: std::io::Error| system(Errno::from_io_error(&error).unwrap_or(Errno::IO))
        };
        make_parents(path).map_err(io("make the directory above it"))?;
        let file = Self::made_and_locked(path)?;
        // Looked into before it is touched: a directory that is refused stays as it is. And once more when nobody else
        // may write into it any more.
        empty(&file, path)?;
        rustix::fs::fchmod(&file, Mode::RWXU).map_err(system("make it private"))?;
        empty(&file, path)?;
        sync_parent(path).map_err(io("make it durable"))?;
        Ok(Self {
            fd: file.into(),
            path: path.to_owned(),
            shared: Arc::new(Shared::default()),
            published: AtomicBool::new(false),
        })
    }

    /// The directory, made where it is not there, locked, and still the one that its path leads to: whoever clears up
    /// may have removed it before it was locked, or hold it to have a look.
    fn made_and_locked(path: &Path) -> Result<File, EvidenceDirError> {
        let system =
            |step: &'static str| move |errno| EvidenceDirError::System { path: path.to_owned(), step, errno };
        let io = |step: &'static str| {
            move |error: std::io::Error| system(step)(Errno::from_io_error(&error).unwrap_or(Errno::IO))
        };
        for _ in 0..TRIES {
            match rustix::fs::mkdir(path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(system("make it")(errno)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(fd) => File::from(fd),
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(system("open it as a directory")(errno)),
            };
            let owner = file.metadata().map_err(io("look at it"))?.uid();
            let own = rustix::process::geteuid().as_raw();
            if owner != own {
                return Err(EvidenceDirError::Foreign { path: path.to_owned(), owner, own });
            }
            // Another error is that of a file system without locks: `gc`, which needs one too, leaves the directory alone.
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
                std::thread::sleep(AGAIN);
                continue;
            }
            let here = file.metadata().map_err(io("look at it"))?;
            match std::fs::symlink_metadata(path) {
                Ok(there) if (there.dev(), there.ino()) == (here.dev(), here.ino()) => return Ok(file),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(io("look at it")(error)),
            }
        }
        Err(EvidenceDirError::InUse { path: path.to_owned() })
    }

    /// Where it is, as it was named: for people. Files are reached by [`EvidenceDir::fd`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Begins an artifact.
    ///
    /// # Errors
    /// It cannot be made; that is remembered, so that the verdict sees it even where the caller goes on.
    pub fn create_artifact(&self, name: &str) -> Result<Artifact, ArtifactError> {
        let file = self.make(name)?;
        Ok(Artifact::new(name, file, Arc::clone(&self.shared)))
    }

    /// Begins a raw log that a capture thread writes and hashes itself; ended by [`EvidenceDir::adopt`].
    ///
    /// # Errors
    /// As [`EvidenceDir::create_artifact`].
    pub fn create_raw(&self, name: &str) -> Result<File, ArtifactError> {
        let file = self.make(name)?;
        file.try_clone().map_err(|error| {
            let error = ArtifactError::io(name, Step::Create, &error);
            self.shared.fail(error.clone());
            error
        })
    }

    /// Writes a small artifact whole.
    ///
    /// # Errors
    /// As [`EvidenceDir::create_artifact`], and the write error.
    pub fn write_whole(&self, name: &str, bytes: &[u8]) -> Result<ResourceDescriptor, ArtifactError> {
        let mut artifact = self.create_artifact(name)?;
        // A failed write is remembered by the artifact; `finish` reports it.
        let _ = artifact.write_all(bytes);
        artifact.finish()
    }

    /// Ends a raw log: its writer's digest (hex) and size, the size held against the file.
    ///
    /// # Errors
    /// The file has another size, or cannot be looked at.
    pub fn adopt(&self, name: &str, sha256: &str, size: u64) -> Result<ResourceDescriptor, ArtifactError> {
        let file = self.shared.entries().get(name).and_then(|entry| entry.file.clone());
        let failure = match file.as_deref().map(File::metadata) {
            None => Some(ArtifactError::plain(name, Step::Stat, "it was never begun")),
            Some(Err(error)) => Some(ArtifactError::io(name, Step::Stat, &error)),
            Some(Ok(metadata)) if metadata.len() != size => {
                let why = format!("its writer counted {size} bytes, the file has {}", metadata.len());
                Some(ArtifactError::plain(name, Step::Stat, &why))
            }
            Some(Ok(_)) if !hex::is_sha256(sha256) => {
                Some(ArtifactError::plain(name, Step::Stat, "its digest is no SHA-256"))
            }
            Some(Ok(_)) => None,
        };
        if let Some(error) = failure {
            self.shared.fail(error.clone());
            return Err(error);
        }
        self.shared.finish(ResourceDescriptor::new(name, sha256.to_owned(), size))
    }

    /// Remembers that an artifact could not be written, for writers that see the error themselves.
    pub fn fail(&self, error: ArtifactError) {
        self.shared.fail(error);
    }

    /// As [`EvidenceDir::fail`], from the error of a write to a raw log.
    pub fn fail_write(&self, name: &str, error: &std::io::Error) {
        self.shared.fail(ArtifactError::io(name, Step::Write, error));
    }

    /// As [`EvidenceDir::fail`], from the error of reading a raw log behind its writer: it is not what was written.
    pub fn fail_read(&self, name: &str, error: &std::io::Error) {
        self.shared.fail(ArtifactError::io(name, Step::Read, error));
    }

    /// The finished artifacts, by name: the digest manifest.
    #[must_use]
    pub fn manifest(&self) -> Vec<ResourceDescriptor> {
        let entries = self.shared.entries();
        entries
            .values()
            .filter_map(|entry| match &entry.state {
                State::Finished(artifact) => Some(artifact.clone()),
                State::Open | State::Failed(_) => None,
            })
            .collect()
    }

    /// Every artifact that was begun, as the verdict asks for it.
    #[must_use]
    pub fn facts(&self) -> BTreeMap<String, ArtifactFact> {
        let entries = self.shared.entries();
        let fact = |entry: &Entry| match &entry.state {
            State::Open => ArtifactFact::Open,
            State::Finished(_) => ArtifactFact::Written,
            State::Failed(error) => {
                ArtifactFact::Failed { why: format!("{}: {}", error.step.as_str(), error.why) }
            }
        };
        entries.iter().map(|(name, entry)| (name.clone(), fact(entry))).collect()
    }

    /// The name that an artifact has now.
    fn now<'a>(&self, name: &'a str) -> &'a str {
        let partial = RENDERINGS.iter().find(|(rendering, _)| *rendering == name);
        match partial {
            Some((_, partial)) if !self.published.load(Ordering::Acquire) => partial,
            _ => name,
        }
    }

    /// Opens a finished artifact again for reading.
    ///
    /// # Errors
    /// It cannot be opened without following links.
    pub fn open(&self, name: &str) -> Result<File, ArtifactError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat(&self.fd, self.now(name), flags, Mode::empty()) {
            Ok(fd) => Ok(File::from(fd)),
            Err(errno) => Err(ArtifactError::system(name, Step::Stat, errno)),
        }
    }

    /// Makes the content of every artifact durable that is not yet; their names follow in
    /// [`EvidenceDir::publish_report`]. What fails counts as not written, and so does a finished artifact whose name no
    /// longer leads to the file that was written.
    pub fn sync(&self) -> bool {
        let displaced = self.displaced();
        let in_place = displaced.is_empty();
        for error in displaced {
            self.shared.fail(error);
        }
        self.sync_content() && in_place
    }

    /// Finished artifacts that somebody removed, replaced, linked or wrote to.
    fn displaced(&self) -> Vec<ArtifactError> {
        let entries = self.shared.entries();
        let finished = entries.iter().filter_map(|(name, entry)| match (&entry.state, &entry.file) {
            (State::Finished(artifact), Some(file)) => Some((name, file, artifact.annotations.size)),
            _ => None,
        });
        finished.filter_map(|(name, file, size)| self.stands(name, file, size).err()).collect()
    }

    /// Whether what stands at a name is the file that was written, whole and under no other name.
    fn stands(&self, name: &str, file: &File, size: u64) -> Result<(), ArtifactError> {
        let there = rustix::fs::statat(&self.fd, self.now(name), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| ArtifactError::system(name, Step::Stat, errno))?;
        let own = file.metadata().map_err(|error| ArtifactError::io(name, Step::Stat, &error))?;
        let why = if (there.st_dev, there.st_ino) != (own.dev(), own.ino()) {
            "another file stands at its name".to_owned()
        } else if own.nlink() != 1 {
            format!("it has {} names: it could be changed under another", own.nlink())
        } else if own.len() != size {
            format!("{size} bytes were written, the file has {}", own.len())
        } else {
            return Ok(());
        };
        Err(ArtifactError::plain(name, Step::Stat, &why))
    }

    /// Whether the directory's path still leads to it: what is printed last is where somebody looks.
    fn leads_here(&self) -> Result<(), ArtifactError> {
        let stat = |result: rustix::io::Result<rustix::fs::Stat>| {
            result.map_err(|errno| ArtifactError::system(REPORT, Step::Place, errno))
        };
        let there = stat(rustix::fs::lstat(&self.path))?;
        let own = stat(rustix::fs::fstat(&self.fd))?;
        if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino) {
            return Ok(());
        }
        let why = "another directory stands at its path than the one that the run made";
        Err(ArtifactError::plain(REPORT, Step::Place, why))
    }

    /// Takes an artifact back that says something else than the report will: it counts as not written.
    pub fn withdraw(&self, name: &str, why: &str) {
        // What cannot be removed is not in the manifest, and so fails every check.
        for name in [name, self.now(name)] {
            let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
        }
        self.shared.fail(ArtifactError::plain(name, Step::Write, why));
    }

    fn sync_content(&self) -> bool {
        let (mut files, mut finished) = (Vec::new(), Vec::new());
        for (name, entry) in &*self.shared.entries() {
            if let (Some(file), false) = (&entry.file, entry.durable) {
                files.push((name.clone(), Arc::clone(file)));
                // As of before the sync: what is finished meanwhile may have written behind it.
                finished.extend(matches!(entry.state, State::Finished(_)).then(|| name.clone()));
            }
        }
        let failures = sync_all(&files);
        let sound = failures.is_empty();
        let failed: Vec<String> = failures.iter().map(|error| error.artifact.clone()).collect();
        for error in failures {
            self.shared.fail(error);
        }
        let mut entries = self.shared.entries();
        for name in finished.iter().filter(|name| !failed.contains(name)) {
            if let Some(entry) = entries.get_mut(name) {
                entry.durable = true;
            }
        }
        sound
    }

    /// Puts the report in place, last of all, when every name and all content is durable. [`EvidenceDir::sync`] comes
    /// before, and its failures belong in the report. `statement` is the signed statement over the report, where the run is signed.
    ///
    /// # Errors
    /// There is then no `report.json`: the run has no verdict that anyone could check.
    pub fn publish_report(
        &self,
        report: &[u8],
        statement: Option<&[u8]>,
    ) -> Result<Published, ArtifactError> {
        if report.len() > MAX_REPORT {
            let why =
                format!("it has {} bytes, more than the {MAX_REPORT} that are read again", report.len());
            return Err(ArtifactError::plain(REPORT, Step::Write, &why));
        }
        if self.published.load(Ordering::Acquire) {
            return Err(ArtifactError::plain(REPORT, Step::Create, "it stands already"));
        }
        let sha256 = hex::encode(&Sha256::digest(report));
        let digest_line = format!("{sha256}  {REPORT}\n");
        let mut parts: Vec<(&str, &[u8])> = vec![(PARTIAL, report), (REPORT_DIGEST, digest_line.as_bytes())];
        parts.extend(statement.map(|statement| (STATEMENT, statement)));
        let mut made = Vec::new();
        match self.put_in_place(&parts, &mut made) {
            Ok(()) => {
                self.published.store(true, Ordering::Release);
                Ok(Published { sha256, size: report.len() as u64 })
            }
            Err(error) => Err(self.take_back(made, error)),
        }
    }

    fn put_in_place(
        &self,
        parts: &[(&str, &[u8])],
        made: &mut Vec<(String, Arc<File>)>,
    ) -> Result<(), ArtifactError> {
        self.leads_here()?;
        for (name, bytes) in parts {
            let file = Arc::new(self.exclusive(name)?);
            made.push(((*name).to_owned(), Arc::clone(&file)));
            (&*file).write_all(bytes).map_err(|error| ArtifactError::io(name, Step::Write, &error))?;
        }
        if let Some(error) = sync_all(made).into_iter().next() {
            return Err(error);
        }
        for ((name, file), (_, bytes)) in made.iter().zip(parts) {
            self.stands(name, file, bytes.len() as u64)?;
        }
        let sync_dir = || {
            retry_on_intr(|| rustix::fs::fsync(&self.fd))
                .map_err(|errno| ArtifactError::system(REPORT, Step::Sync, errno))
        };
        let finished = self.manifest();
        let of_this_run = |name: &str| finished.iter().any(|artifact| artifact.name == name);
        sync_dir()?;
        // One directly after the other, the report first: a report without what is rendered from it is refused by every
        // check, what is rendered without a report would be believed by whoever reads it.
        self.rename(PARTIAL, REPORT).map_err(|errno| ArtifactError::system(REPORT, Step::Rename, errno))?;
        for (name, partial) in RENDERINGS.into_iter().filter(|(name, _)| of_this_run(name)) {
            self.rename(partial, name).map_err(|errno| ArtifactError::system(name, Step::Rename, errno))?;
        }
        sync_dir()
    }

    fn rename(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            // Not every file system knows the flag (renameat2(2): network file systems). The directory is the run's own,
            // so that looking first is as good.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match rustix::fs::statat(&self.fd, to, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => rustix::fs::renameat(&self.fd, from, &self.fd, to),
                    Ok(_) => Err(Errno::EXIST),
                    Err(errno) => Err(errno),
                }
            }
            other => other,
        }
    }

    /// After a failure nothing may look like a report, or like one in the making: also where it was in place already and
    /// only that could not be made durable, and whoever put it there. The first error is what matters.
    fn take_back(&self, made: Vec<(String, Arc<File>)>, mut error: ArtifactError) -> ArtifactError {
        let unlink = |name: &str| rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
        // What was put in place last goes first; under its other name whoever withdraws it takes it away.
        for (name, _) in RENDERINGS {
            let _ = unlink(name);
        }
        let report = unlink(REPORT);
        for (name, file) in made {
            if !matches!(unlink(&name), Ok(()) | Err(Errno::NOENT)) || name == PARTIAL {
                // Under whatever name it is left: nobody reads a verdict in an empty file.
                let _ = file.set_len(0);
            }
        }
        let _ = rustix::fs::fsync(&self.fd);
        if let Err(errno) = report
            && errno != Errno::NOENT
        {
            let also =
                format!("; and what stands at {REPORT} counts for nothing but cannot be removed: {errno}");
            error.why.push_str(&also);
        }
        error
    }

    fn make(&self, name: &str) -> Result<Arc<File>, ArtifactError> {
        let partial = |name: &str| name == PARTIAL || RENDERINGS.iter().any(|(_, partial)| *partial == name);
        let reserved = UNNAMED.contains(&name) || partial(name);
        if reserved || !is_plain_name(name) {
            return Err(ArtifactError::plain(name, Step::Create, "no artifact may have this name"));
        }
        let file = self.exclusive(name).inspect_err(|error| self.shared.fail(error.clone()))?;
        let file = Arc::new(file);
        let entry = Entry { file: Some(Arc::clone(&file)), state: State::Open, durable: false };
        self.shared.entries().insert(name.to_owned(), entry);
        Ok(file)
    }

    fn exclusive(&self, name: &str) -> Result<File, ArtifactError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let now = self.now(name);
        // Found now and not when it is to be put in place.
        if now != name && rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(ArtifactError::system(name, Step::Create, Errno::EXIST));
        }
        retry_on_intr(|| rustix::fs::openat(&self.fd, now, flags, Mode::RUSR | Mode::WUSR))
            .map(File::from)
            .map_err(|errno| ArtifactError::system(name, Step::Create, errno))
    }
}

/// Larger files keep their pages in memory: they are read again, and their own write-back outweighs a commit.
const HINTED: u64 = 1 << 20;

/// Makes files durable and says which are not.
///
/// One fsync after the other would wait for a journal commit each, because writing a file's delayed blocks starts a
/// new transaction. Asking for the write-back of all first lets the first fsync commit what the others need: half the
/// time for twelve small files on ext4. (syncfs waits for whatever else is dirty: 250 ms once.)
fn sync_all(files: &[(String, Arc<File>)]) -> Vec<ArtifactError> {
    for (_, file) in files {
        if file.metadata().is_ok_and(|metadata| metadata.len() <= HINTED) {
            // A hint; what it does not do, the fsync below does.
            let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }
    let failure = |(name, file): &(String, Arc<File>)| {
        retry_on_intr(|| rustix::fs::fsync(file))
            .err()
            .map(|errno| ArtifactError::system(name, Step::Sync, errno))
    };
    files.iter().filter_map(failure).collect()
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
