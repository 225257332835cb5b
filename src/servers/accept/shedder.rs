//! Performs the loop of the reserved child: while all others are busy it takes what is too old from
//! the queues. `core/accept/reserve` decides what comes next; serves only a connection that it has
//! taken too soon.

use super::AcceptLoop;
use crate::{
    core::accept::{
        Attempt, Wakeups,
        queue_log::QueueLook,
        refusal::Refusal,
        reserve::{ReserveAction, ReserveMachine, ReserveSaw},
    },
    hooks::comm::Comm,
    listeners::Listener,
    servers::{conn::Stream, reserve::Reserve},
    sys::link::Interest,
};
use std::{io, os::fd::AsFd};

impl<L: Listener<Stream: Stream>> AcceptLoop<'_, L> {
    /// Runs until told to stop or the parent is gone.
    pub(super) fn run_reserved(mut self, reserve: &Reserve) -> io::Result<()> {
        let limits = self.acceptor.admission.limits();
        let mut machine = ReserveMachine::new(limits, self.count());
        self.say(Comm::not_busy);
        let mut action = ReserveAction::CheckIn;
        loop {
            let seen = match action {
                ReserveAction::CheckIn => self.check_in_reserved(reserve)?,
                ReserveAction::Sleep => self.sleep(reserve)?,
                ReserveAction::Pause(pause) => {
                    self.acceptor.comm.pause(pause)?;
                    ReserveSaw::Woken
                }
                ReserveAction::Look { listener } => self
                    .look(listener, reserve)
                    .map_or(ReserveSaw::Unknown, ReserveSaw::Looked),
                ReserveAction::Count { listener } => reserve
                    .taken(listener)
                    .map_or(ReserveSaw::Unknown, ReserveSaw::Taken),
                ReserveAction::Accept { listener } => self.take(listener)?,
                ReserveAction::TurnAway { is_old } => self.turn_away(is_old),
                ReserveAction::Leave => return Ok(()),
            };
            action = machine.step(seen, self.acceptor.comm.now());
        }
    }

    fn check_in_reserved(&self, reserve: &Reserve) -> io::Result<ReserveSaw> {
        Ok(if self.acceptor.comm.shutdown_requested() {
            ReserveSaw::ToldToStop
        } else if reserve.are_all_busy()? {
            ReserveSaw::AllBusy
        } else {
            ReserveSaw::OneFree
        })
    }

    /// Sleeps until all others are busy, or there are orders.
    fn sleep(&self, reserve: &Reserve) -> io::Result<ReserveSaw> {
        let comm = self.acceptor.comm;
        comm.wait_request(reserve.as_fd(), Interest::Read, None)?;
        Ok(ReserveSaw::Woken)
    }

    /// Takes the next connection of a queue.
    fn take(&mut self, listener: usize) -> io::Result<ReserveSaw> {
        let found = self.try_accept(listener, Attempt::PollFirst)?;
        let in_hand = self.in_hand.as_ref().filter(|_| found);
        Ok(
            in_hand.map_or(ReserveSaw::NothingQueued, |in_hand| ReserveSaw::Found {
                queued: in_hand.connection.queued.unwrap_or_default(),
            }),
        )
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
    fn turn_away(&mut self, is_old: bool) -> ReserveSaw {
        if let Some(in_hand) = &self.in_hand {
            let too_old = is_old.then_some(Refusal::TooOld);
            match self.unless_gone(in_hand.refusal.or(too_old), true) {
                Some(refusal) => self.refuse(refusal),
                None => self.serve(Wakeups::LeftToOthers),
            };
        }
        ReserveSaw::Done
    }
}
