//! Whether something would be allowed in the backend's sandbox, and by which rule: what `proctor why` answers. Says
//! what the plan of a run comes to; starts nothing, and promises nothing of what the host changes meanwhile.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::plan::Plan;
use super::sight::{Found, Place, Sight, exists, is_missing, permitted};
use crate::profile::{MutationMode, Network};

mod change;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Whether it is allowed; null where it depends on more than the path.
    pub allowed: Option<bool>,
    /// By which rule.
    pub why: String,
}

/// Where writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goes {
    /// Into the private layer over the work tree, which is compared and judged afterwards.
    Overlay,
    /// Into a private place, thrown away.
    Private,
    /// Through to the host.
    Host,
}

/// What would be said of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It could stand in a passing patch.
    Allowed,
    /// `disallowed_file`.
    Disallowed,
    /// Only with the operator's approval.
    NeedsApproval,
    /// Listed as a write to an ignored path, and dropped.
    Ignored,
    /// Reported, and carried nowhere.
    NotCarried,
    /// A directory: each file in it is judged by its own path.
    ByFile,
    /// It cannot be made.
    Impossible,
}

/// One rule that has a part in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Which: `protect`, `deny`, `allow`, `ask`, `hidden`, ...
    pub rule: &'static str,
    /// In words.
    pub message: String,
    /// Which layer of policy said so, where one did.
    pub said_by: Option<String>,
}

/// How a change would be judged, as far as its path decides that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The path in the work tree.
    pub path: String,
    /// What would be said.
    pub verdict: Verdict,
    /// Why.
    pub reasons: Vec<Reason>,
    /// It would be listed among the changes that steer the tests.
    pub steers_tests: bool,
}

/// A link that was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Followed {
    /// Where it is.
    pub link: PathBuf,
    /// What it says.
    pub to: PathBuf,
}

/// What is said of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathAnswer {
    /// The path, as it was understood.
    pub asked: PathBuf,
    /// Where it leads inside.
    pub path: PathBuf,
    /// Over which links.
    pub links: Vec<Followed>,
    /// What is there: `work_tree`, `bind`, `overlay`, `private`, `masked`, ...
    pub place: &'static str,
    /// The same in words.
    pub shown: String,
    /// Which layer of policy said so, where one did.
    pub said_by: Option<String>,
    /// Whether there is something, at the start; null where that cannot be told.
    pub exists: Option<bool>,
    /// Reading it.
    pub read: Word,
    /// Changing or making it.
    pub write: Word,
    /// Where writes go.
    pub goes_to: Option<Goes>,
    /// How the change would be judged; null outside of the work tree.
    pub change: Option<Judgement>,
}

/// What is said of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostAnswer {
    /// The host.
    pub host: String,
    /// The port, where one was named.
    pub port: Option<u16>,
    /// Connecting to it.
    pub connect: Word,
    /// The network of the sandbox.
    pub network: &'static str,
    /// Which layer of policy said so.
    pub said_by: Option<String>,
}

/// Whether the backend could connect.
#[must_use]
pub fn host(plan: &Plan, host: &str, port: Option<u16>) -> HostAnswer {
    let local = host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let (network, allowed, why) = match (plan.resolved.options.net, local) {
        (Network::Host, _) => (
            "host",
            true,
            "--net host: everything is reached that the host reaches, a weakness that the report names; nothing is filtered",
        ),
        (Network::None, true) => (
            "none",
            true,
            "--net none: the sandbox's own loopback, where only what runs inside answers; never the host's",
        ),
        (Network::None, false) => (
            "none",
            false,
            "--net none: a network namespace with its own loopback alone; --net host would let it, and everything else",
        ),
    };
    HostAnswer {
        host: host.to_owned(),
        port,
        connect: Word { allowed: Some(allowed), why: why.into() },
        network,
        said_by: said_by(plan, &["sandbox.net"], network),
    }
}

/// Which layer said this value last.
fn said_by(plan: &Plan, keys: &[&str], value: &str) -> Option<String> {
    let mut origins = plan.resolved.options.origins.iter().rev();
    let found = origins.find(|origin| keys.contains(&origin.key.as_str()) && origin.value == value);
    found.map(|origin| origin.layer.clone())
}

/// Whether the backend could read and write a path, and what would become of a change. `asked` is absolute.
///
/// # Errors
/// It leads in circles, or the work tree cannot be looked at.
pub fn path(plan: &Plan, asked: &Path) -> Result<PathAnswer, String> {
    let sight = Sight::new(plan)?;
    let found = sight.follow(asked)?;
    let asker = Asker { plan, found: &found };
    let (place, shown, said_by) = asker.shown();
    let (read, write, goes_to) = asker.access();
    Ok(PathAnswer {
        asked: asked.to_owned(),
        place,
        shown,
        said_by,
        exists: asker.exists(),
        read,
        write,
        goes_to,
        change: asker.change(asked)?,
        path: found.path.clone(),
        links: found.links.iter().map(|(link, to)| Followed { link: link.clone(), to: to.clone() }).collect(),
    })
}

struct Asker<'a> {
    plan: &'a Plan,
    found: &'a Found,
}

fn yes(why: impl Into<String>) -> Word {
    Word { allowed: Some(true), why: why.into() }
}

fn no(why: impl Into<String>) -> Word {
    Word { allowed: Some(false), why: why.into() }
}

impl Asker<'_> {
    /// The place's name, what it is in words, and who said so.
    fn shown(&self) -> (&'static str, String, Option<String>) {
        let plan = self.plan;
        let mount = |keys: &[&str], target: &Path| said_by(plan, keys, &target.to_string_lossy());
        match &self.found.place {
            Place::Tree { .. } => ("work_tree", "the work tree".into(), None),
            Place::Git => ("private_git", "the private .git: HEAD, refs, index and objects of the real one; no hooks, includes or credentials".into(), None),
            Place::Hidden { mask } => {
                let relative = mask.strip_prefix(plan.repo.root_path()).unwrap_or(mask);
                let bytes = relative.as_os_str().as_bytes();
                match plan.hide.matching_dir(bytes) {
                    Some(glob) => ("hidden", format!("hidden by --hide {glob}: {} is masked", mask.display()), said_by(plan, &["hide"], glob)),
                    None => ("hidden", format!("{} is masked: a hidden link leads to it", mask.display()), None),
                }
            }
            Place::Masked { mask } => ("masked", format!("{} is masked: a known credential file or a socket below a mount", mask.display()), None),
            Place::Bind { target, writable: false, .. } => ("bind", format!("the mount {}, read-only", target.display()), mount(&["sandbox.ro"], target)),
            Place::Bind { target, .. } => ("bind", format!("the mount {}, WRITABLE", target.display()), mount(&["sandbox.rw"], target)),
            Place::Overlay { target, .. } => ("overlay", format!("the mount {}, written privately", target.display()), mount(&["sandbox.overlay"], target)),
            Place::Private { target } => ("private", format!("the private directory {}, empty at the start", target.display()), None),
            Place::MadeUp => ("made_up", "a file that Proctor makes up; nothing of the host's is in it".into(), None),
            Place::Device => ("device", "the sandbox's own /dev".into(), None),
            Place::Terminals => ("terminals", "the sandbox's own /dev/pts".into(), None),
            Place::ProcMasked => ("proc_masked", "a kernel file, masked".into(), None),
            Place::ProcReadOnly | Place::Proc => ("proc", "the sandbox's own /proc".into(), None),
            Place::Root | Place::Link { .. } => ("root", "the private root: directories that lead to what is mounted".into(), None),
            Place::Nothing => ("nothing", "nothing is mounted there".into(), None),
        }
    }

    /// The host's path behind the place, the mount's source, and whether the mount's owner is the backend where Proctor
    /// runs as root.
    fn behind(&self) -> Option<(&Path, &Path, bool)> {
        match &self.found.place {
            Place::Tree { host, .. } => Some((host, self.plan.repo.root_path(), true)),
            Place::Bind { host, source, writable, .. } => {
                let needed = |meta: &Metadata| if meta.is_dir() { 0o005 } else { 0o004 };
                let closed = exists(source).is_none_or(|meta| meta.mode() & needed(&meta) != needed(&meta));
                Some((host, source, *writable || closed))
            }
            Place::Overlay { host, source, .. } => Some((host, source, true)),
            _ => None,
        }
    }

    fn exists(&self) -> Option<bool> {
        match &self.found.place {
            Place::Tree { host, .. } | Place::Bind { host, .. } | Place::Overlay { host, .. } => {
                if exists(host).is_some() { Some(true) } else { is_missing(host).then_some(false) }
            }
            Place::Private { target } => Some(self.found.path == *target),
            Place::Hidden { .. } | Place::Masked { .. } | Place::MadeUp | Place::Device | Place::Root => {
                Some(true)
            }
            Place::Nothing => Some(false),
            Place::Git
            | Place::Terminals
            | Place::ProcMasked
            | Place::ProcReadOnly
            | Place::Proc
            | Place::Link { .. } => None,
        }
    }

    fn access(&self) -> (Word, Word, Option<Goes>) {
        let read_only_root = "the private root is read-only";
        match &self.found.place {
            Place::Tree { .. } if self.plan.resolved.options.mutation == MutationMode::None => {
                (self.readable(), no("--mutation none: the work tree is read-only"), None)
            }
            Place::Tree { .. } => {
                self.written(Goes::Overlay, "into the private layer; the real tree stays as it is")
            }
            Place::Git if self.plan.resolved.options.mutation == MutationMode::None => {
                (yes("the private .git"), no("--mutation none: the work tree is read-only"), None)
            }
            Place::Git => {
                let why =
                    "into the private layer: reported, and carried nowhere; the real .git stays as it is";
                (yes("the private .git"), yes(why), Some(Goes::Overlay))
            }
            Place::Hidden { .. } | Place::Masked { .. } | Place::ProcMasked => (
                no("a mask of mode 000 covers it"),
                no("a mask covers it, and cannot be moved or removed"),
                None,
            ),
            Place::Bind { writable: false, .. } => (self.readable(), no("the mount is read-only"), None),
            Place::Bind { .. } => self.written(Goes::Host, "THROUGH TO THE HOST, for good"),
            Place::Overlay { .. } => self.written(Goes::Private, "into a private layer, thrown away"),
            Place::Private { .. } => {
                (yes("it is the sandbox's own"), yes("privately, thrown away"), Some(Goes::Private))
            }
            Place::MadeUp => (yes("it is made up for the sandbox"), no("it is read-only"), None),
            Place::Device if self.found.path == Path::new("/dev") => {
                (yes("it lists the few devices"), no("Landlock: nothing can be made there"), None)
            }
            Place::Device => (yes("a harmless device"), yes("a harmless device: data, not the node"), None),
            Place::Terminals => {
                let own = "pseudo-terminals that the sandbox makes itself; none of the host's";
                (yes(own), yes(own), Some(Goes::Private))
            }
            Place::ProcReadOnly => (yes("readable, mounted read-only"), no("mounted read-only"), None),
            Place::Proc => {
                let own =
                    "as the kernel lets it for the sandbox's own processes; no other is there".to_owned();
                (Word { allowed: None, why: own.clone() }, Word { allowed: None, why: own }, None)
            }
            Place::Root | Place::Link { .. } => (yes("it can be listed"), no(read_only_root), None),
            Place::Nothing => {
                let why =
                    format!("nothing is there; --ro {} would show the host's", self.found.path.display());
                (no(why), no(read_only_root), None)
            }
        }
    }

    fn readable(&self) -> Word {
        let Some((host, source, own)) = self.behind() else { return no("nothing is behind it") };
        if is_missing(host) {
            return no("it does not exist");
        }
        match permitted(host, source, own, 4) {
            Some(true) => yes("it is shown, and its permissions allow it"),
            Some(false) => no("its permissions, or those of a directory on the way, do not allow it"),
            None => Word { allowed: None, why: "its permissions cannot be looked at".into() },
        }
    }

    fn written(&self, goes: Goes, how: &str) -> (Word, Word, Option<Goes>) {
        let read = self.readable();
        let Some((host, source, own)) = self.behind() else {
            return (read, no("nothing is behind it"), None);
        };
        // What is missing is made in the nearest directory that is there.
        let target = host.ancestors().find(|path| !is_missing(path)).unwrap_or(host);
        let write = match permitted(target, source, own, 2) {
            Some(true) => yes(how),
            Some(false) => no("its permissions do not allow it, or it belongs to somebody else"),
            None => Word { allowed: None, why: "its permissions cannot be looked at".into() },
        };
        let goes = (write.allowed != Some(false)).then_some(goes);
        (read, write, goes)
    }
}

/// A path as it was meant: absolute, without `.` and `..`, seen from `here`; `~` is the sandbox's home.
#[must_use]
pub fn absolute(asked: &OsStr, here: &Path) -> PathBuf {
    let home = super::view::HOME;
    let joined = match asked.to_str().and_then(|text| text.strip_prefix('~')) {
        Some("") => PathBuf::from(home),
        Some(rest) if rest.starts_with('/') => Path::new(home).join(rest.trim_start_matches('/')),
        _ => here.join(asked),
    };
    let mut out = PathBuf::from("/");
    for part in joined.components() {
        match part {
            std::path::Component::Normal(name) => out.push(name),
            std::path::Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute_without_a_look_at_the_host() {
        let here = Path::new("/repos/tree");
        for (asked, meant) in [
            ("src/a", "/repos/tree/src/a"),
            ("./src/../b", "/repos/tree/b"),
            ("../../../../x", "/x"),
            ("/etc//passwd", "/etc/passwd"),
            ("~", "/home/agent"),
            ("~/.ssh", "/home/agent/.ssh"),
            ("~other", "/repos/tree/~other"),
        ] {
            assert_eq!(absolute(OsStr::new(asked), here), Path::new(meant), "{asked}");
        }
    }
}
