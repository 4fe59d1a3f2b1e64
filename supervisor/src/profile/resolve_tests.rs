//! Resolution as a whole, from command line words to options.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use super::host::{HostEnv, HostFacts};
use super::*;
use crate::cli::run_args::RunArgs;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: RunArgs,
}

/// A work tree, a home and a machine's configuration directory of the test's own.
struct World {
    dir: tempfile::TempDir,
    env: HostEnv,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["tree/.git", "home/.config/proctor/profiles", "home/.config/proctor/sandbox", "etc"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        let home = dir.path().join("home");
        let vars = [("HOME".into(), home.into_os_string()), ("TOKEN".into(), "s3cret".into())].into();
        let env = HostEnv { vars, system_dir: dir.path().join("etc") };
        Self { dir, env }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn resolve(&self, words: &[&str]) -> Result<Resolved, ProfileError> {
        let tree = self.path("tree");
        let mut all = vec!["run"];
        if !words.contains(&"--repo") {
            all.extend(["--repo", tree.to_str().unwrap()]);
        }
        all.extend(words);
        let request = Cli::try_parse_from(all).unwrap().args.into_request()?;
        resolve(&request, &Context::new(&self.env, &HostFacts { memory: 8 << 30 }))
    }

    fn good(&self, words: &[&str]) -> RunOptions {
        self.resolve(words)
            .map(|resolved| resolved.options)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The error's text, with this world's directory written as `WORLD`.
    fn bad(&self, words: &[&str]) -> String {
        let error = match self.resolve(words) {
            Ok(_) => panic!("{words:?} was accepted"),
            Err(error) => error.to_string(),
        };
        error.replace(self.dir.path().to_str().unwrap(), "WORLD")
    }
}

fn origin<'a>(options: &'a RunOptions, key: &str) -> &'a str {
    &options.origins.iter().find(|origin| origin.key == key).unwrap().layer
}

#[test]
fn defaults_are_those_of_the_contract() {
    let options = World::new().good(&["--", "true"]);
    assert_eq!(options.engine, "command");
    assert_eq!(options.profile.name, "default");
    assert_eq!(options.mutation, MutationMode::Patch);
    assert_eq!(options.changes.allow, ["**"]);
    assert_eq!(options.changes.protect, *protect::BUILT_IN_PROTECT);
    assert!(options.changes.deny.is_empty() && options.changes.ask.is_empty());
    assert_eq!(options.hide, [".env*"]);
    assert_eq!(options.test, TestChoice::Missing);
    assert_eq!(options.review, None);
    let minutes = |n: u64| Duration::from_secs(n * 60);
    let times = Timeouts {
        wall: minutes(30),
        idle: minutes(10),
        grace: Duration::from_secs(5),
        test: minutes(10),
        review: minutes(10),
        approval: minutes(10),
    };
    assert_eq!(options.timeouts, times);
    assert_eq!(options.limits.memory, Limit { value: 4 << 30, explicit: false });
    assert_eq!(options.limits.pids, Limit { value: 4096, explicit: false });
    assert_eq!(options.limits.cpus, None);
    assert_eq!(options.limits.disk, Limit { value: 8 << 30, explicit: false });
    assert_eq!(
        (options.limits.max_log, options.limits.max_files, options.limits.max_patch),
        (64 << 20, 20000, 32 << 20)
    );
    assert_eq!(options.net, Network::None);
    assert_eq!(options.views, ["base"]);
    assert_eq!(options.approvals, Approvals::Deny);
    assert_eq!(options.min_level, Level::Full);
    assert_eq!(options.layer, LayerPlace::Auto);
    assert_eq!((options.stage, options.nonce, options.evidence), (None, None, None));
}

#[test]
fn every_option_arrives() {
    let world = World::new();
    let answers = world.path("answers");
    let line = "--engine command --profile default --task do·it --mutation discard --allow-change src/** \
        --deny-change *.lock --ask-change docs/** --protect LICENSE --hide secrets/** --test make·check \
        --test-net host --test-env A=1 --test-pass-env TOKEN --test-ro /opt/a --test-rw /opt/b \
        --test-overlay /opt/c --review ./review --review-by exit --review-net host --review-env B=2=3 \
        --review-ro /opt/d --review-rw /opt/e --review-overlay /opt/f --review-pass-env TOKEN --timeout 1h \
        --idle-timeout 2m --grace 0s --test-timeout 3m --review-timeout 4m --approval-timeout 5m --memory 1G \
        --pids-limit 10 --cpus 1.5 --disk 2G --max-log 3M --max-files 4 --max-patch 5M --net host --ro \
        /opt/g --rw /opt/h --overlay /opt/i --env C= --pass-env TOKEN --approvals {answers} --min-level \
        landlock --layer disk --evidence ev --nonce 00112233445566AA --enable-engine fake -- agent {task}";
    let line = line.replace("{answers}", answers.to_str().unwrap());
    let words: Vec<String> = line.split(' ').map(|word| word.replace('·', " ")).collect();
    let options = world.good(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(options.command, ["agent", "{task}"]);
    assert_eq!(options.task.as_deref(), Some("do it"));
    assert_eq!(options.mutation, MutationMode::Discard);
    assert_eq!(options.changes.allow, ["src/**"]);
    assert_eq!(options.changes.deny, ["*.lock"]);
    assert_eq!(options.changes.ask, ["docs/**"]);
    assert_eq!(options.changes.protect.last().unwrap(), "LICENSE");
    assert_eq!(options.hide, [".env*", "secrets/**"]);
    assert_eq!(options.test, TestChoice::Command("make check".into()));
    assert_eq!(options.review, Some(ReviewChoice { command: "./review".into(), by_exit: true }));
    let has = |mounts: &[MountRule], path: &str, mode| {
        mounts.iter().any(|m| m.path == Path::new(path) && m.mode == mode && !m.optional)
    };
    for (own, [ro, rw, overlay]) in [
        (&options.mounts, ["/opt/g", "/opt/h", "/opt/i"]),
        (&options.test_sandbox.mounts, ["/opt/a", "/opt/b", "/opt/c"]),
        (&options.review_sandbox.mounts, ["/opt/d", "/opt/e", "/opt/f"]),
    ] {
        assert!(
            has(own, ro, MountMode::Ro)
                && has(own, rw, MountMode::Rw)
                && has(own, overlay, MountMode::Overlay)
        );
        assert_eq!(
            own.iter().filter(|m| m.path.starts_with("/opt")).count(),
            3,
            "nothing of another sandbox's"
        );
    }
    assert_eq!(options.test_sandbox.env["A"], "1");
    assert_eq!(options.review_sandbox.env["B"], "2=3");
    assert_eq!(options.env["C"], "");
    assert_eq!(options.env["TOKEN"], "s3cret");
    assert!(!options.env.contains_key("A") && !options.env.contains_key("B"));
    for passed in [&options.passed, &options.test_sandbox.passed, &options.review_sandbox.passed] {
        assert_eq!(*passed, ["TOKEN"]);
    }
    assert_eq!(
        (options.net, options.test_sandbox.net, options.review_sandbox.net),
        (Network::Host, Network::Host, Network::Host)
    );
    assert_eq!(options.timeouts.wall, Duration::from_secs(3600));
    assert_eq!(options.timeouts.grace, Duration::ZERO);
    assert_eq!(options.timeouts.approval, Duration::from_secs(300));
    assert_eq!(options.limits.memory, Limit { value: 1 << 30, explicit: true });
    assert_eq!(options.limits.pids, Limit { value: 10, explicit: true });
    assert_eq!(options.limits.cpus, Some(1.5));
    assert_eq!(
        (options.limits.max_log, options.limits.max_files, options.limits.max_patch),
        (3 << 20, 4, 5 << 20)
    );
    assert_eq!(options.approvals, Approvals::File(answers));
    assert_eq!(options.min_level, Level::Landlock);
    assert_eq!(options.layer, LayerPlace::Disk);
    assert_eq!(options.evidence, Some("ev".into()));
    assert_eq!(options.nonce.as_deref(), Some("00112233445566aa"));
}

#[test]
fn layers_win_in_their_order_and_tightening_lists_add_up() {
    let world = World::new();
    world.write("etc/config.toml", "hide = [\"etc\"]\n[changes]\ndeny = [\"etc\"]\nallow = [\"etc\"]\n[timeouts]\nwall = \"1m\"\nidle = \"1m\"\ngrace = \"1s\"\ntest = \"1m\"\n");
    world.write("home/.config/proctor/config.toml", "profile = \"ci\"\nhide = [\"home\"]\n[changes]\ndeny = [\"home\"]\nallow = [\"home\"]\n[timeouts]\nidle = \"2m\"\ngrace = \"2s\"\ntest = \"2m\"\n");
    world.write("home/.config/proctor/profiles/ci.toml", "hide = [\"ci\"]\n[changes]\ndeny = [\"ci\"]\nallow = [\"ci\"]\n[timeouts]\ngrace = \"3s\"\ntest = \"3m\"\n");
    let options =
        world.good(&["--deny-change", "line", "--hide", "line", "--test-timeout", "4m", "--", "true"]);
    assert_eq!(options.profile.name, "ci");
    let seconds =
        [options.timeouts.wall, options.timeouts.idle, options.timeouts.grace, options.timeouts.test]
            .map(|t| t.as_secs());
    assert_eq!(seconds, [60, 120, 3, 240]);
    assert_eq!(options.changes.deny, ["etc", "home", "ci", "line"]);
    assert_eq!(options.hide, [".env*", "etc", "home", "ci", "line"]);
    assert_eq!(options.changes.allow, ["ci"], "the highest layer's list alone");
    assert!(origin(&options, "timeouts.wall").ends_with("etc/config.toml"));
    assert!(origin(&options, "timeouts.grace").ends_with("profiles/ci.toml"));
    assert!(origin(&options, "timeouts.grace").starts_with("profile "));
    assert_eq!(origin(&options, "timeouts.test"), "command line");
    assert_eq!(origin(&options, "timeouts.review"), "default");

    let only = world.write("only.toml", "[timeouts]\nwall = \"9m\"\n");
    let options = world.good(&["--config", only.to_str().unwrap(), "--", "true"]);
    assert_eq!(options.timeouts.wall, Duration::from_secs(540));
    assert!(options.changes.deny.is_empty(), "a named configuration stands alone");
    assert_eq!(world.good(&["--profile", "default", "--", "true"]).changes.deny, ["etc", "home"]);
}

#[test]
fn a_configured_test_can_be_turned_off_and_on_again() {
    let world = World::new();
    world.write("etc/config.toml", "[test]\ncommand = \"make\"\n");
    assert_eq!(world.good(&["--", "true"]).test, TestChoice::Command("make".into()));
    assert_eq!(world.good(&["--no-test", "--", "true"]).test, TestChoice::Off);
    world.write("home/.config/proctor/config.toml", "[test]\noff = true\n");
    assert_eq!(world.good(&["--", "true"]).test, TestChoice::Off);
    assert_eq!(world.good(&["--test", "x", "--", "true"]).test, TestChoice::Command("x".into()));
    let profile = world.write("p.toml", "[test]\noff = false\n");
    assert_eq!(world.good(&["--profile", profile.to_str().unwrap(), "--", "true"]).test, TestChoice::Missing);
}

#[test]
fn single_protected_and_hidden_paths_can_be_lifted_by_files() {
    let world = World::new();
    let profile = world.write(
        "p.toml",
        "lift_hide = [\".env*\"]\n[changes]\nlift_protect = [\"AGENTS.md\", \".vscode/**\"]\n",
    );
    let options = world.good(&["--profile", profile.to_str().unwrap(), "--", "true"]);
    assert!(options.hide.is_empty());
    let lifted: Vec<_> = protect::BUILT_IN_PROTECT
        .iter()
        .filter(|entry| !options.changes.protect.iter().any(|p| p == *entry))
        .collect();
    assert_eq!(lifted, [&".vscode", &"AGENTS.md"]);
}

#[test]
fn views_add_mounts_to_all_three_sandboxes_and_the_command_line_wins() {
    let world = World::new();
    let home = world.path("home");
    let registry = home.join(".cargo/registry");
    let options = world.good(&["--view", "rust", "--ro", registry.to_str().unwrap(), "--", "true"]);
    assert_eq!(options.views, ["base", "rust"]);
    let mode = |mounts: &[MountRule]| mounts.iter().find(|m| m.path == registry).unwrap().mode;
    assert_eq!(mode(&options.mounts), MountMode::Ro);
    assert_eq!(mode(&options.test_sandbox.mounts), MountMode::Overlay);
    for env in [&options.env, &options.test_sandbox.env, &options.review_sandbox.env] {
        assert_eq!(env["CARGO_HOME"], home.join(".cargo").to_str().unwrap());
        assert_eq!(env["PATH"], format!("{}:{}", home.join(".cargo/bin").display(), sandbox::BASE_PATH));
    }
    let said = |path: &Path| {
        let path = path.display().to_string();
        options
            .origins
            .iter()
            .find(|o| o.key.starts_with("sandbox.") && o.value == path)
            .unwrap()
            .layer
            .clone()
    };
    assert_eq!(said(&registry), "command line");
    assert_eq!(said(&home.join(".cargo/bin")), "view rust");
    assert_eq!(said(Path::new("/usr")), "view base");
    let parents_first = options.mounts.windows(2).all(|pair| !pair[0].path.starts_with(&pair[1].path));
    assert!(parents_first);

    world.write(
        "home/.config/proctor/sandbox/rust.toml",
        "description = \"own\"\nmounts = [{ path = \"{home}/rust\", mode = \"ro\" }]\n",
    );
    let options = world.good(&["--view", "rust", "--", "true"]);
    assert!(
        options.mounts.iter().any(|m| m.path == home.join("rust") && !m.optional),
        "the operator's own view"
    );
    assert!(!options.mounts.iter().any(|m| m.path == registry));
}

#[test]
fn secrets_are_in_no_origin_and_no_policy() {
    let world = World::new();
    let resolved = world.resolve(&["--pass-env", "TOKEN", "--", "true"]).unwrap();
    assert!(!serde_json::to_string(&resolved.options.origins).unwrap().contains("s3cret"));
    assert!(!resolved.policy_text.contains("s3cret"));
    assert!(resolved.policy.backend_sandbox.pass_env.contains(&"TOKEN".to_owned()));
}

#[test]
fn the_digest_is_the_policys_and_nothing_elses() {
    let world = World::new();
    let digest = |words: &[&str]| world.good(words).profile.digest;
    let plain = digest(&["--", "true"]);
    assert_eq!(plain.len(), 64);
    assert_eq!(
        plain,
        digest(&["--task", "x", "--nonce", "0011223344556677", "--evidence", "e", "--", "false"])
    );
    assert_eq!(
        plain,
        digest(&["--timeout", "1800s", "--allow-change", "**", "--", "true"]),
        "said or default, the same policy"
    );
    let mut seen = vec![plain];
    let lines = "--timeout 31m; --memory 4G; --memory 5G; --deny-change x; --net host; --test-net host; --ro /opt/x; \
        --overlay /opt/x; --env A=1; --env A=2; --pass-env TOKEN; --no-test; --test x; --review x; \
        --review x --review-by exit; --mutation none; --min-level landlock; --layer memory; --layer disk; --approvals ask; --cpus 2; \
        --max-files 3; --hide x; --protect x; --view rust; --engine fake";
    for words in lines.split("; ") {
        let words: Vec<&str> = words.split(' ').chain(["--", "true"]).collect();
        let digest = digest(&words);
        assert!(!seen.contains(&digest), "{words:?} changes nothing");
        seen.push(digest);
    }
}

#[test]
fn a_task_is_read_from_its_file() {
    let world = World::new();
    let file = world.write("task.md", "fix it\n");
    let at = |path: &Path| format!("@{}", path.display());
    assert_eq!(world.good(&["--task", &at(&file), "--", "true"]).task.as_deref(), Some("fix it\n"));
    std::fs::write(&file, "x".repeat(resolve::TASK_LIMIT)).unwrap();
    assert!(world.resolve(&["--task", &at(&file), "--", "true"]).is_ok());
}

#[test]
fn command_line_errors_say_which_option_and_what_to_do() {
    let world = World::new();
    world.write("large.md", &"x".repeat(resolve::TASK_LIMIT + 1));
    std::fs::write(world.path("binary.md"), b"\xff").unwrap();
    world.write("empty.md", " \n");
    world.write("tree/answers", "");
    world.write("tree/p.toml", "");
    world.write("home/.config/proctor/profiles/nightly.toml", "");
    let dir = world.dir.path().to_str().unwrap().to_owned();
    let words = |text: &str| -> Vec<String> {
        text.split(' ').map(|word| word.replace("WORLD", &dir).replace('·', " ")).collect()
    };
    let lines = include_str!("../../../fixtures/profiles/command-lines.txt");
    let mut text = String::new();
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let words = words(line);
        let error = world.bad(&words.iter().map(String::as_str).collect::<Vec<_>>());
        text.push_str(&format!("$ proctor run {line}\n{error}\n\n"));
    }
    insta::assert_snapshot!("command_line_errors", text);
}

#[test]
fn an_engine_that_takes_no_command_refuses_one() {
    let world = World::new();
    let request = Request { repo: world.path("tree"), command: vec!["x".into()], ..Request::default() };
    let text = "name = \"n\"\ndescription = \"d\"\ngated = false\nrequired = []\n[arguments]\nmin = 0\nmax = 0\nusage = \"\"\n";
    let source = source::SourceText { name: "n".into(), text: text.into() };
    let engine = engine::parse("n", &source, &world.env).unwrap();
    let error = resolve::check_arguments(&request, &engine).unwrap_err();
    assert_eq!(
        error.to_string(),
        "command line: the engine `n` takes no command, but one was given\n  \
         leave out `--` and what follows it, or use `--engine command`"
    );
}

#[test]
fn globs_are_judged_by_the_function_that_is_passed_in() {
    let world = World::new();
    let request = Request { repo: world.path("tree"), command: vec!["x".into()], ..Request::default() };
    let facts = HostFacts { memory: 1 << 30 };
    let refuse = |glob: &str| {
        if glob == "**" { Err("not today".to_owned()) } else { Ok(()) }
    };
    let cx = Context { env: &world.env, host: &facts, check_glob: &refuse };
    let error = resolve(&request, &cx).unwrap_err();
    assert_eq!(error.what, "`**` is not a usable glob: not today");
}
