//! The sandbox used alone: `cargo run --example alone -- [--watch] [--landlock] DIRECTORY PROGRAM [ARG…]` runs a
//! program with the directory as its work tree, then lists what it left in the upper layer and which mechanisms were in
//! force. With `--watch` it says which programs were executed, which calls refused and which connections tried. With
//! `--landlock` nothing is mounted: the directory is taken for a private copy, and is written.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use proctor_sandbox::launch::{Descriptors, Launcher};
use proctor_sandbox::notify::Served;
use proctor_sandbox::spec::{Identity, Level, Limits, Mount, Network, Program, SandboxSpec, Store, Tree};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Before anything else: the launcher is forked from a process without threads.
    let launcher = Launcher::start()?;
    let mut args = std::env::args_os().skip(1).peekable();
    let watched = args.next_if_eq("--watch").is_some();
    let level = if args.next_if_eq("--landlock").is_some() { Level::Landlock } else { Level::Full };
    let tree = PathBuf::from(args.next().ok_or("usage: alone DIRECTORY PROGRAM [ARG…]")?).canonicalize()?;
    let meta = tree.metadata()?;
    let own = nix::unistd::geteuid().as_raw();
    // Root gives the program an unprivileged host uid; a user can only give its own.
    let host = if own == 0 { 2_000_000_000 } else { own };
    let host_gid = if own == 0 { host } else { nix::unistd::getegid().as_raw() };
    let mut view = Vec::new();
    if level == Level::Full {
        view.push(Mount::Private { target: "/tmp".into(), mode: 0o1777 });
        view.push(Mount::Private { target: "/home/agent".into(), mode: 0o700 });
    }
    for dir in ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/alternatives"] {
        let path = PathBuf::from(dir);
        if let Ok(to) = path.read_link() {
            if level == Level::Full {
                view.push(Mount::Symlink { link: path, to });
            }
        } else if path.exists() {
            view.push(Mount::Bind { source: path.clone(), target: path, writable: false });
        }
    }
    let spec = SandboxSpec {
        level,
        program: Some(Program {
            argv: args.collect(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("HOME".into(), "/home/agent".into())],
            cwd: tree.clone(),
        }),
        identity: Identity { inside_uid: 1000, inside_gid: 1000, host_uid: host, host_gid },
        view,
        files: vec![],
        tree: Some(Tree {
            path: tree,
            dev: meta.dev(),
            ino: meta.ino(),
            uid: meta.uid(),
            gid: meta.gid(),
            writable: true,
            hidden: if level == Level::Full { vec![".env".into()] } else { vec![] },
        }),
        network: Network::None,
        hostname: "sandbox".into(),
        watched,
        watch_paths: false,
        log_denials: false,
        limits: Limits { disk: 1 << 30, inodes: 100_000, tasks: 512, open_files: 1024, file_size: None },
        store: Store::Memory,
    };
    let stdio: Vec<OwnedFd> = vec![
        std::fs::File::open("/dev/null")?.into(),
        nix::unistd::dup(std::io::stdout())?,
        nix::unistd::dup(std::io::stderr())?,
    ];
    let running = launcher.launch(&spec, Descriptors { stdio, ..Descriptors::default() })?;
    let watching = running.notifier().map(|mut notifier| {
        std::thread::spawn(move || {
            loop {
                match notifier.serve(Duration::from_secs(1)) {
                    Ok(Served::Report(report)) => {
                        let _ = writeln!(std::io::stderr(), "{:?}", report.what);
                    }
                    Ok(Served::Nothing) => {}
                    Ok(Served::Over) | Err(_) => break,
                }
            }
        })
    });
    let ended = running.wait()?;
    if let Some(watching) = watching {
        watching.join().map_err(|_| "the watching thread panicked")?;
    }
    let mut out = std::io::stderr().lock();
    writeln!(out, "{ended:?}")?;
    writeln!(out, "{:?}", running.enforced().mechanisms())?;
    if level == Level::Landlock {
        return Ok(());
    }
    writeln!(out, "{:?}", running.disk_usage()?)?;
    let upper = running.upper_layer()?;
    let mut dir = nix::dir::Dir::from_fd(upper)?;
    for entry in dir.iter() {
        writeln!(out, "upper: {:?}", entry?.file_name())?;
    }
    Ok(())
}
