//! Which connections a server admits, before its handler sees them: the rules, and what a child does
//! with them. Measures and asks the rules of `core/accept`; serves no client.

mod attributes;

use super::{
    conn::{Conn, Stream},
    reserve::Reserve,
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
