//! The tables of `docs/handlers.md`: each name has a row of its own in the right one, which says what
//! ours is. Starts no server.

use super::{
    ACCESSORS, ATTRIBUTES, CHECK_INTERVAL, CONSTANTS, CREATE_STATES, HANDLERS, METHODS,
    own_attributes, own_hooks,
};
use prefork_server::{Attribute, Config};
use std::fs;

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/handlers.md");
    fs::read_to_string(path).expect("docs/handlers.md is there")
}

/// The rows of the table under a heading, without the heads of its columns: the lines.
fn rows<'a>(text: &'a str, part: &str, heading: &str) -> Vec<&'a str> {
    let mut parts = text.strip_prefix("# ").unwrap_or(text).split("\n# ");
    let of_part = parts.find(|candidate| candidate.starts_with(part));
    let section = of_part.unwrap_or("").split("\n## ");
    let mut section = section.filter(|section| section.lines().next() == Some(heading));
    let own = section
        .next()
        .and_then(|section| section.split("\n### ").next());
    own.unwrap_or("")
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .collect()
}

/// The names in a cell: what is set as code there.
fn names(row: &str, cell: usize) -> Vec<&str> {
    let cell = row.split('|').nth(cell + 1).unwrap_or("");
    cell.split('`').skip(1).step_by(2).collect()
}

/// A row: the names in its first cell, and those that it must hold in any other.
type Row = (Vec<String>, Vec<String>);

/// Each table that the document is about: the part of the file, the heading, and the rows.
fn tables() -> Vec<(&'static str, &'static str, Vec<Row>)> {
    let original = "Handlers, methods, attributes";
    let own = "Ours alone";
    vec![
        (original, "States and their handlers", states()),
        (original, "Methods", methods()),
        (original, "Attributes", attributes()),
        (original, "Tracking", tracking()),
        (original, "Constants", plain(&CONSTANTS)),
        (original, "The server object", server_object()),
        (own, "Hooks", hooks()),
        (own, "Attributes", plain(&own_attributes())),
    ]
}

/// A row whose first cell has the names `first`, and whose others must have those in `held`.
fn row(first: &[&str], held: &[&str]) -> Row {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    (owned(first), owned(held))
}

fn plain(names: &[&str]) -> Vec<Row> {
    names.iter().map(|name| row(&[name], &[])).collect()
}

/// What stands for a hook: the method of the trait, and its default.
fn of_hook(name: &str) -> [String; 2] {
    ["PreForkHooks", "defaults"].map(|home| format!("{home}::{name}"))
}

fn states() -> Vec<Row> {
    let state = |(state, handler): (&str, &str)| {
        let [method, default] = of_hook(handler);
        row(&[state], &[handler, &method, &default])
    };
    HANDLERS.map(state).to_vec()
}

fn methods() -> Vec<Row> {
    let method = |name: &&str| row(&[name], &of_hook(name).each_ref().map(String::as_str));
    let methods = [&[CREATE_STATES], &METHODS[..]].concat();
    methods.iter().map(method).collect()
}

fn attributes() -> Vec<Row> {
    let attribute = |name: &&str| match *name {
        "server" => row(&["server"], &["PreFork::builder"]),
        name => row(&[name], &[name]),
    };
    let attributes = [&ATTRIBUTES[..], &[CHECK_INTERVAL]].concat();
    attributes.iter().map(attribute).collect()
}

/// The accessors of the children, and the child's hash.
fn tracking() -> Vec<Row> {
    let accessor = |name: &&str| row(&[name], &[&format!("Monitor::{name}")]);
    let child = [
        row(&[], &["Child"]),
        row(&["wheel"], &["ChildId"]),
        row(&["last_ack"], &["Child::last_ack"]),
        row(&["starttime"], &["Child::start_time"]),
        row(&["ID"], &["PreFork::id"]),
    ];
    ACCESSORS.iter().map(accessor).chain(child).collect()
}

fn server_object() -> Vec<Row> {
    vec![
        row(&["server"], &["ChildServer"]),
        row(&["start"], &["ChildServer::start"]),
        row(&["resume_accept"], &["ChildServer::resume_accept"]),
        row(
            &["send_ack", "set_send_ack"],
            &["ChildServer::send_ack", "ChildServer::set_send_ack"],
        ),
        row(&[], &["ChildServer::stop"]),
        row(&[], &["ChildServer::lost"]),
        row(&[], &["ChildServer::execs"]),
        row(&[], &["TcpServer"]),
        row(&[], &["UnixServer"]),
        row(&[], &["ExecServer"]),
        row(&[], &["InetdServer"]),
        row(&["conn_class"], &["conn_class"]),
    ]
}

/// The hooks that the original lacks.
fn hooks() -> Vec<Row> {
    let hook = |name: &String| (of_hook(name).to_vec(), Vec::new());
    own_hooks().iter().map(hook).collect()
}

/// What is wrong with the tables: each name has a row of its own in the right one, in order, and the
/// row says what ours is.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (part, heading, expected) in tables() {
        let found = rows(text, part, heading);
        let first: Vec<_> = found.iter().map(|row| names(row, 0)).collect();
        let wanted: Vec<_> = expected.iter().map(|(first, _)| first).collect();
        let same = |(first, wanted): (&Vec<&str>, &&Vec<String>)| first == *wanted;
        if first.len() != wanted.len() || !first.iter().zip(&wanted).all(same) {
            faults.push(format!("{heading}: {first:?} instead of {wanted:?}"));
            continue;
        }
        for (row, (_, held)) in found.iter().zip(&expected) {
            let others: Vec<_> = (1..4).flat_map(|cell| names(row, cell)).collect();
            let lacking = held.iter().find(|name| !others.contains(&name.as_str()));
            faults.extend(lacking.map(|name| format!("{heading}: no {name} in {row}")));
        }
        faults.extend(
            found
                .iter()
                .filter_map(|row| untrue_attribute(heading, row)),
        );
    }
    faults
}

/// What is wrong with a row of an attribute: it says what the table in the source says.
fn untrue_attribute(heading: &str, row: &str) -> Option<String> {
    let name = *names(row, 0).first().filter(|_| heading == "Attributes")?;
    let attribute = Config::attributes().iter().find(|row| row.name == name)?;
    let facts = facts(attribute);
    (!row.ends_with(&facts)).then(|| format!("{heading}: {name} must end in {facts}"))
}

/// The cells of an attribute's row behind its name.
fn facts(attribute: &Attribute) -> String {
    let what = attribute.documentation.lines().next().unwrap_or("").trim();
    format!(
        "| {} | {} | {} | {} | {} | {what} |",
        attribute.default(),
        attribute.unit,
        attribute.normalised,
        attribute.read,
        attribute.takes_effect,
    )
}

#[test]
fn every_item_has_a_row_of_its_own_in_the_right_table() {
    assert_eq!(faults(&document()), Vec::<String>::new());
}

/// The check is worth something: it misses each row, and each table.
#[test]
fn a_row_that_is_missing_is_missed() {
    let text = document();
    for (part, heading, expected) in tables() {
        let rows = rows(&text, part, heading);
        assert_eq!(rows.len(), expected.len());
        for row in &rows {
            let without = text.replacen(&format!("{row}\n"), "", 1);
            assert_ne!(without, text);
            assert_eq!(faults(&without).len(), 1, "without {row}");
        }
        let table = format!("{}\n", rows.join("\n"));
        let without = text.replacen(&table, "", 1);
        assert_ne!(without, text);
        assert_eq!(faults(&without).len(), 1, "without {heading}");
    }
}

/// The check is worth something: a fact that has changed in the source is missed in the document.
#[test]
fn an_attribute_that_is_described_otherwise_is_found() {
    let text = document();
    for attribute in Config::attributes() {
        let facts = facts(attribute);
        let outdated = text.replacen(&facts, &facts.replacen("| ", "| not ", 1), 1);
        assert!(outdated != text, "no {facts}");
        assert_eq!(faults(&outdated).len(), 1, "{facts}");
    }
}
