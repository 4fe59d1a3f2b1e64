//! The backend: started in its sandbox, its streams captured and interpreted, its requests settled, its end seen.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use proctor_sandbox::launch::Launcher;
use proctor_sandbox::seed::Seed;
use serde_json::json;
use tokio::sync::mpsc;

use super::approve::{Answer, Approver, Request};
use super::interrupt::Interrupt;
use super::level::Chosen;
use super::log::RunLog;
use super::plan::Plan;
use super::progress::Ui;
use super::sandbox::{self, StartError, Started, Wanted};
use super::settle;
use super::supervise::{self, Ask, Finish, MAX_REQUESTS, Settle, Settling, Times, supervise};
use super::view;
use super::watch::Watched;
use crate::capture::tail::LineTail;
use crate::capture::{Capture, CaptureEnd, output_pipe};
use crate::engine::{Engine, Said, Stream};
use crate::event::{EventType, NewEvent, Source};
use crate::evidence::{ArtifactError, EvidenceDir, STDERR, STDOUT, payload};
use crate::profile::MutationMode;
use crate::verdict::{ApprovalOutcome, EngineEnd, ProviderFailure};

/// What the adapters heard beside events.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The last terminal event.
    pub end: Option<EngineEnd>,
    /// Provider failures it spoke of.
    pub provider: Vec<ProviderFailure>,
}

/// A settled request.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    /// What was asked.
    pub request: Request,
    /// `backend` or `supervisor`.
    pub asked_by: &'static str,
    /// What became of it.
    pub answer: Answer,
}

/// A backend that ran.
pub(super) struct BackendRun {
    /// The sandbox, dead by now; its layer can be read.
    pub started: Started,
    /// How it ended.
    pub finish: Result<Finish, String>,
    /// What its streams came to.
    pub captured: [(&'static str, CaptureEnd); 2],
    /// What it said.
    pub heard: Heard,
    /// Requests it made.
    pub settled: Vec<Settled>,
    /// What was seen of it from below; `None` where nobody watched.
    pub watched: Option<Result<Watched, String>>,
}

/// Why it did not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum BackendError {
    /// No pipe or thread.
    #[error("{0}")]
    Capture(String),
    /// No raw log: the directory remembers that.
    #[error(transparent)]
    Artifact(ArtifactError),
    /// The sandbox or the program.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// What a backend's run needs from the run.
pub(super) struct Needs<'a> {
    /// The launcher.
    pub launcher: &'a Launcher,
    /// The plan.
    pub plan: &'a Plan,
    /// The run's id.
    pub run_id: &'a str,
    /// Bytes of host memory.
    pub memory: u64,
    /// The level of every sandbox of the run.
    pub level: &'a Chosen,
    /// Hidden paths that exist.
    pub hidden: Vec<std::path::PathBuf>,
    /// Where the raw logs go.
    pub evidence: &'a EvidenceDir,
    /// The event log.
    pub log: &'a Arc<RunLog>,
    /// Who answers.
    pub approver: &'a Approver,
    /// Who is shown progress.
    pub ui: &'a Arc<dyn Ui>,
}

struct StreamReader {
    name: &'static str,
    capture: Capture,
    adapter: JoinHandle<std::io::Result<()>>,
}

/// Runs the backend to its end.
///
/// # Errors
/// It was not started.
pub(super) async fn run(needs: Needs<'_>, interrupt: &mut Interrupt) -> Result<BackendRun, BackendError> {
    let options = &needs.plan.resolved.options;
    let io = |what: &str| {
        let what = what.to_owned();
        move |e: std::io::Error| BackendError::Capture(format!("{what}: {e}"))
    };
    let (out_read, out_write) = output_pipe().map_err(io("a pipe for standard output"))?;
    let (err_read, err_write) = output_pipe().map_err(io("a pipe for standard error"))?;
    let (stdin, answers) = standard_input(needs.plan.start.answers).map_err(io("standard input"))?;

    let heard = Arc::new(Mutex::new(Heard::default()));
    let (over_send, over) = mpsc::unbounded_channel();
    let (ask_send, mut asks) = mpsc::unbounded_channel();
    let mut readers = Vec::new();
    for (stream, name, pipe) in [(Stream::Stdout, STDOUT, out_read), (Stream::Stderr, STDERR, err_read)] {
        let artifact = |error: ArtifactError| {
            needs.evidence.fail(error.clone());
            BackendError::Artifact(error)
        };
        let raw = needs.evidence.create_raw(name).map_err(artifact)?;
        let read_again = needs.evidence.open(name).map_err(artifact)?;
        let over = over_send.clone();
        let capture = Capture::start(pipe, raw, b"", options.limits.max_log, move || {
            // The supervisor may be past caring.
            let _ = over.send(name.to_owned());
        })
        .map_err(io("a capture thread"))?;
        let tail = LineTail::new(read_again, capture.progress());
        let adapter =
            interpret(needs.plan.engine.as_ref(), stream, tail, needs.log, &heard, ask_send.clone())
                .map_err(io("an adapter thread"))?;
        readers.push(StreamReader { name, capture, adapter });
    }
    drop(ask_send);

    let env = {
        let mut also = needs.plan.start.env.clone();
        if let Some(task) = &options.task {
            also.push(("PROCTOR_TASK".into(), task.clone()));
        }
        view::environment(&[&needs.plan.resolved.engine.env, &options.env], &also)
    };
    let wanted = Wanted {
        role: "backend",
        argv: needs.plan.start.argv.clone(),
        env,
        mounts: needs.plan.backend_mounts.clone(),
        files: needs.plan.start.files.clone(),
        net: options.net,
        writable: options.mutation != MutationMode::None,
        hidden: needs.hidden.clone(),
        tree_seed: Seed::new(),
        stdio: vec![stdin, out_write, err_write],
        level: needs.level.level,
        terminal: false,
        stop: interrupt.flag(),
    };
    let mut started = match sandbox::start(needs.launcher, needs.plan, needs.run_id, needs.memory, wanted) {
        Ok(started) => started,
        Err(e) => {
            for reader in readers {
                end_reader(reader, needs.evidence, needs.log);
            }
            return Err(e.into());
        }
    };
    announce(&needs, &started);
    let settler = Settler {
        approver: needs.approver,
        log: needs.log,
        engine: needs.plan.engine.as_ref(),
        answers,
        settled: Mutex::new(Vec::new()),
    };
    let times = Times {
        wall: options.timeouts.wall,
        idle: Some(options.timeouts.idle),
        grace: options.timeouts.grace,
    };
    let watched = supervise::Watched {
        running: Arc::clone(&started.running),
        progress: readers.iter().map(|r| r.capture.progress()).collect(),
        over,
        asks: Some((&mut asks, &settler as &dyn Settle)),
        memory: started.watch_memory,
        disk: started.disk_watch.clone(),
    };
    let finish = supervise(watched, times, interrupt, needs.ui.as_ref()).await.map_err(|e| e.to_string());
    if finish.is_err() {
        started.running.kill();
    }
    let watched = started.watch.take().map(|watch| watch.finish());
    let mut ends = readers.into_iter().map(|reader| end_reader(reader, needs.evidence, needs.log));
    let (Some(out), Some(err)) = (ends.next(), ends.next()) else {
        return Err(BackendError::Capture("a stream was lost".into()));
    };
    // The adapters are done: what was asked and is not settled now never will be.
    let mut unanswered = finish.as_ref().map(|f| f.unanswered.clone()).unwrap_or_default();
    while let Ok(ask) = asks.try_recv() {
        unanswered.push(ask);
    }
    for ask in unanswered {
        settler.never(&ask);
    }
    let settled = settler.settled.into_inner().unwrap_or_else(PoisonError::into_inner);
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(BackendRun { started, finish, captured: [out, err], heard, settled, watched })
}

fn announce(needs: &Needs<'_>, started: &Started) {
    let enforced = started.running.enforced();
    let sandbox = settle::sandbox_info(
        Some(started),
        needs.plan.resolved.options.net,
        needs.level.why_not_full.as_deref(),
    );
    needs.log.emit(payload::sandbox_ready(&sandbox).with("landlock_abi", enforced.landlock_abi));
    let argv: Vec<String> = needs.plan.start.argv.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    needs.log.emit(
        NewEvent::new(EventType::BackendStarted, Source::Supervisor)
            .with("engine", needs.plan.resolved.options.engine.clone())
            .with("argv", argv),
    );
    // Whoever looks at the log while the backend runs sees that it does.
    needs.log.flush();
}

/// `/dev/null`, or a pipe by which answers come.
fn standard_input(answers: bool) -> std::io::Result<(OwnedFd, Option<OwnedFd>)> {
    if !answers {
        return Ok((std::fs::File::open("/dev/null")?.into(), None));
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // A backend that does not read its answers must not hold the supervisor up.
    let flags = rustix::fs::fcntl_getfl(&write)?;
    rustix::fs::fcntl_setfl(&write, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok((read, Some(write)))
}

fn end_reader(reader: StreamReader, evidence: &EvidenceDir, log: &RunLog) -> (&'static str, CaptureEnd) {
    let end = reader.capture.finish();
    match reader.adapter.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => evidence.fail_read(reader.name, &error),
        Err(_) => {
            log.defect(format!("the adapter of {} panicked: events and requests may be missing", reader.name))
        }
    }
    match &end.error {
        Some(error) => evidence.fail_write(reader.name, error),
        // Remembered by the directory where it fails.
        None => drop(evidence.adopt(reader.name, &end.sha256, end.size)),
    }
    (reader.name, end)
}

fn interpret(
    engine: &dyn Engine,
    stream: Stream,
    tail: LineTail,
    log: &Arc<RunLog>,
    heard: &Arc<Mutex<Heard>>,
    asks: mpsc::UnboundedSender<Ask>,
) -> std::io::Result<JoinHandle<std::io::Result<()>>> {
    let asked = AtomicUsize::new(0);
    let adapter = Mutex::new(engine.adapter(stream));
    let log = Arc::clone(log);
    let heard = Arc::clone(heard);
    std::thread::Builder::new().name(format!("adapter-{}", stream.as_str())).spawn(move || {
        let take = |said: Vec<Said>| {
            for one in said {
                match one {
                    Said::Event(mut event) => {
                        if event.event_type == EventType::ApprovalRequested {
                            event.call_id = event.call_id.as_deref().map(request_id);
                        }
                        log.emit(event);
                    }
                    Said::Ask { id, subject } => {
                        // One more than anybody answers is enough to be stopped for; a flood needs no queue.
                        if asked.fetch_add(1, Ordering::Relaxed) <= MAX_REQUESTS {
                            let _ = asks.send(Ask { id, subject });
                        }
                    }
                    Said::End(end) => heard.lock().unwrap_or_else(PoisonError::into_inner).end = Some(end),
                    Said::Provider(failure) => {
                        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                        if heard.provider.len() < 100 {
                            heard.provider.push(failure);
                        }
                    }
                }
            }
        };
        tail.run(
            |line| {
                let mut said = Vec::new();
                adapter.lock().unwrap_or_else(PoisonError::into_inner).line(line, &mut said);
                take(said);
            },
            || {
                let mut said = Vec::new();
                adapter.lock().unwrap_or_else(PoisonError::into_inner).idle(&mut said);
                take(said);
            },
        )
    })
}

struct Settler<'a> {
    approver: &'a Approver,
    log: &'a RunLog,
    engine: &'a dyn Engine,
    answers: Option<OwnedFd>,
    settled: Mutex<Vec<Settled>>,
}

impl Settle for Settler<'_> {
    fn settle<'a>(&'a self, ask: Ask) -> Settling<'a> {
        Box::pin(async move {
            let request = Request::about(&request_id(&ask.id), &ask.subject);
            let answer = self.approver.settle(&request).await;
            self.log.emit(answer_event(&request, &answer));
            let bytes = self.engine.answer(&ask.id, answer.granted());
            if let Some(pipe) = &self.answers {
                // A backend that is gone, or that does not read, gets no answer, which is no grant.
                let _ = rustix::io::write(pipe, &bytes);
            }
            self.settled.lock().unwrap_or_else(PoisonError::into_inner).push(Settled {
                request,
                asked_by: "backend",
                answer,
            });
        })
    }
}

impl Settler<'_> {
    /// A request for whose answer nobody waits any more.
    fn never(&self, ask: &Ask) {
        let request = Request::about(&request_id(&ask.id), &ask.subject);
        let answer = self.approver.last_look(&request);
        self.log.emit(answer_event(&request, &answer));
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).push(Settled {
            request,
            asked_by: "backend",
            answer,
        });
    }
}

/// The id of a backend's request in events, reports and answer logs: kept apart from the supervisor's own.
fn request_id(id: &str) -> String {
    format!("backend/{id}")
}

/// The event that says what became of a request.
pub(super) fn answer_event(request: &Request, answer: &Answer) -> NewEvent {
    let event_type = if answer.granted() { EventType::ApprovalGranted } else { EventType::ApprovalDenied };
    let source = if answer.by == "policy" { Source::Supervisor } else { Source::Operator };
    let mut event = NewEvent::new(event_type, source)
        .call(request.id.clone())
        .with("id", request.id.clone())
        .with("subject", request.subject.clone())
        .with("subject_sha256", request.subject_sha256.clone())
        .with("decided_by", answer.by.clone());
    if answer.outcome == ApprovalOutcome::Expired {
        event = event.with("reason", json!("no answer in time"));
    } else if let Some(reason) = &answer.reason {
        event = event.with("reason", reason.clone());
    }
    event
}
