//! The stock server over any kind of listener: attributes, handler, and its part of `ChildServer`. The
//! accept loop is beside it, the sockets are below; opens and accepts nothing itself.

use super::{
    accept::{Acceptor, Handler, SharedListeners},
    conn::{Conn, ConnClass, Stream},
};
use crate::{
    core::accept::{AcceptConfig, BRIEFLY, order::AcceptOrder},
    hooks::{comm::Comm, server::ChildServer},
    listeners::{
        Listener, ListenerStatus,
        inherited::Wanted,
        open::{OpenSockets, Origin},
    },
    sys::{fd_registry::Ours, handed_over, sockets},
};
use std::{cell::RefCell, fmt, io, os::fd::OwnedFd, rc::Rc, time::Duration};

/// Makes the handler, in the child. Called once in each.
type Factory<S> = Box<dyn FnOnce() -> io::Result<Handler<S>>>;

/// Accepts on a kind of [`Listener`], one connection at a time in each child.
///
/// [`TcpServer`](crate::TcpServer) and [`UnixServer`](crate::UnixServer) are its names for the two kinds
/// that come with the crate; for one of a program's own see [`on`](Self::on).
pub struct StreamServer<L: Listener> {
    pub(super) listener: L,
    sockets: OpenSockets,
    factory: Option<Factory<L::Stream>>,
    max_requests: u64,
    requests_handled: u64,
    backlog: i32,
    /// Which idle child goes first, if the server was told.
    order: Option<AcceptOrder>,
    send_ack: Option<Duration>,
    timing: Timing,
}

/// What may block, for [`BRIEFLY`], on the sockets that were opened.
#[derive(Clone, Copy, Debug, Default)]
struct Timing {
    /// Operations on connections, for so long: see `Conn`.
    first_wait: Option<Duration>,
    /// Accepting, so that children can wait there.
    blocks: bool,
}

impl<L: Listener<Stream: Stream>> StreamServer<L> {
    const MAX_REQUESTS: u64 = 25;
    const BACKLOG: i32 = 1024;

    /// A server that hands each connection on `listener` to `handler`, in the child.
    ///
    /// An error that the handler returns is printed to the child's stderr, unless it only says that
    /// the client has gone or was too slow. A panic ends the child.
    pub fn on(
        listener: L,
        handler: impl FnMut(Conn<L::Stream>) -> io::Result<()> + 'static,
    ) -> Self {
        Self::made_by(listener, move || {
            let handler: Handler<L::Stream> = Box::new(handler);
            Ok(handler)
        })
    }

    fn made_by(
        listener: L,
        factory: impl FnOnce() -> io::Result<Handler<L::Stream>> + 'static,
    ) -> Self {
        Self {
            listener,
            sockets: OpenSockets::new(),
            factory: Some(Box::new(factory)),
            max_requests: Self::MAX_REQUESTS,
            requests_handled: 0,
            backlog: Self::BACKLOG,
            order: None,
            send_ack: None,
            timing: Timing::default(),
        }
    }

    /// How many connections a child takes before it leaves and is replaced. Default: 25;
    /// 0 means no limit.
    #[must_use]
    pub fn max_requests(mut self, connections: u64) -> Self {
        self.max_requests = connections;
        self
    }

    /// As [`max_requests`](Self::max_requests), also while running, through
    /// [`PreFork::server_mut`](crate::PreFork::server_mut): for the children that are forked from then on.
    pub fn set_max_requests(&mut self, connections: u64) {
        self.max_requests = connections;
    }

    /// How many connections a child takes; 0 means no limit.
    pub fn get_max_requests(&self) -> u64 {
        self.max_requests
    }

    /// How many connections may wait to be accepted. Default: 1024. The kernel cuts what is more than
    /// the system allows (`net.core.somaxconn`), of which a warning tells; less than 0 counts as 0.
    #[must_use]
    pub fn backlog(mut self, connections: i32) -> Self {
        self.backlog = connections;
        self
    }

    /// How many connections were asked to be let wait.
    pub fn get_backlog(&self) -> i32 {
        self.backlog
    }

    /// Which of the idle children gets the next connection. Default: it depends, see
    /// [`AcceptOrder`].
    #[must_use]
    pub fn accept_order(mut self, order: AcceptOrder) -> Self {
        self.order = Some(order);
        self
    }

    /// Which of the idle children gets the next connection, if that was set.
    pub fn get_accept_order(&self) -> Option<AcceptOrder> {
        self.order
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
    pub fn handler_connection<F>(mut self, mut hook: F) -> Self
    where
        F: FnMut(
                Conn<L::Stream>,
                &mut dyn FnMut(Conn<L::Stream>) -> io::Result<()>,
            ) -> io::Result<()>
            + 'static,
    {
        self.factory = self.factory.take().map(|factory| {
            let wrapped: Factory<L::Stream> = Box::new(move || {
                let mut inner = factory()?;
                let outer: Handler<L::Stream> = Box::new(move |conn| hook(conn, &mut *inner));
                Ok(outer)
            });
            wrapped
        });
        self
    }

    /// Takes over the sockets that whoever started this program has opened for it, as systemd
    /// does for a service with a `.socket` unit, instead of opening any: those of LISTEN_FDS that
    /// are listening sockets of this server's kind. What else was handed over is left
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
        self.sockets.origin = Origin::Inherited(Wanted::All);
        self
    }

    /// As [`listen_fds`](Self::listen_fds), but only those that LISTEN_FDNAMES calls `name`: a
    /// socket unit's `FileDescriptorName`. Each of these must be a listening socket of
    /// this server's kind.
    #[must_use]
    pub fn listen_fds_named(mut self, name: impl Into<String>) -> Self {
        self.sockets.origin = Origin::Inherited(Wanted::Named(name.into()));
        self
    }

    /// Accepts on a socket that the program has opened itself, with whatever options, instead of opening
    /// any. It must listen, or the start fails; it becomes non-blocking. Once more for each further
    /// socket. The file of a UNIX socket stays the program's.
    ///
    /// ```no_run
    /// use prefork_server::TcpServer;
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:7777")?;
    /// let server = TcpServer::new(|conn| Ok(())).socket(listener);
    /// # let _ = server;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn socket(mut self, listening: impl Into<OwnedFd>) -> Self {
        match &mut self.sockets.origin {
            Origin::Program(sockets) => sockets.push(listening.into()),
            other => *other = Origin::Program(vec![listening.into()]),
        }
        self
    }

    /// How many connections this process has taken: in the parent, none.
    pub fn requests_handled(&self) -> u64 {
        self.requests_handled
    }

    /// The sockets that the started server listens on.
    pub(super) fn open_sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.sockets.iter()
    }

    /// Has accepting and connections block briefly where that saves system calls. On no socket of
    /// somebody else's: its options are its owner's.
    fn set_timing(&mut self) {
        self.timing = Timing::default();
        if !self.sockets.are_its_own() {
            return;
        }
        let mut sockets = self.sockets.iter();
        if self.listener.passes_timeouts_on() {
            // Where one of them cannot, all connections wait in the other way.
            let all_can = sockets.all(|socket| sockets::block_briefly(socket, BRIEFLY).is_ok());
            self.timing.first_wait = all_can.then_some(BRIEFLY);
        }
        let mut sockets = self.sockets.iter();
        if let (Some(only), None) = (sockets.next(), sockets.next()) {
            self.timing.blocks =
                sockets::block_briefly(only, BRIEFLY).is_ok() && sockets::block(only).is_ok();
        }
    }

    fn config(&self, comm: &Comm) -> AcceptConfig {
        let choose = || AcceptOrder::choose(comm.max_clients(), self.max_requests);
        let order = self.order.unwrap_or_else(choose);
        AcceptConfig {
            max_requests: self.max_requests,
            blocks: self.timing.blocks,
            takes_turns: self.timing.blocks && order == AcceptOrder::InTurn,
            coalesces: comm.coalesces(),
        }
    }

    /// The child's copy of the handler, so that there is one for each child.
    fn handler(&mut self) -> io::Result<Handler<L::Stream>> {
        match self.factory.take() {
            Some(factory) => factory(),
            None => Err(io::Error::other("served already")),
        }
    }
}

/// The sockets, closed as soon as the parent is found to be gone.
fn close_when_orphaned(sockets: Vec<Ours<OwnedFd>>, comm: &Comm) -> SharedListeners {
    let listeners = Rc::new(RefCell::new(sockets));
    let for_close = Rc::clone(&listeners);
    comm.when_orphaned(move || {
        // While the loop waits on them it holds them, and returns as soon as the wait has ended.
        if let Ok(mut listeners) = for_close.try_borrow_mut() {
            listeners.clear();
        }
    });
    listeners
}

impl<L: Listener<Stream: Stream>> ChildServer for StreamServer<L> {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    fn start(&mut self) -> io::Result<()> {
        self.sockets.open(&mut self.listener, self.backlog)?;
        self.set_timing();
        Ok(())
    }

    fn stop(&mut self) {
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
        let acceptor = Acceptor {
            config: self.config(comm),
            listeners,
            handler: self.handler()?,
            comm,
            first_wait: self.timing.first_wait,
            requests_handled: &mut self.requests_handled,
        };
        acceptor.run()
    }

    /// A child may have taken the timeout from the socket that all share, so that some wait in accept(2)
    /// for ever. The signal interrupts that wait, and it begins anew with the timeout.
    fn before_stop(&mut self) {
        if self.timing.blocks {
            for socket in self.sockets.iter() {
                // OK to ignore: it could be set before, so it can be now.
                let _ = sockets::block_briefly(socket, BRIEFLY);
            }
        }
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

    fn lost(&mut self) -> Option<io::Error> {
        self.sockets.lost()
    }

    fn listeners(&mut self) -> Vec<ListenerStatus> {
        self.sockets.status(&self.listener)
    }
}

impl<L: Listener> fmt::Debug for StreamServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer")
            .field("listener", &self.listener)
            .field("sockets", &self.sockets)
            .field("max_requests", &self.max_requests)
            .finish_non_exhaustive()
    }
}

/// A [`StreamServer`] with state per child, waiting for its handler: see
/// [`TcpServer::per_child`](crate::TcpServer::per_child).
#[derive(Debug)]
#[must_use = "it needs a handler: call `serve`"]
pub struct PerChild<L, I> {
    listener: L,
    init: I,
}

impl<L: Listener<Stream: Stream>, I> PerChild<L, I> {
    /// A server on `listener` whose handler has state of its own in each child, made by `init` after
    /// the fork.
    pub fn on(listener: L, init: I) -> Self {
        Self { listener, init }
    }

    /// The server that hands each connection to `handler`, together with the child's state.
    pub fn serve<T: 'static>(
        self,
        mut handler: impl FnMut(&mut T, Conn<L::Stream>) -> io::Result<()> + 'static,
    ) -> StreamServer<L>
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        let Self { listener, init } = self;
        StreamServer::made_by(listener, move || {
            let mut state = init()?;
            let handler: Handler<L::Stream> = Box::new(move |conn| handler(&mut state, conn));
            Ok(handler)
        })
    }

    /// As [`serve`](Self::serve), with a function for the end of the child's state: to commit, to flush, to say
    /// goodbye to a database.
    ///
    /// `end` runs in the child, once, after the last connection: when the child was told to stop, has reached
    /// `max_requests`, or has lost its parent. What it prints goes where the child's output goes. It does not
    /// run after a panic, or when the child is killed, and takes part of the time that a child has to leave.
    /// For a state that needs no more than to be dropped `serve` is enough.
    ///
    /// ```no_run
    /// # use prefork_server::TcpServer;
    /// # use std::{fs::File, io::Write};
    /// let server = TcpServer::per_child(|| File::create(format!("{}.log", std::process::id())))
    ///     .serve_then(|log, conn| writeln!(log, "{}", conn.peer_addr()?), |log| {
    ///         if let Err(error) = log.sync_all() {
    ///             eprintln!("the log may be incomplete: {error}");
    ///         }
    ///     });
    /// ```
    pub fn serve_then<T: 'static>(
        self,
        mut handler: impl FnMut(&mut T, Conn<L::Stream>) -> io::Result<()> + 'static,
        end: impl FnOnce(&mut T) + 'static,
    ) -> StreamServer<L>
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        let Self { listener, init } = self;
        let init = move || {
            let state = init()?;
            let end = Some(end);
            Ok(WithEnd { state, end })
        };
        PerChild { listener, init }.serve(move |with_end, conn| handler(&mut with_end.state, conn))
    }

    /// The server that has `factory` make an object for each connection, from the child's state: see
    /// [`TcpServer::conn_class`](crate::TcpServer::conn_class).
    pub fn conn_class<T: 'static, C: ConnClass>(
        self,
        mut factory: impl FnMut(&mut T) -> C + 'static,
    ) -> StreamServer<L>
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        self.serve(move |state, conn| conn.run_class(factory(state)))
    }
}

/// A child's state, and what is done with it at its end.
struct WithEnd<T, E: FnOnce(&mut T)> {
    state: T,
    end: Option<E>,
}

impl<T, E: FnOnce(&mut T)> Drop for WithEnd<T, E> {
    fn drop(&mut self) {
        // After a panic nobody knows what state it is in.
        let end = self.end.take().filter(|_| !std::thread::panicking());
        if let Some(end) = end {
            end(&mut self.state);
        }
    }
}
