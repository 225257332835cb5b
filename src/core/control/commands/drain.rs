//! `drain` and `ready`: whether balancers are told to send clients here. Both are done at once; children
//! and listeners are left alone.

use crate::core::{
    control::{Answer, Begun, Problem},
    monitor::Monitor,
};

/// Without a status it is refused, so that an operator does not take clients for gone that go on coming.
pub(in super::super) fn drain(monitor: &mut Monitor, _: &str) -> Begun {
    match monitor.tells_status {
        true => set(monitor, true),
        false => Begun::error(
            Problem::Failed,
            "no balancer can be told: this server has neither a status nor an agent-check",
        ),
    }
}

pub(in super::super) fn ready(monitor: &mut Monitor, _: &str) -> Begun {
    set(monitor, false)
}

fn set(monitor: &mut Monitor, is_drained: bool) -> Begun {
    if monitor.is_shutdown() {
        return Begun::stopping();
    }
    monitor.is_drained = is_drained;
    Begun::Done(Answer::ok(|json| json.field("drained", is_drained)))
}
