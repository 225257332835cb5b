//! How many children may be starting at the same time, so that they do not slow those that serve.
//! Decides from measured starts and from the pressure on the processors; measures nothing.

use crate::core::time::Time;
use std::time::Duration;

/// For how long a process has run, and for how long it was ready to run and did not, since its fork.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct RunTime {
    pub(crate) ran: Duration,
    pub(crate) waited: Duration,
}

/// What a start takes where no other process runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Cost {
    ran: Duration,
    asleep: Duration,
}

/// Holds back forks of children whose starts are heavy.
///
/// As many starts as keep all processors running are as fast as any larger number of them, so the
/// first limit costs nothing. A start that mostly waits, as for a database, leaves the processors to
/// others, so there may be more of these. If processes have to wait for a processor all the same,
/// starts get a quarter of the processors: the others are for those that serve.
#[derive(Debug)]
pub(crate) struct Brake {
    processors: usize,
    cost: Option<Cost>,
    measured_at: Option<Time>,
    /// The last reading of the pressure, and whether it has been high since the one before.
    pressure: Option<(Time, Duration)>,
    is_pressed: bool,
    /// When to decide again, if forks are held back.
    retry_at: Option<Time>,
}

impl Default for Brake {
    fn default() -> Self {
        Self {
            processors: 1,
            cost: None,
            measured_at: None,
            pressure: None,
            is_pressed: false,
            retry_at: None,
        }
    }
}

impl Brake {
    /// Starts that run for less than this are not held back: the decision would take as long.
    const HEAVY: Duration = Duration::from_millis(20);
    /// How often a start is measured at most, as it costs the parent some system calls.
    const MEASURE_EVERY: Duration = Duration::from_millis(20);
    /// How often the pressure is read at most.
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    /// How long after a decision to hold forks back the next comes, if nothing happens before.
    const AGAIN: Duration = Duration::from_millis(100);
    /// The pressure is high when processes have had to wait for a processor for half of the time.
    const HIGH: u32 = 2;

    pub(crate) fn set_processors(&mut self, processors: usize) {
        self.processors = processors.max(1);
    }

    /// Whether to measure the start of a child that has just become ready.
    pub(crate) fn measures(&mut self, now: Time) -> bool {
        let measured = self.measured_at;
        let due = measured.is_none_or(|at| now.since(at) >= Self::MEASURE_EVERY);
        if due {
            self.measured_at = Some(now);
        }
        due
    }

    /// Notes a start that took so long in all.
    pub(crate) fn note_start(&mut self, took: Duration, time: RunTime) {
        let asleep = took.saturating_sub(time.ran + time.waited);
        let ran = time.ran;
        self.cost = Some(match self.cost {
            // The middle of several, as single starts differ.
            Some(before) => Cost {
                ran: (before.ran * 3 + ran) / 4,
                asleep: (before.asleep * 3 + asleep) / 4,
            },
            None => Cost { ran, asleep },
        });
    }

    fn heavy(&self) -> Option<Cost> {
        self.cost.filter(|cost| cost.ran >= Self::HEAVY)
    }

    /// Whether starts are so heavy that forks may have to be held back.
    pub(crate) fn is_needed(&self) -> bool {
        self.heavy().is_some()
    }

    /// Whether to read the pressure now, as forks are held back.
    pub(crate) fn wants_pressure(&self, now: Time) -> bool {
        let last = self.pressure.map(|(at, _)| at);
        let due = last.is_none_or(|at| now.since(at) >= Self::LOOK_EVERY);
        self.holds() && due
    }

    /// Notes for how long in all, ever, some process has had to wait for a processor.
    pub(crate) fn note_pressure(&mut self, total: Duration, now: Time) {
        if let Some((at, before)) = self.pressure.replace((now, total)) {
            let waited = total.saturating_sub(before);
            self.is_pressed = waited * Self::HIGH >= now.since(at);
        }
    }

    /// How many children may be starting at the same time.
    fn at_once(&self) -> usize {
        let Some(Cost { ran, asleep }) = self.heavy() else {
            return usize::MAX;
        };
        let processors = match self.is_pressed {
            true => (self.processors / 4).max(1),
            false => self.processors,
        };
        let times = (ran + asleep).as_nanos() / ran.as_nanos().max(1);
        let times = usize::try_from(times).unwrap_or(usize::MAX);
        processors.saturating_mul(times)
    }

    /// How long a start may take until it does not count any more: it hangs, or waits for something.
    pub(crate) fn longest_start(&self) -> Duration {
        let usual = self.cost.map(|cost| cost.ran + cost.asleep);
        usual.unwrap_or_default() * 4 + Duration::from_secs(1)
    }

    /// How many of the `wanted` forks may be done now, with so many children `starting`.
    pub(crate) fn allow(&mut self, wanted: usize, starting: usize, now: Time) -> usize {
        let allowed = wanted.min(self.at_once().saturating_sub(starting));
        self.retry_at = (allowed < wanted).then_some(now + Self::AGAIN);
        allowed
    }

    /// When to decide again, if forks are held back.
    pub(crate) fn retry_at(&self) -> Option<Time> {
        self.retry_at
    }

    /// Whether to decide again now. True once.
    pub(crate) fn take_retry(&mut self, now: Time) -> bool {
        self.retry_at.take_if(|at| *at <= now).is_some()
    }

    /// Whether forks are held back, so that the end of a start is a reason to decide again.
    pub(crate) fn holds(&self) -> bool {
        self.retry_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn at(milliseconds: u64) -> Time {
        Time::at(ms(milliseconds))
    }

    fn brake(processors: usize, ran: u64, waited: u64, took: u64) -> Brake {
        let mut brake = Brake::default();
        brake.set_processors(processors);
        let (ran, waited) = (ms(ran), ms(waited));
        brake.note_start(ms(took), RunTime { ran, waited });
        brake
    }

    #[test]
    fn before_a_start_was_measured_and_for_light_ones_there_is_no_limit() {
        assert_eq!(Brake::default().allow(500, 500, at(0)), 500);
        assert_eq!(brake(2, 19, 0, 500).allow(500, 500, at(0)), 500);
        assert_eq!(brake(2, 20, 0, 20).allow(500, 0, at(0)), 2);
    }

    #[test]
    fn as_many_heavy_starts_as_there_are_processors() {
        let mut brake = brake(4, 200, 0, 200);
        assert_eq!(brake.allow(3, 0, at(0)), 3);
        assert_eq!(brake.retry_at(), None);
        assert_eq!(brake.allow(9, 3, at(0)), 1);
        assert_eq!(brake.allow(9, 4, at(0)), 0);
        assert!(brake.holds() && !brake.take_retry(at(99)));
        assert!(
            brake.take_retry(at(100)) && !brake.take_retry(at(100)),
            "once"
        );
        // Time in which it had to wait for a processor is not its own.
        let mut crowded = self::brake(4, 200, 1_800, 2_000);
        assert_eq!(crowded.allow(9, 0, at(0)), 4);
    }

    #[test]
    fn starts_that_sleep_leave_room_for_others() {
        assert_eq!(brake(2, 50, 0, 500).allow(99, 0, at(0)), 20);
        assert_eq!(brake(2, 50, 450, 500).allow(99, 0, at(0)), 2);
    }

    #[test]
    fn while_processes_wait_for_a_processor_a_quarter_is_for_starts() {
        for (processors, allowed) in [(1, 1), (2, 1), (8, 2), (64, 16)] {
            let mut brake = brake(processors, 200, 0, 200);
            brake.note_pressure(ms(5_000), at(1_000));
            assert_eq!(
                brake.allow(99, 0, at(1_000)),
                processors,
                "nothing is known yet"
            );
            brake.note_pressure(ms(5_025), at(1_050));
            assert_eq!(brake.allow(99, 0, at(1_050)), allowed);
            brake.note_pressure(ms(5_049), at(1_100));
            assert_eq!(brake.allow(99, 0, at(1_100)), processors);
        }
    }

    #[test]
    fn the_pressure_is_read_while_forks_are_held_back_and_not_too_often() {
        let mut heavy = brake(2, 200, 0, 200);
        assert!(!heavy.wants_pressure(at(0)));
        assert_eq!(heavy.allow(3, 0, at(0)), 2);
        assert!(heavy.wants_pressure(at(0)));
        heavy.note_pressure(ms(0), at(10));
        assert!(!heavy.wants_pressure(at(59)) && heavy.wants_pressure(at(60)));
    }

    #[test]
    fn starts_are_measured_now_and_then() {
        let mut brake = Brake::default();
        let times = [0, 5, 19, 20, 30, 41].map(|time| brake.measures(at(time)));
        assert_eq!(times, [true, false, false, true, false, true]);
    }

    proptest! {
        /// Whatever was measured: if no child is starting, one may start.
        #[test]
        fn it_never_holds_all_back(
            starts in proptest::collection::vec((0_u64..9_000, 0_u64..9_000, 0_u64..9_000), 0..20),
            pressure in proptest::collection::vec((1_u64..200, 0_u64..300), 0..20),
            processors in 0_usize..100,
            wanted in 1_usize..100,
        ) {
            let mut brake = Brake::default();
            brake.set_processors(processors);
            for (took, ran, waited) in starts {
                let (ran, waited) = (ms(ran), ms(waited));
                brake.note_start(ms(took), RunTime { ran, waited });
            }
            let (mut now, mut total) = (0, 0);
            for (pause, waited) in pressure {
                (now, total) = (now + pause, total + waited);
                brake.note_pressure(ms(total), at(now));
            }
            prop_assert!(brake.allow(wanted, 0, at(now)) >= 1);
        }
    }
}
