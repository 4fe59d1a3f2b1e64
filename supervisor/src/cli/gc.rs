//! `proctor gc`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output;
use crate::exit::ExitCode;
use crate::gc::{self, Cleared, Item, Kind, Options};
use crate::profile::HostEnv;
use crate::report::units::size;
use crate::run::state_dirs::StateDirs;

/// Options of `gc`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  proctor gc --dry-run
  proctor gc --unfinished-older-than 7d

Removes private directories, empty cgroups and locks of runs that are over. Nothing of a living run is touched, and
evidence only where an option asks for it. Exit code 0: all went; 1: something could not be removed, and is named.")]
pub(super) struct GcArgs {
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Also remove evidence of killed runs (without a report) in which nothing changed for so long (such as 7d)
    #[arg(long, value_name = "DUR")]
    unfinished_older_than: Option<String>,
    /// Also remove evidence of finished runs in which nothing changed for so long (such as 90d)
    #[arg(long, value_name = "DUR")]
    evidence_older_than: Option<String>,
}

/// Clears up.
pub(super) fn run(args: &GcArgs, json: bool) -> ExitCode {
    let duration = |option: &str, text: &Option<String>| -> Result<Option<Duration>, ExitCode> {
        text.as_deref().map(humantime::parse_duration).transpose().map_err(|e| {
            output::error(format_args!("{option}: {e}; give a duration such as 7d or 12h"), ExitCode::Usage)
        })
    };
    let unfinished = match duration("--unfinished-older-than", &args.unfinished_older_than) {
        Ok(age) => age,
        Err(code) => return code,
    };
    let finished = match duration("--evidence-older-than", &args.evidence_older_than) {
        Ok(age) => age,
        Err(code) => return code,
    };
    let Some(dirs) = StateDirs::new(&HostEnv::of_this_process()) else {
        return output::error(
            "neither XDG_STATE_HOME nor HOME is set: there is no place where Proctor's state would be; set one of them",
            ExitCode::Usage,
        );
    };
    let options =
        Options { dry_run: args.dry_run, unfinished_older_than: unfinished, evidence_older_than: finished };
    let cleared = gc::clear(&dirs, &options);
    if json {
        let bytes: u64 = cleared.removed.iter().map(|item| item.bytes).sum();
        let mut value = serde_json::to_value(&cleared).unwrap_or_default();
        value["bytes"] = json!(bytes);
        output::json(&value);
    } else {
        show(&cleared);
    }
    if cleared.left.is_empty() { ExitCode::Pass } else { ExitCode::Fail }
}

fn total<'a>(items: impl Iterator<Item = &'a Item> + Clone) -> String {
    let bytes = items.clone().map(|item| item.bytes).sum();
    format!("{}{}", if items.clone().any(|item| item.at_least) { "at least " } else { "" }, size(bytes))
}

fn show(cleared: &Cleared) {
    let word = if cleared.dry_run { "would remove" } else { "removed" };
    let mut locks = 0;
    for item in &cleared.removed {
        if item.kind == Kind::UidLock {
            locks += 1;
            continue;
        }
        let takes = match item.kind {
            Kind::Cgroup => String::new(),
            _ => format!(", {}", total(std::iter::once(item))),
        };
        output::note(format_args!("{word} {} ({}{takes})", item.path, item.kind.words()));
    }
    if locks > 0 {
        output::note(format_args!(
            "{word} {locks} {} of host uids",
            if locks == 1 { "lock" } else { "locks" }
        ));
    }
    for left in &cleared.left {
        output::note(format_args!("proctor: error: cannot remove {}: {}", left.path, left.why));
    }
    if !cleared.kept.is_empty() {
        output::note(format_args!(
            "kept unfinished evidence of {} {} that were killed ({}): --unfinished-older-than DUR removes it",
            cleared.kept.len(),
            if cleared.kept.len() == 1 { "run" } else { "runs" },
            total(cleared.kept.iter())
        ));
    }
    let also = if cleared.living > 0 { "; living runs were left alone" } else { "" };
    output::note(format_args!(
        "{word} {} in {} things{also}",
        total(cleared.removed.iter()),
        cleared.removed.len()
    ));
}
