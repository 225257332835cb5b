//! All orders in which parent, holder and child act on a record, of a child that is the holder's from
//! its first moment.

use super::{parents::Life, *};

/// A child that is the holder's from its first moment. The kernel notes its pid before it
/// runs, and a parent that is killed in a fork leaves that before it is gone. The holder reaps.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Siblings {
    parent_lives: bool,
    child: Life,
    words: [u64; RECORD_WORDS],
    reaped: bool,
}

impl Siblings {
    pub(super) fn new() -> Self {
        Self {
            parent_lives: true,
            child: Life::Unborn,
            words: JournalRecord::default().words(),
            reaped: false,
        }
    }

    fn record(&self) -> JournalRecord {
        JournalRecord::read(&self.words)
    }

    fn with(self, record: &JournalRecord) -> Self {
        let words = record.words();
        Self { words, ..self }
    }

    fn parents_steps(self) -> Vec<Self> {
        if !self.parent_lives {
            return Vec::new();
        }
        let killed = Self {
            parent_lives: false,
            ..self
        };
        let next = match (self.record().phase, self.child) {
            (LifePhase::Vacant, Life::Unborn) => self.with(&forking()),
            (LifePhase::Forking, _) => {
                let mut next = self;
                next.words[PID_AT] |= u64::from(PID);
                // The parent cannot be killed between the two.
                let child = Life::Serves;
                Self { child, ..next }
            }
            (LifePhase::Ended, _) => self.with(&JournalRecord::default()),
            _ => return vec![killed],
        };
        vec![next, killed]
    }

    fn holders_steps(self) -> Vec<Self> {
        let record = self.record();
        let ending = JournalRecord {
            phase: LifePhase::Ending,
            ..record
        };
        match (self.child, record.phase) {
            (Life::Dead, LifePhase::Lives) => vec![self.with(&ending)],
            (Life::Dead, LifePhase::Ending) => vec![Self {
                reaped: true,
                ..self.with(&record.ended(Collected::default()))
            }],
            _ => Vec::new(),
        }
    }

    fn childs_steps(self) -> Vec<Self> {
        match self.child {
            Life::Serves => vec![Self {
                child: Life::Dead,
                ..self
            }],
            _ => Vec::new(),
        }
    }
}

#[test]
fn a_child_of_the_holder_is_known_from_its_fork_until_its_end_is_told() {
    let mut open = vec![Siblings::new()];
    let mut seen = std::collections::HashSet::new();
    let mut resolved = 0;
    while let Some(world) = open.pop() {
        if !seen.insert(world) {
            continue;
        }
        open.extend(world.parents_steps());
        open.extend(world.holders_steps());
        open.extend(world.childs_steps());
        let exists = world.child != Life::Unborn && !world.reaped;
        let record = world.record();
        if exists && record.phase != LifePhase::Ending {
            assert!(record.lives() && record.pid == PID, "{world:?}");
        }
        // The holder is not reaping when it resolves.
        if !world.parent_lives && record.phase != LifePhase::Ending {
            resolved += 1;
            let found = record.resolve(NotedPid::default(), |pid| pid == PID && exists);
            let expected = match (exists, world.reaped, record.phase) {
                (true, ..) => LifePhase::Lives,
                // Until a parent has told it.
                (false, true, LifePhase::Ended) => LifePhase::Ended,
                _ => LifePhase::Vacant,
            };
            assert_eq!(found.phase, expected, "{world:?}");
        }
    }
    assert!(resolved >= 6, "{resolved} states");
}
