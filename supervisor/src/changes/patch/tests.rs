use std::collections::BTreeMap;

use proptest::prelude::*;

use super::apply::{ApplyError, apply};
use super::parse::parse;
use crate::changes::testing::{Fixture, allow_all};

const LIMIT: u64 = 32 << 20;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    File(Vec<u8>, bool),
    Link(Vec<u8>),
}

pub(crate) type Files = BTreeMap<Vec<u8>, Node>;

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![
            &b"a"[..], b"b", b"a.b", b"ab", b"d", b"new\nline", b"tab\t", b"q\"uote", b"back\\slash", b"\xff\xfe", b"-dash",
            b"trail ", b"sp ace", b"\xc3\xa9", b"\x01", b"\x7f", b" b", b"a b", b"--- a", b"dev"
        ]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(1u8..=255, 1..6).prop_filter("a file name", |n| {
            !n.contains(&b'/') && n != b"." && n != b".." && !crate::changes::dotgit::is_alias(n) && !n.to_ascii_lowercase().starts_with(b".env")
        }),
    ]
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.join(&b'/'))
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        &b"one"[..],
        b"two",
        b"three",
        b"",
        b"-x",
        b"+x",
        b"\\ No newline",
        b"@@",
        b"\r",
        b"\xff",
    ]);
    prop_oneof![
        6 => (prop::collection::vec(line, 0..40), any::<bool>()).prop_map(|(lines, end)| {
            let mut text = lines.join(&b'\n');
            if end { text.push(b'\n') }
            text
        }),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => Just(Vec::new()),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        6 => (content(), any::<bool>()).prop_map(|(data, x)| Node::File(data, x)),
        1 => prop::collection::vec(1u8..=255, 1..20).prop_map(Node::Link),
    ]
}

/// Random files without a file that is also a directory.
fn files() -> impl Strategy<Value = Files> {
    prop::collection::vec((path(), node()), 0..12).prop_map(|list| settle(list.into_iter()))
}

fn settle(list: impl Iterator<Item = (Vec<u8>, Node)>) -> Files {
    let mut out = Files::new();
    for (path, node) in list {
        let dir = [path.as_slice(), b"/"].concat();
        let above =
            path.iter().enumerate().filter(|(_, b)| **b == b'/').any(|(i, _)| out.contains_key(&path[..i]));
        if !above && !out.keys().any(|k| k.starts_with(&dir)) {
            out.insert(path, node);
        }
    }
    out
}

pub(crate) fn edits() -> impl Strategy<Value = (Files, Files)> {
    (files(), files(), prop::collection::vec((any::<prop::sample::Index>(), content()), 0..6), any::<u64>())
        .prop_map(|(base, other, changed, keep)| {
            let mut wanted: Vec<_> = other.into_iter().collect();
            for (i, (path, node)) in base.iter().enumerate() {
                if keep >> (i % 64) & 1 == 1 {
                    wanted.push((path.clone(), node.clone()));
                }
            }
            for (index, data) in changed {
                if !wanted.is_empty() {
                    let i = index.index(wanted.len());
                    if let Node::File(old, x) = &wanted[i].1 {
                        let mut mixed = old[..old.len() / 2].to_vec();
                        mixed.extend(data);
                        wanted[i].1 = Node::File(mixed, *x);
                    }
                }
            }
            (base, settle(wanted.into_iter()))
        })
}

pub(crate) fn place(root: &std::path::Path, path: &[u8], node: &Node) {
    let full = root.join(crate::changes::repo::bytes_path(path));
    std::fs::create_dir_all(full.parent().unwrap()).unwrap();
    match node {
        Node::File(data, x) => {
            std::fs::write(&full, data).unwrap();
            let mode = if *x { 0o755 } else { 0o644 };
            std::fs::set_permissions(&full, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        Node::Link(target) => {
            std::os::unix::fs::symlink(crate::changes::repo::bytes_path(target), &full).unwrap()
        }
    }
}

/// The layer that an overlay would have after `base` became `result`.
fn fixture(base: &Files, result: &Files) -> Fixture {
    let f = Fixture::new();
    for (path, node) in base {
        place(&f.root(), path, node);
    }
    f.commit();
    for (path, node) in result.iter().filter(|(p, n)| base.get(*p) != Some(n)) {
        place(&f.upper(), path, node);
    }
    for path in base.keys().filter(|p| !result.contains_key(*p)) {
        let dir = [path.as_slice(), b"/"].concat();
        let replaced = result.keys().any(|k| k.starts_with(&dir));
        let above = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .any(|(i, _)| result.contains_key(&path[..i]));
        if !replaced && !above {
            f.whiteout(path);
        }
    }
    f
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Real git, our own application and our tree id agree, whatever the names and contents.
    #[test]
    fn git_and_we_agree_on_the_result((base, result) in edits()) {
        let f = fixture(&base, &result);
        let set = f.collect(&allow_all()).unwrap();
        let patch = f.check_patch(&set);
        let repo = f.repo();
        prop_assert_eq!(apply(&repo, repo.base_tree(), &patch, LIMIT).unwrap(), set.result_tree);
        super::skim::tests::same(&patch);
        // And the tree is the one that was meant.
        let want = Fixture::new();
        for (path, node) in &result {
            place(&want.root(), path, node);
        }
        want.commit();
        prop_assert_eq!(want.repo().base_tree(), set.result_tree);
    }
}

fn sample() -> (Fixture, Vec<u8>) {
    let f = Fixture::new();
    f.write("a", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n");
    f.write("bin", b"\0old");
    f.write("gone", "x\n");
    f.write("empty", "");
    f.commit();
    f.up("a", "1\n2\nthree\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\nfifteen");
    f.up("bin", b"\0new");
    f.whiteout("gone");
    f.whiteout("empty");
    f.up("q\"\t", "new\n");
    f.up("sp ace", "new\n");
    let set = f.collect(&allow_all()).unwrap();
    let patch = f.check_patch(&set);
    let repo = f.repo();
    assert_eq!(apply(&repo, repo.base_tree(), &patch, LIMIT).unwrap(), set.result_tree);
    (f, patch)
}

#[test]
fn a_patch_in_gits_own_words() {
    let (_f, patch) = sample();
    let text = String::from_utf8_lossy(&patch);
    assert!(text.contains("@@ -1,6 +1,6 @@\n 1\n 2\n-3\n+three\n 4\n"), "{text}");
    assert!(
        text.contains("@@ -12,4 +12,4 @@\n 12\n 13\n 14\n-15\n+fifteen\n\\ No newline at end of file\n"),
        "{text}"
    );
    assert!(text.contains("diff --git \"a/q\\\"\\t\" \"b/q\\\"\\t\"\nnew file mode 100644\n"), "{text}");
    assert!(text.contains("--- /dev/null\n+++ b/sp ace\t\n"), "{text}");
    assert!(text.contains("GIT binary patch\nliteral 4\n"), "{text}");
}

#[test]
fn every_changed_byte_is_noticed_or_harmless_and_nothing_panics() {
    let (f, patch) = sample();
    let repo = f.repo();
    let want = apply(&repo, repo.base_tree(), &patch, LIMIT).unwrap();
    let find = |what: &[u8]| patch.windows(what.len()).position(|w| w == what).unwrap();
    let packed = find(b"GIT binary patch")..find(b"diff --git a/empty");
    for at in 0..patch.len() {
        for change in [0x01, 0x20, 0x80, patch[at] ^ b'\n'] {
            let mut bad = patch.clone();
            bad[at] ^= change;
            // Every object has its id in the patch: what still applies has another name or mode, or lies in the
            // packed bytes, which zlib lets vary.
            if let Ok(id) = apply(&repo, repo.base_tree(), &bad, LIMIT) {
                assert!(
                    bad == patch || id != want || packed.contains(&at),
                    "byte {at} of the patch may be {}",
                    bad[at]
                );
            }
        }
        let _ = apply(&repo, repo.base_tree(), &patch[..at], LIMIT);
        let _ = apply(&repo, repo.base_tree(), &patch[at..], LIMIT);
    }
}

proptest! {
    #[test]
    fn the_parser_never_panics(mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..12)) {
        thread_local!(static SAMPLE: Vec<u8> = sample().1);
        let mut patch = SAMPLE.with(Clone::clone);
        for (index, byte, how) in mutations {
            let at = index.index(patch.len());
            match how {
                0 => patch[at] = byte,
                1 => patch.insert(at, byte),
                2 => { patch.remove(at); }
                _ => { let tail = patch[at..].to_vec(); patch.extend(tail); patch.truncate(8192); }
            }
        }
        let _ = parse(&patch, gix_hash::Kind::Sha1, 1 << 20);
        let _ = parse(&patch, gix_hash::Kind::Sha256, 1 << 20);
    }

    #[test]
    fn noise_is_refused(text in prop::collection::vec(any::<u8>(), 1..200)) {
        prop_assert!(parse(&text, gix_hash::Kind::Sha1, 1 << 20).is_err());
    }
}

#[test]
fn what_does_not_fit_says_so() {
    let (f, patch) = sample();
    let repo = f.repo();
    let run = |text: &[u8]| apply(&repo, repo.base_tree(), text, LIMIT).unwrap_err().to_string();
    assert_eq!(
        run(&[patch.as_slice(), &patch].concat()),
        "the patch does not apply to the base: a: it is changed twice"
    );
    assert_eq!(
        run(b"hello\n"),
        "the patch is not one that this program writes: line 1: expected `diff --git`"
    );
    let evil = b"diff --git a/../x b/../x\nnew file mode 100644\n";
    assert_eq!(
        run(evil),
        "the patch is not one that this program writes: line 1: the two names are not the same path"
    );
    let git = b"diff --git a/x/.GIT/config b/x/.GIT/config\nnew file mode 100644\n";
    assert!(run(git).contains("not the same path"));
    assert!(matches!(apply(&repo, repo.base_tree(), &patch, 10), Err(ApplyError::TooLarge { limit: 10 })));
    f.write("a", "else\n");
    f.commit();
    let repo = f.repo();
    let text = apply(&repo, repo.base_tree(), &patch, LIMIT).unwrap_err().to_string();
    assert_eq!(
        text,
        "the patch does not apply to the base: a: its content is not the one that the patch was made from"
    );
}

#[test]
fn a_bomb_is_refused() {
    let f = Fixture::new();
    f.write("a", "1");
    f.commit();
    f.up("big", vec![0u8; 8 << 20]);
    let set = f.collect(&allow_all()).unwrap();
    let patch = f.check_patch(&set);
    let repo = f.repo();
    let error = apply(&repo, repo.base_tree(), &patch, patch.len() as u64).unwrap_err().to_string();
    assert!(error.ends_with("content is larger than the limit"), "{error}");
    let over =
        super::write::write_patch(&repo, &set, 100, &mut Vec::new(), &mut |_| ()).unwrap_err().to_string();
    assert_eq!(over, "the patch is larger than 100 bytes; raise --max-patch if that much is meant");
}

#[test]
fn one_sided_and_large_texts_are_replaced_as_a_whole_and_the_patch_applies() {
    let f = Fixture::new();
    let numbers =
        |from: u32| (from..from + 700_000).fold(String::new(), |all, i| all + &i.to_string() + "\n");
    f.write("large", numbers(0));
    f.write("gone", "1\n2\n3");
    f.write("one", "1\n");
    f.write("emptied", "x\ny\n");
    f.write("filled", "");
    f.commit();
    f.up("large", numbers(7));
    f.whiteout("gone");
    f.up("new", "1\n2\n\n3");
    f.up("line", "1");
    f.up("emptied", "");
    f.up("filled", "a\nb\n");
    f.up("one", "2\n");
    let set = f.collect(&allow_all()).unwrap();
    let patch = String::from_utf8(f.check_patch(&set)).unwrap();
    for wanted in [
        "@@ -1,700000 +1,700000 @@\n-0\n",
        "@@ -1,3 +0,0 @@\n-1\n",
        "@@ -0,0 +1,4 @@\n+1\n",
        "@@ -0,0 +1 @@\n",
    ] {
        assert!(patch.contains(wanted), "{wanted}");
    }
    let mut out = Vec::new();
    let over = super::write::write_patch(&f.repo(), &set, 1000, &mut out, &mut |_| ()).unwrap_err();
    assert!(matches!(over, super::write::PatchError::TooLarge { limit: 1000 }));
    assert!(out.len() <= 1000);
}

#[test]
fn content_that_a_patch_holds_compressed_is_shown_to_the_inspector() {
    let f = Fixture::new();
    f.write("old", b"\0the old secret");
    f.commit();
    f.whiteout("old");
    f.up("new", b"\0the new secret");
    f.link("link", "the-linked-secret");
    let set = f.collect(&allow_all()).unwrap();
    let (mut seen, mut patch) = (Vec::new(), Vec::new());
    super::write::write_patch(&f.repo(), &set, 1 << 20, &mut patch, &mut |c| seen.extend_from_slice(c))
        .unwrap();
    let has = |data: &[u8], text: &str| data.windows(text.len()).any(|w| w == text.as_bytes());
    for text in ["the old secret", "the new secret", "the-linked-secret"] {
        assert!(has(&seen, text), "{text}");
    }
    assert!(!has(&patch, "the new secret"), "else this test says nothing");
}
