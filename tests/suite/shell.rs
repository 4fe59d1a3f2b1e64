//! `proctor shell`: somebody at a terminal, whom a pseudo-terminal plays here.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::{Outcome, Proctor, TestRepo, World, users};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::support::{each, signal, snapshot, untouched};
use crate::{binary, proctor};

const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with `proctor shell` on it.
struct Terminal {
    master: OwnedFd,
    /// Kept open, so that what was written last can be read.
    slave: OwnedFd,
    child: Child,
    text: String,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    fn open(repo: &TestRepo<'_>, options: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        tcsetwinsize(&master, size(33, 101)).unwrap();
        let mut shell = Proctor::through(&["setsid", "-c"], binary(), repo.world())
            .args(["shell", "--repo"])
            .arg(repo.path())
            .args(options)
            .env("TERM", "xterm");
        for set in
            [std::process::Command::stdin, std::process::Command::stdout, std::process::Command::stderr]
        {
            set(shell.command(), Stdio::from(slave.try_clone().unwrap()));
        }
        Self { master, slave, child: shell.spawn(), text: String::new() }
    }

    fn types(&self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let n = rustix::io::write(&self.master, rest).unwrap();
            rest = &rest[n..];
        }
    }

    fn reads(&mut self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).unwrap();
        if poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&limit)).unwrap() == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        let n = rustix::io::read(self.master.as_fd(), &mut buffer).unwrap();
        self.text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        n > 0
    }

    /// Waits until `words` were shown behind what `seen` has waited for, and gives all that was shown up to there.
    fn sees(&mut self, words: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(at) = self.text.find(words) {
                let end = at + words.len();
                let rest = self.text.split_off(end);
                return std::mem::replace(&mut self.text, rest);
            }
            assert!(began.elapsed() < PATIENCE, "{words:?} never came: {:?}", self.text);
            self.reads(Duration::from_millis(100));
        }
    }

    /// The exit code, and what was shown at last.
    fn ends(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        let code = loop {
            // What is written must be read, or it never ends.
            self.reads(Duration::from_millis(20));
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            if began.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("it does not end: {:?}", self.text);
            }
        };
        while self.reads(Duration::from_millis(50)) {}
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "as it was");
        (code, self.text)
    }
}

#[test]
fn it_is_the_backends_sandbox_and_what_is_changed_there_is_thrown_away() {
    each(|repo| {
        let before = snapshot(repo);
        let mut terminal = Terminal::open(repo, &[]);
        let hello = terminal.sees("thrown away, and nothing is judged");
        assert!(hello.contains("the backend's sandbox"), "{hello}");
        terminal.sees("$ ");
        terminal.types("echo changed > src/value.txt; cat src/value.txt; ls /root /home; echo he''re\n");
        let shown = terminal.sees("here");
        assert!(
            shown.contains("\rchanged") && shown.contains("agent") && shown.contains("No such"),
            "{shown}"
        );
        // A terminal of its own, and its controlling one; job control works.
        terminal.types("tty -s && test -t 1 && echo ter''minal; sleep 100 & kill %1 && echo jo''bs; id -u\n");
        let shown = terminal.sees("jobs");
        assert!(shown.contains("terminal\r"), "{shown}");
        terminal.sees("1000\r");
        // Nothing is typed into it from inside.
        terminal.types("perl -e '$x = \"x\"; ioctl(STDIN, 0x5412, $x) or print \"no: $!\\n\"'\n");
        terminal.sees("no: Operation not permitted");
        terminal.types("exit 7\n");
        let (code, shown) = terminal.ends();
        assert_eq!(code, Some(7), "{shown}");
        assert!(shown.contains("its changes were thrown away"), "{shown}");
        untouched(&before, repo);
    });
}

#[test]
fn ctrl_c_goes_inside_and_so_does_the_size_of_the_window() {
    each(|repo| {
        let mut terminal = Terminal::open(repo, &[]);
        terminal.sees("$ ");
        terminal.types("stty size\n");
        terminal.sees("33 101");
        terminal.types("echo wai''ting; sleep 60\n");
        terminal.sees("waiting");
        std::thread::sleep(Duration::from_millis(200));
        terminal.types("\x03");
        terminal.sees("^C");
        terminal.types("echo go''es on $?\n");
        terminal.sees("goes on 130");
        tcsetwinsize(&terminal.master, size(44, 55)).unwrap();
        // Forwarded by a signal, in its own time.
        terminal.types("until stty size | grep -q '^44 55$'; do sleep 0.1; done; echo resi''zed\n");
        terminal.sees("resized");
        terminal.types("exit\n");
        assert_eq!(terminal.ends().0, Some(0));
    });
}

#[test]
fn what_the_inside_prints_does_not_steer_the_operators_terminal() {
    each(|repo| {
        let script =
            r"printf 'a\033]0;title\007b\033]52;c;ZXZpbA==\033\\c\033[6nd\033[31me\033[0m\342\200\256f\n'";
        let mut terminal = Terminal::open(repo, &["--", "sh", "-c", script]);
        let shown = terminal.sees("f\r\n");
        assert!(shown.ends_with("abcd\x1b[31me\x1b[0m\\u{202e}f\r\n"), "{shown:?}");
        let (code, shown) = terminal.ends();
        assert_eq!(code, Some(0));
        // It leaves colours and cursor as they should be.
        assert!(shown.contains("\x1b[0m") && shown.contains("\x1b[?25h"), "{shown:?}");
    });
}

#[test]
fn options_are_those_of_a_run() {
    each(|repo| {
        let world = repo.world();
        let shared = world.write("shared/file", "from outside\n");
        repo.write(".env", "SECRET=1\n");
        let mount = shared.parent().unwrap().display().to_string();
        let script = format!("cat {}; cat .env; echo x > f; echo $COLOUR; exit 3", shared.display());
        let options =
            ["--ro", &mount, "--mutation", "none", "--env", "COLOUR=green", "--", "sh", "-c", &script];
        let terminal = Terminal::open(repo, &options);
        let (code, shown) = terminal.ends();
        assert_eq!(code, Some(3), "{shown}");
        assert!(shown.contains("from outside") && shown.contains("green"), "{shown}");
        assert!(shown.contains("Permission denied") && shown.contains("Read-only file system"), "{shown}");
        assert!(!shown.contains("SECRET"), "{shown}");
    });
}

#[test]
fn a_signal_to_proctor_ends_it() {
    each(|repo| {
        for (sent, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 143)] {
            let mut terminal =
                Terminal::open(repo, &["--", "sh", "-c", "trap '' TERM INT HUP; echo up; sleep 60"]);
            terminal.sees("up\r\n");
            signal(terminal.child.id(), sent);
            let (got, shown) = terminal.ends();
            assert_eq!(got, Some(code), "{shown}");
            assert!(shown.contains("ended by SIG"), "{shown}");
        }
    });
}

#[test]
fn killed_by_a_signal_is_128_and_its_number() {
    each(|repo| {
        let terminal = Terminal::open(repo, &["--", "sh", "-c", "kill -9 $$"]);
        assert_eq!(terminal.ends().0, Some(137));
    });
}

#[test]
fn without_a_terminal_it_is_refused() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let outcome: Outcome = proctor(&world).args(["shell", "--repo"]).arg(repo.path()).run();
        assert_eq!(outcome.code, Some(2), "{outcome:#?}");
        assert!(outcome.stderr.contains("standard input is no terminal"), "{outcome:#?}");
        assert!(outcome.stderr.contains("use `proctor run` for commands"), "{outcome:#?}");
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn a_sandbox_that_is_not_to_be_had_is_no_shell() {
    each(|repo| {
        for (options, code, words) in [
            (&["--", "/nonexistent/program"][..], 2, "/nonexistent/program"),
            (&["--ro", "/nonexistent/dir"][..], 2, "cannot mount /nonexistent/dir"),
            (&["--net", "everything"][..], 2, "everything"),
        ] {
            let (got, shown) = Terminal::open(repo, options).ends();
            assert_eq!(got, Some(code), "{shown}");
            assert!(shown.contains(words), "{shown}");
        }
    });
}

#[test]
fn its_help_has_an_example() {
    let world = World::new(users()[0]);
    let text = proctor(&world).args(["shell", "--help"]).run().stdout;
    assert!(text.contains("Example") && text.contains("proctor shell --view rust"), "{text}");
}
