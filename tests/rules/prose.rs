//! The documents as text: their lines fit a terminal, and their links lead somewhere. Judges no
//! contents; starts no server.

use super::source::collect;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The widest line, in characters. Tables and code have the width that they need, and an address
/// cannot be broken.
const WIDTH: usize = 100;

/// Every document of the repository, with the text.
fn documents() -> Vec<(PathBuf, String)> {
    let is_document: fn(&Path) -> bool = |path| path.extension().is_some_and(|it| it == "md");
    let paths = collect(Path::new(env!("CARGO_MANIFEST_DIR")), is_document);
    assert!(paths.len() > 15, "the documents have moved: {paths:?}");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("it can be read");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The lines outside of code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (!is_fence && !in_code).then_some((index + 1, line))
    })
}

fn is_too_wide(line: &str) -> bool {
    let is_address = |line: &str| line.contains("://") && !line.trim().contains(' ');
    !line.starts_with('|') && !is_address(line) && line.chars().count() > WIDTH
}

fn wide_lines(text: &str) -> Vec<usize> {
    let wide = prose(text).filter(|(_, line)| is_too_wide(line));
    wide.map(|(number, _)| number).collect()
}

#[test]
fn no_line_of_a_document_is_too_wide() {
    for (path, text) in documents() {
        let wide = wide_lines(&text);
        assert!(
            wide.is_empty(),
            "{}: over {WIDTH} columns: {wide:?}",
            path.display()
        );
    }
}

/// The check is worth something: it finds prose and nothing else.
#[test]
fn a_wide_line_is_found_where_it_is_prose() {
    let wide = "é ".repeat(WIDTH);
    let narrow = "é".repeat(WIDTH);
    let address = format!("https://{narrow}");
    let text = format!("{narrow}\n{wide}\n| {wide}\n```\n{wide}\n```\n  - {wide}\n{address}\n");
    assert_eq!(wide_lines(&text), [2, 7]);
}

/// What stands between `](` and `)`, other than addresses.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = prose(text).flat_map(|(_, line)| line.split("](").skip(1));
    let targets = targets.filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://"))
}

/// Whether a text has a heading of that anchor, as GitHub makes one.
fn has_heading(text: &str, anchor: &str) -> bool {
    let kept = |c: &char| c.is_alphanumeric() || "_- ".contains(*c);
    let of = |title: &str| -> String {
        let title = title.to_lowercase();
        title
            .chars()
            .filter(kept)
            .collect::<String>()
            .replace(' ', "-")
    };
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .any(|(_, line)| of(line.trim_start_matches('#').trim()) == anchor)
}

/// Whether a link of a document leads to a file that is there and, with an anchor, to a heading in it.
fn leads_somewhere(document: &Path, text: &str, link: &str) -> bool {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = document.with_file_name(file);
    match (file, anchor) {
        ("", anchor) => has_heading(text, anchor),
        (_, "") => target.exists(),
        _ => fs::read_to_string(target).is_ok_and(|text| has_heading(&text, anchor)),
    }
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut count = 0;
    for (path, text) in documents() {
        for link in links(&text) {
            count += 1;
            let name = path.display();
            assert!(leads_somewhere(&path, &text, link), "{name}: {link}");
        }
    }
    assert!(count > 20, "hardly a link was found");
}

/// The check is worth something: a file and a heading that are not there are missed.
#[test]
fn a_link_that_leads_nowhere_is_found() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = "# One `title`, of two\n[a](#one-title-of-two)\n[b](#two) [c](docs/none.md)\n[d](docs/design.md#none)\n";
    let found: Vec<_> = links(text)
        .map(|link| leads_somewhere(&document, text, link))
        .collect();
    assert_eq!(found, [true, false, false, false]);
}
