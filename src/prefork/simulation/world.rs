//! The world of the simulation: the parent's core, the model children, clients, a kernel that fails
//! by plan, and what must hold after every event.

use super::model::{Doing, Fault, Model, Random};
use crate::{
    attributes::Attributes,
    child::{ChildId, Flags, Reason, Signal, State},
    comm::{CommWords, Framer},
    hooks::{DefaultHooks, PreForkHooks},
    monitor::Monitor,
    os::{clock::Clock, poller::Output},
    prefork::core::Core,
    states::Event,
    tasks::Task,
    time::Time,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

/// What happens at a moment.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Happening {
    /// The parent's loop turns.
    Turn,
    /// A child's own next step, if its plan has not changed.
    Step(ChildId, u32),
    /// A child's ACK is due.
    Ack(ChildId),
    /// Clients come.
    Clients,
    /// Something goes wrong.
    Fault,
}

pub(super) struct World {
    core: Core<DefaultHooks>,
    random: Random,
    now: Time,
    agenda: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    entered: u64,
    models: BTreeMap<ChildId, (Model, Framer)>,
    free_pids: BTreeSet<u32>,
    queued_clients: u64,
    /// Until when forks fail.
    forks_fail_until: Time,
    /// Until when children die at their start.
    starts_fail_until: Time,
    turn_at: Option<Time>,
    expected: Option<Time>,
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

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut attributes = Attributes {
            min_spare_servers: 1 + random.below(5) as usize,
            max_spare_servers: random.below(12) as usize,
            start_servers: random.below(10) as usize,
            max_clients: 1 + random.below(30) as usize,
            timeout: [Duration::ZERO, ms(500), ms(2000)][random.below(3) as usize],
            kill_timeout: ms(100 + random.below(2000)),
            cull_after: ms([0, 10, 1000][random.below(3) as usize]),
            shutdown_on_error: false,
            ..Attributes::default()
        };
        let _ = attributes.normalise();
        let check = attributes.check_interval();
        let mut world = Self {
            core: Core::new(
                DefaultHooks,
                Monitor::with_attributes(attributes),
                Clock::new(),
            ),
            random,
            now: Time::START,
            agenda: BinaryHeap::new(),
            entered: 0,
            models: BTreeMap::new(),
            free_pids: (100..200).collect(),
            queued_clients: 0,
            forks_fail_until: Time::START,
            starts_fail_until: Time::START,
            turn_at: None,
            expected: None,
            calm: false,
            events: 0,
            digest: 0,
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

    pub(super) fn run(&mut self, events: u64) {
        let end = self.events + events;
        while self.events < end {
            self.step();
        }
    }

    /// No more faults and no more clients: in bounded time everything must come to rest.
    pub(super) fn settle(&mut self) {
        self.calm = true;
        self.forks_fail_until = self.now;
        self.starts_fail_until = self.now;
        // What holds a child that is stopped or mute is not the core's to end without a timeout.
        let no_timeout = self.core.monitor.timeout().is_zero();
        let stuck: Vec<_> = self
            .models
            .iter()
            .filter(|(_, (model, _))| no_timeout && model.fault.is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in stuck {
            self.kill(id, 9);
        }
        let end = self.now + Duration::from_secs(120);
        // With nobody to time out, a pool at rest has nothing to do ever again.
        while self.now < end && !self.agenda.is_empty() {
            self.step();
        }
        self.check_rest();
    }

    fn at(&mut self, after: Duration, happening: Happening) {
        self.entered += 1;
        self.agenda
            .push(Reverse((self.now + after, self.entered, happening)));
    }

    /// Has the parent's loop turn after `delay`, or sooner if it was to turn sooner.
    fn wake(&mut self, delay: Duration) {
        let at = self.now + delay;
        if self.turn_at.is_none_or(|planned| at < planned) {
            self.turn_at = Some(at);
            self.at(delay, Happening::Turn);
        }
    }

    /// The parent notices soon that something is there for it.
    fn wake_soon(&mut self) {
        let delay = us(1 + self.random.below(200));
        self.wake(delay);
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
            Happening::Turn if self.turn_at == Some(at) => self.turn(),
            Happening::Turn => {}
            Happening::Step(id, plan) => self.step_of(id, plan),
            Happening::Ack(id) => self.ack_of(id),
            Happening::Clients => self.clients(),
            Happening::Fault => self.fault(),
        }
        self.check();
    }

    // ---- The children and the world around them. ----

    fn plan_step(&mut self, id: ChildId, after: Duration) {
        if let Some((model, _)) = self.models.get_mut(&id) {
            model.plan += 1;
            let plan = model.plan;
            self.at(after, Happening::Step(id, plan));
        }
    }

    fn step_of(&mut self, id: ChildId, plan: u32) {
        let fail = self.now < self.starts_fail_until;
        let Some((model, _)) = self.models.get_mut(&id) else {
            return;
        };
        if !model.acts() || model.plan != plan {
            return;
        }
        match model.doing {
            Doing::Starting if fail => return self.kill(id, 1 << 8),
            Doing::Starting => {
                model.doing = Doing::Waiting;
                model.say_ack();
                let timeout = self.core.monitor.timeout();
                if !timeout.is_zero() {
                    model.next_ack = Some(self.now + timeout / 2);
                    self.at(timeout / 2, Happening::Ack(id));
                }
                self.wake_soon();
            }
            Doing::Serving => {
                model.served += 1;
                if model.served == 25 {
                    return self.kill(id, 0);
                }
                // Coalesced: it says NOT_BUSY only if nobody is queued.
                if self.queued_clients == 0 || model.told {
                    model.doing = Doing::Waiting;
                }
                let knows = model.told && model.fault != Some(Fault::Deaf);
                if model.doing == Doing::Waiting && !knows {
                    model.say_state();
                    self.wake_soon();
                }
            }
            Doing::Waiting | Doing::Dead(_) => {}
        }
        self.go_on(id);
    }

    /// A child that has nothing in hand takes a client, leaves if it was told to, or waits.
    fn go_on(&mut self, id: ChildId) {
        let Some((model, _)) = self.models.get_mut(&id) else {
            return;
        };
        if !model.acts() || model.doing == Doing::Starting {
            return;
        }
        let deaf = model.fault == Some(Fault::Deaf);
        if self.queued_clients > 0 {
            self.queued_clients -= 1;
            if model.doing != Doing::Serving {
                model.doing = Doing::Serving;
                model.say_state();
                self.wake_soon();
            }
            let work = us(100 + self.random.below(5_000));
            self.plan_step(id, work);
        } else if model.told && !deaf {
            self.kill(id, 0);
        }
    }

    fn ack_of(&mut self, id: ChildId) {
        let Some((model, _)) = self.models.get_mut(&id) else {
            return;
        };
        let Some(due) = model
            .next_ack
            .filter(|due| *due <= self.now && model.acts())
        else {
            return;
        };
        let _ = due;
        model.say_ack();
        let interval = self.core.monitor.timeout() / 2;
        model.next_ack = Some(self.now + interval);
        self.at(interval, Happening::Ack(id));
        self.wake_soon();
        self.go_on_if_waiting(id);
    }

    fn go_on_if_waiting(&mut self, id: ChildId) {
        let waiting = self
            .models
            .get(&id)
            .is_some_and(|(model, _)| model.doing == Doing::Waiting);
        if waiting {
            self.go_on(id);
        }
    }

    fn clients(&mut self) {
        if !self.calm {
            self.queued_clients += self.random.below(6);
            let pause = us(500 + self.random.below(20_000));
            self.at(pause, Happening::Clients);
        }
        let waiting: Vec<_> = self.models.keys().copied().collect();
        for id in waiting {
            self.go_on_if_waiting(id);
        }
    }

    fn fault(&mut self) {
        if self.calm {
            return;
        }
        let pause = ms(1 + self.random.below(200));
        self.at(pause, Happening::Fault);
        let span = ms(self.random.below(3_000));
        // Rare enough that the pool is mostly there to be hurt: failed starts slow it down for long.
        match self.random.below(50) {
            0 => self.forks_fail_until = self.now + span,
            1 => self.starts_fail_until = self.now + span / 8,
            // The parent does not run for a while.
            2 => self.turn_at = None,
            _ => self.hurt_somebody(),
        }
        if self.turn_at.is_none() {
            self.wake(span);
        }
    }

    fn hurt_somebody(&mut self) {
        let ids: Vec<_> = self.models.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.random.below(ids.len() as u64) as usize];
        let kind = self.random.below(8);
        let Some((model, _)) = self.models.get_mut(&id) else {
            return;
        };
        // Who is stopped or mute stays so.
        let lasting = matches!(model.fault, Some(Fault::Stopped | Fault::Mute));
        if model.is_dead() || (lasting && kind < 4) {
            return;
        }
        match kind {
            0 => model.fault = Some(Fault::Deaf),
            1 => model.fault = Some(Fault::Stopped),
            2 => {
                model.fault = Some(Fault::Mute);
                model.closed = true;
                self.wake_soon();
            }
            3 => {
                model.fault = Some(Fault::Babbling);
                for _ in 0..self.random.below(20) {
                    let byte =
                        [0x06, 0x13, 0x11, b'\n', b'x', b'\r'][self.random.below(6) as usize];
                    model.write(&[byte]);
                    model.write(if self.random.one_in(2) { b"\n" } else { b"" });
                }
                self.wake_soon();
            }
            4 => self.kill(id, 0),
            5 => self.kill(id, 11),
            _ => self.kill(id, 9),
        }
    }

    fn kill(&mut self, id: ChildId, raw: i32) {
        if let Some((model, _)) = self.models.get_mut(&id) {
            model.die(raw);
            self.wake_soon();
        }
    }

    // ---- The parent, as the loop has it. ----

    fn turn(&mut self) {
        self.turn_at = None;
        let gap = self
            .expected
            .map_or(Duration::ZERO, |expected| self.now.since(expected));
        self.core.monitor.tick(self.now, gap);
        self.reap();
        self.read();
        self.core.monitor.fire_due();
        self.perform();
        let busy = !self.core.monitor.queue.is_empty();
        let wait = if busy {
            Some(Duration::ZERO)
        } else {
            self.core.monitor.deadline().map(|due| due.since(self.now))
        };
        self.expected = wait.map(|wait| self.now + wait);
        if let Some(wait) = wait {
            // A kernel is never early, and rarely exact.
            let late = us(self.random.below(300));
            self.wake(wait + late);
        }
    }

    fn reap(&mut self) {
        let dead: Vec<_> = self
            .models
            .iter()
            .filter(|(_, (model, _))| model.is_dead())
            .map(|(id, _)| *id)
            .collect();
        for id in dead {
            // Reaped late now and then: the event and the wait are two things.
            if !self.calm && self.random.one_in(8) {
                self.wake_soon();
                continue;
            }
            let Some((mut model, mut framer)) = self.models.remove(&id) else {
                continue;
            };
            let (head, tail) = model.pipe.as_slices();
            for part in [head, tail] {
                framer.feed(part, |found| self.core.deliver(id, Output::Stdout, found));
            }
            framer.finish(|found| self.core.deliver(id, Output::Stdout, found));
            model.pipe.clear();
            if self.core.monitor.close(id) {
                self.call(|hooks, monitor| hooks.handler_server_closed(monitor, id));
            }
            self.core.monitor.exited(id, model.status());
            self.core.monitor.post_event(Event::Forkoff);
            self.free_pids.insert(model.pid);
        }
    }

    fn read(&mut self) {
        let ids: Vec<_> = self.models.keys().copied().collect();
        for id in ids {
            let Some((model, framer)) = self.models.get_mut(&id) else {
                continue;
            };
            self.core.monitor.set_unread(id, false);
            if model.pipe.is_empty() && !model.closed {
                continue;
            }
            // A read returns what it likes.
            let count = match self.random.below(4) {
                0 => model.pipe.len().min(1 + self.random.below(7) as usize),
                _ => model.pipe.len(),
            };
            let bytes: Vec<u8> = model.pipe.drain(..count).collect();
            framer.feed(&bytes, |found| self.core.deliver(id, Output::Stdout, found));
            if !model.pipe.is_empty() {
                self.core.monitor.set_unread(id, true);
                self.wake(Duration::ZERO);
            } else if model.closed {
                framer.finish(|found| self.core.deliver(id, Output::Stdout, found));
                let ended = self.core.monitor.output_ended(id, Flags::STDOUT_OPEN)
                    | self.core.monitor.output_ended(id, Flags::STDERR_OPEN);
                if ended {
                    self.call(|hooks, monitor| hooks.handler_server_closed(monitor, id));
                }
            }
        }
    }

    fn perform(&mut self) {
        for _ in 0..self.core.monitor.queue.len() + 64 {
            let Some(task) = self.core.monitor.queue.pop() else {
                return;
            };
            match task {
                Task::Event(Event::Forkoff) => self.call(|h, m| h.handler_forkoff(m)),
                Task::Event(Event::ServerFork) => self.call(|h, m| h.handler_server_fork(m)),
                Task::Event(Event::ServerTimeoutCheck) => {
                    self.call(|h, m| h.handler_server_timeout_check(m));
                }
                Task::Event(Event::Shutdown) => panic!("nobody has asked for a shutdown"),
                Task::Event(Event::State(state)) => panic!("nobody has posted {state}"),
                Task::Fork => self.fork(),
                Task::Signal { child, signal } => self.signal(child, signal),
                Task::Print { .. } => {}
                Task::Watch(_) | Task::Unwatch(_) => panic!("nobody watches anything"),
            }
        }
    }

    fn call(&mut self, hook: impl FnOnce(&mut DefaultHooks, &mut Monitor)) {
        hook(&mut self.core.hooks, &mut self.core.monitor);
    }

    fn fork(&mut self) {
        if !self.core.monitor.may_fork_now() {
            return;
        }
        if self.now < self.forks_fail_until {
            let retry_in = self.core.monitor.fork_failed();
            assert!(
                retry_in >= ms(100),
                "a failed fork is retried after a pause"
            );
            return;
        }
        let pid = self
            .free_pids
            .pop_first()
            .expect("fewer children than pids");
        let id = self.core.monitor.forked(pid);
        let framer = Framer::new(Some(CommWords::CONTROL));
        self.models.insert(id, (Model::new(pid), framer));
        let start_up = us(50 + self.random.below(3_000));
        self.plan_step(id, start_up);
    }

    fn signal(&mut self, id: ChildId, signal: Signal) {
        let Some((model, _)) = self.models.get_mut(&id) else {
            panic!("{signal:?} for {id}, which has been reaped: it could hit a stranger");
        };
        if signal == Signal::Interrupt {
            assert!(!model.told, "{id} was told to stop twice");
        }
        if model.hear(signal) {
            self.wake_soon();
            self.go_on_if_waiting(id);
        }
    }

    // ---- What must hold. ----

    /// After every event. Cheap: it is the reason why a million of them take a second.
    fn check(&self) {
        let monitor = &self.core.monitor;
        let census = monitor.pool.census();
        assert!(
            monitor.pool.len() + monitor.queue.forks() <= monitor.max_clients().max(census.live()),
            "more forks than max_clients allows"
        );
        assert!(
            census.live() <= monitor.max_clients(),
            "more processes than max_clients"
        );
        assert_eq!(census.live(), self.models.len(), "somebody was forgotten");
        if self.events.is_multiple_of(64) {
            self.check_all();
        }
    }

    fn check_all(&self) {
        let monitor = &self.core.monitor;
        let lists = monitor.free_servers().count()
            + monitor.busy_servers().count()
            + monitor.retiring_servers().count();
        assert_eq!(lists, monitor.pool.len(), "a child is in no list or in two");
        for child in monitor.children() {
            let (model, _) = &self.models[&child.id()];
            assert_eq!(model.pid, child.pid());
            if child.state() == State::Retiring {
                let serving = child.reason() == Some(Reason::Culled)
                    && child.flags().contains(Flags::BUSY_SINCE_TOLD);
                let bounded = child.kill_at(monitor.timeout(), Duration::ZERO).is_some()
                    || child.flags().contains(Flags::KILL_SENT);
                assert!(bounded || serving, "{child:?} retires for ever");
            }
        }
    }

    /// At rest.
    fn check_rest(&self) {
        self.check_all();
        let monitor = &self.core.monitor;
        let census = monitor.pool.census();
        assert_eq!(
            census.retiring, 0,
            "somebody still retires: {:?}",
            self.models
        );
        let free = census.idle();
        let right = (monitor.min_spare_servers()..=monitor.max_spare_servers()).contains(&free);
        assert!(
            right || census.live() == monitor.max_clients(),
            "{census:?} at rest, wanted {}..={} of at most {}: {:?}",
            monitor.min_spare_servers(),
            monitor.max_spare_servers(),
            monitor.max_clients(),
            monitor.children().collect::<Vec<_>>(),
        );
    }
}
