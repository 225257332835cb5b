//! What is shown of one moment: the parent's record, and for each child what it has noted on the
//! board. Believes no number of a child that cannot be true.

use super::{
    Stage,
    figures::Row,
    history::{History, Sample},
    record::StatusRecord,
};
use crate::core::{
    board::{Description, SlotNotes, Sums, View},
    child::{ChildId, State, believable},
    metrics::{Distribution, MetricNumbers},
    queue_times::LISTENERS,
    time::Time,
};
use std::time::Duration;

/// What was found on the board.
///
/// It is looked at before the record is read: the parent notes how many connections a child has taken
/// before it clears the child's slot. In the other order those of a child that ends between the two
/// looks would be missing.
#[derive(Debug, Default)]
pub(crate) struct BoardLook(Vec<(SlotNotes, Option<Description>)>);

impl BoardLook {
    pub(crate) fn at(view: &dyn View, now: Time) -> Self {
        let child = |slot| {
            let notes = view.notes(slot, now);
            let description = notes.since.and_then(|_| view.description(slot));
            (notes, description)
        };
        Self((0..view.used_slots()).map(child).collect())
    }
}

/// One child, as it is shown.
#[derive(Clone, Debug)]
pub(crate) struct ShownChild {
    pub(crate) slot: usize,
    pub(crate) row: Row,
    pub(crate) state: State,
    pub(crate) requests: u64,
    /// Since when it has a connection in hand.
    pub(crate) since: Option<Time>,
    /// How long its last connection was queued.
    pub(crate) queued: Option<Duration>,
    pub(crate) is_due: bool,
    /// The client that it serves, if there is one and the child notes it.
    pub(crate) description: Option<Description>,
}

impl ShownChild {
    fn new(slot: usize, row: Row, look: &mut BoardLook, now: Time) -> Self {
        let found = look.0.get_mut(slot).map(std::mem::take);
        // The slot may have been free then, or its predecessor's.
        let found = found.filter(|(notes, _)| notes.entry.is_of(row.serial()));
        let (notes, description) = found.unzip();
        let state = state(row.state(), notes.as_ref());
        let since = match &notes {
            Some(notes) if notes.requests > 0 => notes.since,
            _ => Some(row.busy_since)
                .filter(|_| state != State::Free)
                .and_then(|since| since.checked_sub(1))
                .map(Time::at_nanoseconds),
        };
        let noted = notes.as_ref().map_or(0, |notes| notes.requests);
        Self {
            slot,
            row,
            state,
            requests: requests(noted, &row, now),
            since,
            queued: notes.as_ref().and_then(|notes| notes.queued),
            is_due: row.is_due() || notes.as_ref().is_some_and(|notes| notes.due),
            description: description.flatten().filter(|_| since.is_some()),
        }
    }

    pub(crate) fn id(&self) -> ChildId {
        // OK to cast: slots are numbered by it.
        ChildId::new(self.slot as u32, self.row.serial())
    }
}

/// What a child has noted now, or what the parent has read of its notes before, if that can be true.
fn requests(noted: u64, row: &Row, now: Time) -> u64 {
    let born = Time::at_nanoseconds(row.start_time);
    match believable(noted, born, now) {
        0 => believable(row.requests, born, now),
        noted => noted,
    }
}

/// What a child notes is newer than the words that the parent has read, unless it notes nothing or its words
/// change nothing.
fn state(heard: State, notes: Option<&SlotNotes>) -> State {
    match notes {
        Some(notes) if follows_words(heard) && notes.entry.has_said_a_word() => {
            match notes.entry.is_busy() {
                true => State::Busy,
                false => State::Free,
            }
        }
        _ => heard,
    }
}

fn follows_words(state: State) -> bool {
    !matches!(state, State::Reserved | State::Retiring)
}

/// How many children are in each state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct StateCounts {
    pub(crate) starting: u64,
    pub(crate) free: u64,
    pub(crate) busy: u64,
    pub(crate) reserved: u64,
    pub(crate) stopping: u64,
}

impl StateCounts {
    pub(super) fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Starting => &mut self.starting,
            State::Free => &mut self.free,
            State::Busy => &mut self.busy,
            State::Reserved => &mut self.reserved,
            State::Retiring => &mut self.stopping,
        }
    }

    pub(crate) fn total(self) -> u64 {
        self.starting + self.free + self.busy + self.reserved + self.stopping
    }

    /// Each with its name.
    pub(crate) fn named(self) -> [(&'static str, u64); 5] {
        [
            ("starting", self.starting),
            ("free", self.free),
            ("busy", self.busy),
            ("reserved", self.reserved),
            ("stopping", self.stopping),
        ]
    }
}

/// Everything that is shown.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) now: Time,
    pub(crate) record: StatusRecord,
    pub(crate) children: Vec<ShownChild>,
    pub(crate) counts: StateCounts,
    /// The numbers of the program's metrics.
    pub(crate) numbers: MetricNumbers,
    /// How long connections were queued, by the listener.
    pub(crate) queue_times: Vec<Distribution>,
    pub(crate) connections: u64,
}

/// The sums as they were told last. None gets smaller, which a scraper would take for a restart:
/// what a child had counted stays when the child overwrites it with any number.
#[derive(Debug, Default)]
pub(crate) struct ReportedSums {
    sums: Sums,
    connections: u64,
}

impl ReportedSums {
    /// Notes what was found on the board. Nothing, if the parent was adding up at each attempt.
    pub(crate) fn note(&mut self, found: Option<Sums>) {
        if let Some(found) = found {
            self.sums.numbers.follow(&found.numbers);
            self.sums.queue_times.follow(&found.queue_times);
        }
    }

    fn connections(&mut self, now: u64) -> u64 {
        self.connections = self.connections.max(now);
        self.connections
    }
}

impl Picture {
    /// What a look and a record show. The sums were noted between the two.
    pub(crate) fn new(
        mut look: BoardLook,
        record: StatusRecord,
        told: &mut ReportedSums,
        now: Time,
    ) -> Self {
        let rows = record.rows.iter();
        let children: Vec<_> = rows
            .map(|&(slot, row)| ShownChild::new(slot, row, &mut look, now))
            .collect();
        let mut counts = record.head.slotless();
        for child in &children {
            *counts.of(child.state) += 1;
        }
        let taken = children.iter().map(|child| child.requests);
        let taken = taken.chain([record.head.slotless_connections]);
        let connections = taken.fold(record.head.ended_connections, u64::saturating_add);
        let mut numbers = told.sums.numbers.clone();
        numbers.add(&record.own);
        Self {
            now,
            record,
            children,
            counts,
            numbers,
            queue_times: told.sums.queue_times.distributions(),
            connections: told.connections(connections),
        }
    }

    /// How long connections of a listener were queued, if it has a histogram of its own and has any.
    pub(crate) fn queue_times_of(&self, listener: usize) -> Option<&Distribution> {
        let is_own = !self.has_others() || listener < LISTENERS - 1;
        self.queue_times.get(listener).filter(|_| is_own)
    }

    /// The same of all listeners that have none of their own.
    pub(crate) fn queue_times_of_others(&self) -> Option<&Distribution> {
        let last = self.queue_times.get(LISTENERS - 1);
        last.filter(|_| self.has_others())
    }

    fn has_others(&self) -> bool {
        self.record.texts.listeners.len() > LISTENERS
    }

    pub(crate) fn sample(&self) -> Sample {
        Sample {
            at: self.now,
            connections: self.connections,
            busy: self.counts.busy,
            children: self.counts.total(),
            queued_count: self.queue_times.iter().map(Distribution::count).sum(),
            queued_seconds: self.queue_times.iter().map(|times| times.sum).sum(),
        }
    }

    /// The time of day at a time, since 1970.
    pub(crate) fn time_of_day(&self, at: Time) -> Duration {
        Duration::from_nanos(self.record.head.started_at).saturating_add(at.since_start())
    }

    /// How long the present saturation has lasted.
    pub(crate) fn saturated_for(&self) -> Option<Duration> {
        let since = self.record.head.saturated_since.checked_sub(1)?;
        Some(self.now.since(Time::at_nanoseconds(since)))
    }

    /// How long ago the child that has been silent for longest has said that it lives.
    pub(crate) fn oldest_ack(&self) -> Option<Duration> {
        let acks = self.children.iter().map(|child| child.row.last_ack);
        let slotless = self.record.head.slotless_last_ack.checked_sub(1);
        acks.chain(slotless)
            .min()
            .map(|ack| self.now.since(Time::at_nanoseconds(ack)))
    }
}

/// Whether clients should be sent to the server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    /// When a child was last seen that can take connections.
    seen_at: Option<Time>,
}

impl Readiness {
    /// A pool that replaces its only child has none for a moment.
    const HOLDS_FOR: Duration = Duration::from_secs(1);

    /// Notes what is seen, and decides.
    pub(crate) fn judge(&mut self, stage: Stage, has_ready_child: bool, now: Time) -> bool {
        if has_ready_child {
            self.seen_at = Some(now);
        }
        let recently = |at: Time| now.since(at) < Self::HOLDS_FOR;
        stage == Stage::Serving && self.seen_at.is_some_and(recently)
    }
}

/// What is shown besides the picture: the past, and whether the server is ready.
#[derive(Debug)]
pub(crate) struct StatusContext<'a> {
    pub(crate) picture: &'a Picture,
    pub(crate) history: &'a History,
    pub(crate) is_ready: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::metrics::INTEGERS;

    fn at(milliseconds: u64) -> Time {
        Time::at(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_server_is_ready_from_its_first_ready_child_to_the_first_moment_of_a_stop() {
        let mut readiness = Readiness::default();
        for (stage, ready, now, is_ready) in [
            (Stage::Starting, false, 0, false),
            (Stage::Serving, true, 10, true),
            // The only child is being replaced.
            (Stage::Serving, false, 500, true),
            (Stage::Serving, false, 1_010, false),
            (Stage::Serving, true, 1_100, true),
            (Stage::Leaving, true, 1_101, false),
            (Stage::Stopping, true, 1_102, false),
        ] {
            let found = readiness.judge(stage, ready, at(now));
            assert_eq!(found, is_ready, "at {now}");
        }
    }

    #[test]
    fn what_was_told_is_not_taken_back() {
        let sums = |numbers: u64, sum: f64| Sums {
            numbers: MetricNumbers::read(|at| match at < INTEGERS {
                true => numbers,
                false => sum.to_bits(),
            }),
            ..Sums::default()
        };
        let mut told = ReportedSums::default();
        for (found, right) in [
            (Some(sums(5, 2.5)), sums(5, 2.5)),
            // The parent was adding up at each attempt.
            (None, sums(5, 2.5)),
            // Sums of negative observations get smaller.
            (Some(sums(7, 1.5)), sums(7, 1.5)),
            // A child has scribbled over its row.
            (Some(sums(3, 0.5)), sums(7, 1.5)),
            (Some(sums(8, 1.0)), sums(8, 1.0)),
        ] {
            told.note(found);
            assert_eq!(told.sums, right);
        }
        assert_eq!([3, 2, 4].map(|now| told.connections(now)), [3, 3, 4]);
    }
}
