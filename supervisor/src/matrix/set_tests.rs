use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::engine::scenario::Scenario;
use crate::matrix::fixture::Engine;
use crate::verdict::BlockerCode;

fn fixtures(dir: &str) -> BTreeSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(dir);
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    fs::read_dir(dir)
        .unwrap()
        .map(name)
        .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
        .collect()
}

#[test]
fn every_fixture_is_embedded_and_valid_and_every_scenario_is_played() {
    let set = Set::embedded().unwrap();
    let names = |further: bool| -> BTreeSet<String> {
        set.rows.iter().filter(|row| row.further == further).map(|row| row.name.clone()).collect()
    };
    assert_eq!(names(false), fixtures("matrix"));
    assert_eq!(names(true), fixtures("matrix/further"));
    let played: BTreeSet<&str> = set
        .rows
        .iter()
        .filter_map(|row| row.fixture.fake.as_ref().and_then(|played| played.scenario.as_deref()))
        .collect();
    assert_eq!(played, SCENARIOS.iter().map(|(name, _)| *name).collect(), "embedded and played by a row");
    for name in fixtures("engines/fake") {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/engines/fake");
        let text = fs::read_to_string(dir.join(format!("{name}.toml"))).unwrap();
        let scenario = Scenario::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!scenario.description.is_empty() && !scenario.step.is_empty(), "{name}");
    }
    for row in &set.rows {
        assert!(row.fixture.description.len() > 10, "{}", row.name);
        // A row of this program's says of each engine how it is shown, or why not.
        assert!(row.fixture.fake.is_some() && row.fixture.command.is_some(), "{}", row.name);
        assert!(row.fixture.played(Engine::Fake).is_ok(), "{}", row.name);
    }
}

#[test]
fn the_twelve_rows_are_those_of_the_contract() {
    let contract = [
        ("no-diff", "no_diff"),
        ("disallowed-file", "disallowed_file"),
        ("failed-tests", "tests_failed"),
        ("missing-test-command", "test_command_missing"),
        ("missing-event", "event_missing"),
        ("reviewer-reject", "reviewer_rejected"),
        ("approval-denied", "approval_denied"),
        ("timeout", "timeout"),
        ("dirty-starting-tree", "dirty_starting_tree"),
        ("dirty-ending-tree", "dirty_ending_tree"),
        ("artifact-write-failure", "artifact_write_failed"),
        ("provider-unavailable", "provider_unavailable"),
    ];
    let set = Set::embedded().unwrap();
    let rows: Vec<(&str, Vec<&str>)> = set
        .select(&[], false)
        .unwrap()
        .into_iter()
        .map(|row| (row.name.as_str(), row.fixture.blockers.iter().map(|code| code.as_str()).collect()))
        .collect();
    assert_eq!(rows, contract.map(|(name, code)| (name, vec![code])));
}

#[test]
fn every_blocker_has_a_row_but_those_that_nothing_can_cause_yet() {
    // The cause of each is not in this version; a row for it would have to be faked.
    let without = [
        (
            BlockerCode::EngineNotEnabled,
            "no engine of the registry is gated, and the registry cannot be extended",
        ),
        (BlockerCode::NotEligible, "every run is ungoverned: there is no decision that could not cover it"),
        (BlockerCode::SourceNotAdmitted, "no engine needs an admitted source"),
        (BlockerCode::SourceChanged, "no engine has a source that is held against an admission"),
    ];
    let set = Set::embedded().unwrap();
    let mut shown: BTreeSet<BlockerCode> =
        set.rows.iter().flat_map(|row| row.fixture.blockers.iter().copied()).collect();
    // No run raises it: it is what `verify` says of evidence that was changed, by its exit code.
    if set.rows.iter().any(|row| !row.fixture.after.is_empty() && row.fixture.verify == 4) {
        shown.insert(BlockerCode::EvidenceInvalid);
    }
    let missing: Vec<BlockerCode> =
        BlockerCode::ALL.into_iter().filter(|code| !shown.contains(code)).collect();
    assert_eq!(missing, without.map(|(code, _)| code));
    // Where that is no longer so, a row is due.
    for (name, _) in crate::profile::engine::EMBEDDED {
        let env = crate::profile::HostEnv::for_tests(&[("HOME", "/home/u")]);
        let place = Place::Option("--engine".into());
        assert!(!crate::profile::engine::find(name, place, &env).unwrap().gated, "{name}");
    }
}

#[test]
fn rows_are_chosen_by_name_in_the_order_asked_for() {
    let set = Set::embedded().unwrap();
    let names = |asked: &[&str], all: bool| -> Result<Vec<String>, String> {
        let asked: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
        let chosen = set.select(&asked, all).map_err(|e| e.to_string())?;
        Ok(chosen.iter().map(|row| row.name.clone()).collect())
    };
    assert_eq!(names(&["timeout", "no-diff", "timeout"], false).unwrap(), ["timeout", "no-diff"]);
    assert_eq!(names(&["timeout-idle"], false).unwrap(), ["timeout-idle"]);
    assert_eq!(names(&[], false).unwrap().len(), 12);
    assert_eq!(names(&[], true).unwrap().len(), 12 + FURTHER.len());
    let rest = names(&["timeout-idle"], true).unwrap();
    assert_eq!((rest.len(), rest[0].as_str()), (12 + FURTHER.len(), "timeout-idle"));
    let said = names(&["no-dif"], false).unwrap_err();
    assert!(
        said.starts_with("there is no row `no-dif`\n  did you mean `no-diff`?\n  rows: no-diff, "),
        "{said}"
    );
    let said = names(&["zzzzzzzzzzz"], false).unwrap_err();
    assert!(said.starts_with("there is no row `zzzzzzzzzzz`\n  rows: no-diff, "), "{said}");
}

#[test]
fn a_directory_of_ones_own_is_read_within_limits() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let said = || Set::from_dir(dir.path()).unwrap_err().to_string();
    assert!(said().contains("there is no fixture here\n  put files NAME.toml into it"), "{}", said());
    let good = "description = \"d\"\nexit = 1\nblockers = [\"no_diff\"]\nevents = []\n[fake]\nscenario = ";
    put("one.toml", &format!("{good}\"own\"\n"));
    assert!(said().contains("fixture one: there is no scenario `own`"), "{}", said());
    fs::create_dir(dir.path().join("scenarios")).unwrap();
    put("scenarios/own.toml", "description = \"x\"\n");
    put("notes.txt", "no fixture");
    let set = Set::from_dir(dir.path()).unwrap();
    assert_eq!((set.rows.len(), set.scenario("own")), (1, Some("description = \"x\"\n")));
    assert!(set.scenario("mend").is_some(), "those of this program are there, too");
    put("two.toml", "description = 1\n");
    assert!(said().contains("two.toml:1:15: "), "{}", said());
    fs::remove_file(dir.path().join("two.toml")).unwrap();
    put("Two.toml", "");
    assert!(said().contains("Two.toml: this is no name of a row\n  use lower-case"), "{}", said());
    fs::remove_file(dir.path().join("Two.toml")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("fifo.toml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(said().contains("fifo.toml: is not a regular file"), "{}", said());
    assert!(Set::from_dir(Path::new("/nonexistent")).unwrap_err().to_string().contains("cannot be listed"));
}
