//! `report.html`: what a browser makes of it. The page of real runs is opened in one, with what a reader would do to it,
//! and held against the evidence by scripts of the tests' own (`tests/browser`).

use std::path::{Path, PathBuf};

use ::proctor::event::hex;
use ::proctor::report::Report;
use harness::{Browser, Outcome, TestRepo};
use sha2::{Digest as _, Sha256};

use crate::proctor;
use crate::support::{each, fake_text, outside, passes, run, sh, verifies};

/// What would run, load or lead away, in every way that a page can be made to.
const PAYLOAD: &str = "</script></style></title><script>window.pwned=1</script><img src=http://evil.example/i onerror=window.pwned=2>\
<svg onload=window.pwned=3><a href=javascript:window.pwned=4 autofocus onfocus=window.pwned=5>x</a>\
<style>body{display:none}@import url(http://evil.example/s);</style><iframe src=http://evil.example/f></iframe>\
<meta http-equiv=refresh content=1;url=http://evil.example/r>";

/// Runs a script of `tests/browser`, which must come to its own end.
fn browser(name: &str, args: &[&Path], end: &str) {
    let output = Browser::installed().run(name, args);
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && out.trim() == end,
        "{name} {args:?}: {}\n{out}\n{error}",
        output.status
    );
}

fn page(outcome: &Outcome) -> PathBuf {
    outcome.evidence().join("report.html")
}

const WORK: &str = "printf '\\033[1;34mreading\\033[0m the task\\n'; for n in 1 2 3 4 5 6; do echo \"line $n of the work\"; done; \
    echo odd >&2; sed -i s/broken/mended/ src/value.txt; mkdir -p tests; printf 'a\\nb' > tests/t; \
    printf 'a\\000b' > data.bin; chmod +x README; rm .gitignore; mkdir new; printf '\\tone\\n\\n<b>two</b> & \"three\"\\n' > new/file";

#[test]
fn a_pass_reads_the_same_in_a_browser_as_in_the_evidence() {
    each(|repo| {
        let options = [
            "--html",
            "--test",
            "printf '\\033[32mok\\033[0m line 1\\n10%%\\r20%%\\n'; sh check.sh",
            "--task",
            "mend it",
            "--review",
            "echo a line; echo accept $PROCTOR_PATCH_SHA256 >&3",
        ];
        let outcome = sh(
            repo,
            &[&options[..], &["--deny-change", "none"]].concat(),
            &WORK.replace("rm .gitignore; ", ""),
        )
        .run();
        passes(&outcome, repo);
        browser("whole.mjs", &[&outcome.evidence(), Path::new("line")], "whole");
    });
}

#[test]
fn a_fail_shows_every_blocker_with_its_remedy() {
    each(|repo| {
        let options = [
            "--html",
            "--test",
            "echo line one of the tests; exit 3",
            "--deny-change",
            "new/**",
            "--ask-change",
            "tests/**",
        ];
        let outcome =
            sh(repo, &options, &format!("{WORK}; ln -s /etc/passwd link; mkfifo pipe; exit 7")).run();
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        assert!(outcome.blockers().len() >= 3, "{outcome:#?}");
        verifies(&outcome, repo);
        browser("whole.mjs", &[&outcome.evidence(), Path::new("line")], "whole");
    });
}

/// A repository, a profile, a task, a backend, its events, its requests and its files: all of them hostile.
fn hostile(repo: &TestRepo<'_>) -> Outcome {
    let world = repo.world();
    let quoted =
        |text: &str| serde_json::to_string(text).expect("JSON, which is TOML here").replace('\u{7f}', "");
    let odd = "\u{1b}]8;;http://evil.example/\u{1b}\\click\u{1b}]8;;\u{7} \u{1b}[2J\u{1b}[31mred \u{202e}gnp.exe \u{2028}";
    let marks = format!("z{}", "\u{301}".repeat(60));
    let line = format!("{PAYLOAD} {odd} {marks}");
    outside(repo, &format!("git commit -q --allow-empty -m '{}'", PAYLOAD.replace('\'', "")));
    let names = [
        "<img src=http:∕∕evil.example onerror=window.pwned=6>.txt",
        "a\" onmouseover=\"window.pwned=7",
        "javascript:window.pwned=8",
        "m\u{430}in.rs",
        "\u{202e}gnp.exe",
        "x\ny",
        "--><script>window.pwned=9<",
        "\u{1b}[31mred",
    ];
    let mut scenario = String::from("[[step]]\ndo = \"emit\"\nevent = \"turn.started\"\n");
    let mut step = |text: String| scenario.push_str(&format!("[[step]]\n{text}\n"));
    for name in names {
        step(format!("do = \"write\"\npath = {}\ncontent = {}", quoted(name), quoted(&format!("{line}\n"))));
    }
    step(format!("do = \"emit\"\nevent = \"message\"\ndata = {{ text = {} }}", quoted(&line)));
    step(format!("do = \"emit\"\nevent = {}\ndata = {{ {} = 1 }}", quoted(PAYLOAD), quoted(PAYLOAD)));
    step(format!("do = \"print\"\ntext = {}", quoted(&line)));
    step(format!("do = \"print\"\nstderr = true\ntext = {}", quoted(&line)));
    step("do = \"print\"\ntext = '{\"event\":\"run.finished\",\"status\":\"pass\"}'".into());
    step(format!(
        "do = \"ask\"\nid = {}\nsubject = {}\nwhatever = true",
        quoted("<img src=x>"),
        quoted(&line)
    ));
    step("do = \"emit\"\nevent = \"turn.completed\"".into());
    let profile = world.write("<script>window.pwned=10</script>.toml", "");
    let task = world.write("task", &line);
    let test = format!("cat m*in.rs; printf '\\000\\377\\n'; exit 1 # {}", PAYLOAD.replace('\'', ""));
    let task = format!("@{}", task.display());
    let profile = profile.display().to_string();
    let options = ["--html", "--test", &test, "--profile", &profile, "--task", &task, "--review", "exit 1"];
    fake_text(repo, &options, &scenario).run()
}

#[test]
fn nothing_hostile_runs_loads_or_leads_anywhere() {
    each(|repo| {
        let outcome = hostile(repo);
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        verifies(&outcome, repo);
        let files = outcome.report()["changed_files"].as_array().unwrap().len();
        assert_eq!(files, 8, "{outcome:#?}");
        browser("inert.mjs", &[Path::new("inert"), &page(&outcome), &outcome.evidence()], "inert");
        // Neither the other two renderings: no escape, no character that is not seen.
        let said = proctor(repo.world()).arg("report").arg(outcome.evidence()).run();
        for text in [outcome.text("report.md").replace('\u{2060}', ""), said.stdout, outcome.stderr.clone()] {
            let odd: Vec<char> = text
                .chars()
                .filter(|c| c.is_control() && *c != '\n' || ('\u{2028}'..='\u{202e}').contains(c))
                .collect();
            assert!(odd.is_empty(), "{odd:?} in {text}");
        }
    });
}

/// The payloads are live ones: in a page that escapes nothing and has no policy they run and load in this browser.
#[test]
fn the_same_payloads_run_where_nothing_holds_them() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("whole.html", PAYLOAD.to_owned()),
        ("script.html", "<p>x</p><script>window.pwned=1</script><img src=http://evil.example/i>".to_owned()),
        ("image.html", "<img src=http://evil.example/i onerror=window.pwned=2>".to_owned()),
        ("svg.html", "<svg onload=window.pwned=3></svg><img src=http://evil.example/>".to_owned()),
    ] {
        let page = dir.path().join(name);
        std::fs::write(&page, format!("<!DOCTYPE html><meta charset=utf-8><body><p>{text}")).unwrap();
        browser("inert.mjs", &[Path::new("live"), &page], "live");
    }
}

#[test]
fn a_huge_run_has_a_page_that_is_bounded_and_says_so() {
    each(|repo| {
        let work = "mkdir d; n=0; while [ $n -lt 300 ]; do seq 1 200 > d/$n; n=$((n+1)); done; seq 1 200000 > large; seq -f 'item %g done' 1 60000";
        let steps = format!(
            "[[step]]\ndo = \"shell\"\ncommand = '''{work}'''\n{}[[step]]\ndo = \"emit\"\nevent = \"turn.completed\"\n",
            "[[step]]\ndo = \"emit\"\nevent = \"message\"\ndata = { text = \"said\" }\n".repeat(3000)
        );
        let scenario = format!("[[step]]\ndo = \"emit\"\nevent = \"turn.started\"\n{steps}");
        let outcome = fake_text(repo, &["--html", "--no-test"], &scenario).run();
        passes(&outcome, repo);
        browser("huge.mjs", &[&outcome.evidence()], "huge");
    });
}

#[test]
fn quarantined_evidence_has_a_page_without_the_secret() {
    each(|repo| {
        let outcome = run(repo, &["--html", "--no-test", "--pass-env", "TOKEN"])
            .env("TOKEN", "a-secret-of-the-operator")
            .args(["--", "sh", "-c", "echo $TOKEN; echo $TOKEN > src/value.txt"])
            .run();
        assert_eq!(outcome.blockers(), ["secret_in_evidence"], "{outcome:#?}");
        verifies(&outcome, repo);
        let page = outcome.text("report.html");
        assert!(!page.contains("a-secret-of-the-operator"));
        assert!(
            page.contains("The logs are left out of this page") && page.contains("Quarantined"),
            "{page}"
        );
    });
}

fn put(dir: &Path, report: &mut Report, page: &[u8]) {
    std::fs::write(dir.join("report.html"), page).unwrap();
    for one in report.digest_manifest.iter_mut().filter(|one| one.name == "report.html") {
        one.digest.sha256 = hex::encode(&Sha256::digest(page));
        one.annotations.size = page.len() as u64;
    }
    // It stands in report.md, too: a forger renders that again.
    let mut draft = report.clone();
    draft.digest_manifest.retain(|one| one.name != "report.md");
    let text = ::proctor::report::markdown::render(&draft);
    std::fs::write(dir.join("report.md"), &text).unwrap();
    for one in report.digest_manifest.iter_mut().filter(|one| one.name == "report.md") {
        one.digest.sha256 = hex::encode(&Sha256::digest(&text));
        one.annotations.size = text.len() as u64;
    }
    let bytes = report.to_json().unwrap();
    std::fs::write(dir.join("report.json"), &bytes).unwrap();
    let line = format!("{}  report.json\n", hex::encode(&Sha256::digest(&bytes)));
    std::fs::write(dir.join("report.json.sha256"), line).unwrap();
}

#[test]
fn an_edited_page_is_refused_with_its_digest_fixed_up() {
    each(|repo| {
        let outcome = sh(repo, &["--html", "--test", "sh check.sh"], WORK).run();
        assert_eq!(outcome.code, Some(1), "the ignore file is protected: {outcome:#?}");
        verifies(&outcome, repo);
        let dir = outcome.evidence();
        let page = outcome.text("report.html");
        let mut report = Report::from_json(&outcome.artifact("report.json")).unwrap();
        // The forger's way of writing is Proctor's: with nothing edited it verifies.
        put(&dir, &mut report, page.as_bytes());
        verifies(&outcome, repo);
        for (from, to) in [
            (">FAIL<", ">PASS<"),
            ("disallowed_file", "nothing_at_all!"),
            ("</body>", "</body> "),
            ("line 3 of", "line 9 of"),
        ] {
            assert!(page.contains(from), "{from}");
            put(&dir, &mut report, page.replacen(from, to, 1).as_bytes());
            let said = proctor(repo.world()).arg("verify").arg(&dir).run();
            assert_eq!(said.code, Some(4), "{said:#?}");
            assert!(
                said.stderr.contains("report.html: is not what this evidence renders to: line"),
                "{said:#?}"
            );
        }
        put(&dir, &mut report, page.as_bytes());
        verifies(&outcome, repo);
    });
}

#[test]
fn a_page_is_rendered_later_to_a_new_file_alone() {
    each(|repo| {
        let outcome = sh(repo, &["--html", "--no-test"], "echo x > new").run();
        passes(&outcome, repo);
        let evidence = outcome.evidence();
        let report = |more: &[&str]| proctor(repo.world()).arg("report").arg(&evidence).args(more).run();
        let out = report(&["--html"]);
        assert_eq!((out.code, out.stdout.as_str()), (Some(0), &*outcome.text("report.html")));
        let file = repo.world().path("page.html");
        let name = file.to_str().unwrap();
        let said = report(&["--html", name]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:#?}");
        assert_eq!(std::fs::read(&file).unwrap(), outcome.artifact("report.html"));
        let again = report(&["--html", name]);
        assert_eq!(again.code, Some(2), "{again:#?}");
        assert!(
            again.stderr.contains("it is there already, and nothing is written over; name a new file"),
            "{again:#?}"
        );
        let link = repo.world().path("link.html");
        std::os::unix::fs::symlink(repo.world().path("elsewhere"), &link).unwrap();
        assert_eq!(report(&["--html", link.to_str().unwrap()]).code, Some(2));
        assert!(!repo.world().path("elsewhere").exists());
        let nowhere = report(&["--html", "/nowhere/page.html"]);
        assert_eq!(nowhere.code, Some(2));
        assert!(
            nowhere.stderr.contains("name a new file in a directory that you may write to"),
            "{nowhere:#?}"
        );
        let both = report(&["--html", "--json"]);
        assert_eq!(both.code, Some(2));
        assert!(both.stderr.contains("--json and --html are two forms of one report"), "{both:#?}");
    });
}
