//! Keys as files: what is made, what is refused, and where they may not lie.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_key_that_cannot_be_used_is_named_before_anything_starts() {
    each(|repo| {
        let world = repo.world();
        let keys = keygen(world, "good.pem");
        openssl(
            repo,
            "umask 077
             openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out rsa.pem 2>/dev/null
             openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem
             openssl pkey -in good.pem -aes256 -passout pass:secret -out encrypted.pem
             openssl ecparam -name prime256v1 -genkey -noout -out traditional.pem
             sed s/PRIVATE/'OPENSSH PRIVATE'/ good.pem >openssh.pem
             ln -s good.pem link.pem; mkfifo fifo.pem; mkdir directory.pem; : >empty.pem
             cat good.pem good.pem >two.pem; head -c 100 /dev/urandom >binary.pem; printf 'hello\\n' >text.pem
             cp good.pem hard.pem; ln hard.pem hard2.pem; cp good.pem open.pem; chmod 644 open.pem
             cp good.pem group.pem; chmod 620 group.pem; cp good.pem public.pem; cp good.pem.pub public.pem
             sed 's/^MC4/MC5/' good.pem >unsound.pem; truncate -s 70000 huge.pem",
        );
        let private = "proctor keygen";
        let cases: &[(&str, &[&str])] = &[
            ("absent.pem", &["does not exist", private]),
            ("link.pem", &["is a symbolic link", "name the file itself"]),
            ("fifo.pem", &["is a fifo, not a regular file", private]),
            ("directory.pem", &["is a directory, not a regular file"]),
            ("empty.pem", &["is empty", private]),
            ("binary.pem", &["is no PEM file", private]),
            ("text.pem", &["is no PEM file: no line begins with -----BEGIN", private]),
            ("huge.pem", &["is larger than 65536 bytes"]),
            ("two.pem", &["holds more than one PEM block"]),
            ("unsound.pem", &["holds no sound private key", private]),
            ("hard.pem", &["has 2 names (hard links)", "copy it to a file of its own"]),
            ("open.pem", &["has mode 0644: others than its owner could read or change it", "chmod 600"]),
            ("group.pem", &["has mode 0620", "chmod 600"]),
            ("public.pem", &["holds a public key, and what signs is the private one", private]),
            ("rsa.pem", &["holds a key of RSA (object identifier 1.2.840.113549.1.1.1)", "Ed25519 alone"]),
            ("ec.pem", &["holds a key of an elliptic curve of ECDSA", private]),
            ("traditional.pem", &["is a PEM of the kind EC PRIVATE KEY, not PKCS#8"]),
            ("openssh.pem", &["OpenSSH's own format", private]),
            ("encrypted.pem", &["holds an encrypted key", "openssl pkey -in KEY -out NEW"]),
            ("../keys", &["is a directory"]),
            ("none/there.pem", &["its directory", "cannot be opened"]),
        ];
        for (name, words) in cases {
            let path = world.path("keys").join(name);
            let call = run(repo, &["--no-test", "--sign"]).arg(&path).args(["--", "sh", "-c", MEND]);
            refused(repo, call, &[&["--sign", name][..], words].concat());
        }
        // The good one is no longer one where another can have it.
        passes(&signed(repo, &keys, &["--no-test"]), repo);
    });
    for user in users().into_iter().filter(|_| users().len() > 1) {
        let world = World::new(user);
        let repo = TestRepo::small(&world);
        let keys = keygen(&world, "good.pem");
        std::os::unix::fs::chown(&keys.private, Some(4321), Some(4321)).unwrap();
        let words: &[&str] = match user {
            harness::User::Root => &["belongs to uid 4321, not to uid 0", "use a key of your own"],
            harness::User::Ordinary => &["cannot be opened: Permission denied"],
        };
        let sign = keys.private.display().to_string();
        refused(&repo, sh(&repo, &["--no-test", "--sign", &sign], MEND), words);
    }
}

#[test]
fn a_key_in_the_tree_or_in_what_a_sandbox_shows_is_refused() {
    each(|repo| {
        let world = repo.world();
        let keys = keygen(world, "signing.pem");
        let key = keys.private.display().to_string();
        outside(
            repo,
            "mkdir -p ../data/deep; cp -p ../keys/signing.pem ../data/deep/key.pem; ln -s data ../alias",
        );
        outside(repo, "umask 077; cp ../keys/signing.pem .git/key.pem; git worktree add -q ../linked");
        let at = |name: &str| world.path(name).display().to_string();
        let shown = ["would show", "below ~/.config/proctor"];
        for (mount, key) in [
            ("data", "data/deep/key.pem"),
            ("data/deep", "data/deep/key.pem"),
            ("alias", "data/deep/key.pem"),
            ("data", "alias/deep/key.pem"),
            ("data/deep/key.pem", "data/deep/key.pem"),
        ] {
            for option in ["--ro", "--rw", "--overlay", "--test-ro", "--review-ro"] {
                if mount.ends_with(".pem") && option == "--overlay"
                    || option == "--review-ro" && mount != "data"
                {
                    continue;
                }
                let options = ["--test", "true", "--review", "true", option, &at(mount), "--sign", &at(key)];
                refused(repo, sh(repo, &options, MEND), &shown);
            }
        }
        let git = repo.path().join(".git/key.pem").display().to_string();
        refused(repo, sh(repo, &["--no-test", "--sign", &git], MEND), &["--sign", "inside the work tree"]);
        // A linked work tree's repository lies elsewhere, and is shown all the same.
        let linked = proctor(world).args(["run", "--no-test", "--repo"]).arg(world.path("linked"));
        let words = ["the key file", "which the backend sees", "below ~/.config/proctor"];
        refused(repo, linked.args(["--sign", &git, "--", "true"]), &words);
        // The others are told as well.
        for command in ["explain", "why", "learn"] {
            let more: &[&str] = if command == "why" { &["/etc"] } else { &[] };
            let call = proctor(world).args([command, "--repo"]).arg(repo.path()).args(more);
            let call = call.args(["--ro", &at("data"), "--sign", &at("data/deep/key.pem"), "--", "true"]);
            refused(repo, call, &["which a sandbox of this run would show"]);
        }
        // Where it may lie, nothing inside reaches it.
        let script = format!("cat {key} ../keys/* && echo reached; env | grep -c PRIVATE; {MEND}");
        let outcome = sh(repo, &["--no-test", "--sign", &key], &script).run();
        passes(&outcome, repo);
        assert_eq!(outcome.text("backend.stdout.log"), "0\n");
        assert!(outcome.text("backend.stderr.log").contains("No such file or directory"), "{outcome:#?}");
    });
}

#[test]
fn keygen_says_what_it_made_and_writes_over_nothing() {
    each(|repo| {
        let world = repo.world();
        let path = world.path("keys/k.pem");
        let made = proctor(world).args(["--json", "keygen"]).arg(&path).run();
        assert_eq!(made.code, Some(0), "{made:#?}");
        let said: Value = serde_json::from_str(&made.stdout).unwrap();
        assert_eq!(said["private_key"], path.display().to_string());
        assert_eq!(said["public_key"], format!("{}.pub", path.display()));
        assert!(said["algorithm"] == "ed25519" && said["key_id"].as_str().is_some_and(|id| id.len() == 64));
        assert!(made.stderr.contains("mode 0600"), "{made:#?}");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(&world.path("keys/k.pem.pub"))), (0o600, 0o644));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!format!("{made:?}").contains(text.lines().nth(1).unwrap()), "the key itself was printed");

        let call = |name: &str| proctor(world).arg("keygen").arg(world.path(name));
        refused(repo, call("keys/k.pem"), &["k.pem is there already", "never written over", "another name"]);
        outside(repo, "ln -s nowhere ../keys/dangling; : >../keys/half.pub; mkdir ../keys/dir");
        refused(repo, call("keys/dangling"), &["dangling is there already"]);
        refused(repo, call("keys/half"), &["half.pub is there already"]);
        refused(repo, call("keys/dir"), &["dir is there already"]);
        refused(repo, call("repo/src/k.pem"), &["would lie in the git work tree", "below ~/.config/proctor"]);
        refused(repo, call("repo/.git/new/k.pem"), &["would lie in the git work tree"]);
        refused(repo, call("repo/new/deep/k.pem"), &["would lie in the git work tree"]);
        refused(repo, call(".."), &["has no name"]);
        refused(repo, call("keys/k.pem/below"), &["cannot be made", "give another place"]);
        refused(repo, proctor(world).args(["keygen", "/proc/k.pem"]), &["k.pem cannot be made"]);
        let umask = openssl(repo, &format!("umask 777; {} keygen open.pem", crate::binary().display()));
        assert_eq!((umask.len(), mode(&world.path("keys/open.pem.pub"))), (65, 0o644));
    });
}

#[test]
fn a_key_to_verify_with_that_is_none_is_named() {
    each(|repo| {
        let keys = keygen(repo.world(), "signing.pem");
        let outcome = signed(repo, &keys, &["--no-test"]);
        openssl(
            repo,
            "umask 077
             openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 2>/dev/null | openssl pkey -pubout -out rsa.pub
             { echo '-----BEGIN PUBLIC KEY-----'; printf '302a300506032b65700321000100000000000000000000000000000000000000000000000000000000000000' | xxd -r -p | base64; echo '-----END PUBLIC KEY-----'; } >weak.pub
             sed s/PUBLIC/OTHER/ signing.pem.pub >other.pub; mkfifo fifo.pub",
        );
        let cases: &[(&str, &[&str])] = &[
            ("absent.pub", &["does not exist", "KEY.pub"]),
            ("fifo.pub", &["is a fifo"]),
            (
                "signing.pem",
                &["holds a private key (PRIVATE KEY)", "needs the public one alone", "to yourself"],
            ),
            ("rsa.pub", &["holds a key of RSA"]),
            ("weak.pub", &["no Ed25519 public key, or a weak one"]),
            ("other.pub", &["is a PEM of the kind OTHER KEY", "openssl pkey -in KEY -pubout"]),
        ];
        for (name, words) in cases {
            let path = repo.world().path("keys").join(name);
            let said = verify(repo, &outcome.evidence(), &[&path]);
            assert_eq!(said.code, Some(2), "{said:#?}");
            for word in [&["--key: the key file", name][..], words].concat() {
                assert!(said.stderr.contains(word), "{word:?} is not in {said:#?}");
            }
        }
    });
}
