//! The time limits of children: reads what they have noted when a limit may have been reached, and
//! calls the hook for those that take too long. `core/monitor/time_limits.rs` decides.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::states::PostedState,
    hooks::{ChildServer, PreForkHooks},
};

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Judges the children whose time may be up. What they have said by now was read.
    pub(super) fn check_clocks(&mut self) {
        if !self.parent.monitor.clocks_are_due() {
            return;
        }
        self.note_boards();
        let over = self.parent.monitor.take_overtime();
        for &child in &over {
            self.call("server_overtime", |hooks, monitor| {
                hooks.server_overtime(monitor, child);
            });
        }
        self.parent.monitor.watch_clocks();
        if !over.is_empty() && !self.parent.monitor.is_shutdown() {
            self.parent.monitor.post_known(PostedState::Forkoff);
        }
    }

    /// Reads what the children have noted, of those that said nothing as well.
    pub(super) fn note_boards(&mut self) {
        for child in self.parent.ids() {
            self.note_board(child);
        }
    }
}
