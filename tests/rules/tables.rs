//! Lists in the documents against what they list: features, attributes, and the rooms of the source.
//! Starts no server.

use prefork_server::Config;
use std::{collections::BTreeSet, fs, path::PathBuf};

/// What stands beside the floors: the command, and what only tests and fuzzers build.
const OUTSIDE: [&str; 2] = ["bin", "fuzzing"];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What stands between two marks, or up to the end.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).expect("the beginning");
    rest.split_once(end).map_or(rest, |(inner, _)| inner)
}

/// The names in the first column of the table with this head.
fn first_column(text: &str, head: &str) -> BTreeSet<String> {
    let (_, rows) = text.split_once(head).expect("the head of the table");
    let rows = rows
        .lines()
        .skip(2)
        .map(|row| row.trim_start_matches("//! "));
    let rows = rows.take_while(|row| row.starts_with('|'));
    rows.filter_map(|row| row.split('`').nth(1))
        .map(str::to_owned)
        .collect()
}

/// `bench-internals` is for our own benchmarks.
#[test]
fn the_documentation_has_every_feature() {
    let manifest = read("Cargo.toml");
    let lines = between(&manifest, "[features]\n", "\n[").lines();
    let features = lines.filter_map(|line| line.split_once(" = "));
    let features = features.map(|(name, _)| name.to_owned());
    let features: BTreeSet<_> = features.filter(|name| name != "bench-internals").collect();
    assert!(features.len() > 5, "{features:?}");
    let documented = first_column(&read("src/lib.rs"), "//! | feature | what it adds |");
    assert_eq!(documented, features);
}

#[test]
fn the_readme_has_every_attribute() {
    let attributes = Config::attributes().iter().map(|row| row.name.to_owned());
    let attributes: BTreeSet<_> = attributes.collect();
    let documented = first_column(&read("README.md"), "| attribute | default | meaning |");
    assert_eq!(documented, attributes);
}

/// The floors in the diagram of `docs/design.md`, each with the words that stand there.
fn drawn(document: &str) -> Vec<(String, BTreeSet<String>)> {
    let diagram = between(document, "```text\n lib.rs ", "```");
    let mut floors: Vec<(String, BTreeSet<String>)> = Vec::new();
    for line in diagram.lines() {
        let begins = line
            .strip_prefix(' ')
            .and_then(|line| line.split_once("/ "));
        let floor = begins.filter(|(name, _)| name.chars().all(char::is_alphabetic));
        if let Some((floor, _)) = floor {
            floors.push((floor.to_owned(), BTreeSet::new()));
        }
        if let Some((_, words)) = floors.last_mut() {
            let found = line.split(|char: char| !(char.is_alphanumeric() || char == '_'));
            words.extend(found.map(str::to_owned));
        }
    }
    floors
}

/// The files and folders of a floor; a file and the folder of its modules are one.
fn rooms(floor: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(path("src").join(floor)).expect("a floor");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().trim_end_matches(".rs").to_owned());
    let is_room = |name: &String| name != "mod" && name != "tests" && name != "replacement_tests";
    names.filter(is_room).collect()
}

#[test]
fn the_diagram_names_every_room_of_every_floor() {
    let floors = drawn(&read("docs/design.md"));
    let names: BTreeSet<_> = floors.iter().map(|(name, _)| name.as_str()).collect();
    let folders = fs::read_dir(path("src")).expect("the source");
    let folders = folders.map(|entry| entry.expect("an entry").path());
    let folders =
        folders.filter(|path| path.is_dir() && !OUTSIDE.iter().any(|name| path.ends_with(name)));
    for folder in folders {
        let name = folder.file_name().expect("a name").to_string_lossy();
        assert!(names.contains(&*name), "the floor {name} is not drawn");
    }
    let missing = |(floor, words): &(String, BTreeSet<String>)| {
        let rooms = rooms(floor);
        let missing: Vec<_> = rooms.difference(words).collect();
        (!missing.is_empty()).then(|| format!("{floor} lacks {missing:?}"))
    };
    let missing: Vec<_> = floors.iter().filter_map(missing).collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
