//! The accept loop without a socket: single cases. All short histories are in `rules`, long random ones
//! in `backlog`.

mod backlog;
mod rules;

use self::backlog::Backlog;
use super::*;

const MOMENT: Duration = Duration::from_micros(10);
const WAIT: Duration = BacklogStreak::A_WAIT;
const LONG: Duration = LastConnection::LONG;

const CHECK_IN: Action = Action::CheckIn {
    say_not_busy: false,
};

fn config(blocks: bool, takes_turns: bool) -> AcceptConfig {
    AcceptConfig {
        blocks,
        takes_turns,
        coalesces: true,
        max_requests: 0,
    }
}

fn configs() -> Vec<AcceptConfig> {
    let mut configs = Vec::new();
    for (blocks, takes_turns) in [(false, false), (true, false), (true, true)] {
        for coalesces in [false, true] {
            for max_requests in [0, 2] {
                configs.push(AcceptConfig {
                    max_requests,
                    coalesces,
                    ..config(blocks, takes_turns)
                });
            }
        }
    }
    configs
}

/// Runs the machine through `observations` and returns the action that follows each.
fn run(machine: &mut AcceptMachine, seen: &[Observation]) -> Vec<Action> {
    seen.iter().map(|&seen| machine.step(seen)).collect()
}

fn served(took: Duration) -> Observation {
    Observation::Served {
        took: Some(took),
        number: 1,
    }
}

#[test]
fn a_new_child_tries_before_it_waits() {
    let mut machine = AcceptMachine::new(config(false, false));
    let actions = run(
        &mut machine,
        &[Observation::GoOn, Observation::NothingQueued],
    );
    let accept = Action::Accept {
        attempt: Attempt::PollFirst,
        wakeups: Wakeups::Wanted,
    };
    assert_eq!(actions, [accept, Action::WaitInEpoll]);
}

#[test]
fn a_child_that_waited_for_a_connection_waits_for_the_next_without_an_attempt() {
    for (after, attempts) in [(WAIT, false), (MOMENT, true)] {
        let mut machine = AcceptMachine::new(config(false, false));
        run(
            &mut machine,
            &[Observation::GoOn, Observation::NothingQueued],
        );
        let woken = Observation::Woken { after: Some(after) };
        let seen = [woken, Observation::GoOn, Observation::Found, served(MOMENT)];
        run(&mut machine, &seen);
        let next = machine.step(Observation::GoOn);
        assert_eq!(matches!(next, Action::Accept { .. }), attempts, "{after:?}");
        assert_eq!(next == Action::WaitInEpoll, !attempts);
    }
}

#[test]
fn a_child_leaves_the_wakeups_when_its_connections_are_long() {
    for (took, wakeups) in [
        (LONG, Wakeups::LeftToOthers),
        (LONG - MOMENT, Wakeups::Wanted),
    ] {
        let mut machine = AcceptMachine::new(config(false, false));
        let seen = [
            Observation::GoOn,
            Observation::Found,
            served(took),
            Observation::GoOn,
        ];
        run(&mut machine, &seen);
        let next = machine.step(Observation::Found);
        let expected = Action::Serve {
            wakeups,
            look_first: false,
        };
        assert_eq!(next, expected);
    }
}

/// While connections take long, the child checks each client before it serves it, even if many have
/// gone.
#[test]
fn a_client_is_looked_at_until_one_has_been_served_quickly() {
    let mut machine = AcceptMachine::new(config(false, false));
    let seen = [
        Observation::GoOn,
        Observation::Found,
        served(LastConnection::TRYING),
    ];
    run(&mut machine, &seen);
    for _ in 0..3 {
        machine.step(Observation::GoOn);
        let next = machine.step(Observation::Found);
        assert!(matches!(
            next,
            Action::Serve {
                look_first: true,
                ..
            }
        ));
        let next = machine.step(Observation::Skipped);
        let quietly = Action::CheckIn {
            say_not_busy: false,
        };
        assert_eq!(next, quietly, "BUSY was not said");
    }
    machine.step(Observation::GoOn);
    machine.step(Observation::Found);
    machine.step(served(MOMENT));
    machine.step(Observation::GoOn);
    let next = machine.step(Observation::Found);
    assert!(matches!(
        next,
        Action::Serve {
            look_first: false,
            ..
        }
    ));
}

/// A child that is to leave takes no other connection, whatever its limit is.
#[test]
fn a_child_that_wants_to_leave_does() {
    let mut machine = AcceptMachine::new(config(false, false));
    let seen = [Observation::GoOn, Observation::Found];
    run(&mut machine, &seen);
    assert_eq!(machine.step(Observation::ServedLast), Action::Leave);
    assert_eq!(machine.step(Observation::GoOn), Action::Leave);
}

#[test]
fn after_a_long_streak_the_wait_is_made_in_accept_once() {
    let mut machine = AcceptMachine::new(config(true, false));
    for _ in 0..BacklogStreak::LIKELY {
        run(
            &mut machine,
            &[Observation::GoOn, Observation::Found, served(MOMENT)],
        );
    }
    let actions = run(
        &mut machine,
        &[Observation::GoOn, Observation::NothingQueued],
    );
    assert_eq!(actions[1], Action::WaitInAccept);
    let in_vain = Observation::WaitedInAccept {
        found: false,
        took: Some(BRIEFLY),
    };
    let seen = [in_vain, Observation::GoOn, Observation::NothingQueued];
    assert_eq!(run(&mut machine, &seen)[2], Action::WaitInEpoll);
}

/// Children that take turns: after eight short waits the next are made in accept(2), until one ends
/// without a connection.
#[test]
fn a_child_takes_turns_while_connections_keep_coming() {
    let mut machine = AcceptMachine::new(config(true, true));
    let mut action = CHECK_IN;
    let mut world = Backlog::default();
    let (mut in_epoll, mut in_accept) = (0, 0);
    for number in 0..40 {
        loop {
            in_epoll += u32::from(action == Action::WaitInEpoll);
            in_accept += u32::from(action == Action::WaitInAccept);
            if matches!(action, Action::WaitInEpoll | Action::WaitInAccept) {
                world.queue.push_back(number);
            }
            let seen = world.answer(action, Some(WAIT));
            action = machine.step(seen);
            if matches!(seen, Observation::Served { .. }) {
                break;
            }
        }
    }
    assert_eq!((in_epoll, in_accept), (8, 32));
    let seen = [
        Observation::GoOn,
        Observation::WaitedInAccept {
            found: false,
            took: Some(BRIEFLY),
        },
        Observation::GoOn,
    ];
    let actions = run(&mut machine, &seen);
    assert_eq!(
        actions,
        [Action::WaitInAccept, CHECK_IN, Action::WaitInEpoll]
    );
}

#[test]
fn an_answer_to_another_question_begins_a_new_pass() {
    let mut machine = AcceptMachine::new(config(true, true));
    assert_eq!(machine.step(Observation::Found), CHECK_IN);
    assert!(matches!(
        machine.step(Observation::GoOn),
        Action::Accept { .. }
    ));
}

#[test]
fn a_child_that_leaves_does_nothing_else() {
    let mut machine = AcceptMachine::new(config(true, false));
    let last = machine.step(Observation::ToldToStop);
    assert_eq!(
        last,
        Action::Drain {
            attempt: Attempt::PollFirst
        }
    );
    assert_eq!(machine.step(Observation::NothingQueued), Action::Leave);
    assert_eq!(machine.step(Observation::GoOn), Action::Leave);
}

/// Serves a queue that never ends, with `told` as the order to stop. Returns how many connections
/// the child serves before it leaves.
fn drains(limit: u64, told: &[Observation]) -> u64 {
    let mut machine = AcceptMachine::new(AcceptConfig {
        max_requests: limit,
        ..config(false, false)
    });
    let (mut action, mut served) = (CHECK_IN, 0);
    let mut told = told.iter();
    while action != Action::Leave {
        action = machine.step(match action {
            Action::CheckIn { .. } => *told.next().expect("it to leave"),
            Action::Serve { .. } => {
                served += 1;
                Observation::Served {
                    took: Some(MOMENT),
                    number: served,
                }
            }
            _ => Observation::Found,
        });
    }
    served
}

/// A child that was told to stop serves what is queued, even beyond its limit, for as long as it
/// may. If it learns of the order late, it tries once.
#[test]
fn a_child_that_was_told_to_stop_serves_what_is_queued_for_a_while() {
    use Observation::{GoOn, ToldLongAgo, ToldToStop};
    let told = [ToldToStop, ToldToStop, ToldToStop, ToldLongAgo];
    assert_eq!(drains(0, &told), 3);
    assert_eq!(drains(2, &told), 3);
    assert_eq!(drains(0, &[ToldLongAgo, ToldLongAgo]), 1);
    assert_eq!(drains(2, &[GoOn, GoOn, ToldToStop, ToldLongAgo]), 3);
    assert_eq!(drains(2, &[GoOn, GoOn, GoOn]), 2);
}
