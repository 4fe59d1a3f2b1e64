//! Every key of profiles and of the configuration, as a table: for messages, for `docs/profiles.md`, and for
//! tests that hold it against the structs of `raw` and the options of the command line.

use Merge::{Adds, ByName, Highest};

/// How a key's values of several layers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// The highest layer that says it wins.
    Highest,
    /// All layers add up.
    Adds,
    /// Adds up by name or path; for the same one the highest layer wins.
    ByName,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Full name, `limits.memory`.
    pub name: &'static str,
    /// The option of `proctor run` that says the same, where there is one.
    pub option: Option<&'static str>,
    /// What a value looks like.
    pub value: &'static str,
    /// The default, in words.
    pub default: &'static str,
    /// How layers combine.
    pub merge: Merge,
    /// What it does.
    pub about: &'static str,
}

const fn key(
    name: &'static str,
    option: Option<&'static str>,
    value: &'static str,
    default: &'static str,
    merge: Merge,
    about: &'static str,
) -> Key {
    Key { name, option, value, default, merge, about }
}

/// All keys, in the order of the document.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("description", None, "text", "–", Highest, "For people; no effect."),
    key("profile", Some("--profile"), "name or absolute path", "`default`", Highest, "Configuration only: the profile of runs that name none."),
    key("enable_engines", Some("--enable-engine"), "list of engine names", "none", Adds, "Configuration only: gated engines that may run."),
    key("engine", Some("--engine"), "`command` or `fake`", "`command`", Highest, "The kind of backend."),
    key("mutation", Some("--mutation"), "`none`, `discard` or `patch`", "`patch`", Highest, "What may become of the backend's changes."),
    key("hide", Some("--hide"), "list of globs", "`.env*`", Adds, "Paths that no sandbox of the run shows; added to the built-in list."),
    key("sign", Some("--sign"), "absolute path", "–", Highest, "Private key (`proctor keygen`) that signs the evidence, outside of the work tree and of everything that a sandbox shows."),
    key("lift_hide", None, "list of built-in hide globs", "none", Adds, "Entries of the built-in hide list that do not apply."),

    key("changes.allow", Some("--allow-change"), "list of globs", "`**`", Highest, "A change must match one of these."),
    key("changes.deny", Some("--deny-change"), "list of globs", "none", Adds, "A change must match none of these."),
    key("changes.ask", Some("--ask-change"), "list of globs", "none", Adds, "A change that matches needs an approval."),
    key("changes.protect", Some("--protect"), "list of globs", "the built-in list", Adds, "A change that matches is disallowed whatever is allowed; letter case is ignored. Added to the built-in list."),
    key("changes.lift_protect", None, "list of built-in protect globs", "none", Adds, "Entries of the built-in protect list that do not apply."),

    key("test.command", Some("--test"), "command for `sh -c`", "–", Highest, "Tests the result. Without it, and without `off`, a run is never a pass."),
    key("test.off", Some("--no-test"), "`true` or `false`", "`false`", Highest, "`true`: nothing is tested, on purpose."),
    key("test.net", Some("--test-net"), "`none` or `host`", "`none`", Highest, "The test sandbox's network."),
    key("test.env", Some("--test-env"), "table of variables", "none", ByName, "Variables of the test sandbox."),
    key("test.pass_env", Some("--test-pass-env"), "list of variable names", "none", ByName, "Variables taken from outside; their values are secrets."),
    key("test.ro", Some("--test-ro"), "list of absolute paths", "none", ByName, "Mounted read-only for the test."),
    key("test.rw", Some("--test-rw"), "list of absolute paths", "none", ByName, "Mounted for the test and written through to the host."),
    key("test.overlay", Some("--test-overlay"), "list of absolute paths", "none", ByName, "Mounted for the test; writes are thrown away."),

    key("review.command", Some("--review"), "command for `sh -c`", "–", Highest, "Reviews the patch, which is on its standard input."),
    key("review.by", Some("--review-by"), "`digest` or `exit`", "`digest`", Highest, "`digest`: accepting takes exit 0 and the line `accept SHA256` on descriptor 3. `exit`: exit 0 alone."),
    key("review.net", Some("--review-net"), "`none` or `host`", "`none`", Highest, "The review sandbox's network."),
    key("review.env", Some("--review-env"), "table of variables", "none", ByName, "Variables of the review sandbox."),
    key("review.pass_env", Some("--review-pass-env"), "list of variable names", "none", ByName, "Variables taken from outside; their values are secrets."),
    key("review.ro", Some("--review-ro"), "list of absolute paths", "none", ByName, "Mounted read-only for the reviewer."),
    key("review.rw", Some("--review-rw"), "list of absolute paths", "none", ByName, "Mounted for the reviewer and written through to the host."),
    key("review.overlay", Some("--review-overlay"), "list of absolute paths", "none", ByName, "Mounted for the reviewer; writes are thrown away."),

    key("timeouts.wall", Some("--timeout"), "duration", "`30m`", Highest, "The backend, from start to end."),
    key("timeouts.idle", Some("--idle-timeout"), "duration", "`10m`", Highest, "The backend, without a byte of output."),
    key("timeouts.grace", Some("--grace"), "duration, may be `0s`", "`5s`", Highest, "Between SIGTERM and SIGKILL."),
    key("timeouts.test", Some("--test-timeout"), "duration", "`10m`", Highest, "The test command."),
    key("timeouts.review", Some("--review-timeout"), "duration", "`10m`", Highest, "The reviewer."),
    key("timeouts.approval", Some("--approval-timeout"), "duration", "`10m`", Highest, "One request for approval; no answer in time is a denial."),

    key("limits.memory", Some("--memory"), "size", "half the host's", Highest, "Memory of one sandbox's processes together."),
    key("limits.pids", Some("--pids-limit"), "count", "`4096`", Highest, "Processes and threads."),
    key("limits.cpus", Some("--cpus"), "number or `all`", "`all`", Highest, "CPUs, fractions allowed."),
    key("limits.disk", Some("--disk"), "size", "`8G`", Highest, "What a sandbox may write to its private file systems."),
    key("limits.max_log", Some("--max-log"), "size", "`64M`", Highest, "Each raw log."),
    key("limits.max_files", Some("--max-files"), "count", "`20000`", Highest, "Changed files, ignored ones included."),
    key("limits.max_patch", Some("--max-patch"), "size", "`32M`", Highest, "The patch."),

    key("sandbox.views", Some("--view"), "list of view names", "`base`", Adds, "Toolchain views; `base` is always there."),
    key("sandbox.net", Some("--net"), "`none` or `host`", "`none`", Highest, "The backend's network. `host` is reported as a weakness."),
    key("sandbox.ro", Some("--ro"), "list of absolute paths", "none", ByName, "Mounted read-only."),
    key("sandbox.rw", Some("--rw"), "list of absolute paths", "none", ByName, "Written through to the host."),
    key("sandbox.overlay", Some("--overlay"), "list of absolute paths", "none", ByName, "Written privately and thrown away: for caches."),
    key("sandbox.env", Some("--env"), "table of variables", "none", ByName, "Variables of the backend."),
    key("sandbox.pass_env", Some("--pass-env"), "list of variable names", "none", ByName, "Variables taken from outside; their values are secrets: finding one in the evidence fails the run."),
    key("sandbox.min_level", Some("--min-level"), "`full` or `landlock`", "`full`", Highest, "The lowest sandbox level that is accepted."),
    key("sandbox.layer", Some("--layer"), "`auto`, `memory` or `disk`", "`auto`", Highest, "Where what is written to the work tree and to `overlay` mounts is kept during the run. `memory`: a tmpfs, limited by `limits.disk`. `disk`: below Proctor's state directory, where that limit is only watched. `auto`: in memory where the kernel can do that."),

    key("approvals.mode", Some("--approvals"), "`ask` or `deny`", "`deny`", Highest, "`ask`: on the controlling terminal. `deny`: every request is denied."),
    key("approvals.file", Some("--approvals"), "absolute path", "–", Highest, "Instead of `mode`: an answer log outside the work tree, read as it grows."),

    key("report.html", Some("--html"), "`true` or `false`", "`false`", Highest, "`true`: the evidence holds the report as one page for browsers too."),
];

/// The option of the command line that sets a key.
pub fn option_of(name: &str) -> Option<&'static str> {
    KEYS.iter().find(|key| key.name == name).and_then(|key| key.option)
}

/// Full names of the keys whose last part this is.
pub fn with_last_part(part: &str) -> Vec<&'static str> {
    KEYS.iter()
        .map(|key| key.name)
        .filter(|name| name.rsplit_once('.').is_some_and(|(_, last)| last == part))
        .collect()
}

/// The key that an option sets, by the option's name without its leading dashes.
pub fn of_option(option: &str) -> Option<&'static str> {
    let with_dashes = |key: &&Key| key.option.and_then(|own| own.strip_prefix("--")) == Some(option);
    KEYS.iter().find(with_dashes).map(|key| key.name)
}
