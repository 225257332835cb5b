//! From SIGINT to SIGKILL: when, for whom, once.

use super::*;
use crate::{
    core::{
        child::{Cause, ChildFlags, State},
        signal_policy::{Arrived, index},
        stop::StopEffect,
        testing::{
            PlainTask, asked, at, child, children, due_at, exit_code, go_to, int, kill, monitor, ms,
        },
    },
    hooks::{DefaultHooks, defaults},
};

/// A child that is told to stop at 1000 ms for that reason, as the defaults do it.
fn told(monitor: &mut Monitor, reason: Reason) -> ChildId {
    let id = child(monitor, State::Free);
    go_to(monitor, 1000);
    monitor.kill(id, Signal::Interrupt);
    monitor.retire(id, reason);
    assert_eq!(asked(monitor), [int(id)]);
    id
}

/// Checks that nothing happens until `ms`, that SIGKILL is sent then, and never again.
fn expect_kill_at(monitor: &mut Monitor, id: ChildId, ms: u64) {
    assert_eq!(monitor.deadline(), Some(at(ms)));
    assert_eq!(due_at(monitor, ms - 1), []);
    assert_eq!(due_at(monitor, ms), [kill(id)]);
    assert_eq!(monitor.deadline(), None);
    assert_eq!(due_at(monitor, ms * 100), [], "SIGKILL is sent once");
}

#[test]
fn each_reason_has_its_time() {
    for (reason, at) in [
        (Reason::Culled, 11_000),
        (Reason::TimedOut, 11_000),
        (Reason::Faulty, 11_000),
        (Reason::Asked, 11_000),
        (Reason::Closed, 11_000),
        (Reason::Shutdown, 31_000),
    ] {
        let mut monitor = monitor();
        let id = told(&mut monitor, reason);
        expect_kill_at(&mut monitor, id, at);
    }
}

/// Its processes count as the child, and the cause is that of the child's own end.
#[test]
fn o14_what_outlives_a_child_is_told_and_killed() {
    let mut monitor = monitor();
    let id = child(&mut monitor, State::Free);
    go_to(&mut monitor, 1000);
    monitor.outlived(id);
    assert_eq!(asked(&mut monitor), [PlainTask::Forkoff]);
    assert_eq!(monitor.child(id).unwrap().state(), State::Retiring);
    assert_eq!(due_at(&mut monitor, 1100), [int(id)]);
    monitor.outlived(id);
    assert_eq!(asked(&mut monitor), [], "it is said at each look");
    expect_kill_at(&mut monitor, id, 11_100);
    let (_, death) = monitor.exited(id, exit_code(0)).unwrap();
    assert_eq!(death.cause(), Cause::Finished);
}

/// They get what is left of the time that the child had when it was told to stop.
#[test]
fn o14_what_outlives_a_child_that_was_told_has_the_time_that_is_left() {
    let mut monitor = monitor();
    let id = told(&mut monitor, Reason::Shutdown);
    monitor.outlived(id);
    assert_eq!(asked(&mut monitor), []);
    expect_kill_at(&mut monitor, id, 31_000);
    let (_, death) = monitor.exited(id, exit_code(0)).unwrap();
    assert_eq!(death.cause(), Cause::Shutdown);
}

#[test]
fn the_times_are_the_attributes() {
    let mut monitor = monitor();
    monitor.set_kill_timeout(ms(300));
    monitor.set_shutdown_timeout(ms(700));
    let id = told(&mut monitor, Reason::TimedOut);
    expect_kill_at(&mut monitor, id, 1300);
    let mut monitor = self::monitor();
    monitor.set_shutdown_timeout(ms(700));
    let id = told(&mut monitor, Reason::Shutdown);
    expect_kill_at(&mut monitor, id, 1700);
}

/// The shutdown does not wait for it, unless it is a program, which need not say that it has
/// started.
#[test]
fn o39_in_a_shutdown_a_child_in_its_start_is_killed_after_the_drain() {
    for (programs, says, expected) in [
        (false, false, 1300),
        (false, true, 1700),
        (true, false, 1700),
    ] {
        let mut monitor = monitor();
        monitor.programs = programs;
        monitor.set_shutdown_timeout(ms(700));
        monitor.set_drain_timeout(ms(300));
        go_to(&mut monitor, 1000);
        let id = child(&mut monitor, State::Starting);
        monitor.stop(id, Reason::Shutdown);
        if says {
            monitor.note_word_heard(id);
        }
        let _ = asked(&mut monitor);
        expect_kill_at(&mut monitor, id, expected);
    }
}

/// Whatever it was told before.
#[test]
fn o39_a_child_that_was_told_to_stop_in_its_start_is_not_waited_for_either() {
    for reason in [Reason::Asked, Reason::StartTimeout, Reason::Reloaded] {
        let mut monitor = monitor();
        monitor.set_kill_timeout(ms(600));
        monitor.set_shutdown_timeout(ms(5000));
        monitor.set_drain_timeout(ms(300));
        go_to(&mut monitor, 900);
        let id = child(&mut monitor, State::Starting);
        monitor.stop(id, reason);
        go_to(&mut monitor, 1000);
        monitor.stop(id, Reason::Shutdown);
        let _ = asked(&mut monitor);
        expect_kill_at(&mut monitor, id, 1300);
    }
}

#[test]
fn escalation_is_no_alarm() {
    let mut monitor = monitor();
    let id = told(&mut monitor, Reason::TimedOut);
    monitor.delay_set("own", ms(1));
    monitor.alarm_remove_all();
    expect_kill_at(&mut monitor, id, 11_000);
}

#[test]
fn a_culled_child_that_never_says_busy_is_killed_though_it_reports() {
    let mut monitor = monitor();
    monitor.set_timeout(ms(2000));
    let id = told(&mut monitor, Reason::Culled);
    for now in (2000..11_000).step_by(1000) {
        go_to(&mut monitor, now);
        monitor.acknowledge(id);
        monitor.fire_due();
    }
    assert_eq!(asked(&mut monitor), []);
    assert_eq!(due_at(&mut monitor, 11_000), [kill(id)]);
}

#[test]
fn a_culled_child_that_had_just_accepted_has_the_time_of_any_busy_one() {
    let mut monitor = monitor();
    monitor.set_timeout(ms(2000));
    let id = told(&mut monitor, Reason::Culled);
    go_to(&mut monitor, 1001);
    assert!(!monitor.set_busy(id));
    for now in (2000..=60_000).step_by(1000) {
        go_to(&mut monitor, now);
        monitor.acknowledge(id);
        monitor.fire_due();
    }
    assert_eq!(asked(&mut monitor), [], "it goes on reporting");
    // Then it is silent; output that the parent has not read gives it once more the timeout.
    monitor.set_unread(id, true);
    assert_eq!(monitor.deadline(), Some(at(64_000)));
    assert_eq!(due_at(&mut monitor, 63_000), []);
    monitor.set_unread(id, false);
    monitor.acknowledge(id);
    // A gap does not count as silence.
    monitor.tick(at(64_000), ms(500));
    expect_kill_at(&mut monitor, id, 65_500);
}

#[test]
fn without_a_timeout_a_culled_busy_child_has_all_the_time_until_the_shutdown() {
    let mut monitor = monitor();
    let id = told(&mut monitor, Reason::Culled);
    monitor.set_busy(id);
    assert_eq!(monitor.deadline(), None);
    assert_eq!(due_at(&mut monitor, 9_000_000), []);
    defaults::handler_shutdown(&mut DefaultHooks, &mut monitor);
    assert_eq!(asked(&mut monitor), [int(id)]);
    expect_kill_at(&mut monitor, id, 9_030_000);
}

#[test]
fn a_child_that_closed_its_outputs_and_lives_on_is_told_then_killed() {
    let mut monitor = monitor();
    let id = child(&mut monitor, State::Busy);
    go_to(&mut monitor, 1000);
    assert!(!monitor.output_ended(id, ChildFlags::STDERR_OPEN));
    assert_eq!(monitor.deadline(), None, "the other is open");
    assert!(
        monitor.output_ended(id, ChildFlags::STDOUT_OPEN),
        "closed, once"
    );
    assert!(!monitor.output_ended(id, ChildFlags::STDOUT_OPEN));
    assert!(!monitor.close(id), "it has been called closed");
    assert_eq!(
        asked(&mut monitor),
        [],
        "one that is exiting needs no signal"
    );
    assert_eq!(monitor.deadline(), Some(at(1100)));
    assert_eq!(due_at(&mut monitor, 1099), []);
    assert_eq!(due_at(&mut monitor, 1100), [int(id)]);
    expect_kill_at(&mut monitor, id, 11_100);
}

#[test]
fn a_closed_child_has_its_time_to_leave_also_when_the_parent_was_late() {
    let mut monitor = monitor();
    let id = child(&mut monitor, State::Free);
    monitor.output_ended(id, ChildFlags::STDERR_OPEN);
    monitor.output_ended(id, ChildFlags::STDOUT_OPEN);
    assert_eq!(due_at(&mut monitor, 50_000), [int(id)]);
    expect_kill_at(&mut monitor, id, 60_000);
}

#[test]
fn with_no_time_to_leave_a_closed_child_is_told_and_killed_at_once() {
    let mut monitor = monitor();
    monitor.set_kill_timeout(Duration::ZERO);
    let id = child(&mut monitor, State::Free);
    monitor.output_ended(id, ChildFlags::STDERR_OPEN);
    monitor.output_ended(id, ChildFlags::STDOUT_OPEN);
    assert_eq!(due_at(&mut monitor, 100), [int(id)]);
    assert_eq!(due_at(&mut monitor, 100), [kill(id)]);
    assert_eq!(monitor.deadline(), None);
}

#[test]
fn a_child_that_was_told_and_then_closes_is_not_told_again() {
    let mut monitor = monitor();
    let id = told(&mut monitor, Reason::Culled);
    go_to(&mut monitor, 5000);
    monitor.output_ended(id, ChildFlags::STDERR_OPEN);
    assert!(monitor.output_ended(id, ChildFlags::STDOUT_OPEN));
    assert_eq!(
        monitor.child(id).and_then(Child::reason),
        Some(Reason::Culled)
    );
    expect_kill_at(&mut monitor, id, 11_000);
}

/// All pairs but one: a shutdown replaces a cull, which has no time limit of its own.
#[test]
fn being_told_twice_never_gives_more_time() {
    let reasons = [
        Reason::Culled,
        Reason::TimedOut,
        Reason::Closed,
        Reason::Faulty,
        Reason::Shutdown,
        Reason::Asked,
    ];
    for first in reasons {
        for second in reasons {
            if (first, second) == (Reason::Culled, Reason::Shutdown) {
                continue;
            }
            let mut monitor = monitor();
            let id = told(&mut monitor, first);
            let before = monitor.deadline().unwrap();
            go_to(&mut monitor, 7000);
            monitor.kill(id, Signal::Interrupt);
            monitor.retire(id, second);
            let after = monitor.deadline().unwrap();
            assert!(after <= before, "{first:?} then {second:?}: {after}");
            let bound = match (first, second) {
                (Reason::Shutdown, Reason::Shutdown) => 31_000,
                (Reason::Shutdown, _) => 17_000,
                _ => 11_000,
            };
            assert_eq!(after, at(bound), "{first:?} then {second:?}");
        }
    }
}

#[test]
fn the_deadline_is_the_first_of_everything_that_is_to_come() {
    let mut monitor = crate::core::testing::sized(1, 2, 5, 50);
    assert_eq!(monitor.deadline(), None);
    let [asked_to_leave, closing, ..] = children(&mut monitor, [State::Free; 5]);
    monitor.retire(asked_to_leave, Reason::Asked);
    monitor.delay_set("own", ms(50));
    monitor.output_ended(closing, ChildFlags::STDERR_OPEN);
    monitor.output_ended(closing, ChildFlags::STDOUT_OPEN);
    assert_eq!(monitor.fork_failed(), ms(100));
    let mut deadlines = Vec::new();
    while let Some(deadline) = monitor.deadline() {
        deadlines.push(deadline);
        monitor.tick(deadline, ms(0));
        monitor.fire_due();
        if deadlines.len() == 2 {
            monitor.delay_set("own", ms(50));
        }
    }
    // Alarm; SIGINT and retry; alarm; surplus; two SIGKILLs.
    assert_eq!(deadlines, [50, 100, 150, 1000, 10_000, 10_100].map(at));
}

/// Five seconds after its SIGKILL, in a shutdown and only there.
#[test]
fn a_child_that_survives_sigkill_is_given_up_in_a_shutdown() {
    let mut monitor = monitor();
    let id = told(&mut monitor, Reason::TimedOut);
    let pid = monitor.child(id).unwrap().pid();
    assert_eq!(due_at(&mut monitor, 11_000), [kill(id)]);
    go_to(&mut monitor, 15_000);
    assert_eq!(monitor.take_unkillable(), []);
    assert_eq!(monitor.last_deadline(), None);
    defaults::handler_shutdown(&mut DefaultHooks, &mut monitor);
    assert_eq!(monitor.take_unkillable(), []);
    assert_eq!(monitor.last_deadline(), Some(at(16_000)));
    go_to(&mut monitor, 16_000);
    assert_eq!(monitor.take_unkillable(), [(id, pid)]);
    assert_eq!(monitor.child(id).map(Child::id), None);
    assert_eq!(monitor.take_unkillable(), [], "once");
}

/// A stop by SIGQUIT waits for its clients, also for one that a cull would have given no more time.
#[test]
fn a_stop_without_a_bound_kills_nobody_until_it_is_given_one() {
    let mut monitor = monitor();
    monitor.set_shutdown_timeout(ms(700));
    let id = told(&mut monitor, Reason::Culled);
    assert_eq!(arrive(&mut monitor, Signal::Quit), StopEffect::Shutdown);
    defaults::handler_shutdown(&mut DefaultHooks, &mut monitor);
    let _ = asked(&mut monitor);
    assert_eq!(monitor.deadline(), None);
    assert_eq!(due_at(&mut monitor, 10_000_000), []);
    assert_eq!(arrive(&mut monitor, Signal::Terminate), StopEffect::Bound);
    monitor.bound_stop();
    expect_kill_at(&mut monitor, id, 10_000_700);
}

/// Nothing is in the hands of a child that has not started.
#[test]
fn a_stop_without_a_bound_waits_for_no_start() {
    let mut monitor = monitor();
    go_to(&mut monitor, 1000);
    let id = child(&mut monitor, State::Starting);
    let _ = arrive(&mut monitor, Signal::Quit);
    defaults::handler_shutdown(&mut DefaultHooks, &mut monitor);
    let _ = asked(&mut monitor);
    expect_kill_at(&mut monitor, id, 2000);
}

/// What a signal makes of the stop.
fn arrive(monitor: &mut Monitor, signal: Signal) -> StopEffect {
    let mut arrived = Arrived::default();
    arrived[index(signal).unwrap()] = 1;
    monitor.act_on_signals(&arrived).0
}

#[test]
fn an_announced_stop_begins_when_its_delay_is_over_whatever_hooks_do_with_alarms() {
    let mut monitor = monitor();
    monitor.set_pre_stop_delay(ms(5000));
    go_to(&mut monitor, 1000);
    assert_eq!(
        arrive(&mut monitor, Signal::Terminate),
        StopEffect::Announce
    );
    monitor.alarm_remove_all();
    assert_eq!(monitor.stop_begins_at(), Some(at(6000)));
    assert_eq!(monitor.deadline(), Some(at(6000)));
    assert_eq!(due_at(&mut monitor, 5999), []);
    assert!(!monitor.is_shutdown());
    assert_eq!(due_at(&mut monitor, 6000), [PlainTask::Shutdown]);
    assert_eq!(monitor.stop_begins_at(), None);
}

#[test]
fn sigttin_and_sigttou_change_max_clients_by_one_each_and_leave_one() {
    let mut monitor = monitor();
    monitor.set_max_clients(3);
    let mut clients = |signals: [u64; 2]| {
        let mut arrived = Arrived::default();
        arrived[index(Signal::BackgroundRead).unwrap()] = signals[0];
        arrived[index(Signal::BackgroundWrite).unwrap()] = signals[1];
        let _ = monitor.act_on_signals(&arrived);
        monitor.max_clients()
    };
    assert_eq!(clients([1, 0]), 4);
    assert_eq!(clients([2, 1]), 5);
    assert_eq!(clients([0, 1]), 4);
    assert_eq!(clients([0, 9]), 1);
    assert_eq!(asked(&mut monitor).last(), Some(&PlainTask::Forkoff));
}

#[test]
fn sigusr1_posts_the_state_whose_default_tells_the_children() {
    let mut monitor = monitor();
    assert_eq!(arrive(&mut monitor, Signal::User1), StopEffect::Nothing);
    assert_eq!(asked(&mut monitor), [PlainTask::ReopenLogs]);
    defaults::reopen_logs(&mut DefaultHooks, &mut monitor);
    assert_eq!(asked(&mut monitor), [PlainTask::ReopenChildren]);
}

#[test]
fn sigusr2_posts_an_upgrade_once_however_often_it_comes() {
    let mut monitor = monitor();
    for _ in 0..3 {
        assert_eq!(arrive(&mut monitor, Signal::User2), StopEffect::Nothing);
    }
    assert_eq!(asked(&mut monitor), [PlainTask::Upgrade]);
}
