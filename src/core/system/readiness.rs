//! What the loop waits for, and what it finds ready. Only data.

use super::ChildPipe;
use crate::core::child::ChildId;
use std::time::Duration;

/// A child as a poller event names it: by its slot and the part of its serial that fits into the
/// poller's token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ChildToken {
    pub(crate) slot: usize,
    pub(crate) serial: u32,
}

impl ChildToken {
    /// On 32 bits, half of the serial fits into a token.
    const ROOM: usize = usize::MAX >> (usize::BITS / 2);

    pub(crate) fn of(id: ChildId) -> Self {
        Self {
            slot: id.slot(),
            serial: id.serial(),
        }
    }

    pub(crate) fn is(self, id: ChildId) -> bool {
        self.slot == id.slot() && self.serial as usize == id.serial() as usize & Self::ROOM
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EventSource {
    Pipe(ChildToken, ChildPipe),
    /// A descriptor of the subclass.
    Watch(u64),
    Signals,
    /// What is found on the stacks of children.
    Stacks,
    /// The trial of a new program.
    Trial,
    /// The control socket, or one of its clients, by its number.
    Control(Option<u64>),
}

/// A source that is ready, and whether its other end has hung up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) source: EventSource,
    pub(crate) hung_up: bool,
}

/// How a turn waits at its beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wait {
    /// Until anything is ready, or for this time.
    ForAnything(Option<Duration>),
    /// Until something urgent is ready, or for this time, in which words collect; then all sources
    /// are checked. Meanwhile the board says that the parent will look (WILL_LOOK).
    ForWords(Duration),
}
