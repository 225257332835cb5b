//! Fires the static probes that tell of what the parent sees: forks, first words, deaths. Changes
//! nothing.

use crate::{
    core::{
        child::{Child, ChildId, Death},
        event::Event,
        monitor::Monitor,
    },
    sys::probes,
};
use std::time::Duration;

/// Built in, like the log.
pub(crate) fn event(monitor: &Monitor, event: &Event<'_>) {
    match *event {
        Event::Forked { child } => of(monitor, child, |child| {
            probes::forked(child.pid(), child.id().serial());
        }),
        Event::Ready { child } => of(monitor, child, |child| {
            let age = monitor.now().since(child.start_time());
            probes::ready(child.pid(), child.id().serial(), nanoseconds(age));
        }),
        Event::Exited { child, death } => {
            let (pid, serial) = (child.pid(), child.id().serial());
            probes::exited(pid, serial, status(death), death.connections());
        }
        _ => {}
    }
}

fn of(monitor: &Monitor, child: ChildId, fire: impl FnOnce(&Child)) {
    if let Some(child) = monitor.child(child) {
        fire(child);
    }
}

/// The exit code, or the signal as a negative number.
fn status(death: &Death) -> i32 {
    let killed = death.signal().map(|signal| -signal);
    death.code().or(killed).unwrap_or(0)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
