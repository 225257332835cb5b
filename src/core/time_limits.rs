//! The time limits of what a child does: how long a start and how long one connection may take.
//! Decides when a child has taken too long and when to look next; knows no board and tells no
//! child.

use crate::core::time::Time;
use std::{collections::VecDeque, time::Duration};

/// What a child has noted of the connection in hand.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct InHand {
    /// When it began; `None` without a connection, and where the child notes nothing.
    pub(crate) since: Option<Time>,
    /// Until when it may take, if the child has asked for more time.
    pub(crate) extended_until: Option<Time>,
}

/// What a child does that has a time limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Work {
    /// It has not said BUSY or NOT_BUSY since its fork.
    Start { since: Time },
    /// It has a connection in hand.
    Connection {
        since: Time,
        extended_until: Option<Time>,
    },
}

/// How long each kind of work may take; zero for no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct WorkLimits {
    pub(crate) start: Duration,
    pub(crate) busy: Duration,
}

impl WorkLimits {
    pub(crate) fn are_off(self) -> bool {
        self.start.is_zero() && self.busy.is_zero()
    }

    /// When `work` has taken too long; `None` if its limit is off.
    ///
    /// `judged` is when the child was last found to take too long. If it was not told to stop then,
    /// it gets the limit once more.
    pub(crate) fn end(self, work: Work, judged: Option<Time>, pauses: &Pauses) -> Option<Time> {
        let (since, limit, extended_until) = match work {
            Work::Start { since } => (since, self.start, None),
            Work::Connection {
                since,
                extended_until,
            } => (since, self.busy, extended_until),
        };
        if limit.is_zero() {
            return None;
        }
        let end = since + limit.saturating_add(pauses.after(since, limit));
        let again = judged.map(|judged| judged + limit);
        [Some(end), extended_until, again]
            .into_iter()
            .flatten()
            .max()
    }
}

/// A time in which the parent did not run.
#[derive(Clone, Copy, Debug)]
struct ParentPause {
    end: Time,
    length: Duration,
    /// How late the turn at its end was.
    gap: Duration,
}

/// The times in which the parent did not run, as when its group was stopped or the machine paused.
///
/// The children may not have run either, so for each limit the longest of these times does not
/// count. Only one, because a parent that is starved again and again would never end any work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pauses(VecDeque<ParentPause>);

impl Pauses {
    /// A shorter delay is no pause: a busy machine delays any process.
    pub(crate) const SHORTEST: Duration = Duration::from_millis(100);
    /// And neither is one that is shorter than this part (1/n) of what it would be left out of.
    const PART: u32 = 4;
    /// How many are kept apart; of older ones the longest counts, which gives no child less time.
    const KEPT: usize = 16;

    /// Notes that the turn at `now` was late by `gap`. The turn before it was at `before`.
    ///
    /// Whether the parent was stopped before or after its wait ended cannot be known, so the whole
    /// time since that turn counts.
    pub(crate) fn note_turn(&mut self, before: Time, now: Time, gap: Duration) {
        if gap < Self::SHORTEST {
            return;
        }
        if self.0.len() == Self::KEPT
            && let (Some(oldest), Some(next)) = (self.0.pop_front(), self.0.front_mut())
        {
            next.length = next.length.max(oldest.length);
            next.gap = next.gap.max(oldest.gap);
        }
        self.0.push_back(ParentPause {
            end: now,
            length: now.since(before),
            gap,
        });
    }

    /// How much of the time after `since` was in the longest pause that is long for this `limit`.
    fn after(&self, since: Time, limit: Duration) -> Duration {
        let is_long = |pause: &&ParentPause| pause.gap >= limit / Self::PART;
        let within = |pause: &ParentPause| pause.length.min(pause.end.since(since));
        self.0
            .iter()
            .filter(is_long)
            .map(within)
            .max()
            .unwrap_or_default()
    }
}

/// The time limits of all children: the pauses, and when the first limit may be reached.
#[derive(Debug, Default)]
pub(crate) struct TimeLimits {
    pub(crate) pauses: Pauses,
    /// Not later than the first end: a child may have begun another connection since.
    look_at: Option<Time>,
}

impl TimeLimits {
    /// A limit is reached at `end`.
    pub(crate) fn expect(&mut self, end: Option<Time>) {
        self.look_at = [self.look_at, end].into_iter().flatten().min();
    }

    /// The first of all ends that are known now.
    pub(crate) fn look_again(&mut self, first: Option<Time>) {
        self.look_at = first;
    }

    pub(crate) fn look_at(&self) -> Option<Time> {
        self.look_at
    }
}

#[cfg(test)]
mod tests;
