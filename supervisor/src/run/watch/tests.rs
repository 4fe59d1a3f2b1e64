//! The record alone: what it keeps, what it merely counts, and what it makes of a process's calls.

use std::os::fd::OwnedFd;
use std::process::{Child, Command};

use proctor_sandbox::audit::{Object, Refused};
use proctor_sandbox::notify::{Address, Denied, Exec, Found, Report, What};

use super::record::{Main, Record};
use super::seen::Heard;
use super::tell;
use super::*;
use crate::profile::Network;

fn record() -> Record {
    Record::new(Main { argv: vec![b"main".to_vec()], cwd: "/tree".into() }, 100)
}

fn report(pid: u32, what: What) -> Report {
    Report { at: Instant::now(), pid, parent: 1, what }
}

fn exec(path: &str, argv: &str, process: Option<OwnedFd>, by: &str, found: Found) -> What {
    What::Exec(Exec {
        process,
        path: path.into(),
        argv: vec![argv.into()],
        cut: false,
        cwd: Some("/tree".into()),
        by: Some(by.into()),
        found,
    })
}

fn denied(call: &'static str, by: &str) -> What {
    What::Denied(Denied { call, args: [0; 6], errno: 1, killed: false, reason: "why", by: Some(by.into()) })
}

/// A process that lives until it is dropped.
struct Process(Child);

impl Process {
    fn new() -> Self {
        Self(Command::new("sleep").arg("60").spawn().unwrap())
    }

    fn pidfd(&self) -> OwnedFd {
        let pid = rustix::process::Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_beyond_the_caps_is_counted_and_said() {
    let mut record = record();
    for n in 0..150 {
        for _ in 0..3 {
            record.take(report(7, denied("bpf", &format!("/p{n}"))));
        }
        let to = Address::Inet(format!("203.0.113.1:{}", n + 1).parse().unwrap());
        record.take(report(7, What::Connect { to, by: None }));
    }
    for _ in 0..50_100 {
        record.take(report(8, exec("/bin/x", "x", None, "/bin/sh", Found::Program("/bin/x".into()))));
    }
    let watched = record.finish(Instant::now());
    assert_eq!((watched.denials.len(), watched.denied, watched.denials_left_out), (100, 450, 150));
    assert_eq!((watched.tried.len(), watched.connects, watched.tried_left_out), (100, 150, 50));
    assert_eq!((watched.programs.len(), watched.programs_left_out), (50_000, 100));
    let observed = tell::observed(Some(&watched));
    assert_eq!(observed["programs"].completeness, "advisory");
    assert_eq!((observed["denials"].count, observed["denials"].left_out), (450, 150));
    let told = tell::denials("backend", Network::None, &watched);
    assert_eq!(told.len(), 200);
    assert!(tell::denials("backend", Network::Host, &watched).iter().all(|one| one.what == "syscall"));
}

#[test]
fn long_words_cannot_fill_the_memory() {
    let mut record = record();
    let long = "x".repeat(4096);
    for _ in 0..20_000 {
        record.take(report(8, exec(&long, &long, None, "/bin/sh", Found::Unknown)));
    }
    let watched = record.finish(Instant::now());
    let bytes: usize = watched.programs.iter().map(|p| p.path.len() + p.argv[0].len()).sum();
    assert!(bytes <= 32 << 20, "{bytes}");
    assert_eq!(watched.programs.len() as u64 + watched.programs_left_out, 20_000);
}

#[test]
fn a_search_along_a_path_is_one_program_and_its_end_is_that_of_the_process() {
    let process = Process::new();
    let pid = process.0.id();
    let mut record = record();
    let found = |path: &str| Found::Program(path.into());
    let (key, _) = record
        .take(report(pid, exec("/bin/sh", "sh", Some(process.pidfd()), "/init", found("/bin/sh"))))
        .unwrap();
    assert!(
        record
            .take(report(pid, exec("/sbin/cat", "cat", Some(process.pidfd()), "/bin/sh", Found::Nothing)))
            .is_none()
    );
    record.take(report(pid, exec("/bin/cat", "cat", Some(process.pidfd()), "/bin/sh", found("/bin/cat"))));
    record.ended(key, Instant::now(), true, |_| Some(3 << 8));
    let watched = record.finish(Instant::now());
    let ends: Vec<End> = watched.programs.iter().map(|p| p.end_as).collect();
    assert_eq!((ends, watched.look_ups), (vec![End::Replaced, End::Exited(3)], 1));
    assert_eq!(watched.programs[0].observed.as_deref(), Some(std::path::Path::new("/bin/sh")));
    assert_eq!(watched.programs[1].observed, None);
}

/// A path that was rewritten under the kernel's eyes led nowhere when it was looked at, and was executed.
#[test]
fn a_call_whose_path_led_nowhere_is_known_by_what_the_process_became() {
    let process = Process::new();
    let pid = process.0.id();
    let mut record = record();
    let call = exec("/nothing", "claimed", Some(process.pidfd()), "/bin/a", Found::Nothing);
    let (key, _) = record.take(report(pid, call)).unwrap();
    record.take(report(
        pid,
        exec("/bin/c", "c", Some(process.pidfd()), "/bin/b", Found::Program("/bin/c".into())),
    ));
    record.ended(key, Instant::now(), true, |_| Some(9));
    let watched = record.finish(Instant::now());
    let first = &watched.programs[0];
    assert_eq!(
        (first.observed.as_deref(), first.end_as),
        (Some(std::path::Path::new("/bin/b")), End::Replaced)
    );
    assert!(!first.found);
    assert_eq!((watched.programs[1].end_as, watched.look_ups), (End::Killed(9), 0));
}

#[test]
fn a_number_that_was_given_to_another_process_is_another_program() {
    let (one, other) = (Process::new(), Process::new());
    let mut record = record();
    let found = || Found::Program("/bin/x".into());
    let first = record.take(report(5000, exec("/bin/x", "one", Some(one.pidfd()), "/a", found()))).unwrap().0;
    // The same number, and the first one's end was not told yet.
    let second =
        record.take(report(5000, exec("/bin/x", "other", Some(other.pidfd()), "/a", found()))).unwrap().0;
    record.ended(first, Instant::now(), true, |_| Some(1 << 8));
    record.ended(second, Instant::now(), true, |_| Some(2 << 8));
    let watched = record.finish(Instant::now());
    let ends: Vec<End> = watched.programs.iter().map(|p| p.end_as).collect();
    assert_eq!(ends, [End::Exited(1), End::Exited(2)]);
}

#[test]
fn an_end_that_cannot_be_had_is_unknown_and_said_to_be() {
    let process = Process::new();
    let mut record = record();
    let found = Found::Program("/bin/x".into());
    let (key, _) =
        record.take(report(process.0.id(), exec("/bin/x", "x", Some(process.pidfd()), "/a", found))).unwrap();
    let now = Instant::now();
    record.ended(key, now, false, |_| None);
    record.sweep(now, UNREAPED, |_| true);
    assert!(!record.is_settled(), "it may be reaped yet");
    record.sweep(now + UNREAPED, UNREAPED, |_| false);
    assert!(!record.is_settled(), "it is there, a zombie");
    record.sweep(now + UNREAPED, UNREAPED, |_| true);
    assert!(record.is_settled());
    let watched = record.finish(now);
    assert_eq!(watched.programs[0].end_as, End::Unknown);
    let observed = tell::observed(Some(&watched));
    assert_eq!(observed["exit_codes"].completeness, "absent");
    assert!(observed["exit_codes"].note.as_deref().unwrap().contains("Linux 6.15"));
    assert!(tell::observed(None).values().all(|kind| kind.completeness == "absent" && kind.note.is_some()));
}

#[test]
fn the_sandboxes_own_process_is_known_by_what_it_was_started_for() {
    let process = Process::new();
    let mut record = record();
    // Unreadable to an ordinary user: neither path nor arguments.
    let unreadable = || {
        What::Exec(Exec {
            process: Some(process.pidfd()),
            path: vec![],
            argv: vec![],
            cut: false,
            cwd: None,
            by: None,
            found: Found::Unknown,
        })
    };
    for _ in 0..3 {
        record.take(report(process.0.id(), unreadable()));
    }
    record.started();
    // What it keeps to itself later is another program, and not what it was started for.
    record.take(report(process.0.id(), unreadable()));
    let watched = record.finish(Instant::now());
    assert_eq!((watched.programs.len(), watched.look_ups), (2, 2));
    assert_eq!((watched.programs[0].end_as, watched.programs[1].argv.len()), (End::Replaced, 0));
    assert_eq!((watched.programs[0].argv[0].as_slice(), watched.programs[0].found), (&b"main"[..], true));
    assert!(watched.misses.is_empty());
}

#[test]
fn without_a_network_only_what_was_meant_for_outside_is_a_denial() {
    let mut record = record();
    for to in [
        "127.0.0.1:80",
        "[::1]:8080",
        "[::ffff:127.0.0.1]:1",
        "127.0.0.53:53",
        "10.0.0.1:22",
        "[2001:db8::1]:443",
    ] {
        let to = Address::Inet(to.parse().unwrap());
        record.take(report(7, What::Connect { to, by: Some("/bin/x".into()) }));
    }
    record.take(report(7, What::Connect { to: Address::Unix(b"/run/x".to_vec()), by: None }));
    record.take(report(7, What::Connect { to: Address::Unix(b"\0name".to_vec()), by: None }));
    let watched = record.finish(Instant::now());
    let told: Vec<String> = tell::denials("backend", Network::None, &watched)
        .into_iter()
        .map(|one| one.address.unwrap())
        .collect();
    assert_eq!(told, ["127.0.0.53:53", "10.0.0.1:22", "[2001:db8::1]:443"]);
    let wants = tell::wants("review", Network::None, &watched, |_| false);
    assert_eq!(wants.len(), 1);
    assert_eq!(wants[0].what, "the network (10.0.0.1:22, [2001:db8::1]:443, a name look-up)");
    assert_eq!(wants[0].grant.as_deref(), Some("--review-net host would grant it (recorded as a weakness)"));
    assert!(tell::wants("backend", Network::Host, &watched, |_| false).is_empty());
    assert_eq!(Target::Unix(b"\0name".to_vec()).show(), "unix:@name");
}

fn refused(blocker: &str, object: Object, program: Option<&str>) -> Refused {
    Refused { blockers: vec![blocker.into()], object, pid: Some(7), program: program.map(Into::into) }
}

#[test]
fn what_landlock_refused_is_told_apart_counted_and_capped() {
    let mut record = record();
    let now = Instant::now();
    for n in 0..150 {
        for _ in 0..2 {
            let path = Object::Path(format!("/opt/{n}").into_bytes());
            record.refused(now, refused("fs.read_file", path, Some("/bin/cat")));
        }
    }
    record.watched.heard = Some(Heard { untold: Some(17), lost: true });
    let watched = record.finish(now);
    assert_eq!((watched.refusals.len(), watched.refused, watched.refusals_left_out), (100, 300, 100));
    let observed = &tell::observed(Some(&watched))["denied_paths"];
    assert_eq!((observed.count, observed.left_out, observed.completeness.as_str()), (317, 117, "advisory"));
    let note = observed.note.as_deref().unwrap();
    assert!(
        note.starts_with(
            "records were lost; 17 refusals were counted by the kernel and told of by no record; "
        ),
        "{note}"
    );
    let told = tell::denials("backend", Network::None, &watched);
    assert_eq!(told.iter().map(|one| one.count).sum::<u64>(), 200);
    assert_eq!((told[0].what.as_str(), told[0].path.as_deref()), ("path", Some("/opt/0")));
}

#[test]
fn each_kind_of_refusal_by_landlock_says_what_was_reached_for() {
    let mut record = record();
    let now = Instant::now();
    let address = "192.0.2.1".parse().ok();
    for (blocker, object) in [
        ("fs.read_file", Object::Path(b"/opt/\xff".to_vec())),
        ("net.connect_tcp", Object::Port(address, 81)),
        ("net.bind_tcp", Object::Port(None, 80)),
        ("scope.signal", Object::Signal(Some(12))),
        ("ptrace", Object::Trace(None)),
        ("scope.abstract_unix_socket", Object::Socket(b"\0name".to_vec())),
        ("something.new", Object::Other),
    ] {
        record.refused(now, refused(blocker, object, None));
    }
    let watched = record.finish(now);
    let told = tell::denials("test", Network::None, &watched);
    let told: Vec<_> = told.iter().map(|one| (one.what.as_str(), one.address.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("path", None),
            ("port", Some("192.0.2.1:81")),
            ("port", Some("port 80")),
            ("signal", Some("process 12")),
            ("trace", None),
            ("socket", Some("unix:@name")),
            ("other", None)
        ]
    );
    assert!(told.iter().all(|(what, _)| crate::report::is_landlock(what)));
    let denials = tell::denials("test", Network::None, &watched);
    assert_eq!(
        (denials[0].path.as_deref(), denials[0].path_b64.as_deref()),
        (Some("/opt/\u{fffd}"), Some("L29wdC//"))
    );
    // Nobody said that it was heard to the end.
    let observed = &tell::observed(Some(&watched))["denied_paths"];
    assert_eq!((observed.completeness.as_str(), observed.count), ("absent", 7));
}

#[test]
fn a_remedy_names_what_would_only_have_been_read_that_is_there_and_may_be_shown() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = record();
    let now = Instant::now();
    for name in ["it's", "plain", "secret", "written"] {
        let path = dir.path().join(name);
        std::fs::write(&path, "x").unwrap();
        let right = if name == "written" { "fs.write_file" } else { "fs.read_file" };
        let object = Object::Path(path.into_os_string().into_encoded_bytes());
        record.refused(now, refused(right, object, Some("/bin/cat")));
    }
    record.refused(now, refused("fs.read_file", Object::Path(b"/not/there".to_vec()), None));
    let watched = record.finish(now);
    let wants = tell::wants("test", Network::None, &watched, |path| !path.ends_with("secret"));
    let at = dir.path().display();
    assert_eq!(wants.len(), 1, "{wants:?}");
    assert_eq!(wants[0].what, format!("to read {at}/it's, {at}/plain"));
    assert_eq!(
        wants[0].grant.as_deref(),
        Some(&*format!("--test-ro '{at}/it'\\''s' --test-ro {at}/plain would grant it"))
    );
    assert!(tell::learned(Network::None, &watched).paths.contains(&dir.path().join("plain")));
}

#[test]
fn a_refusal_belongs_to_the_program_that_the_process_was_also_when_it_is_over() {
    let mut record = record();
    let now = Instant::now();
    for (pid, path) in [(7, "/bin/sh"), (7, "/bin/cat"), (8, "/bin/cat")] {
        record.take(report(pid, exec(path, path, None, "/bin/x", Found::Program(path.into()))));
    }
    for program in ["/bin/sh", "/bin/cat", "/bin/other"] {
        record.refused(now, refused("fs.read_file", Object::Path(b"/x".to_vec()), Some(program)));
    }
    let watched = record.finish(now);
    let of: Vec<_> = watched.refusals.iter().map(|one| one.span).collect();
    assert_eq!(of, [Some(0), Some(1), None]);
    assert_eq!(watched.refusals[1].argv0.as_deref(), Some(&b"/bin/cat"[..]));
}
