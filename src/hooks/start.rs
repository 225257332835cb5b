//! The argument of the hooks that run in a child, and what follows from them: the server accepts, if it
//! was asked to. Accepts nothing itself.

use super::{
    comm::Comm,
    server::{ChildServer, check_channel},
};
use crate::core::{comm::Interval, monitor::Monitor};
use std::{fmt, io};

/// The argument of the hooks that run in the forked child.
pub struct Start<'a> {
    monitor: &'a mut Monitor,
    comm: &'a mut Comm,
    server: &'a mut dyn ChildServer,
    resume_accept: bool,
}

impl<'a> Start<'a> {
    pub(crate) fn new(
        monitor: &'a mut Monitor,
        comm: &'a mut Comm,
        server: &'a mut dyn ChildServer,
    ) -> Self {
        comm.set_max_clients(monitor.max_busy());
        comm.set_reserved(monitor.forks_reserve());
        comm.set_drain_timeout(monitor.drain_time());
        comm.set_limit_jitter(monitor.limit_jitter());
        Self {
            monitor,
            comm,
            server,
            resume_accept: false,
        }
    }

    /// The child's copy of the parent's [`Monitor`], as it was at the fork.
    ///
    /// Requests to it are not performed.
    pub fn monitor(&mut self) -> &mut Monitor {
        self.monitor
    }

    /// The child's end of the wire.
    pub fn comm(&mut self) -> &mut Comm {
        self.comm
    }

    /// The server object.
    pub fn server(&mut self) -> &mut dyn ChildServer {
        self.server
    }

    /// Has the server's `resume_accept` called when the hook has returned.
    pub fn resume_accept(&mut self) {
        self.resume_accept = true;
    }

    /// Sets the interval of ACKs: the server's own, or, if the start has derived it from `timeout`,
    /// the one that follows from `timeout` now.
    fn set_send_ack(&mut self) {
        let interval = self.server.send_ack();
        if self.monitor.derived_ack != Some(Interval(interval)) {
            return self.comm.set_send_ack(interval);
        }
        let now = self.monitor.attributes.ack_interval();
        if now != interval && self.server.execs() {
            self.server.set_send_ack(now);
        }
        self.comm.set_send_ack_for_now(now);
    }

    /// Serves, if `resume_accept` was asked for.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        if !self.resume_accept {
            return Ok(());
        }
        self.set_send_ack();
        // The attribute may have been set since the start.
        check_channel(self.server, self.monitor.comm_channel())?;
        if !self.server.execs() {
            // The first word, with any timeout. It says no state, because `resume_accept` may still
            // fail.
            self.comm.ack()?;
        }
        self.server.resume_accept(self.comm)?;
        // A server that has said BUSY may leave in order without a NOT_BUSY.
        self.comm.end_connection();
        Ok(())
    }
}

impl fmt::Debug for Start<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("comm", &self.comm)
            .field("resume_accept", &self.resume_accept)
            .finish_non_exhaustive()
    }
}
