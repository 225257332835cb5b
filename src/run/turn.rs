//! The loop: wait, act on signals, reap, read, look at the board, replace children, fire due
//! timers, perform requests. Only lists the steps; each has a file of its own. Works on any `System`.

use super::{
    active_hooks::ActiveHooks, hooked::WordCounts, parent::ParentState, queues::WaitingClients,
    read::Reading, reserve::ReserveState,
};
use crate::{
    core::{
        comm::Interval,
        draining::Drain,
        error::Error,
        monitor::Monitor,
        report::Report,
        states::PostedState,
        system::{EventSource, Ready, Wait},
        time::Time,
    },
    hooks::{ChildServer, PreForkHooks},
    run::{Turn, child::ChildSide},
};
use std::time::Duration;

/// How often the loop checks for dead children. No signal reports a death if the program blocks
/// SIGCHLD or other code in the program reaps the child.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often, at the most, the loop counts the clients that wait and those that were refused.
pub(super) const COUNT_EVERY: Duration = Duration::from_secs(1);

/// A server and its loop.
#[derive(Debug)]
pub(crate) struct Loop<H: PreForkHooks, S: ChildServer, Y: ChildSide> {
    pub(super) hooks: ActiveHooks<H>,
    pub(super) server: S,
    pub(super) parent: ParentState<Y>,
    pub(super) reading: Reading,
    pub(super) words: WordCounts,
    pub(super) warned_of_threads: bool,
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
    pub(super) queues: WaitingClients,
    pub(super) count_refusals_at: Time,
    asked_interval: Option<Interval>,
    pub(super) reserve: ReserveState,
    pub(super) ready: Vec<Ready>,
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
            warned_of_stolen_statuses: false,
            failure: None,
            lost: false,
            draining: Drain::default(),
            deaths_unknown: false,
            done: false,
            listeners: Vec::new(),
            queues: WaitingClients::default(),
            count_refusals_at: Time::START,
            asked_interval: None,
            reserve: ReserveState::default(),
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
            self.update_all_busy();
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
            self.parent.monitor.pid = self.parent.system.pid();
            self.parent.monitor.board = self.parent.system.view();
        }
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
}
