//! The simulated world: a virtual clock and the events on it. Its parts: the children and their
//! clients, the faults, the system that the loop sees, and the laws that must hold. Makes no
//! process.

mod board;
mod children;
mod faults;
mod laws;
mod process;
mod signals;
mod system;
mod upgrade;

pub(crate) use self::laws::ShutdownBegan;

use self::{board::ModelBoard, children::ReplaceAfter, signals::Signals, upgrade::ModelTrial};
use super::{kernel::Kernel, model::Fault};
use crate::core::{
    child::{ChildId, SignalSet},
    config::{Attributes, CommChannel, Config, ThreadCheck},
    random::Random,
    time::Time,
    time_limits::InHand,
    wire::{BoardEntry, CommWords},
};
use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    rc::Rc,
    time::Duration,
};

/// What can happen at a time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum ModelEvent {
    /// A child's own next step, if its plan has not changed.
    Step(ChildId, u32),
    /// A child's ACK is due.
    Ack(ChildId),
    /// A child repeats a word for which the pipe had no room.
    SayAgain(ChildId),
    /// Clients connect.
    Clients,
    /// Something goes wrong.
    Fault,
    /// SIGCHLD arrives at the parent, however many have died.
    Deaths,
    /// A signal arrives at the parent: the one of this row of the table.
    Signal(usize),
    /// The operator loses patience, and sends SIGTERM.
    Impatience,
}

/// The stacks of children, in a world where the parent asks for them.
#[derive(Debug, Default)]
struct ModelStacks {
    are_collected: bool,
    /// The children that have left theirs.
    left: Vec<ChildId>,
    /// When whose answer comes, and whether it has frames.
    answers: Vec<(Time, ChildId, bool)>,
}

/// What is on its way to the parent, and when the parent runs next.
#[derive(Debug, Default)]
struct ModelParent {
    /// When its wait ends.
    wakes_at: Option<Time>,
    /// Until when it does not run.
    stands_still_until: Time,
    /// For how long it has not run since the shutdown began.
    stood_still: Duration,
    /// How often it has not run, and for how long in all.
    pauses: u32,
    paused: Duration,
    /// In the shutdown it has had a child that nothing ends.
    waited_for_immortal: bool,
    /// SIGCHLD is pending, so another is merged with it.
    death_pending: bool,
    /// Until when SIGCHLD is lost, as when the program blocks it.
    deaths_lost_until: Time,
    /// Until when the program has a second thread.
    threads_until: Time,
}

/// What the program of this world has done.
#[derive(Debug, Default)]
pub(crate) struct ModelProgram {
    /// Its hooks or an error may begin a stop that no signal has asked for.
    pub(crate) may_stop: bool,
    /// How many of its states were handled.
    pub(crate) states: u64,
    /// The signals that its hooks have sent to children which were not told to it as dead.
    pub(crate) sent: BTreeMap<ChildId, SignalSet>,
    pub(crate) since_signals: SinceSignals,
}

/// What it has done since all that signals had asked for was done.
#[derive(Debug, Default)]
pub(crate) struct SinceSignals {
    /// How often its settings were read.
    pub(crate) reads: u64,
    /// How many upgrades have failed.
    pub(crate) failed_upgrades: u64,
}

/// The child that is forked in a stop, for the clients that no other child is left to serve.
#[derive(Debug, Default)]
pub(crate) struct ModelLastChild {
    /// How often it was tried to fork one.
    pub(crate) tries: u64,
    /// When clients were reset though no fork was tried, after the beginning of the stop.
    missed: Option<(Time, Time)>,
}

/// Whether clients can connect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reachability {
    Open,
    /// Queued clients stay, new ones are refused.
    Shut {
        since: Time,
    },
    Closed,
}

/// Everything but the loop.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: Random,
    /// No more faults and no more clients.
    calm: bool,
    /// The loop gets a turn when this many events have happened.
    pause_at: u64,
    events: u64,
    digest: u64,
    kernel: Kernel,
    board: ModelBoard,
    parent: ModelParent,
    pub(crate) signals: Signals,
    pub(crate) program: ModelProgram,
    /// The trial of a new program, if there is one.
    trial: Option<ModelTrial>,
    /// Since when an upgrade has been under way, and for how long the parent had not run by then.
    upgrades_since: Option<(Time, Duration)>,
    upgrade_timeout: Duration,
    stacks: ModelStacks,
    now: Time,
    agenda: BinaryHeap<Reverse<(Time, u64, ModelEvent)>>,
    entered: u64,
    queued_clients: u64,
    /// What became of the clients that were queued when a stop began and no child was left.
    pub(crate) last_child: ModelLastChild,
    reachability: Reachability,
    drain_timeout: Duration,
    ack_interval: Duration,
    /// How much a pipe holds in this world.
    capacity: usize,
    /// Whether a child says nothing between two connections that follow at once.
    coalesces: bool,
    /// The words of the children.
    words: CommWords,
    /// Whether a reserved child is of use.
    sheds: bool,
    /// How many children there may be: more than `max_clients` after that was lowered.
    most: usize,
    /// For how long processes have waited for a processor, if that is known.
    pressure: Option<Duration>,
    /// Whether nothing goes wrong.
    faultless: bool,
    recycling: ReplaceAfter,
    /// Until when forks fail, and how many more fail whenever they are tried.
    forks_fail_until: Time,
    forks_to_fail: u64,
    /// Until when children die at their start.
    starts_fail_until: Time,
    /// The server's socket is lost.
    socket_lost: bool,
    /// The parent may learn of some deaths late.
    deaths_late: bool,
    /// A test has failed: the children are not to be ended as well.
    pub(crate) abandoned: bool,
}

/// The world, shared by the loop, the handles to its children and the test.
#[derive(Clone, Debug)]
pub(crate) struct Simulated(pub(crate) Rc<RefCell<World>>);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

impl World {
    /// The world of a seed, and the attributes of its server.
    pub(crate) fn new(seed: u64) -> (Self, Attributes) {
        let mut random = Random::new(seed);
        let coalesces = !random.one_in(4);
        let attributes = Attributes::from(Config {
            min_spare_servers: 1 + random.below(5) as usize,
            max_spare_servers: random.below(12) as usize,
            start_servers: random.below(10) as usize,
            max_clients: 1 + random.below(30) as usize,
            timeout: random.of(&[Duration::ZERO, ms(500), ms(2000)]),
            start_timeout: random.of(&[Duration::ZERO, ms(300), ms(2000)]),
            busy_timeout: random.of(&[Duration::ZERO, ms(200), ms(3000)]),
            kill_timeout: ms(100 + random.below(2000)),
            shutdown_timeout: ms(100 + random.below(4000)),
            drain_timeout: random.of(&[Duration::ZERO, ms(100), ms(1000)]),
            cull_after: random.of(&[Duration::ZERO, ms(10), ms(1000)]),
            shutdown_on_error: random.one_in(8),
            coalesce_words: coalesces,
            max_lifetime: random.of(&[Duration::ZERO, Duration::ZERO, ms(300), ms(5000)]),
            max_memory: random.of(&[0, 0, 10 << 20]),
            replace_at_once: random.below(4) as usize,
            limit_jitter: random.of(&[0, 10, 100]),
            server_check_ack: random.of(&[
                None,
                None,
                Some(Duration::ZERO),
                Some(ms(100)),
                Some(ms(5000)),
            ]),
            upgrade_timeout: random.of(&[Duration::ZERO, ms(200), ms(10_000)]),
            reserved_shedder: random.one_in(3),
            fork_brake: random.one_in(2),
            comm_channel: random.of(&[
                CommChannel::Stdout,
                CommChannel::Stdout,
                CommChannel::Private,
            ]),
            comm_words: random.of(&[CommWords::CONTROL, CommWords::POE]),
            thread_check: random.of(&[ThreadCheck::Refuse, ThreadCheck::Warn]),
            resize_signals: random.one_in(2),
            pre_stop_delay: random.of(&[Duration::ZERO, Duration::ZERO, ms(50), ms(2000)]),
            ..Config::default()
        });
        // Now and then max_clients was raised since the start, and some have no slot.
        let slots = match random.one_in(8) {
            true => attributes.max_clients / 2,
            false => attributes.max_clients,
        };
        let mut world = Self::with(random, &attributes, slots);
        world.program.may_stop = attributes.shutdown_on_error;
        world.sheds = !world.random.one_in(4);
        world.pressure = (!world.random.one_in(4)).then_some(Duration::ZERO);
        world.stacks.are_collected = !seed.is_multiple_of(2);
        world.at(ms(50), ModelEvent::Fault);
        (world, attributes)
    }

    /// A world in which nothing goes wrong but starts, if the test has them fail, and no child is
    /// culled. Children reach limits, but serve on long enough for a successor to come.
    pub(crate) fn without_faults(seed: u64) -> (Self, Attributes) {
        let mut random = Random::new(seed);
        let coalesces = !random.one_in(4);
        let children = 1 + random.below(10) as usize;
        let room = random.of(&[0, 1, 5, 50]);
        // A child that is too old does not wait forever for its successor: not until there is room,
        // and for no more than a tenth, which is longer here than the longest start.
        let lifetimes = if room == 50 { &[0, 200_000][..] } else { &[0] };
        let attributes = Attributes::from(Config {
            min_spare_servers: 1 + random.below(children as u64) as usize,
            max_spare_servers: 1000,
            start_servers: children,
            max_clients: children + room,
            timeout: random.of(&[Duration::ZERO, ms(2000)]),
            replace_at_once: random.below(4) as usize,
            coalesce_words: coalesces,
            max_lifetime: ms(random.of(lifetimes)),
            limit_jitter: random.of(&[0, 10, 100]),
            ..Config::default()
        });
        let slots = attributes.max_clients;
        let mut world = Self::with(random, &attributes, slots);
        world.faultless = true;
        world.recycling = ReplaceAfter {
            due_after: world.random.of(&[5, 23, u32::MAX]),
            leaves_after: u32::MAX,
        };
        (world, attributes)
    }

    fn with(mut random: Random, attributes: &Attributes, slots: usize) -> Self {
        let coalesces = attributes.coalesce_words;
        let mut world = Self {
            calm: false,
            pause_at: u64::MAX,
            events: 0,
            digest: 0,
            kernel: Kernel::new(),
            board: ModelBoard::new(slots, coalesces),
            parent: ModelParent::default(),
            signals: Signals::new(attributes),
            program: ModelProgram::default(),
            trial: None,
            upgrades_since: None,
            upgrade_timeout: attributes.upgrade_timeout,
            stacks: ModelStacks::default(),
            now: Time::START,
            agenda: BinaryHeap::new(),
            entered: 0,
            queued_clients: 0,
            last_child: ModelLastChild::default(),
            reachability: Reachability::Open,
            drain_timeout: attributes.drain_timeout,
            ack_interval: attributes.timeout / 2,
            capacity: random.of(&[4096, 8192, 65_536]),
            coalesces,
            words: attributes.comm_words,
            sheds: false,
            most: attributes.max_clients,
            pressure: None,
            faultless: false,
            recycling: ReplaceAfter {
                due_after: 23,
                leaves_after: 27,
            },
            forks_fail_until: Time::START,
            forks_to_fail: 0,
            starts_fail_until: Time::START,
            socket_lost: false,
            deaths_late: false,
            abandoned: false,
            random,
        };
        world.at(ms(5), ModelEvent::Clients);
        world
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// A number that differs if anything happened differently.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Has children that start now die for a while.
    pub(crate) fn fail_starts_for(&mut self, time: Duration) {
        self.starts_fail_until = self.now + time;
    }

    /// Gives the loop a turn when this many events have happened, whatever it waits for.
    pub(crate) fn pause_at(&mut self, events: u64) {
        self.pause_at = events;
    }

    /// Whether the server's socket is lost.
    pub(crate) fn socket_is_lost(&self) -> bool {
        self.socket_lost
    }

    /// Ends all faults and clients, queued clients included, and the children that keep a pool from
    /// coming to rest: a child that lies changes its state forever, and without a timeout the loop
    /// does not end a child that hangs.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.queued_clients = 0;
        self.forks_fail_until = self.now;
        self.forks_to_fail = 0;
        self.starts_fail_until = self.now;
        self.parent.deaths_lost_until = self.now;
        self.parent.threads_until = self.now;
        self.kernel.other_is_reaped();
        let living = self.kernel.iter().filter(|entry| !entry.reaped);
        let models: Vec<_> = living
            .map(|entry| (entry.id, entry.model.lies, entry.model.fault))
            .collect();
        for (id, lies, fault) in models {
            let hangs = fault.is_some() && self.ack_interval.is_zero();
            if hangs || lies || fault == Some(Fault::Immortal) {
                self.end(id, 9);
            }
        }
    }

    fn at(&mut self, after: Duration, happening: ModelEvent) {
        self.entered += 1;
        let entry = (self.now + after, self.entered, happening);
        self.agenda.push(Reverse(entry));
    }

    /// The next thing happens.
    fn step(&mut self) {
        let Some(Reverse((at, _, happening))) = self.agenda.pop() else {
            panic!("nothing will ever happen again");
        };
        self.now = self.now.max(at);
        self.events += 1;
        let now = self.now.since_start().as_nanos() as u64;
        self.digest = self.digest.rotate_left(7) ^ now ^ self.entered;
        match happening {
            ModelEvent::Step(id, plan) => self.step_of(id, plan),
            ModelEvent::Ack(id) => self.ack_of(id),
            ModelEvent::SayAgain(id) => self.say_again(id),
            ModelEvent::Clients => self.clients(),
            ModelEvent::Fault => self.fault(),
            ModelEvent::Deaths => self.hear_of_deaths(),
            ModelEvent::Signal(row) => self.hear_signal(row),
            ModelEvent::Impatience => self.lose_patience(),
        }
    }
}
