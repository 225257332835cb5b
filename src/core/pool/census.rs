//! How many children there are in each state. Counts; decides nothing.

use crate::core::child::State;

/// How many children are in which state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Census {
    pub(crate) starting: usize,
    pub(crate) free: usize,
    pub(crate) busy: usize,
    pub(crate) reserved: usize,
    pub(crate) retiring: usize,
}

impl Census {
    /// All child processes, as `max_clients` counts them.
    pub(crate) fn live(&self) -> usize {
        self.starting + self.free + self.busy + self.reserved + self.retiring
    }

    /// The spare children, as `min_spare_servers` counts them: a child that is still starting is
    /// one.
    pub(crate) fn idle(&self) -> usize {
        self.starting + self.free
    }

    /// The children that serve, or could.
    pub(super) fn serving(&self) -> usize {
        self.idle() + self.busy
    }

    pub(super) fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Starting => &mut self.starting,
            State::Free => &mut self.free,
            State::Busy => &mut self.busy,
            State::Reserved => &mut self.reserved,
            State::Retiring => &mut self.retiring,
        }
    }
}
