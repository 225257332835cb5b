//! Which events the monitor queues for observers, and in which order.

use crate::core::{
    child::{Child, Reason, State},
    monitor::Monitor,
    saturation::{Change, Fill},
    testing::{child, due_at, ended_by_signal, go_to, monitor, ms, sized, state},
    time::Time,
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
fn a_pool_is_full_while_no_child_is_free_and_none_more_may_be_forked() {
    let mut monitor = sized(1, 2, 1, 2);
    let first = child(&mut monitor, State::Busy);
    assert_eq!(monitor.fill(), Fill::Short);
    let second = child(&mut monitor, State::Starting);
    assert_eq!(monitor.fill(), Fill::Short);
    monitor.set_busy(second);
    assert_eq!(monitor.fill(), Fill::Full);
    // It is still a process, and only two are allowed.
    monitor.stop(first, Reason::Asked);
    assert_eq!(state(&monitor, first), State::Retiring);
    assert_eq!(monitor.fill(), Fill::Full);
    let gone = monitor.exited(first, ended_by_signal(2));
    assert_eq!(gone.map(|(child, _)| Child::id(&child)), Some(first));
    assert_eq!(monitor.fill(), Fill::Short);
    monitor.set_not_busy(second);
    assert_eq!(monitor.fill(), Fill::Room);
}

/// A child after the other leaves after a few connections, as all do by default.
#[test]
fn a_server_that_recycles_its_children_is_saturated_all_the_same() {
    let mut monitor = sized(1, 2, 1, 2);
    child(&mut monitor, State::Busy);
    let mut second = child(&mut monitor, State::Busy);
    let mut changes = Vec::new();
    for time in (10_000..12_000).step_by(100) {
        go_to(&mut monitor, time);
        changes.extend(monitor.observe_saturation());
        monitor.exited(second, ended_by_signal(2));
        changes.extend(monitor.observe_saturation());
        second = child(&mut monitor, State::Starting);
        changes.extend(monitor.observe_saturation());
        monitor.note_word_heard(second);
        assert_eq!(state(&monitor, second), State::Free, "it has said ACK");
        changes.extend(monitor.observe_saturation());
        assert!(
            monitor.are_all_busy(),
            "those who wait are to be turned away"
        );
        monitor.set_busy(second);
    }
    let since = Time::at(ms(10_000));
    assert_eq!(changes, [Change::Begins { since }]);
    monitor.set_not_busy(second);
    monitor.observe_saturation();
    assert!(!monitor.are_all_busy());
}

/// The report counts each episode once, and its time up to the last moment of saturation.
#[test]
fn episodes_of_saturation_are_counted() {
    let mut monitor = sized(1, 1, 1, 1);
    let only = child(&mut monitor, State::Busy);
    let mut changes = Vec::new();
    for time in [10_000, 10_999, 11_000, 12_000, 14_000] {
        go_to(&mut monitor, time);
        changes.extend(monitor.observe_saturation());
    }
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(monitor.is_in_saturation());
    assert_eq!(monitor.deadline(), None);
    let so_far = monitor.report().saturated_for;
    assert_eq!(so_far, ms(4_000), "the episode lasts");
    monitor.set_not_busy(only);
    go_to(&mut monitor, 15_000);
    assert_eq!(monitor.observe_saturation(), None);
    go_to(&mut monitor, 16_000);
    let ended = monitor.observe_saturation();
    let after = ms(5_000);
    assert_eq!(ended, Some(Change::Ends { after }));
    let report = monitor.report();
    assert_eq!((report.saturations, report.saturated_for), (1, after));
    assert!(report.to_string().ends_with("; saturated 1 times, 5.0 s"));
}

/// A second that nothing happens in ends, too: the loop wakes for it.
#[test]
fn the_loop_wakes_to_see_a_saturation_begin() {
    let mut monitor = sized(1, 1, 1, 1);
    child(&mut monitor, State::Busy);
    go_to(&mut monitor, 10_000);
    assert_eq!(monitor.observe_saturation(), None);
    assert_eq!(monitor.deadline(), Some(Time::at(ms(11_000))));
    monitor.begin_shutdown();
    assert_eq!(monitor.observe_saturation(), None);
    assert_eq!(monitor.report().saturations, 0);
}

#[test]
fn a_server_that_shuts_down_is_not_saturated() {
    let mut monitor = sized(1, 1, 1, 1);
    child(&mut monitor, State::Busy);
    assert_eq!(monitor.fill(), Fill::Full);
    monitor.begin_shutdown();
    assert_eq!(monitor.fill(), Fill::Room);
}

#[test]
fn a_reserved_child_that_there_cannot_be_has_a_reason() {
    let mut monitor = sized(1, 2, 1, 1);
    monitor.set_reserved_shedder(true);
    let why = |monitor: &Monitor| monitor.why_no_reserve().unwrap_or("");
    assert!(why(&monitor).contains("max_queue_age"));
    monitor.sheds = true;
    assert!(why(&monitor).contains("max_clients 1"));
    monitor.set_max_clients(2);
    assert_eq!(why(&monitor), "");
}
