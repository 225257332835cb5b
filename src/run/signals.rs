//! Signals to the parent, as a turn acts on them: it obeys a stop at once and leaves the rest to the
//! monitor. Handles no signal.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{
        stop::Wish,
        system::{Ready, Source},
    },
    hooks::{ChildServer, PreForkHooks},
};

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    pub(super) fn act_on_signals(&mut self, ready: &[Ready]) {
        let woken = ready.iter().any(|event| event.source == Source::Signals);
        let arrived = self.parent.system.signals(woken);
        let (wish, deaths) = self.parent.monitor.act_on_signals(&arrived);
        self.deaths_unknown |= deaths;
        self.obey(wish);
    }

    /// Does what a stop that was asked for makes necessary.
    pub(super) fn obey(&mut self, wish: Wish) {
        if wish >= Wish::Shutdown {
            // At once, not in queue order: a Ctrl-C has already told the children to stop.
            self.call_shutdown();
        }
        match wish {
            Wish::Kill => self.parent.monitor.kill_all(),
            Wish::Bound => self.parent.monitor.bound_stop(),
            Wish::Nothing | Wish::Announce | Wish::Shutdown => {}
        }
    }
}
