//! The accept loop that the stock servers share: one connection at a time, and the rules by which
//! none is left behind.

pub(super) mod order;

use self::order::{AcceptOrder, Stance};
use super::conn::{Conn, Stream};
use crate::{
    child_end::{Comm, Wake},
    os::{
        ours::Ours,
        sockets::{self, Accepted, Blocking},
    },
    server::complain,
};
use std::{
    cell::RefCell,
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

pub(super) type Handler<S> = Box<dyn FnMut(Conn<S>) -> io::Result<()>>;

/// Makes the handler, in the child. Called once in each.
type Factory<S> = Box<dyn FnOnce() -> io::Result<Handler<S>>>;

/// What a stock server is, besides its sockets.
pub(super) struct Service<S> {
    factory: Option<Factory<S>>,
    pub(super) max_requests: u64,
    pub(super) requests_handled: u64,
    pub(super) send_ack: Option<Duration>,
    pub(super) backlog: i32,
    /// For how long connections block by themselves, if they do: see `Conn`.
    pub(super) first_wait: Option<Duration>,
    /// Which idle child goes first, if the server was told.
    pub(super) order: Option<AcceptOrder>,
    /// How many there may be, if that is known.
    pub(super) children: Option<usize>,
    /// Whether the listener blocks, for `BRIEFLY`, so that children can wait in accept.
    pub(super) blocks: bool,
}

/// For how long an operation on a socket of ours blocks by itself. Long enough for a client that is
/// not slow; an ACK, or the notice that the parent is gone, may be late by as much.
pub(super) const BRIEFLY: Duration = Duration::from_millis(20);

impl<S: Stream> Service<S> {
    const MAX_REQUESTS: u64 = 25;
    const BACKLOG: i32 = 1024;

    pub(super) fn new(factory: impl FnOnce() -> io::Result<Handler<S>> + 'static) -> Self {
        Self {
            factory: Some(Box::new(factory)),
            max_requests: Self::MAX_REQUESTS,
            requests_handled: 0,
            send_ack: None,
            backlog: Self::BACKLOG,
            first_wait: None,
            order: None,
            children: None,
            blocks: false,
        }
    }

    /// Makes ready for children that wait in accept, if that is what they are to do and can be had.
    pub(super) fn let_them_block<L: AsFd + AsRawFd>(&mut self, listeners: &[Ours<L>]) {
        let order = self
            .order
            .unwrap_or_else(|| AcceptOrder::choose(self.children, self.max_requests));
        self.blocks = match listeners {
            [listener] if order == AcceptOrder::InTurn => {
                sockets::block_briefly(&**listener, BRIEFLY).is_ok()
                    && sockets::block(&**listener).is_ok()
            }
            _ => false,
        };
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
        let stance = Stance::new(self.blocks);
        AcceptLoop {
            service: self,
            stance,
            handler,
            listeners,
            comm,
            next: 0,
            in_a_row: 0,
            long: false,
            woken: false,
            shortage: None,
        }
        .run()
    }

    fn limit_reached(&self) -> bool {
        self.max_requests != 0 && self.requests_handled >= self.max_requests
    }
}

impl<S> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("max_requests", &self.max_requests)
            .field("requests_handled", &self.requests_handled)
            .field("send_ack", &self.send_ack)
            .finish_non_exhaustive()
    }
}

struct AcceptLoop<'a, S, L: AsRawFd> {
    service: &'a mut Service<S>,
    handler: Handler<S>,
    listeners: Rc<RefCell<Vec<Ours<L>>>>,
    comm: &'a Comm,
    /// The listener to try first: the one after that served last, so that a busy one does not
    /// starve the others.
    next: usize,
    stance: Stance,
    /// How many connections were found queued, one after the other, without a wait.
    in_a_row: u32,
    /// Whether the last one took long.
    long: bool,
    /// Whether a wait has ended because there is something to accept, unless somebody was faster.
    woken: bool,
    /// How long to pause for want of descriptors or memory, while that lasts.
    shortage: Option<Duration>,
}

impl<S: Stream, L: AsFd + AsRawFd> AcceptLoop<'_, S, L> {
    /// After so many connections in a row another one is likely to be queued.
    const LIKELY: u32 = 8;
    /// What accept(2) does not take unless it waits.
    const A_WAIT: Duration = Duration::from_micros(50);
    /// A connection that takes so long is worth two system calls to get out of the way of others.
    const LONG: Duration = Duration::from_millis(1);

    /// Looks for a connection before it ever waits: a newcomer may follow a child that died with a wake-up
    /// in its hands.
    fn run(mut self) -> io::Result<()> {
        self.keep_nonblocking()?;
        while !self.comm.shutdown_requested() {
            // Under load there is always another connection, and never a wait.
            self.say(Comm::attend);
            let connection = match self.accept()? {
                Some(connection) => Some(connection),
                None => {
                    self.say(Comm::not_busy);
                    self.wait()?
                }
            };
            if let Some(connection) = connection {
                self.handle(connection);
                if self.service.limit_reached() {
                    return Ok(());
                }
                if !self.comm.coalesces() {
                    self.say(Comm::not_busy);
                }
            }
        }
        self.keep_nonblocking()?;
        self.last_round()
    }

    /// Some sibling may have made the listeners block, in which it is enough that one library of its
    /// handler is told of a wrong descriptor. A child that is stuck in accept sends no ACK. Looked at
    /// before the attempts that are likely to be in vain; under load there are none. A listener with a
    /// timeout needs no look: accept(2) obeys it as well, and an attempt that blocks ends soon.
    fn keep_nonblocking(&self) -> io::Result<()> {
        if self.service.first_wait.is_some() || self.service.blocks {
            return Ok(());
        }
        for listener in self.listeners.borrow().iter() {
            if sockets::keep_nonblocking(&**listener)? {
                complain!("somebody has set a listening socket to blocking mode; set back");
            }
        }
        Ok(())
    }

    /// Told to stop: a wake-up for a connection may have been spent on this child, so it looks at
    /// each listener once more.
    fn last_round(&mut self) -> io::Result<()> {
        let count = self.listeners.borrow().len();
        for index in 0..count {
            // Without a parent the listeners are closed, or are to be.
            if self.comm.is_orphaned() {
                break;
            }
            if self.service.blocks && !self.is_queued(index)? {
                continue;
            }
            if let Some(connection) = self.try_accept(index)? {
                self.handle(connection);
            }
        }
        Ok(())
    }

    /// Waits for a connection, in one of two ways; only one of them yields it at once.
    fn wait(&mut self) -> io::Result<Option<OwnedFd>> {
        if self.stance.in_line() {
            let found = self.try_accept(0)?;
            if found.is_none() {
                self.stance.leave();
            }
            return Ok(found);
        }
        self.wait_outside()?;
        self.keep_nonblocking()?;
        Ok(None)
    }

    fn wait_outside(&mut self) -> io::Result<()> {
        let listeners = self.listeners.borrow();
        let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(|listener| listener.as_fd()).collect();
        let before = self.stance.takes_turns().then(|| self.comm.now());
        self.woken = self.comm.wait(&fds)? == Wake::Ready;
        if let Some(before) = before.filter(|_| self.woken)
            && self.stance.woken(self.comm.now().since(before), BRIEFLY)
        {
            // Whoever has waited outside goes before those in line.
            self.comm.stand_aside();
        }
        Ok(())
    }

    /// Whether a look at a listener comes before the attempt to accept. One in vain costs ten times as
    /// much as a look: accept(2) makes a socket and a file before it looks itself. So only a child that
    /// was woken, or that has found one connection after the other, does without. (Where the listener
    /// blocks, the latter may find itself waiting while its last word was BUSY: once, and briefly.)
    fn looks_first(&self) -> bool {
        !self.woken && self.in_a_row < Self::LIKELY
    }

    fn accept(&mut self) -> io::Result<Option<OwnedFd>> {
        let count = self.listeners.borrow().len();
        let look_first = self.looks_first();
        let woken = std::mem::take(&mut self.woken);
        let began = (self.service.blocks && !look_first).then(|| self.comm.now());
        let mut found = None;
        for offset in 0..count {
            let index = (self.next + offset) % count;
            if look_first && !self.is_queued(index)? {
                continue;
            }
            found = self.try_accept(index)?;
            if found.is_some() {
                self.next = index + 1;
                break;
            }
        }
        // Without a look the attempt may have been a wait: then nothing was queued after all.
        let waited = began.is_some_and(|began| self.comm.now().since(began) >= Self::A_WAIT);
        self.in_a_row = match &found {
            Some(_) if !woken && !waited => self.in_a_row.saturating_add(1),
            _ => 0,
        };
        if self.in_a_row == Self::LIKELY {
            self.comm.stand_aside();
        }
        Ok(found)
    }

    fn is_queued(&self, index: usize) -> io::Result<bool> {
        match self.listeners.borrow().get(index) {
            Some(listener) => sockets::is_queued(&**listener),
            None => Ok(false),
        }
    }

    fn try_accept(&mut self, index: usize) -> io::Result<Option<OwnedFd>> {
        let blocking = match self.service.first_wait {
            Some(_) => Blocking::Allowed,
            None => Blocking::Never,
        };
        let accepted = match self.listeners.borrow().get(index) {
            Some(listener) => sockets::accept(&**listener, blocking),
            None => Accepted::Nothing,
        };
        match accepted {
            Accepted::Connection(connection) => {
                self.shortage = None;
                Ok(Some(connection))
            }
            Accepted::Nothing => Ok(None),
            Accepted::Exhausted(error) => self.sit_out(&error).map(|()| None),
            Accepted::Broken(error) => Err(error),
        }
    }

    /// For want of descriptors or memory: no spinning, and one line an episode.
    fn sit_out(&mut self, error: &io::Error) -> io::Result<()> {
        const SHORTEST: Duration = Duration::from_millis(10);
        const LONGEST: Duration = Duration::from_secs(1);
        let pause = match self.shortage {
            Some(pause) => pause.saturating_mul(2).min(LONGEST),
            None => {
                complain!("cannot accept for now: {error}");
                SHORTEST
            }
        };
        self.shortage = Some(pause);
        self.comm.pause(pause)
    }

    fn handle(&mut self, connection: OwnedFd) {
        self.say(Comm::busy);
        // The best guess at how long it will take is how long the last one took.
        if self.long {
            self.comm.stand_aside();
        }
        let began = self.comm.now();
        self.service.requests_handled += 1;
        let conn = Conn::new(
            connection,
            self.comm.share(),
            self.service.requests_handled,
            self.service.first_wait,
        );
        match (self.handler)(conn) {
            Ok(()) => {}
            // Clients come and go; that is no news.
            Err(error) if is_the_clients(&error) => log::debug!("connection ended: {error}"),
            Err(error) => complain!("connection failed: {error}"),
        }
        self.long = self.comm.now().since(began) >= Self::LONG;
    }

    /// A word that cannot be said is no reason to drop a client: if it is because the parent is
    /// gone, the next wait tells.
    fn say(&self, word: impl FnOnce(&Comm) -> io::Result<()>) {
        if let Err(error) = word(self.comm) {
            log::debug!("the parent cannot be reached: {error}");
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof
    )
}

/// The setters and getters that the stock servers have in common.
macro_rules! common_attributes {
    ($stream:ty) => {
        /// How many connections a child takes before it leaves and is replaced. Default: 25;
        /// 0 means no limit.
        #[must_use]
        pub fn max_requests(mut self, connections: u64) -> Self {
            self.service.max_requests = connections;
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
            self.service.requests_handled
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
