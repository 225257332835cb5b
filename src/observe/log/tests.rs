//! The lines of the log, from events that are made up.

use super::{saturation::first_for, *};
use crate::core::child::{ChildId, State};
use crate::core::testing::{at, child, ended_by_signal, go_to, infos, sized, warnings};
use std::time::Duration;

/// A pool of one child that is killed with its client, again and again.
fn die(log: &mut Log, monitor: &mut Monitor) {
    let id = child(monitor, State::Busy);
    end(log, monitor, id);
}

fn end(log: &mut Log, monitor: &mut Monitor, id: ChildId) {
    let (child, death) = monitor.exited(id, ended_by_signal(11)).unwrap();
    let event = Event::Exited {
        child: &child,
        death: &death,
    };
    log.event(monitor, &event);
}

fn turn(log: &mut Log, monitor: &mut Monitor, ms: u64) {
    go_to(monitor, ms);
    log.event(monitor, &Event::Turn { next_in: None });
}

#[test]
fn deaths_of_one_kind_are_one_line_in_ten_seconds_and_a_number() {
    let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 5));
    go_to(&mut monitor, 5000);
    let lines = warnings(|| {
        (0..4).for_each(|_| die(&mut log, &mut monitor));
        turn(&mut log, &mut monitor, 14_999);
    });
    let deaths = |lines: &[String]| {
        let mut lines = lines.to_vec();
        lines.retain(|line| line.contains("has died"));
        lines
    };
    assert_eq!(deaths(&lines).len(), 1, "{lines:?}");
    assert_eq!(log.wake_at(), Some(at(15_000)));
    let lines = warnings(|| turn(&mut log, &mut monitor, 15_000));
    let expected = "3 more children: the child has died: signal: 11 (SIGSEGV)";
    assert_eq!(deaths(&lines), [expected]);
    assert_eq!(log.wake_at(), None);
}

#[test]
fn what_a_stop_has_lost_is_a_warning_at_its_end() {
    let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 5));
    die(&mut log, &mut monitor);
    let said = |log: &mut Log, monitor: &Monitor| {
        let mut lines = warnings(|| log.event(monitor, &Event::Ended));
        lines.retain(|line| line.contains("the stop"));
        lines
    };
    assert_eq!(said(&mut log, &monitor), [""; 0], "it was before the stop");
    let busy = child(&mut monitor, State::Busy);
    monitor.begin_shutdown();
    end(&mut log, &mut monitor, busy);
    monitor.note_lost_queue(5);
    let expected = "the stop has lost 6 connections: 5 queued, 1 in hand";
    assert_eq!(said(&mut log, &monitor), [expected]);
    assert_eq!(monitor.report().lost_connections, 7);
}

#[test]
fn an_episode_of_saturation_is_two_lines_and_the_next_is_none_for_ten_seconds() {
    let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 7));
    let mut episode = |second: u64, waiting: Option<u32>, clients| {
        warnings(|| {
            go_to(&mut monitor, 1000 * second);
            let oldest = waiting.filter(|count| *count == 5);
            let oldest = oldest.map(|_| Duration::from_millis(400));
            log.event(&monitor, &Event::Saturated { waiting, oldest });
            log.event(&monitor, &Event::Waiting { clients, oldest });
            log.event(
                &monitor,
                &Event::Waiting {
                    clients: 0,
                    oldest: None,
                },
            );
            let after = Duration::from_millis(2100);
            log.event(&monitor, &Event::Relieved { after });
        })
    };
    let begin = |waiting| format!("saturated: all 7 children are busy, {waiting} clients wait");
    let end = "no longer saturated: it lasted 2.1 s, and at most 12 clients waited";
    assert_eq!(episode(1, Some(0), 0), [""; 0], "no client waits");
    assert_eq!(episode(2, Some(4), 12), [&*begin(4), end]);
    assert_eq!(episode(11, Some(4), 12), [""; 0]);
    assert_eq!(episode(12, None, 12), [&*begin(12), end]);
    let begin = begin(5) + ", the first for 0.4 s or more";
    assert_eq!(episode(22, Some(5), 12), [&*begin, end]);
    assert_eq!(first_for(Duration::from_millis(49)), "", "it has just come");
}

/// No child turns free or busy while it lasts, so no event tells of the clients that wait.
#[test]
fn an_episode_that_begins_too_soon_is_said_when_the_ten_seconds_are_over() {
    let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 7));
    let begin = |log: &mut Log, monitor: &mut Monitor, second: u64| {
        go_to(monitor, 1000 * second);
        let (waiting, oldest) = (Some(3), None);
        log.event(monitor, &Event::Saturated { waiting, oldest });
    };
    begin(&mut log, &mut monitor, 1);
    let after = Duration::from_secs(1);
    log.event(&monitor, &Event::Relieved { after });
    let lines = warnings(|| {
        begin(&mut log, &mut monitor, 4);
        turn(&mut log, &mut monitor, 10_999);
    });
    assert_eq!((lines, log.wake_at()), (vec![], Some(at(11_000))));
    let lines = warnings(|| turn(&mut log, &mut monitor, 11_000));
    assert_eq!(
        lines,
        ["saturated: all 7 children are busy, 3 clients wait"]
    );
    assert_eq!(log.wake_at(), None);
    assert_eq!(warnings(|| turn(&mut log, &mut monitor, 30_000)), [""; 0]);
}

/// The replacements of a reload have its lines; the others have one in ten seconds.
#[test]
fn a_replacement_is_one_line_in_ten_seconds_and_a_reload_has_its_own() {
    let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 7));
    let (old, new) = (
        child(&mut monitor, State::Free),
        child(&mut monitor, State::Free),
    );
    let replaced = Event::Replaced { old, new };
    let lines = infos(|| {
        (0..3).for_each(|_| log.event(&monitor, &replaced));
        turn(&mut log, &mut monitor, 9_999);
    });
    assert_eq!(lines, ["child 1001 is replaced by child 1002"]);
    assert_eq!(log.wake_at(), Some(at(10_000)));
    let lines = infos(|| turn(&mut log, &mut monitor, 10_000));
    let expected = "child 1001 is replaced by child 1002 (2 times more)";
    assert_eq!(lines, [expected]);
    let lines = infos(|| {
        turn(&mut log, &mut monitor, 30_000);
        log.event(&monitor, &Event::ReloadBegan { epoch: 1 });
        log.event(&monitor, &replaced);
        turn(&mut log, &mut monitor, 50_000);
    });
    assert_eq!(lines, ["reload: epoch 1 begins"]);
    let (old, new) = (child(&mut monitor, State::Free), new);
    let lines = infos(|| log.event(&monitor, &Event::Replaced { old, new }));
    assert_eq!(lines, ["child 1003 is replaced by child 1002"]);
}

#[test]
fn the_attributes_that_differ_are_told() {
    assert_eq!(set_attributes(&Config::default()), "the defaults");
    let config = Config::default()
        .max_clients(7)
        .timeout(Duration::from_secs(3));
    assert_eq!(set_attributes(&config), "max_clients 7, timeout 3 s");
}
