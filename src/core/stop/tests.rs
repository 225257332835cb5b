//! What every sequence of signals makes of a stop.

use super::*;

const DELAY: Duration = Duration::from_secs(5);

fn moment(seconds: u64, delay: Duration, is_shutdown: bool) -> Moment {
    Moment {
        now: Time::at(Duration::from_secs(seconds)),
        delay,
        is_shutdown,
    }
}

fn stop_signals(stops: u64, unbounded_stops: u64) -> StopSignals {
    StopSignals {
        stops,
        unbounded_stops,
    }
}

/// What each of `signals` (`T` for SIGINT or SIGTERM, `Q` for SIGQUIT) leads to, one in each turn.
fn one_by_one(signals: &str, delay: Duration) -> Vec<StopEffect> {
    let mut stop = Stop::default();
    let mut is_shutdown = false;
    let effects = signals.chars().map(|signal| {
        let signals = match signal {
            'Q' => stop_signals(0, 1),
            _ => stop_signals(1, 0),
        };
        let effect = stop.take(signals, moment(1, delay, is_shutdown));
        is_shutdown |= effect >= StopEffect::Shutdown;
        effect
    });
    effects.collect()
}

#[test]
fn the_first_stops_and_the_second_kills() {
    use StopEffect::{Bound, Kill, Nothing, Shutdown};
    for (signals, expected) in [
        ("T", vec![Shutdown]),
        ("TT", vec![Shutdown, Kill]),
        ("TTT", vec![Shutdown, Kill, Kill]),
        ("Q", vec![Shutdown]),
        ("QQ", vec![Shutdown, Nothing]),
        ("QT", vec![Shutdown, Bound]),
        ("QTT", vec![Shutdown, Bound, Kill]),
        ("TQ", vec![Shutdown, Nothing]),
        ("TQT", vec![Shutdown, Nothing, Kill]),
    ] {
        assert_eq!(one_by_one(signals, Duration::ZERO), expected, "{signals}");
    }
}

#[test]
fn with_a_delay_the_first_announces_and_the_second_ends_the_delay() {
    use StopEffect::{Announce, Bound, Kill, Shutdown};
    for (signals, expected) in [
        ("T", vec![Announce]),
        ("TT", vec![Announce, Shutdown]),
        ("TTT", vec![Announce, Shutdown, Kill]),
        ("QQ", vec![Announce, Shutdown]),
        ("QQT", vec![Announce, Shutdown, Bound]),
        ("QT", vec![Announce, Shutdown]),
        ("QTT", vec![Announce, Shutdown, Kill]),
        ("TQT", vec![Announce, Shutdown, Kill]),
    ] {
        assert_eq!(one_by_one(signals, DELAY), expected, "{signals}");
    }
}

/// A turn that finds several signals ends where as many turns would have ended.
#[test]
fn many_in_one_turn_are_as_many_one_by_one() {
    for delay in [Duration::ZERO, DELAY] {
        for (unbounded, stops) in
            (0..4).flat_map(|unbounded| (0..4).map(move |stops| (unbounded, stops)))
        {
            let mut stop = Stop::default();
            let at_once = stop.take(stop_signals(stops, unbounded), moment(1, delay, false));
            let signals = "Q".repeat(unbounded as usize) + &"T".repeat(stops as usize);
            let one_by_one = one_by_one(&signals, delay).into_iter().max();
            assert_eq!(at_once, one_by_one.unwrap_or_default(), "{signals}");
        }
    }
}

/// The bound holds as soon as anything but SIGQUIT has asked, and is never taken away.
#[test]
fn only_a_stop_by_sigquit_alone_has_no_bound() {
    for delay in [Duration::ZERO, DELAY] {
        for signals in ["Q", "QQ", "QQQ"] {
            let mut stop = Stop::default();
            let quits = signals.len() as u64;
            let _ = stop.take(stop_signals(0, quits), moment(1, delay, false));
            assert!(stop.is_unbounded(), "{signals}");
        }
        for (stops, unbounded) in [(1, 0), (1, 1), (1, 2), (2, 1)] {
            let mut stop = Stop::default();
            let _ = stop.take(stop_signals(stops, unbounded), moment(1, delay, false));
            let _ = stop.take(stop_signals(0, 1), moment(2, delay, true));
            let bounded = !stop.is_unbounded();
            assert!(bounded, "{stops} stops, {unbounded} unbounded ones");
        }
    }
}

/// A shutdown that a hook has begun is not the operator's: the first signal does not kill.
#[test]
fn in_a_shutdown_of_the_programs_own_the_second_signal_kills() {
    let mut stop = Stop::default();
    let effects = [1, 2].map(|second| stop.take(stop_signals(1, 0), moment(second, DELAY, true)));
    assert_eq!(effects, [StopEffect::Nothing, StopEffect::Kill]);
}

#[test]
fn an_announced_stop_begins_once_when_its_delay_is_over() {
    let mut stop = Stop::default();
    let at = |seconds| Time::at(Duration::from_secs(seconds));
    assert!(!stop.take_due(at(100)));
    let effect = stop.take(stop_signals(1, 0), moment(1, DELAY, false));
    assert_eq!(
        (effect, stop.begins_at()),
        (StopEffect::Announce, Some(at(6)))
    );
    assert!(!stop.take_due(at(5)));
    assert!(stop.take_due(at(6)));
    assert!(!stop.take_due(at(7)));
    // Begun by something else meanwhile.
    let mut stop = Stop::default();
    let _ = stop.take(stop_signals(1, 0), moment(1, DELAY, false));
    stop.has_begun(at(1));
    assert_eq!(stop.begins_at(), None);
    assert!(!stop.take_due(at(100)));
}

/// What a stop that does not come from a signal makes of each state of a stop.
#[test]
fn a_stop_that_is_asked_for_never_kills_by_being_asked_for_again() {
    use Manner::{Bounded, Now, Unbounded};
    use StopEffect::{Announce, Bound, Kill, Nothing, Shutdown};
    for (delay, manners, expected) in [
        (Duration::ZERO, vec![Bounded], vec![Shutdown]),
        (
            Duration::ZERO,
            vec![Bounded; 3],
            vec![Shutdown, Nothing, Nothing],
        ),
        (Duration::ZERO, vec![Unbounded; 2], vec![Shutdown, Nothing]),
        (
            Duration::ZERO,
            vec![Unbounded, Bounded, Bounded],
            vec![Shutdown, Bound, Nothing],
        ),
        (
            Duration::ZERO,
            vec![Bounded, Unbounded],
            vec![Shutdown, Nothing],
        ),
        (Duration::ZERO, vec![Now], vec![Kill]),
        (Duration::ZERO, vec![Unbounded, Now], vec![Shutdown, Kill]),
        (DELAY, vec![Bounded, Bounded], vec![Announce, Nothing]),
        (DELAY, vec![Unbounded, Bounded], vec![Announce, Nothing]),
        (DELAY, vec![Bounded, Now], vec![Announce, Kill]),
    ] {
        let (mut stop, mut is_shutdown) = (Stop::default(), false);
        let effects = manners.iter().map(|manner| {
            let effect = stop.ask(*manner, moment(1, delay, is_shutdown));
            is_shutdown |= effect >= StopEffect::Shutdown;
            effect
        });
        assert_eq!(effects.collect::<Vec<_>>(), expected, "{manners:?}");
        let unbounded = manners.iter().all(|manner| *manner == Unbounded);
        assert!(
            !stop.is_unbounded() || unbounded || manners.contains(&Now),
            "{manners:?}"
        );
    }
}

/// The first SIGTERM after it is a first one: it ends a delay, and kills no child.
#[test]
fn the_signal_after_a_stop_that_was_asked_for_is_the_first() {
    let mut stop = Stop::default();
    assert_eq!(
        stop.ask(Manner::Bounded, moment(1, DELAY, false)),
        StopEffect::Announce
    );
    assert_eq!(
        stop.take(stop_signals(1, 0), moment(2, DELAY, false)),
        StopEffect::Shutdown
    );
    assert_eq!(
        stop.take(stop_signals(1, 0), moment(3, DELAY, true)),
        StopEffect::Kill
    );
    let mut stop = Stop::default();
    assert_eq!(
        stop.ask(Manner::Bounded, moment(1, Duration::ZERO, false)),
        StopEffect::Shutdown
    );
    assert_eq!(
        stop.take(stop_signals(1, 0), moment(2, DELAY, true)),
        StopEffect::Nothing
    );
    assert_eq!(
        stop.take(stop_signals(1, 0), moment(3, DELAY, true)),
        StopEffect::Kill
    );
}

#[cfg(feature = "holder")]
#[test]
fn how_far_a_stop_is_can_be_written_down() {
    assert_eq!(StopState::read(StopState::None.word()), StopState::None);
    for (is_unbounded, was_told) in [(false, false), (false, true), (true, false), (true, true)] {
        let terms = StopTerms {
            is_unbounded,
            was_told,
        };
        for state in [StopState::Announced(terms), StopState::Begun(terms)] {
            assert_eq!(StopState::read(state.word()), state);
        }
    }
}

/// After every sequence of signals, the next ones mean the same to a parent that goes on with the stop.
#[cfg(feature = "holder")]
#[test]
fn the_next_signal_means_the_same_to_the_next_parent() {
    for signals in ["T", "Q", "TQ", "QT", "QQ"] {
        let mut stop = Stop::default();
        let mut effects = Vec::new();
        for signal in signals.chars() {
            effects.push(hear(&mut stop, signal, !effects.is_empty()));
        }
        let word = StopState::Begun(stop.terms()).word();
        for next in ['T', 'Q'] {
            let StopState::Begun(terms) = StopState::read(word) else {
                panic!("it has begun");
            };
            let mut inherited = Stop::default();
            inherited.go_on(terms);
            let mut same = stop;
            let expected = hear(&mut same, next, true);
            assert_eq!(
                hear(&mut inherited, next, true),
                expected,
                "{signals}{next}"
            );
        }
    }
}

#[cfg(feature = "holder")]
fn hear(stop: &mut Stop, signal: char, is_shutdown: bool) -> StopEffect {
    let signals = match signal {
        'Q' => stop_signals(0, 1),
        _ => stop_signals(1, 0),
    };
    stop.take(signals, moment(1, Duration::ZERO, is_shutdown))
}
