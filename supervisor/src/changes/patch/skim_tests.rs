use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<PatchFiles, String> {
    skim(text.as_bytes())
}

/// As it is written; no other form of the same is read.
const PATCH: &str = "\
diff --git a/mod.txt b/mod.txt
index 1111111111111111111111111111111111111111..2222222222222222222222222222222222222222 100644
--- a/mod.txt
+++ b/mod.txt
@@ -1,2 +1,2 @@
 diff --git a/x b/x
--- a/fake
+++ b/fake
@@ -10 +10,2 @@
 y
+z
diff --git a/new file b/new file
new file mode 100755
index 0000000000000000000000000000000000000000..2222222222222222222222222222222222222222
--- /dev/null
+++ b/new file\t
@@ -0,0 +1 @@
+x
diff --git a/gone b/gone
deleted file mode 100644
index 2222222222222222222222222222222222222222..0000000000000000000000000000000000000000
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/empty b/empty
new file mode 100644
index 0000000000000000000000000000000000000000..2222222222222222222222222222222222222222
diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
diff --git \"a/\\303\\251\\t\\\"\" \"b/\\303\\251\\t\\\"\"
index 1111111111111111111111111111111111111111..2222222222222222222222222222222222222222 100644
GIT binary patch
literal 5
Mc$~{iEiNf4D9X=DO)dZc9{~Vy

literal 3
Kc$}k_uK@r90RR91

diff --git a/link b/link
deleted file mode 100644
index 2222222222222222222222222222222222222222..0000000000000000000000000000000000000000
--- a/link
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/link b/link
new file mode 120000
index 0000000000000000000000000000000000000000..2222222222222222222222222222222222222222
--- /dev/null
+++ b/link
@@ -0,0 +1 @@
+target
\\ No newline at end of file
";

#[test]
fn every_kind_of_change_is_read() {
    let files = read(PATCH).unwrap();
    let text = |mode: &str| mode.to_owned();
    let both = |mode: &str| (text(mode), text(mode));
    assert_eq!(
        files.added,
        [
            (b"new file".to_vec(), text("100755")),
            (b"empty".to_vec(), text("100644")),
            (b"link".to_vec(), text("120000")),
        ]
        .into()
    );
    assert_eq!(
        files.deleted,
        [(b"gone".to_vec(), text("100644")), (b"link".to_vec(), text("100644"))].into()
    );
    assert_eq!(
        files.modified,
        [
            (b"mod.txt".to_vec(), both("100644")),
            (b"run.sh".to_vec(), (text("100644"), text("100755"))),
            ("é\t\"".as_bytes().to_vec(), both("100644")),
        ]
        .into()
    );
}

#[test]
fn an_empty_patch_changes_nothing() {
    assert_eq!(read("").unwrap(), PatchFiles::default());
}

#[test]
fn what_is_never_written_is_an_error() {
    let (a, b, null) = ("1".repeat(40), "2".repeat(40), "0".repeat(40));
    let file = format!("diff --git a/x b/x\nindex {a}..{b} 100644\n");
    let text = format!("{file}--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n");
    assert!(read(&text).is_ok());
    for (text, why) in [
        ("hello\n".to_owned(), "line 1 is not what belongs there: expected `diff --git`"),
        (text.replace("+++ b/x", "+++ b/y"), "line 4 is not what belongs there: a header names another file"),
        (text.replace("+b\n", ""), "it ends in the middle of a hunk"),
        (format!("{text}+c\n"), "line 8 is not what belongs there: expected `diff --git`"),
        (text.replace("@@ -1 +1 @@", "@@ -1 +1 @@ fn x"), "malformed `@@`"),
        (text.replace(&a, "1111111"), "malformed `index`"),
        (text.replace(&b, &"A".repeat(40)), "malformed `index`"),
        (text.replace(&a, &null), "object ids do not fit the kind of change"),
        (text.replace("100644", "160000"), "none that a patch may carry"),
        (text.replace("100644", "100777"), "none that a patch may carry"),
        (text.trim_end().to_owned(), "it was cut"),
        (format!("{file}Binary files a/x and b/x differ\n"), "line 3 is not what belongs there"),
        ("diff --git a/x b/y\nold mode 100644\nnew mode 100755\n".into(), "not the same path"),
        (
            "diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n".into(),
            "not the same path",
        ),
        ("diff --git a/x b/x\nnew file mode 100777\n".into(), "line 2 is not what belongs there: a mode"),
        ("diff --git a/../x b/../x\nold mode 100644\nnew mode 100755\n".into(), "leads out"),
        ("diff --git a/s/.Git/x b/s/.Git/x\nold mode 100644\nnew mode 100755\n".into(), ".git"),
        ("diff --git a/x b/x\nnew mode 100755\nold mode 100644\n".into(), "expected `index`"),
        (format!("{text}{text}"), "the file before it is changed twice"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.contains(why), "{text:?}: {error}");
    }
}

/// Paths with their modes, as the parser tells of them that keeps content.
fn parsed(text: &[u8]) -> Result<PatchFiles, String> {
    let parts =
        super::super::parse::parse(text, gix_hash::Kind::Sha1, 1 << 30).map_err(|e| e.what.to_owned())?;
    let mut files = PatchFiles::default();
    for part in parts {
        let mode = |mode: u32| format!("{mode:o}");
        let again = match (part.old_mode.map(mode), part.new_mode.map(mode)) {
            (None, Some(mode)) => files.added.insert(part.path, mode).is_some(),
            (Some(mode), None) => files.deleted.insert(part.path, mode).is_some(),
            (Some(old), Some(new)) => files.modified.insert(part.path, (old, new)).is_some(),
            (None, None) => unreachable!("refused by the parser"),
        };
        if again {
            return Err("twice".to_owned());
        }
    }
    Ok(files)
}

/// Both parsers tell the same of `text`; only one looks into what is packed.
pub(crate) fn same(text: &[u8]) {
    match (skim(text), parsed(text)) {
        (Ok(skimmed), Ok(parsed)) => assert_eq!(skimmed, parsed, "{}", text.escape_ascii()),
        (Err(_), Err(_)) => {}
        (Ok(_), Err(why)) => {
            let content = [
                "malformed binary line",
                "binary content does not unpack to its size",
                "content is larger than the limit",
            ];
            assert!(content.contains(&why.as_str()), "{why}: {}", text.escape_ascii());
        }
        (Err(why), Ok(_)) => panic!("{why}: {}", text.escape_ascii()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        same(&bytes);
    }

    /// Lines of a sound patch, each there or not, doubled, or with a byte of it changed.
    #[test]
    fn a_damaged_patch_is_to_both_parsers_the_same(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut lines: Vec<Vec<u8>> = PATCH.as_bytes().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        for (which, how, at, byte) in changes {
            let which = which.index(lines.len());
            match how {
                0 => drop(lines.remove(which)),
                1 => lines.insert(which, lines[which].clone()),
                2 => { let to = at.index(lines.len()); lines.swap(which, to); }
                _ => { let place = at.index(lines[which].len()); lines[which][place] = byte; }
            }
        }
        same(&lines.concat());
    }
}
