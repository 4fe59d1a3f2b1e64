//! The real tree is bit for bit what it was, after every run in modes none, discard and patch, whatever the backend
//! did inside: content, mode, times, inode numbers, `.git`.

use crate::support::{each, outside, run, sh, snapshot, untouched};

/// What backends do to a tree, and whether the tree that is left can be read as changes at all.
const DEEDS: &[&str] = &[
    "echo x > new; echo y >> README; mkdir -p a/b && echo z > a/b/c",
    "rm -rf . .git * .[a-z]* 2>/dev/null; true",
    "rm -rf .git && git init -q . && git add -A && git -c user.name=x -c user.email=x@y commit -qm mine",
    "git -c user.name=x -c user.email=x@y commit -q --allow-empty -m mine && git branch other && git tag v1 && git gc -q --prune=now",
    "git reset -q --hard HEAD && git rm -rqf . && git stash -q 2>/dev/null; git checkout -q --orphan o; true",
    "chmod -R 777 . ; chmod 000 README; touch -d 2001-01-01 check.sh src",
    "mv src lib; mv README .hidden; mv check.sh src; ln check.sh hard 2>/dev/null; ln -s / root",
    "mv .git gone; ln -s /tmp .git; true",
    "echo 'gitdir: /tmp/x' > /tmp/g; rm -rf .git; cp /tmp/g .git",
    "printf '[core]\\n\\tfsmonitor = touch /tmp/owned\\n\\thooksPath = /tmp\\n' > .git/config; mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch owned\\n' > .git/hooks/post-index-change; chmod +x .git/hooks/post-index-change; echo x > .git/index",
    "find . -type f -exec sh -c ': > \"$1\"' _ {} \\;",
    "for f in README src/value.txt; do setfattr -n user.x -v y $f 2>/dev/null; truncate -s 1M $f; sync $f; done",
];

fn all(mode: &str) {
    each(|repo| {
        outside(
            repo,
            "mkdir target && echo built > target/out && chmod 640 target/out && touch -d 2020-02-02 README",
        );
        let before = snapshot(repo);
        for deed in DEEDS {
            let outcome = sh(repo, &["--no-test", "--mutation", mode], deed).run();
            assert!(matches!(outcome.code, Some(0 | 1)), "{deed}: {outcome:#?}");
            assert!(!outcome.blockers().contains(&"dirty_ending_tree".to_owned()), "{deed}: {outcome:#?}");
            untouched(&before, repo);
        }
    });
}

#[test]
fn in_mode_none() {
    all("none");
}

#[test]
fn in_mode_discard() {
    all("discard");
}

#[test]
fn in_mode_patch() {
    all("patch");
}

#[test]
fn by_test_and_review_too() {
    each(|repo| {
        outside(repo, "mkdir target && echo built > target/out");
        let before = snapshot(repo);
        let vandal = "rm -rf .git * 2>/dev/null; echo x > left; git init -q . 2>/dev/null; true";
        let outcome = run(repo, &["--test", vandal, "--review", vandal, "--review-by", "exit"])
            .args(["--", "sh", "-c", "echo mended > src/value.txt"])
            .run();
        outcome.expect(0, &[]);
        untouched(&before, repo);
    });
}

#[test]
fn of_a_linked_worktree_with_its_main_repository() {
    each(|repo| {
        outside(repo, "git worktree add -q ../linked");
        let (before, linked) = (snapshot(repo), repo.world().path("linked"));
        let before_linked = harness::TreeSnapshot::of(&linked);
        for deed in DEEDS {
            let outcome = crate::proctor(repo.world())
                .args(["run", "--no-test", "--repo"])
                .arg(&linked)
                .args(["--", "sh", "-c", deed])
                .run();
            assert!(matches!(outcome.code, Some(0 | 1)), "{deed}: {outcome:#?}");
            untouched(&before, repo);
            assert_eq!(
                before_linked.differences(&harness::TreeSnapshot::of(&linked)),
                Vec::<String>::new(),
                "{deed}"
            );
        }
    });
}

#[test]
fn from_below_the_top_as_well() {
    each(|repo| {
        let before = snapshot(repo);
        let outcome = crate::proctor(repo.world())
            .dir(&repo.path().join("src"))
            .args(["run", "--no-test", "--", "sh", "-c", "pwd; rm -rf ./* 2>/dev/null; echo x > new; ls"])
            .run();
        assert!(matches!(outcome.code, Some(0 | 1)), "{outcome:#?}");
        untouched(&before, repo);
    });
}
