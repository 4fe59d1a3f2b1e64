//! Every file under `fixtures/profiles`: valid ones resolve, invalid ones give exactly the error of their snapshot.
//! A file's name says what it is: `config-*`, `view-*`, `engine-*`, else a profile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::layers::{Layer, LayerKind};
use super::source::{SourceText, WorkTree};
use super::{Context, HostEnv, HostFacts, ProfileError, Request, engine, resolve, view};

fn fixtures(kind: &str) -> Vec<(String, PathBuf)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/profiles").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    files.sort();
    assert!(files.iter().all(|(name, _)| name.ends_with(".toml")), "only TOML files belong here");
    files
}

/// Reads a fixture the way its kind is read in a run. Messages name the file alone, not its directory.
fn check(name: &str, path: &Path) -> Result<(), ProfileError> {
    let source = SourceText { name: name.to_owned(), text: std::fs::read_to_string(path).unwrap() };
    let vars = [("HOME".into(), "/home/u".into()), ("TOKEN".into(), "s3cret".into())].into();
    let env = HostEnv { vars, system_dir: "/nonexistent".into() };
    let dir = tempfile::tempdir().unwrap();
    let tree = WorkTree::around(dir.path()).unwrap();
    let kind = match name.split_once('-') {
        Some(("view", _)) => return view::parse("v", "view v".into(), &source, &env).map(drop),
        Some(("engine", _)) => return engine::parse("e", &source, &env).map(drop),
        Some(("config", _)) => LayerKind::Config,
        _ => LayerKind::Profile,
    };
    let layers = [Layer::defaults()?, Layer::file(kind, source)?];
    let facts = HostFacts { memory: 8 << 30 };
    let cx = Context::new(&env, &facts);
    let request = Request { command: vec!["true".into()], repo: dir.path().into(), ..Request::default() };
    resolve::resolve_layers(&request, &layers, "p", &cx, &tree).map(drop)
}

#[test]
fn valid_fixtures_resolve() {
    let all = fixtures("valid");
    assert!(all.len() >= 5, "fixtures are missing");
    for (name, path) in all {
        check(&name, &path).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn invalid_fixtures_give_their_error() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots/invalid");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (name, path) in fixtures("invalid") {
            match check(&name, &path) {
                Ok(()) => panic!("{name} was accepted"),
                Err(error) => insta::assert_snapshot!(name.trim_end_matches(".toml"), error.to_string()),
            }
        }
    });
}

#[test]
fn every_invalid_fixture_has_a_snapshot_and_every_snapshot_a_fixture() {
    let snapshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/profile/snapshots/invalid");
    let have: BTreeSet<String> = std::fs::read_dir(snapshots)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".snap").map(str::to_owned))
        .collect();
    let want: BTreeSet<String> =
        fixtures("invalid").into_iter().map(|(name, _)| name.trim_end_matches(".toml").to_owned()).collect();
    assert!(want.len() >= 30, "fixtures are missing");
    assert_eq!(have, want);
}
