//! Answers to requests for approval: by policy, on the controlling terminal, or from an answer log that grows. A
//! backend and a reviewer never answer: nothing they can write is read here.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::progress::Ui;
use super::state_dirs::Place;
use crate::event::hex;
use crate::profile::Approvals;
use crate::report::escape;
use crate::verdict::ApprovalOutcome;

/// The largest answer log that is read.
const MAX_LOG: u64 = 1 << 20;
/// Between two looks at the log.
const POLL: Duration = Duration::from_millis(50);

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its id.
    pub id: String,
    /// What about, for people.
    pub subject: String,
    /// SHA-256 of exactly what it is about.
    pub subject_sha256: String,
}

impl Request {
    /// A request about a text.
    pub fn about(id: &str, subject: &str) -> Self {
        Self {
            id: id.to_owned(),
            subject: subject.to_owned(),
            subject_sha256: hex::encode(&Sha256::digest(subject)),
        }
    }
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// For the verdict.
    pub outcome: ApprovalOutcome,
    /// Who answered; `policy` where nobody was asked or nobody answered.
    pub by: String,
    /// What they gave as reason.
    pub reason: Option<String>,
}

impl Answer {
    fn denied(by: &str) -> Self {
        Self { outcome: ApprovalOutcome::Denied { by: by.to_owned() }, by: by.to_owned(), reason: None }
    }

    /// Whether it was granted.
    pub fn granted(&self) -> bool {
        self.outcome == ApprovalOutcome::Granted
    }
}

/// A line of the answer log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    run_id: String,
    request_id: String,
    subject_sha256: String,
    decision: Decision,
    by: String,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Grant,
    Deny,
}

/// An answer log, opened once.
struct AnswerLog {
    file: File,
    used: HashSet<usize>,
}

/// Why nobody could be asked. Nothing ran.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    /// The answer log.
    #[error(
        "--approvals {path}: {why}; make an empty regular file outside the work tree before the start, and append answers to it"
    )]
    Log {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The terminal.
    #[error(
        "--approvals ask: there is no controlling terminal ({0}); use --approvals deny or --approvals FILE"
    )]
    Terminal(std::io::Error),
}

enum Way {
    Deny,
    Terminal,
    Log(Mutex<AnswerLog>),
}

/// Whoever answers in this run.
pub struct Approver {
    run_id: String,
    way: Way,
    timeout: Duration,
    ui: Arc<dyn Ui>,
}

impl Approver {
    /// Opens what answers come by. `writable` are the host paths that some sandbox of the run can write.
    ///
    /// # Errors
    /// There is no terminal, or no such log.
    pub fn new(
        how: &Approvals,
        tree: &Path,
        writable: &[PathBuf],
        run_id: &str,
        timeout: Duration,
        ui: Arc<dyn Ui>,
    ) -> Result<Self, ApproveError> {
        let way = match how {
            Approvals::Deny => Way::Deny,
            Approvals::Ask => {
                File::open("/dev/tty").map_err(ApproveError::Terminal)?;
                Way::Terminal
            }
            Approvals::File(path) => Way::Log(Mutex::new(open_log(path, tree, writable)?)),
        };
        Ok(Self { run_id: run_id.to_owned(), way, timeout, ui })
    }

    /// What becomes of a request whose backend ended before anybody looked for an answer: one that stands in the log
    /// by now was given, a policy that denies whatever is asked denies it all the same, and anybody else was not asked.
    pub fn last_look(&self, request: &Request) -> Answer {
        let outcome = match &self.way {
            Way::Deny => ApprovalOutcome::Denied { by: "policy".to_owned() },
            Way::Terminal => ApprovalOutcome::Unsettled,
            Way::Log(log) => match self.look(log, request) {
                Some(answer) => return answer,
                None => ApprovalOutcome::Unsettled,
            },
        };
        let reason = "the backend ended without waiting for an answer";
        Answer { outcome, by: "policy".to_owned(), reason: Some(reason.to_owned()) }
    }

    /// Waits for an answer, at most as long as answers may take.
    pub async fn settle(&self, request: &Request) -> Answer {
        match &self.way {
            Way::Deny => Answer::denied("policy"),
            Way::Terminal => self.on_terminal(request).await,
            Way::Log(log) => {
                self.ui.say(&format!(
                    "approval wanted: {} ({}); answer by appending to the answer log:\n  {}",
                    escape::terminal(&request.subject),
                    escape::terminal(&request.id),
                    self.template(request)
                ));
                self.read_log(log, request).await
            }
        }
    }

    fn template(&self, request: &Request) -> String {
        serde_json::json!({
            "run_id": self.run_id,
            "request_id": request.id,
            "subject_sha256": request.subject_sha256,
            "decision": "grant",
            "by": "NAME",
        })
        .to_string()
    }

    async fn read_log(&self, log: &Mutex<AnswerLog>, request: &Request) -> Answer {
        let until = Instant::now() + self.timeout;
        loop {
            if let Some(answer) = self.look(log, request) {
                return answer;
            }
            if Instant::now() >= until {
                return Answer { outcome: ApprovalOutcome::Expired, by: "policy".into(), reason: None };
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The first unused line that is about exactly this request. Lines that are no answers count for nothing.
    fn look(&self, log: &Mutex<AnswerLog>, request: &Request) -> Option<Answer> {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let size = log.file.metadata().ok()?.size().min(MAX_LOG);
        let mut bytes = vec![0u8; size as usize];
        log.file.read_exact_at(&mut bytes, 0).ok()?;
        let complete = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        for (number, line) in bytes[..complete].split(|b| *b == b'\n').enumerate() {
            let Ok(line) = serde_json::from_slice::<Line>(line) else {
                continue;
            };
            let about = line.run_id == self.run_id
                && line.request_id == request.id
                && line.subject_sha256 == request.subject_sha256;
            if !about || log.used.contains(&number) {
                continue;
            }
            log.used.insert(number);
            let outcome = match line.decision {
                Decision::Grant => ApprovalOutcome::Granted,
                Decision::Deny => ApprovalOutcome::Denied { by: line.by.clone() },
            };
            return Some(Answer { outcome, by: line.by, reason: line.reason });
        }
        None
    }

    async fn on_terminal(&self, request: &Request) -> Answer {
        let (send, receive) = tokio::sync::oneshot::channel();
        // Not a letter that somebody may have typed for another purpose: four digits of what is granted.
        let word: String = request.subject_sha256.chars().take(4).collect();
        let prompt = format!(
            "\napproval wanted: {}\n  request {}  sha256 {}\ntype {word} to grant, anything else denies: ",
            escape::terminal(&request.subject),
            escape::terminal(&request.id),
            request.subject_sha256
        );
        self.ui.hold(true);
        let limit = self.timeout;
        let spawned = std::thread::Builder::new().name("ask".into()).spawn(move || {
            let _ = send.send(ask(&prompt, &word, limit));
        });
        if spawned.is_err() {
            self.ui.hold(false);
            return Answer::denied("policy");
        }
        let answered = receive.await;
        self.ui.hold(false);
        let by = format!("uid:{}", rustix::process::getuid().as_raw());
        match answered {
            Ok(Ok(Some(true))) => Answer { outcome: ApprovalOutcome::Granted, by, reason: None },
            Ok(Ok(Some(false))) => Answer::denied(&by),
            Ok(Ok(None)) => Answer { outcome: ApprovalOutcome::Expired, by: "policy".into(), reason: None },
            Ok(Err(_)) | Err(_) => Answer::denied("policy"),
        }
    }
}

/// Asks on the terminal, and waits for a line at most as long as allowed; `None` where none came. What was typed before
/// the question counts for nothing.
fn ask(prompt: &str, word: &str, limit: Duration) -> std::io::Result<Option<bool>> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    rustix::termios::tcflush(&terminal, rustix::termios::QueueSelector::IFlush)?;
    (&terminal).write_all(prompt.as_bytes())?;
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec::try_from(left).map_err(std::io::Error::other)?;
        let mut fds = [PollFd::new(&terminal, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut line = String::new();
    BufReader::new((&terminal).take(256)).read_line(&mut line)?;
    Ok(Some(line.trim() == word))
}

fn open_log(path: &Path, tree: &Path, writable: &[PathBuf]) -> Result<AnswerLog, ApproveError> {
    let failed = |why: String| ApproveError::Log { path: path.display().to_string(), why };
    let file = File::open(path).map_err(|e| failed(e.to_string()))?;
    let meta = file.metadata().map_err(|e| failed(e.to_string()))?;
    if !meta.is_file() {
        return Err(failed("it is no regular file".into()));
    }
    if meta.nlink() != 1 {
        return Err(failed("it has another name (a hard link), by which a backend might write it".into()));
    }
    if meta.mode() & 0o002 != 0 {
        return Err(failed("everybody may write it (chmod o-w)".into()));
    }
    let own = Place::of(path).map_err(|e| failed(e.to_string()))?;
    let inside =
        |dir: &Path| Place::of(dir).map(|place| place.overlaps(&own)).map_err(|e| failed(e.to_string()));
    if inside(tree)? {
        return Err(failed(
            "it is inside the work tree, where a backend's copy could be mistaken for it".into(),
        ));
    }
    for dir in writable {
        if inside(dir)? {
            let why = format!("a backend can write it through the mount {}", dir.display());
            return Err(failed(why));
        }
    }
    Ok(AnswerLog { file, used: HashSet::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::progress::Silent;

    fn approver(path: &Path, timeout: Duration) -> Approver {
        let how = Approvals::File(path.to_owned());
        Approver::new(&how, Path::new("/nonexistent"), &[], "r-1", timeout, Arc::new(Silent)).unwrap()
    }

    fn line(request: &Request, run: &str, decision: &str) -> String {
        format!(
            "{{\"run_id\":\"{run}\",\"request_id\":\"{}\",\"subject_sha256\":\"{}\",\"decision\":\"{decision}\",\"by\":\"ann\"}}\n",
            request.id, request.subject_sha256
        )
    }

    fn settle(approver: &Approver, request: &Request) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(approver.settle(request))
    }

    #[test]
    fn an_answer_counts_once_for_its_run_and_subject_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let request = Request::about("a1", "delete the database");
        let other = Request { subject_sha256: "00".into(), ..request.clone() };
        let text = [
            "not json\n".to_owned(),
            line(&request, "r-2", "grant"),
            line(&other, "r-1", "grant"),
            line(&request, "r-1", "grant"),
        ];
        std::fs::write(file.path(), text.concat()).unwrap();
        let approver = approver(file.path(), Duration::from_millis(120));
        let answer = settle(&approver, &request);
        assert!(answer.granted());
        assert_eq!(answer.by, "ann");
        assert_eq!(settle(&approver, &request).outcome, ApprovalOutcome::Expired, "used already");
    }

    #[test]
    fn what_was_answered_when_the_backend_ended_is_answered_and_who_denies_everything_denies_the_rest() {
        let request = Request::about("1", "push");
        let deny =
            Approver::new(&Approvals::Deny, Path::new("/x"), &[], "r-1", POLL, Arc::new(Silent)).unwrap();
        assert_eq!(deny.last_look(&request).outcome, ApprovalOutcome::Denied { by: "policy".into() });
        let file = tempfile::NamedTempFile::new().unwrap();
        let approver = approver(file.path(), POLL);
        assert_eq!(approver.last_look(&request).outcome, ApprovalOutcome::Unsettled);
        std::fs::write(file.path(), line(&request, "r-1", "grant")).unwrap();
        assert_eq!(approver.last_look(&request).outcome, ApprovalOutcome::Granted);
        assert_eq!(approver.last_look(&request).outcome, ApprovalOutcome::Unsettled, "used already");
    }

    #[test]
    fn a_line_without_its_end_is_not_yet_an_answer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let request = Request::about("a1", "x");
        let text = line(&request, "r-1", "deny");
        std::fs::write(file.path(), text.trim_end()).unwrap();
        let approver = approver(file.path(), Duration::from_millis(120));
        assert_eq!(settle(&approver, &request).outcome, ApprovalOutcome::Expired);
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(settle(&approver, &request).outcome, ApprovalOutcome::Denied { by: "ann".into() });
    }

    #[test]
    fn a_log_that_is_missing_or_in_the_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().canonicalize().unwrap();
        let error = |path: &Path| match open_log(path, &tree, &[]) {
            Err(e) => e.to_string(),
            Ok(_) => panic!("taken"),
        };
        assert!(error(&tree.join("none")).contains("make an empty regular file"));
        std::fs::write(tree.join("log"), "").unwrap();
        assert!(error(&tree.join("log")).contains("inside the work tree"));
        let shared = tempfile::tempdir().unwrap();
        let log = shared.path().join("log");
        std::fs::write(&log, "").unwrap();
        let with = |writable: &[PathBuf]| open_log(&log, &tree, writable).err().map(|e| e.to_string());
        assert_eq!(with(&[]), None);
        assert!(
            with(&[shared.path().to_owned()]).unwrap().contains("a backend can write it through the mount")
        );
        std::fs::hard_link(&log, shared.path().join("other")).unwrap();
        assert!(with(&[]).unwrap().contains("hard link"));
        std::fs::remove_file(shared.path().join("other")).unwrap();
        std::fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert!(with(&[]).unwrap().contains("chmod o-w"));
    }

    proptest::proptest! {
        /// Whatever stands in an answer log, only an exact line grants: of this run, request and subject, whole.
        #[test]
        fn nothing_but_an_exact_line_grants(
            noise in proptest::collection::vec(0..=255_u8, 0..120),
            at in proptest::prelude::any::<proptest::sample::Index>(),
            with in 0..=255_u8,
        ) {
            let request = Request::about("a1", "delete the database");
            let good = line(&request, "r-1", "grant").into_bytes();
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut bytes = noise;
            bytes.push(b'\n');
            let mut changed = good.clone();
            let place = at.index(changed.len());
            changed[place] = with;
            bytes.extend_from_slice(&changed);
            std::fs::write(file.path(), &bytes).unwrap();
            let approver = approver(file.path(), Duration::ZERO);
            let granted = settle(&approver, &request).granted();
            // Who answered may be anybody: the name alone can differ in a line that still grants.
            let same = |key: &str| {
                let of = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok().map(|v| v[key].clone());
                of(&changed) == of(&good)
            };
            let whole = ["run_id", "request_id", "subject_sha256", "decision"].into_iter().all(same);
            proptest::prop_assert!(!granted || (whole && changed.ends_with(b"\n")));
        }
    }
}
