//! The parent around the core, step by step as the loop of `prefork.rs` has it: signals, reaping,
//! reading, what is due, the queue. What differs is what it stands on.

use super::{Happening, World, ms, us};
use crate::{
    core::{
        child::{Child, ChildId, Flags, Reason, Signal},
        error::Operation,
        monitor::Monitor,
        queue::Task,
        states::Event,
        time::Time,
    },
    hooks::{DefaultHooks, PreForkHooks},
    run::simulation::{model::Doing, pipe::Left, random::Random},
    sys::poller::Output,
};
use std::{io, time::Duration};

const FORKS: usize = 32;
const MORE_TASKS: usize = 1024;

/// What the loop knows besides the core.
#[derive(Debug)]
pub(super) struct Parent {
    /// When it turns next.
    pub(super) turn_at: Option<Time>,
    /// When it should turn next, as known at the end of the last turn.
    expected: Option<Time>,
    /// Until when it does not run.
    pub(super) stands_still_until: Time,
    /// For how long it has not run since the shutdown began.
    pub(super) stood_still: Duration,
    /// Whether it is told of each death, or only that there was one.
    pidfds: bool,
    /// SIGCHLD is pending: another is merged with it.
    death_pending: bool,
    deaths_unknown: bool,
    /// SIGINT and SIGTERM that are pending, and that have arrived.
    interrupt_pending: bool,
    terminate_pending: bool,
    interrupts: u32,
    terminations: u32,
    /// How often everybody was killed, and when for the first time.
    pub(super) massacres: u32,
    pub(super) massacre_at: Option<Time>,
    /// When the shutdown began, and how many had been forked.
    pub(super) shutdown: Option<(Time, u64)>,
}

impl Parent {
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            turn_at: None,
            expected: None,
            stands_still_until: Time::START,
            stood_still: Duration::ZERO,
            pidfds: !random.one_in(3),
            death_pending: false,
            deaths_unknown: false,
            interrupt_pending: false,
            terminate_pending: false,
            interrupts: 0,
            terminations: 0,
            massacres: 0,
            massacre_at: None,
            shutdown: None,
        }
    }
}

/// When it turns, and what reaches it.
impl World {
    /// Has the loop turn after `delay`, or sooner if it was to turn sooner.
    pub(super) fn wake(&mut self, delay: Duration) {
        let at = (self.now + delay).max(self.parent.stands_still_until);
        if self.parent.turn_at.is_none_or(|planned| at < planned) {
            self.parent.turn_at = Some(at);
            self.at(at.since(self.now), Happening::Turn);
        }
    }

    /// The parent notices soon that something is there for it.
    pub(super) fn wake_soon(&mut self) {
        let delay = us(1 + self.random.below(200));
        self.wake(delay);
    }

    /// The parent does not run for `span`: it was stopped, or starved.
    pub(super) fn stand_still(&mut self, span: Duration) {
        if self.now < self.parent.stands_still_until {
            return;
        }
        self.parent.stands_still_until = self.now + span;
        self.parent.stood_still += span;
        self.parent.turn_at = None;
        self.wake(span);
    }

    pub(super) fn announce_death(&mut self, id: ChildId) {
        let delay = us(1 + self.random.below(300));
        if self.parent.pidfds {
            self.at(delay, Happening::Death(id));
        } else if !std::mem::replace(&mut self.parent.death_pending, true) {
            self.at(delay, Happening::Deaths);
        }
    }

    pub(super) fn hear_of_death(&mut self, id: ChildId) {
        if let Some(model) = self.kernel.get_mut(id) {
            model.announced = true;
            self.wake_soon();
        }
    }

    pub(super) fn hear_of_deaths(&mut self) {
        self.parent.death_pending = false;
        self.parent.deaths_unknown = true;
        self.wake_soon();
    }

    /// SIGINT, from a terminal sometimes, where it reaches the children as well; or SIGTERM; or a hook
    /// that asks.
    pub(super) fn tell_to_shut_down(&mut self) {
        let pending = self.parent.interrupt_pending || self.parent.terminate_pending;
        match self.random.below(4) {
            0 => self.parent.terminate_pending = true,
            1 => {
                self.parent.interrupt_pending = true;
                self.interrupt_the_children();
            }
            2 if !self.is_shutting_down() => {
                self.core.monitor.shutdown();
                return self.wake_soon();
            }
            _ => self.parent.interrupt_pending = true,
        }
        if !pending {
            let delay = us(1 + self.random.below(300));
            self.at(delay, Happening::Told);
        }
    }

    fn interrupt_the_children(&mut self) {
        for slot in 0..self.kernel.slots() {
            if let Some(process) = self.kernel.in_slot(slot) {
                let id = process.id;
                if process.model.hear(Signal::Interrupt) {
                    self.go_on_if_waiting(id);
                }
            }
        }
    }

    pub(super) fn hear_signal(&mut self) {
        let parent = &mut self.parent;
        parent.interrupts += u32::from(std::mem::take(&mut parent.interrupt_pending));
        parent.terminations += u32::from(std::mem::take(&mut parent.terminate_pending));
        self.wake_soon();
    }
}

/// A turn.
impl World {
    pub(super) fn turn_if_due(&mut self) {
        if self.parent.turn_at == Some(self.now) {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.parent.turn_at = None;
        let gap = self
            .parent
            .expected
            .map_or(Duration::ZERO, |expected| self.now.since(expected));
        self.core.monitor.tick(self.now, gap);
        self.heed_signals();
        self.reap();
        self.read();
        self.core.monitor.fire_due();
        self.perform();
        let wait = self.patience();
        self.parent.expected = wait.map(|wait| self.now + wait);
        if let Some(wait) = wait {
            // A kernel is never early, and rarely exact.
            let late = us(self.random.below(300));
            self.wake(wait + late);
        }
    }

    fn patience(&self) -> Option<Duration> {
        if !self.core.monitor.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.core.monitor.deadline();
        deadline.map(|deadline| deadline.since(self.now))
    }

    fn heed_signals(&mut self) {
        let interrupts = std::mem::take(&mut self.parent.interrupts);
        let terminations = std::mem::take(&mut self.parent.terminations);
        let needed = if self.is_shutting_down() { 1 } else { 2 };
        if interrupts + terminations > 0 {
            self.call_shutdown();
        }
        if interrupts >= needed {
            self.kill_what_is_left();
        }
    }

    fn call_shutdown(&mut self) {
        if !self.is_shutting_down() {
            let forks = self.core.monitor.report().forks;
            self.parent.shutdown = Some((self.now, forks));
            self.parent.stood_still = Duration::ZERO;
            self.call(|hooks, monitor| hooks.handler_shutdown(monitor));
        }
    }

    fn kill_what_is_left(&mut self) {
        self.parent.massacres += 1;
        self.parent.massacre_at.get_or_insert(self.now);
        let children: Vec<_> = self.core.monitor.children().map(Child::id).collect();
        for child in children {
            self.core.monitor.kill(child, Signal::Kill);
        }
    }

    fn reap(&mut self) {
        let everybody = std::mem::take(&mut self.parent.deaths_unknown);
        for slot in 0..self.kernel.slots() {
            let Some(process) = self.kernel.in_slot(slot) else {
                continue;
            };
            if !process.model.is_dead() {
                continue;
            }
            if process.model.announced {
                let id = process.id;
                self.bury(id);
            } else if everybody {
                // The kernel names a pid, and the books know whose it is.
                let pid = process.model.pid;
                let child = self.core.monitor.child_by_pid(pid).map(Child::id);
                self.bury(child.expect("a pid of ours"));
            }
        }
    }

    fn bury(&mut self, id: ChildId) {
        let Self { core, kernel, .. } = self;
        let Some(mut dead) = kernel.reap(id) else {
            panic!("{id} has been reaped by somebody else");
        };
        let mut stdout =
            |found: crate::core::wire::Output<'_>| core.deliver(id, Output::Stdout, found);
        let framer = &mut dead.stdout;
        dead.model
            .stdout
            .drain(|bytes| framer.feed(bytes, &mut stdout));
        framer.finish(&mut stdout);
        let mut stderr =
            |found: crate::core::wire::Output<'_>| core.deliver(id, Output::Stderr, found);
        let framer = &mut dead.stderr;
        dead.model
            .stderr
            .drain(|bytes| framer.feed(bytes, &mut stderr));
        framer.finish(&mut stderr);
        if self.core.monitor.close(id) {
            self.call(|hooks, monitor| hooks.handler_server_closed(monitor, id));
        }
        let Some((record, death)) = self.core.monitor.exited(id, dead.model.status()) else {
            panic!("{id} has been forgotten");
        };
        self.call(|hooks, monitor| hooks.server_exited(monitor, &record, &death));
        if !self.is_shutting_down() {
            self.core.monitor.post_event(Event::Forkoff);
        }
    }

    fn read(&mut self) {
        for slot in 0..self.kernel.slots() {
            let Some(process) = self.kernel.in_slot(slot) else {
                continue;
            };
            let id = process.id;
            self.core.monitor.set_unread(id, false);
            self.read_output(id, Output::Stdout);
            self.read_output(id, Output::Stderr);
        }
    }

    fn read_output(&mut self, id: ChildId, output: Output) {
        let Self {
            core,
            kernel,
            random,
            ..
        } = self;
        let (flag, open) = match output {
            Output::Stdout => (Flags::STDOUT_OPEN, core.monitor.child(id)),
            _ => (Flags::STDERR_OPEN, core.monitor.child(id)),
        };
        if !open.is_some_and(|child| child.flags().contains(flag)) {
            return;
        }
        let Some(process) = kernel.in_slot(id.slot()) else {
            return;
        };
        let (pipe, framer) = match output {
            Output::Stdout => (&mut process.model.stdout, &mut process.stdout),
            _ => (&mut process.model.stderr, &mut process.stderr),
        };
        if !pipe.is_readable() {
            return;
        }
        let broken = pipe.broken;
        let left = if broken {
            Left::End
        } else {
            pipe.read(random, |bytes| {
                framer.feed(bytes, |found| core.deliver(id, output, found));
            })
        };
        match left {
            Left::Nothing => {}
            Left::More => {
                core.monitor.set_unread(id, true);
                self.wake(Duration::ZERO);
            }
            Left::End => {
                if broken {
                    self.read_failed(id);
                } else {
                    framer.finish(|found| core.deliver(id, output, found));
                }
                if self.core.monitor.output_ended(id, flag) {
                    self.call(|hooks, monitor| hooks.handler_server_closed(monitor, id));
                }
            }
        }
    }

    fn read_failed(&mut self, id: ChildId) {
        let error = io::Error::from_raw_os_error(5);
        self.call(|hooks, monitor| {
            hooks.handler_run_error(monitor, Operation::Read, &error, Some(id));
        });
        let monitor = &mut self.core.monitor;
        if !monitor.is_shutdown() && !monitor.queue.has(&Event::Shutdown) {
            monitor.kill(id, Signal::Kill);
            monitor.retire(id, Reason::Faulty);
        }
    }

    fn perform(&mut self) {
        let mut forks = 0;
        for _ in 0..self.core.monitor.queue.len() + MORE_TASKS {
            let Some(task) = self.core.monitor.queue.pop() else {
                return;
            };
            match task {
                Task::Event(Event::Forkoff) => self.call(|h, m| h.handler_forkoff(m)),
                Task::Event(Event::ServerFork) => self.call(|h, m| h.handler_server_fork(m)),
                Task::Event(Event::ServerTimeoutCheck) => {
                    self.call(|h, m| h.handler_server_timeout_check(m));
                }
                Task::Event(Event::Shutdown) => self.call_shutdown(),
                Task::Event(Event::State(state)) => panic!("nobody has posted {state}"),
                Task::Fork => {
                    self.fork();
                    forks += 1;
                }
                Task::Signal { child, signal } => self.signal(child, signal),
                Task::Print { .. } => {}
                Task::Lead(_) | Task::Watch(_) | Task::Unwatch(_) => {
                    panic!("nobody watches anything")
                }
            }
            if forks == FORKS {
                return;
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
        let fails = self.now < self.forks_fail_until || self.forks_to_fail > 0;
        self.forks_to_fail = self.forks_to_fail.saturating_sub(1);
        if fails {
            let retry_in = self.core.monitor.fork_failed();
            let error = io::Error::from_raw_os_error(11);
            self.call(|hooks, monitor| hooks.fork_failed(monitor, &error, retry_in));
            assert!(
                retry_in >= ms(100),
                "a failed fork is retried after a pause"
            );
            return;
        }
        let pid = self.kernel.take_pid();
        let id = self.core.monitor.forked(pid);
        self.kernel.enter(id, pid, self.capacity);
        // Slow now and then: a cold cache, a big interpreter.
        let longest = if self.random.one_in(100) {
            3_000_000
        } else {
            3_000
        };
        let start_up = us(50 + self.random.below(longest));
        self.plan_step(id, start_up);
    }

    fn signal(&mut self, id: ChildId, signal: Signal) {
        // A name that has gone stale since it was queued finds nobody.
        let Some(pid) = self.core.monitor.child(id).map(Child::pid) else {
            return;
        };
        let (hit, acts) = self.kernel.kill(pid, signal);
        assert_eq!(hit, id, "{signal:?} hit somebody else");
        self.check_signals_to(id);
        if acts {
            if self
                .kernel
                .get(id)
                .is_some_and(|model| matches!(model.doing, Doing::Dead(_)))
            {
                self.announce_death(id);
            }
            self.wake_soon();
            self.go_on_if_waiting(id);
        }
    }
}
