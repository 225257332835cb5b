//! A long random walk: everything that can happen to the monitor, in any order, with a check of all
//! invariants after each step.

mod invariants;
mod steps;
mod wild;

use self::wild::Wild;
use super::*;
use crate::{
    core::{
        child::{ChildFlags, State, WaitStatus},
        error::Operation,
        queue::Task,
        testing::{at, ended_by_signal, exit_code, ms, sized},
        wire::{Output, Word},
    },
    hooks::{PreForkHooks, defaults},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

/// Knuth's MMIX generator: a walk is repeated by its seed.
struct WalkRandom(u64);

impl WalkRandom {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// The signals that a child was sent.
#[derive(Debug, Default)]
struct SignalsSent {
    interrupts: u32,
    kills: u32,
}

impl SignalsSent {
    fn count(&mut self, signal: Signal) {
        match signal {
            Signal::Interrupt => self.interrupts += 1,
            Signal::Kill => self.kills += 1,
            _ => {}
        }
    }
}

/// The walk's model: the processes, the loop, a clock.
struct Walk {
    random: WalkRandom,
    hooks: Wild,
    monitor: Monitor,
    now: u64,
    processes: BTreeMap<ChildId, SignalsSent>,
    /// Every name that a child has had.
    names: BTreeSet<ChildId>,
    next_pid: u32,
    shutdowns: u32,
    deaths: u64,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut monitor = sized(1, 3, 5, 12);
        monitor.set_timeout(ms(2000));
        monitor.delay_set("server_timeout_check", ms(3000));
        Self {
            random: WalkRandom(seed),
            hooks: Wild {
                random: WalkRandom(!seed),
                behaved: false,
            },
            monitor,
            now: 0,
            processes: BTreeMap::new(),
            names: BTreeSet::new(),
            next_pid: 100,
            shutdowns: 0,
            deaths: 0,
        }
    }

    /// Any child, and rarely the name of a child that was reaped.
    fn someone(&mut self) -> Option<ChildId> {
        let names: Vec<_> = if self.random.one_in(40) {
            self.names.iter().copied().collect()
        } else {
            self.processes.keys().copied().collect()
        };
        (!names.is_empty()).then(|| self.random.of(&names))
    }

    fn step(&mut self) {
        let live = self.monitor.pool.len();
        match self.random.below(20) {
            0..=3 => {
                self.now += self.random.of(&[0, 1, 30, 200, 700, 2500, 12_000]);
                let gap = if self.random.one_in(30) { 500 } else { 0 };
                self.monitor.tick(at(self.now), ms(gap));
            }
            4..=10 => self.say_something(),
            11 | 12 => self.end_someone(),
            13 => self.close_an_output(),
            14 => self.set_something(),
            15 => self.fail_somehow(),
            _ => self.ask_for_something(),
        }
        self.turn();
        self.check();
        let allowed = self.monitor.max_clients().max(live);
        assert!(self.monitor.pool.len() <= allowed, "more than max_clients");
    }

    /// What the loop does between two waits.
    fn turn(&mut self) {
        let _ = self.monitor.replacement_step();
        self.monitor.fire_due();
        let due = self.monitor.deadline();
        assert!(
            due.is_none_or(|due| due > self.monitor.now()),
            "due at {due:?} and not done at {}",
            self.monitor.now()
        );
        for _ in 0..200 {
            let Some(task) = self.monitor.queue.pop() else {
                return;
            };
            self.perform(task);
        }
        panic!("the queue does not come to its end");
    }

    fn perform(&mut self, task: Task) {
        let (hooks, monitor) = (&mut self.hooks, &mut self.monitor);
        match task {
            Task::Posted(PostedState::Forkoff) => hooks.handler_forkoff(monitor),
            Task::Posted(PostedState::ServerFork) => hooks.handler_server_fork(monitor),
            Task::Posted(PostedState::ServerTimeoutCheck) => {
                hooks.handler_server_timeout_check(monitor)
            }
            Task::Posted(PostedState::Shutdown) => {
                if !monitor.is_shutdown() {
                    self.shutdowns += 1;
                    hooks.handler_shutdown(monitor);
                }
            }
            Task::Posted(PostedState::ReopenLogs) => hooks.reopen_logs(monitor),
            Task::ReopenChildren => {}
            Task::Posted(PostedState::Reload) => monitor.begin_reload(),
            Task::Posted(PostedState::Upgrade) => {}
            Task::Posted(PostedState::State(state)) => assert_eq!(state, "own"),
            Task::ReloadFailed(_) => {}
            Task::Fork => self.fork(),
            Task::Signal { child, signal } => {
                if let Some(sent) = self.processes.get_mut(&child) {
                    sent.count(signal);
                }
            }
            Task::Print { .. }
            | Task::Lead(_)
            | Task::Watch(_)
            | Task::Unwatch(_)
            | Task::AskStack(_)
            | Task::LookAtStack(_) => {
                panic!("{task:?}")
            }
        }
    }

    fn fork(&mut self) {
        if self.monitor.may_fork(0) {
            self.next_pid += 1;
            let child = self.monitor.forked(self.next_pid, None);
            assert!(self.names.insert(child), "{child} was given twice");
            self.processes.insert(child, SignalsSent::default());
        }
    }

    /// Hooks and children behave for some minutes: then the pool must be within its limits.
    fn settle(&mut self) {
        self.hooks.behaved = true;
        // With a limit of age there is no rest.
        self.monitor.set_max_lifetime(Duration::ZERO);
        self.monitor.post("forkoff");
        let end = self.now + 200_000;
        let pace = match self.monitor.timeout() {
            Duration::ZERO => 1000,
            timeout => u64::try_from(timeout.as_millis() / 2).unwrap(),
        };
        while self.now < end {
            self.turn();
            let children: Vec<_> = self.processes.keys().copied().collect();
            children.into_iter().for_each(|child| self.behave(child));
            let due = self.monitor.deadline().map_or(end, |due| {
                u64::try_from(due.since_start().as_millis()).unwrap()
            });
            self.now = due.clamp(self.now + 1, self.now + pace);
            self.monitor.tick(at(self.now), Duration::ZERO);
        }
        self.turn();
        self.check();
        self.hooks.behaved = false;
        self.check_limits();
    }

    /// A child that was told to stop does, and any other says that it is alive.
    fn behave(&mut self, child: ChildId) {
        let sent = &self.processes[&child];
        let leaves = sent.interrupts + sent.kills > 0;
        let closed = self.monitor.child(child).map(Child::reason);
        if leaves || closed == Some(Some(Reason::Closed)) {
            self.finish(child, exit_code(0));
        } else {
            self.monitor.set_unread(child, false);
            self.monitor.note_word_heard(child);
            let ack = Output::Word(Word::Ack);
            self.hooks.handler_server_ack(&mut self.monitor, child, ack);
        }
    }

    /// The pool is within its limits, or empty after a shutdown.
    fn check_limits(&self) {
        let (census, monitor) = (self.monitor.pool.census(), &self.monitor);
        if monitor.is_shutdown() {
            return assert_eq!(census.live(), 0, "a child outlives the shutdown");
        }
        let (min, max) = (monitor.min_spare_servers(), monitor.max_spare_servers());
        let full = census.live() >= monitor.max_clients();
        assert!(
            full || census.idle() >= min,
            "too few: {census:?}, {min} to {max}"
        );
        assert!(census.free <= max, "too many: {census:?}, {min} to {max}");
        let serving = census.idle() + census.busy;
        assert!(
            census.free == 0 || serving <= monitor.max_clients(),
            "more than max_clients, and some of them free: {census:?}"
        );
    }

    /// No child acts on SIGINT any more: each must get SIGKILL.
    fn end(mut self) {
        self.monitor.shutdown();
        self.turn();
        for rounds in 0.. {
            let Some(due) = self.monitor.deadline() else {
                break;
            };
            assert!(rounds < 1000, "a timer without end: {:?}", self.monitor);
            self.monitor.tick(due, Duration::ZERO);
            self.turn();
            self.check();
        }
        for (child, sent) in &self.processes {
            assert_eq!(sent.kills, 1, "{child} was spared");
        }
    }
}

/// Prints the seed and the step of a walk that has failed.
struct Where {
    seed: u64,
    step: u64,
}

impl Drop for Where {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the walk of seed {} broke at step {}", self.seed, self.step);
        }
    }
}

/// Whatever children say, and in any order, each child is in one list, no count is negative and
/// `max_clients` holds: random calls of the monitor are checked against a model.
#[test]
fn c08_a_long_random_walk_never_breaks_the_books() {
    // If a word changed the state of any child (`transfer` in the monitor), a child that was told
    // to stop became free again, and this model found it at once.
    const SEEDS: u64 = 50;
    const STEPS: u64 = 5000;
    let (mut forks, mut deaths, mut shutdowns) = (0, 0, 0);
    for seed in 1..=SEEDS {
        let mut place = Where { seed, step: 0 };
        let mut walk = Walk::new(seed);
        for step in 0..STEPS {
            place.step = step;
            walk.step();
            if walk.random.one_in(500) {
                walk.settle();
            }
        }
        forks += walk.monitor.report().forks;
        deaths += walk.monitor.report().all_deaths();
        shutdowns += walk.shutdowns;
        walk.end();
    }
    // A walk without forks and deaths would prove nothing.
    assert!(forks > 10_000 && deaths > 10_000, "{forks} {deaths}");
    assert!(shutdowns > 3, "{shutdowns}");
    assert!(u64::from(shutdowns) < SEEDS, "{shutdowns}");
}
