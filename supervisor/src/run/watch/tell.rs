//! What a record says: to the report, the events, the trace and the remedies. All of it is made from the same lists, so
//! that they can be held against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use proctor_sandbox::notify::NO_NETWORK;

use super::{Denial, End, ProgramRun, Refusal, Target, Tried, Watched};
use crate::evidence::trace::{Attribute, Attributes, Completeness, Span, SpanEvent, SpanId, SpanStatus};
use crate::profile::Network;
use crate::report::{DenialInfo, Observed};
use crate::run::settle::path_text;
use crate::verdict::Want;

/// Paths that a remedy names.
const MAX_PATHS: usize = 3;
/// The port of name servers.
const DNS: u16 = 53;

const NO_WATCH: &str = "the sandbox was not watched: its seccomp filter has no listener";
const OTHER_ABIS: &str = "calls by another ABI are refused by the kernel itself, which kills the program";
const CONNECTS: &str = "connect(2) alone: what is sent without it, or by a protocol's own call, is not seen";
const SOME_PATHS: &str = "what the kernel's audit told of Landlock: it drops records under load, and of what was to be made or removed names the directory alone; refusals by file permissions are not among them";
const NO_CODES: &str = "this kernel (before Linux 6.15) tells exit codes to parents alone";

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Target {
    /// As it stands in reports.
    pub(in crate::run) fn show(&self) -> String {
        match self {
            Self::Inet(address) => address.to_string(),
            Self::Unix(name) => match name.split_first() {
                Some((0, name)) => format!("unix:@{}", lossy(name)),
                _ => format!("unix:{}", lossy(name)),
            },
            Self::Other(family) => format!("family {family}"),
            Self::Unknown => "not readable".into(),
        }
    }

    fn is_look_up(&self) -> bool {
        matches!(self, Self::Inet(address) if address.port() == DNS)
    }

    /// Whether the sandbox's own loopback, which is all there is without a network, cannot be what was meant.
    fn is_outside(&self) -> bool {
        let Self::Inet(address) = self else { return false };
        let ip = address.ip().to_canonical();
        // A resolver that was never told of a server asks the loopback.
        self.is_look_up() || !(ip.is_loopback() || ip.is_unspecified())
    }
}

/// What was refused in one sandbox, for report and events.
pub(in crate::run) fn denials(role: &str, net: Network, watched: &Watched) -> Vec<DenialInfo> {
    let calls = watched.denials.iter().map(|one| DenialInfo {
        sandbox: role.to_owned(),
        what: "syscall".into(),
        call: one.call.to_owned(),
        address: None,
        reason: one.reason.to_owned(),
        program: one.program.as_deref().map(text),
        argv0: one.argv0.as_deref().map(lossy),
        pid: one.pid,
        count: one.count,
        errno: Some(one.errno.clone()),
        killed: one.killed,
        blockers: Vec::new(),
        path: None,
        path_b64: None,
    });
    let tried = stopped(net, watched).map(|one| DenialInfo {
        sandbox: role.to_owned(),
        what: "connect".into(),
        call: "connect".into(),
        address: Some(one.target.show()),
        reason: if one.target.is_look_up() {
            "a name look-up, and the sandbox has no network but its own loopback".into()
        } else {
            "the sandbox has no network but its own loopback".to_owned()
        },
        program: one.program.as_deref().map(text),
        argv0: one.argv0.as_deref().map(lossy),
        pid: one.pid,
        count: one.count,
        errno: None,
        killed: false,
        blockers: Vec::new(),
        path: None,
        path_b64: None,
    });
    let refused = watched.refusals.iter().map(|one| {
        let path = one.path().map(|path| path_text(path.as_os_str().as_bytes()));
        DenialInfo {
            sandbox: role.to_owned(),
            what: one.what().to_owned(),
            call: String::new(),
            address: one.address(),
            reason: one.reason().to_owned(),
            program: one.program.as_deref().map(text),
            argv0: one.argv0.as_deref().map(lossy),
            pid: one.pid,
            count: one.count,
            errno: None,
            killed: false,
            blockers: one.blockers.clone(),
            path_b64: path.as_ref().and_then(|path| path.path_b64.clone()),
            path: path.map(|path| path.path),
        }
    });
    calls.chain(tried).chain(refused).collect()
}

/// Attempts that the empty network alone stopped.
fn stopped(net: Network, watched: &Watched) -> impl Iterator<Item = &Tried> {
    watched.tried.iter().filter(move |one| net == Network::None && one.target.is_outside())
}

/// How much is known of each kind of thing that happened in one sandbox; `None` where it was not watched.
pub(in crate::run) fn observed(watched: Option<&Watched>) -> BTreeMap<String, Observed> {
    let one = |completeness: Completeness, count: u64, left_out: u64, note: Option<String>| Observed {
        completeness: completeness.as_str().to_owned(),
        count,
        left_out,
        note,
    };
    let mut kinds = BTreeMap::new();
    let mut add = |name: &str, value: Observed| drop(kinds.insert(name.to_owned(), value));
    let Some(watched) = watched else {
        for name in ["programs", "exit_codes", "denials", "connections", "denied_paths"] {
            add(name, one(Completeness::Absent, 0, 0, Some(NO_WATCH.into())));
        }
        return kinds;
    };
    let whole = |left_out: u64| {
        if left_out + watched.lost == 0 { Completeness::Complete } else { Completeness::Advisory }
    };
    let left_out = watched.programs_left_out;
    let programs = watched.programs.len() as u64 + left_out;
    let mut notes = Vec::new();
    if watched.look_ups > 0 {
        notes.push(format!("{} names along a search path were looked for and not found", watched.look_ups));
    }
    if left_out > 0 {
        notes.push(format!("{left_out} programs are counted alone: there were too many"));
    }
    if watched.lost > 0 {
        notes.push(format!("{} reports were lost while the sandbox was built", watched.lost));
    }
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    add("programs", one(whole(left_out), programs, left_out, note));

    let known =
        watched.programs.iter().filter(|p| matches!(p.end_as, End::Exited(_) | End::Killed(_))).count();
    let unknown = watched.programs.iter().filter(|p| p.end_as == End::Unknown).count() as u64;
    let (completeness, note) = match (known, unknown + left_out) {
        (_, 0) => (Completeness::Complete, None),
        (0, _) => (Completeness::Absent, Some(NO_CODES.to_owned())),
        (_, unknown) => (Completeness::Advisory, Some(format!("of {unknown} programs the end is not known"))),
    };
    add("exit_codes", one(completeness, known as u64, 0, note));

    let note = match watched.denials_left_out {
        0 => OTHER_ABIS.to_owned(),
        more => {
            format!("{more} calls are counted alone: too many programs were refused something; {OTHER_ABIS}")
        }
    };
    let completeness = if watched.lost == 0 { Completeness::Complete } else { Completeness::Advisory };
    add("denials", one(completeness, watched.denied, watched.denials_left_out, Some(note)));
    let note = CONNECTS.to_owned();
    add("connections", one(Completeness::Advisory, watched.connects, watched.tried_left_out, Some(note)));
    add("denied_paths", denied_paths(watched));
    kinds
}

fn denied_paths(watched: &Watched) -> Observed {
    let absent = Completeness::Absent.as_str().to_owned();
    let Some(heard) = watched.heard else {
        return Observed {
            completeness: absent,
            // What was heard before it failed stands where it was refused.
            count: watched.refused,
            left_out: watched.refusals_left_out,
            note: Some(format!("what Landlock refused is not known: {}", watched.unheard)),
        };
    };
    let untold = heard.untold.unwrap_or(0);
    let mut note = SOME_PATHS.to_owned();
    match heard.untold {
        Some(0) => {}
        Some(more) => {
            note = format!("{more} refusals were counted by the kernel and told of by no record; {note}")
        }
        None => note = format!("how many there were the kernel did not say; {note}"),
    }
    if heard.lost {
        note = format!("records were lost; {note}");
    }
    Observed {
        completeness: Completeness::Advisory.as_str().to_owned(),
        count: watched.refused.saturating_add(untold),
        left_out: watched.refusals_left_out.saturating_add(untold),
        note: Some(note),
    }
}

/// The least that is known of each kind over all sandboxes.
pub(in crate::run) fn completeness(all: &[BTreeMap<String, Observed>]) -> Vec<(&'static str, Completeness)> {
    ["programs", "exit_codes", "denials", "connections", "denied_paths"]
        .into_iter()
        .map(|name| {
            let rank =
                |kinds: &BTreeMap<String, Observed>| match kinds.get(name).map(|k| k.completeness.as_str()) {
                    Some("complete") => 2,
                    Some("advisory") => 1,
                    _ => 0,
                };
            let least = all.iter().map(rank).min().unwrap_or(0);
            let value = match least {
                2 => Completeness::Complete,
                1 => Completeness::Advisory,
                _ => Completeness::Absent,
            };
            (name, value)
        })
        .collect()
}

/// The spans of one sandbox's programs below the phase's own, and what happened outside of any of them.
///
/// # Errors
/// The kernel gives no random bytes.
pub(in crate::run) fn spans(
    role: &'static str,
    phase: SpanId,
    watched: &Watched,
    at: impl Fn(Instant) -> u64,
) -> Result<(Vec<Span>, Vec<SpanEvent>), getrandom::Error> {
    let ids: Vec<SpanId> = watched.programs.iter().map(|_| SpanId::new()).collect::<Result<_, _>>()?;
    let mut spans: Vec<Span> = watched
        .programs
        .iter()
        .zip(&ids)
        .map(|(program, id)| {
            let parent = program.parent.and_then(|p| ids.get(p)).copied().unwrap_or(phase);
            span(role, program, *id, parent, &at)
        })
        .collect();
    let mut rest = Vec::new();
    let events = watched.denials.iter().map(|one| (one.span, denial_event(role, one, &at)));
    let tried = watched.tried.iter().map(|one| (one.span, connect_event(role, one, &at)));
    let refused = watched.refusals.iter().map(|one| (one.span, refusal_event(role, one, &at)));
    for (index, event) in events.chain(tried).chain(refused) {
        match index.and_then(|index| spans.get_mut(index)) {
            Some(span) => span.events.push(event),
            None => rest.push(event),
        }
    }
    Ok((spans, rest))
}

fn span(
    role: &'static str,
    program: &ProgramRun,
    id: SpanId,
    parent: SpanId,
    at: &impl Fn(Instant) -> u64,
) -> Span {
    let mut list: Attributes = vec![
        ("proctor.sandbox".into(), Attribute::from(role)),
        ("process.pid".into(), Attribute::Int(program.pid.into())),
        ("process.parent_pid".into(), Attribute::Int(program.parent_pid.into())),
        (
            "process.command_args".into(),
            Attribute::Texts(program.argv.iter().map(|arg| lossy(arg)).collect()),
        ),
        ("proctor.path".into(), Attribute::Text(lossy(&program.path))),
        ("proctor.found".into(), Attribute::Bool(program.found)),
    ];
    if program.cut {
        list.push(("proctor.args_cut".into(), Attribute::Bool(true)));
    }
    for (key, path) in [
        ("process.executable.path", &program.observed),
        ("proctor.path_resolved", &program.resolved),
        ("process.working_directory", &program.cwd),
    ] {
        if let Some(path) = path {
            list.push((key.into(), Attribute::Text(text(path))));
        }
    }
    let (end, status) = match program.end_as {
        End::Exited(code) => {
            list.push(("process.exit.code".into(), Attribute::Int(code.into())));
            let status =
                if code == 0 { SpanStatus::Ok } else { SpanStatus::Error(format!("exit code {code}")) };
            ("exited", status)
        }
        End::Killed(signal) => {
            list.push(("proctor.signal".into(), Attribute::Int(signal.into())));
            ("killed", SpanStatus::Error(format!("signal {signal}")))
        }
        End::Replaced => ("replaced", SpanStatus::Unset),
        End::Unknown => ("unknown", SpanStatus::Unset),
        End::NotFound => ("not_found", SpanStatus::Unset),
    };
    list.push(("proctor.end".into(), Attribute::from(end)));
    let start_ns = at(program.start);
    Span {
        id,
        parent: Some(parent),
        name: "program".into(),
        start_ns,
        end_ns: program.end.map_or(start_ns, at),
        attributes: list,
        events: Vec::new(),
        status,
    }
}

fn who(list: &mut Attributes, program: Option<&PathBuf>, pid: u32, count: u64, last_ns: u64) {
    if let Some(program) = program {
        list.push(("process.executable.path".into(), Attribute::Text(text(program))));
    }
    list.push(("process.pid".into(), Attribute::Int(pid.into())));
    list.push(("proctor.count".into(), Attribute::Int(count.try_into().unwrap_or(i64::MAX))));
    list.push(("proctor.last_unix_nano".into(), Attribute::Text(last_ns.to_string())));
}

fn denial_event(role: &'static str, one: &Denial, at: &impl Fn(Instant) -> u64) -> SpanEvent {
    let args = one.args.iter().map(|arg| format!("{arg:#x}")).collect();
    let mut list: Attributes = vec![
        ("proctor.sandbox".into(), Attribute::from(role)),
        ("proctor.call".into(), Attribute::from(one.call)),
        ("proctor.args".into(), Attribute::Texts(args)),
        ("proctor.reason".into(), Attribute::from(one.reason)),
        ("proctor.errno".into(), Attribute::Text(one.errno.clone())),
        ("proctor.killed".into(), Attribute::Bool(one.killed)),
    ];
    who(&mut list, one.program.as_ref(), one.pid, one.count, at(one.last));
    SpanEvent { name: "policy.denied".into(), at_ns: at(one.first), attributes: list }
}

fn refusal_event(role: &'static str, one: &Refusal, at: &impl Fn(Instant) -> u64) -> SpanEvent {
    let mut list: Attributes = vec![
        ("proctor.sandbox".into(), Attribute::from(role)),
        ("proctor.what".into(), Attribute::from(one.what())),
        ("proctor.blockers".into(), Attribute::Text(one.blockers.join(","))),
        ("proctor.reason".into(), Attribute::from(one.reason())),
    ];
    let reached = [("proctor.path", one.path().map(text)), ("proctor.address", one.address())];
    for (key, value) in reached {
        if let Some(value) = value {
            list.push((key.into(), Attribute::Text(value)));
        }
    }
    who(&mut list, one.program.as_ref(), one.pid, one.count, at(one.last));
    SpanEvent { name: "policy.denied".into(), at_ns: at(one.first), attributes: list }
}

fn connect_event(role: &'static str, one: &Tried, at: &impl Fn(Instant) -> u64) -> SpanEvent {
    let mut list: Attributes = vec![
        ("proctor.sandbox".into(), Attribute::from(role)),
        ("proctor.address".into(), Attribute::Text(one.target.show())),
    ];
    who(&mut list, one.program.as_ref(), one.pid, one.count, at(one.last));
    SpanEvent { name: "connect".into(), at_ns: at(one.first), attributes: list }
}

/// What a run that learned found its backend to lack.
#[derive(Debug, Clone, Default)]
pub struct Learned {
    /// Addresses that it tried to reach without a network, each with the program.
    pub network: Vec<(String, Option<PathBuf>)>,
    /// It tried to look names up.
    pub look_ups: bool,
    /// Paths that it looked for and that are not inside, and that this host has. They are the backend's choice.
    pub paths: BTreeSet<PathBuf>,
    /// There were more.
    pub more_paths: u64,
    /// Calls that were refused: call, reason, program, how often.
    pub refused: Vec<(String, String, Option<PathBuf>, u64)>,
    /// It was not watched: nothing was learned.
    pub unwatched: bool,
}

/// What a backend lacked.
pub(in crate::run) fn learned(net: Network, watched: &Watched) -> Learned {
    let mut learned = Learned { more_paths: watched.wanted_left_out, ..Learned::default() };
    for one in stopped(net, watched) {
        if one.target.is_look_up() {
            learned.look_ups = true;
        } else {
            learned.network.push((one.target.show(), one.program.clone()));
        }
    }
    learned.paths.clone_from(&watched.wanted);
    // A program that is not inside is looked for by execve(2) alone, or as well.
    learned.paths.extend(watched.misses.iter().filter(|path| path.is_absolute() && path.exists()).cloned());
    learned.paths.extend(watched.readable_refusals().map(Path::to_owned));
    let refused = |one: &Denial| (one.call.to_owned(), one.reason.to_owned(), one.program.clone(), one.count);
    learned.refused = watched.denials.iter().map(refused).collect();
    learned
}

/// What a program wanted and was not given, as far as an option would give it or none does.
///
/// `mountable` says whether an operator may be told to show a path: paths are the program's choice.
pub(in crate::run) fn wants(
    role: &str,
    net: Network,
    watched: &Watched,
    mountable: impl Fn(&Path) -> bool,
) -> Vec<Want> {
    let mut wants = Vec::new();
    let tried: Vec<&Tried> = stopped(net, watched).collect();
    // Level `landlock` has no network to try to connect in: the socket itself is refused.
    let sockets = watched.denials.iter().any(|one| one.reason == NO_NETWORK);
    if sockets || !tried.is_empty() {
        let mut shown: Vec<String> =
            tried.iter().filter(|t| !t.target.is_look_up()).map(|t| t.target.show()).collect();
        shown.sort();
        shown.dedup();
        let more = shown.len().saturating_sub(3);
        shown.truncate(3);
        if more > 0 {
            shown.push(format!("and {more} more"));
        }
        if tried.iter().any(|t| t.target.is_look_up()) {
            shown.push("a name look-up".into());
        }
        if sockets {
            shown.push("an internet socket".into());
        }
        let option = match role {
            "test" => "--test-net host",
            "review" => "--review-net host",
            _ => "--net host",
        };
        wants.push(Want {
            what: format!("the network ({})", shown.join(", ")),
            grant: Some(format!("{option} would grant it (recorded as a weakness)")),
        });
    }
    wants.extend(wanted_paths(role, watched, mountable));
    let mut calls: Vec<&Denial> = watched.denials.iter().collect();
    // What fails with another errno is what programs probe for and do without.
    calls.retain(|one| one.killed || one.errno == "EPERM");
    calls.sort_by_key(|one| (!one.killed, one.call));
    calls.dedup_by_key(|one| one.call);
    for one in calls.iter().take(5) {
        let killed = if one.killed { ", and was killed for it" } else { "" };
        wants.push(Want { what: format!("{} ({}){killed}", one.call, one.reason), grant: None });
    }
    wants
}

/// What would have been read and may be shown, as the options that show it.
fn wanted_paths(role: &str, watched: &Watched, mountable: impl Fn(&Path) -> bool) -> Option<Want> {
    let paths: BTreeSet<&Path> = watched.readable_refusals().filter(|path| mountable(path)).collect();
    if paths.is_empty() {
        return None;
    }
    let option = match role {
        "test" => "--test-ro",
        "review" => "--review-ro",
        _ => "--ro",
    };
    let mut shown: Vec<String> = paths.iter().take(MAX_PATHS).map(|path| text(path)).collect();
    let options: Vec<String> = shown.iter().map(|path| format!("{option} {}", quoted(path))).collect();
    if paths.len() > MAX_PATHS {
        shown.push(format!("and {} more", paths.len() - MAX_PATHS));
    }
    Some(Want {
        what: format!("to read {}", shown.join(", ")),
        grant: Some(format!("{} would grant it", options.join(" "))),
    })
}

/// For a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,%=".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
