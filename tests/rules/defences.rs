//! Comments of the form "Without `name` the test fails" against the source: what they name is there.
//! Judges no test; whether it fails without the defence is for its author to try.

use super::source::{collect, is_rust, root, sources, words};
use std::{collections::BTreeSet, fs, path::PathBuf};

/// A file of the source: its path in `src`, and the names in its code.
struct Source {
    path: String,
    names: BTreeSet<String>,
}

/// The files of Rust in a folder of the repository, with their text.
fn files(folder: &str) -> Vec<(String, String)> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("it can be read");
        let path = path.strip_prefix(root()).expect("it is in the repository");
        (path.display().to_string(), text)
    };
    let paths = collect(&root().join(folder), is_rust);
    paths.into_iter().map(read).collect()
}

fn named_sources() -> Vec<Source> {
    let source = |file: super::source::File| Source {
        path: format!("src/{}", file.name),
        names: words(&file.code).map(str::to_owned).collect(),
    };
    sources().into_iter().map(source).collect()
}

/// The paragraphs of the comments of a file, each on one line.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in text.lines() {
        let comment = line.trim_start().strip_prefix("//");
        let comment = comment.map_or("", |comment| comment.trim_start_matches(['/', '!']).trim());
        match paragraphs.last_mut() {
            Some(last) if !comment.is_empty() => *last += &format!("{comment} "),
            Some(last) if last.is_empty() => {}
            _ => paragraphs.push(String::new()),
        }
    }
    paragraphs
}

/// The clauses of a paragraph that take a defence away, each up to its end.
fn clauses(paragraph: &str) -> impl Iterator<Item = &str> {
    let begins = ["Without ", "Fails without ", "If `"];
    let starts = begins
        .into_iter()
        .flat_map(|begin| paragraph.match_indices(begin).map(|(at, _)| at));
    starts.map(|at| {
        let clause = &paragraph[at..];
        let ends = [". ", ": ", "; "].into_iter();
        let end = ends.filter_map(|end| clause.find(end)).min();
        &clause[..end.unwrap_or(clause.len())]
    })
}

/// What is set as code.
fn codes(clause: &str) -> impl Iterator<Item = &str> {
    clause.split('`').skip(1).step_by(2)
}

/// Whether the source has what a piece of code names: each name somewhere, and the parts of a path
/// `Type::name` or `module::name` in one file.
fn is_there(code: &str, sources: &[Source]) -> bool {
    let number = |name: &&str| !name.starts_with(|first: char| first.is_ascii_digit());
    let names: Vec<&str> = words(code).filter(number).collect();
    let has = |source: &Source, name: &str| source.names.contains(name);
    let known = |name: &&str| sources.iter().any(|source| has(source, name));
    let is_path = code.split("::").count() == 2 && names.join("::") == code;
    if !is_path {
        return names.iter().all(known);
    }
    let (owner, name) = (names[0], names[1]);
    let module = [format!("/{owner}.rs"), format!("/{owner}/")];
    sources.iter().any(|source| {
        let owns = match owner.starts_with(char::is_uppercase) {
            true => has(source, owner),
            false => module.iter().any(|part| source.path.contains(part)),
        };
        owns && has(source, name)
    })
}

/// What the comments of a file name and the source lacks.
fn gone(text: &str, sources: &[Source]) -> Vec<String> {
    let paragraphs = paragraphs(text);
    let clauses = paragraphs.iter().flat_map(|paragraph| clauses(paragraph));
    let gone = clauses
        .flat_map(codes)
        .filter(|code| !is_there(code, sources));
    gone.map(str::to_owned).collect()
}

#[test]
fn what_a_test_would_fail_without_is_in_the_source() {
    let sources = named_sources();
    let (mut named, mut faults) = (0, Vec::new());
    for (path, text) in files("tests").into_iter().chain(files("src")) {
        if path == "tests/rules/defences.rs" {
            continue;
        }
        let paragraphs = paragraphs(&text);
        named += paragraphs
            .iter()
            .flat_map(|paragraph| clauses(paragraph))
            .flat_map(codes)
            .count();
        let gone = gone(&text, &sources);
        faults.extend(gone.into_iter().map(|code| format!("{path}: {code}")));
    }
    assert!(named > 80, "only {named} names were found");
    assert_eq!(faults, Vec::<String>::new());
}

/// The check is worth something: a name that has gone is found, one that is there is not.
#[test]
fn a_defence_that_has_gone_is_found() {
    let sources = [Source {
        path: "src/sys/pipes.rs".to_owned(),
        names: ["Pipe", "read", "EINTR"].map(str::to_owned).into(),
    }];
    let text = "/// Good.\n///\n/// Without the loop around `EINTR` in `pipes::read`: an error. Not `this`.\n\
                fn a() {\n    // Fails without `Pipe::read`.\n    // If `Wires::read` reads to\n    // the end: no.\n\
                // Without it (`pipes::drain` that is\n// `lost`) the end, `after` it.\n";
    assert_eq!(
        gone(text, &sources),
        ["pipes::drain", "lost", "after", "Wires::read"]
    );
}
