//! The warnings of the source against `docs/operations.md`: each has a row that says what has happened
//! and what to do. Reads texts; runs nothing of the library.

use super::source::{collect, is_rust, root};
use std::fs;

/// What begins a message that an operator may read. Those that answer a program only, at the
/// levels info and debug, are not listed.
const CALLS: [&str; 4] = ["say!(", ".notice(", "log::warn!(", "log::error!("];

/// How many words of a part of a message its row must have: the rest may be left out there.
const WORDS: usize = 4;

/// The code of a file without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next();
    let lines = text.unwrap_or_default().lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The first string literal of a call, whose parenthesis is open.
fn literal(rest: &str) -> Option<String> {
    let mut depth = 1;
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '(' => depth += 1,
            ')' if depth == 1 => return None,
            ')' => depth -= 1,
            '"' => return Some(unquoted(chars.as_str())),
            _ => {}
        }
    }
}

/// A literal up to its closing quote; a line that ends with a backslash goes on after the spaces.
fn unquoted(text: &str) -> String {
    let mut found = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next().filter(|c| *c != '"') {
        match (c, chars.peek()) {
            ('\\', Some('\n')) => while chars.next_if(|c| c.is_whitespace()).is_some() {},
            ('\\', _) => found.extend(chars.next()),
            _ => found.push(c),
        }
    }
    found
}

/// The messages of a file; a call without a literal is one that says so.
fn messages(code: &str) -> Vec<String> {
    let calls = CALLS.iter().flat_map(|call| code.split(call).skip(1));
    calls
        .map(|rest| literal(rest).unwrap_or_else(|| "a message without a literal".to_owned()))
        .collect()
}

/// What stands in a message however it is filled in, up to the first part that is long.
fn parts(message: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for part in message.split('{') {
        let fixed = part.split_once('}').map_or(part, |(_, fixed)| fixed);
        let words: Vec<_> = fixed.split_whitespace().collect();
        if fixed.contains(char::is_alphabetic) {
            parts.push(words[..words.len().min(WORDS)].join(" "));
        }
        if words.len() > WORDS {
            break;
        }
    }
    parts
}

/// Whether a row tells of a message: the parts stand in one of its examples, in their order.
fn tells(row: &str, parts: &[String]) -> bool {
    let examples = row.split('|').nth(1).unwrap_or_default();
    examples.split('`').skip(1).step_by(2).any(|example| {
        let mut rest = example;
        parts.iter().all(|part| match rest.split_once(part) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    })
}

#[test]
fn each_warning_has_a_row_in_the_manual() {
    let manual = fs::read_to_string(root().join("docs/operations.md")).expect("the manual");
    let rows: Vec<_> = manual
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    let (mut found, mut missing) = (0, Vec::new());
    for path in collect(&root().join("src"), is_rust) {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if stem.is_some_and(|stem| stem.ends_with("tests") || stem == "say") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        for message in messages(&code(&text)) {
            let parts = parts(&message);
            found += 1;
            if !parts.is_empty() && !rows.iter().any(|row| tells(row, &parts)) {
                let path = path.strip_prefix(root()).expect("a path below");
                missing.push(format!("{}: {message:?}", path.display()));
            }
        }
    }
    assert!(found > 40, "the calls are spelled in another way: {found}");
    assert!(
        missing.is_empty(),
        "no row of docs/operations.md, \"What each warning means\", has:\n{}",
        missing.join("\n")
    );
}

/// The check is worth something: it finds messages, and rows that do not tell of them.
#[test]
fn a_message_is_found_however_its_call_is_written() {
    let code = code(
        "// say!(Warn, \"not me\");\n\
         say!(Warn, \"{who} has \\\"gone\\\": {}\", f(\"no\"));\n\
         monitor.notice(\n    Notice::Odd(1),\n    format_args!(\"one \\\n        two {x}\"),\n);\n\
         self.notice(kind, text);\n\
         #[cfg(test)]\nmod tests {\n    say!(Warn, \"nor me\");",
    );
    let expected = [
        "{who} has \"gone\": {}",
        "one two {x}",
        "a message without a literal",
    ];
    assert_eq!(messages(&code), expected);
    let parts = parts("{pid} was reaped by somebody else, at last: {name}");
    assert_eq!(parts, ["was reaped by somebody"]);
    assert!(tells(
        "| `child 7 was reaped by somebody …` | why |",
        &parts
    ));
    assert!(!tells(
        "| `child 7 was ended` | was reaped by somebody |",
        &parts
    ));
    let two = ["got".to_owned(), "error".to_owned()];
    assert!(tells("| `x`, `7 got an error 3` | |", &two));
    assert!(!tells("| `an error got` | |", &two));
}
