//! What a further signal to stop makes of the children.

use super::*;
use crate::core::testing::{asked, at, child, go_to, kill, sized, state};

#[test]
fn the_second_signal_kills_all_and_a_child_that_was_not_told_to_stop_retires() {
    let mut monitor = sized(1, 5, 1, 10);
    monitor.tick(at(5), Duration::ZERO);
    let free = child(&mut monitor, State::Free);
    let culled = child(&mut monitor, State::Free);
    monitor.stop(culled, Reason::Culled);
    let reaped = child(&mut monitor, State::Free);
    monitor.note_reaped(reaped);
    asked(&mut monitor);
    monitor.kill_all();
    assert_eq!(asked(&mut monitor), [kill(free), kill(culled)]);
    assert_eq!(state(&monitor, free), State::Retiring);
    assert_eq!(
        monitor.child(free).unwrap().reason(),
        Some(Reason::Shutdown)
    );
}

/// Without the rule SIGTERM gives a child in its start the time of the drain once more.
#[test]
fn a_bound_gives_a_child_in_its_start_no_more_time() {
    let mut monitor = sized(1, 5, 1, 10);
    go_to(&mut monitor, 5);
    let starting = child(&mut monitor, State::Starting);
    monitor.ask_stop(Manner::Unbounded);
    monitor.begin_shutdown();
    monitor.stop(starting, Reason::Shutdown);
    let end = |monitor: &Monitor| monitor.next_signal(monitor.child(starting).unwrap());
    assert_eq!(end(&monitor), Some((at(1_005), Signal::Kill)));
    go_to(&mut monitor, 500);
    monitor.ask_stop(Manner::Bounded);
    monitor.bound_stop();
    assert_eq!(end(&monitor), Some((at(1_005), Signal::Kill)));
}

/// Without the rule a child that SIGQUIT has found on its way out has the time that it had then.
#[test]
fn a_bound_holds_for_a_child_that_was_told_for_another_reason_too() {
    let mut monitor = sized(1, 5, 1, 10);
    monitor.set_kill_timeout(Duration::from_secs(60));
    monitor.set_shutdown_timeout(Duration::from_secs(2));
    go_to(&mut monitor, 5);
    let slow = child(&mut monitor, State::Busy);
    monitor.stop(slow, Reason::Overtime);
    monitor.ask_stop(Manner::Unbounded);
    monitor.begin_shutdown();
    monitor.stop(slow, Reason::Shutdown);
    let end = |monitor: &Monitor| monitor.next_signal(monitor.child(slow).unwrap());
    assert_eq!(end(&monitor), Some((at(60_005), Signal::Kill)));
    go_to(&mut monitor, 500);
    monitor.ask_stop(Manner::Bounded);
    monitor.bound_stop();
    assert_eq!(end(&monitor), Some((at(2_500), Signal::Kill)));
}
