//! `proctor verify` of directories and repositories that somebody made to harm whoever verifies them: everything is
//! refused in words, bounded in time and memory, and nothing of it steers a terminal.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use ::proctor::event::hex;
use harness::{Outcome, TestRepo, World, users};
use sha2::{Digest as _, Sha256};

use crate::proctor;
use crate::support::{each, outside, passes, sh};
use crate::verify::{copy, forge, report};

fn evidence(repo: &TestRepo<'_>) -> (Outcome, PathBuf) {
    let outcome =
        sh(repo, &["--test", "sh check.sh"], "echo hello; sed -i s/broken/mended/ src/value.txt").run();
    passes(&outcome, repo);
    let dir = copy(&outcome, repo, "hostile");
    (outcome, dir)
}

/// Verifies; what is said must be safe to see, whatever it is.
fn call(repo: &TestRepo<'_>, dir: &Path, more: &[&str]) -> Outcome {
    let said = proctor(repo.world()).args(["verify", "--timeout", "5m"]).arg(dir).args(more).run();
    let odd = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!said.stderr.contains(odd) && !said.stdout.contains(odd), "{said:#?}");
    assert!(said.stderr.len() < 200_000, "{}", said.stderr.len());
    said
}

fn refused(repo: &TestRepo<'_>, dir: &Path, more: &[&str], why: &str) {
    let said = call(repo, dir, more);
    assert_eq!(said.code, Some(4), "{why}: {said:#?}");
    assert!(said.stderr.contains(why), "{why}: {said:#?}");
}

/// Puts an artifact's content in place, with its size and digest in the manifest.
fn put(dir: &Path, name: &str, write: impl FnOnce(&mut dyn Write)) {
    let path = dir.join(name);
    let mut out = BufWriter::new(std::fs::File::create(&path).unwrap());
    write(&mut out);
    out.flush().unwrap();
    drop(out);
    let bytes = std::fs::read(&path).unwrap();
    let mut edited = report(dir);
    for one in edited.digest_manifest.iter_mut().filter(|one| one.name == name) {
        one.digest.sha256 = hex::encode(&Sha256::digest(&bytes));
        one.annotations.size = bytes.len() as u64;
    }
    forge(dir, &mut edited);
}

/// Writes the same bytes again and again.
fn repeat(out: &mut dyn Write, bytes: &[u8], times: usize) {
    let many = bytes.repeat(4096);
    for _ in 0..times / 4096 {
        out.write_all(&many).unwrap();
    }
    out.write_all(&bytes.repeat(times % 4096)).unwrap();
}

#[test]
fn a_path_that_is_no_directory_is_said_to_be_none_and_nobody_waits_on_it() {
    each(|repo| {
        let world = repo.world();
        let file = world.write("file", "x");
        let fifo = world.path("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        std::os::unix::fs::symlink("loop", world.path("loop")).unwrap();
        for path in
            [file, fifo, world.path("loop"), world.path("nowhere"), "/dev/zero".into(), "/dev/tty".into()]
        {
            refused(repo, &path, &[], ".: cannot be opened: ");
        }
        // A directory of nothing, of others, of too much.
        std::fs::create_dir(world.path("empty")).unwrap();
        refused(repo, &world.path("empty"), &[], "report.json: is missing");
        refused(repo, Path::new("/etc"), &[], "report.json: is missing");
    });
}

#[test]
fn too_many_entries_are_not_listed() {
    let world = World::new(users()[0]);
    let repo = TestRepo::small(&world);
    let (_, dir) = evidence(&repo);
    for at in 0..100_000 {
        std::fs::write(dir.join(format!("{at}")), b"").unwrap();
    }
    refused(&repo, &dir, &[], ".: holds more than 1000 entries");
}

#[test]
fn texts_made_to_break_their_readers_are_refused() {
    type Make = fn(&mut dyn Write);
    let rows: &[(&str, Make, &str)] = &[
        ("decision.json", |out| repeat(out, b"[", 1_000_000), "decision.json: is no decision/v1: "),
        ("decision.json", |out| repeat(out, b"{\"a\":", 200_000), "decision.json: is no decision/v1: "),
        ("decision.json", |out| repeat(out, b" ", 17 << 20), "decision.json: has 17825792 bytes, more than"),
        (
            "decision.json",
            |out| out.write_all(br#"{"kind":"ungoverned","kind":"recorded"}"#).unwrap(),
            "decision.json: is no decision/v1: duplicate field `kind`",
        ),
        ("events.normalized.jsonl", |out| repeat(out, b"[", 1_000_000), "line 1: is no event: "),
        ("events.normalized.jsonl", |out| repeat(out, b"[", 100 << 20), "is longer than a line may be"),
        ("events.normalized.jsonl", |out| repeat(out, b"{\"data\":", 8_000), "line 1: is no event: "),
        ("events.normalized.jsonl", |out| repeat(out, b"{}\n", 1_000_002), "line 1: is no event: "),
        (
            "events.normalized.jsonl",
            |out| repeat(out, b"\0\n\xff\x1b[2J\n", 100_000),
            "line 1: is no event: ",
        ),
        (
            "trace.jsonl",
            |out| repeat(out, b" ", 100 << 20),
            "trace.jsonl: line 1 is cut, or longer than 16777216",
        ),
        ("trace.jsonl", |out| repeat(out, b"{\"resourceSpans\":[", 500_000), "trace.jsonl: line 1"),
        (
            "trace.jsonl",
            |out| repeat(out, b"{\"resourceSpans\":[]}\n", 2_000_000),
            "trace.jsonl: says of programs",
        ),
        ("test.log", |out| repeat(out, b"# end: {}\n", 100_000), "test.log: its first line is not"),
        ("test.log", |out| repeat(out, b"\x1b]0;x\x07", 1_000), "test.log: its first line is not"),
        (
            "patch.diff",
            |out| repeat(out, b"@@ -0,0 +1,99999999999999999999 @@\n", 100_000),
            "patch.diff: is no patch",
        ),
        ("patch.diff", |out| repeat(out, b"diff --git a/x b/x\n", 300_000), "patch.diff: is no patch"),
        ("patch.diff", |out| repeat(out, b"diff --git \"a/\\", 100_000), "patch.diff: is no patch"),
        (
            "review.log",
            |out| out.write_all(b"x").unwrap(),
            "review.log: the manifest does not name this file",
        ),
    ];
    let world = World::new(users()[0]);
    let repo = TestRepo::small(&world);
    let (outcome, _) = evidence(&repo);
    for (name, make, why) in rows {
        let dir = copy(&outcome, &repo, "hostile");
        put(&dir, name, make);
        refused(&repo, &dir, &["--repo", repo.path().to_str().unwrap()], why);
    }
}

#[test]
fn reports_made_to_break_their_reader_are_refused() {
    type Edit = fn(&str) -> Vec<u8>;
    let rows: &[(Edit, &str)] = &[
        (|_| b"[".repeat(10_000_000), "report.json: report.json is no report"),
        (|_| b"{\"a\":".repeat(1_000_000), "report.json: report.json is no report"),
        (|_| vec![0; 64 << 20], "report.json: report.json is no report"),
        (|_| vec![b' '; (64 << 20) + 1], "report.json: has 67108865 bytes, more than the"),
        (
            |text| text.replacen("\"exit_code\": 0", "\"exit_code\": 1e999", 1).into(),
            "report.json is no report",
        ),
        (|text| text.replacen("\"exit_code\": 0", "\"exit_code\": -0", 1).into(), "report.json"),
        (
            |text| {
                text.replacen("\"exit_code\": 0", "\"exit_code\": 99999999999999999999999999999", 1).into()
            },
            "report.json is no report",
        ),
        (
            |text| text.replacen("\"exit_code\": 0", "\"exit_code\": 0,\n  \"exit_code\": 0", 1).into(),
            "report.json is no report of schema report/v1: duplicate field `exit_code`",
        ),
        (
            |text| text.replacen("  \"run_id\"", "  \"\\u0072un_id\"", 1).into(),
            "is not in the form in which Proctor writes it",
        ),
        (|text| text.replace('\n', "\r\n").into(), "is not in the form in which Proctor writes it"),
        (|text| [b"\xef\xbb\xbf", text.as_bytes()].concat(), "report.json is no report"),
        (
            |text| text.replacen("\"run_id\": \"", "\"run_id\": \"\\u001b[2J\\u202e\\n::error::", 1).into(),
            "the run id \\\"\\\\u{1b}[2J",
        ),
        (
            // Blockers that are nothing, as many as there is room for.
            |text| {
                let one = r#"{"code":"no_diff","message":"","detail":null,"remedy":""}"#;
                let all = vec![one; (60 << 20) / (one.len() + 1)].join(",");
                text.replacen("\"blockers\": []", &format!("\"blockers\": [{all}]"), 1).into()
            },
            "not ",
        ),
    ];
    let world = World::new(users()[0]);
    let repo = TestRepo::small(&world);
    let (_, dir) = evidence(&repo);
    let sound = std::fs::read_to_string(dir.join("report.json")).unwrap();
    for (edit, why) in rows {
        let bytes = edit(&sound);
        assert_ne!(bytes, sound.as_bytes(), "{why}");
        let line = format!("{}  report.json\n", hex::encode(&Sha256::digest(&bytes)));
        std::fs::write(dir.join("report.json"), bytes).unwrap();
        std::fs::write(dir.join("report.json.sha256"), line).unwrap();
        let said = call(&repo, &dir, &[]);
        assert_eq!(said.code, Some(4), "{why}: {said:#?}");
        assert!(said.stderr.contains(&why.replace("\\\"", "\"")), "{why}: {said:#?}");
    }
}

#[test]
fn what_changes_while_it_is_read_is_never_a_crash() {
    let world = World::new(users()[0]);
    let repo = TestRepo::small(&world);
    let (outcome, dir) = evidence(&repo);
    let sound: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let (away, link) = (world.path("away"), world.path("link"));
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                for (path, bytes) in &sound {
                    let other: &[u8] = match round % 3 {
                        0 => bytes,
                        1 => &[&bytes[..], b"more\n"].concat(),
                        _ => &bytes[..bytes.len() / 2],
                    };
                    // The directory may be somewhere else by now.
                    let _ = std::fs::write(path, other);
                }
                // The directory, and in its place a link to another; and back.
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let at = rustix::fs::CWD;
                if rustix::fs::renameat_with(at, &dir, at, &link, exchange).is_ok() {
                    rustix::fs::renameat_with(at, &dir, at, &link, exchange).unwrap();
                }
            }
        });
        let held = ["--repo", repo.path().to_str().unwrap()];
        for at in 0..40 {
            // With a repository the patch is read a second time.
            let said = call(&repo, &dir, if at % 2 == 0 { &held } else { &[] });
            assert!(matches!(said.code, Some(0 | 4)), "{said:#?}");
            assert!(!said.stderr.contains("not verified"), "{said:#?}");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(!away.exists());
    passes(&outcome, &repo);
}

#[test]
fn a_repository_without_the_base_is_said_to_be_without_it() {
    each(|repo| {
        let (_, dir) = evidence(repo);
        let base = report(&dir).base_commit.unwrap();
        let other = TestRepo::new(repo.world(), "other", &[("a", "a\n")]);
        let path = other.path().display().to_string();
        refused(repo, &dir, &["--repo", &path], &format!("patch.diff: the base commit {base} is not in "));
        refused(repo, &dir, &["--repo", &path], &format!("fetch it there (`git fetch REMOTE {base}`)"));
        let said = call(repo, &dir, &["--repo", repo.world().path("home").to_str().unwrap()]);
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(
            said.stderr.contains("--repo: ") && said.stderr.contains("is not inside a git work tree"),
            "{said:#?}"
        );
        // A later commit, a linked work tree, a clone that borrows its objects: the base is there.
        outside(
            repo,
            "git commit -q --allow-empty -m later; git worktree add -q ../linked HEAD; git clone -q -s . ../shared",
        );
        for name in [".", "../linked", "../shared"] {
            let path = repo.path().join(name).display().to_string();
            let said = call(repo, &dir, &["--repo", &path]);
            assert_eq!(said.code, Some(0), "{name}: {said:#?}");
            assert!(said.stderr.contains("the patch gives the result tree"), "{said:#?}");
        }
    });
}

#[test]
fn a_hostile_repository_reaches_nothing_and_is_bounded() {
    // What is done to the repository, the exit code, and what is said.
    let rows: &[(&str, i32, &str)] = &[
        ("mv .git/objects ../objects; ln -s ../../objects .git/objects", 2, "--repo: "),
        ("echo /etc > .git/objects/info/alternates", 2, "which is no object directory"),
        ("echo \"$PWD\" > .git/objects/info/alternates", 2, "which is no object directory"),
        ("echo .. > .git/objects/info/alternates", 2, "--repo: "),
        ("ln -s /etc/passwd .git/objects/info/x", 2, "a symbolic link inside a git directory"),
        ("mkfifo .git/objects/info/x", 2, "is no regular file"),
        ("rm .git/config; mkfifo .git/config", 4, "--repo: "),
        ("rm .git/config; ln -s /etc/passwd .git/config", 4, "a symbolic link inside a git directory"),
        (
            "printf '[core]\\n\\trepositoryformatversion = 7\\n' > .git/config",
            4,
            "core.repositoryformatversion",
        ),
        ("printf '[core]\\n\\tworktree = /etc\\n' > .git/config", 4, "core.worktree"),
        ("rm -rf .git; echo gitdir: /etc > .git", 2, "--repo: "),
        ("mv .git ../elsewhere; echo gitdir: ../elsewhere > .git", 4, "which does not name this work tree"),
        (
            "git repack -qad; chmod u+w .git/objects/pack/*; for f in .git/objects/pack/*.pack; do printf '\\377' | dd of=$f bs=1 seek=40 conv=notrunc status=none; done",
            4,
            "patch.diff: ",
        ),
        (
            "git repack -qad; chmod u+w .git/objects/pack/*; for f in .git/objects/pack/*.idx; do truncate -s 100 $f; done",
            4,
            "patch.diff: ",
        ),
        (
            "git repack -qad; chmod u+w .git/objects/pack/*; for f in .git/objects/pack/*.pack; do truncate -s 1T $f; done",
            0,
            "the patch gives the result tree",
        ),
        (
            "git config core.fsmonitor 'touch ../ran'; git config filter.x.clean 'touch ../ran'; git config core.hooksPath ../hooks; echo '* filter=x' > .git/info/attributes",
            0,
            "the patch gives the result tree",
        ),
    ];
    each(|repo| {
        let (_, dir) = evidence(repo);
        for (script, code, why) in rows {
            outside(repo, "rm -rf ../copy ../objects ../elsewhere ../ran; cp -a . ../copy");
            outside(repo, &format!("cd ../copy; {script}"));
            let path = repo.world().path("copy").display().to_string();
            let said = call(repo, &dir, &["--repo", &path]);
            assert_eq!(said.code, Some(*code), "{script}: {said:#?}");
            assert!(said.stderr.contains(why), "{script}: {why}: {said:#?}");
            assert!(!said.stderr.contains("root:"), "{said:#?}");
            assert!(!repo.world().path("ran").exists(), "{script}");
        }
    });
}

/// A pack whose one delta says that it makes `says` bytes of a small base; with its index, by git.
const BOMB: &str = r#"
import hashlib, struct, sys, zlib
says, out = int(sys.argv[1]), sys.argv[2]
def head(kind, size):
    bytes_ = bytearray([(kind << 4) | (size & 15)]); size >>= 4
    while size:
        bytes_[-1] |= 128; bytes_.append(size & 127); size >>= 7
    return bytes(bytes_)
def varint(n):
    all = bytearray()
    while True:
        all.append(n & 127); n >>= 7
        if not n: return bytes(all)
        all[-1] |= 128
base = b'x' * 65535
name = hashlib.sha1(b'blob 65535\0' + base).digest()
copy = bytes([0x80 | 0x10 | 0x20, 0xff, 0xff])
delta = varint(len(base)) + varint(says) + copy * (says // 65535)
pack = b'PACK' + struct.pack('>II', 2, 2)
pack += head(3, len(base)) + zlib.compress(base)
pack += head(7, len(delta)) + name + zlib.compress(delta)
open(out, 'wb').write(pack + hashlib.sha1(pack).digest())
"#;

#[test]
fn a_patch_and_a_pack_that_unfold_to_far_more_are_bounded() {
    let world = World::new(users()[0]);
    let repo = TestRepo::small(&world);
    let (outcome, dir) = evidence(&repo);
    let path = repo.path().display().to_string();
    // Zeros that a literal of a patch unpacks to: three gigabytes in some megabytes.
    let script = world.write("bomb.py", "import sys, zlib, base64\nsize = int(sys.argv[1])\nz = zlib.compressobj(9)\ndata = b''.join([z.compress(bytes(1 << 20)) for _ in range(size >> 20)]) + z.flush()\nout = open(sys.argv[2], 'wb')\nout.write(b'diff --git a/b b/b\\nnew file mode 100644\\nindex ' + b'0' * 40 + b'..' + b'1' * 40 + b'\\nGIT binary patch\\nliteral %d\\n' % size)\nfor at in range(0, len(data), 52):\n    part = data[at:at + 52]\n    n = len(part)\n    mark = bytes([n + 64]) if n <= 26 else bytes([n + 70])\n    out.write(mark + base64.b85encode(part, pad=True) + b'\\n')\nout.write(b'\\nliteral 0\\nHcmV?d00001\\n\\n')\n");
    let bomb = world.path("bomb.diff");
    let made =
        Command::new("python3").arg(script).arg((3_u64 << 30).to_string()).arg(&bomb).status().unwrap();
    assert!(made.success());
    let bytes = std::fs::read(&bomb).unwrap();
    assert!(bytes.len() < 8 << 20, "{}", bytes.len());
    put(&dir, "patch.diff", |out| out.write_all(&bytes).unwrap());
    let why = "patch.diff: the patch is not one that this program writes: line ";
    refused(&repo, &dir, &["--repo", &path, "--memory", "1G"], why);

    // A blob of the base that a delta makes of nearly nothing. The report names its object as the base commit.
    let script = world.write("pack.py", BOMB);
    let dir = copy(&outcome, &repo, "hostile");
    for (says, why) in [(65535_u64 * 40_000, "more than the"), (65535 * 1_000, "is a blob, not a commit")] {
        let pack = world.path("bomb.pack");
        let made = Command::new("python3").arg(&script).arg(says.to_string()).arg(&pack).status().unwrap();
        assert!(made.success());
        outside(
            &repo,
            "rm -rf ../copy; cp -a . ../copy; cd ../copy; cp ../bomb.pack .git/objects/pack/pack-bomb.pack; git index-pack .git/objects/pack/pack-bomb.pack > ../said",
        );
        let listed = Command::new("git")
            .current_dir(world.path("copy"))
            .args(["verify-pack", "-v", ".git/objects/pack/pack-bomb.idx"])
            .output()
            .unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let id = listed
            .lines()
            .find(|line| line.split_whitespace().count() == 7)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let mut edited = report(&dir);
        edited.base_commit = Some(id.to_owned());
        edited.freshness.base_commit = Some(id.to_owned());
        forge(&dir, &mut edited);
        let path = world.path("copy").display().to_string();
        refused(&repo, &dir, &["--repo", &path], &format!("patch.diff: the base commit: object {id}: "));
        refused(&repo, &dir, &["--repo", &path], why);
    }
}
