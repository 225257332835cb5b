//! The reserved child and the server object: whether that can use one, and when it is woken. Decides
//! nothing about forks.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{notice::Notice, states::PostedState},
    hooks::{ChildServer, PreForkHooks},
};

/// What was said about the reserved child.
#[derive(Debug, Default)]
pub(super) struct ReserveState {
    /// Whether a warning has said why there is none.
    warned: bool,
    /// Whether the server object was told that all children are busy.
    server_all_busy: bool,
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Finds out whether the server object can use a reserved child, while one is asked for.
    pub(super) fn look_for_shedder(&mut self) {
        let monitor = &mut self.parent.monitor;
        if !monitor.reserved_shedder() {
            return;
        }
        if !monitor.sheds && self.server.can_shed() {
            monitor.sheds = true;
            monitor.post_known(PostedState::Forkoff);
        }
        if let Some(why) = monitor.why_no_reserve()
            && !std::mem::replace(&mut self.reserve.warned, true)
        {
            monitor.notice(
                Notice::NoReserve,
                format_args!("reserved_shedder has no effect: {why}"),
            );
        }
    }

    /// Tells the server object, which wakes the reserved child.
    pub(super) fn update_all_busy(&mut self) {
        let monitor = &self.parent.monitor;
        let all_busy = monitor.pool.reserved().is_some() && monitor.are_all_busy();
        if std::mem::replace(&mut self.reserve.server_all_busy, all_busy) != all_busy {
            self.server.set_all_busy(all_busy);
        }
    }
}
