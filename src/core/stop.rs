//! How far a stop is: announced, begun, without a bound, and what each further signal makes of it.
//! Decides from what it is told; sends no signal and reads no clock.

use crate::core::time::Time;
use std::{fmt, time::Duration};

/// What the signals of a turn make of the stop. A later value includes the earlier ones, except for
/// the delay, which is skipped.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum StopEffect {
    #[default]
    Nothing,
    /// The stop begins after the delay; the server goes on unchanged until then.
    Announce,
    /// The stop begins.
    Shutdown,
    /// The stop that has begun has a bound from now on.
    Bound,
    /// SIGKILL for the remaining children.
    Kill,
}

/// The signals of a turn that ask for a stop. Their order is not known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct StopSignals {
    /// How many SIGINT and SIGTERM.
    pub(crate) stops: u64,
    /// How many SIGQUIT. They count as the earlier ones.
    pub(crate) unbounded_stops: u64,
}

/// How a stop is done that does not come from a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    /// As for SIGTERM.
    Bounded,
    /// As for SIGQUIT.
    Unbounded,
    /// By SIGKILL, without a delay.
    Now,
}

/// When a stop is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Time,
    /// The attribute `pre_stop_delay`.
    pub(crate) delay: Duration,
    /// Whether the shutdown has begun.
    pub(crate) is_shutdown: bool,
}

/// The progress of a stop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stop {
    /// When an announced stop begins.
    begins_at: Option<Time>,
    /// Whether it has no bound: nothing but SIGQUIT has asked for it.
    is_unbounded: bool,
    /// Whether SIGINT or SIGTERM has come: the next one kills.
    was_told: bool,
    /// When the shutdown began.
    began_at: Option<Time>,
    /// When a shutdown without a bound was given one.
    bounded_at: Option<Time>,
    /// Whether the children were killed.
    kills: bool,
    /// Whether a parent before this one has begun it: it may have killed the children, or forked the
    /// last one.
    #[cfg(feature = "holder")]
    goes_on: bool,
}

impl Stop {
    /// Takes the signals of a turn, and returns the most urgent of what follows.
    pub(crate) fn take(&mut self, signals: StopSignals, mut moment: Moment) -> StopEffect {
        let unbounded = std::iter::repeat_n(true, at_most_a_few(signals.unbounded_stops));
        let bounded = std::iter::repeat_n(false, at_most_a_few(signals.stops));
        let mut most_urgent = StopEffect::Nothing;
        for is_unbounded in unbounded.chain(bounded) {
            let effect = self.take_one(is_unbounded, moment);
            moment.is_shutdown |= effect >= StopEffect::Shutdown;
            most_urgent = most_urgent.max(effect);
        }
        most_urgent
    }

    /// Takes a stop that does not come from a signal, and returns what follows.
    ///
    /// One that is asked for again changes nothing, except that it can be given a bound, and can
    /// become one by SIGKILL. The next SIGTERM counts as the first.
    pub(crate) fn ask(&mut self, manner: Manner, moment: Moment) -> StopEffect {
        let is_unbounded = manner == Manner::Unbounded;
        match (manner, self.begins_at) {
            (Manner::Now, _) => StopEffect::Kill,
            (_, Some(_)) if !moment.is_shutdown => {
                self.is_unbounded &= is_unbounded;
                StopEffect::Nothing
            }
            _ => {
                let told_before = std::mem::take(&mut self.was_told);
                let effect = self.take_one(is_unbounded, moment);
                self.was_told = told_before;
                effect
            }
        }
    }

    fn take_one(&mut self, is_unbounded: bool, moment: Moment) -> StopEffect {
        let told_before = self.was_told;
        self.was_told |= !is_unbounded;
        match (moment.is_shutdown, self.begins_at) {
            (true, _) if is_unbounded => StopEffect::Nothing,
            (true, _) if told_before => StopEffect::Kill,
            (true, _) => match std::mem::take(&mut self.is_unbounded) {
                true => self.bound(moment.now),
                false => StopEffect::Nothing,
            },
            (false, Some(_)) => self.begin(is_unbounded && self.is_unbounded),
            (false, None) if moment.delay.is_zero() => self.begin(is_unbounded),
            (false, None) => self.announce(is_unbounded, moment.now + moment.delay),
        }
    }

    fn announce(&mut self, is_unbounded: bool, begins_at: Time) -> StopEffect {
        self.is_unbounded = is_unbounded;
        self.begins_at = Some(begins_at);
        StopEffect::Announce
    }

    fn bound(&mut self, now: Time) -> StopEffect {
        self.bounded_at = Some(now);
        StopEffect::Bound
    }

    fn begin(&mut self, is_unbounded: bool) -> StopEffect {
        self.is_unbounded = is_unbounded;
        self.begins_at = None;
        StopEffect::Shutdown
    }

    /// When an announced stop begins.
    pub(crate) fn begins_at(&self) -> Option<Time> {
        self.begins_at
    }

    /// Whether an announced stop is to begin now. True once.
    #[must_use]
    pub(crate) fn take_due(&mut self, now: Time) -> bool {
        self.begins_at.take_if(|at| *at <= now).is_some()
    }

    /// The shutdown has begun, for whatever reason: there is no delay any more.
    pub(crate) fn has_begun(&mut self, now: Time) {
        self.begins_at = None;
        self.began_at.get_or_insert(now);
    }

    /// All children are killed.
    pub(crate) fn kill(&mut self) {
        self.kills = true;
    }

    /// Whether a last child may be forked.
    pub(crate) fn may_fork_last(&self) -> bool {
        #[cfg(feature = "holder")]
        if self.goes_on {
            return false;
        }
        !self.kills
    }

    /// What a child that is told at `now` has of `shutdown_timeout`; `None` without a bound.
    pub(crate) fn time_left(&self, shutdown_timeout: Duration, now: Time) -> Option<Duration> {
        let from = self.bounded_at.or(self.began_at);
        (!self.is_unbounded()).then(|| left(shutdown_timeout, from, now))
    }

    /// What a child that is told at `now`, in its start, has of `drain_timeout`.
    pub(crate) fn drain_left(&self, drain_timeout: Duration, now: Time) -> Duration {
        left(drain_timeout, self.began_at, now)
    }

    /// Goes on with a stop that the parent before has announced or begun.
    #[cfg(feature = "holder")]
    pub(crate) fn go_on(&mut self, terms: StopTerms) {
        self.is_unbounded = terms.is_unbounded;
        self.was_told = terms.was_told;
    }

    /// The parent before has begun the stop.
    #[cfg(feature = "holder")]
    pub(crate) fn was_begun(&mut self, terms: StopTerms) {
        self.goes_on = true;
        self.go_on(terms);
    }

    /// What a parent that goes on with this stop needs.
    #[cfg(feature = "holder")]
    pub(crate) fn terms(&self) -> StopTerms {
        StopTerms {
            is_unbounded: self.is_unbounded,
            was_told: self.was_told,
        }
    }

    /// Whether the children have all the time that they need.
    pub(crate) fn is_unbounded(&self) -> bool {
        self.is_unbounded
    }
}

/// The connections that a stop has lost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Losses {
    /// Those that were queued when the sockets were closed.
    pub(crate) queued: u64,
    /// Those that children had in hand when they were killed or crashed.
    pub(crate) in_hand: u64,
}

impl Losses {
    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queued, in_hand } = self;
        let all = queued + in_hand;
        write!(f, "{all} connections: {queued} queued, {in_hand} in hand")
    }
}

/// What is left of a time that runs from then on.
fn left(time: Duration, from: Option<Time>, now: Time) -> Duration {
    time.saturating_sub(from.map_or(Duration::ZERO, |from| now.since(from)))
}

/// More than a few in one turn change nothing more.
fn at_most_a_few(signals: u64) -> usize {
    signals.min(4) as usize
}

/// How a stop was asked for, on which depends what the next signal makes of it.
#[cfg(feature = "holder")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct StopTerms {
    /// Whether it has no bound.
    pub(crate) is_unbounded: bool,
    /// Whether SIGINT or SIGTERM has come.
    pub(crate) was_told: bool,
}

#[cfg(feature = "holder")]
impl StopTerms {
    const PATIENT: u64 = 1 << 2;
    const TOLD: u64 = 1 << 3;

    pub(crate) fn manner(self) -> Manner {
        match self.is_unbounded {
            true => Manner::Unbounded,
            false => Manner::Bounded,
        }
    }

    fn bits(self) -> u64 {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        bit(self.is_unbounded, Self::PATIENT) | bit(self.was_told, Self::TOLD)
    }

    fn of_bits(bits: u64) -> Self {
        Self {
            is_unbounded: bits & Self::PATIENT != 0,
            was_told: bits & Self::TOLD != 0,
        }
    }
}

/// How far a stop is, for the parent after this one.
#[cfg(feature = "holder")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum StopState {
    #[default]
    None,
    /// It was announced: the children go on for `pre_stop_delay`.
    Announced(StopTerms),
    Begun(StopTerms),
}

#[cfg(feature = "holder")]
impl StopState {
    pub(crate) fn word(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Announced(terms) => 1 | terms.bits(),
            Self::Begun(terms) => 2 | terms.bits(),
        }
    }

    pub(crate) fn read(word: u64) -> Self {
        let terms = StopTerms::of_bits(word);
        match word & 3 {
            0 => Self::None,
            1 => Self::Announced(terms),
            _ => Self::Begun(terms),
        }
    }
}

#[cfg(test)]
mod tests;
