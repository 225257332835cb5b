//! Looks at the stacks of living children, which go on serving: which looks are under way, until
//! when, and what came of each. Plain data and decisions; reads no memory and sends no signal.

use crate::core::{
    child::{ChildId, Stuck},
    stack::Frame,
    time::Time,
};
use std::{fmt, time::Duration};

/// How long a look takes at most. A child that does not answer is known after a second; finding the
/// names may take several in a large program that is not optimised.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);

/// Why a look shows no stack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoStack {
    /// No child of this server can be asked.
    NotCollected,
    /// The child is another program, which does not know the question.
    OtherProgram,
    /// This child cannot be asked.
    NotAsked,
    /// The child has not answered, or its answer could not be read.
    NoAnswer,
    /// The time was over before the answer had been read.
    Late,
}

impl fmt::Display for NoStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotCollected if cfg!(feature = "stacks") => {
                "the system does not let children leave their stacks; the log of the start says why"
            }
            Self::NotCollected => "the server is built without the feature `stacks`",
            Self::OtherProgram => {
                "the child runs another program, which is not asked for its stack"
            }
            Self::NotAsked => {
                "the child cannot be asked: an earlier program has forked it, or there was no room \
                 for its stack"
            }
            Self::NoAnswer => {
                "the child has not answered: it is stopped, hangs in the kernel, or blocks SIGURG"
            }
            Self::Late => "the stack could not be read in time",
        })
    }
}

/// A look at one child.
#[derive(Clone, Debug)]
pub(crate) struct StackLook {
    child: ChildId,
    until: Time,
    /// Where it stood in the kernel when it was asked, as far as the system tells.
    pub(crate) place: Option<Stuck>,
    /// `None` while the look is under way.
    pub(crate) stack: Option<Result<Vec<Frame>, NoStack>>,
}

/// The looks that are under way, and those that have ended in this turn.
#[derive(Debug, Default)]
pub(crate) struct StackLooks(Vec<StackLook>);

impl StackLooks {
    /// Begins a look. False if there is one already, whose answer is for all that have asked.
    pub(crate) fn begin(&mut self, child: ChildId, now: Time) -> bool {
        let begins = self.of(child).is_none();
        if begins {
            self.0.push(StackLook {
                child,
                until: now + WITHIN,
                place: None,
                stack: None,
            });
        }
        begins
    }

    /// The look at this child, until the turn after its end.
    pub(crate) fn of(&self, child: ChildId) -> Option<&StackLook> {
        self.0.iter().find(|look| look.child == child)
    }

    fn under_way(&mut self, child: ChildId) -> Option<&mut StackLook> {
        let mut looks = self.0.iter_mut();
        looks.find(|look| look.child == child && look.stack.is_none())
    }

    pub(crate) fn note_place(&mut self, child: ChildId, place: Option<Stuck>) {
        if let Some(look) = self.under_way(child) {
            look.place = place;
        }
    }

    /// Ends a look, if one is under way.
    pub(crate) fn end(
        &mut self,
        child: ChildId,
        stack: impl FnOnce() -> Result<Vec<Frame>, NoStack>,
    ) {
        if let Some(look) = self.under_way(child) {
            look.stack = Some(stack());
        }
    }

    /// The children that have not answered in time.
    pub(crate) fn overdue(&self, now: Time) -> Vec<ChildId> {
        let is_over = |look: &&StackLook| look.stack.is_none() && look.until <= now;
        let over = self.0.iter().filter(is_over);
        over.map(|look| look.child).collect()
    }

    /// When the first look ends at the latest.
    pub(crate) fn next(&self) -> Option<Time> {
        let under_way = self.0.iter().filter(|look| look.stack.is_none());
        under_way.map(|look| look.until).min()
    }

    /// Forgets the looks that have ended, and those at children that have.
    pub(crate) fn forget_ended(&mut self, lives: impl Fn(ChildId) -> bool) {
        self.0
            .retain(|look| look.stack.is_none() && lives(look.child));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: ChildId = ChildId::new(1, 2);

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    #[test]
    fn whoever_asks_while_a_look_is_under_way_gets_what_it_shows() {
        let mut looks = StackLooks::default();
        assert!(looks.begin(CHILD, at(0)));
        assert!(!looks.begin(CHILD, at(1)));
        assert!(looks.begin(ChildId::new(1, 3), at(1)), "another child");
        looks.end(CHILD, || Ok(vec![Frame::default()]));
        // Its end may be told to others until the turn is over.
        assert!(!looks.begin(CHILD, at(1)));
        looks.end(CHILD, || panic!("the first answer counts"));
        let stack = looks.of(CHILD).and_then(|look| look.stack.clone());
        assert_eq!(stack, Some(Ok(vec![Frame::default()])));
        looks.forget_ended(|_| true);
        assert!(looks.begin(CHILD, at(2)));
    }

    #[test]
    fn a_look_ends_at_its_time_and_with_its_child() {
        let mut looks = StackLooks::default();
        looks.begin(CHILD, at(0));
        assert_eq!(looks.next(), Some(at(10)));
        assert_eq!(looks.overdue(at(9)), []);
        assert_eq!(looks.overdue(at(10)), [CHILD]);
        looks.end(CHILD, || Err(NoStack::Late));
        assert_eq!((looks.overdue(at(20)), looks.next()), (vec![], None));
        looks.forget_ended(|_| true);
        looks.begin(CHILD, at(20));
        looks.forget_ended(|_| false);
        assert_eq!(looks.next(), None);
    }

    #[test]
    fn a_place_is_noted_while_the_look_is_under_way() {
        let mut looks = StackLooks::default();
        let place = || Some(Stuck::default());
        looks.note_place(CHILD, place());
        looks.begin(CHILD, at(0));
        looks.note_place(CHILD, place());
        assert_eq!(looks.of(CHILD).and_then(|look| look.place.clone()), place());
        looks.end(ChildId::new(1, 3), || panic!("no look at this one"));
    }
}
