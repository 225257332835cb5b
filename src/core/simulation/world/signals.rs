//! The signals to the parent: any row of the table, in any number and order, and what must follow
//! from those that have come. Ends no child, but for a SIGINT from a terminal, which all get.

use super::{ModelEvent, World, ms, us};
use crate::core::{
    child::{ChildId, Signal},
    config::Attributes,
    signal_policy::{self, Arrived, InParent, SignalEffect, SignalRow, TABLE, TakenSignals},
    time::Time,
};
use std::{collections::BTreeSet, io, time::Duration};

/// How far the stop must be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum StopStage {
    #[default]
    Running,
    /// It was announced, and begins at this time or with the next signal.
    Announced {
        begins_at: Time,
    },
    Begun,
}

/// The signals that have come, and what must follow from them.
#[derive(Debug)]
pub(crate) struct Signals {
    takes: TakenSignals,
    pre_stop_delay: Duration,
    /// How many have come since the parent's last look.
    arrived: Arrived,
    /// How many have come in all.
    heeded: Arrived,
    /// How many stops were announced.
    pub(crate) announced: u64,
    /// The signals that post a state of the program, and those of them that have a handler.
    leads: BTreeSet<Signal>,
    installed: BTreeSet<Signal>,
    pub(super) stage: StopStage,
    /// SIGINT or SIGTERM has come.
    was_told: bool,
    /// Nothing but SIGQUIT has asked for the stop: it has no bound yet.
    pub(super) is_unbounded: bool,
    /// When a stop without a bound was given one.
    pub(super) bounded_at: Option<Time>,
    /// How often all children were to be killed, and when for the first time.
    pub(super) kill_alls: u32,
    pub(super) kill_all_at: Option<Time>,
    /// This turn has to kill all children.
    pub(super) kills_all: bool,
    /// What `max_clients` must be.
    pub(crate) max_clients: usize,
    /// How many states of the program must have been posted.
    pub(super) states: u64,
    /// This turn has to begin a reload or an upgrade, or to refuse it.
    pub(super) reloads: bool,
    pub(super) upgrades: bool,
    /// How often the logs were to be reopened, and whether this turn has to.
    pub(super) reopenings: u32,
    reopens: bool,
    /// The children that are to be told to reopen their logs, and how often each was told before.
    pub(super) reopeners: Vec<(ChildId, u32)>,
}

impl Signals {
    pub(super) fn new(attributes: &Attributes) -> Self {
        Self {
            takes: TakenSignals {
                handle_signals: attributes.handle_signals,
                resize_signals: attributes.resize_signals,
            },
            pre_stop_delay: attributes.pre_stop_delay,
            arrived: Arrived::default(),
            heeded: Arrived::default(),
            announced: 0,
            leads: BTreeSet::new(),
            installed: BTreeSet::new(),
            stage: StopStage::Running,
            was_told: false,
            is_unbounded: false,
            bounded_at: None,
            kill_alls: 0,
            kill_all_at: None,
            kills_all: false,
            max_clients: attributes.max_clients,
            states: 0,
            reloads: false,
            upgrades: false,
            reopenings: 0,
            reopens: false,
            reopeners: Vec::new(),
        }
    }

    /// Whether a handler of the server's counts the signal of `row`.
    fn heeds(&self, row: &SignalRow) -> bool {
        let action = self.takes.action(row);
        let handled = matches!(action, InParent::Handled | InParent::NotIgnored);
        handled || self.installed.contains(&row.signal)
    }

    pub(super) fn arrive(&mut self, row: usize) {
        let heeded = u64::from(self.heeds(&TABLE[row]));
        self.arrived[row] += heeded;
        self.heeded[row] += heeded;
    }

    pub(super) fn have_come(&self) -> bool {
        self.arrived.iter().any(|count| *count > 0)
    }

    /// Takes what has come, and notes what must follow.
    fn take(&mut self, now: Time) -> Arrived {
        let arrived = std::mem::take(&mut self.arrived);
        let come = || TABLE.iter().zip(arrived).filter(|(_, count)| *count > 0);
        let is_led = |row: &SignalRow| self.leads.contains(&row.signal);
        self.states += come().filter(|(row, _)| is_led(row)).count() as u64;
        let count = |lead| -> u64 {
            let of_it = come().filter(|(row, _)| row.lead == lead && !is_led(row));
            of_it.map(|(_, count)| count).sum()
        };
        let [raise, lower] = [SignalEffect::Raise, SignalEffect::Lower].map(count);
        let [quits, stops] = [SignalEffect::UnboundedStop, SignalEffect::Stop].map(count);
        let [reloads, reopens, upgrades] = [
            SignalEffect::Reload,
            SignalEffect::Reopen,
            SignalEffect::Upgrade,
        ]
        .map(|lead| count(lead) > 0);
        self.max_clients = (self.max_clients + raise as usize)
            .saturating_sub(lower as usize)
            .max(1);
        self.reloads |= reloads;
        self.upgrades |= upgrades;
        self.reopens = reopens;
        self.reopenings += u32::from(reopens);
        (0..quits).for_each(|_| self.stop(true, now));
        (0..stops).for_each(|_| self.stop(false, now));
        arrived
    }

    /// One signal that asks for a stop.
    fn stop(&mut self, is_quit: bool, now: Time) {
        let told_before = self.was_told;
        self.was_told |= !is_quit;
        match self.stage {
            StopStage::Running if self.pre_stop_delay.is_zero() => self.begin(is_quit),
            StopStage::Running => {
                let begins_at = now + self.pre_stop_delay;
                self.stage = StopStage::Announced { begins_at };
                self.is_unbounded = is_quit;
                self.announced += 1;
            }
            StopStage::Announced { .. } => self.begin(is_quit && self.is_unbounded),
            StopStage::Begun if is_quit => {}
            StopStage::Begun if told_before => {
                self.kills_all = true;
                self.kill_alls += 1;
                self.kill_all_at.get_or_insert(now);
            }
            StopStage::Begun if self.is_unbounded => {
                self.is_unbounded = false;
                self.bounded_at = Some(now);
            }
            StopStage::Begun => {}
        }
    }

    fn begin(&mut self, is_unbounded: bool) {
        self.stage = StopStage::Begun;
        self.is_unbounded = is_unbounded;
    }

    /// How many of each have come, by the row of the table.
    pub(crate) fn heeded(&self) -> Arrived {
        self.heeded
    }

    /// Whether the parent was told to stop.
    pub(super) fn told(&self) -> bool {
        self.stage == StopStage::Begun
    }
}

impl World {
    /// Sends a signal to the parent, which gets it a little later: before or after others.
    fn signal_parent(&mut self, signal: Signal) {
        if let Some(row) = signal_policy::index(signal) {
            let delay = us(1 + self.random.below(300));
            self.at(delay, ModelEvent::Signal(row));
        }
    }

    pub(super) fn hear_signal(&mut self, row: usize) {
        self.signals.arrive(row);
        self.wake_soon();
    }

    /// The signals that have come. The children live that may be told something.
    pub(super) fn take_signals(&mut self) -> Arrived {
        let arrived = self.signals.take(self.now);
        if std::mem::take(&mut self.signals.reopens) {
            let living = self.kernel.iter().filter(|entry| !entry.reaped);
            self.signals.reopeners = living
                .map(|entry| (entry.id, entry.model.sent.reopenings))
                .collect();
        }
        arrived
    }

    /// Any signal of the table, up to three times. Before the stop those that ask for one are rare.
    pub(super) fn send_any_signal(&mut self) {
        let row = self.random.of(&TABLE);
        let signal = row.signal;
        if row.lead.stops() && self.signals.stage == StopStage::Running && !self.random.one_in(16) {
            return;
        }
        for _ in 0..=self.random.below(3) {
            self.signal_parent(signal);
        }
        if signal == Signal::Quit {
            self.lose_patience_later();
        }
    }

    /// After SIGQUIT nothing else need end the server, so the operator sends SIGTERM some time.
    fn lose_patience_later(&mut self) {
        let patience = ms(self.random.below(20_000));
        for _ in 0..2 {
            self.at(patience, ModelEvent::Impatience);
        }
    }

    pub(super) fn lose_patience(&mut self) {
        self.signal_parent(Signal::Terminate);
    }

    /// SIGINT, sometimes from a terminal, which sends it to the children as well; or SIGTERM; or
    /// both; or SIGQUIT, alone or with one of them.
    pub(crate) fn tell_to_shut_down(&mut self) {
        match self.random.below(6) {
            0 => self.signal_parent(Signal::Terminate),
            1 => {
                self.signal_parent(Signal::Interrupt);
                self.interrupt_the_children();
            }
            2 => {
                self.signal_parent(Signal::Interrupt);
                self.signal_parent(Signal::Terminate);
            }
            3 => {
                self.signal_parent(Signal::Quit);
                self.lose_patience_later();
            }
            4 => {
                self.signal_parent(Signal::Quit);
                self.signal_parent(Signal::Terminate);
            }
            _ => self.signal_parent(Signal::Interrupt),
        }
    }

    fn interrupt_the_children(&mut self) {
        for slot in 0..self.kernel.slots() {
            if let Some(entry) = self.kernel.in_slot(slot) {
                let id = entry.id;
                if !entry.reaped && entry.model.hear(Signal::Interrupt) {
                    self.go_on_if_waiting(id);
                }
            }
        }
    }

    /// The program reads its settings again, which are wrong now and then.
    pub(crate) fn read_settings(&mut self) -> io::Result<()> {
        self.program.since_signals.reads += 1;
        match !self.faultless && self.random.one_in(4) {
            true => Err(io::Error::other("a setting is missing")),
            false => Ok(()),
        }
    }

    /// The program has a signal post a state from now on: any that does not ask for a stop.
    pub(crate) fn any_signal_to_lead(&mut self) -> Option<Signal> {
        let row = self.random.of(&TABLE);
        (!row.lead.stops()).then(|| {
            self.signals.leads.insert(row.signal);
            row.signal
        })
    }

    /// The handler of a signal that posts a state.
    pub(super) fn install(&mut self, signal: Signal) {
        self.signals.installed.insert(signal);
    }
}
