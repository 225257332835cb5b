//! The world of the simulation: a virtual clock and what happens when. The parts: the children and
//! their clients, what goes wrong, the parent around the core, and what must hold after every event.

mod children;
mod faults;
mod laws;
mod parent;

use self::parent::Parent;
use super::{kernel::Kernel, random::Random};
use crate::{
    core::{
        child::ChildId,
        config::{Attributes, Config},
        monitor::Monitor,
        states::Event,
        time::Time,
    },
    hooks::DefaultHooks,
    run::hooked::Hooked,
    sys::clock::Clock,
};
use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// What happens at a moment.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Happening {
    /// The parent's loop turns.
    Turn,
    /// A child's own next step, if its plan has not changed.
    Step(ChildId, u32),
    /// A child's ACK is due.
    Ack(ChildId),
    /// A child says again what the pipe had no room for.
    SayAgain(ChildId),
    /// Clients come.
    Clients,
    /// Something goes wrong.
    Fault,
    /// The kernel tells the parent of a death.
    Death(ChildId),
    /// The kernel tells the parent that somebody has died (SIGCHLD), however many there were.
    Deaths,
    /// SIGINT or SIGTERM arrives at the parent, however often it was sent.
    Told,
}

pub(super) struct World {
    core: Hooked<DefaultHooks>,
    parent: Parent,
    kernel: Kernel,
    random: Random,
    now: Time,
    agenda: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    entered: u64,
    queued_clients: u64,
    /// How much a pipe holds in this world.
    capacity: usize,
    /// Whether a child says nothing between two connections that follow at once.
    coalesces: bool,
    /// Until when forks fail, and how many more fail whenever they are tried.
    forks_fail_until: Time,
    forks_to_fail: u64,
    /// Until when children die at their start.
    starts_fail_until: Time,
    calm: bool,
    events: u64,
    digest: u64,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// How long a pool may take to come to rest: the longest delay after failed starts is 30 s.
const REST_AFTER: Duration = Duration::from_secs(120);

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let attributes = Attributes::from(Config {
            min_spare_servers: 1 + random.below(5) as usize,
            max_spare_servers: random.below(12) as usize,
            start_servers: random.below(10) as usize,
            max_clients: 1 + random.below(30) as usize,
            timeout: random.of(&[Duration::ZERO, ms(500), ms(2000)]),
            kill_timeout: ms(100 + random.below(2000)),
            shutdown_timeout: ms(100 + random.below(4000)),
            cull_after: random.of(&[Duration::ZERO, ms(10), ms(1000)]),
            shutdown_on_error: random.one_in(8),
            ..Config::default()
        });
        let check = attributes.check_interval();
        let mut world = Self {
            core: Hooked::new(
                DefaultHooks,
                Monitor::with_attributes(attributes),
                Clock::new(),
            ),
            parent: Parent::new(&mut random),
            kernel: Kernel::new(),
            now: Time::START,
            agenda: BinaryHeap::new(),
            entered: 0,
            queued_clients: 0,
            capacity: random.of(&[4096, 8192, 65_536]),
            coalesces: !random.one_in(4),
            forks_fail_until: Time::START,
            forks_to_fail: 0,
            starts_fail_until: Time::START,
            calm: false,
            events: 0,
            digest: 0,
            random,
        };
        world.core.monitor.post_event(Event::Forkoff);
        if let Some(check) = check {
            world.core.monitor.delay_set("server_timeout_check", check);
        }
        world.wake(Duration::ZERO);
        world.at(ms(5), Happening::Clients);
        world.at(ms(50), Happening::Fault);
        world
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// A number that differs if anything went differently.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn report(&self) -> String {
        format!(
            "{} until {}: {}",
            self.events,
            self.now,
            self.core.monitor.report()
        )
    }

    /// A life in three parts: a storm of `events`, in the midst of which the shutdown may begin;
    /// otherwise a calm in which everything must come to rest; the shutdown.
    pub(super) fn live(&mut self, events: u64) {
        let told_in_the_storm = self.random.one_in(2);
        let storm = if told_in_the_storm {
            self.random.below(events)
        } else {
            events
        };
        while self.events < storm && !self.is_shutting_down() {
            self.step();
        }
        if !told_in_the_storm && !self.is_shutting_down() {
            self.settle();
        }
        if !self.is_shutting_down() {
            self.tell_to_shut_down();
        }
        self.see_the_end();
    }

    /// No more faults and no more clients, and those who wait have gone: in bounded time everything
    /// must come to rest.
    fn settle(&mut self) {
        self.calm = true;
        self.queued_clients = 0;
        self.forks_fail_until = self.now;
        self.forks_to_fail = 0;
        self.starts_fail_until = self.now;
        self.kill_whom_only_a_timeout_would_end();
        let end = self.now + REST_AFTER;
        // With nobody to time out, a pool at rest has nothing to do ever again.
        while self.now < end && !self.agenda.is_empty() && !self.is_shutting_down() {
            self.step();
        }
        if !self.is_shutting_down() {
            self.check_rest();
        }
    }

    /// What holds a child that is stopped or mute is not the core's to end without a timeout.
    fn kill_whom_only_a_timeout_would_end(&mut self) {
        if !self.core.monitor.timeout().is_zero() {
            return;
        }
        let faulty = self
            .kernel
            .iter()
            .filter(|process| process.model.fault.is_some());
        for id in faulty.map(|process| process.id).collect::<Vec<_>>() {
            self.end(id, 9);
        }
    }

    /// From the first step of the shutdown to the last child's end, which comes in bounded time.
    fn see_the_end(&mut self) {
        while self.kernel.len() > 0 || !self.is_shutting_down() {
            self.step();
            self.check_end_is_near();
        }
        self.check_end();
    }

    fn is_shutting_down(&self) -> bool {
        self.core.monitor.is_shutdown()
    }

    fn at(&mut self, after: Duration, happening: Happening) {
        self.entered += 1;
        self.agenda
            .push(Reverse((self.now + after, self.entered, happening)));
    }

    fn step(&mut self) {
        let Some(Reverse((at, _, happening))) = self.agenda.pop() else {
            panic!("nothing will ever happen again");
        };
        self.now = at;
        self.events += 1;
        self.digest =
            self.digest.rotate_left(7) ^ at.since_start().as_nanos() as u64 ^ self.entered;
        match happening {
            Happening::Turn => self.turn_if_due(),
            Happening::Step(id, plan) => self.step_of(id, plan),
            Happening::Ack(id) => self.ack_of(id),
            Happening::SayAgain(id) => self.say_again(id),
            Happening::Clients => self.clients(),
            Happening::Fault => self.fault(),
            Happening::Death(id) => self.hear_of_death(id),
            Happening::Deaths => self.hear_of_deaths(),
            Happening::Told => self.hear_signal(),
        }
        self.check();
    }
}
