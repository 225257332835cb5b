//! The accept loop without a socket: all short histories, long random histories against a model of
//! the kernel, and single cases.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

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

/// Every answer that an action can get.
fn answers(action: Action, rules: &Rules) -> Vec<Observation> {
    let times = [None, Some(MOMENT), Some(WAIT), Some(BRIEFLY)];
    match action {
        Action::CheckIn { .. } => {
            let go_on = (!rules.has_drained).then_some(Observation::GoOn);
            let told = [Observation::ToldToStop, Observation::ToldLongAgo];
            go_on.into_iter().chain(told).collect()
        }
        Action::Accept { .. } | Action::Drain { .. } => {
            vec![Observation::Found, Observation::NothingQueued]
        }
        Action::WaitInAccept => {
            let waited = |found| times.map(|took| Observation::WaitedInAccept { found, took });
            [waited(true), waited(false)].concat()
        }
        Action::WaitInEpoll => {
            let mut all = times.map(|after| Observation::Woken { after }).to_vec();
            all.push(Observation::NotWoken);
            all
        }
        Action::Serve { .. } => {
            let mut all = [None, Some(MOMENT), Some(LastConnection::TRYING)]
                .map(|took| Observation::Served {
                    took,
                    number: rules.served + 1,
                })
                .to_vec();
            all.push(Observation::ServedLast);
            all.push(Observation::Skipped);
            all
        }
        Action::Leave => Vec::new(),
    }
}

/// The rules by which no connection is left behind, for one step of any history.
#[derive(Clone, Debug)]
struct Rules {
    config: AcceptConfig,
    served: u64,
    /// The child was woken for a connection and has not tried to accept since.
    owes_an_attempt: bool,
    /// It has found nothing since it last served, or it had to wait for the connection that it
    /// served last.
    may_wait: bool,
    /// It was told to stop and has tried each listener since.
    has_drained: bool,
}

impl Rules {
    fn new(config: AcceptConfig) -> Self {
        Self {
            config,
            served: 0,
            owes_an_attempt: false,
            may_wait: false,
            has_drained: false,
        }
    }

    fn saw(&mut self, seen: Observation) {
        match seen {
            Observation::Woken { after } => {
                self.owes_an_attempt = true;
                self.may_wait = was_a_wait(after);
            }
            Observation::NotWoken => self.may_wait = false,
            Observation::NothingQueued => self.may_wait = true,
            Observation::WaitedInAccept { took, .. } => self.may_wait = was_a_wait(took),
            Observation::Served { .. } | Observation::ServedLast => self.served += 1,
            Observation::Skipped
            | Observation::Found
            | Observation::GoOn
            | Observation::ToldToStop
            | Observation::ToldLongAgo => {}
        }
    }

    fn at_limit(&self) -> bool {
        let limit = self.config.max_requests;
        limit != 0 && self.served >= limit
    }

    /// A child leaves when its limit is reached, when it has asked to, or when it was told to stop
    /// and has then tried each listener and found nothing, unless that takes too long.
    fn check_end(&mut self, seen: Observation, action: Action) {
        let leaves = match seen {
            Observation::ServedLast => true,
            Observation::GoOn => self.at_limit(),
            Observation::NothingQueued | Observation::ToldLongAgo => self.has_drained,
            _ => false,
        };
        assert_eq!(action == Action::Leave, leaves);
        let told = matches!(seen, Observation::ToldToStop | Observation::ToldLongAgo);
        let drains = matches!(action, Action::Drain { .. });
        assert_eq!(drains, told && !leaves);
        self.has_drained |= drains;
    }

    fn check(&mut self, seen: Observation, action: Action) {
        self.check_end(seen, action);
        let has_one = match seen {
            Observation::Found => true,
            Observation::WaitedInAccept { found, .. } => found,
            _ => false,
        };
        assert_eq!(matches!(action, Action::Serve { .. }), has_one);
        match action {
            Action::Accept { attempt, .. } => {
                let polls = attempt == Attempt::PollFirst;
                assert!(!(polls && self.owes_an_attempt), "it was woken");
                self.owes_an_attempt = false;
            }
            Action::WaitInAccept => {
                assert!(self.config.blocks, "it would not wait");
                self.check_wait();
            }
            Action::WaitInEpoll => self.check_wait(),
            Action::CheckIn { say_not_busy } => {
                let served = matches!(seen, Observation::Served { .. });
                let goes_on = served && !self.at_limit();
                assert_eq!(say_not_busy, goes_on && !self.config.coalesces);
            }
            Action::Drain { attempt } => {
                let polls = attempt == Attempt::PollFirst;
                assert_eq!(polls, self.config.blocks, "it would wait");
                self.owes_an_attempt = false;
            }
            Action::Serve { .. } | Action::Leave => {}
        }
    }

    fn check_wait(&self) {
        assert!(!self.has_drained, "it was told to stop");
        assert!(!self.owes_an_attempt, "a wake-up is lost");
        assert!(self.may_wait, "something may be queued");
    }
}

fn explore(history: &[Observation], config: AcceptConfig, depth: u32) -> u64 {
    let mut machine = AcceptMachine::new(config);
    let mut rules = Rules::new(config);
    let mut action = CHECK_IN;
    for &seen in history {
        action = machine.step(seen);
        rules.saw(seen);
        rules.check(seen, action);
    }
    if depth == 0 {
        return 1;
    }
    let mut count = 1;
    for seen in answers(action, &rules) {
        let longer = [history, &[seen]].concat();
        count += explore(&longer, config, depth - 1);
    }
    count
}

#[test]
fn every_short_history_keeps_the_rules() {
    let histories: u64 = configs()
        .into_iter()
        .map(|config| explore(&[], config, 11))
        .sum();
    assert!(histories > 20_000, "only {histories} were tried");
}

/// A listener and the clients that connect to it. A connection stays queued until this child or a
/// sibling takes it.
#[derive(Debug, Default)]
struct Backlog {
    queue: VecDeque<u32>,
    taken: Vec<u32>,
    in_hand: Option<u32>,
}

impl Backlog {
    /// How the kernel answers an action; `spent` is what the clock says that it took.
    fn answer(&mut self, action: Action, spent: Option<Duration>) -> Observation {
        match action {
            Action::CheckIn { .. } => Observation::GoOn,
            Action::Accept { .. } | Action::Drain { .. } if self.take() => Observation::Found,
            Action::Accept { .. } | Action::Drain { .. } => Observation::NothingQueued,
            Action::WaitInAccept => Observation::WaitedInAccept {
                found: self.take(),
                took: spent,
            },
            Action::WaitInEpoll if self.queue.is_empty() => Observation::NotWoken,
            Action::WaitInEpoll => Observation::Woken { after: spent },
            Action::Serve { .. } => {
                self.taken.extend(self.in_hand.take());
                Observation::Served {
                    took: spent,
                    number: self.taken.len() as u64,
                }
            }
            Action::Leave => Observation::ToldToStop,
        }
    }

    fn take(&mut self) -> bool {
        self.in_hand = self.queue.pop_front();
        self.in_hand.is_some()
    }
}

proptest! {
    /// A queued connection is served within a few steps, in order and once, whenever clients come
    /// and however long each step takes.
    #[test]
    fn what_is_queued_is_served_soon_and_in_order(
        config in proptest::sample::select(configs()),
        turns in proptest::collection::vec((0u32..12, 0u8..5, any::<bool>()), 1..300),
    ) {
        let config = AcceptConfig { max_requests: 0, ..config };
        let mut machine = AcceptMachine::new(config);
        let mut world = Backlog::default();
        let (mut rules, mut action) = (Rules::new(config), CHECK_IN);
        let (mut last, mut stolen, mut since) = (0, 0, 0);
        for (arrivals, time, steal) in turns {
            // Mostly no client comes; sometimes many do.
            if arrivals > 8 {
                world.queue.extend(last..last + arrivals);
                last += arrivals;
            }
            if steal && arrivals == 0 {
                stolen += u32::from(world.queue.pop_front().is_some());
            }
            let spent = [None, Some(MOMENT), Some(WAIT), Some(LONG), Some(BRIEFLY)];
            let waiting = !world.queue.is_empty();
            let seen = world.answer(action, spent[usize::from(time)]);
            action = machine.step(seen);
            rules.saw(seen);
            rules.check(seen, action);
            since = if waiting && world.in_hand.is_none() { since + 1 } else { 0 };
            prop_assert!(since <= 6, "{since} steps, and {action:?} is next");
        }
        prop_assert!(world.taken.is_sorted());
        let left = world.queue.len() + usize::from(world.in_hand.is_some());
        prop_assert_eq!(world.taken.len() + left + stolen as usize, last as usize);
    }
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
