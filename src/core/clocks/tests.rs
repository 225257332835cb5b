//! The clocks against a model that counts millisecond by millisecond.

use super::*;
use crate::core::testing::{at, ms};
use proptest::prelude::*;

const fn connection(since: u64) -> Work {
    Work::Connection {
        since: at(since),
        extended_until: None,
    }
}

fn limits(start: u64, busy: u64) -> ClockLimits {
    ClockLimits {
        start: ms(start),
        busy: ms(busy),
    }
}

#[test]
fn each_clock_is_off_or_on_by_itself() {
    let start = Work::Start { since: at(100) };
    let pauses = Pauses::default();
    for (limits, started, served) in [
        (limits(0, 0), None, None),
        (limits(50, 0), Some(at(150)), None),
        (limits(0, 70), None, Some(at(170))),
        (limits(50, 70), Some(at(150)), Some(at(170))),
    ] {
        assert_eq!(limits.end(start, None, &pauses), started);
        assert_eq!(limits.end(connection(100), None, &pauses), served);
        assert_eq!(limits.are_off(), started.is_none() && served.is_none());
    }
}

#[test]
fn a_connection_may_be_extended_and_never_gets_less() {
    let pauses = Pauses::default();
    for (extended, end) in [(150, 200), (200, 200), (950, 950)] {
        let work = Work::Connection {
            since: at(100),
            extended_until: Some(at(extended)),
        };
        assert_eq!(limits(0, 100).end(work, None, &pauses), Some(at(end)));
    }
}

#[test]
fn who_was_left_alone_is_found_again_after_as_much_time() {
    let pauses = Pauses::default();
    let end = |judged| limits(0, 100).end(connection(100), judged, &pauses);
    assert_eq!(end(Some(at(200))), Some(at(300)));
    assert_eq!(end(Some(at(50))), Some(at(200)), "an earlier connection");
}

#[test]
fn the_longest_limit_never_ends() {
    let mut pauses = Pauses::default();
    pauses.note_turn(at(0), at(10_000), ms(10_000));
    let limits = ClockLimits {
        start: Duration::MAX,
        busy: Duration::MAX,
    };
    let end = limits.end(connection(1), None, &pauses);
    assert_eq!(end, Some(Time::at(Duration::MAX)));
}

#[test]
fn a_short_delay_is_no_pause() {
    let mut pauses = Pauses::default();
    pauses.note_turn(at(0), at(99), ms(99));
    assert_eq!(pauses.after(at(0)), Duration::ZERO);
    pauses.note_turn(at(99), at(1099), ms(100));
    assert_eq!(pauses.after(at(0)), ms(1000), "since the turn before");
    assert_eq!(pauses.after(at(600)), ms(499), "what was in it");
    assert_eq!(pauses.after(at(1099)), Duration::ZERO, "it was before");
}

#[test]
fn the_first_end_is_looked_at_and_forgotten_when_looked_at() {
    let mut clocks = Clocks::default();
    assert_eq!(clocks.look_at(), None);
    clocks.expect(None);
    clocks.expect(Some(at(7)));
    clocks.expect(Some(at(9)));
    assert_eq!(clocks.look_at(), Some(at(7)));
    clocks.look_again(Some(at(12)));
    assert_eq!(clocks.look_at(), Some(at(12)));
    clocks.look_again(None);
    assert_eq!(clocks.look_at(), None);
}

/// What the parent did, one after the other: it ran for so many milliseconds, then it did not.
fn history() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((1..400_u64, 0..400_u64), 0..40)
}

proptest! {
    /// With few pauses the clock counts exactly the milliseconds in which the parent ran. With many,
    /// old ones are added up, and no child gets less time.
    #[test]
    fn a_clock_counts_the_time_in_which_the_parent_ran(
        history in history(),
        begins in 0..3000_u64,
        limit in 1..1000_u64,
    ) {
        let mut pauses = Pauses::default();
        let mut ran = Vec::new();
        let mut now = 0;
        for &(runs, stands) in &history {
            ran.extend(std::iter::repeat_n(true, runs as usize));
            now += runs;
            // It turns often while it runs, and for the last time right before it stands still.
            let is_pause = ms(stands) >= Pauses::SHORTEST;
            ran.extend(std::iter::repeat_n(!is_pause, stands as usize));
            pauses.note_turn(at(now), at(now + stands), ms(stands));
            now += stands;
        }
        ran.resize(10_000, true);
        let counted = ran.iter().enumerate().skip(begins as usize);
        let counted = counted.filter(|(_, ran)| **ran).map(|(ms, _)| ms as u64 + 1);
        let exact = counted.take(limit as usize).last();
        // Pauses that come later are not known yet, so only those before the end count.
        let end = limits(0, limit).end(connection(begins), None, &pauses);
        let end = end.map(|end| end.since_start().as_millis() as u64).unwrap();
        if let Some(exact) = exact {
            let later: u64 = history.iter().map(|(_, stands)| stands).sum();
            prop_assert!(end >= exact, "{end} ms, not {exact}");
            prop_assert!(end <= exact + later);
        }
        prop_assert!(pauses.0.len() <= Pauses::KEPT);
    }

    /// Whatever the order of events: a child is found at the first look at or after its end, and
    /// nobody is found before the end.
    #[test]
    fn nobody_is_forgotten_and_nobody_is_early(
        begun in prop::collection::vec(0..500_u64, 1..20),
        limit in 1..300_u64,
    ) {
        let pauses = Pauses::default();
        let end = |since| limits(0, limit).end(connection(since), None, &pauses).unwrap();
        let mut clocks = Clocks::default();
        let mut left = begun.clone();
        left.iter().for_each(|&since| clocks.expect(Some(end(since))));
        while let Some(now) = clocks.look_at() {
            let before = left.len();
            left.retain(|&since| end(since) > now);
            prop_assert!(left.len() < before, "it looks in vain at {now}");
            clocks.look_again(left.iter().map(|&since| end(since)).min());
        }
        prop_assert!(left.is_empty());
    }
}
