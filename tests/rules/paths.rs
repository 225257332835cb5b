//! Reads the paths that code names: those relative to a module above, by `super::`, and those of the
//! standard library. Knows modules by the names of their files; judges nothing.

use std::collections::BTreeSet;

/// A path, name by name. The last may be `*`.
pub(super) type Names = Vec<String>;

/// What the code of a file names by `super::`, from the root of the crate on.
pub(super) fn by_super(file: &str, code: &str) -> BTreeSet<Names> {
    let tokens = tokens(code);
    let own = module(file);
    let mut inline = Vec::new();
    let (mut depth, mut found) = (0, BTreeSet::new());
    let mut read_to = 0;
    for (at, token) in tokens.iter().enumerate() {
        // What stands in the braces of a `use` is a part of its paths.
        if at < read_to {
            continue;
        }
        match token.as_str() {
            "{" => {
                depth += 1;
                if at >= 2 && tokens[at - 2] == "mod" {
                    inline.push((depth, tokens[at - 1].clone()));
                }
            }
            "}" => {
                inline.pop_if(|(opened, _)| *opened == depth);
                depth -= 1;
            }
            "super" if begins_a_path(&tokens, at) => {
                let inline = inline.iter().map(|(_, name)| name);
                let here = own.iter().chain(inline).cloned().collect();
                read_to = at;
                read_tree(&tokens, &mut read_to, here, &mut found);
            }
            _ => {}
        }
    }
    found
}

/// What the code names of the standard library.
pub(super) fn of_std(code: &str) -> BTreeSet<Names> {
    let tokens = tokens(code);
    let mut found = BTreeSet::new();
    for at in 0..tokens.len() {
        if tokens[at] == "std" && begins_a_path(&tokens, at) {
            read_tree(&tokens, &mut at.clone(), Names::new(), &mut found);
        }
    }
    found
}

/// The module that a file of `src` is.
fn module(file: &str) -> Names {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// Whether a path begins here, and not the name of a place as in `pub(in super::super)`.
fn begins_a_path(tokens: &[String], at: usize) -> bool {
    let token = |n: usize| at.checked_sub(n).map_or("", |at| tokens[at].as_str());
    let goes_on = tokens.get(at + 1).is_some_and(|next| next == "::");
    let is_a_place = token(1) == "in" && token(2) == "(";
    goes_on && token(1) != "::" && !is_a_place
}

/// Reads a path, or the tree of paths of a `use`, below `prefix`.
fn read_tree(tokens: &[String], at: &mut usize, mut prefix: Names, found: &mut BTreeSet<Names>) {
    while let Some(token) = tokens.get(*at).map(String::as_str) {
        match token {
            "{" => return read_group(tokens, at, &prefix, found),
            "super" => drop(prefix.pop()),
            "self" => {}
            name if name == "*" || is_a_name(name) => prefix.push(name.to_owned()),
            _ => break,
        }
        *at += 1;
        if tokens.get(*at).is_none_or(|next| next != "::") {
            break;
        }
        *at += 1;
    }
    found.insert(prefix);
}

fn read_group(tokens: &[String], at: &mut usize, prefix: &Names, found: &mut BTreeSet<Names>) {
    *at += 1;
    while let Some(token) = tokens.get(*at) {
        match token.as_str() {
            "}" => return *at += 1,
            "as" => *at += 2,
            "," => *at += 1,
            _ => {
                let before = *at;
                read_tree(tokens, at, prefix.clone(), found);
                // What is no path is left out.
                *at = (*at).max(before + 1);
            }
        }
    }
}

fn is_a_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Names, `::`, and all other characters one by one.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut goes_on = false;
    for char in code.chars() {
        let in_name = char.is_alphanumeric() || char == '_';
        let last = tokens.last_mut();
        match last {
            Some(last) if in_name && goes_on => last.push(char),
            Some(last) if char == ':' && last == ":" && !goes_on => last.push(char),
            _ if char.is_whitespace() => {}
            _ => tokens.push(char.to_string()),
        }
        goes_on = in_name;
    }
    tokens
}

#[test]
fn the_reader_of_paths_reads() {
    let joined = |found: BTreeSet<Names>| -> Vec<String> {
        found.into_iter().map(|names| names.join("::")).collect()
    };
    let code = "use super::{a::{B, self as c}, d, super::e}; pub(super) fn f() { super::g::h() }
        pub(in super::super) const I: u8 = 0; mod j { use super::*; fn k() { super::super::l } }
        use super::super::super::sys::m; for o in super::P {}";
    let expected = [
        "core::d",
        "core::a",
        "core::a::B",
        "core::g::h",
        "core::P",
        "core::l",
        "core::q::*",
        "e",
        "sys::m",
    ];
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    let mut found = joined(by_super("core/q.rs", code));
    found.sort();
    assert_eq!(found, expected);
    let inner = joined(by_super("core/q/mod.rs", "super::r::S"));
    assert_eq!(inner, ["core::r::S"]);
    let code = "use std::{fs, io::{self, Write}}; std::env::var(); crate::std::no; a::std::no";
    let found = joined(of_std(code));
    assert_eq!(
        found,
        ["std::env::var", "std::fs", "std::io", "std::io::Write"]
    );
}
