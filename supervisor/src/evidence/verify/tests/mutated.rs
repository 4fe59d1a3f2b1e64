//! Artifacts changed at random: no reader panics, and nothing verifies but what was written.

use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Double(Index, usize),
    Move(Index, Index, usize),
    Cut(Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    // What a parser could trip over, and bytes.
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..20),
        prop::sample::select(vec![
            &b"\n"[..],
            b"\0",
            b"\"",
            b"{",
            b"}",
            b"[",
            b"\\u0000",
            b"-1",
            b"1e999",
            b"null",
            b"\xff",
            b"@@ -1 +1 @@\n",
            b"diff --git a/x b/x\n",
            b"# end: {}\n",
            b"99999999999999999999",
            b"\xe2\x80\xae",
            b"\x1b[2J",
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    let one = prop_oneof![
        (any::<Index>(), 1_u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (any::<Index>(), piece).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), 1_usize..200).prop_map(|(at, len)| Change::Remove(at, len)),
        (any::<Index>(), 1_usize..200).prop_map(|(at, len)| Change::Double(at, len)),
        (any::<Index>(), any::<Index>(), 1_usize..200).prop_map(|(at, to, len)| Change::Move(at, to, len)),
        any::<Index>().prop_map(Change::Cut),
    ];
    proptest::collection::vec(one, 1..4)
}

fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    for change in changes {
        let at = |index: &Index, all: &[u8]| index.index(all.len() + 1);
        match change {
            Change::Flip(index, bits) => {
                if !all.is_empty() {
                    let at = index.index(all.len());
                    all[at] ^= bits;
                }
            }
            Change::Insert(index, piece) => {
                let at = at(index, &all);
                all.splice(at..at, piece.iter().copied());
            }
            Change::Remove(index, len) => {
                let at = at(index, &all);
                all.drain(at..(at + len).min(all.len()));
            }
            Change::Double(index, len) => {
                let at = at(index, &all);
                let piece = all[at..(at + len).min(all.len())].to_vec();
                all.splice(at..at, piece);
            }
            Change::Move(index, to, len) => {
                let at = at(index, &all);
                let piece: Vec<u8> = all.drain(at..(at + len).min(all.len())).collect();
                let to = to.index(all.len() + 1);
                all.splice(to..to, piece);
            }
            Change::Cut(index) => all.truncate(at(index, &all)),
        }
    }
    all
}

type Artifacts = Vec<(String, Vec<u8>)>;

/// One run's evidence, written once; each artifact with its bytes.
fn written() -> &'static (Written, Artifacts) {
    static ONCE: OnceLock<(Written, Artifacts)> = OnceLock::new();
    ONCE.get_or_init(|| {
        let written = Run::new().write(|_| {});
        let entries = std::fs::read_dir(&written.path).unwrap();
        let mut all: Artifacts = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .collect();
        all.sort();
        (written, all)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_verifies_but_what_was_written(which in any::<Index>(), changes in changes(), mended in any::<bool>()) {
        let (written, all) = written();
        let (name, bytes) = which.get(all);
        let other = changed(bytes, &changes);
        // A directory of its own for each case: tests may run beside each other.
        let copy = tempfile::tempdir().unwrap();
        for (name, bytes) in all {
            std::fs::write(copy.path().join(name), bytes).unwrap();
        }
        std::fs::write(copy.path().join(name), &other).unwrap();
        // With its digest made anew in the manifest the parser behind the digests is reached as well; the events
        // (`artifact.written`, the chain) are as they were, so that this is no forgery of everything that agrees.
        let unnamed = UNNAMED.contains(&name.as_str());
        if mended && !unnamed && other != *bytes {
            let mut report = Report::from_json(&std::fs::read(written.path.join(REPORT)).unwrap()).unwrap();
            for one in report.digest_manifest.iter_mut().filter(|one| one.name == *name) {
                one.digest.sha256 = hex::encode(&Sha256::digest(&other));
                one.annotations.size = other.len() as u64;
            }
            if name == EVENTS {
                report.events.count = other.iter().filter(|byte| **byte == b'\n').count() as u64;
            }
            let text = report.to_json().unwrap();
            let line = format!("{}  {REPORT}\n", hex::encode(&Sha256::digest(&text)));
            std::fs::write(copy.path().join(REPORT), text).unwrap();
            std::fs::write(copy.path().join(REPORT_DIGEST), line).unwrap();
        }
        if name == REPORT && mended {
            let line = format!("{}  {REPORT}\n", hex::encode(&Sha256::digest(&other)));
            std::fs::write(copy.path().join(REPORT_DIGEST), line).unwrap();
        }
        let result = verify(copy.path(), VerifyOptions::default());
        prop_assert_eq!(result.valid, other == *bytes, "{}: {:?}", name, result.problems);
        for problem in &result.problems {
            prop_assert!(!problem.to_string().contains(crate::report::escape::is_deceptive), "{problem}");
        }
    }
}
