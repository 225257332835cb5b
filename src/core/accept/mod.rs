//! The accept loop of a child as a machine: what it does next, given what it has just seen. Decides;
//! holds no socket and looks at no clock.

mod backlog_streak;
pub(crate) mod order;
pub(crate) mod shortage;
mod wait_mode;

#[cfg(test)]
mod tests;

use self::{backlog_streak::BacklogStreak, wait_mode::WaitMode};
use std::time::Duration;

/// For how long an operation on a socket that may block waits at the most: long enough for a client
/// that is not slow. An ACK, or the notice that the parent is gone, may be late by as much.
pub(crate) const BRIEFLY: Duration = Duration::from_millis(20);

/// How a child takes connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AcceptConfig {
    /// After so many connections it leaves; 0 for no limit.
    pub(crate) max_requests: u64,
    /// Whether accept(2) waits for up to [`BRIEFLY`].
    pub(crate) blocks: bool,
    /// Whether children take turns: an idle one waits in accept(2).
    pub(crate) takes_turns: bool,
    /// Whether a child under load says nothing between two connections.
    pub(crate) coalesces: bool,
}

/// What the child is to do. Each is answered by one of the observations named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Send the ACK that is due and see whether it was told to stop: [`Observation::GoOn`],
    /// [`Observation::ToldToStop`] or [`Observation::ToldLongAgo`].
    CheckIn {
        /// Say NOT_BUSY first.
        say_not_busy: bool,
    },
    /// Try each listener, the one after that served last first: [`Observation::Found`] or
    /// [`Observation::NothingQueued`].
    Accept {
        /// Ask whether something is queued before each attempt.
        look_first: bool,
        /// First leave the wake-ups for later connections to others.
        leave_wakeups: bool,
    },
    /// Say NOT_BUSY and wait in accept(2) on the only listener: [`Observation::WaitedInAccept`].
    WaitInAccept,
    /// Say NOT_BUSY and wait in the epoll: [`Observation::Woken`] or [`Observation::NotWoken`].
    WaitInEpoll,
    /// Say BUSY and serve the connection that was found: [`Observation::Served`],
    /// [`Observation::ServedLast`] or [`Observation::Skipped`].
    Serve {
        /// Leave the wake-ups for later connections to others.
        leave_wakeups: bool,
        /// First see whether the client has gone, and say nothing and skip it then. Where connections take
        /// long, clients give up while they are queued; where they do not, one that is served in vain costs
        /// less than a look at each. A client that the child has waited for has just come.
        look_first: bool,
    },
    /// Told to stop: try each listener, as with [`Action::Accept`]. A wake-up for a connection may have been
    /// spent on this child, and in a shutdown nobody comes after it.
    Drain {
        /// As in [`Action::Accept`].
        look_first: bool,
    },
    /// Leave: the limit of connections is reached, or nothing is queued and it was told to stop.
    Leave,
}

/// What the child has seen. A duration is `None` where the clock had not been looked at before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Observation {
    GoOn,
    ToldToStop,
    /// It was told to stop so long ago that what is queued is left to others.
    ToldLongAgo,
    /// A connection was accepted.
    Found,
    NothingQueued,
    WaitedInAccept {
        /// Whether a connection was accepted.
        found: bool,
        took: Option<Duration>,
    },
    /// There is something to accept, unless another child was faster.
    Woken {
        after: Option<Duration>,
    },
    /// The wait ended for another reason.
    NotWoken,
    Served {
        /// From the end of the last wait, or of the last connection.
        took: Option<Duration>,
        /// How many connections the child has served, this one included.
        number: u64,
    },
    /// The child is to leave after the connection that was served.
    ServedLast,
    /// The client had gone.
    Skipped,
}

/// How the child gets at its next connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Approach {
    /// It tries, whether something is queued or not.
    Try,
    /// It was woken for one that may have been queued before.
    Woken,
    /// It was woken for one that it had to wait for.
    WokenFromWait,
    /// It waits without an attempt: it had to wait for the last one, so another is hardly queued. If
    /// one is, the wait ends at once.
    Wait,
    /// Not at all, unless it was told to stop meanwhile: its limit is reached. In a shutdown nobody
    /// follows it.
    Never,
}

impl Approach {
    fn is_woken(self) -> bool {
        matches!(self, Self::Woken | Self::WokenFromWait)
    }

    /// What follows a connection that was found this way.
    fn next(self) -> Self {
        match self {
            Self::WokenFromWait => Self::Wait,
            _ => Self::Try,
        }
    }
}

/// What the child is doing: the action that was asked for last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LoopState {
    CheckingIn(Approach),
    Accepting(Approach),
    /// Since it is its turn, or else since a long streak has ended.
    WaitingInAccept {
        in_turn: bool,
    },
    WaitingInEpoll,
    /// And how it will get at the next one.
    Serving(Approach),
    /// Told to stop, it serves what is queued.
    Draining,
    Leaving,
}

/// How long the last connection took, the best guess for the next; zero if that is not known.
#[derive(Clone, Copy, Debug, Default)]
struct LastConnection(Duration);

impl LastConnection {
    /// Worth two system calls to leave the wake-ups to others.
    const LONG: Duration = Duration::from_millis(1);
    /// Long enough for clients to give up while they are queued.
    const TRYING: Duration = Duration::from_millis(10);

    fn is_long(self) -> bool {
        self.0 >= Self::LONG
    }

    fn tries_patience(self) -> bool {
        self.0 >= Self::TRYING
    }
}

/// The accept loop of one child.
#[derive(Debug)]
pub(crate) struct AcceptMachine {
    config: AcceptConfig,
    state: LoopState,
    mode: WaitMode,
    streak: BacklogStreak,
    last: LastConnection,
    /// Whether it has tried each listener since it was told to stop.
    has_drained: bool,
}

impl AcceptMachine {
    /// A new child tries before it ever waits: it may follow one that died with a wake-up spent on it.
    /// Its first action is to check in.
    pub(crate) fn new(config: AcceptConfig) -> Self {
        Self {
            state: LoopState::CheckingIn(Approach::Try),
            mode: WaitMode::new(config.takes_turns),
            streak: BacklogStreak::new(config.blocks),
            last: LastConnection::default(),
            has_drained: false,
            config,
        }
    }

    /// The next action. An observation that is no answer to the last one begins a new pass.
    pub(crate) fn step(&mut self, seen: Observation) -> Action {
        use Observation as Saw;
        match (self.state, seen) {
            (LoopState::Leaving, _) => Action::Leave,
            (LoopState::CheckingIn(_), Saw::ToldToStop) => self.drain(),
            (LoopState::CheckingIn(_), Saw::ToldLongAgo) if self.has_drained => self.leave(),
            (LoopState::CheckingIn(_), Saw::ToldLongAgo) => self.drain(),
            (LoopState::Draining, Saw::Found) => self.serve(Approach::Try, true, true),
            (LoopState::Draining, Saw::NothingQueued) => self.leave(),
            (LoopState::CheckingIn(Approach::Never), Saw::GoOn) => self.leave(),
            (LoopState::CheckingIn(approach), Saw::GoOn) => self.approach(approach),
            (LoopState::Accepting(approach), Saw::Found) => self.found(approach),
            (LoopState::Accepting(approach), Saw::NothingQueued) => self.nothing_queued(approach),
            (LoopState::WaitingInAccept { in_turn }, Saw::WaitedInAccept { found, took }) => {
                self.waited_in_accept(in_turn, found, took)
            }
            (LoopState::WaitingInEpoll, Saw::Woken { after }) => self.woken(after),
            (LoopState::Serving(next), Saw::Served { took, number }) => {
                self.served(next, took, number)
            }
            (LoopState::Serving(_), Saw::ServedLast) => self.leave(),
            (LoopState::Serving(next), Saw::Skipped) => self.check_in(next),
            _ => self.check_in(Approach::Try),
        }
    }

    fn leave(&mut self) -> Action {
        self.state = LoopState::Leaving;
        Action::Leave
    }

    fn check_in(&mut self, then: Approach) -> Action {
        self.state = LoopState::CheckingIn(then);
        Action::CheckIn {
            say_not_busy: false,
        }
    }

    fn drain(&mut self) -> Action {
        self.state = LoopState::Draining;
        self.has_drained = true;
        Action::Drain {
            look_first: self.config.blocks,
        }
    }

    fn approach(&mut self, approach: Approach) -> Action {
        if approach == Approach::Wait {
            self.streak.forget();
            return self.wait();
        }
        self.state = LoopState::Accepting(approach);
        Action::Accept {
            look_first: !approach.is_woken() && self.streak.looks_first(),
            // The kernel serves a child that stays in its epoll before those that take turns.
            leave_wakeups: approach.is_woken() && self.mode.is_in_accept(),
        }
    }

    fn found(&mut self, approach: Approach) -> Action {
        let leave_wakeups = self.streak.tried(true, approach.is_woken());
        self.serve(approach.next(), leave_wakeups, !approach.is_woken())
    }

    fn nothing_queued(&mut self, approach: Approach) -> Action {
        self.streak.tried(false, approach.is_woken());
        self.wait()
    }

    fn wait(&mut self) -> Action {
        let in_turn = self.mode.is_in_accept();
        if in_turn || self.streak.take_end() {
            self.state = LoopState::WaitingInAccept { in_turn };
            Action::WaitInAccept
        } else {
            self.state = LoopState::WaitingInEpoll;
            Action::WaitInEpoll
        }
    }

    fn waited_in_accept(&mut self, in_turn: bool, found: bool, took: Option<Duration>) -> Action {
        let next = if in_turn && was_a_wait(took) {
            Approach::Wait
        } else {
            Approach::Try
        };
        if found {
            return self.serve(next, false, next == Approach::Try);
        }
        self.mode.ended_empty();
        self.check_in(next)
    }

    fn woken(&mut self, after: Option<Duration>) -> Action {
        if let Some(after) = after {
            self.mode.woken(after, BRIEFLY);
        }
        self.check_in(if was_a_wait(after) {
            Approach::WokenFromWait
        } else {
            Approach::Woken
        })
    }

    fn serve(&mut self, next: Approach, leave_wakeups: bool, was_queued: bool) -> Action {
        self.state = LoopState::Serving(next);
        Action::Serve {
            leave_wakeups: leave_wakeups || self.last.is_long(),
            look_first: was_queued && self.last.tries_patience(),
        }
    }

    fn served(&mut self, next: Approach, took: Option<Duration>, number: u64) -> Action {
        self.last = LastConnection(took.unwrap_or_default());
        self.streak.took(took);
        let limit = self.config.max_requests;
        if limit != 0 && number >= limit {
            return self.check_in(Approach::Never);
        }
        self.state = LoopState::CheckingIn(next);
        Action::CheckIn {
            say_not_busy: !self.config.coalesces,
        }
    }
}

fn was_a_wait(took: Option<Duration>) -> bool {
    took.is_some_and(|took| took >= BacklogStreak::A_WAIT)
}
