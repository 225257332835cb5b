//! The loop: wait, act on signals, reap, read, look at the board, replace children, fire due
//! timers, perform requests. Only lists the steps; each has a file of its own. Works on any `System`.

use super::{active_hooks::ActiveHooks, hooked::WordCounts, parent::ParentState, read::Reading};
use crate::{
    core::{
        comm::Interval,
        draining::Drain,
        error::Error,
        event::Event,
        monitor::Monitor,
        notice::Notice,
        pool,
        report::Report,
        saturation::{Change, Saturation},
        states::PostedState,
        stop::StopEffect,
        system::{EventSource, Ready, Wait},
        time::Time,
    },
    hooks::{ChildServer, PreForkHooks},
    run::{Turn, child::ChildSide},
};
use std::time::Duration;

/// How often the loop retries output after its reader was slow.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// How often the loop checks for dead children. No signal reports a death if the program blocks
/// SIGCHLD or other code in the program reaps the child.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often, at the most, the loop counts the clients that wait and those that were refused.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How often the loop looks at the queues when all children have just become busy, and while they
/// are for longer: the ages of clients follow from the looks before.
const LOOK_AHEAD_EVERY: Duration = Duration::from_millis(20);
const LOOK_ON_EVERY: Duration = Duration::from_millis(100);

/// A server and its loop.
#[derive(Debug)]
pub(crate) struct Loop<H: PreForkHooks, S: ChildServer, Y: ChildSide> {
    pub(super) hooks: ActiveHooks<H>,
    pub(super) server: S,
    pub(super) parent: ParentState<Y>,
    pub(super) reading: Reading,
    pub(super) words: WordCounts,
    pub(super) warned_of_threads: bool,
    warned_of_no_reserve: bool,
    pub(super) warned_of_stolen_statuses: bool,
    /// Why the server ends, if it ends because of a failure.
    pub(super) failure: Option<Error>,
    /// Whether the server's socket is lost; this has been reported.
    pub(super) lost: bool,
    /// The progress towards closing the listeners.
    pub(super) draining: Drain,
    /// Whether a child may have ended.
    pub(super) deaths_unknown: bool,
    pub(super) done: bool,
    /// The names of the sockets, as observers know them.
    pub(super) listeners: Vec<String>,
    /// The clients that observers were told to be waiting, and when to count them again.
    waiting: u32,
    count_waiting_at: Time,
    /// When the queues were looked at for the ages of their clients, and when they are again.
    looked_ahead: Time,
    look_ahead_at: Option<Time>,
    /// Whether the system does not tell how many clients wait.
    queues_unknown: bool,
    count_refusals_at: Time,
    asked_interval: Option<Interval>,
    /// Whether the server object was told that all children are busy.
    emitted_all_busy: bool,
    ready: Vec<Ready>,
    /// When the next turn should begin, as computed at the end of the last turn.
    expected: Option<Time>,
    /// When to check for deaths without a signal.
    pub(super) look_at: Option<Time>,
    /// When the end comes at the latest, after the last child has ended.
    pub(super) at_the_latest: Option<Time>,
    /// Why the program before an upgrade is to be executed again.
    pub(super) come_back_for: Option<String>,
    /// What the program before has handed on for the hooks, as long as it may be executed again.
    pub(super) handed_on: Vec<u8>,
    #[cfg(feature = "holder")]
    pub(super) journaled: super::journal::Journaled,
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    pub(crate) fn new(hooks: H, server: S, mut monitor: Monitor, system: Y) -> Self {
        monitor.board = system.view();
        Self {
            hooks: ActiveHooks::new(hooks),
            server,
            parent: ParentState::new(monitor, system),
            reading: Reading::default(),
            words: WordCounts::default(),
            warned_of_threads: false,
            warned_of_no_reserve: false,
            warned_of_stolen_statuses: false,
            failure: None,
            lost: false,
            draining: Drain::default(),
            deaths_unknown: false,
            done: false,
            listeners: Vec::new(),
            waiting: 0,
            count_waiting_at: Time::START,
            looked_ahead: Time::START,
            look_ahead_at: None,
            queues_unknown: false,
            count_refusals_at: Time::START,
            asked_interval: None,
            emitted_all_busy: false,
            ready: Vec::new(),
            expected: None,
            look_at: None,
            at_the_latest: None,
            come_back_for: None,
            handed_on: Vec::new(),
            #[cfg(feature = "holder")]
            journaled: super::journal::Journaled::default(),
        }
    }

    /// How long the loop may sleep; `None` for no limit.
    fn longest_wait(&self) -> Option<Duration> {
        let monitor = &self.parent.monitor;
        let replaces = monitor.replacement.is_due() && !monitor.is_shutdown();
        if self.deaths_unknown || replaces || !monitor.queue.is_empty() || self.reading.has_unread()
        {
            return Some(Duration::ZERO);
        }
        // No event would wake a server that was told to shut down when it had no child.
        if monitor.is_shutdown() && monitor.pool.len() == 0 && !self.parent.system.is_printing() {
            return Some(Duration::ZERO);
        }
        let now = self.parent.system.now();
        let deadlines = [
            monitor.deadline(),
            monitor.last_deadline(),
            self.look_at,
            self.look_ahead_at,
            self.draining.look_at(now),
            self.parent.wake_at,
            self.parent.client_table.next(),
        ];
        let due = deadlines.into_iter().flatten().min();
        let due = due.map(|deadline| deadline.since(now));
        let offer = self.parent.system.is_printing().then_some(OFFER_AGAIN);
        [due, offer].into_iter().flatten().min()
    }

    /// The wait at the start of `run`'s next turn. Words pile up if they keep arriving and no
    /// decision depends on them.
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
            || self.longest_wait() == Some(Duration::ZERO)
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
            self.tend_status();
            self.ask_interval();
            self.look_for_shedder();
            self.show_title();
            let ready = self.wait(wait)?;
            self.tick();
            self.act_on_signals(&ready);
            self.reap();
            self.read(&ready);
            self.look_at_board(wait);
            self.take_stacks();
            self.measure_starts();
            self.check_clocks();
            self.serve_control(&ready);
            self.replace();
            self.parent.monitor.fire_due();
            self.post_watched(&ready);
            self.perform();
            self.drain();
            self.pass_on_output();
            self.watch_saturation();
            self.look_ahead();
            self.emit_all_busy();
            self.count_refusals();
            self.record_listeners();
            self.parent.answer_control();
            self.move_upgrade();
            #[cfg(feature = "holder")]
            self.keep_journal();
            self.ready = ready;
            self.end_if_over();
        }
        self.outcome()
    }

    /// From the first turn on, this process is the server's.
    pub(super) fn settle(&mut self) {
        if self.parent.system.take_possession() {
            self.parent.monitor.pid = std::process::id();
            self.parent.monitor.board = self.parent.system.view();
        }
    }

    fn wait(&mut self, wait: Wait) -> Result<Vec<Ready>, Error> {
        let longest = self.longest_wait();
        let sooner = |wait| [wait, longest].into_iter().flatten().min();
        let wait = match wait {
            Wait::ForAnything(wait) => Wait::ForAnything(sooner(wait)),
            Wait::ForWords(batch) => Wait::ForWords(sooner(Some(batch)).unwrap_or(batch)),
        };
        let mut ready = std::mem::take(&mut self.ready);
        if let Err(error) = self.parent.system.wait(wait, &mut ready) {
            self.waits_no_more(error)?;
        }
        Ok(ready)
    }

    /// Tells the children the interval for their ACKs, when it has changed.
    fn ask_interval(&mut self) {
        let interval = Interval(self.parent.monitor.attributes.ack_interval());
        if self.asked_interval.replace(interval) != Some(interval) {
            self.parent.system.ask_interval(interval);
        }
    }

    /// Shows in ps, before it waits, what the parent has found in the last turn.
    fn show_title(&mut self) {
        let monitor = &self.parent.monitor;
        let census = monitor.pool.census();
        let name = monitor.process_title().as_deref();
        self.parent
            .system
            .show_title(name, census.busy, census.live());
    }

    /// Reads the clock for all events of a turn. (Between two turns, [`ParentState::update_time`] reads it
    /// for the program.)
    fn tick(&mut self) {
        let now = self.parent.system.now();
        // The turn may be late because this process was stopped or starved. The children may have
        // been, too, so that time does not count as a child's silence.
        let gap = self
            .expected
            .map_or(Duration::ZERO, |expected| now.since(expected));
        self.parent.monitor.tick(now, gap);
        self.parent.emit_pending();
        self.words.in_turn = 0;
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.check_all();
            if self.parent.monitor.bounds_connections() {
                self.note_boards();
            }
        }
    }

    fn act_on_signals(&mut self, ready: &[Ready]) {
        let woken = ready
            .iter()
            .any(|event| event.source == EventSource::Signals);
        let arrived = self.parent.system.signals(woken);
        let (effect, deaths) = self.parent.monitor.act_on_signals(&arrived);
        self.deaths_unknown |= deaths;
        self.apply_stop(effect);
    }

    /// Does what a stop that was asked for makes necessary.
    pub(super) fn apply_stop(&mut self, effect: StopEffect) {
        if effect >= StopEffect::Shutdown {
            // At once, not in queue order: a Ctrl-C has already told the children to stop.
            self.call_shutdown();
        }
        match effect {
            StopEffect::Kill => self.kill_remaining(),
            StopEffect::Bound => self.parent.monitor.bound_stop(),
            StopEffect::Nothing | StopEffect::Announce | StopEffect::Shutdown => {}
        }
    }

    /// Measures what the forks that are held back depend on.
    fn measure_starts(&mut self) {
        let ParentState {
            monitor, system, ..
        } = &mut self.parent;
        for child in monitor.take_started() {
            let contact = monitor.pool.contact(child);
            if let Some(time) = contact.and_then(|contact| contact.process.run_time()) {
                monitor.note_run_time(child, time);
            }
        }
        if monitor.wants_pressure()
            && let Some(pressure) = system.pressure()
        {
            let now = monitor.now();
            monitor.brake.note_pressure(pressure, now);
        }
    }

    fn post_watched(&mut self, ready: &[Ready]) {
        for event in ready {
            if let EventSource::Watch(number) = event.source
                && let Some(state) = self.parent.system.watched_state(number)
            {
                // Posted once, however often the poller reported it: the handler expects input each
                // time.
                let posted = PostedState::State(state.to_owned());
                if !self.parent.monitor.queue.has(&posted) {
                    self.parent.monitor.post_known(posted);
                }
            }
        }
    }

    fn pass_on_output(&mut self) {
        self.parent.monitor.report.output_dropped += self.parent.system.flush();
    }

    /// The result of a turn. A server that has ended because of a failure returns it once.
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
        self.emit_turn();
        let wait = if self.done { None } else { self.longest_wait() };
        self.expected = wait.map(|wait| now + wait);
        Ok(Turn {
            done: self.done,
            wait,
        })
    }

    /// Tells observers the state at the end of a turn, and that the turn has ended.
    fn emit_turn(&mut self) {
        if self.done {
            return;
        }
        if self.parent.monitor.is_in_saturation() {
            self.emit_waiting();
        }
        self.parent.wake_at = None;
        let next_in = self.longest_wait();
        self.parent.emit(&Event::Turn { next_in });
        self.parent.wake_at = self.parent.first_wake();
    }

    /// Calls the hook and tells observers when the server has become saturated, and when that is
    /// over.
    fn watch_saturation(&mut self) {
        match self.parent.monitor.observe_saturation() {
            Some(Change::Begins { since }) => self.begin_saturation(since),
            Some(Change::Ends { after }) => self.parent.emit(&Event::Relieved { after }),
            None => {}
        }
    }

    /// Finds out whether the server object can use a reserved child, while one is asked for.
    fn look_for_shedder(&mut self) {
        let monitor = &mut self.parent.monitor;
        if !monitor.reserved_shedder() {
            return;
        }
        if !monitor.sheds && self.server.can_shed() {
            monitor.sheds = true;
            monitor.post_known(PostedState::Forkoff);
        }
        if let Some(why) = monitor.why_no_reserve()
            && !std::mem::replace(&mut self.warned_of_no_reserve, true)
        {
            monitor.notice(
                Notice::NoReserve,
                format_args!("reserved_shedder has no effect: {why}"),
            );
        }
    }

    /// Tells the server object, which wakes the reserved child.
    fn emit_all_busy(&mut self) {
        let monitor = &self.parent.monitor;
        let all_busy = monitor.pool.reserved().is_some() && monitor.are_all_busy();
        if std::mem::replace(&mut self.emitted_all_busy, all_busy) != all_busy {
            self.server.set_all_busy(all_busy);
        }
    }

    /// Asks the server object now and then how many connections were refused.
    fn count_refusals(&mut self) {
        let now = self.parent.monitor.now();
        if self.count_refusals_at <= now {
            self.count_refusals_at = now + COUNT_EVERY;
            self.note_refusals();
        }
    }

    pub(super) fn note_refusals(&mut self) {
        self.parent.monitor.note_refusals(self.server.refusals());
        self.parent.emit_pending();
    }

    fn begin_saturation(&mut self, since: Time) {
        let (waiting, oldest) = self.look_at_queues();
        self.count_waiting_at = self.parent.monitor.now() + COUNT_EVERY;
        self.waiting = waiting.unwrap_or(0);
        let event = Event::Saturated { waiting, oldest };
        let episode = Saturation {
            since,
            waiting,
            oldest,
        };
        let hooks = self.hooks.current();
        let hook = |monitor: &mut Monitor| hooks.saturated(monitor, &episode);
        self.parent.call_and_emit("saturated", &event, hook);
    }

    /// How many clients wait, which the system is asked now and then.
    fn emit_waiting(&mut self) {
        if self.parent.monitor.now() < self.count_waiting_at {
            return;
        }
        self.count_waiting_at = self.parent.monitor.now() + COUNT_EVERY;
        let (clients, oldest) = self.look_at_queues();
        let clients = clients.unwrap_or(0);
        if clients != std::mem::replace(&mut self.waiting, clients) {
            self.parent.emit(&Event::Waiting { clients, oldest });
        }
    }

    /// How many clients are queued at all sockets, and for how long the first has been, at least;
    /// `None` if that is not known of any.
    fn look_at_queues(&mut self) -> (Option<u32>, Option<Duration>) {
        self.looked_ahead = self.parent.monitor.now();
        let listeners = self.server.listeners();
        let queued = listeners.iter().filter_map(|listener| listener.queued);
        let oldest = listeners.iter().filter_map(|listener| listener.oldest);
        let queued = queued.reduce(u32::saturating_add);
        self.queues_unknown = queued.is_none();
        (queued, oldest.max())
    }

    /// Looks at the queues from when a saturation may be about to begin, until it is over.
    fn look_ahead(&mut self) {
        let now = self.parent.monitor.now();
        self.look_ahead_at = self.next_look_ahead();
        if self.look_ahead_at.is_some_and(|at| at <= now) {
            self.look_at_queues();
            self.look_ahead_at = self.next_look_ahead();
        }
    }

    fn next_look_ahead(&self) -> Option<Time> {
        let monitor = &self.parent.monitor;
        let every = if monitor.saturation_comes() {
            LOOK_AHEAD_EVERY
        } else if monitor.is_in_saturation() {
            LOOK_ON_EVERY
        } else {
            return None;
        };
        (!self.queues_unknown).then_some(self.looked_ahead + every)
    }

    /// Tells observers the listeners, and that the server has started.
    pub(super) fn emit_start(&mut self) {
        let listeners = self.server.listeners().into_iter();
        self.listeners = listeners.map(|listener| listener.name).collect();
        for name in &self.listeners {
            self.parent.emit(&Event::ListenerOpened { name });
        }
        self.parent.emit(&Event::Started);
    }
}
