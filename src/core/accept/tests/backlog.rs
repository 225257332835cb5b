//! Long random histories against a model of the kernel: a listener with its queue, and the clients that
//! connect to it.

use super::{rules::Rules, *};
use proptest::prelude::*;
use std::collections::VecDeque;

/// A listener and the clients that connect to it. A connection stays queued until this child or a
/// sibling takes it.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) queue: VecDeque<u32>,
    taken: Vec<u32>,
    in_hand: Option<u32>,
}

impl Backlog {
    /// How the kernel answers an action; `spent` is what the clock says that it took.
    pub(super) fn answer(&mut self, action: Action, spent: Option<Duration>) -> Observation {
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
