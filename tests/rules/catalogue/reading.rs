//! Reading the catalogue's files, the source text of tests, and the manifest.
//!
//! It knows no path and opens no file: text comes in, and what is found in it goes out.
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what the test file uses"
)]

use std::collections::BTreeSet;
use std::fmt;

/// The name of an entry.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Id {
    pub section: char,
    pub number: u8,
}

impl Id {
    /// Reads `A1` or, with a hyphen, `M-1`.
    fn of_entry(word: &str) -> Option<Self> {
        let mut chars = word.chars();
        let section = chars.next().filter(char::is_ascii_uppercase)?;
        let digits = chars.as_str();
        let number = digits.strip_prefix('-').unwrap_or(digits).parse().ok()?;
        Some(Self { section, number })
    }

    /// Reads what a function called `a01_something` is named after.
    fn of_function(name: &str) -> Option<Self> {
        let (id, rest) = name.split_once('_')?;
        let mut chars = id.chars();
        let section = chars.next().filter(char::is_ascii_lowercase)?;
        let digits = chars.as_str();
        let well_formed = digits.len() == 2 && !rest.is_empty();
        let number = digits.parse().ok().filter(|_| well_formed)?;
        Some(Self {
            section: section.to_ascii_uppercase(),
            number,
        })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.section, self.number)
    }
}

/// A fault.
#[derive(Debug, Eq, PartialEq)]
pub struct Entry {
    pub id: Id,
    pub fault: String,
    /// Why there is no test.
    pub reason: Option<String>,
}

/// The entries of a section's file: a line each, and below it, indented, `none:` and a reason.
pub fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with(' ') {
            let entry = line.split_once(' ').and_then(|(word, fault)| {
                Some(Entry {
                    id: Id::of_entry(word)?,
                    fault: fault.trim().to_owned(),
                    reason: None,
                })
            });
            entries.push(entry.ok_or_else(|| format!("no entry: {line}"))?);
            continue;
        }
        let entry = entries.last_mut().ok_or("a reason before any entry")?;
        match (line.trim().strip_prefix("none:"), &mut entry.reason) {
            (Some(reason), None) => entry.reason = Some(reason.trim().to_owned()),
            // A long reason may go on in another line.
            (None, Some(reason)) => *reason = format!("{reason} {}", line.trim()),
            _ => return Err(format!("no reason: {line}")),
        }
    }
    Ok(entries)
}

/// A function that is named after an entry.
#[derive(Debug, Eq, PartialEq)]
pub struct Test {
    pub id: Id,
    pub name: String,
    /// The first paragraph of its doc comment.
    pub defence: String,
    /// Whether the attribute of the standard harness stands above it.
    pub has_attribute: bool,
}

/// The functions of a source text that are named after entries.
pub fn tests(source: &str) -> Vec<Test> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let named = lines.iter().enumerate().filter_map(|(at, line)| {
        let name = function(line)?;
        let id = Id::of_function(name)?;
        let above = above(&lines[..at]);
        Some(Test {
            id,
            name: name.to_owned(),
            defence: first_paragraph(above),
            has_attribute: above.contains(&"#[test]"),
        })
    });
    named.collect()
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let rest = line
        .strip_prefix("pub(crate) ")
        .or_else(|| line.strip_prefix("pub "))
        .unwrap_or(line);
    let name = rest.strip_prefix("fn ")?;
    let end = name.find(|char: char| !(char.is_alphanumeric() || char == '_'))?;
    Some(&name[..end])
}

/// The doc comment and the attributes that a function has above it.
fn above<'a, 'b>(before: &'b [&'a str]) -> &'b [&'a str] {
    let belongs = |line: &&&str| line.starts_with("///") || line.starts_with("#[");
    let count = before.iter().rev().take_while(belongs).count();
    &before[before.len() - count..]
}

fn first_paragraph(above: &[&str]) -> String {
    let comments = above.iter().filter_map(|line| line.strip_prefix("///"));
    let lines: Vec<&str> = comments
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

/// The names in the `scenarios![]` lists of a test file.
pub fn listed(source: &str) -> BTreeSet<String> {
    let lists = source.split("scenarios![").skip(1);
    let lists = lists.filter_map(|rest| rest.split_once(']'));
    lists
        .flat_map(|(list, _)| list.lines())
        .map(|line| line.split("//").next().unwrap_or(""))
        .flat_map(|line| line.split(','))
        // One may be followed by its length.
        .map(|entry| entry.split(':').next().unwrap_or(""))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The test targets of a manifest that are programs of their own.
pub fn without_harness(manifest: &str) -> BTreeSet<String> {
    let targets = manifest.split("[[test]]").skip(1);
    let bodies = targets.map(|rest| rest.split("\n[").next().unwrap_or(""));
    let programs = bodies.filter(|body| body.lines().any(|line| line.trim() == "harness = false"));
    programs
        .filter_map(|body| body.lines().find_map(|line| line.strip_prefix("name = ")))
        .map(|name| name.trim_matches('"').to_owned())
        .collect()
}

/// The test target that a file belongs to: the file itself, or the folder that it is in.
///
/// What several targets share has folders beside theirs, with neither a test nor a scenario.
pub fn target(file: &str) -> Option<&str> {
    let path = file.strip_prefix("tests/")?;
    path.split('/').next()?.split('.').next()
}

#[test]
fn names_are_read_and_others_are_left_alone() {
    let id = |section, number| Some(Id { section, number });
    assert_eq!(Id::of_entry("A1"), id('A', 1));
    assert_eq!(Id::of_entry("M-1"), id('M', 1));
    assert_eq!(Id::of_entry("a1"), None);
    assert_eq!(Id::of_entry("SIGKILL"), None);
    assert_eq!(Id::of_function("a01_sigkill"), id('A', 1));
    assert_eq!(Id::of_function("d18_per_source"), id('D', 18));
    for name in [
        "a1_short",
        "a01",
        "a01_",
        "a001_long",
        "is_alive",
        "a_child",
        "A01_x",
    ] {
        assert_eq!(Id::of_function(name), None, "{name}");
    }
}

#[test]
fn entries_and_reasons_are_read() {
    let text = "A1 one\nA2 two, and more\n  none: for want\n  of it\n\nA3 three\n";
    let found = entries(text).unwrap();
    let faults: Vec<&str> = found.iter().map(|entry| &*entry.fault).collect();
    assert_eq!(faults, ["one", "two, and more", "three"]);
    let reasons: Vec<_> = found.iter().map(|entry| entry.reason.as_deref()).collect();
    assert_eq!(reasons, [None, Some("for want of it"), None]);
    for broken in ["one", "  none: too early", "A1 one\n  no reason", "1A one"] {
        assert!(entries(broken).is_err(), "{broken}");
    }
}

#[test]
fn tests_are_found_with_their_first_paragraph() {
    let source = "
        /// Not this.
        fn helper() {}

        /// What is done,
        /// in a sentence.
        ///
        /// Without it: seen to fail.
        fn a01_one(world: &mut World) {

            /// Also here.
            #[test]
            #[cfg(unix)]
            pub(crate) fn b02_two() {
        fn c03_three() {
        // fn d04_four() {
    ";
    let found = tests(source);
    let names: Vec<&str> = found.iter().map(|test| &*test.name).collect();
    assert_eq!(names, ["a01_one", "b02_two", "c03_three"]);
    let defences: Vec<&str> = found.iter().map(|test| &*test.defence).collect();
    assert_eq!(defences, ["What is done, in a sentence.", "Also here.", ""]);
    let attributes: Vec<bool> = found.iter().map(|test| test.has_attribute).collect();
    assert_eq!(attributes, [false, true, false]);
}

#[test]
fn lists_and_targets_are_read() {
    let source = "programs![x], scenarios![a01_one, // a02_two,\n b_three: long,\n],\n [not_this]";
    let expected = ["a01_one", "b_three"].map(str::to_owned);
    assert_eq!(listed(source), BTreeSet::from(expected));
    let manifest = "[[test]]\nname = \"a\"\nharness = false\n\n[[test]]\nname = \"b\"\n\n\
                    [[bench]]\nname = \"c\"\nharness = false\n";
    assert_eq!(without_harness(manifest), BTreeSet::from(["a".to_owned()]));
    assert_eq!(target("tests/deaths.rs"), Some("deaths"));
    assert_eq!(target("tests/rules/catalogue/reading.rs"), Some("rules"));
    assert_eq!(target("src/pool/tests.rs"), None);
}
