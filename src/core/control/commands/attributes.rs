//! `set` and `get`: the attributes, as text. What a value means is the attributes' to say.

use crate::core::{
    config::{Attribute, Config, TakesEffect},
    control::{Answer, Begun, Problem},
    json::Object,
    monitor::Monitor,
};

/// Sets one attribute; the answer has the values in force before and after that.
pub(in super::super) fn set(monitor: &mut Monitor, arguments: &str) -> Begun {
    let (name, text) = arguments
        .split_once(char::is_whitespace)
        .unwrap_or((arguments, ""));
    let attribute = match named(name) {
        Ok(attribute) => attribute,
        Err(answer) => return Begun::Done(answer),
    };
    if attribute.takes_effect == TakesEffect::AtStart {
        let text = format!(
            "{} is read when the server starts, and cannot change",
            attribute.name
        );
        return Begun::error(Problem::Fixed, &text);
    }
    let before = in_force(monitor);
    match monitor.set_from_text(attribute, text.trim()) {
        Ok(()) => Begun::Done(changed(monitor, attribute, &before)),
        Err(reason) => {
            let text = format!("{}: {reason} ({})", attribute.name, range(attribute));
            Begun::error(Problem::Value, &text)
        }
    }
}

pub(in super::super) fn get(monitor: &mut Monitor, arguments: &str) -> Begun {
    let config = in_force(monitor);
    if arguments.is_empty() {
        let attributes = Config::attributes().iter();
        let values = attributes.fold(Object::new(), |object, attribute| {
            object.with(attribute.name, attribute.text(&config))
        });
        return Begun::Done(Answer::ok().with("attributes", values));
    }
    Begun::Done(match named(arguments) {
        Ok(attribute) => Answer::ok()
            .with("name", attribute.name)
            .with("value", attribute.text(&config))
            .with("asked", attribute.text(monitor.config()))
            .with("default", attribute.text(&Config::default()))
            .with("unit", attribute.unit)
            .with("takes_effect", attribute.takes_effect.to_string()),
        Err(answer) => answer,
    })
}

/// The attribute of that name, which may have dashes, as in a flag.
fn named(name: &str) -> Result<&'static Attribute, Answer> {
    let wanted = name.replace('-', "_");
    let mut attributes = Config::attributes().iter();
    let attribute = attributes.find(|attribute| attribute.name == wanted);
    attribute.ok_or_else(|| {
        let text = format!("there is no attribute {name:?}; `get` shows all of them");
        Answer::error(Problem::Unknown, &text)
    })
}

/// The values in force.
fn in_force(monitor: &Monitor) -> Config {
    Config::clone(&monitor.attributes)
}

fn changed(monitor: &Monitor, attribute: &Attribute, before: &Config) -> Answer {
    let after = in_force(monitor);
    let answer = Answer::ok()
        .with("name", attribute.name)
        .with("old", attribute.text(before))
        .with("new", attribute.text(&after))
        .with("takes_effect", attribute.takes_effect.to_string());
    let asked = attribute.text(monitor.config());
    let answer = match asked == attribute.text(&after) {
        true => answer,
        false => answer
            .with("asked", asked)
            .with("normalised", attribute.normalised),
    };
    match others(attribute, before, &after) {
        Some(others) => answer.with("also", others),
        None => answer,
    }
}

/// The other attributes whose values in force follow from the one that was set.
fn others(but: &Attribute, before: &Config, after: &Config) -> Option<Object> {
    let changed = |attribute: &&Attribute| {
        attribute.name != but.name && attribute.text(before) != attribute.text(after)
    };
    let others = Config::attributes().iter().filter(changed);
    others.fold(None, |object, other| {
        let object = object.unwrap_or_else(Object::new);
        Some(object.with(other.name, other.text(after)))
    })
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
