//! Real toolchains in their views, with no network: what was fetched before is found, builds and tests pass, the real
//! git works; and a view shows the toolchain, not the home it stands in.

use harness::{Home, Outcome, Proctor, TestRepo, Toolchains, TreeSnapshot, World, users};

use crate::support::{passes, run, snapshot, untouched};

/// Stands in every file that no view may show; put together inside so that no script holds it.
const SECRET: &str = "tell-nobody";

/// What a home has beside its caches.
const SECRETS: &[&str] = &[
    ".netrc",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".git-credentials",
    ".ssh/id_ed25519",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".cargo/config.toml",
    ".npm/_logs/debug.log",
    ".config/pip/pip.conf",
    ".config/go/env",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".gradle/gradle.properties",
    ".gradle/init.d/mirror.gradle",
    ".local/share/uv/credentials/index",
    "go/src/example.invalid/other/secret.go",
    "work/other/secret.txt",
];

/// Fails where anything of the operator's places holds the secret; says what of the home is there.
const LOOK: &str = r#"
secret=tell; secret=$secret-nobody
for place in "$OUTSIDE" /root /home /etc /srv /opt /var /mnt /media; do
    found=$(grep -rsl -e "$secret" "$place" 2>/dev/null | head -n 5)
    [ -z "$found" ] || { echo "SHOWN: $found"; exit 90; }
done
echo "home: $(ls -A "$OUTSIDE" 2>/dev/null | tr '\n' ' ')"
"#;

/// One toolchain, one project.
struct Case {
    /// Also the project's directory below `tests/toolchains`.
    view: &'static str,
    /// What of a filled home it needs.
    caches: &'static [&'static str],
    /// What the backend does: mends, builds, tests.
    backend: &'static str,
    /// Tests what became of it.
    test: &'static str,
    /// What `ls -A` of the home shows.
    home: &'static str,
    /// What the test's log says.
    says: &'static str,
}

/// Runs a case as each user; `more` adds to the call.
fn builds(case: &Case, more: impl Fn(Proctor) -> Proctor) {
    let toolchains = Toolchains::installed();
    for (number, user) in users().into_iter().enumerate() {
        let world = World::new(user);
        let home = toolchains.home(user, case.caches, SECRETS, &format!("token = {SECRET}\n"));
        let caches: Vec<_> = case.caches.iter().map(|name| home.path().join(name)).collect();
        let repo = toolchains.project(&world, case.view);
        let tree = snapshot(&repo);
        let before: Vec<_> = caches.iter().map(|dir| TreeSnapshot::of(dir)).collect();

        // Once is enough: without the backend's work the same test fails.
        if number == 0 {
            let broken = more(options(&repo, case, &home)).args(["--", "sh", "-c", "echo > note"]).run();
            assert_eq!(broken.report()["tests"]["status"], "failed", "{broken:#?}");
        }

        let script = format!("set -e\n{LOOK}\n{}", case.backend);
        let outcome = more(options(&repo, case, &home)).args(["--", "sh", "-c", &script]).run();
        assert_eq!(outcome.code, Some(0), "{}", logs(&outcome));
        passes(&outcome, &repo);
        let said = outcome.text("backend.stdout.log");
        assert!(said.contains(&format!("home: {} \n", case.home)), "{said}");
        assert!(outcome.text("test.log").contains(case.says), "{}", logs(&outcome));
        let report = outcome.report();
        assert_eq!(report["sandbox"]["network"], "none");
        assert_eq!(
            report["changed_files"].as_array().map(Vec::len),
            Some(1),
            "{:#}",
            report["changed_files"]
        );
        untouched(&tree, &repo);
        for (dir, before) in caches.iter().zip(&before) {
            assert_eq!(before.differences(&TreeSnapshot::of(dir)), Vec::<String>::new());
        }
    }
}

fn options(repo: &TestRepo<'_>, case: &Case, home: &Home) -> Proctor {
    let outside = format!("OUTSIDE={}", home.path().display());
    run(repo, &["--view", case.view, "--mutation", "patch", "--net", "none", "--env", &outside])
        .args(["--test", case.test])
        .env("HOME", home.path())
}

fn logs(outcome: &Outcome) -> String {
    let all = ["backend.stdout.log", "backend.stderr.log", "test.log", "report.md"];
    let texts = all.map(|name| format!("== {name}\n{}", outcome.text(name)));
    format!("{}\n{}", texts.join("\n"), outcome.stderr)
}

#[test]
fn cargo_builds_with_cached_and_vendored_crates() {
    let case = Case {
        view: "rust",
        caches: &[".cargo/bin", ".cargo/registry"],
        backend: r#"
sed -i 's/let first = .*/let words = text.split_whitespace().count();/; s/let words = first.len();/anyhow::ensure!(words > 0, "no words");/' src/lib.rs
sed -i 's/use anyhow::{Context, Result}/use anyhow::Result/' src/lib.rs
cargo build --offline --locked && cargo test --offline --locked
cargo vendor --offline --locked /tmp/crates > /dev/null
CARGO_HOME=/tmp/empty cargo check --offline --target-dir /tmp/target \
    --config 'source.crates-io.replace-with = "vendored"' --config 'source.vendored.directory = "/tmp/crates"'
touch "$CARGO_HOME/registry/new" "$CARGO_HOME/new"
"#,
        test: "cargo test --offline --locked",
        home: ".cargo",
        says: "test tests::words_are_counted ... ok",
    };
    let rustup = &Toolchains::installed().rustup;
    let before = TreeSnapshot::of(&rustup.join("toolchains"));
    builds(&case, |proctor| proctor.env("RUSTUP_HOME", rustup));
    assert_eq!(before.differences(&TreeSnapshot::of(&rustup.join("toolchains"))), Vec::<String>::new());
}

#[test]
fn npm_installs_from_its_cache() {
    let case = Case {
        view: "node",
        caches: &[".npm/_cacache"],
        backend: r#"
npm ci --offline && ./node_modules/.bin/semver 1.2.3
rm -rf node_modules && npm install --offline
sed -i 's/semver.lt(a, b) ? a : b/semver.lt(a, b) ? b : a/' newer.js
npm test
"#,
        test: "npm ci --offline && npm test",
        home: ".cache .local .npm .volta",
        says: "# pass 1",
    };
    builds(&case, |proctor| proctor);
}

#[test]
fn pip_installs_wheels_and_pytest_runs() {
    let case = Case {
        view: "python",
        caches: &[],
        backend: r#"
python3 -m venv .venv
.venv/bin/pip install --quiet --no-index --find-links "$WHEELS" --require-hashes -r requirements.txt
sed -i 's/"_"/"-"/' slug.py
.venv/bin/pytest -q
"#,
        test: r#"python3 -m venv /tmp/venv && /tmp/venv/bin/pip install --quiet --no-index --find-links "$WHEELS" -r requirements.txt && /tmp/venv/bin/pytest -q"#,
        home: ".cache",
        says: "1 passed",
    };
    let wheels = &Toolchains::installed().wheels;
    let before = TreeSnapshot::of(wheels);
    let variable = format!("WHEELS={}", wheels.display());
    builds(&case, |proctor| {
        let proctor = proctor.arg("--ro").arg(wheels).arg("--test-ro").arg(wheels);
        proctor.args(["--env", &variable, "--test-env", &variable])
    });
    assert_eq!(before.differences(&TreeSnapshot::of(wheels)), Vec::<String>::new());
}

#[test]
fn go_builds_with_its_module_cache_and_with_vendored_modules() {
    let case = Case {
        view: "go",
        caches: &["go/pkg/mod", ".cache/go-build"],
        backend: r#"
sed -i 's/name\[1:\]/name/' greet/greet.go
go vet ./... && go build && ./greeter && go test ./...
go mod vendor && go test -mod=vendor -count=1 ./... && rm -r vendor
go install . && greeter
touch "$GOMODCACHE/new"
"#,
        test: "go build -o /tmp/greeter && /tmp/greeter && go test -count=1 -v ./...",
        home: ".cache go",
        says: "--- PASS: TestGreet",
    };
    builds(&case, |proctor| proctor);
}

#[test]
fn javac_and_maven_build_with_the_local_repository() {
    let case = Case {
        view: "java",
        caches: &[".m2/repository"],
        backend: r#"
sed -i 's/int sum = 1/int sum = 0/' src/main/java/demo/Sum.java
javac -d /tmp/classes src/main/java/demo/Sum.java && java -cp /tmp/classes demo.Sum
"#,
        test: "mvn -o -B test",
        home: ".gradle .m2",
        says: "Tests run: 1, Failures: 0, Errors: 0",
    };
    builds(&case, |proctor| proctor);
}

/// JAVA_HOME and GOROOT as developers set them: a link below the system's directories, and a directory of the home.
#[test]
fn toolchain_homes_are_found_where_variables_say() {
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let tool = |path: &str| {
            let file = world.write(path, "#!/bin/sh\necho \"ran $0\"\n");
            crate::support::outside(&repo, &format!("chmod 755 {}", file.display()));
        };
        tool("home/.nvm/versions/node/v99/bin/node");
        tool("home/sdk/go99/bin/go");
        tool("home/.pyenv/shims/python3");
        tool("home/jdks/99/bin/java");
        world.write("home/jdks/secret", SECRET);
        let at = |path: &str| world.path(path);
        std::os::unix::fs::symlink("99", at("home/jdks/current")).unwrap();
        let views = ["--view", "node", "--view", "go", "--view", "python", "--view", "java", "--no-test"];
        let outcome = run(&repo, &views)
            .env("NVM_BIN", at("home/.nvm/versions/node/v99/bin"))
            .env("GOROOT", at("home/sdk/go99"))
            .env("JAVA_HOME", at("home/jdks/current"))
            .args(["--", "sh", "-c", "node; go; python3; java; $JAVA_HOME/bin/java; ls $JAVA_HOME/.."])
            .run();
        let said = outcome.text("backend.stdout.log");
        let home = at("home").display().to_string();
        let ran = |path: &str| format!("ran {home}/{path}\n");
        let expected = [
            ran(".nvm/versions/node/v99/bin/node"),
            ran("sdk/go99/bin/go"),
            ran(".pyenv/shims/python3"),
            ran("jdks/current/bin/java"),
            ran("jdks/current/bin/java"),
            "99\ncurrent\n".to_owned(),
        ];
        assert_eq!(said, expected.concat(), "{outcome:#?}");
    }
    // A link that a mounted directory holds already.
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let outcome = run(&repo, &["--view", "java", "--no-test"])
            .env("JAVA_HOME", "/usr/bin/..")
            .args(["--", "true"])
            .run();
        assert_eq!(outcome.code, Some(2), "`..` is no place: {outcome:#?}");
        let link = std::fs::read_dir("/usr/bin")
            .unwrap()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.is_symlink() && path.canonicalize().is_ok_and(|real| real.starts_with("/usr")))
            .expect("a link in /usr/bin");
        let outcome = run(&repo, &["--no-test", "--ro"]).arg(&link).args(["--", "ls"]).arg(&link).run();
        let said = outcome.text("backend.stdout.log");
        assert_eq!(said.trim_end(), link.to_string_lossy(), "{outcome:#?}");
    }
}

#[test]
fn git_works_inside() {
    const SCRIPT: &str = r#"
set -ex
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@b
test -z "$(git status --porcelain)"
git log -1 --format=%s | grep -qx base
git switch -q -c topic
echo mended > src/value.txt && git add -A && git commit -q -m mended
git switch -q main
echo more >> README && git commit -q -am more
git rebase -q topic
git log --format=%s | tr '\n' ' ' | grep -qx 'more mended base '
echo draft >> README && git stash -q && test -z "$(git status --porcelain)" && git stash pop -q
git checkout -q README
git worktree add -q /tmp/second topic && git -C /tmp/second status --porcelain
git -C /tmp/second commit -q --allow-empty -m second && git worktree remove /tmp/second
git clone -q --no-hardlinks . /tmp/copy && git -C /tmp/copy fsck --no-progress
git clone -q "file://$PWD" "$HOME/other" && git -C "$HOME/other" log -1 --format=%s | grep -qx more
git merge -q --no-ff -m merged topic && git tag -m v v1 && git gc -q && git fsck --no-progress
git reset -q --hard main && test -z "$(git status --porcelain)"
echo "git: done"
"#;
    for user in users() {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let before = snapshot(&repo);
        let test = "test -z \"$(git status --porcelain -- src/value.txt | grep -v value)\" && git log -1 --format=%s && sh check.sh";
        let outcome = run(&repo, &["--test", test]).args(["--", "sh", "-c", SCRIPT]).run();
        assert_eq!(outcome.code, Some(0), "{}", logs(&outcome));
        passes(&outcome, &repo);
        assert!(outcome.text("backend.stdout.log").ends_with("git: done\n"));
        assert!(!outcome.text("backend.stderr.log").contains("dubious"), "{}", logs(&outcome));
        untouched(&before, &repo);
    }
}
