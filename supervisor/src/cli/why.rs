//! `proctor why PATH|HOST`: would this be allowed in the backend's sandbox, and by which rule. Starts nothing.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use serde_json::json;

use super::output;
use super::run::{Prepared, prepare};
use super::run_args::RunArgs;
use crate::evidence::new_run_id;
use crate::exit::ExitCode;
use crate::profile::Level;
use crate::report::escape::terminal as safe;
use crate::run::access::{self, Goes, HostAnswer, PathAnswer, Verdict, Word};
use crate::run::plan::Plan;

/// Options of `proctor why`.
#[derive(Debug, Args)]
#[command(
    after_help = "A word with a slash, or that names something here, is a path (write ./NAME to be sure); what looks like a
host name, an address, HOST:PORT or a URL is a host. The answer is about the backend's sandbox of a run with the same options.

Examples:
  proctor why src/main.rs --deny-change 'src/**'
  proctor why ~/.cargo/registry --view rust
  proctor why registry.npmjs.org:443"
)]
pub(super) struct WhyArgs {
    /// A path, as the backend would name it from here, or a host
    #[arg(value_name = "PATH|HOST")]
    what: OsString,
    #[command(flatten)]
    run: RunArgs,
}

/// What was asked about.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Path,
    Host(String, Option<u16>),
}

/// Answers.
pub(super) fn run(args: WhyArgs, json: bool) -> ExitCode {
    let WhyArgs { what, run: mut options } = args;
    options.command_or_shell();
    let here = match std::env::current_dir() {
        Ok(here) => here,
        Err(e) => return output::error(format_args!("the current directory: {e}"), ExitCode::Usage),
    };
    let asked = match asked(&what, &here) {
        Ok(asked) => asked,
        Err(why) => return output::error(why, ExitCode::Usage),
    };
    let Prepared { env, resolved, .. } = match prepare(options) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let plan = match new_run_id()
        .map_err(|e| e.to_string())
        .and_then(|id| Plan::new(resolved, &env, &id).map_err(|e| e.to_string()))
    {
        Ok(plan) => plan,
        Err(e) => return output::error(e, ExitCode::Usage),
    };
    if plan.resolved.options.min_level == Level::Landlock {
        // Which level a run gets is known when it is tried.
        output::note(
            "this is about level full; where a run gets level landlock, overlays are read-only, paths that are not shown can be looked up and not read, and nothing private has the path that is asked about (`proctor explain` lists the rest)",
        );
    }
    match asked {
        Asked::Host(host, port) => {
            let answer = access::host(&plan, &host, port);
            if json {
                output::json(&json!({ "kind": "host", "level": "full", "answer": answer }));
            } else {
                output::line(people_host(&answer).trim_end());
            }
        }
        Asked::Path => {
            let answer = match access::path(&plan, &access::absolute(&what, &here)) {
                Ok(answer) => answer,
                Err(why) => return output::error(why, ExitCode::Usage),
            };
            if json {
                output::json(&json!({ "kind": "path", "level": "full", "answer": answer }));
            } else {
                output::line(people_path(&answer).trim_end());
            }
        }
    }
    ExitCode::Pass
}

/// A path or a host.
fn asked(what: &OsStr, here: &Path) -> Result<Asked, String> {
    let Some(text) = what.to_str() else { return Ok(Asked::Path) };
    if text.is_empty() {
        return Err("there is nothing to ask about; give a path or a host".into());
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = host_port(authority)?.ok_or_else(|| format!("`{text}` names no host"))?;
        let usual = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            "ssh" => Some(22),
            "git" => Some(9418),
            _ => None,
        };
        return Ok(Asked::Host(host, port.or(usual)));
    }
    let names_something = std::fs::symlink_metadata(here.join(what)).is_ok();
    if text.contains('/') || text.starts_with(['.', '~']) || names_something {
        return Ok(Asked::Path);
    }
    Ok(host_port(text)?.map_or(Asked::Path, |(host, port)| Asked::Host(host, port)))
}

/// Host and port; `None` where it looks like neither.
fn host_port(text: &str) -> Result<Option<(String, Option<u16>)>, String> {
    let is_address = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
    if is_address(text) {
        return Ok(Some((text.to_owned(), None)));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let name = !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        });
    if !name && !is_address(host) {
        return Ok(None);
    }
    let port = match port {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(format!("`{port}` is no port; a port is a number from 1 to 65535")),
        },
    };
    // One word is a host only where it says so: with a dot, a port, or as the one name that everybody has.
    let known =
        host.contains('.') || port.is_some() || is_address(host) || host.eq_ignore_ascii_case("localhost");
    Ok(known.then(|| (host.to_owned(), port)))
}

fn said(word: &Word) -> String {
    let yes = match word.allowed {
        Some(true) => "yes",
        Some(false) => "no",
        None => "depends",
    };
    format!("{yes}: {}", safe(&word.why))
}

fn by(layer: Option<&String>) -> String {
    layer.map(|layer| format!(" (said by: {})", safe(layer))).unwrap_or_default()
}

fn people_host(answer: &HostAnswer) -> String {
    let port = answer.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "host       {}{port}\nconnect    {}{}\n",
        safe(&answer.host),
        said(&answer.connect),
        by(answer.said_by.as_ref())
    )
}

fn people_path(answer: &PathAnswer) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!("path       {}", safe(&answer.asked.to_string_lossy())));
    for link in &answer.links {
        line(format!(
            "  link     {} -> {}",
            safe(&link.link.to_string_lossy()),
            safe(&link.to.to_string_lossy())
        ));
    }
    if !answer.links.is_empty() {
        line(format!("  leads to {}", safe(&answer.path.to_string_lossy())));
    }
    line(format!("inside     {}{}", safe(&answer.shown), by(answer.said_by.as_ref())));
    if answer.exists == Some(false) {
        line("           there is nothing of this name at the start".into());
    }
    line(format!("read       {}", said(&answer.read)));
    let goes = match answer.goes_to {
        Some(Goes::Host) => " [host]",
        Some(Goes::Overlay) => " [overlay]",
        Some(Goes::Private) => " [private]",
        None => "",
    };
    line(format!("write      {}{goes}", said(&answer.write)));
    if let Some(change) = &answer.change {
        let verdict = match change.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Disallowed => "NOT ALLOWED (disallowed_file)",
            Verdict::NeedsApproval => "allowed with the operator's approval",
            Verdict::Ignored => "dropped",
            Verdict::NotCarried => "carried nowhere",
            Verdict::ByFile => "a directory: each file in it is judged by its own path",
            Verdict::Impossible => "impossible",
        };
        line(format!("change     {verdict}"));
        for reason in &change.reasons {
            line(format!("  {:<8} {}{}", reason.rule, safe(&reason.message), by(reason.said_by.as_ref())));
        }
        if change.steers_tests {
            line("  it would be listed among the changes that steer the tests".into());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: Option<u16>) -> Asked {
        Asked::Host(name.to_owned(), port)
    }

    #[test]
    fn paths_and_hosts_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("example.org"), "").unwrap();
        let asked = |text: &str| asked(OsStr::new(text), dir.path());
        for text in
            ["src/a", "/etc/passwd", ".env", "..", "~", "~/x", "Makefile", "example.org", "a b.c", "a..b"]
        {
            assert_eq!(asked(text), Ok(Asked::Path), "{text}");
        }
        for (text, expected) in [
            ("crates.io", host("crates.io", None)),
            ("crates.io:443", host("crates.io", Some(443))),
            ("gateway:8080", host("gateway", Some(8080))),
            ("localhost", host("localhost", None)),
            ("127.0.0.1", host("127.0.0.1", None)),
            ("::1", host("::1", None)),
            ("[::1]:80", host("::1", Some(80))),
            ("https://user@crates.io/x?y", host("crates.io", Some(443))),
            ("http://[::1]:8080/", host("::1", Some(8080))),
            ("ssh://git.example:2222/r", host("git.example", Some(2222))),
        ] {
            assert_eq!(asked(text), Ok(expected), "{text}");
        }
        for (text, error) in [
            ("", "there is nothing to ask about; give a path or a host"),
            ("crates.io:0", "`0` is no port; a port is a number from 1 to 65535"),
            ("crates.io:70000", "`70000` is no port; a port is a number from 1 to 65535"),
            ("https:///path", "`https:///path` names no host"),
        ] {
            assert_eq!(asked(text), Err(error.to_owned()), "{text}");
        }
    }
}
