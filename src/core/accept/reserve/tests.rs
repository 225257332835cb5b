//! The reserved child in a simulated queue, and every order of a few observations.

use super::*;
use std::collections::VecDeque;

const LIMITS: AgeLimits = AgeLimits {
    max: Duration::from_millis(200),
    target: Duration::from_millis(20),
};

fn at(milliseconds: u64) -> Time {
    Time::at(Duration::from_millis(milliseconds))
}

fn machine(listeners: usize, at_once: usize) -> ReserveMachine {
    let mut machine = ReserveMachine::new(Some(LIMITS), listeners);
    machine.at_once = at_once;
    machine
}

/// A queue into which a client comes every ten milliseconds, and from which nobody else takes.
struct ModelQueue {
    came: VecDeque<u64>,
    next: u64,
    taken: u64,
    turned_away: Vec<(u64, bool)>,
}

impl ModelQueue {
    fn new() -> Self {
        Self {
            came: VecDeque::new(),
            next: 0,
            taken: 0,
            turned_away: Vec::new(),
        }
    }

    fn come_until(&mut self, now: u64) {
        while self.next <= now {
            self.came.push_back(self.next);
            self.next += 10;
        }
    }

    fn accept(&mut self, now: u64) -> ReserveSaw {
        self.come_until(now);
        match self.came.pop_front() {
            None => ReserveSaw::NothingQueued,
            Some(came) => {
                self.taken += 1;
                let queued = Duration::from_millis(now - came);
                ReserveSaw::Found { queued }
            }
        }
    }
}

/// Runs the child until `end` while all others are busy, or one is free, as `busy` says.
fn run(machine: &mut ReserveMachine, queue: &mut ModelQueue, end: u64, busy: impl Fn(u64) -> bool) {
    let mut now = 0;
    let mut action = ReserveAction::CheckIn;
    while now < end {
        queue.come_until(now);
        let seen = match action {
            ReserveAction::CheckIn if busy(now) => ReserveSaw::AllBusy,
            ReserveAction::CheckIn => ReserveSaw::OneFree,
            ReserveAction::Sleep => {
                now = (now..end).find(|now| busy(*now)).unwrap_or(end);
                ReserveSaw::Woken
            }
            ReserveAction::Pause(time) => {
                now += time.as_millis().max(1) as u64;
                ReserveSaw::Woken
            }
            ReserveAction::Look { .. } => ReserveSaw::Looked(QueueLook {
                at: at(now),
                taken: queue.taken,
                queued: queue.came.len() as u32,
            }),
            ReserveAction::Count { .. } => ReserveSaw::Taken(queue.taken),
            ReserveAction::Accept { .. } => queue.accept(now),
            ReserveAction::TurnAway { is_old } => {
                queue.turned_away.push((now, is_old));
                ReserveSaw::Done
            }
            ReserveAction::Leave => panic!("nobody has told it to"),
        };
        action = machine.step(seen, at(now));
    }
}

#[test]
fn while_all_others_are_busy_it_takes_what_is_too_old() {
    let mut queue = ModelQueue::new();
    run(&mut machine(1, AT_ONCE), &mut queue, 1_000, |_| true);
    assert!(queue.turned_away.len() > 80, "{:?}", queue.turned_away);
    assert!(queue.turned_away.iter().all(|(_, is_old)| *is_old));
    assert!(queue.came.len() < 10, "{:?} are left", queue.came);
}

/// Near the capacity of a server one child is free again and again: what is known of a queue is
/// kept for a second, and then it is not true any more.
#[test]
fn a_short_sleep_keeps_what_is_known_and_a_long_one_does_not() {
    let first_after = |sleep: u64| {
        let mut queue = ModelQueue::new();
        let (from, until) = (300, 300 + sleep);
        let busy = |now| now < from || until <= now;
        run(&mut machine(1, AT_ONCE), &mut queue, until + 400, busy);
        let after = queue.turned_away.iter().map(|(at, _)| *at);
        after.into_iter().find(|at| until <= *at).expect("one") - until
    };
    assert!(first_after(500) < 10, "{}", first_after(500));
    assert!(first_after(1_500) >= 100, "{}", first_after(1_500));
}

const SEEN: [ReserveSaw; 10] = [
    ReserveSaw::ToldToStop,
    ReserveSaw::AllBusy,
    ReserveSaw::OneFree,
    ReserveSaw::Woken,
    ReserveSaw::Looked(QueueLook {
        at: Time::START,
        taken: 0,
        queued: 9,
    }),
    ReserveSaw::Taken(0),
    ReserveSaw::Unknown,
    ReserveSaw::Found {
        queued: Duration::from_secs(1),
    },
    ReserveSaw::NothingQueued,
    ReserveSaw::Done,
];

/// What must hold after each step, of what has come since the child has checked in last.
#[derive(Clone, Copy, Debug, Default)]
struct Pass {
    accepted: usize,
    looked: usize,
    left: bool,
}

/// Every order of the observations, also of those that answer nothing: the child leaves for good
/// when it was told to and checks in; it checks in after `at_once` connections of each queue at the
/// latest; it accepts after a count, and turns away what it has found.
fn walk(seen: &mut Vec<ReserveSaw>, depth: usize) {
    for saw in SEEN {
        seen.push(saw);
        check(seen);
        if depth > 1 {
            walk(seen, depth - 1);
        }
        seen.pop();
    }
}

fn check(seen: &[ReserveSaw]) {
    let mut machine = machine(2, 2);
    let mut pass = Pass::default();
    let mut action = ReserveAction::CheckIn;
    for saw in seen {
        let before = std::mem::replace(&mut action, machine.step(*saw, at(1_000)));
        let told = before == ReserveAction::CheckIn && *saw == ReserveSaw::ToldToStop;
        pass.left |= told;
        assert_eq!(action == ReserveAction::Leave, pass.left, "{seen:?}");
        match action {
            ReserveAction::CheckIn => pass = Pass::default(),
            ReserveAction::Look { listener } => {
                assert_eq!(listener, pass.looked, "{seen:?}");
                pass.looked += 1;
            }
            ReserveAction::Accept { listener } => {
                assert_eq!(before, ReserveAction::Count { listener }, "{seen:?}");
                pass.accepted += 1;
                assert!(pass.accepted <= 2 * pass.looked, "{seen:?}");
            }
            ReserveAction::TurnAway { is_old } => {
                assert!(matches!(before, ReserveAction::Accept { .. }), "{seen:?}");
                assert!(is_old, "{seen:?}");
            }
            ReserveAction::Sleep => assert_eq!(*saw, ReserveSaw::OneFree, "{seen:?}"),
            ReserveAction::Pause(_) => assert_eq!(pass.looked, 2, "{seen:?}"),
            ReserveAction::Count { .. } | ReserveAction::Leave => {}
        }
    }
}

/// The child hears no order while it takes connections.
#[test]
fn it_checks_in_after_so_many_connections_however_many_are_too_old() {
    let mut machine = machine(1, 2);
    let look = |milliseconds| {
        ReserveSaw::Looked(QueueLook {
            at: at(milliseconds),
            taken: 0,
            queued: 9,
        })
    };
    for (seen, now) in [
        (ReserveSaw::AllBusy, 0),
        (look(0), 0),
        (ReserveSaw::Taken(0), 0),
        (ReserveSaw::Woken, 1_000),
        (ReserveSaw::AllBusy, 1_000),
        (look(1_000), 1_000),
    ] {
        machine.step(seen, at(now));
    }
    let queued = Duration::from_secs(1);
    let mut actions = Vec::new();
    for taken in 0..2 {
        let one = [
            ReserveSaw::Taken(taken),
            ReserveSaw::Found { queued },
            ReserveSaw::Done,
        ];
        actions.extend(one.map(|seen| machine.step(seen, at(1_000))));
    }
    let taken = [
        ReserveAction::Accept { listener: 0 },
        ReserveAction::TurnAway { is_old: true },
    ];
    let pause = ReserveAction::Pause(LIMITS.look_every());
    assert_eq!(actions[..2], taken);
    assert_eq!(actions[2], ReserveAction::Count { listener: 0 });
    assert_eq!(actions[3..5], taken);
    assert_eq!(actions[5], pause);
}

#[test]
fn without_limits_it_looks_at_no_queue() {
    let mut machine = ReserveMachine::new(None, 3);
    let pause = ReserveAction::Pause(Duration::MAX);
    assert_eq!(machine.step(ReserveSaw::AllBusy, at(0)), pause);
    let next = machine.step(ReserveSaw::Woken, at(1));
    assert_eq!(next, ReserveAction::CheckIn);
}

#[test]
fn every_order_of_five_observations_keeps_the_rules() {
    walk(&mut Vec::new(), 5);
}
