//! A pool of children under more load than it can serve, in simulated time: how many clients get
//! their answer before they give up, with the rules of `shedding` and without.

use super::{
    queue_log::QueueLook,
    shedding::{AgeLimits, Shedding},
    sweep::Sweep,
};
use crate::core::{random::Random, time::Time};
use std::{collections::VecDeque, time::Duration};

const CHILDREN: usize = 20;
/// How long a child takes for a connection, and to refuse one.
const WORK: Duration = Duration::from_millis(10);
const REFUSAL: Duration = Duration::from_micros(25);
/// Clients give up after this time.
const PATIENCE: Duration = Duration::from_millis(500);
/// The kernel counts ages in ticks.
const TICK: Duration = Duration::from_millis(4);
const BACKLOG: usize = 4096;
/// Connections a second.
const CAPACITY: u64 = 2_000;
const SECOND: Duration = Duration::from_secs(1);

/// What has become of the connections of one second, by the time at which a child took them.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    /// Answered in time.
    good: u64,
    /// Answered when the client had given up.
    late: u64,
    refused: u64,
    /// The longest time in the queue of those that were answered.
    oldest: Duration,
}

struct PoolChild {
    free_at: Time,
    shedding: Option<Shedding>,
}

/// A child that only refuses, beside the others.
struct Reserved {
    looks_at: Time,
    every: Duration,
    sweep: Sweep,
}

struct OverloadWorld {
    random: Random,
    children: Vec<PoolChild>,
    reserved: Option<Reserved>,
    taken: u64,
    queue: VecDeque<Time>,
    next_arrival: Time,
    /// The load of each second, in tenths of the capacity.
    loads: Vec<u64>,
    seconds: Vec<Second>,
}

impl OverloadWorld {
    fn new(limits: Option<AgeLimits>, loads: Vec<u64>) -> Self {
        let child = |number| PoolChild {
            free_at: Time::at(WORK * number as u32 / CHILDREN as u32),
            shedding: limits.map(Shedding::new),
        };
        Self {
            random: Random::new(16),
            children: (0..CHILDREN).map(child).collect(),
            reserved: None,
            taken: 0,
            queue: VecDeque::new(),
            next_arrival: Time::START,
            seconds: vec![Second::default(); loads.len()],
            loads,
        }
    }

    fn with_reserved(mut self, limits: AgeLimits) -> Self {
        self.reserved = Some(Reserved {
            looks_at: Time::START,
            every: limits.look_every(),
            sweep: Sweep::new(limits),
        });
        self
    }

    fn run(mut self) -> Vec<Second> {
        while let Some(number) = self.next_free() {
            let now = self.children[number].free_at;
            self.sweep_until(now);
            self.arrive_until(now);
            match self.queue.pop_front() {
                Some(arrived) => self.take(number, arrived),
                // It waits for the next one.
                None => self.children[number].free_at = self.next_arrival,
            }
        }
        self.seconds
    }

    /// The child that is free next, until the last second is over.
    fn next_free(&self) -> Option<usize> {
        let end = Time::at(SECOND * self.loads.len() as u32);
        let children = self.children.iter().enumerate();
        let (number, child) = children.min_by_key(|(_, child)| child.free_at)?;
        (child.free_at < end).then_some(number)
    }

    fn arrive_until(&mut self, now: Time) {
        while self.next_arrival <= now {
            if self.queue.len() < BACKLOG {
                self.queue.push_back(self.next_arrival);
            }
            let load = self.loads[second_of(self.next_arrival).min(self.loads.len() - 1)];
            let mean = 10_000_000_000 / (load * CAPACITY);
            let gap = self.random.below(2 * mean);
            self.next_arrival = self.next_arrival + Duration::from_nanos(gap);
        }
    }

    /// The looks of the reserved child before `now`.
    fn sweep_until(&mut self, now: Time) {
        while let Some(mut reserved) = self.reserved.take_if(|it| it.looks_at <= now) {
            let at = reserved.looks_at;
            self.arrive_until(at);
            let (taken, queued) = (self.taken, self.queue.len() as u32);
            reserved.sweep.note(QueueLook { at, taken, queued });
            let mut busy = Duration::ZERO;
            while reserved.sweep.takes_next(self.taken, at) {
                let arrived = self.queue.pop_front().expect("who is known to be there");
                let age = at.since(arrived);
                assert!(!reserved.sweep.is_young(age, at), "{age:?}");
                self.seconds[second_of(at)].refused += 1;
                self.taken += 1;
                busy += REFUSAL;
            }
            reserved.looks_at = at + reserved.every + busy;
            self.reserved = Some(reserved);
        }
    }

    fn take(&mut self, number: usize, arrived: Time) {
        self.taken += 1;
        let child = &mut self.children[number];
        let (now, age) = (child.free_at, child.free_at.since(arrived));
        let ticks = age.as_nanos() / TICK.as_nanos();
        let told = TICK * ticks as u32;
        let shedding = child.shedding.as_mut();
        let refused = shedding.is_some_and(|shedding| shedding.is_too_old(told, now));
        child.free_at = now + if refused { REFUSAL } else { WORK };
        let second = &mut self.seconds[second_of(now)];
        if refused {
            second.refused += 1;
        } else {
            second.oldest = second.oldest.max(age);
            let in_time = age + WORK <= PATIENCE;
            *if in_time {
                &mut second.good
            } else {
                &mut second.late
            } += 1;
        }
    }
}

fn second_of(time: Time) -> usize {
    time.since_start().as_secs() as usize
}

fn limits(max: u64, target: Option<u64>) -> Option<AgeLimits> {
    let target = target.map(Duration::from_millis);
    Some(AgeLimits::new(Duration::from_millis(max), target))
}

/// The last of ten seconds at a constant load, in tenths of the capacity.
fn tenth_second(limits: Option<AgeLimits>, load: u64) -> Second {
    OverloadWorld::new(limits, vec![load; 10]).run()[9]
}

/// The same with a reserved child.
fn tenth_second_with_reserved(limits: AgeLimits, load: u64) -> Second {
    let world = OverloadWorld::new(Some(limits), vec![load; 10]);
    world.with_reserved(limits).run()[9]
}

/// What was measured on real processes (docs/measurements.md, overload): which rule, at which load in
/// tenths of the capacity, how many per cent of the capacity were answered in time. The controlled
/// delay at the highest load is of a run in which the server had priority: processors that clients
/// take away are not simulated.
const MEASURED: [(&str, u64, u64); 9] = [
    ("in order", 15, 0),
    ("in order", 30, 0),
    ("in order", 100, 0),
    ("controlled", 15, 99),
    ("controlled", 30, 95),
    ("controlled", 100, 97),
    ("reserved", 15, 101),
    ("reserved", 30, 101),
    ("reserved", 100, 98),
];

#[test]
fn the_simulation_agrees_with_what_was_measured() {
    for (rule, load, measured) in MEASURED {
        let usual = AgeLimits::new(Duration::from_millis(100), None);
        let second = match rule {
            "in order" => tenth_second(None, load),
            "controlled" => tenth_second(Some(usual), load),
            _ => tenth_second_with_reserved(usual, load),
        };
        let simulated = second.good * 100 / CAPACITY;
        println!("{rule}, {load}: {simulated} % simulated, {measured} % measured");
        assert!(
            simulated.abs_diff(measured) <= 5,
            "{rule}, {load}: {second:?}"
        );
    }
}

/// Those who serve then find no client that is too old, and their clients have waited for less.
#[test]
fn a_reserved_child_leaves_the_others_nobody_to_refuse() {
    let limits = AgeLimits::new(Duration::from_millis(400), None);
    for load in [15, 30, 100] {
        let alone = tenth_second(Some(limits), load);
        let helped = tenth_second_with_reserved(limits, load);
        assert!(helped.good >= alone.good, "{load}: {alone:?}, {helped:?}");
        assert!(helped.good * 100 >= CAPACITY * 99, "{load}: {helped:?}");
        let most = limits.target * 2 + TICK;
        assert!(helped.oldest <= most, "{load}: {helped:?}");
    }
}

#[test]
fn in_order_nobody_is_answered_in_time() {
    let second = tenth_second(None, 15);
    assert_eq!(second.good, 0, "{second:?}");
    assert!(second.late > CAPACITY * 99 / 100, "{second:?}");
}

/// With a plain limit, and with a controlled delay, from a load of 1.5 to 10 times the capacity.
#[test]
fn by_age_nearly_as_many_as_there_can_be_are_answered() {
    for limits in [limits(100, Some(0)), limits(100, None), limits(400, None)] {
        for load in [15, 30, 100] {
            let second = tenth_second(limits, load);
            assert!(
                second.good * 100 >= CAPACITY * 95,
                "{limits:?}, {load}: {second:?}"
            );
            assert_eq!(second.late, 0, "{limits:?}, {load}: {second:?}");
        }
    }
}

/// Where the queue stands, the controlled delay keeps it short.
#[test]
fn who_is_served_has_waited_for_twice_the_target_at_most() {
    let second = tenth_second(limits(400, Some(20)), 15);
    assert!(
        second.oldest <= Duration::from_millis(40) + TICK,
        "{second:?}"
    );
    let plain = tenth_second(limits(400, Some(0)), 15);
    assert!(plain.oldest > Duration::from_millis(300), "{plain:?}");
}

#[test]
fn below_the_capacity_nobody_is_refused() {
    for limits in [limits(100, Some(0)), limits(100, None), limits(400, None)] {
        for load in [1, 5, 9] {
            let seconds = OverloadWorld::new(limits, vec![load; 10]).run();
            let reserved = limits.map(|limits| {
                let world = OverloadWorld::new(Some(limits), vec![load; 10]);
                world.with_reserved(limits).run()
            });
            for seconds in [Some(seconds), reserved].into_iter().flatten() {
                let refused = seconds.iter().filter(|second| second.refused > 0);
                assert_eq!(refused.count(), 0, "{seconds:?}");
            }
        }
    }
}

/// In order, the clients of the burst are still served when they have given up long ago.
#[test]
fn after_the_load_has_dropped_all_is_as_before_within_a_second() {
    let loads = [vec![100; 5], vec![5; 5]].concat();
    let seconds = OverloadWorld::new(limits(100, None), loads.clone()).run();
    assert!(seconds[4].refused > CAPACITY, "{seconds:?}");
    for second in &seconds[6..] {
        assert_eq!((second.refused, second.late), (0, 0), "{seconds:?}");
        assert!(second.good * 100 >= CAPACITY * 45, "{seconds:?}");
    }
    let in_order = OverloadWorld::new(None, loads).run();
    assert_eq!(in_order[6].good, 0, "{in_order:?}");
}
