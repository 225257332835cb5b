//! A reload of a pool that has as many children as allowed, against a model of what the children do.

use super::*;
use std::collections::BTreeSet;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// Whatever children have in hand in a full pool: no more are missing than may be, but for those that
    /// were not waited for, and all are replaced but those that serve for ever, which are told to stop.
    #[test]
    fn no_child_holds_up_the_others_in_a_full_pool(
        serves in prop::collection::vec(prop::option::weighted(0.7, 0..30_u32), 1..12),
        at_once in 1..4_usize,
    ) {
        let mut full = FullPool::new(&serves, at_once);
        for _ in 0..400 {
            full.step();
            prop_assert!(full.children.len() <= serves.len());
            let may_miss = at_once + full.late.len();
            prop_assert!(full.missing() <= may_miss, "{:?}", full.children);
        }
        let old = full.children.iter().filter(|child| child.is_old);
        let expected = serves.iter().filter(|serves| serves.is_none()).count();
        prop_assert_eq!(old.clone().count(), expected);
        prop_assert!(old.clone().all(|child| child.told.is_some()));
        prop_assert_eq!(full.replacement.is_reloading(), expected == serves.len());
    }
}

/// A child in steps of a tenth of a second.
#[derive(Debug)]
struct Modelled {
    id: ChildId,
    is_old: bool,
    role: Option<SuccessorRole>,
    /// How long it starts.
    starts: u32,
    /// How long it serves each client; 0 if it is idle, `None` for ever.
    serves: Option<u32>,
    /// How long it has what it has in hand.
    left: Option<u32>,
    /// Since when it is told to stop.
    told: Option<u32>,
}

/// A reload of a pool that has as many children as allowed.
struct FullPool {
    replacement: Replacement,
    children: Vec<Modelled>,
    most: usize,
    at_once: usize,
    now: u32,
    serial: u32,
    /// Children that were not waited for, and have ended; their places are not filled.
    late: BTreeSet<ChildId>,
}

impl FullPool {
    fn new(serves: &[Option<u32>], at_once: usize) -> Self {
        let child = |(serves, serial): (&Option<u32>, u32)| Modelled {
            id: id(serial),
            is_old: true,
            role: None,
            starts: 0,
            serves: *serves,
            left: *serves,
            told: None,
        };
        Self {
            replacement: reloading(),
            children: serves.iter().zip(1..).map(child).collect(),
            most: serves.len(),
            at_once,
            now: 0,
            serial: 100,
            late: BTreeSet::new(),
        }
    }

    /// Of a child that was told to stop and has not ended.
    fn is_slow(&self, child: &Modelled) -> bool {
        let patience = PATIENCE.as_millis() as u32 / 100;
        child.told.is_some_and(|told| told + patience <= self.now)
    }

    /// How many places are empty, or have a child that starts or is awaited.
    fn missing(&self) -> usize {
        let awaited = |child: &&Modelled| child.told.is_some() && !self.is_slow(child);
        let starting = |child: &&Modelled| child.starts > 0;
        let missing = self
            .children
            .iter()
            .filter(|it| awaited(it) || starting(it));
        missing.count() + self.most - self.children.len()
    }

    fn step(&mut self) {
        self.now += 1;
        self.live();
        let moves = self.replacement.step(self.pool_view());
        for (id, _) in moves.stop {
            let mut children = self.children.iter_mut();
            let child = children.find(|it| it.id == id).expect("a child");
            child.told = Some(self.now);
        }
        (0..moves.forks).for_each(|_| self.fork());
    }

    /// What children do in a step: a busy pool, in which each has the next client at once.
    fn live(&mut self) {
        for child in &mut self.children {
            if child.starts > 0 {
                child.starts -= 1;
                if child.starts == 0 {
                    self.replacement.started(child.id, child.role);
                    if let Some(SuccessorRole::Refill(filled)) = child.role {
                        self.late.remove(&filled);
                    }
                }
            }
            match child.left {
                Some(0) if child.told.is_none() => child.left = child.serves,
                left => child.left = left.map(|left| left.saturating_sub(1)),
            }
        }
        let all = std::mem::take(&mut self.children);
        let has_ended = |child: &Modelled| child.told.is_some() && child.left == Some(0);
        let (ended, living): (Vec<_>, Vec<_>) = all.into_iter().partition(has_ended);
        self.children = living;
        ended.iter().for_each(|child| self.end(child));
    }

    fn end(&mut self, child: &Modelled) {
        self.replacement.ended(child.id, false);
        if self.is_slow(child) {
            self.late.insert(child.id);
        }
    }

    fn pool_view(&self) -> PoolView {
        let untold = self.children.iter().filter(|child| child.told.is_none());
        let told = self.children.iter().filter(|child| child.told.is_some());
        let candidate = |child: &Modelled| Candidate {
            busy: child.serves != Some(0),
            ..old(child.id.serial())
        };
        let is_new = |child: &&Modelled| !child.is_old && child.starts == 0;
        PoolView {
            candidates: untold
                .clone()
                .filter(|it| it.is_old)
                .map(candidate)
                .collect(),
            starting: untold.clone().filter(|it| it.starts > 0).count(),
            renewed: untold.clone().any(|child| is_new(&child)),
            room: self.most - self.children.len(),
            retiring: told.clone().map(|it| it.id).collect(),
            slow: told.filter(|it| self.is_slow(it)).map(|it| it.id).collect(),
            at_once: self.at_once,
            ..PoolView::default()
        }
    }

    fn fork(&mut self) {
        self.serial += 1;
        self.children.push(Modelled {
            id: id(self.serial),
            is_old: false,
            role: self.replacement.forked(),
            starts: 3,
            serves: Some(1),
            left: Some(1),
            told: None,
        });
    }
}
