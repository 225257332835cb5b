//! The catalogue of faults against the tests: every entry has a test that is named after it, or a
//! written reason why it has none, and `docs/faults.md` is generated from both.
//!
//! It reads source text and runs nothing of the library. The entries are in `tests/catalogue`, one
//! file a section. A test of the entry A1 is a function called `a01_` and more, anywhere under
//! `tests` and `src`; the first paragraph of its doc comment says what is done about the fault.

mod reading;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::source::{collect, is_rust, root};

use reading::{Entry, Id, Test, entries, listed, target, tests, without_harness};

/// The sections: letter, what they are about, how many entries they have.
const SECTIONS: [(char, &str, u8); 15] = [
    ('A', "A child dies or stops serving", 18),
    ('B', "Pipes and exit tell different stories", 10),
    ('C', "What children write", 16),
    ('D', "Accepting, and connections", 18),
    ('E', "Forking, and resources", 12),
    ('F', "The parent's death, and orphans", 11),
    ('G', "Signals", 15),
    ('H', "Time", 6),
    ('I', "Start, stop, reload, upgrade", 13),
    ('J', "Listening sockets", 13),
    ('K', "Process 1, containers, namespaces", 7),
    ('L', "Privileges and environment", 9),
    ('M', "Configuration and policy", 3),
    ('N', "Status and control", 5),
    ('O', "What the field has found", 44),
];

/// The sections in which nothing may be left open.
const COMPLETE: &str = "ABCDEFGHJMO";

/// The variable that has the document written instead of compared.
const UPDATE: &str = "UPDATE_DOCS";

const HEAD: &str = "\
# Faults, and what is done about them

What can go wrong in a preforking server, by the places where it goes wrong, and which test shows
that it does no harm here. The faults were collected from the incidents of other servers; those of
section O did harm here too when they were tried, or showed what was missing. The tests inject them
for real: the signal is sent, the limit is set, the call fails in the kernel. A test has the name of
its entry, so `cargo test --test scenarios -- a01` runs those of A1 that start processes, and
`cargo test a01` all of them.

Some tests need root, `strace`, or a kind of cgroup. Where that is missing, such a test passes, and
says on its stderr that it was skipped and why: `cargo test -- --nocapture` shows it.

This file is generated from `tests/catalogue/*.txt` and from the doc comments of the tests. After a
change of either, `UPDATE_DOCS=1 cargo test --test rules catalogue` writes it; without the variable
the same test fails if it is out of date.
";

// The repository.

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every entry, in the order of the sections.
fn catalogue() -> Vec<Entry> {
    let file = |letter: char| format!("tests/catalogue/{}.txt", letter.to_ascii_lowercase());
    let sections = SECTIONS.iter().flat_map(|(letter, _, count)| {
        let name = file(*letter);
        let found = entries(&read(&root().join(&name)));
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        let ids: Vec<Id> = found.iter().map(|entry| entry.id).collect();
        let expected: Vec<Id> = (1..=*count)
            .map(|number| Id {
                section: *letter,
                number,
            })
            .collect();
        assert_eq!(ids, expected, "the entries of {name}");
        found
    });
    sections.collect()
}

/// A source file: its path in the repository, and its text.
type File = (String, String);

/// All source files but those of this test, whose strings look like tests.
fn sources() -> Vec<File> {
    let paths = ["src", "tests"].map(|folder| collect(&root().join(folder), is_rust));
    let file = |path: &PathBuf| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        (name, read(path))
    };
    let mut files: Vec<File> = paths.iter().flatten().map(file).collect();
    files.sort();
    assert!(files.len() > 60, "the source has moved");
    files.retain(|(name, _)| !name.starts_with("tests/rules/catalogue"));
    files
}

/// Every test that is named after an entry, with its file.
fn all_tests(files: &[File]) -> Vec<(String, Test)> {
    let in_file = |(name, text): &File| {
        let name = name.clone();
        tests(text)
            .into_iter()
            .map(move |test| (name.clone(), test))
    };
    files.iter().flat_map(in_file).collect()
}

// The document.

fn document(entries: &[Entry], tests: &[(String, Test)]) -> String {
    let of = |id: Id| tests.iter().filter(move |(_, test)| test.id == id);
    let tested = |entry: &&Entry| of(entry.id).next().is_some();
    let with_test = entries.iter().filter(tested).count();
    let with_reason = entries
        .iter()
        .filter(|entry| entry.reason.is_some())
        .count();
    let mut text = format!(
        "{HEAD}\nOf {} entries, {with_test} have a test, {with_reason} a reason why there is none.\n",
        entries.len()
    );
    for (letter, title, _) in SECTIONS {
        text += &format!("\n## {letter}. {title}\n\n");
        text += "| | Fault | What is done | Test |\n|---|---|---|---|\n";
        for entry in entries.iter().filter(|entry| entry.id.section == letter) {
            let tests: Vec<_> = of(entry.id).collect();
            text += &row(entry, &tests);
        }
    }
    text
}

fn row(entry: &Entry, tests: &[&(String, Test)]) -> String {
    let (done, test) = match (&entry.reason, tests) {
        (Some(reason), []) => (reason.clone(), "none".to_owned()),
        (None, []) => ("Open.".to_owned(), "none".to_owned()),
        _ => {
            let defences: Vec<&str> = tests.iter().map(|(_, test)| &*test.defence).collect();
            let places = tests
                .iter()
                .map(|(file, test)| format!("`{}` in {file}", test.name));
            (defences.join(" "), places.collect::<Vec<_>>().join("<br>"))
        }
    };
    let cells = [entry.id.to_string(), entry.fault.clone(), done, test];
    format!(
        "| {} |\n",
        cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
    )
}

// Tests of the repository.

#[test]
fn every_test_is_named_after_an_entry_says_what_is_done_and_is_run() {
    let ids: BTreeSet<Id> = catalogue().iter().map(|entry| entry.id).collect();
    let files = sources();
    let listed: BTreeSet<String> = files.iter().flat_map(|(_, text)| listed(text)).collect();
    let programs = without_harness(&read(&root().join("Cargo.toml")));
    let mut faults = Vec::new();
    for (file, test) in all_tests(&files) {
        let name = &test.name;
        if !ids.contains(&test.id) {
            faults.push(format!("{name} in {file}: there is no entry {}", test.id));
        }
        if test.defence.is_empty() {
            faults.push(format!("{name} in {file} has no doc comment"));
        }
        let is_program = target(&file).is_some_and(|target| programs.contains(target));
        let is_run = listed.contains(name) || test.has_attribute && !is_program;
        if !is_run {
            faults.push(format!("{name} in {file} is never run"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Without the line in the manifest the standard harness would find no test in it, and pass.
#[test]
fn every_file_with_scenarios_is_a_program_of_its_own() {
    let programs = without_harness(&read(&root().join("Cargo.toml")));
    for (file, text) in sources() {
        if let (Some(target), false) = (target(&file), listed(&text).is_empty()) {
            assert!(programs.contains(target), "{file} needs harness = false");
        }
    }
}

#[test]
fn no_entry_with_a_test_has_a_reason_to_have_none() {
    let tested: BTreeSet<Id> = all_tests(&sources())
        .iter()
        .map(|(_, test)| test.id)
        .collect();
    let mut both = catalogue();
    both.retain(|entry| entry.reason.is_some() && tested.contains(&entry.id));
    assert!(both.is_empty(), "{both:?}");
}

#[test]
fn every_entry_has_a_test_or_a_reason() {
    let tested: BTreeSet<Id> = all_tests(&sources())
        .iter()
        .map(|(_, test)| test.id)
        .collect();
    let mut open = catalogue();
    open.retain(|entry| {
        let is_due = COMPLETE.contains(entry.id.section);
        is_due && entry.reason.is_none() && !tested.contains(&entry.id)
    });
    let open: Vec<String> = open.iter().map(|entry| entry.id.to_string()).collect();
    assert!(
        open.is_empty(),
        "neither test nor reason: {}",
        open.join(" ")
    );
}

#[test]
fn the_document_is_what_is_generated() {
    let generated = document(&catalogue(), &all_tests(&sources()));
    let path = root().join("docs/faults.md");
    if std::env::var_os(UPDATE).is_some_and(|value| value != "0") {
        fs::write(&path, generated).unwrap();
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let mut pairs = there.lines().zip(generated.lines());
    let differs = pairs.find(|(there, generated)| there != generated);
    assert!(
        there == generated,
        "docs/faults.md is out of date ({UPDATE}=1 writes it): {differs:#?}"
    );
}

#[test]
fn a_row_has_a_test_or_a_reason_and_escapes_bars() {
    let mut entry = entries("A1 one | two").unwrap().remove(0);
    assert_eq!(row(&entry, &[]), "| A1 | one \\| two | Open. | none |\n");
    entry.reason = Some("No such thing.".to_owned());
    assert_eq!(
        row(&entry, &[]),
        "| A1 | one \\| two | No such thing. | none |\n"
    );
    entry.reason = None;
    let source = "/// Done.\nfn a01_x() {\n/// And that.\nfn a01_y() {";
    let found: Vec<_> = tests(source)
        .into_iter()
        .map(|test| ("tests/x.rs".to_owned(), test))
        .collect();
    let found: Vec<_> = found.iter().collect();
    assert_eq!(
        row(&entry, &found),
        "| A1 | one \\| two | Done. And that. | `a01_x` in tests/x.rs<br>`a01_y` in tests/x.rs |\n"
    );
}
