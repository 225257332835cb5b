//! The trait of server objects, and the argument of the hooks that run in a child. Contracts only;
//! makes no system call.

use crate::{
    core::{
        accept::refusal::Refusals, child::Signal, comm::Interval, config::CommChannel,
        monitor::Monitor,
    },
    hooks::comm::Comm,
    listeners::ListenerStatus,
};
use std::{fmt, io, time::Duration};

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
    /// The server that this one wraps, or `None`. It has no default, so that no wrapper forgets it.
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

    /// Opens the socket. Runs in the parent, once, before the first fork; must not accept.
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

    /// Serves until told to stop. Runs in the child, and the child ends when it returns.
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
    /// `handler_child`.
    ///
    /// Default: that of the inner server; without one it is not.
    fn lost(&mut self) -> Option<io::Error> {
        self.inner()?.lost()
    }

    /// Reads anew what the server object has read from elsewhere. Runs in the parent, in a reload.
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
    /// refuses [`CommChannel::Private`], which the program could not use.
    ///
    /// Default: that of the inner server; without one it does not.
    fn execs(&mut self) -> bool {
        self.inner().is_some_and(|inner| inner.execs())
    }

    /// Whether each child leads a process group of its own. Called in the parent at each fork.
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

    /// Opens anew the logs that the server object has open in the parent. Children reopen theirs by
    /// themselves.
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
    /// Called in the parent while the server is started, once a second at the most, and at its end.
    /// The numbers are those since the server object was made.
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

    /// Notes whether all children are busy except the reserved one, which is to wake then.
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

macro_rules! forward_child_server {
    ($($type:ty),*) => {$(
        impl<S: ChildServer + ?Sized> ChildServer for $type {
            fn inner(&mut self) -> Option<&mut dyn ChildServer> {
                (**self).inner()
            }
            fn start(&mut self) -> io::Result<()> {
                (**self).start()
            }
            fn stop(&mut self) {
                (**self).stop();
            }
            fn send_ack(&mut self) -> Option<Duration> {
                (**self).send_ack()
            }
            fn set_send_ack(&mut self, interval: Option<Duration>) {
                (**self).set_send_ack(interval);
            }
            fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
                (**self).resume_accept(comm)
            }
            fn before_stop(&mut self) {
                (**self).before_stop();
            }
            fn begin_drain(&mut self) {
                (**self).begin_drain();
            }
            fn is_queued(&mut self) -> bool {
                (**self).is_queued()
            }
            fn close_listeners(&mut self) {
                (**self).close_listeners();
            }
            fn lost(&mut self) -> Option<io::Error> {
                (**self).lost()
            }
            fn reload(&mut self) -> io::Result<()> {
                (**self).reload()
            }
            fn execs(&mut self) -> bool {
                (**self).execs()
            }
            fn own_group(&mut self) -> bool {
                (**self).own_group()
            }
            fn only_kills_group(&mut self) -> bool {
                (**self).only_kills_group()
            }
            fn stop_signal(&mut self) -> Signal {
                (**self).stop_signal()
            }
            fn reopen_signal(&mut self) -> Option<Signal> {
                (**self).reopen_signal()
            }
            fn reopen(&mut self) -> io::Result<()> {
                (**self).reopen()
            }
            fn refusals(&mut self) -> Refusals {
                (**self).refusals()
            }
            fn can_shed(&mut self) -> bool {
                (**self).can_shed()
            }
            fn set_all_busy(&mut self, all_busy: bool) {
                (**self).set_all_busy(all_busy);
            }
            fn listeners(&mut self) -> Vec<ListenerStatus> {
                (**self).listeners()
            }
        }
    )*};
}
forward_child_server!(&mut S, Box<S>);

/// Writes a line to stderr, as `eprintln!`, but without a panic if stderr is closed.
macro_rules! complain {
    ($($message:tt)*) => {{
        use std::io::Write as _;
        // OK to ignore: there is no other place to report it.
        let _ = writeln!(std::io::stderr(), $($message)*);
    }};
}
pub(crate) use complain;

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
        comm.set_drain_timeout(monitor.drain_timeout());
        comm.set_limit_jitter(monitor.limit_jitter());
        Self {
            monitor,
            comm,
            server,
            resume_accept: false,
        }
    }

    /// The child's copy of the parent's [`Monitor`], as it was at the fork. Requests to it are not
    /// performed.
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
        self.server.resume_accept(self.comm)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns other values than the defaults do, and records its calls.
    #[derive(Default)]
    struct Inner {
        told: Vec<&'static str>,
        send_ack: Option<Duration>,
    }

    impl ChildServer for Inner {
        fn inner(&mut self) -> Option<&mut dyn ChildServer> {
            None
        }
        fn start(&mut self) -> io::Result<()> {
            self.told.push("start");
            Ok(())
        }
        fn stop(&mut self) {
            self.told.push("stop");
        }
        fn send_ack(&mut self) -> Option<Duration> {
            self.send_ack
        }
        fn set_send_ack(&mut self, interval: Option<Duration>) {
            self.send_ack = interval;
        }
        fn resume_accept(&mut self, _: &mut Comm) -> io::Result<()> {
            Ok(())
        }
        fn before_stop(&mut self) {
            self.told.push("before_stop");
        }
        fn begin_drain(&mut self) {
            self.told.push("begin_drain");
        }
        fn is_queued(&mut self) -> bool {
            true
        }
        fn close_listeners(&mut self) {
            self.told.push("close_listeners");
        }
        fn lost(&mut self) -> Option<io::Error> {
            Some(io::Error::other("lost"))
        }
        fn execs(&mut self) -> bool {
            true
        }
        fn own_group(&mut self) -> bool {
            true
        }
        fn only_kills_group(&mut self) -> bool {
            true
        }
        fn stop_signal(&mut self) -> Signal {
            Signal::Quit
        }
        fn reopen_signal(&mut self) -> Option<Signal> {
            Some(Signal::Window)
        }
        fn reopen(&mut self) -> io::Result<()> {
            self.told.push("reopen");
            Ok(())
        }
        fn refusals(&mut self) -> Refusals {
            Refusals::new([4, 3, 2, 1])
        }
        fn can_shed(&mut self) -> bool {
            true
        }
        fn set_all_busy(&mut self, all_busy: bool) {
            self.told
                .push(if all_busy { "all busy" } else { "not all" });
        }
        fn listeners(&mut self) -> Vec<ListenerStatus> {
            let name = "here".to_owned();
            vec![ListenerStatus {
                name,
                queued: None,
                oldest: None,
            }]
        }
    }

    /// Implements only the required methods.
    struct Wrapper(Option<Inner>);

    impl ChildServer for Wrapper {
        fn inner(&mut self) -> Option<&mut dyn ChildServer> {
            self.0.as_mut().map(|inner| inner as &mut dyn ChildServer)
        }
        fn resume_accept(&mut self, _: &mut Comm) -> io::Result<()> {
            Ok(())
        }
    }

    /// Checks every method that a wrapper or a reference takes from the inner server.
    fn has_all_of_inner(server: &mut dyn ChildServer) {
        let interval = Some(Duration::from_secs(1));
        server.start().expect("a start");
        server.set_send_ack(interval);
        server.begin_drain();
        server.before_stop();
        server.set_all_busy(true);
        server.close_listeners();
        server.reopen().expect("logs");
        server.stop();
        assert!(server.can_shed());
        assert_eq!(server.send_ack(), interval);
        assert!(server.execs());
        assert!(server.own_group());
        assert!(server.only_kills_group());
        assert_eq!(server.stop_signal(), Signal::Quit);
        assert_eq!(server.reopen_signal(), Some(Signal::Window));
        assert!(server.is_queued());
        assert!(server.lost().is_some());
        assert_eq!(server.refusals(), Refusals::new([4, 3, 2, 1]));
        assert_eq!(server.listeners().len(), 1);
    }

    #[test]
    fn a_wrapper_has_what_it_does_not_write_from_the_inner_server() {
        let mut wrapper = Wrapper(Some(Inner::default()));
        has_all_of_inner(&mut wrapper);
        let told = wrapper.0.map(|inner| inner.told);
        let all = [
            "start",
            "begin_drain",
            "before_stop",
            "all busy",
            "close_listeners",
            "reopen",
            "stop",
        ];
        assert_eq!(told, Some(all.to_vec()));
        has_all_of_inner(&mut &mut Inner::default());
        let boxed: Box<dyn ChildServer> = Box::new(Wrapper(Some(Inner::default())));
        has_all_of_inner(&mut Box::new(boxed));
    }

    #[test]
    fn what_is_missing_both_ways_is_an_error_of_the_start() {
        let error = Wrapper(None).start().expect_err("an error");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        let set = || Wrapper(None).set_send_ack(None);
        assert!(std::panic::catch_unwind(set).is_err());
        assert_eq!(Wrapper(None).send_ack(), None);
        assert!(!Wrapper(None).execs());
        assert!(!Wrapper(None).own_group());
        assert!(!Wrapper(None).only_kills_group());
        assert_eq!(Wrapper(None).stop_signal(), Signal::Interrupt);
        assert_eq!(Wrapper(None).reopen_signal(), Some(Signal::User1));
        assert!(Wrapper(None).lost().is_none());
        assert!(Wrapper(None).listeners().is_empty());
        assert!(!Wrapper(None).is_queued());
        assert!(!Wrapper(None).can_shed());
        Wrapper(None).set_all_busy(true);
        assert!(Wrapper(None).reopen().is_ok());
        Wrapper(None).begin_drain();
        Wrapper(None).close_listeners();
        Wrapper(None).stop();
    }
}
