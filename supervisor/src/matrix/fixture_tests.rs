use super::*;

const GOOD: &str =
    "description = \"d\"\nexit = 1\nblockers = [\"no_diff\"]\nevents = [\"test:test.completed\"]\n";

fn parse(more: &str, text: &str) -> Result<Fixture, String> {
    Fixture::parse(&SourceText { name: "own.toml".into(), text: format!("{more}{text}") })
        .map_err(|e| e.to_string())
}

#[test]
fn a_fixture_says_how_each_engine_shows_it() {
    let fixture = parse(GOOD, "[fake]\nscenario = \"mend\"\n[command]\nnot_applicable = \"why\"\n").unwrap();
    assert_eq!(fixture.played(Engine::Fake).unwrap().scenario.as_deref(), Some("mend"));
    assert_eq!(fixture.played(Engine::Command).unwrap_err(), "why");
    assert_eq!(fixture.events[0].to_string(), "test:test.completed");
    assert_eq!(fixture.verify, 0);
    assert_eq!(parse(GOOD, "").unwrap().played(Engine::Fake).unwrap_err(), "the fixture has no `[fake]`");
}

#[test]
fn what_is_wrong_with_a_fixture_is_said_with_its_place_and_what_to_do() {
    let wrong = [
        ("optoins = []\n", "own.toml:5:1: unknown key `optoins`\n  did you mean `options`?"),
        ("verify = 9\n", "own.toml: 9 is no exit code of Proctor's\n  docs/contracts.md lists them"),
        (
            "after = [{ do = \"signal\", name = \"INT\" }]\n",
            "own.toml: `after` has a signal, and no run is under way then",
        ),
        (
            "before = [{ do = \"write\", path = \"../x\", content = \"\" }]\n",
            "`../x` in `before` is no plain relative path",
        ),
        (
            "before = [{ do = \"write\", path = \"/x\", content = \"\" }]\n",
            "`/x` in `before` is no plain relative path",
        ),
        ("before = [{ do = \"remove\", path = \"\" }]\n", "`` in `before` is no plain relative path"),
        (
            "detail = { timeout = { phase = \"test\" } }\n",
            "`detail` is about `timeout`, which is not among `blockers`",
        ),
        ("[fake]\n", "`[fake]` says not exactly one of how it is shown and why it is not"),
        ("[fake]\nscenario = \"a\"\nnot_applicable = \"b\"\n", "`[fake]` says not exactly one"),
        ("[fake]\nscript = \"a\"\n", "`[fake]` has what belongs to the other engine"),
        ("[command]\nscenario = \"a\"\n", "`[command]` has what belongs to the other engine"),
        ("[fake]\nscenario = \"../a\"\n", "`../a` is no name of a scenario"),
        ("[fake]\nscenario = \"a\"\nblockers = []\n", "exit code 1 and 0 blockers do not go together"),
        (
            "[fake]\nscenario = \"a\"\nevents = [\"tests done\"]\n",
            "`tests done` is no event; write SOURCE:TYPE",
        ),
        (
            "[fake]\nscenario = \"a\"\nevents = [\"backend:run.finished\"]\n",
            "`run.finished` never comes from backend",
        ),
    ];
    for (text, words) in wrong {
        let said = parse(GOOD, text).unwrap_err();
        assert!(said.contains(words), "{text}: {said}");
        assert!(said.lines().count() > 1, "{text}: what to do is not said: {said}");
    }
    let said =
        parse("description = \"d\"\nexit = 1\nblockers = [\"no_dif\"]\nevents = []\n", "").unwrap_err();
    assert!(said.contains("did you mean `no_diff`?"), "{said}");
}

#[test]
fn names_are_plain() {
    for good in ["a", "no-diff", "x_1"] {
        assert!(is_name(good), "{good}");
    }
    for bad in ["", ".", "..", "a/b", "-a", "A", "a.b", "\u{e9}", &"a".repeat(65)] {
        assert!(!is_name(bad), "{bad}");
    }
}
