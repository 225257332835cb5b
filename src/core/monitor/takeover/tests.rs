//! A pool whose parent is killed, and what the next one makes of it.

use super::*;
use crate::core::{
    stop::{Manner, StopEffect, StopTerms},
    testing::{
        PlainTask, asked, at, child, due_at, ended_by_signal, exit_code, go_to, int, kill, ms,
        state,
    },
    upgrade::UpgradeNote,
};

const KILL_TIMEOUT: u64 = 10_000;
const SHUTDOWN_TIMEOUT: u64 = 30_000;

fn monitor() -> Monitor {
    let config = Config {
        max_spare_servers: 100,
        pre_stop_delay: Duration::from_secs(1),
        kill_timeout: ms(KILL_TIMEOUT),
        shutdown_timeout: ms(SHUTDOWN_TIMEOUT),
        ..Config::default()
    };
    Monitor::with_attributes(Attributes::from(config))
}

/// A stop that has been asked for is not forgotten with the parent that has received it, and one
/// without a bound gets none.
#[test]
fn a_stop_goes_on_where_it_was() {
    for (manner, is_unbounded) in [(Manner::Bounded, false), (Manner::Unbounded, true)] {
        let terms = StopTerms {
            is_unbounded,
            was_told: false,
        };
        let mut first = monitor();
        assert_eq!(first.pool_note(false, None).stop, StopState::None);
        first.ask_stop(manner);
        assert_eq!(first.take_stop_effect(), StopEffect::Announce);
        let announced = first.pool_note(false, None).stop;
        assert_eq!(announced, StopState::Announced(terms));
        let mut next = monitor();
        next.go_on(announced, &[]);
        assert_eq!(next.take_stop_effect(), StopEffect::Announce);
        assert!(next.stop_begins_at().is_some());
        assert_eq!(next.stop.is_unbounded(), is_unbounded);
        first.begin_shutdown();
        let begun = first.pool_note(false, None).stop;
        assert_eq!(begun, StopState::Begun(terms));
        let mut last = monitor();
        last.go_on(begun, &[]);
        assert!(last.queue.has(&PostedState::Shutdown));
        last.begin_shutdown();
        // The parent before may have forked it, or killed all.
        assert!(!last.may_fork_last());
        assert_eq!(last.stop.is_unbounded(), is_unbounded);
    }
}

/// The next parent, 5 s after the start, with one child that serves, as `before` says of it.
fn next_with(stop: StopState, before: impl Fn(ChildId) -> RetiredBefore) -> (Monitor, ChildId) {
    let mut next = monitor();
    let id = child(&mut next, State::Busy);
    go_to(&mut next, 5_000);
    asked(&mut next);
    next.go_on(stop, &[before(id)]);
    (next, id)
}

fn told_at(ms: u64, reason: Reason) -> impl Fn(ChildId) -> RetiredBefore {
    move |child| RetiredBefore {
        child,
        was_sent: true,
        why: Some(RetirementNote { reason, at: at(ms) }),
    }
}

/// A child that may finish what it has in hand may do so under the next parent, too.
#[test]
fn a_child_that_was_to_be_replaced_finishes_with_its_client() {
    for reason in [Reason::Reloaded, Reason::Recycled, Reason::Culled] {
        let (mut next, id) = next_with(StopState::None, told_at(1_000, reason));
        assert_eq!(
            asked(&mut next),
            [int(id)],
            "it may not have got the signal"
        );
        assert_eq!(state(&next, id), State::Retiring);
        assert_eq!(due_at(&mut next, 1_000_000), [], "{reason:?}");
        let (child, death) = next.exited(id, exit_code(0)).expect("a child");
        assert_eq!(child.reason(), Some(reason));
        assert_eq!(format!("{:?}", death.cause()), format!("{reason:?}"));
    }
}

/// One that has a time to leave has what is left of it.
#[test]
fn a_child_that_was_stuck_is_killed_when_the_parent_before_would_have_killed_it() {
    for reason in [Reason::TimedOut, Reason::Overtime, Reason::Asked] {
        let (mut next, id) = next_with(StopState::None, told_at(1_000, reason));
        assert_eq!(asked(&mut next), [int(id)]);
        assert_eq!(due_at(&mut next, 1_000 + KILL_TIMEOUT - 1), []);
        assert_eq!(due_at(&mut next, 1_000 + KILL_TIMEOUT), [kill(id)]);
    }
}

/// The bound of a stop is that of the stop, from its beginning, and not `kill_timeout`.
#[test]
fn a_child_in_a_stop_has_the_time_of_the_stop() {
    for (is_unbounded, was_told) in [(false, true), (true, false)] {
        let terms = StopTerms {
            is_unbounded,
            was_told,
        };
        let told = told_at(1_000, Reason::Shutdown);
        let (mut next, id) = next_with(StopState::Begun(terms), told);
        assert_eq!(
            asked(&mut next),
            [PlainTask::Shutdown],
            "which tells all children"
        );
        // As the default of the handler does it.
        next.begin_shutdown();
        next.stop(id, Reason::Shutdown);
        assert_eq!(asked(&mut next), [int(id)]);
        let last = 1_000 + SHUTDOWN_TIMEOUT;
        assert_eq!(due_at(&mut next, last - 1), []);
        let expected = if is_unbounded { vec![] } else { vec![kill(id)] };
        assert_eq!(due_at(&mut next, last), expected);
    }
}

/// A hook may signal a child without counting it as retiring.
#[test]
fn a_child_that_a_hook_has_signalled_counts_as_before() {
    let signalled = |child| RetiredBefore {
        child,
        was_sent: true,
        why: None,
    };
    let (mut next, id) = next_with(StopState::None, signalled);
    assert_eq!(asked(&mut next), [int(id)]);
    assert_eq!(state(&next, id), State::Busy);
    assert_eq!(due_at(&mut next, 1_000_000), []);
    let (_, death) = next.exited(id, ended_by_signal(2)).expect("a child");
    assert_eq!(death.cause(), Cause::Asked);
}

/// It may be about to end, so it is told later.
#[test]
fn a_child_that_has_closed_its_outputs_is_told_when_it_would_have_been() {
    let closed = |child| RetiredBefore {
        was_sent: false,
        ..told_at(4_950, Reason::Closed)(child)
    };
    let (mut next, id) = next_with(StopState::None, closed);
    assert_eq!(asked(&mut next), []);
    assert_eq!(due_at(&mut next, 5_050), [int(id)]);
}

/// What is noted of a child is what the next parent is told.
#[test]
fn why_a_child_was_told_is_noted() {
    let mut first = monitor();
    let id = child(&mut first, State::Busy);
    assert_eq!(first.retirement_note(id), None);
    go_to(&mut first, 700);
    first.stop(id, Reason::Reloaded);
    let reloaded = RetirementNote {
        reason: Reason::Reloaded,
        at: at(700),
    };
    assert_eq!(first.retirement_note(id), Some(reloaded));
}

/// The next parent, in the second epoch, with two children of the first.
fn in_a_reload() -> Monitor {
    let mut next = monitor();
    for _ in 0..2 {
        let id = child(&mut next, State::Free);
        next.set_not_busy(id);
    }
    next.replacement.resume(1);
    go_to(&mut next, 5_000);
    asked(&mut next);
    next.go_on(StopState::None, &[]);
    next
}

/// A reload to settings that are bad is given up, and by the next parent as well.
#[test]
fn a_reload_whose_children_fail_is_given_up_by_the_next_parent() {
    let mut next = in_a_reload();
    assert!(next.is_reloading());
    for _ in 0..crate::core::replacement::FAILURES {
        let id = child(&mut next, State::Starting);
        next.exited(id, exit_code(1)).expect("a child");
    }
    let failed = |asked: &PlainTask| matches!(asked, PlainTask::ReloadFailed(_));
    assert!(asked(&mut next).iter().any(failed));
    assert!(!next.is_reloading());
    let epoch = next.replacement.epoch();
    assert!(
        next.children().all(|child| child.epoch() == epoch),
        "they stay"
    );
}

#[test]
fn a_reload_whose_children_work_is_completed_by_the_next_parent() {
    let mut next = in_a_reload();
    for _ in 0..2 {
        assert!(next.replacement_step().reloaded.is_none());
        let id = child(&mut next, State::Free);
        next.set_not_busy(id);
    }
    let reloaded = next
        .replacement_step()
        .reloaded
        .expect("a reload that is complete");
    assert_eq!((reloaded.epoch, reloaded.replaced), (1, 2));
}

/// Otherwise the children that serve, which are those of the program before, would be taken for those of
/// this one.
#[test]
fn the_way_back_goes_on_where_it_was() {
    let mut first = monitor();
    let note = |monitor: &Monitor| monitor.pool_note(false, None).upgrade;
    assert_eq!(note(&first), UpgradeNote::Over);
    let old = child(&mut first, State::Free);
    first.set_not_busy(old);
    first.begin_reload();
    let epoch = first.replacement.epoch();
    first.upgrade.prove(epoch, at(0), Duration::ZERO);
    assert_eq!(note(&first), UpgradeNote::Proving);
    first.give_up_reload();
    first.upgrade.come_back(at(700));
    let left = first.pool_note(false, None);
    assert_eq!(left.upgrade, UpgradeNote::Returning);
    // The next parent begins as the first has: with the memory of the time before the fork.
    let mut next = monitor();
    next.begin_reload();
    next.upgrade.prove(epoch, at(0), Duration::ZERO);
    let old = child(&mut next, State::Free);
    next.set_not_busy(old);
    child(&mut next, State::Starting);
    let on = next.go_on_with_upgrade(left.upgrade, true);
    assert_eq!(on, UpgradeNote::Returning);
    next.replacement.resume(left.epoch);
    next.go_on(StopState::None, &[]);
    assert!(next.upgrade.is_returning() && !next.is_reloading());
    assert_eq!(next.replacement_step().reloaded, None);
}

/// Nothing is proved, and there is no way back, where the program before cannot be executed again: it
/// would be tried at each calm moment.
#[test]
fn an_upgrade_without_a_way_back_is_over() {
    use UpgradeNote::{Over, Proving, Returning};
    for (left, may_return, on) in [
        (Over, true, Over),
        (Over, false, Over),
        (Proving, true, Proving),
        (Proving, false, Over),
        (Returning, true, Returning),
        (Returning, false, Over),
    ] {
        let mut next = monitor();
        next.begin_reload();
        next.upgrade
            .prove(next.replacement.epoch(), at(0), Duration::ZERO);
        assert_eq!(next.go_on_with_upgrade(left, may_return), on, "{left:?}");
        assert_eq!(next.upgrade.note(), on, "{left:?}");
        assert_eq!(next.is_reloading(), on == Proving, "{left:?}");
    }
}

#[test]
fn where_no_older_child_is_left_there_is_no_reload() {
    let mut next = monitor();
    child(&mut next, State::Free);
    next.go_on(StopState::None, &[]);
    assert!(!next.is_reloading());
}

/// A successor has a child told to stop, under whichever parent it becomes ready.
#[test]
fn a_successor_of_the_parent_before_replaces_a_child() {
    for is_ready in [false, true] {
        let mut next = monitor();
        let old = child(&mut next, State::Free);
        next.set_not_busy(old);
        next.replacement.resume(1);
        let new = child(&mut next, State::Free);
        if is_ready {
            next.set_not_busy(new);
        }
        next.succeeds_still(new);
        next.go_on(StopState::None, &[]);
        next.set_not_busy(new);
        let moves = next.replacement_step();
        assert_eq!(moves.replaced, [(old, new)]);
        assert_eq!(moves.forks, 0, "it has its successor");
        assert_eq!(next.replacement.paired(), [new]);
    }
}
