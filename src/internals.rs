//! The pure core and the counters, for the micro-benchmarks: wrappers, so that nothing else has to be
//! public. Adds nothing of its own, and is no part of the interface.

#![allow(
    missing_docs,
    reason = "behind the feature `bench-internals`, and not in the documentation"
)]

use crate::{
    core::{
        child::{ChildId, State},
        config::{Attributes, Config},
        pool::{self, Demand, ForkPlan, Pool},
        time::Time,
        wire::{self, CommWords, Output},
    },
    sys::{
        board::{Board, BoardSlot},
        title::ChildTitle,
    },
};
use std::{
    io,
    net::{SocketAddr, TcpStream},
    num::NonZeroU64,
    time::Duration,
};

/// Lets this thread count as that of a child does which serves.
pub fn count_as_a_child() {
    crate::sys::cells::enter_nowhere();
}

/// How long the kernel says that a connection was queued.
pub fn time_in_queue(connection: &TcpStream) -> Option<Duration> {
    crate::sys::tcp_info::time_in_queue(connection)
}

/// The title of a child, as it shows it in ps for each connection.
#[derive(Debug)]
pub struct Title(ChildTitle);

impl Title {
    pub fn new(name: &str) -> Self {
        Self(ChildTitle::new(name))
    }

    /// One connection begins and ends.
    pub fn change(&self, peer: SocketAddr) {
        self.0.begin(Some(peer));
        self.0.free();
    }
}

#[derive(Debug)]
pub struct Framer(wire::Framer);

impl Framer {
    pub fn new(words: Option<CommWords>) -> Self {
        Self(wire::Framer::new(words))
    }

    pub fn feed(&mut self, bytes: &[u8], emit: impl FnMut(Output<'_>)) {
        self.0.feed(bytes, emit);
    }
}

/// So many children, of which one in eight is starting, four are free, two busy and one retiring.
#[derive(Debug)]
pub struct Crowd {
    pool: Pool,
    attributes: Attributes,
}

impl Crowd {
    pub fn new(children: usize) -> Self {
        use State::{Busy, Free, Retiring, Starting};
        const STATES: [State; 8] = [Free, Busy, Free, Starting, Free, Busy, Free, Retiring];
        let mut pool = Pool::default();
        for (number, state) in STATES.into_iter().cycle().take(children).enumerate() {
            let born = Time::at(Duration::from_millis(number as u64));
            let id = pool.insert(number as u32 + 1, born, Duration::ZERO, None);
            pool.set_state(id, state);
        }
        let config = Config::default().max_clients(children * 2);
        let attributes = Attributes::from(config.min_spare_servers(children));
        Self { pool, attributes }
    }

    /// How many live, by the census.
    pub fn census(&self) -> usize {
        self.pool.census().live()
    }

    /// How many forks the plan asks for.
    pub fn plan(&self, queued: usize) -> usize {
        let demand = Demand {
            queued,
            ..Demand::default()
        };
        match pool::plan(self.pool.census(), demand, &self.attributes) {
            ForkPlan::Fork(count) | ForkPlan::Retire(count) => count,
            ForkPlan::Steady => 0,
        }
    }

    pub fn oldest_free(&self, count: usize) -> Vec<ChildId> {
        self.pool.oldest_free(count)
    }

    /// The timeout check at the time `now`.
    pub fn overdue(&self, timeout: Duration, now: Time) -> (Vec<ChildId>, Vec<ChildId>) {
        self.pool.overdue(timeout, now, Duration::ZERO)
    }
}

/// So many children, each with a connection of another client.
#[allow(missing_debug_implementations, reason = "a slot has none")]
pub struct Claims {
    slots: Vec<BoardSlot>,
    _board: Board,
}

impl Claims {
    pub fn new(children: usize) -> io::Result<Self> {
        let mut board = Board::new(children, 0)?;
        let mut slot = |number: usize| {
            let child = ChildId::new(number as u32, 1);
            board.open(child);
            let slot = board.slot(child);
            slot.claim(NonZeroU64::MIN.saturating_add(number as u64 + 6));
            slot
        };
        Ok(Self {
            slots: (0..children).map(&mut slot).collect(),
            _board: board,
        })
    }

    /// The first child claims one more connection for a client, and counts.
    pub fn claim(&self, client: NonZeroU64) -> usize {
        self.slots.first().map_or(0, |slot| slot.claim(client))
    }
}
