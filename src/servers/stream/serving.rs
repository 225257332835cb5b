//! The stock server as the loop uses it: started, serving in a child, drained, stopped. Has no
//! attributes of its own.

use super::{StreamServer, Timing};
use crate::{
    core::{
        accept::{AcceptConfig, order::AcceptOrder, refusal::Refusals},
        replacement,
        say::say,
    },
    hooks::{comm::Comm, server::ChildServer},
    listeners::{Listener, ListenerStatus},
    servers::{
        accept::{Acceptor, HeaderCheck, SharedListeners},
        conn::Stream,
    },
    sys::{fd_registry::Registered, handed_over},
};
use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

impl<L: Listener<Stream: Stream>> ChildServer for StreamServer<L> {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    fn start(&mut self) -> io::Result<()> {
        #[cfg(feature = "proxy-protocol")]
        self.proxies.share_counts()?;
        self.admission.start()?;
        self.ends.start()?;
        self.sockets.open(&mut self.listener, self.backlog)?;
        self.timing = Timing::of(&self.sockets, self.listener.passes_timeouts_on());
        Ok(())
    }

    fn stop(&mut self) {
        self.ends.stop();
        self.sockets.close(&mut self.listener);
    }

    fn send_ack(&mut self) -> Option<Duration> {
        self.send_ack
    }

    fn set_send_ack(&mut self, interval: Option<Duration>) {
        self.send_ack = interval;
    }

    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        if self.sockets.are_inherited() {
            handed_over::forget_variables();
        }
        let listeners = close_when_orphaned(self.sockets.take(), comm);
        let sockets = listeners.borrow().len();
        let reserve = self.admission.reserve().filter(|_| comm.is_reserved());
        let reserve = reserve.cloned();
        let handler = match reserve {
            Some(_) => self.factory.make_if_needed(),
            None => self.factory.make()?,
        };
        let config = self.config(comm);
        // With a low limit a child leaves at once, and has no time for a successor.
        let replaced_after = comm.replaced_after(self.max_requests);
        let replaced_after = replaced_after.filter(|after| *after < config.max_requests);
        let acceptor = Acceptor {
            config,
            admission: self.admission.for_child(sockets),
            ends: self.ends.for_child(comm),
            kind: &self.listener,
            listeners,
            header_check: self.header_check(),
            handler,
            comm,
            first_wait: self.timing.first_wait,
            requests_handled: &mut self.requests_handled,
            replaced_after,
            reserve,
        };
        acceptor.run()
    }

    fn before_stop(&mut self) {
        self.timing.restore(&self.sockets);
    }

    fn begin_drain(&mut self) {
        self.sockets.refuse(&mut self.listener);
    }

    fn is_queued(&mut self) -> bool {
        self.sockets.is_queued()
    }

    fn close_listeners(&mut self) {
        self.sockets.close_for_all(&mut self.listener);
    }

    fn reload(&mut self) -> io::Result<()> {
        self.read_again()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.ends.reopen()
    }

    fn refusals(&mut self) -> Refusals {
        self.admission.refusals()
    }

    fn can_shed(&mut self) -> bool {
        let mut sockets = self.sockets.iter();
        let knows_age = |socket: &OwnedFd| self.listener.knows_time_in_queue(socket.as_fd());
        self.admission.reserve().is_some() && sockets.any(knows_age)
    }

    fn set_all_busy(&mut self, all_busy: bool) {
        if let Some(reserve) = self.admission.reserve()
            && let Err(error) = reserve.set_all_busy(all_busy)
        {
            say!(
                Warn,
                "the reserved child cannot be told that all others are busy: {error}"
            );
        }
    }

    fn lost(&mut self) -> Option<io::Error> {
        self.sockets.lost(&self.listener).map(io::Error::from)
    }

    fn listeners(&mut self) -> Vec<ListenerStatus> {
        let taken = self.admission.taken(self.sockets.iter().count());
        let mut queues = self.sockets.status(&self.listener);
        self.queues.look(taken, &mut queues);
        queues
    }
}

impl<L: Listener<Stream: Stream>> StreamServer<L> {
    fn config(&self, comm: &Comm) -> AcceptConfig {
        let choose = || AcceptOrder::choose(comm.max_clients(), self.max_requests);
        let order = self.order.unwrap_or_else(choose);
        AcceptConfig {
            max_requests: leaves_after(self.max_requests),
            blocks: self.timing.blocks,
            takes_turns: self.timing.blocks && order == AcceptOrder::InTurn,
            coalesces: comm.coalesces(),
        }
    }

    /// What looks at the connections of this child before the handler does.
    #[cfg(feature = "proxy-protocol")]
    fn header_check(&self) -> Option<HeaderCheck<L::Stream>> {
        self.proxies.header_check()
    }

    #[cfg(not(feature = "proxy-protocol"))]
    fn header_check(&self) -> Option<HeaderCheck<L::Stream>> {
        None
    }
}

/// After how many connections a child leaves even if its successor is not ready.
fn leaves_after(limit: u64) -> u64 {
    /// The least limit of which a tenth gives a successor some time.
    const LARGE: u64 = 20;
    if limit < LARGE {
        limit
    } else {
        replacement::hard(limit)
    }
}

/// The listening sockets, which close as soon as the child finds that the parent is gone.
fn close_when_orphaned(sockets: Vec<Registered<OwnedFd>>, comm: &Comm) -> SharedListeners {
    let listeners = Rc::new(RefCell::new(sockets));
    let for_close = Rc::clone(&listeners);
    comm.when_orphaned(move || {
        // While the loop waits it borrows them; then it leaves as soon as the wait has ended.
        if let Ok(mut listeners) = for_close.try_borrow_mut() {
            listeners.clear();
        }
    });
    listeners
}
