//! The sandbox library alone: one launcher, many sandboxes, each with overlay, Landlock and seccomp.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use proctor_sandbox::launch::{Descriptors, Launcher};
use proctor_sandbox::spec::{Identity, Level, Limits, Mount, Network, Program, SandboxSpec, Store, Tree};
use serde_json::Value;

use crate::stats::{Subject, interleaved};
use crate::{Bench, Result, WORKER, noop};

fn specification(tree: &Path, network: Network) -> Result<SandboxSpec> {
    let meta = tree.metadata()?;
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut view = vec![
        Mount::Private { target: "/tmp".into(), mode: 0o1777 },
        Mount::Private { target: "/home/agent".into(), mode: 0o700 },
    ];
    for dir in ["/usr", "/bin", "/sbin", "/lib", "/lib64"] {
        let path = PathBuf::from(dir);
        if let Ok(to) = path.read_link() {
            view.push(Mount::Symlink { link: path, to });
        } else if path.exists() {
            view.push(Mount::Bind { source: path.clone(), target: path, writable: false });
        }
    }
    Ok(SandboxSpec {
        level: Level::Full,
        program: Some(Program {
            argv: vec!["true".into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            cwd: tree.to_owned(),
        }),
        identity: Identity { inside_uid: 1000, inside_gid: 1000, host_uid: own.0, host_gid: own.1 },
        view,
        files: vec![],
        tree: Some(Tree {
            path: tree.to_owned(),
            dev: meta.dev(),
            ino: meta.ino(),
            uid: meta.uid(),
            gid: meta.gid(),
            writable: true,
            hidden: vec![],
        }),
        network,
        hostname: "sandbox".into(),
        watched: false,
        watch_paths: false,
        log_denials: false,
        limits: Limits { disk: 1 << 30, inodes: 100_000, tasks: 512, open_files: 1024, file_size: None },
        store: Store::Memory,
    })
}

/// Starts one sandbox for each line read (`none` or `host`, its network), and answers with nanoseconds: from the call
/// to the death of the last process and the end of everything held for it. A process of its own, because the
/// launcher must be forked before there are threads.
pub(crate) fn worker(args: &[OsString]) -> Result<()> {
    let launcher = Launcher::start()?;
    let [tree] = args else { return Err("the worker needs a tree".into()) };
    let tree = Path::new(tree).canonicalize()?;
    let specs = [specification(&tree, Network::None)?, specification(&tree, Network::Host)?];
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    for line in std::io::stdin().lock().lines() {
        let spec = &specs[usize::from(line? == "host")];
        let streams = (0..3).map(|_| null.try_clone().map(OwnedFd::from));
        let stdio = streams.collect::<std::io::Result<Vec<_>>>()?;
        let start = Instant::now();
        let running = launcher.launch(spec, Descriptors { stdio, ..Descriptors::default() })?;
        let ended = running.wait()?;
        drop(running);
        let took = start.elapsed();
        if ended.code != Some(0) {
            return Err(format!("true ended with {ended:?}").into());
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", took.as_nanos())?;
        out.flush()?;
    }
    Ok(())
}

struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(mut command: Command) -> Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".into());
        };
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn once(&mut self, network: &str) -> Result<Duration> {
        writeln!(self.input, "{network}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let nanos = line.trim().parse().map_err(|_| "the worker ended; see its message above")?;
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The library against bubblewrap, with a network namespace of its own and with the host's.
pub(crate) fn run(bench: &Bench<'_>) -> Result<Value> {
    let tree = noop::tree(bench, "library", 100)?;
    let mut command = bench.command(std::env::current_exe()?, &tree);
    command.arg(WORKER).arg(&tree);
    let worker = std::cell::RefCell::new(Worker::start(command)?);
    let mut shared = bench.command("bwrap", &tree);
    shared.args(["--unshare-all", "--share-net", "--ro-bind", "/", "/"]);
    shared.args(["--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev", "true"]);
    interleaved(
        "sandbox library",
        0,
        bench.rounds,
        vec![
            Subject::command("bwrap, all namespaces, tmp proc dev", noop::bwrap(bench, &tree, true)),
            Subject::command("bwrap, the same, host's network", shared),
            Subject::new("launch, wait, drop", || worker.borrow_mut().once("none")),
            Subject::new("launch, wait, drop, host's network", || worker.borrow_mut().once("host")),
        ],
    )
}
