//! The parent's side of the record: collects in a turn what has changed, and writes it at the end of
//! the turn. Never waits, and writes nothing if nothing has changed.

use crate::{
    core::{
        child::{Child, ChildId, Death},
        config::Config,
        event::Event,
        metrics::MetricNumbers,
        monitor::Monitor,
        status::{
            Stage, death,
            figures::{Head, Known, Row, Slotless, Tallies, nanoseconds},
            record::{MemoryWriter, RecordWriter},
            texts::{ListenerText, RecordTexts},
        },
        time::Time,
    },
    listeners::ListenerStatus,
    sys::{cells, date, record_memory::RecordMemory},
};
use std::{io, mem, time::Duration};

/// How often everything is written that changes without an event: ACKs, memory, attributes, the
/// lengths of queues, and what the parent has counted.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// So many changed children are written before the end of the turn.
const MOST_CHANGED: usize = 1024;

/// The record, and what is to be written to it.
#[derive(Debug)]
pub(super) struct Recorder {
    memory: Option<RecordMemory>,
    /// For how many children there are rows.
    slots: usize,
    known: Known,
    head: Head,
    tallies: Tallies,
    texts: RecordTexts,
    config: Option<Config>,
    /// The children that something has happened to.
    changed: Vec<ChildId>,
    /// Whether there may be children beyond the rows.
    has_slotless: bool,
    /// The slots of children that have ended.
    left: Vec<usize>,
    /// The texts of deaths that are to be written, and how many were written.
    deaths: Vec<String>,
    deaths_written: u64,
    refresh_at: Time,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            memory: None,
            slots: 0,
            known: Known::default(),
            head: Head::default(),
            tallies: Tallies::default(),
            texts: RecordTexts::default(),
            config: None,
            changed: Vec::new(),
            has_slotless: false,
            left: Vec::new(),
            deaths: Vec::new(),
            deaths_written: 0,
            refresh_at: Time::START,
        }
    }
}

impl Recorder {
    /// Makes the memory, in the process in which the server runs, once.
    pub(super) fn begin(&mut self, slots: usize, monitor: &Monitor) -> io::Result<&RecordMemory> {
        if self.memory.is_none() {
            self.memory = Some(RecordMemory::new(slots)?);
            self.slots = slots;
            let age = monitor.now().since_start();
            self.known.started_at = nanoseconds(date::wall_clock().saturating_sub(age));
            self.write(monitor);
            // The sockets have not been looked at yet.
            self.refresh_at = Time::START;
        }
        // OK because it has been made.
        self.memory.as_ref().ok_or(io::ErrorKind::NotFound.into())
    }

    /// Notes an event.
    pub(super) fn note(&mut self, monitor: &Monitor, event: &Event<'_>) {
        match *event {
            Event::Forked { child }
            | Event::Busy { child }
            | Event::Free { child }
            | Event::ToldToStop { child, .. } => self.change(child, monitor),
            Event::Ready { child } => {
                self.change(child, monitor);
                self.enter(Stage::Serving, monitor);
            }
            Event::Exited { child, death } => self.note_death(child, death, monitor),
            Event::StopAnnounced { .. } => self.enter(Stage::Leaving, monitor),
            Event::ShuttingDown => self.enter(Stage::Stopping, monitor),
            Event::Turn { next_in } => self.end_turn(monitor, next_in),
            _ => {}
        }
    }

    /// A stop is told at once: clients are to be sent elsewhere from its first moment on.
    fn enter(&mut self, stage: Stage, monitor: &Monitor) {
        if self.known.stage.word() < stage.word() {
            self.known.stage = stage;
            self.write(monitor);
        }
    }

    /// A drain is told at once, before its command is answered.
    pub(super) fn note_drain(&mut self, monitor: &Monitor) {
        if self.head.is_drained != u64::from(monitor.is_drained) {
            self.write(monitor);
        }
    }

    fn change(&mut self, child: ChildId, monitor: &Monitor) {
        self.has_slotless |= child.slot() >= self.slots;
        self.changed.push(child);
        if self.changed.len() == MOST_CHANGED {
            self.write(monitor);
        }
    }

    fn note_death(&mut self, child: &Child, death: &Death, monitor: &Monitor) {
        let now = monitor.now();
        let since_1970 = Duration::from_nanos(self.known.started_at);
        let unix = since_1970.saturating_add(now.since_start());
        self.deaths.push(death::text(child, death, now, unix));
        self.left.push(child.id().slot());
        // Outside of the loop, as in a stop by hand, no turn ends.
        if self.known.stage == Stage::Stopping || self.deaths.len() == MOST_CHANGED {
            self.write(monitor);
        }
    }

    /// Writes the row of a child that has ended, while its slot on the board is still its own: no
    /// connection may be missing from the sum at any moment.
    pub(super) fn note_last_lines(&mut self, child: ChildId, monitor: &Monitor) {
        if let (Some(memory), Some(child)) = (&self.memory, monitor.child(child)) {
            memory.write(|writer, pen| writer.row(child.id().slot(), Row::of(child), pen));
        }
    }

    /// Notes the sockets and their queues.
    pub(super) fn note_listeners(&mut self, listeners: Vec<ListenerStatus>) {
        let text = |listener: ListenerStatus| ListenerText {
            name: listener.name,
            queued: listener.queued,
            limit: listener.limit,
        };
        let listeners: Vec<_> = listeners.into_iter().map(text).collect();
        // During a stop the listeners are closed one after the other; their names stay.
        if !listeners.is_empty() {
            self.texts.listeners = listeners;
        }
    }

    /// Whether the sockets are to be looked at.
    pub(super) fn wants_listeners(&self, now: Time) -> bool {
        self.memory.is_some() && self.refresh_at <= now
    }

    fn end_turn(&mut self, monitor: &Monitor, next_in: Option<Duration>) {
        self.write(monitor);
        if let Some(memory) = &self.memory {
            let now = monitor.now();
            memory.note_turn(now, next_in.map(|wait| now + wait));
        }
    }

    /// Writes all that has changed.
    fn write(&mut self, monitor: &Monitor) {
        let Some(memory) = self.memory.take() else {
            return;
        };
        let refresh = self.refresh_at <= monitor.now();
        if refresh {
            self.refresh_at = monitor.now() + REFRESH_EVERY;
            self.notice_programs(monitor);
        }
        self.known.saturated_since = monitor.saturated_since();
        if refresh || self.has_slotless {
            self.known.slotless = Slotless::among(monitor.children(), self.slots);
            self.has_slotless = self.known.slotless != Slotless::default();
        }
        let head = Head::of(monitor, self.known);
        if refresh || head != self.head || !self.changed.is_empty() || !self.left.is_empty() {
            let own = refresh.then(|| self.refreshed(monitor)).flatten();
            let tallies = Tallies::of(monitor);
            memory.write(|writer, pen| {
                self.write_children(writer, monitor, refresh, pen);
                self.write_deaths(writer, pen);
                writer.head(head, pen);
                writer.tallies(&tallies, pen);
                if let Some((own, texts)) = own {
                    writer.own(&own, pen);
                    writer.texts(&texts, pen);
                }
            });
            (self.head, self.tallies) = (head, tallies);
        }
        self.memory = Some(memory);
    }

    /// Programs are ready without a word, so without an event.
    fn notice_programs(&mut self, monitor: &Monitor) {
        if self.known.stage == Stage::Starting && monitor.children().any(Child::is_ready) {
            self.known.stage = Stage::Serving;
        }
    }

    /// What the parent has counted, and the texts.
    fn refreshed(&mut self, monitor: &Monitor) -> Option<(MetricNumbers, Vec<u8>)> {
        let config = &*monitor.attributes;
        if self.config.as_ref() != Some(config) {
            self.texts.attributes = RecordTexts::attributes_of(config);
            self.config = Some(config.clone());
        }
        let (own, metrics) = cells::counted().unwrap_or_default();
        self.texts.metrics = metrics;
        Some((own, self.texts.pack()))
    }

    fn write_children(
        &mut self,
        writer: RecordWriter,
        monitor: &Monitor,
        all: bool,
        pen: &mut dyn MemoryWriter,
    ) {
        // Another child may be in the slot already; its row comes after.
        for slot in self.left.drain(..) {
            writer.row(slot, Row::default(), pen);
        }
        let mut write = |child: &Child| writer.row(child.id().slot(), Row::of(child), pen);
        let changed = mem::take(&mut self.changed);
        match all {
            true => monitor.children().for_each(&mut write),
            false => {
                let living = changed.iter().filter_map(|child| monitor.child(*child));
                living.for_each(&mut write);
            }
        }
        self.changed = changed;
        self.changed.clear();
    }

    fn write_deaths(&mut self, writer: RecordWriter, pen: &mut dyn MemoryWriter) {
        for text in self.deaths.drain(..) {
            writer.death(self.deaths_written, &text, pen);
            self.deaths_written += 1;
        }
    }
}
