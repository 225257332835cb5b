//! What the words of a child change: whether it has started, is busy, is alive. Reads no pipe.

use super::*;

/// What a child's words change.
impl Monitor {
    /// Records that a child is alive now. False if it has been reaped.
    pub fn acknowledge(&mut self, id: ChildId) -> bool {
        let (now, gaps) = (self.now, self.gaps);
        self.pool.get_mut(id).is_some_and(|child| {
            child.last_ack = now;
            child.gaps_at_ack = gaps;
            child.flags |= ChildFlags::ACKED;
            true
        })
    }

    /// Counts a child as busy.
    ///
    /// True if it was free before. A retiring child stays retiring.
    pub fn set_busy(&mut self, id: ChildId) -> bool {
        let now = self.now;
        let Some(child) = self.pool.get_mut(id) else {
            return false;
        };
        let state = child.state;
        if state == State::Retiring {
            child.flags |= ChildFlags::BUSY_SINCE_TOLD;
        }
        child.note_busy(now);
        self.note_word(id, ChildFlags::WAS_BUSY);
        let moves = self.transfer(id, state, &[State::Starting, State::Free], State::Busy);
        self.watch_clock(id);
        moves
    }

    /// Counts a child as free.
    ///
    /// True if it was busy before. A retiring child stays retiring.
    pub fn set_not_busy(&mut self, id: ChildId) -> bool {
        let Some(child) = self.pool.get_mut(id) else {
            return false;
        };
        // A child that acts on the signal never says this again. A child that says it after the
        // signal has not acted on the signal, and has finished its connection.
        child
            .flags
            .remove(ChildFlags::BUSY_SINCE_TOLD | ChildFlags::BUSY_WHEN_TOLD);
        child.busy_since = None;
        let state = child.state;
        self.note_word(id, ChildFlags::WAITED);
        self.transfer(id, state, &[State::Busy], State::Free)
    }

    fn transfer(&mut self, id: ChildId, state: State, from: &[State], to: State) -> bool {
        let moves = from.contains(&state);
        if moves {
            self.pool.set_state(id, to);
            self.happened(match to {
                State::Busy => Event::Busy { child: id },
                _ => Event::Free { child: id },
            });
            self.observe_surplus();
        } else {
            log::debug!("{id} is {state:?}, its word for {to:?} moves it nowhere");
        }
        moves
    }

    /// Notes that a child has said a word, so it has started.
    pub(crate) fn note_word_heard(&mut self, id: ChildId) {
        let Some(child) = self.pool.get_mut(id) else {
            return;
        };
        child.flags |= ChildFlags::HEARD;
        if child.state == State::Starting {
            self.pool.set_state(id, State::Free);
            self.observe_surplus();
        }
    }

    /// Whether a child has a connection in hand, by its words; for a retiring child, by its words
    /// since it was told to stop. `None` if there is no such child.
    pub(crate) fn is_busy(&self, id: ChildId) -> Option<bool> {
        let child = self.pool.get(id)?;
        Some(match child.state {
            State::Retiring => child.flags.contains(ChildFlags::BUSY_SINCE_TOLD),
            state => state == State::Busy,
        })
    }

    /// Notes a BUSY, which proves that the start has succeeded, or a NOT_BUSY, which proves that
    /// the child can take connections.
    ///
    /// The words of a retiring child prove nothing: a child that cannot be watched may say them
    /// before it is killed, and the next would be forked at once.
    pub(super) fn note_word(&mut self, id: ChildId, shows: ChildFlags) {
        let Some(child) = self.pool.get_mut(id) else {
            return;
        };
        if child.state == State::Retiring {
            return;
        }
        let first = !child
            .flags
            .intersects(ChildFlags::WAS_BUSY | ChildFlags::WAITED);
        let finished =
            shows.contains(ChildFlags::WAITED) && child.flags.contains(ChildFlags::WAS_BUSY);
        child.flags |= shows;
        child.flags.set(
            ChildFlags::FINISHED_ONE,
            finished || child.has_finished_one(),
        );
        let forked_at = child.start_time;
        if first {
            self.happened(Event::Ready { child: id });
            self.note_ready(id);
            self.note_start_of(id);
        }
        if finished {
            self.backoff.proved(forked_at);
        } else if shows.contains(ChildFlags::WAS_BUSY) {
            self.backoff.start_held(forked_at);
        }
    }
}
