//! The time limits against a model that counts millisecond by millisecond.

use super::*;
use crate::core::testing::{at, ms};
use proptest::prelude::*;

const fn connection(since: u64) -> Work {
    Work::Connection {
        since: at(since),
        extended_until: None,
    }
}

fn limits(start: u64, busy: u64) -> WorkLimits {
    WorkLimits {
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
    let limits = WorkLimits {
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
    assert_eq!(pauses.after(at(0), ms(100)), Duration::ZERO);
    pauses.note_turn(at(99), at(1099), ms(100));
    assert_eq!(
        pauses.after(at(0), ms(400)),
        ms(1000),
        "since the turn before"
    );
    assert_eq!(
        pauses.after(at(0), ms(401)),
        Duration::ZERO,
        "short for that"
    );
    assert_eq!(pauses.after(at(600), ms(400)), ms(499), "what was in it");
    assert_eq!(
        pauses.after(at(1099), ms(400)),
        Duration::ZERO,
        "it was before"
    );
}

#[test]
fn the_first_end_is_looked_at_and_forgotten_when_looked_at() {
    let mut limits = TimeLimits::default();
    assert_eq!(limits.look_at(), None);
    limits.expect(None);
    limits.expect(Some(at(7)));
    limits.expect(Some(at(9)));
    assert_eq!(limits.look_at(), Some(at(7)));
    limits.look_again(Some(at(12)));
    assert_eq!(limits.look_at(), Some(at(12)));
    limits.look_again(None);
    assert_eq!(limits.look_at(), None);
}

/// A parent that is late again and again, because others take the processor, still ends what takes
/// too long.
#[test]
fn of_many_pauses_the_longest_counts() {
    let mut pauses = Pauses::default();
    for turn in 0..100 {
        pauses.note_turn(at(turn * 200), at(turn * 200 + 200), ms(150));
        assert!(pauses.0.len() <= Pauses::KEPT);
    }
    let end = limits(0, 500).end(connection(0), None, &pauses);
    assert_eq!(end, Some(at(700)));
    pauses.note_turn(at(20_000), at(29_000), ms(8000));
    let end = |since| limits(0, 500).end(connection(since), None, &pauses);
    assert_eq!(end(0), Some(at(9500)));
    assert_eq!(end(19_900), Some(at(29_400)));
    assert_eq!(end(28_500), Some(at(29_500)), "the part that it has seen");
    assert_eq!(end(29_000), Some(at(29_500)), "it has seen none");
}

proptest! {
    /// In whatever turn a stop falls: afterwards the work has what was left of its limit, and not
    /// more than the wait before the stop besides.
    #[test]
    fn a_stop_takes_no_time_from_a_clock(
        begins in 0..1000_u64,
        limit in 1..1000_u64,
        runs in 0..1000_u64,
        waited in 0..1000_u64,
        stop in 250..100_000_u64,
    ) {
        // The parent turns, waits, and is stopped before its wait ends or right after it.
        let mut pauses = Pauses::default();
        let last_turn = begins + runs;
        let resumed = last_turn + waited + stop;
        pauses.note_turn(at(last_turn), at(resumed), ms(stop));
        let end = limits(0, limit).end(connection(begins), None, &pauses).unwrap();
        prop_assert!(end >= at(begins + limit + stop));
        prop_assert!(end <= at(begins + limit + stop + waited));
    }

    /// Whatever the order of events: a child is found at the first look at or after its end, and
    /// no child is found before the end.
    #[test]
    fn nobody_is_forgotten_and_nobody_is_early(
        begun in prop::collection::vec(0..500_u64, 1..20),
        limit in 1..300_u64,
    ) {
        let pauses = Pauses::default();
        let end = |since| limits(0, limit).end(connection(since), None, &pauses).unwrap();
        let mut limits = TimeLimits::default();
        let mut left = begun.clone();
        left.iter().for_each(|&since| limits.expect(Some(end(since))));
        while let Some(now) = limits.look_at() {
            let before = left.len();
            left.retain(|&since| end(since) > now);
            prop_assert!(left.len() < before, "it looks in vain at {now}");
            limits.look_again(left.iter().map(|&since| end(since)).min());
        }
        prop_assert!(left.is_empty());
    }
}
