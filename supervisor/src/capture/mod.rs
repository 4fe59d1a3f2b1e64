//! Raw logs: what a program wrote, byte for byte, hashed in the same pass that writes it.
//!
//! A [`Capture`] is one thread for one pipe. It never waits for whoever interprets the output: adapters read the
//! finished part of the log file behind it ([`tail::LineTail`]), so a slow or broken adapter cannot hold the backend
//! up or change a byte. Nothing here knows what the bytes mean.

pub mod tail;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use sha2::{Digest, Sha256};

use crate::event::hex;

/// Bytes of one read.
const BUFFER: usize = 64 << 10;
/// Wanted size of the pipe, in bytes; the kernel may give less.
const PIPE: usize = 1 << 20;

/// What others may look at while the capture runs.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    written: AtomicU64,
    /// Milliseconds since `started` at which the last byte came.
    last_byte: AtomicU64,
    over: AtomicBool,
    done: AtomicBool,
    changed: Mutex<()>,
    wake: Condvar,
}

impl Progress {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            written: AtomicU64::new(0),
            last_byte: AtomicU64::new(0),
            over: AtomicBool::new(false),
            done: AtomicBool::new(false),
            changed: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Bytes in the log file so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// True once the program has written more than the cap.
    pub fn over_cap(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// True once nothing more will come.
    pub fn done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// When the last byte came (the start, where none has).
    pub fn last_byte(&self) -> Instant {
        self.started + Duration::from_millis(self.last_byte.load(Ordering::Acquire))
    }

    fn notify(&self) {
        // A poisoned lock guards nothing: it only orders the wake-up.
        let _guard = self.changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.wake.notify_all();
    }

    /// Waits until more than `seen` bytes are in the log or nothing more will come; true in the first case.
    pub fn wait_beyond(&self, seen: u64) -> bool {
        let mut guard = self.changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        loop {
            if self.written() > seen {
                return true;
            }
            if self.done() {
                return false;
            }
            guard = self.wake.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// What a capture came to.
#[derive(Debug)]
pub struct CaptureEnd {
    /// Bytes in the log.
    pub size: u64,
    /// SHA-256 of the log, hex.
    pub sha256: String,
    /// Bytes that the program wrote beyond the cap and that are in no log.
    pub beyond_cap: u64,
    /// The first error of writing the log or reading the pipe.
    pub error: Option<io::Error>,
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    progress: Arc<Progress>,
    stop: OwnedFd,
    thread: JoinHandle<Copied>,
}

/// What the thread hands back.
struct Copied {
    log: File,
    hasher: Sha256,
    /// Bytes in the log, what stood before the output included.
    size: u64,
    head: u64,
    last: Option<u8>,
    beyond_cap: u64,
    error: Option<io::Error>,
}

impl Copied {
    fn append(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        match self.log.write_all(bytes) {
            Ok(()) => {
                self.hasher.update(bytes);
                self.size += bytes.len() as u64;
            }
            Err(e) => self.error = Some(e),
        }
    }

    fn end(self) -> CaptureEnd {
        CaptureEnd {
            size: self.size,
            sha256: hex::encode(&self.hasher.finalize()),
            beyond_cap: self.beyond_cap,
            error: self.error,
        }
    }
}

/// A pipe for a program's output: its read end (non-blocking) and its write end, both close-on-exec.
///
/// # Errors
/// pipe2(2) failed.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // A larger pipe is faster, not needed: an unprivileged user may be at its limit.
    let _ = rustix::pipe::fcntl_setpipe_size(&read, PIPE);
    let flags = rustix::fs::fcntl_getfl(&read)?;
    rustix::fs::fcntl_setfl(&read, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok((read, write))
}

impl Capture {
    /// Starts copying `pipe` into `log` behind `head`, at most `cap` bytes; `on_over` is called once when there is
    /// more.
    ///
    /// # Errors
    /// No thread or no stop pipe to be had.
    pub fn start(
        pipe: OwnedFd,
        log: File,
        head: &[u8],
        cap: u64,
        on_over: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (stop_read, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let progress = Arc::new(Progress::new());
        let shared = Arc::clone(&progress);
        let mut copied =
            Copied { log, hasher: Sha256::new(), size: 0, head: 0, last: None, beyond_cap: 0, error: None };
        copied.append(head);
        copied.head = copied.size;
        let thread = std::thread::Builder::new().name("capture".into()).spawn(move || {
            copy(&pipe, &mut copied, cap, &stop_read, &shared, on_over);
            shared.done.store(true, Ordering::Release);
            shared.notify();
            copied
        })?;
        Ok(Self { progress, stop, thread })
    }

    /// The live view.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// To be called when every writer is dead: takes what is still in the pipe and ends, whether or not somebody
    /// still holds the other end open.
    pub fn finish(self) -> CaptureEnd {
        self.finish_framed(|_, _| Vec::new())
    }

    /// As [`Capture::finish`]; what `trailer` makes of the number of bytes of output, and of whether they end in a
    /// line feed (or there are none), is appended to the log.
    pub fn finish_framed(self, trailer: impl FnOnce(u64, bool) -> Vec<u8>) -> CaptureEnd {
        drop(self.stop);
        match self.thread.join() {
            Ok(mut copied) => {
                let bytes = trailer(copied.size - copied.head, copied.last.is_none_or(|b| b == b'\n'));
                copied.append(&bytes);
                copied.end()
            }
            Err(_) => CaptureEnd {
                size: 0,
                sha256: String::new(),
                beyond_cap: 0,
                error: Some(io::Error::other("the capture thread panicked")),
            },
        }
    }
}

fn copy(
    pipe: &OwnedFd,
    copied: &mut Copied,
    cap: u64,
    stop: &OwnedFd,
    progress: &Progress,
    on_over: impl FnOnce(),
) {
    let mut buffer = vec![0u8; BUFFER];
    let mut output = 0u64;
    let mut on_over = Some(on_over);
    let mut stopping = false;
    loop {
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                let keep = usize::try_from(cap - output).unwrap_or(usize::MAX).min(n);
                // After an error of the log the pipe is still drained: a full pipe would stop the backend, and the
                // run is lost anyway.
                if keep > 0 {
                    copied.append(&buffer[..keep]);
                    copied.last = Some(buffer[keep - 1]);
                    output += keep as u64;
                }
                copied.beyond_cap += (n - keep) as u64;
                progress.last_byte.store(progress.started.elapsed().as_millis() as u64, Ordering::Release);
                progress.written.store(copied.size, Ordering::Release);
                progress.notify();
                if n > keep {
                    progress.over.store(true, Ordering::Release);
                    if let Some(call) = on_over.take() {
                        call();
                    }
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if stopping => break,
            Err(rustix::io::Errno::AGAIN) => {
                let mut fds =
                    [PollFd::new(pipe, PollFlags::IN), PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN)];
                match poll(&mut fds, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(e) => {
                        copied.error.get_or_insert(e.into());
                        break;
                    }
                }
                stopping = !fds[1].revents().is_empty();
            }
            Err(e) => {
                copied.error.get_or_insert(e.into());
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(cap: u64) -> (Capture, OwnedFd, tempfile::NamedTempFile) {
        let (read, write) = output_pipe().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let capture = Capture::start(read, file.reopen().unwrap(), b"", cap, || {}).unwrap();
        (capture, write, file)
    }

    #[test]
    fn every_byte_is_written_and_hashed() {
        let (capture, write, file) = capture(1 << 30);
        let data: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
        File::from(write).write_all(&data).unwrap();
        let end = capture.finish();
        assert_eq!(end.size, data.len() as u64);
        assert_eq!(end.beyond_cap, 0);
        assert_eq!(end.sha256, hex::encode(&Sha256::digest(&data)));
        assert_eq!(std::fs::read(file.path()).unwrap(), data);
    }

    #[test]
    fn the_cap_is_exact_and_the_rest_is_counted() {
        let (capture, write, file) = capture(1000);
        let progress = capture.progress();
        File::from(write).write_all(&[b'x'; 5000]).unwrap();
        let end = capture.finish();
        assert_eq!((end.size, end.beyond_cap), (1000, 4000));
        assert!(progress.over_cap());
        assert_eq!(std::fs::metadata(file.path()).unwrap().len(), 1000);
    }

    #[test]
    fn a_frame_is_part_of_the_log_and_not_of_the_cap() {
        let (read, write) = output_pipe().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let capture = Capture::start(read, file.reopen().unwrap(), b"head\n", 4, || {}).unwrap();
        File::from(write).write_all(b"output").unwrap();
        let end = capture.finish_framed(|bytes, newline| format!("|{bytes} {newline}\n").into_bytes());
        let text = std::fs::read(file.path()).unwrap();
        assert_eq!(text, b"head\noutp|4 false\n");
        assert_eq!((end.size, end.beyond_cap), (text.len() as u64, 2));
        assert_eq!(end.sha256, hex::encode(&Sha256::digest(&text)));
    }

    #[test]
    fn a_pipe_that_somebody_holds_open_does_not_hold_the_end_up() {
        let (capture, write, _file) = capture(1000);
        let held = write.try_clone().unwrap();
        File::from(write).write_all(b"last words").unwrap();
        let end = capture.finish();
        assert_eq!(end.size, 10);
        drop(held);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_an_error_and_the_pipe_is_drained() {
        let (read, write) = output_pipe().unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let capture = Capture::start(read, full, b"", 1 << 20, || {}).unwrap();
        File::from(write).write_all(&vec![0u8; 2 << 20]).unwrap();
        assert!(capture.finish().error.is_some());
    }
}
