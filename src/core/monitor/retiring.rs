//! Telling a child to stop: the signal, the state and the time until SIGKILL together. Queues the
//! signal; sends none.

use super::*;

/// Signals to children, and the end of their service.
impl Monitor {
    /// Sends `signal` to a child. The name of a reaped child is ignored.
    ///
    /// A child that this signal ends has the cause [`Asked`](crate::Cause::Asked), unless it had
    /// been told to stop before for another reason. So has one that ends in any way after SIGINT,
    /// SIGTERM, SIGABRT or SIGKILL; after SIGQUIT, if the server handles signals and its children are
    /// no programs.
    ///
    /// The child stays in the pool: see [`stop`](Self::stop) for one that is to leave it.
    pub fn kill(&mut self, id: ChildId, signal: Signal) {
        let asked = self.tells_to_stop(signal) || matches!(signal, Signal::Abort | Signal::Kill);
        let living = self.pool.get_mut(id).filter(|child| !child.is_reaped());
        if let Some(child) = living {
            child.sent_by_hooks.insert(signal);
            if asked {
                child.flags |= ChildFlags::ASKED;
            }
        }
        self.send(id, signal);
    }

    /// Tells a child to stop, for `reason`: sends a signal and counts it as retiring.
    ///
    /// The signal is SIGINT, after which the child finishes the connection in hand, and SIGKILL
    /// follows after the time that [`retire`](Self::retire) gives. With [`Reason::Faulty`] SIGKILL
    /// is sent at once.
    pub fn stop(&mut self, id: ChildId, reason: Reason) {
        let signal = match reason {
            Reason::Faulty => Signal::Kill,
            _ => Signal::Interrupt,
        };
        if reason.is_over_time() {
            self.ask_stack(id);
        }
        self.send(id, signal);
        self.retire(id, reason);
    }

    /// Whether a child of this server leaves at the signal. SIGQUIT means to a program what the program
    /// makes of it.
    pub(crate) fn tells_to_stop(&self, signal: Signal) -> bool {
        let handled = self.attributes.handle_signals && !self.programs;
        signal_policy::stops_a_child(signal, handled)
    }

    /// Queues a signal without marking the child as ended by a hook.
    pub(crate) fn send(&mut self, id: ChildId, signal: Signal) {
        let living = self.pool.get_mut(id).filter(|child| !child.is_reaped());
        let Some(child) = living else {
            return log::debug!("{id} is gone, no {signal:?} for it");
        };
        match signal {
            Signal::Interrupt => child.flags |= ChildFlags::INT_SENT,
            Signal::Kill => {
                child.flags |= ChildFlags::KILL_SENT;
                child.killed_at.get_or_insert(self.now);
            }
            _ => {}
        }
        self.queue.push(Task::Signal { child: id, signal });
    }

    /// Counts a child as retiring from now on.
    ///
    /// It is no longer spare, and its words do not change its state. If it has not ended after
    /// `kill_timeout`, it gets SIGKILL. No signal is sent now; with [`Reason::Closed`] SIGINT
    /// follows after 100 ms. With [`Reason::Shutdown`] the time is `shutdown_timeout`, or without a
    /// bound if only SIGQUIT has asked for the stop, and at most `drain_timeout` while the child is
    /// still starting; both from the beginning of the shutdown. With [`Reason::Culled`],
    /// [`Reason::Recycled`] and [`Reason::Reloaded`] only `timeout` and `busy_timeout` limit a child
    /// that has a connection in hand. With [`Reason::StartTimeout`] the start counts as failed, which
    /// delays forks.
    pub fn retire(&mut self, id: ChildId, reason: Reason) {
        if reason == Reason::StartTimeout {
            self.note_hung_start(id);
        }
        let mut told = self.retirement(reason);
        let living = self.pool.get_mut(id).filter(|child| !child.is_reaped());
        let Some(child) = living else {
            return;
        };
        if child.state == State::Busy {
            child.flags |= ChildFlags::BUSY_WHEN_TOLD;
        }
        let earlier = child.retirement.as_mut().is_some_and(|old| {
            old.bound_start(&told);
            // The later one may replace it, and gives no more time either.
            told.bound_start(old);
            old.overrides(&told)
        });
        if !earlier {
            child.retirement = Some(told);
            // A child that closed its outputs is told later, if it has not ended by then.
            if reason != Reason::Closed {
                self.happened(Event::ToldToStop { child: id, reason });
            }
        }
        if reason.is_over_time() {
            self.ask_stack(id);
        }
        self.pool.set_state(id, State::Retiring);
        self.observe_surplus();
    }

    /// The retirement of a child that is told to stop now.
    pub(super) fn retirement(&self, reason: Reason) -> Retirement {
        let kill_after = match reason {
            // The time of a stop runs from its begin, also for a child that is told later.
            Reason::Shutdown => {
                let timeout = self.attributes.shutdown_timeout;
                self.stop.time_left(timeout, self.now)
            }
            _ => Some(self.attributes.kill_timeout),
        };
        let kill_in_start_after = match reason {
            Reason::Shutdown if !self.programs => {
                let timeout = self.attributes.drain_timeout;
                let drain = self.stop.drain_left(timeout, self.now);
                Some(kill_after.map_or(drain, |kill_after| kill_after.min(drain)))
            }
            _ => kill_after,
        };
        Retirement {
            reason,
            at: self.now,
            kill_after,
            kill_in_start_after,
            // Forks that are owed replace children that have ended before.
            forks: self.report.forks + self.owed as u64,
        }
    }
}
