//! What the stock servers have in common besides the accept loop: their attributes, their handler,
//! their part of `ChildServer`. Accepts nothing itself.

use super::{
    accept::{AcceptLoop, BRIEFLY, Handler, Terms, order::AcceptOrder},
    conn::{Conn, Stream},
};
use crate::{
    hooks::comm::Comm,
    sys::{fd_registry::Ours, sockets},
};
use std::{
    cell::RefCell,
    fmt, io,
    os::fd::{AsFd, AsRawFd},
    rc::Rc,
    time::Duration,
};

/// Makes the handler, in the child. Called once in each.
type Factory<S> = Box<dyn FnOnce() -> io::Result<Handler<S>>>;

/// What a stock server is, besides its sockets.
pub(super) struct Service<S> {
    factory: Option<Factory<S>>,
    /// How connections are taken.
    pub(super) terms: Terms,
    pub(super) send_ack: Option<Duration>,
    pub(super) backlog: i32,
    /// Which idle child goes first, if the server was told.
    pub(super) order: Option<AcceptOrder>,
    /// How many there may be, if that is known.
    pub(super) children: Option<usize>,
}

impl<S: Stream> Service<S> {
    const MAX_REQUESTS: u64 = 25;
    const BACKLOG: i32 = 1024;

    pub(super) fn new(factory: impl FnOnce() -> io::Result<Handler<S>> + 'static) -> Self {
        Self {
            factory: Some(Box::new(factory)),
            terms: Terms {
                max_requests: Self::MAX_REQUESTS,
                requests_handled: 0,
                first_wait: None,
                blocks: false,
                takes_turns: false,
            },
            send_ack: None,
            backlog: Self::BACKLOG,
            order: None,
            children: None,
        }
    }

    /// Makes ready for children that wait in accept, all the time or now and then, if that can be had.
    pub(super) fn let_them_block<L: AsFd + AsRawFd>(&mut self, listeners: &[Ours<L>]) {
        let order = self
            .order
            .unwrap_or_else(|| AcceptOrder::choose(self.children, self.terms.max_requests));
        self.terms.blocks = match listeners {
            [listener] => {
                sockets::block_briefly(&**listener, BRIEFLY).is_ok()
                    && sockets::block(&**listener).is_ok()
            }
            _ => false,
        };
        self.terms.takes_turns = self.terms.blocks && order == AcceptOrder::InTurn;
    }

    /// Puts `hook` around the handler.
    pub(super) fn wrap<F>(&mut self, mut hook: F)
    where
        F: FnMut(Conn<S>, &mut dyn FnMut(Conn<S>) -> io::Result<()>) -> io::Result<()> + 'static,
    {
        self.factory = self.factory.take().map(|factory| {
            let wrapped: Factory<S> = Box::new(move || {
                let mut inner = factory()?;
                let outer: Handler<S> = Box::new(move |conn| hook(conn, &mut *inner));
                Ok(outer)
            });
            wrapped
        });
    }

    /// Serves what comes in on `listeners` until told to stop, the limit is reached, or the parent
    /// is gone.
    pub(super) fn serve<L>(&mut self, listeners: Vec<Ours<L>>, comm: &Comm) -> io::Result<()>
    where
        L: AsFd + AsRawFd + 'static,
    {
        // The child's copy of it, so that there is one for each child.
        let factory = self
            .factory
            .take()
            .ok_or_else(|| io::Error::other("served already"))?;
        let listeners = Rc::new(RefCell::new(listeners));
        let for_close = Rc::clone(&listeners);
        comm.when_orphaned(move || {
            // While the loop waits on them it holds them, and returns as soon as the wait has ended.
            if let Ok(mut listeners) = for_close.try_borrow_mut() {
                listeners.clear();
            }
        });
        let handler = factory()?;
        AcceptLoop::new(&mut self.terms, handler, listeners, comm).run()
    }
}

impl<S> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("terms", &self.terms)
            .field("send_ack", &self.send_ack)
            .finish_non_exhaustive()
    }
}

/// The setters and getters that the stock servers have in common.
macro_rules! common_attributes {
    ($stream:ty) => {
        /// How many connections a child takes before it leaves and is replaced. Default: 25;
        /// 0 means no limit.
        #[must_use]
        pub fn max_requests(mut self, connections: u64) -> Self {
            self.service.terms.max_requests = connections;
            self
        }

        /// How many connections may wait to be accepted. Default: 1024. The kernel cuts what is more than
        /// the system allows (`net.core.somaxconn`), of which a warning tells; less than 0 counts as 0.
        #[must_use]
        pub fn backlog(mut self, connections: i32) -> Self {
            self.service.backlog = connections;
            self
        }

        /// Which of the idle children gets the next connection. Default: it depends, see
        /// [`AcceptOrder`](crate::servers::AcceptOrder).
        #[must_use]
        pub fn accept_order(mut self, order: AcceptOrder) -> Self {
            self.service.order = Some(order);
            self
        }

        /// Has `hook` called with each connection that a child has accepted, before it is served: the
        /// original's `handler_connection`. The child has said BUSY and counted it.
        ///
        /// The second argument is SUPER: it serves the connection to its end. A hook that does not
        /// call it refuses the connection. Several hooks wrap one another, the last one outermost.
        ///
        /// ```
        /// # use prefork_server::TcpServer;
        /// let server = TcpServer::new(|conn| Ok(())).handler_connection(|conn, serve| {
        ///     if !conn.peer_addr()?.ip().is_loopback() {
        ///         return Ok(()); // dropped, which closes it
        ///     }
        ///     serve(conn)
        /// });
        /// ```
        ///
        /// # Errors
        ///
        /// What the hook returns is treated as an error of the handler.
        #[must_use]
        pub fn handler_connection<F>(mut self, hook: F) -> Self
        where
            F: FnMut(
                    Conn<$stream>,
                    &mut dyn FnMut(Conn<$stream>) -> io::Result<()>,
                ) -> io::Result<()>
                + 'static,
        {
            self.service.wrap(hook);
            self
        }

        /// Takes over the sockets that whoever started this program has opened for it, as systemd
        /// does for a service with a `.socket` unit, instead of opening any: those of LISTEN_FDS that
        /// are listening stream sockets of this server's family. What else was handed over is left
        /// alone: it may be for another server, or for another part of the program.
        ///
        /// The start fails if LISTEN_PID is not this process, if none fits, or if the variables make
        /// no sense: with [`ListenFdsError`](crate::servers::ListenFdsError) as the reason. See
        /// [`has_listen_fds`](crate::servers::has_listen_fds) for a server that listens by itself then.
        ///
        /// The sockets become non-blocking, for everybody who shares them, and close-on-exec. They
        /// stay open in the parent until it exits, for a second start. Children have those of their
        /// server alone, and find no LISTEN_FDS in their environment (where `/proc` tells that they
        /// have one thread): the programs that they run are not to take it for theirs.
        #[must_use]
        pub fn listen_fds(mut self) -> Self {
            self.handed_over = Some(Wanted::All);
            self
        }

        /// As [`listen_fds`](Self::listen_fds), but only those that LISTEN_FDNAMES calls `name`: a
        /// socket unit's `FileDescriptorName`. Each of these must be a listening stream socket of
        /// this server's family.
        #[must_use]
        pub fn listen_fds_named(mut self, name: impl Into<String>) -> Self {
            self.handed_over = Some(Wanted::Named(name.into()));
            self
        }

        /// How many connections this process has taken: in the parent, none.
        pub fn requests_handled(&self) -> u64 {
            self.service.terms.requests_handled
        }
    };
}
pub(super) use common_attributes;

/// The part of [`ChildServer`](crate::ChildServer) that the stock servers have in common.
macro_rules! common_server {
    () => {
        fn send_ack(&self) -> Option<Duration> {
            self.service.send_ack
        }

        fn set_send_ack(&mut self, interval: Option<Duration>) {
            self.service.send_ack = interval;
        }

        fn expect_children(&mut self, max_clients: usize) {
            self.service.children = Some(max_clients);
        }

        fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
            if self.handed_over.is_some() {
                handed_over::forget_variables();
            }
            let listeners = std::mem::take(&mut self.listeners);
            self.service.serve(listeners, comm)
        }

        fn lost(&mut self) -> Option<io::Error> {
            let dead = self
                .listeners
                .iter()
                .any(|listener| !sockets::is_listening(&**listener));
            dead.then(|| io::Error::other("a listening socket has been shut down"))
        }
    };
}
pub(super) use common_server;
