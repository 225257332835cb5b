//! The course of a holder, and every order of its observations.

use super::*;

const GRACE: Duration = Duration::from_secs(10);
const UNSETTLED: HolderSaw = HolderSaw::Ended {
    is_over: false,
    had_settled: false,
    lived: Duration::ZERO,
};

fn saw(machine: &mut HolderMachine, seen: &[HolderSaw]) -> Vec<HolderAction> {
    seen.iter().map(|seen| machine.step(*seen)).collect()
}

fn with_a_parent() -> HolderMachine {
    let mut machine = HolderMachine::new(GRACE);
    let action = machine.step(HolderSaw::Forked);
    assert_eq!(action, HolderAction::AwaitParent);
    machine
}

#[test]
fn without_a_first_parent_there_is_no_server_and_later_it_is_tried_again() {
    let mut machine = HolderMachine::new(GRACE);
    assert_eq!(machine.step(HolderSaw::NotForked), HolderAction::Refuse);
    let mut machine = with_a_parent();
    machine.step(UNSETTLED);
    machine.step(HolderSaw::Waited);
    for _ in 0..100 {
        let pause = machine.step(HolderSaw::NotForked);
        assert!(matches!(pause, HolderAction::Pause(_)), "{pause:?}");
        assert_eq!(machine.step(HolderSaw::Waited), HolderAction::Fork);
    }
}

#[test]
fn it_ends_as_a_parent_that_has_said_goodbye() {
    for had_settled in [false, true] {
        let ended = HolderSaw::Ended {
            is_over: true,
            had_settled,
            lived: Duration::ZERO,
        };
        let mut machine = with_a_parent();
        assert_eq!(machine.step(ended), HolderAction::FollowParent);
    }
}

#[test]
fn when_no_parent_comes_to_work_the_children_are_told_then_killed_then_it_ends() {
    let mut machine = with_a_parent();
    for _ in 0..4 {
        assert!(matches!(machine.step(UNSETTLED), HolderAction::Pause(_)));
        let again = saw(&mut machine, &[HolderSaw::Waited, HolderSaw::Forked]);
        assert_eq!(again, [HolderAction::Fork, HolderAction::AwaitParent]);
    }
    assert_eq!(machine.step(UNSETTLED), HolderAction::StopChildren);
    let end = [
        HolderSaw::Told,
        HolderSaw::Waited,
        HolderSaw::Told,
        HolderSaw::Waited,
        HolderSaw::Told,
    ];
    let expected = [
        HolderAction::AwaitChildren(GRACE),
        HolderAction::KillChildren,
        HolderAction::AwaitChildren(AFTER_KILL),
        HolderAction::GiveUp,
        HolderAction::GiveUp,
    ];
    assert_eq!(saw(&mut machine, &end), expected);
}

/// Every order of seven observations, also of those that answer nothing. There is one parent at a
/// time, children are never killed before they were told to stop and had their time, and who leaves
/// does nothing else.
#[test]
fn every_order_of_observations_keeps_the_rules() {
    const SEEN: [HolderSaw; 7] = [
        HolderSaw::Forked,
        HolderSaw::NotForked,
        UNSETTLED,
        HolderSaw::Ended {
            is_over: false,
            had_settled: true,
            lived: Duration::ZERO,
        },
        HolderSaw::Ended {
            is_over: true,
            had_settled: true,
            lived: Duration::ZERO,
        },
        HolderSaw::Waited,
        HolderSaw::Told,
    ];
    const DEPTH: u32 = 6;
    let all = SEEN.len().pow(DEPTH);
    for (number, is_late) in (0..2 * all).map(|n| (n / 2, n % 2 == 1)) {
        let nth = |place: u32| SEEN[number / SEEN.len().pow(place) % SEEN.len()];
        let mut machine = HolderMachine::new(GRACE);
        // Begin where the next parent that does not settle is the last.
        for _ in 0..if is_late { 4 } else { 0 } {
            let once = [HolderSaw::Forked, UNSETTLED, HolderSaw::Waited];
            saw(&mut machine, &once);
        }
        let mut before = HolderAction::Fork;
        for saw in (0..DEPTH).map(nth) {
            let action = machine.step(saw);
            let lives = before == HolderAction::AwaitParent;
            let ended = matches!(saw, HolderSaw::Ended { .. });
            let forks = action == HolderAction::Fork;
            assert!(!(forks && lives), "{saw:?} after {before:?}");
            let waits = action == HolderAction::AwaitParent;
            assert!(!lives || ended || waits, "{saw:?} after {before:?}");
            if action == HolderAction::KillChildren {
                let had_time = [HolderAction::AwaitChildren(GRACE), action];
                assert!(had_time.contains(&before), "{saw:?} after {before:?}");
            }
            if before == HolderAction::GiveUp || before == HolderAction::FollowParent {
                assert_eq!(action, before);
            }
            before = action;
        }
    }
}

#[test]
fn a_signal_is_counted_for_a_parent_or_sent_to_one() {
    let passing = [false, true].map(|counted| {
        [false, true].map(|over| [false, true].map(|lives| Passing::of(counted, over, lives)))
    });
    use Passing::{Counted, Dropped, Sent};
    let sent = [Dropped, Sent];
    assert_eq!(passing, [[sent, sent], [[Counted, Counted], sent]]);
}
