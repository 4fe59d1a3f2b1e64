//! What a run left, read from its evidence: verdict and events. Whether the evidence holds is `proctor verify`'s to say;
//! here it is only held against a fixture, within limits and without following links.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::evidence::open::Directory;
use crate::evidence::{self, MAX_REPORT};

/// Largest event log that is read, bytes.
const MAX_EVENTS: u64 = 1 << 30;

/// The verdict of a report.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Verdict {
    pub(super) status: String,
    pub(super) exit_code: i32,
    pub(super) blockers: Vec<Raised>,
}

/// One of its blockers.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Raised {
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) detail: Value,
    #[serde(default)]
    pub(super) remedy: String,
}

/// The report's verdict; `None` where there is no report.
pub(super) fn verdict(dir: &Path) -> Result<Option<Verdict>, String> {
    if dir.join(evidence::REPORT).symlink_metadata().is_err() {
        return Ok(None);
    }
    let (file, size) = Directory::open(dir)?.file(evidence::REPORT, MAX_REPORT as u64)?;
    serde_json::from_reader(BufReader::new(file).take(size)).map(Some).map_err(|e| e.to_string())
}

/// What of the event log matters here.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// `SOURCE:TYPE` of each event.
    pub(super) events: BTreeSet<String>,
    /// Codes of `blocker.raised`, in order.
    pub(super) raised: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    event_type: String,
    source: String,
    #[serde(default)]
    data: Code,
}

#[derive(Default, Deserialize)]
struct Code {
    #[serde(default)]
    code: Value,
}

/// Reads the event log.
pub(super) fn log(dir: &Path) -> Result<Log, String> {
    let (file, size) = Directory::open(dir)?.file(evidence::EVENTS, MAX_EVENTS)?;
    let mut log = Log::default();
    for line in BufReader::new(file.take(size)).split(b'\n') {
        let line = line.map_err(|e| e.to_string())?;
        let event: Line = serde_json::from_slice(&line).map_err(|e| e.to_string())?;
        if (event.event_type.as_str(), event.source.as_str()) == ("blocker.raised", "supervisor") {
            log.raised.push(event.data.code.as_str().unwrap_or_default().to_owned());
        }
        let name = format!("{}:{}", event.source, event.event_type);
        if !log.events.contains(&name) {
            log.events.insert(name);
        }
    }
    Ok(log)
}

/// True once the log of a run under way says that its backend has started.
pub(super) fn started(dir: &Path) -> bool {
    let Ok((file, _)) = Directory::open(dir).and_then(|dir| dir.file(evidence::EVENTS, MAX_EVENTS)) else {
        return false;
    };
    // The last line may be half written yet.
    BufReader::new(file).split(b'\n').map_while(Result::ok).any(|line| {
        serde_json::from_slice::<Line>(&line)
            .is_ok_and(|event| event.event_type == "backend.started" && event.source == "supervisor")
    })
}
