//! Whose records they are, by hand-made ones in every order.
use super::super::record::parse;
use super::*;

const MAKER: Maker = Maker { pid: 500, uid: 70_001, level: Level::Full };

/// Records by number and text, fed to one sandbox's view of them.
struct Feed {
    own: Own,
    now: Instant,
    serial: u64,
}

impl Feed {
    fn new(level: Level) -> Self {
        Self { own: Own::new(Maker { level, ..MAKER }), now: Instant::now(), serial: 0 }
    }

    fn record(&mut self, kind: u16, serial: u64, rest: &str) -> Vec<Refused> {
        let record = parse(kind, format!("audit(1.000:{serial}): {rest}").as_bytes()).unwrap().unwrap();
        let mut refused = Vec::new();
        self.own.take(record, self.now, &mut refused);
        refused
    }

    fn access(&mut self, rest: &str) -> u64 {
        self.serial += 1;
        assert_eq!(self.record(1423, self.serial, rest), []);
        self.serial
    }

    fn made(&mut self, domain: &str, pid: u32, uid: u32) {
        let text = format!(
            "domain={domain} status=allocated mode=enforcing pid={pid} uid={uid} exe=\"/x\" comm=\"x\""
        );
        assert_eq!(self.record(1424, 999, &text), []);
    }

    /// The sandbox's own domain `a`, known.
    fn known() -> Self {
        let mut feed = Self::new(Level::Full);
        feed.access("domain=a blockers=fs.make_dir path=\"/dev\" dev=\"tmpfs\" ino=1");
        feed.made("a", 500, 70_001);
        assert!(feed.own.is_known());
        feed
    }
}

fn path(of: &Refused) -> &[u8] {
    match &of.object {
        Object::Path(path) => path,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_refused_in_the_sandboxes_domain_is_told_with_its_program_and_the_check_is_not() {
    let mut feed = Feed::known();
    let one = feed.access("domain=a blockers=fs.read_file path=\"/etc/x\" dev=\"vda\" ino=1");
    assert_eq!(feed.record(1423, one, "domain=a blockers=fs.refer path=\"/tmp\" dev=\"vda\" ino=1"), []);
    // Another call's end in between.
    assert_eq!(feed.record(1300, one + 100, "pid=7 exe=\"/bin/other\""), []);
    let told = feed.record(1300, one, "pid=502 exe=\"/bin/sh\"");
    assert_eq!(told.len(), 2);
    assert_eq!((path(&told[0]), path(&told[1])), (&b"/etc/x"[..], &b"/tmp"[..]));
    assert_eq!((told[0].pid, told[1].program.as_deref()), (Some(502), Some("/bin/sh".as_ref())));
    // Three refusals and the check: nothing is missing; with another one, one is.
    feed.access("domain=a blockers=scope.signal opid=1 ocomm=\"init\"");
    feed.record(1424, 1000, "domain=a status=deallocated denials=4");
    assert_eq!((feed.own.told(), feed.own.untold()), (3, Some(0)));
    let rest = feed.own.flush(feed.now, true);
    assert_eq!((rest.len(), rest[0].pid, &rest[0].object), (1, None, &Object::Signal(Some(1))));
    assert_eq!((feed.own.told(), feed.own.untold()), (3, Some(0)));
}

#[test]
fn refusals_that_no_record_told_are_known_by_their_number() {
    let mut feed = Feed::known();
    assert_eq!(feed.own.untold(), None);
    feed.record(1424, 1000, "domain=b status=deallocated denials=100");
    assert_eq!(feed.own.untold(), None, "somebody else's");
    feed.record(1424, 1000, "domain=a status=deallocated denials=18");
    assert_eq!((feed.own.untold(), feed.own.is_over()), (Some(17), true));
}

#[test]
fn other_sandboxes_other_programs_and_domains_made_inside_are_not_its_own() {
    let mut feed = Feed::new(Level::Full);
    let check = "blockers=fs.make_dir path=\"/dev\" dev=\"tmpfs\" ino=1";
    // Another sandbox, which did the same; a process of another user with this number; another process of this user.
    for (domain, pid, uid) in [("1", 600, 70_002), ("2", 500, 0), ("3", 501, 70_001)] {
        feed.access(&format!("domain={domain} {check}"));
        feed.made(domain, pid, uid);
    }
    // A domain of the right maker that was refused something else first: made after the program was executed.
    feed.access("domain=4 blockers=fs.read_file path=\"/etc/x\" dev=\"vda\" ino=1");
    feed.access(&format!("domain=4 {check}"));
    feed.made("4", 500, 70_001);
    // And one of which no refusal was told.
    feed.made("5", 500, 70_001);
    assert!(!feed.own.is_known());
    feed.access(&format!("domain=a {check}"));
    feed.made("a", 500, 70_001);
    assert!(feed.own.is_known());
    // The same again, later, and of others: not its own.
    feed.access(&format!("domain=6 {check}"));
    feed.made("6", 500, 70_001);
    for domain in ["1", "2", "3", "4", "5", "6"] {
        let at = feed.access(&format!("domain={domain} blockers=fs.execute path=\"/x\" dev=\"vda\" ino=1"));
        assert_eq!(feed.record(1300, at, "pid=500 exe=\"/x\""), []);
    }
    assert_eq!((feed.own.told(), feed.own.flush(feed.now, true)), (0, vec![]));
}

#[test]
fn after_a_loss_before_the_check_nothing_is_taken_for_its_own() {
    let mut feed = Feed::new(Level::Full);
    feed.own.lose();
    feed.access("domain=a blockers=fs.make_dir path=\"/dev\" dev=\"tmpfs\" ino=1");
    feed.made("a", 500, 70_001);
    assert!(!feed.own.is_known() && feed.own.has_lost());
    let mut feed = Feed::known();
    feed.own.lose();
    assert!(feed.own.is_known() && feed.own.has_lost(), "known before");
}

#[test]
fn at_level_landlock_the_check_is_two_refusals_and_a_third_is_told() {
    let mut feed = Feed::new(Level::Landlock);
    let signal = "domain=a blockers=scope.signal opid=499 ocomm=\"x\"";
    feed.access("domain=a blockers=fs.read_dir path=\"/\" dev=\"vda\" ino=1");
    feed.made("a", 500, 70_001);
    feed.access(signal);
    assert_eq!(feed.own.told(), 0);
    feed.access(signal);
    feed.access("domain=a blockers=fs.read_dir path=\"/\" dev=\"vda\" ino=1");
    assert_eq!(feed.own.told(), 2);
}

#[test]
fn what_waits_is_bounded_and_given_up_after_a_while() {
    let mut feed = Feed::known();
    for _ in 0..MAX_PENDING {
        feed.access("domain=a blockers=fs.read_file path=\"/x\" dev=\"vda\" ino=1");
    }
    let one_more = feed.record(1423, 5000, "domain=a blockers=fs.read_file path=\"/y\" dev=\"vda\" ino=1");
    assert_eq!((one_more.len(), feed.own.pending.len()), (1, MAX_PENDING));
    assert_eq!(feed.own.flush(feed.now, false), []);
    assert_eq!(feed.own.flush(feed.now + PATIENCE, false).len(), MAX_PENDING);
    assert_eq!(feed.own.told(), MAX_PENDING as u64 + 1);
    let mut feed = Feed::new(Level::Full);
    for _ in 0..MAX_CANDIDATES * 2 {
        feed.access("domain=b blockers=fs.read_file path=\"/x\" dev=\"vda\" ino=1");
    }
    assert_eq!(feed.own.candidates.len(), MAX_CANDIDATES);
}

#[test]
fn what_was_reached_for_is_told_by_the_right_that_was_missing() {
    for (rest, object) in [
        ("blockers=net.connect_tcp daddr=::1 dest=81", Object::Port(Some("::1".parse().unwrap()), 81)),
        ("blockers=net.bind_tcp src=8080", Object::Port(None, 8080)),
        ("blockers=net.bind_tcp", Object::Other),
        ("blockers=ptrace opid=7 ocomm=\"x\"", Object::Trace(Some(7))),
        ("blockers=scope.abstract_unix_socket path=0061", Object::Socket(b"\0a".to_vec())),
        ("blockers=fs.change_topology name=\"x\" dev=\"vda\" ino=1", Object::Path(b"x".to_vec())),
        ("blockers=fs.read_file path=<no_memory>", Object::Other),
        ("blockers=something_new", Object::Other),
    ] {
        let mut feed = Feed::known();
        feed.access(&format!("domain=a {rest}"));
        assert_eq!(feed.own.flush(feed.now, true)[0].object, object, "{rest}");
    }
}
