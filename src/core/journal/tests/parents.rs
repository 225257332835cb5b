//! All orders in which parents and children act on a record, with a parent killed at each step.

use super::*;

/// Two parents in a row with a child each, in one slot, and the holder: all that happens from the record
/// of the first fork to the end of the second parent. A step is done by one of them.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct JournalWorld {
    /// Which of the parents is the last one. The second comes only if the first has left no child.
    parent: usize,
    step: JournalStep,
    parent_lives: bool,
    children: [Life; 2],
    note: NotedPid,
    record: u64,
    reaped: bool,
}

/// What the last parent has done.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
enum JournalStep {
    #[default]
    Nothing,
    Recorded,
    Forked,
    Entered,
    Reaped,
    Forgotten,
}

/// What a child has done.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) enum Life {
    #[default]
    Unborn,
    Born,
    Noted,
    /// It has seen that its parent lives.
    Serves,
    Dead,
}

/// The pid of the child of each parent.
const PIDS: [u32; 2] = [PID, PID + 1];

fn serial_of(parent: usize) -> u32 {
    ID.serial() + u32::try_from(parent).unwrap()
}

impl JournalWorld {
    pub(super) fn phase(self) -> LifePhase {
        LifePhase::read(self.record)
    }

    /// The child of the last parent.
    pub(super) fn child(self) -> Life {
        self.children[self.parent]
    }

    pub(super) fn with(self, step: JournalStep, phase: LifePhase) -> Self {
        Self {
            step,
            record: phase as u64,
            ..self
        }
    }

    fn with_child(mut self, child: usize, life: Life) -> Self {
        self.children[child] = life;
        self
    }

    /// All that may happen next by the last parent while it lives, and by the holder when it does not.
    pub(super) fn parents_steps(self) -> Vec<Self> {
        if !self.parent_lives {
            return self.next_parent().into_iter().collect();
        }
        let next = match self.step {
            JournalStep::Nothing => self.with(JournalStep::Recorded, LifePhase::Forking),
            JournalStep::Recorded => self
                .with(JournalStep::Forked, LifePhase::Forking)
                .with_child(self.parent, Life::Born),
            JournalStep::Forked => self.with(JournalStep::Entered, LifePhase::Lives),
            JournalStep::Entered if self.child() == Life::Dead => Self {
                reaped: true,
                ..self.with(JournalStep::Reaped, LifePhase::Lives)
            },
            JournalStep::Reaped => self.with(JournalStep::Forgotten, LifePhase::Vacant),
            JournalStep::Entered | JournalStep::Forgotten => return vec![self.killed()],
        };
        vec![next, self.killed()]
    }

    fn killed(self) -> Self {
        Self {
            parent_lives: false,
            ..self
        }
    }

    /// The second parent uses the slot if the holder has found no child in it, be it that one is about to
    /// end by itself.
    fn next_parent(self) -> Option<Self> {
        let is_free = self.parent == 0 && self.resolved().phase == LifePhase::Vacant;
        is_free.then_some(Self {
            parent: 1,
            step: JournalStep::Nothing,
            parent_lives: true,
            record: 0,
            reaped: false,
            ..self
        })
    }

    pub(super) fn childs_steps(self, child: usize) -> Vec<Self> {
        let with = |life| self.with_child(child, life);
        let has_its_parent = self.parent == child && self.parent_lives;
        match self.children[child] {
            Life::Unborn | Life::Dead => Vec::new(),
            Life::Born => {
                let own = NotedPid::new(serial_of(child), PIDS[child]);
                let noted = Self {
                    note: own.noted_over(self.note),
                    ..with(Life::Noted)
                };
                vec![noted, with(Life::Dead)]
            }
            Life::Noted if has_its_parent => vec![with(Life::Serves), with(Life::Dead)],
            // It sees that its parent is gone.
            Life::Noted => vec![with(Life::Dead)],
            Life::Serves => vec![with(Life::Dead)],
        }
    }

    /// The record, as the holder resolves it now.
    fn resolved(self) -> JournalRecord {
        let serial = serial_of(self.parent);
        let record = match self.phase() {
            LifePhase::Vacant => JournalRecord::default(),
            LifePhase::Forking => JournalRecord {
                serial,
                ..forking()
            },
            _ => JournalRecord {
                serial,
                pid: PIDS[self.parent],
                ..lives()
            },
        };
        record.resolve(self.note, |pid| self.exists(pid))
    }

    /// Whether there is such a process, not reaped.
    fn exists(self, pid: u32) -> bool {
        let child = PIDS.iter().position(|own| *own == pid).expect("a child");
        let reaped = child == self.parent && self.reaped;
        self.children[child] != Life::Unborn && !reaped
    }
}

/// In every order of the steps of parents and children, with a parent killed after each: a child that
/// serves is known, one that is not known ends by itself, and one that was known and is gone is
/// accounted for.
#[test]
fn a_parent_killed_at_any_step_loses_no_child_and_doubles_none() {
    let mut open = vec![JournalWorld {
        parent_lives: true,
        ..JournalWorld::default()
    }];
    let mut seen = std::collections::HashSet::new();
    let mut resolved = [0; 2];
    while let Some(world) = open.pop() {
        if !seen.insert(world) {
            continue;
        }
        open.extend(world.parents_steps());
        open.extend(
            [0, 1]
                .into_iter()
                .flat_map(|child| world.childs_steps(child)),
        );
        if !world.parent_lives {
            resolved[world.parent] += 1;
            check(world);
        }
    }
    assert!(
        resolved[0] >= 16 && resolved[1] >= 64,
        "{resolved:?} states"
    );
}

fn check(world: JournalWorld) {
    let record = world.resolved();
    let pid = PIDS[world.parent];
    let exists = world.child() != Life::Unborn && !world.reaped;
    match record.phase {
        LifePhase::Lives => assert!(exists && record.pid == pid, "{world:?}"),
        // Whatever it does from now on, it does not serve.
        LifePhase::Vacant => assert!(ends_unseen(world, world.parent), "{world:?}"),
        // Known, and gone.
        LifePhase::Ended => assert!(world.reaped, "{world:?}"),
        LifePhase::Forking | LifePhase::Ending => panic!("unresolved: {world:?}"),
    }
    // That of a parent before has been left alone by its holder.
    assert!(world.parent == 0 || ends_unseen(world, 0), "{world:?}");
    assert_eq!(
        record,
        record.resolve(NotedPid::default(), |_| exists),
        "twice"
    );
}

fn ends_unseen(world: JournalWorld, child: usize) -> bool {
    match world.children[child] {
        Life::Unborn | Life::Dead => true,
        Life::Serves => false,
        _ => world
            .childs_steps(child)
            .into_iter()
            .all(|world| ends_unseen(world, child)),
    }
}
