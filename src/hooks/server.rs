//! The trait of server objects. Contracts only; makes no system call.

mod forward;
#[cfg(test)]
mod tests;

use crate::{
    core::{accept::refusal::Refusals, child::Signal, config::CommChannel},
    hooks::comm::Comm,
    listeners::ListenerStatus,
};
use std::{io, time::Duration};

/// The object that holds the socket in the parent and accepts on it in each child.
///
/// [`TcpServer`](crate::TcpServer) and [`UnixServer`](crate::UnixServer) are two of them, and
/// [`StreamServer`](crate::servers::StreamServer) serves any other kind of listening socket.
/// Implement the trait for anything else that children can share.
///
/// # Wrapping another server
///
/// A server that wraps another one returns it from [`inner`](Self::inner). Every method that it
/// does not implement is then that of the inner server, including methods that later versions add.
pub trait ChildServer {
    /// The server that this one wraps, or `None`.
    ///
    /// It has no default, so that no wrapper forgets it.
    ///
    /// ```
    /// use prefork_server::{ChildServer, Comm, TcpServer};
    /// use std::io;
    ///
    /// struct Mine(TcpServer);
    ///
    /// impl ChildServer for Mine {
    ///     fn inner(&mut self) -> Option<&mut dyn ChildServer> {
    ///         Some(&mut self.0)
    ///     }
    ///
    ///     fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
    ///         eprintln!("about to accept");
    ///         self.0.resume_accept(comm)
    ///     }
    /// }
    /// ```
    fn inner(&mut self) -> Option<&mut dyn ChildServer>;

    /// Opens the socket.
    ///
    /// Runs in the parent, once, before the first fork; must not accept.
    ///
    /// Default: that of the inner server; an error without one.
    ///
    /// # Errors
    ///
    /// Whatever keeps the socket from being opened. Nothing is forked then, and
    /// [`Builder::start`](crate::Builder::start) fails with it. An [`Error`](crate::Error)
    /// converted into the `io::Error` is returned unchanged.
    fn start(&mut self) -> io::Result<()> {
        match self.inner() {
            Some(inner) => inner.start(),
            None => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the server implements no `start`, and `inner` returns none that does",
            )),
        }
    }

    /// Closes the socket and removes its file, if it has one.
    ///
    /// Runs in the parent, last, when every child has been reaped; also after a `start` that
    /// failed. Never runs in a child.
    ///
    /// Default: that of the inner server; without one there is nothing to remove.
    fn stop(&mut self) {
        if let Some(inner) = self.inner() {
            inner.stop();
        }
    }

    /// The interval of the ACKs that a child sends by itself; `None` means no ACKs.
    ///
    /// Default: that of the inner server; without one `None`.
    fn send_ack(&mut self) -> Option<Duration> {
        self.inner()?.send_ack()
    }

    /// Sets the interval of ACKs.
    ///
    /// The default of `handler_start` calls it with `timeout` / 2 unless an interval was set
    /// before.
    ///
    /// Default: that of the inner server.
    ///
    /// # Panics
    ///
    /// The default panics without an inner server: the children would send no ACK and be stopped
    /// for their silence. So [`Builder::start`](crate::Builder::start) panics if there is a
    /// `timeout`.
    fn set_send_ack(&mut self, interval: Option<Duration>) {
        match self.inner() {
            Some(inner) => inner.set_send_ack(interval),
            None => panic!("the server implements no `set_send_ack`, and `inner` returns none"),
        }
    }

    /// Serves until told to stop.
    ///
    /// Runs in the child, and the child ends when it returns.
    ///
    /// # Errors
    ///
    /// What makes serving impossible. The child prints it to stderr and exits with code 103.
    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()>;

    /// Called in the parent right before a child is told to stop.
    ///
    /// Use it to repair the socket if a child has changed it such that other children would not
    /// notice the order to stop.
    ///
    /// Default: that of the inner server; without one nothing.
    fn before_stop(&mut self) {
        if let Some(inner) = self.inner() {
            inner.before_stop();
        }
    }

    /// Lets no further client in and keeps those that are queued.
    ///
    /// Called in the parent when a shutdown begins, right before the children are told to stop.
    ///
    /// Default: that of the inner server; without one nothing: the children serve new clients until
    /// [`close_listeners`](Self::close_listeners).
    fn begin_drain(&mut self) {
        if let Some(inner) = self.inner() {
            inner.begin_drain();
        }
    }

    /// Whether a connection waits to be accepted. Called in the parent in a shutdown.
    ///
    /// Default: that of the inner server; without one none does.
    fn is_queued(&mut self) -> bool {
        self.inner().is_some_and(|inner| inner.is_queued())
    }

    /// Closes the socket for all processes and removes its file, if it has one.
    ///
    /// Called in the parent once in a shutdown, when no client is queued and no idle child is left,
    /// or after `drain_timeout`. Children may be busy; after it, no child or program with a copy of
    /// the descriptor keeps the socket open.
    ///
    /// Default: that of the inner server; without one nothing.
    fn close_listeners(&mut self) {
        if let Some(inner) = self.inner() {
            inner.close_listeners();
        }
    }

    /// The error if the socket is unusable for good: a child can shut it down for all.
    ///
    /// Called in the parent after `resume_accept` of a child has failed. An error is passed to
    /// `handler_child`. An [`Error`](crate::Error) says by its object which socket it is, as those of
    /// the stock servers do.
    ///
    /// Default: that of the inner server; without one it is not.
    fn lost(&mut self) -> Option<io::Error> {
        self.inner()?.lost()
    }

    /// Reads again what the server object has read from elsewhere.
    ///
    /// Runs in the parent, in a reload.
    ///
    /// The default of [`handler_reload`](crate::PreForkHooks::handler_reload) calls it. The sockets
    /// stay open.
    ///
    /// Default: that of the inner server; without one there is nothing to read.
    ///
    /// # Errors
    ///
    /// Whatever makes the new settings unusable. The old ones stay in force then, and no child is
    /// replaced.
    fn reload(&mut self) -> io::Result<()> {
        self.inner().map_or(Ok(()), |inner| inner.reload())
    }

    /// Whether `resume_accept` executes another program in the child.
    ///
    /// Such a program sends all its words itself: the framework does not send the first ACK, and
    /// refuses [`CommChannel::Private`], which the program could not use. With `Builder::holder`
    /// (feature `holder`) the child is the holder's from its fork on, so that the program outlives a
    /// parent that is killed; what is registered with `pthread_atfork` does not run in it.
    ///
    /// Default: that of the inner server; without one it does not.
    fn execs(&mut self) -> bool {
        self.inner().is_some_and(|inner| inner.execs())
    }

    /// Whether each child leads a process group of its own.
    ///
    /// Called in the parent at each fork.
    ///
    /// A signal to the child then also reaches the processes that it has started in its group. If
    /// they run on after the child, they are told to stop, killed after
    /// [`kill_timeout`](crate::Monitor::kill_timeout), and count as the child until they have
    /// ended. A signal from the terminal, as by Ctrl-C, reaches only the parent, which tells the
    /// children.
    ///
    /// Default: that of the inner server; without one it does not.
    fn own_group(&mut self) -> bool {
        self.inner().is_some_and(|inner| inner.own_group())
    }

    /// Whether only SIGKILL goes to the whole group of a child that leads one.
    ///
    /// Other signals then go to the child alone, for a child that lets the processes of its group
    /// finish when it is told to stop. Called in the parent at each fork.
    ///
    /// Default: that of the inner server; without one no: all signals go to the group.
    fn only_kills_group(&mut self) -> bool {
        self.inner().is_some_and(|inner| inner.only_kills_group())
    }

    /// The signal that tells a child to stop, in place of SIGINT.
    ///
    /// It is for programs that are exec'd: the framework's own children know SIGINT and SIGTERM.
    /// Called in the parent at each fork.
    ///
    /// Default: that of the inner server; without one SIGINT.
    fn stop_signal(&mut self) -> Signal {
        self.inner()
            .map_or(Signal::Interrupt, |inner| inner.stop_signal())
    }

    /// The signal that tells a child to reopen its logs; `None` sends none.
    ///
    /// The framework's own children know SIGUSR1. A program that is exec'd and does not handle the
    /// signal would be ended by it. Called in the parent whenever logs are reopened.
    ///
    /// Default: that of the inner server; without one SIGUSR1.
    fn reopen_signal(&mut self) -> Option<Signal> {
        match self.inner() {
            Some(inner) => inner.reopen_signal(),
            None => (!self.execs()).then_some(Signal::User1),
        }
    }

    /// Reopens the logs that the server object has open in the parent.
    ///
    /// Children reopen theirs by themselves.
    ///
    /// The default of [`reopen_logs`](crate::PreForkHooks::reopen_logs) leads here, before children
    /// are told. An error is a line in the log.
    ///
    /// Default: that of the inner server; without one there is nothing to open.
    ///
    /// # Errors
    ///
    /// When a log cannot be opened. The old one stays in use then.
    fn reopen(&mut self) -> io::Result<()> {
        self.inner().map_or(Ok(()), |inner| inner.reopen())
    }

    /// How many connections the children have not served, by the reason.
    ///
    /// Called in the parent while the server is started, once a second at most, and at its end. The
    /// numbers are those since the server object was made.
    ///
    /// Default: those of the inner server; without one none.
    fn refusals(&mut self) -> Refusals {
        self.inner()
            .map_or_else(Refusals::default, |inner| inner.refusals())
    }

    /// Whether a child that [is reserved](Comm::is_reserved) is of use.
    ///
    /// Called in the parent while it has none and `reserved_shedder` is set. If it is true,
    /// `resume_accept` of one child must not serve, and turn clients away while all other children
    /// are busy.
    ///
    /// Default: that of the inner server; without one it is not.
    fn can_shed(&mut self) -> bool {
        self.inner().is_some_and(|inner| inner.can_shed())
    }

    /// Notes whether all children are busy except the reserved one.
    ///
    /// The reserved child is to wake then.
    ///
    /// Called in the parent whenever that changes, if [`can_shed`](Self::can_shed).
    ///
    /// Default: that of the inner server; without one nothing.
    fn set_all_busy(&mut self, all_busy: bool) {
        if let Some(inner) = self.inner() {
            inner.set_all_busy(all_busy);
        }
    }

    /// The listening sockets, with the number of connections that wait at each.
    ///
    /// Called in the parent while the server is started, at any time.
    ///
    /// Default: those of the inner server; without one none.
    fn listeners(&mut self) -> Vec<ListenerStatus> {
        self.inner()
            .map_or_else(Vec::new, |inner| inner.listeners())
    }
}

/// Fails for an exec'd program with a private channel, since the program has only its stdout.
pub(crate) fn check_channel(server: &mut dyn ChildServer, channel: CommChannel) -> io::Result<()> {
    if server.execs() && channel == CommChannel::Private {
        let reason = "comm_channel Private is out of the reach of a program that is exec'd";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(())
}

/// Writes a line to stderr, as `eprintln!`, but without a panic if stderr is closed.
macro_rules! complain {
    ($($message:tt)*) => {{
        use std::io::Write as _;
        // OK to ignore: there is no other place to report it.
        let _ = writeln!(std::io::stderr(), $($message)*);
    }};
}
pub(crate) use complain;
