//! What only the journal has of one child: how it is told to stop, and the pid that it has noted
//! itself. Encodes and decodes, and decides nothing.

use crate::core::{child::Signal, system::ToGroup};

/// How a child is told to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StopBy {
    pub(crate) signal: Signal,
    /// Which signals go to the process group that it leads, if it leads one.
    pub(crate) group: Option<ToGroup>,
}

impl Default for StopBy {
    fn default() -> Self {
        Self {
            signal: Signal::Interrupt,
            group: None,
        }
    }
}

impl StopBy {
    /// Whether SIGKILL, or any other signal, goes to the group of the child.
    pub(crate) fn reaches_group(self, kills: bool) -> bool {
        match self.group {
            None => false,
            Some(ToGroup::All) => true,
            Some(ToGroup::Kill) => kills,
        }
    }
}

/// What a new child has noted of itself: its serial and its pid.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct NotedPid(pub(crate) u64);

impl NotedPid {
    pub(crate) fn new(serial: u32, pid: u32) -> Self {
        Self(u64::from(serial) << 32 | u64::from(pid))
    }

    /// The note that stays when this one is made over an earlier one. A child that comes to run late finds
    /// that of its successor in the slot: its own parent was killed, and it is not known to the next.
    pub(crate) fn noted_over(self, before: Self) -> Self {
        // OK to cut: the serial is in the upper half.
        let [own, earlier] = [self, before].map(|note| (note.0 >> 32) as u32);
        let is_later = own.wrapping_sub(earlier) < u32::MAX / 2;
        match is_later || before == Self::default() {
            true => self,
            false => before,
        }
    }

    pub(super) fn of(self, serial: u32) -> Option<u32> {
        // OK to cut: each is in its half of the word. Process 0 and 1 are no child.
        let pid = self.0 as u32;
        ((self.0 >> 32) as u32 == serial && pid > 1).then_some(pid)
    }
}
