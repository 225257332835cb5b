//! Waiting: for a fact, with a deadline; for the length of a claim; for a moment.
//!
//! It never waits without an end, and never takes a lapse of time as proof that something happened.

use std::time::{Duration, Instant};

use nix::poll::{PollTimeout, poll};

use super::patience::FairClock;

/// How long one look at a fact and the next are apart, at first.
const STEP: Duration = Duration::from_millis(5);

/// How long they are apart in the end: to look at processes takes time from others.
const LONGEST_STEP: Duration = Duration::from_millis(20);

/// For waits that end at once on a machine with nothing else to do.
pub const SOON: Duration = Duration::from_secs(10);

/// No deadline is shorter: a machine that builds beside the tests stalls for a second at times.
const SHORTEST: Duration = Duration::from_secs(2);

/// After that long a wait says what it waits for, so that a hang explains itself.
const SPEAK_AFTER: Duration = Duration::from_secs(1);

/// Looks until `fact` yields something, and returns it; panics naming `what` after `deadline`.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = deadline.max(SHORTEST);
    let mut clock = FairClock::start();
    let mut spoken = false;
    loop {
        // The clock is read before the look: a process that was not scheduled for long gets a last look.
        let elapsed = clock.elapsed();
        if let Some(value) = fact() {
            return value;
        }
        assert!(elapsed < deadline, "waited {deadline:?} in vain for {what}");
        if elapsed > SPEAK_AFTER && !spoken {
            eprintln!("still waiting for {what}");
            spoken = true;
        }
        pause(step_after(elapsed));
    }
}

/// How long to wait before the next look at what has not come for so long: some hundredths of it.
pub(super) fn step_after(waited: Duration) -> Duration {
    (waited / 50).clamp(STEP, LONGEST_STEP)
}

/// Looks for the whole of `period`, and panics naming `what` as soon as `fact` is false.
///
/// For claims that something does *not* happen; every other wait is [`until`].
#[track_caller]
pub fn holds(what: &str, period: Duration, mut fact: impl FnMut() -> bool) {
    let start = Instant::now();
    loop {
        let elapsed = start.elapsed();
        assert!(fact(), "after {elapsed:?} it held no longer that {what}");
        if elapsed >= period {
            return;
        }
        pause(STEP);
    }
}

/// Does nothing for `time`; a signal ends it early.
pub fn pause(time: Duration) {
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    // An interruption is no error here: each caller looks again at what it waits for.
    let _ = poll(&mut [], timeout);
}
