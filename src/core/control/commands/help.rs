//! `help`: the table of commands. Changes nothing.

use crate::core::{
    control::{Answer, Begun, COMMANDS, Command},
    json::Object,
    monitor::Monitor,
};

pub(in super::super) fn begin(_: &mut Monitor, _: &str) -> Begun {
    Begun::Done(Answer::ok().with("commands", COMMANDS.iter().map(row).collect::<Vec<_>>()))
}

fn row(command: &Command) -> Object {
    let object = Object::new().with("usage", command.usage);
    object.with("help", command.help)
}
