//! From what a run lacked to a profile that would grant it, each line with its reason. A proposal is text: nothing is
//! granted until the operator gives it to a run. What was asked for is the backend's choice, so a proposal never names
//! credentials, Proctor's own places, or more of the host than what was asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use super::plan::Plan;
use super::state_dirs::{Place, StateDirs};
use super::view;
use super::watch::tell::Learned;
use crate::profile::layers::{Layer, LayerKind};
use crate::profile::mounts::{is_credential, mount_path};
use crate::profile::source::SourceText;
use crate::profile::{HostEnv, ProfileError};
use crate::report::escape;
use crate::verdict::{Blocker, BlockerCode};

/// Files of one directory from which on the directory is proposed in their place.
const TOGETHER: usize = 5;
/// Most mounts of a proposal.
const MAX_MOUNTS: usize = 100;
/// Names that hold secrets of a person's, as a directory or a file, wherever they stand in a path.
const PRIVATE: [&str; 14] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".password-store",
    ".mozilla",
    ".thunderbird",
    ".claude",
    ".codex",
    ".pi",
    "keyrings",
    "private",
];
/// Entries of a directory that are looked at before it is proposed.
const MAX_LOOKED_AT: usize = 50_000;
const PRIVATE_WORDS: &str = "it holds credentials, or may";
/// Directories with something of everybody's in them.
const TOO_WIDE: [&str; 6] = ["/var/lib", "/var/cache", "/var/log", "/var/spool", "/usr/local", "/etc/ssl"];
/// Places that every sandbox makes for itself.
const MADE_INSIDE: [&str; 12] = [
    "/proc",
    "/sys",
    "/dev",
    "/tmp",
    "/var/tmp",
    view::HOME,
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
];

/// Something that the profile would grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// Table and key (`sandbox.ro`).
    pub key: String,
    /// The value.
    pub value: String,
    /// What was tried.
    pub why: String,
    /// Why it is a weakness, where it is one.
    pub weakness: Option<String>,
}

/// Something that was lacking and is not proposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Withheld {
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// A proposed profile.
#[derive(Debug, Clone, Serialize)]
pub struct Proposal {
    /// The profile, as TOML.
    pub profile: String,
    /// What it would grant.
    pub grants: Vec<Grant>,
    /// What it does not.
    pub withheld: Vec<Withheld>,
    /// What cannot be learned in this way.
    pub not_learned: Vec<String>,
}

/// What is never known.
const NOT_LEARNED: [&str; 4] = [
    "what a file's permissions refused, and where the host's audit is not read what Landlock did: a path that is there and may not be read or written",
    "data sent without connect(2), and names that a program resolves without it",
    "what a program would have done next had it not failed: run learn again with the proposal",
    "what the test and the reviewer lack: they have options of their own",
];

fn is_private(path: &Path) -> bool {
    let names = path.components().any(|part| match part {
        Component::Normal(name) => PRIVATE.iter().any(|private| name == *private),
        _ => false,
    });
    names || is_credential(path)
}

fn is_everybodys(meta: &fs::Metadata) -> bool {
    let needed = if meta.is_dir() { 0o005 } else { 0o004 };
    meta.mode() & needed == needed
}

/// Whether all that a directory would show is for everybody: an ordinary user's backend reads whatever the user may. What
/// cannot be told, because there is too much or it cannot be looked at, is not.
fn shows_everybodys_alone(dir: &Path) -> bool {
    let mut left = MAX_LOOKED_AT;
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(dir) else { return false };
        for entry in entries {
            left = left.saturating_sub(1);
            let Ok((entry, meta)) = entry.and_then(|entry| entry.metadata().map(|meta| (entry, meta))) else {
                return false;
            };
            let path = entry.path();
            // What a link leads to is shown where it is, or not at all.
            if left == 0 || is_private(&path) || !(meta.is_symlink() || is_everybodys(&meta)) {
                return false;
            }
            if meta.is_dir() {
                dirs.push(path);
            }
        }
    }
    true
}

/// Why a path is not proposed, where it is not.
fn refusal(path: &Path, tree: &Path, home: Option<&Path>, own: &[Place]) -> Option<&'static str> {
    if is_private(path) {
        return Some(PRIVATE_WORDS);
    }
    let plain = path.to_str().map(mount_path);
    if !matches!(plain, Some(Ok(_))) || MADE_INSIDE.iter().any(|made| path.starts_with(made)) {
        return Some("the sandbox has one of its own");
    }
    let (Ok(real), Ok(meta)) = (fs::canonicalize(path), fs::metadata(path)) else {
        return Some("it cannot be looked at");
    };
    if path.starts_with(tree) || real.starts_with(tree) {
        return Some("it is in the work tree, which is shown as it is to be shown");
    }
    if is_private(&real) {
        return Some(PRIVATE_WORDS);
    }
    let place = Place::of(path);
    if place.is_err() || own.iter().any(|own| place.as_ref().is_ok_and(|place| place.overlaps(own))) {
        return Some("it leads to Proctor's own state, configuration or evidence");
    }
    let kind = meta.file_type();
    if kind.is_socket() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device() {
        return Some("it is a socket, a pipe or a device: who answers there is outside of the sandbox");
    }
    if !is_everybodys(&meta) {
        return Some("not everybody on this host may read it");
    }
    let home = home.is_some_and(|home| home.starts_with(&real));
    let wide = real.components().count() <= 2
        || TOO_WIDE.iter().any(|wide| real == Path::new(wide))
        || real.parent() == Some(Path::new("/home"));
    if meta.is_dir() && (home || wide) {
        return Some("it is too wide: name what is needed below it");
    }
    if meta.is_dir() && !shows_everybodys_alone(&real) {
        return Some(
            "something in it is private, or there is too much in it to tell: name what is needed below it",
        );
    }
    None
}

/// Whether an operator may be told to show a path that a program of a run asked for.
pub(super) fn may_be_shown(plan: &Plan, path: &Path) -> bool {
    let mut own_paths = plan.dirs.own();
    own_paths.push(plan.evidence.clone());
    let own: Vec<Place> = own_paths.iter().filter_map(|path| Place::of(path).ok()).collect();
    // As below: what cannot be looked at might be where the path leads.
    own.len() == own_paths.len() && refusal(path, plan.repo.root_path(), plan.home.as_deref(), &own).is_none()
}

/// The mounts that would show these paths, each with the paths it is for.
fn mounts(
    learned: &Learned,
    tree: &Path,
    home: Option<&Path>,
    own: &[Place],
    withheld: &mut Vec<Withheld>,
) -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let mut wanted: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for path in &learned.paths {
        match refusal(path, tree, home, own) {
            None => wanted.entry(path.clone()).or_default().push(path.clone()),
            Some("the sandbox has one of its own") => {}
            Some(why) => {
                withheld.push(Withheld { what: path.to_string_lossy().into_owned(), why: why.into() })
            }
        }
    }
    let mut parents: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for parent in wanted.keys().filter_map(|path| path.parent()) {
        *parents.entry(parent.to_owned()).or_insert(0) += 1;
    }
    let crowded = |parent: &Path| parents.get(parent).is_some_and(|count| *count >= TOGETHER);
    let mut made: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for path in wanted.into_keys() {
        let parent = path.parent().filter(|p| crowded(p) && refusal(p, tree, home, own).is_none());
        let mount = parent.unwrap_or(&path).to_owned();
        // What stands below another mount needs none of its own.
        let above = made.keys().find(|above| mount.starts_with(above)).cloned();
        made.entry(above.unwrap_or(mount)).or_default().push(path);
    }
    let tops: Vec<PathBuf> = made.keys().cloned().collect();
    made.retain(|path, _| !tops.iter().any(|top| top != path && path.starts_with(top)));
    made
}

fn limits(blockers: &[Blocker]) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    for blocker in blockers {
        let text = |key: &str| blocker.detail.get(key).and_then(serde_json::Value::as_str);
        let number = |key: &str| blocker.detail.get(key).and_then(serde_json::Value::as_u64);
        let (key, value) = match (blocker.code, text("option")) {
            (BlockerCode::ResourceLimit | BlockerCode::OutputLimit, Some(option)) => {
                let key = match option {
                    "--memory" => "memory",
                    "--pids-limit" => "pids",
                    "--disk" => "disk",
                    "--max-log" => "max_log",
                    "--max-files" => "max_files",
                    "--max-patch" => "max_patch",
                    _ => continue,
                };
                let Some(limit) = number("limit") else { continue };
                (format!("limits.{key}"), limit.saturating_mul(2).to_string())
            }
            (BlockerCode::Timeout, Some(option)) => {
                let key = match option {
                    "--timeout" => "wall",
                    "--idle-timeout" => "idle",
                    _ => continue,
                };
                let Some(limit) = number("limit_ms") else { continue };
                (format!("timeouts.{key}"), format!("{}s", (limit / 500).max(1)))
            }
            _ => continue,
        };
        if grants.iter().all(|grant| grant.key != key) {
            grants.push(Grant { key, value, why: blocker.message.clone(), weakness: None });
        }
    }
    grants
}

/// Proposes a profile from what a run of `command` lacked and which limits it hit.
///
/// # Errors
/// The proposal is no profile: a defect.
pub fn propose(
    command: &str,
    learned: &Learned,
    blockers: &[Blocker],
    tree: &Path,
    evidence: &Path,
    env: &HostEnv,
) -> Result<Proposal, ProfileError> {
    let mut withheld = Vec::new();
    let mut own_paths = StateDirs::new(env).map(|dirs| dirs.own()).unwrap_or_default();
    own_paths.push(evidence.to_owned());
    let own: Vec<Place> = own_paths.iter().filter_map(|path| Place::of(path).ok()).collect();
    let mut grants = Vec::new();
    if !learned.network.is_empty() || learned.look_ups {
        let mut tried: Vec<String> = learned
            .network
            .iter()
            .take(10)
            .map(|(address, by)| match by {
                Some(program) => format!("{address} by {}", program.display()),
                None => address.clone(),
            })
            .collect();
        if learned.look_ups {
            tried.push("name look-ups".into());
        }
        grants.push(Grant {
            key: "sandbox.net".into(),
            value: "host".into(),
            why: format!("it tried the network: {}", tried.join(", ")),
            weakness: Some(
                "everything that this host reaches can be reached, and data can leave by it".into(),
            ),
        });
    }
    // Where even one of Proctor's own places cannot be looked at, no path is proposed: it might lead there.
    if own.len() == own_paths.len() {
        let home = env.home();
        let made = mounts(learned, tree, home.as_deref(), &own, &mut withheld);
        for (number, (mount, paths)) in made.into_iter().enumerate() {
            if number >= MAX_MOUNTS {
                let why = "there are too many: mount a directory above them".to_owned();
                withheld.push(Withheld { what: mount.to_string_lossy().into_owned(), why });
                continue;
            }
            let names: Vec<String> = paths.iter().take(3).map(|p| p.display().to_string()).collect();
            let more = if paths.len() > 3 { format!(" and {} more", paths.len() - 3) } else { String::new() };
            let is_home = home.as_ref().is_some_and(|home| mount.starts_with(home));
            grants.push(Grant {
                key: "sandbox.ro".into(),
                value: mount.to_string_lossy().into_owned(),
                why: format!("looked for and not to be had inside: {}{more}", names.join(", ")),
                weakness: is_home.then(|| "it shows something of your home directory".to_owned()),
            });
        }
    } else {
        withheld
            .push(Withheld { what: "paths".into(), why: "Proctor's own places cannot be looked at".into() });
    }
    grants.extend(limits(blockers));
    for (call, reason, program, count) in &learned.refused {
        let by = program.as_ref().map(|p| format!(" by {}", p.display())).unwrap_or_default();
        withheld.push(Withheld {
            what: format!("{call}{by}, {count} times ({reason})"),
            why: "no option grants it".into(),
        });
    }
    if learned.more_paths > 0 {
        let what = format!("{} paths more than are kept", learned.more_paths);
        withheld.push(Withheld { what, why: "there were too many".into() });
    }
    let profile = text(command, &grants, &withheld);
    // By the loader that a run uses; what it would refuse must not be proposed.
    Layer::file(LayerKind::Profile, SourceText { name: "the proposal".into(), text: profile.clone() })?;
    Ok(Proposal { profile, grants, withheld, not_learned: NOT_LEARNED.map(str::to_owned).into() })
}

/// A comment's text: one line, nothing that steers a terminal.
fn comment(text: &str) -> String {
    escape::terminal(&text.chars().take(300).collect::<String>()).replace(['\n', '\r'], " ")
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn text(command: &str, grants: &[Grant], withheld: &[Withheld]) -> String {
    let mut out = String::new();
    let of = |table: &'static str| {
        grants.iter().filter_map(move |g| Some((g.key.strip_prefix(table)?.strip_prefix('.')?, g)))
    };
    // Writing to a String does not fail.
    let _ = writeln!(out, "# Proposed by `proctor learn` from one run of: {}", comment(command));
    let _ = writeln!(
        out,
        "# It grants nothing by itself: read it, keep what you want, and give it to a run with --profile FILE."
    );
    let _ = writeln!(out, "description = \"Learned from one run\"");
    let because = |out: &mut String, indent: &str, grant: &Grant| {
        let _ = writeln!(out, "{indent}# {}", comment(&grant.why));
        if let Some(weakness) = &grant.weakness {
            let _ = writeln!(out, "{indent}# WEAKNESS: {}", comment(weakness));
        }
    };
    if grants.iter().any(|grant| grant.key.starts_with("sandbox.")) {
        let _ = writeln!(out, "\n[sandbox]");
        for (_, grant) in of("sandbox").filter(|(key, _)| *key == "net") {
            because(&mut out, "", grant);
            let _ = writeln!(out, "net = {}", quoted(&grant.value));
        }
        if of("sandbox").any(|(key, _)| key == "ro") {
            let _ = writeln!(out, "ro = [");
            for (_, grant) in of("sandbox").filter(|(key, _)| *key == "ro") {
                because(&mut out, "  ", grant);
                let _ = writeln!(out, "  {},", quoted(&grant.value));
            }
            let _ = writeln!(out, "]");
        }
    }
    for table in ["limits", "timeouts"] {
        if of(table).next().is_some() {
            let _ = writeln!(out, "\n[{table}]");
            for (key, grant) in of(table) {
                because(&mut out, "", grant);
                let _ = writeln!(out, "{key} = {}", quoted(&grant.value));
            }
        }
    }
    if grants.is_empty() {
        let _ = writeln!(out, "\n# Nothing was seen to be lacking.");
    }
    if !withheld.is_empty() {
        let _ = writeln!(out, "\n# Lacking, and not proposed:");
        for one in withheld.iter().take(100) {
            let _ = writeln!(out, "#   {}: {}", comment(&one.what), comment(&one.why));
        }
        if withheld.len() > 100 {
            let _ = writeln!(out, "#   and {} more", withheld.len() - 100);
        }
    }
    let _ = writeln!(out, "\n# Not to be learned in this way:");
    for one in NOT_LEARNED {
        let _ = writeln!(out, "#   {one}");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    fn env(home: &Path) -> HostEnv {
        HostEnv::for_tests(&[("HOME", home.to_str().unwrap())])
    }

    fn proposal(learned: &Learned, home: &Path, blockers: &[Blocker]) -> Proposal {
        propose("make", learned, blockers, Path::new("/tree"), &home.join("evidence"), &env(home)).unwrap()
    }

    /// An ordinary user has nowhere to make files but where a sandbox has its own; says that the test is skipped.
    fn only_root_has_a_place() -> bool {
        let skipped = !rustix::process::geteuid().is_root();
        if skipped {
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                b"skipped: no place for files outside of the temporary directories\n",
            );
        }
        skipped
    }

    /// A place outside of what every sandbox makes for itself.
    fn place() -> tempfile::TempDir {
        let dir = tempfile::Builder::new().prefix("proctor-propose-").tempdir_in("/var").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[test]
    fn paths_are_proposed_but_for_secrets_own_places_and_what_is_too_wide() {
        if only_root_has_a_place() {
            return;
        }
        let dir = place();
        let at = |name: &str| dir.path().join(name);
        for name in ["tool/run", "tool/data", ".ssh/id", ".netrc", ".local/state/proctor/runs/x", "locked"] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "x").unwrap();
        }
        fs::set_permissions(at("locked"), fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(at(".netrc"), at("harmless")).unwrap();
        let learned = Learned {
            paths: [
                "tool/run",
                "tool/data",
                ".ssh/id",
                ".netrc",
                ".local/state/proctor",
                "locked",
                "harmless",
                "",
            ]
            .iter()
            .map(|name| at(name))
            .chain(["/var/cache", "/tmp/x", "/etc/passwd"].map(PathBuf::from))
            .collect(),
            ..Learned::default()
        };
        let proposal = proposal(&learned, dir.path(), &[]);
        let granted: Vec<&str> = proposal.grants.iter().map(|g| g.value.as_str()).collect();
        assert_eq!(granted, [at("tool/data").to_str().unwrap(), at("tool/run").to_str().unwrap()]);
        // Home is the place itself here.
        assert!(
            proposal
                .grants
                .iter()
                .all(|g| g.weakness.as_deref() == Some("it shows something of your home directory"))
        );
        let why = |name: &Path| {
            let found = proposal
                .withheld
                .iter()
                .find(|w| w.what.trim_end_matches('/') == name.to_str().unwrap().trim_end_matches('/'));
            found.map(|w| w.why.clone()).unwrap_or_default()
        };
        for name in [".ssh/id", ".netrc", "harmless"] {
            assert!(why(&at(name)).contains("credentials"), "{name}: {:#?}", proposal.withheld);
        }
        assert!(why(&at(".local/state/proctor")).contains("Proctor's own"), "{:#?}", proposal.withheld);
        assert!(why(&at("locked")).contains("not everybody"), "{:#?}", proposal.withheld);
        assert!(why(dir.path()).contains("Proctor's own"), "{:#?}", proposal.withheld);
        assert!(why(Path::new("/var/cache")).contains("too wide"), "{:#?}", proposal.withheld);
        assert!(!proposal.profile.contains("\"/etc/passwd\"") && !proposal.profile.contains("\"/tmp/x\""));
    }

    #[test]
    fn many_files_of_one_directory_become_the_directory() {
        if only_root_has_a_place() {
            return;
        }
        let dir = place();
        let mut learned = Learned::default();
        fs::create_dir_all(dir.path().join("lib")).unwrap();
        for n in 0..6 {
            let path = dir.path().join(format!("lib/{n}"));
            fs::write(&path, "x").unwrap();
            learned.paths.insert(path);
        }
        let proposal = proposal(&learned, Path::new("/nonexistent"), &[]);
        assert_eq!(proposal.grants.len(), 1, "{:#?}", proposal.grants);
        assert_eq!(proposal.grants[0].value, dir.path().join("lib").to_str().unwrap());
        assert!(proposal.grants[0].why.ends_with("and 3 more"), "{:#?}", proposal.grants);
    }

    #[test]
    fn a_directory_with_something_private_in_it_is_not_proposed() {
        if only_root_has_a_place() {
            return;
        }
        let dir = place();
        let at = |name: &str| dir.path().join(name);
        for name in ["open/a/x", "closed/a/token", "named/.netrc", "many/1", "many/secret"] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "x").unwrap();
        }
        for secret in ["closed/a/token", "many/secret"] {
            fs::set_permissions(at(secret), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut learned = Learned::default();
        learned.paths.extend(["open", "closed", "named"].map(at));
        for n in 0..6 {
            fs::write(at(&format!("many/{n}")), "x").unwrap();
            learned.paths.insert(at(&format!("many/{n}")));
        }
        let proposal = proposal(&learned, Path::new("/nonexistent"), &[]);
        let granted: Vec<PathBuf> = proposal.grants.iter().map(|g| PathBuf::from(&g.value)).collect();
        let mut expected: Vec<PathBuf> = (0..6).map(|n| at(&format!("many/{n}"))).collect();
        expected.push(at("open"));
        assert_eq!(granted, expected);
        for (withheld, name) in proposal.withheld.iter().zip(["closed", "named"]) {
            assert_eq!(withheld.what, at(name).to_str().unwrap());
            assert!(withheld.why.starts_with("something in it is private"), "{withheld:?}");
        }
    }

    #[test]
    fn network_limits_and_refusals_are_told_apart_and_hostile_text_stays_a_comment() {
        let learned = Learned {
            network: vec![("93.184.216.34:443".into(), Some("/x/\n[sandbox]\nrw = [\"/\"]\u{1b}[2J".into()))],
            look_ups: true,
            refused: vec![("mount".into(), "mounting".into(), Some("/a\nnet = \"host\"".into()), 2)],
            ..Learned::default()
        };
        let limit = |code, detail| Blocker::new(code, "The limit was hit.", detail);
        let blockers = [
            limit(BlockerCode::ResourceLimit, json!({ "option": "--pids-limit", "limit": 100 })),
            limit(BlockerCode::Timeout, json!({ "option": "--idle-timeout", "limit_ms": 1500 })),
        ];
        let proposal = proposal(&learned, Path::new("/nonexistent"), &blockers);
        let table: toml::Table = proposal.profile.parse().unwrap();
        assert_eq!(table["sandbox"].as_table().unwrap().len(), 1, "{}", proposal.profile);
        assert_eq!(table["sandbox"]["net"].as_str(), Some("host"));
        assert_eq!(table["limits"]["pids"].as_str(), Some("200"));
        assert_eq!(table["timeouts"]["idle"].as_str(), Some("3s"));
        assert!(
            proposal.profile.contains("# WEAKNESS: everything that this host reaches"),
            "{}",
            proposal.profile
        );
        assert!(proposal.withheld[0].what.starts_with("mount by /a"), "{:#?}", proposal.withheld);
        assert!(!proposal.profile.contains('\u{1b}'));
    }
}
