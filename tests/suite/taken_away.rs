//! Mechanisms taken away one by one from the real binary: what cannot be enforced is refused before anything of the
//! backend runs, and the refusal names the step and the mend. `doctor` says the same.
//!
//! A row is one host that lacks one thing. What a lower level makes of it belongs into [`Row`], as one more expectation.

use harness::{Outcome, Proctor, TestRepo, User, World, users};
use serde_json::{Value, json};

use crate::binary;
use crate::proofs::probe;
use crate::support::{blocker, fails, nothing_started, passes, snapshot, untouched};

/// How the host comes to lack it.
enum By {
    /// Rules of `probe without`.
    Filter(&'static [&'static str]),
    /// A shell script that ends by executing its arguments: one for root, one for the ordinary user.
    Script(Option<&'static str>, Option<&'static str>),
}

/// One host.
struct Row {
    by: By,
    /// What the step is called for root and for the ordinary user.
    step: [&'static str; 2],
    /// What the remedy says.
    mend: &'static str,
    /// What `--min-level landlock` makes of it, likewise.
    lower: [Lower; 2],
}

/// What a lower level makes of a host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lower {
    /// It passes at level `landlock`.
    Landlock,
    /// The same, with nobody who hears of refused calls: another filter has the listener.
    LandlockUnheard,
    /// It is refused all the same.
    Refused,
}

fn row(rules: &'static [&'static str], step: &'static str, mend: &'static str) -> Row {
    // These are answered by a listener, of which there can be one.
    let answered = ["landlock-abi=", "clone3-namespaces=", "fs:", "open:", "text:"];
    let heard = !rules.iter().any(|rule| answered.iter().any(|start| rule.starts_with(start)));
    let lower = if heard { Lower::Landlock } else { Lower::LandlockUnheard };
    Row { by: By::Filter(rules), step: [step, step], mend, lower: [lower, lower] }
}

impl Row {
    /// Level `landlock` needs it too.
    fn at_no_level(mut self) -> Self {
        self.lower = [Lower::Refused; 2];
        self
    }

    /// As root the first thing that needs it is the work tree's idmapped mount.
    fn first_as_root(mut self, step: &'static str) -> Self {
        self.step[0] = step;
        self
    }

    fn wrapper(&self, user: User) -> Option<Vec<String>> {
        match self.by {
            By::Filter(rules) => {
                let mut wrapper = vec![probe().to_string_lossy().into_owned(), "without".into()];
                wrapper.extend(rules.iter().map(|r| (*r).to_owned()));
                wrapper.push("--".into());
                Some(wrapper)
            }
            By::Script(root, ordinary) => {
                let script = if user == User::Root { root } else { ordinary }?;
                let id = user.uid().to_string();
                Some(vec!["sh".into(), "-ec".into(), script.replace("UID", &id), "sh".into()])
            }
        }
    }
}

const NAMESPACES: &str = "refuses new namespaces";
const CLONE: &str = "creating the namespaces (clone3)";
const IDMAP_NAMESPACE: &str = "making the user namespace of an idmapped mount";

fn through(wrapper: &[String], world: &World) -> Proctor {
    let words: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    Proctor::through(&words, binary(), world)
}

/// A backend that leaves marks wherever it could.
fn run(wrapper: &[String], repo: &TestRepo<'_>) -> Outcome {
    run_with(wrapper, repo, &[])
}

fn run_with(wrapper: &[String], repo: &TestRepo<'_>, options: &[&str]) -> Outcome {
    let mark = repo.world().path("mark");
    let script = format!("touch {}; echo mended > src/value.txt; echo said", mark.display());
    through(wrapper, repo.world())
        .args(["run", "--no-test", "--repo"])
        .arg(repo.path())
        .args(options)
        .args(["--", "sh", "-c", &script])
        .run()
}

const LOWER: &[&str] = &["--min-level", "landlock"];

/// What the operator's word for the lower level makes of the same host.
fn lower(row: &Row, user: User) {
    let Some(wrapper) = row.wrapper(user) else { return };
    let world = World::new(user);
    let repo = TestRepo::small(&world);
    let before = snapshot(&repo);
    let outcome = run_with(&wrapper, &repo, LOWER);
    let what = format!("{user:?} {wrapper:?}");
    let who = usize::from(user != User::Root);
    let (step, lower) = (row.step[who], row.lower[who]);
    if lower == Lower::Refused {
        assert_eq!(outcome.code, Some(3), "{what}: {outcome:#?}");
        fails(&outcome, &repo, 3, &["sandbox_unavailable"], &["run.started"]);
        nothing_started(&outcome);
        untouched(&before, &repo);
        let why = blocker(&outcome, "sandbox_unavailable")["detail"]["why"].to_string();
        assert!(why.contains("level full: ") && why.contains("level landlock: "), "{what}: {why}");
        return;
    }
    assert_eq!(outcome.code, Some(0), "{what}: {outcome:#?}");
    untouched(&before, &repo);
    assert_eq!(outcome.text("backend.stdout.log"), "said\n", "{what}");
    assert!(!world.path("mark").exists(), "{what}: the backend wrote outside");
    let sandbox = outcome.report()["sandbox"].clone();
    assert_eq!(sandbox["level"], "landlock", "{what}: {sandbox:#}");
    let why = sandbox["why_not_full"].as_str().unwrap_or_default();
    assert!(why.contains(step), "{what}: {step:?} is not in {why:?}");
    assert!(outcome.stderr.contains("sandbox level landlock"), "{what}: {}", outcome.stderr);
    let missing = sandbox["missing"].to_string();
    let unheard = lower == Lower::LandlockUnheard;
    for text in ["changes of mode, owner and times: refused", "trace of programs and refused calls:"] {
        assert_eq!(missing.contains(text), unheard, "{what}: {text}: {missing}");
    }
}

fn refused(row: &Row, user: User) {
    let Some(wrapper) = row.wrapper(user) else { return };
    let world = World::new(user);
    let repo = TestRepo::small(&world);
    let before = snapshot(&repo);
    let outcome = run(&wrapper, &repo);
    let what = format!("{user:?} {wrapper:?}");
    assert_eq!(outcome.code, Some(3), "{what}: {outcome:#?}");
    fails(&outcome, &repo, 3, &["sandbox_unavailable"], &["run.started"]);
    nothing_started(&outcome);
    untouched(&before, &repo);
    assert!(!world.path("mark").exists(), "{what}: the backend ran");
    let blocker = blocker(&outcome, "sandbox_unavailable");
    let why = blocker["detail"]["why"].as_str().unwrap_or_default();
    let step = row.step[usize::from(user != User::Root)];
    assert!(why.contains(step), "{what}: {step:?} is not in {why:?}");
    let remedy = blocker["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains(row.mend), "{what}: {:?} is not in {remedy:?}", row.mend);
    assert!(outcome.stderr.contains(row.mend), "{what}: {}", outcome.stderr);

    let doctor = through(&wrapper, &world).args(["--json", "doctor"]).run();
    assert_eq!(doctor.code, Some(3), "{what}: {doctor:#?}");
    let said: Value =
        serde_json::from_str(&doctor.stdout).unwrap_or_else(|e| panic!("{what}: {e}: {doctor:#?}"));
    // Which level a run may have with the operator's word for it.
    let lower = row.lower[usize::from(user != User::Root)];
    let reached = lower != Lower::Refused;
    assert_eq!(said["level"], if reached { json!("landlock") } else { Value::Null }, "{what}: {said:#}");
    let landlock = (&said["levels"][1]["name"], &said["levels"][1]["reached"]);
    assert_eq!(landlock, (&json!("landlock"), &json!(reached)), "{what}: {said:#}");
    assert_eq!(
        (&said["levels"][0]["name"], &said["levels"][0]["reached"]),
        (&"full".into(), &false.into()),
        "{said:#}"
    );
    // What needs no try of its own shows in the whole chain alone.
    let alone = !why.contains("closing foreign descriptors") && !why.contains("no range of host uids");
    let lacks = said["levels"][0]["lacks"].as_array().cloned().unwrap_or_default();
    assert_eq!(lacks.is_empty(), !alone, "{what}: {said:#}");
    assert!(said["levels"][0]["failed"].as_str().is_some_and(|f| f.contains(step)), "{what}: {said:#}");
    assert!(said.to_string().contains(row.mend), "{what}: {:?} is not in {said:#}", row.mend);
}

fn all_refused(rows: &[Row]) {
    for user in users() {
        for row in rows {
            refused(row, user);
            lower(row, user);
        }
    }
}

#[test]
fn with_nothing_taken_away_the_same_command_passes() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        // A filter that answers something else, with and without a listener, and the scripts' way of starting.
        for rules in [["swapoff=EPERM"].as_slice(), &["open:/not/there=EPERM"]] {
            let wrapper = row(&[], "", "").wrapper(user).unwrap();
            let (last, first) = wrapper.split_last().unwrap();
            let mut wrapper = first.to_vec();
            wrapper.extend(rules.iter().map(|r| (*r).to_owned()));
            wrapper.push(last.clone());
            passes(&run(&wrapper, &repo), &repo);
        }
        passes(&run(&["sh", "-ec", "exec \"$@\"", "sh"].map(str::to_owned), &repo), &repo);
        // The operator's word allows the lower level; it does not choose it.
        let outcome = run_with(&["env".to_owned()], &repo, LOWER);
        passes(&outcome, &repo);
        let sandbox = outcome.report()["sandbox"].clone();
        assert_eq!(
            (&sandbox["level"], &sandbox["why_not_full"]),
            (&json!("full"), &Value::Null),
            "{sandbox:#}"
        );
        let doctor = through(&["env".to_owned()], &world).args(["--json", "doctor"]).run();
        assert_eq!(doctor.code, Some(0), "{doctor:#?}");
        let said: Value = serde_json::from_str(&doctor.stdout).unwrap();
        assert_eq!(said["level"], "full", "{said:#}");
        let full = &said["levels"][0];
        assert_eq!(
            (&full["name"], &full["reached"], &full["lacks"]),
            (&json!("full"), &json!(true), &json!([]))
        );
        let checks = said["checks"].as_array().unwrap();
        for name in ["user namespace", "overlay", "fresh /proc", "Landlock", "seccomp", "private root"] {
            let check =
                checks.iter().find(|c| c["what"] == name).unwrap_or_else(|| panic!("{name}: {said:#}"));
            assert_eq!(check["state"], "ok", "{check}");
            assert!(check["tried"].as_str().is_some_and(|t| t.len() > 10), "{check}");
        }
    }
}

#[test]
fn no_new_namespaces() {
    all_refused(&[
        // Docker's default filter: clone3 is not there, the others are refused.
        row(&["clone3=ENOSYS", "clone:0&0x7e020000=EPERM", "unshare=EPERM"], CLONE, NAMESPACES)
            .first_as_root(IDMAP_NAMESPACE),
        row(&["clone3=ENOSYS", "clone:0&0x7e020000=EPERM", "open:/not/there=EPERM"], CLONE, NAMESPACES)
            .first_as_root(IDMAP_NAMESPACE),
        row(&["clone3-namespaces=EPERM"], CLONE, NAMESPACES).first_as_root(IDMAP_NAMESPACE),
        row(&["clone3-namespaces=EINVAL"], CLONE, NAMESPACES).first_as_root(IDMAP_NAMESPACE),
        // A chroot, in which the kernel makes no user namespace.
        Row {
            by: By::Script(
                Some(
                    "exec unshare -m sh -ec 'mkdir -p chroot; for at in /*; do \
                     if [ -L $at ]; then cp -P $at chroot; \
                     elif [ -d $at ]; then mkdir -p chroot$at; mount --rbind $at chroot$at; fi; done; \
                     exec chroot chroot \"$@\"' sh \"$@\"",
                ),
                None,
            ),
            step: [IDMAP_NAMESPACE, ""],
            mend: "in a chroot the kernel makes no user namespace",
            lower: [Lower::Landlock; 2],
        },
        // The sysctl, in a namespace of the test's own.
        Row {
            by: By::Script(
                Some(
                    // With every uid mapped, which the caller writes.
                    "rm -f go; mkfifo go; \
                     unshare -Um sh -ec 'read go < go; exec sh -ec \"echo 0 > /proc/sys/user/max_user_namespaces; \
                     exec \\\"\\$@\\\"\" sh \"$@\"' sh \"$@\" & \
                     until [ \"$(readlink /proc/$!/ns/user)\" != \"$(readlink /proc/self/ns/user)\" ]; do sleep 0.02; done; \
                     for map in uid_map gid_map; do echo '0 0 4294967295' > /proc/$!/$map; done; \
                     echo > go; wait $!",
                ),
                Some(
                    "exec unshare -U --map-user=UID --map-group=UID --keep-caps sh -ec \
                     'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --ambient-caps=-all --inh-caps=-all \"$@\"' sh \"$@\"",
                ),
            ),
            step: [IDMAP_NAMESPACE, CLONE],
            mend: "sysctl -w user.max_user_namespaces=15000",
            lower: [Lower::Landlock; 2],
        },
        // Another kind of namespace.
        Row {
            by: By::Script(
                None,
                Some(
                    "exec unshare -Ur sh -ec 'echo 0 > /proc/sys/user/max_net_namespaces; \
                     exec unshare -U --map-user=UID --map-group=UID \"$@\"' sh \"$@\"",
                ),
            ),
            step: ["", CLONE],
            mend: "raise the one that is too low",
            lower: [Lower::Landlock; 2],
        },
    ]);
}

#[test]
fn no_id_maps_as_below_ubuntus_apparmor() {
    const SYSCTL: &str = "text:/proc/sys/kernel/apparmor_restrict_unprivileged_userns=1";
    let ubuntu = "AppArmor restricts user namespaces here";
    all_refused(&[
        row(&["open:/uid_map=EPERM", SYSCTL], "writing the uid map", ubuntu),
        row(&["open:/gid_map=EPERM", SYSCTL], "writing the gid map", ubuntu),
        row(
            &["open:/setgroups=EPERM", "open:/gid_map=EPERM"],
            "writing the gid map",
            "AppArmor's `userns` rule",
        ),
        // Root of a user namespace that maps no other uid.
        Row {
            by: By::Script(Some("exec unshare -Urm \"$@\""), None),
            step: ["no range of host uids is free", ""],
            mend: "run Proctor as an ordinary user",
            // No other uid is to be had.
            lower: [Lower::Refused; 2],
        },
        // As in a container that was started with --cap-drop.
        Row {
            by: By::Script(Some("exec setpriv --bounding-set=-setuid --inh-caps=-all \"$@\""), None),
            step: ["writing the uid map", ""],
            mend: "--cap-add SETUID --cap-add SETGID",
            // No other uid is to be had.
            lower: [Lower::Refused; 2],
        },
        Row {
            by: By::Script(Some("exec setpriv --bounding-set=-sys_admin --inh-caps=-all \"$@\""), None),
            step: ["opening a tree for an idmapped mount", ""],
            mend: "root lacks CAP_SYS_ADMIN",
            lower: [Lower::Landlock; 2],
        },
    ]);
}

#[test]
fn the_distributions_switches_for_user_namespaces_are_off() {
    let debian: &[&str] = &["clone3-namespaces=EPERM", "text:/proc/sys/kernel/unprivileged_userns_clone=0"];
    // Ubuntu lets the namespace be made and its maps be written, and denies every capability in it.
    let ubuntu: &[&str] =
        &["mount_setattr=EPERM", "text:/proc/sys/kernel/apparmor_restrict_unprivileged_userns=1"];
    for user in users().into_iter().filter(|u| *u == User::Ordinary) {
        refused(&row(debian, CLONE, "sysctl -w kernel.unprivileged_userns_clone=1"), user);
        refused(
            &row(ubuntu, "making the mounts private", "apparmor_parser -r /etc/apparmor.d/proctor"),
            user,
        );
    }
}

#[test]
fn no_landlock() {
    let step = "creating the Landlock ruleset";
    all_refused(&[
        row(&["landlock_create_ruleset=ENOSYS"], step, "refuses the landlock calls").at_no_level(),
        row(&["landlock_create_ruleset=EOPNOTSUPP"], step, "lsm=landlock").at_no_level(),
        row(&["landlock-abi=1"], step, "level full needs ABI 2").at_no_level(),
        row(&["landlock_add_rule=EPERM"], "adding a Landlock rule", "refuses the landlock calls")
            .at_no_level(),
        row(&["landlock_restrict_self=EPERM"], "enforcing Landlock", "refuses the landlock calls")
            .at_no_level(),
        // Enough for level full, which is not to be had; not for the other.
        row(&["landlock-abi=5", "clone3=ENOSYS", "clone:0&0x7e020000=EPERM"], CLONE, NAMESPACES)
            .first_as_root(IDMAP_NAMESPACE)
            .at_no_level(),
    ]);
}

#[test]
fn an_older_landlock_is_reported_as_what_it_is() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let wrapper = row(&["landlock-abi=5"], "", "").wrapper(user).unwrap();
        let outcome = run(&wrapper, &repo);
        passes(&outcome, &repo);
        let report = outcome.report();
        let mechanisms = report["sandbox"]["mechanisms"].as_array().cloned().unwrap_or_default();
        let landlock = mechanisms.iter().find(|m| m["name"] == "landlock").unwrap();
        assert_eq!(landlock["version"], "ABI 5", "{report:#}");
        assert!(!mechanisms.iter().any(|m| m["name"] == "landlock_scope"), "{report:#}");
        let missing = report["sandbox"]["missing"].to_string();
        assert!(missing.contains("older than ABI 6"), "{missing}");
        let doctor = through(&wrapper, &world).arg("doctor").run();
        assert_eq!(doctor.code, Some(0), "{doctor:#?}");
        assert!(doctor.stderr.contains("ABI 5"), "{}", doctor.stderr);
    }
}

#[test]
fn no_mounts() {
    let store = "making the private tmpfs";
    let (open, set) = ("opening a tree for an idmapped mount", "idmapping a mount");
    let mounts = "refuses the mount calls";
    all_refused(&[
        row(&["fsopen=EPERM"], store, mounts),
        row(&["fsopen=ENOSYS"], store, mounts),
        row(&["fsconfig=EPERM"], store, mounts),
        row(&["fsmount=ENOSYS"], store, mounts),
        row(&["move_mount=EPERM"], "attaching the private tmpfs", mounts),
        row(&["move_mount=ENOSYS"], "attaching the private tmpfs", mounts),
        row(&["open_tree=EPERM"], "making the private root a mount", mounts).first_as_root(open),
        row(&["open_tree=ENOSYS"], "making the private root a mount", mounts).first_as_root(open),
        row(&["mount_setattr=EPERM"], "making the mounts private", mounts).first_as_root(set),
        row(&["mount_setattr=ENOSYS"], "making the mounts private", mounts).first_as_root(set),
        row(&["pivot_root=EPERM"], "changing into the private root", mounts),
        row(&["pivot_root=ENOSYS"], "changing into the private root", mounts),
        row(&["umount2=EPERM"], "detaching the overlay's layers", mounts),
    ]);
}

#[test]
fn no_overlay() {
    let step = "mounting the overlay";
    all_refused(&[
        row(&["fs:overlay=ENODEV"], step, "modprobe overlay"),
        row(&["fs:overlay=EPERM"], step, "refuses the mount calls"),
        row(&["fs:overlay=EINVAL"], step, "put the work tree on a volume"),
    ]);
}

#[test]
fn a_covered_proc() {
    let cover = "mount --bind /dev/null /proc/uptime; mount -t tmpfs none /proc/irq";
    let root = format!("exec unshare -m sh -ec '{cover}; exec \"$@\"' sh \"$@\"");
    let ordinary = format!(
        "exec unshare -Urm sh -ec '{cover}; exec unshare -U --map-user=UID --map-group=UID \"$@\"' sh \"$@\""
    );
    all_refused(&[Row {
        by: By::Script(Some(root.leak()), Some(ordinary.leak())),
        step: ["mounting a fresh /proc", "mounting a fresh /proc"],
        mend: "parts of this one are covered (/proc/uptime, /proc/irq)",
        lower: [Lower::Landlock; 2],
    }]);
}

#[test]
fn no_seccomp_filter() {
    // A kernel without CONFIG_SECCOMP_FILTER says EINVAL, one without seccomp ENOSYS.
    let rows = ["seccomp:0==1=EINVAL", "seccomp:0==1=ENOSYS", "seccomp:0==1=EPERM"].map(|rule| {
        row(vec![rule].leak(), "installing the seccomp filter", "refuses the call seccomp").at_no_level()
    });
    all_refused(&rows);
}

#[test]
fn no_process_descriptors() {
    let step = "naming a process by a descriptor";
    all_refused(&[
        row(&["pidfd_open=ENOSYS"], step, "pidfd_open and pidfd_send_signal").at_no_level(),
        row(&["pidfd_open=EPERM"], step, "pidfd_open and pidfd_send_signal").at_no_level(),
        row(&["pidfd_send_signal=ENOSYS"], step, "pidfd_open and pidfd_send_signal").at_no_level(),
        row(&["close_range=ENOSYS"], "closing foreign descriptors", "refuses this call").at_no_level(),
    ]);
}

#[test]
fn no_loopback() {
    let step = "bringing the loopback interface up";
    all_refused(&[
        row(&["ioctl:1==0x8914=EPERM"], step, "RestrictAddressFamilies="),
        row(&["socket:0==2=EAFNOSUPPORT"], step, "RestrictAddressFamilies="),
    ]);
}
