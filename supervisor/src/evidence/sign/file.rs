//! Key files: opened once, looked at by descriptor, and made exclusively.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::key::{self, KeyError, PublicKey};

/// Largest key file, bytes.
const MAX_KEY: u64 = 64 << 10;

/// Which file a private key was read from.
#[derive(Debug, Default)]
pub(super) struct KeyFile {
    pub(super) real: PathBuf,
    pub(super) dev_ino: (u64, u64),
}

/// Opens without following a link at the end, and without waiting for anybody at the other end of a fifo.
fn open(path: &Path, follow: bool, mend: &str) -> Result<(File, Stat), KeyError> {
    let fail = |what: String, mend: &str| KeyError::new(path, what, mend);
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Err(fail("does not exist".into(), mend)),
        Err(Errno::LOOP) => {
            return Err(fail(
                "is a symbolic link: whoever can change the link chooses the key".into(),
                "name the file itself",
            ));
        }
        Err(errno) => return Err(fail(format!("cannot be opened: {errno}"), mend)),
    };
    let stat =
        rustix::fs::fstat(&file).map_err(|errno| fail(format!("cannot be looked at: {errno}"), mend))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok((file, stat)),
        FileType::Directory => "a directory",
        FileType::Fifo => "a fifo",
        _ => "a special file",
    };
    Err(fail(format!("is {kind}, not a regular file"), mend))
}

fn text(path: &Path, file: &File, mend: &str) -> Result<Zeroizing<String>, KeyError> {
    let fail = |what: String| KeyError::new(path, what, mend);
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(MAX_KEY + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(format!("cannot be read: {error}")))?;
    if bytes.is_empty() {
        return Err(fail("is empty".into()));
    }
    if bytes.len() as u64 > MAX_KEY {
        return Err(fail(format!("is larger than {MAX_KEY} bytes, which no key is")));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(fail("is no PEM file: it is not text".into())),
    }
}

/// The text of a public key's file: anybody may read that, and where it is taken from is the caller's own choice.
pub(super) fn read_public(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    const MEND: &str = "name a public key's file (KEY.pub, as `proctor keygen` wrote it)";
    let (file, _) = open(path, true, MEND)?;
    text(path, &file, MEND)
}

/// The text of a private key's file, and which file that is.
pub(super) fn read_private(path: &Path) -> Result<(Zeroizing<String>, KeyFile), KeyError> {
    const MEND: &str = "name a private key's file, or make one with `proctor keygen KEY`";
    let (file, stat) = open(path, false, MEND)?;
    let fail = |what: String, mend: &str| Err(KeyError::new(path, what, mend));
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        return fail(
            format!("belongs to uid {}, not to uid {own}: its owner knows the key", stat.st_uid),
            "use a key of your own",
        );
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o077 != 0 {
        return fail(
            format!("has mode {mode:04o}: others than its owner could read or change it"),
            "make a new one with `proctor keygen` if somebody may have read it, else `chmod 600` it",
        );
    }
    if stat.st_nlink != 1 {
        return fail(
            format!("has {} names (hard links): it could be shown under another", stat.st_nlink),
            "copy it to a file of its own, of mode 0600, and remove the others",
        );
    }
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|error| KeyError::new(path, format!("has no known real path: {error}"), "mount /proc"))?;
    let text = text(path, &file, MEND)?;
    Ok((text, KeyFile { real, dev_ino: (stat.st_dev, stat.st_ino) }))
}

/// Where the public half of a key is written.
#[must_use]
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// What `keygen` made.
#[derive(Debug)]
pub struct KeyPair {
    /// The private key's file, mode 0600.
    pub private: PathBuf,
    /// The public key's file.
    pub public: PathBuf,
    /// The public key.
    pub key: PublicKey,
}

/// Makes a key and its two files, durable, in a directory that is made where it is missing.
///
/// # Errors
/// Nothing is left of it then, and nothing that was there is changed.
pub fn write_pair(path: &Path) -> Result<KeyPair, KeyError> {
    let elsewhere = "give another place";
    let fail = |path: &Path, what: String, mend: &str| Err(KeyError::new(path, what, mend));
    let Some(name) = path.file_name() else {
        return fail(path, "has no name".into(), "name the file that is to hold the private key");
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let io = |what: &str, error: &dyn std::fmt::Display| {
        KeyError::new(path, format!("cannot be made: {what}: {error}"), elsewhere)
    };
    if let Some(top) = work_tree(parent) {
        return fail(
            path,
            format!(
                "would lie in the git work tree {}, where it is one `git add` from being published",
                top.display()
            ),
            "keep it outside of every work tree, for example below ~/.config/proctor",
        );
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(|error| io("the directory above it", &error))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, Mode::empty())
        .map_err(|errno| io("opening the directory above it", &errno))?;
    let public_name = public_path(Path::new(name));
    let there = |name: &Path| {
        KeyError::new(
            &parent.join(name),
            "is there already, and a key is never written over",
            "give another name, or move the old one away if nobody needs it",
        )
    };
    // Said before anything is made; what comes to be there meanwhile is not written over either.
    for name in [Path::new(name), &public_name] {
        if rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(there(name));
        }
    }
    let key = key::generate().map_err(|error| io("no random bytes", &error))?;
    let Some((pem, public)) = key::to_pem(&key) else {
        return fail(path, "cannot be made: the key cannot be written as PEM".into(), "try again");
    };
    let Some(public_pem) = public.to_pem() else {
        return fail(path, "cannot be made: the public key cannot be written as PEM".into(), "try again");
    };
    let mut made: Vec<&Path> = Vec::new();
    let files: [(&Path, &str, Mode); 2] = [
        (Path::new(name), pem.as_str(), Mode::RUSR | Mode::WUSR),
        (&public_name, public_pem.as_str(), Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH),
    ];
    let mut result = Ok(());
    for (name, text, mode) in files {
        result = exclusive(&dir, name, text, mode, &mut made).map_err(|(step, errno)| {
            let shown = parent.join(name);
            match errno {
                Errno::EXIST => there(name),
                errno => KeyError::new(&shown, format!("cannot be made: {step}: {errno}"), elsewhere),
            }
        });
        if result.is_err() {
            break;
        }
    }
    let result = result
        .and_then(|()| rustix::fs::fsync(&dir).map_err(|errno| io("making the directory durable", &errno)));
    if let Err(error) = result {
        for name in made {
            // What is left is half a key pair, which nothing has used; the first error is what matters.
            let _ = rustix::fs::unlinkat(&dir, name, AtFlags::empty());
        }
        return Err(error);
    }
    Ok(KeyPair { private: path.to_owned(), public: public_path(path), key: public })
}

fn exclusive<'a>(
    dir: &OwnedFd,
    name: &'a Path,
    text: &str,
    mode: Mode,
    made: &mut Vec<&'a Path>,
) -> Result<(), (&'static str, Errno)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Never wider than it will be, whatever the umask takes away.
    let fd = rustix::fs::openat(dir.as_fd(), name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| ("creating it", errno))?;
    made.push(name);
    let mut file = File::from(fd);
    file.write_all(text.as_bytes())
        .map_err(|error| ("writing it", Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    rustix::fs::fchmod(&file, mode).map_err(|errno| ("setting its mode", errno))?;
    rustix::fs::fsync(&file).map_err(|errno| ("making it durable", errno))
}

/// The git work tree, or git directory, in which something at `dir` would lie. What cannot be looked at is asked of the
/// directories above it.
fn work_tree(dir: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(dir).ok()?;
    let real = absolute.ancestors().find_map(|above| std::fs::canonicalize(above).ok())?;
    let is_git = |at: &Path| {
        at.join(".git").symlink_metadata().is_ok()
            || (at.join("HEAD").is_file() && at.join("objects").is_dir())
    };
    real.ancestors().find(|above| is_git(above)).map(Path::to_owned)
}
