//! When forking must wait: after starts that failed and after forks that failed. Computes delays;
//! never sleeps.

use crate::core::time::Time;
use std::time::Duration;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_START_DELAY: Duration = Duration::from_secs(30);
/// A client can cause failures at a first connection, so it must not keep other clients out for
/// long.
const LONGEST_FIRST_DELAY: Duration = Duration::from_secs(1);
/// So many failures at a first connection in a row cost no delay: a few bad requests are no reason for one.
const UNDELAYED_FIRSTS: u32 = 8;
const LONGEST_FORK_DELAY: Duration = Duration::from_secs(5);

/// `FIRST_DELAY` doubled `times` times, at most `longest`.
fn doubled(times: u32, longest: Duration) -> Duration {
    FIRST_DELAY
        .saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX))
        .min(longest)
}

/// The delays after failed starts, so that a program that dies at once is not a fork bomb.
///
/// The first wave of failures causes no delay, the second 100 ms, and each further wave doubles it,
/// up to `longest`.
#[derive(Debug)]
struct Starts {
    longest: Duration,
    /// How many failures in a row are followed by no delay.
    undelayed: u32,
    failures: u32,
    last_failure: Option<Time>,
}

impl Starts {
    fn new(undelayed: u32, longest: Duration) -> Self {
        Self {
            longest,
            undelayed,
            failures: 0,
            last_failure: None,
        }
    }

    /// Notes that a child forked at `forked_at` failed, and returns the delay before the next fork.
    ///
    /// `None` if the child was forked before the failure that was counted last: it belongs to the
    /// same wave.
    fn failed(&mut self, forked_at: Time, now: Time) -> Option<Duration> {
        if self.last_failure.is_some_and(|counted| forked_at < counted) {
            return None;
        }
        self.last_failure = Some(now);
        self.failures = self.failures.saturating_add(1);
        Some(match self.failures.checked_sub(self.undelayed + 1) {
            None => Duration::ZERO,
            Some(times) => doubled(times, self.longest),
        })
    }

    /// Notes that a child forked at `forked_at` has started. Only a child that was forked after the
    /// last failure proves that the cause is gone.
    fn held(&mut self, forked_at: Time) {
        if self
            .last_failure
            .is_some_and(|failure| failure <= forked_at)
        {
            *self = Self::new(self.undelayed, self.longest);
        }
    }
}

/// The reasons to delay forks, and the time at which forks may go on.
#[derive(Debug)]
pub(crate) struct Backoff {
    starts: Starts,
    /// Children that fail while they serve their first connection.
    firsts: Starts,
    fork_failures: u32,
    open_at: Time,
    retry_wanted: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            starts: Starts::new(1, LONGEST_START_DELAY),
            firsts: Starts::new(UNDELAYED_FIRSTS, LONGEST_FIRST_DELAY),
            fork_failures: 0,
            open_at: Time::START,
            retry_wanted: false,
        }
    }
}

impl Backoff {
    /// Notes that a start failed, and returns the delay if the failure belongs to a new wave.
    pub(crate) fn start_failed(&mut self, forked_at: Time, now: Time) -> Option<Duration> {
        let delay = self.starts.failed(forked_at, now)?;
        self.wait(now, delay);
        Some(delay)
    }

    /// Notes that a child failed during its first connection, and returns the delay if the failure
    /// belongs to a new wave.
    pub(crate) fn first_failed(&mut self, forked_at: Time, now: Time) -> Option<Duration> {
        let delay = self.firsts.failed(forked_at, now)?;
        self.wait(now, delay);
        Some(delay)
    }

    /// Whether a failure has been counted, so that a child that stays alive can end the backoff.
    pub(crate) fn is_watching(&self) -> bool {
        let mut kinds = [&self.starts, &self.firsts].into_iter();
        kinds.any(|kind| kind.last_failure.is_some())
    }

    /// Notes that a child has taken a connection, so its start has succeeded.
    pub(crate) fn start_held(&mut self, forked_at: Time) {
        self.starts.held(forked_at);
    }

    /// Notes that a child has finished a connection or has lived for long enough.
    pub(crate) fn proved(&mut self, forked_at: Time) {
        self.starts.held(forked_at);
        self.firsts.held(forked_at);
    }

    /// Notes that a fork failed, and returns the delay before the next attempt.
    ///
    /// The delay is longer if failed starts require more.
    pub(crate) fn fork_failed(&mut self, now: Time) -> Duration {
        let delay = doubled(self.fork_failures, LONGEST_FORK_DELAY);
        self.fork_failures = self.fork_failures.saturating_add(1);
        self.wait(now, delay);
        self.retry_wanted = true;
        self.open_at.since(now)
    }

    /// Notes that a fork succeeded: the next failure begins with the shortest delay.
    pub(crate) fn fork_succeeded(&mut self) {
        self.fork_failures = 0;
    }

    /// Whether forks must wait now. If so, a retry is noted as wanted.
    pub(crate) fn refuses(&mut self, now: Time) -> bool {
        let closed = self.is_closed(now);
        self.retry_wanted |= closed;
        closed
    }

    /// Whether forks must wait now.
    pub(crate) fn is_closed(&self, now: Time) -> bool {
        now < self.open_at
    }

    /// When a wanted retry is due.
    pub(crate) fn retry_at(&self) -> Option<Time> {
        self.retry_wanted.then_some(self.open_at)
    }

    /// Whether a wanted retry is due. A retry that is due is returned once.
    pub(crate) fn take_retry(&mut self, now: Time) -> bool {
        let due = self.retry_wanted && self.open_at <= now;
        self.retry_wanted &= !due;
        due
    }

    fn wait(&mut self, now: Time, delay: Duration) {
        self.open_at = self.open_at.max(now + delay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    #[test]
    fn each_wave_of_failed_starts_waits_twice_as_long_up_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let mut now = Time::START;
        let mut delays = Vec::new();
        for _ in 0..12 {
            let died = now + Duration::from_millis(5);
            let delay = backoff.start_failed(now, died).expect("a new wave counts");
            assert_eq!(backoff.start_failed(now, died), None, "its siblings do not");
            delays.push(delay.as_millis());
            now = died + delay;
            assert!(!backoff.refuses(now));
        }
        assert_eq!(delays[..5], [0, 100, 200, 400, 800]);
        assert_eq!(delays[11], 30_000);
    }

    #[test]
    fn a_start_that_holds_resets_only_if_it_was_forked_after_the_failure() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.start_failed(ms(0), ms(10)), Some(Duration::ZERO));
        backoff.start_held(ms(5));
        assert_eq!(
            backoff.start_failed(ms(10), ms(20)),
            Some(Duration::from_millis(100))
        );
        backoff.start_held(ms(120));
        assert!(!backoff.is_watching());
        assert_eq!(backoff.start_failed(ms(130), ms(140)), Some(Duration::ZERO));
    }

    #[test]
    fn failures_at_a_first_connection_wait_for_a_second_at_the_most() {
        let mut backoff = Backoff::default();
        let mut now = Time::START;
        let mut delays = Vec::new();
        for _ in 0..14 {
            let died = now + Duration::from_millis(5);
            let delay = backoff.first_failed(now, died).expect("a new wave counts");
            // Taking a connection is not enough here.
            backoff.start_held(died);
            delays.push(delay.as_millis());
            now = died + delay;
        }
        assert_eq!(delays[..8], [0; 8]);
        assert_eq!(delays[8..], [100, 200, 400, 800, 1000, 1000]);
        backoff.proved(now);
        assert!(!backoff.is_watching());
        let again = backoff.first_failed(now, now + Duration::from_millis(5));
        assert_eq!(again, Some(Duration::ZERO));
    }

    #[test]
    fn failed_forks_are_retried_with_delays_that_double_to_five_seconds() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..8)
            .map(|_| backoff.fork_failed(Time::START).as_millis())
            .collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.retry_at(), Some(ms(5000)));
        assert!(backoff.refuses(ms(4999)) && !backoff.take_retry(ms(4999)));
        assert!(backoff.take_retry(ms(5000)) && !backoff.take_retry(ms(5000)));
        backoff.fork_succeeded();
        assert_eq!(backoff.fork_failed(ms(6000)).as_millis(), 100);
    }

    #[test]
    fn an_open_gate_wants_no_retry() {
        let mut backoff = Backoff::default();
        assert!(!backoff.refuses(Time::START));
        assert_eq!(backoff.retry_at(), None);
    }
}
