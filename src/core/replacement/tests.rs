//! The steps of a replacement, one by one and in all small pools; the limits; whose memory is read.

mod full_pool;

use super::{limits::Standing, *};
use crate::core::testing::{at, ms};
use proptest::prelude::*;

fn id(serial: u32) -> ChildId {
    ChildId::new(serial, serial)
}

/// A free child of the first epoch.
fn old(serial: u32) -> Candidate {
    Candidate {
        id: id(serial),
        reason: Reason::Reloaded,
        epoch: 0,
        start_time: at(u64::from(serial)),
        ready: true,
        busy: false,
        refills: false,
    }
}

fn pool(candidates: Vec<Candidate>) -> PoolView {
    PoolView {
        candidates,
        room: 10,
        at_once: 2,
        ..PoolView::default()
    }
}

fn reloading() -> Replacement {
    let mut replacement = Replacement::default();
    replacement.reload(at(0));
    replacement
}

fn stopped(moves: &Moves) -> Vec<u32> {
    moves.stop.iter().map(|(id, _)| id.serial()).collect()
}

#[test]
fn a_child_goes_when_its_successor_is_ready() {
    let mut replacement = reloading();
    let moves = replacement.step(pool(vec![old(1), old(2), old(3)]));
    assert_eq!(
        (stopped(&moves), moves.forks),
        (vec![], 2),
        "at most two at once"
    );
    assert_eq!(replacement.forked(), Some(SuccessorRole::Successor));
    assert_eq!(replacement.forked(), Some(SuccessorRole::Successor));
    assert_eq!(replacement.forked(), None, "a fork of forkoff's");
    let waits = PoolView {
        starting: 2,
        ..pool(vec![old(1), old(2), old(3)])
    };
    assert_eq!(replacement.step(waits), Moves::default());
    replacement.started(id(7), Some(SuccessorRole::Successor));
    let ready = PoolView {
        starting: 1,
        renewed: true,
        ..pool(vec![old(1), old(2), old(3)])
    };
    let moves = replacement.step(ready);
    assert_eq!(stopped(&moves), [1], "the oldest");
    assert_eq!(moves.replaced, [(id(1), id(7))]);
    assert_eq!((moves.forks, moves.reloaded), (1, None));
}

#[test]
fn a_reload_ends_when_no_old_child_is_left_and_a_new_one_is_ready() {
    let mut replacement = reloading();
    let empty = replacement.step(pool(vec![]));
    assert_eq!(empty.reloaded, None, "no new child is ready");
    assert!(replacement.is_reloading());
    replacement.started(id(7), None);
    let moves = replacement.step(PoolView {
        renewed: true,
        ..pool(vec![])
    });
    let reloaded = Reloaded {
        epoch: 1,
        replaced: 0,
        began: at(0),
    };
    assert_eq!(moves.reloaded, Some(reloaded));
    assert!(!replacement.is_reloading());
}

#[test]
fn without_room_a_free_child_goes_first_and_its_place_is_filled() {
    let mut replacement = reloading();
    let busy = Candidate {
        busy: true,
        ..old(1)
    };
    let full = || PoolView {
        room: 0,
        at_once: 1,
        ..pool(vec![busy, old(2)])
    };
    let moves = replacement.step(full());
    assert_eq!((stopped(&moves), moves.forks), (vec![2], 0));
    let leaving = PoolView {
        leaving: 1,
        retiring: vec![id(2)],
        room: 0,
        at_once: 1,
        ..pool(vec![busy])
    };
    assert_eq!(replacement.step(leaving), Moves::default(), "one at a time");
    let moves = replacement.step(PoolView {
        room: 1,
        at_once: 1,
        ..pool(vec![busy])
    });
    assert_eq!((stopped(&moves), moves.forks), (vec![], 1));
    assert_eq!(replacement.forked(), Some(SuccessorRole::Refill(id(2))));
    replacement.started(id(7), Some(SuccessorRole::Refill(id(2))));
    let moves = replacement.step(PoolView {
        room: 0,
        at_once: 1,
        renewed: true,
        ..pool(vec![busy])
    });
    assert_eq!(
        moves.replaced,
        [(id(2), id(7))],
        "told when the successor is ready"
    );
    assert_eq!(stopped(&moves), [1], "the next one goes");
}

/// Their places are not free yet, so no others go first.
#[test]
fn children_that_went_first_and_serve_for_long_are_waited_for() {
    let mut replacement = reloading();
    let busy = |serial| Candidate {
        busy: true,
        ..old(serial)
    };
    let full = PoolView {
        room: 0,
        ..pool(vec![busy(1), busy(2), busy(3)])
    };
    assert_eq!(stopped(&replacement.step(full)), [1, 2]);
    let serving = PoolView {
        room: 0,
        retiring: vec![id(1), id(2)],
        ..pool(vec![busy(3)])
    };
    assert_eq!(replacement.step(serving), Moves::default());
    // A fork of forkoff's has taken the place of one.
    let taken = PoolView {
        room: 0,
        retiring: vec![id(2)],
        ..pool(vec![busy(3)])
    };
    assert_eq!(stopped(&replacement.step(taken)), [3]);
}

/// One long connection is no reason for the others to wait.
#[test]
fn a_child_that_went_first_and_serves_for_long_is_not_waited_for() {
    let mut replacement = reloading();
    let full = |candidates| PoolView {
        room: 0,
        at_once: 1,
        ..pool(candidates)
    };
    let busy = Candidate {
        busy: true,
        ..old(1)
    };
    assert_eq!(stopped(&replacement.step(full(vec![busy]))), [1]);
    let serving = |slow: &[u32]| PoolView {
        retiring: vec![id(1)],
        slow: slow.iter().copied().map(id).collect(),
        ..full(vec![old(2), old(3)])
    };
    assert_eq!(replacement.step(serving(&[])), Moves::default());
    assert_eq!(stopped(&replacement.step(serving(&[1]))), [2]);
    // The place of that one is filled, and not that of the slow one.
    replacement.ended(id(2), false);
    let moves = replacement.step(PoolView {
        room: 1,
        ..serving(&[1])
    });
    assert_eq!((stopped(&moves), moves.forks), (vec![], 1));
    assert_eq!(replacement.forked(), Some(SuccessorRole::Refill(id(2))));
    assert!(replacement.went_first(id(1)));
}

#[test]
fn no_child_goes_first_while_failures_delay_forks() {
    let mut replacement = reloading();
    let full = PoolView {
        room: 0,
        delayed: true,
        ..pool(vec![old(1), old(2)])
    };
    assert_eq!(replacement.step(full), Moves::default());
}

#[test]
fn a_child_that_is_not_ready_needs_no_successor() {
    let mut replacement = reloading();
    let starting = Candidate {
        ready: false,
        ..old(1)
    };
    let moves = replacement.step(pool(vec![starting]));
    assert_eq!((stopped(&moves), moves.forks), (vec![1], 0));
}

#[test]
fn three_failures_in_a_row_end_a_reload_and_the_old_ones_stay() {
    let mut replacement = reloading();
    assert!(!replacement.failed());
    assert!(!replacement.failed());
    replacement.started(id(1), None);
    assert!(!replacement.failed(), "not in a row");
    assert!(!replacement.failed());
    assert!(replacement.failed());
    assert!(!replacement.is_reloading());
    assert_eq!(replacement.epoch(), 2);
    assert_eq!(
        replacement.adopt(0),
        2,
        "an old child is one of the present"
    );
    assert_eq!(
        replacement.adopt(1),
        1,
        "a child of the failed epoch is to be replaced"
    );
    assert!(!replacement.failed(), "no reload is under way");
}

/// A reload during a reload retires the second epoch first.
#[test]
fn limits_come_first_then_the_newest_of_the_old_epochs() {
    let mut replacement = reloading();
    replacement.reload(at(0));
    let second = Candidate { epoch: 1, ..old(2) };
    let limited = Candidate {
        reason: Reason::Recycled,
        epoch: 2,
        ..old(3)
    };
    for serial in 11..14 {
        replacement.started(id(serial), Some(SuccessorRole::Successor));
    }
    let moves = replacement.step(pool(vec![old(1), second, limited]));
    assert_eq!(stopped(&moves), [3, 2, 1]);
}

/// A hook may refuse a fork that was asked for: it is not waited for.
#[test]
fn a_refused_fork_is_asked_for_again_with_the_next_event() {
    let mut replacement = reloading();
    assert_eq!(replacement.step(pool(vec![old(1)])).forks, 1);
    assert!(!replacement.is_due());
    let queued = PoolView {
        queued: 1,
        ..pool(vec![old(1)])
    };
    assert_eq!(
        replacement.step(queued).forks,
        0,
        "it is still in the queue"
    );
    assert_eq!(replacement.step(pool(vec![old(1)])).forks, 1);
}

#[test]
fn a_successor_of_a_child_that_ended_by_itself_is_a_plain_child() {
    let mut replacement = Replacement::default();
    let due = Candidate {
        reason: Reason::Recycled,
        ..old(1)
    };
    assert_eq!(replacement.step(pool(vec![due])).forks, 1);
    assert!(replacement.takes_back_one(1));
    assert!(!replacement.takes_back_one(1));
    assert_eq!(replacement.forked(), None);
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (any::<bool>(), any::<bool>(), any::<bool>(), 0..3_u32);
    prop::collection::vec(one, 0..8).prop_map(|all| {
        let with_serials = all.into_iter().zip(1..);
        let candidate =
            |((ready, busy, limited, epoch), serial): ((bool, bool, bool, u32), u32)| {
                let reason = if limited {
                    Reason::Recycled
                } else {
                    Reason::Reloaded
                };
                Candidate {
                    ready,
                    busy,
                    reason,
                    epoch,
                    ..old(serial)
                }
            };
        with_serials.map(candidate).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// Never more stops of ready children than successors that are ready, except for lack of room;
    /// never more under way than allowed; never more forks than there is room.
    #[test]
    fn a_step_keeps_to_its_bounds(
        candidates in candidates(),
        ready in 0..4_u32,
        starting in 0..4_usize,
        room in 0..3_usize,
        leaving in 0..2_usize,
        at_once in 1..4_usize,
        delayed: bool,
    ) {
        let mut replacement = reloading();
        (0..ready).for_each(|n| replacement.started(id(100 + n), Some(SuccessorRole::Successor)));
        let able = candidates.iter().filter(|old| old.ready).count();
        let all = candidates.len();
        let pool_view = PoolView {
            candidates, starting, room, leaving, at_once, delayed, ..PoolView::default()
        };
        let moves = replacement.step(pool_view);
        let stops = moves.stop.len() - (all - able);
        let exchanged = (ready as usize).min(able);
        prop_assert!(stops >= exchanged);
        let went_first = stops - exchanged;
        prop_assert!(went_first == 0 || (room == 0 && leaving == 0 && !delayed));
        prop_assert!(moves.forks <= room);
        prop_assert!(moves.forks == 0 || !delayed);
        let begun = moves.forks + went_first;
        prop_assert!(begun == 0 || begun + starting <= at_once);
        prop_assert_eq!(moves.replaced.len(), exchanged);
    }

    #[test]
    fn limits_are_spread_below_the_limit(limit in 1..u64::MAX, seed: u32, percent in 0..150_usize) {
        let soft = soft(limit, Spread { percent, seed }).unwrap();
        let span = u128::from(limit) * percent.min(100) as u128 / 100;
        prop_assert!(soft >= 1 && soft <= limit);
        prop_assert!(u128::from(limit - soft) <= span);
        prop_assert!(hard(limit) >= limit);
    }
}

#[test]
fn neighbours_have_limits_of_their_own() {
    let spread = |seed| soft(1000, Spread { percent: 10, seed }).unwrap();
    let softs: std::collections::BTreeSet<_> = (0..1000).map(spread).collect();
    assert!(softs.len() > 90, "{} of 101 are used", softs.len());
    assert_eq!((softs.first(), softs.last()), (Some(&900), Some(&1000)));
    assert_eq!(soft(0, Spread::default()), None, "no limit");
    let exact = |limit| {
        soft(
            limit,
            Spread {
                percent: 0,
                seed: 7,
            },
        )
    };
    assert_eq!((exact(1), exact(25)), (Some(1), Some(25)));
}

#[test]
fn a_child_is_due_at_its_limit_and_stopped_a_tenth_later() {
    let limits = Limits {
        lifetime: ms(1000),
        memory: 1000,
        percent: 0,
    };
    for (now, standing) in [
        (999, Standing::Within),
        (1000, Standing::Due),
        (1099, Standing::Due),
        (1100, Standing::Over),
    ] {
        assert_eq!(limits.age(at(0), 1, at(now)), standing, "at {now} ms");
    }
    for (bytes, standing) in [
        (999, Standing::Within),
        (1000, Standing::Due),
        (1100, Standing::Due),
        (1101, Standing::Over),
    ] {
        assert_eq!(limits.memory(1, bytes), standing, "with {bytes} bytes");
    }
    assert_eq!(
        Limits::default().age(at(0), 1, at(1 << 40)),
        Standing::Within
    );
    assert_eq!(Limits::default().memory(1, u64::MAX), Standing::Within);
}

#[test]
fn each_child_is_looked_at_as_often_as_the_others() {
    let mut watch = MemoryWatch::default();
    let all: Vec<_> = (1..=10).map(id).collect();
    assert_eq!(watch.take_due(all.clone(), at(0)), [], "without a limit");
    watch.set(true, at(0));
    let mut looks = std::collections::BTreeMap::<ChildId, u32>::new();
    let mut now = at(0);
    while now < at(60_000) {
        now = watch.next_at().unwrap();
        let due = watch.take_due(all.clone(), now);
        assert!(due.len() <= 4, "{due:?} in one turn");
        due.into_iter()
            .for_each(|id| *looks.entry(id).or_default() += 1);
    }
    assert_eq!(looks.len(), 10);
    assert!(
        looks.values().all(|looks| (11..=13).contains(looks)),
        "{looks:?}"
    );
    watch.set(false, now);
    assert_eq!(watch.next_at(), None);
}
