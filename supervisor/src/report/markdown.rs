//! `report.md`: the report for people. The verdict first, then what to do, then what happened.
//!
//! Everything that a backend, a repository or a command line controls goes through `escape`: it stands in code
//! spans or as inert text, never as a link, an image or a mention.

use std::fmt::{self, Write as _};

use serde_json::Value;

use super::escape::{markdown as text, markdown_code as code};
use super::units::{seconds, size};
use super::{FileChange, Report, TestStatus, withheld, words};
use crate::evidence::{DECISION, EVENTS, HTML, PATCH, STDERR, STDOUT, TEST_LOG, TRACE};
use crate::run::REVIEW_LOG;
use crate::verdict::Status;

/// Most rows of a table; the rest is counted.
const ROWS: usize = 200;
/// Most entries of a list in a blocker's detail.
const LISTED: usize = 50;
/// Most characters of one value that is not ours.
const WIDTH: usize = 300;

/// The whole of `report.md`. The artifacts it lists are those of the report's manifest, so it is made before its
/// own digest is known and does not list itself.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_all(&mut out, &withheld::shown(report));
    out
}

fn write_all(out: &mut String, report: &Report) -> fmt::Result {
    head(out, report)?;
    blockers(out, report)?;
    changes(out, report)?;
    checks(out, report)?;
    sandbox(out, report)?;
    numbers(out, report)?;
    artifacts(out, report)
}

fn clipped(value: &str) -> String {
    if value.chars().count() <= WIDTH {
        value.to_owned()
    } else {
        value.chars().take(WIDTH).chain(['…']).collect()
    }
}

fn span(value: &str) -> String {
    code(&clipped(value))
}

fn optional(value: Option<&str>) -> String {
    value.map_or_else(|| "–".to_owned(), span)
}

fn head(out: &mut String, report: &Report) -> fmt::Result {
    let verdict = match report.status {
        Status::Pass => "PASS".to_owned(),
        Status::Fail => {
            let mut codes: Vec<String> =
                report.blockers.iter().map(|blocker| text(blocker.code.as_str())).collect();
            codes.dedup();
            format!("FAIL: {}", codes.join(", "))
        }
    };
    writeln!(out, "# {verdict}\n")?;
    if report.quarantined {
        writeln!(
            out,
            "**{}** Texts of others are withheld here; `report.json` has them.\n",
            words::QUARANTINED
        )?;
    }
    writeln!(out, "| | |\n| --- | --- |")?;
    writeln!(out, "| run | {} |", span(&report.run_id))?;
    writeln!(out, "| exit code | {} |", report.exit_code)?;
    let version = report.engine.version.as_deref().map(|v| format!(" {}", span(v))).unwrap_or_default();
    writeln!(out, "| engine | {}{version} |", span(&report.engine.name))?;
    writeln!(out, "| command | {} |", span(&report.engine.argv.join(" ")))?;
    let stage = report.stage.as_deref().map_or_else(|| words::UNGOVERNED.to_owned(), span);
    writeln!(out, "| stage | {stage} |")?;
    writeln!(out, "| mutation mode | {} |", span(&report.mutation_mode))?;
    writeln!(out, "| profile | {} |", span(&report.profile.name))?;
    writeln!(out, "| base commit | {} |", optional(report.base_commit.as_deref()))?;
    writeln!(out, "| result tree | {} |", optional(report.result_tree.as_deref()))?;
    writeln!(out, "| from, to | {} {} |\n", span(&report.run_start), span(&report.run_end))?;
    if report.status == Status::Pass {
        let (said, warning) = words::what_a_pass_proves(report);
        let warning = warning.map(|warning| format!(" **{warning}**")).unwrap_or_default();
        writeln!(out, "{said}{warning}\n")?;
    }
    Ok(())
}

fn blockers(out: &mut String, report: &Report) -> fmt::Result {
    if report.blockers.is_empty() {
        return Ok(());
    }
    writeln!(out, "## Why, and what to do\n")?;
    for blocker in report.blockers.iter().take(ROWS) {
        writeln!(out, "- **{}**: {}", text(blocker.code.as_str()), text(&clipped(&blocker.message)))?;
        writeln!(out, "  - What to do: {}", text(&blocker.remedy))?;
        detail(out, &blocker.detail)?;
    }
    more(out, report.blockers.len(), "blockers")?;
    writeln!(out)
}

/// Lists as lists, so that none of their first entries is cut; the rest as it stands in the report.
fn detail(out: &mut String, detail: &Value) -> fmt::Result {
    let mut rest = detail.clone();
    for (key, value) in detail.as_object().into_iter().flatten() {
        let Some(items) = value.get("listed").and_then(Value::as_array) else {
            continue;
        };
        rest.as_object_mut().map(|map| map.remove(key));
        let total = value.get("total").and_then(Value::as_u64).unwrap_or(items.len() as u64);
        writeln!(out, "  - {} ({total}):", text(&clipped(&key.replace('_', " "))))?;
        for item in items.iter().take(LISTED) {
            let said: Vec<String> = match item {
                Value::Object(map) => map.values().filter_map(Value::as_str).map(span).collect(),
                Value::String(said) => vec![span(said)],
                other => vec![span(&other.to_string())],
            };
            writeln!(out, "    - {}", said.join(" "))?;
        }
        if total > items.len().min(LISTED) as u64 {
            writeln!(out, "    - and {} more", total - items.len().min(LISTED) as u64)?;
        }
    }
    if rest.as_object().is_none_or(|rest| !rest.is_empty()) {
        writeln!(out, "  - Detail: {}", span(&rest.to_string()))?;
    }
    Ok(())
}

fn more(out: &mut String, count: usize, what: &str) -> fmt::Result {
    if count > ROWS {
        writeln!(out, "\n{} more {what} stand in `report.json`.", count - ROWS)
    } else {
        Ok(())
    }
}

fn sizes(change: &FileChange) -> String {
    let show = |size: Option<u64>| size.map_or_else(|| "–".to_owned(), |size| size.to_string());
    format!("{} → {}", show(change.old_size), show(change.new_size))
}

fn modes(change: &FileChange) -> String {
    match (&change.old_mode, &change.new_mode) {
        (Some(old), Some(new)) if old == new => span(old),
        (old, new) => format!("{} → {}", optional(old.as_deref()), optional(new.as_deref())),
    }
}

fn changes(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "## Changed files ({})\n", report.changed_files.len())?;
    if report.changed_files.is_empty() {
        writeln!(out, "None.")?;
    } else {
        writeln!(out, "| kind | path | mode | bytes |\n| --- | --- | --- | --- |")?;
        for change in report.changed_files.iter().take(ROWS) {
            let mut path = span(&change.path);
            if let Some(old) = &change.old_path {
                path = format!("{} → {path}", span(old));
            }
            if let Some(why) = &change.not_in_patch {
                let _ = write!(path, " (not in the patch: {})", span(why));
            }
            writeln!(out, "| {} | {path} | {} | {} |", change.kind.as_str(), modes(change), sizes(change))?;
        }
        more(out, report.changed_files.len(), "changes")?;
    }
    for (title, paths) in [
        ("Changed files that steer tests", &report.test_inputs_changed),
        ("Writes to ignored paths, which were dropped", &report.ignored_changes),
    ] {
        if !paths.is_empty() {
            writeln!(out, "\n{title} ({}):\n", paths.len())?;
            for path in paths.iter().take(ROWS) {
                writeln!(out, "- {}", span(&path.path))?;
            }
            more(out, paths.len(), "paths")?;
        }
    }
    let git = &report.git_changes;
    if git.count > 0 {
        let names: Vec<String> = git.paths.iter().take(5).map(|p| span(&p.path)).collect();
        let rest = if git.count > names.len() as u64 { ", and more" } else { "" };
        writeln!(
            out,
            "\nThe backend changed its private .git ({} paths: {}{rest}). {}",
            git.count,
            names.join(", "),
            words::GIT_CHANGES
        )?;
    }
    writeln!(out)
}

fn took(duration_ms: Option<u64>) -> String {
    duration_ms.map(|ms| format!(", {}", seconds(ms.saturating_mul(1000)))).unwrap_or_default()
}

fn checks(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "## Backend, tests, review\n")?;
    writeln!(out, "- Backend: {}", words::ended(report.backend_exit_code, report.backend_signal))?;
    let tests = &report.tests;
    write!(out, "- Tests: {}", words::tests(tests.status))?;
    if matches!(tests.status, TestStatus::Passed | TestStatus::Failed) {
        write!(out, ", {}", words::ended(tests.exit_code, tests.signal))?;
    }
    writeln!(out, "{}{}", took(tests.duration_ms), command(tests.command.as_deref()))?;
    let review = &report.review;
    let how = words::review(review.status);
    writeln!(out, "- Review: {how}{}{}", took(review.duration_ms), command(review.command.as_deref()))?;
    for approval in report.approvals.iter().take(ROWS) {
        writeln!(
            out,
            "- Approval of {}: {} by {}",
            span(&approval.subject),
            span(&approval.outcome),
            optional(approval.answered_by.as_deref())
        )?;
    }
    more(out, report.approvals.len(), "approvals")?;
    writeln!(out)
}

fn command(command: Option<&str>) -> String {
    command.map(|command| format!(": {}", span(command))).unwrap_or_default()
}

fn sandbox(out: &mut String, report: &Report) -> fmt::Result {
    let sandbox = &report.sandbox;
    writeln!(out, "## Sandbox\n")?;
    writeln!(
        out,
        "- Level: {}",
        sandbox.level.as_deref().map_or_else(|| words::NO_SANDBOX.to_owned(), span)
    )?;
    if let Some(why) = &sandbox.why_not_full {
        writeln!(out, "- Level `full` is not to be had here: {}", text(&clipped(why)))?;
    }
    let network =
        if sandbox.network == "host" { format!(" (**{}**)", words::HOST_NETWORK) } else { String::new() };
    writeln!(out, "- Network: {}{network}", span(&sandbox.network))?;
    let mechanisms: Vec<String> = sandbox
        .mechanisms
        .iter()
        .map(|one| {
            let version =
                one.version.as_deref().map(|version| format!(" {}", span(version))).unwrap_or_default();
            format!("{}{version}", span(&one.name))
        })
        .collect();
    writeln!(
        out,
        "- Enforced: {}",
        if mechanisms.is_empty() { "nothing".to_owned() } else { mechanisms.join(", ") }
    )?;
    if sandbox.missing.is_empty() {
        writeln!(out, "- Missing: nothing")?;
    } else {
        writeln!(out, "- Missing:")?;
        for missing in sandbox.missing.iter().take(ROWS) {
            writeln!(out, "  - {}", text(&clipped(missing)))?;
        }
    }
    seen_inside(out, report)?;
    if !report.provider.allowed_hosts.is_empty() {
        let hosts: Vec<String> =
            report.provider.allowed_hosts.iter().take(ROWS).map(|host| span(host)).collect();
        writeln!(out, "- Hosts that could be reached (ways out for data): {}", hosts.join(", "))?;
    }
    writeln!(out)
}

/// What was seen of each sandbox from below, and what was refused.
fn seen_inside(out: &mut String, report: &Report) -> fmt::Result {
    for (role, kinds) in report.sandbox.observed.iter().take(ROWS) {
        let said: Vec<String> = kinds
            .iter()
            .map(|(kind, one)| {
                let count =
                    if one.completeness == "absent" { String::new() } else { format!("{} ", one.count) };
                format!(
                    "{count}{} ({})",
                    text(&clipped(&kind.replace('_', " "))),
                    text(&clipped(&one.completeness))
                )
            })
            .collect();
        writeln!(out, "- Seen in the sandbox {}: {}", span(role), said.join(", "))?;
    }
    let denials = &report.sandbox.denials;
    if !denials.is_empty() {
        writeln!(out, "- Refused:")?;
        for one in denials.iter().take(ROWS) {
            let what = match (one.path.as_deref().or(one.address.as_deref()), one.what.as_str()) {
                (to, what) if super::is_landlock(what) => {
                    let to = to.map(|to| format!(" of {}", span(to))).unwrap_or_default();
                    format!("{}{to}", span(&one.blockers.join(", ")))
                }
                (Some(to), _) => format!("connecting to {}", span(to)),
                (None, _) => span(&one.call),
            };
            let killed = if one.killed { ", and was killed for it" } else { "" };
            writeln!(
                out,
                "  - {what} to {} in {}, {} times{killed}: {}",
                optional(one.program.as_deref()),
                span(&one.sandbox),
                one.count,
                text(&clipped(&one.reason))
            )?;
        }
        more(out, denials.len(), "refusals")?;
    }
    Ok(())
}

fn numbers(out: &mut String, report: &Report) -> fmt::Result {
    if !report.timings.is_empty() {
        writeln!(out, "## Timings\n\n| phase | start | took |\n| --- | --- | --- |")?;
        for timing in report.timings.iter().take(ROWS) {
            let (start, took) = (seconds(timing.start_us), seconds(timing.duration_us));
            writeln!(out, "| {} | {start} | {took} |", span(&timing.phase))?;
        }
        writeln!(out)?;
    }
    if !report.usage.is_empty() {
        writeln!(out, "## Usage\n")?;
        writeln!(
            out,
            "| sandbox | CPU | memory | tasks | disk | output |\n| --- | --- | --- | --- | --- | --- |"
        )?;
        let show =
            |value: Option<u64>| value.map_or_else(|| "not known".to_owned(), |value| value.to_string());
        let bytes = |value: Option<u64>| value.map_or_else(|| "not known".to_owned(), size);
        for (name, usage) in &report.usage {
            let mut cpu = match (usage.user_us, usage.system_us) {
                (None, None) => "not known".to_owned(),
                (user, system) => seconds(user.unwrap_or(0).saturating_add(system.unwrap_or(0))),
            };
            if let Some(periods) = usage.cpu_throttled.filter(|periods| *periods > 0) {
                let _ = write!(cpu, ", held back in {periods} periods");
            }
            writeln!(
                out,
                "| {} | {cpu} | {} | {} | {} | {} |",
                span(name),
                bytes(usage.max_memory),
                show(usage.max_tasks),
                bytes(usage.disk),
                bytes(usage.output)
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// An artifact's name; a link where it is one of Proctor's own names, which alone can be trusted in a link.
fn link(name: &str) -> String {
    let own = [EVENTS, PATCH, TEST_LOG, TRACE, STDOUT, STDERR, DECISION, HTML, REVIEW_LOG]
        .into_iter()
        .find(|own| *own == name);
    own.map_or_else(|| span(name), |own| format!("[`{own}`]({own})"))
}

fn artifacts(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "## Artifacts\n\n| name | bytes | SHA-256 |\n| --- | --- | --- |")?;
    for artifact in report.digest_manifest.iter().take(ROWS) {
        let (name, size) = (link(&artifact.name), artifact.annotations.size);
        writeln!(out, "| {name} | {size} | {} |", span(&artifact.digest.sha256))?;
    }
    more(out, report.digest_manifest.len(), "artifacts")?;
    let nonce = words::nonce(report.freshness.nonce_source);
    writeln!(out, "\nNonce ({nonce}): {}", span(&report.freshness.nonce))?;
    writeln!(out, "\n{}", words::AUTHENTICITY)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::report::{ChangeKind, PathText};
    use crate::verdict::{Blocker, BlockerCode};
    use serde_json::json;

    const HOSTILE: &str =
        "![x](http://e.org/p.png) <img src=x> @ann #1 | `` ` \u{202e}\x1b[2J\nrow | two |\n# PASS";

    #[test]
    fn the_verdict_is_the_first_line() {
        let mut report = sample::report();
        assert!(render(&report).starts_with("# PASS\n"));
        report.status = Status::Fail;
        report.blockers = vec![
            Blocker::new(BlockerCode::NoDiff, "Nothing.", json!({})),
            Blocker::new(BlockerCode::TestsFailed, "Red.", json!({"exit_code": 1})),
        ];
        let out = render(&report);
        assert!(out.starts_with("# FAIL: no_diff, tests_failed\n"), "{out}");
        assert!(out.contains("What to do: Read test\\.log"), "{out}");
        assert!(!out.contains("A pass"), "{out}");
    }

    #[test]
    fn a_pass_says_what_it_proves() {
        let mut report = sample::report();
        assert!(render(&report).contains("exited 0 over the result tree, and no more"));
        report.test_inputs_changed = vec![PathText { path: "Makefile".into(), path_b64: None }];
        assert!(render(&report).contains("**This patch changes 1 file that steers the tests: read it"));
        report.tests.status = TestStatus::Off;
        assert!(render(&report).contains("without tests proves only"));
    }

    #[test]
    fn what_landlock_refused_is_shown_with_right_and_path_and_stays_inert() {
        let mut report = sample::report();
        let denial = &mut report.sandbox.denials[0];
        (denial.what, denial.call) = ("path".into(), String::new());
        denial.blockers = vec!["fs.remove_file".into(), "fs.refer".into()];
        denial.path = Some("/opt/x".into());
        assert!(
            render(&report).contains(
                "  - `fs.remove_file, fs.refer` of `/opt/x` to `/usr/bin/x` in `backend`, 3 times: "
            )
        );
        let plain = render(&report).lines().count();
        report.sandbox.denials[0].path = Some(HOSTILE.into());
        assert_eq!(render(&report).lines().count(), plain);
    }

    #[test]
    fn lists_of_a_blocker_are_lists_and_artifacts_of_known_names_are_links() {
        let mut report = sample::report();
        report.status = Status::Fail;
        let listed: Vec<_> =
            (0..60).map(|n| json!({"path": format!("{n}{HOSTILE}"), "rule": "deny **"})).collect();
        let detail = json!({"changes": {"listed": listed, "total": 70}, "limit": 7});
        report.blockers = vec![Blocker::new(BlockerCode::DisallowedFile, "No.", detail)];
        report.digest_manifest.push(crate::evidence::ResourceDescriptor::new(
            "backend.x.log",
            "8".repeat(64),
            1,
        ));
        let out = render(&report);
        assert!(out.contains("  - changes (70):\n    - "), "{out}");
        assert!(out.contains(" `deny **`\n    - and 20 more\n  - Detail: `{\"limit\":7}`\n"), "{out}");
        assert_eq!(out.lines().filter(|line| line.starts_with("    - ")).count(), LISTED + 1);
        assert!(
            out.contains("| [`patch.diff`](patch.diff) | 10 |") && out.contains("| `backend.x.log` | 1 |"),
            "{out}"
        );
    }

    /// Hostile text in every field that somebody else controls: no new line, no live markup.
    #[test]
    fn hostile_text_stays_inert() {
        let mut report = sample::report();
        let plain = render(&report).lines().count();
        report.changed_files[0] = sample::change(HOSTILE, ChangeKind::Renamed);
        report.changed_files[0].old_path = Some(HOSTILE.into());
        report.changed_files[0].not_in_patch = Some(HOSTILE.into());
        report.tests.command = Some(HOSTILE.into());
        report.engine.version = Some(HOSTILE.into());
        report.engine.argv = vec![HOSTILE.into(), HOSTILE.into()];
        report.sandbox.missing = vec![HOSTILE.into()];
        report.run_id = HOSTILE.into();
        report.provider.allowed_hosts = vec![HOSTILE.into()];
        report.sandbox.denials[0].program = Some(HOSTILE.into());
        report.sandbox.denials[0].address = Some(HOSTILE.into());
        let out = render(&report);
        assert_eq!(out.lines().count(), plain + 1, "the line of hosts only");
        assert!(!out.chars().any(|c| super::super::escape::is_deceptive(c) && c != '\n' && c != '\u{2060}'));
        for row in out.lines().filter(|line| line.starts_with('|')) {
            assert!(matches!(row.matches('|').count(), 3..=7), "{row}");
        }
        let row = out.lines().find(|line| line.contains("renamed")).unwrap();
        assert_eq!(row.matches('|').count(), 5, "{row}");
        // Outside code spans no bracket, tag or mention is left alone.
        let line = out.lines().find(|line| line.starts_with("  - \\!")).unwrap();
        assert!(
            line.contains("\\[x\\](") && line.contains("\\<img") && line.contains("\\@\u{2060}ann"),
            "{line}"
        );
    }

    #[test]
    fn long_lists_are_capped_and_counted() {
        let mut report = sample::report();
        report.changed_files =
            (0..250).map(|n| sample::change(&format!("f{n}"), ChangeKind::Added)).collect();
        let out = render(&report);
        assert!(out.contains("## Changed files (250)") && out.contains("50 more changes stand in"), "{out}");
    }
}
