//! What becomes of a record when the parent that has written it is gone.

use super::*;
use crate::core::inbox::save_end;
use proptest::prelude::*;

const PID: u32 = 100;
const ID: ChildId = ChildId::new(3, 7);

fn forking() -> JournalRecord {
    JournalRecord::forking(ID, 2, false, Time::at(Duration::from_millis(5)))
}

fn lives() -> JournalRecord {
    JournalRecord {
        phase: LifePhase::Lives,
        pid: PID,
        ..forking()
    }
}

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
enum Life {
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
    fn phase(self) -> LifePhase {
        LifePhase::read(self.record)
    }

    /// The child of the last parent.
    fn child(self) -> Life {
        self.children[self.parent]
    }

    fn with(self, step: JournalStep, phase: LifePhase) -> Self {
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
    fn parents_steps(self) -> Vec<Self> {
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

    fn childs_steps(self, child: usize) -> Vec<Self> {
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

/// Serials begin again some time, and a slot that nobody has noted anything in is zero.
#[test]
fn the_later_of_two_notes_stays() {
    for first in [1, ID.serial(), u32::MAX / 2 + 7, u32::MAX] {
        let [earlier, later] = [first, first.wrapping_add(1)].map(|it| NotedPid::new(it, PID));
        assert_eq!(earlier.noted_over(NotedPid::default()), earlier);
        assert_eq!(later.noted_over(earlier), later);
        assert_eq!(earlier.noted_over(later), later);
        assert_eq!(later.noted_over(later), later);
    }
}

/// The same of a child that is the holder's from its first moment. The kernel notes its pid before
/// it runs, and a process that is killed in a fork has left that before it is gone. The holder
/// reaps.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Siblings {
    parent_lives: bool,
    child: Life,
    words: [u64; RECORD_WORDS],
    reaped: bool,
}

impl Siblings {
    fn new() -> Self {
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

#[test]
fn what_another_child_has_noted_resolves_nothing() {
    let earlier = NotedPid::new(ID.serial() - 1, PID);
    assert_eq!(
        forking().resolve(earlier, |_| true),
        JournalRecord::default()
    );
    for nobody in [0, 1] {
        let noted = NotedPid::new(ID.serial(), nobody);
        assert_eq!(forking().resolve(noted, |_| true), JournalRecord::default());
    }
}

/// A pid is used again only after its process was reaped.
#[test]
fn of_two_children_with_one_pid_the_later_one_lives() {
    let earlier = lives();
    for later in [ID.serial() + 1, ID.serial() + 1000] {
        let later = JournalRecord {
            serial: later,
            ..earlier
        };
        assert!(earlier.is_outdated_by(&later) && !later.is_outdated_by(&earlier));
        let other = JournalRecord { pid: 101, ..later };
        assert!(!earlier.is_outdated_by(&other));
    }
    let [last, first] = [u32::MAX, 0].map(|serial| JournalRecord { serial, ..earlier });
    assert!(last.is_outdated_by(&first), "serials begin again");
    assert!(!earlier.is_outdated_by(&earlier));
}

#[test]
fn a_state_is_saved_in_the_place_that_the_last_one_is_not_in() {
    let mut at = SavedAt::read(0);
    assert_eq!((at.place, at.length), (0, 0));
    for length in [1, 7, ROOM] {
        let next = at.next(length);
        assert_ne!(next.place, at.place);
        assert_eq!(SavedAt::read(next.word()), next);
        at = next;
    }
    assert_eq!(SavedAt::read(u64::MAX).length, ROOM);
}

proptest! {
    /// Whatever the words are: no panic; and what was written is read.
    #[test]
    fn a_record_is_read_as_it_was_written(
        serial: u32, pid: u32, epoch: u32, reserved: bool, at: u64, status: Option<i32>, phase in 0..6_u64,
        told: Option<(u8, u32)>, successor: bool, said: u64, group in 0..3_u8, signal in 0..17_u8,
        noise: [u64; RECORD_WORDS],
    ) {
        let phase = match LifePhase::read(phase) {
            LifePhase::Forking if pid != 0 => LifePhase::Lives,
            phase => phase,
        };
        let usage = Usage {
            user_time: Duration::from_nanos(at),
            max_resident: at,
            ..Usage::default()
        };
        let end = Collected {
            status: status.map(WaitStatus::from_raw),
            usage: status.map(|_| usage),
            out_of_memory: false,
        };
        let told = told.map(|(reason, at)| RetirementNote {
            reason: Reason::of_code(reason),
            at: Time::at(Duration::from_micros(at.into())),
        });
        let record = JournalRecord {
            phase, serial, reserved, pid, epoch, told, successor,
            stop_by: StopBy {
                signal: Signal::of_code(signal),
                group: ToGroup::of_code(group),
            },
            forked_at: Time::at_nanoseconds(at),
            said: WordNotes::read(said),
            end: (phase == LifePhase::Ended).then_some(end),
        };
        let expected = match phase {
            LifePhase::Vacant => JournalRecord::default(),
            _ => record,
        };
        prop_assert_eq!(JournalRecord::read(&record.words()), expected);
        let _ = JournalRecord::read(&noise).resolve(NotedPid(at), |_| reserved);
    }
}

/// What an earlier program has handed on of a child is what a later parent takes over of it.
#[test]
fn a_child_of_an_earlier_program_is_the_next_parents_as_well() {
    let now = Time::at(Duration::from_secs(9));
    let inherited = |record: JournalRecord| {
        let inherited = InheritedChild {
            slot: 3,
            record,
            notes: Default::default(),
            pipes: [Some((5, 0)), None, None],
        };
        inherited.state(now)
    };
    let end = Collected {
        status: Some(WaitStatus::from_raw(9)),
        ..Collected::default()
    };
    let reserved = JournalRecord {
        reserved: true,
        ..lives()
    };
    for record in [lives(), reserved] {
        assert_eq!(JournalRecord::adopted(&inherited(record)), record);
    }
    // A parent reaps who has ended, and has the end in what it saves.
    let end_state = Some(save_end(&end));
    let ended = ChildState {
        end: end_state.clone(),
        ..inherited(lives())
    };
    assert_eq!(JournalRecord::adopted(&ended), lives().ended(end));
    let outlived = ChildState {
        outlived: end_state,
        ..inherited(lives())
    };
    assert_eq!(JournalRecord::adopted(&outlived).phase, LifePhase::Ended);
}
