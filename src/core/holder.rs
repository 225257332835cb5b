//! The course of a holder as a state machine: its parents one after the other, and the end of the
//! children when no parent comes to work. Decides; forks, waits for and signals nobody.

use crate::core::{
    child::AFTER_KILL,
    restarts::{RestartDecision, Restarts},
};
use std::time::Duration;

/// What the holder is to do next.
///
/// The caller answers each with one of the observations that it names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HolderAction {
    /// Fork a parent: [`HolderSaw::Forked`] or [`HolderSaw::NotForked`].
    Fork,
    /// Wait for the end of the parent: [`HolderSaw::Ended`].
    AwaitParent,
    /// Wait before the next parent, but not longer than until a stop is asked for:
    /// [`HolderSaw::Waited`].
    Pause(Duration),
    /// Tell the children to stop: [`HolderSaw::Told`].
    StopChildren,
    /// Kill the children: [`HolderSaw::Told`].
    KillChildren,
    /// Wait for the end of the children, no longer than this: [`HolderSaw::Waited`].
    AwaitChildren(Duration),
    /// There is no server: the first parent could not be forked.
    Refuse,
    /// End as the parent has ended.
    FollowParent,
    /// End because no parent comes to work.
    GiveUp,
}

/// What the holder has observed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HolderSaw {
    Forked,
    NotForked,
    /// The parent has ended.
    Ended {
        /// It has said goodbye: the server is over.
        is_over: bool,
        /// It had completed a turn.
        had_settled: bool,
        lived: Duration,
    },
    Waited,
    Told,
}

/// What it is doing: the action that `step` returned last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum HolderActivity {
    Forking,
    AwaitingParent,
    Pausing,
    Stopping,
    AwaitingStopped,
    Killing,
    AwaitingKilled,
    Leaving(HolderAction),
}

/// The course of one holder.
#[derive(Debug)]
pub(crate) struct HolderMachine {
    doing: HolderActivity,
    restarts: Restarts,
    /// Whether there was a parent.
    had_parent: bool,
    /// How long the children have when the server is given up.
    grace: Duration,
}

impl HolderMachine {
    /// Makes the machine of a new holder, which is to fork a parent.
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            doing: HolderActivity::Forking,
            restarts: Restarts::default(),
            had_parent: false,
            grace,
        }
    }

    /// Returns the next action. To an observation that does not answer the last one, the holder
    /// does the same again.
    pub(crate) fn step(&mut self, saw: HolderSaw) -> HolderAction {
        use HolderSaw as Saw;
        self.doing = match (self.doing, saw) {
            (HolderActivity::Forking, Saw::Forked) => {
                self.had_parent = true;
                HolderActivity::AwaitingParent
            }
            (HolderActivity::Forking, Saw::NotForked) if !self.had_parent => {
                HolderActivity::Leaving(HolderAction::Refuse)
            }
            // It is no fault of the parent's, and the children serve.
            (HolderActivity::Forking, Saw::NotForked) => return self.ended(true, Duration::ZERO),
            (HolderActivity::AwaitingParent, Saw::Ended { is_over: true, .. }) => {
                HolderActivity::Leaving(HolderAction::FollowParent)
            }
            (
                HolderActivity::AwaitingParent,
                Saw::Ended {
                    had_settled, lived, ..
                },
            ) => return self.ended(had_settled, lived),
            (HolderActivity::Pausing, Saw::Waited) => HolderActivity::Forking,
            (HolderActivity::Stopping, Saw::Told) => HolderActivity::AwaitingStopped,
            (HolderActivity::AwaitingStopped, Saw::Waited) => HolderActivity::Killing,
            (HolderActivity::Killing, Saw::Told) => HolderActivity::AwaitingKilled,
            (HolderActivity::AwaitingKilled, Saw::Waited) => {
                HolderActivity::Leaving(HolderAction::GiveUp)
            }
            (same, _) => same,
        };
        self.action()
    }

    /// A parent is gone, or could not be forked.
    fn ended(&mut self, had_settled: bool, lived: Duration) -> HolderAction {
        match self.restarts.ended(had_settled, lived) {
            RestartDecision::Start { after } => {
                self.doing = HolderActivity::Pausing;
                HolderAction::Pause(after)
            }
            RestartDecision::GiveUp => {
                self.doing = HolderActivity::Stopping;
                self.action()
            }
        }
    }

    fn action(&self) -> HolderAction {
        match self.doing {
            HolderActivity::Forking => HolderAction::Fork,
            HolderActivity::AwaitingParent => HolderAction::AwaitParent,
            HolderActivity::Pausing => HolderAction::Pause(Duration::ZERO),
            HolderActivity::Stopping => HolderAction::StopChildren,
            HolderActivity::AwaitingStopped => HolderAction::AwaitChildren(self.grace),
            HolderActivity::Killing => HolderAction::KillChildren,
            HolderActivity::AwaitingKilled => HolderAction::AwaitChildren(AFTER_KILL),
            HolderActivity::Leaving(action) => action,
        }
    }
}

/// How a signal that has come to the holder reaches the parent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Passing {
    /// It is counted in the journal, where this parent or the next finds it.
    Counted,
    Sent,
    /// Nobody is there who would act on it.
    Dropped,
}

impl Passing {
    /// `is_counted` says that the server handles the signal, `is_over` that the parent has said
    /// goodbye, `lives` that there is a parent.
    pub(crate) fn of(is_counted: bool, is_over: bool, lives: bool) -> Self {
        if is_counted && !is_over {
            Self::Counted
        } else if lives {
            Self::Sent
        } else {
            Self::Dropped
        }
    }
}

#[cfg(test)]
mod tests;
