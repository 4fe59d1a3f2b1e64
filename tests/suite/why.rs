//! `proctor why`: what it says is what a run with the same options does.

use harness::{TestRepo, World, users};
use serde_json::Value;

use crate::proctor;
use crate::support::{each, run, sh};

/// What is said, as JSON.
fn why(repo: &TestRepo<'_>, what: &str, options: &[&str]) -> Value {
    let outcome = proctor(repo.world()).dir(repo.path()).args(["--json", "why", what]).args(options).run();
    assert_eq!(outcome.code, Some(0), "{what}: {outcome:#?}");
    let said: Value = serde_json::from_str(&outcome.stdout).unwrap();
    said["answer"].clone()
}

/// What is said, for people.
fn text(repo: &TestRepo<'_>, what: &str, options: &[&str]) -> String {
    let outcome = proctor(repo.world()).dir(repo.path()).args(["why", what]).args(options).run();
    assert_eq!(outcome.code, Some(0), "{what}: {outcome:#?}");
    outcome.stdout
}

#[test]
fn what_is_said_of_reading_and_writing_is_what_a_run_meets() {
    each(|repo| {
        let world = repo.world();
        let place = |name: &str| world.path(name).to_string_lossy().into_owned();
        for name in ["shown/file", "shown/deep/er", "kept/file", "cache/file", "home/secret", "closed/file"] {
            world.write(name, "content\n");
        }
        // Nobody but another may read it: root's backend is not root, and this user is not root.
        let closed = world.path("shown/closed");
        std::fs::write(&closed, "closed\n").unwrap();
        std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        repo.write(".env", "SECRET=1\n");
        std::os::unix::fs::symlink("src/value.txt", repo.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", repo.path().join("out")).unwrap();
        repo.git(&["add", "link", "out"]);
        repo.commit("links");
        let (shown, kept, cache) = (place("shown"), place("kept"), place("cache"));
        let options = ["--no-test", "--ro", &shown, "--rw", &kept, "--overlay", &cache];
        let tree = |name: &str| repo.path().join(name).to_string_lossy().into_owned();
        let paths = [
            tree("src/value.txt"),
            tree("new/file"),
            tree("new"),
            tree("src/new"),
            tree("link"),
            tree("out"),
            tree(".env"),
            tree(".git/HEAD"),
            tree("target/x"),
            place("shown/file"),
            place("shown/deep/er"),
            place("shown/closed"),
            place("shown/missing"),
            place("kept/file"),
            place("kept/new"),
            place("cache/file"),
            place("cache/new"),
            place("home/secret"),
            place("closed/file"),
            "/etc/passwd".into(),
            "/etc/shadow".into(),
            "/etc/hostname".into(),
            "/usr/bin/env".into(),
            "/bin/sh".into(),
            "/root/.bashrc".into(),
            "/run/docker.sock".into(),
            "/proc/kmsg".into(),
            "/proc/kallsyms".into(),
            "/proc/sys/kernel/core_pattern".into(),
            "/dev/null".into(),
            "/dev/new".into(),
            "/tmp/new".into(),
            "/var/tmp/new".into(),
            "/home/agent/new".into(),
            "/new".into(),
            "/opt/new".into(),
            "/sys/power/state".into(),
        ];
        let mut script = String::new();
        for path in &paths {
            // head, for what has no end; true, for what is empty.
            script += &format!(
                "if test -e '{path}' && head -c1 '{path}' >/dev/null 2>&1; then r=yes; else r=no; fi; \
                 if (: >>'{path}') 2>/dev/null; then w=yes; else w=no; fi; echo $r $w\n"
            );
        }
        // First, for what is written through to the host is there afterwards.
        let answers: Vec<Value> = paths.iter().map(|path| why(repo, path, &options)).collect();
        let outcome = sh(repo, &options, &script).run();
        let got = outcome.text("backend.stdout.log");
        assert_eq!(got.lines().count(), paths.len(), "{outcome:#?}");
        let mut wrong = Vec::new();
        for ((path, answer), got) in paths.iter().zip(&answers).zip(got.lines()) {
            let word = |what: &str, there: bool| match answer[what]["allowed"].as_bool() {
                Some(true) if there => "yes",
                Some(_) => "no",
                None => "depends",
            };
            // Nothing is to be read of what is not there yet, and in a missing directory nothing is made.
            let there = answer["exists"] != false;
            let missing_directory =
                ["new/file", "target/x", "home/secret", "closed/file"].iter().any(|end| path.ends_with(end));
            let write = if missing_directory { "no" } else { word("write", true) };
            let said = format!("{} {write}", word("read", there));
            if said != got {
                wrong.push(format!("{path}: said {said}, met {got}: {answer}"));
            }
        }
        assert!(wrong.is_empty(), "{:?}:\n{}", world.user, wrong.join("\n"));
    });
}

#[test]
fn what_is_said_of_a_change_is_what_comes_of_it() {
    each(|repo| {
        let options = [
            "--no-test",
            "--allow-change",
            "src/**",
            "--allow-change",
            "AGENTS.md",
            "--deny-change",
            "src/*.lock",
            "--ask-change",
            "src/asked/**",
        ];
        for (path, verdict, rule, blockers) in [
            ("src/value.txt", "allowed", "allow", &[][..]),
            ("src/new", "allowed", "allow", &[]),
            ("README", "disallowed", "allow", &["disallowed_file"]),
            ("AGENTS.md", "disallowed", "protect", &["disallowed_file"]),
            ("src/agents.md", "disallowed", "protect", &["disallowed_file"]),
            ("src/a.lock", "disallowed", "deny", &["disallowed_file"]),
            ("src/asked/a", "needs_approval", "ask", &["approval_denied"]),
            ("target/x", "ignored", "ignored", &["no_diff"]),
            (".git/description", "not_carried", "dot_git", &["no_diff"]),
            ("src/.git", "disallowed", "dot_git", &["disallowed_file", "no_diff"]),
        ] {
            let change = why(repo, &format!("./{path}"), &options)["change"].clone();
            assert_eq!(change["verdict"], verdict, "{path}: {change}");
            assert_eq!(change["reasons"][0]["rule"], rule, "{path}: {change}");
            let script = format!("mkdir -p $(dirname {path}); echo changed > {path}");
            let outcome = sh(repo, &options, &script).run();
            let mut got = outcome.blockers();
            got.sort();
            assert_eq!(got, blockers, "{path}: {outcome:#?}");
        }
        // Who said so.
        let change = why(repo, "src/a.lock", &options)["change"].clone();
        assert_eq!(change["reasons"][0]["said_by"], "command line", "{change}");
        let change = why(repo, "./AGENTS.md", &options)["change"].clone();
        assert_eq!(change["reasons"][0]["said_by"], "default", "{change}");
        assert_eq!(why(repo, "src", &options)["change"]["verdict"], "by_file");
        let change = why(repo, "src/value.txt", &["--mutation", "none"]);
        assert_eq!(
            (&change["change"]["verdict"], &change["write"]["allowed"]),
            (&"impossible".into(), &false.into())
        );
        assert_eq!(why(repo, "./Makefile", &[])["change"]["steers_tests"], true);
    });
}

#[test]
fn it_says_where_writes_go_which_layer_said_so_and_what_links_lead_to() {
    each(|repo| {
        let world = repo.world();
        world.write("kept/file", "x");
        world.write("cache/file", "x");
        world.write("home/.netrc", "machine x password y");
        let config = world.write("own.toml", "[sandbox]\noverlay = [\"CACHE\"]\n");
        let cache = world.path("cache").display().to_string();
        std::fs::write(&config, format!("[sandbox]\noverlay = [\"{cache}\"]\n")).unwrap();
        let (config, kept) = (config.display().to_string(), world.path("kept").display().to_string());
        let options = ["--config", &config, "--rw", &kept];
        for (path, place, goes, said_by) in [
            (format!("{kept}/new"), "bind", "host", "command line".to_owned()),
            (format!("{cache}/new"), "overlay", "private", format!("config {config}")),
            ("/tmp/x".into(), "private", "private", String::new()),
            ("src/value.txt".into(), "work_tree", "overlay", String::new()),
        ] {
            let answer = why(repo, &path, &options);
            assert_eq!((&answer["place"], &answer["goes_to"]), (&place.into(), &goes.into()), "{answer}");
            assert_eq!(answer["said_by"].as_str().unwrap_or_default(), said_by, "{answer}");
        }
        let said = text(repo, &format!("{kept}/new"), &options);
        assert!(said.contains("WRITABLE (said by: command line)"), "{said}");
        assert!(said.contains("THROUGH TO THE HOST, for good [host]"), "{said}");
        repo.write(".env", "SECRET=1\n");
        std::os::unix::fs::symlink(".env", repo.path().join("harmless")).unwrap();
        let said = text(repo, "harmless", &[]);
        assert!(
            said.contains("link     ") && said.contains("-> .env") && said.contains("hidden by --hide .env*"),
            "{said}"
        );
        assert!(said.contains("read       no: a mask of mode 000 covers it"), "{said}");
        let said = text(repo, "/etc/shadow", &[]);
        assert!(
            said.contains("nothing is mounted there") && said.contains("--ro /etc/shadow would show"),
            "{said}"
        );
        let home = world.path("home").display().to_string();
        let said = text(repo, &format!("{home}/.netrc"), &["--ro", &home]);
        assert!(said.contains("is masked: a known credential file or a socket below a mount"), "{said}");
        std::os::unix::fs::symlink("loop", repo.path().join("loop")).unwrap();
        let outcome = proctor(world).dir(repo.path()).args(["why", "./loop"]).run();
        assert_eq!(outcome.code, Some(2));
        assert!(outcome.stderr.contains("leads in circles"), "{outcome:#?}");
    });
}

#[test]
fn hosts() {
    each(|repo| {
        let answer = why(repo, "crates.io:443", &[]);
        assert_eq!((&answer["connect"]["allowed"], &answer["network"]), (&false.into(), &"none".into()));
        assert_eq!((&answer["host"], &answer["port"]), (&"crates.io".into(), &443.into()));
        assert_eq!(answer["said_by"], "default");
        let said = text(repo, "https://crates.io/index", &[]);
        assert!(
            said.contains("host       crates.io:443") && said.contains("connect    no: --net none"),
            "{said}"
        );
        let said = text(repo, "localhost", &[]);
        assert!(said.contains("yes: --net none: the sandbox's own loopback"), "{said}");
        let answer = why(repo, "crates.io", &["--net", "host"]);
        assert_eq!(
            (&answer["connect"]["allowed"], &answer["said_by"]),
            (&true.into(), &"command line".into())
        );
        assert!(answer["connect"]["why"].as_str().unwrap().contains("a weakness"));
    });
}

#[test]
fn nothing_is_started_or_written_and_mistakes_are_named() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        text(&repo, "src/value.txt", &[]);
        let left: Vec<_> = std::fs::read_dir(world.path("state")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        for (args, words) in [
            (&["why", "crates.io:0"][..], "`0` is no port"),
            (&["why", "src", "--net", "nowhere"], "nowhere"),
            (&["why"], "PATH|HOST"),
        ] {
            let outcome = proctor(&world).dir(repo.path()).args(args).run();
            assert_eq!(outcome.code, Some(2), "{outcome:#?}");
            assert!(outcome.stderr.contains(words), "{outcome:#?}");
        }
        let outcome = proctor(&world).args(["why", "src"]).run();
        assert!(outcome.code == Some(2) && outcome.stderr.contains("git"), "{outcome:#?}");
        let help = proctor(&world).args(["why", "--help"]).run().stdout;
        assert!(help.contains("Examples:") && help.contains("proctor why"), "{help}");
        // The names of files are nobody's orders to a terminal.
        let said = text(&repo, "./a\u{1b}[2Jb", &[]);
        assert!(said.contains("a\\x1b[2Jb") && !said.contains('\u{1b}'), "{said}");
        assert!(run(&repo, &["--help"]).run().code == Some(0));
    }
}

#[test]
fn where_a_lower_level_is_accepted_the_answers_say_that_they_are_about_level_full() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let ask = |options: &[&str]| {
            proctor(&world).args(["why", "/usr", "--repo"]).arg(repo.path()).args(options).run()
        };
        assert!(ask(&["--min-level", "landlock"]).stderr.contains("this is about level full"), "{user:?}");
        assert!(!ask(&[]).stderr.contains("level"), "{user:?}");
    }
}
