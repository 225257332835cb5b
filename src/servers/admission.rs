//! Which connections a server admits, before its handler sees them: the attributes, and what a child
//! does with them. Measures and asks the rules of `core/accept`; serves nobody.

use super::{
    conn::{Conn, Stream},
    reserve::Reserve,
    stream::StreamServer,
    taken::{TakenCounters, Taking},
};
use crate::{
    core::{
        accept::{
            peers::PeerLimit,
            refusal::{Refusal, Refusals},
            shedding::{AgeLimits, Shedding},
        },
        access::Access,
        time::Time,
    },
    hooks::comm::Comm,
    listeners::Listener,
    sys::{accept::Newcomer, credentials, tally::Tally},
};
use std::{fmt, io, os::fd::AsFd, rc::Rc, time::Duration};

/// What is done with a connection that was queued for too long, given its time in the queue.
pub(super) type Overloaded<S> = Box<dyn FnMut(Conn<S>, Duration) -> io::Result<()>>;

/// The attributes of a server that say which clients it admits.
pub(super) struct AdmissionRules<S> {
    queue_time: bool,
    max_queue_age: Option<Duration>,
    queue_target: Option<Duration>,
    overloaded: Option<Overloaded<S>>,
    access: Rc<Access>,
    peers: PeerLimit,
    /// What children have refused, once the server is started.
    tally: Option<Rc<RefusalCounters>>,
    /// What children have taken from the queues, once the server is started.
    taken: Option<Rc<TakenCounters>>,
    /// What a reserved child needs, if there may be one.
    reserve: Option<Rc<Reserve>>,
}

/// A counter for each [`Refusal`].
type RefusalCounters = Tally<{ Refusal::ALL.len() }>;

impl<S> Default for AdmissionRules<S> {
    fn default() -> Self {
        Self {
            queue_time: false,
            max_queue_age: None,
            queue_target: None,
            overloaded: None,
            access: Rc::default(),
            peers: PeerLimit::default(),
            tally: None,
            taken: None,
            reserve: None,
        }
    }
}

impl<S> AdmissionRules<S> {
    /// Prepares the counters, in the parent.
    pub(super) fn start(&mut self) -> io::Result<()> {
        if self.tally.is_none() {
            self.tally = Some(Rc::new(Tally::new()?));
        }
        let taken = match self.taken.take() {
            Some(taken) => taken,
            None => Rc::new(TakenCounters::new()?),
        };
        if cfg!(target_os = "linux") && self.limits().is_some() {
            self.reserve = Some(Rc::new(Reserve::new(&taken)?));
        }
        self.taken = Some(taken);
        Ok(())
    }

    /// How many connections children have taken from each of so many queues, if they are counted.
    pub(super) fn taken(&self, queues: usize) -> Vec<Option<u64>> {
        let taken = |queue| self.taken.as_ref()?.from(queue);
        (0..queues).map(taken).collect()
    }

    /// What a reserved child needs; `None` if the server had no limit of age when it was started.
    pub(super) fn reserve(&self) -> Option<&Rc<Reserve>> {
        self.reserve.as_ref()
    }

    fn limits(&self) -> Option<AgeLimits> {
        let max = self.max_queue_age.filter(|max| !max.is_zero());
        max.map(|max| AgeLimits::new(max, self.queue_target))
    }

    /// What children have refused.
    pub(super) fn refusals(&self) -> Refusals {
        let counts = self.tally.as_ref().map(|tally| tally.read());
        counts.map_or_else(Refusals::default, Refusals::new)
    }

    /// For a child that accepts on that many sockets.
    pub(super) fn for_child(&mut self, sockets: usize) -> Admission<S> {
        let limits = self.limits();
        let shedding = |_| limits.map(Shedding::new);
        Admission {
            measures: self.queue_time || limits.is_some(),
            limits,
            taking: self.taken.as_ref().map(Taking::new),
            shedding: (0..sockets).filter_map(shedding).collect(),
            overloaded: self.overloaded.take(),
            access: Rc::clone(&self.access),
            peers: self.peers,
            tally: self.tally.clone(),
        }
    }
}

impl<S> fmt::Debug for AdmissionRules<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionRules")
            .field("queue_time", &self.queue_time)
            .field("max_queue_age", &self.max_queue_age)
            .field("queue_target", &self.queue_target)
            .finish_non_exhaustive()
    }
}

/// The rules in a child.
pub(super) struct Admission<S> {
    measures: bool,
    limits: Option<AgeLimits>,
    taking: Option<Taking>,
    /// One for each listener, if there is a limit: each has a queue of its own.
    shedding: Vec<Shedding>,
    overloaded: Option<Overloaded<S>>,
    access: Rc<Access>,
    peers: PeerLimit,
    tally: Option<Rc<RefusalCounters>>,
}

impl<S: Stream> Admission<S> {
    /// How old connections may be, if there is a limit.
    pub(super) fn limits(&self) -> Option<AgeLimits> {
        self.limits
    }

    /// Counts a connection that was taken from the queue of that listener.
    pub(super) fn count_taken(&self, listener: usize) {
        if let Some(taking) = &self.taking {
            taking.count(listener);
        }
    }

    /// Notes how long a connection was queued, if that is asked for.
    pub(super) fn measure(&self, kind: &impl Listener, connection: &mut Newcomer) {
        if self.measures {
            connection.queued = kind.time_in_queue(connection.stream.as_fd());
        }
    }

    /// Why a connection from the listener of that number is not to be served, if so.
    pub(super) fn refusal(
        &mut self,
        listener: usize,
        connection: &Newcomer,
        comm: &Comm,
    ) -> Option<Refusal> {
        if !self.admits(connection) {
            return Some(Refusal::Denied);
        }
        if self.is_too_old(listener, connection, || comm.now()) {
            return Some(Refusal::TooOld);
        }
        let client = self.peers.key(connection.remote?.ip())?;
        let too_many = self.peers.is_exceeded(comm.claim(client));
        too_many.then_some(Refusal::TooMany)
    }

    fn is_too_old(
        &mut self,
        listener: usize,
        connection: &Newcomer,
        now: impl FnOnce() -> Time,
    ) -> bool {
        match (self.shedding.get_mut(listener), connection.queued) {
            (Some(shedding), Some(age)) => shedding.is_too_old(age, now()),
            _ => false,
        }
    }

    fn admits(&self, connection: &Newcomer) -> bool {
        let address = connection.remote.map(|address| address.ip());
        self.access.admits_address(address)
            && (!self.access.asks_for_users() || self.access.admits_user(ids(connection)))
    }

    /// Counts a connection that is not served.
    pub(super) fn count(&self, refusal: Refusal) {
        if let Some(tally) = &self.tally {
            tally.add_one(refusal as usize);
        }
    }

    /// Hands a connection that is too old to the hook. Without one it is closed.
    pub(super) fn shed(&mut self, conn: Conn<S>) -> io::Result<()> {
        let age = conn.queued_for().unwrap_or_default();
        match &mut self.overloaded {
            Some(overloaded) => overloaded(conn, age),
            None => Ok(()),
        }
    }
}

/// The user and the group of the process at the other end of a UNIX socket.
fn ids(connection: &Newcomer) -> Option<(u32, u32)> {
    let found = credentials::of_peer(&connection.stream).ok()?;
    Some((found.1, found.2))
}

/// Which clients the server admits.
impl<L: Listener<Stream: Stream>> StreamServer<L> {
    /// Whether to ask the kernel how long each connection was queued, for
    /// [`Conn::queued_for`]. Default: false.
    ///
    /// It costs a system call for each connection, less than a microsecond.
    #[must_use]
    pub fn queue_time(mut self, on: bool) -> Self {
        self.admission.queue_time = on;
        self
    }

    /// Whether the kernel is asked how long each connection was queued.
    pub fn get_queue_time(&self) -> bool {
        self.admission.queue_time
    }

    /// Which clients may connect. Default: all.
    ///
    /// A connection of another client is closed by the child that takes it, before the handler sees
    /// it, and [counted](crate::Report::refusals).
    ///
    /// ```
    /// # use prefork_server::{TcpServer, servers::Access};
    /// let office = Access::new().allow("192.0.2.0/24".parse()?);
    /// let server = TcpServer::new(|conn| Ok(())).access(office);
    /// # let _ = server;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.set_access(access);
        self
    }

    /// Like [`access`](Self::access), for a running server.
    ///
    /// Applies to children that are forked from then on; a
    /// [reload](crate::Monitor::reload) replaces the others.
    pub fn set_access(&mut self, access: Access) {
        self.admission.access = Rc::new(access);
    }

    /// Which clients may connect.
    pub fn get_access(&self) -> &Access {
        &self.admission.access
    }

    /// How many connections of one client may be in hand at the same time. Default, and 0: no limit.
    ///
    /// A child that takes one more closes it before the handler sees it, and it is
    /// [counted](crate::Report::refusals). The limit holds for all children together, from what they
    /// note in shared memory, at a microsecond for each connection; children that are forked beyond
    /// the `max_clients` of the start are not counted.
    ///
    /// The limit is never exceeded. At the limit it may be too strict for a moment: of two
    /// connections that are taken at the same time and of which one would fit, both may be closed;
    /// and a connection counts until its child has ended it, also if the client has gone. Clients
    /// that stay below the limit notice nothing.
    ///
    /// A client is an address, or all that share the bits of [`peer_prefix`](Self::peer_prefix). It
    /// is the address that the connection comes from: behind a proxy or a balancer that is the
    /// proxy's, also with a PROXY header, so set no limit there. Clients of UNIX sockets have none,
    /// and no limit.
    ///
    /// ```
    /// # use prefork_server::TcpServer;
    /// let server = TcpServer::new(|conn| Ok(())).max_per_peer(10).peer_prefix(32, 56);
    /// # let _ = server;
    /// ```
    #[must_use]
    pub fn max_per_peer(mut self, connections: usize) -> Self {
        self.set_max_per_peer(connections);
        self
    }

    /// Like [`max_per_peer`](Self::max_per_peer), for a running server.
    ///
    /// Applies to children that are forked from then on; a
    /// [reload](crate::Monitor::reload) replaces the others.
    pub fn set_max_per_peer(&mut self, connections: usize) {
        self.admission.peers.most = connections;
    }

    /// How many connections of one client may be in hand; 0 for no limit.
    pub fn get_max_per_peer(&self) -> usize {
        self.admission.peers.most
    }

    /// How many bits of an address name a client for [`max_per_peer`](Self::max_per_peer): of IPv4,
    /// and of IPv6. Default: 32 and 64, which are the most; larger numbers count as these.
    #[must_use]
    pub fn peer_prefix(mut self, v4: u8, v6: u8) -> Self {
        self.admission.peers.set_prefix(v4, v6);
        self
    }

    /// How many bits of an address name a client: of IPv4, and of IPv6.
    pub fn get_peer_prefix(&self) -> (u8, u8) {
        (self.admission.peers.v4, self.admission.peers.v6)
    }

    /// How long a connection may have been queued: older ones are not served. Default: no limit.
    ///
    /// A server that gets more connections than it can serve has a queue that grows. It serves them
    /// in order, so soon each client has given up before its turn comes, and no work is of use to
    /// anybody. With a limit, the child that takes a connection which is too old hands it to
    /// [`overloaded`](Self::overloaded), and takes the next one: nearly as many clients are served
    /// in time as the children can serve, and the others learn at once that they are not.
    ///
    /// Set it to what clients wait for without complaint, less than their timeout. Zero: no limit.
    ///
    /// While the queue stands, that is, while for 100 ms no connection has been younger than the
    /// [target](Self::queue_target), connections are too old from twice the target on. So a burst
    /// is served to its end, and a lasting overload does not make each client wait for the whole
    /// limit.
    ///
    /// The age is what the kernel knows (Linux, TCP). Of unknown age, and so never too old, are
    /// connections of UNIX sockets; a reserved child takes none of these.
    #[must_use]
    pub fn max_queue_age(mut self, age: Duration) -> Self {
        self.set_max_queue_age(Some(age));
        self
    }

    /// Like [`max_queue_age`](Self::max_queue_age), for a running server.
    ///
    /// Applies to children that are forked from then on.
    pub fn set_max_queue_age(&mut self, age: Option<Duration>) {
        self.admission.max_queue_age = age;
    }

    /// How long a connection may have been queued, if there is a limit.
    pub fn get_max_queue_age(&self) -> Option<Duration> {
        self.admission.max_queue_age
    }

    /// The age that connections should have at most in a lasting overload; needs a
    /// [`max_queue_age`](Self::max_queue_age). Default: a tenth of that, but at least 20 ms.
    ///
    /// Zero turns this off: then connections are too old from `max_queue_age` on, and only then.
    /// The kernel counts in ticks, mostly of 4 ms, so a target below 10 ms is of little use.
    #[must_use]
    pub fn queue_target(mut self, target: Duration) -> Self {
        self.admission.queue_target = Some(target);
        self
    }

    /// The age that connections should have at most in a lasting overload, if it was set.
    pub fn get_queue_target(&self) -> Option<Duration> {
        self.admission.queue_target
    }

    /// Calls `hook` with each connection that was queued for too long, and with its time in the
    /// queue. Default: the connection is closed.
    ///
    /// It runs in the child, which has not said BUSY for it and does not count it. While it runs
    /// the child serves nobody, so it should not wait for the client:
    /// [`Reply`](crate::servers::Reply) does not.
    ///
    /// ```
    /// # use prefork_server::{TcpServer, servers::Reply};
    /// # use std::time::Duration;
    /// let server = TcpServer::new(|conn| Ok(()))
    ///     .max_queue_age(Duration::from_millis(500))
    ///     .overloaded(Reply::http_503(Duration::from_secs(5)).into_hook());
    /// # let _ = server;
    /// ```
    ///
    /// # Errors
    ///
    /// What the hook returns is treated as an error of the handler.
    #[must_use]
    pub fn overloaded(
        mut self,
        hook: impl FnMut(Conn<L::Stream>, Duration) -> io::Result<()> + 'static,
    ) -> Self {
        self.admission.overloaded = Some(Box::new(hook));
        self
    }
}
