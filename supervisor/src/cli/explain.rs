//! `proctor explain`: what the sandboxes of a run would be, and which layer of policy said so. Starts nothing,
//! writes nothing.

use std::fmt::Write as _;

use proctor_sandbox::spec::{Level as SandboxLevel, Mount};
use serde_json::{Value, json};

use super::output;
use super::run::{Prepared, prepare};
use super::run_args::RunArgs;
use crate::evidence::new_run_id;
use crate::exit::ExitCode;
use crate::profile::{CheckSandbox, LayerPlace, Level, MutationMode, Network, TestChoice};
use crate::report::escape::terminal as safe;
use crate::report::units::size;
use crate::run::area::Area;
use crate::run::confined;
use crate::run::plan::Plan;
use crate::run::sandbox::disk_bytes;
use crate::run::view;

/// Explains.
pub(super) fn run(args: RunArgs, json: bool) -> ExitCode {
    let prepared = match prepare(args) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let Prepared { env, host, resolved } = prepared;
    let run_id = match new_run_id() {
        Ok(id) => id,
        Err(e) => return output::error(e, ExitCode::Defect),
    };
    let plan = match Plan::new(resolved, &env, &run_id) {
        Ok(plan) => plan,
        Err(e) => return output::error(e, ExitCode::Usage),
    };
    let disk = disk_bytes(&plan.resolved.options.limits, host.memory);
    if json {
        output::json(&machine(&plan, disk));
    } else {
        output::line(people(&plan, disk).trim_end());
    }
    ExitCode::Pass
}

fn word(net: Network) -> &'static str {
    match net {
        Network::None => "none (a namespace with its own loopback alone)",
        Network::Host => "host (a weakness: everything the host reaches can be reached)",
    }
}

fn describe(mount: &Mount) -> (String, &'static str) {
    match mount {
        Mount::Bind { target, writable: false, .. } => (target.display().to_string(), "read-only"),
        Mount::Bind { target, writable: true, .. } => {
            (target.display().to_string(), "WRITABLE, reaches the host")
        }
        Mount::Overlay { target, .. } => (target.display().to_string(), "written privately, thrown away"),
        Mount::Private { target, .. } => (target.display().to_string(), "private, empty, thrown away"),
        Mount::Symlink { link, to } => (format!("{} -> {}", link.display(), to.display()), "link"),
        Mount::Mask { target } => (target.display().to_string(), "masked"),
    }
}

fn mounts_json(mounts: &[Mount]) -> Value {
    mounts
        .iter()
        .map(|mount| {
            let (path, how) = describe(mount);
            json!({ "path": path, "how": how })
        })
        .collect()
}

fn machine(plan: &Plan, disk: u64) -> Value {
    let options = &plan.resolved.options;
    json!({
        "profile": options.profile,
        "engine": options.engine,
        "mutation_mode": options.mutation,
        "work_tree": plan.repo.root_path(),
        "base_commit": plan.repo.base_commit().to_string(),
        "policy": plan.resolved.policy,
        "origins": options.origins,
        "sandboxes": {
            "backend": { "network": options.net, "mounts": mounts_json(&plan.backend_mounts), "env": options.env.keys().collect::<Vec<_>>() },
            "test": { "network": options.test_sandbox.net, "mounts": mounts_json(&plan.test_mounts), "env": options.test_sandbox.env.keys().collect::<Vec<_>>() },
            "review": { "network": options.review_sandbox.net, "mounts": mounts_json(&plan.review_mounts), "env": options.review_sandbox.env.keys().collect::<Vec<_>>() },
        },
        "disk_bytes": disk,
        "landlock_abi": proctor_sandbox::landlock::kernel_abi(),
        "min_level": options.min_level,
        "seccomp": { "full": refused(SandboxLevel::Full), "landlock": refused(SandboxLevel::Landlock) },
        "missing_at_level_landlock": if options.min_level == Level::Landlock { confined::NEVER } else { &[] },
    })
}

/// The refused system calls, by name, with what becomes of them and why.
fn refused(level: SandboxLevel) -> Value {
    proctor_sandbox::seccomp::rules(level)
        .map(|rule| json!({ "call": rule.call, "then": rule.then, "reason": rule.reason }))
        .collect()
}

fn people(plan: &Plan, disk: u64) -> String {
    let options = &plan.resolved.options;
    let mut out = String::new();
    // Writing to a String does not fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!("profile    {} ({})", safe(&options.profile.name), &options.profile.digest[..12]));
    line(format!("engine     {}: {}", options.engine, plan.resolved.engine.description));
    let argv: Vec<String> = plan.start.argv.iter().map(|a| safe(&a.to_string_lossy())).collect();
    line(format!("command    {}", argv.join(" ")));
    let how = match options.mutation {
        MutationMode::None => "none: read-only",
        MutationMode::Discard => "discard: changes are recorded and never applied",
        MutationMode::Patch => "patch: changes become a patch, the tree stays as it is",
        MutationMode::Apply => "apply: changes become a patch, which is carried onto the tree",
    };
    line(format!("work tree  {}", safe(&plan.repo.root_path().to_string_lossy())));
    line(format!("           at {}, mutation {how}", plan.repo.base_commit()));
    line(
        ".git       a private copy: HEAD, refs, index, objects read-only; no hooks, includes or credentials"
            .into(),
    );
    line(String::new());
    line("backend's sandbox, level full".into());
    line(format!("  network  {}", word(options.net)));
    section(&mut line, &plan.backend_mounts, &options.env, &options.passed);
    line("  always   /dev with null, zero, full, random, urandom, pts; fresh /proc, kernel files masked, /proc/sys read-only".into());
    let files: Vec<String> = view::files(options.net).iter().map(|f| f.path.display().to_string()).collect();
    line(format!("  made up  {}", files.join(" ")));
    let (rules, instructions) = proctor_sandbox::seccomp::size(SandboxLevel::Full);
    line(format!(
        "  kernel   Landlock ABI {}: reads below /, writes below what is writable above; seccomp: {rules} rules, {instructions} instructions",
        proctor_sandbox::landlock::kernel_abi()
    ));
    if options.min_level == Level::Landlock {
        line(String::new());
        line(
            "where level full is not to be had: level landlock, in a private copy of the work tree below"
                .into(),
        );
        line(format!("  {}; nothing is mounted, what is", Area::all(&plan.dirs).display()));
        line("  written privately above is read-only there, and a run lists as missing:".into());
        for missing in confined::NEVER {
            line(format!("  - {missing}"));
        }
    }
    line(String::new());
    let test = match &options.test {
        TestChoice::Command(command) => safe(command),
        TestChoice::Off => "none (--no-test)".into(),
        TestChoice::Missing => {
            "MISSING: a run raises test_command_missing; give --test CMD or --no-test".into()
        }
    };
    check(&mut line, "test", &test, &options.test_sandbox, &plan.test_mounts);
    if let Some(review) = &options.review {
        check(&mut line, "review", &safe(&review.command), &options.review_sandbox, &plan.review_mounts);
    }
    line(String::new());
    line("changes".into());
    for (name, globs) in [
        ("allow", &options.changes.allow),
        ("deny", &options.changes.deny),
        ("ask", &options.changes.ask),
        ("hide", &options.hide),
    ] {
        if !globs.is_empty() {
            line(format!("  {name:<8} {}", safe(&globs.join(" "))));
        }
    }
    line(format!("  protect  {}", safe(&options.changes.protect.join(" "))));
    line(String::new());
    line("limits".into());
    let limits = &options.limits;
    line(format!(
        "  memory {}  tasks {}  cpus {}  disk {}  log {}  files {}  patch {}",
        size(limits.memory.value),
        limits.pids.value,
        limits.cpus.map_or_else(|| "all".to_owned(), |c| c.to_string()),
        size(disk),
        size(limits.max_log),
        limits.max_files,
        size(limits.max_patch)
    ));
    let layers = match options.layer {
        LayerPlace::Auto => "in memory, within disk; on disk, watched, where the kernel cannot do that",
        LayerPlace::Memory => "in memory, within disk",
        LayerPlace::Disk => "on disk, below Proctor's state; their size is watched, not limited",
    };
    line(format!("  private layers {layers}"));
    let t = &options.timeouts;
    line(format!(
        "  wall {}  idle {}  grace {}  test {}  review {}  approval {}",
        humantime::format_duration(t.wall),
        humantime::format_duration(t.idle),
        humantime::format_duration(t.grace),
        humantime::format_duration(t.test),
        humantime::format_duration(t.review),
        humantime::format_duration(t.approval)
    ));
    line(String::new());
    line(format!("views      {}", options.views.join(" ")));
    line("who said so (the rest is built in or the views')".into());
    for origin in
        options.origins.iter().filter(|o| !o.layer.starts_with("default") && !o.layer.starts_with("view"))
    {
        line(format!(
            "  {:<24} {:<40} {}",
            safe(&origin.key),
            safe(&shortened(&origin.value)),
            safe(&origin.layer)
        ));
    }
    out
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 40 { text.to_owned() } else { text.chars().take(39).chain(['…']).collect() }
}

fn section(
    line: &mut impl FnMut(String),
    mounts: &[Mount],
    env: &std::collections::BTreeMap<String, String>,
    passed: &[String],
) {
    for mount in mounts {
        let (path, how) = describe(mount);
        line(format!("  mount    {:<44} {how}", safe(&path)));
    }
    let names: Vec<String> = env
        .keys()
        .map(|name| if passed.contains(name) { format!("{name} (passed, secret)") } else { name.clone() })
        .collect();
    line(format!("  env      HOME PATH USER TMPDIR and the like, {}", safe(&names.join(", "))));
}

fn check(line: &mut impl FnMut(String), role: &str, command: &str, own: &CheckSandbox, mounts: &[Mount]) {
    line(format!("{role}  {command}"));
    line(format!("  network  {}", word(own.net)));
    line("  tree     base and patch, and the real tree's own ignored files that are not hidden; writes thrown away".into());
    let shown: Vec<String> = mounts
        .iter()
        .filter(|m| !matches!(m, Mount::Symlink { .. } | Mount::Private { .. }))
        .map(|m| describe(m).0)
        .collect();
    line(format!("  mounts   {}", safe(&shown.join(" "))));
}
