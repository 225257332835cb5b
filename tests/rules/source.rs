//! Reads the source of the library: its files, and in their code the words, the imports and the bodies of
//! functions. Judges nothing.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A source file: the floor and the room that it belongs to, its path, its text.
pub(super) struct File {
    pub(super) floor: String,
    pub(super) room: String,
    pub(super) name: String,
    pub(super) text: String,
    /// The text without comments and string literals.
    pub(super) code: String,
    pub(super) is_test: bool,
}

pub(super) fn sources() -> Vec<File> {
    let src = root().join("src");
    let paths = collect(&src, is_rust);
    assert!(paths.len() > 30, "the source has moved");
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(&src).unwrap();
        let part = |n| {
            let part = relative.iter().nth(n).and_then(|part| part.to_str());
            part.unwrap_or("").trim_end_matches(".rs").to_owned()
        };
        let (floor, room) = (part(0), part(1));
        File {
            is_test: floor == "fuzzing" || relative.iter().any(is_of_tests),
            code: without_comments(&text),
            name: relative.display().to_string(),
            floor,
            room,
            text,
        }
    };
    paths.into_iter().map(source).collect()
}

/// Whether a file or a folder of this name has only tests.
fn is_of_tests(name: &OsStr) -> bool {
    let stem = Path::new(name).file_stem().and_then(OsStr::to_str);
    stem.is_some_and(|stem| {
        stem.ends_with("tests") || ["segmentation", "walk", "testing"].contains(&stem)
    })
}

/// The files below a folder that are wanted, in order; not those that are built or hidden.
pub(super) fn collect(folder: &Path, is_wanted: fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            match entry.file_type().unwrap().is_dir() {
                true if is_built_or_hidden(&entry.file_name()) => {}
                true => folders.push(path),
                false => found.extend(is_wanted(&path).then_some(path)),
            }
        }
    }
    found.sort();
    found
}

fn is_built_or_hidden(folder: &OsStr) -> bool {
    folder == "target" || folder.to_string_lossy().starts_with('.')
}

pub(super) fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// The code alone, each line kept: comments are dropped and string literals emptied.
fn without_comments(text: &str) -> String {
    let mut code = String::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '/' if chars.peek() == Some(&'/') => {
                while chars.next_if(|&char| char != '\n').is_some() {}
            }
            '"' => {
                code.push('"');
                while let Some(char) = chars.next() {
                    match char {
                        '\\' => code.extend(chars.next().filter(|&char| char == '\n')),
                        '"' => break,
                        '\n' => code.push('\n'),
                        _ => {}
                    }
                }
                code.push('"');
            }
            // A character, so that '"' begins no string; a lifetime is left as it is.
            '\'' => {
                let mut ahead = chars.clone();
                let first = ahead.next();
                if first == Some('\\') {
                    chars.by_ref().take(2).for_each(drop);
                    while chars.next_if(|&char| char != '\'').is_some() {}
                    chars.next();
                } else if ahead.next() == Some('\'') {
                    chars.by_ref().take(2).for_each(drop);
                }
            }
            _ => code.push(char),
        }
    }
    code
}

/// Identifiers, in order.
pub(super) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|char: char| !(char.is_alphanumeric() || char == '_'))
        .filter(|word| !word.is_empty())
}

/// What the code names of this crate, as `crate::floor::room` or in a `use crate::{…}`: floor and room.
pub(super) fn imports(code: &str) -> BTreeSet<(String, String)> {
    let dense: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    for (at, path) in dense.match_indices("crate::") {
        let standing = dense[..at].chars().next_back();
        if standing.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == '$') {
            continue;
        }
        for item in items(&dense[at + path.len()..]) {
            let (floor, rest) = head(&item);
            let rooms = items(rest.trim_start_matches("::"));
            let rooms = rooms.iter().map(|room| head(room).0.to_owned());
            found.extend(rooms.map(|room| (floor.to_owned(), room)));
        }
    }
    found
}

/// The first name of a path, and what follows it.
fn head(path: &str) -> (&str, &str) {
    let path = path.trim();
    let end = path.find(|char: char| !(char.is_alphanumeric() || char == '_'));
    path.split_at(end.unwrap_or(path.len()))
}

/// The items of a group, `{a::{b, c}, d}` gives `a::{b, c}` and `d`; of anything else, itself.
fn items(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        return vec![text.to_owned()];
    };
    let mut items = vec![String::new()];
    let mut depth = 0;
    for char in group.chars() {
        match char {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            _ => {
                depth += i32::from(char == '{') - i32::from(char == '}');
                items.last_mut().unwrap().push(char);
            }
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

/// The body of a function of `code`, between its braces.
pub(super) fn body<'a>(code: &'a str, function: &str) -> Option<&'a str> {
    let at = code.find(&format!("fn {function}("))?;
    let start = at + code[at..].find('{')?;
    let mut depth = 0;
    let end = code[start..].find(|c| {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0
    })?;
    Some(&code[start + 1..start + end])
}

#[test]
fn the_reader_of_source_reads() {
    let code = without_comments("a // nix\n\"mio \\\" {\" 'x' '\"' b // \"\n'\\'' &'a c");
    assert_eq!(words(&code).collect::<Vec<_>>(), ["a", "b", "a", "c"]);
    let code = "use crate::{\n a::{self, B, c::{D}},\n e,\n}; f(crate::g::H) $crate::i mycrate::j";
    let found: Vec<_> = imports(code).into_iter().collect();
    let expected = [("a", "B"), ("a", "c"), ("a", "self"), ("e", ""), ("g", "H")];
    let expected = expected.map(|(floor, room)| (floor.to_owned(), room.to_owned()));
    assert_eq!(found, expected);
}
