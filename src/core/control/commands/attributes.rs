//! `set` and `get`: the attributes, as text. The attributes themselves say what a value means.

use crate::core::{
    config::{Attribute, Config, TakesEffect},
    control::{Answer, BegunCommand, ErrorCode},
    json::JsonWriter,
    monitor::Monitor,
    nearest,
};

/// Sets one attribute; the answer has the values in force before and after that.
pub(in super::super) fn set(monitor: &mut Monitor, arguments: &str) -> BegunCommand {
    let (name, text) = arguments
        .split_once(char::is_whitespace)
        .unwrap_or((arguments, ""));
    let attribute = match named(name) {
        Ok(attribute) => attribute,
        Err(answer) => return BegunCommand::Done(answer),
    };
    if attribute.takes_effect == TakesEffect::AtStart {
        let text = format!(
            "{} is read when the server starts, and cannot change",
            attribute.name
        );
        return BegunCommand::error(ErrorCode::Fixed, &text);
    }
    let before = in_force(monitor);
    match monitor.set_from_text(attribute, text.trim()) {
        Ok(()) => BegunCommand::Done(changed(monitor, attribute, &before)),
        Err(reason) => {
            let text = format!("{}: {reason} ({})", attribute.name, range(attribute));
            BegunCommand::error(ErrorCode::Value, &text)
        }
    }
}

pub(in super::super) fn get(monitor: &mut Monitor, arguments: &str) -> BegunCommand {
    let config = in_force(monitor);
    BegunCommand::Done(match (arguments, named(arguments)) {
        ("", _) => Answer::ok(|json| write_all(json, Config::attributes(), &config)),
        (_, Ok(attribute)) => Answer::ok(|json| {
            json.field("name", attribute.name);
            json.field("value", attribute.text(&config));
            json.field("asked", attribute.text(monitor.config()));
            json.field("default", attribute.text(&Config::default()));
            json.field("unit", attribute.unit);
            json.field("takes_effect", attribute.takes_effect.to_string());
        }),
        (_, Err(answer)) => answer,
    })
}

fn write_all(json: &mut JsonWriter, attributes: &[Attribute], config: &Config) {
    json.object("attributes", |json| {
        for attribute in attributes {
            json.field(attribute.name, attribute.text(config));
        }
    });
}

/// The attribute of that name, which may have dashes, as in a flag.
fn named(name: &str) -> Result<&'static Attribute, Answer> {
    let wanted = name.replace('-', "_");
    let mut attributes = Config::attributes().iter();
    let attribute = attributes.find(|attribute| attribute.name == wanted);
    attribute.ok_or_else(|| {
        let names = Config::attributes().iter();
        let nearest = nearest::typo(&wanted, names.map(|one| one.name.to_owned()));
        let meant = nearest.map(|nearest| format!("did you mean {nearest}? "));
        let meant = meant.unwrap_or_default();
        let text = format!("there is no attribute {name:?}; {meant}`get` shows all of them");
        Answer::error(ErrorCode::Unknown, &text)
    })
}

/// The values in force.
fn in_force(monitor: &Monitor) -> Config {
    Config::clone(&monitor.attributes)
}

fn changed(monitor: &Monitor, attribute: &Attribute, before: &Config) -> Answer {
    let after = in_force(monitor);
    let asked = attribute.text(monitor.config());
    Answer::ok(|json| {
        json.field("name", attribute.name);
        json.field("old", attribute.text(before));
        json.field("new", attribute.text(&after));
        json.field("takes_effect", attribute.takes_effect.to_string());
        if asked != attribute.text(&after) {
            json.field("asked", asked);
            json.field("normalised", attribute.normalised);
        }
        write_others(json, attribute, before, &after);
    })
}

/// The other attributes whose values in force follow from the one that was set.
fn write_others(json: &mut JsonWriter, but: &Attribute, before: &Config, after: &Config) {
    let changed = |attribute: &&Attribute| {
        attribute.name != but.name && attribute.text(before) != attribute.text(after)
    };
    let others: Vec<_> = Config::attributes().iter().filter(changed).collect();
    if !others.is_empty() {
        json.object("also", |json| {
            for other in others {
                json.field(other.name, other.text(after));
            }
        });
    }
}

/// Which values are valid.
fn range(attribute: &Attribute) -> String {
    let none = if attribute.is_optional {
        " or none"
    } else {
        ""
    };
    let value = attribute.shape().placeholder();
    match attribute.normalised {
        "never" => format!("write {value}{none}"),
        normalised => format!("write {value}{none}; {normalised}"),
    }
}
