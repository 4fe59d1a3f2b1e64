//! Records as a kernel (6.18) wrote them, hostile names in them, and everything else.
use proptest::prelude::*;

use super::*;

const STAMP: &str = "audit(1795549517.699:698): ";

fn read(kind: u16, rest: &str) -> Parsed<Option<Record>> {
    parse(kind, format!("{STAMP}{rest}").as_bytes())
}

fn accessed(rest: &str) -> Access {
    match read(ACCESS, rest) {
        Ok(Some(Record::Access { stamp, domain: 0x1_7140_a475, access })) => {
            assert_eq!(stamp, Stamp { ms: 1_795_549_517_699, serial: 698 });
            access
        }
        other => panic!("{rest}: {other:?}"),
    }
}

/// `audit_log_untrustedstring`.
fn untrusted(name: &[u8]) -> String {
    if name.iter().any(|b| *b == b'"' || *b < 0x21 || *b > 0x7e) {
        name.iter().map(|b| format!("{b:02X}")).collect()
    } else {
        format!("\"{}\"", str::from_utf8(name).unwrap())
    }
}

#[test]
fn records_of_a_kernel_are_read() {
    let access = accessed(r#"domain=17140a475 blockers=fs.read_file path="/etc/passwd" dev="vda" ino=737"#);
    assert_eq!((access.blockers, access.path), (vec!["fs.read_file".into()], Some(b"/etc/passwd".to_vec())));
    let access = accessed(
        r#"domain=17140a475 blockers=fs.read_file path=2F746D702F612062202220706174683D2278222F79 dev="vda" ino=1"#,
    );
    assert_eq!(access.path.unwrap(), br#"/tmp/a b " path="x"/y"#);
    let access =
        accessed(r#"domain=17140a475 blockers=fs.remove_file,fs.refer path="/tmp" dev="vda" ino=246951"#);
    assert_eq!(access.blockers, ["fs.remove_file", "fs.refer"]);
    let access = accessed(r#"domain=17140a475 blockers=scope.signal opid=20730 ocomm="python3""#);
    assert_eq!((access.pid, access.path), (Some(20730), None));
    let access = accessed("domain=17140a475 blockers=net.connect_tcp daddr=127.0.0.1 dest=81");
    assert_eq!((access.address, access.port), (Some("127.0.0.1".parse().unwrap()), Some(81)));
    let access = accessed("domain=17140a475 blockers=net.bind_tcp src=8080");
    assert_eq!((access.address, access.port), (None, Some(8080)));
    let access = accessed("domain=17140a475 blockers=scope.abstract_unix_socket path=00616263");
    assert_eq!(access.path.unwrap(), b"\0abc");
    let access = accessed(r#"domain=17140a475 blockers=fs.change_topology name="x" dev="tmpfs" ino=1"#);
    assert_eq!((access.path, access.name), (None, Some(b"x".to_vec())));
    let access = accessed("domain=17140a475 blockers=fs.read_file path=<too_long> dev=\"vda\" ino=7");
    assert_eq!(access.path, None);

    let made = read(
        DOMAIN,
        r#"domain=17140a475 status=allocated mode=enforcing pid=20731 uid=1000 exe="/bin/x" comm=61206200"#,
    );
    assert_eq!(made, Ok(Some(Record::Made { domain: 0x1_7140_a475, pid: 20731, uid: 1000 })));
    let gone = read(DOMAIN, "domain=17140a475 status=deallocated denials=16");
    assert_eq!(gone, Ok(Some(Record::Gone { domain: 0x1_7140_a475, denials: 16 })));
    let call = "arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c a1=7f a2=80000 a3=0 items=0 ppid=20730 \
                pid=20731 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) \
                ses=4294967295 comm=\"python3\" exe=";
    for (end, exe) in [
        (r#""/usr/bin/dash" key=(null)"#, Some(b"/usr/bin/dash".to_vec())),
        (r#""/usr/bin/dash" subj=docker-default (enforce) key=(null)"#, Some(b"/usr/bin/dash".to_vec())),
        ("(null)", None),
        ("2F612062", Some(b"/a b".to_vec())),
    ] {
        let stamp = Stamp { ms: 1_795_549_517_699, serial: 698 };
        assert_eq!(
            read(SYSCALL, &format!("{call}{end}")),
            Ok(Some(Record::Call { stamp, pid: 20731, exe })),
            "{end}"
        );
    }
    // End of an event, a title, and whatever else.
    for kind in [1320, 1327, 1300 - 1, 2000, 0] {
        assert_eq!(parse(kind, b"anything \xff"), Ok(None));
    }
}

#[test]
fn what_has_another_form_is_no_record() {
    for rest in [
        "",
        "domain=17140a475",
        "domain=17140a475 blockers=",
        "domain=17140a475 blockers=fs.read_file,",
        "domain=17140a475 blockers=\"fs.read_file\" path=\"/x\"",
        "domain=17140A475 blockers=fs.read_file",
        "domain=+1 blockers=fs.read_file",
        "domain=1ffffffffffffffff blockers=fs.read_file",
        "blockers=fs.read_file domain=1",
        "domain=1 blockers=fs.read_file path=\"/x",
        "domain=1 blockers=fs.read_file path=\"/x\"y",
        "domain=1 blockers=fs.read_file path=\"/x y\"",
        "domain=1 blockers=fs.read_file path=\"/x\" path=\"/y\"",
        "domain=1 blockers=fs.read_file domain=2",
        "domain=1 blockers=fs.read_file path=/x",
        "domain=1 blockers=fs.read_file path=2f78",
        "domain=1 blockers=fs.read_file path=2F7",
        "domain=1 blockers=fs.read_file path=",
        "domain=1  blockers=fs.read_file",
        "domain=1 blockers=fs.read_file ",
        "domain=1 blockers=fs.read_file path",
        "domain=1 blockers=fs.read_file path=\"/x\"\npath=\"/y\"",
        "domain=1 blockers=net.connect_tcp dest=65536",
        "domain=1 blockers=net.connect_tcp dest=-1",
        "domain=1 blockers=net.connect_tcp daddr=localhost dest=1",
        "domain=1 blockers=scope.signal opid=+7",
    ] {
        assert_eq!(read(ACCESS, rest), Err(Malformed), "{rest}");
    }
    for rest in [
        "domain=1 status=allocated mode=enforcing pid=7 uid=0 exe=\"/x\"",
        "domain=1 status=allocated mode=enforcing uid=0 pid=7 exe=\"/x\" comm=\"x\"",
        "domain=1 status=allocated mode=enforcing pid=7 uid=0 exe=\"/x\" comm=\"x\" pid=8",
        "domain=1 status=allocated mode=enforcing pid=\"7\" uid=0 exe=\"/x\" comm=\"x\"",
        "domain=1 status=deallocated denials=16 more=1",
        "domain=1 status=deallocated",
        "domain=1 status=other denials=16",
    ] {
        assert_eq!(read(DOMAIN, rest), Err(Malformed), "{rest}");
    }
    for rest in ["pid=1 pid=2 exe=\"/x\"", "exe=\"/x\"", "pid=1 comm=\"x\"", "pid=1 subj=a b exe=\"/x\""] {
        assert_eq!(read(SYSCALL, rest), Err(Malformed), "{rest}");
    }
    for stamp in [
        "audit(1.699:698):domain=1 blockers=x",
        "audit(1.69:698): domain=1 blockers=x",
        "audit(1:698): domain=1 blockers=x",
        "audit(1.699): domain=1 blockers=x",
        "audit(99999999999999999999.699:1): domain=1 blockers=x",
        "audit(18446744073709551615.699:1): domain=1 blockers=x",
        " audit(1.699:698): domain=1 blockers=x",
    ] {
        assert_eq!(parse(ACCESS, stamp.as_bytes()), Err(Malformed), "{stamp}");
    }
    let long = format!("{STAMP}domain=1 blockers=x path=\"{}\"", "x".repeat(MAX_RECORD));
    assert_eq!(parse(ACCESS, long.as_bytes()), Err(Malformed));
    let many = vec!["x"; MAX_BLOCKERS + 1].join(",");
    assert_eq!(read(ACCESS, &format!("domain=1 blockers={many}")), Err(Malformed));
}

/// What a name would look like if it could end early.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\" path=\"/etc/shadow\" opid=1".to_vec()),
        Just(b" domain=1 blockers=fs.execute".to_vec()),
        Just(b"\naudit(1.000:1): ".to_vec()),
        Just(b"2F".to_vec()),
        Just(b"(null)".to_vec()),
        Just(b"<too_long>".to_vec()),
        Just("ä\u{202e}".as_bytes().to_vec()),
        proptest::collection::vec(1_u8.., 0..20),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_name_comes_back_as_it_was_and_says_nothing_else(path in hostile(), comm in hostile(), pid in any::<u32>()) {
        let text = format!(
            "domain=17140a475 blockers=fs.read_file path={} dev=\"vda\" ino=7",
            untrusted(&path)
        );
        let expected = Access {
            blockers: vec!["fs.read_file".into()],
            path: Some(path.clone()),
            ..Access::default()
        };
        prop_assert_eq!(accessed(&text), expected);
        let text = format!("domain=17140a475 blockers=scope.signal opid={pid} ocomm={}", untrusted(&comm));
        let expected = Access { blockers: vec!["scope.signal".into()], pid: Some(pid), ..Access::default() };
        prop_assert_eq!(accessed(&text), expected);
        let text = format!(
            "domain=2 status=allocated mode=enforcing pid={pid} uid=7 exe={} comm={}",
            untrusted(&path), untrusted(&comm)
        );
        prop_assert_eq!(read(DOMAIN, &text), Ok(Some(Record::Made { domain: 2, pid, uid: 7 })));
        let text = format!("ppid=1 pid={pid} comm={} exe={} key=(null)", untrusted(&comm), untrusted(&path));
        let stamp = Stamp { ms: 1_795_549_517_699, serial: 698 };
        prop_assert_eq!(read(SYSCALL, &text), Ok(Some(Record::Call { stamp, pid, exe: Some(path) })));
    }

    #[test]
    fn no_bytes_bring_it_down(kind in prop_oneof![Just(SYSCALL), Just(ACCESS), Just(DOMAIN)],
                              bytes in proptest::collection::vec(any::<u8>(), 0..300), stamped in any::<bool>()) {
        let mut text = if stamped { STAMP.as_bytes().to_vec() } else { vec![] };
        text.extend(bytes);
        let _ = parse(kind, &text);
    }

    /// A record that is cut, or in which a byte is another one, is read as what it says now or not at all: never more of
    /// it than its text holds.
    #[test]
    fn a_damaged_record_is_never_more_than_it_was(path in hostile(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let text = format!("{STAMP}domain=5 blockers=fs.read_file path={} dev=\"vda\" ino=7", untrusted(&path));
        let mut damaged = text.clone().into_bytes();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        for text in [&damaged[..], &text.as_bytes()[..at]] {
            if let Ok(Some(Record::Access { access, .. })) = parse(ACCESS, text) {
                prop_assert!(access.path.is_none_or(|path| path.len() <= text.len()));
                prop_assert!(access.pid.is_none() && access.port.is_none());
            }
        }
    }
}
