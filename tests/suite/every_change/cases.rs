//! The cases. Each script runs as it stands both inside and outside, so it names nothing but its own tree.
//! The tree has `src/value.txt`, `check.sh`, `.gitignore` (`target/`) and `README`.

use super::{Case, Expected, case};

const NO_DIFF: Expected = Expected::NoDiff;

pub(super) const CONTENTS: &[Case] = &[
    case("a new file", "echo new > new.txt"),
    case("an empty file", ": > empty"),
    case("a file in directories that are new", "mkdir -p a/b/c/d; echo x > a/b/c/d/e"),
    case("other content", "echo mended > src/value.txt"),
    case("content of the same length", "printf 'BROKEN\\n' > src/value.txt"),
    case("more at the end", "echo more >> README"),
    case("nothing left", ": > README"),
    case("no line feed at the end", "printf mended > src/value.txt"),
    case("a line feed more", "echo >> README"),
    case("carriage returns", "printf 'one\\r\\ntwo\\r\\n' > crlf.txt"),
    case("bytes that are no text", "printf '\\000\\001\\377\\376' > binary"),
    case("text that becomes binary", "printf 'a\\000b' > README"),
    case("binary that becomes text", "echo text > blob").after("printf '\\000\\001' > blob"),
    case("binary that changes", "printf '\\000\\002' > blob").after("printf '\\000\\001' > blob"),
    case("one line of a megabyte", "head -c 1000000 /dev/zero | tr '\\0' x > long"),
    case("a hundred thousand lines", "seq 100000 > lines"),
    case("a line in the middle of many", "sed -i 's/^5000$/x/' lines").after("seq 10000 > lines"),
    case("eight megabytes", "seq 1200000 > large"),
    case("a sparse file", "truncate -s 20M holes"),
    case("a sparse file with an end", "truncate -s 8M holes; echo end >> holes"),
    case("text that looks like a patch", "printf -- '--- a/x\\n+++ b/x\\n@@ -1 +1 @@\\n-a\\n+b\\n' > README"),
    case("two thousand files", "mkdir many; for i in $(seq 2000); do echo $i > many/$i; done"),
    case("no UTF-8", "printf 'caf\\351\\n' > latin1.txt"),
];

pub(super) const MODES: &[Case] = &[
    case("a program", "echo 'exit 0' > run.sh; chmod +x run.sh"),
    case("executable from now on", "chmod +x check.sh"),
    case("executable no more", "chmod -x tool").after("echo x > tool; chmod +x tool"),
    case("mode and content", "chmod +x check.sh; echo true > check.sh"),
    case("executable for one of three", "chmod o+x check.sh; chmod u+x README"),
    case("a new file that nobody may read", "echo x > shut; chmod 000 shut"),
    case("a new directory that nobody may enter", "mkdir shut; echo x > shut/in; chmod 000 shut"),
    case("write permission for all", "chmod 666 README").is(NO_DIFF),
    case("a directory's mode", "chmod 700 src").is(NO_DIFF),
    case("modes where the repository heeds none", "chmod +x check.sh; echo x > new; chmod +x new")
        .and("git config core.fileMode false"),
];

pub(super) const NAMES: &[Case] = &[
    case("a line feed", "echo x > \"$(printf 'a\\nb')\""),
    case("a tab", "echo x > \"$(printf 'a\\tb')\""),
    case("quotes", "echo x > 'a\"b'; echo y > \"a'b\""),
    case("a backslash", "echo x > 'a\\b'"),
    case("bytes that are no UTF-8", "echo x > \"$(printf 'a\\377\\376b')\""),
    case(
        "a directory whose name is no UTF-8",
        "mkdir \"$(printf 'd\\351')\"; echo x > \"$(printf 'd\\351')/f\"",
    ),
    case("a leading dash", "echo x > ./-rf; mkdir -- --all; echo y > --all/-x"),
    case("spaces at both ends", "echo x > ' a '; mkdir ' d '; echo y > ' d / e '"),
    case("letters of globs", "echo x > '*'; echo y > '[a]'; echo z > '{a,b}'; echo q > '?'"),
    case("what a shell would obey", "echo x > '$(id)'; echo y > '`id`'; echo z > 'a;b'"),
    case(
        "control and bidirectional characters",
        "echo x > \"$(printf 'a\\033[31mb')\"; echo y > \"$(printf 'a\\342\\200\\256b')\"",
    ),
    case("a name of 255 bytes", "echo x > $(printf 'n%.0s' $(seq 255))"),
    case(
        "a path near PATH_MAX",
        "d=$(printf 'd%.0s' $(seq 200)); for i in $(seq 15); do mkdir $d; cd -P $d; done; echo x > deep",
    ),
    case("names that differ in case alone", "echo a > Name; echo b > name; echo c > NAME"),
    case(
        "letters composed and not",
        "echo a > \"$(printf 'e\\314\\201')\"; echo b > \"$(printf '\\303\\251')\"",
    ),
    case("what looks like a rename in a patch", "echo x > 'a => b'; echo y > 'diff --git a b'"),
    case("a file in the place of a prefix", "echo x > src.txt; echo y > src-; echo z > src0"),
];

pub(super) const TYPES: &[Case] = &[
    case("a file becomes a link", "rm README; ln -s check.sh README"),
    case("a link becomes a file", "rm link; echo file > link").after("ln -s README link"),
    case("a file becomes a directory", "rm README; mkdir README; echo in > README/in"),
    case("a directory becomes a file", "rm -r src; echo file > src"),
    case("a directory becomes a link", "rm -r src; mkdir other; echo x > other/y; ln -s other src"),
    case("a link becomes a directory", "rm link; mkdir link; echo in > link/in").after("ln -s src link"),
    case("a link leads elsewhere", "ln -sfn check.sh link").after("ln -s README link"),
    case("a new link", "ln -s src/value.txt link; mkdir d; ln -s ../README d/up"),
    case("a link to nothing", "ln -s src/not-there link"),
    case("a link with an odd target", "ln -s \"$(printf 'src/a\\nb \\377')\" link"),
    case("hard links", "ln README hard; ln README harder"),
    case("a hard link that is written through", "ln README hard; echo more >> hard"),
    case("a hard link of new files", "echo x > one; mkdir d; ln one d/two"),
    case("a program becomes a link", "rm tool; ln -s check.sh tool").after("echo x > tool; chmod +x tool"),
];

pub(super) const TREES: &[Case] = &[
    case("a file goes", "rm README"),
    case("a directory goes", "rm -r src"),
    case("everything goes but what is protected", "rm -r src README check.sh"),
    case("a file moves", "mv README LIESMICH"),
    case("a file moves and changes", "mv lines Lines; echo more >> Lines").after("seq 100 > lines"),
    case("a directory moves", "mv src source"),
    case("a directory moves into another", "mkdir deep; mv src deep/"),
    case("two files change places", "mv README t; mv check.sh README; mv t check.sh"),
    case("a file moves over another", "mv README check.sh"),
    case("a name changes its case", "mv README ReadMe"),
    case("a directory made anew", "rm -r src; mkdir src; echo other > src/other.txt"),
    case("a directory made anew with some of what it had", "rm -r d; mkdir d; echo 1 > d/1; echo 4 > d/4")
        .after("mkdir d; for i in 1 2 3; do echo $i > d/$i; done"),
    case("a directory gone beneath and back above", "rm -r a; mkdir -p a/b; echo new > a/b/c")
        .after("mkdir -p a/b/c; echo x > a/b/c/d"),
    case("copies", "cp -r src copy; cp README copy/"),
    case("a file goes and its directory stays", "rm src/value.txt; mkdir -p empty/dir"),
    case("a move there and half back", "mv src s; mkdir src; mv s/value.txt src/value.txt; echo x > s/left"),
];

pub(super) const EQUAL: &[Case] = &[
    case("nothing", "true").is(NO_DIFF),
    case("touched", "touch README src/value.txt; touch -d 2001-01-01 check.sh").is(NO_DIFF),
    case("written with what it had", "cat README > x; cat x > README; rm x").is(NO_DIFF),
    case("opened for writing", "exec 3<>README; exec 4>>README").is(NO_DIFF),
    case("gone and back", "cp README x; rm README; mv x README; cp -r src s; rm -r src; mv s src").is(NO_DIFF),
    case("changed and changed back", "sed -i s/broken/x/ src/value.txt; sed -i s/x/broken/ src/value.txt").is(NO_DIFF),
    case("empty directories", "mkdir -p one/two/three src/four").is(NO_DIFF),
    case("extended attributes", "python3 -c \"import os; os.setxattr('README', 'user.note', b'x'); os.setxattr('src', 'user.note', b'x')\"").is(NO_DIFF),
    case("attributes like an overlay's", "python3 -c \"import os; os.setxattr('src', 'user.overlay.opaque', b'y')\" 2>/dev/null; true").is(NO_DIFF),
    case("touched, and one other", "touch README; cat check.sh > x; cat x > check.sh; rm x; echo new > new"),
];

pub(super) const GIT_ITSELF: &[Case] = &[
    case("a commit", "echo x > new; git add new; git -c user.name=b -c user.email=b commit -qm x"),
    case("a commit amended", "echo x > new; git add new; git -c user.name=b -c user.email=b commit -q --amend -m x"),
    case("a reset to the commit before", "git reset -q --hard HEAD~1").after("echo more >> README; echo second > second"),
    case("an older file", "git checkout -q HEAD~1 -- README").after("echo more >> README"),
    case("a branch with its commits, and back", "git checkout -qb b; echo x > new; git add new; git -c user.name=b -c user.email=b commit -qm x; git checkout -q main").is(NO_DIFF),
    case("a branch that stays", "git checkout -qb b; echo x > new; git add new; git -c user.name=b -c user.email=b commit -qm x"),
    case("a rebase", "git checkout -qb b HEAD~1; echo b > b; git add b; git -c user.name=b -c user.email=b commit -qm b; git -c user.name=b -c user.email=b rebase -q main").after("echo more >> README"),
    case("a stash", "echo x >> README; git -c user.name=b -c user.email=b stash -q").is(NO_DIFF),
    case("git's own move and removal", "git mv README read.me; git rm -q check.sh"),
    case("changes staged and not", "echo 1 >> README; git add README; echo 2 >> README; echo x > n; git add -N n"),
    case("no .git any more", "rm -rf .git; echo x > new"),
    case("another repository in its place", "rm -rf .git; git init -q; echo x > new; git add -A; git -c user.name=b -c user.email=b commit -qm other"),
    case("a file in its place", "rm -rf .git; echo 'gitdir: /nowhere' > .git; echo x > new"),
    case("garbage collected", "git gc -q --prune=now; echo x > new"),
    case("hidden by an index bit", "git update-index --assume-unchanged README; git update-index --skip-worktree check.sh; echo x >> README; echo x >> check.sh"),
    case("hidden by a setting", "git config core.excludesFile /dev/stdin; echo new > .git/info/exclude; git config core.fileMode false; chmod +x check.sh; echo x > new"),
    case("stored otherwise by a setting", "git config core.autocrlf true; printf 'a\\r\\nb\\r\\n' > crlf"),
    case("stored otherwise by the index's attributes", "echo '* text=auto' > .git/info/attributes; printf 'a\\r\\nb\\r\\n' > crlf"),
    case("references gone", "rm -rf .git/refs .git/packed-refs; echo x > new"),
];

pub(super) const IGNORED: &[Case] = &[
    case("what base ignores", "mkdir target; echo x > target/x").is(NO_DIFF).drops(&["target"]),
    case("what base ignores, and something else", "mkdir target; echo x > target/x; echo y > new").drops(&["target"]),
    case("what base ignores, added by force", "mkdir target; echo x > target/x; git add -f target/x; git -c user.name=b -c user.email=b commit -qm x")
        .is(NO_DIFF)
        .drops(&["target"]),
    case("what base ignores and tracks", "echo changed > kept.log").after("echo '*.log' >> .gitignore; echo x > kept.log; git add -f kept.log"),
    case("what a new ignore file would hide", "echo '*' > .gitignore; echo x > new").lifted(),
    case("what base ignored, and no longer", ": > .gitignore; mkdir target; echo x > target/x")
        .lifted()
        .drops(&["target"]),
    case("what an ignore file below hides", "echo x > sub/a.tmp; echo y > sub/b").after("mkdir sub; echo '*.tmp' > sub/.gitignore").drops(&["sub/a.tmp"]),
    case("what a pattern takes back", "mkdir -p b; echo x > b/a.o; echo y > b/keep.o").after("printf '*.o\\n!keep.o\\n' >> .gitignore").drops(&["b/a.o"]),
    case("a real ignored file changed", "echo other > target/old; rm -f target/older").and("mkdir target; echo old > target/old; echo older > target/older").is(NO_DIFF).drops(&["target"]),
];

pub(super) const REPOSITORIES: &[Case] = &[
    case("attributes that store line feeds", "printf 'a\\r\\nb\\r\\n' > t.txt; printf 'a\\r\\n' > raw.bin")
        .after("printf '*.txt text eol=crlf\\n*.bin -text\\n' > .gitattributes"),
    case("attributes that change", "echo '*.txt -text' > .gitattributes; printf 'a\\r\\nb\\r\\n' > t.txt")
        .after("echo '*.txt text' > .gitattributes")
        .lifted(),
    case("a repository that converts line ends", "printf 'a\\r\\nb\\r\\n' > t.txt; printf 'c\\r\\n' >> src/value.txt").and("git config core.autocrlf true"),
    case("a repository that converts on the way in", "printf 'a\\r\\nb\\r\\n' > t.txt").and("git config core.autocrlf input"),
    case("a detached HEAD", "echo x > new; rm README").and("git checkout -q --detach"),
    case("a linked work tree", "echo x > new; echo mended > src/value.txt").and("git worktree add -q ../linked -b linked").within("linked"),
    case("a sparse checkout", "echo x > src/new; rm src/value.txt").after("mkdir docs; echo d > docs/d").and("git sparse-checkout set src"),
    case("a sparse checkout in which what is not there is made", "mkdir docs; echo other > docs/d").after("mkdir docs; echo d > docs/d").and("git sparse-checkout set src"),
    case("packed references and objects", "echo x > new; echo more >> README").and("git gc -q"),
    case("a repository with a submodule", "echo x > new").after("git init -q ../inner; git -C ../inner -c user.name=a -c user.email=a commit -q --allow-empty -m x; git -c protocol.file.allow=always submodule add -q ../inner sub; git submodule deinit -q -f sub"),
    case("SHA-256 objects", "echo x > new; rm README; echo mended > src/value.txt").within("sha256").and(
        "git init -q --object-format=sha256 ../sha256; cp -r src README check.sh .gitignore ../sha256/; cd ../sha256; git add -A; git commit -qm base",
    ),
    case("a pointer of LFS that stays one", "printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 9\\n' 2 > big.bin")
        .after("printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 1\\n' 1 > big.bin; echo '*.bin filter=lfs diff=lfs merge=lfs -text' > .gitattributes"),
];

pub(super) const REFUSED: &[Case] = &[
    case("a fifo", "mkfifo pipe").is(Expected::Refused(&["pipe fifo"])),
    case("a socket", "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('sock')\"").is(Expected::Refused(&["sock socket"])),
    case("a repository within", "git init -q inner; echo x > inner/f").is(Expected::Refused(&["inner/.git dot_git"])),
    case("a link out of the tree", "ln -s /etc/passwd out; ln -s ../../up up").is(Expected::Refused(&["out symlink", "up symlink"])),
    case("a link into .git", "ln -s .git/config link").is(Expected::Refused(&["link symlink"])),
    case("a link to itself", "ln -s loop loop").is(Expected::Refused(&["loop symlink"])),
    case("a hidden path", "echo x > .env.local").is(Expected::Refused(&[".env.local hidden"])),
    case("protected paths", "mkdir .github; echo x > .github/ci.yml; echo x >> .gitignore").is(Expected::Refused(&[".github/ci.yml protect", ".gitignore protect"])),
    case("a protected path goes", "rm .gitignore").is(Expected::Refused(&[".gitignore protect"])),
    case("a pointer of LFS that becomes content", "printf '\\000content' > big.bin")
        .after("printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 1\\n' 1 > big.bin; echo '*.bin filter=lfs diff=lfs merge=lfs -text' > .gitattributes")
        .is(Expected::Refused(&["big.bin lfs"])),
    case("content in a submodule", "echo x > sub/f").after("git init -q ../inner; git -C ../inner -c user.name=a -c user.email=a commit -q --allow-empty -m x; git -c protocol.file.allow=always submodule add -q ../inner sub; git submodule deinit -q -f sub").is(Expected::Refused(&["sub gitlink"])),
    case("a filter that would have to run", "echo x > a.enc").after("echo '*.enc filter=crypt' > .gitattributes").is(Expected::Refused(&["a.enc filter"])),
];
