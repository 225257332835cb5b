//! The settings against their documents: the schema for editors, and the table of `docs/command.md`.
//! Starts no server. Built with the feature `config` only.

use prefork_server::{
    Config, Shape, TakesEffect,
    settings::{Key, Settings, schema},
};
use std::{fs, path::PathBuf};

/// The row above the rows of the table.
const TABLE: &str =
    "| key | flag | value | default | reload | what it is |\n|---|---|---|---|---|---|\n";

fn docs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name)
}

/// A document as it is; or, with `UPDATE_DOCS`, as it should be.
fn expect(name: &str, made: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(docs(name), made).unwrap();
    }
    let found = fs::read_to_string(docs(name)).unwrap();
    assert!(
        found == made,
        "docs/{name} is not what UPDATE_DOCS=1 cargo test --features config --test rules makes"
    );
}

#[test]
fn the_schema_is_that_of_the_keys() {
    expect("prefork.schema.json", &schema());
}

/// The brackets of JSON close in order, and no text is left open. A schema that is no JSON helps no
/// editor.
#[test]
fn the_schema_is_json() {
    let (mut open, mut in_text, mut escaped) = (Vec::new(), false, false);
    for char in schema().chars() {
        match (in_text, escaped, char) {
            (true, true, _) => escaped = false,
            (true, false, '\\') => escaped = true,
            (_, false, '"') => in_text = !in_text,
            (false, _, '{' | '[') => open.push(char),
            (false, _, '}') => assert_eq!(open.pop(), Some('{')),
            (false, _, ']') => assert_eq!(open.pop(), Some('[')),
            _ => {}
        }
    }
    assert!(open.is_empty() && !in_text);
}

#[test]
fn the_schema_has_every_attribute() {
    let schema = schema();
    for attribute in Config::attributes() {
        let property = format!("    \"{}\": {{ ", attribute.name);
        assert!(schema.contains(&property), "{}", attribute.name);
    }
}

#[test]
fn the_table_of_the_command_is_that_of_the_keys() {
    let text = fs::read_to_string(docs("command.md")).unwrap();
    let (before, rest) = text.split_once(TABLE).expect("the table");
    let is_row = |line: &&str| line.starts_with('|');
    let after: String = rest.split_inclusive('\n').skip_while(is_row).collect();
    let rows: String = Settings::keys().iter().map(row).collect();
    expect("command.md", &format!("{before}{TABLE}{rows}{after}"));
}

/// The example of a file, as people copy it. It has an address for the status.
#[cfg(feature = "status")]
#[test]
fn the_example_of_the_document_is_read() {
    let text = fs::read_to_string(docs("command.md")).unwrap();
    let (_, example) = text.split_once("```toml\n").expect("an example");
    let (example, _) = example.split_once("```").unwrap();
    let mut settings = Settings::new();
    settings.read_text("example", example).unwrap();
    assert_eq!(settings.config().max_clients, 50);
    assert_eq!(settings.listen().len(), 2);
}

fn row(key: &Key) -> String {
    let section = key.section.map(|section| format!("{section}."));
    let name = format!("{}{}", section.unwrap_or_default(), key.name);
    let value = match key.shape {
        Shape::Choice(words) => words.join(", "),
        Shape::Bool => "true, false".to_owned(),
        Shape::List => "a list".to_owned(),
        shape => shape.placeholder().to_owned(),
    };
    let default = match key.default().as_str() {
        "" => "none".to_owned(),
        default => default.to_owned(),
    };
    let flag = match key.name {
        "program" => "–".to_owned(),
        _ => format!("`--{}`", key.flag()),
    };
    let reload = match key.takes_effect {
        TakesEffect::AtStart => "restart",
        _ => "applies",
    };
    format!(
        "| `{name}` | {flag} | {value} | {default} | {reload} | {} |\n",
        key.summary
    )
}
