//! The loop: wait, reap, read, time out, do what was asked. Owns the hooks, the server, the books
//! and the shell, and brings them together; what is to be done is decided below, how it is done
//! further down still.

mod builder;
mod deaths;
mod fork;
mod handlers;
mod hooked;
mod perform;
#[cfg(test)]
mod simulation;

pub use self::builder::Builder;

use self::hooked::Hooked;
use crate::core::signal_policy::Wish;
use crate::{
    core::{error::Error, monitor::Monitor, pool, report::Report, states::Event, time::Time},
    hooks::{DefaultHooks, PreForkHooks, server::ChildServer},
    sys::{
        fd_registry::PreForkId,
        poller::{Ready, Source},
        shell::Shell,
    },
};
use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

/// How often output is offered again to a reader that was full.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// How often is looked for the dead among children that have no pidfd: should SIGCHLD be lost, as when
/// the program blocks it, nothing else would tell of them.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For how long, at the end, what is queued is done and a slow reader of our own output waited for.
const LAST_WORK: Duration = Duration::from_secs(1);

/// A preforking server: started, its socket open. Made by [`PreFork::builder`].
///
/// Dropping one that has not shut down tells the children to stop, waits for at most
/// `kill_timeout`, kills what is left and reaps it.
pub struct PreFork<H, S> {
    id: PreForkId,
    core: Hooked<H>,
    server: S,
    shell: Shell,
    ready: Vec<Ready>,
    /// When the loop should have turned next, as known at the end of the last turn.
    expected: Option<Time>,
    /// Whether children may have noted something that they have not printed.
    to_look_at_scoreboard: bool,
    /// When the end comes at the latest, once there are no children left.
    at_the_latest: Option<Time>,
    /// Whether some child may have ended without a word of which.
    deaths_unknown: bool,
    /// When to look for deaths in any case; `None` while every child has a pidfd.
    look_at: Option<Time>,
    warned_of_threads: bool,
    done: bool,
}

/// What a turn begins with.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// Everything ends it, or so much time.
    ForAnything(Option<Duration>),
    /// Words pile up for so long, or until something urgent has come; then everything is looked at.
    ForWords(Duration),
}

/// What a turn of the loop has left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a turn says when the next is due"]
pub struct Turn {
    done: bool,
    wait: Option<Duration>,
}

impl Turn {
    /// Whether the server has shut down: there is no child any more, and nothing left to do.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// How long the caller may wait for the descriptor to become readable before the next turn:
    /// zero while work is left, `None` for as long as it likes.
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }
}

impl<S: ChildServer> PreFork<DefaultHooks, S> {
    /// Begins to describe a server around `server`, with the default hooks.
    pub fn builder(server: S) -> Builder<DefaultHooks, S> {
        Builder::new(server)
    }
}

impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// Drives the server until it has shut down, and says what has happened.
    ///
    /// Returns in the parent only: a child ends inside of this call.
    ///
    /// # Errors
    ///
    /// When waiting for events fails. The children are told to stop when the server is dropped.
    pub fn run(&mut self) -> Result<Report, Error> {
        loop {
            let wait = match self.word_batch() {
                Some(batch) => Wait::ForWords(batch),
                None => Wait::ForAnything(None),
            };
            if self.turn_with(wait)?.done {
                return Ok(self.core.monitor.report().clone());
            }
        }
    }

    /// One turn of the loop, for a program with a loop of its own, or with several servers in one.
    /// It waits for events for at most `wait` (`None`: until there is one; less if a timer is due).
    ///
    /// A child is forked inside of this call and never returns from it: it runs on top of the
    /// caller's stack, with whatever locks the caller holds.
    ///
    /// # Errors
    ///
    /// When waiting for events fails.
    pub fn turn(&mut self, wait: Option<Duration>) -> Result<Turn, Error> {
        self.turn_with(Wait::ForAnything(wait))
    }

    fn turn_with(&mut self, wait: Wait) -> Result<Turn, Error> {
        if !self.done {
            self.settle();
            let ready = self.wait(wait)?;
            self.tick();
            self.heed_signals(&ready);
            self.reap(&ready);
            self.read(&ready);
            self.look_at_scoreboard();
            self.core.monitor.fire_due();
            self.post_watched(&ready);
            self.perform();
            self.pass_on_output();
            self.ready = ready;
            self.end_if_over();
        }
        Ok(self.what_is_left())
    }

    /// From the first turn on this is the process that the server lives in.
    fn settle(&mut self) {
        if self.shell.settle() {
            self.core.monitor.pid = std::process::id();
        }
    }

    fn wait(&mut self, wait: Wait) -> Result<Vec<Ready>, Error> {
        let patience = self.patience();
        let sooner = |wait| [wait, patience].into_iter().flatten().min();
        let mut ready = std::mem::take(&mut self.ready);
        match wait {
            Wait::ForAnything(wait) => self.shell.wait(sooner(wait), &mut ready)?,
            Wait::ForWords(batch) => {
                self.to_look_at_scoreboard = true;
                let batch = sooner(Some(batch)).unwrap_or(batch);
                self.shell.wait_for_words(batch, &mut ready)?;
            }
        }
        Ok(ready)
    }

    /// The only reading of the clock for what happens in a turn. (What a program does between two turns
    /// has one of its own: [`Hooked::tell_time`].)
    fn tick(&mut self) {
        let now = self.shell.clock.now();
        // Later than it should have been: we were stopped, or starved, and the children may have
        // been so as well. That time is nobody's silence.
        let gap = self
            .expected
            .map_or(Duration::ZERO, |expected| now.since(expected));
        self.core.monitor.tick(now, gap);
        self.core.words = 0;
        if self.look_at.is_some_and(|at| at <= now) {
            self.deaths_unknown = true;
            let blind = !self.shell.wires.without_pidfd().is_empty();
            self.look_at = blind.then(|| now + LOOK_EVERY);
        }
    }

    fn heed_signals(&mut self, ready: &[Ready]) {
        let woken = ready.iter().any(|event| event.source == Source::Signals);
        let arrived = self.shell.arrived(woken);
        let (wish, deaths) = self.core.monitor.heed(&arrived);
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
                && let Some(state) = self.shell.watched_state(number)
            {
                // Once, however often it was reported: whoever is called expects to find something.
                let event = Event::State(state.to_owned());
                if !self.core.monitor.queue.has(&event) {
                    self.core.monitor.post_event(event);
                }
            }
        }
    }

    /// For how long words may pile up now, if they keep coming and no decision hangs on them.
    fn word_batch(&self) -> Option<Duration> {
        let monitor = &self.core.monitor;
        if self.core.words == 0 || monitor.is_shutdown() || self.patience() == Some(Duration::ZERO)
        {
            return None;
        }
        pool::word_batch(monitor.pool.census(), &monitor.attributes)
    }

    /// How long nothing has to be done; `None` for ever.
    fn patience(&self) -> Option<Duration> {
        let monitor = &self.core.monitor;
        if self.deaths_unknown || !monitor.queue.is_empty() || !self.shell.wires.unread().is_empty()
        {
            return Some(Duration::ZERO);
        }
        let now = self.shell.clock.now();
        let deadlines = [monitor.deadline(), monitor.last_deadline()];
        let due = deadlines.into_iter().flatten().min();
        let due = due.map(|deadline| deadline.since(now));
        let offer = self.shell.outputs.is_waiting().then_some(OFFER_AGAIN);
        let look = self.look_at.map(|at| at.since(now));
        [due, offer, look].into_iter().flatten().min()
    }

    fn pass_on_output(&mut self) {
        self.core.monitor.report.output_dropped += self.shell.outputs.flush();
    }

    /// When the shutdown has come to its end: the last child reaped, the last output passed on.
    fn end_if_over(&mut self) {
        self.give_up_the_immortal();
        let monitor = &self.core.monitor;
        if !monitor.is_shutdown() || monitor.pool.len() > 0 {
            return;
        }
        let give_up = *self.at_the_latest.get_or_insert(monitor.now() + LAST_WORK);
        // A state that posts itself leaves work for ever.
        let works = !monitor.queue.is_empty() || self.shell.outputs.is_waiting();
        if works && monitor.now() < give_up {
            return;
        }
        self.core.monitor.report.output_dropped += self.shell.outputs.give_up();
        self.stop();
    }

    /// A shutdown does not wait for ever for children that hang in the kernel.
    fn give_up_the_immortal(&mut self) {
        for (child, pid) in self.core.monitor.take_immortal() {
            log::error!("child {pid} cannot be killed; the shutdown goes on without it");
            self.shell.wires.remove(&self.shell.poller, child);
        }
    }

    fn what_is_left(&mut self) -> Turn {
        let wait = if self.done { None } else { self.patience() };
        self.expected = wait.map(|wait| self.shell.clock.now() + wait);
        self.shell.grace = self.core.monitor.kill_timeout();
        Turn {
            done: self.done,
            wait,
        }
    }
}

/// Parts.
impl<H, S> PreFork<H, S> {
    /// The name of this server, unique in the process: the original's `->ID`.
    pub fn id(&self) -> PreForkId {
        self.id
    }

    /// The books: children, attributes, counts.
    pub fn monitor(&self) -> &Monitor {
        &self.core.monitor
    }

    /// The books, to set an attribute or to ask for something; it is done in the next turn. They are told
    /// the time of this call, from which an alarm or the time of a child that is told to stop counts.
    pub fn monitor_mut(&mut self) -> &mut Monitor {
        self.core.tell_time();
        &mut self.core.monitor
    }

    /// The server object.
    pub fn server(&self) -> &S {
        &self.server
    }

    /// The server object, to change it. Children that live have copies of their own.
    pub fn server_mut(&mut self) -> &mut S {
        &mut self.server
    }

    /// The hooks.
    pub fn hooks(&self) -> &H {
        &self.core.hooks
    }

    /// The hooks, to change them. Children that live have copies of their own.
    pub fn hooks_mut(&mut self) -> &mut H {
        &mut self.core.hooks
    }

    /// Ends the server as dropping it would, and gives the hooks back.
    pub fn into_hooks(self) -> H {
        self.core.hooks
    }
}

/// Readable when a turn is due (or sooner: [`Turn::wait`] says when timers are). Nests in any poller.
impl<H, S> AsFd for PreFork<H, S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shell.poller.as_fd()
    }
}

impl<H, S> fmt::Debug for PreFork<H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreFork")
            .field("id", &self.id)
            .field("children", &self.core.monitor.pool.len())
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}
