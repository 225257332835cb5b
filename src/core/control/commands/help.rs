//! `help`: the table of commands. Changes nothing.

use crate::core::{
    control::{Answer, Begun, COMMANDS},
    monitor::Monitor,
};

pub(in super::super) fn begin(_: &mut Monitor, _: &str) -> Begun {
    Begun::Done(Answer::ok(|json| {
        json.objects("commands", COMMANDS, |json, command| {
            json.field("usage", command.usage);
            json.field("help", command.help);
        });
    }))
}
