//! `drain` and `ready`: whether balancers are told to send clients here. Both are done at once; children
//! and listeners are left alone.

use crate::core::{
    control::{Answer, BegunCommand, ErrorCode},
    monitor::Monitor,
};

/// Without a status it is refused, so that an operator does not take clients for gone that go on coming.
pub(in super::super) fn drain(monitor: &mut Monitor, _: &str) -> BegunCommand {
    match monitor.tells_status {
        true => set(monitor, true),
        false => BegunCommand::error(
            ErrorCode::Failed,
            "no balancer can be told: this server has neither a status nor an agent-check",
        ),
    }
}

pub(in super::super) fn ready(monitor: &mut Monitor, _: &str) -> BegunCommand {
    set(monitor, false)
}

fn set(monitor: &mut Monitor, is_drained: bool) -> BegunCommand {
    if monitor.is_shutdown() {
        return BegunCommand::stopping();
    }
    monitor.is_drained = is_drained;
    BegunCommand::Done(Answer::ok(|json| json.field("drained", is_drained)))
}
