//! The process in which `proctor verify` has evidence read: what it cannot do, that it is held so before it reads, and
//! what is said where it cannot be held, dies, or comes to no end.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::{Outcome, Proctor, TestRepo, User, World, users};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::proofs::{NO_NAMESPACES, probe};
use crate::support::{each, sh, signal};
use crate::{binary, proctor};

/// What the probe's attacks come to, by attack.
fn attacks(world: &World, mode: &[&str], attacks: &[&str]) -> Vec<String> {
    let mut command = world.command(probe());
    let output = command.current_dir(world.path(".")).args(mode).args(attacks).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Vec<String> =
        text.lines().map(|line| line.split_once('\t').unwrap_or(("", line)).1.to_owned()).collect();
    assert_eq!(found.len(), attacks.len(), "{output:?}");
    found
}

#[test]
fn a_reader_can_do_nothing_but_read_beneath_its_directory() {
    // The attack, what it comes to in a plain process (where that says something), and in a reader.
    let rows: &[(&str, &str, &str)] = &[
        ("read inside/file", "ok", "ok"),
        ("list inside", "file link", "file link"),
        ("read outside/file", "ok", "EACCES"),
        ("read inside/link", "ok", "EACCES"),
        ("read inside/../outside/file", "ok", "EACCES"),
        ("list outside", "file", "EACCES"),
        ("read /proc/self/status", "ok", "EACCES"),
        ("list /", "", "EACCES"),
        ("write inside/file", "ok", "EPERM"),
        ("append inside/file x", "ok", "EPERM"),
        ("create inside/new", "ok", "EPERM"),
        ("openat2-mode inside/new2 600", "ok", "EACCES"),
        ("tmpfile inside", "ok", "EPERM"),
        ("mkdir inside/dir", "ok", "EPERM"),
        ("symlink x inside/link2", "ok", "EPERM"),
        ("link inside/file inside/file2", "ok", "EPERM"),
        ("node fifo inside/fifo", "ok", "EPERM"),
        ("chmod inside/file 644", "ok", "EPERM"),
        ("touch inside/file", "ok", "EPERM"),
        ("truncate inside/file", "ok", "EPERM"),
        ("rename inside/file2 inside/file3", "ok", "EPERM"),
        ("unlink inside/file3", "ok", "EPERM"),
        ("rmdir inside/dir", "ok", "EPERM"),
        ("getxattr inside/file user.x", "ENODATA", "EPERM"),
        ("socket 1 1 0", "ok", "SIGSYS"),
        ("socket 2 1 0", "ok", "SIGSYS"),
        ("udp 127.0.0.1:9", "ok", "SIGSYS"),
        ("abstract nobody", "ECONNREFUSED", "SIGSYS"),
        ("sys 59 0 0 0", "", "SIGSYS"),
        ("forks 1", "1 and no end", "SIGSYS"),
        ("vmread 1", "", "SIGSYS"),
        ("ptrace 1", "", "SIGSYS"),
        ("sys 321 0", "", "SIGSYS"),
        ("kill 1 0", "", "EPERM"),
        ("rlimit 7 16", "ok", "EPERM"),
        ("eat 200000000", "ok", "ENOMEM"),
        ("allocate 200000000", "", "SIGABRT"),
        ("spin", "", "SIGXCPU"),
        ("open 100", "", "12"),
        ("fds", "", "0 1 2 3"),
        ("i386", "", "SIGSYS"),
        ("sys 9 0 4096 4 34 -1 0", "ok", "EPERM"),
    ];
    for user in users() {
        let world = World::new(user);
        world.write("inside/file", "inside");
        world.write("outside/file", "outside");
        std::os::unix::fs::symlink("../outside/file", world.path("inside/link")).unwrap();
        user.own(&world.path("inside"));
        let rows: Vec<_> = rows
            .iter()
            .filter(|row| cfg!(target_arch = "x86_64") || !(row.0.starts_with("sys ") || row.0 == "i386"))
            .collect();
        let names: Vec<&str> = rows.iter().map(|row| row.0).collect();
        let inside = attacks(&world, &["--reader", "inside"], &names);
        for (row, found) in rows.iter().zip(&inside) {
            assert_eq!(found, row.2, "{}, as a reader, as {user:?}", row.0);
        }
        assert_eq!(std::fs::read(world.path("inside/file")).unwrap(), b"inside");
        let plain: Vec<_> = rows.iter().filter(|row| !row.1.is_empty()).collect();
        let names: Vec<&str> = plain.iter().map(|row| row.0).collect();
        let outside = attacks(&world, &[], &names);
        for (row, found) in plain.iter().zip(&outside) {
            assert_eq!(found, row.1, "{}, as a plain process, as {user:?}", row.0);
        }
        let ids = attacks(&world, &["--reader", "inside"], &["ids"]);
        let expected =
            if user == User::Root { "65534 65534".to_owned() } else { format!("{0} {0}", user.uid()) };
        assert_eq!(ids, [expected]);
    }
}

/// A run that passes, and its evidence.
fn evidence(repo: &TestRepo<'_>) -> PathBuf {
    let outcome =
        sh(repo, &["--test", "sh check.sh"], "echo hello; sed -i s/broken/mended/ src/value.txt").run();
    outcome.expect(0, &[]);
    outcome.evidence()
}

fn result(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:#?}"))
}

fn names(result: &Value) -> Vec<&str> {
    result["reader"]["mechanisms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect()
}

#[test]
fn the_result_says_what_held_the_reader() {
    each(|repo| {
        let dir = evidence(repo);
        for mut more in
            [proctor(repo.world()), Proctor::through(&without(&NO_NAMESPACES), binary(), repo.world())]
        {
            more = more.args(["--json", "verify", "--repo"]).arg(repo.path()).arg(&dir);
            let said = more.run();
            assert_eq!(said.code, Some(0), "{said:#?}");
            let result = result(&said);
            let mut expected = vec!["not_dumpable", "descriptors"];
            if repo.world().user == User::Root {
                expected.push("ids");
            }
            expected.extend([
                "capabilities",
                "no_new_privs",
                "death_with_parent",
                "rlimits",
                "landlock",
                "seccomp",
            ]);
            assert_eq!(names(&result), expected, "{result:#}");
            assert_eq!(result["reader"]["missing"], json!([]));
        }
    });
}

fn without(rules: &[&str]) -> Vec<String> {
    let mut all = vec![probe().display().to_string(), "without".to_owned()];
    all.extend(rules.iter().map(|rule| (*rule).to_owned()));
    all.push("--".to_owned());
    all
}

#[test]
fn where_the_reader_cannot_be_confined_nothing_is_read_and_the_mend_is_named() {
    let hosts: &[(&[&str], &str, &str, &str)] = &[
        (
            &["landlock_create_ruleset=ENOSYS"],
            "creating the Landlock ruleset (none): ENOSYS",
            "refuses the landlock calls",
            "landlock",
        ),
        (
            &["landlock_create_ruleset=EOPNOTSUPP"],
            "creating the Landlock ruleset (none): EOPNOTSUPP",
            "boot with `landlock` in the parameter lsm=",
            "landlock",
        ),
        (&["landlock_restrict_self=EPERM"], "enforcing Landlock", "refuses the landlock calls", "landlock"),
        (&["seccomp=EINVAL"], "installing the seccomp filter: EINVAL", "refuses the call seccomp", "seccomp"),
    ];
    each(|repo| {
        let dir = evidence(repo);
        for (rules, step, mend, lost) in hosts {
            let call = |more: &[&str]| {
                let call = Proctor::through(&without(rules), binary(), repo.world());
                call.args(["--json", "verify"]).arg(&dir).args(more).run()
            };
            let said = call(&[]);
            assert_eq!((said.code, said.stdout.as_str()), (Some(3), ""), "{said:#?}");
            for text in ["sandbox_unavailable", "nothing was read", step, mend, "--unconfined"] {
                assert!(said.stderr.contains(text), "{text}: {said:#?}");
            }
            let said = call(&["--unconfined"]);
            assert_eq!(said.code, Some(0), "{said:#?}");
            assert!(said.stderr.contains(&format!("the reader was not held by: {step}")), "{said:#?}");
            let result = result(&said);
            assert!(!names(&result).contains(lost) && names(&result).contains(&"no_new_privs"), "{result:#}");
            assert!(result["reader"]["missing"][0].as_str().unwrap().contains(step), "{result:#}");
        }
    });
}

#[test]
#[expect(clippy::print_stderr, reason = "a skip is said by its name")]
fn root_reads_what_belongs_to_others_and_its_own_without_capabilities() {
    if !users().contains(&User::Root) {
        eprintln!("skipped: only root can give a program some of root's capabilities");
        return;
    }
    let (root, other) = (World::new(User::Root), World::new(User::Ordinary));
    let (own, theirs) = (TestRepo::small(&root), TestRepo::small(&other));
    let (own, theirs) = (evidence(&own), evidence(&theirs));
    assert_eq!(std::fs::metadata(&theirs).unwrap().permissions().mode() & 0o777, 0o700);
    let said = proctor(&root).arg("verify").arg(&theirs).run();
    assert_eq!(said.code, Some(0), "{said:#?}");
    // As in a container that was given none.
    let none = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"].map(str::to_owned);
    let said = Proctor::through(&none, binary(), &root).args(["--json", "verify"]).arg(&own).run();
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(!names(&result(&said)).contains(&"ids"), "{said:#?}");
    // As Docker has it: the wider right alone.
    let some =
        ["setpriv", "--bounding-set=-all,+dac_override,+setuid,+setgid,+setpcap", "--"].map(str::to_owned);
    let said = Proctor::through(&some, binary(), &root).args(["--json", "verify"]).arg(&theirs).run();
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("only CAP_DAC_OVERRIDE"), "{said:#?}");
}

#[test]
fn time_and_memory_are_limited_and_said() {
    each(|repo| {
        let dir = evidence(repo);
        let call =
            |more: &[&str]| proctor(repo.world()).args(["--json", "verify"]).arg(&dir).args(more).run();
        let said = call(&["--timeout", "1us"]);
        assert_eq!(said.code, Some(4), "{said:#?}");
        assert!(said.stderr.contains(".: not verified within 1us (--timeout)"), "{said:#?}");
        let result = result(&said);
        assert_eq!((&result["valid"], &result["problems"][0]["kind"]), (&json!(false), &json!("reader")));

        for (options, why) in [
            (&["--timeout", "soon"][..], "--timeout: "),
            (&["--timeout", "0s"], "--timeout: nothing is verified in no time"),
            (&["--memory", "1M"], "--memory: the process that reads needs"),
            (&["--memory", "much"], "--memory: `much` is not a size"),
        ] {
            let said = call(options);
            assert_eq!(said.code, Some(2), "{said:#?}");
            assert!(said.stderr.contains(why), "{why}: {said:#?}");
        }

        // A report that is all blockers: small ones, many of them.
        let mut report: Value =
            serde_json::from_slice(&std::fs::read(dir.join("report.json")).unwrap()).unwrap();
        let one = json!({ "code": "no_diff", "message": "", "detail": null, "remedy": "" });
        report["blockers"] = vec![one; 500_000].into();
        std::fs::write(dir.join("report.json"), report.to_string()).unwrap();
        let said = call(&["--memory", "48M"]);
        assert_eq!(said.code, Some(4), "{said:#?}");
        let why = ".: not verified: the process that read it needed more than the 50331648 bytes of memory that it has (--memory)";
        assert!(said.stderr.contains(why), "{said:#?}");
    });
}

/// Evidence whose reading takes a while: a raw log of holes that the manifest names.
fn slow(repo: &TestRepo<'_>) -> PathBuf {
    let dir = evidence(repo);
    let path = dir.join("report.json");
    let mut report: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let size = 60_u64 << 30;
    std::fs::File::options().write(true).open(dir.join("backend.stderr.log")).unwrap().set_len(size).unwrap();
    for one in report["digest_manifest"].as_array_mut().unwrap() {
        if one["name"] == "backend.stderr.log" {
            one["annotations"]["size"] = size.into();
        }
    }
    std::fs::write(path, report.to_string()).unwrap();
    dir
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The reader that a `proctor verify` has started, once it is held.
fn reader_of(parent: u32) -> u32 {
    until("a reader that is held", || {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        let child = children.split_whitespace().next()?.parse().ok()?;
        field(child, "Seccomp").filter(|mode| mode == "2").map(|_| child)
    })
}

fn field(pid: u32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next().unwrap_or_default().to_owned())
}

#[test]
fn the_reader_of_a_verification_is_held_as_it_is_said_and_its_death_is_told() {
    each(|repo| {
        let dir = slow(repo);
        let child = proctor(repo.world()).arg("verify").arg(&dir).spawn();
        let reader = reader_of(child.id());
        let root = repo.world().user == User::Root;
        for (name, expected) in [
            ("NoNewPrivs", "1"),
            ("Threads", "1"),
            ("CapEff", if root { "0000000000000004" } else { "0000000000000000" }),
            ("CapInh", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("Uid", if root { "65534" } else { "1000" }),
        ] {
            let expected =
                if name == "Uid" && !root { repo.world().user.uid().to_string() } else { expected.into() };
            assert_eq!(field(reader, name), Some(expected), "{name}");
        }
        signal(reader, Signal::KILL);
        let said = Outcome::of(child.wait_with_output().unwrap());
        assert_eq!(said.code, Some(4), "{said:#?}");
        assert!(
            said.stderr.contains(".: not verified: the process that read it was killed (SIGKILL)"),
            "{said:#?}"
        );

        let child = proctor(repo.world()).arg("verify").arg(&dir).spawn();
        signal(reader_of(child.id()), Signal::SYS);
        let said = Outcome::of(child.wait_with_output().unwrap());
        assert_eq!(said.code, Some(4), "{said:#?}");
        assert!(said.stderr.contains("(SIGSYS) for a system call that no reader makes"), "{said:#?}");

        let child = proctor(repo.world()).arg("verify").arg(&dir).args(["--timeout", "2s"]).spawn();
        let reader = reader_of(child.id());
        let said = Outcome::of(child.wait_with_output().unwrap());
        assert_eq!(said.code, Some(4), "{said:#?}");
        assert!(said.stderr.contains(".: not verified within 2s (--timeout)"), "{said:#?}");
        assert!(!Path::new(&format!("/proc/{reader}")).exists(), "the reader outlives its verification");
    });
}

#[test]
fn a_reader_does_not_outlive_its_verification() {
    each(|repo| {
        let dir = slow(repo);
        let mut child = proctor(repo.world()).arg("verify").arg(&dir).spawn();
        let reader = reader_of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        until("the reader's end", || field(reader, "State").is_none_or(|state| state == "Z").then_some(()));
    });
}

#[test]
fn the_reader_is_nobodys_to_start() {
    let world = World::new(users()[0]);
    let said = proctor(&world).arg("evidence-reader").run();
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said:#?}");
    assert!(said.stderr.contains("is started by `proctor verify`, and by nobody else"), "{said:#?}");
}
