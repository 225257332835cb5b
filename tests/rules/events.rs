//! Reads the source: each kind of event is printed by a program of the tests, and what is printed is
//! looked for by a scenario in another file. Runs nothing of the library.

use super::source::{collect, is_rust, root};
use std::{collections::BTreeSet, fs, path::PathBuf};

/// A file of the tests that start processes.
struct TestFile {
    /// The executable that it belongs to.
    suite: String,
    path: PathBuf,
    /// Without comments.
    text: String,
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

fn tests_with_processes() -> Vec<TestFile> {
    let tests = root().join("tests");
    let file = |path: PathBuf| {
        let below = path.strip_prefix(&tests).expect("a path below");
        let suite = below.iter().next().expect("a suite");
        let suite = suite.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("it can be read");
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let text = code.collect::<Vec<_>>().join("\n");
        TestFile { suite, path, text }
    };
    let mut files: Vec<_> = collect(&tests, is_rust).into_iter().map(file).collect();
    files.retain(|file| file.suite != "rules");
    assert!(files.len() > 100, "the tests have moved");
    files
}

/// Where a name ends that begins in `text`.
fn is_whole(rest: &str) -> bool {
    !rest.starts_with(|char: char| char.is_alphanumeric())
}

/// What follows each place that has `name` as a whole word.
fn after<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let rests = text.match_indices(name);
    let rests = rests.map(move |(at, name)| &text[at + name.len()..]);
    rests.filter(|rest| is_whole(rest))
}

/// What an observer prints at an event, up to the first value: in the arm that begins with its name, or
/// by `{event:?}` if it has no arm.
fn printed(program: &str, event: &str) -> Vec<String> {
    let pattern = format!("Event::{event}");
    let arms: Vec<_> = after(program, &pattern).collect();
    if arms.is_empty() && program.contains(r#"println!("event {event:?}")"#) {
        return vec![format!("event {event}")];
    }
    arms.into_iter().filter_map(arm).flat_map(prints).collect()
}

/// What is done in the arm of a match whose pattern began before `rest`.
fn arm(rest: &str) -> Option<&str> {
    let (pattern, rest) = rest.split_once("=>")?;
    let is_of_a_match = !pattern.contains(';') && !pattern.contains("Event::");
    let (arm, _) = rest.split_once("=>").unwrap_or((rest, ""));
    is_of_a_match.then_some(arm)
}

/// The texts that an arm prints, each up to its first value.
fn prints(arm: &str) -> Vec<String> {
    let arm: String = arm.split_whitespace().collect::<Vec<_>>().join(" ");
    let texts = arm.split("print").skip(1).chain(arm.split("say(").skip(1));
    let literal = |text: &str| {
        let (_, literal) = text.split_once('"')?;
        let text = literal.split(['{', '"', '\\']).next()?.trim_end();
        (!text.is_empty()).then(|| text.to_owned())
    };
    texts.filter_map(literal).collect()
}

/// Whether a scenario looks for the text: at the beginning of a literal, or of one of its lines.
fn looks_for(scenario: &str, text: &str) -> bool {
    let is_start = |at: usize| scenario[..at].ends_with(['"', ' ']);
    scenario
        .match_indices(text)
        .any(|(at, text)| is_start(at) && is_whole(&scenario[at + text.len()..]))
}

fn is_looked_at(files: &[TestFile], event: &str) -> bool {
    let programs = files
        .iter()
        .filter(|file| file.text.contains("Observer for "));
    programs.into_iter().any(|program| {
        let printed = printed(&program.text, event);
        let mut others = files
            .iter()
            .filter(|file| file.suite == program.suite && file.path != program.path);
        others.any(|file| printed.iter().any(|text| looks_for(&file.text, text)))
    })
}

#[test]
fn each_event_is_printed_and_looked_for_by_a_test_with_processes() {
    let source = fs::read_to_string(root().join("src/core/event.rs")).unwrap();
    let events = variants(&source, "pub enum Event<'a> {");
    assert!(events.len() > 20, "{events:?}");
    let files = tests_with_processes();
    let unseen = |event: &&str| !is_looked_at(&files, event);
    let unseen: Vec<_> = events.into_iter().filter(unseen).collect();
    assert_eq!(unseen, [""; 0], "no scenario looks for them");
}

#[test]
fn the_reader_finds_events_and_who_looks_for_them() {
    let source = "pub enum Event<'a> {\n    /// One.\n    #[x]\n    Forked {\n        Child,\n    },\n    \
                  Ended,\n    Text(u8),\n}\nenum Other {\n    No,\n}\n";
    let found: Vec<_> = variants(source, "pub enum Event<'a> {")
        .into_iter()
        .collect();
    assert_eq!(found, ["Ended", "Forked", "Text"]);

    let arms = r#"Event::Forked { child, .. } => println!("event forked {child}"), Event::Text(_) => {
        say(&out, &format!("a text: {x}")) } event => println!("event {event:?}"),"#;
    assert_eq!(printed(arms, "Forked"), ["event forked"]);
    assert_eq!(printed(arms, "Text"), ["a text:"]);
    assert_eq!(printed(arms, "Ended"), ["event Ended"]);
    assert_eq!(
        printed("Event::EndedNot => println!(\"e\")", "Ended"),
        [""; 0]
    );
    assert!(looks_for("\"event forked {pid}\"", "event forked"));
    assert!(looks_for(
        "\"hook\\n\\\n         event Ended\"",
        "event Ended"
    ));
    assert!(!looks_for("\"event forkedly\"", "event forked"));
    let file = |path: &str, text: &str| TestFile {
        suite: "scenarios".to_owned(),
        path: path.into(),
        text: text.to_owned(),
    };
    let alone = file("a.rs", &format!("impl Observer for A {arms}"));
    let scenario = file("b.rs", "told.expect(\"event Ended\")");
    let both = [alone, scenario];
    assert!(is_looked_at(&both, "Ended"));
    assert!(!is_looked_at(&both[..1], "Ended") && !is_looked_at(&both, "Forked"));
}
