//! The public methods of the stock servers against their table in `docs/handlers.md`: each has a row,
//! which says whose it is. Starts no server.

use super::source::{root, sources};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// The heading of the table.
const HEADING: &str = "\n### Methods of the stock servers\n";

/// What an `impl` is of, and whose methods the table calls them.
const OWNERS: [(&str, &[&str]); 6] = [
    ("StreamServer<L>", &["TCP", "UNIX"]),
    ("StreamServer<Tcp>", &["TCP"]),
    ("StreamServer<Unix>", &["UNIX"]),
    ("PerChild<L, I>", &["per child"]),
    ("ExecServer", &["exec"]),
    ("InetdServer", &["inetd"]),
];

/// The methods, each with those that have it.
type Methods = BTreeMap<String, BTreeSet<String>>;

/// The code of all files of the servers.
fn code_of_servers() -> String {
    let files = sources().into_iter();
    let files = files.filter(|file| file.floor == "servers");
    files.map(|file| file.code).collect()
}

/// Whose methods a block is of, by its first line; none if it implements a trait.
fn owners(head: &str) -> &'static [&'static str] {
    let Some(of) = head.strip_suffix(" {").filter(|of| !of.contains(" for ")) else {
        return &[];
    };
    let found = OWNERS
        .iter()
        .find(|(name, _)| of.ends_with(&format!(" {name}")));
    found.map_or(&[], |(_, owners)| owners)
}

fn methods(code: &str) -> Methods {
    let mut methods = Methods::new();
    for block in code.split("\nimpl").skip(1) {
        let block = block.split("\n}\n").next().unwrap_or("");
        let (head, body) = block.split_once('\n').unwrap_or((block, ""));
        for line in body.lines() {
            let name = line.strip_prefix("    pub fn ").unwrap_or("");
            let name = name.split(['(', '<']).next().unwrap_or("");
            for owner in owners(head).iter().filter(|_| !name.is_empty()) {
                let all = methods.entry(name.to_owned()).or_default();
                all.insert((*owner).to_owned());
            }
        }
    }
    methods
}

/// The methods that the table has.
fn documented(text: &str) -> Methods {
    let (_, section) = text.split_once(HEADING).expect("the heading");
    let section = section.split("\n#").next().unwrap_or("");
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let mut methods = Methods::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for name in cells[1].split('`').skip(1).step_by(2) {
            let of = cells[2].split(", ").map(str::to_owned);
            methods.entry(name.to_owned()).or_default().extend(of);
        }
    }
    methods
}

#[test]
fn every_method_of_a_stock_server_has_a_row() {
    let methods = methods(&code_of_servers());
    assert!(methods.len() > 60, "the servers have moved: {methods:?}");
    let text = fs::read_to_string(root().join("docs/handlers.md")).expect("the document");
    let documented = documented(&text);
    for (name, owners) in &methods {
        assert_eq!(documented.get(name), Some(owners), "the row of {name}");
    }
    let gone: Vec<_> = documented.keys().collect();
    assert_eq!(gone, methods.keys().collect::<Vec<_>>());
}

/// The check is worth something: it finds methods, and leaves those of traits and others alone.
#[test]
fn the_methods_of_a_block_are_its_owners() {
    let code = "\nimpl<L: Listener> StreamServer<L> {\n    pub fn a<T>() {\n        pub fn z(\n    fn b() {\n}\n\
                impl InetdServer {\n    pub fn a(self) {\n}\nimpl X for InetdServer {\n    pub fn c(\n}\n\
                impl Other {\n    pub fn d(\n}\n";
    let all = ["TCP", "UNIX", "inetd"].map(str::to_owned);
    assert_eq!(methods(code), Methods::from([("a".to_owned(), all.into())]));
}
