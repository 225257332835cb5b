//! The documentation of public items as text: its first paragraph fits a list. Judges no contents.
//!
//! `pub` is taken at its word, as in `public_api`.

use super::source::{File, sources};

/// The longest first paragraph, in characters as a reader sees them.
const LONGEST: usize = 80;

/// What is no part of the library that users build, by a part of its path in `src`.
const OUTSIDE: [&str; 4] = ["bin/", "fuzzing", "internals.rs", "segmentation.rs"];

/// The words with which a public item begins, but for fields.
const ITEMS: [&str; 9] = [
    "async", "const", "enum", "fn", "mod", "static", "struct", "trait", "type",
];

/// A documented item: the number of its line, and the first paragraph of its documentation.
type Item = (usize, String);

fn is_inside(file: &File) -> bool {
    !OUTSIDE.iter().any(|outside| file.name.contains(outside))
}

/// What a line is in.
#[derive(Clone, Copy, PartialEq)]
enum Block {
    Other,
    Enum,
    Trait,
}

impl Block {
    /// The block of the line after `line`.
    fn after(self, line: &str) -> Self {
        match line {
            "}" => Self::Other,
            _ if line.starts_with("pub enum ") => Self::Enum,
            _ if line.starts_with("pub trait ") => Self::Trait,
            _ => self,
        }
    }
}

/// Whether a line begins a public item, a variant, a field, or a method of a public trait.
fn is_public(line: &str, block: Block) -> bool {
    let code = line.trim_start();
    let depth = line.len() - code.len();
    let word = code.split([' ', '(', ':', ',', '{']).next().unwrap_or("");
    let is_field = || {
        code.starts_with(|first: char| first.is_lowercase()) && code[word.len()..].starts_with(": ")
    };
    match (block, depth) {
        (Block::Trait, 4) => ["fn", "type", "const"].contains(&word),
        (Block::Enum, 4) => word.starts_with(char::is_uppercase),
        (Block::Enum, 8) => is_field(),
        _ => code.strip_prefix("pub ").is_some_and(|item| {
            let word = item.split([' ', ':']).next().unwrap_or("");
            ITEMS.contains(&word) || item[word.len()..].starts_with(": ")
        }),
    }
}

/// The first paragraph of the documentation that ends above the line `at`, if there is any.
fn first_paragraph(lines: &[&str], at: usize) -> Option<String> {
    let above = lines[..at].iter().rev();
    // Attributes stand between the two, some on several lines.
    let above =
        above.skip_while(|line| doc(line).is_none() && !line.trim().is_empty() && !ends_item(line));
    let mut block: Vec<_> = above.map_while(|line| doc(line)).collect();
    block.reverse();
    let paragraph: Vec<_> = block
        .into_iter()
        .take_while(|line| !line.is_empty())
        .collect();
    (!paragraph.is_empty()).then(|| paragraph.join(" "))
}

/// What a line of documentation says.
fn doc(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("///").map(str::trim)
}

fn ends_item(line: &str) -> bool {
    line.ends_with(['}', ';', ',']) || line.ends_with('{')
}

fn items(text: &str) -> Vec<Item> {
    let (text, _) = text
        .split_once("\n#[cfg(test)]\nmod ")
        .unwrap_or((text, ""));
    let lines: Vec<_> = text.lines().collect();
    let mut block = Block::Other;
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if is_public(line, block)
            && let Some(paragraph) = first_paragraph(&lines, at)
        {
            found.push((at + 1, paragraph));
        }
        block = block.after(line);
    }
    found
}

/// The text as it is shown: links without where they lead, and without their brackets.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, target)) = rest.split_once("](") {
        shown += before;
        rest = target.split_once(')').map_or("", |(_, after)| after);
    }
    shown += rest;
    shown.replace("[`", "`").replace("`]", "`")
}

fn too_long(text: &str) -> Vec<Item> {
    let mut items = items(text);
    items.retain(|(_, paragraph)| shown(paragraph).chars().count() > LONGEST);
    items
}

#[test]
fn the_first_paragraph_of_every_public_item_fits_a_list() {
    let (mut read, mut faults) = (0, Vec::new());
    for file in sources().iter().filter(|file| is_inside(file)) {
        read += items(&file.text).len();
        let name = &file.name;
        let long = too_long(&file.text).into_iter();
        faults.extend(long.map(|(line, paragraph)| format!("src/{name}:{line}: {paragraph}")));
    }
    assert!(read > 700, "only {read} items were found");
    assert!(
        faults.is_empty(),
        "over {LONGEST} characters:\n{}",
        faults.join("\n")
    );
}

/// The check is worth something: it finds all kinds of items, and nothing else.
#[test]
fn a_long_first_paragraph_is_found() {
    let long = "a ".repeat(LONGEST / 2) + "b.";
    let link = format!("[`a`](crate::{})", "b".repeat(LONGEST));
    let text = format!(
        "/// {long}\n#[x(\n    y\n)]\npub fn a() {{\n/// {long}\nfn b() {{\n/// {long}\npub(crate) fn c() {{\n\
         /// {link}\npub struct D {{\n    /// {long}\n    pub e: u8,\n    /// {long}\n    f: u8,\n}}\n\
         pub enum G {{\n    /// {long}\n    H {{\n        /// {long}\n        i: u8,\n    }},\n}}\n\
         pub trait J {{\n    /// {long}\n    fn k(&self);\n    /// Short.\n    ///\n    /// {long}\n    fn l(&self);\n}}\n"
    );
    let lines: Vec<_> = too_long(&text).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [5, 13, 19, 21, 26]);
}
