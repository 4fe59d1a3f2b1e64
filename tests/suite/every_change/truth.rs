//! What a case changes, by a plain shell on a plain copy and by git: base's ignore files and attributes hold, whatever
//! became of them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use harness::{Outcome, TestRepo, World};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use ::proctor::event::hex;

/// The answer.
pub(super) struct Truth {
    /// Git's tree id.
    pub(super) tree: String,
    /// Path bytes and the letter of `git diff --name-status`, without renames.
    pub(super) changes: BTreeSet<(Vec<u8>, char)>,
    /// A repository that has the objects, and the base commit checked out.
    pristine: PathBuf,
}

fn git(world: &World, dir: &Path, args: &[&OsStr], env: &[(&str, &OsStr)], input: &[u8]) -> Vec<u8> {
    let mut command = world.command("git");
    command.current_dir(dir).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("git");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A git that has read enough says so by its exit code.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("git");
    writer.join().expect("the writer");
    // check-ignore says by 1 that nothing is ignored.
    let fine = output.status.success() || (args[0] == "check-ignore" && output.status.code() == Some(1));
    assert!(fine, "git {args:?}: {output:?}");
    output.stdout
}

fn words(text: &str) -> Vec<&OsStr> {
    text.split(' ').map(OsStr::new).collect()
}

fn trimmed(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text").trim().to_owned()
}

fn paths(listed: &[u8]) -> BTreeSet<Vec<u8>> {
    listed.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()
}

/// Bytes of a path in a report.
pub(super) fn bytes_of(path: &Value, b64: &Value) -> Vec<u8> {
    match b64.as_str() {
        Some(text) => base64::engine::general_purpose::STANDARD.decode(text).expect("base64"),
        None => path.as_str().expect("a path").as_bytes().to_vec(),
    }
}

/// A copy with everything in it, as its user makes it.
fn copied(world: &World, from: &Path, name: &str) -> PathBuf {
    let to = world.path(name);
    let status = world.command("cp").arg("-a").arg(from).arg(&to).status().expect("cp");
    assert!(status.success());
    to
}

impl Truth {
    pub(super) fn of(repo: &TestRepo<'_>, script: &str) -> Self {
        let world = repo.world();
        let at = |name: &str| copied(world, repo.path(), name);
        let (pristine, copy) = (at("pristine"), at("copy"));
        // Of a linked work tree git's own directory is elsewhere, and nothing here may change it.
        let git_dir = PathBuf::from(OsString::from_vec(
            git(world, &pristine, &words("rev-parse --absolute-git-dir"), &[], b"").trim_ascii().to_vec(),
        ));
        let common = PathBuf::from(trimmed(git(
            world,
            &pristine,
            &words("rev-parse --path-format=absolute --git-common-dir"),
            &[],
            b"",
        )));
        let own = copied(world, &common, "truth.git");
        std::fs::copy(git_dir.join("HEAD"), own.join("HEAD")).expect("HEAD");
        let base = trimmed(git(world, &pristine, &words("rev-parse HEAD"), &[], b""));

        let mut shell = world.command("sh");
        shell.current_dir(&copy).args(["-c", script]).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = shell.output().expect("sh");
        assert!(output.status.success(), "{script}: {output:?}");
        // What nobody may read is content all the same.
        // (`X` would make programs of files that others may execute.)
        let open = "find . -type d -exec chmod u+rwx {} ';'; find . -type f -exec chmod u+rw {} +";
        let opened = world.command("sh").current_dir(&copy).args(["-c", open]).status().expect("sh");
        assert!(opened.success());

        let index = world.path("truth.index");
        // Whatever part of the tree is checked out, all that is there counts.
        let env: [(&str, &OsStr); 7] = [
            ("GIT_CONFIG_COUNT", OsStr::new("1")),
            ("GIT_CONFIG_KEY_0", OsStr::new("core.sparseCheckout")),
            ("GIT_CONFIG_VALUE_0", OsStr::new("false")),
            ("GIT_DIR", own.as_os_str()),
            ("GIT_WORK_TREE", copy.as_os_str()),
            ("GIT_INDEX_FILE", index.as_os_str()),
            ("GIT_OPTIONAL_LOCKS", OsStr::new("0")),
        ];
        let run = |args: &[&OsStr], input: &[u8]| git(world, &copy, args, &env, input);
        run(&[OsStr::new("read-tree"), OsStr::new(&base)], b"");
        let tracked = paths(&run(&words("ls-files -z"), b""));
        // Sparse paths are not there, and not gone.
        let absent = paths(&git(world, &pristine, &words("ls-files -z -t --deduplicate"), &[], b""));
        let sparse: BTreeSet<Vec<u8>> =
            absent.iter().filter_map(|line| line.strip_prefix(b"S ").map(<[u8]>::to_vec)).collect();

        // Content is stored as base's attributes say; the changed ones are content like any other.
        let attributes = std::fs::read(copy.join(".gitattributes")).ok();
        let before = std::fs::read(pristine.join(".gitattributes")).ok();
        let put = |content: &Option<Vec<u8>>| match content {
            Some(bytes) => std::fs::write(copy.join(".gitattributes"), bytes).expect("attributes"),
            None => drop(std::fs::remove_file(copy.join(".gitattributes"))),
        };
        let lists = world.path("truth.paths");
        if attributes != before {
            put(&before);
        }
        run(&words("add -A -f ."), b"");
        if attributes != before {
            put(&attributes);
            run(&words("add -A -f .gitattributes"), b"");
        }
        // By base's ignore files, which stand in the pristine copy: what they ignore and base does not track.
        let staged = paths(&run(&words("ls-files -z"), b""));
        let new: Vec<u8> = staged.difference(&tracked).flat_map(|path| [path, &b"\0"[..]].concat()).collect();
        // Nothing but these files may stand there: git asks what a path leads through.
        let bare = "find . -path ./.git -prune -o ! -type d ! -name .gitignore -exec rm -f {} +";
        assert!(
            world.command("sh").current_dir(&pristine).args(["-c", bare]).status().expect("sh").success()
        );
        let ignored = git(world, &pristine, &words("check-ignore --no-index -z --stdin"), &[], &new);
        std::fs::write(&lists, &ignored).expect("paths");
        run(&words("update-index -z --force-remove --stdin"), &ignored);
        for path in sparse.difference(&staged) {
            let entry = git(
                world,
                &pristine,
                &[OsStr::new("ls-tree"), OsStr::new("-z"), OsStr::new(&base), OsStr::from_bytes(path)],
                &[],
                b"",
            );
            run(&words("update-index -z --index-info"), &entry);
        }
        let tree = trimmed(run(&words("write-tree"), b""));
        let diff = run(
            &[
                &words("diff-tree -r -z --no-renames --name-status")[..],
                &[OsStr::new(&base), OsStr::new(&tree)],
            ]
            .concat(),
            b"",
        );
        let mut fields = diff.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        let mut changes = BTreeSet::new();
        while let (Some(letter), Some(path)) = (fields.next(), fields.next()) {
            changes.insert((path.to_vec(), char::from(letter[0])));
        }
        Self { tree, changes, pristine: own }
    }

    /// Sizes and digests of the report are those of git's objects.
    pub(super) fn contents(&self, outcome: &Outcome) {
        let report = outcome.report();
        let changes = report["changed_files"].as_array().unwrap();
        // Of very many some: each is a program to start.
        for change in changes.iter().step_by(changes.len() / 50 + 1) {
            let path = bytes_of(&change["path"], &change["path_b64"]);
            if change["new_sha256"].is_null() {
                continue;
            }
            let object = [self.tree.as_bytes(), b":", &path].concat();
            let output = std::process::Command::new("git")
                .arg("--git-dir")
                .arg(&self.pristine)
                .args(["-c", "safe.directory=*", "cat-file", "blob"])
                .arg(OsStr::from_bytes(&object))
                .output()
                .expect("git");
            assert!(output.status.success(), "{output:?}");
            assert_eq!(change["new_size"], output.stdout.len(), "{change}");
            assert_eq!(change["new_sha256"], hex::encode(&Sha256::digest(&output.stdout)), "{change}");
        }
    }

    /// Plain git makes the same tree of the patch, on a clean clone of the base commit.
    pub(super) fn applies(&self, repo: &TestRepo<'_>, outcome: &Outcome) {
        let world = repo.world();
        let clone = world.path("clone");
        let o = OsStr::new;
        let run = |args: &[&OsStr]| git(world, &world.path(""), args, &[], b"");
        run(&[
            o("clone"),
            o("-q"),
            o("--no-hardlinks"),
            o("-n"),
            self.pristine.as_os_str(),
            clone.as_os_str(),
        ]);
        let base = outcome.report()["base_commit"].as_str().unwrap().to_owned();
        run(&[o("-C"), clone.as_os_str(), o("checkout"), o("-q"), o(&base)]);
        if !outcome.artifact("patch.diff").is_empty() {
            let patch = outcome.evidence().join("patch.diff");
            run(&[o("-C"), clone.as_os_str(), o("apply"), o("--index"), o("--binary"), patch.as_os_str()]);
        }
        assert_eq!(trimmed(run(&[o("-C"), clone.as_os_str(), o("write-tree")])), self.tree);
    }
}
