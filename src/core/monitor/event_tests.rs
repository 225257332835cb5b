//! Which events the monitor queues for observers, and in which order.

use crate::core::{
    child::{Child, Reason, State},
    monitor::Monitor,
    testing::{child, due_at, ended_by_signal, go_to, monitor, sized, state},
};

fn observed(mut monitor: Monitor) -> Monitor {
    monitor.events.observe();
    monitor
}

/// Takes the queued events out, without the names of children.
fn noted(monitor: &mut Monitor) -> Vec<String> {
    let text = |event| {
        let text = format!("{event:?}");
        let name = text.split(['{', '(']).next().unwrap_or_default();
        let reason = text.split_once("reason: ").map(|(_, reason)| reason);
        let reason = reason.map_or("", |reason| reason.trim_end_matches(" }"));
        format!("{} {reason}", name.trim()).trim().to_owned()
    };
    std::iter::from_fn(|| monitor.events.pop())
        .map(text)
        .collect()
}

#[test]
fn without_an_observer_the_log_is_told_what_is_rare() {
    let mut monitor = monitor();
    let id = child(&mut monitor, State::Busy);
    monitor.stop(id, Reason::Asked);
    monitor.begin_shutdown();
    let rare = ["Forked", "Ready", "ToldToStop Asked", "ShuttingDown"];
    assert_eq!(noted(&mut monitor), rare);
}

#[test]
fn in_a_child_nothing_is_noted() {
    let mut monitor = observed(monitor());
    monitor.become_child();
    monitor.begin_shutdown();
    assert!(noted(&mut monitor).is_empty());
}

#[test]
fn a_life_is_noted_step_by_step_and_each_step_once() {
    let mut monitor = observed(monitor());
    let id = child(&mut monitor, State::Free);
    assert_eq!(noted(&mut monitor), ["Forked"]);
    assert!(!monitor.set_not_busy(id));
    assert!(monitor.set_busy(id));
    assert!(!monitor.set_busy(id));
    assert!(monitor.set_not_busy(id));
    assert_eq!(noted(&mut monitor), ["Ready", "Busy", "Free"]);
    monitor.stop(id, Reason::Culled);
    monitor.stop(id, Reason::Culled);
    assert!(!monitor.set_busy(id));
    assert_eq!(noted(&mut monitor), ["ToldToStop Culled"]);
    monitor.begin_shutdown();
    monitor.stop(id, Reason::Shutdown);
    let told = ["ShuttingDown", "ToldToStop Shutdown"];
    assert_eq!(noted(&mut monitor), told);
}

#[test]
fn a_first_busy_makes_a_child_ready_too() {
    let mut monitor = observed(monitor());
    child(&mut monitor, State::Busy);
    assert_eq!(noted(&mut monitor), ["Forked", "Ready", "Busy"]);
}

/// A child that exits closes its outputs shortly before and is not told to stop; a child that runs
/// on is told.
#[test]
fn a_child_that_closed_its_outputs_is_told_when_it_lives_on() {
    let mut monitor = observed(monitor());
    go_to(&mut monitor, 5_000);
    let id = child(&mut monitor, State::Free);
    monitor.retire(id, Reason::Closed);
    assert_eq!(noted(&mut monitor), ["Forked"]);
    due_at(&mut monitor, 5_100);
    assert_eq!(noted(&mut monitor), ["ToldToStop Closed"]);
}

#[test]
fn a_server_is_saturated_while_no_child_is_free_and_none_more_may_be_forked() {
    let mut monitor = sized(1, 2, 1, 2);
    let first = child(&mut monitor, State::Busy);
    assert!(!monitor.is_saturated());
    let second = child(&mut monitor, State::Starting);
    assert!(!monitor.is_saturated());
    monitor.set_busy(second);
    assert!(monitor.is_saturated());
    // It is still a process, and only two are allowed.
    monitor.stop(first, Reason::Asked);
    assert_eq!(state(&monitor, first), State::Retiring);
    assert!(monitor.is_saturated());
    let gone = monitor.exited(first, ended_by_signal(2));
    assert_eq!(gone.map(|(child, _)| Child::id(&child)), Some(first));
    assert!(!monitor.is_saturated());
}

#[test]
fn a_server_that_shuts_down_is_not_saturated() {
    let mut monitor = sized(1, 1, 1, 1);
    child(&mut monitor, State::Busy);
    assert!(monitor.is_saturated());
    monitor.begin_shutdown();
    assert!(!monitor.is_saturated());
}
