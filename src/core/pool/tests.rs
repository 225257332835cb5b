//! The plan against a simple oracle, the surplus over time, the table of children.

use super::*;
use crate::core::{
    child::ChildFlags,
    config::{Attributes, Config},
    testing::{at, ms},
};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The main decision as the design describes it, one fork at a time.
fn oracle(census: Census, demand: Demand, limits: &Attributes) -> ForkPlan {
    let Census {
        starting,
        free,
        busy,
        reserved,
        retiring,
    } = census;
    // Each successor stands for a child that is counted as well.
    let others = (starting + free + demand.queued).saturating_sub(demand.successors);
    let nobody = others + busy == 0;
    // A fork that is queued may be the reserved child.
    let lacks_reserve = demand.reserve && reserved + demand.queued == 0;
    let all = starting + free + busy + reserved + retiring;
    let mut forks = 0;
    loop {
        let spare = others + forks;
        let wanted = forks < demand.owed
            || (nobody && forks < limits.start_servers.max(limits.min_spare_servers))
            || (!nobody && spare < limits.min_spare_servers);
        if !wanted || all + demand.queued + forks >= limits.max_clients {
            break;
        }
        forks += 1;
    }
    // It is one of the last quarter, and there before the others.
    let is_near = 4 * (starting + free + busy + forks + 1) >= 3 * limits.max_clients;
    if lacks_reserve && is_near && all + demand.queued < limits.max_clients {
        let room = limits.max_clients - all - demand.queued;
        forks = (forks + 1).min(room);
    }
    match (forks, demand.surplus) {
        (0, 0) => ForkPlan::Steady,
        (0, surplus) => ForkPlan::Retire(surplus),
        _ => ForkPlan::Fork(forks),
    }
}

fn limits(min: usize, max: usize, start: usize, clients: usize) -> Attributes {
    Attributes::from(Config {
        min_spare_servers: min,
        max_spare_servers: max,
        start_servers: start,
        max_clients: clients,
        ..Config::default()
    })
}

/// Words are read at once while a fork may depend on them, and within 2 ms while that is near.
#[test]
fn words_pile_up_the_longer_the_less_hangs_on_them() {
    let of = |starting, free, busy, (min, clients)| {
        let census = Census {
            starting,
            free,
            busy,
            ..Census::default()
        };
        word_batch(census, &limits(min, min + 1, 5, clients)).map(|batch| batch.as_millis())
    };
    let some = (2, 50);
    assert_eq!(of(1, 40, 0, some), None, "a child is starting");
    assert_eq!(of(0, 1, 9, some), None, "a fork is due");
    assert_eq!(
        of(0, 2, 9, some),
        Some(2),
        "the next one that is busy is one too many"
    );
    assert_eq!(of(0, 9, 9, some), Some(2));
    assert_eq!(
        of(0, 10, 9, some),
        Some(10),
        "many may become busy before a fork is due"
    );
    assert_eq!(of(0, 3, 47, some), Some(20), "there can be no fork");
    assert_eq!(of(0, 1, 49, some), None, "fewer than there should be");
}

/// What must never happen, whatever the numbers are.
fn check_bounds(census: Census, demand: Demand, limits: &Attributes, plan: ForkPlan) {
    let processes = census.live() + demand.queued;
    if let ForkPlan::Fork(forks) = plan {
        assert!(forks > 0);
        assert!(
            forks + processes <= limits.max_clients,
            "{forks} more forks than allowed for {census:?} {demand:?} {limits:?}"
        );
    }
}

#[test]
fn every_small_plan_is_the_oracles() {
    let mut configurations = BTreeSet::new();
    let mut cases = 0_u32;
    for n in 0..5_usize.pow(4) {
        let [min, max, start, clients] = [n % 5, n / 5 % 5, n / 25 % 5, n / 125];
        let limits = limits(min, max, start, clients);
        let key = (
            limits.min_spare_servers,
            limits.max_spare_servers,
            limits.start_servers,
            limits.max_clients,
        );
        if !configurations.insert(key) {
            continue;
        }
        for n in 0..5_usize.pow(5) {
            let census = Census {
                starting: n % 5,
                free: n / 5 % 5,
                busy: n / 25 % 5,
                reserved: 0,
                retiring: n / 125 % 5,
            };
            for rest in 0..90 {
                let demand = Demand {
                    queued: n / 625,
                    owed: rest % 3,
                    surplus: rest / 3 % 5,
                    successors: rest / 15 % 3,
                    reserve: rest / 45 == 1,
                };
                let plan = plan(census, demand, &limits);
                if plan != oracle(census, demand, &limits) {
                    panic!("{plan:?} for {census:?} {demand:?} {limits:?}");
                }
                check_bounds(census, demand, &limits, plan);
                cases += 1;
            }
        }
    }
    assert_eq!(configurations.len(), 105);
    assert_eq!(cases, 105 * 3125 * 90);
}

/// Numbers of all sizes, many of them small and many close to each other.
fn number() -> impl Strategy<Value = usize> {
    prop_oneof![0..6_usize, 0..3000_usize, Just(1000), 990..1010_usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn large_plans_are_the_oracles(
        counts in prop::array::uniform4(number()),
        demand in prop::array::uniform4(number()),
        given in prop::array::uniform4(number()),
        reserved in 0..2_usize,
        reserve: bool,
    ) {
        let [starting, free, busy, retiring] = counts;
        let [queued, owed, surplus, successors] = demand;
        let census = Census { starting, free, busy, reserved, retiring };
        let demand = Demand { queued, owed, surplus, successors, reserve };
        let limits = limits(given[0], given[1], given[2], given[3]);
        let plan = plan(census, demand, &limits);
        prop_assert_eq!(plan, oracle(census, demand, &limits));
        check_bounds(census, demand, &limits, plan);
    }

    /// The surplus against its definition: the n-th child too many has lasted for as long as there
    /// have been at least n without a break.
    #[test]
    fn a_surplus_is_what_was_there_all_the_time(
        seen in prop::collection::vec((0..6_usize, 0..400_u64), 1..30),
        cull_after in 0..1500_u64,
        later in 0..600_u64,
    ) {
        let mut surplus = Surplus::default();
        let mut now = 0;
        let mut history = Vec::new();
        for (count, wait) in seen {
            now += wait;
            surplus.observe(count, at(now));
            history.push((now, count));
        }
        now += later;
        let lasted = (1..=6_usize)
            .filter(|&n| {
                let unbroken = history.iter().rev().take_while(|&&(_, count)| count >= n);
                unbroken.last().is_some_and(|&(since, _)| since + cull_after <= now)
            })
            .count();
        prop_assert_eq!(surplus.lasted(ms(cull_after), at(now)), lasted);
    }
}

#[test]
fn nothing_is_forked_past_the_limit_however_it_is_owed() {
    let census = Census {
        free: 1,
        busy: 1,
        retiring: 1,
        ..Census::default()
    };
    let demand = Demand {
        owed: 2,
        ..Demand::default()
    };
    assert_eq!(plan(census, demand, &limits(1, 2, 1, 4)), ForkPlan::Fork(1));
    assert_eq!(plan(census, demand, &limits(1, 2, 1, 3)), ForkPlan::Steady);
    // A limit that was lowered below the number of children.
    assert_eq!(plan(census, demand, &limits(1, 2, 1, 2)), ForkPlan::Steady);
}

/// No child but the reserved one gets the last place, and it is there before the pool is full.
#[test]
fn the_last_place_is_the_reserved_childs() {
    let demand = Demand {
        owed: 9,
        reserve: true,
        ..Demand::default()
    };
    let limits = limits(1, 9, 1, 8);
    let census = |busy, reserved| Census {
        busy,
        reserved,
        ..Census::default()
    };
    let forks = |busy, reserved| plan(census(busy, reserved), demand, &limits);
    assert_eq!(
        (forks(5, 0), forks(5, 1)),
        (ForkPlan::Fork(3), ForkPlan::Fork(2))
    );
    assert_eq!(
        (forks(7, 0), forks(7, 1)),
        (ForkPlan::Fork(1), ForkPlan::Steady)
    );
    assert_eq!(forks(8, 0), ForkPlan::Steady, "it was asked for too late");
    let is_due = [4, 5, 7].map(|busy| is_reserve_due(census(busy, 0), &limits));
    assert_eq!(is_due, [false, true, true]);
    assert!(!is_reserve_due(census(7, 1), &limits), "there is one");
    let leaving = Census {
        retiring: 5,
        ..census(2, 0)
    };
    assert!(!is_reserve_due(leaving, &limits), "the pool gets smaller");
    assert_eq!(
        plan(leaving, Demand { owed: 1, ..demand }, &limits),
        ForkPlan::Fork(1)
    );
    let is_idle = [3, 4].map(|busy| is_reserve_idle(census(busy, 1), &limits));
    assert_eq!(is_idle, [true, false]);
}

#[test]
fn a_lasting_surplus_is_announced_once() {
    let mut surplus = Surplus::default();
    surplus.observe(2, at(0));
    assert_eq!(surplus.next(ms(1000)), Some(at(1000)));
    assert!(!surplus.take_due(ms(1000), at(999)));
    assert!(surplus.take_due(ms(1000), at(1000)));
    assert!(!surplus.take_due(ms(1000), at(1000)));
    assert_eq!(surplus.next(ms(1000)), None, "nobody is asked without end");
    assert_eq!(surplus.lasted(ms(1000), at(1000)), 2, "it is still there");
    // One more child too many is announced separately, like a surplus after a dip.
    surplus.observe(3, at(1500));
    assert_eq!(surplus.next(ms(1000)), Some(at(2500)));
    surplus.observe(1, at(1600));
    surplus.observe(2, at(1700));
    assert_eq!(surplus.next(ms(1000)), Some(at(2700)));
    assert_eq!(surplus.lasted(ms(1000), at(1700)), 1);
}

#[test]
fn what_was_culled_is_forgotten_the_longest_lasting_first() {
    let mut surplus = Surplus::default();
    surplus.observe(1, at(0));
    surplus.observe(3, at(500));
    assert!(surplus.take_due(ms(1000), at(1000)));
    surplus.culled(1);
    surplus.observe(2, at(1000));
    assert_eq!(surplus.lasted(ms(1000), at(1000)), 0);
    assert_eq!(surplus.next(ms(1000)), Some(at(1500)));
    surplus.culled(9);
    assert_eq!(surplus.lasted(ms(1000), at(9999)), 0);
}

/// The count of forks, which is a part of each child's name, goes on from zero, and names of
/// before and after stay apart.
#[test]
fn m03_after_the_last_serial_comes_the_first() {
    let mut pool = Pool {
        serial: u32::MAX - 1,
        ..Pool::default()
    };
    let mut born = || pool.insert(7, Time::START, Duration::ZERO, None);
    let names = [born(), born(), born()];
    assert_eq!(names.map(ChildId::serial), [u32::MAX, 0, 1]);
    for name in names {
        assert_eq!(pool.get(name).map(|child| child.id), Some(name));
    }
    pool.remove(names[0]);
    let reborn = pool.insert(8, Time::START, Duration::ZERO, None);
    assert_eq!(reborn.slot(), names[0].slot());
    assert!(pool.get(names[0]).is_none(), "a stranger in the same slot");
    assert_eq!(pool.len(), 3);
}

/// A child's name is a slot and a serial: a name that is kept too long finds nothing, and never the
/// other child that has the slot now.
#[test]
fn c16_a_stale_name_finds_nothing() {
    let mut pool = Pool::default();
    let first = pool.insert(10, at(0), ms(0), None);
    assert_eq!(pool.remove(first).map(|child| child.pid), Some(10));
    let second = pool.insert(11, at(0), ms(0), None);
    assert_eq!(second.slot(), first.slot(), "the slot is used again");
    assert_ne!(second, first);
    assert!(pool.get(first).is_none() && pool.get_mut(first).is_none());
    assert!(pool.remove(first).is_none());
    pool.set_state(first, State::Busy);
    assert_eq!(pool.census().starting, 1);
    assert_eq!(pool.get(second).map(|child| child.pid), Some(11));
}

#[test]
fn the_oldest_are_taken_first_and_ties_by_name() {
    let mut pool = Pool::default();
    let ids: Vec<_> = [30, 10, 10, 20, 5, 40]
        .into_iter()
        .map(|born| pool.insert(1, at(born), ms(0), None))
        .collect();
    // The fourth has not said a word, the fifth is busy.
    for (n, state) in [
        (0, State::Free),
        (1, State::Free),
        (2, State::Free),
        (4, State::Busy),
        (5, State::Free),
    ] {
        pool.set_state(ids[n], state);
    }
    assert_eq!(pool.oldest_free(0), []);
    assert_eq!(pool.oldest_free(3), [ids[1], ids[2], ids[0]]);
    assert_eq!(pool.oldest_free(99), [ids[1], ids[2], ids[0], ids[5]]);
    // A slot that is used again has the later name.
    let reused = ids[1];
    assert!(pool.remove(reused).is_some());
    let newest = pool.insert(1, at(10), ms(0), None);
    assert_eq!(newest.slot(), reused.slot());
    pool.set_state(newest, State::Free);
    assert_eq!(pool.oldest_free(2), [ids[2], newest]);
}

#[test]
fn overdue_is_longer_than_the_timeout_and_says_who_is_busy() {
    let mut pool = Pool::default();
    let ids: Vec<_> = (0..5).map(|_| pool.insert(1, at(0), ms(0), None)).collect();
    pool.set_state(ids[1], State::Free);
    pool.set_state(ids[2], State::Busy);
    pool.set_state(ids[3], State::Retiring);
    pool.get_mut(ids[4]).unwrap().flags |= ChildFlags::UNREAD;
    let overdue = |pool: &Pool, now, gaps| pool.overdue(ms(1000), at(now), ms(gaps));
    assert_eq!(overdue(&pool, 1000, 0), (vec![], vec![]));
    assert_eq!(
        overdue(&pool, 1001, 0),
        (vec![ids[0], ids[1]], vec![ids[2]])
    );
    assert_eq!(overdue(&pool, 1500, 500), (vec![], vec![]));
    assert_eq!(overdue(&pool, 1501, 500).1, [ids[2]]);
    // What a child says and was not read yet may still be on its way.
    assert!(!overdue(&pool, 2000, 0).0.contains(&ids[4]));
    assert!(overdue(&pool, 2001, 0).0.contains(&ids[4]));
}
