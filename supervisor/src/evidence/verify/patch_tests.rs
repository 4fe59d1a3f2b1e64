use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<PatchFiles, String> {
    read_patch(text.as_bytes())
}

/// As git 2.47 writes it.
const PATCH: &str = "\
diff --git a/mod.txt b/mod.txt
index 0123456..89abcde 100644
--- a/mod.txt
+++ b/mod.txt
@@ -1,2 +1,2 @@
 diff --git a/x b/x
--- a/fake
+++ b/fake
\\ No newline at end of file
@@ -10 +10,2 @@ fn x
 y
+z
diff --git a/new file b/new file
new file mode 100755
index 0000000..89abcde
--- /dev/null
+++ b/new file\t
@@ -0,0 +1 @@
+x
diff --git a/gone b/gone
deleted file mode 100644
index 89abcde..0000000
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/empty b/empty
new file mode 100644
index 0000000..e69de29
diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
diff --git a/old name b/sub/new name
similarity index 100%
rename from old name
rename to sub/new name
diff --git \"a/\\303\\251\\t\\\"\" \"b/\\303\\251\\t\\\"\"
index 0123456..89abcde 100644
GIT binary patch
literal 5
Mc$~{iEiNf4D9X=DO)dZc9{~Vy

literal 3
Kc$}k_uK@r90RR91

diff --git a/link b/link
deleted file mode 100644
index 89abcde..0000000
--- a/link
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/link b/link
new file mode 120000
index 0000000..89abcde
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
    let both = |mode: &str| (Some(text(mode)), Some(text(mode)));
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
            (b"run.sh".to_vec(), (Some(text("100644")), Some(text("100755")))),
            ("é\t\"".as_bytes().to_vec(), both("100644")),
        ]
        .into()
    );
    assert_eq!(files.renamed, [(b"sub/new name".to_vec(), (b"old name".to_vec(), None, None))].into());
}

/// `git diff --cached --binary --full-index -M` of git itself: CRLF, NUL bytes, spaces, tabs, quotes, bytes that are
/// no UTF-8, no newline at the end, a file made a symlink, and content that looks like headers.
#[test]
fn what_git_writes_is_read() {
    let files = read_patch(&include_bytes!("patch_git.diff")[..]).unwrap();
    let names =
        |paths: Vec<&PathBytes>| paths.iter().map(|p| p.escape_ascii().to_string()).collect::<Vec<_>>();
    assert_eq!(names(files.added.keys().collect()), ["link", "nb", "tricky", "\\xff\\x01"]);
    assert_eq!(names(files.deleted.keys().collect()), ["link"]);
    let modified = names(files.modified.keys().collect());
    assert_eq!(modified, ["a b", "bin", "crlf", "many", "nonl", "s.sh", "\\xc3\\xa9\\\"q\\ttab"]);
    assert_eq!(names(files.renamed.keys().collect()), ["d/to", "new"]);
    assert_eq!(files.added[&b"link"[..]], "100644");
    assert_eq!(files.deleted[&b"link"[..]], "120000");
}

#[test]
fn an_empty_patch_changes_nothing() {
    assert_eq!(read("").unwrap(), PatchFiles::default());
}

#[test]
fn what_git_would_not_write_is_an_error() {
    for (text, why) in [
        ("hello\n", "line 1 is not what git writes there"),
        ("diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n", "different ones"),
        ("diff --git a/x b/y\nold mode 100644\nnew mode 100755\n", "different ones"),
        ("diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n", "ends in the middle"),
        ("diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n+c\n", "line 8"),
        ("diff --git a/x b/x\nnew file mode 100777\n", "line 2"),
        ("diff --git a/../x b/../x\nold mode 100644\nnew mode 100755\n", "leads out"),
        ("diff --git a/s/.Git/x b/s/.Git/x\nnew file mode 100644\nindex 0..1\n", ".git"),
        (
            "diff --git a/x b/x\nnew mode 100755\nold mode 100644\ndiff --git a/x b/x\nold mode 100644\n",
            "changed twice",
        ),
        ("diff --git a/x b/x\nold mode 100644\nnew mode 100755", "was cut"),
        ("diff --git a/x b/x\nindex 1..2 100644\nBinary files a/x and b/x differ\n", "line 3"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(why), "{text:?}: {error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_patch(&bytes[..]);
    }

    #[test]
    fn a_damaged_patch_is_read_without_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = PATCH.as_bytes().to_vec();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        let _ = read_patch(&bytes[..]);
    }
}
