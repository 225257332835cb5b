//! The loop of the reserved child: while all others are busy it takes what is too old from the
//! queues. `core/accept/sweep` decides when; serves only a connection that it has taken too soon.

use super::AcceptLoop;
use crate::{
    core::accept::{Attempt, Wakeups, queue_log::QueueLook, refusal::Refusal, sweep::Sweep},
    hooks::comm::Comm,
    listeners::Listener,
    servers::{conn::Stream, reserve::Reserve},
    sys::link::Interest,
};
use std::{io, os::fd::AsFd, time::Duration};

/// How many connections it takes at most between two looks at its orders.
const AT_ONCE: usize = 256;
/// For how long it keeps what it knows of the queues while another child is free. Near the capacity
/// of a server one is free again and again, and a new view takes a tenth of a second.
const REMEMBERS: Duration = Duration::from_secs(1);

impl<L: Listener<Stream: Stream>> AcceptLoop<'_, L> {
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
            } else if self.sleep(reserve)? > REMEMBERS {
                sweeps = self.sweeps().0;
            }
        }
        Ok(())
    }

    /// Sleeps until all others are busy, or there are orders, and returns for how long.
    fn sleep(&self, reserve: &Reserve) -> io::Result<Duration> {
        let comm = self.acceptor.comm;
        let since = comm.now();
        comm.wait_request(reserve.as_fd(), Interest::Read, None)?;
        Ok(comm.now().since(since))
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
        let Some(look) = self.look(listener, reserve) else {
            return Ok(());
        };
        sweep.note(look);
        for _ in 0..AT_ONCE {
            let now = self.acceptor.comm.now();
            // Another child may have been faster: then the queue is shorter than it was.
            let taken = reserve.taken(listener);
            let takes = taken.is_some_and(|taken| sweep.takes_next(taken, now));
            if !takes || !self.try_accept(listener, Attempt::PollFirst)? {
                break;
            }
            self.turn_away(sweep);
        }
        Ok(())
    }

    /// A look at a queue; `None` if its connections have no known age, or are not counted.
    fn look(&self, listener: usize, reserve: &Reserve) -> Option<QueueLook> {
        // In this order: a client that is taken in between counts as one that has not come yet.
        let taken = reserve.taken(listener)?;
        let listeners = self.acceptor.listeners.borrow();
        let (kind, socket) = (self.acceptor.kind, listeners.get(listener)?.as_fd());
        let known = kind.knows_time_in_queue(socket);
        let queued = known.then(|| kind.queue_length(socket))??;
        let at = self.acceptor.comm.now();
        Some(QueueLook { at, taken, queued })
    }

    /// Refuses the connection in hand, or serves it if it is not old at all.
    fn turn_away(&mut self, sweep: &Sweep) {
        let now = self.acceptor.comm.now();
        let Some(in_hand) = &self.in_hand else {
            return;
        };
        let age = in_hand.connection.queued.unwrap_or_default();
        let too_old = (!sweep.is_young(age, now)).then_some(Refusal::TooOld);
        match self.unless_gone(in_hand.refusal.or(too_old), true) {
            Some(refusal) => self.refuse(refusal),
            None => self.serve(Wakeups::LeftToOthers),
        };
    }
}
