//! The loop itself, with the default hooks, in a world made from one seed: many faults, a calm in
//! which the pool must come to rest, a shutdown. Makes no process.
//!
//! `cargo test simulation` runs a million events. `SIMULATED_EVENTS=1000000000 cargo test --release
//! simulation` runs a thousand times as many, `SIMULATED_FROM=n` begins with that seed, and
//! `SIMULATED_SEED=n` runs one seed alone. A failure prints its seed. `SIMULATED_RELOADS` is the
//! number of seeds for the capacity during reloads.

mod tally;

use self::tally::SeedTally;
use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{
        child::{Cause, Child, ChildId, Death, Reason, Signal, State},
        config::Attributes,
        error::Error,
        monitor::Monitor,
        random::Random,
        replacement::PATIENCE,
        simulation::{ShutdownBegan, Simulated, World},
        system::System,
        time::Time,
    },
    hooks::{ChildServer, PreForkHooks, comm::Comm},
};
use std::{cell::RefCell, convert::Infallible, io, rc::Rc, time::Duration, time::Instant};

/// Seeds that failed once, each with its fault. They run first.
const REGRESSIONS: [(u64, &str); 8] = [
    (
        34,
        "a culled child, which ignored SIGINT and had said BUSY once, retired forever",
    ),
    (
        714,
        "a child that was told to stop in its start was waited for after the drain of a shutdown",
    ),
    (
        3073,
        "SIGTERM after SIGQUIT gave a child in its start the time of the drain once more",
    ),
    (
        9669,
        "an idle pool had too few spare children after max_clients was raised",
    ),
    (
        1901,
        "a law did not know that a forged NOT_BUSY ends a connection where there are no notes",
    ),
    (
        22,
        "a stop came when the last child had gone and its successor was not forked: clients were reset",
    ),
    (
        49824,
        "a law did not know that a child says nothing any more which has closed its output",
    ),
    (
        63406,
        "SIGTERM after SIGQUIT left a child that was over its time longer than shutdown_timeout",
    ),
];

/// What hooks send to children: to end them, to tell them to stop, and what ends no child.
const SENT_BY_HOOKS: [Signal; 7] = [
    Signal::Kill,
    Signal::Kill,
    Signal::Interrupt,
    Signal::Terminate,
    Signal::Quit,
    Signal::Alarm,
    Signal::Window,
];

const EVENTS_PER_SEED: u64 = 10_000;

/// How long a pool may take to come to rest: the longest delay after failed starts is 30 s.
const REST_AFTER: Duration = Duration::from_secs(120);

/// In the model a fork returns in the parent only.
impl ChildSide for Simulated {
    fn become_child(&mut self, new_child: Infallible, _: &mut Monitor) -> io::Result<Comm> {
        match new_child {}
    }

    fn confine(&self) -> io::Result<()> {
        Ok(())
    }

    fn tie_to_parent(&self) -> io::Result<()> {
        Ok(())
    }

    fn exit(&self, code: i32) -> ! {
        panic!("the parent has exited with {code}");
    }
}

/// A server whose socket the model may take away.
#[derive(Debug)]
struct ModelServer(Simulated);

impl ChildServer for ModelServer {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_send_ack(&mut self, _: Option<Duration>) {}

    fn resume_accept(&mut self, _: &mut Comm) -> io::Result<()> {
        panic!("the parent serves no client");
    }

    fn begin_drain(&mut self) {
        self.0.0.borrow_mut().refuse_clients();
    }

    fn is_queued(&mut self) -> bool {
        self.0.0.borrow().is_queued()
    }

    fn close_listeners(&mut self) {
        self.0.0.borrow_mut().close_listeners();
    }

    fn reload(&mut self) -> io::Result<()> {
        self.0.0.borrow_mut().read_settings()
    }

    fn can_shed(&mut self) -> bool {
        self.0.0.borrow().can_shed()
    }

    fn set_all_busy(&mut self, all_busy: bool) {
        self.0.0.borrow_mut().set_all_busy(all_busy);
    }

    fn lost(&mut self) -> Option<io::Error> {
        let lost = self.0.0.borrow().socket_is_lost();
        lost.then(|| io::Error::other("the socket is lost"))
    }
}

/// Hooks that count what signals lead to, and leave the rest to the defaults.
#[derive(Debug)]
struct ModelHooks(Simulated);

impl PreForkHooks for ModelHooks {
    fn handler_state(&mut self, _: &mut Monitor, _: &str) {
        self.0.0.borrow_mut().program.states += 1;
    }

    fn server_exited(&mut self, _: &mut Monitor, child: &Child, death: &Death) {
        self.0.0.borrow_mut().check_cause(child, death);
    }

    fn upgrade_failed(&mut self, _: &mut Monitor, _: &Error) {
        let mut world = self.0.0.borrow_mut();
        world.program.since_signals.failed_upgrades += 1;
    }
}

struct Simulation {
    inner: Loop<ModelHooks, ModelServer, Simulated>,
    world: Rc<RefCell<World>>,
    /// Decides what the hooks of a program do.
    random: Random,
    shutdown: Option<ShutdownBegan>,
    done: bool,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self::of(seed, World::new(seed))
    }

    fn of(seed: u64, (world, attributes): (World, Attributes)) -> Self {
        let world = Rc::new(RefCell::new(world));
        let system = Simulated(Rc::clone(&world));
        let mut server = ModelServer(system.clone());
        let mut monitor = Monitor::with_attributes(attributes);
        monitor.collects_stacks = system.collects_stacks();
        let processors = 1 + world.borrow_mut().random.below(8) as usize;
        monitor.brake.set_processors(processors);
        let mut hooks = ModelHooks(system.clone());
        let started = hooks.handler_start(&mut monitor, &mut server);
        started.expect("the model server starts");
        let inner = Loop::new(hooks, server, monitor, system);
        Self {
            inner,
            world,
            random: Random::new(!seed),
            shutdown: None,
            done: false,
        }
    }

    /// Runs three phases: a storm of `events`, during which the shutdown may begin; otherwise a
    /// calm in which everything must come to rest; the shutdown.
    fn live(&mut self, events: u64) {
        let told_in_the_storm = self.random.one_in(2);
        let storm = match told_in_the_storm {
            true => self.random.below(events),
            false => events,
        };
        self.world.borrow_mut().pause_at(storm);
        while self.events() < storm && !self.is_shutting_down() {
            self.act_as_hooks();
            self.turn();
        }
        self.world.borrow_mut().pause_at(u64::MAX);
        if !told_in_the_storm && !self.is_shutting_down() {
            self.settle();
        }
        if !self.is_shutting_down() {
            self.begin_shutdown();
        }
        while !self.done {
            self.turn();
        }
        self.world.borrow().check_end(self.monitor());
    }

    fn turn(&mut self) {
        let (done, wait) = match self.inner.turn(self.inner.next_wait()) {
            Ok(turn) => (turn.is_done(), turn.wait()),
            // The loop has ended because something failed.
            Err(error) => (self.inner.done, {
                log::debug!("{error}");
                None
            }),
        };
        self.done = done;
        if !done {
            let monitor = &self.inner.parent.monitor;
            let mut world = self.world.borrow_mut();
            world.check(monitor, wait, &mut self.shutdown);
        }
    }

    /// Without faults and clients everything must come to rest in bounded time.
    fn settle(&mut self) {
        self.world.borrow_mut().calm_down();
        // With a limit of age there is no rest.
        let monitor = &mut self.inner.parent.monitor;
        monitor.set_max_lifetime(Duration::ZERO);
        // In the storm children would die before they are culled.
        if self.random.one_in(4) {
            self.set_max_clients();
        }
        let end = self.now() + REST_AFTER;
        while self.now() < end && !self.is_shutting_down() {
            self.turn();
        }
        if !self.is_shutting_down() {
            self.world.borrow().check_rest(self.monitor());
        }
    }

    /// Reloads and replaces children at random times, has successors fail and lets children reach
    /// their limits of connections and of age, in a world without other faults; returns how many
    /// reloads came to their end. The number of children that can serve never falls; where there is
    /// no room for a successor, it falls by as many as may be replaced at once, and comes back.
    fn replace_without_a_dip(&mut self, events: u64) -> u64 {
        self.world.borrow_mut().pause_at(events);
        let (mut most, mut may_miss, mut ends) = (0, 0, 0);
        while self.events() < events {
            let reloading = self.replace_something();
            self.turn();
            ends += u64::from(reloading && !self.monitor().is_reloading());
            let ready = self.world.borrow().ready_children();
            let first_to_go = self.first_to_go();
            if first_to_go == 0 && ready.len() >= most {
                may_miss = 0;
            }
            may_miss = may_miss.max(first_to_go);
            // One that is ready and of which the parent does not know yet is still one too many.
            let heard = |id: &&ChildId| self.monitor().child(**id).is_some_and(Child::has_waited);
            most = most.max(ready.iter().filter(heard).count());
            assert!(
                ready.len() + may_miss >= most,
                "{ready:?} of {most} are ready"
            );
        }
        ends
    }

    /// Whether a reload is under way.
    fn replace_something(&mut self) -> bool {
        let monitor = &mut self.inner.parent.monitor;
        match self.random.below(300) {
            0 => monitor.reload(),
            1 => any_untold(monitor)
                .into_iter()
                .for_each(|id| monitor.replace(id)),
            // With a limit of age children do not wait forever for a successor.
            2 if monitor.max_lifetime().is_zero() => {
                let time = Duration::from_millis(self.random.below(40));
                self.world.borrow_mut().fail_starts_for(time);
            }
            _ => {}
        }
        monitor.is_reloading()
    }

    /// How many children may have to go before their successors, for lack of room, and how many of
    /// those serve for so long that others go meanwhile.
    fn first_to_go(&self) -> usize {
        let monitor = self.monitor();
        let live = monitor.pool.census().live();
        let full = live + monitor.queue.forks() >= monitor.max_clients();
        let slow = |child: &&Child| {
            let told = child.retirement.as_ref().map(|told| told.at);
            child.is_serving() && told.is_some_and(|at| at + PATIENCE <= monitor.now())
        };
        if full {
            let slow = monitor.retiring_servers().filter(slow).count();
            monitor.attributes.replacements_at_once(live) + slow
        } else {
            0
        }
    }

    fn begin_shutdown(&mut self) {
        if self.random.one_in(4) {
            self.world.borrow_mut().program.may_stop = true;
            self.inner.parent.monitor.shutdown();
        } else {
            self.world.borrow_mut().tell_to_shut_down();
        }
    }

    /// Acts like a program's hooks: forks more children than are needed, tells one to stop, kills
    /// one, has a signal post a state, sets the numbers of children.
    fn act_as_hooks(&mut self) {
        let monitor = &mut self.inner.parent.monitor;
        match self.random.below(4_000) {
            0 => (0..self.random.below(6)).for_each(|_| {
                let _ = monitor.fork();
            }),
            1 => {
                if let Some(id) = any_untold(monitor) {
                    monitor.stop(id, Reason::Asked);
                }
            }
            3 => monitor.reload(),
            4 => {
                if let Some(id) = any_untold(monitor) {
                    monitor.replace(id);
                }
            }
            2 => {
                if let Some(id) = any_untold(monitor) {
                    let signal = self.random.of(&SENT_BY_HOOKS);
                    monitor.kill(id, signal);
                    self.world.borrow_mut().hook_sends(id, signal);
                }
            }
            8 => self.set_max_clients(),
            9 => {
                monitor.set_min_spare_servers(1 + self.random.below(5) as usize);
                monitor.set_max_spare_servers(self.random.below(12) as usize);
            }
            5..=7 => {
                let signal = self.world.borrow_mut().any_signal_to_lead();
                if let Some(signal) = signal {
                    monitor.signal(signal, "told");
                }
            }
            _ => {}
        }
    }

    fn set_max_clients(&mut self) {
        let clients = 1 + self.random.below(30) as usize;
        self.world.borrow_mut().signals.max_clients = clients;
        self.inner.parent.monitor.set_max_clients(clients);
    }

    fn is_shutting_down(&self) -> bool {
        self.monitor().is_shutdown()
    }

    fn monitor(&self) -> &Monitor {
        &self.inner.parent.monitor
    }

    fn events(&self) -> u64 {
        self.world.borrow().events()
    }

    fn now(&self) -> Time {
        self.monitor().now()
    }
}

impl Drop for Simulation {
    /// When a test fails, the loop is dropped and does nothing more.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.world.borrow_mut().abandoned = true;
        }
    }
}

fn any_untold(monitor: &Monitor) -> Option<ChildId> {
    let untold = |child: &&Child| child.state() != State::Retiring;
    monitor.children().find(untold).map(Child::id)
}

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.replace('_', "").parse().expect("a number"))
}

fn run(seed: u64) -> SeedTally {
    let outcome = std::panic::catch_unwind(|| {
        let mut simulation = Simulation::new(seed);
        simulation.live(EVENTS_PER_SEED);
        if std::env::var_os("SIMULATED_REPORT").is_some() {
            println!("seed {seed}: {}", simulation.monitor().report());
        }
        simulation
    });
    let simulation = outcome.unwrap_or_else(|payload| {
        eprintln!("to see it again: SIMULATED_SEED={seed} cargo test simulation");
        std::panic::resume_unwind(payload)
    });
    SeedTally::of(&simulation)
}

/// Every second seed from the first one on, or so much later, until they have had so many events.
fn run_every_second(first: u64, wanted: u64) -> SeedTally {
    let mut tally = SeedTally::default();
    let first = first + from_environment("SIMULATED_FROM").unwrap_or(0);
    for seed in (first..).step_by(2) {
        if tally.events >= wanted {
            break;
        }
        tally.add(&run(seed));
    }
    tally
}

#[test]
fn a_pool_under_faults_keeps_its_promises() {
    if let Some(seed) = from_environment("SIMULATED_SEED") {
        run(seed);
        return;
    }
    for (seed, _) in REGRESSIONS {
        run(seed);
    }
    let wanted = from_environment("SIMULATED_EVENTS").unwrap_or(1_000_000);
    let start = Instant::now();
    let mut tally = SeedTally::default();
    let half = wanted.div_ceil(2);
    std::thread::scope(|scope| {
        let halves = [0, 1].map(|first| scope.spawn(move || run_every_second(first, half)));
        for half in halves {
            match half.join() {
                Ok(events) => tally.add(&events),
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
    });
    let rate = tally.events as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} events/s: {tally:?}");
    tally.expect_everything();
}

/// Whatever the children, their limits, the clients, the room for more children, the times of the
/// reloads and the successors that fail are.
#[test]
fn a_replacement_never_lowers_the_capacity() {
    let seeds = from_environment("SIMULATED_RELOADS").unwrap_or(20);
    let (mut ends, mut replaced, mut recycled, mut failed) = (0, 0, 0, 0);
    for seed in 0..seeds {
        let mut simulation = Simulation::of(seed, World::without_faults(seed));
        ends += simulation.replace_without_a_dip(EVENTS_PER_SEED);
        let report = simulation.monitor().report();
        replaced += report.deaths(Cause::Reloaded);
        recycled += report.deaths(Cause::Recycled);
        failed += report.deaths(Cause::FailedStart);
    }
    println!(
        "{seeds} seeds, {ends} reloads, {replaced} children replaced by them, {recycled} for a limit, \
         {failed} failed starts"
    );
    assert!(
        ends >= 3 * seeds && replaced >= 10 * seeds,
        "too few reloads came to an end"
    );
    assert!(
        recycled >= 10 * seeds && failed >= seeds,
        "too few limits or failures"
    );
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let digest = || {
        let mut simulation = Simulation::new(7);
        simulation.live(EVENTS_PER_SEED);
        simulation.world.borrow().digest()
    };
    assert_eq!(digest(), digest());
}
