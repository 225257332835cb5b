//! Reads the source: the signatures of all that is public, and whether they name a type of a crate that
//! the interface is to be free of. Runs nothing of the library.
//!
//! `pub` is taken at its word: the lint `unreachable_pub` sees to it that what is public in a file
//! can be reached from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

use super::source::{collect, is_rust};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The crates that may change without a change of our interface.
const INNER: [&str; 5] = ["nix", "mio", "slab", "bitflags", "libc"];

/// Public enums that users match to the end: a variant more would be another protocol, or another
/// format of lines. All others can grow.
const EXHAUSTIVE: [&str; 3] = ["LineEnd", "Output", "Word"];

/// What is no part of the library that users build.
const OUTSIDE: [&str; 2] = ["fuzzing", "internals.rs"];

fn sources() -> Vec<(String, String)> {
    let src = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let paths = collect(&src, is_rust);
    assert!(paths.len() > 30, "the source has moved");
    let name = |path: &Path| path.strip_prefix(&src).unwrap().display().to_string();
    let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap());
    let named = paths.iter().map(|path| name(path)).zip(texts);
    named
        .filter(|(name, _)| !OUTSIDE.iter().any(|outside| name.starts_with(outside)))
        .collect()
}

/// The code of a file without comments and without the tests at its end.
fn code(text: &str) -> String {
    let (text, _) = text
        .split_once("\n#[cfg(test)]\nmod tests {")
        .unwrap_or((text, ""));
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Identifiers, in order.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|char: char| !(char.is_alphanumeric() || char == '_'))
        .filter(|word| !word.is_empty())
}

/// The names of types that a file imports from the inner crates, as they are called there.
fn inner_names(code: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::from(INNER);
    for import in code.split("use ").skip(1) {
        let import = import.split(';').next().unwrap();
        if !words(import)
            .next()
            .is_some_and(|word| INNER.contains(&word))
        {
            continue;
        }
        let words: Vec<_> = words(import).collect();
        let renamed = |at: usize| words.get(at + 1) == Some(&"as");
        let types = words.iter().enumerate().filter(|(at, word)| {
            word.starts_with(|first: char| first.is_uppercase()) && !renamed(*at)
        });
        names.extend(types.map(|(_, word)| *word));
    }
    names
}

/// The text up to one of `ends` outside of brackets.
fn until<'a>(text: &'a str, ends: &[char]) -> &'a str {
    let mut depth = 0;
    let end = text.find(|char| {
        let ends = depth == 0 && ends.contains(&char);
        depth += match char {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        };
        ends || depth < 0
    });
    &text[..end.unwrap_or(text.len())]
}

/// What is between the first brace and its counterpart.
fn body(text: &str) -> &str {
    let inner = text.split_once('{').map_or("", |(_, inner)| inner);
    until(inner, &[])
}

/// The public signatures of a file: items, fields, variants, methods of traits, heads of impls.
fn signatures(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices('\n') {
        let line = code[at + 1..].trim_start_matches(' ');
        if let Some(item) = line.strip_prefix("pub ") {
            found.extend(public(item));
        } else if line.starts_with("impl") {
            found.push(until(line, &['{']));
        } else if line.starts_with("bitflags!") && body(line).contains("pub struct") {
            found.push("bitflags");
        }
    }
    found
}

/// The signatures of what stands behind a `pub`.
fn public(item: &str) -> Vec<&str> {
    match item.split_whitespace().next().unwrap_or("") {
        "enum" => vec![until(item, &['{']), body(item)],
        "trait" => {
            let methods = body(item).split("fn ").skip(1);
            let methods = methods.map(|method| until(method, &['{', ';']));
            std::iter::once(until(item, &['{']))
                .chain(methods)
                .collect()
        }
        "use" | "mod" | "type" => vec![until(item, &[';'])],
        "static" => vec![until(item, &['='])],
        "const" if !item.starts_with("const fn") => vec![until(item, &['='])],
        "fn" | "const" | "unsafe" => vec![until(item, &['{', ';'])],
        "struct" => vec![tuple_or_head(item)],
        // A field.
        _ => vec![until(item, &[','])],
    }
}

/// The head of a struct; its public fields stand behind a `pub` of their own, but those of a tuple.
fn tuple_or_head(item: &str) -> &str {
    let whole = until(item, &['{', ';']);
    let hidden = whole.contains('(') && !whole.contains("(pub ");
    if hidden { until(whole, &['(']) } else { whole }
}

/// The public enums and the structs with public fields that nothing says can grow.
fn closed(text: &str) -> Vec<String> {
    let code = code(text);
    let items = code
        .match_indices("\npub enum ")
        .chain(code.match_indices("\npub struct "));
    let closed = items.filter(|(at, _)| {
        let item = &code[at + 5..];
        let attributes = code[..*at].rsplit("\n\n").next().unwrap();
        let open = item.starts_with("enum") || body(until(item, &[';'])).contains("\n    pub ");
        open && !attributes.contains("#[non_exhaustive]")
    });
    let names = closed.map(|(at, head)| words(&code[at + head.len()..]).next().unwrap());
    names.map(str::to_owned).collect()
}

/// The inner names in the public signatures of a file.
fn leaks(text: &str) -> Vec<String> {
    let code = code(text);
    let names = inner_names(&code);
    let leaks = signatures(&code).into_iter().flat_map(words);
    leaks
        .filter(|word| names.contains(word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_type_of_an_inner_crate_is_public() {
    let mut signatures_read = 0;
    let mut found = Vec::new();
    for (name, text) in sources() {
        signatures_read += signatures(&code(&text)).len();
        found.extend(leaks(&text).into_iter().map(|leak| (name.clone(), leak)));
    }
    assert!(signatures_read > 400, "only {signatures_read} were found");
    assert_eq!(found, []);
}

#[test]
fn what_is_public_and_may_grow_says_so() {
    let mut found: Vec<_> = sources()
        .iter()
        .flat_map(|(_, text)| closed(text))
        .collect();
    found.sort();
    assert_eq!(found, EXHAUSTIVE);
    let grows =
        "//!\n\n#[non_exhaustive]\npub enum A {\n    B,\n}\n\npub struct C {\n    d: u8,\n}\n";
    assert_eq!(closed(grows), [""; 0]);
    let fixed = "//!\n\n/// A.\npub enum A {\n    B,\n}\n\npub struct C {\n    pub d: u8,\n}\n";
    assert_eq!(closed(fixed), ["A", "C"]);
}

#[test]
fn the_reader_finds_what_is_public_and_leaves_what_is_not() {
    let public = [
        "pub fn pid() -> nix::unistd::Pid { a }",
        "pub fn kill(\n    signal: Sig,\n) {",
        "pub const fn event(event: &Token) -> bool {",
        "pub struct A {\n    pub pid: Pid,\n}",
        "pub struct A(pub Pid);",
        "pub enum A {\n    B(Pid),\n}",
        "pub trait A {\n    fn b(&self) -> bool { true }\n    fn pid(&self) -> Pid;\n}",
        "pub type A = Vec<Pid>;",
        "pub const A: Option<Pid> = None;",
        "pub fn pids() -> impl Iterator<Item = Pid> {",
        "impl From<Pid> for A {",
        "pub use mio::Poll;",
        "bitflags! {\n    pub struct A: u8 {}\n}",
    ];
    let hidden = [
        "fn pid() -> nix::unistd::Pid { a }",
        "pub(crate) fn pid() -> Pid { a }",
        "pub fn kill(signal: Signal) { nix::sys::signal::kill(Pid::this()) }",
        "pub struct A {\n    pid: Pid,\n}",
        "pub struct A(Pid);",
        "pub trait A {\n    fn b(&self) -> bool { Pid::this() }\n}",
        "bitflags! {\n    pub(crate) struct A: u8 {}\n}",
        "// pub fn pid() -> nix::unistd::Pid { a }",
    ];
    let imports =
        "//!\nuse mio::Token;\nuse nix::{sys::signal::{Signal as Sig, kill}, unistd::Pid};\n";
    for source in public {
        assert_ne!(leaks(&format!("{imports}{source}\n")), [""; 0], "{source}");
    }
    for source in hidden {
        assert_eq!(leaks(&format!("{imports}{source}\n")), [""; 0], "{source}");
    }
}
