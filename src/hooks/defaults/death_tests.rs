//! Ends of children: how they are counted and replaced, and how failed starts and failed forks
//! delay forks.

use super::*;
use crate::{
    core::{
        child::{Cause, ChildFlags, State},
        testing::{
            PlainTask, asked, at, child, children, due_at, ended_by_signal, exit_code, go_to, ms,
            sized, warnings,
        },
    },
    hooks::{DefaultHooks, defaults},
};

fn forkoff(monitor: &mut Monitor) -> Vec<PlainTask> {
    defaults::handler_forkoff(&mut DefaultHooks, monitor);
    asked(monitor)
}

/// A monitor with enough spare children, all old enough to have started.
fn settled() -> (Monitor, [ChildId; 2]) {
    let mut monitor = sized(1, 3, 5, 50);
    let free = children(&mut monitor, [State::Free; 2]);
    go_to(&mut monitor, 5000);
    (monitor, free)
}

#[test]
fn an_unasked_death_is_followed_by_one_fork_even_when_enough_are_free() {
    for (status, cause) in [
        (ended_by_signal(9), Cause::Killed),
        (exit_code(0), Cause::Finished),
        (exit_code(7), Cause::Failed),
        (None, Cause::Lost),
    ] {
        let (mut monitor, [dead, _]) = settled();
        let (record, death) = monitor.exited(dead, status).unwrap();
        assert_eq!((record.id(), death.cause()), (dead, cause));
        assert_eq!(monitor.report().deaths(cause), 1);
        assert_eq!(forkoff(&mut monitor), [PlainTask::ServerFork]);
        assert_eq!(
            forkoff(&mut monitor),
            [PlainTask::ServerFork],
            "owed until there is a newcomer"
        );
        child(&mut monitor, State::Starting);
        assert_eq!(forkoff(&mut monitor), [], "owed once");
        assert!(monitor.exited(dead, status).is_none(), "dead once");
    }
}

#[test]
fn a_queued_fork_pays_for_a_death_and_a_failed_one_does_not() {
    let (mut monitor, [dead, _]) = settled();
    monitor.exited(dead, ended_by_signal(9));
    monitor.post_known(PostedState::Forkoff);
    assert_eq!(monitor.take_plan(), ForkPlan::Fork(1));
    assert!(monitor.fork());
    assert_eq!(monitor.take_plan(), ForkPlan::Steady, "it is on its way");
    asked(&mut monitor);
    let retry_in = monitor.fork_failed();
    assert_eq!(forkoff(&mut monitor), [], "not so soon");
    go_to(&mut monitor, 5000 + retry_in.as_millis() as u64);
    assert_eq!(forkoff(&mut monitor), [PlainTask::ServerFork]);
}

#[test]
fn a_newcomer_since_a_child_closed_its_outputs_replaces_it() {
    for newcomer in [false, true] {
        let (mut monitor, [dying, _]) = settled();
        monitor.output_ended(dying, ChildFlags::STDOUT_OPEN);
        assert!(monitor.output_ended(dying, ChildFlags::STDERR_OPEN));
        if newcomer {
            child(&mut monitor, State::Free);
        }
        asked(&mut monitor);
        let (_, death) = monitor.exited(dying, exit_code(0)).unwrap();
        assert_eq!(death.cause(), Cause::Finished);
        let forks = forkoff(&mut monitor).len();
        assert_eq!(forks, usize::from(!newcomer));
    }
}

/// If many children are killed at once, some are reaped while others have only closed their
/// outputs. The children that replace the former do not replace the latter.
#[test]
fn a_newcomer_in_anothers_place_replaces_nobody_else() {
    let (mut monitor, [dying, dead]) = settled();
    children(&mut monitor, [State::Free; 2]);
    monitor.exited(dead, ended_by_signal(9));
    monitor.output_ended(dying, ChildFlags::STDOUT_OPEN);
    assert!(monitor.output_ended(dying, ChildFlags::STDERR_OPEN));
    assert_eq!(forkoff(&mut monitor), [PlainTask::ServerFork]);
    child(&mut monitor, State::Free);
    assert_eq!(forkoff(&mut monitor), []);
    monitor.exited(dying, ended_by_signal(9));
    assert_eq!(forkoff(&mut monitor), [PlainTask::ServerFork]);
}

#[test]
fn a_death_that_was_asked_for_is_not_replaced_while_enough_are_free() {
    for (reason, cause) in [
        (Some(Reason::Culled), Cause::Culled),
        (Some(Reason::Asked), Cause::Asked),
        (Some(Reason::Closed), Cause::Closed),
        (None, Cause::Asked),
    ] {
        let (mut monitor, [dead, _]) = settled();
        match reason {
            None => monitor.kill(dead, Signal::Interrupt),
            Some(_) => monitor.send(dead, Signal::Interrupt),
        }
        if let Some(reason) = reason {
            monitor.retire(dead, reason);
        }
        asked(&mut monitor);
        let (_, death) = monitor.exited(dead, exit_code(0)).unwrap();
        assert_eq!(death.cause(), cause);
        assert_eq!(forkoff(&mut monitor), [], "{reason:?}");
    }
}

/// A child that a hook kills closes its outputs shortly before it can be reaped, and the loop may
/// see that first: its cause is still `Asked`, and it is not replaced as one that died by itself.
#[test]
fn o16_what_a_hook_has_killed_was_asked_for_though_its_outputs_end_first() {
    let (mut monitor, [dead, _]) = settled();
    monitor.kill(dead, Signal::Kill);
    monitor.output_ended(dead, ChildFlags::STDOUT_OPEN);
    assert!(monitor.output_ended(dead, ChildFlags::STDERR_OPEN));
    let (_, death) = monitor.exited(dead, ended_by_signal(9)).unwrap();
    assert_eq!(death.cause(), Cause::Asked);
}

#[test]
fn a_stuck_child_is_replaced_even_when_enough_are_free() {
    // It may have been woken for a connection before it got stuck.
    for (reason, cause) in [
        (Reason::TimedOut, Cause::TimedOut),
        (Reason::Faulty, Cause::Faulty),
    ] {
        let (mut monitor, [dead, _]) = settled();
        monitor.kill(dead, Signal::Interrupt);
        monitor.retire(dead, reason);
        asked(&mut monitor);
        let (_, death) = monitor.exited(dead, ended_by_signal(9)).unwrap();
        assert_eq!(death.cause(), cause);
        assert_eq!(forkoff(&mut monitor), [PlainTask::ServerFork]);
    }
}

#[test]
fn what_is_owed_waits_for_room_and_a_full_pool_owes_nothing() {
    let mut monitor = sized(1, 3, 5, 4);
    let [a, b, c, _] = children(&mut monitor, [State::Free; 4]);
    go_to(&mut monitor, 5000);
    for dead in [a, b, c] {
        monitor.exited(dead, ended_by_signal(9));
    }
    monitor.set_max_clients(1);
    assert_eq!(forkoff(&mut monitor), [], "no room");
    monitor.set_max_clients(3);
    assert_eq!(forkoff(&mut monitor), [const { PlainTask::ServerFork }; 2]);
    children(&mut monitor, [State::Starting; 2]);
    monitor.set_max_clients(9);
    assert_eq!(forkoff(&mut monitor), [], "the third was not possible");
}

#[test]
fn nothing_is_owed_in_a_shutdown() {
    let (mut monitor, [dead, _]) = settled();
    monitor.exited(dead, ended_by_signal(9));
    defaults::handler_shutdown(&mut DefaultHooks, &mut monitor);
    asked(&mut monitor);
    assert_eq!(forkoff(&mut monitor), []);
}

#[test]
fn a_failed_start_slows_forking_down_and_says_why() {
    let mut monitor = sized(1, 2, 1, 50);
    let mut now = 0;
    // The first failure costs nothing; then 100 ms, doubling.
    for (n, delay) in [0, 100, 200, 400].into_iter().enumerate() {
        let dead = child(&mut monitor, State::Starting);
        if let Some(record) = monitor.pool.get_mut(dead) {
            record.note_stderr(b"no such library");
        }
        now += 5;
        go_to(&mut monitor, now);
        let text = warnings(|| {
            let (_, death) = monitor.exited(dead, exit_code(102)).unwrap();
            assert_eq!(death.cause(), Cause::FailedStart);
        });
        let pid = 1001 + n;
        let wait = ms(delay);
        assert_eq!(
            text,
            [format!(
                "child {pid} failed to start: exit status: 102, last lines \"no such library\"; \
                 next fork in {wait:?}"
            )]
        );
        if delay > 0 {
            assert_eq!(forkoff(&mut monitor), [], "it must wait");
            assert!(!monitor.fork());
            assert_eq!(monitor.deadline(), Some(at(now + delay)));
            assert_eq!(due_at(&mut monitor, now + delay - 1), []);
            assert_eq!(due_at(&mut monitor, now + delay), [PlainTask::Forkoff]);
            now += delay;
        }
        assert_eq!(forkoff(&mut monitor), [PlainTask::ServerFork]);
    }
}

/// It is killed at once, so it ends at the time of its fork.
#[test]
fn a_child_that_cannot_be_watched_has_failed_to_start_once() {
    let mut monitor = sized(1, 2, 1, 50);
    let mut now = 0;
    for delay in [0, 100, 200] {
        let id = child(&mut monitor, State::Starting);
        monitor.note_failing_start(id);
        monitor.kill(id, Signal::Kill);
        monitor.retire(id, Reason::Faulty);
        let text = warnings(|| {
            let (_, death) = monitor.exited(id, ended_by_signal(9)).unwrap();
            assert_eq!(death.cause(), Cause::Faulty);
        });
        let end = format!("next fork in {:?}", ms(delay));
        assert!(text.len() == 1 && text[0].ends_with(&end), "{text:?}");
        now += delay;
        go_to(&mut monitor, now);
    }
}

#[test]
fn an_idle_newcomer_that_is_killed_is_no_failed_start_and_one_that_said_only_ack_is() {
    for (can_serve, cause) in [(true, Cause::Killed), (false, Cause::FailedStart)] {
        let mut monitor = sized(1, 2, 5, 50);
        for now in [1, 2, 3] {
            let newcomer = child(&mut monitor, State::Starting);
            go_to(&mut monitor, now);
            monitor.note_word_heard(newcomer);
            monitor.acknowledge(newcomer);
            if can_serve {
                monitor.set_not_busy(newcomer);
            }
            let (_, death) = monitor.exited(newcomer, ended_by_signal(9)).unwrap();
            assert_eq!(death.cause(), cause);
        }
        assert_eq!(monitor.fork(), can_serve, "{cause:?}");
    }
}

#[test]
fn a_newcomer_that_dies_by_itself_while_it_waits_has_failed_to_start() {
    for status in [exit_code(1), exit_code(0), ended_by_signal(11)] {
        let mut monitor = sized(1, 2, 5, 50);
        let newcomer = child(&mut monitor, State::Starting);
        go_to(&mut monitor, 1);
        monitor.acknowledge(newcomer);
        monitor.set_not_busy(newcomer);
        let (_, death) = monitor.exited(newcomer, status).unwrap();
        assert_eq!(death.cause(), Cause::FailedStart);
    }
}

#[test]
fn several_failures_of_one_wave_count_once() {
    let mut monitor = sized(1, 2, 5, 50);
    let wave = children(&mut monitor, [State::Starting; 5]);
    go_to(&mut monitor, 5);
    let text = warnings(|| {
        for dead in wave {
            monitor.exited(dead, exit_code(1));
        }
    });
    assert_eq!(text.len(), 1);
    assert_eq!(forkoff(&mut monitor), [const { PlainTask::ServerFork }; 5]);
    assert_eq!(monitor.report().deaths(Cause::FailedStart), 5);
}

/// Two waves of failures; the next failure costs 200 ms unless a start has held.
fn failing_twice() -> (Monitor, u64) {
    let mut monitor = sized(1, 2, 1, 50);
    for now in [5, 10] {
        let dead = child(&mut monitor, State::Starting);
        go_to(&mut monitor, now);
        monitor.exited(dead, exit_code(1));
    }
    go_to(&mut monitor, 110);
    monitor.fire_due();
    asked(&mut monitor);
    (monitor, 110)
}

/// The delay that a failed start causes now.
fn cost(monitor: &mut Monitor) -> u64 {
    let now = monitor.now();
    let dead = child(monitor, State::Starting);
    monitor.exited(dead, exit_code(1));
    let free_at = (0..2000).find(|&wait| {
        monitor.tick(now + ms(wait), ms(0));
        monitor.fork()
    });
    free_at.unwrap()
}

#[test]
fn a_start_that_holds_ends_the_backoff() {
    let (mut monitor, _) = failing_twice();
    assert_eq!(cost(&mut monitor), 200, "it is the third");
    // The first BUSY proves the start,
    for (says, costs) in [
        (Monitor::set_busy as fn(&mut Monitor, ChildId) -> bool, 0),
        // a NOT_BUSY does not: a child may die by itself while it waits,
        (Monitor::set_not_busy, 200),
    ] {
        let (mut monitor, now) = failing_twice();
        let good = child(&mut monitor, State::Starting);
        go_to(&mut monitor, now + 1);
        says(&mut monitor, good);
        assert_eq!(cost(&mut monitor), costs);
    }
    // nor does an ACK, after which the child may still be starting.
    let (mut monitor, now) = failing_twice();
    let acked = child(&mut monitor, State::Starting);
    go_to(&mut monitor, now + 1);
    monitor.note_word_heard(acked);
    monitor.acknowledge(acked);
    assert_eq!(cost(&mut monitor), 200);
    // A child that is to be killed because it cannot be watched may still say that it is ready.
    let (mut monitor, now) = failing_twice();
    go_to(&mut monitor, now + 1);
    let unwatched = child(&mut monitor, State::Starting);
    monitor.note_failing_start(unwatched);
    monitor.retire(unwatched, Reason::Faulty);
    for says in [Monitor::set_busy, Monitor::set_not_busy] {
        says(&mut monitor, unwatched);
    }
    go_to(&mut monitor, now + 300);
    assert_eq!(cost(&mut monitor), 400, "the fourth");
    // A second of life proves the start, too, whether it is seen while the child lives
    let (mut monitor, now) = failing_twice();
    child(&mut monitor, State::Starting);
    due_at(&mut monitor, now + 1000);
    assert_eq!(cost(&mut monitor), 0);
    // or when the child ends.
    let (mut monitor, now) = failing_twice();
    let good = child(&mut monitor, State::Starting);
    go_to(&mut monitor, now + 1000);
    monitor.exited(good, exit_code(1));
    assert_eq!(cost(&mut monitor), 0);
    // A shorter life does not.
    let (mut monitor, now) = failing_twice();
    child(&mut monitor, State::Free);
    due_at(&mut monitor, now + 999);
    assert_eq!(cost(&mut monitor), 200);
}

#[test]
fn a_failed_fork_is_tried_again_later() {
    let mut monitor = sized(1, 2, 1, 50);
    assert_eq!(monitor.fork_failed(), ms(100));
    assert_eq!(forkoff(&mut monitor), []);
    assert_eq!(due_at(&mut monitor, 99), []);
    assert_eq!(due_at(&mut monitor, 100), [PlainTask::Forkoff]);
    assert_eq!(forkoff(&mut monitor), [PlainTask::ServerFork]);
    assert_eq!(monitor.fork_failed(), ms(200));
    go_to(&mut monitor, 300);
    child(&mut monitor, State::Starting);
    assert_eq!(monitor.fork_failed(), ms(100), "a success resets it");
}

#[test]
fn forks_that_were_queued_behind_a_failed_one_wait_with_it() {
    let mut monitor = sized(1, 9, 5, 50);
    assert!(monitor.fork() && monitor.fork());
    assert!(monitor.may_fork(0));
    assert_eq!(monitor.fork_failed(), ms(100));
    assert!(!monitor.may_fork(0), "each would lengthen the delay");
    assert_eq!(due_at(&mut monitor, 100).last(), Some(&PlainTask::Forkoff));
    assert!(monitor.may_fork(0));
}

#[test]
fn a_child_that_was_reaped_first_is_closed_then() {
    let (mut monitor, [a, b]) = settled();
    assert!(monitor.close(a), "nobody has been told");
    assert!(!monitor.close(a));
    monitor.exited(b, exit_code(0));
    assert!(!monitor.close(b));
    assert!(!monitor.output_ended(b, ChildFlags::STDOUT_OPEN));
}
