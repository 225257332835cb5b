//! The loop: wait, heed signals, reap, read, look at the board, fire what is due, perform what was
//! asked for. A table of contents; each step is in a file of its own. Over any `System`.

use super::{hooked::Words, parent::Parent, read::Reading};
use crate::{
    core::{
        comm::Interval,
        draining::Drain,
        error::Error,
        event::Event,
        monitor::Monitor,
        pool,
        report::Report,
        say::say,
        signal_policy::Wish,
        states::Posted,
        system::{Ready, Source, System, Wait},
        time::Time,
    },
    hooks::{ChildServer, PreForkHooks},
    run::{Turn, child::ChildSide},
};
use std::time::Duration;

/// How often output is offered again to a reader that was full.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// How often is looked for the dead: should SIGCHLD be lost, as when the program blocks it, or should
/// somebody else in the program reap a child, nothing else would tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often, at the most, the clients that wait are counted for observers.
const COUNT_WAITING_EVERY: Duration = Duration::from_secs(1);
/// For how long, at the end, what is queued is done and a slow reader of our own output waited for.
const LAST_WORK: Duration = Duration::from_secs(1);

/// A server and its loop.
#[derive(Debug)]
pub(crate) struct Loop<H, S, Y: System> {
    pub(super) hooks: H,
    pub(super) server: S,
    pub(super) parent: Parent<Y>,
    pub(super) reading: Reading,
    pub(super) words: Words,
    pub(super) warned_of_threads: bool,
    pub(super) warned_of_stolen_statuses: bool,
    /// Why the server ends, if that is because something has failed.
    pub(super) failure: Option<Error>,
    /// The server's socket is lost, and that has been said.
    pub(super) lost: bool,
    /// How far the listeners are from being closed.
    pub(super) draining: Drain,
    /// Some child may have ended.
    pub(super) deaths_unknown: bool,
    pub(super) done: bool,
    /// What observers were told of: the names of the sockets, and that all children are busy.
    listeners: Vec<String>,
    saturated: bool,
    /// The clients that observers were told to be waiting, and when to count them again.
    waiting: u32,
    count_waiting_at: Time,
    asked_interval: Option<Interval>,
    ready: Vec<Ready>,
    /// When the loop should have turned next, as known at the end of the last turn.
    expected: Option<Time>,
    /// When to look for deaths in any case.
    pub(super) look_at: Option<Time>,
    /// When the end comes at the latest, once there are no children left.
    at_the_latest: Option<Time>,
}

impl<H, S, Y: System> Loop<H, S, Y> {
    pub(crate) fn new(hooks: H, server: S, monitor: Monitor, system: Y) -> Self {
        Self {
            hooks,
            server,
            parent: Parent::new(monitor, system),
            reading: Reading::default(),
            words: Words::default(),
            warned_of_threads: false,
            warned_of_stolen_statuses: false,
            failure: None,
            lost: false,
            draining: Drain::default(),
            deaths_unknown: false,
            done: false,
            listeners: Vec::new(),
            saturated: false,
            waiting: 0,
            count_waiting_at: Time::START,
            asked_interval: None,
            ready: Vec::new(),
            expected: None,
            look_at: None,
            at_the_latest: None,
        }
    }

    /// How long nothing has to be done; `None` for ever.
    fn patience(&self) -> Option<Duration> {
        let monitor = &self.parent.monitor;
        if self.deaths_unknown || !monitor.queue.is_empty() || self.reading.has_unread() {
            return Some(Duration::ZERO);
        }
        // Nothing would wake a server that was told to shut down when it had no child.
        if monitor.is_shutdown() && monitor.pool.len() == 0 && !self.parent.system.is_printing() {
            return Some(Duration::ZERO);
        }
        let now = self.parent.system.now();
        let deadlines = [
            monitor.deadline(),
            monitor.last_deadline(),
            self.look_at,
            self.draining.look_at(now),
            self.parent.wake_at,
        ];
        let due = deadlines.into_iter().flatten().min();
        let due = due.map(|deadline| deadline.since(now));
        let offer = self.parent.system.is_printing().then_some(OFFER_AGAIN);
        [due, offer].into_iter().flatten().min()
    }

    /// What the next turn of `run` begins with: words pile up if they keep coming and no decision hangs on
    /// them.
    pub(crate) fn next_wait(&self) -> Wait {
        match self.word_batch() {
            Some(batch) => Wait::ForWords(batch),
            None => Wait::ForAnything(None),
        }
    }

    fn word_batch(&self) -> Option<Duration> {
        let monitor = &self.parent.monitor;
        if self.words.in_turn == 0
            || monitor.is_shutdown()
            || self.patience() == Some(Duration::ZERO)
        {
            return None;
        }
        pool::word_batch(monitor.pool.census(), &monitor.attributes)
    }
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    pub(super) fn run(&mut self) -> Result<Report, Error> {
        loop {
            if self.turn(self.next_wait())?.is_done() {
                return Ok(self.parent.monitor.report().clone());
            }
        }
    }

    pub(crate) fn turn(&mut self, wait: Wait) -> Result<Turn, Error> {
        if !self.done {
            self.settle();
            self.ask_interval();
            let ready = self.wait(wait)?;
            self.tick();
            self.heed_signals(&ready);
            self.reap();
            self.read(&ready);
            self.look_at_board(wait);
            self.parent.monitor.fire_due();
            self.post_watched(&ready);
            self.perform();
            self.drain();
            self.pass_on_output();
            self.ready = ready;
            self.end_if_over();
        }
        self.outcome()
    }

    /// From the first turn on this is the process that the server lives in.
    pub(super) fn settle(&mut self) {
        if self.parent.system.take_possession() {
            self.parent.monitor.pid = std::process::id();
        }
    }

    fn wait(&mut self, wait: Wait) -> Result<Vec<Ready>, Error> {
        let patience = self.patience();
        let sooner = |wait| [wait, patience].into_iter().flatten().min();
        let wait = match wait {
            Wait::ForAnything(wait) => Wait::ForAnything(sooner(wait)),
            Wait::ForWords(batch) => Wait::ForWords(sooner(Some(batch)).unwrap_or(batch)),
        };
        let mut ready = std::mem::take(&mut self.ready);
        self.parent.system.wait(wait, &mut ready)?;
        Ok(ready)
    }

    /// Tells the children at which interval they are to send ACKs, when that has changed.
    fn ask_interval(&mut self) {
        let interval = Interval(self.parent.monitor.attributes.ack_interval());
        if self.asked_interval.replace(interval) != Some(interval) {
            self.parent.system.ask_interval(interval);
        }
    }

    /// The only reading of the clock for what happens in a turn. (What a program does between two turns
    /// has one of its own: [`Parent::tell_time`].)
    fn tick(&mut self) {
        let now = self.parent.system.now();
        // Later than it should have been: we were stopped, or starved, and the children may have
        // been so as well. That time is nobody's silence.
        let gap = self
            .expected
            .map_or(Duration::ZERO, |expected| now.since(expected));
        self.parent.monitor.tick(now, gap);
        self.parent.tell_untold();
        self.words.in_turn = 0;
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.look_at_everybody();
        }
    }

    fn heed_signals(&mut self, ready: &[Ready]) {
        let woken = ready.iter().any(|event| event.source == Source::Signals);
        let arrived = self.parent.system.signals(woken);
        let (wish, deaths) = self.parent.monitor.heed(&arrived);
        self.deaths_unknown |= deaths;
        if wish >= Wish::Shutdown {
            // Now, not in its turn: children that a Ctrl-C has ended already were asked.
            self.call_shutdown();
        }
        if wish == Wish::Kill {
            self.kill_what_is_left();
        }
    }

    fn post_watched(&mut self, ready: &[Ready]) {
        for event in ready {
            if let Source::Watch(number) = event.source
                && let Some(state) = self.parent.system.watched_state(number)
            {
                // Once, however often it was reported: whoever is called expects to find something.
                let posted = Posted::State(state.to_owned());
                if !self.parent.monitor.queue.has(&posted) {
                    self.parent.monitor.post_known(posted);
                }
            }
        }
    }

    fn pass_on_output(&mut self) {
        self.parent.monitor.report.output_dropped += self.parent.system.flush();
    }

    /// When the shutdown has come to its end: the last child reaped, the last output passed on.
    fn end_if_over(&mut self) {
        self.give_up_the_immortal();
        let monitor = &self.parent.monitor;
        if !monitor.is_shutdown() || monitor.pool.len() > 0 {
            return;
        }
        let give_up = *self.at_the_latest.get_or_insert(monitor.now() + LAST_WORK);
        // A state that posts itself leaves work for ever.
        let works = !monitor.queue.is_empty() || self.parent.system.is_printing();
        if works && monitor.now() < give_up {
            return;
        }
        self.parent.monitor.report.output_dropped += self.parent.system.give_up_printing();
        self.stop();
    }

    /// A shutdown does not wait for ever for children that hang in the kernel.
    fn give_up_the_immortal(&mut self) {
        for (_, pid) in self.parent.monitor.take_immortal() {
            say!(
                Error,
                "child {pid} cannot be killed; the shutdown goes on without it"
            );
        }
    }

    /// The end, now: the children that live are ended, and the last hook is called.
    pub(super) fn stop(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        self.end_children();
        self.call_stop();
        self.tell_end();
        // Signals last: one more SIGTERM must not end the process before the server has cleared up.
        self.parent.system.close();
    }

    /// What is left after a turn. A server that has ended because of an error says so once.
    fn outcome(&mut self) -> Result<Turn, Error> {
        if self.done
            && let Some(error) = self.failure.take()
        {
            return Err(error);
        }
        let now = self.parent.system.now();
        if self.parent.monitor.pool.len() > 0 {
            self.look_at.get_or_insert(now + LOOK_EVERY);
        } else {
            self.look_at = None;
        }
        self.tell_turn();
        let wait = if self.done { None } else { self.patience() };
        self.expected = wait.map(|wait| now + wait);
        Ok(Turn {
            done: self.done,
            wait,
        })
    }

    /// What there is to be seen at the end of a turn, and that this is one.
    fn tell_turn(&mut self) {
        if self.done || !self.parent.monitor.untold.is_observed() {
            return;
        }
        let saturated = self.parent.monitor.is_saturated();
        if saturated != std::mem::replace(&mut self.saturated, saturated) {
            self.parent.tell(match saturated {
                true => &Event::Saturated,
                false => &Event::Relieved,
            });
        }
        if saturated {
            self.tell_waiting();
        } else {
            self.waiting = 0;
        }
        self.parent.wake_at = None;
        let next_in = self.patience();
        self.parent.tell(&Event::Turn { next_in });
        self.parent.wake_at = self.parent.first_wake();
    }

    /// How many clients wait, which the system is asked now and then.
    fn tell_waiting(&mut self) {
        let now = self.parent.monitor.now();
        if now < self.count_waiting_at {
            return;
        }
        self.count_waiting_at = now + COUNT_WAITING_EVERY;
        let queued = self.server.listeners().into_iter();
        let queued = queued.filter_map(|listener| listener.queued);
        let clients = queued.fold(0, u32::saturating_add);
        if clients != std::mem::replace(&mut self.waiting, clients) {
            self.parent.tell(&Event::Waiting { clients });
        }
    }

    /// What the server listens on, and that it has started.
    pub(super) fn tell_start(&mut self) {
        if self.parent.monitor.untold.is_observed() {
            let listeners = self.server.listeners().into_iter();
            self.listeners = listeners.map(|listener| listener.name).collect();
        }
        for name in &self.listeners {
            self.parent.tell(&Event::ListenerOpened { name });
        }
        self.parent.tell(&Event::Started);
    }

    fn tell_end(&mut self) {
        for name in std::mem::take(&mut self.listeners) {
            self.parent.tell(&Event::ListenerClosed { name: &name });
        }
        self.parent.tell(&Event::Ended);
    }
}
