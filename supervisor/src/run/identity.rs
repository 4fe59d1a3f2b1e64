//! Who a sandbox is on the host: the caller itself as an ordinary user; as root an otherwise unused uid, one for each
//! live sandbox, so that no two sandboxes (and no user) can signal or trace each other.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use proctor_sandbox::host::Facts;
use proctor_sandbox::spec::Identity;
use rustix::fs::{FlockOperation, flock};

/// User and group id inside every sandbox.
pub const INSIDE: u32 = 1000;
/// Uids in one range.
const RANGE: u32 = 4096;
/// Where to look for a free range: above what passwd, subuid and container managers hand out.
const CANDIDATES: std::ops::Range<u32> = 30_000..30_064;
const STEP: u32 = 65_536;

/// An identity, and the lock that keeps others from having it.
#[derive(Debug)]
pub struct HostId {
    /// For the specification.
    pub identity: Identity,
    _lock: Option<File>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The lock directory.
    #[error(
        "cannot keep the list of host uids in use in {dir}: {error}; check that directory's owner and free space"
    )]
    Locks {
        /// Where.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Who has which uid.
    #[error("cannot tell which host uids are taken: {path}: {error}; make that file readable text")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Everything taken.
    #[error("all {RANGE} host uids for sandboxes are in use: end some runs, then try again")]
    Exhausted,
    /// passwd or subuid claims everything.
    #[error("no range of host uids is free of /etc/passwd and /etc/subuid, and mapped where this is a user namespace: free one near {}, or run Proctor as an ordinary user", CANDIDATES.start * STEP)]
    NoRange,
}

impl IdentityError {
    /// What to do about the host, where that is known and not in the text.
    pub fn mend(&self, facts: &Facts) -> Option<String> {
        matches!(self, Self::NoRange if facts.own.ids_mapped).then(|| {
            "this is a user namespace in which no uid is to spare: map more of them (--userns=host, hostUsers: true, or a larger range), or run Proctor as an ordinary user here (in a container --user 1000)".to_owned()
        })
    }
}

impl HostId {
    /// The identity of one sandbox; as root its lock stands in `locks`.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn take(locks: &Path) -> Result<Self, IdentityError> {
        let own = rustix::process::geteuid().as_raw();
        if own != 0 {
            let gid = rustix::process::getegid().as_raw();
            return Ok(Self { identity: identity(own, gid), _lock: None });
        }
        let mapped = Mapped::new(&read("/proc/self/uid_map")?, &read("/proc/self/gid_map")?);
        let base = free_range(&read("/etc/passwd")?, &read("/etc/subuid")?, &mapped)
            .ok_or(IdentityError::NoRange)?;
        let failed = |error: io::Error| IdentityError::Locks { dir: locks.to_owned(), error };
        make_private_dir(locks).map_err(failed)?;
        for slot in 0..RANGE {
            let uid = base + slot;
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(locks.join(uid.to_string()))
                .map_err(failed)?;
            // Held until dropped, and let go of by the kernel if this process dies.
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // `gc` may have removed it before it was locked: then it keeps nobody out, and the next one is taken.
                Ok(()) if !stands(&file, &locks.join(uid.to_string())) => {}
                Ok(()) => {
                    return Ok(Self { identity: identity(uid, uid), _lock: Some(file) });
                }
                Err(rustix::io::Errno::AGAIN) => {}
                Err(e) => return Err(failed(e.into())),
            }
        }
        Err(IdentityError::Exhausted)
    }
}

/// Whether a file is the one that its path leads to.
pub fn stands(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let of = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
    let here = of(file.metadata());
    here.is_some() && here == of(fs::symlink_metadata(path))
}

fn identity(host_uid: u32, host_gid: u32) -> Identity {
    Identity { inside_uid: INSIDE, inside_gid: INSIDE, host_uid, host_gid }
}

/// A missing file claims nothing; one that cannot be read could claim anything.
fn read(path: &str) -> Result<String, IdentityError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|error| IdentityError::Unreadable { path: path.into(), error }),
    }
}

fn make_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not a directory that root alone can write"));
    }
    Ok(())
}

/// Which ids there are at all: in a container with a user namespace of its own, few (user_namespaces(7)).
struct Mapped([Vec<(u64, u64)>; 2]);

impl Mapped {
    fn new(uid_map: &str, gid_map: &str) -> Self {
        let extents = |map: &str| {
            map.lines()
                .filter_map(|line| {
                    let mut fields = line.split_whitespace();
                    let first = fields.next()?.parse().ok()?;
                    Some((first, fields.nth(1)?.parse().ok()?))
                })
                .collect()
        };
        Self([extents(uid_map), extents(gid_map)])
    }

    /// True where the range is there, as uids and as gids.
    fn has(&self, start: u64, end: u64) -> bool {
        self.0.iter().all(|map| {
            map.iter().any(|(first, count)| *first <= start && end <= first.saturating_add(*count))
        })
    }

    /// Ranges within small maps, the highest first: the low ones are those of users.
    fn ranges(&self) -> impl Iterator<Item = u32> {
        let highest = self.0[0].iter().map(|(first, count)| first.saturating_add(*count)).max().unwrap_or(0);
        let highest = u32::try_from(highest).unwrap_or(u32::MAX) / RANGE;
        (1..highest.min(STEP / RANGE)).rev().map(|n| n * RANGE)
    }
}

/// The first range that exists and that neither passwd nor subuid touches.
fn free_range(passwd: &str, subuid: &str, mapped: &Mapped) -> Option<u32> {
    let users = passwd.lines().filter_map(|l| l.split(':').nth(2)?.parse::<u64>().ok()).map(|uid| (uid, 1));
    let ranges = subuid.lines().filter_map(|l| {
        let mut parts = l.split(':').skip(1);
        Some((parts.next()?.parse::<u64>().ok()?, parts.next()?.parse::<u64>().ok()?))
    });
    let taken: Vec<(u64, u64)> = users.chain(ranges).collect();
    CANDIDATES.map(|n| n * STEP).chain(mapped.ranges()).find(|base| {
        let (start, end) = (u64::from(*base), u64::from(*base) + u64::from(RANGE));
        mapped.has(start, end)
            && taken.iter().all(|(first, count)| first.saturating_add(*count) <= start || *first >= end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_claims_nothing_and_one_that_cannot_be_read_is_an_error() {
        assert_eq!(read("/nonexistent/passwd").unwrap(), "");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"\xff\xfe").unwrap();
        let error = read(&file.path().to_string_lossy()).unwrap_err().to_string();
        assert!(error.contains("cannot tell which host uids are taken"), "{error}");
    }

    #[test]
    fn a_range_keeps_clear_of_users_and_their_subordinates() {
        let first = CANDIDATES.start * STEP;
        let all = "0 0 4294967295\n";
        let free_range =
            |passwd: &str, subuid: &str| super::free_range(passwd, subuid, &Mapped::new(all, all));
        assert_eq!(free_range("root:x:0:0::/:/bin/sh\n", "a:100000:65536\n"), Some(first));
        assert_eq!(free_range(&format!("x:x:{}:1::/:/\n", first + 7), ""), Some(first + STEP));
        assert_eq!(free_range("", &format!("a:{}:{}\n", first - 10, 70_000)), Some(first + 2 * STEP));
        assert_eq!(free_range("", "a:0:4294967295\n"), None);
    }

    #[test]
    fn in_a_user_namespace_the_range_is_one_that_is_mapped() {
        let pod = Mapped::new("         0    2000000      65536\n", "0 2000000 65536\n");
        let passwd = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
        assert_eq!(free_range(passwd, "", &pod), Some(14 * RANGE));
        assert_eq!(free_range("", "a:0:65536\n", &pod), None);
        // Rootless, with the caller alone mapped: nobody else to be.
        assert_eq!(free_range("", "", &Mapped::new("0 1000 1\n", "0 1000 1\n")), None);
        assert_eq!(free_range("", "", &Mapped::new("0 0 65536\n", "0 0 100\n")), None, "gids as well");
    }
}
