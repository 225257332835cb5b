//! Reads the source: each kind of event is looked at by some test on real processes. Runs nothing of
//! the library.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The variants of the enum with this head, whose body is indented by four spaces.
fn variants<'a>(text: &'a str, head: &str) -> BTreeSet<&'a str> {
    let (_, body) = text.split_once(head).expect("the enum");
    let (body, _) = body.split_once("\n}").expect("its end");
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    names
        .filter_map(|line| line.split([' ', ',', '(']).next())
        .collect()
}

/// The texts of all tests that start processes.
fn tests_with_processes() -> Vec<String> {
    let mut texts = Vec::new();
    for suite in fs::read_dir(root().join("tests")).unwrap() {
        let suite = suite.unwrap().path();
        if suite.file_name().is_some_and(|name| name != "rules") {
            collect(&suite, &mut texts);
        }
    }
    assert!(texts.len() > 100, "the tests have moved");
    texts
}

fn collect(path: &Path, texts: &mut Vec<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), texts);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        texts.push(fs::read_to_string(path).unwrap());
    }
}

/// Whether a test names the event: in a pattern, or in what an observer writes by `{event:?}`.
fn names(text: &str, event: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|char: char| char.is_alphanumeric());
    ["Event::", "event "].iter().any(|before| {
        let name = format!("{before}{event}");
        text.match_indices(&name)
            .any(|(at, name)| ends(&text[at + name.len()..]))
    })
}

#[test]
fn each_event_is_looked_at_by_a_test_with_processes() {
    let source = fs::read_to_string(root().join("src/core/event.rs")).unwrap();
    let events = variants(&source, "pub enum Event<'a> {");
    assert!(events.len() > 20, "{events:?}");
    let texts = tests_with_processes();
    let unseen = |event: &&str| !texts.iter().any(|text| names(text, event));
    let unseen: Vec<_> = events.into_iter().filter(unseen).collect();
    assert_eq!(unseen, [""; 0], "no test looks at them");
}

#[test]
fn the_reader_finds_events_and_who_names_them() {
    let source = "pub enum Event<'a> {\n    /// One.\n    #[x]\n    Forked {\n        Child,\n    },\n    \
                  Ended,\n    Text(u8),\n}\nenum Other {\n    No,\n}\n";
    let found: Vec<_> = variants(source, "pub enum Event<'a> {")
        .into_iter()
        .collect();
    assert_eq!(found, ["Ended", "Forked", "Text"]);
    assert!(names("Event::Ended => {}", "Ended") && names("\"event Ended\"", "Ended"));
    assert!(!names("Event::EndedNot", "Ended") && !names("Ended", "Ended"));
}
