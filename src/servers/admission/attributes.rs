//! The attributes of a server that say which clients it admits, as a program sets them. Admits nobody.

use crate::{
    core::access::Access,
    listeners::Listener,
    servers::{
        conn::{Conn, Stream},
        stream::StreamServer,
    },
};
use std::{io, rc::Rc, time::Duration};

/// Which clients the server admits.
impl<L: Listener<Stream: Stream>> StreamServer<L> {
    /// Whether to ask the kernel how long each connection was queued.
    ///
    /// [`Conn::queued_for`] then tells it. Default: false.
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

    /// How many connections of one client may be in hand at the same time.
    ///
    /// Default, and 0: no limit.
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

    /// How many bits of an address name a client: of IPv4, and of IPv6.
    ///
    /// It is for [`max_per_peer`](Self::max_per_peer). Default: 32 and 64, which are the most;
    /// larger numbers count as these.
    #[must_use]
    pub fn peer_prefix(mut self, v4: u8, v6: u8) -> Self {
        self.admission.peers.set_prefix(v4, v6);
        self
    }

    /// How many bits of an address name a client: of IPv4, and of IPv6.
    pub fn get_peer_prefix(&self) -> (u8, u8) {
        (self.admission.peers.v4, self.admission.peers.v6)
    }

    /// How long a connection may have been queued: older ones are not served.
    ///
    /// Default: no limit.
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

    /// The age that connections should have at most in a lasting overload.
    ///
    /// It needs a [`max_queue_age`](Self::max_queue_age). Default: a tenth of that, but at least 20
    /// ms.
    ///
    /// Zero turns this off: then connections are too old from `max_queue_age` on, and only then.
    /// The kernel counts in ticks, mostly of 4 ms, so a target below 10 ms is of little use.
    #[must_use]
    pub fn queue_target(mut self, target: Duration) -> Self {
        self.admission.queue_target = Some(target);
        self
    }

    /// The age that connections should have at most in a lasting overload.
    ///
    /// `None` if it was not set.
    pub fn get_queue_target(&self) -> Option<Duration> {
        self.admission.queue_target
    }

    /// Calls `hook` with each connection that was queued for too long.
    ///
    /// The hook gets its time in the queue, too. Default: the connection is closed.
    ///
    /// It runs in the child, which has not said BUSY for it and does not count it. While it runs
    /// the child serves no client, so it should not wait for the client:
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
