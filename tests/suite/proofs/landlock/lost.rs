//! What level `landlock` says that it cannot promise (`sandbox.missing`): each is shown to be lost there and to hold at
//! level `full`, and the list in a report is the one in the document.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use harness::{Outcome, TestRepo, User, World, users};

use super::survivors::kill;
use crate::proofs::processes::{comm, parent, wait_for, with_argument};
use crate::proofs::{NO_NAMESPACES, Proof, fits, without_namespaces};
use crate::support::meanwhile;

/// Attack, what it comes to at level `landlock`, what at level `full`.
type Lost = (String, &'static str, &'static str);

fn lost(proof: &Proof<'_>, full: &Proof<'_>, rows: &[Lost]) {
    let attacks: Vec<String> = rows.iter().map(|r| r.0.clone()).collect();
    let (here, there) = (proof.inside(&attacks), full.inside(&attacks));
    for ((attack, landlock, at_full), (here, there)) in rows.iter().zip(here.iter().zip(&there)) {
        assert!(
            fits(landlock, here),
            "{:?}: {attack} at level landlock: {here}, not {landlock}",
            proof.user()
        );
        assert!(fits(at_full, there), "{:?}: {attack} at level full: {there}, not {at_full}", proof.user());
    }
}

/// What a report lists.
pub(super) fn missing(outcome: &Outcome) -> Vec<String> {
    let report = outcome.report();
    assert_eq!(report["sandbox"]["level"], "landlock", "{outcome:#?}");
    let list = report["sandbox"]["missing"].as_array().unwrap();
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Of the table in the document: the first column, for whom, and the test that shows it.
fn documented() -> Vec<(String, String, String)> {
    let document = include_str!("../../../../docs/threat-model.md");
    let (_, section) = document.split_once("## What level `landlock` promises, and what not").unwrap();
    let (_, table) = section.split_once("| missing | where | loss shown by |").unwrap();
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 3, "{line}");
            (cells[0].to_owned(), cells[1].to_owned(), cells[2].trim_matches('`').to_owned())
        })
        .collect()
}

#[test]
fn a_report_lists_exactly_what_the_document_does() {
    let documented = documented();
    let of = |places: &[&str]| -> BTreeSet<String> {
        documented.iter().filter(|d| places.contains(&d.1.as_str())).map(|d| d.0.clone()).collect()
    };
    for user in users() {
        let world = World::new(user);
        let outcome = Proof::confined(&world).shell("true");
        let listed = missing(&outcome);
        let report = outcome.report();
        let names: Vec<&str> = report["sandbox"]["mechanisms"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|m| m["name"].as_str())
            .collect();
        let mut places = vec!["always"];
        if user == User::Ordinary {
            places.push("ordinary user");
        }
        if !names.contains(&"cgroup_memory") {
            places.push("no memory cgroup");
        }
        if !names.contains(&"cgroup_tasks") && user == User::Ordinary {
            places.push("ordinary user without a pids cgroup");
        }
        let mut unique: BTreeSet<String> = listed.iter().cloned().collect();
        assert_eq!(unique.len(), listed.len(), "{user:?}: said twice: {listed:#?}");
        // Files with tokens beside the system's programs, where the host has them.
        for own in listed.iter().filter(|text| text.starts_with("mount around /usr/")) {
            let path = own.split([' ', ':']).nth(2).unwrap();
            documents(&listed, own, path);
            unique.remove(own);
        }
        assert_eq!(unique, of(&places), "{user:?}");
        assert!(
            outcome.stderr.contains(&format!("with {} guarantees missing", listed.len())),
            "{outcome:#?}"
        );
    }
    // What depends on options: by the words before the colon, a path in them as DIR.
    for (text, place, shown_by) in &documented {
        assert!(shown_by.starts_with("proofs::"), "{text}: no test shows it");
        if place.starts_with("option") || place.starts_with("host") {
            assert!(text.contains(':'), "{text}");
        }
    }
}

fn documents(texts: &[String], want: &str, dir: &str) {
    let found = texts.iter().find(|text| text.starts_with(&want.replace("DIR", dir)));
    let found = found.unwrap_or_else(|| panic!("{want} is not in {texts:#?}"));
    let documented = documented();
    let said: Vec<&str> = documented.iter().map(|d| d.0.as_str()).collect();
    assert!(said.contains(&found.replace(dir, "DIR").as_str()), "{found} is not in the document: {said:#?}");
}

#[test]
fn processes_of_the_host_are_seen_with_their_arguments() {
    for user in users() {
        let world = World::new(user);
        let mut sleeper = world.command("sleep").arg("61.5").spawn().unwrap();
        let pid = sleeper.id();
        let (proof, full) = (Proof::confined(&world), Proof::new_beside(&world));
        lost(
            &proof,
            &full,
            &[
                (format!("cat /proc/{pid}/cmdline"), "~61.5", "ENOENT"),
                (format!("read /proc/{pid}/status"), "ok", "ENOENT"),
                (format!("read /proc/{pid}/limits"), "ok", "ENOENT"),
                (format!("list /proc/{pid}/fd"), if user == User::Root { "EACCES" } else { "~0" }, "ENOENT"),
                (format!("list /proc/{pid}/task"), "~0|~1|~2|~3|~4|~5|~6|~7|~8|~9", "ENOENT"),
            ],
        );
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}

#[test]
fn what_a_killed_init_leaves_behind_lives_on() {
    for user in users() {
        let world = World::new(user);
        for (confined, survive) in [(false, false), (true, true)] {
            let proof = if confined { Proof::confined(&world) } else { Proof::new_beside(&world) };
            let token = format!("51{}{}", u8::from(confined), std::process::id());
            let mut command =
                proof.command(["sh", "-c", &format!("(setsid sleep {token} &) ; sleep {token}")]);
            command.command().stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = command.spawn();
            wait_for(|| with_argument(&token).len() == 2, "the backend starts");
            let main = with_argument(&token).into_iter().find(|p| comm(parent(*p)) == "sh").unwrap();
            kill(parent(parent(main)));
            let outcome = Outcome::of(child.wait_with_output().unwrap());
            assert_eq!(outcome.code, Some(1), "{user:?}: {outcome:#?}");
            assert!(!outcome.blockers().is_empty(), "{user:?}: {outcome:#?}");
            std::thread::sleep(Duration::from_millis(200));
            let left = with_argument(&token);
            for pid in &left {
                kill(*pid);
            }
            assert_eq!(!left.is_empty(), survive, "{user:?} {confined}");
        }
    }
}

#[test]
fn namespaces_are_the_hosts() {
    for user in users() {
        let world = World::new(user);
        let (proof, full) = (Proof::confined(&world), Proof::new_beside(&world));
        for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
            let attack = [format!("readlink /proc/self/ns/{kind}")];
            assert_eq!(proof.inside(&attack), [own.as_str()], "{user:?} {kind}");
            assert_ne!(full.inside(&attack), [own.as_str()], "{user:?} {kind}");
        }
    }
}

#[test]
fn paths_of_the_host_can_be_looked_up_and_temporary_directories_are_not_private() {
    for user in users() {
        let world = World::new(user);
        let file = world.write("home/notes", "secret").display().to_string();
        std::os::unix::fs::symlink("to-somewhere", world.path("home/link")).unwrap();
        world.user.own(&world.path("home"));
        let (proof, full) = (Proof::confined(&world), Proof::new_beside(&world));
        let link = world.path("home/link").display().to_string();
        let made = format!("proctor-lost-{}", std::process::id());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
        let mut rows = vec![
            (format!("stat {file}"), "ok", "ENOENT"),
            (format!("readlink {link}"), "to-somewhere", "ENOENT"),
            (format!("read {file}-not"), "ENOENT", "ENOENT"),
            // By an error: what is there is closed, what is not is not there.
            (format!("read {file}"), "EACCES", "ENOENT"),
            ("cat /proc/sys/kernel/hostname".into(), String::leak(host), "proctor"),
            ("listen".into(), "EAFNOSUPPORT", "ok"),
            ("list /home".into(), "EACCES", "agent"),
            ("read /proc/net/unix".into(), "ok", "*"),
            ("read /proc/modules".into(), "ok|ENOENT|empty", "EACCES|ENOENT"),
            ("read /proc/key-users".into(), "ok|ENOENT|empty", "EACCES|ENOENT"),
        ];
        for dir in ["/tmp", "/var/tmp", "/dev/shm"] {
            rows.push((format!("create {dir}/{made}"), "EACCES", "ok"));
        }
        let real = String::leak(full.repo.path().display().to_string());
        rows.push(("pwd".into(), "~/areas/", real));
        lost(&proof, &full, &rows);
        let users = |proof: &Proof<'_>| {
            proof.shell("cut -d: -f1 /etc/passwd; wc -l < /proc/net/unix").text("backend.stdout.log")
        };
        let (here, there) = (users(&proof), users(&full));
        let count = |text: &str| text.lines().last().unwrap().trim().parse::<u32>().unwrap();
        assert!(here.lines().count() > 4 && there.lines().count() == 4, "{user:?}: {here} {there}");
        assert!(count(&here) > count(&there), "{user:?}: the host's table of sockets: {here} {there}");
    }
}

#[test]
fn reading_what_is_shown_changes_its_access_time() {
    for user in users() {
        for (confined, changed) in [(false, false), (true, true)] {
            let world = World::new(user);
            let path = world.write("shown/file", "x");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            let old = SystemTime::now() - Duration::from_secs(90_000);
            let times = std::fs::FileTimes::new().set_accessed(old).set_modified(old);
            std::fs::File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
            let proof = if confined { Proof::confined(&world) } else { Proof::new(&world) };
            let proof = proof.with(["--ro".to_owned(), world.path("shown").display().to_string()]);
            assert_eq!(proof.inside(&[format!("cat {}", path.display())]), ["x"]);
            let accessed = std::fs::metadata(&path).unwrap().accessed().unwrap();
            assert_eq!(accessed != old, changed, "{user:?} confined: {confined}");
        }
    }
}

#[test]
fn calls_that_level_full_has_room_for_are_refused() {
    for user in users() {
        let world = World::new(user);
        let (proof, full) = (Proof::confined(&world), Proof::new_beside(&world));
        let rows = [
            ("sysv shm", "ENOSYS", "ok"),
            ("sysv sem", "ENOSYS", "ok"),
            ("sysv msg", "ENOSYS", "ok"),
            ("watch src/value.txt", "EACCES", "ok"),
            ("meta attribute src/value.txt", "EOPNOTSUPP", "ok"),
            ("meta flags src/value.txt", "EPERM", "ok|ENOTTY|EOPNOTSUPP"),
            ("pair datagram", "ESOCKTNOSUPPORT", "ok"),
            ("other io-priority 0", "EPERM", "ok"),
        ];
        lost(&proof, &full, &rows.map(|(attack, here, there)| (attack.to_owned(), here, there)));
        for (proof, expected) in [(&proof, "\n"), (&full, "may\n")] {
            let outcome =
                proof.shell("sleep 5 & renice -n 5 $! >/dev/null 2>&1 && printf may; echo; kill $!");
            assert_eq!(outcome.text("backend.stdout.log"), expected, "{user:?}");
        }
    }
}

#[test]
fn a_disk_limit_is_to_be_had_at_level_full_alone() {
    for user in users() {
        let world = World::new(user);
        let full = Proof::new(&world).with(["--disk", "16M"]);
        assert_eq!(
            full.inside(&["fill a 9000000".into(), "fill b 9000000".into()]),
            ["ok", "ENOSPC"],
            "{user:?}"
        );
        let outcome = full.at_level_landlock().command(["true"]).run();
        assert_eq!(outcome.code, Some(3), "{user:?}: {outcome:#?}");
        assert!(outcome.stderr.contains("--disk was given"), "{user:?}: {outcome:#?}");
    }
}

#[test]
fn an_ordinary_users_program_has_that_users_own_id_and_bounding_set() {
    let world = World::new(User::Ordinary);
    let file = world.write("home/own", "x");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (proof, full) = (Proof::confined(&world), Proof::new_beside(&world));
    // The mode of the file would let it: Landlock is what refuses, and the only thing that does.
    let may = "test -w FILE && echo reachable; grep CapBnd /proc/self/status | tr -d '\\t'";
    let text = |proof: &Proof<'_>| {
        proof.shell(&may.replace("FILE", &file.display().to_string())).text("backend.stdout.log")
    };
    let (here, there) = (text(&proof), text(&full));
    assert!(here.starts_with("reachable\nCapBnd:") && !here.contains("CapBnd:0000000000000000"), "{here}");
    assert_eq!(there, "CapBnd:0000000000000000\n");
    assert_eq!(proof.inside(&[format!("write {}", file.display())]), ["EACCES"]);
}

#[test]
fn tasks_and_memory_are_limited_by_a_cgroup_alone() {
    for user in users() {
        let world = World::new(user);
        let (proof, full) = (Proof::confined(&world), Proof::new_beside(&world));
        let listed = missing(&proof.shell("true"));
        let has = |what: &str| listed.iter().any(|text| text.starts_with(what));
        let refused = |option: &str, value: &str| {
            let repo = TestRepo::new(&world, &format!("limit-{}", &option[2..]), &[("f", "x\n")]);
            let run = without_namespaces(&world, &[]).args([
                "run",
                "--min-level",
                "landlock",
                "--no-test",
                "--repo",
            ]);
            let outcome = run.arg(repo.path()).args([option, value, "--", "true"]).run();
            assert!(outcome.code != Some(3) || outcome.stderr.contains(option), "{user:?}: {outcome:#?}");
            outcome.code == Some(3)
        };
        // An operator's own number is enforced or refused; a default is listed where nothing enforces it.
        assert_eq!(refused("--pids-limit", "100"), has("task limit"), "{user:?}: {listed:#?}");
        assert_eq!(refused("--memory", "256M"), has("memory limit"), "{user:?}: {listed:#?}");
        let forks = ["forks 200".to_owned()];
        let there = full.with(["--pids-limit", "60"]).inside(&forks);
        assert!(there[0].starts_with("EAGAIN"), "{user:?}: {there:?}");
        let here = proof.inside(&forks);
        assert_eq!(here, ["200 and no end"], "{user:?}");
        if has("memory limit") {
            let eat = proof.inside(&["eat 600000000".into()]);
            assert_eq!(eat, ["ok"], "{user:?}: nothing holds a short-lived process");
        }
    }
}

#[test]
fn an_overlay_is_read_only_and_says_so() {
    for user in users() {
        let world = World::new(user);
        world.write("cache/file", "x");
        let dir = world.path("cache").canonicalize().unwrap().display().to_string();
        std::fs::set_permissions(world.path("cache"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = ["--overlay".to_owned(), dir.clone()];
        let full = Proof::new(&world).with(options);
        let attack = [format!("create {dir}/new")];
        assert_eq!(full.inside(&attack), ["ok"], "{user:?}");
        let proof = full.at_level_landlock();
        assert_eq!(proof.inside(&attack), ["EACCES"], "{user:?}");
        documents(&missing(&proof.shell("true")), "overlay DIR:", &dir);
    }
}

#[test]
fn as_root_a_mount_that_root_alone_may_read_stays_closed() {
    if users().len() < 2 {
        return;
    }
    let world = World::new(User::Root);
    world.write("closed/file", "x");
    std::fs::set_permissions(world.path("closed"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let dir = world.path("closed").display().to_string();
    let full = Proof::new(&world).with(["--ro".to_owned(), dir.clone()]);
    let attack = [format!("cat {dir}/file")];
    assert_eq!(full.inside(&attack), ["x"]);
    let proof = full.at_level_landlock();
    assert_eq!(proof.inside(&attack), ["EACCES"]);
    documents(&missing(&proof.shell("true")), "mount DIR:", &dir);
}

#[test]
fn a_directory_with_a_credential_in_it_cannot_be_listed() {
    for user in users() {
        let world = World::new(user);
        world.write("home/.config/gh/hosts.yml", "x");
        world.write("home/.config/tool", "shown");
        world.user.own(&world.path("home"));
        let dir = world.path("home/.config").display().to_string();
        let full = Proof::new(&world).with(["--ro".to_owned(), dir.clone()]);
        let attacks = [format!("list {dir}"), format!("cat {dir}/tool"), format!("list {dir}/gh")];
        assert_eq!(full.inside(&attacks), ["gh tool", "shown", "EACCES"], "{user:?}");
        let proof = full.at_level_landlock();
        assert_eq!(proof.inside(&attacks), ["EACCES", "shown", "EACCES"], "{user:?}");
        documents(&missing(&proof.shell("true")), "mount around DIR:", &format!("{dir}/gh"));
        // Where a single file is masked, names may be seen; what is made later is not shown.
        world.write("home/.docker/config.json", "x");
        world.write("home/.docker/shown", "shown");
        world.user.own(&world.path("home"));
        let dir = world.path("home/.docker").display().to_string();
        let full = Proof { options: vec!["--ro".into(), dir.clone()], ..proof };
        let attacks = ["list DIR", "cat DIR/shown", "read DIR/config.json"].map(|a| a.replace("DIR", &dir));
        let full = Proof { confined: false, ..full };
        assert_eq!(full.inside(&attacks), ["config.json shown", "shown", "EACCES"], "{user:?}");
        let late = |proof: &Proof<'_>| {
            let script = format!(
                "echo up; i=0; while [ $i -lt 100 ] && [ ! -e {dir}/late ]; do sleep 0.05; i=$((i+1)); done; cat {dir}/late"
            );
            let run = proof.command(["sh", "-c", &script]);
            let outcome = meanwhile(run, || drop(world.write("home/.docker/late", "late")));
            std::fs::remove_file(world.path("home/.docker/late")).unwrap();
            outcome.text("backend.stdout.log")
        };
        assert_eq!(late(&full), "up\nlate", "{user:?}");
        let proof = full.at_level_landlock();
        assert_eq!(proof.inside(&attacks), ["config.json shown", "shown", "EACCES"], "{user:?}");
        assert_eq!(late(&proof), "up\n", "{user:?}");
        documents(&missing(&proof.shell("true")), "mount around DIR:", &format!("{dir}/config.json"));
    }
}

#[test]
fn without_a_listener_changes_of_metadata_are_refused_and_listed() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        // Somebody else's filter has the one listener that there can be.
        let outcome = without_namespaces(&world, &["open:/not/there=EPERM"])
            .args(["run", "--min-level", "landlock", "--no-test", "--mutation", "discard", "--repo"])
            .arg(repo.path())
            .args(["--", "sh", "-c", "chmod 600 README || touch README || echo refused"])
            .run();
        assert_eq!(outcome.text("backend.stdout.log"), "refused\n", "{user:?}: {outcome:#?}");
        let listed = missing(&outcome);
        documents(&listed, "changes of mode, owner and times:", "-");
        documents(&listed, "trace of programs and refused calls:", "-");
        let proof = Proof::confined(&world);
        let outcome = proof.shell("chmod 600 README && touch README && echo may");
        assert_eq!(outcome.text("backend.stdout.log"), "may\n", "{user:?}");
        assert!(!missing(&outcome).iter().any(|text| text.starts_with("changes of mode")));
    }
}

#[test]
fn with_the_hosts_network_its_isolation_is_missing() {
    for user in users() {
        let world = World::new(user);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let attack = [format!("tcp {}", listener.local_addr().unwrap())];
        let proof = Proof::confined(&world);
        assert_eq!(proof.inside(&attack), ["EAFNOSUPPORT"], "{user:?}");
        let proof = proof.with(["--net", "host"]);
        assert_eq!(proof.inside(&attack), ["ok"], "{user:?}");
        documents(&missing(&proof.shell("true")), "network isolation:", "-");
    }
}

#[test]
fn supplementary_groups_of_an_ordinary_user_stay() {
    if users().len() < 2 {
        return;
    }
    let world = World::new(User::Ordinary);
    let repo = TestRepo::small(&world);
    let run = |groups: &str| {
        let mut wrapper =
            vec!["setpriv".to_owned(), "--reuid=1000".into(), "--regid=1000".into(), groups.into()];
        wrapper.extend([crate::proofs::probe().display().to_string(), "without".into()]);
        wrapper.extend(NO_NAMESPACES.map(str::to_owned));
        wrapper.push("--".into());
        let mut command = std::process::Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(crate::binary()).env("HOME", world.path("home"));
        command.env("XDG_STATE_HOME", world.path("state")).current_dir(world.path("."));
        command.args(["run", "--min-level", "landlock", "--no-test", "--mutation", "discard", "--repo"]);
        Outcome::of(command.arg(repo.path()).args(["--", "id", "-G"]).output().unwrap())
    };
    let outcome = run("--groups=54321");
    assert!(outcome.text("backend.stdout.log").contains("54321"), "{outcome:#?}");
    documents(&missing(&outcome), "supplementary groups:", "-");
    let outcome = run("--clear-groups");
    assert!(!missing(&outcome).iter().any(|text| text.starts_with("supplementary")), "{outcome:#?}");
}
