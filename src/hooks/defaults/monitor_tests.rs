//! The surplus and its culling, gaps in which the parent did not run, the accessors.

use super::*;
use crate::{
    core::{
        child::{ChildFlags, State},
        testing::{
            PlainTask, asked, at, child, children, due_at, go_to, int, monitor, ms, sized, state,
        },
        time::Time,
    },
    hooks::{DefaultHooks, defaults},
};
use proptest::prelude::*;

fn forkoff(monitor: &mut Monitor) -> Vec<PlainTask> {
    defaults::handler_forkoff(&mut DefaultHooks, monitor);
    asked(monitor)
}

#[test]
fn a_surplus_must_last_before_the_oldest_of_it_are_culled() {
    let mut monitor = sized(1, 2, 5, 50);
    let mut free = Vec::new();
    for born in [30, 10, 20, 10] {
        go_to(&mut monitor, born);
        free.push(child(&mut monitor, State::Free));
    }
    // A clock never goes back: all but the first were forked at 30, so the smaller name counts as
    // older.
    assert_eq!(monitor.deadline(), Some(at(1030)));
    assert_eq!(forkoff(&mut monitor), []);
    assert_eq!(due_at(&mut monitor, 1029), []);
    assert_eq!(due_at(&mut monitor, 1030), [PlainTask::Forkoff]);
    assert_eq!(forkoff(&mut monitor), [int(free[0]), int(free[1])]);
    for (n, &id) in free.iter().enumerate() {
        let expected = if n < 2 { State::Retiring } else { State::Free };
        assert_eq!(state(&monitor, id), expected);
    }
    let reason = monitor.child(free[0]).and_then(Child::reason);
    assert_eq!(reason, Some(Reason::Culled));
    assert_eq!(forkoff(&mut monitor), [], "nobody is told twice");
}

#[test]
fn the_oldest_is_culled_first() {
    let mut monitor = sized(1, 2, 5, 50);
    go_to(&mut monitor, 10);
    let old = child(&mut monitor, State::Busy);
    go_to(&mut monitor, 20);
    children(&mut monitor, [State::Free; 2]);
    assert_eq!(monitor.deadline(), None);
    go_to(&mut monitor, 900);
    assert!(monitor.set_not_busy(old));
    assert_eq!(due_at(&mut monitor, 1900), [PlainTask::Forkoff]);
    assert_eq!(forkoff(&mut monitor), [int(old)]);
}

#[test]
fn a_starting_child_is_no_surplus_and_is_never_culled() {
    let mut monitor = sized(1, 2, 5, 50);
    let starting = children(&mut monitor, [State::Starting; 9]);
    let free = children(&mut monitor, [State::Free; 2]);
    assert_eq!(monitor.deadline(), None);
    let third = child(&mut monitor, State::Free);
    assert_eq!(due_at(&mut monitor, 1000), [PlainTask::Forkoff]);
    assert_eq!(forkoff(&mut monitor), [int(free[0])]);
    assert_eq!(state(&monitor, third), State::Free);
    for child in starting {
        assert_eq!(state(&monitor, child), State::Starting);
    }
    // The first word makes one of them spare, which is one too many.
    go_to(&mut monitor, 2000);
    monitor.note_word_heard(starting[0]);
    assert_eq!(monitor.deadline(), Some(at(3000)));
}

#[test]
fn a_dip_resets_the_part_that_dipped() {
    let mut monitor = sized(1, 2, 5, 50);
    let free = children(&mut monitor, [State::Free; 4]);
    go_to(&mut monitor, 600);
    monitor.set_busy(free[3]);
    go_to(&mut monitor, 700);
    monitor.set_not_busy(free[3]);
    assert_eq!(due_at(&mut monitor, 1000), [PlainTask::Forkoff]);
    assert_eq!(
        forkoff(&mut monitor),
        [int(free[0])],
        "one was there all the time"
    );
    assert_eq!(monitor.deadline(), Some(at(1700)));
    assert_eq!(due_at(&mut monitor, 1699), []);
    assert_eq!(due_at(&mut monitor, 1700), [PlainTask::Forkoff]);
    assert_eq!(forkoff(&mut monitor), [int(free[1])]);
    assert_eq!(due_at(&mut monitor, 9000), []);
}

#[test]
fn with_cull_after_zero_a_surplus_is_culled_at_once() {
    let mut monitor = sized(1, 2, 5, 50);
    monitor.set_cull_after(Duration::ZERO);
    let free = children(&mut monitor, [State::Free; 4]);
    assert_eq!(forkoff(&mut monitor), [int(free[0]), int(free[1])]);
    let more = child(&mut monitor, State::Free);
    assert_eq!(monitor.deadline(), Some(at(0)));
    assert_eq!(due_at(&mut monitor, 0), [PlainTask::Forkoff]);
    assert_eq!(forkoff(&mut monitor), [int(free[2])]);
    assert_eq!(state(&monitor, more), State::Free);
}

#[test]
fn an_override_that_does_not_cull_is_not_asked_without_end() {
    let mut monitor = sized(1, 2, 5, 50);
    children(&mut monitor, [State::Free; 3]);
    assert_eq!(due_at(&mut monitor, 1000), [PlainTask::Forkoff]);
    assert_eq!(monitor.deadline(), None);
    assert_eq!(due_at(&mut monitor, 60_000), []);
    // A second call returns the same plan: the surplus is still there.
    assert_eq!(forkoff(&mut monitor).len(), 1);
}

#[test]
fn limits_that_change_make_a_surplus_or_end_it() {
    let mut monitor = sized(1, 5, 5, 50);
    let free = children(&mut monitor, [State::Free; 4]);
    assert_eq!(monitor.deadline(), None);
    go_to(&mut monitor, 100);
    monitor.set_max_spare_servers(2);
    assert_eq!(monitor.deadline(), Some(at(1100)));
    monitor.set_max_spare_servers(3);
    assert_eq!(due_at(&mut monitor, 1100), [PlainTask::Forkoff]);
    assert_eq!(forkoff(&mut monitor), [int(free[0])]);
    monitor.set_max_spare_servers(2);
    monitor.set_max_spare_servers(9);
    assert_eq!(monitor.deadline(), Some(at(11_100)), "only the escalation");
}

/// Free children are told to stop until at most `max_clients` are left; a busy child first finishes
/// its connection. No child is killed for it.
#[test]
fn m02_with_max_clients_lowered_the_free_are_told_and_the_busy_finish() {
    let mut monitor = sized(1, 50, 5, 50);
    let busy = children(&mut monitor, [State::Busy; 3]);
    let free = children(&mut monitor, [State::Free; 2]);
    go_to(&mut monitor, 100);
    monitor.set_max_clients(2);
    assert_eq!(due_at(&mut monitor, 1100), [PlainTask::Forkoff]);
    assert_eq!(forkoff(&mut monitor), free.map(int));
    monitor.set_not_busy(busy[0]);
    assert_eq!(due_at(&mut monitor, 2100), [PlainTask::Forkoff]);
    assert_eq!(forkoff(&mut monitor), [int(busy[0])]);
    // Two are left, as many as are allowed; one becomes free and stays.
    monitor.set_not_busy(busy[1]);
    assert_eq!(due_at(&mut monitor, 9000), []);
    assert_eq!(forkoff(&mut monitor), []);
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(Duration::MAX),
        Just(Duration::from_millis(u64::MAX)),
        any::<u64>().prop_map(Duration::from_nanos),
        any::<u64>().prop_map(Duration::from_secs),
    ]
}

proptest! {
    /// The core's `Time` saturates, so no duration of an attribute, however long, makes a sum
    /// overflow: it is a time that never comes.
    #[test]
    fn h04_no_duration_of_an_attribute_overflows(
        durations in prop::array::uniform4(any_duration()),
        check in prop::option::of(any_duration()),
        now in any_duration(),
    ) {
        let mut monitor = sized(1, 2, 2, 9);
        let [timeout, kill, shutdown, cull] = durations;
        monitor.set_timeout(timeout);
        monitor.set_kill_timeout(kill);
        monitor.set_shutdown_timeout(shutdown);
        monitor.set_cull_after(cull);
        monitor.set_server_check_ack(check);
        monitor.arm_timeout_check();
        let [told, closed, ..] = children(&mut monitor, [State::Free; 5]);
        monitor.retire(told, Reason::TimedOut);
        monitor.retire(closed, Reason::Closed);
        for gap in [Duration::ZERO, now] {
            monitor.tick(Time::at(now), gap);
            monitor.fire_due();
            defaults::handler_server_timeout_check(&mut DefaultHooks, &mut monitor);
            forkoff(&mut monitor);
        }
        defaults::handler_shutdown(&mut DefaultHooks, &mut monitor);
        monitor.fire_due();
        let is_killed = |child: &Child| child.flags.contains(ChildFlags::KILL_SENT);
        let bounded = monitor.deadline().is_some() || monitor.children().all(is_killed);
        prop_assert!(bounded, "nobody lives for ever");
    }
}

#[test]
fn setting_an_attribute_normalises_again() {
    let mut monitor = sized(1, 2, 5, 50);
    monitor.set_min_spare_servers(7);
    assert_eq!(
        (monitor.min_spare_servers(), monitor.max_spare_servers()),
        (7, 8)
    );
    monitor.set_max_clients(3);
    assert_eq!(monitor.start_servers(), 3);
    monitor.set_max_clients(0);
    assert_eq!(monitor.max_clients(), 50);
}

#[test]
fn every_child_is_in_one_list() {
    let mut monitor = monitor();
    let states = [State::Starting, State::Free, State::Busy, State::Retiring];
    let [starting, free, busy, retiring] = children(&mut monitor, states);
    fn ids<'a>(children: impl Iterator<Item = &'a Child>) -> Vec<ChildId> {
        children.map(Child::id).collect()
    }
    assert_eq!(ids(monitor.free_servers()), [starting, free]);
    assert_eq!(ids(monitor.busy_servers()), [busy]);
    assert_eq!(ids(monitor.retiring_servers()), [retiring]);
    assert_eq!(ids(monitor.children()), [starting, free, busy, retiring]);
    let pids: Vec<_> = monitor.wheel_id_to_pid().collect();
    let expected = [
        (starting, 1001),
        (free, 1002),
        (busy, 1003),
        (retiring, 1004),
    ];
    assert_eq!(pids, expected);
    assert_eq!(monitor.child_by_pid(1003).map(Child::id), Some(busy));
    assert!(monitor.child_by_pid(9).is_none());
    monitor.exited(busy, None);
    assert!(monitor.child_by_pid(1003).is_none() && monitor.child(busy).is_none());
}

#[test]
fn words_of_a_retiring_child_move_it_nowhere() {
    let mut monitor = monitor();
    for was in [State::Starting, State::Free, State::Busy] {
        let id = child(&mut monitor, was);
        monitor.retire(id, Reason::Asked);
        monitor.note_word_heard(id);
        assert!(!monitor.set_busy(id));
        assert!(!monitor.set_not_busy(id));
        assert!(monitor.acknowledge(id), "it is alive all the same");
        assert_eq!(state(&monitor, id), State::Retiring);
    }
    assert_eq!(asked(&mut monitor), []);
}

/// A gap in which the parent did not run does not count as silence of the children that existed
/// then.
#[test]
fn h02_a_gap_in_which_the_parent_did_not_run_is_nobodys_silence() {
    // Without the gaps in `Child::silence` both would be overdue at once.
    let mut monitor = monitor();
    monitor.set_timeout(ms(1000));
    let [before, after] = children(&mut monitor, [State::Free, State::Busy]);
    go_to(&mut monitor, 900);
    monitor.tick(at(60_900), ms(60_000));
    assert_eq!(monitor.overdue(), (vec![], vec![]));
    monitor.acknowledge(after);
    monitor.tick(at(61_000), ms(0));
    assert_eq!(monitor.overdue(), (vec![], vec![]));
    monitor.tick(at(61_001), ms(0));
    assert_eq!(monitor.overdue(), (vec![before], vec![]));
    // A gap before the other child's last ACK does not count for it.
    monitor.tick(at(61_900), ms(0));
    assert_eq!(monitor.overdue().1, []);
    monitor.tick(at(61_901), ms(0));
    assert_eq!(monitor.overdue().1, [after]);
    // A gap before a child's fork does not count for it.
    let young = child(&mut monitor, State::Starting);
    monitor.tick(at(62_901), ms(0));
    assert!(!monitor.overdue().0.contains(&young));
    monitor.tick(at(62_902), ms(0));
    assert!(monitor.overdue().0.contains(&young));
}

/// If the monotonic clock goes back, the monitor's time does not change.
#[test]
fn h01_the_time_never_goes_back() {
    let mut monitor = monitor();
    go_to(&mut monitor, 500);
    go_to(&mut monitor, 400);
    assert_eq!(monitor.now(), at(500));
}

#[test]
fn any_signal_can_be_sent_and_only_the_ending_ones_are_noted() {
    let mut monitor = monitor();
    let id = child(&mut monitor, State::Free);
    for signal in [Signal::Hangup, Signal::User1, Signal::Terminate] {
        monitor.kill(id, signal);
        assert_eq!(asked(&mut monitor), [PlainTask::Signal(id, signal)]);
    }
    let told = ChildFlags::INT_SENT | ChildFlags::KILL_SENT;
    assert!(!monitor.child(id).unwrap().flags.intersects(told));
    monitor.kill(id, Signal::Kill);
    assert!(
        monitor
            .child(id)
            .unwrap()
            .flags
            .contains(ChildFlags::KILL_SENT)
    );
    assert_eq!(state(&monitor, id), State::Free, "it sends and no more");
}

/// A timer that is set between two turns counts from that time. Silence is judged up to the last
/// turn, since no child was heard after it, and a pause of the loop still counts as a pause.
#[test]
fn between_two_turns_time_goes_on_and_nobody_is_judged_by_it() {
    let mut monitor = monitor();
    monitor.set_timeout(ms(1000));
    let silent = child(&mut monitor, State::Busy);
    go_to(&mut monitor, 900);
    monitor.is_now(at(8000));
    assert_eq!(monitor.now(), at(8000));
    assert_eq!(monitor.overdue(), (vec![], vec![]));
    monitor.delay_set("own", ms(500));
    assert_eq!(monitor.deadline(), Some(at(8500)));
    monitor.retire(silent, Reason::Asked);
    let told = monitor.child(silent).unwrap();
    let kill = (at(18_000), Signal::Kill);
    assert_eq!(monitor.next_signal(told), Some(kill));
    monitor.is_now(at(7000));
    assert_eq!(monitor.now(), at(8000), "it never goes back");
    monitor.tick(at(8001), Duration::ZERO);
    assert!(monitor.puts_off_timeout_check());
}
