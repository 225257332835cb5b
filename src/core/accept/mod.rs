//! The accept loop of a child as a state machine: each observation leads to the next action.
//! Decides; holds no socket and reads no clock.

mod backlog_streak;
pub(crate) mod order;
pub(crate) mod peers;
pub(crate) mod queue_log;
pub(crate) mod refusal;
pub(crate) mod reserve;
pub(crate) mod shedding;
pub(crate) mod shortage;
pub(crate) mod sweep;
mod wait_mode;

#[cfg(test)]
mod overload_tests;
#[cfg(test)]
mod tests;

use self::{backlog_streak::BacklogStreak, wait_mode::WaitMode};
use std::time::Duration;

/// The longest wait of one blocking socket operation.
///
/// It is long enough for a client that is not slow. An ACK, or the discovery that the parent is
/// gone, may be late by this time.
pub(crate) const BRIEFLY: Duration = Duration::from_millis(20);

/// How a child takes connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AcceptConfig {
    /// The child leaves after this many connections; 0 means no limit.
    pub(crate) max_requests: u64,
    /// Whether accept(2) blocks for up to [`BRIEFLY`].
    pub(crate) blocks: bool,
    /// Whether children take turns: an idle child waits in accept(2).
    pub(crate) takes_turns: bool,
    /// Whether a child under load sends no words between two connections.
    pub(crate) coalesces: bool,
}

/// How a child tries to accept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Attempt {
    /// By accept(2) at once.
    Direct,
    /// By a poll, and by accept(2) if a connection is queued.
    PollFirst,
}

/// Which children are woken for later connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wakeups {
    /// This one as well.
    Wanted,
    /// Only others, until this one waits again.
    LeftToOthers,
}

/// What the child is to do next.
///
/// The caller answers each action with one of the observations that it names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Send the ACK that is due and check whether the child was told to stop:
    /// [`Observation::GoOn`], [`Observation::ToldToStop`] or [`Observation::ToldLongAgo`].
    CheckIn {
        /// Say NOT_BUSY first.
        say_not_busy: bool,
    },
    /// Try each listener, beginning with the one after the listener that served last:
    /// [`Observation::Found`] or [`Observation::NothingQueued`].
    Accept {
        /// How to try each of them.
        attempt: Attempt,
        /// Settled before the attempts.
        wakeups: Wakeups,
    },
    /// Say NOT_BUSY and wait in accept(2) on the only listener: [`Observation::WaitedInAccept`].
    WaitInAccept,
    /// Say NOT_BUSY and wait in the epoll: [`Observation::Woken`] or [`Observation::NotWoken`].
    WaitInEpoll,
    /// Say BUSY and serve the connection that was accepted: [`Observation::Served`],
    /// [`Observation::ServedLast`], or [`Observation::Skipped`] for one that is
    /// [refused](refusal::Refusal), without a word.
    Serve {
        /// Settled before the service.
        wakeups: Wakeups,
        /// First check whether the client has gone; if so, send no word and skip the connection.
        ///
        /// Where connections take long, clients give up while they are queued. Where connections
        /// are short, serving a client that has gone costs less than a check of every client.
        look_first: bool,
    },
    /// Told to stop: try each listener, as with [`Action::Accept`]. The kernel may have woken this
    /// child for a connection, and in a shutdown no other child takes it.
    Drain {
        /// As in [`Action::Accept`].
        attempt: Attempt,
    },
    /// Leave: `max_requests` is reached, or the child was told to stop and nothing is queued.
    Leave,
}

/// What the child has observed. A duration is `None` if its beginning was not measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Observation {
    GoOn,
    ToldToStop,
    /// The child was told to stop so long ago that it leaves queued connections to other children.
    ToldLongAgo,
    /// A connection was accepted.
    Found,
    NothingQueued,
    WaitedInAccept {
        /// Whether a connection was accepted.
        found: bool,
        took: Option<Duration>,
    },
    /// A connection is queued, unless another child has taken it.
    Woken {
        after: Option<Duration>,
    },
    /// The wait ended for another reason.
    NotWoken,
    Served {
        /// The time since the end of the last wait or of the last connection.
        took: Option<Duration>,
        /// How many connections the child has served, this one included.
        number: u64,
    },
    /// The child is to leave after the connection that was served.
    ServedLast,
    /// The connection was not served: the client had gone, or was refused.
    Skipped,
}

/// How the child looks for its next connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Approach {
    /// It tries to accept, whether a connection is queued or not.
    Try,
    /// It was woken for a connection that may have been queued for some time.
    Woken,
    /// It was woken after a wait, so the connection has just come.
    WokenFromWait,
    /// It waits without an attempt: it had to wait for the last connection, so another is unlikely
    /// to be queued. If one is queued, the wait ends at once.
    Wait,
    /// It has reached its limit and looks for no other connection, unless it was told to stop
    /// meanwhile: in a shutdown no other child replaces it.
    Never,
    /// It was told to stop and has tried each listener since. It does so again only while that is
    /// not long ago.
    Drained,
}

impl Approach {
    fn is_woken(self) -> bool {
        matches!(self, Self::Woken | Self::WokenFromWait)
    }

    /// How to look for the connection after this one.
    fn next(self) -> Self {
        match self {
            Self::WokenFromWait => Self::Wait,
            _ => Self::Try,
        }
    }

    /// The same of a child that has reached its limit.
    fn at_limit(self) -> Self {
        match self {
            Self::Drained => Self::Drained,
            _ => Self::Never,
        }
    }
}

/// What the child is doing: the action that `step` returned last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LoopState {
    CheckingIn(Approach),
    Accepting(Approach),
    WaitingInAccept(AcceptWait),
    WaitingInEpoll,
    /// With the approach for the next connection.
    Serving(Approach),
    /// The child was told to stop and serves the connections that are queued.
    Draining,
    Leaving,
}

/// Why a child waits in accept(2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AcceptWait {
    /// Children take turns.
    InTurn,
    /// A long streak has ended.
    AfterStreak,
}

impl AcceptWait {
    /// How to look for the connection after a wait that took so long.
    fn next(self, took: Option<Duration>) -> Approach {
        match self {
            Self::InTurn if was_a_wait(took) => Approach::Wait,
            _ => Approach::Try,
        }
    }
}

/// How long the last connection took, as an estimate for the next; zero if unknown.
#[derive(Clone, Copy, Debug, Default)]
struct LastConnection(Duration);

impl LastConnection {
    /// From here on, leaving the wake-ups to other children is worth two system calls.
    const LONG: Duration = Duration::from_millis(1);
    /// From here on, clients may give up while they are queued.
    const TRYING: Duration = Duration::from_millis(10);

    fn is_long(self) -> bool {
        self.0 >= Self::LONG
    }

    fn may_be_slow(self) -> bool {
        self.0 >= Self::TRYING
    }

    /// Whether accept(2), where it blocks, may have waited for it.
    fn may_have_waited(self) -> bool {
        self.0 >= BacklogStreak::A_WAIT
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
}

impl AcceptMachine {
    /// Makes the machine of a new child, whose first action is to check in.
    ///
    /// The child tries to accept before its first wait: it may replace a child that was woken for a
    /// connection and died.
    pub(crate) fn new(config: AcceptConfig) -> Self {
        Self {
            state: LoopState::CheckingIn(Approach::Try),
            mode: WaitMode::new(config.takes_turns),
            streak: BacklogStreak::new(config.blocks),
            last: LastConnection::default(),
            config,
        }
    }

    /// Returns the next action. An observation that does not answer the last action begins a new
    /// pass.
    pub(crate) fn step(&mut self, seen: Observation) -> Action {
        use Observation as Saw;
        match (self.state, seen) {
            (LoopState::Leaving, _) => Action::Leave,
            (LoopState::CheckingIn(Approach::Drained), Saw::ToldLongAgo) => self.leave(),
            (LoopState::CheckingIn(_), Saw::ToldToStop | Saw::ToldLongAgo) => self.drain(),
            (LoopState::Draining, Saw::Found) => {
                self.serve(Approach::Drained, Wakeups::LeftToOthers)
            }
            (LoopState::Draining, Saw::NothingQueued) => self.leave(),
            (LoopState::CheckingIn(Approach::Never), Saw::GoOn) => self.leave(),
            (LoopState::CheckingIn(approach), Saw::GoOn) => self.approach(approach),
            (LoopState::Accepting(approach), Saw::Found) => self.found(approach),
            (LoopState::Accepting(_), Saw::NothingQueued) => self.nothing_queued(),
            (LoopState::WaitingInAccept(wait), Saw::WaitedInAccept { found, took }) => {
                self.waited_in_accept(wait.next(took), found)
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
        Action::Drain {
            attempt: if self.config.blocks {
                Attempt::PollFirst
            } else {
                Attempt::Direct
            },
        }
    }

    fn approach(&mut self, approach: Approach) -> Action {
        if approach == Approach::Wait {
            self.streak.forget();
            return self.wait();
        }
        self.state = LoopState::Accepting(approach);
        let (attempt, wakeups) = if approach.is_woken() {
            (Attempt::Direct, self.mode.wakeups())
        } else {
            (self.streak.attempt(self.last), Wakeups::Wanted)
        };
        Action::Accept { attempt, wakeups }
    }

    fn found(&mut self, approach: Approach) -> Action {
        let wakeups = if approach.is_woken() {
            self.streak.forget();
            Wakeups::Wanted
        } else {
            self.streak.found()
        };
        self.serve(approach.next(), wakeups)
    }

    fn nothing_queued(&mut self) -> Action {
        self.streak.found_nothing();
        self.wait()
    }

    fn wait(&mut self) -> Action {
        if self.mode.is_in_accept() {
            self.wait_in_accept(AcceptWait::InTurn)
        } else if self.streak.take_end() {
            self.wait_in_accept(AcceptWait::AfterStreak)
        } else {
            self.state = LoopState::WaitingInEpoll;
            Action::WaitInEpoll
        }
    }

    fn wait_in_accept(&mut self, wait: AcceptWait) -> Action {
        self.state = LoopState::WaitingInAccept(wait);
        Action::WaitInAccept
    }

    fn waited_in_accept(&mut self, next: Approach, found: bool) -> Action {
        if found {
            return self.serve(next, Wakeups::Wanted);
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

    fn serve(&mut self, next: Approach, wakeups: Wakeups) -> Action {
        self.state = LoopState::Serving(next);
        Action::Serve {
            wakeups: if self.last.is_long() {
                Wakeups::LeftToOthers
            } else {
                wakeups
            },
            look_first: self.last.may_be_slow(),
        }
    }

    fn served(&mut self, next: Approach, took: Option<Duration>, number: u64) -> Action {
        self.last = LastConnection(took.unwrap_or_default());
        let limit = self.config.max_requests;
        if limit != 0 && number >= limit {
            return self.check_in(next.at_limit());
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
