//! The rules by which no connection is left behind, and all short histories against them.

use super::*;

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
pub(super) struct Rules {
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
    pub(super) fn new(config: AcceptConfig) -> Self {
        Self {
            config,
            served: 0,
            owes_an_attempt: false,
            may_wait: false,
            has_drained: false,
        }
    }

    pub(super) fn saw(&mut self, seen: Observation) {
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

    pub(super) fn check(&mut self, seen: Observation, action: Action) {
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
