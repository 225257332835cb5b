//! The JSON schema of a settings file, for editors: made from the keys. Checks no file.

use super::key::{self, Key};
use crate::core::config::Shape;

/// What a time looks like: `1h30m`, `0`.
const TIME: &str = r"^ *(0|([0-9]+(\.[0-9]+)? *(ns|us|µs|ms|s|sec|m|min|h|d) *)+)$";
/// What a size looks like: `256MiB`.
const SIZE: &str = r"^[0-9]+(\.[0-9]+)? *(B|K|KiB|kB|M|MiB|MB|G|GiB|GB|TiB)?$";

/// The JSON schema of a settings file.
///
/// `docs/prefork.schema.json` is this text. An editor that knows it completes keys and marks wrong
/// values; with the TOML language server the file begins with `#:schema prefork.schema.json`.
pub fn schema() -> String {
    let keys = key::keys();
    let mut properties = properties(&keys, None, "    ");
    let mut sections: Vec<_> = keys.iter().filter_map(|key| key.section).collect();
    sections.dedup();
    for section in sections {
        let inner = self::properties(&keys, Some(section), "        ").join(",\n");
        properties.push(format!(
            "    \"{section}\": {{\n      \"type\": \"object\",\n      \
             \"additionalProperties\": false,\n      \"properties\": {{\n{inner}\n      }}\n    }}"
        ));
    }
    format!(
        "{{\n  \"$schema\": \"http://json-schema.org/draft-07/schema#\",\n  \
         \"title\": \"Settings of prefork\",\n  \"type\": \"object\",\n  \
         \"additionalProperties\": false,\n  \"properties\": {{\n{}\n  }}\n}}\n",
        properties.join(",\n")
    )
}

fn properties(keys: &[Key], section: Option<&str>, indent: &str) -> Vec<String> {
    let of_section = keys.iter().filter(|key| key.section == section);
    let property = of_section.map(|key| {
        format!(
            "{indent}{}: {{ \"description\": {}, {} }}",
            quoted(key.name),
            quoted(&description(key)),
            kind(key)
        )
    });
    property.collect()
}

fn description(key: &Key) -> String {
    match key.default().as_str() {
        "" => format!("{}.", key.summary),
        default => format!("{}. Default: {default}.", key.summary),
    }
}

/// The part of a property that says which values there are.
fn kind(key: &Key) -> String {
    let is_limit = key.name.starts_with("limit_");
    match key.shape {
        Shape::Bool => "\"type\": \"boolean\"".to_owned(),
        // `64`, `"64:128"`, `"unlimited"`.
        _ if is_limit => "\"type\": [\"integer\", \"string\"]".to_owned(),
        Shape::Whole if key.is_optional => "\"type\": [\"integer\", \"string\"]".to_owned(),
        Shape::Whole => "\"type\": \"integer\"".to_owned(),
        Shape::Fraction => "\"type\": \"number\"".to_owned(),
        Shape::Size => text_of(key, SIZE, "[\"integer\", \"string\"]"),
        Shape::Time => text_of(key, TIME, "\"string\""),
        Shape::Choice(words) => {
            let none = key.is_optional.then_some(&"none");
            let words: Vec<_> = words.iter().chain(none).map(|word| quoted(word)).collect();
            format!("\"enum\": [{}]", words.join(", "))
        }
        Shape::List if key.name == "listen" => listen(),
        Shape::List => {
            "\"type\": [\"array\", \"string\"], \"items\": { \"type\": \"string\" }".into()
        }
        _ => "\"type\": \"string\"".to_owned(),
    }
}

fn text_of(key: &Key, pattern: &str, kind: &str) -> String {
    let pattern = match (key.is_optional, pattern.strip_prefix('^')) {
        (true, Some(rest)) => format!("^none$|^{rest}"),
        _ => pattern.to_owned(),
    };
    format!("\"type\": {kind}, \"pattern\": {}", quoted(&pattern))
}

/// An address, or a table with its options; one or several.
fn listen() -> String {
    let text = "{ \"type\": \"string\" }";
    let table = "{ \"type\": \"object\", \"required\": [\"address\"], \
                 \"additionalProperties\": { \"type\": [\"string\", \"boolean\"] } }";
    format!("\"type\": [\"array\", \"string\"], \"items\": {{ \"anyOf\": [{text}, {table}] }}")
}

/// A text as JSON. Keys and their summaries have no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
