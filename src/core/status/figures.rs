//! The figures in the record of the parent: what each number means, and how it is got from what the
//! parent knows. Says nothing of where they lie.

use crate::core::{
    accept::refusal::Refusal,
    board::time_bits,
    child::{Child, State},
    monitor::Monitor,
    status::{Stage, names, picture::StateCounts},
    time::Time,
};
use std::time::Duration;

/// There is room for more causes and reasons than there are.
pub(super) const CAUSES: usize = 32;
pub(super) const REASONS: usize = 16;

/// Makes a structure of numbers that are the words of the record, in their order.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $field: u64),*
        }

        impl $name {
            pub(crate) const WORDS: usize = [$(stringify!($field)),*].len();

            pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
                [$(self.$field),*]
            }

            pub(crate) fn from_words(words: [u64; Self::WORDS]) -> Self {
                let [$($field),*] = words;
                Self { $($field),* }
            }
        }
    };
}

words! {
    /// The numbers of the server as a whole. Times and durations are in nanoseconds.
    Head {
        /// A [`Stage`].
        stage,
        pid,
        /// The time of day at [`Time::START`], since 1970.
        started_at,
        epoch,
        is_reloading,
        /// Since when the present saturation has lasted, as the board has times: 0 for none.
        saturated_since,
        max_clients,
        min_spare,
        max_spare,
        /// The connections of children that have ended.
        ended_connections,
        forks,
        failed_forks,
        acks,
        busy_words,
        not_busy_words,
        output_dropped,
        lost_connections,
        hook_panics,
        slow_hooks,
        saturations,
        saturated_for,
        reloads,
        failed_reloads,
        takeovers,
        upgrades,
        /// The children that have no slot, and so no row, by their state.
        slotless_starting,
        slotless_free,
        slotless_busy,
        slotless_reserved,
        slotless_stopping,
        /// How many of them can take connections.
        slotless_ready,
        /// How many connections they have taken.
        slotless_connections,
        /// When the most silent of them has said that it lives, as the board has times.
        slotless_last_ack,
        /// Whether an operator has taken the server out of balancers.
        is_drained,
    }
}

words! {
    /// What the parent knows of one child; all zero for none.
    Row {
        /// Serial and pid.
        name,
        /// The state, why it was told to stop, flags, the epoch.
        standing,
        start_time,
        requests,
        /// When it took the connection in hand, by its words: 0 for none.
        busy_since,
        last_ack,
        /// One more than its private memory.
        memory,
        /// When it was told to stop: 0 for never.
        told_at,
    }
}

const READY: u64 = 1 << 16;
const DUE: u64 = 1 << 17;

impl Row {
    pub(crate) fn of(child: &Child) -> Self {
        let id = child.id();
        let reason = child.reason().map_or(0, names::reason_word);
        let flag = |on: bool, flag: u64| if on { flag } else { 0 };
        Self {
            name: u64::from(id.serial()) << 32 | u64::from(child.pid()),
            standing: state_word(child.state())
                | reason << 8
                | flag(child.is_ready(), READY)
                | flag(child.is_due(), DUE)
                | u64::from(child.epoch()) << 32,
            start_time: time_word(child.start_time()),
            requests: taken(child),
            busy_since: time_bits(child.busy_since()),
            last_ack: time_word(child.last_ack()),
            memory: child
                .private_memory()
                .map_or(0, |bytes| bytes.saturating_add(1)),
            told_at: time_bits(child.retirement.map(|told| told.at)),
        }
    }

    pub(crate) fn serial(&self) -> u32 {
        // OK to cut: it is the upper half.
        (self.name >> 32) as u32
    }

    pub(crate) fn pid(&self) -> u32 {
        // OK to cut: it is the lower half.
        self.name as u32
    }

    pub(crate) fn state(&self) -> State {
        match self.standing & 0xff {
            0 => State::Starting,
            1 => State::Free,
            2 => State::Busy,
            3 => State::Reserved,
            _ => State::Retiring,
        }
    }

    pub(crate) fn reason(&self) -> Option<&'static str> {
        names::reason(self.standing >> 8 & 0xff)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.standing & READY != 0 && self.state() != State::Retiring
    }

    pub(crate) fn is_due(&self) -> bool {
        self.standing & DUE != 0
    }

    pub(crate) fn epoch(&self) -> u32 {
        // OK to cut: it is the upper half.
        (self.standing >> 32) as u32
    }
}

/// How many connections a child has taken: by its notes, unless it notes none. By its words, which may
/// be counted twice, it may be one more.
pub(crate) fn taken(child: &Child) -> u64 {
    match child.noted_requests {
        0 => child.said_requests,
        noted => noted,
    }
}

fn state_word(state: State) -> u64 {
    match state {
        State::Starting => 0,
        State::Free => 1,
        State::Busy => 2,
        State::Reserved => 3,
        State::Retiring => 4,
    }
}

fn time_word(time: Time) -> u64 {
    nanoseconds(time.since_start())
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What the parent knows beside its monitor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) stage: Stage,
    pub(crate) started_at: u64,
    pub(crate) saturated_since: Option<Time>,
    pub(crate) slotless: Slotless,
}

/// The children that were forked beyond the slots, after `max_clients` was raised: no row tells of
/// them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Slotless {
    pub(crate) counts: StateCounts,
    ready: u64,
    connections: u64,
    last_ack: Option<Time>,
}

impl Slotless {
    /// Those of these children that have none of so many slots.
    pub(crate) fn among<'a>(children: impl Iterator<Item = &'a Child>, slots: usize) -> Self {
        let mut found = Self::default();
        for child in children.filter(|child| child.id().slot() >= slots) {
            *found.counts.of(child.state()) += 1;
            found.ready += u64::from(is_ready(child));
            found.connections = found.connections.saturating_add(taken(child));
            let oldest = found.last_ack.unwrap_or(child.last_ack());
            found.last_ack = Some(oldest.min(child.last_ack()));
        }
        found
    }
}

/// Whether a child can take connections, now or when it is free again.
fn is_ready(child: &Child) -> bool {
    child.is_ready() && child.state() != State::Retiring
}

impl Head {
    pub(crate) fn of(monitor: &Monitor, known: Known) -> Self {
        let (report, slotless) = (monitor.report(), known.slotless);
        Self {
            stage: known.stage.word(),
            pid: u64::from(monitor.pid),
            started_at: known.started_at,
            epoch: u64::from(monitor.replacement.epoch()),
            is_reloading: u64::from(monitor.is_reloading()),
            saturated_since: time_bits(known.saturated_since),
            max_clients: monitor.max_clients() as u64,
            min_spare: monitor.min_spare_servers() as u64,
            max_spare: monitor.max_spare_servers() as u64,
            ended_connections: report.ended_connections,
            forks: report.forks,
            failed_forks: report.failed_forks,
            acks: report.acks,
            busy_words: report.busy,
            not_busy_words: report.not_busy,
            output_dropped: report.output_dropped,
            lost_connections: report.lost_connections,
            hook_panics: report.hook_panics,
            slow_hooks: report.slow_hooks,
            saturations: report.saturations,
            saturated_for: nanoseconds(report.saturated_for),
            reloads: report.reloads,
            failed_reloads: report.failed_reloads,
            takeovers: report.takeovers,
            upgrades: report.upgrades,
            slotless_starting: slotless.counts.starting,
            slotless_free: slotless.counts.free,
            slotless_busy: slotless.counts.busy,
            slotless_reserved: slotless.counts.reserved,
            slotless_stopping: slotless.counts.stopping,
            slotless_ready: slotless.ready,
            slotless_connections: slotless.connections,
            slotless_last_ack: time_bits(slotless.last_ack),
            is_drained: u64::from(monitor.is_drained),
        }
    }
}

impl Head {
    /// The children that no row tells of, by their state.
    pub(super) fn slotless(&self) -> StateCounts {
        StateCounts {
            starting: self.slotless_starting,
            free: self.slotless_free,
            busy: self.slotless_busy,
            reserved: self.slotless_reserved,
            stopping: self.slotless_stopping,
        }
    }
}

/// Deaths by their cause, and refused connections by the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Tallies {
    pub(crate) deaths: [u64; CAUSES],
    pub(crate) refusals: [u64; REASONS],
}

impl Default for Tallies {
    fn default() -> Self {
        Self {
            deaths: [0; CAUSES],
            refusals: [0; REASONS],
        }
    }
}

impl Tallies {
    pub(crate) fn of(monitor: &Monitor) -> Self {
        let report = monitor.report();
        let mut tallies = Self::default();
        for (place, cause) in tallies.deaths.iter_mut().zip(names::CAUSES) {
            *place = report.deaths(cause);
        }
        for (place, reason) in tallies.refusals.iter_mut().zip(Refusal::ALL) {
            *place = report.refusals[reason];
        }
        tallies
    }

    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.deaths.iter().chain(&self.refusals).copied()
    }
}
