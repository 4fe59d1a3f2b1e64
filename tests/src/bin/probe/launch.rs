//! Starts of the sandbox itself that must fail: the sandbox crate's own errors, seen by a caller without threads.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proctor_sandbox::error::LaunchError;
use proctor_sandbox::launch::{Descriptors, Launcher};
use proctor_sandbox::notify::Served;
use proctor_sandbox::running::{Ended, Running};
use proctor_sandbox::seed::Seed;
use proctor_sandbox::spec::{
    Identity, InjectedFile, Level, Limits, Mount, Network, Program, SandboxSpec, Store, Tree,
};

/// Runs a case and says what came of it.
pub(crate) fn case(args: &[String]) -> String {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let [name, dir, rest @ ..] = words.as_slice() else { return "usage".into() };
    if *name == "threads" {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv().is_ok());
        let result = Launcher::start().map(drop);
        drop(stop);
        let _ = thread.join();
        return told(result);
    }
    let launcher = match Launcher::start() {
        Ok(launcher) => launcher,
        Err(e) => return format!("no launcher: {e}"),
    };
    let dir = PathBuf::from(dir);
    let mut spec = plain(&dir);
    match (*name, rest) {
        ("works" | "bad-seed", _) => {}
        ("missing-source", _) => {
            let gone = dir.join("not-there");
            spec.view.push(Mount::Bind { source: gone, target: "/data".into(), writable: false });
        }
        ("linked-source", _) => {
            let link = dir.join("link");
            spec.view.push(Mount::Bind { source: link, target: "/data".into(), writable: false });
        }
        ("missing-program", _) => spec.program = Some(program(&["not-a-program"], &dir)),
        ("not-executable", _) => {
            spec.program = Some(program(&[&dir.join("tree/file").to_string_lossy()], &dir));
        }
        ("swapped-tree", _) => {
            if let Some(tree) = &mut spec.tree {
                tree.ino += 1;
            }
        }
        ("host-uid", _) => spec.identity.host_uid += 1,
        ("inside-root", _) => spec.identity.inside_uid = 0,
        ("file-over-mount", _) => {
            let content = b"overwritten".to_vec();
            spec.view.push(Mount::Bind { source: dir.join("host"), target: "/data".into(), writable: true });
            spec.files.push(InjectedFile { path: "/data/victim".into(), mode: 0o444, content });
        }
        ("masked-through-link", _) => {
            spec.view.push(Mount::Bind { source: dir.clone(), target: "/data".into(), writable: false });
            spec.view.push(Mount::Mask { target: "/data/link/victim".into() });
        }
        ("bad-cwd", _) => spec.program = Some(program(&["true"], Path::new("/not/there"))),
        ("dead-launcher", _) => {
            // The launcher is this process's only child.
            let me = std::process::id();
            let children =
                std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap_or_default();
            let pid = children.trim().parse::<i32>().unwrap_or(-1);
            if pid > 1 {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
        // An attack inside, with the filter's refusals made by the kernel or by a listener that is served.
        ("unwatched" | "watched", [attack]) => {
            let Ok(own) = std::env::current_exe() else { return "no path to the probe".into() };
            spec.watched = *name == "watched";
            spec.program = Some(program(&[&own.to_string_lossy(), "--one", attack], &dir.join("tree")));
            let place = own.parent().unwrap_or(Path::new("/")).to_owned();
            spec.view.push(Mount::Bind { source: place.clone(), target: place, writable: false });
            return ended(&launcher, &spec);
        }
        _ => return "no such case".into(),
    }
    let mut seed = Seed::new();
    if *name == "bad-seed" {
        // Before the overlay is mounted it would be one; through the overlay it is no operation.
        let _ = seed.opaque_dir(b"new", 0o755);
    }
    let result = launch(&launcher, &spec, seed);
    told(result)
}

/// How the program of a sandbox ended.
fn ended(launcher: &Launcher, spec: &SandboxSpec) -> String {
    let running = match start(launcher, spec, Seed::new()) {
        Ok(running) => running,
        Err(e) => return told(Err(e)),
    };
    let serving = running.notifier().map(|mut notifier| {
        std::thread::spawn(move || while !matches!(notifier.serve(LONG), Ok(Served::Over) | Err(_)) {})
    });
    if serving.is_some() != spec.watched {
        return "a listener that was not asked for, or none".into();
    }
    let ended = running.wait();
    if let Some(serving) = serving {
        let _ = serving.join();
    }
    match ended {
        Ok(Ended { code: Some(code), .. }) => format!("code {code}"),
        Ok(Ended { signal: Some(signal), .. }) => format!("signal {signal}"),
        Ok(ended) => format!("{ended:?}"),
        Err(e) => told(Err(e)),
    }
}

/// Between two looks of a served listener at whether it is over.
const LONG: Duration = Duration::from_secs(1);

fn launch(launcher: &Launcher, spec: &SandboxSpec, tree_seed: Seed) -> Result<(), LaunchError> {
    start(launcher, spec, tree_seed)?.wait().map(drop)
}

fn start(launcher: &Launcher, spec: &SandboxSpec, tree_seed: Seed) -> Result<Running, LaunchError> {
    let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let (Ok(stdin), Ok(stdout), Ok(stderr)) = (null(), null(), null()) else {
        return Err(LaunchError::Launcher("no /dev/null".into()));
    };
    let stdio = vec![stdin, stdout, stderr];
    launcher.launch(spec, Descriptors { stdio, tree_seed, ..Descriptors::default() })
}

fn told(result: Result<(), LaunchError>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(LaunchError::Step(e)) => format!("step {:?} errno {:?}: {e}", e.step, e.errno()),
        Err(e @ LaunchError::Exec { .. }) => format!("exec: {e}"),
        Err(e @ LaunchError::Spec(_)) => format!("spec: {e}"),
        Err(e @ LaunchError::Launcher(_)) => format!("launcher: {e}"),
        Err(e @ LaunchError::Shortfall(_)) => format!("shortfall: {e}"),
    }
}

fn program(argv: &[&str], cwd: &Path) -> Program {
    Program {
        argv: argv.iter().map(Into::into).collect(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: cwd.to_owned(),
    }
}

/// A sandbox that works: `dir/tree` as its work tree.
fn plain(dir: &Path) -> SandboxSpec {
    let path = dir.join("tree");
    let meta = std::fs::metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let own = nix::unistd::geteuid().as_raw();
    let host_uid = if own == 0 { 2_100_000_000 } else { own };
    let host_gid = if own == 0 { host_uid } else { nix::unistd::getegid().as_raw() };
    let mut view = vec![Mount::Private { target: "/tmp".into(), mode: 0o1777 }];
    for dir in ["/usr", "/bin", "/sbin", "/lib", "/lib64"] {
        let path = PathBuf::from(dir);
        if let Ok(to) = path.read_link() {
            view.push(Mount::Symlink { link: path, to });
        } else if path.exists() {
            view.push(Mount::Bind { source: path.clone(), target: path, writable: false });
        }
    }
    SandboxSpec {
        level: Level::Full,
        program: Some(program(&["true"], &path)),
        identity: Identity { inside_uid: 1000, inside_gid: 1000, host_uid, host_gid },
        view,
        files: vec![],
        tree: Some(Tree {
            dev: meta.dev(),
            ino: meta.ino(),
            uid: meta.uid(),
            gid: meta.gid(),
            path,
            writable: true,
            hidden: vec![],
        }),
        network: Network::None,
        hostname: "probe".into(),
        watched: false,
        watch_paths: false,
        log_denials: false,
        limits: Limits { disk: 1 << 24, inodes: 10_000, tasks: 64, open_files: 256, file_size: None },
        store: Store::Memory,
    }
}
