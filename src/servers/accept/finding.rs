//! How a child finds its next connection: it tries each listener, waits, and bears a lack of resources.
//! Serves none.

use super::{AcceptLoop, AcceptedConn, Acceptor};
use crate::{
    core::accept::{Attempt, Observation, Wakeups, shortage::RetryPause},
    hooks::{comm::Comm, server::complain},
    listeners::Listener,
    servers::conn::Stream,
    sys::{
        accept::Newcomer,
        link::Wake,
        sockets::{self, Accepted, Blocking},
    },
};
use std::{io, os::fd::AsFd};

impl<L: Listener<Stream: Stream>> AcceptLoop<'_, L> {
    pub(super) fn drain(&mut self, attempt: Attempt) -> io::Result<Observation> {
        // Without a parent the listeners are closed, or will be.
        if self.acceptor.comm.is_orphaned() || self.acceptor.comm.is_leaving() {
            return Ok(Observation::NothingQueued);
        }
        self.keep_nonblocking()?;
        self.accept(attempt, Wakeups::Wanted)
    }

    pub(super) fn accept(&mut self, attempt: Attempt, wakeups: Wakeups) -> io::Result<Observation> {
        self.settle(wakeups);
        let count = self.count();
        for offset in 0..count {
            let index = (self.next + offset) % count;
            if self.try_accept(index, attempt)? {
                self.next = index + 1;
                return Ok(Observation::Found);
            }
        }
        Ok(Observation::NothingQueued)
    }

    pub(super) fn wait_in_accept(&mut self) -> io::Result<Observation> {
        self.say(Comm::not_busy);
        let found = self.try_accept(0, Attempt::Direct)?;
        let took = self.lap();
        Ok(Observation::WaitedInAccept { found, took })
    }

    pub(super) fn wait_in_epoll(&mut self) -> io::Result<Observation> {
        self.say(Comm::not_busy);
        let wake = self.wait()?;
        let after = self.lap();
        self.keep_nonblocking()?;
        Ok(match wake {
            Wake::Ready => Observation::Woken { after },
            Wake::Stop | Wake::Timer => Observation::NotWoken,
        })
    }

    fn wait(&self) -> io::Result<Wake> {
        match &self.acceptor.listeners.borrow()[..] {
            // The usual case needs no allocation for each connection.
            [listener] => self.acceptor.comm.wait(&[listener.as_fd()]),
            many => {
                let fds: Vec<_> = many.iter().map(|listener| listener.as_fd()).collect();
                self.acceptor.comm.wait(&fds)
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.acceptor.listeners.borrow().len()
    }

    /// Whether there is a connection in hand now.
    pub(super) fn try_accept(&mut self, index: usize, attempt: Attempt) -> io::Result<bool> {
        let blocking = match self.acceptor.first_wait {
            Some(_) => Blocking::Allowed,
            None => Blocking::Never,
        };
        let polls = attempt == Attempt::PollFirst;
        let accepted = match self.acceptor.listeners.borrow().get(index) {
            Some(listener) if polls && !sockets::is_queued(&**listener)? => return Ok(false),
            Some(listener) => sockets::accept(&**listener, blocking),
            None => Accepted::Nothing,
        };
        match accepted {
            Accepted::Connection(connection) => {
                self.shortage.end();
                self.in_hand = Some(self.judge(index, connection));
            }
            Accepted::Nothing => {}
            Accepted::Exhausted(error) => {
                let pause = self.shortage.exhausted();
                self.back_off(pause, &error)?;
            }
            Accepted::Forbidden(error) => {
                if let Some(pause) = self.shortage.forbidden() {
                    self.back_off(pause, &error)?;
                }
            }
            // The parent has closed it.
            Accepted::Broken(_) if self.acceptor.comm.shutdown_requested() => {}
            Accepted::Broken(error) => return Err(error),
        }
        Ok(self.in_hand.is_some())
    }

    pub(super) fn judge(&mut self, listener: usize, mut connection: Newcomer) -> AcceptedConn {
        let Acceptor {
            admission,
            kind,
            comm,
            ..
        } = &mut self.acceptor;
        admission.count_taken(listener);
        admission.measure(*kind, &mut connection);
        if let Some(queued) = connection.queued {
            comm.count_queued(listener, queued);
        }
        let refusal = admission.refusal(listener, &connection, comm);
        AcceptedConn {
            connection,
            refusal,
        }
    }

    fn back_off(&self, pause: RetryPause, error: &io::Error) -> io::Result<()> {
        if pause.is_first {
            complain!("cannot accept for now: {error}");
        }
        self.acceptor.comm.pause(pause.duration)
    }

    /// A library that gets a wrong descriptor may set the listeners to blocking mode, for all
    /// children, and a child that is stuck in accept sends no ACK. The mode is checked before
    /// attempts that probably find nothing; under load there are none. A listener with a timeout
    /// needs no check: accept(2) respects the timeout, so an attempt that blocks ends soon.
    pub(super) fn keep_nonblocking(&self) -> io::Result<()> {
        if self.acceptor.first_wait.is_some() || self.acceptor.config.blocks {
            return Ok(());
        }
        for listener in self.acceptor.listeners.borrow().iter() {
            if sockets::keep_nonblocking(&**listener)? {
                complain!("somebody has set a listening socket to blocking mode; set back");
            }
        }
        Ok(())
    }
}
