//! What a server object is, and what the child's hook is given. Names and contracts; std types
//! only, no system call.

use crate::{
    core::{child::Signal, comm::Interval, config::CommChannel, monitor::Monitor},
    hooks::comm::Comm,
    listeners::ListenerStatus,
};
use std::{fmt, io, time::Duration};

/// The object that holds the socket in the parent and accepts on it in each child.
///
/// [`TcpServer`](crate::TcpServer) and [`UnixServer`](crate::UnixServer) are two, and any other kind
/// of listening socket is served by [`StreamServer`](crate::servers::StreamServer); write your own
/// for anything else that children can share.
///
/// # Wrapping another server
///
/// A server that wraps another returns it from [`inner`](Self::inner). Every method that it does not
/// write itself is then that of the inner server, also the methods that later versions add.
pub trait ChildServer {
    /// The server that this one wraps, or `None`. Has no default, so that no wrapper forgets it.
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
    /// [`Builder::start`](crate::Builder::start) fails with it. An [`Error`](crate::Error) converted
    /// into the `io::Error` comes through as it is.
    fn start(&mut self) -> io::Result<()> {
        match self.inner() {
            Some(inner) => inner.start(),
            None => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the server implements no `start`, and `inner` returns none that does",
            )),
        }
    }

    /// Closes the socket and removes what it left in the file system. Runs in the parent, last, when
    /// every child has been reaped; also after a `start` that failed. Never runs in a child.
    ///
    /// Default: that of the inner server; without one there is nothing to remove.
    fn stop(&mut self) {
        if let Some(inner) = self.inner() {
            inner.stop();
        }
    }

    /// The interval of the ACKs that a child sends by itself; `None` means none.
    ///
    /// Default: that of the inner server; without one `None`.
    fn send_ack(&mut self) -> Option<Duration> {
        self.inner()?.send_ack()
    }

    /// Sets that interval. The default of `handler_start` calls it with `timeout` / 2 unless one was
    /// set before.
    ///
    /// Default: that of the inner server.
    ///
    /// # Panics
    ///
    /// The default panics without an inner server: the children would send no ACK, and be ended for
    /// their silence. So [`Builder::start`](crate::Builder::start) panics where there is a `timeout`.
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

    /// Called in the parent right before a child is told to stop: the place to mend what a child may
    /// have done to the socket that keeps others from hearing of it.
    ///
    /// Default: that of the inner server; without one nothing.
    fn before_stop(&mut self) {
        if let Some(inner) = self.inner() {
            inner.before_stop();
        }
    }

    /// Asked in the parent after a child has ended with an error of `resume_accept`: is the socket
    /// unusable for good (a child can shut it down for everybody)? Then `handler_child` is called
    /// with the error.
    ///
    /// Default: that of the inner server; without one it is not.
    fn lost(&mut self) -> Option<io::Error> {
        self.inner()?.lost()
    }

    /// Whether `resume_accept` puts another program in the child's place. Such a program speaks for
    /// itself: the framework does not say the first ACK for it, and refuses
    /// [`CommChannel::Private`], which it could not reach.
    ///
    /// Default: that of the inner server; without one it does not.
    fn execs(&mut self) -> bool {
        self.inner().is_some_and(|inner| inner.execs())
    }

    /// Whether each child leads a process group of its own. What the child is sent then reaches all that it
    /// has started in it too, and if that outlives the child, it is told to stop, killed after
    /// [`kill_timeout`](crate::Monitor::kill_timeout), and counted as the child until it has ended. What a
    /// terminal sends to the foreground, as Ctrl-C does, reaches the parent alone, which tells the children.
    /// Asked in the parent at each fork.
    ///
    /// Default: that of the inner server; without one it does not.
    fn own_group(&mut self) -> bool {
        self.inner().is_some_and(|inner| inner.own_group())
    }

    /// The signal that tells a child to stop, which is sent wherever SIGINT would be. For programs that are
    /// exec'd: what the framework runs in a child knows SIGINT and SIGTERM. Asked in the parent at each fork.
    ///
    /// Default: that of the inner server; without one SIGINT.
    fn stop_signal(&mut self) -> Signal {
        self.inner()
            .map_or(Signal::Interrupt, |inner| inner.stop_signal())
    }

    /// The sockets that are listened on, with the number of connections that wait at each. In the
    /// parent, while the server is started; may be asked at any time.
    ///
    /// Default: those of the inner server; without one none.
    fn listeners(&mut self) -> Vec<ListenerStatus> {
        self.inner()
            .map_or_else(Vec::new, |inner| inner.listeners())
    }
}

/// An exec'd program has its stdout and knows of no other channel.
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
            fn lost(&mut self) -> Option<io::Error> {
                (**self).lost()
            }
            fn execs(&mut self) -> bool {
                (**self).execs()
            }
            fn own_group(&mut self) -> bool {
                (**self).own_group()
            }
            fn stop_signal(&mut self) -> Signal {
                (**self).stop_signal()
            }
            fn listeners(&mut self) -> Vec<ListenerStatus> {
                (**self).listeners()
            }
        }
    )*};
}
forward_child_server!(&mut S, Box<S>);

/// A line on stderr, as `eprintln!`, but without the panic when nobody reads it any more.
macro_rules! complain {
    ($($message:tt)*) => {{
        use std::io::Write as _;
        // OK to ignore: there is nobody else to tell.
        let _ = writeln!(std::io::stderr(), $($message)*);
    }};
}
pub(crate) use complain;

/// What the hooks see that run in the forked child.
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
        comm.set_max_clients(monitor.max_clients());
        Self {
            monitor,
            comm,
            server,
            resume_accept: false,
        }
    }

    /// The child's copy of the parent's books, as they were at the fork. Nothing that is asked of it
    /// here is performed.
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

    /// Asks that the server's `resume_accept` be called when the hook has returned.
    pub fn resume_accept(&mut self) {
        self.resume_accept = true;
    }

    /// The interval of the server, or, if the start has derived that from `timeout`, the one that follows from
    /// `timeout` now.
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

    /// Serves, if that was asked for.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        if !self.resume_accept {
            return Ok(());
        }
        self.set_send_ack();
        // It may have been set since the start.
        check_channel(self.server, self.monitor.comm_channel())?;
        if !self.server.execs() {
            // The first word, whatever the timeout. It says no state: `resume_accept` may fail yet.
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

    /// Answers each question otherwise than the defaults do, and notes what it is told.
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
        fn lost(&mut self) -> Option<io::Error> {
            Some(io::Error::other("lost"))
        }
        fn execs(&mut self) -> bool {
            true
        }
        fn own_group(&mut self) -> bool {
            true
        }
        fn stop_signal(&mut self) -> Signal {
            Signal::Quit
        }
        fn listeners(&mut self) -> Vec<ListenerStatus> {
            let name = "here".to_owned();
            vec![ListenerStatus { name, queued: None }]
        }
    }

    /// Writes nothing itself but what it must.
    struct Wrapper(Option<Inner>);

    impl ChildServer for Wrapper {
        fn inner(&mut self) -> Option<&mut dyn ChildServer> {
            self.0.as_mut().map(|inner| inner as &mut dyn ChildServer)
        }
        fn resume_accept(&mut self, _: &mut Comm) -> io::Result<()> {
            Ok(())
        }
    }

    /// All that a wrapper, or a reference, has from the server in it.
    fn has_all_of_inner(server: &mut dyn ChildServer) {
        let interval = Some(Duration::from_secs(1));
        server.start().expect("a start");
        server.set_send_ack(interval);
        server.before_stop();
        server.stop();
        assert_eq!(server.send_ack(), interval);
        assert!(server.execs());
        assert!(server.own_group());
        assert_eq!(server.stop_signal(), Signal::Quit);
        assert!(server.lost().is_some());
        assert_eq!(server.listeners().len(), 1);
    }

    #[test]
    fn a_wrapper_has_what_it_does_not_write_from_the_inner_server() {
        let mut wrapper = Wrapper(Some(Inner::default()));
        has_all_of_inner(&mut wrapper);
        let told = wrapper.0.map(|inner| inner.told);
        assert_eq!(told, Some(vec!["start", "before_stop", "stop"]));
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
        assert_eq!(Wrapper(None).stop_signal(), Signal::Interrupt);
        assert!(Wrapper(None).lost().is_none());
        assert!(Wrapper(None).listeners().is_empty());
        Wrapper(None).stop();
    }
}
