//! Measures what the forks that are held back depend on: how long starts run, and whether processes
//! wait for a processor. Holds back none itself.

use super::{child::ChildSide, parent::ParentState, turn::Loop};
use crate::hooks::{ChildServer, PreForkHooks};

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Measures what the forks that are held back depend on.
    pub(super) fn measure_starts(&mut self) {
        let ParentState {
            monitor, system, ..
        } = &mut self.parent;
        for child in monitor.take_started() {
            let contact = monitor.pool.contact(child);
            if let Some(time) = contact.and_then(|contact| contact.process.run_time()) {
                monitor.note_run_time(child, time);
            }
        }
        if monitor.wants_pressure()
            && let Some(pressure) = system.pressure()
        {
            let now = monitor.now();
            monitor.brake.note_pressure(pressure, now);
        }
    }
}
