//! Holds docs/contracts.md against the program: every name in its tables is one that the program has, and the other
//! way round.

use crate::event::{EventType, Source};
use crate::evidence::{REQUIRED, UNNAMED};
use crate::exit::ExitCode;
use crate::verdict::BlockerCode;

const TEXT: &str = include_str!("../../docs/contracts.md");

/// The rows of the table below a heading, cell by cell, without their code marks.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section =
        TEXT.split(&format!("\n## {heading}\n")).nth(1).expect("the heading stands in docs/contracts.md");
    let section = section.split("\n## ").next().unwrap_or_default();
    section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

#[test]
fn exit_codes_are_the_programs() {
    let documented: Vec<u8> = table("Exit codes").iter().map(|row| row[0].parse().unwrap()).collect();
    let mut own: Vec<u8> = ExitCode::ALL.iter().map(|exit| exit.code()).collect();
    own.sort_unstable();
    assert_eq!(documented, own);
}

#[test]
fn blockers_and_their_exit_codes_are_the_programs() {
    let documented: Vec<(String, String)> =
        table("Blockers").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let own: Vec<(String, String)> = BlockerCode::ALL
        .iter()
        .map(|code| {
            let exit = if *code == BlockerCode::Interrupted {
                "130, 143".to_owned()
            } else {
                ExitCode::of(*code, None).code().to_string()
            };
            (code.as_str().to_owned(), exit)
        })
        .collect();
    assert_eq!(documented, own);
}

#[test]
fn events_and_their_sources_are_the_programs() {
    let documented: Vec<(String, String)> =
        table("Events").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let own: Vec<(String, String)> = EventType::ALL
        .iter()
        .map(|event| {
            let sources: Vec<&str> = Source::ALL
                .iter()
                .filter(|source| event.allows(**source))
                .map(|source| source.as_str())
                .collect();
            (event.as_str().to_owned(), sources.join(", "))
        })
        .collect();
    assert_eq!(documented, own);
}

#[test]
fn schemas_are_the_programs() {
    let documented: Vec<(String, String)> =
        table("Schemas").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let own: Vec<(String, String)> =
        crate::schema::ALL.iter().map(|one| (one.name.to_owned(), one.version.to_owned())).collect();
    assert_eq!(documented, own);
}

#[test]
fn mechanisms_of_limits_are_the_programs() {
    let documented: Vec<String> = table("Limits").into_iter().map(|row| row[0].clone()).collect();
    let mut own: Vec<&str> = crate::run::limit_mechanisms().to_vec();
    own.sort_unstable();
    let mut sorted: Vec<&str> = documented.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    assert_eq!(sorted, own);
}

#[test]
fn rows_of_the_failure_matrix_are_the_programs() {
    use crate::matrix::Expected;
    use crate::matrix::fixture::Engine;

    let listed = |items: Vec<String>| if items.is_empty() { "–".to_owned() } else { items.join(", ") };
    let set = crate::matrix::set::Set::embedded().unwrap();
    let own: Vec<Vec<String>> = set
        .rows
        .iter()
        .map(|row| {
            let expected = Expected::new(&row.fixture, row.fixture.played(Engine::Fake).unwrap());
            vec![
                row.name.clone(),
                listed(expected.blockers.iter().map(ToString::to_string).collect()),
                listed(expected.events.iter().map(ToString::to_string).collect()),
                expected.exit.to_string(),
                expected.verify.to_string(),
            ]
        })
        .collect();
    let documented: Vec<Vec<String>> =
        table("Failure matrix").into_iter().filter(|row| row.len() == own[0].len()).collect();
    assert_eq!(documented, own);
}

#[test]
fn artifacts_are_the_programs() {
    let documented: Vec<String> = table("Artifacts").into_iter().map(|row| row[0].clone()).collect();
    for name in REQUIRED.iter().chain(&UNNAMED[..2]) {
        assert!(documented.iter().any(|d| d == name), "{name} is not documented");
    }
    for name in &documented {
        let known = REQUIRED.contains(&name.as_str())
            || UNNAMED.contains(&name.as_str())
            || name == crate::run::REVIEW_LOG
            || name == crate::evidence::HTML;
        assert!(known, "{name} is documented and the program has no such artifact");
    }
}
