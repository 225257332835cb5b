//! `start_timeout` and `busy_timeout` as the monitor keeps them: each alone, both together, with
//! what else bounds a child.

use super::*;
use crate::core::{
    testing::{at, child, ended_by_signal, go_to, ms, sized, state},
    time_limits::InHand,
};

fn limited(start: u64, busy: u64) -> Monitor {
    let mut monitor = sized(1, 100, 1, 100);
    monitor.set_start_timeout(ms(start));
    monitor.set_busy_timeout(ms(busy));
    monitor
}

/// What the loop does with the time limits at `now`, with the default hook: the reasons to stop.
fn look(monitor: &mut Monitor, now: u64) -> Vec<(ChildId, Reason)> {
    go_to(monitor, now);
    if !monitor.clocks_are_due() {
        return Vec::new();
    }
    let over = monitor.take_overtime();
    let told = over.into_iter().map(|id| {
        let reason = monitor.overtime_reason(id);
        monitor.stop(id, reason);
        (id, reason)
    });
    let told = told.collect();
    monitor.watch_clocks();
    told
}

fn notes(since: u64) -> InHand {
    InHand {
        since: Some(at(since)),
        extended_until: None,
    }
}

#[test]
fn without_limits_nobody_is_looked_at() {
    let mut monitor = limited(0, 0);
    child(&mut monitor, State::Starting);
    child(&mut monitor, State::Busy);
    assert_eq!(monitor.look_at_clocks(), None);
    assert_eq!(look(&mut monitor, 1_000_000), []);
}

#[test]
fn a_start_that_takes_too_long_is_told_and_others_are_not() {
    let mut monitor = limited(500, 0);
    let hangs = child(&mut monitor, State::Starting);
    let acks_only = child(&mut monitor, State::Free);
    let waits = child(&mut monitor, State::Free);
    monitor.set_not_busy(waits);
    let serves = child(&mut monitor, State::Busy);
    assert_eq!(monitor.look_at_clocks(), Some(at(500)));
    assert_eq!(look(&mut monitor, 499), []);
    let told = look(&mut monitor, 500);
    let late = Reason::StartTimeout;
    assert_eq!(told, [(hangs, late), (acks_only, late)]);
    for id in [waits, serves] {
        assert_ne!(state(&monitor, id), State::Retiring);
    }
    assert_eq!(monitor.look_at_clocks(), None, "nobody else is bounded");
}

#[test]
fn a_connection_that_takes_too_long_is_told_and_a_start_is_not() {
    let mut monitor = limited(0, 500);
    let starts = child(&mut monitor, State::Starting);
    let busy = child(&mut monitor, State::Busy);
    assert_eq!(look(&mut monitor, 500), [(busy, Reason::Overtime)]);
    assert_eq!(look(&mut monitor, 60_000), []);
    assert_eq!(state(&monitor, starts), State::Starting);
}

#[test]
fn both_clocks_run_side_by_side() {
    let mut monitor = limited(300, 500);
    let busy = child(&mut monitor, State::Busy);
    let starts = child(&mut monitor, State::Starting);
    assert_eq!(look(&mut monitor, 300), [(starts, Reason::StartTimeout)]);
    assert_eq!(monitor.look_at_clocks(), Some(at(500)));
    assert_eq!(look(&mut monitor, 500), [(busy, Reason::Overtime)]);
}

/// A child under load says no word between two connections; its notes tell when each began.
#[test]
fn the_notes_of_a_child_move_its_end() {
    let mut monitor = limited(0, 500);
    let busy = child(&mut monitor, State::Busy);
    monitor.note_requests(busy, 1);
    go_to(&mut monitor, 450);
    monitor.note_in_hand(busy, notes(400));
    assert_eq!(look(&mut monitor, 500), [], "that was an earlier one");
    assert_eq!(monitor.look_at_clocks(), Some(at(900)));
    monitor.note_in_hand(busy, InHand::default());
    assert_eq!(look(&mut monitor, 900), [], "it is between two");
    monitor.note_in_hand(busy, notes(850));
    assert_eq!(monitor.look_at_clocks(), Some(at(1350)));
    assert_eq!(look(&mut monitor, 1350), [(busy, Reason::Overtime)]);
}

#[test]
fn a_child_that_a_hook_leaves_alone_is_found_again() {
    let mut monitor = limited(0, 500);
    let busy = child(&mut monitor, State::Busy);
    for (now, found) in [(500, true), (999, false), (1000, true), (1500, true)] {
        go_to(&mut monitor, now);
        let over = match monitor.clocks_are_due() {
            true => monitor.take_overtime(),
            false => Vec::new(),
        };
        monitor.watch_clocks();
        assert_eq!(over == [busy], found, "at {now}");
    }
}

#[test]
fn a_limit_that_is_set_later_holds_for_those_who_serve_now() {
    let mut monitor = limited(0, 0);
    let busy = child(&mut monitor, State::Busy);
    go_to(&mut monitor, 2000);
    monitor.set_busy_timeout(ms(500));
    assert_eq!(look(&mut monitor, 2001), [(busy, Reason::Overtime)]);
    let other = child(&mut monitor, State::Busy);
    monitor.set_busy_timeout(Duration::ZERO);
    assert_eq!(look(&mut monitor, 90_000), []);
    assert_eq!(state(&monitor, other), State::Busy);
}

/// A cull alone has no limit for a child that serves on; a connection that takes too long gives it
/// one.
#[test]
fn a_culled_child_that_serves_for_too_long_is_killed() {
    let mut monitor = limited(0, 500);
    let culled = child(&mut monitor, State::Free);
    monitor.stop(culled, Reason::Culled);
    monitor.set_busy(culled);
    let child = monitor.child(culled).unwrap();
    assert_eq!(monitor.next_signal(child), None, "it may serve on");
    assert_eq!(look(&mut monitor, 500), [(culled, Reason::Overtime)]);
    let child = monitor.child(culled).unwrap();
    let kill_at = at(500) + monitor.kill_timeout();
    assert_eq!(monitor.next_signal(child), Some((kill_at, Signal::Kill)));
}

/// In a shutdown a child that serves is judged if that kills it sooner than the shutdown would.
#[test]
fn in_a_shutdown_the_earlier_end_counts() {
    for (shutdown_timeout, judged) in [(5_000, false), (60_000, true)] {
        let mut monitor = limited(0, 500);
        monitor.set_kill_timeout(ms(10_000));
        monitor.set_shutdown_timeout(ms(shutdown_timeout));
        let busy = child(&mut monitor, State::Busy);
        monitor.begin_shutdown();
        monitor.stop(busy, Reason::Shutdown);
        let told = look(&mut monitor, 500);
        assert_eq!(!told.is_empty(), judged);
        let child = monitor.child(busy).unwrap();
        let kill_at = if judged { 10_500 } else { 5_000 };
        let kill = Some((at(kill_at), Signal::Kill));
        assert_eq!(monitor.next_signal(child), kill);
        assert_eq!(monitor.look_at_clocks(), None, "it is killed anyway");
    }
}

/// The parent and its children were stopped: neither has had its time.
#[test]
fn time_in_which_the_parent_did_not_run_counts_for_no_clock() {
    let mut monitor = limited(300, 500);
    let busy = child(&mut monitor, State::Busy);
    let starts = child(&mut monitor, State::Starting);
    monitor.tick(at(100), Duration::ZERO);
    // It would have turned at 300 ms at the latest.
    monitor.tick(at(10_100), ms(9800));
    assert!(monitor.clocks_are_due());
    assert_eq!(monitor.take_overtime(), []);
    monitor.watch_clocks();
    assert_eq!(monitor.look_at_clocks(), Some(at(10_300)));
    assert_eq!(look(&mut monitor, 10_299), []);
    assert_eq!(look(&mut monitor, 10_300), [(starts, Reason::StartTimeout)]);
    assert_eq!(look(&mut monitor, 10_500), [(busy, Reason::Overtime)]);
}

/// The next start may hang as well, so forks wait from the moment on in which the first is told.
#[test]
fn a_start_that_hangs_delays_forks_at_once_and_its_death_is_counted() {
    let mut monitor = limited(500, 0);
    for (now, allowed) in [(500, true), (1000, false)] {
        let hangs = child(&mut monitor, State::Starting);
        assert_eq!(look(&mut monitor, now), [(hangs, Reason::StartTimeout)]);
        assert_eq!(monitor.may_fork(0), allowed, "after {now} ms");
        let (_, death) = monitor.exited(hangs, ended_by_signal(9)).unwrap();
        assert_eq!(death.cause(), Cause::StartTimeout);
        assert_eq!(monitor.may_fork(0), allowed, "it was counted before");
    }
    assert_eq!(monitor.report().deaths(Cause::StartTimeout), 2);
}

/// With a limit only a word proves a start: age alone may be a hang.
#[test]
fn a_long_start_ends_no_backoff_where_starts_are_limited() {
    for (start_timeout, held) in [(0, true), (60_000, false)] {
        let mut monitor = limited(start_timeout, 0);
        let failed = child(&mut monitor, State::Starting);
        monitor.exited(failed, ended_by_signal(9));
        child(&mut monitor, State::Starting);
        assert!(monitor.backoff.is_watching());
        go_to(&mut monitor, 5000);
        monitor.fire_due();
        assert_eq!(!monitor.backoff.is_watching(), held);
    }
}

#[test]
fn an_empty_pool_has_no_clock() {
    let mut monitor = limited(500, 500);
    let dead = child(&mut monitor, State::Starting);
    monitor.exited(dead, None);
    assert_eq!(monitor.look_at_clocks(), None);
}
