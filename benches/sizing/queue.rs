//! A simulation of machines with children behind one balancer, event by event: what no formula says.
//! Knows no real process and no clock.

use super::erlang::Load;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

/// How long connections keep a child.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Service {
    /// All as long.
    Constant,
    /// As the formulas have it: short ones are frequent, long ones are rare.
    Exponential,
    /// One in ten takes ten times as long as the others.
    Mixed,
}

impl Service {
    /// How long one takes of which the mean is one.
    fn draw(self, random: &mut Random) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Exponential => random.exponential(),
            // 0.9 × short + 0.1 × 10 × short = 1.
            Self::Mixed => match random.unit() < 0.1 {
                true => 10.0 / 1.9,
                false => 1.0 / 1.9,
            },
        }
    }
}

/// Which machine gets a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Balancer {
    /// It waits in the balancer for the first child that is free anywhere.
    HoldsTheQueue,
    /// The machine with the fewest connections.
    LeastConnections,
    /// Any.
    Random,
}

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    pub(crate) load: Load,
    pub(crate) machines: usize,
    /// On each machine.
    pub(crate) children: usize,
    pub(crate) service: Service,
    pub(crate) balancer: Balancer,
}

/// How long clients waited, in seconds.
#[derive(Debug)]
pub(crate) struct Waits(Vec<f64>);

impl Waits {
    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The wait that a share of the clients stayed below.
    pub(crate) fn quantile(&mut self, share: f64) -> f64 {
        let at = (self.0.len() as f64 * share) as usize;
        let at = at.min(self.0.len() - 1);
        *self.0.select_nth_unstable_by(at, f64::total_cmp).1
    }
}

impl Model {
    /// Lets so many clients come, after half as many that fill the queues.
    pub(crate) fn run(self, clients: usize) -> Waits {
        let mut random = Random(7);
        let mut pool = Pool::new(self);
        let warm_up = clients / 2;
        let mut now = 0.0;
        let mut waits = Vec::with_capacity(clients);
        for client in 0..warm_up + clients {
            now += random.exponential() / self.load.rate;
            let machine = pool.choose(now, &mut random);
            let service = self.load.service * self.service.draw(&mut random);
            let wait = pool.serve(machine, now, service);
            if client >= warm_up {
                waits.push(wait);
            }
        }
        Waits(waits)
    }
}

/// A moment in seconds that can be ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment(f64);

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The machines: each serves in order of arrival.
struct Pool {
    balancer: Balancer,
    /// For each machine, when each of its children is free again.
    free_at: Vec<BinaryHeap<Reverse<Moment>>>,
    /// When a connection ends, and where.
    ends: BinaryHeap<Reverse<(Moment, usize)>>,
    in_hand: Vec<usize>,
    /// The machines by their connections, for the balancer that counts those.
    by_connections: BTreeSet<(usize, usize)>,
}

impl Pool {
    fn new(model: Model) -> Self {
        // One queue for all of them is one large machine.
        let (machines, children) = match model.balancer {
            Balancer::HoldsTheQueue => (1, model.machines * model.children),
            _ => (model.machines, model.children),
        };
        let free = || (0..children).map(|_| Reverse(Moment(0.0))).collect();
        Self {
            balancer: model.balancer,
            free_at: (0..machines).map(|_| free()).collect(),
            ends: BinaryHeap::new(),
            in_hand: vec![0; machines],
            by_connections: (0..machines).map(|machine| (0, machine)).collect(),
        }
    }

    fn choose(&mut self, now: f64, random: &mut Random) -> usize {
        match self.balancer {
            Balancer::HoldsTheQueue => 0,
            Balancer::Random => (random.unit() * self.free_at.len() as f64) as usize,
            Balancer::LeastConnections => {
                self.end_until(now);
                let first = self.by_connections.first();
                first.map_or(0, |&(_, machine)| machine)
            }
        }
    }

    /// Notes the connections that have ended.
    fn end_until(&mut self, now: f64) {
        while let Some(&Reverse((Moment(end), machine))) = self.ends.peek()
            && end <= now
        {
            self.ends.pop();
            self.count(machine, |connections| connections - 1);
        }
    }

    fn count(&mut self, machine: usize, change: impl FnOnce(usize) -> usize) {
        let connections = self.in_hand[machine];
        self.by_connections.remove(&(connections, machine));
        self.in_hand[machine] = change(connections);
        self.by_connections.insert((self.in_hand[machine], machine));
    }

    /// Gives a connection to a machine, and returns how long it waits there.
    fn serve(&mut self, machine: usize, now: f64, service: f64) -> f64 {
        let free_at = &mut self.free_at[machine];
        let first = free_at.pop().map_or(now, |Reverse(Moment(first))| first);
        let begin = first.max(now);
        let end = Moment(begin + service);
        free_at.push(Reverse(end));
        if self.balancer == Balancer::LeastConnections {
            self.ends.push(Reverse((end, machine)));
            self.count(machine, |connections| connections + 1);
        }
        begin - now
    }
}

/// The same numbers for the same seed everywhere (SplitMix64).
struct Random(u64);

impl Random {
    /// At least 0 and less than 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// With the mean 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}
