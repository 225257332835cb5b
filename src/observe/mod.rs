//! Observers, which see events and change nothing: the trait, the built-in log, and the
//! program's metrics. They send no signal, fork nothing, and only read the monitor.

pub(crate) mod log;
pub mod metrics;
#[cfg(feature = "usdt")]
pub(crate) mod probes;
#[cfg(feature = "status")]
pub(crate) mod status;
#[cfg(not(feature = "status"))]
#[path = "no_status.rs"]
pub(crate) mod status;
#[cfg(feature = "systemd")]
pub(crate) mod systemd;

use crate::core::{event::Event, monitor::Monitor, time::Time};
use std::fmt;

/// Gets each [`Event`] of a server and can read its [`Monitor`].
///
/// A server has any number of observers: see [`Builder::observe`](crate::Builder::observe). Hooks
/// decide; observers write logs, count, notify a supervisor.
///
/// It runs in the parent, in the thread of the loop, between two steps of the loop and never within
/// a hook: while it blocks, the parent does nothing else. A call that takes 250 ms or more is
/// warned of and counted in [`Report::slow_hooks`](crate::Report::slow_hooks), and a panic is
/// caught, logged with the number of the observer and counted in
/// [`Report::hook_panics`](crate::Report::hook_panics): the other observers still get the event,
/// and the loop goes on.
///
/// In a child observers get no events. Their memory is copied into the child, as all memory is, and
/// never dropped there.
///
/// ```
/// use prefork_server::{Event, Monitor, Observer};
///
/// struct Deaths;
///
/// impl Observer for Deaths {
///     fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
///         if let Event::Exited { child, death, .. } = event {
///             println!("{} {death}, {} are left", child.pid(), monitor.children().count());
///         }
///     }
/// }
/// ```
pub trait Observer {
    /// Called for each event, in order.
    ///
    /// Observers are called in the order in which they were added.
    ///
    /// The monitor has its current state, which may be later than the event.
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>);

    /// When the observer wants to be told of an [`Event::Turn`] at the latest.
    ///
    /// The clock is that of [`Monitor::now`]. Asked after each turn, and the loop then waits no
    /// longer. A moment that stays in the past makes the loop turn without a pause.
    ///
    /// Default: never; turns come when something happens.
    fn wake_at(&self) -> Option<Time> {
        None
    }
}

impl<O: Observer + ?Sized> Observer for Box<O> {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        (**self).event(monitor, event);
    }

    fn wake_at(&self) -> Option<Time> {
        (**self).wake_at()
    }
}

/// The observers of one server.
#[derive(Default)]
pub(crate) struct Observers(Vec<Box<dyn Observer>>);

impl Observers {
    pub(crate) fn add(&mut self, observer: Box<dyn Observer>) {
        self.0.push(observer);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with its number, from 1.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Box<dyn Observer>)> {
        (1..).zip(&mut self.0)
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.0.len())
    }
}
