//! The loop of the reserved child: while all others are busy it takes what is too old from the
//! queues. `core/accept/sweep` decides when; serves nobody but a connection that it has taken too
//! soon.

use super::Run;
use crate::{
    core::accept::{queue_log::Look, refusal::Refusal, sweep::Sweep},
    hooks::comm::Comm,
    listeners::Listener,
    servers::{conn::Stream, reserve::Reserve},
    sys::link::Interest,
};
use std::{io, os::fd::AsFd, time::Duration};

/// How many connections it takes at most between two looks at its orders.
const AT_ONCE: usize = 256;

impl<L: Listener<Stream: Stream>> Run<'_, L> {
    /// Runs until told to stop or the parent is gone.
    pub(super) fn run_reserved(mut self, reserve: &Reserve) -> io::Result<()> {
        let (mut sweeps, pause) = self.sweeps();
        self.say(Comm::not_busy);
        while !self.acceptor.comm.shutdown_requested() {
            if reserve.are_all_busy()? {
                for (listener, sweep) in sweeps.iter_mut().enumerate() {
                    self.sweep(listener, sweep, reserve)?;
                }
                self.acceptor.comm.pause(pause)?;
            } else {
                sweeps = self.sweeps().0;
                let fd = reserve.as_fd();
                self.acceptor.comm.wait_request(fd, Interest::Read, None)?;
            }
        }
        Ok(())
    }

    /// New views of the queues, which know nothing yet, and the pause between two looks at them.
    fn sweeps(&self) -> (Vec<Sweep>, Duration) {
        match self.acceptor.admission.limits() {
            Some(limits) => {
                let sweeps = (0..self.count()).map(|_| Sweep::new(limits));
                (sweeps.collect(), limits.look_every())
            }
            None => (Vec::new(), Duration::MAX),
        }
    }

    /// Looks at a queue, and takes from it what is too old.
    fn sweep(&mut self, listener: usize, sweep: &mut Sweep, reserve: &Reserve) -> io::Result<()> {
        if let Some(look) = self.look(listener, reserve) {
            sweep.note(look);
        }
        for _ in 0..AT_ONCE {
            let now = self.acceptor.comm.now();
            // Another child may have been faster: then the queue is shorter than it was.
            if !sweep.takes_next(reserve.taken(), now) || !self.try_accept(listener, true)? {
                break;
            }
            self.turn_away(sweep);
        }
        Ok(())
    }

    fn look(&self, listener: usize, reserve: &Reserve) -> Option<Look> {
        // In this order: who is taken in between is taken for one that has not come yet.
        let taken = reserve.taken();
        let listeners = self.acceptor.listeners.borrow();
        let queued = self
            .acceptor
            .kind
            .queue_length(listeners.get(listener)?.as_fd())?;
        let at = self.acceptor.comm.now();
        Some(Look { at, taken, queued })
    }

    /// Refuses the connection in hand, or serves it if it is not old at all.
    fn turn_away(&mut self, sweep: &Sweep) {
        let now = self.acceptor.comm.now();
        let Some(in_hand) = &self.in_hand else {
            return;
        };
        let age = in_hand.connection.queued.unwrap_or_default();
        let too_old = (!sweep.is_young(age, now)).then_some(Refusal::TooOld);
        match in_hand.refusal.or(too_old) {
            Some(refusal) => self.refuse(refusal),
            None => self.serve(true),
        };
    }
}
