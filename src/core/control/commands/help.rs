//! `help`: the table of commands. Changes nothing.

use crate::core::{
    control::{Answer, BegunCommand, COMMANDS},
    monitor::Monitor,
};

pub(in super::super) fn begin(_: &mut Monitor, _: &str) -> BegunCommand {
    BegunCommand::Done(Answer::ok(|json| {
        json.objects("commands", COMMANDS, |json, command| {
            json.field("usage", command.usage);
            json.field("help", command.help);
        });
    }))
}
