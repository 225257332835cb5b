//! What becomes of a record when the parent that has written it is gone.

use super::*;
use proptest::prelude::*;

const PID: u32 = 100;
const ID: ChildId = ChildId::new(3, 7);

fn forking() -> Record {
    Record::forking(ID, 2, false, Time::at(Duration::from_millis(5)))
}

fn lives() -> Record {
    Record {
        phase: Phase::Lives,
        pid: PID,
        ..forking()
    }
}

/// One child, its parent and the holder: all that happens from the record of the fork to the end of the
/// record. A step is done by one of the three.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct World {
    parent: Step,
    parent_lives: bool,
    child: Life,
    noted: bool,
    record: u64,
    reaped: bool,
}

/// What the parent has done.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
enum Step {
    #[default]
    Nothing,
    Recorded,
    Forked,
    Entered,
    Reaped,
    Forgotten,
}

/// What the child has done.
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

impl World {
    fn phase(self) -> Phase {
        Phase::read(self.record)
    }

    fn with(self, step: Step, phase: Phase) -> Self {
        Self {
            parent: step,
            record: phase as u64,
            ..self
        }
    }

    /// All that may happen next while the parent lives.
    fn parents_steps(self) -> Vec<Self> {
        if !self.parent_lives {
            return Vec::new();
        }
        let next = match self.parent {
            Step::Nothing => self.with(Step::Recorded, Phase::Forking),
            Step::Recorded => Self {
                child: Life::Born,
                ..self.with(Step::Forked, Phase::Forking)
            },
            Step::Forked => self.with(Step::Entered, Phase::Lives),
            Step::Entered if self.child == Life::Dead => Self {
                reaped: true,
                ..self.with(Step::Reaped, Phase::Lives)
            },
            Step::Reaped => self.with(Step::Forgotten, Phase::Vacant),
            Step::Entered | Step::Forgotten => return vec![self.killed()],
        };
        vec![next, self.killed()]
    }

    fn killed(self) -> Self {
        Self {
            parent_lives: false,
            ..self
        }
    }

    fn childs_steps(self) -> Vec<Self> {
        let with = |child| Self { child, ..self };
        match self.child {
            Life::Unborn | Life::Dead => Vec::new(),
            Life::Born => vec![
                Self {
                    noted: true,
                    ..with(Life::Noted)
                },
                with(Life::Dead),
            ],
            Life::Noted if self.parent_lives => vec![with(Life::Serves), with(Life::Dead)],
            // It sees that its parent is gone.
            Life::Noted => vec![with(Life::Dead)],
            Life::Serves => vec![with(Life::Dead)],
        }
    }

    /// The record, as the holder resolves it now.
    fn resolved(self) -> Record {
        let record = match self.phase() {
            Phase::Vacant => Record::default(),
            Phase::Forking => forking(),
            _ => lives(),
        };
        let noted = match self.noted {
            true => NotedPid::new(ID.serial(), PID),
            false => NotedPid::default(),
        };
        let exists = self.child != Life::Unborn && !self.reaped;
        record.resolve(noted, |pid| pid == PID && exists)
    }
}

/// In every order of the steps of parent and child, with the parent killed after each: a child that
/// serves is known, one that is not known ends by itself, and one that was known and is gone is
/// accounted for.
#[test]
fn a_parent_killed_at_any_step_loses_no_child_and_doubles_none() {
    let mut open = vec![World {
        parent_lives: true,
        ..World::default()
    }];
    let mut seen = std::collections::HashSet::new();
    let mut resolved = 0;
    while let Some(world) = open.pop() {
        if !seen.insert(world) {
            continue;
        }
        open.extend(world.parents_steps());
        open.extend(world.childs_steps());
        if !world.parent_lives {
            resolved += 1;
            check(world);
        }
    }
    assert!(resolved >= 16, "{resolved} states");
}

fn check(world: World) {
    let record = world.resolved();
    let exists = world.child != Life::Unborn && !world.reaped;
    match record.phase {
        Phase::Lives => assert!(exists && record.pid == PID, "{world:?}"),
        // Whatever it does from now on, it does not serve.
        Phase::Vacant => assert!(ends_unseen(world), "{world:?}"),
        // Known, and gone.
        Phase::Ended => assert!(world.reaped, "{world:?}"),
        Phase::Forking | Phase::Ending => panic!("unresolved: {world:?}"),
    }
    assert_eq!(
        record,
        record.resolve(NotedPid::default(), |_| exists),
        "twice"
    );
}

fn ends_unseen(world: World) -> bool {
    match world.child {
        Life::Unborn | Life::Dead => true,
        _ => world.childs_steps().into_iter().all(ends_unseen),
    }
}

/// The same of a child that is the holder's from its first moment. The kernel notes its pid before it
/// runs, and whoever is killed in a fork leaves that before it is gone. The holder reaps.
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
            words: Record::default().words(),
            reaped: false,
        }
    }

    fn record(&self) -> Record {
        Record::read(&self.words)
    }

    fn with(self, record: &Record) -> Self {
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
            (Phase::Vacant, Life::Unborn) => self.with(&forking()),
            (Phase::Forking, _) => {
                let mut next = self;
                next.words[PID_AT] |= u64::from(PID);
                // The parent cannot be killed between the two.
                let child = Life::Serves;
                Self { child, ..next }
            }
            (Phase::Ended, _) => self.with(&Record::default()),
            _ => return vec![killed],
        };
        vec![next, killed]
    }

    fn holders_steps(self) -> Vec<Self> {
        let record = self.record();
        let ending = Record {
            phase: Phase::Ending,
            ..record
        };
        match (self.child, record.phase) {
            (Life::Dead, Phase::Lives) => vec![self.with(&ending)],
            (Life::Dead, Phase::Ending) => vec![Self {
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
        if exists && record.phase != Phase::Ending {
            assert!(record.lives() && record.pid == PID, "{world:?}");
        }
        // The holder is not reaping when it resolves.
        if !world.parent_lives && record.phase != Phase::Ending {
            resolved += 1;
            let found = record.resolve(NotedPid::default(), |pid| pid == PID && exists);
            let expected = match (exists, world.reaped, record.phase) {
                (true, ..) => Phase::Lives,
                // Until a parent has told it.
                (false, true, Phase::Ended) => Phase::Ended,
                _ => Phase::Vacant,
            };
            assert_eq!(found.phase, expected, "{world:?}");
        }
    }
    assert!(resolved >= 6, "{resolved} states");
}

#[test]
fn what_another_child_has_noted_resolves_nothing() {
    let earlier = NotedPid::new(ID.serial() - 1, PID);
    assert_eq!(forking().resolve(earlier, |_| true), Record::default());
    for nobody in [0, 1] {
        let noted = NotedPid::new(ID.serial(), nobody);
        assert_eq!(forking().resolve(noted, |_| true), Record::default());
    }
}

/// A pid is used again only after its process was reaped.
#[test]
fn of_two_children_with_one_pid_the_later_one_lives() {
    let earlier = lives();
    for later in [ID.serial() + 1, ID.serial() + 1000] {
        let later = Record {
            serial: later,
            ..earlier
        };
        assert!(earlier.is_outdated_by(&later) && !later.is_outdated_by(&earlier));
        let other = Record { pid: 101, ..later };
        assert!(!earlier.is_outdated_by(&other));
    }
    let [last, first] = [u32::MAX, 0].map(|serial| Record { serial, ..earlier });
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
        said: u64, group in 0..3_u8, signal in 0..17_u8, noise: [u64; RECORD_WORDS],
    ) {
        let phase = match Phase::read(phase) {
            Phase::Forking if pid != 0 => Phase::Lives,
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
        let record = Record {
            phase, serial, reserved, pid, epoch,
            stop_by: StopBy {
                signal: Signal::of_code(signal),
                group: ToGroup::of_code(group),
            },
            forked_at: Time::at_nanoseconds(at),
            said: Said::read(said),
            end: (phase == Phase::Ended).then_some(end),
        };
        let expected = match phase {
            Phase::Vacant => Record::default(),
            _ => record,
        };
        prop_assert_eq!(Record::read(&record.words()), expected);
        let _ = Record::read(&noise).resolve(NotedPid(at), |_| reserved);
    }
}
