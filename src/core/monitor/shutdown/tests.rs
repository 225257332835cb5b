//! The last child of a stop: when it may be forked, and how long it has.

use super::*;
use crate::core::stop::Manner;
use crate::core::testing::{asked, child, due_at, exit_code, go_to, int, kill, monitor, ms};

/// A stop that has begun at 1000 ms, without a child.
fn stopping() -> Monitor {
    let mut monitor = monitor();
    monitor.set_shutdown_timeout(ms(700));
    monitor.set_drain_timeout(ms(300));
    go_to(&mut monitor, 1000);
    monitor.begin_shutdown();
    monitor
}

#[test]
fn a_last_child_may_be_forked_in_the_time_of_a_stop_and_only_there() {
    let mut monitor = stopping();
    for (ms, may_fork) in [(1000, true), (1699, true), (1700, false), (9000, false)] {
        go_to(&mut monitor, ms);
        assert_eq!(monitor.may_fork_last(), may_fork, "at {ms} ms");
        assert!(!monitor.may_fork(0), "no other is");
    }
    let mut serving = Monitor::default();
    assert!(serving.may_fork(0) && !serving.may_fork_last());
}

#[test]
fn no_last_child_is_forked_in_vain() {
    let mut killed = stopping();
    killed.kill_all();
    let mut programs = stopping();
    programs.programs = true;
    let mut full = stopping();
    full.set_max_clients(1);
    full.forked(1001, None);
    let mut in_a_child = stopping();
    in_a_child.become_child();
    for mut monitor in [killed, programs, full, in_a_child] {
        assert!(!monitor.may_fork_last(), "{monitor:?}");
    }
}

#[test]
fn while_failures_delay_forks_no_last_child_is_forked() {
    let fork_fails = |monitor: &mut Monitor| {
        let _ = monitor.fork_failed();
    };
    let starts_fail = |monitor: &mut Monitor| {
        for _ in 0..2 {
            let id = child(monitor, State::Starting);
            let _ = monitor.exited(id, exit_code(1));
        }
    };
    for fails in [fork_fails, starts_fail] {
        let mut monitor = monitor();
        fails(&mut monitor);
        monitor.begin_shutdown();
        assert!(!monitor.may_fork_last());
        go_to(&mut monitor, 100);
        assert!(monitor.may_fork_last(), "the delay is over");
    }
}

/// It is told at its fork, and its time is that of the stop: it gets no more than others had.
#[test]
fn the_last_child_is_told_to_leave_and_has_the_time_that_is_left() {
    for (says, killed_at) in [(false, 1300), (true, 1700)] {
        let mut monitor = stopping();
        go_to(&mut monitor, 1200);
        let id = monitor.forked(1001, None);
        assert_eq!(asked(&mut monitor), [int(id)]);
        assert_eq!(monitor.queued_clients(id), QueuedClients::Serve);
        if says {
            monitor.note_word_heard(id);
        }
        assert_eq!(due_at(&mut monitor, killed_at - 1), []);
        assert_eq!(due_at(&mut monitor, killed_at), [kill(id)]);
    }
}

/// It serves the queue for what is left of the drain; a child that is forked otherwise has all of it.
#[test]
fn the_last_child_serves_the_queue_to_the_end_of_the_drain() {
    let mut monitor = stopping();
    for (now, left) in [(1000, 300), (1200, 100), (1300, 0), (9000, 0)] {
        go_to(&mut monitor, now);
        assert_eq!(monitor.drain_time(), ms(left), "at {now} ms");
    }
    let serving = Monitor::default();
    assert_eq!(serving.drain_time(), serving.drain_timeout());
}

/// A stop without a bound gives it none, and SIGTERM gives one to all.
#[test]
fn the_last_child_of_a_stop_without_a_bound_has_none_until_there_is_one() {
    let mut monitor = monitor();
    monitor.set_shutdown_timeout(ms(700));
    monitor.ask_stop(Manner::Unbounded);
    monitor.begin_shutdown();
    go_to(&mut monitor, 5000);
    assert!(monitor.may_fork_last());
    let id = monitor.forked(1001, None);
    monitor.note_word_heard(id);
    let _ = asked(&mut monitor);
    assert_eq!(due_at(&mut monitor, 9000), []);
    monitor.ask_stop(Manner::Bounded);
    monitor.bound_stop();
    assert_eq!(due_at(&mut monitor, 9699), []);
    assert!(monitor.may_fork_last());
    assert_eq!(due_at(&mut monitor, 9700), [kill(id)]);
    assert!(!monitor.may_fork_last());
}
