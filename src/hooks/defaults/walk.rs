//! A long random walk: everything that can happen to the monitor, in any order, with a check of all
//! invariants after each step.

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

/// Hooks that sometimes leave out a default, unless `behaved` is set.
struct Wild {
    random: WalkRandom,
    behaved: bool,
}

impl Wild {
    fn obeys(&mut self) -> bool {
        self.behaved || !self.random.one_in(8)
    }
}

impl PreForkHooks for Wild {
    fn server_timeout(&mut self, monitor: &mut Monitor, child: ChildId) {
        if self.obeys() {
            defaults::server_timeout(self, monitor, child);
        }
    }
    fn server_timeout_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        if self.obeys() {
            defaults::server_timeout_busy(self, monitor, child);
        }
    }
    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        if self.obeys() {
            defaults::server_ack(self, monitor, child);
        }
    }
    fn handler_forkoff(&mut self, monitor: &mut Monitor) {
        if self.obeys() {
            defaults::handler_forkoff(self, monitor);
        }
    }
    fn handler_server_fork(&mut self, monitor: &mut Monitor) {
        let again = 1 + usize::from(!self.obeys());
        (0..again).for_each(|_| defaults::handler_server_fork(self, monitor));
    }
    fn handler_server_closed(&mut self, monitor: &mut Monitor, child: ChildId) {
        if self.obeys() {
            defaults::handler_server_closed(self, monitor, child);
        }
    }
}

/// The signals that a child was sent.
#[derive(Debug, Default)]
struct SignalsSent {
    interrupts: u32,
    kills: u32,
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

    fn say_something(&mut self) {
        let word = self.random.of(&[Word::Ack, Word::Busy, Word::NotBusy]);
        if let Some(child) = self.someone() {
            self.monitor.note_word_heard(child);
            self.hooks
                .handler_server_ack(&mut self.monitor, child, Output::Word(word));
        }
    }

    fn end_someone(&mut self) {
        let status = self
            .random
            .of(&[exit_code(0), exit_code(1), ended_by_signal(11), None]);
        if let Some(child) = self.someone() {
            self.finish(child, status);
        }
    }

    fn finish(&mut self, child: ChildId, status: Option<WaitStatus>) {
        if self.monitor.close(child) {
            self.hooks.handler_server_closed(&mut self.monitor, child);
        }
        let entry = self.monitor.exited(child, status);
        assert_eq!(entry.is_some(), self.processes.remove(&child).is_some());
        if let Some((record, _)) = entry {
            assert_eq!(record.id(), child);
            self.deaths += 1;
            if !self.monitor.is_shutdown() {
                self.monitor.post_known(PostedState::Forkoff);
            }
        }
    }

    fn close_an_output(&mut self) {
        let output = self
            .random
            .of(&[ChildFlags::STDOUT_OPEN, ChildFlags::STDERR_OPEN]);
        if let Some(child) = self.someone()
            && self.monitor.output_ended(child, output)
        {
            self.hooks.handler_server_closed(&mut self.monitor, child);
        }
    }

    fn set_something(&mut self) {
        let (random, monitor) = (&mut self.random, &mut self.monitor);
        let number = random.below(14) as usize;
        let time = ms(random.of(&[100, 400, 3000, 20_000]));
        match random.below(12) {
            0 => monitor.set_min_spare_servers(number / 3),
            1 => monitor.set_max_spare_servers(number / 2),
            2 => monitor.set_start_servers(number),
            3 => monitor.set_max_clients(number),
            4 => monitor.set_timeout(if number == 0 { Duration::ZERO } else { time }),
            5 => monitor.set_kill_timeout(time),
            6 => monitor.set_shutdown_timeout(time),
            7 => monitor.set_cull_after(if number == 0 { Duration::ZERO } else { time }),
            8 => monitor.set_max_lifetime(if number < 7 { Duration::ZERO } else { time }),
            9 => monitor.set_replace_at_once(number / 4),
            10 => monitor.set_limit_jitter(number * 10),
            _ => monitor.set_server_check_ack(Some(time)),
        }
    }

    fn fail_somehow(&mut self) {
        let Some(child) = self.someone() else { return };
        match self.random.below(4) {
            0 => {
                self.monitor.fork_failed();
            }
            1 => {
                let error = io::Error::from_raw_os_error(5);
                self.monitor.set_shutdown_on_error(false);
                let (hooks, monitor) = (&mut self.hooks, &mut self.monitor);
                hooks.handler_run_error(monitor, Operation::Read, &error, Some(child));
                let killed = |child: &Child| child.flags.contains(ChildFlags::KILL_SENT);
                if !monitor.child(child).is_some_and(killed) {
                    monitor.kill(child, Signal::Kill);
                    monitor.retire(child, Reason::Faulty);
                }
            }
            _ => self.monitor.set_unread(child, self.random.one_in(2)),
        }
    }

    /// What a hook may do, at any time.
    fn ask_for_something(&mut self) {
        let monitor = &mut self.monitor;
        let state = self.random.of(&[
            "forkoff",
            "server_fork",
            "server_timeout_check",
            "own",
            "unheard of",
        ]);
        let after = ms(self.random.of(&[0, 10, 900]));
        match self.random.below(100) {
            0..40 => monitor.post(state),
            40..70 => {
                let alarm = monitor.delay_set(state, after);
                if self.random.one_in(3) {
                    assert!(monitor.alarm_remove(alarm));
                }
            }
            70..75 => monitor.alarm_remove_all(),
            75..83 => {
                monitor.fork();
            }
            83 => monitor.reload(),
            84 => {
                if let Some(child) = self.someone() {
                    self.monitor.replace(child);
                }
            }
            85..99 => {
                let Some(child) = self.someone() else { return };
                let monitor = &mut self.monitor;
                monitor.kill(child, Signal::User1);
                if monitor.child(child).is_some_and(|child| !child.was_told()) {
                    monitor.kill(child, Signal::Interrupt);
                    monitor.retire(child, Reason::Asked);
                }
            }
            _ if self.random.one_in(20) => monitor.shutdown(),
            _ => {}
        }
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
            Task::Fork => {
                if monitor.may_fork(0) {
                    self.next_pid += 1;
                    let child = monitor.forked(self.next_pid, None);
                    assert!(self.names.insert(child), "{child} was given twice");
                    self.processes.insert(child, SignalsSent::default());
                }
            }
            Task::Signal { child, signal } => {
                let Some(sent) = self.processes.get_mut(&child) else {
                    return;
                };
                match signal {
                    Signal::Interrupt => sent.interrupts += 1,
                    Signal::Kill => sent.kills += 1,
                    _ => {}
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

    /// What must hold after every step.
    fn check(&self) {
        let monitor = &self.monitor;
        let mut census = crate::core::pool::Census::default();
        for child in monitor.children() {
            *match child.state() {
                State::Starting => &mut census.starting,
                State::Free => &mut census.free,
                State::Busy => &mut census.busy,
                State::Reserved => &mut census.reserved,
                State::Retiring => &mut census.retiring,
            } += 1;
            self.check_child(child);
        }
        assert_eq!(census, monitor.pool.census());
        let named: Vec<_> = monitor.children().map(Child::id).collect();
        let known: BTreeSet<_> = named.iter().copied().collect();
        assert_eq!(named.len(), known.len());
        assert!(known.iter().eq(self.processes.keys()));
        let mut listed: Vec<_> = monitor
            .busy_servers()
            .chain(monitor.free_servers())
            .chain(monitor.retiring_servers())
            .chain(monitor.reserved_server())
            .map(Child::id)
            .collect();
        listed.sort_unstable();
        assert!(listed.iter().eq(&known), "a child in no list or in two");
        let report = monitor.report();
        assert_eq!(report.forks, self.deaths + known.len() as u64);
        assert_eq!(report.all_deaths(), self.deaths);
        if monitor.is_shutdown() {
            assert_eq!(census.live(), census.retiring, "a child that was not told");
        }
    }

    fn check_child(&self, child: &Child) {
        let sent = &self.processes[&child.id()];
        // The shutdown also tells children that were told before.
        assert!(sent.interrupts <= 1 + self.shutdowns, "{child:?} {sent:?}");
        assert!(sent.kills <= 1, "{child:?} {sent:?}");
        let told = child.flags.contains(ChildFlags::INT_SENT);
        assert_eq!(told, sent.interrupts > 0, "{child:?} {sent:?}");
        assert_eq!(child.flags.contains(ChildFlags::KILL_SENT), sent.kills > 0);
        if child.state() != State::Retiring {
            return assert_eq!((child.reason(), sent.interrupts), (None, 0), "{child:?}");
        }
        let unjudged = self.monitor.timeout().is_zero();
        let gentle = child.reason().is_some_and(Reason::is_gentle);
        let serving = gentle && child.is_serving() && unjudged;
        let ends = sent.kills > 0 || self.monitor.next_signal(child).is_some();
        assert!(serving || ends, "nothing will end {child:?}");
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
            for child in children {
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
            let due = self.monitor.deadline().map_or(end, |due| {
                u64::try_from(due.since_start().as_millis()).unwrap()
            });
            self.now = due.clamp(self.now + 1, self.now + pace);
            self.monitor.tick(at(self.now), Duration::ZERO);
        }
        self.turn();
        self.check();
        self.hooks.behaved = false;
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
